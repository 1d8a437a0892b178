//! Traces over the map of the lab and over others, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Instant, Now, QuotedError, Received, Refused, Seed,
    Stamp, UnixTime,
};
use semfio_probe::simulation::{
    Addresses, Internet, NodeId, Place, Ran, Rewrite, Size, Topology, run,
};
use semfio_probe::{
    AnswerKind, Ended, Family, Heard, Hop, Label, Live, Method, Outcome, ProbesConfig, Reached,
    Rewritten, Sockets, Stop, TraceConfig, TraceEvent, Tracer, Verdict,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn of(family: Family, addresses: Addresses) -> IpAddr {
    match family {
        Family::V4 => addresses.v4.into(),
        Family::V6 => addresses.v6.into(),
    }
}

fn address(family: Family, place: Place) -> IpAddr {
    of(family, place.addresses())
}

/// The client, as the first router sees it.
fn ours(family: Family) -> IpAddr {
    of(family, Topology::addresses(1, 1))
}

fn config(method: Method, sockets: Sockets, to: IpAddr) -> TraceConfig {
    TraceConfig::new(ProbesConfig {
        method,
        sockets,
        destination: SocketAddr::new(to, 0),
        source: Some(SocketAddr::new(ours(Family::of(to)), 40_000)),
        traffic_class: 0,
    })
}

fn udp(to: IpAddr) -> TraceConfig {
    config(Method::Udp, Sockets::Datagram, to)
}

fn methods() -> [(Method, Sockets); 5] {
    [
        (Method::Icmp, Sockets::Datagram),
        (Method::Icmp, Sockets::Raw),
        (Method::Udp, Sockets::Datagram),
        (Method::Udp, Sockets::Raw),
        (Method::Tcp, Sockets::Raw),
    ]
}

/// An event that borrows nothing.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Hop { at: u8, from: IpAddr, number: u64, late: bool },
    Narrow { at: u8, from: IpAddr, kind: AnswerKind },
    Silent(u8),
    NotSent(u8, Failure),
    Cycle(u64),
    Done(Ended),
}

fn told(event: &TraceEvent<'_>) -> Told {
    match *event {
        TraceEvent::Hop(answer) => Told::Hop {
            at: answer.probe.hop_limit,
            from: answer.from,
            number: answer.probe.number,
            late: answer.late,
        },
        TraceEvent::Narrow(answer) => {
            Told::Narrow { at: answer.probe.hop_limit, from: answer.from, kind: answer.kind }
        }
        TraceEvent::Silent(probe) => Told::Silent(probe.hop_limit),
        TraceEvent::NotSent { probe, failure } => Told::NotSent(probe.hop_limit, failure),
        TraceEvent::Cycle { number } => Told::Cycle(number),
        TraceEvent::Done(ended) => Told::Done(ended),
    }
}

struct Trace {
    ran: Ran<Tracer, Told>,
}

fn trace(map: Topology, config: TraceConfig) -> Trace {
    let mut map = map;
    map.client.raw = config.probes.sockets == Sockets::Raw;
    let tracer = Tracer::new(Now::default(), &Seed::from_u64(9), config).unwrap();
    let ran = run(&mut Internet::new(map, 5), tracer, |event| told(&event));
    assert!(ran.ended, "it goes on for ever");
    Trace { ran }
}

impl Trace {
    fn machine(&self) -> &Tracer {
        &self.ran.machine
    }

    fn ended(&self) -> Ended {
        let done = |told: &Told| matches!(told, Told::Done(_));
        let all: Vec<_> = self.ran.events.iter().filter(|(_, told)| done(told)).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(self.ran.events.last().unwrap().1, all[0].1);
        let ended = self.machine().ended().unwrap();
        assert_eq!(all[0].1, Told::Done(ended));
        ended
    }

    /// When it was done.
    fn took(&self) -> Duration {
        let at = |told: &Told| matches!(told, Told::Done(_));
        let done = self.ran.events.iter().find(|(_, told)| at(told)).unwrap();
        done.0.mono.saturating_since(Instant::default())
    }

    /// Who answered at each hop; nobody where it is silent, a panic where they are several.
    fn path(&self) -> Vec<Option<IpAddr>> {
        let hops = self.machine().hops();
        hops.map(|(_, hop)| {
            assert!(hop.nodes.len() < 2, "{hop:?}");
            hop.address()
        })
        .collect()
    }

    fn hop(&self, at: u8) -> &Hop {
        self.machine().hop(at).unwrap()
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.machine().hops().map(|(at, _)| self.machine().verdict(at)).collect()
    }
}

fn chain(family: Family, hops: u8) -> Vec<Option<IpAddr>> {
    (1..=hops).map(|hop| Some(address(family, Place::Hop(hop)))).collect()
}

#[test]
fn the_chain_is_found_by_all_methods() {
    for (method, sockets) in methods() {
        for family in FAMILIES {
            let to = address(family, Place::Hop(11));
            let trace = trace(Topology::lab(2), config(method, sockets, to));
            assert_eq!(trace.ended(), Ended::Reached, "{method:?} {sockets:?} {family:?}");
            assert_eq!(trace.path(), chain(family, 11));
            assert_eq!(trace.machine().reached(), Some(11));
            assert_eq!(trace.machine().settled(), 11);
            for (at, hop) in trace.machine().hops() {
                assert_eq!((hop.counts.sent, hop.counts.answered), (3, 3), "{at} {method:?}");
                for outcome in &hop.outcomes {
                    let Outcome::Answered(Heard { kind, .. }) = outcome else {
                        panic!("{outcome:?}")
                    };
                    let reached = match method {
                        Method::Icmp => Reached::Echo,
                        Method::Udp => Reached::PortUnreachable,
                        Method::Tcp => Reached::Reset,
                    };
                    let is_last = at == 11;
                    let kinds = [AnswerKind::TimeExceeded, AnswerKind::Reached(reached)];
                    assert_eq!(*kind, kinds[usize::from(is_last)]);
                }
                let nothing = hop.rewritten.map(|rewritten| rewritten.is_nothing());
                let told = matches!(sockets, Sockets::Raw) && (at < 11 || method == Method::Udp);
                assert_eq!(nothing, told.then_some(true));
            }
            assert!(trace.verdicts().iter().all(|&verdict| verdict == Verdict::Answers));
            assert_eq!(trace.machine().probes().counts().foreign, 0);
        }
    }
}

