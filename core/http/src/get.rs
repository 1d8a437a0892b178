//! Fetches URLs, one after the other: into a stream, or into files that are whole or not there.
//!
//! | step | waits for | on | becomes |
//! |---|---|---|---|
//! | Looking | the host | what is there of a file | Dialling, or Waiting on a kept connection |
//! | Dialling | the connection | it stands, the request is sent | Waiting |
//! | Waiting | the server | an interim response, at most [`INFORMS`] | Waiting |
//! | Waiting | | a redirect | Discarding, then the next request |
//! | Waiting | | a response that is not wanted | Discarding, then failed |
//! | Waiting | | a response into a file | Placing |
//! | Waiting | | a response into the stream | Receiving |
//! | Waiting | | a kept connection ends without an answer | Dialling, once |
//! | Discarding | the server | all of it, or too much | what follows |
//! | Placing | the host | the partial file is open | Receiving |
//! | Receiving | the server | all of it | Saving, or done |
//! | Saving | the host | the file has its name | done |
//! | Leaving | the host | what came is written | failed |
//!
//! A part of a file is gone on with only where the server says that the rest is of the same
//! version; else the file is fetched anew. A redirect changes the method as RFC 9110, 15.4 has it,
//! and what authenticates is told to the first authority alone.

mod resume;
mod save;

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::fmt;
use core::mem;
use core::time::Duration;
use semfio_machine::{
    Chunk, Closed, ConnId, Deadline, Failure, Instant, Net, Now, Outbox, Peer, Reply, RequestId,
    RootId, Service, Target,
};
use semfio_path::SafeName;

use crate::client::{Client, ClientCommand, ClientConfig, ClientEvent, framing};
use crate::emit;
use crate::error::{HttpError, Rule};
use crate::field::{Fields, FieldsBuf};
use crate::limits::Limits;
use crate::message::{Body, BodyLength, Response, Version};
use crate::method::Method;
use crate::status::Status;
use crate::url::{Url, UrlError};

pub use resume::Anew;
use resume::{Note, Rest, Validator};
pub use save::SaveStage;
use save::{Save, SaveEvent};

/// Octets of content that may be told and not be taken: the longest a pipe may make us hold.
pub const WINDOW: u64 = 1024 * 1024;
/// Interim responses to one request: one for `100-continue`, a few of hints; more is a flood.
pub const INFORMS: u32 = 16;
/// Octets of content that are given on at once, at least where more of them come at a time.
const PIECE: usize = 64 * 1024;
/// Octets of content that nobody wants which are read away so that the connection is kept.
const UNWANTED: u64 = 64 * 1024;
/// Connections that wait for another request: as many authorities as a run has at once, and more.
const KEPT: usize = 8;
/// How long nothing may come of content: who waits for it may stop, and a server that sends what
/// happens may have nothing to say.
const SILENT: Duration = Duration::from_secs(60);
/// How long it may take until a connection stands.
const DIAL: Duration = Duration::from_secs(30);
/// The least time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// What is told to the authority that was asked first, and to no other.
pub const PRIVATE: [&str; 3] = ["Authorization", "Cookie", "Proxy-Authorization"];

/// What a [`Get`] fetches, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetConfig {
    /// One after the other.
    pub items: Vec<GetItem>,
    /// A token; `None` is GET, or POST with a body.
    pub method: Option<String>,
    /// Fields of every request.
    pub fields: FieldsBuf,
    /// Content of every request.
    pub body: Option<Bytes>,
    /// Redirects that are followed for an item; with 0 they are answers like others.
    pub redirects: u32,
    /// Partial files are gone on with.
    pub resume: bool,
    /// An answer of 400 and above is a failure, and its content is not told. For files it always is.
    pub fail: bool,
    /// For each item, redirects included.
    pub max_time: Option<Duration>,
    /// The folder that files are saved in.
    pub root: RootId,
}

/// One thing to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetItem {
    /// From where.
    pub url: Url,
    /// Where to: a file of this name, or the stream.
    pub save_as: Option<SafeName>,
}

/// What an application tells a [`Get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetMessage {
    /// So many octets of what was told are taken.
    Taken(u64),
    /// Stop, and keep what there is.
    Interrupt,
}

