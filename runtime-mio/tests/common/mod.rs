//! A small line protocol, its server, and a client of the standard library.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Failure, FileSpan, Input, Instant, Net, NetLimits, Now,
    OpenMode, Outbox, Peer, Refused, Reply, RequestId, RootId, Service, Shard, Step, StreamMachine,
    Target,
};
use semfio_runtime_mio::{Handle, Host, HostConfig};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Gives whole lines, or echoes whatever comes once it was told to.
#[derive(Debug, Default)]
pub struct Lines {
    echo: bool,
}

pub enum Command<'c> {
    Put(&'c [u8]),
    File(FileSpan),
    Echo,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the line is too long")
    }
}

impl std::error::Error for TooLong {}

impl StreamMachine for Lines {
    type Event<'i> = &'i [u8];
    type Command<'c> = Command<'c>;
    type Error = TooLong;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        100
    }

    fn state(&self) -> &'static str {
        if self.echo { "Echo" } else { "Lines" }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, TooLong> {
        if input.is_empty() {
            return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
        }
        if self.echo {
            if out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let bytes = input.take(out.room());
            out.put(bytes);
            return Ok(Step::Event(&[]));
        }
        match input.peek().iter().position(|&byte| byte == b'\n') {
            Some(end) if end < 100 => {
                let line = input.take(end + 1);
                Ok(Step::Event(&line[..end]))
            }
            None if input.at_eof() => Ok(Step::Done),
            None if input.len() < 100 => Ok(Step::NeedInput(1)),
            _ => Err(TooLong),
        }
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {
            Command::Put(bytes) => out.put(bytes),
            Command::File(span) => out.put_file(span),
            Command::Echo => self.echo = true,
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

#[derive(Debug)]
pub enum Message {
    Stop,
    Dial(Target, &'static str),
    Count,
    Resume,
}

#[derive(Debug, PartialEq)]
pub enum Report {
    Opened(Peer),
    Closed(Closed<TooLong>),
    Line(String),
    Counted(u32),
    Turn,
}

/// Does what the lines of its peers say, at the end of the turn; see `obey`.
#[derive(Debug, Default)]
pub struct Server {
    lines: Vec<(ConnId, String)>,
    reports: std::collections::VecDeque<Report>,
    burst: Vec<RequestId>,
    opening: Vec<(RequestId, ConnId, u64)>,
    dialled: Vec<(ConnId, &'static str)>,
    paused: Vec<ConnId>,
    open: Vec<ConnId>,
    wake: Option<Instant>,
    sleeper: Option<ConnId>,
    pub counted: u32,
    pub turned_away: bool,
}

impl Server {
    pub fn turning_away() -> Self {
        Self { turned_away: true, ..Self::default() }
    }

    fn stop(&mut self, net: &mut Net<Lines>) {
        net.stop();
        self.open.drain(..).for_each(|conn| net.close(conn));
    }

    fn obey(&mut self, conn: ConnId, line: &str, now: Now, net: &mut Net<Lines>) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "shout" => {
                let answer = format!("{}\n", rest.to_uppercase());
                net.send(conn, Command::Put(answer.as_bytes())).unwrap();
            }
            "echo" => {
                net.send(conn, Command::Put(b"echoing\n")).unwrap();
                net.send(conn, Command::Echo).unwrap();
            }
            "pause" => {
                self.paused.push(conn);
                net.pause(conn);
                net.send(conn, Command::Put(b"paused\n")).unwrap();
            }
            "flood" => {
                net.send(conn, Command::Put(&vec![7; rest.parse().unwrap()])).unwrap();
            }
            "close" => net.close(conn),
            "abort" => net.abort(conn),
            "stop" => self.stop(net),
            "sleep" => {
                self.wake = Some(now.mono.saturating_add(Duration::from_millis(30)));
                self.sleeper = Some(conn);
            }
            "burst" => {
                for _ in 0..rest.parse().unwrap() {
                    let (root, path) = (RootId(0), "file".to_owned());
                    self.burst.push(net.request(Effect::Stat { root, path }));
                }
                self.sleeper = Some(conn);
            }
            "file" => {
                let (len, path) = rest.split_once(' ').unwrap();
                let (root, mode) = (RootId(0), OpenMode::Read);
                let path = path.to_owned();
                let id = net.request(Effect::Open { root, path, mode });
                self.opening.push((id, conn, len.parse().unwrap()));
            }
            _ => self.reports.push_back(Report::Line(line.to_owned())),
        }
    }
}

impl Service<Lines> for Server {
    type Message = Message;
    type Report = Report;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Lines> {
        (!self.turned_away).then(Lines::default)
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, peer: &Peer, net: &mut Net<Lines>) {
        self.reports.push_back(Report::Opened(*peer));
        self.open.push(conn);
        if let Some((_, line)) = self.dialled.iter().find(|(id, _)| *id == conn) {
            net.send(conn, Command::Put(line.as_bytes())).unwrap();
        }
    }

    fn handle_event(&mut self, _: Now, from: ConnId, line: &[u8], _: &mut Net<Lines>) {
        if !line.is_empty() {
            let line = String::from_utf8(line.to_vec()).unwrap();
            self.lines.push((from, line));
        }
    }

    fn handle_closed(&mut self, _: Now, _: ConnId, why: Closed<TooLong>, _: &mut Net<Lines>) {
        self.reports.push_back(Report::Closed(why));
    }

    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Lines>) {
        if let Some(place) = self.burst.iter().position(|other| *other == id) {
            self.burst.remove(place);
            if self.burst.is_empty() {
                let asker = self.sleeper.take().unwrap();
                net.send(asker, Command::Put(b"all answered\n")).unwrap();
            }
            return;
        }
        let place = self.opening.iter().position(|opening| opening.0 == id);
        let (_, conn, len) = self.opening.remove(place.unwrap());
        match reply {
            Reply::Opened { file, .. } => {
                let span = FileSpan { file, offset: 0, len };
                net.send(conn, Command::File(span)).unwrap();
                net.release(file, Some(conn));
                net.close(conn);
            }
            other => {
                let answer = format!("{other:?}\n");
                net.send(conn, Command::Put(answer.as_bytes())).unwrap();
            }
        }
    }

    fn handle_message(&mut self, _: Now, message: Message, net: &mut Net<Lines>) {
        match message {
            Message::Stop => self.stop(net),
            Message::Dial(target, line) => {
                let conn = net.dial(target, Lines::default());
                self.dialled.push((conn, line));
            }
            Message::Count => {
                self.counted += 1;
                self.reports.push_back(Report::Counted(self.counted));
            }
            Message::Resume => self.paused.drain(..).for_each(|conn| net.resume(conn)),
        }
    }

    fn handle_turn(&mut self, now: Now, net: &mut Net<Lines>) {
        for (conn, line) in std::mem::take(&mut self.lines) {
            self.obey(conn, &line, now, net);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.wake?;
        Some(Deadline { at, why: "sleep" })
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Lines>) {
        if self.wake.is_some_and(|at| at <= now.mono) {
            self.wake = None;
            let sleeper = self.sleeper.take().unwrap();
            net.send(sleeper, Command::Put(b"awake\n")).unwrap();
        }
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}

/// A host in a thread of its own.
pub struct Running {
    pub address: SocketAddr,
    pub handle: Handle<Message>,
    pub reports: Receiver<Report>,
    thread: JoinHandle<std::io::Result<Server>>,
}

impl Running {
    pub fn start(config: HostConfig) -> Self {
        Self::with(config, Server::default(), Duration::from_millis(200))
    }

    pub fn with(config: HostConfig, server: Server, linger: Duration) -> Self {
        let limits = NetLimits { held: 32 * 1024 * 1024, linger, ..NetLimits::default() };
        let shard = Shard::new(server, limits);
        let mut host = Host::new(shard, config).unwrap();
        let address = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let handle = host.handle();
        let (sender, reports) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            host.run(|report| {
                let _ = sender.send(report);
            })
        });
        Self { address, handle, reports, thread }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn report(&self) -> Report {
        self.reports.recv_timeout(PATIENCE).expect("a report")
    }

    /// Skips reports until one says that a connection is closed.
    pub fn closed(&self) -> Closed<TooLong> {
        loop {
            if let Report::Closed(why) = self.report() {
                return why;
            }
        }
    }

    pub fn stop(self) -> Server {
        self.handle.send(Message::Stop).unwrap();
        self.join()
    }

    pub fn join(self) -> Server {
        self.thread.join().unwrap().unwrap()
    }
}

pub struct Client {
    pub stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Self { stream, lines }
    }

    pub fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Closes with a reset.
    pub fn reset(self) {
        semfio_runtime_os::tcp::set_reset(&self.stream);
    }
}

pub fn failed(why: Failure) -> Closed<TooLong> {
    Closed::Failed(why)
}
