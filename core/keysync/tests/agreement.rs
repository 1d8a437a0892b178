//! Agreements: two by the book, and whoever is in between.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use semfio_keysync::{CONFIRM, Context, Initiator, Pair, Passphrase, REPLY, Responder, START};
use semfio_machine::{Rng, Seed};
use sha2::{Digest, Sha256};

const CONTEXT: Context<'static> =
    Context { room: "sala", initiator: (7, "ana"), responder: 1 << 60 };

fn rng(number: u64) -> Rng {
    Seed::from_u64(number).stream(0)
}

fn keys(pair: &Pair) -> [[u8; 32]; 2] {
    [*pair.to_responder.as_bytes(), *pair.to_initiator.as_bytes()]
}

/// What each side holds in the end: its keys, or nothing.
type Outcome = [Option<[[u8; 32]; 2]>; 2];

/// The two sides of a run, which need not see alike.
struct Run<'a> {
    passphrases: [&'a [u8]; 2],
    contexts: [Context<'a>; 2],
    seed: u64,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { passphrases: [b"abacate"; 2], contexts: [CONTEXT; 2], seed: 1 }
    }
}

impl Run<'_> {
    /// Each of the three messages passes through `between`.
    fn go(&self, mut between: impl FnMut(usize, &mut Vec<u8>)) -> Outcome {
        let [ours, theirs] = self.passphrases.map(Passphrase::new);
        let (initiator, mut start) = Initiator::start(&ours, &self.contexts[0], rng(2 * self.seed));
        assert_eq!(start.len(), START);
        between(0, &mut start);
        let answer = Responder::start(&theirs, &self.contexts[1], &start, rng(2 * self.seed + 1));
        let Ok((responder, mut reply)) = answer else { return [None, None] };
        assert_eq!(reply.len(), REPLY);
        between(1, &mut reply);
        // Whoever is in between may always invent a CONFIRM.
        let (first, mut confirm) = match initiator.finish(&reply) {
            Ok((pair, confirm)) => (Some(keys(&pair)), confirm),
            Err(_) => (None, reply[reply.len().saturating_sub(CONFIRM)..].to_vec()),
        };
        between(2, &mut confirm);
        [first, responder.finish(&confirm).ok().map(|pair| keys(&pair))]
    }
}

#[test]
fn a_thousand_runs_agree() {
    let mut all = Vec::new();
    for seed in 0..1_000 {
        let [first, second] = Run { seed, ..Run::default() }.go(|_, _| {});
        assert_eq!(first, second);
        all.extend(first.unwrap());
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2_000, "and no two keys are alike");
}

#[test]
fn a_room_is_the_same_in_capitals() {
    let contexts = [CONTEXT, Context { room: "SaLa", ..CONTEXT }];
    let [first, second] = Run { contexts, ..Run::default() }.go(|_, _| {});
    assert!(first.is_some() && first == second);
}

#[test]
fn passphrases_of_any_length_agree_and_differ() {
    let long = vec![b'a'; 1 << 20];
    let other = [&long[..], b"b"].concat();
    let all = [&b""[..], b"\0", b" ", b"abacate", b"Abacate", b"abacate ", &long, &other];
    for (at, first) in all.iter().enumerate() {
        for (number, second) in all.iter().enumerate() {
            let [ours, theirs] =
                Run { passphrases: [first, second], ..Run::default() }.go(|_, _| {});
            if at == number {
                assert!(ours.is_some() && ours == theirs);
            } else {
                assert_eq!([ours, theirs], [None, None]);
            }
        }
    }
}

/// K9. The last message is not answered, so whoever changes it ends one side only.
#[test]
fn no_bit_of_a_message_may_differ() {
    let whole = Run::default().go(|_, _| {});
    for (number, length) in [START, REPLY, CONFIRM].into_iter().enumerate() {
        for bit in 0..length * 8 {
            let changed = Run::default().go(|of, message| {
                if of == number {
                    message[bit / 8] ^= 1 << (bit % 8);
                }
            });
            assert_eq!(changed[1], None, "bit {bit} of message {number}");
            assert_eq!(changed[0], whole[0].filter(|_| number == 2), "bit {bit} of {number}");
        }
    }
}

