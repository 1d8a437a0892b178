//! Event loops for machines, as futures.
//!
//! A [`Host`] drives a [`Shard`](semfio_machine::Shard) over TCP in *one* future: no task for each
//! connection, so that a turn means the same here as under any other host, and so that the future
//! can be awaited in any executor, next to anything else. It stands on `async-io`, the reactor of
//! smol, and brings no executor: `smol::block_on`, `smol::spawn` or another will do.
//!
//! It knows no protocol.

mod alarm;
mod datagram;
mod host;
mod ready;

pub use datagram::{Datagrams, Stopper};
pub use host::{Handle, Host, HostConfig};
