//! The framed dialect, both sides, over links and disks that fail.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_file::{
    Fetch, FetchConfig, FetchError, FetchMessage, FetchReport, Lost, Repository, RepositoryConfig,
    Session, SessionError, Stage,
};
use semfio_machine::{
    Effect, Failure, NetLimits, Now, OwnedReply, RootId, Shard, Target, UnixTime,
};
use semfio_path::{Policy, SafeName, is_part};
use semfio_sim::{Disk, DiskConfig, LinkConfig, Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

type ServerId = ShardId<Session, Repository>;
type ClientId = ShardId<Session, Fetch>;

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn name(name: &str) -> SafeName {
    SafeName::parse(name, Policy::default()).unwrap()
}

fn serve(net: &mut Network) -> ServerId {
    let service = Repository::new(RepositoryConfig::default());
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn config(names: &[&str]) -> FetchConfig {
    FetchConfig {
        target: Target::Address(address()),
        names: names.iter().map(|n| name(n)).collect(),
        root: ROOT,
        save_as: None,
        replace: false,
        jobs: 1,
        policy: Policy::default(),
        retries: 10,
    }
}

fn fetch(net: &mut Network, config: FetchConfig) -> ClientId {
    let service = Fetch::new(config);
    let client = net.add(CLIENT, Shard::new(service, NetLimits::default()));
    net.disk_mut(client).put_folder(ROOT, "");
    client
}

fn run(net: &mut Network, client: ClientId) -> Vec<FetchReport> {
    net.run_until(|net| net.is_over(client)).unwrap_or_else(|stuck| {
        panic!("{stuck:?} {:?} {:?}", net.reports(client), net.shard(client).service())
    });
    net.reports(client).iter().map(|(_, report)| report.clone()).collect()
}

fn over(reports: &[FetchReport]) -> (usize, usize) {
    match reports.last() {
        Some(FetchReport::Over { done, failed }) => (*done, *failed),
        other => panic!("it ended with {other:?}"),
    }
}

fn received(reports: &[FetchReport]) -> u64 {
    let received = |report: &FetchReport| match report {
        FetchReport::Done { received, .. } => Some(*received),
        _ => None,
    };
    reports.iter().find_map(received).expect("it is done")
}

fn resumed(reports: &[FetchReport]) -> u64 {
    let resumed = |report: &FetchReport| match report {
        FetchReport::Begun { resumed, .. } => Some(*resumed),
        _ => None,
    };
    reports.iter().find_map(resumed).expect("it began")
}

fn failure(reports: &[FetchReport]) -> &FetchError {
    for report in reports {
        if let FetchReport::Failed { why, .. } = report {
            return why;
        }
    }
    panic!("it fails: {reports:?}")
}

fn parts(disk: &Disk) -> Vec<&str> {
    disk.names(ROOT, "").into_iter().filter(|name| is_part(name)).collect()
}

/// Content no two groups of which are the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

const GROUP: usize = 65_536;

#[test]
fn every_length_arrives_as_it_is() {
    let lens = [0, 1, 2, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP, 70 * GROUP + 5, 130 * GROUP];
    for jobs in [1, 3] {
        for len in lens {
            let content = pattern(len);
            let mut net = Network::new(1);
            let server = serve(&mut net);
            net.disk_mut(server).put_file(ROOT, "a.jpg", content.clone());
            let client = fetch(&mut net, FetchConfig { jobs, ..config(&["a.jpg"]) });
            let reports = run(&mut net, client);
            assert_eq!(over(&reports), (1, 0), "{len}: {reports:?}");
            assert!(net.disk(client).content(ROOT, "a.jpg") == Some(&content[..]));
            assert_eq!(net.disk(client).names(ROOT, ""), ["a.jpg"]);
            let received = received(&reports) as usize;
            assert!(received >= len && received <= len + len / 100 + 64, "{len}: {received}");
            net.run_until_idle().unwrap();
            assert_eq!((net.disk(server).open_files(), net.disk(client).open_files()), (0, 0));
        }
    }
}

/// A server that holds two hashes of a file, so that each of some MiB is a large one, and puts the
/// others away if it can.
fn serve_large(net: &mut Network, content: &[u8], scratch: Option<RootId>) -> ServerId {
    let config = RepositoryConfig { scratch, ..RepositoryConfig::default() };
    let service = Repository::new(config).with_hashes(12);
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(SCRATCH, "");
    net.disk_mut(server).put_file(ROOT, "large.bin", content);
    assert!(net.listen(server, address()));
    server
}

const SCRATCH: RootId = RootId(1);

/// Fetches from it, and gives how many operations of its disk that took.
fn fetch_large(net: &mut Network, server: ServerId, content: &[u8]) -> u64 {
    let before = net.disk(server).operations();
    let client = fetch(net, config(&["large.bin"]));
    let reports = run(net, client);
    assert_eq!(over(&reports), (1, 0), "{reports:?}");
    assert!(net.disk(client).content(ROOT, "large.bin") == Some(content));
    net.run_until_idle().unwrap();
    net.disk(server).operations() - before
}

#[test]
fn large_files_are_hashed_once_where_there_is_a_place_for_their_hashes() {
    // Six spans, the last of them one group.
    let content = pattern(320 * GROUP + 5);
    let mut net = Network::new(1);
    let server = serve_large(&mut net, &content, None);
    let (cold, cached) =
        (fetch_large(&mut net, server, &content), fetch_large(&mut net, server, &content));
    let mut net = Network::new(1);
    let server = serve_large(&mut net, &content, Some(SCRATCH));
    let (cold_away, cached_away) =
        (fetch_large(&mut net, server, &content), fetch_large(&mut net, server, &content));
    // Five spans are read for the second time, 256 KiB at once: 80 reads in place of 5. How the content is
    // read that leaves depends on what else there is to do.
    assert!(cached_away + 50 < cached, "{cached_away} {cached}");
    assert!(cold_away + 50 < cold, "{cold_away} {cold}");
    assert_eq!(net.disk(server).open_files(), 1, "the one without a name is kept");
    assert!(net.disk(server).names(SCRATCH, "").is_empty());
    // It has changed, and so have its hashes.
    let content = pattern(320 * GROUP + 6);
    net.disk_mut(server).put_file(ROOT, "large.bin", content.clone());
    fetch_large(&mut net, server, &content);
    assert!(fetch_large(&mut net, server, &content) + 50 < cached);
    assert_eq!(net.disk(server).open_files(), 2, "one for each state of the file");
}

#[test]
fn hashes_that_cannot_be_put_away_are_made_again() {
    let content = pattern(80 * GROUP);
    // There is no such folder.
    let mut net = Network::new(1);
    let server = serve_large(&mut net, &content, Some(RootId(2)));
    fetch_large(&mut net, server, &content);
    fetch_large(&mut net, server, &content);
    assert_eq!(net.disk(server).open_files(), 0);
    // There is no space left.
    let mut net = Network::new(1);
    let server = serve_large(&mut net, &content, Some(SCRATCH));
    let full = DiskConfig { capacity: Some(content.len() as u64), ..DiskConfig::default() };
    net.disk_mut(server).set_config(full);
    fetch_large(&mut net, server, &content);
    fetch_large(&mut net, server, &content);
    assert_eq!(net.disk(server).open_files(), 0);
    // They are gone, as when other files took their place.
    let mut net = Network::new(1);
    let server = serve_large(&mut net, &content, Some(SCRATCH));
    fetch_large(&mut net, server, &content);
    net.disk_mut(server).close_all();
    fetch_large(&mut net, server, &content);
    // Any one operation fails.
    for n in 0..36 {
        let mut net = Network::new(1);
        let server = serve_large(&mut net, &content, Some(SCRATCH));
        net.disk_mut(server).fail_nth(n, Failure::Other);
        let client = fetch(&mut net, config(&["large.bin"]));
        let reports = run(&mut net, client);
        if over(&reports) == (1, 0) {
            assert!(net.disk(client).content(ROOT, "large.bin") == Some(&content[..]));
        }
        net.run_until_idle().unwrap();
        assert!(net.disk(server).open_files() <= 1, "{n}");
    }
}

#[test]
fn folders_come_with_what_is_in_them() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let disk = net.disk_mut(server);
    disk.put_file(ROOT, "fotos/praia.jpg", "beach");
    disk.put_file(ROOT, "fotos/gato/um.jpg", "one");
    disk.put_file(ROOT, "fotos/gato/dois.jpg", pattern(200_000));
    disk.put_file(ROOT, "fotos/.hidden", "not told of");
    disk.put_file(ROOT, "fotos/.x.semfio-0001.part", "not whole");
    disk.put_other(ROOT, "fotos/pipe");
    disk.put_folder(ROOT, "fotos/vazio");
    for n in 0..2_500 {
        disk.put_file(ROOT, &format!("fotos/muitos/{n:05}"), "one");
    }
    disk.put_file(ROOT, "other/solto.txt", "loose");
    let client = fetch(&mut net, config(&["fotos", "other/solto.txt"]));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (2_504, 0));
    let disk = net.disk(client);
    assert_eq!(disk.names(ROOT, ""), ["fotos", "solto.txt"]);
    assert_eq!(disk.names(ROOT, "fotos"), ["gato", "muitos", "praia.jpg", "vazio"]);
    assert_eq!(disk.content(ROOT, "fotos/gato/um.jpg"), Some(&b"one"[..]));
    assert!(disk.content(ROOT, "fotos/gato/dois.jpg") == Some(&pattern(200_000)));
    assert_eq!(disk.names(ROOT, "fotos/muitos").len(), 2_500);
}

