//! Tokens are found in a stream without borders, however it is read and whatever lies between.
#![allow(missing_docs)]

use proptest::prelude::*;
use semfio_keysync::{Cut, Key, Policy, Splitter, token_len};
use semfio_machine::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

fn key() -> Key {
    Key::new([9; 32])
}

fn sealed(len: usize) -> Vec<u8> {
    let mut token = Vec::new();
    key().seal(NOW, [len as u8; 16], &vec![b'x'; len], &mut token);
    assert_eq!(token.len(), token_len(len));
    token
}

/// What a splitter makes of a stream that comes in these reads.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// Tokens, and between them one `None` for each lost span.
    cuts: Vec<Option<Vec<u8>>>,
    lost: usize,
    work: u64,
}

impl Found {
    fn tokens(&self) -> Vec<Vec<u8>> {
        self.cuts.iter().flatten().cloned().collect()
    }

    fn spans(&self) -> usize {
        self.cuts.iter().filter(|cut| cut.is_none()).count()
    }
}

fn split<'r>(reads: impl Iterator<Item = &'r [u8]>) -> Found {
    let (mut splitter, mut waiting, mut found) = (Splitter::new(), Vec::new(), Found::default());
    let reads = reads.map(Some).chain([None]);
    for read in reads {
        let eof = read.is_none();
        waiting.extend_from_slice(read.unwrap_or_default());
        let mut from = 0;
        while let Some(cut) = splitter.cut(&key(), &waiting[from..], eof) {
            let n = match cut {
                Cut::Token(n) => {
                    found.cuts.push(Some(waiting[from..from + n].to_vec()));
                    n
                }
                Cut::Lost(n) => {
                    found.cuts.push(None);
                    found.lost += n;
                    n
                }
                Cut::Rest(n) => {
                    found.lost += n;
                    n
                }
            };
            assert!(n > 0, "{cut:?}");
            from += n;
        }
        waiting.drain(..from);
        assert!(waiting.len() < Splitter::LIMIT, "{} characters wait", waiting.len());
        assert!(!eof || waiting.is_empty(), "{} characters are left", waiting.len());
    }
    found.work = splitter.work();
    found
}

/// The same in one read and in every other way, but for the work.
fn split_all_ways(stream: &[u8]) -> Found {
    let whole = split([stream].into_iter());
    let same = |other: Found, how: &str| {
        assert_eq!((&other.cuts, other.lost), (&whole.cuts, whole.lost), "{how}");
    };
    same(split(stream.chunks(1)), "octet by octet");
    same(split(stream.chunks(7)), "by sevens");
    for at in 0..stream.len() {
        let (head, tail) = stream.split_at(at);
        same(split([head, tail].into_iter()), &format!("cut at {at}"));
    }
    whole
}

#[test]
fn glued_tokens_of_all_three_paddings_come_apart() {
    for lens in [&[2, 2][..], &[19, 40, 2], &[40, 40, 40], &[0, 15, 16, 31, 32, 47, 48, 63], &[703]]
    {
        let tokens: Vec<_> = lens.iter().map(|&len| sealed(len)).collect();
        let found = split_all_ways(&tokens.concat());
        assert_eq!((found.tokens(), found.spans()), (tokens, 0), "{lens:?}");
    }
}

#[test]
fn each_length_is_found() {
    for len in (0..200).chain([1_000, 4_000, 16_384, 20_000]) {
        let token = sealed(len);
        let stream = [&token[..], &token].concat();
        let found = split([&stream[..]].into_iter());
        assert_eq!((found.tokens(), found.spans()), (vec![token.clone(), token], 0), "{len}");
    }
}

#[test]
fn the_last_character_is_enough() {
    for len in [2, 20, 40] {
        let token = sealed(len);
        let mut splitter = Splitter::new();
        assert_eq!(splitter.cut(&key(), &token[..token.len() - 1], false), None);
        assert_eq!(splitter.cut(&key(), &token, false), Some(Cut::Token(token.len())));
    }
}

#[test]
fn the_tokens_of_the_book_come_apart() {
    let key = Key::parse("LGB1jv3qEoE9cCiRMkZXOWZqjMbW0pz_7UbMiKOpgKE=").unwrap();
    let stream = b"gAAAAABkPVPKP8B5nwF_AJfSwzPsXnmaOOMMrVOwFb1fuKtq9ptRqa8nx8Cxd6B9rP9KYsSy-7ogANULCr-UZqfSOvokDo06wg==\
gAAAAABkPWX1esigwwKdI3HirsOQTLUfwzX4fHwd9tia9tzdJ8AH0yTCjdAANNSXcuinKDJv7zieSC8qmHRs6W7uWpNKTLwHohVpOc8qzTeLnGPY3ylkGyw=";
    let mut splitter = Splitter::new();
    let mut text = Vec::new();
    assert_eq!(splitter.cut(&key, stream, false), Some(Cut::Token(100)));
    key.open(&Policy::STRICT, NOW, &stream[..100], &mut text).unwrap();
    assert_eq!(splitter.cut(&key, &stream[100..], false), Some(Cut::Token(120)));
    key.open(&Policy::STRICT, NOW, &stream[100..], &mut text).unwrap();
    assert_eq!(text, "OKOlá turma de redes".as_bytes());
}

