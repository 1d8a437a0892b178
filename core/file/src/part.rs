//! A file on its way to its name.
//!
//! It is written beside its place under [`SafeName::part`], made durable, and only then renamed;
//! whatever happens before leaves nothing under the final name. The owner hands on the replies to
//! the requests made here. One that is resumed begins in Writing.
//!
//! | state | on | becomes | asks for, tells |
//! |---|---|---|---|
//! | Creating | opened | Writing | `Ready` |
//! | Creating | it exists | Creating | another tag, at most 16 times |
//! | Writing | `write` | Writing | WRITE |
//! | Writing | written, below half the window | Writing | `Room`, if it was full |
//! | Writing | `finish`, and all is written | Dating | SET MODIFIED |
//! | Writing | the same, if no time is known | Syncing | SYNC |
//! | Dating | done, or a failure | Syncing | SYNC |
//! | Syncing | done | Renaming | RENAME |
//! | Renaming | done | SyncingFolder | SYNC FOLDER |
//! | SyncingFolder | done | Over | `Saved` |
//! | any | a failure | Over | `Failed` |
//! | Writing, Syncing | a failure, and it shall not be kept | Removing | REMOVE, then `Failed` |
//! | Creating, Writing | `leave`, and all is written | Over | `Left` |
//! | Creating, Writing | `leave`, and nothing was | Removing | REMOVE, then `Left` |

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use rand_core::RngCore;
use semfio_machine::{
    Effect, Failure, FileId, Net, OpenMode, Reply, RequestId, Rng, RootId, StreamMachine, UnixTime,
};
use semfio_path::SafeName;

/// Bytes that may wait to be written: enough to keep a disk at work, little beside the 8 MiB that
/// a side may use, most of which is the program itself.
pub(crate) const WINDOW: usize = 512 * 1024;
/// How many tags are tried; with 65,536 of them, more attempts mean that the folder is odd.
const TRIES: u32 = 16;

/// Which step of writing a file failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Looking whether the name is taken.
    Look,
    /// Making the partial file.
    Create,
    /// Writing into it.
    Write,
    /// Making it durable.
    Sync,
    /// Giving it its name.
    Rename,
    /// Making the name durable; the file is whole and has its name.
    SyncFolder,
}

impl core::fmt::Display for Stage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Look => "looking for the name",
            Self::Create => "creating the partial file",
            Self::Write => "writing",
            Self::Sync => "making the file durable",
            Self::Rename => "renaming the partial file",
            Self::SyncFolder => "making the name durable",
        })
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Part {
    root: RootId,
    name: SafeName,
    replace: bool,
    /// Whether a part that cannot be written on is worth keeping, if there is something in it.
    keep: bool,
    /// Whether there is.
    holds: bool,
    /// When its content was modified, as far as that is known.
    modified: Option<UnixTime>,
    part: SafeName,
    /// Of those that are tried; one that is resumed has its own.
    tags: Option<Rng>,
    tries: u32,
    state: State,
    file: Option<FileId>,
    /// What was asked; of a write, with what is written.
    pending: BTreeMap<RequestId, Bytes>,
    /// Memory of what is written, to be used again: as much as ever waited at once. Given back to the
    /// system and fetched again, it cost a tenth of all.
    spare: Vec<BytesMut>,
    /// Bytes of the writes in `pending`.
    waiting: usize,
    full: bool,
    next: Next,
    failed: Option<(Stage, Failure)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Creating,
    Writing,
    Dating,
    Syncing,
    Renaming,
    SyncingFolder,
    Removing,
    Over,
}

/// What follows once all is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Write,
    Finish,
    Leave,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartEvent {
    /// It may be written.
    Ready,
    /// It was full, and is not any more.
    Room,
    /// It has its name, for good.
    Saved,
    /// A step failed; nothing goes on.
    Failed(Stage, Failure),
    /// It was left as it is.
    Left,
}

