//! Hashes of files that were read before.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use semfio_machine::{ConnId, FileId, Metadata};

use crate::tree::Outline;

/// Memory for outlines that nobody uses at the moment, in bytes: a quarter of what one side may use,
/// and enough for two of the largest or a thousand pictures.
pub(crate) const KEPT: usize = 2 * 1024 * 1024;
/// Files whose hashes are put away that are kept so: each holds a descriptor, and as much of a disk as
/// the largest of them, 32 MiB.
const PUT_AWAY: usize = 8;
/// Files that are hashed at once: each costs an outline, and they share one disk.
const AT_ONCE: usize = 2;
/// What an entry costs beside its hashes and its name, which is held twice.
const OVERHEAD: usize = 256;

/// The hashes of a file.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) outline: Arc<Outline>,
    /// Where those of all its groups are put away, 32 bytes each. It may be released before it is
    /// used: then it is as if there were none.
    pub(crate) leaves: Option<FileId>,
}

/// The outlines of a server, by name and state of the file, and who makes one.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    kept: BTreeMap<Key, Kept>,
    /// By their last use.
    order: BTreeMap<u64, Key>,
    size: usize,
    /// Of how many hashes are put away.
    put_away: usize,
    uses: u64,
    hashing: VecDeque<ConnId>,
}

type Key = (String, u64, u64, u64);

#[derive(Debug)]
struct Kept {
    known: Known,
    size: usize,
    used: u64,
}

fn key(name: &str, metadata: &Metadata) -> Key {
    (name.into(), metadata.len, metadata.modified.as_nanos(), metadata.stamp)
}

impl Outlines {
    /// That of a file in this state.
    pub(crate) fn find(&mut self, name: &str, metadata: &Metadata) -> Option<Known> {
        let kept = self.kept.get_mut(&key(name, metadata))?;
        self.uses = self.uses.saturating_add(1);
        let key = self.order.remove(&kept.used)?;
        self.order.insert(self.uses, key);
        kept.used = self.uses;
        Some(kept.known.clone())
    }

    /// Keeps one; those that were not used for longest make room. Gives the files that are to be
    /// released.
    pub(crate) fn insert(&mut self, name: &str, metadata: &Metadata, known: Known) -> Vec<FileId> {
        let outline = &known.outline;
        let put_away = self.put_away.saturating_add(usize::from(known.leaves.is_some()));
        let mut released = Vec::new();
        let parts = outline.top().groups().div_ceil(outline.span()).saturating_mul(2);
        let size = usize::try_from(parts).unwrap_or(KEPT).saturating_mul(32);
        let size = size.saturating_add(OVERHEAD).saturating_add(name.len().saturating_mul(2));
        self.uses = self.uses.saturating_add(1);
        let kept = Kept { known, size, used: self.uses };
        let key = key(name, metadata);
        self.order.insert(self.uses, key.clone());
        self.size = self.size.saturating_add(size);
        if let Some(old) = self.kept.insert(key, kept) {
            self.order.remove(&old.used);
            self.size = self.size.saturating_sub(old.size);
            released.extend(old.known.leaves);
        }
        while self.size > KEPT {
            let Some(old) = self.order.pop_first().and_then(|(_, key)| self.kept.remove(&key))
            else {
                break;
            };
            self.size = self.size.saturating_sub(old.size);
            released.extend(old.known.leaves);
        }
        for key in self.order.values() {
            if put_away.saturating_sub(released.len()) <= PUT_AWAY {
                break;
            }
            released.extend(self.kept.get_mut(key).and_then(|kept| kept.known.leaves.take()));
        }
        self.put_away = put_away.saturating_sub(released.len());
        released
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

    fn known(leaves: Option<u32>) -> Known {
        let outline = Arc::new(Outliner::new(0).unwrap().finish().unwrap());
        Known { outline, leaves: leaves.map(FileId) }
    }

    #[test]
    fn what_is_put_away_is_bounded_too_and_what_is_dropped_is_given_back() {
        let mut outlines = Outlines::default();
        for n in 0..20_u32 {
            let released = outlines.insert(&format!("{n}"), &metadata(0), known(Some(n)));
            let first = outlines.find("0", &metadata(0)).unwrap();
            assert_eq!(first.leaves, Some(FileId(0)), "it was used since");
            let oldest = n.checked_sub(PUT_AWAY as u32).map(|n| FileId(n + 1));
            assert_eq!(released, Vec::from_iter(oldest));
        }
        assert_eq!(outlines.find("1", &metadata(0)).unwrap().leaves, None, "its outline stays");
        // One in place of another.
        let released = outlines.insert("0", &metadata(0), known(Some(20)));
        assert_eq!(released, [FileId(0)]);
        let mut released = Vec::new();
        for n in 0..10_000 {
            released.extend(outlines.insert(&format!("other {n}"), &metadata(0), known(None)));
        }
        assert_eq!((released.len(), outlines.put_away), (PUT_AWAY, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_used_last_stays() {
        let known = known(None);
        let mut outlines = Outlines::default();
        let first = "first";
        outlines.insert(first, &metadata(0), known.clone());
        for n in 0..50_000_u64 {
            outlines.insert(&format!("{n}"), &metadata(0), known.clone());
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
        outlines.insert(first, &metadata(0), known.clone());
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
