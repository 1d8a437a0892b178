//! One side of a connection: a server in any dialect, or a framed client.
//!
//! A session tells what its peer says as [`SessionEvent`]s. It knows nothing of folders: its
//! service does, and answers with commands.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Detecting | 0xFF | AwaitHello | |
//! | Detecting | `GET word`, then LF, 50 ms of quiet or end of input | Answering | `Asked` |
//! | Detecting | a line that ends in `HTTP/1.x` | Closed | `Hinted`; a hint is sent |
//! | Detecting | end of input, and no byte before | Closed | |
//! | Detecting | anything else, or 10 minutes of silence | Failed | |
//! | Answering | command `Unknown` | Closed | |
//! | Answering | command `File` | Sending | |
//! | Sending | all of it has left | Sent | `Sent` |
//! | Sending | nothing leaves for a minute | Failed | |
//! | Sent | command `Whole` | Closed | |
//! | AwaitHello | preface, HELLO | Framed | `Greeted`; WELCOME is sent |
//! | Start (a client) | (the connection stands) | AwaitWelcome | preface and HELLO are sent |
//! | AwaitWelcome | preface, WELCOME | Framed | `Message` |
//! | AwaitHello, AwaitWelcome | 10 s | Failed | |
//! | Framed | a frame | Framed | `Message`, or `Body` for each piece |
//! | Framed | a request while one is not answered | Framed | waits its turn |
//! | Framed | a request while PUT is not answered | Failed | |
//! | Framed | end of input between frames, BYE, ERROR without a tag | Closed | |
//! | Framed (a server) | nothing comes or leaves for two minutes | Failed | |
//! | any framed | a broken rule | Failed | ERROR is sent |
//!
//! The course's server reads once and takes that for the request; its client sends no end of line.
//! Here a request that comes in pieces is waited for, so that cuts do not matter.

use bytes::BytesMut;
use core::fmt::Write as _;
use core::time::Duration;
use semfio_frame::{FrameError, HEADER, Read, read_frame};
use semfio_machine::{Deadline, FileSpan, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::wire::{self, ErrorCode, MAX_BODY, MAX_FRAME, Message, PREFACE, WireError};

/// Silence that ends a request without an end of line.
pub const QUIET: Duration = Duration::from_millis(50);
/// How long a peer may say nothing at all: the course's client connects before its user types.
pub const SILENT: Duration = Duration::from_secs(600);
/// How long a peer may take nothing of what is sent.
pub const STALLED: Duration = Duration::from_secs(60);
/// How long a framed peer may take for its greeting.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a framed client may neither say nor take anything.
pub const IDLE: Duration = Duration::from_secs(120);
/// The longest request, its end included: `GET`, the longest name, and a browser's additions.
pub const MAX_REQUEST: usize = semfio_path::MAX_LEN + 64;

/// The largest first frame, with the preface before it.
const MAX_GREETING: usize = PREFACE.len() + HEADER + MAX_FRAME;

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

/// One side of a connection.
#[derive(Debug)]
pub struct Session {
    role: Role,
    state: State,
    until: Option<Deadline>,
    /// The wait is over.
    expired: bool,
    /// Bytes of the request that are known to hold no line feed.
    scanned: usize,
    opened: bool,
    /// In Sending and Framed: what had left when last looked at.
    sent: u64,
    /// In Framed: bytes that were left untaken.
    untaken: usize,
    busy: Busy,
    /// Bytes of a BODY frame still to come.
    body: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server { writable: bool },
    Client,
}

/// Whether a request was told and is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    /// The next one waits, and all behind it.
    Answering,
    /// By PUT, the answers to which come as BODY: none may come.
    Taking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Detecting,
    Answering,
    Sending,
    Sent,
    Start,
    AwaitGreeting,
    Framed,
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
    /// A framed client greets, and was greeted.
    Greeted,
    /// A frame, but HELLO, BYE and BODY. One that asks for something is to be answered; another
    /// such one waits until then.
    Message(Message<'i>),
    /// The next octets of a BODY frame.
    Body(&'i [u8]),
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
    /// Sends a frame.
    Message(&'c Message<'c>),
    /// Sends a BODY frame of these pieces, of at most [`MAX_BODY`] octets in all.
    Body(&'c [Piece<'c>]),
}

/// A part of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'c> {
    /// Octets.
    Bytes(&'c [u8]),
    /// A part of a file.
    Span(FileSpan),
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Span(span) => span.len,
        }
    }
}

