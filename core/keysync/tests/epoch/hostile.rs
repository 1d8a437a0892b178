//! Bodies and tokens that are cut, flipped, repeated, late or from somewhere else.

use semfio_keysync::{
    GRACE, KeyEvent, KeySync, KeyTransmit, MAX_HELD, MAX_MEMBERS, MAX_TEXT, Manner, Message, Outer,
    Passphrase, Stamped, Unopened, Unsealed, Vault,
};
use semfio_machine::{Instant, Now, Seed, UnixTime};
use std::time::Duration;

const START: Now = at(0);

const fn at(millis: u64) -> Now {
    let mono = Instant::from_nanos(millis * 1_000_000);
    Now { mono, unix: UnixTime::from_secs(1_800_000_000) }
}

fn member(seed: u64, nick: &str) -> KeySync {
    member_of("sala", seed, nick)
}

fn member_of(room: &str, seed: u64, nick: &str) -> KeySync {
    KeySync::new(Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(seed)), room, nick)
}

fn transmits(sync: &mut KeySync) -> Vec<KeyTransmit> {
    std::iter::from_fn(|| sync.poll_transmit()).collect()
}

fn events(sync: &mut KeySync) -> Vec<KeyEvent> {
    std::iter::from_fn(|| sync.poll_event()).collect()
}

fn relay(sync: &mut KeySync) -> Vec<u8> {
    let mut sent = transmits(sync);
    match (sent.pop(), sent.is_empty()) {
        (Some(KeyTransmit::Relay { body, .. }), true) => body,
        other => panic!("{other:?}"),
    }
}

type Entry = (u64, bool, [u8; 16]);

fn announced(transmit: Option<&KeyTransmit>) -> Entry {
    match transmit {
        Some(KeyTransmit::Epoch { epoch, fresh, check }) => (*epoch, *fresh, *check),
        other => panic!("{other:?}"),
    }
}

/// The holder, number 1, in epoch 1.
fn opened() -> KeySync {
    let mut holder = member(1, "ana");
    holder.handle_door(START, 1, 1);
    let (epoch, fresh, check) = announced(transmits(&mut holder).last());
    holder.handle_epoch(START, epoch, fresh, check);
    holder
}

/// A whole admission with number 2; `alter` may change each of its four bodies.
fn admitted(alter: impl Fn(usize, &mut Vec<u8>)) -> (KeySync, KeySync, Option<Entry>) {
    let (mut holder, mut bia) = (opened(), member(2, "bia"));
    holder.handle_knock(START, 2, "bia");
    bia.handle_door(START, 2, 1);
    let altered = |step: usize, sync: &mut KeySync| {
        let mut body = None;
        for transmit in transmits(sync) {
            if let KeyTransmit::Relay { body: sent, .. } = transmit {
                body = Some(sent);
            }
        }
        let mut body = body?;
        alter(step, &mut body);
        Some(body)
    };
    let mut entry = None;
    for step in 0..4 {
        let (from, to) =
            if step % 2 == 0 { (&mut bia, &mut holder) } else { (&mut holder, &mut bia) };
        let number = if step % 2 == 0 { 2 } else { 1 };
        if step == 3 {
            from.handle_timeout(at(300));
            let sent = transmits(from);
            if let Some(KeyTransmit::Epoch { .. }) = sent.last() {
                entry = Some(announced(sent.last()));
            }
            if let Some(KeyTransmit::Relay { body, .. }) = sent.first() {
                let mut body = body.clone();
                alter(step, &mut body);
                to.handle_relay(at(300), number, &body);
            }
        } else if let Some(body) = altered(step, from) {
            to.handle_relay(START, number, &body);
        }
    }
    if let Some((epoch, fresh, check)) = entry {
        holder.handle_epoch(at(301), epoch, fresh, check);
        bia.handle_epoch(at(301), epoch, fresh, check);
    }
    (holder, bia, entry)
}

