//! Machines over datagrams, and datagrams sent by hand.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::marker::PhantomData;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Endpoint, Failure, Instant, Now, Output, QuotedError,
    Received, Refused, Stamp, Tap, Transmit, TransmitId,
};

use crate::dice::Dice;
use crate::link;
use crate::network::{Due, Network, Use};

/// A [`DatagramMachine`] in a [`Network`], by its type and that of its log.
pub struct DatagramId<M, T> {
    index: usize,
    types: PhantomData<fn() -> (M, T)>,
}

impl<M, T> Clone for DatagramId<M, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, T> Copy for DatagramId<M, T> {}

impl<M, T> core::fmt::Debug for DatagramId<M, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DatagramId({})", self.index)
    }
}

/// A datagram that came to an address of [`Network::bind_raw`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDatagram {
    /// When it came.
    pub at: Instant,
    /// Who sent it.
    pub source: SocketAddr,
    /// What it holds.
    pub payload: Vec<u8>,
}

/// Datagrams. Links lose, double, reorder and delay them as
/// [`LinkConfig`](crate::LinkConfig) says; with a bandwidth, what would wait behind more than a
/// window of bytes is dropped, as by a router. Whatever carries them, they go from socket to
/// socket as they are; ICMP has port 0.
impl Network {
    /// A machine with a socket bound to `address`; several may share one, and the first that
    /// accepts a datagram gets it. Events are mapped by `see` and kept.
    pub fn add_datagram<M, T>(
        &mut self,
        address: SocketAddr,
        machine: M,
        see: impl for<'i> FnMut(M::Event<'i>) -> T + 'static,
    ) -> DatagramId<M, T>
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        let node = Seen { endpoint: Endpoint::new(machine), see: Box::new(see), told: Vec::new() };
        let index = self.sockets.len();
        self.sockets.push(Socket {
            node: Some(Box::new(node)),
            address,
            inbox: Vec::new(),
            stamps: Vec::new(),
            failing: None,
            touched: true,
        });
        DatagramId { index, types: PhantomData }
    }

    /// Hands a command to a machine; what it then wants sent leaves in the next step.
    pub fn command<M, T>(
        &mut self,
        to: DatagramId<M, T>,
        command: M::Command<'_>,
    ) -> Result<(), Refused>
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        let now = self.now();
        self.seen_mut(to).endpoint.handle_command(now, command)?;
        if let Some(socket) = self.sockets.get_mut(to.index) {
            socket.touched = true;
        }
        Ok(())
    }

    /// Has all that a machine hears and does from here on seen by `tap`.
    pub fn tap<M, T>(
        &mut self,
        of: DatagramId<M, T>,
        tap: Box<dyn Tap<Vec<u8>> + Send>,
        encode: fn(&M::Command<'_>, &mut Vec<u8>),
    ) where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        self.seen_mut(of).endpoint.set_tap(tap, encode);
    }

    /// A machine, to look at.
    pub fn machine<M, T>(&self, id: DatagramId<M, T>) -> &M
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        self.seen(id).endpoint.machine()
    }

    /// What a machine told, with the times.
    pub fn events<M, T>(&self, of: DatagramId<M, T>) -> &[(Now, T)]
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        &self.seen(of).told
    }

    /// The next `n` sends of a machine fail.
    pub fn fail_sends<M, T>(&mut self, of: DatagramId<M, T>, n: u32, failure: Failure) {
        if let Some(socket) = self.sockets.get_mut(of.index) {
            socket.failing = Some((n, failure));
        }
    }

    /// Keeps what comes to `address` for [`take_datagrams`](Self::take_datagrams).
    pub fn bind_raw(&mut self, address: SocketAddr) {
        self.raw_sockets.entry(address).or_default();
    }

    /// Sends a datagram from any address: what a peer, or a stranger, would.
    pub fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let parcel = Parcel { source: from, to, hop_limit: None, error: None };
        self.carry(parcel, payload.to_vec());
    }

    /// What has come to an address since this was last called.
    pub fn take_datagrams(&mut self, address: SocketAddr) -> Vec<RawDatagram> {
        self.raw_sockets.get_mut(&address).map(mem::take).unwrap_or_default()
    }

    /// One turn of a machine: what came, the kernel's stamps, timeouts; then what it wants sent,
    /// then what it tells.
    pub(crate) fn datagram_turn(&mut self, index: usize) {
        let now = self.now();
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let Some(mut node) = socket.node.take() else { return };
        let (inbox, stamps) = (mem::take(&mut socket.inbox), mem::take(&mut socket.stamps));
        socket.touched = false;
        let mut idle = self.transmit(index, &mut *node);
        for (id, at) in stamps {
            node.handle_stamp(now, id, Stamp { at, clock: Clock::Kernel });
            idle = idle && self.transmit(index, &mut *node);
        }
        for (meta, mut payload) in inbox {
            node.handle_datagram(now, meta, &mut payload);
            idle = idle && self.transmit(index, &mut *node);
        }
        node.handle_timeout(now);
        idle = idle && self.transmit(index, &mut *node);
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.node = Some(node);
            socket.touched = !idle;
        }
    }

    /// Sends what a machine has, and keeps what it tells. Whether that was all.
    fn transmit(&mut self, index: usize, node: &mut dyn DatagramNode) -> bool {
        let now = self.now();
        for _ in 0..PER_TURN {
            if !node.handle_output(now, &mut |transmit, payload| {
                let leaves = self.send(index, transmit, payload)?;
                self.push(leaves, Due::Sent(index, transmit.id));
                Ok(())
            }) {
                return true;
            }
        }
        false
    }

    /// When it leaves the host, or why it does not.
    fn send(
        &mut self,
        index: usize,
        transmit: &Transmit,
        payload: &[u8],
    ) -> Result<Instant, Failure> {
        let Some(socket) = self.sockets.get_mut(index) else {
            return Err(Failure::Other);
        };
        if let Some((n, failure)) = &mut socket.failing {
            if let Some(left) = n.checked_sub(1) {
                *n = left;
                return Err(*failure);
            }
        }
        let mut source = socket.address;
        if let Some(ip) = transmit.source {
            source.set_ip(ip);
        }
        let to = transmit.destination;
        if let Some(failure) = self.link(source.ip(), to.ip()).refuse {
            return Err(failure);
        }
        let parcel = Parcel { source, to, hop_limit: transmit.hop_limit, error: None };
        let segment = transmit.segment_size.unwrap_or(payload.len()).max(1);
        let leaves = self.carry(parcel, payload.get(..segment).unwrap_or(payload).to_vec());
        for rest in payload.chunks(segment).skip(1) {
            self.carry(parcel, rest.to_vec());
        }
        Ok(leaves)
    }

    /// Puts a datagram on its link. When it leaves.
    fn carry(&mut self, parcel: Parcel, payload: Vec<u8>) -> Instant {
        let now = self.now().mono;
        let key = (parcel.source.ip(), parcel.to.ip());
        let config = self.link(key.0, key.1).clone();
        let number = self.lines.len();
        let fresh = Line { free_at: now, dice: self.dice(Use::Line, number) };
        let line = self.lines.entry(key).or_insert(fresh);
        let starts = now.max(line.free_at);
        let waits = starts.saturating_since(now);
        if waits > link::sending(&config, config.window.max(1)) {
            return starts;
        }
        line.free_at = starts.saturating_add(link::sending(&config, payload.len()));
        if line.dice.happens(config.loss) || self.parted.contains(&key) {
            return starts;
        }
        let mut copies = Vec::new();
        let count = if line.dice.happens(config.duplication) { 2 } else { 1 };
        for _ in 0..count {
            let mut at = line
                .free_at
                .saturating_add(config.latency)
                .saturating_add(line.dice.up_to(config.jitter));
            if line.dice.happens(config.reordering) {
                at = at.saturating_add(line.dice.up_to(config.overtaken));
            }
            copies.push((at, payload.clone()));
        }
        for (at, payload) in copies {
            self.push(at, Due::Datagram(parcel, payload));
        }
        starts
    }

    /// A datagram arrives.
    pub(crate) fn arrive(&mut self, parcel: Parcel, mut payload: Vec<u8>) {
        let at = self.now().mono;
        let Parcel { source, to, hop_limit, error } = parcel;
        let meta = Received {
            source,
            destination: Some(to.ip()),
            hop_limit: Some(hop_limit.unwrap_or(HOP_LIMIT)),
            traffic_class: Some(0),
            carrier: Carrier::Udp,
            stamp: Stamp { at, clock: Clock::Kernel },
            error,
        };
        let wanted = |socket: &&mut Socket| {
            let node = socket.node.as_ref();
            socket.address == to && node.is_some_and(|node| node.accepts(&meta, &payload))
        };
        if let Some(socket) = self.sockets.iter_mut().find(wanted) {
            socket.inbox.push((meta, payload));
        } else if let Some(socket) = self.raw_sockets.get_mut(&to) {
            if error.is_none() {
                socket.push(RawDatagram { at, source, payload });
            }
        } else if error.is_none() && self.answers(to) {
            // Nobody there: the system sends back what came, which tells the sender.
            let (icmp_type, icmp_code) = match to.ip() {
                IpAddr::V4(_) => (3, 3),
                IpAddr::V6(_) => (1, 4),
            };
            let offender = Some(to.ip());
            let error =
                Some(QuotedError { offender, icmp_type, icmp_code, ..QuotedError::default() });
            payload.truncate(QUOTED);
            self.carry(Parcel { source: to, to: source, hop_limit: None, error }, payload);
        }
    }

    /// Whether there is a host with power at this address, but no socket.
    fn answers(&self, to: SocketAddr) -> bool {
        let machine = |socket: &Socket| socket.address == to;
        let near = |socket: &Socket| socket.address.ip() == to.ip();
        !self.sockets.iter().any(machine)
            && (self.sockets.iter().any(near)
                || self.hosts.iter().any(|host| host.address == to.ip() && !host.unpowered))
    }

    #[allow(clippy::expect_used)] // only for an id of another network
    fn seen<M, T>(&self, id: DatagramId<M, T>) -> &Seen<M, T>
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        let node = self.sockets.get(id.index).and_then(|socket| socket.node.as_ref());
        node.and_then(|node| node.as_any().downcast_ref()).expect("an id of this network")
    }

    #[allow(clippy::expect_used)] // only for an id of another network
    fn seen_mut<M, T>(&mut self, id: DatagramId<M, T>) -> &mut Seen<M, T>
    where
        M: DatagramMachine + 'static,
        T: 'static,
    {
        let node = self.sockets.get_mut(id.index).and_then(|socket| socket.node.as_mut());
        node.and_then(|node| node.as_any_mut().downcast_mut()).expect("an id of this network")
    }
}

