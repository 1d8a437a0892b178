//! A host in virtual time.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc
)]

extern crate alloc;

mod clock;
mod dice;
mod disk;
pub mod laws;
mod link;
mod pair;

use clock::Clock;
pub use clock::{STEP_LIMIT, Stuck};
pub use dice::Chance;
pub use disk::{Answer, Disk, DiskConfig};
pub use link::{LinkConfig, SplitPlan};
pub use pair::{Pair, Said, Side};
