//! The client's side of a connection.

use alloc::sync::Arc;

use bytes::Bytes;
use semfio_machine::{Deadline, FileSpan, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::body::{BodyReader, BodyStep};
use crate::clock::{Clock, Wait};
use crate::emit::{self, Connection, Framing, Piece, Sending};
use crate::error::{Broken, HttpError, Rule};
use crate::field::{Fields, FieldsBuf};
use crate::head::HeadReader;
use crate::limits::{Leniency, Limits};
use crate::message::{Asked, Body, BodyLength, Response, Version};
use crate::method::Method;
use crate::scan::is_tchar;
use crate::state::Side::Server;
use crate::state::State::{Closed, Idle, MustClose, SendBody, SendResponse, Switched};
use crate::state::{Act, Exchange, Side};
use crate::status::Status;
use crate::target;

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'i> {
    /// An interim response, 1xx but 101; another one follows.
    Inform(Response<'i>),
    /// The response.
    Response(Response<'i>),
    /// A piece of its content, chunks taken off.
    Data(&'i [u8]),
    /// All of it has come; the trailer section, most often empty. The next request may be sent, if
    /// the response keeps the connection alive.
    End(Fields<'i>),
}

/// What a client can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCommand<'c> {
    /// A request; one at a time.
    Request {
        /// What is to be done.
        method: Method<'c>,
        /// As it is to be written, in the form that goes with the method.
        target: &'c str,
        /// For `Host`, which is written first: a host, and a port if there is a colon; or nothing.
        authority: &'c str,
        /// All other fields.
        fields: &'c FieldsBuf,
        /// Its content.
        body: Body<'c>,
        /// This is the last request of the connection.
        close: bool,
    },
    /// A piece of the request's content, copied.
    Data(&'c [u8]),
    /// A piece of the request's content that others hold too.
    Shared(&'c Bytes),
    /// A piece of the request's content, of a file.
    File(FileSpan),
    /// The request's content is complete; trailer fields go only in chunks, and are dropped elsewhere.
    End(&'c FieldsBuf),
}

/// What holds for all connections of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// What a peer may use.
    pub limits: Limits,
    /// What it may write wrongly.
    pub leniency: Leniency,
}

/// A connection's client. It holds no octet of what came: heads and pieces of content are told from
/// where the host has read them to.
///
/// Its states are those of [`Exchange`]; what it does in them:
///
/// | client / server | it waits for | tells |
/// |---|---|---|
/// | Idle / Idle | a request to send, or the end; gives up after [`idle_time`](Limits::idle_time) | |
/// | SendBody, Done, MightSwitch / SendResponse | a response, content to send | `Inform`, `Response` |
/// | SendBody, Done / SendBody | its content, content to send | `Data`, `End` |
/// | SendBody / Done | the rest of its own content: the response came early | |
/// | any / MustClose, Closed, Switched | nothing: it is done | |
/// | any / Error | nothing: a rule was broken | |
///
/// What comes without having been asked for, and a connection that ends within a message, are errors;
/// content that lasts until the end of the connection is the exception.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    exchange: Exchange,
    head: HeadReader,
    body: BodyReader,
    sending: Sending,
    asked: Asked,
    /// The request proposed another protocol by `Upgrade`.
    upgrade: bool,
    /// The last response was one of HTTP/1.0, which knows no chunks.
    http10: bool,
    clock: Clock,
    /// Octets taken so far.
    taken: u64,
    broken: Option<HttpError>,
    /// It is over without anybody's fault.
    over: bool,
}

impl Client {
    /// Of a connection that is dialled, or was.
    pub fn new(config: Arc<ClientConfig>) -> Self {
        let clock = Clock::new(config.limits.write_time);
        Self {
            config,
            exchange: Exchange::default(),
            head: HeadReader::default(),
            body: BodyReader::new(BodyLength::None),
            sending: Sending::Nothing,
            asked: Asked::default(),
            upgrade: false,
            http10: false,
            clock,
            taken: 0,
            broken: None,
            over: false,
        }
    }

    /// Where both sides are.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Whether a request may be sent.
    pub fn is_idle(&self) -> bool {
        let idle = (self.exchange.client(), self.exchange.server()) == (Idle, Idle);
        idle && !self.over && self.broken.is_none()
    }

    /// Whether another protocol is spoken from here on: what was not taken is its.
    pub fn is_switched(&self) -> bool {
        self.exchange.is_switched()
    }

    fn step<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
    ) -> Result<Step<ClientEvent<'i>>, HttpError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.over || matches!(self.exchange.server(), MustClose | Closed | Switched) {
            return Ok(self.end_of_all());
        }
        match self.exchange.server() {
            SendResponse => self.read_head(now, input),
            SendBody => self.read_content(now, input),
            _ => self.wait(now, input),
        }
    }

    /// Nothing is due from the server but the end.
    fn wait<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
    ) -> Result<Step<ClientEvent<'i>>, HttpError> {
        if self.clock.wait() == Wait::Nothing && self.exchange.client() == Idle {
            self.clock.begin(now, Wait::Idle(self.config.limits.idle_time));
        }
        if !input.is_empty() {
            return Err(self.break_off(Rule::Unasked.broken(0)));
        }
        if input.at_eof() {
            self.act(Server, Act::Close);
            return Ok(self.end_of_all());
        }
        if self.clock.is_late(now) {
            return Ok(self.end_of_all());
        }
        Ok(Step::NeedInput(1))
    }

    fn read_head<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
    ) -> Result<Step<ClientEvent<'i>>, HttpError> {
        let ClientConfig { limits, leniency } = &*self.config;
        let before = input.len();
        let read = self.head.read_response(limits, leniency, self.asked, input);
        self.taken = self.taken.saturating_add(before.saturating_sub(input.len()) as u64);
        let response = match read {
            Ok(Some(response)) => response,
            Ok(None) if input.at_eof() => {
                // Whether anything of it came decides whether the request may be sent again.
                let rule = if input.is_empty() { Rule::ResponseMissing } else { Rule::HeadShort };
                return Err(self.break_off(rule.broken(input.len())));
            }
            Ok(None) if self.clock.is_late(now) => {
                let rule = if input.is_empty() { Rule::ResponseTime } else { Rule::HeadTime };
                return Err(self.break_off(rule.broken(input.len())));
            }
            Ok(None) => {
                if !input.is_empty() && !matches!(self.clock.wait(), Wait::Head(_)) {
                    self.clock.begin(now, Wait::Head(limits.head_time));
                }
                return Ok(Step::NeedInput(1));
            }
            Err(broken) => return Err(self.break_off(broken)),
        };
        let status = response.status;
        if status == Status::SWITCHING_PROTOCOLS {
            if !self.upgrade || !self.exchange.permits(Server, Act::Switch) {
                // The head that says so was taken.
                self.taken = self.taken.saturating_sub(before.saturating_sub(input.len()) as u64);
                return Err(self.break_off(Rule::SwitchUnasked.broken(0)));
            }
            self.act(Server, Act::Switch);
            return Ok(Step::Event(ClientEvent::Response(response)));
        }
        if status.is_informational() {
            self.clock.begin(now, Wait::Response(limits.response_time));
            self.act(Server, Act::Inform);
            return Ok(Step::Event(ClientEvent::Inform(response)));
        }
        if self.asked == Asked::Connect && status.is_success() {
            self.act(Server, Act::Switch);
            return Ok(Step::Event(ClientEvent::Response(response)));
        }
        self.http10 = response.version == Version::Http10;
        if !response.keeps_alive {
            self.exchange.set_last();
        }
        self.body = BodyReader::new(response.length);
        self.clock.begin(now, Wait::Body(limits.body_time, limits.body_octets));
        self.act(Server, Act::Response);
        Ok(Step::Event(ClientEvent::Response(response)))
    }

    fn read_content<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
    ) -> Result<Step<ClientEvent<'i>>, HttpError> {
        let before = input.len();
        let step = self.body.step(&self.config.limits, &self.config.leniency, input);
        let taken = before.saturating_sub(input.len());
        self.taken = self.taken.saturating_add(taken as u64);
        match step {
            Ok(BodyStep::Data(data)) => {
                self.clock.count(taken);
                self.act(Server, Act::Data);
                Ok(Step::Event(ClientEvent::Data(data)))
            }
            Ok(BodyStep::End(trailers)) => {
                self.act(Server, Act::End);
                let wait = match self.exchange.client() {
                    Idle => Wait::Idle(self.config.limits.idle_time),
                    _ => Wait::Nothing,
                };
                self.clock.begin(now, wait);
                Ok(Step::Event(ClientEvent::End(trailers)))
            }
            Ok(BodyStep::NeedInput(_)) if self.clock.is_late(now) => {
                Err(self.break_off(Rule::BodyTime.broken(input.len())))
            }
            Ok(BodyStep::NeedInput(n)) => Ok(Step::NeedInput(n)),
            Err(broken) => Err(self.break_off(broken)),
        }
    }

    fn end_of_all<E>(&mut self) -> Step<E> {
        self.over = true;
        self.clock.stop();
        Step::Done
    }

    fn break_off(&mut self, broken: Broken) -> HttpError {
        let error = broken.after(self.taken);
        self.act(Server, Act::Break);
        self.clock.stop();
        self.broken = Some(error);
        error
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a command")]
    fn request(
        &mut self,
        now: Now,
        method: Method<'_>,
        target: &str,
        authority: &str,
        fields: &FieldsBuf,
        body: Body<'_>,
        close: bool,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if !self.is_idle() {
            return Err(Refused::State(self.exchange.name()));
        }
        let name = method.as_str();
        if name.is_empty() || !name.bytes().all(is_tchar) {
            return Err(Refused::Invalid("not a method"));
        }
        // What is sent is held to what is read.
        let octets = target.as_bytes();
        let is_whole = target::reach(octets, 0, usize::MAX) == Ok(octets.len());
        if !is_whole || target::Form::new(method, octets).is_err() {
            return Err(Refused::Invalid("not a request target"));
        }
        if !authority.is_empty() && target::authority(authority.as_bytes()).is_err() {
            return Err(Refused::Invalid("not a host"));
        }
        if matches!(method, Method::Connect | Method::Trace) && body != Body::Empty {
            return Err(Refused::Invalid("a request of this method has no content"));
        }
        if self.http10 && body == Body::Unknown {
            return Err(Refused::Invalid("HTTP/1.0 has no chunks"));
        }
        let framing = framing(method, body);
        self.asked = method.into();
        self.upgrade = fields.upgrades();
        if close {
            self.exchange.set_last();
        }
        if self.upgrade || method == Method::Connect {
            self.exchange.set_proposed();
        }
        let connection = if close { Connection::Close } else { Connection::Implied };
        self.clock.putting(now, out);
        emit::request(out, name, target, authority, connection, framing, fields);
        self.clock.begin(now, Wait::Response(self.config.limits.response_time));
        self.act(Side::Client, Act::Request);
        self.sending = Sending::begin(body, Sending::Chunks, out);
        if self.sending == Sending::Nothing {
            self.act(Side::Client, Act::End);
        }
        Ok(())
    }

    fn send(&mut self, now: Now, piece: Piece<'_>, out: &mut Outbox) -> Result<(), Refused> {
        if !self.exchange.permits(Side::Client, Act::Data) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.sending.judge(piece)?;
        self.clock.putting(now, out);
        self.sending.put(piece, out);
        self.spoken(now);
        self.act(Side::Client, Act::Data);
        Ok(())
    }

    fn end(&mut self, now: Now, trailers: &FieldsBuf, out: &mut Outbox) -> Result<(), Refused> {
        if !self.exchange.permits(Side::Client, Act::End) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.sending.judge_end()?;
        self.clock.putting(now, out);
        self.sending.end(trailers, out);
        self.spoken(now);
        self.act(Side::Client, Act::End);
        if self.exchange.client() == Idle {
            self.clock.begin(now, Wait::Idle(self.config.limits.idle_time));
        }
        Ok(())
    }

    /// The server cannot be expected to answer before it has heard all.
    fn spoken(&mut self, now: Now) {
        if matches!(self.clock.wait(), Wait::Response(_)) {
            self.clock.excuse(now);
        }
    }

    /// What this machine does itself is in the table: its tests walk all of it.
    fn act(&mut self, side: Side, act: Act) {
        let done = self.exchange.act(side, act);
        debug_assert_eq!(done, Ok(()), "{act:?} of the {side:?}");
    }
}

