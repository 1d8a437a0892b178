//! The server: rooms, members, and who gets what.
//!
//! Each room has one log. What is said in a turn is encoded once, frozen when the turn ends, and
//! handed to each member by reference; a member is a cursor into the log. One who reads slowly
//! falls behind without costing anything, until it is too far behind and is told what it missed
//! ([`SlowPolicy`]). Fan-out, history and gaps are this one structure.
//!
//! A room is in clear or sealed; how sealed ones are entered is in `hub/door.rs`.

mod door;

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use rand_core::RngCore;
use semfio_frame::Dialect;
use semfio_keysync::{Guard, GuardConfig, Key};
use semfio_machine::{Closed, ConnId, Deadline, Instant, Net, Now, Peer, Rng, Seed, Service};

use self::door::{Candidate, Door};
pub use self::door::{DOOR_WITHIN, MAX_CANDIDATE_RELAYS, MAX_CANDIDATES, ROTATE_WITHIN};
use crate::command::{HELP, Typed};
use crate::line;
use crate::log::{Log, LogLimits, RAW_PIECE};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::text::{self, Folded, MAX_TEXT, sanitize};
use crate::token::{self, Cleartext};
use crate::wire::{
    Entry, ErrorCode, MAX_FRAME, Manner, Request, Response, Sealed, SessionKey, What, Why,
    put_names,
};

/// How a [`Hub`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// The room of those who name none. Default `lobby`.
    pub room: String,
    /// What each room keeps.
    pub log: LogLimits,
    /// Entries a newcomer is shown. Default 20, a screenful.
    pub backlog: u64,
    /// Rooms at once; an empty one makes way, but `room` always has its place. Default 64, at 1 MiB
    /// of frames each, and as much again for line and for raw members.
    pub rooms: usize,
    /// Rooms one member may be in. Default 16.
    pub rooms_each: usize,
    /// Bytes that may be added while a member is behind, before the policy applies; what a room kept
    /// from before its JOIN does not count. Default 256 KiB.
    pub lag: u64,
    /// What happens to those who are further behind.
    pub slow: SlowPolicy,
    /// A framed member that is silent for so long is pinged, and dropped after as much again.
    /// Default 60 s.
    pub idle: Duration,
    /// Whether nothing is taken in clear: lines and raw texts are turned away, and all rooms are
    /// entered with a passphrase. Default `false`.
    pub sealed_only: bool,
    /// What the application is told.
    pub reports: Reports,
    /// Speaks tokens in place of lines and raw texts, as the course's secure chat does: the key, drawn from
    /// the seed, goes in clear to whoever comes. It keeps nothing secret. Not where all is sealed. Default
    /// `false`.
    pub insecure_cleartext_key: bool,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            room: "lobby".to_owned(),
            log: LogLimits::default(),
            backlog: 20,
            rooms: 64,
            rooms_each: 16,
            lag: 256 * 1024,
            slow: SlowPolicy::Gap,
            idle: Duration::from_secs(60),
            sealed_only: false,
            reports: Reports::Members,
            insecure_cleartext_key: false,
        }
    }
}

/// What happens to a member that is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It goes on with the newest entry, is told which it missed, and may ask for them.
    Gap,
    /// It is dropped.
    Disconnect,
}

/// How much a [`Hub`] tells its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// Nothing.
    None,
    /// Who comes and goes.
    Members,
    /// What is said, too.
    All,
}

/// What a [`Hub`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubReport {
    /// Somebody was let in.
    Joined {
        /// From where.
        address: SocketAddr,
        /// Speaking how.
        dialect: Dialect,
        /// Under this name.
        nick: String,
    },
    /// Somebody is gone.
    Left {
        /// Who.
        nick: String,
        /// Why, for people.
        why: String,
    },
    /// Somebody was turned away or dropped for breaking the protocol.
    Refused {
        /// From where.
        address: SocketAddr,
        /// How.
        error: SessionError,
    },
    /// Somebody missed entries.
    Gap {
        /// Who.
        nick: String,
        /// In which room.
        room: String,
        /// How many.
        missed: u64,
    },
    /// Somebody sent what is no token, or not under the key; it went to nobody.
    Unreadable {
        /// Who.
        nick: String,
    },
    /// Something was said.
    Said {
        /// In which room; private messages are not reported.
        room: String,
        /// By whom.
        nick: String,
        /// What.
        text: String,
    },
    /// Something sealed was said.
    Sealed {
        /// In which room; private messages are not reported.
        room: String,
        /// By whom.
        nick: String,
        /// How long the token is.
        len: usize,
    },
    /// Somebody was turned away who speaks in clear.
    InClear {
        /// From where.
        address: SocketAddr,
        /// Speaking how.
        dialect: Dialect,
    },
    /// Somebody is at the door of a sealed room.
    Knocked {
        /// Which room.
        room: String,
        /// Who.
        nick: String,
    },
    /// Somebody was not let in.
    NotAdmitted {
        /// Into which room.
        room: String,
        /// Who.
        nick: String,
        /// Why.
        why: Why,
    },
    /// Somebody has guessed too often. Told once a connection.
    Limited {
        /// From where: an IPv4 address, or an IPv6 /64.
        source: IpAddr,
        /// How long it has to wait.
        pause: Duration,
    },
    /// The holder of a room's keys announced none in time.
    PassedOver {
        /// Which room.
        room: String,
        /// Who it was.
        nick: String,
    },
}

/// What an application tells a [`Hub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubMessage {
    /// Say goodbye to everybody, then stop.
    Stop,
}

/// A chat server: a [`Service`] over [`Session`]s.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    rng: Rng,
    cleartext: Option<Cleartext>,
    epoch: u64,
    rooms: Vec<Option<Room>>,
    room_names: BTreeMap<Folded, usize>,
    /// By the index of the connection.
    members: Vec<Option<Member>>,
    nicks: BTreeMap<Folded, ConnId>,
    sessions: BTreeMap<SessionKey, ConnId>,
    guests: u32,
    /// The highest number in a room that made way. New rooms count on from there, so that a number
    /// from a room of the same name before is never taken for one of theirs.
    floor: u64,
    /// Rooms whose log has grown since it was handed out.
    dirty: VecDeque<usize>,
    /// Members to whom an ACK is due.
    acks: Vec<ConnId>,
    leaving: Vec<ConnId>,
    small: BytesMut,
    sweep: Option<Instant>,
    /// At all doors, the oldest first.
    candidates: VecDeque<Candidate>,
    /// When something at a door may have taken too long.
    doors: Option<Instant>,
    guard: Guard<IpAddr>,
    reports: VecDeque<HubReport>,
}

