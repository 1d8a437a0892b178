//! A tap for the course's secure chat, which leaves its key out.
//!
//! The key crosses the wire, so what passes is altered before it is seen: the key's text becomes that of
//! another key, the stand-in, and each token one under the stand-in, with the same time, IV, text and
//! length. What is no token under the key stays as it is. So all of it fits together, at the places where it
//! was, and machines that are given it do what they did; a hub has to be given the stand-in too.
//!
//! That is simpler than to journal what a key answers (as for sealed rooms): keys of the course's chat
//! are used within machines, which have nobody to tell. The price: what a token becomes is only
//! known when all of it is there. So of a token that comes in several reads, what lies behind its IV
//! is seen with the last of them. No machine can tell, since none acts on a part of a token.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use semfio_keysync::{Cut, Key, Splitter};
use semfio_machine::{Action, Chunk, ConnId, FileId, FileSpan, Now, Outbox, Tap, TapEntry};

use crate::token::KEY_TEXT;

/// The characters of a token that are the same under any key: version, time, and IV.
const SAME: usize = 33;

/// A tap between a shard that speaks the course's secure chat and another tap, which sees no key.
#[derive(Debug)]
pub struct Redacted<T> {
    tap: T,
    stand_in: Arc<Key>,
    /// Of a hub, its key; members learn it.
    key: Option<Arc<Key>>,
    wires: BTreeMap<ConnId, Wire>,
}

impl<T> Redacted<T> {
    /// For a hub with this key.
    pub fn of_hub(key: Arc<Key>, stand_in: Arc<Key>, tap: T) -> Self {
        Self { tap, stand_in, key: Some(key), wires: BTreeMap::new() }
    }

    /// For a member that speaks tokens, or frames: a server that sends keys takes one for the other if
    /// its first octets come late. One that speaks neither takes a key for a text.
    pub fn of_member(stand_in: Arc<Key>, tap: T) -> Self {
        Self { tap, stand_in, key: None, wires: BTreeMap::new() }
    }

    fn wire(&mut self, conn: ConnId) -> &mut Wire {
        let Self { key, stand_in, wires, .. } = self;
        wires.entry(conn).or_insert_with(|| Wire::new(key.as_ref(), stand_in))
    }
}

impl<M, T: Tap<M>> Tap<M> for Redacted<T> {
    fn record(&mut self, now: Now, entry: TapEntry<'_, M>) {
        match entry {
            TapEntry::Received(conn, bytes) => {
                let seen = self.wire(conn).received(bytes);
                if !seen.is_empty() {
                    self.tap.record(now, TapEntry::Received(conn, &seen));
                }
            }
            TapEntry::Eof(conn) => {
                let mut rest = Vec::new();
                self.wire(conn).inward.give_up(&mut rest);
                if !rest.is_empty() {
                    self.tap.record(now, TapEntry::Received(conn, &rest));
                }
                self.tap.record(now, TapEntry::Eof(conn));
            }
            TapEntry::Sent(conn, n, outbox) => {
                let wire = self.wire(conn);
                if wire.outward.stage == Stage::Plain && wire.ahead.is_empty() {
                    return self.tap.record(now, TapEntry::Sent(conn, n, outbox));
                }
                wire.queued(outbox);
                let mut seen = Outbox::default();
                seen.put(wire.ahead.get(..n).unwrap_or(&wire.ahead));
                wire.ahead.drain(..n.min(wire.ahead.len()));
                seen.put_file(behind(outbox.queued().saturating_sub(seen.queued())));
                self.tap.record(now, TapEntry::Sent(conn, n, &seen));
            }
            other => {
                // Not before: what is closed may still have something to send.
                if let TapEntry::Action(Action::Close { conn, .. }) = other {
                    self.wires.remove(conn);
                }
                self.tap.record(now, other);
            }
        }
    }

    fn drain(&mut self, to: &mut dyn FnMut(&[u8])) {
        self.tap.drain(to);
    }
}

/// What stands for the octets that wait, beyond those that were sent: how many they are is seen.
fn behind(len: u64) -> FileSpan {
    FileSpan { file: FileId(0), offset: 0, len }
}

/// One connection.
#[derive(Debug)]
struct Wire {
    keys: Keys,
    inward: Stream,
    outward: Stream,
    /// What waits to be sent, as it is to be seen.
    ahead: Vec<u8>,
}

