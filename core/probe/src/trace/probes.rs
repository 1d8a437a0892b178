//! Probes on their way: how they are built, and whose answer it is that comes.
//!
//! # A flow
//!
//! Routers that share out their load look at addresses, protocol, ports, and for ICMP at the
//! checksum. All of these are the same for all probes of one flow, so these take one path:
//!
//! | method | a flow is | a probe is named by |
//! |---|---|---|
//! | ICMP | the checksum | the sequence of its echo, and its token |
//! | UDP | the destination port, [`UDP_PORT`] and up | its token, and its checksum |
//! | TCP | the source port | its sequence number, 16 bits of which are random |
//!
//! An ICMP or UDP payload begins with a token of 8 octets, 6 of them random, and 2 octets by which the
//! sum of all words becomes what it has to be; the rest are zeros.
//!
//! # Which sockets
//!
//! | method | [`Sockets::Datagram`] | [`Sockets::Raw`] |
//! |---|---|---|
//! | ICMP | `Icmp` | `RawIcmp` |
//! | UDP | `Udp` | `Udp`, and `RawIcmp` for the errors |
//! | TCP | cannot be | `RawTcp`, and `RawIcmp` for the errors |
//!
//! A datagram socket hears of errors by its error queue, which keeps the IP header of the quote to
//! itself. Only with raw sockets is it known what was rewritten.
//!
//! # Whose answer it is
//!
//! An answer names its probe by what is random in that, and by where the probe went. Where a router
//! quotes 8 octets of UDP, the checksum has to do; a source address and port must be given for that.
//! Where not even that can be seen, an error counts if there is one probe alone that it can be about;
//! otherwise it is counted as ambiguous, and with one probe at a time none is.
//!
//! | state | what happens | becomes | gives |
//! |---|---|---|---|
//! | Waiting | its answer | Answered | the answer |
//! | Waiting | [`give_up`](Probes::give_up) | GivenUp | |
//! | Waiting | [`handle_send_error`](Probes::handle_send_error) | Unsent | |
//! | GivenUp | its answer after all | Answered | the answer, late |
//! | Answered | an answer again | Answered | counted as a duplicate |

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, TcpHeader, TcpHeaderSlice, TcpOptionElement, ip_number};
use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, Clock, Instant, Interval, Now, QuotedError, Received, Refused, Rng, Seed, Stamp,
    Transmit, TransmitId,
};

use crate::extension::{BadExtension, Extension};
use crate::icmp::{Echo, Family, HEADER, IcmpError, Message, Quoted, extension_at};
use crate::stamps::arrival;

/// The smallest packet: headers of IPv6 and UDP, a token, and 2 octets for the sum.
pub const SMALLEST: u16 = 40 + 8 + 10;
/// Where traceroute's ports begin.
const UDP_PORT: u16 = 33_434;
/// Where a SYN goes that is told nothing else.
const TCP_PORT: u16 = 80;
/// Source ports of TCP begin here, if not told: those that belong to nobody.
const SOURCE_PORT: u16 = 49_152;
/// Probes remembered, some 80 octets each: half a lap of a sequence, so that it names one of them.
const REMEMBERED: usize = 32_768;
/// Probes that wait, so that those without a name are found in bounded work.
const WAITING: usize = 4_096;
/// Octets of the token.
const TOKEN: usize = 8;
/// Checksums that are different: zero and all ones are one.
const SUMS: u64 = 65_535;
/// A segment that IPv4 need not cut, and IPv6 neither.
const SEGMENT_SIZE: u16 = 1_220;
/// Which stream of the seed tokens are drawn from.
const TOKENS: u64 = 0x7472_6163;

/// What a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// A request for an echo.
    Icmp,
    /// A datagram to a port where nobody should be.
    Udp,
    /// A SYN.
    Tcp,
}

/// Which sockets the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// For datagrams; errors come from their error queues.
    Datagram,
    /// Raw ones; errors come as messages.
    Raw,
}

/// How probes are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbesConfig {
    /// What they are.
    pub method: Method,
    /// Through which sockets they leave.
    pub sockets: Sockets,
    /// Where they go. The port is UDP's for flow 0, or TCP's; 0 stands for 33,434, or 80.
    pub destination: SocketAddr,
    /// Where they come from. TCP needs the address; with a port of 0 it draws one. For UDP both are
    /// those of the socket, to know its probes by their checksums.
    pub source: Option<SocketAddr>,
    /// The TOS or traffic-class octet that the sockets send with, to see where it is rewritten.
    pub traffic_class: u8,
}

/// One that was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// From 1 on; also the [`TransmitId`].
    pub number: u64,
    /// After how many hops it is dropped.
    pub hop_limit: u8,
    /// Which flow it belongs to.
    pub flow: u16,
    /// Octets of its IP packet.
    pub size: u16,
}

