//! The UDP pinger, both sides: by hand, and over links that lose, double, delay and reorder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Instant, Now, QuotedError, Received, Seed, Stamp,
    TransmitId, UnixTime,
};
use semfio_probe::{
    Order, Stop, UdpPingConfig, UdpPingEvent, UdpPingServer, UdpPingServerConfig,
    UdpPingServerEvent, UdpPinger,
};

fn ms(ms: u64) -> Now {
    let nanos = ms * 1_000_000;
    Now { mono: Instant::from_nanos(nanos), unix: UnixTime::from_nanos(nanos) }
}

fn theirs() -> SocketAddr {
    "192.0.2.7:12000".parse().unwrap()
}

fn student(port: u16) -> SocketAddr {
    SocketAddr::new("192.0.2.1".parse().unwrap(), port)
}

fn received(source: SocketAddr, at: u64) -> Received {
    Received {
        source,
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp: Stamp { at: ms(at).mono, clock: Clock::Kernel },
        error: None,
    }
}

/// What it sends now, if anything.
fn send(client: &mut UdpPinger, at: u64) -> Option<String> {
    client.handle_timeout(ms(at));
    let mut text = Vec::new();
    let transmit = client.poll_transmit(ms(at), &mut text)?;
    assert_eq!((transmit.destination, transmit.size), (theirs(), text.len()));
    client.handle_sent(ms(at), transmit.id, Stamp { at: ms(at).mono, clock: Clock::User });
    Some(String::from_utf8(text).unwrap())
}

/// What an answer is told as.
fn hear(client: &mut UdpPinger, at: u64, text: &str) -> Option<String> {
    let mut text = text.as_bytes().to_vec();
    let event = client.handle_datagram(ms(at), received(theirs(), at), &mut text)?;
    Some(match event {
        UdpPingEvent::Reply { number, round_trip, late, .. } => {
            format!("{number}{} {}", if late { " late" } else { "" }, round_trip.length.as_millis())
        }
        other => format!("{other:?}"),
    })
}

fn events(client: &mut UdpPinger) -> Vec<UdpPingEvent<'static>> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

#[test]
fn one_at_a_time_and_the_next_when_the_last_is_settled() {
    let config = UdpPingConfig { count: Some(2), ..UdpPingConfig::default() };
    let mut client = UdpPinger::new(ms(1_000), theirs(), config);
    assert_eq!(send(&mut client, 1_000).unwrap(), "Ping 1 1.000000");
    assert_eq!(send(&mut client, 1_001), None);
    assert_eq!(hear(&mut client, 1_004, "PING 1 1.000000").unwrap(), "1 4");
    assert_eq!(send(&mut client, 1_004).unwrap(), "Ping 2 1.004000");
    assert_eq!(client.poll_timeout().unwrap().at, ms(2_004).mono);
    assert_eq!(send(&mut client, 2_004), None, "there are two");
    assert_eq!(events(&mut client), [UdpPingEvent::Lost { number: 2 }, UdpPingEvent::Ended]);
    assert_eq!(client.poll_timeout(), None);
    let counts = client.counts();
    assert_eq!((counts.sent, counts.answered, counts.lost), (2, 1, 1));
    assert_eq!(client.round_trips().max(), Some(Duration::from_millis(4)));
}

#[test]
fn a_late_answer_is_that_of_its_own_ping() {
    let mut client = UdpPinger::new(ms(0), theirs(), UdpPingConfig::default());
    send(&mut client, 0).unwrap();
    let second = send(&mut client, 1_000).unwrap();
    assert_eq!(events(&mut client), [UdpPingEvent::Lost { number: 1 }]);
    assert_eq!(hear(&mut client, 1_002, "PING 1 0.000000").unwrap(), "1 late 1002");
    assert_eq!(send(&mut client, 1_003), None, "2 still waits");
    assert_eq!(hear(&mut client, 1_005, &second.to_uppercase()).unwrap(), "2 5");
    assert_eq!(hear(&mut client, 1_006, &second).unwrap(), "Duplicate { number: 2 }");
    let counts = client.counts();
    assert_eq!((counts.answered, counts.lost, counts.late, counts.duplicates), (1, 1, 1, 1));
    assert_eq!(client.round_trips().max(), Some(Duration::from_millis(5)), "late ones apart");
}

