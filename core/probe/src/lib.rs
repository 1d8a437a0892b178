//! ICMP echo and its errors.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod extension;
mod icmp;
mod ping;
mod statistics;

pub use extension::{BadExtension, Extension, Label, Object};
pub use icmp::{Echo, Family, HEADER, IcmpError, Malformed, Message, Quoted};
pub use ping::{
    HostCounts, MAX_HOSTS, MAX_PATTERN, MAX_SIZE, PingConfig, PingCounts, PingEvent, Pinger, Reply,
    Sizes, Stop, TOKEN,
};
pub use statistics::{RoundTrips, Statistics};
