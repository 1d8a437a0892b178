//! Files that are put: both sides, over links and disks that fail.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_file::wire::ErrorCode;
use semfio_file::{
    KEPT, Lost, PutLimits, Repository, RepositoryConfig, RepositoryReport, Session, Upload,
    UploadConfig, UploadError, UploadItem, UploadMessage, UploadReport,
};
use semfio_machine::{
    Effect, Failure, NetLimits, Now, OwnedReply, RootId, Shard, Target, UnixTime,
};
use semfio_path::{Policy, SafeName, is_part};
use semfio_sim::{Disk, DiskConfig, LinkConfig, Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));
const GROUP: usize = 65_536;

type ServerId = ShardId<Session, Repository>;
type ClientId = ShardId<Session, Upload>;

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn name(name: &str) -> SafeName {
    SafeName::parse(name, Policy::default()).unwrap()
}

fn serve_with(net: &mut Network, disk: Disk, writable: Option<PutLimits>) -> ServerId {
    let service = Repository::new(RepositoryConfig { writable, ..RepositoryConfig::default() });
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    *net.disk_mut(server) = disk;
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn serve(net: &mut Network) -> ServerId {
    serve_with(net, Disk::default(), Some(PutLimits::default()))
}

fn config(names: &[&str]) -> UploadConfig {
    let item = |n: &&str| UploadItem { root: ROOT, local: name(n), name: name(n) };
    UploadConfig {
        target: Target::Address(address()),
        items: names.iter().map(item).collect(),
        replace: false,
        policy: Policy::default(),
        retries: 10,
    }
}

fn upload_from(net: &mut Network, address: IpAddr, config: UploadConfig) -> ClientId {
    let client = net.add(address, Shard::new(Upload::new(config), NetLimits::default()));
    net.disk_mut(client).put_folder(ROOT, "");
    client
}

fn upload(net: &mut Network, config: UploadConfig) -> ClientId {
    upload_from(net, CLIENT, config)
}

fn run(net: &mut Network, client: ClientId) -> Vec<UploadReport> {
    net.run_until(|net| net.is_over(client)).unwrap_or_else(|stuck| {
        panic!("{stuck:?} {:?} {:?}", net.reports(client), net.shard(client).service())
    });
    net.reports(client).iter().map(|(_, report)| report.clone()).collect()
}

fn over(reports: &[UploadReport]) -> (usize, usize) {
    match reports.last() {
        Some(UploadReport::Over { done, failed }) => (*done, *failed),
        other => panic!("it ended with {other:?}"),
    }
}

fn resumed(reports: &[UploadReport]) -> u64 {
    let resumed = |report: &UploadReport| match report {
        UploadReport::Begun { resumed, .. } => Some(*resumed),
        _ => None,
    };
    reports.iter().find_map(resumed).expect("it began")
}

fn failures(reports: &[UploadReport]) -> Vec<&UploadError> {
    let mut failures = Vec::new();
    for report in reports {
        if let UploadReport::Failed { why, .. } = report {
            failures.push(why);
        }
    }
    failures
}

fn refusals(net: &Network, server: ServerId) -> Vec<ErrorCode> {
    let code = |report: &RepositoryReport| match report {
        RepositoryReport::Refused { code, .. } => Some(*code),
        _ => None,
    };
    net.reports(server).iter().filter_map(|(_, report)| code(report)).collect()
}

/// Bytes of content that came for each file that was taken.
fn received(net: &Network, server: ServerId) -> Vec<u64> {
    let came = |report: &RepositoryReport| match report {
        RepositoryReport::Taken { received, .. } => Some(*received),
        _ => None,
    };
    net.reports(server).iter().filter_map(|(_, report)| came(report)).collect()
}

fn parts(disk: &Disk) -> Vec<&str> {
    disk.names(ROOT, "").into_iter().filter(|name| is_part(name)).collect()
}

/// Content no two groups of which are the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

fn slow() -> LinkConfig {
    // Slow enough for progress to be told often.
    let bandwidth = std::num::NonZeroU64::new(2_000_000);
    LinkConfig { bandwidth, ..LinkConfig::default() }
}

#[test]
fn every_length_arrives_as_it_is() {
    let lens = [0, 1, 2, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP, 70 * GROUP + 5, 130 * GROUP];
    for len in lens {
        let content = pattern(len);
        let mut net = Network::new(1);
        let server = serve(&mut net);
        let client = upload(&mut net, config(&["a.jpg"]));
        net.disk_mut(client).put_file(ROOT, "a.jpg", content.clone());
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (1, 0), "{len}: {reports:?}");
        assert!(net.disk(server).content(ROOT, "a.jpg") == Some(&content[..]));
        assert_eq!(net.disk(server).names(ROOT, ""), ["a.jpg"]);
        assert_eq!(received(&net, server), [len as u64]);
        assert_eq!(resumed_or_none(&reports), if len == 0 { None } else { Some(0) });
        net.run_until_idle().unwrap();
        assert_eq!((net.disk(server).open_files(), net.disk(client).open_files()), (0, 0));
        // It is durable.
        let mut disk = net.disk(server).clone();
        disk.crash();
        assert!(disk.content(ROOT, "a.jpg") == Some(&content[..]));
    }
}

