//! K11 for a whole room: who leaves, fails, or stays away leaves no secret in what it frees. Alone in
//! its process.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_core::RngCore;
use semfio_keysync::{GRACE, KeySync, KeyTransmit, Manner, Outer, Passphrase, Vault};
use semfio_machine::{Instant, Now, Seed, UnixTime};
use semfio_wiped::{Watching, holds, left_on_stack};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::time::Duration;

#[global_allocator]
static HEAP: Watching = Watching::new();

const TEXT: &[u8] = b"a passphrase that is long enough to be looked for";

/// A hub that keeps order, and its members.
#[derive(Default)]
struct Room {
    now: Now,
    seq: u64,
    holder: u64,
    members: BTreeMap<u64, KeySync>,
    seated: Vec<u64>,
    epochs: Vec<(u64, [u8; 16])>,
}

impl Room {
    fn enter(&mut self, number: u64, passphrase: &[u8]) {
        let vault = Vault::new(Passphrase::new(passphrase), Seed::from_u64(number));
        let mut member = KeySync::new(vault, "sala", &number.to_string());
        if self.seated.is_empty() {
            self.holder = number;
            self.seated.push(number);
        }
        member.handle_door(self.now, number, self.holder);
        self.members.insert(number, member);
        if self.holder != number {
            let (now, holder) = (self.now, self.holder);
            self.with(holder, |member| member.handle_knock(now, number, &number.to_string()));
        }
        self.run(10);
    }

    fn leave(&mut self, number: u64) {
        self.members.remove(&number);
        self.seated.retain(|seat| *seat != number);
        self.seq += 1;
        let (now, seq, holder) = (self.now, self.seq, self.holder);
        self.with(holder, |member| member.handle_gone(now, number));
        self.all(|member| member.handle_part(now, seq));
        if number == holder {
            self.holder = self.seated[0];
            self.seq += 1;
            let (seq, holder) = (self.seq, self.holder);
            self.all(|member| member.handle_holder(now, seq, holder));
        }
        self.run(10);
    }

    fn with(&mut self, number: u64, act: impl FnOnce(&mut KeySync)) {
        if let Some(member) = self.members.get_mut(&number) {
            act(member);
        }
    }

    /// Every seat.
    fn all(&mut self, act: impl Fn(&mut KeySync)) {
        for seat in self.seated.clone() {
            self.with(seat, &act);
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now.mono = self.now.mono.saturating_add(Duration::from_millis(500));
            let now = self.now;
            self.members.values_mut().for_each(|member| member.handle_timeout(now));
            loop {
                let transmit = self.members.iter_mut().find_map(|(number, member)| {
                    member.poll_transmit().map(|transmit| (*number, transmit))
                });
                let Some((from, transmit)) = transmit else { break };
                match transmit {
                    KeyTransmit::Relay { to, body } => {
                        self.with(to, |member| member.handle_relay(now, from, &body));
                    }
                    KeyTransmit::Admit { peer } => self.seated.push(peer),
                    KeyTransmit::Refuse { peer, why } => {
                        self.with(peer, |member| member.handle_refused(now, why));
                    }
                    KeyTransmit::Epoch { epoch, fresh, check } => {
                        self.epochs.push((epoch, check));
                        self.all(|member| member.handle_epoch(now, epoch, fresh, check));
                    }
                }
            }
            for member in self.members.values_mut() {
                while member.poll_event().is_some() {}
            }
        }
    }

    fn talk(&mut self) {
        let now = self.now;
        for from in self.seated.clone() {
            let mut token = Vec::new();
            let member = self.members.get_mut(&from).unwrap();
            let stamped = member.seal(now, Manner::Text, "", "oi", &mut token).unwrap();
            let outer =
                Outer { sender: from, to: "", epoch: stamped.epoch, counter: stamped.counter };
            self.all(|member| {
                member.open(now, &outer, &token, (0, 0)).unwrap();
            });
        }
    }
}

