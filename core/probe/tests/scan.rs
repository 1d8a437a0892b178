//! Scans against an internet of a few lines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_core::RngCore as _;
use semfio_machine::{
    Action, ConnId, Failure, Instant, NetLimits, Now, Peer, Seed, Shard, Target, UnixTime,
};
use semfio_probe::{
    ConnectScan, Found, Knock, MAX_QUESTIONS, MAX_SCAN_HOSTS, PortState, Quit, Reason, ScanConfig,
};

const OURS: [u8; 4] = [192, 0, 2, 1];

fn host(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 0))
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// After so many milliseconds.
    Opens(u64),
    /// From this port of ours.
    OpensFrom(u16, u64),
    Fails(Failure, u64),
    Nothing,
}

const REFUSED: Fate = Fate::Fails(Failure::Refused, 1);

/// An internet: the fate of each connection to a port, by how often it was asked.
struct World<F> {
    shard: Shard<Knock, ConnectScan>,
    now: u64,
    fate: F,
    asked: BTreeMap<SocketAddr, u32>,
    /// Connections that there may be at once.
    room: usize,
    sockets: BTreeSet<ConnId>,
    due: BTreeSet<(u64, ConnId)>,
    fates: BTreeMap<ConnId, (SocketAddr, Fate)>,
    /// The most there were at once, and when each was dialled.
    most: usize,
    times: Vec<u64>,
    resets: usize,
    found: Vec<Found>,
}

impl<F: FnMut(SocketAddr, u32) -> Fate> World<F> {
    fn new(hosts: &[SocketAddr], config: ScanConfig, fate: F) -> Self {
        let scan = ConnectScan::new(hosts, config).unwrap();
        Self {
            shard: Shard::new(scan, NetLimits::default()),
            now: 0,
            fate,
            asked: BTreeMap::new(),
            room: usize::MAX,
            sockets: BTreeSet::new(),
            due: BTreeSet::new(),
            fates: BTreeMap::new(),
            most: 0,
            times: Vec::new(),
            resets: 0,
            found: Vec::new(),
        }
    }

    fn at(&self) -> Now {
        Now { mono: Instant::from_nanos(self.now * 1_000_000), unix: UnixTime::default() }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(conn, Target::Address(to)) => {
                    let times = self.asked.entry(to).or_default();
                    *times += 1;
                    self.times.push(self.now);
                    let fate = match self.sockets.len() < self.room {
                        true => (self.fate)(to, *times),
                        false => Fate::Fails(Failure::Exhausted, 0),
                    };
                    if fate != Fate::Fails(Failure::Exhausted, 0) {
                        self.sockets.insert(conn);
                        self.most = self.most.max(self.sockets.len());
                    }
                    let (Fate::Opens(after) | Fate::OpensFrom(_, after) | Fate::Fails(_, after)) =
                        fate
                    else {
                        continue;
                    };
                    self.due.insert((self.now + after, conn));
                    self.fates.insert(conn, (to, fate));
                }
                Action::Close { conn, reset } => {
                    self.resets += usize::from(reset);
                    self.sockets.remove(&conn);
                }
                Action::Stop => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(found) = self.shard.poll_report() {
            self.found.push(found);
        }
    }

    /// One turn at the next time that something happens; false once all is over.
    fn turn(&mut self) -> bool {
        self.carry_out();
        if self.shard.is_over() {
            return false;
        }
        let timer = self.shard.poll_timeout().map(|due| due.at.as_nanos().div_ceil(1_000_000));
        let next = self.due.first().map(|&(at, _)| at).into_iter().chain(timer).min();
        self.now = self.now.max(next.expect("it waits for nothing"));
        let now = self.at();
        while let Some(&(at, conn)) = self.due.first().filter(|(at, _)| *at <= self.now) {
            self.due.remove(&(at, conn));
            let Some((to, fate)) = self.fates.remove(&conn) else { continue };
            let ip = to.ip();
            match fate {
                Fate::Opens(_) => {
                    let local = (IpAddr::from(OURS), 40_000).into();
                    self.shard.handle_connected(now, conn, Peer { address: to, local });
                }
                Fate::OpensFrom(port, _) => {
                    let local = (ip, port).into();
                    self.shard.handle_connected(now, conn, Peer { address: to, local });
                }
                Fate::Fails(failure, _) => {
                    self.sockets.remove(&conn);
                    self.shard.handle_failed(now, conn, failure);
                }
                Fate::Nothing => {}
            }
            self.carry_out();
        }
        self.shard.handle_timeout(now);
        self.shard.handle_turn(now);
        true
    }

