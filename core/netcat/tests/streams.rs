//! Netcats in a simulated network.

use std::time::Duration;

use bytes::Bytes;
use semfio_machine::{Closed, Failure, NetLimits, Shard, Target};
use semfio_netcat::{
    AHEAD, InputEnd, Interrupt, Link, Netcat, NetcatConfig, NetcatMessage, NetcatReport, Outcome,
    PeerEnd, STALL, TcpCheck, TcpFound, WINDOW,
};
use semfio_sim::{LinkConfig, Network, PeerId, PeerState, ShardId};

type Id = ShardId<Link, Netcat>;

const HERE: [u8; 4] = [10, 0, 0, 1];
const THERE: [u8; 4] = [10, 0, 0, 2];

fn port() -> std::net::SocketAddr {
    (HERE, 9).into()
}

fn listener(net: &mut Network, config: NetcatConfig) -> Id {
    let id = net.add(HERE.into(), Shard::new(Netcat::new(config), NetLimits::default()));
    assert!(net.listen(id, port()));
    id
}

fn dialler(net: &mut Network, config: NetcatConfig) -> Id {
    let config = NetcatConfig { target: Some(Target::Address(port())), ..config };
    net.add(THERE.into(), Shard::new(Netcat::new(config), NetLimits::default()))
}

/// What an application does: gives input as it is taken, and takes what it is told.
struct Application {
    id: Id,
    input: Vec<u8>,
    /// Input that is on its way there.
    unanswered: usize,
    ended: bool,
    received: Vec<u8>,
    outcome: Option<Outcome>,
    most_untaken: usize,
}

impl Application {
    fn new(id: Id, input: Vec<u8>) -> Self {
        Self {
            id,
            input,
            unanswered: 0,
            ended: false,
            received: Vec::new(),
            outcome: None,
            most_untaken: 0,
        }
    }

    fn turn(&mut self, net: &mut Network) {
        let mut came = 0;
        for (_, report) in net.take_reports(self.id) {
            match report {
                NetcatReport::Received(_, bytes) => {
                    came += bytes.len();
                    self.received.extend_from_slice(&bytes);
                }
                NetcatReport::Sent(bytes) => self.unanswered -= bytes.len(),
                NetcatReport::Overrun(n) => panic!("{n} bytes dropped"),
                NetcatReport::Over(outcome) => {
                    assert!(self.outcome.replace(outcome).is_none(), "over twice");
                }
                _ => {}
            }
        }
        self.most_untaken = self.most_untaken.max(came);
        if came > 0 {
            net.send_message(self.id, NetcatMessage::Taken(came as u64));
        }
        while !self.input.is_empty() && self.unanswered < AHEAD / 2 {
            let chunk: Vec<u8> = self.input.drain(..self.input.len().min(20_000)).collect();
            self.unanswered += chunk.len();
            net.send_message(self.id, NetcatMessage::Input(chunk.into()));
        }
        if self.input.is_empty() && !self.ended {
            self.ended = true;
            net.send_message(self.id, NetcatMessage::InputEnd);
        }
    }
}

/// Lets applications work until nothing is due.
fn work(net: &mut Network, applications: &mut [&mut Application]) {
    loop {
        applications.iter_mut().for_each(|application| application.turn(net));
        if !net.step() {
            return;
        }
    }
}

fn pattern(len: usize, from: usize) -> Vec<u8> {
    (from..from + len).map(|n| (n % 251) as u8).collect()
}

fn input(net: &mut Network, to: Id, text: &str) {
    net.send_message(to, NetcatMessage::Input(Bytes::copy_from_slice(text.as_bytes())));
}

fn over(net: &Network, of: Id) -> Option<Outcome> {
    net.reports(of).iter().find_map(|(_, report)| match report {
        NetcatReport::Over(outcome) => Some(*outcome),
        _ => None,
    })
}

