//! A chat room: its server, its members and its history, without I/O.
//!
//! One port, three dialects ([`semfio_frame::Dialect`]): frames for programs that want to know what
//! happened ([`wire`]), lines for people with netcat or telnet, and raw, in which a read is a
//! message and comes back to its sender too. A [`Hub`] is the server over many [`Session`]s; a
//! [`Participant`] is one member over one [`Client`], and comes back by itself when the connection
//! breaks.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

extern crate alloc;

mod client;
mod command;
mod hub;
mod line;
mod log;
mod participant;
mod redacted;
mod sealed;
mod session;
pub mod text;
mod token;
pub mod wire;

pub use client::{
    Client, ClientCommand, ClientError, ClientEvent, ECHO_WITHIN, MAX_WAITING, PAUSE, SETTLE,
    WELCOME_WITHIN,
};
pub use command::{BadCommand, HELP, Typed, parse};
pub use hub::{
    DOOR_WITHIN, Hub, HubConfig, HubMessage, HubReport, MAX_CANDIDATE_RELAYS, MAX_CANDIDATES,
    ROTATE_WITHIN, Reports, SlowPolicy,
};
pub use line::put_entry;
pub use log::{LogLimits, RAW_PIECE};
pub use participant::{
    Happened, MAX_UNSENT, Outcome, Participant, ParticipantConfig, ParticipantMessage,
    ParticipantReport,
};
pub use redacted::Redacted;
pub use sealed::{Cause, Journaled, Keys};
pub use session::{
    DETECT, HELLO_WITHIN, HOLD, MAX_LINE, Session, SessionCommand, SessionError, SessionEvent,
};
pub use token::{GAP, OK_WITHIN, TOKEN_TEXT};
