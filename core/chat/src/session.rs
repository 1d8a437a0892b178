//! The server's side of one connection, in any dialect.
//!
//! A session finds out how its peer speaks, then turns what it says into [`SessionEvent`]s of one
//! kind. It knows nothing of rooms: the [`Hub`](crate::Hub) does, and answers with commands.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Detecting | 0xFF and no telnet command | AwaitHello | `Spoke(Framed)` |
//! | Detecting | a line feed, or a telnet command | Line | `Spoke(Line)` |
//! | Detecting | 200 ms after the first byte, or end of input | Raw | `Spoke(Raw)`, `Raw` |
//! | Detecting | 200 ms of silence | Listening | `Spoke(Raw)` |
//! | Detecting | end of input, and no byte before | Detecting, and done | |
//! | Listening | a first byte | Detecting | |
//! | AwaitHello | HELLO | AwaitHello, until `Welcome` | `Hello` |
//! | AwaitHello | command `Welcome` | Member | |
//! | AwaitHello | 10 s | Failed | |
//! | AwaitHello | end of input between frames | Closed | |
//! | Member | a frame | Member | `Request`, or `Refused`; PING is answered |
//! | Line | a line | Line | `Typed`, or `Refused` |
//! | Raw | a read | Raw | `Raw` |
//! | Detecting (key) | 0xFF | AwaitHello | `Spoke(Framed)` |
//! | Detecting (key) | another byte, or 200 ms of silence | AwaitOk, the key is sent | |
//! | AwaitOk | 0xFF: framed, and late | AwaitHello | `Spoke(Framed)` |
//! | AwaitOk | the token of `OK` | Token | `Spoke(Token)` |
//! | AwaitOk | anything else, or 10 s | Failed | |
//! | AwaitOk | end of input, and no byte before | Closed | |
//! | Token | a token | Token | `Token` |
//! | Token | what is no token | Token, or Failed if it is much | `Unreadable` |
//! | Token | its queue has room again | Token | `Room` |
//! | Member, Line, Raw, Token, Listening | BYE, `/quit`, end of input | Leaving | `Bye` |
//! | any | closed by the hub | Closed | |
//! | any | a broken rule | Failed | |
//!
//! The rows with a key are those of [`Session::with_cleartext_key`], in place of the others of Detecting. In
//! Token what is to be sent waits here: one token leaves every [`GAP`], since its reader takes what
//! it reads at once for one.
//!
//! In the raw dialect a read is a message, the one named exception from the law that cuts do not
//! matter; a character that a read cuts in two is waited for, 50 ms long.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt::Write as _;
use core::time::Duration;
use semfio_frame::{Dialect, FrameError, HEADER, PREFACE, Read, detect, read_frame, strip_telnet};
use semfio_keysync::Key;
use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::command::{self, Typed};
use crate::text::{self, BadText, MAX_TEXT};
use crate::token::{self, GAP, Heard, OK, OK_WITHIN, Tokens, put_apart};
use crate::wire::{
    Ask, ErrorCode, MAX_FRAME, MAX_RELAY, Manner, Request, Response, SessionKey, WireError,
};

/// How long the dialect may stay open: after the connection stands, and after the first byte.
pub const DETECT: Duration = Duration::from_millis(200);
/// How long a framed peer may take from its first byte to HELLO.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long half a character is held back from a raw message.
pub const HOLD: Duration = Duration::from_millis(50);
/// The longest line, its end included: a text and the longest command before it.
pub const MAX_LINE: usize = MAX_TEXT + 128;
/// Reads whose borders are remembered before the dialect is known; more are merged.
const MAX_BORDERS: usize = 32;

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// When the present wait ends.
    until: Option<Deadline>,
    /// The wait is over.
    expired: bool,
    /// Bytes of the present line known to hold no line feed; in Detecting, those seen.
    scanned: usize,
    /// In Detecting and Raw: where reads ended, for those that are not told yet.
    borders: Vec<usize>,
    /// Of a listener that sends its key.
    tokens: Option<Box<Tokens>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Detecting { opened: bool },
    Listening,
    AwaitPreface,
    AwaitHello { asked: bool },
    Member,
    Line,
    Raw,
    AwaitOk,
    Token,
    Leaving(Dialect),
    Closed,
    Failed(Dialect, SessionError),
}

