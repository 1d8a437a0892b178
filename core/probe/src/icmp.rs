//! ICMP and ICMPv6 messages: echo, and errors with what they quote.
//!
//! | message | ICMP (RFC 792) | ICMPv6 (RFC 4443) | after the first 8 octets |
//! |---|---|---|---|
//! | echo request | 8 | 128 | payload |
//! | echo reply | 0 | 129 | payload |
//! | destination unreachable | 3 | 1 | quoted datagram, extension |
//! | packet too big | 3, code 4 | 2 | quoted datagram |
//! | time exceeded | 11 | 3 | quoted datagram, extension |
//! | parameter problem | 12 | 4 | quoted datagram, extension (ICMP only) |
//!
//! A quote may be cut anywhere, and its length fields may lie: it is read as far as it goes.

use alloc::vec::Vec;
use core::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice,
    icmpv4, icmpv6, ip_number,
};

use crate::extension::{BadExtension, Extension};

/// Octets before the payload or the quote.
pub const HEADER: usize = 8;

/// Octets that a quote must have at least where an extension follows it (RFC 4884, section 4).
pub(crate) const QUOTE_BEFORE_EXTENSION: usize = 128;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// ICMP over IPv4.
    V4,
    /// ICMPv6.
    V6,
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Somebody asks for an echo.
    EchoRequest(Echo<'a>),
    /// An echo.
    EchoReply(Echo<'a>),
    /// A datagram did not arrive.
    Error(IcmpError<'a>),
    /// Anything else.
    Other {
        /// Its type.
        icmp_type: u8,
        /// Its code.
        icmp_code: u8,
    },
}

/// An echo or the request for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Whose it is. A datagram socket of Linux puts its own number here.
    pub ident: u16,
    /// Which it is.
    pub sequence: u16,
    /// What comes back as it was sent.
    pub payload: &'a [u8],
}

/// An error about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<'a> {
    /// Its type, by the numbers of its family.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// The next hop's MTU of a packet that is too big, the place of a parameter problem, else 0.
    pub info: u32,
    /// The datagram, from its IP header on, as far as it is quoted; padding may follow.
    pub original: &'a [u8],
    /// What a router says beside (RFC 4884), or how it contradicts itself.
    pub extension: Option<Result<Extension<'a>, BadExtension>>,
}

/// What the beginning of a quoted datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// Who sent it, as the router saw it.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// Its TTL or hop limit as it was dropped.
    pub hop_limit: u8,
    /// Its TOS or traffic-class octet.
    pub traffic_class: u8,
    /// The identification of IPv4, the flow label of IPv6.
    pub label: u32,
    /// The protocol after all IP headers.
    pub protocol: u8,
    /// From the transport header on; empty for a fragment that is not the first.
    pub transport: &'a [u8],
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than [`HEADER`].
    Truncated {
        /// Octets there are.
        length: usize,
    },
    /// The checksum does not fit.
    Checksum,
}

impl Family {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a message, from its type to its end.
    ///
    /// The checksum of ICMP is verified. That of ICMPv6 covers addresses that a socket does not
    /// hand over; the system has verified it.
    pub fn parse(family: Family, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((&[icmp_type, icmp_code, _, _, a, b, c, d], rest)) = bytes.split_first_chunk()
        else {
            return Err(Malformed::Truncated { length: bytes.len() });
        };
        if family == Family::V4 && checksum(bytes) != 0 {
            return Err(Malformed::Checksum);
        }
        let echo = || Echo {
            ident: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
            payload: rest,
        };
        let kinds = family.kinds();
        Ok(if (icmp_type, icmp_code) == (kinds.request, 0) {
            Self::EchoRequest(echo())
        } else if (icmp_type, icmp_code) == (kinds.reply, 0) {
            Self::EchoReply(echo())
        } else if kinds.errors.contains(&icmp_type) {
            Self::Error(IcmpError::read(family, icmp_type, icmp_code, [a, b, c, d], rest))
        } else {
            Self::Other { icmp_type, icmp_code }
        })
    }
}

impl<'a> Echo<'a> {
    /// Appends the request. The checksum of ICMPv6 is left to the system, which knows the
    /// addresses that it covers.
    pub fn put_request(&self, family: Family, out: &mut Vec<u8>) {
        self.put(family, family.kinds().request, out);
    }

    /// Appends the reply, likewise.
    pub fn put_reply(&self, family: Family, out: &mut Vec<u8>) {
        self.put(family, family.kinds().reply, out);
    }

    fn put(&self, family: Family, icmp_type: u8, out: &mut Vec<u8>) {
        let ([a, b], [c, d]) = (self.ident.to_be_bytes(), self.sequence.to_be_bytes());
        put(family, icmp_type, 0, [a, b, c, d], self.payload, out);
    }

