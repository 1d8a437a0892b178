//! A hub that speaks the course's secure chat, over real links.

use semfio_chat::wire::{Manner, Request};
use semfio_chat::{GAP, HubConfig, HubReport, OK_WITHIN, ParticipantReport, Reports, SlowPolicy};
use semfio_frame::Dialect;
use semfio_keysync::{Cut, Key, Policy, Splitter};
use semfio_machine::UnixTime;
use semfio_sim::{LinkConfig, PeerId, SplitPlan};

use crate::lab::{Lab, texts};

fn config() -> HubConfig {
    HubConfig { insecure_cleartext_key: true, reports: Reports::Members, ..HubConfig::default() }
}

fn key(lab: &Lab, peer: PeerId) -> Key {
    Key::parse(std::str::from_utf8(&lab.net.peer(peer).received()[..44]).unwrap()).unwrap()
}

fn sealed(key: &Key, text: &[u8]) -> Vec<u8> {
    let mut token = Vec::new();
    key.seal(UnixTime::from_secs(1), [text.len() as u8; 16], text, &mut token);
    token
}

/// A member as the course's client is.
fn token_member(lab: &mut Lab) -> (PeerId, Key) {
    let peer = lab.connect();
    answer(lab, peer)
}

fn answer(lab: &mut Lab, peer: PeerId) -> (PeerId, Key) {
    lab.run(250);
    let key = key(lab, peer);
    lab.net.write(peer, sealed(&key, b"OK"));
    lab.run(250);
    (peer, key)
}

/// What a peer got after the key, opened.
fn got(lab: &Lab, peer: PeerId) -> Vec<String> {
    let key = key(lab, peer);
    tokens(lab, peer)
        .iter()
        .map(|token| {
            let mut text = Vec::new();
            key.open(
                &Policy { skew: None, ..Policy::STRICT },
                UnixTime::from_secs(1),
                token,
                &mut text,
            )
            .unwrap();
            String::from_utf8(text).unwrap()
        })
        .collect()
}

fn tokens(lab: &Lab, peer: PeerId) -> Vec<Vec<u8>> {
    let (key, mut splitter) = (key(lab, peer), Splitter::new());
    let (mut rest, mut tokens) = (&lab.net.peer(peer).received()[44..], Vec::new());
    while let Some(cut) = splitter.cut(&key, rest, true) {
        let Cut::Token(n) = cut else { panic!("{cut:?}") };
        let (token, after) = rest.split_at(n);
        tokens.push(token.to_vec());
        rest = after;
    }
    tokens
}

fn reports(lab: &Lab) -> Vec<HubReport> {
    lab.net.reports(lab.hub).iter().map(|(_, report)| report.clone()).collect()
}

#[test]
fn tokens_go_on_as_they_are_to_all_and_to_their_sender() {
    let mut lab = Lab::with(config());
    let ana = lab.member("ana");
    let ((one, key), (two, same)) = (token_member(&mut lab), token_member(&mut lab));
    assert_eq!(key.as_bytes(), same.as_bytes());
    let token = sealed(&key, "olá".as_bytes());
    lab.net.write(one, token.clone());
    lab.run(100);
    assert_eq!(tokens(&lab, one), std::slice::from_ref(&token));
    assert_eq!(tokens(&lab, two), [token]);
    assert_eq!(lab.said(ana), ["olá"]);
    lab.say(ana, 1, "oi");
    lab.ask(ana, Request::Msg { tag: 2, manner: Manner::Action, to: "lobby", text: "waves" });
    lab.ask(ana, Request::Msg { tag: 3, manner: Manner::Private, to: "token-1", text: "psst" });
    lab.run(200);
    assert_eq!(got(&lab, one), ["olá", "psst", "oi", "* ana waves"]);
    assert_eq!(got(&lab, two), ["olá", "oi", "* ana waves"]);
    assert_eq!(tokens(&lab, one)[2], tokens(&lab, two)[1], "sealed once");
    lab.net.write(two, sealed(&key, b""));
    lab.run(200);
    assert_eq!(got(&lab, one)[4], "", "an empty line of the course's client");
}

#[test]
fn the_key_is_another_for_another_seed_and_the_same_for_the_same() {
    let keys = [1, 1, 2].map(|seed| {
        let mut lab = Lab::seeded(seed, config());
        *token_member(&mut lab).1.as_bytes()
    });
    assert!(keys[0] == keys[1] && keys[1] != keys[2]);
}

#[test]
fn defects_14_and_15_what_is_glued_or_torn_arrives_once_and_in_order() {
    for split in [SplitPlan::EveryByte, SplitPlan::Joined] {
        let mut lab = Lab::with(config());
        let ana = lab.member("ana");
        let peer = lab.connect_over(LinkConfig { split, ..LinkConfig::default() });
        lab.run(300);
        let key = key(&lab, peer);
        let mut wire = sealed(&key, b"OK");
        for text in texts(20) {
            wire.extend(sealed(&key, text.as_bytes()));
        }
        lab.net.write(peer, wire);
        lab.run(2_000);
        assert_eq!(lab.said(ana), texts(20));
        assert_eq!(got(&lab, peer), texts(20));
    }
}

