//! `semfio nc`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peers::{RUNTIMES, run, semfio};

/// How long anything may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A netcat that runs; killed when dropped.
struct Nc {
    child: Child,
    stdin: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Nc {
    /// One that listens: on a port that the system chooses, which it tells.
    fn listen(runtime: &str, args: &[&str]) -> Self {
        let mut nc = Self::start(&[&["--runtime", runtime, "nc", "-l", "0"], args].concat());
        let mut err = BufReader::new(nc.child.stderr.take().unwrap());
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split_once(','));
        nc.address = address.unwrap_or_else(|| panic!("{line:?}")).0.to_owned();
        // What it says later must not fill the pipe.
        std::thread::spawn(move || drop(err.read_to_string(&mut String::new())));
        nc
    }

    fn start(args: &[&str]) -> Self {
        let mut command = semfio(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, out) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, out, address: String::new() }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(&self.address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.out.read_to_end(&mut rest).unwrap();
        rest
    }

    fn end(mut self) -> Option<i32> {
        self.rest();
        self.child.wait().unwrap().code()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Nc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn each_direction_ends_by_itself() {
    for runtime in RUNTIMES {
        // The peer ends first, and is still sent to.
        let mut nc = Nc::listen(runtime, &["-N"]);
        let mut peer = nc.connect();
        peer.write_all(&pattern(100_000)).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(nc.rest_of(100_000), pattern(100_000));
        nc.say("late");
        nc.stdin = None;
        let mut late = String::new();
        peer.read_to_string(&mut late).unwrap();
        assert_eq!((late.as_str(), nc.end()), ("late", Some(0)));
        // We end first, and still hear.
        let mut nc = Nc::listen(runtime, &["-N"]);
        let mut peer = nc.connect();
        nc.say("early");
        nc.stdin = None;
        let mut early = String::new();
        peer.read_to_string(&mut early).unwrap();
        assert_eq!(early, "early");
        peer.write_all(&pattern(100_000)).unwrap();
        drop(peer);
        assert_eq!(nc.rest(), pattern(100_000));
        assert_eq!(nc.end(), Some(0));
    }
}

impl Nc {
    fn rest_of(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.out.read_exact(&mut bytes).unwrap();
        bytes
    }
}

#[test]
fn without_n_the_end_of_input_is_not_told() {
    for runtime in RUNTIMES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut nc = Nc::start(&["--runtime", runtime, "nc", "127.0.0.1", &port]);
        let (mut peer, _) = listener.accept().unwrap();
        nc.say("hello");
        nc.stdin = None;
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.read_exact(&mut [0; 5]).unwrap();
        peer.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(peer.read(&mut [0]).is_err(), "no end");
        peer.write_all(b"bye").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(nc.rest(), b"bye");
        assert_eq!(nc.end(), Some(0));
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn after_q_it_is_over() {
    for runtime in RUNTIMES {
        let nc = Nc::listen(runtime, &["-q", "0.1"]);
        let port = nc.port().to_owned();
        let ended = run(&["--runtime", runtime, "nc", "-q", "0", "127.0.0.1", &port], "hello");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut nc = nc;
        nc.stdin = None;
        assert_eq!(nc.rest(), b"hello");
        assert_eq!(nc.end(), Some(0));
    }
}

#[test]
fn nothing_moves_for_w_and_it_ends() {
    for runtime in RUNTIMES {
        let mut nc = Nc::listen(runtime, &["-w", "1"]);
        let mut peer = nc.connect();
        peer.write_all(b"x").unwrap();
        assert_eq!(nc.rest(), b"x");
        assert_eq!(nc.end(), Some(0));
    }
}

#[test]
fn nobody_listens_and_that_is_told() {
    for runtime in RUNTIMES {
        // Bound and not listening, so that nobody else gets it.
        let held = rustix_bound();
        let port = held.1.to_string();
        let ended = run(&["--runtime", runtime, "nc", "127.0.0.1", &port], "");
        let wanted = format!(
            "semfio: cannot connect to 127.0.0.1:{port}: connection refused\n\
             hint: nobody listens there; `semfio nc -l PORT` would\n"
        );
        assert_eq!((ended.code, ended.err), (Some(1), wanted));
        let ended = run(&["--runtime", runtime, "nc", "-z", "127.0.0.1", &port], "");
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.err, format!("127.0.0.1:{port} tcp closed (connection refused)\n"));
        assert_eq!(ended.out, "");
    }
}

/// A TCP socket that has a port and does not listen.
fn rustix_bound() -> (rustix::fd::OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&held, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&held).unwrap()).unwrap();
    (held, address.port())
}

