//! The echo server among peers that mean no good, in a simulated network.

use std::time::Duration;

use semfio_http::{Echo, EchoMessage, EchoReport, Rule, Server, ServerConfig};
use semfio_machine::{Closed, Failure, NetLimits, Outbox, Shard};
use semfio_sim::{Network, PeerId, ShardId};

type Id = ShardId<Server, Echo>;

const HERE: [u8; 4] = [10, 0, 0, 1];
const THERE: [u8; 4] = [10, 0, 0, 2];
const SECOND: Duration = Duration::from_secs(1);

fn serving() -> (Network, Id) {
    let mut net = Network::new(1);
    let echo = Echo::new(ServerConfig::default(), true);
    let id = net.add(HERE.into(), Shard::new(echo, NetLimits::default()));
    assert!(net.listen(id, (HERE, 80).into()));
    (net, id)
}

fn connect(net: &mut Network) -> PeerId {
    let peer = net.connect(THERE.into(), (HERE, 80).into());
    net.run_for(SECOND / 100).unwrap();
    peer
}

fn text(net: &mut Network, peer: PeerId) -> String {
    String::from_utf8(net.take_received(peer)).unwrap()
}

/// What all connections hold in memory.
fn held(net: &Network, id: Id) -> usize {
    let shard = net.shard(id);
    shard.connections().map(|conn| shard.buffered(conn)).sum()
}

fn rules(net: &Network, id: Id) -> Vec<Rule> {
    let rule = |report: &EchoReport| match report {
        EchoReport::Broken { why: Closed::Error(error), .. } => Some(error.rule),
        _ => None,
    };
    net.reports(id).iter().filter_map(|(_, it)| rule(it)).collect()
}

fn post(len: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    let content = (0..len).map(|n| (n % 251) as u8);
    head.into_bytes().into_iter().chain(content).collect()
}

