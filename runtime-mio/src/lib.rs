//! Event loops for machines, on mio.

#[cfg(feature = "blocking")]
pub mod blocking;
mod host;

pub use host::{Handle, Host, HostConfig};
