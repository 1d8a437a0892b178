//! Sealed rooms: participants with a passphrase, a hub, and links that break, in the simulator.
#![allow(missing_docs)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::BytesMut;
use rand_core::RngCore as _;
use semfio_chat::wire::{Ask, MAX_FRAME, PREFACE, Request, Response, Tell, What, Why};
use semfio_chat::{
    Client, Happened, Hub, HubConfig, HubMessage, Keys, Outcome, Participant, ParticipantConfig,
    ParticipantMessage, ParticipantReport, Session,
};
use semfio_frame::Dialect;
use semfio_keysync::{Decoding, Key, KeyFailure, Passphrase, Policy};
use semfio_machine::{Chunk, ConnId, NetLimits, Now, Seed, Shard, Tap, TapEntry, Target};
use semfio_sim::{LinkConfig, Network, ShardId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SERVER: [u8; 4] = [10, 0, 0, 1];
const PASSPHRASE: &str = "abacate-amarelo-na-serra";

type MemberId = ShardId<Client, Participant>;

/// What passed on each connection of the server: to it, and from it.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeMap<ConnId, Both>>>);

type Both = (Vec<u8>, Vec<u8>);

impl Tap<HubMessage> for Wire {
    fn record(&mut self, _: Now, entry: TapEntry<'_, HubMessage>) {
        let mut wires = self.0.lock().unwrap();
        match entry {
            TapEntry::Received(conn, bytes) => {
                wires.entry(conn).or_default().0.extend_from_slice(bytes);
            }
            TapEntry::Sent(conn, mut n, outbox) => {
                let (_, sent) = wires.entry(conn).or_default();
                for chunk in outbox.chunks() {
                    let Chunk::Bytes(bytes) = chunk else { continue };
                    let head = &bytes[..n.min(bytes.len())];
                    sent.extend_from_slice(head);
                    n -= head.len();
                }
            }
            _ => {}
        }
    }
}

/// The frames after a preface, as far as they are whole.
fn frames(bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = bytes.strip_prefix(&PREFACE[..]).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        rest = after;
        frames.push((kind, body));
    }
    frames
}

struct Room {
    net: Network,
    hub: ShardId<Session, Hub>,
    wire: Wire,
    peers: u8,
}

impl Room {
    fn new() -> Self {
        Self::with(HubConfig::default())
    }

    fn with(config: HubConfig) -> Self {
        let mut net = Network::new(1);
        let wire = Wire::default();
        let hub = serve(&mut net, config, 1, &wire);
        Self { net, hub, wire, peers: 0 }
    }

    fn restart(&mut self) {
        self.net.kill(self.hub);
        self.hub = serve(&mut self.net, HubConfig::default(), 99, &self.wire);
    }

    fn run(&mut self, millis: u64) {
        self.net.run_for(Duration::from_millis(millis)).unwrap();
    }

    /// A member that begins to enter the lobby, at an address of its own.
    fn enter(&mut self, nick: &str, passphrase: &str) -> MemberId {
        self.enter_room(nick, passphrase, "lobby")
    }

    fn enter_room(&mut self, nick: &str, passphrase: &str, room: &str) -> MemberId {
        self.peers += 1;
        let config = ParticipantConfig::new(
            Target::Address((SERVER, 8000).into()),
            Dialect::Framed,
            nick,
            room,
        );
        let number = u64::from(self.peers);
        let (seed, secrets) = (Seed::from_u64(number), Seed::from_u64(1000 + number));
        let passphrase = Passphrase::new(passphrase.as_bytes());
        let member = Participant::sealed(config, &seed, passphrase, &secrets);
        self.net.add(address(self.peers), Shard::new(member, NetLimits::default()))
    }

    /// A member that is in the lobby.
    fn member(&mut self, nick: &str) -> MemberId {
        let member = self.enter(nick, PASSPHRASE);
        self.run(1_000);
        let names = |report: &_| matches!(report, ParticipantReport::Names { .. });
        assert!(self.reports(member).iter().any(names), "{nick}: {:?}", self.reports(member));
        member
    }

    fn members<const N: usize>(&mut self, nicks: [&str; N]) -> [MemberId; N] {
        nicks.map(|nick| self.member(nick))
    }

