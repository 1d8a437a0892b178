//! Ping: echoes asked of many hosts, and what becomes of each.
//!
//! A *probe* is one request for an echo. Those of a host are numbered from 1; a number's low 16
//! bits are its sequence on the wire. From the moment the host of this machine fetches it, a
//! probe is in one of these states:
//!
//! | state | what happens | becomes | tells |
//! |---|---|---|---|
//! | Waiting | its echo | Answered | `Reply` |
//! | Waiting | it does not leave | Unsent | `NotSent` |
//! | Waiting | an ICMP error that quotes it | Unreachable | `Unreachable` |
//! | Waiting | the time to wait is over | Lost | `Lost` |
//! | Unreachable, Lost | its echo after all | Answered | `Reply`, late |
//! | Answered | its echo again | Answered | `Duplicate` |
//! | any but Unsent | its echo, from another address | unchanged | `Elsewhere` |
//!
//! and each host is in one of these:
//!
//! | state | what happens | becomes | tells |
//! |---|---|---|---|
//! | Sending | the interval is over, or a flood has room | Sending | |
//! | Sending | all are sent, or with a deadline: so many are answered | Draining | |
//! | Draining | nothing is waited for any more | Finished | `Finished` |
//! | Draining | the last wait is over | Finished | `Lost` for each, `Finished` |
//! | Sending, Draining | the deadline, or [`Stop`] | Finished | `Finished`; what waits is not lost |
//!
//! The last wait is twice the longest round trip and at least an interval; where nothing was
//! answered, the time to wait. After the last host has finished, `Ended` is told.
//!
//! # Whose echo it is
//!
//! The payload begins with a token of 8 octets, 6 of them random and new for each probe, 2 the
//! place of the host. An echo counts if token, sequence and address are those of one probe that has
//! left, and with a raw socket the identifier too (a datagram socket has the system's). So another
//! process, an echo made up, or one of an earlier lap of the sequence is never taken for an
//! answer: it is foreign. Payloads of less than 8 octets hold as much of the token as they can.
//! A quote in an ICMP error may be cut before the token; then sequence and address have to do.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Failure, Instant, Interval, Now, QuotedError,
    Received, Refused, Rng, Seed, Stamp, Transmit, TransmitId,
};

use crate::icmp::{Echo, Family, HEADER, Message};
use crate::stamps::arrival;
use crate::statistics::RoundTrips;

/// Hosts that one machine can ping: the token holds their place in 16 bits.
pub const MAX_HOSTS: usize = 65_536;
/// The largest payload: what an IPv4 datagram holds beside its header and that of ICMP.
pub const MAX_SIZE: u16 = 65_507;
/// The longest pattern.
pub const MAX_PATTERN: usize = 16;
/// Octets of the token.
pub const TOKEN: usize = 8;

/// Probes remembered in all, some 48 octets each; hosts share them.
const REMEMBERED: usize = 262_144;
/// Of one host at most: half a lap of the sequence, so that it names one of them.
const MOST: usize = 32_768;
/// Of one host at least: so many may wait though there are many hosts.
const LEAST: usize = 16;
/// The pause after which a flood goes on without an answer.
const FLOOD: Duration = Duration::from_millis(10);
/// Between the first probes of two hosts, so that many do not leave at once.
const APART: Duration = Duration::from_millis(10);
/// Events for a host that does not ask: each remembered probe has two at most.
const EVENTS: usize = 2 * REMEMBERED;

/// Which stream of the seed the identifier and the tokens are drawn from.
const TOKENS: u64 = 0x7069_6e67;

