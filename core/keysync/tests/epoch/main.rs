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
