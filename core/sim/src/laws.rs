//! The laws of [`StreamMachine`], checked on any machine.
//!
//! A [`Subject`] knows how to make the machine and how to turn its events into values that can be
//! kept and compared. [`Subject::check`] then runs it over wire bytes in every way a host may:
//!
//! | method | law |
//! |---|---|
//! | [`split`](Subject::split) | however the input is cut, and wherever it ends: the same events, output, verdict and state |
//! | [`coalescing`](Subject::coalescing) | however the outbox drains: the same again, `NeedRoom` honoured, no deadlock |
//! | [`drip`](Subject::drip) | one byte at a time: `NeedInput` asks for no more than it needs, calls, copies and [`work`](Subject::with_work) stay linear |
//! | [`timers`](Subject::timers) | too early does nothing; after a timeout the next deadline is later |
//! | [`refusals`](Subject::refusals) | a refused command changes nothing |
//! | [`through_shard`](Subject::through_shard) | a [`Shard`] makes the same of it as the contract's text |
//! | [`idle`](Subject::idle) | between two units, with everything sent, no memory is held |
//!
//! Every run also checks that errors are sticky, that `NeedInput` is never said at the end of input,
//! and that `NeedRoom` comes before anything is taken.
//!
//! The wire bytes decide what is seen: they must hold units below, at and above every limit. Lengths
//! for that are in [`straddle`].
//!
//! ```
//! # use semfio_machine::*;
//! # struct Shout;
//! # impl StreamMachine for Shout {
//! #     type Event<'i> = &'i [u8];
//! #     type Command<'c> = ();
//! #     type Error = core::convert::Infallible;
//! #     const CARRIES_FILES: bool = false;
//! #     fn max_unit(&self) -> usize { 1024 }
//! #     fn state(&self) -> &'static str { "Open" }
//! #     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, out: &mut Outbox)
//! #         -> Result<Step<&'i [u8]>, Self::Error> {
//! #         let Some(end) = input.peek().iter().position(|&byte| byte == b'\n') else {
//! #             return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
//! #         };
//! #         if out.room() == 0 { return Ok(Step::NeedRoom); }
//! #         let line = input.take(end + 1);
//! #         out.put(line);
//! #         Ok(Step::Event(line))
//! #     }
//! #     fn handle_command(&mut self, _: Now, _: (), _: &mut Outbox) -> Result<(), Refused> { Ok(()) }
//! #     fn poll_timeout(&self) -> Option<Deadline> { None }
//! #     fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
//! # }
//! use semfio_sim::laws::Subject;
//!
//! let subject = Subject::new(|| Shout, |line: &[u8]| line.to_vec());
//! subject.check(b"one\ntwo\n\nthree\nfo")?;
//! subject.idle(&[b"one\n", b"two\n"])?;
//! # Ok::<(), semfio_sim::laws::Violation>(())
//! ```

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::fmt::Debug;
use core::mem;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use semfio_machine::{
    Carry, Chunk, Closed, ConnId, Deadline, FileSpan, Input, Instant, Net, NetLimits, Now, Outbox,
    Peer, Refused, Seed, Service, Shard, Step, StreamMachine, UnixTime,
};

use crate::dice::Dice;

/// Wires up to this length are cut, and ended, at every offset; longer ones at this many, those
/// next to an event among them.
pub const EXHAUSTIVE: usize = 512;

/// Events in a row without a byte taken or put that count as endless.
const ENDLESS: usize = 65_536;

/// Lengths on both sides of a limit, and far from it.
pub fn straddle(limit: usize) -> [usize; 7] {
    [
        0,
        1,
        limit.saturating_sub(1),
        limit,
        limit.saturating_add(1),
        limit.saturating_mul(2),
        limit.saturating_mul(3).saturating_add(7),
    ]
}

/// A machine under test: `M`, its events as values `E`, its commands as values `C`.
pub struct Subject<'s, M: StreamMachine, E, C = Infallible> {
    new: Box<dyn Fn() -> M + 's>,
    event: EventOf<'s, M, E>,
    command: Option<CommandOf<'s, M, C>>,
    merge: Merge<'s, E>,
    work: Option<Probe<'s, M, u64>>,
    memory: Option<Probe<'s, M, usize>>,
    /// Of a layer: how the peer reads what was sent.
    opened: Option<Opener<'s>>,
    script: Vec<(usize, Act<C>)>,
}

type Merge<'s, E> = Box<dyn Fn(&mut E, &E) -> bool + 's>;
type Opener<'s> = Box<dyn Fn(&[u8]) -> Vec<u8> + 's>;
type Probe<'s, M, T> = Box<dyn Fn(&M) -> T + 's>;
type EventOf<'s, M, E> = Box<dyn for<'i> Fn(<M as StreamMachine>::Event<'i>) -> E + 's>;
type CommandOf<'s, M, C> = Box<dyn for<'c> Fn(&'c C) -> <M as StreamMachine>::Command<'c> + 's>;

/// What the application, or time, does to the machine in the course of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act<C> {
    /// It is commanded.
    Command(C),
    /// Its deadline passes, if it has one.
    Timeout,
}

/// How a run feeds and drains the machine. Its `Debug` is what to repeat a failure with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many of the wire bytes are fed.
    pub len: usize,
    /// Where reads after the first begin.
    pub cuts: Cuts,
    /// Whether the peer finishes then.
    pub end: End,
    /// The mark of the outbox.
    pub mark: usize,
    /// How the outbox drains.
    pub drain: Drain,
}

