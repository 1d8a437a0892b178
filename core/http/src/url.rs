//! What a client is asked to fetch (RFC 3986; RFC 9110, 4.2).

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::net::Ipv6Addr;
use semfio_path::{Policy, SafeName};

use crate::percent;

/// The most octets of a URL, encoded: what is kept of a redirect, and what servers take at least.
pub const URL_LIMIT: usize = 8_000;

/// The port of `http` (RFC 9110, 4.2.1).
const PORT: u16 = 80;

/// An `http` URL. What it holds can be sent as it is: visible ASCII, percent signs with two digits
/// behind them, no dot segments, no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// A name in small letters, or an address, of IPv6 without brackets.
    host: String,
    port: u16,
    /// Begins with `/`.
    path: String,
    /// Without the `?`.
    query: Option<String>,
}

/// Why a text is no URL that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// `https`: TLS is not spoken yet.
    Tls,
    /// Another scheme than `http`, or no `//` behind it.
    Scheme,
    /// A user's name or password: they would end up in logs, and are used to fool people.
    User,
    /// The host is missing, or is no name in ASCII and no address.
    Host,
    /// The port is not one of 1 to 65,535.
    Port,
    /// It holds a control character.
    Control,
    /// It has more than [`URL_LIMIT`] octets.
    TooLong,
}

impl Url {
    /// Takes what a person wrote: `http://` may be missing, and what cannot be sent as it is, blanks
    /// and letters beyond ASCII, is percent-encoded.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim_matches(' ');
        check(text.as_bytes())?;
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme.as_bytes()) => {
                http_only(scheme.as_bytes())?;
                rest
            }
            // `localhost:8080/x`: that `localhost` is a scheme is not what is meant.
            _ => text.strip_prefix("//").unwrap_or(text),
        };
        let (authority, path, query) = split(rest.as_bytes());
        Self::assemble(authority, path, query)
    }

    /// What a reference, such as the value of `Location`, means where this URL is the base (RFC 3986,
    /// 5.2). What cannot be sent as it is, is percent-encoded.
    pub fn join(&self, reference: &[u8]) -> Result<Self, UrlError> {
        check(reference)?;
        let colon = reference.iter().position(|&c| c == b':');
        let scheme = colon.and_then(|at| reference.get(..at)).filter(|it| is_scheme(it));
        let rest = match scheme {
            Some(scheme) => {
                http_only(scheme)?;
                let rest = reference.get(scheme.len().saturating_add(1)..).unwrap_or_default();
                if !rest.starts_with(b"//") {
                    return Err(UrlError::Scheme);
                }
                rest
            }
            None => reference,
        };
        if let Some(rest) = rest.strip_prefix(b"//") {
            let (authority, path, query) = split(rest);
            return Self::assemble(authority, path, query);
        }
        let (path, query) = split_query(rest);
        let mut joined = self.clone();
        if path.is_empty() {
            if query.is_some() {
                joined.query = query.map(encode);
            }
        } else {
            let mut merged = String::new();
            if !path.starts_with(b"/") {
                merged.push_str(self.path.rsplit_once('/').map_or("", |(folder, _)| folder));
                merged.push('/');
            }
            merged.push_str(&encode(path));
            joined.path = without_dots(&merged);
            joined.query = query.map(encode);
        }
        joined.bounded()
    }

    /// A name in small letters, or an address, of IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 80 if the text named none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Host`: the port only if it is not 80.
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        match self.port {
            PORT => format!("{open}{}{close}", self.host),
            port => format!("{open}{}{close}:{port}", self.host),
        }
    }

    /// The request target in origin-form.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The last part of the path, decoded, if a file of that name can be made without harm.
    pub fn file_name(&self) -> Option<SafeName> {
        let (_, name) = self.path.rsplit_once('/')?;
        let name = percent::decode(name)?;
        let name = SafeName::parse(name, Policy::default()).ok()?;
        name.parent().is_empty().then_some(name)
    }

    fn assemble(authority: &[u8], path: &[u8], query: Option<&[u8]>) -> Result<Self, UrlError> {
        if authority.contains(&b'@') {
            return Err(UrlError::User);
        }
        let authority = core::str::from_utf8(authority).map_err(|_| UrlError::Host)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
                let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
                let port = match rest.strip_prefix(':') {
                    None if rest.is_empty() => "",
                    Some(port) => port,
                    None => return Err(UrlError::Host),
                };
                (format!("{address}"), port)
            }
            None => {
                let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
                let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
                if name.is_empty() || name.len() > 253 || !name.bytes().all(is_name) {
                    return Err(UrlError::Host);
                }
                (name.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            "" => PORT,
            // `parse` takes a plus sign.
            port if !port.bytes().all(|c| c.is_ascii_digit()) => return Err(UrlError::Port),
            port => port.parse().ok().filter(|&it| it > 0).ok_or(UrlError::Port)?,
        };
        let mut rooted = String::from("/");
        rooted.push_str(&encode(path.strip_prefix(b"/").unwrap_or(path)));
        let path = without_dots(&rooted);
        Self { host, port, path, query: query.map(encode) }.bounded()
    }

    fn bounded(self) -> Result<Self, UrlError> {
        let query = self.query.as_ref().map_or(0, |it| it.len().saturating_add(1));
        let len = self.host.len().saturating_add(self.path.len()).saturating_add(query);
        if len > URL_LIMIT { Err(UrlError::TooLong) } else { Ok(self) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target())
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "https is not spoken yet, only http",
            Self::Scheme => "only http is spoken",
            Self::User => "a URL with a user in it is refused",
            Self::Host => "no host name in ASCII, and no address",
            Self::Port => "the port is not a number from 1 to 65,535",
            Self::Control => "it holds a control character",
            Self::TooLong => "it is longer than 8,000 bytes",
        })
    }
}

