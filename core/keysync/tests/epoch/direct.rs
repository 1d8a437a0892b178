//! Three members agree, talk, one joins, one leaves.

use semfio_keysync::{
    KeyEvent, KeySync, KeyTransmit, Manner, Outer, Passphrase, Refusal, Stamped, Unsealed, Vault,
};
use semfio_machine::{Instant, Now, Seed, UnixTime};
use std::collections::BTreeMap;
use std::time::Duration;

struct Room {
    now: Now,
    seq: u64,
    holder: u64,
    members: BTreeMap<u64, KeySync>,
    seated: Vec<u64>,
}

impl Room {
    fn new() -> Self {
        let now = Now { mono: Instant::default(), unix: UnixTime::from_secs(1_800_000_000) };
        Self { now, seq: 0, holder: 0, members: BTreeMap::new(), seated: Vec::new() }
    }

    fn enter(&mut self, number: u64, nick: &str) {
        let vault = Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(number));
        let mut member = KeySync::new(vault, "Sala", nick);
        if self.holder == 0 {
            self.holder = number;
            self.seated.push(number);
        }
        member.handle_door(self.now, number, self.holder);
        self.members.insert(number, member);
        if self.holder != number {
            let now = self.now;
            self.member(self.holder).handle_knock(now, number, nick);
        }
        self.run();
    }

    fn leave(&mut self, number: u64) {
        self.members.remove(&number);
        self.seated.retain(|seat| *seat != number);
        self.seq += 1;
        let (now, seq) = (self.now, self.seq);
        if number != self.holder {
            self.member(self.holder).handle_gone(now, number);
        }
        for seat in self.seated.clone() {
            self.member(seat).handle_part(now, seq);
        }
        if number == self.holder {
            self.holder = self.seated[0];
            self.seq += 1;
            let (seq, holder) = (self.seq, self.holder);
            for seat in self.seated.clone() {
                self.member(seat).handle_holder(now, seq, holder);
            }
        }
        self.run();
    }

    fn member(&mut self, number: u64) -> &mut KeySync {
        self.members.get_mut(&number).unwrap()
    }

    /// Ten seconds, with whatever is due in them.
    fn run(&mut self) {
        let until = self.now.mono.saturating_add(Duration::from_secs(10));
        loop {
            let mut still = true;
            for number in self.members.keys().copied().collect::<Vec<_>>() {
                while let Some(transmit) = self.member(number).poll_transmit() {
                    still = false;
                    self.carry(number, transmit);
                }
            }
            if !still {
                continue;
            }
            let due = self.members.values().filter_map(KeySync::poll_timeout).map(|due| due.at);
            let Some(next) = due.min().filter(|at| *at <= until) else { break };
            self.now.mono = next.max(self.now.mono);
            let now = self.now;
            self.members.values_mut().for_each(|member| member.handle_timeout(now));
        }
        self.now.mono = until;
    }

    fn carry(&mut self, from: u64, transmit: KeyTransmit) {
        let now = self.now;
        match transmit {
            KeyTransmit::Relay { to, body } => self.member(to).handle_relay(now, from, &body),
            KeyTransmit::Admit { peer } => {
                self.seq += 1;
                self.seated.push(peer);
            }
            KeyTransmit::Refuse { peer, why } => self.member(peer).handle_refused(now, why),
            KeyTransmit::Epoch { epoch, fresh, check } => {
                self.seq += 1;
                for seat in self.seated.clone() {
                    self.member(seat).handle_epoch(now, epoch, fresh, check);
                }
            }
        }
    }

    /// Each says something, and all understand it.
    fn talk(&mut self) {
        let now = self.now;
        for from in self.seated.clone() {
            let mut token = Vec::new();
            let Stamped { epoch, counter } =
                self.member(from).seal(now, Manner::Text, "", "oi", &mut token).unwrap();
            let outer = Outer { sender: from, to: "", epoch, counter };
            for to in self.seated.clone() {
                let message = self.member(to).open(now, &outer, &token, (0, 0)).unwrap();
                assert_eq!((message.manner, message.text.as_str()), (Manner::Text, "oi"));
            }
        }
    }
}

#[test]
fn three_agree_and_talk_and_one_leaves() {
    let mut room = Room::new();
    for (number, nick) in [(7, "ana"), (9, "bia"), (4, "caio")] {
        room.enter(number, nick);
        room.talk();
    }
    let before = room.member(7).epoch();
    room.leave(9);
    assert!(room.member(7).epoch() > before);
    room.talk();
    room.leave(7);
    assert!(room.member(4).is_holder());
    room.talk();
    room.enter(12, "duda");
    room.talk();
    assert_eq!(room.seated, [4, 12]);
}

#[test]
fn another_passphrase_ends_in_failure_on_both_sides() {
    let mut room = Room::new();
    room.enter(7, "ana");
    let vault = Vault::new(Passphrase::new(b"abacaxi"), Seed::from_u64(5));
    let mut stranger = KeySync::new(vault, "sala", "eva");
    stranger.handle_door(room.now, 5, 7);
    room.members.insert(5, stranger);
    let now = room.now;
    room.member(7).handle_knock(now, 5, "eva");
    room.run();
    assert_eq!(room.member(5).state(), "Failed");
    assert_eq!(room.member(5).vault().keys(), 0);
    let refused = |event| matches!(event, KeyEvent::Refused { peer: 5, .. });
    assert!(std::iter::from_fn(|| room.member(7).poll_event()).any(refused));
    let sealed = room.member(5).seal(now, Manner::Text, "", "oi", &mut Vec::new());
    assert_eq!(sealed, Err(Unsealed::NotReady));
}

#[test]
fn one_that_is_never_called_to_the_door_is_told_so() {
    let mut room = Room::new();
    let vault = Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(5));
    let mut member = KeySync::new(vault, "sala", "eva");
    for _ in 0..2 {
        member.handle_refused(room.now, Refusal::Limit);
        assert_eq!(member.poll_event(), Some(KeyEvent::TurnedAway(Refusal::Limit)));
        assert_eq!((member.state(), member.poll_event()), ("Outside", None));
    }
    room.enter(7, "ana");
    room.member(7).handle_refused(Now::default(), Refusal::Limit);
    assert!(room.member(7).is_holder(), "who is inside is not turned away");
}