/// How a peer broke the protocol. A framed one is told; the course's dialect has no words for it.
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
    /// 0xFF, and then not the preface.
    BadPreface,
    /// The preface of another version.
    BadVersion(u8),
    /// No greeting within [`HELLO_WITHIN`].
    HelloTimeout,
    /// A greeting announced a largest body below [`MAX_FRAME`].
    SmallFrames(u32),
    /// Nothing came or left within [`IDLE`].
    Idle,
    /// A frame that is too large or cut off.
    Frame(FrameError),
    /// A frame that does not parse.
    Wire(WireError),
    /// A frame that must not come in this state.
    Unexpected,
}

impl core::fmt::Display for SessionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotARequest => f.write_str("not GET and a name"),
            Self::TooLong => write!(f, "a request longer than {MAX_REQUEST} bytes"),
            Self::Silent => f.write_str("no request in time"),
            Self::Stalled => f.write_str("it does not take what is sent"),
            Self::BadPreface => f.write_str("the preface is wrong"),
            Self::BadVersion(version) => write!(f, "version {version} is not spoken here, 1 is"),
            Self::HelloTimeout => f.write_str("no greeting in time"),
            Self::SmallFrames(limit) => {
                write!(f, "frames of {MAX_FRAME} bytes must be taken, not only of {limit}")
            }
            Self::Idle => f.write_str("nothing was said for too long"),
            Self::Frame(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Unexpected => f.write_str("a frame came that must not come now"),
        }
    }
}

impl core::error::Error for SessionError {}

impl SessionError {
    /// The code of the ERROR frame that tells the peer.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadVersion(_) => ErrorCode::Version,
            Self::Frame(FrameError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Unexpected => ErrorCode::Unexpected,
            Self::HelloTimeout | Self::Idle => ErrorCode::Timeout,
            _ => ErrorCode::Malformed,
        }
    }
}

type Verdict<'i> = Result<Step<SessionEvent<'i>>, SessionError>;

impl Session {
    /// A server's session with a peer of whom nothing is known. A framed one is told whether files
    /// are taken.
    pub fn serve(writable: bool) -> Self {
        Self::new(Role::Server { writable }, State::Detecting)
    }

    /// A framed client's session.
    pub fn dial() -> Self {
        Self::new(Role::Client, State::Start)
    }

    fn new(role: Role, state: State) -> Self {
        Self {
            role,
            state,
            until: None,
            expired: false,
            scanned: 0,
            opened: false,
            sent: 0,
            untaken: 0,
            busy: Busy::No,
            body: 0,
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
        if seen.first() == Some(&0xFF) {
            self.wait(now, HELLO_WITHIN, "hello");
            self.state = State::AwaitGreeting;
            return self.greeting(input, out);
        }
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
        self.expired = false;
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
        let sent = out.total().saturating_sub(out.queued());
        if sent != self.sent || self.until.is_none() && !self.expired {
            self.sent = sent;
            self.wait(now, STALLED, "stalled");
        } else if self.expired {
            return Err(SessionError::Stalled);
        }
        Ok(Step::NeedRoom)
    }

    fn start<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        out.put(&PREFACE);
        put(out, &Message::Hello { max_frame: MAX_FRAME as u32 });
        self.wait(now, HELLO_WITHIN, "welcome");
        self.state = State::AwaitGreeting;
        self.greeting(input, out)
    }

