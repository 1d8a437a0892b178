//! A session for files whose peer knows the passphrase, and seals whatever it likes.

use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes128Gcm, KeyInit as _, Nonce, Tag};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::BytesMut;
use hkdf::Hkdf;
use semfio_file::tree::Hash;
use semfio_file::wire::{
    BODY, EntryList, ErrorCode, Get, Kind, MAX_FRAME, Message, Meta, PREFACE, RangeBytes,
};
use semfio_file::{
    MAX_RECORD, Piece, RECORD_HEADER, RECORD_TAG, Secret, Session, SessionCommand, SessionError,
    SessionEvent,
};
use semfio_keysync::{CONFIRM, Context, Initiator, Key, Pair, Passphrase, REPLY, Responder, START};
use semfio_machine::{Chunk, Input, Now, Outbox, Seed, Step, StreamMachine};
use sha2::Sha256;

use crate::Choices;

const PASSPHRASE: &[u8] = b"praia";
const CONTEXT: Context<'_> =
    Context { room: "semfio file transfer", initiator: (0, "client"), responder: 1 };
/// How often something is done at most.
const STEPS: usize = 64;

/// Both agree, and then a session hears in records what another hears in clear: the same, with the
/// same answers and the same error, however records cut what they hold; one that ends within a
/// frame, or was changed, repeated, left out or reflected, ends it. The peer is written anew from
/// what is said of records, so that what one direction seals opens under its own key alone.
pub fn file_records(data: &[u8]) {
    check(data, Insider::default());
}

/// What the peer knows of records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Insider {
    /// It takes the key of one direction for both.
    pub(crate) one_key: bool,
    /// It takes a record that ends within a frame for a good one.
    pub(crate) tears: bool,
    /// It counts records from 1.
    pub(crate) from_one: bool,
}

pub(crate) fn check(data: &[u8], insider: Insider) {
    let mut choices = Choices::new(data);
    let serves = choices.below(2) == 0;
    let Insider { one_key, tears, from_one } = insider;
    let (mut sealed, mut clear, pair) = if serves { served() } else { dialled() };
    let (to, from) = if serves {
        (&pair.to_responder, &pair.to_initiator)
    } else {
        (&pair.to_initiator, &pair.to_responder)
    };
    let (mut to, mut from) = (Direction::new(to), Direction::new(if one_key { to } else { from }));
    to.next = from_one.into();
    let mut text = BytesMut::new();
    match choices.below(8) {
        0 => put(&mut choices, &mut text),
        _ if serves => Message::Hello { max_frame: MAX_FRAME as u32 }.put(&mut text),
        _ => Message::Welcome { max_frame: MAX_FRAME as u32, writable: true }.put(&mut text),
    }
    // Where there is no passphrase it has another meaning.
    if text.first() == Some(&0x8F) {
        return;
    }
    for _ in 0..STEPS {
        compare(&mut sealed, &mut clear, &mut from);
        if sealed.error.is_some() || clear.error.is_some() || sealed.done {
            break;
        }
        // What it waits for is a command: that it opens no more meanwhile.
        if sealed.waits {
            command(&mut choices, &mut sealed, &mut clear);
            continue;
        }
        if choices.is_empty() {
            sealed.end();
            clear.end();
            break;
        }
        match choices.below(8) {
            0 => command(&mut choices, &mut sealed, &mut clear),
            1 => return forge(&mut choices, sealed, &clear, &mut to, &from),
            2 => put(&mut choices, &mut text),
            _ => {
                if text.is_empty() {
                    put(&mut choices, &mut text);
                }
                let cut = match choices.below(4) {
                    0 => choices.below(text.len()).saturating_add(1),
                    _ => text.len(),
                };
                let text = text.split_to(cut.min(MAX_RECORD).min(text.len()));
                if text.is_empty() {
                    continue;
                }
                let record = to.seal(&text);
                let cut = choices.below(record.len());
                sealed.hear(&record[..cut]);
                sealed.hear(&record[cut..]);
                clear.hear(&text);
                while sealed.waits && sealed.error.is_none() {
                    compare(&mut sealed, &mut clear, &mut from);
                    command(&mut choices, &mut sealed, &mut clear);
                }
                if !clear.input.is_empty() && clear.error.is_none() && !clear.done {
                    let torn = (!tears).then_some(SessionError::Torn);
                    assert_eq!(sealed.error, torn, "a record that ends within a frame");
                    return;
                }
            }
        }
    }
    compare(&mut sealed, &mut clear, &mut from);
}

