//! Files and folders to a framed server that takes them, resumed where they were cut.
//!
//! Of each file, in this order:
//!
//! | step | asks | what for |
//! |---|---|---|
//! | Looking | the host | whether it is a file, or a folder whose files come next |
//! | Hashing | the host | size and hash; the server is told WAIT, so that it waits |
//! | Ready | | the connection, or the pause after a server was busy |
//! | Offered | the server: PUT | what it lacks: its GETs are answered until PUT is |
//! | | the server: FOLDER | of an empty folder: that it is made |
//!
//! What the server holds already, and how much of that is right, it finds out by itself. A file
//! that changes while it is sent is found out by either side, hashed again and offered anew. So is
//! each file after a broken connection, which costs nothing if it is as it was.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Entry, Failure, FileKind, Instant, Net, Now, Peer, Reply,
    RequestId, RootId, Service, Target,
};
use semfio_path::{NameError, Names, NamesError, Policy, SafeName, is_part};

use crate::fetch::{ANY, CHANGES, Lost, PROGRESS, SILENT};
use crate::sealing::{Secret, session};
use crate::serving::{Outcome, Serving, Shared};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::tree::Hash;
use crate::wire::{ErrorCode, Get, Message};

/// What an [`Upload`] sends, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// The server.
    pub target: Target,
    /// Files and folders.
    pub items: Vec<UploadItem>,
    /// Whether a file of a name with other content is replaced on the server.
    pub replace: bool,
    /// Which names in a folder are sent; others fail.
    pub policy: Policy,
    /// How often in a row it tries to come back, or waits for a busy server. 10 are about a minute
    /// and a half.
    pub retries: u32,
}

/// A file or folder that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadItem {
    /// The folder it is in.
    pub root: RootId,
    /// Its name there.
    pub local: SafeName,
    /// Its name on the server.
    pub name: SafeName,
}

/// What an application tells an [`Upload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadMessage {
    /// Stop; the server keeps what it has.
    Interrupt,
}

/// What an [`Upload`] tells its application. Names are those on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadReport {
    /// The file is hashed first: so many bytes of so many.
    Hashing(SafeName, u64, u64),
    /// The file has changed since it was offered, and starts anew.
    StartedAnew(SafeName),
    /// Content begins to go.
    Begun {
        /// Which file.
        name: SafeName,
        /// In bytes.
        size: u64,
        /// Bytes of an earlier attempt that the server has proved.
        resumed: u64,
    },
    /// The server has proved so many bytes.
    Progress {
        /// Which file.
        name: SafeName,
        /// These.
        proved: u64,
        /// Of these.
        size: u64,
    },
    /// The server has it, durable under its name.
    Done {
        /// Which file.
        name: SafeName,
        /// In bytes.
        size: u64,
        /// Its BLAKE3.
        hash: Hash,
        /// Bytes of content that were sent.
        sent: u64,
    },
    /// It is not there; others go on.
    Failed {
        /// Which file or folder; of a name that cannot be told, the folder it is in.
        name: SafeName,
        /// Why.
        why: UploadError,
    },
    /// An empty folder is there.
    Made(SafeName),
    /// The connection broke, or the server is busy; it tries again.
    Lost {
        /// Why.
        why: Lost,
        /// After this pause.
        retry_in: Duration,
    },
    /// There is no connection, or none any more, or the server stays busy: what is not done by now
    /// is not.
    Unreachable(Lost),
    /// It is over.
    Over {
        /// Files that are there.
        done: usize,
        /// Files and folders that are not.
        failed: usize,
    },
}

