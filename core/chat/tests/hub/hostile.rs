//! Peers that break rules: each is dealt with, and two others talk on undisturbed.

use semfio_chat::HELLO_WITHIN;
use semfio_chat::wire::{MAX_FRAME, PREFACE, Request};
use semfio_sim::PeerId;

use crate::lab::Lab;

/// Two members before and after what `attack` does, and what each connection holds at most.
fn undisturbed(attack: impl FnOnce(&mut Lab)) -> Lab {
    let mut lab = Lab::new();
    let (ana, bia) = (lab.member("ana"), lab.member("bia"));
    lab.say(ana, 1, "before");
    attack(&mut lab);
    lab.say(bia, 2, "after");
    lab.run(50);
    for peer in [ana, bia] {
        let said = lab.said(peer);
        let ours = said.iter().filter(|text| ["before", "after"].contains(&text.as_str()));
        assert_eq!(ours.count(), 2);
        assert_eq!(lab.only(peer, "GAP"), [""; 0]);
        assert!(lab.net.peer(peer).eof().is_none());
    }
    lab
}

fn error_of(bytes: &[u8]) -> String {
    let mut last = String::new();
    undisturbed(|lab| {
        let bad = lab.framed("bad");
        lab.net.write(bad, bytes);
        lab.run(50);
        assert!(lab.net.peer(bad).eof().is_some(), "still there");
        last = lab.frames(bad).pop().unwrap();
    });
    last
}

#[test]
fn broken_frames_are_answered_and_end_it() {
    let mut hello = bytes::BytesMut::new();
    let max_frame = MAX_FRAME as u32;
    Request::Hello { max_frame, session: [0; 16], nick: "two" }.put(&mut hello);
    assert_eq!(error_of(&hello), "ERROR Unexpected fatal 0", "a second HELLO");
    assert_eq!(error_of(b"\x86\x01\x00\x01"), "ERROR TooLarge fatal 0");
    assert_eq!(error_of(b"\xFF\0\0\0"), "ERROR Malformed fatal 0", "must be understood");
    assert_eq!(error_of(b"\x84\0\0\x02\x01\xC3"), "ERROR Malformed fatal 0", "not UTF-8");
    assert_eq!(error_of(b"\x84\0\0\x00"), "ERROR Malformed fatal 0", "too short");
    assert_eq!(error_of(b"\x8C\0\0\x01x"), "ERROR Malformed fatal 0", "too long");
    assert_eq!(error_of(b"\x86\0\0\x09\0\0\0\x01\x03\x01xhi"), "ERROR Malformed fatal 0", "manner");
}

#[test]
fn unknown_types_below_0x80_are_skipped() {
    let lab = undisturbed(|lab| {
        let new = lab.member("new");
        lab.net.write(new, b"\x7F\0\0\x03abc");
        lab.say(new, 5, "still here");
        lab.run(10);
        assert_eq!(lab.only(new, "ACK").len(), 1);
    });
    assert_eq!(lab.hub().members(), 3);
}

#[test]
fn bad_prefaces_and_versions_and_names_are_told() {
    undisturbed(|lab| {
        let cases: [(&[u8], &str); 2] = [
            (b"\xFFsemfix\x01", "ERROR Malformed fatal 0"),
            (b"\xFFsemfio\x02", "ERROR Version fatal 0"),
        ];
        for (bytes, error) in cases {
            let peer = lab.connect();
            lab.net.write(peer, bytes);
            lab.run(10);
            assert_eq!(lab.frames(peer), [error]);
        }
        for (nick, error) in [
            ("", "ERROR BadText fatal 0"),
            ("a b", "ERROR BadText fatal 0"),
            ("\u{202E}", "ERROR BadText fatal 0"),
            (&"n".repeat(33), "ERROR TooLarge fatal 0"),
        ] {
            let peer = lab.framed(nick);
            lab.run(10);
            assert_eq!(lab.frames(peer), [error]);
        }
        let small = lab.connect();
        lab.net.write(small, PREFACE);
        lab.ask(small, Request::Hello { max_frame: 100, session: [0; 16], nick: "small" });
        lab.run(10);
        assert_eq!(lab.frames(small), ["ERROR Malformed fatal 0"]);
    });
}