/// Why a request is not carried out.
type Refusal = (ErrorCode, String);

#[derive(Debug)]
struct Room {
    name: String,
    log: Log,
    seats: Vec<Seat>,
    raw_seats: usize,
    dirty: bool,
    /// If it is sealed.
    door: Option<Door>,
}

/// A member in a room.
#[derive(Debug)]
struct Seat {
    conn: ConnId,
    dialect: Dialect,
    /// The number of the chunk it gets next.
    cursor: u64,
    /// The cursor of what came after it.
    joined: u64,
    /// The newest sequence number it was given or told of.
    seen: u64,
}

#[derive(Debug)]
struct Member {
    conn: ConnId,
    dialect: Dialect,
    nick: String,
    session: SessionKey,
    /// Room and place in its seats.
    seats: Vec<(usize, usize)>,
    /// Where it speaks if it names no room.
    present: Option<usize>,
    heard: Instant,
    pinged: bool,
    /// It was reported to guess too often.
    limited: bool,
    ack: Option<(u32, u64)>,
}

/// Room for small frames, taken at once.
const SMALL: usize = 4096;
/// What must be left of it for one more. Frames share a block, so that one that waits does not hold
/// a block of its own.
const SMALL_FRAME: usize = 128;
/// The least time between two looks for idle members, so that no `idle` makes the timer spin.
const SWEEP_MIN: Duration = Duration::from_millis(100);
/// What one is told who speaks in clear in a sealed room, or to a server of sealed rooms.
const SEALED_ROOM: &str = "this room is sealed; join it with a passphrase";
const SEALED_ONLY: &str = "this server takes nothing in clear; join with a passphrase";
/// Bytes of history that answer one request.
const HISTORY_REPLY: usize = 256 * 1024;

impl Hub {
    /// A server without members. Session keys and the epoch come from `seed`, and the
    /// [cleartext key](HubConfig::insecure_cleartext_key), if it is given no other.
    pub fn new(config: HubConfig, seed: &Seed) -> Self {
        let tokens = config.insecure_cleartext_key && !config.sealed_only;
        let mut rng = seed.stream(0);
        let epoch = rng.next_u64();
        Self {
            cleartext: tokens.then(|| Cleartext::new(seed)),
            config,
            rng,
            epoch,
            rooms: Vec::new(),
            room_names: BTreeMap::new(),
            members: Vec::new(),
            nicks: BTreeMap::new(),
            sessions: BTreeMap::new(),
            guests: 0,
            floor: 0,
            dirty: VecDeque::new(),
            acks: Vec::new(),
            leaving: Vec::new(),
            small: BytesMut::new(),
            sweep: None,
            candidates: VecDeque::new(),
            doors: None,
            guard: Guard::new(GuardConfig::default()),
            reports: VecDeque::new(),
        }
    }

    /// The same, with this key in place of that from the seed: so that the seed can be written down.
    pub fn with_cleartext_key(mut self, key: Arc<Key>) -> Self {
        if let Some(cleartext) = &mut self.cleartext {
            cleartext.key = key;
        }
        self
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.nicks.len()
    }

    /// The sequence number of a room's newest entry.
    pub fn newest(&self, room: &str) -> Option<u64> {
        let at = self.room_names.get(&Folded::new(room))?;
        self.rooms.get(*at)?.as_ref().map(|room| room.log.newest())
    }

    fn member(&self, conn: ConnId) -> Option<&Member> {
        self.members.get(conn.index as usize)?.as_ref().filter(|member| member.conn == conn)
    }

    fn member_mut(&mut self, conn: ConnId) -> Option<&mut Member> {
        self.members.get_mut(conn.index as usize)?.as_mut().filter(|member| member.conn == conn)
    }

    fn room_mut(&mut self, at: usize) -> Option<&mut Room> {
        self.rooms.get_mut(at)?.as_mut()
    }

    fn find_room(&self, name: &str) -> Option<usize> {
        self.room_names.get(&Folded::new(name)).copied()
    }

    /// The room of this name, if the member is in it; for each message, so without allocating.
    fn room_of(&self, conn: ConnId, name: &str) -> Option<usize> {
        let named = |at: &usize| {
            let room = self.rooms.get(*at).and_then(Option::as_ref);
            room.is_some_and(|room| room.name.eq_ignore_ascii_case(name))
        };
        self.member(conn)?.seats.iter().map(|seat| seat.0).find(named)
    }

    // Who is here.

    fn admit(&mut self, now: Now, conn: ConnId, dialect: Dialect, nick: &str, address: SocketAddr) {
        let mut session = SessionKey::default();
        self.rng.fill_bytes(&mut session);
        let member = Member {
            conn,
            dialect,
            nick: nick.to_owned(),
            session,
            seats: Vec::new(),
            present: None,
            heard: now.mono,
            pinged: false,
            limited: false,
            ack: None,
        };
        let at = conn.index as usize;
        if self.members.len() <= at {
            if at >= self.members.capacity() {
                let missing = at.saturating_add(1).saturating_sub(self.members.len());
                self.members.reserve_exact(missing.max(spare(self.members.len())));
            }
            self.members.resize_with(at.saturating_add(1), || None);
        }
        if let Some(slot) = self.members.get_mut(at) {
            *slot = Some(member);
        }
        self.nicks.insert(Folded::new(nick), conn);
        self.sessions.insert(session, conn);
        self.sweep.get_or_insert(now.mono.saturating_add(self.config.idle));
        if self.config.reports != Reports::None {
            let nick = nick.to_owned();
            self.reports.push_back(HubReport::Joined { address, dialect, nick });
        }
    }