fn sealed(from: &mut KeySync, now: Now, text: &str) -> (Stamped, Vec<u8>) {
    let mut token = Vec::new();
    let stamped = from.seal(now, Manner::Text, "", text, &mut token).unwrap();
    (stamped, token)
}

fn open(
    to: &mut KeySync,
    now: Now,
    sender: u64,
    (Stamped { epoch, counter }, token): &(Stamped, Vec<u8>),
) -> Result<Message, Unopened> {
    let outer = Outer { sender, to: "", epoch: *epoch, counter: *counter };
    to.open(now, &outer, token, (0, 0))
}

#[test]
fn every_cut_and_every_flipped_bit_of_every_body_is_noticed() {
    let lengths = std::cell::RefCell::new([0; 4]);
    let (mut holder, mut bia, _) = admitted(|step, body| lengths.borrow_mut()[step] = body.len());
    let text = sealed(&mut holder, at(400), "oi");
    assert_eq!(open(&mut bia, at(400), 1, &text).unwrap().text, "oi");
    for step in 0..4 {
        let len = lengths.borrow()[step];
        // A run costs some milliseconds without optimisation, so not all bits are tried in each.
        let stride = if cfg!(debug_assertions) { 23 } else { 1 };
        for at_bit in (0..len * 8).step_by(stride).chain([len * 8]) {
            let alter = |this: usize, body: &mut Vec<u8>| {
                if this == step {
                    match body.get_mut(at_bit / 8) {
                        Some(octet) => *octet ^= 1 << (at_bit % 8),
                        None => body.truncate(len - 1),
                    }
                }
            };
            let (mut holder, mut bia, _) = admitted(alter);
            if step == 0 && (34..58).contains(&(at_bit / 8)) {
                // The epoch and the proof in START: nothing depends on them but what is counted.
                continue;
            }
            // Nobody has a key that another has not under the same number.
            assert!(!bia.is_ready(), "step {step}, bit {at_bit}: {bia:?}");
            let sealed = bia.seal(at(400), Manner::Text, "", "oi", &mut Vec::new());
            assert_eq!(sealed, Err(Unsealed::NotReady));
            assert!(holder.is_ready());
            assert!(holder.seal(at(400), Manner::Text, "", "oi", &mut Vec::new()).is_ok());
        }
    }
}

#[test]
fn every_flipped_bit_of_a_token_and_of_what_stands_around_it_is_noticed() {
    let (mut holder, mut bia, _) = admitted(|_, _| ());
    let (stamped, token) = sealed(&mut holder, at(400), "oi");
    for bit in 0..token.len() * 8 {
        let mut token = token.clone();
        token[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&mut bia, at(400), 1, &(stamped, token)).is_err(), "bit {bit}");
    }
    for bit in 0..64 {
        let Stamped { epoch, counter } = stamped;
        let other = Stamped { epoch, counter: counter ^ 1 << bit };
        assert!(open(&mut bia, at(400), 1, &(other, token.clone())).is_err());
        let other = Stamped { epoch: epoch ^ 1 << bit, counter };
        assert!(open(&mut bia, at(400), 1, &(other, token.clone())).is_err());
        assert!(open(&mut bia, at(400), 1 ^ 1 << bit, &(stamped, token.clone())).is_err());
    }
    let outer = Outer { sender: 1, to: "bia", epoch: stamped.epoch, counter: stamped.counter };
    assert_eq!(bia.open(at(400), &outer, &token, (0, 0)), Err(Unopened::Refused));
    for cut in 0..token.len() {
        assert!(open(&mut bia, at(400), 1, &(stamped, token[..cut].to_vec())).is_err());
    }
    let glued = [token.clone(), token.clone()].concat();
    assert!(open(&mut bia, at(400), 1, &(stamped, glued)).is_err());
    assert_eq!(open(&mut bia, at(400), 1, &(stamped, token.clone())).unwrap().text, "oi");
    assert_eq!(open(&mut bia, at(400), 1, &(stamped, token)), Err(Unopened::Refused));
}

