//! Two who know the same passphrase agree on keys: SPAKE2, confirmed both ways.
//!
//! | the initiator | | the responder |
//! |---|---|---|
//! | [`Initiator::start`] | START → | [`Responder::start`] |
//! | [`Initiator::finish`] | ← REPLY | proves the passphrase |
//! | proves the passphrase | CONFIRM → | [`Responder::finish`] |
//!
//! Each value is used up by its next step, so a run has one answer and one verdict. Whoever does
//! not know the passphrase learns one thing from a run: whether one guess was right. An initiator
//! learns it from REPLY and need not go on, so a responder counts every START. A responder learns
//! it from whether CONFIRM comes, so an initiator must not try again and again with whoever fails:
//! a START that is never answered tells nothing, a REPLY that is wrong was a guess.
//!
//! START is SPAKE2's message of side A: the octet `A` and a point of edwards25519. REPLY is that of
//! side B, and a MAC; CONFIRM is a MAC. The first octet names the suite: another one would be
//! another letter and another label in the transcript, there is no other negotiation.
//!
//! - context = SHA-256 over the label, room (ASCII in lower case), initiator, nick, responder, each
//!   with its length in 8 octets before it; the transcript goes on with both SPAKE2 messages.
//! - SPAKE2's password = HMAC-SHA256(passphrase, context), so it is worth nothing in another run.
//! - HKDF-SHA256(SPAKE2's key, salt: transcript) gives three keys: one for the MACs, which are over
//!   the name of the side that sends them, and the [`Pair`].
//!
//! What the crate spake2 0.4 does not do, and what that means here:
//!
//! - It confirms nothing; the MACs do. It has roles but trusts the message about them; reflected
//!   messages have the wrong letter, and with the right one no MAC that fits.
//! - It reads any point of the curve, those of small order and some second spellings included, and
//!   does not multiply by the cofactor. A changed or added component of small order changes the
//!   octets of the message, and both the crate and the transcript hash these. A message that is of
//!   small order altogether leaves the other side's blinding in the shared point, which is to be
//!   known for no more than one passphrase; so it is a guess like any other.
//! - It wipes nothing: not its copies of the password, not its scalars. So it is given a password
//!   of this run alone, and lives no longer than a call: an [`Initiator`] keeps the seed of its
//!   scalar, and makes it a second time.
//!
//! All secrets of our own stand in boxes: a value that is moved, into a map or out of it, leaves its
//! octets behind where nothing wipes them. What each step leaves on the stack is wiped: 64 KiB of it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand_core::{CryptoRng, RngCore};
use semfio_machine::Seed;
use sha2::{Digest as _, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::Key;
use crate::stack::{AGREEMENT, wiped};

/// The length of START.
pub const START: usize = 33;
/// The length of REPLY: a SPAKE2 message and a MAC.
pub const REPLY: usize = START + CONFIRM;
/// The length of CONFIRM: a MAC.
pub const CONFIRM: usize = 32;

/// A passphrase as 32 octets that say nothing of its length. Whoever has them needs no passphrase.
///
/// Octets count, not letters: a host decides on a spelling (Unicode has several) and on what is too
/// short. Nothing here slows guessing down, since nobody is given what could be tried in private.
#[derive(Clone)]
pub struct Passphrase(Box<Zeroizing<[u8; 32]>>);

/// What both sides must see alike; what differs makes the agreement fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// What the keys are for, in any case of its ASCII letters.
    pub room: &'a str,
    /// The initiator's number and name, as it writes it.
    pub initiator: (u64, &'a str),
    /// The responder's number.
    pub responder: u64,
}

/// The side that speaks first.
pub struct Initiator {
    password: Box<Zeroizing<[u8; 32]>>,
    seed: Box<Seed>,
    transcript: Sha256,
}

/// The side that answers.
pub struct Responder {
    confirm: Box<Zeroizing<[u8; CONFIRM]>>,
    pair: Pair,
}

/// What both hold in the end, for each direction a key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What the initiator seals.
    pub to_responder: Key,
    /// What the responder seals.
    pub to_initiator: Key,
}

/// The other side does not know the passphrase, or somebody changed a message. Nothing tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreementError;

impl core::fmt::Display for AgreementError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the passphrases differ, or somebody is in between")
    }
}

impl core::error::Error for AgreementError {}

impl Passphrase {
    /// A passphrase of these octets, any number of them.
    pub fn new(text: &[u8]) -> Self {
        let mut octets = Box::new(Zeroizing::new([0; 32]));
        wiped::<AGREEMENT, _>(|| {
            // 32 octets are never too many for HKDF-SHA256.
            let _ = Hkdf::<Sha256>::new(Some(b"semfio passphrase 1"), text)
                .expand(b"agreement", octets.as_mut_slice());
        });
        Self(octets)
    }
}

impl core::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl core::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Initiator(..)")
    }
}

impl core::fmt::Debug for Responder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Responder(..)")
    }
}

