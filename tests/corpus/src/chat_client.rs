//! The member's side of one chat connection, in any dialect.

use semfio_chat::wire::Request;
use semfio_chat::{Client, ClientCommand};

use crate::{Choices, drive};

/// Any bytes, cuts, commands and pauses: the contract holds, and what waits is bounded.
pub fn chat_client(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let client = match first % 4 {
        0 => Client::line(),
        1 => Client::raw(),
        _ => Client::framed("ana", [0; 16]),
    };
    drive::drive(client, rest, |choices: &mut Choices<'_>, send| {
        send(match choices.below(8) {
            0 => ClientCommand::Finish,
            1..=3 => ClientCommand::Text("oi"),
            4 => ClientCommand::Text(""),
            _ => ClientCommand::Request(Request::Ping(1)),
        });
    });
}
