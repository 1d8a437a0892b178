//! People in one room, the hub between them, and wires that delay.
//!
//! The hub is a model: seats in their order, a door, a holder, a log. It keeps its side of the
//! contract, as a chat server does; an adversary sits on the wires.

use rand_core::RngCore as _;
use semfio_keysync::{
    KeyEvent, KeyTransmit, Manner, Message, Passphrase, Refusal, Stamped, Unopened, Vault,
};
use semfio_machine::{Instant, Now, Rng, Seed, UnixTime};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::adversary::Adversary;
use crate::tape::{In, Out, Tape};

pub const DOOR_WITHIN: Duration = Duration::from_secs(30);
pub const ROTATE_WITHIN: Duration = Duration::from_secs(10);
const MAX_RELAYS: u32 = 16;

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[derive(Clone, Debug)]
pub enum Up {
    Enter { since: u64 },
    Relay { to: u64, body: Vec<u8> },
    Admit { peer: u64 },
    Refuse { peer: u64, why: Refusal },
    Epoch { epoch: u64, fresh: bool, check: [u8; 16] },
    Sealed(Token),
    Part,
}

#[derive(Clone, Debug)]
pub enum Down {
    Door { you: u64, holder: u64 },
    Knock { peer: u64, nick: String },
    Relay { from: u64, body: Vec<u8> },
    Gone { peer: u64 },
    Refused(Refusal),
    Entry { seq: u64, what: What },
}

#[derive(Clone, Debug)]
pub enum What {
    Join {
        number: u64,
    },
    /// How many have left so far, this one counted; it goes on where log numbers begin anew.
    Part {
        parts: u64,
    },
    Holder {
        peer: u64,
    },
    Epoch {
        epoch: u64,
        fresh: bool,
        check: [u8; 16],
    },
    Sealed(Token),
}

#[derive(Clone, Debug)]
pub struct Token {
    pub sender: u64,
    pub to: String,
    pub epoch: u64,
    pub counter: u64,
    pub token: Vec<u8>,
    /// For the model: what is in it.
    pub text: String,
}

/// What the model knows of a text that was sealed.
#[derive(Clone, Debug)]
pub struct Said {
    pub message: Message,
    pub to: String,
    /// Under which key.
    key: (u64, [u8; 16]),
    /// How many PARTs its sender had been told of.
    parts: u64,
    /// Its sender had not read for so long that nobody owes it anything.
    stale: bool,
}

#[derive(Debug)]
pub struct Person {
    pub tape: Tape,
    pub nick: String,
    pub right: bool,
    pub connected: bool,
    comes_back: Option<Instant>,
    pub since: u64,
    live: bool,
    hung: Option<Instant>,
    slow_until: Instant,
    /// It was slow, and has not been ready since.
    behind: bool,
    clogged: bool,
    skew: i64,
    pub up: VecDeque<(Instant, Up)>,
    pub down: VecDeque<(Instant, Down)>,
    to_say: VecDeque<(Manner, String)>,
    pub got: BTreeMap<String, u32>,
    pub unread: BTreeSet<String>,
    waiting: BTreeMap<u64, String>,
    /// What the hub logged while it did not read.
    excused: BTreeSet<String>,
    first_epoch: u64,
    /// The first it was let in with, since it last came to the door.
    first_here: (u64, [u8; 16]),
    /// The log's end at that time. What has a higher epoch before it is of those who all left before
    /// they could give it a key.
    first_end: u64,
    floor: u64,
    parts: u64,
    /// It has left for good: it is still told everything, and its clock stands.
    spy: Option<Now>,
    left_at: u64,
    left_number: u64,
    gone: BTreeMap<u64, Instant>,
    announced: Option<(u64, [u8; 16])>,
    /// What it was told of each epoch at last.
    checks: BTreeMap<u64, [u8; 16]>,
    active: (u64, [u8; 16]),
    said: u32,
    pub failed: bool,
}

#[derive(Debug, Default)]
pub struct Hub {
    /// Persons by number, in the order they sat down, with the log's end at that time.
    pub seats: Vec<(u64, usize, u64)>,
    /// Number, person, since, until, relays.
    pub door: Vec<(u64, usize, u64, Instant, u32)>,
    pub holder: u64,
    pub log: Vec<What>,
    /// Log number of the first entry.
    base: u64,
    owed: Option<Instant>,
    parts: u64,
    /// When the last epoch was logged.
    announced: Option<(u64, Instant)>,
    /// Epochs whose holder was gone before slow members could have had their keys from it.
    orphans: BTreeSet<u64>,
}