/// Both have heard and said the same.
fn compare(sealed: &mut End, clear: &mut End, from: &mut Direction) {
    assert_eq!(sealed.heard, clear.heard);
    assert_eq!(sealed.error, clear.error);
    assert_eq!((sealed.done, sealed.waits), (clear.done, clear.waits));
    let (records, frames) = (sealed.drain(), clear.drain());
    let mut rest = &*records;
    let mut said = Vec::new();
    while !rest.is_empty() {
        let text = from.open(&mut rest);
        said.extend_from_slice(&text.expect("a record opens under the key of its direction"));
    }
    assert!(said == frames, "what is said is sealed, and no more");
}

/// Something that nobody sealed so, or not there, ends it.
fn forge(
    choices: &mut Choices<'_>,
    mut sealed: End,
    clear: &End,
    to: &mut Direction,
    from: &Direction,
) {
    let mut record = to.seal(choices.bytes(9));
    match choices.below(5) {
        0 => {
            let at = choices.below(record.len());
            record[at] ^= 1 << choices.below(8);
        }
        1 => {
            // One before it is missing.
            record = to.seal(&[1, 0, 0, 0]);
        }
        2 => match to.sent.iter().rev().nth(1) {
            Some(again) => record.clone_from(again),
            None => return,
        },
        3 => {
            // What the session sealed under this number, if it has.
            let number = usize::try_from(to.next - 1).unwrap_or(usize::MAX);
            match from.sent.get(number) {
                Some(own) => record.clone_from(own),
                None => return,
            }
        }
        _ => record.truncate(choices.below(record.len()).max(1)),
    }
    sealed.hear(&record);
    sealed.end();
    assert_eq!(sealed.heard, clear.heard, "it is not opened");
    let error = sealed.error.expect("it ends the session");
    let known =
        matches!(error, SessionError::Forged | SessionError::Torn | SessionError::Record(_));
    assert!(known, "{error:?}");
}

/// Appends what a peer might say, or what none should.
fn put(choices: &mut Choices<'_>, text: &mut BytesMut) {
    let (tag, hash, name) = (choices.below(3) as u32, Hash([1; 32]), "iguana.jpg");
    let meta = Meta { kind: Kind::File, size: 9, modified: 3 };
    let ranges = RangeBytes::new([(0, 9)]);
    let mut list = EntryList::default();
    list.push(name, meta);
    let (code, content, replace) = (ErrorCode::from_number(tag as u16), tag == 1, tag == 2);
    let message = match choices.below(18) {
        0 => Message::Hello { max_frame: MAX_FRAME as u32 },
        1 => Message::Welcome { max_frame: MAX_FRAME as u32 - tag, writable: true },
        2 | 3 => Message::Stat { tag, hashed: true, name },
        4 => Message::Get(Get { tag, content, hash, size: 9, name, ranges: ranges.list() }),
        5 => Message::Put { tag, replace, size: 9, modified: 3, hash, name },
        6 => Message::Done { tag, hash },
        7 => Message::Cancel { tag },
        8 => Message::Error { tag, code, text: "no" },
        9 => Message::Bye,
        10 => Message::List { tag, folder: "", after: name },
        11 => Message::Entries { tag, more: true, entries: list.entries() },
        12 => Message::Meta { tag, meta, hash: Some(hash) },
        13 => Message::Wait { tag, done: 1, of: 2 },
        14 | 15 => {
            let len = choices.below(100);
            text.extend_from_slice(&[BODY, 0, 0, len as u8]);
            let came = choices.bytes(len);
            text.extend_from_slice(came);
            return text.resize(text.len() + len - came.len(), 7);
        }
        16 => return text.extend_from_slice(&[choices.byte(), 0, 0, 1, choices.byte()]),
        _ => {
            let len = choices.below(9);
            return text.extend_from_slice(choices.bytes(len));
        }
    };
    message.put(text);
}

