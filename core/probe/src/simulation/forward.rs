//! A packet's way, and what comes back of it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use etherparse::{UdpHeader, ip_number};
use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, Clock, Failure, Instant, Now, QuotedError, Received, Rng, Seed, Stamp, Transmit,
};

use super::packet::{Packet, mix, number, put_at};
use super::{Action, Addresses, Balance, Lie, Node, NodeId, Port, Refusal, Size, Topology};
use crate::extension::{BadExtension, Extension, Object};
use crate::icmp::{Echo, Family, HEADER, IcmpError, Message, Quoted, checksum};

/// Hops of one packet: a TTL does not last for more, and a node that takes none is not left in a
/// loop for ever.
const MOST_HOPS: usize = 300;

/// Which stream of the seed chance is drawn from.
const CHANCE: u64 = 0x726f_7574;

/// A [`Topology`] at work.
#[derive(Debug)]
pub struct Internet {
    map: Topology,
    /// What flows are hashed with.
    seed: u64,
    rng: Rng,
    /// Errors that each node may send still, and when it was last looked at.
    buckets: BTreeMap<NodeId, (u32, Instant)>,
    /// What the client knows of paths that are narrow.
    path_mtus: BTreeMap<IpAddr, usize>,
    sent: u32,
}

/// What a socket hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// With the time of its arrival as the kernel's stamp.
    pub meta: Received,
    /// As a socket of this carrier has it.
    pub payload: Vec<u8>,
}

/// Where a packet is, and where it has been.
struct Way {
    /// As it left, and by which socket.
    sent: Packet,
    carrier: Carrier,
    /// As it is now.
    packet: Packet,
    /// The nodes on the way back, the client first.
    nodes: Vec<NodeId>,
    now: Instant,
}

/// What is answered.
enum Answer {
    /// An error about the packet, and an MTU.
    Error(Refusal, usize),
    /// Transport octets from the destination.
    Transport(Vec<u8>),
}

/// An answer as it comes to the client.
struct Back {
    from: IpAddr,
    hop_limit: u8,
    at: Instant,
    is_error: bool,
    transport: Vec<u8>,
}

impl Internet {
    /// At work from now on; all chance in it comes from `seed`.
    pub fn new(map: Topology, seed: u64) -> Self {
        let rng = Seed::from_u64(seed).stream(CHANCE);
        Self { map, seed, rng, buckets: BTreeMap::new(), path_mtus: BTreeMap::new(), sent: 0 }
    }

    /// The map, to change it while it is used.
    pub fn map_mut(&mut self) -> &mut Topology {
        &mut self.map
    }

    /// Sends one datagram. What comes back of it, in no order.
    ///
    /// # Errors
    ///
    /// As a socket's: `TooLarge` for what does not fit, `Unreachable` without a way,
    /// `Unsupported` for a source of the other family.
    pub fn send(
        &mut self,
        now: Now,
        transmit: &Transmit,
        payload: &[u8],
    ) -> Result<Vec<Arrival>, Failure> {
        let packet = self.packet(transmit, payload)?;
        let size = packet.len();
        let probed = self.map.client.size == Size::Probed;
        let known = self.path_mtus.get(&packet.destination).copied();
        if known.is_some_and(|mtu| size > mtu) && self.map.client.size == Size::Known {
            return Err(Failure::TooLarge);
        }
        let first = self.first_link(packet.destination)?;
        if size > first && (packet.family() == Family::V6 || !packet.may_fragment || probed) {
            return Err(Failure::TooLarge);
        }
        Ok(self.forward(Way {
            sent: packet.clone(),
            carrier: transmit.carrier,
            packet,
            nodes: Vec::from([Topology::CLIENT]),
            now: now.mono,
        }))
    }

