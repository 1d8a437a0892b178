//! The contract between protocol machines and the event loops that drive them.
//!
//! A protocol is a [`StreamMachine`] or a [`DatagramMachine`]: a value that takes in bytes,
//! commands and time, and gives out bytes, events and deadlines. An application over many
//! connections is a [`Service`]. A host (event loop, threads, simulator) drives a [`Shard`] of
//! them. There is no I/O here, no clock and no source of entropy: [`Now`] and [`Seed`] are
//! arguments, files and names are [`Effect`]s.
//!
//! # One machine by hand
//!
//! ```
//! use semfio_machine::{Input, Now, Outbox, Refused, Step, StreamMachine, Deadline};
//!
//! /// Answers each line in upper case.
//! struct Shout;
//!
//! impl StreamMachine for Shout {
//!     type Event<'i> = &'i [u8];
//!     type Command<'c> = ();
//!     type Error = core::convert::Infallible;
//!     const CARRIES_FILES: bool = false;
//!     fn max_unit(&self) -> usize {
//!         1024
//!     }
//!     fn state(&self) -> &'static str {
//!         "Open"
//!     }
//!     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, out: &mut Outbox)
//!         -> Result<Step<&'i [u8]>, Self::Error>
//!     {
//!         let Some(end) = input.peek().iter().position(|&byte| byte == b'\n') else {
//!             return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
//!         };
//!         let line = input.take(end + 1);
//!         out.put(&line.to_ascii_uppercase());
//!         Ok(Step::Event(line))
//!     }
//!     fn handle_command(&mut self, _: Now, _: (), _: &mut Outbox) -> Result<(), Refused> {
//!         Ok(())
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         None
//!     }
//!     fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
//! }
//!
//! let (mut machine, mut out) = (Shout, Outbox::default());
//! let mut read = *b"hello\nwor"; // from any socket
//! let mut input = Input::new(&mut read, 0, false);
//! while let Step::Event(line) = machine.handle_input(Now::default(), &mut input, &mut out)? {
//!     assert_eq!(line, b"hello\n");
//! }
//! assert_eq!(input.peek(), b"wor"); // kept by the host, shown again with what follows
//! assert!(out.chunks().eq([semfio_machine::Chunk::Bytes(b"HELLO\n")])); // to any socket
//! # Ok::<(), core::convert::Infallible>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod carry;
mod datagram;
mod effect;
mod endpoint;
mod input;
mod interval;
mod net;
mod outbox;
mod seed;
mod service;
mod shard;
mod stream;
mod tap;
mod time;

pub use carry::Carry;
pub use datagram::{
    Carrier, Clock, DatagramMachine, QuotedError, Received, Stamp, Transmit, TransmitId,
};
pub use effect::{
    Effect, Entry, Failure, FileId, FileKind, FileSpan, Metadata, OpenMode, OwnedReply, Reply,
    RequestId, RootId,
};
pub use endpoint::{Endpoint, Output};
pub use input::{Hidden, Input};
pub use interval::Interval;
pub use net::{Action, Net, NetLimits};
pub use outbox::{Chunk, Outbox};
pub use seed::{Rng, Seed};
pub use service::{Closed, ConnId, Peer, Service, Target};
pub use shard::Shard;
pub use stream::{Refused, Step, StreamMachine};
pub use tap::{Tap, TapEntry};
pub use time::{Civil, Deadline, Instant, Now, UnixTime};
