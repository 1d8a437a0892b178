//! Sealed rooms: doors, holders, keys that are announced, and those who are kept out.

use semfio_chat::wire::{
    Ask, Entry, MAX_RELAY, MAX_TOKEN, Manner, Request, Response, Sealed, What, Why,
};
use semfio_chat::{
    DOOR_WITHIN, HubConfig, HubMessage, HubReport, LogLimits, MAX_CANDIDATE_RELAYS, MAX_CANDIDATES,
    ROTATE_WITHIN, Reports, SlowPolicy,
};
use semfio_sim::PeerId;

use crate::lab::Lab;

const NONE: [&str; 0] = [];
/// A little more than the hub waits.
const DOOR: u64 = DOOR_WITHIN.as_millis() as u64 + 50;
const ROTATE: u64 = ROTATE_WITHIN.as_millis() as u64 + 50;

fn relay(lab: &mut Lab, from: PeerId, peer: u64, body: &[u8]) {
    lab.key(from, "r", Ask::Relay { peer, body });
    lab.run(10);
}

fn number(lab: &Lab, peer: PeerId) -> u64 {
    lab.door(peer, "r").unwrap().0
}

/// Members of a sealed room `r`, the first its holder, with what they were told forgotten.
fn room(lab: &mut Lab, nicks: &[&str]) -> Vec<PeerId> {
    let mut members = vec![lab.knock(nicks[0], "r")];
    for nick in &nicks[1..] {
        members.push(lab.sealed(members[0], nick, "r"));
    }
    members
}

fn forget(lab: &mut Lab, members: &[PeerId]) {
    lab.run(10);
    for &member in members {
        lab.news(member);
    }
}

fn reports(lab: &Lab) -> Vec<HubReport> {
    lab.net.reports(lab.hub).iter().map(|(_, report)| report.clone()).collect()
}

#[test]
fn the_first_opens_the_room_and_the_next_is_judged() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    assert_eq!(lab.frames(ana), ["WELCOME ana", "OPENED r", "NAMES 1 1 r ana", "JOIN 1 r ana"]);
    let bia = lab.knock("bia", "r");
    assert_eq!(lab.frames(bia), ["WELCOME bia", "DOOR r"]);
    assert_eq!(lab.frames(ana)[4..], ["KNOCK r bia"]);
    let (you, holder) = lab.door(bia, "r").unwrap();
    assert_eq!(holder, number(&lab, ana));
    assert!(you != holder && you != 0);
    forget(&mut lab, &[ana, bia]);
    relay(&mut lab, bia, holder, b"start");
    relay(&mut lab, ana, you, b"reply");
    assert_eq!(lab.news(ana), ["RELAY r start"]);
    assert_eq!(lab.news(bia), ["RELAY r reply"]);
    lab.key(ana, "r", Ask::Admit { peer: you });
    lab.key(ana, "r", Ask::Epoch { epoch: 2, fresh: false, check: [0; 16] });
    lab.run(10);
    assert_eq!(lab.news(bia), ["NAMES 2 2 r ana,bia", "JOIN 2 r bia", "EPOCH 3 r ana 2 ratchet"]);
    lab.seal(bia, 7, "r", "", "gAAAA");
    lab.run(10);
    assert_eq!(lab.news(bia), ["SEALED 4 r bia-> 1/7: gAAAA", "ACK 7 4"]);
    assert_eq!(lab.news(ana).last().unwrap(), "SEALED 4 r bia-> 1/7: gAAAA");
    lab.seal(ana, 8, "R", "", "gAAAB");
    lab.run(10);
    let sender = |response: &Response<'_>| match response {
        Response::Entry(Entry { what: What::Sealed(Sealed { sender, .. }), .. }) => Some(*sender),
        _ => None,
    };
    let told = lab.responses(bia);
    let senders: Vec<u64> = told.iter().filter_map(sender).collect();
    assert_eq!(senders, [you, holder], "their numbers at the door");
}

#[test]
fn who_is_refused_is_off_the_door_and_stays_connected() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let bia = lab.knock("bia", "r");
    let peer = number(&lab, bia);
    lab.key(ana, "r", Ask::Refuse { peer, why: Why::Proof });
    lab.run(10);
    assert_eq!(lab.frames(bia).last().unwrap(), "REFUSED r Proof");
    forget(&mut lab, &[ana, bia]);
    // Too late, and no longer anybody.
    lab.key(ana, "r", Ask::Admit { peer });
    relay(&mut lab, ana, peer, b"late");
    let holder = number(&lab, ana);
    relay(&mut lab, bia, holder, b"late");
    assert_eq!(lab.news(bia), ["ERROR NotMember goes on 0"]);
    assert_eq!(lab.news(ana), NONE);
    lab.key(bia, "r", Ask::Enter { since: 0 });
    lab.run(10);
    assert_eq!(lab.news(bia), ["DOOR r"]);
    let refused = |report: &HubReport| matches!(report, HubReport::NotAdmitted { nick, why: Why::Proof, .. } if nick == "bia");
    assert_eq!(reports(&lab).iter().filter(|report| refused(report)).count(), 1);
}

