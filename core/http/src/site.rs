//! The static server: the files of one folder, to whoever asks.
//!
//! A request is answered at once where that can be: from what is kept in memory, or with an
//! error. Else it is an exchange, and goes through these stages:
//!
//! | stage | waits for | then |
//! |---|---|---|
//! | Opening | the file, or one index of a folder after the other | it is answered, or Encoding |
//! | Looking | what there is in place of a file | a folder has its slash put behind it |
//! | Encoding | an encoded file beside it, the best first | the first one there is, or the file itself |
//! | Reading | the content of a small file | it is answered, and kept |
//! | Squeezing | content, and room for it | each piece is compressed and sent |
//! | Listing | the names in a folder | they are sent |
//! | Excusing | the page for an error | it is sent with the error's status |
//! | Uploading | content, and the disk | see [`upload`] |
//!
//! Larger files are moved by the host, as spans; they never pass through here. What does is bounded:
//! by [`HOT_FILE`] for each exchange, by a few hundred KiB for each of 64 that are compressed and 64
//! that are put, by a few MiB for each of 32 listings.

mod answer;
mod asked;
mod class;
mod hot;
mod listing;
mod log;
mod squeeze;
mod upload;

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::net::SocketAddr;
use core::time::Duration;
use rand_core::RngCore as _;
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Entry, Failure, FileId, FileKind, FileSpan, Instant,
    Metadata, Net, Now, OpenMode, Peer, Reply, RequestId, Rng, RootId, Seed, Service,
};
use semfio_path::{Policy, SafeName};

use self::answer::{Answered, Representation, Source};
use self::asked::{Asked, path_of};
use self::class::{Class, Classes};
use self::hot::{Hot, HotFile};
use self::listing::{LISTINGS, Pages};
use self::log::Log;
use self::squeeze::{SQUEEZES, Squeeze};
use self::upload::{Turn, Upload};
use crate::{
    Body, BodyLength, Coded, Coding, Condition, FieldsBuf, HttpError, Located, LogForm, MediaType,
    Method, NotLocated, Request, Server, ServerCommand, ServerConfig, ServerEvent, Status, Target,
    Validators, evaluate,
};

pub use self::hot::{HOT_FILE, HOT_FILES, HOT_TOTAL};

/// What a [`Site`] serves, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// The folder; nothing outside it is ever opened.
    pub root: RootId,
    /// What is given for a folder, the first one there is. Default `index.html`.
    pub index: Vec<String>,
    /// Whether a folder without index is listed. Default yes.
    pub listing: bool,
    /// Whether names that begin with a dot are served and listed. Default no.
    pub hidden: bool,
    /// Whether peers may put files there, and of how many octets at most. Default no.
    pub writable: Option<u64>,
    /// Fields of every response.
    pub fields: FieldsBuf,
    /// Whether scripts of any origin may read what is served. Default no.
    pub cors: bool,
    /// Whether a page that is not there is the root's index: its script knows what to show. Default
    /// no.
    pub spa: bool,
    /// Pages for errors: their paths beneath the root, without the slash in front.
    pub error_pages: BTreeMap<Status, String>,
    /// Whether texts are compressed, and encoded siblings are served. Default yes.
    pub compress: bool,
    /// Lines of the access log. Default none.
    pub log: Option<LogForm>,
    /// Of each connection.
    pub connection: ServerConfig,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            root: RootId(0),
            index: Vec::from(["index.html".to_owned()]),
            listing: true,
            hidden: false,
            writable: None,
            fields: FieldsBuf::new(),
            cors: false,
            spa: false,
            error_pages: BTreeMap::new(),
            compress: true,
            log: None,
            connection: ServerConfig::default(),
        }
    }
}

/// What an application tells a [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteMessage {
    /// Accept no more, answer what is asked, and end: who has a connection may still send the
    /// request that it is about to send.
    Drain,
}

/// What a [`Site`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteReport {
    /// Lines of the access log, each with its end. A line tells what was decided: that all of it
    /// arrived, nobody knows.
    Log(String),
    /// A connection ended otherwise than between two messages.
    Broken {
        /// Whose.
        peer: Option<SocketAddr>,
        /// How.
        why: Closed<HttpError>,
    },
}

/// Uploads at once; who comes then is asked to come back.
pub const UPLOADS: usize = 64;
/// How long those who are idle as it drains may still send the request that they are about to send.
const DRAINED: Duration = Duration::from_secs(1);
/// Octets from which on a text is worth compressing: below, it leaves in one packet anyway.
const SQUEEZED: u64 = 1_024;
/// What is asked for by `/`.
const ROOT: Located = Located { name: None, folder: true };
const READ: OpenMode = OpenMode::Read;
/// What the seed's streams are for.
const BOUNDARIES: u64 = 1;

