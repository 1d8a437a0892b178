//! All paths, over the router model: what is found, and how often something is missed.

mod drawn;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use semfio_machine::{DatagramMachine as _, Now, Refused, Seed};
use semfio_probe::simulation::{Balance, Internet, Place, Ran, Topology, run};
use semfio_probe::{
    Diamond, Graph, Method, Multipath, MultipathConfig, MultipathEvent, PathEnd, ProbesConfig,
    Sockets, StopPaths,
};

use drawn::Drawn;

/// One run in a thousand may miss something: none of those with fixed seeds does.
fn config(to: &str, method: Method) -> MultipathConfig {
    let destination: SocketAddr = SocketAddr::new(to.parse().unwrap(), 0);
    let source = Topology::addresses(1, 1).like(destination.ip());
    let sockets = if method == Method::Tcp { Sockets::Raw } else { Sockets::Datagram };
    let source = (method == Method::Tcp).then(|| SocketAddr::new(source, 0));
    let probes = ProbesConfig { method, sockets, destination, source, traffic_class: 0 };
    MultipathConfig { misses: 1_000, ..MultipathConfig::new(probes) }
}

fn search(mut map: Topology, seed: u64, config: MultipathConfig) -> Ran<Multipath, MultipathEvent> {
    map.client.raw = config.probes.sockets == Sockets::Raw;
    let machine = Multipath::new(&Seed::from_u64(seed), config).unwrap();
    let ran = run(&mut Internet::new(map, seed), machine, |event| event);
    assert!(ran.ended, "no end");
    assert_eq!(ran.events.last().map(|(_, event)| *event), Some(MultipathEvent::Ended));
    assert_eq!(ran.machine.poll_timeout(), None);
    ran
}

/// The addresses of each hop.
fn hops(graph: &Graph) -> Vec<Vec<String>> {
    let mut hops: Vec<Vec<String>> = Vec::new();
    for node in &graph.nodes {
        hops.resize(hops.len().max(usize::from(node.hop) + 1), Vec::new());
        let all = node.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        hops[usize::from(node.hop)].push(all);
    }
    hops
}

#[test]
fn all_equal_paths_are_found() {
    for ways in 1..=8_u16 {
        for (method, to) in [
            (Method::Udp, "10.77.50.2"),
            (Method::Udp, "fd77:0:0:32::2"),
            (Method::Icmp, "10.77.50.2"),
            (Method::Icmp, "fd77:0:0:32::2"),
            (Method::Tcp, "10.77.50.2"),
            (Method::Tcp, "fd77:0:0:32::2"),
        ] {
            let ran = search(Topology::lab(ways), u64::from(ways), config(to, method));
            let graph = ran.machine.graph();
            let like = to.parse().unwrap();
            let name = |place: Place| place.addresses().like(like).to_string();
            let middle = (1..=ways as u8).map(|way| name(Place::Way(way))).collect::<Vec<_>>();
            let mut expected = vec![vec![String::new()]];
            expected.extend([1, 2, 3].map(|hop| vec![name(Place::Hop(hop))]));
            expected.extend([middle, vec![name(Place::Join)], vec![name(Place::Far)]]);
            assert_eq!(hops(&graph), expected, "{method:?} to {to}");
            assert!(graph.is_complete && graph.is_reached());
            assert_eq!((graph.paths(), graph.misses), (u64::from(ways), 1_000));
            let diamond = Diamond { from: 3, to: Some(4 + usize::from(ways)), width: ways.into() };
            assert_eq!(graph.diamonds(), if ways > 1 { vec![diamond] } else { Vec::new() });
            assert!(graph.nodes.iter().all(|node| !node.by_packet && !node.is_limited));
            assert_eq!(u64::from(graph.probes), ran.sent);
            assert_eq!(graph.links.len(), 5 + 2 * usize::from(ways) - 1);
        }
    }
}

#[test]
fn a_run_is_its_seed() {
    let graph = |seed| {
        let ran = search(Topology::lab(5), seed, config("10.77.50.2", Method::Udp));
        (ran.machine.graph(), ran.events)
    };
    assert_eq!(graph(3), graph(3));
    assert_ne!(graph(3), graph(4));
}

