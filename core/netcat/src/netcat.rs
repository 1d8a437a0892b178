//! What stands above the connections: one that is dialled, one that is waited for, or many.
//!
//! | step | on | does |
//! |---|---|---|
//! | dialling | it stands | input is sent, what comes is told |
//! | dialling | it fails, or [`NetcatConfig::wait`] is over | over |
//! | listening for one | a peer | no other is accepted; as dialled |
//! | listening for many | a peer | input goes to all; with a broker, what one says goes to all others |
//! | connected | the end of input | as [`InputEnd`] says; a peer that has finished too is finished |
//! | connected | the peer's end | as [`PeerEnd`] says; once input is over, finished |
//! | connected to one | it is closed | over |
//! | any | [`NetcatMessage::Interrupt`] | closes all, over |
//!
//! Nothing waits without a bound. Input is taken while all that it goes to have room, so the slowest sets
//! the pace; at most [`AHEAD`] bytes wait. What is told waits to be taken, at most [`WINDOW`] bytes, then
//! no peer is read from. Among many, whoever takes too little for [`STALL`] while others wait is cut.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::convert::Infallible;
use core::time::Duration;
use semfio_machine::{Closed, ConnId, Deadline, Failure, Instant, Net, Now, Peer, Service, Target};

use crate::link::{Link, LinkCommand, LinkConfig, LinkEvent};

/// Bytes of input that may wait to be sent: a few reads of a pipe, so that it never runs dry.
pub const AHEAD: usize = 256 * 1024;
/// Bytes that may be told and not be taken.
pub const WINDOW: u64 = 256 * 1024;
/// How long nothing comes after a message: longer than between the segments of one write, shorter than
/// people notice.
pub const PAUSE: Duration = Duration::from_millis(50);
/// How long one of many may hold up the others.
pub const STALL: Duration = Duration::from_secs(10);
/// Peers at once: each costs two descriptors' worth of memory at most times the mark, 64 MiB in all.
pub const PEERS: usize = 1024;

/// What a [`Netcat`] does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetcatConfig {
    /// Whom to dial; without, peers connect.
    pub target: Option<Target>,
    /// Many peers, one after the other and at once. Only without a target.
    pub many: bool,
    /// What one peer says goes to all others. Only with many.
    pub broker: bool,
    /// What each message is answered with: what comes until nothing has come for [`PAUSE`]. Who does not
    /// read the answers gets no more of them.
    pub reply: Option<Bytes>,
    /// How long dialling may take, and a connection may be idle. Default: for ever.
    pub wait: Option<Duration>,
    /// What the end of input means.
    pub input_end: InputEnd,
    /// What the end of a peer means.
    pub peer_end: PeerEnd,
}

/// What the end of input means to the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputEnd {
    /// Nothing: they stay until their peers end too.
    #[default]
    Keep,
    /// Their sending half ends.
    Finish,
    /// Their sending half ends, and after this time all of it.
    Quit(Duration),
}

/// What it means that a peer has finished sending. Of many, each is finished with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerEnd {
    /// It may be sent to, until input ends too.
    #[default]
    SendOn,
    /// It is finished with.
    Finish,
}

/// What an application says to a [`Netcat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetcatMessage {
    /// Send this; to be answered with [`NetcatReport::Sent`]. No more than [`AHEAD`] may be unanswered.
    Input(Bytes),
    /// There is no more input.
    InputEnd,
    /// So many bytes of what was told are taken.
    Taken(u64),
    /// Close all and stop.
    Interrupt,
}

/// What a [`Netcat`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetcatReport {
    /// A connection stands.
    Opened(ConnId, Peer),
    /// Bytes came; to be answered with [`NetcatMessage::Taken`].
    Received(ConnId, Bytes),
    /// What this one has said so far is a message. Told of many, and where there is a reply.
    Message(ConnId),
    /// It has finished sending.
    PeerEnded(ConnId),
    /// Nothing has moved there for the time to wait.
    Idle(ConnId),
    /// It took too little while others waited, and is cut.
    Stalled(ConnId),
    /// It is over.
    Closed {
        /// Which.
        conn: ConnId,
        /// With whom, if it stood.
        peer: Option<Peer>,
        /// Bytes that came.
        received: u64,
        /// Bytes that were given to it; after a failure maybe not all have arrived.
        given: u64,
        /// Why.
        why: Closed<Infallible>,
    },
    /// This input is on its way.
    Sent(Bytes),
    /// So many bytes of input were more than may wait, and are dropped.
    Overrun(usize),
    /// All is over.
    Over(Outcome),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides have finished, or the time after the end of input is over.
    Done,
    /// Nothing has moved for the time to wait.
    Idle,
    /// It could not be dialled.
    Unreached(Failure),
    /// The connection broke.
    Broken(Failure),
    /// It was interrupted.
    Interrupted,
}

