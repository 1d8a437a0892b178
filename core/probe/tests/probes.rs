//! Probes of a traceroute by hand: packets as routers see them, and what they say of them.

mod quotes;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use semfio_machine::{
    Carrier, Clock, Instant, Interval, Now, QuotedError, Received, Refused, Seed, Stamp, Transmit,
    UnixTime,
};
use semfio_probe::{
    Answer, AnswerKind, BadExtension, Echo, Family, Label, Message, Method, ProbeCounts, Probes,
    ProbesConfig, Reached, Rewritten, SMALLEST, Sockets,
};

use quotes::{
    OUR_PORT, Packet, destination, error, ours, router, segment, time_exceeded, with_labels,
};

fn us(us: u64) -> Now {
    Now { mono: Instant::from_nanos(us * 1_000), unix: UnixTime::from_nanos(0) }
}

fn stamp(now: Now, clock: Clock) -> Stamp {
    Stamp { at: now.mono, clock }
}

fn received(source: SocketAddr, carrier: Carrier, now: Now) -> Received {
    Received {
        source,
        destination: None,
        hop_limit: Some(61),
        traffic_class: Some(0),
        carrier,
        stamp: stamp(now, Clock::Kernel),
        error: None,
    }
}

fn config(method: Method, sockets: Sockets, family: Family) -> ProbesConfig {
    ProbesConfig {
        method,
        sockets,
        destination: SocketAddr::new(destination(family), 0),
        source: Some(ours(family)),
        traffic_class: 0,
    }
}

/// All that can be.
fn kinds() -> impl Iterator<Item = (Method, Sockets, Family)> {
    let methods = [
        (Method::Icmp, Sockets::Datagram),
        (Method::Icmp, Sockets::Raw),
        (Method::Udp, Sockets::Datagram),
        (Method::Udp, Sockets::Raw),
        (Method::Tcp, Sockets::Raw),
    ];
    methods.into_iter().flat_map(|(method, sockets)| {
        [Family::V4, Family::V6].map(|family| (method, sockets, family))
    })
}

struct Table {
    probes: Probes,
    now: Now,
}

impl Table {
    fn new(config: ProbesConfig) -> Self {
        Self { probes: Probes::new(&Seed::from_u64(3), config).unwrap(), now: us(10) }
    }

    fn send(&mut self, hop_limit: u8, flow: u16, size: u16) -> Packet {
        let mut bytes = Vec::new();
        let transmit = self.probes.put(self.now, hop_limit, flow, size, &mut bytes).unwrap();
        assert_eq!((transmit.size, transmit.hop_limit), (bytes.len(), Some(hop_limit)));
        self.probes.handle_sent(self.now, transmit.id, stamp(self.now, Clock::User));
        Packet::of(&self.probes, &transmit, &bytes)
    }

    /// An error about a packet as its router saw it, by the way that these sockets have for it.
    fn hear(&mut self, from: IpAddr, icmp: &[u8], icmp_type: u8, code: u8) -> Option<Told> {
        let config = *self.probes.config();
        if config.sockets == Sockets::Raw {
            let meta = received(SocketAddr::new(from, 0), Carrier::RawIcmp, self.now);
            return self.take(&meta, icmp);
        }
        let (carrier, before) = match config.method {
            Method::Icmp => (Carrier::Icmp, 0),
            _ => (Carrier::Udp, 8),
        };
        let header = if from.is_ipv4() { 20 } else { 40 };
        let quote = icmp.get(8..).unwrap_or_default();
        // The system looks at the ports before it lets a socket know.
        let transport = quote.get(header..).filter(|transport| transport.len() >= 8)?;
        let port = match config.method {
            Method::Udp => u16::from_be_bytes([transport[2], transport[3]]),
            _ => 0,
        };
        let to = SocketAddr::new(config.destination.ip(), port);
        // Where the message says how long its quote is, the system says where that ends.
        let words =
            if from.is_ipv4() { usize::from(icmp[5]) * 4 } else { usize::from(icmp[4]) * 8 };
        let quoted = QuotedError {
            offender: Some(from),
            icmp_type,
            icmp_code: code,
            info: 0,
            extension: (words > 0).then(|| (words - header - before) as u16),
        };
        let meta = Received { error: Some(quoted), ..received(to, carrier, self.now) };
        self.take(&meta, transport.get(before..).unwrap_or_default())
    }

