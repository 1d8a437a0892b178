//! The Echo protocol, RFC 862: what is sent comes back.
//!
//! | role | over | type |
//! |---|---|---|
//! | server | a stream | [`Server`] for each connection, [`Service`] above them |
//! | server | datagrams | [`DatagramServer`] |
//! | client | datagrams | [`DatagramClient`]: numbered, timed, lost ones told |
//!
//! A stream client needs no machine: any bytes will do. Over datagrams both sides report how long
//! things took, and by whose clocks ([`Interval`](semfio_machine::Interval)).
//!
//! # A connection by hand
//!
//! ```
//! use semfio_echo::Server;
//! use semfio_machine::{Chunk, Input, Now, Outbox, Step, StreamMachine};
//!
//! let (mut server, mut out) = (Server::new(), Outbox::default());
//! let mut read = *b"hello"; // from any socket
//! let mut input = Input::new(&mut read, 0, true); // and the peer has finished
//! while let Step::Event(bytes) = server.handle_input(Now::default(), &mut input, &mut out)? {
//!     assert_eq!(bytes, b"hello");
//! }
//! assert!(out.chunks().eq([Chunk::Bytes(b"hello")])); // to any socket
//! assert!(out.is_finished()); // and so have we
//! # Ok::<(), core::convert::Infallible>(())
//! ```
//!
//! # A datagram there and back
//!
//! ```
//! use core::time::Duration;
//! use semfio_echo::{ClientConfig, ClientEvent, DatagramClient, DatagramServer, Ping};
//! use semfio_machine::{Carrier, Clock, DatagramMachine, Instant, Now, Received, Seed, Stamp};
//!
//! let at = |ms: u64| Stamp { at: Instant::from_nanos(ms * 1_000_000), clock: Clock::User };
//! let [ours, theirs] = ["192.0.2.1:4000".parse()?, "192.0.2.7:7".parse()?];
//! let received = |source, ms| Received {
//!     source,
//!     destination: None,
//!     hop_limit: None,
//!     traffic_class: None,
//!     carrier: Carrier::Udp,
//!     stamp: at(ms),
//!     error: None,
//! };
//! let now = Now::default();
//! let mut client = DatagramClient::new(theirs, &Seed::from_u64(1), ClientConfig::default());
//! let mut server = DatagramServer::new();
//!
//! client.handle_command(now, Ping { payload: b"anyone?" })?;
//! let mut datagram = Vec::new();
//! let transmit = client.poll_transmit(now, &mut datagram).unwrap();
//! client.handle_sent(now, transmit.id, at(0));
//!
//! server.handle_datagram(now, received(ours, 3), &mut datagram);
//! let mut answer = Vec::new();
//! let transmit = server.poll_transmit(now, &mut answer).unwrap();
//! assert_eq!(transmit.destination, ours);
//!
//! match client.handle_datagram(now, received(theirs, 8), &mut answer) {
//!     Some(ClientEvent::Reply { number: 0, payload: b"anyone?", round_trip: Some(time), .. }) => {
//!         assert_eq!(time.length, Duration::from_millis(8));
//!         assert_eq!((time.from, time.to), (Clock::User, Clock::User));
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Left out
//!
//! The server answers whoever asks, as the RFC has it. Over UDP a sender can lie about its
//! address: answers are no larger than what they answer, and ports below 1024 get none, so that
//! two echo servers on their usual port cannot be made to talk to each other.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod client;
mod datagram;
mod server;
mod service;

pub use client::{ClientConfig, ClientCounts, ClientEvent, DatagramClient, Failed, HEADER, Ping};
pub use datagram::{DatagramServer, ServerCounts, ServerEvent};
pub use server::Server;
pub use service::{Report, Service};
