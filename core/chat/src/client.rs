//! The member's side of one connection, in the dialect it chose.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Start | (the connection stands) | AwaitPreface, or Open unless framed; AwaitKey for tokens | |
//! | AwaitPreface | text before a 0xFF | AwaitPreface | skipped: a server takes a late framed peer for raw |
//! | AwaitPreface | the preface | AwaitWelcome | |
//! | AwaitWelcome | WELCOME | Joined | `Response` |
//! | AwaitPreface, AwaitWelcome | 10 s | Failed | |
//! | AwaitWelcome, Joined | a frame | the same | `Response`; PING is answered |
//! | AwaitWelcome, Joined | BYE, a fatal ERROR | Closed | `Response` |
//! | Open | bytes | Open | `Text`, one a read; `Sent` for each text that came back (raw) |
//! | AwaitKey | 44 octets | Open, OK is sent | `Synchronized` |
//! | AwaitKey | no key, or 10 s | Failed | |
//! | Open (tokens) | a token | Open | `Text`; `Sent` for each text that came back |
//! | Open (tokens) | what is no token | Open | `Unreadable` |
//! | any | command `Finish` | sending half closed | |
//! | any | end of input | Closed | |
//!
//! In the raw dialect of the course's chat there are no borders, so the client makes them: the
//! next text leaves [`PAUSE`] after the last has come back. With tokens, those that come are told
//! apart, but the course's server and its other clients cannot, so that it sends in the same way.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::time::Duration;
use semfio_frame::{Dialect, FrameError, HEADER, PREFACE, Read, read_frame};
use semfio_keysync::{Cut, Key, Splitter};
use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Rng, Step, StreamMachine};

use crate::text::{self, MAX_TEXT};
use crate::token::{self, KEY_TEXT, OK, OK_WITHIN, TOKEN_TEXT};
use crate::wire::{MAX_FRAME, Request, Response, SessionKey, WireError};

/// How long a server may take to say WELCOME.
pub const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// How long after a raw text came back the next one leaves. The course's server waits for the ACK
/// of each reader before it sends on (Nagle, RFC 896), and a reader's system may hold that back for
/// 40 ms: what is said meanwhile comes as one, and its borders are lost.
pub const PAUSE: Duration = Duration::from_millis(50);
/// How long a raw text may take to come back before the next is sent all the same.
pub const ECHO_WITHIN: Duration = Duration::from_secs(2);
/// How long after OK the first text leaves. The course's server does not answer OK, and loses a text
/// that it reads together with it.
pub const SETTLE: Duration = Duration::from_millis(250);
/// Raw texts that may wait for their turn.
pub const MAX_WAITING: usize = 1024;

/// The member's side of one connection.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    state: State,
    hello: Option<(SessionKey, alloc::string::String)>,
    until: Option<Deadline>,
    expired: bool,
    /// Raw texts that wait for their turn, the one that was sent last at the front.
    waiting: VecDeque<Vec<u8>>,
    in_flight: bool,
    /// How much of the front one came back, in pieces.
    back: usize,
    sealer: Option<Box<Sealer>>,
    /// The end of what came, in which the beginning of the text in flight may lie.
    tail: Vec<u8>,
    /// Texts that came back and are not told yet.
    sent: usize,
    finishing: bool,
}