/// What a peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent<'i> {
    /// How it speaks. Said again if a silent peer, taken for raw, speaks otherwise.
    Spoke(Dialect),
    /// A framed peer asks to be let in; to be answered with [`SessionCommand::Welcome`] or `Fail`.
    Hello {
        /// From an earlier WELCOME, or zeros.
        session: SessionKey,
        /// The name it wants.
        nick: &'i str,
    },
    /// A frame of a member, but HELLO and BYE. PING is answered already.
    Request(Request<'i>),
    /// A line, understood.
    Typed(Typed<'i>),
    /// A raw message: 1 to [`MAX_TEXT`] bytes of any value.
    Raw(&'i [u8]),
    /// A token, sealed under the key.
    Token(&'i [u8]),
    /// Something came that is no token, or not under the key; it is left out.
    Unreadable,
    /// Pieces that were refused are taken again.
    Room,
    /// Something that is refused; it was told so.
    Refused,
    /// It leaves; to be closed once it has got what is due.
    Bye,
}

/// What the hub asks of a session.
#[derive(Clone, Copy, Debug)]
pub enum SessionCommand<'c> {
    /// Bytes in the dialect of the peer, shared with others.
    Log(&'c Bytes),
    /// Raw messages, or tokens, each of which leaves in a write of its own. All are taken or none; tokens
    /// are [`Refused::Full`] while many wait, until [`SessionEvent::Room`].
    Pieces(&'c [Bytes]),
    /// Lets a framed peer in; the body is [`Response::Welcome`].
    Welcome(&'c Response<'c>),
    /// Turns the peer away: an ERROR or a line, then the end.
    Fail(ErrorCode, &'c str),
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// 0xFF, and then not the preface.
    BadPreface,
    /// The preface of another version.
    BadVersion(u8),
    /// A frame that is too large or cut off.
    Frame(FrameError),
    /// A frame that does not parse.
    Wire(WireError),
    /// A frame that must not come in this state: a second HELLO, anything before the first.
    Unexpected(&'static str),
    /// HELLO announced a largest body below [`MAX_FRAME`].
    SmallFrames(u32),
    /// No HELLO in time.
    HelloTimeout,
    /// A line longer than [`MAX_LINE`].
    LineTooLong,
    /// A line that is not UTF-8.
    LineNotUtf8,
    /// The answer to the key was not the token of `OK`.
    BadOk,
    /// No answer to the key in time.
    OkTimeout,
    /// Too much in a row that is no token.
    Garbage,
}

impl SessionError {
    /// The code of the ERROR frame that tells the peer.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadVersion(_) => ErrorCode::Version,
            Self::Frame(FrameError::TooLarge { .. }) | Self::LineTooLong => ErrorCode::TooLarge,
            Self::Unexpected(_) => ErrorCode::Unexpected,
            Self::HelloTimeout | Self::OkTimeout => ErrorCode::Timeout,
            _ => ErrorCode::Malformed,
        }
    }
}

impl core::fmt::Display for SessionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BadPreface => f.write_str("the preface is wrong"),
            Self::BadVersion(version) => write!(f, "version {version} is not spoken here, 1 is"),
            Self::Frame(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Unexpected(what) => write!(f, "{what} must not come now"),
            Self::SmallFrames(limit) => {
                write!(f, "frames of {MAX_FRAME} bytes must be taken, not only of {limit}")
            }
            Self::HelloTimeout => f.write_str("no HELLO in time"),
            Self::LineTooLong => write!(f, "a line is longer than {MAX_LINE} bytes"),
            Self::LineNotUtf8 => f.write_str("a line is not UTF-8"),
            Self::BadOk => f.write_str("the answer to the key is not OK under that key"),
            Self::OkTimeout => f.write_str("no answer to the key in time"),
            Self::Garbage => f.write_str("too much in a row that does not open"),
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
            state: State::Detecting { opened: false },
            until: None,
            expired: false,
            scanned: 0,
            borders: Vec::new(),
            tokens: None,
        }
    }

    /// Whether its peer, taken for raw, has said nothing yet.
    pub(crate) fn is_listening(&self) -> bool {
        self.state == State::Listening
    }

    /// A session of a listener that sends this key to whoever is not framed, in clear, as the course's
    /// secure chat does. Everybody on the way reads it.
    pub fn with_cleartext_key(key: Arc<Key>) -> Self {
        Self { tokens: Some(Box::new(Tokens::new(key))), ..Self::new() }
    }

    fn wait(&mut self, now: Now, time: Duration, why: &'static str) {
        self.until = Some(Deadline { at: now.mono.saturating_add(time), why });
        self.expired = false;
    }

    fn stop_waiting(&mut self) {
        self.until = None;
        self.expired = false;
    }

    fn framed<'i>(&mut self, now: Now, out: &mut Outbox) -> Step<SessionEvent<'i>> {
        out.put(&PREFACE);
        self.wait(now, HELLO_WITHIN, "hello");
        self.state = State::AwaitPreface;
        Step::Event(SessionEvent::Spoke(Dialect::Framed))
    }

    /// Sends the key, unless a preface comes.
    fn offer_key<'i>(
        &mut self,
        now: Now,
        key: &Key,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Verdict<'i> {
        if self.state == (State::Detecting { opened: false }) {
            self.state = State::Detecting { opened: true };
            self.wait(now, DETECT, "dialect");
        }
        match input.peek().first() {
            Some(0xFF) => return Ok(self.framed(now, out)),
            None if input.at_eof() => return Ok(Step::Done),
            None if !self.expired => return Ok(Step::NeedInput(1)),
            _ => {}
        }
        out.put(key.to_text().as_bytes());
        out.boundary();
        self.wait(now, OK_WITHIN, "ok");
        self.state = State::AwaitOk;
        // Called again at once: an event that is none would be one too many.
        self.await_ok(now, input, out)
    }

    fn await_ok<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if input.peek().first() == Some(&0xFF) {
            return Ok(self.framed(now, out));
        }
        let Some(tokens) = &mut self.tokens else {
            return Ok(Step::Done);
        };
        match tokens.hear(input) {
            Heard::Token(token) => {
                if token::open(&tokens.key, now, token).as_deref() != Some(OK) {
                    return Err(SessionError::BadOk);
                }
                self.stop_waiting();
                self.state = State::Token;
                Ok(Step::Event(SessionEvent::Spoke(Dialect::Token)))
            }
            Heard::Lost | Heard::Garbage => Err(SessionError::BadOk),
            Heard::Nothing if input.at_eof() => Ok(self.leave()),
            Heard::Nothing => Ok(Step::NeedInput(1)),
        }
    }

    fn token<'i>(&mut self, input: &mut Input<'i>, out: &Outbox) -> Verdict<'i> {
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        let Some(tokens) = &mut self.tokens else {
            return Ok(Step::Done);
        };
        if tokens.has_room_again() {
            return Ok(Step::Event(SessionEvent::Room));
        }
        match tokens.hear(input) {
            Heard::Token(token) => Ok(Step::Event(SessionEvent::Token(token))),
            Heard::Lost => Ok(Step::Event(SessionEvent::Unreadable)),
            Heard::Garbage => Err(SessionError::Garbage),
            Heard::Nothing if input.at_eof() => Ok(self.leave()),
            Heard::Nothing => Ok(Step::NeedInput(1)),
        }
    }

    /// The next token leaves, and then there is a gap.
    fn send_token(&mut self, now: Now, out: &mut Outbox) {
        // Room or not: what waits is bounded, and no more is taken while there is none.
        if self.tokens.as_mut().is_some_and(|tokens| tokens.send(out)) {
            self.until = Some(Deadline { at: now.mono.saturating_add(GAP), why: "gap" });
        }
    }

    fn detect<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if let Some(key) = self.tokens.as_ref().map(|tokens| Arc::clone(&tokens.key)) {
            return self.offer_key(now, &key, input, out);
        }
        let opened = self.state == State::Detecting { opened: true };
        if !opened {
            self.state = State::Detecting { opened: true };
            self.wait(now, DETECT, "dialect");
        }
        let seen = input.len();
        if seen > self.scanned {
            if self.scanned == 0 {
                self.wait(now, DETECT, "dialect");
            } else if self.borders.len() < MAX_BORDERS {
                self.borders.push(self.scanned);
            }
            self.scanned = seen;
        }
        // Judged on the longest line, so that a longer first one is raw however it was cut.
        let first = input.peek();
        let dialect = match detect(first.get(..MAX_LINE).unwrap_or(first)) {
            Some(dialect) => dialect,
            None if seen == 0 && input.at_eof() => return Ok(Step::Done),
            None if seen == 0 && self.expired => {
                self.stop_waiting();
                self.state = State::Listening;
                return Ok(Step::Event(SessionEvent::Spoke(Dialect::Raw)));
            }
            None if self.expired || input.at_eof() || seen >= MAX_LINE => Dialect::Raw,
            None => return Ok(Step::NeedInput(1)),
        };
        self.stop_waiting();
        self.scanned = 0;
        match dialect {
            Dialect::Framed => return Ok(self.framed(now, out)),
            Dialect::Line => {
                self.borders = Vec::new();
                self.state = State::Line;
            }
            Dialect::Raw | Dialect::Token => self.state = State::Raw,
        }
        Ok(Step::Event(SessionEvent::Spoke(dialect)))
    }

    fn preface<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        self.borders = Vec::new();
        let seen = input.peek();
        let [head @ .., version] = &PREFACE;
        let common = seen.len().min(head.len());
        if seen.get(..common) != head.get(..common) {
            return Err(SessionError::BadPreface);
        }
        match seen.get(head.len()) {
            None if input.at_eof() => Err(SessionError::BadPreface),
            None => Ok(Step::NeedInput(1)),
            Some(byte) if byte == version => {
                input.take(PREFACE.len());
                self.state = State::AwaitHello { asked: false };
                self.frame(input, out)
            }
            Some(&other) => Err(SessionError::BadVersion(other)),
        }
    }

    fn frame<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            if matches!(self.state, State::AwaitHello { asked: true }) {
                return Ok(Step::NeedCommand);
            }
            if matches!(self.state, State::Member) && out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let frame = match read_frame(input, MAX_FRAME).map_err(SessionError::Frame)? {
                Read::Frame(frame) => frame,
                Read::NeedInput(n) => return Ok(Step::NeedInput(n)),
                Read::End => return Ok(self.leave()),
            };
            let body: &'i [u8] = frame.body;
            let Some(request) = Request::parse(frame.kind, body).map_err(SessionError::Wire)?
            else {
                continue;
            };
            match (self.state, request) {
                (State::AwaitHello { .. }, Request::Hello { max_frame, session, nick }) => {
                    if (max_frame as usize) < MAX_FRAME {
                        return Err(SessionError::SmallFrames(max_frame));
                    }
                    self.state = State::AwaitHello { asked: true };
                    self.stop_waiting();
                    return Ok(Step::Event(SessionEvent::Hello { session, nick }));
                }
                (State::AwaitHello { .. }, _) => {
                    return Err(SessionError::Unexpected("a frame before HELLO"));
                }
                (_, Request::Hello { .. }) => {
                    return Err(SessionError::Unexpected("a second HELLO"));
                }
                (_, Request::Ping(number)) => {
                    put(out, &Response::Pong(number));
                    return Ok(Step::Event(SessionEvent::Request(request)));
                }
                (_, Request::Bye) => return Ok(self.leave()),
                (_, Request::Msg { tag, manner, to, text }) => {
                    let named = match manner {
                        Manner::Private => text::check_nick(to),
                        Manner::Text | Manner::Action => text::check_room(to),
                    };
                    match named.and_then(|()| text::check_text(text)) {
                        Ok(()) => return Ok(Step::Event(SessionEvent::Request(request))),
                        Err(bad) => return Ok(refuse(out, tag, bad)),
                    }
                }
                (_, Request::Sealed { tag, room, to, token, .. }) => {
                    let named = if to.is_empty() { Ok(()) } else { text::check_nick(to) };
                    let rules = named.and_then(|()| text::check_room(room));
                    match rules.and_then(|()| text::check_token(token)) {
                        Ok(()) => return Ok(Step::Event(SessionEvent::Request(request))),
                        Err(bad) => return Ok(refuse(out, tag, bad)),
                    }
                }
                (_, Request::Key { room, ask }) => {
                    let long = matches!(ask, Ask::Relay { body, .. } if body.len() > MAX_RELAY);
                    let rule = if long { Err(BadText::TooLong) } else { text::check_room(room) };
                    match rule {
                        Ok(()) => return Ok(Step::Event(SessionEvent::Request(request))),
                        Err(bad) => return Ok(refuse(out, 0, bad)),
                    }
                }
                (_, Request::Join { room, .. }) => match text::check_room(room) {
                    Ok(()) => return Ok(Step::Event(SessionEvent::Request(request))),
                    Err(bad) => return Ok(refuse(out, 0, bad)),
                },
                (_, Request::Nick { nick }) => match text::check_nick(nick) {
                    Ok(()) => return Ok(Step::Event(SessionEvent::Request(request))),
                    Err(bad) => return Ok(refuse(out, 0, bad)),
                },
                (_, request) => return Ok(Step::Event(SessionEvent::Request(request))),
            }
        }
    }

    fn line<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            if out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let seen = input.peek();
            let end = memchr::memchr(b'\n', seen.get(self.scanned..).unwrap_or_default())
                .map(|at| at.saturating_add(self.scanned).saturating_add(1));
            let len = match end {
                _ if end.unwrap_or(seen.len()) > MAX_LINE => return Err(SessionError::LineTooLong),
                Some(end) => end,
                None if !input.at_eof() => {
                    self.scanned = seen.len();
                    return Ok(Step::NeedInput(1));
                }
                None if seen.is_empty() => return Ok(self.leave()),
                None => seen.len(),
            };
            self.scanned = 0;
            let line: &'i [u8] = strip_telnet(input.take(len));
            let line = core::str::from_utf8(line).map_err(|_| SessionError::LineNotUtf8)?;
            match command::parse(line) {
                Ok(Typed::Nothing) => {}
                Ok(Typed::Quit) => return Ok(self.leave()),
                Ok(typed) => return Ok(Step::Event(SessionEvent::Typed(typed))),
                Err(bad) => {
                    put_line(out, format_args!("! {bad}"));
                    return Ok(Step::Event(SessionEvent::Refused));
                }
            }
        }
    }

    fn raw<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        if input.is_empty() {
            return Ok(if input.at_eof() { self.leave() } else { Step::NeedInput(1) });
        }
        let seen = input.peek();
        // A border inside a character is where that character begins.
        self.borders.retain_mut(|at| {
            let (before, after) = seen.split_at_checked(*at).unwrap_or((seen, &[]));
            if after.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
                *at = at.saturating_sub(cut_character(before));
            }
            *at > 0
        });
        let border = self.borders.first().copied().unwrap_or(seen.len());
        let mut len = text::head(seen.get(..border).unwrap_or(seen), MAX_TEXT).len();
        if len == seen.len() && !self.expired && !input.at_eof() {
            let cut = cut_character(seen);
            if cut > 0 && self.until.is_none() {
                self.wait(now, HOLD, "character");
            }
            len = len.saturating_sub(cut);
        }
        if len == 0 {
            return Ok(Step::NeedInput(1));
        }
        self.stop_waiting();
        self.borders.retain_mut(|at| {
            *at = at.saturating_sub(len);
            *at > 0
        });
        if self.borders.is_empty() {
            self.borders = Vec::new();
        }
        Ok(Step::Event(SessionEvent::Raw(input.take(len))))
    }

    fn leave<'i>(&mut self) -> Step<SessionEvent<'i>> {
        let dialect = self.dialect();
        self.stop_waiting();
        if matches!(self.state, State::AwaitHello { .. } | State::AwaitOk) {
            self.state = State::Closed;
            return Step::Done;
        }
        self.state = State::Leaving(dialect);
        Step::Event(SessionEvent::Bye)
    }

    fn dialect(&self) -> Dialect {
        match self.state {
            State::AwaitPreface | State::AwaitHello { .. } | State::Member => Dialect::Framed,
            State::Line => Dialect::Line,
            State::AwaitOk | State::Token => Dialect::Token,
            State::Leaving(dialect) | State::Failed(dialect, _) => dialect,
            _ => Dialect::Raw,
        }
    }
}

