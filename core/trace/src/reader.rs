//! Reading a trace.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use semfio_machine::{Instant, Now, UnixTime};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::header::{self, Header, number, text};
use crate::line;

/// The longest line that is read, in bytes: 2 MiB, sixteen times the largest read of our hosts
/// with all of it escaped. It bounds what one record can cost.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// The kinds of event that replay acts on; other names under `in.` are errors.
const INPUTS: [&str; 17] = [
    "in.accepted",
    "in.blocked",
    "in.bytes",
    "in.connected",
    "in.datagram",
    "in.eof",
    "in.failed",
    "in.left",
    "in.message",
    "in.note",
    "in.refused",
    "in.reply",
    "in.sent",
    "in.stamp",
    "in.timeout",
    "in.turn",
    "in.writable",
];

/// The kinds of event that replay compares; all other names are skipped.
const OUTPUTS: [&str; 16] = [
    "out.bytes",
    "out.cancel",
    "out.close",
    "out.closed",
    "out.datagram",
    "out.dial",
    "out.file",
    "out.nothing",
    "out.read",
    "out.release",
    "out.report",
    "out.request",
    "out.shutdown",
    "out.stop",
    "out.write",
    "state",
];

/// A trace, read line by line: an iterator over its events.
///
/// It is strict: any line that this version would not write so is an error, except for unknown
/// fields of the header and unknown events that are no `in.*`, which are counted and skipped. A
/// record separator (RFC 7464) before a line is allowed. After an error it is at its end.
#[derive(Debug)]
pub struct Reader<L> {
    lines: L,
    header: Header,
    hash: Sha256,
    line: u64,
    events: u64,
    end: Option<End>,
}

/// How a trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its trailer: nothing is missing and nothing was changed.
    Whole,
    /// Without: the recording was cut, or the file was. What was read may have been changed.
    Cut,
}

/// One event of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub(crate) number: u64,
    pub(crate) line: u64,
    pub(crate) now: Now,
    pub(crate) name: String,
    pub(crate) fields: Map<String, Value>,
}

/// A line that is not of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Which line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: Malformed,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// There is no header, or it was cut.
    NoHeader,
    /// The header names another format, or a later version of this one.
    Schema,
    /// Longer than [`MAX_LINE`].
    TooLong,
    /// No JSON object; the column, from 1.
    Json(usize),
    /// This field is missing, or not of its kind.
    Field(&'static str),
    /// An event under `in.` that this version does not know: nothing may be left out.
    UnknownInput,
    /// `len` is not the length of the data.
    Length,
    /// Something follows the trailer.
    AfterEnd,
    /// The trailer counts other than the events there are.
    Count,
    /// Something before the trailer was changed.
    Checksum,
}

impl<'t> Reader<core::slice::SplitInclusive<'t, u8, fn(&u8) -> bool>> {
    /// Reads a trace that is in memory.
    pub fn new(trace: &'t [u8]) -> Result<Self, ReadError> {
        Self::from_lines(trace.split_inclusive(is_line_end as fn(&u8) -> bool))
    }
}

impl<L> Reader<L>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
{
    /// Reads a trace from its lines, each with the line feed that ends it.
    ///
    /// A source that reads files should give a line of more than [`MAX_LINE`] bytes in pieces of
    /// more than that, so as not to gather it.
    pub fn from_lines(mut lines: L) -> Result<Self, ReadError> {
        let mut hash = Sha256::new();
        let at = |what| ReadError { line: 1, what };
        let first = lines.next().ok_or(at(Malformed::NoHeader))?;
        let first = first.as_ref();
        let map = match parse_line(first).map_err(at)? {
            Some(map) if map.contains_key("file_schema") => map,
            _ => return Err(at(Malformed::NoHeader)),
        };
        hash.update(first);
        Ok(Self {
            lines,
            header: Header::parse(&map).map_err(at)?,
            hash,
            line: 1,
            events: 0,
            end: None,
        })
    }

    /// What was recorded, and how to run it again.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the trace ends, once it has; `None` before, and after an error.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// How many events were read so far, those skipped included.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn read(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            let Some(line) = self.lines.next() else {
                self.end = Some(End::Cut);
                return Ok(None);
            };
            self.line = self.line.saturating_add(1);
            let Some(map) = parse_line(line.as_ref())? else {
                self.end = Some(End::Cut);
                return Ok(None);
            };
            if text(&map, "name")? == "end" {
                self.check_end(&map)?;
                self.end = Some(End::Whole);
                return Ok(None);
            }
            self.hash.update(line.as_ref());
            self.events = self.events.saturating_add(1);
            let event = Event::parse(self.events, self.line, map)?;
            if event.is_input() || event.is_output() {
                return Ok(Some(event));
            }
            if event.name.starts_with("in.") {
                return Err(Malformed::UnknownInput);
            }
        }
    }

    fn check_end(&mut self, map: &Map<String, Value>) -> Result<(), Malformed> {
        let (events, sha256) = (number(map, "events")?, text(map, "sha256")?);
        if map.len() != 3 {
            return Err(Malformed::Field("name"));
        }
        if events != self.events {
            return Err(Malformed::Count);
        }
        let hash = core::mem::take(&mut self.hash).finalize();
        if sha256 != header::hex(&hash) {
            return Err(Malformed::Checksum);
        }
        if self.lines.next().is_some() {
            self.line = self.line.saturating_add(1);
            return Err(Malformed::AfterEnd);
        }
        Ok(())
    }
}

