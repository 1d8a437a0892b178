//! Messages: vectors, every length straddled, inverses, and a second opinion.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, PacketBuilder};
use proptest::prelude::*;
use semfio_probe::{
    BadExtension, Echo, Extension, Family, HEADER, IcmpError, Label, Malformed, Message, Object,
    Quoted,
};

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const V4: [[u8; 4]; 2] = [[192, 0, 2, 1], [198, 51, 100, 7]];

/// A datagram as a router would quote it: a request for an echo with this payload.
fn datagram(family: Family, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [a, b] = [Ipv6Addr::LOCALHOST.octets(), [0xfd; 16]];
    match family {
        Family::V4 => PacketBuilder::ipv4(V4[0], V4[1], 3)
            .icmpv4_echo_request(7, 9)
            .write(&mut bytes, payload)
            .unwrap(),
        Family::V6 => PacketBuilder::ipv6(a, b, 3)
            .icmpv6_echo_request(7, 9)
            .write(&mut bytes, payload)
            .unwrap(),
    }
    bytes
}

fn header(family: Family) -> usize {
    if family == Family::V4 { 20 } else { 40 }
}

/// The type of "time exceeded".
fn exceeded(family: Family) -> u8 {
    if family == Family::V4 { 11 } else { 3 }
}

/// Mends the checksum of a message that was changed.
fn sealed(family: Family, mut message: Vec<u8>) -> Vec<u8> {
    if family == Family::V4 {
        message[2..4].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message);
        message[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    }
    message
}

/// An error as bytes: `length` as told, after the quote whatever follows.
fn error(family: Family, icmp_type: u8, length: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
    message[if family == Family::V4 { 5 } else { 4 }] = length;
    message.extend_from_slice(rest);
    sealed(family, message)
}

