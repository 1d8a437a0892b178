//! One member of a chat: what is typed goes in, what happens comes out.
//!
//! A framed participant comes back by itself when the connection breaks: with its session key, so
//! that it keeps its name, and with the last sequence number of each room, so that it misses
//! nothing the server still keeps. What was typed meanwhile, and what was not acknowledged, is sent then.
//!
//! With a passphrase, every room is a sealed one: see [`Participant::sealed`], and `participant/keys.rs`
//! for what happens to their keys.

mod keys;

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use rand_core::RngCore;
use semfio_frame::Dialect;
use semfio_keysync::{KeyFailure, Passphrase};
use semfio_machine::{
    Closed, ConnId, Deadline, Failure, Instant, Net, Now, Peer, Rng, Seed, Service, Target,
};

use crate::client::{Client, ClientCommand, ClientError, ClientEvent};
use crate::command::{HELP, Typed, parse};
use crate::sealed::{Journaled, Keys, NotSealed, SealedRooms, Token};
use crate::text::{Folded, check_text};
use crate::wire::{Ask, Entry, ErrorCode, Manner, Request, Response, SessionKey, What};

/// Lines that may wait to be sent or acknowledged; more are refused.
pub const MAX_UNSENT: usize = 4096;

/// What a [`Participant`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantConfig {
    /// The server.
    pub target: Target,
    /// How to speak with it.
    pub dialect: Dialect,
    /// The name, for a framed one.
    pub nick: String,
    /// The first room, for a framed one.
    pub room: String,
    /// How often in a row it tries to come back. Default 10, about a minute and a half.
    pub retries: u32,
}

impl ParticipantConfig {
    /// The usual configuration.
    pub fn new(target: Target, dialect: Dialect, nick: &str, room: &str) -> Self {
        Self { target, dialect, nick: nick.to_owned(), room: room.to_owned(), retries: 10 }
    }
}

/// The first pause before it tries to come back; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(500);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(15);
/// How long it waits for the server's end after BYE.
const BYE_WITHIN: Duration = Duration::from_secs(5);
/// Silence after which it asks whether the server is there; after as much again it comes back.
const IDLE: Duration = Duration::from_secs(30);
/// Entries asked for by `/history`.
const HISTORY_COUNT: u32 = 1000;

/// What an application tells a [`Participant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParticipantMessage {
    /// A typed line without its end.
    Line(String),
    /// Nothing more will be typed: leave once everything is acknowledged.
    Eof,
    /// Leave now.
    Interrupt,
}

/// What a [`Participant`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParticipantReport {
    /// The server let it in.
    Welcome {
        /// The name it has.
        nick: String,
        /// Not for the first time.
        again: bool,
    },
    /// The connection stands (line and raw), or the key came (tokens).
    Connected,
    /// Something happened in a room, or a private message.
    Entry {
        /// 0 for a private message.
        seq: u64,
        /// Milliseconds since 1970.
        time: u64,
        /// Which room; whom, if private.
        room: String,
        /// Who. A text that its sender has sealed as `caio`, while the server says that it is from `bia`, is
        /// told to be of `caio (bia)`, which is nobody's name.
        nick: String,
        /// What.
        what: Happened,
        /// Whether it is from before: backlog or history.
        old: bool,
        /// Whether it is one's own.
        own: bool,
    },
    /// Who is in a room.
    Names {
        /// Which room.
        room: String,
        /// How many.
        total: u32,
        /// Their names, maybe not all.
        names: Vec<String>,
    },
    /// Entries that will not come by themselves.
    Gap {
        /// Which room.
        room: String,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// The oldest that `/history` can still give.
        oldest: u64,
    },
    /// Something happened to the keys of a sealed room.
    Keys {
        /// Which room.
        room: String,
        /// What.
        what: Keys,
    },
    /// A sealed text came that cannot be opened: its key is not or no longer there, or it was
    /// changed, or it came before.
    Unreadable {
        /// 0 for a private one.
        seq: u64,
        /// Milliseconds since 1970.
        time: u64,
        /// In which room.
        room: String,
        /// Whether it is from before: backlog or history.
        old: bool,
    },
    /// For a trace: what a vault answered, of a participant that [records](Participant::recording).
    Journal(Journaled),
    /// Line and raw: bytes as they came. Tokens: a text.
    Text(Vec<u8>),
    /// Tokens: something came that is none, or not under the key; how often so far.
    Garbage(u64),
    /// So many more typed lines are done with: in the log, carried out, or refused.
    Done(usize),
    /// Something typed was refused.
    Refused(String),
    /// A line for the person who types.
    Note(String),
    /// The connection broke; it tries again.
    Lost {
        /// Why.
        why: String,
        /// After this pause.
        retry_in: Duration,
    },
    /// It is over.
    Over(Outcome),
}