#[test]
fn no_length_but_the_right_one_is_taken() {
    let whole = Run::default().go(|_, _| {});
    for (number, length) in [START, REPLY, CONFIRM].into_iter().enumerate() {
        for other in (0..length + 40).filter(|&other| other != length) {
            for filler in [0, 0xFF] {
                let changed = Run::default().go(|of, message| {
                    if of == number {
                        message.resize(other, filler);
                    }
                });
                assert_eq!(changed, [whole[0].filter(|_| number == 2), None]);
            }
        }
    }
}

/// Every bit of what both must see alike, the borders between its parts, and the roles.
#[test]
fn no_bit_of_the_context_may_differ() {
    let mut others = vec![
        // The same octets with their borders elsewhere.
        Context { room: "sal", initiator: (u64::from(b'a') << 56, "\x07ana"), ..CONTEXT },
        Context { room: "", ..CONTEXT },
        Context { initiator: (7, "Ana"), ..CONTEXT },
        Context { initiator: (7, ""), ..CONTEXT },
        Context { initiator: (CONTEXT.responder, "ana"), responder: 7, ..CONTEXT },
    ];
    for bit in 0..64 {
        others.push(Context { initiator: (7 ^ 1 << bit, "ana"), ..CONTEXT });
        others.push(Context { responder: CONTEXT.responder ^ 1 << bit, ..CONTEXT });
    }
    let flipped = |text: &str| -> Vec<String> {
        let flip = |bit: usize| {
            let mut octets = text.as_bytes().to_vec();
            octets[bit / 8] ^= 1 << (bit % 8);
            String::from_utf8(octets).ok()
        };
        (0..text.len() * 8).filter_map(flip).collect()
    };
    let (rooms, nicks) = (flipped(CONTEXT.room), flipped(CONTEXT.initiator.1));
    let rooms = rooms.iter().filter(|room| !room.eq_ignore_ascii_case(CONTEXT.room));
    others.extend(rooms.map(|room| Context { room, ..CONTEXT }));
    others.extend(nicks.iter().map(|nick| Context { initiator: (7, nick), ..CONTEXT }));
    assert!(others.len() > 170);
    for other in others {
        for contexts in [[CONTEXT, other], [other, CONTEXT]] {
            assert_eq!(Run { contexts, ..Run::default() }.go(|_, _| {}), [None, None], "{other:?}");
        }
    }
}

/// Messages of this run, of an older one, and of one with the roles swapped, in every place, with
/// whichever letter the receiver looks for.
#[test]
fn nothing_heard_before_is_taken() {
    let swapped = Context { initiator: (CONTEXT.responder, "ana"), responder: 7, ..CONTEXT };
    let mut heard: Vec<Vec<u8>> = Vec::new();
    Run { seed: 2, ..Run::default() }.go(|_, message| heard.push(message.clone()));
    Run { seed: 3, contexts: [swapped; 2], ..Run::default() }
        .go(|_, message| heard.push(message.clone()));
    let old = heard.len();
    assert_eq!(old, 6);
    // And what is known of this run by then: as it is, and a START with the MAC of others.
    let mut own = Vec::new();
    let whole = Run::default().go(|_, message| own.push(message.clone()));
    for mac in [&own[1][START..], &heard[1][START..], &heard[2]].map(<[u8]>::to_vec) {
        heard.push([&own[0], &mac[..]].concat());
        heard.push(mac);
    }
    heard.extend_from_slice(&own[..2]);
    for (at, planted) in heard.iter().enumerate() {
        for (number, genuine) in own.iter().enumerate() {
            for letter in [None, Some(b'A'), Some(b'B')] {
                let mut planted = planted.clone();
                if let Some(letter) = letter.filter(|_| number < 2) {
                    planted[0] = letter;
                }
                if planted == *genuine {
                    continue;
                }
                let outcome = Run::default().go(|of, message| {
                    if of == number {
                        message.clone_from(&planted);
                    }
                });
                let expected = [whole[0].filter(|_| number == 2), None];
                assert_eq!(outcome, expected, "{at} as message {number}");
            }
        }
    }
}

