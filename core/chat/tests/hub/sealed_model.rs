//! A sealed room against a list: random peers knock, are judged, speak, stay silent and go.

use core::time::Duration;
use proptest::prelude::*;
use semfio_chat::wire::{Ask, Request, Response, Tell, Why};
use semfio_chat::{DOOR_WITHIN, HubConfig, ROTATE_WITHIN};
use semfio_machine::Instant;
use semfio_sim::PeerId;
use std::collections::BTreeSet;

use crate::lab::Lab;

#[derive(Clone, Debug)]
enum Op {
    Enter,
    /// What the holder does with the nth at the door.
    Admit(usize),
    Refuse(usize),
    Epoch {
        fresh: bool,
    },
    /// The same by somebody who is not the holder: no effect.
    Forge(usize),
    /// By somebody; it counts if that one is inside.
    Say(usize),
    Part(usize),
    Bye(usize),
    Reset(usize),
    /// Two break at the same moment, maybe the holder and who follows.
    Both(usize),
    Wait(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => Just(Op::Enter),
        6 => any::<usize>().prop_map(Op::Admit),
        1 => any::<usize>().prop_map(Op::Refuse),
        3 => any::<bool>().prop_map(|fresh| Op::Epoch { fresh }),
        2 => any::<usize>().prop_map(Op::Forge),
        2 => any::<usize>().prop_map(Op::Say),
        1 => any::<usize>().prop_map(Op::Part),
        1 => any::<usize>().prop_map(Op::Bye),
        1 => any::<usize>().prop_map(Op::Reset),
        1 => any::<usize>().prop_map(Op::Both),
        3 => (1..15_u8).prop_map(Op::Wait),
    ];
    proptest::collection::vec(op, 1..50)
}

/// What breaks in the comparison, to show that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// A holder is never followed.
    NoSuccessor,
    /// A derived key counts as a fresh one.
    RatchetCounts,
    /// A candidate gets what is said inside.
    LeakyDoor,
}

struct Peer {
    id: PeerId,
    nick: String,
    place: Place,
    /// Which entries it got while inside.
    shown: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    Door(Instant),
    Inside,
    Gone,
}

struct World {
    lab: Lab,
    fault: Fault,
    peers: Vec<Peer>,
    /// Those inside, the holder first.
    row: Vec<usize>,
    /// Those at the door, the oldest first.
    door: Vec<usize>,
    owed: Option<Instant>,
    /// Another left before the holder answered.
    again: bool,
    /// The holder was asked whether it is there; it always is.
    asked: bool,
    log: Vec<(Instant, String)>,
    /// How many were inside after each entry.
    inside: Vec<usize>,
    tag: u32,
}

impl World {
    fn new(fault: Fault) -> Self {
        let idle = Duration::from_secs(1_000_000);
        Self {
            lab: Lab::with(HubConfig { idle, ..HubConfig::default() }),
            fault,
            peers: Vec::new(),
            row: Vec::new(),
            door: Vec::new(),
            owed: None,
            again: false,
            asked: false,
            log: Vec::new(),
            inside: Vec::new(),
            tag: 0,
        }
    }

    fn enter_in_log(&mut self, at: Instant, kind: &str, rest: &str) {
        let entry = format!("{kind} {} r {rest}", self.log.len() + 1);
        for &member in &self.row {
            self.peers[member].shown.push(entry.clone());
        }
        if self.fault == Fault::LeakyDoor {
            for &candidate in &self.door {
                self.peers[candidate].shown.push(entry.clone());
            }
        }
        self.log.push((at, entry));
        self.inside.push(self.row.len());
    }

    fn seat(&mut self, at: Instant, who: usize) {
        self.door.retain(|&candidate| candidate != who);
        self.row.push(who);
        self.peers[who].place = Place::Inside;
        if self.row.len() == 2 {
            self.owed = self.owed.map(|_| at.saturating_add(ROTATE_WITHIN));
        }
        let nick = self.peers[who].nick.clone();
        self.enter_in_log(at, "JOIN", &nick);
    }

