//! Fan-out in core alone: a hub, its sessions, no sockets.
//!
//! `cargo run --release -p semfio-bench --bin core_fan_out -- [--deliveries N] [--only MEMBERS:BATCH]`

use std::alloc::System;
use std::hint::black_box;

use bytes::BytesMut;
use clap::Parser;
use semfio_bench::{median, own_cpu};
use semfio_chat::wire::{MAX_FRAME, Manner, PREFACE, Request};
use semfio_chat::{Hub, HubConfig, Reports, Session};
use semfio_machine::{Action, Chunk, ConnId, Instant, NetLimits, Now, Peer, Seed, Shard, UnixTime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Parser)]
struct Args {
    /// Deliveries a run.
    #[arg(long, default_value_t = 20_000_000)]
    deliveries: u64,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One case alone: members and messages a turn.
    #[arg(long, value_parser = case)]
    only: Option<(u16, u32)>,
}

fn case(text: &str) -> Result<(u16, u32), String> {
    let (members, batch) = text.split_once(':').ok_or("MEMBERS:BATCH")?;
    Ok((members.parse().map_err(|_| "MEMBERS")?, batch.parse().map_err(|_| "BATCH")?))
}

const TEXT: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

struct Room {
    shard: Shard<Session, Hub>,
    sender: ConnId,
    now: Now,
    tag: u32,
    delivered: u64,
}

impl Room {
    fn new(members: u16) -> Self {
        let config = HubConfig { reports: Reports::None, backlog: 0, ..HubConfig::default() };
        let hub = Hub::new(config, &Seed::from_u64(1));
        let mut shard = Shard::new(hub, NetLimits { connections: 100_000, ..NetLimits::default() });
        let now = Now { mono: Instant::from_nanos(0), unix: UnixTime::from_secs(1_700_000_000) };
        let mut sender = None;
        for member in 0..members {
            let address = ([10, 0, (member >> 8) as u8, member as u8], 1000).into();
            let conn = shard.handle_accepted(now, Peer { address, local: address }).unwrap();
            let mut hello = BytesMut::from(&PREFACE[..]);
            let nick = format!("m{member}");
            Request::Hello { max_frame: MAX_FRAME as u32, session: [0; 16], nick: &nick }
                .put(&mut hello);
            Request::Join { since: 0, room: "lobby" }.put(&mut hello);
            shard.handle_received(now, conn, &mut hello);
            sender = Some(conn);
        }
        let mut room = Self { shard, sender: sender.unwrap(), now, tag: 0, delivered: 0 };
        room.turn();
        room
    }

    /// Sends `batch` messages and ends the turn.
    fn say(&mut self, batch: u32, wire: &mut BytesMut) {
        wire.clear();
        for _ in 0..batch {
            self.tag += 1;
            Request::Msg { tag: self.tag, manner: Manner::Text, to: "lobby", text: TEXT }.put(wire);
        }
        self.shard.handle_received(self.now, self.sender, wire);
        self.turn();
    }

    /// Ends the turn and takes what every member is sent, as a socket with room would.
    fn turn(&mut self) {
        self.shard.handle_turn(self.now);
        while let Some(action) = self.shard.poll_action() {
            let Action::Write(conn) = action else { continue };
            let outbox = self.shard.outbox(conn).unwrap();
            let bytes = outbox
                .chunks()
                .map(
                    |chunk| {
                        if let Chunk::Bytes(bytes) = chunk { black_box(bytes).len() } else { 0 }
                    },
                )
                .sum();
            self.delivered += 1;
            self.shard.handle_sent(self.now, conn, bytes);
        }
    }
}

/// Deliveries a CPU-second and allocations a delivery.
fn run(members: u16, batch: u32, deliveries: u64) -> (f64, f64) {
    let mut room = Room::new(members);
    let mut wire = BytesMut::with_capacity(1 << 20);
    let each = u64::from(members) * u64::from(batch);
    (0..2000 / batch.min(100)).for_each(|_| room.say(batch, &mut wire));
    room.delivered = 0;
    let turns = (deliveries / each).max(20);
    let region = Region::new(GLOBAL);
    let start = own_cpu().unwrap();
    (0..turns).for_each(|_| room.say(batch, &mut wire));
    let time = (own_cpu().unwrap() - start).as_secs_f64();
    let allocations = region.change().allocations + region.change().reallocations;
    assert!(room.delivered >= turns * u64::from(members), "every member was written to each turn");
    let deliveries = (turns * each) as f64;
    (deliveries / time, allocations as f64 / deliveries)
}

fn main() {
    let args = Args::parse();
    println!("core alone, 100-byte texts, medians of {}", args.runs);
    println!(
        "{:>8} {:>6} {:>16} {:>22}",
        "members", "batch", "deliveries/CPU-s", "allocations/delivery"
    );
    let all = [(50, 1), (50, 100), (10, 1), (100, 1), (1000, 1), (10_000, 1)];
    for (members, batch) in args.only.map_or(all.to_vec(), |only| vec![only]) {
        let runs = (0..args.runs).map(|_| run(members, batch, args.deliveries));
        let runs: Vec<(f64, f64)> = runs.collect();
        let rate = median(runs.iter().map(|run| run.0).collect());
        let allocations = median(runs.iter().map(|run| run.1).collect());
        println!("{members:>8} {batch:>6} {:>14.1} M {allocations:>22.6}", rate / 1e6);
    }
}
