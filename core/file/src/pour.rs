//! One file from a framed server, told in order as it is proved: for a pipe, which has no place
//! to resume in.
//!
//! Each group is proved before it is told, so whoever reads never has a wrong byte, only too few.
//! At most [`WINDOW`] bytes wait to be taken; then the server has to wait.
//!
//! | step | asks the server | on | becomes |
//! |---|---|---|---|
//! | Dialling | (its greeting) | WELCOME | Asking |
//! | Asking | STAT | META, the first one or the same again | Getting |
//! | Asking | | META of another content, when some is told already | over |
//! | Getting | GET, two pieces ahead | a proved group | Getting, `Content` is told |
//! | Getting | | all of it | over |
//! | any | | the connection is lost | Dialling, after a pause |

use alloc::collections::VecDeque;
use bytes::Bytes;
use core::time::Duration;
use semfio_machine::{Closed, ConnId, Deadline, Instant, Net, Now, Peer, Service, Target};
use semfio_path::SafeName;

use crate::arrival::{Proved, Stream, Want};
use crate::fetch::{AHEAD, CHANGES, FetchError, Lost, PIECE, SILENT};
use crate::sealing::{Secret, session};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::tree::{Hash, MAX_FILE, Node, NodeHasher, Ranges, TreeError};
use crate::wire::{ErrorCode, Get, Kind, Message, Meta, RangeBytes};

/// Bytes that may be told and not be taken: the longest a pipe may make us hold.
pub const WINDOW: u64 = 1024 * 1024;

/// What a [`Pour`] pours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PourConfig {
    /// The server.
    pub target: Target,
    /// The file.
    pub name: SafeName,
    /// How often in a row it tries to come back.
    pub retries: u32,
}

/// What an application tells a [`Pour`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PourMessage {
    /// So many bytes of what was told are taken.
    Taken(u64),
    /// Stop.
    Interrupt,
}

