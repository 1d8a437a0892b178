//! What a peer may use, and what it may write wrongly.

use core::time::Duration;

/// All limits of a connection. Each has a default with a reason, none is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of a head, start line and fields together: 64 KiB, what browsers' largest cookies
    /// and tokens need several times over. Beyond it 431.
    pub head: usize,
    /// Octets of the request target: 8,000, as RFC 9112, 3 asks for at least. Beyond it 414.
    pub target: usize,
    /// Octets of one field line, its CR LF not counted: 16 KiB. Beyond it 431.
    pub field: usize,
    /// Field lines of a head: 128. Beyond it 431.
    pub fields: usize,
    /// Octets of all chunk extensions of a message: 16 KiB. They are dropped; nobody is known to
    /// use them. Beyond it 400.
    pub extensions: usize,
    /// Octets of a trailer section: 16 KiB. Beyond it 431.
    pub trailers: usize,
    /// Octets of a request's content that are read away after it was answered early, so that the
    /// connection can be kept: 64 KiB. Of a longer one the connection is closed.
    pub unread: u64,
    /// Time for a whole head from its first octet on: 10 s. Beyond it 408.
    pub head_time: Duration,
    /// The peer must send [`body_octets`](Self::body_octets) of content in each such span: 10 s.
    pub body_time: Duration,
    /// See [`body_time`](Self::body_time): 1,024 octets, a tenth of a slow modem.
    pub body_octets: u64,
    /// How long a connection is kept between messages: 60 s.
    pub idle_time: Duration,
    /// How long after an answer another request is still taken by a server that
    /// [finishes](crate::ServerCommand::Finish): 1 s. Its sender did not know when it sent it.
    pub finish_time: Duration,
    /// How long a peer may take nothing of what waits for it: 30 s. It is looked at when that time has
    /// passed, so it may take up to twice as long.
    pub write_time: Duration,
    /// How long a client waits for the head of a response: 60 s.
    pub response_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            target: 8_000,
            field: 16 * 1024,
            fields: 128,
            extensions: 16 * 1024,
            trailers: 16 * 1024,
            unread: 64 * 1024,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            body_octets: 1024,
            idle_time: Duration::from_secs(60),
            finish_time: Duration::from_secs(1),
            write_time: Duration::from_secs(30),
            response_time: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The largest unit that waits to be whole: a head, or a trailer section, and the octet that
    /// would be too many.
    pub(crate) fn max_unit(&self) -> usize {
        self.head.max(self.trailers).saturating_add(1)
    }
}

/// What RFC 9112 lets a reader forgive. All are off: peers disagree on each of them, and where two
/// readers of one connection disagree, a request can be smuggled past one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leniency {
    /// A line of a head may end with LF alone (RFC 9112, 2.2).
    pub bare_lf: bool,
    /// A status line may end behind its code, without the space (RFC 9112, 4: blanks at its end may
    /// be ignored).
    pub bare_status: bool,
    /// Several equal lengths, as lines or as a list, are one (RFC 9110, 8.6).
    pub repeated_length: bool,
    /// A length beside a coding is ignored, and the connection ends with the message (RFC 9112, 6.3).
    pub length_beside_coding: bool,
    /// Blanks behind a chunk's size are skipped (RFC 9112, 7.1.1 has them before an extension, where
    /// a reader must bear them; some peers write them without one).
    pub blank_after_chunk_size: bool,
    /// An empty `Host` with a target that has no authority (RFC 9112, 3.2).
    pub empty_host: bool,
}