#[test]
fn what_only_the_holder_may_do_is_refused_from_others() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    let (ana, bia) = (members[0], members[1]);
    let (caio, eva) = (lab.knock("caio", "r"), lab.member("eva"));
    let at_door = number(&lab, caio);
    forget(&mut lab, &[ana, bia, caio, eva]);
    for (who, code) in [(bia, "Unexpected"), (caio, "Unexpected"), (eva, "NotMember")] {
        lab.key(who, "r", Ask::Admit { peer: at_door });
        lab.key(who, "r", Ask::Refuse { peer: at_door, why: Why::Proof });
        lab.key(who, "r", Ask::Epoch { epoch: 9, fresh: true, check: [0; 16] });
        lab.run(10);
        assert_eq!(lab.news(who), vec![format!("ERROR {code} goes on 0"); 3]);
    }
    // A relay reaches the holder alone, whomever it names.
    let numbers = [number(&lab, bia), at_door, 77];
    for (from, peers) in [(bia, [at_door, 77, numbers[0]]), (caio, [numbers[0], 77, at_door])] {
        for peer in peers {
            relay(&mut lab, from, peer, b"forged");
        }
    }
    let holder = number(&lab, ana);
    relay(&mut lab, eva, holder, b"from outside");
    for member in [ana, bia, caio] {
        assert_eq!(lab.news(member), NONE);
    }
    assert_eq!(lab.news(eva), ["ERROR NotMember goes on 0"]);
    relay(&mut lab, ana, numbers[0], b"to a member");
    relay(&mut lab, ana, numbers[2], b"to nobody");
    assert_eq!(lab.news(bia), ["RELAY r to a member"]);
    assert_eq!(lab.news(ana), NONE);
}

#[test]
fn the_oldest_takes_over_from_a_holder_that_leaves() {
    for how in 0..3 {
        let mut lab = Lab::new();
        let members = room(&mut lab, &["ana", "bia", "caio"]);
        let (ana, bia, caio) = (members[0], members[1], members[2]);
        let eva = lab.knock("eva", "r");
        forget(&mut lab, &[bia, caio, eva]);
        match how {
            0 => lab.ask(ana, Request::Part { room: "r" }),
            1 => lab.ask(ana, Request::Bye),
            _ => lab.net.reset(ana),
        }
        lab.run(10);
        assert_eq!(lab.news(bia), ["PART 4 r ana", "HOLDER 5 r bia", "GONE r", "KNOCK r eva"]);
        assert_eq!(lab.news(caio), ["PART 4 r ana", "HOLDER 5 r bia"]);
        assert_eq!(lab.news(eva), ["DOOR r"]);
        let (you, holder) = lab.door(eva, "r").unwrap();
        assert_eq!(holder, number(&lab, bia));
        lab.key(bia, "r", Ask::Admit { peer: you });
        lab.run(10);
        assert_eq!(lab.news(eva), ["NAMES 6 3 r caio,bia,eva", "JOIN 6 r eva"], "{how}");
        if how == 0 {
            // Who was demoted while its key was under way is told so, and stays.
            forget(&mut lab, &[ana]);
            lab.key(ana, "r", Ask::Epoch { epoch: 5, fresh: true, check: [0; 16] });
            lab.run(10);
            assert_eq!(lab.news(ana), ["ERROR NotMember goes on 0"]);
        }
    }
}

#[test]
fn two_that_leave_at_once_leave_one_holder() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia", "caio", "davi"]);
    forget(&mut lab, &members);
    lab.ask(members[0], Request::Bye);
    lab.ask(members[1], Request::Bye);
    lab.run(10);
    assert_eq!(
        lab.news(members[3]),
        ["PART 5 r ana", "HOLDER 6 r bia", "PART 7 r bia", "HOLDER 8 r caio"]
    );
    let told = lab.news(members[2]);
    assert_eq!(told.iter().filter(|frame| *frame == "GONE r").count(), 1, "{told:?}");
    lab.rotate(members[2], "r", 5);
    assert_eq!(lab.news(members[3]), ["EPOCH 9 r caio 5 fresh"]);
    lab.run(3 * ROTATE);
    assert_eq!(lab.news(members[3]), NONE, "it did what it had to");
}

#[test]
fn a_silent_holder_is_passed_over_in_turn() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia", "caio", "davi"]);
    let (ana, bia, caio) = (members[0], members[1], members[2]);
    let eva = lab.knock("eva", "r");
    forget(&mut lab, &members);
    lab.ask(members[3], Request::Part { room: "r" });
    // What is derived from the key that the other had does not count.
    lab.key(ana, "r", Ask::Epoch { epoch: 5, fresh: false, check: [0; 16] });
    lab.run(10);
    let at = lab.net.now().mono;
    assert_eq!(lab.news(ana), ["GONE r", "PART 5 r davi", "EPOCH 6 r ana 5 ratchet"]);
    forget(&mut lab, &[bia, caio, eva]);
    lab.run(ROTATE);
    assert_eq!(lab.news(bia), ["HOLDER 7 r bia", "KNOCK r eva"]);
    assert_eq!(lab.news(eva), ["DOOR r"]);
    assert_eq!(lab.news(caio), ["HOLDER 7 r bia"]);
    lab.run(ROTATE);
    lab.run(ROTATE);
    assert_eq!(lab.news(caio), ["HOLDER 8 r caio", "KNOCK r eva", "GONE r", "HOLDER 9 r ana"]);
    assert!(lab.net.now().mono.saturating_since(at) < 4 * ROTATE_WITHIN);
    forget(&mut lab, &[ana]);
    lab.key(bia, "r", Ask::Epoch { epoch: 6, fresh: true, check: [0; 16] });
    lab.rotate(ana, "r", 6);
    assert_eq!(lab.news(ana), ["EPOCH 10 r ana 6 fresh"]);
    assert_eq!(lab.news(bia).iter().filter(|frame| frame.starts_with("ERROR")).count(), 1);
    let passed = |report: HubReport| match report {
        HubReport::PassedOver { nick, .. } => Some(nick),
        _ => None,
    };
    let passed: Vec<String> = reports(&lab).into_iter().filter_map(passed).collect();
    assert_eq!(passed, ["ana", "bia", "caio"]);
}

