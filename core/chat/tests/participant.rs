//! A participant against a server whose every frame is chosen.
#![allow(missing_docs)]

use bytes::BytesMut;
use rand_core::RngCore as _;
use semfio_chat::wire::{
    Ask, Entry, ErrorCode, MAX_FRAME, Manner, PREFACE, Request, Response, Sealed, Tell, What,
    put_names,
};
use semfio_chat::{
    Client, ClientError, Happened, Keys, MAX_UNSENT, Outcome, Participant, ParticipantConfig,
    ParticipantMessage, ParticipantReport, WELCOME_WITHIN,
};
use semfio_frame::Dialect;
use semfio_keysync::{self as keysync, KeySync, KeyTransmit, Passphrase, Stamped, Vault};
use semfio_machine::{
    Action, Chunk, ConnId, Failure, Instant, NetLimits, Now, Peer, Seed, Shard, Target,
};
use std::time::Duration;

struct Bench {
    shard: Shard<Client, Participant>,
    now: Now,
    conn: Option<ConnId>,
}

impl Bench {
    fn new(room: &str) -> Self {
        let target = Target::Address(([127, 0, 0, 1], 1).into());
        let config = ParticipantConfig::new(target, Dialect::Framed, "ana", room);
        Self::of(Participant::new(config, &Seed::from_u64(1)))
    }

    /// With a passphrase.
    fn sealed(room: &str) -> Self {
        let target = Target::Address(([127, 0, 0, 1], 1).into());
        let config = ParticipantConfig::new(target, Dialect::Framed, "ana", room);
        let (seed, secrets) = (Seed::from_u64(1), Seed::from_u64(2));
        Self::of(Participant::sealed(config, &seed, Passphrase::new(b"abacate"), &secrets))
    }

    fn of(participant: Participant) -> Self {
        let now = Now { mono: Instant::from_nanos(1), ..Now::default() };
        Self { shard: Shard::new(participant, NetLimits::default()), now, conn: None }
    }

    /// Waits until it dials, and lets it in; the epoch is 1.
    fn welcome(&mut self) {
        self.connect();
        let (max_frame, session) = (MAX_FRAME as u32, [7; 16]);
        let welcome = Response::Welcome { max_frame, session, epoch: 1, time: 0, nick: "ana" };
        self.tell(&[welcome]);
    }

    fn connect(&mut self) {
        self.now.mono = self.now.mono.saturating_add(Duration::from_secs(20));
        self.shard.handle_timeout(self.now);
        let dialled = std::iter::from_fn(|| self.shard.poll_action())
            .find_map(|action| if let Action::Dial(conn, _) = action { Some(conn) } else { None });
        let address = ([127, 0, 0, 1], 1).into();
        let conn = dialled.expect("it dials");
        self.shard.handle_connected(self.now, conn, Peer { address, local: address });
        self.conn = Some(conn);
        self.shard.handle_received(self.now, conn, &mut { PREFACE });
    }

