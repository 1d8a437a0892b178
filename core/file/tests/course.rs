//! The course's dialect, both sides, over links and disks that fail.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_file::{
    CourseClient, CourseGet, CourseGetConfig, CourseGetMessage, CourseGetOutcome, CourseGetReport,
    Cut, QUIET, Repository, RepositoryConfig, RepositoryReport, SILENT, STALLED, Session, Stage,
};
use semfio_machine::{Failure, NetLimits, RootId, Seed, Shard, Target};
use semfio_path::{Policy, SafeName, is_part};
use semfio_sim::{Disk, DiskConfig, LinkConfig, Network, PeerId, ShardId, SplitPlan};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

type ServerId = ShardId<Session, Repository>;
type ClientId = ShardId<CourseClient, CourseGet>;

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

fn get(net: &mut Network, word: &str, replace: bool) -> ClientId {
    let config = CourseGetConfig {
        target: Target::Address(address()),
        word: word.into(),
        root: ROOT,
        save_as: SafeName::parse("saved", Policy::default()).unwrap(),
        replace,
    };
    let service = CourseGet::new(config, &Seed::from_u64(1)).unwrap();
    let client = net.add(CLIENT, Shard::new(service, NetLimits::default()));
    net.disk_mut(client).put_folder(ROOT, "");
    client
}

fn outcome(net: &mut Network, client: ClientId) -> CourseGetOutcome {
    net.run_until(|net| net.is_over(client)).unwrap();
    match net.reports(client).last() {
        Some((_, CourseGetReport::Over(outcome))) => outcome.clone(),
        other => panic!("it ended with {other:?}"),
    }
}

fn folder(disk: &Disk) -> Vec<&str> {
    disk.names(ROOT, "")
}

fn saved(disk: &Disk) -> Option<&[u8]> {
    disk.content(ROOT, "saved")
}

/// What lies beside the final name.
fn part(disk: &Disk) -> Option<&[u8]> {
    let name = folder(disk).into_iter().find(|name| is_part(name))?;
    disk.content(ROOT, name)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251) as u8).collect()
}

/// What the course's server says of a file it does not have.
fn error(word: &str) -> Vec<u8> {
    format!("ERROR \"O arquivo {word} não existe\"").into_bytes()
}

fn contents() -> Vec<Vec<u8>> {
    let mut contents = vec![
        Vec::new(),
        b"O".to_vec(),
        b"OK".to_vec(),
        b"OKOK".to_vec(),
        b"KO".to_vec(),
        b"a picture that ends in OK".to_vec(),
        error("iguana.jpg"),
        [&error("iguana.jpg")[..], b"OK"].concat(),
        [&error("iguana.jpg")[..], b" or so"].concat(),
        error("iguana.jpg")[..20].to_vec(),
    ];
    for len in [65_535, 65_536, 65_537, 3_000_000] {
        contents.push(pattern(len));
    }
    contents
}

#[test]
fn every_content_arrives_as_it_is() {
    for content in contents() {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "iguana.jpg", content.clone());
        let client = get(&mut net, "iguana.jpg", false);
        let len = content.len() as u64;
        assert_eq!(outcome(&mut net, client), CourseGetOutcome::Saved { len });
        assert!(saved(net.disk(client)) == Some(&content[..]));
        assert_eq!(folder(net.disk(client)), ["saved"]);
        net.run_until_idle().unwrap();
        assert_eq!((net.disk(server).open_files(), net.disk(client).open_files()), (0, 0));
    }
}

#[test]
fn rough_links_and_slow_disks_change_nothing() {
    semfio_sim::check(
        "rough_links_and_slow_disks_change_nothing",
        semfio_sim::seeds!(60),
        |seed| {
            let contents = contents();
            let small = contents.len() as u64 - 1;
            let content = match seed % 6 {
                0 => pattern(20_000),
                _ => contents[(seed % small) as usize][..].iter().copied().take(70_000).collect(),
            };
            let mut net = Network::new(seed);
            // A request that comes in pieces more than 50 ms apart is misread, as it has no end.
            net.set_link(SERVER, CLIENT, LinkConfig::rough(seed));
            let server = serve(&mut net);
            net.disk_mut(server).put_file(ROOT, "iguana.jpg", content.clone());
            let client = get(&mut net, "iguana.jpg", false);
            let latency = Duration::from_millis(seed % 7 * 30);
            let read_max = 1 + seed as usize * 37;
            let config = DiskConfig { latency, jitter: latency, read_max, ..DiskConfig::default() };
            net.disk_mut(server).set_config(config.clone());
            net.disk_mut(client).set_config(config);
            let len = content.len() as u64;
            let over = outcome(&mut net, client);
            if over != (CourseGetOutcome::Saved { len }) {
                return Err(format!("{over:?}"));
            }
            let disk = net.disk(client);
            if saved(disk) != Some(&content) || folder(disk) != ["saved"] {
                return Err("not what was sent".into());
            }
            Ok(())
        },
    );
}