/// A member that never reads while it asks the same for ever.
fn never_reads(request: Request<'_>) {
    undisturbed(|lab| {
        let bad = lab.member("bad");
        for n in 0..200 {
            lab.say(bad, n, &"long ".repeat(500));
        }
        lab.run(50);
        lab.net.set_reading(bad, false);
        for _ in 0..60_000 {
            lab.ask(bad, request);
        }
        lab.run(1_000);
        // The mark, one answer above it, and one read that waits.
        assert!(lab.held() <= 64 * 1024 * 2 + 256 * 1024 + 128 * 1024, "{} held", lab.held());
        assert!(lab.net.peer(bad).queued() > 0, "it was made to wait");
    });
}

#[test]
fn a_flood_of_questions_without_reading_is_bounded() {
    never_reads(Request::Who { room: "lobby" });
    never_reads(Request::Ping(1));
    never_reads(Request::History { from: 0, count: u32::MAX, room: "lobby" });
    never_reads(Request::History { from: u64::MAX, count: u32::MAX, room: "lobby" });
    never_reads(Request::Join { since: 0, room: "lobby" });
    never_reads(Request::Part { room: "nowhere" });
    never_reads(Request::Nick { nick: "\x1b" });
}

#[test]
fn a_flood_of_new_names_is_only_noise() {
    let lab = undisturbed(|lab| {
        let bad = lab.member("bad");
        for n in 0..500 {
            lab.ask(bad, Request::Nick { nick: &format!("bad{n}") });
        }
        lab.run(50);
        assert_eq!(lab.only(bad, "NICK").last().unwrap(), "NICK 504 lobby bad498 bad499");
    });
    assert_eq!(lab.hub().members(), 3);
}

#[test]
fn a_thousand_that_connect_and_close_leave_nothing() {
    let lab = undisturbed(|lab| {
        for n in 0..1_000 {
            let peer = lab.connect();
            match n % 5 {
                0 => lab.net.reset(peer),
                1 => lab.net.write(peer, &PREFACE[..n % 8]),
                2 => lab.hello(peer, "same", [0; 16]),
                3 => lab.net.write(peer, "unread\n".repeat(20)),
                _ => {}
            }
            if n % 2 == 0 {
                lab.run(1);
            }
            lab.net.close(peer);
        }
        lab.run(20_000);
    });
    assert_eq!(lab.hub().members(), 2);
    assert_eq!(lab.net.shard(lab.hub).connections().count(), 2);
}

#[test]
fn a_reset_anywhere_in_the_greeting_leaves_nothing() {
    let mut greeting = bytes::BytesMut::from(&PREFACE[..]);
    let max_frame = MAX_FRAME as u32;
    Request::Hello { max_frame, session: [0; 16], nick: "cut" }.put(&mut greeting);
    Request::Join { since: 0, room: "lobby" }.put(&mut greeting);
    let lab = undisturbed(|lab| {
        for len in 0..=greeting.len() {
            let peer: PeerId = lab.connect();
            lab.net.write(peer, &greeting[..len]);
            lab.run(1);
            if len % 2 == 0 {
                lab.net.reset(peer);
            } else {
                lab.net.finish(peer);
            }
            lab.run(500);
        }
    });
    assert_eq!(lab.hub().members(), 2);
    assert_eq!(lab.net.shard(lab.hub).connections().count(), 2);
}

#[test]
fn half_open_and_silent_members_are_dropped() {
    let lab = undisturbed(|lab| {
        let ghost = lab.member("ghost");
        lab.net.set_reading(ghost, false);
        lab.run(30_000);
    });
    assert_eq!(lab.hub().members(), 3);
    let mut lab = lab;
    lab.run(200_000);
    assert_eq!(lab.hub().members(), 0, "none of them has answered a PING");
}

#[test]
fn a_framed_peer_has_so_long_to_say_hello() {
    let within = u64::try_from(HELLO_WITHIN.as_millis()).unwrap();
    undisturbed(|lab| {
        let (late, in_time) = (lab.connect(), lab.connect());
        lab.net.write(late, PREFACE);
        lab.net.write(in_time, &PREFACE[..2]);
        lab.run(within - 10);
        assert!(lab.net.peer(late).eof().is_none());
        lab.net.write(in_time, &PREFACE[2..]);
        lab.ask(
            in_time,
            Request::Hello { max_frame: MAX_FRAME as u32, session: [0; 16], nick: "t" },
        );
        lab.run(20);
        assert_eq!(lab.frames(late), ["ERROR Timeout fatal 0"]);
        assert_eq!(lab.frames(in_time), ["WELCOME t"]);
        lab.run(within);
        assert!(lab.net.peer(in_time).eof().is_none());
    });
}
