//! What both sides of a transfer hold, by a counting allocator. Alone in its process, and one test
//! at a time.
//!
//! The file is larger than what an outline has all hashes of, and exists nowhere: a host of this
//! test's own makes it up as it is read, and checks it as it is written.
#![allow(missing_docs)]

use bytes::BytesMut;
use semfio_file::tree::{GROUP, Hash};
use semfio_file::wire::{
    BODY, EntryList, ErrorCode, Get, Kind, MAX_FRAME, Message, Meta, PREFACE, RangeBytes,
};
use semfio_file::{
    Fetch, FetchConfig, FetchReport, Listing, ListingConfig, ListingReport, Pour, PourConfig,
    PourReport, PutLimits, Repository, RepositoryConfig, Secret, Session, Upload, UploadConfig,
    UploadItem, UploadReport,
};
use semfio_keysync::Passphrase;
use semfio_machine::{
    Action, Chunk, ConnId, Effect, Entry, Failure, FileId, FileKind, Instant, Metadata, NetLimits,
    Now, OpenMode, OwnedReply, Peer, RequestId, RootId, Seed, Service, Shard, Target, UnixTime,
};
use semfio_path::{Policy, SafeName};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than 1 GiB, not in whole groups.
const LEN: u64 = (1 << 30) + (1 << 24) + 77;

/// The same where all is sealed: ciphers that are not optimized take a second for 5 MiB.
const SEALED_LEN: u64 = if cfg!(debug_assertions) { (1 << 23) + 77 } else { LEN };

/// What one side may hold.
const LIMIT: usize = 8 * 1024 * 1024;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Each group is of another byte than its neighbours.
fn fill(offset: u64, bytes: &mut [u8]) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rest.len().min((GROUP - at % GROUP) as usize);
        let (group, behind) = rest.split_at_mut(n);
        group.fill((at / GROUP * 7) as u8);
        at += n as u64;
        rest = behind;
    }
}

struct Side<S: Service<Session>> {
    shard: Shard<Session, S>,
    requests: VecDeque<(RequestId, Effect)>,
    dialled: Vec<ConnId>,
    closed: Vec<ConnId>,
    /// Of the file it has, or will have.
    len: u64,
    /// It has it.
    has: bool,
}

impl<S: Service<Session>> Side<S> {
    fn new(service: S, has: bool) -> Self {
        let shard = Shard::new(service, NetLimits::default());
        let (dialled, closed) = (Vec::new(), Vec::new());
        Self { shard, requests: VecDeque::new(), dialled, closed, len: LEN, has }
    }

    fn act(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Request(id, effect) => self.requests.push_back((id, effect)),
                Action::Dial(conn, _) => self.dialled.push(conn),
                Action::Close { conn, .. } => self.closed.push(conn),
                _ => {}
            }
        }
    }

    /// Answers one request, if there is any.
    fn answer(&mut self, now: Now, written: &mut u64, scratch: &mut Vec<u8>) -> bool {
        let Some((id, effect)) = self.requests.pop_front() else { return false };
        let modified = UnixTime::default();
        let there = Metadata { len: self.len, modified, kind: FileKind::File, stamp: 1 };
        let reply = match effect {
            Effect::Open { mode: OpenMode::Read, .. } => {
                OwnedReply::Opened { file: FileId(1), metadata: there }
            }
            Effect::Open { mode: OpenMode::CreateNew, .. } => {
                OwnedReply::Opened { file: FileId(2), metadata: Metadata { len: 0, ..there } }
            }
            // One looks for its file, the other for a name that is free.
            Effect::Stat { .. } if self.has => OwnedReply::Found(there),
            Effect::Open { .. } | Effect::Stat { .. } => OwnedReply::Failed(Failure::NotFound),
            Effect::StatFile { .. } => OwnedReply::Found(there),
            Effect::List { .. } => OwnedReply::Listed(Vec::new()),
            Effect::Read { offset, len, .. } => {
                let n = u64::from(len).min(self.len.saturating_sub(offset)) as usize;
                scratch.resize(n, 0);
                fill(offset, scratch);
                let reply = semfio_machine::Reply::Read(scratch);
                self.shard.handle_reply(now, id, reply);
                self.act();
                return true;
            }
            Effect::Write { offset, bytes, .. } => {
                scratch.resize(bytes.len(), 0);
                fill(offset, scratch);
                assert!(bytes == scratch[..], "what is written is what was read");
                *written += bytes.len() as u64;
                OwnedReply::Done
            }
            _ => OwnedReply::Done,
        };
        self.shard.handle_reply(now, id, reply.as_reply());
        self.act();
        true
    }
}