fn as_error<'a>(family: Family, message: &'a [u8]) -> IcmpError<'a> {
    match Message::parse(family, message) {
        Ok(Message::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Two labels, as RFC 4950 has them.
const STACK: [u8; 16] = [0x20, 0, 0, 0, 0, 12, 1, 1, 0x00, 0x01, 0x02, 0xfe, 0x3e, 0x80, 0x3b, 1];

fn with_checksum(mut extension: Vec<u8>) -> Vec<u8> {
    extension[2..4].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&extension);
    extension[2..4].copy_from_slice(&sum.to_ones_complement_with_no_zero().to_ne_bytes());
    extension
}

#[test]
fn a_request_is_on_the_wire_what_the_rfc_says() {
    let echo = Echo { ident: 0x1234, sequence: 0x0102, payload: b"abc" };
    let mut v4 = Vec::new();
    echo.put_request(Family::V4, &mut v4);
    // 0x0800 + 0x1234 + 0x0102 + 0x6162 + 0x6300 = 0xdf98
    assert_eq!(v4, b"\x08\0\x20\x67\x12\x34\x01\x02abc");
    let mut v6 = Vec::new();
    echo.put_reply(Family::V6, &mut v6);
    assert_eq!(v6, b"\x81\0\0\0\x12\x34\x01\x02abc");
}

#[test]
fn every_length_of_a_message_is_judged() {
    for family in BOTH {
        let mut whole = Vec::new();
        Echo { ident: 1, sequence: 2, payload: b"12345" }.put_request(family, &mut whole);
        for length in 0..whole.len() {
            let message = Message::parse(family, &whole[..length]);
            match (length < HEADER, family) {
                (true, _) => assert_eq!(message, Err(Malformed::Truncated { length })),
                (false, Family::V4) => assert_eq!(message, Err(Malformed::Checksum), "{length}"),
                (false, Family::V6) => assert!(message.is_ok(), "the system has judged it"),
            }
        }
    }
}

#[test]
fn each_changed_bit_is_noticed_by_the_checksum() {
    let mut whole = Vec::new();
    Echo { ident: 1, sequence: 2, payload: b"12345" }.put_request(Family::V4, &mut whole);
    for bit in 0..whole.len() * 8 {
        whole[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Message::parse(Family::V4, &whole), Err(Malformed::Checksum), "{bit}");
        whole[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_quote_is_read_as_far_as_it_goes() {
    for family in BOTH {
        let whole = datagram(family, b"0123456789");
        for length in 0..=whole.len() {
            let bytes = error(family, exceeded(family), 0, &whole[..length]);
            let error = as_error(family, &bytes);
            assert_eq!((error.original, error.extension), (&whole[..length], None));
            let quoted = error.quoted();
            assert_eq!(quoted.is_some(), length >= header(family), "{length}");
            let Some(quoted) = quoted else { continue };
            assert_eq!(quoted.hop_limit, 3);
            assert_eq!(quoted.transport, &whole[header(family)..length]);
            let echo = quoted.echo();
            assert_eq!(echo.is_some(), length >= header(family) + HEADER, "{length}");
            if let Some(echo) = echo {
                let payload = &whole[header(family) + HEADER..length];
                assert_eq!(echo, Echo { ident: 7, sequence: 9, payload });
            }
            assert_eq!(quoted.ports(), None);
        }
    }
}

#[test]
fn length_fields_in_a_quote_may_lie() {
    for family in BOTH {
        let mut whole = datagram(family, b"0123456789");
        let at = if family == Family::V4 { 2 } else { 4 };
        for told in [0_u16, 1, 19, 20, 21, 27, 28, 39, 0xffff] {
            whole[at..at + 2].copy_from_slice(&told.to_be_bytes());
            let quoted = Quoted::parse(&whole).expect("the header is whole");
            assert!(quoted.transport.len() <= whole.len() - header(family));
            assert_eq!(quoted.hop_limit, 3);
        }
    }
}

#[test]
fn a_later_fragment_has_no_transport_header() {
    let mut v4 = datagram(Family::V4, b"0123456789");
    v4[7] = 1;
    assert_eq!(Quoted::parse(&v4).unwrap().transport, b"");
    v4[6..8].copy_from_slice(&[0x20, 0]); // the first one of several
    assert!(Quoted::parse(&v4).unwrap().echo().is_some());

    let v6 = datagram(Family::V6, b"0123456789");
    for (offset, has) in [([0, 1], true), ([0, 8], false), ([0, 9], false)] {
        let mut fragment = v6[..40].to_vec();
        fragment[6] = 44;
        fragment[5] += 8;
        fragment.extend_from_slice(&[58, 0, offset[0], offset[1], 0, 0, 0, 1]);
        fragment.extend_from_slice(&v6[40..]);
        assert_eq!(Quoted::parse(&fragment).unwrap().echo().is_some(), has, "{offset:?}");
    }
}

#[test]
fn extension_headers_are_passed_and_a_chain_may_break_anywhere() {
    let whole = datagram(Family::V6, b"0123456789");
    // Hop by hop, destination options, routing, fragment, authentication, and options again.
    let chain: [(u8, &[u8]); 6] = [
        (0, &[60, 0, 1, 2, 3, 4, 5, 6]),
        (60, &[43, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (43, &[44, 0, 0, 0, 0, 0, 0, 0]),
        (44, &[51, 0, 0, 1, 0, 0, 0, 1]),
        (51, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // Where it must not be; it is passed all the same.
        (0, &[58, 0, 1, 2, 3, 4, 5, 6]),
    ];
    let mut bytes = whole[..40].to_vec();
    let mut ends = Vec::new();
    bytes[6] = chain[0].0;
    for (protocol, header) in chain {
        bytes.extend_from_slice(header);
        ends.push((bytes.len(), protocol));
    }
    let all = bytes.len();
    bytes.extend_from_slice(&whole[40..]);
    let told = u16::try_from(bytes.len() - 40).unwrap();
    bytes[4..6].copy_from_slice(&told.to_be_bytes());
    for length in 40..=bytes.len() {
        let quoted = Quoted::parse(&bytes[..length]).unwrap();
        let broken = ends.iter().find(|(end, _)| *end > length);
        assert_eq!(quoted.protocol, broken.map_or(58, |&(_, protocol)| protocol), "{length}");
        assert_eq!(quoted.transport, bytes.get(all..length).unwrap_or_default());
        assert_eq!(quoted.echo().is_some(), length >= all + HEADER);
    }
}

#[test]
fn what_a_quote_says_of_the_wire() {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(V4[0], V4[1], 1).udp(33_434, 53).write(&mut bytes, b"x").unwrap();
    bytes[1] = 0b1011_1001;
    bytes[4..6].copy_from_slice(&[0xab, 0xcd]);
    let quoted = Quoted::parse(&bytes[..24]).unwrap();
    assert_eq!(quoted.source, Ipv4Addr::from(V4[0]));
    assert_eq!(quoted.destination, Ipv4Addr::from(V4[1]));
    assert_eq!((quoted.traffic_class, quoted.label), (0b1011_1001, 0xabcd));
    assert_eq!((quoted.protocol, quoted.ports(), quoted.echo()), (17, Some((33_434, 53)), None));
    assert_eq!(Quoted::parse(&bytes[..23]).unwrap().ports(), None);
}

#[test]
fn mtu_and_pointer_are_told() {
    let quote = datagram(Family::V4, b"");
    let v4 = |icmp_type, icmp_code, fields: [u8; 4]| {
        let mut bytes = vec![icmp_type, icmp_code, 0, 0];
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&quote);
        as_error(Family::V4, &sealed(Family::V4, bytes)).info
    };
    assert_eq!(v4(3, 4, [0, 0, 5, 120]), 1400);
    assert_eq!(v4(3, 1, [0, 0, 5, 120]), 0);
    assert_eq!(v4(12, 0, [20, 0, 0, 0]), 20);
    let v6 = [&[2, 0, 0, 0, 0, 0, 5, 120], &*datagram(Family::V6, b"")].concat();
    assert_eq!(as_error(Family::V6, &v6).info, 1400);
}

#[test]
fn labels_are_read_behind_a_quote_of_any_told_length() {
    let expected = [
        Label { label: 0x10, traffic_class: 1, bottom: false, ttl: 0xfe },
        Label { label: 0x3e803, traffic_class: 5, bottom: true, ttl: 1 },
    ];
    for family in BOTH {
        let unit = if family == Family::V4 { 4 } else { 8 };
        for quote in [unit, 120, 128, 136, 1_016] {
            let mut rest = datagram(family, b"0123456789");
            rest.resize(quote, 0);
            rest.extend_from_slice(&with_checksum(STACK.to_vec()));
            let length = u8::try_from(quote / unit).unwrap();
            let bytes = error(family, exceeded(family), length, &rest);
            let error = as_error(family, &bytes);
            assert_eq!(error.original.len(), quote);
            let extension = error.extension.unwrap().unwrap();
            assert!(extension.labels().eq(expected), "{:?}", extension);
        }
    }
}

#[test]
fn what_lies_about_its_length_is_refused_and_the_quote_kept() {
    for family in BOTH {
        let unit = if family == Family::V4 { 4 } else { 8 };
        let mut quote = datagram(family, b"0123456789");
        quote.resize(128, 0);
        let told = |length: u8, extension: &[u8]| {
            let rest = [&*quote, extension].concat();
            let bytes = error(family, exceeded(family), length, &rest);
            let error = as_error(family, &bytes);
            assert!(error.quoted().is_some_and(|quoted| quoted.echo().is_some()));
            error.extension.map(|extension| extension.map(|found| found.objects().count()))
        };
        let whole = u8::try_from(128 / unit).unwrap();
        let good = with_checksum(STACK.to_vec());
        assert_eq!(told(whole, &good), Some(Ok(1)));
        assert_eq!(told(whole, &STACK), Some(Ok(1)), "zero: no checksum");
        assert_eq!(told(whole, &[]), None);
        let longer = Some(Err(BadExtension::Quote { length: 255 * unit }));
        assert_eq!(told(255, &good), longer);
        for cut in 1..4 {
            assert_eq!(told(whole, &good[..cut]), Some(Err(BadExtension::Truncated)));
        }
        for cut in 5..good.len() {
            assert!(told(whole, &good[..cut]).unwrap().is_err(), "{cut}");
            assert!(told(whole, &STACK[..cut]).unwrap().is_err(), "{cut}");
        }
        let mut changed = good.clone();
        changed[9] ^= 1;
        assert_eq!(told(whole, &changed), Some(Err(BadExtension::Checksum)));
        changed[0] = 0x10;
        assert_eq!(told(whole, &changed), Some(Err(BadExtension::Version(1))));
        // The length of the object: itself and two labels are 12.
        for length in 0..=20_u8 {
            let mut lying = STACK.to_vec();
            lying[5] = length;
            let verdict = told(whole, &with_checksum(lying)).unwrap();
            // 4 and 8 leave words behind that are read as objects, which they are not.
            assert_eq!(verdict.is_ok(), length == 12, "{length}");
        }
        // Older routers do not tell the length: only a checksum speaks for them.
        assert_eq!(told(0, &good), Some(Ok(1)));
        assert_eq!(told(0, &STACK), None);
        assert_eq!(told(0, &changed), None);
    }
}

#[test]
fn too_big_has_no_extension_however_it_looks() {
    let mut rest = datagram(Family::V6, b"");
    rest.resize(128, 0);
    rest.extend_from_slice(&with_checksum(STACK.to_vec()));
    let bytes = [&[2, 0, 0, 0, 0, 0, 5, 0], &*rest].concat();
    let error = as_error(Family::V6, &bytes);
    assert_eq!((error.original, error.extension), (&*rest, None));
}

#[test]
fn an_object_is_of_whole_words() {
    for length in 0..=12_u8 {
        let mut object = vec![0, length, 9, 9];
        object.resize(usize::from(length).max(4), 0);
        let is_one = Extension::of(&object).is_ok();
        assert_eq!(is_one, [4, 8, 12].contains(&length), "{length}");
    }
}

#[test]
fn an_object_too_large_to_be_told_is_cut() {
    let payload = vec![7; 65_540];
    for (length, told) in [(65_525, 65_528), (65_528, 65_528), (65_529, 65_528), (65_540, 65_528)] {
        let mut bytes = Vec::new();
        Object { class: 9, c_type: 9, payload: &payload[..length] }.put(&mut bytes);
        let extension = Extension::of(&bytes).unwrap();
        assert_eq!(extension.objects().map(|object| object.payload.len()).sum::<usize>(), told);
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #[test]
    fn an_echo_is_read_as_it_was_put(
        family in family(), ident: u16, sequence: u16, payload: Vec<u8>, reply: bool,
    ) {
        let echo = Echo { ident, sequence, payload: &payload };
        let mut bytes = Vec::new();
        let expected = if reply {
            echo.put_reply(family, &mut bytes);
            Message::EchoReply(echo)
        } else {
            echo.put_request(family, &mut bytes);
            Message::EchoRequest(echo)
        };
        prop_assert_eq!(Message::parse(family, &bytes), Ok(expected));
    }

    #[test]
    fn an_error_is_read_as_it_was_put(
        family in family(),
        icmp_code in 0_u8..16,
        kind in 0_usize..3,
        payload in proptest::collection::vec(any::<u8>(), 0..400),
        objects in proptest::collection::vec(
            (any::<u8>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..4),
        extended: bool,
        cut in 0_usize..500,
    ) {
        let mut quote = datagram(family, &payload);
        quote.truncate(cut);
        let icmp_type = match family {
            Family::V4 => [3, 11, 12][kind],
            Family::V6 => [1, 2, 3][kind],
        };
        let mut held = Vec::new();
        for (class, c_type, payload) in &objects {
            Object { class: *class, c_type: *c_type, payload }.put(&mut held);
        }
        let extension = extended.then(|| Extension::of(&held).unwrap());
        let told = IcmpError {
            icmp_type, icmp_code, info: 0, original: &quote, extension: extension.map(Ok),
        };
        let mut bytes = Vec::new();
        told.put(family, &mut bytes);
        let read = as_error(family, &bytes);
        prop_assert!(read.original.starts_with(&quote));
        prop_assert!(read.original[quote.len()..].iter().all(|&byte| byte == 0), "padding");
        if family == Family::V6 && icmp_type == 2 {
            prop_assert_eq!(read.extension, None);
        } else {
            prop_assert_eq!(read.extension, extension.map(Ok));
        }
        // What was read is put as the same bytes.
        let mut again = Vec::new();
        read.put(family, &mut again);
        prop_assert_eq!(again, bytes);
    }

    /// The same as etherparse, where both have an opinion.
    #[test]
    fn others_read_the_same(
        family in family(),
        icmp_type in prop_oneof![any::<u8>(), Just(0), Just(8), Just(128), Just(129), Just(3)],
        icmp_code in prop_oneof![any::<u8>(), Just(0)],
        rest in proptest::collection::vec(any::<u8>(), 4..40),
    ) {
        let mut bytes = vec![icmp_type, icmp_code, 0, 0];
        bytes.extend_from_slice(&rest);
        let bytes = sealed(family, bytes);
        let ours = Message::parse(family, &bytes).unwrap();
        let theirs = match family {
            Family::V4 => {
                // The lengths of timestamps are judged there.
                let Ok(theirs) = Icmpv4Slice::from_slice(&bytes) else { return Ok(()) };
                match theirs.icmp_type() {
                    Icmpv4Type::EchoRequest(echo) => Some((true, echo)),
                    Icmpv4Type::EchoReply(echo) => Some((false, echo)),
                    _ => None,
                }
            }
            Family::V6 => match Icmpv6Slice::from_slice(&bytes).unwrap().icmp_type() {
                Icmpv6Type::EchoRequest(echo) => Some((true, echo)),
                Icmpv6Type::EchoReply(echo) => Some((false, echo)),
                _ => None,
            },
        };
        let ours = match ours {
            Message::EchoRequest(echo) => Some((true, echo)),
            Message::EchoReply(echo) => Some((false, echo)),
            _ => None,
        };
        prop_assert_eq!(
            ours.map(|(request, echo)| (request, echo.ident, echo.sequence)),
            theirs.map(|(request, echo)| (request, echo.id, echo.seq)),
        );
    }

    #[test]
    fn any_bytes_are_read_without_harm(family in family(), bytes: Vec<u8>) {
        let bytes = if bytes.len() >= 4 { sealed(family, bytes) } else { bytes };
        if let Ok(Message::Error(error)) = Message::parse(family, &bytes) {
            let _ = error.quoted().map(|quoted| (quoted.echo(), quoted.ports()));
        }
    }
}