/// A netcat over TCP. It dials when the host first calls `handle_timeout`, which is due at once.
#[derive(Debug)]
pub struct Netcat {
    config: NetcatConfig,
    conns: BTreeMap<ConnId, Conn>,
    input: VecDeque<Bytes>,
    /// Bytes in it.
    held: usize,
    input_ends: bool,
    /// All input is sent, and what its end means is done.
    input_over: bool,
    /// Bytes told and not taken.
    told: u64,
    paused: bool,
    dial: Option<Deadline>,
    quit: Option<Deadline>,
    outcome: Option<Outcome>,
    over: bool,
    reports: VecDeque<NetcatReport>,
}

#[derive(Debug, Default)]
struct Conn {
    peer: Option<Peer>,
    received: u64,
    given: u64,
    ended: bool,
    idle: bool,
    /// Since when others wait for it.
    full: Option<Instant>,
}

impl Netcat {
    /// One that has not begun.
    pub fn new(config: NetcatConfig) -> Self {
        let dial = config.target.is_some();
        Self {
            config,
            conns: BTreeMap::new(),
            input: VecDeque::new(),
            held: 0,
            input_ends: false,
            input_over: false,
            told: 0,
            paused: false,
            dial: dial.then_some(Deadline { at: Instant::default(), why: "dial" }),
            quit: None,
            outcome: None,
            over: false,
            reports: VecDeque::new(),
        }
    }

    fn link(&self) -> Link {
        let messages = self.config.many || self.config.reply.is_some();
        Link::new(LinkConfig { idle: self.config.wait, pause: messages.then_some(PAUSE) })
    }

    /// Those that take input, in their order.
    fn takers(&self, net: &Net<Link>) -> Vec<ConnId> {
        let takes = |id: &&ConnId| net.machine(**id).is_some_and(Link::takes);
        let standing = self.conns.iter().filter(|(_, conn)| conn.peer.is_some());
        standing.map(|(id, _)| id).filter(takes).copied().collect()
    }

    fn give(&mut self, now: Now, to: ConnId, bytes: &Bytes, net: &mut Net<Link>) {
        if net.send(to, LinkCommand::Send(bytes)).is_err() {
            return;
        }
        if let Some(conn) = self.conns.get_mut(&to) {
            conn.given = conn.given.saturating_add(bytes.len() as u64);
            if !net.has_room(to) {
                conn.full.get_or_insert(now.mono);
            }
        }
    }

    /// Sends input, as long as everybody has room for it.
    fn feed(&mut self, now: Now, net: &mut Net<Link>) {
        while !self.input.is_empty() {
            let takers = self.takers(net);
            let full = |id: &ConnId| !net.has_room(*id);
            if takers.is_empty() || takers.iter().any(full) {
                return;
            }
            let Some(bytes) = self.input.pop_front() else { return };
            self.held = self.held.saturating_sub(bytes.len());
            for id in takers {
                self.give(now, id, &bytes, net);
            }
            self.reports.push_back(NetcatReport::Sent(bytes));
        }
        let stands = self.conns.values().any(|conn| conn.peer.is_some());
        if self.input_ends && !self.input_over && stands {
            self.input_over = true;
            if let InputEnd::Quit(after) = self.config.input_end {
                self.quit = Some(Deadline { at: now.mono.saturating_add(after), why: "quit" });
            }
            for id in self.takers(net) {
                self.finish_if_due(id, net);
            }
        }
    }

    /// Ends the sending half of a connection, if it is time.
    fn finish_if_due(&mut self, id: ConnId, net: &mut Net<Link>) {
        let ended = self.conns.get(&id).is_some_and(|conn| conn.ended);
        let alone = self.config.many || self.config.peer_end == PeerEnd::Finish;
        let by_input = self.input_over && (ended || self.config.input_end != InputEnd::Keep);
        if by_input || ended && alone {
            // Refused only if it has finished before.
            let _ = net.send(id, LinkCommand::Finish);
        }
    }

    /// Stops reading from all, or goes on.
    fn keep_pace(&mut self, net: &mut Net<Link>) {
        let untaken = match self.paused {
            true => self.told > WINDOW / 2,
            false => self.told >= WINDOW,
        };
        let full = self.config.broker && self.conns.values().any(|conn| conn.full.is_some());
        if (untaken || full) == self.paused {
            return;
        }
        self.paused = !self.paused;
        for &id in self.conns.keys() {
            if self.paused {
                net.pause(id);
            } else {
                let _ = net.send(id, LinkCommand::Excuse);
                net.resume(id);
            }
        }
    }

    fn leave(&mut self, outcome: Outcome, net: &mut Net<Link>) {
        if self.outcome.is_some() {
            return;
        }
        self.outcome = Some(outcome);
        (self.dial, self.quit) = (None, None);
        net.stop();
        self.conns.keys().for_each(|&id| net.close(id));
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if let (Some(outcome), true, false) = (self.outcome, self.conns.is_empty(), self.over) {
            self.over = true;
            self.reports.push_back(NetcatReport::Over(outcome));
        }
    }
}

