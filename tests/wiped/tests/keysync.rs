//! K11: what key sync frees holds no secret any more. Alone in its process.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_core::RngCore;
use semfio_keysync::{Context, Initiator, Key, Pair, Passphrase, Responder};
use semfio_machine::{Rng, Seed};
use semfio_wiped::{PIECE, Watching, holds, left_on_stack};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::collections::BTreeMap;
use std::hint::black_box;

#[global_allocator]
static HEAP: Watching = Watching::new();

const TEXT: &[u8] = b"a passphrase that is long enough to be looked for";
const CONTEXT: Context<'static> = Context { room: "sala", initiator: (7, "ana"), responder: 9 };

/// What the tests look for, as they know it from the documentation.
struct Secrets {
    passphrase: [u8; 32],
    /// What SPAKE2 is given, and what it gives.
    password: [u8; 32],
    shared: Vec<u8>,
    confirm: [u8; 32],
    /// What the responder waits for. It is no secret once it was sent.
    proof: [u8; 32],
    /// The initiator's, of its scalar.
    seed: [u8; 32],
    pair: [[u8; 32]; 2],
}

fn rng(number: u64) -> Rng {
    Seed::from_u64(number).stream(0)
}

fn hkdf(salt: &[u8], key: &[u8], label: &[u8]) -> [u8; 32] {
    let mut octets = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), key).expand(label, &mut octets).unwrap();
    octets
}

fn secrets() -> Secrets {
    let passphrase = hkdf(b"semfio passphrase 1", TEXT, b"agreement");
    let mut context = Vec::new();
    for part in
        [&b"semfio keysync 1"[..], b"sala", &7_u64.to_be_bytes(), b"ana", &9_u64.to_be_bytes()]
    {
        context.extend((part.len() as u64).to_be_bytes());
        context.extend(part);
    }
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(&passphrase).unwrap();
    let password = mac.chain_update(Sha256::digest(&context)).finalize().into_bytes().into();
    let mut seed = [0; 32];
    rng(1).fill_bytes(&mut seed);
    let word = Password::new(password);
    let (a, b) = (Identity::new(b"initiator"), Identity::new(b"responder"));
    let first = Seed::new(seed).stream(0);
    let (one, start) = Spake2::<Ed25519Group>::start_a_with_rng(&word, &a, &b, first);
    let (_, reply) = Spake2::<Ed25519Group>::start_b_with_rng(&word, &a, &b, rng(2));
    let shared = one.finish(&reply).unwrap();
    let transcript = Sha256::digest([context, start, reply].concat());
    let expand = |label: &[u8]| hkdf(&transcript, &shared, label);
    let confirm = expand(b"confirm");
    let proof = <Hmac<Sha256> as Mac>::new_from_slice(&confirm).unwrap();
    let proof = proof.chain_update(b"initiator").finalize().into_bytes().into();
    let pair = [expand(b"to responder"), expand(b"to initiator")];
    Secrets { passphrase, password, shared, confirm, proof, seed, pair }
}

impl Secrets {
    fn all(&self) -> [&[u8]; 9] {
        [
            TEXT,
            &self.passphrase,
            &self.shared,
            &self.confirm,
            &self.seed,
            &self.pair[0],
            &self.pair[1],
            &self.proof,
            &self.password,
        ]
    }

    /// How often each was found; last what is sent or is the run's password.
    fn found_in(&self, run: impl FnOnce() + Send) -> Vec<usize> {
        HEAP.watch(&self.all(), run)
    }
}

/// One whole run. Each value is kept in a map and moved out of it, as a vault does.
fn agree(one: &mut Rng, other: &mut Rng) -> [Pair; 2] {
    let text = TEXT;
    let mut passphrases = BTreeMap::from([(0, Passphrase::new(text))]);
    passphrases.insert(1, passphrases[&0].clone());
    let mut initiators = BTreeMap::new();
    let mut responders = BTreeMap::new();
    let (initiator, start) = Initiator::start(&passphrases[&0], &CONTEXT, one);
    initiators.insert(7, initiator);
    let (responder, reply) = Responder::start(&passphrases[&1], &CONTEXT, &start, other).unwrap();
    responders.insert(9, responder);
    let (ours, confirm) = initiators.remove(&7).unwrap().finish(&reply).unwrap();
    let theirs = responders.remove(&9).unwrap().finish(&confirm).unwrap();
    [ours, theirs]
}

/// What was begun and is dropped in the middle, or fails.
fn give_up() {
    let passphrase = Box::new(Passphrase::new(TEXT));
    let (initiator, start) = Initiator::start(&passphrase, &CONTEXT, rng(1));
    let initiator = Box::new(initiator);
    let responder = Box::new(Responder::start(&passphrase, &CONTEXT, &start, rng(2)).unwrap());
    drop(initiator);
    assert!(responder.0.finish(&[0; 32]).is_err());
    let (initiator, _) = Initiator::start(&passphrase, &CONTEXT, rng(1));
    let (_, mut reply) =
        *Box::new(Responder::start(&passphrase, &CONTEXT, &start, rng(2)).unwrap());
    reply[40] ^= 1;
    assert!(Box::new(initiator).finish(&reply).is_err());
}

#[test]
fn what_is_freed_holds_no_secret() {
    let secrets = secrets();

    // The allocator sees what is there: a copy of each, planted.
    let planted = secrets.found_in(|| {
        for secret in secrets.all() {
            drop(black_box(secret.to_vec()));
        }
    });
    assert_eq!(planted, secrets.all().map(|secret| secret.len() / PIECE));

    // They are what the run has: the keys are equal.
    let [ours, theirs] = agree(&mut rng(1), &mut rng(2));
    for pair in [&ours, &theirs] {
        assert_eq!([*pair.to_responder.as_bytes(), *pair.to_initiator.as_bytes()], secrets.pair);
    }

    // Of all that a run frees, spake2's own copies of its password are found, two for each time it
    // is begun (its `Password` and its `password_vec`), each of two pieces; CONFIRM as it was sent;
    // and nothing else.
    let spake2 = |begun: usize| begun * 2 * 2;
    let found = secrets.found_in(|| drop(agree(&mut rng(1), &mut rng(2)).map(Box::new)));
    assert!(HEAP.blocks() > 20);
    assert_eq!(found, [0, 0, 0, 0, 0, 0, 0, 2, spake2(3)], "a run");
    let found = secrets.found_in(give_up);
    assert_eq!(found, [0, 0, 0, 0, 0, 0, 0, 0, spake2(5)], "a run given up");

    let keys = Box::new([ours.to_responder.clone(), theirs.to_initiator.clone()]);
    let pairs = Box::new([ours, theirs]);
    let found = secrets.found_in(|| {
        drop(keys);
        drop(pairs);
    });
    assert_eq!(found, [0; 9], "keys");

    let found = secrets.found_in(|| {
        let key = Box::new(Key::new(secrets.pair[0]));
        drop(key.to_text());
        drop(key);
    });
    assert_eq!(found, [0; 9], "a key as text");

    let (mut one, mut other) = (rng(1), rng(2));
    let stack = left_on_stack(|| agree(&mut one, &mut other));
    let found: Vec<bool> = secrets.all().map(|secret| holds(&stack, secret)).into();
    assert_eq!(found, [false; 9], "the stack");
    // One that is planted there is seen.
    let stack = left_on_stack(|| {
        black_box(&mut [[0; 32]; 64])[0] = secrets.pair[0];
    });
    assert!(holds(&stack, &secrets.pair[0]));
}
