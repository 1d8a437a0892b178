//! Files where both sides know a passphrase: what is told, to whom, and what is not.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use semfio_file::tree::Hash;
use semfio_file::wire::{ErrorCode, Kind, MAX_FRAME, Message, Meta, PREFACE};
use semfio_file::{
    Fetch, FetchConfig, FetchError, FetchReport, Listing, ListingConfig, ListingReport, Lost,
    MAX_JOBS, MAX_RECORD, Piece, Pour, PourConfig, PourMessage, PourReport, PutLimits,
    RECORD_HEADER, RECORD_TAG, Repository, RepositoryConfig, RepositoryReport, Secret, Session,
    SessionCommand, SessionError, SessionEvent, Upload, UploadConfig, UploadItem, UploadReport,
};
use semfio_keysync::{CONFIRM, Passphrase, REPLY, START};
use semfio_machine::{
    Chunk, FileId, FileSpan, Input, NetLimits, Now, Outbox, Refused, RootId, Seed, Shard, Step,
    StreamMachine, Target,
};
use semfio_path::{Policy, SafeName};
use semfio_sim::laws::{Act, Subject};
use semfio_sim::{LinkConfig, Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const GROUP: usize = 65_536;
const NAME: &str = "iguana-secreta.jpg";
const HASH: Hash = Hash([7; 32]);

fn secret(passphrase: &str, seed: u64) -> Secret {
    Secret::new(Passphrase::new(passphrase.as_bytes()), Seed::from_u64(seed))
}

// Two sessions, and somebody between them.

/// One side, and what it heard.
struct End {
    session: Session,
    secret: Secret,
    out: Outbox,
    input: Vec<u8>,
    eof: bool,
    heard: Vec<String>,
    error: Option<SessionError>,
    done: bool,
}

impl End {
    fn new(session: Session, secret: Secret) -> Self {
        let out = Outbox::new(Outbox::MARK);
        let (input, heard) = (Vec::new(), Vec::new());
        Self { session, secret, out, input, eof: false, heard, error: None, done: false }
    }

    fn client(passphrase: &str) -> Self {
        let secret = secret(passphrase, 1);
        Self::new(Session::dial_sealed(&secret, 0), secret)
    }

    fn server(passphrase: &str) -> Self {
        Self::new(Session::serve_sealed(true), secret(passphrase, 2))
    }

    fn turn(&mut self) {
        loop {
            let mut input = std::mem::take(&mut self.input);
            let mut view = Input::new(&mut input, 0, self.eof);
            let step = self.session.handle_input(Now::default(), &mut view, &mut self.out);
            let mut agrees = false;
            let goes_on = match step {
                Ok(Step::Event(event)) => {
                    agrees = event == SessionEvent::Agreeing;
                    self.heard.push(format!("{event:?}"));
                    true
                }
                Ok(step) => {
                    self.done = step == Step::Done;
                    false
                }
                Err(error) => {
                    self.error = Some(error);
                    false
                }
            };
            let untaken = view.untaken();
            self.input = input[untaken].to_vec();
            if agrees {
                let agree = SessionCommand::Agree(&self.secret, 0);
                self.session.handle_command(Now::default(), agree, &mut self.out).unwrap();
            }
            if !goes_on {
                return;
            }
        }
    }

    fn say(&mut self, command: SessionCommand<'_>) -> Result<(), Refused> {
        self.session.handle_command(Now::default(), command, &mut self.out)
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.out.is_empty() {
            let n = match self.out.chunks().next().unwrap() {
                Chunk::Bytes(chunk) => {
                    bytes.extend_from_slice(chunk);
                    chunk.len()
                }
                other => panic!("{other:?}"),
            };
            self.out.advance(n);
        }
        bytes
    }
}

const META: Meta = Meta { kind: Kind::File, size: 9, modified: 3 };
const CONTENT: &[u8] = b"what nobody may read on the way";

/// A dialogue over both directions, as far as it goes. `between` may change what is sent: 0 and 1 are
/// what the client sends, 1 is sent after 0...
fn dialogue(client: &mut End, server: &mut End, mut between: impl FnMut(usize, &mut Vec<u8>)) {
    for flight in 0..8 {
        let (from, to) = if flight % 2 == 0 {
            (&mut *client, &mut *server)
        } else {
            (&mut *server, &mut *client)
        };
        from.turn();
        // Refused where the agreement has failed.
        let _ =
            match flight {
                4 => from.say(SessionCommand::Message(&Message::Stat {
                    tag: 1,
                    hashed: true,
                    name: NAME,
                })),
                5 => from
                    .say(SessionCommand::Message(&Message::Meta {
                        tag: 1,
                        meta: META,
                        hash: Some(HASH),
                    }))
                    .and(from.say(SessionCommand::Body(&[
                        Piece::Bytes(b"pairs"),
                        Piece::Bytes(CONTENT),
                    ])))
                    .and(from.say(SessionCommand::Message(&Message::Done { tag: 1, hash: HASH }))),
                6 => from.say(SessionCommand::Message(&Message::Bye)),
                _ => Ok(()),
            };
        let mut bytes = from.drain();
        between(flight, &mut bytes);
        to.input.extend_from_slice(&bytes);
    }
    for end in [client, server] {
        end.turn();
        end.eof = true;
        end.turn();
    }
}

/// What was heard and sent by two who agree.
fn honest() -> (Vec<String>, Vec<String>, Vec<Vec<u8>>) {
    let (mut client, mut server) = (End::client("praia"), End::server("praia"));
    let mut flights = Vec::new();
    dialogue(&mut client, &mut server, |_, bytes| flights.push(bytes.clone()));
    assert_eq!((client.error, server.error), (None, None));
    assert!(server.done && client.done);
    (client.heard, server.heard, flights)
}

fn records(mut flight: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some(&[a, b, c]) = flight.first_chunk() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let (record, rest) = flight.split_at(RECORD_HEADER + len + RECORD_TAG);
        records.push(record);
        flight = rest;
    }
    records
}

