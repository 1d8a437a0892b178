//! Two machines wired to each other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use semfio_machine::{
    Carry, Closed, Deadline, Failure, FileId, FileSpan, Input, Instant, Now, Outbox, Refused, Seed,
    Step, StreamMachine,
};

use crate::Stuck;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::link::{self, End, LinkConfig, Pipe};

/// Two [`StreamMachine`]s, `a` and `b`, over one link, without services.
///
/// [`command_a`](Self::command_a) and [`command_b`](Self::command_b) play the applications.
/// [`step`](Self::step) does all that is due at the next instant, [`drive`](Self::drive) goes on
/// until nothing is due. What the machines tell is mapped to `T` as it happens, since an event may
/// borrow its bytes, and kept with its time in [`log`](Self::log).
///
/// A machine that is [`Done`](Step::Done), or that fails, has its outbox flushed and its sending
/// half closed; what still comes for it is dropped. [`ended_a`](Self::ended_a) tells how it ended.
///
/// ```
/// # use semfio_machine::*;
/// # struct Shout;
/// # impl StreamMachine for Shout {
/// #     type Event<'i> = &'i [u8];
/// #     type Command<'c> = &'c [u8];
/// #     type Error = core::convert::Infallible;
/// #     const CARRIES_FILES: bool = false;
/// #     fn max_unit(&self) -> usize { 1 }
/// #     fn state(&self) -> &'static str { "Open" }
/// #     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, _: &mut Outbox)
/// #         -> Result<Step<&'i [u8]>, Self::Error> {
/// #         Ok(match input.len() {
/// #             0 if input.at_eof() => Step::Done,
/// #             0 => Step::NeedInput(1),
/// #             n => Step::Event(input.take(n)),
/// #         })
/// #     }
/// #     fn handle_command(&mut self, _: Now, text: &[u8], out: &mut Outbox) -> Result<(), Refused> {
/// #         out.put(text);
/// #         Ok(())
/// #     }
/// #     fn poll_timeout(&self) -> Option<Deadline> { None }
/// #     fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
/// # }
/// use semfio_sim::{LinkConfig, Pair, Side};
///
/// let mut pair = Pair::new(Shout, Shout, 1, |event| event.to_vec(), |event| event.to_vec())
///     .with_links(LinkConfig::rough(1), LinkConfig::rough(2));
/// pair.command_a(b"hello")?;
/// pair.drive()?;
/// assert_eq!(pair.events(Side::B).flatten().copied().collect::<Vec<u8>>(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pair<A: StreamMachine, B: StreamMachine, T> {
    clock: Clock,
    seed: Seed,
    a: Half<A, T>,
    b: Half<B, T>,
    to_a: Pipe,
    to_b: Pipe,
    log: Vec<Said<T>>,
    step_limit: u64,
}

/// An end of a [`Pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The first machine.
    A,
    /// The second machine.
    B,
}

/// One entry in the log of a [`Pair`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// When.
    pub at: Instant,
    /// Which machine.
    pub side: Side,
    /// What its event was mapped to.
    pub what: T,
}