/// What an [`Entry`](ParticipantReport::Entry) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A text to the room.
    Text(String),
    /// An action.
    Action(String),
    /// A text to one member.
    Private(String),
    /// Entered.
    Join,
    /// Left.
    Part,
    /// Is called so now.
    Nick(String),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It left as it wanted, everything acknowledged.
    Left,
    /// The server ended the dialogue (line and raw).
    Ended,
    /// The server does not let it in.
    TurnedAway(ErrorCode, String),
    /// Its only room does not let it in: its name, and why.
    Locked(String, KeyFailure),
    /// There was no connection, or it broke and did not come back.
    Failed(Failure),
    /// The server broke the protocol.
    Protocol(ClientError),
    /// It left with so many lines unsent or unacknowledged.
    Unsent(usize),
}

/// One member: a [`Service`] over one [`Client`].
#[derive(Debug)]
pub struct Participant {
    config: ParticipantConfig,
    rng: Rng,
    nick: String,
    session: SessionKey,
    epoch: u64,
    conn: Option<ConnId>,
    /// Let in, or connected if there is no such thing.
    ready: bool,
    welcomed: bool,
    rooms: Vec<Seen>,
    /// With a passphrase: the keys of all of them.
    sealed: Option<SealedRooms>,
    present: usize,
    /// The one that was present before the newest was asked for.
    previous: usize,
    /// Texts not acknowledged; the first `in_flight` were sent on this connection.
    unsent: VecDeque<Unsent>,
    in_flight: usize,
    /// The first so many were sent on an earlier connection: maybe they are in the log.
    in_doubt: usize,
    /// Lines typed while there was no connection, a room was being entered, or there was no room to send.
    early: VecDeque<String>,
    next_tag: u32,
    /// The last entry of a history that is coming, with its room.
    history: Option<(Folded, u64)>,
    /// Histories asked for on this connection that have not begun to come.
    histories: u32,
    /// The name it asked for last on this connection.
    asked: Option<String>,
    /// That was not answered yet, so what it says could come out under either name.
    renaming: bool,
    leaving: Leaving,
    timer: Option<Deadline>,
    tries: u32,
    heard: Instant,
    pinged: bool,
    turned_away: Option<Outcome>,
    /// What came and did not open.
    unreadable: u64,
    reports: VecDeque<ParticipantReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Not,
    /// Once everything is acknowledged.
    WhenDone,
    /// BYE was sent.
    Now,
    Gone,
}

#[derive(Debug)]
struct Seen {
    name: String,
    /// The newest sequence number that has come.
    seq: u64,
    /// The newest that an ACK named: texts up to here are done with already.
    acked: u64,
    /// Whether the server has answered on this connection that it may enter, or wait at the door.
    answered: bool,
    /// That of its own JOIN, from the NAMES that comes with it.
    join: Option<u64>,
    /// Whether it ever was in it.
    entered: bool,
}

impl Seen {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            seq: 0,
            acked: 0,
            answered: false,
            join: None,
            entered: false,
        }
    }

    /// Whether what comes now is new.
    fn is_live(&self) -> bool {
        self.join.is_some_and(|join| self.seq >= join)
    }
}

#[derive(Debug)]
struct Unsent {
    tag: u32,
    manner: Manner,
    /// The room it was typed in.
    room: String,
    /// Room, or nick if private.
    to: String,
    text: String,
    /// Sealed: the sender, epoch and counter it was last sent with.
    token: Option<(u64, u64, u64)>,
}

impl Participant {
    /// A participant that dials when the host first calls `handle_timeout`, which is due at once.
    pub fn new(config: ParticipantConfig, seed: &Seed) -> Self {
        let first = Seen::new(&config.room);
        Self {
            rng: seed.stream(0),
            nick: config.nick.clone(),
            config,
            session: SessionKey::default(),
            epoch: 0,
            conn: None,
            ready: false,
            welcomed: false,
            rooms: alloc::vec![first],
            sealed: None,
            present: 0,
            previous: 0,
            unsent: VecDeque::new(),
            in_flight: 0,
            in_doubt: 0,
            early: VecDeque::new(),
            next_tag: 1,
            history: None,
            histories: 0,
            asked: None,
            renaming: false,
            leaving: Leaving::Not,
            // Due at once: the host's first call dials.
            timer: Some(Deadline { at: Instant::default(), why: "dial" }),
            tries: 0,
            heard: Instant::default(),
            pinged: false,
            turned_away: None,
            unreadable: 0,
            reports: VecDeque::new(),
        }
    }