/// What a [`Get`] tells its application. Items are named by their place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetReport {
    /// A connection for the next request stands; or one that was kept is used again.
    Connected {
        /// With whom.
        peer: Peer,
        /// It carried a request before.
        kept: bool,
    },
    /// A request is sent.
    Request {
        /// Which item it is for.
        item: usize,
        /// Its head, as it is sent.
        head: Vec<u8>,
    },
    /// The kept connection had ended; the request is sent again over another one.
    Again,
    /// An interim response came.
    Inform(GetHead),
    /// A response came.
    Response {
        /// Which item it is for.
        item: usize,
        /// What was asked for.
        url: Url,
        /// How long after the request.
        after: Duration,
        /// Its head.
        head: GetHead,
    },
    /// It is a redirect, which is followed.
    Redirected {
        /// To there.
        to: Url,
        /// The method is GET from here on, without content.
        now_get: bool,
        /// Fields that authenticate are left out from here on.
        now_public: bool,
    },
    /// There is a partial file, which cannot be gone on with.
    Anew {
        /// Which item.
        item: usize,
        /// Why.
        why: Anew,
    },
    /// Content begins to come.
    Begun {
        /// Which item.
        item: usize,
        /// The whole, in octets, if that is known.
        size: Option<u64>,
        /// Octets of an earlier attempt.
        resumed: u64,
    },
    /// The next octets of content for the stream; to be answered with [`GetMessage::Taken`].
    Content(Bytes),
    /// So many octets of a file are there.
    Progress(u64),
    /// All of it was told, or is saved.
    Done {
        /// Which item.
        item: usize,
        /// From there it came.
        url: Url,
        /// Its status.
        status: Status,
        /// The whole, in octets.
        size: u64,
        /// Of these, from an earlier attempt.
        resumed: u64,
        /// How long it took.
        took: Duration,
    },
    /// Not all of it was told, or it is not saved; others go on.
    Failed {
        /// Which item.
        item: usize,
        /// What was asked for last.
        url: Url,
        /// Why.
        why: GetError,
        /// Octets of content that were told.
        told: u64,
        /// What there is of a file.
        kept: Option<GetKept>,
    },
    /// It is over.
    Over {
        /// Items that were told or saved.
        done: usize,
        /// Items that were not.
        failed: usize,
    },
}

/// A partial file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetKept {
    /// Its path in the folder.
    pub part: String,
    /// In octets.
    pub octets: u64,
    /// Whether the server told which version it is of.
    pub can_go_on: bool,
}

/// The head of a response, as the peer wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetHead {
    /// Of the peer.
    pub version: Version,
    /// What came of the request.
    pub status: Status,
    /// For people; any octets but control characters.
    pub reason: Vec<u8>,
    /// Names and values, in their order and spelling.
    pub fields: Vec<(String, Vec<u8>)>,
    /// How much content follows.
    pub length: BodyLength,
}

impl GetHead {
    fn of(response: &Response<'_>) -> Self {
        let field = |it: crate::field::Field<'_>| (it.name.to_owned(), it.value.to_owned());
        Self {
            version: response.version,
            status: response.status,
            reason: response.reason.to_owned(),
            fields: response.fields.iter().map(field).collect(),
            length: response.length,
        }
    }
}

/// Why something was not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// There is no connection.
    Unreachable(Failure),
    /// The connection broke.
    Lost(Failure),
    /// The server ended the connection without an answer.
    NoAnswer,
    /// The server broke the protocol.
    Protocol(HttpError),
    /// Too many interim responses.
    Informs,
    /// It would speak another protocol, which nobody asked for.
    Switched,
    /// A part of a representation was sent, which nobody asked for.
    Partial,
    /// The part that was sent is not the one that was asked for.
    ContentRange,
    /// A redirect leads nowhere.
    Location(UrlError),
    /// There are several `Location` fields.
    Locations,
    /// There are more redirects than are followed.
    Redirects,
    /// The redirects go round.
    Loop,
    /// The status says that there is nothing.
    Status(Status),
    /// A step on the own disk failed.
    NotSaved(SaveStage, Failure),
    /// It took longer than it may.
    TooSlow,
    /// By [`GetMessage::Interrupt`].
    Interrupted,
}

