//! Folders and files that can fail.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Effect, Entry, Failure, FileId, FileKind, FileSpan, Metadata, Now, OpenMode, OwnedReply,
    RequestId, RootId, Seed, UnixTime,
};

use crate::dice::Dice;

/// The simulated disk of one host, and its table of names: carries out every [`Effect`].
///
/// Each file has a content as processes see it and one that is durable; each folder likewise has
/// names. [`Effect::Sync`] makes a content durable, [`Effect::SyncFolder`] the names in one folder,
/// and nothing else does. [`crash`](Self::crash) leaves what is durable;
/// [`crash_at_random`](Self::crash_at_random) leaves of the rest whatever the system happened to
/// have written, in no order: a rename without its content, a part of a write.
///
/// ```
/// use semfio_sim::Disk;
/// use semfio_machine::{Effect, Now, OwnedReply, RootId};
///
/// let mut disk = Disk::default();
/// disk.put_file(RootId(0), "notes/a", "hello");
/// let (from, to) = ("notes/a".into(), "notes/b".into());
/// let rename = Effect::Rename { root: RootId(0), from, to, replace: false };
/// assert_eq!(disk.perform(Now::default(), &rename), OwnedReply::Done);
/// assert_eq!(disk.content(RootId(0), "notes/b"), Some(&b"hello"[..]));
/// disk.crash(); // before the folder was synced
/// assert_eq!(disk.content(RootId(0), "notes/b"), None);
/// assert_eq!(disk.content(RootId(0), "notes/a"), Some(&b"hello"[..]));
/// ```
#[derive(Clone, Debug)]
pub struct Disk {
    config: DiskConfig,
    inodes: Vec<Inode>,
    roots: BTreeMap<RootId, usize>,
    open: BTreeMap<FileId, Handle>,
    files: u32,
    names: BTreeMap<String, Result<Vec<IpAddr>, Failure>>,
    /// Operations that will fail, by number.
    faults: BTreeMap<u64, Failure>,
    operations: u64,
    changes: u64,
    watches: BTreeMap<RequestId, Watch>,
}

/// How a [`Disk`] behaves. The default answers at once, is never full and reads all that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// How long a request takes.
    pub latency: Duration,
    /// Up to so much more, drawn for each request: answers may overtake each other.
    pub jitter: Duration,
    /// How much one system call reads at most. [`OwnedReply::Read`] is made of as many as it
    /// takes, so that it is short only at the end of the file; a file span leaves in such pieces.
    pub read_max: usize,
    /// Bytes of content, all files together; `None` is endless.
    pub capacity: Option<u64>,
    /// Files open at once. Default 1,024, a usual limit on descriptors.
    pub open_files: usize,
    /// Paths watched at once, by default [`Effect::WATCHES`]; with none, the disk is of a kind that
    /// cannot tell.
    pub watches: usize,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            read_max: usize::MAX,
            capacity: None,
            open_files: 1024,
            watches: Effect::WATCHES,
        }
    }
}

impl Disk {
    /// Names a folder lists at once, at most.
    pub const LIST_MAX: usize = 1_000;

    /// An empty disk.
    pub fn new(config: DiskConfig) -> Self {
        Self {
            config,
            inodes: Vec::new(),
            roots: BTreeMap::new(),
            open: BTreeMap::new(),
            files: 0,
            names: BTreeMap::new(),
            faults: BTreeMap::new(),
            operations: 0,
            changes: 0,
            watches: BTreeMap::new(),
        }
    }

    /// How it behaves.
    pub fn config(&self) -> &DiskConfig {
        &self.config
    }

    /// How it shall behave from here on.
    pub fn set_config(&mut self, config: DiskConfig) {
        self.config = config;
    }

    /// Makes a folder, and those above it, durable. An empty path makes the root.
    pub fn put_folder(&mut self, root: RootId, path: &str) {
        self.make_folder(root, path);
    }

    /// Makes a file, and the folders above it, durable. One of that name is replaced.
    pub fn put_file(&mut self, root: RootId, path: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        self.put(
            root,
            path,
            Inode::File(File {
                durable: content.clone(),
                content,
                modified: UnixTime::default(),
                stamp: 0,
            }),
        );
    }

