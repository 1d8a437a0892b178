//! One member of one sealed room: it gets the room's keys, and gives them to others while it holds
//! the room.
//!
//! The hub seats members and keeps the order of the log, and has no key. One member, the *holder*,
//! makes the keys; the hub names it. Keys have numbers, *epochs*, that only rise.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Outside | DOOR, another holds | Starting | START |
//! | Outside | DOOR, it holds itself | Holding, an epoch is due | |
//! | Outside | REFUSED | Outside | `TurnedAway` |
//! | Starting | REPLY that proves the passphrase | Proving | CONFIRM |
//! | Starting | REPLY that does not | Failed | FAIL, `Failed` |
//! | Starting, Proving | FAIL, or at the door REFUSED for proof or name | Failed | `Failed` |
//! | Starting, Proving | 2, 4, 8, 8 ... s | the same | START or CONFIRM again, the same octets |
//! | Proving | 30 s without WRAP | Starting | START, another |
//! | at the door | DOOR | as in Outside | |
//! | at the door | REFUSED for anything else | Outside | `TurnedAway` |
//! | Proving, Linked | WRAP | Linked | keys are pending |
//! | Linked | 2 s, and the key of the newest EPOCH is missing | Linked | RESYNC |
//! | any inside | HOLDER, another | Starting; pending keys are forgotten | START, `Waiting` |
//! | any inside | HOLDER, itself | Holding; handing over, above the newest EPOCH of the log | `Waiting` |
//! | any inside | PART | the same; Holding: a fresh epoch is due | `Waiting` |
//! | any inside | EPOCH above the active one, its key is there or is derived, and the check fits | the same; that epoch is active | `Rotated`, `Ready`, `Opened`, `Unreadable` |
//! | any inside | EPOCH above the active one, else | the same; Linked: RESYNC | |
//! | any inside | any other EPOCH, or one that leaps too far | the same | |
//! | Holding | START of a member, or within the limit of guesses | Holding; agreeing | REPLY |
//! | Holding | START of one whose agreement is under way, or who was refused | Holding | REPLY again, if it is the same START |
//! | Holding | START beyond that limit | Holding | REFUSE |
//! | Holding | CONFIRM that proves the passphrase | Holding; an epoch is due for who is at the door | WRAP for who is seated |
//! | Holding | CONFIRM that does not, or a name of another identity | Holding | REFUSE or FAIL, `Refused` |
//! | Holding | RESYNC | Holding | WRAP |
//! | Holding | GONE | Holding; a fresh epoch is due with its PART, or in a second | |
//! | Holding | an epoch is due | Holding | WRAP each, ADMIT each, EPOCH |
//! | any but Failed | the connection broke | Outside; keys stay for 30 s | |
//! | Failed | anything | Failed | |
//!
//! *At the door* is Starting, Proving and Linked before the first EPOCH after DOOR; *inside* is after
//! it, or being the holder. Relays may be lost and are asked for again; the octets are the same, so
//! that no second guess is had by it.
//!
//! **What a key covers.** A member that left knows the keys of its time and what ratchets make of them. So
//! each key has the log number of the last PART or HOLDER that its maker had seen when it drew it;
//! a ratcheted key has that of the key it comes from. A member seals only while the active key
//! covers all PART and HOLDER entries that it has seen itself: a key that was on its way to a member
//! as that one left is made active, but nothing is sealed with it. (The flag `fresh` of the entry
//! could not tell that: it is decided before, and by log order comes after.) One that comes back reads
//! what it missed, but seals nothing before it has come to the epoch that it was let in with. What is left
//! is what is on its way: who has not been told yet that somebody left, or came in right after, may
//! seal under a key which that one has, until the holder's next epoch reaches it. And up to the key that it
//! was let in with it derives none that has the number of that or a higher one: a room that all have left
//! begins with another key 1, and what is derived from the last room's keys is not this room's.
//!
//! **Members and strangers.** START proves with a MAC under an earlier key that its sender was
//! inside. Members prove themselves by the hundred after a HOLDER entry, and that is no guess; only
//! what comes without proof counts against the limit of guesses. Who proves an epoch gets all later ones
//! that the holder still has; who does not gets the next one, which is made for it: also if
//! the hub says that it was seated all the time.
//!
//! **What this is not.** Whoever has a room's key can seal under anybody's number and name, and read
//! what is private between two others, if the hub helps. A hub can refuse, delay, drop and split.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use semfio_machine::{Deadline, Instant, Now};
use zeroize::{Zeroize as _, Zeroizing};

