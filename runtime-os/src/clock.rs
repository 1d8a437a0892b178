//! Time: the one place that asks the system for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semfio_machine::{Deadline, Instant, Now, UnixTime};

/// The clocks of a run. [`Instant`] zero is the moment it was started.
///
/// Both are given in whole microseconds, which is what a trace can hold: a replay then sees the
/// very values of the run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

/// Two readings further apart than this were interrupted, and are made again.
const APART: Duration = Duration::from_micros(50);

impl Clock {
    /// Starts a run.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// Reads both clocks, so close to each other that a time on one can be told on the other.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Now {
        let mut tries = 3;
        loop {
            let before = self.origin.elapsed();
            let unix = SystemTime::now();
            let after = self.origin.elapsed();
            tries -= 1;
            if after.saturating_sub(before) <= APART || tries == 0 {
                return Now {
                    mono: Instant::from_nanos(whole_micros(after)),
                    unix: unix_time(unix),
                };
            }
        }
    }

    /// How long to wait from `now` for `deadline`; zero if it has passed.
    pub fn until(now: Now, deadline: Deadline) -> Duration {
        deadline.at.saturating_since(now.mono)
    }

    /// The same moment for the standard library's timers; `None` beyond their scale.
    pub fn std_instant(&self, at: Instant) -> Option<std::time::Instant> {
        self.origin.checked_add(Duration::from_nanos(at.as_nanos()))
    }

    /// Tells a real-time stamp of the kernel on the monotonic clock, given the clocks as they
    /// were read after it.
    ///
    /// `None` if it does not lie in `earliest..=now`: then real time was set in between, and the
    /// stamp is worth nothing. One microsecond is allowed for, since all are whole ones.
    pub fn convert(stamp: UnixTime, earliest: Instant, now: Now) -> Option<Instant> {
        let stamp = stamp.as_nanos() / 1_000 * 1_000;
        let age = now.unix.as_nanos().checked_sub(stamp)?;
        let at = Instant::from_nanos(now.mono.as_nanos().checked_sub(age)?);
        let allowed = at.saturating_add(Duration::from_micros(1)) >= earliest;
        allowed.then_some(at.max(earliest))
    }
}

/// A time of the system in whole microseconds; before 1970 it is 1970.
pub(crate) fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::from_nanos(whole_micros(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono: u64, unix: u64) -> Now {
        Now { mono: Instant::from_nanos(mono), unix: UnixTime::from_nanos(unix) }
    }

    #[test]
    fn readings_are_whole_microseconds_and_never_go_back() {
        let clock = Clock::start();
        let mut last = Instant::default();
        for _ in 0..10_000 {
            let now = clock.now();
            assert_eq!(now.mono.as_nanos() % 1_000, 0);
            assert_eq!(now.unix.as_nanos() % 1_000, 0);
            assert!(now.mono >= last);
            last = now.mono;
        }
    }

    #[test]
    fn stamps_are_converted_only_within_their_window() {
        let stamp = UnixTime::from_nanos(50_000_999);
        let now = now(9_000_000, 51_000_000);
        let at = Some(Instant::from_nanos(8_000_000));
        let earliest = Instant::from_nanos(8_000_000);
        assert_eq!(Clock::convert(stamp, earliest, now), at);
        let just = Instant::from_nanos(8_001_000);
        assert_eq!(Clock::convert(stamp, just, now), Some(just));
        let later = Instant::from_nanos(8_002_000);
        assert_eq!(Clock::convert(stamp, later, now), None, "before it was sent");
        let future = UnixTime::from_nanos(51_001_000);
        assert_eq!(Clock::convert(future, earliest, now), None, "after now");
        let ancient = UnixTime::from_nanos(1);
        assert_eq!(Clock::convert(ancient, Instant::default(), now), None);
    }
}
