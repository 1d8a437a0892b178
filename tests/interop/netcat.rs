//! `semfio nc` against nc, ncat and programs in the manner of the course's, in both roles.
//!
//! The course's text has a server on 65432 that shows who said what, one on 65431 over UDP, a client that
//! says one thing and reads once, and a server that answers "ARK!"; its programs are not at hand, so these
//! are written after that text.

use std::fs;

use rustix::process::Signal;
use semfio_tests::installed;

use crate::RUNTIMES;
use crate::namespace::within;
use crate::process::{Process, prepare};

const TCP: &str = "65432";
const UDP: &str = "65431";

/// As much as fills sockets and pipes several times over in a namespace.
fn lines(who: &str) -> String {
    (0..12_000).map(|nth| format!("{who} says line {nth}\n")).collect()
}

fn ours(runtime: &str, args: &[&str]) -> Process {
    Process::semfio(&[&["--runtime", runtime, "nc"], args].concat())
}

/// Ours, once it listens.
fn our_listener(runtime: &str, args: &[&str]) -> Process {
    let nc = ours(runtime, args);
    nc.wait_err("it listens", |err| err.contains("listening on"));
    nc
}

/// Waits until somebody has the port, as the system's table has it.
fn wait_for_port(table: &str, port: &str) {
    let port: u16 = port.parse().unwrap();
    let wanted = format!(":{port:04X} ");
    // A listener of TCP is in state 0A.
    let state = if table == "tcp" { " 0A " } else { " 07 " };
    for _ in 0..3_000 {
        let rows = fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        let rows6 = fs::read_to_string(format!("/proc/net/{table}6")).unwrap();
        let has = |row: &str| row.contains(&wanted) && row.contains(state);
        if rows.lines().chain(rows6.lines()).any(has) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nobody has {port}");
}

/// All of both, though one direction ends long before the other.
fn exchange(first: &mut Process, second: &mut Process) {
    let (from_first, from_second) = (lines("first"), lines("second"));
    first.write(&from_first);
    first.close_stdin();
    second.wait_out("all of the first", |out| out.len() >= from_first.len());
    second.write(&from_second);
    second.close_stdin();
    first.wait_out("all of the second", |out| out.len() >= from_second.len());
    assert_eq!(first.wait(), 0, "{}", first.err());
    assert_eq!(second.wait(), 0, "{}", second.err());
    assert!(first.out() == from_second && second.out() == from_first);
}

/// `client` half-closes at the end of its input; `listener` is of the same program.
fn both_ways(client: &[&str], listener: &[&str]) {
    if !installed(&[client[0]]) {
        return;
    }
    for runtime in RUNTIMES {
        // Ours listens, whoever ends first.
        let mut server = our_listener(runtime, &["-l", "-N", TCP]);
        let mut peer = Process::start(client[0], &client[1..]);
        exchange(&mut peer, &mut server);
        let mut server = our_listener(runtime, &["-l", "-N", TCP]);
        let mut peer = Process::start(client[0], &client[1..]);
        exchange(&mut server, &mut peer);
        // Theirs listens, and ends first: it ends altogether once its peer does.
        let mut server = Process::start(listener[0], &listener[1..]);
        wait_for_port("tcp", TCP);
        let mut peer = ours(runtime, &["-N", "127.0.0.1", TCP]);
        exchange(&mut server, &mut peer);
    }
}

#[test]
fn nc_both_ways() {
    prepare();
    within("netcat::nc_both_ways", || {
        both_ways(&["nc", "-N", "127.0.0.1", TCP], &["nc", "-N", "-l", "127.0.0.1", TCP]);
    });
}

#[test]
fn ncat_both_ways() {
    prepare();
    within("netcat::ncat_both_ways", || {
        both_ways(&["ncat", "127.0.0.1", TCP], &["ncat", "-l", "127.0.0.1", TCP]);
    });
}

#[test]
fn datagrams_with_nc_and_ncat() {
    prepare();
    within("netcat::datagrams_with_nc_and_ncat", || {
        for program in ["nc", "ncat"] {
            if !installed(&[program]) {
                continue;
            }
            for runtime in RUNTIMES {
                let mut server = our_listener(runtime, &["-u", "-l", UDP]);
                let mut client = Process::start(program, &["-u", "127.0.0.1", UDP]);
                client.write("olá\n");
                server.wait_out("the datagram", |out| out == "olá\n");
                server.write("oi\n");
                client.wait_out("the answer", |out| out == "oi\n");
                server.signal(Signal::TERM);
                assert_eq!(server.wait(), 0);
                drop(client);

                let mut server = Process::start(program, &["-u", "-l", "127.0.0.1", UDP]);
                wait_for_port("udp", UDP);
                let mut client = ours(runtime, &["-u", "-q", "0.2", "127.0.0.1", UDP]);
                client.write("olá\n");
                server.wait_out("the datagram", |out| out == "olá\n");
                server.write("oi\n");
                client.wait_out("the answer", |out| out == "oi\n");
                client.close_stdin();
                assert_eq!(client.wait(), 0, "{}", client.err());
            }
        }
    });
}

#[test]
fn brokers_of_both_makes() {
    prepare();
    within("netcat::brokers_of_both_makes", || {
        if !installed(&["ncat"]) {
            return;
        }
        for runtime in RUNTIMES {
            let broker = our_listener(runtime, &["-l", "-k", "--broker", TCP]);
            let start = || Process::start("ncat", &["127.0.0.1", TCP]);
            talk_over(&mut [start(), start(), start()]);
            broker.wait_out("who said it", |out| out.contains(" from 2\n"));
            drop(broker);
            let _broker = Process::start("ncat", &["-l", "--broker", "127.0.0.1", TCP]);
            wait_for_port("tcp", TCP);
            let start = || ours(runtime, &["127.0.0.1", TCP]);
            talk_over(&mut [start(), start(), start()]);
        }
    });
}

/// What each says comes to all others.
fn talk_over(members: &mut [Process]) {
    // One is heard once the broker has it: each calls until the next one hears.
    for nth in 0..members.len() {
        let other = (nth + 1) % members.len();
        let mut tries = 0;
        loop {
            members[nth].write(format!("here is {nth}\n"));
            let heard = |out: &str| out.contains(&format!("here is {nth}\n"));
            if members[other].comes_out(std::time::Duration::from_millis(200), heard) {
                break;
            }
            tries += 1;
            assert!(tries < 150, "{nth} is not heard");
        }
    }
    for nth in 0..members.len() {
        members[nth].write(format!("from {nth}\n"));
        for (other, member) in members.iter().enumerate().filter(|(other, _)| *other != nth) {
            let text = format!("from {nth}\n");
            member.wait_out(&format!("{other} hears {nth}"), |out| out.contains(&text));
        }
    }
}

/// Says one thing, reads once, and shows it.
const CLIENT: &str = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.connect(('127.0.0.1', 65432))
client.send(sys.argv[1].encode())
print(client.recv(4096).decode())
client.close()
";

/// A thread for each client, which shows what it says and answers each time.
const SERVER: &str = "
import socket, threading
def handle_client(client, addr):
    while True:
        request = client.recv(1024)
        if not request:
            break
        print('%s:%d: %s' % (addr[0], addr[1], request.decode()), flush=True)
        client.send(b'ARK!')
    client.close()
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(('127.0.0.1', 65432))
server.listen(5)
while True:
    client, addr = server.accept()
    threading.Thread(target=handle_client, args=(client, addr)).start()
";

/// Says one thing over UDP and reads the answer.
const UDP_CLIENT: &str = "
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b'Hello, server UDP', ('127.0.0.1', 65431))
data, addr = client.recvfrom(4096)
print(data.decode())
";

