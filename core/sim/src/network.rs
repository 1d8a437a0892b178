//! Hosts, peers and the links between them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Action, ConnId, Effect, Failure, Instant, Now, Peer, RequestId, Seed, Service, Shard,
    StreamMachine, Target, UnixTime,
};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::{Answer, Disk};
use crate::link::{self, End, LinkConfig, Pipe};
use crate::node::{Node, ShardId, ShardNode};
use crate::peer::{PeerId, PeerState, RawPeer};
use crate::wire::{Owner, Role, Wire, WireEnd, WireId};
use crate::{STEP_LIMIT, Stuck};

/// Hosts in virtual time: shards of any types, peers played by the test, and links that can fail.
///
/// # To build
///
/// [`add`](Self::add) gives a [`Shard`] an IP address (hosts may share one) and a [`Disk`] of its own;
/// [`listen`](Self::listen) has it accept. [`connect`](Self::connect) and
/// [`listen_raw`](Self::listen_raw) make [`RawPeer`]s, which the test plays byte by byte.
/// [`set_link`](Self::set_link) says how a link behaves from one address to another; all others are
/// as [`set_default_link`](Self::set_default_link) says, at first perfect.
///
/// # To run
///
/// [`step`](Self::step) goes to the next instant at which something is due and does all that is due
/// then: each shard concerned has one turn, in the order in which they were added. A turn makes the calls of any
/// host in the order of any host: accepted and dialled connections, reads, timeouts, messages,
/// replies, `handle_turn`, actions, writes, reports. [`run_for`](Self::run_for),
/// [`run_until`](Self::run_until) and [`run_until_idle`](Self::run_until_idle) make steps, at most
/// [`STEP_LIMIT`] of them: a livelock is an error value.
///
/// # To look at
///
/// [`reports`](Self::reports) are kept with their times; [`shard`](Self::shard),
/// [`disk`](Self::disk) and [`peer`](Self::peer) can be looked at between steps.
///
/// All chance comes from one number: the same calls give the same run, to the nanosecond.
pub struct Network {
    clock: Clock,
    seed: Seed,
    step_limit: u64,
    hosts: Vec<Host>,
    peers: Vec<RawPeer>,
    wires: BTreeMap<WireId, Wire>,
    listeners: BTreeMap<SocketAddr, Listener>,
    links: BTreeMap<(IpAddr, IpAddr), LinkConfig>,
    default_link: LinkConfig,
    queue: BTreeMap<(Instant, u64), Due>,
    /// The next number of an entry in the queue, of a wire, of a stream of chance, of a port.
    entries: u64,
    connections: u64,
    ports: u16,
}

