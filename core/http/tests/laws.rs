//! The laws of both sides of a connection.

use std::sync::Arc;

use bytes::Bytes;
use semfio_http::{
    Body, Client, ClientCommand, ClientConfig, ClientEvent, FieldsBuf, Limits, Method, Server,
    ServerCommand, ServerConfig, ServerEvent, Status,
};
use semfio_machine::{FileId, FileSpan};
use semfio_sim::laws::{Act, Subject};

/// An event, kept.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Head(String),
    Data(Vec<u8>),
    End(String),
}

fn merge(old: &mut Seen, new: &Seen) -> bool {
    match (old, new) {
        (Seen::Data(old), Seen::Data(new)) => {
            old.extend(new);
            true
        }
        _ => false,
    }
}

fn of_server(event: ServerEvent<'_>) -> Seen {
    match event {
        ServerEvent::Request(request) => Seen::Head(format!("{request:?}")),
        ServerEvent::Data(data) => Seen::Data(data.to_vec()),
        ServerEvent::End(trailers) => Seen::End(format!("{trailers:?}")),
    }
}

fn of_client(event: ClientEvent<'_>) -> Seen {
    match event {
        ClientEvent::Inform(response) | ClientEvent::Response(response) => {
            Seen::Head(format!("{response:?}"))
        }
        ClientEvent::Data(data) => Seen::Data(data.to_vec()),
        ClientEvent::End(trailers) => Seen::End(format!("{trailers:?}")),
    }
}

/// A command, kept.
#[derive(Clone, Debug)]
enum Told {
    Inform(u16),
    Respond(u16, FieldsBuf, Content),
    Request(&'static str, FieldsBuf, Content, bool),
    Data(Bytes),
    Shared(Bytes),
    File(u64),
    End(FieldsBuf),
    Finish,
}

#[derive(Clone, Debug)]
enum Content {
    Empty,
    Whole(Bytes),
    File(u64),
    Length(u64),
    Unknown,
}

fn span(len: u64) -> FileSpan {
    FileSpan { file: FileId(1), offset: 7, len }
}

fn body(content: &Content) -> Body<'_> {
    match content {
        Content::Empty => Body::Empty,
        Content::Whole(bytes) => Body::Whole(bytes),
        Content::File(len) => Body::File(span(*len)),
        Content::Length(n) => Body::Length(*n),
        Content::Unknown => Body::Unknown,
    }
}

fn to_server(told: &Told) -> ServerCommand<'_> {
    const NONE: &FieldsBuf = &FieldsBuf::new();
    match told {
        Told::Inform(code) => {
            ServerCommand::Inform { status: Status::new(*code).unwrap(), fields: NONE }
        }
        Told::Respond(code, fields, content) => {
            let status = Status::new(*code).unwrap();
            ServerCommand::Respond { status, fields, body: body(content) }
        }
        Told::Data(bytes) => ServerCommand::Data(bytes),
        Told::Shared(bytes) => ServerCommand::Shared(bytes),
        Told::File(len) => ServerCommand::File(span(*len)),
        Told::End(trailers) => ServerCommand::End(trailers),
        Told::Finish | Told::Request(..) => ServerCommand::Finish,
    }
}

fn to_client(told: &Told) -> ClientCommand<'_> {
    const NONE: &FieldsBuf = &FieldsBuf::new();
    match told {
        Told::Request(method, fields, content, close) => ClientCommand::Request {
            method: Method::new(method),
            target: "/x",
            authority: "a",
            fields,
            body: body(content),
            close: *close,
        },
        Told::Data(bytes) => ClientCommand::Data(bytes),
        Told::Shared(bytes) => ClientCommand::Shared(bytes),
        Told::File(len) => ClientCommand::File(span(*len)),
        Told::End(trailers) => ClientCommand::End(trailers),
        Told::Inform(_) | Told::Respond(..) | Told::Finish => ClientCommand::End(NONE),
    }
}

fn none() -> FieldsBuf {
    FieldsBuf::new()
}

fn upgrade() -> FieldsBuf {
    none().with("Upgrade", "x").unwrap()
}

fn trailers() -> FieldsBuf {
    none().with("X-Sum", "1").unwrap()
}

fn whole(text: &'static str) -> Content {
    Content::Whole(Bytes::from_static(text.as_bytes()))
}

fn ok(content: Content) -> Told {
    Told::Respond(200, none(), content)
}

fn data(text: &'static str) -> Told {
    Told::Data(Bytes::from_static(text.as_bytes()))
}

type Script = Vec<(usize, Told)>;

fn acts(script: &Script) -> Vec<(usize, Act<Told>)> {
    script.iter().map(|(after, told)| (*after, Act::Command(told.clone()))).collect()
}

/// Small, so that each can be exceeded.
fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.head, limits.target, limits.field, limits.fields) = (256, 40, 64, 6);
    (limits.extensions, limits.trailers, limits.unread) = (16, 48, 20);
    limits
}