/// What came back for a probe, for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Which.
    pub probe: Probe,
    /// Who answered; the unspecified address where the system does not tell.
    pub from: IpAddr,
    /// What.
    pub kind: AnswerKind,
    /// From departure to arrival, and by whose clocks.
    pub round_trip: Interval,
    /// The TTL or hop limit that the answer arrived with.
    pub hop_limit: Option<u8>,
    /// The probe had been given up.
    pub late: bool,
    /// What is different in the quoted header; `None` where none was seen.
    pub rewritten: Option<Rewritten>,
    /// What the router says beside.
    pub extension: Option<Result<Extension<'a>, BadExtension>>,
}

/// What somebody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Its hops ran out here.
    TimeExceeded,
    /// It arrived.
    Reached(Reached),
    /// It cannot arrive.
    Unreachable {
        /// By the numbers of the destination's family.
        code: u8,
    },
    /// It does not fit the next link.
    PacketTooBig {
        /// What fits; 0 where an old router does not say.
        mtu: u32,
    },
    /// Another error.
    Other {
        /// Its type.
        icmp_type: u8,
        /// Its code.
        icmp_code: u8,
    },
}

/// How a destination shows that it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By an echo.
    Echo,
    /// Nobody has that port.
    PortUnreachable,
    /// Somebody has that port, and answers.
    Datagram,
    /// Somebody listens.
    SynAck,
    /// Nobody listens.
    Reset,
}

/// What a router saw that is not what was sent. What the system chooses as it sends cannot be judged:
/// the identification of IPv4, the flow label of IPv6, the identifier of a datagram socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The TTL or hop limit where its hops ran out, if not 1: somebody does not count down, or,
    /// with 0, counted before.
    pub hop_limit: Option<u8>,
    /// The TOS or traffic-class octet: six bits of DSCP, two of ECN.
    pub traffic_class: Option<u8>,
    /// The source address, if that was given.
    pub source: Option<IpAddr>,
    /// The destination address.
    pub destination: Option<IpAddr>,
    /// The source port, if that was given, or the identifier of an echo.
    pub source_port: Option<u16>,
    /// The destination port.
    pub destination_port: Option<u16>,
    /// Octets of the IP packet.
    pub length: Option<u16>,
    /// The checksum of UDP, TCP or ICMP, where it is known what was sent. One that the sending system
    /// left to its device is not judged.
    pub checksum: Option<u16>,
}

/// What came, and was no first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// Belongs to no probe.
    pub foreign: u64,
    /// Is no message.
    pub malformed: u64,
    /// May belong to any of several probes.
    pub ambiguous: u64,
    /// Answers beyond the first.
    pub duplicates: u64,
    /// Stamps that cannot be: before the departure, or in the future.
    pub refused_stamps: u64,
}

/// Builds probes, and finds those that are answered. When to send which, and how long to wait, is the
/// business of who has it.
#[derive(Debug)]
pub struct Probes {
    config: ProbesConfig,
    rng: Rng,
    /// The identifier of echoes, and what those of flow 0 add up to.
    ident: u16,
    sum: u16,
    /// Without gaps, oldest first.
    entries: VecDeque<Entry>,
    /// The number of the first of them.
    first: u64,
    waiting: BTreeSet<u64>,
    counts: ProbeCounts,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hop_limit: u8,
    flow: u16,
    size: u16,
    token: u64,
    state: State,
    fetched: Instant,
    left: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    GivenUp,
    Unsent,
}

/// Whom an answer is for.
enum Owner {
    Probe(u64),
    /// One of several.
    Ambiguous,
    Nobody,
}

/// What an error says, wherever it came from.
struct Told<'a> {
    from: Option<IpAddr>,
    kind: AnswerKind,
    rewritten: Option<Rewritten>,
    extension: Option<Result<Extension<'a>, BadExtension>>,
}

impl Probes {
    /// A table without probes.
    ///
    /// # Errors
    ///
    /// `Invalid` for TCP without raw sockets or without a source address, and for a source of another
    /// family.
    pub fn new(seed: &Seed, config: ProbesConfig) -> Result<Self, Refused> {
        let mut config = config;
        if config.method == Method::Tcp {
            if config.sockets != Sockets::Raw {
                return Err(Refused::Invalid("TCP without raw sockets"));
            }
            if config.source.is_none_or(|source| source.ip().is_unspecified()) {
                return Err(Refused::Invalid("TCP without a source address"));
            }
        }
        if config.source.is_some_and(|source| source.is_ipv4() != config.destination.is_ipv4()) {
            return Err(Refused::Invalid("a source and a destination of two families"));
        }
        if config.destination.port() == 0 {
            config.destination.set_port(match config.method {
                Method::Icmp => 0,
                Method::Udp => UDP_PORT,
                Method::Tcp => TCP_PORT,
            });
        }
        let mut rng = seed.stream(TOKENS);
        let [ident, sum, port] = [(); 3].map(|()| (rng.next_u32() >> 16) as u16);
        if let Some(source) = config.source.as_mut().filter(|source| source.port() == 0) {
            let drawn = SOURCE_PORT | port & 0x1fff;
            source.set_port(if config.method == Method::Tcp { drawn } else { 0 });
        }
        Ok(Self {
            config,
            rng,
            ident,
            sum,
            entries: VecDeque::new(),
            first: 1,
            waiting: BTreeSet::new(),
            counts: ProbeCounts::default(),
        })
    }

