//! One file in order, for a pipe.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_file::wire::ErrorCode;
use semfio_file::{
    FetchError, Lost, Pour, PourConfig, PourMessage, PourOutcome, PourReport, Repository,
    RepositoryConfig, Session, WINDOW,
};
use semfio_machine::{Failure, NetLimits, RootId, Shard, Target};
use semfio_path::{Policy, SafeName};
use semfio_sim::{LinkConfig, Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const GROUP: usize = 65_536;

type ServerId = ShardId<Session, Repository>;
type ClientId = ShardId<Session, Pour>;

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn serve(net: &mut Network) -> ServerId {
    let service = Repository::new(RepositoryConfig::default());
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn pour(net: &mut Network) -> ClientId {
    let config = PourConfig {
        target: Target::Address(address()),
        name: SafeName::parse("a", Policy::default()).unwrap(),
        retries: 10,
    };
    net.add(CLIENT, Shard::new(Pour::new(config), NetLimits::default()))
}

/// Takes all that is told, as it is told, for so long.
fn take(net: &mut Network, client: ClientId, mut turns: usize) -> (Vec<u8>, Vec<PourReport>) {
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    while !net.is_over(client) && turns > 0 {
        turns -= 1;
        net.run_for(Duration::from_millis(10)).unwrap();
        let mut bytes = 0;
        for (_, report) in net.take_reports(client) {
            match report {
                PourReport::Content(content) => {
                    bytes += content.len() as u64;
                    taken.extend_from_slice(&content);
                }
                other => others.push(other),
            }
        }
        if bytes > 0 && !net.is_over(client) {
            net.send_message(client, PourMessage::Taken(bytes));
        }
    }
    (taken, others)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

fn slow() -> LinkConfig {
    let bandwidth = std::num::NonZeroU64::new(2_000_000);
    LinkConfig { bandwidth, ..LinkConfig::default() }
}

#[test]
fn every_length_comes_in_order() {
    for len in [0, 1, GROUP - 1, GROUP, GROUP + 1, 70 * GROUP + 5, 130 * GROUP] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        let content = pattern(len);
        net.disk_mut(server).put_file(ROOT, "a", content.clone());
        let client = pour(&mut net);
        let (taken, reports) = take(&mut net, client, 10_000);
        assert!(taken == content, "{len}: {} came", taken.len());
        assert_eq!(reports.first(), Some(&PourReport::Begun(len as u64)));
        match reports.last() {
            Some(PourReport::Over(PourOutcome::Whole { size, received, .. })) => {
                assert_eq!(*size, len as u64);
                assert!(*received as usize <= len + len / 100 + 64);
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

/// Whoever reads slowly holds the server back, and a little here.
#[test]
fn what_is_not_taken_is_not_sent_for() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let content = pattern(200 * GROUP);
    net.disk_mut(server).put_file(ROOT, "a", content.clone());
    let client = pour(&mut net);
    net.run_for(Duration::from_secs(30)).unwrap();
    let told = |net: &Network| -> u64 {
        let bytes = |report: &PourReport| match report {
            PourReport::Content(bytes) => bytes.len() as u64,
            _ => 0,
        };
        net.reports(client).iter().map(|(_, report)| bytes(report)).sum()
    };
    let first = told(&net);
    assert!((WINDOW..WINDOW + 2 * GROUP as u64).contains(&first), "{first}");
    // The server gives up in the meantime, and more than once: still no more comes.
    net.run_for(Duration::from_secs(1_000)).unwrap();
    assert_eq!(told(&net), first);
    let (taken, reports) = take(&mut net, client, 1);
    assert!(taken == content[..taken.len()], "{reports:?}");
    let (rest, _) = take(&mut net, client, 10_000);
    assert!([taken, rest].concat() == content);
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_was() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let content = pattern(60 * GROUP + 3);
    net.disk_mut(server).put_file(ROOT, "a", content.clone());
    let client = pour(&mut net);
    let mut all = Vec::new();
    let mut server = server;
    for _ in 0..5 {
        all.extend(take(&mut net, client, 30).0);
        // The server dies, and is started again.
        let disk = net.kill(server);
        server = serve(&mut net);
        *net.disk_mut(server) = disk;
    }
    let (rest, reports) = take(&mut net, client, 10_000);
    all.extend(rest);
    assert!(all == content, "{} of {}: {reports:?}", all.len(), content.len());
}

/// Half of one content and half of another is neither.
#[test]
fn a_file_that_changes_is_never_mixed() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let content = pattern(60 * GROUP);
    net.disk_mut(server).put_file(ROOT, "a", content.clone());
    let client = pour(&mut net);
    let (some, _) = take(&mut net, client, 60);
    assert!(!some.is_empty());
    let new: Vec<u8> = content.iter().map(|byte| byte ^ 0x55).collect();
    assert!(net.disk_mut(server).rewrite(semfio_machine::Now::default(), ROOT, "a", new));
    let (rest, reports) = take(&mut net, client, 100_000);
    let all = [some, rest].concat();
    assert!(all == content[..all.len()]);
    let told = all.len() as u64;
    let expected = PourOutcome::Failed { why: FetchError::Changing, told };
    assert_eq!(reports.last(), Some(&PourReport::Over(expected)));
}

#[test]
fn what_cannot_be_had_is_told_of() {
    let refused = |code| PourOutcome::Failed { why: FetchError::Refused(code), told: 0 };
    let lost =
        PourOutcome::Failed { why: FetchError::Lost(Lost::Failed(Failure::Refused)), told: 0 };
    let interrupted = PourOutcome::Failed { why: FetchError::Interrupted, told: 0 };
    for (case, expected) in
        [refused(ErrorCode::Unknown), refused(ErrorCode::WrongKind), lost, interrupted]
            .into_iter()
            .enumerate()
    {
        let mut net = Network::new(1);
        if case < 2 {
            let server = serve(&mut net);
            if case == 1 {
                net.disk_mut(server).put_folder(ROOT, "a");
            }
        }
        if case == 3 {
            assert!(net.listen_raw(address()));
        }
        let client = pour(&mut net);
        if case == 3 {
            net.run_for(Duration::from_secs(1)).unwrap();
            net.send_message(client, PourMessage::Interrupt);
        }
        let (taken, reports) = take(&mut net, client, 1_000);
        assert!(taken.is_empty());
        assert_eq!(reports.last(), Some(&PourReport::Over(expected)), "{case}");
    }
}