#[test]
fn clocks_do_not_matter() {
    let (mut holder, mut bia, _) = admitted(|_, _| ());
    for seconds in [0, 1, 1_000_000_000, u64::MAX] {
        let mut now = at(400);
        now.unix = UnixTime::from_nanos(seconds);
        let text = sealed(&mut holder, now, "oi");
        now.unix = UnixTime::from_nanos(u64::MAX - seconds);
        assert_eq!(open(&mut bia, now, 1, &text).unwrap().text, "oi");
    }
}

#[test]
fn the_longest_text_passes_and_a_longer_one_does_not() {
    let (mut holder, mut bia, _) = admitted(|_, _| ());
    let text = "é".repeat(MAX_TEXT / 2);
    let sent = sealed(&mut holder, at(400), &text);
    assert_eq!(open(&mut bia, at(400), 1, &sent).unwrap().text, text);
    let longer = holder.seal(at(400), Manner::Text, "", &format!("{text}x"), &mut Vec::new());
    assert_eq!(longer, Err(Unsealed::TooLong));
    let huge = (sent.0, vec![b'A'; 1 << 20]);
    assert_eq!(open(&mut bia, at(400), 1, &huge), Err(Unopened::Refused));
}

#[test]
fn what_comes_before_its_key_is_held_within_limits_and_not_for_ever() {
    let (_, mut bia, _) = admitted(|_, _| ());
    let token = vec![b'A'; 100];
    let later = Stamped { epoch: 90, counter: 0 };
    for sender in [1, 5] {
        for _ in 0..MAX_HELD / 2 {
            let said = (later, token.clone());
            assert_eq!(open(&mut bia, at(400), sender, &said), Err(Unopened::Held));
        }
        let said = (later, token.clone());
        assert_eq!(open(&mut bia, at(400), sender, &said), Err(Unopened::Refused));
    }
    assert_eq!(open(&mut bia, at(400), 6, &(later, token)), Err(Unopened::Refused));
    events(&mut bia);
    bia.handle_timeout(at(400 + 60_000));
    let unreadable = |event: &KeyEvent| matches!(event, KeyEvent::Unreadable { .. });
    assert_eq!(events(&mut bia).iter().filter(|event| unreadable(event)).count(), MAX_HELD);
}

/// One round: number 3 comes, so that the next epoch is announced; gives that entry.
fn next_epoch(holder: &mut KeySync, now: Now) -> (Option<Vec<u8>>, Entry) {
    holder.handle_gone(now, 99);
    holder.handle_part(now, now.mono.as_nanos());
    let mut later = now;
    later.mono = now.mono.saturating_add(Duration::from_secs(2));
    holder.handle_timeout(later);
    let sent = transmits(holder);
    let wrap = sent.iter().find_map(|transmit| match transmit {
        KeyTransmit::Relay { to: 2, body } => Some(body.clone()),
        _ => None,
    });
    let entry = announced(sent.last());
    holder.handle_epoch(later, entry.0, entry.1, entry.2);
    (wrap, entry)
}