#[test]
fn a_silent_router_is_a_gap_in_the_path() {
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let to = address(family, Place::Hidden);
            let trace = trace(Topology::lab(2), config(method, sockets, to));
            assert_eq!(trace.ended(), Ended::Reached);
            let mut path = chain(family, 2);
            path.extend([None, Some(to)]);
            assert_eq!(trace.path(), path);
            assert_eq!(trace.hop(3).outcomes, [Outcome::Silent; 3]);
            assert_eq!(trace.machine().verdict(3), Verdict::Silent);
            assert_eq!(trace.machine().verdict(4), Verdict::Answers);
        }
    }
}

/// A line of so many routers and a host, each link so long.
fn line(hops: u16, latency: Duration) -> (Topology, Vec<NodeId>) {
    let mut map = Topology::new();
    let mut nodes = vec![Topology::CLIENT];
    for number in 1..=hops {
        let next = map.add();
        let last = *nodes.last().unwrap();
        map.link(last, next, number).latency = latency;
        map.route_default(last, &[next]);
        nodes.push(next);
    }
    (map, nodes)
}

#[test]
fn one_silent_hop_costs_two_round_trips_and_10_ms_at_most() {
    for micros in [0, 300, 30_000] {
        for queries in [1, 3] {
            for hops in [2_u16, 11, 20] {
                let to = of(Family::V4, Topology::addresses(hops, 2));
                let config = TraceConfig { queries, ..udp(to) };
                let latency = Duration::from_micros(micros);
                let (map, _) = line(hops, latency);
                let whole = trace(map, config);
                assert_eq!(whole.ended(), Ended::Reached);
                let longest = 2 * latency * u32::from(hops);
                for silent in 1..hops {
                    let (mut map, nodes) = line(hops, latency);
                    map.node(nodes[usize::from(silent)]).errors.silent = true;
                    let trace = trace(map, config);
                    assert_eq!(trace.ended(), Ended::Reached);
                    assert_eq!(trace.machine().hops().count(), usize::from(hops));
                    let most = whole.took() + 2 * longest + Duration::from_millis(10);
                    assert!(trace.took() <= most, "{micros} {queries} {hops} {silent}");
                }
            }
        }
    }
}

#[test]
fn dead_ends_say_what_they_are() {
    let unreachable =
        |family, v4, v6| Ended::Unreachable { code: if family == Family::V4 { v4 } else { v6 } };
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let dead = |network| {
                let to = of(family, Topology::addresses(network, 9));
                trace(Topology::lab(2), config(method, sockets, to))
            };
            for (network, code) in [
                (250, unreachable(family, 1, 0)),
                (251, unreachable(family, 13, 1)),
                (254, unreachable(family, 0, 0)),
            ] {
                let trace = dead(network);
                assert_eq!(trace.ended(), code, "{network} {method:?}");
                assert_eq!(trace.path(), chain(family, 4));
            }
            let trace = dead(252);
            assert_eq!(trace.ended(), Ended::GapLimit);
            let mut path = chain(family, 4);
            // Its router drops what is for others before it looks at its TTL.
            path.truncate(3);
            path.resize(8, None);
            assert_eq!(trace.path(), path);
            let trace = dead(253);
            assert_eq!(trace.ended(), Ended::Loop);
            let mut path = chain(family, 4);
            let others = [5, 6].map(|hop| address(family, Place::Hop(hop)));
            path.extend([others; 3].concat().into_iter().map(Some));
            assert_eq!(trace.path(), path);
        }
    }
}

