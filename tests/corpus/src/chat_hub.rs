//! A chat server with several connections, in an order that the bytes decide.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_chat::wire::{Ask, MAX_FRAME, Manner, PREFACE, Request, Response, Tell, What, Why};
use semfio_chat::{Hub, HubConfig, HubMessage, LogLimits, Reports, Session, SlowPolicy};
use semfio_frame::HEADER;
use semfio_machine::{
    Action, Chunk, ConnId, Failure, Instant, NetLimits, Now, Outbox, Peer, Seed, Shard, UnixTime,
};

use crate::Choices;

/// Peers come, say anything, read or not, and go: nothing panics, buffers are bounded, and each framed
/// member sees numbers that rise by one but where GAP says so.
pub fn chat_hub(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mode = choices.below(64);
    let config = HubConfig {
        log: LogLimits { entries: 8, bytes: 2_000 },
        lag: 1_500,
        rooms: 3,
        rooms_each: 2,
        backlog: 3,
        sealed_only: mode == 63,
        slow: if mode.is_multiple_of(4) { SlowPolicy::Disconnect } else { SlowPolicy::Gap },
        reports: Reports::All,
        ..HubConfig::default()
    };
    let hub = Hub::new(config, &Seed::from_u64(1));
    let mut host = Host {
        shard: Shard::new(hub, LIMITS),
        now: Now { mono: Instant::from_nanos(1), unix: UnixTime::from_secs(1) },
        wires: BTreeMap::new(),
    };
    while !choices.is_empty() {
        host.operate(&mut choices);
        host.check();
    }
    host.end();
}

const LIMITS: NetLimits =
    NetLimits { connections: 8, mark: 1_000, held: 4 << 20, linger: Duration::from_secs(2) };
/// To be sent, above the mark: an answer to HISTORY, a chunk, NAMES; or all a leaving member has yet
/// to get.
const BOUND: usize = 16_000;
/// Received and not taken: the longest line or frame and a read behind it, in a buffer that doubles.
const CARRY: usize = 2 * (MAX_FRAME + HEADER + 2_048);

struct Host {
    shard: Shard<Session, Hub>,
    now: Now,
    wires: BTreeMap<ConnId, Wire>,
}

#[derive(Default)]
struct Wire {
    sent: Vec<u8>,
    eof: bool,
}

impl Host {
    fn operate(&mut self, choices: &mut Choices<'_>) {
        let ids: Vec<ConnId> = self.wires.keys().copied().collect();
        let id = ids.get(choices.below(8)).copied();
        match (choices.below(16), id) {
            (0 | 1, _) | (_, None) => self.accept(choices.below(64)),
            (2 | 3, Some(id)) => {
                let n = choices.below(64);
                let bytes = choices.bytes(n).to_vec();
                self.receive(id, bytes);
            }
            (4..=8, Some(id)) => {
                let frame = request(choices);
                self.receive(id, frame.to_vec());
            }
            (9, Some(id)) => {
                let text = [&b"/nick bia\n"[..], b"oi\n", b"/history\n", b"/join b\n", b"/quit\n"];
                self.receive(id, text[choices.below(text.len())].to_vec());
            }
            (10, Some(id)) => {
                let wire = self.wires.entry(id).or_default();
                if !wire.eof && self.shard.wants_read(id) {
                    wire.eof = true;
                    self.shard.handle_eof(self.now, id);
                }
            }
            (11, Some(id)) => self.shard.handle_failed(self.now, id, Failure::Reset),
            (12 | 13, Some(id)) => {
                let n = choices.below(2_048);
                self.drain(id, n);
            }
            (14, _) => {
                let millis = choices.below(256) as u64 * 100;
                self.now.mono = self.now.mono.saturating_add(Duration::from_millis(millis));
                for _ in 0..40 {
                    let due = self.shard.poll_timeout().is_some_and(|d| d.at <= self.now.mono);
                    if !due {
                        break;
                    }
                    self.shard.handle_timeout(self.now);
                }
                assert!(self.shard.poll_timeout().is_none_or(|d| d.at > self.now.mono));
            }
            (_, Some(id)) => {
                if choices.below(64) == 63 {
                    self.shard.handle_message(self.now, HubMessage::Stop);
                } else {
                    self.drain(id, usize::MAX);
                    let numbers = numbers(&self.wires.entry(id).or_default().sent);
                    let frame = ask(choices, &numbers);
                    self.receive(id, frame.to_vec());
                }
            }
        }
        // A turn may hold several calls.
        if choices.below(3) > 0 {
            self.shard.handle_turn(self.now);
        }
        self.actions();
    }

