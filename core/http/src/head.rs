//! Heads of messages, however they are cut.

use semfio_machine::Input;

use crate::error::{Broken, Rule};
use crate::field::Fields;
use crate::framing::{Facts, Framing};
use crate::limits::{Leniency, Limits};
use crate::lines::{Bounds, Found, Lines};
use crate::message::{Asked, Request, Response, Target, Version};
use crate::method::Method;
use crate::scan;
use crate::status::Status;
use crate::target::{self, Form, text};

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Octets of a version, its first digit, and where the parts of a status line begin.
const VERSION: usize = 8;
const MAJOR: usize = 5;
const CODE: usize = 9;
const REASON: usize = 12;

/// Reads the heads of a connection, one after the other.
///
/// It remembers how far it has looked, so that each octet is looked at once however the input is
/// cut; the octets of an unfinished head stay untaken. A fault is told as soon as its octet is
/// there, the first one first:
///
/// - What is wrong in an octet (a control character, a bare line feed, the one that exceeds a limit)
///   with that octet, whatever stands before or behind it.
/// - What is wrong with a request's version or the form of its target with the end of its first line,
///   the version first: another version's target is not ours to judge.
/// - What is wrong with a field's value (`Host`, `Content-Length`, `Transfer-Encoding`), and a second
///   one of them, with the end of its line. In a response that is the octet behind it, since the line
///   may go on.
/// - What several fields say together, and a missing `Host`, with the end of the head.
///
/// The octet that an error names is where the wrong thing stands, which may be before the octet with
/// which it was told. After an error the connection cannot go on.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// An octet of a head has come.
    begun: bool,
    /// An empty line was skipped.
    skipped: bool,
    /// All octets before it have been judged, as long as the first line is not whole.
    at: usize,
    /// Where the method ends, and the target; 0 as long as that is not known.
    method_end: usize,
    target_end: usize,
    form: Form,
    /// Not that of 1.0.
    minor: bool,
    /// Where the field lines begin; 0 as long as that is not known.
    fields_at: usize,
    lines: Lines,
    facts: Facts,
}

