//! One file from a server that speaks the course's dialect, saved with certainty.

use alloc::collections::VecDeque;
use bytes::BytesMut;
use core::convert::Infallible;
use core::mem::take;
use core::time::Duration;
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Failure, FileKind, Instant, Net, Now, Peer, Reply, RequestId,
    RootId, Seed, Service, Target,
};
use semfio_path::SafeName;

use crate::course::{CourseClient, CourseEnd, CourseEvent, NotAWord};
use crate::part::{Part, PartEvent, Stage};

/// How long a server may send nothing: the course's own may hang for ever.
const SILENT: Duration = Duration::from_secs(60);
/// The least time between two reports of progress.
pub const PROGRESS: Duration = Duration::from_millis(100);
/// What is written at once: each write is handed to another thread and answered.
const PIECE: usize = 128 * 1024;

/// What a [`CourseGet`] gets, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CourseGetConfig {
    /// The server.
    pub target: Target,
    /// The file, by the name the server knows.
    pub word: alloc::string::String,
    /// The folder it is saved in.
    pub root: RootId,
    /// The name it is saved under.
    pub save_as: SafeName,
    /// Whether a file of that name is replaced; a folder, a link or a device never is.
    pub replace: bool,
}

/// What an application tells a [`CourseGet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseGetMessage {
    /// Stop, and keep what there is.
    Interrupt,
}

/// What a [`CourseGet`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CourseGetReport {
    /// So many bytes have come.
    Progress(u64),
    /// It is over.
    Over(CourseGetOutcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CourseGetOutcome {
    /// The file is whole, and has its name.
    Saved {
        /// In bytes.
        len: u64,
    },
    /// The server has no such file. Nothing was written.
    Unknown,
    /// The stream ended before the file.
    Truncated {
        /// What came, in bytes.
        len: u64,
        /// Where it was left, if anything came.
        part: Option<SafeName>,
        /// How it ended.
        why: Cut,
    },
    /// There was no connection.
    NoConnection(Failure),
    /// It could not be saved.
    NotSaved {
        /// At which step.
        stage: Stage,
        /// Why.
        failure: Failure,
        /// Where the whole content is, if only its name is missing.
        part: Option<SafeName>,
    },
}

/// How a stream ended before the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server closed it, without the mark of the end.
    Closed,
    /// It broke.
    Broken(Failure),
    /// Nothing came for a minute.
    Silent,
    /// By [`CourseGetMessage::Interrupt`].
    Interrupted,
}

/// One file, fetched: a [`Service`] over one [`CourseClient`].
///
/// It looks what has the name before it dials, which the host's first call of
/// `handle_timeout` makes it do.
#[derive(Debug)]
pub struct CourseGet {
    config: CourseGetConfig,
    seed: Seed,
    client: Option<CourseClient>,
    conn: Option<ConnId>,
    look: Option<RequestId>,
    part: Option<Part>,
    /// What came and is not handed on to be written.
    piece: BytesMut,
    /// Bytes that were.
    written: u64,
    ended: Option<Ended>,
    /// Bytes that came.
    len: u64,
    timer: Option<Deadline>,
    paused: bool,
    connected: bool,
    told: Option<Instant>,
    over: bool,
    reports: VecDeque<CourseGetReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    Cut(Cut),
}

impl CourseGet {
    /// Fails if the name is none for this dialect.
    pub fn new(config: CourseGetConfig, seed: &Seed) -> Result<Self, NotAWord> {
        Ok(Self {
            client: Some(CourseClient::new(&config.word)?),
            config,
            seed: seed.clone(),
            conn: None,
            look: None,
            part: None,
            piece: BytesMut::new(),
            written: 0,
            ended: None,
            len: 0,
            // Due at once: the host's first call.
            timer: Some(Deadline { at: Instant::default(), why: "start" }),
            paused: false,
            connected: false,
            told: None,
            over: false,
            reports: VecDeque::new(),
        })
    }

    fn dial(&mut self, net: &mut Net<CourseClient>) {
        if let Some(client) = self.client.take() {
            self.conn = Some(net.dial(self.config.target.clone(), client));
        }
    }