impl Network {
    /// How many connections wait to be accepted at most; Linux has 4,096, smaller shows more.
    pub const BACKLOG: usize = 128;
    /// How long a host waits after an accept has failed.
    pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    /// An empty network. All chance in it comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            clock: Clock::default(),
            seed: Seed::from_u64(seed),
            step_limit: STEP_LIMIT,
            hosts: Vec::new(),
            peers: Vec::new(),
            wires: BTreeMap::new(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            default_link: LinkConfig::default(),
            queue: BTreeMap::new(),
            entries: 0,
            connections: 0,
            ports: FIRST_PORT,
        }
    }

    /// How all links behave that [`set_link`](Self::set_link) does not name. Connections that stand
    /// are not changed.
    pub fn set_default_link(&mut self, config: LinkConfig) {
        self.default_link = config;
    }

    /// How the link behaves in one direction. Connections that stand are not changed.
    pub fn set_link(&mut self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.links.insert((from, to), config);
    }

    /// How many steps a run makes at most, in place of [`STEP_LIMIT`].
    pub fn set_step_limit(&mut self, steps: u64) {
        self.step_limit = steps;
    }

    /// What the clocks say. They start at 0 and at 2000-01-01T00:00:00Z.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Sets the wall clock of all hosts; the monotonic one goes on.
    pub fn set_unix(&mut self, unix: UnixTime) {
        self.clock.set_unix(unix);
    }

    /// A host at `address` that runs `shard`.
    pub fn add<M, S>(&mut self, address: IpAddr, shard: Shard<M, S>) -> ShardId<M, S>
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        let index = self.hosts.len();
        let dice = Dice::new(&self.seed, label(HOST, index as u64));
        self.hosts
            .push(Host::new(ShardNode::new(shard), address, dice));
        ShardId::new(index)
    }

    /// Has a shard accept connections to `address`. Whether the address was free.
    pub fn listen<M, S>(&mut self, shard: ShardId<M, S>, address: SocketAddr) -> bool {
        self.bind(address, Some(shard.index))
    }

    /// Hands a message to a shard, in its next turn.
    pub fn send_message<M, S>(&mut self, to: ShardId<M, S>, message: S::Message)
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        self.send_message_at(to, self.now().mono, message);
    }

    /// Hands a message to a shard at a later time.
    pub fn send_message_at<M, S>(&mut self, to: ShardId<M, S>, at: Instant, message: S::Message)
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        self.node_mut(to).push_message(at, message);
    }

    /// What a shard reported, with the times.
    pub fn reports<M, S>(&self, of: ShardId<M, S>) -> &[(Now, S::Report)]
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        &self.node(of).reports
    }

    /// What a shard reported since this was last called.
    pub fn take_reports<M, S>(&mut self, of: ShardId<M, S>) -> Vec<(Now, S::Report)>
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        mem::take(&mut self.node_mut(of).reports)
    }

    /// A shard, to look at; as it was when it was killed, if it was.
    pub fn shard<M, S>(&self, id: ShardId<M, S>) -> &Shard<M, S>
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        &self.node(id).shard
    }

    /// The disk of a shard's host.
    pub fn disk<M, S>(&self, of: ShardId<M, S>) -> &Disk {
        &self.host(of.index).disk
    }

    /// The disk of a shard's host, to fill it, to have it fail.
    pub fn disk_mut<M, S>(&mut self, of: ShardId<M, S>) -> &mut Disk {
        &mut self.host_mut(of.index).disk
    }

    /// The next `n` accepts of a shard fail for want of descriptors. The connections wait, and the host
    /// tries again after [`ACCEPT_RETRY`](Self::ACCEPT_RETRY).
    pub fn fail_accepts<M, S>(&mut self, of: ShardId<M, S>, n: u32) {
        self.host_mut(of.index).failing_accepts = n;
    }

    /// Whether a shard has asked to stop and all its connections are gone.
    pub fn is_over<M, S>(&self, id: ShardId<M, S>) -> bool
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        self.node(id).shard.is_over()
    }

    /// Ends a shard as `kill -9` would: its system closes all its sockets (with a reset where
    /// bytes were not read), its disk is left as processes saw it. Gives the disk, for whoever starts next.
    pub fn kill<M, S>(&mut self, id: ShardId<M, S>) -> Disk {
        let host = self.host_mut(id.index);
        let sockets = mem::take(&mut host.sockets);
        let mut disk = host.die();
        disk.close_all();
        self.unbind(id.index);
        for (wire, role) in sockets.into_values() {
            self.close_end(wire, role, false);
        }
        disk
    }

    /// Ends a shard as a power cut would: nobody is told, what is sent to it is lost without an
    /// answer, and its disk keeps what was durable. Gives the disk.
    pub fn cut_power<M, S>(&mut self, id: ShardId<M, S>) -> Disk {
        let host = self.host_mut(id.index);
        let sockets = mem::take(&mut host.sockets);
        let mut disk = host.die();
        host.unpowered = true;
        disk.crash();
        self.unbind(id.index);
        for (wire, role) in sockets.into_values() {
            if let Some(wire) = self.wires.get_mut(&wire) {
                wire.end(role).owner = Owner::Nobody;
            }
        }
        disk
    }

    /// A peer at `from` that dials `to`.
    pub fn connect(&mut self, from: IpAddr, to: SocketAddr) -> PeerId {
        let id = PeerId(self.peers.len());
        let address = SocketAddr::new(from, self.next_port());
        let wire = self.dial(Owner::Peer(id), address, to);
        let peer = RawPeer::new(wire, Role::Dialler, address, PeerState::Dialling);
        self.peers.push(peer);
        id
    }

    /// Makes a peer of each connection to `address`; [`accepted`](Self::accepted) tells which.
    /// Whether the address was free.
    pub fn listen_raw(&mut self, address: SocketAddr) -> bool {
        self.bind(address, None)
    }

    /// Stops listening at `address`, whoever does. Connections that stand are not changed.
    pub fn unlisten(&mut self, address: SocketAddr) {
        if let Some(listener) = self.listeners.remove(&address) {
            for wire in listener.backlog {
                self.close_end(wire, Role::Acceptor, true);
            }
        }
    }

    /// The peers that connections to [`listen_raw`](Self::listen_raw) became, since this was last called.
    pub fn accepted(&mut self, address: SocketAddr) -> Vec<PeerId> {
        match self.listeners.get_mut(&address) {
            Some(listener) => mem::take(&mut listener.peers),
            None => Vec::new(),
        }
    }

    /// A peer, to look at.
    pub fn peer(&self, id: PeerId) -> &RawPeer {
        self.try_peer(id)
    }

    /// What a peer has read since this was last called.
    pub fn take_received(&mut self, id: PeerId) -> Vec<u8> {
        match self.peers.get_mut(id.0) {
            Some(peer) => mem::take(&mut peer.received),
            None => Vec::new(),
        }
    }

    /// Has a peer write, as soon as it is connected and the link takes more. Each call is a write.
    pub fn write(&mut self, id: PeerId, bytes: impl AsRef<[u8]>) {
        if let Some(peer) = self.peers.get_mut(id.0) {
            let bytes = Bytes::copy_from_slice(bytes.as_ref());
            if !bytes.is_empty() {
                peer.outgoing.push_back(bytes);
            }
        }
        self.serve_peer(id);
    }

    /// Has a peer close its sending half after what it was told to write.
    pub fn finish(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id.0) {
            peer.finishing = true;
        }
        self.serve_peer(id);
    }

    /// Closes a peer's socket at once; what it was told to write but could not is lost. As in a real system,
    /// the other end sees a reset if bytes have come that were not read.
    pub fn close(&mut self, id: PeerId) {
        self.leave(id, false);
    }

    /// Cuts a peer's connection; the other end sees a reset.
    pub fn reset(&mut self, id: PeerId) {
        self.leave(id, true);
    }

    /// Has a peer stop reading, or go on.
    pub fn set_reading(&mut self, id: PeerId, reading: bool) {
        if let Some(peer) = self.peers.get_mut(id.0) {
            peer.reading = reading;
        }
        self.serve_peer(id);
    }

    /// When there is something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        let now = self.clock.now().mono;
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        self.hosts
            .iter()
            .filter_map(|host| host.next_due(now))
            .chain(queued)
            .min()
            .map(|at| at.max(now))
    }

    /// Goes to the next instant at which something is due, and does all that is due then. Whether
    /// there was anything.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_due() else {
            return false;
        };
        self.clock.advance(at);
        // What these cause at the same instant is due in the next step.
        let later = self.queue.split_off(&(at, self.entries));
        for due in mem::replace(&mut self.queue, later).into_values() {
            self.handle(due);
        }
        for index in 0..self.hosts.len() {
            let host = self.host(index);
            if host.next_due(at).is_some_and(|due| due <= at) {
                self.turn(index);
            }
        }
        true
    }

    /// Steps until nothing is due any more. A service that keeps a timer running is never idle: use
    /// [`run_for`](Self::run_for) or [`run_until`](Self::run_until).
    pub fn run_until_idle(&mut self) -> Result<(), Stuck> {
        for _ in 0..self.step_limit {
            if !self.step() {
                return Ok(());
            }
        }
        Err(self.livelock())
    }

    /// Steps through all that is due within `time`, and lets the rest of it pass.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Stuck> {
        let until = self.now().mono.saturating_add(time);
        for _ in 0..self.step_limit {
            if self.next_due().is_none_or(|at| at > until) {
                self.clock.advance(until);
                return Ok(());
            }
            self.step();
        }
        Err(self.livelock())
    }

    /// Steps until `done` holds; [`Stuck::Idle`] if nothing is due before it does.
    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<(), Stuck> {
        for _ in 0..self.step_limit {
            if done(self) {
                return Ok(());
            }
            if !self.step() {
                let at = self.now().mono;
                return Err(Stuck::Idle { at });
            }
        }
        Err(self.livelock())
    }

    fn livelock(&self) -> Stuck {
        Stuck::Livelock {
            at: self.now().mono,
            steps: self.step_limit,
        }
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Wire(id, role) => self.look(id, role),
            Due::Knock(id) => self.knock(id),
            Due::Answered(id, answer) => self.answered(id, answer),
            Due::Accept(index) => {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.accepts = true;
                }
            }
            Due::Request(index, id) => {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.replies.push(id);
                }
            }
            Due::Resolved(index, conn, answer) => self.resolved(index, conn, answer),
        }
    }

    fn push(&mut self, at: Instant, due: Due) {
        self.queue.insert((at, self.entries), due);
        self.entries = self.entries.saturating_add(1);
    }

    // Connections.

    fn bind(&mut self, address: SocketAddr, host: Option<usize>) -> bool {
        let free = !self.listeners.contains_key(&address);
        if free {
            self.listeners.insert(
                address,
                Listener {
                    host,
                    backlog: VecDeque::new(),
                    peers: Vec::new(),
                },
            );
        }
        free
    }

    /// Closes all listeners of a host.
    fn unbind(&mut self, index: usize) {
        let of_host = |(&address, listener): (&SocketAddr, &Listener)| {
            (listener.host == Some(index)).then_some(address)
        };
        let addresses: Vec<_> = self.listeners.iter().filter_map(of_host).collect();
        for address in addresses {
            self.unlisten(address);
        }
    }

    fn next_port(&mut self) -> u16 {
        let port = self.ports;
        self.ports = self.ports.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    pub(crate) fn link(&self, from: IpAddr, to: IpAddr) -> &LinkConfig {
        self.links.get(&(from, to)).unwrap_or(&self.default_link)
    }

    fn dial(&mut self, owner: Owner, from: SocketAddr, to: SocketAddr) -> WireId {
        let now = self.now().mono;
        let number = self.connections;
        self.connections = self.connections.saturating_add(1);
        let id = WireId(number);
        let pipe = |network: &Self, from: SocketAddr, to: SocketAddr, use_: u64| {
            let dice = Dice::new(&network.seed, label(use_, number));
            Pipe::new(network.link(from.ip(), to.ip()).clone(), dice)
        };
        let mut there = pipe(self, from, to, THERE);
        let mut back = pipe(self, to, from, BACK);
        let knock = there.arrival(now, 0);
        let refused = there.refuse().or(back.refuse());
        let answer = refused.map(|failure| (back.arrival(knock, 0), failure));
        let wire = Wire {
            dialler: WireEnd::new(owner, from, back),
            acceptor: WireEnd::new(Owner::Nobody, to, there),
            attempts: 0,
        };
        self.wires.insert(id, wire);
        match answer {
            Some((at, failure)) => self.push(at, Due::Answered(id, Err(failure))),
            None => self.push(knock, Due::Knock(id)),
        }
        id
    }

    /// The first packet of a connection arrives.
    fn knock(&mut self, id: WireId) {
        let now = self.now().mono;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let address = wire.acceptor.address;
        let unpowered = unpowered(&self.hosts, address.ip());
        let listener = self.listeners.get_mut(&address);
        let answer = match listener {
            Some(listener) if listener.backlog.len() < Self::BACKLOG => {
                listener.backlog.push_back(id);
                Ok(())
            }
            Some(_) if wire.attempts < LinkConfig::RETRANSMITS => {
                wire.attempts = wire.attempts.saturating_add(1);
                self.push(now.saturating_add(KNOCK_AGAIN), Due::Knock(id));
                return;
            }
            Some(_) => Err(Failure::TimedOut),
            None if unpowered => {
                self.push(
                    now.saturating_add(NO_ANSWER),
                    Due::Answered(id, Err(Failure::TimedOut)),
                );
                return;
            }
            None => Err(Failure::Refused),
        };
        if let Some(wire) = self.wires.get_mut(&id) {
            let at = wire.dialler.inbound.arrival(now, 0);
            self.push(at, Due::Answered(id, answer));
        }
        if answer.is_ok() {
            self.accept_raw(address);
            let host = self.listeners.get(&address).and_then(|l| l.host);
            if let Some(host) = host.and_then(|index| self.hosts.get_mut(index)) {
                host.accepts |= !host.accept_waits;
            }
        }
    }

    /// The dialler learns what became of its attempt.
    fn answered(&mut self, id: WireId, answer: Result<(), Failure>) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        if wire.dialler.closed {
            match answer {
                Ok(()) => self.close_end(id, Role::Dialler, true),
                Err(_) => drop(self.wires.remove(&id)),
            }
            return;
        }
        match (wire.dialler.owner, answer) {
            (Owner::Shard(index, conn), answer) => {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.dialled.push((conn, answer));
                }
            }
            (Owner::Peer(peer), Ok(())) => {
                if let Some(peer) = self.peers.get_mut(peer.0) {
                    peer.state = PeerState::Open;
                }
                self.serve_peer(peer);
            }
            (Owner::Peer(peer), Err(failure)) => {
                if let Some(peer) = self.peers.get_mut(peer.0) {
                    peer.state = PeerState::Failed(failure);
                }
                self.wires.remove(&id);
            }
            (Owner::Nobody, _) => {}
        }
    }

    /// Moves the backlog of a raw listener into peers.
    fn accept_raw(&mut self, address: SocketAddr) {
        let Some(listener) = self.listeners.get_mut(&address) else {
            return;
        };
        if listener.host.is_some() {
            return;
        }
        for id in mem::take(&mut listener.backlog) {
            let peer = PeerId(self.peers.len());
            self.peers
                .push(RawPeer::new(id, Role::Acceptor, address, PeerState::Open));
            listener.peers.push(peer);
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.acceptor.owner = Owner::Peer(peer);
            }
        }
    }

    /// Has the network look at a pipe when something comes out of it.
    fn schedule(&mut self, id: WireId, role: Role) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let end = wire.end(role);
        if let Some(at) = end.inbound.next_due() {
            if end.scheduled.is_none_or(|scheduled| at < scheduled) {
                end.scheduled = Some(at);
                self.push(at, Due::Wire(id, role));
            }
        }
    }

    /// Something comes out of a pipe: bytes for `role`, or room for the other end.
    fn look(&mut self, id: WireId, role: Role) {
        let now = self.now().mono;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let end = wire.end(role);
        if end.scheduled.is_some_and(|at| at <= now) {
            end.scheduled = None;
        }
        end.inbound.advance(now);
        let reset = matches!(end.inbound.end(), End::Reset { .. });
        if end.closed && end.inbound.waiting() > 0 && !reset {
            // Nobody reads what comes for a closed socket: the system answers with a reset.
            end.inbound.discard();
            wire.outbound(role).reset(now);
            self.schedule(id, role.other());
        }
        self.schedule(id, role);
        self.wake(id, role);
        self.wake(id, role.other());
    }

    /// Has the owner of an end look at it.
    fn wake(&mut self, id: WireId, role: Role) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let end = wire.end(role);
        match end.owner {
            Owner::Nobody => {}
            Owner::Peer(peer) => self.serve_peer(peer),
            Owner::Shard(index, _) => {
                if !end.queued {
                    end.queued = true;
                    if let Some(host) = self.hosts.get_mut(index) {
                        host.io.push((id, role));
                    }
                }
            }
        }
    }

    /// A socket is closed by its owner.
    fn close_end(&mut self, id: WireId, role: Role, reset: bool) {
        let now = self.now().mono;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let end = wire.end(role);
        let unread = end.inbound.waiting() > 0;
        end.closed = true;
        end.owner = Owner::Nobody;
        let outbound = wire.outbound(role);
        if reset || unread {
            outbound.reset(now);
        } else {
            outbound.finish(now);
        }
        if wire.dialler.closed && wire.acceptor.closed {
            self.wires.remove(&id);
        } else {
            self.schedule(id, role.other());
        }
    }

    // Peers.

    fn leave(&mut self, id: PeerId, reset: bool) {
        let Some(peer) = self.peers.get_mut(id.0) else {
            return;
        };
        if matches!(peer.state, PeerState::Dialling | PeerState::Open) {
            peer.state = PeerState::Closed;
            peer.outgoing.clear();
            let (wire, role) = (peer.wire, peer.role);
            self.close_end(wire, role, reset);
        }
    }

    /// A peer reads and writes what it can.
    fn serve_peer(&mut self, id: PeerId) {
        let now = self.now().mono;
        let Some(peer) = self.peers.get_mut(id.0) else {
            return;
        };
        let Some(wire) = self.wires.get_mut(&peer.wire) else {
            return;
        };
        if peer.state != PeerState::Open {
            return;
        }
        let inbound = &mut wire.end(peer.role).inbound;
        while peer.reading {
            let Some((read, _)) = inbound.take(now) else {
                break;
            };
            peer.received.extend_from_slice(&read);
            peer.reads.push((now, read.len()));
        }
        match inbound.end() {
            End::Fin if peer.reading && inbound.waiting() == 0 && peer.eof.is_none() => {
                peer.eof = Some(now);
            }
            End::Reset { cut } => {
                peer.state = PeerState::Failed(Failure::Reset);
                peer.outgoing.clear();
                let (wire, role) = (peer.wire, peer.role);
                if cut {
                    self.close_end(wire, role, true);
                } else {
                    self.wires.remove(&wire);
                }
                return;
            }
            _ => {}
        }
        let outbound = wire.outbound(peer.role);
        while let Some(write) = peer.outgoing.front_mut() {
            let n = write.len().min(outbound.room());
            if n == 0 {
                break;
            }
            outbound.put(now, write.split_to(n));
            if write.is_empty() {
                peer.outgoing.pop_front();
            }
        }
        if peer.finishing && peer.outgoing.is_empty() && !outbound.is_shut() {
            outbound.finish(now);
        }
        let (wire, role) = (peer.wire, peer.role);
        self.schedule(wire, role);
        self.schedule(wire, role.other());
    }

    // Shards.

    /// All that is due for one host, in the order of any host.
    fn turn(&mut self, index: usize) {
        let now = self.now();
        let Some(mut node) = self.host_mut(index).node.take() else {
            return;
        };
        let mut called = self.accept(index, &mut *node);
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
                let answer = host.disk.perform(now, &effect);
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
        let peer = wire.map(|wire| Peer {
            address: wire.acceptor.address,
            local: wire.dialler.address,
        });
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
        loop {
            let Some(outbox) = node.outbox(conn).filter(|outbox| !outbox.is_empty()) else {
                break;
            };
            let Some(wire) = self.wires.get_mut(&id) else {
                break;
            };
            let room = wire.outbound(role).room();
            if room == 0 {
                break;
            }
            let disk = &mut self.hosts.get_mut(index).map(|host| &mut host.disk);
            let write = match (link::leading_file(outbox), disk) {
                (Some(span), Some(disk)) => disk.read_span(span, room),
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
                let at = host.answer_at(now.mono);
                host.requests.insert(id, effect);
                self.push(at, Due::Request(index, id));
            }
            Action::Cancel(id) => self.cancel(index, id),
            Action::Release(file) => self.host_mut(index).disk.release(file),
            Action::Stop => self.unbind(index),
        }
        false
    }

    /// Nobody waits for the answer: what was asked is done all the same, or not at all.
    fn cancel(&mut self, index: usize, id: RequestId) {
        let now = self.now();
        let host = self.host_mut(index);
        if let Some(effect) = host.requests.remove(&id) {
            if host.dice.below(2) == 0 {
                if let Answer::Opened(file, _) = host.disk.perform(now, &effect) {
                    host.disk.release(file);
                }
            }
        }
    }

    fn resolved(&mut self, index: usize, conn: ConnId, answer: Answer) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if !host.resolving.remove(&conn) {
            return;
        }
        match answer {
            Answer::Resolved(addresses) => {
                let mut addresses = VecDeque::from(addresses);
                if let Some(first) = addresses.pop_front() {
                    host.candidates.insert(conn, addresses);
                    self.dial_from(index, conn, first);
                }
            }
            Answer::Failed(failure) => host.unresolved.push((conn, failure)),
            _ => {}
        }
    }

    fn dial_from(&mut self, index: usize, conn: ConnId, to: SocketAddr) {
        let from = SocketAddr::new(self.host(index).address, self.next_port());
        let id = self.dial(Owner::Shard(index, conn), from, to);
        self.own(index, conn, id, Role::Dialler);
    }

    // Ids are only made here, so that these can only fail for ids of another network.

    #[allow(clippy::expect_used)]
    fn host(&self, index: usize) -> &Host {
        self.hosts.get(index).expect("an id of this network")
    }

    #[allow(clippy::expect_used)]
    fn host_mut(&mut self, index: usize) -> &mut Host {
        self.hosts.get_mut(index).expect("an id of this network")
    }

    #[allow(clippy::expect_used)]
    fn try_peer(&self, id: PeerId) -> &RawPeer {
        self.peers.get(id.0).expect("an id of this network")
    }

    #[allow(clippy::expect_used)]
    fn node<M, S>(&self, id: ShardId<M, S>) -> &ShardNode<M, S>
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        let host = self.host(id.index);
        host.node
            .as_ref()
            .or(host.dead.as_ref())
            .and_then(|node| node.as_any().downcast_ref())
            .expect("an id of this network")
    }

    #[allow(clippy::expect_used)]
    fn node_mut<M, S>(&mut self, id: ShardId<M, S>) -> &mut ShardNode<M, S>
    where
        M: StreamMachine + 'static,
        S: Service<M> + 'static,
    {
        let host = self.host_mut(id.index);
        host.node
            .as_mut()
            .or(host.dead.as_mut())
            .and_then(|node| node.as_any_mut().downcast_mut())
            .expect("an id of this network")
    }
}

