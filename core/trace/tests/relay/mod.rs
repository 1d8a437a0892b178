//! A service that does a little of everything, and a host that runs a script on it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use semfio_machine::{
    Action, Closed, ConnId, Deadline, Effect, Entry, Failure, FileId, FileKind, FileSpan, Input,
    Instant, Metadata, Net, Now, OpenMode, Outbox, Peer, Refused, Reply, RequestId, RootId, Seed,
    Service, Shard, Step, StreamMachine, Target, UnixTime,
};
use semfio_trace::{Header, Recorded, Recorder};

/// Gives its input out as it comes; ends after five idle seconds.
pub(crate) struct Pipe {
    deadline: Instant,
    over: bool,
}

pub(crate) enum Put<'c> {
    Bytes(&'c [u8]),
    File(FileSpan),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Zero;

impl std::fmt::Display for Zero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a zero byte")
    }
}

impl std::error::Error for Zero {}

impl Pipe {
    const IDLE: Duration = Duration::from_secs(5);

    fn new(now: Now) -> Self {
        Self { deadline: now.mono.saturating_add(Self::IDLE), over: false }
    }
}

impl StreamMachine for Pipe {
    type Event<'i> = &'i [u8];
    type Command<'c> = Put<'c>;
    type Error = Zero;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        if self.over { "Over" } else { "Open" }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Zero> {
        if self.over {
            return Ok(Step::Done);
        }
        if input.is_empty() {
            if input.at_eof() {
                self.over = true;
                return Ok(Step::Done);
            }
            return Ok(Step::NeedInput(1));
        }
        if input.peek().contains(&0) {
            return Err(Zero);
        }
        self.deadline = now.mono.saturating_add(Self::IDLE);
        Ok(Step::Event(input.take(usize::MAX)))
    }

    fn handle_command(&mut self, _: Now, put: Put<'_>, out: &mut Outbox) -> Result<(), Refused> {
        match put {
            Put::Bytes(bytes) => out.put(bytes),
            Put::File(span) => out.put_file(span),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        (!self.over).then_some(Deadline { at: self.deadline, why: "idle" })
    }

    fn handle_timeout(&mut self, now: Now, _: &mut Outbox) {
        self.over |= self.deadline <= now.mono;
    }
}

/// Echoes in upper case, relays to a dialled peer, asks the host for everything it can do.
pub(crate) struct Relay {
    tick: Instant,
    ticks: u32,
    accepted: Vec<ConnId>,
    dialled: Option<ConnId>,
    reports: VecDeque<String>,
    /// What a fault of this service would change.
    pub(crate) fault: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Say(String),
    Raw(Vec<u8>),
    Effects,
    Dial,
    Quit,
}

impl Recorded for Ask {
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Ask::Say(text) => to.extend(["say ", text].concat().bytes()),
            Ask::Raw(bytes) => to.extend([b"raw ", &bytes[..]].concat()),
            Ask::Effects => to.extend(b"effects"),
            Ask::Dial => to.extend(b"dial"),
            Ask::Quit => to.extend(b"quit"),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        Some(match from {
            b"effects" => Ask::Effects,
            b"dial" => Ask::Dial,
            b"quit" => Ask::Quit,
            _ => match from.strip_prefix(b"raw ") {
                Some(bytes) => Ask::Raw(bytes.to_vec()),
                None => Ask::Say(String::decode(from.strip_prefix(b"say ")?)?),
            },
        })
    }
}

impl Relay {
    pub(crate) fn new(fault: Option<&'static str>) -> Self {
        Self {
            tick: Instant::from_nanos(1_000_000_000),
            ticks: 0,
            accepted: Vec::new(),
            dialled: None,
            reports: VecDeque::new(),
            fault,
        }
    }

    fn everyone(&self, bytes: &[u8], net: &mut Net<Pipe>) {
        for id in self.accepted.iter().chain(&self.dialled) {
            let _ = net.send(*id, Put::Bytes(bytes));
        }
    }
}

impl Service<Pipe> for Relay {
    type Message = Ask;
    type Report = String;

    fn accept(&mut self, now: Now, peer: &Peer) -> Option<Pipe> {
        (peer.address.port() != 6666).then(|| Pipe::new(now))
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, peer: &Peer, _: &mut Net<Pipe>) {
        if self.dialled != Some(conn) {
            self.accepted.push(conn);
        }
        self.reports.push_back(format!("open {conn} {}", peer.address));
    }

