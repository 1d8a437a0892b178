//! What the engine reads, as values that can be kept and compared.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use semfio_http::{
    Body, Client, ClientCommand, ClientConfig, ClientEvent, Fields, FieldsBuf, HttpError, Leniency,
    Method, Request, Response, Server, ServerCommand, ServerConfig, ServerEvent, Status, Target,
    Version,
};
use semfio_machine::{Carry, Chunk, Input, Now, Outbox, Step, StreamMachine};

use crate::http_samples::Kind;

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Method and target with a blank between them, or the status.
    pub start: Vec<u8>,
    /// `1.0` or `1.1`.
    pub version: &'static str,
    /// Names in lower case, and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The content, or what came of it.
    pub body: Vec<u8>,
    /// As fields.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the connection can be used again.
    pub keeps: bool,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeps = if self.keeps { "keeps" } else { "closes" };
        write!(f, "{} ({}, {keeps})", self.start.escape_ascii(), self.version)?;
        for (name, value) in &self.fields {
            write!(f, " {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, " [{}]", self.body.escape_ascii())?;
        for (name, value) in &self.trailers {
            write!(f, " {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        Ok(())
    }
}

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More is wanted.
    Waits,
    /// The last message was read.
    Over,
    /// What follows is another protocol's.
    HandedOver,
    /// A rule is broken.
    Refuses(HttpError),
}

/// All that is read of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whole messages.
    pub messages: Vec<Message>,
    /// One whose head was told, and whose end was not.
    pub begun: Option<Message>,
    /// And then.
    pub end: End,
    /// All that was sent meanwhile.
    pub sent: Vec<u8>,
}

/// Reads `bytes` in the pieces that begin at `cuts`; a server answers each request with an empty 200.
pub fn read(kind: Kind, leniency: Leniency, bytes: &[u8], ends: bool, cuts: &[usize]) -> Reading {
    match kind {
        Kind::Requests => requests(leniency, bytes, ends, cuts),
        Kind::Response => responses(leniency, Method::Get, bytes, ends, cuts),
        Kind::ResponseToHead => responses(leniency, Method::Head, bytes, ends, cuts),
    }
}

fn requests(leniency: Leniency, bytes: &[u8], ends: bool, cuts: &[usize]) -> Reading {
    let config = ServerConfig { leniency, ..ServerConfig::default() };
    let mut server = Server::new(Arc::new(config));
    let (mut messages, mut begun) = (Vec::new(), None);
    let none = FieldsBuf::new();
    let mut tunnel = false;
    let (end, sent) = drive(&mut server, Vec::new(), bytes, ends, cuts, |server, event, out| {
        let command = match event {
            ServerEvent::Request(request) => {
                assert!(begun.is_none(), "one request at a time");
                tunnel = request.method == Method::Connect;
                begun = Some(of_request(&request));
                if !request.expects_continue {
                    return;
                }
                ServerCommand::Inform { status: Status::CONTINUE, fields: &none }
            }
            ServerEvent::Data(data) => {
                assert!(!data.is_empty(), "a piece of nothing");
                begun.as_mut().expect("data of a request").body.extend_from_slice(data);
                return;
            }
            ServerEvent::End(trailers) => {
                let mut message: Message = begun.take().expect("the end of a request");
                message.trailers = pairs(trailers);
                messages.push(message);
                ServerCommand::Respond { status: Status::OK, fields: &none, body: Body::Empty }
            }
        };
        assert_eq!(server.handle_command(Now::default(), command, out), Ok(()));
    });
    let end = if tunnel && end == End::Over { End::HandedOver } else { end };
    Reading { messages, begun, end, sent }
}

