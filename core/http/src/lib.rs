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
