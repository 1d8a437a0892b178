//! The server's and the client's side of a connection, under a host that does what it likes.

use alloc::sync::Arc;
use bytes::Bytes;
use semfio_http::{
    Body, Client, ClientCommand, ClientConfig, FieldsBuf, Method, Server, ServerCommand, ServerConfig, Status,
};

use crate::{Choices, drive};

/// Any octets, ends, commands, pauses and draining: both keep the contract.
pub fn http_sides(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    if first % 2 == 0 { server(data) } else { client(data) }
}

fn body<'b>(choices: &mut Choices<'_>, bytes: &'b Bytes) -> Body<'b> {
    match choices.below(4) {
        0 => Body::Empty,
        1 => Body::Whole(bytes),
        2 => Body::Length(choices.below(200) as u64),
        _ => Body::Unknown,
    }
}

fn server(data: &[u8]) {
    let fields = FieldsBuf::new().with("X", "y").unwrap_or_default();
    let server = Server::new(Arc::new(ServerConfig::default()));
    drive::drive(server, data, |choices: &mut Choices<'_>, send| {
        let choice = choices.below(8);
        let n = choices.below(100);
        let bytes = Bytes::copy_from_slice(choices.bytes(n));
        send(match choice {
            0 => ServerCommand::Inform { status: Status::CONTINUE, fields: &fields },
            1..=3 => {
                let codes = [200, 404, 204, 304, 101, 500];
                let status = codes.get(choices.below(6)).copied().and_then(Status::new);
                let (status, body) = (status.unwrap_or(Status::OK), body(choices, &bytes));
                ServerCommand::Respond { status, fields: &fields, body }
            }
            4 => ServerCommand::Data(&bytes),
            5 => ServerCommand::Shared(&bytes),
            6 => ServerCommand::End(&fields),
            _ => ServerCommand::Finish,
        });
    });
}

fn client(data: &[u8]) {
    let fields = FieldsBuf::new().with("X", "y").unwrap_or_default();
    let client = Client::new(Arc::new(ClientConfig::default()));
    drive::drive(client, data, |choices: &mut Choices<'_>, send| {
        let choice = choices.below(8);
        let n = choices.below(100);
        let bytes = Bytes::copy_from_slice(choices.bytes(n));
        send(match choice {
            0..=3 => {
                let names = ["GET", "HEAD", "POST", "CONNECT"];
                let name = names.get(choices.below(4)).copied().unwrap_or("GET");
                let target = if name == "CONNECT" { "a:80" } else { "/" };
                let (body, close) = (body(choices, &bytes), choices.below(4) == 0);
                let method = Method::new(name);
                ClientCommand::Request { method, target, authority: "a", fields: &fields, body, close }
            }
            4 | 5 => ClientCommand::Data(&bytes),
            6 => ClientCommand::Shared(&bytes),
            _ => ClientCommand::End(&fields),
        });
    });
}
