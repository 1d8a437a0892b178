//! The half of an event loop that needs no I/O.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use crate::carry::Carry;
use crate::effect::{Failure, Reply, RequestId};
use crate::input::Input;
use crate::net::{self, Action, Conn, Need, Net, NetLimits, Phase};
use crate::outbox::Outbox;
use crate::service::{Closed, ConnId, Peer, Service};
use crate::stream::{Step, StreamMachine};
use crate::tap::{Tap, TapEntry};
use crate::time::{Deadline, Now};

/// A service and its connections, driven by any host: event loop, threads, simulator, replay.
///
/// All rules of the contract between [`StreamMachine`] and [`Service`] are kept here, once; a
/// host only moves bytes. `handle_*` takes in what happened, `poll_*` gives out what is to be
/// done. After any `handle_*` the host drains [`poll_action`](Self::poll_action) and
/// [`poll_report`](Self::poll_report); after a batch of them, and before it writes, it calls
/// [`handle_turn`](Self::handle_turn).
///
/// The same calls with the same arguments give the same outputs: a [`Tap`] sees both, which is
/// what recording and replay stand on.
pub struct Shard<M: StreamMachine, S: Service<M>> {
    service: S,
    net: Net<M>,
    reports: VecDeque<S::Report>,
    tap: Option<Box<dyn Tap<S::Message> + Send>>,
    /// How many of the waiting actions the tap has seen.
    tapped: usize,
}

/// How many lingers a closing connection has in all: enough for an outbox at its mark over any
/// link in use.
const LINGERS: u32 = 15;

/// Bytes a second, below which a large answer is not waited for: a modem is as fast.
const SLOWEST: u64 = 4 * 1024;

impl<M: StreamMachine, S: Service<M>> Shard<M, S> {
    /// A shard without connections.
    pub fn new(service: S, limits: NetLimits) -> Self {
        Self { service, net: Net::new(limits), reports: VecDeque::new(), tap: None, tapped: 0 }
    }

    /// Has everything seen by `tap` from here on.
    pub fn set_tap(&mut self, tap: Box<dyn Tap<S::Message> + Send>) {
        self.tap = Some(tap);
    }

    /// Hands over what the tap has gathered.
    pub fn drain_tap(&mut self, to: &mut dyn FnMut(&[u8])) {
        if let Some(tap) = &mut self.tap {
            tap.drain(to);
        }
    }

    /// The service, to look at.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The service, once the run is over.
    pub fn into_service(self) -> S {
        self.service
    }

    /// A peer connected. `None`: close the socket.
    pub fn handle_accepted(&mut self, now: Now, peer: Peer) -> Option<ConnId> {
        self.net.now = now;
        let refused = self.net.stopping && !self.net.draining;
        let machine = if refused || self.net.len() >= self.net.limits.connections {
            None
        } else {
            self.service.accept(now, &peer)
        };
        let conn = machine.map(|machine| self.net.insert(machine, Some(peer), Phase::Open));
        self.tap(now, TapEntry::Accepted(conn, &peer));
        if let Some(id) = conn {
            self.open(id, &peer);
        }
        self.settle();
        conn
    }

    /// A dialled connection stands.
    pub fn handle_connected(&mut self, now: Now, id: ConnId, peer: Peer) {
        self.net.now = now;
        self.tap(now, TapEntry::Connected(id, &peer));
        if let Some(conn) = self.net.conn_mut(id) {
            if conn.phase == Phase::Dialling {
                conn.phase = Phase::Open;
                conn.peer = Some(peer);
                self.open(id, &peer);
            }
        }
        self.settle();
    }

    /// Bytes came; `bytes` is the host's to reuse afterwards.
    pub fn handle_received(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        self.net.now = now;
        self.tap(now, TapEntry::Received(id, bytes));
        self.pump(id, bytes);
        self.settle();
    }

    /// The peer has finished sending.
    pub fn handle_eof(&mut self, now: Now, id: ConnId) {
        self.net.now = now;
        self.tap(now, TapEntry::Eof(id));
        if let Some(conn) = self.net.conn_mut(id) {
            conn.eof = true;
        }
        self.pump(id, &mut []);
        self.settle();
    }

