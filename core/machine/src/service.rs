//! Many connections under one application.

use alloc::string::String;
use core::net::SocketAddr;

use crate::effect::{Failure, Reply, RequestId};
use crate::net::Net;
use crate::stream::StreamMachine;
use crate::time::{Deadline, Now};

/// A connection within a shard; never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The place in the host's table, used again after the connection is gone.
    pub index: u32,
    /// Tells users of the same place apart.
    pub generation: u32,
}

impl core::fmt::Display for ConnId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name the host looks up; its addresses are tried in turn.
    Name(String, u16),
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Why a connection is over, from the service's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed<E> {
    /// The machine was [`Done`](crate::Step::Done).
    Done,
    /// The peer broke the protocol.
    Error(E),
    /// The service itself closed it.
    Local,
    /// It was never established, or the system broke it.
    Failed(Failure),
    /// The machine waits for input or room that cannot come; a bug of the machine.
    Stalled,
}

/// An application over many connections: one shard, one thread.
///
/// The host calls; whatever the service wants it asks of [`Net`]. It may command any connection
/// while it holds an event of another, or of the same.
pub trait Service<M: StreamMachine> {
    /// What the application says from outside: a typed line, an interrupt.
    type Message;
    /// What the service tells the application.
    type Report: core::fmt::Debug;

    /// A peer connects: its machine, or `None` to turn it away.
    fn accept(&mut self, now: Now, peer: &Peer) -> Option<M>;

    /// A connection is established, accepted or dialled. The first call for each accepted one.
    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<M>);

    /// A machine has something to say.
    fn handle_event(&mut self, now: Now, from: ConnId, event: M::Event<'_>, net: &mut Net<M>);

    /// An outbox that had reached its mark has drained to half of it.
    fn handle_room(&mut self, now: Now, conn: ConnId, net: &mut Net<M>) {
        let _ = (now, conn, net);
    }

    /// A connection is over; the last call for it, made once for each that was accepted or dialled.
    fn handle_closed(&mut self, now: Now, conn: ConnId, why: Closed<M::Error>, net: &mut Net<M>);

    /// The host answers a request.
    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<M>) {
        let _ = (now, id, reply, net);
    }

    /// The application says something.
    fn handle_message(&mut self, now: Now, message: Self::Message, net: &mut Net<M>);

    /// The host has read what there was and will write next: the time to send what a batch of
    /// events added up to.
    fn handle_turn(&mut self, now: Now, net: &mut Net<M>) {
        let _ = (now, net);
    }

    /// When it wants [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    /// Does what was due at or before `now`; the next deadline is later.
    fn handle_timeout(&mut self, now: Now, net: &mut Net<M>) {
        let _ = (now, net);
    }

    /// The next thing to tell the application.
    fn poll_report(&mut self) -> Option<Self::Report> {
        None
    }
}