    /// How they are built; ports that were left open are filled in.
    pub fn config(&self) -> &ProbesConfig {
        &self.config
    }

    /// Whether there are ports for a flow.
    pub fn has_flow(&self, flow: u16) -> bool {
        self.ports(flow).is_some()
    }

    /// What came, and was no first answer.
    pub fn counts(&self) -> ProbeCounts {
        self.counts
    }

    /// Those that are waited for, by their numbers.
    pub fn waiting(&self) -> impl Iterator<Item = Probe> {
        self.waiting.iter().filter_map(|&number| self.probe(number))
    }

    /// How many are waited for.
    pub fn waits_for(&self) -> usize {
        self.waiting.len()
    }

    /// One that is remembered.
    pub fn probe(&self, number: u64) -> Option<Probe> {
        self.entry(number).map(|entry| entry.probe(number))
    }

    /// When one left, by the best clock there is; when it was fetched, before that is known.
    pub fn departure(&self, number: u64) -> Option<Instant> {
        self.entry(number).map(Entry::departure)
    }

    /// Appends the next probe to `buf` and says where it goes. A size that no packet can have becomes
    /// the next one that can; a SYN has its own.
    ///
    /// # Errors
    ///
    /// `Full` if too many are waited for; `Invalid` for a flow beyond the last port.
    pub fn put(
        &mut self,
        now: Now,
        hop_limit: u8,
        flow: u16,
        size: u16,
        buf: &mut Vec<u8>,
    ) -> Result<Transmit, Refused> {
        let number = self.next();
        let Some((_, port)) = self.ports(flow) else {
            return Err(Refused::Invalid("a flow beyond the last port"));
        };
        if self.waiting.len() >= WAITING || !self.make_room() {
            return Err(Refused::Full);
        }
        let token = self.rng.next_u64() & !0xffff | number & 0xffff;
        let size = size.max(SMALLEST);
        let fetched = now.mono;
        let mut entry =
            Entry { hop_limit, flow, size, token, state: State::Waiting, fetched, left: None };
        match self.config.method {
            Method::Icmp => {
                let sequence = (number & 0xffff) as u16;
                // The checksum of ICMPv6 covers the length, which is no part of a flow.
                let length = if self.family() == Family::V6 { size } else { 0 };
                let payload = self.payload(&entry, self.icmp_sum(flow), [sequence, length]);
                let echo = Echo { ident: self.ident, sequence, payload: &payload };
                echo.put_request(self.family(), buf);
            }
            Method::Udp => {
                let payload = self.payload(&entry, udp_sum(number), [0, 0]);
                buf.extend_from_slice(&payload);
            }
            Method::Tcp => {
                let Some(segment) = self.segment(&entry) else {
                    return Err(Refused::Invalid("a segment that cannot be"));
                };
                let length = u16::try_from(segment.header_len()).unwrap_or_default();
                entry.size = self.header().saturating_add(length);
                buf.extend_from_slice(&segment.to_bytes());
            }
        }
        self.entries.push_back(entry);
        self.waiting.insert(number);
        let mut destination = self.config.destination;
        // A raw socket takes a port for a protocol.
        destination.set_port(if self.config.method == Method::Udp { port } else { 0 });
        Ok(Transmit {
            id: TransmitId(number),
            destination,
            size: buf.len(),
            segment_size: None,
            hop_limit: Some(hop_limit),
            source: self.config.source.map(|source| source.ip()).filter(|ip| !ip.is_unspecified()),
            carrier: match (self.config.method, self.config.sockets) {
                (Method::Icmp, Sockets::Datagram) => Carrier::Icmp,
                (Method::Icmp, Sockets::Raw) => Carrier::RawIcmp,
                (Method::Udp, _) => Carrier::Udp,
                (Method::Tcp, _) => Carrier::RawTcp,
            },
        })
    }

