//! Who is told when a file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{self, FileType};
use rustix::io::Errno;
use semfio_machine::{Effect, Failure, RootId};

use crate::failure;
use crate::files::{Roots, judge};

/// The paths that are watched for one host, each for the `K` that asked for it: what carries out
/// [`Effect::Watch`].
///
/// One thread adds, which may wait for a disk; the one of the loop asks what has
/// [changed](Self::changed), and waits for nothing. Only local file systems are watched: of others,
/// what other machines do to them is not seen.
#[derive(Debug)]
pub struct Watches<K> {
    inotify: OwnedFd,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// What each of them stands on.
    standing: BTreeMap<K, Vec<i32>>,
    /// Of each watched file and folder, who wants to know what.
    marks: BTreeMap<i32, Vec<Mark<K>>>,
}

#[derive(Debug)]
struct Mark<K> {
    key: K,
    of: Of,
}

/// Which changes of a file or a folder are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// What this name in it leads to.
    Name(String),
    /// Everything.
    All,
}

/// What befalls names in a folder, and the folder itself.
const FOLDER: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What befalls a file, by whichever of its names: a new count of names and new times are attributes.
const FILE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Bytes of changes read at once: some hundred.
const BUFFER: usize = 4096;

impl<K: Copy + Ord> Watches<K> {
    /// None so far.
    ///
    /// # Errors
    ///
    /// [`Failure::Exhausted`] without descriptors or instances of inotify left (by default a user has
    /// 128), [`Failure::Unsupported`] where there is no inotify.
    pub fn new() -> Result<Self, Failure> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let table = Table { standing: BTreeMap::new(), marks: BTreeMap::new() };
        Ok(Self { inotify: inotify.map_err(refused)?, table: Mutex::new(table) })
    }

    /// Watches a path; from here on a change of it is told. What is not there is watched for too.
    ///
    /// # Errors
    ///
    /// As of [`Effect::Watch`]; and what is no path fails as it does anywhere.
    pub fn add(&self, key: K, roots: &Roots, root: RootId, path: &str) -> Result<(), Failure> {
        let mut table = self.table();
        if table.standing.len() >= Effect::WATCHES {
            return Err(Failure::Exhausted);
        }
        table.standing.insert(key, Vec::new());
        drop(table);
        let added = self.descend(key, roots, root, path);
        if added.is_err() {
            self.remove(key);
        }
        added
    }

    /// Watches each folder before the next name in it is looked up, so that no change lies
    /// between the two.
    fn descend(&self, key: K, roots: &Roots, root: RootId, path: &str) -> Result<(), Failure> {
        let mut at = roots.step(root, None).map_err(refused)?;
        if !path.is_empty() {
            judge(path).map_err(refused)?;
        }
        for part in path.split('/').filter(|part| !part.is_empty()) {
            self.mark(key, at.as_fd(), FOLDER, Of::Name(part.to_owned()))?;
            at = match roots.step(root, Some((at.as_fd(), part))) {
                Ok(next) => next,
                // Whatever comes in its place, comes under this name.
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(refused(error)),
            };
            match kind(&at)? {
                FileType::Directory => {}
                FileType::RegularFile => return self.mark(key, at.as_fd(), FILE, Of::All),
                _ => return Ok(()),
            }
        }
        self.mark(key, at.as_fd(), FOLDER, Of::All)
    }

    fn mark(&self, key: K, at: BorrowedFd<'_>, what: WatchFlags, of: Of) -> Result<(), Failure> {
        if !is_local(fs::fstatfs(at).map_err(refused)?.f_type as u64) {
            return Err(Failure::Unsupported);
        }
        // The system takes a path only. This one leads to what is open, wherever that is by now.
        let path = format!("/proc/self/fd/{}", at.as_raw_fd());
        // Under the lock: its first change may be read before it stands in the table.
        let mut table = self.table();
        // It was told of a change above, or removed.
        if !table.standing.contains_key(&key) {
            return Ok(());
        }
        let mark = inotify::add_watch(&self.inotify, path, what).map_err(|error| match error {
            Errno::NOSPC => Failure::Exhausted,
            // There is no /proc.
            Errno::NOENT => Failure::Unsupported,
            other => refused(other),
        })?;
        table.marks.entry(mark).or_default().push(Mark { key, of });
        table.standing.entry(key).or_default().push(mark);
        Ok(())
    }

    /// Watches no more for `key`.
    pub fn remove(&self, key: K) {
        self.table().remove(&self.inotify, key);
    }

    /// Whether none is watched.
    pub fn is_empty(&self) -> bool {
        self.table().standing.is_empty()
    }

    /// Adds to `to` who has to be told, and watches no more for them.
    ///
    /// Every change that was made before this call is among them: a host that calls it between the
    /// read from a socket and the call of the shard tells a change before whatever was sent after it.
    pub fn changed(&self, to: &mut Vec<K>) {
        let mut table = self.table();
        // Read also if none is watched: the end of each watch is told too, and a descriptor that stays
        // readable would wake a host for ever.
        let mut told = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    told.extend(table.standing.keys());
                }
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    let marks = table.marks.get(&event.wd()).into_iter().flatten();
                    told.extend(marks.filter(|mark| mark.of.is(name)).map(|mark| mark.key));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // It cannot be read any more: nothing is known.
                Err(_) => {
                    told.extend(table.standing.keys());
                    break;
                }
            }
        }
        for &key in &told {
            table.remove(&self.inotify, key);
        }
        to.extend(told);
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readable when something may have [changed](Watches::changed).
impl<K> AsFd for Watches<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl<K: Copy + Ord> Table<K> {
    fn remove(&mut self, inotify: &OwnedFd, key: K) {
        for mark in self.standing.remove(&key).unwrap_or_default() {
            if let Some(marks) = self.marks.get_mut(&mark) {
                marks.retain(|mark| mark.key != key);
                if marks.is_empty() {
                    self.marks.remove(&mark);
                    // It fails if what was watched is gone.
                    let _ = inotify::remove_watch(inotify, mark);
                }
            }
        }
    }
}

