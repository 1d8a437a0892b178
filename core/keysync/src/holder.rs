//! What the holder of a room keeps, and how it makes and hands out keys; the table stands in
//! [`KeySync`]'s module.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound;
use core::time::Duration;
use semfio_machine::Instant;

use crate::agreement::{CONFIRM, Context, START};
use crate::epoch::{Epoch, GRACE, KeyEvent, KeySync, KeyTransmit, State};
use crate::message::{Body, MAX_WRAPPED, PROOF, Refusal, Which, short, which};

/// Members of one room that a holder has keys with: below 10 MiB of them, and as many names.
pub const MAX_MEMBERS: usize = 4_096;
/// The least time between two epochs, so that many who come or go at once cost one, and so that
/// [`MAX_FORMER`](crate::MAX_FORMER) epochs last for longer than a text is on its way.
pub const PACE: Duration = Duration::from_millis(250);
/// How long a new holder waits at least before its first epoch: what a START takes to come from far
/// away. Who is slower misses nothing either, unless this holder is gone before it has its key, or
/// has none in common with it by which it could prove that it was inside.
pub const SETTLE: Duration = Duration::from_secs(1);
/// How long it waits at most, for agreements that are under way.
pub const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);
/// How long after GONE the PART entry may come; then a fresh epoch is made without it.
pub const PART_WITHIN: Duration = Duration::from_secs(1);
/// How long an agreement may take; it holds a guess.
pub(crate) const AGREE_WITHIN: Duration = Duration::from_secs(30);
/// After so long an epoch is followed by a fresh one.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// After so many texts an epoch is followed by a fresh one: far from where IVs of 128 bits repeat.
pub const MAX_TEXTS: u64 = 1 << 20;
/// How far an epoch that a member or the log tells may be above one's own. Nobody uses up the numbers by lying.
pub(crate) const MAX_LEAP: u64 = 1 << 32;

/// What a holder keeps.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Who is at the door, and who has proved the passphrase.
    members: BTreeMap<u64, Member>,
    agreements: BTreeMap<u64, Agreement>,
    /// Who was refused: what it sends before the hub hears of it would be more guesses.
    refused: BTreeSet<u64>,
    /// By name in lower case.
    names: BTreeMap<String, Owner>,
    /// The highest epoch that was made, or that somebody had.
    made: u64,
    /// The last that was announced.
    announced: Option<u64>,
    pub(crate) owes_fresh: bool,
    /// Who waits for an epoch that is made for it.
    joiners: BTreeSet<u64>,
    /// Who waits for a WRAP of what there is.
    owed: BTreeSet<u64>,
    distribution: Option<Distribution>,
    /// The next epoch is not made before.
    pace: Instant,
    /// When the hand-over ends: at the earliest, and at the latest.
    hand_over: Option<(Instant, Instant)>,
    /// Somebody is gone and its PART has not come: until when that is waited for.
    unparted: Option<Instant>,
    /// When agreements and refusals are looked through.
    sweep: Option<Instant>,
    /// When the last epoch was made.
    since: Instant,
}

#[derive(Debug)]
struct Member {
    at_door: bool,
    /// As the hub calls it, until it has proved that name.
    nick: Option<String>,
    /// There is a pair with it.
    proven: bool,
    /// The first epoch it may have, once that is known.
    from: Option<u64>,
    /// It has been sent keys.
    wrapped: bool,
}

/// Whose a name is.
#[derive(Debug)]
struct Owner {
    identity: [u8; 32],
    /// The last it had.
    number: u64,
    /// When the name is free for others, if it is gone: it may come back while its keys last.
    until: Option<Instant>,
}

/// Under way: START came, CONFIRM has not.
#[derive(Debug)]
struct Agreement {
    pake: [u8; START],
    nick: String,
    reply: Vec<u8>,
    /// The epoch that it proved, so that it did not count as a guess. What CONFIRM tells of its last epoch
    /// is not proved, and would open what was said before it was let in.
    proved: Option<u64>,
    since: Instant,
}