/// An initiator that is told its own START was somebody else's, and answers it.
#[test]
fn nobody_agrees_with_itself_over_a_mirror() {
    let passphrase = Passphrase::new(b"abacate");
    let mirrored = Context { initiator: (CONTEXT.responder, "ana"), responder: 7, ..CONTEXT };
    let (initiator, start) = Initiator::start(&passphrase, &CONTEXT, rng(1));
    let (_, reply) = Responder::start(&passphrase, &mirrored, &start, rng(2)).unwrap();
    assert!(initiator.finish(&reply).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Any junk, anywhere: never two different keys, and the responder has none without CONFIRM.
    #[test]
    fn junk_is_never_taken(
        number in 0..3_usize,
        junk in prop::collection::vec(any::<u8>(), 0..80),
        letter in any::<bool>(),
        fits in any::<bool>(),
    ) {
        let outcome = Run::default().go(|of, message| {
            if of == number {
                let length = message.len();
                message.clone_from(&junk);
                if fits {
                    message.resize(length, 7);
                }
                if let (true, Some(first)) = (letter, message.first_mut()) {
                    *first = [b'A', b'B', 0][number];
                }
            }
        });
        prop_assert_eq!(outcome[1], None);
        prop_assert!(number == 2 || outcome[0].is_none());
    }
}

/// The agreement a second time, from its documentation and over the curve itself. It can do what an
/// honest side never would.
struct Book {
    context: Vec<u8>,
    password: [u8; 32],
    blinding: Scalar,
}

impl Book {
    fn new(passphrase: &[u8], context: &Context<'_>) -> Self {
        let mut octets = [0; 32];
        let salt = b"semfio passphrase 1";
        Hkdf::<Sha256>::new(Some(salt), passphrase).expand(b"agreement", &mut octets).unwrap();
        let mut fields = Vec::new();
        for part in [
            b"semfio keysync 1",
            context.room.to_ascii_lowercase().as_bytes(),
            &context.initiator.0.to_be_bytes(),
            context.initiator.1.as_bytes(),
            &context.responder.to_be_bytes(),
        ] {
            fields.extend((part.len() as u64).to_be_bytes());
            fields.extend(part);
        }
        let password = mac(&octets, &Sha256::digest(&fields));
        let mut wide = [0; 64];
        Hkdf::<Sha256>::new(None, &password).expand(b"SPAKE2 pw", &mut wide[16..]).unwrap();
        wide.reverse();
        let blinding = Scalar::from_bytes_mod_order_wide(&wide);
        Self { context: fields, password, blinding }
    }

    /// The MACs of responder and initiator, and both keys, if the shared point is `shared`.
    fn keys(&self, start: &[u8], reply: &[u8], shared: EdwardsPoint) -> [[u8; 32]; 4] {
        let mut hash = Sha256::new();
        for part in [&self.password[..], b"initiator", b"responder"] {
            hash.update(Sha256::digest(part));
        }
        let key = hash
            .chain_update(&start[1..])
            .chain_update(&reply[1..])
            .chain_update(shared.compress().as_bytes())
            .finalize();
        let transcript = [&self.context, start, reply].concat();
        let hkdf = Hkdf::<Sha256>::new(Some(&Sha256::digest(transcript)), &key);
        let expand = |label: &[u8]| {
            let mut key = [0; 32];
            hkdf.expand(label, &mut key).unwrap();
            key
        };
        let confirm = expand(b"confirm");
        [
            mac(&confirm, b"responder"),
            mac(&confirm, b"initiator"),
            expand(b"to responder"),
            expand(b"to initiator"),
        ]
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    <Hmac<Sha256> as Mac>::new_from_slice(key)
        .unwrap()
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

fn point(octets: &str) -> EdwardsPoint {
    let octets: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&octets[at..at + 2], 16).unwrap()).collect();
    CompressedEdwardsY::from_slice(&octets).unwrap().decompress().unwrap()
}

/// The blinding points of the crate, of `spake2.ParamsEd25519` in Python.
fn blinding_points() -> [EdwardsPoint; 2] {
    [
        point("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312"),
        point("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3"),
    ]
}

fn message(letter: u8, point: EdwardsPoint) -> Vec<u8> {
    [&[letter][..], point.compress().as_bytes()].concat()
}

#[test]
fn it_is_what_the_documentation_says() {
    let [m, n] = blinding_points();
    let book = Book::new(b"abacate", &CONTEXT);
    let passphrase = Passphrase::new(b"abacate");
    let scalar = Scalar::from(0x1234_5678_9abc_def1_u64);

    let (initiator, start) = Initiator::start(&passphrase, &CONTEXT, rng(1));
    let theirs = CompressedEdwardsY::from_slice(&start[1..]).unwrap().decompress().unwrap();
    let reply = message(b'B', scalar * ED25519_BASEPOINT_POINT + book.blinding * n);
    let shared = scalar * (theirs - book.blinding * m);
    let [ours, expected, to_responder, to_initiator] = book.keys(&start, &reply, shared);
    let (pair, confirm) = initiator.finish(&[&reply[..], &ours].concat()).unwrap();
    assert_eq!(confirm, expected);
    assert_eq!(keys(&pair), [to_responder, to_initiator]);

    let start = message(b'A', scalar * ED25519_BASEPOINT_POINT + book.blinding * m);
    let (responder, reply) = Responder::start(&passphrase, &CONTEXT, &start, rng(2)).unwrap();
    let (reply, theirs) = reply.split_at(START);
    let point = CompressedEdwardsY::from_slice(&reply[1..]).unwrap().decompress().unwrap();
    let shared = scalar * (point - book.blinding * n);
    let [expected, ours, to_responder, to_initiator] = book.keys(&start, reply, shared);
    assert_eq!(theirs, expected);
    assert_eq!(keys(&responder.finish(&ours).unwrap()), [to_responder, to_initiator]);
}

/// With a blinding point outside the prime-order group, a message would tell three bits of it.
#[test]
fn the_blinding_points_are_of_prime_order() {
    assert!(blinding_points().iter().all(EdwardsPoint::is_torsion_free));
}

/// Points of small order make the shared point predictable for whoever knows the passphrase, and
/// for nobody else: trying passphrases on what a responder answered finds none, not even with the
/// right one among them; only a START that was made for one passphrase can tell, and only of it.
#[test]
fn points_of_small_order_are_no_more_than_a_guess() {
    let [m, _] = blinding_points();
    let passphrase = Passphrase::new(b"abacate");
    let tries = [&b"abacaxi"[..], b"abacate", b"acerola"].map(|text| Book::new(text, &CONTEXT));
    let found = |start: &[u8], seed| {
        let (_, reply) = Responder::start(&passphrase, &CONTEXT, start, rng(seed)).unwrap();
        let (reply, mac) = reply.split_at(START);
        let fits = |book: &&Book| {
            EIGHT_TORSION.iter().any(|&shared| book.keys(start, reply, shared)[0] == mac)
        };
        tries.iter().filter(fits).count()
    };
    for (seed, small) in (0..).zip(EIGHT_TORSION) {
        assert_eq!(found(&message(b'A', small), seed), 0, "for no passphrase");
        assert_eq!(found(&message(b'A', small + tries[0].blinding * m), seed), 0, "a wrong guess");
        assert_eq!(found(&message(b'A', small + tries[1].blinding * m), seed), 1, "a right guess");
    }
    // The point of order one, spelled with the field's prime added, is read too.
    let mut spelled = [0xFF; 32];
    (spelled[0], spelled[31]) = (0xEE, 0x7F);
    assert!(CompressedEdwardsY(spelled).decompress().is_some());
    assert_eq!(found(&[b"A", &spelled[..]].concat(), 9), 0);

    for (seed, small) in (20..).zip(EIGHT_TORSION) {
        for shared in EIGHT_TORSION {
            let (initiator, start) = Initiator::start(&passphrase, &CONTEXT, rng(seed));
            let reply = message(b'B', small);
            let mac = tries[1].keys(&start, &reply, shared)[0];
            assert!(initiator.finish(&[&reply[..], &mac].concat()).is_err());
        }
    }
}