    fn tell(&mut self, responses: &[Response<'_>]) {
        let mut wire = BytesMut::new();
        responses.iter().for_each(|response| response.put(&mut wire));
        self.shard.handle_received(self.now, self.conn.unwrap(), &mut wire);
    }

    fn names(&mut self, room: &str, newest: u64) {
        let mut wire = BytesMut::new();
        put_names(newest, 1, room, ["ana"].into_iter(), &mut wire);
        self.shard.handle_received(self.now, self.conn.unwrap(), &mut wire);
    }

    /// Lets it into the lobby, whose newest entry is its JOIN.
    fn joined(&mut self, seq: u64) {
        self.names("lobby", seq);
        self.tell(&[entry(seq, What::Join)]);
        self.sent();
    }

    fn line(&mut self, line: &str) {
        self.shard.handle_message(self.now, ParticipantMessage::Line(line.into()));
    }

    fn eof(&mut self) {
        self.shard.handle_message(self.now, ParticipantMessage::Eof);
    }

    fn cut(&mut self) {
        self.shard.handle_failed(self.now, self.conn.take().unwrap(), Failure::Reset);
        self.shard.handle_turn(self.now);
    }

    /// Ends the turn and calls `each` with what was sent meanwhile.
    fn requests(&mut self, mut each: impl FnMut(Request<'_>)) {
        self.shard.handle_turn(self.now);
        let Some(conn) = self.conn else { return };
        let Some(outbox) = self.shard.outbox(conn) else { return };
        let bytes: Vec<u8> = outbox
            .chunks()
            .flat_map(|chunk| match chunk {
                Chunk::Bytes(bytes) => bytes.to_vec(),
                Chunk::File(_) => Vec::new(),
            })
            .collect();
        self.shard.handle_sent(self.now, conn, bytes.len());
        let mut rest = bytes.strip_prefix(&PREFACE[..]).unwrap_or(&bytes);
        while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<4>() {
            let (body, after) = after.split_at(u32::from_be_bytes([0, a, b, c]) as usize);
            rest = after;
            if let Some(request) = Request::parse(kind, body).unwrap() {
                each(request);
            }
        }
    }

    /// Ends the turn and gives the texts that were sent meanwhile, with their tags.
    fn sent(&mut self) -> Vec<(u32, String)> {
        let mut texts = Vec::new();
        self.requests(|request| {
            if let Request::Msg { tag, text, .. } = request {
                texts.push((tag, text.to_owned()));
            }
        });
        texts
    }

    /// Ends the turn and gives the bodies that were to be relayed.
    fn relays(&mut self) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        self.requests(|request| {
            if let Request::Key { ask: Ask::Relay { body, .. }, .. } = request {
                bodies.push(body.to_vec());
            }
        });
        bodies
    }

    fn reports(&mut self) -> Vec<ParticipantReport> {
        std::iter::from_fn(|| self.shard.poll_report()).collect()
    }

    fn done(&mut self) -> usize {
        let lines = |report| if let ParticipantReport::Done(n) = report { n } else { 0 };
        self.reports().into_iter().map(lines).sum()
    }
}

fn entry<'a>(seq: u64, what: What<'a>) -> Response<'a> {
    Response::Entry(Entry { seq, time: 0, room: "lobby", nick: "ana", what })
}

fn said(seq: u64, text: &str) -> Response<'_> {
    entry(seq, What::Said(Manner::Text, text))
}

fn texts<const N: usize>(sent: [(u32, &str); N]) -> Vec<(u32, String)> {
    sent.map(|(tag, text)| (tag, text.to_owned())).into()
}

#[test]
fn an_entry_that_comes_after_its_ack_is_not_that_of_the_same_words_said_again() {
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.joined(1);
    bench.line("oi");
    assert_eq!(bench.sent(), texts([(1, "oi")]));
    bench.tell(&[Response::Ack { tag: 1, seq: 2 }]);
    bench.line("oi");
    assert_eq!(bench.sent(), texts([(2, "oi")]));
    bench.tell(&[said(2, "oi")]);
    assert_eq!(bench.done(), 1, "the first alone");
    bench.cut();
    bench.welcome();
    bench.joined(3);
    assert_eq!(bench.done(), 0);
    bench.line("more");
    assert_eq!(bench.sent(), texts([(3, "more")]));
}

#[test]
fn a_text_that_was_never_sent_is_not_taken_for_one_in_the_log() {
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.joined(1);
    // The outbox is full before the last.
    let long = "x".repeat(16_000);
    for text in [&*long, &long, &long, &long, &long, "oi"] {
        bench.line(text);
    }
    bench.cut();
    bench.welcome();
    bench.names("lobby", 3);
    // By another that had the name meanwhile.
    bench.tell(&[said(2, "oi"), entry(3, What::Join)]);
    assert_eq!(bench.done(), 0);
    let sent: Vec<u32> = bench.sent().into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(sent, [1, 2, 3, 4, 5]);
    assert_eq!(bench.sent(), texts([(6, "oi")]));
}