/// Keys of an epoch on their way to members.
#[derive(Debug)]
struct Distribution {
    epoch: u64,
    fresh: bool,
    joiners: BTreeSet<u64>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Those up to this number have it.
    Wrap(Bound<u64>),
    /// Those up to this number are let in.
    Admit(Bound<u64>),
    Announce,
}

impl Holding {
    /// Who is gone has its name for as long as it has keys; then another may prove it.
    fn free_name(&mut self, peer: u64, now: Instant) {
        for owner in self.names.values_mut().filter(|owner| owner.number == peer) {
            owner.until = Some(now.saturating_add(GRACE));
        }
    }

    /// When something is due.
    pub(crate) fn due(&self, floor: u64) -> Option<Instant> {
        let hand_over = self.hand_over.map(|(early, late)| match self.agreements.is_empty() {
            true => early,
            false => late,
        });
        let needed = self.owes_fresh || !self.joiners.is_empty();
        let idle = self.hand_over.is_none() && self.distribution.is_none();
        let pace = (needed && idle).then_some(self.pace);
        let old = (self.made == floor && !self.owes_fresh && idle)
            .then(|| self.since.saturating_add(MAX_AGE));
        [hand_over, pace, old, self.unparted, self.sweep].into_iter().flatten().min()
    }
}

impl KeySync {
    /// Becomes the holder: of a room it opens, or at a hand-over that begins now. `logged` is an
    /// epoch that the log has and whose key is missing: its number is used up.
    pub(crate) fn hold(&mut self, hand_over: Option<Instant>, logged: u64) {
        let now = self.now.mono;
        let mut names = BTreeMap::new();
        if let Ok(identity) = self.vault.identity() {
            let own = Owner { identity, number: self.you, until: None };
            names.insert(self.nick.to_ascii_lowercase(), own);
        }
        self.state = State::Holder(Box::new(Holding {
            members: BTreeMap::new(),
            agreements: BTreeMap::new(),
            refused: BTreeSet::new(),
            names,
            made: if logged.saturating_sub(self.floor) <= MAX_LEAP {
                self.floor.max(logged)
            } else {
                self.floor
            },
            announced: None,
            owes_fresh: hand_over.is_none(),
            joiners: BTreeSet::new(),
            owed: BTreeSet::new(),
            distribution: None,
            pace: now,
            hand_over: hand_over
                .map(|at| (at.saturating_add(SETTLE), at.saturating_add(HAND_OVER_WITHIN))),
            unparted: None,
            sweep: None,
            since: now,
        }));
    }

    pub(crate) fn knocked(&mut self, peer: u64, nick: &str) {
        let State::Holder(holding) = &mut self.state else { return };
        if peer == 0 || peer == self.you || holding.members.contains_key(&peer) {
            return;
        }
        if holding.members.len() >= MAX_MEMBERS {
            return self.refuse(peer, nick, None, Refusal::Limit);
        }
        let nick = Some(short(nick).into());
        let member = Member { at_door: true, nick, proven: false, from: None, wrapped: false };
        holding.members.insert(peer, member);
    }