    fn name_holder(&mut self, at: Instant) {
        if self.fault == Fault::NoSuccessor {
            return;
        }
        let nick = self.peers[self.row[0]].nick.clone();
        self.enter_in_log(at, "HOLDER", &nick);
        self.owed = Some(at.saturating_add(ROTATE_WITHIN));
        (self.again, self.asked) = (false, false);
    }

    /// One is not there any more, wherever it was.
    fn remove(&mut self, at: Instant, who: usize, place: Place) {
        self.peers[who].place = place;
        self.door.retain(|&candidate| candidate != who);
        let Some(was) = self.row.iter().position(|&member| member == who) else {
            return;
        };
        self.row.remove(was);
        let nick = self.peers[who].nick.clone();
        self.enter_in_log(at, "PART", &nick);
        if self.row.is_empty() {
            (self.owed, self.again, self.asked) = (None, false, false);
            if let Some(&oldest) = self.door.first() {
                self.seat(at, oldest);
            }
            return;
        }
        self.again |= self.owed.is_some();
        if core::mem::take(&mut self.asked) {
            self.owed = None;
        }
        self.owed.get_or_insert(at.saturating_add(ROTATE_WITHIN));
        if was == 0 {
            self.name_holder(at);
        }
    }

    /// Time goes on, to here.
    fn pass(&mut self, to: Instant) {
        loop {
            let late = self.door.first().and_then(|&who| match self.peers[who].place {
                Place::Door(until) => Some((until, who)),
                _ => None,
            });
            let silent = self.owed.filter(|_| self.row.len() > 1);
            match (late, silent) {
                (Some((until, who)), _) if until <= to && silent.is_none_or(|at| until <= at) => {
                    self.door.remove(0);
                    self.peers[who].place = Place::Outside;
                }
                (_, Some(at)) if at <= to && core::mem::take(&mut self.asked) => self.owed = None,
                (_, Some(at)) if at <= to => {
                    self.row.rotate_left(1);
                    self.name_holder(at);
                    if self.fault == Fault::NoSuccessor {
                        self.owed = None;
                    }
                }
                _ => return,
            }
        }
    }

