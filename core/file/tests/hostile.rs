//! Peers that lie, on both sides.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use semfio_file::tree::{Hash, Item, MAX_FILE, Outline, Outliner, Ranges, Sender, TreeError};
use semfio_file::wire::{
    BODY, EntryList, ErrorCode, Get, Kind, MAX_FRAME, Message, Meta, PREFACE, RangeBytes,
};
use semfio_file::{
    Fetch, FetchConfig, FetchError, FetchReport, IDLE, Lost, PutLimits, Repository,
    RepositoryConfig, RepositoryReport, Session, Upload, UploadConfig, UploadError, UploadItem,
    UploadReport,
};
use semfio_machine::{NetLimits, RootId, Shard, Target};
use semfio_path::{Policy, SafeName};
use semfio_sim::{DiskConfig, Network, PeerId, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const GROUP: u64 = 65_536;

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn serve(net: &mut Network) -> ShardId<Session, Repository> {
    let service = Repository::new(RepositoryConfig::default());
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn put(wire: &mut BytesMut, message: Message<'_>) {
    message.put(wire);
}

/// A peer that has said HELLO.
fn greeted(net: &mut Network) -> PeerId {
    let peer = net.connect(CLIENT, address());
    let mut wire = BytesMut::from(&PREFACE[..]);
    put(&mut wire, Message::Hello { max_frame: MAX_FRAME as u32 });
    net.write(peer, &wire);
    net.run_for(Duration::from_millis(1)).unwrap();
    let welcome = net.take_received(peer);
    assert!(welcome.starts_with(&PREFACE) && welcome[8] == 0x82);
    peer
}

/// What it is answered, frame by frame, as `Debug` says; BODY as its length.
fn ask(net: &mut Network, peer: PeerId, message: Message<'_>) -> Vec<String> {
    let mut wire = BytesMut::new();
    put(&mut wire, message);
    net.write(peer, &wire);
    net.run_for(Duration::from_secs(1)).unwrap();
    frames(&net.take_received(peer))
}

fn frames(mut wire: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while let [kind, a, b, c, rest @ ..] = wire {
        let (body, behind) = rest.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        frames.push(match Message::parse(*kind, body) {
            _ if *kind == BODY => format!("Body({})", body.len()),
            message => format!("{:?}", message.unwrap().unwrap()),
        });
        wire = behind;
    }
    frames
}

fn outline(content: &[u8]) -> Outline {
    let mut outliner = Outliner::new(content.len() as u64).unwrap();
    outliner.handle_content(content).unwrap();
    outliner.finish().unwrap()
}

#[test]
fn ranges_that_are_none_are_refused_each_by_its_rule() {
    let content = vec![5; 3 * GROUP as usize + 10];
    let size = content.len() as u64;
    let hash = outline(&content).hash();
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", content);
    let peer = greeted(&mut net);
    let mut get = |size, hash, name: &str, ranges: &[(u64, u64)]| {
        let ranges = RangeBytes::new(ranges.iter().copied());
        let get = Get { tag: 9, content: true, hash, size, name, ranges: ranges.list() };
        ask(&mut net, peer, Message::Get(get)).join(" ")
    };
    let many: Vec<_> = (0..1_025).map(|n| (n * 2 * GROUP, GROUP)).collect();
    for ranges in [
        &[(0, size + 1)][..],
        &[(GROUP, u64::MAX)],
        &[(u64::MAX, 1)],
        // In whole groups, and over the end of all numbers.
        &[(u64::MAX - GROUP + 1, 2 * GROUP)],
        &[(GROUP, u64::MAX - GROUP + 1)],
        &[(0, 1 << 63)],
        &[(1, GROUP)],
        &[(0, 100)],
        &[(0, 0)],
        &[(0, GROUP), (0, GROUP)],
        &[(0, 2 * GROUP), (GROUP, GROUP)],
        &[(GROUP, GROUP), (0, GROUP)],
        &[(0, GROUP), (GROUP, GROUP)],
        &many,
    ] {
        let size = if ranges.len() > 1_000 { 1 << 40 } else { size };
        let answer = get(size, hash, "a", ranges);
        assert!(answer.contains("code: Ranges"), "{ranges:?}: {answer}");
    }
    for (size, hash, name, code) in [
        (size, Hash([1; 32]), "a", "Changed"),
        (size + GROUP, hash, "a", "Changed"),
        (1 << 63, hash, "a", "FileTooLarge"),
        (MAX_FILE + 1, hash, "a", "FileTooLarge"),
        (size, hash, "none", "Unknown"),
        (size, hash, "../a", "Name"),
        (size, hash, "/a", "Name"),
        (size, hash, "", "Name"),
        (size, hash, ".a.semfio-0001.part", "Name"),
    ] {
        let answer = get(size, hash, name, &[(0, GROUP)]);
        assert!(answer.contains(&format!("code: {code}")), "{name} {size}: {answer}");
    }
    // It is still there, and right is right.
    let answer = get(size, hash, "a", &[(GROUP, GROUP)]);
    let pairs = 2 * 64;
    assert!(answer.starts_with(&format!("Body({}) Done", GROUP + pairs)), "{answer}");
    assert_eq!(get(size, hash, "a", &[]), format!("{:?}", Message::Done { tag: 9, hash }));
    net.close(peer);
    net.run_until_idle().unwrap();
    assert_eq!(net.disk(server).open_files(), 0);
}

#[test]
fn requests_are_answered_in_turn_and_a_cancelled_one_ends_soon() {
    let content: Vec<u8> = (0..20_000_000).map(|n| (n / 7) as u8).collect();
    let (size, hash) = (content.len() as u64, outline(&content).hash());
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", content);
    let peer = greeted(&mut net);
    net.set_reading(peer, false);
    let ranges = RangeBytes::new([(0, size)]);
    let get = Get { tag: 1, content: true, hash, size, name: "a", ranges: ranges.list() };
    let mut wire = BytesMut::new();
    put(&mut wire, Message::Get(get));
    put(&mut wire, Message::Cancel { tag: 1 });
    put(&mut wire, Message::Stat { tag: 2, hashed: false, name: "a" });
    net.write(peer, &wire);
    net.run_for(Duration::from_secs(1)).unwrap();
    net.set_reading(peer, true);
    net.run_for(Duration::from_secs(1)).unwrap();
    let got = net.take_received(peer);
    assert!(got.len() < 6_000_000, "{}", got.len());
    let frames = frames(&got);
    let end = frames.len() - 2;
    assert!(frames[end].contains("code: Cancelled"), "{}", frames[end]);
    assert!(frames[end + 1].starts_with("Meta { tag: 2"), "{}", frames[end + 1]);
    // To cancel what is answered, or never was asked, does nothing.
    assert_eq!(ask(&mut net, peer, Message::Cancel { tag: 1 }), Vec::<String>::new());
}

/// A peer asks for everything and reads nothing: little is held, and not for ever.
#[test]
fn a_peer_that_reads_nothing_holds_little_and_not_for_ever() {
    let content = vec![1; 50_000_000];
    let (size, hash) = (content.len() as u64, outline(&content).hash());
    let mut net = Network::new(1);
    let server = serve(&mut net);
    net.disk_mut(server).put_file(ROOT, "a", content);
    let peer = greeted(&mut net);
    net.set_reading(peer, false);
    let ranges = RangeBytes::new([(0, size)]);
    for tag in 1..100 {
        let mut wire = BytesMut::new();
        let get = Get { tag, content: true, hash, size, name: "a", ranges: ranges.list() };
        put(&mut wire, Message::Get(get));
        net.write(peer, &wire);
    }
    net.run_for(Duration::from_secs(10)).unwrap();
    let shard = net.shard(server);
    let held: usize = shard.connections().map(|conn| shard.buffered(conn)).sum();
    assert!(held < 200_000, "{held}");
    net.run_for(IDLE * 3).unwrap();
    assert_eq!(net.shard(server).connections().count(), 0);
    assert_eq!(net.disk(server).open_files(), 0);
}

#[test]
fn a_body_nobody_asked_for_ends_the_connection() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let peer = greeted(&mut net);
    net.write(peer, [BODY, 0, 0, 3, 1, 2, 3]);
    net.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(net.shard(server).connections().count(), 0);
}

#[test]
fn nobody_is_let_put_anything() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let peer = greeted(&mut net);
    let (hash, name) = (Hash([0; 32]), "a");
    let message = Message::Put { tag: 3, replace: true, size: 0, modified: 0, hash, name };
    let answer = ask(&mut net, peer, message).join(" ");
    assert!(answer.contains("code: ReadOnly"), "{answer}");
    let answer = ask(&mut net, peer, Message::Folder { tag: 4, name: "f" }).join(" ");
    assert!(answer.contains("code: ReadOnly"), "{answer}");
    assert!(net.disk(server).names(ROOT, "").is_empty());
}

