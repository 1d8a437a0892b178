//! Each row of the table at `Policy`, and times at their borders.

use hmac::{Hmac, Mac as _};
use semfio_keysync::{Decoding, Key, Keyring, MAX_PLAINTEXT, MAX_TOKEN, Policy, TokenError};
use semfio_machine::UnixTime;
use std::time::Duration;

use crate::{AT, key, open, seal};

const POLICIES: [Policy; 3] = [Policy::STRICT, Policy::PYTHON, Policy::CRATE];

/// Which of the policies accept, in the order of `POLICIES`.
fn accepted(token: &[u8]) -> [bool; 3] {
    POLICIES.map(|policy| match open(&key(1), policy, AT, token) {
        Ok((seconds, plaintext)) => {
            assert_eq!((seconds, &*plaintext), (AT, &b"plain"[..]));
            true
        }
        Err(error) => {
            assert!(error.is_forged(), "{error:?}");
            false
        }
    })
}

#[test]
fn each_policy_reads_what_its_model_reads() {
    let token = seal(&key(1), AT, b"plain");
    let text = String::from_utf8(token.clone()).unwrap();
    let bare = text.trim_end_matches('=');
    let with = |at: usize, what: &str| [&text[..at], what, &text[at..]].concat();
    assert!(text.ends_with("==") && bare.len() == 98);

    assert_eq!(accepted(text.as_bytes()), [true, true, true]);
    assert_eq!(accepted(bare.as_bytes()), [false, false, true], "padding missing");
    assert_eq!(accepted(&token[..99]), [false, false, true], "half of it missing");
    assert_eq!(accepted(with(100, "====").as_bytes()), [false, true, true], "too much padding");
    for noise in [" ", "\n", "\r\n", "!!", "\0", "é", "."] {
        for at in [0, 50, 98, 99] {
            assert_eq!(accepted(with(at, noise).as_bytes()), [false, true, false], "{noise:?}");
        }
        assert_eq!(accepted(with(100, noise).as_bytes()), [false, true, false], "{noise:?}");
    }
    assert_eq!(accepted(with(97, "=").as_bytes()), [false, true, false], "padding too early");
    assert_eq!(accepted(with(4, "====").as_bytes()), [false, true, false], "padding in between");
    assert_eq!(accepted(with(100, &text).as_bytes()), [false, true, false], "glued");
    assert_eq!(accepted(with(100, "gAAA").as_bytes()), [false, true, false], "more behind it");
    assert_eq!(accepted(with(98, "gAAA").as_bytes()), [false; 3], "more before the padding");

    // Of the last character four bits say nothing.
    let last = bare.as_bytes()[97] + 1;
    let bits = [&bare.as_bytes()[..97], &[last], b"=="].concat();
    assert_eq!(accepted(&bits), [false, true, false], "bits beyond the last octet");
}

#[test]
fn the_other_alphabet_is_read_by_python_alone() {
    let slashed = (0..255).map(|n| {
        let mut token = Vec::new();
        key(1).seal(UnixTime::from_secs(AT), [n; 16], b"plain", &mut token);
        String::from_utf8(token).unwrap()
    });
    let text = slashed.into_iter().find(|text| text.contains('-') && text.contains('_')).unwrap();
    assert_eq!(accepted(text.as_bytes()), [true; 3]);
    let other = text.replace('-', "+").replace('_', "/");
    assert_eq!(accepted(other.as_bytes()), [false, true, false]);
    assert_eq!(accepted(text.replace('-', "+").as_bytes()), [false, true, false]);
}

#[test]
fn tokens_without_padding_do_not_come_apart() {
    let token = seal(&key(1), AT, &[b'x'; 40]);
    assert!(!token.ends_with(b"="));
    for policy in POLICIES {
        let opened = open(&key(1), policy, AT, &token.repeat(2));
        assert_eq!(opened, Err(TokenError::Mac), "{policy:?}");
    }
}

#[test]
fn where_a_text_is_no_token_is_told() {
    let token = seal(&key(1), AT, b"plain");
    let mut wrong = token.clone();
    wrong[13] = b'%';
    let at = |policy, token: &[u8]| open(&key(1), policy, AT, token).unwrap_err();
    assert_eq!(at(Policy::STRICT, &wrong), TokenError::Malformed { at: 13 });
    assert_eq!(at(Policy::CRATE, &wrong), TokenError::Malformed { at: 13 });
    assert_eq!(at(Policy::STRICT, &token[..97]), TokenError::Malformed { at: 97 });
    assert_eq!(at(Policy::STRICT, &token[..72]), TokenError::Malformed { at: 72 });
    assert_eq!(at(Policy::STRICT, b""), TokenError::Malformed { at: 0 });
    assert_eq!(at(Policy::STRICT, b"hAAA"), TokenError::Version(0x84));
    let whole = [&token[..1], b"BAA", &token[4..]].concat();
    assert_eq!(at(Policy::STRICT, &whole), TokenError::Mac);
}