impl Wire {
    fn new(key: Option<&Arc<Key>>, stand_in: &Arc<Key>) -> Self {
        let (greeting, tokens) = (Stage::Greeting(Vec::new()), Stage::Tokens { begun: false });
        let (inward, outward) = if key.is_some() { (tokens, greeting) } else { (greeting, tokens) };
        let keys = Keys { real: key.cloned(), stand_in: Arc::clone(stand_in) };
        let (inward, outward) = (Stream::new(inward), Stream::new(outward));
        Self { keys, inward, outward, ahead: Vec::new() }
    }

    fn received(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        self.inward.pass(&mut self.keys, bytes, &mut seen);
        seen
    }

    /// Looks at what the outbox has and did not have before. Tokens are put there as a whole.
    fn queued(&mut self, outbox: &Outbox) {
        let mut known = self.ahead.len();
        for chunk in outbox.chunks() {
            let Chunk::Bytes(bytes) = chunk else { continue };
            let fresh = bytes.get(known..).unwrap_or_default();
            known = known.saturating_sub(bytes.len());
            self.outward.pass(&mut self.keys, fresh, &mut self.ahead);
        }
        self.outward.give_up(&mut self.ahead);
    }
}

#[derive(Debug)]
struct Keys {
    /// Once it is known.
    real: Option<Arc<Key>>,
    stand_in: Arc<Key>,
}

#[derive(Debug)]
struct Stream {
    stage: Stage,
    splitter: Splitter,
    /// What may become a token; its first [`SAME`] octets were seen.
    held: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The server's first octets: as much of the key's text as came.
    Greeting(Vec<u8>),
    Tokens {
        begun: bool,
    },
    /// It speaks otherwise: frames, or there was no key.
    Plain,
}

impl Stream {
    fn new(stage: Stage) -> Self {
        Self { stage, splitter: Splitter::new(), held: Vec::new() }
    }

    /// Appends to `seen` what is to be seen of `bytes`, and of what was held.
    fn pass(&mut self, keys: &mut Keys, bytes: &[u8], seen: &mut Vec<u8>) {
        let mut bytes = bytes;
        while let (Stage::Greeting(text), Some((&octet, rest))) =
            (&mut self.stage, bytes.split_first())
        {
            if !fits(text.len(), octet) {
                self.stage = Stage::Plain;
                break;
            }
            bytes = rest;
            seen.extend(keys.stand_in.to_text().as_bytes().get(text.len()));
            text.push(octet);
            if text.len() == KEY_TEXT {
                let key = core::str::from_utf8(text).ok().and_then(|text| Key::parse(text).ok());
                keys.real = keys.real.take().or_else(|| key.map(Arc::new));
                self.stage = Stage::Tokens { begun: false };
            }
        }
        if let (Stage::Tokens { begun: begun @ false }, Some(first)) =
            (&mut self.stage, bytes.first())
        {
            *begun = true;
            if *first == 0xFF {
                self.stage = Stage::Plain;
            }
        }
        match (&self.stage, &keys.real) {
            (Stage::Tokens { .. }, Some(real)) => self.cut(real, &keys.stand_in, bytes, seen),
            _ => seen.extend_from_slice(bytes),
        }
    }

    fn cut(&mut self, real: &Key, stand_in: &Key, bytes: &[u8], seen: &mut Vec<u8>) {
        let mut told = self.held.len().min(SAME);
        self.held.extend_from_slice(bytes);
        let mut past = 0_usize;
        loop {
            let rest = self.held.get(past..).unwrap_or_default();
            let Some(cut) = self.splitter.cut(real, rest, false) else { break };
            let (Cut::Token(n) | Cut::Lost(n) | Cut::Rest(n)) = cut;
            let n = n.min(rest.len());
            let span = rest.get(..n).unwrap_or_default();
            let token = matches!(cut, Cut::Token(_)).then(|| real.translate(span, stand_in));
            let span = token.as_ref().and_then(Option::as_deref).unwrap_or(span);
            seen.extend_from_slice(span.get(told..).unwrap_or_default());
            told = told.saturating_sub(n);
            past = past.saturating_add(n);
        }
        self.held.drain(..past);
        seen.extend_from_slice(self.held.get(told..self.held.len().min(SAME)).unwrap_or_default());
    }

    /// Nothing follows that would make a token of what is held.
    fn give_up(&mut self, seen: &mut Vec<u8>) {
        seen.extend_from_slice(self.held.get(SAME..).unwrap_or_default());
        self.held = Vec::new();
        self.splitter = Splitter::new();
    }
}

/// Whether a key's text may have this octet there.
fn fits(at: usize, octet: u8) -> bool {
    match at {
        // The last character has two bits that must be nothing.
        42 => b"AEIMQUYcgkosw048".contains(&octet),
        43 => octet == b'=',
        _ => octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'),
    }
}
