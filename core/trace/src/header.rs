//! The first record of a trace.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use core::fmt::Write as _;
use core::time::Duration;

use semfio_machine::{Instant, NetLimits, Now, Seed, UnixTime};
use serde_json::{Map, Value};

use crate::line::Line;
use crate::reader::Malformed;

/// The schema of the file: a header, events, a trailer.
pub(crate) const FILE_SCHEMA: &str = "urn:semfio:trace:file:1";
/// The schema of the events.
pub(crate) const EVENT_SCHEMA: &str = "urn:semfio:trace:1";

/// What has to be known to start the same run again.
#[derive(Clone, Debug)]
pub struct Header {
    /// For people.
    pub title: String,
    /// As in qlog: `client`, `server`, `unknown`.
    pub vantage_point: String,
    /// Which program recorded.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The name of the service, for whoever builds it again.
    pub service: String,
    /// Its configuration, for the same reader.
    pub config: BTreeMap<String, String>,
    /// The bounds of the shard.
    pub limits: NetLimits,
    /// All randomness of the run that may be known, if the service has any.
    pub seed: Option<Seed>,
    /// Which keys of `config` have secrets, and `seed` if that is one: who passes the file on gives
    /// them away.
    pub secret: BTreeSet<String>,
    /// When the recording began.
    pub start: Now,
}

impl Header {
    /// A header for this service, with the shard's default bounds.
    pub fn new(service: &str) -> Self {
        Self {
            title: String::new(),
            vantage_point: "unknown".to_string(),
            program: "semfio".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            service: service.to_string(),
            config: BTreeMap::new(),
            limits: NetLimits::default(),
            seed: None,
            secret: BTreeSet::new(),
            start: Now::default(),
        }
    }

    pub(crate) fn put(&self, to: &mut dyn FnMut(&[u8])) {
        let mut line = Line::bare();
        line.text("file_schema", FILE_SCHEMA);
        line.text("serialization_format", "application/json-seq");
        line.text("title", &self.title);
        line.open("vantage_point", b"{");
        line.text("type", &self.vantage_point).put(b"}");
        line.open("event_schemas", b"[").string(EVENT_SCHEMA);
        line.put(b"]");
        line.text("program", &self.program);
        line.text("version", &self.version);
        line.text("service", &self.service);
        line.open("config", b"{");
        for (key, value) in &self.config {
            line.text(key, value);
        }
        line.put(b"}").open("limits", b"{");
        line.number("connections", self.limits.connections as u64);
        line.number("mark", self.limits.mark as u64);
        line.number("held", self.limits.held as u64);
        line.number("linger", nanos(self.limits.linger)).put(b"}");
        if let Some(seed) = &self.seed {
            line.text("seed", &hex(seed.as_bytes()));
        }
        line.open("secret", b"[");
        for name in &self.secret {
            line.separate().string(name);
        }
        line.put(b"]");
        // Nanoseconds, both.
        let start = [self.start.mono.as_nanos(), self.start.unix.as_nanos()];
        to(line.numbers("start", &start).end());
    }

    /// What it does not know it skips, so that later versions may say more.
    pub(crate) fn parse(map: &Map<String, Value>) -> Result<Self, Malformed> {
        if text(map, "file_schema")? != FILE_SCHEMA {
            return Err(Malformed::Schema);
        }
        let schemas = map.get("event_schemas").and_then(Value::as_array);
        let schemas = schemas.ok_or(Malformed::Field("event_schemas"))?;
        if !schemas.iter().any(|schema| schema == EVENT_SCHEMA) {
            return Err(Malformed::Schema);
        }
        let mut config = BTreeMap::new();
        for (key, value) in object(map, "config")? {
            let value = value.as_str().ok_or(Malformed::Field("config"))?;
            config.insert(key.clone(), value.to_string());
        }
        let limits = object(map, "limits")?;
        let seed = match map.get("seed") {
            None => None,
            Some(seed) => {
                let bytes = seed.as_str().and_then(unhex);
                Some(Seed::new(bytes.ok_or(Malformed::Field("seed"))?))
            }
        };
        let mut secret = BTreeSet::new();
        if let Some(names) = map.get("secret") {
            let names = names.as_array().ok_or(Malformed::Field("secret"))?;
            for name in names {
                secret.insert(name.as_str().ok_or(Malformed::Field("secret"))?.to_string());
            }
        }
        let start = match map.get("start").and_then(Value::as_array).map(|s| &**s) {
            Some([mono, unix]) => mono.as_u64().zip(unix.as_u64()),
            _ => None,
        };
        let (mono, unix) = start.ok_or(Malformed::Field("start"))?;
        Ok(Self {
            title: text(map, "title")?.to_string(),
            vantage_point: text(object(map, "vantage_point")?, "type")?.to_string(),
            program: text(map, "program")?.to_string(),
            version: text(map, "version")?.to_string(),
            service: text(map, "service")?.to_string(),
            config,
            limits: NetLimits {
                connections: size(limits, "connections")?,
                mark: size(limits, "mark")?,
                held: size(limits, "held")?,
                linger: Duration::from_nanos(number(limits, "linger")?),
            },
            seed,
            secret,
            start: Now { mono: Instant::from_nanos(mono), unix: UnixTime::from_nanos(unix) },
        })
    }
}

pub(crate) fn text<'a>(
    map: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a str, Malformed> {
    map.get(key).and_then(Value::as_str).ok_or(Malformed::Field(key))
}

pub(crate) fn number(map: &Map<String, Value>, key: &'static str) -> Result<u64, Malformed> {
    map.get(key).and_then(Value::as_u64).ok_or(Malformed::Field(key))
}

pub(crate) fn size(map: &Map<String, Value>, key: &'static str) -> Result<usize, Malformed> {
    usize::try_from(number(map, key)?).map_err(|_| Malformed::Field(key))
}

pub(crate) fn object<'a>(
    map: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a Map<String, Value>, Malformed> {
    map.get(key).and_then(Value::as_object).ok_or(Malformed::Field(key))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
    }
    text
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
