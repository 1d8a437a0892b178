//! Fernet tokens, and rooms whose keys follow their members, without I/O.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod agreement;
mod guard;
mod key;
mod splitter;
mod token;
mod window;

pub use agreement::{
    AgreementError, CONFIRM, Context, Initiator, Pair, Passphrase, REPLY, Responder, START,
};
pub use guard::{Guard, GuardConfig, RetryIn};
pub use key::{BadKey, Key};
pub use splitter::{Cut, Splitter};
pub use token::{Decoding, Policy, TokenError, token_len};
pub use window::{WINDOW, Window};
