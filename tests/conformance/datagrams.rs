//! The datagram hosts: what a machine sees, it sees on all.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use semfio_machine::{
    Carrier, Clock as WhoseClock, DatagramMachine, Deadline, Endpoint, Failure, Instant, Now,
    Received, Refused, Stamp, Transmit, TransmitId,
};
use semfio_runtime_mio as mio;
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{BoundEndpoint, Clock};
use semfio_runtime_smol as smol_host;
use semfio_trace::{CommandCodec, End, Header, Reader, Recorder, Replay};

/// Asks an echo server question after question, then one that is not there, then rests.
struct Asker {
    server: SocketAddr,
    nobody: SocketAddr,
    stage: Stage,
    stamped: [u64; 2],
    log: Vec<String>,
    over: bool,
    trace: Arc<Mutex<Vec<u8>>>,
}

impl Asker {
    fn new(server: SocketAddr, nobody: SocketAddr) -> Self {
        Self {
            server,
            nobody,
            stage: Stage::Done,
            stamped: [0; 2],
            log: Vec::new(),
            over: false,
            trace: Arc::default(),
        }
    }

    /// Its run, from the trace alone.
    fn again(&self) -> Self {
        let trace = self.trace.lock().unwrap();
        let again = Endpoint::new(Self::new(self.server, self.nobody));
        let codec = CommandCodec { encode: |(), _| {}, decode: |_| Some(()) };
        let mut replay =
            Replay::datagrams(Reader::new(&trace).unwrap(), again, codec, |_, _, _| {});
        assert_eq!(replay.run().unwrap_or_else(|error| panic!("{error}")).end, End::Whole);
        replay.into_machine()
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Ask(u64),
    /// Asked, and when that is given up.
    Wait(u64, Instant),
    Rest(Instant),
    Done,
}

const QUESTIONS: u64 = 50;
const NEVER: Duration = Duration::from_secs(10);

impl DatagramMachine for Asker {
    type Event<'i> = ();
    type Command<'c> = ();

    fn accepts(&self, _: &Received, payload: &[u8]) -> bool {
        payload.len() == 8
    }

    fn handle_datagram(&mut self, now: Now, meta: Received, payload: &mut [u8]) -> Option<()> {
        assert!(meta.stamp.at <= now.mono, "a stamp of the future");
        let number = payload.try_into().map(u64::from_be_bytes).unwrap_or(u64::MAX);
        let Stage::Wait(asked, _) = self.stage else {
            return None;
        };
        let (error, clock) = (meta.error.map(|e| (e.icmp_type, e.icmp_code)), meta.stamp.clock);
        let clock = if error.is_some() { WhoseClock::User } else { clock };
        self.log.push(format!("{number} after {asked}, {error:?}, {clock:?}"));
        self.stage = match asked {
            QUESTIONS => Stage::Rest(now.mono.saturating_add(Duration::from_millis(50))),
            _ => Stage::Ask(asked + 1),
        };
        None
    }

    fn handle_sent(&mut self, _: Now, _: TransmitId, stamp: Stamp) {
        self.stamped[usize::from(stamp.clock == WhoseClock::Kernel)] += 1;
    }

    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        self.log.push(format!("{id:?} {failure:?}"));
    }