impl<A: StreamMachine, B: StreamMachine, T> Pair<A, B, T> {
    /// `a` and `b` over a perfect link. `see_a` and `see_b` map their events for the log.
    pub fn new(
        a: A,
        b: B,
        seed: u64,
        see_a: impl for<'i> FnMut(A::Event<'i>) -> T + 'static,
        see_b: impl for<'i> FnMut(B::Event<'i>) -> T + 'static,
    ) -> Self {
        let seed = Seed::from_u64(seed);
        Self {
            clock: Clock::default(),
            to_a: Pipe::new(LinkConfig::default(), Dice::new(&seed, TO_A)),
            to_b: Pipe::new(LinkConfig::default(), Dice::new(&seed, TO_B)),
            seed,
            a: Half::new(a, Box::new(see_a)),
            b: Half::new(b, Box::new(see_b)),
            log: Vec::new(),
            step_limit: crate::STEP_LIMIT,
        }
    }

    /// Another link, before the first step.
    #[must_use]
    pub fn with_links(mut self, a_to_b: LinkConfig, b_to_a: LinkConfig) -> Self {
        self.to_b = Pipe::new(a_to_b, Dice::new(&self.seed, TO_B));
        self.to_a = Pipe::new(b_to_a, Dice::new(&self.seed, TO_A));
        self
    }

    /// Other marks than [`Outbox::MARK`], before the first step.
    #[must_use]
    pub fn with_mark(mut self, mark: usize) -> Self {
        self.a.outbox = Outbox::new(mark);
        self.b.outbox = Outbox::new(mark);
        self
    }

    /// How many steps [`drive`](Self::drive) and [`run_for`](Self::run_for) make at most.
    #[must_use]
    pub fn with_step_limit(mut self, steps: u64) -> Self {
        self.step_limit = steps;
        self
    }

    /// The content of a file that spans of `side` may name.
    pub fn put_file(&mut self, side: Side, file: FileId, content: impl Into<Bytes>) {
        let files = match side {
            Side::A => &mut self.a.files,
            Side::B => &mut self.b.files,
        };
        files.retain(|(id, _)| *id != file);
        files.push((file, content.into()));
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The first machine.
    pub fn machine_a(&self) -> &A {
        &self.a.machine
    }

    /// The second machine.
    pub fn machine_b(&self) -> &B {
        &self.b.machine
    }

    /// How the first machine ended, if it has. `Local`: [`close`](Self::close) or
    /// [`reset`](Self::reset) did it.
    pub fn ended_a(&self) -> Option<&Closed<A::Error>> {
        self.a.ended.as_ref()
    }

    /// How the second machine ended, if it has.
    pub fn ended_b(&self) -> Option<&Closed<B::Error>> {
        self.b.ended.as_ref()
    }

    /// Hands a command to the first machine.
    pub fn command_a(&mut self, command: A::Command<'_>) -> Result<(), Refused> {
        self.a.command(self.clock.now(), command)
    }

    /// Hands a command to the second machine.
    pub fn command_b(&mut self, command: B::Command<'_>) -> Result<(), Refused> {
        self.b.command(self.clock.now(), command)
    }

    /// Ends one side as its application would: flush, then the end of input for the other.
    pub fn close(&mut self, side: Side) {
        match side {
            Side::A => self.a.end(Closed::Local),
            Side::B => self.b.end(Closed::Local),
        }
    }

    /// Cuts the connection from one side; the other sees a reset.
    pub fn reset(&mut self, side: Side) {
        let now = self.clock.now().mono;
        self.close(side);
        match side {
            Side::A => {
                self.a.outbox = Outbox::new(0);
                self.to_b.reset(now);
            }
            Side::B => {
                self.b.outbox = Outbox::new(0);
                self.to_a.reset(now);
            }
        }
    }

    /// Has one side stop reading, or go on. It still notices a reset.
    pub fn pause(&mut self, side: Side, paused: bool) {
        match side {
            Side::A => (self.a.paused, self.a.touched) = (paused, true),
            Side::B => (self.b.paused, self.b.touched) = (paused, true),
        }
    }

    /// All that the machines told, in order.
    pub fn log(&self) -> &[Said<T>] {
        &self.log
    }

    /// What one machine told, in order.
    pub fn events(&self, side: Side) -> impl Iterator<Item = &T> {
        self.log.iter().filter(move |said| said.side == side).map(|said| &said.what)
    }

    /// Empties the log.
    pub fn take_log(&mut self) -> Vec<Said<T>> {
        core::mem::take(&mut self.log)
    }

    /// All bytes one side has sent so far.
    pub fn sent(&self, side: Side) -> &[u8] {
        match side {
            Side::A => &self.a.sent,
            Side::B => &self.b.sent,
        }
    }

    /// The memory that waits on one side beside its machine: carry and outbox, in bytes.
    pub fn buffered(&self, side: Side) -> usize {
        let (carry, outbox) = match side {
            Side::A => (&self.a.carry, &self.a.outbox),
            Side::B => (&self.b.carry, &self.b.outbox),
        };
        carry.capacity().saturating_add(outbox.held())
    }

    /// When there is something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        let now = self.clock.now().mono;
        [
            self.to_a.next_due(),
            self.to_b.next_due(),
            self.a.next_due(now, &self.to_a),
            self.b.next_due(now, &self.to_b),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(now))
    }

    /// Goes to the next instant at which something is due, and does all that is due then.
    /// Whether there was anything.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_due() else {
            return false;
        };
        self.clock.advance(at);
        let now = self.clock.now();
        self.to_a.advance(now.mono);
        self.to_b.advance(now.mono);
        let log = &mut self.log;
        self.a.turn(now, Side::A, &mut self.to_a, &mut self.to_b, log);
        self.b.turn(now, Side::B, &mut self.to_b, &mut self.to_a, log);
        true
    }

    /// Steps until nothing is due any more.
    pub fn drive(&mut self) -> Result<(), Stuck> {
        for _ in 0..self.step_limit {
            if !self.step() {
                return Ok(());
            }
            if self.a.spins || self.b.spins {
                break;
            }
        }
        Err(self.livelock())
    }

    /// Steps through all that is due within `time`, and lets the rest of it pass.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Stuck> {
        let until = self.clock.now().mono.saturating_add(time);
        for _ in 0..self.step_limit {
            if self.next_due().is_none_or(|at| at > until) {
                self.clock.advance(until);
                return Ok(());
            }
            self.step();
            if self.a.spins || self.b.spins {
                break;
            }
        }
        Err(self.livelock())
    }

    fn livelock(&self) -> Stuck {
        Stuck::Livelock { at: self.clock.now().mono, steps: self.step_limit }
    }
}

