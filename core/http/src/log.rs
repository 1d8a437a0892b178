//! Lines of an access log.

use alloc::string::String;
use core::fmt::Write;
use core::net::IpAddr;
use core::time::Duration;
use semfio_machine::UnixTime;

use crate::date::MONTHS;
use crate::message::Version;
use crate::page::put_json;
use crate::status::Status;

/// The most octets of any text of a peer that a line holds; the rest is cut off.
pub const LOGGED_LIMIT: usize = 4_096;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    /// As all servers write it: address, time, request line, status, size.
    Common,
    /// The same, and where the client came from and what it is.
    #[default]
    Combined,
    /// An object of JSON a line, with all there is.
    Json,
}

/// One request and what came of it.
///
/// What a peer sent can never end a line, look like another field, or reach a terminal as a control
/// character: in the first two forms such octets and all above 0x7E are written `\xHH`, as nginx does,
/// quotes and backslashes too. In JSON text beyond ASCII stays if it is UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// Who asked; `None` if the host does not know.
    pub peer: Option<IpAddr>,
    /// When the request came.
    pub at: UnixTime,
    /// Its method; empty if there was no whole head.
    pub method: &'a str,
    /// Its target, as it was written.
    pub target: &'a [u8],
    /// Its version.
    pub version: Version,
    /// The host that was asked for.
    pub authority: &'a str,
    /// What was answered.
    pub status: Status,
    /// Octets of content that were sent.
    pub sent: u64,
    /// Of `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Of `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// From the request's coming to the last octet of the answer.
    pub took: Duration,
}

impl LogLine<'_> {
    /// Appends the line, its line feed too.
    pub fn write(&self, form: LogForm, to: &mut String) {
        match form {
            LogForm::Common => self.write_common(to),
            LogForm::Combined => {
                self.write_common(to);
                for text in [self.referer, self.agent] {
                    to.push_str(" \"");
                    put_escaped(text.unwrap_or(b"-"), to);
                    to.push('"');
                }
            }
            LogForm::Json => self.write_json(to),
        }
        to.push('\n');
    }

    fn write_common(&self, to: &mut String) {
        match self.peer {
            Some(peer) => drop(write!(to, "{peer}")),
            None => to.push('-'),
        }
        let it = self.at.civil();
        let month = MONTHS.get(usize::from(it.month.saturating_sub(1))).unwrap_or(&"-");
        let _ = write!(
            to,
            " - - [{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000] \"",
            it.day, it.year, it.hour, it.minute, it.second
        );
        if self.method.is_empty() {
            to.push('-');
        } else {
            put_escaped(self.method.as_bytes(), to);
            to.push(' ');
            put_escaped(self.target, to);
            let _ = write!(to, " {}", version(self.version));
        }
        let _ = write!(to, "\" {} {}", self.status.code(), self.sent);
    }

    fn write_json(&self, to: &mut String) {
        let it = self.at.civil();
        let _ = write!(
            to,
            "{{\"v\":1,\"type\":\"access\",\"at\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z\"",
            it.year,
            it.month,
            it.day,
            it.hour,
            it.minute,
            it.second,
            self.at.as_millis() % 1_000
        );
        if let Some(peer) = self.peer {
            let _ = write!(to, ",\"peer\":\"{peer}\"");
        }
        if !self.method.is_empty() {
            for (name, text) in [
                ("method", self.method.as_bytes()),
                ("target", self.target),
                ("version", version(self.version).as_bytes()),
                ("host", self.authority.as_bytes()),
            ] {
                put_member(name, text, to);
            }
        }
        let _ = write!(to, ",\"status\":{},\"sent\":{}", self.status.code(), self.sent);
        for (name, text) in [("referer", self.referer), ("agent", self.agent)] {
            if let Some(text) = text {
                put_member(name, text, to);
            }
        }
        let _ = write!(to, ",\"took_us\":{}}}", self.took.as_micros());
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..LOGGED_LIMIT).unwrap_or(text)
}

fn put_escaped(text: &[u8], to: &mut String) {
    for &octet in cut(text) {
        match octet {
            b'"' | b'\\' | ..b' ' | 0x7F.. => drop(write!(to, "\\x{octet:02X}")),
            octet => to.push(char::from(octet)),
        }
    }
}

/// Octets that are no UTF-8 become `\xHH`.
fn put_member(name: &str, text: &[u8], to: &mut String) {
    let mut whole = String::new();
    for chunk in cut(text).utf8_chunks() {
        whole.push_str(chunk.valid());
        for octet in chunk.invalid() {
            let _ = write!(whole, "\\x{octet:02X}");
        }
    }
    let _ = write!(to, ",\"{name}\":");
    put_json(&whole, to);
}
