//! The sealed rooms of a participant: for each a [`KeySync`], and what is told of its keys.
//!
//! A room's keys live from the first ENTER to the PART, over broken connections, so that who comes
//! back opens what was said meanwhile. By its identity it is known after a PART too.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use rand_core::RngCore;
use semfio_keysync::{
    Answer, BadAnswer, KeyEvent, KeySync, KeyTransmit, Label, Message, Outer, Passphrase, Refusal,
    Stamped, Unopened, Unsealed, Vault,
};
use semfio_machine::{Deadline, Instant, Now, Rng, Seed};

use crate::text::Folded;
use crate::wire::{self, Ask, Entry, Manner, Tell, What, Why};

/// How long one that comes back, and is off the door for no fault of its own, waits before it asks
/// again: as long as the first pause of a server that was asked too often.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// What is told of the keys of a sealed room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The room was empty: nobody has checked the passphrase yet.
    Opened,
    /// What is said from here on is sealed under another key.
    Epoch {
        /// Its number; it only rises.
        epoch: u64,
        /// Who made it.
        holder: String,
        /// What for.
        cause: Cause,
    },
    /// There is another key, and it has not come yet. Texts wait for it.
    Waiting,
    /// A text came that was not sealed. It is left out: whoever is on the way may have written it.
    InClear {
        /// Who is said to have said it.
        nick: String,
    },
    /// As the holder, did not let somebody in.
    Refused {
        /// Whom.
        nick: String,
        /// Why.
        why: Refusal,
    },
}

/// What a key was changed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody entered or left: the one before was old, or somebody who was at the door is gone.
    Renewed,
    /// Somebody entered, who must not read what was said before.
    Joined(String),
    /// Somebody left, who must not read what is said from here on.
    Left(String),
    /// Somebody else makes the keys now.
    Holder(String),
}

/// What the vault of a room answered, the rooms counted as they are entered.
///
/// Its text, and its `Debug`, is the number of the room, a space, and the answer's text.
#[derive(Clone, PartialEq, Eq)]
pub struct Journaled {
    /// Which room, from 0; one that is entered again after it was left is another.
    pub room: u64,
    /// The next answer of its vault.
    pub answer: Answer,
}

impl core::fmt::Display for Journaled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.room, self.answer)
    }
}

impl core::fmt::Debug for Journaled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for Journaled {
    type Err = BadAnswer;

    fn from_str(text: &str) -> Result<Self, BadAnswer> {
        let (room, answer) = text.split_once(' ').ok_or(BadAnswer)?;
        Ok(Self { room: room.parse().map_err(|_| BadAnswer)?, answer: answer.parse()? })
    }
}

/// A text as it is sent.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) sender: u64,
    pub(crate) epoch: u64,
    pub(crate) counter: u64,
    pub(crate) text: String,
}

/// Why a text is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSealed {
    /// There is no key at the moment.
    Waits,
    /// It never will be, for people.
    Refused(&'static str),
}

/// All rooms of a participant.
#[derive(Debug)]
pub(crate) struct SealedRooms {
    source: Source,
    /// Whether answers are kept to be fetched.
    recording: bool,
    /// So many were entered.
    entered: u64,
    rooms: BTreeMap<Folded, Room>,
    /// Answers of rooms that were left.
    journal: VecDeque<Journaled>,
}

/// Where vaults come from.
#[derive(Debug)]
enum Source {
    Secrets {
        passphrase: Passphrase,
        /// Of their seeds. Replaced with each, so that what is left of it says nothing of keys that were
        /// drawn before.
        seed: Seed,
        /// What tells holders that who enters again is the same.
        root: Seed,
    },
    /// For each room what its vault answers.
    Answers(BTreeMap<u64, Vec<Answer>>),
}

impl Source {
    fn vault(&mut self, number: u64, room: &str) -> Vault {
        match self {
            Self::Secrets { passphrase, seed, root } => {
                let mut rng = seed.stream(0);
                *seed = draw(&mut rng);
                Vault::new(passphrase.clone(), draw(&mut rng)).known_by(root, room)
            }
            Self::Answers(answers) => Vault::replay(answers.remove(&number).unwrap_or_default()),
        }
    }
}

#[derive(Debug)]
struct Room {
    number: u64,
    name: String,
    keys: KeySync,
    /// Opened by this member, and not told yet.
    opened: bool,
    holder: String,
    cause: Cause,
    /// When to ask again to be let in.
    again: Option<Instant>,
    /// Who said by the server's word what waits for its key; as many as [`KeySync`] lets wait.
    held: VecDeque<(Label, String)>,
}

impl SealedRooms {
    pub(crate) fn new(passphrase: Passphrase, secrets: &Seed) -> Self {
        let mut rng = secrets.stream(0);
        let (seed, root) = (draw(&mut rng), draw(&mut rng));
        Self::from_source(Source::Secrets { passphrase, seed, root }, false)
    }

