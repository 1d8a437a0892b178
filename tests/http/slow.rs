//! Peers that end halfway, are many, or never read. Those that drip are in `core/http/tests`, in
//! simulated time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::program::{Client, RUNTIMES, Server, folder};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// More than sockets hold on both sides together.
const MUCH: usize = 64 << 20;

#[test]
fn who_has_said_all_is_still_answered() {
    let folder = folder();
    for runtime in RUNTIMES {
        for server in [Server::echo(runtime), Server::serve(runtime, &folder.path().join("site"))] {
            let mut client = Client::connect(server.address);
            client.send(&[GET, GET].concat());
            client.finish();
            for _ in 0..2 {
                assert_eq!(client.response(false).map(|response| response.status), Some(200));
            }
            assert!(client.ends());
        }
    }
}

#[test]
fn one_who_resets_in_the_middle_disturbs_nobody() {
    for runtime in RUNTIMES {
        let mut server = Server::echo(runtime);
        for _ in 0..20 {
            let mut client = Client::connect(server.address);
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
            // With a linger of nothing, what is closed is reset.
            socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let mut client = Client::connect(server.address);
        client.send(GET);
        assert_eq!(client.response(false).map(|response| response.status), Some(200), "{runtime}");
        assert!(server.is_alive());
    }
}

/// Blocking has two threads for each, and is not meant for so many.
#[test]
fn a_thousand_who_say_nothing_cost_little() {
    // Both ends of some tests' connections are in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    for runtime in ["mio", "smol"] {
        let server = Server::echo(runtime);
        let before = server.memory();
        let mut idle: Vec<Client> = (0..1_000).map(|_| Client::connect(server.address)).collect();
        // Half of them have been answered once.
        for client in idle.iter_mut().step_by(2) {
            client.send(GET);
            assert_eq!(client.response(false).map(|response| response.status), Some(200));
        }
        let grown = server.memory().saturating_sub(before);
        println!("{runtime}: {} octets for each of 1,000", grown / 1_000);
        assert!(grown < 16 << 20, "{runtime}: {grown}");
    }
}

/// What is not read waits with its sender, and comes whole once it is read.
#[test]
fn who_never_reads_is_not_buffered() {
    for runtime in RUNTIMES {
        let server = Server::echo(runtime);
        let before = server.memory();
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let block = [b'x'; 64 * 1024];
        let mut sent = 0;
        while sent < MUCH {
            match stream.write(&block[..block.len().min(MUCH - sent)]) {
                Ok(n) => sent += n,
                Err(_) => break,
            }
        }
        assert!(sent < MUCH, "{runtime} takes all of it");
        let grown = server.memory().saturating_sub(before);
        assert!(grown < 32 << 20, "{runtime} holds {grown}");
        // Now it reads.
        stream.set_write_timeout(None).unwrap();
        let mut rest = stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            while sent < MUCH {
                sent += rest.write(&block[..block.len().min(MUCH - sent)]).unwrap();
            }
        });
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
        while read < MUCH {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "{runtime}: it ends after {read}");
            read += n;
        }
        writer.join().unwrap();
    }
}