#[test]
fn two_who_agree_tell_all_and_the_wire_shows_nothing() {
    let (client, server, flights) = honest();
    let stat = format!("Message(Stat {{ tag: 1, hashed: true, name: {NAME:?} }})");
    assert_eq!(server, ["Agreeing", "Greeted", &stat]);
    assert_eq!(client.len(), 4, "{client:?}");
    let start = PREFACE.len() + 4 + START;
    assert_eq!(flights[0].len(), start);
    assert_eq!(flights[1].len(), PREFACE.len() + 4 + REPLY);
    let [four, five] = [&flights[4], &flights[5]].map(|flight| records(flight));
    assert_eq!((four.len(), five.len()), (1, 3));
    let all = flights.concat();
    for text in [NAME.as_bytes(), CONTENT, b"iguana", &HASH.0, b"praia"] {
        assert!(!all.windows(text.len()).any(|window| window == text));
    }
    // Behind START, REPLY and CONFIRM there is nothing that looks like a frame.
    assert_eq!(records(&flights[2][4 + CONFIRM..]).len(), 1);
}

#[test]
fn a_bit_that_flips_anywhere_ends_it_and_nothing_wrong_is_heard() {
    let (client_heard, server_heard, flights) = honest();
    let mut flips = 0;
    for (flight, bytes) in flights.iter().enumerate() {
        for at in 0..bytes.len() {
            // All bits of the agreement, one of each octet of the records.
            for bit in if flight < 3 { 0..8 } else { at % 8..at % 8 + 1 } {
                let (mut client, mut server) = (End::client("praia"), End::server("praia"));
                dialogue(&mut client, &mut server, |now, bytes| {
                    if now == flight {
                        bytes[at] ^= 1 << bit;
                    }
                });
                flips += 1;
                let place = format!("flight {flight}, octet {at}, bit {bit}");
                // The farewell may say why, and where the agreement failed that is in clear.
                let told = |end: &End| {
                    let told = end.heard.iter().filter(|what| !what.contains("Error { tag: 0"));
                    told.cloned().collect::<Vec<_>>()
                };
                let heard = (told(&client), told(&server));
                assert!(client_heard.starts_with(&heard.0), "{place}: {heard:?}");
                assert!(server_heard.starts_with(&heard.1), "{place}: {heard:?}");
                let failed = client.error.is_some() || server.error.is_some();
                assert!(failed, "{place}");
                // All but HELLO behind CONFIRM.
                if flight < 3 {
                    assert!(!heard.1.contains(&"Greeted".to_owned()), "{place}: {heard:?}");
                    assert!(heard.0.is_empty(), "{place}: {heard:?}");
                }
            }
        }
    }
    assert!(flips > 1_000, "{flips}");
}

