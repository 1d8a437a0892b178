//! The framed dialect: what each frame holds. Parsing and encoding are inverses.
//!
//! Integers are in network order; `str16` is a length of 16 bits and UTF-8; `text` is UTF-8 up to
//! the end of the body; a hash is 32 octets of BLAKE3; a time is milliseconds since 1970. Both sides
//! send [`PREFACE`] first, then the client HELLO and the server WELCOME.
//!
//! A *tag* is the asker's number for a request, and comes back in all that answers it. Requests are
//! answered one after the other. GET goes to whoever has the file: to the server, or, as long as a
//! PUT is not answered, to the client, which then asks for nothing else. So the same code serves
//! and fetches in both directions, and no frame has to list what is missing: it is asked for. PUT
//! is answered with DONE or ERROR, and WAIT tells meanwhile how much of the file is proved. Before
//! that ERROR each GET that is not answered is cancelled, so that the next PUT finds none.
//!
//! | type | to whom | holds |
//! |---|---|---|
//! | 0x81 HELLO | server | max_frame u32 |
//! | 0x82 WELCOME | client | max_frame u32, writable u8 |
//! | 0x83 LIST | server | tag u32, folder str16, after text: a folder's names behind `after` |
//! | 0x84 ENTRIES | client | tag u32, more u8, then kind u8, size u64, modified u64, name str16 ... |
//! | 0x85 STAT | server | tag u32, hashed u8, name text |
//! | 0x86 META | client | tag u32, kind u8, size u64, modified u64, hash (zeros: not asked for) |
//! | 0x87 GET | source | tag u32, part u8, hash, size u64, name str16, then offset u64, length u64 ... |
//! | 0x88 BODY | asker | some of the stream that answers GET: see below |
//! | 0x89 DONE | asker | tag u32, hash: all of the stream was sent; to the client: PUT is done |
//! | 0x8A PUT | server | tag u32, replace u8, size u64, modified u64, hash, name text |
//! | 0x8B ERROR | both | tag u32 (0: of no request, and the last frame), code u16, text |
//! | 0x8C CANCEL | both | tag u32: no more of this is wanted; the answer still ends in DONE or ERROR |
//! | 0x8D BYE | both | (empty) |
//! | 0x8E FOLDER | server | tag u32, name text: such a folder is made; DONE has a hash of zeros |
//! | 0x8F START | server | 33 octets: instead of HELLO, by a client with a passphrase |
//! | 0x90 REPLY | client | 65 octets: answers START |
//! | 0x91 CONFIRM | server | 32 octets: from here on all frames travel in sealed records |
//! | 0x01 WAIT | both | tag u32, done u64, of u64: so many bytes of the file are hashed, or proved |
//!
//! The stream that answers GET is what [`Sender`](crate::tree::Sender) gives: pairs of hashes and
//! groups of content in the order of the tree, without anything between them. Its length follows
//! from the ranges. A BODY frame ends anywhere in it and holds at most [`MAX_BODY`] octets; it is
//! the one frame that is told in pieces.

use bytes::BytesMut;
use semfio_frame::{Fields, Malformed, Writer};
use semfio_keysync::{CONFIRM as CONFIRM_LEN, REPLY as REPLY_LEN, START as START_LEN};

use crate::tree::Hash;

pub use semfio_frame::PREFACE;

/// The largest body of a frame but BODY, and the least a peer may announce to take: 1,024 ranges
/// and the longest name take a third of it.
pub const MAX_FRAME: usize = 64 * 1024;
/// The largest body of a BODY frame. What was begun must be sent, so this is also what still comes
/// after CANCEL.
pub const MAX_BODY: usize = 1024 * 1024;