#[test]
fn an_unknown_name_writes_nothing() {
    for word in ["leao.jpg", "../secret", "/etc/passwd", "sub", "sub/none", ".hidden", "a\u{202E}b"]
    {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        let disk = net.disk_mut(server);
        disk.put_file(ROOT, "iguana.jpg", "x");
        disk.put_file(ROOT, ".hidden", "x");
        disk.put_file(ROOT, "sub/x", "x");
        let client = get(&mut net, word, false);
        assert_eq!(outcome(&mut net, client), CourseGetOutcome::Unknown, "{word}");
        assert_eq!(folder(net.disk(client)), Vec::<&str>::new());
        assert_eq!(net.disk(client).operations(), 1, "it only looked for the name");
        let told = net.reports(server).last().map(|(_, report)| report);
        assert!(matches!(told, Some(RepositoryReport::Unknown { .. })), "{told:?}");
    }
}

/// What a server answers to these writes, 10 ms apart, and whether it then closes.
fn ask(net: &mut Network, writes: &[&[u8]]) -> Vec<u8> {
    let peer = net.connect(CLIENT, address());
    for write in writes {
        net.write(peer, write);
        net.run_for(Duration::from_millis(10)).unwrap();
    }
    net.run_for(Duration::from_secs(5)).unwrap();
    assert!(net.peer(peer).eof().is_some(), "it always closes: {writes:?}");
    net.take_received(peer)
}

#[test]
fn requests_of_all_shapes() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", "picture");
    net.disk_mut(server).put_file(ROOT, "gato.jpg", "");
    let cases: &[(&[&[u8]], &[u8])] = &[
        (&[b"GET iguana.jpg"], b"pictureOK"),
        (&[b"GET iguana.jpg\n"], b"pictureOK"),
        (&[b"GET iguana.jpg\r\nmore"], b"pictureOK"),
        (&[b"GE", b"T igua", b"na.jpg"], b"pictureOK"),
        (&[b"GET  \t iguana.jpg and more words"], b"pictureOK"),
        (&[b"GET gato.jpg"], b"OK"),
        (&[b"GET leao.jpg"], "ERROR \"O arquivo leao.jpg não existe\"".as_bytes()),
        (&[b"GET \xFF\xFE"], b"ERROR \"O arquivo \xFF\xFE n\xC3\xA3o existe\""),
        (&[b"GET"], b""),
        (&[b"GETiguana.jpg x"], b""),
        (&[b"get iguana.jpg\n"], b""),
        (&[b"\xFFsemfix"], b"\xFFsemfio\x01\x8B\0\0\x1A\0\0\0\0\0\x01the preface is wrong"),
    ];
    for (writes, answer) in cases {
        let got = ask(&mut net, writes);
        assert_eq!(got.escape_ascii().to_string(), answer.escape_ascii().to_string(), "{writes:?}");
    }
    assert_eq!(net.disk(server).open_files(), 0);
}

#[test]
fn a_request_without_end_of_line_is_answered_after_quiet_and_not_before() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", "picture");
    let peer = net.connect(CLIENT, address());
    net.write(peer, "GET iguana.jpg");
    net.run_until_idle().unwrap();
    let answered = net.peer(peer).reads()[0].0;
    assert_eq!(Duration::from_nanos(answered.as_nanos()), QUIET);
    // The course's client connects before its user types; who never does is not waited for.
    let silent = net.connect(CLIENT, address());
    net.run_for(SILENT - Duration::from_secs(1)).unwrap();
    assert_eq!(net.peer(silent).eof(), None);
    net.run_for(Duration::from_secs(2)).unwrap();
    assert!(net.peer(silent).eof().is_some());
}

