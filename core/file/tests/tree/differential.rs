//! The same stream as bao-tree's, for the same groups.

use bao_tree::io::outboard::PreOrderMemOutboard;
use bao_tree::io::sync::encode_ranges_validated;
use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
use proptest::prelude::*;
use semfio_file::tree::Ranges;

use crate::wire::{LENGTHS, Unit, file, plain, stream};

fn check(len: usize, ranges: &Ranges) {
    let file = file(len);
    let outboard = PreOrderMemOutboard::create(&file, BlockSize::from_chunk_log(6));
    assert_eq!(plain(&file).0, *outboard.root.as_bytes());
    let mut chunks = ChunkRanges::empty();
    for (offset, len) in ranges.bytes() {
        let end = (offset + len).div_ceil(1_024).max(1);
        chunks |= ChunkRanges::from(ChunkNum(offset / 1_024)..ChunkNum(end));
    }
    let mut theirs = Vec::new();
    encode_ranges_validated(&file[..], &outboard, &chunks, &mut theirs).unwrap();
    let ours: Vec<u8> = stream(&file, 5, ranges)
        .into_iter()
        .flat_map(|unit| match unit {
            Unit::Pair(pair) => pair.to_vec(),
            Unit::Content(content) => content,
        })
        .collect();
    assert!(
        ours == theirs,
        "{len} bytes, {:?}: {} and {}",
        ranges.groups(),
        ours.len(),
        theirs.len()
    );
}

#[test]
fn whole_files_are_sent_alike() {
    for &len in LENGTHS {
        check(len, &Ranges::whole(len as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ranges_are_sent_alike(
        len in 1_usize..800_000,
        added in prop::collection::vec((0_u64..13, 1_u64..5), 1..5),
    ) {
        let mut ranges = Ranges::none(len as u64);
        added.into_iter().for_each(|(start, n)| ranges.add(start..start + n));
        if !ranges.is_empty() {
            check(len, &ranges);
        }
    }
}