const FIRST_PORT: u16 = 49_152;
/// When a first packet that found the backlog full is sent again.
const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// When a dialler gives up on an address that does not answer at all.
const NO_ANSWER: Duration = Duration::from_secs(60);

const THERE: u64 = 0;
const BACK: u64 = 1;
const HOST: u64 = 2;

/// Whether all hosts at an address have lost their power.
fn unpowered(hosts: &[Host], address: IpAddr) -> bool {
    let there = || hosts.iter().filter(|host| host.address == address);
    there().next().is_some() && there().all(|host| host.unpowered)
}

/// A stream of chance for each use and number.
fn label(use_: u64, number: u64) -> u64 {
    number.saturating_mul(8).saturating_add(use_)
}

/// What happens at a time.
#[derive(Debug)]
enum Due {
    /// Something comes out of the pipe to this end.
    Wire(WireId, Role),
    Knock(WireId),
    Answered(WireId, Result<(), Failure>),
    /// A host tries again to accept.
    Accept(usize),
    Request(usize, RequestId),
    Resolved(usize, ConnId, Answer),
}

struct Listener {
    /// None: connections become raw peers.
    host: Option<usize>,
    backlog: VecDeque<WireId>,
    peers: Vec<PeerId>,
}

struct Host {
    /// None while it has its turn, and once it is dead.
    node: Option<Box<dyn Node>>,
    dead: Option<Box<dyn Node>>,
    /// Lost its power: it does not even refuse.
    unpowered: bool,
    address: IpAddr,
    disk: Disk,
    dice: Dice,
    sockets: BTreeMap<ConnId, (WireId, Role)>,
    requests: BTreeMap<RequestId, Effect>,
    resolving: BTreeSet<ConnId>,
    /// The addresses still to be tried.
    candidates: BTreeMap<ConnId, VecDeque<SocketAddr>>,
    failing_accepts: u32,
    /// An accept has failed and will be tried again.
    accept_waits: bool,
    // What the next turn is about.
    accepts: bool,
    dialled: Vec<(ConnId, Result<(), Failure>)>,
    unresolved: Vec<(ConnId, Failure)>,
    io: Vec<(WireId, Role)>,
    replies: Vec<RequestId>,
    writing: BTreeSet<ConnId>,
}

impl Host {
    fn new(node: Box<dyn Node>, address: IpAddr, dice: Dice) -> Self {
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

    fn next_due(&self, now: Instant) -> Option<Instant> {
        let node = self.node.as_ref()?;
        let ready = self.accepts
            || !self.dialled.is_empty()
            || !self.unresolved.is_empty()
            || !self.io.is_empty()
            || !self.replies.is_empty()
            || !self.writing.is_empty();
        if ready { Some(now) } else { node.next_due() }
    }

    fn answer_at(&mut self, now: Instant) -> Instant {
        let config = self.disk.config();
        let (latency, jitter) = (config.latency, config.jitter);
        now.saturating_add(latency)
            .saturating_add(self.dice.up_to(jitter))
    }

    fn die(&mut self) -> Disk {
        if let Some(node) = self.node.take() {
            self.dead = Some(node);
        }
        self.requests.clear();
        self.resolving.clear();
        mem::take(&mut self.disk)
    }
}