    /// The MTU of the link to a destination's first hop.
    fn first_link(&self, destination: IpAddr) -> Result<usize, Failure> {
        let Some(Action::Forward(next)) = self.map.action(Topology::CLIENT, destination) else {
            return Err(Failure::Unreachable);
        };
        let link = next.first().and_then(|&next| self.map.between(Topology::CLIENT, next));
        link.map(|link| link.mtu).ok_or(Failure::Unreachable)
    }

    /// What the client's system puts around a payload.
    fn packet(&mut self, transmit: &Transmit, payload: &[u8]) -> Result<Packet, Failure> {
        let client = self.map.client;
        let destination = transmit.destination.ip();
        let source = match transmit.source {
            Some(source) => source,
            None => self.source(destination).ok_or(Failure::Unreachable)?,
        };
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(Failure::Unsupported);
        }
        self.sent = self.sent.wrapping_add(1);
        let icmp = if destination.is_ipv4() { ip_number::ICMP } else { ip_number::IPV6_ICMP };
        let protocol = match transmit.carrier {
            Carrier::Udp => ip_number::UDP,
            Carrier::RawTcp => ip_number::TCP,
            Carrier::Icmp | Carrier::RawIcmp => icmp,
        };
        let mut transport = payload.to_vec();
        match transmit.carrier {
            Carrier::Udp => {
                let length = payload.len().saturating_add(UdpHeader::LEN);
                let header = UdpHeader {
                    source_port: client.port,
                    destination_port: transmit.destination.port(),
                    length: u16::try_from(length).map_err(|_| Failure::TooLarge)?,
                    checksum: 0,
                };
                transport = [&header.to_bytes()[..], payload].concat();
            }
            Carrier::Icmp => put_at(&mut transport, 4, client.ident.to_be_bytes()),
            Carrier::RawIcmp | Carrier::RawTcp => {}
        }
        let mut packet = Packet {
            source,
            destination,
            hop_limit: transmit.hop_limit.unwrap_or(64),
            traffic_class: client.traffic_class,
            label: self.sent & 0xffff,
            may_fragment: client.size == Size::Any,
            protocol: protocol.0,
            transport,
        };
        // Raw sockets of ICMPv6 are given their checksums; those of TCP bring them.
        if transmit.carrier != Carrier::RawTcp {
            packet.sum_up();
        }
        if destination.is_ipv6() {
            packet.label = 0;
            // As Linux does: what is a flow to itself is one to others.
            packet.label = (packet.flow(0) & 0xf_ffff) as u32;
        }
        if packet.len() > usize::from(u16::MAX) {
            return Err(Failure::TooLarge);
        }
        Ok(packet)
    }

    /// The client's address on the way to a destination.
    fn source(&self, destination: IpAddr) -> Option<IpAddr> {
        let Some(Action::Forward(next)) = self.map.action(Topology::CLIENT, destination) else {
            return None;
        };
        let link = self.map.between(Topology::CLIENT, *next.first()?)?;
        Some(link.end_of(Topology::CLIENT)?.like(destination))
    }

    /// Carries a packet to where it ends. What arrives of the answers.
    fn forward(&mut self, mut way: Way) -> Vec<Arrival> {
        for _ in 0..MOST_HOPS {
            let Some(&at) = way.nodes.last() else { break };
            let Some(node) = self.map.nodes.get(at.0).cloned() else { break };
            let is_client = at == Topology::CLIENT;
            let destination = way.packet.destination;
            if !is_client && self.map.has(at, destination) {
                let answers = answers(&node, &way.packet);
                let back = |answer| self.answer(&way, &node, answer);
                return answers.into_iter().flat_map(back).collect();
            }
            let action = rule(&node, &way.packet).or_else(|| self.map.action(at, destination));
            let next = match action.unwrap_or(Action::Refuse(Refusal::NETWORK)) {
                Action::Drop => break,
                Action::Refuse(why) => return self.answer(&way, &node, Answer::Error(why, 0)),
                Action::Forward(next) => next,
            };
            if !is_client && node.decrements {
                if way.packet.hop_limit <= 1 {
                    let answer = Answer::Error(Refusal::TIME_EXCEEDED, 0);
                    return self.answer(&way, &node, answer);
                }
                way.packet.hop_limit = way.packet.hop_limit.saturating_sub(1);
            }
            let Some(next) = self.choose(&node, at, &way.packet, &next) else { break };
            let Some(link) = self.map.between(at, next).cloned() else { break };
            let is_cut = way.packet.may_fragment && way.packet.family() == Family::V4;
            if way.packet.len() > link.mtu && !is_cut {
                let answer = Answer::Error(Refusal::TOO_BIG, link.mtu);
                return self.answer(&way, &node, answer);
            }
            if !is_client {
                way.packet.rewrite(&node.rewrite);
            }
            if self.happens(link.loss) {
                break;
            }
            way.now = way.now.saturating_add(link.latency);
            way.now = way.now.saturating_add(self.up_to(link.jitter));
            // A loop is not gone through again on the way back.
            if let Some(seen) = way.nodes.iter().position(|&seen| seen == next) {
                way.nodes.truncate(seen);
            }
            way.nodes.push(next);
        }
        Vec::new()
    }

    /// One of several ways that are equally good.
    fn choose(
        &mut self,
        node: &Node,
        at: NodeId,
        packet: &Packet,
        of: &[NodeId],
    ) -> Option<NodeId> {
        let of_node = mix(self.seed, u64::try_from(at.0).unwrap_or(0));
        let drawn = match node.balance {
            _ if of.len() == 1 => 0,
            Balance::Flow => packet.flow(of_node),
            Balance::Packet => self.rng.next_u64(),
            Balance::Destination => mix(of_node, number(packet.destination)),
        };
        let place = drawn.checked_rem(u64::try_from(of.len()).ok()?)?;
        of.get(usize::try_from(place).ok()?).copied()
    }

    /// Sends an answer of the node that a packet has come to, back the way it came.
    fn answer(&mut self, way: &Way, node: &Node, answer: Answer) -> Vec<Arrival> {
        let Some(&at) = way.nodes.last() else { return Vec::new() };
        let packet = &way.packet;
        let of_family =
            |addresses: Option<Addresses>| addresses.map(|of| of.like(packet.destination));
        let is_host = self.map.has(at, packet.destination);
        let is_error = matches!(answer, Answer::Error(..));
        let (from, transport) = match answer {
            Answer::Transport(transport) => {
                (of_family(node.answers_from).unwrap_or(packet.destination), transport)
            }
            Answer::Error(why, mtu) => {
                // An error is not answered with an error (RFC 1122, section 3.2.2).
                let of_error = packet.is_icmp() && is_error_type(packet);
                if node.errors.silent || of_error || !self.may_report(at, node, way.now) {
                    return Vec::new();
                }
                let own =
                    if is_host { Some(packet.destination) } else { of_family(self.facing(way)) };
                let Some(from) = of_family(node.errors.from).or(own) else { return Vec::new() };
                let mut quoted = packet.clone();
                if way.nodes.iter().any(|of| self.restores(*of)) {
                    quoted = Packet { hop_limit: packet.hop_limit, ..way.sent.clone() };
                }
                (from, report(node, &quoted, why, mtu))
            }
        };
        let Some((at, copies)) = self.back(way) else { return Vec::new() };
        let routers = u8::try_from(way.nodes.len().saturating_sub(2)).unwrap_or(u8::MAX);
        let hop_limit = node.hop_limit.saturating_sub(routers);
        let back = Back { from, hop_limit, at, is_error, transport };
        (0..copies).flat_map(|_| self.deliver(way, &back)).collect()
    }

    fn restores(&self, node: NodeId) -> bool {
        self.map.nodes.get(node.0).is_some_and(|node| node.rewrite.restores)
    }

    /// The addresses of a node on the link that a packet first came by.
    fn facing(&self, way: &Way) -> Option<Addresses> {
        let [.., before, at] = *way.nodes else { return None };
        self.map.between(before, at)?.end_of(at)
    }

    /// The time that an answer takes, and how often it comes, if it does.
    fn back(&mut self, way: &Way) -> Option<(Instant, u32)> {
        let (mut now, mut copies) = (way.now, 1);
        for pair in way.nodes.windows(2) {
            let &[a, b] = pair else { continue };
            let link = self.map.between(a, b)?.clone();
            if self.happens(link.loss) {
                return None;
            }
            if self.happens(link.duplication) {
                copies = 2;
            }
            now = now.saturating_add(link.latency).saturating_add(self.up_to(link.jitter));
        }
        Some((now, copies))
    }

    /// Whether a node's limit allows for one more error.
    fn may_report(&mut self, at: NodeId, node: &Node, now: Instant) -> bool {
        let Some((burst, interval)) = node.errors.limit else { return true };
        let (left, since) = self.buckets.entry(at).or_insert((burst, now));
        let passed = now.saturating_since(*since).as_nanos();
        let earned = passed.checked_div(interval.as_nanos()).unwrap_or(u128::from(burst));
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            *left = left.saturating_add(earned).min(burst);
            *since = since.saturating_add(interval.saturating_mul(earned));
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    /// To the sockets that the client's system would hand it to.
    fn deliver(&mut self, way: &Way, back: &Back) -> Vec<Arrival> {
        let (sent, carrier) = (&way.sent, way.carrier);
        let arrival = |carrier, source, error, payload| Arrival {
            meta: Received {
                source,
                destination: Some(sent.source),
                hop_limit: Some(back.hop_limit),
                traffic_class: Some(0),
                carrier,
                stamp: Stamp { at: back.at, clock: Clock::Kernel },
                error,
            },
            payload,
        };
        let from = SocketAddr::new(back.from, 0);
        let port = sent.ports().map_or(0, |(_, port)| port);
        let message = || arrival(Carrier::RawIcmp, from, None, back.transport.clone());
        let is_raw = self.map.client.raw || carrier == Carrier::RawIcmp;
        let mut arrivals = Vec::new();
        if back.is_error {
            let parsed = Message::parse(sent.family(), &back.transport);
            let Ok(Message::Error(error)) = parsed else { return arrivals };
            if is_raw {
                arrivals.push(message());
            }
            if let Some(payload) = queued(sent, &back.transport, carrier) {
                let why = QuotedError {
                    offender: Some(back.from),
                    icmp_type: error.icmp_type,
                    icmp_code: error.icmp_code,
                    info: error.info,
                    extension: extension(carrier, &error),
                };
                let to = SocketAddr::new(sent.destination, port);
                arrivals.push(arrival(carrier, to, Some(why), payload));
            }
            self.learn(sent.destination, &error);
            return arrivals;
        }
        match carrier {
            Carrier::Udp => {
                let payload = back.transport.get(UdpHeader::LEN..).unwrap_or_default().to_vec();
                arrivals.push(arrival(carrier, SocketAddr::new(back.from, port), None, payload));
            }
            Carrier::Icmp | Carrier::RawTcp => {
                arrivals.push(arrival(carrier, from, None, back.transport.clone()));
            }
            Carrier::RawIcmp => {}
        }
        if is_raw && sent.is_icmp() {
            arrivals.push(message());
        }
        arrivals
    }

    /// The client's system keeps what it is told of a path's width.
    fn learn(&mut self, destination: IpAddr, error: &IcmpError<'_>) {
        let kind = (error.icmp_type, error.icmp_code);
        if [Refusal::TOO_BIG.v4, Refusal::TOO_BIG.v6].contains(&kind) && error.info > 0 {
            let mtu = usize::try_from(error.info).unwrap_or(usize::MAX);
            self.path_mtus.insert(destination, mtu);
        }
    }

    fn happens(&mut self, per_million: u32) -> bool {
        per_million > 0
            && self.rng.next_u64().checked_rem(1_000_000).unwrap_or(0) < u64::from(per_million)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return Duration::ZERO;
        }
        let range = nanos.saturating_add(1);
        Duration::from_nanos(self.rng.next_u64().checked_rem(range).unwrap_or(0))
    }
}

