//! Time between two stamps.

use core::time::Duration;

use crate::datagram::{Clock, Stamp};

/// How long something took, and whose clocks say so.
///
/// From kernel to kernel it is the time on the wire and at the other end. A process reads its
/// clock later than the kernel: an end by [`Clock::User`] adds the time a host was busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Zero if the second stamp is before the first, as mixed clocks can have it.
    pub length: Duration,
    /// Who read the clock at the beginning.
    pub from: Clock,
    /// Who read the clock at the end.
    pub to: Clock,
}

impl Interval {
    /// From one stamp to another.
    pub fn between(from: Stamp, to: Stamp) -> Self {
        Self { length: to.at.saturating_since(from.at), from: from.clock, to: to.clock }
    }
}
