//! Sealed rooms: who is at the door, who is inside, and who holds the keys.
//!
//! The hub has no key and looks into nothing that is sealed. One member inside is the *holder*: it
//! judges who may enter and announces keys; the hub relays between it and the others, and names
//! another when it leaves or stays silent. Those inside stand in a row, the oldest first; the first
//! is the holder, and one that is passed over goes to the end.
//!
//! What a connection is to one room:
//!
//! | is | input | becomes | told |
//! |---|---|---|---|
//! | outside | ENTER, and nobody is inside | holder | JOIN entry; to it DOOR, both numbers equal |
//! | outside | ENTER | candidate | to it DOOR; to the holder KNOCK |
//! | outside | ENTER, as many guesses as may be are under way from its address | waiting | |
//! | outside, waiting | too many guesses or candidates | outside | to it REFUSED |
//! | waiting | a guess from its address was right | candidate | as ENTER |
//! | candidate | ADMIT by the holder | member | JOIN entry |
//! | candidate | REFUSE by the holder | outside | to it REFUSED |
//! | candidate, waiting | [`DOOR_WITHIN`] | outside | to it REFUSED; to the holder GONE |
//! | waiting | the door is full, and somebody comes from an address that has nobody there | outside | to it REFUSED |
//! | candidate, waiting | PART, BYE, connection gone | outside | to the holder GONE |
//! | candidate, waiting | the last inside leaves | the oldest: holder; others: candidate | as ENTER |
//! | member, holder | PART, BYE, connection gone | outside | PART entry; to the holder GONE |
//! | member | it is first now | holder | HOLDER entry; DOOR and KNOCK for each candidate |
//! | holder | EPOCH | holder | EPOCH entry |
//! | holder | the fresh EPOCH after two PARTs or more | the same | PING: it may not know of the last yet |
//! | holder | no fresh EPOCH within [`ROTATE_WITHIN`] of a PART or HOLDER, or nothing after PING | member, last in the row, unless alone | |

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use rand_core::RngCore;
use semfio_keysync::RetryIn;
use semfio_machine::{ConnId, Instant, Net, Now};

use super::{Hub, HubReport, Member, Refusal, Reports, find, tell_entry};
use crate::log::Log;
use crate::session::Session;
use crate::text::Folded;
use crate::wire::{Ask, Entry, ErrorCode, Response, Sealed, Tell, What, Why};

/// How long a candidate may be at the door.
pub const DOOR_WITHIN: Duration = Duration::from_secs(30);
/// How long the holder may take to announce a fresh key after somebody left, or after it was named.
pub const ROTATE_WITHIN: Duration = Duration::from_secs(10);
/// Candidates at one door: each is work for the holder.
pub const MAX_CANDIDATES: usize = 64;
/// Relays of one candidate to one holder: an agreement takes two, and some are asked for again.
pub const MAX_CANDIDATE_RELAYS: u8 = 16;

/// Who is inside a sealed room.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The first is the holder; who comes next takes over from it.
    inside: VecDeque<Insider>,
    /// Until when the holder has to announce a fresh key, if it has to.
    owed: Option<Instant>,
    /// Another left before it did: what it announces may have been made before it knew.
    again: bool,
    /// Since when it is asked whether it is there, and so knows by now.
    asked: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Insider {
    number: u64,
    conn: ConnId,
}

/// One at a door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    room: usize,
    number: u64,
    conn: ConnId,
    since: u64,
    source: IpAddr,
    until: Instant,
    relays: u8,
    /// The holder was told of it. Else it waits until a guess from its address was right: a class
    /// behind one address enters by and by, and guesses no faster than one.
    called: bool,
}

impl Door {
    fn holder(&self) -> Option<Insider> {
        self.inside.front().copied()
    }

    fn is_holder(&self, conn: ConnId) -> bool {
        self.holder().is_some_and(|holder| holder.conn == conn)
    }

    fn number_of(&self, conn: ConnId) -> Option<u64> {
        self.inside.iter().find(|insider| insider.conn == conn).map(|insider| insider.number)
    }

