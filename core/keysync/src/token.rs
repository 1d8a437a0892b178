//! Fernet tokens (<https://github.com/fernet/spec>).
//!
//! ```text
//! base64url( 0x80 | seconds u64 | IV 16 | AES-128-CBC, PKCS #7 | HMAC-SHA256 over all before )
//! ```
//!
//! The length of a token tells that of the plaintext to within 16 octets, and its time is not
//! encrypted. A token does not say where it ends: who joins tokens needs a border of their own.

use aes::cipher::{
    BlockDecryptMut as _, BlockEncryptMut as _, InnerIvInit as _, block_padding::NoPadding,
    block_padding::Pkcs7,
};
use aes::{Aes128Dec, Aes128Enc};
use alloc::vec::Vec;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use base64::{DecodeError, DecodeSliceError, Engine as _};
use core::time::Duration;
use semfio_machine::UnixTime;
use zeroize::Zeroizing;

use crate::Key;
use crate::key::MAC;

const VERSION: u8 = 0x80;
/// Version, timestamp, IV.
const HEAD: usize = 25;
const BLOCK: usize = 16;
/// What the specification and both peers grant a clock that is ahead.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// Octets that are encoded at once: a multiple of 3.
const CHUNK: usize = 384;

/// The longest plaintext that is opened: 16 MiB. No octet of a token can be believed before its
/// last has come, so all of it has to be held; what is longer belongs into pieces.
pub const MAX_PLAINTEXT: usize = 16 << 20;
/// The longest text that is read as a token, with all that a policy skips.
pub const MAX_TOKEN: usize = token_len(MAX_PLAINTEXT);

/// Which tokens are accepted, beside that their MAC must be right.
///
/// Where the specification leaves room or peers differ from it:
///
/// | | [`STRICT`](Self::STRICT) | [`PYTHON`](Self::PYTHON) | [`CRATE`](Self::CRATE) |
/// | --- | --- | --- | --- |
/// | more than 60 s ahead of our clock | refused | refused if there is a TTL | refused |
/// | padding missing | refused | refused | read |
/// | more `=` than needed, at the end | refused | read | read |
/// | other characters in between | refused | skipped | refused |
/// | `+` and `/` for `-` and `_` | refused | read | refused |
/// | bits beyond the last octet | refused | dropped | refused |
/// | what follows the padding | refused | dropped | refused |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The oldest that is accepted. `None`: any age.
    pub ttl: Option<Duration>,
    /// How far ahead of ours a clock may be. `None`: any.
    pub skew: Option<Duration>,
    /// Which texts are read.
    pub decoding: Decoding,
}

/// Which texts are read as a token: a column of the table at [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// Base64url with its padding, and nothing else: each token has one text.
    Strict,
    /// As Python's `base64.urlsafe_b64decode`. Of tokens glued together the first is read and the
    /// others are lost, if it ends in padding.
    Python,
    /// As the `fernet` crate: padding may be missing or too long.
    Crate,
}

impl Policy {
    /// As the specification has it, with any age.
    pub const STRICT: Self = Self { ttl: None, skew: Some(MAX_SKEW), decoding: Decoding::Strict };

    /// As Python's `cryptography`: without a TTL no time is wrong.
    pub const PYTHON: Self = Self { ttl: None, skew: None, decoding: Decoding::Python };

    /// As the `fernet` crate for Rust.
    pub const CRATE: Self = Self { ttl: None, skew: Some(MAX_SKEW), decoding: Decoding::Crate };

    /// The same, with a limit of age. [`PYTHON`](Self::PYTHON) comes to look at the future too, as
    /// its model does.
    pub const fn with_ttl(self, ttl: Duration) -> Self {
        let skew = match (self.decoding, self.skew) {
            (Decoding::Python, None) => Some(MAX_SKEW),
            (_, skew) => skew,
        };
        Self { ttl: Some(ttl), skew, decoding: self.decoding }
    }

