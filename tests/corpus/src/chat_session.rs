//! The server's side of one chat connection, in any dialect.

use bytes::Bytes;
use semfio_chat::wire::{ErrorCode, Response};
use semfio_chat::{Session, SessionCommand};

use crate::{Choices, drive};

/// Any bytes, cuts, commands and pauses: the contract holds, and what waits is bounded.
pub fn chat_session(data: &[u8]) {
    let shared = Bytes::from_static(b"shared");
    drive::drive(Session::new(), data, |choices: &mut Choices<'_>, send| {
        let welcome = Response::Welcome {
            max_frame: 65_536,
            session: [1; 16],
            epoch: 2,
            time: 3,
            nick: "ana",
        };
        send(match choices.below(8) {
            0..=2 => SessionCommand::Welcome(&welcome),
            3 | 4 => SessionCommand::Log(&shared),
            5 => SessionCommand::Pieces(core::slice::from_ref(&shared)),
            _ => SessionCommand::Fail(ErrorCode::NickInUse, "no"),
        });
    });
}