/// The server: a [`Service`] over [`Server`]s.
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    connection: Arc<ServerConfig>,
    /// `config.fields`, and those that `config` asks for besides.
    fields: FieldsBuf,
    /// Which methods there are.
    allow: &'static str,
    hot: Hot,
    classes: Classes,
    exchanges: BTreeMap<ConnId, Exchange>,
    asked: BTreeMap<RequestId, Asker>,
    /// Paths that are being opened to be kept, one exchange for each.
    filling: BTreeSet<Box<str>>,
    /// Exchanges that need more memory than others.
    squeezing: usize,
    listing: usize,
    /// Files that are being put.
    uploading: BTreeSet<String>,
    /// Whether the host can watch; until it says no.
    watches: bool,
    /// It accepts no more.
    draining: bool,
    /// When those who are idle are sent away.
    drained_at: Option<Instant>,
    boundaries: Rng,
    log: Log,
    reports: VecDeque<SiteReport>,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Exchange(ConnId),
    /// What is being read for this connection is watched.
    Filling(ConnId),
    /// What is kept is watched.
    Hot,
}

/// A request that is being answered.
#[derive(Debug)]
struct Exchange {
    asked: Asked,
    /// When it came.
    since: Now,
    located: Located,
    class: Class,
    stage: Stage,
    /// What the host was asked.
    request: Option<RequestId>,
    /// It is to be kept, if these stay silent.
    watches: Vec<RequestId>,
    keep: bool,
    /// It is not there, and the root's index is given in its place.
    fallen: bool,
    /// It counts among those that are compressed, or listed.
    squeezes: bool,
    lists: bool,
}

#[derive(Debug)]
enum Stage {
    Opening { path: String, index: usize },
    Looking,
    Encoding { plain: Opened, at: usize },
    Reading(Reading),
    Squeezing(Box<Squeeze>),
    Listing(Box<Pages>),
    Excusing(Status),
    Uploading(Box<Upload>),
}

/// A small file that is read.
#[derive(Debug)]
struct Reading {
    opened: Opened,
    coding: Coding,
    /// Into that coding it is still to be put.
    squeeze: bool,
}

/// A file that is open.
#[derive(Debug)]
struct Opened {
    path: String,
    file: FileId,
    metadata: Metadata,
    since: Now,
}

impl Site {
    /// A server of one folder. `seed` is for the boundaries between parts.
    pub fn new(config: SiteConfig, seed: &Seed) -> Self {
        let mut fields = config.fields.clone();
        if config.cors {
            answer::add(&mut fields, "Access-Control-Allow-Origin", "*");
            answer::add(&mut fields, "Access-Control-Expose-Headers", "*");
        }
        Self {
            connection: Arc::new(config.connection),
            fields,
            allow: match config.writable {
                Some(_) => "GET, HEAD, OPTIONS, PUT",
                None => "GET, HEAD, OPTIONS",
            },
            hot: Hot::default(),
            classes: Classes::default(),
            exchanges: BTreeMap::new(),
            asked: BTreeMap::new(),
            filling: BTreeSet::new(),
            squeezing: 0,
            listing: 0,
            uploading: BTreeSet::new(),
            watches: true,
            draining: false,
            drained_at: None,
            boundaries: seed.stream(BOUNDARIES),
            log: Log::new(config.log),
            reports: VecDeque::new(),
            config,
        }
    }

    fn handle_request(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Request<'_>,
        net: &mut Net<Server>,
    ) {
        if self.draining {
            // Refused only if the connection is gone.
            let _ = net.send(conn, ServerCommand::Finish);
        }
        let path = match (request.method, &request.target) {
            (Method::Get | Method::Head | Method::Put, Target::Origin { .. })
            | (Method::Get | Method::Head | Method::Put, Target::Absolute { .. }) => {
                path_of(&request.target).0
            }
            (Method::Options, _) => return self.tell_methods(now, conn, request, net),
            (Method::Connect | Method::Trace | Method::Other(_), _) => {
                return self.refuse(now, conn, request, Status::NOT_IMPLEMENTED, net);
            }
            (Method::Post | Method::Delete | Method::Patch, _) => {
                return self.refuse(now, conn, request, Status::METHOD_NOT_ALLOWED, net);
            }
            _ => return self.refuse(now, conn, request, Status::BAD_REQUEST, net),
        };
        if request.method == Method::Put {
            return self.handle_put(now, conn, request, path, net);
        }
        let class =
            if self.config.compress { self.classes.of(&request.fields) } else { Class::IDENTITY };
        if let Some(hot) = self.hot.find(now.mono, path, class) {
            let source = Source::Memory(&hot.content);
            let random = || boundary(&mut self.boundaries);
            let answered = hot.representation.answer(now, conn, request, source, random, net);
            return self.log.put((now, now), conn, request, answered, net);
        }
        let located = match Located::new(path, self.config.hidden) {
            Ok(located) if is_ours(&located) => {
                return self.refuse(now, conn, request, Status::NOT_FOUND, net);
            }
            Ok(located) => located,
            Err(error) => return self.refuse(now, conn, request, error.status(), net),
        };
        let keep = self.watches && self.hot.has_room(0) && self.filling.insert(path.into());
        let exchange = Exchange { keep, ..Exchange::new(now, request, located, class) };
        self.open(now, conn, exchange, 0, net);
    }

    /// Opens the file, or a folder's index.
    fn open(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        index: usize,
        net: &mut Net<Server>,
    ) {
        let located = &exchange.located;
        let path = match (located.folder, self.config.index.get(index)) {
            (false, _) => located.as_str().to_owned(),
            (true, Some(name)) => within(located.as_str(), name),
            (true, None) => return self.list(now, conn, exchange, net),
        };
        self.watch(conn, &mut exchange, &path, net);
        let effect = Effect::Open { root: self.config.root, path: path.clone(), mode: READ };
        exchange.stage = Stage::Opening { path, index };
        self.request(conn, exchange, effect, net);
    }

