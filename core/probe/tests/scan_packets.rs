//! Scans by single packets, against an internet of a few lines.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader};
use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Instant, Now, QuotedError, Received, Seed, Stamp,
    Transmit, UnixTime,
};
use semfio_probe::{
    Family, Found, IcmpError, IcmpReason, PortState, Quit, Reason, ScanConfig, ScanCounts,
    ScanEvent, SynScan, UdpScan,
};

const OURS: u16 = 45_000;

/// Answers to a packet: after so many milliseconds.
type Answers = Vec<(u64, Received, Vec<u8>)>;

fn host(family: Family, last: u8) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([192, 0, 2, last], 0)),
        Family::V6 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()], 0)),
    }
}

fn ms(ms: u64) -> Now {
    Now { mono: Instant::from_nanos(ms * 1_000_000), unix: UnixTime::default() }
}

fn received(source: SocketAddr, carrier: Carrier) -> Received {
    Received {
        source,
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier,
        stamp: Stamp { at: Instant::default(), clock: Clock::Kernel },
        error: None,
    }
}

fn config(ports: impl IntoIterator<Item = u16>) -> ScanConfig {
    ScanConfig { ports: ports.into_iter().collect(), ..ScanConfig::default() }
}

/// Runs a scan in virtual time; the internet says what comes of each packet.
fn run<M>(
    machine: &mut M,
    mut internet: impl FnMut(u64, &Transmit, &[u8]) -> Result<Answers, Failure>,
) -> (BTreeMap<SocketAddr, Found>, u64)
where
    M: for<'i> DatagramMachine<Event<'i> = ScanEvent>,
{
    let (mut now, mut found, mut ended) = (0, BTreeMap::new(), 0);
    let mut coming: BTreeMap<(u64, u64), (Received, Vec<u8>)> = BTreeMap::new();
    let mut number = 0;
    loop {
        let mut buf = Vec::new();
        while let Some(transmit) = machine.poll_transmit(ms(now), &mut buf) {
            assert_eq!(transmit.size, buf.len());
            match internet(now, &transmit, &buf) {
                Err(failure) => machine.handle_send_error(ms(now), transmit.id, failure),
                Ok(answers) => {
                    let stamp = Stamp { at: ms(now).mono, clock: Clock::User };
                    machine.handle_sent(ms(now), transmit.id, stamp);
                    for (after, meta, bytes) in answers {
                        number += 1;
                        coming.insert((now + after, number), (meta, bytes));
                    }
                }
            }
            buf.clear();
        }
        while let Some(event) = machine.poll_event() {
            match event {
                ScanEvent::Found(one) => {
                    assert_eq!(found.insert(one.target, one), None, "two verdicts");
                }
                ScanEvent::Ended => ended += 1,
            }
        }
        if ended > 0 && coming.is_empty() {
            break;
        }
        let due = machine.poll_timeout().map(|due| due.at.as_nanos().div_ceil(1_000_000));
        let next = coming.keys().next().map(|&(at, _)| at).into_iter().chain(due).min();
        now = now.max(next.expect("it waits for nothing"));
        assert!(now < 10_000_000, "it does not end");
        match coming.first_entry().filter(|entry| entry.key().0 <= now) {
            Some(entry) => {
                let (mut meta, mut bytes) = entry.remove();
                meta.stamp.at = ms(now).mono;
                assert!(machine.accepts(&meta, &bytes));
                machine.handle_datagram(ms(now), meta, &mut bytes);
            }
            None => {
                machine.handle_timeout(ms(now));
                assert!(machine.poll_timeout().is_none_or(|due| due.at > ms(now).mono));
            }
        }
    }
    assert_eq!(ended, 1);
    (found, now)
}

/// A segment that a port answers with.
fn segment(from: u16, flags: &str, acknowledges: u32) -> Vec<u8> {
    let mut header = TcpHeader::new(from, OURS, 99, 1_000);
    header.syn = flags.contains('S');
    header.rst = flags.contains('R');
    header.ack = flags.contains('A');
    header.acknowledgment_number = acknowledges;
    header.to_bytes().to_vec()
}