const HELLO: u8 = 0x81;
const WELCOME: u8 = 0x82;
const LIST: u8 = 0x83;
const ENTRIES: u8 = 0x84;
const STAT: u8 = 0x85;
const META: u8 = 0x86;
const GET: u8 = 0x87;
/// The type of a BODY frame, which is no [`Message`].
pub const BODY: u8 = 0x88;
const DONE: u8 = 0x89;
const PUT: u8 = 0x8A;
const ERROR: u8 = 0x8B;
const CANCEL: u8 = 0x8C;
const BYE: u8 = 0x8D;
const FOLDER: u8 = 0x8E;
const START: u8 = 0x8F;
const REPLY: u8 = 0x90;
const CONFIRM: u8 = 0x91;
const WAIT: u8 = 0x01;

/// Whether a frame of this type asks for something that takes its turn.
pub(crate) fn is_request(kind: u8) -> bool {
    matches!(kind, LIST | STAT | GET | PUT | FOLDER)
}

/// A frame, but BODY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The client's first.
    Hello {
        /// The largest body it takes; at least [`MAX_FRAME`].
        max_frame: u32,
    },
    /// The server's first.
    Welcome {
        /// The largest body it takes; at least [`MAX_FRAME`].
        max_frame: u32,
        /// Whether it takes files.
        writable: bool,
    },
    /// Asks for the names in a folder.
    List {
        /// Of the request.
        tag: u32,
        /// Which; empty for the root.
        folder: &'a str,
        /// Names up to and with this one are left out; empty to start.
        after: &'a str,
    },
    /// Answers LIST.
    Entries {
        /// Of the request.
        tag: u32,
        /// Whether there are names behind the last of these.
        more: bool,
        /// The names.
        entries: Entries<'a>,
    },
    /// Asks what a name is.
    Stat {
        /// Of the request.
        tag: u32,
        /// Whether the hash is wanted, which may take as long as reading the file.
        hashed: bool,
        /// Which; empty for the root.
        name: &'a str,
    },
    /// Answers STAT.
    Meta {
        /// Of the request.
        tag: u32,
        /// What it is.
        meta: Meta,
        /// Of the content; `None` if it was not asked for, or of a folder.
        hash: Option<Hash>,
    },
    /// Asks for parts of a file, as long as it is the one that was told of.
    Get(Get<'a>),
    /// Ends an answer well.
    Done {
        /// Of the request.
        tag: u32,
        /// Of the file.
        hash: Hash,
    },
    /// Offers a file.
    Put {
        /// Of the request.
        tag: u32,
        /// Whether one of that name is replaced.
        replace: bool,
        /// In bytes.
        size: u64,
        /// Milliseconds since 1970.
        modified: u64,
        /// Of the content.
        hash: Hash,
        /// Its name.
        name: &'a str,
    },
    /// Ends an answer otherwise.
    Error {
        /// Of the request; 0: of none, and the connection ends.
        tag: u32,
        /// What is wrong.
        code: ErrorCode,
        /// The same for people.
        text: &'a str,
    },
    /// No more of an answer is wanted.
    Cancel {
        /// Of the request.
        tag: u32,
    },
    /// Nothing more will be asked for.
    Bye,
    /// Asks for a folder to be made, and those above it: empty ones come with no file.
    Folder {
        /// Of the request.
        tag: u32,
        /// Its name.
        name: &'a str,
    },
    /// Begins an agreement on keys; in clear, as the two that follow.
    Start(&'a [u8; START_LEN]),
    /// Answers START.
    Reply(&'a [u8; REPLY_LEN]),
    /// Ends the agreement.
    Confirm(&'a [u8; CONFIRM_LEN]),
    /// A file is being hashed, or put.
    Wait {
        /// Of the request.
        tag: u32,
        /// Bytes that are.
        done: u64,
        /// Bytes in all.
        of: u64,
    },
}

/// What GET asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Get<'a> {
    /// Of the request.
    pub tag: u32,
    /// Whether the content is wanted, or the hashes alone.
    pub content: bool,
    /// Of the file that is wanted, and no other of that name.
    pub hash: Hash,
    /// Its size.
    pub size: u64,
    /// Its name.
    pub name: &'a str,
    /// Which parts.
    pub ranges: RangeList<'a>,
}

/// The ranges of a GET, not judged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeList<'a>(&'a [u8]);

impl RangeList<'_> {
    /// Offset and length of each, in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut fields = Fields::new(self.0);
        core::iter::from_fn(move || Some((fields.u64().ok()?, fields.u64().ok()?)))
    }
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// In bytes; 0 for a folder.
    pub size: u64,
    /// Of the last change, in milliseconds since 1970.
    pub modified: u64,
}

