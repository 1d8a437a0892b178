//! Files and folders from a framed server, proved as they arrive, resumed where they were cut.
//!
//! Of each file, in this order:
//!
//! | step | asks | what for |
//! |---|---|---|
//! | Asking | the server: STAT | size and hash, or that it is a folder |
//! | Naming | the server: LIST | of a folder: its names, which wait for their turn |
//! | Making | the host | of a folder: that it is there |
//! | Arriving | both | what an [`Arrival`] wants, over several connections |
//!
//! Nothing is believed but the hash that the server told. After a broken connection the server is
//! asked again; if the hash is another then, the file starts anew.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use semfio_machine::{
    Closed, ConnId, Deadline, Failure, Instant, Net, Now, Peer, Reply, RequestId, RootId, Service,
    Target,
};
use semfio_path::{NameError, Names, NamesError, Policy, SafeName};

use crate::arrival::{Arrival, ArrivalEvent, Folders, Goal, Proved, Stream};
use crate::part::Stage;
use crate::sealing::{Secret, session};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::tasks::{Task, Tasks};
use crate::tree::{Hash, MAX_FILE, TreeError};
use crate::wire::{Entries, ErrorCode, Get, Kind, Message, Meta, RangeBytes};

/// How long a server may be silent while something is asked of it.
pub(crate) const SILENT: Duration = Duration::from_secs(60);
/// The least time between two reports of progress.
pub(crate) const PROGRESS: Duration = Duration::from_millis(100);
/// The first pause before it dials again; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(15);
/// Groups in one GET: 4 MiB, long enough to hide the way there and back, short enough to share.
pub(crate) const PIECE: u64 = 64;
/// GETs that wait for an answer on one connection.
pub(crate) const AHEAD: usize = 2;
/// How often the content of a name may turn out to be another, or wrong, before it is given up.
pub(crate) const CHANGES: u32 = 3;
/// Connections at most.
pub const MAX_JOBS: usize = 16;

/// What a [`Fetch`] fetches, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// The server.
    pub target: Target,
    /// Files and folders, by the names the server knows.
    pub names: Vec<SafeName>,
    /// The folder they are saved in.
    pub root: RootId,
    /// The name a single file is saved under; by default the last part of its own.
    pub save_as: Option<SafeName>,
    /// Whether a file of that name with other content is replaced; a folder, a link or a device
    /// never is.
    pub replace: bool,
    /// Connections, 1 to [`MAX_JOBS`].
    pub jobs: usize,
    /// Which names in a folder are taken from the server.
    pub policy: Policy,
    /// How often in a row it tries to come back. 10 are about a minute and a half.
    pub retries: u32,
}

/// What an application tells a [`Fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchMessage {
    /// Stop, and keep what there is.
    Interrupt,
}

/// What a [`Fetch`] tells its application. Names are those on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchReport {
    /// The server hashes the file first: so many bytes of so many.
    Hashing(SafeName, u64, u64),
    /// There was a partial file of other content: the file has changed, and starts anew.
    StartedAnew(SafeName),
    /// Content begins to come.
    Begun {
        /// Which file.
        name: SafeName,
        /// In bytes.
        size: u64,
        /// Bytes of an earlier attempt that were proved.
        resumed: u64,
    },
    /// So many bytes are proved.
    Progress {
        /// Which file.
        name: SafeName,
        /// These.
        proved: u64,
        /// Of these.
        size: u64,
    },
    /// It is saved, or was there with this content.
    Done {
        /// Which file.
        name: SafeName,
        /// In bytes.
        size: u64,
        /// Its BLAKE3.
        hash: Hash,
        /// Bytes of content and hashes that came for it.
        received: u64,
    },
    /// It is not saved; others go on.
    Failed {
        /// Which file or folder.
        name: SafeName,
        /// Why.
        why: FetchError,
        /// The partial file that is kept; without it there was nothing to be kept.
        part: Option<SafeName>,
    },
    /// The connection broke; it tries again.
    Lost {
        /// Why.
        why: Lost,
        /// After this pause.
        retry_in: Duration,
    },
    /// There is no connection, or none any more: what is not done by now is not.
    Unreachable(Lost),
    /// It is over.
    Over {
        /// Files that are saved.
        done: usize,
        /// Files and folders that are not.
        failed: usize,
    },
}

