//! A connection between two ends of a network.

use core::net::SocketAddr;
use semfio_machine::{ConnId, Instant};

use crate::link::Pipe;
use crate::peer::PeerId;

/// A connection, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireId(pub(crate) u64);

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
