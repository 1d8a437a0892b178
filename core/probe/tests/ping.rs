//! The ping machine by hand, and over links that lose, double and reorder.

mod answerer;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Failure, Instant, Interval, Now, QuotedError,
    Received, Refused, Seed, Stamp, Transmit, UnixTime,
};
use semfio_probe::{
    Echo, Family, IcmpError, MAX_SIZE, Message, PingConfig, PingEvent, Pinger, Reply, Sizes, Stop,
};
use semfio_sim::{Chance, DatagramId, LinkConfig, Network};

use answerer::{Answerer, Manner};

fn us(us: u64) -> Now {
    Now { mono: Instant::from_nanos(us * 1_000), unix: UnixTime::from_nanos(0) }
}

fn ms(at: u64) -> Now {
    us(at * 1_000)
}

fn stamp(now: Now, clock: Clock) -> Stamp {
    Stamp { at: now.mono, clock }
}

fn host(number: u8) -> SocketAddr {
    match number % 2 {
        0 => SocketAddr::new([192, 0, 2, number].into(), 0),
        _ => SocketAddr::new([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into(), 0),
    }
}

fn received(source: IpAddr, now: Now, clock: Clock) -> Received {
    Received {
        source: SocketAddr::new(source, 0),
        destination: None,
        hop_limit: Some(54),
        traffic_class: Some(0),
        carrier: Carrier::Icmp,
        stamp: stamp(now, clock),
        error: None,
    }
}

fn pinger(hosts: &[SocketAddr], config: PingConfig) -> Pinger {
    Pinger::new(us(0), hosts, &Seed::from_u64(5), config).unwrap()
}

/// What is due is done, and what leaves is told to have left at once.
fn sent(machine: &mut Pinger, now: Now) -> Vec<(Transmit, Vec<u8>)> {
    if machine.poll_timeout().is_some_and(|due| due.at <= now.mono) {
        machine.handle_timeout(now);
    }
    let mut all = Vec::new();
    let mut buf = Vec::new();
    while let Some(transmit) = machine.poll_transmit(now, &mut buf) {
        machine.handle_sent(now, transmit.id, stamp(now, Clock::User));
        all.push((transmit, std::mem::take(&mut buf)));
    }
    all
}

fn events(machine: &mut Pinger) -> Vec<PingEvent> {
    std::iter::from_fn(|| machine.poll_event()).collect()
}

fn echo(family: Family, request: &[u8]) -> Echo<'_> {
    match Message::parse(family, request) {
        Ok(Message::EchoRequest(echo)) => echo,
        other => panic!("{other:?}"),
    }
}

fn answer(request: &(Transmit, Vec<u8>)) -> Vec<u8> {
    let family = Family::of(request.0.destination.ip());
    let mut reply = Vec::new();
    echo(family, &request.1).put_reply(family, &mut reply);
    reply
}

/// The echo of a request arrives, and the kernel has seen both.
fn reply(machine: &mut Pinger, now: Now, request: &(Transmit, Vec<u8>)) -> Option<PingEvent> {
    let meta = received(request.0.destination.ip(), now, Clock::Kernel);
    machine.handle_datagram(now, meta, &mut answer(request))
}

