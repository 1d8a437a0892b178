//! The course's secure chat: a key in clear, then tokens without borders.
#![allow(missing_docs)]

use bytes::Bytes;
use core::time::Duration;
use semfio_chat::{
    Client, ClientCommand, ClientError, ClientEvent, DETECT, GAP, OK_WITHIN, PAUSE, SETTLE,
    Session, SessionCommand, SessionError, SessionEvent, TOKEN_TEXT,
};
use semfio_keysync::{Key, Policy, token_len};
use semfio_machine::{
    Carry, Chunk, Input, Instant, Now, Outbox, Refused, Seed, Step, StreamMachine, UnixTime,
};
use std::sync::Arc;

const KEY: [u8; 32] = [5; 32];

fn sealed(text: &[u8]) -> Vec<u8> {
    let mut token = Vec::new();
    Key::new(KEY).seal(UnixTime::from_secs(1), [text.len() as u8; 16], text, &mut token);
    token
}

fn opened(token: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    Key::new(KEY).open(&Policy::STRICT, UnixTime::from_secs(9), token, &mut text).unwrap();
    text
}

/// A machine, fed by hand; its writes are kept apart.
struct Bench<M> {
    machine: M,
    carry: Carry,
    out: Outbox,
    now: Now,
}

impl<M: StreamMachine> Bench<M> {
    fn new(machine: M) -> Self {
        let now = Now { mono: Instant::from_nanos(1_000), unix: UnixTime::from_secs(2) };
        Self { machine, carry: Carry::default(), out: Outbox::default(), now }
    }