    /// Whether a token of that second is accepted. No sum of two times is made, so none overflows.
    fn check_time(&self, now: UnixTime, seconds: u64) -> Result<(), TokenError> {
        let beyond = |distance: u64, limit: Option<Duration>| {
            let beyond = Duration::from_secs(distance).checked_sub(limit?)?;
            (!beyond.is_zero()).then_some(beyond)
        };
        if let Some(by) = beyond(now.as_secs().saturating_sub(seconds), self.ttl) {
            return Err(TokenError::Expired(by));
        }
        if let Some(by) = beyond(seconds.saturating_sub(now.as_secs()), self.skew) {
            return Err(TokenError::Future(by));
        }
        Ok(())
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN`].
    TooLong,
    /// Not base64url as the policy has it, or too short.
    Malformed {
        /// The octet of the text from which on it is none; its length, if something is missing.
        at: usize,
    },
    /// Another version than 0x80.
    Version(u8),
    /// Sealed under another key, or changed.
    Mac,
    /// Older than the policy allows, by this much.
    Expired(Duration),
    /// From the future, further than the policy allows, by this much.
    Future(Duration),
    /// The MAC is right, and what it covers is no whole number of blocks or wrongly padded: who
    /// sealed it erred. To say so helps no attacker: only who has the key can cause it.
    Padding,
}

impl TokenError {
    /// Whether anybody could have made this, without the key. Who answers a peer gives one answer
    /// to all of these; the others only reach one whose token has the right MAC.
    pub fn is_forged(&self) -> bool {
        match self {
            Self::TooLong | Self::Malformed { .. } | Self::Version(_) | Self::Mac => true,
            Self::Expired(_) | Self::Future(_) | Self::Padding => false,
        }
    }
}

impl core::fmt::Display for TokenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {MAX_TOKEN} octets"),
            Self::Malformed { at } => write!(f, "not a token, from its octet {at} on"),
            Self::Version(version) => write!(f, "a token of version {version:#04x}"),
            Self::Mac => f.write_str("not sealed under this key, or changed since"),
            Self::Expired(by) => write!(f, "expired {} s ago", by.as_secs()),
            Self::Future(by) => write!(f, "{} s too far in the future", by.as_secs()),
            Self::Padding => f.write_str("rightly signed, but its padding is wrong"),
        }
    }
}

impl core::error::Error for TokenError {}

/// The length of a token for so many octets of plaintext.
pub const fn token_len(plaintext: usize) -> usize {
    raw_len(plaintext).div_ceil(3).saturating_mul(4)
}

/// The same before it is encoded.
const fn raw_len(plaintext: usize) -> usize {
    let blocks = plaintext.saturating_div(BLOCK).saturating_add(1);
    blocks.saturating_mul(BLOCK).saturating_add(HEAD + MAC)
}

impl Key {
    /// Appends a token to `out`, [`token_len`] octets; allocates nothing if `out` has room for
    /// them. An IV must be random and never be used twice with one key.
    ///
    /// More than [`MAX_PLAINTEXT`] is sealed, and no longer opened here.
    pub fn seal(&self, now: UnixTime, iv: [u8; 16], plaintext: &[u8], out: &mut Vec<u8>) {
        seal_at(self, now.as_secs(), iv, plaintext, out);
    }

    /// Appends the plaintext of a token to `out` and gives when it was sealed, in seconds since 1970.
    ///
    /// The MAC comes before all but the text's form and the version, and is compared in constant
    /// time. The work is done behind the end of `out`, and nothing allocated if it has room for 3
    /// octets for each 4 of `token`, the last ones being rounded up. After an error `out` is as it
    /// was, and nothing is left behind its end in either case.
    pub fn open(
        &self,
        policy: &Policy,
        now: UnixTime,
        token: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u64, TokenError> {
        open_with([self], policy, now, token, out)
    }

    /// The token that stands under `other` for this one: of the same time, IV, plaintext, and
    /// length. One whose MAC alone is right becomes one whose MAC alone is right. `None` if the MAC is
    /// wrong, the text not strictly base64url, or the ciphertext no whole number of blocks.
    ///
    /// The IV is used under a second key, which says no more than that both tokens are the same.
    pub fn translate(&self, token: &[u8], other: &Self) -> Option<Vec<u8>> {
        let mut raw = Zeroizing::new(alloc::vec![0; token.len()]);
        let raw = decode(Decoding::Strict, token, &mut raw).ok()?;
        let head: [u8; HEAD] = raw.first_chunk().copied()?;
        let any_time = Policy { ttl: None, skew: None, decoding: Decoding::Strict };
        let now = UnixTime::default();
        let mut plaintext = Zeroizing::new(Vec::new());
        match self.open(&any_time, now, token, &mut plaintext) {
            Ok(seconds) => {
                let mut out = Vec::new();
                seal_at(other, seconds, *head.last_chunk()?, &plaintext, &mut out);
                Some(out)
            }
            Err(TokenError::Padding) => {
                // Blocks of zeros end in no padding.
                let (body, tag) = raw.split_last_chunk_mut::<MAC>()?;
                let text = body.get_mut(HEAD..)?;
                text.fill(0);
                let len = text.len();
                let iv: &[u8; BLOCK] = head.last_chunk()?;
                let aes: Aes128Enc = other.cipher();
                let cipher = cbc::Encryptor::inner_iv_init(&aes, iv.into());
                cipher.encrypt_padded_mut::<NoPadding>(text, len).ok()?;
                *tag = other.mac().update(body).finish();
                Some(URL_SAFE.encode(raw).into_bytes())
            }
            Err(_) => None,
        }
    }
}

/// Seals with a time of any size.
pub(crate) fn seal_at(key: &Key, seconds: u64, iv: [u8; 16], plaintext: &[u8], out: &mut Vec<u8>) {
    let (start, len) = (out.len(), token_len(plaintext.len()));
    out.resize(start.saturating_add(len), 0);
    let text = out.get_mut(start..).unwrap_or_default();
    // At the end, from where it can be encoded to the beginning without a second buffer.
    let gap = len.saturating_sub(raw_len(plaintext.len()));
    if let Some(raw) = text.get_mut(gap..) {
        put_raw(key, seconds, iv, plaintext, raw);
    }
    encode(text, gap);
}

/// Fills `raw`, which has the right length.
fn put_raw(key: &Key, seconds: u64, iv: [u8; 16], plaintext: &[u8], raw: &mut [u8]) {
    let Some((body, tag)) = raw.split_last_chunk_mut::<MAC>() else { return };
    let Some((head, text)) = body.split_first_chunk_mut::<HEAD>() else { return };
    let [version, fields @ ..] = head;
    *version = VERSION;
    if let Some((time, rest)) = fields.split_first_chunk_mut() {
        *time = seconds.to_be_bytes();
        rest.copy_from_slice(&iv);
    }
    if let Some(place) = text.get_mut(..plaintext.len()) {
        place.copy_from_slice(plaintext);
    }
    let aes: Aes128Enc = key.cipher();
    let cipher = cbc::Encryptor::inner_iv_init(&aes, &iv.into());
    let padded = cipher.encrypt_padded_mut::<Pkcs7>(text, plaintext.len());
    debug_assert!(padded.is_ok(), "there is room for the padding");
    *tag = key.mac().update(body).finish();
}

/// Encodes what is in `text` from `read` on to its beginning. What is written never reaches what is
/// still to be read: after each 3 octets read and 4 written one less of `read` is between them.
fn encode(text: &mut [u8], mut read: usize) {
    let (mut chunk, mut write) = ([0; CHUNK], 0_usize);
    while let Some(raw) = text.get(read..).filter(|raw| !raw.is_empty()) {
        let n = raw.len().min(CHUNK);
        let (Some(piece), Some(raw)) = (chunk.get_mut(..n), raw.get(..n)) else { return };
        piece.copy_from_slice(raw);
        let place = text.get_mut(write..).unwrap_or_default();
        let encoded = URL_SAFE.encode_slice(&*piece, place);
        debug_assert!(encoded.is_ok(), "there is room for the text");
        write = write.saturating_add(encoded.unwrap_or(0));
        read = read.saturating_add(n);
    }
}

/// Opens with the first of the keys under which the MAC is right.
pub(crate) fn open_with<'k>(
    keys: impl IntoIterator<Item = &'k Key>,
    policy: &Policy,
    now: UnixTime,
    token: &[u8],
    out: &mut Vec<u8>,
) -> Result<u64, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::TooLong);
    }
    let start = out.len();
    out.resize(start.saturating_add(token.len().div_ceil(4).saturating_mul(3)), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let opened = decode(policy.decoding, token, room)
        .and_then(|raw| open_in_place(keys, policy, now, raw, token.len()));
    let end = start.saturating_add(opened.map_or(0, |(_, plaintext)| plaintext));
    wipe(out.get_mut(end..).unwrap_or_default());
    out.truncate(end);
    opened.map(|(seconds, _)| seconds)
}

/// `zeroize` writes octet by octet, which takes a quarter of the time of opening a short token.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Or the compiler may leave it out where it sees the buffer freed.
    core::hint::black_box(bytes);
}

/// Leaves the plaintext at the beginning of `raw`, and gives the time and the plaintext's length.
fn open_in_place<'k>(
    keys: impl IntoIterator<Item = &'k Key>,
    policy: &Policy,
    now: UnixTime,
    raw: &mut [u8],
    end: usize,
) -> Result<(u64, usize), TokenError> {
    let short = TokenError::Malformed { at: end };
    let version = *raw.first().ok_or(short)?;
    if version != VERSION {
        return Err(TokenError::Version(version));
    }
    let (body, tag) = raw.split_last_chunk_mut::<MAC>().ok_or(short)?;
    let &[_, ref fields @ ..] = body.first_chunk::<HEAD>().ok_or(short)?;
    let key = keys.into_iter().find(|key| key.mac().update(body).is(tag)).ok_or(TokenError::Mac)?;
    let (seconds, iv) = fields.split_first_chunk().ok_or(short)?;
    let (seconds, iv) = (u64::from_be_bytes(*seconds), *iv.first_chunk::<BLOCK>().ok_or(short)?);
    policy.check_time(now, seconds)?;
    let text = body.get_mut(HEAD..).unwrap_or_default();
    let aes: Aes128Dec = key.cipher();
    let cipher = cbc::Decryptor::inner_iv_init(&aes, &iv.into());
    let plain = cipher.decrypt_padded_mut::<Pkcs7>(text).map_err(|_| TokenError::Padding)?.len();
    body.copy_within(HEAD..HEAD.saturating_add(plain), 0);
    Ok((seconds, plain))
}

/// Decodes into `room`, which has 3 octets for each 4 begun.
fn decode<'r>(
    decoding: Decoding,
    token: &[u8],
    room: &'r mut [u8],
) -> Result<&'r mut [u8], TokenError> {
    let n = match decoding {
        Decoding::Strict => URL_SAFE.decode_slice(token, room),
        Decoding::Crate => {
            let bare = token.iter().rposition(|&c| c != b'=').map_or(0, |at| at.saturating_add(1));
            URL_SAFE_NO_PAD.decode_slice(token.get(..bare).unwrap_or_default(), room)
        }
        // What is right by the strict rule means the same by Python's.
        Decoding::Python => match URL_SAFE.decode_slice(token, room) {
            Ok(n) => Ok(n),
            Err(_) => return decode_python(token, room),
        },
    };
    match n {
        Ok(n) => room.get_mut(..n).ok_or(TokenError::TooLong),
        Err(DecodeSliceError::DecodeError(
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _),
        )) => Err(TokenError::Malformed { at }),
        Err(_) => Err(TokenError::Malformed { at: token.len() }),
    }
}

/// As CPython's `binascii.a2b_base64` when it is not strict, with both alphabets: whatever is in
/// neither is skipped, padding that cannot end a group too; the first that can ends it all.
fn decode_python<'r>(token: &[u8], room: &'r mut [u8]) -> Result<&'r mut [u8], TokenError> {
    let short = TokenError::Malformed { at: token.len() };
    // Of the group of four at hand: characters, their bits that wait, padding in a row.
    let (mut place, mut bits, mut pads) = (0_usize, 0_u8, 0_usize);
    let mut free = room.iter_mut();
    let mut written = 0_usize;
    for &c in token {
        if c == b'=' {
            if place >= 2 {
                pads = pads.saturating_add(1);
                if place.saturating_add(pads) >= 4 {
                    place = 0;
                    break;
                }
            }
            continue;
        }
        let Some(six) = value(c) else { continue };
        pads = 0;
        let octet = match place {
            0 => None,
            1 => Some(bits << 2 | six >> 4),
            2 => Some(bits << 4 | six >> 2),
            _ => Some(bits << 6 | six),
        };
        bits = six;
        place = place.saturating_add(1) % 4;
        if let Some(octet) = octet {
            *free.next().ok_or(short)? = octet;
            written = written.saturating_add(1);
        }
    }
    match place {
        0 => room.get_mut(..written).ok_or(short),
        _ => Err(short),
    }
}

/// The six bits of a character of either alphabet.
fn value(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(c.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(c.wrapping_sub(b'0').wrapping_add(52)),
        b'-' | b'+' => Some(62),
        b'_' | b'/' => Some(63),
        _ => None,
    }
}