#[test]
fn what_an_earlier_connection_got_into_the_log_is_not_said_twice() {
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.joined(1);
    for text in ["a", "b", "c"] {
        bench.line(text);
    }
    bench.sent();
    // Of the first the entry came and its ACK did not, of the second neither, the third is lost.
    bench.tell(&[said(2, "a")]);
    bench.cut();
    bench.welcome();
    bench.names("lobby", 4);
    bench.tell(&[said(3, "b"), entry(4, What::Join)]);
    assert_eq!(bench.sent(), texts([(3, "c")]));
    bench.tell(&[said(5, "c"), Response::Ack { tag: 3, seq: 5 }]);
    assert_eq!(bench.done(), 3);
}

#[test]
fn a_name_that_is_still_in_use_is_asked_for_again() {
    let in_use = Response::Error { code: ErrorCode::NickInUse, fatal: true, tag: 0, text: "" };
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.joined(1);
    bench.cut();
    bench.reports();
    bench.connect();
    bench.tell(std::slice::from_ref(&in_use));
    assert!(matches!(bench.reports()[..], [ParticipantReport::Lost { .. }]));
    bench.welcome();
    // One that was never let in is turned away.
    let mut bench = Bench::new("lobby");
    bench.connect();
    bench.tell(&[in_use]);
    let over = Outcome::TurnedAway(ErrorCode::NickInUse, String::new());
    assert_eq!(bench.reports(), [ParticipantReport::Over(over)]);
}

#[test]
fn a_line_does_not_overtake_those_that_waited_for_the_room() {
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.line("first");
    bench.tell(&[entry(1, What::Join)]);
    bench.names("lobby", 1);
    bench.line("second");
    assert_eq!(bench.sent(), texts([(1, "first"), (2, "second")]));
}

#[test]
fn a_room_whose_name_is_refused_does_not_hold_up_the_rest() {
    let mut bench = Bench::new("two words");
    bench.welcome();
    bench.line("/help");
    let code = ErrorCode::BadText;
    bench.tell(&[Response::Error { code, fatal: false, tag: 0, text: "" }]);
    bench.shard.handle_turn(bench.now);
    assert_eq!(bench.done(), 1);
}

#[test]
fn so_many_lines_may_wait_and_no_more() {
    let mut bench = Bench::new("lobby");
    bench.welcome();
    for _ in 0..MAX_UNSENT {
        bench.line("x");
    }
    assert_eq!(bench.done(), 0);
    bench.line("x");
    let refused = ParticipantReport::Refused("too much waits to be sent".into());
    assert_eq!(bench.reports(), [refused, ParticipantReport::Done(1)]);
    bench.joined(1);
    assert!(!bench.reports().contains(&ParticipantReport::Done(1)), "all others are taken");
}

#[test]
fn a_server_has_so_long_to_answer_hello() {
    let mut bench = Bench::new("lobby");
    bench.connect();
    bench.now.mono = bench.now.mono.saturating_add(WELCOME_WITHIN - Duration::from_nanos(1));
    bench.shard.handle_timeout(bench.now);
    assert_eq!(bench.reports(), []);
    bench.now.mono = bench.now.mono.saturating_add(Duration::from_nanos(1));
    bench.shard.handle_timeout(bench.now);
    let over = Outcome::Protocol(ClientError::WelcomeTimeout);
    assert_eq!(bench.reports(), [ParticipantReport::Over(over)]);
}

#[test]
fn who_waits_at_the_door_may_quit() {
    for typed in [&["/quit"][..], &["oi", "/quit"]] {
        let mut bench = Bench::sealed("lobby");
        bench.welcome();
        bench.tell(&[Response::Key { room: "lobby", tell: Tell::Door { you: 7, holder: 3 } }]);
        bench.reports();
        typed.iter().for_each(|line| bench.line(line));
        bench.sent();
        bench.cut();
        // Not before what was typed before.
        let over = ParticipantReport::Over(Outcome::Left);
        assert_eq!(bench.reports().contains(&over), typed.len() == 1);
    }
}