/// Moves up to a socket's worth from one side to the other. Whether there was any.
fn carry<A: Service<Session>, B: Service<Session>>(
    now: Now,
    (from, at): (&mut Side<A>, ConnId),
    (to, there): (&mut Side<B>, ConnId),
    wire: &mut Vec<u8>,
) -> bool {
    if !to.shard.wants_read(there) {
        return false;
    }
    wire.clear();
    if let Some(outbox) = from.shard.outbox(at) {
        for chunk in outbox.chunks() {
            let room = 65_536 - wire.len();
            match chunk {
                Chunk::Bytes(bytes) => wire.extend_from_slice(&bytes[..bytes.len().min(room)]),
                Chunk::File(span) => {
                    let (end, n) = (wire.len(), (span.len as usize).min(room));
                    wire.resize(end + n, 0);
                    fill(span.offset, &mut wire[end..]);
                }
            }
            if wire.len() == 65_536 {
                break;
            }
        }
    }
    if wire.is_empty() {
        return false;
    }
    from.shard.handle_sent(now, at, wire.len());
    to.shard.handle_received(now, there, wire);
    from.act();
    to.act();
    true
}

/// Runs a transfer of the file to its end, which `over` knows; the most that both sides held.
fn transfer<C: Service<Session>>(
    server: &mut Side<Repository>,
    client: &mut Side<C>,
    over: impl Fn(C::Report) -> bool,
) -> usize {
    let now = Now { mono: Instant::from_nanos(1), ..Now::default() };
    let (mut wire, mut scratch) = (Vec::with_capacity(65_536), Vec::with_capacity(1 << 20));
    let before = held();
    client.shard.handle_timeout(now);
    client.act();
    let mine = client.dialled[0];
    let peer = Peer { address: address(), local: address() };
    let theirs = server.shard.handle_accepted(now, peer).unwrap();
    client.shard.handle_connected(now, mine, peer);
    client.act();
    let (mut most, mut written) = (0, 0);
    let mut done = false;
    while !done {
        let moved = carry(now, (server, theirs), (client, mine), &mut wire)
            | carry(now, (client, mine), (server, theirs), &mut wire)
            | server.answer(now, &mut written, &mut scratch)
            | client.answer(now, &mut written, &mut scratch);
        most = most.max(held().saturating_sub(before));
        while let Some(report) = client.shard.poll_report() {
            done |= over(report);
        }
        while server.shard.poll_report().is_some() {}
        assert!(moved || done, "it goes on");
    }
    assert_eq!(written, server.len);
    println!("at most {most} bytes for both sides");
    most
}

/// A passphrase, if it is sealed.
fn secret(is_sealed: bool, seed: u64) -> Option<Secret> {
    is_sealed.then(|| Secret::new(Passphrase::new(b"praia"), Seed::from_u64(seed)))
}

/// The most that both sides of a get held.
fn get(is_sealed: bool, len: u64) -> usize {
    let config = FetchConfig {
        target: Target::Address(address()),
        names: vec![SafeName::parse("a", Policy::default()).unwrap()],
        root: RootId(0),
        save_as: None,
        replace: false,
        jobs: 1,
        policy: Policy::default(),
        retries: 0,
    };
    let server = Repository::new(RepositoryConfig::default()).with_secret(secret(is_sealed, 1));
    let client = Fetch::new(config).with_secret(secret(is_sealed, 2));
    let (mut server, mut client) = (Side::new(server, true), Side::new(client, false));
    (server.len, client.len) = (len, len);
    transfer(&mut server, &mut client, |report| match report {
        FetchReport::Failed { .. } => panic!("{report:?}"),
        report => report == FetchReport::Over { done: 1, failed: 0 },
    })
}