#[test]
fn both_sides_have_all_of_the_other_in_every_order() {
    let ends = [InputEnd::Keep, InputEnd::Finish, InputEnd::Quit(Duration::from_secs(3600))];
    let sizes = [0, 1, 3_000, 90_000];
    let mut seed = 0;
    for a_end in ends {
        for b_end in ends {
            if (a_end, b_end) == (InputEnd::Keep, InputEnd::Keep) {
                continue;
            }
            for a_len in sizes {
                for b_len in sizes {
                    seed += 1;
                    let mut net = Network::new(seed);
                    net.set_default_link(LinkConfig::rough(seed));
                    if a_len.max(b_len) > 3_000 {
                        // Every byte a read would take minutes.
                        net.set_default_link(LinkConfig { window: 5_000, ..LinkConfig::default() });
                    }
                    let a = NetcatConfig { input_end: a_end, ..NetcatConfig::default() };
                    let b = NetcatConfig { input_end: b_end, ..NetcatConfig::default() };
                    let a = listener(&mut net, a);
                    let b = dialler(&mut net, b);
                    let (mut a, mut b) = (
                        Application::new(a, pattern(a_len, 0)),
                        Application::new(b, pattern(b_len, 7)),
                    );
                    work(&mut net, &mut [&mut a, &mut b]);
                    let case = format!("{a_end:?} {a_len}, {b_end:?} {b_len}, seed {seed}");
                    assert!(a.received == pattern(b_len, 7), "{case}: a has {}", a.received.len());
                    assert!(b.received == pattern(a_len, 0), "{case}: b has {}", b.received.len());
                    assert_eq!([a.outcome, b.outcome], [Some(Outcome::Done); 2], "{case}");
                    assert!(net.is_over(a.id) && net.is_over(b.id), "{case}");
                }
            }
        }
    }
}

/// A peer that has finished and reads only after a long time has all of it nevertheless.
#[test]
fn what_is_left_waits_for_a_peer_that_has_finished_and_is_slow() {
    for read_after in [Duration::from_secs(1), Duration::from_secs(600)] {
        let mut net = Network::new(1);
        net.set_default_link(LinkConfig { window: 1_000, ..LinkConfig::default() });
        let id = listener(&mut net, NetcatConfig::default());
        let peer = net.connect(THERE.into(), port());
        net.set_reading(peer, false);
        net.finish(peer);
        net.run_for(Duration::from_secs(1)).unwrap();
        let mut application = Application::new(id, pattern(50_000, 0));
        work(&mut net, &mut [&mut application]);
        net.run_for(read_after).unwrap();
        assert_eq!(application.outcome, None);
        net.set_reading(peer, true);
        work(&mut net, &mut [&mut application]);
        assert_eq!(net.peer(peer).received().len(), 50_000);
        assert_eq!(net.peer(peer).state(), PeerState::Open, "no reset");
        assert!(net.peer(peer).eof().is_some());
        assert_eq!(application.outcome, Some(Outcome::Done));
    }
}

#[test]
fn without_a_word_about_the_end_the_peer_sees_none() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig::default());
    let peer = net.connect(THERE.into(), port());
    net.send_message(id, NetcatMessage::InputEnd);
    net.run_for(Duration::from_secs(60)).unwrap();
    assert!(net.peer(peer).eof().is_none());
    net.write(peer, "still here");
    net.finish(peer);
    net.run_until_idle().unwrap();
    assert!(net.peer(peer).eof().is_some());
    assert_eq!(over(&net, id), Some(Outcome::Done));
}

#[test]
fn after_the_end_of_input_it_quits_when_it_is_told_to() {
    let mut net = Network::new(1);
    let after = Duration::from_secs(5);
    let config = NetcatConfig { input_end: InputEnd::Quit(after), ..NetcatConfig::default() };
    let id = listener(&mut net, config);
    // The time does not begin before somebody is there.
    net.send_message(id, NetcatMessage::InputEnd);
    net.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(over(&net, id), None);
    let peer = net.connect(THERE.into(), port());
    net.run_for(Duration::from_secs(4)).unwrap();
    assert!(net.peer(peer).eof().is_some());
    net.write(peer, "late");
    net.run_for(Duration::from_millis(500)).unwrap();
    assert!(net.reports(id).iter().any(|(_, it)| matches!(it, NetcatReport::Received(..))));
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Done));
}

#[test]
fn at_a_terminal_the_end_of_the_peer_is_the_end() {
    let mut net = Network::new(1);
    let config = NetcatConfig { peer_end: PeerEnd::Finish, ..NetcatConfig::default() };
    let id = listener(&mut net, config);
    let peer = net.connect(THERE.into(), port());
    net.write(peer, "bye");
    net.finish(peer);
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Done));
    assert!(net.is_over(id));
}

