//! How often a passphrase may be guessed.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use semfio_machine::Instant;

/// Guesses over which [`GuardConfig::free`] counts.
const MINUTE: Duration = Duration::from_secs(60);

/// What a [`Guard`] lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// Guesses of one source without a pause, and those it has each minute; at least one.
    /// Default 3: who mistypes twice is not made to wait.
    pub free: u32,
    /// The pause after the last free one; each further guess doubles it. Default 20 s, a minute by
    /// three, so that pausing gains nothing.
    pub first_pause: Duration,
    /// What no pause exceeds. Default 15 min: the one who has the passphrase after all can wait.
    pub longest_pause: Duration,
    /// Sources kept; at least one. Default 4,096, below 1 MiB.
    pub sources: usize,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            free: 3,
            first_pause: Duration::from_secs(20),
            longest_pause: Duration::from_secs(15 * 60),
            sources: 4_096,
        }
    }
}

/// Limits guesses for each source `K`: an address, or `()` if all are one.
///
/// [`guess`](Self::guess) takes one *before* the other side can learn anything, and
/// [`give_back`](Self::give_back) undoes it once it was confirmed; so whoever never answers has
/// guessed too. After `free` guesses each further one waits twice as long as the one before.
/// Being refused costs nothing and prolongs nothing.
///
/// A source is forgotten when it was quiet for a minute and for twice its last pause. No rhythm
/// gains by that: in any time of `m` minutes a source has at most `free` × (1 + `m`) guesses.
///
/// Nothing is forgotten earlier, however many sources there are: making room for a new one by
/// dropping the quietest would give that one its guesses back, and who owns one source more than
/// are kept would guess without limit. So while all places are taken by sources that still count,
/// a new one waits for the first that does not. That lets somebody with 4,096 addresses keep
/// strangers out, but they can tire out the room's holder with fewer.
#[derive(Clone, Debug)]
pub struct Guard<K> {
    config: GuardConfig,
    sources: BTreeMap<K, Source>,
    /// When each may be forgotten, the first first.
    forgets: BTreeSet<(Instant, K)>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    /// Guesses not given back.
    guesses: u32,
    last: Instant,
    /// When the next may be made.
    again: Instant,
    forget: Instant,
}

/// Too many guesses: the next may be made after this time, which is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryIn(pub Duration);

impl core::fmt::Display for RetryIn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let begun = u64::from(self.0.subsec_nanos() > 0);
        write!(f, "too many guesses; the next in {} s", self.0.as_secs().saturating_add(begun))
    }
}

impl core::error::Error for RetryIn {}

impl<K: Ord + Clone> Guard<K> {
    /// A guard that has seen nobody.
    pub const fn new(config: GuardConfig) -> Self {
        Self { config, sources: BTreeMap::new(), forgets: BTreeSet::new() }
    }

    /// Takes a guess of `source`, or says how long it has to wait.
    pub fn guess(&mut self, now: Instant, source: K) -> Result<(), RetryIn> {
        self.forget(now);
        let guesses = match self.sources.get(&source) {
            Some(known) if now < known.again => {
                return Err(RetryIn(known.again.saturating_since(now)));
            }
            Some(known) => known.guesses,
            None if self.sources.len() < self.config.sources.max(1) => 0,
            None => {
                let place = self.forgets.first().map_or(now, |(at, _)| *at);
                return Err(RetryIn(place.saturating_since(now)));
            }
        };
        let guesses = guesses.saturating_add(1);
        let again = now.saturating_add(self.pause(guesses));
        self.put(source, guesses, now, again);
        Ok(())
    }

    /// A guess of `source` was right: it does not count, and the pause after it is lifted.
    pub fn give_back(&mut self, source: &K) {
        let Some(known) = self.sources.get(source).copied() else { return };
        match known.guesses.saturating_sub(1) {
            0 => {
                self.forgets.remove(&(known.forget, source.clone()));
                self.sources.remove(source);
            }
            guesses => self.put(source.clone(), guesses, known.last, known.last),
        }
    }

    /// Sources kept at present, never more than the configuration has.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    fn put(&mut self, source: K, guesses: u32, last: Instant, again: Instant) {
        let quiet = self.pause(guesses).saturating_mul(2).max(MINUTE);
        let forget = last.saturating_add(quiet);
        let known = Source { guesses, last, again, forget };
        if let Some(before) = self.sources.insert(source.clone(), known) {
            self.forgets.remove(&(before.forget, source.clone()));
        }
        self.forgets.insert((forget, source));
    }

    fn forget(&mut self, now: Instant) {
        while self.forgets.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, source)) = self.forgets.pop_first() else { return };
            self.sources.remove(&source);
        }
    }

    /// The pause after so many guesses.
    fn pause(&self, guesses: u32) -> Duration {
        let Some(doubled) = guesses.checked_sub(self.config.free.max(1)) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doubled).unwrap_or(u32::MAX);
        self.config.first_pause.saturating_mul(factor).min(self.config.longest_pause)
    }
}