#[test]
fn what_was_not_sent_is_not_answered() {
    let mut client = UdpPinger::new(ms(0), theirs(), UdpPingConfig::default());
    send(&mut client, 0).unwrap();
    for text in ["PING 1 0.000001", "PING 2 0.000000", "PING 0 0.000000", "1 0.000000", "", "PING"]
    {
        assert_eq!(hear(&mut client, 1, text), None, "{text}");
    }
    let mut text = b"PING 1 0.000000".to_vec();
    assert_eq!(client.handle_datagram(ms(1), received(student(9_999), 1), &mut text), None);
    assert_eq!(client.counts().foreign, 7);
    assert_eq!(hear(&mut client, 2, "PING 1 0.000000\r\n").unwrap(), "1 2", "with a line's end");
}

#[test]
fn errors_are_those_of_the_ping_they_quote() {
    let mut client = UdpPinger::new(ms(0), theirs(), UdpPingConfig::default());
    let first = send(&mut client, 0).unwrap();
    let error = QuotedError { icmp_type: 3, icmp_code: 3, ..QuotedError::default() };
    let refuse = |client: &mut UdpPinger, at, quote: &str| {
        let meta = Received { error: Some(error), ..received(theirs(), at) };
        assert_eq!(client.handle_datagram(ms(at), meta, &mut quote.as_bytes().to_vec()), None);
        events(client)
    };
    assert_eq!(refuse(&mut client, 1, "Ping 2"), []);
    let unreachable = |number| [UdpPingEvent::Unreachable { number, error }];
    assert_eq!(refuse(&mut client, 1, &first), unreachable(1));
    assert_eq!(refuse(&mut client, 1, &first), [], "once");
    send(&mut client, 2).unwrap();
    assert_eq!(refuse(&mut client, 3, ""), unreachable(2), "only the header was quoted");
    send(&mut client, 4).unwrap();
    client.handle_send_error(ms(4), TransmitId(3), Failure::Full);
    let failure = Failure::Full;
    assert_eq!(events(&mut client), [UdpPingEvent::NotSent { number: 3, failure }]);
    assert_eq!(client.counts().failed, 3);
}

