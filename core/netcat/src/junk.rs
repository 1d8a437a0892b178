//! Bytes that nobody has asked for, the same for everybody who has the same seed.

use alloc::vec::Vec;
use rand_core::RngCore;
use semfio_machine::{Rng, Seed};

/// The longest piece: it fits into one packet on any link in use.
pub const PIECE: usize = 1024;

/// Which stream of the seed the junk is drawn from.
const JUNK: u64 = 0x6a75_6e6b;

/// What has broken readers before: ends, formats, lengths, half a character, a terminal's commands.
const NASTY: [&[u8]; 12] = [
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"%s%n%x",
    b"../../",
    b"\xff\xfb\x01",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"-1",
];

/// Gives junk in pieces of 1 to [`PIECE`] bytes, each to be sent by itself.
///
/// A piece is random octets, text, one octet again and again, or a series of what is known to hurt.
#[derive(Debug)]
pub struct Junk {
    rng: Rng,
    left: u64,
}

impl Junk {
    /// So many bytes in all.
    pub fn new(seed: u64, bytes: u64) -> Self {
        Self { rng: Seed::from_u64(seed).stream(JUNK), left: bytes }
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = usize::try_from(self.rng.next_u32()).unwrap_or(0);
        number.checked_rem(bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.rng.next_u32().to_le_bytes()[0]
    }
}

impl Iterator for Junk {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.left == 0 {
            return None;
        }
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let len = self.below(PIECE).saturating_add(1).min(most);
        let mut piece = Vec::with_capacity(len);
        match self.below(4) {
            0 => piece.extend((0..len).map(|_| self.byte())),
            1 => piece.extend((0..len).map(|_| b' '.saturating_add(self.byte() % 95))),
            2 => piece.resize(len, self.byte()),
            _ => {
                while piece.len() < len {
                    let nth = self.below(NASTY.len());
                    piece.extend_from_slice(NASTY.get(nth).copied().unwrap_or(b"\0"));
                }
                piece.truncate(len);
            }
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        Some(piece)
    }
}
