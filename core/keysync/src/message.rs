//! What members say to each other about keys, and what is inside their tokens.
//!
//! A relay body is a type octet and fields, as in a frame:
//!
//! | type | fields | from, to |
//! |---|---|---|
//! | 1 START | pake 33, last u64, proof 16, nick str8 | who needs keys, the holder |
//! | 2 REPLY | which 8, pake and MAC 65 | the holder |
//! | 3 CONFIRM | MAC 32, token of a standing | who needs keys |
//! | 4 WRAP | token of keys | the holder |
//! | 5 RESYNC | token of a last epoch | a member, the holder |
//! | 6 FAIL | which 8, why u8 | either: a hint without proof |
//!
//! `last` is the last epoch that was active at the sender, 0 if none was. `proof` is the beginning of
//! a MAC over this START under the key of that epoch, zeros if it has it no longer: it tells members
//! from strangers before anything was agreed on. `which` is the end of the START that is answered: who
//! held the room, was passed over and holds it again answers what was sent to it in its first time
//! too, and that must not be taken for a wrong answer to the second. A body with anything after its last field is none.
//!
//! Fernet has no associated data, so whatever a token must not be torn from stands in it:
//!
//! | token | sealed with | plaintext |
//! |---|---|---|
//! | standing | the pair's key to the holder | 1 u8, identity 32, last u64 |
//! | last epoch | the pair's key to the holder | 2 u8, last u64 |
//! | keys | the pair's key from the holder | 3 u8, room str8, member u64, then epoch u64, covers u64, key 32 each |
//! | text | the epoch's key | 1 u8 (version), room str8, epoch u64, sender u64, counter u64, manner u8, nick str8, to str8, text |

use alloc::vec::Vec;
use semfio_frame::{Fields, Malformed};

use crate::agreement::{CONFIRM, REPLY, START};

/// The longest text that is sealed, in octets: what a chat takes.
pub const MAX_TEXT: usize = 16 * 1024;
/// The longest relay body: wrapped keys of [`MAX_WRAPPED`] epochs take less than half of it.
pub const MAX_BODY: usize = 4 * 1024;
/// Epochs in one WRAP: those a receiver keeps, and the next.
pub const MAX_WRAPPED: usize = 17;

/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// 0: said to the room.
    Text,
    /// 1: done in the room.
    Action,
    /// 2: to one member. Everybody who has the room's key could read it, and nobody else.
    Private,
}

/// Why somebody is not let in; the numbers stand in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 1: it did not prove that it knows the passphrase.
    Proof,
    /// 2: somebody who is here, or may come back, has proved that name before.
    Name,
    /// 3: too many guesses, or too many members; wait.
    Limit,
    /// 4: nobody answered in time.
    Timeout,
    /// 5 and all others.
    Other,
}

impl Refusal {
    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Proof => 1,
            Self::Name => 2,
            Self::Limit => 3,
            Self::Timeout => 4,
            Self::Other => 5,
        }
    }

    /// What that number says.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Proof,
            2 => Self::Name,
            3 => Self::Limit,
            4 => Self::Timeout,
            _ => Self::Other,
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Proof => "the passphrase was not proved",
            Self::Name => "somebody here has proved that name before",
            Self::Limit => "too many guesses; wait",
            Self::Timeout => "nobody answered in time",
            Self::Other => "refused",
        })
    }
}

/// The length of a proof that a START comes from a member.
pub(crate) const PROOF: usize = 16;

/// The end of a START, to tell which is answered.
pub(crate) type Which = [u8; 8];

/// The end of a pake message.
pub(crate) fn which(pake: &[u8; START]) -> Which {
    pake.last_chunk().copied().unwrap_or_default()
}

/// A relay body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Start { pake: [u8; START], last: u64, proof: [u8; PROOF], nick: &'a str },
    Reply { which: Which, reply: [u8; REPLY] },
    Confirm { mac: [u8; CONFIRM], standing: &'a [u8] },
    Wrap(&'a [u8]),
    Resync(&'a [u8]),
    Fail { which: Which, why: Refusal },
}

impl<'a> Body<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        if body.len() > MAX_BODY {
            return Err(Malformed::Long);
        }
        let mut f = Fields::new(body);
        let parsed = match f.u8()? {
            1 => {
                Self::Start { pake: f.array()?, last: f.u64()?, proof: f.array()?, nick: f.str8()? }
            }
            2 => Self::Reply { which: f.array()?, reply: f.array()? },
            3 => return Ok(Self::Confirm { mac: f.array()?, standing: f.octets() }),
            4 => return Ok(Self::Wrap(f.octets())),
            5 => return Ok(Self::Resync(f.octets())),
            6 => Self::Fail { which: f.array()?, why: Refusal::from_number(f.u8()?) },
            // Nobody sends another, and an older member could do nothing with it.
            _ => return Err(Malformed::Long),
        };
        f.end()?;
        Ok(parsed)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Start { pake, last, proof, nick } => {
                out.push(1);
                out.extend_from_slice(pake);
                out.extend_from_slice(&last.to_be_bytes());
                out.extend_from_slice(proof);
                put_str8(out, nick);
            }
            Self::Reply { which, reply } => {
                out.push(2);
                out.extend_from_slice(which);
                out.extend_from_slice(reply);
            }
            Self::Confirm { mac, standing } => {
                out.push(3);
                out.extend_from_slice(mac);
                out.extend_from_slice(standing);
            }
            Self::Wrap(token) => {
                out.push(4);
                out.extend_from_slice(token);
            }
            Self::Resync(token) => {
                out.push(5);
                out.extend_from_slice(token);
            }
            Self::Fail { which, why } => {
                out.push(6);
                out.extend_from_slice(which);
                out.push(why.number());
            }
        }
    }
}

/// The plaintext of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed<'a> {
    pub(crate) room: &'a str,
    pub(crate) epoch: u64,
    pub(crate) sender: u64,
    pub(crate) counter: u64,
    pub(crate) manner: Manner,
    pub(crate) nick: &'a str,
    pub(crate) to: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> Sealed<'a> {
    pub(crate) fn parse(plain: &'a [u8]) -> Option<Self> {
        let mut f = Fields::new(plain);
        if f.u8().ok()? != 1 {
            return None;
        }
        Some(Self {
            room: f.str8().ok()?,
            epoch: f.u64().ok()?,
            sender: f.u64().ok()?,
            counter: f.u64().ok()?,
            manner: match f.u8().ok()? {
                0 => Manner::Text,
                1 => Manner::Action,
                2 => Manner::Private,
                _ => return None,
            },
            nick: f.str8().ok()?,
            to: f.str8().ok()?,
            text: f.text().ok().filter(|text| text.len() <= MAX_TEXT)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(1);
        put_str8(out, self.room);
        for number in [self.epoch, self.sender, self.counter] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(match self.manner {
            Manner::Text => 0,
            Manner::Action => 1,
            Manner::Private => 2,
        });
        put_str8(out, self.nick);
        put_str8(out, self.to);
        out.extend_from_slice(self.text.as_bytes());
    }
}

/// A string of at most 255 octets; callers keep that limit, what is over it is cut.
pub(crate) fn put_str8(out: &mut Vec<u8>, string: &str) {
    let string = short(string);
    out.push(string.len() as u8); // at most 255, see the line above
    out.extend_from_slice(string.as_bytes());
}

/// The longest head of `string` that fits a str8.
pub(crate) fn short(string: &str) -> &str {
    let mut end = string.len().min(usize::from(u8::MAX));
    while !string.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    string.get(..end).unwrap_or_default()
}