/// The packet as somebody on the way quotes it, in a message.
fn quoted(source: IpAddr, transmit: &Transmit, bytes: &[u8], kind: (u8, u8)) -> Vec<u8> {
    let family = Family::of(source);
    let to = transmit.destination.ip();
    let mut original = match (source, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let header = Ipv4Header::new(bytes.len() as u16, 9, IpNumber::TCP, from, to).unwrap();
            header.to_bytes().to_vec()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
            payload_length: bytes.len() as u16,
            next_header: IpNumber::TCP,
            hop_limit: 9,
            source: from.octets(),
            destination: to.octets(),
            ..Default::default()
        }
        .to_bytes()
        .to_vec(),
        _ => panic!("{source} to {to}"),
    };
    // No more than what every router quotes.
    original.extend_from_slice(&bytes[..8]);
    let error = IcmpError {
        icmp_type: kind.0,
        icmp_code: kind.1,
        info: 0,
        original: &original,
        extension: None,
    };
    let mut message = Vec::new();
    error.put(family, &mut message);
    message
}

fn syn(family: Family, config: ScanConfig) -> SynScan {
    let hosts = [7, 8].map(|last| (host(family, last), host(family, 1).ip()));
    SynScan::new(&hosts, OURS, Seed::from_u64(5), config).unwrap()
}

#[test]
fn each_answer_to_a_syn_is_told_as_what_it_is() {
    for family in [Family::V4, Family::V6] {
        let router = host(family, 200);
        let (prohibited, no_way, too_long) = match family {
            Family::V4 => ((3, 13), (3, 1), (3, 4)),
            Family::V6 => ((1, 1), (1, 0), (2, 0)),
        };
        let ours = host(family, 1).ip();
        let mut scan = syn(family, config(1..=9));
        let (found, _) = run(&mut scan, |_, transmit, bytes| {
            let (header, rest) = TcpHeader::from_slice(bytes).unwrap();
            assert!(header.syn && !header.ack && rest.is_empty());
            assert_eq!((header.source_port, transmit.carrier), (OURS, Carrier::RawTcp));
            let sum = match (ours, transmit.destination.ip()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), &[])
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), &[])
                }
                _ => panic!("{transmit:?}"),
            };
            assert_eq!((header.checksum, transmit.source), (sum.unwrap(), Some(ours)));
            let (port, next) = (header.destination_port, header.sequence_number.wrapping_add(1));
            let mut from = transmit.destination;
            from.set_port(0);
            let tcp = |flags| (5, received(from, Carrier::RawTcp), segment(port, flags, next));
            let icmp =
                |kind| (5, received(router, Carrier::RawIcmp), quoted(ours, transmit, bytes, kind));
            match port {
                1 => Ok(vec![tcp("SA")]),
                2 => Ok(vec![tcp("RA")]),
                3 => Ok(vec![]),
                4 => Ok(vec![icmp(prohibited)]),
                5 => Ok(vec![icmp(no_way)]),
                6 => Ok(vec![icmp(too_long)]),
                7 => Err(Failure::Denied),
                8 => Err(Failure::Other),
                _ => Ok(vec![tcp("S"), tcp("A"), tcp("R"), tcp("SRA")]),
            }
        });
        let icmp = |(icmp_type, icmp_code)| {
            Reason::Icmp(IcmpReason { from: Some(router.ip()), icmp_type, icmp_code })
        };
        for last in [7, 8] {
            let states: Vec<_> = (1..=9)
                .map(|port| {
                    let one = found[&SocketAddr::new(host(family, last).ip(), port)];
                    (one.state, one.reason, one.tries)
                })
                .collect();
            let expected = [
                (PortState::Open, Reason::SynAck, 1),
                (PortState::Closed, Reason::Reset, 1),
                (PortState::Filtered, Reason::Silence, 3),
                (PortState::Filtered, icmp(prohibited), 1),
                (PortState::Unreachable, icmp(no_way), 1),
                (PortState::Filtered, Reason::Silence, 3),
                (PortState::Filtered, Reason::System(Failure::Denied), 1),
                (PortState::Unasked, Reason::System(Failure::Other), 1),
                (PortState::Filtered, Reason::Silence, 3),
            ];
            assert_eq!(states, expected);
        }
    }
}