/// The same to both.
fn command(choices: &mut Choices<'_>, sealed: &mut End, clear: &mut End) {
    let (tag, hash) = (1, Hash([1; 32]));
    let meta = Meta { kind: Kind::File, size: 1, modified: 2 };
    let messages = [
        Message::Done { tag, hash },
        Message::Meta { tag, meta, hash: Some(hash) },
        Message::Error { tag, code: ErrorCode::Unknown, text: "no" },
        Message::Wait { tag, done: 1, of: 2 },
        Message::Cancel { tag },
    ];
    let command = match choices.below(6) {
        5 => SessionCommand::Body(&[Piece::Bytes(b"pairs"), Piece::Bytes(b"content")]),
        n => SessionCommand::Message(&messages[n]),
    };
    let [one, two] = [sealed, clear].map(|end| {
        let told = end.session.handle_command(Now::default(), command, &mut end.out);
        end.turn();
        told
    });
    assert_eq!(one, two);
}

/// One that serves, to whom its peer has proved itself, and one in clear that was greeted so far.
fn served() -> (End, End, Pair) {
    let (seed, passphrase) = (Seed::from_u64(1), Passphrase::new(PASSPHRASE));
    let (initiator, start) = Initiator::start(&passphrase, &CONTEXT, seed.stream(0));
    let mut sealed = End::new(Session::serve_sealed(true));
    sealed.hear(&clear_frame(true, &Message::Start(&fixed::<START>(&start))));
    assert_eq!(sealed.heard, ["Agreeing"]);
    sealed.heard.clear();
    let secret = Secret::new(passphrase, Seed::from_u64(2));
    let agree = SessionCommand::Agree(&secret, 0);
    sealed.session.handle_command(Now::default(), agree, &mut sealed.out).expect("it asked");
    let reply = sealed.drain();
    let (pair, confirm) = initiator.finish(&reply[PREFACE.len() + 4..]).expect("one passphrase");
    sealed.hear(&clear_frame(false, &Message::Confirm(&fixed::<CONFIRM>(&confirm))));
    assert!(sealed.session.is_sealed());
    let mut clear = End::new(Session::serve(true));
    // It answers with a preface of its own when it has heard a greeting.
    clear.preface = PREFACE.len();
    clear.hear(&PREFACE);
    (sealed, clear, pair)
}

/// One that dials, to whom its peer has proved itself, and one in clear.
fn dialled() -> (End, End, Pair) {
    let passphrase = Passphrase::new(PASSPHRASE);
    let secret = Secret::new(Passphrase::new(PASSPHRASE), Seed::from_u64(2));
    let mut sealed = End::new(Session::dial_sealed(&secret, 0));
    sealed.hear(&[]);
    let start = sealed.drain();
    let start = &start[PREFACE.len() + 4..];
    let rng = Seed::from_u64(1).stream(0);
    let (responder, reply) =
        Responder::start(&passphrase, &CONTEXT, start, rng).expect("it is a START");
    sealed.hear(&clear_frame(true, &Message::Reply(&fixed::<REPLY>(&reply))));
    let said = sealed.drain();
    let (confirm, hello) = said.split_at(4 + CONFIRM);
    let pair = responder.finish(&confirm[4..]).expect("one passphrase");
    sealed.out.put(hello);
    let mut clear = End::new(Session::dial());
    clear.preface = PREFACE.len();
    clear.hear(&PREFACE);
    (sealed, clear, pair)
}

fn clear_frame(first: bool, message: &Message<'_>) -> Vec<u8> {
    let mut frame = BytesMut::from(if first { &PREFACE[..] } else { &[] });
    message.put(&mut frame);
    frame.to_vec()
}

fn fixed<const N: usize>(octets: &[u8]) -> [u8; N] {
    octets.try_into().expect("its length is known")
}

