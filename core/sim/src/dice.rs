//! Seeded chance.

use core::time::Duration;
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;
use semfio_machine::Seed;

/// How often something happens, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// `parts` of a million; more than a million is always.
    pub const fn per_million(parts: u32) -> Self {
        if parts > Self::ALWAYS.0 { Self::ALWAYS } else { Self(parts) }
    }

    /// `parts` of a hundred; more than a hundred is always.
    pub const fn percent(parts: u32) -> Self {
        Self::per_million(parts.saturating_mul(10_000))
    }

    /// In parts per million.
    pub const fn as_per_million(self) -> u32 {
        self.0
    }
}

/// One stream of random numbers, for one use.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha12Rng);

impl Dice {
    pub(crate) fn new(seed: &Seed, label: u64) -> Self {
        Self(seed.stream(label))
    }

    /// A number below `n`; zero if `n` is.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64().checked_rem(n).unwrap_or(0)
    }

    pub(crate) fn below_usize(&mut self, n: usize) -> usize {
        usize::try_from(self.below(u64::try_from(n).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    pub(crate) fn happens(&mut self, chance: Chance) -> bool {
        // No number is drawn for what cannot happen: a fault left out changes no other.
        chance != Chance::NEVER && self.below(1_000_000) < u64::from(chance.0)
    }

    /// From nothing to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }
}