    pub(crate) fn started(
        &mut self,
        from: u64,
        pake: &[u8; START],
        last: u64,
        proof: &[u8; PROOF],
        nick: &str,
    ) {
        let now = self.now.mono;
        let State::Holder(holding) = &mut self.state else { return };
        if let Some(agreement) = holding.agreements.get(&from) {
            // Another START would be another guess.
            if agreement.pake == *pake {
                let body = agreement.reply.clone();
                self.transmit(KeyTransmit::Relay { to: from, body });
            }
            return;
        }
        if holding.refused.contains(&from) {
            return;
        }
        let known = holding.members.get(&from);
        let at_door = known.is_some_and(|member| member.at_door);
        // It would prove one name and have another.
        let other = |known: &String| !known.eq_ignore_ascii_case(nick);
        if known.and_then(|member| member.nick.as_ref()).is_some_and(other) {
            return self.refuse(from, nick, None, Refusal::Other);
        }
        let full = known.is_none() && holding.members.len() >= MAX_MEMBERS
            || holding.agreements.len() >= MAX_MEMBERS;
        let context = Context { room: &self.room, initiator: (from, nick), responder: self.you };
        // A pending epoch proves nothing: nobody was inside with it.
        let known = last <= self.floor && self.epochs.contains_key(&last);
        let proved = (known && self.vault.proves(&context, last, pake, proof)).then_some(last);
        if full || proved.is_none() && self.guard.guess(now, ()).is_err() {
            if at_door {
                self.refuse(from, nick, None, Refusal::Limit);
            }
            return;
        }
        let mut reply = Vec::new();
        if self.vault.reply(&context, pake, &mut reply).is_err() {
            return self.refuse(from, nick, (!at_door).then(|| which(pake)), Refusal::Proof);
        }
        let agreement =
            Agreement { pake: *pake, nick: nick.into(), reply: reply.clone(), proved, since: now };
        holding.agreements.insert(from, agreement);
        holding.sweep.get_or_insert(now.saturating_add(AGREE_WITHIN));
        self.transmit(KeyTransmit::Relay { to: from, body: reply });
    }

