//! How long to wait for an answer, and how many to wait for at once.

use core::time::Duration;

use semfio_machine::Instant;

/// Before anything is known (RFC 6298, section 2.1).
const FIRST: Duration = Duration::from_secs(1);

/// At least, whatever the round trips are: a busy machine answers late, and what is late would be asked
/// again for nothing. RFC 6298 has a second, with connections in mind that carry on for long.
const LEAST: Duration = Duration::from_millis(200);

/// How many may be on their way before the first answer.
const BEGIN: u32 = 64;

/// The round trips to one host (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// Smoothed, and how much they vary, in nanoseconds.
    known: Option<(u64, u64)>,
}

impl Patience {
    pub(crate) fn add(&mut self, round_trip: Duration) {
        let new = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.known = Some(match self.known {
            None => (new, new >> 1),
            Some((smoothed, varies)) => (
                smoothed.saturating_sub(smoothed >> 3).saturating_add(new >> 3),
                varies.saturating_sub(varies >> 2).saturating_add(smoothed.abs_diff(new) >> 2),
            ),
        });
    }

    /// How long an answer is waited for that was asked for `tries` times before, `most` at most.
    pub(crate) fn wait(&self, tries: u8, most: Duration) -> Duration {
        let once = match self.known {
            None => FIRST,
            Some((smoothed, varies)) => {
                let nanos = smoothed.saturating_add(varies.saturating_mul(4));
                Duration::from_nanos(nanos).max(LEAST)
            }
        };
        once.saturating_mul(1 << tries.min(16)).min(most)
    }

    /// The time in which one loss is seen once.
    pub(crate) fn smoothed(&self) -> Duration {
        self.known.map_or(FIRST, |(smoothed, _)| Duration::from_nanos(smoothed))
    }
}

/// How many questions may be on their way: doubled in each round trip until something is lost, then
/// one more in each; halved where something was lost, once in a round trip.
///
/// Silence is no loss, it may be a filter. It was one if the same question is answered later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: u32,
    most: u32,
    /// Below it, each verdict makes it larger.
    threshold: u32,
    credit: u32,
    shrunk: Option<Instant>,
}

impl Window {
    pub(crate) fn new(most: u32) -> Self {
        let most = most.clamp(1, super::MAX_SCAN_WINDOW);
        Self { size: most.min(BEGIN), most, threshold: most, credit: 0, shrunk: None }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// A question has its verdict, and nothing was lost.
    pub(crate) fn grow(&mut self) {
        self.credit = self.credit.saturating_add(1);
        if self.size < self.threshold || self.credit >= self.size {
            self.credit = 0;
            self.size = self.size.saturating_add(1).min(self.most);
        }
    }

    /// A question that was met with silence was answered when it was asked again.
    pub(crate) fn lost(&mut self, now: Instant, round_trip: Duration) {
        if self.shrunk.is_none_or(|at| at.saturating_add(round_trip) <= now) {
            self.shrunk = Some(now);
            self.limit(self.size / 2);
        }
    }

    /// The system has no room for more than `n`.
    pub(crate) fn limit(&mut self, n: u32) {
        self.size = n.clamp(1, self.most);
        self.threshold = self.size;
        self.credit = 0;
    }
}

/// Questions a second, at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    gap: Duration,
    next: Instant,
}

/// Nanoseconds that may be made up for when the host comes late: the grain of its timers.
const LATE: u64 = 10_000_000;

impl Rate {
    pub(crate) fn new(rate: Option<u32>) -> Self {
        let gap =
            rate.and_then(|rate| Duration::from_secs(1).checked_div(rate)).unwrap_or_default();
        Self { gap, next: Instant::default() }
    }

    /// When the next may leave.
    pub(crate) fn at(&self) -> Instant {
        self.next
    }

    pub(crate) fn take(&mut self, now: Instant) {
        if !self.gap.is_zero() {
            let earliest = Instant::from_nanos(now.as_nanos().saturating_sub(LATE));
            self.next = self.next.max(earliest).saturating_add(self.gap);
        }
    }
}