/// Why a file is not saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// The server says so.
    Refused(ErrorCode),
    /// What came is not what the hash says.
    Wrong(TreeError),
    /// It changed again and again.
    Changing,
    /// Larger than [`MAX_FILE`].
    TooLarge,
    /// The server told of no hash, or of a folder that is none.
    NotTold,
    /// A step on the own disk failed.
    NotSaved(Stage, Failure),
    /// A folder holds a name that is not safe here.
    Name(NameError),
    /// A name is one with another, on some file systems.
    Names(NamesError),
    /// There are too many names.
    TooMany,
    /// The connection is gone, and did not come back.
    Lost(Lost),
    /// By [`FetchMessage::Interrupt`].
    Interrupted,
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The system says so, or there was none.
    Failed(Failure),
    /// The server broke the protocol.
    Protocol(SessionError),
    /// The server ended it.
    Ended(Option<ErrorCode>),
    /// Nothing came for a minute.
    Silent,
    /// What came was wrong.
    Wrong(TreeError),
    /// It answered what was not asked.
    OutOfTurn,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => code.fmt(f),
            Self::Wrong(error) => error.fmt(f),
            Self::Changing => f.write_str("it changes while it is sent"),
            Self::TooLarge => TreeError::TooLarge.fmt(f),
            Self::NotTold => f.write_str("the server did not tell what it is"),
            Self::NotSaved(stage, failure) => write!(f, "{stage}: {failure}"),
            Self::Name(error) => error.fmt(f),
            Self::Names(error) => error.fmt(f),
            Self::TooMany => f.write_str("there are too many names"),
            Self::Lost(lost) => lost.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl core::error::Error for FetchError {}

impl Lost {
    /// Of a connection that was closed; `code` is what its server said at last.
    pub(crate) fn of(closed: Closed<SessionError>, code: Option<ErrorCode>) -> Self {
        match closed {
            Closed::Failed(failure) => Self::Failed(failure),
            Closed::Error(error) => Self::Protocol(error),
            _ => Self::Ended(code),
        }
    }

    /// The pause before it is dialled again, so many `tries` in a row having failed; `None` where
    /// that is too often or does not help. `greeted`: there once was a server of this kind.
    pub(crate) fn retry_in(&self, tries: u32, retries: u32, greeted: bool) -> Option<Duration> {
        let may_be_one = greeted || matches!(self, Self::Failed(Failure::Reset) | Self::Ended(_));
        // Each try would be another guess, or another answer to one.
        let is_about_passphrase =
            matches!(self, Self::Protocol(SessionError::Passphrase | SessionError::NoPassphrase));
        if tries > retries || !may_be_one || is_about_passphrase {
            return None;
        }
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        Some(BACK_OFF.saturating_mul(doubled).min(BACK_OFF_MAX))
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Protocol(error) => error.fmt(f),
            Self::Ended(None) => f.write_str("the server ended it"),
            Self::Ended(Some(code)) => write!(f, "the server ended it: {code}"),
            Self::Silent => f.write_str("the server is silent"),
            Self::Wrong(error) => error.fmt(f),
            Self::OutOfTurn => f.write_str("the server answered what was not asked"),
        }
    }
}

/// Files and folders, fetched: a [`Service`] over [`Session`]s.
#[derive(Debug)]
pub struct Fetch {
    config: FetchConfig,
    secret: Option<Secret>,
    conns: BTreeMap<ConnId, Conn>,
    tasks: Tasks,
    names: Names,
    file: Option<File>,
    /// Those that are given up, until what was to be written is.
    leaving: Vec<Arrival>,
    next_tag: u32,
    tries: u32,
    /// There was a server once.
    greeted: bool,
    redial: Option<Deadline>,
    /// Why the last connection was lost.
    lost: Lost,
    heard: Instant,
    told: Instant,
    paused: bool,
    /// Connections at most; fewer, once one was lost while others stood.
    jobs: usize,
    /// The folder that was made last, and is durable.
    made: String,
    done: usize,
    failed: usize,
    ending: bool,
    over: bool,
    reports: VecDeque<FetchReport>,
}

