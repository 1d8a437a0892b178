//! Streams over links with faults.

mod common;

use common::{Plain, Say, numbered};
use core::num::NonZeroU64;
use core::time::Duration;
use semfio_machine::*;
use semfio_sim::*;
use std::net::{IpAddr, SocketAddr};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7);
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

type Server = ShardId<Plain, Machines<Plain, Vec<u8>>>;

fn serve(net: &mut Network, make: fn() -> Plain) -> Server {
    let machines = Machines::new(move |_| Some(make()), |bytes: &[u8]| bytes.to_vec());
    // A slow link must not be cut while it still carries the answer.
    let linger = Duration::from_secs(3_600);
    let limits = NetLimits { linger, ..NetLimits::default() };
    let server = net.add(SERVER.ip(), Shard::new(machines, limits));
    assert!(net.listen(server, SERVER));
    server
}

/// Sends bytes both ways and tells whether they came as they were.
fn transfer(seed: u64, there: LinkConfig, back: LinkConfig) -> Result<(), String> {
    let content = numbered(3_000);
    let mut net = Network::new(seed);
    net.set_link(CLIENT, SERVER.ip(), there);
    net.set_link(SERVER.ip(), CLIENT, back);
    serve(&mut net, Plain::echo);
    let peer = net.connect(CLIENT, SERVER);
    for part in content.chunks(700) {
        net.write(peer, part);
    }
    net.finish(peer);
    net.run_until_idle().map_err(|stuck| stuck.to_string())?;
    let peer = net.peer(peer);
    if peer.received() != content {
        return Err(format!("{} bytes came, or others", peer.received().len()));
    }
    peer.eof().map(|_| ()).ok_or_else(|| "no end".into())
}

#[test]
fn rough_links_keep_every_byte_in_place() {
    check("rough_links_keep_every_byte_in_place", seeds!(300), |seed| {
        transfer(seed, LinkConfig::rough(seed), LinkConfig::rough(!seed))
    });
}

#[test]
fn a_link_that_cuts_is_noticed() {
    let eof = LinkConfig { eof_after: Some(2_999), ..LinkConfig::rough(1) };
    assert_eq!(transfer(1, eof, LinkConfig::rough(2)).unwrap_err(), "2999 bytes came, or others");
    let reset = LinkConfig { reset_after: Some(2_999), ..LinkConfig::rough(1) };
    assert!(transfer(1, reset, LinkConfig::rough(2)).is_err());
}

/// What both sides of a pair tell, and when.
fn talk(seed: u64) -> Vec<Said<Vec<u8>>> {
    let see = |bytes: &[u8]| bytes.to_vec();
    let mut pair = Pair::new(Plain::default(), Plain::echo(), seed, see, see).with_links(
        LinkConfig { jitter: Duration::from_millis(9), ..LinkConfig::rough(5) },
        LinkConfig { split: SplitPlan::Random { most: 9 }, ..LinkConfig::rough(6) },
    );
    pair.command_a(Say::Bytes(&numbered(500))).unwrap();
    pair.command_a(Say::Finish).unwrap();
    pair.drive().unwrap();
    assert_eq!(pair.ended_a(), Some(&Closed::Done));
    assert_eq!(pair.ended_b(), Some(&Closed::Done));
    pair.take_log()
}

#[test]
fn one_seed_gives_one_pair_run() {
    assert_eq!(talk(1), talk(1));
    assert_ne!(talk(1), talk(2));
}

/// Everything a network with chance in all places reports.
fn bustle(seed: u64) -> String {
    let mut net = Network::new(seed);
    net.set_default_link(LinkConfig {
        latency: Duration::from_millis(5),
        jitter: Duration::from_millis(5),
        loss: Chance::percent(10),
        split: SplitPlan::Random { most: 50 },
        window: 100,
        ..LinkConfig::default()
    });
    let server = serve(&mut net, Plain::echo);
    let peers: Vec<_> = (0..5).map(|_| net.connect(CLIENT, SERVER)).collect();
    for &peer in &peers {
        net.write(peer, numbered(1_000));
    }
    net.run_for(Duration::from_millis(200)).unwrap();
    net.reset(peers[0]);
    net.close(peers[1]);
    net.finish(peers[2]);
    net.run_until_idle().unwrap();
    let reads: Vec<_> = peers.iter().map(|&peer| net.peer(peer).reads()).collect();
    format!("{:?} {reads:?}", net.reports(server))
}

#[test]
fn one_seed_gives_one_network_run() {
    assert_eq!(bustle(1), bustle(1));
    assert_ne!(bustle(1), bustle(2));
}