/// How to ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingConfig {
    /// Between two probes of one host. Default 1 s; zero is a flood.
    pub interval: Duration,
    /// Probes for each host; with a deadline, echoes. Default: no end.
    pub count: Option<u64>,
    /// When everything ends. Default: never.
    pub deadline: Option<Duration>,
    /// How long an echo may take. Default 10 s, as `ping` waits.
    pub wait: Duration,
    /// Probes that leave at once in the beginning, and in a flood how many are on their way.
    /// Default 1.
    pub preload: u16,
    /// Each answer sends the next probe; without one, 10 ms do.
    pub flood: bool,
    /// Octets of payload. Default 56.
    pub sizes: Sizes,
    /// Repeated to fill the payload after the token; at most [`MAX_PATTERN`] octets. Default
    /// empty: each octet holds its place.
    pub pattern: Vec<u8>,
    /// The TTL or hop limit, if not the system's.
    pub hop_limit: Option<u8>,
    /// What carries requests over IPv4: [`Carrier::Icmp`] (default) or [`Carrier::RawIcmp`].
    pub carrier_v4: Carrier,
    /// The same for IPv6.
    pub carrier_v6: Carrier,
}

/// Octets of payload: one size, or a sweep that begins again at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the first probe.
    pub first: u16,
    /// None is larger.
    pub last: u16,
    /// From one probe to the next; zero for one size.
    pub step: u16,
}

/// Ends the run: what is on its way is neither answered nor lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// What becomes of a probe, or of a host. Hosts are told by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingEvent {
    /// The first echo.
    Reply(Reply),
    /// Another echo of what was answered.
    Duplicate(Reply),
    /// An echo from an address that was not asked. It is no answer.
    Elsewhere {
        /// Which host was asked.
        host: usize,
        /// Which probe.
        number: u64,
        /// Who answered.
        from: IpAddr,
    },
    /// No echo in time.
    Lost {
        /// Of which host.
        host: usize,
        /// Which probe.
        number: u64,
    },
    /// A router, or the host itself, says that the probe did not arrive.
    Unreachable {
        /// Which host was asked.
        host: usize,
        /// Which probe.
        number: u64,
        /// Who says so, and why.
        error: QuotedError,
    },
    /// The system did not send it.
    NotSent {
        /// Which host was asked.
        host: usize,
        /// Which probe.
        number: u64,
        /// Why.
        failure: Failure,
    },
    /// Nothing more will be told of this host.
    Finished {
        /// Which.
        host: usize,
    },
    /// Nothing more will be told.
    Ended,
}

/// An echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which host.
    pub host: usize,
    /// Which probe.
    pub number: u64,
    /// Octets of the ICMP message.
    pub size: usize,
    /// From departure to arrival, and by whose clocks.
    pub round_trip: Interval,
    /// The TTL or hop limit it arrived with.
    pub hop_limit: Option<u8>,
    /// The TOS or traffic-class octet it arrived with.
    pub traffic_class: Option<u8>,
    /// It had been told as lost or unreachable.
    pub late: bool,
    /// How much higher the highest number is that was answered before.
    pub behind: u64,
    /// Where its payload is not what was sent, or ends, or goes on.
    pub altered: Option<usize>,
}

/// What has become of a host's probes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Given to the system.
    pub sent: u64,
    /// Answered, late ones included.
    pub answered: u64,
    /// Answered after they were told as lost or unreachable.
    pub late: u64,
    /// Answered after one with a higher number.
    pub reordered: u64,
    /// Echoes beyond the first.
    pub duplicates: u64,
    /// Answered with another payload.
    pub altered: u64,
    /// Echoes from other addresses.
    pub elsewhere: u64,
    /// ICMP errors about them.
    pub unreachable: u64,
    /// Refused by the system.
    pub not_sent: u64,
    /// On their way.
    pub waiting: u64,
    /// The most that were on their way at once.
    pub most_waiting: u64,
    /// Times that one or several in a row were not answered.
    pub bursts: u64,
    /// The most in a row.
    pub longest_burst: u64,
}

/// What came and is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingCounts {
    /// Echoes and errors that belong to no probe.
    pub foreign: u64,
    /// What is no message, or has a wrong checksum.
    pub malformed: u64,
    /// Stamps that cannot be: before the departure, or in the future.
    pub refused_stamps: u64,
    /// Events that the host did not fetch in time.
    pub untold: u64,
}

