//! One that reads slowly or not at all, and those who share a room with it.

use semfio_chat::wire::Request;
use semfio_chat::{HubConfig, LogLimits, SlowPolicy};
use semfio_sim::PeerId;

use crate::lab::Lab;

/// Says `n` texts of 1,000 bytes, so that each turn holds one.
fn flood(lab: &mut Lab, from: PeerId, n: u32) {
    for tag in 1..=n {
        lab.say(from, tag, &format!("{tag:01000}"));
        lab.run(1);
    }
}

fn numbers(said: &[String]) -> Vec<u32> {
    said.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn one_that_stops_reading_costs_little_and_disturbs_nobody() {
    let mut lab = Lab::new();
    let (ana, bia, slow) = (lab.member("ana"), lab.member("bia"), lab.member("slow"));
    lab.net.set_reading(slow, false);
    flood(&mut lab, ana, 3_000);
    assert_eq!(numbers(&lab.said(ana)), (1..=3_000).collect::<Vec<_>>());
    assert_eq!(numbers(&lab.said(bia)), (1..=3_000).collect::<Vec<_>>());
    assert_eq!(lab.only(ana, "GAP").len() + lab.only(bia, "GAP").len(), 0);
    assert!(lab.held() < 64 * 1024 + 16 * 1024, "{} held", lab.held());
}

#[test]
fn one_that_reads_again_is_told_its_gap_and_may_fetch_what_is_kept() {
    let log = LogLimits { entries: 500, bytes: 300 * 1024 };
    let mut lab = Lab::with(HubConfig { log, ..HubConfig::default() });
    let (ana, slow) = (lab.member("ana"), lab.member("slow"));
    lab.net.set_reading(slow, false);
    flood(&mut lab, ana, 2_000);
    lab.net.set_reading(slow, true);
    lab.run(100);
    let gaps = lab.only(slow, "GAP");
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    let words: Vec<&str> = gap.split([' ', '-']).collect();
    let [from, to, oldest]: [u64; 3] = [1, 2, 3].map(|n| words[n].parse().unwrap());
    assert_eq!(to, 2_002);
    assert!(from > 64 && from < 1_000, "{gap}");
    // What comes next needs no asking.
    lab.say(ana, 9_999, "9999");
    lab.run(10);
    assert_eq!(numbers(&lab.said(slow)).last(), Some(&9_999));
    // What is kept comes on request; how much comes at once is limited.
    let mut next = from;
    while next <= to {
        lab.ask(slow, Request::History { from: next, count: u32::MAX, room: "lobby" });
        lab.run(10);
        let head = lab.only(slow, "HISTORY").pop().unwrap();
        let (first, last) = head[8..].split_once(' ').unwrap().0.split_once('-').unwrap();
        assert_eq!(first.parse::<u64>().unwrap(), next.max(oldest));
        next = last.parse::<u64>().unwrap() + 1;
    }
    let mut heard = numbers(&lab.said(slow));
    heard.sort_unstable();
    heard.dedup();
    // Sequence numbers are two above the texts: JOIN, JOIN.
    let kept: Vec<u32> =
        (1..from as u32 - 2).chain(oldest as u32 - 2..=2_000).chain([9_999]).collect();
    assert_eq!(heard, kept);
}

#[test]
fn a_short_stop_loses_nothing() {
    let mut lab = Lab::new();
    let (ana, slow) = (lab.member("ana"), lab.member("slow"));
    lab.net.set_reading(slow, false);
    flood(&mut lab, ana, 500);
    lab.net.set_reading(slow, true);
    lab.run(100);
    assert_eq!(lab.only(slow, "GAP"), [""; 0]);
    assert_eq!(numbers(&lab.said(slow)), (1..=500).collect::<Vec<_>>());
}

#[test]
fn many_short_texts_in_one_turn_reach_all_who_read() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    for tag in 0..4_000 {
        lab.say(ana, tag, &format!("{tag}"));
    }
    lab.run(100);
    assert_eq!(numbers(&lab.said(bia)), (0..4_000).collect::<Vec<_>>());
    assert_eq!(lab.only(bia, "GAP"), [""; 0]);
}

#[test]
fn a_turn_that_is_longer_than_the_log_is_a_gap_and_not_the_end() {
    let log = LogLimits { entries: 10, bytes: 1_000 };
    let mut lab = Lab::with(HubConfig { log, lag: 1_000, ..HubConfig::default() });
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    for tag in 0..300 {
        lab.say(ana, tag, &format!("{tag:01000}"));
    }
    lab.run(10);
    assert!(!lab.only(bia, "GAP").is_empty());
    assert_eq!(numbers(&lab.said(bia)).last(), Some(&299));
}

#[test]
fn a_policy_may_be_to_drop_it_and_the_others_learn_at_once() {
    let mut lab = Lab::with(HubConfig { slow: SlowPolicy::Disconnect, ..HubConfig::default() });
    let (ana, slow) = (lab.member("ana"), lab.member("slow"));
    lab.net.set_reading(slow, false);
    flood(&mut lab, ana, 1_000);
    assert_eq!(numbers(&lab.said(ana)), (1..=1_000).collect::<Vec<_>>());
    let parts = lab.only(ana, "PART");
    assert_eq!(parts.len(), 1, "{parts:?}");
    let before = lab.frames(ana).into_iter().take_while(|frame| !frame.starts_with("PART"));
    let said = before.filter(|frame| frame.starts_with("MSG")).count();
    // The link holds 256 KiB, the outbox 64 KiB, and as much as the link again may be behind.
    assert!((570..600).contains(&said), "told after {said} texts");
    assert_eq!(lab.hub().members(), 1);
}

#[test]
fn one_that_comes_back_to_much_history_is_not_late() {
    for slow in [SlowPolicy::Gap, SlowPolicy::Disconnect] {
        let mut lab = Lab::with(HubConfig { slow, ..HubConfig::default() });
        let ana = lab.member("ana");
        flood(&mut lab, ana, 900);
        let back = lab.framed("back");
        lab.ask(back, Request::Join { since: 1, room: "lobby" });
        lab.say(ana, 1_000, "901");
        lab.run(1_000);
        assert_eq!(lab.only(back, "GAP"), [""; 0]);
        assert_eq!(numbers(&lab.said(back)), (1..=901).collect::<Vec<_>>());
    }
}

#[test]
fn a_slow_link_gets_everything_or_is_told() {
    for window in [1, 500, 4_096] {
        let mut lab = Lab::new();
        let ana = lab.member("ana");
        let link = semfio_sim::LinkConfig {
            window,
            latency: core::time::Duration::from_millis(5),
            ..Default::default()
        };
        let slow = lab.connect_over(link);
        lab.hello(slow, "slow", [0; 16]);
        lab.join(slow, "lobby");
        lab.run(20_000);
        flood(&mut lab, ana, 600);
        lab.run(20_000);
        // The order is checked by the lab: each hole was announced.
        assert!(!lab.frames(slow).is_empty());
    }
}