    fn say(&mut self, member: MemberId, line: &str) {
        self.net.send_message(member, ParticipantMessage::Line(line.into()));
    }

    fn leave(&mut self, member: MemberId) {
        self.net.send_message(member, ParticipantMessage::Interrupt);
    }

    fn reports(&self, member: MemberId) -> Vec<ParticipantReport> {
        self.net.reports(member).iter().map(|(_, report)| report.clone()).collect()
    }

    /// The texts a member was told, in order; nothing it was told may be unreadable.
    fn heard(&self, member: MemberId) -> Vec<String> {
        let text = |report| match report {
            ParticipantReport::Entry { what: Happened::Text(text), nick, .. } => {
                Some(format!("{nick}: {text}"))
            }
            ParticipantReport::Unreadable { .. } => Some("(unreadable)".to_owned()),
            _ => None,
        };
        self.reports(member).into_iter().filter_map(text).collect()
    }

    fn done(&self, member: MemberId) -> usize {
        let lines = |report| if let ParticipantReport::Done(n) = report { n } else { 0 };
        self.reports(member).into_iter().map(lines).sum()
    }

    fn epochs(&self, member: MemberId) -> Vec<u64> {
        let epoch = |report| match report {
            ParticipantReport::Keys { what: Keys::Epoch { epoch, .. }, .. } => Some(epoch),
            _ => None,
        };
        self.reports(member).into_iter().filter_map(epoch).collect()
    }

