//! A file on its way to its name: written beside it, as `NAME.part`, and renamed once it is whole.
//!
//! | step | on | asks the host, tells |
//! |---|---|---|
//! | Looking | `look` | what has the name, `NAME.part.note` and `NAME.part` |
//! | Looking | the answers | `Looked`; a part without a note is not ours, and stays as it is |
//! | Making | `begin_anew` | removes both, writes the note, makes the part: `Ready` |
//! | Making | `go_on` | opens the part, which has the length that was seen: `Ready` |
//! | Writing | `write` | WRITE; `Room` once half of what waited is written |
//! | Syncing | `finish`, and all is written | SYNC |
//! | Comparing | done | that `NAME.part` is still the file that was written |
//! | Renaming | it is | RENAME, then removes the note, SYNC FOLDER: `Saved` |
//! | Leaving | `leave`, and all is written | removes what is empty: `Left` |
//! | any | a failure | `Failed`, and what is there stays |

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use bytes::Bytes;
use semfio_machine::{
    Effect, Failure, FileId, FileKind, Metadata, Net, OpenMode, Reply, RequestId, RootId,
    StreamMachine,
};
use semfio_path::SafeName;

use super::resume::{NOTE, Note};

/// Octets that may wait to be written: enough to keep a disk at work.
pub(crate) const WINDOW: u64 = 1024 * 1024;

/// Which step of saving a file failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SaveStage {
    /// Looking what is there.
    Look,
    /// Making the partial file, or opening it.
    Create,
    /// Writing into it.
    Write,
    /// Making it durable.
    Sync,
    /// Giving it its name.
    Rename,
}

impl core::fmt::Display for SaveStage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Look => "looking what is there",
            Self::Create => "making the partial file",
            Self::Write => "writing",
            Self::Sync => "making the file durable",
            Self::Rename => "renaming the partial file",
        })
    }
}

/// What a [`Save`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveEvent {
    /// What is there is known.
    Looked,
    /// Content may be written.
    Ready,
    /// More may be written.
    Room,
    /// It has its name.
    Saved,
    /// It is left: so many octets are kept.
    Left(u64),
    /// It cannot be saved.
    Failed(SaveStage, Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    LookName,
    LookNote,
    ReadNote(FileId),
    LookPart,
    Idle,
    RemovePart,
    RemoveNote,
    CreateNote,
    WriteNote(FileId),
    Create,
    GoOn,
    Writing,
    Syncing,
    CompareOpen,
    Compare(Metadata),
    Rename,
    ForgetNote,
    SyncFolder,
    RemoveEmpty,
    RemoveEmptyNote,
    Over,
}

/// What follows once all is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Write,
    Finish,
    Leave,
}

/// One file that is saved.
#[derive(Debug)]
pub(crate) struct Save {
    root: RootId,
    name: SafeName,
    /// Whether what is there may be gone on with.
    resume: bool,
    step: Step,
    pending: Option<RequestId>,
    note: Option<Note>,
    file: Option<FileId>,
    /// Where the next octet is written: so many there are.
    at: u64,
    writes: BTreeMap<RequestId, u64>,
    /// Octets of these.
    waiting: u64,
    full: bool,
    next: Next,
    failed: Option<(SaveStage, Failure)>,
}

impl Save {
    /// Looks what is there.
    pub(crate) fn look<M: StreamMachine>(
        root: RootId,
        name: SafeName,
        resume: bool,
        net: &mut Net<M>,
    ) -> Self {
        let mut save = Self {
            root,
            name,
            resume,
            step: Step::LookName,
            pending: None,
            note: None,
            file: None,
            at: 0,
            writes: BTreeMap::new(),
            waiting: 0,
            full: false,
            next: Next::Write,
            failed: None,
        };
        let path = save.name.as_str().to_owned();
        save.ask(Step::LookName, Effect::Stat { root, path }, net);
        save
    }

    /// What is known of the part that is there, if it may be gone on with and there is something in it.
    pub(crate) fn known(&self) -> Option<&Note> {
        self.note.as_ref().filter(|_| self.resume && self.at > 0)
    }

    /// The octets that are there.
    pub(crate) fn octets(&self) -> u64 {
        self.at
    }

