//! What netcat does, without the network: bytes from here to there and back.
//!
//! | what | over | type |
//! |---|---|---|
//! | one connection, whose two directions end by themselves | a stream | [`Link`] |
//! | client, server for one, server for many, broker | streams | [`Netcat`] above [`Link`] |
//! | connecting and nothing else | streams | [`TcpCheck`] above [`Link`] |
//! | client, server for one or many | datagrams | [`Talk`] |
//! | whether a port is open | datagrams | [`UdpCheck`] |
//! | what is shown, and what is sent to hurt | | [`HexDump`], [`Junk`] |
//! | which sockets there are | | [`sockets`] |
//!
//! What is sent comes as messages and what came leaves as reports, both with a bound; standard input and
//! output are the application's business.
//!
//! # A connection by hand
//!
//! ```
//! use bytes::Bytes;
//! use semfio_machine::{Input, Now, Outbox, Step, StreamMachine};
//! use semfio_netcat::{Link, LinkCommand, LinkConfig, LinkEvent};
//!
//! let (mut link, mut out) = (Link::new(LinkConfig::default()), Outbox::default());
//! let now = Now::default();
//! let mut read = *b"hello"; // from any socket, which has ended
//! let mut input = Input::new(&mut read, 0, true);
//! let mut told = Vec::new();
//! while let Step::Event(event) = link.handle_input(now, &mut input, &mut out)? {
//!     told.push(event);
//! }
//! assert_eq!(told, [LinkEvent::Received(b"hello"), LinkEvent::Ended]);
//!
//! // The other direction has not ended.
//! link.handle_command(now, LinkCommand::Send(&Bytes::from_static(b"bye")), &mut out)?;
//! link.handle_command(now, LinkCommand::Finish, &mut out)?;
//! out.advance(3); // to any socket
//! let mut nothing = Input::new(&mut [], 0, true);
//! assert_eq!(link.handle_input(now, &mut nothing, &mut out)?, Step::Done);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Left out
//!
//! Unix sockets, proxies, TLS, telnet's answers, executing programs; a broker over UDP.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod hex;
mod junk;
mod link;
mod netcat;
pub mod sockets;
mod talk;
mod tcp_check;
mod udp_check;

pub use hex::HexDump;
pub use junk::{Junk, PIECE};
pub use link::{Link, LinkCommand, LinkConfig, LinkEvent};
pub use netcat::{
    AHEAD, InputEnd, Netcat, NetcatConfig, NetcatMessage, NetcatReport, Outcome, PAUSE, PEERS,
    PeerEnd, STALL, WINDOW,
};
pub use talk::{LARGEST, QUEUED, Talk, TalkCommand, TalkConfig, TalkCounts, TalkEvent};
pub use tcp_check::{Interrupt, TcpCheck, TcpFound};
pub use udp_check::{TRIES, UdpCheck, UdpFound, UdpVerdict};