// Clients that lie about what they put.

fn serve_put(net: &mut Network, limits: PutLimits) -> ShardId<Session, Repository> {
    let writable = Some(limits);
    let service = Repository::new(RepositoryConfig { writable, ..RepositoryConfig::default() });
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

/// The offer of a file.
fn offer(tag: u32, size: u64, hash: Hash, name: &str) -> Message<'_> {
    Message::Put { tag, replace: false, size, modified: 0, hash, name }
}

/// The streams that answer each of these GETs, cut into BODY frames, and DONE.
fn answers(frames: &[u8], outline: &Outline, content: &[u8], lie: Lie) -> BytesMut {
    let mut wire = BytesMut::new();
    let mut at = 0;
    while let Some((kind, body)) = frame(&frames[at..]) {
        at += 4 + body.len();
        let Ok(Some(Message::Get(get))) = Message::parse(kind, body) else { continue };
        let mut stream = stream(outline, content, &get);
        match lie {
            Lie::Flip(at) if at < stream.len() => stream[at] ^= 1,
            Lie::Short(n) => stream.truncate(stream.len().saturating_sub(n)),
            Lie::Long(n) => stream.resize(stream.len() + n, 0),
            Lie::Twice => stream.extend_from_within(..),
            Lie::Nothing => stream.clear(),
            _ => {}
        }
        for piece in stream.chunks(100_000) {
            put_body(&mut wire, piece);
        }
        let tag = if lie == Lie::Tag { get.tag + 7 } else { get.tag };
        put(&mut wire, Message::Done { tag, hash: outline.hash() });
    }
    wire
}

fn put_body(wire: &mut BytesMut, piece: &[u8]) {
    let [_, a, b, c] = (piece.len() as u32).to_be_bytes();
    wire.extend_from_slice(&[BODY, a, b, c]);
    wire.extend_from_slice(piece);
}

/// What a server says in the end to one that puts with this lie, and what names it then has.
fn put_with(lie: Lie, content: &[u8]) -> (Vec<String>, Vec<String>) {
    let outline = outline(content);
    let size = if let Lie::Size(size) = lie { size } else { content.len() as u64 };
    let hash = if lie == Lie::Hash { Hash([9; 32]) } else { outline.hash() };
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let peer = greeted(&mut net);
    let mut wire = BytesMut::new();
    put(&mut wire, offer(3, size, hash, "a"));
    let mut heard = Vec::new();
    for _ in 0..20 {
        net.write(peer, &wire);
        net.run_for(Duration::from_secs(1)).unwrap();
        let new = net.take_received(peer);
        wire = answers(&new, &outline, content, lie);
        heard.extend(frames(&new));
    }
    // Whatever it said, the connection is of use, or gone.
    if net.peer(peer).state() == semfio_sim::PeerState::Open && net.peer(peer).eof().is_none() {
        let meta = ask(&mut net, peer, Message::Stat { tag: 9, hashed: false, name: "" });
        assert!(meta.iter().any(|frame| frame.starts_with("Meta { tag: 9")), "{lie:?}: {meta:?}");
    }
    net.close(peer);
    // Less than what is left is kept for.
    net.run_for(Duration::from_secs(600)).unwrap();
    let disk = net.disk(server);
    assert_eq!(disk.open_files(), 0, "{lie:?}");
    let names = disk.names(ROOT, "").into_iter().map(str::to_owned).collect::<Vec<_>>();
    if names.iter().any(|name| name == "a") {
        assert!(disk.content(ROOT, "a") == Some(content), "{lie:?}");
    }
    (heard, names)
}

