//! Agreements with somebody in between.

use alloc::vec::Vec;
use semfio_keysync::{CONFIRM, Context, Initiator, Pair, Passphrase, REPLY, Responder, START};
use semfio_machine::Seed;

use crate::Choices;

/// Two sides that see alike, and whose messages arrive as they were, hold the same keys; otherwise
/// nobody has any, but an initiator whose CONFIRM was lost. Nothing panics.
pub fn agreement(data: &[u8]) {
    check(data, |ours, theirs| ours == theirs);
}

/// `alike` says when both see the same.
pub(crate) fn check(data: &[u8], alike: impl Fn(&View<'_>, &View<'_>) -> bool) {
    let mut choices = Choices::new(data);
    let seed = Seed::from_u64(u64::from(choices.byte()));
    let ours = View::choose(&mut choices);
    let theirs = if choices.below(4) == 0 { View::choose(&mut choices) } else { ours };
    let mut heard: Vec<Vec<u8>> = Vec::new();
    let mut changed = !alike(&ours, &theirs);

    let (initiator, start) = Initiator::start(&ours.passphrase(), &ours.context(), seed.stream(0));
    assert_eq!(start.len(), START);
    let arrived = pass(&mut choices, &mut heard, &start);
    changed |= arrived != start;
    let answer =
        Responder::start(&theirs.passphrase(), &theirs.context(), &arrived, seed.stream(1));
    let Ok((responder, reply)) = answer else {
        assert!(changed, "a START was refused that nobody changed");
        return;
    };
    assert_eq!(reply.len(), REPLY);
    let arrived = pass(&mut choices, &mut heard, &reply);
    changed |= arrived != reply;
    let (first, confirm) = match initiator.finish(&arrived) {
        Ok((pair, confirm)) => {
            assert!(!changed, "an initiator took what somebody changed");
            assert_eq!(confirm.len(), CONFIRM);
            (Some(pair), confirm)
        }
        Err(_) => {
            assert!(changed, "a REPLY was refused that nobody changed");
            (None, Vec::new())
        }
    };
    let arrived = pass(&mut choices, &mut heard, &confirm);
    match (first, responder.finish(&arrived)) {
        (Some(first), Ok(second)) => {
            assert_eq!(arrived, confirm);
            assert_eq!(keys(&first), keys(&second));
            assert_ne!(first.to_responder.as_bytes(), first.to_initiator.as_bytes());
        }
        (None, Ok(_)) => panic!("a responder took a CONFIRM that nobody made"),
        (first, Err(_)) => assert!(first.is_none() || arrived != confirm),
    }
}

fn keys(pair: &Pair) -> [&[u8; 32]; 2] {
    [pair.to_responder.as_bytes(), pair.to_initiator.as_bytes()]
}

/// What one side knows before it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct View<'a> {
    passphrase: &'a [u8],
    room: &'a str,
    initiator: (u64, &'a str),
    pub(crate) responder: u64,
}

impl<'a> View<'a> {
    fn choose(choices: &mut Choices<'a>) -> Self {
        // Rooms have no letters in common but for their case, which does not count.
        Self {
            passphrase: text(choices).as_bytes(),
            room: ["", "a", "ab"][choices.below(3)],
            initiator: (number(choices), text(choices)),
            responder: number(choices),
        }
    }

    fn passphrase(&self) -> Passphrase {
        Passphrase::new(self.passphrase)
    }

    fn context(&self) -> Context<'a> {
        Context { room: self.room, initiator: self.initiator, responder: self.responder }
    }
}

fn text<'a>(choices: &mut Choices<'a>) -> &'a str {
    let length = choices.below(4);
    core::str::from_utf8(choices.bytes(length)).unwrap_or("")
}

fn number(choices: &mut Choices<'_>) -> u64 {
    u64::from(choices.byte()) << choices.below(57)
}

/// What arrives in place of `message`.
fn pass(choices: &mut Choices<'_>, heard: &mut Vec<Vec<u8>>, message: &[u8]) -> Vec<u8> {
    heard.push(message.to_vec());
    let mut arrived = message.to_vec();
    match choices.byte() % 16 {
        0 => {
            let at = choices.below(arrived.len());
            if let Some(octet) = arrived.get_mut(at) {
                *octet ^= choices.byte();
            }
        }
        1 => arrived.truncate(choices.below(message.len())),
        2 => {
            let more = choices.below(40);
            arrived.extend_from_slice(choices.bytes(more));
        }
        3 => arrived.clone_from(&heard[choices.below(heard.len())]),
        4 => {
            let new = choices.bytes(message.len());
            arrived[..new.len()].copy_from_slice(new);
        }
        5 => {
            // What was heard, with the letter that is looked for, and in the length that is.
            arrived.clone_from(&heard[choices.below(heard.len())]);
            arrived.resize(message.len(), choices.byte());
            if let (Some(first), Some(&letter)) = (arrived.first_mut(), message.first()) {
                *first = letter;
            }
        }
        _ => {}
    }
    arrived
}