#[test]
fn who_does_not_know_the_passphrase_hears_nothing() {
    let (mut client, mut server) = (End::client("praia"), End::server("Praia"));
    let mut flights = Vec::new();
    dialogue(&mut client, &mut server, |_, bytes| flights.push(bytes.clone()));
    assert_eq!(client.error, Some(SessionError::Passphrase));
    assert_eq!(server.error, Some(SessionError::Passphrase));
    assert_eq!((client.heard, server.heard), (vec![], vec!["Agreeing".to_owned()]));
    // Who goes on without knowing it sends what does not confirm.
    let (mut client, mut server) = (End::client("praia"), End::server("Praia"));
    dialogue(&mut client, &mut server, |flight, bytes| {
        if flight == 2 {
            *bytes = BytesMut::new().to_vec();
            let mut frame = BytesMut::new();
            Message::Confirm(&[0; CONFIRM]).put(&mut frame);
            bytes.extend_from_slice(&frame);
        }
    });
    assert_eq!(server.error, Some(SessionError::Passphrase));
    assert_eq!(server.heard, ["Agreeing"]);
}

#[test]
fn a_start_that_is_no_point_is_a_wrong_guess() {
    let (mut client, mut server) = (End::client("praia"), End::server("praia"));
    dialogue(&mut client, &mut server, |flight, bytes| {
        if flight == 0 {
            bytes[PREFACE.len() + 5..].fill(0xFF);
        }
    });
    assert_eq!(server.error, Some(SessionError::Passphrase));
    assert_eq!(server.heard, ["Agreeing"]);
}

/// What the client heard, and both errors, if the server's answers are changed so.
fn answers(change: impl Fn(&[Vec<u8>], &[Vec<u8>]) -> Vec<u8>) -> (usize, Option<SessionError>) {
    let (mut client, mut server) = (End::client("praia"), End::server("praia"));
    let mut asked = Vec::new();
    dialogue(&mut client, &mut server, |flight, bytes| {
        let own = |bytes: &[u8]| records(bytes).into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        if flight == 4 {
            asked = own(bytes);
        }
        if flight == 5 {
            *bytes = change(&own(bytes), &asked);
        }
    });
    (client.heard.len(), client.error)
}

#[test]
fn records_that_are_moved_repeated_dropped_or_reflected_do_not_open() {
    let forged = Some(SessionError::Forged);
    assert_eq!(answers(|own, _| own.concat()), (4, None));
    assert_eq!(answers(|own, _| [&own[0][..], &own[0], &own[1], &own[2]].concat()), (2, forged));
    assert_eq!(answers(|own, _| [&own[1][..], &own[0], &own[2]].concat()), (1, forged));
    assert_eq!(answers(|own, _| [&own[0][..], &own[2]].concat()), (2, forged));
    assert_eq!(answers(|own, _| own[1..].concat()), (1, forged));
    assert_eq!(answers(|_, asked| asked.concat()), (1, forged));
    // Of another connection between the same two.
    let (_, _, other) = {
        let (mut client, mut server) = (End::client("praia"), End::server("praia"));
        server.secret = secret("praia", 3);
        let mut flights = Vec::new();
        dialogue(&mut client, &mut server, |_, bytes| flights.push(bytes.clone()));
        (client, server, flights)
    };
    assert_eq!(answers(|_, _| other[5].clone()), (1, forged));
    // Cut off within a record, and between two: there the answer has no end, and nobody says it has.
    assert_eq!(
        answers(|own, _| own[0][..own[0].len() - 1].to_vec()),
        (1, Some(SessionError::Torn))
    );
    assert_eq!(answers(|own, _| own[..2].concat()), (3, None));
    // Lengths no record has.
    let long = [&(MAX_RECORD as u32 + 1).to_be_bytes()[1..], &[0; 40]].concat();
    let error = SessionError::Record(MAX_RECORD + 1);
    assert_eq!(answers(move |_, _| long.clone()), (1, Some(error)));
    assert_eq!(answers(|_, _| vec![0; 40]), (1, Some(SessionError::Record(0))));
}