#[test]
fn ports_say_what_guards_them() {
    for family in FAMILIES {
        let to = address(family, Place::Hop(11));
        let at = |method, port| {
            let mut config = config(method, Sockets::Raw, to);
            config.probes.destination.set_port(port);
            trace(Topology::lab(2), config)
        };
        let kind = |trace: &Trace, hop| match trace.hop(hop).outcomes[0] {
            Outcome::Answered(Heard { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        for (port, how) in
            [(7007, Reached::SynAck), (7008, Reached::SynAck), (7009, Reached::Reset)]
        {
            let trace = at(Method::Tcp, port);
            assert_eq!((trace.ended(), trace.path()), (Ended::Reached, chain(family, 11)));
            assert_eq!(kind(&trace, 11), AnswerKind::Reached(how));
        }
        let filtered = at(Method::Tcp, 7010);
        assert_eq!(filtered.ended(), Ended::GapLimit);
        // Where it is filtered nothing comes back at all.
        let mut path = chain(family, 9);
        path.resize(14, None);
        assert_eq!(filtered.path(), path);
        // All probes but the server's own echo.
        let trace = at(Method::Udp, 7007);
        assert_eq!((trace.ended(), trace.path()), (Ended::Reached, chain(family, 11)));
        assert_eq!(kind(&trace, 11), AnswerKind::Reached(Reached::Datagram));
        for method in [Method::Tcp, Method::Udp] {
            let trace = at(method, 7011);
            let code = if family == Family::V4 { 13 } else { 1 };
            assert_eq!(trace.ended(), Ended::Unreachable { code });
            assert_eq!(trace.path(), chain(family, 10));
            assert_eq!(kind(&trace, 10), AnswerKind::Unreachable { code });
        }
    }
}

#[test]
fn a_trace_stays_on_one_of_several_equal_paths() {
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let to = address(family, Place::Far);
            let mut ways = Vec::new();
            for flow in 0..16 {
                let config = TraceConfig { flow, ..config(method, sockets, to) };
                let trace = trace(Topology::lab(4), config);
                assert_eq!(trace.ended(), Ended::Reached);
                // It panics where two answer at one hop.
                ways.push(trace.path()[3].unwrap());
            }
            ways.sort_unstable();
            ways.dedup();
            assert!(ways.len() > 1, "{method:?} {family:?}: one path for all flows");
        }
    }
}

#[test]
fn the_mtu_of_the_path_is_told_hop_by_hop() {
    for family in FAMILIES {
        for (method, sockets) in &methods()[..4] {
            for limited in [false, true] {
                let to = address(family, Place::Small);
                let mut map = Topology::lab(2);
                map.client.size = Size::Probed;
                if limited {
                    for place in [Place::Hop(4), Place::Thin] {
                        let errors = &mut map.node(Topology::place(place)).errors;
                        errors.limit = Some((2, Duration::from_secs(1)));
                    }
                }
                let queries = if limited { 1 } else { 3 };
                let config = config(*method, *sockets, to);
                let trace = trace(map, TraceConfig { mtu: Some(1_500), queries, ..config });
                assert_eq!(trace.ended(), Ended::Reached, "{method:?} {family:?} {limited}");
                let mtus: Vec<_> = trace.machine().hops().map(|(_, hop)| hop.mtu).collect();
                let expected = [1_500, 1_500, 1_500, 1_500, 1_400, 1_280].map(Some);
                assert_eq!(mtus, expected, "{method:?} {family:?} {limited}");
                let mut narrow: Vec<_> = trace
                    .ran
                    .events
                    .iter()
                    .filter_map(|(_, told)| {
                        let Told::Narrow { from, kind, .. } = told else { return None };
                        Some((*from, *kind))
                    })
                    .collect();
                narrow.dedup();
                let too_big =
                    |place, mtu| (address(family, place), AnswerKind::PacketTooBig { mtu });
                let expected = [too_big(Place::Hop(4), 1_400), too_big(Place::Thin, 1_280)];
                assert_eq!(narrow, expected, "{method:?} {family:?}");
                assert!(trace.machine().hops().all(|(_, hop)| hop.counts.lost == 0));
            }
        }
    }
}

#[test]
fn a_first_mtu_that_does_not_fit_the_first_link_is_made_smaller() {
    for family in FAMILIES {
        let mut map = Topology::lab(2);
        map.client.size = Size::Probed;
        let to = address(family, Place::Small);
        let trace = trace(map, TraceConfig { mtu: Some(9_000), ..udp(to) });
        assert_eq!(trace.ended(), Ended::Reached);
        assert_eq!(trace.hop(1).mtu, Some(1_500));
        assert_eq!(trace.hop(6).mtu, Some(1_280));
        let not_sent = |told: &Told| matches!(told, Told::NotSent(..));
        assert!(!trace.ran.events.iter().any(|(_, told)| not_sent(told)));
    }
}

#[test]
fn what_is_too_big_ends_a_trace_that_does_not_look_for_the_mtu() {
    for family in FAMILIES {
        let mut map = Topology::lab(2);
        map.client.size = Size::Probed;
        let trace = trace(map, TraceConfig { size: 1_450, ..udp(address(family, Place::Small)) });
        assert_eq!(trace.ended(), Ended::TooBig { mtu: 1_400 });
        assert_eq!(trace.path().len(), 5);
        assert_eq!(trace.path()[4], Some(address(family, Place::Hop(4))));
    }
}

fn live(cycles: u64, interval: u64) -> Option<Live> {
    Some(Live { interval: Duration::from_millis(interval), cycles: Some(cycles) })
}

/// Six errors at once and one more for each interval, as Linux has it.
fn limit(map: &mut Topology, place: Place, interval: u64) {
    let interval = Duration::from_millis(interval);
    map.node(Topology::place(place)).errors.limit = Some((6, interval));
}

#[test]
fn a_hop_that_limits_its_answers_loses_nothing() {
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let mut map = Topology::lab(2);
            limit(&mut map, Place::Hop(4), 1_000);
            let to = address(family, Place::Hop(11));
            let config = TraceConfig { live: live(12, 100), ..config(method, sockets, to) };
            let trace = trace(map, config);
            assert_eq!(trace.ended(), Ended::Cycles);
            let mut expected = vec![Verdict::Answers; 11];
            expected[3] = Verdict::RateLimited;
            assert_eq!(trace.verdicts(), expected, "{method:?} {family:?}");
            let counts = trace.hop(4).counts;
            assert_eq!((counts.sent, counts.answered + counts.lost), (12, 12));
            // 41.7 % was measured beside another program.
            assert!((4..=6).contains(&counts.lost), "{counts:?}");
        }
    }
    // At the end of a path too: who sends too much there is not answered, and it looks like loss.
    let mut map = Topology::lab(2);
    limit(&mut map, Place::Hop(3), 1_000);
    let to = address(Family::V4, Place::Hop(11));
    let trace = trace(map, TraceConfig { queries: 10, ..udp(to) });
    assert_eq!(trace.ended(), Ended::Reached);
    assert_eq!(trace.machine().verdict(3), Verdict::RateLimited);
    assert_eq!(trace.hop(3).counts.answered, 6);
    assert_eq!(trace.machine().verdict(4), Verdict::Answers);
}

#[test]
fn loss_is_called_so_from_where_it_carries_on() {
    let (mut map, _) = line(8, Duration::from_micros(50));
    // The link to the fourth router, and what comes back over it.
    map.links_mut().nth(3).unwrap().loss = 150_000;
    let to = of(Family::V4, Topology::addresses(8, 2));
    let config = config(Method::Icmp, Sockets::Datagram, to);
    let trace = trace(map, TraceConfig { live: live(400, 100), ..config });
    let (answers, loses) = (Verdict::Answers, Verdict::Loses);
    let expected = [answers, answers, answers, loses, loses, loses, loses, loses];
    assert_eq!(trace.verdicts(), expected);
    for (at, hop) in trace.machine().hops().skip(3) {
        // Forth and back, 27.75 % of 400.
        assert!((80..=145).contains(&hop.counts.lost), "{at} {:?}", hop.counts);
        assert_eq!(hop.counts.sent, 400);
    }
}