#[test]
fn one_listener_takes_one_peer() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig::default());
    let first = net.connect(THERE.into(), port());
    net.run_for(Duration::from_secs(1)).unwrap();
    let second = net.connect(THERE.into(), port());
    net.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(net.peer(first).state(), PeerState::Open);
    assert_ne!(net.peer(second).state(), PeerState::Open);
    let opened = |report: &&(_, NetcatReport)| matches!(report.1, NetcatReport::Opened(..));
    assert_eq!(net.reports(id).iter().filter(opened).count(), 1);
}

#[test]
fn nothing_moves_for_the_time_to_wait() {
    let wait = Some(Duration::from_secs(2));
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig { wait, ..NetcatConfig::default() });
    // For a peer it waits for ever.
    net.run_for(Duration::from_secs(60)).unwrap();
    let peer = net.connect(THERE.into(), port());
    for _ in 0..5 {
        net.run_for(Duration::from_millis(1500)).unwrap();
        net.write(peer, "x");
    }
    for _ in 0..5 {
        net.run_for(Duration::from_millis(1500)).unwrap();
        input(&mut net, id, "y");
    }
    assert_eq!(over(&net, id), None);
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Idle));

    // Nobody answers.
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig {
        refuse: Some(Failure::TimedOut),
        latency: Duration::from_secs(60),
        ..LinkConfig::default()
    });
    let id = dialler(&mut net, NetcatConfig { wait, ..NetcatConfig::default() });
    net.run_for(Duration::from_secs(10)).unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Unreached(Failure::TimedOut)));
}

#[test]
fn nobody_listens() {
    let mut net = Network::new(1);
    let id = dialler(&mut net, NetcatConfig::default());
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Unreached(Failure::Refused)));
}

#[test]
fn a_reset_is_told() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig::default());
    let peer = net.connect(THERE.into(), port());
    net.run_for(Duration::from_secs(1)).unwrap();
    net.reset(peer);
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Broken(Failure::Reset)));
}

#[test]
fn what_is_not_taken_makes_the_peer_wait() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig::default());
    let peer = net.connect(THERE.into(), port());
    net.write(peer, vec![7; 4 * 1024 * 1024]);
    net.run_for(Duration::from_secs(60)).unwrap();
    let told = |net: &Network| -> u64 {
        net.reports(id)
            .iter()
            .map(|(_, report)| match report {
                NetcatReport::Received(_, bytes) => bytes.len() as u64,
                _ => 0,
            })
            .sum()
    };
    let first = told(&net);
    assert!((WINDOW..WINDOW + 70_000).contains(&first), "{first}");
    net.send_message(id, NetcatMessage::Taken(first / 4));
    net.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(told(&net), first, "half of it must be taken");
    net.send_message(id, NetcatMessage::Taken(first / 2));
    net.run_for(Duration::from_secs(60)).unwrap();
    assert!(told(&net) > first);
}

#[test]
fn a_peer_that_does_not_read_makes_input_wait() {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig { window: 1_000, ..LinkConfig::default() });
    let id = listener(&mut net, NetcatConfig::default());
    let peer = net.connect(THERE.into(), port());
    net.set_reading(peer, false);
    for _ in 0..20 {
        net.send_message(id, NetcatMessage::Input(vec![7; 10_000].into()));
    }
    net.run_for(Duration::from_secs(60)).unwrap();
    let sent = |net: &Network| {
        let sent = |report: &&(_, NetcatReport)| matches!(report.1, NetcatReport::Sent(_));
        net.reports(id).iter().filter(sent).count()
    };
    assert!((6..=8).contains(&sent(&net)), "{} of 20", sent(&net));
    net.set_reading(peer, true);
    net.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!((sent(&net), net.peer(peer).received().len()), (20, 200_000));
}

/// While it is we who do not read, the peer is not idle.
#[test]
fn who_is_not_read_is_not_idle() {
    let mut net = Network::new(1);
    let wait = Some(Duration::from_secs(2));
    let id = listener(&mut net, NetcatConfig { wait, ..NetcatConfig::default() });
    let peer = net.connect(THERE.into(), port());
    net.write(peer, vec![7; 2 * WINDOW as usize]);
    net.run_for(Duration::from_secs(60)).unwrap();
    assert_eq!(over(&net, id), None);
    let mut application = Application::new(id, Vec::new());
    application.turn(&mut net);
    net.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(over(&net, id), None);
    application.turn(&mut net);
    assert_eq!(application.received.len(), 2 * WINDOW as usize);
}

