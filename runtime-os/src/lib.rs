//! What every host of a machine needs from the system, in safe wrappers: no loop, no protocol.

pub mod clock;
pub mod datagram;
mod failure;
pub mod files;
pub mod seed;
pub mod tcp;
pub mod worker;
pub mod write;

pub use clock::Clock;
pub use failure::failure;
pub use files::{Files, OwnedReply, Roots, perform};
pub use worker::Worker;
pub use write::write_outbox;