#[test]
fn browsers_get_a_hint() {
    let mut net = Network::new(1);
    serve(&mut net);
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /a HTTP/1.0\r\n\r\n"] {
        let answer = String::from_utf8(ask(&mut net, &[request.as_bytes()])).unwrap();
        assert!(answer.starts_with("HTTP/1.0 421 "), "{answer}");
        assert!(answer.contains("semfio file get"), "{answer}");
    }
}

#[test]
fn names_are_found_whatever_their_case_and_form() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let disk = net.disk_mut(server);
    disk.put_file(ROOT, "Iguana.JPG", "iguana");
    disk.put_file(ROOT, "cafe\u{301}.jpg", "decomposed");
    disk.put_file(ROOT, "b", "small");
    disk.put_file(ROOT, "B", "large");
    disk.put_file(ROOT, "Fotos/Praia.jpg", "beach");
    disk.put_folder(ROOT, "FOLDER");
    disk.put_other(ROOT, "Pipe");
    disk.put_file(ROOT, ".iguana.semfio-0001.part", "not whole");
    for n in 0..2_500 {
        disk.put_file(ROOT, &format!("many/{n:05}"), "one");
    }
    disk.put_file(ROOT, "many/Last", "last");
    let cases = [
        ("iguana.jpg", Some("iguana")),
        ("IGUANA.jpg", Some("iguana")),
        ("caf\u{e9}.jpg", Some("decomposed")),
        ("CAF\u{c9}.JPG", Some("decomposed")),
        ("b", Some("small")),
        ("B", Some("large")),
        ("Fotos/praia.jpg", Some("beach")),
        ("many/LAST", Some("last")),
        ("folder", None),
        ("pipe", None),
        (".iguana.semfio-0001.part", None),
        (".IGUANA.semfio-0001.part", None),
    ];
    for (word, content) in cases {
        let expected = content.map_or_else(|| error(word), |content| format!("{content}OK").into());
        let got = ask(&mut net, &[b"GET ", word.as_bytes(), b"\n"]);
        assert_eq!(String::from_utf8(got), String::from_utf8(expected), "{word}");
    }
}

/// Also where names with a dot are.
#[test]
fn what_is_not_whole_yet_is_not_served() {
    let mut net = Network::new(1);
    let policy = Policy { dot_names: true, ..Policy::default() };
    let service = Repository::new(RepositoryConfig { policy, ..RepositoryConfig::default() });
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_file(ROOT, ".profile", "whole");
    net.disk_mut(server).put_file(ROOT, ".iguana.semfio-0001.part", "not whole");
    assert!(net.listen(server, address()));
    assert_eq!(ask(&mut net, &[b"GET .Profile\n"]), b"wholeOK");
    for word in [".iguana.semfio-0001.part", ".IGUANA.semfio-0001.part"] {
        assert_eq!(ask(&mut net, &[b"GET ", word.as_bytes(), b"\n"]), error(word));
    }
}

#[test]
fn a_host_without_descriptors_is_not_said_to_lack_the_file() {
    for failure in [Failure::Exhausted, Failure::Other] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "iguana.jpg", "picture");
        net.disk_mut(server).fail_nth(1, failure);
        let client = get(&mut net, "iguana.jpg", false);
        let why = Cut::Broken(Failure::Reset);
        let truncated = CourseGetOutcome::Truncated { len: 0, part: None, why };
        assert_eq!(outcome(&mut net, client), truncated);
    }
}

/// The client asks before the file changes, and the link is slow.
#[test]
fn a_file_that_shrinks_while_it_is_sent_breaks_the_connection() {
    let mut net = Network::new(1);
    let bandwidth = std::num::NonZeroU64::new(1_000_000);
    let window = 64 * 1024;
    net.set_default_link(LinkConfig { bandwidth, window, ..LinkConfig::default() });
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", pattern(1_000_000));
    let client = get(&mut net, "iguana.jpg", false);
    net.run_for(Duration::from_millis(500)).unwrap();
    let now = net.now();
    // Cut where it looks like the end of a file.
    let mut shorter = pattern(700_000);
    shorter.extend_from_slice(b"OK");
    assert!(net.disk_mut(server).rewrite(now, ROOT, "iguana.jpg", shorter));
    let over = outcome(&mut net, client);
    let CourseGetOutcome::Truncated { part: Some(_), why: Cut::Broken(_), .. } = over else {
        panic!("{over:?}");
    };
    assert_eq!(saved(net.disk(client)), None);
    assert_eq!(net.disk(server).open_files(), 0);
}

