//! How strict the engine of HTTP is, and the programs that are made of it.
//!
//! | module | evidence |
//! |---|---|
//! | `rows` | 111 messages, bad, odd and large, against the engine in both roles, cut and ended everywhere |
//! | `sockets` | the same as octets on a socket, against `semfio http echo`, `serve` and `get` |
//! | `slow` | peers that end halfway, reset, are many, or never read |
//! | `differential` | mutated messages, read by the engine, by h11 and by httptools |
//! | `values` | dates, references, parts of files, gzip, listings, lines of a log, as Python's library reads them |
//! | `strictness` | `docs/http-strictness.md`, written from the data of the others |
//!
//! `SEMFIO_MESSAGES` sets how many messages are mutated; 100,000 else.

mod differential;
mod disagreements;
mod mutation;
mod peer;
mod program;
mod rows;
mod slow;
mod sockets;
mod strictness;
mod values;