#[test]
fn a_holder_that_vanishes_with_an_answer_to_an_earlier_leaving_is_passed_over() {
    for vanishes in [true, false] {
        let mut lab = Lab::new();
        let members = room(&mut lab, &["ana", "bia", "caio", "davi"]);
        forget(&mut lab, &members);
        // The key that is announced was made before the second left.
        lab.ask(members[1], Request::Part { room: "r" });
        lab.run(10);
        lab.ask(members[2], Request::Part { room: "r" });
        lab.run(10);
        lab.rotate(members[0], "r", 5);
        lab.run(1_000);
        let pinged = lab.only(members[0], "PING");
        assert_eq!(pinged.len(), 1, "{pinged:?}");
        if !vanishes {
            lab.ask(members[0], Request::Pong(0));
        }
        lab.run(ROTATE);
        assert_eq!(lab.only(members[3], "HOLDER").len(), usize::from(vanishes));
    }
}

#[test]
fn one_that_is_alone_is_not_passed_over_until_it_has_company() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    lab.ask(members[1], Request::Bye);
    forget(&mut lab, &members[..1]);
    lab.run(5 * ROTATE);
    assert_eq!(lab.news(members[0]), NONE);
    let caio = lab.sealed(members[0], "caio", "r");
    forget(&mut lab, &[caio]);
    lab.run(ROTATE - 100);
    assert_eq!(lab.news(caio), NONE);
    lab.run(100);
    assert_eq!(lab.news(caio), ["HOLDER 5 r caio"]);
}

#[test]
fn who_stands_at_the_door_too_long_is_told() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let bia = lab.knock("bia", "r");
    lab.run(DOOR / 2);
    let caio = lab.knock("caio", "r");
    forget(&mut lab, &[ana, bia, caio]);
    lab.run(DOOR / 2);
    assert_eq!(lab.news(bia), ["REFUSED r Timeout"]);
    assert_eq!(lab.news(ana), ["GONE r"]);
    assert_eq!(lab.news(caio), NONE);
    lab.run(DOOR / 2);
    assert_eq!(lab.news(caio), ["REFUSED r Timeout"]);
}

#[test]
fn the_oldest_at_the_door_opens_a_room_that_empties() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let (bia, caio) = (lab.knock("bia", "r"), lab.knock("caio", "r"));
    forget(&mut lab, &[bia, caio]);
    lab.net.reset(ana);
    lab.run(10);
    assert_eq!(
        lab.news(bia),
        ["OPENED r", "NAMES 3 1 r bia", "KNOCK r caio", "JOIN 3 r bia"],
        "the log is kept, and none of it is shown"
    );
    assert_eq!(lab.news(caio), ["DOOR r"]);
}

#[test]
fn who_leaves_the_door_is_gone() {
    for how in 0..3 {
        let mut lab = Lab::new();
        let ana = lab.knock("ana", "r");
        let bia = lab.knock("bia", "r");
        forget(&mut lab, &[ana]);
        match how {
            0 => lab.ask(bia, Request::Part { room: "r" }),
            1 => lab.ask(bia, Request::Bye),
            _ => lab.net.reset(bia),
        }
        lab.run(10);
        assert_eq!(lab.news(ana), ["GONE r"]);
        lab.run(2 * DOOR);
        let rest: Vec<_> = lab.news(ana).into_iter().filter(|frame| frame != "PING").collect();
        assert_eq!(rest, NONE);
    }
}

#[test]
fn nobody_is_renamed_at_the_door() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let bia = lab.knock("bia", "r");
    forget(&mut lab, &[ana, bia]);
    lab.ask(bia, Request::Nick { nick: "ana2" });
    lab.key(bia, "r", Ask::Enter { since: 0 });
    lab.key(ana, "r", Ask::Enter { since: 0 });
    lab.run(10);
    assert_eq!(lab.news(bia), ["ERROR Unexpected goes on 0"; 2]);
    assert_eq!(lab.news(ana), ["ERROR Unexpected goes on 0"]);
    let peer = number(&lab, bia);
    lab.key(ana, "r", Ask::Admit { peer });
    lab.ask(bia, Request::Nick { nick: "eva" });
    lab.run(10);
    assert_eq!(lab.news(ana), ["JOIN 2 r bia", "NICK 3 r bia eva"]);
}

