//! Round trips, added up without keeping them.

use alloc::collections::BTreeMap;
use core::time::Duration;

use semfio_machine::{Clock, Interval};

/// Round trips of one pair of clocks.
///
/// Sums are exact. Quantiles come from buckets, 128 for each doubling: below 256 ns they are exact,
/// above they are off by less than 0.4 %. There are at most 7,424 buckets however long a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    count: u64,
    sum: u128,
    squares: u128,
    min: u64,
    max: u64,
    /// Eight times the moving average.
    moving: u64,
    buckets: BTreeMap<u32, u64>,
}

/// Round trips by whose clocks they were measured with: never added to one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    by: [Statistics; 4],
}

/// All pairs of clocks, the best first.
const CLOCKS: [(Clock, Clock); 4] = [
    (Clock::Kernel, Clock::Kernel),
    (Clock::User, Clock::Kernel),
    (Clock::Kernel, Clock::User),
    (Clock::User, Clock::User),
];

impl Statistics {
    /// Adds one.
    pub fn add(&mut self, length: Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let wide = u128::from(nanos);
        self.min = if self.count == 0 { nanos } else { self.min.min(nanos) };
        self.max = self.max.max(nanos);
        self.moving = match self.count {
            0 => nanos.saturating_mul(8),
            _ => self.moving.saturating_sub(self.moving / 8).saturating_add(nanos),
        };
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(wide);
        self.squares = self.squares.saturating_add(wide.saturating_mul(wide));
        let bucket = self.buckets.entry(bucket(nanos)).or_default();
        *bucket = bucket.saturating_add(1);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest; zero if there is none.
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.min)
    }

    /// The longest; zero if there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The mean; zero if there is none.
    pub fn avg(&self) -> Duration {
        nanos(self.sum.checked_div(u128::from(self.count)).unwrap_or(0))
    }

    /// The moving average, in which the latest weighs an eighth, as `ping` has it; zero if there is none.
    pub fn ewma(&self) -> Duration {
        Duration::from_nanos(self.moving / 8)
    }

    /// How many there are of which length, the shortest first; in steps of less than a hundredth.
    pub fn by_length(&self) -> impl Iterator<Item = (Duration, u64)> {
        let length = |place| Duration::from_nanos(middle(place).clamp(self.min, self.max));
        self.buckets.iter().map(move |(&place, &count)| (length(place), count))
    }

    /// The standard deviation, which `ping` calls mdev; zero if there is none.
    pub fn mdev(&self) -> Duration {
        let n = u128::from(self.count);
        // n * sum(x^2) - sum(x)^2, over n^2.
        let spread =
            n.saturating_mul(self.squares).saturating_sub(self.sum.saturating_mul(self.sum));
        let square = n.saturating_mul(n);
        nanos(spread.checked_div(square).unwrap_or(0).isqrt())
    }

    /// The shortest that so many in a thousand do not exceed: 500 is the median. Zero if there is
    /// none.
    pub fn quantile(&self, permille: u16) -> Duration {
        let rank =
            u128::from(self.count).saturating_mul(u128::from(permille)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        for (&place, &count) in &self.buckets {
            seen = seen.saturating_add(u128::from(count));
            if seen >= rank {
                return Duration::from_nanos(middle(place).clamp(self.min, self.max));
            }
        }
        Duration::ZERO
    }
}

impl RoundTrips {
    /// Adds one to those of its clocks.
    pub fn add(&mut self, round_trip: Interval) {
        let clocks = (round_trip.from, round_trip.to);
        let both = self.by.iter_mut().zip(CLOCKS);
        for (statistics, _) in both.filter(|(_, of)| *of == clocks) {
            statistics.add(round_trip.length);
        }
    }

    /// Those there are, by their clocks: departure, arrival. The best clocks come first.
    pub fn by_clocks(&self) -> impl Iterator<Item = ((Clock, Clock), &Statistics)> {
        CLOCKS.into_iter().zip(&self.by).filter(|(_, statistics)| statistics.count > 0)
    }

    /// The clocks that most were measured with, the better ones of two.
    pub fn most(&self) -> Option<((Clock, Clock), &Statistics)> {
        let first = self.by_clocks().next()?;
        Some(self.by_clocks().fold(
            first,
            |most, other| {
                if other.1.count > most.1.count { other } else { most }
            },
        ))
    }

    /// The longest by any clocks.
    pub fn max(&self) -> Option<Duration> {
        self.by_clocks().map(|(_, statistics)| statistics.max()).max()
    }
}

/// Sub-buckets of a doubling are 2^7.
const FINE: u32 = 7;

fn bucket(nanos: u64) -> u32 {
    let shift = nanos.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    let place = u32::try_from(nanos.checked_shr(shift).unwrap_or(0)).unwrap_or(u32::MAX);
    (shift << FINE).saturating_add(place)
}

fn middle(bucket: u32) -> u64 {
    let shift = (bucket >> FINE).saturating_sub(1);
    let place = u64::from(bucket.saturating_sub(shift << FINE));
    let low = place.checked_shl(shift).unwrap_or(u64::MAX);
    low.saturating_add(1_u64.checked_shl(shift).unwrap_or(0) >> 1)
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