    fn dismiss(
        &mut self,
        now: Now,
        conn: ConnId,
        why: impl FnOnce() -> String,
        net: &mut Net<Session>,
    ) {
        if self.member(conn).is_none() {
            return;
        }
        let Some(member) = self.members.get_mut(conn.index as usize).and_then(Option::take) else {
            return;
        };
        self.nicks.remove(&Folded::new(&member.nick));
        self.sessions.remove(&member.session);
        self.leave_doors(now, conn, None, net);
        for &(room, place) in &member.seats {
            self.unseat(now, room, place, &member.nick, net);
        }
        if self.config.reports != Reports::None {
            self.reports.push_back(HubReport::Left { nick: member.nick, why: why() });
        }
    }

    fn guest(&mut self, dialect: Dialect) -> String {
        let kind = match dialect {
            Dialect::Raw => "raw",
            Dialect::Token => "token",
            Dialect::Framed | Dialect::Line => "guest",
        };
        loop {
            self.guests = self.guests.wrapping_add(1);
            let nick = format!("{kind}-{}", self.guests);
            if !self.nicks.contains_key(&Folded::new(&nick)) {
                return nick;
            }
        }
    }

    fn rename(
        &mut self,
        now: Now,
        conn: ConnId,
        nick: &str,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        let folded = Folded::new(nick);
        if self.nicks.get(&folded).is_some_and(|&holder| holder != conn) {
            return Err((ErrorCode::NickInUse, format!("the name {nick} is in use")));
        }
        if self.doors_of(conn) > 0 {
            // Who judges it there judges this name.
            return Err((ErrorCode::Unexpected, "not at a door; wait".into()));
        }
        let Some(member) = self.member_mut(conn) else {
            return Ok(());
        };
        let old = core::mem::replace(&mut member.nick, nick.to_owned());
        let dialect = member.dialect;
        let rooms: Vec<usize> = member.seats.iter().map(|seat| seat.0).collect();
        self.nicks.remove(&Folded::new(&old));
        self.nicks.insert(folded, conn);
        if rooms.is_empty() {
            let (time, what) = (now.unix.as_millis(), What::Nick(nick));
            let entry = Entry { seq: 0, time, room: "", nick: &old, what };
            let cleartext = self.cleartext.as_mut();
            let _ = tell_entry(now, &mut self.small, cleartext, conn, dialect, &entry, net);
        }
        for room in rooms {
            self.append(now, room, &old, What::Nick(nick));
        }
        Ok(())
    }

    // Rooms.