#[test]
fn what_is_unknown_fails_and_the_rest_goes_on() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", "first");
    net.disk_mut(server).put_file(ROOT, "b", "second");
    net.disk_mut(server).put_other(ROOT, "pipe");
    let client = fetch(&mut net, config(&["a", "none", "pipe", "b"]));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (2, 2), "{reports:?}");
    assert_eq!(net.disk(client).names(ROOT, ""), ["a", "b"]);
}

#[test]
fn what_is_there_already_is_compared_and_only_replaced_when_asked() {
    for (there, replace, expected) in [
        ("same", false, (1, 0)),
        ("else", false, (0, 1)),
        ("else", true, (1, 0)),
        ("longer", false, (0, 1)),
    ] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", "same");
        let client = fetch(&mut net, FetchConfig { replace, ..config(&["a"]) });
        net.disk_mut(client).put_file(ROOT, "a", there);
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), expected, "{there} {replace}");
        let content = if expected == (1, 0) { "same" } else { there };
        assert_eq!(net.disk(client).content(ROOT, "a"), Some(content.as_bytes()));
        assert!(parts(net.disk(client)).is_empty());
    }
}

#[test]
fn what_is_no_file_is_not_replaced() {
    for replace in [false, true] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "null", "content");
        let client = fetch(&mut net, FetchConfig { replace, ..config(&["null"]) });
        net.disk_mut(client).put_other(ROOT, "null");
        let reports = run(&mut net, client);
        let why = &FetchError::NotSaved(Stage::Look, Failure::WrongKind);
        assert_eq!(failure(&reports), why, "{replace}");
        assert_eq!(net.disk(client).names(ROOT, ""), ["null"]);
        assert_eq!(net.disk(client).content(ROOT, "null"), None, "{replace}");
    }
}

