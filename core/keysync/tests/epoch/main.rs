//! A sealed room, with a hub that is honest and with one that is not.
#![allow(missing_docs, unreachable_pub)]

mod adversary;
mod direct;
mod hostile;
mod model;
mod tape;
mod world;

/// How many cases a property has: as `PROPTEST_CASES` says, else `usual`.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

/// A tenth of these with a hub that is not honest, but never fewer than usual.
fn tampered_cases() -> u32 {
    cases(0).div_ceil(10).max(200)
}