use crate::agreement::{Context, REPLY};
use crate::holder::{AGREE_WITHIN, Holding, MAX_LEAP, MAX_MEMBERS};
use crate::message::{Body, MAX_TEXT, MAX_WRAPPED, Manner, Refusal, Sealed, Which, short};
use crate::vault::{Answer, CHECK, Vault};
use crate::window::Window;
use crate::{Guard, GuardConfig, token_len};

/// How long keys are kept after the next one is active, or after the connection broke.
pub const GRACE: Duration = Duration::from_secs(30);
/// Former epochs that are kept within [`GRACE`]; with [`PACE`](crate::PACE) four seconds of them at least.
pub const MAX_FORMER: usize = 16;
/// The first pause before START or CONFIRM is sent again, and each before RESYNC.
pub const RETRY: Duration = Duration::from_secs(2);
/// The longest pause before START or CONFIRM is sent again. In the 30 s that a hub leaves somebody at the door
/// these are at most 10 relays; it lets 16 pass.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// Tokens that wait for their key: some seconds of a lively room. One sender has half of these places, and of
/// the octets.
pub const MAX_HELD: usize = 256;
/// Octets of the tokens that wait for their key.
pub const MAX_HELD_OCTETS: usize = 1 << 20;
/// How long a token waits for its key: longer than a silent holder is borne.
pub const HELD_WITHIN: Duration = Duration::from_secs(60);
/// What is sealed with a text: a room, two names, numbers.
const MAX_AROUND: usize = 1024;
/// The longest token that is opened.
pub const MAX_SEALED: usize = token_len(MAX_TEXT + MAX_AROUND);
/// Things to send that wait to be fetched; what exceeds it is dropped, and asked for again.
const MAX_TRANSMITS: usize = 1024;
/// The highest epoch that is taken from a holder by who has had none: from there on another 2^29 leaps of
/// a bad holder are needed to use up the numbers.
const MAX_EPOCH: u64 = 1 << 62;
/// Candidates of whom a member hears before the log tells it that it is the holder: as many as a hub
/// lets wait.
const MAX_KNOCKS: usize = 64;
/// Guesses at the holder in a minute. A hub may lie about where they come from, so they are counted together;
/// and a room fills at 30 strangers a minute even if none of them answers.
const GUESSES: u32 = 30;

/// What a [`KeySync`] wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyTransmit {
    /// RELAY: to the holder, or from it.
    Relay {
        /// To whom.
        to: u64,
        /// At most [`MAX_BODY`](crate::MAX_BODY) octets.
        body: Vec<u8>,
    },
    /// ADMIT, from the holder.
    Admit {
        /// Whom.
        peer: u64,
    },
    /// REFUSE, from the holder.
    Refuse {
        /// Whom.
        peer: u64,
        /// Why.
        why: Refusal,
    },
    /// EPOCH, from the holder.
    Epoch {
        /// Its number.
        epoch: u64,
        /// Drawn anew, not derived.
        fresh: bool,
        /// Tells those who have the key that it is the same.
        check: [u8; CHECK],
    },
}

/// Where a token stands in the log, or any two numbers that say so; they come back with it.
pub type Label = (u64, u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// Texts can be sealed.
    Ready {
        /// The active epoch.
        epoch: u64,
    },
    /// Another epoch is active.
    Rotated {
        /// Which.
        epoch: u64,
        /// Drawn anew, not derived.
        fresh: bool,
    },
    /// Texts cannot be sealed until the next `Ready`.
    Waiting,
    /// A token that was held.
    Opened {
        /// As given to [`open`](KeySync::open).
        label: Label,
        /// What was in it.
        message: Message,
    },
    /// A token that was held, and cannot be opened.
    Unreadable {
        /// As given to [`open`](KeySync::open).
        label: Label,
    },
    /// The holder refused somebody.
    Refused {
        /// Whom.
        peer: u64,
        /// How it calls itself.
        nick: String,
        /// Why.
        why: Refusal,
    },
    /// It is off the door and may ask again.
    TurnedAway(Refusal),
    /// It is over; everything is wiped.
    Failed(KeyFailure),
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFailure {
    /// The other side has another passphrase, or somebody changed what was said.
    Passphrase,
    /// The other side ended it.
    Refused(Refusal),
}

impl core::fmt::Display for KeyFailure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Passphrase => f.write_str("the passphrases differ, or somebody is in between"),
            Self::Refused(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for KeyFailure {}

/// What stands outside of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer<'a> {
    /// The number of who sent it.
    pub sender: u64,
    /// To whom; empty: to the room.
    pub to: &'a str,
    /// Under which key.
    pub epoch: u64,
    /// Which of the sender's.
    pub counter: u64,
}

/// A text that was opened; all of it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it is meant.
    pub manner: Manner,
    /// How the sender calls itself.
    pub nick: String,
    /// What.
    pub text: String,
}

