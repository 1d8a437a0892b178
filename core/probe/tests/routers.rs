//! The router model, and what runs over it: the lab's golden rows without the lab.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_machine::{
    Carrier, Failure, Instant, Now, Received, Seed, Transmit, TransmitId, UnixTime,
};
use semfio_probe::simulation::{
    Action, Addresses, Arrival, Balance, Internet, Lie, Place, Port, Ran, Refusal, Size, Topology,
    run,
};
use semfio_probe::{
    BadExtension, Extension, IcmpError, Label, Message, PingConfig, PingEvent, Pinger, Quoted,
    Sizes,
};

const START: Now = Now { mono: Instant::from_nanos(0), unix: UnixTime::from_nanos(0) };

fn host(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 0)
}

fn ping(internet: &mut Internet, hosts: &[&str], config: PingConfig) -> Ran<Pinger, PingEvent> {
    let hosts: Vec<_> = hosts.iter().map(|of| host(of)).collect();
    let machine = Pinger::new(START, &hosts, &Seed::from_u64(3), config).unwrap();
    let ran = run(internet, machine, |event| event);
    assert!(ran.ended);
    assert_eq!(ran.events.last().unwrap().1, PingEvent::Ended);
    ran
}

fn once() -> PingConfig {
    PingConfig { count: Some(1), wait: Duration::from_secs(2), ..PingConfig::default() }
}

fn raw() -> PingConfig {
    PingConfig { carrier_v4: Carrier::RawIcmp, carrier_v6: Carrier::RawIcmp, ..once() }
}

/// What is sent from where with which TTL, as a test does by hand.
fn transmit(to: &str, hop_limit: u8, carrier: Carrier) -> Transmit {
    let destination = to.parse().unwrap_or_else(|_| host(to));
    Transmit {
        id: TransmitId(1),
        destination,
        size: 0,
        segment_size: None,
        hop_limit: Some(hop_limit),
        source: None,
        carrier,
    }
}

fn send(internet: &mut Internet, to: &str, hop_limit: u8, payload: &[u8]) -> Vec<Arrival> {
    internet.send(START, &transmit(to, hop_limit, Carrier::Udp), payload).unwrap()
}

fn offender(arrivals: &[Arrival]) -> Option<IpAddr> {
    arrivals.first()?.meta.error?.offender
}

#[test]
fn ping_says_of_each_host_what_the_map_says() {
    // Golden rows of the lab: who says what.
    let rows = [
        ("10.77.250.9", Some(("10.77.4.2", 3, 1))),
        ("10.77.251.9", Some(("10.77.4.2", 3, 13))),
        ("10.77.252.9", None),
        ("10.77.253.9", Some(("10.77.6.2", 11, 0))),
        ("10.77.254.9", Some(("10.77.4.2", 3, 0))),
        ("fd77:0:0:fa::9", Some(("fd77:0:0:4::2", 1, 0))),
        ("fd77:0:0:fb::9", Some(("fd77:0:0:4::2", 1, 1))),
        ("fd77:0:0:fc::9", None),
        ("fd77:0:0:fd::9", Some(("fd77:0:0:6::2", 3, 0))),
        ("fd77:0:0:fe::9", Some(("fd77:0:0:4::2", 1, 0))),
    ];
    let mut hosts = vec!["10.77.11.2", "fd77:0:0:b::2"];
    hosts.extend(rows.map(|(host, _)| host));
    for config in [once(), raw()] {
        let ran = ping(&mut Internet::new(Topology::lab(2), 1), &hosts, config);
        let told = |kind: fn(&PingEvent) -> Option<usize>, place| {
            ran.events.iter().filter(|(_, event)| kind(event) == Some(place)).count()
        };
        let reply = |event: &PingEvent| match event {
            PingEvent::Reply(reply) => Some((reply.host, reply.hop_limit, reply.size)),
            _ => None,
        };
        let replies: Vec<_> = ran.events.iter().filter_map(|(_, event)| reply(event)).collect();
        assert_eq!(replies, [(0, Some(54), 64), (1, Some(54), 64)]);
        for (place, (host, expected)) in rows.iter().enumerate() {
            let place = place + 2;
            let errors = ran.events.iter().filter_map(|(_, event)| match event {
                PingEvent::Unreachable { host, error, .. } if *host == place => {
                    let from = error.offender.unwrap().to_string();
                    Some((from, error.icmp_type, error.icmp_code))
                }
                _ => None,
            });
            let expected: Vec<_> =
                expected.iter().map(|&(from, kind, code)| (from.to_owned(), kind, code)).collect();
            assert_eq!(errors.collect::<Vec<_>>(), expected, "{host}");
            let lost = |event: &PingEvent| match event {
                PingEvent::Lost { host, .. } => Some(*host),
                _ => None,
            };
            assert_eq!(told(lost, place), usize::from(expected.is_empty()), "{host}");
        }
        assert_eq!((ran.machine.counts().malformed, ran.machine.counts().foreign), (0, 0));
    }
}