#[derive(Debug)]
pub struct World {
    pub now: Now,
    pub people: Vec<Person>,
    pub hub: Hub,
    pub said: BTreeMap<String, Said>,
    announced: BTreeSet<(u64, [u8; 16])>,
    pub dice: Rng,
    pub loss: u32,
    pub delay: u64,
    pub lossy: bool,
    pub adversary: Option<Adversary>,
    room: &'static str,
    /// Of each epoch that was announced: who was long gone as it was made.
    clean: BTreeMap<(u64, [u8; 16]), BTreeSet<u64>>,
    /// Everything that went to members, if somebody wants to have it.
    pub kept: Option<Vec<Down>>,
}

impl Person {
    /// It reads and sends again, and catches up.
    fn slow_for_now(&mut self, now: Instant) {
        self.slow_until = now.saturating_add(secs(3));
        self.behind = true;
    }

    /// Whether it does not read or send, or has not caught up: what it cannot prove that it may have,
    /// it is not owed.
    fn is_slow(&mut self, now: Instant) -> bool {
        let still = self.hung.is_some() || self.clogged || self.slow_until > now;
        self.behind &= still || !self.tape.sync.is_ready();
        still || self.behind
    }
}

impl World {
    pub fn new(room: &'static str, seed: u64, adversary: Option<Adversary>) -> Self {
        let now = Now { mono: Instant::default(), unix: UnixTime::from_secs(1_800_000_000) };
        Self {
            now,
            people: Vec::new(),
            hub: Hub::default(),
            said: BTreeMap::new(),
            announced: BTreeSet::new(),
            dice: Seed::from_u64(seed).stream(7),
            loss: 0,
            delay: 100,
            lossy: false,
            adversary,
            room,
            clean: BTreeMap::new(),
            kept: None,
        }
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.dice.next_u64() % n.max(1)
    }

    // What happens.

    pub fn arrive(&mut self, right: bool) {
        let at = self.people.len() as u64;
        let phrase: &[u8] = if right { b"abacate" } else { b"abacaxi" };
        let seed = Seed::from_u64(self.dice.next_u64());
        let nick = format!("p{at}");
        let tape = Tape::new(Vault::new(Passphrase::new(phrase), seed), self.room, &nick);
        self.people.push(Person {
            tape,
            nick,
            right,
            connected: true,
            comes_back: None,
            since: 0,
            live: false,
            hung: None,
            slow_until: Instant::default(),
            behind: false,
            clogged: false,
            skew: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            to_say: VecDeque::new(),
            got: BTreeMap::new(),
            unread: BTreeSet::new(),
            waiting: BTreeMap::new(),
            excused: BTreeSet::new(),
            first_epoch: 0,
            first_here: (0, [0; 16]),
            first_end: 0,
            floor: 0,
            parts: 0,
            spy: None,
            left_at: 0,
            left_number: 0,
            gone: BTreeMap::new(),
            announced: None,
            checks: BTreeMap::new(),
            active: (0, [0; 16]),
            said: 0,
            failed: false,
        });
        self.send_up(at as usize, Up::Enter { since: 0 });
    }

    pub fn present(&self) -> Vec<usize> {
        let here = |at: &usize| self.people[*at].connected;
        (0..self.people.len()).filter(here).collect()
    }

    pub fn say(&mut self, who: usize, manner: Manner) {
        let to = match manner {
            Manner::Private => {
                let at = self.below(self.people.len() as u64) as usize;
                self.people[at].nick.clone()
            }
            _ => String::new(),
        };
        self.people[who].to_say.push_back((manner, to));
        self.flush(who);
    }

    pub fn leave(&mut self, who: usize) {
        let now = self.time_of(who);
        let person = &mut self.people[who];
        person.connected = false;
        person.spy = Some(now);
        person.left_number = person.tape.sync.number();
        person.up.clear();
        let due = self.now.mono.saturating_add(Duration::from_millis(self.delay));
        person.up.push_back((due, Up::Part));
    }

    pub fn lose(&mut self, who: usize, back_after: Duration) {
        let now = self.time_of(who);
        let person = &mut self.people[who];
        (person.connected, person.live, person.hung) = (false, false, None);
        person.comes_back = Some(self.now.mono.saturating_add(back_after));
        person.up.clear();
        person.down.clear();
        self.tell(who, now, In::Disconnected);
        self.closed(who);
    }

