//! A host's turn: the calls and their order.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use semfio_machine::{
    Action, ConnId, Effect, Failure, Instant, OwnedReply, Peer, Reply, RequestId, Target,
};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::link::{self, End};
use crate::network::{Due, Network};
use crate::node::Node;
use crate::wire::{Owner, Role, WireId};

impl Network {
    /// All that is due for one host, in the order of any host.
    pub(crate) fn turn(&mut self, index: usize) {
        let now = self.now();
        let Some(mut node) = self.host_mut(index).node.take() else {
            return;
        };
        let mut called = false;
        // First: whoever sees the change must not be given what was before it.
        for request in self.host_mut(index).disk.take_changed() {
            node.handle_reply(now, request, Reply::Done);
            called = true;
        }
        called |= self.accept(index, &mut *node);
        for (conn, answer) in mem::take(&mut self.host_mut(index).dialled) {
            called |= self.dialled(index, &mut *node, conn, answer);
        }
        for (conn, failure) in mem::take(&mut self.host_mut(index).unresolved) {
            node.handle_failed(now, conn, failure);
            called = true;
        }
        for (wire, role) in mem::take(&mut self.host_mut(index).io) {
            called |= self.read(index, &mut *node, wire, role);
        }
        if node.next_timeout().is_some_and(|at| at <= now.mono) {
            node.handle_timeout(now);
            called = true;
        }
        while node.handle_message(now) {
            called = true;
        }
        for request in mem::take(&mut self.host_mut(index).replies) {
            let host = self.host_mut(index);
            if let Some(effect) = host.requests.remove(&request) {
                let answer = match &effect {
                    Effect::Watch { root, path } => match host.disk.watch(request, *root, path) {
                        Ok(()) => continue,
                        Err(failure) => OwnedReply::Failed(failure),
                    },
                    effect => host.disk.perform(now, effect),
                };
                node.handle_reply(now, request, answer.as_reply());
                called = true;
            }
        }
        loop {
            if called {
                node.handle_turn(now);
            }
            called = false;
            while let Some(action) = node.poll_action() {
                called |= self.act(index, &mut *node, action);
            }
            for conn in mem::take(&mut self.host_mut(index).writing) {
                called |= self.write_out(index, &mut *node, conn);
            }
            if !called {
                break;
            }
        }
        node.collect_reports(now);
        self.host_mut(index).node = Some(node);
    }

    fn accept(&mut self, index: usize, node: &mut dyn Node) -> bool {
        let now = self.now();
        if !mem::take(&mut self.host_mut(index).accepts) {
            return false;
        }
        self.host_mut(index).accept_waits = false;
        let mut called = false;
        while let Some((id, local)) = self.next_in_backlog(index) {
            let host = self.host_mut(index);
            if host.failing_accepts > 0 {
                host.failing_accepts = host.failing_accepts.saturating_sub(1);
                host.accept_waits = true;
                let again = now.mono.saturating_add(Self::ACCEPT_RETRY);
                self.push(again, Due::Accept(index));
                break;
            }
            if let Some(listener) = self.listeners.get_mut(&local) {
                listener.backlog.pop_front();
            }
            let Some(address) = self.wires.get(&id).map(|wire| wire.dialler.address) else {
                continue;
            };
            called = true;
            match node.handle_accepted(now, Peer { address, local }) {
                None => self.close_end(id, Role::Acceptor, false),
                Some(conn) => {
                    self.own(index, conn, id, Role::Acceptor);
                    self.wake(id, Role::Acceptor);
                }
            }
        }
        called
    }

    fn next_in_backlog(&self, index: usize) -> Option<(WireId, SocketAddr)> {
        self.listeners
            .iter()
            .filter(|(_, listener)| listener.host == Some(index))
            .find_map(|(&address, listener)| Some((*listener.backlog.front()?, address)))
    }