/// What a name leads to. Of others nothing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0.
    File,
    /// 1.
    Folder,
}

/// The names of an ENTRIES frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Each name, and what it is.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Meta)> + use<'a> {
        let mut fields = Fields::new(self.0);
        core::iter::from_fn(move || entry(&mut fields).ok())
    }
}

/// Collects the names of an ENTRIES frame.
#[derive(Clone, Debug, Default)]
pub struct EntryList(BytesMut);

impl EntryList {
    /// Adds a name, if it still fits into a frame.
    pub fn push(&mut self, name: &str, meta: Meta) -> bool {
        let mut one = BytesMut::new();
        let mut frame = Writer::begin(&mut one, 0);
        frame.put_u8(meta.kind as u8);
        frame.put_u64(meta.size);
        frame.put_u64(meta.modified);
        frame.put_str16(name);
        frame.end();
        let entry = one.get(semfio_frame::HEADER..).unwrap_or_default();
        // The tag, and whether there are more.
        let fits = self.0.len().saturating_add(entry.len()) <= MAX_FRAME.saturating_sub(5);
        if fits {
            self.0.extend_from_slice(entry);
        }
        fits
    }

    /// For [`Message::Entries`].
    pub fn entries(&self) -> Entries<'_> {
        Entries(&self.0)
    }
}

fn entry<'a>(fields: &mut Fields<'a>) -> Result<(&'a str, Meta), WireError> {
    let meta = meta(fields)?;
    Ok((fields.str16()?, meta))
}

fn meta(fields: &mut Fields<'_>) -> Result<Meta, WireError> {
    let kind = match fields.u8()? {
        0 => Kind::File,
        1 => Kind::Folder,
        other => return Err(WireError::Number(other)),
    };
    Ok(Meta { kind, size: fields.u64()?, modified: fields.u64()? })
}

/// What an ERROR frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 1: a frame that does not parse.
    Malformed,
    /// 2: a frame beyond the limits.
    TooLarge,
    /// 3: a frame that must not come now.
    Unexpected,
    /// 4: another version of the protocol.
    Version,
    /// 5: not in time.
    Timeout,
    /// 6: there is no such name.
    Unknown,
    /// 7: a name that is not safe.
    Name,
    /// 8: not a file, or not a folder.
    WrongKind,
    /// 9: the content is not, or no longer, the one that was asked for.
    Changed,
    /// 10: ranges that are not whole groups of the file, rising and apart.
    Ranges,
    /// 11: the file is larger than can be proved.
    FileTooLarge,
    /// 12: the system refuses; later it may not.
    Unavailable,
    /// 13: nothing is taken here.
    ReadOnly,
    /// 14: there is a file of that name.
    Exists,
    /// 15: what came does not hash to what was announced.
    Mismatch,
    /// 16: no space is left.
    Full,
    /// 17: as was asked.
    Cancelled,
    /// 18: too many others put files, or one of them this very name; soon it may go.
    Busy,
    /// 19: a passphrase is needed here, and not this one.
    Passphrase,
    /// 20: no passphrase is known here.
    NoPassphrase,
    /// 21: too many guesses came from where this one comes from; later it may go.
    Guesses,
    /// Any other number.
    Other(u16),
}

