//! The framed dialect: what each frame holds. Parsing and encoding are inverses.
//!
//! Integers are in network order; `str8` is a length octet and UTF-8; `text` is UTF-8 up to the
//! end of the body. Times are milliseconds since 1970. Both sides send [`PREFACE`] first.
//!
//! | type | to the server | to the member |
//! |---|---|---|
//! | 0x81 HELLO | max_frame u32, session 16 octets (zero: none), nick str8 | |
//! | 0x82 WELCOME | | max_frame u32, session 16 octets, epoch u64, time u64, nick str8 |
//! | 0x83 JOIN | since u64, room str8 | seq u64, time u64, room str8, nick str8 |
//! | 0x84 PART | room str8 | seq u64, time u64, room str8, nick str8 |
//! | 0x85 NICK | nick str8 | seq u64, time u64, room str8, old str8, new str8 |
//! | 0x86 MSG | tag u32, manner u8, to str8, text | seq u64, time u64, manner u8, room str8, nick str8, text |
//! | 0x87 ACK | | tag u32, seq u64: all up to this tag are in the log |
//! | 0x88 HISTORY | from u64, count u32, room str8 | from u64, to u64, room str8; those entries follow at once |
//! | 0x89 GAP | | from u64, to u64, oldest u64, room str8 |
//! | 0x8A KEY | verb u8, room str8, then as [`Ask`] has it | verb u8, room str8, then as [`Tell`] has it |
//! | 0x8B ERROR | | code u16, fatal u8, tag u32, text |
//! | 0x8C BYE | (empty) | (empty) |
//! | 0x8D SEALED | tag u32, room str8, to str8, epoch u64, counter u64, token | seq u64, time u64, room str8, nick str8, sender u64, to str8, epoch u64, counter u64, token |
//! | 0x8E EPOCH | | seq u64, time u64, room str8, nick str8, epoch u64, fresh u8, check 16 octets |
//! | 0x8F HOLDER | | seq u64, time u64, room str8, nick str8, peer u64 |
//! | 0x01 WHO | room str8 | |
//! | 0x02 NAMES | | newest u64, total u32, room str8, nicks str8 ... |
//! | 0x03 PING, 0x04 PONG | number u64 | number u64 |

use bytes::BytesMut;
use semfio_frame::{Fields, Malformed, Writer};
use semfio_keysync::token_len;

use crate::text::{BadText, MAX_TEXT};

pub use semfio_frame::PREFACE;

/// The largest frame body either side takes by default, and the least a peer may announce.
pub const MAX_FRAME: usize = 64 * 1024;

/// The longest token: a text, and what is sealed with it.
pub const MAX_TOKEN: usize = token_len(MAX_TEXT + 1024);
/// The longest body of a relay: wrapped keys of 17 epochs take less than half.
pub const MAX_RELAY: usize = 4 * 1024;

const HELLO: u8 = 0x81;
const WELCOME: u8 = 0x82;
const JOIN: u8 = 0x83;
const PART: u8 = 0x84;
const NICK: u8 = 0x85;
const MSG: u8 = 0x86;
const ACK: u8 = 0x87;
const HISTORY: u8 = 0x88;
const GAP: u8 = 0x89;
const KEY: u8 = 0x8A;
const ERROR: u8 = 0x8B;
const BYE: u8 = 0x8C;
const SEALED: u8 = 0x8D;
const EPOCH: u8 = 0x8E;
const HOLDER: u8 = 0x8F;
const WHO: u8 = 0x01;
const NAMES: u8 = 0x02;
const PING: u8 = 0x03;
const PONG: u8 = 0x04;

/// Proves that a member who comes back is the one who was there: 16 random octets.
pub type SessionKey = [u8; 16];

/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Said to a room.
    Text,
    /// Done in a room (`/me`).
    Action,
    /// To one member alone.
    Private,
}