#[test]
fn guesses_are_limited_by_address_and_given_back_when_right() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    // Right each time: it may come back as often as it likes.
    for n in 0..12 {
        let member = lab.connect_from([10, 9, 0, 1].into());
        lab.hello(member, &format!("m{n}"), [0; 16]);
        lab.key(member, "r", Ask::Enter { since: 0 });
        lab.run(10);
        let peer = number(&lab, member);
        lab.key(ana, "r", Ask::Admit { peer });
        lab.run(10);
        assert_eq!(lab.only(member, "JOIN").len(), 1, "{n}");
        lab.net.reset(member);
        lab.run(10);
    }
    let mut refused = Vec::new();
    for n in 0..6 {
        let guess = lab.connect_from([10, 9, 0, 2].into());
        lab.hello(guess, &format!("g{n}"), [0; 16]);
        lab.key(guess, "r", Ask::Enter { since: 0 });
        lab.key(guess, "elsewhere", Ask::Enter { since: 0 });
        lab.run(10);
        if let Some((peer, _)) = lab.door(guess, "r") {
            lab.key(ana, "r", Ask::Refuse { peer, why: Why::Proof });
        }
        lab.run(10);
        refused.push(lab.only(guess, "REFUSED"));
        assert_eq!(lab.only(guess, "OPENED").len(), 1, "an empty room costs no guess");
        lab.net.reset(guess);
        lab.run(10);
    }
    let (proof, limit) = (["REFUSED r Proof"], ["REFUSED r Limit"]);
    assert_eq!(refused, [proof, proof, proof, limit, limit, limit]);
    let limited = |report: &HubReport| {
        let source = std::net::IpAddr::from([10, 9, 0, 2]);
        matches!(report, HubReport::Limited { source: of, pause } if *of == source && !pause.is_zero())
    };
    assert_eq!(reports(&lab).iter().filter(|report| limited(report)).count(), 3);
    let bia = lab.knock("bia", "r");
    assert_eq!(lab.only(bia, "DOOR").len(), 1, "others are not concerned");
    lab.run(20_000);
    let again = lab.connect_from([10, 9, 0, 2].into());
    lab.hello(again, "again", [0; 16]);
    lab.key(again, "r", Ask::Enter { since: 0 });
    lab.run(10);
    assert_eq!(lab.only(again, "DOOR").len(), 1, "after the pause");
}

#[test]
fn a_class_behind_one_address_enters_together() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let enter = |lab: &mut Lab, nick: &str| {
        let peer = lab.connect_from([10, 9, 0, 3].into());
        lab.hello(peer, nick, [0; 16]);
        lab.key(peer, "r", Ask::Enter { since: 0 });
        peer
    };
    let class: Vec<_> = (0..30).map(|n| enter(&mut lab, &format!("m{n}"))).collect();
    lab.run(10);
    assert_eq!(lab.only(ana, "KNOCK").len(), 3, "no more guesses at once than from anybody");
    for &peer in &class {
        let peer = number(&lab, peer);
        lab.key(ana, "r", Ask::Admit { peer });
        lab.run(10);
    }
    for &peer in &class {
        assert_eq!(lab.only(peer, "REFUSED"), [""; 0]);
    }
    assert_eq!(lab.only(ana, "JOIN").len(), 31);
    // Once none is under way that may be right, those who wait are told.
    let wrong: Vec<_> = (0..5).map(|n| enter(&mut lab, &format!("w{n}"))).collect();
    lab.run(10);
    for &peer in &wrong[..3] {
        let peer = number(&lab, peer);
        lab.key(ana, "r", Ask::Refuse { peer, why: Why::Proof });
        lab.run(10);
    }
    assert_eq!(lab.only(wrong[3], "REFUSED"), ["REFUSED r Limit"]);
    assert_eq!(lab.only(wrong[4], "REFUSED"), ["REFUSED r Limit"]);
    assert_eq!(lab.only(ana, "KNOCK").len(), 33);
}

#[test]
fn one_address_does_not_fill_a_door() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let enter = |lab: &mut Lab, nick: &str, last: u8| {
        let peer = lab.connect_from([10, 9, 0, last].into());
        lab.hello(peer, nick, [0; 16]);
        lab.key(peer, "r", Ask::Enter { since: 0 });
        lab.run(1);
        peer
    };
    let flood: Vec<_> = (0..80).map(|n| enter(&mut lab, &format!("m{n}"), 3)).collect();
    lab.run(10);
    let refused = |lab: &Lab| flood.iter().filter(|&&p| !lab.only(p, "REFUSED").is_empty()).count();
    assert_eq!(refused(&lab), 80 - MAX_CANDIDATES);
    for n in 0..2 {
        let bia = enter(&mut lab, &format!("bia{n}"), 4 + n);
        lab.run(10);
        assert_eq!(lab.only(bia, "DOOR").len(), 1, "{n}");
        assert_eq!(lab.only(ana, "KNOCK").len(), 4 + usize::from(n));
        assert_eq!(refused(&lab), 81 - MAX_CANDIDATES + usize::from(n), "one made way");
    }
    // Those who were called are not turned away for others.
    for &peer in &flood[..3] {
        assert_eq!(lab.only(peer, "DOOR").len(), 1);
        assert_eq!(lab.only(peer, "REFUSED"), NONE);
    }
    let again = enter(&mut lab, "bia9", 4);
    lab.run(10);
    assert_eq!(lab.only(again, "REFUSED"), ["REFUSED r Limit"], "it has a place there");
}