#[test]
fn the_first_table_of_a_live_trace_is_whole_after_two_round_trips() {
    for micros in [0, 100, 2_000, 20_000] {
        for hops in [3_u16, 11, 30] {
            for silent in [None, Some(1), Some(2)] {
                let latency = Duration::from_micros(micros);
                let (mut map, nodes) = line(hops, latency);
                if let Some(silent) = silent {
                    map.node(nodes[silent]).errors.silent = true;
                }
                let to = of(Family::V4, Topology::addresses(hops, 2));
                let trace = trace(map, TraceConfig { live: live(3, 1_000), ..udp(to) });
                let first = trace.ran.events.iter().find(|(_, told)| *told == Told::Cycle(1));
                let took = first.unwrap().0.mono.saturating_since(Instant::default());
                let round_trip = 2 * latency * u32::from(hops);
                let most = 2 * round_trip + Duration::from_millis(20);
                assert!(took <= most, "{took:?} {micros} {hops} {silent:?}");
                assert_eq!(trace.ended(), Ended::Cycles);
                let counts = trace.machine().hops().map(|(_, hop)| hop.counts.sent);
                assert!(counts.eq(vec![3; usize::from(hops)]));
            }
        }
    }
}

#[test]
fn a_distant_host_costs_little_more_than_its_round_trip() {
    let to = address(Family::V4, Place::Wired);
    let trace = trace(Topology::lab(2), TraceConfig { queries: 1, ..udp(to) });
    assert_eq!(trace.ended(), Ended::Reached);
    assert!(trace.took() < Duration::from_millis(41), "{:?}", trace.took());
    // All of it in the first link, and more hops than leave at once.
    let (mut map, _) = line(20, Duration::ZERO);
    map.links_mut().next().unwrap().latency = Duration::from_millis(20);
    let to = of(Family::V4, Topology::addresses(20, 2));
    let trace = self::trace(map, udp(to));
    assert!(trace.took() < Duration::from_millis(121), "{:?}", trace.took());
}

#[test]
fn what_goes_beyond_the_destination_is_not_waited_for() {
    for family in FAMILIES {
        let mut map = Topology::lab(2);
        // It answers for the first that arrive, which are those of its own hop.
        map.node(Topology::place(Place::Hop(11))).errors.limit = Some((3, Duration::from_secs(1)));
        let to = address(family, Place::Hop(11));
        let trace = trace(map, udp(to));
        assert_eq!((trace.ended(), trace.path()), (Ended::Reached, chain(family, 11)));
        assert!(trace.hop(11).counts.answered == 3);
        assert!(trace.took() < Duration::from_millis(1), "{:?}", trace.took());
    }
}

#[test]
fn the_nearest_that_cannot_go_on_ends_the_path_whoever_is_heard_first() {
    for seed in 0..50 {
        let to = of(Family::V4, Topology::addresses(254, 9));
        let mut map = Topology::lab(2);
        map.links_mut().next().unwrap().jitter = Duration::from_millis(5);
        let tracer = Tracer::new(Now::default(), &Seed::from_u64(9), udp(to)).unwrap();
        let ran = run(&mut Internet::new(map, seed), tracer, |event| told(&event));
        let trace = Trace { ran };
        assert_eq!(trace.ended(), Ended::Unreachable { code: 0 });
        assert_eq!(trace.path(), chain(Family::V4, 4));
    }
}

#[test]
fn who_says_no_once_a_second_is_found_where_it_is() {
    let to = of(Family::V4, Topology::addresses(254, 9));
    for method in [Method::Udp, Method::Icmp] {
        // What it says to one trace, it does not say to the next, until a second has passed.
        for begins in (0..1_200).step_by(15) {
            let mut map = Topology::lab(2);
            map.node(Topology::place(Place::Hop(4))).errors.limit =
                Some((1, Duration::from_secs(1)));
            map.links_mut().for_each(|link| link.latency = Duration::from_micros(300));
            let mut internet = Internet::new(map, 5);
            let config = config(method, Sockets::Datagram, to);
            let tracer = |begins| Tracer::new(at_ms(begins), &Seed::from_u64(9), config).unwrap();
            run(&mut internet, tracer(0), |event| told(&event));
            let trace = Trace { ran: run(&mut internet, tracer(begins), |event| told(&event)) };
            let expected = (Ended::Unreachable { code: 0 }, chain(Family::V4, 4));
            assert_eq!((trace.ended(), trace.path()), expected, "{begins} ms");
            assert_eq!(trace.machine().settled(), 4);
        }
    }
}

#[test]
fn silence_all_the_way_costs_two_waits() {
    for first_hop in [1, 5] {
        let (mut map, nodes) = line(12, Duration::ZERO);
        for node in &nodes[1..] {
            map.node(*node).errors.silent = true;
        }
        let to = of(Family::V4, Topology::addresses(12, 2));
        let trace = trace(map, TraceConfig { first_hop, ..udp(to) });
        assert_eq!(trace.ended(), Ended::GapLimit);
        assert_eq!(trace.path(), [None; 5]);
        // With the second look.
        assert!(trace.took() < Duration::from_millis(2_001), "{:?}", trace.took());
    }
    // A host behind more silent routers than the limit is found nevertheless: it is asked ahead.
    let (mut map, nodes) = line(12, Duration::ZERO);
    for node in &nodes[1..12] {
        map.node(*node).errors.silent = true;
    }
    let to = of(Family::V4, Topology::addresses(12, 2));
    let trace = trace(map, TraceConfig { queries: 1, ..udp(to) });
    assert_eq!((trace.ended(), trace.path().len()), (Ended::Reached, 12));
}

#[test]
fn hops_begin_and_end_where_they_are_told() {
    let to = address(Family::V4, Place::Hop(11));
    let some = trace(Topology::lab(2), TraceConfig { first_hop: 3, max_hops: 7, ..udp(to) });
    assert_eq!(some.ended(), Ended::MaxHops);
    let hops: Vec<_> = some.machine().hops().map(|(at, hop)| (at, hop.address())).collect();
    let expected = (3..8).map(|hop| (hop, Some(address(Family::V4, Place::Hop(hop)))));
    assert_eq!(hops, expected.collect::<Vec<_>>());
    assert_eq!(some.ran.sent, 15);
    let last = trace(Topology::lab(2), TraceConfig { first_hop: 255, max_hops: 255, ..udp(to) });
    assert_eq!((last.ended(), last.machine().reached()), (Ended::Reached, Some(255)));
}