    fn handle_command(&mut self, _: Now, (): ()) -> Result<(), Refused> {
        self.stage = Stage::Ask(0);
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let Stage::Ask(number) = self.stage else {
            return None;
        };
        self.stage = Stage::Wait(number, now.mono.saturating_add(NEVER));
        buf.extend_from_slice(&number.to_be_bytes());
        Some(Transmit {
            id: TransmitId(number),
            destination: if number == QUESTIONS { self.nobody } else { self.server },
            size: 8,
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.stage {
            Stage::Wait(_, at) | Stage::Rest(at) => Some(Deadline { at, why: "test" }),
            Stage::Ask(_) | Stage::Done => None,
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        match self.stage {
            Stage::Wait(number, at) if at <= now.mono => {
                self.log.push(format!("no answer to {number}"));
            }
            Stage::Rest(at) if at <= now.mono => self.log.push("rested".into()),
            _ => return,
        }
        self.stage = Stage::Done;
        self.over = true;
    }

    fn poll_event(&mut self) -> Option<()> {
        std::mem::take(&mut self.over).then_some(())
    }
}

/// Plays the asker on a host; the echo server has a plain socket and loses what it shall lose.
fn play(run: impl FnOnce(Asker) -> Asker, lost: Option<u64>) -> Asker {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = UdpSocket::bind(loopback).unwrap();
    let nobody = UdpSocket::bind(loopback).unwrap().local_addr().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let asker = Asker::new(server.local_addr().unwrap(), nobody);
    let serving = std::thread::spawn(move || {
        let mut question = [0; 8];
        for _ in 0..QUESTIONS {
            let (_, from) = server.recv_from(&mut question).unwrap();
            let noise = lost == Some(u64::from_be_bytes(question));
            let answer = if noise { &mut [0; 8] } else { &mut question };
            server.send_to(b"foreign", from).unwrap();
            server.send_to(answer, from).unwrap();
        }
    });
    let asker = run(asker);
    serving.join().unwrap();
    asker
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The asker on a socket, recorded, asked to begin or not.
fn bound(asker: Asker, begins: bool) -> BoundEndpoint<Asker> {
    let trace = Arc::clone(&asker.trace);
    let sink = move |line: &[u8]| trace.lock().unwrap().extend_from_slice(line);
    let (clock, mut endpoint) = (Clock::start(), Endpoint::new(asker));
    endpoint.set_tap(Box::new(Recorder::new(&Header::new("asker"), sink)), |(), _| {});
    if begins {
        endpoint.handle_command(clock.now(), ()).unwrap();
    }
    BoundEndpoint::bind(endpoint, ANY, clock).unwrap()
}

fn on_mio(asker: Asker) -> Asker {
    let host = mio::Datagrams::new(bound(asker, true)).unwrap();
    let stopper = host.stopper();
    host.run(|_, (), _| stopper.stop()).unwrap().into_machine()
}

fn on_smol(asker: Asker) -> Asker {
    let host = smol_host::Datagrams::new(bound(asker, true)).unwrap();
    let stopper = host.stopper();
    smol::block_on(host.run(|_, (), _| stopper.stop())).unwrap().into_machine()
}

fn on_threads(asker: Asker) -> Asker {
    let host = mio::blocking::Datagrams::new(bound(asker, true)).unwrap();
    let stopper = host.stopper();
    host.run(|_, (), _| stopper.stop()).unwrap().into_machine()
}

#[test]
fn datagrams_are_the_same_on_all_hosts() {
    let _alone = crate::alone();
    let hosts: [fn(Asker) -> Asker; 3] = [on_mio, on_smol, on_threads];
    let logs = hosts.map(|host| {
        let asker = play(host, None);
        // Each transmit has its stamp from the process, and by the rest's end that of the kernel.
        assert_eq!(asker.stamped, [QUESTIONS + 1; 2]);
        let again = asker.again();
        assert_eq!((&again.log, again.stamped), (&asker.log, asker.stamped));
        asker.log
    });
    assert_eq!(logs[0].len() as u64, QUESTIONS + 2);
    assert_eq!(logs[0][7], "7 after 7, None, Kernel");
    assert_eq!(logs[0][50], "50 after 50, Some((3, 3)), User");
    assert_eq!(logs[0][51], "rested");
    assert_eq!(logs[1], logs[0]);
    assert_eq!(logs[2], logs[0]);
}

#[test]
fn one_that_waits_for_nothing_is_stopped_from_outside() {
    let asker = |server| Asker::new(server, server);
    let host = mio::blocking::Datagrams::new(bound(asker(ANY), false)).unwrap();
    let stopper = host.stopper();
    let running = std::thread::spawn(move || host.run(|_, (), _| ()).map(drop));
    std::thread::sleep(Duration::from_millis(50));
    stopper.stop();
    running.join().unwrap().unwrap();
}

#[test]
fn an_altered_datagram_is_found() {
    let _alone = crate::alone();
    assert_ne!(play(on_mio, None).log, play(on_smol, Some(9)).log);
}

/// Sends so many datagrams at once, to somebody who never answers, and waits for nothing else.
struct Burst {
    to: SocketAddr,
    left: u64,
    sent: u64,
}

impl DatagramMachine for Burst {
    type Event<'i> = ();
    type Command<'c> = ();

    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        false
    }

    fn handle_datagram(&mut self, _: Now, _: Received, _: &mut [u8]) -> Option<()> {
        None
    }

    fn handle_sent(&mut self, _: Now, _: TransmitId, stamp: Stamp) {
        self.sent += u64::from(stamp.clock == WhoseClock::User);
    }

    fn handle_send_error(&mut self, _: Now, _: TransmitId, failure: Failure) {
        panic!("{failure}");
    }

    fn handle_command(&mut self, _: Now, (): ()) -> Result<(), Refused> {
        Ok(())
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.left = self.left.checked_sub(1)?;
        buf.push(0);
        Some(Transmit {
            id: TransmitId(self.left),
            destination: self.to,
            size: 1,
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now) {}

    fn poll_event(&mut self) -> Option<()> {
        let over = self.sent == MANY;
        self.sent *= u64::from(!over);
        over.then_some(())
    }
}

/// More than a host sends before it looks at what came.
const MANY: u64 = 1_000;

#[test]
fn a_host_that_stops_to_read_goes_on_to_send() {
    let _alone = crate::alone();
    let silent = UdpSocket::bind(ANY).unwrap();
    let to = silent.local_addr().unwrap();
    type Host = fn(BoundEndpoint<Burst>, std::sync::mpsc::Sender<()>);
    let hosts: [(&str, Host); 3] = [
        ("mio", |bound, tell| {
            let host = mio::Datagrams::new(bound).unwrap();
            let stopper = host.stopper();
            drop(host.run(|_, (), _| stopper.stop()));
            tell.send(()).unwrap();
        }),
        ("smol", |bound, tell| {
            let host = smol_host::Datagrams::new(bound).unwrap();
            let stopper = host.stopper();
            drop(smol::block_on(host.run(|_, (), _| stopper.stop())));
            tell.send(()).unwrap();
        }),
        ("blocking", |bound, tell| {
            let host = mio::blocking::Datagrams::new(bound).unwrap();
            let stopper = host.stopper();
            drop(host.run(|_, (), _| stopper.stop()));
            tell.send(()).unwrap();
        }),
    ];
    for (name, host) in hosts {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Without stamps, which would wake it.
            let mut socket = DatagramSocket::bind(ANY).unwrap();
            socket.set_terse().unwrap();
            let endpoint = Endpoint::new(Burst { to, left: MANY, sent: 0 });
            let bound = BoundEndpoint::over(endpoint, vec![socket], Clock::start());
            host(bound, tell);
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(()), "{name} has stopped");
    }
}