#[test]
fn a_flood_of_entering_is_reported_once() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let bad = lab.framed("bad");
    forget(&mut lab, &[ana]);
    for _ in 0..500 {
        lab.key(bad, "r", Ask::Enter { since: 0 });
        lab.ask(bad, Request::Part { room: "r" });
    }
    lab.run(100);
    let limited = |report: &HubReport| matches!(report, HubReport::Limited { .. });
    assert_eq!(reports(&lab).iter().filter(|report| limited(report)).count(), 1);
    assert_eq!(lab.news(ana), ["KNOCK r bad", "GONE r"].repeat(3));
}

#[test]
fn a_networks_of_ipv6_addresses_is_one_source() {
    let mut lab = Lab::new();
    lab.knock("ana", "r");
    let mut doors = 0;
    for n in 1..=6 {
        let from: std::net::Ipv6Addr = format!("2001:db8:0:1::{n}").parse().unwrap();
        let peer = lab.connect_from(from.into());
        lab.hello(peer, &format!("m{n}"), [0; 16]);
        lab.key(peer, "r", Ask::Enter { since: 0 });
        lab.run(10);
        doors += lab.only(peer, "DOOR").len();
    }
    assert_eq!(doors, 3);
    let other: std::net::Ipv6Addr = "2001:db8:0:2::1".parse().unwrap();
    let peer = lab.connect_from(other.into());
    lab.hello(peer, "other", [0; 16]);
    lab.key(peer, "r", Ask::Enter { since: 0 });
    lab.run(10);
    assert_eq!(lab.only(peer, "DOOR").len(), 1);
}

#[test]
fn a_room_that_is_in_use_keeps_its_mode() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let plain = lab.member("plain");
    let line = lab.line_member();
    forget(&mut lab, &[ana, plain]);
    lab.net.take_received(line);
    for request in [
        Request::Join { since: 0, room: "R" },
        Request::Who { room: "r" },
        Request::History { from: 0, count: 9, room: "r" },
        Request::Msg { tag: 1, manner: Manner::Text, to: "r", text: "hi" },
        Request::Sealed { tag: 2, room: "r", to: "", epoch: 1, counter: 1, token: "gA" },
        Request::Sealed { tag: 3, room: "lobby", to: "", epoch: 1, counter: 1, token: "gA" },
        Request::Key { room: "lobby", ask: Ask::Enter { since: 0 } },
        Request::Key { room: "lobby", ask: Ask::Admit { peer: 1 } },
        Request::Part { room: "r" },
    ] {
        lab.ask(plain, request);
    }
    let eva = lab.knock("eva", "lobby");
    assert_eq!(
        lab.news(plain),
        [
            "ERROR Sealed goes on 0",
            "ERROR NotMember goes on 0",
            "ERROR NotMember goes on 0",
            "ERROR NotMember goes on 1",
            "ERROR NotMember goes on 2",
            "ERROR NotSealed goes on 3",
            "ERROR NotSealed goes on 0",
            "ERROR NotMember goes on 0",
            "ERROR NotMember goes on 0",
        ]
    );
    assert_eq!(lab.frames(eva), ["WELCOME eva", "ERROR NotSealed goes on 0"]);
    lab.net.write(line, "/join r\n/who r\n/history\n");
    lab.run(10);
    let text = lab.text(line);
    assert!(
        text.starts_with("! this room is sealed; join it with a passphrase\n! there is no such")
    );
    lab.ask(ana, Request::Msg { tag: 4, manner: Manner::Text, to: "r", text: "in clear" });
    lab.run(10);
    assert_eq!(lab.news(ana), ["ERROR Sealed goes on 4"]);
}

#[test]
fn an_empty_room_takes_the_mode_of_the_next_and_its_numbers_go_on() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    lab.seal(ana, 1, "r", "", "secret");
    lab.ask(ana, Request::Part { room: "r" });
    lab.run(10);
    // Sealed again: what was said is kept for one that comes back.
    lab.news(ana);
    lab.key(ana, "r", Ask::Enter { since: 1 });
    lab.run(10);
    assert_eq!(
        lab.news(ana),
        [
            "OPENED r",
            "SEALED 2 r ana-> 1/1: secret",
            "PART 3 r ana",
            "NAMES 4 1 r ana",
            "JOIN 4 r ana"
        ]
    );
    lab.ask(ana, Request::Bye);
    lab.run(10);
    // Nobody inside: a stranger learns nothing of it all the same.
    let plain = lab.framed("plain");
    lab.ask(plain, Request::Who { room: "r" });
    lab.run(10);
    assert_eq!(lab.frames(plain)[1..], ["ERROR NotMember goes on 0"]);
    forget(&mut lab, &[plain]);
    lab.ask(plain, Request::Join { since: 1, room: "r" });
    lab.run(10);
    assert_eq!(lab.news(plain), ["GAP 2-5 6 r", "NAMES 6 1 r plain", "JOIN 6 r plain"]);
    lab.ask(plain, Request::History { from: 0, count: 9, room: "r" });
    lab.run(10);
    assert_eq!(lab.news(plain), ["HISTORY 6-6 r", "JOIN 6 r plain"]);
    lab.ask(plain, Request::Msg { tag: 1, manner: Manner::Text, to: "r", text: "in clear" });
    lab.ask(plain, Request::Bye);
    lab.run(10);
    let bia = lab.knock("bia", "r");
    lab.key(bia, "r", Ask::Enter { since: 0 });
    lab.ask(bia, Request::History { from: 0, count: 9, room: "r" });
    lab.run(10);
    let told = lab.frames(bia);
    assert!(told.contains(&"JOIN 9 r bia".into()) && told.contains(&"HISTORY 9-9 r".into()));
    assert_eq!(lab.only(bia, "MSG"), NONE);
}