fn resumed_or_none(reports: &[UploadReport]) -> Option<u64> {
    let begun = |report: &UploadReport| matches!(report, UploadReport::Begun { .. });
    reports.iter().any(begun).then(|| resumed(reports))
}

#[test]
fn folders_go_with_what_is_in_them() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["fotos", "solto.txt", "none"]));
    let disk = net.disk_mut(client);
    disk.put_file(ROOT, "fotos/praia.jpg", "beach");
    disk.put_file(ROOT, "fotos/gato/um.jpg", "one");
    disk.put_file(ROOT, "fotos/gato/dois.jpg", pattern(200_000));
    disk.put_file(ROOT, "fotos/.x.semfio-0001.part", "not whole");
    disk.put_file(ROOT, "fotos/.hidden", "refused by the policy");
    disk.put_other(ROOT, "fotos/pipe");
    disk.put_folder(ROOT, "fotos/vazio");
    for n in 0..2_500 {
        disk.put_file(ROOT, &format!("fotos/muitos/{n:05}"), "one");
    }
    disk.put_file(ROOT, "solto.txt", "loose");
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (2_504, 3));
    assert!(reports.contains(&UploadReport::Made(name("fotos/vazio"))));
    assert!(matches!(
        failures(&reports)[..],
        [UploadError::Name(..), UploadError::WrongKind, UploadError::NotFound(Failure::NotFound)]
    ));
    let disk = net.disk(server);
    assert_eq!(disk.names(ROOT, ""), ["fotos", "solto.txt"]);
    assert_eq!(disk.names(ROOT, "fotos"), ["gato", "muitos", "praia.jpg", "vazio"]);
    assert_eq!(disk.content(ROOT, "fotos/gato/um.jpg"), Some(&b"one"[..]));
    assert!(disk.content(ROOT, "fotos/gato/dois.jpg") == Some(&pattern(200_000)));
    assert_eq!(disk.names(ROOT, "fotos/muitos").len(), 2_500);
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
        net.disk_mut(server).put_file(ROOT, "a", there);
        let client = upload(&mut net, UploadConfig { replace, ..config(&["a"]) });
        net.disk_mut(client).put_file(ROOT, "a", "same");
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), expected, "{there} {replace}");
        if expected == (0, 1) {
            assert_eq!(failures(&reports), [&UploadError::Refused(ErrorCode::Exists)]);
        }
        let content = if expected == (1, 0) { "same" } else { there };
        assert_eq!(net.disk(server).content(ROOT, "a"), Some(content.as_bytes()));
        assert!(parts(net.disk(server)).is_empty());
        // What is there with this content is not sent.
        if there == "same" {
            assert_eq!(received(&net, server), [0]);
        }
    }
}

#[test]
fn nothing_is_taken_where_nothing_may_be_written() {
    let mut net = Network::new(1);
    let server = serve_with(&mut net, Disk::default(), None);
    let client = upload(&mut net, config(&["a", "b"]));
    net.disk_mut(client).put_file(ROOT, "a", "first");
    net.disk_mut(client).put_file(ROOT, "b", "second");
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 2));
    let read_only = UploadError::Refused(ErrorCode::ReadOnly);
    assert_eq!(failures(&reports), [&read_only, &read_only]);
    assert!(net.disk(server).names(ROOT, "").is_empty());
}