fn server(script: &Script) -> Subject<'static, Server, Seen, Told> {
    let config = Arc::new(ServerConfig { limits: limits(), ..ServerConfig::default() });
    Subject::new(move || Server::new(Arc::clone(&config)), of_server)
        .with_merge(merge)
        .with_memory(|_| 0)
        .with_script(to_server, acts(script))
}

fn client(script: &Script) -> Subject<'static, Client, Seen, Told> {
    let config = Arc::new(ClientConfig { limits: limits(), ..ClientConfig::default() });
    Subject::new(move || Client::new(Arc::clone(&config)), of_client)
        .with_merge(merge)
        .with_memory(|_| 0)
        .with_script(to_client, acts(script))
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OLD: &str = "GET /x HTTP/1.0\r\n\r\n";
const KEPT: &str = "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const LAST: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789";
const EMPTY: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const CHUNKS: &str = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    4;a=b\r\nabcd\r\n2\r\nef\r\n0\r\nX-A: b\r\n\r\n";
const EXPECTS: &str =
    "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nabcd";
const LONG: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n\
    0123456789012345678901234567890123456789";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nnot HTTP";
const UPGRADE: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a server is sent, and what it says in return.
fn served() -> Vec<(String, Script)> {
    let big = || ok(Content::Whole(Bytes::from(vec![b'x'; 5000])));
    let mut all = vec![
        (String::new(), vec![]),
        (GET.into(), vec![]),
        ([GET, GET].concat(), vec![(1, ok(whole("hello"))), (2, ok(whole("again")))]),
        ([GET, HEAD, GET].concat(), vec![(2, big()), (4, big()), (6, ok(Content::Empty))]),
        // In pieces, in each kind of framing.
        (
            [GET, OLD, GET].concat(),
            vec![
                (1, ok(Content::Length(7))),
                (1, data("abc")),
                (2, Told::File(3)),
                (2, Told::Shared(Bytes::from_static(b"d"))),
                (2, Told::End(trailers())),
                (3, ok(Content::Unknown)),
                (3, data("until")),
                (4, data(" the end")),
                (4, Told::End(trailers())),
            ],
        ),
        (
            [GET, KEPT, GET].concat(),
            vec![
                (1, ok(Content::Unknown)),
                (1, data("abc")),
                (1, data("")),
                (2, Told::File(300)),
                (2, Told::End(trailers())),
                (3, Told::Respond(304, none(), Content::Length(9))),
                (4, Told::Respond(204, none(), Content::Empty)),
            ],
        ),
        // The content first, or the answer.
        ([POST, CHUNKS, GET].concat(), vec![(3, ok(whole("a"))), (6, ok(whole("b")))]),
        ([POST, CHUNKS, GET].concat(), vec![(1, ok(whole("a"))), (2, ok(whole("b")))]),
        (
            [CHUNKS, GET].concat(),
            vec![(1, ok(Content::Unknown)), (3, data("told")), (3, Told::End(none()))],
        ),
        ([LONG, GET].concat(), vec![(1, ok(whole("too much follows")))]),
        ([EMPTY, GET].concat(), vec![(2, ok(Content::File(9)))]),
        // Expectations.
        (EXPECTS.into(), vec![(1, Told::Inform(100)), (3, ok(Content::Empty))]),
        (EXPECTS.into(), vec![(1, Told::Inform(103)), (1, ok(Content::Empty))]),
        ([EXPECTS, GET].concat(), vec![(3, ok(Content::Empty))]),
        // Ends.
        ([LAST, GET].concat(), vec![(1, ok(whole("bye")))]),
        ([GET, GET].concat(), vec![(1, Told::Finish), (1, ok(whole("bye")))]),
        ([GET, GET].concat(), vec![(0, Told::Finish), (1, ok(whole("bye")))]),
        // Other protocols.
        (CONNECT.into(), vec![(2, ok(Content::Empty))]),
        ([CONNECT, GET].concat(), vec![(2, Told::Respond(501, none(), Content::Empty))]),
        (UPGRADE.into(), vec![(2, Told::Respond(101, upgrade(), Content::Empty))]),
        (UPGRADE.into(), vec![(2, Told::Respond(426, upgrade(), Content::Empty))]),
    ];
    // Broken ones, before an answer, in one and behind one.
    for broken in [
        "GET /x HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /x HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
        "GET /01234567890123456789012345678901234567890123456789 HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdX",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx",
    ] {
        all.push((broken.into(), vec![]));
        all.push(([GET, broken].concat(), vec![(1, ok(whole("first")))]));
        all.push((broken.into(), vec![(1, ok(Content::Unknown)), (1, data("begun"))]));
        all.push((broken.into(), vec![(1, ok(whole("complete")))]));
    }
    all
}