/// Shows who said what over UDP, and answers.
const UDP_SERVER: &str = "
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 65431))
while True:
    data, addr = server.recvfrom(1024)
    print(addr[0], data.decode(), flush=True)
    server.sendto(b'ARK!', addr)
";

#[test]
fn programs_in_the_manner_of_the_course() {
    prepare();
    within("netcat::programs_in_the_manner_of_the_course", || {
        if !installed(&["python3"]) {
            return;
        }
        for runtime in RUNTIMES {
            in_our_server(runtime);
            in_their_server(runtime);
        }
    });
}

fn in_our_server(runtime: &str) {
    let server = our_listener(runtime, &["-l", "-k", "--reply", "ARK!", TCP]);
    let texts = ["Hello", "GET / HTTP/1.1\r\nHost: google.com\r\n\r\n", "Olá turma"];
    let mut clients = texts.map(|text| Process::start("python3", &["-c", CLIENT, text]));
    for client in &mut clients {
        assert_eq!(client.wait(), 0, "{}", client.err());
        assert_eq!(client.out(), "ARK!\n");
    }
    for line in [" Hello\n", " GET / HTTP/1.1\n", " Host: google.com\n", " Olá turma\n"] {
        server.wait_out("who said what", |out| out.contains(line));
    }
    assert!(server.out().lines().all(|line| line.starts_with("127.0.0.1:")));

    let datagrams = our_listener(runtime, &["-u", "-l", "-k", "--reply", "ARK!", UDP]);
    let mut client = Process::start("python3", &["-c", UDP_CLIENT]);
    assert_eq!(client.wait(), 0, "{}", client.err());
    assert_eq!(client.out(), "ARK!\n");
    datagrams.wait_out("who said what", |out| out.ends_with(" Hello, server UDP\n"));
}