    fn open_room(&mut self, name: &str) -> Option<usize> {
        if let Some(at) = self.find_room(name) {
            return Some(at);
        }
        let is_home = |name: &str| name.eq_ignore_ascii_case(&self.config.room);
        let others = self.rooms.iter().flatten().filter(|room| !is_home(&room.name)).count();
        if others.saturating_add(1) >= self.config.rooms && !is_home(name) {
            let empty = |room: &Option<Room>| {
                room.as_ref().is_some_and(|r| r.seats.is_empty() && !is_home(&r.name))
            };
            let at = self.rooms.iter().position(empty)?;
            let room = self.rooms.get_mut(at)?.take()?;
            self.floor = self.floor.max(room.log.newest());
            self.room_names.remove(&Folded::new(&room.name));
            self.dirty.retain(|&dirty| dirty != at);
        }
        let room = Room {
            name: name.to_owned(),
            log: Log::new(self.config.log, self.config.lag, self.floor),
            seats: Vec::new(),
            raw_seats: 0,
            dirty: false,
            door: None,
        };
        let at = match self.rooms.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.rooms.push(None);
                self.rooms.len().saturating_sub(1)
            }
        };
        *self.rooms.get_mut(at)? = Some(room);
        self.room_names.insert(Folded::new(name), at);
        Some(at)
    }

    fn join(
        &mut self,
        now: Now,
        conn: ConnId,
        name: &str,
        since: u64,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        let Some(member) = self.member(conn) else {
            return Ok(());
        };
        let dialect = member.dialect;
        let places = member.seats.len().saturating_add(self.doors_of(conn));
        if let Some(at) = self.find_room(name) {
            if member.seats.iter().any(|seat| seat.0 == at) {
                if let Some(member) = self.member_mut(conn) {
                    member.present = Some(at);
                }
                self.tell_names(conn, at, net);
                return Ok(());
            }
            if self.is_sealed(at) {
                return Err((ErrorCode::Sealed, SEALED_ROOM.into()));
            }
        }
        if self.config.sealed_only {
            return Err((ErrorCode::Sealed, SEALED_ONLY.into()));
        }
        self.check_places(places)?;
        let Some(at) = self.open_room(name) else {
            return Err((ErrorCode::TooManyRooms, "the server has no room left for rooms".into()));
        };
        self.take_mode(at, false);
        let backlog = if is_plain(dialect) { 0 } else { self.config.backlog };
        self.seat(now, conn, at, (since, backlog), net);
        Ok(())
    }

    /// Refuses one more room to who has all it may have.
    fn check_places(&self, places: usize) -> Result<(), Refusal> {
        let limit = self.config.rooms_each;
        if places < limit {
            return Ok(());
        }
        Err((ErrorCode::TooManyRooms, format!("in {limit} rooms already")))
    }

    /// Gives a member a seat, the names, and what was said after `since`; if that is 0 or nothing that
    /// was ever said here, the last `backlog` entries.
    fn seat(
        &mut self,
        now: Now,
        conn: ConnId,
        at: usize,
        (since, backlog): (u64, u64),
        net: &mut Net<Session>,
    ) {
        let Some((dialect, nick)) = self.member(conn).map(|m| (m.dialect, m.nick.clone())) else {
            return;
        };
        let Some(room) = self.room_mut(at) else {
            return;
        };
        // The cut between what it is shown and what it will be told lies here.
        room.log.freeze();
        let newest = room.log.newest();
        let from = if since > 0 && since <= newest {
            since.saturating_add(1)
        } else {
            newest.saturating_add(1).saturating_sub(backlog).max(room.log.oldest())
        };
        let cursor = room.log.cursor_of(from);
        let joined = room.log.end();
        let mut seat = Seat { conn, dialect, cursor, joined, seen: from.saturating_sub(1) };
        seat.start(&mut room.log, &room.name, from, net);
        room.raw_seats = room.raw_seats.saturating_add(usize::from(is_plain(dialect)));
        let place = room.seats.len();
        if room.seats.len() == room.seats.capacity() {
            room.seats.reserve_exact(spare(room.seats.len()));
        }
        room.seats.push(seat);
        if let Some(member) = self.member_mut(conn) {
            member.seats.reserve_exact(1);
            member.seats.push((at, place));
            member.present = Some(at);
        }
        self.append(now, at, &nick, What::Join);
        self.tell_names(conn, at, net);
    }

    fn part(
        &mut self,
        now: Now,
        conn: ConnId,
        at: usize,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        let not_there = || (ErrorCode::NotMember, "not in that room".into());
        if self.leave_doors(now, conn, Some(at), net) {
            return Ok(());
        }
        let member = self.member_mut(conn).ok_or_else(not_there)?;
        let index = member.seats.iter().position(|seat| seat.0 == at).ok_or_else(not_there)?;
        let (_, place) = member.seats.remove(index);
        if member.present == Some(at) {
            member.present = member.seats.last().map(|seat| seat.0);
        }
        let (nick, dialect) = (member.nick.clone(), member.dialect);
        self.finish(at, place, net);
        let seq = self.unseat(now, at, place, &nick, net);
        let Some(room) = self.rooms.get(at).and_then(Option::as_ref) else {
            return Ok(());
        };
        let time = now.unix.as_millis();
        let entry = Entry { seq, time, room: &room.name, nick: &nick, what: What::Part };
        let cleartext = self.cleartext.as_mut();
        let _ = tell_entry(now, &mut self.small, cleartext, conn, dialect, &entry, net);
        Ok(())
    }

    /// Hands a leaving member all that it has yet to get: it will not be called again.
    fn finish(&mut self, at: usize, place: usize, net: &mut Net<Session>) {
        let lag = self.config.lag;
        let Some(room) = self.room_mut(at) else {
            return;
        };
        room.log.freeze();
        if let Some(seat) = room.seats.get_mut(place) {
            seat.skip(&room.log, lag, &room.name, net);
            while seat.pass(&mut room.log, net) {}
        }
    }

    /// Takes a seat away; the last seat of the room moves to its place.
    fn unseat(
        &mut self,
        now: Now,
        at: usize,
        place: usize,
        nick: &str,
        net: &mut Net<Session>,
    ) -> u64 {
        let Some(room) = self.room_mut(at) else {
            return 0;
        };
        if place >= room.seats.len() {
            return 0;
        }
        let seat = room.seats.swap_remove(place);
        room.raw_seats = room.raw_seats.saturating_sub(usize::from(is_plain(seat.dialect)));
        let moved = room.seats.get(place).map(|seat| seat.conn);
        if let Some(moved) = moved.and_then(|conn| self.member_mut(conn)) {
            if let Some(seat) = moved.seats.iter_mut().find(|seat| seat.0 == at) {
                seat.1 = place;
            }
        }
        let seq = self.append(now, at, nick, What::Part);
        self.vacate(now, at, seat.conn, net);
        seq
    }

    /// Appends to a room's log; members get it when the turn ends.
    fn append(&mut self, now: Now, at: usize, nick: &str, what: What<'_>) -> u64 {
        let room = self.rooms.get_mut(at).and_then(Option::as_mut);
        room.map_or(0, |room| room.append(now, at, nick, what, Vec::new(), &mut self.dirty))
    }

    /// Appends what a member says, if it is in the room.
    fn say(
        &mut self,
        now: Now,
        conn: ConnId,
        at: Option<usize>,
        what: What<'_>,
        raw: Raw<'_>,
    ) -> Result<u64, Refusal> {
        let seated = |m: &&Member| at.is_some_and(|at| m.seats.iter().any(|seat| seat.0 == at));
        let (Some(member), Some(at)) = (find(&self.members, conn).filter(seated), at) else {
            return Err((ErrorCode::NotMember, "not in that room; join it first".into()));
        };
        let Some(room) = self.rooms.get_mut(at).and_then(Option::as_mut) else {
            return Ok(0);
        };
        if room.door.is_some() {
            return Err((ErrorCode::Sealed, SEALED_ROOM.into()));
        }
        let raw = match (raw, what) {
            _ if room.raw_seats == 0 => Vec::new(),
            (Raw::Nothing, _) => Vec::new(),
            (Raw::Token(token), _) => alloc::vec![Bytes::copy_from_slice(token)],
            (Raw::Text(_), What::Said(Manner::Action, text)) => {
                let action = format!("* {} {text}", member.nick);
                raw_pieces(now, self.cleartext.as_mut(), action.as_bytes())
            }
            (Raw::Text(text), _) => raw_pieces(now, self.cleartext.as_mut(), text),
        };
        let seq = room.append(now, at, &member.nick, what, raw, &mut self.dirty);
        if let (Reports::All, What::Said(_, text)) = (self.config.reports, what) {
            let (room, nick) = (room.name.clone(), member.nick.clone());
            self.reports.push_back(HubReport::Said { room, nick, text: text.to_owned() });
        }
        Ok(seq)
    }

    fn whisper(
        &mut self,
        now: Now,
        conn: ConnId,
        to: &str,
        text: &str,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        if self.config.sealed_only {
            return Err((ErrorCode::Sealed, SEALED_ONLY.into()));
        }
        let Some(&target) = self.nicks.get(&Folded::new(to)) else {
            return Err((ErrorCode::NoSuchNick, format!("nobody is called {to}")));
        };
        let (Some(from), Some(whom)) = (self.member(conn), self.member(target)) else {
            return Ok(());
        };
        let (nick, dialect, room) = (from.nick.clone(), whom.dialect, whom.nick.clone());
        let own = from.dialect;
        let what = What::Said(Manner::Private, text);
        let entry = Entry { seq: 0, time: now.unix.as_millis(), room: &room, nick: &nick, what };
        let cleartext = self.cleartext.as_mut();
        let small = &mut self.small;
        if !net.has_room(target) || !tell_entry(now, small, cleartext, target, dialect, &entry, net)
        {
            return Err((ErrorCode::TooSlow, format!("{to} does not read at the moment")));
        }
        if own == Dialect::Line && target != conn {
            tell_entry(now, &mut self.small, None, conn, own, &entry, net);
        }
        Ok(())
    }

    // What is asked.

    fn handle_request(
        &mut self,
        now: Now,
        conn: ConnId,
        request: Request<'_>,
        net: &mut Net<Session>,
    ) {
        let no_room = || (ErrorCode::NotMember, String::from("there is no such room"));
        let mut refused_tag = 0;
        let result = match request {
            Request::Join { since, room } => self.join(now, conn, room, since, net),
            Request::Part { room } => match self.find_room(room) {
                Some(at) => self.part(now, conn, at, net),
                None => Err(no_room()),
            },
            Request::Nick { nick } => self.rename(now, conn, nick, net),
            Request::Msg { tag, manner: Manner::Private, to, text } => {
                refused_tag = tag;
                self.whisper(now, conn, to, text, net).map(|()| self.ack(conn, tag, 0))
            }
            Request::Msg { tag, manner, to, text } => {
                refused_tag = tag;
                let (at, what) = (self.room_of(conn, to), What::Said(manner, text));
                self.say(now, conn, at, what, Raw::Text(text.as_bytes()))
                    .map(|seq| self.ack(conn, tag, seq))
            }
            Request::Who { room } => match self.find_room(room) {
                Some(at) => self.who(conn, at, net),
                None => Err(no_room()),
            },
            Request::History { from, count, room } => match self.find_room(room) {
                Some(at) => self.tell_history(conn, at, from, u64::from(count), net),
                None => Err(no_room()),
            },
            Request::Sealed { tag, room, to, epoch, counter, token } => {
                refused_tag = tag;
                let sealed = Sealed { sender: 0, to, epoch, counter, token };
                let said = self.say_sealed(now, conn, room, sealed, net);
                said.map(|seq| self.ack(conn, tag, seq))
            }
            Request::Key { room, ask } => self.handle_ask(now, conn, room, ask, net),
            Request::Hello { .. } | Request::Ping(_) | Request::Pong(_) | Request::Bye => Ok(()),
        };
        if let Err((code, text)) = result {
            let text = &text;
            self.tell(conn, &Response::Error { code, fatal: false, tag: refused_tag, text }, net);
        }
    }

    fn handle_typed(&mut self, now: Now, conn: ConnId, typed: Typed<'_>, net: &mut Net<Session>) {
        let present = self.member(conn).and_then(|member| member.present);
        let named = |hub: &Self, room: Option<&str>| match room {
            Some(room) => hub.find_room(room),
            None => present,
        };
        let no_room = || (ErrorCode::NotMember, String::from("there is no such room"));
        let said = |hub: &mut Self, what, text: &str| {
            hub.say(now, conn, present, what, Raw::Text(text.as_bytes())).map(|_| ())
        };
        let result = match typed {
            Typed::Text(text) => said(self, What::Said(Manner::Text, text), text),
            Typed::Action(text) => said(self, What::Said(Manner::Action, text), text),
            Typed::Private(nick, text) => self.whisper(now, conn, nick, text, net),
            Typed::Nick(nick) => self.rename(now, conn, nick, net),
            Typed::Join(room) => self.join(now, conn, room, 0, net),
            Typed::Part(room) => match named(self, room) {
                Some(at) => self.part(now, conn, at, net),
                None => Err(no_room()),
            },
            Typed::Who(room) => match named(self, room) {
                Some(at) => self.who(conn, at, net),
                None => Err(no_room()),
            },
            Typed::History(from) => match present {
                Some(at) => self.tell_history(conn, at, from, u64::MAX, net),
                None => Err(no_room()),
            },
            Typed::Help => {
                let mut text = String::new();
                for line in HELP {
                    text.push_str(line);
                    text.push('\n');
                }
                let _ = net.send(conn, SessionCommand::Log(&Bytes::from(text)));
                Ok(())
            }
            Typed::Nothing | Typed::Quit => Ok(()),
        };
        if let Err((_, text)) = result {
            let _ = net.send(conn, SessionCommand::Log(&Bytes::from(format!("! {text}\n"))));
        }
    }

    fn handle_hello(
        &mut self,
        now: Now,
        conn: ConnId,
        session: SessionKey,
        nick: &str,
        net: &mut Net<Session>,
    ) {
        if let Err(bad) = crate::text::check_nick(nick) {
            let text = format!("the name is refused: {bad}");
            let _ = net.send(conn, SessionCommand::Fail(bad.into(), &text));
            return;
        }
        if let Some(&ghost) = self.nicks.get(&Folded::new(nick)) {
            if self.sessions.get(&session) != Some(&ghost) {
                let text = format!("the name {nick} is in use");
                let _ = net.send(conn, SessionCommand::Fail(ErrorCode::NickInUse, &text));
                return;
            }
            // It comes back before we have noticed that it was gone.
            net.abort(ghost);
            self.dismiss(now, ghost, || "came back on another connection".into(), net);
        }
        let Some(address) = net.peer(conn).map(|peer| peer.address) else {
            return;
        };
        self.admit(now, conn, Dialect::Framed, nick, address);
        let Some(member) = self.member(conn) else {
            return;
        };
        let welcome = Response::Welcome {
            max_frame: MAX_FRAME as u32,
            session: member.session,
            epoch: self.epoch,
            time: now.unix.as_millis(),
            nick,
        };
        let _ = net.send(conn, SessionCommand::Welcome(&welcome));
    }

    fn handle_spoke(&mut self, now: Now, conn: ConnId, dialect: Dialect, net: &mut Net<Session>) {
        match self.member(conn) {
            // While it was not sure how the peer speaks, the session took nothing.
            Some(member) if member.dialect == dialect => return self.handle_room(now, conn, net),
            Some(_) => self.dismiss(now, conn, || "speaks another dialect now".into(), net),
            None => {}
        }
        if dialect == Dialect::Framed {
            return;
        }
        let Some(address) = net.peer(conn).map(|peer| peer.address) else {
            return;
        };
        let room = self.config.room.clone();
        let sealed = self.find_room(&room).is_some_and(|at| self.is_sealed(at));
        if sealed || self.config.sealed_only {
            // One that has said nothing yet may still turn out to speak frames.
            if net.machine(conn).is_some_and(Session::is_listening) {
                return;
            }
            let text = if self.config.sealed_only { SEALED_ONLY } else { SEALED_ROOM };
            if is_plain(dialect) {
                let line =
                    raw_pieces(now, self.cleartext.as_mut(), format!("! {text}\n").as_bytes());
                let _ = net.send(conn, SessionCommand::Pieces(&line));
            }
            let _ = net.send(conn, SessionCommand::Fail(ErrorCode::Sealed, text));
            if self.config.reports != Reports::None {
                self.reports.push_back(HubReport::InClear { address, dialect });
            }
            return;
        }
        let nick = self.guest(dialect);
        self.admit(now, conn, dialect, &nick, address);
        if dialect == Dialect::Line {
            let hello = format!("* you are {nick}; /nick changes that, /help tells more\n");
            let _ = net.send(conn, SessionCommand::Log(&Bytes::from(hello)));
        }
        let _ = self.join(now, conn, &room, 0, net);
    }

    /// What a member of the course's secure chat says: its token goes on as it is, if its like can
    /// read it.
    fn handle_token(&mut self, now: Now, conn: ConnId, token: &[u8]) {
        let Some(key) = self.cleartext.as_ref().map(|cleartext| &cleartext.key) else {
            return;
        };
        let Some(text) = token::open(key, now, token) else {
            return self.unreadable(conn);
        };
        let at = self.member(conn).and_then(|member| member.present);
        let mut raw = if token.len() <= RAW_PIECE { Raw::Token(token) } else { Raw::Text(&text) };
        for piece in text::pieces(&text, MAX_TEXT) {
            let piece = sanitize(piece);
            // It is in its room until it leaves.
            let _ = self.say(now, conn, at, What::Said(Manner::Text, &piece), raw);
            raw = Raw::Nothing;
        }
    }

    fn unreadable(&mut self, conn: ConnId) {
        if let (Some(member), true) = (self.member(conn), self.config.reports != Reports::None) {
            let nick = member.nick.clone();
            self.reports.push_back(HubReport::Unreadable { nick });
        }
    }

    // What is told.

    fn tell(&mut self, conn: ConnId, response: &Response<'_>, net: &mut Net<Session>) {
        if self.small.capacity() < SMALL_FRAME {
            // Takes back what was sent meanwhile; small frames rarely allocate.
            self.small.reserve(SMALL);
        }
        response.put(&mut self.small);
        let _ = net.send(conn, SessionCommand::Log(&self.small.split().freeze()));
    }

    fn who(&mut self, conn: ConnId, at: usize, net: &mut Net<Session>) -> Result<(), Refusal> {
        let seated = |m: &Member| m.seats.iter().any(|seat| seat.0 == at);
        if self.door(at).is_some() && !self.member(conn).is_some_and(seated) {
            return Err((ErrorCode::NotMember, "there is no such room".into()));
        }
        self.tell_names(conn, at, net);
        Ok(())
    }

    fn tell_names(&mut self, conn: ConnId, at: usize, net: &mut Net<Session>) {
        let Some(dialect) = self.member(conn).map(|member| member.dialect) else {
            return;
        };
        let Some(room) = self.rooms.get(at).and_then(Option::as_ref) else {
            return;
        };
        let names = room
            .seats
            .iter()
            .filter_map(|seat| self.members.get(seat.conn.index as usize)?.as_ref())
            .map(|member| &*member.nick);
        match dialect {
            Dialect::Framed => {
                let total = u32::try_from(room.seats.len()).unwrap_or(u32::MAX);
                put_names(room.log.newest(), total, &room.name, names, &mut self.small);
            }
            Dialect::Line => {
                let mut text = format!("* in {}:", room.name);
                for name in names.take(200) {
                    text.push(' ');
                    text.push_str(name);
                }
                text.push('\n');
                self.small.extend_from_slice(text.as_bytes());
            }
            Dialect::Raw | Dialect::Token => return,
        }
        let _ = net.send(conn, SessionCommand::Log(&self.small.split().freeze()));
    }

    fn tell_history(
        &mut self,
        conn: ConnId,
        at: usize,
        from: u64,
        count: u64,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        let seated = |m: &Member| m.seats.iter().any(|seat| seat.0 == at);
        let dialect = match self.member(conn) {
            Some(member) if seated(member) => member.dialect,
            _ => {
                return Err((ErrorCode::NotMember, "not in that room; join it first".into()));
            }
        };
        let Some(room) = self.rooms.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        room.log.freeze();
        let from = from.max(room.log.oldest());
        let last = room.log.newest().min(from.saturating_add(count).saturating_sub(1));
        let mut pieces = Vec::new();
        let (mut to, mut bytes) = (from.saturating_sub(1), 0_usize);
        let mut cursor = room.log.cursor_of(from);
        while let Some(chunk) = room.log.chunk(cursor) {
            if to >= last || bytes >= HISTORY_REPLY {
                break;
            }
            let piece = match dialect {
                Dialect::Line => chunk.lines_between(from, last),
                _ => chunk.between(from, last),
            };
            bytes = bytes.saturating_add(piece.len());
            to = last.min(chunk.last);
            cursor = cursor.saturating_add(1);
            pieces.push(piece);
        }
        match dialect {
            Dialect::Framed => {
                Response::History { from, to, room: &room.name }.put(&mut self.small);
            }
            Dialect::Line => {
                let head = format!("* history of {}, from {from} to {to}:\n", room.name);
                self.small.extend_from_slice(head.as_bytes());
            }
            Dialect::Raw | Dialect::Token => return Ok(()),
        }
        pieces.insert(0, self.small.split().freeze());
        for piece in &pieces {
            let _ = net.send(conn, SessionCommand::Log(piece));
        }
        Ok(())
    }

    fn ack(&mut self, conn: ConnId, tag: u32, seq: u64) {
        let Some(member) = self.member_mut(conn) else {
            return;
        };
        if member.ack.replace((tag, seq)).is_none() {
            self.acks.push(conn);
        }
    }

    /// Hands what the turn added to everybody in the rooms it was added to.
    fn fan_out(&mut self, now: Now, net: &mut Net<Session>) {
        let lag = self.config.lag;
        let mut late = Vec::new();
        while let Some(at) = self.dirty.pop_front() {
            let Some(room) = self.rooms.get_mut(at).and_then(Option::as_mut) else {
                continue;
            };
            room.dirty = false;
            room.log.freeze();
            for seat in &mut room.seats {
                let missed = seat.catch_up(&mut room.log, &room.name, net);
                if missed > 0 && self.config.reports != Reports::None {
                    let member = find(&self.members, seat.conn);
                    let nick = member.map(|member| member.nick.clone()).unwrap_or_default();
                    let room = room.name.clone();
                    self.reports.push_back(HubReport::Gap { nick, room, missed });
                }
                if self.config.slow == SlowPolicy::Disconnect && seat.is_late(&room.log, lag) {
                    late.push(seat.conn);
                }
            }
            for conn in late.drain(..) {
                net.abort(conn);
                self.dismiss(now, conn, || "too far behind".into(), net);
            }
        }
        while let Some(conn) = self.acks.pop() {
            let Some((tag, seq)) = self.member_mut(conn).and_then(|m| m.ack.take()) else {
                continue;
            };
            self.tell(conn, &Response::Ack { tag, seq }, net);
        }
    }
}