#[test]
fn defect_16_long_texts_come_in_tokens_that_can_be_read() {
    let mut lab = Lab::with(config());
    let ana = lab.member("ana");
    let (one, key) = token_member(&mut lab);
    let long = "é".repeat(5_000);
    lab.say(ana, 1, &long);
    lab.run(1_000);
    assert!(tokens(&lab, one).iter().all(|token| token.len() <= 1_024));
    assert_eq!(got(&lab, one).concat(), long);
    // From one of the course's, longer than a text of ours may be.
    let before = tokens(&lab, one).len();
    let huge = "ã".repeat(15_000);
    lab.net.write(one, sealed(&key, huge.as_bytes()));
    lab.run(3_000);
    assert_eq!(got(&lab, one)[before..].concat(), huge);
    assert!(tokens(&lab, one).iter().all(|token| token.len() <= 1_024));
    assert_eq!(lab.said(ana)[1..].concat(), huge);
}

#[test]
fn defect_13_who_answers_wrongly_or_not_is_closed() {
    let mut lab = Lab::with(config());
    let (silent, wrong) = (lab.connect(), lab.connect());
    lab.run(250);
    lab.net.write(wrong, "nonsense");
    lab.run(100);
    assert!(lab.net.peer(wrong).eof().is_some());
    assert!(lab.net.peer(silent).eof().is_none());
    lab.net.run_for(OK_WITHIN).unwrap();
    assert!(lab.net.peer(silent).eof().is_some());
    let refused = reports(&lab).iter().filter(|it| matches!(it, HubReport::Refused { .. })).count();
    assert_eq!(refused, 2);
}

#[test]
fn defect_19_garbage_reaches_nobody_and_is_told() {
    let mut lab = Lab::with(config());
    let ((one, key), (two, _)) = (token_member(&mut lab), token_member(&mut lab));
    lab.net.write(one, "garbage");
    lab.net.write(one, sealed(&key, b"text"));
    lab.net.write(one, sealed(&Key::new([1; 32]), b"forged"));
    lab.run(500);
    assert_eq!(got(&lab, two), ["text"]);
    let unreadable = HubReport::Unreadable { nick: "token-1".into() };
    assert_eq!(reports(&lab).iter().filter(|it| **it == unreadable).count(), 2);
    assert!(lab.net.peer(one).eof().is_none(), "it stays");
    lab.net.write(one, b"gAAAAA".repeat(100));
    lab.run(100);
    assert!(lab.net.peer(one).eof().is_some(), "not if it floods");
    assert!(lab.net.peer(two).eof().is_none());
}

#[test]
fn a_burst_loses_and_repeats_nothing_and_keeps_its_pace() {
    let mut lab = Lab::with(config());
    let ana = lab.member("ana");
    let (one, _) = token_member(&mut lab);
    for (tag, text) in (1..).zip(&texts(300)) {
        lab.say(ana, tag, text);
        if tag % 7 == 0 {
            lab.run(1);
        }
    }
    lab.run(1_000);
    let after_a_second = got(&lab, one).len();
    assert!((40..=60).contains(&after_a_second), "{after_a_second} in about a second");
    lab.run(7_000);
    assert_eq!(got(&lab, one), texts(300));
    // The key, and each token, is a read of its own, a gap after the last.
    let reads = lab.net.peer(one).reads();
    assert_eq!(reads.len(), 301);
    for pair in reads.windows(2) {
        assert!(pair[1].0.saturating_since(pair[0].0) >= GAP, "{pair:?}");
    }
}

#[test]
fn a_reader_that_stops_holds_little_and_is_told_of_as_slow() {
    let mut lab = Lab::with(HubConfig { lag: 20_000, ..config() });
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    let (one, _) = token_member(&mut lab);
    lab.net.set_reading(one, false);
    let text = "z".repeat(1_000);
    for tag in 1..=300 {
        lab.say(ana, tag, &text);
        lab.run(5);
    }
    assert_eq!(lab.said(bia).len(), 300, "others lose nothing");
    assert!(lab.held() < 200_000, "{}", lab.held());
    lab.net.set_reading(one, true);
    lab.run(5_000);
    let missed: u64 = reports(&lab)
        .iter()
        .map(|it| if let HubReport::Gap { missed, .. } = it { *missed } else { 0 })
        .sum();
    let read = got(&lab, one).concat().len() as u64 / 1_000;
    assert_eq!(read + missed, 300, "{read} and {missed}");

    let mut lab = Lab::with(HubConfig { lag: 20_000, slow: SlowPolicy::Disconnect, ..config() });
    let ana = lab.member("ana");
    let (one, _) = token_member(&mut lab);
    lab.net.set_reading(one, false);
    for tag in 1..=300 {
        lab.say(ana, tag, &text);
        lab.run(5);
    }
    lab.net.set_reading(one, true);
    lab.run(1_000);
    assert!(lab.net.peer(one).eof().is_some() || lab.hub().members() == 1);
}

#[test]
fn our_member_in_our_server_says_three_lines_at_once() {
    let mut lab = Lab::with(config());
    let ana = lab.member("ana");
    let (ours, other) = (lab.participant("", Dialect::Token), lab.participant("", Dialect::Token));
    for line in ["a", "b", "c"] {
        lab.type_line(ours, line);
    }
    lab.run(3_000);
    assert_eq!(lab.said(ana), ["a", "b", "c"]);
    for member in [ours, other] {
        let read: Vec<_> = lab
            .reports(member)
            .into_iter()
            .filter_map(|report| match report {
                ParticipantReport::Text(text) => Some(String::from_utf8(text).unwrap()),
                _ => None,
            })
            .collect();
        assert_eq!(read, ["a", "b", "c"]);
    }
    let done = |report: &ParticipantReport| matches!(report, ParticipantReport::Done(1));
    assert_eq!(lab.reports(ours).iter().filter(|it| done(it)).count(), 3);
}