#[test]
fn a_client_that_lies_is_found_out_and_leaves_no_file() {
    let content: Vec<u8> = (0..5 * GROUP as u32 + 99).map(|n| (n / 3) as u8).collect();
    let size = content.len() as u64;
    let (heard, names) = put_with(Lie::None, &content);
    assert!(heard.last().unwrap().starts_with("Done { tag: 3"), "{heard:?}");
    assert_eq!(names, ["a"]);
    for (lie, code) in [
        (Lie::Size(size + 1), "Mismatch"),
        (Lie::Size(size - 1), "Mismatch"),
        (Lie::Size(size + GROUP), "Mismatch"),
        (Lie::Size(size - GROUP), "Mismatch"),
        (Lie::Size(10), "Mismatch"),
        (Lie::Size(0), "Mismatch"),
        (Lie::Size(MAX_FILE), "Full"),
        (Lie::Size(MAX_FILE + 1), "FileTooLarge"),
        (Lie::Size(1 << 63), "FileTooLarge"),
        (Lie::Size(u64::MAX), "FileTooLarge"),
        (Lie::Hash, "Mismatch"),
        (Lie::Flip(0), "Mismatch"),
        (Lie::Flip(100), "Mismatch"),
        (Lie::Flip(300_000), "Mismatch"),
        (Lie::Short(1), "Mismatch"),
        (Lie::Short(GROUP as usize), "Mismatch"),
        (Lie::Long(1), "Mismatch"),
        (Lie::Long(200_000), "Mismatch"),
        (Lie::Twice, "Mismatch"),
        (Lie::Nothing, "Mismatch"),
    ] {
        let (heard, names) = put_with(lie, &content);
        let told = heard.iter().any(|frame| frame.contains(&format!("code: {code}")));
        assert!(told, "{lie:?}: {heard:?}");
        assert!(!names.contains(&"a".to_owned()), "{lie:?}");
        // What was proved before the lie is kept; nothing is not.
        // Where the tree of the size told has parts of the true one.
        let near = matches!(lie, Lie::Size(told) if told.abs_diff(size) <= GROUP);
        let proved = matches!(lie, Lie::Flip(300_000) | Lie::Short(_) | Lie::Long(_) | Lie::Twice);
        let proved = proved || near;
        assert_eq!(names.len(), usize::from(proved), "{lie:?}: {names:?}");
    }
    // An answer to what was not asked ends the connection.
    let (heard, names) = put_with(Lie::Tag, &content);
    assert!(!heard.iter().any(|frame| frame.starts_with("Done")) && names.len() == 1, "{heard:?}");
}

#[test]
fn names_that_may_not_be_put_are_refused_and_nothing_is_made() {
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    net.disk_mut(server).put_file(ROOT, "file", "there");
    net.disk_mut(server).put_folder(ROOT, "folder");
    net.disk_mut(server).put_other(ROOT, "pipe");
    let peer = greeted(&mut net);
    let long = format!("{}/{}", vec!["x".repeat(250); 16].join("/"), "y".repeat(79));
    for (name, code) in [
        ("../a", "Name"),
        ("/etc/passwd", "Name"),
        ("a/../../b", "Name"),
        ("", "Name"),
        (".ssh/authorized_keys", "Name"),
        ("a/.bashrc", "Name"),
        ("con", "Name"),
        ("a:b", "Name"),
        ("a\\b", "Name"),
        ("a\u{202E}b", "Name"),
        (".a.semfio-0001.part", "Name"),
        ("f/.a.semfio-0001.part", "Name"),
        (&*long, "Name"),
        ("file", "Exists"),
        ("folder", "WrongKind"),
        ("pipe", "WrongKind"),
        ("file/x", "WrongKind"),
        ("pipe/x", "WrongKind"),
    ] {
        let heard = ask(&mut net, peer, offer(3, 1, outline(b"x").hash(), name)).join(" ");
        assert!(heard.contains(&format!("code: {code}")), "{name}: {heard}");
    }
    assert_eq!(net.disk(server).names(ROOT, ""), ["file", "folder", "pipe"]);
    assert_eq!(net.disk(server).content(ROOT, "file"), Some(&b"there"[..]));
    // Nor where it may be replaced: that is a file, no folder, no link, no device.
    for name in ["folder", "pipe"] {
        let message = Message::Put {
            tag: 3,
            replace: true,
            size: 1,
            modified: 0,
            hash: outline(b"x").hash(),
            name,
        };
        let heard = ask(&mut net, peer, message).join(" ");
        assert!(!heard.contains("Get(Get {"), "{name}: {heard}");
        assert!(heard.contains("code: WrongKind"), "{name}: {heard}");
    }
}

