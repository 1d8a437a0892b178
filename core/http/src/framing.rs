//! What the fields of a head say of its connection and its content (RFC 9112, 6 and 9).

use crate::error::{Broken, Rule};
use crate::limits::Leniency;
use crate::lines::Line;
use crate::message::{Asked, BodyLength, Version};
use crate::scan::{is_tchar, trim};
use crate::status::Status;
use crate::target::authority;

/// What was learnt of the fields so far. Each line is judged when it is whole; what takes two lines,
/// or none, when the head is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Where the value of `Host` begins and ends.
    pub(crate) host: Option<(usize, usize)>,
    length: Option<u64>,
    coding: Coding,
    /// Where the lines of length and coding begin.
    length_at: usize,
    coding_at: usize,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    /// An expectation that is not understood, and where.
    expectation: Option<usize>,
}

/// The codings so far, in the order they were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// `chunked` alone.
    Chunked,
    /// Others.
    Unknown,
    /// Others, then `chunked`.
    UnknownChunked,
}

/// How a message goes on, and what then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    pub(crate) length: BodyLength,
    pub(crate) keeps_alive: bool,
    pub(crate) expects_continue: bool,
}

/// The fields that are of interest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Expect,
    Connection,
    ContentLength,
    TransferEncoding,
}

impl Known {
    #[inline]
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        // A letter and a length rule most names out; as one number they need no table of jumps.
        let [first, ..] = name else { return None };
        let key = name.len().wrapping_mul(256) | usize::from(first | 0x20);
        const HOST: usize = 0x400 | b'h' as usize;
        const EXPECT: usize = 0x600 | b'e' as usize;
        const CONNECTION: usize = 0xA00 | b'c' as usize;
        const CONTENT_LENGTH: usize = 0xE00 | b'c' as usize;
        const TRANSFER_ENCODING: usize = 0x1100 | b't' as usize;
        let (known, spelled): (_, &[u8]) = match key {
            HOST => (Self::Host, b"host"),
            EXPECT => (Self::Expect, b"expect"),
            CONNECTION => (Self::Connection, b"connection"),
            CONTENT_LENGTH => (Self::ContentLength, b"content-length"),
            TRANSFER_ENCODING => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(spelled).then_some(known)
    }
}

impl Facts {
    /// Takes in a line of a request.
    #[inline]
    pub(crate) fn handle_request_line(
        &mut self,
        view: &[u8],
        line: Line,
        leniency: &Leniency,
    ) -> Result<(), Broken> {
        match Known::new(line.name(view)) {
            None => Ok(()),
            Some(Known::Host) => self.handle_host(view, line),
            Some(Known::Expect) => {
                if trim(line.value(view)).eq_ignore_ascii_case(b"100-continue") {
                    self.expects_continue = true;
                } else {
                    self.expectation = self.expectation.or(Some(line.value_at(view)));
                }
                Ok(())
            }
            Some(known) => self.handle_framing(known, view, line, leniency),
        }
    }

    /// Takes in a line of a response.
    #[inline]
    pub(crate) fn handle_response_line(
        &mut self,
        view: &[u8],
        line: Line,
        leniency: &Leniency,
    ) -> Result<(), Broken> {
        match Known::new(line.name(view)) {
            None => Ok(()),
            Some(known) => self.handle_framing(known, view, line, leniency),
        }
    }

    fn handle_host(&mut self, view: &[u8], line: Line) -> Result<(), Broken> {
        if self.host.is_some() {
            return Err(Rule::HostTwice.broken(line.start));
        }
        let value = trim(line.value(view));
        let begin = line.value_at(view);
        self.host = Some((begin, begin.saturating_add(value.len())));
        // Whether it may be empty depends on the target; that is asked at the end.
        if value.is_empty() {
            return Ok(());
        }
        match authority(value) {
            Ok(_) => Ok(()),
            Err(at) => Err(Rule::HostForm.broken(begin.saturating_add(at))),
        }
    }

