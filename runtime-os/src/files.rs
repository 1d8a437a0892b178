//! Files beneath the folders a host was given, and the names of the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use semfio_machine::{
    Effect, Entry, Failure, FileId, FileKind, Metadata, OpenMode, OwnedReply, RootId, UnixTime,
};

use crate::{Clock, failure};

/// The longest [`Effect::Read`] that is carried out, 16 MiB; longer ones fail as
/// [`Failure::Exhausted`].
pub const READ_LIMIT: u32 = 16 * 1024 * 1024;

/// The most names in one [`OwnedReply::Listed`].
pub const LIST_LIMIT: usize = 1_000;

/// The folders a host serves, in the order of their [`RootId`].
///
/// No path leads out of its folder: `..`, empty parts and absolute paths are refused, and no
/// link is followed, wherever in the path it stands.
#[derive(Debug, Default)]
pub struct Roots {
    folders: Vec<OwnedFd>,
    walk: Walk,
    listed: Mutex<Option<Listed>>,
}

/// The names in the folder that was listed last, so that one that is listed on is not read from its
/// beginning each time.
#[derive(Debug)]
struct Listed {
    /// Of the folder, as it was then: its names are those as long as this is its stamp.
    stamp: u64,
    /// In the order of their bytes.
    names: Vec<String>,
}

/// The most bytes of names that are kept, 24 counted beside the letters of each: some 40,000. A
/// larger folder is read anew for each thousand of its names.
const LISTED_LIMIT: usize = 2 * 1024 * 1024;

/// How long a folder must have been as it is before its names are kept: two changes within a tick
/// of the kernel's clock, at most 10 ms, leave one stamp.
const SETTLED: Duration = Duration::from_millis(100);

/// How the system is kept from leaving a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walk {
    /// By openat2, in one call.
    #[default]
    Whole,
    /// One part after the other, none of them a link: for old kernels, and sandboxes that do not
    /// know the call.
    Parts,
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The files that are open. Shared by the thread that opens and the one that sends them.
///
/// A number is never used for a second file, so that a stale one finds nothing.
#[derive(Debug)]
pub struct Files {
    table: Mutex<Table>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    open: BTreeMap<u32, Arc<File>>,
}

impl Roots {
    /// Opens these folders; the first is `RootId(0)`. Links in the paths given here are followed.
    pub fn open<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folders = folders
            .into_iter()
            .map(|path| Ok(fs::open(path.as_ref(), flags, Mode::empty())?))
            .collect::<io::Result<Vec<_>>>()?;
        let probe =
            folders.first().map(|folder| fs::openat2(folder, ".", flags, Mode::empty(), BENEATH));
        let walk = match probe {
            Some(Err(Errno::NOSYS | Errno::PERM)) => Walk::Parts,
            _ => Walk::Whole,
        };
        Ok(Self { folders, walk, listed: Mutex::default() })
    }

    fn beneath(
        &self,
        root: RootId,
        path: &str,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let folder = self.folders.get(root.0 as usize).ok_or(Errno::NOENT)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_empty() {
            return fs::openat(folder, ".", flags, mode);
        }
        judge(path)?;
        match self.walk {
            Walk::Whole => fs::openat2(folder, path, flags, mode, BENEATH),
            Walk::Parts => open_parts(folder.as_fd(), path, flags, mode),
        }
    }

    /// The root itself, or what `name` is in the folder `at` beneath it: to look at, not to read. A link
    /// is what it is, and leads nowhere.
    pub(crate) fn step(
        &self,
        root: RootId,
        at: Option<(BorrowedFd<'_>, &str)>,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match at {
            None => self.beneath(root, "", flags, Mode::empty()),
            Some((at, name)) => fs::openat(at, name, flags, Mode::empty()),
        }
    }

    /// The folder that holds the last part of `path`, and that part.
    fn parent<'p>(&self, root: RootId, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        judge(path)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.beneath(root, folder, flags, Mode::empty())?, name))
    }

    fn folder(&self, root: RootId, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        self.beneath(root, path, flags, Mode::empty())
    }
}