/// As long and as old as before: only the stamp can tell.
#[test]
fn a_file_that_is_rewritten_while_it_is_sent_breaks_the_connection() {
    let mut net = Network::new(1);
    let bandwidth = std::num::NonZeroU64::new(1_000_000);
    net.set_default_link(LinkConfig { bandwidth, ..LinkConfig::default() });
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", pattern(1_000_000));
    let client = get(&mut net, "iguana.jpg", false);
    net.run_for(Duration::from_millis(200)).unwrap();
    let (then, content) = (semfio_machine::Now::default(), pattern(1_000_000));
    assert!(net.disk_mut(server).rewrite(then, ROOT, "iguana.jpg", content));
    let over = outcome(&mut net, client);
    let CourseGetOutcome::Truncated { part: Some(_), why: Cut::Broken(_), .. } = over else {
        panic!("{over:?}");
    };
    let told = net.reports(server).last().map(|(_, report)| report);
    assert!(matches!(told, Some(RepositoryReport::Changed { .. })), "{told:?}");
    assert_eq!((saved(net.disk(client)), net.disk(server).open_files()), (None, 0));
}

#[test]
fn a_peer_that_takes_nothing_is_left_and_one_that_stalls_for_a_while_is_not() {
    for (stall, whole) in [(STALLED - Duration::from_secs(1), true), (STALLED * 2, false)] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "iguana.jpg", pattern(1_000_000));
        let peer = net.connect(CLIENT, address());
        net.set_reading(peer, false);
        net.write(peer, "GET iguana.jpg\n");
        net.run_for(stall).unwrap();
        net.set_reading(peer, true);
        net.run_until_idle().unwrap();
        assert_eq!(net.peer(peer).received().ends_with(b"OK"), whole);
        assert_eq!(net.peer(peer).eof().is_some(), whole, "cut, not ended");
        assert_eq!(net.disk(server).open_files(), 0);
    }
}

/// The server, played by hand, sends the first `len` bytes of `wire` and ends so.
fn cut(wire: &[u8], len: usize, reset: bool) -> (CourseGetOutcome, Disk) {
    let mut net = Network::new(len as u64);
    if len % 3 == 0 {
        let split = SplitPlan::EveryByte;
        net.set_default_link(LinkConfig { split, ..LinkConfig::default() });
    }
    assert!(net.listen_raw(address()));
    let client = get(&mut net, "iguana.jpg", false);
    let peer = accepted(&mut net);
    net.write(peer, &wire[..len]);
    net.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(net.peer(peer).received(), b"GET iguana.jpg\n");
    if reset {
        net.reset(peer);
    } else {
        net.finish(peer);
    }
    let over = outcome(&mut net, client);
    (over, net.disk(client).clone())
}

fn accepted(net: &mut Network) -> PeerId {
    net.run_for(Duration::from_millis(1)).unwrap();
    net.accepted(address()).pop().expect("the client dials")
}

#[test]
fn a_stream_that_is_cut_anywhere_is_never_a_file() {
    let text = error("iguana.jpg");
    let almost = [&text[..], b" or so"].concat();
    for content in [&b""[..], b"x", b"a picture", &text, &almost] {
        let wire = [content, b"OK"].concat();
        for len in 0..=wire.len() {
            for reset in [false, true] {
                let (over, disk) = cut(&wire, len, reset);
                let whole = len == wire.len() && !reset;
                let error = wire[..len] == text && !reset;
                match over {
                    CourseGetOutcome::Saved { len } if whole => {
                        assert_eq!(len, content.len() as u64);
                        assert_eq!(saved(&disk), Some(content));
                    }
                    CourseGetOutcome::Unknown if error => assert!(folder(&disk).is_empty()),
                    CourseGetOutcome::Truncated { len: got, part: kept, .. }
                        if !whole && !error =>
                    {
                        assert_eq!(saved(&disk), None);
                        assert_eq!(kept.as_ref().map(SafeName::as_str), folder(&disk).pop());
                        let kept = part(&disk).unwrap_or_default();
                        assert_eq!(kept.len() as u64, got);
                        assert!(wire[..len].starts_with(kept));
                        assert!(kept.len() + 2 >= len || text.starts_with(&wire[..len]));
                    }
                    other => panic!("{len} of {wire:?}: {other:?}"),
                }
            }
        }
    }
}

