//! Members of a sealed room, and a hub that says whatever it likes.

use alloc::vec::Vec;
use core::time::Duration;
use semfio_keysync::{
    KeyEvent, KeySync, KeyTransmit, MAX_BODY, MAX_HELD, Manner, Outer, Passphrase, Refusal, Vault,
};
use semfio_machine::{Instant, Now, Seed, UnixTime};

use crate::Choices;

/// The number of each member, and one that nobody has.
const NUMBERS: [u64; 4] = [11, 12, 13, 14];
/// Frames that are kept, to be delivered, altered or delivered again.
const MAX_KEPT: usize = 32;

/// A frame of the hub's, or an entry of its log.
#[derive(Clone, Debug)]
enum Frame {
    Relay { from: u64, to: u64, body: Vec<u8> },
    Epoch { epoch: u64, fresh: bool, check: [u8; 16] },
    Token { sender: u64, epoch: u64, counter: u64, token: Vec<u8>, text: u8 },
}

/// Whatever a hub says in whatever order, nothing panics, nothing is opened that was not sealed so,
/// nothing twice, epochs only rise, who fails holds no key, queues and bodies stay within their limits,
/// and no deadline is set again for what was just due.
pub fn keysync(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut members: Vec<KeySync> = Vec::new();
    for (at, nick) in ["ana", "bia", "eva"].into_iter().enumerate() {
        // The third has another passphrase.
        let phrase: &[u8] = if at < 2 { b"abacate" } else { b"abacaxi" };
        let vault = Vault::new(Passphrase::new(phrase), Seed::from_u64(at as u64));
        members.push(KeySync::new(vault, "sala", nick));
    }
    let mut seen: [Vec<u8>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    let mut floors = [0; 3];
    let mut kept: Vec<Frame> = Vec::new();
    let mut texts = 0_u8;
    let mut now = Now { mono: Instant::default(), unix: UnixTime::from_secs(1_800_000_000) };
    let mut seq = 0;
    let mut work = 0;
    while !choices.is_empty() && work < 200 {
        work += 1;
        let who = choices.below(3);
        let number = NUMBERS[choices.below(4)];
        let member = &mut members[who];
        seq += 1;
        match choices.below(16) {
            0 => member.handle_door(now, NUMBERS[who], number),
            1 => member.handle_knock(now, number, "bia"),
            2 => member.handle_gone(now, number),
            3 => member.handle_refused(now, Refusal::from_number(choices.byte())),
            4 => member.handle_part(now, seq),
            5 => member.handle_holder(now, seq, number),
            6 => {
                let epoch = [1, 2, u64::from(choices.byte()), u64::MAX][choices.below(4)];
                member.handle_epoch(now, epoch, choices.below(2) == 0, [choices.byte(); 16]);
            }
            7 => {
                let len = choices.below(200);
                member.handle_relay(now, number, choices.bytes(len));
            }
            8 => member.handle_disconnected(now),
            9 => {
                let millis = [0, 100, 1_000, 2_000, 5_000, 31_000, 90_000_000][choices.below(7)];
                now.mono = now.mono.saturating_add(Duration::from_millis(millis));
                now.unix = UnixTime::from_secs(u64::from(choices.byte()) << 55);
                member.handle_timeout(now);
                assert!(member.poll_timeout().is_none_or(|due| due.at > now.mono));
            }
            10 => {
                let mut token = Vec::new();
                let sealed = member.seal(now, Manner::Text, "", text(texts), &mut token);
                if let Ok(stamped) = sealed {
                    let (sender, epoch, counter) =
                        (member.number(), stamped.epoch, stamped.counter);
                    kept.push(Frame::Token { sender, epoch, counter, token, text: texts });
                    texts = texts.wrapping_add(1);
                }
            }
            choice => {
                let at = choices.below(kept.len());
                let Some(mut frame) = kept.get(at).cloned() else { continue };
                // As it is, to whom it is for; else something is changed about it.
                let honest = choice < 15;
                if !honest {
                    change(&mut frame, &mut choices);
                }
                match frame {
                    Frame::Relay { from, to, body } => {
                        let for_whom = NUMBERS.iter().position(|number| *number == to);
                        let whom = for_whom.filter(|at| honest && *at < 3).unwrap_or(who);
                        members[whom].handle_relay(now, from, &body);
                    }
                    Frame::Epoch { epoch, fresh, check } => {
                        let one = if honest { 0..3 } else { who..who + 1 };
                        members[one]
                            .iter_mut()
                            .for_each(|member| member.handle_epoch(now, epoch, fresh, check));
                    }
                    Frame::Token { sender, epoch, counter, token, text: label } => {
                        let outer = Outer { sender, to: "", epoch, counter };
                        let label = (u64::from(label), 0);
                        let opened = member.open(now, &outer, &token, label);
                        if let Ok(message) = opened {
                            heard(&mut seen[who], &message.text, texts);
                        }
                    }
                }
            }
        }
        for (at, member) in members.iter_mut().enumerate() {
            let limit = if choices.below(8) == 0 { 1 } else { 64 };
            for transmit in core::iter::from_fn(|| member.poll_transmit()).take(limit) {
                let frame = match transmit {
                    KeyTransmit::Relay { to, body } => {
                        assert!(body.len() <= MAX_BODY);
                        Frame::Relay { from: NUMBERS[at], to, body }
                    }
                    KeyTransmit::Epoch { epoch, fresh, check } => {
                        Frame::Epoch { epoch, fresh, check }
                    }
                    _ => continue,
                };
                if kept.len() == MAX_KEPT {
                    kept.remove(0);
                }
                kept.push(frame);
            }
            let mut events = 0;
            while let Some(event) = member.poll_event() {
                events += 1;
                match event {
                    KeyEvent::Opened { message, .. } => heard(&mut seen[at], &message.text, texts),
                    KeyEvent::Rotated { epoch, .. } => {
                        assert!(epoch > floors[at], "{epoch} after {}", floors[at]);
                        floors[at] = epoch;
                    }
                    KeyEvent::Failed(_) => assert_eq!(member.vault().keys(), 0),
                    _ => {}
                }
            }
            assert!(events <= MAX_HELD + 8);
        }
    }
}

/// A text nobody else says.
fn text(number: u8) -> &'static str {
    const TEXTS: &str = "\
        abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let at = usize::from(number) % TEXTS.len();
    &TEXTS[at..at + 1]
}