const CODES: [ErrorCode; 21] = [
    ErrorCode::Malformed,
    ErrorCode::TooLarge,
    ErrorCode::Unexpected,
    ErrorCode::Version,
    ErrorCode::Timeout,
    ErrorCode::Unknown,
    ErrorCode::Name,
    ErrorCode::WrongKind,
    ErrorCode::Changed,
    ErrorCode::Ranges,
    ErrorCode::FileTooLarge,
    ErrorCode::Unavailable,
    ErrorCode::ReadOnly,
    ErrorCode::Exists,
    ErrorCode::Mismatch,
    ErrorCode::Full,
    ErrorCode::Cancelled,
    ErrorCode::Busy,
    ErrorCode::Passphrase,
    ErrorCode::NoPassphrase,
    ErrorCode::Guesses,
];

impl ErrorCode {
    /// The code of this number.
    pub fn from_number(number: u16) -> Self {
        let place = usize::from(number).checked_sub(1);
        place.and_then(|at| CODES.get(at)).copied().unwrap_or(Self::Other(number))
    }

    /// Its number.
    pub fn number(self) -> u16 {
        let place = CODES.iter().position(|code| *code == self);
        match (place.map(u16::try_from), self) {
            (Some(Ok(place)), _) => place.saturating_add(1),
            (_, Self::Other(number)) => number,
            _ => 0,
        }
    }
}

impl core::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a frame does not parse",
            Self::TooLarge => "a frame is too large",
            Self::Unexpected => "a frame must not come now",
            Self::Version => "another version of the protocol",
            Self::Timeout => "not in time",
            Self::Unknown => "there is no such name",
            Self::Name => "the name is not safe",
            Self::WrongKind => "it is not of the right kind",
            Self::Changed => "the content is not the one that was asked for",
            Self::Ranges => "the ranges are wrong",
            Self::FileTooLarge => "the file is too large",
            Self::Unavailable => "the system refuses",
            Self::ReadOnly => "nothing is taken here",
            Self::Exists => "there is a file of that name",
            Self::Mismatch => "the content is not what its hash says",
            Self::Full => "no space is left",
            Self::Cancelled => "cancelled",
            Self::Busy => "others are at work here",
            Self::Passphrase => "the passphrase is missing or wrong",
            Self::NoPassphrase => "no passphrase is known here",
            Self::Guesses => "too many guesses of the passphrase",
            Self::Other(number) => return write!(f, "error {number}"),
        })
    }
}

/// A frame that is not what its type demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A field.
    Malformed(Malformed),
    /// An octet that must be one of a few numbers.
    Number(u8),
    /// A type that must be understood, and is not.
    Kind(u8),
    /// A tag of 0 where it names a request.
    NoTag,
}

impl From<Malformed> for WireError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "a frame {malformed}"),
            Self::Number(number) => write!(f, "a frame holds a choice of {number}"),
            Self::Kind(kind) => write!(f, "frame of unknown type {kind:#04x}"),
            Self::NoTag => f.write_str("a request has no tag"),
        }
    }
}

impl core::error::Error for WireError {}