/// An empty partial file is removed, and not said to be kept.
#[test]
fn a_part_is_said_to_be_kept_only_if_it_is() {
    for size in [0, 300_000] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", pattern(3_000_000));
        let client = fetch(&mut net, config(&["a"]));
        let config = DiskConfig { capacity: Some(size), ..DiskConfig::default() };
        net.disk_mut(client).set_config(config);
        let reports = run(&mut net, client);
        net.run_until_idle().unwrap();
        let kept = reports.iter().find_map(|report| match report {
            FetchReport::Failed { part, .. } => Some(part.as_ref().map(SafeName::as_str)),
            _ => None,
        });
        assert_eq!(kept.expect("it failed"), parts(net.disk(client)).first().copied(), "{size}");
    }
}

/// Kills the client once so many bytes are proved, and gives its disk.
fn kill_at(net: &mut Network, client: ClientId, bytes: u64) -> Disk {
    let got = |net: &Network| {
        net.reports(client).iter().any(|(_, report)| {
            matches!(report, FetchReport::Progress { proved, .. } if *proved >= bytes)
        })
    };
    net.run_until(got).unwrap();
    net.kill(client)
}

fn slow() -> LinkConfig {
    // Slow enough for progress to be told often.
    let bandwidth = std::num::NonZeroU64::new(2_000_000);
    LinkConfig { bandwidth, ..LinkConfig::default() }
}

