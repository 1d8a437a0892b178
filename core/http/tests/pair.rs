//! Both roles, wired to each other.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use semfio_http::{
    Body, Client, ClientCommand, ClientEvent, FieldsBuf, Method, Rule, Server, ServerCommand,
    ServerEvent, Status,
};
use semfio_machine::{Closed, FileId, FileSpan};
use semfio_sim::{LinkConfig, Pair, Side};

/// What either side is told, kept; pieces are put together by [`told`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Request(String),
    Inform(u16),
    Response(u16),
    Data(Vec<u8>),
    End(Vec<(String, Vec<u8>)>),
}

fn fields(fields: semfio_http::Fields<'_>) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|it| (it.name.to_string(), it.value.to_vec())).collect()
}

fn of_client(event: ClientEvent<'_>) -> Told {
    match event {
        ClientEvent::Inform(response) => Told::Inform(response.status.code()),
        ClientEvent::Response(response) => Told::Response(response.status.code()),
        ClientEvent::Data(data) => Told::Data(data.to_vec()),
        ClientEvent::End(trailers) => Told::End(fields(trailers)),
    }
}

fn of_server(event: ServerEvent<'_>) -> Told {
    match event {
        ServerEvent::Request(request) => Told::Request(request.method.to_string()),
        ServerEvent::Data(data) => Told::Data(data.to_vec()),
        ServerEvent::End(trailers) => Told::End(fields(trailers)),
    }
}

const SECOND: Duration = Duration::from_secs(1);

type Wired = Pair<Client, Server, Told>;

fn wired() -> Wired {
    let (client, server) = (Client::new(Arc::default()), Server::new(Arc::default()));
    Pair::new(client, server, 1, of_client, of_server)
}

/// What one side was told since the last call, pieces of content put together.
fn told(pair: &Wired, side: Side, from: &mut usize) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for event in pair.events(side).skip(*from) {
        *from += 1;
        match (all.last_mut(), event) {
            (Some(Told::Data(old)), Told::Data(new)) => old.extend(new),
            _ => all.push(event.clone()),
        }
    }
    all
}

fn request<'c>(method: Method<'c>, fields: &'c FieldsBuf, body: Body<'c>) -> ClientCommand<'c> {
    ClientCommand::Request { method, target: "/", authority: "a", fields, body, close: false }
}

#[test]
fn an_exchange_and_another() {
    let none = FieldsBuf::new();
    let mut pair = wired();
    let (mut a, mut b) = (0, 0);
    for n in 0..3 {
        let content = Bytes::from(vec![b'x'; n * 3000]);
        pair.command_a(request(Method::Post, &none, Body::Unknown)).unwrap();
        pair.command_a(ClientCommand::Shared(&content)).unwrap();
        let trailers = FieldsBuf::new().with("X-Sum", "1").unwrap();
        pair.command_a(ClientCommand::End(&trailers)).unwrap();
        pair.run_for(SECOND).unwrap();
        let mut expected = vec![Told::Request("POST".into())];
        if n > 0 {
            expected.push(Told::Data(content.to_vec()));
        }
        expected.push(Told::End(vec![("X-Sum".into(), b"1".to_vec())]));
        assert_eq!(told(&pair, Side::B, &mut b), expected);

        let (status, fields) = (Status::OK, &none);
        pair.command_b(ServerCommand::Inform { status: Status::EARLY_HINTS, fields }).unwrap();
        let body = Body::Whole(&content);
        pair.command_b(ServerCommand::Respond { status, fields, body }).unwrap();
        pair.run_for(SECOND).unwrap();
        let mut expected = vec![Told::Inform(103), Told::Response(200)];
        if n > 0 {
            expected.push(Told::Data(content.to_vec()));
        }
        expected.push(Told::End(vec![]));
        assert_eq!(told(&pair, Side::A, &mut a), expected);
        assert!(pair.machine_a().is_idle());
    }
    pair.close(Side::A);
    pair.run_for(SECOND).unwrap();
    assert_eq!(pair.ended_b(), Some(&Closed::Done));
}

/// One exchange, as it is drawn.
#[derive(Clone, Debug)]
struct Drawn {
    method: &'static str,
    sent: Content,
    status: u16,
    answered: Content,
    /// Interim responses before the answer.
    hints: usize,
    /// The answer is begun before the request's content has come.
    early: bool,
    close: bool,
}