    /// Feeds a read, and says what each step gave.
    fn feed<E>(
        &mut self,
        new: &[u8],
        eof: bool,
        mut event: impl FnMut(M::Event<'_>) -> E,
    ) -> (Vec<E>, Result<(), M::Error>) {
        let (bytes, fresh) = self.carry.append(new);
        let mut input = Input::new(bytes, fresh, eof);
        let mut events = Vec::new();
        let verdict = loop {
            match self.machine.handle_input(self.now, &mut input, &mut self.out) {
                Ok(Step::Event(it)) => events.push(event(it)),
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let untaken = input.untaken();
        self.carry.keep(untaken);
        (events, verdict)
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono.saturating_add(time);
        self.machine.handle_timeout(self.now, &mut self.out);
    }

    /// The writes so far, each by itself.
    fn writes(&mut self) -> Vec<Vec<u8>> {
        let mut writes = Vec::new();
        while !self.out.is_empty() {
            let mut write = Vec::new();
            for chunk in self.out.chunks() {
                match chunk {
                    Chunk::Bytes(bytes) => write.extend_from_slice(bytes),
                    Chunk::File(_) => panic!("a file"),
                }
            }
            self.out.advance(write.len());
            if !write.is_empty() {
                writes.push(write);
            }
        }
        writes
    }
}

type Told = (Vec<String>, Result<(), SessionError>);

impl Bench<Session> {
    fn server() -> Self {
        let mut bench = Self::new(Session::with_cleartext_key(Arc::new(Key::new(KEY))));
        assert_eq!(bench.read(b""), (vec![], Ok(())));
        bench
    }

    fn synchronized() -> Self {
        let mut bench = Self::server();
        bench.pass(DETECT);
        bench.tick();
        bench.writes();
        assert_eq!(bench.read(&sealed(b"OK")), (vec!["Spoke(Token)".into()], Ok(())));
        bench
    }

    fn read(&mut self, new: &[u8]) -> Told {
        self.feed(new, false, show)
    }

    /// Goes on without input; nothing is told.
    fn tick(&mut self) {
        assert_eq!(self.read(b""), (vec![], Ok(())));
    }

    fn end(&mut self, new: &[u8]) -> Told {
        self.feed(new, true, show)
    }

    fn send(&mut self, tokens: &[Bytes]) -> Result<(), Refused> {
        self.machine.handle_command(self.now, SessionCommand::Pieces(tokens), &mut self.out)
    }
}

fn show(event: SessionEvent<'_>) -> String {
    match event {
        SessionEvent::Token(token) => String::from_utf8(opened(token)).unwrap(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_key_comes_after_silence_and_ok_lets_in() {
    let mut bench = Bench::server();
    bench.pass(DETECT - Duration::from_millis(1));
    bench.tick();
    assert_eq!(bench.writes(), [b""; 0]);
    bench.pass(Duration::from_millis(1));
    bench.tick();
    assert_eq!(bench.writes(), [Key::new(KEY).to_text().as_bytes()]);
    assert_eq!(bench.machine.state(), "AwaitOk");
    assert_eq!(bench.read(&sealed(b"OK")), (vec!["Spoke(Token)".into()], Ok(())));
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn whoever_speaks_first_and_is_not_framed_gets_the_key_at_once() {
    let mut bench = Bench::server();
    assert_eq!(bench.read(b"oi\n").1, Err(SessionError::BadOk));
    assert_eq!(bench.writes(), [Key::new(KEY).to_text().as_bytes()]);
    // Somebody who knows the key already.
    let mut bench = Bench::server();
    assert_eq!(bench.read(&sealed(b"OK")).0, ["Spoke(Token)"]);
}

#[test]
fn framed_peers_come_in_by_the_same_port_late_ones_too() {
    let mut bench = Bench::server();
    assert_eq!(bench.read(b"\xFFsemfio\x01").0, ["Spoke(Framed)"]);
    assert_eq!(bench.machine.state(), "AwaitHello");
    assert_eq!(bench.writes(), [b"\xFFsemfio\x01"]);
    let mut bench = Bench::server();
    bench.pass(DETECT);
    bench.tick();
    assert_eq!(bench.read(b"\xFF").0, ["Spoke(Framed)"]);
    assert_eq!(bench.machine.state(), "AwaitHello");
}

#[test]
fn defect_12_and_13_a_wrong_answer_is_closed() {
    let mut foreign = Vec::new();
    Key::new([6; 32]).seal(UnixTime::from_secs(1), [0; 16], b"OK", &mut foreign);
    for answer in [&sealed(b"NO")[..], &sealed(b"OK "), &foreign, b"garbage", b"gAAAAA=="] {
        let mut bench = Bench::server();
        bench.pass(DETECT);
        bench.tick();
        assert_eq!(bench.read(answer), (vec![], Err(SessionError::BadOk)));
        assert_eq!(bench.machine.state(), "Failed");
    }
    let mut bench = Bench::server();
    bench.pass(DETECT);
    bench.read(&sealed(b"OK")[..99]).1.unwrap();
    assert_eq!(bench.end(b"").1, Err(SessionError::BadOk), "torn");
    let mut bench = Bench::server();
    bench.pass(DETECT);
    bench.tick();
    bench.pass(OK_WITHIN - Duration::from_millis(1));
    assert_eq!(bench.read(b"").1, Ok(()));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.read(b"").1, Err(SessionError::OkTimeout));
}

#[test]
fn defects_14_and_15_glued_tokens_are_all_got() {
    let glued = [sealed(b"OK"), sealed(b"a"), sealed(&[b'b'; 40]), sealed(b"c")].concat();
    let mut bench = Bench::server();
    bench.pass(DETECT);
    bench.tick();
    let wanted = ["Spoke(Token)", "a", &"b".repeat(40), "c"];
    assert_eq!(bench.end(&glued).0, [&wanted[..], &["Bye"]].concat());
}

#[test]
fn defect_19_what_does_not_open_is_told_and_a_flood_ends_it() {
    let mut bench = Bench::synchronized();
    let mixed = [b"junk".to_vec(), sealed(b"a"), sealed(b"b")[..70].to_vec(), sealed(b"c")];
    assert_eq!(bench.read(&mixed.concat()).0, ["Unreadable", "a", "Unreadable", "c"]);
    let (told, verdict) = bench.read(&b"gAAAAA".repeat(40));
    assert_eq!((told.len(), verdict), (32, Err(SessionError::Garbage)));
    let mut bench = Bench::synchronized();
    let (told, verdict) = bench.read(&vec![b'x'; 300_000]);
    assert_eq!((told.len(), verdict), (1, Err(SessionError::Garbage)));
    // One good token makes up for what was lost.
    let mut bench = Bench::synchronized();
    for _ in 0..5 {
        assert_eq!(bench.read(&[vec![b'x'; 200_000], sealed(b"a")].concat()).1, Ok(()));
    }
}

#[test]
fn limits_are_judged_on_both_sides_however_the_stream_is_cut() {
    let token = |len| [sealed(&vec![b'y'; len]), sealed(b"a")].concat();
    let garbage = |len| [vec![b'!'; len], sealed(b"a")].concat();
    // The longest token that is looked for, and the next; as much as may be lost in a row, and more.
    let streams =
        [token(49_087), token(49_088), garbage(262_144), garbage(262_145), garbage(262_151)];
    let ends = ["a", "a", "a", "Unreadable", "Unreadable"];
    for (stream, end) in streams.iter().zip(ends) {
        let mut all = Vec::new();
        for size in [stream.len(), 1_000, 7] {
            let mut bench = Bench::synchronized();
            let (mut told, mut verdict) = (Vec::new(), Ok(()));
            for read in stream.chunks(size) {
                let (more, after) = bench.read(read);
                told.extend(more);
                verdict = after;
                if verdict.is_err() {
                    break;
                }
            }
            assert_eq!(told.last().map(|told| &**told), Some(end), "reads of {size}");
            all.push((told, verdict));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(all[0].1.is_err(), end != "a");
    }
}

#[test]
fn each_token_leaves_by_itself_after_a_gap() {
    let mut bench = Bench::synchronized();
    let tokens: Vec<Bytes> = (0..3).map(|n| Bytes::from(sealed(&[b'0' + n]))).collect();
    bench.send(&tokens).unwrap();
    bench.tick();
    assert_eq!(bench.writes(), [&tokens[0][..]]);
    bench.pass(GAP - Duration::from_millis(1));
    bench.tick();
    assert_eq!(bench.writes(), [b""; 0]);
    bench.pass(Duration::from_millis(1));
    bench.tick();
    assert_eq!(bench.writes(), [&tokens[1][..]]);
    bench.pass(GAP);
    bench.tick();
    assert_eq!(bench.writes(), [&tokens[2][..]]);
    bench.pass(GAP);
    bench.tick();
    assert_eq!(bench.machine.poll_timeout(), None);
    // Those that wait at the end are not kept back.
    bench.send(&tokens).unwrap();
    bench.machine.handle_close(bench.now, &mut bench.out);
    assert_eq!(bench.writes(), tokens);
}

#[test]
fn a_queue_takes_all_or_none_and_says_when_it_takes_more() {
    let mut bench = Bench::synchronized();
    let many: Vec<Bytes> = (0..20).map(|n| Bytes::from(sealed(&[n]))).collect();
    bench.send(&many).unwrap();
    assert_eq!(bench.send(&many[..1]), Err(Refused::Full));
    let mut told = Vec::new();
    let mut sent = Vec::new();
    for _ in 0..30 {
        told.extend(bench.read(b"").0);
        sent.extend(bench.writes());
        if sent.len() == 4 {
            assert_eq!(bench.send(&many[..1]), Err(Refused::Full), "16 are left");
        }
        bench.pass(GAP);
    }
    assert_eq!(sent, many);
    assert_eq!(told, ["Room"], "told once");
    bench.send(&many[..1]).unwrap();
}

#[test]
fn a_reader_that_does_not_read_holds_what_was_handed_over_and_no_more() {
    let mut bench = Bench::synchronized();
    bench.out = Outbox::new(200);
    let many: Vec<Bytes> = (0..10).map(|n| Bytes::from(sealed(&[n]))).collect();
    bench.send(&many).unwrap();
    for _ in 0..100 {
        bench.tick();
        bench.pass(GAP);
    }
    assert!(bench.out.held() <= 10 * 200, "{}", bench.out.held());
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(bench.writes());
        bench.tick();
        bench.pass(GAP);
    }
    assert_eq!(sent, many, "and nothing is lost or repeated");
}

// The client.

impl Bench<Client> {
    fn member() -> Self {
        let mut bench = Self::new(Client::insecure_cleartext_key(Seed::from_u64(1).stream(0)));
        bench.hear(b"").1.unwrap();
        bench
    }

    fn in_room() -> Self {
        let mut bench = Self::member();
        assert_eq!(bench.hear(Key::new(KEY).to_text().as_bytes()).0, ["Synchronized"]);
        bench
    }

    fn hear(&mut self, new: &[u8]) -> (Vec<String>, Result<(), ClientError>) {
        self.feed(new, false, tell)
    }

    fn say(&mut self, text: &str) {
        let command = ClientCommand::Text(text);
        self.machine.handle_command(self.now, command, &mut self.out).unwrap();
        self.hear(b"").1.unwrap();
    }
}

fn tell(event: ClientEvent<'_>) -> String {
    match event {
        ClientEvent::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_member_gathers_the_key_and_answers_ok() {
    let key = Key::new(KEY).to_text();
    for cut in 0..44 {
        let mut bench = Bench::member();
        let (head, tail) = key.as_bytes().split_at(cut);
        assert_eq!(bench.hear(head).0, [""; 0]);
        assert_eq!(bench.hear(tail).0, ["Synchronized"]);
        let writes = bench.writes();
        assert_eq!(writes.len(), 1);
        assert_eq!(opened(&writes[0]), b"OK");
    }
}

#[test]
fn what_is_no_key_is_an_error() {
    let key = Key::new(KEY).to_text();
    for bad in ["x".repeat(44), "é".repeat(22), key.replace('=', "A"), format!(" {}", &key[..43])]
    {
        assert_eq!(Bench::member().hear(bad.as_bytes()).1, Err(ClientError::BadKey), "{bad}");
    }
    let mut bench = Bench::member();
    bench.hear(&key.as_bytes()[..43]).1.unwrap();
    assert_eq!(bench.feed(b"", true, tell).1, Err(ClientError::NoKey));
    let mut bench = Bench::member();
    bench.pass(OK_WITHIN);
    assert_eq!(bench.hear(b"").1, Err(ClientError::KeyTimeout));
}

#[test]
fn a_text_leaves_once_the_last_has_come_back() {
    let mut bench = Bench::in_room();
    bench.writes();
    bench.say("a");
    bench.say("b");
    bench.pass(SETTLE - Duration::from_millis(1));
    bench.hear(b"").1.unwrap();
    assert_eq!(bench.writes(), [b""; 0], "the server reads OK first");
    bench.pass(Duration::from_millis(1));
    bench.hear(b"").1.unwrap();
    let writes = bench.writes();
    assert_eq!((writes.len(), &opened(&writes[0])[..]), (1, &b"a"[..]));
    // Another's token with the same text is not the echo, and one glued to it is no matter.
    assert_eq!(bench.hear(&sealed(b"a")).0, ["a"]);
    assert_eq!(bench.hear(&[&writes[0][..], &sealed(b"x")].concat()).0, ["a", "Sent(1)", "x"]);
    bench.pass(PAUSE - Duration::from_millis(1));
    bench.hear(b"").1.unwrap();
    assert_eq!(bench.writes(), [b""; 0]);
    bench.pass(Duration::from_millis(1));
    bench.hear(b"").1.unwrap();
    assert_eq!(opened(&bench.writes()[0]), b"b");
}

#[test]
fn defect_16_a_long_text_leaves_in_pieces_that_can_be_read() {
    assert_eq!((token_len(TOKEN_TEXT), token_len(TOKEN_TEXT + 1)), (1_016, 1_036));
    let mut bench = Bench::in_room();
    bench.writes();
    bench.pass(SETTLE);
    let text = format!("x{}", "é".repeat(800));
    bench.say(&text);
    let (mut got, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let writes = bench.writes();
        assert!(writes.len() <= 1);
        for token in writes {
            assert!(token.len() <= 1_024);
            got.extend(opened(&token));
            assert!(std::str::from_utf8(&opened(&token)).is_ok());
            sent.extend(bench.hear(&token).0.into_iter().filter(|told| told == "Sent(1)"));
        }
        bench.pass(PAUSE);
        bench.hear(b"").1.unwrap();
    }
    assert_eq!(got, text.as_bytes());
    assert_eq!(sent.len(), 1, "the whole of it is one");
}

#[test]
fn what_does_not_open_makes_nobody_deaf() {
    let mut bench = Bench::in_room();
    let mixed = [b"junk".to_vec(), sealed(b"a"), sealed(b"b")[..70].to_vec(), sealed(b"c")];
    assert_eq!(bench.hear(&mixed.concat()).0, ["Unreadable", "a", "Unreadable", "c"]);
}