    pub fn hang(&mut self, who: usize, time: Duration) {
        let person = &mut self.people[who];
        person.hung = Some(self.now.mono.saturating_add(time));
        // What is on its way waits as long as what comes now.
        for (_, frame) in &person.down {
            if let Down::Entry { what: What::Sealed(token), .. } = frame {
                person.excused.insert(token.text.clone());
            }
        }
    }

    pub fn clog(&mut self, who: usize) {
        self.people[who].clogged = true;
    }

    pub fn step_clock(&mut self, who: usize, by: i64) {
        self.people[who].skew += by;
    }

    pub fn rename(&mut self, who: usize) {
        let nick = format!("{}x", self.people[who].nick.chars().take(12).collect::<String>());
        self.people[who].nick.clone_from(&nick);
        let now = self.time_of(who);
        self.tell(who, now, In::Nick(nick));
    }

    pub fn restart(&mut self) {
        for who in self.present() {
            let back = Duration::from_millis(200 + self.below(2_000));
            self.lose(who, back);
        }
        self.people.iter_mut().for_each(|person| person.since = 0);
        let parts = self.hub.parts;
        self.hub = Hub { parts, ..Hub::default() };
    }

    /// Whatever disturbs ends.
    pub fn calm(&mut self) {
        self.loss = 0;
        if let Some(adversary) = &mut self.adversary {
            adversary.quiet = true;
        }
        for person in &mut self.people {
            person.hung = person.hung.and(Some(self.now.mono));
            if std::mem::take(&mut person.clogged) {
                person.slow_for_now(self.now.mono);
            }
            person.comes_back = person.comes_back.and(Some(self.now.mono));
        }
        for who in self.present() {
            self.drain(who, self.time_of(who));
        }
    }

    fn time_of(&self, who: usize) -> Now {
        let unix = self.now.unix.as_secs().saturating_add_signed(self.people[who].skew);
        Now { mono: self.now.mono, unix: UnixTime::from_secs(unix) }
    }

    // Time.

    pub fn run(&mut self, time: Duration) {
        let until = self.now.mono.saturating_add(time);
        let mut steps = 0_u32;
        while let Some(next) = self.next_due().filter(|at| *at <= until) {
            self.now.mono = next.max(self.now.mono);
            self.step();
            steps += 1;
            assert!(steps < 200_000, "it never comes to rest");
        }
        self.now.mono = until;
    }

    fn next_due(&self) -> Option<Instant> {
        let mut due: Vec<Option<Instant>> = vec![self.hub.owed];
        due.extend(self.hub.door.iter().map(|(_, _, _, until, _)| Some(*until)));
        for person in &self.people {
            due.push(person.up.front().map(|(at, _)| *at));
            due.push(person.comes_back);
            if person.spy.is_some() {
                continue;
            }
            let mut own = vec![person.down.front().map(|(at, _)| *at)];
            own.push(person.tape.sync.poll_timeout().map(|due| due.at));
            match person.hung {
                Some(hung) => due.push(Some(hung)),
                None => due.extend(own),
            }
        }
        due.into_iter().flatten().min()
    }

    fn step(&mut self) {
        let now = self.now.mono;
        for who in 0..self.people.len() {
            while self.people[who].up.front().is_some_and(|(at, _)| *at <= now) {
                let (_, frame) = self.people[who].up.pop_front().unwrap();
                self.handle_up(who, frame);
            }
            if self.people[who].comes_back.is_some_and(|at| at <= now) {
                let person = &mut self.people[who];
                (person.comes_back, person.connected) = (None, true);
                let since = person.since;
                self.send_up(who, Up::Enter { since });
            }
            if self.people[who].hung.is_some_and(|at| at <= now) {
                self.people[who].hung = None;
                self.people[who].slow_for_now(now);
                self.flush(who);
            }
            if self.people[who].hung.is_some() || self.people[who].spy.is_some() {
                continue;
            }
            while self.people[who].down.front().is_some_and(|(at, _)| *at <= now) {
                let (_, frame) = self.people[who].down.pop_front().unwrap();
                self.handle_down(who, frame);
            }
            let due = self.people[who].tape.sync.poll_timeout();
            if due.is_some_and(|due| due.at <= now) {
                self.tell(who, self.time_of(who), In::Timeout);
            }
        }
        self.hub_timeouts();
    }

    fn due(&mut self) -> Instant {
        let jitter = self.below(self.delay.max(1));
        self.now.mono.saturating_add(Duration::from_millis(1 + jitter))
    }

