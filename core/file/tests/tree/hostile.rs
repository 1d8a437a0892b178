//! Streams that are not what they should be are refused where they go wrong.

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
use proptest::prelude::*;
use semfio_file::tree::{Due, GROUP, Hash, Node, NodeHasher, Ranges, TreeError, Verifier};

use crate::wire::{LENGTHS, Proved, Unit, file, plain, received, stream, take, wanted};

#[test]
fn every_flipped_bit_is_refused_at_its_place() {
    for len in [0, 1, 7, 1_025, 65_536, 65_537, 4 * 65_536 + 7] {
        let file = file(len);
        let ranges = Ranges::whole(len as u64);
        let mut verifier = Verifier::new(plain(&file), ranges.clone());
        for unit in stream(&file, 32_768, &ranges) {
            let (mut bytes, bits): (_, Vec<usize>) = match &unit {
                Unit::Pair(pair) => (pair.to_vec(), (0..512).collect()),
                // All of the first and last 16 bytes, and one in 1,021 between.
                Unit::Content(content) => {
                    let last = content.len() * 8;
                    let edges = (0..last.min(128)).chain(last.saturating_sub(128)..last);
                    (content.clone(), edges.chain((0..last).step_by(8_168)).collect())
                }
            };
            for bit in bits {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut verifier = verifier.clone();
                let due = verifier.due();
                let error = match &unit {
                    Unit::Pair(_) => {
                        verifier.handle_pair(bytes[..].try_into().unwrap()).unwrap_err()
                    }
                    Unit::Content(_) => verifier.handle_content(&bytes).unwrap_err(),
                };
                match (due, error) {
                    (Due::Pair, TreeError::Pair { start, end }) => assert!(end - start > 1),
                    (Due::Content { group, .. }, TreeError::Content { group: at }) => {
                        assert_eq!(group, at);
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(verifier.finish(), Err(error), "errors stay");
                assert_eq!(verifier.handle_content(&[]).err(), Some(error));
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            take(&mut verifier, &[unit], 1 << 20, &mut Proved::default()).unwrap();
        }
        assert_eq!(verifier.finish(), Ok(()));
        for bit in 0..256 {
            let mut hash = plain(&file);
            hash.0[bit / 8] ^= 1 << (bit % 8);
            let (proved, result) =
                received(hash, &ranges, &stream(&file[..], 1, &ranges)[..1], 1 << 20);
            assert!(result.is_err() && proved.groups.is_empty());
            if len > 65_537 && bit > 4 {
                break;
            }
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_truncated() {
    let file = file(5 * 65_536 + 7);
    let ranges = Ranges::whole(file.len() as u64);
    let units = stream(&file, 32_768, &ranges);
    for end in 0..units.len() {
        let (proved, result) = received(plain(&file), &ranges, &units[..end], 1 << 20);
        assert_eq!(result, Err(TreeError::Truncated { group: proved.groups.len() as u64 }));
        if let Unit::Content(content) = &units[end] {
            let mut cut = units[..end].to_vec();
            cut.push(Unit::Content(content[..content.len() - 1].to_vec()));
            let (proved, result) = received(plain(&file), &ranges, &cut, 1 << 20);
            assert_eq!(result, Err(TreeError::Truncated { group: proved.groups.len() as u64 }));
        }
    }
}

#[test]
fn a_stream_out_of_order_or_too_long_is_refused() {
    let file = file(3 * 65_536 + 7);
    let ranges = Ranges::whole(file.len() as u64);
    let units = stream(&file, 32_768, &ranges);
    let result = |units: &[Unit]| received(plain(&file), &ranges, units, 1 << 20).1;
    assert_eq!(result(&units), Ok(()));
    for (at, unit) in units.iter().enumerate() {
        let mut dropped = units.clone();
        dropped.remove(at);
        assert!(result(&dropped).is_err(), "unit {at} left out");
        let mut twice = units.clone();
        twice.insert(at, unit.clone());
        assert!(result(&twice).is_err(), "unit {at} twice");
        for other in at + 1..units.len() {
            let mut swapped = units.clone();
            swapped.swap(at, other);
            assert!(result(&swapped).is_err(), "units {at} and {other} swapped");
        }
        if let Unit::Content(content) = unit {
            let mut longer = units.clone();
            longer[at] = Unit::Content([&content[..], b"x"].concat());
            assert_eq!(result(&longer), Err(TreeError::TooLong));
        }
        let mut other_kind = units.clone();
        other_kind[at] = match unit {
            Unit::Pair(pair) => Unit::Content(pair.to_vec()),
            Unit::Content(_) => Unit::Pair([0; 64]),
        };
        assert_eq!(result(&other_kind), Err(TreeError::Order));
    }
    for more in [Unit::Content(vec![]), Unit::Content(vec![0]), Unit::Pair([0; 64])] {
        let mut longer = units.clone();
        longer.push(more);
        assert_eq!(result(&longer), Err(TreeError::Order));
    }
}

#[test]
fn a_length_that_is_a_lie_never_ends_well() {
    for &len in LENGTHS {
        let file = file(len);
        let true_len = len as u64;
        let lies = [
            0,
            1,
            GROUP,
            true_len + 1,
            true_len + 1_024,
            true_len + GROUP,
            1 << 53,
            1 << 63,
            u64::MAX,
        ];
        let below = [true_len.wrapping_sub(1), true_len.wrapping_sub(GROUP), true_len / 2];
        for lie in lies.into_iter().chain(below).filter(|lie| *lie != true_len) {
            let units = stream(&file, 32_768, &Ranges::whole(true_len));
            let (proved, result) = received(plain(&file), &Ranges::whole(lie), &units, 1 << 20);
            assert!(result.is_err(), "{lie} said, {true_len} meant");
            for (group, bytes) in proved.groups {
                assert!(
                    file[group as usize * 65_536..].starts_with(&bytes),
                    "what is proved is so"
                );
            }
            // A sender that bends its file to the lie cannot prove it either.
            if lie < 1 << 24 {
                let mut bent = file.clone();
                bent.resize(lie as usize, 0);
                let units = stream(&bent, 32_768, &Ranges::whole(lie));
                let (_, result) = received(plain(&file), &Ranges::whole(lie), &units, 1 << 20);
                assert!(result.is_err(), "{lie} said, {true_len} meant, content bent");
            }
        }
    }
}

/// One group near the middle of a file of 2^63 bytes and a few, of which nothing else is known.
#[test]
fn a_tree_of_48_levels_is_proved_and_refused() {
    let len = (1 << 63) + 12_345;
    let at = 1_u64 << 46 | 0x1234_5678_9ABC;
    let content = file(65_536);
    let mut path = vec![Node::root(len)];
    while let Some((left, right)) = path.last().unwrap().split() {
        path.push(if at < right.start() { left } else { right });
    }
    let group = path.pop().unwrap();
    assert_eq!((group.start(), group.len(), path.len()), (at, GROUP, 48));
    let mut hasher = NodeHasher::new(group);
    hasher.handle_content(&content);
    let mut hash = hasher.hash().unwrap();
    let mut pairs = Vec::new();
    for (level, node) in path.iter().enumerate().rev() {
        let beside = [level as u8; 32];
        let left = at < node.split().unwrap().1.start();
        let (left, right) = if left { (hash.0, beside) } else { (beside, hash.0) };
        pairs.push([left, right].concat());
        hash = Hash(match node.is_root() {
            true => merge_subtrees_root(&left, &right, Mode::Hash).into(),
            false => merge_subtrees_non_root(&left, &right, Mode::Hash),
        });
    }
    let mut units: Vec<Unit> =
        pairs.iter().rev().map(|pair| Unit::Pair(pair[..].try_into().unwrap())).collect();
    units.push(Unit::Content(content.clone()));
    let mut ranges = Ranges::none(len);
    ranges.add(at..at + 1);
    assert_eq!((ranges.pairs(), ranges.content()), (48, GROUP));
    let (proved, result) = received(hash, &ranges, &units, 1 << 20);
    assert_eq!((result, proved.groups, proved.beside.len()), (Ok(()), vec![(at, content)], 48));

    for unit in 0..48 {
        let mut wrong = units.clone();
        let Unit::Pair(pair) = &mut wrong[unit] else { unreachable!() };
        pair[unit] ^= 1;
        let (start, end) = (path[unit].start(), path[unit].end());
        let (_, result) = received(hash, &ranges, &wrong, 1 << 20);
        assert_eq!(result, Err(TreeError::Pair { start, end }));
    }
    let mut shifted = Ranges::none(len);
    shifted.add(at + 1..at + 2);
    assert!(received(hash, &shifted, &units, 1 << 20).1.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is done to a stream, what is proved is of the file, and only the true stream is whole.
    #[test]
    fn nothing_wrong_is_proved(
        len in 0_usize..400_000,
        added in prop::collection::vec((0_u64..7, 1_u64..4), 1..4),
        changes in prop::collection::vec((0_u8..5, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let file = file(len);
        let mut ranges = Ranges::none(len as u64);
        added.into_iter().for_each(|(start, n)| ranges.add(start..start + n));
        let right = stream(&file, 32_768, &ranges);
        let mut units = right.clone();
        for (change, at, other, byte) in changes {
            if units.is_empty() {
                break;
            }
            let (at, other) = (at.index(units.len()), other.index(units.len()));
            match change {
                0 => drop(units.remove(at)),
                1 => units.swap(at, other),
                2 => units.insert(at, units[other].clone()),
                3 => units.truncate(at),
                _ => match &mut units[at] {
                    Unit::Pair(pair) => pair[other % 64] ^= byte,
                    Unit::Content(content) if content.is_empty() => content.push(byte),
                    Unit::Content(content) => {
                        let middle = content.len() / 2;
                        content[middle] ^= byte;
                    }
                },
            }
        }
        let (proved, result) = received(plain(&file), &ranges, &units, 50_000);
        let wanted = wanted(&file, &ranges);
        prop_assert!(wanted.starts_with(&proved.groups));
        prop_assert_eq!(result.is_ok(), units == right);
        for (node, hash) in proved.beside {
            let mut hasher = NodeHasher::new(node);
            hasher.handle_content(&file[node.offset() as usize..][..node.len() as usize]);
            prop_assert_eq!(hasher.hash(), Some(hash));
        }
    }
}