    /// Preface and first frame, taken together: a server answers both at once.
    fn greeting<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if self.expired {
            return Err(SessionError::HelloTimeout);
        }
        let seen = input.peek();
        let [head @ .., version] = &PREFACE;
        let common = seen.len().min(head.len());
        if seen.get(..common) != head.get(..common) {
            return Err(SessionError::BadPreface);
        }
        match seen.get(head.len()) {
            None if input.at_eof() => return Err(SessionError::BadPreface),
            None => return Ok(Step::NeedInput(1)),
            Some(byte) if byte == version => {}
            Some(&other) => return Err(SessionError::BadVersion(other)),
        }
        let frame = seen.get(PREFACE.len()..).unwrap_or_default();
        let wanted = match *frame {
            [kind, a, b, c, ..] => {
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                if len > MAX_FRAME {
                    return Err(SessionError::Frame(FrameError::TooLarge { kind, len }));
                }
                len.saturating_add(HEADER)
            }
            [] if input.at_eof() => {
                self.close();
                return Ok(Step::Done);
            }
            _ => HEADER,
        };
        match wanted.saturating_sub(frame.len()) {
            0 => {}
            missing if input.at_eof() => {
                return Err(SessionError::Frame(FrameError::Truncated { missing }));
            }
            missing => return Ok(Step::NeedInput(missing)),
        }
        if self.role != Role::Client && out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        input.take(PREFACE.len());
        let Read::Frame(frame) = read_frame(input, MAX_FRAME).map_err(SessionError::Frame)? else {
            return Err(SessionError::Unexpected);
        };
        let body: &'i [u8] = frame.body;
        let message = Message::parse(frame.kind, body).map_err(SessionError::Wire)?;
        let (max_frame, told) = match (message, self.role) {
            (Some(Message::Hello { max_frame }), Role::Server { .. }) => (max_frame, None),
            (Some(message @ Message::Welcome { max_frame, .. }), Role::Client) => {
                (max_frame, Some(message))
            }
            // Turned away before it was greeted.
            (Some(message @ Message::Error { .. }), Role::Client) => {
                self.close();
                return Ok(Step::Event(SessionEvent::Message(message)));
            }
            _ => return Err(SessionError::Unexpected),
        };
        if (max_frame as usize) < MAX_FRAME {
            return Err(SessionError::SmallFrames(max_frame));
        }
        self.state = State::Framed;
        self.until = None;
        match told {
            Some(message) => Ok(Step::Event(SessionEvent::Message(message))),
            None => {
                out.put(&PREFACE);
                let writable = self.role == Role::Server { writable: true };
                put(out, &Message::Welcome { max_frame: MAX_FRAME as u32, writable });
                Ok(Step::Event(SessionEvent::Greeted))
            }
        }
    }

    fn framed<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        let moved = input.len() > self.untaken || self.has_sent(out);
        if self.expired && !moved {
            return Err(SessionError::Idle);
        }
        if self.role != Role::Client && (moved || self.until.is_none()) {
            self.wait(now, IDLE, "idle");
        }
        let verdict = self.frame(input, out);
        self.untaken = input.len();
        verdict
    }

    fn frame<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            if self.body > 0 {
                let n = input.len().min(self.body);
                self.body = self.body.saturating_sub(n);
                return match n {
                    0 if input.at_eof() => {
                        Err(SessionError::Frame(FrameError::Truncated { missing: self.body }))
                    }
                    0 => Ok(Step::NeedInput(1)),
                    _ => Ok(Step::Event(SessionEvent::Body(input.take(n)))),
                };
            }
            if out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let header = input.peek().first_chunk::<HEADER>();
            match self.busy {
                Busy::Answering if input.peek().first().is_some_and(is_request) => {
                    return Ok(Step::NeedCommand);
                }
                Busy::Taking if header.is_some_and(|[kind, ..]| is_request(kind)) => {
                    return Err(SessionError::Unexpected);
                }
                _ => {}
            }
            if let Some(&[wire::BODY, a, b, c]) = input.peek().first_chunk() {
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                if len > MAX_BODY {
                    let kind = wire::BODY;
                    return Err(SessionError::Frame(FrameError::TooLarge { kind, len }));
                }
                input.take(HEADER);
                self.body = len;
                continue;
            }
            let frame = match read_frame(input, MAX_FRAME).map_err(SessionError::Frame)? {
                Read::Frame(frame) => frame,
                Read::NeedInput(n) => return Ok(Step::NeedInput(n)),
                // What was asked for is still wanted, maybe.
                Read::End if self.busy != Busy::No => return Ok(Step::NeedCommand),
                Read::End => {
                    self.close();
                    return Ok(Step::Done);
                }
            };
            let (kind, body): (_, &'i [u8]) = (frame.kind, frame.body);
            let Some(message) = Message::parse(kind, body).map_err(SessionError::Wire)? else {
                continue;
            };
            match message {
                Message::Hello { .. } | Message::Welcome { .. } => {
                    return Err(SessionError::Unexpected);
                }
                Message::Bye => {
                    self.close();
                    return Ok(Step::Done);
                }
                Message::Error { tag: 0, .. } => self.close(),
                Message::Put { .. } => self.busy = Busy::Taking,
                _ if wire::is_request(kind) => self.busy = Busy::Answering,
                _ => {}
            }
            return Ok(Step::Event(SessionEvent::Message(message)));
        }
    }

    /// Whether something has left since it last looked.
    fn has_sent(&mut self, out: &Outbox) -> bool {
        let sent = out.total().saturating_sub(out.queued());
        core::mem::replace(&mut self.sent, sent) != sent
    }

    fn is_framed(&self) -> bool {
        matches!(self.state, State::AwaitGreeting | State::Framed)
    }

    fn close(&mut self) {
        self.until = None;
        self.state = State::Closed;
    }
}

