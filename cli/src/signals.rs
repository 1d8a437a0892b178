//! SIGINT and SIGTERM: the first asks to end, the second ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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

/// Has `on_first` called, in a thread of its own, when one of the signals comes; a second one
/// ends the process at once.
pub(crate) fn catch(mut on_first: impl FnMut() + Send + 'static) -> io::Result<Interrupted> {
    let interrupted = Interrupted::default();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let seen = interrupted.clone();
    thread::Builder::new().name("semfio-signals".into()).spawn(move || {
        for (nth, signal) in signals.forever().enumerate() {
            if nth > 0 {
                std::process::exit(128 + signal);
            }
            if signal == SIGINT {
                seen.set();
            }
            on_first();
        }
    })?;
    Ok(interrupted)
}
