//! Event loops for machines, on mio.

#[cfg(feature = "blocking")]
pub mod blocking;