    /// The system broke the connection, or never made it.
    pub fn handle_failed(&mut self, now: Now, id: ConnId, failure: Failure) {
        self.net.now = now;
        self.tap(now, TapEntry::Failed(id, failure));
        if let Some(conn) = self.net.conn_mut(id) {
            // It may be a file that ended early: the peer must not take that for the end of all.
            conn.aborted |= !conn.outbox.is_empty();
            conn.outbox = Outbox::new(0);
            conn.eof = true;
            conn.shut = true;
            if conn.phase == Phase::Closing {
                self.settle_io(id);
            } else {
                self.end(id, Closed::Failed(failure));
            }
        }
        self.settle();
    }

    /// The socket took the first `n` bytes of the outbox.
    pub fn handle_sent(&mut self, now: Now, id: ConnId, n: usize) {
        self.net.now = now;
        let low = self.net.limits.mark / 2;
        let Some(conn) = self.net.conn_mut(id) else {
            return;
        };
        if let Some(tap) = &mut self.tap {
            tap.record(now, TapEntry::Sent(id, n, &conn.outbox));
        }
        conn.outbox.pass(n);
        conn.writing = !conn.outbox.is_empty();
        let flushing = conn.phase == Phase::Closing && n > 0;
        let starved = conn.need == Need::Room && conn.outbox.room() > 0;
        // A machine may have put its last byte and wait for nothing else.
        let flushed = conn.outbox.is_finished() && conn.outbox.is_empty();
        let room = conn.full && conn.phase == Phase::Open && conn.outbox.held() <= low;
        if room {
            conn.full = false;
        }
        let waits = starved || room || conn.outbox.is_finished() || !conn.releases.is_empty();
        if conn.phase == Phase::Open && !waits {
            self.net.take_back(id);
            return;
        }
        let sent = conn.outbox.total().saturating_sub(conn.outbox.queued());
        if conn.releases.first().is_some_and(|&(at, _)| at <= sent) {
            let (done, later): (Vec<_>, Vec<_>) =
                mem::take(&mut conn.releases).into_iter().partition(|&(at, _)| at <= sent);
            conn.releases = later;
            for (_, file) in done {
                self.act(Action::Release(file));
            }
        }
        if flushing {
            self.linger(id);
        }
        // Input first: a service that fills the outbox at once would starve it for ever.
        if starved || flushed {
            self.pump(id, &mut []);
        } else {
            self.settle_io(id);
        }
        match self.net.conn_mut(id).filter(|conn| room && conn.phase == Phase::Open) {
            Some(conn) if conn.outbox.room() == 0 => conn.full = true,
            Some(_) => self.service.handle_room(now, id, &mut self.net),
            None => {}
        }
        self.settle();
    }