#[test]
fn a_fetch_killed_at_94_percent_resends_less_than_a_hundredth_and_a_group() {
    let len = 32 * 1024 * 1024;
    let content = pattern(len);
    for jobs in [1, 4] {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", content.clone());
        let client = fetch(&mut net, FetchConfig { jobs, ..config(&["a"]) });
        let disk = kill_at(&mut net, client, len as u64 * 94 / 100);
        assert_eq!(disk.content(ROOT, "a"), None);
        let again = fetch(&mut net, FetchConfig { jobs, ..config(&["a"]) });
        *net.disk_mut(again) = disk;
        let reports = run(&mut net, again);
        assert_eq!(over(&reports), (1, 0));
        assert!(net.disk(again).content(ROOT, "a") == Some(&content));
        let missing = (len as u64).saturating_sub(resumed(&reports));
        let resent = received(&reports).saturating_sub(len as u64 * 6 / 100);
        assert!(
            resent < len as u64 / 100 + GROUP as u64,
            "{jobs}: {resent}, {missing} were missing"
        );
    }
}

/// What the part holds is believed only as far as it hashes right.
#[test]
fn a_damaged_part_is_mended_group_by_group() {
    let content = pattern(40 * GROUP + 77);
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", content.clone());
    let client = fetch(&mut net, config(&["a"]));
    let disk = kill_at(&mut net, client, 20 * GROUP as u64);
    let part = parts(&disk)[0].to_owned();
    let held = disk.content(ROOT, &part).unwrap().to_vec();
    let groups = held.len() / GROUP;
    let mut damaged = held.clone();
    damaged[3 * GROUP + 5] ^= 1;
    damaged[9 * GROUP] ^= 1;
    let mut longer = content.clone();
    longer.push(0);
    let mut wrong_at_the_end = content.clone();
    *wrong_at_the_end.last_mut().unwrap() ^= 1;
    for (held, kept) in [
        (held.clone(), groups * GROUP),
        (damaged, (groups - 2) * GROUP),
        (content.clone(), content.len()),
        (wrong_at_the_end, 40 * GROUP),
        (vec![0; content.len()], 0),
        (longer, 0),
        (vec![7], 0),
        (Vec::new(), 0),
    ] {
        let client = fetch(&mut net, config(&["a"]));
        net.disk_mut(client).put_file(ROOT, &part, held);
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (1, 0));
        assert_eq!(resumed(&reports), kept as u64);
        let disk = net.disk(client);
        assert!(disk.content(ROOT, "a") == Some(&content));
        assert_eq!(disk.names(ROOT, ""), ["a"]);
    }
}