impl Initiator {
    /// Gives START.
    pub fn start(
        passphrase: &Passphrase,
        context: &Context<'_>,
        mut rng: impl CryptoRng + RngCore,
    ) -> (Self, Vec<u8>) {
        wiped::<AGREEMENT, _>(|| {
            let context = context.hash();
            let password = Box::new(passphrase.password(&context));
            let mut octets = Zeroizing::new([0; 32]);
            rng.fill_bytes(octets.as_mut());
            let seed = Box::new(Seed::new(*octets));
            let (_, start) = side_a(&password, &seed);
            let transcript = context.chain_update(&start);
            (Self { password, seed, transcript }, start)
        })
    }

    /// Takes REPLY, gives CONFIRM.
    pub fn finish(self, reply: &[u8]) -> Result<(Pair, Vec<u8>), AgreementError> {
        let (message, mac) = reply.split_at_checked(START).ok_or(AgreementError)?;
        wiped::<AGREEMENT, _>(|| {
            let (spake, _) = side_a(&self.password, &self.seed);
            let secret = Zeroizing::new(spake.finish(message).map_err(|_| AgreementError)?);
            let keys = Schedule::new(&secret, self.transcript.chain_update(message));
            keys.mac(RESPONDER).verify_slice(mac).map_err(|_| AgreementError)?;
            let confirm = keys.mac(INITIATOR).finalize().into_bytes().to_vec();
            Ok((keys.pair, confirm))
        })
    }
}

impl Responder {
    /// Takes START, gives REPLY.
    pub fn start(
        passphrase: &Passphrase,
        context: &Context<'_>,
        start: &[u8],
        rng: impl CryptoRng + RngCore,
    ) -> Result<(Self, Vec<u8>), AgreementError> {
        wiped::<AGREEMENT, _>(|| {
            let context = context.hash();
            let password = Password::new(passphrase.password(&context).as_slice());
            let (a, b) = identities();
            let (spake, mut reply) =
                Spake2::<Ed25519Group>::start_b_with_rng(&password, &a, &b, rng);
            let secret = Zeroizing::new(spake.finish(start).map_err(|_| AgreementError)?);
            let keys = Schedule::new(&secret, context.chain_update(start).chain_update(&reply));
            reply.extend_from_slice(&keys.mac(RESPONDER).finalize().into_bytes());
            let confirm = Zeroizing::new(keys.mac(INITIATOR).finalize().into_bytes().into());
            Ok((Self { confirm: Box::new(confirm), pair: keys.pair }, reply))
        })
    }

    /// Takes CONFIRM.
    pub fn finish(self, confirm: &[u8]) -> Result<Pair, AgreementError> {
        if bool::from(self.confirm.as_slice().ct_eq(confirm)) {
            Ok(self.pair)
        } else {
            Err(AgreementError)
        }
    }
}

const INITIATOR: &[u8] = b"initiator";
const RESPONDER: &[u8] = b"responder";

/// The keys of one agreement.
struct Schedule {
    confirm: Hmac<Sha256>,
    pair: Pair,
}

impl Schedule {
    fn new(secret: &[u8], transcript: Sha256) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(&transcript.finalize()), secret);
        let expand = |label: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            let _ = hkdf.expand(label, key.as_mut());
            key
        };
        let confirm = hmac(&expand(b"confirm"));
        let pair = Pair {
            to_responder: Key::new(*expand(b"to responder")),
            to_initiator: Key::new(*expand(b"to initiator")),
        };
        Self { confirm, pair }
    }

    fn mac(&self, role: &[u8]) -> Hmac<Sha256> {
        self.confirm.clone().chain_update(role)
    }
}

impl Passphrase {
    /// What SPAKE2 is given in a run.
    fn password(&self, context: &Sha256) -> Zeroizing<[u8; 32]> {
        let context = context.clone().finalize();
        Zeroizing::new(hmac(&self.0).chain_update(context).finalize().into_bytes().into())
    }
}

impl Context<'_> {
    fn hash(&self) -> Sha256 {
        let mut hash = Sha256::new();
        for part in [
            b"semfio keysync 1".as_slice(),
            self.room.to_ascii_lowercase().as_bytes(),
            &self.initiator.0.to_be_bytes(),
            self.initiator.1.as_bytes(),
            &self.responder.to_be_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash
    }
}

/// The same each time for the same seed.
fn side_a(password: &[u8; 32], seed: &Seed) -> (Spake2<Ed25519Group>, Vec<u8>) {
    let (a, b) = identities();
    Spake2::start_a_with_rng(&Password::new(password), &a, &b, seed.stream(0))
}

/// Who they are is in the context, and with it in the password.
fn identities() -> (Identity, Identity) {
    (Identity::new(INITIATOR), Identity::new(RESPONDER))
}

fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(mac) => mac,
        // Any length will do.
        Err(_) => Hmac::new(&Default::default()),
    }
}