/// What a firewall says of a packet, if anything.
fn rule(node: &Node, packet: &Packet) -> Option<Action> {
    let (_, port) = packet.ports()?;
    let network = Topology::network(packet.destination)?;
    let rule = node.rules.iter().find(|rule| (rule.network, rule.port) == (network, port))?;
    Some(rule.refusal.map_or(Action::Drop, Action::Refuse))
}

/// What a host answers to a packet that is for it.
fn answers(node: &Node, packet: &Packet) -> Vec<Answer> {
    let family = packet.family();
    if packet.is_icmp() {
        let Ok(Message::EchoRequest(echo)) = Message::parse(family, &packet.transport) else {
            return Vec::new();
        };
        let times = usize::try_from(node.echoes).unwrap_or(0);
        return core::iter::repeat_with(|| Answer::Transport(reply(packet, &echo)))
            .take(times)
            .collect();
    }
    let Some((from, to)) = packet.ports() else { return Vec::new() };
    let is_udp = packet.protocol == ip_number::UDP.0;
    let port = node.ports.get(&to).copied().unwrap_or(Port::Closed);
    let answer = match port {
        Port::Filtered => None,
        Port::Prohibited => Some(Answer::Error(Refusal::PROHIBITED, 0)),
        Port::Closed if is_udp => Some(Answer::Error(Refusal::PORT, 0)),
        Port::Mute if is_udp => None,
        Port::Open if is_udp => {
            let mut transport = packet.transport.clone();
            put_at(&mut transport, 0, to.to_be_bytes());
            put_at(&mut transport, 2, from.to_be_bytes());
            Some(Answer::Transport(back(packet, transport)))
        }
        Port::Closed => segment(packet, RST | ACK).map(Answer::Transport),
        Port::Open | Port::Mute => segment(packet, SYN | ACK).map(Answer::Transport),
    };
    answer.into_iter().collect()
}

