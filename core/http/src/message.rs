//! Heads of messages, and how their content is framed.

use core::fmt;

use bytes::Bytes;
use semfio_machine::FileSpan;

use crate::field::Fields;
use crate::method::Method;
use crate::status::Status;

/// A version that is spoken here. Later minor versions are read as 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The head of a request that was read and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'i> {
    /// What is to be done.
    pub method: Method<'i>,
    /// With what.
    pub target: Target<'i>,
    /// Of the peer.
    pub version: Version,
    /// Host and port that are asked for: of the target if it has an authority, else of `Host`. Empty
    /// in HTTP/1.0 without `Host`.
    pub authority: &'i str,
    /// All field lines, framing ones too.
    pub fields: Fields<'i>,
    /// How much content follows.
    pub length: BodyLength,
    /// The peer waits for `100 Continue` before it sends content.
    pub expects_continue: bool,
    /// The connection may be used for another request after this one.
    pub keeps_alive: bool,
}

/// The forms of a request target (RFC 9112, 3.2), all of them judged: visible ASCII, percent signs
/// with two digits after them, no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'i> {
    /// A path that begins with `/`, and what stands behind its first `?`.
    Origin {
        /// As it was written, nothing decoded.
        path: &'i str,
        /// Without the `?`; `None` if there was none.
        query: Option<&'i str>,
    },
    /// A whole URI: what a client asks of a proxy.
    Absolute {
        /// As it was written, such as `http`.
        scheme: &'i str,
        /// Host, and port if there is one.
        authority: &'i str,
        /// Empty, or begins with `/`.
        path: &'i str,
        /// Without the `?`.
        query: Option<&'i str>,
    },
    /// Host and port: of CONNECT.
    Authority(&'i str),
    /// `*`: of OPTIONS.
    Asterisk,
}

impl fmt::Display for Target<'_> {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = match *self {
            Self::Origin { path, query } => {
                f.write_str(path)?;
                query
            }
            Self::Absolute { scheme, authority, path, query } => {
                write!(f, "{scheme}://{authority}{path}")?;
                query
            }
            Self::Authority(authority) => return f.write_str(authority),
            Self::Asterisk => return f.write_str("*"),
        };
        query.map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// The head of a response that was read and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'i> {
    /// Of the peer.
    pub version: Version,
    /// What came of the request.
    pub status: Status,
    /// For people; may be empty, may hold octets above 0x7F.
    pub reason: &'i [u8],
    /// All field lines, framing ones too.
    pub fields: Fields<'i>,
    /// How much content follows.
    pub length: BodyLength,
    /// The connection may be used for another request after this one.
    pub keeps_alive: bool,
}

/// How the content of a message that came is framed (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Nothing follows, and nothing said so: neither length nor coding, or a response that never
    /// has content.
    None,
    /// So many octets, maybe 0.
    Known(u64),
    /// In chunks.
    Chunked,
    /// All until the peer ends the connection; responses only.
    UntilClose,
}

/// The content of a message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'c> {
    /// There is none.
    Empty,
    /// All of it, in memory.
    Whole(&'c Bytes),
    /// All of it, a part of a file.
    File(FileSpan),
    /// So many octets, which follow as commands.
    Length(u64),
    /// It is not known how many octets follow as commands: chunks, or all until the connection ends
    /// where the peer speaks 1.0.
    Unknown,
}

/// What a response answers, as far as its framing depends on that (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Content may follow.
    #[default]
    Content,
    /// HEAD: no content follows, whatever the fields say.
    Head,
    /// CONNECT: what follows a 2xx belongs to the tunnel.
    Connect,
}

impl From<Method<'_>> for Asked {
    fn from(method: Method<'_>) -> Self {
        match method {
            Method::Head => Self::Head,
            Method::Connect => Self::Connect,
            _ => Self::Content,
        }
    }
}