/// Content, and how it is said to be framed.
#[derive(Clone, Debug)]
enum Content {
    Empty,
    Whole(Vec<u8>),
    File(usize),
    /// In pieces, and whether their length is told.
    Pieces(Vec<Vec<u8>>, bool),
}

const FILE: FileId = FileId(1);

/// The file that both sides have.
fn file() -> Vec<u8> {
    (0..20_000_u32).map(|n| (n % 251) as u8).collect()
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::Whole(bytes) => bytes.clone(),
            Self::File(len) => file()[..*len].to_vec(),
            Self::Pieces(pieces, _) => pieces.concat(),
        }
    }

    /// Gives its head and its pieces to whoever sends them.
    fn send<'c>(
        &'c self,
        head: impl FnOnce(Body<'_>),
        mut piece: impl FnMut(&'c [u8]),
        end: impl FnOnce(),
    ) {
        match self {
            Self::Empty => head(Body::Empty),
            Self::Whole(bytes) => head(Body::Whole(&Bytes::from(bytes.clone()))),
            Self::File(len) => {
                head(Body::File(FileSpan { file: FILE, offset: 0, len: *len as u64 }));
            }
            Self::Pieces(pieces, told) => {
                let len = pieces.iter().map(Vec::len).sum::<usize>() as u64;
                head(if *told { Body::Length(len) } else { Body::Unknown });
                pieces.iter().for_each(|it| piece(it));
                end();
            }
        }
    }
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    prop_oneof![
        Just(Content::Empty),
        bytes(9000).prop_map(Content::Whole),
        (0..20_000_usize).prop_map(Content::File),
        (vec(bytes(3000), 0..5), any::<bool>()).prop_map(|(it, told)| Content::Pieces(it, told)),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]),
        content(),
        select(vec![200, 204, 304, 404, 500]),
        content(),
        0..3_usize,
        any::<bool>(),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(method, sent, status, answered, hints, early, close)| Drawn {
            method,
            sent,
            status,
            answered,
            hints,
            early,
            close,
        })
}