    fn send_up(&mut self, who: usize, frame: Up) {
        let frames = match &mut self.adversary {
            Some(adversary) => adversary.up(who, frame),
            None => vec![frame],
        };
        for frame in frames {
            let due = self.due();
            let queue = &mut self.people[who].up;
            let due = queue.back().map_or(due, |(last, _)| due.max(*last));
            queue.push_back((due, frame));
        }
    }

    fn send_down(&mut self, who: usize, frame: Down) {
        let frames = match &mut self.adversary {
            Some(adversary) => adversary.down(who, self.people.len(), frame),
            None => vec![(who, frame)],
        };
        for (who, frame) in frames {
            if let Some(kept) = &mut self.kept {
                kept.push(frame.clone());
            }
            let due = self.due();
            let person = &mut self.people[who];
            if !person.connected || person.spy.is_some() {
                continue;
            }
            let due = person.down.back().map_or(due, |(last, _)| due.max(*last));
            person.down.push_back((due, frame));
        }
    }

    // The hub.

    fn number_of(&self, who: usize) -> Option<u64> {
        let seat = self.hub.seats.iter().find(|(_, person, _)| *person == who).map(|seat| seat.0);
        let door = self.hub.door.iter().find(|place| place.1 == who).map(|place| place.0);
        seat.or(door)
    }

    fn person_of(&self, number: u64) -> Option<usize> {
        let seat = self.hub.seats.iter().find(|seat| seat.0 == number).map(|seat| seat.1);
        seat.or(self.hub.door.iter().find(|place| place.0 == number).map(|place| place.1))
    }

    fn end(&self) -> u64 {
        self.hub.base + self.hub.log.len() as u64
    }

    fn log(&mut self, what: What) {
        self.hub.log.push(what.clone());
        let seq = self.end();
        match &what {
            What::Epoch { epoch, fresh, check } => {
                self.hub.announced = Some((*epoch, self.now.mono));
                // Who has left may try to derive what was drawn.
                for fresh in [*fresh, false] {
                    self.tell_spies(&In::Epoch { epoch: *epoch, fresh, check: *check });
                }
            }
            What::Sealed(token) => {
                self.try_spies(token);
                for (_, who, _) in self.hub.seats.clone() {
                    let person = &mut self.people[who];
                    if person.is_slow(self.now.mono) {
                        person.excused.insert(token.text.clone());
                    }
                }
            }
            _ => {}
        }
        for (_, who, _) in self.hub.seats.clone() {
            self.send_down(who, Down::Entry { seq, what: what.clone() });
        }
    }

    fn seat(&mut self, number: u64, who: usize, since: u64) {
        let seq = self.end() + 1;
        self.hub.seats.push((number, who, seq));
        if since > self.hub.base && since < seq {
            for at in since..seq - 1 {
                let what = self.hub.log[(at - self.hub.base) as usize].clone();
                self.send_down(who, Down::Entry { seq: at + 1, what });
            }
        }
        self.log(What::Join { number });
    }

    fn handle_up(&mut self, who: usize, frame: Up) {
        let number = self.number_of(who);
        let is_holder = number.is_some_and(|number| {
            number == self.hub.holder && self.hub.seats.iter().any(|seat| seat.0 == number)
        });
        match frame {
            Up::Enter { since } => self.enter(who, since),
            Up::Relay { to, body } => self.relay(who, number, is_holder, to, body),
            Up::Admit { peer } if is_holder => {
                let place = self.hub.door.iter().position(|place| place.0 == peer);
                if let Some(place) = place {
                    let (number, who, since, ..) = self.hub.door.remove(place);
                    self.seat(number, who, since);
                }
            }
            Up::Refuse { peer, why } if is_holder => {
                let place = self.hub.door.iter().position(|place| place.0 == peer);
                if let Some(place) = place {
                    let (_, who, ..) = self.hub.door.remove(place);
                    self.send_down(who, Down::Refused(why));
                }
            }
            Up::Epoch { epoch, fresh, check } if is_holder => {
                if fresh {
                    self.hub.owed = None;
                }
                self.log(What::Epoch { epoch, fresh, check });
            }
            Up::Sealed(mut token) => {
                let seated = self.hub.seats.iter().find(|seat| seat.1 == who);
                let Some(&(number, ..)) = seated else { return };
                token.sender = number;
                if token.to.is_empty() {
                    return self.log(What::Sealed(token));
                }
                let to = self.hub.seats.iter().find(|seat| self.people[seat.1].nick == token.to);
                if let Some(&(_, to, _)) = to {
                    self.send_down(to, Down::Entry { seq: 0, what: What::Sealed(token) });
                }
            }
            Up::Part => {
                self.people[who].left_at = self.hub.parts + 1;
                self.closed(who);
            }
            _ => {}
        }
    }

