//! HTTP/1.1 without I/O (RFC 9110, RFC 9112): both roles of a connection.
//!
//! What is read is judged by one strict set of [`Rule`]s; what is sent is written from parts, never
//! copied from what a peer sent.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod body;
mod client;
mod clock;
mod date;
mod emit;
mod error;
mod field;
mod framing;
mod head;
mod limits;
mod lines;
mod message;
mod method;
mod scan;
mod server;
pub mod state;
mod status;
mod target;

pub use body::{BodyReader, BodyStep};
pub use client::{Client, ClientCommand, ClientConfig, ClientEvent};
pub use date::HttpDate;
pub use error::{Broken, HttpError, Rule};
pub use field::{Field, FieldRefused, Fields, FieldsBuf};
pub use head::HeadReader;
pub use limits::{Leniency, Limits};
pub use message::{Asked, Body, BodyLength, Request, Response, Target, Version};
pub use method::Method;
pub use server::{Server, ServerCommand, ServerConfig, ServerEvent};
pub use status::Status;