/// Kills the client once so many bytes are proved; the server finds out.
fn kill_at(net: &mut Network, client: ClientId, bytes: u64) -> Disk {
    let got = |net: &Network| {
        net.reports(client).iter().any(|(_, report)| {
            matches!(report, UploadReport::Progress { proved, .. } if *proved >= bytes)
        })
    };
    net.run_until(got).unwrap();
    let disk = net.kill(client);
    net.run_for(Duration::from_secs(5)).unwrap();
    disk
}

#[test]
fn an_upload_killed_at_94_percent_resends_less_than_a_hundredth_and_a_group() {
    let len = 32 * 1024 * 1024;
    let content = pattern(len);
    for server_dies in [false, true] {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let server = serve(&mut net);
        let client = upload(&mut net, config(&["a"]));
        net.disk_mut(client).put_file(ROOT, "a", content.clone());
        let disk = kill_at(&mut net, client, len as u64 * 94 / 100);
        assert_eq!(net.disk(server).content(ROOT, "a"), None);
        let server = if server_dies {
            let disk = net.kill(server);
            serve_with(&mut net, disk, Some(PutLimits::default()))
        } else {
            server
        };
        let again = upload(&mut net, config(&["a"]));
        *net.disk_mut(again) = disk;
        let reports = run(&mut net, again);
        assert_eq!(over(&reports), (1, 0));
        assert!(net.disk(server).content(ROOT, "a") == Some(&content));
        // What was proved at 94 % is not sent again, nor what came after.
        let resent = received(&net, server)[0].saturating_sub(len as u64 * 6 / 100);
        assert!(resent < len as u64 / 100 + GROUP as u64, "{server_dies}: {resent}");
        assert!(resumed(&reports) >= len as u64 * 94 / 100);
    }
}

/// What the server's part holds is believed only as far as it hashes right.
#[test]
fn a_damaged_part_is_mended_group_by_group() {
    let content = pattern(40 * GROUP + 77);
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", content.clone());
    let disk = kill_at(&mut net, client, 20 * GROUP as u64);
    let part = parts(net.disk(server))[0].to_owned();
    let held = net.disk(server).content(ROOT, &part).unwrap().to_vec();
    net.kill(server);
    let groups = held.len() / GROUP;
    let mut damaged = held.clone();
    damaged[3 * GROUP + 5] ^= 1;
    damaged[9 * GROUP] ^= 1;
    let mut longer = content.clone();
    longer.push(0);
    let mut wrong_at_the_end = content.clone();
    *wrong_at_the_end.last_mut().unwrap() ^= 1;
    for (held, kept) in [
        (held.clone(), Some(groups * GROUP)),
        (damaged, Some((groups - 2) * GROUP)),
        (content.clone(), None),
        (wrong_at_the_end, Some(40 * GROUP)),
        (vec![0; content.len()], Some(0)),
        (longer, Some(0)),
        (vec![7], Some(0)),
        (Vec::new(), Some(0)),
    ] {
        let server = serve(&mut net);
        // Else it is of 1970, and nobody has come back for it.
        let now = net.now();
        net.disk_mut(server).put_file(ROOT, &part, "");
        assert!(net.disk_mut(server).rewrite(now, ROOT, &part, held));
        let client = upload(&mut net, config(&["a"]));
        *net.disk_mut(client) = disk.clone();
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (1, 0));
        assert_eq!(resumed_or_none(&reports), kept.map(|kept| kept as u64));
        let missing = kept.map_or(0, |kept| content.len() - kept);
        assert_eq!(received(&net, server), [missing as u64]);
        assert!(net.disk(server).content(ROOT, "a") == Some(&content));
        assert_eq!(net.disk(server).names(ROOT, ""), ["a"]);
        net.kill(server);
    }
}

