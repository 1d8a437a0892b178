//! The protocol the hosts are tried with: lines that say what the service shall do.
//!
//! A line is one command. What the machine and its host do with it is reported, line by line.
//!
//! | command         | what follows                                                            |
//! |-----------------|-------------------------------------------------------------------------|
//! | `ECHO text`     | `text`                                                                  |
//! | `TURN text`     | `text`, sent in `handle_turn`                                           |
//! | `BIG n`         | n bytes by the machine, which waits for room                            |
//! | `FLOOD n`       | n blocks of 1 KiB by the service, which waits for `handle_room`         |
//! | `SLEEP ms k`    | `WOKE k` by a timer of the machine                                      |
//! | `NAP ms`        | `RESTED` when the turn ends in which a timer of the service fires       |
//! | `PAUSE`         | no more is read until the application says so                           |
//! | `SHUT`          | our sending half is closed, lines are still taken                       |
//! | `CLOSE` `ABORT` | the connection is closed, or cut                                        |
//! | `DIAL a`        | a connection to `a`, which is told `HELLO`                              |
//! | `DIALCUT a`     | the same, closed before it can stand                                    |
//! | `WATCH p`       | `CHANGED p` once the path may lead to something else                    |
//! | `UNWATCH p`     | the same no more                                                        |
//! | `HOLD`          | the service waits within this call, until it is let go                  |
//! | `STOP` `DRAIN`  | the host ends; after `DRAIN` who waits to be accepted is still served   |
//! | `HOLDTURN`      | the same within `handle_turn`                                           |
//! | `FILE p`        | `SIZE n` and the file as a span, or `FAILED`                            |
//! | `READ p`        | `READ n` and the bytes by an effect                                     |
//! | `CANCEL p`      | a request that is cancelled at once                                     |
//! | `NAME n`        | `KNOWN` or `FAILED`                                                     |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use semfio_machine::{
    Closed, ConnId, Deadline, Effect, FileId, FileSpan, Input, Instant, Net, Now, OpenMode, Outbox,
    Peer, Refused, Reply, RequestId, RootId, Service, Step, StreamMachine, Target,
};

use crate::hosts::PATIENCE;

/// The longest line, its end included.
pub(crate) const MAX_LINE: usize = 256;

/// One block of a flood.
pub(crate) const BLOCK: usize = 1024;

/// What `BIG` and `FLOOD` send: no two places within 251 bytes of each other look the same.
pub(crate) fn pattern(from: u64, len: usize) -> Vec<u8> {
    let cycle: Vec<u8> = (0..251).collect();
    let start = (from % 251) as usize;
    let mut bytes = cycle.repeat((start + len) / 251 + 1);
    bytes.truncate(start + len);
    bytes.drain(..start);
    bytes
}