/// Where reads after the first begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// There is one read.
    Whole,
    /// Each byte is a read.
    EveryByte,
    /// At these offsets, ascending.
    At(Vec<usize>),
}

/// How the input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer says no more but does not finish.
    Open,
    /// The end is seen together with the last bytes.
    Together,
    /// The end is seen in a call of its own.
    Apart,
}

/// How the outbox drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// All of it after each step.
    All,
    /// So many bytes after each step.
    Bytes(usize),
    /// Byte by byte, and only if the machine needs room.
    Asked,
}

/// A law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// In which run.
    pub plan: Box<Plan>,
    /// Bytes fed until then.
    pub offset: usize,
}

/// Which law, and how it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Law {
    /// The same bytes, cut or ended otherwise, gave something else than in one piece.
    Split(Difference),
    /// The same bytes, drained otherwise, gave something else.
    Coalescing(Difference),
    /// A refused command changed what came after it.
    Refusal(Difference),
    /// A [`Shard`] made something else of the same bytes.
    Shard(Difference),
    /// `NeedInput` at the end of input.
    NeedInputAtEof,
    /// `NeedInput(0)`, or a call with the same bytes got further: nothing was needed.
    NeedlessInput,
    /// `NeedInput(asked)`, but `sufficed` bytes were enough to get further.
    Overasked {
        /// Bytes asked for.
        asked: usize,
        /// Bytes that came before it got further.
        sufficed: usize,
    },
    /// It waits for more bytes than `max_unit` says it may ask to see.
    BeyondUnit {
        /// Bytes seen and asked for.
        wanted: usize,
    },
    /// `NeedRoom` after bytes were taken or put.
    TookBeforeRoom,
    /// `NeedRoom` while the outbox is empty: nobody will call again.
    Deadlock,
    /// A step put bytes although there was no room.
    PutWithoutRoom,
    /// Events without end.
    Endless,
    /// More calls than bytes and events justify.
    Calls {
        /// How many.
        calls: u64,
        /// How many were justified.
        most: u64,
    },
    /// Waiting bytes were moved too often.
    Copies {
        /// Bytes moved.
        copied: u64,
        /// How many were justified.
        most: u64,
    },
    /// Bytes were looked at too often.
    Work {
        /// What the probe says.
        work: u64,
        /// How much was justified.
        most: u64,
    },
    /// A call after an error gave no error, another one, took or put something.
    NotSticky,
    /// A refused command changed the state, the deadline or the outbox.
    RefusedChanged,
    /// `handle_timeout` before the deadline did something.
    EarlyTimeout,
    /// After `handle_timeout` the next deadline is not later.
    TimerInPast,
    /// Between two units, with everything sent, memory was held.
    NotIdle {
        /// Bytes held by carry and outbox.
        buffered: usize,
        /// Bytes held by the machine, as the probe says.
        machine: usize,
    },
}

/// In what two runs differ; values are shown by their `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The event at this place, or its absence.
    Event(usize, String, String),
    /// The piece of output at this place.
    Output(usize, String, String),
    /// How it ended.
    Verdict(String, String),
    /// The state it ended in.
    State(String, String),
    /// What its commands were answered.
    Answers(String, String),
    /// Bytes taken before it was done.
    Taken(usize, usize),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {} bytes of {:?}", self.law, self.offset, self.plan)
    }
}

impl core::error::Error for Violation {}

impl<'s, M: StreamMachine, E: Clone + PartialEq + Debug> Subject<'s, M, E> {
    /// The machine that `new` makes; `event` turns its events into values.
    pub fn new(new: impl Fn() -> M + 's, event: impl for<'i> Fn(M::Event<'i>) -> E + 's) -> Self {
        Self {
            new: Box::new(new),
            event: Box::new(event),
            command: None,
            merge: Box::new(|_, _| false),
            work: None,
            memory: None,
            opened: None,
            script: Vec::new(),
        }
    }

    /// Whether the second event is only more of the first, which then takes it in: payload that
    /// comes as pieces is one event, however it was cut.
    pub fn with_merge(mut self, merge: impl Fn(&mut E, &E) -> bool + 's) -> Self {
        self.merge = Box::new(merge);
        self
    }

    /// How many bytes the machine has looked at so far, each look counted: without it, rescans are not seen.
    pub fn with_work(mut self, work: impl Fn(&M) -> u64 + 's) -> Self {
        self.work = Some(Box::new(work));
        self
    }

    /// How much memory the machine itself holds for its input and output, in bytes.
    pub fn with_memory(mut self, memory: impl Fn(&M) -> usize + 's) -> Self {
        self.memory = Some(Box::new(memory));
        self
    }

    /// The machine is a layer. `open` turns what it sent into what its peer reads, and that is
    /// compared: where its records end may depend on how the outbox drains. It may also cut
    /// input and seal output before it answers `NeedRoom`.
    pub fn as_layer(mut self, open: impl Fn(&[u8]) -> Vec<u8> + 's) -> Self {
        self.opened = Some(Box::new(open));
        self
    }

    /// In each run, the acts of `script` are done as soon as there have been so many events
    /// (merged ones count once); `command` turns values into commands.
    pub fn with_script<C: Clone>(
        self,
        command: impl for<'c> Fn(&'c C) -> M::Command<'c> + 's,
        script: Vec<(usize, Act<C>)>,
    ) -> Subject<'s, M, E, C> {
        Subject {
            new: self.new,
            event: self.event,
            command: Some(Box::new(command)),
            merge: self.merge,
            work: self.work,
            memory: self.memory,
            opened: self.opened,
            script,
        }
    }
}