impl GetError {
    /// A short name that does not change; of a breach of the protocol, the name of the rule.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Lost(_) => "lost",
            Self::NoAnswer => "no-answer",
            Self::Protocol(error) => error.rule.name(),
            Self::Informs => "informs-too-many",
            Self::Switched => "switched-unasked",
            Self::Partial => "partial-unasked",
            Self::ContentRange => "content-range",
            Self::Location(UrlError::Tls) => "location-tls",
            Self::Location(_) => "location",
            Self::Locations => "location-twice",
            Self::Redirects => "redirects-too-many",
            Self::Loop => "redirect-loop",
            Self::Status(_) => "status",
            Self::NotSaved(..) => "not-saved",
            Self::TooSlow => "too-slow",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(failure) | Self::Lost(failure) => failure.fmt(f),
            Self::NoAnswer => f.write_str("the server ended the connection without an answer"),
            Self::Protocol(error) => error.fmt(f),
            Self::Informs => write!(f, "more than {INFORMS} interim responses (RFC 9110, 15.2)"),
            Self::Switched => f.write_str("it answers in another protocol (RFC 9110, 7.8)"),
            Self::Partial => {
                f.write_str("it sends a part that nobody asked for (RFC 9110, 15.3.7)")
            }
            Self::ContentRange => {
                f.write_str("it does not send the part that was asked for (RFC 9110, 14.4)")
            }
            Self::Location(error) => write!(f, "it redirects to where one cannot go: {error}"),
            Self::Locations => f.write_str("it redirects to several places (RFC 9110, 10.2.2)"),
            Self::Redirects => f.write_str("there are too many redirects"),
            Self::Loop => f.write_str("the redirects go round (RFC 9110, 15.4)"),
            Self::Status(status) => status.fmt(f),
            Self::NotSaved(stage, failure) => write!(f, "{stage}: {failure}"),
            Self::TooSlow => f.write_str("it took too long"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl core::error::Error for GetError {}

/// URLs, fetched: a [`Service`] over [`Client`]s. It begins when the host first calls
/// `handle_timeout`, which is due at once.
#[derive(Debug)]
pub struct Get {
    config: GetConfig,
    client: Arc<ClientConfig>,
    /// The next item.
    next: usize,
    job: Option<Job>,
    /// Connections that wait for another request, and with whom.
    kept: Vec<(String, ConnId)>,
    begin: Option<Deadline>,
    /// Octets that were told and not taken.
    waiting: u64,
    told: Instant,
    interrupted: bool,
    over: bool,
    done: usize,
    failed: usize,
    reports: VecDeque<GetReport>,
}

/// The item at hand.
#[derive(Debug)]
struct Job {
    item: usize,
    url: Url,
    /// Of the first request.
    authority: String,
    method: String,
    body: Option<Bytes>,
    /// What was asked, to know a loop.
    asked: Vec<(String, Url)>,
    public: bool,
    step: Step,
    conn: Option<ConnId>,
    /// The authority that it is for.
    with: String,
    /// The connection carried a request before.
    reused: bool,
    /// Something of the answer came.
    heard: bool,
    /// The connection may be used again.
    keep: bool,
    informs: u32,
    /// What is there of a file is of no use.
    anew: bool,
    /// The octet from which on it is asked for.
    from: Option<u64>,
    status: Status,
    /// Octets of content that came.
    came: u64,
    resumed: u64,
    /// What came and was not given on yet.
    gathered: BytesMut,
    save: Option<Save>,
    paused: bool,
    began: Instant,
    sent: Instant,
    by: Option<Deadline>,
    dial: Option<Deadline>,
}

#[derive(Debug)]
enum Step {
    Looking,
    Dialling,
    Waiting,
    /// So many octets more are read away.
    Discarding(u64, Then),
    Placing,
    Receiving,
    Saving,
    Leaving(GetError),
}

/// What follows an answer that is not wanted.
#[derive(Clone, Debug)]
enum Then {
    Ask,
    Finish,
    Fail(GetError),
}

impl Get {
    /// One that has not begun.
    pub fn new(config: GetConfig) -> Self {
        let mut limits = Limits::default();
        (limits.body_time, limits.body_octets) = (SILENT, 1);
        Self {
            config,
            client: Arc::new(ClientConfig { limits, ..ClientConfig::default() }),
            next: 0,
            job: None,
            kept: Vec::new(),
            begin: Some(Deadline { at: Instant::default(), why: "begin" }),
            waiting: 0,
            told: Instant::default(),
            interrupted: false,
            over: false,
            done: 0,
            failed: 0,
            reports: VecDeque::new(),
        }
    }

    fn report(&mut self, report: GetReport) {
        self.reports.push_back(report);
    }

    // From item to item.

    fn begin(&mut self, now: Now, net: &mut Net<Client>) {
        let item = self.next;
        let Some(GetItem { url, save_as }) = self.config.items.get(item).cloned() else {
            return self.end(net);
        };
        self.next = item.saturating_add(1);
        let body = self.config.body.clone();
        let default = if body.is_some() { "POST" } else { "GET" };
        let method = self.config.method.clone().unwrap_or_else(|| default.to_owned());
        let by = self.config.max_time.map(|time| now.mono.saturating_add(time));
        let save = save_as.map(|name| Save::look(self.config.root, name, self.config.resume, net));
        let looking = save.is_some();
        self.job = Some(Job {
            item,
            authority: url.authority(),
            url,
            method,
            body,
            asked: Vec::new(),
            public: false,
            step: Step::Looking,
            conn: None,
            with: String::new(),
            anew: false,
            reused: false,
            heard: false,
            keep: false,
            informs: 0,
            from: None,
            status: Status::OK,
            came: 0,
            resumed: 0,
            gathered: BytesMut::new(),
            save,
            paused: false,
            began: now.mono,
            sent: now.mono,
            by: by.map(|at| Deadline { at, why: "max-time" }),
            dial: None,
        });
        if !looking {
            self.ask(now, net);
        }
    }

    fn end(&mut self, net: &mut Net<Client>) {
        if self.over {
            return;
        }
        self.over = true;
        self.begin = None;
        for (_, conn) in mem::take(&mut self.kept) {
            net.close(conn);
        }
        let rest = self.config.items.len().saturating_sub(self.next);
        self.failed = self.failed.saturating_add(rest);
        self.report(GetReport::Over { done: self.done, failed: self.failed });
        net.stop();
    }

    /// The item is told or saved.
    fn succeed(&mut self, now: Now, net: &mut Net<Client>) {
        let Some(job) = self.job.take() else { return };
        self.done = self.done.saturating_add(1);
        let Job { item, url, status, resumed, .. } = job;
        let size = resumed.saturating_add(job.came);
        let took = now.mono.saturating_since(job.began);
        self.report(GetReport::Done { item, url, status, size, resumed, took });
        self.go_to_next(now, net);
    }

    /// The item fails; what came of a file is kept.
    fn fail(&mut self, now: Now, why: GetError, net: &mut Net<Client>) {
        self.flush(net);
        let Some(job) = &mut self.job else { return };
        if let Some(conn) = job.conn.take() {
            net.abort(conn);
        }
        job.dial = None;
        job.step = Step::Leaving(why);
        match &mut job.save {
            Some(save) => {
                let event = save.leave(net);
                self.handle_save(now, event, net);
            }
            None => self.failed(now, why, false, net),
        }
    }

    fn failed(&mut self, now: Now, why: GetError, is_kept: bool, net: &mut Net<Client>) {
        let Some(job) = self.job.take() else { return };
        self.failed = self.failed.saturating_add(1);
        let Job { item, url, came, save, .. } = job;
        let told = if save.is_none() { came } else { 0 };
        let kept = save.filter(|save| is_kept && save.octets() > 0).map(|save| GetKept {
            part: save.part(),
            octets: save.octets(),
            can_go_on: save.can_go_on(),
        });
        self.report(GetReport::Failed { item, url, why, told, kept });
        self.go_to_next(now, net);
    }

    fn go_to_next(&mut self, now: Now, net: &mut Net<Client>) {
        if self.interrupted { self.end(net) } else { self.begin(now, net) }
    }

    // Asking.

    /// Sends the request over a kept connection, or dials.
    fn ask(&mut self, now: Now, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        let authority = job.url.authority();
        job.from = job.part().map(|(_, from)| from);
        (job.heard, job.keep, job.informs) = (false, false, 0);
        let place = self.kept.iter().position(|(with, _)| *with == authority);
        if let Some((_, conn)) = place.map(|place| self.kept.remove(place)) {
            job.conn = Some(conn);
            job.reused = true;
            if self.send(now, conn, net) {
                return;
            }
            net.close(conn);
        }
        self.dial(now, net);
    }

    fn dial(&mut self, now: Now, net: &mut Net<Client>) {
        let client = Client::new(Arc::clone(&self.client));
        let Some(job) = &mut self.job else { return };
        let target = match job.url.host().parse() {
            Ok(ip) => Target::Address(core::net::SocketAddr::new(ip, job.url.port())),
            Err(_) => Target::Name(job.url.host().to_owned(), job.url.port()),
        };
        job.conn = Some(net.dial(target, client));
        job.reused = false;
        job.step = Step::Dialling;
        job.dial = Some(Deadline { at: now.mono.saturating_add(DIAL), why: "dial" });
    }

    /// Sends the request; `false` if the connection takes none any more.
    fn send(&mut self, now: Now, conn: ConnId, net: &mut Net<Client>) -> bool {
        let Some(job) = &mut self.job else { return false };
        let fields = job.fields(&self.config.fields);
        let (target, authority) = (job.url.target(), job.url.authority());
        let body = match &job.body {
            Some(body) => Body::Whole(body),
            None => Body::Empty,
        };
        let method = Method::new(&job.method);
        let (target, authority, fields) = (&*target, &*authority, &fields);
        let command =
            ClientCommand::Request { method, target, authority, fields, body, close: false };
        if net.send(conn, command).is_err() {
            return false;
        }
        let head = written(method, target, authority, fields, body);
        job.with = authority.to_owned();
        job.step = Step::Waiting;
        job.dial = None;
        job.sent = now.mono;
        let (item, kept) = (job.item, job.reused);
        if let Some(peer) = net.peer(conn).copied() {
            self.report(GetReport::Connected { peer, kept });
        }
        self.report(GetReport::Request { item, head });
        true
    }

    // What the server says.

    fn handle_inform(&mut self, now: Now, response: &Response<'_>, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        job.heard = true;
        job.informs = job.informs.saturating_add(1);
        if job.informs > INFORMS {
            return self.fail(now, GetError::Informs, net);
        }
        self.report(GetReport::Inform(GetHead::of(response)));
    }

    fn handle_response(&mut self, now: Now, response: &Response<'_>, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        job.heard = true;
        job.keep = response.keeps_alive;
        job.status = response.status;
        let (item, url) = (job.item, job.url.clone());
        let after = now.mono.saturating_since(job.sent);
        let head = GetHead::of(response);
        self.report(GetReport::Response { item, url, after, head });
        if response.status == Status::SWITCHING_PROTOCOLS {
            return self.fail(now, GetError::Switched, net);
        }
        if self.config.redirects > 0 && is_redirect(response.status) {
            match one(response.fields, "Location") {
                Ok(Some(location)) => return self.redirect(now, response, location, net),
                Ok(None) => {}
                Err(()) => return self.fail(now, GetError::Locations, net),
            }
        }
        if self.is_resumed() {
            return self.handle_rest(now, response, net);
        }
        self.accept(now, response, net);
    }

    fn is_resumed(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.from.is_some())
    }

    /// An answer that nothing is known of yet but that it is the last.
    fn accept(&mut self, now: Now, response: &Response<'_>, net: &mut Net<Client>) {
        let ranged = self.config.fields.as_fields().first("Range").is_some();
        let Some(job) = &mut self.job else { return };
        let status = response.status;
        if status == Status::PARTIAL_CONTENT && !ranged {
            return self.fail(now, GetError::Partial, net);
        }
        let unwanted = match job.save {
            Some(_) => !status.is_success(),
            None => self.config.fail && status.code() >= 400,
        };
        if unwanted {
            return self.discard(now, response, Then::Fail(GetError::Status(status)), net);
        }
        let (item, size) = (job.item, known(response.length));
        job.step = Step::Receiving;
        if let Some(save) = &mut job.save {
            let validator = match status == Status::PARTIAL_CONTENT {
                true => None,
                false => Validator::of(response.fields, now.unix),
            };
            save.begin_anew(Note { url: job.url.to_string(), validator, size }, net);
            self.place(net);
        }
        self.report(GetReport::Begun { item, size, resumed: 0 });
    }

    /// Waits until the partial file is open.
    fn place(&mut self, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        job.step = Step::Placing;
        job.pause(net);
    }

    /// An answer to a request for the rest.
    fn handle_rest(&mut self, now: Now, response: &Response<'_>, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        let (item, url) = (job.item, job.url.to_string());
        let (Some(from), Some(save)) = (job.from.take(), &mut job.save) else { return };
        let Some(note) = save.known() else { return };
        match resume::judge(response.status.code(), response.fields, &url, note, from) {
            Rest::Follows(size) => {
                job.resumed = from;
                save.go_on(net);
                self.place(net);
                self.report(GetReport::Begun { item, size: Some(size), resumed: from });
            }
            Rest::None => {
                job.resumed = from;
                self.discard(now, response, Then::Finish, net);
            }
            Rest::Whole(why) => {
                self.report(GetReport::Anew { item, why });
                self.accept(now, response, net);
            }
            Rest::Ask(why) => {
                job.anew = true;
                self.report(GetReport::Anew { item, why });
                self.discard(now, response, Then::Ask, net);
            }
            Rest::Wrong => self.fail(now, GetError::ContentRange, net),
            Rest::Other => self.accept(now, response, net),
        }
    }

    fn redirect(
        &mut self,
        now: Now,
        response: &Response<'_>,
        location: &[u8],
        net: &mut Net<Client>,
    ) {
        let Some(job) = &mut self.job else { return };
        let to = match job.url.join(location) {
            Ok(to) => to,
            Err(error) => return self.fail(now, GetError::Location(error), net),
        };
        // GET and HEAD stay what they are.
        let now_get = match response.status {
            Status::SEE_OTHER => !matches!(&*job.method, "GET" | "HEAD"),
            Status::MOVED_PERMANENTLY | Status::FOUND => job.method == "POST",
            _ => false,
        };
        let asked = (job.method.clone(), job.url.clone());
        job.asked.push(asked);
        if now_get {
            job.method = "GET".to_owned();
            job.body = None;
        }
        let is_loop = job.asked.iter().any(|(method, url)| *method == job.method && *url == to);
        if is_loop {
            return self.fail(now, GetError::Loop, net);
        }
        if job.asked.len() as u64 > u64::from(self.config.redirects) {
            return self.fail(now, GetError::Redirects, net);
        }
        let now_public = !job.public && to.authority() != job.authority && {
            let fields = self.config.fields.as_fields();
            PRIVATE.iter().any(|name| fields.first(name).is_some())
        };
        job.public |= to.authority() != job.authority;
        job.url = to.clone();
        self.report(GetReport::Redirected { to, now_get, now_public });
        self.discard(now, response, Then::Ask, net);
    }

    /// Reads the answer away, if that costs less than another connection.
    fn discard(&mut self, now: Now, response: &Response<'_>, then: Then, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        let few = match response.length {
            BodyLength::None | BodyLength::Chunked => true,
            BodyLength::Known(octets) => octets <= UNWANTED,
            BodyLength::UntilClose => false,
        };
        job.step = Step::Discarding(UNWANTED, then);
        if !few || !job.keep {
            self.discarded(now, net);
        }
    }