    fn accept(&mut self, how: usize) {
        let Some(id) = self.shard.handle_accepted(self.now, PEER) else {
            return;
        };
        self.wires.insert(id, Wire::default());
        let mut hello = BytesMut::from(&PREFACE[..]);
        let nick = ["ana", "bia", "caio", ""][how % 4];
        Request::Hello { max_frame: 65_536, session: [0; 16], nick }.put(&mut hello);
        if !nick.is_empty() {
            match how {
                0..48 => Request::Join { since: 0, room: "lobby" },
                _ => Request::Key { room: "b", ask: Ask::Enter { since: 0 } },
            }
            .put(&mut hello);
            self.receive(id, hello.to_vec());
        }
    }

    fn receive(&mut self, id: ConnId, mut bytes: Vec<u8>) {
        if self.shard.wants_read(id) && !bytes.is_empty() {
            self.shard.handle_received(self.now, id, &mut bytes);
        }
    }

    fn drain(&mut self, id: ConnId, n: usize) {
        let Some(outbox) = self.shard.outbox(id) else {
            return;
        };
        let mut bytes = Vec::new();
        for chunk in outbox.chunks() {
            match chunk {
                Chunk::Bytes(chunk) => bytes.extend_from_slice(chunk),
                Chunk::File(_) => unreachable!("chat sends no files"),
            }
        }
        bytes.truncate(n);
        if !bytes.is_empty() {
            self.wires.entry(id).or_default().sent.extend_from_slice(&bytes);
            self.shard.handle_sent(self.now, id, bytes.len());
        }
    }

    fn actions(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            if let Action::Close { conn, .. } = action
                && let Some(wire) = self.wires.remove(&conn)
            {
                in_order(&wire.sent);
            }
        }
        while self.shard.poll_report().is_some() {}
    }

    fn check(&self) {
        let ids: Vec<ConnId> = self.shard.connections().collect();
        assert!(ids.len() <= LIMITS.connections);
        assert!(self.shard.service().members() <= ids.len());
        for id in ids {
            let held = self.shard.outbox(id).map_or(0, Outbox::held);
            assert!(held <= BOUND, "{held} bytes wait for {id}");
            let carried = self.shard.buffered(id) - held;
            assert!(carried <= CARRY, "{carried} bytes of {id} wait");
        }
    }

    /// Everybody reads everything: nobody is left behind.
    fn end(mut self) {
        self.shard.handle_turn(self.now);
        self.actions();
        for _ in 0..50 {
            for id in self.wires.keys().copied().collect::<Vec<_>>() {
                self.drain(id, usize::MAX);
                self.actions();
            }
            self.shard.handle_turn(self.now);
            self.actions();
        }
        for id in self.shard.connections() {
            assert!(self.shard.outbox(id).is_none_or(|out| out.is_empty()), "{id} never ends");
        }
        let newest = self.shard.service().newest("lobby");
        for (id, wire) in &self.wires {
            let state = self.shard.machine(*id).map(semfio_machine::StreamMachine::state);
            let last = in_order(&wire.sent).get("lobby").copied();
            if let (Some("Member"), Some(last)) = (state, last) {
                assert_eq!(Some(last), newest, "{id} is not up to date");
            }
        }
    }
}