#[test]
fn quotes_without_a_token_are_asked_for_one_by_one() {
    for family in FAMILIES {
        let header = if family == Family::V4 { 20 } else { 40 };
        let cut = |hops: &[u8]| {
            let mut map = Topology::lab(2);
            for hop in hops {
                let node = Topology::place(Place::Hop(*hop));
                map.node(node).errors.quotes = header + 8;
            }
            map
        };
        let to = address(family, Place::Hop(11));
        for hops in [&[4][..], &[11], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]] {
            let mut map = cut(hops);
            map.node(Topology::place(Place::Hop(7))).errors.silent = true;
            let trace = trace(map, udp(to));
            assert_eq!(trace.ended(), Ended::Reached);
            let mut path = chain(family, 11);
            path[6] = None;
            assert_eq!(trace.path(), path);
            let all = trace.machine().hops().filter(|(at, _)| *at != 7);
            for (at, hop) in all {
                assert_eq!((hop.counts.sent, hop.counts.answered), (3, 3), "{at}");
            }
            assert!(trace.machine().probes().counts().ambiguous > 0);
            // It knows its checksums.
            let raw = config(Method::Udp, Sockets::Raw, to);
            let raw = self::trace(cut(hops), raw);
            assert_eq!((raw.ended(), raw.path()), (Ended::Reached, chain(family, 11)));
            assert_eq!(raw.machine().probes().counts().ambiguous, 0);
        }
        // Silence at the end is not waited for one by one.
        let dead = of(family, Topology::addresses(252, 9));
        let trace = self::trace(cut(&[2]), udp(dead));
        assert_eq!((trace.ended(), trace.path().len()), (Ended::GapLimit, 8));
        assert!(trace.took() < Duration::from_millis(3_100), "{:?}", trace.took());
        let trace = self::trace(cut(&[4]), TraceConfig { live: live(5, 100), ..udp(to) });
        assert!(trace.machine().hops().all(|(_, hop)| hop.counts.answered == 5));
        // Nothing of what was withdrawn is asked again.
        let beyond = |told: &Told| matches!(told, Told::Hop { at: 12.., .. });
        assert!(!trace.ran.events.iter().any(|(_, told)| beyond(told)));
    }
}

#[test]
fn quotes_without_a_token_are_told_apart_when_all_hops_are_watched() {
    // Many are on their way at a time.
    let (mut map, nodes) = line(8, Duration::from_millis(20));
    for node in &nodes[1..] {
        map.node(*node).errors.quotes = 28;
    }
    let to = of(Family::V4, Topology::addresses(8, 2));
    let trace = trace(map, TraceConfig { live: live(6, 100), ..udp(to) });
    assert_eq!(trace.ended(), Ended::Cycles);
    for (at, hop) in trace.machine().hops() {
        assert_eq!((hop.counts.sent, hop.counts.answered), (6, 6), "{at}");
        let expected = Duration::from_millis(40) * u32::from(at);
        let (_, round_trips) = hop.round_trips.most().unwrap();
        assert_eq!((round_trips.min(), round_trips.max()), (expected, expected), "{at}");
    }
}

#[test]
fn what_answers_from_elsewhere_or_many_times_changes_nothing_else() {
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let mut map = Topology::lab(2);
            for link in map.links_mut() {
                link.duplication = 500_000;
            }
            let elsewhere = Topology::addresses(99, 9);
            let server = Topology::place(Place::Hop(11));
            map.node(server).errors.from = Some(elsewhere);
            map.node(Topology::place(Place::Hop(4))).errors.from = Some(elsewhere);
            if method == Method::Icmp {
                map.node(server).answers_from = Some(elsewhere);
            }
            let to = address(family, Place::Hop(11));
            let trace = trace(map, config(method, sockets, to));
            assert_eq!(trace.ended(), Ended::Reached, "{method:?} {sockets:?} {family:?}");
            let mut path = chain(family, 11);
            path[3] = Some(of(family, elsewhere));
            if method != Method::Tcp {
                path[10] = Some(of(family, elsewhere));
            }
            assert_eq!(trace.path(), path);
            assert!(trace.machine().hops().all(|(_, hop)| hop.counts.answered == 3));
            assert!(trace.machine().probes().counts().duplicates > 10);
        }
    }
}

#[test]
fn what_is_rewritten_is_told_from_the_hop_behind_on() {
    for family in FAMILIES {
        for method in [Method::Icmp, Method::Udp, Method::Tcp] {
            let mut map = Topology::lab(2);
            map.node(Topology::place(Place::Hop(3))).rewrite =
                Rewrite { traffic_class: Some(0xb8), ..Rewrite::default() };
            let outside = Topology::addresses(200, 1);
            map.node(Topology::place(Place::Hop(6))).rewrite =
                Rewrite { source: Some(outside), ..Rewrite::default() };
            map.node(Topology::place(Place::Hop(8))).decrements = false;
            let to = address(family, Place::Hop(11));
            let trace = trace(map, config(method, Sockets::Raw, to));
            assert_eq!(trace.ended(), Ended::Reached, "{method:?} {family:?}");
            // One hop less: the eighth does not show itself.
            assert_eq!(trace.machine().reached(), Some(10));
            for (at, hop) in trace.machine().hops().filter(|(at, _)| *at < 10) {
                let rewritten = hop.rewritten.unwrap();
                let expected = Rewritten {
                    traffic_class: (at > 3).then_some(0xb8),
                    source: (at > 6).then_some(of(family, outside)),
                    // It is one over other addresses now.
                    checksum: rewritten.checksum.filter(|_| at > 6 && method != Method::Icmp),
                    ..Rewritten::default()
                };
                assert_eq!(rewritten, expected, "{at} {method:?} {family:?}");
            }
        }
    }
}

#[test]
fn labels_are_kept_with_who_told_them() {
    let stack = vec![Label { label: 16_004, traffic_class: 3, bottom: true, ttl: 1 }];
    for family in FAMILIES {
        for (method, sockets) in methods() {
            let mut map = Topology::lab(2);
            map.node(Topology::place(Place::Hop(5))).errors.labels = stack.clone();
            let to = address(family, Place::Hop(11));
            let trace = trace(map, config(method, sockets, to));
            for (at, hop) in trace.machine().hops() {
                let expected = if at == 5 { &stack[..] } else { &[] };
                assert_eq!(hop.nodes[0].labels, expected, "{at} {method:?} {sockets:?}");
            }
        }
    }
}