#[test]
fn a_span_of_a_file_does_not_leave_in_clear() {
    let (mut client, mut server) = (End::client("praia"), End::server("praia"));
    dialogue(&mut client, &mut server, |_, _| ());
    let (mut client, mut server) = (End::client("praia"), End::server("praia"));
    for _ in 0..3 {
        client.turn();
        server.input.extend_from_slice(&client.drain());
        server.turn();
        client.input.extend_from_slice(&server.drain());
    }
    assert!(server.session.is_sealed() && client.session.is_sealed());
    let span = FileSpan { file: FileId(0), offset: 0, len: 1_000 };
    let body = SessionCommand::Body(&[Piece::Bytes(b"pairs"), Piece::Span(span)]);
    assert!(matches!(server.say(body), Err(Refused::Invalid(_))));
    assert!(server.out.is_empty());
    // And the largest frames there are come over.
    let large = vec![7; 1024 * 1024];
    server.say(SessionCommand::Body(&[Piece::Bytes(&large)])).unwrap();
    let sent = server.drain();
    assert!(records(&sent).iter().all(|r| r.len() <= RECORD_HEADER + MAX_RECORD + RECORD_TAG));
    client.input = sent;
    client.turn();
    assert_eq!((client.error, client.input.len()), (None, 0));
}

// The laws.

#[derive(Clone, Debug)]
enum Told {
    Agree(Arc<Secret>),
    TurnAway,
    Message(Message<'static>),
}

fn command(told: &Told) -> SessionCommand<'_> {
    match told {
        Told::Agree(secret) => SessionCommand::Agree(secret, 0),
        Told::TurnAway => SessionCommand::TurnAway,
        Told::Message(message) => SessionCommand::Message(message),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Body(Vec<u8>),
    Other(String),
}

fn subject(
    new: impl Fn() -> Session + 'static,
    script: Vec<(usize, Act<Told>)>,
) -> Subject<'static, Session, Heard, Told> {
    let event = |event: SessionEvent<'_>| match event {
        SessionEvent::Body(bytes) => Heard::Body(bytes.to_vec()),
        other => Heard::Other(format!("{other:?}")),
    };
    let merge = |one: &mut Heard, two: &Heard| match (one, two) {
        (Heard::Body(one), Heard::Body(two)) => {
            one.extend_from_slice(two);
            true
        }
        _ => false,
    };
    // Records are opened where they lie; their lengths and tags are not the same bytes when sent.
    let same = |bytes: &[u8]| bytes.to_vec();
    Subject::new(new, event).with_merge(merge).as_layer(same).with_script(command, script)
}

fn every_other(flights: &[Vec<u8>], first: usize) -> Vec<u8> {
    flights.iter().skip(first).step_by(2).flatten().copied().collect()
}