    /// The request in a quote: its transport part, which may be cut after the first 8 octets.
    pub(crate) fn quoted(family: Family, transport: &'a [u8]) -> Option<Self> {
        let (&[icmp_type, _, _, _, a, b, c, d], payload) = transport.split_first_chunk()?;
        (icmp_type == family.kinds().request).then_some(Self {
            ident: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
            payload,
        })
    }
}

impl<'a> IcmpError<'a> {
    fn read(
        family: Family,
        icmp_type: u8,
        icmp_code: u8,
        [a, b, c, d]: [u8; 4],
        rest: &'a [u8],
    ) -> Self {
        let info = match (family, icmp_type, icmp_code) {
            (Family::V4, icmpv4::TYPE_DEST_UNREACH, 4) => u32::from(u16::from_be_bytes([c, d])),
            (Family::V4, icmpv4::TYPE_PARAMETER_PROBLEM, _) => u32::from(a),
            (Family::V6, icmpv6::TYPE_PACKET_TOO_BIG | icmpv6::TYPE_PARAMETER_PROBLEM, _) => {
                u32::from_be_bytes([a, b, c, d])
            }
            _ => 0,
        };
        let length = match unit(family, icmp_type) {
            None => return Self { icmp_type, icmp_code, info, original: rest, extension: None },
            Some(unit) => {
                let words = if family == Family::V4 { b } else { a };
                usize::from(words).saturating_mul(unit)
            }
        };
        let (original, extension) = split(rest, length);
        Self { icmp_type, icmp_code, info, original, extension }
    }

    /// Appends the error; with an extension, the quote is padded to what it must have.
    pub fn put(&self, family: Family, out: &mut Vec<u8>) {
        let mut fields = match (family, self.icmp_type) {
            (Family::V4, icmpv4::TYPE_PARAMETER_PROBLEM) => {
                [u8::try_from(self.info).unwrap_or(u8::MAX), 0, 0, 0]
            }
            _ => self.info.to_be_bytes(),
        };
        let mut rest = self.original.to_vec();
        let extension = self.extension.and_then(Result::ok);
        if let Some((extension, unit)) = extension.zip(unit(family, self.icmp_type)) {
            rest.resize(rest.len().max(QUOTE_BEFORE_EXTENSION).next_multiple_of(unit), 0);
            let words = rest.len().checked_div(unit).and_then(|words| u8::try_from(words).ok());
            let place = if family == Family::V4 { 1 } else { 0 };
            if let Some((field, words)) = fields.get_mut(place).zip(words) {
                *field = words;
                extension.put(&mut rest);
            }
        }
        put(family, self.icmp_type, self.icmp_code, fields, &rest, out);
    }

    /// What the quote says; `None` where not even its IP header is whole.
    pub fn quoted(&self) -> Option<Quoted<'a>> {
        Quoted::parse(self.original)
    }
}

impl<'a> Quoted<'a> {
    /// Reads the beginning of a datagram, from its IP header on, as far as it goes.
    pub fn parse(original: &'a [u8]) -> Option<Self> {
        match original.first()? >> 4 {
            4 => Self::parse_v4(original),
            6 => Self::parse_v6(original),
            _ => None,
        }
    }

    fn parse_v4(original: &'a [u8]) -> Option<Self> {
        let header = Ipv4HeaderSlice::from_slice(original).ok()?;
        let rest = original.get(header.slice().len()..)?;
        let told = usize::from(header.total_len()).checked_sub(header.slice().len());
        let is_first = header.fragments_offset().value() == 0;
        Some(Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            hop_limit: header.ttl(),
            traffic_class: header.dcp().value() << 2 | header.ecn().value(),
            label: header.identification().into(),
            protocol: header.protocol().0,
            transport: if is_first { shortened(rest, told) } else { &[] },
        })
    }

    fn parse_v6(original: &'a [u8]) -> Option<Self> {
        let header = Ipv6HeaderSlice::from_slice(original).ok()?;
        let rest = original.get(header.slice().len()..)?;
        // Zero stands for a jumbogram.
        let told = Some(usize::from(header.payload_length())).filter(|&told| told > 0);
        let (protocol, transport) = after_extensions(header.next_header(), shortened(rest, told));
        Some(Self {
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            hop_limit: header.hop_limit(),
            traffic_class: header.traffic_class(),
            label: header.flow_label().value(),
            protocol: protocol.0,
            transport,
        })
    }

    /// The request for an echo that it was, its payload cut as the quote is.
    pub fn echo(&self) -> Option<Echo<'a>> {
        let family = Family::of(self.destination);
        let protocol = match family {
            Family::V4 => ip_number::ICMP,
            Family::V6 => ip_number::IPV6_ICMP,
        };
        if self.protocol != protocol.0 {
            return None;
        }
        Echo::quoted(family, self.transport)
    }

    /// The ports of UDP or TCP: source and destination.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let (&[a, b, c, d], _) = self.transport.split_first_chunk()?;
        let has_ports = [ip_number::UDP.0, ip_number::TCP.0].contains(&self.protocol);
        has_ports.then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated { length } => write!(f, "{length} octets are no ICMP message"),
            Self::Checksum => f.write_str("the ICMP checksum is wrong"),
        }
    }
}

