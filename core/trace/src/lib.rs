//! A run as a file: record it, read it, replay it, compare.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod call;
mod encode;
mod header;
mod line;
mod reader;
mod recorded;
mod recorder;
mod replay;

pub use header::Header;
pub use reader::{End, Event, MAX_LINE, Malformed, ReadError, Reader};
pub use recorded::Recorded;
pub use recorder::Recorder;
pub use replay::{Agreement, Divergence, Replay, ReplayError, replay};
