//! The server's side of a connection.

use alloc::sync::Arc;
use core::mem;

use bytes::Bytes;
use semfio_machine::{Deadline, FileSpan, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::body::{BodyReader, BodyStep};
use crate::clock::{Clock, Wait};
use crate::emit::{self, Connection, Framing, Piece, Sending};
use crate::error::{Broken, HttpError, Rule};
use crate::field::{Fields, FieldsBuf};
use crate::head::HeadReader;
use crate::limits::{Leniency, Limits};
use crate::message::{Body, BodyLength, Request, Version};
use crate::method::Method;
use crate::state::Side::Client;
use crate::state::State::{Closed, Done, Idle, MustClose, SendBody, SendResponse, Switched};
use crate::state::{Act, Exchange, Side};
use crate::status::Status;

/// What a server is told: a request, pieces of its content, its end. One request is at hand at a time;
/// the next one is told once it is answered, so that answers are in order. Of a request whose answer
/// is complete nothing more is told.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent<'i> {
    /// A request, to be answered by [`ServerCommand::Respond`], at once or later.
    Request(Request<'i>),
    /// A piece of its content, chunks taken off.
    Data(&'i [u8]),
    /// All of its content has come, also if there was none; the trailer section, most often empty.
    End(Fields<'i>),
}

/// What a server can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCommand<'c> {
    /// An interim response, 1xx: `100 Continue` to have the content sent, which leaves only for a
    /// peer that waits for it. Nothing is sent to a peer of HTTP/1.0.
    Inform {
        /// 1xx, and not 101.
        status: Status,
        /// Its fields.
        fields: &'c FieldsBuf,
    },
    /// The response. To HEAD, and with a status that forbids content, no content leaves, and no
    /// pieces of it are wanted either.
    Respond {
        /// 101 (with `Upgrade` among the fields) and 2xx to CONNECT hand the connection over: the
        /// machine is done, what was not taken belongs to whoever comes next.
        status: Status,
        /// Its fields; `Date` is added if it is not there.
        fields: &'c FieldsBuf,
        /// Its content.
        body: Body<'c>,
    },
    /// A piece of the response's content, copied.
    Data(&'c [u8]),
    /// A piece of the response's content that others hold too.
    Shared(&'c Bytes),
    /// A piece of the response's content, of a file.
    File(FileSpan),
    /// The response's content is complete, where it was [`Body::Length`] or [`Body::Unknown`], and
    /// never before so many octets were sent; trailer fields go only in chunks, and are dropped elsewhere.
    End(&'c FieldsBuf),
    /// No more requests: the next answer says that it is the last one, and then the connection ends.
    /// Where no request is at hand one is still taken for a
    /// [little while](crate::Limits::finish_time) after the last answer, since who sent it could not know.
    Finish,
}

/// What holds for all connections of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// What a peer may use.
    pub limits: Limits,
    /// What it may write wrongly.
    pub leniency: Leniency,
}

/// A connection's server. It holds no octet of what came: heads and pieces of content are told from
/// where the host has read them to.
///
/// Its states are those of [`Exchange`]; what it does in them:
///
/// | client / server | it waits for | tells |
/// |---|---|---|
/// | Idle / Idle | a request; silently gives up after [`idle_time`](Limits::idle_time) | `Request` |
/// | SendBody / SendResponse, SendBody | content, and commands | `Data`, `End` |
/// | Done, MightSwitch / SendResponse, SendBody | commands; what is pipelined waits unread | |
/// | SendBody / Done | the rest of a request that was answered early, up to [`unread`](Limits::unread) octets | |
/// | any / MustClose, Closed, Switched | nothing: it is done | |
/// | Error / any | nothing: a rule was broken, the farewell is sent | |
///
/// A request that breaks a rule is answered with the rule's status, its name and place, unless its
/// answer has begun; then the connection ends with that answer incomplete.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    exchange: Exchange,
    head: HeadReader,
    body: BodyReader,
    sending: Sending,
    request: Pending,
    clock: Clock,
    /// Octets taken so far.
    taken: u64,
    /// Octets of content that may still be read away.
    unread: u64,
    broken: Option<HttpError>,
    /// No more requests are wanted.
    finishing: bool,
    /// It is over without anybody's fault.
    over: bool,
}

/// What is kept of the request at hand.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    head: bool,
    connect: bool,
    upgrade: bool,
    http10: bool,
    /// Waits for `100 Continue`, which has not been sent.
    waits: bool,
    /// Its content is complete, which is to be told.
    ended: bool,
}

impl Server {
    /// Of a connection that was just accepted.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let clock = Clock::new(config.limits.write_time);
        Self {
            config,
            exchange: Exchange::default(),
            head: HeadReader::default(),
            body: BodyReader::new(BodyLength::None),
            sending: Sending::Nothing,
            request: Pending::default(),
            clock,
            taken: 0,
            unread: 0,
            broken: None,
            finishing: false,
            over: false,
        }
    }

    /// Where both sides are.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Whether another protocol is spoken from here on: what was not taken is its.
    pub fn is_switched(&self) -> bool {
        self.exchange.is_switched()
    }

    fn step<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<ServerEvent<'i>>, HttpError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.over || matches!(self.exchange.server(), MustClose | Closed | Switched) {
            self.clock.stop();
            return Ok(Step::Done);
        }
        if out.room() == 0 {
            self.clock.excuse(now);
            return Ok(Step::NeedRoom);
        }
        match (self.exchange.client(), self.exchange.server()) {
            (Idle, _) => self.read_head(now, input, out),
            (SendBody, Done) => self.read_away(now, input, out),
            (SendBody, _) => self.read_content(now, input, out),
            _ if mem::take(&mut self.request.ended) => {
                Ok(Step::Event(ServerEvent::End(Fields::default())))
            }
            _ => Ok(Step::NeedCommand),
        }
    }

    fn read_head<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<ServerEvent<'i>>, HttpError> {
        let ServerConfig { limits, leniency } = &*self.config;
        if self.clock.wait() == Wait::Nothing {
            self.clock.begin(now, Wait::Idle(limits.idle_time));
        }
        let before = input.len();
        let read = self.head.read_request(limits, leniency, input);
        self.taken = self.taken.saturating_add(before.saturating_sub(input.len()) as u64);
        let request = match read {
            Ok(Some(request)) => request,
            Ok(None) if input.at_eof() && !self.head.is_begun() => {
                self.act(Client, Act::Close);
                return Ok(self.end_of_all());
            }
            Ok(None) if input.at_eof() => {
                return Err(self.break_off(now, Rule::HeadShort.broken(input.len()), out));
            }
            Ok(None) if self.clock.is_late(now) => {
                if !self.head.is_begun() {
                    return Ok(self.end_of_all());
                }
                return Err(self.break_off(now, Rule::HeadTime.broken(input.len()), out));
            }
            Ok(None) => {
                if self.head.is_begun() && matches!(self.clock.wait(), Wait::Idle(_)) {
                    self.clock.begin(now, Wait::Head(limits.head_time));
                }
                return Ok(Step::NeedInput(1));
            }
            Err(broken) => return Err(self.break_off(now, broken, out)),
        };
        let http10 = request.version == Version::Http10;
        let connect = request.method == Method::Connect;
        let upgrade = !http10 && request.fields.first("Upgrade").is_some();
        self.request = Pending {
            head: request.method == Method::Head,
            connect,
            upgrade,
            http10,
            waits: request.expects_continue,
            ended: false,
        };
        if !request.keeps_alive {
            self.exchange.set_last();
        }
        if connect || upgrade {
            self.exchange.set_proposed();
        }
        self.act(Client, Act::Request);
        if matches!(request.length, BodyLength::None | BodyLength::Known(0)) {
            self.request.ended = true;
            self.act(Client, Act::End);
            self.clock.begin(now, Wait::Nothing);
        } else {
            let limits = &self.config.limits;
            self.body = BodyReader::new(request.length);
            self.unread = limits.unread;
            let wait = if request.expects_continue { Wait::Nothing } else { body_wait(limits) };
            self.clock.begin(now, wait);
        }
        Ok(Step::Event(ServerEvent::Request(request)))
    }

    fn read_content<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<ServerEvent<'i>>, HttpError> {
        let before = input.len();
        if before > 0 && self.clock.wait() == Wait::Nothing {
            // It did not wait for our word after all.
            self.request.waits = false;
            self.clock.begin(now, body_wait(&self.config.limits));
        }
        let step = self.body.step(&self.config.limits, &self.config.leniency, input);
        let taken = before.saturating_sub(input.len());
        self.taken = self.taken.saturating_add(taken as u64);
        match step {
            Ok(BodyStep::Data(data)) => {
                self.clock.count(taken);
                self.act(Client, Act::Data);
                Ok(Step::Event(ServerEvent::Data(data)))
            }
            Ok(BodyStep::End(trailers)) => {
                self.act(Client, Act::End);
                self.clock.begin(now, Wait::Nothing);
                Ok(Step::Event(ServerEvent::End(trailers)))
            }
            Ok(BodyStep::NeedInput(_)) if self.clock.is_late(now) => {
                Err(self.break_off(now, Rule::BodyTime.broken(input.len()), out))
            }
            Ok(BodyStep::NeedInput(n)) => Ok(Step::NeedInput(n)),
            Err(broken) => Err(self.break_off(now, broken, out)),
        }
    }

    /// The answer is complete, the request is not: reads a little more, for the next one's sake.
    fn read_away<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<ServerEvent<'i>>, HttpError> {
        loop {
            let before = input.len();
            let left = usize::try_from(self.unread).unwrap_or(usize::MAX);
            let hidden = input.narrow(left, input.at_eof() && before < left);
            let step = self.body.step(&self.config.limits, &self.config.leniency, input);
            let waiting = input.len() as u64;
            input.widen(hidden);
            let taken = before.saturating_sub(input.len());
            self.taken = self.taken.saturating_add(taken as u64);
            self.unread = self.unread.saturating_sub(taken as u64);
            match step {
                Ok(BodyStep::Data(_)) => self.clock.count(taken),
                Ok(BodyStep::End(_)) => {
                    self.act(Client, Act::End);
                    self.become_idle(now);
                    return self.step(now, input, out);
                }
                Ok(BodyStep::NeedInput(n)) if waiting < self.unread && !self.clock.is_late(now) => {
                    return Ok(Step::NeedInput(n));
                }
                Ok(BodyStep::NeedInput(_)) => return Ok(self.end_of_all()),
                Err(broken) => return Err(self.break_off(now, broken, out)),
            }
        }
    }

    fn end_of_all<E>(&mut self) -> Step<E> {
        self.over = true;
        self.clock.stop();
        Step::Done
    }

    /// A rule is broken: says so if it still can.
    fn break_off(&mut self, now: Now, broken: Broken, out: &mut Outbox) -> HttpError {
        let error = broken.after(self.taken);
        let to_head = self.exchange.server() == SendResponse && self.request.head;
        self.act(Client, Act::Break);
        if self.exchange.permits(Side::Server, Act::Response) {
            emit::farewell(out, now, error, !to_head);
            self.act(Side::Server, Act::Response);
            self.act(Side::Server, Act::End);
        }
        self.clock.stop();
        self.broken = Some(error);
        error
    }

    fn respond(
        &mut self,
        now: Now,
        status: Status,
        fields: &FieldsBuf,
        body: Body<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let asked = self.request;
        let switches = status == Status::SWITCHING_PROTOCOLS && asked.upgrade && fields.upgrades()
            || asked.connect && status.is_success();
        if !switches && status.is_informational() {
            return Err(Refused::Invalid("not the status of a final response"));
        }
        let act = if switches { Act::Switch } else { Act::Response };
        if !self.exchange.permits(Side::Server, act) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.clock.putting(now, out);
        if switches {
            emit::response(out, now, status, Connection::Implied, Framing::None, fields);
            self.act(Side::Server, Act::Switch);
            return Ok(());
        }
        let silent = asked.head || status.forbids_content();
        let framing = match body {
            _ if status == Status::NO_CONTENT => Framing::None,
            Body::Empty if status == Status::NOT_MODIFIED => Framing::None,
            Body::Empty => Framing::Length(0),
            Body::Whole(bytes) => emit::length(bytes.len()),
            Body::File(span) => Framing::Length(span.len),
            Body::Length(n) => Framing::Length(n),
            Body::Unknown if silent || asked.http10 => Framing::None,
            Body::Unknown => Framing::Chunked,
        };
        let until_close = body == Body::Unknown && asked.http10 && !silent;
        // One who was not told to go on may never send its content, or may.
        let unheard = asked.waits && self.exchange.client() == SendBody;
        if self.finishing || until_close || unheard {
            self.exchange.set_last();
        }
        let connection = match (self.exchange.is_last(), asked.http10) {
            (true, _) => Connection::Close,
            (false, true) => Connection::KeepAlive,
            (false, false) => Connection::Implied,
        };
        emit::response(out, now, status, connection, framing, fields);
        self.act(Side::Server, Act::Response);
        let unknown = if until_close { Sending::UntilClose } else { Sending::Chunks };
        self.sending = if silent { Sending::Nothing } else { Sending::begin(body, unknown, out) };
        if self.sending == Sending::Nothing {
            self.complete(now);
        }
        Ok(())
    }

    fn inform(
        &mut self,
        now: Now,
        status: Status,
        fields: &FieldsBuf,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if !status.is_informational() || status == Status::SWITCHING_PROTOCOLS {
            return Err(Refused::Invalid("not the status of an interim response"));
        }
        if !self.exchange.permits(Side::Server, Act::Inform) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.act(Side::Server, Act::Inform);
        if status == Status::CONTINUE {
            // It is not sent to one who goes on anyway.
            if !mem::take(&mut self.request.waits) {
                return Ok(());
            }
            if self.exchange.client() == SendBody {
                self.clock.begin(now, body_wait(&self.config.limits));
            }
        }
        if !self.request.http10 {
            self.clock.putting(now, out);
            emit::response(out, now, status, Connection::Implied, Framing::None, fields);
        }
        Ok(())
    }

    fn send(&mut self, now: Now, piece: Piece<'_>, out: &mut Outbox) -> Result<(), Refused> {
        if !self.exchange.permits(Side::Server, Act::Data) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.sending.judge(piece)?;
        self.clock.putting(now, out);
        self.sending.put(piece, out);
        self.act(Side::Server, Act::Data);
        Ok(())
    }

    fn end(&mut self, now: Now, trailers: &FieldsBuf, out: &mut Outbox) -> Result<(), Refused> {
        if !self.exchange.permits(Side::Server, Act::End) {
            return Err(Refused::State(self.exchange.name()));
        }
        self.sending.judge_end()?;
        self.clock.putting(now, out);
        self.sending.end(trailers, out);
        self.complete(now);
        Ok(())
    }

    fn finish(&mut self, now: Now) {
        self.finishing = true;
        let idle = (self.exchange.client(), self.exchange.server()) == (Idle, Idle);
        if idle && matches!(self.clock.wait(), Wait::Idle(_)) {
            let time = self.config.limits.finish_time;
            self.over = self.clock.since().saturating_add(time) <= now.mono;
            self.clock.shorten(Wait::Idle(time));
        } else if self.clock.wait() == Wait::Nothing && idle {
            self.over = true;
        }
    }

    /// The answer is complete.
    fn complete(&mut self, now: Now) {
        self.act(Side::Server, Act::End);
        if self.exchange.client() == Idle {
            self.become_idle(now);
        }
    }

    fn become_idle(&mut self, now: Now) {
        let limits = &self.config.limits;
        let time = if self.finishing { limits.finish_time } else { limits.idle_time };
        self.clock.begin(now, Wait::Idle(time));
    }

    /// What this machine does itself is in the table: its tests walk all of it.
    fn act(&mut self, side: Side, act: Act) {
        let done = self.exchange.act(side, act);
        debug_assert_eq!(done, Ok(()), "{act:?} of the {side:?}");
    }
}

fn body_wait(limits: &Limits) -> Wait {
    Wait::Body(limits.body_time, limits.body_octets)
}

impl StreamMachine for Server {
    type Event<'i> = ServerEvent<'i>;
    type Command<'c> = ServerCommand<'c>;
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
        out: &mut Outbox,
    ) -> Result<Step<ServerEvent<'i>>, HttpError> {
        self.step(now, input, out)
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: ServerCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {
            ServerCommand::Inform { status, fields } => self.inform(now, status, fields, out),
            ServerCommand::Respond { status, fields, body } => {
                self.respond(now, status, fields, body, out)
            }
            ServerCommand::Data(bytes) => self.send(now, Piece::Copied(bytes), out),
            ServerCommand::Shared(bytes) => self.send(now, Piece::Shared(bytes), out),
            ServerCommand::File(span) => self.send(now, Piece::File(span), out),
            ServerCommand::End(trailers) => self.end(now, trailers, out),
            ServerCommand::Finish => {
                self.finish(now);
                Ok(())
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.clock.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.clock.handle_timeout(now, out) {
            self.act(Client, Act::Break);
            self.clock.stop();
            self.broken = Some(Rule::WriteTime.broken(0).after(self.taken));
        }
    }
}