#[test]
fn both_sides_keep_the_laws_however_records_are_cut() {
    let (_, _, flights) = honest();
    let asked = every_other(&flights, 0);
    let meta = Message::Meta { tag: 1, meta: META, hash: Some(HASH) };
    let script = vec![
        (1, Act::Command(Told::Agree(Arc::new(secret("praia", 2))))),
        (3, Act::Command(Told::Message(meta))),
    ];
    let server = subject(|| Session::serve_sealed(true), script);
    server.check(&asked).unwrap();
    for at in [0, 8, 12, 30, 50, 60, 90, 100, 140] {
        let mut wrong = asked.clone();
        wrong[at] ^= 1;
        server.check(&wrong).unwrap();
    }
    let away = vec![(1, Act::Command(Told::TurnAway))];
    subject(|| Session::serve_sealed(true), away).check(&asked).unwrap();
    let answered = every_other(&flights, 1);
    let client = || Session::dial_sealed(&secret("praia", 1), 0);
    subject(client, Vec::new()).check(&answered).unwrap();
    for at in [0, 8, 12, 30, 80, 90, 120, 200] {
        let mut wrong = answered.clone();
        wrong[at] ^= 1;
        subject(client, Vec::new()).check(&wrong).unwrap();
    }
    // Those who are told in clear what they must not say in clear.
    let mut clear = BytesMut::from(&PREFACE[..]);
    Message::Hello { max_frame: MAX_FRAME as u32 }.put(&mut clear);
    for wire in [&clear[..], b"GET iguana.jpg\n", b"GET / HTTP/1.1\r\n"] {
        subject(|| Session::serve_sealed(false), Vec::new()).check(wire).unwrap();
    }
    subject(|| Session::serve(true), Vec::new()).check(&asked).unwrap();
}

// Services.

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn name(name: &str) -> SafeName {
    SafeName::parse(name, Policy::default()).unwrap()
}

type ServerId = ShardId<Session, Repository>;

fn serve(net: &mut Network, passphrase: Option<&str>) -> ServerId {
    let config =
        RepositoryConfig { writable: Some(PutLimits::default()), ..RepositoryConfig::default() };
    let mut service = Repository::new(config);
    if let Some(passphrase) = passphrase {
        service = service.with_secret(secret(passphrase, 4));
    }
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn config(jobs: usize) -> FetchConfig {
    FetchConfig {
        target: Target::Address(address()),
        names: vec![name(NAME)],
        root: ROOT,
        save_as: None,
        replace: false,
        jobs,
        policy: Policy::default(),
        retries: 10,
    }
}

fn fetch(net: &mut Network, jobs: usize, passphrase: Option<&str>) -> ShardId<Session, Fetch> {
    let mut service = Fetch::new(config(jobs));
    if let Some(passphrase) = passphrase {
        service = service.with_secret(secret(passphrase, 5));
    }
    let client = net.add(CLIENT, Shard::new(service, NetLimits::default()));
    net.disk_mut(client).put_folder(ROOT, "");
    client
}

fn reports(net: &mut Network, client: ShardId<Session, Fetch>) -> Vec<FetchReport> {
    net.run_until(|net| net.is_over(client)).unwrap();
    net.take_reports(client).into_iter().map(|(_, report)| report).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

#[test]
fn every_length_arrives_over_any_link() {
    for jobs in [1, 3, MAX_JOBS] {
        for len in [0, 1, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP, 40 * GROUP + 5] {
            let content = pattern(len);
            let mut net = Network::new(1);
            net.set_default_link(LinkConfig {
                latency: Duration::from_millis(5),
                ..LinkConfig::default()
            });
            let server = serve(&mut net, Some("praia"));
            net.disk_mut(server).put_file(ROOT, NAME, content.clone());
            let client = fetch(&mut net, jobs, Some("praia"));
            let reports = reports(&mut net, client);
            let over = Some(&FetchReport::Over { done: 1, failed: 0 });
            assert_eq!(reports.last(), over, "{len}: {reports:?}");
            assert!(net.disk(client).content(ROOT, NAME) == Some(&content[..]));
            let turned = |(_, report): &_| matches!(report, RepositoryReport::TurnedAway(_));
            assert!(!net.reports(server).iter().any(turned));
        }
    }
}

#[test]
fn what_was_cut_is_resumed() {
    let content = pattern(60 * GROUP + 9);
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig {
        bandwidth: std::num::NonZeroU64::new(10_000_000),
        ..LinkConfig::default()
    });
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, NAME, content.clone());
    let client = fetch(&mut net, 1, Some("praia"));
    net.run_for(Duration::from_millis(330)).unwrap();
    let disk = net.kill(client);
    let client = fetch(&mut net, 1, Some("praia"));
    *net.disk_mut(client) = disk;
    let reports = reports(&mut net, client);
    let resumed = |report: &FetchReport| match report {
        FetchReport::Begun { resumed, .. } => Some(*resumed),
        _ => None,
    };
    let resumed = reports.iter().find_map(resumed).unwrap();
    let received = |report: &FetchReport| match report {
        FetchReport::Done { received, .. } => Some(*received),
        _ => None,
    };
    let received = reports.iter().find_map(received).unwrap();
    assert!(resumed > 10 * GROUP as u64, "{resumed} {reports:?}");
    let again = (resumed + received).checked_sub(content.len() as u64).unwrap();
    assert!(again < content.len() as u64 / 100 + GROUP as u64, "{again}");
    assert!(net.disk(client).content(ROOT, NAME) == Some(&content[..]));
}

