//! The event loop over real loopback sockets.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::TrySendError;
use std::thread;

use common::{Message, PATIENCE, Report, Running, Server, TooLong, failed};
use semfio_machine::{Closed, Failure, Target};
use semfio_runtime_mio::HostConfig;
use semfio_runtime_os::Roots;

fn start() -> Running {
    Running::start(HostConfig::default())
}

fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn ten_mebibytes_are_echoed_through_small_reads() {
    let host = Running::start(HostConfig { scratch: 1000, ..HostConfig::default() });
    let mut client = host.client();
    assert_eq!(client.ask("echo"), "echoing");
    let content: Vec<u8> = (0..10 * 1024 * 1024u32).map(|at| (at % 251) as u8).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let sent = content.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    let mut buf = [0; 777];
    loop {
        match client.stream.read(&mut buf).unwrap() {
            0 => break,
            n => got.extend_from_slice(&buf[..n]),
        }
    }
    writing.join().unwrap();
    assert!(got == content, "{} bytes came back", got.len());
    assert_eq!(host.closed(), Closed::Done);
    host.stop();
}

#[test]
fn a_thousand_idle_connections_do_not_disturb_one_another() {
    let host = Running::start(HostConfig { reads_per_turn: 3, ..HostConfig::default() });
    let mut clients: Vec<_> = (0..1000).map(|_| host.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(&format!("shout number {number}"));
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        assert_eq!(client.hear(), format!("NUMBER {number}"));
    }
    drop(clients);
    for _ in 0..1000 {
        assert_eq!(host.closed(), Closed::Done);
    }
    host.stop();
}

#[test]
fn bytes_and_end_in_one_packet_are_both_seen() {
    let host = start();
    for _ in 0..200 {
        let mut client = host.client();
        client.say("shout last words");
        client.stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.stream.read_to_string(&mut answer).unwrap();
        assert_eq!(host.closed(), Closed::Done);
    }
    host.stop();
}

#[test]
fn after_a_half_close_all_of_the_answer_still_comes() {
    let host = start();
    let mut client = host.client();
    // More than socket buffers hold, so that most of it waits in the outbox at the end of input.
    client.say("flood 3000000");
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 1);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 3_000_000 - 1);
    assert_eq!(host.closed(), Closed::Done);
    host.stop();
}

#[test]
fn a_reset_is_noticed_while_paused() {
    let host = start();
    let mut client = host.client();
    assert_eq!(client.ask("pause"), "paused");
    client.say("this is never read");
    client.reset();
    assert_eq!(host.closed(), failed(Failure::Reset));
    host.stop();
}

#[test]
fn a_paused_connection_goes_on_where_it_was() {
    let host = start();
    let mut client = host.client();
    assert_eq!(client.ask("pause"), "paused");
    client.say("shout what waited");
    // Answers on another connection show that the loop had its chance to read.
    let mut other = host.client();
    for _ in 0..10 {
        assert_eq!(other.ask("shout other"), "OTHER");
    }
    client.stream.set_nonblocking(true).unwrap();
    let error = client.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.stream.set_nonblocking(false).unwrap();
    host.handle.send(Message::Resume).unwrap();
    assert_eq!(client.hear(), "WHAT WAITED");
    host.stop();
}

#[test]
fn a_reset_is_noticed_while_bytes_wait_for_a_peer_that_reads_nothing() {
    let host = start();
    let mut client = host.client();
    client.say("flood 20000000");
    assert_eq!(client.stream.peek(&mut [0]).unwrap(), 1);
    client.reset();
    assert_eq!(host.closed(), failed(Failure::Reset));
    host.stop();
}

#[test]
fn an_abort_is_seen_as_a_reset_and_a_close_is_not() {
    let host = start();
    let mut client = host.client();
    client.say("close");
    assert_eq!(client.hear(), "");
    assert_eq!(host.closed(), Closed::Local);
    let mut client = host.client();
    client.say("abort");
    let error = client.stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(host.closed(), Closed::Local);
    let mut client = host.client();
    client.say(&"x".repeat(100));
    assert_eq!(client.hear(), "");
    assert_eq!(host.closed(), Closed::Error(TooLong));
    host.stop();
}

