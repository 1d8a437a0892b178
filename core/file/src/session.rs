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
//! | Framed (a server) | end of input, and a GET of its own is not answered | Failed | |
//! | Framed (a server) | nothing comes or leaves for two minutes | Failed | |
//! | Detecting (a server with a passphrase) | `GET word` | Failed | it is told in a line |
//! | AwaitHello (a server with a passphrase) | preface, START | Agreeing | `Agreeing` |
//! | Agreeing | command `Agree` | AwaitConfirm | REPLY is sent |
//! | Agreeing | command `TurnAway` | Closed | ERROR is sent |
//! | AwaitConfirm | CONFIRM | AwaitHello, in records | |
//! | Start (a client with a passphrase) | (the connection stands) | AwaitReply | START is sent |
//! | AwaitReply | preface, REPLY | AwaitWelcome, in records | CONFIRM and HELLO are sent |
//! | any in records | a record that does not open | Failed | ERROR is sent |
//! | any framed | a broken rule | Failed | ERROR is sent |
//!
//! The course's server reads once and takes that for the request; its client sends no end of line.
//! Here a request that comes in pieces is waited for, so that cuts do not matter.
//!
//! The agreement and the records are those of `sealing.rs`. In records there is no preface, and no
//! frame but BODY goes over the end of one. All states of an agreement share the ten seconds.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::fmt::Write as _;
use core::time::Duration;
use semfio_frame::{FrameError, HEADER, Read, read_frame};
use semfio_machine::{Deadline, FileSpan, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::sealing::{
    Agreement, MAX_RECORD, Opened, RECORD_HEADER, RECORD_TAG, RecordError, Sealing, Secret,
};
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
/// The largest record.
const MAX_SEALED: usize = RECORD_HEADER + MAX_RECORD + RECORD_TAG;

/// What the course's server sends after a file.
pub(crate) const OK: &[u8] = b"OK";
const ERROR_HEAD: &str = "ERROR \"O arquivo ";
const ERROR_TAIL: &str = " não existe\"";

const HINT: &str = "HTTP/1.0 421 Misdirected Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\
    \r\n\
    This port serves files by their names, not pages: semfio file get HOST:PORT NAME\r\n";

const CLEAR: &str = "ERROR \"a passphrase is needed here: \
    semfio file get --passphrase-file FILE HOST:PORT NAME\"";

const HELLO: Message<'_> = Message::Hello { max_frame: MAX_FRAME as u32 };

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
    /// In Taking: GETs that were sent and are not answered.
    unanswered: usize,
    /// Bytes of a BODY frame still to come.
    body: usize,
    agreement: Option<Agreement>,
    /// Once both have confirmed.
    sealing: Option<Box<Sealing>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server { writable: bool, sealed: bool },
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
    AwaitReply,
    Agreeing,
    AwaitConfirm,
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
    /// A framed client wants to agree on keys, which is a guess of the passphrase; to be answered
    /// with [`SessionCommand::Agree`] or [`SessionCommand::TurnAway`].
    Agreeing,
    /// A framed client greets, and was greeted. If there is a passphrase, it knows it.
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
    /// To `Agreeing`: answers with this secret, in an agreement of this number.
    Agree(&'c Secret, u64),
    /// To `Agreeing`: there were too many guesses; the dialogue ends.
    TurnAway,
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
    /// A part of a file; refused where records are sealed.
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
    /// It put a file, and said its last before it had sent what was asked for.
    Unanswered,
    /// It does not know the passphrase, or was not told one, or somebody is in between.
    Passphrase,
    /// A passphrase was given to one who has none.
    NoPassphrase,
    /// A record that does not open: somebody is in between.
    Forged,
    /// A record that is empty or too long, of this length.
    Record(usize),
    /// A record that ends within a frame, or input that ends within a record.
    Torn,
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
            Self::Unanswered => f.write_str("it ended before it had sent what was asked for"),
            Self::Passphrase => {
                f.write_str("the passphrase is missing or wrong, or somebody is in between")
            }
            Self::NoPassphrase => f.write_str("the server has no passphrase"),
            Self::Forged => f.write_str("what came was changed on its way"),
            Self::Record(len) => write!(f, "a record of {len} bytes"),
            Self::Torn => f.write_str("a record is cut off"),
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
            Self::Passphrase => ErrorCode::Passphrase,
            Self::NoPassphrase => ErrorCode::NoPassphrase,
            Self::Record(_) => ErrorCode::TooLarge,
            Self::HelloTimeout | Self::Idle => ErrorCode::Timeout,
            _ => ErrorCode::Malformed,
        }
    }
}