/// Why a file is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadError {
    /// The server says so.
    Refused(ErrorCode),
    /// It cannot be found or listed.
    NotFound(Failure),
    /// It cannot be read.
    Unreadable(ErrorCode),
    /// It is neither a file nor a folder.
    WrongKind,
    /// It changed again and again, or arrives changed.
    Changing,
    /// A folder holds a name that is not safe: this one.
    Name(String, NameError),
    /// Two names are one, on some file systems.
    Names(NamesError),
    /// The connection is gone, and did not come back.
    Lost(Lost),
    /// By [`UploadMessage::Interrupt`].
    Interrupted,
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => code.fmt(f),
            Self::NotFound(failure) => failure.fmt(f),
            Self::Unreadable(code) => write!(f, "it cannot be read: {code}"),
            Self::WrongKind => f.write_str("it is neither a file nor a folder"),
            Self::Changing => f.write_str("it changes while it is sent"),
            // Escaped, as it may be anything.
            Self::Name(name, error) => write!(f, "{name:?}: {error}"),
            Self::Names(error) => error.fmt(f),
            Self::Lost(lost) => lost.fmt(f),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl core::error::Error for UploadError {}

/// Files and folders, sent: a [`Service`] over [`Session`]s.
#[derive(Debug)]
pub struct Upload {
    config: UploadConfig,
    secret: Option<Secret>,
    items: VecDeque<UploadItem>,
    names: Names,
    /// Folders that are walked, the innermost last.
    walk: Vec<Folder>,
    /// What comes next in the innermost.
    page: VecDeque<Entry>,
    file: Option<File>,
    /// What the host was asked while no file is at work.
    listing: Option<RequestId>,
    shared: Shared,
    conn: Option<ConnId>,
    ready: bool,
    code: Option<ErrorCode>,
    next_tag: u32,
    tries: u32,
    /// There was a server once.
    greeted: bool,
    /// The end of a pause.
    retry: Option<Deadline>,
    heard: Instant,
    /// What waited to be sent when last looked at.
    queued: u64,
    told: Instant,
    done: usize,
    failed: usize,
    over: bool,
    reports: VecDeque<UploadReport>,
}

#[derive(Debug)]
struct Folder {
    item: UploadItem,
    /// Names up to and with this one are done.
    after: String,
}

/// The one file that is at work.
#[derive(Debug)]
struct File {
    item: UploadItem,
    step: Step,
    /// It is an empty folder.
    folder: bool,
    serving: Serving,
    /// Of PUT.
    tag: u32,
    size: u64,
    modified: u64,
    hash: Option<Hash>,
    /// The most the server has proved, so far.
    proved: u64,
    begun: bool,
    sent: u64,
    changes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Looking(RequestId),
    Hashing,
    Ready,
    Offered,
}

impl Upload {
    /// An upload that dials when the host first calls `handle_timeout`, which is due at once.
    pub fn new(config: UploadConfig) -> Self {
        let shared = Shared::new(RootId(0), ANY);
        Self {
            items: config.items.iter().cloned().collect(),
            config,
            secret: None,
            names: Names::default(),
            walk: Vec::new(),
            page: VecDeque::new(),
            file: None,
            listing: None,
            shared,
            conn: None,
            ready: false,
            code: None,
            next_tag: 1,
            tries: 0,
            greeted: false,
            retry: Some(Deadline { at: Instant::default(), why: "dial" }),
            heard: Instant::default(),
            queued: 0,
            told: Instant::default(),
            done: 0,
            failed: 0,
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

    fn report(&mut self, report: UploadReport) {
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
        self.conn = Some(conn);
        if let Some(file) = &mut self.file {
            file.serving.reconnect(conn, net);
        }
    }

    /// Goes on to the next file, or ends.
    fn next(&mut self, net: &mut Net<Session>) {
        while self.file.is_none() && self.listing.is_none() && self.ready && !self.over {
            if let (Some(entry), Some(folder)) = (self.page.pop_front(), self.walk.last_mut()) {
                folder.after.clone_from(&entry.name);
                let item = folder.item.clone();
                self.enter(&item, &entry, net);
            } else if let Some(folder) = self.walk.last() {
                let (root, path) = (folder.item.root, folder.item.local.as_str().to_owned());
                let after = folder.after.clone();
                self.listing = Some(net.request(Effect::List { root, path, after }));
            } else if let Some(item) = self.items.pop_front() {
                let (root, path) = (item.root, item.local.as_str().to_owned());
                match self.names.insert(&item.name) {
                    Ok(()) => {
                        let step = Step::Looking(net.request(Effect::Stat { root, path }));
                        self.begin(item, step);
                    }
                    Err(error) => self.fail(item.name, UploadError::Names(error)),
                }
            } else {
                self.end(false, net);
            }
        }
    }

    /// What a folder holds: a file that is sent next, or another folder.
    fn enter(&mut self, folder: &UploadItem, entry: &Entry, net: &mut Net<Session>) {
        if is_part(&entry.name) {
            return;
        }
        let joined = SafeName::parse(&entry.name, self.config.policy)
            .and_then(|part| Ok((folder.local.join(&part)?, folder.name.join(&part)?)));
        let (local, name) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                let why = UploadError::Name(entry.name.clone(), error);
                return self.fail(folder.name.clone(), why);
            }
        };
        let item = UploadItem { root: folder.root, local, name };
        match entry.metadata.kind {
            FileKind::File => {
                self.begin(item, Step::Hashing);
                self.hash(net);
            }
            FileKind::Folder => {
                // What is left of this page is listed again: there is one page at a time.
                self.page.clear();
                self.walk.push(Folder { item, after: String::new() });
            }
            FileKind::Other => self.fail(item.name, UploadError::WrongKind),
        }
    }