#[test]
fn ping_finds_the_narrow_links() {
    for (host, size, from) in
        [("10.77.62.2", 1_472, "10.77.4.2"), ("fd77:0:0:3e::2", 1_452, "fd77:0:0:4::2")]
    {
        let mut map = Topology::lab(1);
        map.client.size = Size::Known;
        let sizes = Sizes { first: size, last: size, step: 0 };
        let config = PingConfig { count: Some(2), sizes, ..once() };
        let ran = ping(&mut Internet::new(map, 1), &[host], config);
        let [(_, PingEvent::Unreachable { number: 1, error, .. }), second, ..] = &*ran.events
        else {
            panic!("{:?}", ran.events);
        };
        assert_eq!((error.offender, error.info), (Some(from.parse().unwrap()), 1_400));
        let refused = PingEvent::NotSent { host: 0, number: 2, failure: Failure::TooLarge };
        assert_eq!(second.1, refused);
    }
}

#[test]
fn ping_over_a_wire_that_loses_doubles_and_overtakes() {
    let lossy = |seed| {
        let mut map = Topology::lab(1);
        let wire = map.links_mut().find(|link| !link.latency.is_zero()).unwrap();
        wire.loss = 100_000;
        wire.duplication = 100_000;
        wire.jitter = Duration::from_millis(30);
        let config = PingConfig {
            count: Some(500),
            interval: Duration::from_millis(10),
            ..PingConfig::default()
        };
        let ran = ping(&mut Internet::new(map, seed), &["10.77.71.2"], config);
        let trips = ran.machine.round_trips(0).unwrap().most().unwrap().1;
        assert!(trips.min() >= Duration::from_millis(40), "twice 20 ms");
        assert!(trips.max() <= Duration::from_millis(100));
        ran.machine.host_counts(0).unwrap()
    };
    let counts = lossy(1);
    // 0.9 of 0.9, 4 deviations around it.
    assert!((370..=440).contains(&counts.answered), "{counts:?}");
    assert!(counts.duplicates > 20 && counts.reordered > 50 && counts.longest_burst > 1);
    assert_eq!((lossy(1), lossy(2) == counts), (counts, false), "one seed, one fate");
}

#[test]
fn ping_is_not_taken_in() {
    // A host that answers each echo a thousand times, one that answers from elsewhere, one behind a
    // router whose errors quote too little.
    let mut map = Topology::lab(1);
    map.node(Topology::place(Place::Hop(7))).echoes = 1_000;
    let elsewhere = Topology::addresses(9, 77);
    map.node(Topology::place(Place::Hop(8))).answers_from = Some(elsewhere);
    map.node(Topology::place(Place::Hop(4))).errors.quotes = 8;
    let hosts = ["10.77.7.2", "10.77.8.2", "10.77.250.9"];
    let ran = ping(&mut Internet::new(map, 1), &hosts, once());
    let counts = [0, 1, 2].map(|host| ran.machine.host_counts(host).unwrap());
    assert_eq!((counts[0].answered, counts[0].duplicates), (1, 0), "it is over with the first");
    assert_eq!((counts[1].answered, counts[1].elsewhere), (0, 1));
    assert_eq!((counts[2].answered, counts[2].unreachable), (0, 0));

    let mut map = Topology::lab(1);
    map.node(Topology::place(Place::Hop(7))).echoes = 1_000;
    let config = PingConfig { count: Some(3), ..once() };
    let ran = ping(&mut Internet::new(map, 1), &hosts[..1], config);
    let counts = ran.machine.host_counts(0).unwrap();
    assert_eq!((counts.answered, counts.duplicates), (3, 2 * 999));
}

