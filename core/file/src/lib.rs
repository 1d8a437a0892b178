//! Files over a connection, certain to arrive whole, without I/O.
//!
//! The server is a [`Repository`] over [`Session`]s. In the dialect of the course's programs,
//! `GET name` is answered with the file and then `OK`, or with one exact text if there is no such
//! file; [`CourseGet`] fetches one over a [`CourseClient`]. It writes nothing on an error, keeps what
//! came of a file that was cut, and gives a file its name only once it is whole and durable.
//!
//! [`tree`] proves each 64 KiB of any ranges of a file against its BLAKE3 on arrival; the machines
//! of the dialect that uses it come next.
//!
//! ```
//! use semfio_file::{
//!     CourseGet, CourseGetConfig, CourseGetOutcome, CourseGetReport, Repository, RepositoryConfig,
//! };
//! use semfio_machine::{NetLimits, RootId, Seed, Shard, Target};
//! use semfio_path::{Policy, SafeName};
//! use semfio_sim::Network;
//!
//! let mut net = Network::new(1);
//! let server = Repository::new(RepositoryConfig::default());
//! let server = net.add([10, 0, 0, 1].into(), Shard::new(server, NetLimits::default()));
//! net.disk_mut(server).put_file(RootId(0), "Iguana.jpg", "not really a picture");
//! assert!(net.listen(server, ([10, 0, 0, 1], 8003).into()));
//!
//! let config = CourseGetConfig {
//!     target: Target::Address(([10, 0, 0, 1], 8003).into()),
//!     word: "iguana.jpg".into(),
//!     root: RootId(0),
//!     save_as: SafeName::parse("iguana.jpg", Policy::default())?,
//!     replace: false,
//! };
//! let client = CourseGet::new(config, &Seed::from_u64(1))?;
//! let client = net.add([10, 0, 0, 2].into(), Shard::new(client, NetLimits::default()));
//! net.disk_mut(client).put_folder(RootId(0), "");
//!
//! net.run_until(|net| net.is_over(client))?;
//! let over = CourseGetReport::Over(CourseGetOutcome::Saved { len: 20 });
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

mod course;
mod get;
mod part;
mod repository;
mod session;
pub mod tree;

pub use course::{CourseClient, CourseEnd, CourseEvent, MAX_WORD, NotAWord};
pub use get::{
    CourseGet, CourseGetConfig, CourseGetMessage, CourseGetOutcome, CourseGetReport, Cut, PROGRESS,
};
pub use part::Stage;
pub use repository::{
    LIST_TURNS, Repository, RepositoryConfig, RepositoryMessage, RepositoryReport,
};
pub use session::{
    MAX_REQUEST, QUIET, SILENT, STALLED, Session, SessionCommand, SessionError, SessionEvent,
};
