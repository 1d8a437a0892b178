//! One file that is put: PUT, from its first octet to its name.
//!
//! | stage | waits for | then |
//! |---|---|---|
//! | Looking | what has the name now | preconditions are judged |
//! | Creating | a file under a temporary name, beside the one it will have | the client may send |
//! | Taking | content, and the host to write it | all of it is written |
//! | Syncing | the content to be durable | |
//! | Renaming | the name | |
//! | Settling | the name to be durable | 201, or 204 where there was a file |
//!
//! Whatever fails on the way, the temporary file is removed, and what had the name still has it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use semfio_machine::{
    Effect, Failure, FileId, FileKind, Metadata, Net, Now, OpenMode, Reply, RequestId, RootId,
};

use crate::{Server, Status};

/// How temporary files are called: nobody is given one, and nobody may put one.
pub(super) const PREFIX: &str = ".semfio-put-";
/// Octets that are written at once.
const PIECE: usize = 64 * 1024;
/// Octets that may wait for the host before the client has to.
const GATHERED: usize = 256 * 1024;
/// Temporary names that are tried: each is of this very nanosecond.
const TRIES: u32 = 4;

/// A file that is put.
#[derive(Debug)]
pub(super) struct Upload {
    root: RootId,
    path: String,
    temporary: String,
    /// Nothing may have the name.
    only_new: bool,
    /// Something had the name.
    replaces: bool,
    limit: u64,
    /// Octets that came, and those of them that are written or on their way.
    taken: u64,
    written: u64,
    gathered: Vec<u8>,
    file: Option<FileId>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Looking,
    Creating { tries: u32 },
    Taking { writing: bool, ended: bool },
    Syncing,
    Renaming,
    Settling,
}

/// What the site has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Wait for the next reply or event.
    Wait,
    /// Judge the preconditions on what has the name, and go on with `begin`.
    Judge(Option<Metadata>),
    /// Have the content sent.
    Take,
    /// Have no more of it sent for now.
    Hold,
    /// It is there.
    Done {
        /// And was not there before.
        new: bool,
    },
    /// It is not; the temporary file is being removed.
    Failed(Status),
}

impl Upload {
    /// Looks at what has the name.
    pub(super) fn start(
        root: RootId,
        path: String,
        limit: u64,
        net: &mut Net<Server>,
    ) -> (Self, RequestId) {
        let request = net.request(Effect::Stat { root, path: path.clone() });
        let upload = Self {
            root,
            path,
            temporary: String::new(),
            only_new: false,
            replaces: false,
            limit,
            taken: 0,
            written: 0,
            gathered: Vec::new(),
            file: None,
            stage: Stage::Looking,
        };
        (upload, request)
    }

    /// Octets that came.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The preconditions hold.
    pub(super) fn begin(&mut self, now: Now, only_new: bool, net: &mut Net<Server>) -> RequestId {
        self.only_new = only_new;
        self.create(now, 0, net)
    }

    fn create(&mut self, now: Now, tries: u32, net: &mut Net<Server>) -> RequestId {
        let (folder, _) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let name = format!("{PREFIX}{:x}-{tries}", now.unix.as_nanos());
        self.temporary = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        self.stage = Stage::Creating { tries };
        let path = self.temporary.clone();
        net.request(Effect::Open { root: self.root, path, mode: OpenMode::CreateNew })
    }

    /// A piece of the content.
    pub(super) fn handle_data(
        &mut self,
        bytes: &[u8],
        net: &mut Net<Server>,
    ) -> (Turn, Option<RequestId>) {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        if self.taken > self.limit {
            return (self.fail(Status::CONTENT_TOO_LARGE, net), None);
        }
        self.gathered.extend_from_slice(bytes);
        let request = match self.stage {
            Stage::Taking { writing: false, ended } if self.gathered.len() >= PIECE => {
                self.write(ended, net)
            }
            _ => None,
        };
        let turn = if self.gathered.len() >= GATHERED { Turn::Hold } else { Turn::Wait };
        (turn, request)
    }

    /// All of the content came.
    pub(super) fn handle_end(&mut self, net: &mut Net<Server>) -> Option<RequestId> {
        match self.stage {
            Stage::Taking { writing: true, .. } => {
                self.stage = Stage::Taking { writing: true, ended: true };
                None
            }
            Stage::Taking { .. } => self.proceed(true, net),
            _ => None,
        }
    }

