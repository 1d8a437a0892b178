//! What is at hand is proved by the hashes that come with what is missing.

use semfio_file::tree::{Hash, Node, NodeHasher, Ranges, Sender, Verifier};

use crate::wire::{Proved, Unit, file, outline_of, plain, received, sent, stream, take};

const GROUPS: u64 = 40;

/// Whether what is at hand hashes to what was proved.
fn holds(part: &[u8], node: &Node, hash: Hash) -> bool {
    let mut hasher = NodeHasher::new(*node);
    let from = (node.offset() as usize).min(part.len());
    hasher.handle_content(&part[from..]);
    hasher.hash() == Some(hash)
}

fn bytes(units: &[Unit]) -> usize {
    let len = |unit: &Unit| match unit {
        Unit::Pair(pair) => pair.len(),
        Unit::Content(content) => content.len(),
    };
    units.iter().map(len).sum()
}

#[test]
fn a_prefix_is_proved_by_what_comes_with_the_rest() {
    let file = file(GROUPS as usize * 65_536 - 100);
    for held in [0, 1, 2, 7, 8, 31, 32, 33, 37, 38, 39] {
        // Cut in the middle of a group.
        let part = &file[..held as usize * 65_536 + 30_000];
        let mut ranges = Ranges::none(file.len() as u64);
        ranges.add(held..GROUPS);
        let units = stream(&file, 32_768, &ranges);
        let (proved, result) = received(plain(&file), &ranges, &units, 1 << 20);
        assert_eq!(result, Ok(()));
        let first = proved.beside.iter().map(|(node, _)| node.groups()).sum::<u64>();
        assert_eq!(first, held, "all that is held lies beside");
        assert!(proved.beside.iter().all(|(node, hash)| holds(part, node, *hash)));
        let resent = bytes(&units) - (file.len() - part.len());
        assert!(resent <= 65_536 + 64 * (GROUPS - held) as usize + 64 * 6, "{held}: {resent}");
    }
}

#[test]
fn a_part_that_was_damaged_is_noticed_and_located() {
    let file = file(GROUPS as usize * 65_536 - 100);
    let damaged = 21;
    let mut part = file[..35 * 65_536].to_vec();
    part[damaged as usize * 65_536 + 5] ^= 4;
    let mut ranges = Ranges::none(file.len() as u64);
    ranges.add(35..GROUPS);
    let (proved, result) =
        received(plain(&file), &ranges, &stream(&file, 32_768, &ranges), 1 << 20);
    assert_eq!(result, Ok(()));
    let wrong: Vec<_> =
        proved.beside.iter().filter(|(node, hash)| !holds(&part, node, *hash)).collect();
    assert_eq!(wrong.len(), 1);
    assert!((wrong[0].0.start()..wrong[0].0.end()).contains(&damaged));

    // Which group it is, by hashes alone.
    let mut suspect = Ranges::none(file.len() as u64);
    suspect.add(wrong[0].0.start()..wrong[0].0.end());
    for kept in [9, 32_768] {
        let outline = outline_of(&file, kept, 1 << 20);
        let units = sent(Sender::hashes(&outline, suspect.clone()).unwrap(), &outline, &file);
        assert_eq!(bytes(&units), suspect.pairs() as usize * 64, "no content");
        let mut verifier = Verifier::hashes(plain(&file), suspect.clone());
        let mut proved = Proved::default();
        take(&mut verifier, &units, 1 << 20, &mut proved).unwrap();
        assert_eq!(verifier.finish(), Ok(()));
        let mut missing = Ranges::none(file.len() as u64);
        for (node, hash) in &proved.beside {
            let within = (wrong[0].0.start()..wrong[0].0.end()).contains(&node.start());
            assert!(!within || node.groups() == 1);
            if within && !holds(&part, node, *hash) {
                missing.add(node.start()..node.end());
            }
        }
        let expected = [damaged..damaged + 1, 35..GROUPS];
        missing.add(35..GROUPS);
        assert_eq!(missing.groups(), expected);
    }
}

#[test]
fn what_is_held_is_found_without_a_journal() {
    let file = file(GROUPS as usize * 65_536 - 100);
    // As parallel ranges leave it: holes of zeros.
    let mut part = vec![0; file.len()];
    let held = [0..3, 7..8, 16..30];
    for range in held.clone() {
        let bytes = range.start as usize * 65_536..range.end as usize * 65_536;
        part[bytes.clone()].copy_from_slice(&file[bytes]);
    }
    let whole = Ranges::whole(file.len() as u64);
    let outline = outline_of(&file, 32_768, 1 << 20);
    let units = sent(Sender::hashes(&outline, whole.clone()).unwrap(), &outline, &file);
    assert!(bytes(&units) * 1_000 < file.len(), "a thousandth");
    let mut verifier = Verifier::hashes(plain(&file), whole);
    let mut proved = Proved::default();
    take(&mut verifier, &units, 1 << 20, &mut proved).unwrap();
    assert_eq!(verifier.finish(), Ok(()));
    let mut have = Ranges::none(file.len() as u64);
    for (node, hash) in proved.beside {
        if holds(&part, &node, hash) {
            have.add(node.start()..node.end());
        }
    }
    assert_eq!(have.groups(), held);

    // A forged hash is refused: nothing at hand is taken for proved by it.
    for at in 0..units.len() {
        let mut forged = units.clone();
        let Unit::Pair(pair) = &mut forged[at] else { panic!("content among the hashes") };
        pair[at % 64] ^= 0x80;
        let mut verifier = Verifier::hashes(plain(&file), Ranges::whole(file.len() as u64));
        assert!(take(&mut verifier, &forged, 1 << 20, &mut Proved::default()).is_err());
    }
    for len in [0, 1, 65_536] {
        assert_eq!(Verifier::hashes(Hash([0; 32]), Ranges::whole(len)).finish(), Ok(()));
    }
}