/// Pings hosts.
#[derive(Debug)]
pub struct Pinger {
    config: PingConfig,
    rng: Rng,
    /// With raw sockets, whose requests they are.
    ident: u16,
    hosts: Vec<Host>,
    places: BTreeMap<IpAddr, usize>,
    /// When each host wants to be looked at.
    timers: BTreeSet<(Instant, usize)>,
    /// Hosts whose next probe is due.
    ready: VecDeque<usize>,
    /// The longest payload; its token is of the latest probe.
    filled: Vec<u8>,
    /// Probes remembered for each host.
    window: usize,
    ends: Option<Instant>,
    unfinished: usize,
    events: VecDeque<PingEvent>,
    counts: PingCounts,
}

#[derive(Debug)]
struct Host {
    address: SocketAddr,
    state: HostState,
    /// Those that are remembered, in the order of their numbers.
    probes: VecDeque<Probe>,
    /// The number of the first of them.
    first: u64,
    /// Below this number all are settled, and counted into bursts.
    judged: u64,
    /// When the next is due.
    next_at: Instant,
    /// It stands in `ready`.
    is_ready: bool,
    /// How many may leave without a pause.
    credit: u16,
    /// Its place in `timers`.
    timer: Option<Instant>,
    highest: u64,
    burst: u64,
    counts: HostCounts,
    round_trips: RoundTrips,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostState {
    Sending,
    Draining { until: Instant },
    Finished,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    token: u64,
    size: u16,
    state: State,
    /// When it was fetched, then when it left, by the clock of the process.
    at: Instant,
    /// When it left, by the best clock there is.
    left: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    Unreachable,
    Unsent,
    Lost,
}

impl Default for PingConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            count: None,
            deadline: None,
            wait: Duration::from_secs(10),
            preload: 1,
            flood: false,
            sizes: Sizes { first: 56, last: 56, step: 0 },
            pattern: Vec::new(),
            hop_limit: None,
            carrier_v4: Carrier::Icmp,
            carrier_v6: Carrier::Icmp,
        }
    }
}

impl Sizes {
    fn of(self, number: u64) -> u16 {
        let steps = self.last.saturating_sub(self.first).checked_div(self.step).unwrap_or(0);
        let laps = u64::from(steps).saturating_add(1);
        let step = number.saturating_sub(1).checked_rem(laps).unwrap_or(0);
        let more = u64::from(self.step).saturating_mul(step);
        self.first.saturating_add(u16::try_from(more).unwrap_or(u16::MAX))
    }
}

impl Pinger {
    /// Pings `hosts` from `now` on. Ports are not looked at; the scope of an IPv6 address is.
    ///
    /// # Errors
    ///
    /// `Invalid` for no host or more than [`MAX_HOSTS`], a payload larger than [`MAX_SIZE`], a
    /// sweep that goes down, a pattern longer than [`MAX_PATTERN`], no preload, or a carrier that
    /// cannot carry ICMP.
    pub fn new(
        now: Now,
        hosts: &[SocketAddr],
        seed: &Seed,
        config: PingConfig,
    ) -> Result<Self, Refused> {
        if hosts.is_empty() || hosts.len() > MAX_HOSTS {
            return Err(Refused::Invalid("no host, or too many"));
        }
        if config.sizes.last > MAX_SIZE || config.sizes.first > config.sizes.last {
            return Err(Refused::Invalid("sizes that cannot be sent"));
        }
        if config.pattern.len() > MAX_PATTERN {
            return Err(Refused::Invalid("a pattern of more than 16 octets"));
        }
        if config.preload == 0 {
            return Err(Refused::Invalid("a preload of none"));
        }
        if [config.carrier_v4, config.carrier_v6].contains(&Carrier::Udp) {
            return Err(Refused::Invalid("a carrier that cannot carry ICMP"));
        }
        let mut rng = seed.stream(TOKENS);
        let [ident, _] = [rng.next_u32(), 0].map(|drawn| (drawn >> 16) as u16);
        let between = if config.flood { Duration::ZERO } else { config.interval };
        let share = between.checked_div(u32::try_from(hosts.len()).unwrap_or(u32::MAX));
        let apart = share.unwrap_or_default().min(APART);
        let mut machine = Self {
            rng,
            ident,
            hosts: Vec::with_capacity(hosts.len()),
            places: BTreeMap::new(),
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            filled: fill(&config),
            window: REMEMBERED.checked_div(hosts.len()).unwrap_or(0).clamp(LEAST, MOST),
            ends: config.deadline.map(|deadline| now.mono.saturating_add(deadline)),
            unfinished: hosts.len(),
            events: VecDeque::new(),
            counts: PingCounts::default(),
            config,
        };
        let mut begins = now.mono;
        for (place, &address) in hosts.iter().enumerate() {
            machine.places.entry(address.ip()).or_insert(place);
            machine.hosts.push(Host::new(address, begins, machine.config.preload));
            begins = begins.saturating_add(apart);
            machine.arm(place);
        }
        Ok(machine)
    }

