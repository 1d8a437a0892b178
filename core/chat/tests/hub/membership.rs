//! Who is in which room, under which name, and who hears what.

use core::time::Duration;
use semfio_chat::wire::{Manner, Request};
use semfio_chat::{HubConfig, HubMessage, HubReport};

use crate::lab::{Lab, check_order, show, texts};

#[test]
fn a_message_reaches_everybody_once_and_is_acknowledged() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.say(ana, 7, "oi");
    lab.run(10);
    assert_eq!(
        lab.frames(ana),
        [
            "WELCOME ana",
            "NAMES 1 1 lobby ana",
            "JOIN 1 lobby ana",
            "JOIN 2 lobby bia",
            "MSG 3 lobby ana: oi",
            "ACK 7 3"
        ]
    );
    assert_eq!(
        lab.frames(bia),
        [
            "WELCOME bia",
            "JOIN 1 lobby ana",
            "NAMES 2 2 lobby ana,bia",
            "JOIN 2 lobby bia",
            "MSG 3 lobby ana: oi"
        ]
    );
}

#[test]
fn three_dialects_share_a_room() {
    let mut lab = Lab::new();
    let (ana, line, raw) = (lab.member("ana"), lab.line_member(), lab.raw_member());
    lab.say(ana, 1, "from a frame");
    lab.run(10);
    lab.net.write(line, "from a line\r\n/me waves\n");
    lab.run(10);
    lab.net.write(raw, "from a read");
    lab.run(300);
    assert_eq!(lab.said(ana), ["from a frame", "from a line", "from a read"]);
    assert_eq!(lab.only(ana, "ME"), ["ME 6 lobby guest-1 waves"]);
    assert_eq!(
        lab.text(line),
        "[00:00Z] * raw-2 joined lobby\n[00:00Z] <ana> from a frame\n\
         [00:00Z] <guest-1> from a line\n[00:00Z] * guest-1 waves\n[00:00Z] <raw-2> from a read\n"
    );
    // To raw peers each message goes in a write of its own, their own too.
    let reads: Vec<usize> = lab.net.peer(raw).reads().iter().map(|&(_, n)| n).collect();
    let pieces = ["from a frame", "from a line", "* guest-1 waves", "from a read"];
    assert_eq!(lab.text(raw), pieces.concat());
    assert_eq!(reads, pieces.map(str::len));
}

#[test]
fn many_messages_arrive_once_in_order_and_the_last_ack_covers_all() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    let texts = texts(500);
    for (tag, text) in (1..).zip(&texts) {
        lab.say(ana, tag, text);
    }
    lab.run(100);
    assert_eq!(lab.said(ana), texts);
    assert_eq!(lab.said(bia), texts);
    assert_eq!(lab.only(ana, "ACK").last().unwrap(), "ACK 500 502");
}

#[test]
fn private_messages_reach_one_and_are_in_no_log() {
    let mut lab = Lab::new();
    let (ana, bia, caio) = (lab.member("ana"), lab.member("bia"), lab.member("caio"));
    let text = "só para ti";
    lab.ask(ana, Request::Msg { tag: 1, manner: Manner::Private, to: "BIA", text });
    lab.ask(ana, Request::Msg { tag: 2, manner: Manner::Private, to: "nobody", text });
    lab.run(10);
    assert_eq!(lab.only(bia, "PRIVATE"), ["PRIVATE 0 ana->bia: só para ti"]);
    assert_eq!(lab.only(caio, "PRIVATE"), [""; 0]);
    assert_eq!(lab.only(ana, "ACK"), ["ACK 1 0"]);
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR NoSuchNick goes on 2"]);
    assert_eq!(lab.hub().newest("lobby"), Some(3));
}

#[test]
fn names_are_compared_without_case_and_held_until_their_member_leaves() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    let twin = lab.framed("ANA");
    lab.run(10);
    assert_eq!(lab.frames(twin), ["ERROR NickInUse fatal 0"]);
    assert!(lab.net.peer(twin).eof().is_some());
    let accent = lab.framed("ána");
    lab.run(10);
    assert_eq!(lab.frames(accent), ["WELCOME ána"]);
    lab.ask(ana, Request::Bye);
    lab.run(10);
    let next = lab.framed("Ana");
    lab.run(10);
    assert_eq!(lab.frames(next), ["WELCOME Ana"]);
}