    /// The host has answered.
    pub(super) fn handle_reply(
        &mut self,
        now: Now,
        reply: &Reply<'_>,
        net: &mut Net<Server>,
    ) -> (Turn, Option<RequestId>) {
        match (self.stage, *reply) {
            (Stage::Looking, Reply::Found(metadata)) if metadata.kind == FileKind::File => {
                self.replaces = true;
                (Turn::Judge(Some(metadata)), None)
            }
            (Stage::Looking, Reply::Failed(Failure::NotFound)) => (Turn::Judge(None), None),
            (Stage::Creating { .. }, Reply::Opened { file, .. }) => {
                self.file = Some(file);
                self.stage = Stage::Taking { writing: false, ended: false };
                (Turn::Take, None)
            }
            (Stage::Creating { tries }, Reply::Failed(Failure::Exists)) if tries < TRIES => {
                let request = self.create(now, tries.saturating_add(1), net);
                (Turn::Wait, Some(request))
            }
            (Stage::Taking { ended, .. }, Reply::Done) => (Turn::Take, self.proceed(ended, net)),
            (Stage::Syncing, Reply::Done) => {
                self.release(net);
                self.stage = Stage::Renaming;
                let (from, to) = (self.temporary.clone(), self.path.clone());
                let replace = !self.only_new;
                let rename = Effect::Rename { root: self.root, from, to, replace };
                (Turn::Wait, Some(net.request(rename)))
            }
            (Stage::Renaming, Reply::Done) => {
                self.stage = Stage::Settling;
                let (folder, _) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
                let sync = Effect::SyncFolder { root: self.root, path: folder.to_owned() };
                (Turn::Wait, Some(net.request(sync)))
            }
            (Stage::Settling, Reply::Done) => (Turn::Done { new: !self.replaces }, None),
            (stage, reply) => {
                let failure = match reply {
                    Reply::Failed(failure) => failure,
                    // A folder, a device.
                    _ => Failure::WrongKind,
                };
                let status = match (stage, failure) {
                    (Stage::Renaming, Failure::Exists) => Status::PRECONDITION_FAILED,
                    // What it would lie in is no folder, or what has the name is one.
                    (_, Failure::NotFound | Failure::WrongKind | Failure::Exists) => {
                        Status::CONFLICT
                    }
                    (_, Failure::Denied) => Status::FORBIDDEN,
                    (_, Failure::NameTooLong) => Status::BAD_REQUEST,
                    (_, Failure::Full) => Status::INSUFFICIENT_STORAGE,
                    (_, Failure::Exhausted) => Status::SERVICE_UNAVAILABLE,
                    _ => Status::INTERNAL_SERVER_ERROR,
                };
                (self.fail(status, net), None)
            }
        }
    }

    /// Gives it up.
    pub(super) fn fail(&mut self, status: Status, net: &mut Net<Server>) -> Turn {
        self.release(net);
        self.gathered = Vec::new();
        let named = matches!(self.stage, Stage::Taking { .. } | Stage::Syncing | Stage::Renaming);
        // While it is being created nobody knows: removing what is not there does no harm.
        if named || matches!(self.stage, Stage::Creating { .. }) {
            let path = mem::take(&mut self.temporary);
            // Whether it succeeds, nobody could make use of.
            let _ = net.request(Effect::Remove { root: self.root, path });
        }
        self.stage = Stage::Settling;
        Turn::Failed(status)
    }

    /// Writes what waits, and then makes it durable.
    fn proceed(&mut self, ended: bool, net: &mut Net<Server>) -> Option<RequestId> {
        if self.gathered.is_empty() && ended {
            self.stage = Stage::Syncing;
            return self.file.map(|file| net.request(Effect::Sync { file }));
        }
        if self.gathered.is_empty() {
            self.stage = Stage::Taking { writing: false, ended };
            return None;
        }
        self.write(ended, net)
    }

    fn write(&mut self, ended: bool, net: &mut Net<Server>) -> Option<RequestId> {
        self.stage = Stage::Taking { writing: true, ended };
        let bytes = Bytes::from(mem::take(&mut self.gathered));
        let offset = self.written;
        self.written = offset.saturating_add(bytes.len() as u64);
        self.file.map(|file| net.request(Effect::Write { file, offset, bytes }))
    }

    fn release(&mut self, net: &mut Net<Server>) {
        if let Some(file) = self.file.take() {
            net.release(file, None);
        }
    }
}
