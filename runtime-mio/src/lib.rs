//! Event loops for machines, on mio.

#[cfg(feature = "blocking")]
pub mod blocking;
mod datagram;
mod host;

pub use datagram::{Datagrams, Stopper};
pub use host::{Handle, Host, HostConfig};