#[test]
fn folders_are_made_and_nothing_else() {
    let mut net = Network::new(1);
    let limits = PutLimits { quota: 5 * 4096, ..PutLimits::default() };
    let server = serve_put(&mut net, limits);
    net.disk_mut(server).put_file(ROOT, "file", "there");
    net.disk_mut(server).put_other(ROOT, "pipe");
    net.disk_mut(server).put_folder(ROOT, "folder");
    let peer = greeted(&mut net);
    for (name, answer) in [
        ("../a", "code: Name"),
        ("", "code: Name"),
        (".ssh", "code: Name"),
        (".a.semfio-0001.part", "code: Name"),
        ("file", "code: Exists"),
        ("file/x", "code: WrongKind"),
        ("folder/new", "Done { tag: 3"),
        ("a", "code: Full"),
    ] {
        let heard = ask(&mut net, peer, Message::Folder { tag: 3, name }).join(" ");
        assert!(heard.contains(answer), "{name}: {heard}");
    }
    let mut disk = net.disk(server).clone();
    assert_eq!(disk.names(ROOT, ""), ["file", "folder", "pipe"]);
    disk.crash();
    assert_eq!(disk.names(ROOT, "folder"), ["new"], "it is durable");
    // A second request waits for the first; one that is gone is forgotten.
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let latency = Duration::from_millis(100);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let peer = greeted(&mut net);
    let mut wire = BytesMut::new();
    for (tag, name) in [(1, "a"), (2, "b")] {
        put(&mut wire, Message::Folder { tag, name });
    }
    net.write(peer, &wire);
    net.run_for(Duration::from_millis(150)).unwrap();
    assert_eq!(net.disk(server).names(ROOT, ""), ["a"]);
    net.run_for(Duration::from_millis(300)).unwrap();
    net.reset(peer);
    net.run_until_idle().unwrap();
    assert_eq!(net.disk(server).names(ROOT, ""), ["a", "b"]);
    assert_eq!(frames(&net.take_received(peer)).len(), 1);
}

/// Not even where names may begin with a dot.
#[test]
fn the_names_of_partial_files_are_nobodys() {
    let mut net = Network::new(1);
    let service = Repository::new(RepositoryConfig {
        policy: Policy { dot_names: true, hyphen: true },
        writable: Some(PutLimits::default()),
        ..RepositoryConfig::default()
    });
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    let peer = greeted(&mut net);
    for (name, refused) in
        [(".a.semfio-0001.part", true), ("f/.a.semfio-ffff.part", true), (".a.part", false)]
    {
        let heard = ask(&mut net, peer, offer(3, 0, outline(b"").hash(), name)).join(" ");
        assert_eq!(heard.contains("code: Name"), refused, "{name}: {heard}");
    }
    assert_eq!(net.disk(server).names(ROOT, ""), [".a.part"]);
}

#[test]
fn who_puts_asks_for_nothing_else_and_says_nothing_unasked() {
    let content = vec![7; 3 * GROUP as usize];
    let hash = outline(&content).hash();
    for message in [
        offer(4, 1, hash, "b"),
        Message::Stat { tag: 4, hashed: false, name: "a" },
        Message::List { tag: 4, folder: "", after: "" },
    ] {
        let mut net = Network::new(1);
        let server = serve_put(&mut net, PutLimits::default());
        let peer = greeted(&mut net);
        let heard = ask(&mut net, peer, offer(3, content.len() as u64, hash, "a")).join(" ");
        assert!(heard.contains("Get(Get { tag: 1"), "{heard}");
        let heard = ask(&mut net, peer, message).join(" ");
        assert!(heard.contains("code: Unexpected"), "{heard}");
        net.run_until_idle().unwrap();
        assert_eq!(net.disk(server).open_files(), 0);
        assert!(net.disk(server).names(ROOT, "").is_empty(), "nothing came for it");
    }
    // BODY and DONE before anything is asked for, and after the last answer.
    for done in [false, true] {
        let mut net = Network::new(1);
        let server = serve_put(&mut net, PutLimits::default());
        let peer = greeted(&mut net);
        if done {
            let heard = ask(&mut net, peer, offer(3, 0, outline(b"").hash(), "a")).join(" ");
            assert!(heard.contains("Done { tag: 3"), "{heard}");
        }
        net.write(peer, [BODY, 0, 0, 3, 1, 2, 3]);
        net.run_for(Duration::from_secs(1)).unwrap();
        assert_eq!(net.shard(server).connections().count(), 0);
    }
}

#[test]
fn a_put_is_cancelled_and_what_came_is_kept() {
    let content: Vec<u8> = (0..200 * GROUP as u32).map(|n| (n / 3) as u8).collect();
    let outline = outline(&content);
    let size = content.len() as u64;
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let peer = greeted(&mut net);
    let mut wire = BytesMut::new();
    put(&mut wire, offer(3, size, outline.hash(), "a"));
    net.write(peer, &wire);
    net.run_for(Duration::from_secs(1)).unwrap();
    // Two GETs; half of what answers the first, and CANCEL.
    let gets = net.take_received(peer);
    let all = answers(&gets, &outline, &content, Lie::None);
    let some = &all[..4 + 100_000 + 4 + 100_000];
    let mut wire = BytesMut::from(some);
    put(&mut wire, Message::Cancel { tag: 77 });
    put(&mut wire, Message::Cancel { tag: 3 });
    net.write(peer, &wire);
    net.run_for(Duration::from_secs(1)).unwrap();
    let heard = frames(&net.take_received(peer));
    let end = heard.len() - 3;
    assert_eq!(heard[end..end + 2], ["Cancel { tag: 1 }", "Cancel { tag: 2 }"]);
    assert!(heard[end + 2].contains("tag: 3, code: Cancelled"), "{heard:?}");
    assert_eq!(net.disk(server).open_files(), 0);
    let part = net.disk(server).names(ROOT, "")[0].to_owned();
    assert_eq!(net.disk(server).content(ROOT, &part).unwrap().len() % GROUP as usize, 0);
    // What was on its way is taken, and no more than that was asked for.
    net.write(peer, &all[some.len()..]);
    net.run_for(Duration::from_secs(1)).unwrap();
    let heard = ask(&mut net, peer, offer(5, size, outline.hash(), "a")).join(" ");
    assert!(heard.contains("Get(Get { tag: 1"), "{heard}");
}