/// In place, or by another file of that name; once, or for ever.
#[test]
fn a_source_that_changes_while_it_is_sent_is_never_mixed() {
    let lens = [300_000, 2_000_000, 4_000_000];
    for (case, len) in
        lens.into_iter().enumerate().flat_map(|(n, len)| [(n * 2, len), (n * 2 + 1, len)])
    {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let server = serve(&mut net);
        let client = upload(&mut net, config(&["a"]));
        net.disk_mut(client).put_file(ROOT, "a", pattern(2_000_000));
        net.run_for(Duration::from_millis(400)).unwrap();
        let new: Vec<u8> = pattern(len).iter().map(|byte| byte ^ 0x55).collect();
        if case % 2 == 0 {
            assert!(net.disk_mut(client).rewrite(Now::default(), ROOT, "a", new.clone()));
        } else {
            net.disk_mut(client).put_file(ROOT, "a", new.clone());
        }
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (1, 0), "{case}: {reports:?}");
        let got = net.disk(server).content(ROOT, "a").unwrap();
        // Another file of that name leaves the one that is open what it was.
        assert!(got == new || case % 2 == 1 && got == pattern(2_000_000), "case {case}");
        assert_eq!(
            reports.contains(&UploadReport::StartedAnew(name("a"))),
            got == new,
            "{reports:?}"
        );
        assert_eq!(net.disk(server).names(ROOT, ""), ["a"]);
    }

    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(2_000_000));
    for turn in 0..1000 {
        net.run_for(Duration::from_millis(100)).unwrap();
        if net.is_over(client) {
            break;
        }
        let new: Vec<u8> = pattern(2_000_000).iter().map(|byte| byte ^ turn as u8).collect();
        net.disk_mut(client).rewrite(Now::default(), ROOT, "a", new);
    }
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 1));
    assert_eq!(failures(&reports), [&UploadError::Changing]);
    assert_eq!(net.disk(server).content(ROOT, "a"), None);
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let content = pattern(3_000_000);
    let mut net = Network::new(1);
    let link = LinkConfig { reset_after: Some(700_000), ..LinkConfig::default() };
    net.set_link(CLIENT, SERVER, link);
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", content.clone());
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (1, 0), "{reports:?}");
    assert!(net.disk(server).content(ROOT, "a") == Some(&content));
    let lost = reports.iter().filter(|report| matches!(report, UploadReport::Lost { .. })).count();
    assert!((4..10).contains(&lost), "{lost}");
    assert!(!reports.contains(&UploadReport::StartedAnew(name("a"))));
}

/// At each step of either side's disk, and the connection is made again.
#[test]
fn an_empty_folder_is_made_through_broken_connections() {
    for steps in 0..100 {
        let mut net = Network::new(steps);
        let server = serve(&mut net);
        let latency = Duration::from_millis(5);
        net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
        let client = upload(&mut net, config(&["f"]));
        net.disk_mut(client).set_config(DiskConfig { latency, ..DiskConfig::default() });
        net.disk_mut(client).put_folder(ROOT, "f/one");
        net.disk_mut(client).put_folder(ROOT, "f/two/deep");
        // Before it greets, a server that goes is taken for one of another kind.
        net.run_until(|net| net.disk(client).operations() > 0).unwrap();
        for _ in 0..steps {
            net.step();
        }
        let disk = net.kill(server);
        let server = serve_with(&mut net, disk, Some(PutLimits::default()));
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (0, 0), "{steps}: {reports:?}");
        let made = |n: &str| reports.contains(&UploadReport::Made(name(n)));
        assert!(made("f/one") && made("f/two/deep"), "{reports:?}");
        assert_eq!(net.disk(server).names(ROOT, "f"), ["one", "two"]);
        assert_eq!(net.disk(server).names(ROOT, "f/two"), ["deep"]);
    }
}

/// The server dies with all of the file and before it has its name; then the file is another.
#[test]
fn a_source_is_looked_at_again_after_a_connection_breaks() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let latency = Duration::from_secs(1);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(GROUP));
    let holds = |net: &Network| {
        let disk = net.disk(server);
        parts(disk).iter().any(|part| disk.content(ROOT, part) == Some(&pattern(GROUP)))
    };
    net.run_until(holds).unwrap();
    let mut disk = net.kill(server);
    disk.set_config(DiskConfig::default());
    assert!(net.disk_mut(client).rewrite(Now::default(), ROOT, "a", "another"));
    let server = serve_with(&mut net, disk, Some(PutLimits::default()));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (1, 0));
    assert!(reports.contains(&UploadReport::StartedAnew(name("a"))), "{reports:?}");
    assert_eq!(net.disk(server).content(ROOT, "a"), Some(&b"another"[..]));
    assert_eq!(net.disk(server).names(ROOT, ""), ["a"], "the old part is gone");
}

