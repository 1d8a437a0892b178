//! One record: a JSON object on a line of its own.

use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt::{Debug, Write as _};
use core::net::{IpAddr, SocketAddr};

use semfio_machine::{ConnId, Now};

/// Writes one object, field by field, in the order of the calls.
#[derive(Debug, Default)]
pub(crate) struct Line {
    json: Vec<u8>,
}

impl Line {
    /// Starts a record that has no time: the header, the trailer.
    pub(crate) fn bare() -> Self {
        Self { json: Vec::from(b"{") }
    }

    /// Starts an event in the memory of `self`.
    pub(crate) fn start(&mut self, now: Now, name: &str) -> &mut Self {
        let (mono, unix) = (now.mono.as_nanos(), now.unix.as_nanos());
        self.json.clear();
        self.json.push(b'{');
        self.number("time", mono / 1_000);
        self.number("unix", unix / 1_000);
        let rest = [mono % 1_000, unix % 1_000];
        if rest != [0, 0] {
            self.numbers("ns", &rest);
        }
        self.text("name", name)
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.raw(key, format_args!("{value}"))
    }

    pub(crate) fn numbers(&mut self, key: &str, values: &[u64]) -> &mut Self {
        self.raw(key, format_args!("["));
        for value in values {
            self.item(format_args!("{value}"));
        }
        self.put(b"]")
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, format_args!("{value}"))
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw(key, format_args!(""));
        self.string(value)
    }

    pub(crate) fn debug(&mut self, key: &str, value: &dyn Debug) -> &mut Self {
        let mut text = String::new();
        let _ = write!(text, "{value:?}"); // a String takes everything
        self.text(key, &text)
    }

    pub(crate) fn conn(&mut self, id: ConnId) -> &mut Self {
        self.raw("conn", format_args!("\"{id}\""))
    }

    pub(crate) fn null(&mut self, key: &str) -> &mut Self {
        self.raw(key, format_args!("null"))
    }

    pub(crate) fn address(&mut self, key: &str, address: &SocketAddr) -> &mut Self {
        self.raw(key, format_args!("\"{}\"", Address(address)))
    }

    pub(crate) fn ip(&mut self, key: &str, ip: &IpAddr) -> &mut Self {
        self.raw(key, format_args!("\"{ip}\""))
    }

    pub(crate) fn address_item(&mut self, address: &SocketAddr) -> &mut Self {
        self.item(format_args!("\"{}\"", Address(address)))
    }

    /// `len` and the bytes: as they are if people can read them, in base64 if not.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> &mut Self {
        self.number("len", bytes.len() as u64);
        match core::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_clean) => self.text("text", text),
            _ => {
                self.raw("base64", format_args!("\""));
                let mut buffer = [0; 4 * 1024];
                // Groups of three bytes become four letters: only the last piece is padded.
                for piece in bytes.chunks(3 * 1024) {
                    let n = STANDARD.encode_slice(piece, &mut buffer).unwrap_or(0);
                    self.put(buffer.get(..n).unwrap_or_default());
                }
                self.put(b"\"")
            }
        }
    }

    /// A field whose value is written by the caller, to be closed by the caller.
    pub(crate) fn open(&mut self, key: &str, bracket: &[u8]) -> &mut Self {
        self.raw(key, format_args!("")).put(bracket)
    }

    pub(crate) fn put(&mut self, json: &[u8]) -> &mut Self {
        self.json.extend_from_slice(json);
        self
    }

    pub(crate) fn string(&mut self, value: &str) -> &mut Self {
        // Only maps with keys that are no text can fail.
        let json = serde_json::to_vec(value).unwrap_or_default();
        self.put(&json)
    }

    /// A value in a list.
    pub(crate) fn item(&mut self, value: core::fmt::Arguments<'_>) -> &mut Self {
        self.separate();
        let _ = Utf8(&mut self.json).write_fmt(value);
        self
    }

    pub(crate) fn separate(&mut self) -> &mut Self {
        if !matches!(self.json.last(), Some(b'{' | b'[')) {
            self.json.push(b',');
        }
        self
    }

    /// The whole line, its end included.
    pub(crate) fn end(&mut self) -> &[u8] {
        self.put(b"}\n");
        &self.json
    }

    fn raw(&mut self, key: &str, value: core::fmt::Arguments<'_>) -> &mut Self {
        self.separate();
        self.string(key).put(b":");
        let _ = Utf8(&mut self.json).write_fmt(value);
        self
    }
}

/// What [`Address`] writes, or nothing.
pub(crate) fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, flow) = match text.split_once('#') {
        Some((address, flow)) => (address, flow.parse().ok()?),
        None => (text, 0),
    };
    let mut address: SocketAddr = address.parse().ok()?;
    match &mut address {
        SocketAddr::V6(v6) => v6.set_flowinfo(flow),
        SocketAddr::V4(_) if flow != 0 => return None,
        SocketAddr::V4(_) => {}
    }
    Some(address)
}

pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn is_clean(c: char) -> bool {
    !c.is_control() || matches!(c, '\n' | '\r' | '\t')
}

/// An address in the usual text, and the flow label that this leaves out.
struct Address<'a>(&'a SocketAddr);

impl core::fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0 {
            SocketAddr::V6(v6) if v6.flowinfo() != 0 => write!(f, "#{}", v6.flowinfo()),
            _ => Ok(()),
        }
    }
}

struct Utf8<'a>(&'a mut Vec<u8>);

impl core::fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
