//! Traces over the map of the lab and over others, in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_machine::{Failure, Instant, Now, Seed};
use semfio_probe::simulation::{Addresses, Internet, NodeId, Place, Ran, Topology, run};
use semfio_probe::{
    AnswerKind, Ended, Family, Heard, Hop, Method, Outcome, ProbesConfig, Reached, Sockets,
    TraceConfig, TraceEvent, Tracer, Verdict,
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
    for micros in [0, 10, 300, 2_000, 30_000] {
        for queries in [1, 3] {
            for hops in [2_u16, 5, 11, 25] {
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