#[test]
fn more_input_than_may_wait_is_refused_and_said() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig::default());
    net.send_message(id, NetcatMessage::Input(vec![1; AHEAD].into()));
    net.send_message(id, NetcatMessage::Input(vec![2; 1].into()));
    net.run_until_idle().unwrap();
    let reports: Vec<_> = net.reports(id).iter().map(|(_, it)| it.clone()).collect();
    assert_eq!(reports, [NetcatReport::Overrun(1)]);
}

fn peers(net: &mut Network, n: u8) -> Vec<PeerId> {
    let peers = (0..n).map(|nth| net.connect([10, 0, 1, nth].into(), port())).collect();
    net.run_for(Duration::from_secs(1)).unwrap();
    peers
}

fn many() -> NetcatConfig {
    NetcatConfig { many: true, ..NetcatConfig::default() }
}

#[test]
fn many_come_and_go_and_are_told_apart() {
    let mut net = Network::new(1);
    let id = listener(&mut net, many());
    let peers = peers(&mut net, 3);
    for (nth, &peer) in peers.iter().enumerate() {
        net.write(peer, format!("I am {nth}"));
    }
    net.run_for(Duration::from_secs(1)).unwrap();
    input(&mut net, id, "to all");
    net.run_for(Duration::from_secs(1)).unwrap();
    for &peer in &peers {
        assert_eq!(net.peer(peer).received(), b"to all");
        net.finish(peer);
    }
    net.run_for(Duration::from_secs(10)).unwrap();
    assert!(peers.iter().all(|&peer| net.peer(peer).eof().is_some()));
    let mut conns = std::collections::BTreeMap::new();
    for (_, report) in net.reports(id) {
        match report {
            NetcatReport::Opened(conn, peer) => drop(conns.insert(*conn, peer.address.ip())),
            NetcatReport::Received(conn, bytes) => {
                let nth = usize::from(bytes[bytes.len() - 1] - b'0');
                assert_eq!(conns[conn], net.peer(peers[nth]).address().ip());
            }
            NetcatReport::Closed { given, received, why, .. } => {
                assert_eq!((*given, *received, *why), (6, 6, Closed::Done));
            }
            _ => {}
        }
    }
    assert_eq!(conns.len(), 3);
    let later = net.connect(THERE.into(), port());
    net.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(net.peer(later).state(), PeerState::Open);
    net.send_message(id, NetcatMessage::Interrupt);
    net.run_until_idle().unwrap();
    assert_eq!(over(&net, id), Some(Outcome::Interrupted));
    assert!(net.is_over(id));
}

#[test]
fn a_broker_passes_on_to_all_others() {
    let mut net = Network::new(1);
    listener(&mut net, NetcatConfig { broker: true, ..many() });
    let peers = peers(&mut net, 3);
    for (nth, &peer) in peers.iter().enumerate() {
        net.write(peer, format!("<{nth}>"));
        net.run_for(Duration::from_secs(1)).unwrap();
    }
    let heard: Vec<_> = peers.iter().map(|&peer| net.peer(peer).received().to_vec()).collect();
    assert_eq!(heard, [b"<1><2>", b"<0><2>", b"<0><1>"].map(|it| it.to_vec()));
}

/// A slow one sets the pace as long as it reads at all, and is cut if it does not.
#[test]
fn a_broker_loses_nothing_and_waits_for_nobody_for_ever() {
    let mut net = Network::new(1);
    let id = listener(&mut net, NetcatConfig { broker: true, ..many() });
    let peers = peers(&mut net, 3);
    net.set_reading(peers[1], false);
    net.write(peers[0], pattern(2_000_000, 0));
    net.run_for(Duration::from_secs(2)).unwrap();
    let before = net.peer(peers[2]).received().len();
    assert!(before < 1_000_000, "the sender has to wait: {before}");
    net.set_reading(peers[1], true);
    let mut application = Application::new(id, Vec::new());
    application.ended = true;
    work(&mut net, &mut [&mut application]);
    assert!(net.peer(peers[1]).received() == pattern(2_000_000, 0));
    assert!(net.peer(peers[2]).received() == pattern(2_000_000, 0));

    net.set_reading(peers[1], false);
    net.write(peers[0], pattern(2_000_000, 0));
    let began = net.now().mono;
    work(&mut net, &mut [&mut application]);
    assert_eq!(net.peer(peers[1]).state(), PeerState::Failed(Failure::Reset));
    assert_eq!(net.peer(peers[2]).received().len(), 4_000_000);
    assert!(net.now().mono >= began.saturating_add(STALL));
}