/// What has to stand outside of a token that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Under which key.
    pub epoch: u64,
    /// Which of one's own.
    pub counter: u64,
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// There is no key that may be used now; wait for [`KeyEvent::Ready`].
    NotReady,
    /// The text is longer than [`MAX_TEXT`], or a name than 255 octets.
    TooLong,
}

impl core::fmt::Display for Unsealed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotReady => "there is no key that may be used now",
            Self::TooLong => "it is too long to be sealed",
        })
    }
}

impl core::error::Error for Unsealed {}

/// Why a token was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// Its key may still come; an event will tell.
    Held,
    /// Forged, torn from its place, seen before, or its key is gone or was never had. Nothing
    /// tells which.
    Refused,
}

impl core::fmt::Display for Unopened {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Held => "its key has not come yet",
            Self::Refused => "it cannot be read",
        })
    }
}

impl core::error::Error for Unopened {}

/// One member of one sealed room.
///
/// The host hands it what the hub says, in the order it comes: `handle_door`, `handle_knock`,
/// `handle_relay`, `handle_gone` and `handle_refused` for KEY frames; `handle_part`,
/// `handle_holder` and `handle_epoch` for entries of the log. Of a backlog, PART and HOLDER from before
/// its own JOIN are left out, EPOCH is not. After each call it fetches what there is with
/// [`poll_transmit`](Self::poll_transmit) (as far as the connection takes it: wrapped keys are made as they
/// are fetched), [`poll_event`](Self::poll_event) and, if it records,
/// [`poll_journal`](Self::poll_journal), and waits for [`poll_timeout`](Self::poll_timeout).
///
/// A hub must tell the holder GONE before the PART entry of the same member.
#[derive(Debug)]
pub struct KeySync {
    pub(crate) vault: Vault,
    /// In lower case, as it stands in all tokens.
    pub(crate) room: String,
    pub(crate) nick: String,
    pub(crate) now: Now,
    pub(crate) state: State,
    pub(crate) you: u64,
    /// The highest epoch that ever was active here.
    pub(crate) floor: u64,
    /// An EPOCH entry came since DOOR.
    inside: bool,
    /// The epoch it was let in with; none until it is known. What comes before it is a backlog.
    pub(crate) entry: Option<u64>,
    /// What it has keys for. Those above `floor` are pending.
    pub(crate) epochs: BTreeMap<u64, Epoch>,
    /// The number of the last PART or HOLDER entry.
    pub(crate) parted: u64,
    /// The newest EPOCH entry, if its key is missing.
    wanted: Option<Wanted>,
    held: VecDeque<Held>,
    held_octets: usize,
    counter: u64,
    /// When the keys of one whose connection broke are wiped.
    away: Option<Instant>,
    pub(crate) knocks: BTreeMap<u64, String>,
    /// Kept through all changes of holder, or a hub could reset it.
    pub(crate) guard: Guard<()>,
    told_ready: bool,
    transmits: VecDeque<KeyTransmit>,
    events: VecDeque<KeyEvent>,
    plain: Zeroizing<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) enum State {
    Outside,
    Member(Link),
    Holder(Box<Holding>),
    Failed(KeyFailure),
}

/// With the holder.
#[derive(Debug)]
pub(crate) struct Link {
    holder: u64,
    /// Its START.
    which: Which,
    stage: Stage,
    retry: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
enum Stage {
    Starting { body: Vec<u8> },
    Proving { body: Vec<u8>, until: Instant },
    Linked,
}

/// A key that is in the vault.
#[derive(Debug)]
pub(crate) struct Epoch {
    /// The number of the last PART or HOLDER entry that it covers.
    pub(crate) covers: u64,
    /// When it is wiped; none while it is the newest.
    until: Option<Instant>,
    windows: BTreeMap<u64, Window>,
    /// Sealed and opened.
    pub(crate) texts: u64,
}

impl Epoch {
    pub(crate) fn new(covers: u64) -> Self {
        Self { covers, until: None, windows: BTreeMap::new(), texts: 0 }
    }
}

#[derive(Debug)]
struct Wanted {
    epoch: u64,
    fresh: bool,
    check: [u8; CHECK],
}

#[derive(Debug)]
struct Held {
    sender: u64,
    to: String,
    epoch: u64,
    counter: u64,
    token: Vec<u8>,
    label: Label,
    until: Instant,
}

impl KeySync {
    /// A member that has not asked yet to be let in.
    pub fn new(vault: Vault, room: &str, nick: &str) -> Self {
        Self {
            vault,
            room: short(room).to_ascii_lowercase(),
            nick: short(nick).into(),
            now: Now::default(),
            state: State::Outside,
            you: 0,
            floor: 0,
            inside: false,
            entry: None,
            epochs: BTreeMap::new(),
            parted: 0,
            wanted: None,
            held: VecDeque::new(),
            held_octets: 0,
            counter: 0,
            away: None,
            knocks: BTreeMap::new(),
            guard: Guard::new(GuardConfig { free: GUESSES, sources: 1, ..GuardConfig::default() }),
            told_ready: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            plain: Zeroizing::new(Vec::new()),
        }
    }