    /// A framed participant all of whose rooms are sealed with `passphrase`: it reads and is read by
    /// those alone who know it. Its keys come from `secrets`, which must not be written down, unlike
    /// `seed`.
    pub fn sealed(
        config: ParticipantConfig,
        seed: &Seed,
        passphrase: Passphrase,
        secrets: &Seed,
    ) -> Self {
        let sealed = Some(SealedRooms::new(passphrase, secrets));
        Self { sealed, ..Self::new(config, seed) }
    }

    /// The same, and what its vaults answer is [reported](ParticipantReport::Journal): without keys or
    /// passphrase, and enough for a [`replay`](Self::replay).
    pub fn recording(self) -> Self {
        Self { sealed: self.sealed.map(SealedRooms::recording), ..self }
    }

    /// A [sealed](Self::sealed) one that has no secrets: its vaults answer what they did in a run that was
    /// recorded.
    pub fn replay(
        config: ParticipantConfig,
        seed: &Seed,
        journal: impl IntoIterator<Item = Journaled>,
    ) -> Self {
        Self { sealed: Some(SealedRooms::replay(journal)), ..Self::new(config, seed) }
    }

    /// The name it has now.
    pub fn nick(&self) -> &str {
        &self.nick
    }

    fn dial(&mut self, net: &mut Net<Client>) {
        let machine = match self.config.dialect {
            Dialect::Framed => Client::framed(&self.nick, self.session),
            Dialect::Line => Client::line(),
            Dialect::Raw => Client::raw(),
            Dialect::Token => {
                let mut seed = [0; 32];
                self.rng.fill_bytes(&mut seed);
                Client::insecure_cleartext_key(Seed::new(seed).stream(0))
            }
        };
        self.conn = Some(net.dial(self.config.target.clone(), machine));
    }

    fn over(&mut self, outcome: Outcome, net: &mut Net<Client>) {
        if self.leaving != Leaving::Gone {
            self.leaving = Leaving::Gone;
            self.timer = None;
            self.report(ParticipantReport::Over(outcome));
            if let Some(conn) = self.conn {
                // One that is still dialled would hold up the end.
                net.close(conn);
            }
            net.stop();
        }
    }

    fn report(&mut self, report: ParticipantReport) {
        self.reports.push_back(report);
    }

    fn request(&self, request: Request<'_>, net: &mut Net<Client>) {
        if let (Some(conn), true) = (self.conn, self.ready) {
            // Refused only while it breaks; what matters is kept until it is acknowledged.
            let _ = net.send(conn, ClientCommand::Request(request));
        }
    }

    fn done(&mut self, lines: usize) {
        self.report(ParticipantReport::Done(lines));
    }

    // What is typed.

    fn handle_line(&mut self, now: Now, line: &str, net: &mut Net<Client>) {
        if self.config.dialect != Dialect::Framed {
            let line = line.trim_end_matches(['\r', '\n']);
            return self.queue(now, Manner::Text, "", "", line, net);
        }
        let typed = match parse(line) {
            Ok(typed) => typed,
            Err(bad) => {
                self.report(ParticipantReport::Refused(bad.to_string()));
                return self.done(1);
            }
        };
        let waits = !self.unsent.is_empty() || !self.early.is_empty();
        let gives_up = typed == Typed::Quit && self.welcomed && !(self.ready && waits);
        if !self.takes_lines() && !gives_up {
            if self.unsent.len().saturating_add(self.early.len()) >= MAX_UNSENT {
                self.report(ParticipantReport::Refused("too much waits to be sent".into()));
                return self.done(1);
            }
            return self.early.push_back(line.to_owned());
        }
        let room = self.rooms.get(self.present).map(|room| room.name.clone()).unwrap_or_default();
        match typed {
            Typed::Text(text) => return self.queue(now, Manner::Text, &room, &room, text, net),
            Typed::Action(text) => return self.queue(now, Manner::Action, &room, &room, text, net),
            Typed::Private(nick, text) => {
                return self.queue(now, Manner::Private, &room, nick, text, net);
            }
            Typed::Nick(nick) => {
                (self.asked, self.renaming) = (Some(nick.to_owned()), self.sealed.is_some());
                self.request(Request::Nick { nick }, net);
            }
            Typed::Join(name) => self.join(name, net),
            Typed::Part(name) => {
                let name = name.unwrap_or(&room);
                self.request(Request::Part { room: name }, net);
                self.forget(name);
            }
            Typed::Who(name) => self.request(Request::Who { room: name.unwrap_or(&room) }, net),
            Typed::History(from) => {
                self.histories = self.histories.saturating_add(1);
                self.request(Request::History { from, count: HISTORY_COUNT, room: &room }, net);
            }
            Typed::Help => {
                HELP.iter().for_each(|line| self.report(ParticipantReport::Note((*line).into())));
            }
            Typed::Quit => self.leave(now, net),
            Typed::Nothing => {}
        }
        self.done(1);
    }