    fn conn_of(&self, number: u64) -> Option<ConnId> {
        self.inside.iter().find(|insider| insider.number == number).map(|insider| insider.conn)
    }

    /// When a silent holder is passed over. One that is alone is not.
    fn due(&self) -> Option<Instant> {
        self.owed.filter(|_| self.inside.len() > 1)
    }
}

impl Hub {
    pub(super) fn door(&self, at: usize) -> Option<&Door> {
        self.rooms.get(at)?.as_ref()?.door.as_ref()
    }

    fn door_mut(&mut self, at: usize) -> Option<&mut Door> {
        self.rooms.get_mut(at)?.as_mut()?.door.as_mut()
    }

    fn room_name(&self, at: usize) -> String {
        let room = self.rooms.get(at).and_then(Option::as_ref);
        room.map(|room| room.name.clone()).unwrap_or_default()
    }

    fn nick_of(&self, conn: ConnId) -> String {
        self.member(conn).map(|member| member.nick.clone()).unwrap_or_default()
    }

    /// Whether somebody is inside a sealed room.
    pub(super) fn is_sealed(&self, at: usize) -> bool {
        self.door(at).is_some_and(|door| !door.inside.is_empty())
    }

    /// At how many doors a connection is.
    pub(super) fn doors_of(&self, conn: ConnId) -> usize {
        self.candidates.iter().filter(|candidate| candidate.conn == conn).count()
    }

    /// An empty room takes the mode of the next who enters. Its log is begun anew if that is another
    /// one; numbers count on.
    pub(super) fn take_mode(&mut self, at: usize, sealed: bool) {
        let (limits, lag) = (self.config.log, self.config.lag);
        let Some(room) = self.room_mut(at) else {
            return;
        };
        if room.seats.is_empty() && room.door.is_some() != sealed {
            room.log = Log::new(limits, lag, room.log.newest());
            room.door = sealed.then(Door::default);
        }
    }

    fn tell_door(&mut self, conn: ConnId, at: usize, tell: Tell<'_>, net: &mut Net<Session>) {
        let room = self.room_name(at);
        self.tell(conn, &Response::Key { room: &room, tell }, net);
    }

    fn tell_holder(&mut self, at: usize, tell: Tell<'_>, net: &mut Net<Session>) {
        if let Some(holder) = self.door(at).and_then(Door::holder) {
            self.tell_door(holder.conn, at, tell, net);
        }
    }

    fn report(&mut self, make: impl FnOnce(&Self) -> HubReport) {
        if self.config.reports != Reports::None {
            let report = make(self);
            self.reports.push_back(report);
        }
    }

    // What is asked.

