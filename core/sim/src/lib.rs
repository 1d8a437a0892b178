//! A host in virtual time, to test your own machines and services with.
//!
//! [`Network`] runs services and peers over links that delay, split, stall and cut. [`Pair`] wires
//! two machines to each other. [`Disk`] carries out [`Effect`](semfio_machine::Effect)s, and can be
//! full, slow and torn by a power cut. All chance comes from one number, and time passes only
//! when nothing else is left to do: a run of an hour takes as long as its work, and a run that
//! failed can be had again.
//!
//! # An echo machine over a bad link
//!
//! ```
//! use core::time::Duration;
//! use semfio_machine::*;
//! use semfio_sim::{Chance, LinkConfig, Machines, Network, SplitPlan};
//!
//! /// Sends back what comes.
//! struct Echo;
//!
//! impl StreamMachine for Echo {
//!     type Event<'i> = usize;
//!     type Command<'c> = ();
//!     type Error = core::convert::Infallible;
//!     const CARRIES_FILES: bool = false;
//!     fn max_unit(&self) -> usize {
//!         1
//!     }
//!     fn state(&self) -> &'static str {
//!         "Open"
//!     }
//!     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, out: &mut Outbox)
//!         -> Result<Step<usize>, Self::Error>
//!     {
//!         if input.is_empty() {
//!             return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
//!         }
//!         if out.room() == 0 {
//!             return Ok(Step::NeedRoom);
//!         }
//!         let bytes = input.take(out.room());
//!         out.put(bytes);
//!         Ok(Step::Event(bytes.len()))
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
//! let mut net = Network::new(7);
//! net.set_default_link(LinkConfig {
//!     latency: Duration::from_millis(20),
//!     loss: Chance::percent(10),
//!     split: SplitPlan::Random { most: 3 },
//!     ..LinkConfig::default()
//! });
//! let machines = Machines::new(|_| Some(Echo), |n| n);
//! let server = net.add([10, 0, 0, 1].into(), Shard::new(machines, NetLimits::default()));
//! assert!(net.listen(server, ([10, 0, 0, 1], 7).into()));
//!
//! let peer = net.connect([10, 0, 0, 2].into(), ([10, 0, 0, 1], 7).into());
//! net.write(peer, "sem fio");
//! net.finish(peer);
//! net.run_until_idle()?;
//! assert_eq!(net.peer(peer).received(), b"sem fio");
//! assert!(net.peer(peer).eof().is_some());
//! # Ok::<(), semfio_sim::Stuck>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod check;
mod clock;
mod datagram;
mod dice;
mod disk;
pub mod laws;
mod link;
mod machines;
mod network;
mod node;
mod pair;
mod peer;
#[cfg(feature = "proptest")]
pub mod strategies;
mod turn;
mod wire;

pub use check::{Catch, Seeds, check};
pub use clock::{STEP_LIMIT, Stuck};
pub use datagram::{DatagramId, RawDatagram};
pub use dice::Chance;
pub use disk::{Disk, DiskConfig};
pub use link::{LinkConfig, SplitPlan};
pub use machines::{Machines, Told};
pub use network::Network;
pub use node::ShardId;
pub use pair::{Pair, Said, Side};
pub use peer::{PeerId, PeerState, RawPeer};
