//! A thread for what would block an event loop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use semfio_machine::{Effect, Failure, OwnedReply};

use crate::files::{Files, Roots, perform};
use crate::watch::Watches;

/// Results that may wait to be fetched; beyond them the thread rests.
const RESULTS: usize = 16;

/// One background thread that performs effects in the order they were submitted.
///
/// `K` names a request: a host takes `RequestId`, or an own type where it has requests of its
/// own. The thread starts with the first effect. Each effect has one result, unless it was
/// cancelled. Names take long to look up: give them a worker of their own.
///
/// A [`Watch`](Effect::Watch) has its result once there is a change: those come from
/// [`changed`](Self::changed), and a host is woken for them by [`watches`](Self::watches).
///
/// When dropped, what was not begun is not done, and the file effect at work is awaited.
pub struct Worker<K: Copy + Ord + Send + 'static> {
    shared: Arc<Shared<K>>,
    queue: usize,
    thread: Option<JoinHandle<()>>,
}

struct Shared<K> {
    roots: Arc<Roots>,
    files: Arc<Files>,
    /// Made with the first effect that needs it.
    watches: OnceLock<Watches<K>>,
    notify: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State<K>>,
    changed: Condvar,
}

struct State<K> {
    jobs: VecDeque<(K, Effect)>,
    at_work: Option<AtWork<K>>,
    results: VecDeque<(K, OwnedReply)>,
    /// The thread waits to be woken.
    resting: bool,
    stop: bool,
}

struct AtWork<K> {
    key: K,
    wanted: bool,
    resolves: bool,
}

impl<K: Copy + Ord + Send + 'static> Worker<K> {
    /// A worker that lets at most `queue` effects wait, and calls `notify` when there is a result
    /// where there was none: whoever is told fetches all of them, or comes back by itself.
    pub fn new(
        roots: Arc<Roots>,
        files: Arc<Files>,
        queue: usize,
        notify: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                roots,
                files,
                watches: OnceLock::new(),
                notify: Box::new(notify),
                state: Mutex::new(State {
                    jobs: VecDeque::new(),
                    at_work: None,
                    results: VecDeque::new(),
                    resting: false,
                    stop: false,
                }),
                changed: Condvar::new(),
            }),
            queue,
            thread: None,
        }
    }

    /// Has `effect` performed. If too many wait, its result is [`Failure::Exhausted`].
    pub fn submit(&mut self, key: K, effect: Effect) {
        let ready = self.start();
        // Made here, so that the host finds it after the call.
        if let (Effect::Watch { .. }, None) = (&effect, self.shared.watches.get()) {
            match Watches::new() {
                Ok(watches) => drop(self.shared.watches.set(watches)),
                Err(failure) => {
                    let state = self.shared.state();
                    return self.shared.put(state, key, OwnedReply::Failed(failure));
                }
            }
        }
        let mut state = self.shared.state();
        if ready && state.jobs.len() < self.queue {
            state.jobs.push_back((key, effect));
            self.shared.wake(&mut state);
        } else {
            self.shared.put(state, key, OwnedReply::Failed(Failure::Exhausted));
        }
    }

    /// Wants no result any more: it is not begun, or what came of it is thrown away.
    pub fn cancel(&mut self, key: K) {
        let mut state = self.shared.state();
        state.jobs.retain(|(other, _)| *other != key);
        if let Some(at_work) = &mut state.at_work {
            at_work.wanted &= at_work.key != key;
        }
        let place = state.results.iter().position(|(other, _)| *other == key);
        if let Some((_, reply)) = place.and_then(|place| state.results.remove(place)) {
            self.shared.discard(&reply);
        }
        self.shared.forget(key);
        self.shared.wake(&mut state);
    }

    /// Adds to `to` whose [`Watch`](Effect::Watch) has to be answered with [`OwnedReply::Done`]: see
    /// [`Watches::changed`] for when a host calls it.
    pub fn changed(&mut self, to: &mut Vec<K>) {
        if let Some(watches) = self.shared.watches.get() {
            watches.changed(to);
        }
    }

    /// Whether anything is watched.
    pub fn is_watching(&self) -> bool {
        self.shared.watches.get().is_some_and(|watches| !watches.is_empty())
    }

    /// What is readable when something may have [changed](Self::changed); there from the first
    /// [`Watch`](Effect::Watch) on that was submitted.
    pub fn watches(&self) -> Option<BorrowedFd<'_>> {
        self.shared.watches.get().map(AsFd::as_fd)
    }

    /// The next result, if there is one.
    pub fn try_next(&mut self) -> Option<(K, OwnedReply)> {
        let mut state = self.shared.state();
        let result = state.results.pop_front();
        self.shared.wake(&mut state);
        result
    }

    fn start(&mut self) -> bool {
        if self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            self.thread = std::thread::Builder::new()
                .name("semfio-worker".into())
                .spawn(move || shared.work())
                .ok();
        }
        self.thread.is_some()
    }
}

impl<K: Copy + Ord + Send + 'static> Drop for Worker<K> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stop = true;
        state.jobs.clear();
        // A resolver may take half a minute, and changes nothing.
        let resolves = state.at_work.as_ref().is_some_and(|at| at.resolves);
        drop(state);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| !resolves) {
            let _ = thread.join();
        }
    }
}