#[test]
fn stale_and_repeated_wraps_and_epochs_change_nothing() {
    let (mut holder, mut bia, first) = admitted(|_, _| ());
    let first = first.unwrap();
    let before = sealed(&mut holder, at(500), "antes");
    assert!(open(&mut bia, at(500), 1, &before).is_ok());
    let (wrap, entry) = next_epoch(&mut holder, at(1_000));
    let wrap = wrap.unwrap();
    bia.handle_relay(at(1_100), 1, &wrap);
    bia.handle_relay(at(1_100), 1, &wrap);
    assert_eq!(bia.epoch(), first.0, "a key alone does not make an epoch active");
    for bit in 0..128 {
        let mut check = entry.2;
        check[bit / 8] ^= 1 << (bit % 8);
        bia.handle_epoch(at(1_150), entry.0, entry.1, check);
        assert_eq!(bia.epoch(), first.0, "nor does an entry that does not fit it");
    }
    bia.handle_epoch(at(1_200), entry.0, entry.1, entry.2);
    assert_eq!(bia.epoch(), entry.0);
    let now = at(4_000);
    bia.handle_epoch(now, first.0, first.1, first.2);
    bia.handle_epoch(now, entry.0, !entry.1, entry.2);
    assert_eq!(bia.epoch(), entry.0);
    let during = sealed(&mut holder, now, "durante");
    assert!(open(&mut bia, now, 1, &during).is_ok());
    bia.handle_relay(now, 1, &wrap);
    assert_eq!(open(&mut bia, now, 1, &during), Err(Unopened::Refused));

    // Once the grace is over the key of before is gone, and its WRAP does not bring it back: a text
    // would be shown twice.
    let (latest, third) = next_epoch(&mut holder, at(5_000));
    bia.handle_relay(at(5_100), 1, &latest.unwrap());
    bia.handle_epoch(at(5_100), third.0, third.1, third.2);
    assert_eq!(bia.epoch(), third.0);
    let wiped = Now { mono: at(1_200).mono.saturating_add(GRACE), ..START };
    bia.handle_timeout(wiped);
    bia.handle_relay(wiped, 1, &wrap);
    bia.handle_epoch(wiped, entry.0, entry.1, entry.2);
    assert_eq!(open(&mut bia, wiped, 1, &before), Err(Unopened::Refused));
    let wiped = Now { mono: at(5_100).mono.saturating_add(GRACE), ..START };
    let keys = bia.vault().keys();
    bia.handle_timeout(wiped);
    assert_eq!(bia.vault().keys(), keys - 1);
    bia.handle_relay(wiped, 1, &wrap);
    assert_eq!(open(&mut bia, wiped, 1, &during), Err(Unopened::Refused));
}

#[test]
fn a_number_that_says_nothing_and_one_that_says_everything() {
    let mut holder = opened();
    for peer in 0..MAX_MEMBERS as u64 + 100 {
        holder.handle_knock(START, peer, "x");
    }
    let refused = transmits(&mut holder);
    assert!(!refused.is_empty() && refused.len() <= 102);
    assert!(refused.iter().all(|sent| matches!(sent, KeyTransmit::Refuse { .. })));
    for from in [0, 1, 7, u64::MAX] {
        for kind in 0..=255 {
            for len in [0, 1, 33, 65, 100, 5_000] {
                let mut body = vec![0x41; len];
                if let Some(first) = body.first_mut() {
                    *first = kind;
                }
                holder.handle_relay(START, from, &body);
            }
        }
    }
    holder.handle_holder(START, u64::MAX, 0);
    holder.handle_part(START, u64::MAX);
    assert!(relay(&mut opened_other()).len() > 33);
}

fn opened_other() -> KeySync {
    let mut other = member(9, "eva");
    other.handle_door(START, 9, 1);
    other
}

/// K12: somebody who begins an agreement and is silent then delays the first epoch of a new holder by
/// five seconds and no more; somebody who says nothing at all delays nothing.
#[test]
fn a_silent_member_delays_an_epoch_by_no_more_than_the_deadline() {
    for silent in [false, true] {
        let (holder, mut bia, _) = admitted(|_, _| ());
        drop(holder);
        let mut caio = member(3, "caio");
        caio.handle_door(at(1_000), 3, 2);
        let start = relay(&mut caio);
        bia.handle_part(at(1_000), 10);
        bia.handle_holder(at(1_000), 11, 2);
        events(&mut bia);
        if silent {
            bia.handle_relay(at(1_001), 3, &start);
            assert!(!relay(&mut bia).is_empty());
        }
        let due = if silent { 6_000 } else { 2_000 };
        assert_eq!(bia.poll_timeout().map(|due| due.at), Some(at(due).mono));
        bia.handle_timeout(at(due - 1));
        assert_eq!(transmits(&mut bia), []);
        bia.handle_timeout(at(due));
        let (epoch, fresh, check) = announced(transmits(&mut bia).last());
        assert!(fresh && !bia.is_ready());
        bia.handle_epoch(at(due), epoch, fresh, check);
        assert!(bia.is_ready());
    }
}