    fn begin(&mut self, item: UploadItem, step: Step) {
        let Some(conn) = self.conn else { return };
        self.file = Some(File {
            item,
            step,
            folder: false,
            serving: Serving::new(conn, self.secret.is_some()),
            tag: 0,
            size: 0,
            modified: 0,
            hash: None,
            proved: 0,
            begun: false,
            sent: 0,
            changes: 0,
        });
    }

    /// Finds out what the file is, or whether it still is what it was.
    fn hash(&mut self, net: &mut Net<Session>) {
        let Some(file) = self.file.as_mut().filter(|file| !file.folder) else { return };
        file.step = Step::Hashing;
        file.tag = self.next_tag;
        self.next_tag = self.next_tag.checked_add(1).unwrap_or(1);
        // Nothing is kept from file to file: each is read once.
        let (root, policy) = (file.item.root, ANY);
        self.shared = Shared::new(root, policy);
        file.serving.offer(file.tag, file.item.local.clone(), &self.shared, net);
    }

    fn handle_outcome(&mut self, now: Now, outcome: Option<Outcome>, net: &mut Net<Session>) {
        let (Some(outcome), Some(file)) = (outcome, &mut self.file) else { return };
        let name = file.item.name.clone();
        match outcome {
            Outcome::Known { size, modified, hash } => {
                (file.size, file.modified) = (size, modified);
                let former = file.hash.replace(hash);
                file.step = Step::Ready;
                if former.is_some_and(|former| former != hash) {
                    (file.proved, file.begun) = (0, false);
                    file.changes = file.changes.saturating_add(1);
                    if file.changes > CHANGES {
                        return self.give_up(UploadError::Changing, net);
                    }
                    self.report(UploadReport::StartedAnew(name));
                }
                self.offer(now, net);
            }
            Outcome::Hashing { done, of } => {
                self.report(UploadReport::Hashing(name, done, of));
            }
            Outcome::Sent { bytes, .. } => file.sent = file.sent.saturating_add(bytes),
            Outcome::Refused(code) if file.step == Step::Hashing => {
                self.give_up(UploadError::Unreadable(code), net);
            }
            // The server answers PUT accordingly.
            Outcome::Refused(_) | Outcome::Taken { .. } | Outcome::Removed { .. } => {}
        }
    }