    fn take(&mut self, meta: &Received, payload: &[u8]) -> Option<Told> {
        self.probes.handle_datagram(self.now, meta, payload).map(|answer| Told::of(&answer))
    }

    fn exceeded(&mut self, from: IpAddr, packet: &Packet, cut: usize) -> Option<Told> {
        let (icmp_type, icmp) = time_exceeded(&packet.bytes[..cut.min(packet.bytes.len())]);
        self.hear(from, &icmp, icmp_type, 0)
    }

    fn counts(&self) -> ProbeCounts {
        self.probes.counts()
    }
}

/// An answer that borrows nothing.
#[derive(Debug, PartialEq)]
struct Told {
    number: u64,
    hop_limit: u8,
    flow: u16,
    from: IpAddr,
    kind: AnswerKind,
    round_trip: Interval,
    late: bool,
    rewritten: Option<Rewritten>,
    labels: Option<Result<Vec<Label>, BadExtension>>,
}

impl Told {
    fn of(answer: &Answer<'_>) -> Self {
        assert_eq!(answer.hop_limit, Some(61));
        Self {
            number: answer.probe.number,
            hop_limit: answer.probe.hop_limit,
            flow: answer.probe.flow,
            from: answer.from,
            kind: answer.kind,
            round_trip: answer.round_trip,
            late: answer.late,
            rewritten: answer.rewritten,
            labels: answer.extension.map(|it| it.map(|it| it.labels().collect())),
        }
    }
}

#[test]
fn all_probes_of_a_flow_look_the_same_to_a_router_that_shares_out_its_load() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        let mut flows = Vec::new();
        for flow in 0..20 {
            let one = table.send(1, flow, 60).hashed();
            for hop_limit in 2..20 {
                assert_eq!(table.send(hop_limit, flow, 60).hashed(), one, "{method:?} {family:?}");
            }
            // The size is no part of it.
            assert_eq!(table.send(2, flow, 900).hashed(), one, "{method:?} {family:?}");
            flows.push(one);
        }
        flows.sort_unstable();
        flows.dedup();
        assert_eq!(flows.len(), 20, "{method:?} {family:?}");
    }
}

#[test]
fn packets_are_as_long_as_asked_and_their_checksums_right() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        for size in [0, 58, 59, 60, 61, 576, 1_280, 1_500, 9_000] {
            let packet = table.send(3, 2, size);
            assert!(packet.checksum_is_right(), "{method:?} {family:?} {size}");
            if method != Method::Tcp {
                assert_eq!(packet.bytes.len(), usize::from(size.max(SMALLEST)));
            }
        }
    }
}

#[test]
fn a_time_exceeded_names_its_probe_among_many() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        let packets: Vec<_> = (0..90).map(|n| table.send(n / 3 + 1, 7, 60)).collect();
        table.now = us(35);
        for (packet, number) in packets.iter().zip(1_u8..=90).rev() {
            let from = router(family, packet.hop_limit);
            let told = table.exceeded(from, packet, usize::MAX).unwrap();
            assert_eq!((told.number, told.flow, told.from), (number.into(), 7, from));
            assert_eq!(told.hop_limit, packet.hop_limit);
            assert_eq!((told.kind, told.late), (AnswerKind::TimeExceeded, false));
            assert_eq!(told.round_trip.length, Duration::from_micros(25));
            // Nothing was rewritten; by an error queue it is not known.
            assert_eq!(told.rewritten.is_some(), sockets == Sockets::Raw);
            assert_eq!(told.rewritten.unwrap_or_default(), Rewritten::default());
        }
        assert_eq!(table.counts(), ProbeCounts::default());
        assert_eq!(table.probes.waits_for(), 0);
    }
}