/// The same of a put.
fn put(is_sealed: bool, len: u64) -> usize {
    let writable = Some(PutLimits::default());
    let config = RepositoryConfig { writable, ..RepositoryConfig::default() };
    let server = Repository::new(config).with_secret(secret(is_sealed, 1));
    let name = SafeName::parse("a", Policy::default()).unwrap();
    let config = UploadConfig {
        target: Target::Address(address()),
        items: vec![UploadItem { root: RootId(0), local: name.clone(), name }],
        replace: false,
        policy: Policy::default(),
        retries: 0,
    };
    let client = Upload::new(config).with_secret(secret(is_sealed, 2));
    let (mut server, mut client) = (Side::new(server, false), Side::new(client, true));
    (server.len, client.len) = (len, len);
    transfer(&mut server, &mut client, |report| match report {
        UploadReport::Failed { .. } => panic!("{report:?}"),
        report => report == UploadReport::Over { done: 1, failed: 0 },
    })
}

#[test]
fn both_sides_hold_less_than_8_mib_together_whatever_the_file() {
    let _alone = alone();
    let most = get(false, LEN);
    assert!(most < LIMIT, "{most}");
}

#[test]
fn both_sides_of_a_put_hold_less_than_8_mib_together() {
    let _alone = alone();
    let most = put(false, LEN);
    assert!(most < LIMIT, "{most}");
}

/// What is sealed is read and copied in place of spans, and no more of it is held for a longer file.
#[test]
fn both_sides_hold_less_than_8_mib_together_where_all_is_sealed() {
    let _alone = alone();
    for transfer in [get, put] {
        let (short, long) = (transfer(true, SEALED_LEN / 4), transfer(true, SEALED_LEN));
        assert!(long < LIMIT, "{long}");
        // Outlines grow with the file, by 64 octets a group up to a bound.
        assert!(long < short + (1 << 20), "{short}, and {long} for a longer file");
    }
}

/// Numbers that follow from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    fn hash(&mut self) -> Hash {
        Hash([self.below(3) as u8; 32])
    }

    fn name(&mut self) -> String {
        let part = ["a", "f/b", &"n".repeat(255), "../x", "con"][self.below(5)].to_owned();
        match self.below(4) {
            0 => [&*part; 16].join("/"),
            _ => part,
        }
    }

    /// A frame that a hostile peer might send.
    fn put_frame(&mut self, wire: &mut BytesMut) {
        let (tag, hash, name) = (self.below(6) as u32 + 1, self.hash(), self.name());
        let (name, size) = (name.as_str(), [0, 1, SMALL, 1 << 40, u64::MAX][self.below(5)]);
        let ranges = (0..self.below(1_100) as u64).map(|n| (n * 2 * GROUP, GROUP));
        let ranges = RangeBytes::new(ranges.chain((self.below(2) == 0).then_some((0, size))));
        let (replace, modified, content) = (true, 0, self.below(4) > 0);
        let message = match self.below(14) {
            0 => Message::Stat { tag, hashed: self.below(2) == 0, name },
            1 | 2 => Message::List { tag, folder: "f", after: name },
            3..=5 => Message::Get(Get { tag, content, hash, size, name, ranges: ranges.list() }),
            6 => Message::Put { tag, replace, size, modified, hash, name },
            7 => Message::Wait { tag, done: 1, of: size },
            8 => Message::Cancel { tag },
            9 => Message::Done { tag, hash },
            10 => Message::Error { tag, code: ErrorCode::Changed, text: name },
            11 => {
                let n = self.below(200_000);
                let [_, a, b, c] = (n as u32).to_be_bytes();
                wire.extend_from_slice(&[BODY, a, b, c]);
                return wire.resize(wire.len() + n, 7);
            }
            12 => return wire.extend_from_slice(&[0x01, 0, 0x7F, 0xFF]),
            _ => return wire.extend_from_slice(&[self.below(256) as u8; 9]),
        };
        message.put(wire);
    }
}

