//! Who is pinged.
//!
//! | what happens | what it does | tells |
//! |---|---|---|
//! | a datagram that chance takes | nothing more: it counts as never arrived | `Dropped` |
//! | a datagram | sends it back with `a` to `z` in capitals | `Answered` |
//! | with [`heartbeat`](UdpPingServerConfig::heartbeat): a number | compares it with those before | `Heartbeat` |
//! | a client is silent for long | forgets it | `Gone` |
//! | a datagram from a port below 1024 | nothing: it could be a service that answers for ever | |
//! | a datagram while too much waits to go back | nothing | |
//!
//! The fate of a client's n-th datagram depends on the seed and n alone: everybody in a classroom sees
//! the same losses, and sees them again tomorrow.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Instant, Now, Received, Refused, Rng, Seed, Stamp,
    Transmit, TransmitId, UnixTime,
};

use super::parse;

/// Clients remembered; one more, and who was silent longest is forgotten.
pub const MAX_CLIENTS: usize = 1_024;

/// Bytes that may wait to go back: a host that pulls after each datagram needs one datagram.
const QUEUED: usize = 256 * 1024;
/// What a queued datagram costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Numbers below the highest that are remembered as heard or missing.
const WINDOW: u64 = 64;
/// Chances are in a million.
const MILLION: u64 = 1_000_000;
/// Which stream of the seed fates are drawn from.
const FATES: u64 = 0x6661_7465;

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPingServerConfig {
    /// How many in a million are taken by chance. Default none; the textbook takes some 36 %.
    pub loss: u32,
    /// Says what is missing instead of answering.
    pub heartbeat: bool,
    /// After which silence a client is gone. Default 10 s.
    pub silence: Duration,
}

/// What a server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPingServerEvent<'i> {
    /// Goes back in capitals.
    Answered {
        /// To whom.
        client: SocketAddr,
        /// What came.
        text: &'i [u8],
    },
    /// Taken by chance.
    Dropped {
        /// Whose it was.
        client: SocketAddr,
        /// What came.
        text: &'i [u8],
    },
    /// A heartbeat.
    Heartbeat {
        /// Whose.
        client: SocketAddr,
        /// Its number.
        number: u64,
        /// How it stands to those before.
        order: Order,
        /// When it left, by the client's clock, which may be off.
        sent: Option<UnixTime>,
    },
    /// A client was silent for long.
    Gone {
        /// Which.
        client: SocketAddr,
        /// What it did.
        counts: ClientCounts,
    },
}

/// How a heartbeat stands to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Higher than all, and so many before it are missing.
    Next {
        /// Not heard, between the highest so far and this.
        missing: u64,
    },
    /// One that was missing.
    Late,
    /// One that was heard before.
    Again,
    /// Far below: the client has begun anew.
    Anew,
}

/// What one client did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Datagrams that came, all of them.
    pub received: u64,
    /// Those taken by chance.
    pub dropped: u64,
    /// Heartbeats that are missing.
    pub missing: u64,
}

/// What a server has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpPingServerCounts {
    /// Datagrams that came, all of them.
    pub received: u64,
    /// Given back to the host.
    pub answered: u64,
    /// Taken by chance.
    pub dropped: u64,
    /// From ports below 1024.
    pub refused: u64,
    /// Heartbeats without a number.
    pub unreadable: u64,
    /// What came while too much waited to go back.
    pub full: u64,
    /// Answers that did not leave or arrive.
    pub failed: u64,
    /// Events that the host did not fetch in time.
    pub untold: u64,
}

/// Answers pings, or listens to heartbeats.
#[derive(Debug)]
pub struct UdpPingServer {
    config: UdpPingServerConfig,
    seed: Seed,
    clients: BTreeMap<SocketAddr, Client>,
    /// The clients by when they were heard last.
    heard: BTreeSet<(Instant, SocketAddr)>,
    queue: VecDeque<Answer>,
    queued: usize,
    events: VecDeque<UdpPingServerEvent<'static>>,
    counts: UdpPingServerCounts,
}

#[derive(Debug)]
struct Client {
    heard: Instant,
    fates: Rng,
    highest: Option<u64>,
    /// Bit n: whether the number n below the highest was heard.
    window: u64,
    counts: ClientCounts,
}

#[derive(Debug)]
struct Answer {
    to: SocketAddr,
    source: Option<IpAddr>,
    text: Vec<u8>,
}

impl Default for UdpPingServerConfig {
    fn default() -> Self {
        Self { loss: 0, heartbeat: false, silence: Duration::from_secs(10) }
    }
}

impl UdpPingServer {
    /// A server that has heard nobody. What `seed` decides is which datagrams chance takes.
    pub fn new(seed: Seed, config: UdpPingServerConfig) -> Self {
        Self {
            config,
            seed,
            clients: BTreeMap::new(),
            heard: BTreeSet::new(),
            queue: VecDeque::new(),
            queued: 0,
            events: VecDeque::new(),
            counts: UdpPingServerCounts::default(),
        }
    }

    /// What it has seen so far.
    pub fn counts(&self) -> UdpPingServerCounts {
        self.counts
    }

    /// What each client did that is not gone.
    pub fn clients(&self) -> impl Iterator<Item = (SocketAddr, ClientCounts)> {
        self.clients.iter().map(|(address, client)| (*address, client.counts))
    }