impl Service<Link> for Netcat {
    type Message = NetcatMessage;
    type Report = NetcatReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Link> {
        let place = match self.config.many {
            true => self.conns.len() < PEERS,
            false => self.conns.is_empty(),
        };
        (place && self.config.target.is_none() && self.outcome.is_none()).then(|| self.link())
    }

    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<Link>) {
        if self.outcome.is_some() {
            return;
        }
        if self.config.target.is_some() {
            self.dial = None;
            // A socket that met itself: nobody listens there.
            if peer.address == peer.local {
                self.outcome = Some(Outcome::Unreached(Failure::Refused));
                net.stop();
                return net.abort(conn);
            }
        } else if !self.config.many {
            net.stop();
        }
        self.conns.insert(conn, Conn { peer: Some(*peer), ..Conn::default() });
        self.reports.push_back(NetcatReport::Opened(conn, *peer));
        if self.paused {
            net.pause(conn);
        }
        self.finish_if_due(conn, net);
        self.feed(now, net);
    }

    fn handle_event(&mut self, now: Now, from: ConnId, event: LinkEvent<'_>, net: &mut Net<Link>) {
        let Some(conn) = self.conns.get_mut(&from) else { return };
        match event {
            LinkEvent::Received(bytes) => {
                conn.received = conn.received.saturating_add(bytes.len() as u64);
                self.told = self.told.saturating_add(bytes.len() as u64);
                let bytes = Bytes::copy_from_slice(bytes);
                if self.config.broker {
                    for id in self.takers(net).into_iter().filter(|&id| id != from) {
                        self.give(now, id, &bytes, net);
                    }
                }
                self.reports.push_back(NetcatReport::Received(from, bytes));
                self.keep_pace(net);
            }
            LinkEvent::Paused => {
                self.reports.push_back(NetcatReport::Message(from));
                if let Some(reply) = self.config.reply.clone() {
                    if net.has_room(from) {
                        self.give(now, from, &reply, net);
                    }
                }
            }
            LinkEvent::Ended => {
                conn.ended = true;
                self.reports.push_back(NetcatReport::PeerEnded(from));
                self.finish_if_due(from, net);
            }
            LinkEvent::Idle => {
                conn.idle = true;
                self.reports.push_back(NetcatReport::Idle(from));
            }
        }
    }

    fn handle_room(&mut self, now: Now, conn: ConnId, net: &mut Net<Link>) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.full = None;
        }
        self.feed(now, net);
        self.keep_pace(net);
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        net: &mut Net<Link>,
    ) {
        let gone = self.conns.remove(&conn).unwrap_or_default();
        let Conn { peer, received, given, idle, .. } = gone;
        self.reports.push_back(NetcatReport::Closed { conn, peer, received, given, why });
        if !self.config.many && self.outcome.is_none() {
            self.outcome = Some(match why {
                Closed::Failed(failure) if peer.is_none() => Outcome::Unreached(failure),
                Closed::Failed(failure) => Outcome::Broken(failure),
                _ if idle => Outcome::Idle,
                _ => Outcome::Done,
            });
            (self.dial, self.quit) = (None, None);
            net.stop();
        }
        if self.outcome.is_none() {
            self.feed(now, net);
            self.keep_pace(net);
        }
        self.end_if_empty();
    }

    fn handle_message(&mut self, now: Now, message: NetcatMessage, net: &mut Net<Link>) {
        match message {
            NetcatMessage::Input(bytes) => {
                let held = self.held.saturating_add(bytes.len());
                if held > AHEAD || self.input_ends {
                    return self.reports.push_back(NetcatReport::Overrun(bytes.len()));
                }
                self.held = held;
                self.input.push_back(bytes);
                self.feed(now, net);
                self.keep_pace(net);
            }
            NetcatMessage::InputEnd => {
                self.input_ends = true;
                self.feed(now, net);
            }
            NetcatMessage::Taken(bytes) => {
                self.told = self.told.saturating_sub(bytes);
                self.keep_pace(net);
            }
            NetcatMessage::Interrupt => self.leave(Outcome::Interrupted, net),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let stalls = self.conns.values().filter_map(|conn| conn.full).min();
        let stall = stalls
            .filter(|_| self.config.many)
            .map(|since| Deadline { at: since.saturating_add(STALL), why: "stall" });
        Deadline::earlier(Deadline::earlier(self.dial, self.quit), stall)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Link>) {
        let due = |deadline: &Deadline| deadline.at <= now.mono;
        if self.quit.take_if(|quit| due(quit)).is_some() {
            return self.leave(Outcome::Done, net);
        }
        if self.dial.take_if(|dial| due(dial)).is_some() {
            let Some(target) = self.config.target.clone().filter(|_| self.conns.is_empty()) else {
                return self.leave(Outcome::Unreached(Failure::TimedOut), net);
            };
            let conn = net.dial(target, self.link());
            self.conns.insert(conn, Conn::default());
            let by = self.config.wait.map(|wait| now.mono.saturating_add(wait));
            self.dial = by.map(|at| Deadline { at, why: "dial" });
        }
        if self.config.many {
            for (&id, conn) in &mut self.conns {
                let stalled = |since: &mut Instant| since.saturating_add(STALL) <= now.mono;
                if conn.full.take_if(stalled).is_some() {
                    self.reports.push_back(NetcatReport::Stalled(id));
                    net.abort(id);
                }
            }
        }
    }

    fn poll_report(&mut self) -> Option<NetcatReport> {
        self.reports.pop_front()
    }
}
