//! Fernet tokens.

use alloc::vec::Vec;
use core::time::Duration;
use semfio_keysync::{Key, Keyring, Policy, TokenError, token_len};
use semfio_machine::UnixTime;

use crate::Choices;

/// Any bytes are a token or none, and the same to every policy if they are one by the rule; what is
/// sealed opens, and neither with a bit changed nor under another key.
pub fn token(data: &[u8]) {
    check(data, |token| token.to_vec());
}

/// With tokens that `relay` hands on.
pub(crate) fn check(data: &[u8], relay: impl Fn(&[u8]) -> Vec<u8>) {
    let mut choices = Choices::new(data);
    let (key, other) = (key(1), key(2));
    let now = UnixTime::from_secs(u64::from(choices.byte()) << choices.below(28));
    let ttl = match choices.byte() {
        255 => None,
        ttl => Some(Duration::from_secs(u64::from(ttl))),
    };
    let (at, bit) = (choices.below(1 << 16), choices.below(8));
    let rest = choices.bytes(data.len());

    // Anything at all: it was most likely never sealed, but may be one of the kept tokens.
    let policies = [Policy::STRICT, Policy::PYTHON, Policy::CRATE];
    let policies = policies.map(|policy| ttl.map_or(policy, |ttl| policy.with_ttl(ttl)));
    let [strict, python, model] = policies.map(|policy| open(&key, policy, now, rest));
    if strict.is_ok() {
        assert!(strict == python && strict == model, "{strict:?}, {python:?}, {model:?}");
    }
    if let Some(key) = core::str::from_utf8(rest).ok().and_then(|text| Key::parse(text).ok()) {
        assert!(key.to_text().as_bytes().starts_with(rest), "a key has one text");
    }

    let mut sealed = Vec::new();
    key.seal(now, [bit as u8; 16], rest, &mut sealed);
    assert_eq!(sealed.len(), token_len(rest.len()));
    let relayed = relay(&sealed);
    for policy in policies {
        assert_eq!(open(&key, policy, now, &relayed), Ok((now.as_secs(), rest.to_vec())));
        assert_eq!(open(&other, policy, now, &relayed), Err(TokenError::Mac));
    }
    let ring = Keyring::new(other, [key.clone()]);
    let mut rotated = Vec::new();
    let time = ring.rotate(&policies[0], now, [3; 16], &relayed, &mut rotated);
    assert_eq!(time, Ok(now.as_secs()));
    assert!(open(&key, policies[0], now, &rotated).is_err());

    let at = at % sealed.len();
    sealed[at] ^= 1 << bit;
    for policy in policies {
        let changed = open(&key, policy, now, &sealed);
        // Python skips, drops and reads more than one alphabet: the same token, or none.
        match changed {
            Ok(opened) => assert!(policy == policies[1] && opened == (now.as_secs(), rest.to_vec())),
            Err(error) => assert!(error.is_forged(), "{error:?}"),
        }
    }
}

fn key(n: u8) -> Key {
    Key::new([n; 32])
}

fn open(
    key: &Key,
    policy: Policy,
    now: UnixTime,
    token: &[u8],
) -> Result<(u64, Vec<u8>), TokenError> {
    let mut out = b"before".to_vec();
    let opened = key.open(&policy, now, token, &mut out);
    let added = out.strip_prefix(b"before").expect("what was there stays");
    assert!(opened.is_ok() || added.is_empty(), "{opened:?} and {added:?}");
    opened.map(|seconds| (seconds, added.to_vec()))
}
