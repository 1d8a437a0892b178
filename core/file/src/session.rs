//! The server's side of one connection.
//!
//! A session finds out what its peer wants and tells it as a [`SessionEvent`]. It knows nothing of
//! folders: the [`Repository`](crate::Repository) does, and answers with commands.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Detecting | `GET word`, then LF, 50 ms of quiet or end of input | Answering | `Asked` |
//! | Detecting | a line that ends in `HTTP/1.x` | Closed | `Hinted`; a hint is sent |
//! | Detecting | end of input, and no byte before | Closed | |
//! | Detecting | anything else, or 10 minutes of silence | Failed | |
//! | Answering | command `Unknown` | Closed | |
//! | Answering | command `File` | Sending | |
//! | Sending | all of it has left | Sent | `Sent` |
//! | Sending | nothing leaves for a minute | Failed | |
//! | Sent | command `Whole` | Closed | |
//!
//! The course's server reads once and takes that for the request; its client sends no end of line.
//! Here a request that comes in pieces is waited for, so that cuts do not matter.

use core::time::Duration;
use semfio_machine::{Deadline, FileSpan, Input, Now, Outbox, Refused, Step, StreamMachine};

/// Silence that ends a request without an end of line.
pub const QUIET: Duration = Duration::from_millis(50);
/// How long a peer may say nothing at all: the course's client connects before its user types.
pub const SILENT: Duration = Duration::from_secs(600);
/// How long a peer may take nothing of what is sent.
pub const STALLED: Duration = Duration::from_secs(60);
/// The longest request, its end included: `GET`, the longest name, and a browser's additions.
pub const MAX_REQUEST: usize = semfio_path::MAX_LEN + 64;

/// What the course's server sends after a file.
pub(crate) const OK: &[u8] = b"OK";
const ERROR_HEAD: &str = "ERROR \"O arquivo ";
const ERROR_TAIL: &str = " não existe\"";

const HINT: &str = "HTTP/1.0 421 Misdirected Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    This port serves files by their names, not pages: semfio file get HOST:PORT NAME\r\n";

/// The parts of what the course's server says of a file it does not have.
pub(crate) fn error_text(word: &[u8]) -> [&[u8]; 3] {
    [ERROR_HEAD.as_bytes(), word, ERROR_TAIL.as_bytes()]
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    until: Option<Deadline>,
    /// The wait is over.
    expired: bool,
    /// Bytes of the request that are known to hold no line feed.
    scanned: usize,
    opened: bool,
    /// In Sending: what waited when last looked at.
    queued: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Detecting,
    Answering,
    Sending,
    Sent,
    Closed,
    Failed(SessionError),
}

/// What a peer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent<'i> {
    /// A file, by the first word after `GET`, as it came: no white space, and any other bytes.
    Asked(&'i [u8]),
    /// All of the file has left; to be answered with [`SessionCommand::Whole`], or cut.
    Sent,
    /// It speaks HTTP, and was told what is spoken here.
    Hinted,
}

/// How a session is told to answer.
#[derive(Clone, Copy, Debug)]
pub enum SessionCommand<'c> {
    /// To `Asked`: with this content. `Sent` follows.
    File(FileSpan),
    /// To `Asked`: that there is no file of this name; the dialogue ends.
    Unknown(&'c [u8]),
    /// To `Sent`: that the file was whole; the dialogue ends.
    Whole,
}

/// How a peer broke the protocol. The course's dialect has no words for it: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// Not `GET` and a word.
    NotARequest,
    /// A request longer than [`MAX_REQUEST`].
    TooLong,
    /// No byte within [`SILENT`].
    Silent,
    /// It took nothing of what was sent within [`STALLED`].
    Stalled,
}

impl core::fmt::Display for SessionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotARequest => f.write_str("not GET and a name"),
            Self::TooLong => write!(f, "a request longer than {MAX_REQUEST} bytes"),
            Self::Silent => f.write_str("no request in time"),
            Self::Stalled => f.write_str("it does not take what is sent"),
        }
    }
}

impl core::error::Error for SessionError {}