    fn own(&mut self, index: usize, conn: ConnId, id: WireId, role: Role) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.end(role).owner = Owner::Shard(index, conn);
        }
        self.host_mut(index).sockets.insert(conn, (id, role));
    }

    fn dialled(
        &mut self,
        index: usize,
        node: &mut dyn Node,
        conn: ConnId,
        answer: Result<(), Failure>,
    ) -> bool {
        let now = self.now();
        let host = self.host_mut(index);
        let Some(&(id, role)) = host.sockets.get(&conn) else {
            return false;
        };
        let next = host.candidates.get_mut(&conn).and_then(VecDeque::pop_front);
        let wire = self.wires.get(&id);
        let peer =
            wire.map(|wire| Peer { address: wire.acceptor.address, local: wire.dialler.address });
        match (answer, peer) {
            (Ok(()), Some(peer)) => {
                self.host_mut(index).candidates.remove(&conn);
                node.handle_connected(now, conn, peer);
                self.wake(id, role);
                true
            }
            (Ok(()), None) => false,
            (Err(failure), _) => {
                self.wires.remove(&id);
                if let Some(address) = next {
                    self.dial_from(index, conn, address);
                    return false;
                }
                let host = self.host_mut(index);
                host.sockets.remove(&conn);
                host.candidates.remove(&conn);
                node.handle_failed(now, conn, failure);
                true
            }
        }
    }

    fn read(&mut self, index: usize, node: &mut dyn Node, id: WireId, role: Role) -> bool {
        let now = self.now();
        let mut called = false;
        loop {
            let Some(wire) = self.wires.get_mut(&id) else {
                return called;
            };
            let end = wire.end(role);
            end.queued = false;
            let Owner::Shard(_, conn) = end.owner else {
                return called;
            };
            if node.wants_read(conn) {
                if let Some((mut bytes, _)) = end.inbound.take(now.mono) {
                    let pauses = end.inbound.pauses();
                    node.handle_received(now, conn, &mut bytes);
                    called = true;
                    if pauses {
                        self.wake(id, role);
                        break;
                    }
                    continue;
                }
            }
            let drained = end.inbound.waiting() == 0;
            match end.inbound.end() {
                End::Fin if drained && !end.eof && node.wants_read(conn) => {
                    end.eof = true;
                    node.handle_eof(now, conn);
                    called = true;
                }
                End::Reset { cut } if !end.failed => {
                    end.failed = true;
                    if cut {
                        wire.outbound(role).reset(now.mono);
                    }
                    node.handle_failed(now, conn, Failure::Reset);
                    called = true;
                }
                _ => {}
            }
            self.host_mut(index).writing.insert(conn);
            break;
        }
        self.schedule(id, role);
        self.schedule(id, role.other());
        called
    }

    /// Writes what the link takes.
    fn write_out(&mut self, index: usize, node: &mut dyn Node, conn: ConnId) -> bool {
        let now = self.now();
        let mut called = false;
        let Some(&(id, role)) = self.host(index).sockets.get(&conn) else {
            return false;
        };
        while let Some(outbox) = node.outbox(conn).filter(|outbox| !outbox.is_empty()) {
            let Some(wire) = self.wires.get_mut(&id) else { break };
            let room = wire.outbound(role).room();
            if room == 0 {
                break;
            }
            let write = match (link::leading_file(outbox), self.hosts.get_mut(index)) {
                (Some(span), Some(host)) => host.disk.read_span(span, room),
                _ => Ok(link::gather(outbox, room)),
            };
            called = true;
            match write {
                Ok(write) => {
                    let n = write.len();
                    wire.outbound(role).put(now.mono, write);
                    node.handle_sent(now, conn, n);
                }
                Err(failure) => {
                    // A part of the file is missing: nothing that follows would be understood.
                    wire.outbound(role).reset(now.mono);
                    node.handle_failed(now, conn, failure);
                    break;
                }
            }
        }
        self.schedule(id, role.other());
        called
    }

    /// Carries out what a shard asks. Whether that called the shard again.
    fn act(&mut self, index: usize, node: &mut dyn Node, action: Action) -> bool {
        let now = self.now();
        match action {
            Action::Dial(conn, Target::Address(address)) => self.dial_from(index, conn, address),
            Action::Dial(conn, Target::Name(name, port)) => {
                let effect = Effect::Resolve { name, port };
                let host = self.host_mut(index);
                let at = host.answer_at(now.mono);
                let answer = host.disk.perform(now, &effect);
                host.resolving.insert(conn);
                self.push(at, Due::Resolved(index, conn, answer));
            }
            Action::Write(conn) => return self.write_out(index, node, conn),
            Action::Shutdown(conn) => {
                if let Some(&(id, role)) = self.host(index).sockets.get(&conn) {
                    if let Some(wire) = self.wires.get_mut(&id) {
                        wire.outbound(role).finish(now.mono);
                    }
                    self.schedule(id, role.other());
                }
            }
            Action::Read(conn) => {
                if let Some(&(id, role)) = self.host(index).sockets.get(&conn) {
                    self.wake(id, role);
                }
            }
            Action::Close { conn, reset } => {
                let host = self.host_mut(index);
                host.candidates.remove(&conn);
                host.resolving.remove(&conn);
                if let Some((id, role)) = host.sockets.remove(&conn) {
                    self.close_end(id, role, reset);
                }
            }
            Action::Request(id, effect) => {
                let host = self.host_mut(index);
                // At once, since what follows it may overtake it; that it fails is told in its time.
                if let Effect::Watch { root, path } = &effect {
                    if host.disk.watch(id, *root, path).is_ok() {
                        return false;
                    }
                }
                let at = host.answer_at(now.mono);
                host.requests.insert(id, effect);
                self.push(at, Due::Request(index, id));
            }
            Action::Cancel(id) => self.cancel(index, id),
            Action::Release(file) => self.host_mut(index).disk.release(file),
            Action::Stop => {
                self.host_mut(index).accepts = true;
                let called = self.accept(index, node);
                self.unbind(index);
                return called;
            }
        }
        false
    }

    /// Nobody waits for the answer: what was asked is done all the same, or not at all.
    fn cancel(&mut self, index: usize, id: RequestId) {
        let now = self.now();
        let host = self.host_mut(index);
        host.disk.unwatch(id);
        if let Some(effect) = host.requests.remove(&id) {
            if host.dice.below(2) == 0 {
                if let OwnedReply::Opened { file, .. } = host.disk.perform(now, &effect) {
                    host.disk.release(file);
                }
            }
        }
    }

    pub(crate) fn resolved(&mut self, index: usize, conn: ConnId, answer: OwnedReply) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if !host.resolving.remove(&conn) {
            return;
        }
        match answer {
            OwnedReply::Resolved(addresses) => {
                let mut addresses = VecDeque::from(addresses);
                if let Some(first) = addresses.pop_front() {
                    host.candidates.insert(conn, addresses);
                    self.dial_from(index, conn, first);
                }
            }
            OwnedReply::Failed(failure) => host.unresolved.push((conn, failure)),
            _ => {}
        }
    }

    fn dial_from(&mut self, index: usize, conn: ConnId, to: SocketAddr) {
        let from = SocketAddr::new(self.host(index).address, self.next_port());
        let id = self.dial(Owner::Shard(index, conn), from, to);
        self.own(index, conn, id, Role::Dialler);
    }
}

