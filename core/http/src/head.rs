//! Heads of messages, however they are cut.

use semfio_machine::Input;

use crate::error::{Broken, Rule};
use crate::field::Fields;
use crate::framing::Facts;
use crate::limits::{Leniency, Limits};
use crate::lines::{Bounds, Found, Lines};
use crate::message::{Asked, Request, Response, Target, Version};
use crate::method::Method;
use crate::scan;
use crate::status::Status;
use crate::target::{self, text};

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Where the parts of a status line begin, and the digits of its version.
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
    stage: Stage,
    /// An empty line was skipped.
    skipped: bool,
    /// All octets before it have been judged, as long as the first line is not whole.
    at: usize,
    /// Where the first word of the first line ends, and the second.
    first: usize,
    second: usize,
    /// The digits of the version.
    major: u8,
    minor: u8,
    /// The target has an authority.
    named: bool,
    lines: Lines,
    fields_at: usize,
    facts: Facts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing, or an empty line.
    #[default]
    Begin,
    /// The LF of an empty line.
    Empty,
    Method,
    Target,
    Version,
    /// The octet behind the version of a request.
    RequestEnd,
    Code,
    Reason,
    /// The LF of the first line.
    LineFeed,
    Fields,
}

impl HeadReader {
    /// Whether an octet of a head has come.
    pub fn is_begun(&self) -> bool {
        self.stage != Stage::Begin
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
        if matches!(self.stage, Stage::Begin | Stage::Empty) && !self.skip_empty(leniency, input)? {
            return Ok(None);
        }
        let shown = input.peek();
        let view = shown.get(..limits.head).unwrap_or(shown);
        if self.stage != Stage::Fields && !self.request_line(limits, leniency, view)? {
            return unfinished(limits, shown);
        }
        let bounds = Bounds::new(limits, leniency, false);
        let (lines, end) = loop {
            match self.lines.next(view, &bounds)? {
                Found::Line(line) => self.facts.handle_request_line(view, line, leniency)?,
                Found::End { lines, end } => break (lines, end),
                Found::More | Found::Fold { .. } => return unfinished(limits, shown),
            }
        };
        let version = self.version();
        let framing = self.facts.of_request(version, leniency)?;
        match self.facts.host {
            None if version == Version::Http11 => return Err(Rule::HostMissing.broken(lines)),
            Some((begin, end)) if begin == end && !self.named && !leniency.empty_host => {
                return Err(Rule::HostForm.broken(begin));
            }
            _ => {}
        }

        let read = core::mem::take(self);
        let head: &'i [u8] = input.take(end);
        let method = read.method(head);
        let target = Target::new(method, read.target(head))?;
        let (begin, end) = read.facts.host.unwrap_or_default();
        let authority = match target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => authority,
            _ => head.get(begin..end).map(text).unwrap_or_default(),
        };
        Ok(Some(Request {
            method,
            target,
            version,
            authority,
            fields: Fields::judged(head.get(read.fields_at..lines).unwrap_or_default()),
            length: framing.length,
            expects_continue: framing.expects_continue,
            keeps_alive: framing.keeps_alive,
        }))
    }

    /// Takes the head of a response when all of it is there. `None`: more is needed.
    ///
    /// A line that goes on behind its end (RFC 9112, 5.2) is made one where it lies.
    pub fn read_response<'i>(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        asked: Asked,
        input: &mut Input<'i>,
    ) -> Result<Option<Response<'i>>, Broken> {
        if self.stage != Stage::Fields {
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
            match self.lines.next(view, &bounds)? {
                Found::Line(line) => self.facts.handle_response_line(view, line, leniency)?,
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

        let read = core::mem::take(self);
        let head: &'i [u8] = input.take(end);
        let reason = head.get(REASON..read.fields_at).unwrap_or_default();
        Ok(Some(Response {
            version,
            status,
            reason: reason.trim_ascii(),
            fields: Fields::judged(head.get(read.fields_at..lines).unwrap_or_default()),
            length: framing.length,
            keeps_alive: framing.keeps_alive,
        }))
    }

    /// Whether octets of a head are there, the one empty line before it taken away.
    fn skip_empty(&mut self, leniency: &Leniency, input: &mut Input<'_>) -> Result<bool, Broken> {
        loop {
            let length = match (self.stage, input.peek()) {
                (Stage::Begin, []) | (Stage::Empty, [] | [_]) => return Ok(false),
                (Stage::Begin, [CR, ..]) if !self.skipped => {
                    self.stage = Stage::Empty;
                    continue;
                }
                (Stage::Begin, [LF, ..]) if !leniency.bare_lf => {
                    return Err(Rule::LineEnd.broken(0));
                }
                (Stage::Begin, [LF, ..]) if !self.skipped => 1,
                (Stage::Empty, [_, LF, ..]) => 2,
                (Stage::Empty, _) => return Err(Rule::LineEnd.broken(1)),
                (_, _) => {
                    self.stage = Stage::Method;
                    return Ok(true);
                }
            };
            input.take(length);
            self.stage = Stage::Begin;
            self.skipped = true;
        }
    }

    /// `method SP request-target SP HTTP-version CRLF`; whether all of it was there.
    fn request_line(
        &mut self,
        limits: &Limits,
        leniency: &Leniency,
        view: &[u8],
    ) -> Result<bool, Broken> {
        if self.stage == Stage::Method {
            let at = self.at.saturating_add(scan::token(view.get(self.at..).unwrap_or_default()));
            self.at = at;
            match view.get(at) {
                None => return Ok(false),
                Some(b' ') if at > 0 => self.first = at,
                Some(b' ' | b'\t' | &CR | &LF) => return Err(Rule::RequestLine.broken(at)),
                Some(_) => return Err(Rule::MethodToken.broken(at)),
            }
            self.at = at.saturating_add(1);
            self.stage = Stage::Target;
        }
        if self.stage == Stage::Target {
            let begin = self.first.saturating_add(1);
            let at = target::reach(view, self.at, begin.saturating_add(limits.target))?;
            self.at = at;
            match view.get(at) {
                Some(b' ') if at > begin => self.second = at,
                Some(b' ' | b'\t' | &CR | &LF) => return Err(Rule::RequestLine.broken(at)),
                _ => return Ok(false),
            }
            self.at = at.saturating_add(1);
            self.stage = Stage::Version;
        }
        if self.stage == Stage::Version {
            if !self.version_octets(view, self.second.saturating_add(1))? {
                return Ok(false);
            }
            self.stage = Stage::RequestEnd;
        }
        if self.stage == Stage::RequestEnd {
            match view.get(self.at) {
                None => return Ok(false),
                Some(&CR) => self.at = self.at.saturating_add(1),
                Some(&LF) if leniency.bare_lf => {}
                Some(&LF) => return Err(Rule::LineEnd.broken(self.at)),
                Some(b'0'..=b'9' | b'.') => return Err(Rule::VersionForm.broken(self.at)),
                Some(_) => return Err(Rule::RequestLine.broken(self.at)),
            }
            let version = self.second.saturating_add(1);
            self.judge_version(version)?;
            let target = Target::new(self.method(view), self.target(view))
                .map_err(|it| it.rule.broken(self.first.saturating_add(1).saturating_add(it.at)))?;
            self.named = matches!(target, Target::Absolute { .. } | Target::Authority(_));
            self.stage = Stage::LineFeed;
        }
        self.line_feed(view)
    }

    /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF`; whether all of it was there.
    fn status_line(&mut self, leniency: &Leniency, view: &[u8]) -> Result<bool, Broken> {
        if self.stage == Stage::Begin && !view.is_empty() {
            self.stage = Stage::Version;
        }
        if self.stage == Stage::Version {
            if !self.version_octets(view, 0)? {
                return Ok(false);
            }
            match view.get(self.at) {
                None => return Ok(false),
                Some(b' ') => self.judge_version(0)?,
                Some(b'0'..=b'9' | b'.') => return Err(Rule::VersionForm.broken(self.at)),
                Some(_) => return Err(Rule::StatusLine.broken(self.at)),
            }
            self.at = CODE;
            self.stage = Stage::Code;
        }
        if self.stage == Stage::Code {
            while self.at < REASON {
                match view.get(self.at) {
                    None => return Ok(false),
                    Some(b'1'..=b'9') => {}
                    Some(b'0') if self.at > CODE => {}
                    Some(_) => return Err(Rule::StatusLine.broken(self.at)),
                }
                self.at = self.at.saturating_add(1);
            }
            match view.get(self.at) {
                None => return Ok(false),
                Some(b' ') => self.at = self.at.saturating_add(1),
                Some(&CR) if leniency.bare_status => {}
                Some(&LF) if leniency.bare_status && leniency.bare_lf => {}
                Some(_) => return Err(Rule::StatusLine.broken(self.at)),
            }
            self.stage = Stage::Reason;
        }
        if self.stage == Stage::Reason {
            let at = self.at.saturating_add(scan::text(view.get(self.at..).unwrap_or_default()));
            self.at = at;
            match view.get(at) {
                None => return Ok(false),
                Some(&CR) => self.at = at.saturating_add(1),
                Some(&LF) if leniency.bare_lf => {}
                Some(&LF) => return Err(Rule::LineEnd.broken(at)),
                Some(_) => return Err(Rule::StatusLine.broken(at)),
            }
            self.stage = Stage::LineFeed;
        }
        self.line_feed(view)
    }

    /// The LF of the first line; whether it was there, if it is its turn.
    fn line_feed(&mut self, view: &[u8]) -> Result<bool, Broken> {
        match view.get(self.at) {
            _ if self.stage != Stage::LineFeed => return Ok(false),
            None => return Ok(false),
            Some(&LF) => {}
            Some(_) => return Err(Rule::LineEnd.broken(self.at)),
        }
        self.fields_at = self.at.saturating_add(1);
        self.lines = Lines::new(self.fields_at);
        self.stage = Stage::Fields;
        Ok(true)
    }

    /// `"HTTP/" DIGIT "." DIGIT`; whether all of it was there.
    fn version_octets(&mut self, view: &[u8], begin: usize) -> Result<bool, Broken> {
        let octets = view.get(begin..).unwrap_or_default();
        if let [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9', ..] =
            octets
        {
            (self.major, self.minor) = (*major, *minor);
            self.at = begin.saturating_add(8);
            return Ok(true);
        }
        let form = octets.iter().zip(b"HTTP/0.0");
        let fits = |(octet, like): (&u8, &u8)| match like {
            b'0' => octet.is_ascii_digit(),
            like => octet == like,
        };
        match form.clone().position(|it| !fits(it)) {
            Some(odd) => Err(Rule::VersionForm.broken(begin.saturating_add(odd))),
            None => Ok(false),
        }
    }

    fn judge_version(&self, begin: usize) -> Result<(), Broken> {
        match self.major {
            b'1' => Ok(()),
            _ => Err(Rule::VersionUnsupported.broken(begin.saturating_add(MAJOR))),
        }
    }

    fn version(&self) -> Version {
        if self.minor == b'0' { Version::Http10 } else { Version::Http11 }
    }

    fn method<'v>(&self, view: &'v [u8]) -> Method<'v> {
        Method::new(view.get(..self.first).map(text).unwrap_or_default())
    }

    fn target<'v>(&self, view: &'v [u8]) -> &'v [u8] {
        view.get(self.first..self.second).and_then(|it| it.get(1..)).unwrap_or_default()
    }
}

/// More is needed, unless that would be more than a head may have.
fn unfinished<T>(limits: &Limits, shown: &[u8]) -> Result<Option<T>, Broken> {
    if shown.len() > limits.head { Err(Rule::HeadTooLong.broken(limits.head)) } else { Ok(None) }
}
