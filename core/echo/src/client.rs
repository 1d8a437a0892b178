//! The client's side over datagrams.
//!
//! A datagram is a token of 8 bytes that is the client's own, its number (8 bytes, big-endian,
//! from 0), and a payload. Each goes through these states, and is forgotten at its deadline:
//!
//! | state | what happens | event | state then |
//! |---|---|---|---|
//! | Queued | the host fetches it | | Waiting |
//! | Waiting | its echo | `Reply`, or `Altered` | Answered |
//! | Waiting | it does not leave, or comes back in an ICMP error | `Failed` | Failed |
//! | Answered | a better stamp of its departure | `Restamped` | Answered |
//! | Answered, Failed | its echo (again) | `Duplicate` | unchanged |
//! | Queued, Waiting | the deadline | `Lost` | forgotten |
//! | Answered, Failed | the deadline | | forgotten |

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use rand_core::RngCore;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Failure, Instant, Interval, Now, QuotedError,
    Received, Refused, Seed, Stamp, Transmit, TransmitId,
};

/// Bytes before the payload: token and number.
pub const HEADER: usize = 16;

/// The largest payload: what a UDP datagram over IPv4 holds, less the header.
const LARGEST: usize = 65_507 - HEADER;

/// Which stream of the seed the token is drawn from.
const TOKEN: u64 = 0x6563_686f;

/// Sends numbered datagrams to an echo server, and tells what becomes of each.
#[derive(Debug)]
pub struct DatagramClient {
    server: SocketAddr,
    config: ClientConfig,
    token: u64,
    /// Without gaps, oldest first: deadlines ascend, and a number leads to its place.
    pending: VecDeque<Pending>,
    /// The number of the first of them.
    first: u64,
    /// The number of the next one to be fetched.
    unsent: u64,
    /// Bytes of payload held.
    held: usize,
    events: VecDeque<ClientEvent<'static>>,
    counts: ClientCounts,
}

/// The bounds of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// How long an echo may take. Default 1 s, as `ping` waits.
    pub timeout: Duration,
    /// Datagrams that are not forgotten yet. Default 1,024, so many a timeout can be sent.
    pub pending: usize,
    /// Bytes of payload kept to compare with their echoes. Default 1 MiB.
    pub held: usize,
}

/// Asks for one datagram; its number is one more than that of the last, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping<'c> {
    /// What shall come back: at most 65,491 bytes, which is a UDP datagram less [`HEADER`].
    pub payload: &'c [u8],
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent<'i> {
    /// It came back.
    Reply {
        /// Which.
        number: u64,
        /// What was in it.
        payload: &'i [u8],
        /// From departure to return; `None` if the host has not said when it left.
        round_trip: Option<Interval>,
        /// The hop limit that its echo arrived with.
        hop_limit: Option<u8>,
    },
    /// It came back with another payload.
    Altered {
        /// Which.
        number: u64,
        /// What is in it now.
        payload: &'i [u8],
    },
    /// The round trip of a reply, measured better: the kernel's stamp came after the reply.
    Restamped {
        /// Which.
        number: u64,
        /// From departure to return.
        round_trip: Interval,
    },
    /// It came back once more, or though it was said to have failed.
    Duplicate {
        /// Which.
        number: u64,
    },
    /// It did not come back in time.
    Lost {
        /// Which.
        number: u64,
    },
    /// It did not leave, or did not arrive.
    Failed {
        /// Which.
        number: u64,
        /// Who says so.
        why: Failed,
    },
}

/// Why a datagram did not reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The system did not send it.
    Send(Failure),
    /// A router or the server's host sent it back.
    Icmp(QuotedError),
}

/// What a client has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Datagrams given to the host.
    pub sent: u64,
    /// Echoes in time, altered ones included.
    pub replies: u64,
    /// Echoes of what had been answered.
    pub duplicates: u64,
    /// Echoes after their deadline.
    pub late: u64,
    /// Those without an echo in time.
    pub lost: u64,
    /// Those that did not leave or arrive.
    pub failed: u64,
    /// Events that the host did not fetch in time.
    pub untold: u64,
}

#[derive(Debug)]
struct Pending {
    deadline: Instant,
    payload: Vec<u8>,
    sent: Option<Stamp>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Waiting,
    Answered(Stamp),
    Failed,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(1), pending: 1024, held: 1024 * 1024 }
    }
}

impl DatagramClient {
    /// A client of one server. Its token, drawn from `seed`, tells its echoes from foreign ones.
    pub fn new(server: SocketAddr, seed: &Seed, config: ClientConfig) -> Self {
        Self {
            server,
            config,
            token: seed.stream(TOKEN).next_u64(),
            pending: VecDeque::new(),
            first: 0,
            unsent: 0,
            held: 0,
            events: VecDeque::new(),
            counts: ClientCounts::default(),
        }
    }

    /// What it has seen so far.
    pub fn counts(&self) -> ClientCounts {
        self.counts
    }

