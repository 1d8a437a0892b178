//! SIGINT and SIGTERM: the first asks to end, the second ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Whether SIGINT has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A second signal that comes sooner is the first one again: `timeout` sends it to its child, and then
/// to all of its group.
const SAME: Duration = Duration::from_millis(100);

/// Has `on_first` called, in a thread of its own, when one of the signals comes; a second one
/// ends the process at once.
pub(crate) fn catch(mut on_first: impl FnMut() + Send + 'static) -> io::Result<Interrupted> {
    let interrupted = Interrupted::default();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let seen = interrupted.clone();
    thread::Builder::new().name("semfio-signals".into()).spawn(move || {
        if signals.forever().next() == Some(SIGINT) {
            seen.set();
        }
        on_first();
        thread::sleep(SAME);
        signals.pending().for_each(drop);
        if let Some(signal) = signals.forever().next() {
            std::process::exit(128 + signal);
        }
    })?;
    Ok(interrupted)
}