#[test]
fn those_who_speak_in_clear_are_turned_away_from_a_sealed_default_room() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "lobby");
    let line = lab.connect();
    lab.net.write(line, "\n");
    let raw = lab.connect();
    lab.net.write(raw, "oi");
    let silent = lab.connect();
    lab.run(300);
    let told = "! this room is sealed; join it with a passphrase\n";
    for peer in [line, raw] {
        assert_eq!(lab.text(peer), told);
        assert!(lab.net.peer(peer).eof().is_some());
    }
    assert!(lab.net.peer(silent).eof().is_none(), "it may yet speak frames");
    assert_eq!(lab.hub().members(), 1);
    lab.hello(silent, "late", [0; 16]);
    lab.key(silent, "lobby", Ask::Enter { since: 0 });
    let slow = lab.connect();
    lab.run(300);
    assert_eq!(lab.frames(silent), ["WELCOME late", "DOOR lobby"]);
    lab.net.write(slow, "oi");
    lab.run(300);
    assert_eq!(lab.text(slow), told);
    assert!(lab.net.peer(slow).eof().is_some());
    assert_eq!(lab.only(ana, "JOIN").len(), 1);
    let in_clear = |report: &HubReport| matches!(report, HubReport::InClear { .. });
    assert_eq!(reports(&lab).iter().filter(|report| in_clear(report)).count(), 3);
    // Open again once it is empty.
    lab.net.reset(silent);
    lab.net.reset(ana);
    lab.run(10);
    let line = lab.line_member();
    lab.net.write(line, "oi\n");
    lab.run(10);
    assert!(lab.text(line).contains("> oi"));
}

#[test]
fn a_server_of_sealed_rooms_takes_nothing_in_clear() {
    let mut lab = Lab::with(HubConfig { sealed_only: true, ..HubConfig::default() });
    let line = lab.connect();
    lab.net.write(line, "\n");
    let raw = lab.connect();
    lab.net.write(raw, "oi");
    let framed = lab.framed("ana");
    let bia = lab.framed("bia");
    lab.join(framed, "lobby");
    lab.join(framed, "elsewhere");
    lab.ask(framed, Request::Msg { tag: 3, manner: Manner::Private, to: "bia", text: "psst" });
    lab.key(framed, "lobby", Ask::Enter { since: 0 });
    lab.run(300);
    for peer in [line, raw] {
        assert_eq!(
            lab.text(peer),
            "! this server takes nothing in clear; join with a passphrase\n"
        );
        assert!(lab.net.peer(peer).eof().is_some());
    }
    assert_eq!(
        lab.frames(framed)[1..],
        [
            "ERROR Sealed goes on 0",
            "ERROR Sealed goes on 0",
            "ERROR Sealed goes on 3",
            "OPENED lobby",
            "NAMES 1 1 lobby ana",
            "JOIN 1 lobby ana",
        ]
    );
    assert_eq!(lab.frames(bia), ["WELCOME bia"]);
}

#[test]
fn a_private_text_stays_between_two_of_the_room() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia", "caio"]);
    let (outside, at_door) = (lab.member("out"), lab.knock("door", "r"));
    forget(&mut lab, &members);
    forget(&mut lab, &[outside, at_door]);
    lab.seal(members[1], 1, "r", "CAIO", "gA");
    for (tag, to) in [(2, "out"), (3, "door"), (4, "nobody")] {
        lab.seal(members[1], tag, "r", to, "gA");
    }
    lab.seal(at_door, 5, "r", "caio", "gA");
    lab.seal(outside, 6, "r", "caio", "gA");
    lab.run(10);
    assert_eq!(lab.news(members[2]), ["SEALED 0 r bia->CAIO 1/1: gA"]);
    let refused = [2, 3, 4].map(|tag| format!("ERROR NoSuchNick goes on {tag}"));
    assert_eq!(lab.news(members[1]), [&refused[..], &["ACK 1 0".into()]].concat());
    assert_eq!(lab.news(members[0]), NONE);
    assert_eq!(lab.news(at_door), ["ERROR NotMember goes on 5"]);
    assert_eq!(lab.news(outside), ["ERROR NotMember goes on 6"]);
    // In clear, as ever, it is between any two.
    lab.ask(outside, Request::Msg { tag: 7, manner: Manner::Private, to: "bia", text: "psst" });
    lab.run(10);
    assert_eq!(lab.news(members[1]), ["PRIVATE 0 out->bia: psst"]);
}