    fn enter(&mut self, who: usize, since: u64) {
        if self.number_of(who).is_some() {
            return;
        }
        let number = self.dice.next_u64().max(1);
        if self.hub.seats.is_empty() {
            if !self.people[who].right {
                // Whoever opens a room sets its passphrase; the model has only one.
                return self.send_down(who, Down::Refused(Refusal::Other));
            }
            self.hub.holder = number;
            self.hub.owed = None;
            self.send_down(who, Down::Door { you: number, holder: number });
            return self.seat(number, who, since);
        }
        let until = self.now.mono.saturating_add(DOOR_WITHIN);
        self.hub.door.push((number, who, since, until, 0));
        self.knock(number, who);
    }

    fn knock(&mut self, number: u64, who: usize) {
        let holder = self.hub.holder;
        self.send_down(who, Down::Door { you: number, holder });
        if let Some(to) = self.person_of(holder) {
            let nick = self.people[who].nick.clone();
            self.send_down(to, Down::Knock { peer: number, nick });
        }
    }

    fn relay(&mut self, who: usize, number: Option<u64>, holds: bool, to: u64, body: Vec<u8>) {
        let Some(from) = number else { return };
        if !holds && to != self.hub.holder {
            return;
        }
        if let Some(place) = self.hub.door.iter_mut().find(|place| place.1 == who) {
            place.4 += 1;
            if place.4 > MAX_RELAYS {
                return;
            }
        }
        if self.below(100) < u64::from(self.loss) {
            return;
        }
        if holds {
            self.tell_spies(&In::Relay { from, body: body.clone() });
        }
        if let Some(to) = self.person_of(to) {
            self.send_down(to, Down::Relay { from, body });
        }
    }

    fn closed(&mut self, who: usize) {
        if let Some(place) = self.hub.door.iter().position(|place| place.1 == who) {
            let (peer, ..) = self.hub.door.remove(place);
            self.holder_hears(Down::Gone { peer });
        }
        let Some(at) = self.hub.seats.iter().position(|seat| seat.1 == who) else { return };
        let (peer, ..) = self.hub.seats.remove(at);
        self.hub.parts += 1;
        self.holder_hears(Down::Gone { peer });
        if self.hub.seats.is_empty() {
            self.hub.owed = None;
            let parts = self.hub.parts;
            self.log(What::Part { parts });
            for (_, who, ..) in std::mem::take(&mut self.hub.door) {
                self.send_down(who, Down::Refused(Refusal::Timeout));
            }
            return;
        }
        let parts = self.hub.parts;
        if peer == self.hub.holder {
            // What goes to one member may overtake the log.
            let next = self.hub.seats[0].0;
            self.name(next, Some(parts));
        } else {
            self.log(What::Part { parts });
            self.owe();
        }
    }

    fn holder_hears(&mut self, frame: Down) {
        if let Some(to) = self.person_of(self.hub.holder) {
            self.send_down(to, frame);
        }
    }

    fn owe(&mut self) {
        self.hub.owed = Some(self.now.mono.saturating_add(ROTATE_WITHIN));
    }

    fn name(&mut self, holder: u64, parts: Option<u64>) {
        let soon = |at: Instant| self.now.mono.saturating_since(at) < secs(8);
        self.hub.orphans.extend(self.hub.announced.filter(|(_, at)| soon(*at)).map(|(e, _)| e));
        self.hub.holder = holder;
        for (number, who, ..) in self.hub.door.clone() {
            self.knock(number, who);
        }
        if let Some(parts) = parts {
            self.log(What::Part { parts });
        }
        self.log(What::Holder { peer: holder });
        self.owe();
    }

    fn hub_timeouts(&mut self) {
        let now = self.now.mono;
        while let Some(place) = self.hub.door.iter().position(|place| place.3 <= now) {
            let (peer, who, ..) = self.hub.door.remove(place);
            self.send_down(who, Down::Refused(Refusal::Timeout));
            self.holder_hears(Down::Gone { peer });
        }
        if self.hub.owed.is_some_and(|at| at <= now) {
            self.hub.owed = None;
            let at = self.hub.seats.iter().position(|seat| seat.0 == self.hub.holder);
            if self.hub.seats.len() > 1 {
                let next = at.map_or(0, |at| at + 1) % self.hub.seats.len();
                let next = self.hub.seats[next].0;
                self.name(next, None);
            }
        }
    }