fn request(method: &'static str, content: Content) -> Told {
    Told::Request(method, none(), content, false)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const PIECES: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n";
const REST: &str = "HTTP/1.1 200 OK\r\n\r\nall that comes";
const OF_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
const CLOSES: &str = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
const SWITCHES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nnot HTTP";

/// What a client says, and what it is sent in return.
fn asked() -> Vec<(String, Script)> {
    let get = || request("GET", Content::Empty);
    vec![
        (String::new(), vec![]),
        ("x".into(), vec![]),
        (OK.into(), vec![(0, get())]),
        ([OK, PIECES, REST].concat(), vec![(0, get()), (3, get()), (6, get())]),
        (
            [HINTS, OF_HEAD, UNCHANGED, OK].concat(),
            vec![(0, request("HEAD", Content::Empty)), (3, get()), (5, get())],
        ),
        ([OK, OK].concat(), vec![(0, get())]),
        (OK.into(), vec![(0, Told::Request("GET", none(), Content::Empty, true))]),
        ([OK, "x"].concat(), vec![(0, Told::Request("GET", none(), Content::Empty, true))]),
        // Content, before the answer and behind it.
        (
            [OK, OK].concat(),
            vec![
                (0, request("PUT", Content::Length(9))),
                (0, data("abcd")),
                (1, Told::Shared(Bytes::from_static(b"ef"))),
                (3, Told::File(3)),
                (3, Told::End(none())),
                (3, get()),
            ],
        ),
        (
            [OK, OK].concat(),
            vec![
                (0, request("PUT", Content::Unknown)),
                (0, data("abcd")),
                (0, Told::End(trailers())),
                (3, request("POST", Content::Whole(Bytes::from(vec![b'x'; 5000])))),
            ],
        ),
        (CLOSES.into(), vec![(0, request("PUT", Content::Unknown)), (0, data("abcd"))]),
        (SWITCHES.into(), vec![(0, Told::Request("GET", upgrade(), Content::Empty, false))]),
        (OK.into(), vec![(0, Told::Request("GET", upgrade(), Content::Empty, false))]),
        (SWITCHES.into(), vec![(0, get())]),
        ([OF_HEAD, "not HTTP"].concat(), vec![(0, request("CONNECT", Content::Empty))]),
        (
            ["HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", OK].concat(),
            vec![(0, request("CONNECT", Content::Empty)), (3, get())],
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".into(), vec![(0, get())]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".into(), vec![(0, get())]),
        ("HTTP/1.0 200 OK\r\n\r\nold".into(), vec![(0, get())]),
    ]
}

#[test]
fn a_server_keeps_the_laws() {
    for (wire, script) in served() {
        let broken = server(&script).check(wire.as_bytes()).err();
        assert!(broken.is_none(), "{wire:?}, {script:?}: {broken:#?}");
    }
}

#[test]
fn a_client_keeps_the_laws() {
    for (wire, script) in asked() {
        let broken = client(&script).check(wire.as_bytes()).err();
        assert!(broken.is_none(), "{wire:?}, {script:?}: {broken:#?}");
    }
}

/// Commands of all kinds, some of which are refused wherever they are given.
fn commands() -> Vec<Told> {
    vec![
        Told::Inform(100),
        Told::Inform(103),
        Told::Inform(200),
        Told::Inform(101),
        ok(Content::Empty),
        ok(Content::Length(4)),
        Told::Respond(103, none(), Content::Empty),
        Told::Respond(101, none(), Content::Empty),
        Told::Respond(101, upgrade(), Content::Empty),
        request("GET", Content::Empty),
        request("GET me", Content::Empty),
        request("TRACE", whole("no")),
        data("more"),
        Told::Data(Bytes::from(vec![b'x'; 100])),
        Told::File(3),
        Told::File(u64::MAX),
        Told::End(none()),
    ]
}

#[test]
fn what_is_refused_changes_nothing() {
    for (wire, script) in served() {
        let broken = server(&script).refusals(wire.as_bytes(), &commands()).err();
        assert!(broken.is_none(), "{wire:?}, {script:?}: {broken:#?}");
    }
    for (wire, script) in asked() {
        let broken = client(&script).refusals(wire.as_bytes(), &commands()).err();
        assert!(broken.is_none(), "{wire:?}, {script:?}: {broken:#?}");
    }
}

#[test]
fn between_messages_nothing_is_held() {
    let script = vec![(1, ok(whole("a"))), (2, ok(whole("b"))), (5, ok(Content::Empty))];
    server(&script).idle(&[GET.as_bytes(), GET.as_bytes(), POST.as_bytes()]).unwrap();
    let get = || request("GET", Content::Empty);
    let script = vec![(0, get()), (3, get())];
    client(&script).idle(&[OK.as_bytes(), PIECES.as_bytes()]).unwrap();
}
