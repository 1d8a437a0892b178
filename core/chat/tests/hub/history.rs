//! What a newcomer is shown, and what HISTORY gives.

use semfio_chat::HubConfig;
use semfio_chat::wire::Request;

use crate::lab::Lab;

fn ask(lab: &mut Lab, peer: semfio_sim::PeerId, from: u64, count: u32) -> Vec<String> {
    let before = lab.frames(peer).len();
    lab.ask(peer, Request::History { from, count, room: "Lobby" });
    lab.run(10);
    lab.frames(peer).split_off(before)
}

#[test]
fn a_newcomer_is_shown_the_last_entries() {
    let mut lab = Lab::with(HubConfig { backlog: 3, ..HubConfig::default() });
    let ana = lab.member("ana");
    for tag in 1..=5 {
        lab.say(ana, tag, &format!("{tag}"));
    }
    lab.run(10);
    let bia = lab.member("bia");
    assert_eq!(lab.said(bia), ["3", "4", "5"]);
    let line = lab.line_member();
    assert_eq!(lab.text(line), "");
    let raw = lab.raw_member();
    assert_eq!(lab.text(raw), "", "the course's programs would take it for news");
}

#[test]
fn every_range_is_given_exactly() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    // Chunks of one, two, three ... entries.
    let mut tag = 1;
    for turn in 1..=5 {
        for _ in 0..turn {
            lab.say(ana, tag, "x");
            tag += 1;
        }
        lab.run(10);
    }
    for from in 0..=18_u64 {
        for count in [0, 1, 2, 3, 5, 16, 17, u32::MAX] {
            let first = from.max(1);
            let last = 16.min((first - 1).saturating_add(u64::from(count)));
            let last = if last < first { first - 1 } else { last };
            let got = ask(&mut lab, ana, from, count);
            assert_eq!(got[0], format!("HISTORY {first}-{last} lobby"));
            assert_eq!(got.len() as u64 - 1, last + 1 - first, "{from}, {count}");
        }
    }
}

#[test]
fn what_was_said_in_this_turn_is_history_already() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    lab.say(ana, 1, "now");
    let got = ask(&mut lab, ana, 2, 10);
    assert_eq!(
        got,
        ["HISTORY 2-2 lobby", "MSG 2 lobby ana: now", "MSG 2 lobby ana: now", "ACK 1 2"]
    );
}

#[test]
fn history_is_for_members_of_the_room() {
    let mut lab = Lab::new();
    let _ana = lab.member("ana");
    let bia = lab.framed("bia");
    lab.run(10);
    assert_eq!(ask(&mut lab, bia, 1, 1), ["ERROR NotMember goes on 0"]);
}

#[test]
fn a_line_peer_reads_history_as_lines() {
    let mut lab = Lab::new();
    let (ana, line) = (lab.member("ana"), lab.line_member());
    lab.say(ana, 1, "olá");
    lab.run(10);
    lab.net.take_received(line);
    lab.net.write(line, "/history 2\n");
    lab.run(10);
    assert_eq!(
        lab.text(line),
        "* history of lobby, from 2 to 3:\n[00:00Z] * guest-1 joined lobby\n[00:00Z] <ana> olá\n"
    );
}
