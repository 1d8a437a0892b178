//! A connection between two ends of a network.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{ConnId, Failure, Instant};

use crate::link::{End, LinkConfig, Pipe};
use crate::network::{Due, Listener, Network, Use};
use crate::peer::{PeerId, PeerState, RawPeer};
use crate::turn::Host;

/// A connection, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireId(pub(crate) usize);

/// Which end of a wire: the one that dialled, or the one that accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Dialler,
    Acceptor,
}

impl Role {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) dialler: WireEnd,
    pub(crate) acceptor: WireEnd,
    /// Times the first packet was dropped for want of a place in the backlog.
    pub(crate) attempts: u32,
}

#[derive(Debug)]
pub(crate) struct WireEnd {
    pub(crate) owner: Owner,
    pub(crate) address: SocketAddr,
    pub(crate) inbound: Pipe,
    /// When the network will look at `inbound` next.
    pub(crate) scheduled: Option<Instant>,
    /// Waits for its owner's turn already.
    pub(crate) queued: bool,
    /// The owner was told of the end of input.
    pub(crate) eof: bool,
    /// The owner was told of a reset.
    pub(crate) failed: bool,
    /// The owner has closed its socket.
    pub(crate) closed: bool,
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It waits in a backlog, or its owner is gone.
    Nobody,
    Shard(usize, ConnId),
    Peer(PeerId),
}

impl WireEnd {
    pub(crate) fn new(owner: Owner, address: SocketAddr, inbound: Pipe) -> Self {
        Self {
            owner,
            address,
            inbound,
            scheduled: None,
            queued: false,
            eof: false,
            failed: false,
            closed: false,
        }
    }
}

impl Wire {
    pub(crate) fn end(&mut self, role: Role) -> &mut WireEnd {
        match role {
            Role::Dialler => &mut self.dialler,
            Role::Acceptor => &mut self.acceptor,
        }
    }

    /// Where what this end sends goes.
    pub(crate) fn outbound(&mut self, role: Role) -> &mut Pipe {
        &mut self.end(role.other()).inbound
    }
}

impl Network {
    pub(crate) fn bind(&mut self, address: SocketAddr, host: Option<usize>) -> bool {
        let free = !self.listeners.contains_key(&address);
        if free {
            self.listeners
                .insert(address, Listener { host, backlog: VecDeque::new(), peers: Vec::new() });
        }
        free
    }

    /// Closes all listeners of a host.
    pub(crate) fn unbind(&mut self, index: usize) {
        let of_host = |(&address, listener): (&SocketAddr, &Listener)| {
            (listener.host == Some(index)).then_some(address)
        };
        let addresses: Vec<_> = self.listeners.iter().filter_map(of_host).collect();
        for address in addresses {
            self.unlisten(address);
        }
    }

    pub(crate) fn next_port(&mut self) -> u16 {
        let port = self.ports;
        self.ports = self.ports.checked_add(1).unwrap_or(Self::FIRST_PORT);
        port
    }

    pub(crate) fn dial(&mut self, owner: Owner, from: SocketAddr, to: SocketAddr) -> WireId {
        let now = self.now().mono;
        let number = self.connections;
        self.connections = self.connections.saturating_add(1);
        let id = WireId(number);
        let pipe = |from: SocketAddr, to: SocketAddr, of| {
            Pipe::new(self.link(from.ip(), to.ip()).clone(), self.dice(of, number))
        };
        let mut there = pipe(from, to, Use::There);
        let mut back = pipe(to, from, Use::Back);
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
    pub(crate) fn knock(&mut self, id: WireId) {
        let now = self.now().mono;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let address = wire.acceptor.address;
        let unpowered = unpowered(&self.hosts, address.ip());
        let parted = self.parted.contains(&(wire.dialler.address.ip(), address.ip()));
        let listener = self.listeners.get_mut(&address);
        let answer = match listener {
            _ if parted && wire.attempts < LinkConfig::RETRANSMITS => {
                wire.attempts = wire.attempts.saturating_add(1);
                self.push(now.saturating_add(KNOCK_AGAIN), Due::Knock(id));
                return;
            }
            _ if parted => Err(Failure::TimedOut),
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
                self.push(now.saturating_add(NO_ANSWER), Due::Answered(id, Err(Failure::TimedOut)));
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
    pub(crate) fn answered(&mut self, id: WireId, answer: Result<(), Failure>) {
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
            self.peers.push(RawPeer::new(id, Role::Acceptor, address, PeerState::Open));
            listener.peers.push(peer);
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.acceptor.owner = Owner::Peer(peer);
            }
        }
    }

    /// Has the network look at a pipe when something comes out of it.
    pub(crate) fn schedule(&mut self, id: WireId, role: Role) {
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

    /// Has the network look again at the pipes it gave up on when their ends were parted.
    pub(crate) fn reschedule_all(&mut self) {
        let ids: Vec<_> = self.wires.keys().copied().collect();
        for id in ids {
            self.schedule(id, Role::Dialler);
            self.schedule(id, Role::Acceptor);
        }
    }

    /// Something comes out of a pipe: bytes for `role`, or room for the other end.
    pub(crate) fn look(&mut self, id: WireId, role: Role) {
        let now = self.now().mono;
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        let ips = (wire.dialler.address.ip(), wire.acceptor.address.ip());
        let end = wire.end(role);
        if end.scheduled.is_some_and(|at| at <= now) {
            end.scheduled = None;
        }
        if self.parted.contains(&ips) {
            return;
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
    pub(crate) fn wake(&mut self, id: WireId, role: Role) {
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
    pub(crate) fn close_end(&mut self, id: WireId, role: Role, reset: bool) {
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

    pub(crate) fn leave(&mut self, id: PeerId, reset: bool) {
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
    pub(crate) fn serve_peer(&mut self, id: PeerId) {
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
}

/// When a first packet that found the backlog full is sent again.
const KNOCK_AGAIN: Duration = Duration::from_secs(1);
/// When a dialler gives up on an address that does not answer at all.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// Whether all hosts at an address have lost their power.
fn unpowered(hosts: &[Host], address: IpAddr) -> bool {
    let there = || hosts.iter().filter(|host| host.address == address);
    there().next().is_some() && there().all(|host| host.unpowered)
}