    /// One left at `stamp`, as [`DatagramMachine::handle_sent`](semfio_machine::DatagramMachine) has it.
    pub fn handle_sent(&mut self, now: Now, TransmitId(number): TransmitId, stamp: Stamp) {
        let Some(entry) = self.entry_mut(number) else { return };
        let earliest = entry.left.map_or(entry.fetched, |left| left.at);
        if stamp.at > now.mono || stamp.at < earliest {
            self.counts.refused_stamps = self.counts.refused_stamps.saturating_add(1);
        } else if entry.left.is_none() || stamp.clock == Clock::Kernel {
            entry.left = Some(stamp);
        }
    }

    /// One did not leave; given back if it was waited for.
    pub fn handle_send_error(&mut self, TransmitId(number): TransmitId) -> Option<Probe> {
        self.settle(number, State::Unsent)
    }

    /// One is waited for no more; given back if it was. Its answer is late from now on.
    pub fn give_up(&mut self, number: u64) -> Option<Probe> {
        self.settle(number, State::GivenUp)
    }

    /// The answer that a datagram is, if it is the first to one of the probes.
    pub fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: &Received,
        payload: &'i [u8],
    ) -> Option<Answer<'i>> {
        let found = self.read(meta, payload)?;
        let (owner, told) = found;
        let counts = &mut self.counts;
        let number = match owner {
            Owner::Probe(number) => number,
            Owner::Ambiguous => {
                counts.ambiguous = counts.ambiguous.saturating_add(1);
                return None;
            }
            Owner::Nobody => {
                counts.foreign = counts.foreign.saturating_add(1);
                return None;
            }
        };
        let entry = *self.entry(number)?;
        match entry.state {
            State::Waiting | State::GivenUp => {}
            State::Answered => {
                self.counts.duplicates = self.counts.duplicates.saturating_add(1);
                return None;
            }
            State::Unsent => {
                self.counts.foreign = self.counts.foreign.saturating_add(1);
                return None;
            }
        }
        let left = entry.left.unwrap_or(Stamp { at: entry.fetched, clock: Clock::User });
        let arrived = arrival(now, left.at, meta.stamp).unwrap_or_else(|arrived| {
            self.counts.refused_stamps = self.counts.refused_stamps.saturating_add(1);
            arrived
        });
        if let Some(entry) = self.entry_mut(number) {
            entry.state = State::Answered;
        }
        self.waiting.remove(&number);
        let unknown = match self.family() {
            Family::V4 => IpAddr::from([0_u8; 4]),
            Family::V6 => IpAddr::from([0_u16; 8]),
        };
        Some(Answer {
            probe: entry.probe(number),
            from: told.from.unwrap_or(unknown),
            kind: told.kind,
            round_trip: Interval::between(left, arrived),
            hop_limit: meta.hop_limit,
            late: entry.state == State::GivenUp,
            rewritten: told.rewritten,
            extension: told.extension,
        })
    }

    fn family(&self) -> Family {
        Family::of(self.config.destination.ip())
    }

    /// Octets of the IP header.
    fn header(&self) -> u16 {
        match self.family() {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }

    fn protocol(&self) -> IpNumber {
        match (self.config.method, self.family()) {
            (Method::Icmp, Family::V4) => ip_number::ICMP,
            (Method::Icmp, Family::V6) => ip_number::IPV6_ICMP,
            (Method::Udp, _) => ip_number::UDP,
            (Method::Tcp, _) => ip_number::TCP,
        }
    }

    /// The ports of a flow: source, 0 if unknown, and destination.
    fn ports(&self, flow: u16) -> Option<(u16, u16)> {
        let port = self.config.destination.port();
        let source = self.config.source.map_or(0, |source| source.port());
        match self.config.method {
            Method::Icmp => Some((0, 0)),
            Method::Udp => Some((source, port.checked_add(flow)?)),
            Method::Tcp => Some((source.checked_add(flow)?, port)),
        }
    }

    /// The number of the next probe.
    fn next(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.entries.len()).unwrap_or(u64::MAX))
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Forgets the oldest, if there is no room for another and it is not waited for.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < REMEMBERED {
            return true;
        }
        if self.waiting.contains(&self.first) {
            return false;
        }
        self.entries.pop_front();
        self.first = self.first.saturating_add(1);
        true
    }

    fn settle(&mut self, number: u64, state: State) -> Option<Probe> {
        if !self.waiting.remove(&number) {
            return None;
        }
        let entry = self.entry_mut(number)?;
        entry.state = state;
        Some(entry.probe(number))
    }

    /// The latest that is remembered and whose number leaves this remainder.
    fn latest(&self, remainder: u64, of: u64) -> Option<(u64, &Entry)> {
        let last = self.next().checked_sub(1)?;
        let ago = last.checked_sub(remainder)?.checked_rem(of)?;
        let number = last.checked_sub(ago)?;
        Some((number, self.entry(number)?))
    }

    fn by_sequence(&self, sequence: u16) -> Option<(u64, &Entry)> {
        self.latest(sequence.into(), 1 << 16)
    }

    /// Token, what makes the sum of all words and of `beside` become `sum`, and zeros.
    fn payload(&self, entry: &Entry, sum: u16, beside: [u16; 2]) -> Vec<u8> {
        let token = entry.token.to_be_bytes();
        let rest = Sum16BitWords::new().add_slice(&token);
        let rest = beside.iter().fold(rest, |rest, word| rest.add_2bytes(word.to_be_bytes()));
        let lacks = Sum16BitWords::new()
            .add_2bytes(sum.to_be_bytes())
            .add_2bytes(rest.ones_complement().to_ne_bytes());
        let lacks = !lacks.ones_complement();
        let mut payload = Vec::new();
        payload.extend_from_slice(&token);
        payload.extend_from_slice(&lacks.to_ne_bytes());
        payload.resize(self.payload_size(entry), 0);
        payload
    }

    fn payload_size(&self, entry: &Entry) -> usize {
        usize::from(entry.size.saturating_sub(self.header())).saturating_sub(HEADER)
    }

    /// What the sequence and the payload of an echo add up to.
    fn icmp_sum(&self, flow: u16) -> u16 {
        self.sum.wrapping_add(flow)
    }

    fn segment(&self, entry: &Entry) -> Option<TcpHeader> {
        let (source_port, port) = self.ports(entry.flow)?;
        let mut header = TcpHeader::new(source_port, port, entry.sequence_number(), u16::MAX);
        header.syn = true;
        header.set_options(&[TcpOptionElement::MaximumSegmentSize(SEGMENT_SIZE)]).ok()?;
        header.checksum = match (self.config.source?.ip(), self.config.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).ok()?
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]).ok()?
            }
            _ => return None,
        };
        Some(header)
    }

    /// The sum of the pseudo-header of UDP. `None` where the source is not known.
    fn pseudo_sum(&self, length: u16) -> Option<Sum16BitWords> {
        let source = self.config.source.filter(|source| source.port() > 0)?;
        let mut sum = Sum16BitWords::new();
        for address in [source.ip(), self.config.destination.ip()] {
            sum = match address {
                IpAddr::V4(address) if address.is_unspecified() => return None,
                IpAddr::V6(address) if address.is_unspecified() => return None,
                IpAddr::V4(address) => sum.add_slice(&address.octets()),
                IpAddr::V6(address) => sum.add_slice(&address.octets()),
            };
        }
        Some(sum.add_2bytes([0, ip_number::UDP.0]).add_2bytes(length.to_be_bytes()))
    }

    /// The checksum of a UDP header and of a payload that adds up to `sum`.
    fn udp_checksum(&self, flow: u16, length: u16, sum: u16) -> Option<u16> {
        let (source, destination) = self.ports(flow)?;
        let words = [source, destination, length, sum];
        let all = words
            .iter()
            .fold(self.pseudo_sum(length)?, |all, word| all.add_2bytes(word.to_be_bytes()));
        Some(u16::from_be(all.to_ones_complement_with_no_zero()))
    }

    /// The probe and what is said of it; nothing for what says nothing.
    fn read<'i>(&mut self, meta: &Received, payload: &'i [u8]) -> Option<(Owner, Told<'i>)> {
        let from = meta.source.ip();
        let arrived = |how| Told {
            from: Some(from),
            kind: AnswerKind::Reached(how),
            rewritten: None,
            extension: None,
        };
        if Family::of(from) != self.family() {
            return Some((Owner::Nobody, arrived(Reached::Datagram)));
        }
        if let Some(error) = meta.error {
            // With raw sockets the same error comes as a message, and says more.
            if self.config.sockets == Sockets::Raw {
                return None;
            }
            let told = Told {
                from: error.offender,
                kind: self.kind(error.icmp_type, error.icmp_code, error.info),
                rewritten: None,
                extension: self.queued_extension(&error, payload),
            };
            return Some((self.owner_of_queued(meta, payload), told));
        }
        match meta.carrier {
            Carrier::Udp => {
                Some((self.owner_of_datagram(meta, payload), arrived(Reached::Datagram)))
            }
            Carrier::RawTcp => {
                let (owner, how) = self.owner_of_segment(meta, payload);
                Some((owner, arrived(how)))
            }
            Carrier::Icmp | Carrier::RawIcmp => match Message::parse(self.family(), payload) {
                Ok(Message::EchoReply(echo)) => {
                    Some((self.owner_of_echo(&echo), arrived(Reached::Echo)))
                }
                Ok(Message::Error(error)) => {
                    let quoted = error.quoted();
                    let owner =
                        quoted.as_ref().map_or(Owner::Nobody, |it| self.owner_of_quoted(it));
                    let kind = self.kind(error.icmp_type, error.icmp_code, error.info);
                    let rewritten = match owner {
                        Owner::Probe(number) => {
                            quoted.and_then(|it| self.rewritten(number, kind, &error, &it))
                        }
                        _ => None,
                    };
                    let extension = error.extension;
                    Some((owner, Told { from: Some(from), kind, rewritten, extension }))
                }
                // A raw socket sees what others ask of us, and on a loopback our own requests.
                Ok(Message::EchoRequest(_) | Message::Other { .. }) => None,
                Err(_) => {
                    self.counts.malformed = self.counts.malformed.saturating_add(1);
                    None
                }
            },
        }
    }

    fn kind(&self, icmp_type: u8, icmp_code: u8, info: u32) -> AnswerKind {
        use AnswerKind::{Other, PacketTooBig, TimeExceeded, Unreachable};
        let code = icmp_code;
        match (self.family(), icmp_type, icmp_code) {
            (Family::V4, 11, 0) | (Family::V6, 3, 0) => TimeExceeded,
            (Family::V4, 3, 3) | (Family::V6, 1, 4) => match self.config.method {
                Method::Udp => AnswerKind::Reached(Reached::PortUnreachable),
                _ => Unreachable { code },
            },
            (Family::V4, 3, 4) | (Family::V6, 2, _) => PacketTooBig { mtu: info },
            (Family::V4, 3, _) | (Family::V6, 1, _) => Unreachable { code },
            _ => Other { icmp_type, icmp_code },
        }
    }

    fn owner_of_echo(&self, echo: &Echo<'_>) -> Owner {
        let is_ours = self.config.sockets == Sockets::Datagram || echo.ident == self.ident;
        let found = self.by_sequence(echo.sequence).filter(|(_, entry)| {
            // What has not left has no echo: it is a guess.
            is_ours && entry.left.is_some() && entry.begins(echo.payload) == Some(TOKEN)
        });
        self.only(Method::Icmp, found)
    }

    fn owner_of_datagram(&self, meta: &Received, payload: &[u8]) -> Owner {
        if self.config.method != Method::Udp || meta.source.ip() != self.config.destination.ip() {
            return Owner::Nobody;
        }
        let Some(flow) = meta.source.port().checked_sub(self.config.destination.port()) else {
            return Owner::Nobody;
        };
        // An echo proves itself. What else a server says can only be told by who was asked.
        match self.by_token(payload).filter(|(_, entry)| entry.flow == flow) {
            Some((number, _)) => Owner::Probe(number),
            None => self.only_one_of(flow, &[]),
        }
    }

    fn owner_of_segment(&self, meta: &Received, segment: &[u8]) -> (Owner, Reached) {
        let nobody = (Owner::Nobody, Reached::Reset);
        let Ok(header) = TcpHeaderSlice::from_slice(segment) else { return nobody };
        let how = match (header.syn(), header.rst(), header.ack()) {
            (true, false, true) => Reached::SynAck,
            (false, true, true) => Reached::Reset,
            _ => return nobody,
        };
        let number = header.acknowledgment_number().wrapping_sub(1);
        let Some((place, entry)) = self.by_sequence((number & 0xffff) as u16) else {
            return nobody;
        };
        let ports = (header.destination_port(), header.source_port());
        let is_ours = self.config.method == Method::Tcp
            && entry.sequence_number() == number
            && entry.left.is_some()
            && meta.source.ip() == self.config.destination.ip()
            && self.ports(entry.flow) == Some(ports);
        (if is_ours { Owner::Probe(place) } else { Owner::Nobody }, how)
    }

    /// `payload` is what was sent, without an IP header and without that of UDP.
    fn owner_of_queued(&self, meta: &Received, payload: &[u8]) -> Owner {
        if meta.source.ip() != self.config.destination.ip() {
            return Owner::Nobody;
        }
        match (self.config.method, meta.carrier) {
            (Method::Udp, Carrier::Udp) => {
                let flow = meta.source.port().checked_sub(self.config.destination.port());
                let Some(flow) = flow else { return Owner::Nobody };
                match payload.len() < TOKEN {
                    true => self.only_one_of(flow, payload),
                    false => self
                        .only(Method::Udp, self.by_token(payload).filter(|it| it.1.flow == flow)),
                }
            }
            (Method::Icmp, Carrier::Icmp) => match Echo::quoted(self.family(), payload) {
                Some(echo) => self.owner_of_quoted_echo(&echo, true),
                None => Owner::Nobody,
            },
            _ => Owner::Nobody,
        }
    }

    fn owner_of_quoted(&self, quoted: &Quoted<'_>) -> Owner {
        if quoted.protocol != self.protocol().0 {
            return Owner::Nobody;
        }
        let went_there = quoted.destination == self.config.destination.ip();
        match self.config.method {
            Method::Icmp => {
                let echo = Echo::quoted(self.family(), quoted.transport);
                echo.map_or(Owner::Nobody, |echo| {
                    let is_ours = went_there
                        && (self.config.sockets == Sockets::Datagram || echo.ident == self.ident);
                    self.owner_of_quoted_echo(&echo, is_ours)
                })
            }
            Method::Udp => {
                let Some((header, payload)) = quoted.transport.split_first_chunk::<HEADER>() else {
                    return Owner::Nobody;
                };
                if payload.len() >= TOKEN {
                    return self.only(Method::Udp, self.by_token(payload));
                }
                let [_, _, c, d, e, f, g, h] = header.map(u16::from);
                let word = |high: u16, low: u16| high << 8 | low;
                let flow = word(c, d).checked_sub(self.config.destination.port());
                let found = flow.and_then(|flow| {
                    self.by_checksum(flow, word(e, f), word(g, h))
                        .filter(|(_, entry)| entry.begins(payload) == Some(payload.len()))
                });
                match (went_there, found, flow) {
                    (true, Some((number, _)), _) => Owner::Probe(number),
                    // The checksum was left to a device, or the source is not known.
                    (true, None, Some(flow)) => self.only_one_of(flow, payload),
                    _ => Owner::Nobody,
                }
            }
            Method::Tcp => {
                let Some((&[_, _, _, _, a, b, c, d], _)) = quoted.transport.split_first_chunk()
                else {
                    return Owner::Nobody;
                };
                let number = u32::from_be_bytes([a, b, c, d]);
                let found = self.by_sequence(u16::from_be_bytes([c, d]));
                let found = found.filter(|(_, entry)| {
                    let ports = self.ports(entry.flow);
                    // 16 random bits are few: something else has to be right too.
                    let is_right = went_there || quoted.ports() == ports;
                    entry.sequence_number() == number && is_right
                });
                self.only(Method::Tcp, found)
            }
        }
    }

    /// `is_ours` says that it went to where we sent it, under our identifier.
    fn owner_of_quoted_echo(&self, echo: &Echo<'_>, is_ours: bool) -> Owner {
        let found = self.by_sequence(echo.sequence).filter(|(_, entry)| {
            let seen = echo.payload.len().min(TOKEN);
            entry.begins(echo.payload) == Some(seen) && (is_ours || seen == TOKEN)
        });
        self.only(Method::Icmp, found)
    }

    fn only(&self, method: Method, found: Option<(u64, &Entry)>) -> Owner {
        match found {
            Some((number, _)) if self.config.method == method => Owner::Probe(number),
            _ => Owner::Nobody,
        }
    }

    /// The probe whose whole token a payload begins with.
    fn by_token(&self, payload: &[u8]) -> Option<(u64, &Entry)> {
        let &token = payload.first_chunk()?;
        let found = self.by_sequence(u64::from_be_bytes(token) as u16)?;
        (found.1.token == u64::from_be_bytes(token)).then_some(found)
    }

    fn by_checksum(&self, flow: u16, length: u16, checksum: u16) -> Option<(u64, &Entry)> {
        // The sum that the payload must have had is one's complement arithmetic again.
        let without = self.udp_checksum(flow, length, 0)?;
        let sum = Sum16BitWords::new()
            .add_2bytes(without.to_be_bytes())
            .add_2bytes((!checksum).to_be_bytes());
        let sum = u16::from_be(!sum.ones_complement());
        let remainder = if sum == 0 { SUMS } else { u64::from(sum) }.checked_sub(1)?;
        let (number, entry) = self.latest(remainder, SUMS)?;
        let is_as_long = usize::from(length).checked_sub(HEADER) == Some(self.payload_size(entry));
        (entry.flow == flow && is_as_long).then_some((number, entry))
    }

    /// The probe that is waited for in this flow and begins so, if it is one alone.
    fn only_one_of(&self, flow: u16, begins: &[u8]) -> Owner {
        let mut found = self.waiting.iter().filter(|&&number| {
            self.entry(number).is_some_and(|entry| {
                entry.flow == flow
                    && entry.left.is_some()
                    && entry.begins(begins) == Some(begins.len())
            })
        });
        match (found.next(), found.next()) {
            (Some(&number), None) => Owner::Probe(number),
            (Some(_), Some(_)) => Owner::Ambiguous,
            (None, _) => Owner::Nobody,
        }
    }

    /// What follows the quote in an error queue: it stands there as the router sent it.
    fn queued_extension<'i>(
        &self,
        error: &QuotedError,
        payload: &'i [u8],
    ) -> Option<Result<Extension<'i>, BadExtension>> {
        if let Some(begin) = error.extension {
            let extension = payload.get(usize::from(begin)..).unwrap_or_default();
            return Some(Extension::parse(extension));
        }
        let before = match self.config.method {
            Method::Udp => HEADER,
            _ => 0,
        };
        extension_at(payload, usize::from(self.header()).saturating_add(before)).map(Ok)
    }

    /// Every field of the quote that is not what was sent.
    fn rewritten(
        &self,
        number: u64,
        kind: AnswerKind,
        error: &IcmpError<'_>,
        quoted: &Quoted<'_>,
    ) -> Option<Rewritten> {
        let entry = self.entry(number)?;
        let other = |is: bool| (!is).then_some(());
        let (source_port, port) = self.ports(entry.flow)?;
        let mut rewritten = Rewritten::default();
        if kind == AnswerKind::TimeExceeded && quoted.hop_limit != 1 {
            rewritten.hop_limit = Some(quoted.hop_limit);
        }
        if quoted.traffic_class != self.config.traffic_class {
            rewritten.traffic_class = Some(quoted.traffic_class);
        }
        let source = self.config.source.map(|source| source.ip());
        let source = source.filter(|source| !source.is_unspecified());
        rewritten.source =
            source.and_then(|source| other(source == quoted.source)).map(|()| quoted.source);
        rewritten.destination =
            other(quoted.destination == self.config.destination.ip()).map(|()| quoted.destination);
        let length = told_length(self.family(), error.original)?;
        rewritten.length = other(length == entry.size).map(|()| length);
        if let Some((from, to)) = quoted.ports() {
            rewritten.source_port = other(source_port == 0 || from == source_port).map(|()| from);
            rewritten.destination_port = other(to == port).map(|()| to);
        } else if let Some(echo) = quoted.echo() {
            rewritten.source_port = other(echo.ident == self.ident).map(|()| echo.ident);
        }
        rewritten.checksum = self
            .checksum_of(number, entry, quoted.transport)
            .and_then(|(checksum, is_right)| other(is_right).map(|()| checksum));
        Some(rewritten)
    }

    /// The checksum in a quote, and whether it is what was sent; `None` if it is not known or not seen.
    fn checksum_of(&self, number: u64, entry: &Entry, transport: &[u8]) -> Option<(u16, bool)> {
        let at = match self.config.method {
            Method::Icmp => 2,
            Method::Udp => 6,
            Method::Tcp => 16,
        };
        let &checksum = transport.get(at..)?.first_chunk()?;
        let checksum = u16::from_be_bytes(checksum);
        let is_right = match self.config.method {
            // That of ICMPv6 covers a source that only the system knows.
            Method::Icmp if self.family() == Family::V6 => return None,
            Method::Icmp => {
                let sum = Sum16BitWords::new()
                    .add_2bytes([8, 0])
                    .add_2bytes(self.ident.to_be_bytes())
                    .add_2bytes(self.icmp_sum(entry.flow).to_be_bytes());
                one_zero(u16::from_be(sum.ones_complement())) == one_zero(checksum)
            }
            Method::Udp => {
                let size = self.payload_size(entry).saturating_add(HEADER);
                let length = u16::try_from(size).unwrap_or(u16::MAX);
                let whole = self.udp_checksum(entry.flow, length, udp_sum(number))?;
                // Left to a device, it is the sum of the pseudo-header.
                let left = !u16::from_be(self.pseudo_sum(length)?.ones_complement());
                checksum == whole || checksum == left
            }
            Method::Tcp => checksum == self.segment(entry)?.checksum,
        };
        Some((checksum, is_right))
    }
}

