//! Single packets, and what comes back: ICMP (RFC 792, RFC 4443), and ping.
//!
//! | what | where |
//! |---|---|
//! | messages, read and put | [`Message`], [`Echo`], [`IcmpError`] |
//! | what an error quotes, however it is cut | [`Quoted`] |
//! | what routers add to it: RFC 4884, MPLS labels of RFC 4950 | [`Extension`] |
//! | ping: many hosts at once, IPv4 and IPv6 | [`Pinger`] |
//! | traceroute: hops, what is rewritten on the way, the MTU of the path, live | [`Tracer`] |
//! | its probes of one flow, and whose answer it is that comes | [`Probes`] |
//! | all paths: which nodes each hop has, and how they are linked | [`Multipath`] |
//! | scans: which ports of which hosts are open | [`ConnectScan`] |
//! | round trips, by whose clocks they were measured | [`RoundTrips`], [`Statistics`] |
//!
//! # A ping by hand
//!
//! ```
//! use semfio_machine::{Carrier, Clock, DatagramMachine, Instant, Now, Received, Seed, Stamp, UnixTime};
//! use semfio_probe::{Echo, Family, Message, PingConfig, PingEvent, Pinger};
//!
//! let at = |ms: u64| Now { mono: Instant::from_nanos(ms * 1_000_000), unix: UnixTime::default() };
//! let stamp = |ms| Stamp { at: at(ms).mono, clock: Clock::User };
//! let host = "192.0.2.7:0".parse()?;
//! let config = PingConfig { count: Some(1), ..PingConfig::default() };
//! let mut machine = Pinger::new(at(0), &[host], &Seed::from_u64(1), config)?;
//!
//! // Its first timeout is now; then it has something to send.
//! machine.handle_timeout(at(0));
//! let mut datagram = Vec::new();
//! let transmit = machine.poll_transmit(at(0), &mut datagram).unwrap();
//! machine.handle_sent(at(0), transmit.id, stamp(0)); // to any socket
//!
//! // The other side.
//! let Ok(Message::EchoRequest(Echo { ident, sequence, payload })) =
//!     Message::parse(Family::V4, &datagram)
//! else {
//!     panic!("no request");
//! };
//! let mut answer = Vec::new();
//! Echo { ident, sequence, payload }.put_reply(Family::V4, &mut answer);
//!
//! let received = Received {
//!     source: host,
//!     destination: None,
//!     hop_limit: Some(57),
//!     traffic_class: None,
//!     carrier: Carrier::Icmp,
//!     stamp: stamp(8),
//!     error: None,
//! };
//! match machine.handle_datagram(at(8), received, &mut answer) {
//!     Some(PingEvent::Reply(reply)) => assert_eq!(reply.round_trip.length.as_millis(), 8),
//!     other => panic!("{other:?}"),
//! }
//! assert_eq!(machine.poll_event(), Some(PingEvent::Finished { host: 0 }));
//! assert_eq!(machine.poll_event(), Some(PingEvent::Ended));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Left out
//!
//! Broadcasts and multicasts: an echo counts only from the address that was asked. Record route and
//! the timestamp option. Interfaces and their names in extensions (RFC 5837) are handed over unread.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod extension;
mod icmp;
mod multipath;
mod ping;
mod scan;
#[cfg(feature = "simulation")]
pub mod simulation;
mod stamps;
mod statistics;
mod trace;
mod udp_ping;

pub use extension::{BadExtension, Extension, Label, Object};
pub use icmp::{Echo, Family, HEADER, IcmpError, Malformed, Message, Quoted};
pub use multipath::{
    Diamond, Graph, MOST_FLOWS, MOST_NODES, MOST_PROBES, Multipath, MultipathConfig,
    MultipathEvent, PathEnd, PathLink, PathNode, StopPaths,
};
pub use ping::{
    HostCounts, MAX_HOSTS, MAX_PATTERN, MAX_SIZE, PingConfig, PingCounts, PingEvent, Pinger, Reply,
    Sizes, Stop, TOKEN,
};
pub use scan::{
    ConnectScan, Found, IcmpReason, Knock, MAX_QUESTIONS, MAX_RETRIES, MAX_SCAN_HOSTS,
    MAX_SCAN_WINDOW, PortState, Quit, Reason, ScanConfig, ScanCounts, ScanEvent, SynScan, UdpScan,
};
pub use statistics::{RoundTrips, Statistics};
pub use trace::{
    Answer, AnswerKind, Ended, Heard, Hop, HopCounts, Jitter, Live, MAX_QUERIES, Method, Node,
    Outcome, Probe, ProbeCounts, Probes, ProbesConfig, Reached, Rewritten, SHORTEST_INTERVAL,
    SMALLEST, Sockets, TraceConfig, TraceEvent, Tracer, Verdict,
};
pub use udp_ping::{
    ClientCounts, MAX_CLIENTS, Order, UdpPingConfig, UdpPingCounts, UdpPingEvent, UdpPingServer,
    UdpPingServerConfig, UdpPingServerCounts, UdpPingServerEvent, UdpPinger,
};