impl HeadReader {
    /// Whether an octet of a head has come.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Takes the head of a request when all of it is there. `None`: more is needed.
    ///
    /// One empty line before it is skipped (RFC 9112, 2.2). In HTTP/1.1 and later minor versions
    /// there must be one `Host`; if the target has an authority, `Host` is judged and then ignored.
    pub fn read_request<'i>(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        input: &mut Input<'i>,
    ) -> Result<Option<Request<'i>>, Broken> {
        if !self.begun && !self.skip_empty(leniency, input)? {
            return Ok(None);
        }
        let shown = input.peek();
        let view = shown.get(..limits.head).unwrap_or(shown);
        if self.fields_at == 0 && !self.request_line(limits, leniency, view)? {
            return unfinished(limits, shown);
        }
        let bounds = Bounds::new(limits, leniency, false);
        let facts = &mut self.facts;
        let tell = |line| facts.handle_request_line(view, line, leniency);
        let (lines, end) = match self.lines.read(view, &bounds, tell)? {
            Found::End { lines, end } => (lines, end),
            Found::More | Found::Fold { .. } => return unfinished(limits, shown),
        };
        let version = self.version();
        let framing = self.facts.of_request(version, leniency)?;
        match self.facts.host {
            None if version == Version::Http11 => return Err(Rule::HostMissing.broken(lines)),
            Some((begin, end))
                if begin == end && !self.form.has_authority() && !leniency.empty_host =>
            {
                return Err(Rule::HostForm.broken(begin));
            }
            _ => {}
        }

        let head: &'i [u8] = input.take(end);
        let method = self.method(head);
        let target = Target::new(self.form, self.target(head));
        let (begin, end) = self.facts.host.unwrap_or_default();
        let authority = match target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => authority,
            _ => head.get(begin..end).map(text).unwrap_or_default(),
        };
        let fields = Fields::judged(head.get(self.fields_at..lines).unwrap_or_default());
        *self = Self::default();
        Ok(Some(Request {
            method,
            target,
            version,
            authority,
            fields,
            length: framing.length,
            expects_continue: framing.expects_continue,
            keeps_alive: framing.keeps_alive,
        }))
    }

    /// Takes the head of a response when all of it is there. `None`: more is needed.
    ///
    /// It is judged by the rules of a request, since who reads a response for others (a proxy, a cache)
    /// can be split by it: two lengths, a length beside a coding, a blank before a colon, codings that
    /// are not understood are refused, though RFC 9112 would let some be mended. Two things are milder:
    ///
    /// - A line that goes on behind its end (RFC 9112, 5.2) is made one where it lies. Servers of old
    ///   write them, and clients have no say in it.
    /// - The fields of a response that never has content (to HEAD; 1xx, 204, 304) do not frame it,
    ///   and those of a 2xx to CONNECT are ignored (RFC 9112, 6.3).
    pub fn read_response<'i>(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        asked: Asked,
        input: &mut Input<'i>,
    ) -> Result<Option<Response<'i>>, Broken> {
        if self.fields_at == 0 {
            let shown = input.peek();
            let view = shown.get(..limits.head).unwrap_or(shown);
            if !self.status_line(leniency, view)? {
                return unfinished(limits, shown);
            }
        }
        let bounds = Bounds::new(limits, leniency, true);
        let (lines, end) = loop {
            let shown = input.peek();
            let view = shown.get(..limits.head).unwrap_or(shown);
            let facts = &mut self.facts;
            let tell = |line| facts.handle_response_line(view, line, leniency);
            match self.lines.read(view, &bounds, tell)? {
                Found::End { lines, end } => break (lines, end),
                Found::Fold { from, to } => {
                    input.peek_mut().get_mut(from..to).unwrap_or_default().fill(b' ');
                }
                Found::More => return unfinished(limits, shown),
            }
        };
        let version = self.version();
        let code = input.peek().get(CODE..REASON).map(text).unwrap_or_default();
        let status = code.parse().ok().and_then(Status::new);
        let status = status.ok_or(Rule::StatusLine.broken(CODE))?;
        let framing = self.facts.of_response(version, status, asked, leniency)?;

        let head: &'i [u8] = input.take(end);
        let reason = head.get(REASON..self.fields_at).unwrap_or_default().trim_ascii();
        let fields = Fields::judged(head.get(self.fields_at..lines).unwrap_or_default());
        *self = Self::default();
        let Framing { length, keeps_alive, .. } = framing;
        Ok(Some(Response { version, status, reason, fields, length, keeps_alive }))
    }

    /// Whether octets of a head are there, the one empty line before it taken away.
    fn skip_empty(&mut self, leniency: &Leniency, input: &mut Input<'_>) -> Result<bool, Broken> {
        loop {
            let length = match input.peek() {
                [] => return Ok(false),
                [LF, ..] if !leniency.bare_lf => return Err(Rule::LineEnd.broken(0)),
                [CR | LF, ..] if self.skipped => return Err(Rule::RequestLine.broken(0)),
                [CR] => return Ok(false),
                [CR, LF, ..] => 2,
                [CR, ..] => return Err(Rule::LineEnd.broken(1)),
                [LF, ..] => 1,
                _ => {
                    self.begun = true;
                    return Ok(true);
                }
            };
            input.take(length);
            self.skipped = true;
        }
    }

    /// `method SP request-target SP HTTP-version CRLF`; whether all of it was there.
    #[inline]
    fn request_line(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        view: &[u8],
    ) -> Result<bool, Broken> {
        if self.method_end == 0 {
            let at = self.at.saturating_add(scan::token(view.get(self.at..).unwrap_or_default()));
            self.at = at;
            match view.get(at) {
                None => return Ok(false),
                Some(b' ') if at > 0 => self.method_end = at,
                Some(b' ' | b'\t' | &CR | &LF) => return Err(Rule::RequestLine.broken(at)),
                Some(_) => return Err(Rule::MethodToken.broken(at)),
            }
            self.at = at.saturating_add(1);
        }
        let target = self.method_end.saturating_add(1);
        if self.target_end == 0 {
            let at = target::reach(view, self.at, target.saturating_add(limits.target))?;
            self.at = at;
            match view.get(at) {
                Some(b' ') if at > target => self.target_end = at,
                Some(b' ' | b'\t' | &CR | &LF) => return Err(Rule::RequestLine.broken(at)),
                _ => return Ok(false),
            }
        }
        let version = self.target_end.saturating_add(1);
        let Some((major, minor)) = digits(view, version)? else { return Ok(false) };
        let end = version.saturating_add(VERSION);
        let line_end = match view.get(end..).unwrap_or_default() {
            [] => return Ok(false),
            [CR, ..] => end.saturating_add(1),
            [LF, ..] if leniency.bare_lf => end,
            [LF, ..] => return Err(Rule::LineEnd.broken(end)),
            [b'0'..=b'9' | b'.', ..] => return Err(Rule::VersionForm.broken(end)),
            _ => return Err(Rule::RequestLine.broken(end)),
        };
        if major != b'1' {
            return Err(Rule::VersionUnsupported.broken(version.saturating_add(MAJOR)));
        }
        self.minor = minor != b'0';
        self.form = match Form::new(self.method(view), self.target(view)) {
            Ok(form) => form,
            Err(broken) => return Err(broken.rule.broken(target.saturating_add(broken.at))),
        };
        self.line_feed(view, line_end)
    }

    /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF`; whether all of it was there.
    fn status_line(&mut self, leniency: &Leniency, view: &[u8]) -> Result<bool, Broken> {
        self.begun = !view.is_empty();
        let Some((major, minor)) = digits(view, 0)? else { return Ok(false) };
        match view.get(VERSION) {
            None => return Ok(false),
            Some(b' ') if major == b'1' => self.minor = minor != b'0',
            Some(b' ') => return Err(Rule::VersionUnsupported.broken(MAJOR)),
            Some(b'0'..=b'9' | b'.') => return Err(Rule::VersionForm.broken(VERSION)),
            Some(_) => return Err(Rule::StatusLine.broken(VERSION)),
        }
        for at in CODE..REASON {
            match view.get(at) {
                None => return Ok(false),
                Some(b'1'..=b'9') => {}
                Some(b'0') if at > CODE => {}
                Some(_) => return Err(Rule::StatusLine.broken(at)),
            }
        }
        match view.get(REASON) {
            None => return Ok(false),
            Some(b' ') => {}
            Some(&CR) if leniency.bare_status => {}
            Some(&LF) if leniency.bare_status && leniency.bare_lf => {}
            Some(_) => return Err(Rule::StatusLine.broken(REASON)),
        }
        let at = self.at.max(REASON);
        let at = at.saturating_add(scan::text(view.get(at..).unwrap_or_default()));
        self.at = at;
        match view.get(at) {
            None => Ok(false),
            Some(&CR) => self.line_feed(view, at.saturating_add(1)),
            Some(&LF) if leniency.bare_lf => self.line_feed(view, at),
            Some(&LF) => Err(Rule::LineEnd.broken(at)),
            Some(_) => Err(Rule::StatusLine.broken(at)),
        }
    }

    /// The LF of the first line; whether it was there.
    #[inline]
    fn line_feed(&mut self, view: &[u8], at: usize) -> Result<bool, Broken> {
        match view.get(at) {
            None => return Ok(false),
            Some(&LF) => {}
            Some(_) => return Err(Rule::LineEnd.broken(at)),
        }
        self.fields_at = at.saturating_add(1);
        self.lines = Lines::new(self.fields_at);
        Ok(true)
    }

    fn version(&self) -> Version {
        if self.minor { Version::Http11 } else { Version::Http10 }
    }

    fn method<'v>(&self, view: &'v [u8]) -> Method<'v> {
        Method::from_token(view.get(..self.method_end).unwrap_or_default())
    }

    fn target<'v>(&self, view: &'v [u8]) -> &'v [u8] {
        view.get(self.method_end..self.target_end).and_then(|it| it.get(1..)).unwrap_or_default()
    }
}

/// The digits of `"HTTP/" DIGIT "." DIGIT`; `None` if more is needed. These eight octets are looked
/// at again until all of them are there.
#[inline]
fn digits(view: &[u8], begin: usize) -> Result<Option<(u8, u8)>, Broken> {
    match view.get(begin..).unwrap_or_default() {
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9', ..] => {
            Ok(Some((*major, *minor)))
        }
        octets => match version_fault(octets) {
            Some(odd) => Err(Rule::VersionForm.broken(begin.saturating_add(odd))),
            None => Ok(None),
        },
    }
}

/// The first octet that no version has there.
#[cold]
fn version_fault(octets: &[u8]) -> Option<usize> {
    octets.iter().zip(b"HTTP/0.0").position(|(octet, like)| match like {
        b'0' => !octet.is_ascii_digit(),
        like => octet != like,
    })
}

/// More is needed, unless that would be more than a head may have.
fn unfinished<T>(limits: &Limits, shown: &[u8]) -> Result<Option<T>, Broken> {
    if shown.len() > limits.head { Err(Rule::HeadTooLong.broken(limits.head)) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// Under one octet at a time no call has more to look at than a version and what is around it,
    /// so that the work is linear; `.ci/counts` counts it.
    fn looks_once(bytes: &[u8], mut read: impl FnMut(&mut HeadReader, &mut Input<'_>) -> bool) {
        let mut head = HeadReader::default();
        let mut bytes = bytes.to_vec();
        for end in 1..=bytes.len() {
            let mut input = Input::new(&mut bytes[..end], 0, false);
            let before = if head.fields_at == 0 { head.at } else { head.lines.judged() };
            let again = end.saturating_sub(before);
            assert!(again <= " HTTP/1.1 200 \r\n".len(), "{again} of {end} octets");
            if read(&mut head, &mut input) {
                return;
            }
        }
        panic!("the head was not read");
    }

    #[test]
    fn each_octet_is_looked_at_once() {
        let (limits, leniency) = (Limits::default(), Leniency::default());
        let long = "x".repeat(4000);
        let percents = "%41".repeat(1000);
        for bytes in [
            format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            format!("GET /{long}?{percents} HTTP/1.1\r\nHost: a\r\n{long}: {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A:\t b\r\n".repeat(100)),
        ] {
            looks_once(bytes.as_bytes(), |head, input| {
                head.read_request(&limits, &leniency, input).unwrap().is_some()
            });
        }
        let bytes = format!("HTTP/1.1 200 {long}\r\nA: {long}\r\n {long}\r\n\tb\r\n\r\n");
        looks_once(bytes.as_bytes(), |head, input| {
            head.read_response(&limits, &leniency, Asked::Content, input).unwrap().is_some()
        });
    }
}
