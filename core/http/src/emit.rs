//! Messages as they are sent: written from parts, each head in one order.

use alloc::format;
use bytes::Bytes;
use semfio_machine::{FileSpan, Now, Outbox, Refused};

use crate::date::HttpDate;
use crate::error::HttpError;
use crate::field::FieldsBuf;
use crate::message::Body;
use crate::status::Status;

/// Content up to this size is copied behind its head, which costs less than a piece of its own in the
/// outbox: memory for its place, and one more address in each write.
const COPIED: usize = 4096;

/// What a head says of the content behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What a head says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing: a connection of 1.1 persists.
    Implied,
    /// `keep-alive`: for 1.0.
    KeepAlive,
    /// `close`.
    Close,
}

/// Writes the head of a response: status line, `Date`, `Connection`, framing, and the fields as they
/// stand.
pub(crate) fn response(
    out: &mut Outbox,
    now: Now,
    status: Status,
    connection: Connection,
    framing: Framing,
    fields: &FieldsBuf,
) {
    let mut head = Head::new(out);
    head.put(b"HTTP/1.1 ");
    head.put_status(status);
    if !status.is_informational() && !fields.is_dated() {
        head.put(b"\r\nDate: ");
        head.put(HttpDate::new(now.unix).as_bytes());
    }
    head.finish(connection, framing, fields);
}

/// Writes the head of a request: request line, `Host`, `Connection`, framing, and the fields as they
/// stand. All parts were judged.
pub(crate) fn request(
    out: &mut Outbox,
    method: &str,
    target: &str,
    authority: &str,
    connection: Connection,
    framing: Framing,
    fields: &FieldsBuf,
) {
    let mut head = Head::new(out);
    head.put(method.as_bytes());
    head.put(b" ");
    head.put(target.as_bytes());
    head.put(b" HTTP/1.1\r\nHost: ");
    head.put(authority.as_bytes());
    head.finish(connection, framing, fields);
}

/// Writes what a server says to one who broke a rule, and that it was the last.
pub(crate) fn farewell(out: &mut Outbox, now: Now, error: HttpError, content: bool) {
    let text = format!("{}: {error}\n", error.rule.name());
    let mut fields = FieldsBuf::new();
    // Neither of them can be refused.
    let _ = fields.push("Content-Type", "text/plain; charset=utf-8");
    response(out, now, error.status(), Connection::Close, length(text.len()), &fields);
    if content {
        out.put(text.as_bytes());
    }
}

/// The framing of content that is at hand.
pub(crate) fn length(len: usize) -> Framing {
    Framing::Length(u64::try_from(len).unwrap_or(u64::MAX))
}

/// A head that is gathered before it is put: most parts of it are a few octets long.
struct Head<'o> {
    out: &'o mut Outbox,
    bytes: [u8; 240],
    len: usize,
}

impl<'o> Head<'o> {
    fn new(out: &'o mut Outbox) -> Self {
        Self { out, bytes: [0; 240], len: 0 }
    }

    fn put(&mut self, part: &[u8]) {
        let end = self.len.saturating_add(part.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(part);
            self.len = end;
            return;
        }
        self.flush();
        self.out.put(part);
    }

    fn put_number(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.put(decimal(number, &mut digits));
    }

    fn put_status(&mut self, status: Status) {
        self.put_number(status.code().into());
        self.put(b" ");
        self.put(status.reason().as_bytes());
    }

    fn finish(mut self, connection: Connection, framing: Framing, fields: &FieldsBuf) {
        match (connection, fields.upgrades()) {
            (Connection::Implied, false) => {}
            (Connection::Implied, true) => self.put(b"\r\nConnection: upgrade"),
            (Connection::KeepAlive, false) => self.put(b"\r\nConnection: keep-alive"),
            (Connection::KeepAlive, true) => self.put(b"\r\nConnection: keep-alive, upgrade"),
            (Connection::Close, false) => self.put(b"\r\nConnection: close"),
            (Connection::Close, true) => self.put(b"\r\nConnection: close, upgrade"),
        }
        match framing {
            Framing::None => {}
            Framing::Length(n) => {
                self.put(b"\r\nContent-Length: ");
                self.put_number(n);
            }
            Framing::Chunked => self.put(b"\r\nTransfer-Encoding: chunked"),
        }
        self.put(b"\r\n");
        self.put(fields.as_bytes());
        self.put(b"\r\n");
        self.flush();
    }

