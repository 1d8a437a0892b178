//! Peers that misbehave, stop, or die.

use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::RUNTIMES;
use crate::namespace::within;
use crate::process::{PATIENCE, Process, Server, prepare};

/// What a framed peer says first: the preface, then HELLO with a largest frame of 64 KiB, no
/// session, and its name.
fn hello(nick: &str) -> Vec<u8> {
    let mut body = Vec::from(65_536_u32.to_be_bytes());
    body.extend([0; 16]);
    body.push(u8::try_from(nick.len()).unwrap());
    body.extend(nick.as_bytes());
    let mut bytes = b"\xffsemfio\x01".to_vec();
    bytes.push(0x81);
    bytes.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend(body);
    bytes
}

/// Everything a peer gets until the end.
fn read_all(mut peer: TcpStream) -> Vec<u8> {
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = peer.read_to_end(&mut all);
    all
}

/// The descriptors of a server that has had its first peer: a host opens some of its own by then.
fn at_rest(server: &Server) -> usize {
    let mut peer = TcpStream::connect(server.address).unwrap();
    peer.write_all(b"\xffsemolina").unwrap();
    read_all(peer);
    let mut last = usize::MAX;
    loop {
        let now = server.process.descriptors();
        if now == last {
            return now;
        }
        last = now;
        thread::sleep(Duration::from_millis(300));
    }
}

/// Waits until the server is back to the descriptors it had.
fn assert_no_leak(server: &Server, before: usize) {
    for _ in 0..100 {
        if server.process.descriptors() <= before {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{} descriptors, {before} before", server.process.descriptors());
}

#[test]
fn peers_that_close_with_unread_data_again_and_again() {
    for runtime in RUNTIMES {
        let mut server = Server::start(runtime, "127.0.0.1:0");
        let mut ana = server.join(runtime, "ana");
        ana.write("something to be read\n");
        ana.wait_out("it is said", |out| out.contains("something"));
        let before = at_rest(&server);
        for _ in 0..20 {
            let peers: Vec<TcpStream> = (0..50)
                .map(|_| {
                    let mut peer = TcpStream::connect(server.address).unwrap();
                    // Makes the server greet it, which it does not read.
                    peer.write_all(b"/who\n").unwrap();
                    peer
                })
                .collect();
            drop(peers);
        }
        assert!(server.process.is_alive(), "{runtime}: {}", server.process.err());
        assert_no_leak(&server, before);
        let mut bia = server.join(runtime, "bia");
        bia.write("still here\n");
        ana.wait_out("the room works", |out| out.contains("still here"));
        server.stop();
    }
}

#[test]
fn silent_peers_cost_nobody_anything() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let ana = server.join(runtime, "ana");
        let silent: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        // A framed one that never says HELLO is turned away in its time, not before.
        let mut half = TcpStream::connect(server.address).unwrap();
        half.write_all(b"\xffsemfio\x01").unwrap();
        let mut bia = server.join(runtime, "bia");
        bia.write("oi\n");
        ana.wait_out("the room works", |out| out.contains("\"text\":\"oi\""));
        drop(silent);
        server.stop();
    }
}

#[test]
fn broken_frames_are_told_so() {
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("not the preface", b"\xffsemolina".to_vec(), "the preface is wrong"),
        ("another version", b"\xffsemfio\x02".to_vec(), "version 2"),
        ("an oversize frame", [hello("x"), vec![0x86, 0xff, 0xff, 0xff]].concat(), "16777215"),
        ("two HELLOs", [hello("x"), hello("x")[8..].to_vec()].concat(), "a second HELLO"),
        ("a frame before HELLO", b"\xffsemfio\x01\x8c\0\0\0".to_vec(), "before HELLO"),
    ];
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let before = at_rest(&server);
        for (what, bytes, told) in &cases {
            let mut peer = TcpStream::connect(server.address).unwrap();
            peer.write_all(bytes).unwrap();
            let all = read_all(peer);
            let text = String::from_utf8_lossy(&all);
            assert!(text.contains(told), "{runtime}: {what}: {text:?}");
            server.process.wait_err(what, |err| err.contains(told));
        }
        // Cut off inside a frame; unknown types above 0x80 are refused, those below skipped.
        let mut peer = TcpStream::connect(server.address).unwrap();
        peer.write_all(&[hello("x"), vec![0x86, 0, 0, 9, 1]].concat()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(!read_all(peer).is_empty());
        let mut peer = TcpStream::connect(server.address).unwrap();
        peer.write_all(&[hello("x"), vec![0x7f, 0, 0, 1, 1, 0xfe, 0, 0, 0]].concat()).unwrap();
        assert!(!read_all(peer).is_empty());
        assert_no_leak(&server, before);
        server.stop();
    }
}