/// Everything that happens to keys; gives the epochs that were told.
fn story() -> Vec<(u64, [u8; 16])> {
    let now = Now { mono: Instant::default(), unix: UnixTime::from_secs(1_800_000_000) };
    let mut room = Room { now, ..Room::default() };
    for number in [7, 9, 4, 5] {
        room.enter(number, TEXT);
        room.talk();
    }
    room.enter(6, b"another passphrase, which is wrong");
    assert_eq!((room.members[&6].state(), room.members[&6].vault().keys()), ("Failed", 0));
    room.leave(9);
    room.talk();
    room.leave(7);
    room.talk();
    // One loses its connection for longer than the grace.
    let now = room.now;
    room.seated.retain(|seat| *seat != 5);
    room.with(5, |member| member.handle_disconnected(now));
    assert!(room.members[&5].vault().keys() > 0);
    room.run(GRACE.as_secs() + 1);
    assert_eq!(room.members[&5].vault().keys(), 0);
    room.epochs
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap();
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes();
    *mac.first_chunk().unwrap()
}

/// What a vault of this seed has drawn: identities, keys, seeds of scalars, IVs, and in between the
/// seed itself, one after the other.
fn drawn(number: u64) -> impl Iterator<Item = [[u8; 32]; 2]> {
    let mut seed = Seed::from_u64(number);
    std::iter::repeat_with(move || {
        let mut rng = seed.stream(0);
        let mut octets = [[0; 32]; 2];
        octets.iter_mut().for_each(|part| rng.fill_bytes(part));
        seed = Seed::new(octets[0]);
        octets
    })
}

#[test]
fn a_room_leaves_no_secret_behind() {
    // The keys themselves, found by the checks that are told of them.
    let epochs = story();
    assert!(epochs.len() >= 6, "{epochs:?}");
    let mut keys: Vec<[u8; 32]> = Vec::new();
    for (epoch, check) in &epochs {
        let ratcheted = keys.last().map(|last| {
            let mut next = [0; 32];
            let info = [&b"semfio ratchet"[..], b"sala", &epoch.to_be_bytes()];
            Hkdf::<Sha256>::new(None, last).expand_multi_info(&info, &mut next).unwrap();
            next
        });
        let drawn = [7, 9, 4, 5].into_iter().flat_map(|number| drawn(number).take(200));
        let mut all = ratcheted.into_iter().chain(drawn.map(|[_, key]| key));
        let parts =
            [&b"semfio epoch check"[..], &4_u64.to_be_bytes(), b"sala", &epoch.to_be_bytes()];
        keys.push(all.find(|key| keyed(key, &parts) == *check).expect("a key for each check"));
    }

    // Besides them: the passphrase in both forms, and of each member its first seeds and identity.
    let mut passphrase = [0; 32];
    let salt = b"semfio passphrase 1";
    Hkdf::<Sha256>::new(Some(salt), TEXT).expand(b"agreement", &mut passphrase).unwrap();
    let mut secrets = vec![TEXT.to_vec(), passphrase.to_vec()];
    secrets.extend(keys.iter().map(|key| key.to_vec()));
    for number in [7, 9, 4, 5, 6] {
        secrets.extend(drawn(number).take(2).map(|[seed, _]| seed.to_vec()));
        secrets.extend(drawn(number).take(1).map(|[_, identity]| identity.to_vec()));
    }
    let secrets: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
    let found = HEAP.watch(&secrets, || drop(story()));
    assert!(HEAP.blocks() > 500);
    assert_eq!(found, vec![0; secrets.len()]);
    let planted = HEAP.watch(&secrets, || secrets.iter().for_each(|secret| drop(secret.to_vec())));
    assert!(planted.iter().all(|found| *found > 0), "the allocator sees each");
    let stack = left_on_stack(story);
    let found: Vec<usize> = (0..secrets.len()).filter(|&at| holds(&stack, secrets[at])).collect();
    assert_eq!(found, [0; 0], "the stack");
}