    /// Rooms without secrets: they answer as they did, and tell it again.
    pub(crate) fn replay(journal: impl IntoIterator<Item = Journaled>) -> Self {
        let mut answers: BTreeMap<u64, Vec<Answer>> = BTreeMap::new();
        for Journaled { room, answer } in journal {
            answers.entry(room).or_default().push(answer);
        }
        Self::from_source(Source::Answers(answers), true)
    }

    fn from_source(source: Source, recording: bool) -> Self {
        let (rooms, journal) = (BTreeMap::new(), VecDeque::new());
        Self { source, recording, entered: 0, rooms, journal }
    }

    pub(crate) fn recording(self) -> Self {
        Self { recording: true, ..self }
    }

    fn room_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.get_mut(&Folded::new(name))
    }

    pub(crate) fn enter(&mut self, name: &str, nick: &str) {
        let Self { source, recording, entered, .. } = self;
        self.rooms.entry(Folded::new(name)).or_insert_with(|| {
            let number = *entered;
            *entered = number.saturating_add(1);
            let vault = source.vault(number, name);
            let vault = if *recording { vault.recording() } else { vault };
            Room {
                number,
                name: name.to_owned(),
                keys: KeySync::new(vault, name, nick),
                opened: false,
                holder: String::new(),
                cause: Cause::Renewed,
                again: None,
                held: VecDeque::new(),
            }
        });
    }

    pub(crate) fn leave(&mut self, name: &str) {
        if let Some(mut room) = self.rooms.remove(&Folded::new(name)) {
            self.journal.extend(core::iter::from_fn(|| room.poll_journal()));
        }
    }

    /// What vaults answered, if that is kept.
    pub(crate) fn poll_journal(&mut self) -> Option<Journaled> {
        let left = self.journal.pop_front();
        left.or_else(|| self.rooms.values_mut().find_map(Room::poll_journal))
    }

    /// Whether a text with this sender is its own.
    pub(crate) fn is_own(&mut self, room: &str, sender: u64) -> bool {
        self.room_mut(room).is_some_and(|room| sender != 0 && room.keys.number() == sender)
    }

    pub(crate) fn handle_tell(&mut self, now: Now, room: &str, tell: Tell<'_>) {
        let Some(room) = self.room_mut(room) else { return };
        match tell {
            Tell::Door { you, holder } => {
                room.opened = you == holder;
                room.keys.handle_door(now, you, holder);
            }
            Tell::Relay { peer, body } => room.keys.handle_relay(now, peer, body),
            Tell::Knock { peer, nick } => room.keys.handle_knock(now, peer, nick),
            Tell::Refused { why } => {
                room.keys.handle_refused(now, Refusal::from_number(why.number()))
            }
            Tell::Gone { peer } => room.keys.handle_gone(now, peer),
        }
    }

    /// What the log tells, in its order. `old` is what was there before it entered.
    pub(crate) fn handle_entry(&mut self, now: Now, entry: &Entry<'_>, old: bool) {
        let Some(room) = self.room_mut(entry.room) else { return };
        let nick = || entry.nick.to_owned();
        match entry.what {
            // What it has seen of keys before is as old.
            What::Part | What::Holder(_) if old => {}
            What::Join => room.cause = Cause::Joined(nick()),
            What::Part => {
                room.cause = Cause::Left(nick());
                room.keys.handle_part(now, entry.seq);
            }
            What::Holder(peer) => {
                room.cause = Cause::Holder(nick());
                room.holder = nick();
                room.keys.handle_holder(now, entry.seq, peer);
            }
            What::Epoch { epoch, fresh, check } => {
                room.holder = nick();
                room.keys.handle_epoch(now, epoch, fresh, check);
            }
            What::Said(..) | What::Nick(_) | What::Sealed(_) => {}
        }
    }

    pub(crate) fn handle_nick(&mut self, now: Now, nick: &str) {
        self.rooms.values_mut().for_each(|room| room.keys.handle_nick(now, nick));
    }

    pub(crate) fn handle_disconnected(&mut self, now: Now) {
        for room in self.rooms.values_mut() {
            room.keys.handle_disconnected(now);
            room.again = None;
        }
    }

    /// Does what is due, and gives the rooms that are to be entered again.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> Vec<String> {
        let mut again = Vec::new();
        for room in self.rooms.values_mut() {
            room.keys.handle_timeout(now);
            if room.again.take_if(|at| *at <= now.mono).is_some() {
                again.push(room.name.clone());
            }
        }
        again
    }

    /// Has a room entered again later.
    pub(crate) fn ask_again(&mut self, now: Now, room: &str) {
        if let Some(room) = self.room_mut(room) {
            room.again = Some(now.mono.saturating_add(ASK_AGAIN));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let due = |room: &Room| {
            let again = room.again.map(|at| Deadline { at, why: "ask to be let in" });
            Deadline::earlier(again, room.keys.poll_timeout())
        };
        self.rooms.values().map(due).fold(None, Deadline::earlier)
    }

    /// What is to be sent, with its room.
    pub(crate) fn poll_transmit(&mut self) -> Option<(&str, KeyTransmit)> {
        self.rooms.values_mut().find_map(|room| {
            let transmit = room.keys.poll_transmit()?;
            Some((room.name.as_str(), transmit))
        })
    }

    /// What happened, with its room, and of a text that waited who said it by the server's word.
    pub(crate) fn poll_event(&mut self) -> Option<(String, KeyEvent, String)> {
        self.rooms.values_mut().find_map(|room| {
            let event = room.keys.poll_event()?;
            let by = match &event {
                KeyEvent::Opened { label, .. } | KeyEvent::Unreadable { label } => {
                    let at = room.held.iter().position(|(held, _)| held == label);
                    at.and_then(|at| room.held.remove(at)).map(|(_, by)| by)
                }
                _ => None,
            };
            Some((room.name.clone(), event, by.unwrap_or_default()))
        })
    }

    /// What is to be told of a new key, and whether first that nobody has checked the passphrase.
    pub(crate) fn rotated(&mut self, room: &str, epoch: u64) -> Option<(bool, Keys)> {
        let room = self.room_mut(room)?;
        let cause = core::mem::replace(&mut room.cause, Cause::Renewed);
        let opened = core::mem::take(&mut room.opened);
        Some((opened, Keys::Epoch { epoch, holder: room.holder.clone(), cause }))
    }

    pub(crate) fn seal(
        &mut self,
        now: Now,
        room: &str,
        manner: Manner,
        to: &str,
        text: &str,
    ) -> Result<Token, NotSealed> {
        let room = self.room_mut(room).ok_or(NotSealed::Refused("not in that room any more"))?;
        let manner = match manner {
            Manner::Text => semfio_keysync::Manner::Text,
            Manner::Action => semfio_keysync::Manner::Action,
            Manner::Private => semfio_keysync::Manner::Private,
        };
        let mut token = Vec::new();
        let sealed = room.keys.seal(now, manner, to, text, &mut token);
        let Stamped { epoch, counter } = sealed.map_err(|error| match error {
            Unsealed::NotReady => NotSealed::Waits,
            Unsealed::TooLong => NotSealed::Refused("it is too long to be sealed"),
        })?;
        // A token is base64.
        let text = String::from_utf8(token).unwrap_or_default();
        Ok(Token { sender: room.keys.number(), epoch, counter, text })
    }

    /// Opens a text, or has it told later with the label; without one it is of a history, and may
    /// have been opened before.
    pub(crate) fn open(
        &mut self,
        now: Now,
        entry: &Entry<'_>,
        sealed: &wire::Sealed<'_>,
        label: Option<Label>,
    ) -> Result<Message, Unopened> {
        let room = self.room_mut(entry.room).ok_or(Unopened::Refused)?;
        let &wire::Sealed { sender, to, epoch, counter, token } = sealed;
        let outer = Outer { sender, to, epoch, counter };
        match label {
            Some(label) => {
                let opened = room.keys.open(now, &outer, token.as_bytes(), label);
                if opened == Err(Unopened::Held) {
                    room.held.push_back((label, entry.nick.to_owned()));
                }
                opened
            }
            None => room.keys.open_again(now, &outer, token.as_bytes()),
        }
    }
}