#[test]
fn a_live_trace_follows_a_path_that_changes() {
    let to = address(Family::V4, Place::Hop(11));
    let live = Live { interval: Duration::from_millis(500), cycles: Some(40) };
    let tracer = Tracer::new(
        Now::default(),
        &Seed::from_u64(9),
        TraceConfig { live: Some(live), ..udp(to) },
    );
    // The destination moves to hop 9, and back.
    let mut internet = Internet::new(Topology::lab(2), 5);
    let mut tracer = tracer.unwrap();
    let mut seen = Vec::new();
    let mut buf = Vec::new();
    let mut now = Now::default();
    let mut arrivals = Vec::new();
    for _ in 0..10_000 {
        while let Some(transmit) = tracer.poll_transmit(now, &mut buf) {
            let stamp = Stamp { at: now.mono, clock: Clock::User };
            tracer.handle_sent(now, transmit.id, stamp);
            let cycle = now.mono.as_nanos() / 500_000_000;
            let mut shorter = transmit;
            if (10..20).contains(&cycle) {
                // Two routers are passed by.
                let hops = transmit.hop_limit.unwrap();
                shorter.hop_limit = Some(if hops > 5 { hops.saturating_add(2) } else { hops });
            }
            arrivals.extend(internet.send(now, &shorter, &buf).unwrap());
            buf.clear();
        }
        for mut arrival in arrivals.drain(..) {
            tracer.handle_datagram(now, arrival.meta, &mut arrival.payload);
        }
        while tracer.poll_event().is_some() {}
        if seen.last() != Some(&tracer.reached()) {
            seen.push(tracer.reached());
        }
        let Some(next) = tracer.poll_timeout() else { break };
        assert!(next.at >= now.mono);
        now.mono = next.at;
        tracer.handle_timeout(now);
        assert!(tracer.poll_timeout().is_none_or(|next| next.at > now.mono));
    }
    assert_eq!(tracer.ended(), Some(Ended::Cycles));
    assert_eq!(seen, [None, Some(11), Some(9), None, Some(11)]);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let to = address(Family::V4, Place::Far);
    let run = || {
        let mut map = Topology::lab(4);
        for link in map.links_mut() {
            (link.loss, link.jitter) = (100_000, Duration::from_millis(1));
        }
        trace(map, udp(to)).ran.events
    };
    assert_eq!(run(), run());
}

/// By hand: what is due is done, and what leaves is told to have left.
fn turn(tracer: &mut Tracer, now: Now) -> Vec<(u8, u64)> {
    if tracer.poll_timeout().is_some_and(|due| due.at <= now.mono) {
        tracer.handle_timeout(now);
    }
    let mut buf = Vec::new();
    let mut all = Vec::new();
    while let Some(transmit) = tracer.poll_transmit(now, &mut buf) {
        tracer.handle_sent(now, transmit.id, Stamp { at: now.mono, clock: Clock::User });
        all.push((transmit.hop_limit.unwrap(), transmit.id.0));
        buf.clear();
    }
    all
}

fn at_ms(ms: u64) -> Now {
    Now { mono: Instant::from_nanos(ms * 1_000_000), unix: UnixTime::default() }
}

#[test]
fn what_cannot_be_sent_ends_the_trace_and_says_why() {
    for failure in [Failure::Unreachable, Failure::Denied, Failure::TooLarge, Failure::Exhausted] {
        let to = address(Family::V4, Place::Hop(11));
        let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), udp(to)).unwrap();
        tracer.handle_timeout(at_ms(0));
        let mut buf = Vec::new();
        let mut failed = 0;
        while let Some(transmit) = tracer.poll_transmit(at_ms(0), &mut buf) {
            tracer.handle_send_error(at_ms(0), transmit.id, failure);
            failed += 1;
        }
        assert_eq!(failed, 3);
        assert_eq!(tracer.ended(), Some(Ended::NotSent(failure)));
        assert_eq!(tracer.poll_timeout(), None);
        let told: Vec<_> = std::iter::from_fn(|| tracer.poll_event()).map(|it| told(&it)).collect();
        let mut expected = vec![Told::NotSent(1, failure); 3];
        expected.push(Told::Done(Ended::NotSent(failure)));
        assert_eq!(told, expected);
    }
    // One alone is a hole.
    let to = address(Family::V4, Place::Hop(11));
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), udp(to)).unwrap();
    tracer.handle_timeout(at_ms(0));
    let mut buf = Vec::new();
    let transmit = tracer.poll_transmit(at_ms(0), &mut buf).unwrap();
    tracer.handle_send_error(at_ms(0), transmit.id, Failure::Exhausted);
    assert_eq!(tracer.ended(), None);
    assert_eq!(tracer.hop(1).unwrap().outcomes[0], Outcome::NotSent(Failure::Exhausted));
    assert_eq!(turn(&mut tracer, at_ms(0)).len(), 16);
    // Two, and one that leaves, are no three.
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), udp(to)).unwrap();
    tracer.handle_timeout(at_ms(0));
    for number in 1.. {
        buf.clear();
        let Some(transmit) = tracer.poll_transmit(at_ms(0), &mut buf) else { break };
        if number % 3 == 0 {
            let stamp = Stamp { at: at_ms(0).mono, clock: Clock::User };
            tracer.handle_sent(at_ms(0), transmit.id, stamp);
        } else {
            tracer.handle_send_error(at_ms(0), transmit.id, Failure::Exhausted);
        }
    }
    assert_eq!(tracer.ended(), None);
}

#[test]
fn a_listener_is_asked_again_when_it_has_answered() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { max_hops: 4, ..config(Method::Tcp, Sockets::Raw, to) };
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    let hops = |sent: Vec<(u8, u64)>| sent.iter().map(|(hop, _)| *hop).collect::<Vec<_>>();
    assert_eq!(hops(turn(&mut tracer, at_ms(0))), [1, 2, 3, 4]);
    assert_eq!(hops(turn(&mut tracer, at_ms(999))), []);
    assert_eq!(hops(turn(&mut tracer, at_ms(1_000))), [1, 2, 3, 4]);
}