/// Says in a START that its sender was inside in epoch 1.
fn claim(start: &mut [u8]) {
    start[34..42].copy_from_slice(&1_u64.to_be_bytes());
}

/// K3: a hub that says so for a newcomer does not get it the keys of before.
#[test]
fn who_proves_nothing_gets_nothing_from_before() {
    let before = sealed(&mut opened(), START, "antes");
    for alter in [|_: &mut [u8]| (), claim] {
        let (_, mut bia, entry) = admitted(|step, body| {
            if step == 0 {
                alter(body);
            }
        });
        assert_eq!((bia.epoch(), entry.unwrap().0, bia.vault().keys()), (2, 2, 2));
        assert_eq!(open(&mut bia, at(400), 1, &before), Err(Unopened::Refused));
    }
}

/// K12, K2: a hub that tells the holder that a member is gone and never lets the log say so delays the
/// next key by a second.
#[test]
fn who_is_gone_without_a_part_is_without_the_next_key() {
    let (mut holder, _, _) = admitted(|_, _| ());
    holder.handle_gone(at(1_000), 2);
    assert_eq!(transmits(&mut holder), []);
    assert_eq!(holder.poll_timeout().map(|due| due.at), Some(at(2_000).mono));
    holder.handle_timeout(at(2_000));
    let sent = transmits(&mut holder);
    assert_eq!((sent.len(), announced(sent.last()).1), (1, true), "an EPOCH, and no WRAP");
}

/// K8: whoever holds a room without its passphrase learns of one guess that it is wrong, not of two.
#[test]
fn one_wrong_answer_ends_it() {
    let mut false_holder =
        KeySync::new(Vault::new(Passphrase::new(b"abacaxi"), Seed::from_u64(1)), "sala", "ana");
    false_holder.handle_door(START, 1, 1);
    transmits(&mut false_holder);
    let mut bia = member(2, "bia");
    bia.handle_door(START, 2, 1);
    false_holder.handle_knock(START, 2, "bia");
    false_holder.handle_relay(START, 2, &relay(&mut bia));
    let reply = relay(&mut false_holder);
    bia.handle_relay(START, 1, &reply);
    assert_eq!((bia.state(), bia.vault().keys(), bia.poll_timeout()), ("Failed", 0, None));
    assert_eq!(relay(&mut bia)[0], 6, "FAIL, and nothing else");
    bia.handle_relay(START, 1, &reply);
    bia.handle_door(START, 2, 1);
    bia.handle_timeout(at(60_000));
    assert_eq!(transmits(&mut bia), []);
}

/// K8: one who has not the passphrase is let guess thirty times a minute, not more; members do not
/// use these up.
#[test]
fn guesses_are_counted_and_members_are_none() {
    let mut holder = opened();
    let mut answered = 0;
    for number in 100..200 {
        let mut stranger = member(number, "eva");
        stranger.handle_door(START, number, 1);
        holder.handle_knock(START, number, "eva");
        let mut start = relay(&mut stranger);
        if number % 2 == 0 {
            claim(&mut start);
        }
        holder.handle_relay(START, number, &start);
        let sent = transmits(&mut holder);
        answered += usize::from(matches!(sent[..], [KeyTransmit::Relay { .. }]));
    }
    assert_eq!(answered, 30);
    // One that was in and comes back proves that with its key.
    let (mut holder, mut bia, _) = admitted(|_, _| ());
    for number in 100..200 {
        let mut stranger = member(number, "eva");
        stranger.handle_door(at(400), number, 1);
        holder.handle_relay(at(400), number, &relay(&mut stranger));
    }
    transmits(&mut holder);
    bia.handle_disconnected(at(500));
    bia.handle_door(at(600), 22, 1);
    holder.handle_knock(at(600), 22, "bia");
    holder.handle_relay(at(600), 22, &relay(&mut bia));
    assert!(matches!(transmits(&mut holder)[..], [KeyTransmit::Relay { to: 22, .. }]));
}