/// What the dialect cannot tell, so that nobody believes it can.
#[test]
fn a_file_cut_orderly_behind_an_inner_ok_looks_whole() {
    let (over, disk) = cut(b"one OK two OK", 6, false);
    assert_eq!(over, CourseGetOutcome::Saved { len: 4 });
    assert_eq!(saved(&disk), Some(&b"one "[..]));
    let (over, _) = cut(b"one OK two OK", 6, true);
    assert!(matches!(over, CourseGetOutcome::Truncated { .. }), "a reset is no end: {over:?}");
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = get(&mut net, "iguana.jpg", false);
    let peer = accepted(&mut net);
    net.write(peer, "half");
    let over = outcome(&mut net, client);
    let CourseGetOutcome::Truncated { len: 4, part: Some(_), why: Cut::Silent } = over else {
        panic!("{over:?}");
    };
}

#[test]
fn an_interrupt_keeps_what_came() {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = get(&mut net, "iguana.jpg", false);
    let peer = accepted(&mut net);
    net.write(peer, pattern(100_000));
    net.run_for(Duration::from_secs(1)).unwrap();
    net.send_message(client, CourseGetMessage::Interrupt);
    let over = outcome(&mut net, client);
    assert!(matches!(over, CourseGetOutcome::Truncated { why: Cut::Interrupted, .. }), "{over:?}");
    assert_eq!(part(net.disk(client)), Some(&pattern(100_000)[..]));
}

#[test]
fn nobody_there_is_told() {
    let mut net = Network::new(1);
    let client = get(&mut net, "iguana.jpg", false);
    let over = outcome(&mut net, client);
    assert_eq!(over, CourseGetOutcome::NoConnection(Failure::Refused));
}

#[test]
fn what_is_there_is_only_replaced_when_asked() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", "new");
    let client = get(&mut net, "iguana.jpg", false);
    net.disk_mut(client).put_file(ROOT, "saved", "old");
    let (stage, failure) = (Stage::Look, Failure::Exists);
    let refused = CourseGetOutcome::NotSaved { stage, failure, part: None };
    assert_eq!(outcome(&mut net, client), refused);
    assert_eq!(saved(net.disk(client)), Some(&b"old"[..]));
    assert!(net.reports(server).is_empty(), "nothing was asked for");

    let client = get(&mut net, "iguana.jpg", true);
    net.disk_mut(client).put_file(ROOT, "saved", "old");
    assert_eq!(outcome(&mut net, client), CourseGetOutcome::Saved { len: 3 });
    assert_eq!(saved(net.disk(client)), Some(&b"new"[..]));
}

#[test]
fn what_is_no_file_is_not_replaced() {
    for replace in [false, true] {
        let mut net = Network::new(1);
        let server = serve(&mut net);
        net.disk_mut(server).put_file(ROOT, "a", "content");
        let client = get(&mut net, "a", replace);
        net.disk_mut(client).put_other(ROOT, "saved");
        let (stage, failure) = (Stage::Look, Failure::WrongKind);
        let expected = CourseGetOutcome::NotSaved { stage, failure, part: None };
        assert_eq!(outcome(&mut net, client), expected);
        assert_eq!(folder(net.disk(client)), ["saved"]);
        assert_eq!(saved(net.disk(client)), None);
    }
}

#[test]
fn a_name_taken_meanwhile_is_not_replaced_and_the_content_is_kept() {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = get(&mut net, "iguana.jpg", false);
    let peer = accepted(&mut net);
    net.write(peer, "newOK");
    net.run_for(Duration::from_secs(1)).unwrap();
    net.disk_mut(client).put_file(ROOT, "saved", "another's");
    net.finish(peer);
    let over = outcome(&mut net, client);
    let CourseGetOutcome::NotSaved { stage: Stage::Rename, part: Some(kept), .. } = over else {
        panic!("{over:?}");
    };
    let disk = net.disk(client);
    assert_eq!(saved(disk), Some(&b"another's"[..]));
    assert_eq!(disk.content(ROOT, kept.as_str()), Some(&b"new"[..]));
}