    fn offer(&mut self, now: Now, net: &mut Net<Session>) {
        let (Some(conn), Some(file)) = (self.conn, &mut self.file) else { return };
        let (Step::Ready, true, None) = (file.step, self.ready, self.retry) else { return };
        file.step = Step::Offered;
        self.heard = now.mono;
        if file.folder {
            file.tag = self.next_tag;
            self.next_tag = self.next_tag.checked_add(1).unwrap_or(1);
            let message = Message::Folder { tag: file.tag, name: file.item.name.as_str() };
            // Refused only if it is gone, which is told in another way.
            let _ = net.send(conn, SessionCommand::Message(&message));
            return;
        }
        let Some(hash) = file.hash else { return };
        let (tag, size, modified) = (file.tag, file.size, file.modified);
        let (replace, name) = (self.config.replace, file.item.name.as_str());
        let message = Message::Put { tag, replace, size, modified, hash, name };
        // Refused only if it is gone, which is told in another way.
        let _ = net.send(conn, SessionCommand::Message(&message));
    }

    /// After a pause: a file may have changed meanwhile.
    fn offer_again(&mut self, now: Now, net: &mut Net<Session>) {
        match &self.file {
            Some(File { step: Step::Ready, folder: true, .. }) => self.offer(now, net),
            Some(File { step: Step::Ready, .. }) => self.hash(net),
            _ => {}
        }
    }

    fn fail(&mut self, name: SafeName, why: UploadError) {
        self.failed = self.failed.saturating_add(1);
        self.report(UploadReport::Failed { name, why });
    }

    /// Gives the present file up; the next one begins.
    fn give_up(&mut self, why: UploadError, net: &mut Net<Session>) {
        if let Some(mut file) = self.file.take() {
            if let Step::Looking(request) = file.step {
                net.cancel(request);
            }
            file.serving.close(net);
            self.fail(file.item.name, why);
        }
        self.next(net);
    }

    /// Gives all up that is not done.
    fn give_all_up(&mut self, why: UploadError, net: &mut Net<Session>) {
        self.ready = false;
        let offered = self.file.as_ref().is_some_and(|file| file.step == Step::Offered);
        // A folder that was begun is one that fails, unless a file of it does.
        let folder = self.walk.first().map(|folder| folder.item.name.clone());
        if let Some(name) = folder.filter(|_| self.file.is_none()) {
            self.fail(name, why.clone());
        }
        self.walk.clear();
        self.page.clear();
        if let Some(listing) = self.listing.take() {
            net.cancel(listing);
        }
        self.give_up(why.clone(), net);
        for item in core::mem::take(&mut self.items) {
            self.fail(item.name, why.clone());
        }
        self.end(offered, net);
    }

    fn end(&mut self, offered: bool, net: &mut Net<Session>) {
        if core::mem::replace(&mut self.over, true) {
            return;
        }
        self.retry = None;
        self.report(UploadReport::Over { done: self.done, failed: self.failed });
        match self.conn.take() {
            // What is on its way would take its time.
            Some(conn) if offered => net.abort(conn),
            Some(conn) => net.close(conn),
            None => {}
        }
        net.stop();
    }

    /// The connection is of no more use.
    fn lose(&mut self, now: Now, why: Lost, net: &mut Net<Session>) {
        let Some(conn) = self.conn.take() else { return };
        net.abort(conn);
        self.ready = false;
        self.code = None;
        if let Some(file) = &mut self.file {
            file.serving.reconnect(conn, net);
            if file.step == Step::Offered {
                file.step = Step::Ready;
            }
        }
        self.pause(now, why, net);
    }

    /// Tries again after a while, unless it did so too often.
    fn pause(&mut self, now: Now, why: Lost, net: &mut Net<Session>) {
        self.tries = self.tries.saturating_add(1);
        let Some(retry_in) = why.retry_in(self.tries, self.config.retries, self.greeted) else {
            self.report(UploadReport::Unreachable(why));
            return self.give_all_up(UploadError::Lost(why), net);
        };
        self.retry = Some(Deadline { at: now.mono.saturating_add(retry_in), why: "retry" });
        self.report(UploadReport::Lost { why, retry_in });
    }