impl<K: Copy + Ord + Send> Shared<K> {
    fn work(&self) {
        let mut state = self.state();
        loop {
            if state.stop {
                return;
            }
            let job = if state.may_work() { state.jobs.pop_front() } else { None };
            let Some((key, effect)) = job else {
                state.resting = true;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.resting = false;
            state.at_work = Some(AtWork {
                key,
                wanted: true,
                resolves: matches!(effect, Effect::Resolve { .. }),
            });
            drop(state);
            let reply = self.perform(key, &effect);
            // Who is told that something is written may use its memory again.
            drop(effect);
            state = self.state();
            let wanted = state.at_work.take().is_some_and(|at| at.wanted);
            match reply {
                Some(reply) if wanted => {
                    self.put(state, key, reply);
                    state = self.state();
                }
                Some(reply) => self.discard(&reply),
                None if wanted => {}
                None => self.forget(key),
            }
        }
    }

    /// No reply: it comes with a change.
    fn perform(&self, key: K, effect: &Effect) -> Option<OwnedReply> {
        match (effect, self.watches.get()) {
            (Effect::Watch { root, path }, Some(watches)) => {
                let added = watches.add(key, &self.roots, *root, path);
                added.err().map(OwnedReply::Failed)
            }
            _ => Some(perform(effect, &self.roots, &self.files)),
        }
    }

    fn forget(&self, key: K) {
        if let Some(watches) = self.watches.get() {
            watches.remove(key);
        }
    }

    fn put(&self, mut state: MutexGuard<'_, State<K>>, key: K, reply: OwnedReply) {
        let first = state.results.is_empty();
        state.results.push_back((key, reply));
        drop(state);
        if first {
            (self.notify)();
        }
    }

    /// Has the thread go on, if it rests and need not: waking it is a system call.
    fn wake(&self, state: &mut State<K>) {
        if state.may_work() && std::mem::take(&mut state.resting) {
            self.changed.notify_one();
        }
    }

    fn discard(&self, reply: &OwnedReply) {
        if let OwnedReply::Opened { file, .. } = reply {
            self.files.release(*file);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> State<K> {
    fn may_work(&self) -> bool {
        !self.jobs.is_empty() && self.results.len() < RESULTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::{OpenMode, RootId};
    use std::sync::mpsc;

    fn fetch(worker: &mut Worker<u32>, notified: &mpsc::Receiver<()>) -> (u32, OwnedReply) {
        loop {
            if let Some(result) = worker.try_next() {
                return result;
            }
            notified
                .recv_timeout(std::time::Duration::from_secs(10))
                .expect("the worker says when there is a result");
        }
    }

    /// A folder with one file `f`, and a worker over it.
    fn worker(queue: usize) -> (tempfile::TempDir, Arc<Files>, Worker<u32>, mpsc::Receiver<()>) {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("f"), "content").unwrap();
        let roots = Arc::new(Roots::open([dir.path()]).unwrap());
        let files = Arc::new(Files::default());
        let (notify, notified) = mpsc::channel();
        let worker = Worker::new(roots, Arc::clone(&files), queue, move || {
            let _ = notify.send(());
        });
        (dir, files, worker, notified)
    }

    fn open() -> Effect {
        Effect::Open { root: RootId(0), path: "f".into(), mode: OpenMode::Read }
    }

    #[test]
    fn results_come_in_order_and_each_once() {
        let (_dir, files, mut worker, notified) = worker(100);
        for key in 0..100 {
            worker.submit(key, open());
        }
        for key in 0..100 {
            let (got, reply) = fetch(&mut worker, &notified);
            assert_eq!(got, key);
            assert!(matches!(reply, OwnedReply::Opened { .. }));
        }
        assert!(worker.try_next().is_none());
        assert_eq!(files.len(), 100);
    }

    #[test]
    fn too_many_are_refused() {
        let (_dir, files, mut worker, notified) = worker(8);
        let all = 200;
        for key in 0..all {
            worker.submit(key, open());
        }
        let mut refused = 0;
        for _ in 0..all {
            let (_, reply) = fetch(&mut worker, &notified);
            refused += usize::from(reply == OwnedReply::Failed(Failure::Exhausted));
        }
        // Only the queue, the results and the one at work can have been accepted.
        assert!(refused >= all as usize - 8 - RESULTS - 1, "{refused}");
        assert_eq!(files.len(), all as usize - refused);
    }

    #[test]
    fn it_rests_while_results_wait() {
        let (_dir, files, mut worker, notified) = worker(100);
        for key in 0..100 {
            worker.submit(key, open());
        }
        notified.recv().unwrap();
        let moment = std::time::Duration::from_millis(100);
        while files.len() < RESULTS {
            std::thread::sleep(moment / 100);
        }
        // It was told once, and of no more than may wait.
        assert!(notified.recv_timeout(moment).is_err() && files.len() == RESULTS);
        for key in 0..100 {
            assert_eq!(fetch(&mut worker, &notified).0, key);
        }
    }

    #[test]
    fn what_is_cancelled_has_no_result_and_leaves_no_file_open() {
        let (_dir, files, mut worker, notified) = worker(1000);
        for key in 0..1000 {
            worker.submit(key, open());
        }
        for key in 0..999 {
            worker.cancel(key);
        }
        assert_eq!(fetch(&mut worker, &notified).0, 999);
        assert!(worker.try_next().is_none());
        drop(worker);
        assert_eq!(files.len(), 1);
    }
}