/// Whoever has not seen the question answers first, and in every way that says something.
#[test]
fn forged_answers_say_nothing() {
    let family = Family::V4;
    let ours = host(family, 1).ip();
    let mut scan = syn(family, config(1..=50));
    let (found, _) = run(&mut scan, |_, transmit, bytes| {
        let (header, _) = TcpHeader::from_slice(bytes).unwrap();
        let (port, number) = (header.destination_port, header.sequence_number);
        let from = transmit.destination;
        let mut forged = bytes.to_vec();
        forged[7] ^= 1;
        let tcp =
            |flags, number| (1, received(from, Carrier::RawTcp), segment(port, flags, number));
        let mut elsewhere = tcp("SA", number.wrapping_add(1));
        elsewhere.1.source = host(family, 99);
        let mut other_port = tcp("SA", number.wrapping_add(1));
        other_port.2[3] ^= 1;
        let icmp = |bytes: &[u8]| {
            let message = quoted(ours, transmit, bytes, (3, 13));
            (1, received(host(family, 66), Carrier::RawIcmp), message)
        };
        let mut answers = vec![
            tcp("SA", number),
            tcp("SA", number.wrapping_add(2)),
            tcp("RA", 0),
            elsewhere,
            other_port,
            icmp(&forged),
            (1, received(from, Carrier::RawTcp), vec![]),
            (1, received(from, Carrier::RawTcp), segment(port, "SA", number)[..19].to_vec()),
            (2, received(from, Carrier::RawTcp), segment(port, "RA", number.wrapping_add(1))),
        ];
        // What is true, a thousand times.
        let again = answers.last().unwrap().clone();
        answers.extend(std::iter::repeat_n(again, 1_000));
        Ok(answers)
    });
    assert!(found.values().all(|one| one.state == PortState::Closed), "{found:?}");
    assert_eq!(scan.counts().foreign, 100 * (8 + 1_000));
}

#[test]
fn lost_syns_are_asked_again_and_each_round_trip_is_its_own() {
    let mut rng = Seed::from_u64(8).stream(0);
    let mut scan = syn(Family::V4, ScanConfig { retries: 10, ..config(1..=2_000) });
    let (found, _) = run(&mut scan, |_, transmit, bytes| {
        let (header, _) = TcpHeader::from_slice(bytes).unwrap();
        let (port, next) = (header.destination_port, header.sequence_number.wrapping_add(1));
        let flags = if port % 100 == 7 { "SA" } else { "RA" };
        let meta = received(transmit.destination, Carrier::RawTcp);
        // Of five, one is lost, and some come long after they were given up.
        let after = match rng.next_u32() % 10 {
            0 | 1 => return Ok(vec![]),
            2 => 700,
            _ => 30,
        };
        Ok(vec![(after, meta, segment(port, flags, next))])
    });
    assert_eq!(found.len(), 4_000);
    for (target, one) in &found {
        let open = target.port() % 100 == 7;
        let expected = if open { PortState::Open } else { PortState::Closed };
        assert_eq!(one.state, expected, "{one:?}");
        let took = one.round_trip.map(|took| took.as_millis());
        assert!(took.is_none_or(|took| took == 30 || took == 700), "{one:?}");
    }
    let ScanCounts { again, window, .. } = scan.counts();
    assert!(again > 1_000 && window < 500, "{again} again, {window} at once");
}