fn put(net: &mut Network, content: Vec<u8>) -> ShardId<Session, Upload> {
    let upload = Upload::new(UploadConfig {
        target: Target::Address(address()),
        items: vec![UploadItem { root: ROOT, local: name("a"), name: name(NAME) }],
        replace: false,
        policy: Policy::default(),
        retries: 10,
    });
    let upload = upload.with_secret(secret("praia", 6));
    let upload = net.add(CLIENT, Shard::new(upload, NetLimits::default()));
    net.disk_mut(upload).put_file(ROOT, "a", content);
    upload
}

#[test]
fn files_are_put_poured_and_listed() {
    let content = pattern(5 * GROUP + 1);
    let mut net = Network::new(1);
    let server = serve(&mut net, Some("praia"));
    let upload = put(&mut net, content.clone());
    net.run_until(|net| net.is_over(upload)).unwrap();
    let last = net.reports(upload).last().map(|(_, report)| report.clone());
    assert_eq!(last, Some(UploadReport::Over { done: 1, failed: 0 }));
    assert!(net.disk(server).content(ROOT, NAME) == Some(&content[..]));

    let pour =
        Pour::new(PourConfig { target: Target::Address(address()), name: name(NAME), retries: 3 });
    let pour = pour.with_secret(secret("praia", 7));
    let pour = net.add(CLIENT, Shard::new(pour, NetLimits::default()));
    let mut poured = Vec::new();
    net.run_until(|net| !net.reports(pour).is_empty()).unwrap();
    while !net.is_over(pour) {
        let mut taken = 0;
        for (_, report) in net.take_reports(pour) {
            if let PourReport::Content(bytes) = report {
                taken += bytes.len() as u64;
                poured.extend_from_slice(&bytes);
            }
        }
        if taken > 0 {
            net.send_message(pour, PourMessage::Taken(taken));
        }
        net.step();
    }
    for (_, report) in net.take_reports(pour) {
        if let PourReport::Content(bytes) = report {
            poured.extend_from_slice(&bytes);
        }
    }
    assert!(poured == content, "{} of {}", poured.len(), content.len());

    let list = Listing::new(ListingConfig { target: Target::Address(address()), name: None });
    let list = list.with_secret(secret("praia", 8));
    let list = net.add(CLIENT, Shard::new(list, NetLimits::default()));
    net.run_until(|net| net.is_over(list)).unwrap();
    let named = |(_, report): &(Now, ListingReport)| match report {
        ListingReport::Named(name, _) => Some(name.to_string()),
        ListingReport::Over(_) => None,
    };
    let named: Vec<_> = net.reports(list).iter().filter_map(named).collect();
    assert_eq!(named, [NAME]);
}