/// What is sent arrives, however it is cut: rough links delay and cut at random.
fn exchange(all: &[Drawn], seed: u64) -> Result<(), TestCaseError> {
    let none = FieldsBuf::new();
    let (client, server) = (Client::new(Arc::default()), Server::new(Arc::default()));
    // Rough, but not so slow that it would be too slow for the limits.
    let link = |seed| {
        let rough = LinkConfig::rough(seed);
        LinkConfig { window: rough.window.max(4096), bandwidth: None, ..rough }
    };
    let mut pair = Pair::new(client, server, seed, of_client, of_server)
        .with_links(link(seed), link(seed.wrapping_add(1)));
    pair.put_file(Side::A, FILE, file());
    pair.put_file(Side::B, FILE, file());
    let (mut a, mut b) = (0, 0);
    for drawn in all {
        let Drawn { method, sent, status, answered, hints, early, close } = drawn;
        let cell = RefCell::new(&mut pair);
        sent.send(
            |body| {
                let command = ClientCommand::Request {
                    method: Method::new(method),
                    target: "/x?y",
                    authority: "a:80",
                    fields: &none,
                    body,
                    close: *close,
                };
                cell.borrow_mut().command_a(command).unwrap();
            },
            |piece| cell.borrow_mut().command_a(ClientCommand::Data(piece)).unwrap(),
            || cell.borrow_mut().command_a(ClientCommand::End(&none)).unwrap(),
        );
        let mut seen = Vec::new();
        let wanted = |seen: &[Told]| match early {
            true => !seen.is_empty(),
            false => matches!(seen.last(), Some(Told::End(_))),
        };
        for _ in 0..2000 {
            pair.run_for(SECOND / 100).unwrap();
            seen.extend(told(&pair, Side::B, &mut b));
            if wanted(&seen) {
                break;
            }
        }
        prop_assert!(wanted(&seen), "{} of it, {:?}", seen.len(), pair.ended_b());
        prop_assert_eq!(&seen[0], &Told::Request((*method).into()));
        let status = Status::new(*status).unwrap();
        for _ in 0..*hints {
            let status = Status::EARLY_HINTS;
            pair.command_b(ServerCommand::Inform { status, fields: &none }).unwrap();
        }
        let silent = *method == "HEAD" || status.forbids_content();
        let cell = RefCell::new(&mut pair);
        answered.send(
            |body| {
                let respond = ServerCommand::Respond { status, fields: &none, body };
                cell.borrow_mut().command_b(respond).unwrap();
            },
            |piece| {
                let sent = cell.borrow_mut().command_b(ServerCommand::Data(piece));
                assert_eq!(sent.is_err(), silent);
            },
            || {
                let sent = cell.borrow_mut().command_b(ServerCommand::End(&none));
                assert_eq!(sent.is_err(), silent);
            },
        );
        let mut back = Vec::new();
        for _ in 0..2000 {
            pair.run_for(SECOND / 100).unwrap();
            seen.extend(told(&pair, Side::B, &mut b));
            back.extend(told(&pair, Side::A, &mut a));
            if matches!(back.last(), Some(Told::End(_))) {
                break;
            }
        }
        let joined = |all: &[Told]| -> Vec<u8> {
            let data = all.iter().filter_map(|it| match it {
                Told::Data(data) => Some(data.clone()),
                _ => None,
            });
            data.flatten().collect()
        };
        prop_assert!(
            matches!(back.last(), Some(Told::End(_))),
            "{} of it, {:?}",
            back.len(),
            pair.ended_a()
        );
        let informed = back.iter().filter(|it| **it == Told::Inform(103)).count();
        prop_assert_eq!(informed, *hints);
        prop_assert!(back.contains(&Told::Response(status.code())));
        let expected = if silent { Vec::new() } else { answered.bytes() };
        prop_assert!(joined(&back) == expected);
        // Of a request that was answered early the rest may not be told.
        let (heard, said) = (joined(&seen), sent.bytes());
        let same = if *early { said.starts_with(&heard) } else { said == heard };
        prop_assert!(same);
        if *close || pair.ended_a().is_some() {
            prop_assert!(*close || *early, "{:?}", pair.ended_b());
            break;
        }
        pair.run_for(SECOND).unwrap();
        // The rest of a long request may have been too much to read away.
        if pair.ended_b().is_some() {
            prop_assert!(*early);
            break;
        }
        prop_assert!(pair.machine_a().is_idle());
    }
    pair.drive().unwrap();
    prop_assert!(
        matches!(pair.ended_a(), Some(Closed::Done | Closed::Failed(_))),
        "{:?}",
        pair.ended_a()
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn what_is_sent_arrives(all in vec(drawn(), 1..6), seed in any::<u64>()) {
        exchange(&all, seed)?;
    }
}

#[test]
fn the_connection_ends_where_it_must_not() {
    let none = FieldsBuf::new();
    // The content of an answer is broken off.
    let mut pair = wired();
    pair.command_a(request(Method::Get, &none, Body::Empty)).unwrap();
    pair.run_for(SECOND).unwrap();
    let body = Body::Length(9);
    pair.command_b(ServerCommand::Respond { status: Status::OK, fields: &none, body }).unwrap();
    pair.command_b(ServerCommand::Data(b"abc")).unwrap();
    pair.close(Side::B);
    pair.run_for(SECOND).unwrap();
    let rule = match pair.ended_a() {
        Some(Closed::Error(error)) => Some(error.rule),
        _ => None,
    };
    assert_eq!(rule, Some(Rule::ContentShort));
    assert!(!pair.events(Side::A).any(|it| matches!(it, Told::End(_))));
    // A reset in the middle of a request.
    let mut pair = wired();
    pair.command_a(request(Method::Put, &none, Body::Length(9))).unwrap();
    pair.command_a(ClientCommand::Data(b"abc")).unwrap();
    pair.run_for(SECOND).unwrap();
    pair.reset(Side::A);
    pair.run_for(SECOND).unwrap();
    assert!(matches!(pair.ended_b(), Some(Closed::Failed(_))), "{:?}", pair.ended_b());
    assert!(!pair.events(Side::B).any(|it| matches!(it, Told::End(_))));
    assert_eq!(pair.buffered(Side::B), 0);
}