impl Files {
    /// An empty table for at most `limit` files at once.
    pub fn new(limit: usize) -> Self {
        Self { table: Mutex::default(), limit }
    }

    /// Takes in an open file; fails as [`Failure::Exhausted`] if the table is full.
    pub fn insert(&self, file: File) -> Result<FileId, Failure> {
        let mut table = self.table();
        let id = table.next;
        let next = id.checked_add(1).ok_or(Failure::Exhausted)?;
        if table.open.len() >= self.limit {
            return Err(Failure::Exhausted);
        }
        table.next = next;
        table.open.insert(id, Arc::new(file));
        Ok(FileId(id))
    }

    /// An open file.
    pub fn file(&self, id: FileId) -> Option<Arc<File>> {
        self.table().open.get(&id.0).cloned()
    }

    /// Closes a file, once nobody uses it any more.
    pub fn release(&self, id: FileId) {
        let file = self.table().open.remove(&id.0);
        // Closing may wait for a disk: not under the lock.
        drop(file);
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.table().open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The default limit leaves most of the usual 1,024 descriptors to connections.
impl Default for Files {
    fn default() -> Self {
        Self::new(256)
    }
}

/// Carries out one effect, and blocks as long as it takes.
pub fn perform(effect: &Effect, roots: &Roots, files: &Files) -> OwnedReply {
    attempt(effect, roots, files).unwrap_or_else(OwnedReply::Failed)
}

fn attempt(effect: &Effect, roots: &Roots, files: &Files) -> Result<OwnedReply, Failure> {
    match effect {
        Effect::Open { root, path, mode } => open(roots, files, *root, path, *mode),
        Effect::Stat { root, path } => {
            let found = roots.beneath(*root, path, OFlags::PATH, Mode::empty());
            let stat = found.and_then(fs::fstat).map_err(refused)?;
            Ok(OwnedReply::Found(metadata(&stat)))
        }
        Effect::StatFile { file } => {
            let file = files.file(*file).ok_or(Failure::NotFound)?;
            let stat = fs::fstat(&*file).map_err(refused)?;
            Ok(OwnedReply::Found(metadata(&stat)))
        }
        Effect::List { root, path, after } => {
            let folder = roots.folder(*root, path).map_err(refused)?;
            list(folder, after, &roots.listed).map(OwnedReply::Listed).map_err(refused)
        }
        Effect::Read { file, offset, len } => {
            if *len > READ_LIMIT {
                return Err(Failure::Exhausted);
            }
            let file = files.file(*file).ok_or(Failure::NotFound)?;
            let bytes = read(&file, *offset, *len).map_err(|error| failure(&error))?;
            Ok(OwnedReply::Read(bytes))
        }
        Effect::Write { file, offset, bytes } => {
            let file = files.file(*file).ok_or(Failure::NotFound)?;
            done(file.write_all_at(bytes, *offset))
        }
        Effect::SetModified { file, modified } => {
            let file = files.file(*file).ok_or(Failure::NotFound)?;
            done(file.set_modified(UNIX_EPOCH + Duration::from_nanos(modified.as_nanos())))
        }
        Effect::Sync { file } => {
            let file = files.file(*file).ok_or(Failure::NotFound)?;
            done(file.sync_all())
        }
        Effect::CreateFolder { root, path } => {
            let (folder, name) = roots.parent(*root, path).map_err(refused)?;
            let made = fs::mkdirat(folder, name, Mode::from_raw_mode(0o777));
            made.map(|()| OwnedReply::Done).map_err(refused)
        }
        Effect::SyncFolder { root, path } => {
            let folder = roots.folder(*root, path).map_err(refused)?;
            done(fs::fsync(folder).map_err(io::Error::from))
        }
        Effect::Rename { root, from, to, replace } => {
            let (old, from) = roots.parent(*root, from).map_err(refused)?;
            let (new, to) = roots.parent(*root, to).map_err(refused)?;
            let renamed = if *replace {
                fs::renameat(old, from, new, to)
            } else {
                rename_new(old.as_fd(), from, new.as_fd(), to)
            };
            renamed.map(|()| OwnedReply::Done).map_err(refused)
        }
        Effect::Remove { root, path } => {
            let (folder, name) = roots.parent(*root, path).map_err(refused)?;
            let removed = fs::unlinkat(folder, name, AtFlags::empty());
            removed.map(|()| OwnedReply::Done).map_err(refused)
        }
        // What is answered later, a [`Worker`](crate::Worker) keeps.
        Effect::Watch { .. } => Err(Failure::Unsupported),
        Effect::Resolve { name, port } => resolve(name, *port),
    }
}

fn open(
    roots: &Roots,
    files: &Files,
    root: RootId,
    path: &str,
    mode: OpenMode,
) -> Result<OwnedReply, Failure> {
    if !(mode == OpenMode::Unnamed && path.is_empty()) {
        judge(path).map_err(refused)?;
    }
    // Nonblocking, since opening a pipe would wait for its other end.
    let (flags, created) = match mode {
        OpenMode::Read => (OFlags::RDONLY, Mode::empty()),
        OpenMode::Update => (OFlags::RDWR, Mode::empty()),
        OpenMode::CreateNew => {
            (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o666))
        }
        OpenMode::Unnamed => (OFlags::RDWR | OFlags::TMPFILE, Mode::from_raw_mode(0o600)),
    };
    let file = roots
        .beneath(root, path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, created)
        .map_err(refused)?;
    let metadata = metadata(&fs::fstat(&file).map_err(refused)?);
    if metadata.kind != FileKind::File {
        return Err(Failure::WrongKind);
    }
    let file = files.insert(file.into())?;
    Ok(OwnedReply::Opened { file, metadata })
}

/// Refuses what is not parts with `/` between them, beneath the folder it starts from.
pub(crate) fn judge(path: &str) -> Result<(), Errno> {
    let fine = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if path.split('/').all(fine) { Ok(()) } else { Err(Errno::ACCESS) }
}

fn open_parts(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder: Option<OwnedFd> = None;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        if parts.peek().is_none() {
            return fs::openat(at, part, flags, mode);
        }
        folder = Some(fs::openat(at, part, step, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

fn list(folder: OwnedFd, after: &str, listed: &Mutex<Option<Listed>>) -> Result<Vec<Entry>, Errno> {
    let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = stamp_of(&fs::fstat(&folder)?);
    let names = match &*listed {
        Some(kept) if kept.stamp == stamp => {
            let from = kept.names.partition_point(|name| name.as_str() <= after);
            kept.names[from..].iter().take(LIST_LIMIT).cloned().collect()
        }
        _ => {
            let (page, all) = read_names(&folder, after)?;
            let stat = fs::fstat(&folder)?;
            let names = all.filter(|_| stamp_of(&stat) == stamp && is_settled(&stat));
            *listed = names.map(|names| Listed { stamp, names });
            page
        }
    };
    drop(listed);
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(Entry { metadata: metadata(&stat), name }),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(entries)
}

/// The next names after `after`, and all of them unless they are too many to be kept.
fn read_names(
    folder: &OwnedFd,
    after: &str,
) -> Result<(BTreeSet<String>, Option<Vec<String>>), Errno> {
    let mut page = BTreeSet::new();
    let mut all = Some(Vec::new());
    let mut size = 0;
    for found in Dir::read_from(folder)? {
        let found = found?;
        let Ok(name) = found.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        if name > after {
            page.insert(name.to_owned());
            if page.len() > LIST_LIMIT {
                page.pop_last();
            }
        }
        size += name.len() + size_of::<String>();
        if size > LISTED_LIMIT {
            all = None;
        }
        if let Some(all) = &mut all {
            all.push(name.to_owned());
        }
    }
    if let Some(all) = &mut all {
        all.sort_unstable();
    }
    Ok((page, all))
}

/// Whether it was last changed long enough ago for its stamp to tell the next change.
#[allow(clippy::unnecessary_cast)] // fields are narrower on other architectures
fn is_settled(stat: &fs::Stat) -> bool {
    let changed = unix_time(stat.st_ctime as i64, stat.st_ctime_nsec as u64);
    let ago = Clock::start().now().unix.as_nanos().checked_sub(changed.as_nanos());
    ago.is_some_and(|ago| Duration::from_nanos(ago) > SETTLED)
}

fn read(file: &File, offset: u64, len: u32) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let len = usize::try_from(left.min(u64::from(len))).unwrap_or(0);
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        // Into memory that was never written: clearing it first would cost as much as the read.
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

fn rename_new(old: BorrowedFd<'_>, from: &str, new: BorrowedFd<'_>, to: &str) -> Result<(), Errno> {
    match fs::renameat_with(old, from, new, to, RenameFlags::NOREPLACE) {
        // Not every file system can; a link is never made over an existing name either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::linkat(old, from, new, to, AtFlags::empty())?;
            fs::unlinkat(old, from, AtFlags::empty())
        }
        answer => answer,
    }
}

fn resolve(name: &str, port: u16) -> Result<OwnedReply, Failure> {
    match (name, port).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return Err(Failure::NotFound);
            }
            Ok(OwnedReply::Resolved(addresses))
        }
        // What is not an error of the system is the resolver's "no".
        Err(error) if error.raw_os_error().is_none() => Err(Failure::NotFound),
        Err(error) => Err(failure(&error)),
    }
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // fields are narrower on other architectures
fn metadata(stat: &fs::Stat) -> Metadata {
    Metadata {
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified: unix_time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Folder,
            _ => FileKind::Other,
        },
        stamp: stamp_of(stat),
    }
}