    /// What follows an answer that was not wanted; its connection, if not all was read, is cut.
    fn discarded(&mut self, now: Now, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        if let Some(conn) = job.conn.take() {
            net.abort(conn);
        }
        let Step::Discarding(_, then) = &job.step else { return };
        match then.clone() {
            Then::Ask => self.ask(now, net),
            Then::Fail(why) => self.fail(now, why, net),
            Then::Finish => {
                job.step = Step::Placing;
                if let Some(save) = &mut job.save {
                    save.go_on(net);
                    save.finish(net);
                }
            }
        }
    }

    fn handle_data(&mut self, now: Now, bytes: &[u8], net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        let len = bytes.len() as u64;
        if let Step::Discarding(left, _) = &mut job.step {
            match left.checked_sub(len) {
                Some(rest) => *left = rest,
                None => self.discarded(now, net),
            }
            return;
        }
        if !matches!(job.step, Step::Receiving) {
            return;
        }
        job.came = job.came.saturating_add(len);
        job.gathered.extend_from_slice(bytes);
        if job.gathered.len() >= PIECE {
            self.flush(net);
        }
        let Some(job) = self.job.as_ref().filter(|job| job.save.is_some()) else { return };
        let there = job.resumed.saturating_add(job.came);
        if now.mono.saturating_since(self.told) >= PROGRESS {
            self.told = now.mono;
            self.report(GetReport::Progress(there));
        }
    }

