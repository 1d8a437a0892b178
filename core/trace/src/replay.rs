//! Running a trace again.

mod endpoint;
mod shard;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use semfio_machine::{Now, Tap, TapEntry};
use serde_json::Value;

use crate::encode::{Encoder, TooLarge};
use crate::reader::{End, Event, Malformed, ReadError, Reader, parse_line, show};
use crate::recorded::Codec;

pub use endpoint::{OfEndpoint, Told, replay_datagrams};
pub use shard::{OfShard, replay};

/// Feeds the inputs of a trace to what is built anew, and compares what comes of them, event by
/// event, with what was recorded.
///
/// What is built must be as the [`Header`](crate::Header) says: a shard ([`Replay::new`]) or an
/// endpoint ([`Replay::datagrams`]).
pub struct Replay<L, R> {
    reader: Reader<L>,
    run: R,
    /// What came of the inputs and the trace has yet to say.
    produced: VecDeque<Event>,
    position: u64,
}

/// What a [`Replay`] runs again.
pub trait Rerun {
    /// Does what the host did.
    fn feed(&mut self, event: &Event) -> Result<(), ReplayError>;

    /// Asks for one more output, as the host did: the trace has one that no input has led to.
    fn ask(&mut self, now: Now);

    /// Hands over the records of what it did.
    fn drain_tap(&mut self, to: &mut dyn FnMut(&[u8]));
}

/// The trace was run to its end, and what came of it is what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How many events, those skipped included.
    pub events: u64,
    /// Whether the trace had its end.
    pub end: End,
}

/// Why a replay stopped.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReplayError {
    /// The trace cannot be read.
    Read(ReadError),
    /// What came of it is not what was recorded.
    Diverged(Box<Divergence>),
    /// The event is about a connection or a request that there never was.
    Unknown(Box<Event>),
    /// More was sent than there was to send.
    Oversent(Box<Event>),
}

/// The first difference between a trace and its replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// What was recorded; `None` if the trace is at its end.
    pub recorded: Option<Event>,
    /// What came now; `None` if nothing (more) did.
    pub replayed: Option<Event>,
    /// The number of the last event on which both agree.
    pub after: u64,
}

impl<L, R> Replay<L, R>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    R: Rerun,
{
    fn start(reader: Reader<L>, run: R) -> Self {
        Self { reader, run, produced: VecDeque::new(), position: 0 }
    }

    /// The number of the last event that was compared.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Makes one step: an input is fed, an output is compared. `None`: the trace is at its end,
    /// and all of it agrees.
    pub fn step(&mut self) -> Result<Option<Event>, ReplayError> {
        let Some(event) = self.reader.next() else {
            // A trace may be cut between an input and what comes of it.
            return match self.produced.pop_front() {
                Some(replayed) if self.reader.end() == Some(End::Whole) => {
                    Err(self.diverged(None, Some(replayed)))
                }
                _ => Ok(None),
            };
        };
        let event = event.map_err(ReplayError::Read)?;
        if event.is_input() {
            if let Some(replayed) = self.produced.pop_front() {
                return Err(self.diverged(Some(event), Some(replayed)));
            }
            self.run.feed(&event)?;
            self.gather(&event)?;
        } else if self.produced.is_empty() {
            self.run.ask(event.now);
            self.gather(&event)?;
        }
        match self.produced.pop_front() {
            Some(replayed) if replayed.agrees(&event) => {
                self.position = event.number;
                Ok(Some(event))
            }
            replayed => Err(self.diverged(Some(event), replayed)),
        }
    }

