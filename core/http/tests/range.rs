//! Ranges, and the parts in which several of them are sent.

use proptest::prelude::*;
use semfio_http::{ByteRange, FieldsBuf, RANGES_LIMIT, Selection, unsatisfied_range};

fn select(value: &str, total: u64) -> Selection {
    let fields = FieldsBuf::new().with("Range", value).unwrap();
    Selection::of(&fields.as_fields(), total)
}

/// First and last octet of each.
fn spans(selection: &Selection) -> Vec<(u64, u64)> {
    let span = |range: &ByteRange| (range.offset, range.offset + range.len - 1);
    match selection {
        Selection::One(range) => vec![span(range)],
        Selection::Many(ranges) => ranges.iter().map(span).collect(),
        _ => vec![],
    }
}

#[test]
fn a_range_that_is_there_is_sent() {
    for (value, right) in [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-499", (0, 499)),
        ("BYTES=500-999", (500, 999)),
        ("bytes=9500-", (9_500, 9_999)),
        ("bytes=-500", (9_500, 9_999)),
        ("bytes=-99999", (0, 9_999)),
        ("bytes=-99999999999999999999999", (0, 9_999)),
        ("bytes=0-99999999999999999999999", (0, 9_999)),
        ("bytes=00-007", (0, 7)),
        ("bytes=0-", (0, 9_999)),
        ("bytes= 1-2 ", (1, 2)),
        ("bytes=,, 1-2\t,", (1, 2)),
        // Those that are not there are left out.
        ("bytes=10000-,5-6", (5, 6)),
        ("bytes=-0,5-6", (5, 6)),
        ("bytes=5-6,99999999999999999999-", (5, 6)),
        // One, since they overlap, touch, or lie close.
        ("bytes=0-9,5-14", (0, 14)),
        ("bytes=5-14,0-9", (0, 14)),
        ("bytes=0-9,10-19", (0, 19)),
        ("bytes=0-0,5-6", (0, 6)),
        ("bytes=0-0,81-90", (0, 90)),
        ("bytes=0-100,10-20", (0, 100)),
        ("bytes=-10,0-", (0, 9_999)),
    ] {
        let selection = select(value.trim(), 10_000);
        assert!(matches!(selection, Selection::One(_)), "{value}: {selection:?}");
        assert_eq!(spans(&selection), [right], "{value}");
    }
}

#[test]
fn ranges_far_apart_are_several_in_the_order_of_the_asking() {
    for (value, right) in [
        ("bytes=0-0,82-90", &[(0, 0), (82, 90)][..]),
        ("bytes=550-700,0-99,500-600", &[(500, 700), (0, 99)]),
        ("bytes=500-600,0-99", &[(500, 600), (0, 99)]),
        ("bytes=500-600,0-99,550-700,-1", &[(500, 700), (0, 99), (9_999, 9_999)]),
        ("bytes=5000-5001,9-9,4999-5000,8-8", &[(4_999, 5_001), (8, 9)]),
    ] {
        let selection = select(value, 10_000);
        assert!(matches!(selection, Selection::Many(_)), "{value}: {selection:?}");
        assert_eq!(spans(&selection), right, "{value}");
    }
}

#[test]
fn what_is_not_there_cannot_be_satisfied() {
    for value in ["bytes=-0", "bytes=10000-", "bytes=10000-10001", "bytes=-0,20000-30000"] {
        assert_eq!(select(value, 10_000), Selection::Unsatisfiable, "{value}");
    }
    let huge = "bytes=99999999999999999998-99999999999999999999";
    assert_eq!(select(huge, u64::MAX), Selection::Unsatisfiable);
    assert_eq!(unsatisfied_range(47), "bytes */47");
}