fn request(choices: &mut Choices<'_>) -> BytesMut {
    let mut frame = BytesMut::new();
    let room = ["lobby", "b", "c", "d"][choices.below(4)];
    let nick = ["ana", "bia", "caio", "\x1b"][choices.below(4)];
    let number = choices.below(256) as u64;
    let text = &"long text ".repeat(60)[..2 * number as usize + 1];
    let to_one = choices.below(8) == 0;
    let (manner, to) = if to_one { (Manner::Private, nick) } else { (Manner::Text, room) };
    match choices.below(12) {
        0 => Request::Join { since: number, room },
        1 => Request::Part { room },
        2 => Request::Nick { nick },
        3 => Request::Who { room },
        4 => Request::History { from: number, count: u32::MAX, room },
        5 => Request::Bye,
        6 => Request::Ping(number),
        _ => Request::Msg { tag: 1, manner, to, text },
    }
    .put(&mut frame);
    frame
}

/// The members and candidates of whom a peer was told.
fn numbers(sent: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut rest = sent.strip_prefix(&PREFACE[..]).unwrap_or_default();
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<HEADER>() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        rest = after;
        if let Ok(Some(Response::Key { tell, .. })) = Response::parse(kind, body) {
            match tell {
                Tell::Door { you, holder } => numbers.extend([you, holder]),
                Tell::Knock { peer, .. } | Tell::Relay { peer, .. } => numbers.push(peer),
                Tell::Refused { .. } | Tell::Gone { .. } => {}
            }
        }
    }
    numbers
}

fn ask(choices: &mut Choices<'_>, numbers: &[u64]) -> BytesMut {
    let mut frame = BytesMut::new();
    let room = ["b", "c", "b", "lobby"][choices.below(4)];
    let number = choices.below(16);
    let peer = numbers.iter().rev().nth(number % 4).copied().unwrap_or(1);
    let body = [0xFF; 300];
    let ask = match choices.below(16) {
        0..=4 => Ask::Enter { since: number as u64 },
        5..=8 => Ask::Admit { peer },
        9 => Ask::Refuse { peer, why: Why::Proof },
        10 => Ask::Epoch { epoch: 1, fresh: number > 7, check: [0; 16] },
        11 | 12 => Ask::Relay { peer, body: &body[..20 * number] },
        kind => {
            let token = &"gA".repeat(300)[..2 + 30 * number];
            let to = if kind == 15 { "bia" } else { "" };
            Request::Sealed { tag: 1, room, to, epoch: 1, counter: 1, token }.put(&mut frame);
            return frame;
        }
    };
    Request::Key { room, ask }.put(&mut frame);
    frame
}

/// The newest number in each room, if the numbers are as promised.
fn in_order(sent: &[u8]) -> BTreeMap<&str, u64> {
    let mut newest = BTreeMap::new();
    let Some(mut rest) = sent.strip_prefix(&PREFACE[..]) else {
        return newest;
    };
    let mut history = 0..0;
    // Its name, and where it entered each room: what came before may be of another with this name.
    let (mut own, mut joins) = ("", BTreeMap::new());
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<HEADER>() {
        let Some((body, after)) = after.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)
        else {
            break;
        };
        rest = after;
        match Response::parse(kind, body) {
            Ok(Some(Response::Welcome { nick, .. })) => own = nick,
            Ok(Some(Response::History { from, to, .. })) => history = from..to + 1,
            Ok(Some(Response::Names { newest, room, .. })) => {
                joins.entry(room).or_insert(newest);
            }
            Ok(Some(Response::Gap { from, to, room, .. })) => {
                assert!(newest.insert(room, to).is_none_or(|last| last + 1 == from));
            }
            Ok(Some(Response::Entry(entry))) if history.start < history.end => {
                assert_eq!(entry.seq, history.start);
                history.start += 1;
            }
            Ok(Some(Response::Entry(entry))) => {
                if entry.seq > 0 {
                    let last = newest.insert(entry.room, entry.seq);
                    assert!(last.is_none_or(|last| last + 1 == entry.seq), "{entry:?} after {last:?}");
                }
                let joined = joins.get(entry.room).is_some_and(|&join| join <= entry.seq);
                match entry.what {
                    _ if entry.nick != own || !joined && entry.seq > 0 => {}
                    What::Nick(new) => own = new,
                    What::Part => {
                        newest.remove(entry.room);
                        joins.remove(entry.room);
                    }
                    _ => {}
                }
            }
            Ok(Some(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    newest
}

const PEER: Peer = Peer {
    address: SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2),
    local: SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
};