/// Each step on its disk takes longer than either side would wait for a silent peer.
#[test]
fn who_waits_for_a_slow_disk_is_told_so() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let latency = Duration::from_secs(130);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let client = upload(&mut net, config(&["f/a"]));
    net.disk_mut(client).put_file(ROOT, "f/a", pattern(3 * GROUP));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (1, 0), "{reports:?}");
    assert!(!reports.iter().any(|report| matches!(report, UploadReport::Lost { .. })));
}

#[test]
fn a_server_that_is_gone_is_given_up() {
    let mut net = Network::new(1);
    let client = upload(&mut net, UploadConfig { retries: 3, ..config(&["a", "b"]) });
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 2), "{reports:?}");

    // One that never answers.
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = upload(&mut net, UploadConfig { retries: 1, ..config(&["a"]) });
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 1));
    assert!(
        reports.iter().any(|report| matches!(report, UploadReport::Unreachable(Lost::Protocol(_))))
    );
}

#[test]
fn an_interrupt_leaves_the_server_what_it_has() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a", "b"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(2_000_000));
    net.run_for(Duration::from_millis(600)).unwrap();
    net.send_message(client, UploadMessage::Interrupt);
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (0, 2));
    assert_eq!(failures(&reports), [&UploadError::Interrupted; 2]);
    net.run_for(Duration::from_secs(10)).unwrap();
    let part = parts(net.disk(server))[0].to_owned();
    assert!(net.disk(server).content(ROOT, &part).unwrap().len() > 500_000);
    assert_eq!((net.disk(server).open_files(), net.disk(client).open_files()), (0, 0));
}

/// A file that was last modified so many milliseconds after 1970.
fn put_dated(disk: &mut Disk, path: &str, content: &[u8], millis: u64) {
    let unix = UnixTime::from_nanos(millis * 1_000_000);
    disk.put_file(ROOT, path, content);
    assert!(disk.rewrite(Now { unix, ..Now::default() }, ROOT, path, content));
}