#[test]
fn z_says_who_listens_and_u_says_no_more_than_it_knows() {
    for runtime in RUNTIMES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let ended = run(&["--runtime", runtime, "nc", "-z", "127.0.0.1", &port], "");
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        assert_eq!(ended.out, format!("127.0.0.1:{port} tcp open\n"));

        // One that answers, one that is silent, one that nobody has.
        let answering = Nc::listen(runtime, &["-u", "-k", "--reply", "ARK!"]);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent_port = silent.local_addr().unwrap().port().to_string();
        for (port, wait, wanted, code) in [
            (answering.port(), "20", "udp open", 0),
            (&silent_port, "0.6", "udp open|filtered (no answer)", 1),
        ] {
            let args = ["--runtime", runtime, "nc", "-zu", "-w", wait, "127.0.0.1", port];
            let ended = run(&args, "");
            assert_eq!(ended.code, Some(code), "{ended:?}");
            assert_eq!(ended.out, format!("127.0.0.1:{port} {wanted}\n"));
        }
        let (_held, port) = deaf();
        let args = ["--runtime", runtime, "nc", "-zu", "-w", "20", "--json", "127.0.0.1", &port];
        let ended = run(&args, "");
        let record: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((&record["state"], ended.code), (&"closed".into(), Some(1)), "{record}");
    }
}

#[test]
fn many_are_shown_with_who_said_it_and_answered() {
    for runtime in RUNTIMES {
        let mut nc = Nc::listen(runtime, &["-k", "--reply", "ARK!"]);
        let mut peers: Vec<_> = (0..3).map(|_| nc.connect()).collect();
        for (nth, peer) in peers.iter_mut().enumerate() {
            write!(peer, "I am {nth}\u{1b}").unwrap();
            let mut reply = [0; 4];
            peer.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"ARK!");
            let local = peer.local_addr().unwrap();
            assert_eq!(nc.line(), format!("{local} I am {nth}\\u{{1b}}\n"));
        }
        nc.say("to all");
        for peer in &mut peers {
            peer.read_exact(&mut [0; 6]).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
        nc.signal(Signal::INT);
        assert_eq!(nc.end(), Some(130));
    }
}

#[test]
fn a_broker_passes_on() {
    for runtime in RUNTIMES {
        let nc = Nc::listen(runtime, &["-k", "--broker"]);
        let mut peers: Vec<_> = (0..3).map(|_| nc.connect()).collect();
        // Whoever connects last may be known last.
        let mut nc = nc;
        for peer in &mut peers {
            peer.write_all(b"here\n").unwrap();
            assert!(nc.line().ends_with(" here\n"));
        }
        peers[0].write_all(b"said").unwrap();
        for peer in &mut peers[1..] {
            let mut heard = Vec::new();
            while !heard.ends_with(b"said") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                heard.extend(byte);
            }
        }
        nc.signal(Signal::TERM);
        assert_eq!(nc.end(), Some(0));
    }
}

#[test]
fn datagrams_go_both_ways() {
    for runtime in RUNTIMES {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let mut nc =
            Nc::start(&["--runtime", runtime, "nc", "-u", "-q", "0.5", "127.0.0.1", &port]);
        let mut buffer = [0; 100];
        for text in ["one\n", "two\n"] {
            nc.say(text);
            let (n, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], text.as_bytes());
            server.send_to(&[b"> ", &buffer[..n]].concat(), from).unwrap();
            assert_eq!(nc.line(), format!("> {text}"));
        }
        nc.stdin = None;
        assert_eq!(nc.end(), Some(0));

        let mut nc = Nc::listen(runtime, &["-u"]);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"anyone?\n", &nc.address).unwrap();
        assert_eq!(nc.line(), "anyone?\n");
        nc.say("yes\n");
        let n = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"yes\n");
        nc.signal(Signal::TERM);
        assert_eq!(nc.end(), Some(0));

        let mut nc = Nc::listen(runtime, &["-u", "-w", "0.2"]);
        client.send_to(b"anyone?\n", &nc.address).unwrap();
        assert_eq!(nc.line(), "anyone?\n");
        assert_eq!(nc.end(), Some(0), "nothing moves");
    }
}

/// A UDP port that is taken, so that nobody else gets it, and hears one stranger only: to all others it is
/// as if nobody had it.
fn deaf() -> (UdpSocket, String) {
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    held.connect("127.0.0.1:9").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    (held, port)
}