    /// Calls `each` with all frames to the members.
    fn responses(&self, mut each: impl FnMut(ConnId, Response<'_>)) {
        for (conn, (_, sent)) in self.wire.0.lock().unwrap().iter() {
            for (kind, body) in frames(sent) {
                each(*conn, Response::parse(kind, body).unwrap().unwrap());
            }
        }
    }

    /// The epochs of sealed texts in the log, after the entry that `from` finds.
    fn log(&self) -> BTreeMap<u64, String> {
        let mut log = BTreeMap::new();
        self.responses(|_, response| {
            if let Response::Entry(entry) = response {
                let shown = match entry.what {
                    What::Sealed(sealed) => format!("sealed {}", sealed.epoch),
                    What::Epoch { epoch, .. } => format!("epoch {epoch}"),
                    What::Part => "part".to_owned(),
                    _ => return,
                };
                log.insert(entry.seq, shown);
            }
        });
        log.remove(&0);
        log
    }

    fn all_bytes(&self) -> Vec<u8> {
        let wires = self.wire.0.lock().unwrap();
        wires.values().flat_map(|(to, from)| [&to[..], from].concat()).collect()
    }
}

fn serve(net: &mut Network, config: HubConfig, seed: u64, wire: &Wire) -> ShardId<Session, Hub> {
    let mut shard = Shard::new(Hub::new(config, &Seed::from_u64(seed)), NetLimits::default());
    shard.set_tap(Box::new(wire.clone()));
    let hub = net.add(SERVER.into(), shard);
    assert!(net.listen(hub, SocketAddr::from((SERVER, 8000))));
    hub
}

fn address(peer: u8) -> IpAddr {
    [10, 1, 0, peer].into()
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn everyone_reads_everyone() {
    let mut room = Room::new();
    let [ana, bia, caio] = room.members(["ana", "bia", "caio"]);
    let mut said = Vec::new();
    for round in 0..5 {
        for (nick, member) in [("ana", ana), ("bia", bia), ("caio", caio)] {
            room.say(member, &format!("oi {round}"));
            room.run(20);
            said.push(format!("{nick}: oi {round}"));
        }
    }
    for member in [ana, bia, caio] {
        assert_eq!(room.heard(member), said);
        assert_eq!(room.done(member), 5);
    }
}

#[test]
fn who_opens_a_room_is_told_that_nobody_checked_the_passphrase() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    let opened = ParticipantReport::Keys { room: "lobby".into(), what: Keys::Opened };
    assert!(room.reports(ana).contains(&opened));
    assert!(!room.reports(bia).contains(&opened));
}

#[test]
fn after_one_leaves_the_next_text_is_under_a_new_epoch() {
    let mut room = Room::new();
    let [ana, bia, caio] = room.members(["ana", "bia", "caio"]);
    room.say(ana, "before");
    room.run(100);
    let before = *room.epochs(caio).last().unwrap();
    // As the others hear of it, they speak: in the same turn, before a new key can be there.
    room.leave(bia);
    for _ in 0..20 {
        room.net.step();
        room.say(ana, "after");
        room.say(caio, "after");
    }
    room.run(2_000);
    let log: Vec<String> = room.log().into_values().collect();
    let part = log.iter().rposition(|entry| entry == "part").unwrap();
    // A text that was under way when the server noted that she left is sealed for those before.
    let next = log[part..].iter().position(|entry| entry.starts_with("epoch")).unwrap() + part;
    assert_eq!(log[next], format!("epoch {}", before + 1));
    let late: Vec<_> = log[next..].iter().filter(|e| **e == format!("sealed {before}")).collect();
    assert_eq!(late, [""; 0], "{log:?}");
    assert!(log[next..].contains(&format!("sealed {}", before + 1)), "{log:?}");
    for member in [ana, caio] {
        assert_eq!(room.heard(member).len(), 41, "{:?}", room.heard(member));
    }
    assert!(room.heard(bia).iter().filter(|text| text.ends_with("after")).count() < 40);
}

#[test]
fn nothing_is_sealed_between_a_part_and_the_next_key() {
    let mut room = Room::new();
    // The holder is far away, so that a new key takes its time.
    let far = LinkConfig { latency: Duration::from_millis(300), ..LinkConfig::default() };
    room.net.set_link(address(1), SERVER.into(), far.clone());
    room.net.set_link(SERVER.into(), address(1), far);
    let ana = room.enter("ana", PASSPHRASE);
    room.run(3_000);
    let bia = room.enter("bia", PASSPHRASE);
    let caio = room.enter("caio", PASSPHRASE);
    room.run(6_000);
    room.leave(bia);
    room.run(100);
    room.say(caio, "waits");
    room.run(5_000);
    let log: Vec<String> = room.log().into_values().collect();
    let part = log.iter().rposition(|entry| entry == "part").unwrap();
    assert!(log[part + 1].starts_with("epoch"), "{log:?}");
    assert!(log[part + 2].starts_with("sealed"), "{log:?}");
    assert_eq!(room.heard(ana), ["caio: waits"]);
    assert_eq!(room.heard(caio), ["caio: waits"]);
}

#[test]
fn a_wrong_passphrase_is_turned_away_and_sees_nothing() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    room.say(ana, "between us");
    room.run(100);
    let standing: Vec<ConnId> = room.wire.0.lock().unwrap().keys().copied().collect();
    let eva = room.enter("eva", "abacaxi");
    room.say(eva, "let me in");
    room.run(100);
    room.say(bia, "still between us");
    room.run(60_000);
    let reports = room.reports(eva);
    let over = ParticipantReport::Over(Outcome::Locked("lobby".into(), KeyFailure::Passphrase));
    assert_eq!(reports.last(), Some(&over), "{reports:?}");
    assert!(!reports.iter().any(|r| matches!(r, ParticipantReport::Entry { .. })), "{reports:?}");
    room.responses(|conn, response| {
        let shown = matches!(response, Response::Entry(_) | Response::Names { .. });
        assert!(standing.contains(&conn) || !shown, "{response:?}");
    });
    assert_eq!(room.heard(bia), ["ana: between us", "bia: still between us"]);
}

#[test]
fn the_holder_leaves_while_the_others_talk() {
    for how in 0..3 {
        let mut room = Room::new();
        let [ana, bia, caio, davi] = room.members(["ana", "bia", "caio", "davi"]);
        let mut said = Vec::new();
        for n in 0..60 {
            for (nick, member) in [("bia", bia), ("caio", caio), ("davi", davi)] {
                room.say(member, &format!("text {n}"));
                said.push(format!("{nick}: text {n}"));
            }
            match (how, n) {
                (0, 20) => room.leave(ana),
                (1, 20) => drop(room.net.kill(ana)),
                // It is silent, until the server passes it over.
                (2, 20) => {
                    room.net.part(SERVER.into(), address(1));
                    room.leave(davi);
                }
                _ => {}
            }
            room.run(100);
        }
        room.run(40_000);
        said.retain(|text| how < 2 || !text.starts_with("davi"));
        said.sort();
        for member in [bia, caio] {
            let mut heard = room.heard(member);
            heard.retain(|text| how < 2 || !text.starts_with("davi"));
            heard.sort();
            assert_eq!(heard, said, "{how}");
        }
    }
}