/// A frame from a member to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first frame, once.
    Hello {
        /// The largest body it takes; at least [`MAX_FRAME`].
        max_frame: u32,
        /// From an earlier WELCOME, or zeros.
        session: SessionKey,
        /// The name it wants.
        nick: &'a str,
    },
    /// Enters a room. `since` is the last sequence number it has seen there, 0 for a newcomer.
    Join {
        /// Last seen.
        since: u64,
        /// Which room.
        room: &'a str,
    },
    /// Leaves a room.
    Part {
        /// Which room.
        room: &'a str,
    },
    /// Takes another name.
    Nick {
        /// The new name.
        nick: &'a str,
    },
    /// Says something.
    Msg {
        /// Comes back in the ACK.
        tag: u32,
        /// To a room or to a member.
        manner: Manner,
        /// Room, or nick if private.
        to: &'a str,
        /// What.
        text: &'a str,
    },
    /// Says something sealed.
    Sealed {
        /// Comes back in the ACK.
        tag: u32,
        /// In which room.
        room: &'a str,
        /// To whom in the room; empty: to all of it.
        to: &'a str,
        /// Under which key.
        epoch: u64,
        /// Which one of the sender's under this key.
        counter: u64,
        /// What.
        token: &'a str,
    },
    /// Asks for something about the keys of a room.
    Key {
        /// Which room.
        room: &'a str,
        /// What.
        ask: Ask<'a>,
    },
    /// Asks who is in a room.
    Who {
        /// Which room.
        room: &'a str,
    },
    /// Asks for entries the room still keeps.
    History {
        /// The first sequence number.
        from: u64,
        /// How many at most.
        count: u32,
        /// Which room.
        room: &'a str,
    },
    /// To be answered with the same number.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
    /// Leaves.
    Bye,
}

/// What a KEY frame asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// 0, `since` u64: wants to enter with a passphrase; `since` as in JOIN.
    Enter {
        /// Last seen.
        since: u64,
    },
    /// 1, `peer` u64, body: hands this on. Who is not the holder reaches only the holder.
    Relay {
        /// To whom.
        peer: u64,
        /// At most [`MAX_RELAY`] octets, not looked into.
        body: &'a [u8],
    },
    /// 2, `peer` u64: a candidate may enter. From the holder.
    Admit {
        /// Whom.
        peer: u64,
    },
    /// 3, `peer` u64, why u8: a candidate may not. From the holder.
    Refuse {
        /// Whom.
        peer: u64,
        /// Why.
        why: Why,
    },
    /// 4, `epoch` u64, fresh u8, check 16 octets: this key is the one from here on. From the holder.
    Epoch {
        /// Its number; it only rises.
        epoch: u64,
        /// Whether it cannot be derived from the one before.
        fresh: bool,
        /// Tells those who have the key that it is the same.
        check: [u8; 16],
    },
}

/// What a KEY frame tells a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell<'a> {
    /// 0, `you` u64, `holder` u64: at the door, or the holder is another now. If both are equal, the
    /// room is opened and its opener seated.
    Door {
        /// Its number in this room until it leaves; never 0.
        you: u64,
        /// Who can admit it.
        holder: u64,
    },
    /// 1, `peer` u64, body: from that member or candidate.
    Relay {
        /// From whom.
        peer: u64,
        /// As it was sent.
        body: &'a [u8],
    },
    /// 2, `peer` u64, nick str8: a candidate is at the door. To the holder.
    Knock {
        /// Its number.
        peer: u64,
        /// Its name.
        nick: &'a str,
    },
    /// 3, why u8: off the door.
    Refused {
        /// Why.
        why: Why,
    },
    /// 4, `peer` u64: a candidate or a member is gone. To the holder.
    Gone {
        /// Which.
        peer: u64,
    },
}

/// Why a candidate is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// 1: it did not prove that it knows the passphrase.
    Proof,
    /// 2: somebody here has proved that name before.
    Name,
    /// 3: too many guesses; wait.
    Limit,
    /// 4: nobody admitted it in time.
    Timeout,
    /// 5, or any other number.
    Other(u8),
}

impl Why {
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Proof,
            2 => Self::Name,
            3 => Self::Limit,
            4 => Self::Timeout,
            other => Self::Other(other),
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Proof => 1,
            Self::Name => 2,
            Self::Limit => 3,
            Self::Timeout => 4,
            Self::Other(number) => number,
        }
    }
}

impl core::fmt::Display for Why {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Proof => "the passphrase is wrong",
            Self::Name => "somebody there has proved that name before",
            Self::Limit => "too many guesses; wait a while",
            Self::Timeout => "nobody answered in time",
            Self::Other(_) => "it is not let in",
        })
    }
}