#[test]
fn a_new_name_is_told_in_every_room_and_frees_the_old_one() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.join(ana, "sala");
    lab.ask(ana, Request::Nick { nick: "bia" });
    lab.ask(ana, Request::Nick { nick: "eva" });
    lab.run(10);
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR NickInUse goes on 0"]);
    assert_eq!(lab.only(ana, "NICK"), ["NICK 2 sala ana eva", "NICK 3 lobby ana eva"]);
    assert_eq!(lab.only(bia, "NICK"), ["NICK 3 lobby ana eva"]);
    let ana = lab.framed("ana");
    lab.run(10);
    assert_eq!(lab.frames(ana), ["WELCOME ana"]);
}

#[test]
fn a_new_name_is_confirmed_to_one_that_is_in_no_room() {
    let mut lab = Lab::new();
    let ana = lab.framed("ana");
    lab.ask(ana, Request::Nick { nick: "eva" });
    lab.run(10);
    assert_eq!(lab.frames(ana), ["WELCOME ana", "NICK 0  ana eva"]);
}

#[test]
fn one_that_leaves_a_room_gets_what_was_said_before() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.say(ana, 1, "last words");
    lab.ask(ana, Request::Part { room: "LOBBY" });
    lab.say(ana, 2, "too late");
    lab.ask(ana, Request::Part { room: "lobby" });
    lab.run(10);
    assert_eq!(lab.said(ana), ["last words"]);
    assert_eq!(lab.only(ana, "PART"), ["PART 4 lobby ana"]);
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR NotMember goes on 2", "ERROR NotMember goes on 0"]);
    assert_eq!(lab.said(bia), ["last words"]);
    assert_eq!(lab.only(bia, "PART"), ["PART 4 lobby ana"]);
}

#[test]
fn one_that_quits_gets_what_was_said_before() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    let texts = texts(3_000);
    for (tag, text) in (1..).zip(&texts) {
        lab.say(ana, tag, text);
    }
    lab.ask(ana, Request::Bye);
    lab.run(5_000);
    assert_eq!(lab.said(ana), texts);
    let end = lab.frames(ana).split_off(3_000);
    assert_eq!(end.last().unwrap(), "BYE");
    assert_eq!(lab.only(ana, "ACK").last().unwrap(), "ACK 3000 3001");
}

#[test]
fn a_line_peer_that_closes_its_half_gets_everything_back() {
    let mut lab = Lab::new();
    let peer = lab.connect();
    let texts: Vec<String> = (0..400).map(|n| format!("{n:0500}")).collect();
    let paste: String = texts.iter().map(|text| format!("{text}\n")).collect();
    lab.net.write(peer, paste);
    lab.net.finish(peer);
    lab.run(5_000);
    let text = lab.text(peer);
    let heard = text.lines().filter_map(|line| Some(line.split_once("> ")?.1));
    assert!(heard.eq(texts.iter().map(String::as_str)));
    assert!(lab.net.peer(peer).eof().is_some());
}

#[test]
fn rooms_are_apart_and_members_may_be_in_several() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.join(ana, "sala");
    lab.ask(ana, Request::Msg { tag: 1, manner: Manner::Text, to: "sala", text: "here" });
    lab.say(ana, 2, "there");
    lab.ask(bia, Request::Msg { tag: 9, manner: Manner::Text, to: "sala", text: "not in it" });
    lab.run(10);
    assert_eq!(lab.said(ana), ["here", "there"]);
    assert_eq!(lab.said(bia), ["there"]);
    assert_eq!(lab.only(bia, "ERROR"), ["ERROR NotMember goes on 9"]);
    lab.ask(bia, Request::Who { room: "sala" });
    lab.ask(bia, Request::Who { room: "none" });
    lab.run(10);
    assert_eq!(lab.only(bia, "NAMES").last().unwrap(), "NAMES 2 1 sala ana");
    assert_eq!(lab.only(bia, "ERROR").last().unwrap(), "ERROR NotMember goes on 0");
}

