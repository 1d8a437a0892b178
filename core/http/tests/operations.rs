//! Both sides under anything that a host, a peer and an application may do, in any order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use semfio_http::{Body, Client, ClientCommand, FieldsBuf, Method, Server, ServerCommand, Status};
use semfio_machine::{FileId, FileSpan, Input, Now, Outbox, Step, StreamMachine};

#[derive(Clone, Debug)]
enum Operation {
    /// So many octets of what the peer has to say arrive.
    Receive(usize),
    /// The peer has something else to say.
    Say(&'static str),
    Eof,
    Command(Said),
    /// So many seconds pass; what is due is done, or is late.
    Pass(u64, bool),
    Drain(usize),
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Inform(u16),
    Respond(u16, usize),
    Request(&'static str, usize, bool),
    Data(usize),
    File(u64),
    End,
    Finish,
}

const SERVED: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789",
    "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\nExpect: 100-continue\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "5\r\nabcde\r\n",
    "0\r\nA: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "\r\n",
    "x",
];

const ASKED: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "5\r\nabcde\r\n",
    "0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "x",
];

const BODIES: usize = 5;

/// One of the kinds of content.
fn with_body<T>(kind: usize, then: impl FnOnce(Body<'_>) -> T) -> T {
    match kind % BODIES {
        0 => then(Body::Empty),
        1 => then(Body::Whole(&Bytes::from(vec![b'w'; 6000]))),
        2 => then(Body::File(FileSpan { file: FileId(0), offset: 0, len: 9 })),
        3 => then(Body::Length(8)),
        _ => then(Body::Unknown),
    }
}

fn operations(
    wire: &'static [&'static str],
    said: Vec<Said>,
) -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        4 => (1..200_usize).prop_map(Operation::Receive),
        3 => select(wire).prop_map(Operation::Say),
        4 => select(said).prop_map(Operation::Command),
        1 => Just(Operation::Eof),
        2 => (0..40_u64, any::<bool>()).prop_map(|(it, late)| Operation::Pass(it, late)),
        2 => (0..5000_usize).prop_map(Operation::Drain),
    ];
    vec(one, 0..40)
}