impl StreamMachine for Session {
    type Event<'i> = SessionEvent<'i>;
    type Command<'c> = SessionCommand<'c>;
    type Error = SessionError;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        MAX_FRAME + HEADER
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Detecting { .. } => "Detecting",
            State::Listening => "Listening",
            State::AwaitPreface | State::AwaitHello { .. } => "AwaitHello",
            State::Member => "Member",
            State::Line => "Line",
            State::Raw => "Raw",
            State::AwaitOk => "AwaitOk",
            State::Token => "Token",
            State::Leaving(_) => "Leaving",
            State::Closed => "Closed",
            State::Failed(..) => "Failed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Verdict<'i> {
        let verdict = match self.state {
            // After each entry it is handed: nothing came, nothing is to be done.
            State::Member if input.is_empty() && !input.at_eof() && out.room() > 0 => {
                return Ok(Step::NeedInput(HEADER));
            }
            State::Member => self.frame(input, out),
            State::AwaitPreface | State::AwaitHello { .. } if self.expired => {
                Err(SessionError::HelloTimeout)
            }
            State::AwaitPreface => self.preface(input, out),
            State::AwaitOk if self.expired => Err(SessionError::OkTimeout),
            State::AwaitOk => self.await_ok(now, input, out),
            State::Token => self.token(input, out),
            State::AwaitHello { .. } => self.frame(input, out),
            State::Listening if input.is_empty() => {
                Ok(if input.at_eof() { self.leave() } else { Step::NeedInput(1) })
            }
            State::Listening => {
                self.state = State::Detecting { opened: true };
                self.detect(now, input, out)
            }
            State::Detecting { .. } => self.detect(now, input, out),
            State::Line => self.line(input, out),
            State::Raw => self.raw(now, input, out),
            State::Leaving(_) => Ok(Step::NeedCommand),
            State::Closed => Ok(Step::Done),
            State::Failed(_, error) => return Err(error),
        };
        if let Err(error) = verdict {
            self.fail(error, out);
        }
        verdict
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: SessionCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match (command, self.state) {
            (_, State::Closed | State::Failed(..)) => return Err(Refused::Closed),
            (SessionCommand::Fail(code, text), _) => {
                put_error(self.dialect(), code, text, out);
                self.stop_waiting();
                self.state = State::Closed;
            }
            (SessionCommand::Welcome(welcome), State::AwaitHello { asked: true }) => {
                put(out, welcome);
                self.state = State::Member;
            }
            (
                _,
                State::Detecting { .. }
                | State::AwaitPreface
                | State::AwaitHello { .. }
                | State::AwaitOk,
            )
            | (SessionCommand::Welcome(_), _) => return Err(Refused::State(self.state())),
            (SessionCommand::Log(bytes), _) => out.put_shared(bytes.clone()),
            (SessionCommand::Pieces(pieces), _) => match &mut self.tokens {
                Some(tokens) if self.state != State::Member => {
                    if !tokens.queue(pieces) {
                        return Err(Refused::Full);
                    }
                    if self.until.is_none() {
                        self.send_token(now, out);
                    }
                }
                _ => pieces.iter().for_each(|piece| put_apart(piece.clone(), out)),
            },
        }
        Ok(())
    }

    /// A framed peer gets BYE, one of tokens all that waits.
    fn handle_close(&mut self, _: Now, out: &mut Outbox) {
        if self.dialect() == Dialect::Framed {
            put(out, &Response::Bye);
        }
        if let Some(tokens) = &mut self.tokens {
            while tokens.send(out) {}
        }
        self.stop_waiting();
        self.state = State::Closed;
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.until
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        let due = |until: Deadline| until.at <= now.mono;
        if self.until.is_some_and(due) {
            self.until = None;
            if self.state == State::Token {
                self.send_token(now, out);
            } else {
                self.expired = true;
            }
        }
    }
}