#[test]
fn one_by_one_a_late_answer_is_not_taken_for_another_s() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { queries: 1, max_hops: 4, ..udp(to) };
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    assert_eq!(turn(&mut tracer, at_ms(0)).len(), 4);
    // Nothing of it is quoted but its header: only the port says which it was.
    let answer = |tracer: &mut Tracer, hop: u8, flow: u16, now: Now| {
        let mut meta = report(hop, (11, 0, 0), now);
        meta.source.set_port(33_434 + flow);
        tracer.handle_datagram(now, meta, &mut []).map(|it| told(&it))
    };
    assert_eq!(answer(&mut tracer, 3, 0, at_ms(2)), None);
    assert_eq!(tracer.probes().counts().ambiguous, 1);
    assert_eq!(turn(&mut tracer, at_ms(2)), [(1, 5)]);
    // Those that were withdrawn are foreign now.
    assert_eq!(answer(&mut tracer, 2, 0, at_ms(3)), None);
    let from = address(Family::V4, Place::Hop(1));
    let first = Told::Hop { at: 1, from, number: 5, late: false };
    assert_eq!(answer(&mut tracer, 1, 1, at_ms(3)), Some(first));
    // The same flow as long as all is answered.
    assert_eq!(turn(&mut tracer, at_ms(3)), [(2, 6)]);
    // Behind the last that answers each has a flow of its own.
    assert_eq!(turn(&mut tracer, at_ms(1_003)), [(3, 7), (4, 8)]);
    // The second answers at last; no other is what it answers to.
    assert_eq!(answer(&mut tracer, 2, 1, at_ms(1_004)), None);
    let hop = |hop, number| {
        let from = address(Family::V4, Place::Hop(hop));
        Some(Told::Hop { at: hop, from, number, late: false })
    };
    assert_eq!(answer(&mut tracer, 4, 4, at_ms(1_005)), hop(4, 8));
    assert_eq!(answer(&mut tracer, 3, 3, at_ms(1_005)), hop(3, 7));

    // Before it there is one at a time, and after one that stays silent another flow.
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    tracer.handle_timeout(at_ms(0));
    let mut buf = Vec::new();
    let mut last = Vec::new();
    while let Some(transmit) = tracer.poll_transmit(at_ms(0), &mut buf) {
        tracer.handle_sent(at_ms(0), transmit.id, Stamp { at: at_ms(0).mono, clock: Clock::User });
        last = std::mem::take(&mut buf);
    }
    let meta = report(4, (11, 0, 0), at_ms(1));
    assert!(tracer.handle_datagram(at_ms(1), meta, &mut last).is_some());
    assert_eq!(answer(&mut tracer, 3, 0, at_ms(2)), None);
    assert_eq!(turn(&mut tracer, at_ms(2)), [(1, 5)]);
    assert_eq!(turn(&mut tracer, at_ms(12)), [(2, 6)]);
    assert_eq!(answer(&mut tracer, 1, 1, at_ms(13)), None);
    assert_eq!(answer(&mut tracer, 2, 2, at_ms(13)), hop(2, 6));
    assert_eq!(turn(&mut tracer, at_ms(13)), [(3, 7)]);
}

/// An error from a hop about what was sent to the destination of a trace over UDP.
fn report(hop: u8, icmp: (u8, u8, u32), now: Now) -> Received {
    let error = QuotedError {
        offender: Some(address(Family::V4, Place::Hop(hop))),
        icmp_type: icmp.0,
        icmp_code: icmp.1,
        info: icmp.2,
        ..QuotedError::default()
    };
    Received {
        source: SocketAddr::new(address(Family::V4, Place::Hop(11)), 33_434),
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp: Stamp { at: now.mono, clock: Clock::Kernel },
        error: Some(error),
    }
}

/// A trace whose first burst has left, and what that was.
fn begun(config: TraceConfig) -> (Tracer, Vec<Vec<u8>>) {
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    tracer.handle_timeout(at_ms(0));
    let mut sent = Vec::new();
    let mut buf = Vec::new();
    while let Some(transmit) = tracer.poll_transmit(at_ms(0), &mut buf) {
        tracer.handle_sent(at_ms(0), transmit.id, Stamp { at: at_ms(0).mono, clock: Clock::User });
        sent.push(std::mem::take(&mut buf));
    }
    (tracer, sent)
}

#[test]
fn a_path_that_was_thought_to_end_goes_on_where_it_does_not() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { queries: 2, max_hops: 4, ..udp(to) };
    let (mut tracer, mut sent) = begun(config);
    assert_eq!(sent.len(), 8);
    let now = at_ms(1);
    let mut hear = |tracer: &mut Tracer, number: usize, hop, icmp| {
        tracer.handle_datagram(now, report(hop, icmp, now), &mut sent[number - 1]).is_some()
    };
    // The first query of hop 2 cannot go on; what is beyond does not count.
    assert!(hear(&mut tracer, 3, 2, (3, 1, 0)));
    assert!(!hear(&mut tracer, 5, 3, (11, 0, 0)));
    assert_eq!(turn(&mut tracer, now), []);
    // The second could.
    assert!(hear(&mut tracer, 4, 2, (11, 0, 0)));
    assert_eq!(turn(&mut tracer, now).iter().map(|sent| sent.0).collect::<Vec<_>>(), [3, 3, 4, 4]);
    assert_eq!(tracer.ended(), None);
    let counts = tracer.hop(3).unwrap().counts;
    assert_eq!((counts.sent, counts.waiting()), (2, 2));
}

