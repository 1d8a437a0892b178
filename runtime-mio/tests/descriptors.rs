//! Descriptors: none is lost, and being without any is survived. Its tests count those of the
//! process, so they take turns.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;

use common::{Client, Message, Running};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use semfio_machine::Target;
use semfio_runtime_mio::HostConfig;
use semfio_runtime_os::Roots;

static TURN: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn none_is_left_behind() {
    let _turn = TURN.lock();
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), [7; 1000]).unwrap();
    let before = descriptors();
    let host = Running::start(HostConfig {
        roots: Roots::open([folder.path()]).unwrap(),
        files: 2,
        ..HostConfig::default()
    });
    for line in ["close", "abort", "file 1000 file", "file 1001 file", "flood 1"] {
        for _ in 0..20 {
            let mut client = host.client();
            client.say(line);
            let mut first = [0];
            let _ = client.stream.read(&mut first);
            assert_eq!(first[0] == 7, line.starts_with("f"), "{line}");
            if line != "close" {
                client.reset();
            }
            host.closed();
        }
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = Target::Address(gone.local_addr().unwrap());
    drop(gone);
    for _ in 0..20 {
        let dial = Message::Dial(nobody.clone(), "");
        host.handle.send(dial).unwrap();
        host.closed();
    }
    let still_open = host.client();
    assert!(descriptors() > before);
    host.stop();
    drop(still_open);
    assert_eq!(descriptors(), before);
}

#[test]
fn peers_are_turned_away_while_there_are_none_and_served_again_afterwards() {
    let _turn = TURN.lock();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_with_few_descriptors"])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some((_, address)) = line.split_once("listens on ") {
            break address.parse().unwrap();
        }
    };
    for _round in 0..3 {
        let mut clients: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
        let served: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                // One that was turned away is closed, with a reset if it has spoken before.
                let _ = client.stream.write_all(b"shout hello\n");
                let mut answer = [0; 6];
                let got = client.stream.read_exact(&mut answer);
                got.is_ok_and(|()| &answer == b"HELLO\n")
            })
            .collect();
        let number = served.iter().filter(|served| **served).count();
        assert!((5..100).contains(&number), "{number} were served");
        assert!(served[..5].iter().all(|served| *served), "the first came in time");
    }
    let mut last = Client::connect(address);
    // Those of the last round may still be open.
    while last.stream.write_all(b"stop\n").is_err() || last.stream.read(&mut [0]).is_err() {
        last = Client::connect(address);
    }
    assert!(child.wait().unwrap().success());
}

/// Prints its address and serves until a peer says `stop`.
#[test]
#[ignore = "the other half of a test, which runs it in a process of its own"]
fn a_server_with_few_descriptors() {
    let host = Running::start(HostConfig::default());
    let limit = Rlimit { current: Some(descriptors() as u64 + 20), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("listens on {}", host.address);
    loop {
        match host.reports.recv_timeout(common::PATIENCE) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("nobody asks any more"),
        }
    }
    host.join();
}