impl<M: StreamMachine, E: Clone + PartialEq + Debug, C: Clone> Subject<'_, M, E, C> {
    /// All laws that need no more than wire bytes.
    pub fn check(&self, wire: &[u8]) -> Result<(), Violation> {
        self.split(wire)?;
        self.coalescing(wire)?;
        self.drip(wire)?;
        self.timers(wire)?;
        self.through_shard(wire)
    }

    /// However the input is cut, wherever it ends and whatever follows it, the outcome is that
    /// of the whole.
    pub fn split(&self, wire: &[u8]) -> Result<(), Violation> {
        let whole = self.run(wire, Plan::whole(wire))?;
        let offsets = offsets(wire.len(), &whole.borders);
        let same = |cuts: Cuts, len: usize, end: End, expected: &Outcome<M, E>| {
            let plan = Plan { len, cuts, end, ..Plan::whole(wire) };
            let found = self.run(wire, plan.clone())?;
            expected.same(&found, wire.len(), plan, Law::Split)
        };
        same(Cuts::EveryByte, wire.len(), End::Open, &whole)?;
        for &cut in &offsets {
            same(Cuts::At(vec![cut]), wire.len(), End::Open, &whole)?;
        }
        let mut dice = Dice::new(&Seed::from_u64(wire.len() as u64), CUTS);
        for _ in 0..64 {
            let pieces = dice.below_usize(8).saturating_add(2);
            let cuts: BTreeSet<_> = (0..pieces).map(|_| dice.below_usize(wire.len())).collect();
            same(Cuts::At(cuts.into_iter().collect()), wire.len(), End::Open, &whole)?;
        }
        for len in offsets.into_iter().chain([0, wire.len()]) {
            let plan = Plan { len, end: End::Together, ..Plan::whole(wire) };
            let ended = self.run(wire, plan)?;
            same(Cuts::Whole, len, End::Apart, &ended)?;
            same(Cuts::EveryByte, len, End::Together, &ended)?;
            same(Cuts::EveryByte, len, End::Apart, &ended)?;
        }
        self.trailing(wire)
    }

    fn trailing(&self, wire: &[u8]) -> Result<(), Violation> {
        for trail in [&[0][..], b"\n", &[0xff; 3], wire] {
            let long = [wire, trail].concat();
            let joined = self.run(&long, Plan::whole(&long))?;
            for cuts in [Cuts::At(vec![wire.len()]), Cuts::EveryByte] {
                let plan = Plan { cuts, ..Plan::whole(&long) };
                let found = self.run(&long, plan.clone())?;
                joined.same(&found, long.len(), plan, Law::Split)?;
            }
        }
        Ok(())
    }

    /// However the outbox drains, down to a mark of one byte, the outcome is the same.
    pub fn coalescing(&self, wire: &[u8]) -> Result<(), Violation> {
        for end in [End::Open, End::Together] {
            let whole = Plan { end, ..Plan::whole(wire) };
            let expected = self.run(wire, whole.clone())?;
            for mark in [1, 33, 64, 1000, Outbox::MARK] {
                for drain in [Drain::All, Drain::Bytes(1), Drain::Bytes(7), Drain::Asked] {
                    for cuts in [Cuts::Whole, Cuts::EveryByte] {
                        let plan = Plan { cuts, mark, drain, ..whole.clone() };
                        let found = self.run(wire, plan.clone())?;
                        expected.same(&found, wire.len(), plan, Law::Coalescing)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One byte at a time, nothing grows faster than the input. Most telling with one unit of the largest size.
    pub fn drip(&self, wire: &[u8]) -> Result<(), Violation> {
        let plan = Plan { cuts: Cuts::EveryByte, ..Plan::whole(wire) };
        let mut run = Run::new(self, plan);
        run.again = false;
        let found = run.all(wire)?;
        let bytes = wire.len() as u64;
        let seen = bytes.saturating_add(found.events.len() as u64);
        let most = seen.saturating_mul(4).saturating_add(64);
        if run.calls > most {
            let calls = run.calls;
            return Err(run.violation(Law::Calls { calls, most }));
        }
        if run.copied > most {
            let copied = run.copied;
            return Err(run.violation(Law::Copies { copied, most }));
        }
        let work = self.work.as_ref().map_or(0, |work| work(&run.machine));
        let most = seen.saturating_add(run.calls).saturating_mul(8).saturating_add(256);
        if work > most {
            return Err(run.violation(Law::Work { work, most }));
        }
        Ok(())
    }

    /// Wherever the input pauses, deadlines move forward.
    pub fn timers(&self, wire: &[u8]) -> Result<(), Violation> {
        for len in offsets(wire.len(), &[]).into_iter().chain([0, wire.len()]) {
            for late in [Duration::ZERO, Duration::from_secs(3600)] {
                let plan = Plan { len, ..Plan::whole(wire) };
                let mut run = Run::new(self, plan);
                run.all(wire)?;
                run.early()?;
                for _ in 0..16 {
                    if run.verdict.is_final() || !run.timeout(late)? {
                        break;
                    }
                    run.feed(&[], false)?;
                }
            }
        }
        Ok(())
    }

    /// Each of `commands`, given after any number of events and refused, changes nothing.
    pub fn refusals(&self, wire: &[u8], commands: &[C]) -> Result<(), Violation> {
        let plan = Plan::whole(wire);
        let expected = self.run(wire, plan.clone())?;
        for after in 0..=expected.events.len() {
            for command in commands {
                let mut run = Run::new(self, plan.clone());
                run.extra = Some((after, command));
                let found = run.all(wire)?;
                if run.extra_refused {
                    expected.same(&found, wire.len(), plan.clone(), Law::Refusal)?;
                }
            }
        }
        Ok(())
    }

    /// A [`Shard`] that reads the bytes whole or one by one makes of them what the other runs do.
    /// Acts that are timeouts are left out of this one.
    pub fn through_shard(&self, wire: &[u8]) -> Result<(), Violation> {
        for end in [End::Open, End::Apart] {
            for cuts in [Cuts::Whole, Cuts::EveryByte] {
                let plan = Plan { cuts, end, ..Plan::whole(wire) };
                let mut run = Run::new(self, plan.clone());
                run.acts.retain(|(_, act)| matches!(act, Act::Command(_)));
                let expected = run.all(wire)?;
                let mut host = Host::new(self);
                for piece in pieces(wire, &plan) {
                    host.receive(piece);
                }
                if end == End::Apart {
                    host.finish();
                }
                expected.same(&host.outcome(&expected), wire.len(), plan, Law::Shard)?;
            }
        }
        Ok(())
    }

    /// After each of `units`, and once everything is sent, carry, outbox and machine hold no memory.
    pub fn idle(&self, units: &[&[u8]]) -> Result<(), Violation> {
        for single in [false, true] {
            let mut host = Host::new(self);
            let mut offset: usize = 0;
            for unit in units {
                for piece in unit.chunks(if single { 1 } else { unit.len().max(1) }) {
                    host.receive(piece);
                }
                offset = offset.saturating_add(unit.len());
                let buffered = host.shard.buffered(host.id);
                let machine = host.shard.machine(host.id);
                let machine = match (&self.memory, machine) {
                    (Some(memory), Some(machine)) => memory(machine),
                    _ => 0,
                };
                if buffered > 0 || machine > 0 {
                    let cuts = if single { Cuts::EveryByte } else { Cuts::Whole };
                    let plan = Plan { len: offset, cuts, ..Plan::whole(&[]) };
                    return Err(Violation {
                        law: Law::NotIdle { buffered, machine },
                        plan: Box::new(plan),
                        offset,
                    });
                }
            }
        }
        Ok(())
    }

    fn run(&self, wire: &[u8], plan: Plan) -> Result<Outcome<M, E>, Violation> {
        Run::new(self, plan).all(wire)
    }

    /// What the peer makes of the output.
    fn read(&self, mut output: Vec<Sent>) -> Vec<Sent> {
        if let Some(open) = &self.opened {
            for sent in &mut output {
                if let Sent::Bytes(bytes) = sent {
                    *bytes = open(bytes);
                }
            }
        }
        output
    }

    fn tell(&self, event: M::Event<'_>, events: &mut Vec<E>) {
        let event = (self.event)(event);
        let merged = events.last_mut().is_some_and(|last| (self.merge)(last, &event));
        if !merged {
            events.push(event);
        }
    }
}

impl Plan {
    fn whole(wire: &[u8]) -> Self {
        Self {
            len: wire.len(),
            cuts: Cuts::Whole,
            end: End::Open,
            mark: Outbox::MARK,
            drain: Drain::All,
        }
    }
}

/// The label of the cuts' random numbers.
const CUTS: u64 = 0x6c61_7773;

/// Where to cut: everywhere, or around the events and evenly between.
fn offsets(len: usize, borders: &[usize]) -> Vec<usize> {
    if len <= EXHAUSTIVE {
        return (1..len).collect();
    }
    let step = len.checked_div(EXHAUSTIVE / 2).unwrap_or(1).max(1);
    let even = (1..len).step_by(step);
    let near = borders
        .iter()
        .take(EXHAUSTIVE / 8)
        .flat_map(|&border| border.saturating_sub(2)..border.saturating_add(3));
    let all: BTreeSet<usize> = even.chain(near).filter(|&at| at > 0 && at < len).collect();
    all.into_iter().collect()
}

fn pieces<'w>(wire: &'w [u8], plan: &Plan) -> Vec<&'w [u8]> {
    let wire = wire.get(..plan.len).unwrap_or(wire);
    let cuts = match &plan.cuts {
        Cuts::EveryByte => return wire.chunks(1).collect(),
        Cuts::Whole => &[][..],
        Cuts::At(cuts) => cuts,
    };
    let ends = cuts.iter().copied().filter(|&cut| cut < wire.len()).chain([wire.len()]);
    let mut from = 0;
    ends.filter_map(|to| wire.get(mem::replace(&mut from, to)..to))
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
enum Verdict<Error> {
    Input,
    Room,
    Command,
    Done,
    Error(Error),
}

impl<Error> Verdict<Error> {
    fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Error(_))
    }
}

/// Output, with neighbours joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Bytes(Vec<u8>),
    File(FileSpan),
    Finish,
}