    fn handle_body(&mut self, now: Now, mut bytes: &[u8], net: &mut Net<CourseClient>) {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.told.is_none_or(|at| now.mono.saturating_since(at) >= PROGRESS) {
            self.told = Some(now.mono);
            self.reports.push_back(CourseGetReport::Progress(self.len));
        }
        // Each piece has memory of its own, to be used again; only where it has to wait more comes behind.
        while !bytes.is_empty() {
            if self.piece.is_empty() {
                self.piece = self.part.as_mut().map(Part::spare).unwrap_or_default();
                self.piece.reserve(PIECE);
            }
            let room = PIECE.checked_sub(self.piece.len()).filter(|room| *room > 0);
            let (piece, rest) =
                bytes.split_at_checked(room.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
            self.piece.extend_from_slice(piece);
            bytes = rest;
            self.write(net);
        }
    }

    /// Hands on what came, as long as there is room; else the server has to wait.
    fn write(&mut self, net: &mut Net<CourseClient>) {
        if self.over || !self.make_part(net) {
            return;
        }
        let Some(part) = &mut self.part else { return };
        let least = if self.ended.is_some() { 1 } else { PIECE };
        while self.piece.len() >= least && part.has_room() {
            let whole = self.piece.len() <= PIECE;
            let piece = if whole { take(&mut self.piece) } else { self.piece.split_to(PIECE) };
            let piece = piece.freeze();
            let offset = self.written;
            self.written = self.written.saturating_add(piece.len() as u64);
            part.write(offset, piece, net);
        }
        let full = !part.has_room() && !self.piece.is_empty();
        if let (Some(conn), true) = (self.conn, full != self.paused) {
            self.paused = full;
            if full {
                net.pause(conn);
            } else {
                net.resume(conn);
            }
        }
        if !full && self.piece.is_empty() {
            self.settle(net);
        }
    }

    /// Everything that came is handed on: ends the part as the stream ended.
    fn settle(&mut self, net: &mut Net<CourseClient>) {
        let Some(part) = &mut self.part else { return };
        let left = match self.ended {
            None => return,
            Some(Ended::Whole) => return part.finish(net),
            Some(Ended::Cut(cut)) => part.leave(net).then_some(cut),
        };
        if let Some(cut) = left {
            self.truncated(cut, net);
        }
    }

    /// Whether there is a part, which is made for the first byte, or for the end of an empty file.
    fn make_part(&mut self, net: &mut Net<CourseClient>) -> bool {
        let wanted = self.len > 0 || self.ended == Some(Ended::Whole);
        if self.part.is_none() && wanted {
            let name = self.config.save_as.clone();
            let tags = self.seed.stream(0);
            self.part = Part::create(self.config.root, name, self.config.replace, false, tags, net);
            if self.part.is_none() {
                self.not_saved(Stage::Create, Failure::Unsupported, net);
            }
        }
        self.part.is_some()
    }

    fn end(&mut self, ended: Ended, net: &mut Net<CourseClient>) {
        if self.ended.is_none() {
            self.ended = Some(ended);
            self.timer = None;
            match ended {
                Ended::Cut(cut) if self.len == 0 => self.truncated(cut, net),
                _ => self.write(net),
            }
        }
    }

    fn cut(&mut self, cut: Cut, net: &mut Net<CourseClient>) {
        if let Some(conn) = self.conn.take() {
            net.abort(conn);
        }
        self.end(Ended::Cut(cut), net);
    }

    fn truncated(&mut self, why: Cut, net: &mut Net<CourseClient>) {
        let part = self.part.as_ref().map(|part| part.path().clone());
        self.finish(CourseGetOutcome::Truncated { len: self.len, part, why }, net);
    }

    fn not_saved(&mut self, stage: Stage, failure: Failure, net: &mut Net<CourseClient>) {
        let part = match stage {
            Stage::Rename => self.part.as_ref().map(|part| part.path().clone()),
            _ => None,
        };
        self.finish(CourseGetOutcome::NotSaved { stage, failure, part }, net);
    }

    fn finish(&mut self, outcome: CourseGetOutcome, net: &mut Net<CourseClient>) {
        if !self.over {
            self.over = true;
            self.timer = None;
            self.piece = BytesMut::new();
            self.reports.push_back(CourseGetReport::Over(outcome));
            if let Some(conn) = self.conn.take() {
                net.abort(conn);
            }
            net.stop();
        }
    }
}

impl Service<CourseClient> for CourseGet {
    type Message = CourseGetMessage;
    type Report = CourseGetReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<CourseClient> {
        None
    }

