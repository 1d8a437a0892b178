//! Machines over datagrams.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::{IpAddr, SocketAddr};

use crate::effect::Failure;
use crate::stream::Refused;
use crate::time::{Deadline, Instant, Now};

/// One side of an exchange of datagrams, over one socket or one for each carrier and family.
///
/// Datagrams are pulled: the host calls [`poll_transmit`](Self::poll_transmit) until it gives
/// nothing, after every `handle_*`, and then [`poll_event`](Self::poll_event) likewise. What is
/// malformed or foreign is counted and dropped, never an error.
pub trait DatagramMachine {
    /// What it tells the application; may borrow the datagram. A trace has its `Debug` text.
    type Event<'i>: Debug;
    /// What the application may ask.
    type Command<'c>;

    /// Whether this datagram is for this machine; several may share a socket.
    fn accepts(&self, meta: &Received, payload: &[u8]) -> bool;

    /// Takes in a datagram.
    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<Self::Event<'i>>;

    /// A transmit left at `stamp`. Called with the host's clock at once, and again if the kernel
    /// reports its own stamp: before the datagrams that came after it.
    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp);

    /// A transmit did not leave.
    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure);

    /// Does what the application asks, or refuses and changes nothing.
    fn handle_command(&mut self, now: Now, command: Self::Command<'_>) -> Result<(), Refused>;

    /// Appends the next datagram to `buf` (given empty) and says where it goes.
    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit>;

    /// When it wants [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Deadline>;

    /// Does what was due at or before `now`; the next deadline is later.
    fn handle_timeout(&mut self, now: Now);

    /// Events that no datagram carries: lost, stamped, finished.
    fn poll_event(&mut self) -> Option<Self::Event<'static>>;
}

/// A transmit, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransmitId(pub u64);

/// When a datagram passed, and whose clock says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// On the host's monotonic clock; kernel stamps are converted by the host.
    pub at: Instant,
    /// Never mix two of them in one difference without saying so.
    pub clock: Clock,
}

/// Who read the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// The kernel, as the datagram passed.
    Kernel,
    /// The process, some time after.
    User,
}

/// How a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it; for an error from the error queue, the destination of what was sent.
    pub source: SocketAddr,
    /// The address it was sent to, where the system tells.
    pub destination: Option<IpAddr>,
    /// The TTL or hop limit it arrived with, where the system tells.
    pub hop_limit: Option<u8>,
    /// The TOS or traffic-class octet, where the system tells.
    pub traffic_class: Option<u8>,
    /// What brought it; for an error from the error queue, what carried the transmit.
    pub carrier: Carrier,
    /// When it arrived.
    pub stamp: Stamp,
    /// Set if this is a datagram of ours that came back in an ICMP error.
    pub error: Option<QuotedError>,
}

/// An ICMP error that the system attached to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotedError {
    /// Who sent the error, where the system tells.
    pub offender: Option<IpAddr>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// What came with it: the next hop's MTU.
    pub info: u32,
    /// Where in the bytes that came back the router's extension (RFC 4884) begins, if there is one.
    /// Padding may stand before it.
    pub extension: Option<u16>,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transmit that is not sent is lost, and its machine does not know"]
pub struct Transmit {
    /// For [`DatagramMachine::handle_sent`].
    pub id: TransmitId,
    /// Whom it goes to.
    pub destination: SocketAddr,
    /// Bytes in the buffer.
    pub size: usize,
    /// If set, the buffer holds several datagrams of this size, the last maybe shorter.
    pub segment_size: Option<usize>,
    /// The TTL or hop limit to send with, if not the system's.
    pub hop_limit: Option<u8>,
    /// The address to send from, if not the system's choice.
    pub source: Option<IpAddr>,
    /// What carries it.
    pub carrier: Carrier,
}

/// What carries a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// UDP; the buffer is its payload.
    Udp,
    /// An ICMP datagram socket; the buffer is the ICMP message. The system puts its own identifier
    /// into it.
    Icmp,
    /// A raw socket for ICMP or ICMPv6; the buffer is the message. It also receives the errors about
    /// what other sockets sent.
    RawIcmp,
    /// A raw socket for TCP; the buffer is the segment, its checksum included.
    RawTcp,
}