/// One answer for each message, however it is cut.
#[test]
fn each_message_is_answered_once() {
    for split in [semfio_sim::SplitPlan::Whole, semfio_sim::SplitPlan::EveryByte] {
        let mut net = Network::new(1);
        net.set_default_link(LinkConfig { split, ..LinkConfig::default() });
        let reply = Some(Bytes::from_static(b"ARK!"));
        let id = listener(&mut net, NetcatConfig { reply, ..many() });
        let peer = net.connect(THERE.into(), port());
        net.write(peer, "GET / HTTP/1.1\r\n");
        net.write(peer, "Host: there\r\n\r\n");
        net.run_for(Duration::from_secs(1)).unwrap();
        assert_eq!(net.peer(peer).received(), b"ARK!");
        net.write(peer, "again");
        net.finish(peer);
        net.run_for(Duration::from_secs(1)).unwrap();
        assert_eq!(net.peer(peer).received(), b"ARK!ARK!");
        assert!(net.peer(peer).eof().is_some());
        let message = |report: &&(_, NetcatReport)| matches!(report.1, NetcatReport::Message(_));
        assert_eq!(net.reports(id).iter().filter(message).count(), 2);
    }
}

#[test]
fn connecting_only_says_who_listens() {
    let mut net = Network::new(1);
    let there = listener(&mut net, many());
    let at = |port| Target::Address((HERE, port).into());
    let targets = vec![at(8), at(9), at(10), at(9)];
    let check = TcpCheck::new(targets.clone(), Some(Duration::from_secs(1)));
    let id = net.add(THERE.into(), Shard::new(check, NetLimits::default()));
    net.run_until_idle().unwrap();
    let found: Vec<TcpFound> = net.reports(id).iter().map(|(_, found)| found.clone()).collect();
    assert!(found.iter().map(|found| &found.target).eq(&targets));
    let open: Vec<_> = found.iter().map(|found| found.answer.map(|peer| peer.address)).collect();
    let (yes, no) = (Ok(port()), Err(Failure::Refused));
    assert_eq!(open, [no, yes, no, yes]);
    assert!(net.is_over(id));
    let opened = |report: &&(_, NetcatReport)| matches!(report.1, NetcatReport::Opened(..));
    assert_eq!(net.reports(there).iter().filter(opened).count(), 2);
}

#[test]
fn a_socket_that_meets_itself_is_not_open() {
    let at: std::net::SocketAddr = (HERE, 9).into();
    let now = semfio_machine::Now::default();
    let mut shard: Shard<Link, TcpCheck> =
        Shard::new(TcpCheck::new(vec![Target::Address(at)], None), NetLimits::default());
    shard.handle_timeout(now);
    let Some(semfio_machine::Action::Dial(conn, _)) = shard.poll_action() else { panic!() };
    shard.handle_connected(now, conn, semfio_machine::Peer { address: at, local: at });
    let found = shard.poll_report().unwrap();
    assert_eq!(found.answer, Err(Failure::Refused));
}

#[test]
fn connecting_only_gives_up_and_can_be_interrupted() {
    let mut net = Network::new(1);
    let silent = LinkConfig {
        latency: Duration::from_secs(60),
        refuse: Some(Failure::TimedOut),
        ..LinkConfig::default()
    };
    net.set_default_link(silent);
    let at = |port| Target::Address((HERE, port).into());
    let check = TcpCheck::new(vec![at(1), at(2), at(3)], Some(Duration::from_secs(1)));
    let id = net.add(THERE.into(), Shard::new(check, NetLimits::default()));
    net.run_for(Duration::from_millis(2500)).unwrap();
    assert_eq!(net.reports(id).len(), 2);
    net.send_message(id, Interrupt);
    net.run_for(Duration::from_millis(1)).unwrap();
    assert!(net.is_over(id));
}