    /// Whether what is written can be gone on with later.
    pub(crate) fn can_go_on(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.validator.is_some())
    }

    /// Where it is written.
    pub(crate) fn part(&self) -> String {
        format!("{}.part", self.name)
    }

    fn note_path(&self) -> String {
        format!("{}.part.note", self.name)
    }

    /// Throws away what is there and begins.
    pub(crate) fn begin_anew<M: StreamMachine>(&mut self, note: Note, net: &mut Net<M>) {
        self.note = Some(note);
        self.at = 0;
        let effect = Effect::Remove { root: self.root, path: self.part() };
        self.ask(Step::RemovePart, effect, net);
    }

    /// Goes on with what is there.
    pub(crate) fn go_on<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        self.open(self.part(), OpenMode::Update, Step::GoOn, net);
    }

    /// Writes what came. The owner brings no more once it [is full](Self::is_full).
    pub(crate) fn write<M: StreamMachine>(&mut self, bytes: Bytes, net: &mut Net<M>) {
        let (Some(file), Step::Writing) = (self.file, self.step) else { return };
        let len = bytes.len() as u64;
        let request = net.request(Effect::Write { file, offset: self.at, bytes });
        self.writes.insert(request, len);
        self.at = self.at.saturating_add(len);
        self.waiting = self.waiting.saturating_add(len);
        self.full |= self.waiting >= WINDOW;
    }

    /// Whether as much waits to be written as may.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// All of it has come.
    pub(crate) fn finish<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        self.next = Next::Finish;
        self.settle(net);
    }

    /// No more comes; what is there is kept. To be called in any step.
    pub(crate) fn leave<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<SaveEvent> {
        self.next = Next::Leave;
        match self.step {
            Step::Over => None,
            Step::Writing => self.settle(net),
            // It was not begun, and what was there before is as it was.
            Step::Idle => {
                self.step = Step::Over;
                Some(SaveEvent::Left(self.at))
            }
            _ if self.pending.is_some() => None,
            _ => self.settle(net),
        }
    }

    /// The host's answer, if it is to one of its requests.
    pub(crate) fn handle_reply<M: StreamMachine>(
        &mut self,
        id: RequestId,
        reply: Reply<'_>,
        net: &mut Net<M>,
    ) -> Option<SaveEvent> {
        if let Some(len) = self.writes.remove(&id) {
            self.waiting = self.waiting.saturating_sub(len);
            if let Reply::Failed(failure) = reply {
                self.failed.get_or_insert((SaveStage::Write, failure));
            }
            let room = self.full && self.waiting <= WINDOW / 2;
            self.full &= !room;
            return self.settle(net).or(room.then_some(SaveEvent::Room));
        }
        if self.pending != Some(id) {
            return None;
        }
        self.pending = None;
        self.handle_step(reply, net)
    }

    fn ask<M: StreamMachine>(&mut self, step: Step, effect: Effect, net: &mut Net<M>) {
        self.step = step;
        self.pending = Some(net.request(effect));
    }

    fn open<M: StreamMachine>(
        &mut self,
        path: String,
        mode: OpenMode,
        step: Step,
        net: &mut Net<M>,
    ) {
        self.ask(step, Effect::Open { root: self.root, path, mode }, net);
    }

    fn fail<M: StreamMachine>(
        &mut self,
        stage: SaveStage,
        failure: Failure,
        net: &mut Net<M>,
    ) -> Option<SaveEvent> {
        self.step = Step::Over;
        self.release(net);
        Some(SaveEvent::Failed(stage, failure))
    }

    fn release<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        if let Some(file) = self.file.take() {
            net.release(file, None);
        }
    }

    /// Goes on to what follows, once all is written.
    fn settle<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<SaveEvent> {
        if self.step != Step::Writing || !self.writes.is_empty() {
            return None;
        }
        if let Some((stage, failure)) = self.failed {
            return self.fail(stage, failure, net);
        }
        match (self.next, self.file) {
            (Next::Write, _) | (_, None) => None,
            (Next::Finish, Some(file)) => {
                self.ask(Step::Syncing, Effect::Sync { file }, net);
                None
            }
            (Next::Leave, Some(_)) if self.at == 0 => {
                self.release(net);
                let effect = Effect::Remove { root: self.root, path: self.part() };
                self.ask(Step::RemoveEmpty, effect, net);
                None
            }
            (Next::Leave, Some(_)) => {
                self.release(net);
                self.step = Step::Over;
                Some(SaveEvent::Left(self.at))
            }
        }
    }

    fn handle_step<M: StreamMachine>(
        &mut self,
        reply: Reply<'_>,
        net: &mut Net<M>,
    ) -> Option<SaveEvent> {
        let root = self.root;
        let absent = matches!(reply, Reply::Failed(Failure::NotFound));
        match (self.step, reply) {
            // What is there.
            (Step::LookName, Reply::Found(Metadata { kind, .. })) if kind != FileKind::File => {
                self.fail(SaveStage::Look, Failure::WrongKind, net)
            }
            (Step::LookName, Reply::Found(_) | Reply::Failed(Failure::NotFound)) => {
                self.open(self.note_path(), OpenMode::Read, Step::LookNote, net);
                None
            }
            (Step::LookName, Reply::Failed(failure)) => self.fail(SaveStage::Look, failure, net),
            (Step::LookNote, Reply::Opened { file, .. }) => {
                let effect = Effect::Read { file, offset: 0, len: NOTE };
                self.ask(Step::ReadNote(file), effect, net);
                None
            }
            (Step::ReadNote(file), reply) => {
                net.release(file, None);
                if let Reply::Read(bytes) = reply {
                    self.note = Note::parse(bytes);
                }
                self.look_part(net)
            }
            (Step::LookNote, _) => self.look_part(net),
            // Without a note it is not one of ours, and may be dear to somebody.
            (Step::LookPart, Reply::Found(Metadata { kind, .. }))
                if self.note.is_none() || kind != FileKind::File =>
            {
                self.fail(SaveStage::Create, Failure::Exists, net)
            }
            (Step::LookPart, Reply::Found(Metadata { len, .. })) => self.looked(len),
            (Step::LookPart, Reply::Failed(Failure::NotFound)) => self.looked(0),
            (Step::LookPart, Reply::Failed(failure)) => self.fail(SaveStage::Look, failure, net),

            // It begins.
            (Step::RemovePart, Reply::Done | Reply::Failed(_))
                if absent || reply == Reply::Done =>
            {
                let effect = Effect::Remove { root, path: self.note_path() };
                self.ask(Step::RemoveNote, effect, net);
                None
            }
            (Step::RemoveNote, Reply::Done | Reply::Failed(_))
                if absent || reply == Reply::Done =>
            {
                self.open(self.note_path(), OpenMode::CreateNew, Step::CreateNote, net);
                None
            }
            (Step::CreateNote, Reply::Opened { file, .. }) => {
                let bytes = self.note.as_ref().map(Note::to_bytes).unwrap_or_default();
                let effect = Effect::Write { file, offset: 0, bytes: bytes.into() };
                self.ask(Step::WriteNote(file), effect, net);
                None
            }
            (Step::WriteNote(file), reply) => {
                net.release(file, None);
                if let Reply::Failed(failure) = reply {
                    return self.fail(SaveStage::Create, failure, net);
                }
                self.open(self.part(), OpenMode::CreateNew, Step::Create, net);
                None
            }
            (Step::Create, Reply::Opened { file, .. }) => self.ready(file, net),
            (Step::GoOn, Reply::Opened { file, metadata }) => {
                self.file = Some(file);
                // Somebody else is at work in it.
                if metadata.len != self.at {
                    return self.fail(SaveStage::Create, Failure::Exists, net);
                }
                self.ready(file, net)
            }
            (
                Step::RemovePart | Step::RemoveNote | Step::CreateNote | Step::Create | Step::GoOn,
                Reply::Failed(failure),
            ) => self.fail(SaveStage::Create, failure, net),

            // It ends.
            (Step::Syncing, Reply::Done) => {
                let file = self.file?;
                self.ask(Step::CompareOpen, Effect::StatFile { file }, net);
                None
            }
            (Step::Syncing, Reply::Failed(failure)) => self.fail(SaveStage::Sync, failure, net),
            (Step::CompareOpen, Reply::Found(metadata)) => {
                let effect = Effect::Stat { root, path: self.part() };
                self.ask(Step::Compare(metadata), effect, net);
                None
            }
            // Another program may have made a part of its own in the meantime.
            (Step::Compare(ours), Reply::Found(there)) if ours == there && ours.len == self.at => {
                let (from, to) = (self.part(), self.name.as_str().to_owned());
                self.ask(Step::Rename, Effect::Rename { root, from, to, replace: true }, net);
                None
            }
            (Step::Compare(_), Reply::Found(_)) => {
                self.fail(SaveStage::Rename, Failure::Exists, net)
            }
            (Step::CompareOpen | Step::Compare(_) | Step::Rename, Reply::Failed(failure)) => {
                self.fail(SaveStage::Rename, failure, net)
            }
            (Step::Rename, Reply::Done) => {
                self.release(net);
                let effect = Effect::Remove { root, path: self.note_path() };
                self.ask(Step::ForgetNote, effect, net);
                None
            }
            (Step::ForgetNote, _) => {
                let path = self.name.parent().to_owned();
                self.ask(Step::SyncFolder, Effect::SyncFolder { root, path }, net);
                None
            }
            // It has its name, though maybe not after a loss of power.
            (Step::SyncFolder, _) => {
                self.step = Step::Over;
                Some(SaveEvent::Saved)
            }

            // It is left.
            (Step::RemoveEmpty, _) => {
                let effect = Effect::Remove { root, path: self.note_path() };
                self.ask(Step::RemoveEmptyNote, effect, net);
                None
            }
            (Step::RemoveEmptyNote, _) => {
                self.step = Step::Over;
                Some(SaveEvent::Left(0))
            }
            // The host answers something else than was asked.
            _ => self.fail(SaveStage::Look, Failure::Unsupported, net),
        }
    }

    fn look_part<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<SaveEvent> {
        let effect = Effect::Stat { root: self.root, path: self.part() };
        self.ask(Step::LookPart, effect, net);
        None
    }

    fn looked(&mut self, part: u64) -> Option<SaveEvent> {
        self.at = part;
        self.step = Step::Idle;
        if self.next == Next::Leave {
            self.step = Step::Over;
            return Some(SaveEvent::Left(self.at));
        }
        Some(SaveEvent::Looked)
    }

    fn ready<M: StreamMachine>(&mut self, file: FileId, net: &mut Net<M>) -> Option<SaveEvent> {
        self.file = Some(file);
        self.step = Step::Writing;
        self.settle(net).or((self.next == Next::Write).then_some(SaveEvent::Ready))
    }
}
