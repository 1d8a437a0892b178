//! The proof of a file's groups, over streams that were tampered with.

use alloc::vec;
use alloc::vec::Vec;
use semfio_file::tree::{
    Due, Hash, Item, NodeHasher, Outline, Outliner, Ranges, Sender, TreeError, Verifier,
};

use crate::Choices;

/// The longest file: five groups and a bit, so that the tree is uneven.
const LONGEST: usize = 5 * 65_536 + 1_030;

enum Unit {
    Pair([u8; 64]),
    Content(Vec<u8>),
}

/// A file, ranges of it, and a stream with changes, all chosen by `data`: what is proved is of
/// the file, and only what was sent is whole. Then `data` itself as ranges, and as a stream.
pub fn tree(data: &[u8]) {
    let mut choices = Choices::new(data);
    let file = file(&mut choices);
    let len = file.len() as u64;
    let mut ranges = Ranges::none(len);
    for _ in 0..choices.below(4) {
        let start = choices.below(7) as u64;
        ranges.add(start..start + choices.below(4) as u64);
    }
    assert_eq!(Ranges::parse(len, ranges.bytes()).as_ref(), Ok(&ranges));
    let outline = outline(&file, choices.below(14));
    let hashes = choices.below(4) == 0;
    let mut units = stream(&file, &outline, &ranges, hashes);
    let changed = tamper(&mut units, &mut choices);

    let verifier = if hashes { Verifier::hashes } else { Verifier::new };
    let mut verifier = verifier(outline.hash(), ranges.clone());
    let piece = 1 + choices.below(40_000);
    let result = take(&mut verifier, &units, piece, &file);
    assert_eq!(result.and_then(|()| verifier.finish()).is_ok(), !changed);
    raw(choices.bytes(400), outline.hash());
}

fn file(choices: &mut Choices<'_>) -> Vec<u8> {
    let near = [0, 1, 1_024, 65_536, 2 * 65_536, 3 * 65_536, 4 * 65_536, LONGEST - 1];
    let len = (near[choices.below(near.len())] + choices.below(3)).saturating_sub(1);
    let mut file = vec![7; len];
    for (number, chunk) in file.chunks_mut(1_024).enumerate() {
        chunk.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, of)| *byte = of);
    }
    file
}

fn outline(file: &[u8], kept: usize) -> Outline {
    let mut outliner = Outliner::with_limit(file.len() as u64, kept).unwrap();
    file.chunks(30_000).for_each(|piece| outliner.handle_content(piece).unwrap());
    outliner.finish().unwrap()
}

fn stream(file: &[u8], outline: &Outline, ranges: &Ranges, hashes: bool) -> Vec<Unit> {
    let sender = if hashes { Sender::hashes } else { Sender::new };
    let mut sender = sender(outline, ranges.clone()).unwrap();
    let mut units = Vec::new();
    loop {
        let at = |offset: u64, len: u64| &file[offset as usize..][..len as usize];
        match sender.poll_item(outline) {
            Item::Pair(pair) => units.push(Unit::Pair(pair)),
            Item::Content { offset, len } => units.push(Unit::Content(at(offset, len).to_vec())),
            Item::Span { offset, len } => {
                sender.handle_span(outline, at(offset, len.min(50_000))).unwrap();
            }
            Item::End => return units,
        }
    }
}

/// Whether anything was changed.
fn tamper(units: &mut Vec<Unit>, choices: &mut Choices<'_>) -> bool {
    if units.is_empty() {
        return false;
    }
    let at = choices.below(units.len());
    match choices.below(5) {
        0 => return false,
        1 => drop(units.remove(at)),
        2 => units.push(Unit::Content(Vec::new())),
        3 => units.insert(at, Unit::Content(vec![choices.byte()])),
        _ => match &mut units[at] {
            Unit::Pair(pair) => pair[choices.below(64)] ^= choices.byte() | 1,
            Unit::Content(content) if content.is_empty() => content.push(0),
            Unit::Content(content) => {
                let at = choices.below(content.len());
                content[at] ^= choices.byte() | 1;
            }
        },
    }
    true
}

fn take(
    verifier: &mut Verifier,
    units: &[Unit],
    piece: usize,
    file: &[u8],
) -> Result<(), TreeError> {
    let at = |offset: u64, len: u64| &file[offset as usize..][..len as usize];
    for unit in units {
        match unit {
            Unit::Pair(pair) => {
                for (node, hash) in verifier.handle_pair(pair)?.into_iter().flatten() {
                    let mut hasher = NodeHasher::new(node);
                    hasher.handle_content(at(node.offset(), node.len()));
                    assert_eq!(hasher.hash(), Some(hash), "beside");
                }
            }
            Unit::Content(content) => {
                let mut pieces: Vec<&[u8]> = content.chunks(piece).collect();
                if pieces.is_empty() {
                    pieces.push(&[]);
                }
                for piece in pieces {
                    if let Some(node) = verifier.handle_content(piece)? {
                        assert_eq!(content, at(node.offset(), node.len()), "proved");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Ranges and streams that nobody made: they end in an error, in few steps.
fn raw(data: &[u8], hash: Hash) {
    let mut numbers = data.chunks_exact(8).map(|number| {
        number.iter().fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte))
    });
    let file = numbers.next().unwrap_or(0);
    let pairs: Vec<u64> = numbers.collect();
    let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let ranges = match Ranges::parse(file, pairs) {
        Ok(ranges) => ranges,
        Err(_) => Ranges::whole(file),
    };
    assert!(ranges.content() <= file && ranges.others().content() <= file);
    assert!(ranges.pairs() <= file.div_ceil(65_536));
    let mut verifier = Verifier::new(hash, ranges);
    let mut last = None;
    while let Due::Pair | Due::Content { .. } = verifier.due() {
        assert_ne!(last, Some(verifier.due()), "a step proves something");
        last = Some(verifier.due());
        let result = match verifier.due() {
            Due::Content { len, .. } => {
                verifier.handle_content(&[7; 65_536][..len as usize]).map(drop)
            }
            _ => verifier.handle_pair(&[7; 64]).map(drop),
        };
        if let Err(error) = result {
            assert_eq!(verifier.finish(), Err(error));
            break;
        }
    }
}