    pub(crate) fn confirmed(&mut self, from: u64, mac: &[u8; CONFIRM], standing: &[u8]) {
        let State::Holder(holding) = &mut self.state else { return };
        let Some(Agreement { nick, proved, pake, .. }) = holding.agreements.remove(&from) else {
            // Its WRAP was lost, or it has not been its turn.
            if holding.members.get(&from).is_some_and(|member| member.wrapped) {
                holding.owed.insert(from);
            }
            return;
        };
        let at_door = holding.members.get(&from).is_some_and(|member| member.at_door);
        let start = (!at_door).then(|| which(&pake));
        let Ok((identity, last)) = self.vault.confirm(self.now.unix, from, mac, standing) else {
            return self.refuse(from, &nick, start, Refusal::Proof);
        };
        if proved.is_none() {
            self.guard.give_back(&());
        }
        let folded = nick.to_ascii_lowercase();
        let now = self.now.mono;
        // One name for each number, or one of those inside would fill all places.
        let free = |owner: &Owner| owner.until.is_some_and(|until| until <= now);
        holding.names.retain(|_, owner| owner.number != from && !free(owner));
        if holding.names.get(&folded).is_some_and(|owner| owner.identity != identity) {
            return self.refuse(from, &nick, start, Refusal::Name);
        }
        if holding.names.len() >= MAX_MEMBERS && !holding.names.contains_key(&folded) {
            // There is always one of somebody who is gone: this one is not in yet.
            let gone = holding.names.iter().filter(|(_, owner)| owner.until.is_some());
            let oldest = gone.min_by_key(|(_, owner)| owner.until);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                holding.names.remove(&name);
            }
        }
        holding.names.insert(folded, Owner { identity, number: from, until: None });
        if last.saturating_sub(self.floor) <= MAX_LEAP {
            holding.made = holding.made.max(last);
        }
        let first = proved.map(|last| last.saturating_add(1));
        let member = Member { at_door, nick: None, proven: true, from: first, wrapped: false };
        holding.members.insert(from, member);
        if at_door || proved.is_none() {
            holding.joiners.insert(from);
        } else if holding.hand_over.is_none() {
            holding.owed.insert(from);
        }
    }

    pub(crate) fn resynced(&mut self, from: u64, token: &[u8]) {
        let State::Holder(holding) = &mut self.state else { return };
        let Some(member) = holding.members.get_mut(&from).filter(|member| member.proven) else {
            return;
        };
        let Ok(last) = self.vault.resynced(self.now.unix, from, token) else { return };
        if let Some(first) = &mut member.from {
            *first = last.saturating_add(1).max(*first);
            holding.owed.insert(from);
        }
    }

    /// The other side of an agreement says that it failed; only then does it count.
    pub(crate) fn gave_up(&mut self, from: u64, start: Which) {
        let State::Holder(holding) = &mut self.state else { return };
        let known = holding.agreements.get(&from).is_some_and(|a| which(&a.pake) == start);
        if let Some(Agreement { nick, .. }) =
            known.then(|| holding.agreements.remove(&from)).flatten()
        {
            let at_door = holding.members.get(&from).is_some_and(|member| member.at_door);
            self.refuse(from, &nick, (!at_door).then_some(start), Refusal::Proof);
        }
    }

    pub(crate) fn gone(&mut self, peer: u64) {
        let now = self.now.mono;
        let State::Holder(holding) = &mut self.state else { return };
        let member = holding.members.remove(&peer);
        holding.free_name(peer, now);
        holding.agreements.remove(&peer);
        holding.joiners.remove(&peer);
        holding.owed.remove(&peer);
        if let Some(distribution) = &mut holding.distribution {
            distribution.joiners.remove(&peer);
        }
        self.vault.forget_peer(peer);
        if member.is_none_or(|member| member.wrapped || !member.at_door) {
            holding.unparted.get_or_insert(now.saturating_add(PART_WITHIN));
        }
    }

    /// Refuses who is at the door, or the START of somebody who is not.
    fn refuse(&mut self, peer: u64, nick: &str, start: Option<Which>, why: Refusal) {
        if let State::Holder(holding) = &mut self.state {
            holding.members.remove(&peer);
            holding.free_name(peer, self.now.mono);
            holding.agreements.remove(&peer);
            holding.joiners.remove(&peer);
            holding.owed.remove(&peer);
            if holding.refused.len() < MAX_MEMBERS {
                holding.refused.insert(peer);
            }
            holding.sweep.get_or_insert(self.now.mono.saturating_add(AGREE_WITHIN));
        }
        self.vault.forget_peer(peer);
        self.transmit(match start {
            None => KeyTransmit::Refuse { peer, why },
            Some(which) => {
                let mut body = Vec::new();
                Body::Fail { which, why }.put(&mut body);
                KeyTransmit::Relay { to: peer, body }
            }
        });
        self.event(KeyEvent::Refused { peer, nick: short(nick).into(), why });
    }

    /// Begins the epoch that is due.
    pub(crate) fn drive(&mut self) {
        let now = self.now.mono;
        let State::Holder(holding) = &mut self.state else { return };
        if holding.sweep.is_some_and(|at| at <= now) {
            let vault = &mut self.vault;
            holding.agreements.retain(|&peer, agreement| {
                let late = now.saturating_since(agreement.since) >= AGREE_WITHIN;
                if late {
                    vault.forget_agreement(peer);
                }
                !late
            });
            holding.refused.clear();
            let left = !holding.agreements.is_empty();
            holding.sweep = left.then(|| now.saturating_add(AGREE_WITHIN));
        }
        if holding.unparted.is_some_and(|at| at <= now) {
            holding.unparted = None;
            holding.owes_fresh = true;
        }
        if let Some((early, late)) = holding.hand_over {
            if now < early || now < late && !holding.agreements.is_empty() {
                return;
            }
            holding.hand_over = None;
            holding.owes_fresh = true;
        }
        let texts = self.epochs.get(&self.floor).map_or(0, |key| key.texts);
        let old = texts >= MAX_TEXTS || now.saturating_since(holding.since) >= MAX_AGE;
        if old && holding.made == self.floor && holding.distribution.is_none() {
            holding.owes_fresh = true;
        }
        if holding.owes_fresh {
            if let Some(stale) = holding.distribution.take() {
                // It was on its way to somebody who has left since.
                holding.joiners.extend(stale.joiners);
                self.epochs.remove(&stale.epoch);
                self.vault.forget_epoch(stale.epoch);
            }
        }
        let due = holding.owes_fresh || !holding.joiners.is_empty();
        if due && holding.distribution.is_none() && now >= holding.pace {
            self.make();
        }
    }

    fn make(&mut self) {
        let now = self.now.mono;
        let State::Holder(holding) = &mut self.state else { return };
        let base = holding.announced.and_then(|from| Some((from, self.epochs.get(&from)?.covers)));
        let epoch = holding.made.max(self.floor).saturating_add(1);
        let (made, fresh, covers) = match base {
            Some((from, covers)) if !holding.owes_fresh => {
                (self.vault.ratchet(&self.room, from, epoch, None), false, covers)
            }
            _ => (self.vault.make(epoch), true, self.parted),
        };
        holding.owes_fresh = false;
        if fresh {
            holding.unparted = None;
        }
        holding.pace = now.saturating_add(PACE);
        holding.since = now;
        let joiners = core::mem::take(&mut holding.joiners);
        if made.is_err() {
            return;
        }
        holding.made = epoch;
        self.entry.get_or_insert(epoch);
        let step = Step::Wrap(Bound::Unbounded);
        holding.distribution = Some(Distribution { epoch, fresh, joiners, step });
        self.epochs.insert(epoch, Epoch::new(covers));
        self.trim_pending();
    }

    /// Does the next step of what is to be handed out; whether there was one.
    pub(crate) fn distribute(&mut self) -> bool {
        let State::Holder(holding) = &mut self.state else { return false };
        let Some(distribution) = &mut holding.distribution else {
            let Some(peer) = holding.owed.pop_first() else { return false };
            self.wrap(peer, None);
            return true;
        };
        let (epoch, fresh) = (distribution.epoch, distribution.fresh);
        match distribution.step {
            Step::Wrap(after) => {
                let range = (after, Bound::Unbounded);
                let next = match fresh {
                    true => {
                        // Who came to the door since then gets the next one.
                        let takes = |(peer, member): &(&u64, &Member)| {
                            member.proven && !holding.joiners.contains(peer)
                        };
                        holding.members.range(range).find(takes).map(|(&peer, _)| peer)
                    }
                    false => distribution.joiners.range(range).next().copied(),
                };
                let Some(peer) = next else {
                    distribution.step = Step::Admit(Bound::Unbounded);
                    return true;
                };
                distribution.step = Step::Wrap(Bound::Excluded(peer));
                self.wrap(peer, Some(epoch));
            }
            Step::Admit(after) => {
                let next = distribution.joiners.range((after, Bound::Unbounded)).next().copied();
                let Some(peer) = next else {
                    distribution.step = Step::Announce;
                    return true;
                };
                distribution.step = Step::Admit(Bound::Excluded(peer));
                let member = holding.members.get_mut(&peer);
                if let Some(member) = member.filter(|member| member.at_door && member.wrapped) {
                    member.at_door = false;
                    self.transmit(KeyTransmit::Admit { peer });
                }
            }
            Step::Announce => {
                holding.distribution = None;
                if let Ok(check) = self.vault.check(&self.room, epoch) {
                    holding.announced = Some(epoch);
                    self.transmit(KeyTransmit::Epoch { epoch, fresh, check });
                }
            }
        }
        true
    }

    /// Sends a member what it may have: of an epoch that is made for all only that, else all
    /// since it was let in.
    fn wrap(&mut self, peer: u64, made: Option<u64>) {
        let State::Holder(holding) = &mut self.state else { return };
        let joins = holding.distribution.as_ref().is_some_and(|d| d.joiners.contains(&peer));
        let Some(member) = holding.members.get_mut(&peer) else { return };
        let newest = self.epochs.last_key_value().map_or(0, |(&epoch, _)| epoch);
        let first = match made {
            Some(epoch) if !joins => {
                member.from.get_or_insert(epoch);
                epoch
            }
            _ => *member.from.get_or_insert(made.unwrap_or(newest)),
        };
        member.wrapped = true;
        let mut epochs: Vec<_> = self
            .epochs
            .range(first..)
            .rev()
            .take(MAX_WRAPPED)
            .map(|(&epoch, key)| (epoch, key.covers))
            .collect();
        epochs.reverse();
        let mut body = Vec::new();
        let wrapped = self.vault.wrap(self.now.unix, &self.room, peer, &epochs, &mut body);
        if wrapped.is_ok() {
            self.transmit(KeyTransmit::Relay { to: peer, body });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Passphrase, Vault};
    use semfio_machine::{Now, Seed};

    fn member(seed: u64, nick: &str) -> KeySync {
        KeySync::new(Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(seed)), "sala", nick)
    }

    fn relayed(sync: &mut KeySync) -> Option<Vec<u8>> {
        let (mut last, now) = (None, sync.now);
        while let Some(transmit) = sync.poll_transmit() {
            match transmit {
                KeyTransmit::Relay { body, .. } => last = Some(body),
                KeyTransmit::Epoch { epoch, fresh, check } => {
                    sync.handle_epoch(now, epoch, fresh, check);
                }
                _ => {}
            }
        }
        last
    }

    /// Ana holds the room and has let bia in: number 2, with epoch 2.
    fn let_in() -> (Now, KeySync, KeySync) {
        let mut now = Now::default();
        let (mut ana, mut bia) = (member(1, "ana"), member(2, "bia"));
        ana.handle_door(now, 1, 1);
        relayed(&mut ana);
        now.mono = now.mono.saturating_add(Duration::from_secs(1));
        ana.handle_knock(now, 2, "bia");
        bia.handle_door(now, 2, 1);
        for _ in 0..2 {
            if let Some(body) = relayed(&mut bia) {
                ana.handle_relay(now, 2, &body);
            }
            if let Some(body) = relayed(&mut ana) {
                bia.handle_relay(now, 1, &body);
            }
        }
        let check = ana.vault.check("sala", 2).unwrap();
        bia.handle_epoch(now, 2, false, check);
        assert_eq!((bia.epoch(), bia.epochs.len()), (2, 1));
        (now, ana, bia)
    }

    #[test]
    fn a_member_that_says_it_had_no_epoch_gets_none_from_before_it_was_let_in() {
        let (now, mut ana, mut bia) = let_in();
        // It agrees anew, as one of those inside, and lies.
        bia.handle_disconnected(now);
        bia.handle_door(now, 2, 1);
        let start = relayed(&mut bia).unwrap();
        ana.handle_relay(now, 2, &start);
        bia.floor = 0;
        let reply = relayed(&mut ana).unwrap();
        bia.handle_relay(now, 1, &reply);
        ana.handle_relay(now, 2, &relayed(&mut bia).unwrap());
        bia.handle_relay(now, 1, &relayed(&mut ana).unwrap());
        assert!(!bia.epochs.contains_key(&1), "it has the key of before");
    }

    #[test]
    fn a_holder_does_not_use_up_the_numbers_of_those_it_leaves_behind() {
        for epoch in [u64::MAX, u64::MAX - 1, 1 << 62] {
            let (mut now, mut ana, mut bia) = let_in();
            ana.vault.ratchet("sala", 2, epoch, None).unwrap();
            let check = ana.vault.check("sala", epoch).unwrap();
            bia.handle_epoch(now, epoch, false, check);
            bia.handle_part(now, 50);
            bia.handle_holder(now, 51, 2);
            now.mono = now.mono.saturating_add(SETTLE);
            bia.handle_timeout(now);
            relayed(&mut bia);
            assert_eq!((bia.is_ready(), bia.epoch()), (true, 3), "{epoch}");
        }
    }

    #[test]
    fn an_epoch_that_the_last_holder_derives_as_it_leaves_is_followed_by_a_fresh_one() {
        let (mut now, mut ana, mut bia) = let_in();
        // A holder may say that its key covers whatever comes.
        bia.epochs.get_mut(&2).unwrap().covers = u64::MAX;
        bia.handle_part(now, 50);
        bia.handle_holder(now, 51, 2);
        ana.vault.ratchet("sala", 2, 9, None).unwrap();
        let check = ana.vault.check("sala", 9).unwrap();
        bia.handle_epoch(now, 9, false, check);
        assert!(!bia.is_ready());
        now.mono = now.mono.saturating_add(SETTLE);
        bia.handle_timeout(now);
        relayed(&mut bia);
        assert_eq!((bia.is_ready(), bia.epoch()), (true, 10));
    }
}