/// Events a machine may give beyond one a byte before it is taken for one that never stops.
const SPIN: usize = 100_000;
const TO_A: u64 = 2;
const TO_B: u64 = 3;

type See<M, T> = Box<dyn for<'i> FnMut(<M as StreamMachine>::Event<'i>) -> T>;

/// A machine with what a host keeps for it.
struct Half<M: StreamMachine, T> {
    machine: M,
    outbox: Outbox,
    carry: Carry,
    see: See<M, T>,
    files: Vec<(FileId, Bytes)>,
    sent: Vec<u8>,
    ended: Option<Closed<M::Error>>,
    /// The machine waits for input, and not for room or a command.
    reads: bool,
    paused: bool,
    /// The machine gave events without end.
    spins: bool,
    eof: bool,
    failed: bool,
    /// To be called without waiting for anything.
    touched: bool,
}

impl<M: StreamMachine, T> Half<M, T> {
    fn new(machine: M, see: See<M, T>) -> Self {
        Self {
            machine,
            outbox: Outbox::default(),
            carry: Carry::default(),
            see,
            files: Vec::new(),
            sent: Vec::new(),
            ended: None,
            reads: true,
            paused: false,
            spins: false,
            eof: false,
            failed: false,
            touched: true,
        }
    }

    fn command(&mut self, now: Now, command: M::Command<'_>) -> Result<(), Refused> {
        if self.ended.is_some() {
            return Err(Refused::Closed);
        }
        self.machine.handle_command(now, command, &mut self.outbox)?;
        self.touched = true;
        Ok(())
    }

    fn wants_read(&self) -> bool {
        !self.eof && (self.ended.is_some() || (self.reads && !self.paused))
    }

    fn next_due(&self, now: Instant, inbound: &Pipe) -> Option<Instant> {
        let readable = inbound.waiting() > 0 || inbound.end() == End::Fin;
        if self.touched || (readable && self.wants_read()) {
            return Some(now);
        }
        self.timeout().map(|deadline| deadline.at)
    }

    fn timeout(&self) -> Option<Deadline> {
        match self.ended {
            Some(_) => None,
            None => self.machine.poll_timeout(),
        }
    }