#[test]
fn a_link_that_breaks_anywhere_loses_and_doubles_nothing() {
    // Each way, so that now a text, now its ACK is lost; of the holder (1) and of another (2).
    for (who, cut) in (40..3_000).step_by(67).flat_map(|cut| [(1, cut), (2, cut)]) {
        for up in [true, false] {
            let mut room = Room::new();
            let bad = LinkConfig { reset_after: Some(cut), ..LinkConfig::default() };
            match up {
                true => room.net.set_link(address(who), SERVER.into(), bad),
                false => room.net.set_link(SERVER.into(), address(who), bad),
            }
            let ana = room.enter("ana", PASSPHRASE);
            room.run(50);
            let bia = room.enter("bia", PASSPHRASE);
            room.run(50);
            room.net.set_link(address(who), SERVER.into(), LinkConfig::default());
            room.net.set_link(SERVER.into(), address(who), LinkConfig::default());
            room.run(5_000);
            let caio = room.enter("caio", PASSPHRASE);
            room.run(1_000);
            let speaker = if who == 1 { ana } else { bia };
            let name = if who == 1 { "ana" } else { "bia" };
            let welcome = |r: &_| matches!(r, ParticipantReport::Welcome { .. });
            if !room.reports(speaker).iter().any(welcome) {
                continue; // cut before it was let in: it does not come back
            }
            let said: Vec<String> = (0..10).map(|n| format!("{name}: text {n}")).collect();
            for n in 0..10 {
                room.say(speaker, &format!("text {n}"));
                room.run(5);
            }
            room.net.send_message(speaker, ParticipantMessage::Eof);
            room.run(60_000);
            let over = room.reports(speaker).pop();
            assert_eq!(over, Some(ParticipantReport::Over(Outcome::Left)), "{who} {up} {cut}");
            for member in [ana, bia, caio] {
                assert_eq!(room.heard(member), said, "{who} {up} {cut}");
            }
            assert_eq!(room.done(speaker), 10, "{who} {up} {cut}");
        }
    }
}

#[test]
fn a_server_that_restarts_begins_anew_and_members_come_back() {
    let mut room = Room::new();
    let [ana, bia, caio] = room.members(["ana", "bia", "caio"]);
    room.say(ana, "before");
    room.run(1_000);
    room.restart();
    room.run(1);
    room.say(ana, "after");
    room.run(40_000);
    room.say(caio, "me too");
    room.run(1_000);
    // Who comes back later than it was said is new there, and shown nothing from before.
    assert_eq!(room.heard(ana), ["ana: before", "ana: after", "caio: me too"]);
    for member in [bia, caio] {
        let mut heard = room.heard(member);
        heard.retain(|text| text != "ana: after");
        assert_eq!(heard, ["ana: before", "caio: me too"]);
    }
    assert_eq!(room.done(ana), 2);
}

#[test]
fn two_leave_at_once() {
    let mut room = Room::new();
    let [ana, bia, caio, davi] = room.members(["ana", "bia", "caio", "davi"]);
    room.leave(bia);
    room.leave(caio);
    room.run(1);
    room.say(ana, "fewer");
    room.run(20_000);
    for member in [ana, davi] {
        assert_eq!(room.heard(member), ["ana: fewer"]);
    }
    // And now with the holder among them.
    let eva = room.member("eva");
    room.leave(ana);
    room.leave(davi);
    room.run(1);
    room.say(eva, "mine now");
    room.run(20_000);
    assert_eq!(room.heard(eva), ["eva: mine now"]);
    assert_eq!(room.heard(ana), ["ana: fewer"]);
}