#[test]
fn nobody_comes_back_only_to_leave() {
    let left = [ParticipantReport::Over(Outcome::Left)];
    // Cut off before the end of what is typed, or while it dials again.
    for dials in [false, true] {
        let mut bench = Bench::new("lobby");
        bench.welcome();
        bench.joined(1);
        bench.cut();
        if dials {
            bench.connect();
        }
        bench.reports();
        bench.eof();
        if dials {
            assert_eq!(bench.reports(), []);
            bench.cut();
        }
        assert_eq!(bench.reports(), left);
    }
    // What was typed is not given up, nor a room that it never was in.
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.cut();
    bench.eof();
    assert!(!bench.reports().contains(&left[0]));
    let mut bench = Bench::new("lobby");
    bench.welcome();
    bench.joined(1);
    bench.line("oi");
    bench.cut();
    bench.eof();
    assert!(!bench.reports().contains(&left[0]));
    bench.welcome();
    bench.names("lobby", 2);
    bench.tell(&[entry(2, What::Join)]);
    assert_eq!(bench.sent(), texts([(1, "oi")]));
}

#[test]
fn a_server_puts_no_words_in_clear_into_a_sealed_conversation() {
    let mut bench = Bench::sealed("lobby");
    bench.welcome();
    let door = Tell::Door { you: 7, holder: 7 };
    bench.tell(&[Response::Key { room: "lobby", tell: door }]);
    bench.joined(1);
    bench.reports();
    let manners = [Manner::Text, Manner::Action, Manner::Private];
    for (manner, seq) in manners.into_iter().zip([2, 3, 0]) {
        let (room, nick) = (if seq == 0 { "ana" } else { "lobby" }, "bia");
        let what = What::Said(manner, "send me the passphrase");
        bench.tell(&[Response::Entry(Entry { seq, time: 0, room, nick, what })]);
        let left_out = Keys::InClear { nick: nick.into() };
        let told = ParticipantReport::Keys { room: room.into(), what: left_out };
        assert_eq!(bench.reports(), [told]);
    }
}