    /// Gives on what was gathered: chunks may be as small as they like, writes and reports are not.
    fn flush(&mut self, net: &mut Net<Client>) {
        let Some(job) = self.job.as_mut().filter(|job| !job.gathered.is_empty()) else { return };
        let bytes = mem::take(&mut job.gathered).freeze();
        match &mut job.save {
            Some(save) => {
                save.write(bytes, net);
                if save.is_full() {
                    job.pause(net);
                }
            }
            None => {
                self.waiting = self.waiting.saturating_add(bytes.len() as u64);
                if self.waiting >= WINDOW {
                    job.pause(net);
                }
                self.report(GetReport::Content(bytes));
            }
        }
    }

    fn handle_end(&mut self, now: Now, net: &mut Net<Client>) {
        self.flush(net);
        let Some(job) = &mut self.job else { return };
        if let Some(conn) = job.conn.take() {
            match job.keep {
                true => self.keep(conn, net),
                false => net.close(conn),
            }
        }
        let Some(job) = &mut self.job else { return };
        match (&job.step, &mut job.save) {
            (Step::Discarding(..), _) => self.discarded(now, net),
            (Step::Receiving, Some(save)) => {
                job.step = Step::Saving;
                save.finish(net);
            }
            (Step::Receiving, None) => self.succeed(now, net),
            _ => {}
        }
    }

