//! Client and server by hand, and over links that lose, double and reorder.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use semfio_echo::{
    ClientConfig, ClientCounts, ClientEvent, DatagramClient, DatagramServer, Failed, HEADER, Ping,
    ServerEvent,
};
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Instant, Interval, Now, QuotedError, Received,
    Refused, Seed, Stamp, TransmitId, UnixTime,
};
use semfio_sim::{Chance, LinkConfig, Network};

fn ms(ms: u64) -> Now {
    let mono = Instant::from_nanos(ms * 1_000_000);
    Now { mono, unix: UnixTime::from_nanos(0) }
}

fn stamp(at: u64, clock: Clock) -> Stamp {
    Stamp { at: ms(at).mono, clock }
}

fn ours() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn theirs() -> SocketAddr {
    "192.0.2.7:7".parse().unwrap()
}

fn received(source: SocketAddr, at: u64, clock: Clock) -> Received {
    Received {
        source,
        destination: Some("192.0.2.7".parse().unwrap()),
        hop_limit: Some(61),
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp: stamp(at, clock),
        error: None,
    }
}

fn client(config: ClientConfig) -> DatagramClient {
    DatagramClient::new(theirs(), &Seed::from_u64(3), config)
}

/// Sends one; what was sent.
fn ping(client: &mut DatagramClient, at: u64, payload: &[u8]) -> Vec<u8> {
    client.handle_command(ms(at), Ping { payload }).unwrap();
    let mut datagram = Vec::new();
    let transmit = client.poll_transmit(ms(at), &mut datagram).unwrap();
    assert_eq!((transmit.size, transmit.destination), (datagram.len(), theirs()));
    client.handle_sent(ms(at), transmit.id, stamp(at, Clock::User));
    datagram
}

fn interval(length: u64, from: Clock, to: Clock) -> Interval {
    Interval { length: Duration::from_millis(length), from, to }
}

#[test]
fn a_round_trip_says_whose_clocks_measured_it() {
    let mut client = client(ClientConfig::default());
    let mut datagram = ping(&mut client, 10, b"x");
    let now = ms(15);
    let reply = client.handle_datagram(now, received(theirs(), 14, Clock::Kernel), &mut datagram);
    let round_trip = Some(interval(4, Clock::User, Clock::Kernel));
    let hop_limit = Some(61);
    assert_eq!(reply, Some(ClientEvent::Reply { number: 0, payload: b"x", round_trip, hop_limit }));
    // The kernel says later that it left later.
    client.handle_sent(now, TransmitId(0), stamp(12, Clock::Kernel));
    let round_trip = interval(2, Clock::Kernel, Clock::Kernel);
    assert_eq!(client.poll_event(), Some(ClientEvent::Restamped { number: 0, round_trip }));
    // The process's clock does not undo that.
    client.handle_sent(now, TransmitId(0), stamp(11, Clock::User));
    assert_eq!(client.poll_event(), None);
}

#[test]
fn what_does_not_come_back_is_lost_once_its_time_is_over() {
    let timeout = Duration::from_millis(100);
    let mut client = client(ClientConfig { timeout, ..ClientConfig::default() });
    let mut first = ping(&mut client, 0, b"first");
    ping(&mut client, 50, b"second");
    assert_eq!(client.poll_timeout().unwrap().at, ms(100).mono);
    client.handle_timeout(ms(99));
    assert_eq!(client.poll_event(), None);
    client.handle_timeout(ms(100));
    assert_eq!(client.poll_event(), Some(ClientEvent::Lost { number: 0 }));
    assert_eq!(client.poll_event(), None);
    assert_eq!(client.poll_timeout().unwrap().at, ms(150).mono);
    let late = client.handle_datagram(ms(101), received(theirs(), 101, Clock::User), &mut first);
    assert_eq!(late, None);
    client.handle_timeout(ms(1000));
    assert_eq!(client.poll_timeout(), None);
    let counts = ClientCounts { sent: 2, lost: 2, late: 1, ..ClientCounts::default() };
    assert_eq!(client.counts(), counts);
}