#[test]
fn silence_is_a_node_and_dead_ends_are_ends() {
    let graph = |to| search(Topology::lab(2), 1, config(to, Method::Udp));
    let ran = graph("10.77.22.2");
    assert_eq!(hops(&ran.machine.graph())[3..], [vec![""], vec!["10.77.22.2"]]);
    // A silent hop costs three waits, whatever it has to wait for.
    assert!(ran.now.mono.as_nanos() < 800_000_000, "{:?}", ran.now);

    let graph_of = |to| graph(to).machine.graph();
    let refused = graph_of("10.77.250.9");
    assert_eq!(refused.nodes[4].end, Some(PathEnd::Unreachable { code: 1 }));
    assert!(refused.is_complete && !refused.is_reached());

    let dropped = graph_of("10.77.252.9");
    assert_eq!(dropped.nodes.len(), 1 + 3 + 5, "five silent hops and no more");

    let looped = graph_of("10.77.253.9");
    assert_eq!((looped.nodes.len(), looped.paths()), (1 + 30, 1));
}

#[test]
fn a_balancer_by_packet_is_no_fork() {
    for seed in 0..20 {
        let mut map = Topology::lab(4);
        map.node(Topology::place(Place::Hop(3))).balance = Balance::Packet;
        let graph = search(map, seed, config("10.77.50.2", Method::Udp)).machine.graph();
        let all = "10.77.31.2 10.77.32.2 10.77.33.2 10.77.34.2";
        assert_eq!(hops(&graph)[4..], [vec![all], vec!["10.77.41.2"], vec!["10.77.50.2"]]);
        assert_eq!((graph.paths(), graph.diamonds().len()), (1, 0));
        let by_packet: Vec<_> = graph.nodes.iter().map(|node| node.by_packet).collect();
        assert_eq!(by_packet, [false, false, false, true, false, false, false]);
    }
}

#[test]
fn ways_by_packet_of_different_lengths_are_merged_too() {
    // client - r - {a - b, c} - far: far is at two hops, and r does not care for flows.
    let mut map = Topology::new();
    let [r, a, b, c, join, far] = core::array::from_fn(|_| map.add());
    let client = Topology::CLIENT;
    let links = [(client, r), (r, a), (a, b), (b, join), (r, c), (c, join), (join, far)];
    for (number, (near, far)) in (1..).zip(links) {
        map.link(near, far, number);
    }
    for (at, next) in
        [(client, vec![r]), (r, vec![a, c]), (a, vec![b]), (b, vec![join]), (c, vec![join])]
    {
        map.route_default(at, &next);
    }
    map.node(r).balance = Balance::Packet;
    for seed in 0..20 {
        let graph = search(map.clone(), seed, config("10.77.7.2", Method::Udp)).machine.graph();
        assert!(graph.is_complete && graph.nodes.len() <= 7, "{:?}", hops(&graph));
        assert_eq!(hops(&graph)[2], ["10.77.2.2 10.77.5.2"]);
        assert_eq!(graph.paths(), 1, "{:?}", hops(&graph));
    }
}

#[test]
fn a_hop_that_says_one_thing_a_second_is_given_time() {
    let mut map = Topology::lab(2);
    // As Linux does unless told otherwise.
    let limit = Some((6, Duration::from_secs(1)));
    for place in [Place::Hop(2), Place::Way(1)] {
        map.node(Topology::place(place)).errors.limit = limit;
    }
    let ran = search(map, 1, config("10.77.50.2", Method::Udp));
    let graph = ran.machine.graph();
    let names: Vec<_> = hops(&graph).concat();
    assert!(!names[1..].contains(&String::new()), "{names:?}");
    assert_eq!((graph.paths(), graph.is_complete), (2, true));
    let limited: Vec<_> =
        graph.nodes.iter().filter(|node| node.is_limited).map(|of| of.hop).collect();
    assert_eq!(limited, [2, 4, 4]);
    assert!(ran.now.mono.as_nanos() < 60_000_000_000, "{:?}", ran.now);
}

#[test]
fn a_router_that_refuses_once_a_second_is_one_end() {
    let mut map = Topology::lab(2);
    map.node(Topology::place(Place::Hop(4))).errors.limit = Some((5, Duration::from_secs(1)));
    let graph = search(map, 1, config("10.77.250.9", Method::Udp)).machine.graph();
    assert_eq!(hops(&graph)[3..], [vec!["10.77.3.2"], vec!["10.77.4.2"]]);
    assert_eq!((graph.paths(), graph.is_complete), (1, true));
    assert!(graph.nodes[4].is_limited && graph.nodes[4].end.is_some());
}

#[test]
fn a_silent_way_beside_others_is_told_as_one() {
    let mut map = Topology::lab(4);
    map.node(Topology::place(Place::Way(2))).errors.silent = true;
    let graph = search(map, 1, config("10.77.50.2", Method::Udp)).machine.graph();
    assert_eq!(hops(&graph)[4], ["", "10.77.31.2", "10.77.33.2", "10.77.34.2"]);
    assert_eq!((graph.paths(), graph.is_complete), (4, true));
    assert!(graph.nodes.iter().all(|node| !node.is_limited && !node.by_packet));
}