    /// The verdicts by port; each question has one.
    fn run(mut self) -> (BTreeMap<SocketAddr, Found>, Self) {
        while self.turn() {
            assert!(self.now < 100_000_000, "it does not end");
        }
        let counts = self.shard.service().counts();
        assert_eq!(counts.questions, self.found.len() as u64);
        assert_eq!(counts.found, counts.questions);
        let verdicts: BTreeMap<_, _> =
            self.found.iter().map(|found| (found.target, *found)).collect();
        assert_eq!(verdicts.len(), self.found.len(), "a port has two verdicts");
        assert_eq!(self.sockets.len(), 0, "sockets are left");
        (verdicts, self)
    }
}

fn config(ports: impl IntoIterator<Item = u16>) -> ScanConfig {
    ScanConfig { ports: ports.into_iter().collect(), ..ScanConfig::default() }
}

#[test]
fn each_answer_is_told_as_what_it_is() {
    let fate = |to: SocketAddr, _| match to.port() {
        1 => Fate::Opens(3),
        2 => REFUSED,
        3 => Fate::Nothing,
        4 => Fate::Fails(Failure::Unreachable, 5),
        5 => Fate::Fails(Failure::Denied, 5),
        6 => Fate::Fails(Failure::Unsupported, 0),
        7 => Fate::Fails(Failure::TimedOut, 9),
        _ => Fate::OpensFrom(to.port(), 0),
    };
    let (found, world) = World::new(&[host(7), host(8)], config(1..=8), fate).run();
    for of in [host(7), host(8)] {
        let port = |port| SocketAddr::new(of.ip(), port);
        for (number, state, reason, tries) in [
            (1, PortState::Open, Reason::Connected, 1),
            (2, PortState::Closed, Reason::Refused, 1),
            (3, PortState::Filtered, Reason::Silence, 3),
            (4, PortState::Unreachable, Reason::System(Failure::Unreachable), 1),
            (5, PortState::Filtered, Reason::System(Failure::Denied), 1),
            (6, PortState::Unasked, Reason::System(Failure::Unsupported), 1),
            (7, PortState::Filtered, Reason::Silence, 3),
            (8, PortState::Closed, Reason::MetItself, 1),
        ] {
            let Found { state: is, reason: why, tries: times, .. } = found[&port(number)];
            assert_eq!((is, why, times), (state, reason, tries), "{number}");
        }
        assert_eq!(found[&port(1)].round_trip, Some(Duration::from_millis(3)));
    }
    // What stood is cut; what was silent as well: no goodbye anywhere.
    assert_eq!(world.resets, 2 * (1 + 3 + 3));
}

#[test]
fn ports_are_asked_in_their_order_and_of_all_hosts_in_turn() {
    let mut order = Vec::new();
    let fate = |to: SocketAddr, _| {
        order.push((to.port(), to.ip()));
        REFUSED
    };
    let ports = config([443, 80, 22, 80]);
    World::new(&[host(7), host(8)], ScanConfig { window: 1, ..ports }, fate).run();
    let (a, b) = (host(7).ip(), host(8).ip());
    assert_eq!(order, [(443, a), (443, b), (80, a), (80, b), (22, a), (22, b)]);
}

#[test]
fn without_descriptors_it_is_slower_and_as_right() {
    for room in [1, 17, 900] {
        // One in ten is silent, and holds its place for a second and more.
        let fate = |to: SocketAddr, _| match to.port() % 10 {
            0 => Fate::Nothing,
            1 => Fate::Opens(1),
            _ => REFUSED,
        };
        let config = ScanConfig { window: 4_000, ..config(1..=3_000) };
        let mut world = World::new(&[host(7)], config, fate);
        world.room = room;
        let (found, world) = world.run();
        for (port, found) in found {
            let expected = match port.port() % 10 {
                0 => PortState::Filtered,
                1 => PortState::Open,
                _ => PortState::Closed,
            };
            assert_eq!(found.state, expected, "{found:?} with room for {room}");
            assert!(found.tries <= 3, "no room is no try: {found:?}");
        }
        assert_eq!(world.most, room.min(world.most));
        assert!(world.shard.service().counts().exhausted > 0, "room for {room} was enough");
    }
}

#[test]
fn a_system_that_never_has_room_is_told_in_time() {
    let fate = |_, _| Fate::Fails(Failure::Exhausted, 0);
    let (found, world) = World::new(&[host(7)], config(1..=200), fate).run();
    let reason = Reason::System(Failure::Exhausted);
    assert!(found.values().all(|it| (it.state, it.reason) == (PortState::Unasked, reason)));
    assert!((4_000..8_000).contains(&world.now), "{} ms", world.now);
}