    /// Keeps a connection for another request.
    fn keep(&mut self, conn: ConnId, net: &mut Net<Client>) {
        let Some(job) = &self.job else { return };
        let with = job.with.clone();
        if self.kept.len() >= KEPT {
            let (_, oldest) = self.kept.remove(0);
            net.close(oldest);
        }
        self.kept.push((with, conn));
    }

    // What ends.

    /// The connection of the job is gone.
    fn lose(&mut self, now: Now, why: Closed<HttpError>, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        job.conn = None;
        if matches!(job.step, Step::Discarding(..)) {
            return self.discarded(now, net);
        }
        let why = match (&job.step, why) {
            (Step::Dialling, Closed::Failed(failure)) => GetError::Unreachable(failure),
            (_, Closed::Failed(failure)) => GetError::Lost(failure),
            (_, Closed::Error(error)) => GetError::Protocol(error),
            _ => GetError::NoAnswer,
        };
        let is_silent = match why {
            GetError::Protocol(error) => error.rule == Rule::ResponseMissing,
            _ => true,
        };
        let nothing_came = !job.heard && is_silent;
        let waits = matches!(job.step, Step::Waiting);
        // The next one is a new connection, so this happens once.
        if waits && job.reused && nothing_came && is_idempotent(&job.method) {
            self.report(GetReport::Again);
            return self.dial(now, net);
        }
        self.fail(now, why, net);
    }