/// K11: whoever fails holds nothing, and whoever is away for too long has no key of a room.
#[test]
fn keys_are_gone_after_the_grace() {
    let (_, mut bia, _) = admitted(|_, _| ());
    assert_eq!(bia.vault().keys(), 2, "an epoch, and what it shares with the holder");
    bia.handle_disconnected(at(1_000));
    assert_eq!(bia.vault().keys(), 1);
    bia.handle_timeout(at(30_999));
    assert_eq!(bia.vault().keys(), 1);
    bia.handle_timeout(at(31_000));
    assert_eq!((bia.vault().keys(), bia.poll_timeout()), (0, None));
}

/// K6: the same people with the same keys, in another room.
#[test]
fn a_token_of_another_room_is_refused_under_the_same_key() {
    let (mut here, mut there) = (opened(), member_of("outra", 1, "ana"));
    there.handle_door(START, 1, 1);
    let (epoch, fresh, check) = announced(transmits(&mut there).last());
    there.handle_epoch(START, epoch, fresh, check);
    let text = sealed(&mut there, START, "oi");
    assert_eq!(open(&mut here, START, 1, &text), Err(Unopened::Refused));
    assert!(open(&mut there, START, 1, &text).is_ok());
}

/// K1, K2: who comes back to a room that has emptied meanwhile does not take for its key what it can
/// derive from the last room's, of the same number or a higher one: those who have left have that.
#[test]
fn a_key_of_the_last_room_is_not_taken_for_one_of_this() {
    for higher in [false, true] {
        let (mut ana, mut bia, _) = admitted(|_, _| ());
        bia.handle_disconnected(at(400));
        let mut caio = member(30, "caio");
        if higher {
            // It was in a room of its own until epoch 7.
            caio.handle_door(START, 3, 3);
            for seq in 1..8 {
                let (epoch, fresh, check) = announced(transmits(&mut caio).last());
                caio.handle_epoch(at(seq * 1_000), epoch, fresh, check);
                caio.handle_part(at(seq * 1_000), seq);
            }
            caio.handle_disconnected(at(8_000));
        }
        ana.handle_knock(at(8_000), 3, "caio");
        caio.handle_door(at(8_000), 3, 1);
        ana.handle_relay(at(8_000), 3, &relay(&mut caio));
        caio.handle_relay(at(8_000), 1, &relay(&mut ana));
        ana.handle_relay(at(8_000), 3, &relay(&mut caio));
        let old = announced(transmits(&mut ana).last());
        assert_eq!((old.0, old.1), (if higher { 8 } else { 3 }, false));

        let mut duda = member(77, "duda");
        duda.handle_door(at(9_000), 1, 1);
        let (epoch, fresh, check) = announced(transmits(&mut duda).last());
        duda.handle_epoch(at(9_000), epoch, fresh, check);
        duda.handle_knock(at(9_000), 22, "bia");
        bia.handle_door(at(9_000), 22, 1);
        duda.handle_relay(at(9_000), 22, &relay(&mut bia));
        bia.handle_relay(at(9_000), 1, &relay(&mut duda));
        duda.handle_relay(at(9_000), 22, &relay(&mut bia));
        duda.handle_timeout(at(10_000));
        let sent = transmits(&mut duda);
        let KeyTransmit::Relay { body: wrap, .. } = &sent[0] else { panic!("{sent:?}") };
        let new = announced(sent.last());
        assert_eq!(new.0, 3);
        duda.handle_epoch(at(10_000), new.0, new.1, new.2);
        if higher {
            bia.handle_relay(at(10_000), 1, wrap);
        }
        for (epoch, fresh, check) in [old, new] {
            bia.handle_epoch(at(10_000), epoch, fresh, check);
        }
        bia.handle_relay(at(10_000), 1, wrap);
        assert_eq!(bia.epoch(), new.0);
        let text = sealed(&mut bia, at(11_000), "oi");
        assert_eq!(open(&mut duda, at(11_000), 22, &text).unwrap().text, "oi");
        let text = sealed(&mut duda, at(11_000), "oi");
        assert_eq!(open(&mut bia, at(11_000), 1, &text).unwrap().text, "oi");
    }
}