/// A frame from the server to a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Response<'a> {
    /// Answers HELLO.
    Welcome {
        /// The largest body the server takes.
        max_frame: u32,
        /// For coming back after a broken connection.
        session: SessionKey,
        /// Another number after each start of the server: sequence numbers begin anew.
        epoch: u64,
        /// The server's time.
        time: u64,
        /// The name it got.
        nick: &'a str,
    },
    /// Something that happened in a room, or a private message (sequence number 0).
    Entry(Entry<'a>),
    /// What was sent up to this tag is in the log.
    Ack {
        /// Of the last message.
        tag: u32,
        /// Its place in the room's log; 0 for a private one.
        seq: u64,
    },
    /// The entries from `from` to `to` follow at once.
    History {
        /// First, or `to + 1` if there are none.
        from: u64,
        /// Last.
        to: u64,
        /// Which room.
        room: &'a str,
    },
    /// These entries will not come by themselves. Of a sealed room, the newest PART, HOLDER and EPOCH
    /// among them follow at once all the same.
    Gap {
        /// The first that is left out.
        from: u64,
        /// The last that is left out.
        to: u64,
        /// The oldest that HISTORY can still give.
        oldest: u64,
        /// Which room.
        room: &'a str,
    },
    /// Something about the keys of a room.
    Key {
        /// Which room.
        room: &'a str,
        /// What.
        tell: Tell<'a>,
    },
    /// Who is in a room.
    Names {
        /// Its newest sequence number.
        newest: u64,
        /// How many are there, maybe more than are named.
        total: u32,
        /// Which room.
        room: &'a str,
        /// Their names.
        names: Names<'a>,
    },
    /// Something is refused.
    Error {
        /// What.
        code: ErrorCode,
        /// Whether the server closes.
        fatal: bool,
        /// The message that is refused, or 0.
        tag: u32,
        /// For people.
        text: &'a str,
    },
    /// To be answered with the same number.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
    /// The server ends.
    Bye,
}

/// One entry of a room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Given by the server, rising by one; 0 for a private message.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Which room; whom, if private and not sealed.
    pub room: &'a str,
    /// Who.
    pub nick: &'a str,
    /// What.
    pub what: What<'a>,
}

/// What an [`Entry`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A text.
    Said(Manner, &'a str),
    /// Entered the room.
    Join,
    /// Left the room.
    Part,
    /// Is called so from here on.
    Nick(&'a str),
    /// A sealed text.
    Sealed(Sealed<'a>),
    /// The key is another from here on; by the holder.
    Epoch {
        /// Its number; it only rises.
        epoch: u64,
        /// Whether it cannot be derived from the one before.
        fresh: bool,
        /// Tells those who have the key that it is the same.
        check: [u8; 16],
    },
    /// The member of this number is the holder from here on.
    Holder(u64),
}

/// A sealed text, and what stands outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The sender's number.
    pub sender: u64,
    /// To whom in the room; empty: to all of it.
    pub to: &'a str,
    /// Under which key.
    pub epoch: u64,
    /// Which one of the sender's under this key.
    pub counter: u64,
    /// What.
    pub token: &'a str,
}

/// The names in a NAMES frame.
#[derive(Clone, Debug)]
pub struct Names<'a>(Fields<'a>);

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() { None } else { self.0.str8().ok() }
    }
}

/// What an ERROR is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 1: a frame or a preface is not as it must be.
    Malformed,
    /// 2: a frame, a line or a text is too long.
    TooLarge,
    /// 3: a frame that must not come now.
    Unexpected,
    /// 4: nothing came in time.
    Timeout,
    /// 5: no common version.
    Version,
    /// 6: another member has this name.
    NickInUse,
    /// 7: a text or a name holds what it must not.
    BadText,
    /// 8: not a member of that room.
    NotMember,
    /// 9: nobody has that name.
    NoSuchNick,
    /// 10: in as many rooms as one may be, or the server has as many as it may.
    TooManyRooms,
    /// 11: the one it is meant for does not read at the moment.
    TooSlow,
    /// 12: the room is sealed, or the server takes nothing in clear.
    Sealed,
    /// 13: the room is not sealed.
    NotSealed,
    /// Any other number.
    Other(u16),
}