impl<'a> Message<'a> {
    /// The name that a request is about.
    pub(crate) fn name(&self) -> Option<&'a str> {
        match *self {
            Self::List { folder: name, .. }
            | Self::Stat { name, .. }
            | Self::Get(Get { name, .. })
            | Self::Put { name, .. }
            | Self::Folder { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Takes a frame apart; `None` for a type that may be skipped.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Option<Self>, WireError> {
        let mut fields = Fields::new(body);
        let message = match kind {
            HELLO => Self::Hello { max_frame: fields.u32()? },
            WELCOME => Self::Welcome { max_frame: fields.u32()?, writable: flag(&mut fields)? },
            LIST => {
                let (tag, folder) = (tag(&mut fields)?, fields.str16()?);
                return Ok(Some(Self::List { tag, folder, after: fields.text()? }));
            }
            ENTRIES => {
                let (tag, more) = (tag(&mut fields)?, flag(&mut fields)?);
                let all = fields.clone();
                while !fields.is_empty() {
                    entry(&mut fields)?;
                }
                return Ok(Some(Self::Entries { tag, more, entries: Entries(all.octets()) }));
            }
            STAT => {
                let (tag, hashed) = (tag(&mut fields)?, flag(&mut fields)?);
                return Ok(Some(Self::Stat { tag, hashed, name: fields.text()? }));
            }
            META => {
                let (tag, meta) = (tag(&mut fields)?, meta(&mut fields)?);
                let hash = Hash(fields.array()?);
                Self::Meta { tag, meta, hash: Some(hash).filter(|hash| *hash != NONE) }
            }
            GET => {
                let (tag, content) = (tag(&mut fields)?, flag(&mut fields)?);
                let (hash, size) = (Hash(fields.array()?), fields.u64()?);
                let name = fields.str16()?;
                let all = fields.clone();
                while !fields.is_empty() {
                    fields.u64()?;
                    fields.u64()?;
                }
                let ranges = RangeList(all.octets());
                Self::Get(Get { tag, content, hash, size, name, ranges })
            }
            DONE => Self::Done { tag: tag(&mut fields)?, hash: Hash(fields.array()?) },
            PUT => {
                let (tag, replace) = (tag(&mut fields)?, flag(&mut fields)?);
                let (size, modified) = (fields.u64()?, fields.u64()?);
                let (hash, name) = (Hash(fields.array()?), fields.text()?);
                return Ok(Some(Self::Put { tag, replace, size, modified, hash, name }));
            }
            ERROR => {
                let (tag, code) = (fields.u32()?, ErrorCode::from_number(fields.u16()?));
                return Ok(Some(Self::Error { tag, code, text: fields.text()? }));
            }
            CANCEL => Self::Cancel { tag: tag(&mut fields)? },
            BYE => Self::Bye,
            FOLDER => {
                let tag = tag(&mut fields)?;
                return Ok(Some(Self::Folder { tag, name: fields.text()? }));
            }
            START => return Ok(Some(Self::Start(fixed(body)?))),
            REPLY => return Ok(Some(Self::Reply(fixed(body)?))),
            CONFIRM => return Ok(Some(Self::Confirm(fixed(body)?))),
            WAIT => Self::Wait { tag: tag(&mut fields)?, done: fields.u64()?, of: fields.u64()? },
            0x80.. => return Err(WireError::Kind(kind)),
            _ => return Ok(None),
        };
        fields.end()?;
        Ok(Some(message))
    }

    /// Appends the frame.
    pub fn put(&self, buffer: &mut BytesMut) {
        let mut frame = Writer::begin(buffer, self.kind());
        match *self {
            Self::Hello { max_frame } => frame.put_u32(max_frame),
            Self::Welcome { max_frame, writable } => {
                frame.put_u32(max_frame);
                frame.put_u8(writable.into());
            }
            Self::List { tag, folder, after } => {
                frame.put_u32(tag);
                frame.put_str16(folder);
                frame.put_text(after);
            }
            Self::Entries { tag, more, entries } => {
                frame.put_u32(tag);
                frame.put_u8(more.into());
                frame.put_octets(entries.0);
            }
            Self::Stat { tag, hashed, name } => {
                frame.put_u32(tag);
                frame.put_u8(hashed.into());
                frame.put_text(name);
            }
            Self::Meta { tag, meta, hash } => {
                frame.put_u32(tag);
                frame.put_u8(meta.kind as u8);
                frame.put_u64(meta.size);
                frame.put_u64(meta.modified);
                frame.put_array(&hash.unwrap_or(NONE).0);
            }
            Self::Get(Get { tag, content, hash, size, name, ranges }) => {
                frame.put_u32(tag);
                frame.put_u8(content.into());
                frame.put_array(&hash.0);
                frame.put_u64(size);
                frame.put_str16(name);
                frame.put_octets(ranges.0);
            }
            Self::Done { tag, hash } => {
                frame.put_u32(tag);
                frame.put_array(&hash.0);
            }
            Self::Put { tag, replace, size, modified, hash, name } => {
                frame.put_u32(tag);
                frame.put_u8(replace.into());
                frame.put_u64(size);
                frame.put_u64(modified);
                frame.put_array(&hash.0);
                frame.put_text(name);
            }
            Self::Error { tag, code, text } => {
                frame.put_u32(tag);
                frame.put_u16(code.number());
                frame.put_text(text);
            }
            Self::Cancel { tag } => frame.put_u32(tag),
            Self::Bye => {}
            Self::Folder { tag, name } => {
                frame.put_u32(tag);
                frame.put_text(name);
            }
            Self::Start(message) => frame.put_array(message),
            Self::Reply(message) => frame.put_array(message),
            Self::Confirm(mac) => frame.put_array(mac),
            Self::Wait { tag, done, of } => {
                frame.put_u32(tag);
                frame.put_u64(done);
                frame.put_u64(of);
            }
        }
        frame.end();
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Welcome { .. } => WELCOME,
            Self::List { .. } => LIST,
            Self::Entries { .. } => ENTRIES,
            Self::Stat { .. } => STAT,
            Self::Meta { .. } => META,
            Self::Get(_) => GET,
            Self::Done { .. } => DONE,
            Self::Put { .. } => PUT,
            Self::Error { .. } => ERROR,
            Self::Cancel { .. } => CANCEL,
            Self::Bye => BYE,
            Self::Folder { .. } => FOLDER,
            Self::Start(_) => START,
            Self::Reply(_) => REPLY,
            Self::Confirm(_) => CONFIRM,
            Self::Wait { .. } => WAIT,
        }
    }

    /// Which request it is, or is about.
    pub(crate) fn tag(&self) -> Option<u32> {
        match *self {
            Self::Hello { .. }
            | Self::Welcome { .. }
            | Self::Bye
            | Self::Start(_)
            | Self::Reply(_)
            | Self::Confirm(_) => None,
            Self::List { tag, .. }
            | Self::Entries { tag, .. }
            | Self::Stat { tag, .. }
            | Self::Meta { tag, .. }
            | Self::Get(Get { tag, .. })
            | Self::Done { tag, .. }
            | Self::Put { tag, .. }
            | Self::Error { tag, .. }
            | Self::Cancel { tag }
            | Self::Folder { tag, .. }
            | Self::Wait { tag, .. } => Some(tag),
        }
    }

    /// Whether it ends the answer to a request.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Entries { .. } | Self::Meta { .. } | Self::Done { .. } | Self::Error { .. }
        )
    }
}

