//! Running a trace again.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use semfio_machine::{
    Action, ConnId, Now, RequestId, Service, Shard, StreamMachine, Tap, TapEntry,
};
use serde_json::Value;

use crate::call::Call;
use crate::encode::{Encoder, TooLarge};
use crate::reader::{End, Event, Malformed, ReadError, Reader, parse_line, show};
use crate::recorded::{Codec, Recorded};

/// Feeds the inputs of a trace to a fresh shard, and compares what comes of them, event by event,
/// with what was recorded.
///
/// The shard must be built as the [`Header`](crate::Header) says. It is the caller's to look at
/// between steps.
pub struct Replay<L, M: StreamMachine, S: Service<M>> {
    reader: Reader<L>,
    shard: Shard<M, S>,
    codec: Codec<S::Message>,
    /// What the shard did and the trace has yet to say.
    produced: VecDeque<Event>,
    /// For each place in the shard's table, the generation last seen there.
    generations: Vec<u32>,
    /// How many requests the service has made.
    requests: u64,
    position: u64,
}

/// The trace was run to its end, and the shard did what was recorded.
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
    /// The shard did something else than was recorded.
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
    /// What the shard did; `None` if it did nothing (more).
    pub replayed: Option<Event>,
    /// The number of the last event on which both agree.
    pub after: u64,
}

/// Runs a whole trace.
pub fn replay<L, M, S>(reader: Reader<L>, shard: Shard<M, S>) -> Result<Agreement, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: Recorded + 'static,
{
    Replay::new(reader, shard).run()
}

impl<L, M, S> Replay<L, M, S>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: 'static,
{
    /// At the start. The shard's tap is replaced.
    pub fn new(reader: Reader<L>, shard: Shard<M, S>) -> Self
    where
        S::Message: Recorded,
    {
        Self::with_codec(reader, shard, Codec::default())
    }

    /// The same, for messages that do not know how to be recorded.
    pub fn with_codec(reader: Reader<L>, mut shard: Shard<M, S>, codec: Codec<S::Message>) -> Self {
        shard.set_tap(Box::new(Gather {
            codec,
            encoder: Encoder::default(),
            lines: Vec::new(),
            failed: false,
        }));
        Self {
            reader,
            shard,
            codec,
            produced: VecDeque::new(),
            generations: Vec::new(),
            requests: 0,
            position: 0,
        }
    }

    /// The shard as it is after the last step.
    pub fn shard(&self) -> &Shard<M, S> {
        &self.shard
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
            self.feed(&event)?;
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
    pub fn run(mut self) -> Result<Agreement, ReplayError> {
        while self.step()?.is_some() {}
        Ok(Agreement { events: self.reader.events(), end: self.reader.end().unwrap_or(End::Cut) })
    }

    fn feed(&mut self, event: &Event) -> Result<(), ReplayError> {
        let now = event.now;
        let read = |what| {
            let line = event.line;
            ReplayError::Read(ReadError { line, what })
        };
        match Call::parse(event, self.codec.decode).map_err(read)? {
            Call::Accepted(peer) => {
                if let Some(id) = self.shard.handle_accepted(now, peer) {
                    self.note(id);
                }
            }
            Call::Connected(id, peer) => {
                self.check(id, event)?;
                self.shard.handle_connected(now, id, peer);
            }
            Call::Received(id, mut bytes) => {
                self.check(id, event)?;
                self.shard.handle_received(now, id, &mut bytes);
            }
            Call::Eof(id) => {
                self.check(id, event)?;
                self.shard.handle_eof(now, id);
            }
            Call::Failed(id, failure) => {
                self.check(id, event)?;
                self.shard.handle_failed(now, id, failure);
            }
            Call::Sent(id, n) => {
                self.check(id, event)?;
                let queued = self.shard.outbox(id).map_or(0, |outbox| outbox.queued());
                if n as u64 > queued {
                    return Err(ReplayError::Oversent(Box::new(event.clone())));
                }
                self.shard.handle_sent(now, id, n);
            }
            Call::Reply(RequestId(id), answer) => {
                if id >= self.requests {
                    return Err(ReplayError::Unknown(Box::new(event.clone())));
                }
                let reply = answer.as_reply();
                self.shard.handle_reply(now, RequestId(id), reply);
            }
            Call::Message(message) => self.shard.handle_message(now, message),
            Call::Turn => self.shard.handle_turn(now),
            Call::Timeout => self.shard.handle_timeout(now),
        }
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(id, _) => self.note(id),
                Action::Request(RequestId(id), _) => self.requests = id.saturating_add(1),
                _ => {}
            }
        }
        while self.shard.poll_report().is_some() {}
        self.gather().map_err(read)
    }

    /// Takes over what the tap has seen.
    fn gather(&mut self) -> Result<(), Malformed> {
        let produced = &mut self.produced;
        let mut result = Ok(());
        self.shard.drain_tap(&mut |line| match parse_line(line) {
            Ok(Some(map)) => match Event::parse(0, 0, map) {
                Ok(event) => produced.push_back(event),
                Err(what) => result = Err(what),
            },
            Ok(None) => result = Err(Malformed::TooLong),
            Err(what) => result = Err(what),
        });
        result
    }

    fn note(&mut self, id: ConnId) {
        let index = id.index as usize;
        if self.generations.len() <= index {
            self.generations.resize(index.saturating_add(1), 0);
        }
        if let Some(generation) = self.generations.get_mut(index) {
            *generation = id.generation;
        }
    }

    /// Whether there is, or was, such a connection.
    fn check(&self, id: ConnId, event: &Event) -> Result<(), ReplayError> {
        match self.generations.get(id.index as usize) {
            Some(&last) if id.generation <= last => Ok(()),
            _ => Err(ReplayError::Unknown(Box::new(event.clone()))),
        }
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