/// One side of the dialogue.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    big: (u64, u64),
    timers: BTreeSet<(Instant, u32)>,
    woken: VecDeque<u32>,
    end_told: bool,
    done: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'i> {
    Line(&'i [u8]),
    /// What stood before the end without the end of a line.
    Tail(&'i [u8]),
    End,
    Woke(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'c> {
    Say(&'c [u8]),
    File(FileSpan),
    Big(u64),
    Sleep(Instant, u32),
    Shut,
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    TooLong,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a line is too long")
    }
}

impl std::error::Error for Broken {}

impl StreamMachine for Lines {
    type Event<'i> = Event<'i>;
    type Command<'c> = Command<'c>;
    type Error = Broken;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        MAX_LINE
    }

    fn state(&self) -> &'static str {
        match (self.done, self.end_told) {
            (true, _) => "Done",
            (false, true) => "Ended",
            (false, false) => "Open",
        }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<Event<'i>>, Broken> {
        if let Some(label) = self.woken.pop_front() {
            return Ok(Step::Event(Event::Woke(label)));
        }
        while self.big.0 < self.big.1 {
            if out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let left = usize::try_from(self.big.1 - self.big.0).unwrap_or(usize::MAX);
            let n = left.min(out.room()).min(4096);
            out.put(&pattern(self.big.0, n));
            self.big.0 += n as u64;
        }
        if self.done {
            return Ok(Step::Done);
        }
        let seen = &input.peek()[..input.len().min(MAX_LINE)];
        if let Some(end) = seen.iter().position(|&byte| byte == b'\n') {
            let line = input.take(end + 1);
            return Ok(Step::Event(Event::Line(&line[..end])));
        }
        if seen.len() == MAX_LINE {
            out.put(b"TOO LONG\n");
            return Err(Broken::TooLong);
        }
        if !input.at_eof() {
            return Ok(Step::NeedInput(1));
        }
        if !input.is_empty() {
            return Ok(Step::Event(Event::Tail(input.take(MAX_LINE))));
        }
        if !self.end_told {
            self.end_told = true;
            return Ok(Step::Event(Event::End));
        }
        Ok(Step::NeedCommand)
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if out.is_finished() && !matches!(command, Command::Finish | Command::Sleep(..)) {
            return Err(Refused::State("Shut"));
        }
        match command {
            Command::Say(bytes) => out.put(bytes),
            Command::File(span) => out.put_file(span),
            Command::Big(n) => self.big = (0, n),
            Command::Sleep(at, label) => {
                self.timers.insert((at, label));
            }
            Command::Shut => out.finish(),
            Command::Finish => self.done = true,
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let &(at, _) = self.timers.first()?;
        Some(Deadline { at, why: "sleep" })
    }

    fn handle_timeout(&mut self, now: Now, _: &mut Outbox) {
        while self.timers.first().is_some_and(|timer| timer.0 <= now.mono) {
            self.woken.extend(self.timers.pop_first().map(|timer| timer.1));
        }
    }
}

/// What the application says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Read on from the connection of this number.
    Resume(u32),
    /// Say a line on it.
    Say(u32, String),
    /// Report numbers only from now on: a crowd comes and goes in no fixed order.
    Quiet,
    /// Say `BYE` to all, close all, end.
    Stop,
}

/// Does what the lines say, and reports what it sees.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    /// A planted fault: the event of this number is not seen.
    deaf_to: Option<u64>,
    events: u64,
    /// Connections so far; each has its number for a name.
    named: u32,
    conns: BTreeMap<ConnId, Conn>,
    requests: BTreeMap<RequestId, Request>,
    naps: BTreeMap<(Instant, ConnId), ()>,
    quiet: bool,
    reports: VecDeque<String>,
    /// Where `HOLD` waits, on a host that may.
    gate: Option<Arc<Gate>>,
    holds_turn: bool,
}

/// Holds a service up within a call, until it is let go: whatever comes meanwhile, comes to one turn.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How often the service was held up, and how often it was let go.
    counts: Mutex<(u32, u32)>,
    changed: Condvar,
}

impl Gate {
    /// The service waits to be let go.
    fn hold(&self) {
        let mut counts = self.counts.lock().unwrap();
        counts.0 += 1;
        let mine = counts.0;
        self.changed.notify_all();
        drop(self.wait(counts, |counts| counts.1 >= mine));
    }

    /// Waits until it is held up.
    pub(crate) fn held(&self) -> Result<(), String> {
        let counts = self.counts.lock().unwrap();
        let counts = self.wait(counts, |counts| counts.0 > counts.1);
        if counts.0 > counts.1 { Ok(()) } else { Err("it is not held up".into()) }
    }

    pub(crate) fn let_go(&self) {
        self.counts.lock().unwrap().1 += 1;
        self.changed.notify_all();
    }

    fn wait<'g>(
        &'g self,
        counts: MutexGuard<'g, (u32, u32)>,
        until: impl Fn(&(u32, u32)) -> bool,
    ) -> MutexGuard<'g, (u32, u32)> {
        let wait = self.changed.wait_timeout_while(counts, PATIENCE, |counts| !until(counts));
        wait.unwrap().0
    }
}

#[derive(Debug)]
struct Conn {
    name: u32,
    sleeping: u32,
    flood: Option<Flood>,
    owed: Vec<u8>,
    ended: bool,
    dialled: bool,
}

