//! Hard case: a hub with one shared log and a cursor for each member.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use semfio_machine::{
    Action, Chunk, Closed, ConnId, Deadline, Input, Net, NetLimits, Now, Outbox, Peer, Refused,
    Service, Shard, Step, StreamMachine,
};

/// Tells lines, and is told of the log.
struct Member;

enum Say<'c> {
    Log(&'c Bytes),
    Gap(u64),
}

impl StreamMachine for Member {
    type Event<'i> = &'i [u8];
    type Command<'c> = Say<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1024
    }

    fn state(&self) -> &'static str {
        "Open"
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Infallible> {
        Ok(match input.peek().iter().position(|&byte| byte == b'\n') {
            Some(end) => Step::Event(input.take(end + 1)),
            None if input.at_eof() => Step::Done,
            None => Step::NeedInput(1),
        })
    }

    fn handle_command(&mut self, _: Now, say: Say<'_>, out: &mut Outbox) -> Result<(), Refused> {
        match say {
            Say::Log(bytes) => out.put_shared(bytes.clone()),
            Say::Gap(lost) => out.put(format!("lost {lost}\n").as_bytes()),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

/// The log holds one entry a turn, the latest [`KEPT`] of them.
#[derive(Default)]
struct Hub {
    log: VecDeque<Bytes>,
    /// Turns before the first in the log.
    forgotten: u64,
    turn: BytesMut,
    /// The next turn of each member.
    cursors: BTreeMap<ConnId, u64>,
    encoded: usize,
}

const KEPT: usize = 16;

impl Hub {
    /// Sends a member what it has not seen, as long as there is room.
    fn deliver(&mut self, to: ConnId, net: &mut Net<Member>) {
        let Some(cursor) = self.cursors.get_mut(&to) else {
            return;
        };
        while net.has_room(to) && *cursor < self.forgotten + self.log.len() as u64 {
            let sent = match cursor.checked_sub(self.forgotten) {
                Some(at) => net.send(to, Say::Log(&self.log[at as usize])).map(|()| *cursor + 1),
                None => net.send(to, Say::Gap(self.forgotten - *cursor)).map(|()| self.forgotten),
            };
            match sent {
                Ok(next) => *cursor = next,
                Err(_) => break,
            }
        }
    }
}

impl Service<Member> for Hub {
    type Message = ();
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Member> {
        Some(Member)
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, _: &mut Net<Member>) {
        self.cursors.insert(conn, self.forgotten + self.log.len() as u64);
    }

    fn handle_event(&mut self, _: Now, _: ConnId, line: &[u8], _: &mut Net<Member>) {
        self.turn.extend_from_slice(line);
        self.encoded += 1;
    }

    fn handle_turn(&mut self, _: Now, net: &mut Net<Member>) {
        if self.turn.is_empty() {
            return;
        }
        self.log.push_back(self.turn.split().freeze());
        if self.log.len() > KEPT {
            self.log.pop_front();
            self.forgotten += 1;
        }
        let members: Vec<ConnId> = self.cursors.keys().copied().collect();
        for member in members {
            self.deliver(member, net);
        }
    }

    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Member>) {
        self.deliver(conn, net);
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, _: Closed<Infallible>, _: &mut Net<Member>) {
        self.cursors.remove(&conn);
    }

    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<Member>) {}
}

struct Bench {
    shard: Shard<Member, Hub>,
    members: Vec<ConnId>,
}

impl Bench {
    fn new(members: usize, mark: usize) -> Self {
        let limits = NetLimits { mark, ..NetLimits::default() };
        let mut shard = Shard::new(Hub::default(), limits);
        let local = "127.0.0.1:1".parse().unwrap();
        let peer = Peer { address: local, local };
        let members =
            (0..members).map(|_| shard.handle_accepted(Now::default(), peer).unwrap()).collect();
        Self { shard, members }
    }

    /// The first member says these lines in one turn.
    fn turn(&mut self, lines: &[u8]) {
        let now = Now::default();
        self.shard.handle_received(now, self.members[0], &mut lines.to_vec());
        self.shard.handle_turn(now);
    }

    /// Sends all that waits for a member.
    fn drain(&mut self, member: usize) -> String {
        let id = self.members[member];
        let mut all = Vec::new();
        loop {
            let pieces: Vec<Vec<u8>> = self.chunks(member).map(<[u8]>::to_vec).collect();
            let n = pieces.iter().map(Vec::len).sum();
            if n == 0 {
                return String::from_utf8(all).unwrap();
            }
            all.extend(pieces.concat());
            self.shard.handle_sent(Now::default(), id, n);
        }
    }

    fn chunks(&self, member: usize) -> impl Iterator<Item = &[u8]> {
        let outbox = self.shard.outbox(self.members[member]).unwrap();
        outbox.chunks().filter_map(|chunk| match chunk {
            Chunk::Bytes(bytes) => Some(bytes),
            Chunk::File(_) => None,
        })
    }
}

/// However many members there are, a message is encoded once, and a turn is one piece of memory.
#[test]
fn a_turn_is_encoded_once_and_shared() {
    let mut bench = Bench::new(50, Outbox::MARK);
    bench.turn(b"one\ntwo\n");
    assert_eq!(bench.shard.service().encoded, 2);
    let places: Vec<*const u8> = (0..50)
        .map(|member| {
            let chunks: Vec<&[u8]> = bench.chunks(member).collect();
            assert_eq!(chunks, [b"one\ntwo\n"]);
            chunks[0].as_ptr()
        })
        .collect();
    assert!(places.iter().all(|place| *place == places[0]), "one copy for all");
    let writes = std::iter::from_fn(|| bench.shard.poll_action());
    assert_eq!(writes.filter(|action| matches!(action, Action::Write(_))).count(), 50);
    for member in 0..50 {
        assert_eq!(bench.drain(member), "one\ntwo\n");
        assert_eq!(bench.shard.buffered(bench.members[member]), 0);
    }
}

#[test]
fn a_slow_reader_is_bounded_told_of_its_gap_and_slows_nobody() {
    let mut bench = Bench::new(3, 200);
    let mut said = String::new();
    for turn in 0..100 {
        let line = format!("turn {turn:03}\n");
        bench.turn(line.as_bytes());
        said += &line;
        assert_eq!(bench.drain(1), line, "others get each turn at once");
        bench.drain(0);
        let slow = bench.shard.outbox(bench.members[2]).unwrap();
        assert!(slow.held() < 200 + 64);
    }
    let heard = bench.drain(2);
    let (before, after) = heard.split_once("lost ").unwrap();
    let (lost, after) = after.split_once('\n').unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let (had, has) = (before.lines().count(), after.lines().count());
    assert_eq!(has, KEPT, "what is still in the log");
    assert_eq!(lost.parse(), Ok(100 - KEPT - had), "and how much is not");
    assert!(before.lines().eq(lines[..had].iter().copied()));
    assert!(after.lines().eq(lines[100 - KEPT..].iter().copied()));
}
