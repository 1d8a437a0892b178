//! Packets as a router sees them, and what it sends back.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader, ip_number};
use semfio_machine::Transmit;
use semfio_probe::{Extension, Family, IcmpError, Label, Method, Object, Probes};

pub(crate) const OUR_PORT: u16 = 40_000;

pub(crate) fn destination(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 9]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 9, 0, 0, 0, 2]),
    }
}

pub(crate) fn ours(family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from([198, 51, 100, 1]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1]),
    };
    SocketAddr::new(address, OUR_PORT)
}

pub(crate) fn router(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([203, 0, 113, number]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)]),
    }
}

/// A probe where its hops have run out.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    /// With which it left.
    pub(crate) hop_limit: u8,
    method: Method,
}

impl Packet {
    pub(crate) fn of(probes: &Probes, transmit: &Transmit, payload: &[u8]) -> Self {
        let config = probes.config();
        let method = config.method;
        let family = Family::of(transmit.destination.ip());
        let ours = ours(family);
        let (from, to) = (ours.ip(), transmit.destination.ip());
        let udp = |length| UdpHeader {
            source_port: ours.port(),
            destination_port: transmit.destination.port(),
            length,
            checksum: 0,
        };
        let mut transport = Vec::new();
        let protocol = match (method, family) {
            (Method::Icmp, Family::V4) => ip_number::ICMP,
            (Method::Icmp, Family::V6) => ip_number::IPV6_ICMP,
            (Method::Udp, _) => ip_number::UDP,
            (Method::Tcp, _) => ip_number::TCP,
        };
        if method == Method::Udp {
            let mut header = udp(8 + payload.len() as u16);
            header.checksum = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).unwrap()
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).unwrap()
                }
                _ => panic!("two families"),
            };
            transport.extend_from_slice(&header.to_bytes());
        }
        transport.extend_from_slice(payload);
        let mut bytes = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = transport.len() as u16;
                let header =
                    Ipv4Header::new(length, 1, protocol, from.octets(), to.octets()).unwrap();
                header.to_bytes().to_vec()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::try_new(0xabcd).unwrap(),
                payload_length: transport.len() as u16,
                next_header: protocol,
                hop_limit: 1,
                source: from.octets(),
                destination: to.octets(),
            }
            .to_bytes()
            .to_vec(),
            _ => panic!("two families"),
        };
        bytes.extend_from_slice(&transport);
        let mut packet = Self { bytes, hop_limit: transmit.hop_limit.unwrap(), method };
        if (method, family) == (Method::Icmp, Family::V6) {
            packet.transport_mut()[2..4].fill(0);
            let sum = !packet.sum();
            packet.transport_mut()[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    fn header(&self) -> usize {
        if self.is_v4() { 20 } else { 40 }
    }

    pub(crate) fn transport(&self) -> &[u8] {
        &self.bytes[self.header()..]
    }

    pub(crate) fn transport_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        &mut self.bytes[header..]
    }

    pub(crate) fn ports(&self) -> (u16, u16) {
        let transport = self.transport();
        let port = |at| u16::from_be_bytes([transport[at], transport[at + 1]]);
        (port(0), port(2))
    }

    /// What a router looks at that shares out its load by flows.
    pub(crate) fn hashed(&self) -> Vec<u8> {
        let [addresses, protocol] = if self.is_v4() { [12..20, 9..10] } else { [8..40, 6..7] };
        [&self.bytes[addresses], &self.bytes[protocol], &self.transport()[..4]].concat()
    }

    /// The pseudo-header and all after it, added up.
    fn sum(&self) -> u16 {
        let covers_addresses = !(self.method == Method::Icmp && self.is_v4());
        let mut bytes = Vec::new();
        if covers_addresses {
            let addresses = if self.is_v4() { 12..20 } else { 8..40 };
            bytes.extend_from_slice(&self.bytes[addresses]);
            let protocol = self.bytes[if self.is_v4() { 9 } else { 6 }];
            bytes.extend_from_slice(&[0, protocol]);
            bytes.extend_from_slice(&(self.transport().len() as u16).to_be_bytes());
        }
        bytes.extend_from_slice(self.transport());
        add_up(&bytes)
    }

    pub(crate) fn checksum_is_right(&self) -> bool {
        self.sum() == 0xffff
    }

    /// As a system leaves it that lets its device add up the rest.
    pub(crate) fn leave_checksum(&mut self) {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.bytes[if self.is_v4() { 12..20 } else { 8..40 }]);
        bytes.extend_from_slice(&[0, 17]);
        bytes.extend_from_slice(&(self.transport().len() as u16).to_be_bytes());
        let sum = add_up(&bytes);
        self.transport_mut()[6..8].copy_from_slice(&sum.to_be_bytes());
    }

    pub(crate) fn set_hop_limit(&mut self, hops: u8) {
        let at = if self.is_v4() { 8 } else { 7 };
        self.bytes[at] = hops;
    }

    pub(crate) fn set_traffic_class(&mut self, class: u8) {
        if self.is_v4() {
            self.bytes[1] = class;
        } else {
            self.bytes[0] = 0x60 | class >> 4;
            self.bytes[1] = self.bytes[1] & 0xf | class << 4;
        }
    }

    pub(crate) fn set_source(&mut self, address: IpAddr) {
        self.set_address(0, address);
    }

    pub(crate) fn set_destination(&mut self, address: IpAddr) {
        self.set_address(1, address);
    }

    fn set_address(&mut self, place: usize, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.bytes[12 + 4 * place..][..4].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                self.bytes[8 + 16 * place..][..16].copy_from_slice(&address.octets());
            }
        }
    }

    pub(crate) fn set_length(&mut self, length: u16) {
        let (at, length) = if self.is_v4() { (2, length) } else { (4, length - 40) };
        self.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    pub(crate) fn set_ports(&mut self, source: u16, destination: u16) {
        self.transport_mut()[..2].copy_from_slice(&source.to_be_bytes());
        self.transport_mut()[2..4].copy_from_slice(&destination.to_be_bytes());
    }
}

