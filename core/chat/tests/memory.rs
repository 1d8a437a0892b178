//! What a delivery and an idle member cost, by a counting allocator. Alone in its process.
#![allow(missing_docs)]

use bytes::BytesMut;
use semfio_chat::wire::{Ask, MAX_FRAME, Manner, PREFACE, Request};
use semfio_chat::{Hub, HubConfig, Reports, Session};
use semfio_machine::{Chunk, ConnId, Instant, NetLimits, Now, Peer, Seed, Shard};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Bench {
    shard: Shard<Session, Hub>,
    now: Now,
    ids: Vec<ConnId>,
}

impl Bench {
    fn new(members: usize) -> Self {
        let config = HubConfig { reports: Reports::None, ..HubConfig::default() };
        let limits = NetLimits { connections: members + 1, ..NetLimits::default() };
        let shard = Shard::new(Hub::new(config, &Seed::from_u64(1)), limits);
        let now = Now { mono: Instant::from_nanos(1), ..Now::default() };
        Self { shard, now, ids: Vec::with_capacity(members) }
    }

    fn admit(&mut self, room: &str) {
        let id = self.come(|wire| Request::Join { since: 0, room }.put(wire));
        self.ids.push(id);
    }

    /// The first opens the room, and lets the others in.
    fn admit_sealed(&mut self, room: &str) {
        let enter = Request::Key { room, ask: Ask::Enter { since: 0 } };
        let id = self.come(|wire| enter.put(wire));
        if let Some(&holder) = self.ids.first() {
            let mut sent = Vec::new();
            for chunk in self.shard.outbox(id).unwrap().chunks() {
                if let Chunk::Bytes(bytes) = chunk {
                    sent.extend_from_slice(bytes);
                }
            }
            // The last frame is DOOR: two numbers at its end.
            let peer = sent[sent.len() - 16..].first_chunk().unwrap();
            let ask = Ask::Admit { peer: u64::from_be_bytes(*peer) };
            let mut wire = BytesMut::new();
            Request::Key { room, ask }.put(&mut wire);
            self.shard.handle_received(self.now, holder, &mut wire);
        }
        self.ids.push(id);
    }

    fn come(&mut self, put: impl Fn(&mut BytesMut)) -> ConnId {
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer { address, local: address };
        let id = self.shard.handle_accepted(self.now, peer).unwrap();
        let nick = format!("member{}", self.ids.len());
        let mut wire = BytesMut::from(&PREFACE[..]);
        let max_frame = MAX_FRAME as u32;
        Request::Hello { max_frame, session: [0; 16], nick: &nick }.put(&mut wire);
        put(&mut wire);
        self.shard.handle_received(self.now, id, &mut wire);
        id
    }

    /// Writes everything. How many connections were written to.
    fn turn(&mut self) -> usize {
        self.shard.handle_turn(self.now);
        while self.shard.poll_action().is_some() {}
        let mut written = 0;
        for &id in &self.ids {
            let queued = self.shard.outbox(id).map_or(0, |out| out.queued());
            if queued > 0 {
                self.shard.handle_sent(self.now, id, queued as usize);
                written += 1;
            }
        }
        while self.shard.poll_action().is_some() {}
        written
    }
}

/// A room of 50, and who has spoken there.
fn deliveries(admit: impl Fn(&mut Bench, &str), wire: &[u8]) -> (Bench, ConnId) {
    let mut bench = Bench::new(50);
    for _ in 0..50 {
        admit(&mut bench, "lobby");
        bench.turn();
    }
    let mut message = wire.to_vec();
    let sender = bench.ids[0];
    let mut say = |bench: &mut Bench, n: usize| {
        let (mut deliveries, region) = (0, Region::new(ALLOCATOR));
        for _ in 0..n {
            bench.shard.handle_received(bench.now, sender, &mut message);
            deliveries += bench.turn();
        }
        let change = region.change();
        (deliveries, change.allocations + change.reallocations)
    };
    say(&mut bench, 5_000);
    let (deliveries, allocations) = say(&mut bench, 5_000);
    // The sender has its ACK behind the entry: a second piece, and so a queue.
    let others = allocations.saturating_sub(5_000);
    eprintln!("{deliveries} deliveries, {allocations} allocations, {others} but for ACKs");
    assert_eq!(deliveries, 250_000);
    assert!(others * 1_000 <= deliveries, "{others} allocations in {deliveries} deliveries");
    (bench, sender)
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn deliveries_allocate_nothing_and_idle_members_hold_little() {
    let text = "x".repeat(100);
    let (mut clear, mut sealed) = (BytesMut::new(), BytesMut::new());
    Request::Msg { tag: 1, manner: Manner::Text, to: "lobby", text: &text }.put(&mut clear);
    let (tag, room, to, token) = (1, "lobby", "", &*text);
    Request::Sealed { tag, room, to, epoch: 1, counter: 1, token }.put(&mut sealed);
    deliveries(Bench::admit_sealed, &sealed);
    let (mut bench, sender) = deliveries(Bench::admit, &clear);

    // Answers that wait hold what the outbox counts, and no block each.
    let mut wire = BytesMut::new();
    (0..500).for_each(|_| Request::Part { room: "none" }.put(&mut wire));
    let region = Region::new(ALLOCATOR);
    bench.shard.handle_received(bench.now, sender, &mut wire);
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let counted = bench.shard.outbox(sender).unwrap().held();
    eprintln!("{held} bytes held with 500 answers that count as {counted}");
    assert!(counted > 500 * 32 && held.max(0) as usize <= 3 * counted, "{held} for {counted}");
    drop(bench);

    // History as lines is made once, whoever asks and does not read.
    let mut bench = Bench::new(101);
    bench.admit("lobby");
    let mut wire = BytesMut::new();
    let text = "x".repeat(10_000);
    for tag in 0..30 {
        Request::Msg { tag, manner: Manner::Text, to: "lobby", text: &text }.put(&mut wire);
    }
    bench.shard.handle_received(bench.now, bench.ids[0], &mut wire);
    for _ in 0..100 {
        let address = ([127, 0, 0, 1], 1).into();
        let id = bench.shard.handle_accepted(bench.now, Peer { address, local: address }).unwrap();
        bench.shard.handle_received(bench.now, id, &mut b"\n".to_vec());
        bench.ids.push(id);
    }
    while bench.turn() > 0 {}
    let region = Region::new(ALLOCATOR);
    for id in bench.ids.split_off(1) {
        bench.shard.handle_received(bench.now, id, &mut b"/history\n".to_vec());
        assert!(bench.shard.outbox(id).unwrap().queued() > 200_000);
    }
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    eprintln!("{held} bytes held for 100 histories");
    assert!(held < 1_000_000, "{held} bytes held for 100 histories");
    drop(bench);

    const IDLE: usize = 10_000;
    let region = Region::new(ALLOCATOR);
    let mut bench = Bench::new(IDLE);
    for n in 0..IDLE {
        bench.admit("lobby");
        // Everybody is told of everybody: only now and then, or it takes long.
        if n % 500 == 499 {
            bench.turn();
        }
    }
    bench.turn();
    bench.turn();
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let each = held.max(0) as usize / IDLE;
    eprintln!("{held} bytes held with {IDLE} idle members: {each} each, all told");
    assert!(each <= 1_024, "{each} bytes each");
    for &id in &bench.ids {
        assert_eq!(bench.shard.buffered(id), 0);
    }
}
