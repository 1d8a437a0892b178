//! Members that come back: by hand, and as participants over links that break.

use core::time::Duration;
use semfio_chat::wire::Request;
use semfio_chat::{Happened, HubConfig, Outcome, ParticipantMessage, ParticipantReport};
use semfio_frame::Dialect;
use semfio_sim::LinkConfig;

use crate::lab::{Lab, MemberId, SERVER, texts};

/// What a participant reported as said, in order.
fn heard(lab: &Lab, member: MemberId) -> Vec<String> {
    let text = |report| match report {
        ParticipantReport::Entry { what: Happened::Text(text), .. } => Some(text),
        _ => None,
    };
    lab.reports(member).into_iter().filter_map(text).collect()
}

fn done(lab: &Lab, member: MemberId) -> usize {
    let lines = |report| match report {
        ParticipantReport::Done(n) => n,
        _ => 0,
    };
    lab.reports(member).into_iter().map(lines).sum()
}

#[test]
fn a_ghost_makes_way_for_the_right_key_only() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    let key = lab.session_key(ana);
    let thief = lab.connect();
    lab.hello(thief, "ana", [7; 16]);
    lab.run(10);
    assert_eq!(lab.frames(thief), ["ERROR NickInUse fatal 0"]);
    assert!(lab.net.peer(ana).eof().is_none());
    let back = lab.connect();
    lab.hello(back, "Ana", key);
    lab.ask(back, Request::Join { since: 1, room: "lobby" });
    lab.run(10);
    assert_eq!(
        lab.frames(back),
        ["WELCOME Ana", "PART 2 lobby ana", "NAMES 3 1 lobby Ana", "JOIN 3 lobby Ana"]
    );
    assert_ne!(lab.session_key(back), key, "a key is good once");
    assert_eq!(lab.hub().members(), 1);
}

#[test]
fn join_goes_on_after_what_was_seen() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    for tag in 1..=100 {
        lab.say(ana, tag, &tag.to_string());
    }
    lab.run(10);
    let bia = lab.framed("bia");
    lab.ask(bia, Request::Join { since: 50, room: "lobby" });
    lab.run(10);
    assert_eq!(lab.said(bia).first().unwrap(), "50", "the entry numbered 51");
    assert_eq!(lab.said(bia).len(), 51);
    let caio = lab.framed("caio");
    lab.ask(caio, Request::Join { since: 1_000_000, room: "lobby" });
    lab.run(10);
    assert_eq!(lab.said(caio).len(), 19, "a number from elsewhere counts as none");
}

#[test]
fn a_link_that_breaks_anywhere_loses_and_doubles_nothing() {
    // Each way, so that now a text, now its ACK is lost.
    for (up, cut) in (40..700).step_by(23).flat_map(|cut| [(true, cut), (false, cut)]) {
        let mut lab = Lab::new();
        let bia = lab.member("bia");
        let ana = lab.participant("ana", Dialect::Framed);
        let (here, server) = ([10, 1, 0, 2].into(), SERVER.into());
        let bad = LinkConfig { reset_after: Some(cut), ..LinkConfig::default() };
        match up {
            true => lab.net.set_link(here, server, bad),
            false => lab.net.set_link(server, here, bad),
        }
        lab.run(1);
        lab.net.set_link(here, server, LinkConfig::default());
        lab.net.set_link(server, here, LinkConfig::default());
        let texts = texts(10);
        for text in &texts {
            lab.type_line(ana, text);
            lab.run(5);
        }
        lab.net.send_message(ana, ParticipantMessage::Eof);
        lab.run(60_000);
        let over = lab.reports(ana).pop();
        if lab.reports(ana).iter().all(|r| !matches!(r, ParticipantReport::Welcome { .. })) {
            continue; // cut before it was let in: it does not come back
        }
        assert_eq!(over, Some(ParticipantReport::Over(Outcome::Left)), "{up} {cut}");
        assert_eq!(lab.said(bia), texts, "{up} {cut}");
        assert_eq!(heard(&lab, ana), texts, "{up} {cut}");
        assert_eq!(done(&lab, ana), 10, "{up} {cut}");
    }
}

