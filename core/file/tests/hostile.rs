//! Peers that lie, on both sides.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use semfio_file::tree::{Hash, Item, MAX_FILE, Outline, Outliner, Ranges, Sender, TreeError};
use semfio_file::wire::{
    BODY, EntryList, Get, Kind, MAX_FRAME, Message, Meta, PREFACE, RangeBytes,
};
use semfio_file::{
    Fetch, FetchConfig, FetchError, FetchReport, IDLE, Lost, Repository, RepositoryConfig, Session,
};
use semfio_machine::{NetLimits, RootId, Shard, Target};
use semfio_path::{Policy, SafeName};
use semfio_sim::{Network, PeerId, ShardId};

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
    assert!(net.disk(server).names(ROOT, "").is_empty());
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