#[test]
fn losses_are_asked_again_and_make_the_window_smaller() {
    for (permille, retries) in [(0, 2), (200, 9)] {
        let mut rng = Seed::from_u64(permille).stream(0);
        let fate = |to: SocketAddr, _| match to.port() {
            _ if u64::from(rng.next_u32() % 1_000) < permille => Fate::Nothing,
            port if port % 100 == 7 => Fate::Opens(20),
            _ => Fate::Fails(Failure::Refused, 20),
        };
        let (found, world) =
            World::new(&[host(7)], ScanConfig { retries, ..config(1..=5_000) }, fate).run();
        for (port, found) in &found {
            let open = port.port() % 100 == 7;
            let expected = if open { PortState::Open } else { PortState::Closed };
            assert_eq!(found.state, expected, "{found:?}");
        }
        let counts = world.shard.service().counts();
        match permille {
            0 => assert_eq!((counts.again, counts.window), (0, 1_000)),
            _ => assert!(counts.again > 900 && counts.window < 500, "{counts:?}"),
        }
    }
}

#[test]
fn meeting_ourselves_is_not_finding_somebody() {
    // From the port that it asks for, twice; then from another, and somebody is there.
    let fate = |to: SocketAddr, times| match times {
        1 | 2 => Fate::OpensFrom(to.port(), 0),
        _ => Fate::OpensFrom(50_000, 0),
    };
    let (found, _) = World::new(&[host(1)], config([40_000]), fate).run();
    assert_eq!(found.into_values().next().unwrap().state, PortState::Open);

    // Two questions, each from the port that the other asks for.
    let crossing = |to: SocketAddr, times| match (to.port(), times) {
        (40_000, 1) => Fate::OpensFrom(40_001, 5),
        (40_001, 1) => Fate::OpensFrom(40_000, 5),
        _ => REFUSED,
    };
    let (found, _) = World::new(&[host(1)], config([40_000, 40_001]), crossing).run();
    assert!(found.values().all(|it| it.state == PortState::Closed), "{found:?}");

    // Somebody who takes one connection and has room for no other is there all the same.
    let full = |to: SocketAddr, times| match (to.port(), times) {
        (40_000, 1) => Fate::OpensFrom(40_001, 5),
        (40_000, _) => Fate::Nothing,
        _ => Fate::Fails(Failure::Refused, 9),
    };
    let (found, world) = World::new(&[host(1)], config([40_000, 40_001]), full).run();
    let states: Vec<_> = found.values().map(|found| found.state).collect();
    assert_eq!(states, [PortState::Open, PortState::Closed]);
    assert_eq!(world.asked.values().sum::<u32>(), 3);

    // And one is not doubted where no question of ours can have been met.
    let once = |to: SocketAddr, times| match (to.port(), times) {
        (40_000, 1) => Fate::OpensFrom(40_009, 5),
        _ => REFUSED,
    };
    let (found, _) = World::new(&[host(1)], config([40_000, 40_001]), once).run();
    assert_eq!(found.values().next().unwrap().state, PortState::Open);
}

#[test]
fn no_more_a_second_than_is_allowed() {
    let fate = |_, _| REFUSED;
    let (_, world) =
        World::new(&[host(7)], ScanConfig { rate: Some(100), ..config(1..=300) }, fate).run();
    let in_a_second =
        |begin: u64| world.times.iter().filter(|&&at| (begin..begin + 1_000).contains(&at)).count();
    for begin in (0..world.now).step_by(100) {
        assert!(in_a_second(begin) <= 103, "{} from {begin} ms", in_a_second(begin));
    }
    assert!((2_900..3_100).contains(&world.now), "{} ms", world.now);
}

#[test]
fn it_stops_when_it_is_told() {
    let mut world = World::new(&[host(7)], config(1..=5_000), |_, _| Fate::Nothing);
    for _ in 0..3 {
        assert!(world.turn());
    }
    let now = world.at();
    world.shard.handle_message(now, Quit);
    world.carry_out();
    assert!(world.shard.is_over());
    assert_eq!(world.sockets.len(), 0);
    assert!(world.shard.service().counts().asked < 200);
}

#[test]
fn what_is_too_much_or_nothing_is_refused() {
    let refused = |hosts: &[SocketAddr], config| ConnectScan::new(hosts, config).is_err();
    assert!(refused(&[], config([1])));
    assert!(refused(&[host(1)], config([])));
    assert!(refused(&vec![host(1); MAX_SCAN_HOSTS + 1], config([1])));
    let too_many = MAX_QUESTIONS as usize / 65_535 + 1;
    assert!(refused(&vec![host(1); too_many], config(1..=65_535)));
    assert!(refused(&[host(1)], ScanConfig { retries: 11, ..config([1]) }));
    assert!(!refused(&vec![host(1); 256], config(1..=65_535)));
}