    /// Datagrams that are not forgotten yet; at zero there is nothing left to wait for.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn find(&mut self, number: u64) -> Option<&mut Pending> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pending.get_mut(place)
    }

    /// The number in a datagram of ours.
    fn number(&self, datagram: &[u8]) -> Option<u64> {
        let (token, rest) = datagram.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        (u64::from_be_bytes(*token) == self.token).then_some(u64::from_be_bytes(*number))
    }

    /// It needs no more comparison: lets go of the payload.
    fn settle(&mut self, number: u64, state: State) -> Option<Vec<u8>> {
        let pending = self.find(number)?;
        pending.state = state;
        let payload = core::mem::take(&mut pending.payload);
        self.held = self.held.saturating_sub(payload.len());
        Some(payload)
    }

    fn fail(&mut self, number: u64, why: Failed) {
        if self.find(number).is_some_and(|pending| pending.state == State::Waiting) {
            self.settle(number, State::Failed);
            self.counts.failed = self.counts.failed.saturating_add(1);
            self.tell(ClientEvent::Failed { number, why });
        }
    }

    /// At most three events for each that is pending are kept for a host that does not ask.
    fn tell(&mut self, event: ClientEvent<'static>) {
        if self.events.len() < self.config.pending.saturating_mul(3) {
            self.events.push_back(event);
        } else {
            self.counts.untold = self.counts.untold.saturating_add(1);
        }
    }
}

impl DatagramMachine for DatagramClient {
    type Event<'i> = ClientEvent<'i>;
    type Command<'c> = Ping<'c>;

    fn accepts(&self, meta: &Received, payload: &[u8]) -> bool {
        meta.source == self.server && self.number(payload).is_some()
    }

    fn handle_datagram<'i>(
        &mut self,
        _: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<ClientEvent<'i>> {
        if !self.accepts(&meta, payload) {
            return None;
        }
        let number = self.number(payload)?;
        if let Some(error) = meta.error {
            self.fail(number, Failed::Icmp(error));
            return None;
        }
        let Some(pending) = self.find(number) else {
            self.counts.late = self.counts.late.saturating_add(1);
            return None;
        };
        let sent = pending.sent;
        match pending.state {
            // An echo of what was not sent yet is a guess.
            State::Queued => return None,
            State::Waiting => {}
            State::Answered(_) | State::Failed => {
                self.counts.duplicates = self.counts.duplicates.saturating_add(1);
                return Some(ClientEvent::Duplicate { number });
            }
        }
        let asked = self.settle(number, State::Answered(meta.stamp))?;
        self.counts.replies = self.counts.replies.saturating_add(1);
        let payload = payload.get(HEADER..)?;
        if asked != payload {
            return Some(ClientEvent::Altered { number, payload });
        }
        let round_trip = sent.map(|sent| Interval::between(sent, meta.stamp));
        Some(ClientEvent::Reply { number, payload, round_trip, hop_limit: meta.hop_limit })
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        let Some(pending) = self.find(id.0) else {
            return;
        };
        // The process's clock never replaces the kernel's.
        if pending.sent.is_some_and(|old| old.clock == Clock::Kernel) {
            return;
        }
        pending.sent = Some(stamp);
        if let State::Answered(received) = pending.state {
            let round_trip = Interval::between(stamp, received);
            self.tell(ClientEvent::Restamped { number: id.0, round_trip });
        }
    }

    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        self.fail(id.0, Failed::Send(failure));
    }

    fn handle_command(&mut self, now: Now, Ping { payload }: Ping<'_>) -> Result<(), Refused> {
        if payload.len() > LARGEST {
            return Err(Refused::Invalid("a payload larger than a datagram"));
        }
        let held = self.held.saturating_add(payload.len());
        if self.pending.len() >= self.config.pending || held > self.config.held {
            return Err(Refused::Full);
        }
        self.held = held;
        self.pending.push_back(Pending {
            deadline: now.mono.saturating_add(self.config.timeout),
            payload: payload.to_vec(),
            sent: None,
            state: State::Queued,
        });
        Ok(())
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (number, token) = (self.unsent, self.token);
        let pending = self.find(number)?;
        pending.state = State::Waiting;
        buf.extend_from_slice(&token.to_be_bytes());
        buf.extend_from_slice(&number.to_be_bytes());
        buf.extend_from_slice(&pending.payload);
        let size = pending.payload.len().saturating_add(HEADER);
        self.unsent = number.saturating_add(1);
        self.counts.sent = self.counts.sent.saturating_add(1);
        Some(Transmit {
            id: TransmitId(number),
            destination: self.server,
            size,
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let first = self.pending.front()?;
        Some(Deadline { at: first.deadline, why: "echo" })
    }

    fn handle_timeout(&mut self, now: Now) {
        while self.pending.front().is_some_and(|first| first.deadline <= now.mono) {
            let Some(pending) = self.pending.pop_front() else {
                return;
            };
            let number = self.first;
            self.first = number.saturating_add(1);
            self.unsent = self.unsent.max(self.first);
            self.held = self.held.saturating_sub(pending.payload.len());
            if matches!(pending.state, State::Queued | State::Waiting) {
                self.counts.lost = self.counts.lost.saturating_add(1);
                self.tell(ClientEvent::Lost { number });
            }
        }
    }

    fn poll_event(&mut self) -> Option<ClientEvent<'static>> {
        self.events.pop_front()
    }
}