impl Room {
    fn append(
        &mut self,
        now: Now,
        at: usize,
        nick: &str,
        what: What<'_>,
        raw: Vec<Bytes>,
        dirty: &mut VecDeque<usize>,
    ) -> u64 {
        if !self.dirty {
            self.dirty = true;
            dirty.push_back(at);
        }
        self.log.keep_raw(raw);
        self.log.append(now.unix.as_millis(), &self.name, nick, what)
    }
}

impl Seat {
    /// Hands over what is kept from `from` on in the chunk where it lies, and says what is not kept.
    fn start(&mut self, log: &mut Log, room: &str, from: u64, net: &mut Net<Session>) {
        if from < log.oldest() {
            self.tell_gap(from, log.oldest().saturating_sub(1), log, room, net);
        }
        let Some(chunk) = log.chunk(self.cursor) else {
            return;
        };
        let piece = match self.dialect {
            Dialect::Framed => chunk.between(from, u64::MAX),
            Dialect::Line => chunk.lines_between(from, u64::MAX),
            Dialect::Raw | Dialect::Token => return,
        };
        self.seen = chunk.last;
        self.cursor = self.cursor.saturating_add(1);
        let _ = net.send(self.conn, SessionCommand::Log(&piece));
        self.catch_up(log, room, net);
    }