fn add_up(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The type, and the message.
pub(crate) fn time_exceeded(quote: &[u8]) -> (u8, Vec<u8>) {
    let family = match quote.first() {
        Some(first) if first >> 4 == 6 => Family::V6,
        _ => Family::V4,
    };
    let icmp_type = if family == Family::V4 { 11 } else { 3 };
    (icmp_type, error(family, icmp_type, 0, 0, quote))
}

pub(crate) fn error(family: Family, icmp_type: u8, code: u8, info: u32, quote: &[u8]) -> Vec<u8> {
    let mut icmp = Vec::new();
    IcmpError { icmp_type, icmp_code: code, info, original: quote, extension: None }
        .put(family, &mut icmp);
    icmp
}

/// A message that ends with a label stack; those of old routers do not say where.
pub(crate) fn with_labels(
    family: Family,
    quote: &[u8],
    stack: &[Label],
    compliant: bool,
) -> (u8, Vec<u8>) {
    let payload: Vec<u8> = stack
        .iter()
        .flat_map(|entry| {
            let word = entry.label << 12
                | u32::from(entry.traffic_class) << 9
                | u32::from(entry.bottom) << 8
                | u32::from(entry.ttl);
            word.to_be_bytes()
        })
        .collect();
    let mut objects = Vec::new();
    Object { class: 1, c_type: 1, payload: &payload }.put(&mut objects);
    let icmp_type = if family == Family::V4 { 11 } else { 3 };
    let extension = Some(Ok(Extension::of(&objects).unwrap()));
    let mut icmp = Vec::new();
    IcmpError { icmp_type, icmp_code: 0, info: 0, original: quote, extension }
        .put(family, &mut icmp);
    if !compliant {
        icmp[4..8].fill(0);
        fix(family, &mut icmp);
    }
    (icmp_type, icmp)
}

/// Makes the checksum of ICMP right again.
pub(crate) fn fix(family: Family, icmp: &mut [u8]) {
    if family == Family::V4 {
        icmp[2..4].fill(0);
        let sum = !add_up(icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A segment in answer to a SYN, that acknowledges so much of it.
pub(crate) fn segment(packet: &Packet, flags: &str, acknowledges: u32) -> Vec<u8> {
    let (syn, _) = TcpHeader::from_slice(packet.transport()).unwrap();
    let mut header = TcpHeader::new(syn.destination_port, syn.source_port, 77, 1_000);
    header.acknowledgment_number = syn.sequence_number.wrapping_add(acknowledges);
    header.syn = flags.contains('S');
    header.rst = flags.contains('R');
    header.ack = flags.contains('A');
    header.fin = flags.contains('F');
    header.to_bytes().to_vec()
}