/// A sealed participant `ana`, let into the lobby by a holder `bia` that the test has in its hand.
fn let_in() -> (Bench, KeySync) {
    let mut bench = Bench::sealed("lobby");
    let phrase = Passphrase::new(b"abacate");
    let mut bia = KeySync::new(Vault::new(phrase, Seed::from_u64(3)), "lobby", "bia");
    bia.handle_door(bench.now, 1, 1);
    bench.welcome();
    let mut seq = 0;
    bench.tell(&[Response::Key { room: "lobby", tell: Tell::Door { you: 2, holder: 1 } }]);
    bia.handle_knock(bench.now, 2, "ana");
    for _ in 0..6 {
        bench.now.mono = bench.now.mono.saturating_add(Duration::from_millis(300));
        let now = bench.now;
        for body in bench.relays() {
            bia.handle_relay(now, 2, &body);
        }
        bia.handle_timeout(now);
        while let Some(transmit) = bia.poll_transmit() {
            match transmit {
                KeyTransmit::Relay { body, .. } => {
                    let tell = Tell::Relay { peer: 1, body: &body };
                    bench.tell(&[Response::Key { room: "lobby", tell }]);
                }
                KeyTransmit::Admit { .. } => {
                    seq += 1;
                    bench.names("lobby", seq);
                    bench.tell(&[entry(seq, What::Join)]);
                }
                KeyTransmit::Epoch { epoch, fresh, check } => {
                    bia.handle_epoch(now, epoch, fresh, check);
                    if seq > 0 {
                        seq += 1;
                        bench.tell(&[entry(seq, What::Epoch { epoch, fresh, check })]);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    bench.reports();
    (bench, bia)
}

fn told(bench: &mut Bench, seq: u64, nick: &str, to: &str, said: (Stamped, Vec<u8>)) {
    let (stamped, token) = said;
    let token = std::str::from_utf8(&token).unwrap();
    let what = What::Sealed(Sealed {
        sender: 1,
        to,
        epoch: stamped.epoch,
        counter: stamped.counter,
        token,
    });
    bench.tell(&[Response::Entry(Entry { seq, time: 0, room: "lobby", nick, what })]);
}

/// Seals a text of bia's.
fn sealed(bia: &mut KeySync, now: Now, manner: keysync::Manner, to: &str) -> (Stamped, Vec<u8>) {
    let mut token = Vec::new();
    let stamped = bia.seal(now, manner, to, "oi", &mut token).unwrap();
    (stamped, token)
}

fn authors(bench: &mut Bench) -> Vec<String> {
    let author = |report| match report {
        ParticipantReport::Entry { nick, what: Happened::Text(_), .. } => Some(nick),
        ParticipantReport::Unreadable { .. } => Some("(unreadable)".to_owned()),
        _ => None,
    };
    bench.reports().into_iter().filter_map(author).collect()
}

#[test]
fn a_member_does_not_speak_under_another_name_by_itself() {
    let (mut bench, mut bia) = let_in();
    bia.handle_nick(bench.now, "caio");
    let said = sealed(&mut bia, bench.now, keysync::Manner::Text, "");
    told(&mut bench, 9, "bia", "", said);
    assert_eq!(authors(&mut bench), ["caio (bia)"]);
    // The same if its key is still on the way.
    bia.handle_part(bench.now, 10);
    bench.now.mono = bench.now.mono.saturating_add(Duration::from_secs(1));
    let now = bench.now;
    bia.handle_timeout(now);
    let mut on_the_way = Vec::new();
    while let Some(transmit) = bia.poll_transmit() {
        if let KeyTransmit::Epoch { epoch, fresh, check } = transmit {
            bia.handle_epoch(now, epoch, fresh, check);
            bench.tell(&[entry(11, What::Epoch { epoch, fresh, check })]);
        } else {
            on_the_way.push(transmit);
        }
    }
    for by in ["bia", "caio"] {
        let said = sealed(&mut bia, now, keysync::Manner::Text, "");
        told(&mut bench, 12, by, "", said);
    }
    assert_eq!(authors(&mut bench), [""; 0]);
    for transmit in on_the_way {
        let KeyTransmit::Relay { body, .. } = transmit else { panic!("{transmit:?}") };
        let tell = Tell::Relay { peer: 1, body: &body };
        bench.tell(&[Response::Key { room: "lobby", tell }]);
    }
    assert_eq!(authors(&mut bench), ["caio (bia)", "caio"]);
}

#[test]
fn a_private_text_for_another_is_not_taken_for_ones_own() {
    let (mut bench, mut bia) = let_in();
    for (to, read) in [("caio", false), ("Ana", true)] {
        let said = sealed(&mut bia, bench.now, keysync::Manner::Private, to);
        told(&mut bench, 0, "bia", to, said);
        let reports = bench.reports();
        let private = |report: &ParticipantReport| {
            matches!(report, ParticipantReport::Entry { what: Happened::Private(_), .. })
        };
        assert_eq!(reports.iter().any(private), read, "{reports:?}");
    }
}

#[test]
fn a_server_does_not_say_under_what_name_one_seals() {
    let mut bench = Bench::sealed("lobby");
    bench.connect();
    let welcome = Response::Welcome {
        max_frame: MAX_FRAME as u32,
        session: [1; 16],
        epoch: 1,
        time: 0,
        nick: "eva",
    };
    bench.tell(&[welcome]);
    assert_eq!(bench.shard.service().nick(), "ana");
    let (mut bench, _) = let_in();
    let renamed = |seq, new| {
        let (room, nick, what) = ("lobby", "ana", What::Nick(new));
        Response::Entry(Entry { seq, time: 0, room, nick, what })
    };
    bench.tell(&[renamed(9, "eva")]);
    assert_eq!(bench.shard.service().nick(), "ana");
    bench.line("/nick davi");
    bench.tell(&[renamed(10, "eva")]);
    assert_eq!(bench.shard.service().nick(), "ana");
    bench.tell(&[renamed(11, "davi")]);
    assert_eq!(bench.shard.service().nick(), "davi");
}

#[test]
fn a_server_does_not_tell_again_as_history_what_was_said_once() {
    let (mut bench, mut bia) = let_in();
    let said = sealed(&mut bia, bench.now, keysync::Manner::Text, "");
    told(&mut bench, 9, "bia", "", said.clone());
    let history = [Response::History { from: 9, to: 9, room: "lobby" }];
    bench.tell(&history);
    told(&mut bench, 9, "bia", "", said.clone());
    assert_eq!(authors(&mut bench), ["bia", "(unreadable)"]);
    bench.line("/history 9");
    bench.tell(&history);
    told(&mut bench, 9, "bia", "", said);
    assert_eq!(authors(&mut bench), ["bia"]);
}

/// A token that was sealed, by whom it was, and what stands around it.
#[derive(Clone)]
struct Kept {
    by: &'static str,
    sender: u64,
    to: String,
    epoch: u64,
    counter: u64,
    token: String,
}

/// One conversation with a server that says what it likes, and has one honest member at hand: gives how many
/// texts were shown.
fn conversation(seed: u64) -> usize {
    let mut dice = Seed::from_u64(seed).stream(5);
    let mut below = |n: u64| dice.next_u64() % n;
    let (mut bench, mut bia) = let_in();
    let (mut kept, mut bodies): (Vec<Kept>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let (mut texts, mut shown) = (0, Vec::new());
    for step in 0..120 {
        let pick = |n: u64, of: &[&'static str]| of[n as usize % of.len()];
        let (a, b, c) = (below(1 << 32), below(1 << 32), below(1 << 32));
        let room = pick(a, &["lobby", "lobby", "lobby", "Lobby", "other"]);
        let nick = pick(b, &["ana", "bia", "eva", "rita"]);
        let seq = match c % 8 {
            0 => 0,
            1 => u64::MAX - c % 3,
            _ => 5 + step / 2 + c % 5,
        };
        let number = [0, 1, 1, 2, 2, 7, u64::MAX][(a >> 8) as usize % 7];
        let epoch = match b >> 8 & 7 {
            0 => u64::MAX,
            _ => (bia.epoch() + 1).saturating_sub(b >> 12 & 3),
        };
        let at = |what| Response::Entry(Entry { seq, time: 0, room, nick, what });
        let key = |tell| Response::Key { room, tell };
        match below(32) {
            0..4 => {
                bench.line(&format!("ana{texts}"));
                texts += 1;
            }
            4..8 => {
                let (manner, to) = match c % 3 {
                    0 => (keysync::Manner::Private, pick(a >> 16, &["ana", "eva"])),
                    _ => (keysync::Manner::Text, ""),
                };
                let mut token = Vec::new();
                let text = format!("bia{texts}");
                texts += 1;
                if let Ok(stamped) = bia.seal(bench.now, manner, to, &text, &mut token) {
                    let (to, token) = (to.to_owned(), String::from_utf8(token).unwrap());
                    let Stamped { epoch, counter } = stamped;
                    kept.push(Kept { by: "bia", sender: 1, to, epoch, counter, token });
                }
            }
            8 => bench.line(pick(a, &["/nick rita", "/nick ana", "/history 0", "/who"])),
            9 => bench.line(pick(a, &["/join other", "/part", "/join lobby", "/nick eva"])),
            10..12 => {
                let pause = [1, 300, 2_500, 11_000, 40_000][a as usize % 5];
                bench.now.mono = bench.now.mono.saturating_add(Duration::from_millis(pause));
                bench.shard.handle_timeout(bench.now);
                bia.handle_timeout(bench.now);
            }
            12 if below(4) == 0 && bench.conn.is_some() => {
                bench.cut();
                bench.welcome();
            }
            13 => bench.tell(&[key(Tell::Door { you: 2, holder: number })]),
            14 => bench.tell(&[key(Tell::Knock { peer: number, nick })]),
            15 => bench.tell(&[key(Tell::Gone { peer: number })]),
            16 => bench.tell(&[at(What::Holder(number))]),
            17 => bench.tell(&[at(What::Part)]),
            18 => bench.tell(&[at(What::Nick(pick(a >> 16, &["ana", "eva", "rita"])))]),
            19 => bench.tell(&[at(What::Epoch { epoch, fresh: a & 1 == 0, check: [0; 16] })]),
            20 => bench.tell(&[at(What::Said(Manner::Text, "in clear"))]),
            21 => {
                let (from, to, oldest) = (seq.saturating_sub(3), seq, seq);
                bench.tell(&match c >> 16 & 1 {
                    0 => [Response::Gap { from, to, oldest, room }],
                    _ => [Response::History { from, to, room }],
                });
            }
            22 => bench.tell(&[Response::Ack { tag: (a % 9) as u32, seq }]),
            23 => bench.names(room, seq),
            24 if !bodies.is_empty() => {
                let mut body = bodies[a as usize % bodies.len()].clone();
                let at = b as usize % body.len();
                body[at] ^= (c & 1) as u8;
                bench.tell(&[key(Tell::Relay { peer: number, body: &body })]);
            }
            25.. if !kept.is_empty() => {
                let mut said = kept[kept.len() - 1 - a as usize % kept.len().min(6)].clone();
                match c >> 16 & 15 {
                    0 => said.sender = number,
                    1 => said.epoch = epoch,
                    2 => said.counter = said.counter.wrapping_add(b % 3),
                    3 => said.to = nick.to_owned(),
                    _ => {}
                }
                let Kept { sender, epoch, counter, ref token, ref to, .. } = said;
                bench.tell(&[at(What::Sealed(Sealed { sender, to, epoch, counter, token }))]);
            }
            _ => {}
        }
        // What both say to each other mostly arrives.
        let mut relays = Vec::new();
        bench.requests(|request| match request {
            Request::Key { ask: Ask::Relay { body, .. }, .. } => relays.push(body.to_vec()),
            Request::Sealed { to, epoch, counter, token, .. } => {
                let (to, token) = (to.to_owned(), token.to_owned());
                kept.push(Kept { by: "ana", sender: 2, to, epoch, counter, token });
            }
            _ => {}
        });
        let arrives = below(4) > 0;
        for body in relays.iter().filter(|_| arrives) {
            bia.handle_relay(bench.now, 2, body);
        }
        bodies.extend(relays);
        while let Some(transmit) = bia.poll_transmit() {
            let (seq, nick, room) = (10 + step, "bia", "lobby");
            match transmit {
                KeyTransmit::Relay { body, .. } => {
                    if arrives {
                        let tell = Tell::Relay { peer: 1, body: &body };
                        bench.tell(&[Response::Key { room, tell }]);
                    }
                    bodies.push(body);
                }
                KeyTransmit::Epoch { epoch, fresh, check } => {
                    bia.handle_epoch(bench.now, epoch, fresh, check);
                    let what = What::Epoch { epoch, fresh, check };
                    bench.tell(&[Response::Entry(Entry { seq, time: 0, room, nick, what })]);
                }
                KeyTransmit::Admit { .. } => bench.names(room, seq),
                KeyTransmit::Refuse { .. } => {}
            }
        }
        for report in bench.reports() {
            match report {
                ParticipantReport::Entry { what, nick, old, .. } => {
                    let (Happened::Text(text) | Happened::Action(text) | Happened::Private(text)) =
                        what
                    else {
                        continue;
                    };
                    let by = kept.iter().find(|kept| text.starts_with(kept.by)).unwrap().by;
                    let own = by == "ana" && matches!(&nick[..3], "ana" | "eva" | "rit");
                    assert!(
                        own || by == "bia" && nick.starts_with("bia"),
                        "{seed}: {text} by {nick}"
                    );
                    if !old {
                        shown.push(text);
                    }
                }
                ParticipantReport::Over(_) => return shown.len(),
                _ => {}
            }
        }
    }
    assert!(shown.len() <= kept.len(), "{seed}: {shown:?}");
    let mut once: Vec<_> = shown.iter().filter(|text| text.starts_with("bia")).collect();
    once.sort();
    assert!(once.windows(2).all(|two| two[0] != two[1]), "{seed}: {shown:?}");
    shown.len()
}

#[test]
fn a_server_that_says_what_it_likes_puts_no_words_into_anybodys_mouth() {
    let shown: usize = (0..150).map(conversation).sum();
    assert!(shown > 300, "{shown} texts were shown");
}