    // A member's side.

    fn handle_down(&mut self, who: usize, frame: Down) {
        let now = self.time_of(who);
        if !self.people[who].connected {
            return;
        }
        let input = match frame {
            Down::Door { you, holder } => {
                self.people[who].live = false;
                self.people[who].first_here = (0, [0; 16]);
                In::Door { you, holder }
            }
            Down::Knock { peer, nick } => In::Knock { peer, nick },
            Down::Relay { from, body } => In::Relay { from, body },
            Down::Gone { peer } => In::Gone { peer },
            Down::Refused(why) => In::Refused(why),
            Down::Entry { seq, what } => {
                self.people[who].since = seq.max(self.people[who].since);
                let live = self.people[who].live;
                match what {
                    What::Join { number } => {
                        if number == self.people[who].tape.sync.number() {
                            self.people[who].live = true;
                        }
                        return;
                    }
                    What::Part { parts } if live => {
                        self.people[who].parts = parts;
                        In::Part { seq }
                    }
                    What::Holder { peer } if live => In::Holder { seq, peer },
                    What::Part { .. } | What::Holder { .. } => return,
                    What::Epoch { epoch, fresh, check } => In::Epoch { epoch, fresh, check },
                    What::Sealed(token) => {
                        let Token { sender, to, epoch, counter, token, text } = token;
                        self.people[who].waiting.insert(seq, text);
                        let label = (seq, 0);
                        In::Open { sender, to, epoch, counter, token, label }
                    }
                }
            }
        };
        self.tell(who, now, input);
    }

    pub fn tell(&mut self, who: usize, now: Now, input: In) {
        let shown = match &input {
            In::Open { label, sender, epoch, .. } => Some((label.0, *sender, *epoch)),
            _ => None,
        };
        if let In::Epoch { epoch, check, .. } = &input {
            self.people[who].checks.insert(*epoch, *check);
        }
        // A hub may tell a holder that it is gone itself; it has the keys that it makes.
        let own = self.people[who].tape.sync.number();
        match &input {
            In::Gone { peer } if *peer != own => {
                self.people[who].gone.entry(*peer).or_insert(now.mono);
            }
            _ => {}
        }
        // People like to speak just as the keys change.
        let change = matches!(input, In::Part { .. } | In::Holder { .. } | In::Epoch { .. });
        if change && self.people[who].said < 20 && self.below(4) == 0 {
            self.people[who].to_say.push_back((Manner::Text, String::new()));
        }
        let before = self.people[who].tape.sync.epoch();
        let out = self.people[who].tape.tell(now, input);
        let after = self.people[who].tape.sync.epoch();
        if after != before && after != 0 {
            let active = (after, self.people[who].checks[&after]);
            self.people[who].active = active;
            // K9: what becomes active is what some holder announced, bit for bit.
            assert!(self.announced.contains(&active), "{who} has made a forged epoch active");
        }
        if let (Some((seq, ..)), Some(Err(Unopened::Refused))) = (shown, &out.opened) {
            if let Some(text) = self.people[who].waiting.remove(&seq) {
                self.people[who].unread.insert(text);
            }
        }
        self.handle_out(who, now, out);
        self.flush(who);
        self.drain(who, now);
    }

    fn drain(&mut self, who: usize, now: Now) {
        let limit = match self.people[who].clogged {
            true => self.below(3) as usize,
            false => usize::MAX,
        };
        let out = self.people[who].tape.tell(now, In::Transmit(limit));
        self.handle_out(who, now, out);
        let out = self.people[who].tape.tell(now, In::Events);
        self.handle_out(who, now, out);
    }

    fn handle_out(&mut self, who: usize, now: Now, out: Out) {
        let Out { transmits, events, opened, .. } = out;
        for transmit in transmits {
            let frame = match transmit {
                KeyTransmit::Relay { to, body } => {
                    assert!(body.len() <= semfio_keysync::MAX_BODY);
                    Up::Relay { to, body }
                }
                KeyTransmit::Admit { peer } => Up::Admit { peer },
                KeyTransmit::Refuse { peer, why } => Up::Refuse { peer, why },
                KeyTransmit::Epoch { epoch, fresh, check } => {
                    self.announces(who, fresh, (epoch, check));
                    Up::Epoch { epoch, fresh, check }
                }
            };
            if self.people[who].connected {
                self.send_up(who, frame);
            }
        }
        if let Some(Ok(message)) = opened {
            self.opened(who, message);
        }
        for event in events {
            self.happened(who, now, event);
        }
    }