impl ErrorCode {
    const TABLE: [(u16, Self); 13] = [
        (1, Self::Malformed),
        (2, Self::TooLarge),
        (3, Self::Unexpected),
        (4, Self::Timeout),
        (5, Self::Version),
        (6, Self::NickInUse),
        (7, Self::BadText),
        (8, Self::NotMember),
        (9, Self::NoSuchNick),
        (10, Self::TooManyRooms),
        (11, Self::TooSlow),
        (12, Self::Sealed),
        (13, Self::NotSealed),
    ];

    fn from_number(number: u16) -> Self {
        let known = Self::TABLE.iter().find(|(n, _)| *n == number);
        known.map_or(Self::Other(number), |&(_, code)| code)
    }

    fn number(self) -> u16 {
        if let Self::Other(number) = self {
            return number;
        }
        Self::TABLE.iter().find(|(_, code)| *code == self).map_or(0, |&(n, _)| n)
    }
}

impl From<BadText> for ErrorCode {
    fn from(bad: BadText) -> Self {
        if bad == BadText::TooLong { Self::TooLarge } else { Self::BadText }
    }
}

/// Why a frame could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A type that must be understood and is not.
    Unknown(u8),
    /// The body of this type is not as it must be.
    Malformed(u8, Malformed),
    /// A number that names nothing: a manner, a verb, a truth.
    Value(u8),
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(kind) => write!(f, "frame of unknown type {kind:#04x}"),
            Self::Malformed(kind, how) => write!(f, "frame of type {kind:#04x} {how}"),
            Self::Value(kind) => write!(f, "frame of type {kind:#04x} holds an unknown value"),
        }
    }
}

impl core::error::Error for WireError {}

impl<'a> Request<'a> {
    /// Parses a body; `None` is a type to be skipped.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Option<Self>, WireError> {
        let malformed = |how| WireError::Malformed(kind, how);
        let parsed = Self::fields(kind, Fields::new(body)).map_err(malformed)?;
        match parsed {
            Some(Ok(request)) => Ok(Some(request)),
            Some(Err(())) => Err(WireError::Value(kind)),
            None if kind & 0x80 != 0 => Err(WireError::Unknown(kind)),
            None => Ok(None),
        }
    }

    #[allow(clippy::type_complexity)]
    fn fields(kind: u8, mut f: Fields<'a>) -> Result<Option<Result<Self, ()>>, Malformed> {
        let request = match kind {
            HELLO => Self::Hello { max_frame: f.u32()?, session: f.array()?, nick: f.str8()? },
            JOIN => Self::Join { since: f.u64()?, room: f.str8()? },
            PART => Self::Part { room: f.str8()? },
            NICK => Self::Nick { nick: f.str8()? },
            MSG => {
                let (tag, manner, to) = (f.u32()?, manner(f.u8()?), f.str8()?);
                let text = f.text()?;
                return Ok(Some(manner.map(|manner| Self::Msg { tag, manner, to, text })));
            }
            SEALED => {
                let (tag, room, to) = (f.u32()?, f.str8()?, f.str8()?);
                let (epoch, counter) = (f.u64()?, f.u64()?);
                let token = f.text()?;
                return Ok(Some(Ok(Self::Sealed { tag, room, to, epoch, counter, token })));
            }
            KEY => {
                let (verb, room) = (f.u8()?, f.str8()?);
                let ask = Ask::fields(verb, f)?;
                return Ok(Some(ask.map(|ask| Self::Key { room, ask })));
            }
            WHO => Self::Who { room: f.str8()? },
            HISTORY => Self::History { from: f.u64()?, count: f.u32()?, room: f.str8()? },
            PING => Self::Ping(f.u64()?),
            PONG => Self::Pong(f.u64()?),
            BYE => Self::Bye,
            _ => return Ok(None),
        };
        f.end()?;
        Ok(Some(Ok(request)))
    }

    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        let kind = match self {
            Self::Hello { .. } => HELLO,
            Self::Join { .. } => JOIN,
            Self::Part { .. } => PART,
            Self::Nick { .. } => NICK,
            Self::Msg { .. } => MSG,
            Self::Sealed { .. } => SEALED,
            Self::Key { .. } => KEY,
            Self::Who { .. } => WHO,
            Self::History { .. } => HISTORY,
            Self::Ping(_) => PING,
            Self::Pong(_) => PONG,
            Self::Bye => BYE,
        };
        let mut w = Writer::begin(out, kind);
        match *self {
            Self::Hello { max_frame, ref session, nick } => {
                w.put_u32(max_frame);
                w.put_array(session);
                w.put_str8(nick);
            }
            Self::Join { since, room } => {
                w.put_u64(since);
                w.put_str8(room);
            }
            Self::Part { room } | Self::Who { room } => w.put_str8(room),
            Self::Nick { nick } => w.put_str8(nick),
            Self::Msg { tag, manner, to, text } => {
                w.put_u32(tag);
                w.put_u8(manner as u8);
                w.put_str8(to);
                w.put_text(text);
            }
            Self::Sealed { tag, room, to, epoch, counter, token } => {
                w.put_u32(tag);
                w.put_str8(room);
                w.put_str8(to);
                w.put_u64(epoch);
                w.put_u64(counter);
                w.put_text(token);
            }
            Self::Key { room, ask } => ask.put(room, &mut w),
            Self::History { from, count, room } => {
                w.put_u64(from);
                w.put_u32(count);
                w.put_str8(room);
            }
            Self::Ping(number) | Self::Pong(number) => w.put_u64(number),
            Self::Bye => {}
        }
        w.end();
    }
}