#[test]
fn hops_answer_in_their_order() {
    let mut internet = Internet::new(Topology::lab(1), 1);
    for (to, silent) in
        [("10.77.11.2:33434", 0), ("[fd77:0:0:b::2]:33434", 0), ("10.77.22.2:33434", 3)]
    {
        for hop in 1..=11_u8 {
            let arrivals = send(&mut internet, to, hop, b"what was sent");
            let expected = match (to.starts_with("10.77.22"), hop) {
                (true, 3) => None,
                (true, 4..) => Some(Place::Hidden),
                _ => Some(Place::Hop(hop)),
            };
            let to: SocketAddr = to.parse().unwrap();
            let expected = expected.map(|place| place.addresses().like(to.ip()));
            assert_eq!(offender(&arrivals), expected, "{to}, hop {hop}, silent {silent}");
            for Arrival { meta, payload } in arrivals {
                assert_eq!((meta.source, meta.carrier), (to, Carrier::Udp));
                assert_eq!(payload, b"what was sent");
                let reached = hop == 11 || silent > 0 && hop >= 4;
                let kind = meta.error.unwrap();
                let refusals = if reached { Refusal::PORT } else { Refusal::TIME_EXCEEDED };
                let refusal = if to.is_ipv4() { refusals.v4 } else { refusals.v6 };
                assert_eq!((kind.icmp_type, kind.icmp_code), refusal);
            }
        }
    }
}

#[test]
fn a_loop_is_gone_through_until_the_hops_are_used_up() {
    let mut internet = Internet::new(Topology::lab(1), 1);
    for to in ["10.77.253.9:1", "[fd77:0:0:fd::9]:1"] {
        for hop in 5..=64 {
            let arrivals = send(&mut internet, to, hop, b"");
            let to: SocketAddr = to.parse().unwrap();
            let place = Place::Hop(if hop % 2 == 0 { 6 } else { 5 });
            let own = place.addresses().like(to.ip());
            assert_eq!(offender(&arrivals), Some(own), "{to}, hop {hop}");
            let back = 64 - if hop % 2 == 0 { 5 } else { 4 };
            assert_eq!(arrivals[0].meta.hop_limit, Some(back), "the way back has no loop");
        }
    }
}

#[test]
fn flows_keep_to_their_ways_and_use_all() {
    for ways in 1..=8_u16 {
        for to in ["10.77.50.2", "[fd77:0:0:32::2]"] {
            let mut internet = Internet::new(Topology::lab(ways), 7);
            let mut seen = std::collections::BTreeMap::new();
            for port in 33_000..33_800 {
                let to = format!("{to}:{port}");
                let from = offender(&send(&mut internet, &to, 4, b"")).unwrap();
                assert_eq!(offender(&send(&mut internet, &to, 4, b"longer")), Some(from));
                *seen.entry(from).or_insert(0) += 1;
                assert!(offender(&send(&mut internet, &to, 5, b"")).is_some());
            }
            let even = 800 / i32::from(ways);
            assert_eq!(seen.len(), usize::from(ways));
            assert!(seen.values().all(|&n| (n - even).abs() < 60), "{seen:?}");
        }
    }
    let mut map = Topology::lab(8);
    map.node(Topology::place(Place::Hop(3))).balance = Balance::Packet;
    let mut internet = Internet::new(map, 7);
    let seen: std::collections::BTreeSet<_> =
        (0..200).map(|_| offender(&send(&mut internet, "10.77.50.2:33434", 4, b""))).collect();
    assert_eq!(seen.len(), 8, "one flow by all ways");
}

#[test]
fn who_says_too_much_says_nothing_for_a_while() {
    let mut map = Topology::lab(1);
    map.node(Topology::place(Place::Hop(2))).errors.limit = Some((6, Duration::from_secs(1)));
    let mut internet = Internet::new(map, 1);
    let at = |ms: u64| Now { mono: Instant::from_nanos(ms * 1_000_000), ..START };
    let mut answers = |ms, hop| {
        let transmit = transmit("10.77.11.2:33434", hop, Carrier::Udp);
        internet.send(at(ms), &transmit, b"").unwrap().len()
    };
    assert_eq!((0..20).map(|ms| answers(ms, 2)).sum::<usize>(), 6);
    assert_eq!((0..20).map(|ms| answers(ms, 3)).sum::<usize>(), 20, "those behind it answer");
    assert_eq!((answers(1_000, 2), answers(1_001, 2)), (1, 0));
    assert_eq!((2_500..2_520).map(|ms| answers(ms, 2)).sum::<usize>(), 1);
}

/// The message of an error as a raw socket has it.
fn message(internet: &mut Internet, to: &str, hop: u8) -> Vec<u8> {
    let arrivals = send(internet, to, hop, b"some payload");
    let raw = |meta: &Received| meta.carrier == Carrier::RawIcmp;
    arrivals.into_iter().find(|arrival| raw(&arrival.meta)).unwrap().payload
}