/// Datagrams and events that a machine may give in one go: one that never stops is a livelock.
const PER_TURN: usize = 10_000;
/// What systems send with.
const HOP_LIMIT: u8 = 64;
/// How much of a datagram comes back in an error: what fits beside the headers into 576 bytes.
const QUOTED: usize = 528;

/// A datagram's way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    source: SocketAddr,
    to: SocketAddr,
    hop_limit: Option<u8>,
    error: Option<QuotedError>,
}

/// The way from one address to another.
#[derive(Debug)]
pub(crate) struct Line {
    free_at: Instant,
    dice: Dice,
}

pub(crate) struct Socket {
    /// None while it has its turn.
    node: Option<Box<dyn DatagramNode>>,
    address: SocketAddr,
    inbox: Vec<(Received, Vec<u8>)>,
    pub(crate) stamps: Vec<(TransmitId, Instant)>,
    failing: Option<(u32, Failure)>,
    touched: bool,
}

impl Socket {
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.touched || !self.inbox.is_empty() || !self.stamps.is_empty() {
            return Some(now);
        }
        self.node.as_ref()?.next_timeout()
    }
}

trait DatagramNode {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn accepts(&self, meta: &Received, payload: &[u8]) -> bool;
    fn handle_datagram(&mut self, now: Now, meta: Received, payload: &mut [u8]);
    fn handle_stamp(&mut self, now: Now, id: TransmitId, stamp: Stamp);
    fn next_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Now);
    /// Sends or keeps the next thing; "no" if there is none.
    fn handle_output(&mut self, now: Now, send: &mut Leave<'_>) -> bool;
}

