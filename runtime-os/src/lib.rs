//! What every host of a machine needs from the system, in safe wrappers: no loop, no protocol.
//!
//! A host is an event loop, threads, or an executor that drives a
//! [`Shard`](semfio_machine::Shard) or a [`DatagramMachine`](semfio_machine::DatagramMachine).
//! Here is what all of them would otherwise write again:
//!
//! - [`Clock`]: the one place that reads the time, in whole microseconds; kernel stamps are told
//!   on it. [`seed::draw`]: the one place that asks for entropy.
//! - [`tcp`]: listening, accepting, connecting, cutting, and what to do without descriptors.
//! - [`write_outbox`]: one vectored write of what waits on a connection, file spans included.
//! - [`datagram`]: UDP and ICMP, raw or not, with addresses, hop limits, kernel stamps both ways,
//!   and ICMP errors. [`BoundEndpoint`]: a machine on such sockets, all but the waiting.
//! - [`Roots`], [`Files`], [`perform`]: the effects of the contract, so that no path leads out of
//!   its folder. [`Worker`]: the same off the loop, with [`Watches`], which tell what changes.
//! - [`HostConfig`], [`Handle`], [`Stopper`]: what those who use a host see of it.
//! - [`route`]: the address that a datagram would leave from, and what the first link takes.
//! - [`Names`]: the names of addresses, while the loop goes on.
//! - [`sockets`]: the system's tables of sockets, and who holds which.
//! - [`failure`]: what a system error means to a service.
//!
//! It is written for Linux. It does not send several datagrams in one call.
//!
//! # The smallest host
//!
//! One connection, blocking; what a client sends comes back in upper case.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use semfio_machine::Outbox;
//! use semfio_runtime_os::{Clock, Files, tcp, write_outbox};
//!
//! let listener = tcp::listen("127.0.0.1:0".parse().unwrap(), tcp::Port::Alone)?;
//! let address = listener.local_addr()?;
//! let client = std::thread::spawn(move || {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"hello")?;
//!     stream.shutdown(std::net::Shutdown::Write)?;
//!     std::io::read_to_string(stream)
//! });
//!
//! let (clock, files) = (Clock::start(), Files::default());
//! let (mut stream, peer) = tcp::accept(&listener)?;
//! assert_eq!(peer.local, address);
//! let mut scratch = [0; 4096];
//! let mut outbox = Outbox::default(); // a machine would fill it
//! loop {
//!     let n = stream.read(&mut scratch)?;
//!     let _now = clock.now(); // goes with each call of a machine
//!     if n == 0 {
//!         break;
//!     }
//!     outbox.put(&scratch[..n].to_ascii_uppercase());
//!     while !outbox.is_empty() {
//!         let sent = write_outbox(&stream, &outbox, &files, &mut scratch)?;
//!         outbox.advance(sent);
//!     }
//! }
//! drop(stream);
//! assert_eq!(client.join().unwrap()?, "HELLO");
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod clock;
pub mod datagram;
mod endpoint;
mod failure;
pub mod files;
mod filter;
mod host;
mod names;
mod route;
pub mod seed;
pub mod sockets;
pub mod tcp;
mod watch;
pub mod worker;
pub mod write;

pub use clock::Clock;
pub use endpoint::BoundEndpoint;
pub use failure::failure;
pub use files::{Files, Roots, perform};
pub use host::{Handle, HostConfig, Stopper};
pub use names::{Name, Names};
pub use route::{Route, route};
pub use watch::Watches;
pub use worker::Worker;
pub use write::{Content, write_outbox, write_read};