#[test]
fn a_private_text_is_for_one() {
    let mut room = Room::new();
    let [ana, bia, caio] = room.members(["ana", "bia", "caio"]);
    room.say(ana, "/msg bia só para ti");
    room.say(ana, "/msg nobody lost");
    room.say(ana, "/me acena");
    room.run(100);
    let told = |member| -> Vec<(String, String, Happened)> {
        let entry = |report| match report {
            ParticipantReport::Entry { nick, room, what, .. } => match what {
                Happened::Private(_) | Happened::Action(_) => Some((nick, room, what)),
                _ => None,
            },
            _ => None,
        };
        room.reports(member).into_iter().filter_map(entry).collect()
    };
    let action = ("ana".to_owned(), "lobby".to_owned(), Happened::Action("acena".into()));
    let private = ("ana".to_owned(), "bia".to_owned(), Happened::Private("só para ti".into()));
    assert_eq!(told(bia), [private, action.clone()]);
    assert_eq!(told(caio), std::slice::from_ref(&action));
    assert_eq!(told(ana), [action]);
    assert_eq!(room.done(ana), 3);
    let refused = |report: &_| matches!(report, ParticipantReport::Refused(_));
    assert_eq!(room.reports(ana).iter().filter(|report| refused(report)).count(), 1);
}

#[test]
fn rooms_have_keys_of_their_own() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    room.say(bia, "/join sala");
    room.run(1_000);
    room.say(bia, "early in sala");
    let caio = room.member("caio");
    room.say(caio, "/join sala");
    room.run(1_000);
    room.say(caio, "me too");
    room.run(1_000);
    assert_eq!(room.heard(bia), ["bia: early in sala", "caio: me too"]);
    assert_eq!(room.heard(ana), [""; 0]);
    room.say(bia, "/part sala");
    room.say(bia, "lobby again");
    room.run(1_000);
    assert_eq!(room.heard(ana), ["bia: lobby again"]);
    // The first was said before he came.
    assert_eq!(room.heard(caio), ["caio: me too", "bia: lobby again"]);
}

#[test]
fn a_second_room_that_stays_closed_leaves_the_first_as_it_is() {
    let mut room = Room::new();
    // Who has another passphrase has a room of its own.
    let eva = room.enter_room("eva", "another passphrase", "sala");
    room.run(1_000);
    let [ana, bia] = room.members(["ana", "bia"]);
    room.say(bia, "/join sala");
    room.run(2_000);
    room.say(bia, "still here");
    room.run(1_000);
    assert_eq!(room.heard(ana), ["bia: still here"]);
    assert_eq!(room.heard(eva), [""; 0]);
    let refused = |report: &_| matches!(report, ParticipantReport::Refused(_));
    assert_eq!(room.reports(bia).iter().filter(|report| refused(report)).count(), 1);
}

#[test]
fn history_shows_what_can_still_be_opened() {
    let mut room = Room::new();
    let ana = room.member("ana");
    room.say(ana, "alone");
    let bia = room.member("bia");
    room.say(ana, "together");
    room.run(100);
    for member in [ana, bia] {
        room.say(member, "/history 1");
        room.run(100);
    }
    assert_eq!(room.heard(ana), ["ana: alone", "ana: together", "ana: alone", "ana: together"]);
    // What was said before she came is not for her.
    assert_eq!(room.heard(bia), ["ana: together", "(unreadable)", "ana: together"]);
    // Nor, once its key is wiped, for anybody.
    room.run(40_000);
    room.say(ana, "/history 1");
    room.run(100);
    assert_eq!(room.heard(ana)[4..], ["(unreadable)", "ana: together"]);
}

#[test]
fn a_new_name_is_sealed_with_what_is_said_under_it() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    for line in ["before", "/nick eva", "after"] {
        room.say(bia, line);
        room.run(100);
    }
    // In one turn, so before she is told that she has that name; and one that she does not get.
    for line in ["/nick rita", "at once", "/nick ana", "still"] {
        room.say(bia, line);
    }
    room.run(1_000);
    for member in [ana, bia] {
        let heard = room.heard(member);
        assert_eq!(heard, ["bia: before", "eva: after", "rita: at once", "rita: still"]);
    }
}

/// Keys that open a token: any 32 octets of what passed, and of what is base64 in it.
fn keys_on(wire: &[u8], token: &str) -> usize {
    let policy = Policy { ttl: None, skew: None, decoding: Decoding::Strict };
    let opens = |window: &[u8]| {
        let key = Key::new(window.try_into().unwrap());
        key.open(&policy, Now::default().unix, token.as_bytes(), &mut Vec::new()).is_ok()
    };
    let plain = wire.windows(32).filter(|window| opens(window));
    let coded = wire.windows(43).filter(|window| {
        let decoded = URL_SAFE_NO_PAD.decode(window);
        decoded.is_ok_and(|bytes| opens(&bytes))
    });
    plain.count() + coded.count()
}