impl Part {
    /// Begins to create the partial file of `name`; `None` if its name would be too long.
    pub(crate) fn create<M: StreamMachine>(
        root: RootId,
        name: SafeName,
        replace: bool,
        keep: bool,
        mut tags: Rng,
        net: &mut Net<M>,
    ) -> Option<Self> {
        let part = name.part(tag(&mut tags)).ok()?;
        let mut this = Self {
            root,
            name,
            replace,
            keep,
            holds: false,
            modified: None,
            part,
            tags: Some(tags),
            tries: 0,
            state: State::Creating,
            file: None,
            pending: BTreeMap::new(),
            spare: Vec::new(),
            waiting: 0,
            full: false,
            next: Next::Write,
            failed: None,
        };
        this.open(net);
        Some(this)
    }

    /// One that is open already, to be written on, and kept unless it holds nothing.
    pub(crate) fn resume(
        root: RootId,
        name: SafeName,
        replace: bool,
        part: SafeName,
        file: FileId,
        holds: bool,
        modified: Option<UnixTime>,
    ) -> Self {
        Self {
            root,
            name,
            replace,
            keep: true,
            holds,
            modified,
            part,
            tags: None,
            tries: 0,
            state: State::Writing,
            file: Some(file),
            pending: BTreeMap::new(),
            spare: Vec::new(),
            waiting: 0,
            full: false,
            next: Next::Write,
            failed: None,
        }
    }

    /// Where it is, as long as it has not its name.
    pub(crate) fn path(&self) -> &SafeName {
        &self.part
    }