#[test]
fn a_size_that_did_not_fit_is_no_loss_however_late_it_is_told() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { queries: 1, max_hops: 3, mtu: Some(1_500), ..udp(to) };
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    tracer.handle_timeout(at_ms(0));
    let mut sent = Vec::new();
    let mut buf = Vec::new();
    while let Some(transmit) = tracer.poll_transmit(at_ms(0), &mut buf) {
        tracer.handle_sent(at_ms(0), transmit.id, Stamp { at: at_ms(0).mono, clock: Clock::User });
        assert_eq!(buf.len(), 1_500 - 28);
        sent.push(std::mem::take(&mut buf));
    }
    let now = at_ms(1);
    assert!(tracer.handle_datagram(now, report(3, (11, 0, 0), now), &mut sent[2]).is_some());
    turn(&mut tracer, at_ms(100));
    assert_eq!((tracer.hop(2).unwrap().counts.lost, tracer.ended()), (1, Some(Ended::MaxHops)));

    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    turn(&mut tracer, at_ms(0));
    assert!(tracer.handle_datagram(now, report(2, (11, 0, 0), now), &mut sent[1]).is_some());
    turn(&mut tracer, at_ms(100));
    assert_eq!((tracer.hop(1).unwrap().counts.lost, tracer.ended()), (1, None));
    let now = at_ms(101);
    let narrow = tracer.handle_datagram(now, report(9, (3, 4, 1_400), now), &mut sent[0]);
    assert!(matches!(narrow, Some(TraceEvent::Narrow(_))), "{narrow:?}");
    let counts = tracer.hop(1).unwrap().counts;
    assert_eq!((counts.lost, counts.sent), (0, 0));
    assert_eq!(turn(&mut tracer, now).iter().map(|sent| sent.0).collect::<Vec<_>>(), [1, 3]);
}

/// Else, with answers that come together, each would have more asked beyond the destination.
#[test]
fn all_that_has_come_is_heard_before_more_leaves() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { queries: 1, ..udp(to) };
    let mut tracer = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    let mut sent = turn(&mut tracer, at_ms(0)).len();
    assert_eq!(sent, 16);
    let mut bytes = Vec::new();
    let mut again = Tracer::new(at_ms(0), &Seed::from_u64(1), config).unwrap();
    again.handle_timeout(at_ms(0));
    let mut buf = Vec::new();
    while again.poll_transmit(at_ms(0), &mut buf).is_some() {
        bytes.push(std::mem::take(&mut buf));
    }
    let now = at_ms(5);
    for (hop, bytes) in (1..=11).zip(&mut bytes) {
        let what = if hop == 11 { (3, 3, 0) } else { (11, 0, 0) };
        assert!(tracer.handle_datagram(now, report(hop, what, now), bytes).is_some());
        assert_eq!(tracer.poll_transmit(now, &mut buf), None);
        if hop < 11 {
            assert_eq!(tracer.poll_timeout().unwrap().at, now.mono);
        }
    }
    sent += turn(&mut tracer, now).len();
    assert_eq!((sent, tracer.reached(), tracer.ended()), (16, Some(11), Some(Ended::Reached)));
}

#[test]
fn a_late_answer_fills_its_gap_while_the_trace_lasts() {
    let to = address(Family::V4, Place::Hop(11));
    let config = TraceConfig { queries: 1, max_hops: 3, ..udp(to) };
    let (mut tracer, mut sent) = begun(config);
    let mut answer = |tracer: &mut Tracer, hop: u8, now: Now| {
        let meta = report(hop, (11, 0, 0), now);
        tracer.handle_datagram(now, meta, &mut sent[usize::from(hop) - 1]).map(|it| told(&it))
    };
    let hop = |hop, late| {
        let from = address(Family::V4, Place::Hop(hop));
        Some(Told::Hop { at: hop, from, number: hop.into(), late })
    };
    assert_eq!(answer(&mut tracer, 2, at_ms(5)), hop(2, false));
    tracer.handle_timeout(at_ms(5));
    // Twice 5 ms and 8, since one behind it has answered.
    assert_eq!(tracer.poll_timeout().unwrap().at, at_ms(18).mono);
    turn(&mut tracer, at_ms(18));
    assert_eq!(tracer.poll_event().map(|it| told(&it)), Some(Told::Silent(1)));
    assert_eq!(tracer.verdict(1), Verdict::Silent);
    assert_eq!(answer(&mut tracer, 1, at_ms(30)), hop(1, true));
    assert_eq!((tracer.verdict(1), tracer.hop(1).unwrap().counts.late), (Verdict::Answers, 1));
    tracer.handle_timeout(at_ms(30));
    for _ in 0..1_000 {
        assert_eq!(answer(&mut tracer, 1, at_ms(30)), None);
    }
    assert_eq!(tracer.probes().counts().duplicates, 1_000);
    // The third is waited for as long as was said.
    assert_eq!(tracer.poll_timeout().unwrap().at, at_ms(1_000).mono);
    tracer.handle_command(at_ms(40), Stop).unwrap();
    assert_eq!(tracer.ended(), Some(Ended::Stopped));
    assert_eq!(answer(&mut tracer, 3, at_ms(41)), None);
    assert_eq!(tracer.poll_timeout(), None);
    let counts = tracer.hop(3).unwrap().counts;
    assert_eq!((counts.waiting(), counts.lost), (1, 0));
    // Told once.
    tracer.handle_command(at_ms(42), Stop).unwrap();
    assert_eq!(tracer.poll_event(), Some(TraceEvent::Done(Ended::Stopped)));
    assert_eq!(tracer.poll_event(), None);
}

#[test]
fn what_makes_no_trace_is_refused() {
    let to = address(Family::V4, Place::Hop(11));
    let refused = |config| {
        let made = Tracer::new(at_ms(0), &Seed::from_u64(1), config);
        matches!(made, Err(Refused::Invalid(_)))
    };
    let right = udp(to);
    let live = |interval, cycles| Some(Live { interval: Duration::from_millis(interval), cycles });
    assert!(!refused(right));
    assert!(!refused(TraceConfig { live: live(100, None), ..right }));
    for wrong in [
        TraceConfig { first_hop: 0, ..right },
        TraceConfig { first_hop: 31, ..right },
        TraceConfig { queries: 0, ..right },
        TraceConfig { queries: 101, ..right },
        TraceConfig { gap_limit: 0, ..right },
        TraceConfig { live: live(99, None), ..right },
        TraceConfig { live: live(100, Some(0)), ..right },
        TraceConfig { live: live(100, None), mtu: Some(1_500), ..right },
        TraceConfig { mtu: Some(1_500), ..config(Method::Tcp, Sockets::Raw, to) },
        TraceConfig { flow: 32_102, ..right },
        config(Method::Tcp, Sockets::Datagram, to),
    ] {
        assert!(refused(wrong), "{wrong:?}");
    }
}