#[test]
fn lines_typed_before_the_connection_stands_are_carried_out_in_order() {
    let mut lab = Lab::new();
    let bia = lab.member("bia");
    let ana = lab.participant("ana", Dialect::Framed);
    for line in ["first", "/nick eva", "second", "/join sala", "third", "/quit", "never"] {
        lab.type_line(ana, line);
    }
    lab.run(10_000);
    assert_eq!(lab.only(bia, "MSG"), ["MSG 3 lobby ana: first", "MSG 5 lobby eva: second"]);
    assert_eq!(heard(&lab, ana), ["first", "second", "third"]);
    let over = lab.reports(ana).pop();
    assert_eq!(over, Some(ParticipantReport::Over(Outcome::Unsent(1))));
}

#[test]
fn a_server_that_restarts_begins_anew_and_members_come_back() {
    let mut lab = Lab::new();
    let ana = lab.participant("ana", Dialect::Framed);
    for text in texts(30) {
        lab.type_line(ana, &text);
    }
    lab.run(1_000);
    lab.restart(HubConfig::default());
    lab.run(1);
    lab.type_line(ana, "after");
    lab.run(30_000);
    let again = |r: &ParticipantReport| matches!(r, ParticipantReport::Welcome { again: true, .. });
    assert!(lab.reports(ana).iter().any(again));
    assert_eq!(heard(&lab, ana).last().unwrap(), "after");
    assert_eq!(lab.hub().newest("lobby"), Some(2), "JOIN and one text");
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let mut lab = Lab::new();
    let ana = lab.participant("ana", Dialect::Framed);
    lab.run(100);
    lab.net.kill(lab.hub);
    lab.type_line(ana, "unheard");
    lab.run(300_000);
    assert!(matches!(lab.reports(ana).pop(), Some(ParticipantReport::Over(Outcome::Failed(_)))));
}

#[test]
fn a_room_that_is_refused_does_not_hold_up_the_rest() {
    let mut lab = Lab::with(HubConfig { rooms_each: 1, ..HubConfig::default() });
    let ana = lab.participant("ana", Dialect::Framed);
    for line in ["/join sala", "still here"] {
        lab.type_line(ana, line);
    }
    lab.net.send_message(ana, ParticipantMessage::Eof);
    lab.run(10_000);
    assert_eq!(heard(&lab, ana), ["still here"]);
    assert_eq!(lab.reports(ana).pop(), Some(ParticipantReport::Over(Outcome::Left)));
}

#[test]
fn a_room_that_is_refused_leaves_the_present_one() {
    let mut lab = Lab::with(HubConfig { rooms_each: 2, ..HubConfig::default() });
    let bia = lab.member("bia");
    let ana = lab.participant("ana", Dialect::Framed);
    for line in ["/join sala", "/join lobby", "/join third", "in the lobby"] {
        lab.type_line(ana, line);
    }
    lab.run(10_000);
    assert_eq!(lab.said(bia), ["in the lobby"]);
}

#[test]
fn participants_of_all_dialects_talk_over_rough_links() {
    for seed in 0..6 {
        let mut lab = Lab::seeded(seed, HubConfig::default());
        let link = LinkConfig { window: 64 * 1024, bandwidth: None, ..LinkConfig::rough(seed) };
        lab.net.set_default_link(link);
        let framed = lab.participant("ana", Dialect::Framed);
        let line = lab.participant("", Dialect::Line);
        let raw = lab.participant("", Dialect::Raw);
        lab.run(10_000);
        for n in 0..20 {
            lab.type_line(framed, &format!("framed {n}"));
            lab.type_line(line, &format!("line {n}"));
            lab.type_line(raw, &format!("raw {n};"));
            lab.run(100);
        }
        lab.net.run_for(Duration::from_secs(120)).unwrap();
        let said = heard(&lab, framed).join("\n");
        for n in 0..20 {
            for who in ["framed", "line"] {
                assert_eq!(
                    said.matches(&format!("{who} {n}\n")).count()
                        + said.ends_with(&format!("{who} {n}")) as usize,
                    1,
                    "{who} {n} in {seed}"
                );
            }
        }
        // Where the link cuts, a raw text is cut; its bytes come once and in order.
        let raw_said: String = lab
            .reports(framed)
            .into_iter()
            .filter_map(|report| match report {
                ParticipantReport::Entry { what: Happened::Text(text), nick, .. }
                    if nick.starts_with("raw") =>
                {
                    Some(text)
                }
                _ => None,
            })
            .collect();
        let sent: String = (0..20).map(|n| format!("raw {n};")).collect();
        assert_eq!(raw_said, sent, "{seed}");
    }
}