#[test]
fn joining_twice_says_who_is_there_and_no_more() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    lab.join(ana, "Lobby");
    lab.run(10);
    assert_eq!(lab.only(ana, "NAMES").len(), 2);
    assert_eq!(lab.only(ana, "JOIN").len(), 1);
}

#[test]
fn rooms_are_limited_and_empty_ones_make_way() {
    let config = HubConfig { rooms: 3, rooms_each: 2, ..HubConfig::default() };
    let mut lab = Lab::with(config);
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.join(ana, "one");
    lab.join(ana, "two");
    lab.join(bia, "two");
    lab.run(10);
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR TooManyRooms goes on 0"], "two are enough");
    let caio = lab.framed("caio");
    lab.join(caio, "three");
    lab.run(10);
    assert_eq!(lab.only(caio, "ERROR"), ["ERROR TooManyRooms goes on 0"], "none is empty");
    lab.ask(ana, Request::Part { room: "one" });
    lab.run(10);
    lab.join(caio, "three");
    lab.run(10);
    assert_eq!(lab.only(caio, "JOIN"), ["JOIN 3 three caio"], "numbers go on");
    assert_eq!(lab.hub().newest("one"), None, "made way");
    assert_eq!(lab.hub().newest("two"), Some(1));
}

#[test]
fn the_first_room_has_its_place_whoever_takes_the_others() {
    let mut lab = Lab::with(HubConfig { rooms: 3, ..HubConfig::default() });
    let ana = lab.framed("ana");
    for room in ["one", "two", "three"] {
        lab.join(ana, room);
    }
    lab.run(10);
    assert_eq!(lab.only(ana, "JOIN"), ["JOIN 1 one ana", "JOIN 1 two ana"]);
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR TooManyRooms goes on 0"]);
    let line = lab.line_member();
    lab.net.write(line, "oi\n");
    lab.run(10);
    assert_eq!(lab.text(line), "[00:00Z] <guest-1> oi\n");
}

#[test]
fn a_room_that_comes_again_tells_what_its_members_missed() {
    let mut lab = Lab::with(HubConfig { rooms: 2, ..HubConfig::default() });
    let ana = lab.framed("ana");
    let talk = |lab: &mut Lab, room, n| {
        lab.join(ana, room);
        for tag in 1..=n {
            lab.ask(ana, Request::Msg { tag, manner: Manner::Text, to: room, text: "x" });
        }
    };
    talk(&mut lab, "one", 3);
    let seen = 2;
    lab.ask(ana, Request::Part { room: "one" });
    talk(&mut lab, "two", 1);
    lab.ask(ana, Request::Part { room: "two" });
    talk(&mut lab, "one", 9);
    lab.run(10);
    assert_eq!(lab.hub().newest("one"), Some(18), "five, three elsewhere, ten");
    let bia = lab.framed("bia");
    lab.ask(bia, Request::Join { since: seen, room: "one" });
    lab.run(10);
    assert_eq!(lab.only(bia, "GAP"), ["GAP 3-8 9 one"]);
    assert_eq!(lab.only(bia, "MSG").len(), 9);
}

#[test]
fn no_idle_time_makes_the_timer_spin() {
    for idle in [Duration::ZERO, Duration::from_nanos(1)] {
        let mut lab = Lab::with(HubConfig { idle, ..HubConfig::default() });
        let ana = lab.framed("ana");
        lab.run(1_000);
        assert_eq!(lab.frames(ana), ["WELCOME ana", "PING"]);
        assert_eq!(lab.hub().members(), 0);
    }
}

#[test]
fn stop_says_goodbye_to_everybody_after_what_was_said() {
    let mut lab = Lab::new();
    let (ana, line, raw) = (lab.member("ana"), lab.line_member(), lab.raw_member());
    let hello = lab.connect();
    lab.run(10);
    lab.say(ana, 1, "wait");
    lab.net.send_message(lab.hub, HubMessage::Stop);
    lab.run(5_000);
    assert_eq!(lab.frames(ana).last().unwrap(), "BYE");
    for peer in [ana, line, raw, hello] {
        assert!(lab.net.peer(peer).eof().is_some());
    }
    assert_eq!(lab.said(ana), ["wait"]);
    assert!(lab.text(line).ends_with("<ana> wait\n"));
    assert_eq!(lab.text(raw), "wait");
    assert!(lab.net.is_over(lab.hub));
}