type Leave<'s> = dyn FnMut(&Transmit, &[u8]) -> Result<(), Failure> + 's;

type See<M, T> = Box<dyn for<'i> FnMut(<M as DatagramMachine>::Event<'i>) -> T>;

/// A machine and what it told.
struct Seen<M: DatagramMachine, T> {
    endpoint: Endpoint<M>,
    see: See<M, T>,
    told: Vec<(Now, T)>,
}

impl<M: DatagramMachine + 'static, T: 'static> DatagramNode for Seen<M, T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn accepts(&self, meta: &Received, payload: &[u8]) -> bool {
        self.endpoint.accepts(meta, payload)
    }

    fn handle_datagram(&mut self, now: Now, meta: Received, payload: &mut [u8]) {
        if let Some(event) = self.endpoint.handle_datagram(now, meta, payload) {
            self.told.push((now, (self.see)(event)));
        }
    }

    fn handle_stamp(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        self.endpoint.handle_stamp(now, id, stamp);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout().map(|deadline| deadline.at)
    }

    fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now);
    }

    fn handle_output(&mut self, now: Now, send: &mut Leave<'_>) -> bool {
        match self.endpoint.poll_output(now) {
            None => return false,
            Some(Output::Event(event)) => self.told.push((now, (self.see)(event))),
            Some(Output::Transmit(transmit, payload)) => {
                let n = payload.len();
                match send(transmit, payload) {
                    Ok(()) => self.endpoint.handle_sent(now, n),
                    Err(failure) => self.endpoint.handle_send_error(now, failure),
                }
            }
        }
        true
    }
}