    /// Carries out what was typed too early.
    fn handle_early(&mut self, now: Now, net: &mut Net<Client>) {
        while self.takes_lines() && self.leaving != Leaving::Now {
            let Some(line) = self.early.pop_front() else { return };
            self.handle_line(now, &line, net);
        }
    }

    fn join(&mut self, name: &str, net: &mut Net<Client>) {
        let folded = Folded::new(name);
        if let Some(at) = self.rooms.iter().position(|room| Folded::new(&room.name) == folded) {
            self.present = at;
        } else {
            self.previous = core::mem::replace(&mut self.present, self.rooms.len());
            self.rooms.push(Seen::new(name));
        }
        self.enter(name, 0, net);
    }

    fn enter(&mut self, room: &str, since: u64, net: &mut Net<Client>) {
        let request = match &mut self.sealed {
            None => Request::Join { since, room },
            Some(sealed) => {
                sealed.enter(room, &self.nick);
                Request::Key { room, ask: Ask::Enter { since } }
            }
        };
        self.request(request, net);
    }

    fn forget(&mut self, name: &str) {
        self.rooms.retain(|room| Folded::new(&room.name) != Folded::new(name));
        self.present = self.rooms.len().saturating_sub(1);
        if let Some(sealed) = &mut self.sealed {
            sealed.leave(name);
        }
    }

    fn queue(
        &mut self,
        now: Now,
        manner: Manner,
        room: &str,
        to: &str,
        text: &str,
        net: &mut Net<Client>,
    ) {
        let roomless = to.is_empty() || room.is_empty() && self.sealed.is_some();
        let refusal = if roomless && self.config.dialect == Dialect::Framed {
            Some("in no room; /join one")
        } else if text.is_empty() {
            return self.done(1);
        } else if self.unsent.len() >= MAX_UNSENT {
            Some("too much waits to be sent")
        } else {
            None
        };
        // The server cannot judge what it cannot read.
        let bad = check_text(text).err().filter(|_| self.sealed.is_some());
        if let Some(refusal) =
            refusal.map(str::to_owned).or(bad.map(|bad| format!("refused: {bad}")))
        {
            self.report(ParticipantReport::Refused(refusal));
            return self.done(1);
        }
        let tag = self.next_tag;
        self.next_tag = tag.checked_add(1).unwrap_or(1);
        let (room, to, text) = (room.to_owned(), to.to_owned(), text.to_owned());
        self.unsent.push_back(Unsent { tag, manner, room, to, text, token: None });
        self.send_unsent(now, net);
    }

    /// Whether it is connected and in all its rooms, so that what has not come was not said.
    fn is_live(&self) -> bool {
        let framed = self.config.dialect == Dialect::Framed;
        self.ready && (!framed || self.rooms.iter().all(Seen::is_live))
    }

    /// Whether a line can be carried out at once, without overtaking another.
    fn takes_lines(&self) -> bool {
        self.is_live() && self.in_flight == self.unsent.len() && !self.renaming
    }

