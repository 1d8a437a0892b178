//! The one way from a peer's name to a path.
//!
//! A [`SafeName`] is a relative path of parts with `/` between them that means the same file on
//! every system that could hold it, lies beneath whatever folder it is joined to, and can be
//! printed. A name that is none is refused with the [`Rule`] it breaks and the byte where; it is
//! never mended, since two peers would mend it differently. What a service decides for itself is
//! its [`Policy`]. [`Names`] tells whether the names of one transfer stay apart on systems that
//! ignore case.
//!
//! The walk is lexical: that no link leads out of the folder is the host's matter, when it opens.
//! Percent-decoding is HTTP's, before a name comes here.
//!
//! ```
//! use semfio_path::{Policy, Rule, SafeName};
//!
//! let name = SafeName::parse("viagem/praia.jpg", Policy::default()).unwrap();
//! assert_eq!((name.parent(), name.file_name()), ("viagem", "praia.jpg"));
//!
//! let error = SafeName::parse("viagem/../../chaves", Policy::default()).unwrap_err();
//! assert_eq!((error.rule, error.offset), (Rule::DotPart, 7));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod fold;
mod name;
mod names;
mod part;

pub use fold::fold;
pub use name::{MAX_DEPTH, MAX_LEN, MAX_PART, NameError, Policy, Rule, SafeName};
pub use names::{NAMES_LIMIT, Names, NamesError};
pub use part::is_part;