    /// What came and is nobody's.
    pub fn counts(&self) -> PingCounts {
        self.counts
    }

    /// What has become of a host's probes so far.
    pub fn host_counts(&self, host: usize) -> Option<HostCounts> {
        self.hosts.get(host).map(|host| host.counts)
    }

    /// How long a host's echoes took.
    pub fn round_trips(&self, host: usize) -> Option<&RoundTrips> {
        self.hosts.get(host).map(|host| &host.round_trips)
    }

    fn is_flood(&self) -> bool {
        self.config.flood || self.config.interval.is_zero()
    }

    fn carrier(&self, family: Family) -> Carrier {
        match family {
            Family::V4 => self.config.carrier_v4,
            Family::V6 => self.config.carrier_v6,
        }
    }

    /// Sets a host's timer. One that is too early stays, and is set anew when it has run out: in a
    /// flood it would be moved with each probe.
    fn arm(&mut self, place: usize) {
        let Some(host) = self.hosts.get_mut(place) else { return };
        let due = host.due(self.config.wait);
        let finished = host.state == HostState::Finished;
        match (host.timer, due) {
            (Some(old), Some(due)) if old <= due => return,
            (Some(_), None) if !finished => return,
            _ => {}
        }
        if let Some(old) = host.timer {
            self.timers.remove(&(old, place));
        }
        if let Some(due) = due {
            self.timers.insert((due, place));
        }
        host.timer = due;
    }

    /// A host's next probe is due.
    fn make_ready(&mut self, place: usize) {
        if let Some(host) = self.hosts.get_mut(place) {
            if host.state == HostState::Sending && !host.is_ready {
                host.is_ready = true;
                self.ready.push_back(place);
            }
        }
    }