#[test]
fn content_comes_back_as_it_came() {
    for len in [0, 1, 16 * 1024, 16 * 1024 + 1, 200_000] {
        let (mut net, _) = serving();
        let peer = connect(&mut net);
        net.write(peer, post(len));
        net.run_for(SECOND).unwrap();
        let back = net.take_received(peer);
        assert!(back.ends_with(&post(len)[post(len).len() - len..]), "{len}");
        let head = String::from_utf8_lossy(&back[..back.len() - len]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {len}\r\n")), "{head}");
    }
}

#[test]
fn long_content_is_passed_on_as_it_comes() {
    let (mut net, _) = serving();
    let peer = connect(&mut net);
    net.write(peer, &post(100_000)[..10_000]);
    net.run_for(SECOND).unwrap();
    assert_eq!(text(&mut net, peer), "");
    net.write(peer, &post(100_000)[10_000..30_000]);
    net.run_for(SECOND).unwrap();
    assert!(net.take_received(peer).len() > 29_000);
}

#[test]
fn chunks_come_back_as_chunks() {
    let (mut net, _) = serving();
    let peer = connect(&mut net);
    net.write(peer, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        net.write(peer, [b"200\r\n", &[b'x'; 0x200][..], b"\r\n"].concat());
    }
    net.write(peer, "0\r\nX-Sum: 1\r\n\r\n");
    net.run_for(SECOND).unwrap();
    let back = text(&mut net, peer);
    let (head, chunks) = back.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nTransfer-Encoding: chunked") && !head.contains("Length"), "{head}");
    assert_eq!(chunks.matches('x').count(), 100 * 0x200);
    assert!(chunks.ends_with("\r\n0\r\n\r\n"));
    // HTTP/1.0 has none of them: all until the end.
    let peer = connect(&mut net);
    net.write(peer, b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
    net.run_for(SECOND).unwrap();
    assert!(text(&mut net, peer).ends_with("\r\n\r\nhello"));
    assert!(net.peer(peer).eof().is_some());
}

#[test]
fn some_methods_are_not_echoed() {
    let (mut net, _) = serving();
    let peer = connect(&mut net);
    for (request, expected) in [
        ("TRACE / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n", "501"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501"),
        ("BREW / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nsec", "501"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "204"),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "200"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "200"),
    ] {
        net.write(peer, request);
        net.run_for(SECOND / 10).unwrap();
        let back = text(&mut net, peer);
        assert!(back.starts_with(&format!("HTTP/1.1 {expected} ")), "{request:?}: {back}");
        assert!(!back.contains("sec"), "{back}");
        assert_eq!(back.contains("\r\nAllow: GET"), expected == "204", "{back}");
        assert_eq!(back.ends_with("abc"), request.starts_with("GET"), "{back}");
    }
}

#[test]
fn one_who_never_reads_is_cut_and_costs_little() {
    let (mut net, id) = serving();
    let peer = connect(&mut net);
    net.set_reading(peer, false);
    let mut most = 0;
    for _ in 0..200 {
        net.write(peer, post(10_000));
        net.run_for(SECOND / 10).unwrap();
        most = most.max(held(&net, id));
    }
    // The mark, what one read adds, and what waits unread.
    assert!(most > Outbox::MARK / 2 && most < 4 * Outbox::MARK, "{most}");
    net.run_for(SECOND * 90).unwrap();
    assert_eq!(rules(&net, id), [Rule::WriteTime]);
    assert_eq!(net.shard(id).connections().count(), 0);
}

#[test]
fn one_octet_a_second_is_cut() {
    for start in ["", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"] {
        let (mut net, id) = serving();
        let peer = connect(&mut net);
        net.write(peer, start);
        for _ in 0..15 {
            net.write(peer, "G");
            net.run_for(SECOND).unwrap();
        }
        let back = text(&mut net, peer);
        assert!(back.starts_with("HTTP/1.1 408 "), "{back}");
        assert!(net.peer(peer).eof().is_some());
        let rule = if start.is_empty() { Rule::HeadTime } else { Rule::BodyTime };
        assert_eq!(rules(&net, id), [rule]);
    }
}

#[test]
fn one_who_has_finished_is_still_answered() {
    let (mut net, _) = serving();
    let peer = connect(&mut net);
    net.write(peer, post(100_000));
    net.finish(peer);
    net.run_for(SECOND).unwrap();
    assert!(net.peer(peer).received().len() > 100_000);
    assert!(net.peer(peer).eof().is_some());
    // Not one who has finished too early.
    let peer = connect(&mut net);
    net.write(peer, &post(100)[..80]);
    net.finish(peer);
    net.run_for(SECOND).unwrap();
    assert!(text(&mut net, peer).starts_with("HTTP/1.1 400 "));
}

#[test]
fn one_who_resets_leaves_nothing() {
    let (mut net, id) = serving();
    for len in [0, 10, 60, 100, 50_000] {
        let peer = connect(&mut net);
        net.set_reading(peer, false);
        net.write(peer, &post(100_000)[..len]);
        net.run_for(SECOND / 10).unwrap();
        net.reset(peer);
        net.run_for(SECOND / 10).unwrap();
        assert_eq!(net.shard(id).connections().count(), 0, "{len}");
    }
    let reset = |it: &EchoReport| {
        matches!(it, EchoReport::Broken { why: Closed::Failed(Failure::Reset), .. })
    };
    assert_eq!(net.reports(id).iter().filter(|(_, it)| reset(it)).count(), 5);
}

#[test]
fn it_stops_when_all_are_answered() {
    let (mut net, id) = serving();
    let (idle, busy) = (connect(&mut net), connect(&mut net));
    net.write(busy, &post(100)[..100]);
    net.run_for(SECOND * 2).unwrap();
    net.send_message(id, EchoMessage::Stop);
    net.run_for(SECOND / 10).unwrap();
    assert!(net.peer(idle).eof().is_some());
    assert!(!net.is_over(id));
    net.write(busy, &post(100)[100..]);
    net.run_for(SECOND / 10).unwrap();
    let back = net.take_received(busy);
    let back = String::from_utf8_lossy(&back);
    assert!(back.starts_with("HTTP/1.1 200 OK\r\n"), "{back}");
    assert!(back.contains("\r\nConnection: close\r\n"), "{back}");
    net.close(idle);
    net.close(busy);
    net.run_for(SECOND).unwrap();
    assert!(net.is_over(id));
}

#[test]
fn a_thousand_idle_connections_hold_nothing() {
    let (mut net, id) = serving();
    let peers: Vec<PeerId> = (0..1000).map(|_| connect(&mut net)).collect();
    for &peer in &peers {
        net.write(peer, post(10));
    }
    net.run_for(SECOND).unwrap();
    assert_eq!(held(&net, id), 0);
    assert_eq!(net.shard(id).connections().count(), 1000);
    assert!(size_of::<Server>() <= 512, "{}", size_of::<Server>());
    net.run_for(SECOND * 62).unwrap();
    // Those are silent; who says so was not told anything but the end.
    assert!(peers.iter().all(|&peer| net.peer(peer).eof().is_some()));
}
