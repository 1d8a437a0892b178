//! What a service asks of the host, as data, and how the host answers.

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;

use crate::time::UnixTime;

/// An open file in the host's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A folder the host was told to serve, by its place in the host's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(pub u32);

/// One request of a service; never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A part of an open file, to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// Which file.
    pub file: FileId,
    /// Of the first byte.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To read; only regular files.
    Read,
    /// To write and read a file that must not exist yet.
    CreateNew,
    /// To write and read a file that exists.
    Update,
    /// To write and read a new file without a name, which is gone once it is released. The path is
    /// that of a folder whose disk it may use.
    Unnamed,
}

/// Something only the host can do. Paths are relative, judged by core, and opened beneath
/// their root without following links out of it.
///
/// Each is answered by one [`Reply`], failures included, unless it was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open a file: [`Reply::Opened`].
    Open {
        /// Beneath this folder.
        root: RootId,
        /// Relative, `/` between parts.
        path: String,
        /// To read or to write.
        mode: OpenMode,
    },
    /// Look at a path: [`Reply::Found`].
    Stat {
        /// Beneath this folder.
        root: RootId,
        /// Relative, `/` between parts; empty for the root.
        path: String,
    },
    /// Look at an open file: [`Reply::Found`].
    StatFile {
        /// An open file.
        file: FileId,
    },
    /// List a folder in the order of its bytes: [`Reply::Listed`], at most 1,000 names after `after`.
    List {
        /// Beneath this folder.
        root: RootId,
        /// Relative, `/` between parts; empty for the root.
        path: String,
        /// Names up to and with this one are left out; empty to start.
        after: String,
    },
    /// Read: [`Reply::Read`], shorter only at the end of the file.
    Read {
        /// An open file.
        file: FileId,
        /// Of the first byte.
        offset: u64,
        /// At most this many bytes.
        len: u32,
    },
    /// Write all of `bytes`: [`Reply::Done`].
    Write {
        /// An open file.
        file: FileId,
        /// Of the first byte.
        offset: u64,
        /// What to write.
        bytes: Bytes,
    },
    /// Say when a file was modified last, in place of the last write: [`Reply::Done`].
    SetModified {
        /// An open file.
        file: FileId,
        /// As precise as the file system is.
        modified: UnixTime,
    },
    /// Make what was written, and when, durable: [`Reply::Done`].
    Sync {
        /// An open file.
        file: FileId,
    },
    /// Make a folder in one that exists: [`Reply::Done`].
    CreateFolder {
        /// Beneath this folder.
        root: RootId,
        /// Relative, `/` between parts.
        path: String,
    },
    /// Make names in a folder durable: [`Reply::Done`].
    SyncFolder {
        /// Beneath this folder.
        root: RootId,
        /// Relative; empty for the root.
        path: String,
    },
    /// Rename: [`Reply::Done`].
    Rename {
        /// Beneath this folder.
        root: RootId,
        /// The old path.
        from: String,
        /// The new path.
        to: String,
        /// Whether an existing `to` is replaced, or the request fails.
        replace: bool,
    },
    /// Remove a file: [`Reply::Done`].
    Remove {
        /// Beneath this folder.
        root: RootId,
        /// Relative.
        path: String,
    },
    /// Say when what `path` leads to may be another, or may have another content: once, with
    /// [`Reply::Done`]. It was written, truncated, touched, renamed, removed or replaced, or a folder
    /// above it was; something came where nothing was; or the host has lost track.
    ///
    /// For whoever keeps a file in memory. It stands from its place among the effects on: of what
    /// is opened and read after it, no change goes untold. And a change is told before anything that
    /// a peer sends after it, so that nobody who has written a file is then given the old one. Of a
    /// folder, the content is the names in it. What a process writes
    /// through a mapping (`mmap`) and a file system that is mounted over a folder are not seen.
    ///
    /// It fails with [`Failure::Unsupported`] where the host cannot tell, as on a network's file
    /// system, and with [`Failure::Exhausted`] if more than [`WATCHES`](Self::WATCHES) stand.
    Watch {
        /// Beneath this folder.
        root: RootId,
        /// Relative, `/` between parts.
        path: String,
    },
    /// Look up a name: [`Reply::Resolved`].
    Resolve {
        /// A host name or an address.
        name: String,
        /// Put into each address of the answer.
        port: u16,
    },
}