#[test]
fn a_close_is_told_to_the_peer_and_does_not_wait_for_the_linger_to_pass() {
    let host = Running::with(HostConfig::default(), Server::default(), 3 * PATIENCE);
    let mut client = host.client();
    client.say("close");
    assert_eq!(client.hear(), "");
    assert_eq!(host.closed(), Closed::Local);
    // The host ends with the connection, as soon as the peer has closed too.
    host.handle.send(Message::Stop).unwrap();
    drop(client);
    host.join();
}

#[test]
fn each_request_is_answered_however_many_there_are() {
    let folder = tempfile::TempDir::new().unwrap();
    let host = Running::start(HostConfig {
        roots: Roots::open([folder.path()]).unwrap(),
        queue: 2,
        ..HostConfig::default()
    });
    assert_eq!(host.client().ask("burst 100"), "all answered");
    host.stop();
}

#[test]
fn who_is_not_accepted_sees_the_end() {
    let host = Running::with(HostConfig::default(), Server::turning_away(), PATIENCE);
    for _ in 0..10 {
        assert_eq!(host.client().hear(), "");
    }
    host.stop();
}

#[test]
fn timers_are_kept() {
    let host = start();
    assert_eq!(host.client().ask("sleep"), "awake");
    host.stop();
}

#[test]
fn messages_come_from_other_threads_in_order_and_wait_while_the_queue_is_full() {
    let host = Running::start(HostConfig { queue: 2, ..HostConfig::default() });
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let handle = host.handle.clone();
            thread::spawn(move || (0..250).for_each(|_| handle.send(Message::Count).unwrap()))
        })
        .collect();
    for number in 1..=1000 {
        assert_eq!(host.report(), Report::Counted(number));
    }
    senders.into_iter().for_each(|it| it.join().unwrap());
    let handle = host.handle.clone();
    assert_eq!(host.stop().counted, 1000);
    assert!(handle.send(Message::Count).is_err());
    let gone = handle.try_send(Message::Count);
    assert!(matches!(gone, Err(TrySendError::Disconnected(_))));
}

#[test]
fn two_hosts_talk_by_address_and_by_name() {
    let (server, dialler) = (start(), start());
    let port = server.address.port();
    for target in [
        Target::Address(server.address),
        Target::Name("127.0.0.1".into(), port),
        // Where it stands for an IPv6 address too, that one refuses.
        Target::Name("localhost".into(), port),
    ] {
        let dial = Message::Dial(target, "shout who is there\n");
        dialler.handle.send(dial).unwrap();
        let Report::Opened(ours) = dialler.report() else {
            panic!("not connected");
        };
        assert_eq!(ours.address, server.address);
        let Report::Opened(theirs) = server.report() else {
            panic!("not accepted");
        };
        assert_eq!((theirs.address, theirs.local), (ours.local, ours.address));
        assert_eq!(dialler.report(), Report::Line("WHO IS THERE".into()));
    }
    server.stop();
    for _ in 0..3 {
        assert_eq!(dialler.closed(), Closed::Done);
    }
    dialler.stop();
}

#[test]
fn what_cannot_be_dialled_fails_with_the_reason() {
    let host = start();
    for (target, why) in [
        (Target::Address(nobody()), Failure::Refused),
        (Target::Name("127.0.0.1".into(), nobody().port()), Failure::Refused),
        (Target::Name("no name at all".into(), 1), Failure::NotFound),
    ] {
        host.handle.send(Message::Dial(target, "")).unwrap();
        assert_eq!(host.report(), Report::Closed(failed(why)));
    }
    host.stop();
}

#[test]
fn files_are_sent_whole_or_the_connection_is_cut() {
    let folder = tempfile::TempDir::new().unwrap();
    let content: Vec<u8> = (0..300_000u32).map(|at| (at % 253) as u8).collect();
    std::fs::write(folder.path().join("file"), &content).unwrap();
    let host = Running::start(HostConfig {
        roots: Roots::open([folder.path()]).unwrap(),
        ..HostConfig::default()
    });
    let mut client = host.client();
    client.say("file 300000 file");
    let mut got = Vec::new();
    client.stream.read_to_end(&mut got).unwrap();
    assert!(got == content, "{} bytes came", got.len());
    drop(client);
    assert_eq!(host.closed(), Closed::Local);

    let mut client = host.client();
    client.say("file 300001 file");
    let error = client.stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut client = host.client();
    assert_eq!(client.ask("file 1 none"), "Failed(NotFound)");
    assert_eq!(client.ask("file 1 ../file"), "Failed(Denied)");
    drop(client);
    host.stop();
}