    fn tell(&mut self, event: PingEvent) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.counts.untold = self.counts.untold.saturating_add(1);
        }
    }

    fn finish(&mut self, place: usize) {
        let Some(host) = self.hosts.get_mut(place) else { return };
        if host.state == HostState::Finished {
            return;
        }
        host.finish();
        self.unfinished = self.unfinished.saturating_sub(1);
        self.arm(place);
        self.tell(PingEvent::Finished { host: place });
        if self.unfinished == 0 {
            self.tell(PingEvent::Ended);
        }
    }

    fn finish_all(&mut self) {
        self.ends = None;
        for place in 0..self.hosts.len() {
            self.finish(place);
        }
    }

    /// What is due for a host.
    fn tick(&mut self, now: Now, place: usize) {
        let wait = self.config.wait;
        if let Some(host) = self.hosts.get_mut(place) {
            if let Some(timer) = host.timer.take() {
                self.timers.remove(&(timer, place));
            }
        }
        loop {
            let Some(host) = self.hosts.get_mut(place) else { return };
            let overdue = match host.state {
                HostState::Finished => return,
                HostState::Draining { until } if until <= now.mono => true,
                _ => false,
            };
            let Some((number, probe)) = host.oldest() else { break };
            if !overdue && probe.at.saturating_add(wait) > now.mono {
                break;
            }
            host.settle(number, State::Lost);
            host.earn(self.config.preload);
            self.tell(PingEvent::Lost { host: place, number });
        }
        self.go_on(now, place);
    }

    /// After anything that may have settled a probe.
    fn go_on(&mut self, now: Now, place: usize) {
        let flood = self.is_flood();
        let Some(host) = self.hosts.get_mut(place) else { return };
        self.config.drain(now, host);
        match host.state {
            HostState::Draining { .. } if host.oldest().is_none() => self.finish(place),
            HostState::Sending if host.next_at <= now.mono || flood && host.credit > 0 => {
                self.make_ready(place);
            }
            _ => {}
        }
        self.arm(place);
    }

    /// Whose echo this is: the place of the host and the number.
    fn find(&self, echo: &Echo<'_>, from: IpAddr) -> Option<(usize, u64)> {
        self.places(echo, from).find_map(|place| {
            let (number, probe) = self.probe_of(place, echo)?;
            // What has not left has no echo: it is a guess.
            (probe.left.is_some() && probe.begins(echo.payload, TOKEN)).then_some((place, number))
        })
    }

    /// The hosts that it can be of: by its token, or by an address.
    fn places(&self, echo: &Echo<'_>, address: IpAddr) -> impl Iterator<Item = usize> + use<> {
        let told = echo.payload.first_chunk().map(|token| u64::from_be_bytes(*token) as u16);
        let known = self.places.get(&address).copied();
        [told.map(usize::from), known].into_iter().flatten()
    }

    fn probe_of(&self, place: usize, echo: &Echo<'_>) -> Option<(u64, &Probe)> {
        let host = self.hosts.get(place)?;
        let family = Family::of(host.address.ip());
        if self.carrier(family) == Carrier::RawIcmp && echo.ident != self.ident {
            return None;
        }
        let number = host.number(echo.sequence)?;
        Some((number, host.probe(number)?))
    }

    fn handle_echo(&mut self, now: Now, meta: &Received, echo: &Echo<'_>) -> Option<PingEvent> {
        let from = meta.source.ip();
        let Some((place, number)) = self.find(echo, from) else {
            self.counts.foreign = self.counts.foreign.saturating_add(1);
            return None;
        };
        let altered = self.altered(place, number, echo.payload);
        let host = self.hosts.get_mut(place)?;
        if host.state == HostState::Finished {
            return None;
        }
        if host.address.ip() != from {
            host.counts.elsewhere = host.counts.elsewhere.saturating_add(1);
            return Some(PingEvent::Elsewhere { host: place, number, from });
        }
        let probe = *host.probe(number)?;
        let left = probe.left?;
        let arrived = arrival(now, left.at, meta.stamp).unwrap_or_else(|arrived| {
            self.counts.refused_stamps = self.counts.refused_stamps.saturating_add(1);
            arrived
        });
        let reply = Reply {
            host: place,
            number,
            size: echo.payload.len().saturating_add(HEADER),
            round_trip: Interval::between(left, arrived),
            hop_limit: meta.hop_limit,
            traffic_class: meta.traffic_class,
            late: matches!(probe.state, State::Lost | State::Unreachable),
            behind: host.highest.saturating_sub(number),
            altered,
        };
        if probe.state == State::Answered {
            host.counts.duplicates = host.counts.duplicates.saturating_add(1);
            return Some(PingEvent::Duplicate(reply));
        }
        host.answer(&reply);
        if !reply.late {
            host.earn(self.config.preload);
        }
        self.go_on(now, place);
        Some(PingEvent::Reply(reply))
    }

    /// Where a payload differs from what was sent. The token was compared.
    fn altered(&self, place: usize, number: u64, payload: &[u8]) -> Option<usize> {
        let size = usize::from(self.hosts.get(place)?.probe(number)?.size);
        let both = payload.iter().zip(self.filled.get(..size)?).skip(TOKEN);
        let same = both.take_while(|(came, sent)| came == sent).count();
        let end = size.min(payload.len());
        let at = end.min(same.saturating_add(TOKEN));
        (at < end || payload.len() != size).then_some(at)
    }

    /// `quoted` is the request, cut as the quote was.
    fn handle_error(
        &mut self,
        now: Now,
        destination: IpAddr,
        quoted: Option<Echo<'_>>,
        error: QuotedError,
    ) -> Option<PingEvent> {
        let found = quoted.and_then(|echo| self.find_quoted(&echo, destination));
        let Some((place, number)) = found else {
            self.counts.foreign = self.counts.foreign.saturating_add(1);
            return None;
        };
        let host = self.hosts.get_mut(place)?;
        if host.state == HostState::Finished || host.probe(number)?.state != State::Waiting {
            return None;
        }
        host.settle(number, State::Unreachable);
        host.earn(self.config.preload);
        host.counts.unreachable = host.counts.unreachable.saturating_add(1);
        self.go_on(now, place);
        Some(PingEvent::Unreachable { host: place, number, error })
    }

    fn find_quoted(&self, echo: &Echo<'_>, destination: IpAddr) -> Option<(usize, u64)> {
        self.places(echo, destination).find_map(|place| {
            let (number, probe) = self.probe_of(place, echo)?;
            let is_asked = self.hosts.get(place)?.address.ip() == destination;
            let is_ours = probe.begins(echo.payload, echo.payload.len());
            (is_asked && is_ours).then_some((place, number))
        })
    }
}

