//! Hosts, peers and the links between them.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    ConnId, Failure, Instant, Now, OwnedReply, RequestId, Seed, Service, Shard, StreamMachine,
    TransmitId, UnixTime,
};

use crate::clock::Clock;
use crate::datagram::{Line, Parcel, RawDatagram, Socket};
use crate::dice::Dice;
use crate::disk::Disk;
use crate::link::LinkConfig;
use crate::node::{ShardId, ShardNode};
use crate::peer::{PeerId, PeerState, RawPeer};
use crate::turn::Host;
use crate::wire::{Owner, Role, Wire, WireId};
use crate::{STEP_LIMIT, Stuck};

/// Hosts in virtual time: shards of any types, peers played by the test, and links that can fail.
///
/// # To build
///
/// [`add`](Self::add) gives a [`Shard`] an IP address (hosts may share one) and a [`Disk`] of its
/// own; [`listen`](Self::listen) has it accept. [`connect`](Self::connect) and
/// [`listen_raw`](Self::listen_raw) make [`RawPeer`]s, which the test plays byte by byte.
/// [`set_link`](Self::set_link) says how a link behaves from one address to another; all others are
/// as [`set_default_link`](Self::set_default_link) says, at first perfect.
///
/// # To run
///
/// [`step`](Self::step) goes to the next instant at which something is due and does all that is due
/// then: each shard concerned has one turn, in the order in which they were added. A turn makes the
/// calls of any host in the order of any host: accepted and dialled connections, reads, timeouts,
/// messages, replies, `handle_turn`, actions, writes, reports. [`run_for`](Self::run_for),
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
    pub(crate) clock: Clock,
    pub(crate) seed: Seed,
    pub(crate) step_limit: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) peers: Vec<RawPeer>,
    pub(crate) wires: BTreeMap<WireId, Wire>,
    pub(crate) listeners: BTreeMap<SocketAddr, Listener>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) raw_sockets: BTreeMap<SocketAddr, Vec<RawDatagram>>,
    pub(crate) lines: BTreeMap<(IpAddr, IpAddr), Line>,
    pub(crate) links: BTreeMap<(IpAddr, IpAddr), LinkConfig>,
    pub(crate) parted: BTreeSet<(IpAddr, IpAddr)>,
    pub(crate) default_link: LinkConfig,
    pub(crate) queue: BTreeMap<(Instant, u64), Due>,
    /// The next number of an entry in the queue, of a connection, of a port.
    pub(crate) entries: u64,
    pub(crate) connections: usize,
    pub(crate) ports: u16,
}

impl Network {
    /// How many connections wait to be accepted at most; Linux has 4,096, smaller shows more.
    pub const BACKLOG: usize = 128;
    /// How long a host waits after an accept has failed.
    pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    pub(crate) const FIRST_PORT: u16 = 49_152;

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
            sockets: Vec::new(),
            raw_sockets: BTreeMap::new(),
            lines: BTreeMap::new(),
            links: BTreeMap::new(),
            parted: BTreeSet::new(),
            default_link: LinkConfig::default(),
            queue: BTreeMap::new(),
            entries: 0,
            connections: 0,
            ports: Self::FIRST_PORT,
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

    /// Parts two addresses: nothing passes between them until they are [healed](Self::heal).
    /// Streams stall, attempts to connect time out after some tries, datagrams are lost.
    pub fn part(&mut self, a: IpAddr, b: IpAddr) {
        self.parted.insert((a, b));
        self.parted.insert((b, a));
    }

    /// Undoes a [`part`](Self::part); what streams held back arrives at once.
    pub fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.parted.remove(&(a, b));
        self.parted.remove(&(b, a));
        self.reschedule_all();
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
        let dice = self.dice(Use::Host, index);
        self.hosts.push(Host::new(ShardNode::new(shard), address, dice));
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

    /// The next `n` accepts of a shard fail for want of descriptors. The connections wait, and the
    /// host tries again after [`ACCEPT_RETRY`](Self::ACCEPT_RETRY).
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
    /// bytes were not read), its disk is left as processes saw it. Gives the disk, for whoever
    /// starts next.
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

    /// The peers that connections to [`listen_raw`](Self::listen_raw) became, since this was last
    /// called.
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

    /// Closes a peer's socket at once; what it was told to write but could not is lost. As in a
    /// real system, the other end sees a reset if bytes have come that were not read.
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
            .chain(self.sockets.iter().filter_map(|socket| socket.next_due(now)))
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
        for index in 0..self.sockets.len() {
            let due = self.sockets.get(index).and_then(|socket| socket.next_due(at));
            if due.is_some_and(|due| due <= at) {
                self.datagram_turn(index);
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

    pub(crate) fn link(&self, from: IpAddr, to: IpAddr) -> &LinkConfig {
        self.links.get(&(from, to)).unwrap_or(&self.default_link)
    }

    /// A stream of chance of its own for each use and number.
    pub(crate) fn dice(&self, of: Use, number: usize) -> Dice {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        Dice::new(&self.seed, number.saturating_mul(8).saturating_add(of as u64))
    }

    fn livelock(&self) -> Stuck {
        Stuck::Livelock { at: self.now().mono, steps: self.step_limit }
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
            Due::Datagram(parcel, payload) => self.arrive(parcel, payload),
            Due::Sent(index, id) => {
                let at = self.now().mono;
                if let Some(socket) = self.sockets.get_mut(index) {
                    socket.stamps.push((id, at));
                }
            }
        }
    }

    pub(crate) fn push(&mut self, at: Instant, due: Due) {
        self.queue.insert((at, self.entries), due);
        self.entries = self.entries.saturating_add(1);
    }

    // Ids are only made here, so that these can only fail for ids of another network.

    #[allow(clippy::expect_used)]
    pub(crate) fn host(&self, index: usize) -> &Host {
        self.hosts.get(index).expect("an id of this network")
    }

    #[allow(clippy::expect_used)]
    pub(crate) fn host_mut(&mut self, index: usize) -> &mut Host {
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

/// What a stream of chance is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// A connection, from the dialler.
    There,
    /// A connection, to the dialler.
    Back,
    /// A host's disk.
    Host,
    /// Datagrams from one address to another.
    Line,
}

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Due {
    /// Something comes out of the pipe to this end.
    Wire(WireId, Role),
    Knock(WireId),
    Answered(WireId, Result<(), Failure>),
    /// A host tries again to accept.
    Accept(usize),
    Request(usize, RequestId),
    Resolved(usize, ConnId, OwnedReply),
    Datagram(Parcel, Vec<u8>),
    /// A datagram left: the kernel's stamp.
    Sent(usize, TransmitId),
}

pub(crate) struct Listener {
    /// None: connections become raw peers.
    pub(crate) host: Option<usize>,
    pub(crate) backlog: VecDeque<WireId>,
    pub(crate) peers: Vec<PeerId>,
}