    fn handle_save(&mut self, now: Now, event: Option<SaveEvent>, net: &mut Net<Client>) {
        let Some(job) = &mut self.job else { return };
        match (event, &job.step) {
            (None, _) => {}
            (Some(SaveEvent::Looked), _) => {
                self.tell_of_part();
                self.ask(now, net);
            }
            (Some(SaveEvent::Ready), _) => {
                job.step = Step::Receiving;
                job.go_on(net);
            }
            (Some(SaveEvent::Room), _) => job.go_on(net),
            (Some(SaveEvent::Saved), _) => self.succeed(now, net),
            (Some(SaveEvent::Left(octets)), &Step::Leaving(why)) => {
                self.failed(now, why, octets > 0, net);
            }
            (Some(SaveEvent::Left(_)), _) => {}
            (Some(SaveEvent::Failed(..)), &Step::Leaving(why)) => self.failed(now, why, true, net),
            (Some(SaveEvent::Failed(stage, failure)), _) => {
                if let Some(conn) = job.conn.take() {
                    net.abort(conn);
                }
                self.failed(now, GetError::NotSaved(stage, failure), true, net);
            }
        }
    }

    /// A partial file that nothing can be done with is not left out in silence.
    fn tell_of_part(&mut self) {
        let Some(job) = &mut self.job else { return };
        let Some(note) = job.save.as_ref().and_then(Save::known) else { return };
        if note.validator.is_none() {
            job.anew = true;
            let item = job.item;
            self.report(GetReport::Anew { item, why: Anew::NoValidator });
        }
    }
}

impl Job {
    /// What is there of a file and can be gone on with: its version, and how much.
    fn part(&self) -> Option<(&Validator, u64)> {
        let save = self.save.as_ref().filter(|_| !self.anew)?;
        let validator = save.known()?.validator.as_ref()?;
        Some((validator, save.octets()))
    }

    /// The fields of the next request.
    fn fields(&self, given: &FieldsBuf) -> FieldsBuf {
        let mut fields = FieldsBuf::new();
        for field in given.as_fields().iter() {
            let private = PRIVATE.iter().any(|name| name.eq_ignore_ascii_case(field.name));
            if !(private && self.url.authority() != self.authority) {
                // They were taken once.
                let _ = fields.push(field.name, field.value);
            }
        }
        if let Some((validator, from)) = self.part() {
            let _ = fields.push("Range", alloc::format!("bytes={from}-"));
            let _ = fields.push("If-Range", validator.as_bytes());
        }
        fields
    }

    fn pause(&mut self, net: &mut Net<Client>) {
        if let Some(conn) = self.conn.filter(|_| !self.paused) {
            self.paused = true;
            net.pause(conn);
        }
    }

    fn go_on(&mut self, net: &mut Net<Client>) {
        if let Some(conn) = self.conn.filter(|_| self.paused) {
            net.resume(conn);
        }
        self.paused = false;
    }
}