    /// Sends what is not in flight, as far as the connection takes it. Sealed texts wait for a key,
    /// and are sealed anew each time they are sent.
    fn send_unsent(&mut self, now: Now, net: &mut Net<Client>) {
        let (Some(conn), true) = (self.conn, self.is_live()) else { return };
        while let Some(unsent) = self.unsent.get_mut(self.in_flight) {
            if !net.has_room(conn) {
                return;
            }
            let Unsent { tag, manner, room, to, text, token } = unsent;
            let (tag, manner) = (*tag, *manner);
            let sent = match (&mut self.sealed, self.config.dialect) {
                (Some(sealed), _) => {
                    let to = if manner == Manner::Private { to.as_str() } else { "" };
                    let seal = match sealed.seal(now, room, manner, to, text) {
                        Ok(seal) => seal,
                        Err(NotSealed::Waits) => return,
                        Err(NotSealed::Refused(why)) => {
                            self.unsent.remove(self.in_flight);
                            self.report(ParticipantReport::Refused(why.into()));
                            self.done(1);
                            continue;
                        }
                    };
                    let Token { sender, epoch, counter, ref text } = seal;
                    *token = Some((sender, epoch, counter));
                    let request = Request::Sealed { tag, room, to, epoch, counter, token: text };
                    net.send(conn, ClientCommand::Request(request))
                }
                (None, Dialect::Framed) => {
                    net.send(conn, ClientCommand::Request(Request::Msg { tag, manner, to, text }))
                }
                _ => net.send(conn, ClientCommand::Text(text)),
            };
            if sent.is_err() {
                return;
            }
            if self.config.dialect == Dialect::Line {
                // A line is not acknowledged; sent is done.
                self.unsent.pop_front();
                self.done(1);
            } else {
                self.in_flight = self.in_flight.saturating_add(1);
            }
        }
    }

    /// The first `n` texts are done with.
    fn acknowledged(&mut self, now: Now, n: usize, net: &mut Net<Client>) {
        let n = n.min(self.unsent.len());
        if n == 0 {
            return;
        }
        self.unsent.drain(..n);
        self.in_flight = self.in_flight.saturating_sub(n);
        self.in_doubt = self.in_doubt.saturating_sub(n);
        self.done(n);
        self.send_unsent(now, net);
        self.leave_if_done(now, net);
    }

    fn leave_if_done(&mut self, now: Now, net: &mut Net<Client>) {
        let done = self.unsent.is_empty() && self.early.is_empty();
        // Nobody comes back only to leave.
        let away = self.conn.is_none() && self.rooms.iter().all(|room| room.entered);
        if self.leaving == Leaving::WhenDone && done && (self.is_live() || away) {
            self.leave(now, net);
        }
    }

    fn leave(&mut self, now: Now, net: &mut Net<Client>) {
        let Some(conn) = self.conn.filter(|_| self.ready) else {
            let outcome = self.farewell();
            return self.over(outcome, net);
        };
        self.leaving = Leaving::Now;
        self.timer = Some(Deadline { at: now.mono.saturating_add(BYE_WITHIN), why: "bye" });
        match self.config.dialect {
            Dialect::Framed => self.request(Request::Bye, net),
            Dialect::Line => drop(net.send(conn, ClientCommand::Finish)),
            Dialect::Raw | Dialect::Token => net.close(conn),
        }
    }

    fn farewell(&self) -> Outcome {
        match self.unsent.len().saturating_add(self.early.len()) {
            0 => Outcome::Left,
            n => Outcome::Unsent(n),
        }
    }

    // What happens.