/// What a member needs to speak tokens.
#[derive(Debug)]
struct Sealer {
    /// Once it has come.
    key: Option<Key>,
    ivs: Rng,
    splitter: Splitter,
    /// The token in flight, and how much text it holds.
    sent: Vec<u8>,
    text: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    AwaitKey,
    AwaitPreface,
    AwaitWelcome,
    Joined,
    Open,
    Closed,
    Failed(ClientError),
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent<'i> {
    /// A frame. PING is answered already.
    Response(Response<'i>),
    /// Line and raw: bytes as they came, one event a read. Tokens: a text.
    Text(&'i [u8]),
    /// Tokens: the key came, and OK is sent.
    Synchronized,
    /// Tokens: something came that is none, or not under the key.
    Unreadable,
    /// Raw and tokens: so many texts have come back, in the order they were sent.
    Sent(usize),
}

/// What a participant asks of its client.
#[derive(Clone, Copy, Debug)]
pub enum ClientCommand<'c> {
    /// Framed: sends a request.
    Request(Request<'c>),
    /// Line: sends the text and a line feed. Raw and tokens: sends the text, after the one before
    /// has come back.
    Text(&'c str),
    /// Nothing more will be sent.
    Finish,
}

/// How a server broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// It sent our own HELLO back, as a server without frames does.
    Mirrored,
    /// 0xFF, and then not the preface.
    BadPreface,
    /// No WELCOME in time.
    WelcomeTimeout,
    /// It closed before WELCOME.
    ClosedEarly,
    /// A frame that is too large or cut off.
    Frame(FrameError),
    /// A frame that does not parse.
    Wire(WireError),
    /// A frame that must not come before WELCOME, or a second WELCOME.
    Unexpected,
    /// What came first is no key.
    BadKey,
    /// No key in time.
    KeyTimeout,
    /// It closed before its key was whole.
    NoKey,
}

impl core::fmt::Display for ClientError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Mirrored => f.write_str("the server sends our HELLO back: it speaks no frames"),
            Self::BadPreface => f.write_str("the server's preface is wrong"),
            Self::WelcomeTimeout => f.write_str("the server did not answer HELLO"),
            Self::ClosedEarly => f.write_str("the server closed before it answered HELLO"),
            Self::Frame(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::Unexpected => f.write_str("a frame came that must not come now"),
            Self::BadKey => f.write_str("what the server sent first is no key"),
            Self::KeyTimeout => f.write_str("the server sent no key"),
            Self::NoKey => f.write_str("the server closed before its key was whole"),
        }
    }
}

impl core::error::Error for ClientError {}

type Verdict<'i> = Result<Step<ClientEvent<'i>>, ClientError>;

impl Client {
    /// A framed member that wants to be called `nick`; `session` from an earlier WELCOME, or zeros.
    pub fn framed(nick: &str, session: SessionKey) -> Self {
        Self { hello: Some((session, nick.into())), ..Self::plain(Dialect::Framed) }
    }

    /// A member that sends lines.
    pub fn line() -> Self {
        Self::plain(Dialect::Line)
    }

    /// A member that sends raw texts, as the course's client.
    pub fn raw() -> Self {
        Self::plain(Dialect::Raw)
    }

    /// A member that speaks tokens under the key that the server sends in clear, as the course's client.
    /// Everybody on the way reads it.
    pub fn insecure_cleartext_key(ivs: Rng) -> Self {
        let sealer =
            Sealer { key: None, ivs, splitter: Splitter::new(), sent: Vec::new(), text: 0 };
        Self { sealer: Some(Box::new(sealer)), ..Self::plain(Dialect::Token) }
    }

    fn plain(dialect: Dialect) -> Self {
        Self {
            dialect,
            state: State::Start,
            hello: None,
            until: None,
            expired: false,
            waiting: VecDeque::new(),
            in_flight: false,
            back: 0,
            sealer: None,
            tail: Vec::new(),
            sent: 0,
            finishing: false,
        }
    }

    fn start(&mut self, now: Now, out: &mut Outbox) {
        if self.sealer.is_some() {
            self.until = Some(Deadline { at: now.mono.saturating_add(OK_WITHIN), why: "key" });
            self.state = State::AwaitKey;
            return;
        }
        let Some((session, nick)) = self.hello.take() else {
            self.state = State::Open;
            return;
        };
        out.put(&PREFACE);
        put(out, &Request::Hello { max_frame: MAX_FRAME as u32, session, nick: &nick });
        self.until = Some(Deadline { at: now.mono.saturating_add(WELCOME_WITHIN), why: "welcome" });
        self.state = State::AwaitPreface;
    }