    fn handle_event(&mut self, _: Now, from: ConnId, bytes: &[u8], net: &mut Net<Pipe>) {
        let mut answer = bytes.to_ascii_uppercase();
        if self.fault == Some("another byte") && bytes == b"quit soon" {
            answer[4] = b'_';
        }
        let _ = net.send(from, Put::Bytes(&answer));
        if let Some(to) = self.dialled.filter(|&to| to != from) {
            let _ = net.send(to, Put::Bytes(bytes));
        }
        if self.fault == Some("one byte more") && bytes.contains(&b'q') {
            let _ = net.send(from, Put::Bytes(b"!"));
        }
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, why: Closed<Zero>, _: &mut Net<Pipe>) {
        self.accepted.retain(|id| *id != conn);
        self.dialled = self.dialled.filter(|id| *id != conn);
        self.reports.push_back(format!("closed {conn} {why:?}"));
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Pipe>) {
        self.reports.push_back(format!("reply {id:?} {reply:?}"));
        match reply {
            Reply::Resolved([address, ..]) => {
                let target = Target::Address(*address);
                self.dialled = Some(net.dial(target, Pipe::new(now)));
            }
            Reply::Opened { file, metadata } => {
                if let Some(&to) = self.accepted.first() {
                    let span = FileSpan { file, offset: 3, len: metadata.len - 3 };
                    let _ = net.send(to, Put::Bytes(b"file:"));
                    let _ = net.send(to, Put::File(span));
                    let _ = net.send(to, Put::Bytes(b"\xff\xfe"));
                    net.release(file, Some(to));
                }
            }
            _ => {}
        }
    }

    fn handle_message(&mut self, now: Now, ask: Ask, net: &mut Net<Pipe>) {
        let (root, file) = (RootId(0), FileId(1));
        let path = || "a/b".to_string();
        match ask {
            Ask::Say(text) => self.everyone(text.as_bytes(), net),
            Ask::Raw(bytes) => self.everyone(&bytes, net),
            Ask::Dial => {
                net.request(Effect::Resolve { name: "peer.example".into(), port: 9 });
                net.dial(Target::Name("nobody.example".into(), 1), Pipe::new(now));
            }
            Ask::Effects => {
                net.request(Effect::Open { root, path: path(), mode: OpenMode::Read });
                net.request(Effect::Stat { root, path: path() });
                net.request(Effect::StatFile { file });
                net.request(Effect::List { root, path: path(), after: String::new() });
                net.request(Effect::Read { file, offset: 1, len: 10 });
                let bytes = Bytes::from_static(b"\x01w");
                net.request(Effect::Write { file, offset: 2, bytes });
                let modified = UnixTime::from_nanos(1_234_567_890_123_456_789);
                net.request(Effect::SetModified { file, modified });
                net.request(Effect::Sync { file });
                net.request(Effect::CreateFolder { root, path: path() });
                net.request(Effect::SyncFolder { root, path: path() });
                net.request(Effect::Rename { root, from: path(), to: "c".into(), replace: true });
                net.request(Effect::Watch { root, path: path() });
                let gone = net.request(Effect::Remove { root, path: path() });
                net.cancel(gone);
            }
            Ask::Quit => {
                for id in self.accepted.clone() {
                    net.close(id);
                }
                net.stop();
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.tick, why: "tick" })
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Pipe>) {
        if self.tick <= now.mono {
            self.tick = now.mono.saturating_add(Duration::from_secs(1));
            self.ticks += 1;
            self.reports.push_back(format!("tick {}", self.ticks));
            self.everyone(b".", net);
        }
    }

    fn poll_report(&mut self) -> Option<String> {
        self.reports.pop_front()
    }
}

/// A host without sockets: what it is told to write it says is sent, in two parts.
pub(crate) struct Host {
    pub(crate) shard: Shard<Pipe, Relay>,
    pub(crate) now: Now,
    pub(crate) ids: Vec<ConnId>,
    /// Whether the socket takes all at once, and not half of it again and again.
    pub(crate) eager: bool,
    step: u64,
}

impl Host {
    pub(crate) fn recording(to: Arc<Mutex<Vec<u8>>>, step: u64) -> Self {
        let mut header = header();
        header.start = at(0);
        let mut shard = Shard::new(Relay::new(None), header.limits);
        shard.set_tap(Box::new(Recorder::new(&header, move |line: &[u8]| {
            to.lock().unwrap().extend_from_slice(line);
        })));
        Self { shard, now: at(0), ids: Vec::new(), eager: false, step }
    }

    pub(crate) fn pass(&mut self, nanos: u64) -> Now {
        self.now = at(self.now.mono.as_nanos() + nanos);
        self.now
    }

    pub(crate) fn accept(&mut self, address: &str) -> Option<ConnId> {
        let now = self.pass(self.step);
        let id = self.shard.handle_accepted(now, peer(address));
        self.ids.extend(id);
        self.turn();
        id
    }

    pub(crate) fn receive(&mut self, id: ConnId, bytes: &[u8]) {
        let now = self.pass(self.step);
        self.shard.handle_received(now, id, &mut bytes.to_vec());
        self.turn();
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        let now = self.pass(self.step);
        self.shard.handle_message(now, ask);
        self.turn();
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        let until = self.now.mono.saturating_add(Duration::from_secs(seconds));
        while let Some(deadline) = self.shard.poll_timeout().filter(|d| d.at <= until) {
            self.now = at(deadline.at.as_nanos().max(self.now.mono.as_nanos()));
            self.shard.handle_timeout(self.now);
            self.turn();
        }
        self.now = at(until.as_nanos());
    }

