//! Hashes of files that were read before.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use semfio_machine::{ConnId, Metadata};

use crate::tree::Outline;

/// Memory for outlines that nobody uses at the moment, in bytes: half of what one side may use, and
/// enough for four files of 1 GiB or a thousand pictures.
pub(crate) const KEPT: usize = 4 * 1024 * 1024;
/// Files that are hashed at once: each costs an outline, and they share one disk.
const AT_ONCE: usize = 2;
/// What an entry costs beside its hashes and its name, which is held twice.
const OVERHEAD: usize = 256;

/// The outlines of a server, by name and state of the file, and who makes one.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    kept: BTreeMap<Key, Kept>,
    /// By their last use.
    order: BTreeMap<u64, Key>,
    size: usize,
    uses: u64,
    hashing: VecDeque<ConnId>,
}

type Key = (String, u64, u64, u64);

#[derive(Debug)]
struct Kept {
    outline: Arc<Outline>,
    size: usize,
    used: u64,
}

fn key(name: &str, metadata: &Metadata) -> Key {
    (name.into(), metadata.len, metadata.modified.as_nanos(), metadata.stamp)
}

impl Outlines {
    /// That of a file in this state.
    pub(crate) fn find(&mut self, name: &str, metadata: &Metadata) -> Option<Arc<Outline>> {
        let kept = self.kept.get_mut(&key(name, metadata))?;
        self.uses = self.uses.saturating_add(1);
        let key = self.order.remove(&kept.used)?;
        self.order.insert(self.uses, key);
        kept.used = self.uses;
        Some(Arc::clone(&kept.outline))
    }

    /// Keeps one; those that were not used for longest make room.
    pub(crate) fn insert(&mut self, name: &str, metadata: &Metadata, outline: &Arc<Outline>) {
        let parts = outline.top().groups().div_ceil(outline.span()).saturating_mul(2);
        let size = usize::try_from(parts).unwrap_or(KEPT).saturating_mul(32);
        let size = size.saturating_add(OVERHEAD).saturating_add(name.len().saturating_mul(2));
        self.uses = self.uses.saturating_add(1);
        let kept = Kept { outline: Arc::clone(outline), size, used: self.uses };
        let key = key(name, metadata);
        self.order.insert(self.uses, key.clone());
        self.size = self.size.saturating_add(size);
        if let Some(old) = self.kept.insert(key, kept) {
            self.order.remove(&old.used);
            self.size = self.size.saturating_sub(old.size);
        }
        while self.size > KEPT {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            let size = self.kept.remove(&oldest).map_or(0, |kept| kept.size);
            self.size = self.size.saturating_sub(size);
        }
    }

    /// Takes a place among those who hash; whether it is its turn already.
    pub(crate) fn begin(&mut self, conn: ConnId) -> bool {
        self.hashing.push_back(conn);
        self.hashing.len() <= AT_ONCE
    }

    /// Gives its place back, if it has one, to the one whose turn it then is.
    pub(crate) fn end(&mut self, conn: ConnId) -> Option<ConnId> {
        let place = self.hashing.iter().position(|other| *other == conn)?;
        self.hashing.remove(place);
        if place < AT_ONCE { self.hashing.get(AT_ONCE.saturating_sub(1)).copied() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Outliner;
    use alloc::format;
    use semfio_machine::{FileKind, UnixTime};

    fn metadata(stamp: u64) -> Metadata {
        let (len, kind) = (0, FileKind::File);
        Metadata { len, kind, modified: UnixTime::default(), stamp }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_used_last_stays() {
        let outline = Arc::new(Outliner::new(0).unwrap().finish().unwrap());
        let mut outlines = Outlines::default();
        let first = "first";
        outlines.insert(first, &metadata(0), &outline);
        for n in 0..50_000_u64 {
            outlines.insert(&format!("{n}"), &metadata(0), &outline);
            assert!(outlines.find(first, &metadata(0)).is_some());
            assert!(outlines.size <= KEPT);
        }
        let size: usize = outlines.kept.values().map(|kept| kept.size).sum();
        assert_eq!(outlines.size, size);
        assert_eq!(outlines.kept.len(), outlines.order.len());
        assert!(outlines.find("49999", &metadata(0)).is_some());
        assert!(outlines.find("0", &metadata(0)).is_none());
        assert!(outlines.find(first, &metadata(1)).is_none(), "another state of the file");
        // The same again takes no more room.
        outlines.insert(first, &metadata(0), &outline);
        assert_eq!(outlines.size, size);
    }

    #[test]
    fn two_hash_at_once_and_the_others_wait_their_turn() {
        let conn = |index| ConnId { index, generation: 0 };
        let mut outlines = Outlines::default();
        assert!(outlines.begin(conn(0)));
        assert!(outlines.begin(conn(1)));
        assert!(!outlines.begin(conn(2)));
        assert!(!outlines.begin(conn(3)));
        assert_eq!(outlines.end(conn(3)), None, "it waited behind the next");
        assert_eq!(outlines.end(conn(0)), Some(conn(2)));
        assert_eq!(outlines.end(conn(0)), None, "it has no place");
        assert_eq!(outlines.end(conn(2)), None);
        assert!(outlines.begin(conn(4)));
    }
}
