//! Asking whether a UDP port is open, and saying no more than is known.
//!
//! One datagram of one byte, a line feed, goes to each port, and again while there is no answer:
//!
//! | what comes back | verdict |
//! |---|---|
//! | a datagram from there | `Open` |
//! | ICMP: port unreachable, from that address | `Closed` |
//! | ICMP: unreachable in another way, or from elsewhere | `Filtered`, and who says so |
//! | the system does not send it | `Unsent` |
//! | nothing, [`TRIES`] times | `OpenOrFiltered`: an open port may be silent, and a filter is |
//!
//! Ports are asked one after the other, since hosts limit the errors they send.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Instant, Now, QuotedError, Received, Refused,
    Stamp, Transmit, TransmitId,
};

/// Datagrams to each port: two may be lost.
pub const TRIES: u32 = 3;

/// What is asked: one byte, since some servers take an empty datagram for an end.
const QUESTION: &[u8] = b"\n";

/// What is known of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpVerdict {
    /// Something answered from there.
    Open,
    /// Its host says that nobody listens.
    Closed,
    /// Somebody on the way says that it cannot be reached.
    Filtered(QuotedError),
    /// The system did not send the question.
    Unsent(Failure),
    /// Nothing came back.
    OpenOrFiltered,
}

/// What is found, for each port in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFound {
    /// Where.
    pub target: SocketAddr,
    /// What is known of it.
    pub verdict: UdpVerdict,
}

/// A run of questions.
#[derive(Debug)]
pub struct UdpCheck {
    /// The one that is asked first.
    targets: VecDeque<SocketAddr>,
    /// Between two questions.
    interval: Duration,
    asked: u32,
    next: u64,
    /// When the next question is due, or the last answer.
    timer: Option<Instant>,
    found: VecDeque<UdpFound>,
}

impl UdpCheck {
    /// Asks these in turn, and waits `wait` in all for each.
    pub fn new(targets: Vec<SocketAddr>, wait: Duration) -> Self {
        Self {
            targets: targets.into(),
            interval: wait.checked_div(TRIES).unwrap_or(wait).max(Duration::from_millis(1)),
            asked: 0,
            next: 0,
            timer: None,
            found: VecDeque::new(),
        }
    }

    /// Whether all is known and told.
    pub fn is_over(&self) -> bool {
        self.targets.is_empty() && self.found.is_empty()
    }

    fn find(&mut self, verdict: UdpVerdict) {
        if let Some(target) = self.targets.pop_front() {
            self.found.push_back(UdpFound { target, verdict });
            self.asked = 0;
            self.timer = None;
        }
    }
}

/// What an ICMP error about a port says of it.
fn verdict(target: IpAddr, error: QuotedError) -> Option<UdpVerdict> {
    let (unreachable, port) = match target {
        IpAddr::V4(_) => (3, 3),
        IpAddr::V6(_) => (1, 4),
    };
    if error.icmp_type != unreachable {
        return None;
    }
    let from_there = error.offender.is_none_or(|offender| offender == target);
    Some(match error.icmp_code == port && from_there {
        true => UdpVerdict::Closed,
        false => UdpVerdict::Filtered(error),
    })
}

impl DatagramMachine for UdpCheck {
    type Event<'i> = UdpFound;
    type Command<'c> = Infallible;

    fn accepts(&self, meta: &Received, _: &[u8]) -> bool {
        // Before the question, nothing there is an answer.
        self.asked > 0 && self.targets.front() == Some(&meta.source)
    }

    fn handle_datagram(&mut self, _: Now, meta: Received, payload: &mut [u8]) -> Option<UdpFound> {
        if self.accepts(&meta, payload) {
            match meta.error {
                None => self.find(UdpVerdict::Open),
                Some(error) => {
                    verdict(meta.source.ip(), error).into_iter().for_each(|it| self.find(it));
                }
            }
        }
        None
    }

    fn handle_sent(&mut self, _: Now, _: TransmitId, _: Stamp) {}

    fn handle_send_error(&mut self, _: Now, _: TransmitId, failure: Failure) {
        self.find(UdpVerdict::Unsent(failure));
    }

    fn handle_command(&mut self, _: Now, command: Infallible) -> Result<(), Refused> {
        match command {}
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if self.timer.is_some() {
            return None;
        }
        let destination = *self.targets.front()?;
        buf.extend_from_slice(QUESTION);
        self.asked = self.asked.saturating_add(1);
        self.timer = Some(now.mono.saturating_add(self.interval));
        let id = TransmitId(self.next);
        self.next = self.next.saturating_add(1);
        Some(Transmit {
            id,
            destination,
            size: QUESTION.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer.map(|at| Deadline { at, why: "answer" })
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.timer.take_if(|at| *at <= now.mono).is_some() && self.asked >= TRIES {
            self.find(UdpVerdict::OpenOrFiltered);
        }
    }

    fn poll_event(&mut self) -> Option<UdpFound> {
        self.found.pop_front()
    }
}
