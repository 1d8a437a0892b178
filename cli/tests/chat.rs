//! Conversations without a terminal.

use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::peers::{RUNTIMES, Server, run, semfio};

#[test]
fn two_members_talk() {
    for runtime in RUNTIMES {
        let server = Server::start(&["--runtime", runtime, "-v"]);
        let mut bia = semfio(&["--runtime", runtime, "chat", "join", &server.address]);
        bia.args(["--nick", "bia"]);
        let mut bia = bia.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut heard = BufReader::new(bia.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(heard.any(|line| line.ends_with("* bia joined lobby")));
        let args = ["--runtime", runtime, "chat", "join", &server.address, "--nick", "ana"];
        let ana = run(&args, "olá\n/me acena\n//etc\n");
        assert_eq!((ana.code, &*ana.err), (Some(0), ""), "{ana:?}");
        let said: Vec<String> =
            heard.by_ref().skip_while(|line| !line.contains("olá")).take(3).collect();
        for (line, wanted) in said.iter().zip(["<ana> olá", "* ana acena", "<ana> /etc"]) {
            assert!(line.ends_with(wanted), "{line}");
            assert!(ana.out.contains(wanted), "{}", ana.out);
        }
        drop(bia.stdin.take());
        assert_eq!(bia.wait().unwrap().code(), Some(0));
        let log = server.stop(Signal::TERM, 0);
        for wanted in ["+ bia from 127.0.0.1", "lobby <ana> olá", "- ana: left", "stopped"] {
            assert!(log.contains(wanted), "{log}");
        }
    }
}

#[test]
fn ten_thousand_lines_are_all_acknowledged() {
    let server = Server::start(&[]);
    let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
    let ana = run(&["--json", "chat", "join", &server.address, "--nick", "ana"], &lines);
    assert_eq!(ana.code, Some(0), "{}", ana.err);
    let records = records(&ana.out);
    let texts = records.iter().filter(|record| record["what"] == "text");
    let texts: Vec<&str> = texts.map(|record| record["text"].as_str().unwrap()).collect();
    assert!(texts.iter().copied().eq(lines.lines()), "{} came back", texts.len());
    let done = records.iter().filter(|record| record["type"] == "done");
    assert_eq!(done.map(|record| record["lines"].as_u64().unwrap()).sum::<u64>(), 10_000);
}

fn records(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_record_has_a_type_and_the_first_the_schema() {
    let server = Server::start(&[]);
    let framed = ["--json", "chat", "join", &server.address, "--nick", "ana"];
    let raw = ["--json", "chat", "join", &server.address, "--dialect", "raw"];
    let refused = ["--json", "chat", "join", "127.0.0.1:1"];
    for (args, last) in [(&framed[..], "left"), (&raw, "left"), (&refused, "failed")] {
        let records = records(&run(args, "oi\n/who\n/dance\n").out);
        assert_eq!(records[0]["v"], 1, "{records:?}");
        assert!(records[1..].iter().all(|record| record.get("v").is_none()));
        assert!(records.iter().all(|record| record["type"].is_string()), "{records:?}");
        let end = records.last().unwrap();
        assert_eq!((&end["type"], &end["how"]), (&"over".into(), &last.into()));
    }
    let mut serve = semfio(&["--json", "chat", "serve", "--listen", "127.0.0.1:0"]);
    let mut serve = serve.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["type"], &record["v"]), (&"listening".into(), &1.into()));
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn what_a_peer_says_is_escaped_for_a_terminal() {
    let server = Server::start(&["-v"]);
    let mut peer = std::net::TcpStream::connect(&server.address).unwrap();
    peer.write_all("raw \u{1b}[2J and \u{202e}back".as_bytes()).unwrap();
    drop(peer);
    let seen = run(&["chat", "join", &server.address, "--nick", "ana"], "oi\n");
    assert_eq!(seen.code, Some(0));
    let log = server.stop(Signal::TERM, 0);
    let escapes = |c: char| c == '\u{1b}' || c == '\u{202e}';
    assert!(!seen.out.contains(escapes) && !log.contains(escapes), "{} {log}", seen.out);
}

#[test]
fn refused_input_is_told_and_counted() {
    let server = Server::start(&[]);
    let args = ["chat", "join", &server.address, "--nick", "ana"];
    let ana = run(&args, "fine\n/dance\nfine, too\n");
    assert_eq!(ana.code, Some(1));
    assert!(ana.out.contains("fine, too"), "{}", ana.out);
    assert!(ana.err.contains("unknown command") && ana.err.contains("1 line was refused"));
}

#[test]
fn a_name_in_use_is_told_with_a_hint() {
    let server = Server::start(&[]);
    let mut ana = semfio(&["chat", "join", &server.address, "--nick", "ana"]);
    let mut ana = ana.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(ana.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let other = run(&["chat", "join", &server.address, "--nick", "Ana"], "");
    assert_eq!(other.code, Some(1));
    assert!(other.err.ends_with("hint: choose another name with --nick\n"), "{}", other.err);
    ana.kill().unwrap();
    ana.wait().unwrap();
}

#[test]
fn a_server_without_frames_is_told_from_one_with() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // As the course's server does, it sends back what comes.
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut copy = peer.try_clone().unwrap();
        let _ = std::io::copy(&mut peer, &mut copy);
    });
    let join = run(&["chat", "join", &address, "--nick", "ana"], "oi\n");
    assert_eq!(join.code, Some(4), "{}", join.err);
    assert!(join.err.contains("--dialect raw"), "{}", join.err);
    server.join().unwrap();
}

#[test]
fn sigint_ends_a_server_and_says_so() {
    let server = Server::start(&[]);
    assert!(server.stop(Signal::INT, 130).ends_with("stopped\n"));
}

#[test]
fn nobody_reading_the_output_is_no_error() {
    let server = Server::start(&[]);
    let mut join = semfio(&["chat", "join", &server.address, "--nick", "ana"]);
    join.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut join = join.spawn().unwrap();
    drop(join.stdout.take());
    let output = join.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn sigint_ends_a_member_that_is_still_connecting() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: once the queue is full, the next one waits.
    let wait = std::time::Duration::from_millis(300);
    let queue: Vec<_> =
        std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, wait).ok())
            .take(10_000)
            .collect();
    for runtime in RUNTIMES {
        let mut join = semfio(&["--runtime", runtime, "chat", "join", &address.to_string()]);
        let mut join = join.stdin(Stdio::piped()).spawn().unwrap();
        // Its handler stands when the second thread runs.
        let tasks = format!("/proc/{}/task", join.id());
        while std::fs::read_dir(&tasks).unwrap().count() < 3 {
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&join);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(join.wait().unwrap().code(), Some(130), "{runtime}");
    }
    drop(queue);
}