impl DatagramMachine for Pinger {
    type Event<'i> = PingEvent;
    type Command<'c> = Stop;

    /// All: what is foreign is counted.
    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram(
        &mut self,
        now: Now,
        meta: Received,
        payload: &mut [u8],
    ) -> Option<PingEvent> {
        let family = Family::of(meta.source.ip());
        if let Some(error) = meta.error {
            // What was sent comes back, from its ICMP header on.
            let quoted = Echo::quoted(family, payload);
            return self.handle_error(now, meta.source.ip(), quoted, error);
        }
        match Message::parse(family, payload) {
            Ok(Message::EchoReply(echo)) => self.handle_echo(now, &meta, &echo),
            Ok(Message::Error(error)) => {
                let quoted = error.quoted()?;
                let why = QuotedError {
                    offender: Some(meta.source.ip()),
                    icmp_type: error.icmp_type,
                    icmp_code: error.icmp_code,
                    info: error.info,
                    extension: None,
                };
                self.handle_error(now, quoted.destination, quoted.echo(), why)
            }
            // On a loopback a raw socket sees our own requests.
            Ok(Message::EchoRequest(_) | Message::Other { .. }) => None,
            Err(_) => {
                self.counts.malformed = self.counts.malformed.saturating_add(1);
                None
            }
        }
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        let (place, number) = names(id);
        let Some(probe) = self.hosts.get_mut(place).and_then(|host| host.probe_mut(number)) else {
            return;
        };
        let earliest = probe.left.map(|left| left.at);
        match (stamp.clock, earliest) {
            _ if stamp.at > now.mono || earliest.is_some_and(|earliest| stamp.at < earliest) => {
                self.counts.refused_stamps = self.counts.refused_stamps.saturating_add(1);
            }
            // What was told stays told.
            _ if probe.state == State::Answered => {}
            (Clock::User, Some(_)) => {}
            (_, None) => {
                probe.at = stamp.at;
                probe.left = Some(stamp);
                self.arm(place);
            }
            (Clock::Kernel, Some(_)) => probe.left = Some(stamp),
        }
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        let (place, number) = names(id);
        let Some(host) = self.hosts.get_mut(place) else { return };
        let waiting = host.probe(number).is_some_and(|probe| probe.state == State::Waiting);
        if waiting && host.state != HostState::Finished {
            host.settle(number, State::Unsent);
            host.counts.not_sent = host.counts.not_sent.saturating_add(1);
            self.tell(PingEvent::NotSent { host: place, number, failure });
            self.go_on(now, place);
        }
    }

