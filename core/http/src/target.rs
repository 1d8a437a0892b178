//! Request targets (RFC 9112, 3.2) and authorities (RFC 3986, 3.2).

use core::net::Ipv6Addr;
use core::str::from_utf8;

use crate::error::{Broken, Rule};
use crate::message::Target;
use crate::method::Method;
use crate::scan;

/// How many octets at the front are of a target: up to what ends it, or ends the octets shown. What
/// may never be in one is an error here; `limit` is the octet that a target may not have.
pub(crate) fn reach(view: &[u8], from: usize, limit: usize) -> Result<usize, Broken> {
    let stop = limit.min(view.len());
    let mut at = from;
    loop {
        at = at.saturating_add(scan::target(view.get(at..stop).unwrap_or_default()));
        match view.get(at..).unwrap_or_default() {
            [] | [b' ' | b'\t' | b'\r' | b'\n', ..] => return Ok(at),
            _ if at >= limit => return Err(Rule::TargetTooLong.broken(limit)),
            [b'%', digits @ ..] => {
                let behind = at.saturating_add(1);
                let digits = digits.iter().take(2).take(limit.saturating_sub(behind));
                match digits.clone().position(|it| !it.is_ascii_hexdigit()) {
                    Some(odd) => return Err(Rule::TargetPercent.broken(behind.saturating_add(odd))),
                    None if digits.len() == 2 => at = at.saturating_add(3),
                    // It is looked at again when both are there.
                    None if view.len() > limit => return Err(Rule::TargetTooLong.broken(limit)),
                    None => return Ok(at),
                }
            }
            [b'#', ..] => return Err(Rule::TargetFragment.broken(at)),
            _ => return Err(Rule::TargetOctet.broken(at)),
        }
    }
}

/// The form of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Origin,
    Absolute,
    Authority,
    Asterisk,
}

impl Form {
    pub(crate) const fn has_authority(self) -> bool {
        matches!(self, Self::Absolute | Self::Authority)
    }

    /// The form that goes with the method. That the octets may be in a target has been judged.
    pub(crate) fn new(method: Method<'_>, target: &[u8]) -> Result<Self, Broken> {
        match (method, target) {
            (Method::Connect, _) => match authority(target) {
                Ok(Some(1..)) => Ok(Self::Authority),
                Ok(_) => Err(Rule::TargetForm.broken(target.len())),
                Err(at) => Err(Rule::TargetForm.broken(at)),
            },
            (_, [b'/', ..]) => Ok(Self::Origin),
            (Method::Options, b"*") => Ok(Self::Asterisk),
            _ => {
                let parts = split_absolute(target);
                if !parts.scheme.first().is_some_and(u8::is_ascii_alphabetic) {
                    return Err(Rule::TargetForm.broken(0));
                }
                let Some(host) = parts.authority else {
                    return Err(Rule::TargetForm.broken(parts.scheme.len()));
                };
                let begin = parts.scheme.len().saturating_add(SLASHES.len());
                if let Some(user) = memchr::memchr(b'@', host) {
                    return Err(Rule::TargetUser.broken(begin.saturating_add(user)));
                }
                match authority(host) {
                    Ok(_) => Ok(Self::Absolute),
                    Err(at) => Err(Rule::TargetForm.broken(begin.saturating_add(at))),
                }
            }
        }
    }
}

impl<'i> Target<'i> {
    /// A target of that form.
    pub(crate) fn new(form: Form, target: &'i [u8]) -> Self {
        match form {
            Form::Origin => {
                let (path, query) = split_query(target);
                Self::Origin { path, query }
            }
            Form::Absolute => {
                let parts = split_absolute(target);
                let (path, query) = split_query(parts.rest);
                let authority = parts.authority.map(text).unwrap_or_default();
                Self::Absolute { scheme: text(parts.scheme), authority, path, query }
            }
            Form::Authority => Self::Authority(text(target)),
            Form::Asterisk => Self::Asterisk,
        }
    }
}

const SLASHES: &[u8] = b"://";

/// `scheme "://" authority path-abempty [ "?" query ]`. URIs without an authority name nothing that
/// HTTP could reach.
struct Parts<'t> {
    scheme: &'t [u8],
    /// `None` if no slashes are before it.
    authority: Option<&'t [u8]>,
    rest: &'t [u8],
}

fn split_absolute(target: &[u8]) -> Parts<'_> {
    let in_scheme = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'.');
    let end = target.iter().position(|it| !in_scheme(it)).unwrap_or(target.len());
    let (scheme, behind) = target.split_at_checked(end).unwrap_or_default();
    let Some(behind) = behind.strip_prefix(SLASHES) else {
        return Parts { scheme, authority: None, rest: behind };
    };
    let end = behind.iter().position(|it| matches!(it, b'/' | b'?')).unwrap_or(behind.len());
    let (authority, rest) = behind.split_at_checked(end).unwrap_or_default();
    Parts { scheme, authority: Some(authority), rest }
}

fn split_query(target: &[u8]) -> (&str, Option<&str>) {
    let target = text(target);
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Octets that are known to be ASCII.
pub(crate) fn text(ascii: &[u8]) -> &str {
    from_utf8(ascii).unwrap_or_default()
}

/// Judges `uri-host [ ":" port ]` and gives the port; else where it is none. A comma is legal in a
/// name and refused nevertheless: some take what holds one for a list of hosts.
pub(crate) fn authority(octets: &[u8]) -> Result<Option<u16>, usize> {
    let end = match octets {
        [b'[', rest @ ..] => {
            let end = memchr::memchr(b']', rest).ok_or(octets.len())?;
            let address = rest.get(..end).map(text).unwrap_or_default();
            address.parse::<Ipv6Addr>().map_err(|_| 1usize)?;
            end.saturating_add(2)
        }
        _ => {
            let end = scan::host(octets);
            if end == 0 {
                return Err(0);
            }
            let mut rest = octets.get(..end).unwrap_or_default();
            while let Some(percent) = memchr::memchr(b'%', rest) {
                rest = rest.get(percent..).unwrap_or_default();
                let at = end.saturating_sub(rest.len());
                rest = match rest {
                    [_, a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
                    _ => return Err(at),
                };
            }
            end
        }
    };
    match octets.get(end..) {
        None | Some([]) => Ok(None),
        Some([b':']) => Ok(Some(0)),
        Some([b':', port @ ..]) => {
            let begin = end.saturating_add(1);
            if let Some(odd) = port.iter().position(|it| !it.is_ascii_digit()) {
                return Err(begin.saturating_add(odd));
            }
            let number = port.iter().try_fold(0u16, |sum, digit| {
                sum.checked_mul(10)?.checked_add(u16::from(digit & 0x0F))
            });
            number.map(Some).ok_or(begin)
        }
        Some(_) => Err(end),
    }
}
