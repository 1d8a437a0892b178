//! HTTP/1.1 without I/O (RFC 9110, RFC 9112): both roles of a connection.
//!
//! What is read is judged by one strict set of [`Rule`]s; what is sent is written from parts, never
//! copied from what a peer sent.
//!
//! A connection is a [`Server`] or a [`Client`]; services stand above many of them. Both know where the
//! *two* sides are ([`state`]), so that nothing is said that the other one could take for something else.
//!
//! # A server by hand
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use semfio_http::{Body, FieldsBuf, Server, ServerCommand, ServerEvent, Status};
//! use semfio_machine::{Chunk, Input, Now, Outbox, Step, StreamMachine};
//!
//! let (mut server, mut out) = (Server::new(Arc::default()), Outbox::default());
//! let now = Now::default();
//! let mut read = *b"GET /hello HTTP/1.1\r\nHost: example\r\n\r\n"; // from any socket
//! let mut input = Input::new(&mut read, 0, false);
//! while let Step::Event(event) = server.handle_input(now, &mut input, &mut out)? {
//!     if let ServerEvent::Request(request) = event {
//!         assert_eq!(request.target.to_string(), "/hello");
//!         let content = Bytes::from_static(b"Hello");
//!         let fields = FieldsBuf::new().with("Content-Type", "text/plain")?;
//!         let (status, body) = (Status::OK, Body::Whole(&content));
//!         server.handle_command(now, ServerCommand::Respond { status, fields: &fields, body }, &mut out)?;
//!     }
//! }
//! let Some(Chunk::Bytes(sent)) = out.chunks().next() else { unreachable!() };
//! assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n") && sent.ends_with(b"\r\n\r\nHello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Left out
//!
//! HTTP/0.9, 2 and 3, TLS. Several requests of one client that wait for their answers on one connection.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod body;
mod byteranges;
mod client;
mod clock;
mod conditional;
mod date;
mod echo;
mod emit;
mod error;
mod etag;
mod field;
mod framing;
pub mod get;
mod gzip;
mod head;
mod limits;
mod lines;
mod listing;
mod locate;
mod log;
mod message;
mod method;
mod mime;
mod negotiate;
mod page;
mod percent;
mod range;
mod scan;
mod server;
mod site;
pub mod state;
mod status;
mod target;
mod url;

pub use body::{BodyReader, BodyStep};
pub use byteranges::{ByteRanges, Piece};
pub use client::{Client, ClientCommand, ClientConfig, ClientEvent};
pub use conditional::{Condition, evaluate};
pub use date::HttpDate;
pub use echo::{Echo, EchoMessage, EchoReport};
pub use error::{Broken, HttpError, Rule};
pub use etag::{Coded, EntityTag, FileTag, SETTLED, Validators};
pub use field::{Field, FieldRefused, Fields, FieldsBuf};
pub use gzip::{GZIP_MEMORY, Gzip};
pub use head::HeadReader;
pub use limits::{Leniency, Limits};
pub use listing::{Listing, SORT_LIMIT};
pub use locate::{Located, NotLocated};
pub use log::{LOGGED_LIMIT, LogForm, LogLine};
pub use message::{Asked, Body, BodyLength, Request, Response, Target, Version};
pub use method::Method;
pub use mime::MediaType;
pub use negotiate::{Coding, PageForm};
pub use page::{PAGE_POLICY, status_page};
pub use range::{ByteRange, RANGES_LIMIT, Selection, unsatisfied_range};
pub use server::{Server, ServerCommand, ServerConfig, ServerEvent};
pub use site::{
    HOT_FILE, HOT_FILES, HOT_TOTAL, Site, SiteConfig, SiteMessage, SiteReport, UPLOADS,
};
pub use status::Status;
pub use url::{URL_LIMIT, Url, UrlError};