#[derive(Debug, Default)]
struct Conn {
    ready: bool,
    /// What was asked, in the order of the answers.
    asked: VecDeque<Asked>,
    code: Option<ErrorCode>,
}

/// A request that is not answered.
#[derive(Debug)]
struct Asked {
    tag: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Stat,
    List,
    Get(Box<Stream>),
}

/// The one file that is at work.
#[derive(Debug)]
struct File {
    task: Task,
    step: Step,
    /// Kept while the server is asked again.
    arrival: Option<Box<Arrival>>,
    received: u64,
    changes: u32,
    named: bool,
}

#[derive(Debug)]
enum Step {
    Asking,
    /// So many names wait behind it; the last of them.
    Naming {
        pushed: usize,
        last: String,
    },
    Making {
        folders: Folders,
        request: RequestId,
    },
    Arriving,
}

impl Fetch {
    /// A fetch that dials when the host first calls `handle_timeout`, which is due at once.
    pub fn new(config: FetchConfig) -> Self {
        let jobs = config.jobs.clamp(1, MAX_JOBS);
        let single = config.names.len() == 1;
        let mut tasks = Tasks::default();
        for name in &config.names {
            let own = SafeName::parse(name.file_name(), ANY);
            let local = config.save_as.clone().filter(|_| single).or_else(|| own.ok());
            if let Some(local) = local {
                tasks.push(Task { name: name.clone(), local });
            }
        }
        Self {
            config,
            secret: None,
            conns: BTreeMap::new(),
            tasks,
            names: Names::default(),
            file: None,
            leaving: Vec::new(),
            next_tag: 1,
            tries: 0,
            greeted: false,
            redial: Some(Deadline { at: Instant::default(), why: "dial" }),
            lost: Lost::Silent,
            heard: Instant::default(),
            told: Instant::default(),
            paused: false,
            jobs,
            made: String::new(),
            done: 0,
            failed: 0,
            ending: false,
            over: false,
            reports: VecDeque::new(),
        }
    }

    /// With a secret: says and takes nothing before the server has proved that it knows the
    /// passphrase; then all is sealed.
    pub fn with_secret(mut self, secret: impl Into<Option<Secret>>) -> Self {
        self.secret = secret.into();
        self
    }

    fn report(&mut self, report: FetchReport) {
        self.reports.push_back(report);
    }

    /// Whether it is time for another report of progress.
    fn may_tell(&mut self, now: Now) -> bool {
        let due = now.mono.saturating_since(self.told) >= PROGRESS;
        if due {
            self.told = now.mono;
        }
        due
    }

    fn dial(&mut self, net: &mut Net<Session>) {
        let session = session(&mut self.secret);
        let conn = net.dial(self.config.target.clone(), session);
        self.conns.insert(conn, Conn::default());
    }

    /// The connection that is asked for all but content.
    fn main(&self) -> Option<ConnId> {
        self.conns.iter().find(|(_, conn)| conn.ready).map(|(id, _)| *id)
    }

    fn tag(&mut self) -> u32 {
        let tag = self.next_tag;
        self.next_tag = tag.checked_add(1).unwrap_or(1);
        tag
    }

    fn ask(
        &mut self,
        now: Now,
        id: ConnId,
        what: What,
        message: &Message<'_>,
        net: &mut Net<Session>,
    ) {
        // Refused only if it is gone, which is told in another way.
        let _ = net.send(id, SessionCommand::Message(message));
        if let (Some(conn), Some(tag)) = (self.conns.get_mut(&id), message.tag()) {
            if conn.asked.is_empty() {
                self.heard = self.heard.max(now.mono);
            }
            conn.asked.push_back(Asked { tag, what });
        }
    }

    /// Begins the next file, or ends.
    fn next(&mut self, now: Now, net: &mut Net<Session>) {
        if self.file.is_some() || self.ending {
            return;
        }
        if self.main().is_none() && !self.tasks.is_empty() {
            if self.conns.is_empty() && self.redial.is_none() {
                self.dial(net);
            }
            return;
        }
        match self.tasks.pop() {
            None => self.end(net),
            Some(task) => {
                self.file = Some(File::new(task));
                self.stat(now, net);
            }
        }
    }