#[test]
fn stamps_that_cannot_be_are_not_believed() {
    let mut client = UdpPinger::new(ms(10), theirs(), UdpPingConfig::default());
    let text = send(&mut client, 10).unwrap();
    let mut bytes = text.into_bytes();
    let meta = Received {
        stamp: Stamp { at: ms(5).mono, clock: Clock::Kernel },
        ..received(theirs(), 14)
    };
    match client.handle_datagram(ms(14), meta, &mut bytes) {
        Some(UdpPingEvent::Reply { round_trip, .. }) => {
            assert_eq!((round_trip.length.as_millis(), round_trip.to), (4, Clock::User));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_round_trip_says_whose_clocks_measured_it() {
    let mut client = UdpPinger::new(ms(0), theirs(), UdpPingConfig::default());
    let mut text = send(&mut client, 0).unwrap().into_bytes();
    let mut left = |at, clock| {
        client.handle_sent(ms(5), TransmitId(1), Stamp { at: ms(at).mono, clock });
    };
    left(2, Clock::Kernel);
    left(3, Clock::User);
    left(9, Clock::Kernel);
    match client.handle_datagram(ms(5), received(theirs(), 5), &mut text) {
        Some(UdpPingEvent::Reply { round_trip, .. }) => {
            assert_eq!((round_trip.length.as_millis(), round_trip.from), (3, Clock::Kernel));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_heartbeat_waits_for_nobody() {
    let (interval, count) = (Duration::from_millis(100), Some(3));
    let config = UdpPingConfig { count, interval, heartbeat: true, ..UdpPingConfig::default() };
    let mut client = UdpPinger::new(ms(0), theirs(), config);
    let sent: Vec<_> = (0..1_000).filter_map(|at| send(&mut client, at)).collect();
    assert_eq!(sent, ["Ping 1 0.000000", "Ping 2 0.100000", "Ping 3 0.200000"]);
    assert_eq!(events(&mut client), []);
    client.handle_timeout(ms(1_200));
    assert_eq!(events(&mut client), [UdpPingEvent::Ended], "nothing is lost");
}

#[test]
fn stop_is_the_last_word() {
    let config = UdpPingConfig { count: None, ..UdpPingConfig::default() };
    let mut client = UdpPinger::new(ms(0), theirs(), config);
    let text = send(&mut client, 0).unwrap();
    client.handle_command(ms(1), Stop).unwrap();
    assert_eq!(hear(&mut client, 2, &text), None);
    assert_eq!(send(&mut client, 5_000), None);
    assert_eq!(events(&mut client), [UdpPingEvent::Ended]);
    assert_eq!((client.counts().sent, client.counts().lost), (1, 0));
}

fn server(config: UdpPingServerConfig) -> UdpPingServer {
    UdpPingServer::new(Seed::from_u64(5), config)
}

/// What a datagram is told as, and what goes back.
fn ask(server: &mut UdpPingServer, from: SocketAddr, at: u64, text: &str) -> (String, Vec<String>) {
    let mut text = text.as_bytes().to_vec();
    let told = match server.handle_datagram(ms(at), received(from, at), &mut text) {
        Some(UdpPingServerEvent::Answered { .. }) => "answered".into(),
        Some(UdpPingServerEvent::Dropped { .. }) => "dropped".into(),
        Some(UdpPingServerEvent::Heartbeat { order, .. }) => format!("{order:?}"),
        other => format!("{other:?}"),
    };
    let mut back = Vec::new();
    let mut buf = Vec::new();
    while let Some(transmit) = server.poll_transmit(ms(at), &mut buf) {
        assert_eq!(transmit.destination, from);
        back.push(String::from_utf8(std::mem::take(&mut buf)).unwrap());
    }
    (told, back)
}

#[test]
fn a_server_answers_in_capitals() {
    let mut server = server(UdpPingServerConfig::default());
    let (told, back) = ask(&mut server, student(4_000), 0, "Ping 1 0.5 olá");
    assert_eq!((told.as_str(), back), ("answered", vec!["PING 1 0.5 OLá".to_owned()]));
    assert_eq!(ask(&mut server, student(1_023), 0, "Ping").0, "None");
    assert_eq!(server.counts().refused, 1);
}

#[test]
fn everybody_sees_the_same_losses() {
    let config = UdpPingServerConfig { loss: 300_000, ..UdpPingServerConfig::default() };
    let fates = |server: &mut UdpPingServer, port| -> Vec<bool> {
        (0..1_000).map(|at| ask(server, student(port), at, "x").1.is_empty()).collect()
    };
    let mut first = server(config);
    let (ana, bia) = (fates(&mut first, 4_000), fates(&mut first, 4_001));
    assert_eq!(ana, bia);
    assert_eq!(ana, fates(&mut server(config), 5_000), "tomorrow");
    let lost = ana.iter().filter(|lost| **lost).count();
    assert!((250..350).contains(&lost), "{lost} of 1,000");
    let mut other = UdpPingServer::new(Seed::from_u64(6), config);
    assert_ne!(ana, fates(&mut other, 4_000));
    for (loss, all) in [(0, 0), (1_000_000, 1_000)] {
        let mut server = server(UdpPingServerConfig { loss, ..config });
        assert_eq!(fates(&mut server, 4_000).iter().filter(|lost| **lost).count(), all);
    }
}

#[test]
fn heartbeats_that_are_missing() {
    let config = UdpPingServerConfig { heartbeat: true, ..UdpPingServerConfig::default() };
    let mut server = server(config);
    for (number, order) in [
        (5, Order::Next { missing: 0 }),
        (6, Order::Next { missing: 0 }),
        (9, Order::Next { missing: 2 }),
        (8, Order::Late),
        (8, Order::Again),
        (9, Order::Again),
        (100, Order::Next { missing: 90 }),
        (37, Order::Late),
        (36, Order::Anew),
        (37, Order::Next { missing: 0 }),
        (u64::MAX, Order::Next { missing: u64::MAX - 38 }),
        (0, Order::Anew),
    ] {
        let told = ask(&mut server, student(4_000), 0, &format!("Ping {number} 1.5"));
        assert_eq!(told, (format!("{order:?}"), vec![]), "{number}");
    }
    assert_eq!(ask(&mut server, student(4_000), 0, "Ping").0, "None");
    assert_eq!(server.counts().unreadable, 1);
}

#[test]
fn who_is_silent_is_gone() {
    let mut server = server(UdpPingServerConfig { heartbeat: true, ..Default::default() });
    ask(&mut server, student(4_000), 0, "1");
    ask(&mut server, student(4_001), 1_000, "1");
    ask(&mut server, student(4_000), 2_000, "3");
    assert_eq!(server.poll_timeout().unwrap().at, ms(11_000).mono);
    server.handle_timeout(ms(12_000));
    let gone: Vec<_> = std::iter::from_fn(|| server.poll_event())
        .map(|event| match event {
            UdpPingServerEvent::Gone { client, counts } => {
                (client.port(), counts.received, counts.missing)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(gone, [(4_001, 1, 0), (4_000, 2, 1)]);
    assert_eq!((server.clients().count(), server.poll_timeout()), (0, None));
}

#[test]
fn clients_are_bounded() {
    let mut server = server(UdpPingServerConfig::default());
    for port in 2_000..2_000 + 3 * semfio_probe::MAX_CLIENTS as u16 {
        ask(&mut server, student(port), u64::from(port), "x");
    }
    assert_eq!(server.clients().count(), semfio_probe::MAX_CLIENTS);
    let oldest = server.clients().map(|(address, _)| address.port()).min();
    assert_eq!(oldest, Some(2_000 + 2 * semfio_probe::MAX_CLIENTS as u16));
}

proptest! {
    /// Over a link that delays by chance and doubles, each ping is told once as answered, lost or
    /// failed; what is told of a round trip is the truth.
    #[test]
    fn each_ping_is_told_once_and_truly(
        fates in prop::collection::vec((0_u64..2_500, prop::option::of(0_u64..2_500), prop::bool::weighted(0.3)), 10),
        heartbeat: bool,
    ) {
        let config = UdpPingConfig { interval: Duration::from_millis(300), heartbeat, ..UdpPingConfig::default() };
        let mut client = UdpPinger::new(ms(0), theirs(), config);
        let mut server = server(UdpPingServerConfig::default());
        let mut on_the_way: BTreeMap<(u64, u64, usize), (u64, String)> = BTreeMap::new();
        let (mut sent, mut settled, mut answered) = (0_u64, BTreeMap::new(), BTreeMap::new());
        for now in 0..20_000 {
            if let Some(text) = send(&mut client, now) {
                let (back, again, lost) = fates[usize::try_from(sent).unwrap()];
                sent += 1;
                let back_text = ask(&mut server, student(4_000), now, &text).1.remove(0);
                if !lost {
                    for (copy, delay) in std::iter::once(back).chain(again).enumerate() {
                        on_the_way.insert((now + delay, sent, copy), (now, back_text.clone()));
                    }
                }
            }
            for event in events(&mut client) {
                match event {
                    UdpPingEvent::Lost { number } => prop_assert!(settled.insert(number, "lost").is_none()),
                    UdpPingEvent::Ended => prop_assert_eq!(sent, 10),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            while let Some(entry) = on_the_way.first_entry().filter(|entry| entry.key().0 <= now) {
                let (left, mut text) = { let (left, text) = entry.remove(); (left, text.into_bytes()) };
                match client.handle_datagram(ms(now), received(theirs(), now), &mut text) {
                    Some(UdpPingEvent::Reply { number, round_trip, late, .. }) => {
                        prop_assert_eq!(u128::from(now - left), round_trip.length.as_millis());
                        prop_assert!(answered.insert(number, late).is_none());
                        if !late { prop_assert!(settled.insert(number, "answered").is_none()); }
                        else if !heartbeat { prop_assert_eq!(settled.get(&number), Some(&"lost")); }
                    }
                    Some(UdpPingEvent::Duplicate { number }) => prop_assert!(answered.contains_key(&number)),
                    None => prop_assert!(client.poll_timeout().is_none(), "it has ended"),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        let counts = client.counts();
        prop_assert_eq!(counts.sent, 10);
        prop_assert_eq!(counts.answered + counts.lost, settled.len() as u64);
        if !heartbeat { prop_assert_eq!(settled.len(), 10); }
        prop_assert_eq!(answered.len() as u64, counts.answered + counts.late);
    }
}
