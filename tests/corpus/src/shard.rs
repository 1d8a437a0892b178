//! [`Shard`] under an order of operations that the bytes decide.

mod lines;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Action, ConnId, Failure, FileId, Instant, NetLimits, Now, Peer, Reply, RequestId, Shard,
    UnixTime,
};

use crate::Choices;
pub(crate) use lines::{Faults, Lines};
use lines::{Message, Room};

/// Connects, cuts, ends, breaks, drains, answers and lets time pass in any order.
///
/// Every call keeps the rules of [`Shard`]; and where connections leave each other alone, each
/// of them sees and sends the same bytes however its input was cut.
pub fn shard(data: &[u8]) {
    check(data, Faults::default());
}

/// With a machine as wrong as `faults` says.
pub(crate) fn check(data: &[u8], faults: Faults) {
    // What connections share (commands to each other, the order of requests) shows the order of
    // reads, as it should.
    let gossip = data.first().is_some_and(|first| first % 2 == 1);
    let whole = Host::run(data, faults, gossip, READ);
    if !gossip {
        for stride in [1, 3] {
            let cut = Host::run(data, faults, gossip, stride);
            assert_eq!(whole, cut, "whole, and cut every {stride} bytes");
        }
    }
}

/// What the service saw and the peer was sent, of each connection.
type Transcript = BTreeMap<usize, (Vec<String>, Vec<u8>)>;

/// A host without an operating system, which mistrusts its shard.
struct Host {
    shard: Shard<Lines, Room>,
    now: Now,
    wires: BTreeMap<ConnId, Wire>,
    /// In the order they came: places in the shard's table may be used again in another.
    serials: BTreeMap<ConnId, usize>,
    dials: VecDeque<ConnId>,
    requests: VecDeque<RequestId>,
    sent: BTreeMap<ConnId, Vec<u8>>,
    arrived: BTreeMap<ConnId, Vec<u8>>,
    /// Reads are at most this long.
    stride: usize,
}

/// A connection's socket.
#[derive(Default)]
struct Wire {
    arrived: VecDeque<u8>,
    ended: bool,
    told: bool,
    writing: bool,
    shut: bool,
}

const LIMITS: NetLimits = NetLimits {
    connections: 6,
    mark: 96,
    held: 400,
    linger: Duration::from_nanos(50),
};
/// The longest read, as long as three lines.
const READ: usize = 3 * Lines::LIMIT;

impl Host {
    fn run(data: &[u8], faults: Faults, gossip: bool, stride: usize) -> Transcript {
        let mut host = Self {
            shard: Shard::new(Room::new(faults, gossip), LIMITS),
            now: Now::default(),
            wires: BTreeMap::new(),
            serials: BTreeMap::new(),
            dials: VecDeque::new(),
            requests: VecDeque::new(),
            sent: BTreeMap::new(),
            arrived: BTreeMap::new(),
            stride,
        };
        let mut choices = Choices::new(data.get(1..).unwrap_or_default());
        while !choices.is_empty() {
            host.operate(&mut choices);
            host.settle();
        }
        host.end();
        let room = host.shard.into_service();
        for (id, lines) in room.lines() {
            let arrived = &host.arrived[id];
            assert!(arrived.starts_with(lines), "{id}: a line was lost");
        }
        room.into_seen().into_iter()
            .map(|(id, log)| {
                let sent = host.sent.remove(&id).unwrap_or_default();
                (host.serials[&id], (log, sent))
            })
            .collect()
    }

    /// Carries out one operation.
    fn operate(&mut self, choices: &mut Choices<'_>) {
        match choices.below(12) {
            0 => self.accept(),
            1..=4 => {
                if let Some(id) = self.pick(choices) {
                    let n = choices.below(READ);
                    let bytes = lines::spell(choices.bytes(n));
                    self.arrive(id, &bytes);
                }
            }
            5 => {
                if let Some(id) = self.pick(choices) {
                    self.wires.entry(id).or_default().ended = true;
                }
            }
            6 => {
                if let Some(id) = self.pick(choices) {
                    self.shard.handle_failed(self.now, id, Failure::Reset);
                }
            }
            7 | 8 => {
                if let Some(id) = self.pick(choices) {
                    let share = choices.below(4);
                    self.drain(id, share);
                }
            }
            9 => self.pass(choices.below(64) as u64),
            10 => {
                let fail = choices.below(3) == 0;
                if let Some(id) = self.dials.pop_front() {
                    self.answer(id, fail);
                } else if let Some(id) = self.requests.pop_front() {
                    let reply = if fail {
                        Reply::Failed(Failure::NotFound)
                    } else {
                        Reply::Done
                    };
                    self.shard.handle_reply(self.now, id, reply);
                }
            }
            _ => {
                let message = match choices.below(8) {
                    0 => Message::Stop,
                    _ => Message::Say,
                };
                self.shard.handle_message(self.now, message);
            }
        }
    }