    /// Has the host tell when what is opened next is another.
    fn watch(&mut self, conn: ConnId, exchange: &mut Exchange, path: &str, net: &mut Net<Server>) {
        if exchange.keep {
            let watch = Effect::Watch { root: self.config.root, path: path.to_owned() };
            let id = net.request(watch);
            self.asked.insert(id, Asker::Filling(conn));
            exchange.watches.push(id);
        }
    }

    fn request(
        &mut self,
        conn: ConnId,
        mut exchange: Exchange,
        effect: Effect,
        net: &mut Net<Server>,
    ) {
        let id = net.request(effect);
        self.asked.insert(id, Asker::Exchange(conn));
        exchange.request = Some(id);
        self.exchanges.insert(conn, exchange);
    }

    fn handle_answer(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let stage = mem::replace(&mut exchange.stage, Stage::Looking);
        match (stage, *reply) {
            (Stage::Opening { path, .. }, Reply::Opened { file, metadata }) => {
                let opened = Opened { path, file, metadata, since: now };
                self.choose(now, conn, exchange, opened, 0, net);
            }
            (
                Stage::Opening { index, .. },
                Reply::Failed(Failure::NotFound | Failure::WrongKind),
            ) if exchange.located.folder => {
                self.open(now, conn, exchange, index.saturating_add(1), net);
            }
            (Stage::Opening { path, .. }, Reply::Failed(Failure::WrongKind)) => {
                self.request(conn, exchange, Effect::Stat { root: self.config.root, path }, net);
            }
            (Stage::Looking, Reply::Found(metadata)) if metadata.kind == FileKind::Folder => {
                self.redirect(now, conn, exchange, net);
            }
            (Stage::Encoding { plain, at }, reply) => {
                self.handle_encoded(now, conn, exchange, (plain, at), &reply, net);
            }
            (Stage::Reading(reading), reply) => {
                self.handle_read(now, conn, exchange, reading, &reply, net);
            }
            (Stage::Squeezing(squeeze), reply) => {
                self.handle_squeezed(now, conn, exchange, squeeze, &reply, net);
            }
            (Stage::Listing(listing), Reply::Listed(entries)) => {
                self.handle_listed(now, conn, exchange, listing, entries, net);
            }
            (Stage::Excusing(status), reply) => {
                self.handle_page(now, conn, exchange, status, &reply, net);
            }
            (Stage::Uploading(upload), reply) => {
                self.handle_uploaded(now, conn, exchange, upload, &reply, net);
            }
            (stage, reply) => {
                let failure = match reply {
                    Reply::Failed(failure) => failure,
                    _ => Failure::WrongKind,
                };
                match stage {
                    Stage::Listing(pages) if pages.begun => self.cut(conn, exchange, net),
                    _ => self.fail(now, conn, exchange, status_of(failure), net),
                }
            }
        }
    }

    /// The file is open: looks for the coding that the client would rather have.
    fn choose(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        plain: Opened,
        at: usize,
        net: &mut Net<Server>,
    ) {
        let media_type = MediaType::of(file_name(&plain.path));
        let coding = match exchange.class.get(at) {
            _ if !self.negotiates(media_type) => Some(Coding::Identity),
            coding => coding,
        };
        match coding {
            Some(Coding::Identity) => self.serve(now, conn, exchange, plain, Coding::Identity, net),
            Some(coding) => {
                let mut path = plain.path.clone();
                path.push_str(coding.suffix());
                self.watch(conn, &mut exchange, &path, net);
                let root = self.config.root;
                let effect = Effect::Open { root, path, mode: READ };
                exchange.stage = Stage::Encoding { plain, at };
                self.request(conn, exchange, effect, net);
            }
            None => {
                net.release(plain.file, None);
                self.fail(now, conn, exchange, Status::NOT_ACCEPTABLE, net);
            }
        }
    }

    fn handle_encoded(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        (plain, at): (Opened, usize),
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let coding = exchange.class.get(at).unwrap_or(Coding::Identity);
        match *reply {
            // One that is older was made of something else.
            Reply::Opened { file, metadata } if metadata.modified >= plain.metadata.modified => {
                net.release(plain.file, None);
                let opened = Opened { path: plain.path, file, metadata, since: plain.since };
                return self.serve(now, conn, exchange, opened, coding, net);
            }
            Reply::Opened { file, .. } => net.release(file, None),
            Reply::Failed(Failure::Exhausted) => {
                net.release(plain.file, None);
                return self.fail(now, conn, exchange, Status::SERVICE_UNAVAILABLE, net);
            }
            _ => {}
        }
        if coding == Coding::Gzip && plain.metadata.len >= SQUEEZED && self.squeezing < SQUEEZES {
            return self.squeeze(now, conn, exchange, plain, net);
        }
        self.choose(now, conn, exchange, plain, at.saturating_add(1), net);
    }