/// A shard with what its system keeps for it.
pub(crate) struct Host {
    /// None while it has its turn, and once it is dead.
    pub(crate) node: Option<Box<dyn Node>>,
    pub(crate) dead: Option<Box<dyn Node>>,
    /// Lost its power: it does not even refuse.
    pub(crate) unpowered: bool,
    pub(crate) address: IpAddr,
    pub(crate) disk: Disk,
    pub(crate) dice: Dice,
    pub(crate) sockets: BTreeMap<ConnId, (WireId, Role)>,
    pub(crate) requests: BTreeMap<RequestId, Effect>,
    pub(crate) resolving: BTreeSet<ConnId>,
    /// The addresses still to be tried.
    pub(crate) candidates: BTreeMap<ConnId, VecDeque<SocketAddr>>,
    pub(crate) failing_accepts: u32,
    /// An accept has failed and will be tried again.
    pub(crate) accept_waits: bool,
    // What the next turn is about.
    pub(crate) accepts: bool,
    pub(crate) dialled: Vec<(ConnId, Result<(), Failure>)>,
    pub(crate) unresolved: Vec<(ConnId, Failure)>,
    pub(crate) io: Vec<(WireId, Role)>,
    pub(crate) replies: Vec<RequestId>,
    pub(crate) writing: BTreeSet<ConnId>,
}

impl Host {
    pub(crate) fn new(node: Box<dyn Node>, address: IpAddr, dice: Dice) -> Self {
        Self {
            node: Some(node),
            dead: None,
            unpowered: false,
            address,
            disk: Disk::default(),
            dice,
            sockets: BTreeMap::new(),
            requests: BTreeMap::new(),
            resolving: BTreeSet::new(),
            candidates: BTreeMap::new(),
            failing_accepts: 0,
            accept_waits: false,
            accepts: false,
            dialled: Vec::new(),
            unresolved: Vec::new(),
            io: Vec::new(),
            replies: Vec::new(),
            writing: BTreeSet::new(),
        }
    }

    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let node = self.node.as_ref()?;
        let ready = self.accepts
            || !self.dialled.is_empty()
            || !self.unresolved.is_empty()
            || !self.io.is_empty()
            || !self.replies.is_empty()
            || !self.writing.is_empty()
            || self.disk.has_changed();
        if ready { Some(now) } else { node.next_due() }
    }

    fn answer_at(&mut self, now: Instant) -> Instant {
        let config = self.disk.config();
        let (latency, jitter) = (config.latency, config.jitter);
        now.saturating_add(latency).saturating_add(self.dice.up_to(jitter))
    }

    pub(crate) fn die(&mut self) -> Disk {
        if let Some(node) = self.node.take() {
            self.dead = Some(node);
        }
        self.requests.clear();
        self.resolving.clear();
        mem::take(&mut self.disk)
    }
}