    fn flush(&mut self) {
        self.out.put(self.bytes.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

/// A number in digits.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            // Below 10.
            *place = b'0'.saturating_add((number % 10) as u8);
        }
        number /= 10;
        if number == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

/// A number in hexadecimal digits, with the end of the line.
fn chunk_head(mut number: u64, digits: &mut [u8; 18]) -> &[u8] {
    let mut at: usize = 16;
    let [.., cr, lf] = digits;
    (*cr, *lf) = (b'\r', b'\n');
    loop {
        at = at.saturating_sub(1);
        let digit = (number % 16) as u8;
        if let Some(place) = digits.get_mut(at) {
            *place = digit.saturating_add(if digit < 10 { b'0' } else { b'a' - 10 });
        }
        number /= 16;
        if number == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

/// A piece of content to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'c> {
    Copied(&'c [u8]),
    Shared(&'c Bytes),
    File(FileSpan),
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Copied(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => bytes.len() as u64,
            Self::File(span) => span.len,
        }
    }

    fn put(&self, out: &mut Outbox) {
        match *self {
            Self::Copied(bytes) => out.put(bytes),
            Self::Shared(bytes) if bytes.len() <= COPIED => out.put(bytes),
            Self::Shared(bytes) => out.put_shared(bytes.clone()),
            Self::File(span) => out.put_file(span),
        }
    }
}

/// How the content that is being sent is framed, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// None, or all of it has been put.
    Nothing,
    /// So many octets are missing.
    Length(u64),
    /// In chunks.
    Chunks,
    /// All until the connection ends.
    UntilClose,
}

impl Sending {
    /// Puts content that is at hand as a whole; what is missing then.
    pub(crate) fn begin(body: Body<'_>, unknown: Self, out: &mut Outbox) -> Self {
        match body {
            Body::Empty => {}
            Body::Whole(bytes) => Piece::Shared(bytes).put(out),
            Body::File(span) => Piece::File(span).put(out),
            Body::Length(n) => return Self::Length(n),
            Body::Unknown => return unknown,
        }
        Self::Nothing
    }

    /// Whether that piece fits in.
    pub(crate) fn judge(&self, piece: Piece<'_>) -> Result<(), Refused> {
        match self {
            Self::Length(left) if *left < piece.len() => {
                Err(Refused::Invalid("more content than was told"))
            }
            _ => Ok(()),
        }
    }

    /// Puts a piece that fits in.
    pub(crate) fn put(&mut self, piece: Piece<'_>, out: &mut Outbox) {
        match self {
            // An empty chunk would be the last.
            Self::Chunks if piece.len() == 0 => {}
            Self::Chunks => {
                out.put(chunk_head(piece.len(), &mut [0; 18]));
                piece.put(out);
                out.put(b"\r\n");
            }
            Self::Length(left) => {
                *left = left.saturating_sub(piece.len());
                piece.put(out);
            }
            Self::UntilClose | Self::Nothing => piece.put(out),
        }
    }

    /// Whether all of it has been put.
    pub(crate) fn judge_end(&self) -> Result<(), Refused> {
        match self {
            Self::Length(1..) => Err(Refused::Invalid("less content than was told")),
            _ => Ok(()),
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, trailers: &FieldsBuf, out: &mut Outbox) {
        if *self == Self::Chunks {
            out.put(b"0\r\n");
            out.put(trailers.as_bytes());
            out.put(b"\r\n");
        }
        *self = Self::Nothing;
    }
}