impl Of {
    /// Whether a change of `name`, or of the thing itself, is meant.
    fn is(&self, name: Option<&[u8]>) -> bool {
        match (self, name) {
            (Self::Name(own), Some(name)) => own.as_bytes() == name,
            (Self::Name(_), None) | (Self::All, _) => true,
        }
    }
}

fn kind(at: &OwnedFd) -> Result<FileType, Failure> {
    Ok(FileType::from_raw_mode(fs::fstat(at).map_err(refused)?.st_mode))
}

/// Whether all that changes a file system of this kind is seen by this kernel: `f_type` of statfs(2).
fn is_local(kind: u64) -> bool {
    matches!(
        kind,
        0xEF53 // ext2, ext3, ext4
            | 0x5846_5342 // xfs
            | 0x9123_683E // btrfs
            | 0xF2F5_2010 // f2fs
            | 0xCA45_1A4E // bcachefs
            | 0x2FC1_2FC1 // zfs
            | 0x0102_1994 // tmpfs
            | 0x8584_58F6 // ramfs
            | 0x794C_7630 // overlayfs, whose lower layers must not change
            | 0x7371_7368 // squashfs
            | 0xE0F5_E1E2 // erofs
    )
}

fn refused(errno: Errno) -> Failure {
    match errno {
        Errno::NOSYS => Failure::Unsupported,
        other => failure(&other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    const ROOT: RootId = RootId(0);

    struct Folder {
        dir: tempfile::TempDir,
        roots: Roots,
        watches: Watches<u32>,
    }

    impl Folder {
        /// With the files `a/b/hot` and `a/b/cold`.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
            let roots = Roots::open([dir.path()]).unwrap();
            let it = Self { dir, roots, watches: Watches::new().unwrap() };
            std::fs::write(it.path("a/b/hot"), "hot").unwrap();
            std::fs::write(it.path("a/b/cold"), "cold").unwrap();
            it
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn add(&self, key: u32, path: &str) -> Result<(), Failure> {
            self.watches.add(key, &self.roots, ROOT, path)
        }

        fn changed(&self) -> Vec<u32> {
            let mut changed = Vec::new();
            self.watches.changed(&mut changed);
            changed
        }
    }

    #[test]
    fn what_is_watched_no_more_wakes_nobody() {
        let it = Folder::new();
        it.add(1, "a/b/hot").unwrap();
        it.watches.remove(1);
        assert_eq!(it.changed(), []);
        let mut buffer = [0_u8; 256];
        assert_eq!(rustix::io::read(&it.watches.inotify, &mut buffer), Err(Errno::AGAIN));
    }

    #[test]
    fn each_change_of_a_file_is_told_and_once() {
        let it = Folder::new();
        std::fs::hard_link(it.path("a/b/hot"), it.path("link")).unwrap();
        let opened = || std::fs::File::options().write(true).open(it.path("a/b/hot")).unwrap();
        let once = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let rename = |from, to| std::fs::rename(it.path(from), it.path(to)).unwrap();
        let changes: [(&str, &dyn Fn()); 13] = [
            ("written", &|| std::fs::write(it.path("a/b/hot"), "new").unwrap()),
            ("written by another name", &|| std::fs::write(it.path("link"), "new").unwrap()),
            ("truncated", &|| opened().set_len(1).unwrap()),
            ("emptied", &|| opened().set_len(0).unwrap()),
            ("touched", &|| opened().set_modified(once).unwrap()),
            ("replaced", &|| rename("a/b/cold", "a/b/hot")),
            ("renamed", &|| rename("a/b/hot", "a/b/warm")),
            ("back", &|| rename("a/b/warm", "a/b/hot")),
            ("its folder renamed", &|| rename("a/b", "a/c")),
            ("its folder back", &|| rename("a/c", "a/b")),
            ("the folder above renamed", &|| rename("a", "z")),
            ("the folder above back", &|| rename("z", "a")),
            ("removed", &|| std::fs::remove_file(it.path("a/b/hot")).unwrap()),
        ];
        for (what, change) in changes {
            it.add(1, "a/b/hot").unwrap();
            assert_eq!(it.changed(), [], "before it was {what}");
            change();
            assert_eq!(it.changed(), [1], "{what}");
            change_nothing_else(&it);
            assert!(it.watches.is_empty() && it.changed().is_empty(), "once, {what}");
        }
    }

    fn change_nothing_else(it: &Folder) {
        std::fs::write(it.path("elsewhere"), "new").unwrap();
    }

    #[test]
    fn what_is_beside_a_file_is_not_told() {
        let it = Folder::new();
        it.add(1, "a/b/hot").unwrap();
        std::fs::write(it.path("a/b/cold"), "new").unwrap();
        std::fs::write(it.path("hot"), "new").unwrap();
        std::fs::create_dir(it.path("a/hot")).unwrap();
        std::fs::read(it.path("a/b/hot")).unwrap();
        assert_eq!(it.changed(), []);
        it.watches.remove(1);
        std::fs::write(it.path("a/b/hot"), "new").unwrap();
        assert_eq!(it.changed(), []);
        assert!(it.watches.table().marks.is_empty());
    }

    #[test]
    fn what_is_not_there_and_what_is_in_a_folder_is_told_too() {
        let it = Folder::new();
        it.add(1, "a/b/none").unwrap();
        it.add(2, "a/none/none").unwrap();
        it.add(3, "a").unwrap();
        it.add(4, "a/b/hot/none").unwrap();
        it.add(5, "").unwrap();
        std::fs::write(it.path("a/b/none"), "").unwrap();
        assert_eq!(it.changed(), [1]);
        std::fs::create_dir(it.path("a/none")).unwrap();
        assert_eq!(it.changed(), [2, 3]);
        std::fs::remove_file(it.path("a/b/hot")).unwrap();
        assert_eq!(it.changed(), [4]);
        std::fs::write(it.path("any"), "").unwrap();
        assert_eq!(it.changed(), [5]);
    }

    #[test]
    fn no_link_is_followed() {
        let it = Folder::new();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "").unwrap();
        symlink(outside.path(), it.path("out")).unwrap();
        symlink("a/b/hot", it.path("link")).unwrap();
        it.add(1, "out/secret").unwrap();
        it.add(2, "link").unwrap();
        std::fs::write(outside.path().join("secret"), "new").unwrap();
        std::fs::write(it.path("a/b/hot"), "new").unwrap();
        assert_eq!(it.changed(), []);
        std::fs::rename(outside.path(), it.path("out")).unwrap_err();
        std::fs::remove_file(it.path("out")).unwrap();
        std::fs::remove_file(it.path("link")).unwrap();
        assert_eq!(it.changed(), [1, 2]);
        for path in ["..", "../x", "a/../a", "/etc", "a//b", "a\0b"] {
            assert_eq!(it.add(3, path), Err(Failure::Denied), "{path:?}");
        }
        assert!(it.watches.is_empty());
    }

    #[test]
    fn they_are_limited_and_only_of_local_files() {
        let it = Folder::new();
        for key in 0..Effect::WATCHES as u32 {
            it.add(key, "a/b/hot").unwrap();
        }
        assert_eq!(it.add(u32::MAX, "a/b/cold"), Err(Failure::Exhausted));
        std::fs::write(it.path("a/b/hot"), "new").unwrap();
        assert_eq!(it.changed().len(), Effect::WATCHES);
        let roots = Roots::open(["/proc/self"]).unwrap();
        let unsupported = it.watches.add(1, &roots, ROOT, "stat");
        assert_eq!(unsupported, Err(Failure::Unsupported));
        assert!(it.watches.is_empty() && it.watches.table().marks.is_empty());
    }

    #[test]
    fn whoever_lost_track_says_so() {
        let it = Folder::new();
        it.add(1, "a/b/hot").unwrap();
        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        // A change of another name, each unlike the one before it: those would be told as one.
        for _ in 0..most / 2 + 1 {
            std::fs::write(it.path("x"), "").unwrap();
            std::fs::remove_file(it.path("x")).unwrap();
        }
        assert_eq!(it.changed(), [1]);
    }
}