    /// Sends a file as it lies there.
    fn serve(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        opened: Opened,
        coding: Coding,
        net: &mut Net<Server>,
    ) {
        if opened.metadata.len <= HOT_FILE {
            return self.read(conn, exchange, Reading { opened, coding, squeeze: false }, net);
        }
        let representation = self.representation(now, &opened, coding, Coded::Stored);
        let source = Source::File(opened.file);
        self.answer(now, conn, &exchange, &representation, source, net);
        net.release(opened.file, Some(conn));
        self.end(exchange, net);
    }

    /// Sends a file compressed: a small one whole, a larger one piece by piece.
    fn squeeze(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        opened: Opened,
        net: &mut Net<Server>,
    ) {
        if opened.metadata.len <= HOT_FILE {
            let reading = Reading { opened, coding: Coding::Gzip, squeeze: true };
            return self.read(conn, exchange, reading, net);
        }
        let representation = self.representation(now, &opened, Coding::Gzip, Coded::OnTheFly);
        let answered = self.answer(now, conn, &exchange, &representation, Source::Later, net);
        if !answered.open {
            net.release(opened.file, None);
            return self.end(exchange, net);
        }
        self.let_go(&mut exchange, net);
        exchange.squeezes = true;
        self.squeezing = self.squeezing.saturating_add(1);
        let squeeze = Squeeze::new(opened.file, opened.metadata.len);
        self.read_on(conn, exchange, Box::new(squeeze), net);
    }

    fn read_on(
        &mut self,
        conn: ConnId,
        mut exchange: Exchange,
        squeeze: Box<Squeeze>,
        net: &mut Net<Server>,
    ) {
        let effect = net.has_room(conn).then(|| squeeze.next());
        exchange.stage = Stage::Squeezing(squeeze);
        match effect {
            Some(effect) => self.request(conn, exchange, effect, net),
            None => {
                self.exchanges.insert(conn, exchange);
            }
        }
    }

    fn handle_squeezed(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        mut squeeze: Box<Squeeze>,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let Reply::Read(content) = *reply else {
            net.release(squeeze.file(), None);
            return self.cut(conn, exchange, net);
        };
        let mut out = Vec::new();
        let Some(whole) = squeeze.put(content, &mut out) else {
            // It has become shorter than it was said to be.
            net.release(squeeze.file(), None);
            return self.cut(conn, exchange, net);
        };
        let _ = net.send(conn, ServerCommand::Data(&out));
        if !whole {
            return self.read_on(conn, exchange, squeeze, net);
        }
        let _ = net.send(conn, ServerCommand::End(&FieldsBuf::new()));
        net.release(squeeze.file(), None);
        let answered = Answered::new(Status::OK, squeeze.sent());
        self.log.put((exchange.since, now), conn, &exchange.asked.request(), answered, net);
        self.end(exchange, net);
    }

    fn read(
        &mut self,
        conn: ConnId,
        mut exchange: Exchange,
        reading: Reading,
        net: &mut Net<Server>,
    ) {
        let len = u32::try_from(reading.opened.metadata.len).unwrap_or(u32::MAX);
        let effect = Effect::Read { file: reading.opened.file, offset: 0, len };
        exchange.stage = Stage::Reading(reading);
        self.request(conn, exchange, effect, net);
    }

    fn handle_read(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        reading: Reading,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let Reading { opened, mut coding, squeeze } = reading;
        net.release(opened.file, None);
        let content = match *reply {
            Reply::Read(content) if content.len() as u64 == opened.metadata.len => content,
            // It is being written: nobody knows what it will be.
            Reply::Read(_) => {
                return self.fail(now, conn, exchange, Status::SERVICE_UNAVAILABLE, net);
            }
            Reply::Failed(failure) => {
                return self.fail(now, conn, exchange, status_of(failure), net);
            }
            _ => return self.fail(now, conn, exchange, Status::INTERNAL_SERVER_ERROR, net),
        };
        let squeezed = squeeze.then(|| squeeze::whole(content));
        let squeezed = squeezed.filter(|it| it.len() < content.len());
        let coded = if squeezed.is_some() { Coded::OnTheFly } else { Coded::Stored };
        if squeeze && squeezed.is_none() {
            coding = Coding::Identity;
        }
        let content = squeezed.map_or_else(|| Bytes::copy_from_slice(content), Bytes::from);
        let len = content.len() as u64;
        let representation = self.representation_of(now, &opened, coding, coded, len);
        self.answer(now, conn, &exchange, &representation, Source::Memory(&content), net);
        if exchange.keep {
            let negotiated = self.negotiates(MediaType::of(file_name(&opened.path)));
            let class = negotiated.then_some(exchange.class);
            let watches = mem::take(&mut exchange.watches);
            for watch in &watches {
                self.asked.insert(*watch, Asker::Hot);
            }
            let file = HotFile::new(class, representation, content, opened.since.mono, watches);
            let dropped = self.hot.insert(exchange.asked.path(), file);
            self.forget(&dropped, net);
        }
        self.end(exchange, net);
    }

    fn representation(
        &self,
        now: Now,
        opened: &Opened,
        coding: Coding,
        coded: Coded,
    ) -> Representation {
        self.representation_of(now, opened, coding, coded, opened.metadata.len)
    }

