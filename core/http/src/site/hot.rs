//! Small files that are asked for often, kept in memory.
//!
//! What is kept stands under the path as it was asked for, so that a request needs no decoding, no
//! effect and no allocation to be answered. A file is kept only while the host watches it and all
//! that was looked at beside it, and goes as soon as the host says that one of them may be
//! another. Without that it is opened anew every [`RENEWED`] and never given out later than [`KEPT`],
//! since nobody is told of writes through a mapping or of what is mounted over a folder. Where a host
//! cannot watch, nothing is kept.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;
use core::time::Duration;
use semfio_machine::{Effect, Instant, RequestId};

use super::answer::Representation;
use super::class::Class;

/// Octets of a file that may be kept: what is larger is moved by the host without us.
pub const HOT_FILE: u64 = 64 * 1024;
/// Octets of all kept files together; with what they are kept under a little more.
pub const HOT_TOTAL: usize = 16 * 1024 * 1024;
/// Files that are kept: as many as a host watches.
pub const HOT_FILES: usize = Effect::WATCHES;
/// After so long the next request opens the file, while all others are still answered.
const RENEWED: Duration = Duration::from_millis(500);
/// After so long nobody is answered with what is kept.
const KEPT: Duration = Duration::from_secs(1);
/// What an entry counts for beside its content: its fields, its path, its place.
const OVERHEAD: usize = 1024;

/// All that is kept.
#[derive(Debug, Default)]
pub(super) struct Hot {
    files: BTreeMap<Box<str>, Vec<HotFile>>,
    /// Under which path it is kept what the host watches.
    watched: BTreeMap<RequestId, Box<str>>,
    count: usize,
    held: usize,
    sweep_at: Option<Instant>,
}

/// One representation of a file.
#[derive(Debug)]
pub(super) struct HotFile {
    /// For whom it is; for all, if there is no other.
    pub(super) class: Option<Class>,
    pub(super) representation: Representation,
    pub(super) content: Bytes,
    /// When it was opened.
    pub(super) opened: Instant,
    /// What must still be unchanged.
    pub(super) watches: Vec<RequestId>,
    renewing: bool,
}

impl HotFile {
    pub(super) fn new(
        class: Option<Class>,
        representation: Representation,
        content: Bytes,
        opened: Instant,
        watches: Vec<RequestId>,
    ) -> Self {
        Self { class, representation, content, opened, watches, renewing: false }
    }

    fn cost(&self) -> usize {
        self.content.len().saturating_add(OVERHEAD)
    }
}

impl Hot {
    /// What may be given to one of `class` who asks for `path`. `None` also for the one who has to
    /// open it anew.
    pub(super) fn find(&mut self, now: Instant, path: &str, class: Class) -> Option<&HotFile> {
        let kept = self.files.get_mut(path)?;
        let file = kept.iter_mut().find(|it| it.class.is_none_or(|it| it == class))?;
        let age = now.saturating_since(file.opened);
        if age >= KEPT || age >= RENEWED && !mem::replace(&mut file.renewing, true) {
            return None;
        }
        Some(file)
    }

    /// Whether there would be room for one more of `len` octets.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let held = self.held.saturating_add(len).saturating_add(OVERHEAD);
        len as u64 <= HOT_FILE && held <= HOT_TOTAL && self.count < HOT_FILES
    }

    /// Keeps it, in place of what was kept of that path for the same. Gives back the watches that
    /// nobody needs any more.
    pub(super) fn insert(&mut self, path: &str, file: HotFile) -> Vec<RequestId> {
        let mut dropped = self.remove(path, |it| it.class.is_none() || it.class == file.class);
        if !self.has_room(file.content.len() as u64) {
            dropped.extend_from_slice(&file.watches);
            return dropped;
        }
        for watch in &file.watches {
            self.watched.insert(*watch, path.into());
        }
        self.sweep_at.get_or_insert(file.opened.saturating_add(KEPT));
        self.count = self.count.saturating_add(1);
        self.held = self.held.saturating_add(file.cost());
        self.files.entry(path.into()).or_default().push(file);
        dropped
    }

    /// The host says that it may have changed. Gives back the other watches, if it was kept.
    pub(super) fn handle_changed(&mut self, watch: RequestId) -> Vec<RequestId> {
        let Some(path) = self.watched.remove(&watch) else { return Vec::new() };
        self.remove(&path, |it| it.watches.contains(&watch))
    }

    /// A file was written under this name: all is opened anew, since it may be kept under other
    /// spellings of its path.
    pub(super) fn clear(&mut self) -> Vec<RequestId> {
        let watches = mem::take(&mut self.watched).into_keys().collect();
        *self = Self::default();
        watches
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted: never, while nothing is kept.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Lets go what is too old. Gives back the watches that nobody needs any more.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<RequestId> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let old = |it: &HotFile| it.opened.saturating_add(KEPT) <= now;
        let paths: Vec<_> = self.files.keys().cloned().collect();
        let dropped = paths.iter().flat_map(|path| self.remove(path, old)).collect();
        let oldest = self.files.values().flatten().map(|it| it.opened).min();
        self.sweep_at = oldest.map(|at| at.saturating_add(KEPT));
        dropped
    }

    fn remove(&mut self, path: &str, which: impl Fn(&HotFile) -> bool) -> Vec<RequestId> {
        let Some(kept) = self.files.get_mut(path) else { return Vec::new() };
        let mut dropped = Vec::new();
        kept.retain(|it| {
            if which(it) {
                self.count = self.count.saturating_sub(1);
                self.held = self.held.saturating_sub(it.cost());
                dropped.extend_from_slice(&it.watches);
            }
            !which(it)
        });
        if kept.is_empty() {
            self.files.remove(path);
        }
        for watch in &dropped {
            self.watched.remove(watch);
        }
        dropped
    }
}
