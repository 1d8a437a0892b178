//! What a sender keeps.

use semfio_file::tree::{
    Hash, Item, MAX_FILE, MAX_KEPT, Node, Outliner, Ranges, Sender, TreeError,
};

use crate::wire::{LENGTHS, Unit, file, outline_of, plain, stream};

#[test]
fn the_top_is_plain_blake3_whatever_is_kept() {
    for &len in LENGTHS {
        let file = file(len);
        for kept in [1, 2, 3, 7, 8, MAX_KEPT] {
            let outline = outline_of(&file, kept, 40_000);
            assert_eq!(outline.hash(), plain(&file), "{len} bytes, {kept} kept");
            assert_eq!(outline.find(&Node::root(len as u64)), Some(plain(&file)));
        }
        let drip = outline_of(&file[..len.min(70_000)], MAX_KEPT, 1_000);
        assert_eq!(drip.hash(), plain(&file[..len.min(70_000)]));
    }
    let abc = outline_of(b"abc", MAX_KEPT, 1).hash().to_string();
    assert_eq!(abc, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    let none = outline_of(b"", MAX_KEPT, 1).hash().to_string();
    assert_eq!(none, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
}

#[test]
fn every_hash_that_is_kept_is_its_nodes() {
    let file = file(11 * 65_536 + 3);
    for kept in [1, 5, 12, MAX_KEPT] {
        let outline = outline_of(&file, kept, 1 << 20);
        let mut ahead = vec![outline.top()];
        let mut found = 0;
        while let Some(node) = ahead.pop() {
            let content = &file[node.offset() as usize..][..node.len() as usize];
            let mut hasher = semfio_file::tree::NodeHasher::new(node);
            assert!(hasher.handle_content(content).is_empty());
            if let Some(hash) = outline.find(&node) {
                assert_eq!(Some(hash), hasher.hash(), "{node:?}");
                found += 1;
            } else {
                assert!(node.groups() < outline.span());
            }
            ahead.extend(node.split().into_iter().flat_map(|(left, right)| [right, left]));
        }
        assert!(found <= kept && found * 2 >= kept.min(23) - 1, "{found} of {kept}");
    }
    let outline = outline_of(&file, MAX_KEPT, 1 << 20);
    assert_eq!(outline.find(&Node::root(12 * 65_536)), outline.find(&outline.top()));
    assert_eq!(outline.find(&Node::root(13 * 65_536)), None);
}

#[test]
fn what_is_kept_is_bounded() {
    let file = file(11 * 65_536);
    for (kept, span) in [(0, 16), (1, 16), (2, 16), (3, 8), (5, 4), (11, 2), (20, 2), (21, 1)] {
        assert_eq!(outline_of(&file, kept, 1 << 20).span(), span, "{kept} kept");
    }
    assert_eq!(MAX_FILE, 16 << 40);
    assert!(Outliner::new(MAX_FILE).is_ok());
    for len in [MAX_FILE + 1, 1 << 63, u64::MAX] {
        assert_eq!(Outliner::new(len).err(), Some(TreeError::TooLarge));
    }
    // One span of 1 GiB has as many hashes inside as are ever kept.
    assert_eq!(Outliner::with_limit((1 << 30) + 1, 1).err(), Some(TreeError::TooLarge));
    assert!(Outliner::with_limit(1 << 30, 1).is_ok() && Outliner::with_limit(0, 0).is_ok());
}

#[test]
fn content_that_is_not_as_long_as_announced_makes_no_outline() {
    let file = file(3 * 65_536 + 1);
    let fed = |len: u64, bytes: &[u8]| {
        let mut outliner = Outliner::new(len).unwrap();
        outliner.handle_content(bytes).and_then(|()| outliner.finish())
    };
    assert_eq!(fed(1, b""), Err(TreeError::Truncated { group: 0 }));
    assert_eq!(fed(0, b"x"), Err(TreeError::TooLong));
    let len = file.len() as u64;
    assert_eq!(fed(len + 1, &file), Err(TreeError::Truncated { group: 3 }));
    assert_eq!(fed(len, &file[..65_536]), Err(TreeError::Truncated { group: 1 }));
    assert_eq!(fed(len, &file[..65_535]), Err(TreeError::Truncated { group: 0 }));
    assert_eq!(fed(len - 1, &file), Err(TreeError::TooLong));
    assert_eq!(fed(len - 2, &file), Err(TreeError::TooLong));
}

#[test]
fn a_span_that_was_changed_is_noticed_before_it_is_sent() {
    let right = file(8 * 65_536);
    let outline = outline_of(&right, 3, 1 << 20);
    assert_eq!(outline.span(), 4);
    let mut changed = right.clone();
    changed[6 * 65_536] ^= 1;
    let mut sender = Sender::new(&outline, Ranges::whole(8 * 65_536)).unwrap();
    assert_eq!(sender.handle_span(&outline, b"x"), Err(TreeError::Order));
    let mut sent = 0;
    let error = loop {
        match sender.poll_item(&outline) {
            Item::Span { offset, len } => {
                let span = &changed[offset as usize..][..len as usize];
                if let Err(error) = sender.handle_span(&outline, span) {
                    break error;
                }
            }
            Item::Content { .. } => sent += 1,
            Item::Pair(_) => {}
            Item::End => panic!("it was not noticed"),
        }
    };
    assert_eq!((sent, error), (4, TreeError::Changed { offset: 4 * 65_536, len: 4 * 65_536 }));

    let mut sender = Sender::new(&outline, Ranges::whole(8 * 65_536)).unwrap();
    assert!(matches!(sender.poll_item(&outline), Item::Pair(_)));
    assert_eq!(sender.poll_item(&outline), Item::Span { offset: 0, len: 4 * 65_536 });
    assert_eq!(sender.handle_span(&outline, &right[..1]), Ok(()));
    assert_eq!(sender.poll_item(&outline), Item::Span { offset: 1, len: 4 * 65_536 - 1 });
    let too_long = sender.handle_span(&outline, &right[1..4 * 65_536 + 1]);
    assert_eq!(too_long, Err(TreeError::TooLong));

    let other = Sender::new(&outline, Ranges::whole(8 * 65_536 + 1)).err();
    assert_eq!(other, Some(TreeError::Changed { offset: 0, len: 8 * 65_536 + 1 }));
}

#[test]
fn a_hash_is_shown_as_b3sum_shows_it() {
    assert_eq!(format!("{:?}", Hash([0xA0; 32])), "a0".repeat(32));
}

/// What was put away of hashes is used if it is right, and else the content.
#[test]
fn spans_are_filled_from_hashes_or_from_content() {
    let file = file(300 * 65_536 + 7);
    let whole = || Ranges::whole(file.len() as u64);
    let wanted = stream(&file, MAX_KEPT, &whole());
    for kept in [2, 12, 64] {
        let outliner = Outliner::with_limit(file.len() as u64, kept).unwrap();
        let mut outliner = outliner.with_leaves();
        let mut leaves = Vec::new();
        for piece in file.chunks(100_000) {
            outliner.handle_content(piece).unwrap();
            assert_eq!(outliner.leaves() % 32, 0);
            leaves.extend(outliner.take_leaves());
        }
        assert_eq!(leaves.len(), 301 * 32);
        let outline = outliner.finish().unwrap();
        assert_eq!(outline, outline_of(&file, kept, 1 << 20));
        for wrong in [None, Some(0), Some(70), Some(299)] {
            let mut sender = Sender::new(&outline, whole()).unwrap();
            let (mut units, mut refused) = (Vec::new(), 0);
            assert_eq!(sender.handle_leaves(&outline, &leaves), Err(TreeError::Order));
            loop {
                let at = |offset: u64, len: u64| &file[offset as usize..][..len as usize];
                match sender.poll_item(&outline) {
                    Item::Pair(pair) => units.push(Unit::Pair(pair)),
                    Item::Content { offset, len } => {
                        units.push(Unit::Content(at(offset, len).to_vec()));
                    }
                    Item::Span { offset, len } => {
                        let first = (offset / 65_536) as usize;
                        let groups = len.div_ceil(65_536) as usize;
                        let mut inside = leaves[first * 32..][..groups * 32].to_vec();
                        assert!(sender.handle_leaves(&outline, &inside[1..]).is_err());
                        assert!(sender.handle_leaves(&outline, &[]).is_err());
                        if let Some(at) = wrong.filter(|at| (first..first + groups).contains(at)) {
                            inside[(at - first) * 32 + 31] ^= 1;
                        }
                        if let Err(error) = sender.handle_leaves(&outline, &inside) {
                            assert_eq!(error, TreeError::Changed { offset, len });
                            sender.handle_span(&outline, at(offset, len)).unwrap();
                            refused += 1;
                        }
                    }
                    Item::End => break,
                }
            }
            assert!(units == wanted);
            assert_eq!(refused, usize::from(wrong.is_some()), "{kept} {wrong:?}");
        }
    }
}