impl Effect {
    /// How many [`Watch`](Self::Watch) may stand at once in a shard: as many small files as are worth
    /// keeping, and an eighth of what Linux used to allow a user.
    pub const WATCHES: usize = 1_024;
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// In bytes.
    pub len: u64,
    /// Last change of the content.
    pub modified: UnixTime,
    /// What it is.
    pub kind: FileKind,
    /// Another whenever the content may be: after each write, also if it leaves length and time as
    /// they were, and if another file took the name. Nothing else can be told from it.
    pub stamp: u64,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, a pipe, a socket, a link.
    Other,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the path. Names that are not UTF-8 are left out by the host.
    pub name: String,
    /// What is known of it.
    pub metadata: Metadata,
}

/// The host's answer to an [`Effect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'r> {
    /// The file is open until it is released.
    Opened {
        /// Its place in the host's table.
        file: FileId,
        /// What is known of it.
        metadata: Metadata,
    },
    /// The path exists.
    Found(Metadata),
    /// The folder's next names.
    Listed(&'r [Entry]),
    /// The bytes read, valid for this call.
    Read(&'r [u8]),
    /// The name's addresses, at least one.
    Resolved(&'r [SocketAddr]),
    /// Done as asked.
    Done,
    /// Not done.
    Failed(Failure),
}

/// A [`Reply`] that owns what it tells: between threads, in a simulated disk, in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedReply {
    /// See [`Reply::Opened`].
    Opened {
        /// Its place in the host's table.
        file: FileId,
        /// What is known of it.
        metadata: Metadata,
    },
    /// See [`Reply::Found`].
    Found(Metadata),
    /// See [`Reply::Listed`].
    Listed(Vec<Entry>),
    /// See [`Reply::Read`].
    Read(Vec<u8>),
    /// See [`Reply::Resolved`].
    Resolved(Vec<SocketAddr>),
    /// See [`Reply::Done`].
    Done,
    /// See [`Reply::Failed`].
    Failed(Failure),
}

impl OwnedReply {
    /// As a shard takes it.
    pub fn as_reply(&self) -> Reply<'_> {
        match self {
            Self::Opened { file, metadata } => Reply::Opened { file: *file, metadata: *metadata },
            Self::Found(metadata) => Reply::Found(*metadata),
            Self::Listed(entries) => Reply::Listed(entries),
            Self::Read(bytes) => Reply::Read(bytes),
            Self::Resolved(addresses) => Reply::Resolved(addresses),
            Self::Done => Reply::Done,
            Self::Failed(failure) => Reply::Failed(*failure),
        }
    }
}

impl From<Reply<'_>> for OwnedReply {
    fn from(reply: Reply<'_>) -> Self {
        match reply {
            Reply::Opened { file, metadata } => Self::Opened { file, metadata },
            Reply::Found(metadata) => Self::Found(metadata),
            Reply::Listed(entries) => Self::Listed(entries.to_vec()),
            Reply::Read(bytes) => Self::Read(bytes.to_vec()),
            Reply::Resolved(addresses) => Self::Resolved(addresses.to_vec()),
            Reply::Done => Self::Done,
            Reply::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Why the system refused, in the terms of POSIX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The peer answered the connection attempt with a reset (ECONNREFUSED).
    Refused,
    /// An established connection was reset or broken (ECONNRESET, EPIPE).
    Reset,
    /// No answer in time (ETIMEDOUT).
    TimedOut,
    /// No way there (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// No such file, or no such name (ENOENT).
    NotFound,
    /// It is there already (EEXIST, EADDRINUSE).
    Exists,
    /// Not permitted (EACCES, EPERM).
    Denied,
    /// No space (ENOSPC, EDQUOT).
    Full,
    /// No descriptors or memory left (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    Exhausted,
    /// Not a kind of file that can be used so (EISDIR, ENOTDIR, ELOOP, a device).
    WrongKind,
    /// The file system takes no name of this length (ENAMETOOLONG).
    NameTooLong,
    /// The link or the path takes no datagram of this size (EMSGSIZE).
    TooLarge,
    /// The host cannot do this.
    Unsupported,
    /// Anything else.
    Other,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by peer",
            Self::TimedOut => "timed out",
            Self::Unreachable => "no route to host",
            Self::NotFound => "not found",
            Self::Exists => "already exists",
            Self::Denied => "permission denied",
            Self::Full => "no space left",
            Self::Exhausted => "out of descriptors or memory",
            Self::WrongKind => "not a file of the right kind",
            Self::NameTooLong => "the name is too long here",
            Self::TooLarge => "message too long",
            Self::Unsupported => "not supported here",
            Self::Other => "the system refused",
        })
    }
}

impl core::error::Error for Failure {}