impl StreamMachine for Client {
    type Event<'i> = ClientEvent<'i>;
    type Command<'c> = ClientCommand<'c>;
    type Error = HttpError;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        self.config.limits.max_unit()
    }

    fn state(&self) -> &'static str {
        self.exchange.name()
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<ClientEvent<'i>>, HttpError> {
        self.step(now, input)
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: ClientCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {
            ClientCommand::Request { method, target, authority, fields, body, close } => {
                self.request(now, method, target, authority, fields, body, close, out)
            }
            ClientCommand::Data(bytes) => self.send(now, Piece::Copied(bytes), out),
            ClientCommand::Shared(bytes) => self.send(now, Piece::Shared(bytes), out),
            ClientCommand::File(span) => self.send(now, Piece::File(span), out),
            ClientCommand::End(trailers) => self.end(now, trailers, out),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.clock.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.clock.handle_timeout(now, out) {
            self.break_off(Rule::WriteTime.broken(0));
        }
    }
}

/// What the head of a request says of its content.
pub(crate) fn framing(method: Method<'_>, body: Body<'_>) -> Framing {
    match body {
        // Where content is usual, that there is none is said (RFC 9110, 8.6).
        Body::Empty if matches!(method, Method::Post | Method::Put | Method::Patch) => {
            Framing::Length(0)
        }
        Body::Empty => Framing::None,
        Body::Whole(bytes) => emit::length(bytes.len()),
        Body::File(span) => Framing::Length(span.len),
        Body::Length(n) => Framing::Length(n),
        Body::Unknown => Framing::Chunked,
    }
}