/// The ranges of a GET, to be sent.
#[derive(Clone, Debug, Default)]
pub struct RangeBytes(alloc::vec::Vec<u8>);

impl RangeBytes {
    /// Of offsets and lengths in bytes.
    pub fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut bytes = alloc::vec::Vec::new();
        for (offset, len) in ranges {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&len.to_be_bytes());
        }
        Self(bytes)
    }

    /// For [`Get`].
    pub fn list(&self) -> RangeList<'_> {
        RangeList(&self.0)
    }
}

/// Stands for a hash that was not asked for, or of a folder. That BLAKE3 gives it is not to be expected.
pub(crate) const NONE: Hash = Hash([0; 32]);

fn tag(fields: &mut Fields<'_>) -> Result<u32, WireError> {
    match fields.u32()? {
        0 => Err(WireError::NoTag),
        tag => Ok(tag),
    }
}

/// A body that is an array and nothing else.
fn fixed<const N: usize>(body: &[u8]) -> Result<&[u8; N], Malformed> {
    let wrong = if body.len() < N { Malformed::Short } else { Malformed::Long };
    body.try_into().map_err(|_| wrong)
}

fn flag(fields: &mut Fields<'_>) -> Result<bool, WireError> {
    match fields.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(WireError::Number(other)),
    }
}
