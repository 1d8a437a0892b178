//! Tokens: the specification's vectors, the book's, the limits, and what each policy accepts.
#![allow(missing_docs)]

#[path = "token/policies.rs"]
mod policies;
#[path = "token/vectors.rs"]
mod vectors;
#[path = "token/wiped.rs"]
mod wiped;

use semfio_keysync::{Key, Policy, TokenError};
use semfio_machine::UnixTime;

const AT: u64 = 1_700_000_000;

fn key(n: u8) -> Key {
    Key::new(core::array::from_fn(|at| n.wrapping_mul(31).wrapping_add(at as u8 * 7)))
}

fn seal(key: &Key, at: u64, plaintext: &[u8]) -> Vec<u8> {
    let mut token = Vec::new();
    key.seal(UnixTime::from_secs(at), [7; 16], plaintext, &mut token);
    token
}

/// Opens, and sees that what was in the buffer stays and nothing is added to it on an error.
fn open(key: &Key, policy: Policy, now: u64, token: &[u8]) -> Result<(u64, Vec<u8>), TokenError> {
    let mut out = b"before".to_vec();
    let opened = key.open(&policy, UnixTime::from_secs(now), token, &mut out);
    assert!(out.starts_with(b"before"));
    assert!(opened.is_ok() || out.len() == 6, "{opened:?} and {} octets", out.len() - 6);
    opened.map(|seconds| (seconds, out.split_off(6)))
}
