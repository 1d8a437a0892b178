//! Ranges of peers, and our own.

use proptest::prelude::*;
use semfio_file::tree::{GROUP, MAX_RANGES, RangeError, Ranges};
use std::collections::BTreeSet;

#[test]
fn ranges_of_a_peer_have_one_form() {
    const FILE: u64 = 10 * GROUP + 5;
    let parse = |ranges: &[(u64, u64)]| {
        Ranges::parse(FILE, ranges.iter().copied()).map(|ranges| ranges.groups().to_vec())
    };
    assert_eq!(parse(&[]), Ok(vec![]));
    assert_eq!(parse(&[(0, FILE)]).unwrap()[0], 0..11);
    assert_eq!(parse(&[(0, GROUP)]).unwrap()[0], 0..1);
    assert_eq!(parse(&[(10 * GROUP, 5)]).unwrap()[0], 10..11);
    assert_eq!(
        parse(&[(0, GROUP), (2 * GROUP, 3 * GROUP), (9 * GROUP, GROUP + 5)]).unwrap().len(),
        3
    );

    assert_eq!(parse(&[(0, 0)]), Err(RangeError::Empty));
    assert_eq!(parse(&[(GROUP, 0)]), Err(RangeError::Empty));
    assert_eq!(parse(&[(FILE, 0)]), Err(RangeError::Empty));
    assert_eq!(parse(&[(1, GROUP)]), Err(RangeError::NotWhole));
    assert_eq!(parse(&[(GROUP - 1, GROUP + 1)]), Err(RangeError::NotWhole));
    assert_eq!(parse(&[(0, GROUP - 1)]), Err(RangeError::NotWhole));
    assert_eq!(parse(&[(0, GROUP + 1)]), Err(RangeError::NotWhole));
    assert_eq!(parse(&[(10 * GROUP, 4)]), Err(RangeError::NotWhole));
    assert_eq!(parse(&[(0, FILE + 1)]), Err(RangeError::Beyond));
    assert_eq!(parse(&[(10 * GROUP, 6)]), Err(RangeError::Beyond));
    assert_eq!(parse(&[(11 * GROUP, GROUP)]), Err(RangeError::Beyond));
    assert_eq!(parse(&[(GROUP, u64::MAX)]), Err(RangeError::Beyond), "past all numbers");
    assert_eq!(parse(&[(u64::MAX, 1)]), Err(RangeError::Beyond));
    assert_eq!(parse(&[(0, 1 << 63)]), Err(RangeError::Beyond));
    assert_eq!(parse(&[(0, GROUP), (0, GROUP)]), Err(RangeError::Order), "twice");
    assert_eq!(parse(&[(0, 2 * GROUP), (GROUP, 2 * GROUP)]), Err(RangeError::Order), "overlapping");
    assert_eq!(parse(&[(2 * GROUP, GROUP), (0, GROUP)]), Err(RangeError::Order), "falling");
    assert_eq!(parse(&[(0, GROUP), (GROUP, GROUP)]), Err(RangeError::Order), "touching");

    assert_eq!(Ranges::parse(0, [(0, 0)]), Ok(Ranges::whole(0)));
    assert_eq!(Ranges::parse(0, [(0, 0), (0, 0)]), Err(RangeError::Order));
    assert_eq!(Ranges::parse(0, [(0, 1)]), Err(RangeError::Beyond));

    let many = |n: u64| Ranges::parse(1 << 40, (0..n).map(|n| (n * 2 * GROUP, GROUP)));
    assert_eq!(many(MAX_RANGES as u64).map(|ranges| ranges.groups().len()), Ok(MAX_RANGES));
    assert_eq!(many(MAX_RANGES as u64 + 1), Err(RangeError::TooMany));
}

#[test]
fn the_largest_file_has_ranges() {
    for file in [1 << 53, 1 << 63, u64::MAX] {
        let whole = Ranges::whole(file);
        assert_eq!(whole.content(), file);
        assert_eq!(whole.pairs(), file.div_ceil(GROUP) - 1);
        assert_eq!(Ranges::parse(file, whole.bytes()), Ok(whole.clone()));
        assert!(whole.others().is_empty());
        let mut last = Ranges::none(file);
        last.add(file.div_ceil(GROUP) - 1..u64::MAX);
        assert_eq!(Ranges::parse(file, last.bytes()), Ok(last.clone()));
        assert_eq!(last.others().content() + last.content(), file);
        assert!(last.pairs() <= 48, "{}", last.pairs());
    }
}

#[test]
fn too_many_gaps_are_closed_and_nothing_is_lost() {
    let mut ranges = Ranges::none(1 << 40);
    let mut added = BTreeSet::new();
    for n in 0..MAX_RANGES as u64 + 200 {
        let start = n * 10 + n % 7;
        ranges.add(start..start + 2);
        added.extend([start, start + 1]);
        assert!(ranges.groups().len() <= MAX_RANGES);
    }
    let held: BTreeSet<u64> = ranges.groups().iter().cloned().flatten().collect();
    assert!(held.is_superset(&added));
    assert_eq!(ranges.groups().len(), MAX_RANGES);
    assert!(held.len() < added.len() + 200 * 8, "the smallest gaps were closed");
    let others = ranges.others();
    assert!(others.groups().len() <= MAX_RANGES);
}

proptest! {
    #[test]
    fn added_in_any_order_they_are_a_set(
        len in 0_u64..40 * GROUP,
        added in prop::collection::vec((0_u64..45, 0_u64..9), 0..20),
    ) {
        let groups = len.div_ceil(GROUP).max(1);
        let mut ranges = Ranges::none(len);
        let mut model = BTreeSet::new();
        for (start, n) in added {
            ranges.add(start..start + n);
            model.extend((start..start + n).filter(|group| *group < groups));
        }
        let held: BTreeSet<u64> = ranges.groups().iter().cloned().flatten().collect();
        prop_assert_eq!(&held, &model);
        prop_assert!(ranges.groups().windows(2).all(|two| two[0].end < two[1].start));
        let others: BTreeSet<u64> = ranges.others().groups().iter().cloned().flatten().collect();
        prop_assert_eq!(others, (0..groups).filter(|group| !model.contains(group)).collect());
        prop_assert_eq!(Ranges::parse(len, ranges.bytes()), Ok(ranges.clone()));
        prop_assert_eq!(ranges.content() + ranges.others().content(), len);
    }
}