#[test]
fn no_room_to_send_is_no_try() {
    let mut scan = syn(Family::V4, config(1..=300));
    let mut sent = 0;
    let (found, _) = run(&mut scan, |_, transmit, bytes| {
        sent += 1;
        if sent % 3 == 0 {
            return Err(Failure::Exhausted);
        }
        let (header, _) = TcpHeader::from_slice(bytes).unwrap();
        let answer = segment(header.destination_port, "RA", header.sequence_number.wrapping_add(1));
        Ok(vec![(1, received(transmit.destination, Carrier::RawTcp), answer)])
    });
    assert!(found.values().all(|one| (one.state, one.tries) == (PortState::Closed, 1)));
    assert!(scan.counts().exhausted >= 200);
    // And a system that never has room is told of in time.
    let mut scan = syn(Family::V4, config(1..=30));
    let (found, now) = run(&mut scan, |_, _, _| Err(Failure::Exhausted));
    assert!(found.values().all(|one| one.state == PortState::Unasked));
    assert!(now < 5_000, "{now} ms");
}

#[test]
fn a_scan_that_is_stopped_has_ended() {
    let mut scan = syn(Family::V4, config(1..=300));
    assert!(scan.poll_transmit(ms(0), &mut Vec::new()).is_some());
    scan.handle_command(ms(0), Quit).unwrap();
    assert!(scan.poll_transmit(ms(0), &mut Vec::new()).is_none());
    assert_eq!(scan.poll_event(), Some(ScanEvent::Ended));
    assert_eq!((scan.poll_event(), scan.poll_timeout()), (None, None));
}

/// A host that tells of closed ports as Linux does: some at once, then one in a while.
struct Limiter {
    tokens: f64,
    most: f64,
    each_ms: f64,
    at: u64,
}

impl Limiter {
    fn linux() -> Self {
        Self { tokens: 6.0, most: 6.0, each_ms: 1_000.0, at: 0 }
    }

    fn allows(&mut self, now: u64) -> bool {
        self.tokens = (self.tokens + (now - self.at) as f64 / self.each_ms).min(self.most);
        self.at = now;
        let allows = self.tokens >= 1.0;
        self.tokens -= if allows { 1.0 } else { 0.0 };
        allows
    }
}

fn udp(family: Family, config: ScanConfig) -> UdpScan {
    UdpScan::new(&[host(family, 7)], OURS, config).unwrap()
}

fn error(from: Option<IpAddr>, (icmp_type, icmp_code): (u8, u8)) -> Option<QuotedError> {
    Some(QuotedError { offender: from, icmp_type, icmp_code, info: 0, extension: None })
}

fn port_unreachable(family: Family) -> (u8, u8) {
    if family == Family::V4 { (3, 3) } else { (1, 4) }
}

#[test]
fn each_answer_to_a_datagram_is_told_as_what_it_is() {
    for family in [Family::V4, Family::V6] {
        let router = host(family, 200).ip();
        let closed = port_unreachable(family);
        let prohibited = if family == Family::V4 { (3, 10) } else { (1, 1) };
        let mut scan = udp(family, config([1, 2, 3, 4, 5, OURS]));
        let (found, _) = run(&mut scan, |_, transmit, _| {
            assert_eq!(transmit.carrier, Carrier::Udp);
            let meta = received(transmit.destination, Carrier::Udp);
            let told = |error| Received { error, ..meta };
            Ok(match transmit.destination.port() {
                1 => vec![(5, meta, b"hello".to_vec())],
                2 => vec![(5, told(error(Some(host(family, 7).ip()), closed)), vec![])],
                3 => vec![],
                4 => vec![(5, told(error(Some(router), prohibited)), vec![])],
                // A port that is closed, says another: that is a filter.
                5 => vec![(5, told(error(Some(router), closed)), vec![])],
                _ => vec![(0, Received { destination: Some(meta.source.ip()), ..meta }, vec![])],
            })
        });
        let icmp = |from, (icmp_type, icmp_code)| {
            Reason::Icmp(IcmpReason { from: Some(from), icmp_type, icmp_code })
        };
        let states: Vec<_> = found.values().map(|one| (one.state, one.reason)).collect();
        let expected = [
            (PortState::Open, Reason::Answer),
            (PortState::Closed, icmp(host(family, 7).ip(), closed)),
            (PortState::OpenOrFiltered, Reason::Silence),
            (PortState::Filtered, icmp(router, prohibited)),
            (PortState::Filtered, icmp(router, closed)),
            (PortState::Closed, Reason::MetItself),
        ];
        assert_eq!(states, expected);
    }
}

