//! Which counters of a sender were seen.

/// Bits of one word.
const WORD: u64 = u64::BITS as u64;
/// One more than the window has: what slides out may share a word with what slides in (RFC 6479).
const WORDS: u64 = WINDOW / WORD + 1;

/// How far behind the highest counter one may be. A hub keeps order, so 1,024 is far more than an
/// honest one needs, and costs 144 octets a sender.
pub const WINDOW: u64 = 1_024;

/// The counters of one sender under one key: each is accepted once (RFC 6479).
#[derive(Clone, Debug, Default)]
pub struct Window {
    highest: u64,
    /// A ring of words; one holds the counters that are equal divided by 64.
    seen: [u64; WORDS as usize],
}

impl Window {
    /// Takes `counter` and says whether it is new: neither seen before nor [`WINDOW`] or more below
    /// the highest. Call it only for what was found genuine, or anybody moves the window.
    pub fn accept(&mut self, counter: u64) -> bool {
        let from = self.highest / WORD;
        let to = counter / WORD;
        if self.highest.saturating_sub(counter) >= WINDOW {
            return false;
        }
        for behind in 0..to.saturating_sub(from).min(WORDS) {
            if let Some(word) = self.word(to.saturating_sub(behind)) {
                *word = 0;
            }
        }
        self.highest = self.highest.max(counter);
        let bit = 1_u64.wrapping_shl((counter % WORD) as u32);
        let Some(word) = self.word(to) else { return false };
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn word(&mut self, number: u64) -> Option<&mut u64> {
        self.seen.get_mut((number % WORDS) as usize)
    }
}