fn in_their_server(runtime: &str) {
    let server = Process::start("python3", &["-c", SERVER]);
    wait_for_port("tcp", TCP);
    let mut clients =
        [ours(runtime, &["-N", "127.0.0.1", TCP]), ours(runtime, &["-N", "127.0.0.1", TCP])];
    for (nth, client) in clients.iter_mut().enumerate() {
        client.write(format!("Olá {nth}\n"));
        client.wait_out("the answer", |out| out == "ARK!");
        server.wait_out("who said what", |out| out.contains(&format!(": Olá {nth}\n")));
    }
    for client in &mut clients {
        client.close_stdin();
        assert_eq!(client.wait(), 0, "{}", client.err());
    }
    let mut check = ours(runtime, &["-z", "127.0.0.1", TCP]);
    assert_eq!((check.wait(), check.out()), (0, format!("127.0.0.1:{TCP} tcp open\n")));
    // What nobody has asked for; it may well end the thread that reads it.
    let mut junk = ours(runtime, &["-q", "0", "--junk", "5000", "127.0.0.1", TCP]);
    junk.wait();
    let mut still = ours(runtime, &["-N", "127.0.0.1", TCP]);
    still.write("still there?");
    still.wait_out("the answer", |out| out == "ARK!");

    let datagrams = Process::start("python3", &["-c", UDP_SERVER]);
    wait_for_port("udp", UDP);
    let mut client = ours(runtime, &["-u", "-q", "0.2", "127.0.0.1", UDP]);
    client.write("olá UDP\n");
    client.wait_out("the answer", |out| out == "ARK!");
    datagrams.wait_out("who said what", |out| out.starts_with("127.0.0.1 olá UDP"));
    client.close_stdin();
    assert_eq!(client.wait(), 0, "{}", client.err());
    let mut check = ours(runtime, &["-zu", "-w", "20", "127.0.0.1", UDP]);
    assert_eq!((check.wait(), check.out()), (0, format!("127.0.0.1:{UDP} udp open\n")));
}

/// nc's own checks of ours, and ours of nc's.
#[test]
fn checks_agree_with_nc_where_nc_can_know() {
    prepare();
    within("netcat::checks_agree_with_nc_where_nc_can_know", || {
        if !installed(&["nc"]) {
            return;
        }
        for runtime in RUNTIMES {
            let _server = our_listener(runtime, &["-l", "-k", TCP]);
            assert_eq!(Process::start("nc", &["-z", "127.0.0.1", TCP]).wait(), 0);
            assert_eq!(Process::start("nc", &["-z", "127.0.0.1", "65433"]).wait(), 1);
            let mut ours = ours(runtime, &["-z", "--json", "127.0.0.1", "65431-65433"]);
            assert_eq!(ours.wait(), 0, "{}", ours.err());
            let states: Vec<String> = ours
                .out()
                .lines()
                .map(|line| {
                    let record: serde_json::Value = serde_json::from_str(line).unwrap();
                    record["state"].as_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(states, ["closed", "open", "closed"]);
        }
    });
}
