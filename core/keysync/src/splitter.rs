//! Tokens out of a stream that has no borders.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::Key;
use crate::key::Mac;

/// How every token begins: version 0x80 and a time before the year 4147.
const PREFIX: &[u8; 6] = b"gAAAAA";
/// A block of a token that is hashed once and for all: 64 characters, 48 octets.
const BLOCK: usize = 64;
/// Where the three lengths lie at which a token may end, in characters after whole blocks. Ciphertext
/// comes in pieces of 16 octets, so these are all there are, and only the last is not padded.
const TWO_PADS: usize = 100;
const ONE_PAD: usize = 120;
const NO_PAD: usize = 140;

/// Finds the tokens of one key in an undelimited stream of them.
///
/// Tokens carry neither a length nor an end. But they have few lengths, so this tries the MAC at
/// each of them, as far as the stream has come: what is given out as a token was sealed under
/// the key, and it is given out with its last character, whatever follows and however the stream
/// was read. What cannot be a token is *lost*, and the search goes on at the next `gAAAAA`.
///
/// The MAC is carried along and not begun anew for each length, and a span is given up where the next
/// token seems to begin: the work is linear in the stream, whatever it holds. The price: a token
/// whose text happens to hold `gAAAAA` is taken for a torn one; each character begins those six
/// with a chance of 1 in 2^36.
///
/// ```
/// use semfio_keysync::{Cut, Key, Splitter};
/// use semfio_machine::UnixTime;
///
/// let key = Key::new([7; 32]);
/// let mut stream = Vec::new();
/// for text in ["one", "two"] {
///     key.seal(UnixTime::from_secs(1), [1; 16], text.as_bytes(), &mut stream);
/// }
/// let mut splitter = Splitter::new();
/// assert_eq!(splitter.cut(&key, &stream[..150], false), Some(Cut::Token(100)));
/// assert_eq!(splitter.cut(&key, &stream[100..150], false), None);
/// assert_eq!(splitter.cut(&key, &stream[100..], false), Some(Cut::Token(100)));
/// ```
#[derive(Debug, Default)]
pub struct Splitter {
    /// Characters of the present span that were looked at.
    scanned: usize,
    /// Whole blocks in them that the MAC has taken in.
    blocks: usize,
    mac: Option<Mac>,
    /// What comes is no token, until the next one begins.
    lost: bool,
    work: u64,
}

/// What the stream begins with; the number is how many characters it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A token whose MAC is right.
    Token(usize),
    /// Something that is no token; it is told once, when that is certain.
    Lost(usize),
    /// More of what was told to be lost.
    Rest(usize),
}

impl Splitter {
    /// The longest token that is looked for: four times what a chat text may need. That much may
    /// have to wait for its end.
    pub const LIMIT: usize = 64 * 1024;

    /// A splitter at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts off what `stream` begins with. `None`: that is not certain yet, more is needed.
    ///
    /// `stream` is all that came and was not cut off: after a cut the caller removes so many
    /// characters, after `None` it shows the same and more. With `eof` nothing follows: what is
    /// left is lost. Never `None` for [`LIMIT`](Self::LIMIT) characters.
    pub fn cut(&mut self, key: &Key, stream: &[u8], eof: bool) -> Option<Cut> {
        if self.lost {
            let end = self.end_of_lost(stream, eof);
            if end > 0 || self.lost {
                return (end > 0).then_some(Cut::Rest(end));
            }
        }
        for (at, &octet) in stream.iter().enumerate().skip(self.scanned) {
            self.work = self.work.saturating_add(1);
            self.scanned = at.saturating_add(1);
            if let Some(cut) = self.look(key, stream, at, octet) {
                self.begin(cut);
                return Some(cut);
            }
        }
        let torn = eof && !stream.is_empty();
        torn.then(|| {
            self.begin(Cut::Token(0));
            Cut::Lost(stream.len())
        })
    }

    /// How many octets it has looked at, each look counted: for tests that this is linear.
    pub fn work(&self) -> u64 {
        self.work
    }

    fn begin(&mut self, after: Cut) {
        // A span that was given up for the next one ends exactly where that begins.
        let next = self.scanned.saturating_sub(PREFIX.len());
        self.lost = !matches!(after, Cut::Token(_)) && after != Cut::Lost(next);
        (self.scanned, self.blocks, self.mac) = (0, 0, None);
    }

    /// Looks at one more character of a span.
    fn look(&mut self, key: &Key, stream: &[u8], at: usize, octet: u8) -> Option<Cut> {
        if let Some(&wanted) = PREFIX.get(at) {
            return (octet != wanted).then_some(Cut::Lost(1));
        }
        let len = at.saturating_add(1);
        let hashed = self.blocks.saturating_mul(BLOCK);
        let end = len.saturating_sub(hashed);
        let padded = stream.get(at.saturating_sub(1)) == Some(&b'=');
        let may_end = match octet {
            b'=' if end == TWO_PADS.saturating_sub(1) => return None,
            b'=' => end == ONE_PAD || end == TWO_PADS && padded,
            _ if padded => return Some(Cut::Lost(at)),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => end == NO_PAD,
            _ => return Some(Cut::Lost(len)),
        };
        let span = stream.get(hashed..len).unwrap_or_default();
        if may_end && self.is_token(key, span) {
            return Some(Cut::Token(len));
        }
        if octet == b'=' {
            return Some(Cut::Lost(len));
        }
        if span.ends_with(PREFIX) {
            return Some(Cut::Lost(len.saturating_sub(PREFIX.len())));
        }
        if len >= Self::LIMIT {
            // Its end may be the beginning of the next.
            return Some(Cut::Lost(len.saturating_sub(PREFIX.len()).saturating_add(1)));
        }
        if end == NO_PAD {
            self.take_in(key, span);
        }
        None
    }

    /// Whether the span ends here; `rest` is what the MAC has not taken in.
    fn is_token(&mut self, key: &Key, rest: &[u8]) -> bool {
        self.work = self.work.saturating_add(rest.len() as u64);
        let mut octets = [0; 108];
        let Ok(len) = URL_SAFE.decode_slice(rest, &mut octets) else {
            return false;
        };
        let mac = self.mac.clone().unwrap_or_else(|| key.mac());
        let parts = octets.get(..len).and_then(|octets| octets.split_last_chunk());
        parts.is_some_and(|(body, tag)| mac.update(body).is(tag))
    }

    fn take_in(&mut self, key: &Key, rest: &[u8]) {
        let mut octets = [0; 48];
        // It is of the alphabet, and so decodes.
        let _ = URL_SAFE.decode_slice(rest.get(..BLOCK).unwrap_or_default(), &mut octets);
        let mac = self.mac.take().unwrap_or_else(|| key.mac());
        self.mac = Some(mac.update(&octets));
        self.blocks = self.blocks.saturating_add(1);
    }

    /// How much of `stream` is lost; says also whether a token may begin after it.
    fn end_of_lost(&mut self, stream: &[u8], eof: bool) -> usize {
        let next = stream.windows(PREFIX.len()).position(|six| six == PREFIX);
        let looked = next.map_or(stream.len(), |next| next.saturating_add(PREFIX.len()));
        self.work = self.work.saturating_add(looked as u64);
        if let Some(next) = next {
            self.lost = false;
            return next;
        }
        let kept = if eof { 0 } else { PREFIX.len().saturating_sub(1) };
        stream.len().saturating_sub(kept)
    }
}