#[test]
fn what_passes_holds_no_text_and_no_key() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    let said = ["o segredo da serra", "ninguém mais sabe disto", "terceira conversa longa"];
    for text in said {
        room.say(ana, text);
        room.say(bia, &format!("/msg ana {text}"));
        room.run(100);
    }
    room.leave(bia);
    room.run(1_000);
    let wire = room.all_bytes();
    assert!(contains(&wire, b"lobby") && contains(&wire, b"ana"), "it was seen at all");
    for text in said.into_iter().chain([PASSPHRASE]) {
        assert!(!contains(&wire, text.as_bytes()), "{text}");
        // At each of the three places base64 can begin.
        for skip in 0..3 {
            let (standard, url) = (
                STANDARD_NO_PAD.encode(&text.as_bytes()[skip..][..12]),
                URL_SAFE_NO_PAD.encode(&text.as_bytes()[skip..][..12]),
            );
            assert!(!contains(&wire, standard.as_bytes()) && !contains(&wire, url.as_bytes()));
        }
    }
    let mut tokens = BTreeMap::new();
    room.responses(|_, response| {
        if let Response::Entry(entry) = response {
            if let What::Sealed(sealed) = entry.what {
                tokens.insert(sealed.epoch, sealed.token.to_owned());
            }
        }
    });
    assert!(!tokens.is_empty());
    for token in tokens.values() {
        assert_eq!(keys_on(&wire, token), 0);
    }
    // The search finds a key that is there.
    let octets: [u8; 32] = std::array::from_fn(|n| n as u8);
    let (key, mut token) = (Key::new(octets), Vec::new());
    key.seal(Now::default().unix, [1; 16], b"x", &mut token);
    let token = String::from_utf8(token).unwrap();
    assert_eq!(keys_on(&[&wire[..100], &octets, &wire[..100]].concat(), &token), 1);
    assert_eq!(keys_on(key.to_text().as_bytes(), &token), 1);
}

#[test]
fn one_that_reads_slowly_misses_texts_and_goes_on() {
    let mut room = Room::with(HubConfig { lag: 4 * 1024, ..HubConfig::default() });
    let [ana, bia] = room.members(["ana", "bia"]);
    let slow =
        LinkConfig { bandwidth: NonZeroU64::new(2_000), window: 1024, ..LinkConfig::default() };
    room.net.set_link(SERVER.into(), address(3), slow);
    let caio = room.enter("caio", PASSPHRASE);
    room.run(5_000);
    let long = "x".repeat(4_000);
    for _ in 0..60 {
        room.say(ana, &long);
        room.run(20);
    }
    // While it is behind, the key changes.
    room.leave(bia);
    room.run(300);
    for _ in 0..20 {
        room.say(ana, &long);
        room.run(20);
    }
    room.run(300_000);
    let gaps = room.reports(caio);
    let gap = |report: &&_| matches!(report, ParticipantReport::Gap { .. });
    assert!(gaps.iter().any(|report| gap(&report)), "{gaps:?}");
    room.say(ana, "and now?");
    room.run(10_000);
    room.say(caio, "here again");
    room.run(30_000);
    assert_eq!(room.heard(ana).last().unwrap(), "caio: here again");
    assert_eq!(
        room.heard(caio)[room.heard(caio).len() - 2..],
        ["ana: and now?", "caio: here again"]
    );
}

#[test]
fn thirty_join_at_once() {
    let mut room = Room::new();
    let nicks: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let members: Vec<MemberId> = nicks.iter().map(|nick| room.enter(nick, PASSPHRASE)).collect();
    room.run(60_000);
    for (nick, member) in nicks.iter().zip(&members) {
        room.say(*member, &format!("I am {nick}"));
        room.run(10);
    }
    room.run(5_000);
    let said: Vec<String> = nicks.iter().map(|nick| format!("{nick}: I am {nick}")).collect();
    for member in &members {
        let heard = room.heard(*member);
        assert_eq!(heard, said, "{:?}", room.reports(*member).last());
    }
}