    /// Makes steps up to and with event `number`, or to the end; says whether there is more.
    pub fn run_until(&mut self, number: u64) -> Result<bool, ReplayError> {
        while self.position < number {
            if self.step()?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes all steps that are left.
    pub fn run(&mut self) -> Result<Agreement, ReplayError> {
        while self.step()?.is_some() {}
        Ok(Agreement { events: self.reader.events(), end: self.reader.end().unwrap_or(End::Cut) })
    }

    /// Takes over what came of `event`.
    fn gather(&mut self, event: &Event) -> Result<(), ReplayError> {
        let produced = &mut self.produced;
        let mut result = Ok(());
        self.run.drain_tap(&mut |line| match parse_line(line) {
            Ok(Some(map)) => match Event::parse(0, 0, map) {
                Ok(event) => produced.push_back(event),
                Err(what) => result = Err(what),
            },
            Ok(None) => result = Err(Malformed::TooLong),
            Err(what) => result = Err(what),
        });
        result.map_err(|what| unreadable(event, what))
    }

    fn diverged(&self, recorded: Option<Event>, replayed: Option<Event>) -> ReplayError {
        ReplayError::Diverged(Box::new(Divergence { recorded, replayed, after: self.position }))
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agrees after {} events", self.events)?;
        match self.end {
            End::Whole => Ok(()),
            End::Cut => f.write_str(", where the trace is cut"),
        }
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Diverged(divergence) => divergence.fmt(f),
            Self::Unknown(event) => {
                write!(f, "line {}: of nothing there was: {event}", event.line)
            }
            Self::Oversent(event) => {
                write!(f, "line {}: more than waited to be sent: {event}", event.line)
            }
        }
    }
}

impl core::error::Error for ReplayError {}

fn unreadable(event: &Event, what: Malformed) -> ReplayError {
    ReplayError::Read(ReadError { line: event.line, what })
}

/// Three or four short lines: where, what was recorded, what came, and where the two part.
impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.recorded {
            Some(event) => {
                let (number, line) = (event.number, event.line);
                write!(f, "diverges at event {number} (line {line})")?;
            }
            None => write!(f, "diverges after event {}", self.after)?,
        }
        if let Some(event) = self.recorded.as_ref().or(self.replayed.as_ref()) {
            let micros = event.now.mono.as_nanos() / 1_000;
            let (secs, rest) = (micros / 1_000_000, micros % 1_000_000);
            write!(f, ", at {secs}.{rest:06} s")?;
        }
        side(f, "recorded", self.recorded.as_ref())?;
        side(f, "replayed", self.replayed.as_ref())?;
        let (Some(recorded), Some(replayed)) = (&self.recorded, &self.replayed) else {
            return Ok(());
        };
        if recorded.name != replayed.name {
            return Ok(());
        }
        if recorded.now != replayed.now {
            return write!(f, "\n  differs in time: {:?}, not {:?}", recorded.now, replayed.now);
        }
        let keys = recorded.fields.keys().chain(replayed.fields.keys());
        for key in keys {
            let (old, new) = (recorded.fields.get(key), replayed.fields.get(key));
            if old != new {
                return differs(f, key, old, new);
            }
        }
        Ok(())
    }
}

impl core::error::Error for Divergence {}

fn side(f: &mut fmt::Formatter<'_>, who: &str, event: Option<&Event>) -> fmt::Result {
    match event {
        Some(event) => write!(f, "\n  {who}: {event}"),
        None => write!(f, "\n  {who}: nothing"),
    }
}

/// The field, and for texts the place in it, from which on the two are not the same.
fn differs(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) -> fmt::Result {
    write!(f, "\n  differs in {key}")?;
    let (Some(Value::String(old)), Some(Value::String(new))) = (old, new) else {
        return Ok(());
    };
    let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b);
    let from = same.count();
    write!(f, " from character {from} on: ")?;
    show(f, &Value::String(String::clone(old)), from)?;
    f.write_str(", not ")?;
    show(f, &Value::String(String::clone(new)), from)
}

/// The tap of a replay: keeps the lines until they are fetched.
struct Gather<M> {
    codec: Codec<M>,
    encoder: Encoder,
    lines: Vec<u8>,
    failed: bool,
}

impl<M> Gather<M> {
    fn new(codec: Codec<M>) -> Self {
        Self { codec, encoder: Encoder::default(), lines: Vec::new(), failed: false }
    }
}

impl<M> Tap<M> for Gather<M> {
    fn record(&mut self, now: Now, entry: TapEntry<'_, M>) {
        let lines = &mut self.lines;
        let put = self
            .encoder
            .put(now, &entry, self.codec.encode, &mut |line| lines.extend_from_slice(line));
        // A line without an end cannot be read: the replay stops, as the recording had to.
        if let Err(TooLarge) = put {
            self.failed = true;
        }
    }

    fn drain(&mut self, to: &mut dyn FnMut(&[u8])) {
        for line in self.lines.split_inclusive(|&byte| byte == b'\n') {
            to(line);
        }
        if core::mem::take(&mut self.failed) {
            to(b"");
        }
        self.lines.clear();
    }
}