    /// Asks, or asks again, what the present name is.
    fn stat(&mut self, now: Now, net: &mut Net<Session>) {
        let tag = self.tag();
        if let (Some(main), Some(file)) = (self.main(), &mut self.file) {
            if let Step::Naming { pushed, .. } = file.step {
                self.tasks.take_back(pushed);
            }
            file.step = Step::Asking;
            let name = file.task.name.clone();
            let message = Message::Stat { tag, hashed: true, name: name.as_str() };
            self.ask(now, main, What::Stat, &message, net);
        }
    }

    fn end(&mut self, net: &mut Net<Session>) {
        self.ending = true;
        self.redial = None;
        if !self.over && self.leaving.is_empty() {
            self.over = true;
            self.report(FetchReport::Over { done: self.done, failed: self.failed });
            for conn in core::mem::take(&mut self.conns).into_keys() {
                net.close(conn);
            }
            net.stop();
        }
    }

    /// Gives the present file up; the next one begins.
    fn fail(&mut self, now: Now, why: FetchError, net: &mut Net<Session>) {
        let Some(file) = self.file.take() else { return };
        self.failed = self.failed.saturating_add(1);
        // A file whose name is not durable yet has its name.
        let named = matches!(why, FetchError::NotSaved(Stage::SyncFolder, _));
        let kept = file.arrival.as_ref().and_then(|arrival| arrival.kept());
        let part = kept.filter(|_| !named).cloned();
        let name = file.task.name.clone();
        self.leave(file, net);
        self.report(FetchReport::Failed { name, why, part });
        // Answers to what was asked for it would be taken for the next one's.
        self.conns.retain(|id, conn| {
            if !conn.asked.is_empty() {
                net.abort(*id);
            }
            conn.asked.is_empty()
        });
        self.go(net);
        self.next(now, net);
    }

    /// Leaves the host nothing of a file that is given up, but its partial content.
    fn leave(&mut self, file: File, net: &mut Net<Session>) {
        if let Step::Making { request, .. } = file.step {
            net.cancel(request);
        }
        if let Some(mut arrival) = file.arrival {
            if !arrival.leave(net) {
                self.leaving.push(*arrival);
            }
        }
    }

    fn saved(&mut self, now: Now, net: &mut Net<Session>) {
        let (Some(file), made) = (self.file.take(), &mut self.made) else { return };
        let Some(arrival) = &file.arrival else { return };
        let Goal { size, hash, name, .. } = arrival.goal().clone();
        *made = name.parent().to_owned();
        self.done = self.done.saturating_add(1);
        self.tries = 0;
        let (name, received) = (file.task.name, file.received);
        self.report(FetchReport::Done { name, size, hash, received });
        self.next(now, net);
    }

    /// A connection is of no more use; what was asked of it is asked of another.
    fn lose(&mut self, now: Now, id: ConnId, why: Lost, net: &mut Net<Session>) {
        let Some(conn) = self.conns.remove(&id) else { return };
        net.abort(id);
        self.lost = why;
        if let Some(File { arrival: Some(arrival), .. }) = &mut self.file {
            for asked in conn.asked {
                if let What::Get(stream) = asked.what {
                    arrival.give_back(&stream);
                }
            }
            if arrival.is_proving() {
                // Of what was asked before an unknown part was answered.
                self.ask_anew(net);
            }
        }
        if !self.conns.is_empty() {
            self.jobs = self.conns.len();
            // The others go on; the first of them is asked what this one was.
            let asking = matches!(
                self.file.as_ref().map(|file| &file.step),
                Some(Step::Asking | Step::Naming { .. })
            );
            return if asking { self.stat(now, net) } else { self.get(now, net) };
        }
        let saving = self.file.as_ref().is_some_and(File::is_saving);
        if (self.tasks.is_empty() && (saving || self.file.is_none())) || self.ending {
            return;
        }
        self.tries = self.tries.saturating_add(1);
        let Some(retry_in) = why.retry_in(self.tries, self.config.retries, self.greeted) else {
            self.report(FetchReport::Unreachable(why));
            self.failed = self.failed.saturating_add(self.tasks.clear());
            return match self.file {
                Some(_) => self.fail(now, FetchError::Lost(why), net),
                None => self.end(net),
            };
        };
        self.redial = Some(Deadline { at: now.mono.saturating_add(retry_in), why: "dial" });
        self.report(FetchReport::Lost { why, retry_in });
    }

