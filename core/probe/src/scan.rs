//! Port scans: which ports of which hosts answer, and how that is known.
//!
//! | scan | asks by | needs |
//! |---|---|---|
//! | [`ConnectScan`] | connecting, and a reset | nothing |
//! | [`SynScan`] | the first segment of a connection | raw sockets for TCP and ICMP |
//! | [`UdpScan`] | a datagram that some server may answer | nothing |
//!
//! A *question* is one port of one host. Each is asked until there is an answer, or until it was met
//! with silence often enough, and has exactly one [`Found`]. Questions come in the order in which
//! ports were given, each port for all hosts in turn: the same arguments ask the same, which can be
//! read in a capture; hosts share the load; and who gives frequent ports first, learns of them first.
//! A permutation would spread a burst of losses over the ports, but what is lost is asked again anyway.

mod connect;
mod desk;
mod pace;
mod payload;
mod syn;
mod udp;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use semfio_machine::{Failure, QuotedError, Refused};

pub use connect::{ConnectScan, Knock};
pub use syn::SynScan;
pub use udp::UdpScan;

/// Stop: the only message to a scan. Questions on their way have no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quit;

/// What a scan by single packets tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEvent {
    /// A verdict.
    Found(Found),
    /// There is nothing left to ask; told once.
    Ended,
}

/// Hosts of a scan: a /20 of IPv4. A place for one is some 100 bytes.
pub const MAX_SCAN_HOSTS: usize = 4_096;

/// Questions of a scan: all ports of 256 hosts.
pub const MAX_QUESTIONS: u64 = 1 << 24;

/// Questions on their way at once; more than a process may have descriptors for by default.
pub const MAX_SCAN_WINDOW: u32 = 16_384;

/// Times that a question may be asked again after silence: with doubled patience, 10 are 17 minutes.
pub const MAX_RETRIES: u8 = 10;

/// What is asked, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanConfig {
    /// The ports, in the order in which they are asked. Those that come twice are asked once.
    pub ports: Vec<u16>,
    /// Questions on their way at once, at most. Default 1,000: what a process can have open where
    /// nobody has changed that. Fewer are, where answers are lost or the system has no room.
    pub window: u32,
    /// Questions a second, at most. Default: as the window has it.
    pub rate: Option<u32>,
    /// The longest that an answer to one question is waited for. Default 2 s; it is less where round
    /// trips are known, and 1 s where nothing is.
    pub wait: Duration,
    /// How often a question is asked again after silence. Default 2: two may be lost.
    pub retries: u8,
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            window: 1_000,
            rate: None,
            wait: Duration::from_secs(2),
            retries: 2,
        }
    }
}

/// What is known of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortState {
    /// Somebody listens there.
    Open,
    /// Its host says that nobody listens.
    Closed,
    /// Questions or answers are held up: nothing came back, or somebody on the way says so.
    Filtered,
    /// Nothing came back, as it would from somebody who listens and does not speak.
    OpenOrFiltered,
    /// There is no way to it, by what the system says or was told.
    Unreachable,
    /// The system would not ask. Nothing is known of the port.
    Unasked,
}

/// How a [`PortState`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A connection stood.
    Connected,
    /// The system was refused a connection: by a reset, or in the words of ICMP.
    Refused,
    /// A SYN was acknowledged by another.
    SynAck,
    /// A SYN was acknowledged by a reset.
    Reset,
    /// A datagram came from the port.
    Answer,
    /// The connection met itself, on a port that the system had chosen for our side: nobody else is
    /// there.
    MetItself,
    /// Nothing, often enough.
    Silence,
    /// An ICMP error, and by whom.
    Icmp(IcmpReason),
    /// The system, in its words.
    System(Failure),
}

/// An ICMP error as the reason for a [`PortState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpReason {
    /// Who sent it, where that is known.
    pub from: Option<IpAddr>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
}

impl From<QuotedError> for IcmpReason {
    fn from(error: QuotedError) -> Self {
        let QuotedError { offender, icmp_type, icmp_code, .. } = error;
        Self { from: offender, icmp_type, icmp_code }
    }
}

/// The verdict on a port: one for each question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose port, by its place among the hosts.
    pub host: usize,
    /// Which.
    pub target: SocketAddr,
    /// What is known.
    pub state: PortState,
    /// How.
    pub reason: Reason,
    /// From the question to its answer, where there was one.
    pub round_trip: Option<Duration>,
    /// How often it was asked, where the system let us.
    pub tries: u8,
}

/// How a scan goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCounts {
    /// Questions there are.
    pub questions: u64,
    /// Of which so many have an answer or a verdict.
    pub found: u64,
    /// Questions that were asked, each time counted.
    pub asked: u64,
    /// Questions that were asked again after silence.
    pub again: u64,
    /// Times the system had no room for one more.
    pub exhausted: u64,
    /// What came that was no answer: late, twice, or of somebody who cannot know what was asked.
    pub foreign: u64,
    /// The most that may be on their way now.
    pub window: u32,
}

/// Which questions there are, and which is next.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    hosts: Vec<SocketAddr>,
    ports: Vec<u16>,
    next: u64,
}

/// One port of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) host: usize,
    pub(crate) target: SocketAddr,
    /// How often it was asked.
    pub(crate) tries: u8,
}

impl Questions {
    /// # Errors
    ///
    /// There are none, or more than the bounds allow.
    pub(crate) fn new(hosts: &[SocketAddr], ports: &[u16]) -> Result<Self, Refused> {
        let mut seen = BTreeSet::new();
        let ports: Vec<u16> = ports.iter().copied().filter(|&port| seen.insert(port)).collect();
        if hosts.is_empty() || ports.is_empty() {
            return Err(Refused::Invalid("there is nothing to ask"));
        }
        if hosts.len() > MAX_SCAN_HOSTS {
            return Err(Refused::Invalid("more than 4096 hosts"));
        }
        let questions = Self { hosts: hosts.to_vec(), ports, next: 0 };
        match questions.len() > MAX_QUESTIONS {
            true => Err(Refused::Invalid("more than 16777216 questions")),
            false => Ok(questions),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        let (hosts, ports) = (self.hosts.len(), self.ports.len());
        u64::try_from(hosts.saturating_mul(ports)).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.next >= self.len()
    }

    pub(crate) fn stop(&mut self) {
        self.next = self.len();
    }

    pub(crate) fn next(&mut self) -> Option<Question> {
        let at = usize::try_from(self.next).ok()?;
        let port = *self.ports.get(at.checked_div(self.hosts.len())?)?;
        let host = at.checked_rem(self.hosts.len())?;
        let mut target = *self.hosts.get(host)?;
        target.set_port(port);
        self.next = self.next.saturating_add(1);
        Some(Question { host, target, tries: 0 })
    }
}

impl Question {
    pub(crate) fn found(
        &self,
        state: PortState,
        reason: Reason,
        round_trip: Option<Duration>,
    ) -> Found {
        let Self { host, target, tries } = *self;
        Found { host, target, state, reason, round_trip, tries }
    }
}