impl core::error::Error for UrlError {}

fn check(text: &[u8]) -> Result<(), UrlError> {
    if text.len() > URL_LIMIT {
        return Err(UrlError::TooLong);
    }
    if text.iter().any(u8::is_ascii_control) { Err(UrlError::Control) } else { Ok(()) }
}

fn is_scheme(text: &[u8]) -> bool {
    let is_inner = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(is_inner)
}

fn http_only(scheme: &[u8]) -> Result<(), UrlError> {
    match scheme {
        it if it.eq_ignore_ascii_case(b"http") => Ok(()),
        it if it.eq_ignore_ascii_case(b"https") => Err(UrlError::Tls),
        _ => Err(UrlError::Scheme),
    }
}

/// What follows `//`: authority, path, query.
fn split(text: &[u8]) -> (&[u8], &[u8], Option<&[u8]>) {
    let end = text.iter().position(|c| matches!(c, b'/' | b'?' | b'#')).unwrap_or(text.len());
    let (authority, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    let (path, query) = split_query(rest);
    (authority, path, query)
}

/// Path and query; the fragment is never sent.
fn split_query(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let text = text.split(|&c| c == b'#').next().unwrap_or_default();
    let mut parts = text.splitn(2, |&c| c == b'?');
    (parts.next().unwrap_or_default(), parts.next())
}

/// Encodes what cannot stand in a path or a query; a percent sign stays if two digits follow it.
fn encode(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let is_triplet = || after.iter().take(2).filter(|c| c.is_ascii_hexdigit()).count() == 2;
        let plain = match byte {
            b'%' => is_triplet(),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if plain {
            encoded.push(char::from(byte));
        } else {
            percent::push(byte, &mut encoded);
        }
        rest = after;
    }
    encoded
}

/// RFC 3986, 5.2.4, of a path that begins with `/`.
fn without_dots(path: &str) -> String {
    let mut clean = String::with_capacity(path.len());
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
            part => {
                clean.push('/');
                clean.push_str(part);
                continue;
            }
        }
        if is_last {
            clean.push('/');
        }
    }
    clean
}