    fn turn(
        &mut self,
        now: Now,
        side: Side,
        inbound: &mut Pipe,
        outbound: &mut Pipe,
        log: &mut Vec<Said<T>>,
    ) {
        let mut say = |what| {
            log.push(Said { at: now.mono, side, what });
        };
        if core::mem::take(&mut self.touched) {
            self.pump(now, &mut [], &mut say);
        }
        while self.wants_read() {
            let Some((mut read, _)) = inbound.take(now.mono) else {
                break;
            };
            self.pump(now, &mut read, &mut say);
            if inbound.pauses() {
                break;
            }
        }
        match inbound.end() {
            End::Fin if inbound.waiting() == 0 && self.wants_read() => {
                self.eof = true;
                self.pump(now, &mut [], &mut say);
            }
            End::Reset { cut } if !self.failed => {
                if cut {
                    outbound.reset(now.mono);
                }
                self.fail();
            }
            _ => {}
        }
        if self.timeout().is_some_and(|deadline| deadline.at <= now.mono) {
            self.machine.handle_timeout(now, &mut self.outbox);
            self.pump(now, &mut [], &mut say);
        }
        self.write(now, outbound);
        // Room again: a machine that waits for it is asked until it has filled the link.
        while !self.reads && self.outbox.room() > 0 && self.ended.is_none() {
            let before = self.outbox.total();
            self.pump(now, &mut [], &mut say);
            if self.outbox.total() == before {
                break;
            }
            self.write(now, outbound);
        }
    }

    fn pump(&mut self, now: Now, new: &mut [u8], say: &mut impl FnMut(T)) {
        if self.ended.is_some() {
            return;
        }
        let new_len = new.len();
        let (bytes, fresh) = self.carry.append(new);
        let mut input = Input::new(bytes, fresh, self.eof);
        let mut ended = None;
        let mut events = 0_usize;
        while !self.paused {
            if events > SPIN.saturating_add(fresh).saturating_add(new_len) {
                self.spins = true;
                break;
            }
            events = events.saturating_add(1);
            match self.machine.handle_input(now, &mut input, &mut self.outbox) {
                Ok(Step::Event(event)) => {
                    say((self.see)(event));
                    continue;
                }
                Ok(Step::NeedInput(_)) if input.at_eof() => ended = Some(Closed::Stalled),
                Ok(Step::NeedInput(_)) => self.reads = true,
                Ok(Step::NeedRoom | Step::NeedCommand) => self.reads = false,
                Ok(Step::Done) => ended = Some(Closed::Done),
                Err(error) => ended = Some(Closed::Error(error)),
            }
            break;
        }
        let untaken = input.untaken();
        self.carry.keep(untaken);
        let stuck = self.reads && !self.paused && self.carry.len() > self.machine.max_unit();
        if let Some(why) = ended.or(stuck.then_some(Closed::Stalled)) {
            self.end(why);
        }
    }

    fn end(&mut self, why: Closed<M::Error>) {
        if self.ended.is_none() {
            self.ended = Some(why);
            self.carry = Carry::default();
            self.outbox.finish();
            self.touched = true;
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.outbox = Outbox::new(0);
        self.eof = true;
        self.end(Closed::Failed(Failure::Reset));
    }

    fn write(&mut self, now: Now, outbound: &mut Pipe) {
        while !self.outbox.is_empty() {
            let room = outbound.room();
            if room == 0 {
                return;
            }
            let write = match link::leading_file(&self.outbox) {
                Some(span) => match self.file(span, room) {
                    Some(bytes) => bytes,
                    None => {
                        self.fail();
                        self.ended = Some(Closed::Failed(Failure::Other));
                        outbound.reset(now.mono);
                        return;
                    }
                },
                None => link::gather(&self.outbox, room),
            };
            self.sent.extend_from_slice(&write);
            self.outbox.advance(write.len());
            outbound.put(now.mono, write);
        }
        if self.outbox.is_finished() && !outbound.is_shut() {
            outbound.finish(now.mono);
        }
    }

    fn file(&self, span: FileSpan, most: usize) -> Option<Bytes> {
        let (_, content) = self.files.iter().find(|(id, _)| *id == span.file)?;
        let from = usize::try_from(span.offset).ok()?;
        let len = usize::try_from(span.len).ok()?.min(most);
        let to = from.checked_add(len).filter(|&to| to <= content.len())?;
        Some(content.slice(from..to))
    }
}