    /// Forgets the one that was silent longest.
    fn forget(&mut self) {
        let Some((_, address)) = self.heard.pop_first() else { return };
        let Some(client) = self.clients.remove(&address) else { return };
        if self.events.len() < MAX_CLIENTS {
            let counts = client.counts;
            self.events.push_back(UdpPingServerEvent::Gone { client: address, counts });
        } else {
            self.counts.untold = self.counts.untold.saturating_add(1);
        }
    }

    /// The client at an address, heard now.
    fn client(&mut self, now: Now, address: SocketAddr) -> &mut Client {
        if let Some(client) = self.clients.get(&address) {
            self.heard.remove(&(client.heard, address));
        } else if self.clients.len() >= MAX_CLIENTS {
            self.forget();
        }
        self.heard.insert((now.mono, address));
        let seed = &self.seed;
        let client = self.clients.entry(address).or_insert_with(|| Client {
            heard: now.mono,
            fates: seed.stream(FATES),
            highest: None,
            window: 0,
            counts: ClientCounts::default(),
        });
        client.heard = now.mono;
        client
    }
}

impl Client {
    /// Whether chance takes the next datagram.
    fn draw(&mut self, loss: u32) -> bool {
        let drawn = u64::from(self.fates.next_u32()).saturating_mul(MILLION) >> 32;
        drawn < u64::from(loss)
    }

    fn hear(&mut self, number: u64) -> Order {
        let highest = *self.highest.get_or_insert(number.saturating_sub(1));
        if let Some(below) = highest.checked_sub(number) {
            if below >= WINDOW {
                (self.highest, self.window) = (Some(number), 1);
                return Order::Anew;
            }
            let bit = 1_u64.checked_shl(u32::try_from(below).unwrap_or(u32::MAX)).unwrap_or(0);
            if self.window & bit != 0 {
                return Order::Again;
            }
            self.window |= bit;
            self.counts.missing = self.counts.missing.saturating_sub(1);
            return Order::Late;
        }
        let step = number.saturating_sub(highest);
        let step32 = u32::try_from(step).unwrap_or(u32::MAX);
        self.window = self.window.checked_shl(step32).unwrap_or(0) | 1;
        self.highest = Some(number);
        let missing = step.saturating_sub(1);
        self.counts.missing = self.counts.missing.saturating_add(missing);
        Order::Next { missing }
    }
}

impl DatagramMachine for UdpPingServer {
    type Event<'i> = UdpPingServerEvent<'i>;
    type Command<'c> = Infallible;

    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<UdpPingServerEvent<'i>> {
        let counts = &mut self.counts;
        if meta.error.is_some() {
            counts.failed = counts.failed.saturating_add(1);
            return None;
        }
        counts.received = counts.received.saturating_add(1);
        if meta.source.port() < 1024 {
            counts.refused = counts.refused.saturating_add(1);
            return None;
        }
        let (address, loss, heartbeat) = (meta.source, self.config.loss, self.config.heartbeat);
        let client = self.client(now, address);
        client.counts.received = client.counts.received.saturating_add(1);
        if client.draw(loss) {
            client.counts.dropped = client.counts.dropped.saturating_add(1);
            self.counts.dropped = self.counts.dropped.saturating_add(1);
            return Some(UdpPingServerEvent::Dropped { client: address, text: payload });
        }
        if heartbeat {
            let Some((number, sent)) = parse(payload) else {
                self.counts.unreadable = self.counts.unreadable.saturating_add(1);
                return None;
            };
            let order = client.hear(number);
            return Some(UdpPingServerEvent::Heartbeat { client: address, number, order, sent });
        }
        let queued = self.queued.saturating_add(payload.len()).saturating_add(OVERHEAD);
        if queued > QUEUED {
            self.counts.full = self.counts.full.saturating_add(1);
            return None;
        }
        self.queued = queued;
        // From the address it was sent to: a host may have several.
        let (source, text) = (meta.destination, payload.to_ascii_uppercase());
        self.queue.push_back(Answer { to: address, source, text });
        Some(UdpPingServerEvent::Answered { client: address, text: payload })
    }

    fn handle_sent(&mut self, _: Now, _: TransmitId, _: Stamp) {}

    fn handle_send_error(&mut self, _: Now, _: TransmitId, _: Failure) {
        self.counts.failed = self.counts.failed.saturating_add(1);
    }

    fn handle_command(&mut self, _: Now, command: Infallible) -> Result<(), Refused> {
        match command {}
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let Answer { to, source, text } = self.queue.pop_front()?;
        self.queued = self.queued.saturating_sub(text.len().saturating_add(OVERHEAD));
        self.counts.answered = self.counts.answered.saturating_add(1);
        buf.extend_from_slice(&text);
        Some(Transmit {
            id: TransmitId(self.counts.answered),
            destination: to,
            size: text.len(),
            segment_size: None,
            hop_limit: None,
            source,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let (heard, _) = self.heard.first()?;
        Some(Deadline { at: heard.saturating_add(self.config.silence), why: "silence" })
    }

    fn handle_timeout(&mut self, now: Now) {
        while self.poll_timeout().is_some_and(|due| due.at <= now.mono) {
            self.forget();
        }
    }

    fn poll_event(&mut self) -> Option<UdpPingServerEvent<'static>> {
        self.events.pop_front()
    }
}