    fn handle_command(&mut self, _: Now, Stop: Stop) -> Result<(), Refused> {
        self.finish_all();
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        loop {
            let place = self.ready.pop_front()?;
            let (window, flood) = (self.window, self.is_flood());
            let host = self.hosts.get_mut(place)?;
            host.is_ready = false;
            if host.state != HostState::Sending {
                continue;
            }
            if !host.make_room(window) {
                // All that are remembered wait: the next one waits with them.
                let oldest = host.oldest().map(|(_, probe)| probe.at);
                host.next_at = oldest.unwrap_or(now.mono).saturating_add(self.config.wait);
                self.arm(place);
                continue;
            }
            let number = host.next();
            let size = self.config.sizes.of(number);
            let random = self.rng.next_u64();
            let token = random & !0xffff | u64::from(place as u16);
            host.probes.push_back(Probe {
                token,
                size,
                state: State::Waiting,
                at: now.mono,
                left: None,
            });
            host.counts.sent = host.counts.sent.saturating_add(1);
            host.counts.waiting = host.counts.waiting.saturating_add(1);
            host.counts.most_waiting = host.counts.most_waiting.max(host.counts.waiting);
            host.credit = host.credit.saturating_sub(1);
            let pause = if flood { FLOOD } else { self.config.interval };
            let planned = host.next_at.saturating_add(pause);
            // Behind time by more than a whole interval, those left out stay out.
            let late = planned < now.mono || flood;
            host.next_at = if late { now.mono.saturating_add(pause) } else { planned };
            let at_once = host.credit > 0;
            let destination = host.address;
            self.config.drain(now, host);
            if at_once {
                self.make_ready(place);
            }
            self.arm(place);
            let family = Family::of(destination.ip());
            let payload = self.filled.get_mut(..usize::from(size)).unwrap_or_default();
            for (octet, of_token) in payload.iter_mut().zip(token.to_be_bytes()) {
                *octet = of_token;
            }
            let sequence = (number & 0xffff) as u16;
            Echo { ident: self.ident, sequence, payload }.put_request(family, buf);
            return Some(Transmit {
                id: id(place, number),
                destination,
                size: buf.len(),
                segment_size: None,
                hop_limit: self.config.hop_limit,
                source: None,
                carrier: self.carrier(family),
            });
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let host = self.timers.first().map(|&(at, _)| Deadline { at, why: "ping" });
        let end = self.ends.map(|at| Deadline { at, why: "end" });
        Deadline::earlier(end, host)
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.ends.is_some_and(|ends| ends <= now.mono) {
            self.finish_all();
        }
        while let Some(&(at, place)) = self.timers.first() {
            if at > now.mono {
                return;
            }
            self.tick(now, place);
        }
    }

    fn poll_event(&mut self) -> Option<PingEvent> {
        self.events.pop_front()
    }
}

impl PingConfig {
    /// Ends the sending of a host that has had its share.
    fn drain(&self, now: Now, host: &mut Host) {
        let done = match (self.count, self.deadline) {
            (Some(count), None) => host.counts.sent >= count,
            (Some(count), Some(_)) => host.counts.answered >= count,
            (None, _) => false,
        };
        let HostState::Draining { until } = host.state else {
            if done && host.state == HostState::Sending {
                let until = host.last_wait(now, self.interval, self.wait);
                host.state = HostState::Draining { until };
            }
            return;
        };
        // The first answer shortens it.
        let shorter = host.last_wait(now, self.interval, self.wait);
        host.state = HostState::Draining { until: until.min(shorter) };
    }
}

/// The longest payload, before it has a token.
fn fill(config: &PingConfig) -> Vec<u8> {
    let octet = |place: usize| match place.checked_rem(config.pattern.len()) {
        Some(place) => config.pattern.get(place).copied().unwrap_or(0),
        None => (place & 0xff) as u8,
    };
    (0..usize::from(config.sizes.last)).map(octet).collect()
}

impl Probe {
    /// Whether a payload begins with the first octets of the token, as far as it was sent.
    fn begins(&self, payload: &[u8], octets: usize) -> bool {
        let size = usize::from(self.size).min(TOKEN).min(octets);
        let token = self.token.to_be_bytes();
        payload.get(..size).is_some_and(|begins| token.get(..size) == Some(begins))
    }
}

impl Host {
    fn new(address: SocketAddr, begins: Instant, credit: u16) -> Self {
        Self {
            address,
            state: HostState::Sending,
            probes: VecDeque::new(),
            first: 1,
            judged: 1,
            next_at: begins,
            is_ready: false,
            credit,
            timer: None,
            highest: 0,
            burst: 0,
            counts: HostCounts::default(),
            round_trips: RoundTrips::default(),
        }
    }

