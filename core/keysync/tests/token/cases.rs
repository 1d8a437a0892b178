//! Tokens as they come, right and wrong in every way that peers differ in, for comparison with
//! other implementations. The same number gives the same case.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use semfio_keysync::Key;
use std::time::Duration;

/// A token and how it is to be looked at.
pub(crate) struct Case {
    pub(crate) token: Vec<u8>,
    pub(crate) ttl: Option<u64>,
    pub(crate) now: u64,
}

impl Case {
    /// What is named there, with the case's TTL.
    pub(crate) fn policy(&self, policy: semfio_keysync::Policy) -> semfio_keysync::Policy {
        self.ttl.map_or(policy, |ttl| policy.with_ttl(Duration::from_secs(ttl)))
    }

    /// The time it bears, if it has a head that can be read without padding.
    #[allow(dead_code)] // one of the two comparisons needs it
    pub(crate) fn seconds(&self) -> Option<u64> {
        let bare = self.token.iter().rposition(|&c| c != b'=').map_or(0, |at| at + 1);
        let raw = URL_SAFE_NO_PAD.decode(&self.token[..bare]).ok()?;
        let (version, rest) = raw.split_first()?;
        (*version == 0x80).then_some(u64::from_be_bytes(*rest.first_chunk()?))
    }
}

const AT: u64 = 1_700_000_000;

/// Case `number`. `seal` is whoever seals what is sealed as it should be.
pub(crate) fn case(number: u64, key: &Key, mut seal: impl FnMut(u64, &[u8]) -> Vec<u8>) -> Case {
    let mut dice = Dice(number.wrapping_mul(0xD134_2543_DE82_EF95));
    let now = AT + dice.below(1_000);
    let ttl = match dice.below(4) {
        0 => Some([0, 1, 59, 60, 61, u64::from(u32::MAX)][dice.place(6)]),
        1 => Some(dice.below(400)),
        _ => None,
    };
    let distance = [0, 1, 59, 60, 61, 62, ttl.unwrap_or(5), ttl.unwrap_or(5) + 1][dice.place(8)];
    let at = match dice.below(8) {
        0 => now + distance,
        1..=3 => now - distance.min(now),
        _ => AT + dice.below(1_200),
    };
    let len = if dice.below(50) == 0 { 4_000 } else { 70 };
    let plaintext: Vec<u8> = (0..dice.below(len)).map(|_| dice.byte()).collect();
    let mut token = match dice.below(16) {
        0 => signed(&mut dice, key, at),
        1 => {
            let ends = [0, 1, u64::MAX, u64::MAX - 1, u64::MAX - 59, u64::MAX - 60, 1 << 63];
            stamp(key, seal(at, &plaintext), ends[dice.place(7)])
        }
        _ => seal(at, &plaintext),
    };
    for _ in 0..[0, 0, 0, 1, 1, 1, 2, 3][dice.place(8)] {
        mutate(&mut dice, &mut token);
    }
    Case { token, ttl, now }
}

/// Signed rightly, and wrong inside, most often.
fn signed(dice: &mut Dice, key: &Key, at: u64) -> Vec<u8> {
    let mut raw = vec![if dice.below(4) == 0 { dice.byte() } else { 0x80 }];
    raw.extend(at.to_be_bytes());
    let len = [0, 15, 16, 17, 31, 32, 33, 48, 64, 80][dice.place(10)];
    raw.extend((0..len).map(|_| dice.byte()));
    raw.truncate(if dice.below(8) == 0 { dice.place(9) } else { raw.len() });
    sign(key, raw)
}

/// The same token at another time, signed again.
fn stamp(key: &Key, token: Vec<u8>, seconds: u64) -> Vec<u8> {
    let mut raw = URL_SAFE.decode(token).unwrap();
    raw[1..9].copy_from_slice(&seconds.to_be_bytes());
    raw.truncate(raw.len() - 32);
    sign(key, raw)
}

fn sign(key: &Key, mut raw: Vec<u8>) -> Vec<u8> {
    let mac = <Hmac<sha2::Sha256> as hmac::Mac>::new_from_slice(&key.as_bytes()[..16]).unwrap();
    raw.extend(mac.chain_update(&raw).finalize().into_bytes());
    URL_SAFE.encode(raw).into_bytes()
}

fn mutate(dice: &mut Dice, token: &mut Vec<u8>) {
    let at = dice.place(token.len() + 1);
    let one = at.min(token.len().saturating_sub(1));
    let bare = token.iter().rposition(|&c| c != b'=').map_or(0, |at| at + 1);
    let noise: &[&[u8]] =
        &[b" ", b"\n", b"\r\n", b"\t", b"!!", b"\0", "é".as_bytes(), b"\xFF", b"."];
    match dice.below(16) {
        0 if !token.is_empty() => token[one] ^= 1 << dice.below(8),
        1 if !token.is_empty() => token[one] = dice.byte(),
        2 => token.truncate(at),
        3 => drop(token.drain(..at)),
        4 => token.truncate(token.len() - dice.place(5).min(token.len())),
        5 => token.truncate(bare),
        6 => token.extend(vec![b'='; dice.place(6)]),
        7 => drop(token.splice(at..at, vec![b'='; dice.place(5)])),
        8 | 9 => drop(token.splice(at..at, noise[dice.place(noise.len())].iter().copied())),
        10 => token.extend(noise[dice.place(noise.len())]),
        // Glued to another, or to a part of one.
        11 => token.extend_from_within(..),
        12 => token.extend_from_within(..at),
        // The other alphabet; bits that belong to no octet.
        13 => token.iter_mut().for_each(|c| match c {
            b'-' => *c = b'+',
            b'_' => *c = b'/',
            _ => {}
        }),
        14 if bare > 0 => token[bare - 1] = token[bare - 1].wrapping_add(1 + dice.byte() % 3),
        _ => {
            token.splice(at..at, (0..dice.below(6)).map(|_| b'A' + dice.byte() % 26)).for_each(drop)
        }
    }
}

/// SplitMix64: enough to draw cases with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    fn place(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
