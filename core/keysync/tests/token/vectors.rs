//! The vectors of the specification (generate.json, verify.json, invalid.json) and of the book.

use semfio_keysync::{Decoding, Key, Keyring, Policy, TokenError, token_len};
use semfio_machine::UnixTime;
use std::time::Duration;

use crate::{AT, key, open, seal};

const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
/// 1985-10-26T01:20:00-07:00
const SPEC_TIME: u64 = 499_162_800;
const SPEC_TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

/// What is invalid, why, and how many seconds after `SPEC_TIME` it is looked at, with a TTL of 60 s.
const INVALID: &[(&str, TokenError, u64)] = &[
    (
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        TokenError::Mac,
        1,
    ),
    (
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==",
        TokenError::Malformed { at: 56 },
        1,
    ),
    (
        "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        TokenError::Malformed { at: 0 },
        1,
    ),
    // No whole number of blocks.
    (
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        TokenError::Padding,
        1,
    ),
    (
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        TokenError::Padding,
        1,
    ),
    (
        "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
        TokenError::Future(Duration::from_secs(35_940)),
        1,
    ),
    (
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        TokenError::Expired(Duration::from_secs(30)),
        91,
    ),
    // Its IV was another, which breaks the padding.
    (
        "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
        TokenError::Padding,
        1,
    ),
];

fn policies() -> [Policy; 3] {
    let ttl = Duration::from_secs(60);
    [Policy::STRICT.with_ttl(ttl), Policy::PYTHON.with_ttl(ttl), Policy::CRATE.with_ttl(ttl)]
}

#[test]
fn the_specification_generates() {
    let (key, mut token) = (Key::parse(SPEC_KEY).unwrap(), Vec::new());
    let iv = core::array::from_fn(|at| at as u8);
    key.seal(UnixTime::from_secs(SPEC_TIME), iv, b"hello", &mut token);
    assert_eq!(String::from_utf8(token).unwrap(), SPEC_TOKEN);
}

#[test]
fn the_specification_verifies() {
    let key = Key::parse(SPEC_KEY).unwrap();
    for policy in policies() {
        let opened = open(&key, policy, SPEC_TIME + 1, SPEC_TOKEN.as_bytes());
        assert_eq!(opened, Ok((SPEC_TIME, b"hello".to_vec())), "{policy:?}");
    }
}

#[test]
fn what_the_specification_refuses_is_refused() {
    let key = Key::parse(SPEC_KEY).unwrap();
    for (token, why, after) in INVALID {
        for policy in policies() {
            let error = open(&key, policy, SPEC_TIME + after, token.as_bytes()).unwrap_err();
            match policy.decoding {
                // What is skipped moves the end, and makes another token of it.
                Decoding::Python if token.starts_with('%') => assert!(error.is_forged()),
                _ => assert_eq!(error, *why, "{token}"),
            }
        }
    }
}

#[test]
fn the_tokens_of_the_book_open() {
    let key = Key::parse("LGB1jv3qEoE9cCiRMkZXOWZqjMbW0pz_7UbMiKOpgKE=").unwrap();
    let book: [(&str, &str, u64); 2] = [
        (
            "gAAAAABkPVPKP8B5nwF_AJfSwzPsXnmaOOMMrVOwFb1fuKtq9ptRqa8nx8Cxd6B9rP9KYsSy-7ogANULCr-UZqfSOvokDo06wg==",
            "OK",
            // 2023-04-17 14:12:26 UTC
            1_681_740_746,
        ),
        (
            "gAAAAABkPWX1esigwwKdI3HirsOQTLUfwzX4fHwd9tia9tzdJ8AH0yTCjdAANNSXcuinKDJv7zieSC8qmHRs6W7uWpNKTLwHohVpOc8qzTeLnGPY3ylkGyw=",
            "Olá turma de redes",
            // 15:29:57 UTC
            1_681_745_397,
        ),
    ];
    for (token, text, seconds) in book {
        for policy in [Policy::STRICT, Policy::PYTHON, Policy::CRATE] {
            let opened = open(&key, policy, AT, token.as_bytes());
            assert_eq!(opened, Ok((seconds, text.into())), "{policy:?}");
        }
        assert_eq!(token.len(), token_len(text.len()));
    }
}

#[test]
fn a_token_is_as_long_as_foretold() {
    let lengths = [(0, 100), (15, 100), (16, 120), (31, 120), (32, 140), (47, 140), (48, 164)];
    let course = [(63, 164), (703, 1_016), (704, 1_036)];
    for (plaintext, token) in lengths.into_iter().chain(course) {
        assert_eq!(token_len(plaintext), token);
    }
    for n in (0..2_000).chain([65_535, 65_536, 1 << 20]) {
        let plaintext: Vec<u8> = (0..n).map(|at| at as u8).collect();
        let token = seal(&key(1), AT, &plaintext);
        assert_eq!(token.len(), token_len(n));
        assert_eq!(open(&key(1), Policy::STRICT, AT, &token), Ok((AT, plaintext)));
    }
    assert_eq!(token_len(usize::MAX), usize::MAX);
}

#[test]
fn a_keyring_opens_with_all_and_seals_with_the_first() {
    let now = UnixTime::from_secs(AT + 100);
    let mut ring = Keyring::new(key(1), []);
    let (mut old, mut new, mut out) = (Vec::new(), Vec::new(), Vec::new());
    ring.seal(UnixTime::from_secs(AT), [1; 16], b"kept", &mut old);
    ring.put_first(key(2));
    assert_eq!(ring.open(&Policy::STRICT, now, &old, &mut out), Ok(AT));
    assert_eq!(open(&key(2), Policy::STRICT, AT, &old), Err(TokenError::Mac));

    // The time stays; the first key seals, whichever sealed before.
    assert_eq!(ring.rotate(&Policy::STRICT, now, [2; 16], &old, &mut new), Ok(AT));
    assert_eq!(open(&key(2), Policy::STRICT, AT, &new), Ok((AT, b"kept".to_vec())));
    let mut again = b"before".to_vec();
    assert_eq!(ring.rotate(&Policy::STRICT, now, [3; 16], &new, &mut again), Ok(AT));
    assert!(again.starts_with(b"before") && !again.ends_with(&new));

    ring.truncate(0);
    assert_eq!(ring.keys().count(), 1);
    assert_eq!(ring.open(&Policy::STRICT, now, &old, &mut out), Err(TokenError::Mac));
    let refused = ring.rotate(&Policy::STRICT, now, [2; 16], &old, &mut again);
    assert_eq!((refused, again.len()), (Err(TokenError::Mac), 6 + new.len()));
    assert_eq!(out, b"kept");
}
