//! Tokens out of a stream without borders.

use alloc::vec::Vec;
use semfio_keysync::{Cut, Key, Policy, Splitter};
use semfio_machine::UnixTime;

use crate::Choices;

const NOW: UnixTime = UnixTime::from_secs(1);

/// A stream of tokens, torn tokens and anything else, read whole and in pieces: both give the same,
/// what is given opens, what waits is bounded, and the work is linear.
pub fn splitter(data: &[u8]) {
    let key = Key::new([3; 32]);
    let mut choices = Choices::new(data);
    let mut sizes = Choices::new(data);
    let mut stream = Vec::new();
    while !choices.is_empty() && stream.len() < 8_192 {
        let (kind, n) = (choices.below(8), choices.below(256));
        match kind {
            0..=2 => key.seal(NOW, [kind as u8; 16], &data[..n.min(data.len())], &mut stream),
            3 => {
                let mut token = Vec::new();
                key.seal(NOW, [3; 16], &[b'x'; 40], &mut token);
                stream.extend_from_slice(&token[..n.min(token.len())]);
            }
            4 => stream.extend_from_slice(b"gAAAAA"),
            5 => stream.push(b'='),
            _ => stream.extend_from_slice(choices.bytes(n)),
        }
    }
    let whole = split(&key, &stream, || usize::MAX);
    let pieces = split(&key, &stream, || sizes.below(256).max(1));
    assert_eq!(whole, pieces);
}

/// The tokens, and `None` for each lost span; and how much was lost.
fn split(key: &Key, stream: &[u8], mut size: impl FnMut() -> usize) -> (Vec<Option<Vec<u8>>>, usize) {
    let mut splitter = Splitter::new();
    let (mut from, mut to, mut lost, mut reads) = (0, 0, 0, 0);
    let mut cuts = Vec::new();
    while to < stream.len() {
        to = to.saturating_add(size()).min(stream.len());
        reads += 1;
        let eof = to == stream.len();
        while let Some(cut) = splitter.cut(key, &stream[from..to], eof) {
            let (Cut::Token(n) | Cut::Lost(n) | Cut::Rest(n)) = cut;
            assert!(n > 0 && n <= to - from, "{cut:?}");
            let piece = &stream[from..from + n];
            match cut {
                Cut::Token(_) => {
                    key.open(&Policy::STRICT, NOW, piece, &mut Vec::new()).unwrap();
                    cuts.push(Some(piece.to_vec()));
                }
                Cut::Lost(_) => cuts.push(None),
                Cut::Rest(_) => {}
            }
            lost += if matches!(cut, Cut::Token(_)) { 0 } else { n };
            from += n;
        }
        assert!(to - from < Splitter::LIMIT);
    }
    assert_eq!(from, stream.len(), "the end is the end");
    assert!(splitter.work() <= 12 * stream.len() as u64 + 12 * reads, "{}", splitter.work());
    (cuts, lost)
}