/// Each operation on the client's disk fails once, in each way.
#[test]
fn a_disk_that_fails_at_any_step_leaves_no_wrong_file() {
    let content = pattern(300_000);
    let mut stages = std::collections::BTreeSet::new();
    for failure in [Failure::Full, Failure::Denied, Failure::Exhausted] {
        for step in 1.. {
            let mut net = Network::new(step);
            let server = serve(&mut net);
            net.disk_mut(server).put_file(ROOT, "iguana.jpg", content.clone());
            let client = get(&mut net, "iguana.jpg", false);
            net.disk_mut(client).fail_nth(step, failure);
            let over = outcome(&mut net, client);
            net.run_until_idle().unwrap();
            let disk = net.disk(client);
            assert_eq!(disk.open_files(), 0);
            match over {
                CourseGetOutcome::NotSaved { stage, failure: told, part: kept } => {
                    assert_eq!(told, failure);
                    stages.insert(stage);
                    assert_eq!(saved(disk).is_some(), stage == Stage::SyncFolder);
                    assert_eq!(kept.is_some(), stage == Stage::Rename);
                    assert_eq!(part(disk).is_some(), stage == Stage::Rename, "{stage:?}");
                }
                CourseGetOutcome::Saved { .. } => {
                    assert!(saved(disk) == Some(&content[..]));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let all =
        [Stage::Look, Stage::Create, Stage::Write, Stage::Sync, Stage::Rename, Stage::SyncFolder];
    assert_eq!(stages.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_full_disk_is_told_and_given_back() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", pattern(3_000_000));
    let client = get(&mut net, "iguana.jpg", false);
    let config = DiskConfig { capacity: Some(1_000_000), ..DiskConfig::default() };
    net.disk_mut(client).set_config(config);
    let full =
        CourseGetOutcome::NotSaved { stage: Stage::Write, failure: Failure::Full, part: None };
    assert_eq!(outcome(&mut net, client), full);
    assert_eq!(folder(net.disk(client)), Vec::<&str>::new());
}

/// The client dies at each step: of its process, and of its machine.
#[test]
fn a_client_that_dies_at_any_step_leaves_no_wrong_file() {
    let content = pattern(200_000);
    for power in [false, true] {
        for steps in 0.. {
            let mut net = Network::new(1);
            let link = LinkConfig { latency: Duration::from_millis(1), ..LinkConfig::default() };
            net.set_default_link(link);
            let server = serve(&mut net);
            net.disk_mut(server).put_file(ROOT, "iguana.jpg", content.clone());
            let client = get(&mut net, "iguana.jpg", false);
            let latency = Duration::from_millis(3);
            net.disk_mut(client).set_config(DiskConfig { latency, ..DiskConfig::default() });
            for _ in 0..steps {
                net.step();
            }
            let over = net.is_over(client);
            let disks = if power {
                // Whatever of the rest the system had written.
                let torn = net.disk(client).clone();
                (0..8)
                    .map(|seed| {
                        let mut disk = torn.clone();
                        disk.crash_at_random(seed);
                        disk
                    })
                    .collect()
            } else {
                vec![net.kill(client)]
            };
            for disk in disks {
                if let Some(found) = saved(&disk) {
                    assert!(found == content, "after {steps} steps");
                } else {
                    assert!(!over);
                }
            }
            if over {
                break;
            }
        }
    }
}

/// What waits for a slow disk is bounded, and the server waits with it.
#[test]
fn a_slow_disk_slows_the_server() {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = get(&mut net, "iguana.jpg", true);
    let peer = accepted(&mut net);
    net.disk_mut(client)
        .set_config(DiskConfig { latency: Duration::from_secs(1_000), ..DiskConfig::default() });
    let content = pattern(20_000_000);
    net.write(peer, &content);
    net.write(peer, "OK");
    net.run_for(Duration::from_secs(1_500)).unwrap();
    let came = content.len() + 2 - net.peer(peer).queued();
    // One window waits for the disk, one piece to become of the right size, two sockets' worth behind.
    assert!((500_000..1_500_000).contains(&came), "{came}");
    let shard = net.shard(client);
    let held: usize = shard.connections().map(|conn| shard.buffered(conn)).sum();
    assert!(held <= 512 * 1024, "{held}");
    net.finish(peer);
    let len = content.len() as u64;
    assert_eq!(outcome(&mut net, client), CourseGetOutcome::Saved { len });
    assert!(saved(net.disk(client)) == Some(&content[..]));
}