fn modified(disk: &mut Disk, path: &str) -> u64 {
    let effect = Effect::Stat { root: ROOT, path: path.into() };
    match disk.perform(Now::default(), &effect) {
        OwnedReply::Found(metadata) => metadata.modified.as_nanos() / 1_000_000,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_as_old_where_it_is_put_as_where_it_came_from() {
    for millis in [1, 1_234_567_890_123, u64::MAX / 1_000_000] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        let client = upload(&mut net, config(&["a", "b"]));
        put_dated(net.disk_mut(client), "a", b"old", millis);
        // Of one it is not known.
        net.disk_mut(client).put_file(ROOT, "b", "new");
        let reports = run(&mut net, client);
        assert_eq!(over(&reports), (2, 0), "{reports:?}");
        assert_eq!(modified(net.disk_mut(server), "a"), millis);
        assert_ne!(modified(net.disk_mut(server), "b"), 0, "it was written then");
        // What is there already stays as it is.
        let again = upload(&mut net, config(&["a"]));
        put_dated(net.disk_mut(again), "a", b"old", 7);
        assert_eq!(over(&run(&mut net, again)), (1, 0));
        assert_eq!(modified(net.disk_mut(server), "a"), millis);
    }
}

/// Each operation on either disk fails once, in each way.
#[test]
fn a_disk_that_fails_at_any_step_leaves_no_wrong_file() {
    let content = pattern(300_000);
    for at_server in [true, false] {
        for failure in [Failure::Full, Failure::Denied, Failure::Exists] {
            for step in 1.. {
                let mut net = Network::new(step);
                let server = serve(&mut net);
                let client = upload(&mut net, config(&["f"]));
                put_dated(net.disk_mut(client), "f/a", &content, 1_234_567_890_123);
                if at_server {
                    net.disk_mut(server).fail_nth(step, failure);
                } else {
                    net.disk_mut(client).fail_nth(step, failure);
                }
                let reports = run(&mut net, client);
                net.run_until_idle().unwrap();
                let disk = net.disk(server);
                assert_eq!(disk.open_files(), 0, "{step}");
                if let Some(found) = disk.content(ROOT, "f/a") {
                    assert!(found == content, "{step}");
                }
                if over(&reports) == (1, 0) {
                    assert!(disk.content(ROOT, "f/a").is_some());
                } else {
                    assert!(!failures(&reports).is_empty());
                }
                let disk = if at_server { disk } else { net.disk(client) };
                if disk.operations() < step {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_and_the_next_file_goes_on() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a", "b"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(9_000_000));
    net.disk_mut(client).put_file(ROOT, "b", "small");
    let full = DiskConfig { capacity: Some(1_000_000), ..DiskConfig::default() };
    net.disk_mut(server).set_config(full);
    let reports = run(&mut net, client);
    assert_eq!(failures(&reports)[0], &UploadError::Refused(ErrorCode::Full));
    assert_eq!(parts(net.disk(server)).len(), 1, "it is kept");
    // Whatever was asked for the first is answered before the second is offered.
    let lost = reports.iter().any(|report| matches!(report, UploadReport::Lost { .. }));
    assert!(!lost, "{reports:?}");
    assert_eq!(refusals(&net, server)[0], ErrorCode::Full);
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
            let client = upload(&mut net, config(&["a"]));
            net.disk_mut(client).put_file(ROOT, "a", content.clone());
            let latency = Duration::from_millis(seed % 7 * 30);
            let config = DiskConfig { latency, jitter: latency, ..DiskConfig::default() };
            net.disk_mut(server).set_config(config.clone());
            net.disk_mut(client).set_config(config);
            let reports = run(&mut net, client);
            let disk = net.disk(server);
            if over(&reports) != (1, 0) || disk.content(ROOT, "a") != Some(&content) {
                return Err(format!("{reports:?}"));
            }
            Ok(())
        },
    );
}

// Limits.

fn put_one(
    limits: PutLimits,
    names: &[&str],
    len: usize,
) -> (Vec<UploadReport>, Network, ServerId) {
    let mut net = Network::new(1);
    let server = serve_with(&mut net, Disk::default(), Some(limits));
    let client = upload(&mut net, config(names));
    for name in names {
        net.disk_mut(client).put_file(ROOT, name, pattern(len));
    }
    (run(&mut net, client), net, server)
}

#[test]
fn size_and_quota_are_kept_to_the_byte() {
    let limits = PutLimits { file: 100_000, ..PutLimits::default() };
    assert_eq!(over(&put_one(limits, &["a"], 100_000).0), (1, 0));
    let (reports, net, server) = put_one(limits, &["a"], 100_001);
    assert_eq!(failures(&reports), [&UploadError::Refused(ErrorCode::FileTooLarge)]);
    assert!(net.disk(server).names(ROOT, "").is_empty());

    // Two files of one part each, and one in a folder: 4 KiB a part.
    let quota = 300_000 + 4 * 4096;
    let limits = PutLimits { quota, ..PutLimits::default() };
    assert_eq!(over(&put_one(limits, &["a", "b", "f/c"], 100_000).0), (3, 0));
    let limits = PutLimits { quota: quota - 1, ..PutLimits::default() };
    let (reports, net, server) = put_one(limits, &["a", "b", "f/c"], 100_000);
    assert_eq!(over(&reports), (2, 1));
    assert_eq!(failures(&reports), [&UploadError::Refused(ErrorCode::Full)]);
    assert!(net.disk(server).names(ROOT, "f").is_empty());
    // A name alone counts.
    let limits = PutLimits { quota: 3 * 4096, ..PutLimits::default() };
    assert_eq!(over(&put_one(limits, &["a", "b", "c", "d"], 0).0), (3, 1));
}

/// Also as long as the disk has not done with it.
#[test]
fn what_was_refused_takes_nothing_from_a_quota() {
    let mut net = Network::new(1);
    let limits = PutLimits { quota: 300_000, ..PutLimits::default() };
    let server = serve_with(&mut net, Disk::default(), Some(limits));
    let latency = Duration::from_millis(100);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let client = upload(&mut net, config(&["a", "b"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(300_000));
    net.disk_mut(client).put_file(ROOT, "b", pattern(200_000));
    let reports = run(&mut net, client);
    assert_eq!(over(&reports), (1, 1), "{reports:?}");
    assert_eq!(net.disk(server).names(ROOT, ""), ["b"]);
}

/// What is resumed was counted when it came.
#[test]
fn a_quota_counts_what_is_written() {
    let len = 2_000_000;
    for (room, done) in [(2 * 4096, 1), (2 * 4096 - 1, 0)] {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let limits = PutLimits { quota: len as u64 + room, ..PutLimits::default() };
        let server = serve_with(&mut net, Disk::default(), Some(limits));
        let client = upload(&mut net, config(&["a"]));
        net.disk_mut(client).put_file(ROOT, "a", pattern(len));
        let disk = kill_at(&mut net, client, 1_000_000);
        let again = upload(&mut net, config(&["a"]));
        *net.disk_mut(again) = disk;
        let reports = run(&mut net, again);
        assert_eq!(over(&reports), (done, 1 - done), "{reports:?}");
        assert_eq!(parts(net.disk(server)).len(), 1 - done, "it is kept");
    }
}

#[test]
fn two_that_put_one_name_at_once_wait_for_each_other() {
    for other_name in ["a", "A"] {
        let mut net = Network::new(1);
        net.set_default_link(slow());
        let server = serve(&mut net);
        let content = pattern(3_000_000);
        let first = upload(&mut net, config(&["a"]));
        net.disk_mut(first).put_file(ROOT, "a", content.clone());
        net.run_for(Duration::from_millis(300)).unwrap();
        let second = upload_from(&mut net, OTHER, config(&[other_name]));
        net.disk_mut(second).put_file(ROOT, other_name, content.clone());
        let reports = run(&mut net, second);
        assert_eq!(over(&reports), (1, 0));
        assert!(refusals(&net, server).contains(&ErrorCode::Busy));
        assert_eq!(over(&run(&mut net, first)), (1, 0));
        assert!(net.disk(server).content(ROOT, "a") == Some(&content));
        // The second found it there, unless it is another file here.
        let again = if other_name == "a" { 0 } else { content.len() as u64 };
        assert_eq!(received(&net, server), [content.len() as u64, again]);
    }
}

#[test]
fn only_so_many_put_at_once_and_others_wait() {
    let limits = PutLimits { at_once: 2, ..PutLimits::default() };
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve_with(&mut net, Disk::default(), Some(limits));
    let names = ["a", "b", "c", "d"];
    let clients: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let address = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, n as u8));
            let client = upload_from(&mut net, address, config(&[name]));
            net.disk_mut(client).put_file(ROOT, name, pattern(1_000_000 + n));
            client
        })
        .collect();
    net.run_for(Duration::from_millis(200)).unwrap();
    assert_eq!(parts(net.disk(server)).len(), 2);
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(over(&run(&mut net, client)), (1, 0));
        assert!(net.disk(server).content(ROOT, names[n]) == Some(&pattern(1_000_000 + n)));
    }
}