    fn handle_response(&mut self, now: Now, response: Response<'_>, net: &mut Net<Client>) {
        match response {
            Response::Welcome { session, epoch, nick, .. } => {
                let again = core::mem::replace(&mut self.welcomed, true);
                (self.session, self.ready, self.tries) = (session, true, 0);
                // Under what name its texts are sealed is not for the server to say.
                if self.sealed.is_none() {
                    self.nick = nick.to_owned();
                }
                self.report(ParticipantReport::Welcome { nick: nick.to_owned(), again });
                let restarted = core::mem::replace(&mut self.epoch, epoch) != epoch;
                for room in &mut self.rooms {
                    (room.answered, room.join) = (false, None);
                    if restarted {
                        (room.seq, room.acked) = (0, 0);
                    }
                }
                let rooms = self.rooms.iter().map(|room| (room.name.clone(), room.seq));
                for (room, since) in rooms.collect::<Vec<_>>() {
                    self.enter(&room, since, net);
                }
                self.timer = Some(Deadline { at: now.mono.saturating_add(IDLE), why: "idle" });
            }
            Response::Entry(entry) => self.handle_entry(now, entry, net),
            Response::Ack { tag, seq } => {
                let mut sent = self.unsent.iter().take(self.in_flight);
                let Some(at) = sent.position(|unsent| unsent.tag == tag) else { return };
                let room = self.unsent.get(at).map(|unsent| Folded::new(&unsent.to));
                let named = |seen: &&mut Seen| Some(Folded::new(&seen.name)) == room;
                if let (Some(seen), true) = (self.rooms.iter_mut().find(named), seq > 0) {
                    seen.acked = seen.acked.max(seq);
                }
                self.acknowledged(now, at.saturating_add(1), net);
            }
            Response::History { from, to, room } => {
                // Or it could have told again as history what was said once.
                if self.histories == 0 && self.sealed.is_some() {
                    return;
                }
                self.histories = self.histories.saturating_sub(1);
                self.history = (from <= to).then(|| (Folded::new(room), to));
                if from > to {
                    self.report(ParticipantReport::Note(format!(
                        "{room} keeps nothing from there on"
                    )));
                }
            }
            Response::Gap { from, to, oldest, room } => {
                self.renaming = false;
                self.report(ParticipantReport::Gap { room: room.to_owned(), from, to, oldest });
                self.saw(now, room, to, net);
            }
            Response::Names { newest, total, room, names } => {
                if let Some(seen) = self.seen_mut(room) {
                    (seen.answered, seen.entered) = (true, true);
                    seen.join.get_or_insert(newest);
                }
                let names = names.map(str::to_owned).collect();
                self.report(ParticipantReport::Names { room: room.to_owned(), total, names });
            }
            Response::Error { code, fatal: true, text, .. } => {
                let gone = self.welcomed && code == ErrorCode::Timeout;
                if !gone {
                    self.turned_away = Some(Outcome::TurnedAway(code, text.to_owned()));
                }
            }
            Response::Error { code, tag, text, .. } => {
                self.renaming &= tag != 0;
                let mode = matches!(code, ErrorCode::Sealed | ErrorCode::NotSealed);
                if mode && tag == 0 && self.rooms.len() == 1 {
                    let outcome = Outcome::TurnedAway(code, text.to_owned());
                    return self.over(outcome, net);
                }
                // A holder that was passed over meanwhile is told so; nobody typed what is refused.
                let untyped = self.sealed.is_some() && code == ErrorCode::Unexpected && tag == 0;
                self.report(match untyped {
                    true => ParticipantReport::Note(text.to_owned()),
                    false => ParticipantReport::Refused(text.to_owned()),
                });
                let of_room = mode
                    || matches!(
                        code,
                        ErrorCode::TooManyRooms | ErrorCode::BadText | ErrorCode::TooLarge
                    );
                if of_room && tag == 0 {
                    // Rooms are answered in order: it was the first that is not answered yet.
                    if let Some(at) = self.rooms.iter().position(|room| !room.answered) {
                        let room = self.rooms.remove(at);
                        if let Some(sealed) = &mut self.sealed {
                            sealed.leave(&room.name);
                        }
                        if at == self.present {
                            self.present = self.previous;
                        }
                        let shift = usize::from(at < self.present);
                        let last = self.rooms.len().saturating_sub(1);
                        self.present = self.present.saturating_sub(shift).min(last);
                        self.go_on(now, net);
                    }
                }
                if let Some(at) = self.unsent.iter().take(self.in_flight).position(|u| u.tag == tag)
                {
                    // Those before it are acknowledged by their own ACK.
                    self.unsent.remove(at);
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.in_doubt = self.in_doubt.saturating_sub(usize::from(at < self.in_doubt));
                    self.done(1);
                    self.leave_if_done(now, net);
                }
            }
            Response::Key { room, tell } => {
                if let Some(seen) = self.seen_mut(room) {
                    seen.answered = true;
                }
                if let Some(sealed) = &mut self.sealed {
                    sealed.handle_tell(now, room, tell);
                    self.go_on(now, net);
                }
            }
            Response::Ping(_) | Response::Pong(_) | Response::Bye => {}
        }
    }