#[test]
fn what_is_torn_or_between_costs_no_other_token() {
    let tokens = [sealed(2), sealed(20), sealed(40)];
    let between: [&[u8]; 9] = [
        b"x",
        b"\r\n",
        b"==",
        b"g",
        b"gAgAA",
        b"gAAAAA",
        b"not a token at all, and rather long, \xFF\x00 with anything in it",
        &sealed(40)[..77],
        &sealed(2)[5..],
    ];
    for garbage in between {
        let mut stream = garbage.to_vec();
        for token in &tokens {
            stream.extend_from_slice(token);
            stream.extend_from_slice(garbage);
        }
        let found = split_all_ways(&stream);
        assert_eq!(found.tokens(), tokens, "{garbage:?}");
        assert_eq!(found.spans(), 4, "{garbage:?}");
        assert_eq!(found.lost, 4 * garbage.len(), "{garbage:?}");
    }
}

#[test]
fn a_changed_token_is_lost_alone() {
    let stream = [sealed(20), sealed(40), sealed(2)].concat();
    for at in 0..stream.len() {
        let mut planted = stream.clone();
        planted[at] = if planted[at] == b'B' { b'C' } else { b'B' };
        let found = split([&planted[..]].into_iter());
        assert_eq!((found.tokens().len(), found.spans()), (2, 1), "changed at {at}");
    }
}

#[test]
fn a_token_under_another_key_is_lost() {
    let mut foreign = Vec::new();
    Key::new([1; 32]).seal(NOW, [0; 16], b"forged", &mut foreign);
    let stream = [sealed(3), foreign, sealed(4)].concat();
    let found = split_all_ways(&stream);
    assert_eq!((found.tokens().len(), found.spans()), (2, 1));
}

#[test]
fn the_limit_judges_the_token() {
    // The longest that fits, and the next.
    for (len, fits) in [(49_087, true), (49_088, false), (49_200, false)] {
        let token = sealed(len);
        assert_eq!(token.len() <= Splitter::LIMIT, fits, "{len} gives {}", token.len());
        let stream = [&token[..], &sealed(2)].concat();
        let found = split(stream.chunks(1_000));
        assert_eq!(found.tokens().last(), Some(&sealed(2)), "{len}");
        assert_eq!(found.tokens().len(), 1 + usize::from(fits));
        assert_eq!(found.spans(), usize::from(!fits));
    }
}

#[test]
fn a_token_that_begins_at_the_limit_is_found() {
    let token = sealed(20);
    for before in [6, 3, 1, 0].map(|less| Splitter::LIMIT - less) {
        let mut stream = b"gAAAAA".to_vec();
        stream.resize(before, b'B');
        stream.extend_from_slice(&token);
        let found = split([&stream[..]].into_iter());
        assert_eq!(found.tokens(), std::slice::from_ref(&token), "after {before}");
        assert_eq!((found.spans(), found.lost), (1, before));
    }
}

#[test]
fn work_is_linear_whatever_comes() {
    const N: usize = 40_000;
    let streams: [(&str, Vec<u8>); 7] = [
        ("prefixes", b"gAAAAA".repeat(N / 6)),
        ("aligned prefixes", b"gAAAAAgA".repeat(N / 8)),
        ("a prefix, and no end", [&b"gAAAAA"[..], &vec![b'A'; N]].concat()),
        ("prefixes at candidates", [&b"gAAAAA"[..], &[b'B'; 134]].concat().repeat(N / 140)),
        ("padding", b"gAAAAA==".repeat(N / 8)),
        ("nothing of it", vec![b'g'; N]),
        ("tokens", sealed(40).repeat(N / 140)),
    ];
    for (what, stream) in streams {
        for read in [1, N] {
            let work = split(stream.chunks(read)).work;
            assert!(work <= 12 * stream.len() as u64, "{what} by {read}: {work}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_mixture_gives_the_same_however_it_is_read(
        parts in prop::collection::vec(
            prop_oneof![
                (0_usize..120).prop_map(sealed),
                (0_usize..60, 0_usize..98).prop_map(|(len, cut)| sealed(len).into_iter().take(cut).collect()),
                prop::collection::vec(any::<u8>(), 0..20),
                Just(b"gAAAAA".to_vec()),
                Just(b"=".to_vec()),
            ],
            0..8,
        ),
        reads in prop::collection::vec(1_usize..90, 1..40),
    ) {
        let stream = parts.concat();
        let whole = split([&stream[..]].into_iter());
        let mut rest = &stream[..];
        let mut chunks = Vec::new();
        for len in reads {
            let (head, tail) = rest.split_at(len.min(rest.len()));
            chunks.push(head);
            rest = tail;
        }
        chunks.push(rest);
        let other = split(chunks.into_iter());
        prop_assert_eq!(&whole.cuts, &other.cuts);
        prop_assert_eq!(whole.lost, other.lost);
        // Nothing is invented, and nothing whole is missed: tokens between tokens or lost spans.
        for token in whole.tokens() {
            prop_assert!(key().open(&Policy::STRICT, NOW, &token, &mut Vec::new()).is_ok());
        }
        let wanted: Vec<_> = parts.iter().filter(|part| part.len() >= 100 && key().open(&Policy::STRICT, NOW, part, &mut Vec::new()).is_ok()).cloned().collect();
        prop_assert_eq!(whole.tokens(), wanted);
    }
}