fn as_reply(event: Option<PingEvent>) -> Reply {
    match event {
        Some(PingEvent::Reply(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_numbered_and_leave_at_their_times() {
    let config = PingConfig { count: Some(3), ..PingConfig::default() };
    let mut machine = pinger(&[host(2)], config);
    for (at, sequence) in [(0, 1), (1_000, 2), (2_000, 3)] {
        if at > 0 {
            assert!(sent(&mut machine, ms(at - 1)).is_empty());
        }
        let requests = sent(&mut machine, ms(at));
        let [request] = &*requests else { panic!("{requests:?}") };
        assert_eq!((request.0.destination, request.0.carrier), (host(2), Carrier::Icmp));
        let echo = echo(Family::V4, &request.1);
        assert_eq!((echo.sequence, echo.payload.len()), (sequence, 56));
        assert!(echo.payload[8..].iter().zip(8..).all(|(&octet, at)| octet == at));
        let reply = as_reply(reply(&mut machine, ms(at + 20), request));
        assert_eq!((reply.number, reply.size, reply.hop_limit), (sequence.into(), 64, Some(54)));
    }
    assert_eq!(events(&mut machine), [PingEvent::Finished { host: 0 }, PingEvent::Ended]);
    assert_eq!(machine.poll_timeout(), None);
    let counts = machine.host_counts(0).unwrap();
    assert_eq!((counts.sent, counts.answered, counts.waiting), (3, 3, 0));
}

#[test]
fn a_round_trip_says_whose_clocks_measured_it() {
    let mut machine = pinger(&[host(2)], PingConfig { preload: 4, ..PingConfig::default() });
    let requests = sent(&mut machine, us(100));
    let [a, b, c, d] = &*requests else { panic!("{requests:?}") };
    let interval = |length, from, to| Interval { length: Duration::from_micros(length), from, to };

    let told = as_reply(reply(&mut machine, us(150), a));
    assert_eq!(told.round_trip, interval(50, Clock::User, Clock::Kernel));
    // Too late: what was told stays.
    machine.handle_sent(us(151), a.0.id, stamp(us(110), Clock::Kernel));

    machine.handle_sent(us(152), b.0.id, stamp(us(130), Clock::Kernel));
    // The process's clock does not undo that.
    machine.handle_sent(us(152), b.0.id, stamp(us(140), Clock::User));
    let told = as_reply(reply(&mut machine, us(160), b));
    assert_eq!(told.round_trip, interval(30, Clock::Kernel, Clock::Kernel));

    // Stamps that cannot be: of the departure, then of the arrival.
    assert_eq!(machine.counts().refused_stamps, 0);
    for wrong in [us(99), us(171)] {
        machine.handle_sent(us(170), c.0.id, stamp(wrong, Clock::Kernel));
    }
    assert_eq!(machine.counts().refused_stamps, 2);
    for (request, wrong) in [(c, us(98)), (d, us(181))] {
        let meta = received(host(2).ip(), wrong, Clock::Kernel);
        let told = as_reply(machine.handle_datagram(us(180), meta, &mut answer(request)));
        assert_eq!(told.round_trip, interval(80, Clock::User, Clock::User));
    }
    assert_eq!(machine.counts().refused_stamps, 4);
    let counts: Vec<_> =
        machine.round_trips(0).unwrap().by_clocks().map(|(_, all)| all.count()).collect();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn what_is_not_the_echo_of_a_request_is_no_answer() {
    for carrier in [Carrier::Icmp, Carrier::RawIcmp] {
        let config = PingConfig { carrier_v4: carrier, ..PingConfig::default() };
        let mut machine = pinger(&[host(2)], config);
        let request = sent(&mut machine, ms(0)).remove(0);
        let whole = echo(Family::V4, &request.1);
        let mut foreign = 0;
        let try_one = |machine: &mut Pinger, echo: Echo<'_>| {
            let mut bytes = Vec::new();
            echo.put_reply(Family::V4, &mut bytes);
            let meta = received(host(2).ip(), ms(1), Clock::Kernel);
            machine.handle_datagram(ms(1), meta, &mut bytes)
        };
        // A request of another process, with our identifier and sequence.
        let others = [9; 56];
        // The next one, guessed; the same one, from a lap ago.
        for sequence in [whole.sequence + 1, whole.sequence - 1] {
            foreign += 1;
            assert_eq!(try_one(&mut machine, Echo { sequence, ..whole }), None);
        }
        for payload in [&others[..], &whole.payload[..7], &[]] {
            foreign += 1;
            assert_eq!(try_one(&mut machine, Echo { payload, ..whole }), None, "{payload:?}");
        }
        if carrier == Carrier::RawIcmp {
            foreign += 1;
            assert_eq!(try_one(&mut machine, Echo { ident: whole.ident ^ 1, ..whole }), None);
        }
        assert_eq!(machine.counts().foreign, foreign);
        // Our own request, as a raw socket sees it on a loopback, and what is broken.
        let meta = received(host(2).ip(), ms(1), Clock::Kernel);
        assert_eq!(machine.handle_datagram(ms(1), meta, &mut request.1.clone()), None);
        assert_eq!(machine.counts().malformed, 0);
        let mut broken = answer(&request);
        broken[20] ^= 1;
        assert_eq!(machine.handle_datagram(ms(1), meta, &mut broken), None);
        assert_eq!((machine.counts().malformed, machine.counts().foreign), (1, foreign));
        // From another address: told, and still waited for.
        let meta = received(host(4).ip(), ms(1), Clock::Kernel);
        let elsewhere = PingEvent::Elsewhere { host: 0, number: 1, from: host(4).ip() };
        assert_eq!(machine.handle_datagram(ms(1), meta, &mut answer(&request)), Some(elsewhere));
        assert_eq!(machine.host_counts(0).unwrap().waiting, 1);
        assert_eq!(as_reply(reply(&mut machine, ms(2), &request)).number, 1);
    }
}

#[test]
fn an_echo_before_its_request_left_is_a_guess() {
    let mut machine = pinger(&[host(2)], PingConfig::default());
    machine.handle_timeout(ms(0));
    let mut buf = Vec::new();
    let transmit = machine.poll_transmit(ms(0), &mut buf).unwrap();
    let request = (transmit, buf);
    assert_eq!(reply(&mut machine, ms(0), &request), None);
    assert_eq!(machine.counts().foreign, 1);
}

#[test]
fn late_double_and_reordered_echoes_are_told_as_such() {
    let wait = Duration::from_millis(1_500);
    let mut machine = pinger(&[host(3)], PingConfig { wait, ..PingConfig::default() });
    let one = sent(&mut machine, ms(0)).remove(0);
    let two = sent(&mut machine, ms(1_000)).remove(0);
    assert!(sent(&mut machine, ms(1_499)).is_empty());
    assert!(events(&mut machine).is_empty());
    assert!(sent(&mut machine, ms(1_500)).is_empty());
    assert_eq!(events(&mut machine), [PingEvent::Lost { host: 0, number: 1 }]);
    assert_eq!(as_reply(reply(&mut machine, ms(1_600), &two)).behind, 0);
    let late = as_reply(reply(&mut machine, ms(1_700), &one));
    assert_eq!((late.number, late.late, late.behind), (1, true, 1));
    assert_eq!(late.round_trip.length, Duration::from_millis(1_700));
    for _ in 0..1_000 {
        let again = reply(&mut machine, ms(1_800), &two);
        assert!(matches!(again, Some(PingEvent::Duplicate(_))), "{again:?}");
    }
    let counts = machine.host_counts(0).unwrap();
    assert_eq!((counts.answered, counts.late, counts.reordered), (2, 1, 1));
    assert_eq!((counts.duplicates, counts.bursts, counts.longest_burst), (1_000, 1, 1));
    assert_eq!(machine.round_trips(0).unwrap().most().unwrap().1.count(), 2);
}

#[test]
fn a_changed_payload_is_told_with_its_place() {
    let mut machine = pinger(&[host(3)], PingConfig { preload: 5, ..PingConfig::default() });
    let requests = sent(&mut machine, ms(0));
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, Option<usize>); 5] = [
        (|_| {}, None),
        (|reply| reply[8 + 8] ^= 1, Some(8)),
        (|reply| reply[8 + 55] ^= 1, Some(55)),
        (|reply| reply.truncate(8 + 40), Some(40)),
        (|reply| reply.push(0), Some(56)),
    ];
    for (request, (change, altered)) in requests.iter().zip(changes) {
        let mut bytes = answer(request);
        change(&mut bytes);
        let meta = received(host(3).ip(), ms(1), Clock::Kernel);
        let told = as_reply(machine.handle_datagram(ms(1), meta, &mut bytes));
        assert_eq!(told.altered, altered);
    }
    assert_eq!(machine.host_counts(0).unwrap().altered, 4);
}

#[test]
fn icmp_errors_find_their_probe_by_what_they_quote() {
    let config = PingConfig { carrier_v4: Carrier::RawIcmp, preload: 3, ..PingConfig::default() };
    let mut machine = pinger(&[host(2)], config);
    let requests = sent(&mut machine, ms(0));
    let router: IpAddr = "203.0.113.1".parse().unwrap();
    let datagram = |request: &[u8], to: [u8; 4]| {
        let mut quote = Vec::new();
        etherparse::PacketBuilder::ipv4([192, 0, 2, 99], to, 1)
            .udp(1, 1)
            .write(&mut quote, &[])
            .unwrap();
        quote.truncate(20);
        quote[3] = 20 + 64;
        quote[9] = 1;
        [&*quote, request].concat()
    };
    let error = |machine: &mut Pinger, original: &[u8]| {
        let error = IcmpError { icmp_type: 11, icmp_code: 0, info: 0, original, extension: None };
        let mut bytes = Vec::new();
        error.put(Family::V4, &mut bytes);
        machine.handle_datagram(ms(5), received(router, ms(5), Clock::Kernel), &mut bytes)
    };
    let told = |number| {
        let error = QuotedError {
            offender: Some(router),
            icmp_type: 11,
            icmp_code: 0,
            ..QuotedError::default()
        };
        Some(PingEvent::Unreachable { host: 0, number, error })
    };
    let [one, two, three] = &*requests else { panic!("{requests:?}") };
    // All that an old router quotes: 8 octets after the IP header.
    assert_eq!(error(&mut machine, &datagram(&one.1[..8], [192, 0, 2, 2])), told(1));
    assert_eq!(error(&mut machine, &datagram(&two.1, [192, 0, 2, 2])), told(2));
    assert_eq!(error(&mut machine, &datagram(&two.1, [192, 0, 2, 2])), None, "once is enough");
    assert_eq!(machine.counts().foreign, 0);
    // To somebody else, of somebody else, cut too short.
    let mut others = three.1.clone();
    others[4] ^= 1;
    let mut token = three.1.clone();
    token[9] ^= 1;
    for foreign in [
        datagram(&three.1, [192, 0, 2, 4]),
        datagram(&others, [192, 0, 2, 2]),
        datagram(&token, [192, 0, 2, 2]),
        datagram(&three.1[..7], [192, 0, 2, 2]),
    ] {
        assert_eq!(error(&mut machine, &foreign), None);
    }
    assert_eq!(machine.counts().foreign, 4);
    // An echo is worth more than what a router says.
    let late = as_reply(reply(&mut machine, ms(9), one));
    assert!(late.late);
    let counts = machine.host_counts(0).unwrap();
    assert_eq!((counts.unreachable, counts.answered, counts.waiting), (2, 1, 1));
}

#[test]
fn an_error_queue_gives_the_request_back() {
    for place in [2, 3] {
        let mut machine = pinger(&[host(place)], PingConfig::default());
        let mut request = sent(&mut machine, ms(0)).remove(0);
        let error =
            QuotedError { icmp_type: 3, icmp_code: 4, info: 1400, ..QuotedError::default() };
        let mut meta = received(host(place).ip(), ms(1), Clock::Kernel);
        meta.error = Some(error);
        // The identifier is the socket's.
        request.1[4] ^= 0xff;
        let told = machine.handle_datagram(ms(1), meta, &mut request.1[..12]);
        assert_eq!(told, Some(PingEvent::Unreachable { host: 0, number: 1, error }));
    }
}

#[test]
fn what_does_not_leave_is_told_and_the_rest_goes_on() {
    let mut machine = pinger(&[host(2)], PingConfig { count: Some(2), ..PingConfig::default() });
    machine.handle_timeout(ms(0));
    let mut buf = Vec::new();
    let transmit = machine.poll_transmit(ms(0), &mut buf).unwrap();
    machine.handle_send_error(ms(0), transmit.id, Failure::Denied);
    let failure = Failure::Denied;
    assert_eq!(events(&mut machine), [PingEvent::NotSent { host: 0, number: 1, failure }]);
    let request = sent(&mut machine, ms(1_000)).remove(0);
    as_reply(reply(&mut machine, ms(1_001), &request));
    assert_eq!(events(&mut machine).len(), 2, "finished");
    let counts = machine.host_counts(0).unwrap();
    assert_eq!((counts.sent, counts.not_sent, counts.longest_burst), (2, 1, 1));
}

#[test]
fn the_last_wait_is_twice_the_longest_round_trip() {
    let config = PingConfig { count: Some(2), ..PingConfig::default() };
    let mut machine = pinger(&[host(2)], config.clone());
    let request = sent(&mut machine, ms(0)).remove(0);
    as_reply(reply(&mut machine, ms(900), &request));
    sent(&mut machine, ms(1_000));
    assert_eq!(machine.poll_timeout().unwrap().at, ms(2_800).mono);
    machine.handle_timeout(ms(2_800));
    let told =
        [PingEvent::Lost { host: 0, number: 2 }, PingEvent::Finished { host: 0 }, PingEvent::Ended];
    assert_eq!(events(&mut machine), told);

    // Nobody has answered yet: all the time there is, until somebody does.
    let mut machine = pinger(&[host(2)], config);
    sent(&mut machine, ms(0));
    let request = sent(&mut machine, ms(1_000)).remove(0);
    assert_eq!(machine.poll_timeout().unwrap().at, ms(10_000).mono);
    as_reply(reply(&mut machine, ms(1_100), &request));
    assert_eq!(machine.poll_timeout().unwrap().at, ms(2_000).mono);
}

#[test]
fn a_deadline_and_a_stop_leave_open_what_is_on_its_way() {
    for stop in [false, true] {
        let deadline = (!stop).then_some(Duration::from_millis(1_010));
        let mut machine =
            pinger(&[host(2), host(3)], PingConfig { deadline, ..Default::default() });
        sent(&mut machine, ms(0));
        sent(&mut machine, ms(10));
        let request = sent(&mut machine, ms(1_000)).remove(0);
        if stop {
            machine.handle_command(ms(1_010), Stop).unwrap();
        } else {
            assert_eq!(machine.poll_timeout(), Some(Deadline { at: ms(1_010).mono, why: "end" }));
            machine.handle_timeout(ms(1_010));
        }
        let told =
            [PingEvent::Finished { host: 0 }, PingEvent::Finished { host: 1 }, PingEvent::Ended];
        assert_eq!(events(&mut machine), told);
        assert_eq!(machine.host_counts(0).unwrap().waiting, 2);
        assert_eq!(reply(&mut machine, ms(1_011), &request), None, "all is told");
        assert!(sent(&mut machine, ms(9_000)).is_empty());
        machine.handle_command(ms(9_000), Stop).unwrap();
        assert!(events(&mut machine).is_empty());
    }
}

#[test]
fn with_a_deadline_the_count_is_of_echoes() {
    let deadline = Some(Duration::from_secs(60));
    let mut machine =
        pinger(&[host(2)], PingConfig { deadline, count: Some(1), ..Default::default() });
    sent(&mut machine, ms(0));
    let request = sent(&mut machine, ms(1_000)).remove(0);
    as_reply(reply(&mut machine, ms(1_001), &request));
    // The first may still come, for as long as the last wait says.
    machine.handle_timeout(ms(2_000));
    assert_eq!(events(&mut machine).len(), 3);
}

#[test]
fn a_flood_goes_in_lock_step_and_a_window_keeps_so_many_on_their_way() {
    for window in [1, 16] {
        let config =
            PingConfig { flood: true, preload: window, count: Some(5_000), ..Default::default() };
        let mut machine = pinger(&[host(2)], config);
        let mut waiting = sent(&mut machine, us(0));
        let mut numbers = 0;
        let mut at = 0;
        while let Some(request) = (!waiting.is_empty()).then(|| waiting.remove(0)) {
            let most = usize::from(window);
            assert!(waiting.len() < most);
            if numbers < 4_000 {
                assert_eq!(waiting.len() + 1, most, "{numbers}");
            }
            numbers += 1;
            at += 7;
            as_reply(reply(&mut machine, us(at), &request));
            waiting.extend(sent(&mut machine, us(at)));
        }
        assert_eq!(numbers, 5_000);
        assert_eq!(events(&mut machine), [PingEvent::Finished { host: 0 }, PingEvent::Ended]);
    }
}

#[test]
fn a_flood_without_answers_sends_a_hundred_a_second() {
    let mut machine = pinger(&[host(2)], PingConfig { flood: true, ..Default::default() });
    let count: usize = (0..1_000).map(|at| sent(&mut machine, ms(at)).len()).sum();
    assert_eq!(count, 100);
}

#[test]
fn nothing_is_made_up_for_after_a_pause() {
    let mut machine = pinger(&[host(2)], PingConfig::default());
    sent(&mut machine, ms(0));
    assert_eq!(sent(&mut machine, ms(1_300)).len(), 1, "a little late");
    assert_eq!(machine.poll_timeout().unwrap().at, ms(2_000).mono, "and on time again");
    assert_eq!(sent(&mut machine, ms(8_500)).len(), 1, "the machine slept");
    assert_eq!(machine.poll_timeout().unwrap().at, ms(9_500).mono);
}

#[test]
fn the_sequence_wraps_and_old_echoes_are_not_of_the_new_lap() {
    let config = PingConfig { flood: true, ..PingConfig::default() };
    let mut machine = pinger(&[host(2)], config);
    let mut requests = sent(&mut machine, us(0));
    let first = requests[0].clone();
    for at in 1..=65_540 {
        let request = requests.remove(0);
        assert_eq!(as_reply(reply(&mut machine, us(at), &request)).number, at);
        requests = sent(&mut machine, us(at));
    }
    let sequence = |request: &(Transmit, Vec<u8>)| echo(Family::V4, &request.1).sequence;
    assert_eq!(sequence(&requests[0]), 5);
    assert_eq!(sequence(&first), 1);
    assert_eq!(reply(&mut machine, us(66_000), &first), None);
    assert_eq!((machine.counts().foreign, machine.host_counts(0).unwrap().duplicates), (1, 0));
}

#[test]
fn when_all_that_are_remembered_wait_the_next_waits_with_them() {
    let interval = Duration::from_micros(1);
    let mut machine = pinger(&[host(2)], PingConfig { interval, ..PingConfig::default() });
    let count: usize = (0..40_000).map(|at| sent(&mut machine, us(at)).len()).sum();
    assert_eq!(count, 32_768);
    // Ten seconds after the first, it makes room.
    let wait = 10_000_000;
    assert_eq!(machine.poll_timeout().unwrap().at, us(wait).mono);
    assert_eq!(sent(&mut machine, us(wait)).len(), 1);
    assert_eq!(events(&mut machine), [PingEvent::Lost { host: 0, number: 1 }]);
}

#[test]
fn sizes_and_patterns() {
    let sizes = Sizes { first: 0, last: 9, step: 4 };
    let config = PingConfig { sizes, pattern: vec![0xab], preload: 5, ..PingConfig::default() };
    let mut machine = pinger(&[host(2)], config);
    let requests = sent(&mut machine, ms(0));
    let payloads: Vec<_> =
        requests.iter().map(|request| echo(Family::V4, &request.1).payload.len()).collect();
    assert_eq!(payloads, [0, 4, 8, 0, 4]);
    for request in &requests {
        as_reply(reply(&mut machine, ms(1), request));
    }
    let config = |sizes: [u16; 2], pattern, preload| PingConfig {
        sizes: Sizes { first: sizes[0], last: sizes[1], step: 0 },
        pattern: vec![0; pattern],
        preload,
        ..PingConfig::default()
    };
    for (wrong, is_wrong) in [
        (config([MAX_SIZE, MAX_SIZE], 16, 1), false),
        (config([MAX_SIZE, MAX_SIZE + 1], 16, 1), true),
        (config([2, 1], 16, 1), true),
        (config([1, 1], 17, 1), true),
        (config([1, 1], 16, 0), true),
    ] {
        let machine = Pinger::new(us(0), &[host(2)], &Seed::from_u64(1), wrong);
        assert_eq!(matches!(machine, Err(Refused::Invalid(_))), is_wrong);
    }
    assert!(Pinger::new(us(0), &[], &Seed::from_u64(1), PingConfig::default()).is_err());
}

type Told = DatagramId<Pinger, PingEvent>;

/// A pinger of these hosts in a network, each answering in its manner.
fn network(seed: u64, link: LinkConfig, manners: &[Manner], config: PingConfig) -> (Network, Told) {
    let mut network = Network::new(seed);
    network.set_default_link(link);
    let mut hosts = Vec::new();
    for (place, &manner) in manners.iter().enumerate() {
        let address = host(u8::try_from(place).unwrap() + 2);
        hosts.push(address);
        network.add_datagram(address, Answerer::new(manner), |event| event);
    }
    let ours = SocketAddr::new([192, 0, 2, 1].into(), 0);
    let machine = Pinger::new(network.now(), &hosts, &Seed::from_u64(seed), config).unwrap();
    let id = network.add_datagram(ours, machine, |event| event);
    (network, id)
}

#[test]
fn hosts_of_every_manner_at_once_and_only_honest_echoes_count() {
    let manners = [
        Manner::Honest,
        Manner::Honest,
        Manner::Silent,
        Manner::Again(1_000),
        Manner::Guessing,
        Manner::Garbling,
        Manner::Nonsense,
    ];
    let link = LinkConfig { latency: Duration::from_millis(3), ..LinkConfig::default() };
    let config = PingConfig {
        count: Some(5),
        interval: Duration::from_millis(100),
        wait: Duration::from_secs(2),
        ..PingConfig::default()
    };
    let (mut network, id) = network(1, link, &manners, config);
    network.run_until_idle().unwrap();
    let machine = network.machine(id);
    for (place, manner) in manners.into_iter().enumerate() {
        let counts = machine.host_counts(place).unwrap();
        let (answered, duplicates) = match manner {
            Manner::Honest => (5, 0),
            // What comes after the last host has finished is not heard.
            Manner::Again(times) => (5, 5 * (times - 1)),
            Manner::Garbling => (5, 0),
            Manner::Silent | Manner::Guessing | Manner::Nonsense => (0, 0),
        };
        assert_eq!((counts.sent, counts.answered), (5, answered), "{manner:?}");
        assert!(counts.duplicates <= duplicates, "{manner:?}: {counts:?}");
        assert!(duplicates == 0 || counts.duplicates >= 4 * 999, "{manner:?}: {counts:?}");
        let altered = if matches!(manner, Manner::Garbling) { 5 } else { 0 };
        assert_eq!((counts.altered, counts.waiting), (altered, 0), "{manner:?}");
        let longest = if answered == 0 { 5 } else { 0 };
        assert_eq!(counts.longest_burst, longest, "{manner:?}");
        let lengths = machine.round_trips(place).unwrap();
        if let Some(((from, to), all)) = lengths.most() {
            assert_eq!((from, to), (Clock::Kernel, Clock::Kernel), "{manner:?}");
            assert_eq!(
                (all.min(), all.max()),
                (Duration::from_millis(6), Duration::from_millis(6))
            );
        }
    }
    assert!(machine.counts().foreign > 0);
    let ended = network.events(id).iter().filter(|(_, event)| *event == PingEvent::Ended);
    assert_eq!(ended.count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a network does, what is told of each probe adds up to the counts, and the same
    /// seed tells the same.
    #[test]
    fn over_a_rough_network_all_adds_up(
        seed: u64,
        loss in 0_u32..60,
        duplication in 0_u32..40,
        reordering in 0_u32..40,
        count in 1_u64..40,
        hosts in 1_usize..4,
        flood: bool,
    ) {
        let percent = |percent: u32| Chance::percent(percent);
        let link = LinkConfig {
            latency: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
            loss: percent(loss),
            duplication: percent(duplication),
            reordering: percent(reordering),
            overtaken: Duration::from_millis(200),
            ..LinkConfig::default()
        };
        let config = PingConfig {
            count: Some(count),
            interval: Duration::from_millis(20),
            wait: Duration::from_millis(150),
            flood,
            ..PingConfig::default()
        };
        let run = || {
            let (mut network, id) =
                network(seed, link.clone(), &[Manner::Honest; 3][..hosts], config.clone());
            network.run_until_idle().unwrap();
            let told: Vec<_> = network.events(id).to_vec();
            let counts: Vec<_> =
                (0..hosts).map(|host| network.machine(id).host_counts(host).unwrap()).collect();
            (told, counts, network.machine(id).counts())
        };
        let (told, counts, odd) = run();
        prop_assert_eq!(odd.refused_stamps + odd.malformed + odd.untold, 0);
        for (host, counts) in counts.iter().enumerate() {
            let of = |is: &dyn Fn(&PingEvent) -> bool| {
                u64::try_from(told.iter().filter(|(_, event)| is(event)).count()).unwrap()
            };
            let replies = of(&|event| matches!(event, PingEvent::Reply(reply) if reply.host == host));
            let late = of(&|event| {
                matches!(event, PingEvent::Reply(reply) if reply.host == host && reply.late)
            });
            let lost = of(&|event| matches!(event, PingEvent::Lost { host: of, .. } if *of == host));
            let twice =
                of(&|event| matches!(event, PingEvent::Duplicate(reply) if reply.host == host));
            prop_assert_eq!((counts.sent, counts.waiting), (count, 0));
            prop_assert_eq!((counts.answered, counts.late), (replies, late));
            prop_assert_eq!(counts.duplicates, twice);
            prop_assert_eq!(counts.sent, replies + lost - late);
            if loss == 0 {
                prop_assert!(lost == late + (counts.sent - replies), "only what is late is lost");
            }
            if duplication == 0 {
                prop_assert_eq!(twice, 0);
            }
        }
        prop_assert_eq!(run(), (told, counts, odd));
    }
}

/// Five seconds of pings to a host 20 ms away, with the wall clock as `wall` has it by the millisecond.
fn five_seconds(wall: fn(u64) -> u64) -> (Vec<PingEvent>, Pinger) {
    let config = PingConfig {
        interval: Duration::from_millis(100),
        wait: Duration::from_millis(700),
        deadline: Some(Duration::from_secs(5)),
        ..PingConfig::default()
    };
    let mut machine = pinger(&[host(2)], config);
    let (mut told, mut under_way) = (Vec::new(), Vec::new());
    for at in 0..=5_000 {
        let now = Now { unix: UnixTime::from_nanos(wall(at) * 1_000_000), ..ms(at) };
        under_way.extend(sent(&mut machine, now).into_iter().map(|request| (at + 20, request)));
        while under_way.first().is_some_and(|(due, _)| *due <= at) {
            let (_, request) = under_way.remove(0);
            // Every seventh is lost.
            if request.0.id.0 % 7 > 0 {
                told.extend(reply(&mut machine, now, &request));
            }
        }
        told.extend(events(&mut machine));
    }
    (told, machine)
}

#[test]
fn setting_the_wall_clock_changes_nothing() {
    const DAY: u64 = 86_400_000;
    let (told, machine) = five_seconds(|at| DAY + at);
    assert!(told.contains(&PingEvent::Ended) && told.len() > 50, "{told:?}");
    let hour_back = |at| if at < 2_345 { DAY + at } else { DAY + at - 3_600_000 };
    let hour_on = |at| if at < 2_345 { DAY + at } else { DAY + at + 3_600_000 };
    for wall in [hour_back, hour_on, |_| 0] {
        let (again, set) = five_seconds(wall);
        assert_eq!(again, told);
        assert_eq!(set.host_counts(0), machine.host_counts(0));
        assert_eq!(set.round_trips(0), machine.round_trips(0));
        assert_eq!(set.counts(), machine.counts());
    }
}