    /// Notes who was told to be gone well before this key was made.
    fn announces(&mut self, who: usize, fresh: bool, key: (u64, [u8; 16])) {
        self.announced.insert(key);
        let person = &mut self.people[who];
        let before = person.announced.replace(key);
        let long = |at: &Instant| self.now.mono.saturating_since(*at) > secs(2);
        let gone = match (fresh, before) {
            _ if person.clogged => BTreeSet::new(),
            (false, Some(before)) => self.clean.get(&before).cloned().unwrap_or_default(),
            _ => person.gone.iter().filter(|(_, at)| long(at)).map(|(peer, _)| *peer).collect(),
        };
        self.clean.insert(key, gone);
    }

    fn happened(&mut self, who: usize, now: Now, event: KeyEvent) {
        match event {
            KeyEvent::Opened { message, .. } => self.opened(who, message),
            KeyEvent::Unreadable { label } => {
                if let Some(text) = self.people[who].waiting.remove(&label.0) {
                    self.people[who].unread.insert(text);
                }
            }
            KeyEvent::Rotated { epoch, .. } => {
                let person = &mut self.people[who];
                // K4: epochs only rise.
                assert!(epoch > person.floor, "{who}: {epoch} after {}", person.floor);
                // K8: who has not the passphrase never has a key.
                assert!(person.right, "{who} has a key without the passphrase");
                person.floor = epoch;
                if person.first_epoch == 0 {
                    person.first_epoch = epoch;
                    self.look_back(who, now);
                }
            }
            KeyEvent::Failed(_) => {
                let person = &mut self.people[who];
                person.failed = true;
                // K11: nothing is left.
                assert_eq!(person.tape.sync.vault().keys(), 0);
                assert!(!person.right || self.adversary.is_some(), "{who} failed for no reason");
                (person.connected, person.spy) = (false, Some(now));
                self.closed(who);
            }
            KeyEvent::TurnedAway(_) => {
                let person = &mut self.people[who];
                person.connected = false;
                person.comes_back = Some(now.mono.saturating_add(secs(1)));
                if self.adversary.is_some() {
                    self.closed(who);
                }
            }
            KeyEvent::Ready { .. } => {
                let end = self.end();
                let person = &mut self.people[who];
                if person.first_here.0 == 0 {
                    (person.first_here, person.first_end) = (person.active, end);
                }
                if person.behind {
                    person.slow_for_now(now.mono);
                    person.behind = false;
                }
            }
            KeyEvent::Waiting | KeyEvent::Refused { .. } => {}
        }
    }

    fn opened(&mut self, who: usize, message: Message) {
        // K6, K9: what is opened was sealed, and so.
        let said = self.said.get(&message.text);
        let said = said.unwrap_or_else(|| panic!("{who} opened what nobody said: {message:?}"));
        assert_eq!(said.message, message);
        assert!(said.to.is_empty() || said.message.manner == Manner::Private);
        // K5: once.
        let person = &mut self.people[who];
        let times = person.got.entry(message.text.clone()).or_default();
        *times += 1;
        assert_eq!(*times, 1, "{who} got {} twice", message.text);
        person.unread.remove(&message.text);
    }

    /// Seals what waits to be said.
    fn flush(&mut self, who: usize) {
        while self.people[who].connected && self.people[who].hung.is_none() {
            let person = &mut self.people[who];
            if !person.tape.sync.is_ready() {
                return;
            }
            let Some((manner, to)) = person.to_say.pop_front() else { return };
            person.said += 1;
            let text = format!("{}:{who}.{}", self.room, person.said);
            let message = Message { manner, nick: person.nick.clone(), text: text.clone() };
            let (sender, parts, key) = (person.tape.sync.number(), person.parts, person.active);
            let stale = person.behind || person.slow_until > self.now.mono;
            let now = self.time_of(who);
            let input = In::Seal { manner, to: to.clone(), text: text.clone() };
            let sealed = self.people[who].tape.tell(now, input).sealed;
            let Some(Ok((Stamped { epoch, counter }, token))) = sealed else {
                panic!("{who} is ready and does not seal")
            };
            let kept = to.clone();
            self.said.insert(text.clone(), Said { message, to: kept, key, parts, stale });
            self.send_up(who, Up::Sealed(Token { sender, to, epoch, counter, token, text }));
        }
    }

    // What must never be opened.