#[test]
fn a_port_that_nobody_has_is_told_over_udp_too() {
    for runtime in RUNTIMES {
        let (_held, port) = deaf();
        let args = ["--runtime", runtime, "nc", "-u", "-w", "10", "127.0.0.1", &port];
        let ended = run(&args, "anyone?\n");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let wanted = format!("semfio: cannot talk to 127.0.0.1:{port}: port unreachable\n");
        assert!(ended.err.starts_with(&wanted), "{}", ended.err);
    }
}

#[test]
fn both_directions_in_hex() {
    let mut nc = Nc::listen("mio", &["-x", "-N"]);
    let mut peer = nc.connect();
    peer.write_all(b"ol\xc3\xa1\n").unwrap();
    let received = "< 00000000  6f 6c c3 a1 0a                                    |ol...|\n";
    assert_eq!(nc.line(), received);
    nc.say("oi");
    let sent = "> 00000000  6f 69                                             |oi|\n";
    assert_eq!(nc.line(), sent);
    nc.stdin = None;
    // Closed with something unread, it would be a reset.
    peer.read_to_end(&mut Vec::new()).unwrap();
    drop(peer);
    assert_eq!(nc.end(), Some(0));
}

#[test]
fn junk_is_the_same_for_everybody() {
    let junk = |runtime, seed| {
        let mut nc = Nc::listen(runtime, &[]);
        nc.stdin = None;
        let args = ["--runtime", runtime, "nc", "-N", "--junk", "100000", "--seed", seed];
        let client = Nc::start(&[&args[..], &["127.0.0.1", nc.port()]].concat());
        let came = nc.rest();
        assert_eq!((client.end(), nc.end()), (Some(0), Some(0)));
        came
    };
    let first = junk("mio", "7");
    assert_eq!(first.len(), 100_000);
    assert!(first == junk("smol", "7") && first == junk("blocking", "7"));
    assert!(first != junk("mio", "8"));
}

#[test]
fn a_run_is_told_in_records_and_replays() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in RUNTIMES {
        let trace = |name: &str| {
            let path = folder.path().join(format!("{runtime}.{name}"));
            path.to_str().unwrap().to_owned()
        };
        let (here, there) = (trace("server"), trace("client"));
        let mut nc = Nc::listen(runtime, &["--record", &here]);
        nc.stdin = None;
        let args = ["--runtime", runtime, "--json", "--record", &there, "nc", "-N"];
        let ended = run(&[&args[..], &["127.0.0.1", nc.port()]].concat(), "hello");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let records: Vec<Value> =
            ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<_> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["opened", "peer_ended", "closed", "over"]);
        assert_eq!((&records[0]["v"], &records[2]["given"]), (&1.into(), &5.into()));
        assert_eq!(nc.rest(), b"hello");
        assert_eq!(nc.end(), Some(0));
        let checked = trace("check");
        run(&["--runtime", runtime, "--record", &checked, "nc", "-z", "127.0.0.1", "1-3"], "");
        for trace in [&here, &there, &checked] {
            let replayed = run(&["replay", trace], "");
            assert_eq!(replayed.code, Some(0), "{runtime}: {replayed:?}");
            assert!(!replayed.out.contains("cut"), "{}", replayed.out);
        }
    }
}

#[test]
fn from_which_address_and_port_it_comes_can_be_chosen() {
    for runtime in RUNTIMES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let args = ["--runtime", runtime, "nc", "-s", "127.0.0.9", "-N", "127.0.0.1", &port];
        let mut nc = Nc::start(&args);
        let (peer, address) = listener.accept().unwrap();
        assert_eq!(address.ip().to_string(), "127.0.0.9");
        nc.stdin = None;
        drop(peer);
        assert_eq!(nc.end(), Some(0));
    }
}

#[test]
fn a_reset_is_no_good_end() {
    for runtime in RUNTIMES {
        let nc = Nc::listen(runtime, &[]);
        let peer = nc.connect();
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(nc.end(), Some(3));
    }
}

#[test]
fn wrong_use_is_refused() {
    for args in [
        &["nc"][..],
        &["nc", "localhost"],
        &["nc", "localhost", "http"],
        &["nc", "localhost", "1-3"],
        &["nc", "-n", "localhost", "7"],
        &["nc", "-k", "127.0.0.1", "7"],
        &["nc", "-l"],
        &["nc", "-l", "localhost", "7"],
        &["nc", "-l", "-z", "7"],
        &["nc", "-l", "--broker", "7"],
        &["nc", "--reply", "x", "127.0.0.1", "7"],
        &["nc", "--seed", "1", "127.0.0.1", "7"],
        &["nc", "-w", "-1", "127.0.0.1", "7"],
        &["nc", "-v", "--quiet", "127.0.0.1", "7"],
    ] {
        let ended = run(args, "");
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.out.is_empty(), "{ended:?}");
    }
}