    fn preface<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        let noise = memchr::memchr(0xFF, input.peek()).unwrap_or(input.len());
        input.take(noise);
        let seen = input.peek();
        let common = seen.len().min(PREFACE.len());
        if seen.get(..common) != PREFACE.get(..common) {
            return Err(ClientError::BadPreface);
        }
        if common < PREFACE.len() {
            return if input.at_eof() {
                Err(ClientError::ClosedEarly)
            } else {
                Ok(Step::NeedInput(1))
            };
        }
        input.take(PREFACE.len());
        self.state = State::AwaitWelcome;
        self.frame(input, out)
    }

    fn frame<'i>(&mut self, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        loop {
            if self.state == State::Joined && out.room() == 0 {
                return Ok(Step::NeedRoom);
            }
            let frame = match read_frame(input, MAX_FRAME).map_err(ClientError::Frame)? {
                Read::Frame(frame) => frame,
                Read::NeedInput(n) => return Ok(Step::NeedInput(n)),
                Read::End if self.state == State::AwaitWelcome => {
                    return Err(ClientError::ClosedEarly);
                }
                Read::End => {
                    self.state = State::Closed;
                    return Ok(Step::Done);
                }
            };
            let (kind, body): (u8, &'i [u8]) = (frame.kind, frame.body);
            if kind == 0x81 {
                return Err(ClientError::Mirrored);
            }
            let Some(response) = Response::parse(kind, body).map_err(ClientError::Wire)? else {
                continue;
            };
            match (self.state, &response) {
                (State::Joined, Response::Ping(number)) => put(out, &Request::Pong(*number)),
                (_, Response::Bye | Response::Error { fatal: true, .. }) => {
                    self.state = State::Closed;
                }
                (State::AwaitWelcome, Response::Welcome { .. }) => {
                    self.until = None;
                    self.state = State::Joined;
                }
                (State::AwaitWelcome, _) | (_, Response::Welcome { .. }) => {
                    return Err(ClientError::Unexpected);
                }
                _ => {}
            }
            return Ok(Step::Event(ClientEvent::Response(response)));
        }
    }

    fn key<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        let missing = KEY_TEXT.saturating_sub(input.len());
        if missing > 0 {
            return if input.at_eof() {
                Err(ClientError::NoKey)
            } else {
                Ok(Step::NeedInput(missing))
            };
        }
        let text =
            core::str::from_utf8(input.take(KEY_TEXT)).ok().filter(|text| text.ends_with('='));
        let key = text.and_then(|text| Key::parse(text).ok()).ok_or(ClientError::BadKey)?;
        if let Some(sealer) = &mut self.sealer {
            out.put(&token::seal(&key, &mut sealer.ivs, now, OK));
            out.boundary();
            sealer.key = Some(key);
        }
        self.until = Some(Deadline { at: now.mono.saturating_add(SETTLE), why: "settle" });
        self.state = State::Open;
        Ok(Step::Event(ClientEvent::Synchronized))
    }

    /// The next token, opened in its own place.
    fn token<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        let Some((sealer, key)) = self
            .sealer
            .as_mut()
            .and_then(|sealer| Some((&mut sealer.splitter, sealer.key.as_ref()?)))
        else {
            return Ok(Step::Done);
        };
        while let Some(cut) = sealer.cut(key, input.peek(), input.at_eof()) {
            let n = match cut {
                Cut::Rest(n) => {
                    input.take(n);
                    continue;
                }
                Cut::Lost(n) => {
                    input.take(n);
                    return Ok(Step::Event(ClientEvent::Unreadable));
                }
                Cut::Token(n) => n,
            };
            let place: &'i mut [u8] = input.take(n);
            let Some(text) = token::open(key, now, place) else {
                return Ok(Step::Event(ClientEvent::Unreadable));
            };
            if self.sealer.as_ref().is_some_and(|sealer| self.in_flight && sealer.sent == place) {
                self.came_back(now, out);
            }
            // The text is shorter than its token.
            let place: &'i mut [u8] = place.get_mut(..text.len()).unwrap_or_default();
            place.copy_from_slice(&text);
            return Ok(Step::Event(ClientEvent::Text(place)));
        }
        Ok(if input.at_eof() {
            self.state = State::Closed;
            Step::Done
        } else {
            Step::NeedInput(1)
        })
    }

    fn text<'i>(&mut self, now: Now, input: &mut Input<'i>, out: &mut Outbox) -> Verdict<'i> {
        if self.sent > 0 {
            return Ok(Step::Event(ClientEvent::Sent(core::mem::take(&mut self.sent))));
        }
        if self.sealer.is_some() {
            return self.token(now, input, out);
        }
        if input.is_empty() {
            if input.at_eof() {
                self.state = State::Closed;
                return Ok(Step::Done);
            }
            return Ok(Step::NeedInput(1));
        }
        let text: &'i [u8] = input.take(MAX_TEXT);
        self.look_for_echo(now, text, out);
        Ok(Step::Event(ClientEvent::Text(text)))
    }

    /// Looks for the text in flight in what came, across reads.
    fn look_for_echo(&mut self, now: Now, new: &[u8], out: &mut Outbox) {
        self.tail.extend_from_slice(new);
        if let Some(text) = self.waiting.front().filter(|_| self.in_flight) {
            if memchr::memmem::find(&self.tail, text).is_none() {
                let keep = text.len().saturating_sub(1).min(self.tail.len());
                self.tail.drain(..self.tail.len().saturating_sub(keep));
                return;
            }
            self.came_back(now, out);
        }
        self.tail = Vec::new();
    }

    fn came_back(&mut self, now: Now, out: &mut Outbox) {
        self.in_flight = false;
        self.until = Some(Deadline { at: now.mono.saturating_add(PAUSE), why: "pause" });
        self.back = self.back.saturating_add(self.sealer.as_ref().map_or(usize::MAX, |s| s.text));
        if self.waiting.front().is_some_and(|text| text.len() > self.back) {
            return;
        }
        self.back = 0;
        self.waiting.pop_front();
        self.sent = self.sent.saturating_add(1);
        if self.waiting.is_empty() && self.finishing {
            out.finish();
        }
    }

    fn send_next(&mut self, now: Now, out: &mut Outbox) {
        if let Some(text) = self.waiting.front() {
            match &mut self.sealer {
                None => out.put(text),
                Some(sealer) => {
                    let rest = text.get(self.back..).unwrap_or_default();
                    let piece = text::head(rest, TOKEN_TEXT);
                    if let Some(key) = &sealer.key {
                        sealer.sent = token::seal(key, &mut sealer.ivs, now, piece);
                        sealer.text = piece.len();
                        out.boundary();
                        out.put(&sealer.sent);
                        out.boundary();
                    }
                }
            }
            self.in_flight = true;
            self.until = Some(Deadline { at: now.mono.saturating_add(ECHO_WITHIN), why: "echo" });
        }
    }
}