    fn representation_of(
        &self,
        now: Now,
        opened: &Opened,
        coding: Coding,
        coded: Coded,
        len: u64,
    ) -> Representation {
        let media_type = MediaType::of(file_name(&opened.path));
        let negotiated = self.negotiates(media_type);
        let of = (&opened.metadata, coding, coded);
        Representation::new(&self.fields, media_type.text, of, len, negotiated, now)
    }

    /// Whether it depends on the client in which coding such a file is sent.
    fn negotiates(&self, media_type: MediaType) -> bool {
        self.config.compress && media_type.compressible
    }

    /// Sends a representation, or what comes of the request's fields.
    fn answer(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: &Exchange,
        representation: &Representation,
        source: Source<'_>,
        net: &mut Net<Server>,
    ) -> Answered {
        let request = exchange.asked.request();
        let random = || boundary(&mut self.boundaries);
        let answered = representation.answer(now, conn, &request, source, random, net);
        if !answered.open {
            self.log.put((exchange.since, now), conn, &request, answered, net);
        }
        answered
    }

    fn redirect(&mut self, now: Now, conn: ConnId, exchange: Exchange, net: &mut Net<Server>) {
        let request = exchange.asked.request();
        let mut fields = self.fields.clone();
        let (_, query) = path_of(&request.target);
        answer::add(&mut fields, "Location", exchange.located.folder_reference(query));
        let status = Status::PERMANENT_REDIRECT;
        answer::respond(conn, status, &fields, Body::Empty, net);
        self.log.put((exchange.since, now), conn, &request, Answered::new(status, 0), net);
        self.end(exchange, net);
    }

    fn tell_methods(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Request<'_>,
        net: &mut Net<Server>,
    ) {
        let mut fields = self.fields.clone();
        answer::add(&mut fields, "Allow", self.allow);
        if self.config.cors && request.fields.first("Access-Control-Request-Method").is_some() {
            answer::add(&mut fields, "Access-Control-Allow-Methods", self.allow);
            answer::add(&mut fields, "Access-Control-Allow-Headers", "*");
            answer::add(&mut fields, "Access-Control-Max-Age", "86400");
        }
        let status = Status::NO_CONTENT;
        answer::respond(conn, status, &fields, Body::Empty, net);
        self.log.put((now, now), conn, request, Answered::new(status, 0), net);
    }

    /// Answers at once with an error, or opens the page for it.
    fn refuse(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Request<'_>,
        status: Status,
        net: &mut Net<Server>,
    ) {
        if self.config.error_pages.contains_key(&status) {
            let exchange = Exchange::new(now, request, ROOT, Class::IDENTITY);
            return self.fail(now, conn, exchange, status, net);
        }
        let fields = self.fields_of(status);
        let answered = answer::excuse(conn, request, status, &fields, net);
        self.log.put((now, now), conn, request, answered, net);
    }

    fn fail(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        status: Status,
        net: &mut Net<Server>,
    ) {
        self.let_go(&mut exchange, net);
        if status == Status::NOT_FOUND && self.falls_back(&exchange) {
            exchange.located = ROOT;
            exchange.fallen = true;
            return self.open(now, conn, exchange, 0, net);
        }
        if let Some(path) = self.config.error_pages.get(&status) {
            let effect = Effect::Open { root: self.config.root, path: path.clone(), mode: READ };
            exchange.stage = Stage::Excusing(status);
            return self.request(conn, exchange, effect, net);
        }
        self.excuse(now, conn, exchange, status, net);
    }

    fn handle_listed(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        mut pages: Box<Pages>,
        entries: &[Entry],
        net: &mut Net<Server>,
    ) {
        pages.take(entries);
        if pages.begun {
            return self.list_on(now, conn, exchange, pages, net);
        }
        let Some((piece, whole)) = pages.begin() else {
            return self.list_on(now, conn, exchange, pages, net);
        };
        let mut fields = self.fields.clone();
        answer::add_page(&mut fields, pages.form);
        let head = exchange.asked.request().method == Method::Head;
        if head || whole {
            let page = Bytes::from(piece);
            let body = if whole { Body::Whole(&page) } else { Body::Unknown };
            answer::respond(conn, Status::OK, &fields, body, net);
            let sent = if head { 0 } else { page.len() as u64 };
            let answered = Answered::new(Status::OK, sent);
            self.log.put((exchange.since, now), conn, &exchange.asked.request(), answered, net);
            return self.end(exchange, net);
        }
        answer::respond(conn, Status::OK, &fields, Body::Unknown, net);
        pages.sent = piece.len() as u64;
        // Refused only if the connection is gone.
        let _ = net.send(conn, ServerCommand::Data(piece.as_bytes()));
        self.list_on(now, conn, exchange, pages, net);
    }

    /// Sends what can be sent of a listing, and asks for more.
    fn list_on(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        mut pages: Box<Pages>,
        net: &mut Net<Server>,
    ) {
        let more = if pages.begun { pages.send(conn, net) } else { Some(true) };
        if more == Some(false) {
            Pages::end(conn, net);
            let answered = Answered::new(Status::OK, pages.sent);
            self.log.put((exchange.since, now), conn, &exchange.asked.request(), answered, net);
            return self.end(exchange, net);
        }
        let effect = more.map(|_| pages.next(self.config.root, &exchange.located));
        exchange.stage = Stage::Listing(pages);
        match effect {
            Some(effect) => self.request(conn, exchange, effect, net),
            None => drop(self.exchanges.insert(conn, exchange)),
        }
    }