/// Of a file that is hashed often.
const SMALL: u64 = 3 << 20;

fn address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 8003).into()
}

#[test]
fn a_server_holds_little_whatever_its_peers_say() {
    let _alone = alone();
    for writable in [None, Some(PutLimits::default())] {
        hostile_clients(writable);
    }
}

/// Eight at a time say anything, read or do not, and go when they like.
fn hostile_clients(writable: Option<PutLimits>) {
    let mut dice = Dice(7);
    let mut now = Now { mono: Instant::from_nanos(1), ..Now::default() };
    let mut scratch = Vec::with_capacity(1 << 20);
    let (mut most, mut none, mut frames) = (0, 0, 0);
    let names = |n: usize| (0..n).map(|n| format!("{n:0255}"));
    let kind = FileKind::File;
    let metadata = Metadata { len: 1, modified: UnixTime::default(), kind, stamp: 1 };
    let listed = OwnedReply::Listed(names(1_000).map(|name| Entry { name, metadata }).collect());
    let before = held();
    let config = RepositoryConfig { writable, ..RepositoryConfig::default() };
    let mut server = Side::new(Repository::new(config), writable.is_none());
    server.len = SMALL;
    let mut peers: Vec<(ConnId, BytesMut)> = Vec::new();
    for _ in 0..5_000 {
        if peers.len() < 8 {
            let peer = Peer { address: address(), local: address() };
            let conn = server.shard.handle_accepted(now, peer).unwrap();
            let mut wire = BytesMut::from(&PREFACE[..]);
            Message::Hello { max_frame: MAX_FRAME as u32 }.put(&mut wire);
            peers.push((conn, wire));
        }
        let at = dice.below(peers.len());
        let (conn, wire) = &mut peers[at];
        match dice.below(16) {
            0 => server.shard.handle_eof(now, *conn),
            1..=7 => {
                while wire.len() < dice.below(65_536) {
                    dice.put_frame(wire);
                    frames += 1;
                }
                if server.shard.wants_read(*conn) {
                    let n = wire.len().min(65_536);
                    server.shard.handle_received(now, *conn, &mut wire.split_to(n));
                }
            }
            8..=10 => {
                let n = server.shard.outbox(*conn).map_or(0, |outbox| outbox.queued());
                server.shard.handle_sent(now, *conn, n as usize);
            }
            11 => {
                now.mono = now.mono.saturating_add(std::time::Duration::from_millis(50));
                server.shard.handle_timeout(now);
            }
            _ => match server.requests.front() {
                Some((_, Effect::List { .. })) => {
                    let (id, _) = server.requests.pop_front().unwrap();
                    server.shard.handle_reply(now, id, listed.as_reply());
                }
                _ => drop(server.answer(now, &mut none, &mut scratch)),
            },
        }
        let wires: usize = peers.iter().map(|(_, wire)| wire.capacity()).sum();
        most = most.max(held().saturating_sub(before + wires));
        server.act();
        while server.shard.poll_report().is_some() {}
        for conn in server.closed.drain(..) {
            peers.retain(|(open, _)| *open != conn);
        }
    }
    println!("at most {most} bytes for 8 hostile clients, {frames} frames");
    assert!(most < LIMIT, "{most}");
}

/// What a server was asked and has not answered: the tag and the type of the frame.
#[derive(Default)]
struct Asked {
    seen: usize,
    heard: Vec<u8>,
    queue: VecDeque<(u32, u8)>,
    lists: usize,
}

/// What kind of folders a server tells of.
#[derive(Clone, Copy, PartialEq)]
enum Folders {
    /// One in another, and in the last as many names as are taken.
    Deep,
    Some,
    Few,
}