#[test]
fn only_our_own_echoes_count() {
    let mut client = client(ClientConfig::default());
    let datagram = ping(&mut client, 0, b"payload");
    let mut take = |source, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let meta = received(source, 1, Clock::User);
        client.handle_datagram(ms(1), meta, &mut bytes).map(|event| format!("{event:?}"))
    };
    assert_eq!(take(ours(), &datagram), None, "from another");
    assert_eq!(take(theirs(), &datagram[..HEADER - 1]), None, "too short");
    let mut foreign = datagram.clone();
    foreign[0] ^= 1;
    assert_eq!(take(theirs(), &foreign), None, "another's token");
    let mut unsent = datagram.clone();
    unsent[HEADER - 1] = 9;
    assert_eq!(take(theirs(), &unsent), None, "of what was not sent");
    let altered = [&datagram[..HEADER], b"playoad"].concat();
    assert!(take(theirs(), &altered).unwrap().starts_with("Altered { number: 0"));
    assert_eq!(take(theirs(), &datagram).unwrap(), "Duplicate { number: 0 }");
}

#[test]
fn failures_are_told_by_number() {
    let mut client = client(ClientConfig::default());
    let mut quoted = ping(&mut client, 0, b"0");
    ping(&mut client, 0, b"1");
    let error = QuotedError { icmp_type: 3, icmp_code: 3, ..QuotedError::default() };
    let meta = Received { error: Some(error), ..received(theirs(), 1, Clock::Kernel) };
    assert_eq!(client.handle_datagram(ms(1), meta, &mut quoted), None);
    client.handle_send_error(ms(1), TransmitId(1), Failure::Full);
    client.handle_send_error(ms(1), TransmitId(77), Failure::Full);
    let told: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
    let icmp = ClientEvent::Failed { number: 0, why: Failed::Icmp(error) };
    let send = ClientEvent::Failed { number: 1, why: Failed::Send(Failure::Full) };
    assert_eq!(told, [icmp, send]);
    client.handle_timeout(ms(5000));
    assert_eq!(client.poll_event(), None, "and not lost as well");
}

#[test]
fn a_client_is_bounded() {
    let mut small = client(ClientConfig { pending: 2, held: 100, ..ClientConfig::default() });
    let ask = |client: &mut DatagramClient, len| {
        client.handle_command(ms(0), Ping { payload: &vec![0; len] })
    };
    assert_eq!(ask(&mut small, 101), Err(Refused::Full));
    assert_eq!(ask(&mut small, 100), Ok(()));
    assert_eq!(ask(&mut small, 1), Err(Refused::Full));
    assert_eq!(ask(&mut small, 0), Ok(()));
    assert_eq!(ask(&mut small, 0), Err(Refused::Full));
    small.handle_timeout(ms(1000));
    assert_eq!((small.pending(), ask(&mut small, 100)), (0, Ok(())));
    // What expired in the queue is not sent any more; the numbers go on.
    let mut buf = Vec::new();
    assert_eq!(small.poll_transmit(ms(1000), &mut buf).unwrap().id, TransmitId(2));
    let mut usual = client(ClientConfig::default());
    assert!(matches!(ask(&mut usual, 65_492), Err(Refused::Invalid(_))));
    assert_eq!(ask(&mut usual, 65_491), Ok(()));
}

#[test]
fn the_server_says_how_long_a_datagram_was_here() {
    let mut server = DatagramServer::new();
    let meta = received(ours(), 5, Clock::Kernel);
    let event = server.handle_datagram(ms(6), meta, &mut b"data".to_vec()).is_some();
    let mut buf = Vec::new();
    let transmit = server.poll_transmit(ms(7), &mut buf).unwrap();
    assert!(event);
    assert_eq!((&buf[..], transmit.destination), (&b"data"[..], ours()));
    assert_eq!(transmit.source, meta.destination);
    server.handle_sent(ms(7), transmit.id, stamp(7, Clock::User));
    server.handle_sent(ms(9), transmit.id, stamp(8, Clock::Kernel));
    server.handle_sent(ms(9), transmit.id, stamp(9, Clock::Kernel));
    let (id, to) = (transmit.id, ours());
    let sent = |residence| Some(ServerEvent::Sent { id, to, residence });
    assert_eq!(server.poll_event(), sent(interval(2, Clock::Kernel, Clock::User)));
    assert_eq!(server.poll_event(), sent(interval(3, Clock::Kernel, Clock::Kernel)));
    assert_eq!(server.poll_event(), None);
}