/// Once a PUT has failed, its sender goes on for ever.
#[test]
fn what_is_not_wanted_any_more_is_bounded() {
    let content: Vec<u8> = (0..200 * GROUP as u32).map(|n| (n / 3) as u8).collect();
    let outline = outline(&content);
    for extra in [0, 1] {
        let mut net = Network::new(1);
        let server = serve_put(&mut net, PutLimits::default());
        let peer = greeted(&mut net);
        let mut wire = BytesMut::new();
        put(&mut wire, offer(3, content.len() as u64, outline.hash(), "a"));
        put(&mut wire, Message::Cancel { tag: 9 });
        net.write(peer, &wire);
        net.run_for(Duration::from_secs(1)).unwrap();
        net.take_received(peer);
        let mut wire = BytesMut::new();
        put(&mut wire, Message::Cancel { tag: 3 });
        // 64 groups, and the pairs above them.
        let mut ranges = Ranges::none(content.len() as u64);
        ranges.add(0..64);
        let due = 64 * GROUP + 64 * ranges.pairs() + extra;
        for _ in 0..due / 1_000 {
            put_body(&mut wire, &[0; 1_000]);
        }
        put_body(&mut wire, &vec![0; (due % 1_000) as usize]);
        net.write(peer, &wire);
        net.run_for(Duration::from_secs(5)).unwrap();
        assert_eq!(net.shard(server).connections().count(), usize::from(extra == 0));
    }
}

#[test]
fn who_vanishes_or_says_nothing_holds_nothing_for_long() {
    let content = vec![7; 3 * GROUP as usize];
    let message = offer(3, content.len() as u64, outline(&content).hash(), "a");
    // One that is cut, at each step of the server's.
    for steps in 0..60 {
        let mut net = Network::new(1);
        let server = serve_put(&mut net, PutLimits::default());
        let latency = Duration::from_millis(1);
        net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
        let peer = greeted(&mut net);
        let mut wire = BytesMut::new();
        put(&mut wire, message);
        net.write(peer, &wire);
        for _ in 0..steps {
            net.step();
        }
        net.reset(peer);
        net.run_until_idle().unwrap();
        assert_eq!(net.disk(server).open_files(), 0);
        assert_eq!(net.shard(server).connections().count(), 0);
    }
    // One that is silent.
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let peer = greeted(&mut net);
    ask(&mut net, peer, message);
    net.run_for(IDLE * 3).unwrap();
    assert_eq!(net.shard(server).connections().count(), 0);
    assert_eq!(net.disk(server).open_files(), 0);
    assert!(net.disk(server).names(ROOT, "").is_empty());
}

/// What cancels comes too late once all is there.
#[test]
fn what_is_being_saved_is_not_cancelled() {
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let latency = Duration::from_secs(1);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let peer = greeted(&mut net);
    let mut wire = BytesMut::new();
    put(&mut wire, offer(3, 0, outline(b"").hash(), "a"));
    net.write(peer, &wire);
    let saving = |net: &Network| net.disk(server).names(ROOT, "").len() == 1;
    net.run_until(saving).unwrap();
    net.run_for(Duration::from_millis(1_500)).unwrap();
    let mut heard = ask(&mut net, peer, Message::Cancel { tag: 3 });
    net.run_for(Duration::from_secs(5)).unwrap();
    heard.extend(frames(&net.take_received(peer)));
    assert!(heard.last().unwrap().starts_with("Done { tag: 3"), "{heard:?}");
    assert_eq!(net.disk(server).names(ROOT, ""), ["a"]);
}

/// What has come whole is saved for whoever it was.
#[test]
fn who_vanishes_as_all_has_come_is_not_needed() {
    let content = vec![7; 3 * GROUP as usize];
    let outline = outline(&content);
    let mut net = Network::new(1);
    let server = serve_put(&mut net, PutLimits::default());
    let latency = Duration::from_secs(1);
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let peer = greeted(&mut net);
    let mut wire = BytesMut::new();
    put(&mut wire, offer(3, content.len() as u64, outline.hash(), "f/a"));
    net.write(peer, &wire);
    net.run_for(Duration::from_secs(10)).unwrap();
    let gets = net.take_received(peer);
    net.write(peer, answers(&gets, &outline, &content, Lie::None));
    // The last is written, and not durable.
    net.run_for(Duration::from_millis(1_500)).unwrap();
    net.reset(peer);
    net.run_for(Duration::from_millis(100)).unwrap();
    assert_eq!(net.shard(server).connections().count(), 0);
    assert_eq!(net.disk(server).content(ROOT, "f/a"), None);
    net.run_until_idle().unwrap();
    assert!(net.disk(server).content(ROOT, "f/a") == Some(&content));
    assert_eq!(net.disk(server).names(ROOT, "f"), ["a"]);
    let taken = net.reports(server).iter().any(|(_, report)| {
        matches!(report, RepositoryReport::Taken { peer: None, size: 196_608, .. })
    });
    assert!(taken, "{:?}", net.reports(server));
}

/// Who says its last before it has sent what was asked for makes room at once; who has sent it all
/// is answered.
#[test]
fn what_cannot_come_any_more_is_not_waited_for() {
    let content = vec![7; 3 * GROUP as usize];
    let outline = outline(&content);
    for answered in [true, false] {
        let mut net = Network::new(1);
        let server = serve_put(&mut net, PutLimits { at_once: 1, ..PutLimits::default() });
        let peer = greeted(&mut net);
        let mut wire = BytesMut::new();
        put(&mut wire, offer(3, content.len() as u64, outline.hash(), "a"));
        net.write(peer, &wire);
        net.run_for(Duration::from_secs(1)).unwrap();
        let gets = net.take_received(peer);
        if answered {
            net.write(peer, answers(&gets, &outline, &content, Lie::None));
        }
        net.finish(peer);
        net.run_for(Duration::from_secs(1)).unwrap();
        let heard = frames(&net.take_received(peer)).join(" ");
        assert_eq!(heard.contains("Done { tag: 3"), answered, "{heard}");
        assert_eq!(heard.contains("tag: 0, code: Malformed"), !answered, "{heard}");
        assert_eq!(net.shard(server).connections().count(), 0);
        let names = net.disk(server).names(ROOT, "");
        assert_eq!(names, if answered { &["a"][..] } else { &[] });
        assert_eq!(net.disk(server).open_files(), 0);
    }
}

