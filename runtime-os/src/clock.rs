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

/// Readings this close are good enough; otherwise the closest of several is taken.
const APART: Duration = Duration::from_micros(1);

/// How often the clocks are read again if something came in between.
const TRIES: usize = 8;

impl Clock {
    /// Starts a run.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// Reads both clocks, one after the other.
    pub fn now(&self) -> Now {
        let mono = Instant::from_nanos(nanos(self.origin.elapsed()));
        whole(Now { mono, unix: UnixTime::from_nanos(nanos(since_epoch())) })
    }

    /// Reads both to the nanosecond, and so close to each other that a time on one can be told on the
    /// other: for [`convert`](Self::convert).
    pub(crate) fn read(&self) -> Now {
        let (mut apart, mut closest) = self.read_once();
        for _ in 1..TRIES {
            if apart <= APART {
                break;
            }
            let again = self.read_once();
            if again.0 < apart {
                (apart, closest) = again;
            }
        }
        closest
    }

    /// Both clocks, and how long it took to read them.
    fn read_once(&self) -> (Duration, Now) {
        let before = self.origin.elapsed();
        let unix = since_epoch();
        let apart = self.origin.elapsed().saturating_sub(before);
        let mono = Instant::from_nanos(nanos(before + apart / 2));
        (apart, Now { mono, unix: UnixTime::from_nanos(nanos(unix)) })
    }

    /// How long to wait from `now` for `deadline`; zero if it has passed.
    pub fn until(now: Now, deadline: Deadline) -> Duration {
        deadline.at.saturating_since(now.mono)
    }

    /// The same moment for the standard library's timers; `None` beyond their scale.
    pub fn std_instant(&self, at: Instant) -> Option<std::time::Instant> {
        self.origin.checked_add(Duration::from_nanos(at.as_nanos()))
    }

    /// Tells a real-time stamp of the kernel on the monotonic clock, in whole microseconds, given
    /// the clocks as they were read after it.
    ///
    /// `None` if it does not lie in `earliest..=now`: then real time was set in between, and the
    /// stamp is worth nothing. One microsecond is allowed for, since all are whole ones.
    pub fn convert(stamp: UnixTime, earliest: Instant, now: Now) -> Option<Instant> {
        let age = now.unix.as_nanos().checked_sub(stamp.as_nanos())?;
        let at = now.mono.as_nanos().checked_sub(age)? / 1_000 * 1_000;
        let at = Instant::from_nanos(at);
        let allowed = at.saturating_add(Duration::from_micros(1)) >= earliest;
        allowed.then_some(at.max(earliest))
    }
}

/// In whole microseconds.
pub(crate) fn whole(now: Now) -> Now {
    let cut = |nanos: u64| nanos / 1_000 * 1_000;
    Now {
        mono: Instant::from_nanos(cut(now.mono.as_nanos())),
        unix: UnixTime::from_nanos(cut(now.unix.as_nanos())),
    }
}

#[allow(clippy::disallowed_methods)]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
    fn a_reading_closer_than_another_is_not_older() {
        // The closest of several readings is taken, which need not be the last.
        let clock = Clock::start();
        let mut last = Instant::default();
        for _ in 0..10_000 {
            let now = clock.read();
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