#[test]
fn losses_delays_and_copies_change_nothing() {
    for seed in 0..10 {
        let mut map = Topology::lab(3);
        for link in map.links_mut() {
            link.loss = 2_000;
            link.duplication = 100_000;
            link.latency = Duration::from_millis(5);
            link.jitter = Duration::from_millis(10);
        }
        let graph = search(map, seed, config("10.77.50.2", Method::Udp)).machine.graph();
        let widths: Vec<_> = hops(&graph).iter().map(Vec::len).collect();
        assert_eq!((widths, graph.is_complete), (vec![1, 1, 1, 1, 3, 1, 1], true), "{seed}");
    }
}

#[test]
fn limits_withdraw_the_promise() {
    let whole = config("10.77.50.2", Method::Udp);
    let machine = Multipath::new(&Seed::from_u64(1), whole).unwrap();
    let mut buf = Vec::new();
    let mut stopped = machine;
    let _ = stopped.poll_transmit(Now::default(), &mut buf);
    assert!(!stopped.graph().is_complete, "it has hardly begun");
    stopped.handle_command(Now::default(), StopPaths).unwrap();
    assert_eq!(stopped.poll_event(), Some(MultipathEvent::Ended));
    assert_eq!(stopped.poll_transmit(Now::default(), &mut buf), None);
    assert!(!stopped.graph().is_complete);

    // The last port is 65,535: there are no more flows.
    let mut narrow = whole;
    narrow.probes.destination.set_port(65_530);
    let graph = search(Topology::lab(8), 1, narrow).machine.graph();
    assert!(!graph.is_complete);

    let invalid = |config| Multipath::new(&Seed::from_u64(1), config).err();
    for config in [
        MultipathConfig { first_hop: 0, ..whole },
        MultipathConfig { first_hop: 9, max_hops: 8, ..whole },
        MultipathConfig { window: 0, ..whole },
        MultipathConfig { gap_limit: 0, ..whole },
        MultipathConfig { misses: 0, ..whole },
        MultipathConfig { misses: 1_000_000, ..whole },
    ] {
        assert!(matches!(invalid(config), Some(Refused::Invalid(_))));
    }
}

/// What came of many maps.
#[derive(Debug, Default)]
struct Judged {
    maps: u32,
    /// Maps of which anything was missed.
    missed: u32,
    /// Nodes that were found, but not all that is behind them.
    failed: u32,
    /// The sum of the bounds of all nodes that were found and have several behind them.
    bounds: f64,
    widest: usize,
    silent: u32,
    probes: u64,
}

/// Flows have ports from `port` on.
fn judge(seeds: std::ops::Range<u64>, misses: u32, port: u16) -> Judged {
    let mut judged = Judged::default();
    for seed in seeds {
        let drawn = Drawn::new(seed);
        let to = drawn.destination().to_string();
        let mut config = MultipathConfig { misses, ..config(&to, Method::Udp) };
        config.probes.destination.set_port(port);
        let ran = search(drawn.map(), seed, config);
        let graph = ran.machine.graph();
        assert!(graph.is_complete || port > 0, "map {seed}");
        let (truth, found) = (drawn.truth(), drawn::seen(&graph));
        for (node, next) in &found {
            let of = truth.get(node).unwrap_or_else(|| panic!("map {seed}: made up {node:?}"));
            assert!(next.is_subset(of), "map {seed}: made up links behind {node:?}");
        }
        judged.maps += 1;
        judged.missed += u32::from(found != truth);
        judged.probes += ran.sent;
        for node in &graph.nodes {
            let key = drawn::key(node);
            if truth.get(&key).is_some_and(|next| next.len() > 1) {
                judged.failed += u32::from(found[&key] != truth[&key]);
                judged.bounds += 0.5_f64.powi(node.bound as i32);
                judged.widest = judged.widest.max(truth[&key].len());
            }
            judged.silent += u32::from(node.addresses.is_empty() && node.hop > 0);
        }
    }
    judged
}

/// So much more than its mean a sum of rare events is in one of a million cases (Freedman's
/// inequality: `exp(-t^2 / (2 mean + 2 t / 3))` is a bound of that).
fn more(mean: f64) -> f64 {
    let log = 1e6_f64.ln();
    log / 3.0 + (log * log / 9.0 + 2.0 * log * mean).sqrt()
}