#[test]
fn a_nick_in_use_is_refused() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let _ana = server.join(runtime, "ana");
        let address = server.address.to_string();
        let mut other =
            Process::semfio(&["--runtime", runtime, "chat", "join", &address, "--nick", "ANA"]);
        assert_eq!(other.wait(), 1);
        other.wait_err("why", |err| err.contains("in use\nhint: choose another name"));
        server.stop();
    }
}

#[test]
fn a_killed_member_is_gone_for_the_others() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let mut ana = server.join(runtime, "ana");
        let mut bia = server.join(runtime, "bia");
        bia.signal(Signal::KILL);
        bia.wait();
        ana.wait_out("bia is gone", |out| out.contains("\"what\":\"part\""));
        ana.write("anyone?\n");
        ana.wait_out("the room works", |out| out.contains("anyone?"));
        server.stop();
    }
}

#[test]
fn members_come_back_to_a_server_that_was_killed() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let mut members = [server.join(runtime, "ana"), server.join(runtime, "bia")];
        members[0].write("before\n");
        members[1].wait_out("it is said", |out| out.contains("before"));
        let address = server.address.to_string();
        server.process.signal(Signal::KILL);
        for member in &members {
            member.wait_out("it is lost", |out| out.contains("\"type\":\"lost\""));
        }
        // Typed while there is no server: sent later.
        members[0].write("meanwhile\n");
        drop(server);
        let server = Server::start(runtime, &address);
        for member in &members {
            member.wait_out("it is back", |out| out.contains("\"again\":true"));
        }
        members[1].wait_out("what was typed", |out| out.contains("meanwhile"));
        members[1].write("after\n");
        members[0].wait_out("it is said", |out| out.contains("after"));
        for member in &mut members {
            let said = |text: &str| member.texts().iter().filter(|(_, said)| said == text).count();
            assert_eq!((said("meanwhile"), said("after")), (1, 1), "{:?}", member.texts());
            member.close_stdin();
            assert_eq!(member.wait(), 0, "{}", member.err());
        }
        server.stop();
    }
}

/// 50 members, of which one is stopped and another, a plain socket, never reads.
fn one_is_stopped(runtime: &str) {
    const MEMBERS: usize = 48;
    const TEXTS: usize = 400;
    // No member of a busy machine shall be slow by itself.
    const BATCH: usize = 40;
    let server = Server::start(runtime, "127.0.0.1:0");
    let members: Vec<Process> =
        (0..MEMBERS).map(|nth| server.join(runtime, &format!("m{nth}"))).collect();
    let mut stopped = server.join(runtime, "stopped");
    let mut speaker = server.join(runtime, "speaker");
    let mut deaf = TcpStream::connect(server.address).unwrap();
    deaf.write_all(b"/nick deaf\n").unwrap();
    speaker.wait_out("all are in", |out| out.contains("\"deaf\"") || out.contains("guest-1"));
    stopped.signal(Signal::STOP);
    let text = |nth: usize| format!("{nth:04} {}", "x".repeat(2000));
    let wanted: Vec<String> = (0..TEXTS).map(text).collect();
    for batch in wanted.chunks(BATCH) {
        for text in batch {
            speaker.write(format!("{text}\n"));
        }
        for member in &members {
            member.wait_newest(&batch[BATCH - 1][..8]);
        }
    }
    for member in &members {
        let texts: Vec<String> = member.texts().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, wanted);
    }
    stopped.signal(Signal::CONT);
    stopped.wait_out("it is told of the gap", |out| out.contains("\"type\":\"gap\""));
    let gap = record(&stopped.out(), "gap");
    let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
    assert!(gap["oldest"].as_u64().unwrap() <= from, "{gap}");
    // What it missed can be had, in as many requests as it takes.
    let mut next = from;
    while next <= to {
        stopped.write(format!("/history {next}\n"));
        let has = |out: &str, seq: u64| out.contains(&format!("\"seq\":{seq},"));
        stopped.wait_out("what it missed", |out| has(out, next));
        thread::sleep(Duration::from_millis(300));
        let out = stopped.out();
        next = (next..=to).find(|&seq| !has(&out, seq)).unwrap_or(to + 1);
    }
    let mut texts: Vec<String> = stopped.texts().into_iter().map(|(_, text)| text).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts, wanted);
    drop(deaf);
    server.stop();
}

fn record(records: &str, kind: &str) -> Value {
    let of_kind = |record: &Value| record["type"] == kind;
    let parsed = records.lines().filter_map(|line| serde_json::from_str(line).ok());
    parsed.into_iter().find(of_kind).unwrap()
}

#[test]
fn one_of_fifty_is_stopped_mio() {
    prepare();
    within("faults::one_of_fifty_is_stopped_mio", || one_is_stopped("mio"));
}

#[test]
fn one_of_fifty_is_stopped_smol() {
    prepare();
    within("faults::one_of_fifty_is_stopped_smol", || one_is_stopped("smol"));
}

#[test]
fn one_of_fifty_is_stopped_blocking() {
    prepare();
    within("faults::one_of_fifty_is_stopped_blocking", || one_is_stopped("blocking"));
}