#[test]
fn what_is_too_long_or_badly_named_is_refused_and_the_rest_goes_on() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    let (ana, bia) = (members[0], members[1]);
    let holder = number(&lab, ana);
    forget(&mut lab, &members);
    relay(&mut lab, bia, holder, &[0xFF; MAX_RELAY]);
    relay(&mut lab, bia, holder, &[0xFF; MAX_RELAY + 1]);
    lab.seal(bia, 1, "r", "", &"A".repeat(MAX_TOKEN));
    lab.seal(bia, 2, "r", "", &"A".repeat(MAX_TOKEN + 1));
    for (tag, token) in [(3, ""), (4, "gA\n"), (5, "gÁ"), (6, "\u{202E}")] {
        lab.seal(bia, tag, "r", "", token);
    }
    lab.seal(bia, 7, "r", "two words", "gA");
    lab.seal(bia, 8, "r r", "", "gA");
    lab.key(bia, "r r", Ask::Enter { since: 0 });
    lab.seal(bia, 9, "r", "", "-_=");
    lab.run(10);
    let mut told = lab.news(bia);
    assert_eq!(told.pop().unwrap(), "ACK 9 4");
    let errors: Vec<_> = told.into_iter().filter(|frame| frame.starts_with("ERROR")).collect();
    let expected = [
        ("TooLarge", 0),
        ("TooLarge", 2),
        ("BadText", 3),
        ("BadText", 4),
        ("BadText", 5),
        ("BadText", 6),
        ("BadText", 7),
        ("BadText", 8),
        ("BadText", 0),
    ];
    let expected = expected.map(|(code, tag)| format!("ERROR {code} goes on {tag}"));
    assert_eq!(errors, expected);
    let told = lab.news(ana);
    assert_eq!(told.iter().filter(|frame| frame.starts_with("RELAY")).count(), 1);
    assert_eq!(told.iter().filter(|frame| frame.starts_with("SEALED")).count(), 2);
}

#[test]
fn a_relay_that_finds_no_room_is_dropped() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    let holder = number(&lab, members[0]);
    forget(&mut lab, &members);
    lab.net.set_reading(members[0], false);
    for n in 0..1_000 {
        let body = format!("{n:04000}");
        lab.key(members[1], "r", Ask::Relay { peer: holder, body: body.as_bytes() });
        lab.run(1);
    }
    assert!(lab.held() < 128 * 1024, "{} held", lab.held());
    lab.seal(members[1], 1, "r", "ana", "gA");
    lab.run(10);
    assert_eq!(lab.news(members[1]), ["ERROR TooSlow goes on 1"]);
    lab.net.set_reading(members[0], true);
    lab.run(100);
    let came = lab.news(members[0]).len();
    assert!((1..200).contains(&came), "{came}");
    relay(&mut lab, members[1], holder, b"again");
    assert_eq!(lab.news(members[0]), ["RELAY r again"]);
}

#[test]
fn a_candidate_that_floods_reaches_the_holder_sixteen_times() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    let holder = number(&lab, members[0]);
    let bad = lab.knock("bad", "r");
    forget(&mut lab, &members);
    forget(&mut lab, &[bad]);
    for _ in 0..1_000 {
        lab.key(bad, "r", Ask::Relay { peer: holder, body: b"x" });
    }
    lab.run(100);
    assert_eq!(lab.news(members[0]).len(), usize::from(MAX_CANDIDATE_RELAYS));
    // Each holder is owed as many.
    lab.ask(members[0], Request::Bye);
    lab.run(10);
    let holder = lab.door(bad, "r").unwrap().1;
    forget(&mut lab, &members[1..]);
    for _ in 0..1_000 {
        lab.key(bad, "r", Ask::Relay { peer: holder, body: b"x" });
    }
    lab.run(100);
    assert_eq!(lab.news(members[1]).len(), usize::from(MAX_CANDIDATE_RELAYS));
}

#[test]
fn doors_and_rooms_are_bounded() {
    let mut lab = Lab::with(HubConfig { rooms_each: 3, rooms: 6, ..HubConfig::default() });
    let ana = lab.knock("ana", "r");
    let knockers: Vec<PeerId> =
        (0..=MAX_CANDIDATES).map(|n| lab.knock(&format!("m{n}"), "r")).collect();
    let (last, first) = knockers.split_last().unwrap();
    for &peer in first {
        assert_eq!(lab.only(peer, "DOOR").len(), 1);
    }
    assert_eq!(lab.only(*last, "REFUSED"), ["REFUSED r Limit"]);
    assert_eq!(lab.only(ana, "KNOCK").len(), MAX_CANDIDATES);
    // A door counts as a room.
    let bad = first[0];
    forget(&mut lab, &[bad]);
    for room in ["s1", "s2", "s3"] {
        lab.key(bad, room, Ask::Enter { since: 0 });
    }
    lab.join(bad, "s4");
    lab.run(10);
    assert_eq!(lab.news(bad).iter().filter(|f| *f == "ERROR TooManyRooms goes on 0").count(), 2);
    for (n, error) in [("s5", 0), ("s6", 0), ("s7", 1)] {
        let other = lab.knock(n, n);
        assert_eq!(lab.only(other, "ERROR TooManyRooms").len(), error, "{n}: of the server");
    }
}

