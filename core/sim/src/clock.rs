//! Virtual time.

use semfio_machine::{Instant, Now, UnixTime};

/// How many steps a run makes before it is reported as a livelock, if nothing else is said: enough
/// for a megabyte byte by byte, and over in seconds.
pub const STEP_LIMIT: u64 = 1_000_000;

/// Two clocks that only move when told to. They start at 0 and at 2000-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    mono: Instant,
    /// When the wall clock was last set, and to what.
    set: (Instant, UnixTime),
}

impl Clock {
    pub(crate) fn now(&self) -> Now {
        let (at, unix) = self.set;
        let since = self.mono.as_nanos().saturating_sub(at.as_nanos());
        Now { mono: self.mono, unix: UnixTime::from_nanos(unix.as_nanos().saturating_add(since)) }
    }

    /// Goes on to `at`; never back.
    pub(crate) fn advance(&mut self, at: Instant) {
        self.mono = self.mono.max(at);
    }

    /// Sets the wall clock alone.
    pub(crate) fn set_unix(&mut self, unix: UnixTime) {
        self.set = (self.mono, unix);
    }
}

impl Default for Clock {
    fn default() -> Self {
        let start = Instant::default();
        Self { mono: start, set: (start, UnixTime::from_secs(946_684_800)) }
    }
}

/// Why a run did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stuck {
    /// There was always something more to do.
    Livelock {
        /// The time it had come to.
        at: Instant,
        /// The steps that were made.
        steps: u64,
    },
    /// There is nothing left to do, and what was waited for has not happened.
    Idle {
        /// The time it had come to.
        at: Instant,
    },
}

impl core::fmt::Display for Stuck {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Livelock { at, steps } => {
                write!(f, "no end after {steps} steps, at {} ns", at.as_nanos())
            }
            Self::Idle { at } => write!(f, "nothing left to do at {} ns", at.as_nanos()),
        }
    }
}

impl core::error::Error for Stuck {}