/// All that a run gave.
struct Outcome<M: StreamMachine, E> {
    events: Vec<E>,
    /// Bytes fed when each event came.
    borders: Vec<usize>,
    output: Vec<Sent>,
    verdict: Verdict<M::Error>,
    state: &'static str,
    answers: Vec<Result<(), Refused>>,
    taken: usize,
}

impl<M: StreamMachine, E: PartialEq + Debug> Outcome<M, E> {
    fn same(
        &self,
        found: &Self,
        offset: usize,
        plan: Plan,
        law: impl Fn(Difference) -> Law,
    ) -> Result<(), Violation> {
        match self.difference(found) {
            None => Ok(()),
            Some(difference) => {
                Err(Violation { law: law(difference), plan: Box::new(plan), offset })
            }
        }
    }

    fn difference(&self, found: &Self) -> Option<Difference> {
        if let Some((at, a, b)) = first_difference(&self.events, &found.events) {
            return Some(Difference::Event(at, a, b));
        }
        if let Some((at, a, b)) = first_difference(&self.output, &found.output) {
            return Some(Difference::Output(at, a, b));
        }
        if self.verdict != found.verdict {
            return Some(Difference::Verdict(
                format!("{:?}", self.verdict),
                format!("{:?}", found.verdict),
            ));
        }
        if self.state != found.state {
            return Some(Difference::State(self.state.into(), found.state.into()));
        }
        if self.answers != found.answers {
            return Some(Difference::Answers(
                format!("{:?}", self.answers),
                format!("{:?}", found.answers),
            ));
        }
        if self.verdict == Verdict::Done && self.taken != found.taken {
            return Some(Difference::Taken(self.taken, found.taken));
        }
        None
    }
}