impl Asked {
    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        self.seen = self.seen.max(PREFACE.len());
        while let Some([kind, a, b, c, rest @ ..]) = self.heard.get(self.seen..) {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(body) = rest.get(..len) else { break };
            if let (0x83 | 0x85 | 0x87, [d, e, f, g, ..]) = (*kind, body) {
                let (d, e, f, g) = (*d, *e, *f, *g);
                self.queue.push_back((u32::from_be_bytes([d, e, f, g]), *kind));
            }
            self.seen += 4 + len;
        }
        if self.seen > 8 {
            self.heard.drain(8..self.seen);
            self.seen = 8;
        }
    }
}

/// Answers something, which is now and then what was asked for.
fn answer(dice: &mut Dice, asked: &mut Asked, wire: &mut BytesMut, folders: Folders) {
    let deep = folders == Folders::Deep;
    let turn = if deep { 2 } else { dice.below(32) };
    let front = if turn > 1 { asked.queue.pop_front() } else { None };
    let Some((tag, kind)) = front else {
        let n = dice.below(3_000);
        for _ in 0..n {
            match turn {
                0 => Message::Wait { tag: 1, done: 1, of: 2 }.put(wire),
                1 => return dice.put_frame(wire),
                _ => {}
            }
        }
        return;
    };
    let (hash, modified) = (dice.hash(), 0);
    match kind {
        // STAT
        0x85 => {
            let folder = match folders {
                Folders::Deep => true,
                Folders::Some => dice.below(4) > 0,
                Folders::Few => dice.below(4) == 0,
            };
            let kind = if folder { Kind::Folder } else { Kind::File };
            let size = if folder { 0 } else { [0, 9, SMALL, 1 << 44, 1 << 50][dice.below(5)] };
            let meta = Meta { kind, size, modified };
            Message::Meta { tag, meta, hash: Some(hash) }.put(wire);
        }
        // LIST
        0x83 => {
            let mut list = EntryList::default();
            let meta = Meta { kind: Kind::File, size: 1, modified };
            let from = asked.queue.len() + dice.below(1 << 20) * 1_000;
            asked.lists += 1;
            let (many, width) = match asked.lists {
                ..16 if deep => (1, 250),
                n if deep => (1_000 * n, 9),
                _ => (from, 120),
            };
            let count = if asked.lists < 16 && deep { 1 } else { 1_000 };
            (many..many + count).all(|n| list.push(&format!("{n:0width$}"), meta));
            let more = if deep { asked.lists >= 16 } else { dice.below(8) > 0 };
            Message::Entries { tag, more, entries: list.entries() }.put(wire);
        }
        _ => {
            if dice.below(2) == 0 {
                let n = dice.below(1 << 20);
                let [_, a, b, c] = (n as u32).to_be_bytes();
                wire.extend_from_slice(&[BODY, a, b, c]);
                wire.resize(wire.len() + n, 7);
            }
            let (code, text) = (ErrorCode::from_number(dice.below(20) as u16), "no");
            match dice.below(2) {
                0 => Message::Done { tag, hash }.put(wire),
                _ => Message::Error { tag, code, text }.put(wire),
            }
        }
    }
}

#[test]
fn a_client_holds_little_whatever_its_server_says() {
    let _alone = alone();
    let (target, retries) = (Target::Address(address()), 5);
    let name = SafeName::parse("f", Policy::default()).unwrap();
    for seed in 1..19 {
        let config = FetchConfig {
            target: target.clone(),
            names: vec![name.clone()],
            root: RootId(0),
            save_as: None,
            replace: false,
            jobs: 1 + seed as usize % 16,
            policy: Policy::default(),
            retries,
        };
        let over = |report: &FetchReport| matches!(report, FetchReport::Over { .. });
        bounded("a fetch", seed, || Fetch::new(config), over);
        let config = ListingConfig { target: target.clone(), name: Some(name.clone()) };
        let over = |report: &ListingReport| matches!(report, ListingReport::Over(_));
        bounded("a listing", seed, || Listing::new(config), over);
    }
    // Most are over soon.
    for seed in 1..100 {
        let config = PourConfig { target: target.clone(), name: name.clone(), retries };
        let over = |report: &PourReport| matches!(report, PourReport::Over(_));
        bounded("a pour", seed, || Pour::new(config), over);
    }
}