    fn handle_message(&mut self, now: Now, message: Message<'_>, net: &mut Net<Session>) {
        let offered = self.file.as_ref().filter(|file| file.step == Step::Offered);
        let tag = offered.map(|file| file.tag);
        match message {
            Message::Welcome { writable: false, .. } => {
                self.give_all_up(UploadError::Refused(ErrorCode::ReadOnly), net);
            }
            Message::Welcome { .. } => {
                (self.ready, self.greeted) = (true, true);
                match self.file.as_ref().map(|file| file.step) {
                    None => self.next(net),
                    Some(Step::Ready) => self.offer_again(now, net),
                    Some(_) => {}
                }
            }
            Message::Error { tag: 0, code, .. } => self.code = Some(code),
            Message::Get(get) if tag.is_some() => self.handle_get(now, get, net),
            Message::Cancel { .. } => {
                if let Some(file) = &mut self.file {
                    let outcome = file.serving.handle_message(message, &mut self.shared, net);
                    self.handle_outcome(now, outcome, net);
                }
            }
            Message::Wait { tag: of, done, .. } if Some(of) == tag => self.proved(now, done),
            Message::Done { tag: of, hash } if Some(of) == tag => {
                let right = |file: &File| {
                    (file.folder || file.hash == Some(hash)) && !file.serving.is_answering()
                };
                let Some(file) = self.file.take_if(|file| right(file)) else {
                    return self.lose(now, Lost::OutOfTurn, net);
                };
                let File { item, size, sent, mut serving, folder, .. } = file;
                serving.close(net);
                self.tries = 0;
                if folder {
                    self.report(UploadReport::Made(item.name));
                    return self.next(net);
                }
                self.done = self.done.saturating_add(1);
                self.report(UploadReport::Done { name: item.name, size, hash, sent });
                self.next(net);
            }
            Message::Error { tag: of, code, .. } if Some(of) == tag => {
                self.refused(now, code, net);
            }
            // Of a PUT that is over already, or of none.
            Message::Wait { .. } => {}
            _ => self.lose(now, Lost::OutOfTurn, net),
        }
    }

    fn handle_get(&mut self, now: Now, get: Get<'_>, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        let UploadItem { local, name, .. } = file.item.clone();
        if get.name != name.as_str() || Some(get.hash) != file.hash {
            return self.lose(now, Lost::OutOfTurn, net);
        }
        if get.content && !core::mem::replace(&mut file.begun, true) {
            let (size, resumed) = (file.size, file.proved);
            self.report(UploadReport::Begun { name, size, resumed });
        }
        let Some(file) = &mut self.file else { return };
        let message = Message::Get(Get { name: local.as_str(), ..get });
        let outcome = file.serving.handle_message(message, &mut self.shared, net);
        self.handle_outcome(now, outcome, net);
    }

    fn proved(&mut self, now: Now, proved: u64) {
        let tells = self.may_tell(now);
        let Some(file) = &mut self.file else { return };
        if proved > file.proved {
            // It goes on, however often the connection breaks.
            file.proved = proved;
            self.tries = 0;
        }
        if tells && file.begun {
            let (name, size) = (file.item.name.clone(), file.size);
            self.report(UploadReport::Progress { name, proved, size });
        }
    }

    fn refused(&mut self, now: Now, code: ErrorCode, net: &mut Net<Session>) {
        let Some(file) = &mut self.file else { return };
        if file.serving.is_answering() {
            // It did not cancel what it asked for.
            return self.lose(now, Lost::OutOfTurn, net);
        }
        match code {
            ErrorCode::Busy => {
                file.step = Step::Ready;
                self.pause(now, Lost::Ended(Some(code)), net);
            }
            ErrorCode::Changed | ErrorCode::Mismatch if !file.folder => {
                file.changes = file.changes.saturating_add(1);
                if file.changes > CHANGES {
                    return self.give_up(UploadError::Changing, net);
                }
                self.hash(net);
            }
            _ => self.give_up(UploadError::Refused(code), net),
        }
    }

