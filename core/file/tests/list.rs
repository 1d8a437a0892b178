//! What a framed server has, told.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};

use semfio_file::wire::{ErrorCode, Kind};
use semfio_file::{
    Listing, ListingConfig, ListingMessage, ListingOutcome, ListingReport, Lost, Repository,
    RepositoryConfig, Session, SessionError,
};
use semfio_machine::{Failure, NetLimits, RootId, Shard, Target};
use semfio_path::{Policy, SafeName};
use semfio_sim::{Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8003)
}

fn name(name: &str) -> SafeName {
    SafeName::parse(name, Policy::default()).unwrap()
}

fn serve(net: &mut Network) -> ShardId<Session, Repository> {
    let service = Repository::new(RepositoryConfig::default());
    let server = net.add(SERVER, Shard::new(service, NetLimits::default()));
    net.disk_mut(server).put_folder(ROOT, "");
    assert!(net.listen(server, address()));
    server
}

fn start(net: &mut Network, folder: Option<&str>) -> ShardId<Session, Listing> {
    let config = ListingConfig { target: Target::Address(address()), name: folder.map(name) };
    net.add(CLIENT, Shard::new(Listing::new(config), NetLimits::default()))
}

fn finish(
    net: &mut Network,
    client: ShardId<Session, Listing>,
) -> (Vec<(String, Kind, u64)>, ListingOutcome) {
    net.run_until(|net| net.is_over(client)).unwrap();
    let mut named = Vec::new();
    for (_, report) in net.reports(client) {
        match report {
            ListingReport::Named(name, meta) => {
                named.push((name.to_string(), meta.kind, meta.size));
            }
            ListingReport::Over(outcome) => return (named, outcome.clone()),
        }
    }
    panic!("it does not tell how it ended");
}

fn list(net: &mut Network, folder: Option<&str>) -> (Vec<(String, Kind, u64)>, ListingOutcome) {
    let client = start(net, folder);
    finish(net, client)
}

#[test]
fn a_folder_a_file_and_what_is_not_there() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    let disk = net.disk_mut(server);
    disk.put_file(ROOT, "b.jpg", "12345");
    disk.put_file(ROOT, "a/c", "");
    disk.put_file(ROOT, ".hidden", "not told of");
    disk.put_other(ROOT, "pipe");
    let all = [("a".to_owned(), Kind::Folder, 0), ("b.jpg".to_owned(), Kind::File, 5)];
    assert_eq!(list(&mut net, None), (all.to_vec(), ListingOutcome::Listed(2)));
    let inside = vec![("a/c".to_owned(), Kind::File, 0)];
    assert_eq!(list(&mut net, Some("a")), (inside, ListingOutcome::Listed(1)));
    assert_eq!(list(&mut net, Some("b.jpg")), (all[1..].to_vec(), ListingOutcome::Listed(1)));
    let refused = |code| (Vec::new(), ListingOutcome::Refused(code));
    assert_eq!(list(&mut net, Some("none")), refused(ErrorCode::Unknown));
    assert_eq!(list(&mut net, Some("pipe")), refused(ErrorCode::WrongKind));
}

#[test]
fn many_names_come_in_several_answers_and_in_order() {
    let mut net = Network::new(1);
    let server = serve(&mut net);
    for n in 0..5_000 {
        net.disk_mut(server).put_file(ROOT, &format!("a name that takes some room {n:05}"), "x");
    }
    let (named, outcome) = list(&mut net, None);
    assert_eq!(outcome, ListingOutcome::Listed(5_000));
    assert!(named.is_sorted_by_key(|(name, ..)| name.clone()));
    assert_eq!(named.len(), 5_000);
}

#[test]
fn who_is_not_there_or_speaks_otherwise_is_told_of() {
    let mut net = Network::new(1);
    let (_, outcome) = list(&mut net, None);
    assert_eq!(outcome, ListingOutcome::Lost(Lost::Failed(Failure::Refused)));
    let lost = |error| ListingOutcome::Lost(Lost::Protocol(error));

    assert!(net.listen_raw(address()));
    let client = start(&mut net, None);
    net.run_for(std::time::Duration::from_secs(1)).unwrap();
    let peer = net.accepted(address())[0];
    net.finish(peer);
    assert_eq!(finish(&mut net, client).1, lost(SessionError::BadPreface));

    let client = start(&mut net, None);
    assert_eq!(finish(&mut net, client).1, lost(SessionError::HelloTimeout));
}

#[test]
fn it_stops_when_it_is_told_to() {
    let mut net = Network::new(1);
    assert!(net.listen_raw(address()));
    let client = start(&mut net, None);
    net.run_for(std::time::Duration::from_secs(1)).unwrap();
    net.send_message(client, ListingMessage::Interrupt);
    assert_eq!(finish(&mut net, client).1, ListingOutcome::Interrupted);
}

/// Names that do not rise would never end; others are not safe to show.
#[test]
fn a_server_that_lists_nonsense_is_given_up() {
    use semfio_file::wire::{EntryList, MAX_FRAME, Message, Meta, PREFACE};
    let meta = Meta { kind: Kind::File, size: 1, modified: 0 };
    for (names, expected) in [
        (&["b", "a"][..], None),
        (&["a", "a"], None),
        (&["a/b"], None),
        (&["a", "b\u{1b}[2J"], Some(1)),
        (&[".."], Some(0)),
    ] {
        let mut net = Network::new(1);
        assert!(net.listen_raw(address()));
        let client = start(&mut net, None);
        net.run_for(std::time::Duration::from_secs(1)).unwrap();
        let peer = net.accepted(address())[0];
        let mut list = EntryList::default();
        assert!(names.iter().all(|name| list.push(name, meta)));
        let mut answer = bytes::BytesMut::from(&PREFACE[..]);
        Message::Welcome { max_frame: MAX_FRAME as u32, writable: false }.put(&mut answer);
        Message::Entries { tag: 1, more: true, entries: list.entries() }.put(&mut answer);
        net.write(peer, &answer);
        let (told, outcome) = finish(&mut net, client);
        match (outcome, expected) {
            (ListingOutcome::Lost(Lost::OutOfTurn), None) => {}
            (ListingOutcome::Name(_), Some(before)) => assert_eq!(told.len(), before),
            other => panic!("{names:?}: {other:?}"),
        }
    }
}