/// How long 100,000 bytes take.
fn duration(bandwidth: Option<NonZeroU64>, window: usize) -> Duration {
    let see = |bytes: &[u8]| bytes.len();
    let latency = Duration::from_millis(10);
    let link = LinkConfig { bandwidth, window, latency, ..LinkConfig::default() };
    let mut pair =
        Pair::new(Plain::default(), Plain::default(), 1, see, see).with_links(link.clone(), link);
    for _ in 0..10 {
        pair.command_a(Say::Bytes(&numbered(10_000))).unwrap();
    }
    pair.drive().unwrap();
    assert_eq!(pair.events(Side::B).sum::<usize>(), 100_000);
    pair.now().mono.saturating_since(Instant::default())
}

#[test]
fn bandwidth_is_kept() {
    let bandwidth = NonZeroU64::new(50_000);
    let time = duration(bandwidth, 1_000_000);
    assert!(time >= Duration::from_secs(2), "{time:?}");
    assert!(time < Duration::from_millis(2_100), "{time:?}");
    // Without it the check above would fail.
    assert!(duration(None, 1_000_000) < Duration::from_millis(100));
}

#[test]
fn a_window_a_round_trip() {
    // 100 windows, 20 ms each.
    let time = duration(None, 1_000);
    assert!(time >= Duration::from_millis(1_980), "{time:?}");
    assert!(time <= Duration::from_millis(2_020), "{time:?}");
}

#[test]
fn a_reader_that_stops_holds_the_sender_up() {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig { window: 1_000, ..LinkConfig::default() });
    let server = serve(&mut net, Plain::echo);
    let peer = net.connect(CLIENT, SERVER);
    net.set_reading(peer, false);
    net.write(peer, numbered(1_000_000));
    net.run_until_idle().unwrap();
    // The peer's window, the outbox up to its mark, and the window towards the server.
    let Told::Opened(conn, _) = net.reports(server)[0].1 else { panic!("no connection") };
    assert!(net.shard(server).buffered(conn) <= Outbox::MARK + 1_000);
    let taken = 1_000_000 - net.peer(peer).queued();
    assert!((Outbox::MARK..=Outbox::MARK + 3_000).contains(&taken), "{taken}");
    assert_eq!(net.peer(peer).received(), b"");
    net.set_reading(peer, true);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(peer).received(), numbered(1_000_000));
}

#[test]
fn whole_writes_arrive_as_reads_and_joined_ones_do_not() {
    let reads = |split| {
        let mut net = Network::new(1);
        net.set_default_link(LinkConfig { split, ..LinkConfig::default() });
        let server = serve(&mut net, Plain::default);
        let peer = net.connect(CLIENT, SERVER);
        for write in ["one", "two", "three"] {
            net.write(peer, write);
        }
        net.run_until_idle().unwrap();
        let reports = net.take_reports(server).into_iter();
        let events = reports.filter_map(|(_, told)| match told {
            Told::Event(_, bytes) => Some(String::from_utf8(bytes).unwrap()),
            _ => None,
        });
        events.collect::<Vec<_>>()
    };
    assert_eq!(reads(SplitPlan::Whole), ["one", "two", "three"]);
    assert_eq!(reads(SplitPlan::Joined), ["onetwothree"]);
    assert_eq!(reads(SplitPlan::EveryByte).len(), 11);
    assert_eq!(reads(SplitPlan::Sizes(vec![4, 1])), ["onet", "w", "othr", "e", "e"]);
}

#[test]
fn livelocks_are_errors() {
    let see = |bytes: &[u8]| bytes.len();
    let restless = Plain { restless: true, ..Plain::default() };
    let mut pair = Pair::new(restless, Plain::default(), 1, see, see).with_step_limit(1_000);
    assert!(matches!(pair.drive(), Err(Stuck::Livelock { steps: 1_000, .. })));

    // Two that echo each other for ever, at one instant.
    let mut pair = Pair::new(Plain::echo(), Plain::echo(), 1, see, see).with_step_limit(1_000);
    pair.command_a(Say::Bytes(b"ping")).unwrap();
    assert!(pair.run_for(Duration::from_secs(1)).is_err());

    let mut net = Network::new(1);
    net.set_step_limit(1_000);
    serve(&mut net, || Plain { restless: true, ..Plain::default() });
    net.connect(CLIENT, SERVER);
    let stuck = net.run_until_idle().unwrap_err();
    assert_eq!(stuck, Stuck::Livelock { at: Instant::default(), steps: 1_000 });
}