/// Of 60 ports 50 are closed, and the host tells of one in a second.
#[test]
fn closed_ports_that_a_host_is_slow_to_tell_of_are_closed() {
    for (silent, limiter, seconds) in [
        (10, Limiter::linux(), 40..75),
        (60, Limiter::linux(), 5..6),
        (10, Limiter { tokens: 1.0, most: 1.0, each_ms: 3_000.0, at: 0 }, 140..330),
        (10, Limiter { tokens: 1e6, most: 1e6, each_ms: 1.0, at: 0 }, 0..7),
    ] {
        let mut limiter = limiter;
        let mut scan = udp(Family::V4, config(1..=60));
        let (found, now) = run(&mut scan, |now, transmit, _| {
            let closed = transmit.destination.port() > silent && limiter.allows(now);
            let from = transmit.destination.ip();
            let meta = received(transmit.destination, Carrier::Udp);
            let meta = Received { error: error(Some(from), (3, 3)), ..meta };
            Ok(if closed { vec![(5, meta, vec![])] } else { vec![] })
        });
        for (target, one) in found {
            let expected = match target.port() <= silent {
                true => PortState::OpenOrFiltered,
                false => PortState::Closed,
            };
            assert_eq!(one.state, expected, "{one:?} with {silent} silent ones");
        }
        let took = Duration::from_millis(now).as_secs();
        assert!(seconds.contains(&took), "{took} s with {silent} silent ones");
    }
}

/// A host that falls silent for good is given up.
#[test]
fn a_host_that_falls_silent_does_not_hold_the_scan() {
    let mut scan = udp(Family::V4, config(1..=500));
    let mut told = 0;
    let (found, now) = run(&mut scan, |_, transmit, _| {
        told += 1;
        let meta = received(transmit.destination, Carrier::Udp);
        let meta = Received { error: error(Some(transmit.destination.ip()), (3, 3)), ..meta };
        Ok(if told <= 3 { vec![(5, meta, vec![])] } else { vec![] })
    });
    let closed = found.values().filter(|one| one.state == PortState::Closed).count();
    assert_eq!((found.len(), closed), (500, 3));
    assert!(now < 60_000, "{now} ms");
}

#[test]
fn well_known_servers_are_asked_what_they_answer() {
    let mut asked = BTreeMap::new();
    let ports = [7, 53, 111, 123, 161, 3478, 5353, 11_211];
    run(&mut udp(Family::V4, config(ports)), |_, transmit, bytes| {
        let of = asked.entry(transmit.destination.port()).or_insert_with(Vec::new);
        of.push(bytes.to_vec());
        Ok(vec![])
    });
    assert_eq!(asked[&7], [&b""[..], b"\n", b""]);
    for (port, length, begin) in [
        (53, 17, &b"\x5e\xef\x01\0"[..]),
        (111, 40, b"\x5e\xef\0\x01\0\0\0\0\0\0\0\x02"),
        (123, 48, b"\xe3\0"),
        (161, 40, b"\x30\x26\x02\x01\0\x04\x06public"),
        (3478, 20, b"\0\x01\0\0\x21\x12\xa4\x42"),
        (5353, 46, b"\0\0\0\0\0\x01"),
        (11_211, 17, b"\0\0\0\0\0\x01\0\0version\r\n"),
    ] {
        let of = &asked[&port];
        assert!(of.iter().all(|it| it.len() == length && it.starts_with(begin)), "{port}: {of:?}");
    }
}
