//! Messages that the engine writes, and what they are to be read as.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use semfio_http::{
    Body, Client, ClientCommand, ClientConfig, FieldsBuf, Method, Server, ServerCommand,
    ServerConfig, Status,
};
use semfio_machine::{Input, Now, Outbox, Refused, StreamMachine};

use crate::Choices;
use crate::http_reading::{Message, drain};
use crate::http_samples::Kind;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "M-SEARCH"];
const TARGETS: [&str; 8] = ["/", "/a.txt", "/a?b=c", "*", "http://b/c", "/%20%2F", "no", "/a b"];
const NAMES: [&str; 8] =
    ["X", "Accept", "Cookie", "Date", "Content-Length", "Transfer-Encoding", "bad name", "ETag"];
const STATUSES: [u16; 8] = [200, 204, 304, 404, 500, 206, 100, 999];

/// Has one side say something that was chosen; what it sends, and the message that this is. `None` if
/// it refuses, as it must what cannot be written.
pub fn emitted(kind: Kind, choices: &mut Choices<'_>) -> Option<(Vec<u8>, Message)> {
    let mut fields = FieldsBuf::new();
    for _ in 0..choices.below(5) {
        let n = choices.below(12);
        let (name, value) = (NAMES[choices.below(NAMES.len())], choices.bytes(n));
        let before = fields.as_bytes().len();
        if fields.push(name, value).is_err() {
            assert_eq!(fields.as_bytes().len(), before, "what is refused is not written");
        }
    }
    let pairs = |fields: &FieldsBuf| -> Vec<(Vec<u8>, Vec<u8>)> {
        let fields = fields.as_fields();
        let pairs =
            fields.iter().map(|it| (it.name.to_ascii_lowercase().into_bytes(), it.value.to_vec()));
        pairs.collect()
    };
    let n = choices.below(40);
    let content = Bytes::copy_from_slice(choices.bytes(n));
    let pieces = 1 + choices.below(3);
    let how = choices.below(4);
    let body = match how {
        0 => Body::Empty,
        1 => Body::Whole(&content),
        2 => Body::Length(content.len() as u64),
        _ => Body::Unknown,
    };
    let mut message = Message { version: "1.1", keeps: true, ..Message::default() };
    let mut out = Outbox::default();
    let trailers = FieldsBuf::new().with("T", "u").unwrap_or_default();
    if kind == Kind::Requests {
        let (method, target) = (METHODS[choices.below(8)], TARGETS[choices.below(8)]);
        let mut client = Client::new(Arc::new(ClientConfig::default()));
        let mut tell =
            |command: ClientCommand<'_>| client.handle_command(Now::default(), command, &mut out);
        let close = choices.below(4) == 0;
        let request = ClientCommand::Request {
            method: Method::new(method),
            target,
            authority: "a:80",
            fields: &fields,
            body,
            close,
        };
        tell(request).ok()?;
        if how >= 2 {
            for piece in content.chunks(content.len().div_ceil(pieces).max(1)) {
                assert_eq!(tell(ClientCommand::Data(piece)), Ok(()));
            }
            assert_eq!(tell(ClientCommand::End(&trailers)), Ok(()));
        }
        message.start = alloc::format!("{method} {target}").into_bytes();
        message.keeps = !close;
    } else {
        let status = STATUSES[choices.below(8)];
        let mut server = Server::new(Arc::new(ServerConfig::default()));
        let method = if kind == Kind::ResponseToHead { "HEAD" } else { "GET" };
        let mut asked = alloc::format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let mut input = Input::new(&mut asked, 0, false);
        for _ in 0..2 {
            let _ = server.handle_input(Now::default(), &mut input, &mut out);
        }
        let mut tell =
            |command: ServerCommand<'_>| server.handle_command(Now::default(), command, &mut out);
        let respond =
            ServerCommand::Respond { status: Status::new(status)?, fields: &fields, body };
        tell(respond).ok()?;
        let silent = kind == Kind::ResponseToHead || matches!(status, 204 | 304);
        if how >= 2 {
            for piece in content.chunks(content.len().div_ceil(pieces).max(1)) {
                let sent: Result<(), Refused> = tell(ServerCommand::Data(piece));
                assert!(sent.is_ok() || silent);
            }
            let sent = tell(ServerCommand::End(&trailers));
            assert!(sent.is_ok() || silent);
        }
        message.start =
            String::from_utf8(alloc::format!("{status}").into_bytes()).ok()?.into_bytes();
        message.body = if silent { Vec::new() } else { message.body };
        message.fields = pairs(&fields);
        if !silent && how != 0 {
            message.body = content.to_vec();
        }
        if how == 3 && !silent {
            message.trailers = pairs(&trailers);
        }
        return Some((drain(&mut out), message));
    }
    message.fields = pairs(&fields);
    if how != 0 {
        message.body = content.to_vec();
    }
    if how == 3 {
        message.trailers = pairs(&trailers);
    }
    Some((drain(&mut out), message))
}

/// Without the fields that a connection writes itself.
pub fn without_framing(mut message: Message) -> Message {
    let own: [&[u8]; 5] =
        [b"host", b"content-length", b"transfer-encoding", b"connection", b"trailer"];
    message.fields.retain(|(name, _)| !own.contains(&&name[..]));
    message
}