impl core::error::Error for Malformed {}

/// The numbers of the two protocols.
struct Kinds {
    request: u8,
    reply: u8,
    errors: &'static [u8],
}

impl Family {
    fn kinds(self) -> Kinds {
        match self {
            Self::V4 => Kinds {
                request: icmpv4::TYPE_ECHO_REQUEST,
                reply: icmpv4::TYPE_ECHO_REPLY,
                errors: &[
                    icmpv4::TYPE_DEST_UNREACH,
                    icmpv4::TYPE_TIME_EXCEEDED,
                    icmpv4::TYPE_PARAMETER_PROBLEM,
                ],
            },
            Self::V6 => Kinds {
                request: icmpv6::TYPE_ECHO_REQUEST,
                reply: icmpv6::TYPE_ECHO_REPLY,
                errors: &[
                    icmpv6::TYPE_DST_UNREACH,
                    icmpv6::TYPE_PACKET_TOO_BIG,
                    icmpv6::TYPE_TIME_EXCEEDED,
                    icmpv6::TYPE_PARAMETER_PROBLEM,
                ],
            },
        }
    }
}

/// What follows a header that tells how much that is, unless less is there.
fn shortened(rest: &[u8], told: Option<usize>) -> &[u8] {
    told.and_then(|told| rest.get(..told)).unwrap_or(rest)
}

/// Passes the extension headers of IPv6 (RFC 8200): the protocol after them, and what it holds.
/// Nothing where one of them is cut off, or in a fragment that is not the first.
///
/// By hand: the iterator of etherparse 0.21 reads beyond its slice where a chain is broken off.
fn after_extensions(mut next: IpNumber, mut rest: &[u8]) -> (IpNumber, &[u8]) {
    loop {
        let [after, told, a, b] = rest.first_chunk().copied().unwrap_or_default();
        let (length, is_first) = match next {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                (usize::from(told).saturating_add(1) << 3, true)
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => (8, u16::from_be_bytes([a, b]) >> 3 == 0),
            IpNumber::AUTHENTICATION_HEADER => (usize::from(told).saturating_add(2) << 2, true),
            _ => return (next, rest),
        };
        match rest.get(length..) {
            Some(behind) => (next, rest) = (IpNumber(after), behind),
            None => return (next, &[]),
        }
        if !is_first {
            return (next, &[]);
        }
    }
}

/// In which unit an error tells the length of its quote, if it may have an extension.
fn unit(family: Family, icmp_type: u8) -> Option<usize> {
    match (family, icmp_type) {
        (
            Family::V4,
            icmpv4::TYPE_DEST_UNREACH | icmpv4::TYPE_TIME_EXCEEDED | icmpv4::TYPE_PARAMETER_PROBLEM,
        ) => Some(4),
        (Family::V6, icmpv6::TYPE_DST_UNREACH | icmpv6::TYPE_TIME_EXCEEDED) => Some(8),
        _ => None,
    }
}

/// The quote and the extension after it, given what the message says of the quote's length.
fn split(rest: &[u8], length: usize) -> (&[u8], Option<Result<Extension<'_>, BadExtension>>) {
    if length > 0 {
        return match rest.split_at_checked(length) {
            None => (rest, Some(Err(BadExtension::Quote { length }))),
            // Told, and yet there is none: the length says nothing more.
            Some((original, [])) => (original, None),
            Some((original, extension)) => (original, Some(Extension::parse(extension))),
        };
    }
    match extension_at(rest, 0) {
        Some(found) => (rest.get(..QUOTE_BEFORE_EXTENSION).unwrap_or(rest), Some(Ok(found))),
        None => (rest, None),
    }
}

/// An extension whose place nobody tells; of the quote the first `gone` octets are not there.
///
/// Routers older than RFC 4884 append theirs after 128 octets and do not say so. Only a checksum
/// that fits tells it from a long quote (section 5.5).
pub(crate) fn extension_at(rest: &[u8], gone: usize) -> Option<Extension<'_>> {
    let extension = rest.get(QUOTE_BEFORE_EXTENSION.checked_sub(gone)?..)?;
    Extension::parse(extension).ok().filter(Extension::has_checksum)
}

fn put(
    family: Family,
    type_u8: u8,
    code_u8: u8,
    bytes5to8: [u8; 4],
    rest: &[u8],
    out: &mut Vec<u8>,
) {
    match family {
        Family::V4 => {
            let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
            out.extend_from_slice(&Icmpv4Header::with_checksum(kind, rest).to_bytes());
        }
        Family::V6 => {
            let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
            out.extend_from_slice(&Icmpv6Header::new(kind).to_bytes());
        }
    }
    out.extend_from_slice(rest);
}

/// The checksum of the internet; zero over bytes that hold their own.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(bytes).ones_complement()
}