    /// Whether there is anything in it, or will be once what was handed on is written.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.holds || self.waiting > 0
    }

    /// Whether it takes bytes: it is there, and not too many wait to be written.
    pub(crate) fn has_room(&self) -> bool {
        self.state == State::Writing && !self.full
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write<M: StreamMachine>(&mut self, offset: u64, bytes: Bytes, net: &mut Net<M>) {
        let Some(file) = self.file.filter(|_| self.state == State::Writing) else {
            return;
        };
        let len = bytes.len();
        self.ask(bytes.clone(), Effect::Write { file, offset, bytes }, net);
        self.waiting = self.waiting.saturating_add(len);
        self.full |= self.waiting >= WINDOW;
    }

    /// Memory for what comes next: what was written has no use for it any more. Empty if there is none.
    pub(crate) fn spare(&mut self) -> BytesMut {
        let mut spare = self.spare.pop().unwrap_or_default();
        spare.clear();
        spare
    }

    /// Nothing more will be written: gives it its name.
    pub(crate) fn finish<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        if self.next == Next::Write {
            self.next = Next::Finish;
            self.go_on(net);
        }
    }

    /// Nothing more will be written, and it gets no name: it stays as it is, or is removed if it
    /// holds nothing. Whether that is so already; if not, `Left` follows.
    pub(crate) fn leave<M: StreamMachine>(&mut self, net: &mut Net<M>) -> bool {
        if self.next == Next::Write {
            self.next = Next::Leave;
            self.go_on(net);
        }
        self.state == State::Over
    }

    /// Takes the answer to a request, if it is one of its own.
    pub(crate) fn handle_reply<M: StreamMachine>(
        &mut self,
        id: RequestId,
        reply: &Reply<'_>,
        net: &mut Net<M>,
    ) -> Option<PartEvent> {
        let written = self.pending.remove(&id)?;
        self.waiting = self.waiting.saturating_sub(written.len());
        if let Ok(spare) = written.try_into_mut() {
            self.spare.push(spare);
        }
        if let (State::Dating, Some(file)) = (self.state, self.file) {
            // What it holds is right, whatever the disk says to its time.
            self.sync(file, net);
            return None;
        }
        if let Reply::Failed(failure) = *reply {
            return self.fail(failure, net);
        }
        self.holds |= self.state == State::Writing;
        match (self.state, reply) {
            (State::Creating, Reply::Opened { file, .. }) => {
                self.file = Some(*file);
                self.state = State::Writing;
                return if self.next == Next::Write {
                    Some(PartEvent::Ready)
                } else {
                    self.go_on(net)
                };
            }
            (State::Writing, Reply::Done) if self.next == Next::Write => {
                if self.full && self.waiting <= WINDOW / 2 {
                    self.full = false;
                    return Some(PartEvent::Room);
                }
            }
            (State::Writing, Reply::Done) => return self.go_on(net),
            (State::Syncing, Reply::Done) => {
                self.release(net);
                self.state = State::Renaming;
                let (from, to) = (path(&self.part), path(&self.name));
                let (root, replace) = (self.root, self.replace);
                self.ask(Bytes::new(), Effect::Rename { root, from, to, replace }, net);
            }
            (State::Renaming, Reply::Done) => {
                self.state = State::SyncingFolder;
                let path = self.name.parent().into();
                self.ask(Bytes::new(), Effect::SyncFolder { root: self.root, path }, net);
            }
            (State::SyncingFolder, Reply::Done) => {
                self.state = State::Over;
                return Some(PartEvent::Saved);
            }
            (State::Removing, Reply::Done) => return Some(self.over()),
            // A host that answers something else than was asked for.
            _ => return self.fail(Failure::Unsupported, net),
        }
        None
    }

    /// Takes the next step once all is written.
    fn go_on<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<PartEvent> {
        if self.state != State::Writing || !self.pending.is_empty() {
            return None;
        }
        match (self.next, self.file) {
            (Next::Write, _) | (_, None) => {}
            (Next::Finish, Some(file)) => match self.modified {
                Some(modified) => {
                    self.state = State::Dating;
                    self.ask(Bytes::new(), Effect::SetModified { file, modified }, net);
                }
                None => self.sync(file, net),
            },
            (Next::Leave, Some(_)) => {
                self.release(net);
                if self.holds {
                    return Some(self.over());
                }
                self.remove(net);
            }
        }
        None
    }

    fn fail<M: StreamMachine>(&mut self, failure: Failure, net: &mut Net<M>) -> Option<PartEvent> {
        let stage = match self.state {
            State::Creating => Stage::Create,
            State::Writing | State::Dating => Stage::Write,
            State::Syncing => Stage::Sync,
            State::Renaming => Stage::Rename,
            State::SyncingFolder => Stage::SyncFolder,
            // It could not be removed, or failed already: that is told, and is enough.
            State::Removing => return Some(self.over()),
            State::Over => return None,
        };
        if failure == Failure::Exists && stage == Stage::Create && self.tries < TRIES {
            let part = self.tags.as_mut().and_then(|tags| self.name.part(tag(tags)).ok());
            if let Some(part) = part {
                self.tries = self.tries.saturating_add(1);
                self.part = part;
                self.open(net);
                return None;
            }
        }
        for id in core::mem::take(&mut self.pending).into_keys() {
            net.cancel(id);
        }
        self.waiting = 0;
        self.failed = Some((stage, failure));
        self.release(net);
        // One that could not be renamed is whole.
        if (self.keep && self.holds) || !matches!(stage, Stage::Write | Stage::Sync) {
            return Some(self.over());
        }
        self.remove(net);
        None
    }

    fn sync<M: StreamMachine>(&mut self, file: FileId, net: &mut Net<M>) {
        self.state = State::Syncing;
        self.ask(Bytes::new(), Effect::Sync { file }, net);
    }

    fn remove<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        self.state = State::Removing;
        let (root, path) = (self.root, path(&self.part));
        self.ask(Bytes::new(), Effect::Remove { root, path }, net);
    }

    fn over(&mut self) -> PartEvent {
        self.state = State::Over;
        match self.failed {
            Some((stage, failure)) => PartEvent::Failed(stage, failure),
            None => PartEvent::Left,
        }
    }

    fn open<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        let (root, path) = (self.root, path(&self.part));
        self.ask(Bytes::new(), Effect::Open { root, path, mode: OpenMode::CreateNew }, net);
    }

    fn release<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        if let Some(file) = self.file.take() {
            net.release(file, None);
        }
    }

    fn ask<M: StreamMachine>(&mut self, written: Bytes, effect: Effect, net: &mut Net<M>) {
        let id = net.request(effect);
        self.pending.insert(id, written);
    }
}

fn tag(tags: &mut Rng) -> u16 {
    u16::try_from(tags.next_u32() >> 16).unwrap_or(0)
}

fn path(name: &SafeName) -> String {
    name.as_str().into()
}