    /// The active epoch; 0 if there is none.
    pub fn epoch(&self) -> u64 {
        if self.inside { self.floor } else { 0 }
    }

    /// Its number in the room; 0 outside.
    pub fn number(&self) -> u64 {
        self.you
    }

    /// Whether texts can be sealed.
    pub fn is_ready(&self) -> bool {
        self.inside
            && self.entry.is_some_and(|entry| self.floor >= entry)
            && self.epochs.get(&self.floor).is_some_and(|key| key.covers >= self.parted)
    }

    /// Whether it holds the room.
    pub fn is_holder(&self) -> bool {
        matches!(self.state, State::Holder(_))
    }

    /// The name of its state.
    pub fn state(&self) -> &'static str {
        match &self.state {
            State::Outside => "Outside",
            State::Member(Link { stage: Stage::Starting { .. }, .. }) => "Starting",
            State::Member(Link { stage: Stage::Proving { .. }, .. }) => "Proving",
            State::Member(Link { stage: Stage::Linked, .. }) => "Linked",
            State::Holder(_) => "Holding",
            State::Failed(_) => "Failed",
        }
    }

    /// Why it is over, if it is.
    pub fn failure(&self) -> Option<KeyFailure> {
        match self.state {
            State::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Its secrets.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    // What the hub says in KEY frames.

    /// It is at the door with this number, or the holder is another now; if both are equal, it opens
    /// the room.
    pub fn handle_door(&mut self, now: Now, you: u64, holder: u64) {
        self.begin(now);
        let at_door = match self.state {
            State::Outside => true,
            State::Member(_) => !self.inside,
            State::Holder(_) | State::Failed(_) => false,
        };
        if !at_door || you == 0 {
            return;
        }
        (self.you, self.parted, self.away) = (you, 0, None);
        self.leave_holder();
        if you == holder {
            self.hold(None, 0);
        } else {
            self.link(holder);
        }
        self.settle();
    }

    /// A candidate is at the door.
    pub fn handle_knock(&mut self, now: Now, peer: u64, nick: &str) {
        self.begin(now);
        if self.is_holder() {
            self.knocked(peer, nick);
        } else if self.knocks.len() < MAX_KNOCKS && !matches!(self.state, State::Failed(_)) {
            // The log may tell later that it holds the room.
            self.knocks.insert(peer, short(nick).into());
        }
        self.settle();
    }

    /// Something about keys from a member or a candidate.
    pub fn handle_relay(&mut self, now: Now, from: u64, body: &[u8]) {
        self.begin(now);
        let Ok(body) = Body::parse(body) else { return };
        if from == 0 || from == self.you {
            return;
        }
        match (&self.state, body) {
            (State::Member(link), body) if link.holder == from => match body {
                Body::Reply { which, reply } if which == link.which => self.replied(&reply),
                Body::Wrap(token) => self.wrapped(token),
                Body::Fail { which, why }
                    if which == link.which && !matches!(link.stage, Stage::Linked) =>
                {
                    self.fail(KeyFailure::Refused(why));
                }
                _ => {}
            },
            (State::Holder(_), Body::Start { pake, last, proof, nick }) => {
                self.started(from, &pake, last, &proof, nick);
            }
            (State::Holder(_), Body::Confirm { mac, standing }) => {
                self.confirmed(from, &mac, standing);
            }
            (State::Holder(_), Body::Resync(token)) => self.resynced(from, token),
            (State::Holder(_), Body::Fail { which, .. }) => self.gave_up(from, which),
            _ => {}
        }
        self.settle();
    }

    /// A candidate or a member is gone.
    pub fn handle_gone(&mut self, now: Now, peer: u64) {
        self.begin(now);
        self.knocks.remove(&peer);
        if self.is_holder() {
            self.gone(peer);
        }
        self.settle();
    }

    /// It is off the door, or not called to it.
    pub fn handle_refused(&mut self, now: Now, why: Refusal) {
        self.begin(now);
        match (&self.state, why) {
            // The hub did not call it to the door. Keys are kept no longer for that.
            (State::Outside, _) => self.events.push_back(KeyEvent::TurnedAway(why)),
            (State::Member(_), _) if self.inside => return,
            (State::Member(_), Refusal::Proof | Refusal::Name) => {
                self.fail(KeyFailure::Refused(why));
            }
            (State::Member(_), _) => {
                self.leave(now);
                self.events.push_back(KeyEvent::TurnedAway(why));
            }
            _ => return,
        }
        self.settle();
    }

    // What stands in the log.

    /// The entry `seq`: somebody left.
    pub fn handle_part(&mut self, now: Now, seq: u64) {
        self.begin(now);
        if seq <= self.parted || matches!(self.state, State::Outside | State::Failed(_)) {
            return;
        }
        self.parted = seq;
        if let State::Holder(holding) = &mut self.state {
            holding.owes_fresh = true;
        }
        self.settle();
    }

    /// The entry `seq`: that member holds the room now.
    pub fn handle_holder(&mut self, now: Now, seq: u64, peer: u64) {
        self.begin(now);
        if seq <= self.parted || matches!(self.state, State::Outside | State::Failed(_)) {
            return;
        }
        self.parted = seq;
        let logged = self.wanted.as_ref().map_or(0, |wanted| wanted.epoch);
        self.leave_holder();
        if peer == self.you {
            let knocks = core::mem::take(&mut self.knocks);
            self.hold(Some(self.now.mono), logged);
            for (peer, nick) in knocks {
                self.knocked(peer, &nick);
            }
        } else {
            self.link(peer);
        }
        self.settle();
    }

    /// An entry: this key is the one from here on.
    pub fn handle_epoch(&mut self, now: Now, epoch: u64, fresh: bool, check: [u8; CHECK]) {
        self.begin(now);
        if epoch <= self.floor || matches!(self.state, State::Outside | State::Failed(_)) {
            return;
        }
        // What all members told the holder at most, or a holder could use up the numbers and leave.
        let leap = if self.floor == 0 { MAX_EPOCH } else { 2 * MAX_LEAP };
        if epoch.saturating_sub(self.floor) > leap {
            return;
        }
        // The log's newest entry is the one that counts; if one before was forged, it is forgotten.
        self.wanted = Some(Wanted { epoch, fresh, check });
        self.activate();
        self.ask();
        self.settle();
    }

    /// It is called so from now on.
    pub fn handle_nick(&mut self, now: Now, nick: &str) {
        self.begin(now);
        self.nick = short(nick).into();
    }

    /// The connection broke. The keys stay for [`GRACE`], so that it misses nothing if it comes back.
    pub fn handle_disconnected(&mut self, now: Now) {
        self.begin(now);
        if !matches!(self.state, State::Outside | State::Failed(_)) {
            self.leave(now);
        }
        self.settle();
    }

    // Texts.

    /// Appends a token with a text to `out`. `to` is empty unless it is private.
    pub fn seal(
        &mut self,
        now: Now,
        manner: Manner,
        to: &str,
        text: &str,
        out: &mut Vec<u8>,
    ) -> Result<Stamped, Unsealed> {
        self.begin(now);
        if !self.is_ready() {
            return Err(Unsealed::NotReady);
        }
        if text.len() > MAX_TEXT || short(to) != to {
            return Err(Unsealed::TooLong);
        }
        let (epoch, counter) = (self.floor, self.counter);
        reuse(&mut self.plain, text.len().saturating_add(MAX_AROUND));
        let (room, nick) = (self.room.as_str(), self.nick.as_str());
        Sealed { room, epoch, sender: self.you, counter, manner, nick, to, text }
            .put(&mut self.plain);
        self.vault.seal(now.unix, epoch, &self.plain, out).map_err(|_| Unsealed::NotReady)?;
        self.counter = counter.saturating_add(1);
        self.count(epoch);
        self.settle();
        Ok(Stamped { epoch, counter })
    }

    /// Opens a token. One whose key is still to come is held, and an event with its label tells
    /// what became of it.
    pub fn open(
        &mut self,
        now: Now,
        outer: &Outer<'_>,
        token: &[u8],
        label: Label,
    ) -> Result<Message, Unopened> {
        self.begin(now);
        if token.len() > MAX_SEALED || matches!(self.state, State::Failed(_)) {
            return Err(Unopened::Refused);
        }
        if outer.epoch > self.floor {
            let octets = self.held_octets.saturating_add(token.len());
            // Half of the places for each: whoever seals for an epoch that never comes takes no more.
            let own = self.held.iter().filter(|held| held.sender == outer.sender);
            let (count, sum) = own.fold((0_usize, token.len()), |(count, sum), held| {
                (count.saturating_add(1), sum.saturating_add(held.token.len()))
            });
            let full = self.held.len() >= MAX_HELD || octets > MAX_HELD_OCTETS;
            if full || count >= MAX_HELD / 2 || sum > MAX_HELD_OCTETS / 2 {
                return Err(Unopened::Refused);
            }
            self.held_octets = octets;
            let Outer { sender, to, epoch, counter } = *outer;
            let until = now.mono.saturating_add(HELD_WITHIN);
            let (to, token) = (short(to).into(), token.to_vec());
            self.held.push_back(Held { sender, to, epoch, counter, token, label, until });
            return Err(Unopened::Held);
        }
        let opened = self.read(outer, token, false).ok_or(Unopened::Refused);
        self.settle();
        opened
    }

    /// Opens a token whose owner asked for what was said before: it may have been opened already,
    /// and nothing is held.
    pub fn open_again(
        &mut self,
        now: Now,
        outer: &Outer<'_>,
        token: &[u8],
    ) -> Result<Message, Unopened> {
        self.begin(now);
        let pending = outer.epoch > self.floor;
        if pending || token.len() > MAX_SEALED || matches!(self.state, State::Failed(_)) {
            return Err(Unopened::Refused);
        }
        let opened = self.read(outer, token, true).ok_or(Unopened::Refused);
        self.settle();
        opened
    }

    fn read(&mut self, outer: &Outer<'_>, token: &[u8], again: bool) -> Option<Message> {
        let key = self.epochs.get_mut(&outer.epoch)?;
        reuse(&mut self.plain, token.len());
        self.vault.open(self.now.unix, outer.epoch, token, &mut self.plain).ok()?;
        let sealed = Sealed::parse(&self.plain)?;
        let bound = sealed.room == self.room
            && sealed.epoch == outer.epoch
            && sealed.sender == outer.sender
            && sealed.counter == outer.counter
            && sealed.to.eq_ignore_ascii_case(outer.to)
            && (sealed.manner == Manner::Private) != sealed.to.is_empty();
        if !bound || key.windows.len() > MAX_MEMBERS {
            return None;
        }
        let first = key.windows.entry(outer.sender).or_default().accept(outer.counter);
        if !first && !again {
            return None;
        }
        let Sealed { manner, nick, text, .. } = sealed;
        let message = Message { manner, nick: nick.into(), text: text.into() };
        self.count(outer.epoch);
        Some(message)
    }

    fn count(&mut self, epoch: u64) {
        if let Some(key) = self.epochs.get_mut(&epoch) {
            key.texts = key.texts.saturating_add(1);
        }
    }

    // What comes out.

    /// Something to send. Wrapped keys are made here, one at a time.
    pub fn poll_transmit(&mut self) -> Option<KeyTransmit> {
        loop {
            if let Some(transmit) = self.transmits.pop_front() {
                return Some(transmit);
            }
            if !self.distribute() {
                return None;
            }
        }
    }

    /// Something that happened.
    pub fn poll_event(&mut self) -> Option<KeyEvent> {
        self.events.pop_front()
    }

    /// An answer of a vault that [records](Vault::recording).
    pub fn poll_journal(&mut self) -> Option<Answer> {
        self.vault.poll_journal()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let keys = self.epochs.values().filter_map(|key| key.until).min();
        let (role, why) = match &self.state {
            State::Member(link) => (link.retry, "ask for keys again"),
            State::Holder(holding) => (holding.due(self.floor), "make a key"),
            State::Outside | State::Failed(_) => (None, ""),
        };
        let held = self.held.front().map(|held| held.until);
        [(keys, "wipe a key"), (self.away, "wipe the keys"), (held, "give a text up"), (role, why)]
            .into_iter()
            .filter_map(|(at, why)| at.map(|at| Deadline { at, why }))
            .fold(None, |first, next| Deadline::earlier(first, Some(next)))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.begin(now);
        if let State::Member(link) = &mut self.state {
            if link.retry.is_some_and(|at| at <= now.mono) {
                link.pause = link.pause.saturating_mul(2).min(RETRY_MAX);
                link.retry = Some(now.mono.saturating_add(link.pause));
                let to = link.holder;
                match &link.stage {
                    // The holder has given it up: this end was asleep, or CONFIRM was lost again and again.
                    Stage::Proving { until, .. } if *until <= now.mono => self.link(to),
                    Stage::Starting { body } | Stage::Proving { body, .. } => {
                        let body = body.clone();
                        self.transmit(KeyTransmit::Relay { to, body });
                    }
                    Stage::Linked => {
                        link.retry = None;
                        self.ask();
                    }
                }
            }
        }
        self.settle();
    }

    pub(crate) fn transmit(&mut self, transmit: KeyTransmit) {
        if self.transmits.len() < MAX_TRANSMITS {
            self.transmits.push_back(transmit);
        }
    }

    pub(crate) fn event(&mut self, event: KeyEvent) {
        self.events.push_back(event);
    }

    // Both ends of every call.

    /// Time passes: keys and held tokens are given up.
    fn begin(&mut self, now: Now) {
        self.now = now;
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
        if over(self.away) {
            self.away = None;
            self.forget_epochs(|_, _| true);
        }
        if self.epochs.values().any(|key| over(key.until)) {
            self.forget_epochs(|_, key| over(key.until));
        }
        while self.held.front().is_some_and(|held| held.until <= now.mono) {
            let Some(held) = self.held.pop_front() else { break };
            self.held_octets = self.held_octets.saturating_sub(held.token.len());
            self.events.push_back(KeyEvent::Unreadable { label: held.label });
        }
    }

    /// What follows from a call is done and told.
    fn settle(&mut self) {
        self.drive();
        let ready = self.is_ready();
        if ready != self.told_ready {
            self.told_ready = ready;
            self.events.push_back(match ready {
                true => KeyEvent::Ready { epoch: self.floor },
                false => KeyEvent::Waiting,
            });
        }
    }

    pub(crate) fn forget_epochs(&mut self, gone: impl Fn(u64, &Epoch) -> bool) {
        let vault = &mut self.vault;
        self.epochs.retain(|&epoch, key| {
            let gone = gone(epoch, key);
            if gone {
                vault.forget_epoch(epoch);
            }
            !gone
        });
    }

    fn leave(&mut self, now: Now) {
        self.leave_holder();
        self.state = State::Outside;
        (self.you, self.inside) = (0, false);
        self.knocks.clear();
        self.transmits.clear();
        self.away = Some(now.mono.saturating_add(GRACE));
    }

    /// What was agreed on with a holder, or as one, is worth nothing with the next.
    fn leave_holder(&mut self) {
        self.vault.forget_pairs();
        let floor = self.floor;
        self.forget_epochs(|epoch, _| epoch > floor);
        (self.wanted, self.entry) = (None, None);
    }

    fn fail(&mut self, failure: KeyFailure) {
        self.vault.wipe();
        self.epochs = BTreeMap::new();
        (self.held, self.held_octets) = (VecDeque::new(), 0);
        self.plain.zeroize();
        self.knocks = BTreeMap::new();
        (self.you, self.inside, self.away, self.wanted) = (0, false, None, None);
        self.state = State::Failed(failure);
        self.events.push_back(KeyEvent::Failed(failure));
    }

    // With the holder.

    fn link(&mut self, holder: u64) {
        let context =
            Context { room: &self.room, initiator: (self.you, &self.nick), responder: holder };
        let mut body = Vec::new();
        let Ok(which) = self.vault.start(&context, self.floor, &mut body) else {
            return self.fail(KeyFailure::Passphrase);
        };
        let retry = Some(self.now.mono.saturating_add(RETRY));
        self.transmit(KeyTransmit::Relay { to: holder, body: body.clone() });
        let stage = Stage::Starting { body };
        self.state = State::Member(Link { holder, which, stage, retry, pause: RETRY });
    }

    fn replied(&mut self, reply: &[u8; REPLY]) {
        let State::Member(link) = &mut self.state else { return };
        if !matches!(link.stage, Stage::Starting { .. }) {
            return;
        }
        let (to, which) = (link.holder, link.which);
        let mut body = Vec::new();
        if self.vault.finish(self.now.unix, reply, self.floor, &mut body).is_err() {
            Body::Fail { which, why: Refusal::Proof }.put(&mut body);
            self.transmit(KeyTransmit::Relay { to, body });
            return self.fail(KeyFailure::Passphrase);
        }
        link.pause = RETRY;
        link.retry = Some(self.now.mono.saturating_add(RETRY));
        let until = self.now.mono.saturating_add(AGREE_WITHIN);
        link.stage = Stage::Proving { body: body.clone(), until };
        self.transmit(KeyTransmit::Relay { to, body });
    }

    fn wrapped(&mut self, token: &[u8]) {
        let State::Member(link) = &mut self.state else { return };
        let Ok((newest, epochs)) =
            self.vault.unwrap(self.now.unix, &self.room, self.you, self.floor, token)
        else {
            return;
        };
        if matches!(link.stage, Stage::Proving { .. }) {
            (link.stage, link.retry) = (Stage::Linked, None);
        }
        self.entry.get_or_insert(newest);
        for (epoch, covers) in epochs {
            self.epochs.insert(epoch, Epoch::new(covers));
        }
        self.trim_pending();
        self.activate();
        if self.wanted.is_some() {
            self.ask_later();
        }
    }

    /// Of keys that are made and never announced, the oldest are forgotten.
    pub(crate) fn trim_pending(&mut self) {
        let pending = self.epochs.range(self.floor.saturating_add(1)..).rev();
        if let Some((&oldest, _)) = pending.clone().nth(MAX_WRAPPED) {
            let floor = self.floor;
            self.forget_epochs(|epoch, _| epoch > floor && epoch <= oldest);
        }
    }

    /// Asks for the key that is missing, if there is somebody to ask.
    fn ask(&mut self) {
        let State::Member(Link { holder, stage: Stage::Linked, retry, .. }) = &mut self.state
        else {
            return;
        };
        if self.wanted.is_none() {
            *retry = None;
            return;
        }
        let mut body = Vec::new();
        let to = *holder;
        if self.vault.resync(self.now.unix, self.floor, &mut body).is_ok() {
            self.transmit(KeyTransmit::Relay { to, body });
        }
        self.ask_later();
    }

    fn ask_later(&mut self) {
        if let State::Member(Link { stage: Stage::Linked, retry, .. }) = &mut self.state {
            *retry = Some(self.now.mono.saturating_add(RETRY));
        }
    }

    /// Makes the wanted epoch the active one, if its key is there or can be derived.
    fn activate(&mut self) {
        let Some(Wanted { epoch, fresh, check }) = self.wanted else { return };
        // Until the key that it was let in with is active, this may be of a room that has emptied since,
        // whose numbers are used again.
        let ahead = match self.entry {
            Some(entry) => self.floor < entry && epoch >= entry,
            None => !self.is_holder(),
        };
        let derives = !fresh && !ahead;
        let fits = if self.epochs.contains_key(&epoch) {
            self.vault.fits(&self.room, epoch, &check)
        } else if let (true, Some(from)) = (derives, self.epochs.get(&self.floor)) {
            let covers = from.covers;
            let derived = self.vault.ratchet(&self.room, self.floor, epoch, Some(&check)).is_ok();
            if derived {
                self.epochs.insert(epoch, Epoch::new(covers));
            }
            derived
        } else {
            false
        };
        if !fits {
            return;
        }
        (self.floor, self.inside, self.wanted) = (epoch, true, None);
        let until = self.now.mono.saturating_add(GRACE);
        for (_, key) in self.epochs.range_mut(..epoch) {
            key.until.get_or_insert(until);
        }
        if let Some((&oldest, _)) = self.epochs.range(..epoch).rev().nth(MAX_FORMER) {
            self.forget_epochs(|epoch, _| epoch <= oldest);
        }
        self.events.push_back(KeyEvent::Rotated { epoch, fresh });
        self.ask();
        self.read_held();
    }

    fn read_held(&mut self) {
        let mut waiting = VecDeque::new();
        for held in core::mem::take(&mut self.held) {
            if held.epoch > self.floor {
                waiting.push_back(held);
                continue;
            }
            self.held_octets = self.held_octets.saturating_sub(held.token.len());
            let Held { sender, ref to, epoch, counter, ref token, label, .. } = held;
            let read = self.read(&Outer { sender, to, epoch, counter }, token, false);
            self.events.push_back(match read {
                Some(message) => KeyEvent::Opened { label, message },
                None => KeyEvent::Unreadable { label },
            });
        }
        self.held = waiting;
    }
}

/// Empties a buffer; what was in it does not stay behind where it grows.
fn reuse(plain: &mut Zeroizing<Vec<u8>>, len: usize) {
    if plain.capacity() < len {
        plain.zeroize();
        plain.reserve_exact(len);
    }
    plain.clear();
}