    /// The number of the next probe.
    fn next(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.probes.len()).unwrap_or(u64::MAX))
    }

    fn probe(&self, number: u64) -> Option<&Probe> {
        self.probes.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn probe_mut(&mut self, number: u64) -> Option<&mut Probe> {
        self.probes.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The latest number with this sequence.
    fn number(&self, sequence: u16) -> Option<u64> {
        let last = self.next().checked_sub(1)?;
        let ago = ((last & 0xffff) as u16).wrapping_sub(sequence);
        last.checked_sub(u64::from(ago))
    }

    /// The first that is still waited for.
    fn oldest(&self) -> Option<(u64, &Probe)> {
        Some((self.judged, self.probe(self.judged)?))
    }

    /// Forgets one that is settled, if there is no room for another.
    fn make_room(&mut self, window: usize) -> bool {
        if self.probes.len() < window {
            return true;
        }
        if self.judged <= self.first {
            return false;
        }
        self.probes.pop_front();
        self.first = self.first.saturating_add(1);
        true
    }

    /// A probe is not waited for any more; those before it may be waited for still.
    fn settle(&mut self, number: u64, state: State) {
        if let Some(probe) = self.probe_mut(number) {
            if probe.state == State::Waiting {
                self.counts.waiting = self.counts.waiting.saturating_sub(1);
            }
        }
        if let Some(probe) = self.probe_mut(number) {
            probe.state = state;
        }
        while let Some(probe) = self.probe(self.judged) {
            match probe.state {
                State::Waiting => break,
                State::Answered => self.burst = 0,
                State::Unreachable | State::Unsent | State::Lost => {
                    if self.burst == 0 {
                        self.counts.bursts = self.counts.bursts.saturating_add(1);
                    }
                    self.burst = self.burst.saturating_add(1);
                    self.counts.longest_burst = self.counts.longest_burst.max(self.burst);
                }
            }
            self.judged = self.judged.saturating_add(1);
        }
    }

    fn answer(&mut self, reply: &Reply) {
        self.settle(reply.number, State::Answered);
        let counts = &mut self.counts;
        counts.answered = counts.answered.saturating_add(1);
        counts.late = counts.late.saturating_add(u64::from(reply.late));
        counts.reordered = counts.reordered.saturating_add(u64::from(reply.behind > 0));
        counts.altered = counts.altered.saturating_add(u64::from(reply.altered.is_some()));
        self.highest = self.highest.max(reply.number);
        self.round_trips.add(reply.round_trip);
    }

    /// One may leave for one that is settled.
    fn earn(&mut self, most: u16) {
        self.credit = self.credit.saturating_add(1).min(most);
    }

    /// When this host wants to be looked at.
    fn due(&self, wait: Duration) -> Option<Instant> {
        let oldest = self.oldest().map(|(_, probe)| probe.at.saturating_add(wait));
        let other = match self.state {
            HostState::Sending if self.is_ready => None,
            HostState::Sending => Some(self.next_at),
            HostState::Draining { until } => Some(until),
            HostState::Finished => return None,
        };
        match (oldest, other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn last_wait(&self, now: Now, interval: Duration, wait: Duration) -> Instant {
        let left = self.probes.back().map_or(now.mono, |probe| probe.at);
        let patience = match self.round_trips.max() {
            Some(longest) => longest.saturating_mul(2).max(interval).min(wait),
            None => wait,
        };
        left.saturating_add(patience)
    }

    /// What is on its way stays what it is.
    fn finish(&mut self) {
        self.state = HostState::Finished;
        self.is_ready = false;
        self.probes = VecDeque::new();
    }
}

/// Bits of a transmit's name for the number; those above are for the host.
const NUMBER: u32 = 48;

fn id(place: usize, number: u64) -> TransmitId {
    let place = u64::try_from(place).unwrap_or(0);
    TransmitId(place << NUMBER | number & ((1 << NUMBER) - 1))
}

fn names(TransmitId(id): TransmitId) -> (usize, u64) {
    (usize::try_from(id >> NUMBER).unwrap_or(usize::MAX), id & ((1 << NUMBER) - 1))
}