impl Room {
    fn poll_journal(&mut self) -> Option<Journaled> {
        let answer = self.keys.poll_journal()?;
        Some(Journaled { room: self.number, answer })
    }
}

fn draw(rng: &mut Rng) -> Seed {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Seed::new(seed)
}

/// A transmit as it stands in a frame.
pub(crate) fn ask(transmit: &KeyTransmit) -> Ask<'_> {
    match *transmit {
        KeyTransmit::Relay { to, ref body } => Ask::Relay { peer: to, body },
        KeyTransmit::Admit { peer } => Ask::Admit { peer },
        KeyTransmit::Refuse { peer, why } => {
            Ask::Refuse { peer, why: Why::from_number(why.number()) }
        }
        KeyTransmit::Epoch { epoch, fresh, check } => Ask::Epoch { epoch, fresh, check },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_room_s_secrets_were_drawn_from_is_not_kept() {
        let first = Seed::from_u64(1);
        let mut rooms = SealedRooms::new(Passphrase::new(b"abacate"), &first);
        let mut seen = alloc::vec![*first.as_bytes()];
        for room in ["lobby", "sala", "copa"] {
            rooms.enter(room, "ana");
            let Source::Secrets { seed, .. } = &rooms.source else { unreachable!() };
            assert!(!seen.contains(seed.as_bytes()), "{room}");
            seen.push(*seed.as_bytes());
        }
    }
}