/// Why there is no server for one with this passphrase, and in how many tries.
fn unreachable(of_server: Option<&str>, of_client: Option<&str>) -> (Lost, usize) {
    let mut net = Network::new(1);
    let server = serve(&mut net, of_server);
    net.disk_mut(server).put_file(ROOT, NAME, "a");
    let client = fetch(&mut net, 3, of_client);
    let reports = reports(&mut net, client);
    assert_eq!(net.disk(client).names(ROOT, ""), Vec::<&str>::new());
    let tries = 1 + reports.iter().filter(|r| matches!(r, FetchReport::Lost { .. })).count();
    let lost = reports.iter().find_map(|report| match report {
        FetchReport::Unreachable(lost) => Some(*lost),
        _ => None,
    });
    (lost.unwrap(), tries)
}

#[test]
fn who_is_not_let_in_is_told_why_and_tries_once() {
    let passphrase = (Lost::Protocol(SessionError::Passphrase), 1);
    assert_eq!(unreachable(Some("praia"), Some("mar")), passphrase);
    assert_eq!(unreachable(Some("praia"), None), passphrase);
    let none = (Lost::Protocol(SessionError::NoPassphrase), 1);
    assert_eq!(unreachable(None, Some("praia")), none);
}

#[test]
fn a_source_that_guesses_is_made_to_wait_and_others_are_not() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, NAME, "a");
    for guess in 0..MAX_JOBS {
        let client = fetch(&mut net, 1, Some(&format!("mar {guess}")));
        reports(&mut net, client);
    }
    let turned = |net: &Network| {
        let turned = |(_, report): &&(Now, RepositoryReport)| {
            matches!(report, RepositoryReport::TurnedAway(_))
        };
        net.reports(server).iter().filter(turned).count()
    };
    assert_eq!(turned(&net), 0);
    // Now even who knows it is turned away at first, and comes back when it may.
    let begun = net.now().mono;
    let client = fetch(&mut net, 1, Some("praia"));
    let reports = reports(&mut net, client);
    assert!(turned(&net) > 0);
    assert!(reports.contains(&FetchReport::Over { done: 1, failed: 0 }), "{reports:?}");
    assert!(net.now().mono.saturating_since(begun) >= Duration::from_secs(19));
    assert!(reports.iter().any(|report| matches!(
        report,
        FetchReport::Lost { why: Lost::Ended(Some(ErrorCode::Guesses)), .. }
    )));
}

#[test]
fn the_courses_client_is_refused() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, "iguana.jpg", "a");
    let peer = net.connect(CLIENT, address());
    net.write(peer, "GET iguana.jpg\n");
    net.run_for(Duration::from_secs(1)).unwrap();
    let told = String::from_utf8(net.take_received(peer)).unwrap();
    assert!(told.starts_with("ERROR \"a passphrase is needed here"), "{told}");
}

#[test]
fn guesses_that_were_right_do_not_count() {
    let mut net = Network::new(1);
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, NAME, "a");
    for _ in 0..3 * MAX_JOBS {
        let client = fetch(&mut net, 1, Some("praia"));
        assert!(reports(&mut net, client).contains(&FetchReport::Over { done: 1, failed: 0 }));
    }
    let turned = |(_, report): &_| matches!(report, RepositoryReport::TurnedAway(_));
    assert!(!net.reports(server).iter().any(turned));
}

#[test]
fn a_server_that_comes_back_with_another_passphrase_is_not_tried_again() {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig {
        bandwidth: std::num::NonZeroU64::new(2_000_000),
        ..LinkConfig::default()
    });
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, NAME, pattern(60 * GROUP));
    let client = fetch(&mut net, 1, Some("praia"));
    net.run_for(Duration::from_millis(500)).unwrap();
    net.kill(server);
    let server = serve(&mut net, Some("mar"));
    let reports = reports(&mut net, client);
    let why = Lost::Protocol(SessionError::Passphrase);
    assert!(reports.contains(&FetchReport::Unreachable(why)), "{reports:?}");
    net.run_for(Duration::from_secs(120)).unwrap();
    let guesses = net.reports(server).iter().filter(|(_, report)| {
        matches!(report, RepositoryReport::Broken { .. } | RepositoryReport::TurnedAway(_))
    });
    assert_eq!(guesses.count(), 1);
}