#[test]
fn silence_is_asked_about_and_then_ended() {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    let line = lab.line_member();
    for _ in 0..5 {
        lab.run(30_000);
        lab.ask(ana, Request::Pong(1));
    }
    lab.run(10);
    assert_eq!(lab.only(ana, "PING"), [""; 0]);
    assert_eq!(lab.only(bia, "PING"), ["PING"]);
    assert_eq!(lab.only(ana, "PART"), ["PART 4 lobby bia"]);
    assert!(lab.net.peer(line).eof().is_none(), "a line peer may listen for ever");
}

#[test]
fn a_ping_is_answered_and_keeps_a_member() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    for number in 0..10 {
        lab.run(30_000);
        lab.ask(ana, Request::Ping(number));
    }
    lab.run(10);
    assert_eq!(lab.only(ana, "PONG").len(), 10);
    assert!(lab.net.peer(ana).eof().is_none());
    assert_eq!(lab.hub().members(), 1);
}

#[test]
fn a_silent_peer_may_turn_out_to_speak_otherwise() {
    let mut lab = Lab::new();
    let (ana, late) = (lab.member("ana"), lab.raw_member());
    lab.hello(late, "late", [0; 16]);
    lab.join(late, "lobby");
    lab.run(10);
    assert_eq!(lab.only(ana, "JOIN").last().unwrap(), "JOIN 4 lobby late");
    assert_eq!(lab.only(ana, "PART"), ["PART 3 lobby raw-1"]);
    assert_eq!(lab.hub().members(), 2);
}

#[test]
fn what_is_said_while_a_listener_says_its_first_word_is_not_lost() {
    let mut lab = Lab::new();
    let (ana, raw) = (lab.member("ana"), lab.raw_member());
    lab.net.write(raw, "x");
    lab.run(10);
    lab.say(ana, 1, "meanwhile");
    lab.ask(ana, Request::Msg { tag: 2, manner: Manner::Private, to: "raw-1", text: "psst" });
    lab.run(300);
    assert_eq!(lab.text(raw), "meanwhilex");
    assert_eq!(lab.only(ana, "ERROR"), ["ERROR TooSlow goes on 2"], "refused, and told so");
}

#[test]
fn who_comes_and_goes_is_reported() {
    let mut lab = Lab::new();
    let ana = lab.member("ana");
    lab.net.reset(ana);
    lab.run(10);
    let reports: Vec<_> = lab.net.reports(lab.hub).iter().map(|(_, report)| report).collect();
    assert!(matches!(reports[0], HubReport::Joined { nick, .. } if nick == "ana"));
    assert!(matches!(reports[1], HubReport::Left { nick, .. } if nick == "ana"));
    assert_eq!(reports.len(), 2);
}

#[test]
fn seats_stay_right_as_members_leave_in_any_order() {
    let mut lab = Lab::new();
    let members: Vec<_> = (0..8).map(|n| lab.member(&format!("m{n}"))).collect();
    let mut here = members.clone();
    for leaves in [3, 0, 5, 1, 2] {
        let gone = here.remove(leaves % here.len());
        match leaves % 3 {
            0 => lab.ask(gone, Request::Part { room: "lobby" }),
            1 => lab.ask(gone, Request::Bye),
            _ => lab.net.reset(gone),
        }
        lab.run(10);
        let before: Vec<usize> = here.iter().map(|&peer| lab.said(peer).len()).collect();
        for (tag, &peer) in (1..).zip(&here) {
            lab.say(peer, tag, "still here");
        }
        lab.run(10);
        for (&peer, before) in here.iter().zip(before) {
            assert_eq!(lab.said(peer).len(), before + here.len());
        }
    }
}

#[test]
#[should_panic(expected = "follows")]
fn the_check_of_the_order_notices_a_hole() {
    let entry = |seq| {
        let what = semfio_chat::wire::What::Join;
        let entry = semfio_chat::wire::Entry { seq, time: 0, room: "lobby", nick: "ana", what };
        semfio_chat::wire::Response::Entry(entry)
    };
    assert_eq!(show(&entry(1)), "JOIN 1 lobby ana");
    check_order(&[entry(1), entry(3)]);
}