fn reply(packet: &Packet, echo: &Echo<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    echo.put_reply(packet.family(), &mut out);
    back(packet, out)
}

/// Transport octets from the destination to the source, with a checksum that fits.
fn back(packet: &Packet, transport: Vec<u8>) -> Vec<u8> {
    let (source, destination) = (packet.destination, packet.source);
    let mut answer = Packet { source, destination, transport, ..packet.clone() };
    answer.sum_up();
    answer.transport
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The answer of TCP to a segment that opens a connection (RFC 9293, section 3.10.7); to others,
/// none.
fn segment(packet: &Packet, flags: u8) -> Option<Vec<u8>> {
    let &[a, b, c, d, s, t, u, v, _, _, _, _, _, told, ..] = &*packet.transport else {
        return None;
    };
    if told & (SYN | ACK | RST) != SYN {
        return None;
    }
    let acknowledged = u32::from_be_bytes([s, t, u, v]).wrapping_add(1).to_be_bytes();
    let sequence = if flags & SYN > 0 { [0x5e, 0x3f, 0x10, 1] } else { [0; 4] };
    let mut out = Vec::from([c, d, a, b]);
    out.extend_from_slice(&sequence);
    out.extend_from_slice(&acknowledged);
    out.extend_from_slice(&[0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    Some(back(packet, out))
}

/// An ICMP error with what its sender quotes and tells.
fn report(node: &Node, packet: &Packet, why: Refusal, mtu: usize) -> Vec<u8> {
    let family = packet.family();
    let (icmp_type, icmp_code) = if family == Family::V4 { why.v4 } else { why.v6 };
    let octets = packet.octets();
    let original = octets.get(..node.errors.quotes).unwrap_or(&octets);
    let mut objects = Vec::new();
    if !node.errors.labels.is_empty() {
        let mut payload = Vec::new();
        for label in &node.errors.labels {
            let entry = label.label << 12
                | u32::from(label.traffic_class & 7) << 9
                | u32::from(label.bottom) << 8
                | u32::from(label.ttl);
            payload.extend_from_slice(&entry.to_be_bytes());
        }
        Object { class: 1, c_type: 1, payload: &payload }.put(&mut objects);
    }
    let extension = match Extension::of(&objects) {
        Ok(extension) if !objects.is_empty() => Some(Ok(extension)),
        _ => None,
    };
    let info = u32::try_from(mtu).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    IcmpError { icmp_type, icmp_code, info, original, extension }.put(family, &mut out);
    if let Some(lie) = node.errors.lie {
        let begins = out.len().saturating_sub(objects.len()).saturating_sub(4);
        tell(lie, family, begins, &mut out);
        put_at(&mut out, 2, [0, 0]);
        if family == Family::V4 {
            let sum = checksum(&out);
            put_at(&mut out, 2, sum.to_ne_bytes());
        }
    }
    out
}

/// Makes an error contradict itself; its extension begins at `begins`.
fn tell(lie: Lie, family: Family, begins: usize, out: &mut [u8]) {
    let (place, value) = match lie {
        Lie::Quote => (if family == Family::V4 { 5 } else { 4 }, 0xff),
        Lie::Version => (begins, 0x30),
        Lie::Checksum => (begins.saturating_add(3), 0x5e),
        Lie::Object => (begins.saturating_add(4), 0xff),
    };
    if lie == Lie::Object {
        // Without a checksum, so that the length is what is wrong.
        put_at(out, begins.saturating_add(2), [0, 0]);
    }
    if let Some(octet) = out.get_mut(place) {
        *octet = if *octet == value { !value } else { value };
    }
}

/// Whether a packet of ICMP is an error.
fn is_error_type(packet: &Packet) -> bool {
    match (packet.family(), packet.transport.first()) {
        (Family::V4, Some(kind)) => [3, 11, 12].contains(kind),
        (Family::V6, Some(kind)) => (1..=4).contains(kind),
        (_, None) => false,
    }
}

/// Where the extension begins in what [`queued`] gives: Linux tells it of one that lies, too.
fn extension(carrier: Carrier, error: &IcmpError<'_>) -> Option<u16> {
    if let None | Some(Err(BadExtension::Quote { .. })) = error.extension {
        return None;
    }
    let before = match carrier {
        Carrier::Udp => UdpHeader::LEN,
        _ => 0,
    };
    let header = if error.original.first()? >> 4 == 4 { 20 } else { 40 };
    u16::try_from(error.original.len().checked_sub(before)?.checked_sub(header)?).ok()
}

/// What the error queue hands over: the payload behind the quoted transport header and all that
/// follows it. Nothing where the system does not find the socket by what is quoted.
fn queued(sent: &Packet, transport: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
    let header = if sent.family() == Family::V4 { 20 } else { 40 };
    let quote = transport.get(HEADER..)?;
    let quoted = Quoted::parse(quote)?;
    let addresses = (quoted.source, quoted.destination) == (sent.source, sent.destination);
    // The system wants eight octets of the transport header.
    let rest = quote.get(header..).filter(|rest| rest.len() >= HEADER)?;
    if !addresses || quoted.ports() != sent.ports() {
        return None;
    }
    match carrier {
        Carrier::Udp => rest.get(UdpHeader::LEN..).map(<[u8]>::to_vec),
        Carrier::Icmp => Some(rest.to_vec()),
        Carrier::RawIcmp | Carrier::RawTcp => None,
    }
}