fn removed(net: &Network, server: ServerId) -> Vec<String> {
    let name = |report: &RepositoryReport| match report {
        RepositoryReport::Removed { name } => Some(name.to_string()),
        _ => None,
    };
    net.reports(server).iter().filter_map(|(_, report)| name(report)).collect()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn what_nobody_comes_back_for_is_removed_after_a_week() {
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", pattern(2_000_000));
    kill_at(&mut net, client, 1_000_000);
    let part = parts(net.disk(server))[0].to_owned();
    net.run_for(KEPT - DAY).unwrap();
    assert_eq!(parts(net.disk(server)), [&part]);
    net.run_for(2 * DAY).unwrap();
    assert_eq!(removed(&net, server), [part]);
    assert!(parts(net.disk(server)).is_empty());
    // Nothing more is waited for.
    net.run_until_idle().unwrap();
}

/// Wherever peers may put files, and nowhere else; nothing else, and nothing by a server that takes
/// nothing.
#[test]
fn what_was_left_before_the_start_is_removed_and_nothing_else() {
    let old = [".a.semfio-0001.part", "f/.a.semfio-0002.part", "f/g/.long.semfio-00ff.part"];
    let kept = [
        "a",
        "f/b",
        ".a.semfio-1.part",
        ".semfio-0001.part",
        "a.semfio-0001.part",
        ".hidden/.a.semfio-0001.part",
        "con/.a.semfio-0001.part",
    ];
    for writable in [None, Some(PutLimits::default())] {
        let mut disk = Disk::default();
        for folder in ["f", "f/g", ".hidden", "con", "many"] {
            disk.put_folder(ROOT, folder);
        }
        // Of a thousand names the next are asked for.
        let many = (0..1_500).map(|n| format!("many/-{n}"));
        let last = "many/.a.semfio-0003.part".to_owned();
        let all = old.iter().chain(&kept).map(ToString::to_string).chain(many);
        all.chain([last.clone()]).for_each(|path| disk.put_file(ROOT, &path, "old"));
        disk.put_other(ROOT, ".pipe.semfio-0001.part");
        let mut net = Network::new(1);
        let server = serve_with(&mut net, disk, writable);
        net.run_until_idle().unwrap();
        let mut gone = removed(&net, server);
        gone.sort_unstable();
        let mut expected: Vec<_> = old.iter().map(ToString::to_string).chain([last]).collect();
        expected.sort_unstable();
        assert_eq!(gone, if writable.is_some() { expected.clone() } else { Vec::new() });
        let disk = net.disk(server);
        for path in &expected {
            assert_eq!(disk.content(ROOT, path).is_none(), writable.is_some(), "{path}");
        }
        kept.iter().for_each(|path| assert!(disk.content(ROOT, path).is_some(), "{path}"));
        assert!(disk.names(ROOT, "").contains(&".pipe.semfio-0001.part"));
        assert_eq!(disk.names(ROOT, "many").len(), if writable.is_some() { 1_500 } else { 1_501 });
    }
}

/// Also if the server was started anew meanwhile.
#[test]
fn what_is_younger_than_a_week_is_removed_when_it_comes_of_age() {
    let mut net = Network::new(1);
    let now = net.now();
    let six_days_ago = UnixTime::from_nanos(now.unix.as_nanos() - 6 * DAY.as_nanos() as u64);
    let mut disk = Disk::default();
    disk.put_file(ROOT, ".a.semfio-0001.part", "");
    assert!(disk.rewrite(Now { unix: six_days_ago, ..now }, ROOT, ".a.semfio-0001.part", "young"));
    let server = serve_with(&mut net, disk, Some(PutLimits::default()));
    net.run_for(DAY - Duration::from_secs(1)).unwrap();
    assert_eq!(parts(net.disk(server)).len(), 1);
    net.run_for(Duration::from_secs(2)).unwrap();
    assert_eq!(removed(&net, server), [".a.semfio-0001.part"]);
    net.run_until_idle().unwrap();
}

/// One who comes back as the server starts: what is written to is not removed, however old.
#[test]
fn what_is_gone_on_with_is_not_removed() {
    let content = pattern(2_000_000);
    let mut net = Network::new(1);
    net.set_default_link(slow());
    let server = serve(&mut net);
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", content.clone());
    kill_at(&mut net, client, 1_000_000);
    let part = parts(net.disk(server))[0].to_owned();
    let mut disk = Disk::default();
    // Written to in 1970.
    disk.put_file(ROOT, &part, net.disk(server).content(ROOT, &part).unwrap());
    let latency = Duration::from_secs(1);
    disk.set_config(DiskConfig { latency, ..DiskConfig::default() });
    let mut net = Network::new(1);
    let server = serve_with(&mut net, disk, Some(PutLimits::default()));
    let client = upload(&mut net, config(&["a"]));
    net.disk_mut(client).put_file(ROOT, "a", content.clone());
    let reports = run(&mut net, client);
    assert!(resumed(&reports) > 900_000, "{reports:?}");
    assert_eq!(net.disk(server).names(ROOT, ""), ["a"]);
    assert!(removed(&net, server).is_empty());
}