impl Judged {
    fn and(self, other: Self) -> Self {
        Self {
            maps: self.maps + other.maps,
            missed: self.missed + other.missed,
            failed: self.failed + other.failed,
            bounds: self.bounds + other.bounds,
            widest: self.widest.max(other.widest),
            silent: self.silent + other.silent,
            probes: self.probes + other.probes,
        }
    }

    /// Neither more maps nor more nodes than promised.
    fn is_kept(&self, misses: u32) -> bool {
        let maps = f64::from(self.maps) * f64::from(misses) / 1e6;
        f64::from(self.missed) <= maps + more(maps)
            && f64::from(self.failed) <= self.bounds + more(self.bounds)
    }
}

#[test]
fn a_thousand_maps_stay_within_the_bound() {
    let halves = [0..500, 500..1_000].map(|half| thread::spawn(|| judge(half, 50_000, 0)));
    let judged =
        halves.map(|half| half.join().unwrap()).into_iter().fold(Judged::default(), Judged::and);
    println!("{judged:?}");
    assert!(judged.is_kept(50_000), "{judged:?}");
    assert_eq!((judged.maps, judged.widest), (1_000, 8));
    assert!(judged.silent > 100, "{judged:?}");
}

#[test]
fn six_flows_are_too_few_and_that_is_noticed() {
    // There are no ports for more.
    let judged = judge(0..100, 50_000, 65_530);
    println!("{judged:?}");
    assert!(!judged.is_kept(50_000), "{judged:?}");
}

/// How often the rule fails a node with so many behind it, by its definition: flows go on to each
/// with the same chance, and the node is done with at the point for what was shown.
fn fails(points: &[u32], nodes: usize) -> f64 {
    let mut chances = BTreeMap::from([(0, 1.0)]);
    let mut failed = 0.0;
    for sent in 1..=points[nodes - 2] {
        let mut after = BTreeMap::new();
        for (shown, chance) in chances {
            let known = shown as f64 / nodes as f64;
            *after.entry(shown).or_insert(0.0) += chance * known;
            *after.entry(shown + 1).or_insert(0.0) += chance * (1.0 - known);
        }
        for (shown, &point) in (1..nodes).zip(points) {
            if point == sent {
                failed += after.remove(&shown).unwrap_or(0.0);
            }
        }
        chances = after;
    }
    failed
}

/// The smallest points that keep a bound.
fn points(bound: f64, nodes: usize) -> Vec<u32> {
    let mut points: Vec<u32> = Vec::new();
    for of in 2..=nodes {
        let first = points.last().map_or(1, |last| last + 1);
        let fits = |&point: &u32| fails(&[&points[..], &[point]].concat(), of) <= bound;
        let next = (first..).find(fits).unwrap();
        points.push(next);
    }
    points
}

/// How many of so many runs find too few behind a node with `nodes` behind it, and how many are to be
/// expected. Nothing else is looked at, so that no flow too many is sent.
fn at_one_node(nodes: u16, runs: u64, misses: u32) -> (f64, f64) {
    let mut failed = 0.0;
    for seed in 0..runs {
        let asked = MultipathConfig {
            misses,
            first_hop: 4,
            max_hops: 4,
            ..config("10.77.50.2", Method::Udp)
        };
        let graph = search(Topology::lab(nodes), 1_000_000 + seed, asked).machine.graph();
        failed += f64::from(u8::from(graph.nodes.len() < 1 + usize::from(nodes)));
    }
    // The first node's share is a half, rounded down to a power of two.
    let share = (f64::from(misses) / 2e6).log2().floor().exp2();
    let points = points(share, nodes.into());
    (failed, fails(&points, nodes.into()) * runs as f64)
}

/// Within what chance explains in all but seven of a million cases: 4.5 standard deviations.
fn is_likely((failed, expected): (f64, f64)) -> bool {
    (failed - expected).abs() <= 4.5 * expected.sqrt()
}

#[test]
fn a_node_fails_as_often_as_computed() {
    for (nodes, runs) in [(2, 1_200), (3, 500), (5, 300), (8, 200)] {
        let counted = at_one_node(nodes, runs, 250_000);
        println!("{nodes} nodes: {counted:?}");
        assert!(is_likely(counted), "{nodes} nodes: {counted:?}");
    }
}

#[test]
fn a_planted_confidence_is_noticed() {
    // Who asks for 75 % and is given 10 %.
    let (_, expected) = at_one_node(2, 1, 250_000);
    let (failed, _) = at_one_node(2, 300, 900_000);
    assert!(!is_likely((failed, expected * 300.0)), "{failed} {expected}");
}

#[test]
fn the_famous_points_come_out_of_the_definition() {
    assert_eq!(points(0.05, 7), [6, 11, 16, 21, 27, 33]);
}
