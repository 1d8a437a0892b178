//! Fernet tokens, and rooms whose keys follow their members, without I/O.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod agreement;
mod epoch;
mod guard;
mod holder;
mod key;
mod keyring;
mod message;
mod splitter;
mod stack;
mod token;
mod vault;
mod window;

pub use agreement::{
    AgreementError, CONFIRM, Context, Initiator, Pair, Passphrase, REPLY, Responder, START,
};
pub use epoch::{
    GRACE, HELD_WITHIN, KeyEvent, KeyFailure, KeySync, KeyTransmit, Label, MAX_FORMER, MAX_HELD,
    MAX_HELD_OCTETS, MAX_SEALED, Message, Outer, RETRY, Stamped, Unopened, Unsealed,
};
pub use guard::{Guard, GuardConfig, RetryIn};
pub use holder::{HAND_OVER_WITHIN, MAX_AGE, MAX_MEMBERS, MAX_TEXTS, PACE, PART_WITHIN, SETTLE};
pub use key::{BadKey, Key};
pub use keyring::Keyring;
pub use message::{MAX_BODY, MAX_TEXT, MAX_WRAPPED, Manner, Refusal};
pub use splitter::{Cut, Splitter};
pub use token::{Decoding, MAX_PLAINTEXT, MAX_TOKEN, Policy, TokenError, token_len};
pub use vault::{Answer, BadAnswer, Vault};
pub use window::{WINDOW, Window};