impl StreamMachine for Client {
    type Event<'i> = ClientEvent<'i>;
    type Command<'c> = ClientCommand<'c>;
    type Error = ClientError;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        MAX_FRAME + HEADER
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Start => "Start",
            State::AwaitKey => "AwaitKey",
            State::AwaitPreface => "AwaitPreface",
            State::AwaitWelcome => "AwaitWelcome",
            State::Joined => "Joined",
            State::Open => "Open",
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
        if self.state == State::Start {
            self.start(now, out);
        }
        let waits = matches!(self.state, State::AwaitPreface | State::AwaitWelcome);
        let verdict = match self.state {
            _ if self.expired && waits => Err(ClientError::WelcomeTimeout),
            State::AwaitKey if self.expired => Err(ClientError::KeyTimeout),
            State::AwaitKey => self.key(now, input, out),
            State::AwaitPreface => self.preface(input, out),
            State::Closed => Ok(Step::Done),
            State::Failed(error) => return Err(error),
            State::Open => self.text(now, input, out),
            _ => self.frame(input, out),
        };
        if let Err(error) = verdict {
            self.until = None;
            self.state = State::Failed(error);
        }
        verdict
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: ClientCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match (command, self.state, self.dialect) {
            (_, State::Closed | State::Failed(_), _) => return Err(Refused::Closed),
            (ClientCommand::Finish, ..) => {
                self.finishing = true;
                if self.waiting.is_empty() {
                    out.finish();
                }
            }
            _ if self.finishing => return Err(Refused::State("Finishing")),
            (ClientCommand::Request(request), State::Joined, _) => put(out, &request),
            (ClientCommand::Text(text), State::Open, Dialect::Line) => {
                out.put(text.as_bytes());
                out.put(b"\n");
            }
            (ClientCommand::Text(""), State::Open, _) => {
                return Err(Refused::Invalid("an empty text"));
            }
            (ClientCommand::Text(text), State::Open, _) => {
                if self.waiting.len() >= MAX_WAITING {
                    return Err(Refused::Full);
                }
                self.waiting.push_back(text.as_bytes().to_vec());
                if self.until.is_none() {
                    self.send_next(now, out);
                }
            }
            _ => return Err(Refused::State(self.state())),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.until
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.until.is_some_and(|until| until.at <= now.mono) {
            self.until = None;
            match self.state {
                State::Open if self.in_flight => self.came_back(now, out),
                State::Open => self.send_next(now, out),
                _ => self.expired = true,
            }
        }
    }
}

fn put(out: &mut Outbox, request: &Request<'_>) {
    let mut frame = BytesMut::new();
    request.put(&mut frame);
    out.put(&frame);
}