/// Ten seconds without a proved group, and others who want its place.
#[test]
fn who_does_not_move_gives_way() {
    for (at_once, name, in_way) in [(8, "a", true), (8, "b", false), (1, "b", true)] {
        for wait in [Duration::from_secs(7), Duration::from_secs(10)] {
            let mut net = Network::new(1);
            let server = serve_put(&mut net, PutLimits { at_once, ..PutLimits::default() });
            let content = vec![7; 3 * GROUP as usize];
            let hash = outline(&content).hash();
            let peer = greeted(&mut net);
            ask(&mut net, peer, offer(3, content.len() as u64, hash, "a"));
            net.run_for(wait).unwrap();
            // That it says something does not count.
            let other = greeted(&mut net);
            ask(&mut net, peer, Message::Wait { tag: 1, done: 1, of: 2 });
            let heard = ask(&mut net, other, offer(3, 1, outline(b"x").hash(), name)).join(" ");
            let gone = net.shard(server).connections().count() == 1;
            assert_eq!(heard.contains("code: Busy"), in_way, "{at_once} {name}: {heard}");
            assert_eq!(gone, in_way && wait == Duration::from_secs(10), "{at_once} {name}");
            if in_way {
                // Its place is free once the disk has done with it.
                let heard = ask(&mut net, other, offer(3, 1, outline(b"x").hash(), name)).join(" ");
                assert_eq!(heard.contains("code: Busy"), !gone, "{at_once} {name}: {heard}");
            }
        }
    }
}

// Servers that lie to who puts.

/// What becomes of an upload whose server answers HELLO, and then the frames it is told with these.
fn upload_to(mut answer: impl FnMut(&Message<'_>) -> Option<BytesMut>) -> Vec<UploadReport> {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let name = SafeName::parse("a", Policy::default()).unwrap();
    let config = UploadConfig {
        target: Target::Address(address()),
        items: vec![UploadItem { root: ROOT, local: name.clone(), name }],
        replace: false,
        policy: Policy::default(),
        retries: 2,
    };
    let client = net.add(CLIENT, Shard::new(Upload::new(config), NetLimits::default()));
    net.disk_mut(client).put_file(ROOT, "a", vec![1; 100_000]);
    let mut peers = Vec::new();
    for _ in 0..200_000 {
        if net.is_over(client) {
            break;
        }
        net.step();
        for peer in net.accepted(address()) {
            let mut wire = BytesMut::from(&PREFACE[..]);
            put(&mut wire, Message::Welcome { max_frame: MAX_FRAME as u32, writable: true });
            net.write(peer, &wire);
            peers.push((peer, Vec::new(), 8));
        }
        for (peer, heard, at) in &mut peers {
            heard.extend(net.take_received(*peer));
            while let Some((kind, body)) = heard.get(*at..).and_then(frame) {
                *at += 4 + body.len();
                if kind == BODY {
                    continue;
                }
                let message = Message::parse(kind, body).unwrap().unwrap();
                if let Some(wire) = answer(&message) {
                    net.write(*peer, &wire);
                }
            }
        }
    }
    assert!(net.is_over(client), "{:?}", net.reports(client));
    net.run_until_idle().unwrap();
    assert_eq!(net.disk(client).open_files(), 0);
    net.reports(client).iter().map(|(_, report)| report.clone()).collect()
}

fn one(message: Message<'_>) -> Option<BytesMut> {
    let mut wire = BytesMut::new();
    put(&mut wire, message);
    Some(wire)
}

#[test]
fn a_server_that_lies_to_who_puts_is_given_up() {
    let hash = outline(&[1; 100_000]).hash();
    let good = RangeBytes::new([(0, 100_000)]);
    let bad = RangeBytes::new([(1, 100_000)]);
    let get = |tag, hash, name, ranges: &RangeBytes| {
        let ranges = ranges.list();
        one(Message::Get(Get { tag, content: true, hash, size: 100_000, name, ranges }))
    };
    let out_of_turn = UploadError::Lost(Lost::OutOfTurn);
    let failed = |reports: &[UploadReport]| match reports {
        [.., UploadReport::Failed { why, .. }, UploadReport::Over { done: 0, failed: 1 }] => {
            why.clone()
        }
        other => panic!("{other:?}"),
    };
    // Another file than is offered, or another content of it.
    for (hash, name) in [(hash, "b"), (hash, "../a"), (Hash([1; 32]), "a")] {
        let reports = upload_to(|message| match message {
            Message::Put { .. } => get(1, hash, name, &good),
            _ => None,
        });
        assert_eq!(failed(&reports), out_of_turn);
    }
    // It says that another content is there, or answers what was not asked.
    for answer in [
        Message::Done { tag: 1, hash: Hash([2; 32]) },
        Message::Done { tag: 7, hash },
        Message::Stat { tag: 1, hashed: false, name: "a" },
        Message::Meta { tag: 1, meta: Meta { kind: Kind::File, size: 1, modified: 1 }, hash: None },
    ] {
        let reports = upload_to(|message| match message {
            Message::Put { .. } => one(answer),
            _ => None,
        });
        assert_eq!(failed(&reports), out_of_turn, "{answer:?}");
    }
    // It asks for what is no range, and is told so.
    let mut codes = Vec::new();
    let reports = upload_to(|message| match message {
        Message::Put { .. } => get(1, hash, "a", &bad),
        Message::Error { code, .. } => {
            codes.push(*code);
            one(Message::Error { tag: 1, code: ErrorCode::Unavailable, text: "" })
        }
        _ => None,
    });
    assert_eq!(codes, [ErrorCode::Ranges]);
    assert_eq!(failed(&reports), UploadError::Refused(ErrorCode::Unavailable));
    // It ends PUT, and not what it asked for.
    let reports = upload_to(|message| match message {
        Message::Put { .. } => {
            let mut wire = get(1, hash, "a", &good)?;
            wire.extend_from_slice(&one(Message::Done { tag: 1, hash })?);
            Some(wire)
        }
        _ => None,
    });
    assert!(matches!(reports.last(), Some(UploadReport::Over { .. })));
    // It is busy for ever, or says nothing.
    let reports = upload_to(|message| match message {
        Message::Put { tag, .. } => {
            one(Message::Error { tag: *tag, code: ErrorCode::Busy, text: "" })
        }
        _ => None,
    });
    assert_eq!(failed(&reports), UploadError::Lost(Lost::Ended(Some(ErrorCode::Busy))));
    let reports = upload_to(|_| None);
    assert_eq!(failed(&reports), UploadError::Lost(Lost::Silent));
    // It finds the same content wrong each time.
    let reports = upload_to(|message| match message {
        Message::Put { tag, .. } => {
            one(Message::Error { tag: *tag, code: ErrorCode::Mismatch, text: "" })
        }
        _ => None,
    });
    assert_eq!(failed(&reports), UploadError::Changing);
}

// Servers that lie.

/// How the server, played by hand, lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// Not at all.
    None,
    /// META tells another size, and all else is as with the true one.
    Size(u64),
    /// META tells another hash.
    Hash,
    /// A byte of the stream, counted from the front, is another.
    Flip(usize),
    /// The stream ends so many bytes early, and DONE follows.
    Short(usize),
    /// The stream has so many bytes more.
    Long(usize),
    /// The answer has another tag.
    Tag,
    /// All of the stream comes twice.
    Twice,
    /// DONE comes at once.
    Nothing,
}

