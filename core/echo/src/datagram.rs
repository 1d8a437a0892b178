//! The server's side over datagrams.
//!
//! | what happens | answer |
//! |---|---|
//! | a datagram from a port of 1024 or above | queued to go back as it came; `Received` |
//! | one from a lower port | counted as `refused` |
//! | one while the queue is full | counted as `dropped` |
//! | one of ours, back in an ICMP error | counted as `errors` |
//! | the first stamp of an answer, and a better one | `Sent`, with the residence time |
//! | an answer that does not leave | `NotSent` |

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::SocketAddr;

use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Interval, Now, Received, Refused, Stamp, Transmit,
    TransmitId,
};

/// Bytes that may wait to go back: a host that pulls after each datagram needs one datagram.
const QUEUED: usize = 256 * 1024;

/// What a queued datagram costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;

/// Answers whose stamps are awaited. The kernel reports within microseconds; older ones are forgotten.
const AWAITED: usize = 1024;

/// Events that may wait for a host that does not ask.
const EVENTS: usize = 1024;

/// Echoes datagrams, and measures how long each was here.
#[derive(Debug, Default)]
pub struct DatagramServer {
    queue: VecDeque<(Answer, Vec<u8>)>,
    queued: usize,
    awaited: VecDeque<Answer>,
    next: u64,
    events: VecDeque<ServerEvent<'static>>,
    counts: ServerCounts,
}

/// What an echo server tells of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent<'i> {
    /// One came and will go back.
    Received {
        /// What the answer is called.
        id: TransmitId,
        /// Who sent it.
        from: SocketAddr,
        /// What is in it.
        payload: &'i [u8],
    },
    /// The answer left. Told again if the kernel's own stamp comes later.
    Sent {
        /// Which.
        id: TransmitId,
        /// To whom.
        to: SocketAddr,
        /// From arrival to departure.
        residence: Interval,
    },
    /// The answer did not leave.
    NotSent {
        /// Which.
        id: TransmitId,
        /// To whom.
        to: SocketAddr,
        /// Why.
        failure: Failure,
    },
}

/// What a server has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Datagrams that came, all of them.
    pub received: u64,
    /// Answers given to the host.
    pub echoed: u64,
    /// Those from ports below 1024, which get no answer.
    pub refused: u64,
    /// Those that came while the queue was full.
    pub dropped: u64,
    /// Answers of ours that came back in ICMP errors.
    pub errors: u64,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    id: TransmitId,
    to: SocketAddr,
    source: Option<core::net::IpAddr>,
    received: Stamp,
}

impl DatagramServer {
    /// A server that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it has seen so far.
    pub fn counts(&self) -> ServerCounts {
        self.counts
    }

    fn tell(&mut self, event: ServerEvent<'static>) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    fn awaited(&self, id: TransmitId) -> Option<(usize, Answer)> {
        // The newest are at the back, and asked for first.
        let at = self.awaited.iter().rposition(|answer| answer.id == id)?;
        Some((at, *self.awaited.get(at)?))
    }
}

impl DatagramMachine for DatagramServer {
    type Event<'i> = ServerEvent<'i>;
    type Command<'c> = Infallible;

    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram<'i>(
        &mut self,
        _: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<ServerEvent<'i>> {
        let counts = &mut self.counts;
        if meta.error.is_some() {
            counts.errors = counts.errors.saturating_add(1);
            return None;
        }
        counts.received = counts.received.saturating_add(1);
        if meta.source.port() < 1024 {
            counts.refused = counts.refused.saturating_add(1);
            return None;
        }
        let cost = payload.len().saturating_add(OVERHEAD);
        let queued = self.queued.saturating_add(cost);
        if queued > QUEUED {
            counts.dropped = counts.dropped.saturating_add(1);
            return None;
        }
        self.queued = queued;
        let id = TransmitId(self.next);
        self.next = self.next.saturating_add(1);
        // From the address it was sent to: a host may have several.
        let source = meta.destination;
        let answer = Answer { id, to: meta.source, source, received: meta.stamp };
        self.queue.push_back((answer, payload.to_vec()));
        Some(ServerEvent::Received { id, from: meta.source, payload })
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        if let Some((at, answer)) = self.awaited(id) {
            if stamp.clock == semfio_machine::Clock::Kernel {
                self.awaited.remove(at);
            }
            let residence = Interval::between(answer.received, stamp);
            self.tell(ServerEvent::Sent { id, to: answer.to, residence });
        }
    }

    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        if let Some((at, answer)) = self.awaited(id) {
            self.awaited.remove(at);
            self.tell(ServerEvent::NotSent { id, to: answer.to, failure });
        }
    }

    fn handle_command(&mut self, _: Now, command: Infallible) -> Result<(), Refused> {
        match command {}
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (answer, payload) = self.queue.pop_front()?;
        let cost = payload.len().saturating_add(OVERHEAD);
        self.queued = self.queued.saturating_sub(cost);
        self.counts.echoed = self.counts.echoed.saturating_add(1);
        if self.awaited.len() == AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back(answer);
        buf.extend_from_slice(&payload);
        Some(Transmit {
            id: answer.id,
            destination: answer.to,
            size: payload.len(),
            segment_size: None,
            hop_limit: None,
            source: answer.source,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now) {}

    fn poll_event(&mut self) -> Option<ServerEvent<'static>> {
        self.events.pop_front()
    }
}