fn first_difference<T: PartialEq + Debug>(a: &[T], b: &[T]) -> Option<(usize, String, String)> {
    let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at))?;
    let show =
        |side: &[T]| side.get(at).map_or_else(|| "nothing".into(), |value| format!("{value:?}"));
    Some((at, show(a), show(b)))
}

/// One machine, fed by the text of the contract alone.
struct Run<'r, 's, M: StreamMachine, E, C> {
    subject: &'r Subject<'s, M, E, C>,
    plan: Plan,
    machine: M,
    out: Outbox,
    carry: Carry,
    now: Now,
    acts: Vec<(usize, Act<C>)>,
    extra: Option<(usize, &'r C)>,
    extra_refused: bool,
    events: Vec<E>,
    borders: Vec<usize>,
    output: Vec<Sent>,
    answers: Vec<Result<(), Refused>>,
    verdict: Verdict<M::Error>,
    /// What `NeedInput` still asks for, and what has come since.
    asked: Option<(usize, usize)>,
    /// Whether each `NeedInput` is doubted by a second call.
    again: bool,
    fed: usize,
    taken: usize,
    calls: u64,
    copied: u64,
    /// Where in memory the carry begins.
    waits_at: usize,
}

impl<'r, 's, M, E, C> Run<'r, 's, M, E, C>
where
    M: StreamMachine,
    E: Clone + PartialEq + Debug,
    C: Clone,
{
    fn new(subject: &'r Subject<'s, M, E, C>, plan: Plan) -> Self {
        Self {
            machine: (subject.new)(),
            out: Outbox::new(plan.mark),
            carry: Carry::default(),
            now: start(),
            acts: subject.script.clone(),
            extra: None,
            extra_refused: false,
            events: Vec::new(),
            borders: Vec::new(),
            output: Vec::new(),
            answers: Vec::new(),
            verdict: Verdict::Input,
            asked: None,
            again: true,
            fed: 0,
            taken: 0,
            calls: 0,
            copied: 0,
            waits_at: 0,
            subject,
            plan,
        }
    }

    /// Feeds everything, as planned, and drains what is left.
    fn all(&mut self, wire: &[u8]) -> Result<Outcome<M, E>, Violation> {
        self.feed(&[], false)?;
        let pieces = pieces(wire, &self.plan);
        let last = pieces.len();
        for (nth, piece) in pieces.into_iter().enumerate() {
            let together = self.plan.end == End::Together && nth.saturating_add(1) == last;
            self.feed(piece, together)?;
        }
        let ended = self.plan.end != End::Open;
        if ended {
            self.feed(&[], true)?;
        }
        while !self.out.is_empty() {
            self.drain(usize::MAX);
            self.feed(&[], ended)?;
        }
        if self.out.is_finished() {
            // All of it is sent, however early: the machine is called again.
            if !self.verdict.is_final() {
                self.feed(&[], ended)?;
            }
            self.output.push(Sent::Finish);
        }
        Ok(Outcome {
            events: self.events.clone(),
            borders: self.borders.clone(),
            output: self.subject.read(self.output.clone()),
            verdict: self.verdict.clone(),
            state: self.machine.state(),
            answers: self.answers.clone(),
            // A layer opens ahead of what the inner machine needs.
            taken: if self.subject.opened.is_some() { 0 } else { self.taken },
        })
    }

    fn feed(&mut self, new: &[u8], eof: bool) -> Result<(), Violation> {
        if self.verdict.is_final() {
            return Ok(());
        }
        self.fed = self.fed.saturating_add(new.len());
        if let Some((_, came)) = &mut self.asked {
            *came = came.saturating_add(new.len());
        }
        let mut scratch = new.to_vec();
        let mut carry = mem::take(&mut self.carry);
        let in_place = carry.is_empty();
        let waited = carry.len();
        let (bytes, fresh) = if in_place {
            (scratch.as_mut_slice(), 0)
        } else {
            let (bytes, fresh) = carry.append(new);
            // The address tells whether the carry had to move what waited.
            if bytes.as_ptr().addr() != self.waits_at {
                self.copied = self.copied.saturating_add(waited as u64);
            }
            (bytes, fresh)
        };
        let (len, address) = (bytes.len(), bytes.as_ptr().addr());
        let mut input = Input::new(bytes, fresh, eof);
        let result = self.steps(&mut input);
        self.taken = self.taken.saturating_add(len.saturating_sub(input.len()));
        let untaken = input.untaken();
        if in_place {
            let tail = scratch.get(untaken).unwrap_or_default();
            if !tail.is_empty() {
                self.waits_at = carry.append(tail).0.as_ptr().addr();
            }
        } else {
            self.waits_at = address.saturating_add(untaken.start);
            carry.keep(untaken);
        }
        self.copied = self.copied.saturating_add(new.len() as u64);
        self.carry = carry;
        result
    }

    fn steps(&mut self, input: &mut Input<'_>) -> Result<(), Violation> {
        let mut futile: usize = 0;
        loop {
            self.act()?;
            let before = (input.len(), self.out.total());
            let had_room = self.out.room() > 0;
            self.calls = self.calls.saturating_add(1);
            let step = self.machine.handle_input(self.now, input, &mut self.out);
            let moved = before != (input.len(), self.out.total());
            let put = before.1 != self.out.total();
            let waits = matches!(step, Ok(Step::NeedInput(_) | Step::NeedRoom | Step::NeedCommand));
            if moved || !waits {
                self.progress(input.at_eof())?;
            }
            if put && !had_room && matches!(step, Ok(Step::Event(_) | Step::NeedInput(_))) {
                return Err(self.violation(Law::PutWithoutRoom));
            }
            match step {
                Ok(Step::Event(event)) => {
                    self.subject.tell(event, &mut self.events);
                    if self.borders.len() < self.events.len() {
                        let here = self.fed.saturating_sub(input.len());
                        self.borders.push(here);
                    }
                    futile = if moved { 0 } else { futile.saturating_add(1) };
                    if futile > ENDLESS {
                        return Err(self.violation(Law::Endless));
                    }
                    match self.plan.drain {
                        Drain::All => self.drain(usize::MAX),
                        Drain::Bytes(n) => self.drain(n),
                        Drain::Asked => {}
                    }
                    continue;
                }
                Ok(Step::NeedInput(n)) => self.need_input(n, input)?,
                Ok(Step::NeedRoom) => {
                    self.verdict = Verdict::Room;
                    if moved && self.subject.opened.is_none() {
                        return Err(self.violation(Law::TookBeforeRoom));
                    }
                    if self.out.is_empty() {
                        return Err(self.violation(Law::Deadlock));
                    }
                    match self.plan.drain {
                        Drain::All => self.drain(usize::MAX),
                        Drain::Bytes(n) => self.drain(n),
                        Drain::Asked => self.drain(1),
                    }
                    while self.out.room() == 0 && !self.out.is_empty() {
                        self.drain(1);
                    }
                    continue;
                }
                Ok(Step::NeedCommand) => self.verdict = Verdict::Command,
                Ok(Step::Done) => self.verdict = Verdict::Done,
                Err(error) => {
                    self.verdict = Verdict::Error(error.clone());
                    self.sticky(&error, input)?;
                }
            }
            match self.plan.drain {
                Drain::All => self.drain(usize::MAX),
                Drain::Bytes(n) => self.drain(n),
                Drain::Asked => {}
            }
            return Ok(());
        }
    }

    fn need_input(&mut self, n: usize, input: &mut Input<'_>) -> Result<(), Violation> {
        self.verdict = Verdict::Input;
        if input.at_eof() {
            return Err(self.violation(Law::NeedInputAtEof));
        }
        if n == 0 {
            return Err(self.violation(Law::NeedlessInput));
        }
        let wanted = input.len().saturating_add(n);
        if wanted > self.machine.max_unit() {
            return Err(self.violation(Law::BeyondUnit { wanted }));
        }
        // What was asked for stays asked for, minus what came.
        if self.asked.is_none_or(|(asked, came)| came >= asked) {
            self.asked = Some((n, 0));
        }
        if self.again {
            let before = (input.len(), self.out.total(), self.machine.state());
            let step = self.machine.handle_input(self.now, input, &mut self.out);
            let after = (input.len(), self.out.total(), self.machine.state());
            if !matches!(step, Ok(Step::NeedInput(_))) || before != after {
                return Err(self.violation(Law::NeedlessInput));
            }
        }
        Ok(())
    }

    /// The machine got further; what it asked for must have come.
    fn progress(&mut self, eof: bool) -> Result<(), Violation> {
        match self.asked.take() {
            Some((asked, sufficed)) if sufficed < asked && !eof => {
                Err(self.violation(Law::Overasked { asked, sufficed }))
            }
            _ => Ok(()),
        }
    }

    fn sticky(&mut self, error: &M::Error, input: &mut Input<'_>) -> Result<(), Violation> {
        let total = self.out.total();
        let mut rest = input.peek().to_vec();
        for (more, eof) in [(&b""[..], false), (b"\n\0x", false), (b"", true)] {
            rest.extend_from_slice(more);
            let mut bytes = rest.clone();
            let mut again = Input::new(&mut bytes, 0, eof);
            let step = self.machine.handle_input(self.now, &mut again, &mut self.out);
            let same = matches!(&step, Err(found) if found == error);
            if !same || again.len() != rest.len() || self.out.total() != total {
                return Err(self.violation(Law::NotSticky));
            }
        }
        Ok(())
    }

    /// Does what the script says for this number of events.
    fn act(&mut self) -> Result<(), Violation> {
        let count = self.events.len();
        if let Some((after, command)) = self.extra {
            if after == count {
                self.extra = None;
                self.extra_refused = self.command(command)?.is_err();
            }
        }
        while self.acts.first().is_some_and(|&(after, _)| after <= count) {
            match self.acts.remove(0).1 {
                Act::Command(command) => {
                    let answer = self.command(&command)?;
                    self.answers.push(answer);
                }
                Act::Timeout => {
                    self.timeout(Duration::ZERO)?;
                }
            }
            self.asked = None;
        }
        Ok(())
    }

    fn command(&mut self, command: &C) -> Result<Result<(), Refused>, Violation> {
        let Some(make) = &self.subject.command else {
            return Ok(Ok(()));
        };
        let before = self.visible();
        let answer = self.machine.handle_command(self.now, make(command), &mut self.out);
        if answer.is_err() && before != self.visible() {
            return Err(self.violation(Law::RefusedChanged));
        }
        Ok(answer)
    }

    fn early(&mut self) -> Result<(), Violation> {
        let Some(deadline) = self.machine.poll_timeout() else {
            return Ok(());
        };
        let early = Instant::from_nanos(deadline.at.as_nanos().saturating_sub(1));
        if early >= self.now.mono {
            self.now.mono = early;
            let before = self.visible();
            self.machine.handle_timeout(self.now, &mut self.out);
            if before != self.visible() {
                return Err(self.violation(Law::EarlyTimeout));
            }
        }
        Ok(())
    }

    /// Lets the deadline pass, if there is one.
    fn timeout(&mut self, late: Duration) -> Result<bool, Violation> {
        let Some(deadline) = self.machine.poll_timeout() else {
            return Ok(false);
        };
        self.now.mono = self.now.mono.max(deadline.at.saturating_add(late));
        self.machine.handle_timeout(self.now, &mut self.out);
        self.asked = None;
        match self.machine.poll_timeout() {
            Some(next) if next.at <= self.now.mono => Err(self.violation(Law::TimerInPast)),
            _ => Ok(true),
        }
    }

    fn visible(&self) -> Visible {
        (
            self.machine.state(),
            self.machine.poll_timeout(),
            self.out.total(),
            self.out.is_finished(),
        )
    }

    fn drain(&mut self, most: usize) {
        drain(&mut self.out, most, &mut self.output);
    }

    fn violation(&self, law: Law) -> Violation {
        Violation { law, plan: Box::new(self.plan.clone()), offset: self.fed }
    }
}

/// What a call that does nothing leaves as it was: state, deadline, bytes put, finished.
type Visible = (&'static str, Option<Deadline>, u64, bool);

/// Moves up to `most` bytes from the outbox to what was sent.
fn drain(out: &mut Outbox, most: usize, sent: &mut Vec<Sent>) {
    let mut left = most;
    while left > 0 && !out.is_empty() {
        let before = left;
        for chunk in out.chunks() {
            left = left.saturating_sub(note(&chunk, left, sent));
        }
        out.advance(before.saturating_sub(left));
    }
}

fn note(chunk: &Chunk<'_>, most: usize, sent: &mut Vec<Sent>) -> usize {
    match chunk {
        Chunk::Bytes(bytes) => {
            let part = bytes.get(..most).unwrap_or(bytes);
            match sent.last_mut() {
                _ if part.is_empty() => {}
                Some(Sent::Bytes(last)) => last.extend_from_slice(part),
                _ => sent.push(Sent::Bytes(part.to_vec())),
            }
            part.len()
        }
        Chunk::File(span) => {
            let len = span.len.min(most as u64);
            match sent.last_mut() {
                _ if len == 0 => {}
                Some(Sent::File(last))
                    if last.file == span.file
                        && last.offset.saturating_add(last.len) == span.offset =>
                {
                    last.len = last.len.saturating_add(len);
                }
                _ => sent.push(Sent::File(FileSpan { len, ..*span })),
            }
            usize::try_from(len).unwrap_or(usize::MAX)
        }
    }
}

fn start() -> Now {
    Now { mono: Instant::from_nanos(1_000_000_000), unix: UnixTime::from_secs(1_700_000_000) }
}

/// One machine beneath a [`Shard`].
struct Host<'r, 's, M, E, C>
where
    M: StreamMachine,
    E: Clone + PartialEq + Debug,
    C: Clone,
{
    shard: Shard<M, Listener<'r, 's, M, E, C>>,
    id: ConnId,
    output: Vec<Sent>,
    /// Bytes the shard did not want yet.
    unread: Vec<u8>,
    eof: bool,
}

/// Writes down what a machine tells, and follows the script.
struct Listener<'r, 's, M: StreamMachine, E, C> {
    subject: &'r Subject<'s, M, E, C>,
    acts: Vec<(usize, C)>,
    events: Vec<E>,
    answers: Vec<Result<(), Refused>>,
    closed: Option<Closed<M::Error>>,
}

impl<'r, 's, M, E, C> Host<'r, 's, M, E, C>
where
    M: StreamMachine,
    E: Clone + PartialEq + Debug,
    C: Clone,
{
    fn new(subject: &'r Subject<'s, M, E, C>) -> Self {
        let acts = subject.script.iter().filter_map(|(after, act)| match act {
            Act::Command(command) => Some((*after, command.clone())),
            Act::Timeout => None,
        });
        let listener = Listener {
            subject,
            acts: acts.collect(),
            events: Vec::new(),
            answers: Vec::new(),
            closed: None,
        };
        let mut shard = Shard::new(listener, NetLimits::default());
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        let peer = Peer { address, local: address };
        let none = ConnId { index: 0, generation: 0 };
        let id = shard.handle_accepted(start(), peer).unwrap_or(none);
        let mut host = Self { shard, id, output: Vec::new(), unread: Vec::new(), eof: false };
        host.settle();
        host
    }

    fn receive(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
        self.settle();
    }

    fn finish(&mut self) {
        self.eof = true;
        self.settle();
    }

    /// Reads and writes until there is nothing to do.
    fn settle(&mut self) {
        loop {
            while self.shard.poll_action().is_some() {}
            let mut sent = Vec::new();
            let mut n = 0;
            if let Some(out) = self.shard.outbox(self.id) {
                for chunk in out.chunks() {
                    n = note(&chunk, usize::MAX, &mut sent).saturating_add(n);
                    note(&chunk, usize::MAX, &mut self.output);
                }
            }
            if n > 0 {
                self.shard.handle_sent(start(), self.id, n);
            } else if self.shard.wants_read(self.id) && !self.unread.is_empty() {
                let mut bytes = mem::take(&mut self.unread);
                self.shard.handle_received(start(), self.id, &mut bytes);
            } else if self.shard.wants_read(self.id) && mem::take(&mut self.eof) {
                self.shard.handle_eof(start(), self.id);
            } else {
                return;
            }
        }
    }

    /// What can be seen from outside; the rest is as `expected`.
    fn outcome(&self, expected: &Outcome<M, E>) -> Outcome<M, E> {
        let service = self.shard.service();
        let verdict = match &service.closed {
            None if expected.verdict.is_final() => Verdict::Input,
            None => expected.verdict.clone(),
            Some(Closed::Done) => Verdict::Done,
            Some(Closed::Error(error)) => Verdict::Error(error.clone()),
            Some(_) => Verdict::Room,
        };
        let finished = match &service.closed {
            None => self.shard.outbox(self.id).is_some_and(Outbox::is_finished),
            Some(_) => expected.output.last() == Some(&Sent::Finish),
        };
        let mut output = self.output.clone();
        if finished {
            output.push(Sent::Finish);
        }
        let machine = match service.closed {
            None => self.shard.machine(self.id),
            Some(_) => None,
        };
        Outcome {
            events: service.events.clone(),
            borders: Vec::new(),
            output: service.subject.read(output),
            verdict,
            state: machine.map_or(expected.state, M::state),
            answers: service.answers.clone(),
            taken: expected.taken,
        }
    }
}

impl<M, E, C> Listener<'_, '_, M, E, C>
where
    M: StreamMachine,
    E: Clone + PartialEq + Debug,
    C: Clone,
{
    fn act(&mut self, conn: ConnId, net: &mut Net<M>) {
        let Some(make) = &self.subject.command else {
            return;
        };
        let count = self.events.len();
        while self.acts.first().is_some_and(|&(after, _)| after <= count) {
            let (_, command) = self.acts.remove(0);
            self.answers.push(net.send(conn, make(&command)));
        }
    }
}

impl<M, E, C> Service<M> for Listener<'_, '_, M, E, C>
where
    M: StreamMachine,
    E: Clone + PartialEq + Debug,
    C: Clone,
{
    type Message = ();
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<M> {
        Some((self.subject.new)())
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<M>) {
        self.act(conn, net);
    }

    fn handle_event(&mut self, _: Now, from: ConnId, event: M::Event<'_>, net: &mut Net<M>) {
        self.subject.tell(event, &mut self.events);
        self.act(from, net);
    }

    fn handle_closed(&mut self, _: Now, _: ConnId, why: Closed<M::Error>, _: &mut Net<M>) {
        self.closed = Some(why);
    }

    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<M>) {}
}
