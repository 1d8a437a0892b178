//! The course's secure chat (its example 2): the server sends its key in clear, then all is Fernet
//! tokens without borders.
//!
//! What the course's programs read at once they take for one token. So a token of ours leaves in a
//! write of its own, some time after the last, and is never longer than they can read.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use rand_core::RngCore;
use semfio_keysync::{Cut, Decoding, Key, Policy, Splitter};
use semfio_machine::{Input, Now, Outbox, Rng, Seed};

use crate::text;

/// The length of a key in base64url.
pub(crate) const KEY_TEXT: usize = 44;
/// What a member answers to the key, as a token.
pub(crate) const OK: &[u8] = b"OK";
/// How long a key, or the answer to it, may take.
pub const OK_WITHIN: Duration = Duration::from_secs(10);
/// The longest text of one token of ours: its token has 1,016 octets, the next longer one 1,036, and
/// the course's programs read 1,024.
pub const TOKEN_TEXT: usize = 703;
/// The pause after a token, in which its reader shall come to read it.
pub const GAP: Duration = Duration::from_millis(20);
/// Tokens that may wait for their turn before no more are taken; the last hand-over may exceed it.
const PENDING: usize = 16;
/// What a member may send in a row that does not open, before it is dropped: in pieces,
const LOST_SPANS: u32 = 32;
/// and in octets. Four of the longest tokens, so that one that is too long costs nobody its place.
const LOST_OCTETS: usize = 4 * Splitter::LIMIT;

/// The course's programs look at no clock.
const POLICY: Policy = Policy { ttl: None, skew: None, decoding: Decoding::Strict };

/// The labels of the streams that key and IVs are drawn from.
const KEY_STREAM: u64 = 0x6B65_7900;
const IV_STREAM: u64 = 0x6976_7300;

/// Opens a token, whatever its age.
pub(crate) fn open(key: &Key, now: Now, token: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    key.open(&POLICY, now.unix, token, &mut text).ok().map(|_| text)
}

/// Seals a text as one token.
pub(crate) fn seal(key: &Key, ivs: &mut Rng, now: Now, text: &[u8]) -> Vec<u8> {
    let (mut iv, mut token) = ([0; 16], Vec::new());
    ivs.fill_bytes(&mut iv);
    key.seal(now.unix, iv, text, &mut token);
    token
}

/// A server's key, and what it seals with.
#[derive(Debug)]
pub(crate) struct Cleartext {
    pub(crate) key: Arc<Key>,
    ivs: Rng,
}

impl Cleartext {
    pub(crate) fn new(seed: &Seed) -> Self {
        let key = Key::generate(&mut seed.stream(KEY_STREAM));
        Self { key: Arc::new(key), ivs: seed.stream(IV_STREAM) }
    }

    /// Seals a text in tokens that the course's programs can read.
    pub(crate) fn seal(&mut self, now: Now, text: &[u8]) -> Vec<Bytes> {
        text::pieces(text, TOKEN_TEXT)
            .map(|piece| Bytes::from(seal(&self.key, &mut self.ivs, now, piece)))
            .collect()
    }
}

/// What a session needs to speak tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) key: Arc<Key>,
    splitter: Splitter,
    pending: VecDeque<Bytes>,
    /// Nothing more was taken since so many were waiting.
    full: bool,
    lost_spans: u32,
    lost_octets: usize,
}

/// What a member's stream goes on with.
pub(crate) enum Heard<'i> {
    Token(&'i [u8]),
    Lost,
    /// Too much was lost in a row.
    Garbage,
    Nothing,
}

impl Tokens {
    pub(crate) fn new(key: Arc<Key>) -> Self {
        Self {
            key,
            splitter: Splitter::new(),
            pending: VecDeque::new(),
            full: false,
            lost_spans: 0,
            lost_octets: 0,
        }
    }

    pub(crate) fn hear<'i>(&mut self, input: &mut Input<'i>) -> Heard<'i> {
        while let Some(cut) = self.splitter.cut(&self.key, input.peek(), input.at_eof()) {
            let (n, spans) = match cut {
                Cut::Token(n) => {
                    (self.lost_spans, self.lost_octets) = (0, 0);
                    return Heard::Token(input.take(n));
                }
                Cut::Lost(n) => (n, 1),
                Cut::Rest(n) => (n, 0),
            };
            input.take(n);
            self.lost_octets = self.lost_octets.saturating_add(n);
            self.lost_spans = self.lost_spans.saturating_add(spans);
            if self.lost_octets > LOST_OCTETS || self.lost_spans > LOST_SPANS {
                return Heard::Garbage;
            }
            if spans > 0 {
                return Heard::Lost;
            }
        }
        Heard::Nothing
    }

    /// Takes all of them or none.
    pub(crate) fn queue(&mut self, tokens: &[Bytes]) -> bool {
        let takes = self.pending.len() < PENDING;
        if takes {
            self.pending.extend(tokens.iter().cloned());
            self.full = self.pending.len() >= PENDING;
        }
        takes
    }

    /// Puts the next one; says whether there was one.
    pub(crate) fn send(&mut self, out: &mut Outbox) -> bool {
        let next = self.pending.pop_front();
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        next.map(|token| put_apart(token, out)).is_some()
    }

    /// Whether more are taken again; told once.
    pub(crate) fn has_room_again(&mut self) -> bool {
        let again = self.full && self.pending.len() < PENDING;
        self.full &= !again;
        again
    }
}

/// Puts bytes that leave in a write of their own.
pub(crate) fn put_apart(bytes: Bytes, out: &mut Outbox) {
    out.boundary();
    out.put_shared(bytes);
    out.boundary();
}