impl<'a> Ask<'a> {
    fn fields(verb: u8, mut f: Fields<'a>) -> Result<Result<Self, ()>, Malformed> {
        let ask = match verb {
            0 => Self::Enter { since: f.u64()? },
            1 => {
                let peer = f.u64()?;
                return Ok(Ok(Self::Relay { peer, body: f.octets() }));
            }
            2 => Self::Admit { peer: f.u64()? },
            3 => Self::Refuse { peer: f.u64()?, why: Why::from_number(f.u8()?) },
            4 => {
                let (epoch, fresh, check) = (f.u64()?, truth(f.u8()?), f.array()?);
                f.end()?;
                return Ok(fresh.map(|fresh| Self::Epoch { epoch, fresh, check }));
            }
            _ => return Ok(Err(())),
        };
        f.end()?;
        Ok(Ok(ask))
    }

    fn put(self, room: &str, w: &mut Writer<'_>) {
        w.put_u8(match self {
            Self::Enter { .. } => 0,
            Self::Relay { .. } => 1,
            Self::Admit { .. } => 2,
            Self::Refuse { .. } => 3,
            Self::Epoch { .. } => 4,
        });
        w.put_str8(room);
        match self {
            Self::Enter { since: number } | Self::Admit { peer: number } => w.put_u64(number),
            Self::Relay { peer, body } => {
                w.put_u64(peer);
                w.put_octets(body);
            }
            Self::Refuse { peer, why } => {
                w.put_u64(peer);
                w.put_u8(why.number());
            }
            Self::Epoch { epoch, fresh, check } => put_epoch(w, epoch, fresh, &check),
        }
    }
}

impl<'a> Tell<'a> {
    fn fields(verb: u8, mut f: Fields<'a>) -> Result<Result<Self, ()>, Malformed> {
        let tell = match verb {
            0 => Self::Door { you: f.u64()?, holder: f.u64()? },
            1 => {
                let peer = f.u64()?;
                return Ok(Ok(Self::Relay { peer, body: f.octets() }));
            }
            2 => Self::Knock { peer: f.u64()?, nick: f.str8()? },
            3 => Self::Refused { why: Why::from_number(f.u8()?) },
            4 => Self::Gone { peer: f.u64()? },
            _ => return Ok(Err(())),
        };
        f.end()?;
        Ok(Ok(tell))
    }

    fn put(self, room: &str, w: &mut Writer<'_>) {
        w.put_u8(match self {
            Self::Door { .. } => 0,
            Self::Relay { .. } => 1,
            Self::Knock { .. } => 2,
            Self::Refused { .. } => 3,
            Self::Gone { .. } => 4,
        });
        w.put_str8(room);
        match self {
            Self::Door { you, holder } => {
                w.put_u64(you);
                w.put_u64(holder);
            }
            Self::Relay { peer, body } => {
                w.put_u64(peer);
                w.put_octets(body);
            }
            Self::Knock { peer, nick } => {
                w.put_u64(peer);
                w.put_str8(nick);
            }
            Self::Refused { why } => w.put_u8(why.number()),
            Self::Gone { peer } => w.put_u64(peer),
        }
    }
}