#[test]
fn a_changed_source_starts_anew_and_says_so() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", pattern(2_000_000));
    let client = fetch(&mut net, config(&["a"]));
    let disk = kill_at(&mut net, client, 1_000_000);
    let mut changed = pattern(2_000_000);
    changed[7] ^= 1;
    net.disk_mut(server).put_file(ROOT, "a", changed.clone());
    let again = fetch(&mut net, config(&["a"]));
    *net.disk_mut(again) = disk;
    // The host may end with the last report: nothing is left to be done then.
    let latency = Duration::from_millis(10);
    net.disk_mut(again).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let reports = run(&mut net, again);
    assert_eq!(net.disk(again).names(ROOT, ""), ["a"], "the old part is gone");
    assert_eq!(over(&reports), (1, 0));
    assert!(reports.contains(&FetchReport::StartedAnew(name("a"))), "{reports:?}");
    assert_eq!(resumed(&reports), 0);
    assert!(net.disk(again).content(ROOT, "a") == Some(&changed));
}

/// In place, or by another file of that name, shorter, longer or as long; once, or for ever.
#[test]
fn a_source_that_changes_while_it_is_sent_is_never_mixed() {
    let lens = [300_000, 2_000_000, 4_000_000];
    for (case, len) in
        lens.into_iter().enumerate().flat_map(|(n, len)| [(n * 2, len), (n * 2 + 1, len)])
    {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", pattern(2_000_000));
        let client = fetch(&mut net, FetchConfig { jobs: 2, ..config(&["a"]) });
        net.run_for(Duration::from_millis(400)).unwrap();
        let new: Vec<u8> = pattern(len).iter().map(|byte| byte ^ 0x55).collect();
        if case % 2 == 0 {
            assert!(net.disk_mut(server).rewrite(Now::default(), ROOT, "a", new.clone()));
        } else {
            net.disk_mut(server).put_file(ROOT, "a", new.clone());
        }
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (1, 0), "{reports:?}");
        let got = net.disk(client).content(ROOT, "a").unwrap();
        // Another file of that name leaves the one that is open what it was.
        assert!(got == new || case % 2 == 1 && got == pattern(2_000_000), "case {case}");
        assert_eq!(net.disk(client).names(ROOT, ""), ["a"]);
    }

    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", pattern(2_000_000));
    let client = fetch(&mut net, config(&["a"]));
    for turn in 0..1000 {
        net.run_for(Duration::from_millis(100)).unwrap();
        if net.is_over(client) {
            break;
        }
        let new: Vec<u8> = pattern(2_000_000).iter().map(|byte| byte ^ turn as u8).collect();
        net.disk_mut(server).rewrite(Now::default(), ROOT, "a", new);
    }
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 1));
    assert_eq!(net.disk(client).content(ROOT, "a"), None);
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let content = pattern(3_000_000);
    let mut net = Network::new(1);
    let link = LinkConfig { reset_after: Some(700_000), ..LinkConfig::default() };
    net.set_link(SERVER, CLIENT, link);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", content.clone());
    let client = fetch(&mut net, config(&["a"]));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (1, 0), "{reports:?}");
    assert!(net.disk(client).content(ROOT, "a") == Some(&content));
    let lost = reports.iter().filter(|report| matches!(report, FetchReport::Lost { .. })).count();
    assert!((4..10).contains(&lost), "{lost}");
}