#[test]
fn a_machine_that_only_talks_is_a_livelock() {
    struct Babbler;
    impl StreamMachine for Babbler {
        type Event<'i> = ();
        type Command<'c> = ();
        type Error = core::convert::Infallible;
        const CARRIES_FILES: bool = false;
        fn max_unit(&self) -> usize {
            1
        }
        fn state(&self) -> &'static str {
            "Open"
        }
        fn handle_input<'i>(
            &mut self,
            _: Now,
            _: &mut Input<'i>,
            _: &mut Outbox,
        ) -> Result<Step<()>, Self::Error> {
            Ok(Step::Event(()))
        }
        fn handle_command(&mut self, _: Now, _: (), _: &mut Outbox) -> Result<(), Refused> {
            Ok(())
        }
        fn poll_timeout(&self) -> Option<Deadline> {
            None
        }
        fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    }
    let mut pair = Pair::new(Babbler, Plain::default(), 1, |()| (), |_| ());
    assert!(matches!(pair.drive(), Err(Stuck::Livelock { .. })));
}

#[test]
fn what_is_waited_for_and_cannot_come_is_an_error() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::default);
    let heard = |net: &Network| !net.reports(server).is_empty();
    assert!(matches!(net.run_until(heard), Err(Stuck::Idle { .. })));
    net.connect(CLIENT, SERVER);
    assert_eq!(net.run_until(heard), Ok(()));
}

#[test]
fn connections_are_refused_and_time_out() {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig { latency: Duration::from_millis(5), ..Default::default() });
    let nobody = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(nobody).state(), PeerState::Failed(Failure::Refused));
    assert_eq!(net.now().mono, Instant::from_nanos(10_000_000));

    let refuse = Some(Failure::Unreachable);
    net.set_link(CLIENT, SERVER.ip(), LinkConfig { refuse, ..LinkConfig::default() });
    let server = serve(&mut net, Plain::default);
    let far = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(far).state(), PeerState::Failed(Failure::Unreachable));

    net.set_link(CLIENT, SERVER.ip(), LinkConfig::default());
    let cut = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    net.cut_power(server);
    net.write(cut, "hello?");
    let late = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(cut).state(), PeerState::Open);
    assert_eq!(net.peer(late).state(), PeerState::Failed(Failure::TimedOut));
}

#[test]
fn a_killed_process_leaves_as_its_system_would() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::echo);
    let (calm, busy) = (net.connect(CLIENT, SERVER), net.connect(CLIENT, SERVER));
    net.write(calm, "read");
    net.run_until_idle().unwrap();
    net.set_link(CLIENT, SERVER.ip(), LinkConfig::default());
    net.set_reading(busy, false);
    net.write(busy, numbered(1_000_000));
    net.run_until_idle().unwrap();
    net.kill(server);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(calm).received(), b"read");
    assert_eq!(net.peer(calm).state(), PeerState::Open);
    assert!(net.peer(calm).eof().is_some());
    // The other had sent what was never read.
    assert_eq!(net.peer(busy).state(), PeerState::Failed(Failure::Reset));
    let next = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(next).state(), PeerState::Failed(Failure::Refused));
}

#[test]
fn accepts_that_fail_are_made_up_for() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::echo);
    net.fail_accepts(server, 3);
    let peers: Vec<_> = (0..10).map(|_| net.connect(CLIENT, SERVER)).collect();
    for &peer in &peers {
        net.write(peer, "hello");
    }
    net.run_until_idle().unwrap();
    assert!(peers.iter().all(|&peer| net.peer(peer).received() == b"hello"));
    let first = net.reports(server)[0].0.mono;
    assert_eq!(first.saturating_since(Instant::default()), Network::ACCEPT_RETRY * 3);
}

#[test]
fn a_full_backlog_delays() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::echo);
    net.fail_accepts(server, 1);
    let peers: Vec<_> = (0..Network::BACKLOG + 1).map(|_| net.connect(CLIENT, SERVER)).collect();
    net.run_until_idle().unwrap();
    assert!(peers.iter().all(|&peer| net.peer(peer).state() == PeerState::Open));
    let last = net.reports(server).last().unwrap().0.mono;
    assert_eq!(last, Instant::from_nanos(1_000_000_000));
}

#[test]
fn a_reset_reaches_a_shard_that_does_not_read() {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig { window: 100, ..LinkConfig::default() });
    let server = serve(&mut net, Plain::echo);
    let peer = net.connect(CLIENT, SERVER);
    net.set_reading(peer, false);
    net.write(peer, numbered(1_000_000));
    net.run_until_idle().unwrap();
    net.reset(peer);
    net.run_until_idle().unwrap();
    let (_, last) = net.reports(server).last().unwrap();
    assert!(matches!(last, Told::Closed(_, Closed::Failed(Failure::Reset))), "{last:?}");
    assert_eq!(net.shard(server).connections().count(), 0);
}