fn is_request(kind: &u8) -> bool {
    wire::is_request(*kind)
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
        if self.state == State::Detecting { MAX_REQUEST } else { MAX_GREETING }
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Detecting => "Detecting",
            State::Answering => "Answering",
            State::Sending => "Sending",
            State::Sent => "Sent",
            State::Start => "Start",
            State::AwaitGreeting if self.role == Role::Client => "AwaitWelcome",
            State::AwaitGreeting => "AwaitHello",
            State::Framed => "Framed",
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
            State::Start => self.start(now, input, out),
            State::AwaitGreeting => self.greeting(input, out),
            State::Framed => self.framed(now, input, out),
            State::Answering | State::Sent => Ok(Step::NeedCommand),
            State::Closed => Ok(Step::Done),
            State::Failed(error) => Err(error),
        };
        if let Err(error) = verdict {
            if self.is_framed() {
                if self.state == State::AwaitGreeting && self.role != Role::Client {
                    out.put(&PREFACE);
                }
                let mut text = alloc::string::String::new();
                let _ = write!(text, "{error}");
                put(out, &Message::Error { tag: 0, code: error.code(), text: &text });
            }
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
            (SessionCommand::Message(message), State::Framed) => {
                put(out, message);
                if message.is_answer() {
                    self.busy = Busy::No;
                }
            }
            (SessionCommand::Body(pieces), State::Framed) => {
                let len = pieces.iter().fold(0, |len: u64, piece| len.saturating_add(piece.len()));
                if len > MAX_BODY as u64 {
                    return Err(Refused::Invalid("a BODY frame of more than 1 MiB"));
                }
                let [_, _, _, _, _, a, b, c] = len.to_be_bytes();
                out.put(&[wire::BODY, a, b, c]);
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => out.put(bytes),
                        Piece::Span(span) => out.put_file(*span),
                    }
                }
            }
            _ => return Err(Refused::State(self.state())),
        }
        Ok(())
    }

    /// A framed peer gets BYE.
    fn handle_close(&mut self, _: Now, out: &mut Outbox) {
        if self.state == State::Framed {
            put(out, &Message::Bye);
        }
        self.close();
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.until
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.until.is_some_and(|until| until.at <= now.mono) {
            self.until = None;
            // What leaves is only looked at here: it may have gone on all the time.
            if self.state == State::Framed && self.has_sent(out) {
                self.wait(now, IDLE, "idle");
            } else {
                self.expired = true;
            }
        }
    }
}

fn put(out: &mut Outbox, message: &Message<'_>) {
    let mut frame = BytesMut::new();
    message.put(&mut frame);
    out.put(&frame);
}