    /// K3: one that is in for the first time opens nothing from before.
    fn look_back(&mut self, who: usize, now: Now) {
        let first = self.people[who].first_epoch;
        // Where the entry or the key of the epoch it was let in with does not come through, a later
        // one is the first that is active: then what counts is where it was let in.
        let seat = self.hub.seats.iter().find(|seat| seat.1 == who).map_or(0, |seat| seat.2);
        let all_comes = self.adversary.is_none() && !self.lossy;
        for (at, what) in self.hub.log.clone().into_iter().enumerate() {
            let What::Sealed(Token { sender, to, epoch, counter, token, .. }) = what else {
                continue;
            };
            if !all_comes && self.hub.base + at as u64 >= seat {
                continue;
            }
            if epoch < first {
                let input = In::Open { sender, to, epoch, counter, token, label: (0, 0) };
                let opened = self.people[who].tape.tell(now, input).opened;
                assert_eq!(opened, Some(Err(Unopened::Refused)), "{who} reads what was before");
            }
        }
    }

    fn tell_spies(&mut self, input: &In) {
        for person in &mut self.people {
            if let Some(now) = person.spy {
                person.tape.tell(now, input.clone());
                person.tape.tell(now, In::Events);
            }
        }
    }

    /// K2: who has left opens nothing that is said by somebody who knows that it has.
    fn try_spies(&mut self, token: &Token) {
        let Some(said) = self.said.get(&token.text).cloned() else { return };
        for (who, person) in self.people.iter_mut().enumerate() {
            let Some(now) = person.spy else { continue };
            let knows = person.left_at > 0 && said.parts >= person.left_at;
            let without = |gone: &BTreeSet<u64>| gone.contains(&person.left_number);
            let hidden = self.clean.get(&said.key).is_some_and(without);
            if !hidden && (!knows || self.adversary.is_some()) {
                continue;
            }
            let Token { sender, to, epoch, counter, token, .. } = token.clone();
            let input = In::Open { sender, to, epoch, counter, token, label: (0, 0) };
            let opened = person.tape.tell(now, input).opened;
            assert!(!matches!(opened, Some(Ok(_))), "{who} has left and reads {said:?}");
            let events = person.tape.tell(now, In::Events).events;
            let read = |event: &KeyEvent| matches!(event, KeyEvent::Opened { .. });
            assert!(!events.iter().any(read), "{who} has left and reads {said:?}");
        }
    }

    // After quiet.

    /// K1, K7: all agree, and nobody who was there misses anything.
    pub fn check_rest(&mut self) {
        let seats = self.hub.seats.clone();
        for &who in &self.present() {
            let seated = seats.iter().any(|seat| seat.1 == who);
            assert_eq!(seated, self.people[who].right, "{who} is not where it belongs");
        }
        let Some(&(_, first, _)) = seats.first() else { return };
        let epoch = self.people[first].tape.sync.epoch();
        for &(number, who, _) in &seats {
            let sync = &self.people[who].tape.sync;
            assert_eq!(sync.epoch(), epoch, "{who}");
            assert_eq!(sync.number(), number);
            assert_eq!(sync.is_holder(), number == self.hub.holder, "{who}");
            assert!(sync.is_ready(), "{who} cannot speak: {sync:?}");
            assert!(self.people[who].to_say.is_empty());
        }
        for &(_, who, _) in &seats {
            self.say(who, Manner::Text);
        }
        self.run(secs(20));
        for &(_, who, _) in &seats {
            let last = format!("{}:{who}.{}", self.room, self.people[who].said);
            for &(_, to, _) in &seats {
                assert!(self.people[to].got.contains_key(&last), "{to} has not heard {last}");
            }
        }
        if self.lossy {
            return;
        }
        for (at, what) in self.hub.log.iter().enumerate() {
            let What::Sealed(token) = what else { continue };
            let said = &self.said[&token.text];
            for &(_, who, from) in &seats {
                let person = &self.people[who];
                let seq = self.hub.base + at as u64 + 1;
                let here = said.key == person.first_here
                    || token.epoch > person.first_here.0 && seq > person.first_end;
                let owed = seq > from && here;
                assert!(
                    !owed
                        || said.stale
                        || self.hub.orphans.contains(&token.epoch)
                        || person.excused.contains(&token.text)
                        || person.got.contains_key(&token.text),
                    "{who} misses {} of epoch {}",
                    token.text,
                    token.epoch
                );
            }
        }
    }

    /// Every run is had again without its secrets.
    pub fn replay(&self) {
        self.people.iter().for_each(|person| person.tape.replay());
    }
}