fn unix_time(seconds: i64, nanos: u64) -> UnixTime {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    UnixTime::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[allow(clippy::unnecessary_cast)] // fields are narrower on other architectures
fn stamp_of(stat: &fs::Stat) -> u64 {
    stamp([stat.st_dev, stat.st_ino, stat.st_ctime as u64, stat.st_ctime_nsec as u64])
}

/// One number of which file it is and when it was last changed. The time of change is the
/// kernel's own: nobody can set it back.
fn stamp(parts: [u64; 4]) -> u64 {
    parts.into_iter().fold(0, |stamp: u64, part| {
        // A round of splitmix64: each bit of a part reaches each bit of the stamp.
        let mut x = (stamp ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    })
}

fn done(result: io::Result<()>) -> Result<OwnedReply, Failure> {
    match result {
        Ok(()) => Ok(OwnedReply::Done),
        Err(error) => Err(failure(&error)),
    }
}

fn refused(errno: Errno) -> Failure {
    failure(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tempfile::TempDir;

    const ROOT: RootId = RootId(0);

    struct Folder {
        dir: TempDir,
        roots: Roots,
        files: Files,
    }

    impl Folder {
        fn new(walk: Walk) -> Self {
            let dir = TempDir::new().unwrap();
            let inside = dir.path().join("inside");
            std::fs::create_dir_all(inside.join("sub")).unwrap();
            std::fs::write(dir.path().join("secret"), "secret").unwrap();
            std::fs::write(inside.join("sub/plain"), "plain").unwrap();
            let mut roots = Roots::open([&inside]).unwrap();
            assert_eq!(roots.walk, Walk::Whole, "openat2 is there");
            roots.walk = walk;
            Self { dir, roots, files: Files::new(3) }
        }

        fn both(test: impl Fn(Self)) {
            test(Self::new(Walk::Whole));
            test(Self::new(Walk::Parts));
        }

        fn inside(&self, path: &str) -> std::path::PathBuf {
            self.dir.path().join("inside").join(path)
        }

        fn perform(&self, effect: Effect) -> OwnedReply {
            perform(&effect, &self.roots, &self.files)
        }

        fn open(&self, path: &str, mode: OpenMode) -> OwnedReply {
            let path = path.into();
            self.perform(Effect::Open { root: ROOT, path, mode })
        }

        fn opened(&self, path: &str, mode: OpenMode) -> FileId {
            match self.open(path, mode) {
                OwnedReply::Opened { file, .. } => file,
                other => panic!("{path}: {other:?}"),
            }
        }

        fn stat(&self, path: &str) -> OwnedReply {
            let path = path.into();
            self.perform(Effect::Stat { root: ROOT, path })
        }

        fn list(&self, path: &str, after: &str) -> OwnedReply {
            self.perform(Effect::List { root: ROOT, path: path.into(), after: after.into() })
        }

        fn read(&self, file: FileId, offset: u64, len: u32) -> OwnedReply {
            self.perform(Effect::Read { file, offset, len })
        }

        fn rename(&self, from: &str, to: &str, replace: bool) -> OwnedReply {
            self.perform(Effect::Rename { root: ROOT, from: from.into(), to: to.into(), replace })
        }

        fn remove(&self, path: &str) -> OwnedReply {
            let path = path.into();
            self.perform(Effect::Remove { root: ROOT, path })
        }
    }

    fn failed(failure: Failure) -> OwnedReply {
        OwnedReply::Failed(failure)
    }

    #[test]
    fn a_file_without_a_name_is_written_and_read_and_leaves_nothing() {
        Folder::both(|it| {
            let names = |path: &str| {
                let list = Effect::List { root: ROOT, path: path.into(), after: String::new() };
                match it.perform(list) {
                    OwnedReply::Listed(entries) => entries.len(),
                    other => panic!("{other:?}"),
                }
            };
            for folder in ["", "sub"] {
                let before = names(folder);
                let file = it.opened(folder, OpenMode::Unnamed);
                let write = Effect::Write { file, offset: 1, bytes: "abc".into() };
                assert_eq!(it.perform(write), OwnedReply::Done);
                assert_eq!(it.read(file, 0, 9), OwnedReply::Read(b"\0abc".to_vec()));
                assert_ne!(it.opened(folder, OpenMode::Unnamed), file);
                assert_eq!(names(folder), before);
                it.files.release(file);
                assert_eq!(it.read(file, 0, 9), failed(Failure::NotFound));
            }
            assert_eq!(it.open("none", OpenMode::Unnamed), failed(Failure::NotFound));
            assert_eq!(it.open("../sub", OpenMode::Unnamed), failed(Failure::Denied));
            assert_eq!(it.open("sub/plain", OpenMode::Unnamed), failed(Failure::WrongKind));
        });
    }

    #[test]
    fn a_file_is_created_written_read_renamed_and_removed() {
        Folder::both(|it| {
            let file = it.opened("sub/new", OpenMode::CreateNew);
            let again = it.open("sub/new", OpenMode::CreateNew);
            assert_eq!(again, failed(Failure::Exists));
            let bytes = "0123456789".into();
            let write = Effect::Write { file, offset: 2, bytes };
            assert_eq!(it.perform(write), OwnedReply::Done);
            let modified = UnixTime::from_nanos(1_234_567_890_123_000_000);
            assert_eq!(it.perform(Effect::SetModified { file, modified }), OwnedReply::Done);
            assert_eq!(it.perform(Effect::Sync { file }), OwnedReply::Done);
            match it.perform(Effect::StatFile { file }) {
                OwnedReply::Found(metadata) => assert_eq!(metadata.modified, modified),
                other => panic!("{other:?}"),
            }
            let path = "sub".to_owned();
            let sync = Effect::SyncFolder { root: ROOT, path };
            assert_eq!(it.perform(sync), OwnedReply::Done);
            assert_eq!(it.read(file, 0, 4), OwnedReply::Read(b"\0\x0001".to_vec()));
            assert_eq!(it.read(file, 10, 99), OwnedReply::Read(b"89".to_vec()));
            assert_eq!(it.read(file, 50, 99), OwnedReply::Read(Vec::new()));
            let too_long = it.read(file, 0, READ_LIMIT + 1);
            assert_eq!(too_long, failed(Failure::Exhausted));

            let kept = it.rename("sub/new", "sub/plain", false);
            assert_eq!(kept, failed(Failure::Exists));
            assert_eq!(std::fs::read(it.inside("sub/plain")).unwrap(), b"plain");
            assert_eq!(it.rename("sub/new", "other", false), OwnedReply::Done);
            assert_eq!(it.rename("other", "sub/plain", true), OwnedReply::Done);
            let OwnedReply::Found(found) = it.stat("sub/plain") else {
                panic!("it was renamed");
            };
            assert_eq!((found.len, found.kind), (12, FileKind::File));

            assert_eq!(it.remove("sub/plain"), OwnedReply::Done);
            assert_eq!(it.remove("sub/plain"), failed(Failure::NotFound));
            assert_eq!(it.remove("sub"), failed(Failure::WrongKind));
            it.files.release(file);
            assert!(it.files.is_empty());
            assert_eq!(it.read(file, 0, 1), failed(Failure::NotFound));
        });
    }

    #[test]
    fn no_path_leads_out() {
        Folder::both(|it| {
            let outside = it.dir.path();
            symlink(outside.join("secret"), it.inside("absolute")).unwrap();
            symlink("../secret", it.inside("relative")).unwrap();
            symlink("sub", it.inside("within")).unwrap();
            symlink(outside, it.inside("folder")).unwrap();
            symlink("/proc/self/fd", it.inside("magic")).unwrap();
            for mode in [OpenMode::Read, OpenMode::Update, OpenMode::CreateNew] {
                for path in ["", "../secret", "/etc/passwd", "sub/../../secret", "sub//a"] {
                    assert_eq!(it.open(path, mode), failed(Failure::Denied), "{path}");
                }
                for path in ["within/plain", "folder/secret", "folder/new", "magic/0"] {
                    assert_eq!(it.open(path, mode), failed(Failure::WrongKind), "{path}");
                }
            }
            for path in ["absolute", "relative"] {
                for mode in [OpenMode::Read, OpenMode::Update] {
                    assert_eq!(it.open(path, mode), failed(Failure::WrongKind), "{path}");
                }
                // The link itself may be seen and removed, never what it leads to.
                assert!(
                    matches!(it.stat(path), OwnedReply::Found(found) if found.kind == FileKind::Other)
                );
                assert_eq!(it.remove(path), OwnedReply::Done);
            }
            assert_eq!(it.stat("folder/secret"), failed(Failure::WrongKind));
            assert_eq!(it.list("folder", ""), failed(Failure::WrongKind));
            assert_eq!(it.list("..", ""), failed(Failure::Denied));
            assert_eq!(it.remove("folder/secret"), failed(Failure::WrongKind));
            assert_eq!(it.remove("../secret"), failed(Failure::Denied));
            let moved = it.rename("sub/plain", "folder/stolen", true);
            assert_eq!(moved, failed(Failure::WrongKind));
            let moved = it.rename("folder/secret", "stolen", true);
            assert_eq!(moved, failed(Failure::WrongKind));
            assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
            assert!(!outside.join("new").exists());
            assert!(it.files.is_empty());
        });
    }

    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere() {
        Folder::both(|it| {
            let outside = it.dir.path().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("file"), "secret").unwrap();
            std::fs::create_dir(it.inside("door")).unwrap();
            std::fs::write(it.inside("door/file"), "plain").unwrap();
            symlink(&outside, it.inside("link")).unwrap();
            let (door, link) = (it.inside("door"), it.inside("link"));
            let stop = AtomicBool::new(false);
            let (mut through, mut refused) = (0, 0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let exchange = RenameFlags::EXCHANGE;
                        fs::renameat_with(fs::CWD, &door, fs::CWD, &link, exchange).unwrap();
                    }
                });
                // Until the link was met as often as the folder; a busy machine takes longer.
                for number in 0..200_000 {
                    match it.open("door/file", OpenMode::Read) {
                        OwnedReply::Opened { file, .. } => {
                            let read = it.read(file, 0, 99);
                            it.files.release(file);
                            if read != OwnedReply::Read(b"plain".to_vec()) {
                                stop.store(true, Ordering::Relaxed);
                                panic!("{read:?}");
                            }
                            through += 1;
                        }
                        _ => refused += 1,
                    }
                    let new = format!("door/{number}");
                    if let OwnedReply::Opened { file, .. } = it.open(&new, OpenMode::CreateNew) {
                        it.files.release(file);
                    }
                    it.rename("sub/plain", "door/plain", true);
                    it.rename("door/plain", "sub/plain", true);
                    it.remove(&new);
                    it.remove("door/none");
                    if through >= 300 && refused >= 300 {
                        break;
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(through > 0 && refused > 0, "{through} through, {refused} refused");
            let left: Vec<_> = std::fs::read_dir(&outside)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left, ["file"], "nothing was created outside, removed or moved there");
        });
    }

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_hang() {
        Folder::both(|it| {
            let pipe = it.inside("pipe");
            fs::mknodat(fs::CWD, &pipe, FileType::Fifo, 0o600.into(), 0).unwrap();
            for mode in [OpenMode::Read, OpenMode::Update] {
                assert_eq!(it.open("pipe", mode), failed(Failure::WrongKind));
                assert_eq!(it.open("sub", mode), failed(Failure::WrongKind));
            }
            assert_eq!(it.open("sub/none", OpenMode::Update), failed(Failure::NotFound));
            assert_eq!(it.list("sub/plain", ""), failed(Failure::WrongKind));
        });
    }

    #[test]
    fn a_folder_is_listed_in_byte_order_in_pieces() {
        Folder::both(|it| {
            for number in 0..LIST_LIMIT + 5 {
                std::fs::write(it.inside(&format!("sub/{number:05}")), [0; 3]).unwrap();
            }
            let odd = std::os::unix::ffi::OsStringExt::from_vec(b"sub/\xff".to_vec());
            let odd: std::ffi::OsString = odd;
            std::fs::write(it.inside("").join(odd), "").unwrap();
            let OwnedReply::Listed(first) = it.list("sub", "") else {
                panic!("not listed");
            };
            assert_eq!(first.len(), LIST_LIMIT);
            assert!(first.is_sorted_by(|a, b| a.name < b.name));
            assert_eq!(first[0].metadata.len, 3);
            let OwnedReply::Listed(rest) = it.list("sub", &first[LIST_LIMIT - 1].name) else {
                panic!("not listed");
            };
            let names: Vec<_> = rest.iter().map(|entry| entry.name.as_str()).collect();
            assert_eq!(names, ["01000", "01001", "01002", "01003", "01004", "plain"]);
            assert_eq!(it.list("sub", "plain"), OwnedReply::Listed(Vec::new()));
            assert!(matches!(it.list("", ""), OwnedReply::Listed(all) if all.len() == 1));
            assert!(matches!(it.stat(""), OwnedReply::Found(at) if at.kind == FileKind::Folder));
        });
    }

    /// Each name that is added or gone is seen at once, whether the names were kept or not.
    #[test]
    fn what_is_kept_of_a_listing_is_never_older_than_the_folder() {
        let it = Folder::new(Walk::Whole);
        let number = |n: usize| it.inside(&format!("sub/{n:05}"));
        for n in 0..2_500 {
            std::fs::write(number(n), "").unwrap();
        }
        let all = || {
            let (mut names, mut after) = (Vec::new(), String::new());
            loop {
                let OwnedReply::Listed(page) = it.list("sub", &after) else { panic!("not listed") };
                let Some(last) = page.last() else { return names };
                after.clone_from(&last.name);
                names.extend(page.into_iter().map(|entry| entry.name));
            }
        };
        let kept = || it.roots.listed.lock().unwrap().as_ref().map(|kept| kept.names.len());
        assert_eq!(all().len(), 2_501);
        // Right after a change; on a busy machine a pause may come between, but not each time.
        let is_unsettled = |_| {
            std::fs::remove_file(number(0)).unwrap();
            std::fs::write(number(0), "").unwrap();
            assert!(matches!(it.list("sub", ""), OwnedReply::Listed(_)));
            kept().is_none()
        };
        assert!((0..100).any(is_unsettled), "names are kept before they are settled");
        std::thread::sleep(SETTLED * 2);
        let before = all();
        assert_eq!((before.len(), kept()), (2_501, Some(2_501)));
        assert!(before.is_sorted() && all() == before);
        std::fs::remove_file(number(7)).unwrap();
        assert_eq!(all().len(), 2_500);
        // Another folder is another listing; here many changes fall within one tick.
        let count = || match it.list("", "") {
            OwnedReply::Listed(all) => all.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count(), 1);
        for n in 0..500 {
            std::fs::write(it.inside("new"), "").unwrap();
            assert_eq!(count(), 2, "{n}");
            std::fs::remove_file(it.inside("new")).unwrap();
            assert_eq!(count(), 1, "{n}");
        }
        assert_eq!(all().len(), 2_500);
    }

    #[test]
    fn the_table_is_bounded_and_numbers_are_not_used_twice() {
        let it = Folder::new(Walk::Whole);
        let first = it.opened("sub/plain", OpenMode::Read);
        it.files.release(first);
        for _ in 0..3 {
            assert_ne!(it.opened("sub/plain", OpenMode::Read), first);
        }
        let full = it.open("sub/plain", OpenMode::Read);
        assert_eq!(full, failed(Failure::Exhausted));
        assert_eq!(it.files.len(), 3);
        assert!(it.files.file(first).is_none());
    }

    #[test]
    fn names_are_resolved() {
        let it = Folder::new(Walk::Whole);
        let resolve = |name: &str| {
            let name = name.into();
            it.perform(Effect::Resolve { name, port: 7 })
        };
        let expected = vec!["127.0.0.1:7".parse().unwrap()];
        assert_eq!(resolve("127.0.0.1"), OwnedReply::Resolved(expected));
        assert_eq!(resolve("no name at all"), failed(Failure::NotFound));
        let unknown = Effect::Stat { root: RootId(9), path: "sub".into() };
        assert_eq!(it.perform(unknown), failed(Failure::NotFound));
    }

    #[test]
    fn folders_are_made_beneath_the_root_and_only_there() {
        Folder::both(|folder| {
            symlink(folder.dir.path(), folder.inside("out")).unwrap();
            for (path, answer) in [
                ("new", OwnedReply::Done),
                ("new", OwnedReply::Failed(Failure::Exists)),
                ("new/deep", OwnedReply::Done),
                ("none/deep", OwnedReply::Failed(Failure::NotFound)),
            ] {
                let made = folder.perform(Effect::CreateFolder { root: ROOT, path: path.into() });
                assert_eq!(made, answer, "{path}");
            }
            for path in ["../beside", "out/beside", "/beside", ""] {
                let made = folder.perform(Effect::CreateFolder { root: ROOT, path: path.into() });
                assert!(matches!(made, OwnedReply::Failed(_)), "{path}: {made:?}");
            }
            assert!(folder.inside("new/deep").is_dir());
            assert!(!folder.dir.path().join("beside").exists());
        });
    }

    #[test]
    fn a_stamp_tells_a_content_from_one_of_the_same_length_and_time() {
        let folder = Folder::new(Walk::Whole);
        let path = folder.inside("sub/plain");
        let file = folder.opened("sub/plain", OpenMode::Read);
        let look = |effect| match folder.perform(effect) {
            OwnedReply::Found(metadata) => metadata,
            other => panic!("{other:?}"),
        };
        let open = || look(Effect::StatFile { file });
        let named = || look(Effect::Stat { root: ROOT, path: "sub/plain".into() });
        let before = open();
        assert_eq!(named(), before);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        // The kernel's clock for files ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(&path, "PLAIN").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let after = open();
        assert_eq!((before.len, before.modified), (after.len, after.modified));
        assert_ne!(before.stamp, after.stamp);
        // Another file under the name.
        std::fs::copy(&path, folder.inside("other")).unwrap();
        std::fs::rename(folder.inside("other"), &path).unwrap();
        assert_ne!(named().stamp, open().stamp);
    }
}
