//! What a disk keeps, refuses and loses.

mod common;

use bytes::Bytes;
use common::{Plain, Say, numbered};
use core::time::Duration;
use semfio_machine::*;
use semfio_sim::*;

const ROOT: RootId = RootId(0);

fn perform(disk: &mut Disk, effect: Effect) -> OwnedReply {
    disk.perform(Now::default(), &effect)
}

fn open(disk: &mut Disk, path: &str, mode: OpenMode) -> Result<FileId, Failure> {
    match perform(disk, Effect::Open { root: ROOT, path: path.into(), mode }) {
        OwnedReply::Opened { file, .. } => Ok(file),
        OwnedReply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn write(disk: &mut Disk, file: FileId, offset: u64, bytes: &[u8]) -> OwnedReply {
    perform(disk, Effect::Write { file, offset, bytes: Bytes::copy_from_slice(bytes) })
}

fn read(disk: &mut Disk, file: FileId, offset: u64, len: u32) -> OwnedReply {
    perform(disk, Effect::Read { file, offset, len })
}

fn rename(disk: &mut Disk, from: &str, to: &str, replace: bool) -> OwnedReply {
    let (from, to) = (from.into(), to.into());
    perform(disk, Effect::Rename { root: ROOT, from, to, replace })
}

fn sync_folder(disk: &mut Disk, path: &str) -> OwnedReply {
    perform(disk, Effect::SyncFolder { root: ROOT, path: path.into() })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Care {
    /// Content, then name, each made durable.
    Full,
    /// The name may be durable before the content.
    NoSync,
    /// The change of the name is not made durable.
    NoFolderSync,
}

/// Replaces `a/file` the way editors do, loses power, and tells what is there.
fn save(seed: u64, care: Care) -> Vec<u8> {
    let mut disk = Disk::default();
    disk.put_file(ROOT, "a/file", vec![1; 10_000]);
    let file = open(&mut disk, "a/new", OpenMode::CreateNew).unwrap();
    assert_eq!(write(&mut disk, file, 0, &[2; 20_000]), OwnedReply::Done);
    if care != Care::NoSync {
        assert_eq!(perform(&mut disk, Effect::Sync { file }), OwnedReply::Done);
    }
    assert_eq!(rename(&mut disk, "a/new", "a/file", true), OwnedReply::Done);
    if care == Care::Full {
        assert_eq!(sync_folder(&mut disk, "a"), OwnedReply::Done);
    }
    assert_eq!(disk.content(ROOT, "a/file").unwrap(), [2; 20_000]);
    disk.crash_at_random(seed);
    disk.content(ROOT, "a/file").expect("a file of that name").to_vec()
}

#[test]
fn a_careful_save_survives_any_power_cut_and_a_careless_one_does_not() {
    let (old, new) = (vec![1; 10_000], vec![2; 20_000]);
    let outcomes = |care| (0..100).map(|seed| save(seed, care)).collect::<Vec<_>>();
    assert!(outcomes(Care::Full).iter().all(|found| *found == new));
    let late = outcomes(Care::NoFolderSync);
    assert!(late.iter().all(|found| *found == new || *found == old));
    assert!(late.contains(&old) && late.contains(&new));
    let torn = outcomes(Care::NoSync);
    assert!(torn.iter().any(|found| *found != new && *found != old));
}

#[test]
fn a_file_is_as_old_as_it_was_said_to_be_until_it_is_written() {
    let mut disk = Disk::default();
    disk.put_file(ROOT, "a", "old");
    let file = open(&mut disk, "a", OpenMode::Update).unwrap();
    let look = |disk: &mut Disk| match perform(disk, Effect::StatFile { file }) {
        OwnedReply::Found(metadata) => metadata,
        other => panic!("{other:?}"),
    };
    let (before, modified) = (look(&mut disk), UnixTime::from_secs(9));
    assert_eq!(perform(&mut disk, Effect::SetModified { file, modified }), OwnedReply::Done);
    let after = look(&mut disk);
    assert_eq!(after.modified, modified);
    assert_ne!(after.stamp, before.stamp);
    write(&mut disk, file, 0, b"new");
    assert_ne!(look(&mut disk).modified, modified);
    let read = open(&mut disk, "a", OpenMode::Read).unwrap();
    let denied = perform(&mut disk, Effect::SetModified { file: read, modified });
    assert_eq!(denied, OwnedReply::Failed(Failure::Denied));
}

#[test]
fn a_power_cut_leaves_what_is_durable_and_nothing_else() {
    let mut disk = Disk::default();
    disk.put_file(ROOT, "kept", "old");
    disk.put_folder(ROOT, "a");
    disk.put_folder(ROOT, "b");
    let file = open(&mut disk, "kept", OpenMode::Update).unwrap();
    write(&mut disk, file, 0, b"new");
    let made = open(&mut disk, "a/made", OpenMode::CreateNew).unwrap();
    write(&mut disk, made, 0, b"made");
    perform(&mut disk, Effect::Sync { file: made });
    let mut other = disk.clone();

    disk.crash();
    assert_eq!(disk.content(ROOT, "kept"), Some(&b"old"[..]));
    assert_eq!(disk.content(ROOT, "a/made"), None);
    assert_eq!(disk.open_files(), 0);
    assert_eq!(read(&mut disk, file, 0, 1), OwnedReply::Failed(Failure::Other));

    perform(&mut other, Effect::Sync { file });
    sync_folder(&mut other, "a");
    // From one folder to another, and only the new one is made durable: both names are there.
    rename(&mut other, "a/made", "b/moved", false);
    sync_folder(&mut other, "b");
    perform(&mut other, Effect::Remove { root: ROOT, path: "kept".into() });
    assert_eq!(other.names(ROOT, ""), ["a", "b"]);
    other.crash();
    assert_eq!(other.content(ROOT, "kept"), Some(&b"new"[..]));
    assert_eq!(other.content(ROOT, "a/made"), Some(&b"made"[..]));
    assert_eq!(other.content(ROOT, "b/moved"), Some(&b"made"[..]));
}

#[test]
fn short_reads_are_no_end_of_file() {
    let mut disk = Disk::new(DiskConfig { read_max: 7, ..DiskConfig::default() });
    disk.put_file(ROOT, "f", numbered(100));
    let file = open(&mut disk, "f", OpenMode::Read).unwrap();
    assert_eq!(read(&mut disk, file, 0, 50), OwnedReply::Read(numbered(100)[..50].to_vec()));
    assert_eq!(read(&mut disk, file, 90, 50), OwnedReply::Read(numbered(100)[90..].to_vec()));
    assert_eq!(read(&mut disk, file, 100, 50), OwnedReply::Read(vec![]));
    // A system call by itself is short.
    let span = FileSpan { file, offset: 0, len: 50 };
    assert_eq!(disk.read_span(span, 50).unwrap().len(), 7);
    let past = FileSpan { file, offset: 100, len: 1 };
    assert_eq!(disk.read_span(past, 50), Err(Failure::Other));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let mut disk = Disk::new(DiskConfig { capacity: Some(10), ..DiskConfig::default() });
    disk.put_file(ROOT, "old", "12345");
    let file = open(&mut disk, "new", OpenMode::CreateNew).unwrap();
    assert_eq!(write(&mut disk, file, 0, b"123"), OwnedReply::Done);
    assert_eq!(write(&mut disk, file, 3, b"456"), OwnedReply::Failed(Failure::Full));
    assert_eq!(disk.content(ROOT, "new"), Some(&b"12345"[..]));
    assert_eq!(write(&mut disk, file, 0, b"abc"), OwnedReply::Done);
    perform(&mut disk, Effect::Remove { root: ROOT, path: "old".into() });
    assert_eq!(write(&mut disk, file, 3, b"4567890"), OwnedReply::Done);
}

#[test]
fn every_operation_can_fail() {
    let run = |disk: &mut Disk| -> Result<(), Failure> {
        let file = open(disk, "new", OpenMode::CreateNew)?;
        for answer in [
            write(disk, file, 0, b"x"),
            perform(disk, Effect::Sync { file }),
            rename(disk, "new", "f", false),
            sync_folder(disk, ""),
        ] {
            if let OwnedReply::Failed(failure) = answer {
                return Err(failure);
            }
        }
        Ok(())
    };
    let empty = || {
        let mut disk = Disk::default();
        disk.put_folder(ROOT, "");
        disk
    };
    let mut disk = empty();
    assert_eq!(run(&mut disk), Ok(()));
    assert_eq!(disk.operations(), 5);
    for n in 1..=5 {
        let mut disk = empty();
        disk.fail_nth(n, Failure::Denied);
        assert_eq!(run(&mut disk), Err(Failure::Denied), "operation {n}");
    }
    let mut disk = empty();
    disk.fail_nth(6, Failure::Denied);
    assert_eq!(run(&mut disk), Ok(()));
}

#[test]
fn requests_are_refused_as_by_a_system() {
    let mut disk = Disk::new(DiskConfig { open_files: 2, ..DiskConfig::default() });
    disk.put_file(ROOT, "d/f", "text");
    disk.put_other(ROOT, "pipe");
    let refused = |disk: &mut Disk, path: &str, mode| open(disk, path, mode).unwrap_err();
    assert_eq!(refused(&mut disk, "none", OpenMode::Read), Failure::NotFound);
    assert_eq!(refused(&mut disk, "none/f", OpenMode::CreateNew), Failure::NotFound);
    assert_eq!(refused(&mut disk, "d", OpenMode::Read), Failure::WrongKind);
    assert_eq!(refused(&mut disk, "pipe", OpenMode::Update), Failure::WrongKind);
    assert_eq!(refused(&mut disk, "d/f/x", OpenMode::CreateNew), Failure::WrongKind);
    assert_eq!(refused(&mut disk, "d/f", OpenMode::CreateNew), Failure::Exists);
    for path in ["../f", "/d/f", "d//f", "d/./f", "d/"] {
        assert_eq!(refused(&mut disk, path, OpenMode::Read), Failure::Denied, "{path}");
    }
    let file = open(&mut disk, "d/f", OpenMode::Read).unwrap();
    assert_eq!(write(&mut disk, file, 0, b"x"), OwnedReply::Failed(Failure::Denied));
    let new = open(&mut disk, "d/g", OpenMode::CreateNew).unwrap();
    assert_eq!(refused(&mut disk, "d/f", OpenMode::Read), Failure::Exhausted);
    disk.release(new);
    assert!(open(&mut disk, "d/f", OpenMode::Read).is_ok());
    assert_eq!(rename(&mut disk, "d/f", "d/g", false), OwnedReply::Failed(Failure::Exists));
    assert_eq!(rename(&mut disk, "d/f", "d", true), OwnedReply::Failed(Failure::WrongKind));
    let remove = Effect::Remove { root: ROOT, path: "d".into() };
    assert_eq!(perform(&mut disk, remove), OwnedReply::Failed(Failure::WrongKind));
    for (path, answer) in [
        ("e", OwnedReply::Done),
        ("e", OwnedReply::Failed(Failure::Exists)),
        ("e/f", OwnedReply::Done),
        ("none/f", OwnedReply::Failed(Failure::NotFound)),
        ("pipe/f", OwnedReply::Failed(Failure::WrongKind)),
    ] {
        let make = Effect::CreateFolder { root: ROOT, path: path.into() };
        assert_eq!(perform(&mut disk, make), answer, "{path}");
    }
    // Nothing made the names durable.
    disk.crash();
    assert_eq!(disk.names(ROOT, ""), ["d", "pipe"]);
}

#[test]
fn a_stamp_tells_each_content_from_all_others() {
    let mut disk = Disk::default();
    disk.put_file(ROOT, "f", "one");
    let file = open(&mut disk, "f", OpenMode::Update).unwrap();
    let look = |disk: &mut Disk| match perform(disk, Effect::StatFile { file }) {
        OwnedReply::Found(metadata) => metadata,
        other => panic!("{other:?}"),
    };
    let one = look(&mut disk);
    assert_eq!(look(&mut disk), one);
    write(&mut disk, file, 0, b"two");
    let two = look(&mut disk);
    assert!(disk.rewrite(Now::default(), ROOT, "f", "six"));
    let six = look(&mut disk);
    assert_eq!((one.len, one.modified), (six.len, six.modified), "only the stamp can tell");
    assert!(one.stamp != two.stamp && two.stamp != six.stamp && one.stamp != six.stamp);
    // Another file takes the name; the one that is open stays what it was.
    disk.put_file(ROOT, "f", "one");
    assert_eq!(look(&mut disk), six);
    let found = perform(&mut disk, Effect::Stat { root: ROOT, path: "f".into() });
    assert!(matches!(found, OwnedReply::Found(new) if new.stamp != one.stamp));
    assert!(!disk.rewrite(Now::default(), ROOT, "none", ""));
}

#[test]
fn folders_are_listed_in_order_and_in_parts() {
    let mut disk = Disk::default();
    for i in 0..1_500 {
        disk.put_file(ROOT, &format!("d/{i:04}"), "");
    }
    disk.put_folder(ROOT, "d/folder");
    let list = |disk: &mut Disk, after: &str| {
        let (path, after) = ("d".into(), after.into());
        match perform(disk, Effect::List { root: ROOT, path, after }) {
            OwnedReply::Listed(entries) => entries,
            other => panic!("{other:?}"),
        }
    };
    let first = list(&mut disk, "");
    assert_eq!((first.len(), &*first[999].name), (1_000, "0999"));
    let rest = list(&mut disk, "0999");
    assert_eq!((rest.len(), &*rest[0].name), (501, "1000"));
    assert_eq!(rest[500].metadata.kind, FileKind::Folder);
}

fn clerk(config: DiskConfig) -> (Network, ShardId<Plain, Machines<Plain, Vec<u8>>>) {
    let mut net = Network::new(3);
    let machines = Machines::new(|_| Some(Plain::default()), |bytes: &[u8]| bytes.to_vec());
    let shard = Shard::new(machines, NetLimits::default());
    let shard = net.add([10, 0, 0, 1].into(), shard);
    assert!(net.listen(shard, ([10, 0, 0, 1], 80).into()));
    net.disk_mut(shard).set_config(config);
    net.disk_mut(shard).put_file(ROOT, "f", numbered(100_000));
    (net, shard)
}

#[test]
fn spans_are_sent_from_the_disk_in_pieces_between_bytes() {
    let (mut net, shard) = clerk(DiskConfig { read_max: 999, ..DiskConfig::default() });
    net.set_default_link(LinkConfig { window: 5_000, ..LinkConfig::default() });
    let request = Effect::Open { root: ROOT, path: "f".into(), mode: OpenMode::Read };
    net.send_message(shard, Box::new(move |net| _ = net.request(request)));
    let peer = net.connect([10, 0, 0, 2].into(), ([10, 0, 0, 1], 80).into());
    net.run_until_idle().unwrap();
    let mut reports = net.take_reports(shard).into_iter().map(|(_, told)| told);
    let conn = reports.find_map(|told| match told {
        Told::Opened(conn, _) => Some(conn),
        _ => None,
    });
    let (conn, file) = (conn.unwrap(), FileId(0));
    let say = move |net: &mut Net<Plain>| {
        net.send(conn, Say::Bytes(b"head")).unwrap();
        let span = FileSpan { file, offset: 10, len: 90_000 };
        net.send(conn, Say::File(span)).unwrap();
        net.send(conn, Say::Bytes(b"tail")).unwrap();
        net.release(file, Some(conn));
    };
    net.send_message(shard, Box::new(say));
    net.run_until_idle().unwrap();
    let expected = [b"head", &numbered(100_000)[10..90_010], b"tail"].concat();
    assert_eq!(net.peer(peer).received(), expected);
    assert_eq!(net.disk(shard).open_files(), 0);

    // Past the end: what is there comes, then the connection breaks.
    let request = Effect::Open { root: ROOT, path: "f".into(), mode: OpenMode::Read };
    net.send_message(shard, Box::new(move |net| _ = net.request(request)));
    net.run_until_idle().unwrap();
    net.take_received(peer);
    let say = move |net: &mut Net<Plain>| {
        let span = FileSpan { file: FileId(1), offset: 99_990, len: 11 };
        net.send(conn, Say::File(span)).unwrap();
    };
    net.send_message(shard, Box::new(say));
    net.run_until_idle().unwrap();
    assert_eq!(net.peer(peer).received(), &numbered(100_000)[99_990..]);
    assert_eq!(net.peer(peer).state(), PeerState::Failed(Failure::Reset));
}

#[test]
fn answers_take_time_may_overtake_each_other_and_stop_when_cancelled() {
    let (latency, jitter) = (Duration::from_millis(5), Duration::from_millis(5));
    let (mut net, shard) = clerk(DiskConfig { latency, jitter, ..DiskConfig::default() });
    let stat = || Effect::Stat { root: ROOT, path: "f".into() };
    let ask = move |net: &mut Net<Plain>| {
        for _ in 0..20 {
            net.request(stat());
        }
        net.cancel(RequestId(7));
    };
    net.send_message(shard, Box::new(ask));
    net.run_until_idle().unwrap();
    let answers: Vec<_> = net
        .reports(shard)
        .iter()
        .map(|(now, told)| match told {
            Told::Reply(id, OwnedReply::Found(_)) => (now.mono, id.0),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers.len(), 19);
    assert!(answers.iter().all(|&(at, id)| at.as_nanos() >= 5_000_000 && id != 7));
    assert!(!answers.is_sorted_by_key(|&(_, id)| id));
}

#[test]
fn a_disk_moves_from_a_dead_process_to_the_next() {
    let (mut net, shard) = clerk(DiskConfig::default());
    let create = Effect::Open { root: ROOT, path: "new".into(), mode: OpenMode::CreateNew };
    net.send_message(shard, Box::new(move |net| _ = net.request(create)));
    net.run_until_idle().unwrap();
    let disk = net.kill(shard);
    assert_eq!(disk.names(ROOT, ""), ["f", "new"]);
    assert_eq!(disk.open_files(), 0);
    let machines = Machines::new(|_| Some(Plain::default()), |bytes: &[u8]| bytes.to_vec());
    let next = Shard::new(machines, NetLimits::default());
    let next = net.add([10, 0, 0, 1].into(), next);
    *net.disk_mut(next) = disk;
    let disk = net.cut_power(next);
    assert_eq!(disk.names(ROOT, ""), ["f"]);
}

#[test]
fn a_file_without_a_name_is_there_until_it_is_released() {
    let mut disk = Disk::default();
    disk.put_file(ROOT, "a/file", "named");
    let [first, second] = ["a", ""].map(|it| open(&mut disk, it, OpenMode::Unnamed).unwrap());
    assert_eq!(write(&mut disk, first, 2, b"one"), OwnedReply::Done);
    assert_eq!(read(&mut disk, first, 0, 9), OwnedReply::Read(b"\0\0one".to_vec()));
    assert_eq!(read(&mut disk, second, 0, 9), OwnedReply::Read(Vec::new()));
    assert_eq!((disk.names(ROOT, ""), disk.names(ROOT, "a")), (vec!["a"], vec!["file"]));
    disk.release(first);
    assert!(matches!(read(&mut disk, first, 0, 9), OwnedReply::Failed(_)));
    assert_eq!(open(&mut disk, "a/file", OpenMode::Unnamed), Err(Failure::WrongKind));
    assert_eq!(open(&mut disk, "none", OpenMode::Unnamed), Err(Failure::NotFound));
}

#[test]
fn what_is_watched_is_told_of_once_and_though_it_is_as_it_was() {
    let mut disk = Disk::default();
    for path in ["a/hot", "a/cold"] {
        disk.put_file(ROOT, path, "old");
    }
    let [one, two, three] = [0, 1, 2].map(RequestId);
    let watch = |disk: &mut Disk, request, path| disk.watch(request, ROOT, path).unwrap();
    watch(&mut disk, one, "a/hot");
    watch(&mut disk, two, "a/none");
    watch(&mut disk, three, "a");
    assert!(!disk.has_changed());
    // Away and back: who has opened it in between has opened another.
    rename(&mut disk, "a/hot", "x", false);
    rename(&mut disk, "x", "a/hot", false);
    assert_eq!(disk.take_changed(), [one, three]);
    assert!(!disk.has_changed());
    rename(&mut disk, "a", "b", false);
    rename(&mut disk, "b", "a", false);
    assert_eq!(disk.take_changed(), [two]);

    watch(&mut disk, one, "a/hot");
    let file = open(&mut disk, "a/hot", OpenMode::Update).unwrap();
    disk.put_file(ROOT, "a/warm", "new");
    assert!(!disk.has_changed());
    write(&mut disk, file, 0, b"new");
    assert_eq!(disk.take_changed(), [one]);
    watch(&mut disk, one, "a/hot");
    disk.unwatch(one);
    write(&mut disk, file, 0, b"old");
    assert!(!disk.has_changed());

    assert_eq!(disk.watch(one, ROOT, "../x"), Err(Failure::Denied));
    disk.set_config(DiskConfig { watches: 1, ..DiskConfig::default() });
    watch(&mut disk, one, "a/hot");
    assert_eq!(disk.watch(two, ROOT, "a/hot"), Err(Failure::Exhausted));
    disk.set_config(DiskConfig { watches: 0, ..DiskConfig::default() });
    assert_eq!(disk.watch(two, ROOT, "a/hot"), Err(Failure::Unsupported));
}
