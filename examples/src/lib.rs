//! One machine, written here, that the examples run under seven hosts.
//!
//! | run | host |
//! |---|---|
//! | `cargo run -p semfio-examples --example std` | std sockets, driven by hand |
//! | `cargo run -p semfio-examples --example tokio` | tokio, driven by hand |
//! | `cargo run -p semfio-examples --example mio` | our event loop |
//! | `cargo run -p semfio-examples --example blocking` | our threads |
//! | `cargo run -p semfio-examples --example smol` | our async host |
//! | `cargo run -p semfio-examples --example sim` | our simulator: no socket, no clock |
//! | `bash examples/wasm/run` | Node, from WebAssembly |
//!
//! Each starts a server, has the same [dialogue](talk::DIALOGUE) with it, prints it, and fails if
//! an answer is not as expected.

mod calculator;
pub mod talk;

pub use calculator::{Calculator, Desk, LineTooLong};

/// Keeps the code of the README running.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