    /// Begins with the present file as if nothing was known of it.
    fn ask_anew(&mut self, net: &mut Net<Session>) {
        if let Some(old) = self.file.take() {
            let (task, received, changes) = (old.task.clone(), old.received, old.changes);
            self.leave(old, net);
            self.file = Some(File { received, changes, named: true, ..File::new(task) });
        }
    }

    fn lose_all(&mut self, now: Now, why: Lost, net: &mut Net<Session>) {
        while let Some((&id, _)) = self.conns.first_key_value() {
            self.lose(now, id, why, net);
        }
    }

    /// Nothing that comes can be written for now.
    fn halt(&mut self, net: &mut Net<Session>) {
        self.paused = true;
        self.conns.keys().for_each(|conn| net.pause(*conn));
    }

    fn go(&mut self, net: &mut Net<Session>) {
        if core::mem::take(&mut self.paused) {
            self.conns.keys().for_each(|conn| net.resume(*conn));
        }
    }

    // What the server says.

    fn handle_message(
        &mut self,
        now: Now,
        id: ConnId,
        message: Message<'_>,
        net: &mut Net<Session>,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match message {
            Message::Welcome { .. } => {
                conn.ready = true;
                self.greeted = true;
                let first = self.conns.len() == 1;
                match &self.file {
                    None => self.next(now, net),
                    Some(File { step: Step::Asking | Step::Naming { .. }, .. }) => {
                        self.stat(now, net);
                    }
                    // The first after all were lost: is it still the same file?
                    Some(file) if first && file.is_getting() => self.stat(now, net),
                    Some(_) => self.get(now, net),
                }
            }
            Message::Wait { done, of, .. } => {
                let name = self.file.as_ref().map(|file| file.task.name.clone());
                if let Some(name) = name.filter(|_| self.may_tell(now)) {
                    self.report(FetchReport::Hashing(name, done, of));
                }
            }
            Message::Error { tag: 0, code, .. } => conn.code = Some(code),
            message => {
                let front = conn.asked.front().map(|asked| asked.tag);
                if front.is_none() || front != message.tag() {
                    return self.lose(now, id, Lost::OutOfTurn, net);
                }
                let Some(asked) = conn.asked.pop_front() else { return };
                self.handle_answer(now, id, asked.what, message, net);
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Now,
        id: ConnId,
        what: What,
        message: Message<'_>,
        net: &mut Net<Session>,
    ) {
        match (what, message) {
            (What::Stat, Message::Meta { meta, hash, .. }) => {
                self.handle_meta(now, meta, hash, net);
            }
            (What::List, Message::Entries { more, entries, .. }) => {
                self.handle_entries(now, more, entries, net);
            }
            (What::Get(stream), Message::Done { .. }) => match stream.finish() {
                Ok(()) => self.handle_done(now, net),
                Err(error) => {
                    self.give_back(&stream);
                    self.wrong(now, error, net);
                }
            },
            // It is another file now: which one, is asked anew.
            (What::Get(stream), Message::Error { code: ErrorCode::Changed, .. }) => {
                self.give_back(&stream);
                self.lose_all(now, Lost::Ended(Some(ErrorCode::Changed)), net);
            }
            (_, Message::Error { code, .. }) => self.fail(now, FetchError::Refused(code), net),
            _ => self.lose(now, id, Lost::OutOfTurn, net),
        }
    }

    fn give_back(&mut self, stream: &Stream) {
        if let Some(File { arrival: Some(arrival), .. }) = &mut self.file {
            arrival.give_back(stream);
        }
    }

    fn handle_meta(&mut self, now: Now, meta: Meta, hash: Option<Hash>, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        match (meta.kind, hash) {
            (Kind::Folder, _) if file.arrival.is_none() => {
                file.step = Step::Naming { pushed: 0, last: String::new() };
                self.list(now, "", net);
            }
            (Kind::File, _) if meta.size > MAX_FILE => self.fail(now, FetchError::TooLarge, net),
            (Kind::File, Some(hash)) => self.begin(now, meta, hash, net),
            _ => self.fail(now, FetchError::NotTold, net),
        }
    }

    fn list(&mut self, now: Now, after: &str, net: &mut Net<Session>) {
        let tag = self.tag();
        if let (Some(main), Some(file)) = (self.main(), &self.file) {
            let folder = file.task.name.clone();
            let message = Message::List { tag, folder: folder.as_str(), after };
            self.ask(now, main, What::List, &message, net);
        }
    }

    fn handle_entries(
        &mut self,
        now: Now,
        more: bool,
        entries: Entries<'_>,
        net: &mut Net<Session>,
    ) {
        let Some(File { task, step: Step::Naming { pushed, last }, .. }) = &mut self.file else {
            return;
        };
        let mut any = false;
        for (name, _) in entries.iter() {
            // With a slash it would be in another folder; names must rise, or there is no end.
            if name.contains('/') || name <= last.as_str() {
                return self.fail(now, FetchError::NotTold, net);
            }
            any = true;
            *last = name.to_owned();
            let joined = SafeName::parse(name, self.config.policy)
                .and_then(|part| Ok((task.name.join(&part)?, task.local.join(&part)?)));
            let fits = match joined {
                Ok((name, local)) => self.tasks.push_told(Task { name, local }),
                Err(error) => return self.fail(now, FetchError::Name(error), net),
            };
            if !fits {
                return self.fail(now, FetchError::TooMany, net);
            }
            *pushed = pushed.saturating_add(1);
        }
        let (last, task_folder) = (last.clone(), task.local.as_str().to_owned());
        if more && any {
            self.list(now, &last, net);
        } else {
            let folder = task_folder;
            self.make(now, Folders::new(self.config.root, &folder), net);
        }
    }

    /// Makes a folder that was asked for, step by step.
    fn make(&mut self, now: Now, mut folders: Folders, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        if let Some(effect) = folders.next().filter(|_| self.made != file.task.local.as_str()) {
            let request = net.request(effect);
            file.step = Step::Making { folders, request };
            return;
        }
        self.made = file.task.local.as_str().to_owned();
        self.file = None;
        self.next(now, net);
    }

    /// The server has told of a file: goes on with it, or begins.
    fn begin(&mut self, now: Now, meta: Meta, hash: Hash, net: &mut Net<Session>) {
        let Meta { size, modified, .. } = meta;
        let Some(file) = &mut self.file else { return };
        let mut former = None;
        if let Some(arrival) = &file.arrival {
            let goal = arrival.goal();
            if (goal.size, goal.hash) == (size, hash) {
                file.step = Step::Arriving;
                return self.handle_done(now, net);
            }
            file.changes = file.changes.saturating_add(1);
            if file.changes > CHANGES {
                return self.fail(now, FetchError::Changing, net);
            }
            former = arrival.part().cloned();
            let name = file.task.name.clone();
            self.ask_anew(net);
            self.report(FetchReport::StartedAnew(name));
        }
        let Some(file) = &mut self.file else { return };
        if !core::mem::replace(&mut file.named, true) {
            if let Err(error) = self.names.insert(&file.task.local) {
                return self.fail(now, FetchError::Names(error), net);
            }
        }
        let (root, replace, name) =
            (self.config.root, self.config.replace, file.task.local.clone());
        let made = self.made == name.parent();
        let goal = Goal { root, name, replace, size, hash, modified };
        file.step = Step::Arriving;
        file.arrival = Some(Box::new(Arrival::begin(goal, former, made, net)));
    }

    fn handle_body(&mut self, now: Now, id: ConnId, mut bytes: &[u8], net: &mut Net<Session>) {
        while !bytes.is_empty() {
            let (Some(File { arrival: Some(arrival), received, .. }), Some(conn)) =
                (&mut self.file, self.conns.get_mut(&id))
            else {
                return;
            };
            let Some(Asked { what: What::Get(stream), .. }) = conn.asked.front_mut() else {
                return self.lose(now, id, Lost::OutOfTurn, net);
            };
            let before = bytes.len();
            let came = stream.handle_bytes(&mut bytes);
            let taken = before.saturating_sub(bytes.len());
            *received = received.saturating_add(taken as u64);
            match came {
                Ok(None) => {}
                Ok(Some(proved)) => {
                    let content = matches!(proved, Proved::Group(..));
                    stream.refill(arrival.handle_proved(proved, net));
                    if content {
                        self.handle_group(now, net);
                    }
                }
                Err(error) => return self.wrong(now, error, net),
            }
        }
    }

    fn handle_group(&mut self, now: Now, net: &mut Net<Session>) {
        self.tries = 0;
        let may_tell = self.may_tell(now);
        let Some(File { task, arrival: Some(arrival), .. }) = &self.file else { return };
        let full = arrival.is_full();
        let (proved, size) = (arrival.proved(), arrival.goal().size);
        if may_tell {
            let name = task.name.clone();
            self.report(FetchReport::Progress { name, proved, size });
        }
        if full {
            self.halt(net);
        }
    }

    /// What came is not what was told.
    fn wrong(&mut self, now: Now, error: TreeError, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        file.changes = file.changes.saturating_add(1);
        if file.changes > CHANGES {
            return self.fail(now, FetchError::Wrong(error), net);
        }
        // What the others bring may be wrong as well, and the hash another by now.
        self.lose_all(now, Lost::Wrong(error), net);
    }

    fn handle_done(&mut self, now: Now, net: &mut Net<Session>) {
        let Some(File { arrival: Some(arrival), .. }) = &mut self.file else { return };
        let event = arrival.handle_end(net);
        self.handle_arrival(now, event, net);
        self.get(now, net);
    }

    // What the host says.

    fn handle_arrival(&mut self, now: Now, event: Option<ArrivalEvent>, net: &mut Net<Session>) {
        let Some(File { task, arrival: Some(arrival), .. }) = &self.file else { return };
        let (name, size) = (task.name.clone(), arrival.goal().size);
        match event {
            Some(ArrivalEvent::StartedAnew) => self.report(FetchReport::StartedAnew(name)),
            Some(ArrivalEvent::Wanting) => self.get(now, net),
            Some(ArrivalEvent::Begun { resumed }) => {
                self.report(FetchReport::Begun { name, size, resumed });
                self.get(now, net);
            }
            Some(ArrivalEvent::Room) => {
                self.heard = now.mono;
                self.go(net);
                self.get(now, net);
            }
            Some(ArrivalEvent::Saved) => self.saved(now, net),
            Some(ArrivalEvent::Failed(stage, failure)) => {
                self.fail(now, FetchError::NotSaved(stage, failure), net);
            }
            Some(ArrivalEvent::Left) | None => {}
        }
    }

    /// Asks for what is missing, over all connections.
    fn get(&mut self, now: Now, net: &mut Net<Session>) {
        let Some(File { step: Step::Arriving, arrival: Some(arrival), .. }) = &mut self.file else {
            return;
        };
        let pieces = arrival.unasked().fold(0, |sum: u64, range| {
            sum.saturating_add(range.end.saturating_sub(range.start).div_ceil(PIECE))
        });
        let useful = usize::try_from(pieces).unwrap_or(self.jobs).min(self.jobs);
        if self.main().is_some() && self.tries == 0 {
            for _ in self.conns.len()..useful {
                self.dial(net);
            }
        }
        let ready: Vec<_> =
            self.conns.iter().filter(|(_, conn)| conn.ready).map(|(id, _)| *id).collect();
        // One for each in turn, so that all have something to do.
        for turn in 1..=AHEAD {
            for id in &ready {
                if self.conns.get(id).is_some_and(|conn| conn.asked.len() < turn) {
                    self.get_piece(now, *id, net);
                }
            }
        }
    }

    fn get_piece(&mut self, now: Now, id: ConnId, net: &mut Net<Session>) {
        let tag = self.tag();
        let Some(File { task, arrival: Some(arrival), .. }) = &mut self.file else { return };
        let Some(want) = arrival.poll_want(PIECE) else { return };
        let Goal { size, hash, .. } = *arrival.goal();
        let (name, list) = (task.name.clone(), RangeBytes::new(want.ranges().bytes()));
        let stream = Box::new(Stream::new(hash, &want));
        let (content, name, ranges) = (want.content(), name.as_str(), list.list());
        let get = Get { tag, content, hash, size, name, ranges };
        self.ask(now, id, What::Get(stream), &Message::Get(get), net);
    }
}

impl File {
    fn new(task: Task) -> Self {
        let step = Step::Asking;
        Self { task, step, arrival: None, received: 0, changes: 0, named: false }
    }

    /// Whether content is asked for.
    fn is_getting(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.has_begun() && !arrival.is_saving())
    }

    /// Whether the server is not needed any more.
    fn is_saving(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.is_saving())
    }
}