    fn handle_page(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        status: Status,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let Reply::Opened { file, metadata } = *reply else {
            return self.excuse(now, conn, exchange, status, net);
        };
        let mut fields = self.fields_of(status);
        let path = self.config.error_pages.get(&status).map_or("", String::as_str);
        answer::add(&mut fields, "Content-Type", MediaType::of(file_name(path)).text);
        let request = exchange.asked.request();
        let span = FileSpan { file, offset: 0, len: metadata.len };
        answer::respond(conn, status, &fields, Body::File(span), net);
        net.release(file, Some(conn));
        let sent = if request.method == Method::Head { 0 } else { metadata.len };
        self.log.put((exchange.since, now), conn, &request, Answered::new(status, sent), net);
        self.end(exchange, net);
    }

    fn excuse(
        &mut self,
        now: Now,
        conn: ConnId,
        exchange: Exchange,
        status: Status,
        net: &mut Net<Server>,
    ) {
        let fields = self.fields_of(status);
        let request = exchange.asked.request();
        let answered = answer::excuse(conn, &request, status, &fields, net);
        self.log.put((exchange.since, now), conn, &request, answered, net);
        self.end(exchange, net);
    }

    fn fields_of(&self, status: Status) -> FieldsBuf {
        let mut fields = self.fields.clone();
        match status {
            Status::METHOD_NOT_ALLOWED => answer::add(&mut fields, "Allow", self.allow),
            Status::SERVICE_UNAVAILABLE => answer::add(&mut fields, "Retry-After", "1"),
            _ => {}
        }
        fields
    }

    /// Whether the root's index stands for what is not there: for pages, not for what they load. Their
    /// paths have no ending, or a browser says that it wants one.
    fn falls_back(&self, exchange: &Exchange) -> bool {
        let request = exchange.asked.request();
        let reads = matches!(request.method, Method::Get | Method::Head);
        let named = exchange.located.as_str();
        let wants_page = || {
            let accept = request.fields.first("Accept").unwrap_or_default();
            accept.windows(9).any(|it| it.eq_ignore_ascii_case(b"text/html"))
        };
        let page = !file_name(named).contains('.') || wants_page();
        self.config.spa && !exchange.fallen && reads && page
    }

    fn list(&mut self, now: Now, conn: ConnId, mut exchange: Exchange, net: &mut Net<Server>) {
        self.let_go(&mut exchange, net);
        if !self.config.listing || exchange.fallen {
            return self.fail(now, conn, exchange, Status::NOT_FOUND, net);
        }
        if self.listing >= LISTINGS {
            return self.fail(now, conn, exchange, Status::SERVICE_UNAVAILABLE, net);
        }
        exchange.lists = true;
        self.listing = self.listing.saturating_add(1);
        let request = exchange.asked.request();
        let pages = Pages::new(&exchange.located, &request, self.config.hidden);
        self.list_on(now, conn, exchange, Box::new(pages), net);
    }

    fn handle_put(
        &mut self,
        now: Now,
        conn: ConnId,
        request: &Request<'_>,
        path: &str,
        net: &mut Net<Server>,
    ) {
        let located = Located::new(path, self.config.hidden);
        let (status, limit, located) = match (self.config.writable, located) {
            (None, _) => (Status::METHOD_NOT_ALLOWED, 0, ROOT),
            (_, Err(NotLocated::Malformed)) => (Status::BAD_REQUEST, 0, ROOT),
            (_, Err(_)) => (Status::FORBIDDEN, 0, ROOT),
            (_, Ok(it)) if !self.is_writable(&it) => (Status::FORBIDDEN, 0, it),
            // A part of a file cannot be put (RFC 9110, 9.3.4).
            _ if request.fields.first("Content-Range").is_some() => (Status::BAD_REQUEST, 0, ROOT),
            (Some(limit), Ok(it)) => match request.length {
                BodyLength::Known(len) if len > limit => (Status::CONTENT_TOO_LARGE, limit, it),
                _ if self.uploading.len() >= UPLOADS => (Status::SERVICE_UNAVAILABLE, limit, it),
                _ if !self.uploading.insert(it.as_str().to_owned()) => {
                    (Status::CONFLICT, limit, it)
                }
                _ => (Status::CONTINUE, limit, it),
            },
        };
        if status != Status::CONTINUE {
            return self.refuse(now, conn, request, status, net);
        }
        // Its content has to wait until there is a file.
        net.pause(conn);
        let path = located.as_str().to_owned();
        let (upload, id) = Upload::start(self.config.root, path, limit, net);
        let mut exchange = Exchange::new(now, request, located, Class::IDENTITY);
        exchange.stage = Stage::Uploading(Box::new(upload));
        exchange.request = Some(id);
        self.asked.insert(id, Asker::Exchange(conn));
        self.exchanges.insert(conn, exchange);
    }

    /// Whether a file may have this name: one that means the same on every system.
    fn is_writable(&self, located: &Located) -> bool {
        let policy = Policy { dot_names: self.config.hidden, hyphen: true };
        let safe = SafeName::parse(located.as_str(), policy).is_ok();
        safe && !located.folder && !is_ours(located)
    }