    /// The host answers a request. An answer that crossed with a cancellation goes no further.
    pub fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>) {
        self.net.now = now;
        self.tap(now, TapEntry::Reply(id, &reply));
        if self.net.pending.remove(&id) {
            self.service.handle_reply(now, id, reply, &mut self.net);
        } else if let Reply::Opened { file, .. } = reply {
            self.act(Action::Release(file));
        }
        self.settle();
    }

    /// The application speaks.
    pub fn handle_message(&mut self, now: Now, message: S::Message) {
        self.net.now = now;
        self.tap(now, TapEntry::Message(&message));
        self.service.handle_message(now, message, &mut self.net);
        self.settle();
    }

    /// A batch of calls is complete and the host will write next. Call it only after at least one
    /// other `handle_*`.
    pub fn handle_turn(&mut self, now: Now) {
        self.net.now = now;
        self.tap(now, TapEntry::Turn);
        self.service.handle_turn(now, &mut self.net);
        self.settle();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted: the earliest deadline of the
    /// service, of all machines, and of the connections that linger.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let net = self.net.timers.first().map(|&(at, _)| Deadline { at, why: "connection" });
        Deadline::earlier(self.service.poll_timeout(), net)
    }

    /// Time has passed. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.net.now = now;
        self.tap(now, TapEntry::Timeout);
        // Taken out first: a machine that asks for the past is called once, not for ever.
        let mut due = Vec::new();
        while let Some(&timer) = self.net.timers.first() {
            if timer.0 > now.mono {
                break;
            }
            self.net.timers.pop_first();
            due.push(timer.1);
        }
        for id in due {
            let Some(conn) = self.net.lend(id) else {
                continue;
            };
            conn.timer = None;
            match conn.phase {
                Phase::Open => {
                    conn.machine.handle_timeout(now, &mut conn.outbox);
                    self.pump(id, &mut []);
                }
                Phase::Closing => self.remove(id),
                Phase::Dialling | Phase::Ended => {}
            }
        }
        if self.service.poll_timeout().is_some_and(|deadline| deadline.at <= now.mono) {
            self.service.handle_timeout(now, &mut self.net);
        }
        self.settle();
    }

    /// The next thing the host has to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.tapped = self.tapped.saturating_sub(1);
        net::pop(&mut self.net.actions)
    }

    /// The next thing to tell the application.
    pub fn poll_report(&mut self) -> Option<S::Report> {
        self.reports.pop_front()
    }

    /// What waits to be sent on a connection.
    pub fn outbox(&self, id: ConnId) -> Option<&Outbox> {
        self.net.conn(id).map(|conn| &conn.outbox)
    }

    /// Whether the host shall read from this connection. It may change with every call; after
    /// a "no", [`Action::Read`] says when it is "yes" again.
    pub fn wants_read(&self, id: ConnId) -> bool {
        self.net.conn(id).is_some_and(Conn::wants_read)
    }

    /// Connections in the table, those that are closing included.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.net.connections()
    }

    /// Whether the service has asked to stop and no connection is left.
    pub fn is_over(&self) -> bool {
        self.net.stopping && self.net.is_empty()
    }

    /// The machine of a connection, to look at.
    pub fn machine(&self, id: ConnId) -> Option<&M> {
        self.net.machine(id)
    }

    /// The memory a connection holds in carry and outbox beside its table entry, in bytes.
    pub fn buffered(&self, id: ConnId) -> usize {
        self.net.conn(id).map_or(0, |c| c.carry.capacity().saturating_add(c.outbox.held()))
    }

    fn open(&mut self, id: ConnId, peer: &Peer) {
        self.service.handle_opened(self.net.now, id, peer, &mut self.net);
        self.pump(id, &mut []);
    }

    /// Calls the machine until it has no more events, over what it left and `new`.
    fn pump(&mut self, id: ConnId, new: &mut [u8]) {
        let Some(conn) = self.net.conn_mut(id) else {
            return;
        };
        conn.dirty = false;
        if conn.phase != Phase::Open {
            self.settle_io(id);
            return;
        }
        if new.is_empty() && conn.carry.is_empty() {
            let mut nothing = Input::new(&mut [], 0, conn.eof);
            match self.run(id, &mut nothing) {
                Some(why) => self.end(id, why),
                None => self.settle_io(id),
            }
            return;
        }
        let mut carry = mem::take(&mut conn.carry);
        let in_place = carry.is_empty();
        let (bytes, fresh) = if in_place { (&mut *new, 0) } else { carry.append(new) };
        let mut input = Input::new(bytes, fresh, conn.eof);
        let closed = self.run(id, &mut input);
        let untaken = input.untaken();
        if in_place {
            let tail = new.get(untaken).unwrap_or_default();
            if !tail.is_empty() {
                carry.append(tail);
            }
        } else {
            carry.keep(untaken);
        }
        let mut closed = closed;
        if let Some(conn) = self.net.conn_mut(id) {
            let stuck = conn.need == Need::Input && carry.len() > conn.machine.max_unit();
            if stuck && !conn.paused && conn.phase == Phase::Open && closed.is_none() {
                closed = Some(Closed::Stalled);
            }
            conn.carry = carry;
        }
        match closed {
            Some(why) => self.end(id, why),
            None => self.settle_io(id),
        }
    }

    fn run(&mut self, id: ConnId, input: &mut Input<'_>) -> Option<Closed<M::Error>> {
        let now = self.net.now;
        loop {
            let conn = self.net.lend(id)?;
            if conn.phase != Phase::Open || conn.paused {
                return None;
            }
            let step = conn.machine.handle_input(now, input, &mut conn.outbox);
            if let Some(tap) = &mut self.tap {
                let state = conn.machine.state();
                if conn.state != state {
                    conn.state = state;
                    tap.record(now, TapEntry::State(id, state));
                }
            }
            match step {
                Ok(Step::Event(event)) => {
                    self.service.handle_event(now, id, event, &mut self.net);
                    continue;
                }
                Ok(Step::NeedInput(_)) if input.at_eof() => return Some(Closed::Stalled),
                Ok(Step::NeedInput(_)) => conn.need = Need::Input,
                Ok(Step::NeedRoom) if conn.outbox.is_empty() => return Some(Closed::Stalled),
                Ok(Step::NeedRoom) => conn.need = Need::Room,
                Ok(Step::NeedCommand) => conn.need = Need::Command,
                Ok(Step::Done) => return Some(Closed::Done),
                Err(error) => return Some(Closed::Error(error)),
            }
            return None;
        }
    }

    /// The dialogue is over: tells the service and leaves the flushing to the host.
    fn end(&mut self, id: ConnId, why: Closed<M::Error>) {
        let now = self.net.now;
        let most = self.net.limits.linger.saturating_mul(LINGERS);
        let Some(conn) = self.net.lend(id) else {
            return;
        };
        let never_stood = conn.peer.is_none();
        conn.phase = Phase::Closing;
        conn.carry = Carry::default();
        if conn.aborted {
            conn.outbox = Outbox::new(0);
        } else if why == Closed::Local && !never_stood {
            conn.machine.handle_close(now, &mut conn.outbox);
        }
        conn.outbox.finish();
        let slowest = Duration::from_secs(conn.outbox.queued() / SLOWEST);
        conn.cut_at = now.mono.saturating_add(most).saturating_add(slowest);
        self.linger(id);
        self.tap(now, TapEntry::Closed(id, &why));
        let gone = never_stood || matches!(why, Closed::Failed(_));
        self.service.handle_closed(now, id, why, &mut self.net);
        if gone || self.net.conn(id).is_some_and(|conn| conn.aborted) {
            self.remove(id);
        } else {
            self.settle_io(id);
        }
    }

    /// From now on the connection may be silent for so long, and is then cut; earlier, if it has
    /// taken too long in all.
    fn linger(&mut self, id: ConnId) {
        let at = self.net.now.mono.saturating_add(self.net.limits.linger);
        let Some(conn) = self.net.conn_mut(id) else {
            return;
        };
        let at = at.min(conn.cut_at);
        if let Some(old) = conn.timer.replace(at) {
            self.net.timers.remove(&(old, id));
        }
        self.net.timers.insert((at, id));
    }

    /// Brings the timer and the host's orders for one connection in line with its state.
    fn settle_io(&mut self, id: ConnId) {
        let Some(conn) = self.net.conn_mut(id) else {
            return;
        };
        let wants_read = conn.wants_read();
        let write = !conn.outbox.is_empty() && !conn.writing;
        let shutdown = conn.outbox.is_empty() && conn.outbox.is_finished() && !conn.shut;
        let read = wants_read && conn.suspended;
        conn.writing |= write;
        conn.shut |= shutdown;
        conn.suspended = !wants_read;
        conn.full |= conn.outbox.room() == 0;
        let quiet = conn.outbox.is_empty() && conn.eof;
        let gone = conn.phase == Phase::Closing && (quiet || conn.aborted);
        if conn.phase == Phase::Open {
            let (old, new) = (conn.timer, conn.machine.poll_timeout().map(|d| d.at));
            // One that was put off is left where it is, and looked at when it comes up: most are
            // put off with each thing that a peer sends.
            if old.is_none() || new.is_none() || new < old {
                conn.timer = new;
                if let Some(at) = old {
                    self.net.timers.remove(&(at, id));
                }
                if let Some(at) = new {
                    self.net.timers.insert((at, id));
                }
            }
        }
        if write {
            self.act(Action::Write(id));
        }
        if shutdown {
            self.act(Action::Shutdown(id));
        }
        if read {
            self.act(Action::Read(id));
        }
        if gone {
            self.remove(id);
        } else {
            self.net.take_back(id);
        }
    }

    fn remove(&mut self, id: ConnId) {
        let Some(conn) = self.net.remove(id) else {
            return;
        };
        if let Some(at) = conn.timer {
            self.net.timers.remove(&(at, id));
        }
        self.act(Action::Close { conn: id, reset: conn.aborted || !conn.outbox.is_empty() });
        for (_, file) in conn.releases {
            self.act(Action::Release(file));
        }
    }

    /// Carries out what the calls so far have led to, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            if let Some(id) = net::pop(&mut self.net.dirty) {
                self.pump(id, &mut []);
            } else if let Some(id) = self.net.ended.pop_front() {
                self.end(id, Closed::Local);
            } else {
                break;
            }
        }
        while let Some(report) = self.service.poll_report() {
            self.tap(self.net.now, TapEntry::Report(&report));
            self.reports.push_back(report);
        }
        if let Some(tap) = &mut self.tap {
            for action in self.net.actions.iter().skip(self.tapped) {
                tap.record(self.net.now, TapEntry::Action(action));
            }
            self.tapped = self.net.actions.len();
        }
    }

    fn act(&mut self, action: Action) {
        self.net.actions.push_back(action);
    }

    fn tap(&mut self, now: Now, entry: TapEntry<'_, S::Message>) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, entry);
        }
    }
}