impl From<RecordError> for SessionError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Length(len) => Self::Record(len),
            RecordError::Forged => Self::Forged,
            RecordError::Cut => Self::Torn,
        }
    }
}

type Verdict<'i> = Result<Step<SessionEvent<'i>>, SessionError>;

impl Session {
    /// A server's session with a peer of whom nothing is known. A framed one is told whether files
    /// are taken.
    pub fn serve(writable: bool) -> Self {
        Self::new(Role::Server { writable, sealed: false }, State::Detecting)
    }

    /// The same, but nothing is told to who does not prove to know the passphrase.
    pub fn serve_sealed(writable: bool) -> Self {
        Self::new(Role::Server { writable, sealed: true }, State::Detecting)
    }

    /// A framed client's session.
    pub fn dial() -> Self {
        Self::new(Role::Client, State::Start)
    }

    /// A framed client's session that says nothing but START until the server has proved that it
    /// knows the passphrase. `number` is that of the agreement.
    pub fn dial_sealed(secret: &Secret, number: u64) -> Self {
        Self { agreement: Some(secret.ask(number)), ..Self::dial() }
    }

    /// Whether content can leave as octets alone.
    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
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
            unanswered: 0,
            body: 0,
            agreement: None,
            sealing: None,
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
            return self.greet(input, out);
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
        if matches!(self.role, Role::Server { sealed: true, .. }) {
            out.put(CLEAR.as_bytes());
            return Err(SessionError::Passphrase);
        }
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
        self.wait(now, HELLO_WITHIN, "welcome");
        if let Some(Agreement::Asked(_, start)) = &self.agreement {
            put(out, &Message::Start(start));
            self.state = State::AwaitReply;
        } else {
            put(out, &HELLO);
            self.state = State::AwaitGreeting;
        }
        self.greet(input, out)
    }

    /// Preface and first frame, taken together: a server answers both at once.
    fn greeting<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
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
        let answers = self.role != Role::Client || self.state == State::AwaitReply;
        if answers && out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        input.take(PREFACE.len());
        let Read::Frame(frame) = read_frame(input, MAX_FRAME).map_err(SessionError::Frame)? else {
            return Err(SessionError::Unexpected);
        };
        self.greeted(frame.kind, frame.body, out)
    }

    /// The first frame, and all of an agreement.
    fn greeted<'i>(&mut self, kind: u8, body: &'i [u8], out: &mut Outbox) -> Verdict<'i> {
        let message = Message::parse(kind, body).map_err(SessionError::Wire)?;
        let clear = self.sealing.is_none();
        let (max_frame, told) = match (message, self.role, self.state) {
            (Some(Message::Start(start)), Role::Server { sealed, .. }, State::AwaitGreeting)
                if clear =>
            {
                if !sealed {
                    return Err(SessionError::NoPassphrase);
                }
                self.agreement = Some(Agreement::Begun(*start));
                self.state = State::Agreeing;
                return Ok(Step::Event(SessionEvent::Agreeing));
            }
            (Some(Message::Confirm(confirm)), _, State::AwaitConfirm) => {
                let agreement = self.agreement.take().ok_or(SessionError::Passphrase)?;
                let sealing = agreement.handle_confirm(confirm);
                return self.agreed(sealing.map_err(|_| SessionError::Passphrase)?);
            }
            (Some(Message::Reply(reply)), _, State::AwaitReply) => {
                let agreement = self.agreement.take().ok_or(SessionError::Passphrase)?;
                let agreed = agreement.handle_reply(reply);
                let (sealing, confirm) = agreed.map_err(|_| SessionError::Passphrase)?;
                put(out, &Message::Confirm(&confirm));
                let verdict = self.agreed(sealing);
                self.put(&HELLO, out);
                return verdict;
            }
            (Some(Message::Hello { .. }), Role::Server { sealed: true, .. }, _) if clear => {
                return Err(SessionError::Passphrase);
            }
            (Some(Message::Hello { max_frame }), Role::Server { .. }, State::AwaitGreeting) => {
                (max_frame, None)
            }
            (
                Some(message @ Message::Welcome { max_frame, .. }),
                Role::Client,
                State::AwaitGreeting,
            ) => (max_frame, Some(message)),
            // Turned away before it was greeted.
            (Some(Message::Error { code: ErrorCode::Passphrase, .. }), Role::Client, _)
            | (Some(Message::Error { code: ErrorCode::Passphrase, .. }), _, State::AwaitConfirm) => {
                return Err(SessionError::Passphrase);
            }
            (Some(Message::Error { code: ErrorCode::NoPassphrase, .. }), Role::Client, _) => {
                return Err(SessionError::NoPassphrase);
            }
            (Some(message @ Message::Error { .. }), Role::Client, _)
            | (Some(message @ Message::Error { .. }), _, State::AwaitConfirm) => {
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
                if clear {
                    out.put(&PREFACE);
                }
                let writable = matches!(self.role, Role::Server { writable: true, .. });
                self.put(&Message::Welcome { max_frame: MAX_FRAME as u32, writable }, out);
                Ok(Step::Event(SessionEvent::Greeted))
            }
        }
    }

    /// From here on all is sealed.
    fn agreed<'i>(&mut self, sealing: Sealing) -> Verdict<'i> {
        self.sealing = Some(Box::new(sealing));
        self.state = State::AwaitGreeting;
        Ok(Step::NeedInput(1))
    }

    /// A greeting without a preface: CONFIRM, or what is in a record.
    fn bare<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        match read_frame(input, MAX_FRAME).map_err(SessionError::Frame)? {
            Read::Frame(frame) => self.greeted(frame.kind, frame.body, out),
            Read::NeedInput(n) => Ok(Step::NeedInput(n)),
            Read::End => {
                self.close();
                Ok(Step::Done)
            }
        }
    }

    /// Opens records, and shows what is in them as if it had come so.
    fn records<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            let Some(sealing) = &mut self.sealing else { return Err(SessionError::Unexpected) };
            let (len, eof) = match sealing.open(input)? {
                Opened::Record(len) => (len, false),
                Opened::End => (0, true),
                Opened::NeedInput(n) => return Ok(Step::NeedInput(n)),
            };
            let hidden = input.narrow(len, eof);
            let verdict = match self.state {
                State::Framed => self.frame(input, out),
                _ => self.bare(input, out),
            };
            let rest = input.len();
            input.widen(hidden);
            if let Some(sealing) = &mut self.sealing {
                sealing.taken(len.saturating_sub(rest), input);
            }
            return match verdict {
                Ok(Step::NeedInput(_)) if rest == 0 && len > 0 => continue,
                Ok(Step::NeedInput(_)) => Err(SessionError::Torn),
                verdict => verdict,
            };
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
        let verdict = match self.sealing {
            Some(_) => self.records(input, out),
            None => self.frame(input, out),
        };
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
                Read::End if self.busy == Busy::Taking && self.unanswered > 0 => {
                    return Err(SessionError::Unanswered);
                }
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
                Message::Put { .. } => {
                    self.busy = Busy::Taking;
                    self.unanswered = 0;
                }
                Message::Done { .. } | Message::Error { .. } => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                }
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
        matches!(
            self.state,
            State::AwaitGreeting
                | State::AwaitReply
                | State::Agreeing
                | State::AwaitConfirm
                | State::Framed
        )
    }

    /// Until both have greeted.
    fn greet<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            if self.expired {
                return Err(SessionError::HelloTimeout);
            }
            let before = self.state;
            let verdict = match self.state {
                _ if self.sealing.is_some() => self.records(input, out),
                State::AwaitConfirm if self.agreement.is_none() => Err(SessionError::Passphrase),
                State::AwaitConfirm => self.bare(input, out),
                _ => self.greeting(input, out),
            };
            // Records may have come with what made them possible.
            if !(verdict == Ok(Step::NeedInput(1)) && self.state != before) {
                return verdict;
            }
        }
    }

    /// A server's, unless it was sent.
    fn put_preface(&self, out: &mut Outbox) {
        let first = matches!(self.state, State::AwaitGreeting | State::Agreeing);
        if first && self.sealing.is_none() && self.role != Role::Client {
            out.put(&PREFACE);
        }
    }

    /// Sends a frame.
    fn put(&mut self, message: &Message<'_>, out: &mut Outbox) {
        let mut frame = BytesMut::new();
        message.put(&mut frame);
        match &mut self.sealing {
            Some(sealing) => sealing.seal(&[&frame], out),
            None => out.put(&frame),
        }
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
        match self.state {
            State::Detecting => MAX_REQUEST,
            _ if self.sealing.is_some() || self.agreement.is_some() => MAX_SEALED,
            _ => MAX_GREETING,
        }
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
            State::AwaitReply => "AwaitReply",
            State::Agreeing => "Agreeing",
            State::AwaitConfirm => "AwaitConfirm",
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
            State::AwaitGreeting | State::AwaitReply | State::AwaitConfirm => {
                self.greet(input, out)
            }
            State::Agreeing if self.expired => Err(SessionError::HelloTimeout),
            State::Framed => self.framed(now, input, out),
            State::Answering | State::Sent | State::Agreeing => Ok(Step::NeedCommand),
            State::Closed => Ok(Step::Done),
            State::Failed(error) => Err(error),
        };
        if let Err(error) = verdict {
            if self.is_framed() {
                self.put_preface(out);
                let mut text = alloc::string::String::new();
                let _ = write!(text, "{error}");
                self.put(&Message::Error { tag: 0, code: error.code(), text: &text }, out);
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
            (SessionCommand::Agree(secret, number), State::Agreeing) => {
                let Some(Agreement::Begun(start)) = self.agreement.take() else {
                    return Err(Refused::State(self.state()));
                };
                self.put_preface(out);
                // Without an agreement it fails at once.
                if let Ok((agreement, reply)) = secret.answer(number, &start) {
                    put(out, &Message::Reply(&reply));
                    self.agreement = Some(agreement);
                }
                self.state = State::AwaitConfirm;
            }
            (SessionCommand::TurnAway, State::Agreeing) => {
                self.put_preface(out);
                let code = ErrorCode::Guesses;
                let mut text = alloc::string::String::new();
                let _ = write!(text, "{code}");
                put(out, &Message::Error { tag: 0, code, text: &text });
                self.close();
            }
            (SessionCommand::Message(message), State::Framed) => {
                self.put(message, out);
                if message.is_answer() {
                    self.busy = Busy::No;
                }
                if let Message::Get(_) = message {
                    self.unanswered = self.unanswered.saturating_add(1);
                }
            }
            (SessionCommand::Body(pieces), State::Framed) => {
                let len = pieces.iter().fold(0, |len: u64, piece| len.saturating_add(piece.len()));
                if len > MAX_BODY as u64 {
                    return Err(Refused::Invalid("a BODY frame of more than 1 MiB"));
                }
                let [_, _, _, _, _, a, b, c] = len.to_be_bytes();
                let header = [wire::BODY, a, b, c];
                if let Some(sealing) = &mut self.sealing {
                    let octets = pieces.iter().map(|piece| match piece {
                        Piece::Bytes(bytes) => Some(*bytes),
                        Piece::Span(_) => None,
                    });
                    let octets: Option<Vec<_>> =
                        core::iter::once(Some(&header[..])).chain(octets).collect();
                    let Some(octets) = octets else {
                        return Err(Refused::Invalid("a span of a file, where records are sealed"));
                    };
                    sealing.seal(&octets, out);
                    return Ok(());
                }
                out.put(&header);
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
            self.put(&Message::Bye, out);
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