    fn handle_data(&mut self, now: Now, conn: ConnId, bytes: &[u8], net: &mut Net<Server>) {
        let Some(exchange) = self.exchanges.get_mut(&conn) else { return };
        let Stage::Uploading(upload) = &mut exchange.stage else { return };
        let (turn, request) = upload.handle_data(bytes, net);
        if let Some(id) = request {
            exchange.request = Some(id);
            self.asked.insert(id, Asker::Exchange(conn));
        }
        match turn {
            Turn::Hold => net.pause(conn),
            Turn::Failed(status) => {
                if let Some(mut exchange) = self.exchanges.remove(&conn) {
                    if let Some(id) = exchange.request.take() {
                        self.forget(&[id], net);
                    }
                    self.uploading.remove(exchange.located.as_str());
                    self.fail(now, conn, exchange, status, net);
                }
            }
            _ => {}
        }
    }

    fn handle_end(&mut self, conn: ConnId, net: &mut Net<Server>) {
        let Some(exchange) = self.exchanges.get_mut(&conn) else { return };
        let Stage::Uploading(upload) = &mut exchange.stage else { return };
        if let Some(id) = upload.handle_end(net) {
            exchange.request = Some(id);
            self.asked.insert(id, Asker::Exchange(conn));
        }
    }

    fn handle_uploaded(
        &mut self,
        now: Now,
        conn: ConnId,
        mut exchange: Exchange,
        mut upload: Box<Upload>,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) {
        let (mut turn, mut request) = upload.handle_reply(now, reply, net);
        if let Turn::Judge(there) = turn {
            let asked = exchange.asked.request();
            let of = |it| Validators::of(&it, Coding::Identity, Coded::Stored, now.unix);
            let there = there.map(of);
            match evaluate(asked.method, &asked.fields, there.as_ref(), now.unix) {
                Condition::Proceed { .. } => {
                    let only_new = asked.fields.first("If-None-Match") == Some(b"*");
                    request = Some(upload.begin(now, only_new, net));
                }
                _ => turn = upload.fail(Status::PRECONDITION_FAILED, net),
            }
        }
        exchange.request = request;
        self.asked.extend(request.map(|id| (id, Asker::Exchange(conn))));
        match turn {
            Turn::Done { new } => {
                self.uploading.remove(exchange.located.as_str());
                net.resume(conn);
                // Under how many paths it is kept, nobody knows.
                let dropped = self.hot.clear();
                self.forget(&dropped, net);
                let status = if new { Status::CREATED } else { Status::NO_CONTENT };
                answer::respond(conn, status, &self.fields, Body::Empty, net);
                let answered = Answered::new(status, 0);
                self.log.put((exchange.since, now), conn, &exchange.asked.request(), answered, net);
                self.end(exchange, net);
            }
            Turn::Failed(status) => {
                self.uploading.remove(exchange.located.as_str());
                net.resume(conn);
                self.fail(now, conn, exchange, status, net);
            }
            turn => {
                if turn == Turn::Take {
                    if exchange.asked.request().expects_continue && upload.taken() == 0 {
                        let (status, fields) = (Status::CONTINUE, &FieldsBuf::new());
                        let _ = net.send(conn, ServerCommand::Inform { status, fields });
                    }
                    net.resume(conn);
                }
                exchange.stage = Stage::Uploading(upload);
                self.exchanges.insert(conn, exchange);
            }
        }
    }

    /// What is being read is not kept.
    fn let_go(&mut self, exchange: &mut Exchange, net: &mut Net<Server>) {
        if mem::take(&mut exchange.keep) {
            self.filling.remove(exchange.asked.path());
            let watches = mem::take(&mut exchange.watches);
            self.forget(&watches, net);
        }
    }

    /// Nobody waits for these any more.
    fn forget(&mut self, requests: &[RequestId], net: &mut Net<Server>) {
        for id in requests {
            self.asked.remove(id);
            net.cancel(*id);
        }
    }

    /// It is answered.
    fn end(&mut self, mut exchange: Exchange, net: &mut Net<Server>) {
        self.let_go(&mut exchange, net);
        self.squeezing = self.squeezing.saturating_sub(usize::from(exchange.squeezes));
        self.listing = self.listing.saturating_sub(usize::from(exchange.lists));
    }

    /// Its answer cannot be completed: the peer must not take it for whole.
    fn cut(&mut self, conn: ConnId, exchange: Exchange, net: &mut Net<Server>) {
        self.end(exchange, net);
        net.abort(conn);
    }
}

impl Exchange {
    fn new(now: Now, request: &Request<'_>, located: Located, class: Class) -> Self {
        Self {
            asked: Asked::of(request),
            since: now,
            located,
            class,
            // Replaced as soon as the host is asked for something.
            stage: Stage::Looking,
            request: None,
            watches: Vec::new(),
            keep: false,
            fallen: false,
            squeezes: false,
            lists: false,
        }
    }

