//! `semfio udp-ping` against itself, and against programs in Python in the manner of the textbooks', in both
//! roles: a client that takes what comes next for its answer, a server that forgets by chance.

use std::net::UdpSocket;

use rustix::process::Signal;
use semfio_tests::installed;
use serde_json::Value;

use crate::RUNTIMES;
use crate::process::Process;

const THEIR_SERVER: &str = "
import random, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
draw = random.Random(4)
while True:
    message, who = s.recvfrom(1024)
    if draw.randint(0, 10) >= 4:
        s.sendto(message.upper(), who)
";

const THEIR_CLIENT: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
for number in range(1, 11):
    s.sendto(f'Ping {number} {time.time()}'.encode(), ('127.0.0.1', int(sys.argv[1])))
    try:
        print(s.recvfrom(1024)[0].decode(), flush=True)
    except TimeoutError:
        print('Request timed out', flush=True)
";

fn records(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Our server, and its port.
fn serve(runtime: &str, args: &[&str]) -> (Process, String) {
    let all = ["--json", "--runtime", runtime, "udp-ping", "serve", "--listen", "127.0.0.1:0"];
    let server = Process::semfio(&[&all, args].concat());
    server.wait_out("its address", |out| out.contains("listening"));
    let listening = records(server.out().lines().next().unwrap());
    let address = listening[0]["address"].as_str().unwrap();
    let port = address.rsplit(':').next().unwrap().to_owned();
    (server, port)
}

/// Records of a run of our client, and its exit code.
fn ping(runtime: &str, port: &str, args: &[&str]) -> (Vec<Value>, i32) {
    let address = format!("127.0.0.1:{port}");
    let mut client = Process::semfio(
        &[&["--json", "--runtime", runtime, "udp-ping", address.as_str()], args].concat(),
    );
    let code = client.wait();
    (records(&client.out()), code)
}

/// The numbers in records of one kind.
fn numbers(records: &[Value], kind: &str) -> Vec<u64> {
    let of_kind = records.iter().filter(|record| record["type"] == kind);
    of_kind.map(|record| record["number"].as_u64().unwrap()).collect()
}

/// The number in a ping.
fn number(text: &str) -> u64 {
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_same_seed_has_the_same_losses_on_every_runtime() {
    let mut losses = Vec::new();
    for runtime in RUNTIMES {
        let (server, port) = serve(runtime, &["--loss", "40%", "--seed", "7"]);
        let (told, code) = ping(runtime, &port, &["-W", "0.5"]);
        let (lost, answered) = (numbers(&told, "lost"), numbers(&told, "reply"));
        assert_eq!((lost.len() + answered.len(), code), (10, 0), "{told:?}");
        let summary = told.last().unwrap();
        assert_eq!(summary["sent"], 10);
        assert_eq!(summary["lost"], lost.len());
        assert_eq!(summary["rtt_ns"]["clocks"], "kernel/kernel");
        let dropped = records(&server.out())
            .iter()
            .filter(|record| record["type"] == "dropped")
            .map(|record| number(record["text"].as_str().unwrap()))
            .collect::<Vec<_>>();
        assert!(dropped.iter().all(|number| lost.contains(number)), "{dropped:?}, {told:?}");
        losses.push(dropped);
        server.signal(Signal::INT);
    }
    assert!(!losses[0].is_empty());
    assert!(losses.iter().all(|lost| *lost == losses[0]), "{losses:?}");
}

#[test]
fn nobody_there_is_told_at_once() {
    for runtime in RUNTIMES {
        // Its port is taken, and hears one peer alone: for all others nobody is there.
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        deaf.connect("127.0.0.1:9").unwrap();
        let port = deaf.local_addr().unwrap().port().to_string();
        let (told, code) = ping(runtime, &port, &["-c", "2", "-W", "20"]);
        assert_eq!((numbers(&told, "unreachable"), code), (vec![1, 2], 1), "{told:?}");
    }
}

#[test]
fn a_server_says_which_heartbeats_are_missing_and_who_is_silent() {
    for runtime in RUNTIMES {
        let loss = ["--heartbeat", "--loss", "0.4", "--seed", "7", "--silence", "2"];
        let (server, port) = serve(runtime, &loss);
        let (told, code) =
            ping(runtime, &port, &["--heartbeat", "-i", "0.01", "-c", "20", "-W", "0.1"]);
        assert_eq!((told.last().unwrap()["sent"].as_u64(), code), (Some(20), 0), "{told:?}");
        server.wait_out("silence", |out| out.contains("\"gone\""));
        let told = records(&server.out());
        let dropped = told.iter().filter(|record| record["type"] == "dropped").count() as u64;
        let heard = told.iter().filter(|record| record["type"] == "heartbeat");
        let last = heard.clone().next_back().unwrap()["number"].as_u64().unwrap();
        let missing: u64 = heard.map(|record| record["missing"].as_u64().unwrap()).sum();
        // Those after the last that was heard, and before the first, nobody misses.
        assert!(missing > 0 && missing <= dropped, "{missing} of {dropped}: {told:?}");
        assert!(last > 10);
        server.signal(Signal::INT);
    }
}

#[test]
fn their_server_and_ours() {
    if !installed(&["python3"]) {
        return;
    }
    for runtime in RUNTIMES {
        let server = Process::start("python3", &["-c", THEIR_SERVER]);
        server.wait_out("its port", |out| out.ends_with('\n'));
        let (told, code) = ping(runtime, server.out().trim(), &["-W", "0.5"]);
        let (lost, answered) = (numbers(&told, "lost"), numbers(&told, "reply"));
        assert_eq!((lost.len() + answered.len(), code), (10, 0), "{told:?}");
        assert!(!lost.is_empty(), "its chance has taken some");
        server.signal(Signal::KILL);
    }
}

#[test]
fn their_client_and_ours() {
    if !installed(&["python3"]) {
        return;
    }
    for runtime in RUNTIMES {
        let (server, port) = serve(runtime, &["--loss", "0.4", "--seed", "7"]);
        let mut client = Process::start("python3", &["-c", THEIR_CLIENT, &port]);
        assert_eq!(client.wait(), 0, "{}", client.err());
        let out = client.out();
        let lost = out.lines().filter(|line| *line == "Request timed out").count();
        let answered = out.lines().filter(|line| line.starts_with("PING ")).count();
        assert_eq!(lost + answered, 10, "{out}");
        let told = records(&server.out());
        let dropped = told.iter().filter(|record| record["type"] == "dropped").count();
        // A reply slower than its patience is an answer here and a loss there.
        assert!(dropped > 0 && dropped <= lost, "{dropped} dropped, {out}");
        server.signal(Signal::INT);
    }
}