impl<'a> Response<'a> {
    /// Parses a body; `None` is a type to be skipped.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Option<Self>, WireError> {
        let malformed = |how| WireError::Malformed(kind, how);
        let parsed = Self::fields(kind, Fields::new(body)).map_err(malformed)?;
        match parsed {
            Some(Ok(response)) => Ok(Some(response)),
            Some(Err(())) => Err(WireError::Value(kind)),
            None if kind & 0x80 != 0 => Err(WireError::Unknown(kind)),
            None => Ok(None),
        }
    }

    #[allow(clippy::type_complexity)]
    fn fields(kind: u8, mut f: Fields<'a>) -> Result<Option<Result<Self, ()>>, Malformed> {
        let response = match kind {
            WELCOME => Self::Welcome {
                max_frame: f.u32()?,
                session: f.array()?,
                epoch: f.u64()?,
                time: f.u64()?,
                nick: f.str8()?,
            },
            JOIN | PART | NICK | HOLDER => {
                let (seq, time, room, nick) = (f.u64()?, f.u64()?, f.str8()?, f.str8()?);
                let what = match kind {
                    JOIN => What::Join,
                    PART => What::Part,
                    HOLDER => What::Holder(f.u64()?),
                    _ => What::Nick(f.str8()?),
                };
                Self::Entry(Entry { seq, time, room, nick, what })
            }
            MSG => {
                let (seq, time, manner) = (f.u64()?, f.u64()?, manner(f.u8()?));
                let (room, nick, text) = (f.str8()?, f.str8()?, f.text()?);
                return Ok(Some(manner.map(|manner| {
                    let what = What::Said(manner, text);
                    Self::Entry(Entry { seq, time, room, nick, what })
                })));
            }
            SEALED => {
                let (seq, time, room, nick) = (f.u64()?, f.u64()?, f.str8()?, f.str8()?);
                let (sender, to) = (f.u64()?, f.str8()?);
                let (epoch, counter, token) = (f.u64()?, f.u64()?, f.text()?);
                let what = What::Sealed(Sealed { sender, to, epoch, counter, token });
                return Ok(Some(Ok(Self::Entry(Entry { seq, time, room, nick, what }))));
            }
            EPOCH => {
                let (seq, time, room, nick) = (f.u64()?, f.u64()?, f.str8()?, f.str8()?);
                let (epoch, fresh, check) = (f.u64()?, truth(f.u8()?), f.array()?);
                f.end()?;
                return Ok(Some(fresh.map(|fresh| {
                    let what = What::Epoch { epoch, fresh, check };
                    Self::Entry(Entry { seq, time, room, nick, what })
                })));
            }
            KEY => {
                let (verb, room) = (f.u8()?, f.str8()?);
                let tell = Tell::fields(verb, f)?;
                return Ok(Some(tell.map(|tell| Self::Key { room, tell })));
            }
            ACK => Self::Ack { tag: f.u32()?, seq: f.u64()? },
            HISTORY => Self::History { from: f.u64()?, to: f.u64()?, room: f.str8()? },
            GAP => {
                let (from, to, oldest) = (f.u64()?, f.u64()?, f.u64()?);
                Self::Gap { from, to, oldest, room: f.str8()? }
            }
            NAMES => {
                let (newest, total, room) = (f.u64()?, f.u32()?, f.str8()?);
                let names = Names(f.clone());
                while !f.is_empty() {
                    f.str8()?;
                }
                Self::Names { newest, total, room, names }
            }
            ERROR => {
                let code = ErrorCode::from_number(f.u16()?);
                let (fatal, tag) = (f.u8()? != 0, f.u32()?);
                return Ok(Some(Ok(Self::Error { code, fatal, tag, text: f.text()? })));
            }
            PING => Self::Ping(f.u64()?),
            PONG => Self::Pong(f.u64()?),
            BYE => Self::Bye,
            _ => return Ok(None),
        };
        f.end()?;
        Ok(Some(Ok(response)))
    }

    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        let kind = match self {
            Self::Welcome { .. } => WELCOME,
            Self::Entry(entry) => return entry.put(out),
            Self::Ack { .. } => ACK,
            Self::History { .. } => HISTORY,
            Self::Gap { .. } => GAP,
            Self::Key { .. } => KEY,
            Self::Names { .. } => NAMES,
            Self::Error { .. } => ERROR,
            Self::Ping(_) => PING,
            Self::Pong(_) => PONG,
            Self::Bye => BYE,
        };
        let mut w = Writer::begin(out, kind);
        match *self {
            Self::Welcome { max_frame, ref session, epoch, time, nick } => {
                w.put_u32(max_frame);
                w.put_array(session);
                w.put_u64(epoch);
                w.put_u64(time);
                w.put_str8(nick);
            }
            Self::Ack { tag, seq } => {
                w.put_u32(tag);
                w.put_u64(seq);
            }
            Self::History { from, to, room } => {
                w.put_u64(from);
                w.put_u64(to);
                w.put_str8(room);
            }
            Self::Gap { from, to, oldest, room } => {
                w.put_u64(from);
                w.put_u64(to);
                w.put_u64(oldest);
                w.put_str8(room);
            }
            Self::Key { room, tell } => tell.put(room, &mut w),
            Self::Names { newest, total, room, ref names } => {
                put_names_head(&mut w, newest, total, room);
                names.clone().for_each(|name| w.put_str8(name));
            }
            Self::Error { code, fatal, tag, text } => {
                w.put_u16(code.number());
                w.put_u8(fatal.into());
                w.put_u32(tag);
                w.put_text(text);
            }
            Self::Ping(number) | Self::Pong(number) => w.put_u64(number),
            Self::Entry(_) | Self::Bye => {}
        }
        w.end();
    }
}

