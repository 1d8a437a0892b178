//! Files and folders from a framed server, proved as they arrive, resumed where they were cut.
//!
//! Of each file, in this order:
//!
//! | step | asks | what for |
//! |---|---|---|
//! | Asking | the server: STAT | size and hash, or that it is a folder |
//! | Naming | the server: LIST | of a folder: its names, which wait for their turn |
//! | Looking, Comparing, Confirming | the host | whether the name is taken; if so, whether by this very content |
//! | Folders | the host | the folders it lies in |
//! | Tidying | the host | whether there are partial files of other content: then it starts anew |
//! | Opening, Removing, Creating | the host | the partial file of this content, or a new one |
//! | Proving | both | the hashes of what the partial file could hold, and what it does hold |
//! | Getting | the server: GET | what is missing, in pieces, over several connections |
//! | Saving | the host | durable, renamed, the name durable |
//!
//! Nothing is believed but the hash that the server told: neither the partial file, whose name only
//! says which content it is meant for, nor any part that comes. After a broken connection the
//! server is asked again; if the hash is another then, the file starts anew.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::BytesMut;
use core::ops::Range;
use core::time::Duration;
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Failure, FileId, FileKind, Instant, Net, Now, OpenMode, Peer,
    Reply, RequestId, RootId, Seed, Service, Target,
};
use semfio_path::{NameError, Names, NamesError, Policy, SafeName};

use crate::part::{Part, PartEvent, Stage};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::tasks::{Task, Tasks};
use crate::tree::{
    Beside, Due, GROUP, Hash, MAX_FILE, Node, NodeHasher, PAIR, Ranges, TreeError, Verifier,
};
use crate::wire::{Entries, ErrorCode, Get, Kind, Message, Meta, RangeBytes};

/// How long a server may be silent while something is asked of it.
const SILENT: Duration = Duration::from_secs(60);
/// The least time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// The first pause before it dials again; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(15);
/// Groups in one GET: 4 MiB, long enough to hide the way there and back, short enough to share.
const PIECE: u64 = 64;
/// GETs that wait for an answer on one connection.
const AHEAD: usize = 2;
/// Groups whose hashes are asked for at once: 16 KiB of hashes for 16 MiB of content.
const PROVED: u64 = 256;
/// What is read at once of a file that is there already.
const READ: u32 = 256 * 1024;
/// How often the content of a name may turn out to be another, or wrong, before it is given up.
const CHANGES: u32 = 3;
/// How often a folder of ours is listed on in search of partial files.
const LIST_TURNS: u32 = 16;
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
    /// Whether other content of that name is replaced.
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
        /// The partial file that is kept.
        part: Option<SafeName>,
    },
    /// The connection broke; it tries again.
    Lost {
        /// Why.
        why: Lost,
        /// After this pause.
        retry_in: Duration,
    },
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

/// Files and folders, fetched: a [`Service`] over [`Session`]s.
#[derive(Debug)]
pub struct Fetch {
    config: FetchConfig,
    seed: Seed,
    conns: BTreeMap<ConnId, Conn>,
    tasks: Tasks,
    names: Names,
    file: Option<File>,
    /// Partial files that are given up, until what was to be written is.
    leaving: Vec<Part>,
    next_tag: u32,
    tries: u32,
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
    Get(Box<Arriving>),
}

/// The one file that is at work.
#[derive(Debug)]
struct File {
    task: Task,
    step: Step,
    /// What the host was asked, but for what the part asks.
    request: Option<RequestId>,
    size: u64,
    hash: Hash,
    part: Option<Part>,
    /// Groups that are missing and not asked for.
    todo: VecDeque<Range<u64>>,
    /// Groups that are missing.
    left: u64,
    /// Bytes that are proved.
    proved: u64,
    received: u64,
    changes: u32,
    named: bool,
    /// Partial files of other content, removed once this is saved.
    old: BTreeSet<SafeName>,
}

#[derive(Debug)]
enum Step {
    Asking,
    /// So many names wait behind it; the last of them.
    Naming {
        pushed: usize,
        last: String,
    },
    Looking,
    Comparing {
        file: Option<FileId>,
        hasher: Box<NodeHasher>,
    },
    Folders {
        taken: usize,
        only: bool,
    },
    Confirming,
    Tidying {
        turns: u32,
    },
    Opening,
    Removing,
    Creating,
    Proving(Proving),
    Getting,
    Saving,
}

