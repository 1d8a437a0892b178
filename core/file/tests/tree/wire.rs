//! A stream as a list of units, a sender that makes it and a receiver that takes it.

use semfio_file::tree::{
    Beside, Due, Hash, Item, Node, Outline, Outliner, PAIR, Ranges, Sender, TreeError, Verifier,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unit {
    Pair([u8; PAIR]),
    Content(Vec<u8>),
}

/// The lengths where something changes: chunks and groups of BLAKE3, and odd counts of groups.
pub(crate) const LENGTHS: &[usize] = &[
    0,
    1,
    1_023,
    1_024,
    1_025,
    65_535,
    65_536,
    65_537,
    2 * 65_536 - 1,
    2 * 65_536,
    2 * 65_536 + 1,
    3 * 65_536,
    4 * 65_536 - 1_024,
    4 * 65_536 + 1,
    5 * 65_536 + 7,
    7 * 65_536,
    8 * 65_536 + 1_025,
];

/// No two groups of it are equal.
pub(crate) fn file(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let word = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let words = std::iter::repeat_with(word).take(len.div_ceil(4));
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.truncate(len);
    bytes
}

pub(crate) fn plain(file: &[u8]) -> Hash {
    Hash(blake3::hash(file).into())
}

/// `kept` hashes at most; fed in pieces of `piece` bytes.
pub(crate) fn outline_of(file: &[u8], kept: usize, piece: usize) -> Outline {
    let mut outliner = Outliner::with_limit(file.len() as u64, kept).unwrap();
    for (number, piece_of) in file.chunks(piece).enumerate() {
        assert_eq!(outliner.due(), ((number * piece) as u64, (file.len() - number * piece) as u64));
        outliner.handle_content(piece_of).unwrap();
    }
    outliner.finish().unwrap()
}

/// What a sender gives, its spans read in pieces.
pub(crate) fn sent(mut sender: Sender, outline: &Outline, file: &[u8]) -> Vec<Unit> {
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

pub(crate) fn stream(file: &[u8], kept: usize, ranges: &Ranges) -> Vec<Unit> {
    let outline = outline_of(file, kept, 1 << 20);
    sent(Sender::new(&outline, ranges.clone()).unwrap(), &outline, file)
}

/// What a receiver has proved: groups with their bytes, and what lies beside.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    pub(crate) groups: Vec<(u64, Vec<u8>)>,
    pub(crate) beside: Vec<(Node, Hash)>,
}

/// Hands units over, content in pieces, and takes note of what is proved.
pub(crate) fn take(
    verifier: &mut Verifier,
    units: &[Unit],
    piece: usize,
    proved: &mut Proved,
) -> Result<(), TreeError> {
    for unit in units {
        match unit {
            Unit::Pair(pair) => {
                let beside: Beside = verifier.handle_pair(pair)?;
                proved.beside.extend(beside.into_iter().flatten());
            }
            Unit::Content(content) => {
                let mut pieces: Vec<&[u8]> = content.chunks(piece).collect();
                if pieces.is_empty() {
                    pieces.push(&[]);
                }
                let last = pieces.len() - 1;
                for (number, piece) in pieces.into_iter().enumerate() {
                    match verifier.handle_content(piece)? {
                        Some(node) => proved.groups.push((node.start(), content.clone())),
                        None => assert!(number < last || verifier.due() != Due::End),
                    }
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn received(
    hash: Hash,
    ranges: &Ranges,
    units: &[Unit],
    piece: usize,
) -> (Proved, Result<(), TreeError>) {
    let mut verifier = Verifier::new(hash, ranges.clone());
    let mut proved = Proved::default();
    let result = take(&mut verifier, units, piece, &mut proved).and_then(|()| verifier.finish());
    (proved, result)
}

/// The groups of `ranges` as they are in the file.
pub(crate) fn wanted(file: &[u8], ranges: &Ranges) -> Vec<(u64, Vec<u8>)> {
    let groups = ranges.groups().iter().cloned().flatten();
    groups
        .map(|group| {
            let rest = &file[group as usize * 65_536..];
            (group, rest[..rest.len().min(65_536)].to_vec())
        })
        .collect()
}