    fn handle_entry(&mut self, now: Now, entry: Entry<'_>, net: &mut Net<Client>) {
        let Entry { seq, time, room, nick, what } = entry;
        let own = Folded::new(nick) == Folded::new(&self.nick);
        let folded = Folded::new(room);
        let logged = seq > 0;
        let history = logged && self.history.as_ref().is_some_and(|(name, _)| *name == folded);
        if history && self.history.as_ref().is_some_and(|&(_, to)| seq >= to) {
            self.history = None;
        }
        let before = |seen: &mut Seen| seen.join.is_none_or(|join| seq < join);
        let old = history || logged && self.seen_mut(room).is_some_and(before);
        if let (Some(sealed), true) = (&mut self.sealed, logged && !history) {
            sealed.handle_entry(now, &entry, old);
        }
        let happened = match what {
            // All of its rooms are sealed: this may be the server's own.
            What::Said(..) if self.sealed.is_some() => {
                let what = Keys::InClear { nick: nick.to_owned() };
                self.report(ParticipantReport::Keys { room: room.to_owned(), what });
                if logged && !history {
                    self.saw(now, room, seq, net);
                }
                return;
            }
            What::Said(Manner::Text, text) => Happened::Text(text.to_owned()),
            What::Said(Manner::Action, text) => Happened::Action(text.to_owned()),
            What::Said(Manner::Private, text) => Happened::Private(text.to_owned()),
            What::Join => Happened::Join,
            What::Part => Happened::Part,
            What::Nick(new) => {
                let asked = || self.asked.as_deref() == Some(new);
                if own && !old && (self.sealed.is_none() || asked()) {
                    self.renaming = false;
                    self.nick = new.to_owned();
                    if let Some(sealed) = &mut self.sealed {
                        sealed.handle_nick(now, new);
                    }
                }
                Happened::Nick(new.to_owned())
            }
            What::Sealed(text) => {
                self.handle_sealed(now, &entry, &text, (old, history), net);
                if logged && !history {
                    self.saw(now, room, seq, net);
                }
                return;
            }
            What::Epoch { .. } | What::Holder(_) => {
                self.handle_keys(now, net);
                if logged && !history {
                    self.saw(now, room, seq, net);
                }
                return;
            }
        };
        // What is in the log is done with, also if the connection breaks before its ACK comes. An
        // entry may come after its ACK: then it is not that of a later text with the same words.
        let said = |unsent: &Unsent| {
            what == What::Said(unsent.manner, &unsent.text) && Folded::new(&unsent.to) == folded
        };
        let acked = self.seen_mut(room).map_or(0, |seen| seen.acked);
        let counts = own && logged && !history && seq > acked;
        let sent = if counts { self.in_flight.max(self.in_doubt) } else { 0 };
        let found = self.unsent.iter().take(sent).position(said);
        let (room, nick) = (room.to_owned(), nick.to_owned());
        let name = room.clone();
        self.report(ParticipantReport::Entry { seq, time, room, nick, what: happened, old, own });
        if let Some(at) = found {
            self.acknowledged(now, at.saturating_add(1), net);
        }
        if logged && !history {
            self.saw(now, &name, seq, net);
        }
    }

    fn saw(&mut self, now: Now, name: &str, seq: u64, net: &mut Net<Client>) {
        let Some(room) = self.seen_mut(name) else { return };
        let was_live = room.is_live();
        room.seq = room.seq.max(seq);
        if !was_live && room.is_live() {
            self.go_on(now, net);
        }
    }

    /// Goes on with what waited: for a room to be entered, for a key, for the connection.
    fn go_on(&mut self, now: Now, net: &mut Net<Client>) {
        self.handle_keys(now, net);
        self.send_unsent(now, net);
        self.handle_early(now, net);
        self.leave_if_done(now, net);
    }

    fn seen_mut(&mut self, name: &str) -> Option<&mut Seen> {
        let folded = Folded::new(name);
        self.rooms.iter_mut().find(|room| Folded::new(&room.name) == folded)
    }

    fn lost(&mut self, now: Now, why: &str, outcome: Outcome, net: &mut Net<Client>) {
        self.leave_if_done(now, net);
        if self.leaving == Leaving::Gone {
            return;
        }
        let come_back =
            self.welcomed && self.leaving != Leaving::Now && self.tries < self.config.retries;
        if !come_back {
            return self.over(outcome, net);
        }
        let doubled = BACK_OFF.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX));
        let pause = doubled.min(BACK_OFF_MAX);
        // Up to a quarter more, so that those who were cut off together do not come back together.
        let jitter = u64::from(self.rng.next_u32() % 256);
        let pause = pause.saturating_add(
            pause
                .saturating_mul(u32::try_from(jitter).unwrap_or(0))
                .checked_div(1024)
                .unwrap_or_default(),
        );
        self.tries = self.tries.saturating_add(1);
        self.timer = Some(Deadline { at: now.mono.saturating_add(pause), why: "come back" });
        self.report(ParticipantReport::Lost { why: why.to_owned(), retry_in: pause });
    }
}

impl Service<Client> for Participant {
    type Message = ParticipantMessage;
    type Report = ParticipantReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Client> {
        None
    }

    fn handle_opened(&mut self, now: Now, _: ConnId, _: &Peer, net: &mut Net<Client>) {
        self.heard = now.mono;
        if matches!(self.config.dialect, Dialect::Line | Dialect::Raw) {
            self.ready = true;
            self.report(ParticipantReport::Connected);
        }
        let _ = net;
    }