/// One session, and what it heard.
struct End {
    session: Session,
    out: Outbox,
    input: Vec<u8>,
    eof: bool,
    heard: Vec<String>,
    error: Option<SessionError>,
    done: bool,
    waits: bool,
    /// Octets of a preface that it will send, which no other does.
    preface: usize,
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            out: Outbox::new(Outbox::MARK),
            input: Vec::new(),
            eof: false,
            heard: Vec::new(),
            error: None,
            done: false,
            waits: false,
            preface: 0,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.turn();
    }

    fn end(&mut self) {
        self.eof = true;
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            let mut input = Input::new(&mut self.input, 0, self.eof);
            let step = self.session.handle_input(Now::default(), &mut input, &mut self.out);
            let mut goes_on = false;
            self.waits = false;
            match step {
                Ok(Step::Event(SessionEvent::Body(bytes))) => {
                    goes_on = true;
                    // Pieces are cut as they came.
                    let text = format!("{bytes:?}");
                    match self.heard.last_mut().filter(|last| last.starts_with('[')) {
                        Some(last) => {
                            last.truncate(last.len() - 1);
                            last.push_str(&format!(", {}", &text[1..]));
                        }
                        None => self.heard.push(text),
                    }
                }
                Ok(Step::Event(event)) => {
                    goes_on = true;
                    self.heard.push(format!("{event:?}"));
                }
                Ok(Step::NeedInput(n)) => assert!(n > 0 && !self.eof),
                Ok(Step::NeedCommand) => self.waits = true,
                Ok(Step::NeedRoom) => panic!("there is room"),
                Ok(Step::Done) => self.done = true,
                Err(error) => self.error = Some(error),
            }
            let untaken = input.untaken();
            self.input.truncate(untaken.end);
            self.input.drain(..untaken.start);
            if !goes_on {
                break;
            }
        }
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for chunk in self.out.chunks() {
            let Chunk::Bytes(chunk) = chunk else { panic!("no file is sent") };
            bytes.extend_from_slice(chunk);
        }
        self.out.advance(bytes.len());
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes.drain(..preface);
        bytes
    }
}

/// The records of one direction, as their format is told.
struct Direction {
    cipher: Aes128Gcm,
    next: u64,
    sent: Vec<Vec<u8>>,
}

impl Direction {
    fn new(key: &Key) -> Self {
        let mut octets = [0; 16];
        Hkdf::<Sha256>::new(None, key.as_bytes())
            .expand(b"semfio file records 1, AES-128-GCM", &mut octets)
            .expect("16 octets are few");
        Self { cipher: Aes128Gcm::new(&octets.into()), next: 0, sent: Vec::new() }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let number = u128::from(self.next).to_be_bytes();
        self.next += 1;
        fixed(&number[4..])
    }

    fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        let mut record = (text.len() as u32).to_be_bytes()[1..].to_vec();
        record.extend_from_slice(text);
        let (nonce, text) = (Nonce::from_slice(&nonce), &mut record[RECORD_HEADER..]);
        let tag = self.cipher.encrypt_in_place_detached(nonce, &[], text).expect("it is short");
        record.extend_from_slice(&tag);
        self.sent.push(record.clone());
        record
    }

    fn open(&mut self, records: &mut &[u8]) -> Option<Vec<u8>> {
        let &[a, b, c] = records.first_chunk()?;
        let whole = RECORD_HEADER + u32::from_be_bytes([0, a, b, c]) as usize + RECORD_TAG;
        let (record, rest) = records.split_at_checked(whole)?;
        *records = rest;
        self.sent.push(record.to_vec());
        let nonce = self.nonce();
        let (text, tag) = record[RECORD_HEADER..].split_at(whole - RECORD_HEADER - RECORD_TAG);
        let (nonce, tag, mut text) = (Nonce::from_slice(&nonce), Tag::from_slice(tag), text.to_vec());
        self.cipher.decrypt_in_place_detached(nonce, &[], &mut text, tag).ok()?;
        Some(text)
    }
}