    fn handle_opened(&mut self, now: Now, _: ConnId, _: &Peer, _: &mut Net<CourseClient>) {
        self.connected = true;
        self.listen(now);
    }

    fn handle_event(
        &mut self,
        now: Now,
        _: ConnId,
        event: CourseEvent<'_>,
        net: &mut Net<CourseClient>,
    ) {
        self.listen(now);
        match event {
            CourseEvent::Body(bytes) => self.handle_body(now, bytes, net),
            CourseEvent::End(CourseEnd::Complete) => self.end(Ended::Whole, net),
            CourseEvent::End(CourseEnd::Truncated) => self.end(Ended::Cut(Cut::Closed), net),
            CourseEvent::End(CourseEnd::Unknown) => self.finish(CourseGetOutcome::Unknown, net),
        }
    }

    fn handle_closed(
        &mut self,
        _: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        net: &mut Net<CourseClient>,
    ) {
        if self.conn != Some(conn) {
            return;
        }
        self.conn = None;
        match why {
            Closed::Failed(failure) if !self.connected => {
                self.finish(CourseGetOutcome::NoConnection(failure), net);
            }
            Closed::Failed(failure) => self.end(Ended::Cut(Cut::Broken(failure)), net),
            _ => self.end(Ended::Cut(Cut::Closed), net),
        }
    }

    fn handle_reply(
        &mut self,
        now: Now,
        id: RequestId,
        reply: Reply<'_>,
        net: &mut Net<CourseClient>,
    ) {
        if self.look == Some(id) {
            self.look = None;
            return match reply {
                Reply::Failed(Failure::NotFound) => self.dial(net),
                Reply::Failed(failure) => self.not_saved(Stage::Look, failure, net),
                Reply::Found(metadata) if metadata.kind != FileKind::File => {
                    self.not_saved(Stage::Look, Failure::WrongKind, net);
                }
                Reply::Found(_) if self.config.replace => self.dial(net),
                _ => self.not_saved(Stage::Look, Failure::Exists, net),
            };
        }
        let Some(part) = &mut self.part else { return };
        match part.handle_reply(id, &reply, net) {
            None => {}
            Some(PartEvent::Ready | PartEvent::Room) => {
                if self.ended.is_none() {
                    self.listen(now);
                }
                self.write(net);
            }
            Some(PartEvent::Saved) => self.finish(CourseGetOutcome::Saved { len: self.len }, net),
            Some(PartEvent::Failed(stage, failure)) => self.not_saved(stage, failure, net),
            Some(PartEvent::Left) => {
                if let Some(Ended::Cut(cut)) = self.ended {
                    self.truncated(cut, net);
                }
            }
        }
    }

    fn handle_message(&mut self, _: Now, message: CourseGetMessage, net: &mut Net<CourseClient>) {
        match message {
            CourseGetMessage::Interrupt => self.cut(Cut::Interrupted, net),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer.filter(|_| !self.paused)
    }

    fn handle_timeout(&mut self, _: Now, net: &mut Net<CourseClient>) {
        self.timer = None;
        if self.conn.is_some() {
            return self.cut(Cut::Silent, net);
        }
        let path = self.config.save_as.as_str().into();
        self.look = Some(net.request(Effect::Stat { root: self.config.root, path }));
    }

    fn poll_report(&mut self) -> Option<CourseGetReport> {
        self.reports.pop_front()
    }
}

impl CourseGet {
    /// Waits anew for the next bytes.
    fn listen(&mut self, now: Now) {
        if self.ended.is_none() {
            self.timer = Some(Deadline { at: now.mono.saturating_add(SILENT), why: "silent" });
        }
    }
}