#[derive(Debug)]
struct Flood {
    sent: u64,
    left: u64,
    waited: bool,
    peak: u64,
}

#[derive(Debug)]
enum Request {
    File(ConnId),
    Read(ConnId),
    Piece(ConnId, FileId),
    Name(ConnId),
    Watch(ConnId, String),
}

impl Service<Lines> for Scripted {
    type Message = Message;
    type Report = String;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Lines> {
        Some(Lines::default())
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<Lines>) {
        if !self.conns.contains_key(&conn) {
            self.name(conn, false);
        }
        self.note(conn, "opened");
        if self.conns[&conn].dialled {
            self.say(conn, b"HELLO", net);
        }
        if self.quiet {
            self.reports.push_back(format!("{} are there", self.conns.len()));
        }
    }

    fn handle_event(&mut self, now: Now, from: ConnId, event: Event<'_>, net: &mut Net<Lines>) {
        self.events += 1;
        if self.deaf_to == Some(self.events) {
            return;
        }
        match event {
            Event::Line(line) => {
                let line = String::from_utf8_lossy(line).into_owned();
                // Addresses differ from run to run.
                let told = if line.starts_with("DIAL") { "DIAL" } else { &line };
                self.note(from, &format!("line {told}"));
                self.obey(now, from, &line, net);
            }
            Event::Tail(tail) => {
                let tail = String::from_utf8_lossy(tail).into_owned();
                self.note(from, &format!("tail {tail}"));
                self.obey(now, from, &tail, net);
            }
            Event::End => {
                self.note(from, "end");
                self.conn(from).ended = true;
                self.finish_if_idle(from, net);
            }
            Event::Woke(label) => {
                self.note(from, &format!("woke {label}"));
                self.say(from, format!("WOKE {label}").as_bytes(), net);
                self.conn(from).sleeping -= 1;
                self.finish_if_idle(from, net);
            }
        }
    }

    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Lines>) {
        self.flood(conn, net);
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, why: Closed<Broken>, _: &mut Net<Lines>) {
        self.note(conn, &format!("closed {why:?}"));
        self.conns.remove(&conn);
        self.naps.retain(|nap, ()| nap.1 != conn);
        if self.quiet {
            self.reports.push_back(format!("{} are there", self.conns.len()));
        }
    }

    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Lines>) {
        let Some(request) = self.requests.remove(&id) else {
            self.reports.push_back("a reply that was cancelled".into());
            return;
        };
        match (request, reply) {
            (Request::File(conn), Reply::Opened { file, metadata }) => {
                self.note(conn, &format!("file of {}", metadata.len));
                self.say(conn, format!("SIZE {}", metadata.len).as_bytes(), net);
                let (offset, len) = (0, metadata.len);
                let _ = net.send(conn, Command::File(FileSpan { file, offset, len }));
                net.release(file, Some(conn));
                self.finish_if_idle(conn, net);
            }
            (Request::Read(conn), Reply::Opened { file, metadata }) => {
                let len = u32::try_from(metadata.len).unwrap_or(u32::MAX);
                let offset = 0;
                let id = net.request(Effect::Read { file, offset, len });
                self.requests.insert(id, Request::Piece(conn, file));
            }
            (Request::Piece(conn, file), Reply::Read(bytes)) => {
                net.release(file, None);
                self.note(conn, &format!("read {}", bytes.len()));
                self.say(conn, format!("READ {}", bytes.len()).as_bytes(), net);
                self.say(conn, bytes, net);
            }
            (Request::Name(conn), Reply::Resolved(addresses)) => {
                self.note(conn, &format!("known {}", !addresses.is_empty()));
                self.say(conn, b"KNOWN", net);
            }
            (Request::Watch(conn, path), Reply::Done) => {
                self.note(conn, &format!("changed {path}"));
                self.say(conn, format!("CHANGED {path}").as_bytes(), net);
            }
            (
                Request::File(conn)
                | Request::Watch(conn, _)
                | Request::Read(conn)
                | Request::Piece(conn, _)
                | Request::Name(conn),
                reply,
            ) => {
                self.note(conn, &format!("answer {reply:?}"));
                self.say(conn, b"FAILED", net);
            }
        }
    }

    fn handle_message(&mut self, _: Now, message: Message, net: &mut Net<Lines>) {
        match message {
            Message::Resume(name) => {
                if let Some(conn) = self.named(name) {
                    self.note(conn, "resumed");
                    net.resume(conn);
                }
            }
            Message::Say(name, text) => {
                if let Some(conn) = self.named(name) {
                    self.say(conn, text.as_bytes(), net);
                }
            }
            Message::Quiet => {
                self.reports.push_back("quiet".into());
                self.quiet = true;
            }
            Message::Stop => {
                self.reports.push_back("stopping".into());
                let conns: Vec<_> = self.conns.keys().copied().collect();
                for conn in conns {
                    self.say(conn, b"BYE", net);
                    net.close(conn);
                }
                net.stop();
            }
        }
    }

    fn handle_turn(&mut self, _: Now, net: &mut Net<Lines>) {
        if let (true, Some(gate)) = (std::mem::take(&mut self.holds_turn), &self.gate) {
            gate.hold();
        }
        for (&id, conn) in &mut self.conns {
            if !conn.owed.is_empty() {
                let owed = std::mem::take(&mut conn.owed);
                let _ = net.send(id, Command::Say(&owed));
            }
            if let Some(flood) = &mut conn.flood {
                flood.peak = flood.peak.max(net.queued(id));
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let (&(at, _), ()) = self.naps.first_key_value()?;
        Some(Deadline { at, why: "nap" })
    }

    fn handle_timeout(&mut self, now: Now, _: &mut Net<Lines>) {
        while let Some((&(at, conn), ())) = self.naps.first_key_value() {
            if at > now.mono {
                break;
            }
            self.naps.remove(&(at, conn));
            self.note(conn, "rested");
            self.conn(conn).owed.extend_from_slice(b"RESTED\n");
        }
    }

    fn poll_report(&mut self) -> Option<String> {
        self.reports.pop_front()
    }
}

impl Scripted {
    /// A service with a fault: it does not see its n-th event.
    pub(crate) fn deaf_to(n: u64) -> Self {
        Self { deaf_to: Some(n), ..Self::default() }
    }

    /// The same, held up at `gate`.
    pub(crate) fn with_gate(self, gate: Arc<Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    fn obey(&mut self, now: Now, from: ConnId, line: &str, net: &mut Net<Lines>) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let open = || Effect::Open { root: RootId(0), path: rest.into(), mode: OpenMode::Read };
        match command {
            "ECHO" => self.say(from, rest.as_bytes(), net),
            "TURN" => {
                let owed = &mut self.conn(from).owed;
                owed.extend_from_slice(rest.as_bytes());
                owed.push(b'\n');
            }
            "BIG" => {
                let _ = net.send(from, Command::Big(number(rest)));
            }
            "FLOOD" => {
                self.conn(from).flood =
                    Some(Flood { sent: 0, left: number(rest), waited: false, peak: 0 });
                self.flood(from, net);
            }
            "SLEEP" => {
                let (ms, label) = rest.split_once(' ').unwrap_or((rest, "0"));
                let at = now.mono.saturating_add(Duration::from_millis(number(ms)));
                let label = u32::try_from(number(label)).unwrap_or(0);
                if net.send(from, Command::Sleep(at, label)).is_ok() {
                    self.conn(from).sleeping += 1;
                }
            }
            "NAP" => {
                let after = Duration::from_millis(number(rest));
                self.naps.insert((now.mono.saturating_add(after), from), ());
            }
            "PAUSE" => net.pause(from),
            "SHUT" => {
                let _ = net.send(from, Command::Shut);
            }
            "CLOSE" => net.close(from),
            "ABORT" => net.abort(from),
            "DIAL" | "DIALCUT" => {
                let conn = net.dial(target(rest), Lines::default());
                self.name(conn, true);
                self.note(conn, "dialled");
                if command == "DIALCUT" {
                    net.close(conn);
                }
            }
            "FILE" => {
                let id = net.request(open());
                self.requests.insert(id, Request::File(from));
            }
            "READ" => {
                let id = net.request(open());
                self.requests.insert(id, Request::Read(from));
            }
            "WATCH" => {
                let id = net.request(Effect::Watch { root: RootId(0), path: rest.into() });
                self.requests.insert(id, Request::Watch(from, rest.into()));
            }
            "UNWATCH" => {
                let watches =
                    |request: &Request| matches!(request, Request::Watch(_, path) if path == rest);
                let found = self.requests.iter().find(|(_, request)| watches(request));
                if let Some((&id, _)) = found {
                    self.requests.remove(&id);
                    net.cancel(id);
                }
            }
            "DRAIN" => net.drain(),
            "STOP" => net.stop(),
            "HOLDTURN" => self.holds_turn = true,
            "HOLD" => {
                if let Some(gate) = &self.gate {
                    gate.hold();
                }
            }
            "CANCEL" => {
                let id = net.request(open());
                net.cancel(id);
            }
            "NAME" => {
                let (name, port) = (rest.into(), 80);
                let id = net.request(Effect::Resolve { name, port });
                self.requests.insert(id, Request::Name(from));
            }
            _ => self.note(from, "does not understand"),
        }
    }

    fn flood(&mut self, id: ConnId, net: &mut Net<Lines>) {
        let Some(flood) = self.conns.get_mut(&id).and_then(|c| c.flood.as_mut()) else {
            return;
        };
        while flood.left > 0 && net.has_room(id) {
            let at = flood.sent * BLOCK as u64;
            let block = pattern(at, BLOCK);
            if net.send(id, Command::Say(&block)).is_err() {
                break;
            }
            flood.sent += 1;
            flood.left -= 1;
        }
        flood.peak = flood.peak.max(net.queued(id));
        if flood.left > 0 {
            if !std::mem::replace(&mut flood.waited, true) {
                self.note(id, "waits for room");
            }
            return;
        }
        let waited = flood.waited;
        let bounded = flood.peak <= (Outbox::MARK + 2 * BLOCK) as u64;
        self.conn(id).flood = None;
        self.note(id, &format!("flooded; waited {waited}, bounded {bounded}"));
    }

    fn finish_if_idle(&mut self, id: ConnId, net: &mut Net<Lines>) {
        let conn = self.conn(id);
        let waits = |request: &Request| matches!(request, Request::File(of) if *of == id);
        if conn.ended && conn.sleeping == 0 && !self.requests.values().any(waits) {
            self.say(id, b"END", net);
            let _ = net.send(id, Command::Finish);
        }
    }

    fn say(&mut self, to: ConnId, line: &[u8], net: &mut Net<Lines>) {
        let mut line = line.to_vec();
        line.push(b'\n');
        if let Err(refused) = net.send(to, Command::Say(&line)) {
            self.note(to, &format!("refused: {refused}"));
        }
    }

    fn name(&mut self, id: ConnId, dialled: bool) {
        self.named += 1;
        let conn = Conn {
            name: self.named,
            sleeping: 0,
            flood: None,
            owed: Vec::new(),
            ended: false,
            dialled,
        };
        self.conns.insert(id, conn);
    }

    fn named(&self, name: u32) -> Option<ConnId> {
        let found = self.conns.iter().find(|(_, conn)| conn.name == name);
        found.map(|(&id, _)| id)
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        self.conns.get_mut(&id).expect("events come before the end")
    }

    fn note(&mut self, id: ConnId, what: &str) {
        if !self.quiet {
            let name = self.conns.get(&id).map_or(0, |conn| conn.name);
            self.reports.push_back(format!("{name} {what}"));
        }
    }
}

fn target(text: &str) -> Target {
    match text.parse() {
        Ok(address) => Target::Address(address),
        Err(_) => {
            let (name, port) = text.rsplit_once(':').unwrap_or((text, "0"));
            Target::Name(name.into(), port.parse().unwrap_or(0))
        }
    }
}