impl Service<Client> for Get {
    type Message = GetMessage;
    type Report = GetReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Client> {
        None
    }

    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<Client>) {
        if self.job.as_ref().is_none_or(|job| job.conn != Some(conn)) {
            return;
        }
        // A socket that met itself: nobody listens there.
        if peer.address == peer.local {
            return self.fail(now, GetError::Unreachable(Failure::Refused), net);
        }
        if !self.send(now, conn, net) {
            self.fail(now, GetError::NoAnswer, net);
        }
    }

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: ClientEvent<'_>,
        net: &mut Net<Client>,
    ) {
        if self.job.as_ref().is_none_or(|job| job.conn != Some(from)) {
            return;
        }
        match event {
            ClientEvent::Inform(response) => self.handle_inform(now, &response, net),
            ClientEvent::Response(response) => self.handle_response(now, &response, net),
            ClientEvent::Data(bytes) => self.handle_data(now, bytes, net),
            ClientEvent::End(_) => self.handle_end(now, net),
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<HttpError>,
        net: &mut Net<Client>,
    ) {
        self.kept.retain(|(_, kept)| *kept != conn);
        if self.job.as_ref().is_some_and(|job| job.conn == Some(conn)) {
            self.lose(now, why, net);
        }
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Client>) {
        let Some(Job { save: Some(save), .. }) = &mut self.job else { return };
        let event = save.handle_reply(id, reply, net);
        self.handle_save(now, event, net);
    }

    fn handle_message(&mut self, now: Now, message: GetMessage, net: &mut Net<Client>) {
        match message {
            GetMessage::Taken(octets) => {
                self.waiting = self.waiting.saturating_sub(octets);
                if let Some(job) = &mut self.job {
                    if job.save.is_none() && self.waiting <= WINDOW / 2 {
                        job.go_on(net);
                    }
                }
            }
            GetMessage::Interrupt => {
                self.interrupted = true;
                match &self.job {
                    Some(Job { step: Step::Leaving(_) | Step::Saving, .. }) => {}
                    Some(_) => self.fail(now, GetError::Interrupted, net),
                    None => self.end(net),
                }
            }
        }
    }

    fn handle_turn(&mut self, _: Now, net: &mut Net<Client>) {
        self.flush(net);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let Some(job) = &self.job else { return self.begin };
        if matches!(job.step, Step::Leaving(_) | Step::Saving) {
            return None;
        }
        Deadline::earlier(job.by, job.dial)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Client>) {
        let due = |deadline: &Deadline| deadline.at <= now.mono;
        if self.begin.take_if(|begin| due(begin)).is_some() {
            return self.begin(now, net);
        }
        let Some(job) = &mut self.job else { return };
        if job.by.take_if(|by| due(by)).is_some() {
            self.fail(now, GetError::TooSlow, net);
        } else if job.dial.take_if(|dial| due(dial)).is_some() {
            self.fail(now, GetError::Unreachable(Failure::TimedOut), net);
        }
    }

    fn poll_report(&mut self) -> Option<GetReport> {
        self.reports.pop_front()
    }
}

/// The head of a request, as the connection writes it.
fn written(
    method: Method<'_>,
    target: &str,
    authority: &str,
    fields: &FieldsBuf,
    body: Body<'_>,
) -> Vec<u8> {
    let mut out = Outbox::default();
    let framing = framing(method, body);
    let connection = emit::Connection::Implied;
    emit::request(&mut out, method.as_str(), target, authority, connection, framing, fields);
    let mut head = Vec::new();
    for chunk in out.chunks() {
        if let Chunk::Bytes(bytes) = chunk {
            head.extend_from_slice(bytes);
        }
    }
    head
}

/// Whether `Location` is where to ask next.
fn is_redirect(status: Status) -> bool {
    matches!(status.code(), 301 | 302 | 303 | 307 | 308)
}

/// Whether asking twice is as asking once (RFC 9110, 9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

/// The value of a field that there is one of, if there is one; an error if there are several.
fn one<'i>(fields: Fields<'i>, name: &str) -> Result<Option<&'i [u8]>, ()> {
    let mut all = fields.all(name);
    match (all.next(), all.next()) {
        (value, None) => Ok(value),
        _ => Err(()),
    }
}

fn known(length: BodyLength) -> Option<u64> {
    match length {
        BodyLength::None => Some(0),
        BodyLength::Known(octets) => Some(octets),
        BodyLength::Chunked | BodyLength::UntilClose => None,
    }
}