    /// Hands over chunks while there is room for them; `handle_room` goes on. What a long turn has
    /// forgotten already is a gap; how much it was.
    fn catch_up(&mut self, log: &mut Log, room: &str, net: &mut Net<Session>) -> u64 {
        let mut missed = 0;
        if self.cursor < log.base() && net.has_room(self.conn) {
            let (from, oldest) = (self.seen.saturating_add(1), log.oldest());
            missed = oldest.saturating_sub(from);
            self.tell_gap(from, oldest.saturating_sub(1), log, room, net);
            self.cursor = log.base();
        }
        while self.cursor < log.end() && net.has_room(self.conn) && self.pass(log, net) {}
        missed
    }

    /// Hands over the next chunk, if there is one.
    fn pass(&mut self, log: &mut Log, net: &mut Net<Session>) -> bool {
        let Some(chunk) = log.chunk(self.cursor) else {
            return false;
        };
        let sent = match self.dialect {
            Dialect::Framed => net.send(self.conn, SessionCommand::Log(chunk.framed())),
            Dialect::Line => net.send(self.conn, SessionCommand::Log(chunk.lines())),
            Dialect::Raw | Dialect::Token => {
                net.send(self.conn, SessionCommand::Pieces(&chunk.raw))
            }
        };
        if sent.is_err() {
            return false;
        }
        self.seen = chunk.last;
        self.cursor = self.cursor.saturating_add(1);
        true
    }