/// K4: a new holder counts on from what the log has, also where it never had the key; but no hub
/// uses the numbers up.
#[test]
fn a_new_holder_counts_on_from_the_log() {
    for (logged, next) in [(9, 10), (u64::MAX, 3)] {
        let (_, mut bia, _) = admitted(|_, _| ());
        bia.handle_epoch(at(900), logged, true, [7; 16]);
        bia.handle_part(at(1_000), 10);
        bia.handle_holder(at(1_000), 11, 2);
        transmits(&mut bia);
        bia.handle_timeout(at(2_000));
        let (epoch, fresh, check) = announced(transmits(&mut bia).last());
        assert_eq!((epoch, fresh), (next, true));
        bia.handle_epoch(at(2_100), epoch, fresh, check);
        assert!(bia.is_ready());
    }
}

/// K1: a key that was lost on its way is asked for, and what came meanwhile is read.
#[test]
fn a_key_that_comes_after_its_epoch_is_taken_and_what_was_held_is_read() {
    let (mut holder, mut bia, first) = admitted(|_, _| ());
    let (_, entry) = next_epoch(&mut holder, at(1_000));
    transmits(&mut bia);
    bia.handle_epoch(at(3_100), entry.0, entry.1, entry.2);
    assert_eq!(bia.epoch(), first.unwrap().0);
    let text = sealed(&mut holder, at(3_100), "oi");
    assert_eq!(open(&mut bia, at(3_200), 1, &text), Err(Unopened::Held));
    holder.handle_relay(at(3_300), 2, &relay(&mut bia));
    let wrap = relay(&mut holder);
    // Lost as well; two seconds later it asks again.
    assert_eq!(bia.poll_timeout().map(|due| due.at), Some(at(5_100).mono));
    bia.handle_timeout(at(5_100));
    assert!(!relay(&mut bia).is_empty());
    bia.handle_relay(at(5_200), 1, &wrap);
    assert_eq!(bia.epoch(), entry.0);
    let read = |event: &KeyEvent| matches!(event, KeyEvent::Opened { message, .. } if message.text == "oi");
    assert!(events(&mut bia).iter().any(read));
}

/// K8: whatever it sends in between, and before the hub hears that it was refused.
#[test]
fn one_at_the_door_has_one_guess() {
    for ends_with in [0, 3, 6] {
        let mut holder = opened();
        holder.handle_knock(START, 2, "eva");
        let mut replies = 0;
        for guess in 0..8 {
            let phrase = format!("guess {guess}");
            let vault = Vault::new(Passphrase::new(phrase.as_bytes()), Seed::from_u64(100 + guess));
            let mut eva = KeySync::new(vault, "sala", "eva");
            eva.handle_door(START, 2, 1);
            let start = relay(&mut eva);
            holder.handle_relay(START, 2, &start);
            let end = match ends_with {
                3 => [&[3][..], &[0; 100]].concat(),
                6 => [&[6][..], &start[26..34], &[1]].concat(),
                _ => Vec::new(),
            };
            holder.handle_relay(START, 2, &end);
            let reply = |sent: &KeyTransmit| matches!(sent, KeyTransmit::Relay { .. });
            replies += transmits(&mut holder).iter().filter(|sent| reply(sent)).count();
        }
        assert_eq!(replies, 1, "{ends_with}");
    }
}

