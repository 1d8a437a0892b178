//! Peers that a test plays by hand.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use semfio_machine::{Failure, Instant};

use crate::wire::{Role, WireId};

/// A [`RawPeer`] in a [`Network`](crate::Network).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(crate) usize);

/// One end of a connection without any protocol: what a test sees of it.
///
/// It reads all that comes at once, unless it was told to stop.
#[derive(Debug)]
pub struct RawPeer {
    pub(crate) wire: WireId,
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
    pub(crate) state: PeerState,
    pub(crate) received: Vec<u8>,
    pub(crate) reads: Vec<(Instant, usize)>,
    pub(crate) eof: Option<Instant>,
    pub(crate) outgoing: VecDeque<Bytes>,
    pub(crate) finishing: bool,
    pub(crate) reading: bool,
}

/// How the connection of a [`RawPeer`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It has dialled.
    Dialling,
    /// It may send, and receive if the other end has not finished.
    Open,
    /// It was never established, or reset by the other end.
    Failed(Failure),
    /// The test has closed or reset it.
    Closed,
}

impl RawPeer {
    pub(crate) fn new(wire: WireId, role: Role, address: SocketAddr, state: PeerState) -> Self {
        Self {
            wire,
            role,
            address,
            state,
            received: Vec::new(),
            reads: Vec::new(),
            eof: None,
            outgoing: VecDeque::new(),
            finishing: false,
            reading: true,
        }
    }

    /// Its own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How its connection stands.
    pub fn state(&self) -> PeerState {
        self.state
    }

    /// All bytes it has read.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Each of its reads: when, and how many bytes.
    pub fn reads(&self) -> &[(Instant, usize)] {
        &self.reads
    }

    /// When it saw the end of input, if it has.
    pub fn eof(&self) -> Option<Instant> {
        self.eof
    }

    /// Bytes it was told to write that the link has not taken yet.
    pub fn queued(&self) -> usize {
        self.outgoing.iter().map(Bytes::len).fold(0, usize::saturating_add)
    }
}
