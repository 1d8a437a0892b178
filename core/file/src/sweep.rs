//! Partial files that nobody came back for.
//!
//! What is left of an upload that was given up is kept for [`KEPT`], so that it can be gone on with,
//! and then removed. A server that takes files looks for such when it starts, whenever one that it
//! saw comes of age, and a week after an upload; without any it keeps no timer.
//!
//! | state | on | becomes | asks for |
//! |---|---|---|---|
//! | Resting | it is time | Walking | LIST of the root |
//! | Walking | names | Walking | REMOVE of an old partial file, LIST of the next names or folder |
//! | Walking | removed, or a failure | Walking | the same |
//! | Walking | nothing is left | Resting | |
//!
//! One thing is asked at a time, between what is asked for peers. Only names that peers could have
//! put are looked at: nothing that begins with a dot but partial files, no links, at most
//! [`LIST_TURNS`] thousand names of a folder.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use semfio_machine::{
    Deadline, Effect, Entry, FileKind, Instant, Net, Now, Reply, RequestId, RootId, UnixTime,
};
use semfio_path::{Policy, SafeName, is_part};

use crate::repository::LIST_TURNS;
use crate::serving::judge;
use crate::session::Session;

/// How long a partial file is kept after it was written to last: who was cut off on a Friday goes on
/// the next one.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The least time between two walks.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// The walk through all that peers may write to.
#[derive(Debug)]
pub(crate) struct Sweep {
    root: RootId,
    policy: Policy,
    /// When the next walk begins; `None` as long as it need not.
    due: Option<Instant>,
    /// From the root to where it is.
    folders: Vec<Folder>,
    /// To be removed.
    old: Vec<SafeName>,
    /// What is being removed.
    removing: Option<SafeName>,
    request: Option<RequestId>,
    /// When the oldest that was not removed was written to last.
    oldest: Option<UnixTime>,
}

/// A folder on the way: a thousand names at most, times its depth, are held of it.
#[derive(Debug)]
struct Folder {
    path: String,
    /// Where to list on.
    after: Option<String>,
    turns: u32,
    within: Vec<SafeName>,
}

impl Folder {
    fn new(path: String) -> Self {
        Self { path, after: Some(String::new()), turns: 0, within: Vec::new() }
    }
}

impl Sweep {
    /// The first walk is due at once.
    pub(crate) fn new(root: RootId, policy: Policy) -> Self {
        Self {
            root,
            policy,
            due: Some(Instant::default()),
            folders: Vec::new(),
            old: Vec::new(),
            removing: None,
            request: None,
            oldest: None,
        }
    }

    /// An upload begins: what it may leave will be old one day.
    pub(crate) fn arm(&mut self, now: Now) {
        if self.folders.is_empty() {
            self.due.get_or_insert(now.mono.saturating_add(KEPT));
        } else {
            self.see(now.unix);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.due?, why: "sweep" })
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        if self.due.is_some_and(|due| due <= now.mono) {
            self.due = None;
            self.folders.push(Folder::new(String::new()));
            self.go_on(now, |_| false, net);
        }
    }

    /// Takes the host's answer, if it is to its own request; gives what was removed. `is_at_work`
    /// tells whether a partial file is being written to.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        id: RequestId,
        reply: &Reply<'_>,
        is_at_work: impl Fn(&SafeName) -> bool,
        net: &mut Net<Session>,
    ) -> Option<SafeName> {
        self.request.take_if(|request| *request == id)?;
        let removed = self.removing.take().filter(|_| *reply == Reply::Done);
        if let Reply::Listed(entries) = *reply {
            entries.iter().for_each(|entry| self.look(now, entry));
            if let (Some(last), Some(folder)) = (entries.last(), self.folders.last_mut()) {
                folder.after = Some(last.name.clone()).filter(|_| folder.turns < LIST_TURNS);
            }
        }
        self.go_on(now, is_at_work, net);
        removed
    }

    fn look(&mut self, now: Now, entry: &Entry) {
        let Some(folder) = self.folders.last_mut() else { return };
        let mut path = folder.path.clone();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&entry.name);
        match entry.metadata.kind {
            FileKind::Folder => folder.within.extend(judge(path, self.policy)),
            FileKind::File if is_part(&entry.name) => {
                let modified = entry.metadata.modified;
                if age(now, modified) < KEPT {
                    return self.see(modified);
                }
                let any = Policy { dot_names: true, ..self.policy };
                self.old.extend(SafeName::parse(path, any));
            }
            _ => {}
        }
    }

    /// One stays that was written to then.
    fn see(&mut self, modified: UnixTime) {
        self.oldest = Some(self.oldest.map_or(modified, |oldest| oldest.min(modified)));
    }

    fn go_on(&mut self, now: Now, is_at_work: impl Fn(&SafeName) -> bool, net: &mut Net<Session>) {
        let root = self.root;
        loop {
            if let Some(old) = self.old.pop() {
                if is_at_work(&old) {
                    self.see(now.unix);
                    continue;
                }
                let path = old.as_str().to_owned();
                self.removing = Some(old);
                self.request = Some(net.request(Effect::Remove { root, path }));
                return;
            }
            let Some(folder) = self.folders.last_mut() else { break };
            if let Some(within) = folder.within.pop() {
                self.folders.push(Folder::new(within.as_str().to_owned()));
            } else if let Some(after) = folder.after.take() {
                folder.turns = folder.turns.saturating_add(1);
                let path = folder.path.clone();
                self.request = Some(net.request(Effect::List { root, path, after }));
                return;
            } else {
                self.folders.pop();
            }
        }
        self.due = self.oldest.take().map(|oldest| {
            let left = KEPT.saturating_sub(age(now, oldest));
            now.mono.saturating_add(left.max(PAUSE))
        });
    }
}

fn age(now: Now, modified: UnixTime) -> Duration {
    Duration::from_nanos(now.unix.as_nanos().saturating_sub(modified.as_nanos()))
}