    pub(crate) fn turn(&mut self) {
        let now = self.pass(self.step);
        self.shard.handle_turn(now);
        while let Some(action) = self.shard.poll_action() {
            let now = self.pass(self.step);
            match action {
                Action::Write(id) => {
                    while let Some(queued) = self.shard.outbox(id).map(|out| out.queued()) {
                        let n = (queued as usize).div_ceil(if self.eager { 1 } else { 2 });
                        if n == 0 {
                            break;
                        }
                        let now = self.pass(self.step);
                        self.shard.handle_sent(now, id, n);
                    }
                }
                Action::Dial(id, Target::Address(address)) => {
                    let peer = Peer { address, local: "[::1]:5".parse().unwrap() };
                    self.ids.push(id);
                    self.shard.handle_connected(now, id, peer);
                }
                Action::Dial(id, _) => self.shard.handle_failed(now, id, Failure::NotFound),
                Action::Request(id, effect) => self.answer(now, id, &effect),
                _ => {}
            }
        }
        while self.shard.poll_report().is_some() {}
    }

    fn answer(&mut self, now: Now, id: RequestId, effect: &Effect) {
        let metadata = Metadata {
            len: 100,
            modified: UnixTime::from_nanos(1_700_000_000_123_456_789),
            kind: FileKind::File,
            stamp: u64::MAX - 1,
        };
        let entries = [Entry { name: "ü \"quoted\"\\".into(), metadata }];
        let addresses: [SocketAddr; 2] = [
            std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 9, 77, 3).into(),
            "192.0.2.1:9".parse().unwrap(),
        ];
        let reply = match effect {
            Effect::Open { .. } => Reply::Opened { file: FileId(1), metadata },
            Effect::Stat { .. } | Effect::StatFile { .. } => Reply::Found(metadata),
            Effect::List { .. } => Reply::Listed(&entries),
            Effect::Read { .. } => Reply::Read(b"\x00\x01read"),
            Effect::Resolve { .. } => Reply::Resolved(&addresses),
            Effect::Rename { .. } => Reply::Failed(Failure::Denied),
            Effect::Remove { .. } => return, // cancelled
            _ => Reply::Done,
        };
        self.shard.handle_reply(now, id, reply);
    }
}

/// A run with everything in it; `step` is the time between two calls.
pub(crate) fn everything(step: u64) -> Vec<u8> {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), step);
    let a = host.accept("127.0.0.1:1000").unwrap();
    let b = host.accept("[2001:db8::1]:2000").unwrap();
    assert_eq!(host.accept("127.0.0.1:6666"), None);
    host.receive(a, "hello, wörld\n".as_bytes());
    host.receive(b, b"\x01\x02\xff binary");
    host.ask(Ask::Dial);
    host.receive(a, b"to the dialled\r\n");
    host.ask(Ask::Effects);
    host.ask(Ask::Say("to all".into()));
    host.ask(Ask::Raw(vec![0xc3, 0x28, 0]));
    host.wait(2);
    host.receive(a, &b"long ".repeat(1_000));
    host.receive(b, b"now a zero: \0");
    let now = host.pass(step);
    host.shard.handle_eof(now, b);
    host.turn();
    host.wait(7);
    let c = host.accept("127.0.0.1:3000").unwrap();
    host.receive(c, b"quit soon");
    let now = host.pass(step);
    host.shard.handle_failed(now, c, Failure::Reset);
    host.turn();
    let d = host.accept("127.0.0.1:4000").unwrap();
    host.ask(Ask::Quit);
    let now = host.pass(step);
    host.shard.handle_eof(now, d);
    host.turn();
    drop(host);
    trace.lock().unwrap().clone()
}

/// A short run: one connection, some bytes, one tick.
pub(crate) fn little() -> Vec<u8> {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), 1_000);
    let a = host.accept("127.0.0.1:1000").unwrap();
    host.receive(a, b"hi\xff");
    host.ask(Ask::Say("a word\n".into()));
    host.wait(1);
    host.ask(Ask::Quit);
    drop(host);
    trace.lock().unwrap().clone()
}

pub(crate) fn header() -> Header {
    let mut header = Header::new("relay");
    header.title = "a run of the relay".into();
    header.vantage_point = "server".into();
    header.config.insert("greeting".into(), "none \u{1f600}".into());
    header.seed = Some(Seed::from_u64(7));
    header.secret.insert("seed".into());
    header.limits.mark = 4096;
    header
}

/// As the header says, for replay.
pub(crate) fn shard(header: &Header, fault: Option<&'static str>) -> Shard<Pipe, Relay> {
    Shard::new(Relay::new(fault), header.limits)
}

pub(crate) fn at(nanos: u64) -> Now {
    Now {
        mono: Instant::from_nanos(nanos),
        unix: UnixTime::from_nanos(1_763_000_000_000_000_000 + nanos),
    }
}

pub(crate) fn peer(address: &str) -> Peer {
    Peer { address: address.parse().unwrap(), local: "127.0.0.1:8000".parse().unwrap() }
}
