//! Methods (RFC 9110, 9).

use core::str::from_utf8;

use crate::scan::is_tchar;

/// A request's method. Methods are case-sensitive: `get` is none of the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method<'a> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH (RFC 5789)
    Patch,
    /// Any other token, as it was written.
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// The method of this name. That it is a token is the caller's to know.
    pub fn new(name: &'a str) -> Self {
        Self::from_token(name.as_bytes())
    }

    /// The method of this name, which is a token.
    pub(crate) fn from_token(name: &'a [u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            other => Self::Other(from_utf8(other).unwrap_or_default()),
        }
    }

    /// The method of this name, if it is a token.
    pub fn parse(name: &'a str) -> Option<Self> {
        let is_token = !name.is_empty() && name.bytes().all(is_tchar);
        is_token.then(|| Self::new(name))
    }

    /// As it is written.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(name) => name,
        }
    }
}

impl core::fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}