    fn handle_event(&mut self, now: Now, _: ConnId, event: ClientEvent<'_>, net: &mut Net<Client>) {
        (self.heard, self.pinged) = (now.mono, false);
        match event {
            ClientEvent::Response(response) => self.handle_response(now, response, net),
            ClientEvent::Text(text) => self.report(ParticipantReport::Text(text.to_vec())),
            ClientEvent::Sent(n) => self.acknowledged(now, n, net),
            ClientEvent::Synchronized => {
                self.ready = true;
                self.report(ParticipantReport::Connected);
            }
            ClientEvent::Unreadable => {
                self.unreadable = self.unreadable.saturating_add(1);
                self.report(ParticipantReport::Garbage(self.unreadable));
            }
        }
    }

    fn handle_room(&mut self, now: Now, _: ConnId, net: &mut Net<Client>) {
        self.go_on(now, net);
    }

    fn handle_closed(
        &mut self,
        now: Now,
        _: ConnId,
        why: Closed<ClientError>,
        net: &mut Net<Client>,
    ) {
        self.in_doubt = self.in_doubt.max(self.in_flight);
        (self.conn, self.ready, self.in_flight) = (None, false, 0);
        self.timer = None;
        self.history = None;
        (self.histories, self.asked, self.renaming) = (0, None, false);
        if let Some(sealed) = &mut self.sealed {
            sealed.handle_disconnected(now);
        }
        if matches!(self.leaving, Leaving::Now | Leaving::Gone) {
            let outcome = self.farewell();
            return self.over(outcome, net);
        }
        match self.turned_away.take() {
            // By itself: the server has yet to notice that the old connection is gone.
            Some(outcome @ Outcome::TurnedAway(ErrorCode::NickInUse, _)) if self.welcomed => {
                return self.lost(now, "the name is still in use", outcome, net);
            }
            Some(outcome) => return self.over(outcome, net),
            None => {}
        }
        match why {
            Closed::Error(error) if !self.welcomed => self.over(Outcome::Protocol(error), net),
            Closed::Error(error) => {
                self.lost(now, &error.to_string(), Outcome::Protocol(error), net)
            }
            Closed::Failed(failure) => {
                self.lost(now, &failure.to_string(), Outcome::Failed(failure), net)
            }
            Closed::Done | Closed::Local | Closed::Stalled if self.welcomed => {
                self.lost(
                    now,
                    "the server ended the connection",
                    Outcome::Failed(Failure::Reset),
                    net,
                );
            }
            _ => self.over(Outcome::Ended, net),
        }
    }

    fn handle_message(&mut self, now: Now, message: ParticipantMessage, net: &mut Net<Client>) {
        match message {
            ParticipantMessage::Line(line) => {
                self.handle_early(now, net);
                self.handle_line(now, &line, net);
            }
            ParticipantMessage::Eof => {
                self.leaving =
                    if self.leaving == Leaving::Not { Leaving::WhenDone } else { self.leaving };
                self.leave_if_done(now, net);
            }
            ParticipantMessage::Interrupt => self.leave(now, net),
        }
    }

    fn handle_turn(&mut self, now: Now, net: &mut Net<Client>) {
        self.go_on(now, net);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let keys = self.sealed.as_ref().and_then(SealedRooms::poll_timeout);
        self.timer.into_iter().chain(keys).min_by_key(|due| due.at)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Client>) {
        if let Some(sealed) = &mut self.sealed {
            for room in sealed.handle_timeout(now) {
                let since = self.seen_mut(&room).map_or(0, |seen| seen.seq);
                self.enter(&room, since, net);
            }
            self.go_on(now, net);
        }
        let Some(timer) = self.timer.take_if(|timer| timer.at <= now.mono) else { return };
        match (timer.why, self.conn) {
            ("dial" | "come back", None) => self.dial(net),
            ("bye", Some(conn)) => net.abort(conn),
            ("idle", Some(conn)) => {
                let silent = now.mono.saturating_since(self.heard);
                if silent >= IDLE.saturating_mul(2) {
                    return net.abort(conn);
                }
                if silent >= IDLE && !self.pinged {
                    self.pinged = true;
                    self.request(Request::Ping(now.mono.as_nanos()), net);
                }
                self.timer = Some(Deadline { at: now.mono.saturating_add(IDLE), why: "idle" });
            }
            _ => {}
        }
    }

    fn poll_report(&mut self) -> Option<ParticipantReport> {
        let journal = || self.sealed.as_mut()?.poll_journal().map(ParticipantReport::Journal);
        self.reports.pop_front().or_else(journal)
    }
}