    /// Whether what it gets next is forgotten, or too much was added meanwhile.
    fn is_late(&self, log: &Log, lag: u64) -> bool {
        self.cursor < log.base() || log.behind(self.cursor.max(self.joined)) > lag
    }

    /// Gives up what lies before the end, if it is late; how much it was. The log is frozen.
    fn skip(&mut self, log: &Log, lag: u64, room: &str, net: &mut Net<Session>) -> u64 {
        if !self.is_late(log, lag) {
            return 0;
        }
        let (from, to) = (self.seen.saturating_add(1), log.newest());
        self.tell_gap(from, to, log, room, net);
        self.cursor = log.end();
        to.saturating_sub(from).saturating_add(1)
    }

    fn tell_gap(&mut self, from: u64, to: u64, log: &Log, room: &str, net: &mut Net<Session>) {
        self.seen = to;
        let oldest = log.oldest();
        let bytes = match self.dialect {
            Dialect::Framed => {
                let mut frame = BytesMut::new();
                Response::Gap { from, to, oldest, room }.put(&mut frame);
                frame.freeze()
            }
            Dialect::Line => {
                let missed = to.saturating_sub(from).saturating_add(1);
                let entries = if missed == 1 { "entry" } else { "entries" };
                let text = format!(
                    "! {missed} {entries} of {room} left out, from {from} to {to}; /history {} shows what is kept\n",
                    from.max(oldest)
                );
                Bytes::from(text)
            }
            Dialect::Raw | Dialect::Token => return,
        };
        let _ = net.send(self.conn, SessionCommand::Log(&bytes));
        for turn in log.turns(from, to) {
            let _ = net.send(self.conn, SessionCommand::Log(&turn));
        }
    }
}