    /// The file that it has open.
    fn file(&self) -> Option<FileId> {
        match &self.stage {
            Stage::Encoding { plain, .. } => Some(plain.file),
            Stage::Reading(reading) => Some(reading.opened.file),
            Stage::Squeezing(squeeze) => Some(squeeze.file()),
            _ => None,
        }
    }
}

impl Service<Server> for Site {
    type Message = SiteMessage;
    type Report = SiteReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Server> {
        Some(Server::new(Arc::clone(&self.connection)))
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Server>) {}

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: ServerEvent<'_>,
        net: &mut Net<Server>,
    ) {
        match event {
            ServerEvent::Request(request) => {
                if self.draining {
                    // Of one that waited to be accepted: its first request is its last.
                    let _ = net.send(from, ServerCommand::Finish);
                }
                self.handle_request(now, from, &request, net);
            }
            ServerEvent::Data(bytes) => self.handle_data(now, from, bytes, net),
            ServerEvent::End(_) => self.handle_end(from, net),
        }
    }

    fn handle_room(&mut self, now: Now, conn: ConnId, net: &mut Net<Server>) {
        let waits = self.exchanges.get(&conn).is_some_and(|it| it.request.is_none());
        if !waits {
            return;
        }
        let Some(mut exchange) = self.exchanges.remove(&conn) else { return };
        match mem::replace(&mut exchange.stage, Stage::Looking) {
            Stage::Squeezing(squeeze) => self.read_on(conn, exchange, squeeze, net),
            Stage::Listing(pages) => self.list_on(now, conn, exchange, pages, net),
            stage => {
                exchange.stage = stage;
                self.exchanges.insert(conn, exchange);
            }
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<HttpError>,
        net: &mut Net<Server>,
    ) {
        if let Some(mut exchange) = self.exchanges.remove(&conn) {
            if let Some(id) = exchange.request.take() {
                self.forget(&[id], net);
            }
            if let Some(file) = exchange.file() {
                net.release(file, None);
            }
            if let Stage::Uploading(upload) = &mut exchange.stage {
                // Nobody is there to be told.
                let _ = upload.fail(Status::BAD_REQUEST, net);
                self.uploading.remove(exchange.located.as_str());
            }
            self.end(exchange, net);
        }
        if let Closed::Error(error) = why {
            self.log.put_broken(now, conn, error, net);
        }
        if !matches!(why, Closed::Done | Closed::Local) {
            let peer = net.peer(conn).map(|peer| peer.address);
            self.reports.push_back(SiteReport::Broken { peer, why });
        }
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Server>) {
        match self.asked.remove(&id) {
            Some(Asker::Exchange(conn)) => {
                if let Some(mut exchange) = self.exchanges.remove(&conn) {
                    exchange.request = None;
                    self.handle_answer(now, conn, exchange, &reply, net);
                }
            }
            Some(Asker::Filling(conn)) => {
                self.watches &= reply != Reply::Failed(Failure::Unsupported);
                if let Some(mut exchange) = self.exchanges.remove(&conn) {
                    self.let_go(&mut exchange, net);
                    self.exchanges.insert(conn, exchange);
                }
            }
            Some(Asker::Hot) => {
                let dropped = self.hot.handle_changed(id);
                self.forget(&dropped, net);
            }
            // What is left of an upload was removed, or was not there.
            None => {}
        }
    }

    fn handle_message(&mut self, now: Now, message: SiteMessage, net: &mut Net<Server>) {
        match message {
            SiteMessage::Drain if !self.draining => {
                self.draining = true;
                self.drained_at = Some(now.mono.saturating_add(DRAINED));
                for conn in self.exchanges.keys() {
                    // Refused only if the connection is gone.
                    let _ = net.send(*conn, ServerCommand::Finish);
                }
                net.drain();
            }
            SiteMessage::Drain => {}
        }
    }

    fn handle_turn(&mut self, _: Now, _: &mut Net<Server>) {
        self.reports.extend(self.log.take().map(SiteReport::Log));
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let kept = self.hot.poll_timeout().map(|at| Deadline { at, why: "kept" });
        let drained = self.drained_at.map(|at| Deadline { at, why: "drained" });
        Deadline::earlier(kept, drained)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Server>) {
        let dropped = self.hot.handle_timeout(now.mono);
        self.forget(&dropped, net);
        if self.drained_at.is_some_and(|at| at <= now.mono) {
            self.drained_at = None;
            let all: Vec<_> = net.connections().collect();
            for conn in all {
                // Refused only by one that is closing.
                let _ = net.send(conn, ServerCommand::Finish);
            }
        }
    }

    fn poll_report(&mut self) -> Option<SiteReport> {
        self.reports.pop_front()
    }
}

/// Whether it is the temporary name of an upload.
fn is_ours(located: &Located) -> bool {
    located.as_str().split('/').any(|part| part.starts_with(upload::PREFIX))
}

fn within(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn boundary(random: &mut Rng) -> u128 {
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

/// What is told of a file that cannot be opened or read.
fn status_of(failure: Failure) -> Status {
    match failure {
        Failure::NotFound | Failure::WrongKind | Failure::NameTooLong => Status::NOT_FOUND,
        Failure::Denied => Status::FORBIDDEN,
        Failure::Exhausted => Status::SERVICE_UNAVAILABLE,
        _ => Status::INTERNAL_SERVER_ERROR,
    }
}