fn responses(
    leniency: Leniency,
    method: Method<'_>,
    bytes: &[u8],
    ends: bool,
    cuts: &[usize],
) -> Reading {
    let config = ClientConfig { leniency, ..ClientConfig::default() };
    let mut client = Client::new(Arc::new(config));
    let (mut messages, mut begun) = (Vec::new(), None);
    let mut out = Outbox::default();
    let fields = &FieldsBuf::new();
    let (target, authority, body) = ("/", "a", Body::Empty);
    let request = ClientCommand::Request { method, target, authority, fields, body, close: false };
    assert_eq!(client.handle_command(Now::default(), request, &mut out), Ok(()));
    let asked = drain(&mut out);
    let mut over = false;
    let (end, sent) = drive(&mut client, asked, bytes, ends, cuts, |_, event, _| match event {
        ClientEvent::Inform(response) => messages.push(of_response(&response)),
        ClientEvent::Response(response) => {
            assert!(begun.is_none() && !over, "one response");
            begun = Some(of_response(&response));
        }
        ClientEvent::Data(data) => {
            assert!(!data.is_empty(), "a piece of nothing");
            begun.as_mut().expect("data of a response").body.extend_from_slice(data);
        }
        ClientEvent::End(trailers) => {
            let mut message: Message = begun.take().expect("the end of a response");
            message.trailers = pairs(trailers);
            messages.push(message);
            over = true;
        }
    });
    let end = if over && end == End::Waits { End::Over } else { end };
    Reading { messages, begun, end, sent }
}

fn drive<M: StreamMachine<Error = HttpError>>(
    machine: &mut M,
    mut sent: Vec<u8>,
    bytes: &[u8],
    ends: bool,
    cuts: &[usize],
    mut tell: impl FnMut(&mut M, M::Event<'_>, &mut Outbox),
) -> (End, Vec<u8>) {
    let (mut out, mut carry) = (Outbox::default(), Carry::default());
    let mut from = 0;
    let edges = cuts.iter().copied().chain([bytes.len()]);
    let pieces = edges.map(|to| {
        let to = to.clamp(from, bytes.len());
        let piece = bytes.get(from..to).unwrap_or_default();
        from = to;
        (piece, false)
    });
    let mut end = End::Waits;
    for (piece, eof) in pieces.chain(ends.then_some((&[][..], true))) {
        let (shown, fresh) = carry.append(piece);
        let mut input = Input::new(shown, fresh, eof);
        end = loop {
            let step = machine.handle_input(Now::default(), &mut input, &mut out);
            // Nothing waits for room here.
            if !matches!(step, Ok(Step::Event(_))) {
                sent.extend(drain(&mut out));
            }
            match step {
                Ok(Step::Event(event)) => tell(machine, event, &mut out),
                Ok(Step::NeedInput(n)) => {
                    assert!(n > 0 && !eof, "{n} more octets after the end");
                    break End::Waits;
                }
                Ok(Step::NeedCommand) => break End::Waits,
                Ok(Step::NeedRoom) => panic!("room is there"),
                Ok(Step::Done) => break End::Over,
                Err(error) => break End::Refuses(error),
            }
        };
        let untaken = input.untaken();
        carry.keep(untaken);
        if end != End::Waits {
            break;
        }
    }
    (end, sent)
}

pub(crate) fn drain(out: &mut Outbox) -> Vec<u8> {
    let mut sent = Vec::new();
    while !out.is_empty() {
        let before = sent.len();
        for chunk in out.chunks() {
            match chunk {
                Chunk::Bytes(bytes) => sent.extend_from_slice(bytes),
                Chunk::File(_) => panic!("no file was put"),
            }
        }
        out.advance(sent.len() - before);
    }
    sent
}

fn of_request(request: &Request<'_>) -> Message {
    let mut start = request.method.as_str().as_bytes().to_vec();
    start.push(b' ');
    start.extend(target(&request.target));
    let (version, fields) = (version(request.version), pairs(request.fields));
    Message { start, version, fields, keeps: request.keeps_alive, ..Message::default() }
}

fn of_response(response: &Response<'_>) -> Message {
    let start = alloc::format!("{}", response.status.code()).into_bytes();
    let (version, fields) = (version(response.version), pairs(response.fields));
    Message { start, version, fields, keeps: response.keeps_alive, ..Message::default() }
}

/// As it was written.
pub fn target(target: &Target<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let (path, query) = match *target {
        Target::Origin { path, query } => (path, query),
        Target::Absolute { scheme, authority, path, query } => {
            text.extend_from_slice(scheme.as_bytes());
            text.extend_from_slice(b"://");
            text.extend_from_slice(authority.as_bytes());
            (path, query)
        }
        Target::Authority(authority) => (authority, None),
        Target::Asterisk => ("*", None),
    };
    text.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    text
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
    }
}

fn pairs(fields: Fields<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |name: &str, value: &[u8]| (name.to_ascii_lowercase().into_bytes(), value.to_vec());
    fields.iter().map(|field| pair(field.name, field.value)).collect()
}