/// Links that break again and again, each connection after another number of bytes, `most` at most:
/// the breaks, the texts, and what each member heard of them.
fn storm(seed: u64, least: u32, most: u32) -> (usize, Vec<String>, [Vec<String>; 4]) {
    let mut room = Room::new();
    let mut rng = Seed::from_u64(seed).stream(7);
    let nicks = ["ana", "bia", "caio", "davi"];
    let mut cut = |room: &mut Room, peer: u8, least: u32| {
        let after = u64::from(least + rng.next_u32() % (most - least));
        let bad = LinkConfig { reset_after: Some(after), ..LinkConfig::default() };
        let (mut from, mut to) = (address(peer), SERVER.into());
        if rng.next_u32() % 2 == 0 {
            (from, to) = (to, from);
        }
        room.net.set_link(from, to, bad);
        room.net.set_link(to, from, LinkConfig::default());
        rng.next_u32() as usize
    };
    for peer in 1..=4 {
        // Enough to enter.
        cut(&mut room, peer, least.max(most / 2));
    }
    let members = room.members(nicks);
    let mut said = Vec::new();
    for n in 0..80 {
        let mut draw = 0;
        for peer in 1..=4 {
            match n {
                0..60 => draw = cut(&mut room, peer, least),
                _ => {
                    room.net.set_link(address(peer), SERVER.into(), LinkConfig::default());
                    room.net.set_link(SERVER.into(), address(peer), LinkConfig::default());
                    draw = draw * 31 + n;
                }
            }
        }
        let text = format!("{n} {}", "x".repeat(draw / 4 % 900));
        room.say(members[draw % 4], &text);
        said.push(format!("{}: {text}", nicks[draw % 4]));
        room.run((draw / 4096 % 700) as u64);
    }
    room.run(120_000);
    said.sort();
    let lost = |report: &&_| matches!(report, ParticipantReport::Lost { .. });
    let breaks = members.map(|member| room.reports(member).iter().filter(lost).count());
    let heard = members.map(|member| {
        let mut heard = room.heard(member);
        heard.sort();
        heard
    });
    assert_eq!(members.map(|member| room.done(member)).iter().sum::<usize>(), 80, "seed {seed}");
    (breaks.iter().sum(), said, heard)
}

/// Of six storms: the breaks, and the texts that were told as unreadable. None is doubled, none is
/// missed in silence.
fn storms(least: u32, most: u32) -> (usize, usize) {
    let (mut all, mut unreadable) = (0, 0);
    for seed in 0..6 {
        let (breaks, said, heard) = storm(seed, least, most);
        all += breaks;
        for (n, heard) in heard.iter().enumerate() {
            assert_eq!(heard.len(), said.len(), "seed {seed}, member {n}");
            let read = || heard.iter().filter(|text| *text != "(unreadable)");
            let mut once: Vec<_> = read().collect();
            once.dedup();
            assert_eq!(once.len(), read().count(), "seed {seed}, member {n}");
            unreadable += heard.len() - once.len();
        }
    }
    (all, unreadable)
}

#[test]
fn links_that_break_again_and_again_double_nothing_and_lose_nothing_in_silence() {
    // Of 1,920. When all are gone at once and come back, those who saw the last key and those who
    // did not have no key in common; what is said before they agree again is told as unreadable.
    let (breaks, unreadable) = storms(4_000, 20_000);
    assert!(breaks > 20 && unreadable < 12, "{breaks} breaks, {unreadable} unreadable");
    let (breaks, _) = storms(200, 4_000);
    assert!(breaks > 200, "{breaks} breaks");
}

#[test]
fn who_parts_comes_in_again_under_its_name() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    room.say(bia, "/part");
    room.run(1_000);
    room.say(bia, "/join lobby");
    room.run(1_000);
    room.say(bia, "oi");
    room.run(1_000);
    assert_eq!(room.heard(ana), ["bia: oi"], "{:?}", room.reports(bia));
    // What is on the way as she leaves is not told to be unreadable; it has come.
    room.say(ana, "vais?");
    room.say(bia, "vou");
    room.say(bia, "/part");
    room.run(1_000);
    let last = room.heard(ana).split_off(1);
    assert!(last == ["ana: vais?", "bia: vou"] || last == ["bia: vou", "ana: vais?"], "{last:?}");
    assert_eq!(room.heard(bia), ["bia: oi"]);
}