#[test]
fn what_is_not_understood_is_ignored() {
    for value in [
        "foo=0-1",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes 0-1",
        "bytes=5-2",
        "bytes=0-1,5-2",
        "bytes=99999999999999999999-99999999999999999998",
        "bytes=0-1,x",
        "bytes=a-b",
        "bytes=-",
        "bytes=--1",
        "bytes=1--2",
        "bytes=0-1-2",
        "bytes=+0-1",
        "bytes=0x0-1",
        "bytes=0 - 1",
        "bytes=0",
        "bytes=1.5-2",
        "bytes =0-1",
    ] {
        assert_eq!(select(value, 10_000), Selection::Whole, "{value}");
    }
    let none = FieldsBuf::new();
    assert_eq!(Selection::of(&none.as_fields(), 10), Selection::Whole);
    let two = none.with("Range", "bytes=0-1").unwrap().with("range", "bytes=0-1").unwrap();
    assert_eq!(Selection::of(&two.as_fields(), 10), Selection::Whole);
}

#[test]
fn all_of_nothing_is_sent() {
    for value in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=7-"] {
        assert_eq!(select(value, 0), Selection::Whole, "{value}");
    }
}

#[test]
fn many_ranges_cost_little() {
    let repeated = |spec: &str, times: usize| format!("bytes={}", vec![spec; times].join(","));
    assert_eq!(select(&repeated("0-", 1_000), 10_000), Selection::Whole);
    assert_eq!(spans(&select(&repeated("0-", RANGES_LIMIT), 10_000)), [(0, 9_999)]);
    let apart = |count: u64| {
        let specs: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * 1_000)).collect();
        select(&format!("bytes={}", specs.join(",")), 10_000_000)
    };
    assert_eq!(spans(&apart(RANGES_LIMIT as u64)).len(), RANGES_LIMIT);
    assert_eq!(apart(RANGES_LIMIT as u64 + 1), Selection::Whole);
    // Empty members are none.
    assert_eq!(spans(&select(&format!("bytes={}1-2", ",".repeat(5_000)), 9)), [(1, 2)]);
}

/// What is asked for, told octet by octet.
fn wanted(specs: &[(Option<u64>, Option<u64>)], total: u64) -> Vec<bool> {
    let mut wanted = vec![false; total as usize];
    for (first, last) in specs {
        for (at, octet) in (0..total).zip(&mut wanted) {
            *octet |= match (first, last) {
                (Some(first), last) => at >= *first && last.is_none_or(|last| at <= last),
                (None, last) => at + last.unwrap_or(0) >= total,
            };
        }
    }
    wanted
}

fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
    prop_oneof![
        (0_u64..700, 0_u64..200).prop_map(|(first, len)| (Some(first), Some(first + len))),
        (0_u64..700).prop_map(|first| (Some(first), None)),
        (0_u64..700).prop_map(|len| (None, Some(len))),
    ]
}

proptest! {
    #[test]
    fn every_octet_that_is_wanted_is_sent_once(
        specs in prop::collection::vec(spec(), 1..8), total in 1_u64..600
    ) {
        let text = |at: &Option<u64>| at.map_or(String::new(), |at| at.to_string());
        let list: Vec<_> =
            specs.iter().map(|(first, last)| format!("{}-{}", text(first), text(last))).collect();
        let selection = select(&format!("bytes={}", list.join(", ")), total);
        let wanted = wanted(&specs, total);
        let mut sent = vec![0; total as usize];
        for (first, last) in spans(&selection) {
            prop_assert!(wanted[first as usize] && wanted[last as usize]);
            for at in first..=last {
                sent[at as usize] += 1;
            }
        }
        let is_wanted = wanted.contains(&true);
        prop_assert_eq!(selection == Selection::Unsatisfiable, !is_wanted);
        // What is sent beside the wanted is in gaps that cost less than a part.
        let mut gap = 0;
        for (wanted, sent) in wanted.iter().zip(&sent) {
            prop_assert!(*sent <= 1);
            prop_assert!(!wanted || *sent == 1);
            gap = if *sent == 1 && !wanted { gap + 1 } else { 0 };
            prop_assert!(gap <= 80);
        }
    }

    #[test]
    fn no_value_makes_it_stumble(value in "(bytes=)?[-0-9, a]{0,60}", total in any::<u64>()) {
        for (first, last) in spans(&select(value.trim(), total)) {
            prop_assert!(first <= last && last < total);
        }
    }
}