#[test]
fn both_ends_see_a_link_break() {
    let mut net = Network::new(1);
    let reset_after = Some(1_500);
    net.set_link(SERVER.ip(), CLIENT, LinkConfig { reset_after, ..LinkConfig::default() });
    let server = serve(&mut net, Plain::echo);
    let peer = net.connect(CLIENT, SERVER);
    net.write(peer, numbered(1_000));
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(peer).state(), PeerState::Open);
    net.write(peer, numbered(1_000));
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(peer).state(), PeerState::Failed(Failure::Reset));
    assert_eq!(net.peer(peer).received().len(), 1_500);
    let (_, last) = net.reports(server).last().unwrap();
    assert!(matches!(last, Told::Closed(_, Closed::Failed(Failure::Reset))), "{last:?}");
}

#[test]
fn shards_dial_each_other_and_raw_listeners_by_name() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::echo);
    let machines = Machines::new(|_| None, |bytes: &[u8]| bytes.to_vec());
    let client = net.add(CLIENT, Shard::new(machines, NetLimits::default()));
    let elsewhere: SocketAddr = ([10, 0, 0, 3], 7).into();
    assert!(net.listen_raw(elsewhere));
    assert!(!net.listen_raw(SERVER));
    // The first address of the name refuses, the second is tried.
    let addresses = vec![CLIENT, SERVER.ip()];
    net.disk_mut(client).put_name("server", Ok(addresses));
    net.send_message(
        client,
        Box::new(move |net| {
            net.dial(Target::Name("server".into(), 7), Plain::default());
            net.dial(Target::Name("nowhere".into(), 7), Plain::default());
            net.dial(Target::Address(elsewhere), Plain::default());
        }),
    );
    net.run_until_idle().unwrap();
    let opened: Vec<_> = net
        .reports(client)
        .iter()
        .filter_map(|(_, told)| match told {
            Told::Opened(conn, peer) => Some((*conn, peer.address)),
            _ => None,
        })
        .collect();
    assert_eq!(opened.len(), 2);
    assert!(opened.iter().any(|&(_, address)| address == SERVER));
    let failed =
        |told: &Told<_, _>| matches!(told, Told::Closed(_, Closed::Failed(Failure::NotFound)));
    assert_eq!(net.reports(client).iter().filter(|(_, told)| failed(told)).count(), 1);
    let raw = net.accepted(elsewhere);
    assert_eq!(raw.len(), 1);
    net.send_message(
        client,
        Box::new(move |net| {
            for (conn, _) in opened {
                net.send(conn, Say::Bytes(b"hello")).unwrap();
                net.close(conn);
            }
        }),
    );
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(raw[0]).received(), b"hello");
    assert!(net.peer(raw[0]).eof().is_some());
    assert!(
        net.reports(server)
            .iter()
            .any(|(_, told)| matches!(told, Told::Event(_, b) if b == b"hello"))
    );
}

#[test]
fn parted_addresses_stall_and_heal() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Plain::echo);
    let peer = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    net.part(SERVER.ip(), CLIENT);
    net.write(peer, "hello");
    let (late, lost) = (net.connect(CLIENT, SERVER), net.connect(CLIENT, SERVER));
    net.run_for(Duration::from_millis(1_500)).unwrap();
    net.close(lost);
    assert_eq!(net.reports(server).len(), 1);
    net.heal(CLIENT, SERVER.ip());
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(peer).received(), b"hello");
    assert_eq!(net.peer(late).state(), PeerState::Open);
    net.part(CLIENT, SERVER.ip());
    let late = net.connect(CLIENT, SERVER);
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(late).state(), PeerState::Failed(Failure::TimedOut));
}

#[test]
fn time_moves_only_with_the_work() {
    let mut net = Network::new(1);
    assert_eq!(net.now().unix.civil().year, 2000);
    net.run_for(Duration::from_secs(3_600)).unwrap();
    assert_eq!(net.now().mono.as_nanos(), 3_600_000_000_000);
    assert_eq!(net.now().unix.civil().hour, 1);
    net.set_unix(UnixTime::from_secs(0));
    assert_eq!(net.now().unix.as_secs(), 0);
    assert_eq!(net.now().mono.as_nanos(), 3_600_000_000_000);
}

proptest::proptest! {
    #[test]
    fn any_link_keeps_every_byte(
        there in semfio_sim::strategies::links(),
        back in semfio_sim::strategies::links(),
        seed: u64,
    ) {
        transfer(seed, there, back).map_err(proptest::test_runner::TestCaseError::fail)?;
    }
}

#[test]
fn strategies_shrink_to_the_simplest_link() {
    use proptest::test_runner::{Config, TestError, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config { failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let result = runner.run(&semfio_sim::strategies::faulty_links(), |link| {
        proptest::prop_assert!(link.reset_after.is_none());
        Ok(())
    });
    let Err(TestError::Fail(_, link)) = result else { panic!("no link is cut") };
    assert_eq!(link, LinkConfig { reset_after: Some(100_000), ..LinkConfig::default() });
}