    /// Changes the content of a file in place, as another process would: who has it open sees it.
    /// Whether there is such a file.
    pub fn rewrite(
        &mut self,
        now: Now,
        root: RootId,
        path: &str,
        content: impl Into<Vec<u8>>,
    ) -> bool {
        let Ok(inode) = self.find(root, path) else {
            return false;
        };
        let Some(Inode::File(file)) = self.inodes.get_mut(inode) else {
            return false;
        };
        file.content = content.into();
        file.modified = now.unix;
        file.stamp = file.stamp.saturating_add(1);
        self.touch(inode, None);
        true
    }

    /// Makes something that is neither file nor folder: a device, a link.
    pub fn put_other(&mut self, root: RootId, path: &str) {
        self.put(root, path, Inode::Other);
    }

    /// The content of a file as processes see it.
    pub fn content(&self, root: RootId, path: &str) -> Option<&[u8]> {
        match self.inodes.get(self.find(root, path).ok()?)? {
            Inode::File(file) => Some(&file.content),
            _ => None,
        }
    }

    /// The names in a folder, in order.
    pub fn names(&self, root: RootId, path: &str) -> Vec<&str> {
        let inode = self.find(root, path).ok();
        match inode.and_then(|inode| self.inodes.get(inode)) {
            Some(Inode::Folder(folder)) => folder.names.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What the look-up of `name` answers; names it does not know are not found.
    pub fn put_name(&mut self, name: &str, answer: Result<Vec<IpAddr>, Failure>) {
        self.names.insert(name.to_owned(), answer);
    }

    /// The `n`th operation from now fails, 1 being the next; it changes nothing. Each effect and
    /// each read of a file span is one operation.
    pub fn fail_nth(&mut self, n: u64, failure: Failure) {
        let at = self.operations.saturating_add(n.saturating_sub(1));
        self.faults.insert(at, failure);
    }

    /// Operations so far: how many places there are for a fault.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Carries out an effect, at once.
    pub fn perform(&mut self, now: Now, effect: &Effect) -> OwnedReply {
        self.operate()
            .and_then(|()| self.try_perform(now, effect))
            .unwrap_or_else(OwnedReply::Failed)
    }

    /// Reads the beginning of a span, at most `most` bytes: what one system call gives. A span that
    /// goes past the end of its file fails there.
    pub fn read_span(&mut self, span: FileSpan, most: usize) -> Result<Bytes, Failure> {
        self.operate()?;
        let len = usize::try_from(span.len).unwrap_or(usize::MAX).min(most);
        match self.read_once(span.file, span.offset, len)? {
            [] => Err(Failure::Other),
            bytes => Ok(Bytes::copy_from_slice(bytes)),
        }
    }

    /// Watches a path for `request`: from here on [`take_changed`](Self::take_changed) gives it, once,
    /// if what the path leads to may be another or have another content. It is none of the
    /// operations that [`fail_nth`](Self::fail_nth) counts.
    ///
    /// # Errors
    ///
    /// As of [`Effect::Watch`].
    pub fn watch(&mut self, request: RequestId, root: RootId, path: &str) -> Result<(), Failure> {
        if self.config.watches == 0 {
            return Err(Failure::Unsupported);
        }
        if self.watches.len() >= self.config.watches {
            return Err(Failure::Exhausted);
        }
        let mut at = *self.roots.get(&root).ok_or(Failure::NotFound)?;
        let mut names = Vec::new();
        let mut parts = parts(path)?.peekable();
        while let (Some(part), Some(Inode::Folder(folder))) = (parts.peek(), self.inodes.get(at)) {
            names.push((at, String::from(*part)));
            let Some(&next) = folder.names.get(*part) else { break };
            at = next;
            parts.next();
        }
        let inode = if parts.peek().is_none() { Some(at) } else { None };
        self.watches.insert(request, Watch { names, inode, changed: false });
        Ok(())
    }

    /// Watches no more for `request`.
    pub fn unwatch(&mut self, request: RequestId) {
        self.watches.remove(&request);
    }

    /// Whether [`take_changed`](Self::take_changed) has something to give.
    pub fn has_changed(&self) -> bool {
        self.watches.values().any(|watch| watch.changed)
    }

    /// For whom what is watched has changed, and is watched no more.
    pub fn take_changed(&mut self) -> Vec<RequestId> {
        let changed = self.watches.iter().filter(|(_, watch)| watch.changed);
        let changed: Vec<_> = changed.map(|(&request, _)| request).collect();
        self.watches.retain(|_, watch| !watch.changed);
        changed
    }

    /// Closes a file.
    pub fn release(&mut self, file: FileId) {
        self.open.remove(&file);
    }

    /// The process is gone: its files are closed, nothing is watched for it, nothing else happens.
    pub fn close_all(&mut self) {
        self.open.clear();
        self.watches.clear();
    }

    /// The power fails: only what was made durable is left, and no file is open.
    pub fn crash(&mut self) {
        self.close_all();
        for inode in &mut self.inodes {
            match inode {
                Inode::File(file) => file.content.clone_from(&file.durable),
                Inode::Folder(folder) => {
                    folder.names.clone_from(&folder.durable);
                    folder.changes.clear();
                }
                Inode::Other => {}
            }
        }
    }

    /// The power fails, and of what was not made durable some happens to be there: each change of
    /// a name (both halves of a rename together), each page of a content, in no order.
    pub fn crash_at_random(&mut self, seed: u64) {
        let seed = Seed::from_u64(seed);
        let mut dice = Dice::new(&seed, PAGES);
        let mut kept = BTreeMap::new();
        let mut choice = Dice::new(&seed, CHANGES);
        for change in 0..self.changes {
            kept.insert(change, choice.below(2) == 0);
        }
        for inode in &mut self.inodes {
            match inode {
                Inode::File(file) => file.tear(&mut dice),
                Inode::Folder(folder) => {
                    for (change, name, inode) in core::mem::take(&mut folder.changes) {
                        if kept.get(&change) == Some(&true) {
                            set(&mut folder.durable, name, inode);
                        }
                    }
                }
                Inode::Other => {}
            }
        }
        self.crash();
    }

    fn operate(&mut self) -> Result<(), Failure> {
        let fault = self.faults.remove(&self.operations);
        self.operations = self.operations.saturating_add(1);
        fault.map_or(Ok(()), Err)
    }

    fn try_perform(&mut self, now: Now, effect: &Effect) -> Result<OwnedReply, Failure> {
        match effect {
            Effect::Open { root, path, mode } => self.open(now, *root, path, *mode),
            Effect::Stat { root, path } => {
                let inode = self.find(*root, path)?;
                Ok(OwnedReply::Found(self.metadata(inode)))
            }
            Effect::StatFile { file } => {
                let inode = self.handle(*file)?.inode;
                Ok(OwnedReply::Found(self.metadata(inode)))
            }
            Effect::List { root, path, after } => {
                let inode = self.find(*root, path)?;
                let Some(Inode::Folder(folder)) = self.inodes.get(inode) else {
                    return Err(Failure::WrongKind);
                };
                let entries = folder
                    .names
                    .iter()
                    .filter(|(name, _)| after.is_empty() || *name > after)
                    .take(Self::LIST_MAX)
                    .map(|(name, &inode)| Entry {
                        name: name.clone(),
                        metadata: self.metadata(inode),
                    });
                Ok(OwnedReply::Listed(entries.collect()))
            }
            Effect::Read { file, offset, len } => {
                let want = usize::try_from(*len).unwrap_or(usize::MAX);
                let mut bytes = Vec::new();
                // A system call may read less than there is: only an empty read is the end.
                while bytes.len() < want {
                    let at = offset.saturating_add(bytes.len() as u64);
                    let piece = self.read_once(*file, at, want.saturating_sub(bytes.len()))?;
                    if piece.is_empty() {
                        break;
                    }
                    bytes.extend_from_slice(piece);
                }
                Ok(OwnedReply::Read(bytes))
            }
            Effect::Write { file, offset, bytes } => self.write(now, *file, *offset, bytes),
            Effect::SetModified { file, modified } => {
                let Handle { inode, mode } = self.handle(*file)?;
                let Some(Inode::File(file)) = self.inodes.get_mut(inode) else {
                    return Err(Failure::Other);
                };
                if mode == OpenMode::Read {
                    return Err(Failure::Denied);
                }
                file.modified = *modified;
                file.stamp = file.stamp.saturating_add(1);
                self.touch(inode, None);
                Ok(OwnedReply::Done)
            }
            Effect::Sync { file } => {
                let inode = self.handle(*file)?.inode;
                if let Some(Inode::File(file)) = self.inodes.get_mut(inode) {
                    file.durable.clone_from(&file.content);
                }
                Ok(OwnedReply::Done)
            }
            Effect::CreateFolder { root, path } => {
                let (folder, name) = self.parent(*root, path)?;
                if self.find(*root, path).is_ok() {
                    return Err(Failure::Exists);
                }
                let inode = self.add(Inode::Folder(Folder::default()));
                self.change(folder, name, Some(inode));
                self.changes = self.changes.saturating_add(1);
                Ok(OwnedReply::Done)
            }
            Effect::SyncFolder { root, path } => {
                let inode = self.find(*root, path)?;
                let folder = self.folder_mut(inode)?;
                folder.durable.clone_from(&folder.names);
                folder.changes.clear();
                Ok(OwnedReply::Done)
            }
            Effect::Rename { root, from, to, replace } => self.rename(*root, from, to, *replace),
            Effect::Remove { root, path } => {
                let (folder, name) = self.parent(*root, path)?;
                let inode = self.find(*root, path)?;
                if let Some(Inode::Folder(_)) = self.inodes.get(inode) {
                    return Err(Failure::WrongKind);
                }
                self.change(folder, name, None);
                self.changes = self.changes.saturating_add(1);
                Ok(OwnedReply::Done)
            }
            // It has no answer yet: a host asks with `watch`.
            Effect::Watch { .. } => Err(Failure::Unsupported),
            Effect::Resolve { name, port } => self.resolve(name, *port),
        }
    }

    fn open(
        &mut self,
        now: Now,
        root: RootId,
        path: &str,
        mode: OpenMode,
    ) -> Result<OwnedReply, Failure> {
        if self.open.len() >= self.config.open_files {
            return Err(Failure::Exhausted);
        }
        let inode = match (mode, self.find(root, path)) {
            (OpenMode::CreateNew, Ok(_)) => return Err(Failure::Exists),
            (OpenMode::CreateNew, Err(Failure::NotFound)) => {
                let (folder, name) = self.parent(root, path)?;
                let inode = self.add(Inode::File(File::new(now)));
                self.change(folder, name, Some(inode));
                self.changes = self.changes.saturating_add(1);
                inode
            }
            (OpenMode::Unnamed, found) => {
                if !matches!(self.inodes.get(found?), Some(Inode::Folder(_))) {
                    return Err(Failure::WrongKind);
                }
                self.add(Inode::File(File::new(now)))
            }
            (_, found) => found?,
        };
        if !matches!(self.inodes.get(inode), Some(Inode::File(_))) {
            return Err(Failure::WrongKind);
        }
        let file = FileId(self.files);
        self.files = self.files.saturating_add(1);
        self.open.insert(file, Handle { inode, mode });
        Ok(OwnedReply::Opened { file, metadata: self.metadata(inode) })
    }

    fn write(
        &mut self,
        now: Now,
        file: FileId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<OwnedReply, Failure> {
        let handle = self.handle(file)?;
        if handle.mode == OpenMode::Read {
            return Err(Failure::Denied);
        }
        let free = match self.config.capacity {
            None => u64::MAX,
            Some(capacity) => capacity.saturating_sub(self.used()),
        };
        let Some(Inode::File(file)) = self.inodes.get_mut(handle.inode) else {
            return Err(Failure::Other);
        };
        let from = usize::try_from(offset).map_err(|_| Failure::Full)?;
        // As much as there is space for is written before the disk says that it is full.
        let end = from.saturating_add(bytes.len());
        let most = usize::try_from(free).unwrap_or(usize::MAX).saturating_add(file.content.len());
        let fits = end.min(most).saturating_sub(from);
        let bytes_fit = bytes.get(..fits).unwrap_or(bytes);
        if !bytes_fit.is_empty() {
            let end = from.saturating_add(bytes_fit.len());
            if file.content.len() < end {
                file.content.resize(end, 0);
            }
            if let Some(target) = file.content.get_mut(from..end) {
                target.copy_from_slice(bytes_fit);
            }
            file.modified = now.unix;
            file.stamp = file.stamp.saturating_add(1);
            self.touch(handle.inode, None);
        }
        if bytes_fit.len() < bytes.len() {
            return Err(Failure::Full);
        }
        Ok(OwnedReply::Done)
    }

    fn rename(
        &mut self,
        root: RootId,
        from: &str,
        to: &str,
        replace: bool,
    ) -> Result<OwnedReply, Failure> {
        let inode = self.find(root, from)?;
        let (old_folder, old_name) = self.parent(root, from)?;
        let (new_folder, new_name) = self.parent(root, to)?;
        match self.find(root, to) {
            Ok(_) if !replace => return Err(Failure::Exists),
            Ok(there) if there == inode => return Ok(OwnedReply::Done),
            Ok(there) if matches!(self.inodes.get(there), Some(Inode::Folder(_))) => {
                return Err(Failure::WrongKind);
            }
            Err(failure) if failure != Failure::NotFound => return Err(failure),
            _ => {}
        }
        self.change(new_folder, new_name, Some(inode));
        self.change(old_folder, old_name, None);
        self.changes = self.changes.saturating_add(1);
        Ok(OwnedReply::Done)
    }

    fn resolve(&self, name: &str, port: u16) -> Result<OwnedReply, Failure> {
        let addresses = match (name.parse(), self.names.get(name)) {
            (Ok(address), _) => alloc::vec![address],
            (_, Some(answer)) => answer.clone()?,
            (_, None) => return Err(Failure::NotFound),
        };
        if addresses.is_empty() {
            return Err(Failure::NotFound);
        }
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        Ok(OwnedReply::Resolved(addresses.collect()))
    }

    /// One system call.
    fn read_once(&self, file: FileId, offset: u64, len: usize) -> Result<&[u8], Failure> {
        let handle = self.handle(file)?;
        let Some(Inode::File(file)) = self.inodes.get(handle.inode) else {
            return Err(Failure::Other);
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = file.content.get(from..).unwrap_or_default();
        let n = rest.len().min(len).min(self.config.read_max.max(1));
        Ok(rest.get(..n).unwrap_or_default())
    }

    fn handle(&self, file: FileId) -> Result<Handle, Failure> {
        self.open.get(&file).copied().ok_or(Failure::Other)
    }

    fn metadata(&self, inode: usize) -> Metadata {
        // Inodes are never used again, and 2^32 writes are more than any run makes.
        let which = (inode as u64).wrapping_shl(32);
        match self.inodes.get(inode) {
            Some(Inode::File(file)) => Metadata {
                len: file.content.len() as u64,
                modified: file.modified,
                kind: FileKind::File,
                stamp: which | file.stamp,
            },
            other => Metadata {
                len: 0,
                modified: UnixTime::default(),
                kind: match other {
                    Some(Inode::Folder(_)) => FileKind::Folder,
                    _ => FileKind::Other,
                },
                stamp: which,
            },
        }
    }

    /// Bytes in files that have a name or are open.
    fn used(&self) -> u64 {
        let mut live: Vec<usize> = self.open.values().map(|handle| handle.inode).collect();
        for inode in &self.inodes {
            if let Inode::Folder(folder) = inode {
                live.extend(folder.names.values());
            }
        }
        live.sort_unstable();
        live.dedup();
        live.iter().map(|&inode| self.metadata(inode).len).fold(0, u64::saturating_add)
    }

    fn find(&self, root: RootId, path: &str) -> Result<usize, Failure> {
        let mut inode = *self.roots.get(&root).ok_or(Failure::NotFound)?;
        for part in parts(path)? {
            let folder = match self.inodes.get(inode) {
                Some(Inode::Folder(folder)) => folder,
                _ => return Err(Failure::WrongKind),
            };
            inode = *folder.names.get(part).ok_or(Failure::NotFound)?;
        }
        Ok(inode)
    }

    /// The folder of a path, and the last name in it.
    fn parent(&self, root: RootId, path: &str) -> Result<(usize, String), Failure> {
        let _checked = parts(path)?;
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(Failure::WrongKind);
        }
        let folder = self.find(root, above)?;
        match self.inodes.get(folder) {
            Some(Inode::Folder(_)) => Ok((folder, name.to_owned())),
            _ => Err(Failure::WrongKind),
        }
    }

    fn folder_mut(&mut self, inode: usize) -> Result<&mut Folder, Failure> {
        match self.inodes.get_mut(inode) {
            Some(Inode::Folder(folder)) => Ok(folder),
            _ => Err(Failure::WrongKind),
        }
    }

    fn add(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len().saturating_sub(1)
    }

    /// A change of a name that is not durable yet.
    fn change(&mut self, folder: usize, name: String, inode: Option<usize>) {
        let change = self.changes;
        self.touch(folder, Some(&name));
        if let Ok(folder) = self.folder_mut(folder) {
            set(&mut folder.names, name.clone(), inode);
            folder.changes.push((change, name, inode));
        }
    }

    /// Has those told who watch a file, or a folder and the name in it that was changed.
    fn touch(&mut self, inode: usize, name: Option<&str>) {
        for watch in self.watches.values_mut() {
            let named = |(folder, own): &(usize, String)| {
                *folder == inode && name.is_some_and(|name| name == own)
            };
            watch.changed |= watch.inode == Some(inode) || watch.names.iter().any(named);
        }
    }

    fn make_folder(&mut self, root: RootId, path: &str) -> usize {
        let mut at = match self.roots.get(&root) {
            Some(&inode) => inode,
            None => {
                let inode = self.add(Inode::Folder(Folder::default()));
                self.roots.insert(root, inode);
                inode
            }
        };
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let there = match self.inodes.get(at) {
                Some(Inode::Folder(folder)) => folder.names.get(part).copied(),
                _ => None,
            };
            at = match there {
                Some(inode) => inode,
                None => {
                    let inode = self.add(Inode::Folder(Folder::default()));
                    self.link(at, part, inode);
                    inode
                }
            };
        }
        at
    }

    fn put(&mut self, root: RootId, path: &str, inode: Inode) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.make_folder(root, above);
        let inode = self.add(inode);
        self.link(folder, name, inode);
    }

    fn link(&mut self, folder: usize, name: &str, inode: usize) {
        self.touch(folder, Some(name));
        if let Ok(folder) = self.folder_mut(folder) {
            folder.names.insert(name.to_owned(), inode);
            folder.durable.insert(name.to_owned(), inode);
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(DiskConfig::default())
    }
}

const PAGES: u64 = 1;
const CHANGES: u64 = 2;
/// What a system writes at once.
const PAGE: usize = 4096;

/// What is watched for one request.
#[derive(Clone, Debug)]
struct Watch {
    /// Each name on the way, and the folder that it is in.
    names: Vec<(usize, String)>,
    /// Where the way ends, if it does.
    inode: Option<usize>,
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Handle {
    inode: usize,
    mode: OpenMode,
}

#[derive(Clone, Debug)]
enum Inode {
    File(File),
    Folder(Folder),
    Other,
}

#[derive(Clone, Debug)]
struct File {
    content: Vec<u8>,
    durable: Vec<u8>,
    modified: UnixTime,
    /// Changes of the content.
    stamp: u64,
}

impl File {
    fn new(now: Now) -> Self {
        Self { content: Vec::new(), durable: Vec::new(), modified: now.unix, stamp: 0 }
    }

    /// Each page, and the length, is the old or the new one.
    fn tear(&mut self, dice: &mut Dice) {
        if self.content == self.durable {
            return;
        }
        let len = match dice.below(2) {
            0 => self.durable.len(),
            _ => self.content.len(),
        };
        self.durable.resize(len, 0);
        let pages = self.durable.chunks_mut(PAGE);
        for (old, new) in pages.zip(self.content.chunks(PAGE)) {
            let n = old.len().min(new.len());
            if dice.below(2) == 0 {
                if let (Some(old), Some(new)) = (old.get_mut(..n), new.get(..n)) {
                    old.copy_from_slice(new);
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Folder {
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// What made `names` of `durable`: the change's number, the name, what it leads to.
    changes: Vec<(u64, String, Option<usize>)>,
}

fn set(names: &mut BTreeMap<String, usize>, name: String, inode: Option<usize>) {
    match inode {
        Some(inode) => names.insert(name, inode),
        None => names.remove(&name),
    };
}

/// The parts of a path, none of which leads up or out.
fn parts(path: &str) -> Result<impl Iterator<Item = &str>, Failure> {
    let parts = path.split('/');
    if !path.is_empty() && parts.clone().any(|part| matches!(part, "" | "." | "..")) {
        return Err(Failure::Denied);
    }
    Ok(parts.filter(|part| !part.is_empty()))
}