/// Which groups of a partial file are what they should be.
#[derive(Debug)]
struct Proving {
    file: FileId,
    /// Groups it could hold.
    groups: u64,
    /// Groups whose hashes were asked for last.
    asked: Range<u64>,
    /// Those that were told and are not compared.
    known: VecDeque<(Node, Hash)>,
    missing: Ranges,
}

impl Fetch {
    /// A fetch that dials when the host first calls `handle_timeout`, which is due at once.
    pub fn new(config: FetchConfig, seed: &Seed) -> Self {
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
            seed: seed.clone(),
            conns: BTreeMap::new(),
            tasks,
            names: Names::default(),
            file: None,
            leaving: Vec::new(),
            next_tag: 1,
            tries: 0,
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
        let conn = net.dial(self.config.target.clone(), Session::dial());
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
        let part = file.part.as_ref().map(|part| part.path().clone()).filter(|_| !named);
        let name = file.task.name.clone();
        self.drop_file(file, net);
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
    fn drop_file(&mut self, file: File, net: &mut Net<Session>) {
        if let Some(request) = file.request {
            net.cancel(request);
        }
        match file.step {
            Step::Proving(Proving { file, .. }) | Step::Comparing { file: Some(file), .. } => {
                net.release(file, None);
            }
            _ => {}
        }
        self.leave(file.part, net);
    }

    fn leave(&mut self, part: Option<Part>, net: &mut Net<Session>) {
        if let Some(mut part) = part {
            if !part.leave(net) {
                self.leaving.push(part);
            }
        }
    }

    fn saved(&mut self, now: Now, net: &mut Net<Session>) {
        let Some(file) = self.file.take() else { return };
        for old in &file.old {
            // Whether it could be removed changes nothing.
            net.request(Effect::Remove { root: self.config.root, path: path(old) });
        }
        self.done = self.done.saturating_add(1);
        self.tries = 0;
        let (name, size, hash, received) = (file.task.name, file.size, file.hash, file.received);
        self.report(FetchReport::Done { name, size, hash, received });
        self.next(now, net);
    }

    /// A connection is of no more use; what was asked of it is asked of another.
    fn lose(&mut self, now: Now, id: ConnId, why: Lost, net: &mut Net<Session>) {
        let Some(conn) = self.conns.remove(&id) else { return };
        net.abort(id);
        self.lost = why;
        if let Some(file) = &mut self.file {
            for asked in conn.asked {
                if let What::Get(arriving) = asked.what {
                    file.todo.extend(arriving.missing());
                }
            }
            if let Step::Proving(_) = file.step {
                // Of what was asked before an unknown part was answered.
                let task = Task { ..file.task.clone() };
                let changes = file.changes;
                let received = file.received;
                if let Some(old) = self.file.take() {
                    self.drop_file(old, net);
                }
                let file = File { changes, received, named: true, ..File::new(task) };
                self.file = Some(file);
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
        let saving = matches!(self.file.as_ref().map(|file| &file.step), Some(Step::Saving));
        if (self.tasks.is_empty() && (saving || self.file.is_none())) || self.ending {
            return;
        }
        self.tries = self.tries.saturating_add(1);
        if self.tries > self.config.retries {
            self.failed = self.failed.saturating_add(self.tasks.clear());
            return match self.file {
                Some(_) => self.fail(now, FetchError::Lost(why), net),
                None => self.end(net),
            };
        }
        let doubled = 1_u32.checked_shl(self.tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let retry_in = BACK_OFF.saturating_mul(doubled).min(BACK_OFF_MAX);
        self.redial = Some(Deadline { at: now.mono.saturating_add(retry_in), why: "dial" });
        self.report(FetchReport::Lost { why, retry_in });
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
                match self.file.as_ref().map(|file| &file.step) {
                    None => self.next(now, net),
                    Some(Step::Asking | Step::Naming { .. }) => self.stat(now, net),
                    // The first after all were lost: is it still the same file?
                    Some(Step::Getting) if self.conns.len() == 1 => self.stat(now, net),
                    Some(Step::Proving(_)) => self.prove(now, net),
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
            (What::Get(arriving), Message::Done { .. }) => match arriving.verifier.finish() {
                Ok(()) => self.handle_done(now, net),
                Err(error) => {
                    self.give_back(&arriving);
                    self.wrong(now, id, error, net);
                }
            },
            // It is another file now: which one, is asked anew.
            (What::Get(arriving), Message::Error { code: ErrorCode::Changed, .. }) => {
                self.give_back(&arriving);
                self.lose_all(now, Lost::Ended(Some(ErrorCode::Changed)), net);
            }
            (_, Message::Error { code, .. }) => self.fail(now, FetchError::Refused(code), net),
            _ => self.lose(now, id, Lost::OutOfTurn, net),
        }
    }

    fn give_back(&mut self, arriving: &Arriving) {
        if let Some(file) = &mut self.file {
            file.todo.extend(arriving.missing());
        }
    }

    fn handle_meta(&mut self, now: Now, meta: Meta, hash: Option<Hash>, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        match (meta.kind, hash) {
            (Kind::Folder, _) if file.part.is_none() => {
                file.step = Step::Naming { pushed: 0, last: String::new() };
                self.list(now, "", net);
            }
            (Kind::File, _) if meta.size > MAX_FILE => self.fail(now, FetchError::TooLarge, net),
            (Kind::File, Some(hash)) => self.begin(now, meta.size, hash, net),
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
        if more && any {
            let last = last.clone();
            self.list(now, &last, net);
        } else {
            self.folders(now, 0, true, net);
        }
    }

    /// The server has told of a file: goes on with it, or begins.
    fn begin(&mut self, now: Now, size: u64, hash: Hash, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        if file.part.is_some() {
            if (file.size, file.hash) == (size, hash) {
                file.step = Step::Getting;
                return self.get(now, net);
            }
            file.changes = file.changes.saturating_add(1);
            if file.changes > CHANGES {
                return self.fail(now, FetchError::Changing, net);
            }
            let part = file.part.take();
            file.old.extend(part.as_ref().map(|part| part.path().clone()));
            let name = file.task.name.clone();
            self.leave(part, net);
            self.report(FetchReport::StartedAnew(name));
        }
        let Some(file) = &mut self.file else { return };
        if !core::mem::replace(&mut file.named, true) {
            if let Err(error) = self.names.insert(&file.task.local) {
                return self.fail(now, FetchError::Names(error), net);
            }
        }
        (file.size, file.hash, file.proved, file.left) = (size, hash, 0, 0);
        file.todo.clear();
        file.step = Step::Looking;
        let effect = Effect::Stat { root: self.config.root, path: path(&file.task.local) };
        file.ask(effect, net);
    }

    fn handle_body(&mut self, now: Now, id: ConnId, mut bytes: &[u8], net: &mut Net<Session>) {
        while !bytes.is_empty() {
            let (Some(file), Some(conn)) = (&mut self.file, self.conns.get_mut(&id)) else {
                return;
            };
            let Some(Asked { what: What::Get(arriving), .. }) = conn.asked.front_mut() else {
                return self.lose(now, id, Lost::OutOfTurn, net);
            };
            let before = bytes.len();
            let came = arriving.handle_bytes(&mut bytes);
            let taken = before.saturating_sub(bytes.len());
            file.received = file.received.saturating_add(taken as u64);
            match came {
                Ok(None) => {}
                Ok(Some(Proved::Hashes(nodes))) => {
                    if let Step::Proving(proving) = &mut file.step {
                        let nodes = nodes.into_iter().flatten();
                        proving.known.extend(nodes.filter(|(node, _)| {
                            node.groups() == 1 && proving.asked.contains(&node.start())
                        }));
                    }
                }
                Ok(Some(Proved::Group(node, content))) => {
                    self.handle_group(now, node, content, net);
                }
                Err(error) => return self.wrong(now, id, error, net),
            }
        }
        self.read(net);
    }

    fn handle_group(&mut self, now: Now, node: Node, content: BytesMut, net: &mut Net<Session>) {
        let Some(File { part: Some(part), .. }) = &mut self.file else { return };
        part.write(node.offset(), content.freeze(), net);
        let full = !part.has_room();
        self.tries = 0;
        let Some(file) = &mut self.file else { return };
        file.left = file.left.saturating_sub(1);
        file.proved = file.proved.saturating_add(node.len());
        if let (true, Some(file)) = (self.may_tell(now), &self.file) {
            let (name, proved, size) = (file.task.name.clone(), file.proved, file.size);
            self.report(FetchReport::Progress { name, proved, size });
        }
        if full {
            self.halt(net);
        }
    }

    /// What came is not what was told.
    fn wrong(&mut self, now: Now, id: ConnId, error: TreeError, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        file.changes = file.changes.saturating_add(1);
        if file.changes > CHANGES {
            return self.fail(now, FetchError::Wrong(error), net);
        }
        // What the others bring may be wrong as well, and the hash another by now.
        self.lost = Lost::Wrong(error);
        let _ = id;
        self.lose_all(now, Lost::Wrong(error), net);
    }

    fn handle_done(&mut self, now: Now, net: &mut Net<Session>) {
        match self.file.as_ref().map(|file| &file.step) {
            Some(Step::Proving(_)) => self.prove(now, net),
            Some(Step::Getting) => self.get(now, net),
            _ => {}
        }
    }

    // What the host says.

    fn handle_local(&mut self, now: Now, reply: &Reply<'_>, net: &mut Net<Session>) {
        let root = self.config.root;
        let Some(file) = &mut self.file else { return };
        file.request = None;
        match (&mut file.step, *reply) {
            (Step::Looking, Reply::Failed(Failure::NotFound)) => self.folders(now, 0, false, net),
            (Step::Looking, Reply::Found(metadata)) => {
                if metadata.kind != FileKind::File || metadata.len != file.size {
                    return self.taken(now, net);
                }
                let hasher = Box::new(NodeHasher::new(Node::root(file.size)));
                file.step = Step::Comparing { file: None, hasher };
                let (path, mode) = (path(&file.task.local), OpenMode::Read);
                file.ask(Effect::Open { root, path, mode }, net);
            }
            (Step::Comparing { file: opened, hasher }, Reply::Opened { file: id, .. }) => {
                *opened = Some(id);
                let effect = read(id, 0, hasher.due());
                file.ask(effect, net);
            }
            (Step::Comparing { file: Some(id), hasher }, Reply::Read(bytes)) => {
                let id = *id;
                hasher.handle_content(bytes);
                let due = hasher.due();
                if due > 0 && !bytes.is_empty() {
                    let effect = read(id, file.size.saturating_sub(due), due);
                    return file.ask(effect, net);
                }
                let same = hasher.hash() == Some(file.hash);
                file.step = Step::Confirming;
                net.release(id, None);
                if !same {
                    return self.taken(now, net);
                }
                // An attempt that died may have given it its name, and no more.
                let path = file.task.local.parent().to_owned();
                file.ask(Effect::SyncFolder { root, path }, net);
            }
            (Step::Folders { taken, only }, Reply::Done | Reply::Failed(Failure::Exists)) => {
                let (taken, only) = (taken.saturating_add(1), *only);
                self.folders(now, taken, only, net);
            }
            (Step::Confirming, Reply::Done) => self.saved(now, net),
            (Step::Tidying { turns }, Reply::Listed(entries)) => {
                let turns = turns.saturating_add(1);
                let ours = tag_of(&file.hash);
                for entry in entries {
                    let tag = file.task.local.tag_of(&entry.name).filter(|tag| *tag != ours);
                    let old = tag.and_then(|tag| file.task.local.part(tag).ok());
                    file.old.extend(old.filter(|_| entry.metadata.kind == FileKind::File));
                }
                match entries.last() {
                    Some(last) if turns < LIST_TURNS => {
                        file.step = Step::Tidying { turns };
                        let (path, after) =
                            (file.task.local.parent().to_owned(), last.name.clone());
                        file.ask(Effect::List { root, path, after }, net);
                    }
                    _ => {
                        if !file.old.is_empty() && file.changes == 0 {
                            let name = file.task.name.clone();
                            self.report(FetchReport::StartedAnew(name));
                        }
                        self.open(now, net);
                    }
                }
            }
            (Step::Opening, Reply::Opened { file: id, metadata }) if metadata.len > file.size => {
                // More than there can be: nothing of it is worth its proof.
                net.release(id, None);
                file.step = Step::Removing;
                if let Some(part) = file.part_path() {
                    file.ask(Effect::Remove { root, path: path(&part) }, net);
                }
            }
            (Step::Opening | Step::Creating, Reply::Opened { file: id, metadata }) => {
                self.opened(now, id, metadata.len, net);
            }
            (Step::Opening, Reply::Failed(Failure::NotFound)) | (Step::Removing, Reply::Done) => {
                file.step = Step::Creating;
                if let Some(part) = file.part_path() {
                    let (path, mode) = (path(&part), OpenMode::CreateNew);
                    file.ask(Effect::Open { root, path, mode }, net);
                }
            }
            (Step::Proving(proving), Reply::Read(bytes)) => {
                if let Some((node, hash)) = proving.known.pop_front() {
                    let mut hasher = NodeHasher::new(node);
                    hasher.handle_content(bytes);
                    if hasher.hash() == Some(hash) {
                        file.proved = file.proved.saturating_add(node.len());
                    } else {
                        proving.missing.add(node.start()..node.end());
                    }
                }
                self.read(net);
                self.prove(now, net);
            }
            (step, Reply::Failed(failure)) => {
                let stage = match step {
                    Step::Confirming => Stage::SyncFolder,
                    Step::Looking | Step::Comparing { .. } | Step::Tidying { .. } => Stage::Look,
                    _ => Stage::Create,
                };
                self.fail(now, FetchError::NotSaved(stage, failure), net);
            }
            _ => {
                let why = FetchError::NotSaved(Stage::Look, Failure::Unsupported);
                self.fail(now, why, net);
            }
        }
    }

    /// There is something of that name, and not this content.
    fn taken(&mut self, now: Now, net: &mut Net<Session>) {
        if self.config.replace {
            self.folders(now, 0, false, net);
        } else {
            let why = FetchError::NotSaved(Stage::Look, Failure::Exists);
            self.fail(now, why, net);
        }
    }

    /// Makes the folders of a name, all of it if it is a folder itself, and makes their names
    /// durable; the first `taken` steps of that are taken.
    fn folders(&mut self, now: Now, taken: usize, only: bool, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        let local = file.task.local.as_str();
        let folder = if only { local } else { file.task.local.parent() };
        let root = self.config.root;
        if folder != self.made {
            // Each is made, and then its name in the one above: two steps.
            let ends = folder.match_indices('/').map(|(at, _)| at);
            let mut ends = ends.chain((!folder.is_empty()).then_some(folder.len()));
            let next = ends.nth(taken / 2).and_then(|end| folder.get(..end)).map(ToOwned::to_owned);
            if let Some(path) = next {
                file.step = Step::Folders { taken, only };
                let above = path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
                return match taken % 2 {
                    0 => file.ask(Effect::CreateFolder { root, path }, net),
                    _ => file.ask(Effect::SyncFolder { root, path: above }, net),
                };
            }
            self.made = folder.to_owned();
        }
        if only {
            self.file = None;
            return self.next(now, net);
        }
        file.step = Step::Tidying { turns: 0 };
        let path = file.task.local.parent().to_owned();
        file.ask(Effect::List { root, path, after: String::new() }, net);
    }

    fn open(&mut self, now: Now, net: &mut Net<Session>) {
        let root = self.config.root;
        let Some(file) = &mut self.file else { return };
        file.step = Step::Opening;
        match file.part_path() {
            Some(part) => {
                let (path, mode) = (path(&part), OpenMode::Update);
                file.ask(Effect::Open { root, path, mode }, net);
            }
            None => {
                let why = FetchError::NotSaved(Stage::Create, Failure::Unsupported);
                self.fail(now, why, net);
            }
        }
    }

    /// The partial file is open and holds so many bytes.
    fn opened(&mut self, now: Now, id: FileId, len: u64, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        let top = Node::root(file.size);
        let whole = len == file.size;
        let groups = if whole { top.groups() } else { len.checked_div(GROUP).unwrap_or(0) };
        let mut proving = Proving {
            file: id,
            groups,
            asked: 0..0,
            known: VecDeque::new(),
            missing: Ranges::none(file.size),
        };
        proving.missing.add(groups..u64::MAX);
        if groups == 1 && top.groups() == 1 {
            // The one hash is known. Of an empty file too: nothing is read, and that is hashed.
            proving.asked = 0..1;
            proving.known.push_back((top, file.hash));
        }
        file.step = Step::Proving(proving);
        self.read(net);
        self.prove(now, net);
    }

    /// Reads the next group of the partial file whose hash is known.
    fn read(&mut self, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        let Step::Proving(proving) = &file.step else { return };
        let Some((node, _)) = proving.known.front().filter(|_| file.request.is_none()) else {
            return;
        };
        let effect = read(proving.file, node.offset(), node.len());
        file.ask(effect, net);
    }

    /// Asks for the hashes of the next groups, or gets what turned out to be missing.
    fn prove(&mut self, now: Now, net: &mut Net<Session>) {
        let (tag, main) = (self.tag(), self.main());
        let waits = self.conns.values().any(|conn| !conn.asked.is_empty());
        let Some(file) = &mut self.file else { return };
        let Step::Proving(proving) = &mut file.step else { return };
        if !proving.known.is_empty() || file.request.is_some() || waits {
            return;
        }
        if proving.asked.end < proving.groups {
            let Some(main) = main else { return };
            let from = proving.asked.end;
            proving.asked = from..from.saturating_add(PROVED).min(proving.groups);
            let mut ranges = Ranges::none(file.size);
            ranges.add(proving.asked.clone());
            let (hash, size, name) = (file.hash, file.size, file.task.name.clone());
            let list = RangeBytes::new(ranges.bytes());
            let arriving = Arriving::hashes(hash, ranges);
            let (content, name, ranges) = (false, name.as_str(), list.list());
            let get = Get { tag, content, hash, size, name, ranges };
            return self.ask(now, main, What::Get(Box::new(arriving)), &Message::Get(get), net);
        }
        let id = proving.file;
        file.todo = proving.missing.groups().iter().cloned().collect();
        file.left = file
            .todo
            .iter()
            .fold(0, |left: u64, range| left.saturating_add(range.end.saturating_sub(range.start)));
        // What is missing may be a little more than what was found wrong.
        file.proved = file.size.saturating_sub(proving.missing.content());
        file.step = Step::Getting;
        let Some(part) = file.part_path() else { return };
        let (root, local) = (self.config.root, file.task.local.clone());
        let tags = self.seed.stream(0);
        file.part = Some(Part::resume(root, local, self.config.replace, part, id, tags));
        let (name, size, resumed) = (file.task.name.clone(), file.size, file.proved);
        self.report(FetchReport::Begun { name, size, resumed });
        self.get(now, net);
    }

    /// Asks for what is missing, over all connections; saves the file if nothing is.
    fn get(&mut self, now: Now, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        if !matches!(file.step, Step::Getting) || self.paused {
            return;
        }
        if file.left == 0 {
            file.step = Step::Saving;
            if let Some(part) = &mut file.part {
                part.finish(net);
            }
            return;
        }
        let pieces = file.todo.iter().fold(0, |sum: u64, range| {
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
        let Some(file) = &mut self.file else { return };
        let mut ranges = Ranges::none(file.size);
        let mut room = PIECE;
        while let Some(range) = file.todo.pop_front().filter(|_| room > 0) {
            let end = range.end.min(range.start.saturating_add(room));
            room = room.saturating_sub(end.saturating_sub(range.start));
            ranges.add(range.start..end);
            if end < range.end {
                file.todo.push_front(end..range.end);
                break;
            }
            if room == 0 {
                break;
            }
        }
        if ranges.is_empty() {
            return;
        }
        let (hash, size, name) = (file.hash, file.size, file.task.name.clone());
        let list = RangeBytes::new(ranges.bytes());
        let arriving = Arriving::content(hash, ranges);
        let (content, name, ranges) = (true, name.as_str(), list.list());
        let get = Get { tag, content, hash, size, name, ranges };
        self.ask(now, id, What::Get(Box::new(arriving)), &Message::Get(get), net);
    }
}

impl File {
    fn new(task: Task) -> Self {
        Self {
            task,
            step: Step::Asking,
            request: None,
            size: 0,
            hash: Hash([0; 32]),
            part: None,
            todo: VecDeque::new(),
            left: 0,
            proved: 0,
            received: 0,
            changes: 0,
            named: false,
            old: BTreeSet::new(),
        }
    }

    fn ask(&mut self, effect: Effect, net: &mut Net<Session>) {
        self.request = Some(net.request(effect));
    }

    /// Where it is written before it is whole: each content has a place of its own.
    fn part_path(&self) -> Option<SafeName> {
        self.task.local.part(tag_of(&self.hash)).ok()
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
        let why = match why {
            Closed::Failed(failure) => Lost::Failed(failure),
            Closed::Error(error) => Lost::Protocol(error),
            _ => Lost::Ended(code),
        };
        self.lose(now, conn, why, net);
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Session>) {
        let mut left = None;
        for (at, part) in self.leaving.iter_mut().enumerate() {
            if let Some(PartEvent::Left | PartEvent::Failed(..)) =
                part.handle_reply(id, &reply, net)
            {
                left = Some(at);
            }
        }
        if let Some(at) = left {
            self.leaving.remove(at);
            if self.ending {
                self.end(net);
            }
        }
        let Some(file) = &mut self.file else { return };
        if file.request == Some(id) {
            return self.handle_local(now, &reply, net);
        }
        let event = file.part.as_mut().and_then(|part| part.handle_reply(id, &reply, net));
        match event {
            Some(PartEvent::Saved) => self.saved(now, net),
            Some(PartEvent::Failed(stage, failure)) => {
                self.fail(now, FetchError::NotSaved(stage, failure), net);
            }
            Some(PartEvent::Ready | PartEvent::Room) => {
                self.heard = now.mono;
                self.go(net);
                self.get(now, net);
            }
            Some(PartEvent::Left) | None => {}
        }
    }

    fn handle_message(&mut self, now: Now, message: FetchMessage, net: &mut Net<Session>) {
        match message {
            FetchMessage::Interrupt => {
                self.failed = self.failed.saturating_add(self.tasks.clear());
                match &self.file {
                    // It is whole, and soon has its name.
                    Some(File { step: Step::Saving, .. }) => {}
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

/// What comes of a GET.
#[derive(Debug)]
struct Arriving {
    ranges: Ranges,
    verifier: Verifier,
    /// The beginning of a pair, or of a group.
    held: BytesMut,
    /// The first group that is not proved.
    next: u64,
}

/// What a stream has proved.
#[derive(Debug)]
enum Proved {
    Hashes(Beside),
    Group(Node, BytesMut),
}

impl Arriving {
    fn content(hash: Hash, ranges: Ranges) -> Self {
        let verifier = Verifier::new(hash, ranges.clone());
        Self { ranges, verifier, held: BytesMut::new(), next: 0 }
    }

    fn hashes(hash: Hash, ranges: Ranges) -> Self {
        let verifier = Verifier::hashes(hash, ranges);
        let ranges = Ranges::none(0);
        Self { ranges, verifier, held: BytesMut::new(), next: 0 }
    }

    /// Takes some of `bytes`, at most up to what is then proved.
    fn handle_bytes(&mut self, bytes: &mut &[u8]) -> Result<Option<Proved>, TreeError> {
        let due = match self.verifier.due() {
            Due::Pair => PAIR.saturating_sub(self.held.len()),
            Due::Content { len, .. } => usize::try_from(len).unwrap_or(usize::MAX),
            Due::End => return Err(TreeError::TooLong),
        };
        let (taken, rest) = bytes.split_at_checked(due).unwrap_or((bytes, &[]));
        *bytes = rest;
        self.held.extend_from_slice(taken);
        if let Due::Content { .. } = self.verifier.due() {
            let Some(node) = self.verifier.handle_content(taken)? else { return Ok(None) };
            self.next = node.end();
            return Ok(Some(Proved::Group(node, self.held.split())));
        }
        let Some(pair) = self.held.first_chunk::<PAIR>() else { return Ok(None) };
        let beside = self.verifier.handle_pair(pair)?;
        self.held.clear();
        Ok(Some(Proved::Hashes(beside)))
    }

    /// Groups that did not come.
    fn missing(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let clipped =
            self.ranges.groups().iter().map(|range| range.start.max(self.next)..range.end);
        clipped.filter(|range| range.start < range.end)
    }
}

/// For names that were judged before.
const ANY: Policy = Policy { dot_names: true, hyphen: true };

/// Which content a partial file is meant for; that it holds it is not believed.
fn tag_of(hash: &Hash) -> u16 {
    let [a, b, ..] = hash.0;
    u16::from_be_bytes([a, b])
}

fn path(name: &SafeName) -> String {
    name.as_str().into()
}

fn read(file: FileId, offset: u64, len: u64) -> Effect {
    let len = u32::try_from(len).map_or(READ, |len| len.min(READ));
    Effect::Read { file, offset, len }
}