#[test]
fn a_quote_may_be_cut_anywhere() {
    for (method, sockets, family) in kinds() {
        let header = if family == Family::V4 { 20 } else { 40 };
        for several in [false, true] {
            for cut in 0..=header + 30 {
                let mut table = Table::new(config(method, sockets, family));
                if several {
                    table.send(4, 3, 60);
                }
                let packet = table.send(5, 3, 60);
                if several {
                    table.send(6, 3, 60);
                }
                let told = table.exceeded(router(family, 5), &packet, cut);
                let seen = cut.saturating_sub(header);
                // By the error queue a UDP header and no token is about any probe of the flow.
                let queue = (method, sockets) == (Method::Udp, Sockets::Datagram);
                let named = match queue && several {
                    true => seen > 8,
                    false => seen >= 8,
                };
                let number = if several { 2 } else { 1 };
                let expected = named.then_some((number, 5));
                let found = told.map(|told| (told.number, told.hop_limit));
                assert_eq!(found, expected, "{method:?} {sockets:?} {family:?} {cut} {several}");
                let ambiguous = queue && several && seen == 8;
                assert_eq!(table.counts().ambiguous, u64::from(ambiguous));
            }
        }
    }
}

#[test]
fn without_its_own_port_a_cut_quote_of_udp_counts_for_one_that_waits_alone() {
    for family in [Family::V4, Family::V6] {
        let mut table =
            Table::new(ProbesConfig { source: None, ..config(Method::Udp, Sockets::Raw, family) });
        let header = if family == Family::V4 { 20 } else { 40 };
        let (a, b) = (table.send(1, 0, 60), table.send(2, 0, 60));
        assert_eq!(table.exceeded(router(family, 1), &a, header + 8), None);
        assert_eq!(table.counts().ambiguous, 1);
        assert_eq!(table.exceeded(router(family, 1), &a, header + 16).unwrap().number, 1);
        assert_eq!(table.exceeded(router(family, 2), &b, header + 8).unwrap().number, 2);
        // Again, and nobody waits.
        assert_eq!(table.exceeded(router(family, 2), &b, header + 8), None);
        assert_eq!(table.counts().foreign, 1);
    }
}

#[test]
fn what_has_been_answered_is_counted_and_not_told_again() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        let packet = table.send(4, 1, 60);
        assert!(table.exceeded(router(family, 4), &packet, usize::MAX).is_some());
        for _ in 0..1_000 {
            assert_eq!(table.exceeded(router(family, 4), &packet, usize::MAX), None);
        }
        assert_eq!(table.counts(), ProbeCounts { duplicates: 1_000, ..ProbeCounts::default() });
    }
}

#[test]
fn what_is_not_about_a_probe_is_foreign() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        let packet = table.send(4, 1, 60);
        // Whatever is random in it, one bit is another.
        let header = if family == Family::V4 { 20 } else { 40 };
        let (from, to) = match method {
            Method::Tcp => (header + 4, header + 8),
            _ => (header + 8, header + 16),
        };
        for at in from..to {
            for bit in 0..8 {
                let mut other = packet.clone();
                other.bytes[at] ^= 1 << bit;
                assert_eq!(table.exceeded(router(family, 4), &other, usize::MAX), None);
            }
        }
        assert_eq!(table.counts().foreign, 8 * (to - from) as u64);
        // Of another program with the same numbers.
        let mut others = Probes::new(&Seed::from_u64(4), config(method, sockets, family)).unwrap();
        let mut bytes = Vec::new();
        let transmit = others.put(us(10), 4, 1, 60, &mut bytes).unwrap();
        let theirs = Packet::of(&others, &transmit, &bytes);
        assert_eq!(table.exceeded(router(family, 4), &theirs, usize::MAX), None);
        assert!(table.exceeded(router(family, 4), &packet, usize::MAX).is_some());
    }
}