impl<L> Iterator for Reader<L>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
{
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() || self.line == u64::MAX {
            return None;
        }
        match self.read() {
            Ok(event) => event.map(Ok),
            Err(what) => {
                let line = core::mem::replace(&mut self.line, u64::MAX);
                Some(Err(ReadError { line, what }))
            }
        }
    }
}

impl Event {
    /// Its place among the events, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The line it stands on, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// When it happened.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Its kind: `in.*`, `out.*`, `state`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the host did this to what is recorded; all else that did.
    pub fn is_input(&self) -> bool {
        INPUTS.contains(&&*self.name)
    }

    /// The text of an `out.report`.
    pub fn report(&self) -> Option<&str> {
        self.fields.get("text").and_then(Value::as_str).filter(|_| self.name == "out.report")
    }

    fn is_output(&self) -> bool {
        OUTPUTS.contains(&&*self.name)
    }

    /// Whether it says the same, wherever it stands.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.now == other.now && self.name == other.name && self.fields == other.fields
    }

    /// The bytes that [`Line::data`](crate::line::Line::data) wrote.
    pub(crate) fn data(&self) -> Result<Vec<u8>, Malformed> {
        let bytes = match (self.fields.get("text"), self.fields.get("base64")) {
            (Some(Value::String(text)), None) => text.as_bytes().to_vec(),
            (None, Some(Value::String(text))) => {
                line::parse_base64(text).ok_or(Malformed::Field("base64"))?
            }
            _ => return Err(Malformed::Field("text")),
        };
        if header::size(&self.fields, "len")? != bytes.len() {
            return Err(Malformed::Length);
        }
        Ok(bytes)
    }

    pub(crate) fn parse(
        number: u64,
        line: u64,
        mut map: Map<String, Value>,
    ) -> Result<Self, Malformed> {
        let (mono, unix) = match map.remove("ns") {
            None => (0, 0),
            Some(rest) => match rest.as_array().map(|rest| &**rest) {
                Some([mono, unix]) => rest_of(mono).zip(rest_of(unix)),
                _ => None,
            }
            .ok_or(Malformed::Field("ns"))?,
        };
        let event = Self {
            number,
            line,
            now: Now {
                mono: Instant::from_nanos(nanos(&map, "time", mono)?),
                unix: UnixTime::from_nanos(nanos(&map, "unix", unix)?),
            },
            name: text(&map, "name")?.to_string(),
            fields: {
                for key in ["time", "unix", "name"] {
                    map.remove(key);
                }
                map
            },
        };
        Ok(event)
    }
}

/// One line, cut where it gets too long for a screen.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (key, value) in &self.fields {
            write!(f, " {key}=")?;
            show(f, value, 0)?;
        }
        Ok(())
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl core::error::Error for ReadError {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str("no header of a trace"),
            Self::Schema => write!(f, "not a trace of schema {}", header::EVENT_SCHEMA),
            Self::TooLong => write!(f, "longer than {MAX_LINE} bytes"),
            Self::Json(column) => write!(f, "no JSON object (column {column})"),
            Self::Field(name) => write!(f, "field \"{name}\" is missing or wrong"),
            Self::UnknownInput => f.write_str("an input this version does not know"),
            Self::Length => f.write_str("field \"len\" does not count the data"),
            Self::AfterEnd => f.write_str("something follows the trailer"),
            Self::Count => f.write_str("the trailer counts other events"),
            Self::Checksum => f.write_str("the checksum is not of this trace"),
        }
    }
}

/// How much of a text is shown, in characters.
pub(crate) const SHOWN: usize = 96;

/// A value from `from` on, at most [`SHOWN`] characters, nothing that could move a cursor.
pub(crate) fn show(f: &mut fmt::Formatter<'_>, value: &Value, from: usize) -> fmt::Result {
    let whole = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rest = whole.chars().skip(from);
    let shown: String = rest.by_ref().take(SHOWN).collect();
    let before = if from > 0 { "…" } else { "" };
    let after = if rest.next().is_some() { "…" } else { "" };
    match value {
        Value::String(_) => write!(f, "{before}{shown:?}{after}"),
        _ => write!(f, "{before}{shown}{after}"),
    }
}

/// The object on a line, or `None` if the line has no end.
pub(crate) fn parse_line(line: &[u8]) -> Result<Option<Map<String, Value>>, Malformed> {
    if line.len() > MAX_LINE {
        return Err(Malformed::TooLong);
    }
    let Some(line) = line.strip_suffix(b"\n") else {
        return Ok(None);
    };
    let line = line.strip_prefix(b"\x1e").unwrap_or(line);
    match serde_json::from_slice(line) {
        Ok(map) => Ok(Some(map)),
        Err(error) => Err(Malformed::Json(error.column())),
    }
}

fn nanos(map: &Map<String, Value>, key: &'static str, rest: u64) -> Result<u64, Malformed> {
    number(map, key)?
        .checked_mul(1_000)
        .and_then(|nanos| nanos.checked_add(rest))
        .ok_or(Malformed::Field(key))
}

fn rest_of(value: &Value) -> Option<u64> {
    value.as_u64().filter(|&rest| rest < 1_000)
}

fn is_line_end(byte: &u8) -> bool {
    *byte == b'\n'
}