/// Bodies and announcements go back and forth between number 1 and number 2 until `until`.
fn converse(one: &mut KeySync, two: &mut KeySync, from: u64, until: u64) {
    for millis in (from..until).step_by(50) {
        one.handle_timeout(at(millis));
        two.handle_timeout(at(millis));
        for _ in 0..8 {
            for (number, other) in [(1, 2), (2, 1)] {
                let (sender, taker) =
                    if number == 1 { (&mut *one, &mut *two) } else { (&mut *two, &mut *one) };
                for transmit in transmits(sender) {
                    match transmit {
                        KeyTransmit::Relay { to, body } if to == other => {
                            taker.handle_relay(at(millis), number, &body);
                        }
                        KeyTransmit::Epoch { epoch, fresh, check } => {
                            sender.handle_epoch(at(millis), epoch, fresh, check);
                            taker.handle_epoch(at(millis), epoch, fresh, check);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// K1: its agreement was given up meanwhile.
#[test]
fn who_sleeps_in_the_middle_of_an_agreement_gets_its_keys_when_it_wakes() {
    let (mut ana, mut bia, _) = admitted(|_, _| ());
    ana.handle_holder(at(400), 5, 2);
    bia.handle_holder(at(400), 5, 2);
    bia.handle_relay(at(400), 1, &relay(&mut ana));
    let reply = relay(&mut bia);
    for millis in (400..60_000).step_by(100) {
        bia.handle_timeout(at(millis));
        for transmit in transmits(&mut bia) {
            if let KeyTransmit::Epoch { epoch, fresh, check } = transmit {
                bia.handle_epoch(at(millis), epoch, fresh, check);
                ana.handle_epoch(at(60_000), epoch, fresh, check);
            }
        }
    }
    assert!(bia.is_ready());
    ana.handle_relay(at(60_000), 2, &reply);
    converse(&mut ana, &mut bia, 60_000, 240_000);
    assert!(ana.is_ready(), "{}", ana.state());
}

/// Body for body: `from` enters with what it has, and the holder, number 1, judges it.
fn judged(holder: &mut KeySync, millis: u64, number: u64, seed: u64, nick: &str) -> bool {
    let vault = Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(seed));
    let mut peer = KeySync::new(vault, "sala", nick);
    peer.handle_door(at(millis), number, 1);
    holder.handle_relay(at(millis), number, &relay(&mut peer));
    let Some(KeyTransmit::Relay { body, .. }) = transmits(holder).pop() else { return false };
    peer.handle_relay(at(millis), 1, &body);
    holder.handle_relay(at(millis), number, &relay(&mut peer));
    let refused = |sent: &KeyTransmit| matches!(sent, KeyTransmit::Refuse { .. });
    !transmits(holder).iter().any(refused)
}

/// A name is its owner's while it is there, and as long as it may come back to what it had.
#[test]
fn a_name_is_kept_for_who_may_come_back_and_no_longer() {
    let mut holder = opened();
    let (owner, other) = (7, 8);
    let mut number = 2;
    let mut enters = |holder: &mut KeySync, millis, seed| {
        number += 1;
        holder.handle_knock(at(millis), number, "caio");
        (judged(holder, millis, number, seed, "caio"), number)
    };
    let (entered, first) = enters(&mut holder, 1_000, owner);
    assert!(entered);
    assert!(!enters(&mut holder, 2_000, other).0, "it is inside");
    holder.handle_gone(at(3_000), first);
    assert!(!enters(&mut holder, 32_000, other).0, "it may come back");
    let (entered, second) = enters(&mut holder, 32_000, owner);
    assert!(entered, "it comes back");
    holder.handle_gone(at(33_000), second);
    assert!(enters(&mut holder, 64_000, other).0, "its program was begun anew");
}

/// One that proves another name than the hub knows would take that name from its owner.
#[test]
fn nobody_proves_a_name_that_it_does_not_have() {
    let mut holder = opened();
    holder.handle_knock(START, 2, "eva");
    assert!(!judged(&mut holder, 0, 2, 7, "caio"));
    holder.handle_knock(START, 3, "Caio");
    assert!(judged(&mut holder, 0, 3, 8, "caio"));
}
