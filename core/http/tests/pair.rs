//! Both roles, wired to each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semfio_http::{
    Body, Client, ClientCommand, ClientEvent, FieldsBuf, Method, Server, ServerCommand,
    ServerEvent, Status,
};
use semfio_machine::Closed;
use semfio_sim::{Pair, Side};

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