#[test]
fn one_that_comes_back_finds_its_ghost_gone_and_what_it_missed() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia", "caio"]);
    let key = lab.session_key(members[1]);
    lab.seal(members[0], 1, "r", "", "one");
    lab.seal(members[0], 2, "r", "", "two");
    forget(&mut lab, &members);
    let back = lab.connect();
    lab.hello(back, "bia", key);
    lab.key(back, "r", Ask::Enter { since: 4 });
    lab.run(10);
    assert_eq!(lab.news(members[0]), ["GONE r", "KNOCK r bia", "PART 6 r bia"]);
    let (peer, _) = lab.door(back, "r").unwrap();
    lab.key(members[0], "r", Ask::Admit { peer });
    lab.run(10);
    assert_eq!(
        lab.news(back)[1..],
        [
            "DOOR r",
            "SEALED 5 r ana-> 1/2: two",
            "PART 6 r bia",
            "NAMES 7 3 r ana,caio,bia",
            "JOIN 7 r bia",
        ]
    );
    // And the holder.
    forget(&mut lab, &members);
    lab.rotate(members[0], "r", 3);
    let key = lab.session_key(members[0]);
    let back = lab.connect();
    lab.hello(back, "ana", key);
    lab.key(back, "r", Ask::Enter { since: 7 });
    lab.run(10);
    assert_eq!(
        lab.news(members[2]),
        ["EPOCH 8 r ana 3 fresh", "PART 9 r ana", "HOLDER 10 r caio", "GONE r", "KNOCK r ana"]
    );
}

#[test]
fn one_that_reads_too_slowly_is_told_its_gap_in_a_sealed_room_too() {
    let log = LogLimits { entries: 500, bytes: 300 * 1024 };
    let mut lab = Lab::with(HubConfig { log, ..HubConfig::default() });
    let members = room(&mut lab, &["ana", "slow", "bia"]);
    lab.net.set_reading(members[1], false);
    for tag in 1..=1_500 {
        lab.seal(members[0], tag, "r", "", &format!("{tag:01000}"));
        lab.run(1);
    }
    assert!(lab.held() < 128 * 1024, "{} held", lab.held());
    assert_eq!(lab.only(members[2], "SEALED").len(), 1_500);
    lab.net.set_reading(members[1], true);
    lab.run(100);
    assert_eq!(lab.only(members[1], "GAP").len(), 1);
    lab.seal(members[0], 9_999, "r", "", "last");
    lab.run(10);
    assert!(lab.frames(members[1]).last().unwrap().ends_with("last"));
    lab.ask(members[1], Request::History { from: 1_400, count: 5, room: "r" });
    lab.run(10);
    let told = lab.frames(members[1]);
    assert_eq!(told[told.len() - 6], "HISTORY 1400-1404 r");
    assert!(told[told.len() - 5..].iter().all(|frame| frame.starts_with("SEALED 14")));
}

#[test]
fn a_holder_that_is_dropped_for_reading_too_slowly_is_followed() {
    let config = HubConfig { slow: SlowPolicy::Disconnect, ..HubConfig::default() };
    let mut lab = Lab::with(config);
    let members = room(&mut lab, &["ana", "bia", "caio"]);
    lab.net.set_reading(members[0], false);
    for tag in 1..=600 {
        lab.seal(members[1], tag, "r", "", &format!("{tag:01000}"));
        lab.run(1);
    }
    assert_eq!(lab.only(members[2], "HOLDER").len(), 1);
    assert_eq!(lab.only(members[1], "GONE").len(), 1);
}

#[test]
fn what_is_sealed_is_reported_by_its_length_alone() {
    let mut lab = Lab::with(HubConfig { reports: Reports::All, ..HubConfig::default() });
    let members = room(&mut lab, &["ana", "bia"]);
    lab.seal(members[0], 1, "r", "", "c2VjcmV0");
    let holder = number(&lab, members[0]);
    relay(&mut lab, members[1], holder, b"c2VjcmV0");
    lab.rotate(members[0], "r", 2);
    let reports = reports(&lab);
    let (room, nick) = ("r".to_owned(), "ana".to_owned());
    assert!(reports.contains(&HubReport::Sealed { room, nick, len: 8 }));
    assert!(!format!("{reports:?}").contains("c2VjcmV0"));
    let knocked = |report: &&HubReport| matches!(report, HubReport::Knocked { .. });
    assert_eq!(reports.iter().filter(knocked).count(), 1);
}

#[test]
fn a_server_that_stops_opens_no_room() {
    let mut lab = Lab::new();
    let ana = lab.knock("ana", "r");
    let bia = lab.knock("bia", "r");
    lab.net.send_message(lab.hub, HubMessage::Stop);
    lab.run(10_000);
    assert_eq!(lab.frames(bia), ["WELCOME bia", "DOOR r", "BYE"]);
    assert_eq!(lab.frames(ana).last().unwrap(), "BYE");
    assert!(lab.net.is_over(lab.hub));
}

#[test]
fn one_member_is_in_rooms_of_both_modes() {
    let mut lab = Lab::new();
    let members = room(&mut lab, &["ana", "bia"]);
    let line = lab.line_member();
    for &member in &members {
        lab.join(member, "lobby");
    }
    forget(&mut lab, &members);
    lab.say(members[0], 1, "in clear");
    lab.seal(members[0], 2, "r", "", "gA");
    lab.net.write(line, "hi\n");
    lab.run(10);
    for &member in &members {
        let mut told = lab.news(member);
        told.retain(|frame| !frame.starts_with("ACK"));
        told.sort();
        let expected =
            ["MSG 4 lobby ana: in clear", "MSG 5 lobby guest-1: hi", "SEALED 3 r ana-> 1/2: gA"];
        assert_eq!(told, expected);
    }
    assert!(!lab.text(line).contains("gA"));
}
