//! Any ranges of any file arrive, whatever the sender kept and however the stream is cut.

use proptest::prelude::*;
use semfio_file::tree::{Due, GROUP, Hash, Ranges, Verifier};

use crate::wire::{LENGTHS, Unit, file, plain, received, stream, wanted};

fn check(file: &[u8], ranges: &Ranges, kept: usize, piece: usize) {
    let units = stream(file, kept, ranges);
    let (proved, result) = received(plain(file), ranges, &units, piece);
    assert_eq!(result, Ok(()));
    assert_eq!(proved.groups, wanted(file, ranges));
    let pairs = units.iter().filter(|unit| matches!(unit, Unit::Pair(_))).count() as u64;
    let content = proved.groups.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    assert_eq!((pairs, content), (ranges.pairs(), ranges.content()), "as announced");
    assert!(pairs > 0 || file.len() <= 65_536 || ranges.is_empty());
    // Beside and within, each group once, in order.
    let mut covered: Vec<_> = proved.groups.iter().map(|(group, _)| *group..group + 1).collect();
    covered.extend(proved.beside.iter().map(|(node, _)| node.start()..node.end()));
    covered.sort_by_key(|range| range.start);
    if !ranges.is_empty() {
        let groups = (file.len() as u64).div_ceil(GROUP).max(1);
        assert!(covered.into_iter().flatten().eq(0..groups));
    }
}

#[test]
fn whole_files_arrive() {
    for &len in LENGTHS {
        let file = file(len);
        for kept in [1, 3, 8, 32_768] {
            check(&file, &Ranges::whole(len as u64), kept, 30_000);
        }
        check(&file, &Ranges::none(len as u64), 32_768, 30_000);
    }
}

#[test]
fn every_set_of_groups_arrives() {
    let file = file(6 * 65_536 + 9);
    for set in 0..1_u32 << 7 {
        let mut ranges = Ranges::none(file.len() as u64);
        (0..7).filter(|group| set >> group & 1 == 1).for_each(|group| ranges.add(group..group + 1));
        let kept = [1, 4, 9, 32_768][set as usize % 4];
        check(&file, &ranges, kept, 65_536);
    }
}

#[test]
fn parts_over_several_connections_are_a_whole() {
    let file = file(13 * 65_536 + 100);
    let mut together = Vec::new();
    for connection in 0..3 {
        let mut ranges = Ranges::none(file.len() as u64);
        (connection..14).step_by(3).for_each(|group| ranges.add(group..group + 1));
        let (proved, result) =
            received(plain(&file), &ranges, &stream(&file, 32_768, &ranges), 9_999);
        assert_eq!(result, Ok(()));
        together.extend(proved.groups);
    }
    together.sort();
    assert_eq!(together.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), file);
}

#[test]
fn what_is_due_is_told() {
    let file = file(65_536 + 10);
    let ranges = Ranges::whole(file.len() as u64);
    let units = stream(&file, 32_768, &ranges);
    let mut verifier = Verifier::new(plain(&file), ranges);
    assert_eq!(verifier.due(), Due::Pair);
    let Unit::Pair(pair) = units[0] else { panic!("{:?}", units[0]) };
    verifier.handle_pair(&pair).unwrap();
    assert_eq!(verifier.due(), Due::Content { group: 0, offset: 0, len: 65_536 });
    assert_eq!(verifier.handle_content(&file[..65_535]), Ok(None));
    assert_eq!(verifier.due(), Due::Content { group: 0, offset: 65_535, len: 1 });
    assert_eq!(verifier.handle_content(&[]), Ok(None));
    let node = verifier.handle_content(&file[65_535..65_536]).unwrap().unwrap();
    assert_eq!((node.start(), node.offset(), node.len()), (0, 0, 65_536));
    assert_eq!(verifier.due(), Due::Content { group: 1, offset: 65_536, len: 10 });
    let node = verifier.handle_content(&file[65_536..]).unwrap().unwrap();
    assert_eq!((node.start(), node.offset(), node.len()), (1, 65_536, 10));
    assert_eq!((verifier.due(), verifier.finish()), (Due::End, Ok(())));

    let mut empty = Verifier::new(plain(&[]), Ranges::whole(0));
    assert_eq!(empty.due(), Due::Content { group: 0, offset: 0, len: 0 });
    assert!(empty.handle_content(&[]).unwrap().unwrap().is_empty());
    assert_eq!(empty.due(), Due::End);
    assert_eq!(Verifier::new(Hash([0; 32]), Ranges::none(1)).due(), Due::End);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_ranges_arrive(
        len in prop_oneof![0_usize..900_000, prop::sample::select(LENGTHS)],
        added in prop::collection::vec((0_u64..15, 1_u64..5), 0..6),
        kept in 1_usize..30,
        piece in 1_000_usize..100_000,
    ) {
        let mut ranges = Ranges::none(len as u64);
        added.into_iter().for_each(|(start, n)| ranges.add(start..start + n));
        check(&file(len), &ranges, kept, piece);
    }
}