/// One fetch from a server that tells this lie each time it is asked.
fn fetch_from(lie: Lie, content: &[u8]) -> (Vec<FetchReport>, Vec<String>, Option<Vec<u8>>) {
    let outline = outline(content);
    let true_size = content.len() as u64;
    let size = if let Lie::Size(size) = lie { size } else { true_size };
    let hash = if lie == Lie::Hash { Hash([9; 32]) } else { outline.hash() };
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let config = FetchConfig {
        target: Target::Address(address()),
        names: vec![SafeName::parse("a", Policy::default()).unwrap()],
        root: ROOT,
        save_as: None,
        replace: false,
        jobs: 1,
        policy: Policy::default(),
        retries: 20,
    };
    let service = Fetch::new(config);
    let client = net.add(CLIENT, Shard::new(service, NetLimits::default()));
    net.disk_mut(client).put_folder(ROOT, "");
    for _ in 0..10_000 {
        if net.is_over(client) {
            break;
        }
        net.step();
        for peer in net.accepted(address()) {
            let mut wire = BytesMut::from(&PREFACE[..]);
            put(&mut wire, Message::Welcome { max_frame: MAX_FRAME as u32, writable: false });
            net.write(peer, &wire);
            let mut heard: Vec<u8> = Vec::new();
            let mut at = 0;
            while net.run_for(Duration::from_millis(1)).is_ok() && !net.is_over(client) {
                let new = net.take_received(peer);
                if new.is_empty() && net.peer(peer).state() != semfio_sim::PeerState::Open {
                    break;
                }
                if new.is_empty() && net.peer(peer).eof().is_some() {
                    break;
                }
                heard.extend(new);
                at = at.max(8).min(heard.len());
                while let Some((kind, body)) = frame(&heard[at..]) {
                    at += 4 + body.len();
                    let mut wire = BytesMut::new();
                    match Message::parse(kind, body) {
                        Ok(Some(Message::Stat { tag, .. })) => {
                            let meta = Meta { kind: Kind::File, size, modified: 1 };
                            put(&mut wire, Message::Meta { tag, meta, hash: Some(hash) });
                        }
                        Ok(Some(Message::Get(get))) => {
                            let mut stream = stream(&outline, content, &get);
                            match lie {
                                Lie::Flip(at) if at < stream.len() => stream[at] ^= 1,
                                Lie::Short(n) => stream.truncate(stream.len().saturating_sub(n)),
                                Lie::Long(n) => stream.resize(stream.len() + n, 0),
                                Lie::Nothing => stream.clear(),
                                _ => {}
                            }
                            for piece in stream.chunks(100_000) {
                                let [_, a, b, c] = (piece.len() as u32).to_be_bytes();
                                wire.extend_from_slice(&[BODY, a, b, c]);
                                wire.extend_from_slice(piece);
                            }
                            let tag = if lie == Lie::Tag { get.tag + 7 } else { get.tag };
                            put(&mut wire, Message::Done { tag, hash });
                        }
                        _ => {}
                    }
                    net.write(peer, &wire);
                }
            }
        }
    }
    let reports = net.reports(client).iter().map(|(_, report)| report.clone()).collect();
    let disk = net.disk(client);
    let names = disk.names(ROOT, "").into_iter().map(str::to_owned).collect();
    (reports, names, disk.content(ROOT, "a").map(<[u8]>::to_vec))
}

fn frame(wire: &[u8]) -> Option<(u8, &[u8])> {
    let [kind, a, b, c, rest @ ..] = wire else { return None };
    Some((*kind, rest.get(..u32::from_be_bytes([0, *a, *b, *c]) as usize)?))
}

