//! Files over a connection, certain to arrive whole, without I/O.
//!
//! The server is a [`Repository`] over [`Session`]s; it speaks two dialects on one port.
//!
//! - *Framed* ([`wire`]), with a [`Fetch`] on the other side: files and folders, several in one run,
//!   over several connections. Each 64 KiB are proved against the file's hash as they arrive
//!   ([`tree`]); what was cut is resumed from what the partial file turns out to hold. [`Listing`]
//!   tells of what there is; [`Pour`] gives one file in order, for a pipe. [`Upload`] puts files and
//!   folders to a server that lets it: then the server is the one that asks and proves.
//! - The *course's*: `GET name` is answered with the file and then `OK`, or with one exact text if
//!   there is no such file. [`CourseGet`] fetches one over a [`CourseClient`]: it writes nothing on
//!   an error and keeps what came of a file that was cut.
//!
//! In both, a file gets its name only once it is whole and durable.
//!
//! # Wiring
//!
//! Each of these is a service of its own for a host's `Shard`; a client's begins when the host first
//! calls `handle_timeout`, which is due at once, and ends by itself after its `Over`.
//!
//! | service | what for | tells | ends with | is told |
//! |---|---|---|---|---|
//! | [`Repository`] | a server, both dialects | `Sending` and `Sent`, `Served`, `Refused`, ... | | `Stop` |
//! | [`Fetch`] | files and folders to a disk | `Hashing`, `Begun`, `Progress`, `StartedAnew`, `Lost` | `Done` or `Failed` for each, `Over` | `Interrupt` |
//! | [`Pour`] | one file to a pipe | `Content`, in order and proved | `Over` | `Taken` for what was written, `Interrupt` |
//! | [`Upload`] | files and folders to a server's disk | `Hashing`, `Begun`, `Progress`, `StartedAnew`, `Lost`, `Made` | `Done` or `Failed` for each, `Over` | `Interrupt` |
//! | [`Listing`] | what a folder holds | `Named` for each | `Over` | `Interrupt` |
//! | [`CourseGet`] | one file from the course's server | `Progress` | `Over` | `Interrupt` |
//!
//! - *Where to*: a service asks for files beneath a `RootId`; which folder that is, the host is told.
//!   A name comes in as a `SafeName` only. `save_as` renames a single file.
//! - *Resume* is not asked for: whatever partial file of this content is there is proved and gone on
//!   with, and `Begun` tells how much that was. `Failed` names the one that is kept; the same fetch
//!   again goes on. One of other content is removed once the new content has its name.
//! - *Force* is `replace`. Without it a name that is taken fails as `Exists` before anything comes,
//!   unless it holds this very content, which is `Done`.
//! - *Parallel* is `jobs`: connections that share one file's ranges. Files follow one another.
//! - *Coming back* is `retries`, in a row and without progress; each is told as `Lost` with its pause.
//!
//! ```
//! use semfio_file::{Fetch, FetchConfig, FetchReport, Repository, RepositoryConfig};
//! use semfio_machine::{NetLimits, RootId, Shard, Target};
//! use semfio_path::{Policy, SafeName};
//! use semfio_sim::Network;
//!
//! let mut net = Network::new(1);
//! let server = Repository::new(RepositoryConfig::default());
//! let server = net.add([10, 0, 0, 1].into(), Shard::new(server, NetLimits::default()));
//! net.disk_mut(server).put_file(RootId(0), "iguana.jpg", "not really a picture");
//! assert!(net.listen(server, ([10, 0, 0, 1], 8003).into()));
//!
//! let config = FetchConfig {
//!     target: Target::Address(([10, 0, 0, 1], 8003).into()),
//!     names: vec![SafeName::parse("iguana.jpg", Policy::default())?],
//!     root: RootId(0),
//!     save_as: None,
//!     replace: false,
//!     jobs: 1,
//!     policy: Policy::default(),
//!     retries: 10,
//! };
//! let client = Fetch::new(config);
//! let client = net.add([10, 0, 0, 2].into(), Shard::new(client, NetLimits::default()));
//! net.disk_mut(client).put_folder(RootId(0), "");
//!
//! net.run_until(|net| net.is_over(client))?;
//! let over = FetchReport::Over { done: 1, failed: 0 };
//! assert_eq!(net.reports(client).last().map(|(_, report)| report), Some(&over));
//! let saved = net.disk(client).content(RootId(0), "iguana.jpg");
//! assert_eq!(saved, Some(&b"not really a picture"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod arrival;
mod course;
mod fetch;
mod get;
mod list;
mod outlines;
mod part;
mod pour;
mod repository;
mod sealing;
mod serving;
mod session;
mod sweep;
mod taking;
mod tasks;
pub mod tree;
mod upload;
pub mod wire;

pub use course::{CourseClient, CourseEnd, CourseEvent, MAX_WORD, NotAWord};
pub use fetch::{Fetch, FetchConfig, FetchError, FetchMessage, FetchReport, Lost, MAX_JOBS};
pub use get::{
    CourseGet, CourseGetConfig, CourseGetMessage, CourseGetOutcome, CourseGetReport, Cut, PROGRESS,
};
pub use list::{Listing, ListingConfig, ListingMessage, ListingOutcome, ListingReport};
pub use part::Stage;
pub use pour::{Pour, PourConfig, PourMessage, PourOutcome, PourReport, WINDOW};
pub use repository::{
    LIST_TURNS, Repository, RepositoryConfig, RepositoryMessage, RepositoryReport,
};
pub use sealing::{MAX_RECORD, RECORD_HEADER, RECORD_TAG, Secret};
pub use session::{
    HELLO_WITHIN, IDLE, MAX_REQUEST, Piece, QUIET, SILENT, STALLED, Session, SessionCommand,
    SessionError, SessionEvent,
};
pub use sweep::KEPT;
pub use taking::PutLimits;
pub use upload::{Upload, UploadConfig, UploadError, UploadItem, UploadMessage, UploadReport};