impl Entry<'_> {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        let kind = match self.what {
            What::Said(..) => MSG,
            What::Join => JOIN,
            What::Part => PART,
            What::Nick(_) => NICK,
            What::Sealed(_) => SEALED,
            What::Epoch { .. } => EPOCH,
            What::Holder(_) => HOLDER,
        };
        let mut w = Writer::begin(out, kind);
        w.put_u64(self.seq);
        w.put_u64(self.time);
        if let What::Said(manner, _) = self.what {
            w.put_u8(manner as u8);
        }
        w.put_str8(self.room);
        w.put_str8(self.nick);
        match self.what {
            What::Said(_, text) => w.put_text(text),
            What::Nick(new) => w.put_str8(new),
            What::Sealed(Sealed { sender, to, epoch, counter, token }) => {
                w.put_u64(sender);
                w.put_str8(to);
                w.put_u64(epoch);
                w.put_u64(counter);
                w.put_text(token);
            }
            What::Epoch { epoch, fresh, check } => put_epoch(&mut w, epoch, fresh, &check),
            What::Holder(peer) => w.put_u64(peer),
            What::Join | What::Part => {}
        }
        w.end();
    }
}

/// Appends a NAMES frame from names that lie anywhere; those beyond [`MAX_FRAME`] are left out.
pub fn put_names<'n>(
    newest: u64,
    total: u32,
    room: &str,
    names: impl Iterator<Item = &'n str>,
    out: &mut BytesMut,
) {
    let limit = out.len().saturating_add(MAX_FRAME);
    let mut w = Writer::begin(out, NAMES);
    put_names_head(&mut w, newest, total, room);
    for name in names {
        if w.position().saturating_add(name.len()).saturating_add(1) > limit {
            break;
        }
        w.put_str8(name);
    }
    w.end();
}

fn put_names_head(w: &mut Writer<'_>, newest: u64, total: u32, room: &str) {
    w.put_u64(newest);
    w.put_u32(total);
    w.put_str8(room);
}

fn put_epoch(w: &mut Writer<'_>, epoch: u64, fresh: bool, check: &[u8; 16]) {
    w.put_u64(epoch);
    w.put_u8(fresh.into());
    w.put_array(check);
}

fn truth(number: u8) -> Result<bool, ()> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(()),
    }
}

fn manner(number: u8) -> Result<Manner, ()> {
    match number {
        0 => Ok(Manner::Text),
        1 => Ok(Manner::Action),
        2 => Ok(Manner::Private),
        _ => Err(()),
    }
}
