//! Waking a loop from another thread.

use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};

use mio::{Poll, Token};

struct Wakeup(mio::Waker);

/// What ends the wait of `poll`, with an event for `token`.
pub(crate) fn waker(poll: &Poll, token: Token) -> io::Result<Waker> {
    let wakeup = Wakeup(mio::Waker::new(poll.registry(), token)?);
    Ok(Waker::from(Arc::new(wakeup)))
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It cannot fail: the descriptor is open, and its counter is read at every turn.
        let _ = self.0.wake();
    }
}