impl Session {
    fn fail(&mut self, error: SessionError, out: &mut Outbox) {
        let dialect = self.dialect();
        let mut text = alloc::string::String::new();
        let _ = write!(text, "{error}");
        put_error(dialect, error.code(), &text, out);
        self.stop_waiting();
        self.state = State::Failed(dialect, error);
    }
}

fn put(out: &mut Outbox, response: &Response<'_>) {
    let mut frame = BytesMut::new();
    response.put(&mut frame);
    out.put(&frame);
}

fn put_error(dialect: Dialect, code: ErrorCode, text: &str, out: &mut Outbox) {
    match dialect {
        Dialect::Framed => put(out, &Response::Error { code, fatal: true, tag: 0, text }),
        Dialect::Line => put_line(out, format_args!("! {text}")),
        Dialect::Raw | Dialect::Token => {}
    }
}

/// Refuses one request; the session goes on.
fn refuse<'i>(out: &mut Outbox, tag: u32, bad: BadText) -> Step<SessionEvent<'i>> {
    let mut text = alloc::string::String::new();
    let _ = write!(text, "refused: {bad}");
    put(out, &Response::Error { code: bad.into(), fatal: false, tag, text: &text });
    Step::Event(SessionEvent::Refused)
}

fn put_line(out: &mut Outbox, line: core::fmt::Arguments<'_>) {
    let mut text = alloc::string::String::new();
    let _ = writeln!(text, "{line}");
    out.put(text.as_bytes());
}

/// How many bytes at the end are the beginning of a UTF-8 character that is not whole.
fn cut_character(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let tail = bytes.get(from..).unwrap_or_default();
    let Some(back) = tail.iter().rev().position(|byte| byte & 0xC0 != 0x80) else {
        return 0;
    };
    let len = back.saturating_add(1);
    let lead = tail.len().checked_sub(len).and_then(|at| tail.get(at)).copied().unwrap_or(0);
    let whole = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if len < whole { len } else { 0 }
}