    fn handle_listed(&mut self, now: Now, reply: &Reply<'_>, net: &mut Net<Session>) {
        self.listing = None;
        let Some(folder) = self.walk.last() else { return };
        let name = folder.item.name.clone();
        match *reply {
            // It is listed again once there is a connection.
            Reply::Listed(_) if !self.ready => return,
            Reply::Listed([]) => {
                let empty = self.walk.pop().filter(|folder| folder.after.is_empty());
                if let Some(Folder { item, .. }) = empty {
                    self.begin(item, Step::Ready);
                    if let Some(file) = &mut self.file {
                        file.folder = true;
                    }
                    return self.offer(now, net);
                }
            }
            Reply::Listed(entries) => self.page = entries.iter().cloned().collect(),
            Reply::Failed(failure) => {
                self.walk.pop();
                self.fail(name, UploadError::NotFound(failure));
            }
            _ => {
                self.walk.pop();
                self.fail(name, UploadError::WrongKind);
            }
        }
        self.next(net);
    }

    fn handle_looked(&mut self, reply: &Reply<'_>, net: &mut Net<Session>) {
        match *reply {
            Reply::Found(metadata) => match metadata.kind {
                FileKind::File => self.hash(net),
                FileKind::Folder => {
                    if let Some(file) = self.file.take() {
                        self.walk.push(Folder { item: file.item, after: String::new() });
                    }
                    self.next(net);
                }
                FileKind::Other => self.give_up(UploadError::WrongKind, net),
            },
            Reply::Failed(failure) => self.give_up(UploadError::NotFound(failure), net),
            _ => self.give_up(UploadError::WrongKind, net),
        }
    }
}

impl Service<Session> for Upload {
    type Message = UploadMessage;
    type Report = UploadReport;

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
        if self.conn != Some(from) {
            return;
        }
        self.heard = now.mono;
        match event {
            SessionEvent::Message(message) => self.handle_message(now, message, net),
            // Nothing was asked for.
            SessionEvent::Body(_) => self.lose(now, Lost::OutOfTurn, net),
            // Said to servers only.
            SessionEvent::Asked(_)
            | SessionEvent::Sent
            | SessionEvent::Hinted
            | SessionEvent::Agreeing
            | SessionEvent::Greeted => {}
        }
    }

    fn handle_room(&mut self, now: Now, _: ConnId, net: &mut Net<Session>) {
        if let Some(file) = &mut self.file {
            let outcome = file.serving.handle_room(net);
            self.handle_outcome(now, outcome, net);
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        if self.conn == Some(conn) {
            self.lose(now, Lost::of(why, self.code), net);
        }
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Session>) {
        if self.listing == Some(id) {
            return self.handle_listed(now, &reply, net);
        }
        let Some(file) = &mut self.file else { return };
        if file.step == Step::Looking(id) {
            return self.handle_looked(&reply, net);
        }
        if file.serving.request() == Some(id) {
            let outcome = file.serving.handle_reply(now, &reply, &mut self.shared, net);
            self.handle_outcome(now, outcome, net);
        }
    }

    fn handle_message(&mut self, _: Now, message: UploadMessage, net: &mut Net<Session>) {
        match message {
            UploadMessage::Interrupt => self.give_all_up(UploadError::Interrupted, net),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let waits = self.file.as_ref().is_some_and(|file| file.step == Step::Offered);
        let silent = Deadline { at: self.heard.saturating_add(SILENT), why: "silent" };
        Deadline::earlier(self.retry, waits.then_some(silent))
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        if self.retry.is_some_and(|retry| retry.at <= now.mono) {
            self.retry = None;
            if self.conn.is_none() {
                self.dial(net);
            } else {
                self.offer_again(now, net);
            }
        } else if now.mono.saturating_since(self.heard) >= SILENT {
            let queued = self.conn.map_or(0, |conn| net.queued(conn));
            if core::mem::replace(&mut self.queued, queued) == queued {
                return self.lose(now, Lost::Silent, net);
            }
            // What is sent goes on being taken.
            self.heard = now.mono;
        }
    }

    fn poll_report(&mut self) -> Option<UploadReport> {
        self.reports.pop_front()
    }
}
