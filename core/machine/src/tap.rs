//! What a run is recorded by.

use core::fmt::Debug;

use crate::datagram::{Received, Stamp, Transmit, TransmitId};
use crate::effect::{Failure, Reply, RequestId};
use crate::net::Action;
use crate::outbox::Outbox;
use crate::service::{ConnId, Peer};
use crate::time::Now;

/// Sees everything that enters and leaves a [`Shard`](crate::Shard) or an
/// [`Endpoint`](crate::Endpoint).
pub trait Tap<Message> {
    /// `entry` happens at `now`.
    fn record(&mut self, now: Now, entry: TapEntry<'_, Message>);

    /// Hands over what it has gathered since the last call, if it gathers and does not pass on.
    fn drain(&mut self, to: &mut dyn FnMut(&[u8])) {
        let _ = to;
    }
}

/// What a [`Tap`] sees: the calls of the host, then what they led to.
///
/// Of an endpoint, the last ones: a message is a command as bytes, a report an event.
#[derive(Debug)]
#[non_exhaustive]
pub enum TapEntry<'a, Message> {
    /// In: a peer connected; it became `conn`, or was turned away.
    Accepted(Option<ConnId>, &'a Peer),
    /// In: a dialled connection stands.
    Connected(ConnId, &'a Peer),
    /// In: bytes came.
    Received(ConnId, &'a [u8]),
    /// In: the peer has finished.
    Eof(ConnId),
    /// In: the system broke or never made the connection.
    Failed(ConnId, Failure),
    /// In: that many bytes of this outbox were sent. Seen before they leave the outbox.
    Sent(ConnId, usize, &'a Outbox),
    /// In: the host answered.
    Reply(RequestId, &'a Reply<'a>),
    /// In: a batch is complete.
    Turn,
    /// Out: the host has to do this.
    Action(&'a Action),
    /// Out: the service was told that the connection is over.
    Closed(ConnId, &'a dyn Debug),
    /// Out: the machine has changed its state.
    State(ConnId, &'static str),
    /// In: the application spoke.
    Message(&'a Message),
    /// In: time passed.
    Timeout,
    /// Out: the application is told this.
    Report(&'a dyn Debug),
    /// In: a datagram came.
    Datagram(&'a Received, &'a [u8]),
    /// In: the socket took that many bytes of this transmit.
    Left(TransmitId, usize),
    /// In: the kernel says when this transmit left.
    Stamped(TransmitId, Stamp),
    /// In: the socket refused this transmit.
    Refused(TransmitId, Failure),
    /// In: the socket has no room.
    Blocked,
    /// In: the socket may have room again.
    Writable,
    /// In: the application goes by this from here on; the machine does not hear it.
    Note(&'a [u8]),
    /// Out: asked for the next thing to do, the machine sends this.
    Transmit(&'a Transmit, &'a [u8]),
    /// Out: asked for the next thing to do, the machine has none.
    Nothing,
}