#[test]
fn a_server_that_never_was_is_given_up_at_once_and_one_that_is_gone_later() {
    let refused = Lost::Failed(Failure::Refused);
    let lost = |reports: &[FetchReport]| {
        reports.iter().filter(|report| matches!(report, FetchReport::Lost { .. })).count()
    };
    let mut net = Network::new(1);
    let client = fetch(&mut net, FetchConfig { retries: 3, ..config(&["a", "b"]) });
    let reports = run(&mut net, client);
    assert_eq!(reports[0], FetchReport::Unreachable(refused));
    assert_eq!(over(&reports), (0, 2), "{reports:?}");

    // One that never answers is none.
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = fetch(&mut net, FetchConfig { retries: 1, ..config(&["a"]) });
    let reports = run(&mut net, client);
    let none = FetchReport::Unreachable(Lost::Protocol(SessionError::HelloTimeout));
    assert_eq!((&reports[0], over(&reports)), (&none, (0, 1)));

    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", pattern(2_000_000));
    let client = fetch(&mut net, FetchConfig { retries: 3, ..config(&["a", "b"]) });
    net.run_for(Duration::from_millis(600)).unwrap();
    net.kill(server);
    let reports = run(&mut net, client);
    assert_eq!((lost(&reports), over(&reports)), (3, (0, 2)), "{reports:?}");
    assert!(reports.contains(&FetchReport::Unreachable(refused)));
    assert_eq!(failure(&reports), &FetchError::Lost(refused));
}

#[test]
fn an_interrupt_keeps_the_part() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", pattern(2_000_000));
    let client = fetch(&mut net, config(&["a", "b"]));
    net.run_for(Duration::from_millis(600)).unwrap();
    net.send_message(client, FetchMessage::Interrupt);
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 2));
    assert_eq!(failure(&reports), &FetchError::Interrupted);
    let part = parts(net.disk(client))[0].to_owned();
    assert!(net.disk(client).content(ROOT, &part).unwrap().len() > 500_000);
    assert!(reports.iter().any(|report| matches!(report,
        FetchReport::Failed { part: Some(kept), .. } if kept.as_str() == part)));
    assert_eq!(net.disk(client).open_files(), 0);
}

/// A file that was last modified so many milliseconds after 1970.
fn put_dated(disk: &mut Disk, path: &str, content: &[u8], millis: u64) {
    let unix = UnixTime::from_nanos(millis * 1_000_000);
    disk.put_file(ROOT, path, content);
    assert!(disk.rewrite(Now { unix, ..Now::default() }, ROOT, path, content));
}

#[test]
fn a_file_is_as_old_here_as_where_it_came_from() {
    for jobs in [1, 3] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        put_dated(net.disk_mut(server), "a", &pattern(300_000), 1_234_567_890_123);
        let client = fetch(&mut net, FetchConfig { jobs, ..config(&["a"]) });
        assert_eq!(over(&run(&mut net, client)), (1, 0));
        assert_eq!(modified(net.disk_mut(client), "a"), 1_234_567_890_123);
    }
}

fn modified(disk: &mut Disk, path: &str) -> u64 {
    let effect = Effect::Stat { root: ROOT, path: path.into() };
    match disk.perform(Now::default(), &effect) {
        OwnedReply::Found(metadata) => metadata.modified.as_millis(),
        other => panic!("{other:?}"),
    }
}

/// Each operation on the client's disk fails once, in each way.
#[test]
fn a_disk_that_fails_at_any_step_leaves_no_wrong_file() {
    let content = pattern(300_000);
    let mut undated = 0;
    for failure in [Failure::Full, Failure::Denied, Failure::Exists] {
        for step in 1.. {
            let mut net = Network::new(step);
            let server = serve(&mut net);
            put_dated(net.disk_mut(server), "f/a", &content, 1_234_567_890_123);
            let client = fetch(&mut net, config(&["f"]));
            net.disk_mut(client).fail_nth(step, failure);
            let (reports, operations) = (run(&mut net, client), net.disk(client).operations());
            net.run_until_idle().unwrap();
            let disk = net.disk(client);
            assert_eq!(disk.open_files(), 0, "{step}");
            if let Some(found) = disk.content(ROOT, "f/a") {
                assert!(found == content, "{step}");
            }
            if over(&reports) == (1, 0) {
                assert!(disk.content(ROOT, "f/a").is_some());
            }
            if operations < step {
                break;
            }
            if over(&reports) == (1, 0) {
                undated += u32::from(modified(net.disk_mut(client), "f/a") != 1_234_567_890_123);
            }
        }
    }
    assert_eq!(undated, 3, "that its time cannot be set is no reason to have no file");
}