/// What an honest server sends, whatever size it told; where it has nothing, zeros.
fn stream(outline: &Outline, content: &[u8], get: &Get<'_>) -> Vec<u8> {
    let size = content.len() as u64;
    let mut ranges = Ranges::none(size);
    for (offset, len) in get.ranges.iter() {
        ranges.add(offset / GROUP..(offset.saturating_add(len)).div_ceil(GROUP).max(1));
    }
    let mut sender = Sender::new(outline, ranges).unwrap();
    let mut stream = Vec::new();
    loop {
        match sender.poll_item(outline) {
            Item::Pair(pair) => stream.extend_from_slice(&pair),
            Item::Content { offset, len } => {
                stream.extend_from_slice(&content[offset as usize..][..len as usize]);
            }
            Item::Span { .. } => unreachable!("the file is small"),
            Item::End => return stream,
        }
    }
}

#[test]
fn a_server_that_lies_is_found_out_and_leaves_no_file() {
    let content: Vec<u8> = (0..5 * GROUP as u32 + 99).map(|n| (n / 3) as u8).collect();
    let size = content.len() as u64;
    let (reports, names, got) = fetch_from(Lie::None, &content);
    assert!(got.as_ref() == Some(&content), "{reports:?}");
    assert_eq!(names, ["a"]);
    let lies = [
        Lie::Size(size + 1),
        Lie::Size(size - 1),
        Lie::Size(size + GROUP),
        Lie::Size(size - GROUP),
        Lie::Size(10),
        Lie::Size(0),
        Lie::Size(MAX_FILE),
        Lie::Hash,
        Lie::Flip(0),
        Lie::Flip(100),
        Lie::Flip(300_000),
        Lie::Short(1),
        Lie::Short(GROUP as usize),
        Lie::Long(1),
        Lie::Long(200_000),
        Lie::Nothing,
        Lie::Tag,
    ];
    for lie in lies {
        let (reports, names, got) = fetch_from(lie, &content);
        // Once all, or all before the lie, is proved, there is nothing left to lie about.
        if let (Lie::Flip(300_000) | Lie::Long(_) | Lie::Tag, Some(got)) = (lie, &got) {
            let told = reports.iter().any(|report| match report {
                FetchReport::Lost { why: Lost::Wrong(error), .. } => match lie {
                    Lie::Long(_) => *error == TreeError::TooLong,
                    _ => matches!(error, TreeError::Content { .. }),
                },
                FetchReport::Lost { why, .. } => *why == Lost::OutOfTurn && lie == Lie::Tag,
                _ => false,
            });
            assert!(told && *got == content, "{lie:?}: {reports:?}");
            continue;
        }
        assert!(got.is_none() && !names.iter().any(|name| name == "a"), "{lie:?}");
        let failed = reports.iter().find_map(|report| match report {
            FetchReport::Failed { why, .. } => Some(why),
            _ => None,
        });
        let fits = match lie {
            Lie::Short(_) | Lie::Nothing => |error| matches!(error, TreeError::Truncated { .. }),
            Lie::Flip(_) => {
                |error| matches!(error, TreeError::Pair { .. } | TreeError::Content { .. })
            }
            _ => |_| true,
        };
        let fits = matches!(failed, Some(FetchError::Wrong(error)) if fits(*error));
        assert!(fits, "{lie:?}: {failed:?}");
    }
    for size in [MAX_FILE + 1, 1 << 63, u64::MAX] {
        let (reports, names, _) = fetch_from(Lie::Size(size), &content);
        let told = reports
            .iter()
            .any(|report| matches!(report, FetchReport::Failed { why: FetchError::TooLarge, .. }));
        assert!(told && names.is_empty(), "{size}: {reports:?}");
    }
}

/// Names in a folder that lead out of it, that are no names, or that never end.
#[test]
fn a_listing_that_lies_writes_nothing() {
    let meta = Meta { kind: Kind::File, size: 1, modified: 0 };
    for bad in ["../a", "/etc/passwd", "a/b", "..", ".ssh", "", "con", "a\u{202E}b", "endless"] {
        let mut net = Network::new(1);
        assert!(net.listen_raw(address()));
        let config = FetchConfig {
            target: Target::Address(address()),
            names: vec![SafeName::parse("f", Policy::default()).unwrap()],
            root: ROOT,
            save_as: None,
            replace: true,
            jobs: 1,
            policy: Policy::default(),
            retries: 0,
        };
        let service = Fetch::new(config);
        let client = net.add(CLIENT, Shard::new(service, NetLimits::default()));
        net.disk_mut(client).put_folder(ROOT, "");
        net.run_for(Duration::from_millis(1)).unwrap();
        let peer = net.accepted(address()).pop().unwrap();
        let mut wire = BytesMut::from(&PREFACE[..]);
        put(&mut wire, Message::Welcome { max_frame: MAX_FRAME as u32, writable: false });
        let folder = Meta { kind: Kind::Folder, size: 0, modified: 0 };
        put(&mut wire, Message::Meta { tag: 1, meta: folder, hash: None });
        net.write(peer, &wire);
        for tag in 2..10 {
            net.run_for(Duration::from_millis(1)).unwrap();
            let mut list = EntryList::default();
            assert!(list.push(bad, meta));
            let mut wire = BytesMut::new();
            put(&mut wire, Message::Entries { tag, more: true, entries: list.entries() });
            net.write(peer, &wire);
        }
        net.run_until(|net| net.is_over(client)).unwrap();
        let reports = net.reports(client);
        let failed = reports.iter().any(|(_, report)| {
            let why = match report {
                FetchReport::Failed { why, .. } => why,
                _ => return false,
            };
            matches!(why, FetchError::Name(_) | FetchError::NotTold)
        });
        assert!(failed, "{bad}: {reports:?}");
        assert!(net.disk(client).names(ROOT, "").is_empty(), "{bad}");
        assert_eq!(net.disk(client).operations(), 0, "{bad}");
    }
}