    fn handle_framing(
        &mut self,
        known: Known,
        view: &[u8],
        line: Line,
        leniency: &Leniency,
    ) -> Result<(), Broken> {
        let value = trim(line.value(view));
        match known {
            // What browsers of 1.1 say, and what says nothing there.
            Known::Connection if value == b"keep-alive" => {
                self.keep_alive = true;
                Ok(())
            }
            Known::Connection => {
                for option in value.split(|it| *it == b',').map(trim) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            Known::ContentLength => {
                self.length_at = line.start;
                if leniency.repeated_length {
                    for member in value.split(|it| *it == b',').map(trim) {
                        self.handle_length(member, view, line)?;
                    }
                    return Ok(());
                }
                if self.length.is_some() {
                    return Err(Rule::LengthTwice.broken(line.start));
                }
                self.handle_length(value, view, line)
            }
            Known::TransferEncoding => {
                self.coding_at = line.start;
                value
                    .split(|it| *it == b',')
                    .try_for_each(|it| self.handle_coding(trim(it)))
                    .map_err(|rule| rule.broken(line.value_at(view)))
            }
            Known::Host | Known::Expect => Ok(()),
        }
    }

    fn handle_length(&mut self, digits: &[u8], view: &[u8], line: Line) -> Result<(), Broken> {
        let length = decimal(digits).ok_or(Rule::LengthForm.broken(line.value_at(view)))?;
        if self.length.is_some_and(|it| it != length) {
            return Err(Rule::LengthTwice.broken(line.value_at(view)));
        }
        self.length = Some(length);
        Ok(())
    }

    /// Empty members are legal in a list and refused nevertheless: some readers then see no
    /// `chunked`. So are parameters; `chunked` has none.
    fn handle_coding(&mut self, coding: &[u8]) -> Result<(), Rule> {
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        self.coding = match self.coding {
            _ if coding.is_empty() || !coding.iter().copied().all(is_tchar) => {
                return Err(Rule::CodingForm);
            }
            Coding::Chunked | Coding::UnknownChunked if is_chunked => {
                return Err(Rule::ChunkedTwice);
            }
            Coding::Chunked | Coding::UnknownChunked => return Err(Rule::ChunkedLast),
            Coding::None if is_chunked => Coding::Chunked,
            Coding::Unknown if is_chunked => Coding::UnknownChunked,
            Coding::None | Coding::Unknown => Coding::Unknown,
        };
        Ok(())
    }

    /// What a whole head of a request says.
    #[inline]
    pub(crate) fn of_request(
        &self,
        version: Version,
        leniency: &Leniency,
    ) -> Result<Framing, Broken> {
        let length = match self.coded(version, leniency)? {
            Coding::None => self.length.map_or(BodyLength::None, BodyLength::Known),
            Coding::Chunked => BodyLength::Chunked,
            Coding::Unknown => return Err(Rule::ChunkedLast.broken(self.coding_at)),
            Coding::UnknownChunked => return Err(Rule::CodingUnknown.broken(self.coding_at)),
        };
        // What a peer of 1.0 expects is to be ignored (RFC 9110, 10.1.1).
        if version == Version::Http11 {
            if let Some(at) = self.expectation {
                return Err(Rule::Expectation.broken(at));
            }
        }
        let has_content = !matches!(length, BodyLength::None | BodyLength::Known(0));
        Ok(Framing {
            length,
            keeps_alive: self.keeps_alive(version),
            expects_continue: self.expects_continue && has_content && version == Version::Http11,
        })
    }

    /// What a whole head of a response says.
    pub(crate) fn of_response(
        &self,
        version: Version,
        status: Status,
        asked: Asked,
        leniency: &Leniency,
    ) -> Result<Framing, Broken> {
        let tunnel = asked == Asked::Connect && status.is_success();
        // What frames a tunnel's response is to be ignored.
        let coding = if tunnel { Coding::None } else { self.coded(version, leniency)? };
        let length = match (coding, self.length) {
            _ if tunnel || asked == Asked::Head || status.forbids_content() => BodyLength::None,
            (Coding::Chunked, _) => BodyLength::Chunked,
            (Coding::None, Some(length)) => BodyLength::Known(length),
            (Coding::None, None) => BodyLength::UntilClose,
            // It would end with the connection, but nobody here could decode it.
            (Coding::Unknown | Coding::UnknownChunked, _) => {
                return Err(Rule::CodingUnknown.broken(self.coding_at));
            }
        };
        let keeps_alive = self.keeps_alive(version) && length != BodyLength::UntilClose;
        Ok(Framing { length, keeps_alive, expects_continue: false })
    }

    #[inline]
    fn coded(&self, version: Version, leniency: &Leniency) -> Result<Coding, Broken> {
        if self.coding != Coding::None {
            if version == Version::Http10 {
                return Err(Rule::CodingVersion.broken(self.coding_at));
            }
            if self.length.is_some() && !leniency.length_beside_coding {
                let at = self.coding_at.max(self.length_at);
                return Err(Rule::LengthAndCoding.broken(at));
            }
        }
        Ok(self.coding)
    }

    #[inline]
    fn keeps_alive(&self, version: Version) -> bool {
        let both = self.length.is_some() && self.coding != Coding::None;
        let asked = self.keep_alive || version == Version::Http11;
        asked && !self.close && !both
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