    pub(super) fn handle_ask(
        &mut self,
        now: Now,
        conn: ConnId,
        room: &str,
        ask: Ask<'_>,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        if let Ask::Enter { since } = ask {
            return self.enter(now, conn, room, since, net);
        }
        let not_there = || (ErrorCode::NotMember, "not in that room, nor at its door".into());
        let at = self.find_room(room).ok_or_else(not_there)?;
        let door = self.door(at).ok_or_else(not_there)?;
        let candidate = self.candidates.iter().position(|c| c.room == at && c.conn == conn);
        if door.number_of(conn).is_none() && candidate.is_none() {
            return Err(not_there());
        }
        if let Ask::Relay { peer, body } = ask {
            self.relay(conn, at, candidate, peer, body, net);
            return Ok(());
        }
        if !door.is_holder(conn) {
            return Err((ErrorCode::Unexpected, "only the holder of the keys may do that".into()));
        }
        match ask {
            Ask::Admit { peer } => {
                if let Some(candidate) = self.take_candidate(at, peer) {
                    self.guard.give_back(&candidate.source);
                    self.seat_candidate(now, candidate, net);
                    self.call_waiting(now, candidate.source, net);
                }
            }
            Ask::Refuse { peer, why } => {
                if let Some(candidate) = self.take_candidate(at, peer) {
                    self.turn_away(candidate, why, net);
                    self.call_waiting(now, candidate.source, net);
                }
            }
            Ask::Epoch { epoch, fresh, check } => {
                let door = self.door_mut(at);
                // One that is derived from the key before is no answer to somebody's leaving.
                if let Some(door) = door.filter(|_| fresh) {
                    let again = core::mem::take(&mut door.again) && door.due().is_some();
                    let until = now.mono.saturating_add(ROTATE_WITHIN);
                    door.owed = again.then_some(until);
                    door.asked = again.then_some(now.mono);
                    if again {
                        self.wake_doors(until);
                        self.tell(conn, &Response::Ping(now.mono.as_nanos()), net);
                    }
                }
                let nick = self.nick_of(conn);
                self.append(now, at, &nick, What::Epoch { epoch, fresh, check });
            }
            Ask::Enter { .. } | Ask::Relay { .. } => {}
        }
        Ok(())
    }

    fn enter(
        &mut self,
        now: Now,
        conn: ConnId,
        name: &str,
        since: u64,
        net: &mut Net<Session>,
    ) -> Result<(), Refusal> {
        let (Some(member), Some(peer)) = (self.member(conn), net.peer(conn)) else {
            return Ok(());
        };
        let source = source(peer.address.ip());
        let places = member.seats.len().saturating_add(self.doors_of(conn));
        let found = self.find_room(name);
        if let Some(at) = found {
            let room = self.rooms.get(at).and_then(Option::as_ref);
            if room.is_some_and(|room| room.door.is_none() && !room.seats.is_empty()) {
                return Err((ErrorCode::NotSealed, "that room is not sealed".into()));
            }
            let seated = member.seats.iter().any(|seat| seat.0 == at);
            if seated || self.candidates.iter().any(|c| c.room == at && c.conn == conn) {
                let text = "in that room or at its door already";
                return Err((ErrorCode::Unexpected, text.into()));
            }
        }
        self.check_places(places)?;
        let Some(at) = found.or_else(|| self.open_room(name)) else {
            return Err((ErrorCode::TooManyRooms, "the server has no room left for rooms".into()));
        };
        self.take_mode(at, true);
        let mut number = 0;
        while number == 0 {
            number = self.rng.next_u64();
        }
        let until = now.mono.saturating_add(DOOR_WITHIN);
        let candidate =
            Candidate { room: at, number, conn, since, source, until, relays: 0, called: false };
        if self.door(at).and_then(Door::holder).is_none() {
            self.seat_candidate(now, candidate, net);
            return Ok(());
        }
        let at_door = self.candidates.iter().filter(|candidate| candidate.room == at).count();
        if at_door >= MAX_CANDIDATES {
            // Or one address would fill the door with those who wait.
            let here = |c: &Candidate| c.room == at && c.source == source;
            let waits = |c: &Candidate| c.room == at && !c.called;
            let newest = self.candidates.iter().rposition(waits);
            let newest = newest.filter(|_| !self.candidates.iter().any(here));
            let turned = newest.and_then(|newest| self.candidates.remove(newest));
            self.turn_away(turned.unwrap_or(candidate), Why::Limit, net);
            if turned.is_none() {
                return Ok(());
            }
        }
        self.candidates.push_back(candidate);
        self.wake_doors(until);
        self.call_waiting(now, source, net);
        Ok(())
    }

    /// Calls those who wait, as far as their address may guess. Without another guess under way that
    /// may turn out right, they are turned away.
    fn call_waiting(&mut self, now: Now, source: IpAddr, net: &mut Net<Session>) {
        let of_source = |c: &Candidate| c.source == source;
        while let Some(index) = self.candidates.iter().position(|c| of_source(c) && !c.called) {
            let Some(candidate) = self.candidates.get_mut(index) else { return };
            let Candidate { room: at, number, conn, .. } = *candidate;
            match self.guard.guess(now.mono, source) {
                Ok(()) => {
                    candidate.called = true;
                    self.present(at, conn, number, net);
                    let nick = self.nick_of(conn);
                    self.report(|hub| HubReport::Knocked { room: hub.room_name(at), nick });
                }
                Err(_) if self.candidates.iter().any(|c| of_source(c) && c.called) => return,
                Err(RetryIn(pause)) => {
                    self.candidates.remove(index);
                    self.tell_door(conn, at, Tell::Refused { why: Why::Limit }, net);
                    let told = |m: &mut Member| core::mem::replace(&mut m.limited, true);
                    if self.member_mut(conn).map(told) == Some(false) {
                        self.report(|_| HubReport::Limited { source, pause });
                    }
                }
            }
        }
    }

    /// Brings a candidate and the holder together.
    fn present(&mut self, at: usize, conn: ConnId, number: u64, net: &mut Net<Session>) {
        let Some(holder) = self.door(at).and_then(Door::holder) else {
            return;
        };
        self.tell_door(conn, at, Tell::Door { you: number, holder: holder.number }, net);
        let nick = self.nick_of(conn);
        self.tell_holder(at, Tell::Knock { peer: number, nick: &nick }, net);
    }

    /// From anybody to the holder, and from the holder to anybody. What cannot be handed over at once
    /// is dropped: who needs it asks again.
    fn relay(
        &mut self,
        conn: ConnId,
        at: usize,
        candidate: Option<usize>,
        peer: u64,
        body: &[u8],
        net: &mut Net<Session>,
    ) {
        let Some((door, holder)) = self.door(at).and_then(|door| Some((door, door.holder()?)))
        else {
            return;
        };
        let (from, to) = if holder.conn == conn {
            let called = |c: &&Candidate| c.room == at && c.number == peer && c.called;
            let waiting = self.candidates.iter().find(called);
            let to = door.conn_of(peer).or_else(|| waiting.map(|candidate| candidate.conn));
            (Some(holder.number), to)
        } else {
            let waiting = candidate.and_then(|index| self.candidates.get(index));
            let waiting = waiting.filter(|candidate| candidate.called);
            let from = door.number_of(conn).or_else(|| waiting.map(|candidate| candidate.number));
            // Meant for one that is not the holder, it was sent before the news of another came.
            (from, Some(holder.conn).filter(|_| peer == holder.number))
        };
        if let Some(candidate) = candidate.and_then(|index| self.candidates.get_mut(index)) {
            if candidate.relays >= MAX_CANDIDATE_RELAYS {
                return;
            }
            candidate.relays = candidate.relays.saturating_add(1);
        }
        if let (Some(peer), Some(to)) = (from, to.filter(|&to| net.has_room(to))) {
            self.tell_door(to, at, Tell::Relay { peer, body }, net);
        }
    }

    /// Appends or hands over what is sealed, if both are in the room.
    pub(super) fn say_sealed(
        &mut self,
        now: Now,
        conn: ConnId,
        room: &str,
        sealed: Sealed<'_>,
        net: &mut Net<Session>,
    ) -> Result<u64, Refusal> {
        let not_there = || (ErrorCode::NotMember, "not in that room; join it first".into());
        let at = self.room_of(conn, room).ok_or_else(not_there)?;
        let room = self.rooms.get_mut(at).and_then(Option::as_mut).ok_or_else(not_there)?;
        let member = find(&self.members, conn).ok_or_else(not_there)?;
        let Some(door) = &room.door else {
            return Err((ErrorCode::NotSealed, "that room is not sealed".into()));
        };
        let sender = door.number_of(conn).ok_or_else(not_there)?;
        let Sealed { to, token, .. } = sealed;
        let what = What::Sealed(Sealed { sender, ..sealed });
        if to.is_empty() {
            let seq = room.append(now, at, &member.nick, what, Vec::new(), &mut self.dirty);
            if self.config.reports == Reports::All {
                let (room, nick) = (room.name.clone(), member.nick.clone());
                self.reports.push_back(HubReport::Sealed { room, nick, len: token.len() });
            }
            return Ok(seq);
        }
        let target = self.nicks.get(&Folded::new(to)).copied();
        let Some(target) = target.filter(|&target| door.number_of(target).is_some()) else {
            let text = alloc::format!("nobody in {} is called {to}", room.name);
            return Err((ErrorCode::NoSuchNick, text));
        };
        let (time, room, nick) = (now.unix.as_millis(), &*room.name, &*member.nick);
        let entry = Entry { seq: 0, time, room, nick, what };
        let dialect = member.dialect;
        let small = &mut self.small;
        if !net.has_room(target) || !tell_entry(now, small, None, target, dialect, &entry, net) {
            let text = alloc::format!("{to} does not read at the moment");
            return Err((ErrorCode::TooSlow, text));
        }
        Ok(0)
    }

    // Who comes and goes.

    /// Takes one from the door.
    fn take_candidate(&mut self, at: usize, number: u64) -> Option<Candidate> {
        let found =
            self.candidates.iter().position(|c| c.room == at && c.number == number && c.called);
        self.candidates.remove(found?)
    }

    /// Tells one that is off the door.
    fn turn_away(&mut self, candidate: Candidate, why: Why, net: &mut Net<Session>) {
        self.tell_door(candidate.conn, candidate.room, Tell::Refused { why }, net);
        self.report(|hub| HubReport::NotAdmitted {
            room: hub.room_name(candidate.room),
            nick: hub.nick_of(candidate.conn),
            why,
        });
    }

    /// Seats one that is off the door. A newcomer is shown nothing of what was said before.
    fn seat_candidate(&mut self, now: Now, candidate: Candidate, net: &mut Net<Session>) {
        let Candidate { room: at, number, conn, since, .. } = candidate;
        let Some(room) = self.room_mut(at) else {
            return;
        };
        let Some(door) = &mut room.door else {
            return;
        };
        door.inside.push_back(Insider { number, conn });
        let opened = door.is_holder(conn);
        // There was nobody to take over while the holder was alone.
        let again = now.mono.saturating_add(ROTATE_WITHIN);
        door.owed = door.owed.map(|at| if door.inside.len() == 2 { again } else { at });
        let due = door.due();
        if opened {
            self.tell_door(conn, at, Tell::Door { you: number, holder: number }, net);
        }
        if let Some(due) = due {
            self.wake_doors(due);
        }
        self.seat(now, conn, at, (since, 0), net);
    }

    /// Takes one that leaves its seat from the row, and has the others told.
    pub(super) fn vacate(&mut self, now: Now, at: usize, conn: ConnId, net: &mut Net<Session>) {
        let Some(door) = self.door_mut(at) else {
            return;
        };
        let Some(place) = door.inside.iter().position(|insider| insider.conn == conn) else {
            return;
        };
        let Some(gone) = door.inside.remove(place) else {
            return;
        };
        if door.inside.is_empty() {
            (door.owed, door.again, door.asked) = (None, false, None);
            return self.open_door(now, at, net);
        }
        door.again |= door.owed.is_some();
        if door.asked.take().is_some() {
            door.owed = None;
        }
        let due = *door.owed.get_or_insert(now.mono.saturating_add(ROTATE_WITHIN));
        self.wake_doors(due);
        if place == 0 {
            self.name_holder(now, at, net);
        }
        self.tell_holder(at, Tell::Gone { peer: gone.number }, net);
        if place == 0 {
            self.introduce(at, net);
        }
    }

    /// Nobody is inside any more: the oldest candidate opens the room.
    fn open_door(&mut self, now: Now, at: usize, net: &mut Net<Session>) {
        let Some(oldest) = self.candidates.iter().position(|candidate| candidate.room == at) else {
            return;
        };
        if let Some(candidate) = self.candidates.remove(oldest) {
            if candidate.called {
                self.guard.give_back(&candidate.source);
            }
            self.seat_candidate(now, candidate, net);
            self.introduce(at, net);
            self.call_waiting(now, candidate.source, net);
        }
    }

    /// Takes one that leaves or is gone from all doors, or from one.
    pub(super) fn leave_doors(
        &mut self,
        now: Now,
        conn: ConnId,
        only: Option<usize>,
        net: &mut Net<Session>,
    ) -> bool {
        let leaves = |c: &Candidate| c.conn == conn && only.is_none_or(|at| c.room == at);
        let mut left = Vec::new();
        self.candidates.retain(|candidate| {
            let stays = !leaves(candidate);
            if !stays {
                left.push(*candidate);
            }
            stays
        });
        for candidate in &left {
            self.off_door(now, candidate, net);
        }
        !left.is_empty()
    }

    /// Tells of one that is off its door, not by a word of the holder.
    fn off_door(&mut self, now: Now, candidate: &Candidate, net: &mut Net<Session>) {
        if candidate.called {
            self.tell_holder(candidate.room, Tell::Gone { peer: candidate.number }, net);
            self.call_waiting(now, candidate.source, net);
        }
    }

    /// Enters in the log that the first in the row is the holder now.
    fn name_holder(&mut self, now: Now, at: usize, net: &mut Net<Session>) {
        let until = now.mono.saturating_add(ROTATE_WITHIN);
        let Some(door) = self.door_mut(at) else {
            return;
        };
        (door.owed, door.again, door.asked) = (Some(until), false, None);
        let Some(holder) = door.holder() else {
            return;
        };
        self.wake_doors(until);
        let nick = self.nick_of(holder.conn);
        self.append(now, at, &nick, What::Holder(holder.number));
        // It learns of its office before of what waits for it there.
        let Some(room) = self.rooms.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        room.log.freeze();
        if let Some(seat) = room.seats.iter_mut().find(|seat| seat.conn == holder.conn) {
            seat.catch_up(&mut room.log, &room.name, net);
        }
    }

    /// Brings all candidates and a new holder together.
    fn introduce(&mut self, at: usize, net: &mut Net<Session>) {
        let mut waiting = Vec::new();
        for candidate in self.candidates.iter_mut().filter(|c| c.room == at && c.called) {
            candidate.relays = 0;
            waiting.push((candidate.conn, candidate.number));
        }
        for (conn, number) in waiting {
            self.present(at, conn, number, net);
        }
    }

    // What takes too long.

    fn wake_doors(&mut self, at: Instant) {
        self.doors = Some(self.doors.map_or(at, |before| before.min(at)));
    }

    pub(super) fn handle_doors(&mut self, now: Now, net: &mut Net<Session>) {
        let late = |candidate: &Candidate| candidate.until <= now.mono;
        while self.candidates.front().is_some_and(late) {
            if let Some(candidate) = self.candidates.pop_front() {
                let why = if candidate.called { Why::Timeout } else { Why::Limit };
                self.turn_away(candidate, why, net);
                self.off_door(now, &candidate, net);
            }
        }
        for at in 0..self.rooms.len() {
            let Some(door) = self.door_mut(at) else {
                continue;
            };
            if door.due().is_none_or(|due| due > now.mono) {
                continue;
            }
            let (silent, asked) = (door.holder(), door.asked.take());
            let heard = silent.and_then(|silent| self.member(silent.conn)).map(|m| m.heard);
            let Some(door) = self.door_mut(at) else {
                continue;
            };
            if asked.is_some() && heard > asked {
                door.owed = None;
                continue;
            }
            door.inside.rotate_left(1);
            self.name_holder(now, at, net);
            self.introduce(at, net);
            self.report(|hub| HubReport::PassedOver {
                room: hub.room_name(at),
                nick: silent.map(|silent| hub.nick_of(silent.conn)).unwrap_or_default(),
            });
        }
        let rooms = self.rooms.iter().flatten();
        let dues = rooms.filter_map(|room| room.door.as_ref()?.due());
        // They came in the order in which they go.
        let first = self.candidates.front().map(|candidate| candidate.until);
        self.doors = dues.chain(first).min();
    }
}

/// Who guesses: an IPv4 address, or what one customer has of IPv6, a /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}