impl Entry {
    fn probe(&self, number: u64) -> Probe {
        Probe { number, hop_limit: self.hop_limit, flow: self.flow, size: self.size }
    }

    fn departure(&self) -> Instant {
        self.left.map_or(self.fetched, |left| left.at)
    }

    /// How many octets of the token a payload begins with, if it does not begin with anything else.
    fn begins(&self, payload: &[u8]) -> Option<usize> {
        let seen = payload.len().min(TOKEN);
        (payload.get(..seen)? == self.token.to_be_bytes().get(..seen)?).then_some(seen)
    }

    /// Of a SYN: 16 random bits, 16 of the number.
    fn sequence_number(&self) -> u32 {
        ((self.token >> 16 & 0xffff) << 16 | self.token & 0xffff) as u32
    }
}

/// What a UDP payload adds up to: no two of 65,535 in a row have the same.
fn udp_sum(number: u64) -> u16 {
    let sum = number.checked_rem(SUMS).unwrap_or(0).saturating_add(1);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// All ones and zero are one number.
fn one_zero(sum: u16) -> u16 {
    if sum == u16::MAX { 0 } else { sum }
}

/// What an IP header tells of its packet's length.
fn told_length(family: Family, original: &[u8]) -> Option<u16> {
    let word = |at: usize| original.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word));
    match family {
        Family::V4 => word(2),
        Family::V6 => word(4).map(|payload| payload.saturating_add(40)),
    }
}