/// In place, or by another file of that name, shorter, longer or as long; once, or for ever.
#[test]
fn a_source_that_changes_while_it_is_sent_is_never_mixed() {
    const OLD: usize = 8 * GROUP + 5;
    let slow = LinkConfig {
        bandwidth: std::num::NonZeroU64::new(1_000_000),
        window: 65_536,
        ..LinkConfig::default()
    };
    for (case, len) in [GROUP + 9, OLD, 2 * OLD].into_iter().flat_map(|len| [(0, len), (1, len)]) {
        let new: Vec<u8> = pattern(len).iter().map(|byte| byte ^ 0x55).collect();
        let mut net = Network::new(1);
        net.set_default_link(slow.clone());
        let server = serve(&mut net, Some("praia"));
        net.disk_mut(server).put_file(ROOT, NAME, pattern(OLD));
        let client = fetch(&mut net, 2, Some("praia"));
        net.run_for(Duration::from_millis(300)).unwrap();
        assert!(!net.is_over(client));
        if case == 0 {
            assert!(net.disk_mut(server).rewrite(Now::default(), ROOT, NAME, new.clone()));
        } else {
            net.disk_mut(server).put_file(ROOT, NAME, new.clone());
        }
        let reports = reports(&mut net, client);
        assert_eq!(reports.last(), Some(&FetchReport::Over { done: 1, failed: 0 }), "{reports:?}");
        let got = net.disk(client).content(ROOT, NAME).unwrap();
        // Another file of that name leaves the one that is open what it was.
        assert!(got == new || case == 1 && got == pattern(OLD), "{case}, {len}");
        assert_eq!(net.disk(client).names(ROOT, ""), [NAME]);
    }

    let mut net = Network::new(1);
    net.set_default_link(slow.clone());
    let server = serve(&mut net, Some("praia"));
    net.disk_mut(server).put_file(ROOT, NAME, pattern(OLD));
    let client = fetch(&mut net, 1, Some("praia"));
    for turn in 1..1000 {
        net.run_for(Duration::from_millis(100)).unwrap();
        if net.is_over(client) {
            break;
        }
        let new: Vec<u8> = pattern(OLD).iter().map(|byte| byte ^ turn as u8).collect();
        net.disk_mut(server).rewrite(Now::default(), ROOT, NAME, new);
    }
    let reports = reports(&mut net, client);
    assert_eq!(reports.last(), Some(&FetchReport::Over { done: 0, failed: 1 }));
    let failed =
        |report: &_| matches!(report, FetchReport::Failed { why: FetchError::Changing, .. });
    assert!(reports.iter().any(failed), "{reports:?}");
    assert_eq!(net.disk(client).content(ROOT, NAME), None);
}

#[test]
fn an_own_file_that_changes_while_it_is_put_is_never_mixed() {
    const OLD: usize = 8 * GROUP + 5;
    for len in [GROUP + 9, OLD, 2 * OLD] {
        let new: Vec<u8> = pattern(len).iter().map(|byte| byte ^ 0x55).collect();
        let mut net = Network::new(1);
        net.set_default_link(LinkConfig {
            bandwidth: std::num::NonZeroU64::new(1_000_000),
            window: 65_536,
            ..LinkConfig::default()
        });
        let server = serve(&mut net, Some("praia"));
        let client = put(&mut net, pattern(OLD));
        net.run_for(Duration::from_millis(300)).unwrap();
        assert!(!net.is_over(client));
        assert!(net.disk_mut(client).rewrite(Now::default(), ROOT, "a", new.clone()));
        net.run_until(|net| net.is_over(client)).unwrap();
        let last = net.reports(client).last().map(|(_, report)| report.clone());
        assert_eq!(last, Some(UploadReport::Over { done: 1, failed: 0 }), "{len}");
        assert!(net.disk(server).content(ROOT, NAME) == Some(&new[..]), "{len}");
        assert_eq!(net.disk(server).names(ROOT, ""), [NAME]);
    }
}
