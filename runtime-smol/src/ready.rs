//! Which sockets have something to do.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};

use semfio_machine::ConnId;

/// What the reactor, a handle or a worker has woken since the last turn.
///
/// Every socket has wakers of its own that name it, so that one future can wait for thousands
/// and look only at those that are ready.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// A socket is in here at most once for each direction: a waker is spent when it fires.
    woken: Vec<Source>,
    parent: Option<Waker>,
}

/// What a waker stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The listener at this place.
    Listener(usize),
    Read(ConnId),
    Write(ConnId),
    /// What is watched.
    Watches,
    /// Messages and replies, which are looked for in every turn.
    Outside,
}

impl Ready {
    /// A waker for `source`.
    pub(crate) fn waker(self: &Arc<Self>, source: Source) -> Waker {
        Waker::from(Arc::new(Wakeup { source, ready: Arc::clone(self) }))
    }

    /// Moves what was woken to the empty `into`; from now on `parent` is told of more.
    pub(crate) fn take(&self, parent: &Waker, into: &mut Vec<Source>) {
        let mut inner = self.lock();
        mem::swap(&mut inner.woken, into);
        match &mut inner.parent {
            Some(known) => known.clone_from(parent),
            none => *none = Some(parent.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Wakeup {
    source: Source,
    ready: Arc<Ready>,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let parent = {
            let mut inner = self.ready.lock();
            if self.source != Source::Outside {
                inner.woken.push(self.source);
            }
            inner.parent.take()
        };
        // Outside the lock: an executor may poll at once.
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// Has the reactor wake a socket's waker. Its first answer may be about an event of the past.
pub(crate) fn arm(mut poll: impl FnMut() -> Poll<io::Result<()>>) -> io::Result<()> {
    loop {
        match poll() {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(()),
        }
    }
}
