//! The defects of the course's chat programs, in which this server and this client are right.

use core::time::Duration;
use semfio_chat::wire::{PREFACE, Request};
use semfio_chat::{HubConfig, ParticipantReport};
use semfio_frame::Dialect;
use semfio_sim::{LinkConfig, SplitPlan};

use crate::lab::{Lab, texts};

#[test]
fn defect_1_fast_texts_do_not_merge_and_long_ones_are_not_split() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    let long = "x".repeat(1_500);
    for (tag, text) in (1..).zip(["a", "b", "c", &long]) {
        lab.say(ana, tag, text);
    }
    lab.run(10);
    assert_eq!(lab.said(bia), ["a", "b", "c", &long]);
    // A raw participant makes the borders itself: the next text waits for the echo of the last.
    let raw = lab.participant("", Dialect::Raw);
    lab.run(500);
    for line in ["d", "e", "f"] {
        lab.type_line(raw, line);
    }
    lab.run(1_000);
    assert_eq!(lab.said(bia).split_off(4), ["d", "e", "f"]);
}

#[test]
fn defect_2_a_read_that_cuts_a_character_silences_nobody() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    let raw = lab.connect_over(LinkConfig { split: SplitPlan::EveryByte, ..LinkConfig::default() });
    lab.run(300);
    lab.net.write(raw, "é");
    lab.run(300);
    lab.say(ana, 1, "olá 日本 🦀");
    lab.run(300);
    lab.net.write(raw, "ção");
    lab.run(300);
    assert_eq!(lab.said(ana).concat(), "éolá 日本 🦀ção");
    assert_eq!(lab.text(raw), "éolá 日本 🦀ção");
}

#[test]
fn defect_3_members_that_come_and_go_cause_no_skips_and_no_mixing() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    let raw = lab.raw_member();
    for (tag, text) in (1..).zip(&texts(50)) {
        let passing = lab.framed(&format!("p{tag}"));
        lab.join(passing, "lobby");
        lab.run(1);
        lab.say(ana, tag, text);
        lab.say(bia, tag, text);
        lab.net.reset(passing);
        lab.run(1);
    }
    let twice: Vec<_> = texts(50).into_iter().flat_map(|text| [text.clone(), text]).collect();
    assert_eq!(lab.said(bia), twice);
    assert_eq!(lab.text(raw), twice.concat());
}

#[test]
fn defect_4_a_full_socket_loses_no_tail() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    let link = LinkConfig { window: 100, latency: Duration::from_millis(1), ..Default::default() };
    let narrow = lab.connect_over(link);
    lab.run(500);
    let text = "y".repeat(16 * 1024);
    lab.say(ana, 1, &text);
    lab.run(5_000);
    assert_eq!(lab.text(narrow), text);
}

#[test]
fn defect_5_a_stopped_reader_blocks_nobody() {
    let mut lab = Lab::new();
    let (ana, bia, raw) = (lab.member("ana"), lab.member("bia"), lab.raw_member());
    lab.net.set_reading(raw, false);
    for tag in 1..=1_000 {
        lab.say(ana, tag, &"z".repeat(1_000));
        lab.run(1);
    }
    assert_eq!(lab.said(bia).len(), 1_000);
}

#[test]
fn defect_6_who_breaks_is_removed_and_nobody_else() {
    let mut lab = Lab::new();
    let (ana, bia, caio) = (lab.member("ana"), lab.member("bia"), lab.member("caio"));
    lab.net.reset(bia);
    lab.say(ana, 1, "to whom it may concern");
    lab.run(10);
    lab.say(caio, 1, "me");
    lab.run(10);
    assert_eq!(lab.said(ana), ["to whom it may concern", "me"]);
    assert_eq!(lab.only(ana, "PART"), ["PART 4 lobby bia"]);
    assert_eq!(lab.hub().members(), 2);
}

#[test]
fn defect_7_texts_have_authors_and_members_names_and_rooms_a_history() {
    let mut lab = Lab::new();
    let ana = lab.participant("ana", Dialect::Framed);
    lab.run(10);
    let bia = lab.participant("bia", Dialect::Framed);
    lab.type_line(ana, "oi");
    lab.run(1_000);
    let own = |member| {
        lab.reports(member).into_iter().find_map(|report| match report {
            ParticipantReport::Entry {
                nick, own, what: semfio_chat::Happened::Text(_), ..
            } => Some((nick, own)),
            _ => None,
        })
    };
    assert_eq!(own(ana), Some(("ana".into(), true)));
    assert_eq!(own(bia), Some(("ana".into(), false)));
    let late = lab.member("late");
    assert_eq!(lab.said(late), ["oi"]);
    assert_eq!(lab.only(late, "JOIN").len(), 3);
}

#[test]
fn defect_8_the_client_notices_the_end_once_and_is_over() {
    for dialect in [Dialect::Line, Dialect::Raw] {
        let mut lab = Lab::new();
        let member = lab.participant("", dialect);
        lab.run(500);
        lab.net.send_message(lab.hub, semfio_chat::HubMessage::Stop);
        lab.run(5_000);
        let ends = lab.reports(member).into_iter();
        assert_eq!(ends.filter(|r| matches!(r, ParticipantReport::Over(_))).count(), 1);
        assert!(lab.net.is_over(member));
    }
}

#[test]
fn defect_9_there_are_limits_and_timeouts_and_a_restart_is_noticed() {
    let mut lab = Lab::new();
    let silent = lab.connect();
    lab.net.write(silent, PREFACE);
    let long = lab.connect();
    lab.net.write(long, format!("\n{}\n", "x".repeat(20_000)));
    lab.run(11_000);
    assert_eq!(lab.frames(silent), ["ERROR Timeout fatal 0"]);
    assert!(lab.text(long).ends_with("! a line is longer than 16512 bytes\n"));
    for peer in [silent, long] {
        assert!(lab.net.peer(peer).eof().is_some());
    }
    let ana = lab.member("ana");
    lab.restart(HubConfig::default());
    lab.run(10);
    assert!(
        matches!(lab.net.peer(ana).state(), semfio_sim::PeerState::Failed(_))
            || lab.net.peer(ana).eof().is_some()
    );
    lab.member("ana");
}

#[test]
fn defect_10_escape_sequences_reach_no_terminal() {
    let mut lab = Lab::new();
    let (ana, line) = (lab.member("ana"), lab.line_member());
    let raw = lab.raw_member();
    let evil = "\x1b[2J\x1b]0;owned\x07";
    lab.net.write(raw, evil);
    lab.run(300);
    lab.net.write(line, format!("{evil}\n"));
    lab.say(ana, 1, evil);
    lab.ask(ana, Request::Nick { nick: evil });
    lab.ask(ana, Request::Join { since: 0, room: evil });
    lab.run(10);
    let bad = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(!bad(&lab.text(line)), "{:?}", lab.text(line));
    assert!(!lab.frames(ana).iter().any(|frame| bad(frame)));
    assert_eq!(lab.only(ana, "ERROR").len(), 3);
}