impl Service<Session> for Hub {
    type Message = HubMessage;
    type Report = HubReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Session> {
        Some(match &self.cleartext {
            Some(cleartext) => Session::with_cleartext_key(Arc::clone(&cleartext.key)),
            None => Session::new(),
        })
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Session>) {}

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: SessionEvent<'_>,
        net: &mut Net<Session>,
    ) {
        if let Some(member) = self.member_mut(from) {
            member.heard = now.mono;
            member.pinged = false;
        }
        match event {
            SessionEvent::Spoke(dialect) => self.handle_spoke(now, from, dialect, net),
            SessionEvent::Hello { session, nick } => {
                self.handle_hello(now, from, session, nick, net);
            }
            SessionEvent::Request(request) => self.handle_request(now, from, request, net),
            SessionEvent::Typed(typed) => self.handle_typed(now, from, typed, net),
            SessionEvent::Raw(bytes) => {
                let at = self.member(from).and_then(|member| member.present);
                let text = sanitize(bytes);
                // A raw peer is in its room until it leaves.
                let _ = self.say(now, from, at, What::Said(Manner::Text, &text), Raw::Text(bytes));
            }
            SessionEvent::Token(token) => self.handle_token(now, from, token),
            SessionEvent::Unreadable => self.unreadable(from),
            SessionEvent::Room => self.handle_room(now, from, net),
            SessionEvent::Refused => {}
            SessionEvent::Bye => self.leaving.push(from),
        }
    }

    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Session>) {
        let lag = self.config.lag;
        let Some(member) = find(&self.members, conn) else {
            return;
        };
        for &(at, place) in &member.seats {
            let Some(room) = self.rooms.get_mut(at).and_then(Option::as_mut) else {
                continue;
            };
            let Some(seat) = room.seats.get_mut(place) else {
                continue;
            };
            room.log.freeze();
            let skipped = match self.config.slow {
                SlowPolicy::Gap => seat.skip(&room.log, lag, &room.name, net),
                SlowPolicy::Disconnect => 0,
            };
            let missed = skipped.saturating_add(seat.catch_up(&mut room.log, &room.name, net));
            if missed > 0 && self.config.reports != Reports::None {
                let (nick, room) = (member.nick.clone(), room.name.clone());
                self.reports.push_back(HubReport::Gap { nick, room, missed });
            }
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        if let Closed::Error(error) = why {
            let address = net.peer(conn).map(|peer| peer.address);
            if let (Some(address), true) = (address, self.config.reports != Reports::None) {
                self.reports.push_back(HubReport::Refused { address, error });
            }
        }
        let why = || match why {
            Closed::Done => "left".into(),
            Closed::Error(error) => format!("{error}"),
            Closed::Local => "dropped: it did not read or did not answer".into(),
            Closed::Failed(failure) => format!("{failure}"),
            Closed::Stalled => "stalled".into(),
        };
        self.dismiss(now, conn, why, net);
    }

    fn handle_message(&mut self, now: Now, message: HubMessage, net: &mut Net<Session>) {
        match message {
            HubMessage::Stop => {
                self.fan_out(now, net);
                self.candidates.clear();
                let all: Vec<ConnId> = net.connections().collect();
                for conn in all {
                    self.dismiss(now, conn, || "the server stopped".into(), net);
                    net.close(conn);
                }
                net.stop();
            }
        }
    }

    fn handle_turn(&mut self, now: Now, net: &mut Net<Session>) {
        self.fan_out(now, net);
        if self.leaving.is_empty() {
            return;
        }
        // They get what they said, and what was said before; then they go, and the rest is told.
        let leaving = core::mem::take(&mut self.leaving);
        for &conn in &leaving {
            let seats = self.member(conn).map(|member| member.seats.clone()).unwrap_or_default();
            seats.into_iter().for_each(|(at, place)| self.finish(at, place, net));
        }
        for conn in leaving {
            self.dismiss(now, conn, || "left".into(), net);
            net.close(conn);
        }
        self.fan_out(now, net);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let sweep = self.sweep.map(|at| Deadline { at, why: "idle members" });
        let doors = self.doors.map(|at| Deadline { at, why: "doors" });
        sweep.into_iter().chain(doors).min_by_key(|deadline| deadline.at)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        if self.doors.is_some_and(|at| at <= now.mono) {
            self.handle_doors(now, net);
        }
        if self.sweep.is_some_and(|at| at <= now.mono) {
            self.sweep(now, net);
        }
    }

    fn poll_report(&mut self) -> Option<HubReport> {
        self.reports.pop_front()
    }
}

impl Hub {
    /// Pings those who are silent, and drops those who do not answer.
    fn sweep(&mut self, now: Now, net: &mut Net<Session>) {
        let idle = self.config.idle;
        let mut silent = Vec::new();
        for member in self.members.iter_mut().flatten() {
            let quiet = now.mono.saturating_since(member.heard);
            if member.dialect != Dialect::Framed || quiet < idle {
                continue;
            }
            if member.pinged && quiet >= idle.saturating_mul(2) {
                silent.push((member.conn, true));
            } else if !member.pinged {
                member.pinged = true;
                silent.push((member.conn, false));
            }
        }
        for (conn, gone) in silent {
            if gone {
                net.abort(conn);
            } else {
                self.tell(conn, &Response::Ping(now.mono.as_nanos()), net);
            }
        }
        let pause = idle.checked_div(2).unwrap_or(idle).max(SWEEP_MIN);
        let next = now.mono.saturating_add(pause);
        self.sweep = if self.members.iter().flatten().next().is_some() { Some(next) } else { None };
    }
}

/// Places a table of members grows by: an eighth, since doubling would hold up to twice the
/// memory of what is there.
fn spare(len: usize) -> usize {
    len.checked_div(8).unwrap_or(0).max(8)
}

fn find(members: &[Option<Member>], conn: ConnId) -> Option<&Member> {
    members.get(conn.index as usize)?.as_ref().filter(|member| member.conn == conn)
}

/// What raw readers get of something that is said.
#[derive(Clone, Copy)]
enum Raw<'r> {
    Text(&'r [u8]),
    /// This, as it came.
    Token(&'r [u8]),
    /// They have it already.
    Nothing,
}

/// A text for raw readers: in tokens, where those are spoken.
fn raw_pieces(now: Now, cleartext: Option<&mut Cleartext>, text: &[u8]) -> Vec<Bytes> {
    match cleartext {
        Some(cleartext) => cleartext.seal(now, text),
        None => text::pieces(text, RAW_PIECE).map(Bytes::copy_from_slice).collect(),
    }
}

/// Whether it is told texts only.
fn is_plain(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Raw | Dialect::Token)
}

fn tell_entry(
    now: Now,
    small: &mut BytesMut,
    cleartext: Option<&mut Cleartext>,
    conn: ConnId,
    dialect: Dialect,
    entry: &Entry<'_>,
    net: &mut Net<Session>,
) -> bool {
    match dialect {
        Dialect::Framed => entry.put(small),
        Dialect::Line => {
            let mut text = String::new();
            line::put_entry(entry, &mut text);
            small.extend_from_slice(text.as_bytes());
        }
        Dialect::Raw | Dialect::Token => {
            let What::Said(_, text) = entry.what else {
                return true;
            };
            let pieces = raw_pieces(now, cleartext, text.as_bytes());
            return net.send(conn, SessionCommand::Pieces(&pieces)).is_ok();
        }
    }
    net.send(conn, SessionCommand::Log(&small.split().freeze())).is_ok()
}