#[test]
fn every_flipped_bit_is_refused() {
    let token = seal(&key(1), AT, b"plain");
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut flipped = token.clone();
            flipped[at] ^= 1 << bit;
            let error = open(&key(1), Policy::STRICT, AT, &flipped).unwrap_err();
            assert!(error.is_forged(), "{at}, {bit}: {error:?}");
        }
    }
    assert_eq!(open(&key(2), Policy::STRICT, AT, &token), Err(TokenError::Mac));
}

#[test]
fn a_ttl_ends_after_its_last_second() {
    let ttl = Duration::from_secs(60);
    let token = seal(&key(1), AT, b"plain");
    for policy in POLICIES {
        let at = |now| open(&key(1), policy.with_ttl(ttl), now, &token).map(|(at, _)| at);
        assert_eq!(at(AT + 60), Ok(AT));
        assert_eq!(at(AT + 61), Err(TokenError::Expired(Duration::from_secs(1))));
        assert!(open(&key(1), policy, AT + 1_000_000_000, &token).is_ok(), "no TTL");
        let halves = policy.with_ttl(Duration::from_millis(1_500));
        assert!(open(&key(1), halves, AT + 1, &token).is_ok());
        let late = open(&key(1), halves, AT + 2, &token);
        assert_eq!(late, Err(TokenError::Expired(Duration::from_millis(500))));
        assert!(open(&key(1), policy.with_ttl(Duration::MAX), AT + 9, &token).is_ok());
        assert!(open(&key(1), policy.with_ttl(Duration::ZERO), AT, &token).is_ok());
    }
}

#[test]
fn a_clock_may_be_a_minute_ahead() {
    let token = seal(&key(1), AT, b"plain");
    let ahead = Err(TokenError::Future(Duration::from_secs(1)));
    for policy in POLICIES {
        let at = |policy, now| open(&key(1), policy, now, &token).map(|(at, _)| at);
        let python = policy.decoding == Decoding::Python;
        assert_eq!(at(policy, AT - 60), Ok(AT));
        assert_eq!(at(policy, AT - 61), if python { Ok(AT) } else { ahead });
        assert_eq!(at(policy.with_ttl(Duration::MAX), AT - 60), Ok(AT));
        assert_eq!(at(policy.with_ttl(Duration::MAX), AT - 61), ahead);
        let any = Policy { skew: None, ..policy };
        assert_eq!(at(any, 0), Ok(AT));
    }
}

/// A token of any time and any body, signed under `key(1)`.
fn signed(seconds: u64, body: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let mut raw = vec![0x80];
    raw.extend(seconds.to_be_bytes());
    raw.extend(body);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key(1).as_bytes()[..16]).unwrap();
    mac.update(&raw);
    raw.extend(mac.finalize().into_bytes());
    base64::engine::general_purpose::URL_SAFE.encode(raw).into_bytes()
}

/// The IV and the ciphertext of "plain".
fn body() -> Vec<u8> {
    use base64::Engine as _;
    let token = seal(&key(1), AT, b"plain");
    base64::engine::general_purpose::URL_SAFE.decode(token).unwrap()[9..41].to_vec()
}

#[test]
fn no_time_is_too_large_to_be_compared() {
    for seconds in [u64::MAX, u64::MAX - 1, u64::MAX - 59, u64::MAX - 60, 1 << 63, 0] {
        let token = signed(seconds, &body());
        for policy in POLICIES {
            // The last is the last second that our clocks know.
            for now in [0, AT, u64::MAX / 1_000_000_000] {
                let ttls = [Duration::ZERO, Duration::from_secs(1), Duration::MAX];
                for policy in ttls.map(|ttl| policy.with_ttl(ttl)).into_iter().chain([policy]) {
                    let opened = open(&key(1), policy, now, &token);
                    let (old, free) = (seconds < now, policy.skew.is_none());
                    let fits = if old { policy.ttl != Some(Duration::ZERO) } else { free };
                    let fits = fits && (policy.ttl != Some(Duration::from_secs(1)) || !old);
                    assert_eq!(opened.is_ok(), fits || seconds == now, "{seconds} at {now}");
                    if let Err(error) = opened {
                        assert!(!error.is_forged());
                    }
                }
            }
        }
        // A keyring keeps a time that no clock of ours can show.
        let (ring, mut out) = (Keyring::new(key(2), [key(1)]), Vec::new());
        let now = UnixTime::from_secs(AT);
        assert_eq!(ring.rotate(&Policy::PYTHON, now, [1; 16], &token, &mut out), Ok(seconds));
        assert_eq!(open(&key(2), Policy::PYTHON, AT, &out), Ok((seconds, b"plain".to_vec())));
    }
}