impl Service<Session> for Fetch {
    type Message = FetchMessage;
    type Report = FetchReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Session> {
        None
    }

    fn handle_opened(&mut self, now: Now, _: ConnId, _: &Peer, _: &mut Net<Session>) {
        self.heard = now.mono;
    }

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: SessionEvent<'_>,
        net: &mut Net<Session>,
    ) {
        self.heard = now.mono;
        match event {
            SessionEvent::Message(message) => self.handle_message(now, from, message, net),
            SessionEvent::Body(bytes) => self.handle_body(now, from, bytes, net),
            // Said to servers only.
            SessionEvent::Asked(_)
            | SessionEvent::Sent
            | SessionEvent::Hinted
            | SessionEvent::Agreeing
            | SessionEvent::Greeted => {}
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        let code = self.conns.get(&conn).and_then(|conn| conn.code);
        self.lose(now, conn, Lost::of(why, code), net);
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Session>) {
        let mut left = false;
        self.leaving.retain_mut(|arrival| {
            let over = arrival.handle_reply(id, &reply, net).is_some();
            left |= over;
            !over
        });
        if left && self.ending {
            self.end(net);
        }
        let Some(file) = &mut self.file else { return };
        match &mut file.step {
            Step::Making { folders, request } if *request == id => {
                if !folders.takes(&reply) {
                    let failure =
                        if let Reply::Failed(failure) = reply { failure } else { UNEXPECTED };
                    let why = FetchError::NotSaved(Stage::Create, failure);
                    return self.fail(now, why, net);
                }
                let folders = core::mem::replace(folders, Folders::new(self.config.root, ""));
                self.make(now, folders, net);
            }
            _ => {
                let Some(arrival) = &mut file.arrival else { return };
                let event = arrival.handle_reply(id, &reply, net);
                self.handle_arrival(now, event, net);
            }
        }
    }

    fn handle_message(&mut self, now: Now, message: FetchMessage, net: &mut Net<Session>) {
        match message {
            FetchMessage::Interrupt => {
                self.failed = self.failed.saturating_add(self.tasks.clear());
                match &self.file {
                    // It is whole, and soon has its name.
                    Some(file) if file.is_saving() => {}
                    Some(_) => self.fail(now, FetchError::Interrupted, net),
                    None => self.end(net),
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let waits = self.conns.values().any(|conn| !conn.asked.is_empty()) && !self.paused;
        let at = self.heard.saturating_add(SILENT);
        Deadline::earlier(self.redial, waits.then_some(Deadline { at, why: "silent" }))
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        if self.redial.is_some_and(|redial| redial.at <= now.mono) {
            self.redial = None;
            if self.conns.is_empty() {
                self.dial(net);
            }
        } else if now.mono.saturating_since(self.heard) >= SILENT {
            self.lose_all(now, Lost::Silent, net);
        }
    }

    fn poll_report(&mut self) -> Option<FetchReport> {
        self.reports.pop_front()
    }
}

/// Of a host that answers something else than was asked for.
const UNEXPECTED: Failure = Failure::Unsupported;

/// For names that were judged before.
pub(crate) const ANY: Policy = Policy { dot_names: true, hyphen: true };
