//! What an answer and an idle connection cost, by a counting allocator. Alone in its process.
#![allow(missing_docs)]

use bytes::Bytes;
use core::convert::Infallible;
use core::time::Duration;
use semfio_machine::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Each line is a question; whoever asks none for a minute is sent away.
#[derive(Default)]
struct Line {
    until: Option<Instant>,
}

/// A head that is written, and a body that others are sent too.
struct Answer<'c>(&'c [u8], &'c Bytes);

impl StreamMachine for Line {
    type Event<'i> = &'i [u8];
    type Command<'c> = Answer<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1024
    }

    fn state(&self) -> &'static str {
        "Line"
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Infallible> {
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        let Some(end) = input.peek().iter().position(|&byte| byte == b'\n') else {
            return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
        };
        self.until = Some(now.mono.saturating_add(Duration::from_secs(60)));
        Ok(Step::Event(input.take(end + 1)))
    }

    fn handle_command(
        &mut self,
        _: Now,
        Answer(head, body): Answer<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        out.put(head);
        out.put_shared(body.clone());
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.until?, why: "idle" })
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.until.is_some_and(|at| at <= now.mono) {
            self.until = None;
            out.finish();
        }
    }
}

struct Answers(Bytes);

impl Service<Line> for Answers {
    type Message = ();
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Line> {
        Some(Line::default())
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Line>) {}

    fn handle_event(&mut self, _: Now, from: ConnId, line: &[u8], net: &mut Net<Line>) {
        net.send(from, Answer(line, &self.0)).unwrap();
    }

    fn handle_closed(&mut self, _: Now, _: ConnId, _: Closed<Infallible>, _: &mut Net<Line>) {}

    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<Line>) {}
}

struct Bench {
    shard: Shard<Line, Answers>,
    now: Now,
    ids: Vec<ConnId>,
}

impl Bench {
    fn new(connections: usize) -> Self {
        let limits = NetLimits { connections, ..NetLimits::default() };
        let mut shard = Shard::new(Answers(Bytes::from(vec![b'x'; 1000])), limits);
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer { address, local: address };
        let now = Now { mono: Instant::from_nanos(1), ..Now::default() };
        let ids = (0..connections).map(|_| shard.handle_accepted(now, peer).unwrap()).collect();
        Self { shard, now, ids }
    }

    /// All ask at once, and are answered; a write takes at most `most`. Bytes of answers.
    fn turn(&mut self, question: &[u8], most: usize) -> u64 {
        let (shard, mut sent) = (&mut self.shard, 0);
        self.now.mono = self.now.mono.saturating_add(Duration::from_millis(1));
        let mut read = [0; 1024];
        for &id in &self.ids {
            let read = &mut read[..question.len()];
            read.copy_from_slice(question);
            shard.handle_received(self.now, id, read);
        }
        shard.handle_turn(self.now);
        while let Some(action) = shard.poll_action() {
            let Action::Write(id) = action else { panic!("{action:?}") };
            while let Some(outbox) = shard.outbox(id).filter(|outbox| !outbox.is_empty()) {
                let n = usize::try_from(outbox.queued()).unwrap().min(most);
                sent += n as u64;
                shard.handle_sent(self.now, id, n);
            }
        }
        if shard.poll_timeout().is_some_and(|due| due.at <= self.now.mono) {
            shard.handle_timeout(self.now);
        }
        sent
    }
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn answers_allocate_nothing_and_idle_connections_hold_nothing() {
    let before = Region::new(ALLOCATOR);
    let held = || {
        let change = before.change();
        change.bytes_allocated as isize - change.bytes_deallocated as isize
    };
    let pipelined = b"question\n".repeat(16);
    for (connections, question, most) in [
        (1, &b"question\n"[..], 5000),
        (64, b"question\n", 5000),
        (64, b"question\n", 999),
        (200, &pipelined, 5000),
    ] {
        let mut bench = Bench::new(connections);
        // For two minutes of its time: deadlines are put off, and come up.
        for _ in 0..100 {
            bench.turn(question, most);
        }
        let region = Region::new(ALLOCATOR);
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += bench.turn(question, most);
        }
        let change = region.change();
        let lines = question.len() / 9;
        assert_eq!(sent, (1_000 * connections * lines * 1009) as u64);
        assert_eq!(change.allocations + change.reallocations, 0, "{connections}, {most}");
    }

    // Of a burst, no more is kept than a shard may keep: half a MiB of spares, its queues, its timers.
    let mut bench = Bench::new(1_000);
    let idle = held();
    bench.turn(&b"question\n".repeat(60), 1 << 20);
    let after = held() - idle;
    assert!(after <= (512 << 10) + 200_000, "{after} bytes are held");
    eprintln!("1,000 idle connections hold {idle} bytes, and {after} more after a burst");
    for &id in &bench.ids {
        assert_eq!(bench.shard.buffered(id), 0);
    }
}