/// What a [`Pour`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PourReport {
    /// The server hashes the file first: so many bytes of so many.
    Hashing(u64, u64),
    /// Content begins to come: of a file of so many bytes.
    Begun(u64),
    /// The next bytes, proved; to be answered with [`PourMessage::Taken`].
    Content(Bytes),
    /// The connection broke; it tries again.
    Lost {
        /// Why.
        why: Lost,
        /// After this pause.
        retry_in: Duration,
    },
    /// It is over.
    Over(PourOutcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PourOutcome {
    /// All of it was told.
    Whole {
        /// In bytes.
        size: u64,
        /// Its BLAKE3.
        hash: Hash,
        /// Bytes of content and hashes that came for it.
        received: u64,
    },
    /// Not all of it was told.
    Failed {
        /// Why.
        why: FetchError,
        /// So many bytes were.
        told: u64,
    },
}

/// A file, poured out: a [`Service`] over one [`Session`] at a time. It dials when the host first
/// calls `handle_timeout`, which is due at once.
#[derive(Debug)]
pub struct Pour {
    config: PourConfig,
    secret: Option<Secret>,
    conn: Option<ConnId>,
    /// GETs that are not answered, in their order.
    asked: VecDeque<(u32, Stream)>,
    next_tag: u32,
    file: Option<(u64, Hash)>,
    /// The first group that is not asked for.
    next: u64,
    /// The first that is not proved.
    proved: u64,
    /// Bytes that were told.
    told: u64,
    /// Of these, not taken.
    waiting: u64,
    received: u64,
    paused: bool,
    greeted: bool,
    tries: u32,
    wrong: u32,
    code: Option<ErrorCode>,
    timer: Option<Deadline>,
    over: bool,
    reports: VecDeque<PourReport>,
}

impl Pour {
    /// One that has not begun.
    pub fn new(config: PourConfig) -> Self {
        Self {
            config,
            secret: None,
            conn: None,
            asked: VecDeque::new(),
            next_tag: 1,
            file: None,
            next: 0,
            proved: 0,
            told: 0,
            waiting: 0,
            received: 0,
            paused: false,
            greeted: false,
            tries: 0,
            wrong: 0,
            code: None,
            timer: Some(Deadline { at: Instant::default(), why: "dial" }),
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

    fn tag(&mut self) -> u32 {
        let tag = self.next_tag;
        self.next_tag = tag.checked_add(1).unwrap_or(1);
        tag
    }

    fn ask(&mut self, message: &Message<'_>, net: &mut Net<Session>) {
        if let Some(conn) = self.conn {
            // Refused only if it is gone, which is told in another way.
            let _ = net.send(conn, SessionCommand::Message(message));
        }
    }

    fn handle_said(&mut self, now: Now, message: Message<'_>, net: &mut Net<Session>) {
        match message {
            Message::Welcome { .. } => {
                self.greeted = true;
                let (tag, name) = (self.tag(), self.config.name.clone());
                self.ask(&Message::Stat { tag, hashed: true, name: name.as_str() }, net);
            }
            Message::Wait { done, of, .. } => self.report(PourReport::Hashing(done, of)),
            Message::Meta { meta, hash, .. } => self.handle_meta(meta, hash, net),
            Message::Done { tag, .. } => match self.asked.pop_front() {
                Some((asked, stream)) if asked == tag && stream.finish().is_ok() => self.get(net),
                _ => self.lose(now, Lost::OutOfTurn, net),
            },
            Message::Error { tag: 0, code, .. } => self.code = Some(code),
            // Of which content it is now, is asked anew.
            Message::Error { code: ErrorCode::Changed, .. } => {
                self.lose(now, Lost::Ended(Some(ErrorCode::Changed)), net);
            }
            Message::Error { code, .. } => self.fail(FetchError::Refused(code), net),
            _ => self.lose(now, Lost::OutOfTurn, net),
        }
    }

    fn handle_meta(&mut self, meta: Meta, hash: Option<Hash>, net: &mut Net<Session>) {
        let hash = match (meta.kind, hash) {
            (Kind::Folder, _) => return self.fail(FetchError::Refused(ErrorCode::WrongKind), net),
            (Kind::File, _) if meta.size > MAX_FILE => return self.fail(FetchError::TooLarge, net),
            (Kind::File, None) => return self.fail(FetchError::NotTold, net),
            (Kind::File, Some(hash)) => hash,
        };
        // Of an empty file there is nothing to get; that it is the one, its hash tells.
        if meta.size == 0 && NodeHasher::new(Node::root(0)).hash() != Some(hash) {
            return self.fail(FetchError::Wrong(TreeError::Content { group: 0 }), net);
        }
        match self.file {
            None => self.report(PourReport::Begun(meta.size)),
            // Of another content nothing may follow what was told.
            Some(file) if file != (meta.size, hash) && self.told > 0 => {
                return self.fail(FetchError::Changing, net);
            }
            Some(_) => {}
        }
        self.file = Some((meta.size, hash));
        self.get(net);
    }

    /// Asks for the next pieces; ends once all is told.
    fn get(&mut self, net: &mut Net<Session>) {
        let Some((size, hash)) = self.file else { return };
        let groups = if size == 0 { 0 } else { Node::root(size).groups() };
        while self.asked.len() < AHEAD && self.next < groups {
            let tag = self.tag();
            let end = groups.min(self.next.saturating_add(PIECE));
            let mut ranges = Ranges::none(size);
            ranges.add(self.next..end);
            self.next = end;
            let list = RangeBytes::new(ranges.bytes());
            self.asked.push_back((tag, Stream::new(hash, &Want::Content(ranges))));
            let name = self.config.name.clone();
            let (content, name, ranges) = (true, name.as_str(), list.list());
            self.ask(&Message::Get(Get { tag, content, hash, size, name, ranges }), net);
        }
        if self.asked.is_empty() {
            let received = self.received;
            self.end(PourOutcome::Whole { size, hash, received }, net);
        }
    }

    fn handle_body(&mut self, now: Now, mut bytes: &[u8], net: &mut Net<Session>) {
        while !bytes.is_empty() {
            let Some((_, stream)) = self.asked.front_mut() else {
                return self.lose(now, Lost::OutOfTurn, net);
            };
            let before = bytes.len();
            let came = stream.handle_bytes(&mut bytes);
            let taken = before.saturating_sub(bytes.len());
            self.received = self.received.saturating_add(taken as u64);
            match came {
                Ok(Some(Proved::Group(node, content))) => {
                    self.tries = 0;
                    self.proved = node.end();
                    let len = content.len() as u64;
                    self.told = self.told.saturating_add(len);
                    self.waiting = self.waiting.saturating_add(len);
                    if len > 0 {
                        self.report(PourReport::Content(content.freeze()));
                    }
                }
                Ok(_) => {}
                Err(error) => return self.handle_wrong(now, error, net),
            }
        }
        if self.waiting >= WINDOW && !self.paused {
            self.paused = true;
            self.conn.into_iter().for_each(|conn| net.pause(conn));
        }
    }

    fn handle_wrong(&mut self, now: Now, error: TreeError, net: &mut Net<Session>) {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong > CHANGES {
            return self.fail(FetchError::Wrong(error), net);
        }
        self.lose(now, Lost::Wrong(error), net);
    }

    fn lose(&mut self, now: Now, why: Lost, net: &mut Net<Session>) {
        if self.over {
            return;
        }
        if let Some(conn) = self.conn.take() {
            net.abort(conn);
        }
        self.asked.clear();
        self.next = self.proved;
        self.code = None;
        self.tries = self.tries.saturating_add(1);
        let Some(retry_in) = why.retry_in(self.tries, self.config.retries, self.greeted) else {
            return self.fail(FetchError::Lost(why), net);
        };
        self.timer = Some(Deadline { at: now.mono.saturating_add(retry_in), why: "dial" });
        self.report(PourReport::Lost { why, retry_in });
    }

    fn fail(&mut self, why: FetchError, net: &mut Net<Session>) {
        self.end(PourOutcome::Failed { why, told: self.told }, net);
    }

    fn end(&mut self, outcome: PourOutcome, net: &mut Net<Session>) {
        if !self.over {
            self.over = true;
            self.timer = None;
            self.report(PourReport::Over(outcome));
            if let Some(conn) = self.conn.take() {
                match self.asked.is_empty() {
                    true => net.close(conn),
                    false => net.abort(conn),
                }
            }
            net.stop();
        }
    }

    fn report(&mut self, report: PourReport) {
        self.reports.push_back(report);
    }

    fn wait(&mut self, now: Now) {
        self.timer = Some(Deadline { at: now.mono.saturating_add(SILENT), why: "silent" });
    }
}

impl Service<Session> for Pour {
    type Message = PourMessage;
    type Report = PourReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Session> {
        None
    }

    fn handle_opened(&mut self, now: Now, _: ConnId, _: &Peer, _: &mut Net<Session>) {
        self.wait(now);
    }

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: SessionEvent<'_>,
        net: &mut Net<Session>,
    ) {
        if self.over || self.conn != Some(from) {
            return;
        }
        self.wait(now);
        match event {
            SessionEvent::Message(message) => self.handle_said(now, message, net),
            SessionEvent::Body(bytes) => self.handle_body(now, bytes, net),
            // Said to servers only.
            _ => {}
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        if self.conn != Some(conn) {
            return;
        }
        self.conn = None;
        self.lose(now, Lost::of(why, self.code), net);
    }

    fn handle_message(&mut self, now: Now, message: PourMessage, net: &mut Net<Session>) {
        match message {
            PourMessage::Taken(bytes) => {
                self.waiting = self.waiting.saturating_sub(bytes);
                if self.paused && self.waiting <= WINDOW / 2 {
                    self.paused = false;
                    if let Some(conn) = self.conn {
                        self.wait(now);
                        net.resume(conn);
                    }
                }
            }
            PourMessage::Interrupt => self.fail(FetchError::Interrupted, net),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer.filter(|_| !self.paused)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        self.timer = None;
        match self.conn {
            None => {
                let session = session(&mut self.secret);
                self.conn = Some(net.dial(self.config.target.clone(), session));
            }
            Some(_) => self.lose(now, Lost::Silent, net),
        }
    }

    fn poll_report(&mut self) -> Option<PourReport> {
        self.reports.pop_front()
    }
}
