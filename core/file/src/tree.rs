//! Proof of each 64 KiB of a file against the BLAKE3 hash of the whole.
//!
//! BLAKE3 is a tree: a file's hash is made of two [hashes](struct@Hash), each of these of two more, down to
//! 1 KiB. Here it ends at *groups* of 64 KiB ([`GROUP`]), so that what proves a file is a
//! thousandth of it. The hash at the top is the file's plain BLAKE3, as `b3sum` prints it.
//!
//! For any [`Ranges`] of a file a sender gives, from the top down and from left to right, the
//! *pair* of hashes below each [`Node`] that a range touches, and the content of each group in
//! them. A receiver that knows the top and the file's length proves each pair and each group as
//! it comes, and holds two hashes a level:
//!
//! ```text
//!          pair 0..4              The order for groups 1 and 2 of four: pair 0..4, pair 0..2,
//!        /           \            group 1, pair 2..4, group 2. Groups 0 and 3 lie beside: their
//!    pair 0..2    pair 2..4       hashes come with the pairs and are proved by them.
//!    /     \       /     \
//!  beside  [1]   [2]   beside
//! ```
//!
//! - [`Outline`], made by an [`Outliner`] that reads the file once, is what a sender keeps: at most
//!   [`MAX_KEPT`] hashes. For a file over 1 GiB it ends at coarser *spans*.
//! - [`Sender`] gives the order for some ranges. It asks for a span to be read again where what
//!   lies inside was not kept.
//! - [`Verifier`] takes what arrives.
//! - Resuming: what lies beside the missing ranges is what a receiver holds. Their hashes come
//!   with the first pairs; [`NodeHasher`] makes the same from the file at hand. Where it is not
//!   known what is held, [`Verifier::hashes`] has them all proved, at a thousandth of the file.
//!
//! A length that a peer lied about is found out at the latest when the last group is proved, not
//! before: whoever receives parts over several connections has the length only with all of them.
//!
//! ```
//! use semfio_file::tree::{Due, Item, Outliner, Ranges, Sender, Verifier};
//!
//! let file: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
//! let mut outliner = Outliner::new(200_000).unwrap();
//! outliner.handle_content(&file).unwrap();
//! let outline = outliner.finish().unwrap();
//!
//! let ranges = Ranges::parse(200_000, [(65_536, 65_536)]).unwrap();
//! let mut sender = Sender::new(&outline, ranges.clone()).unwrap();
//! let mut verifier = Verifier::new(outline.hash(), ranges);
//! loop {
//!     match sender.poll_item(&outline) {
//!         Item::Pair(pair) => drop(verifier.handle_pair(&pair).unwrap()),
//!         Item::Content { offset, len } => {
//!             let content = &file[offset as usize..][..len as usize];
//!             assert_eq!(verifier.handle_content(content).unwrap().unwrap().start(), 1);
//!         }
//!         Item::Span { .. } => unreachable!("only for files over 1 GiB"),
//!         Item::End => break,
//!     }
//! }
//! assert_eq!(verifier.due(), Due::End);
//! ```

mod hash;
mod outline;
mod ranges;
mod sender;
mod verifier;
mod walk;

use core::fmt;

pub use hash::{Hash, NodeHasher, PAIR};
pub use outline::{MAX_FILE, MAX_KEPT, Outline, Outliner};
pub use ranges::{MAX_RANGES, RangeError, Ranges};
pub use sender::{Item, Sender};
pub use verifier::{Beside, Due, Verifier};
pub use walk::{GROUP, Node};

/// A stream or a file that is not what its hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TreeError {
    /// A pair is not what its node was proved to be.
    Pair {
        /// The first group below it.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// A group's content is not what it was proved to be.
    Content {
        /// Which.
        group: u64,
    },
    /// A pair came where content was due, content where a pair was, or anything after the end.
    Order,
    /// More content came than was due.
    TooLong,
    /// The stream or the file ended before its end.
    Truncated {
        /// The first group that is not proved.
        group: u64,
    },
    /// A span that was read again is not what it was.
    Changed {
        /// Its first byte.
        offset: u64,
        /// Its bytes.
        len: u64,
    },
    /// Longer than [`MAX_FILE`].
    TooLarge,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair { start, end } => {
                write!(f, "the hashes of groups {start} to {end} are wrong")
            }
            Self::Content { group } => write!(f, "the content of group {group} is wrong"),
            Self::Order => f.write_str("hashes and content are out of order"),
            Self::TooLong => f.write_str("there is more content than was announced"),
            Self::Truncated { group } => write!(f, "the content ends before group {group}"),
            Self::Changed { offset, len } => {
                write!(f, "the file has changed in the {len} bytes from {offset} on")
            }
            Self::TooLarge => f.write_str("the file is larger than 16 TiB"),
        }
    }
}

impl core::error::Error for TreeError {}