#[test]
fn the_server_is_bounded_and_does_not_talk_to_servers() {
    let mut server = DatagramServer::new();
    let mut low = ours();
    low.set_port(1023);
    assert_eq!(server.handle_datagram(ms(0), received(low, 0, Clock::User), &mut [0; 9]), None);
    let mut taken = 0;
    for _ in 0..100_000 {
        let meta = received(ours(), 0, Clock::User);
        taken += u64::from(server.handle_datagram(ms(0), meta, &mut []).is_some());
    }
    assert!(taken > 100 && taken < 10_000, "{taken}");
    let counts = server.counts();
    assert_eq!((counts.refused, counts.dropped), (1, 100_000 - taken));
    let mut buf = Vec::new();
    while let Some(transmit) = server.poll_transmit(ms(0), &mut buf) {
        server.handle_sent(ms(0), transmit.id, stamp(0, Clock::User));
    }
    assert_eq!(server.counts().echoed, taken);
    assert_eq!(std::iter::from_fn(|| server.poll_event()).count(), 1024);
    let meta = received(ours(), 0, Clock::User);
    assert!(server.handle_datagram(ms(0), meta, &mut [0; 65_507]).is_some());
}

#[test]
fn what_does_not_leave_is_told() {
    let mut server = DatagramServer::new();
    server.handle_datagram(ms(0), received(ours(), 0, Clock::User), &mut b"x".to_vec());
    let id = server.poll_transmit(ms(0), &mut Vec::new()).unwrap().id;
    server.handle_send_error(ms(0), id, Failure::Unreachable);
    let failed = ServerEvent::NotSent { id, to: ours(), failure: Failure::Unreachable };
    assert_eq!(server.poll_event(), Some(failed));
}

proptest! {
    /// Whatever the link does, each datagram ends in exactly one way.
    #[test]
    fn each_datagram_has_one_end(seed: u64, loss in 0..60_u32, twice in 0..60_u32, late in 0..60_u32) {
        let mut net = Network::new(seed);
        net.set_default_link(LinkConfig {
            latency: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            loss: Chance::percent(loss),
            duplication: Chance::percent(twice),
            reordering: Chance::percent(late),
            overtaken: Duration::from_millis(200),
            ..LinkConfig::default()
        });
        let timeout = Duration::from_millis(150);
        let config = ClientConfig { timeout, ..ClientConfig::default() };
        let server = net.add_datagram(theirs(), DatagramServer::new(), |_| ());
        let us = DatagramClient::new(theirs(), &Seed::from_u64(seed), config);
        let us = net.add_datagram(ours(), us, |event| match event {
            ClientEvent::Reply { number, round_trip, .. } => {
                let time = round_trip.expect("it was sent");
                assert!(time.length >= Duration::from_millis(40));
                Some(number)
            }
            ClientEvent::Lost { number } => Some(number),
            ClientEvent::Duplicate { .. } | ClientEvent::Restamped { .. } => None,
            other => panic!("{other:?}"),
        });
        for n in 0..20_u8 {
            net.command(us, Ping { payload: &[n; 30] }).unwrap();
            net.run_for(Duration::from_millis(7)).unwrap();
        }
        net.run_until_idle().unwrap();
        let mut ends: Vec<u64> = net.events(us).iter().filter_map(|(_, end)| *end).collect();
        ends.sort_unstable();
        prop_assert_eq!(ends, (0..20).collect::<Vec<_>>());
        let counts = net.machine(us).counts();
        prop_assert_eq!(counts.replies + counts.lost, 20);
        prop_assert!(loss + late > 0 || counts.lost == 0);
        prop_assert!(net.machine(server).counts().echoed >= counts.replies);
    }

    #[test]
    fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), number: u64) {
        let mut us = client(ClientConfig::default());
        let mut datagram = ping(&mut us, 0, &bytes);
        datagram[8..16].copy_from_slice(&number.to_be_bytes());
        us.handle_datagram(ms(1), received(theirs(), 1, Clock::User), &mut datagram);
        us.handle_datagram(ms(1), received(theirs(), 1, Clock::User), &mut bytes.clone());
        us.handle_sent(ms(1), TransmitId(number), stamp(1, Clock::Kernel));
    }
}
