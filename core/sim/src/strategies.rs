//! Links for property tests.

use core::num::NonZeroU64;
use core::time::Duration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::{Chance, LinkConfig, SplitPlan};

/// Any way to cut; shrinks towards [`SplitPlan::Whole`].
pub fn split_plans() -> impl Strategy<Value = SplitPlan> {
    prop_oneof![
        Just(SplitPlan::Whole),
        Just(SplitPlan::Joined),
        vec(1..100_usize, 1..8).prop_map(SplitPlan::Sizes),
        (1..1_000_usize).prop_map(|most| SplitPlan::Random { most }),
        Just(SplitPlan::EveryByte),
    ]
}

/// Any link on which a stream loses nothing; shrinks towards the perfect one.
pub fn links() -> impl Strategy<Value = LinkConfig> {
    let times = (0..200_u64, 0..100_u64);
    let chances = (0..30_u32, 0..30_u32, 0..30_u32);
    let bandwidth = option::of(1_000..10_000_000_u64);
    // Small numbers are wide windows, since they shrink towards nothing.
    let window = 0..256 * 1024_usize;
    (times, chances, split_plans(), bandwidth, window).prop_map(
        |((latency, jitter), (loss, duplication, reordering), split, bandwidth, less)| LinkConfig {
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(jitter),
            loss: Chance::percent(loss),
            duplication: Chance::percent(duplication),
            reordering: Chance::percent(reordering),
            split,
            bandwidth: bandwidth.and_then(NonZeroU64::new),
            window: LinkConfig::default().window.saturating_sub(less),
            ..LinkConfig::default()
        },
    )
}

/// Any link, also one that is cut after so many bytes; shrinks towards the perfect one.
pub fn faulty_links() -> impl Strategy<Value = LinkConfig> {
    let cut = || option::of((0..100_000_u64).prop_map(|less| 100_000_u64.saturating_sub(less)));
    (links(), cut(), cut()).prop_map(|(link, reset_after, eof_after)| LinkConfig {
        reset_after,
        eof_after,
        ..link
    })
}