/// Once each; after as many as there are letters they begin again.
fn heard(seen: &mut Vec<u8>, said: &str, texts: u8) {
    assert!((0..texts).any(|number| text(number) == said), "nobody said {said:?}");
    if texts < 60 {
        assert!(!seen.contains(&said.as_bytes()[0]), "{said:?} was heard before");
        seen.push(said.as_bytes()[0]);
    }
}

fn change(frame: &mut Frame, choices: &mut Choices<'_>) {
    let flip = |octets: &mut Vec<u8>, choices: &mut Choices<'_>| {
        let at = choices.below(octets.len());
        if let Some(octet) = octets.get_mut(at) {
            *octet ^= 1 << choices.below(8);
        }
    };
    match frame {
        Frame::Relay { from, body, .. } => match choices.below(3) {
            0 => *from = NUMBERS[choices.below(4)],
            1 => body.truncate(choices.below(body.len())),
            _ => flip(body, choices),
        },
        Frame::Epoch { epoch, fresh, check } => match choices.below(3) {
            0 => *epoch = epoch.wrapping_add(u64::from(choices.byte())),
            1 => *fresh = !*fresh,
            _ => check[choices.below(16)] ^= 1,
        },
        Frame::Token { sender, epoch, counter, token, .. } => match choices.below(5) {
            0 => *sender = NUMBERS[choices.below(4)],
            1 => *epoch = epoch.wrapping_add(u64::from(choices.byte())),
            2 => *counter = counter.wrapping_add(u64::from(choices.byte())),
            3 => token.truncate(choices.below(token.len())),
            _ => flip(token, choices),
        },
    }
}