fn error<'m>(to: &str, message: &'m [u8]) -> IcmpError<'m> {
    let to: SocketAddr = to.parse().unwrap();
    match Message::parse(semfio_probe::Family::of(to.ip()), message) {
        Ok(Message::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn labels_are_told_and_lies_are_seen() {
    let label = Label { label: 24_007, traffic_class: 5, bottom: true, ttl: 1 };
    for to in ["10.77.11.2:33434", "[fd77:0:0:b::2]:33434"] {
        for (lie, expected) in [
            (None, None),
            (Some(Lie::Checksum), Some(BadExtension::Checksum)),
            (Some(Lie::Version), Some(BadExtension::Version(3))),
            (Some(Lie::Object), Some(BadExtension::Object { offset: 4 })),
            (Some(Lie::Quote), Some(BadExtension::Quote { length: 0 })),
        ] {
            let mut map = Topology::lab(1);
            map.client.raw = true;
            let errors = &mut map.node(Topology::place(Place::Hop(5))).errors;
            errors.labels = vec![label];
            errors.lie = lie;
            let mut internet = Internet::new(map, 1);
            let message = message(&mut internet, to, 5);
            let error = error(to, &message);
            match (error.extension, expected) {
                (Some(Ok(extension)), None) => {
                    assert_eq!(extension.labels().collect::<Vec<_>>(), [label]);
                }
                (Some(Err(BadExtension::Quote { .. })), Some(BadExtension::Quote { .. })) => {}
                (told, expected) => assert_eq!(told, Some(Err(expected.unwrap())), "{to}"),
            }
            let queue = send(&mut internet, to, 5, b"some payload");
            let begin = queue[1].meta.error.unwrap().extension.map(usize::from);
            let queued = begin.map(|begin| Extension::parse(&queue[1].payload[begin..]));
            match error.extension {
                Some(Err(BadExtension::Quote { .. })) => assert_eq!(queued, None),
                whole => assert_eq!(queued, whole),
            }
            let to: SocketAddr = to.parse().unwrap();
            let quoted = error.quoted().unwrap();
            assert_eq!((quoted.ports(), quoted.hop_limit), (Some((40_000, to.port())), 1));
        }
    }
}

#[test]
fn a_quote_is_as_long_as_its_router_likes() {
    for (octets, transport) in [(28, 8), (128, 20), (1_232, 20)] {
        let mut map = Topology::lab(1);
        map.client.raw = true;
        map.node(Topology::place(Place::Hop(5))).errors.quotes = octets;
        let mut internet = Internet::new(map, 1);
        let message = message(&mut internet, "10.77.11.2:33434", 5);
        let error = error("10.77.11.2:33434", &message);
        assert_eq!(Quoted::parse(error.original).unwrap().transport.len(), transport);
        let queue = send(&mut internet, "10.77.11.2:33434", 5, b"some payload");
        assert_eq!(queue[1].payload.len(), transport - 8, "as the queue has it");
    }
}

#[test]
fn what_is_rewritten_shows_in_later_quotes() {
    let mut map = Topology::lab(1);
    map.client.raw = true;
    let rewrite = &mut map.node(Topology::place(Place::Hop(3))).rewrite;
    rewrite.traffic_class = Some(0x28);
    rewrite.source = Some(Topology::addresses(99, 9));
    rewrite.source_port = Some(1_024);
    let mut internet = Internet::new(map, 1);
    let to = "10.77.11.2:33434";
    let mut quoted = |hop, restores| {
        let node = internet.map_mut().node(Topology::place(Place::Hop(3)));
        node.rewrite.restores = restores;
        let message = message(&mut internet, to, hop);
        let quoted = error(to, &message).quoted().unwrap();
        let queued = send(&mut internet, to, hop, b"").len() == 2;
        (quoted.source.to_string(), quoted.ports().unwrap().0, quoted.traffic_class, queued)
    };
    assert_eq!(quoted(3, false), ("10.77.1.1".into(), 40_000, 0, true));
    // The system does not know whose this is.
    assert_eq!(quoted(4, false), ("10.77.99.9".into(), 1_024, 0x28, false));
    assert_eq!(quoted(4, true), ("10.77.1.1".into(), 40_000, 0, true));
}

#[test]
fn a_node_that_takes_no_hop_is_not_seen() {
    let mut map = Topology::lab(1);
    map.node(Topology::place(Place::Hop(3))).decrements = false;
    let mut internet = Internet::new(map, 1);
    let from =
        |hop| offender(&send(&mut Internet::new(Topology::lab(1), 1), "10.77.11.2:1", hop, b""));
    for hop in [3, 4, 9] {
        let seen = offender(&send(&mut internet, "10.77.11.2:1", hop, b""));
        assert_eq!(seen, from(hop + 1));
    }
}

/// A SYN, or another segment, of TCP.
fn segment(port: u16, flags: u8) -> Vec<u8> {
    let mut octets = vec![0x9c, 0x40];
    octets.extend(port.to_be_bytes());
    octets.extend([0, 0, 0, 41, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    octets
}

#[test]
fn ports_are_what_the_map_says() {
    for (of, family) in [("10.77.11.2", 4), ("[fd77:0:0:b::2]", 6)] {
        let mut internet = Internet::new(Topology::lab(1), 1);
        let udp = |internet: &mut Internet, port| {
            let arrivals = send(internet, &format!("{of}:{port}"), 64, b"echo");
            arrivals.first().map(|Arrival { meta, payload }| match meta.error {
                Some(error) => {
                    (error.offender.unwrap().to_string(), error.icmp_type, error.icmp_code)
                }
                None => (String::from_utf8_lossy(payload).into(), 0, 0),
            })
        };
        let (server, firewall) = match family {
            4 => ("10.77.11.2".to_owned(), "10.77.10.2".to_owned()),
            _ => ("fd77:0:0:b::2".to_owned(), "fd77:0:0:a::2".to_owned()),
        };
        let pick = |refusal: Refusal| if family == 4 { refusal.v4 } else { refusal.v6 };
        let (closed, prohibited) = (pick(Refusal::PORT), pick(Refusal::PROHIBITED));
        assert_eq!(udp(&mut internet, 7007), Some(("echo".into(), 0, 0)));
        assert_eq!(udp(&mut internet, 7008), None);
        assert_eq!(udp(&mut internet, 7009), Some((server, closed.0, closed.1)));
        assert_eq!(udp(&mut internet, 7010), None);
        assert_eq!(udp(&mut internet, 7011), Some((firewall, prohibited.0, prohibited.1)));

        internet.map_mut().client.raw = true;
        let mut tcp = |port, flags| {
            let transmit = transmit(&format!("{of}:{port}"), 64, Carrier::RawTcp);
            let arrivals = internet.send(START, &transmit, &segment(port, flags)).unwrap();
            let [arrival] = &*arrivals else { return None };
            let payload = &arrival.payload;
            let carrier = arrival.meta.carrier;
            Some((carrier, if carrier == Carrier::RawTcp { payload[13] } else { payload[0] }))
        };
        assert_eq!(tcp(7007, 2), Some((Carrier::RawTcp, 18)), "SYN and ACK");
        assert_eq!(tcp(7009, 2), Some((Carrier::RawTcp, 20)), "RST and ACK");
        assert_eq!((tcp(7010, 2), tcp(7007, 16)), (None, None));
        assert_eq!(tcp(7011, 2), Some((Carrier::RawIcmp, prohibited.0)));
    }
}

#[test]
fn a_port_of_a_host_may_be_filtered_too() {
    let mut map = Topology::new();
    let server = map.add();
    map.link(Topology::CLIENT, server, 1).mtu = 100;
    map.node(server).ports.extend([(1, Port::Filtered), (2, Port::Prohibited)]);
    map.node(Topology::CLIENT).routes.insert(Some(9), Action::Drop);
    let mut internet = Internet::new(map, 1);
    assert!(send(&mut internet, "10.77.1.2:1", 64, b"").is_empty());
    assert_eq!(send(&mut internet, "10.77.1.2:2", 64, b"")[0].meta.error.unwrap().icmp_code, 13);
    let refuse = |internet: &mut Internet, to, payload: &[u8]| {
        internet.send(START, &transmit(to, 64, Carrier::Udp), payload).unwrap_err()
    };
    assert_eq!(refuse(&mut internet, "10.77.9.2:1", b""), Failure::Unreachable);
    assert_eq!(refuse(&mut internet, "[fd77:0:0:1::2]:1", &[0; 53]), Failure::TooLarge);
    let addresses = Addresses { v4: [10, 77, 1, 2].into(), v6: "fd77:0:0:1::2".parse().unwrap() };
    assert_eq!(Topology::addresses(1, 2), addresses);
}