/// Lets a hostile server talk to this client.
fn bounded<S: Service<Session>>(
    what: &str,
    seed: u64,
    client: impl FnOnce() -> S,
    is_over: impl Fn(&S::Report) -> bool,
) {
    let mut scratch = Vec::with_capacity(1 << 20);
    let (mut most, mut heard) = (0, 0);
    let mut dice = Dice(seed * 0x9E37_79B9);
    for _ in 0..8 {
        dice.below(2);
    }
    let folders = [Folders::Deep, Folders::Some, Folders::Few][seed as usize % 3];
    let mut now = Now { mono: Instant::from_nanos(1), ..Now::default() };
    let before = held();
    let mut client = Side::new(client(), false);
    client.len = SMALL;
    let mut conns: BTreeMap<ConnId, (Asked, BytesMut)> = BTreeMap::new();
    let mut none = 0;
    for _ in 0..3_000 {
        if client.shard.is_over() {
            break;
        }
        client.act();
        let peer = Peer { address: address(), local: address() };
        for conn in client.dialled.drain(..) {
            let mut wire = BytesMut::from(&PREFACE[..]);
            let max_frame = MAX_FRAME as u32;
            Message::Welcome { max_frame, writable: false }.put(&mut wire);
            conns.insert(conn, (Asked::default(), wire));
            client.shard.handle_connected(now, conn, peer);
        }
        client.closed.drain(..).for_each(|conn| drop(conns.remove(&conn)));
        match dice.below(8) {
            0 if conns.is_empty() => {
                if let Some(deadline) = client.shard.poll_timeout() {
                    now.mono = now.mono.max(deadline.at);
                    client.shard.handle_timeout(now);
                }
            }
            0..=2 => drop(answer_local(&mut client, now, &mut none, &mut scratch)),
            _ => {
                let at = dice.below(conns.len().max(1));
                let Some((conn, (asked, wire))) = conns.iter_mut().nth(at) else { continue };
                if let Some(outbox) = client.shard.outbox(*conn) {
                    let mut n = 0;
                    for chunk in outbox.chunks() {
                        let Chunk::Bytes(bytes) = chunk else { continue };
                        asked.hear(bytes);
                        n += bytes.len();
                    }
                    client.shard.handle_sent(now, *conn, n);
                }
                if wire.is_empty() {
                    answer(&mut dice, asked, wire, folders);
                }
                if client.shard.wants_read(*conn) {
                    let n = wire.len().min(65_536);
                    client.shard.handle_received(now, *conn, &mut wire.split_to(n));
                }
            }
        }
        let beside: usize = conns
            .values()
            .map(|(asked, wire)| {
                wire.capacity() + asked.heard.capacity() + asked.queue.capacity() * 8
            })
            .sum();
        most = most.max(held().saturating_sub(before + beside));
        while let Some(report) = client.shard.poll_report() {
            heard += 1;
            if is_over(&report) {
                println!("{what}: at most {most} bytes, {heard} reports");
            }
        }
    }
    assert!(most < LIMIT, "{what}: {most}");
    assert!(heard > 0, "{what}: it says something");
}

/// The client's disk is empty and takes everything.
fn answer_local<S: Service<Session>>(
    client: &mut Side<S>,
    now: Now,
    none: &mut u64,
    scratch: &mut Vec<u8>,
) -> bool {
    match client.requests.front() {
        Some((_, Effect::Write { .. })) => {
            let Some((id, _)) = client.requests.pop_front() else { return false };
            client.shard.handle_reply(now, id, semfio_machine::Reply::Done);
            client.act();
            true
        }
        Some((_, Effect::Stat { .. })) => {
            let Some((id, _)) = client.requests.pop_front() else { return false };
            let reply = semfio_machine::Reply::Failed(Failure::NotFound);
            client.shard.handle_reply(now, id, reply);
            client.act();
            true
        }
        _ => client.answer(now, none, scratch),
    }
}