#[test]
fn a_destination_shows_itself_in_the_way_of_its_method() {
    for family in [Family::V4, Family::V6] {
        let to = destination(family);
        // An echo.
        for sockets in [Sockets::Datagram, Sockets::Raw] {
            let carrier = if sockets == Sockets::Raw { Carrier::RawIcmp } else { Carrier::Icmp };
            let mut table = Table::new(config(Method::Icmp, sockets, family));
            let packet = table.send(9, 0, 60);
            let Ok(Message::EchoRequest(echo)) = Message::parse(family, packet.transport()) else {
                panic!("no request");
            };
            let meta = received(SocketAddr::new(to, 0), carrier, table.now);
            let mut reply = Vec::new();
            let wrong = Echo { sequence: echo.sequence.wrapping_add(1), ..echo };
            wrong.put_reply(family, &mut reply);
            assert_eq!(table.take(&meta, &reply), None);
            for at in 0..8 {
                let mut guessed = echo.payload.to_vec();
                guessed[at] ^= 0x10;
                reply.clear();
                Echo { payload: &guessed, ..echo }.put_reply(family, &mut reply);
                assert_eq!(table.take(&meta, &reply), None);
            }
            reply.clear();
            Echo { ident: echo.ident ^ 1, ..echo }.put_reply(family, &mut reply);
            assert_eq!(table.take(&meta, &reply).is_some(), sockets == Sockets::Datagram);
            reply.clear();
            let packet = table.send(9, 0, 60);
            let Ok(Message::EchoRequest(echo)) = Message::parse(family, packet.transport()) else {
                panic!("no request");
            };
            echo.put_reply(family, &mut reply);
            let told = table.take(&meta, &reply).unwrap();
            assert_eq!((told.number, told.kind), (2, AnswerKind::Reached(Reached::Echo)));
        }
        // A port that nobody has; for other methods the same error is none of reaching.
        for (method, sockets, _) in kinds().filter(|(_, _, of)| *of == family) {
            let mut table = Table::new(config(method, sockets, family));
            let packet = table.send(9, 0, 60);
            let (icmp_type, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
            let icmp = error(family, icmp_type, code, 0, &packet.bytes);
            let told = table.hear(to, &icmp, icmp_type, code).unwrap();
            let reached = AnswerKind::Reached(Reached::PortUnreachable);
            let expected = match method {
                Method::Udp => reached,
                _ => AnswerKind::Unreachable { code },
            };
            assert_eq!((told.from, told.kind), (to, expected));
        }
        // A server on UDP: by the token it sends back, or since one alone was asked.
        let mut table = Table::new(config(Method::Udp, Sockets::Datagram, family));
        let (a, b) = (table.send(9, 0, 60), table.send(10, 0, 60));
        let meta = received(SocketAddr::new(to, 33_434), Carrier::Udp, table.now);
        assert_eq!(table.take(&meta, b"hello"), None);
        assert_eq!(table.counts().ambiguous, 1);
        let told = table.take(&meta, &a.transport()[8..]).unwrap();
        assert_eq!((told.number, told.kind), (1, AnswerKind::Reached(Reached::Datagram)));
        for wrong in [SocketAddr::new(to, 33_435), SocketAddr::new(router(family, 1), 33_434)] {
            let meta = received(wrong, Carrier::Udp, table.now);
            assert_eq!(table.take(&meta, &b.transport()[8..]), None);
        }
        assert_eq!(table.take(&meta, b"hello").unwrap().number, 2);
    }
}

#[test]
fn a_segment_answers_a_syn_if_it_acknowledges_it() {
    for family in [Family::V4, Family::V6] {
        let mut table = Table::new(config(Method::Tcp, Sockets::Raw, family));
        let to = destination(family);
        let meta = received(SocketAddr::new(to, 0), Carrier::RawTcp, us(10));
        let other = received(SocketAddr::new(router(family, 3), 0), Carrier::RawTcp, us(10));
        for (flags, how) in [("SA", Some(Reached::SynAck)), ("RA", Some(Reached::Reset))]
            .into_iter()
            .chain(["A", "R", "S", "", "F"].map(|flags| (flags, None)))
        {
            let packet = table.send(9, 5, 60);
            assert_eq!(packet.ports(), (OUR_PORT + 5, 80));
            // What is cut, from somebody else, or acknowledges something else.
            let right = segment(&packet, flags, 1);
            for cut in 0..20 {
                assert_eq!(table.take(&meta, &right[..cut]), None);
            }
            assert_eq!(table.take(&other, &right), None);
            assert_eq!(table.take(&meta, &segment(&packet, flags, 0)), None);
            assert_eq!(table.take(&meta, &segment(&packet, flags, 0x1_0001)), None);
            let mut ports = right.clone();
            ports[1] ^= 1;
            assert_eq!(table.take(&meta, &ports), None);
            let told = table.take(&meta, &right);
            assert_eq!(told.map(|told| told.kind), how.map(AnswerKind::Reached), "{flags}");
        }
    }
}

#[test]
fn every_field_that_was_rewritten_is_told() {
    for family in [Family::V4, Family::V6] {
        for method in [Method::Icmp, Method::Udp, Method::Tcp] {
            let mut table = Table::new(config(method, Sockets::Raw, family));
            let rewritten = |table: &mut Table, change: &dyn Fn(&mut Packet)| {
                let mut packet = table.send(4, 1, 60);
                change(&mut packet);
                let told = table.exceeded(router(family, 4), &packet, usize::MAX);
                told.unwrap_or_else(|| panic!("{method:?} {family:?}")).rewritten.unwrap()
            };
            let none = Rewritten::default();
            assert_eq!(rewritten(&mut table, &|_| {}), none);
            for hops in [0, 2, 200] {
                let told = rewritten(&mut table, &|packet| packet.set_hop_limit(hops));
                assert_eq!(told, Rewritten { hop_limit: Some(hops), ..none });
            }
            let told = rewritten(&mut table, &|packet| packet.set_traffic_class(0xb9));
            assert_eq!(told, Rewritten { traffic_class: Some(0xb9), ..none });
            let inside = router(family, 99);
            let told = rewritten(&mut table, &|packet| packet.set_source(inside));
            assert_eq!(told, Rewritten { source: Some(inside), ..none });
            let told = rewritten(&mut table, &|packet| packet.set_destination(inside));
            assert_eq!(told, Rewritten { destination: Some(inside), ..none });
            let told = rewritten(&mut table, &|packet| packet.set_length(999));
            assert_eq!(told, Rewritten { length: Some(999), ..none });
            if method == Method::Icmp {
                let told = rewritten(&mut table, &|packet| packet.transport_mut()[4] ^= 1);
                assert!(told.source_port.is_some());
                continue;
            }
            let told = rewritten(&mut table, &|packet| packet.set_ports(7, packet.ports().1));
            assert_eq!(told, Rewritten { source_port: Some(7), ..none });
            let told = rewritten(&mut table, &|packet| packet.set_ports(packet.ports().0, 7));
            assert_eq!(told, Rewritten { destination_port: Some(7), ..none });
            let at = if method == Method::Udp { 6 } else { 16 };
            let told = rewritten(&mut table, &|packet| packet.transport_mut()[at] ^= 1);
            assert_eq!(Rewritten { checksum: None, ..told }, none);
            assert!(told.checksum.is_some());
            if method == Method::Udp {
                // A system that leaves the sum to its device quotes what it left.
                assert_eq!(rewritten(&mut table, &Packet::leave_checksum), none);
            }
        }
    }
}

#[test]
fn labels_are_read_from_messages_and_from_error_queues() {
    let stack = [Label { label: 24_001, traffic_class: 5, bottom: true, ttl: 1 }];
    for (method, sockets, family) in kinds() {
        for compliant in [true, false] {
            let mut table = Table::new(config(method, sockets, family));
            let packet = table.send(4, 1, 60);
            let (icmp_type, icmp) = with_labels(family, &packet.bytes, &stack, compliant);
            let told = table.hear(router(family, 4), &icmp, icmp_type, 0).unwrap();
            assert_eq!(told.labels, Some(Ok(stack.to_vec())), "{method:?} {sockets:?} {family:?}");
            // A wrong sum is not believed.
            let packet = table.send(4, 1, 60);
            let (icmp_type, mut icmp) = with_labels(family, &packet.bytes, &stack, compliant);
            *icmp.last_mut().unwrap() ^= 1;
            quotes::fix(family, &mut icmp);
            let told = table.hear(router(family, 4), &icmp, icmp_type, 0).unwrap();
            let lies = compliant.then_some(Err(BadExtension::Checksum));
            assert_eq!(told.labels, lies);
        }
    }
}

#[test]
fn stamps_that_cannot_be_are_replaced_by_the_process_s_own() {
    let mut table = Table::new(config(Method::Udp, Sockets::Datagram, Family::V4));
    for wrong in [us(1), us(101)] {
        table.now = us(10);
        let packet = table.send(4, 1, 60);
        table.now = us(100);
        let to = SocketAddr::new(destination(Family::V4), 33_435);
        let error = QuotedError { icmp_type: 11, ..QuotedError::default() };
        let mut meta = Received { error: Some(error), ..received(to, Carrier::Udp, wrong) };
        meta.stamp = stamp(wrong, Clock::Kernel);
        let told = table.take(&meta, &packet.transport()[8..]).unwrap();
        let length = Duration::from_micros(90);
        assert_eq!(told.round_trip, Interval { length, from: Clock::User, to: Clock::User });
        assert_eq!(told.from, IpAddr::from([0; 4]));
    }
    assert_eq!(table.counts().refused_stamps, 2);
    // A departure: before it was fetched, in the future, and then by a better clock.
    table.now = us(200);
    let mut bytes = Vec::new();
    let transmit = table.probes.put(us(200), 1, 0, 60, &mut bytes).unwrap();
    for (at, clock) in [(199, Clock::User), (231, Clock::User), (205, Clock::User)] {
        table.probes.handle_sent(us(230), transmit.id, stamp(us(at), clock));
    }
    assert_eq!(table.counts().refused_stamps, 4);
    assert_eq!(table.probes.departure(3), Some(us(205).mono));
    table.probes.handle_sent(us(230), transmit.id, stamp(us(207), Clock::Kernel));
    table.probes.handle_sent(us(230), transmit.id, stamp(us(209), Clock::User));
    assert_eq!(table.probes.departure(3), Some(us(207).mono));
}

#[test]
fn what_was_given_up_is_answered_late_and_what_did_not_leave_not_at_all() {
    for (method, sockets, family) in kinds() {
        let mut table = Table::new(config(method, sockets, family));
        let (a, b) = (table.send(4, 1, 60), table.send(5, 1, 60));
        assert_eq!(table.probes.give_up(1).map(|probe| probe.hop_limit), Some(4));
        assert_eq!(table.probes.give_up(1), None);
        let id = semfio_machine::TransmitId(2);
        assert_eq!(table.probes.handle_send_error(id).map(|probe| probe.hop_limit), Some(5));
        assert_eq!(table.probes.handle_send_error(id), None);
        assert_eq!(table.probes.waits_for(), 0);
        let told = table.exceeded(router(family, 4), &a, usize::MAX).unwrap();
        assert!(told.late);
        assert_eq!(table.exceeded(router(family, 5), &b, usize::MAX), None);
        assert_eq!(table.counts(), ProbeCounts { foreign: 1, ..ProbeCounts::default() });
    }
}

#[test]
fn numbers_go_on_beyond_the_sequences_and_sums() {
    let family = Family::V4;
    for (method, sockets, _) in kinds().filter(|(_, _, of)| *of == family) {
        let mut table = Table::new(config(method, sockets, family));
        let mut first = None;
        // Sums and sequences fall apart in their second lap.
        let last = if (method, sockets) == (Method::Udp, Sockets::Raw) { 131_080 } else { 65_540 };
        for number in 1..=last {
            let packet = table.send(1, 0, 60);
            // It is not told by being the only one.
            let other = number % 2 == 0;
            if other {
                continue;
            }
            if (65_530..=65_540).contains(&number) || (131_060..131_080).contains(&number) {
                let raw = sockets == Sockets::Raw;
                let cut = if raw { 20 + 8 } else { usize::MAX };
                let told = table.exceeded(router(family, 1), &packet, cut);
                assert_eq!(told.map(|told| told.number), Some(number), "{method:?} {family:?}");
            }
            table.probes.give_up(number);
            table.probes.give_up(number - 1);
            first.get_or_insert(packet);
        }
        // Forgotten.
        assert_eq!(table.exceeded(router(family, 1), &first.unwrap(), usize::MAX), None);
        assert_eq!(table.probes.probe(1), None);
    }
}

#[test]
fn as_many_wait_as_can_be_told_apart_and_no_more() {
    let mut table = Table::new(config(Method::Udp, Sockets::Datagram, Family::V4));
    let mut bytes = Vec::new();
    let put = |table: &mut Table, flow, bytes: &mut Vec<u8>| -> Result<Transmit, Refused> {
        table.probes.put(us(10), 1, flow, 60, bytes)
    };
    for _ in 0..4_096 {
        assert!(put(&mut table, 0, &mut bytes).is_ok());
    }
    assert_eq!(put(&mut table, 0, &mut bytes), Err(Refused::Full));
    table.probes.give_up(77);
    assert!(matches!(put(&mut table, 32_102, &mut bytes), Err(Refused::Invalid(_))));
    assert!(put(&mut table, 32_101, &mut bytes).is_ok());
}

#[test]
fn an_error_queue_speaks_of_one_destination() {
    for family in [Family::V4, Family::V6] {
        for (method, carrier, before) in
            [(Method::Icmp, Carrier::Icmp, 0), (Method::Udp, Carrier::Udp, 8)]
        {
            let mut table = Table::new(config(method, Sockets::Datagram, family));
            let packet = table.send(4, 0, 60);
            let port = if method == Method::Udp { 33_434 } else { 0 };
            let error = QuotedError { icmp_type: 11, ..QuotedError::default() };
            let wrong = [
                (router(family, 7), port, carrier),
                (destination(family), port + 1, Carrier::Udp),
                (destination(family), port, Carrier::RawTcp),
            ];
            let quote = &packet.transport()[before..];
            for (to, port, carrier) in wrong {
                let meta = received(SocketAddr::new(to, port), carrier, table.now);
                let meta = Received { error: Some(error), ..meta };
                assert_eq!(table.take(&meta, quote), None);
            }
            assert_eq!(table.counts().foreign, 3);
            let meta = received(SocketAddr::new(destination(family), port), carrier, table.now);
            let meta = Received { error: Some(error), ..meta };
            assert!(table.take(&meta, quote).is_some());
        }
    }
}

#[test]
fn what_is_waited_for_is_not_forgotten() {
    let mut table = Table::new(config(Method::Icmp, Sockets::Datagram, Family::V4));
    let mut bytes = Vec::new();
    for number in 1..=32_768 {
        assert!(table.probes.put(us(10), 1, 0, 60, &mut bytes).is_ok());
        if number > 1 {
            table.probes.give_up(number);
        }
        bytes.clear();
    }
    assert_eq!(table.probes.put(us(10), 1, 0, 60, &mut bytes), Err(Refused::Full));
    assert!(table.probes.give_up(1).is_some());
    assert!(table.probes.put(us(10), 1, 0, 60, &mut bytes).is_ok());
}

#[test]
fn what_cannot_be_is_refused() {
    let refused =
        |config| matches!(Probes::new(&Seed::from_u64(1), config), Err(Refused::Invalid(_)));
    let right = config(Method::Tcp, Sockets::Raw, Family::V4);
    assert!(!refused(right));
    assert!(refused(ProbesConfig { sockets: Sockets::Datagram, ..right }));
    assert!(refused(ProbesConfig { source: None, ..right }));
    assert!(refused(ProbesConfig { source: Some("0.0.0.0:0".parse().unwrap()), ..right }));
    assert!(refused(ProbesConfig { source: Some("[::1]:0".parse().unwrap()), ..right }));
}

proptest! {
    /// Whatever comes, on whatever socket, nothing panics, and nothing is an answer that has no name.
    #[test]
    fn wild_bytes_answer_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        which in 0_usize..10,
        carrier in prop_oneof![
            Just(Carrier::Udp), Just(Carrier::Icmp), Just(Carrier::RawIcmp), Just(Carrier::RawTcp)
        ],
        queued in any::<bool>(),
    ) {
        let (method, sockets, family) = kinds().nth(which).unwrap();
        let mut table = Table::new(config(method, sockets, family));
        table.send(1, 0, 60);
        table.send(2, 0, 60);
        let from = SocketAddr::new(destination(family), 33_434);
        let error = QuotedError { icmp_type: 11, ..QuotedError::default() };
        let mut meta = received(from, carrier, table.now);
        meta.error = queued.then_some(error);
        prop_assert_eq!(table.take(&meta, &bytes), None);
    }
}