    fn pick(&self, nth: usize, at: impl Fn(Place) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.peers.len()).filter(|&n| at(self.peers[n].place)).collect();
        found.get(nth % found.len().max(1)).copied()
    }

    fn operate(&mut self, op: Op) {
        let at = self.lab.net.now().mono;
        let holder = self.row.first().copied();
        let connected = |place| place != Place::Gone;
        match op {
            Op::Enter if self.door.len() < 8 => {
                let nick = format!("m{}", self.peers.len());
                let id = self.lab.framed(&nick);
                self.lab.key(id, "r", Ask::Enter { since: 0 });
                let place = Place::Door(at.saturating_add(DOOR_WITHIN));
                self.peers.push(Peer { id, nick, place, shown: Vec::new() });
                let who = self.peers.len() - 1;
                if self.row.is_empty() {
                    self.seat(at, who);
                } else {
                    self.door.push(who);
                }
            }
            Op::Admit(nth) | Op::Refuse(nth) if !self.door.is_empty() => {
                let who = self.door[nth % self.door.len()];
                let peer = self.lab.door(self.peers[who].id, "r").unwrap().0;
                let holder = self.peers[holder.unwrap()].id;
                if matches!(op, Op::Admit(_)) {
                    self.lab.key(holder, "r", Ask::Admit { peer });
                    self.seat(at, who);
                } else {
                    self.lab.key(holder, "r", Ask::Refuse { peer, why: Why::Proof });
                    self.remove(at, who, Place::Outside);
                }
            }
            Op::Epoch { fresh } if holder.is_some() => {
                let holder = &self.peers[holder.unwrap()];
                self.lab.key(holder.id, "r", Ask::Epoch { epoch: 1, fresh, check: [0; 16] });
                let how = if fresh { "fresh" } else { "ratchet" };
                let rest = format!("{} 1 {how}", holder.nick);
                self.enter_in_log(at, "EPOCH", &rest);
                if fresh || self.fault == Fault::RatchetCounts {
                    self.asked = core::mem::take(&mut self.again);
                    self.owed = Some(at.saturating_add(ROTATE_WITHIN)).filter(|_| self.asked);
                }
            }
            Op::Forge(nth) => {
                let Some(who) = self.pick(nth, connected).filter(|&who| Some(who) != holder) else {
                    return;
                };
                let victim = self.pick(nth / 7, |place| matches!(place, Place::Door(_)));
                let door = victim.and_then(|victim| self.lab.door(self.peers[victim].id, "r"));
                let (peer, id) = (door.map_or(1, |door| door.0), self.peers[who].id);
                self.lab.key(id, "r", Ask::Admit { peer });
                self.lab.key(id, "r", Ask::Refuse { peer, why: Why::Name });
                self.lab.key(id, "r", Ask::Epoch { epoch: 2, fresh: true, check: [0; 16] });
                self.lab.key(id, "r", Ask::Relay { peer, body: b"forged" });
            }
            Op::Say(nth) => {
                let Some(who) = self.pick(nth, connected) else { return };
                self.tag += 1;
                let (id, tag) = (self.peers[who].id, self.tag);
                self.lab.seal(id, tag, "r", "", "gA");
                if self.peers[who].place == Place::Inside {
                    let rest = format!("{}-> 1/{tag}: gA", self.peers[who].nick);
                    self.enter_in_log(at, "SEALED", &rest);
                }
            }
            Op::Part(nth) => {
                let Some(who) = self.pick(nth, connected) else { return };
                self.lab.ask(self.peers[who].id, Request::Part { room: "r" });
                let inside = self.peers[who].place == Place::Inside;
                if inside {
                    let entry = format!("PART {} r {}", self.log.len() + 1, self.peers[who].nick);
                    self.peers[who].shown.push(entry);
                }
                self.remove(at, who, Place::Outside);
            }
            Op::Bye(nth) | Op::Reset(nth) => {
                let Some(who) = self.pick(nth, connected) else { return };
                match op {
                    Op::Bye(_) => self.lab.ask(self.peers[who].id, Request::Bye),
                    _ => self.lab.net.reset(self.peers[who].id),
                }
                self.remove(at, who, Place::Gone);
            }
            Op::Both(nth) if self.row.len() > 1 => {
                let first = nth % (self.row.len() - 1);
                for who in [self.row[first], self.row[first + 1]] {
                    self.lab.ask(self.peers[who].id, Request::Part { room: "r" });
                    let entry = format!("PART {} r {}", self.log.len() + 1, self.peers[who].nick);
                    self.peers[who].shown.push(entry);
                    self.remove(at, who, Place::Outside);
                }
            }
            Op::Wait(seconds) => self.lab.run(u64::from(seconds) * 1_000),
            _ => {}
        }
        self.lab.run(20);
        let now = self.lab.net.now().mono;
        self.pass(now);
        if let (Some(&holder), true) = (self.row.first(), self.asked) {
            self.lab.ask(self.peers[holder].id, Request::Pong(0));
        }
    }

    fn check(&self) {
        assert_eq!(self.lab.hub().newest("r").unwrap_or(0), self.log.len() as u64);
        let kinds = ["JOIN", "PART", "HOLDER", "EPOCH", "SEALED", "NICK", "GAP"];
        for peer in self.peers.iter().filter(|peer| peer.place != Place::Gone) {
            let entry = |frame: &String| kinds.iter().any(|kind| frame.starts_with(kind));
            let got: Vec<_> = self.lab.frames(peer.id).into_iter().filter(entry).collect();
            assert_eq!(got, peer.shown, "{}", peer.nick);
            assert_eq!(self.lab.only(peer.id, "RELAY"), [""; 0], "all of them were forged");
        }
        assert!(self.door.is_empty() || !self.row.is_empty(), "a door, and nobody inside");
        // The holder knows of all at the door, and they know it.
        let Some(&holder) = self.row.first() else { return };
        let holder = self.peers[holder].id;
        let (own, _) = self.lab.door(holder, "r").unwrap();
        let mut known = BTreeSet::new();
        for response in self.lab.responses(holder) {
            match response {
                Response::Key { tell: Tell::Knock { peer, .. }, .. } => drop(known.insert(peer)),
                Response::Key { tell: Tell::Gone { peer }, .. } => drop(known.remove(&peer)),
                _ => {}
            }
        }
        for &who in &self.door {
            let (you, holder) = self.lab.door(self.peers[who].id, "r").unwrap();
            assert_eq!(holder, own, "{} waits for another", self.peers[who].nick);
            assert!(known.contains(&you), "{} waits unknown", self.peers[who].nick);
        }
        self.check_log();
    }

    /// The promises, read from the log alone: there is one holder while somebody is inside, it is
    /// inside, and who is silent after a PART or HOLDER is followed in time.
    fn check_log(&self) {
        let (mut inside, mut holder) = (BTreeSet::new(), None);
        let mut owed: Option<Instant> = None;
        for (n, (at, entry)) in self.log.iter().enumerate() {
            let words: Vec<&str> = entry.split(' ').collect();
            let (kind, nick) = (words[0], words[3]);
            let late = owed.is_some_and(|by| by < *at) && inside.len() > 1;
            assert!(!late, "nothing came before {entry}");
            match kind {
                "JOIN" => {
                    inside.insert(nick);
                    if inside.len() == 1 {
                        (holder, owed) = (Some(nick), None);
                    }
                    if inside.len() == 2 {
                        owed = owed.map(|_| at.saturating_add(ROTATE_WITHIN));
                    }
                }
                "PART" => {
                    assert!(inside.remove(nick));
                    owed.get_or_insert(at.saturating_add(ROTATE_WITHIN));
                    if holder == Some(nick) && !inside.is_empty() {
                        let next = self.log.get(n + 1).map(|(_, entry)| entry.as_str());
                        assert!(next.is_some_and(|next| next.starts_with("HOLDER")), "{next:?}");
                    }
                }
                "HOLDER" => {
                    assert!(inside.contains(nick));
                    holder = Some(nick);
                    owed = Some(at.saturating_add(ROTATE_WITHIN));
                }
                "EPOCH" => {
                    assert_eq!(holder, Some(nick));
                    if words[5] == "fresh" {
                        owed = None;
                    }
                }
                _ => assert!(inside.contains(nick.split("->").next().unwrap())),
            }
        }
        assert_eq!(inside.is_empty(), self.row.is_empty());
        assert!(inside.is_empty() || inside.contains(holder.unwrap()));
    }
}

fn run(ops: Vec<Op>, fault: Fault) {
    let mut world = World::new(fault);
    for op in ops {
        world.operate(op);
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn a_room_has_one_holder_and_only_those_inside_hear_of_it(ops in ops()) {
        run(ops, Fault::None);
    }
}

fn caught(ops: Vec<Op>, fault: Fault) {
    run(ops.clone(), Fault::None);
    assert!(std::panic::catch_unwind(|| run(ops, fault)).is_err(), "{fault:?} is not noticed");
}

#[test]
fn a_room_that_kept_its_promises_less_would_be_noticed() {
    let two = || vec![Op::Enter, Op::Enter, Op::Admit(0)];
    caught([two(), vec![Op::Part(0)]].concat(), Fault::NoSuccessor);
    let three = [two(), vec![Op::Enter, Op::Admit(0)]].concat();
    let silent = vec![Op::Part(1), Op::Epoch { fresh: false }, Op::Wait(11)];
    caught([three.clone(), silent].concat(), Fault::RatchetCounts);
    caught([three.clone(), vec![Op::Part(1), Op::Wait(11)]].concat(), Fault::NoSuccessor);
    caught(vec![Op::Enter, Op::Enter, Op::Say(0)], Fault::LeakyDoor);
}