#[test]
fn a_program_that_is_begun_anew_comes_in_under_its_name() {
    let mut room = Room::new();
    let [ana, bia] = room.members(["ana", "bia"]);
    room.leave(bia);
    room.run(60_000);
    let bia = room.enter("bia", PASSPHRASE);
    room.run(2_000);
    room.say(bia, "oi");
    room.run(1_000);
    assert_eq!(room.heard(ana), ["bia: oi"], "{:?}", room.reports(bia));
}

/// One that has no passphrase, from two addresses: it asks for all that may be asked for, as fast as it can.
#[test]
fn who_only_makes_trouble_at_the_door_troubles_nobody_inside_nor_who_comes() {
    for seed in 0..4 {
        let mut room = Room::new();
        let [ana, bia, caio] = room.members(["ana", "bia", "caio"]);
        let mut dice = Seed::from_u64(seed).stream(3);
        let mut below = |n: usize| dice.next_u32() as usize % n;
        let bad = [200, 201, 201].map(|at| room.net.connect(address(at), (SERVER, 8000).into()));
        let mut said = Vec::new();
        for round in 0..300_u32 {
            for (at, &peer) in bad.iter().enumerate() {
                let nick = format!("bad{at}");
                let mut wire = BytesMut::new();
                if round == 0 {
                    wire.extend_from_slice(&PREFACE);
                    let (max_frame, session) = (MAX_FRAME as u32, [0; 16]);
                    Request::Hello { max_frame, session, nick: &nick }.put(&mut wire);
                }
                // Its own number, and that of the holder.
                let mut door = (1, 1);
                for (kind, body) in frames(room.net.peer(peer).received()) {
                    if let Ok(Some(Response::Key { tell: Tell::Door { you, holder }, .. })) =
                        Response::parse(kind, body)
                    {
                        door = (you, holder);
                    }
                }
                let number = [door.0, door.1, 0, u64::MAX][below(4)];
                let mut body = vec![below(8) as u8; below(200) + 1];
                body[1..].fill_with(|| below(256) as u8);
                if below(2) == 0 {
                    // A START that only lacks the passphrase.
                    body = [&[1, b'A'][..], &[0x66; 31], &[3 + at as u8], &[0; 24], &[4]].concat();
                    body.extend_from_slice(nick.as_bytes());
                }
                let asks = [
                    Ask::Enter { since: number },
                    Ask::Enter { since: 0 },
                    Ask::Relay { peer: door.1, body: &body },
                    Ask::Relay { peer: door.1, body: &body },
                    Ask::Relay { peer: number, body: &body },
                    Ask::Admit { peer: door.0 },
                    Ask::Refuse { peer: number, why: Why::Proof },
                    Ask::Epoch { epoch: u64::MAX, fresh: true, check: [0; 16] },
                ];
                let (ask, room_name) = (asks[below(8)], "lobby");
                match below(12) {
                    0 => Request::Part { room: room_name },
                    1 => Request::Join { since: 0, room: room_name },
                    2 => Request::Nick { nick: "dora" },
                    3 => Request::History { from: 0, count: 9, room: room_name },
                    4 => {
                        let (to, token, epoch) = ("", "gAAAA", number);
                        Request::Sealed { tag: 1, room: room_name, to, epoch, counter: 1, token }
                    }
                    _ => Request::Key { room: room_name, ask },
                }
                .put(&mut wire);
                room.net.write(peer, wire);
            }
            if round % 20 == 0 {
                room.say(bia, &format!("oi {round}"));
                said.push(format!("bia: oi {round}"));
            }
            room.run(50);
        }
        let dora = room.enter("davi", PASSPHRASE);
        room.run(3_000);
        room.say(dora, "oi");
        room.run(1_000);
        said.push("davi: oi".to_owned());
        for member in [ana, bia, caio] {
            assert_eq!(room.heard(member), said, "{seed}");
        }
        let told = |conn: ConnId, response: Response<'_>| {
            let logged = matches!(&response, Response::Entry(entry) if entry.seq > 0);
            let inside = logged || matches!(response, Response::Names { .. });
            assert!(!inside || !matches!(conn.index, 3..=5), "{response:?}");
        };
        room.responses(told);
    }
}
