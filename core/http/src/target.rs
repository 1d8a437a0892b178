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

impl<'i> Target<'i> {
    /// Its form, which goes with the method. The octets have been judged.
    pub(crate) fn new(method: Method<'_>, target: &'i [u8]) -> Result<Self, Broken> {
        match (method, target) {
            (Method::Connect, _) => {
                let port = authority(target).map_err(|at| Rule::TargetForm.broken(at))?;
                match port {
                    Some(1..) => Ok(Self::Authority(text(target))),
                    _ => Err(Rule::TargetForm.broken(target.len())),
                }
            }
            (_, [b'/', ..]) => {
                let (path, query) = split_query(target);
                Ok(Self::Origin { path, query })
            }
            (Method::Options, b"*") => Ok(Self::Asterisk),
            _ => absolute(target),
        }
    }
}

/// `scheme "://" authority path-abempty [ "?" query ]`. URIs without an authority name nothing that
/// HTTP could reach.
fn absolute(target: &[u8]) -> Result<Target<'_>, Broken> {
    let in_scheme = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'.');
    let end = target.iter().position(|it| !in_scheme(it)).unwrap_or(target.len());
    let (scheme, rest) = target.split_at_checked(end).unwrap_or_default();
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(Rule::TargetForm.broken(0));
    }
    let Some(rest) = rest.strip_prefix(b"://") else {
        return Err(Rule::TargetForm.broken(end));
    };
    let begin = target.len().saturating_sub(rest.len());
    let end = rest.iter().position(|it| matches!(it, b'/' | b'?')).unwrap_or(rest.len());
    let (host, rest) = rest.split_at_checked(end).unwrap_or_default();
    if let Some(user) = memchr::memchr(b'@', host) {
        return Err(Rule::TargetUser.broken(begin.saturating_add(user)));
    }
    authority(host).map_err(|at| Rule::TargetForm.broken(begin.saturating_add(at)))?;
    let (path, query) = split_query(rest);
    Ok(Target::Absolute { scheme: text(scheme), authority: text(host), path, query })
}

fn split_query(target: &[u8]) -> (&str, Option<&str>) {
    match memchr::memchr(b'?', target).and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (text(path), query.get(1..).map(text)),
        None => (text(target), None),
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
            text(port).parse().map(Some).map_err(|_| begin)
        }
        Some(_) => Err(end),
    }
}