/// Drives a machine; `command` gives it a command.
fn drive<M: StreamMachine>(
    mut machine: M,
    all: &[Operation],
    mut command: impl FnMut(&mut M, Now, Said, &mut Outbox) -> bool,
) -> Result<(), TestCaseError> {
    let (mut out, mut now) = (Outbox::default(), Now::default());
    let (mut coming, mut untaken, mut eof) = (Vec::new(), Vec::new(), false);
    let mut ended: Option<Result<(), M::Error>> = None;
    for operation in all {
        match operation {
            Operation::Receive(n) if !eof => {
                let n = (*n).min(coming.len());
                untaken.extend(coming.drain(..n));
            }
            Operation::Say(text) => coming.extend_from_slice(text.as_bytes()),
            Operation::Eof => eof = true,
            Operation::Command(said) => {
                if ended.is_none() {
                    let before = (machine.state(), machine.poll_timeout(), out.total());
                    if !command(&mut machine, now, *said, &mut out) {
                        let after = (machine.state(), machine.poll_timeout(), out.total());
                        prop_assert_eq!(before, after);
                    }
                }
            }
            Operation::Pass(seconds, late) => {
                now.mono = now.mono.saturating_add(Duration::from_secs(*seconds));
                if *late || machine.poll_timeout().is_some_and(|it| it.at <= now.mono) {
                    machine.handle_timeout(now, &mut out);
                    prop_assert!(machine.poll_timeout().is_none_or(|it| it.at > now.mono));
                }
            }
            Operation::Drain(n) => out.advance(*n),
            Operation::Receive(_) => {}
        }
        let mut input = Input::new(&mut untaken, 0, eof);
        for steps in 0.. {
            prop_assert!(steps < 10_000, "events without end");
            let total = out.total();
            match machine.handle_input(now, &mut input, &mut out) {
                Ok(Step::Event(_)) => {
                    prop_assert!(ended.is_none(), "an event behind the end");
                    continue;
                }
                Ok(Step::NeedInput(n)) => {
                    prop_assert!(!eof && n > 0 && ended.is_none());
                    prop_assert!(input.len() < machine.max_unit());
                }
                Ok(Step::NeedRoom) => prop_assert!(!out.is_empty() && ended.is_none()),
                Ok(Step::NeedCommand) => prop_assert!(ended.is_none()),
                Ok(Step::Done) => {
                    prop_assert!(ended.as_ref().is_none_or(Result::is_ok));
                    ended = Some(Ok(()));
                    prop_assert_eq!(machine.poll_timeout(), None);
                }
                Err(error) => {
                    if let Some(before) = &ended {
                        prop_assert!(*before == Err(error.clone()) && out.total() == total);
                    }
                    ended = Some(Err(error));
                    prop_assert_eq!(machine.poll_timeout(), None);
                }
            }
            break;
        }
        let left = input.untaken();
        untaken = untaken[left].to_vec();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_server_stands_it(all in operations(SERVED, vec![
        Said::Inform(100), Said::Inform(103), Said::Respond(200, 0), Said::Respond(200, 1),
        Said::Respond(304, 2), Said::Respond(200, 3), Said::Respond(200, 4), Said::Respond(101, 0),
        Said::Data(4), Said::Data(70_000), Said::File(4), Said::End, Said::Finish,
    ])) {
        let fields = FieldsBuf::new().with("Upgrade", "x").unwrap();
        drive(Server::new(Arc::default()), &all, |server, now, said, out| {
            let fields = &fields;
            match said {
                Said::Inform(code) => {
                    let status = Status::new(code).unwrap();
                    server.handle_command(now, ServerCommand::Inform { status, fields }, out)
                }
                Said::Respond(code, kind) => with_body(kind, |body| {
                    let status = Status::new(code).unwrap();
                    server.handle_command(now, ServerCommand::Respond { status, fields, body }, out)
                }),
                Said::Data(n) => server.handle_command(now, ServerCommand::Data(&vec![b'd'; n]), out),
                Said::File(len) => {
                    let span = FileSpan { file: FileId(0), offset: 0, len };
                    server.handle_command(now, ServerCommand::File(span), out)
                }
                Said::End => server.handle_command(now, ServerCommand::End(fields), out),
                Said::Finish | Said::Request(..) => {
                    server.handle_command(now, ServerCommand::Finish, out)
                }
            }
            .is_ok()
        })?;
    }

    #[test]
    fn a_client_stands_it(all in operations(ASKED, vec![
        Said::Request("GET", 0, false), Said::Request("HEAD", 0, true), Said::Request("PUT", 1, false),
        Said::Request("PUT", 2, false), Said::Request("PUT", 3, false), Said::Request("PUT", 4, false),
        Said::Request("CONNECT", 0, false), Said::Data(4), Said::Data(70_000), Said::File(4), Said::End,
    ])) {
        let fields = FieldsBuf::new().with("Upgrade", "x").unwrap();
        drive(Client::new(Arc::default()), &all, |client, now, said, out| {
            let fields = &fields;
            match said {
                Said::Request(method, kind, close) => with_body(kind, |body| {
                    let (method, target, authority) = (Method::new(method), "/", "a");
                    client.handle_command(
                        now,
                        ClientCommand::Request { method, target, authority, fields, body, close },
                        out,
                    )
                }),
                Said::Data(n) => client.handle_command(now, ClientCommand::Data(&vec![b'd'; n]), out),
                Said::File(len) => {
                    let span = FileSpan { file: FileId(0), offset: 0, len };
                    client.handle_command(now, ClientCommand::File(span), out)
                }
                _ => client.handle_command(now, ClientCommand::End(fields), out),
            }
            .is_ok()
        })?;
    }
}