#[test]
fn a_full_disk_is_told_and_the_part_kept() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", pattern(3_000_000));
    let client = fetch(&mut net, config(&["a"]));
    let config = DiskConfig { capacity: Some(1_000_000), ..DiskConfig::default() };
    net.disk_mut(client).set_config(config);
    let reports = run(&mut net, client);
    assert_eq!(failure(&reports), &FetchError::NotSaved(Stage::Write, Failure::Full));
    assert_eq!(parts(net.disk(client)).len(), 1);
}

/// One that died when the file had its name and the partial file of former content was still
/// there: the next one tidies up, however many names there are.
#[test]
fn what_is_left_of_former_content_goes_also_if_the_file_is_there() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", "same");
    let client = fetch(&mut net, config(&["a"]));
    let disk = net.disk_mut(client);
    disk.put_file(ROOT, "a", "same");
    disk.put_file(ROOT, ".a.semfio-0001.part", "former");
    disk.put_file(ROOT, ".ab.semfio-0001.part", "another's");
    for n in 0..3_000 {
        disk.put_file(ROOT, &format!(".a{n}"), "");
        disk.put_file(ROOT, &format!("b{n}"), "");
    }
    let before = disk.operations();
    let reports = run(&mut net, client);
    net.run_until_idle().unwrap();
    assert_eq!(over(&reports), (1, 0));
    assert!(!reports.iter().any(|report| matches!(report, FetchReport::StartedAnew(_))));
    assert_eq!(parts(net.disk(client)), [".ab.semfio-0001.part"]);
    // Not a listing of the whole folder for each file.
    let operations = net.disk(client).operations() - before;
    assert!(operations <= 8, "{operations}");
}

/// Denied at each step that writes, and not only once: told, nothing is left open, nothing has the
/// name.
#[test]
fn a_folder_that_takes_nothing_is_told() {
    for first in 1..12 {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", pattern(300_000));
        let client = fetch(&mut net, config(&["a"]));
        // From here on the folder is another user's.
        (first..100).for_each(|step| net.disk_mut(client).fail_nth(step, Failure::Denied));
        let reports = run(&mut net, client);
        net.run_until_idle().unwrap();
        let disk = net.disk(client);
        assert_eq!(disk.open_files(), 0, "{first}");
        let named = disk.content(ROOT, "a");
        assert!(named.is_none_or(|found| found == pattern(300_000)), "{first}");
        if over(&reports) == (0, 1) {
            let why = failure(&reports);
            assert!(matches!(why, FetchError::NotSaved(_, Failure::Denied)), "{first}: {why:?}");
        } else {
            assert!(named.is_some(), "{first}: {reports:?}");
        }
    }
}

#[test]
fn rough_links_and_slow_disks_change_nothing() {
    semfio_sim::check(
        "rough_links_and_slow_disks_change_nothing",
        semfio_sim::seeds!(40),
        |seed| {
            let content = pattern([5, GROUP + 9, 90_000][seed as usize % 3]);
            let mut net = Network::new(seed);
            net.set_default_link(LinkConfig::rough(seed));
            let server = serve(&mut net);
            net.disk_mut(server).put_file(ROOT, "a", content.clone());
            let jobs = seed as usize % 3 + 1;
            let client = fetch(&mut net, FetchConfig { jobs, ..config(&["a"]) });
            let latency = Duration::from_millis(seed % 7 * 30);
            let config = DiskConfig { latency, jitter: latency, ..DiskConfig::default() };
            net.disk_mut(server).set_config(config.clone());
            net.disk_mut(client).set_config(config);
            let reports = run(&mut net, client);
            let disk = net.disk(client);
            if over(&reports) != (1, 0) || disk.content(ROOT, "a") != Some(&content) {
                return Err(format!("{reports:?}"));
            }
            Ok(())
        },
    );
}