#[test]
fn what_is_signed_and_wrong_is_told_from_what_is_forged() {
    let body = body();
    for n in 0..body.len() {
        let error = open(&key(1), Policy::STRICT, AT, &signed(AT, &body[..n])).unwrap_err();
        match n {
            // Not even an IV.
            0..16 => assert!(matches!(error, TokenError::Malformed { .. }), "{n}: {error:?}"),
            _ => assert_eq!(error, TokenError::Padding, "{n}"),
        }
    }
    assert!(open(&key(1), Policy::STRICT, AT, &signed(AT, &body)).is_ok());
}

#[test]
fn a_token_is_translated_to_another_key() {
    for n in (0..100).chain([703, 65_536]) {
        let plaintext = vec![b'x'; n];
        let token = seal(&key(1), AT, &plaintext);
        let other = key(1).translate(&token, &key(2)).unwrap();
        assert_eq!((other.len(), &other[..33]), (token.len(), &token[..33]), "version, time, IV");
        assert_ne!(other[33..], token[33..]);
        assert_eq!(open(&key(2), Policy::STRICT, AT, &other), Ok((AT, plaintext)));
        assert_eq!(open(&key(1), Policy::STRICT, AT, &other), Err(TokenError::Mac));
        assert_eq!(key(2).translate(&other, &key(1)), Some(token.clone()));
        assert_eq!(key(2).translate(&token, &key(1)), None);
        assert_eq!(key(1).translate(&token[..token.len() - 1], &key(2)), None);
    }
    for seconds in [0, u64::MAX] {
        let other = key(1).translate(&signed(seconds, &body()), &key(2)).unwrap();
        let any = Policy { ttl: None, skew: None, decoding: Decoding::Strict };
        assert_eq!(open(&key(2), any, AT, &other), Ok((seconds, b"plain".to_vec())));
    }
    // What the MAC alone is right of.
    for blocks in 1..5 {
        let token = signed(AT, &[1; 64][..16 * blocks]);
        let other = key(1).translate(&token, &key(2)).unwrap();
        assert_eq!(open(&key(1), Policy::STRICT, AT, &token), Err(TokenError::Padding));
        assert_eq!(open(&key(2), Policy::STRICT, AT, &other), Err(TokenError::Padding));
        assert_eq!((other.len(), &other[..33]), (token.len(), &token[..33]));
    }
    assert_eq!(key(1).translate(&signed(AT, &[1; 40]), &key(2)), None);
}

#[test]
fn nothing_longer_than_the_limit_is_read() {
    let longest = seal(&key(1), AT, &vec![b'x'; MAX_PLAINTEXT]);
    assert_eq!(longest.len(), MAX_TOKEN);
    assert_eq!(open(&key(1), Policy::STRICT, AT, &longest).unwrap().1.len(), MAX_PLAINTEXT);
    let mut noisy = seal(&key(1), AT, b"plain");
    noisy.resize(MAX_TOKEN, b' ');
    assert!(open(&key(1), Policy::PYTHON, AT, &noisy).is_ok());
    noisy.push(b' ');
    for policy in POLICIES {
        assert_eq!(open(&key(1), policy, AT, &noisy), Err(TokenError::TooLong));
    }
}

#[test]
fn errors_say_what_is_wrong_in_one_line() {
    let errors = [
        TokenError::TooLong,
        TokenError::Malformed { at: 3 },
        TokenError::Version(0x81),
        TokenError::Mac,
        TokenError::Expired(Duration::from_secs(5)),
        TokenError::Future(Duration::from_secs(5)),
        TokenError::Padding,
    ];
    let said: std::collections::BTreeSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), errors.len());
    assert!(said.contains("a token of version 0x81") && said.contains("expired 5 s ago"));
    assert!(Key::parse("").unwrap_err().to_string().contains("44 characters"));
}