    /// Carries out what was asked, reads what may be read, and looks for broken promises.
    fn settle(&mut self) {
        self.actions();
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            self.read(id);
        }
        self.shard.handle_turn(self.now);
        self.actions();
        while self.shard.poll_report().is_some() {}
        for id in self.shard.connections() {
            let buffered = self.shard.buffered(id);
            let bound = LIMITS.held + 2 * (READ + Lines::LIMIT) + Lines::ANSWERS;
            assert!(buffered <= bound, "{id} holds {buffered} bytes");
            let wire = &self.wires[&id];
            let waits = self.shard.outbox(id).is_some_and(|out| !out.is_empty());
            assert_eq!(
                waits, wire.writing,
                "{id}: the host writes what there is to write"
            );
        }
        assert!(self.shard.connections().count() <= LIMITS.connections + 2);
    }

    fn actions(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(id, _) => {
                    self.add(id);
                    self.dials.push_back(id);
                }
                Action::Write(id) => {
                    let wire = self.wires.get_mut(&id).expect("Write to a live one");
                    assert!(!wire.writing && !wire.shut, "{id} writes twice");
                    wire.writing = true;
                }
                Action::Shutdown(id) => {
                    let wire = self.wires.get_mut(&id).expect("Shutdown of a live one");
                    assert!(!wire.writing && !wire.shut, "{id} is shut twice or early");
                    wire.shut = true;
                }
                Action::Read(id) => assert!(self.wires.contains_key(&id), "Read of a live one"),
                Action::Close { conn, .. } => {
                    assert!(self.wires.remove(&conn).is_some(), "{conn} closed twice");
                    self.dials.retain(|dialled| *dialled != conn);
                }
                Action::Request(id, _) => self.requests.push_back(id),
                Action::Cancel(id) => self.requests.retain(|request| *request != id),
                Action::Release(FileId(_)) => unreachable!("no file was opened"),
                Action::Stop => {}
            }
        }
    }

    fn accept(&mut self) {
        if let Some(id) = self.shard.handle_accepted(self.now, PEER) {
            self.add(id);
        }
    }

    fn add(&mut self, id: ConnId) {
        let serial = self.serials.len();
        let old = self.serials.insert(id, serial);
        assert_eq!(old, None, "{id} was used before");
        self.wires.insert(id, Wire::default());
    }

    fn answer(&mut self, id: ConnId, fail: bool) {
        if fail {
            self.shard.handle_failed(self.now, id, Failure::Refused);
        } else {
            self.shard.handle_connected(self.now, id, PEER);
        }
        self.actions();
    }

    fn pick(&self, choices: &mut Choices<'_>) -> Option<ConnId> {
        let mut live: Vec<_> = self.wires.keys().copied().collect();
        live.sort_by_key(|id| self.serials[id]);
        let id = *live.get(choices.below(live.len()))?;
        (!self.dials.contains(&id)).then_some(id)
    }

    fn arrive(&mut self, id: ConnId, bytes: &[u8]) {
        let wire = self.wires.entry(id).or_default();
        if !wire.ended {
            wire.arrived.extend(bytes);
            self.arrived.entry(id).or_default().extend(bytes);
        }
    }

    fn read(&mut self, id: ConnId) {
        while self.shard.wants_read(id) {
            let Some(wire) = self.wires.get_mut(&id) else {
                return;
            };
            let n = wire.arrived.len().min(self.stride);
            if n > 0 {
                let mut bytes: Vec<u8> = wire.arrived.drain(..n).collect();
                self.shard.handle_received(self.now, id, &mut bytes);
            } else if wire.ended && !wire.told {
                wire.told = true;
                self.shard.handle_eof(self.now, id);
            } else {
                return;
            }
            self.actions();
        }
    }

    /// Sends a share of what waits: quarters, `3` being all.
    fn drain(&mut self, id: ConnId, share: usize) {
        let Some(outbox) = self.shard.outbox(id) else {
            return;
        };
        let mut bytes = Vec::new();
        for chunk in outbox.chunks() {
            match chunk {
                semfio_machine::Chunk::Bytes(chunk) => bytes.extend_from_slice(chunk),
                semfio_machine::Chunk::File(_) => unreachable!("no file was put"),
            }
        }
        bytes.truncate(bytes.len() * (share + 1) / 4);
        if bytes.is_empty() {
            return;
        }
        let emptied = bytes.len() as u64 == outbox.queued();
        self.wires.entry(id).or_default().writing = !emptied;
        self.shard.handle_sent(self.now, id, bytes.len());
        self.sent.entry(id).or_default().extend(&bytes);
        self.actions();
    }

    fn pass(&mut self, nanos: u64) {
        self.now.mono = self.now.mono.saturating_add(Duration::from_nanos(nanos));
        self.now.unix = UnixTime::from_nanos(self.now.mono.as_nanos());
        let now = self.now.mono;
        let due = |at: Instant| at <= now;
        // A timeout may set another in the past once for each connection, never for ever.
        let mut left = 2 * LIMITS.connections + 4;
        while self.shard.poll_timeout().is_some_and(|d| due(d.at)) {
            assert!(left > 0, "a deadline that does not pass");
            left -= 1;
            self.shard.handle_timeout(self.now);
            self.actions();
        }
    }

    /// Everything ends: nothing may be left.
    fn end(&mut self) {
        for _ in 0..4 {
            while let Some(id) = self.dials.pop_front() {
                self.answer(id, true);
            }
            self.settle();
            for id in self.wires.keys().copied().collect::<Vec<_>>() {
                self.wires.entry(id).or_default().ended = true;
                self.drain(id, 3);
            }
            self.settle();
            self.pass(1_000);
            self.settle();
        }
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            self.shard.handle_failed(self.now, id, Failure::Reset);
            self.actions();
        }
        self.settle();
        assert!(self.wires.is_empty(), "left: {:?}", self.wires.keys());
        assert_eq!(self.shard.connections().count(), 0);
        self.shard.service().assert_all_closed();
    }
}

const PEER: Peer = Peer {
    address: SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2),
    local: SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
};