type Verdict<'i> = Result<Step<SessionEvent<'i>>, SessionError>;

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session with a peer of whom nothing is known.
    pub fn new() -> Self {
        Self {
            state: State::Detecting,
            until: None,
            expired: false,
            scanned: 0,
            opened: false,
            queued: 0,
        }
    }

    fn wait(&mut self, now: Now, time: Duration, why: &'static str) {
        self.until = Some(Deadline { at: now.mono.saturating_add(time), why });
        self.expired = false;
    }

    fn detect<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if !self.opened {
            self.opened = true;
            self.wait(now, SILENT, "request");
        }
        let seen = input.peek();
        let fresh = seen.get(self.scanned..).unwrap_or_default();
        let end = memchr::memchr(b'\n', fresh).map(|at| at.saturating_add(self.scanned));
        if end.unwrap_or(seen.len()) >= MAX_REQUEST {
            return Err(SessionError::TooLong);
        }
        let len = match end {
            Some(end) => end.saturating_add(1),
            None if input.at_eof() && seen.is_empty() => {
                self.close();
                return Ok(Step::Done);
            }
            None if self.expired && seen.is_empty() => return Err(SessionError::Silent),
            None if input.at_eof() || (self.expired && fresh.is_empty()) => seen.len(),
            None => {
                if !fresh.is_empty() {
                    self.scanned = seen.len();
                    self.wait(now, QUIET, "quiet");
                }
                return Ok(Step::NeedInput(1));
            }
        };
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        let line: &'i [u8] = input.take(len);
        let mut words = line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty());
        let gets = line.starts_with(b"GET") && words.next() == Some(b"GET");
        let word = words.next();
        if words.next_back().is_some_and(|last| last.starts_with(b"HTTP/1.")) {
            out.put(HINT.as_bytes());
            self.close();
            return Ok(Step::Event(SessionEvent::Hinted));
        }
        let Some(word) = word.filter(|_| gets) else {
            return Err(SessionError::NotARequest);
        };
        self.until = None;
        self.state = State::Answering;
        Ok(Step::Event(SessionEvent::Asked(word)))
    }

    /// Waits until all has left, which it is told of as of room.
    fn sending<'i>(&mut self, now: Now, out: &Outbox) -> Verdict<'i> {
        if out.is_empty() {
            self.until = None;
            self.state = State::Sent;
            return Ok(Step::Event(SessionEvent::Sent));
        }
        if out.queued() != self.queued {
            self.queued = out.queued();
            self.wait(now, STALLED, "stalled");
        } else if self.expired {
            return Err(SessionError::Stalled);
        }
        Ok(Step::NeedRoom)
    }

    fn close(&mut self) {
        self.until = None;
        self.state = State::Closed;
    }
}

/// What the course's server splits at.
pub(crate) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

impl StreamMachine for Session {
    type Event<'i> = SessionEvent<'i>;
    type Command<'c> = SessionCommand<'c>;
    type Error = SessionError;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        MAX_REQUEST
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Detecting => "Detecting",
            State::Answering => "Answering",
            State::Sending => "Sending",
            State::Sent => "Sent",
            State::Closed => "Closed",
            State::Failed(_) => "Failed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Verdict<'i> {
        let verdict = match self.state {
            State::Detecting => self.detect(now, input, out),
            State::Sending => self.sending(now, out),
            State::Answering | State::Sent => Ok(Step::NeedCommand),
            State::Closed => Ok(Step::Done),
            State::Failed(error) => Err(error),
        };
        if let Err(error) = verdict {
            self.until = None;
            self.state = State::Failed(error);
        }
        verdict
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: SessionCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match (command, self.state) {
            (SessionCommand::File(span), State::Answering) => {
                out.put_file(span);
                self.state = State::Sending;
            }
            (SessionCommand::Unknown(word), State::Answering) => {
                error_text(word).iter().for_each(|part| out.put(part));
                self.close();
            }
            (SessionCommand::Whole, State::Sent) => {
                out.put(OK);
                self.close();
            }
            _ => return Err(Refused::State(self.state())),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.until
    }

    fn handle_timeout(&mut self, now: Now, _: &mut Outbox) {
        if self.until.is_some_and(|until| until.at <= now.mono) {
            self.until = None;
            self.expired = true;
        }
    }
}
