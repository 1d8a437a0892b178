//! Fuzz bodies: each a plain function of some bytes, over core alone, that panics where a promise
//! is broken.
//!
//! One body is used three times: `fuzz/` searches for bytes that make it panic, this package's
//! tests replay on stable Rust what was found and feed it seeded random bytes, and
//! `tests/bare-metal` links it without an operating system. To add one, write `src/NAME.rs` with
//! `pub fn NAME(data: &[u8])`, name it in the table below, and run the tests: they say what else
//! is missing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod choices;
mod drive;
#[cfg(test)]
mod planted;

pub use choices::Choices;

/// A fuzz body and its name, which is also that of its fuzz target and its folder of inputs.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Lower case, one word.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

macro_rules! bodies {
    ($($name:ident)*) => {
        $(mod $name; pub use $name::$name;)*

        /// Every fuzz body.
        pub const BODIES: &[Body] = &[$(Body { name: stringify!($name), run: $name }),*];
    };
}

pub mod http_emission;
pub mod http_reading;
pub mod http_rows;
pub mod http_samples;

bodies! {
    agreement
    carry
    chat_client
    chat_hub
    chat_session
    chat_wire
    echo
    file_course
    file_records
    file_session
    file_wire
    frame
    http_emit
    http_read
    http_sides
    http_values
    icmp
    input
    keysync
    multipath
    netcat
    outbox
    path
    ping
    scan
    shard
    sockets
    splitter
    token
    trace
    tracer
    tree
    udp_ping
}
