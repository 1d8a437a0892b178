//! Two who know the same passphrase agree on keys: SPAKE2, confirmed both ways.
//!
//! | the initiator | | the responder |
//! |---|---|---|
//! | [`Initiator::start`] | START → | [`Responder::start`] |
//! | [`Initiator::finish`] | ← REPLY | proves the passphrase |
//! | proves the passphrase | CONFIRM → | [`Responder::finish`] |
//!
//! Who does not know the passphrase learns one thing from a run: whether one guess was right.

use alloc::vec::Vec;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use crate::Key;

/// The length of START.
pub const START: usize = 33;
/// The length of REPLY: a SPAKE2 message and a MAC.
pub const REPLY: usize = START + CONFIRM;
/// The length of CONFIRM: a MAC.
pub const CONFIRM: usize = 32;

/// A passphrase, stretched to 32 octets that say nothing of its length.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<[u8; 32]>);

/// What both sides must see alike; what differs makes the agreement fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// What the keys are for.
    pub room: &'a str,
    /// The initiator's number and name.
    pub initiator: (u64, &'a str),
    /// The responder's number.
    pub responder: u64,
}

/// The side that speaks first.
pub struct Initiator {
    spake: Spake2<Ed25519Group>,
    transcript: Sha256,
}

/// The side that answers.
pub struct Responder {
    confirm: Zeroizing<[u8; CONFIRM]>,
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
    /// Stretches `text`.
    pub fn new(text: &[u8]) -> Self {
        let mut stretched = Zeroizing::new([0; 32]);
        // 32 octets are never too many for HKDF-SHA256.
        let _ = Hkdf::<Sha256>::new(Some(b"semfio passphrase 1"), text)
            .expand(b"spake2", stretched.as_mut());
        Self(stretched)
    }
}

impl core::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Initiator {
    /// Gives START.
    pub fn start(
        passphrase: &Passphrase,
        context: &Context<'_>,
        rng: impl CryptoRng + RngCore,
    ) -> (Self, Vec<u8>) {
        let (a, b) = identities(context);
        let (spake, start) = Spake2::start_a_with_rng(&password(passphrase), &a, &b, rng);
        let transcript = transcript(context).chain_update(&start);
        (Self { spake, transcript }, start)
    }

    /// Takes REPLY, gives CONFIRM.
    pub fn finish(self, reply: &[u8]) -> Result<(Pair, Vec<u8>), AgreementError> {
        let (message, mac) = reply.split_at_checked(START).ok_or(AgreementError)?;
        let secret = Zeroizing::new(self.spake.finish(message).map_err(|_| AgreementError)?);
        let keys = Schedule::new(&secret, self.transcript.chain_update(message));
        keys.mac(b"responder").verify_slice(mac).map_err(|_| AgreementError)?;
        let confirm = keys.mac(b"initiator").finalize().into_bytes().to_vec();
        Ok((keys.pair, confirm))
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
        let (a, b) = identities(context);
        let (spake, mut reply) =
            Spake2::<Ed25519Group>::start_b_with_rng(&password(passphrase), &a, &b, rng);
        let secret = Zeroizing::new(spake.finish(start).map_err(|_| AgreementError)?);
        let transcript = transcript(context).chain_update(start).chain_update(&reply);
        let keys = Schedule::new(&secret, transcript);
        reply.extend_from_slice(&keys.mac(b"responder").finalize().into_bytes());
        let confirm = Zeroizing::new(keys.mac(b"initiator").finalize().into_bytes().into());
        Ok((Self { confirm, pair: keys.pair }, reply))
    }

    /// Takes CONFIRM.
    pub fn finish(self, confirm: &[u8]) -> Result<Pair, AgreementError> {
        use subtle::ConstantTimeEq as _;
        if bool::from(self.confirm.as_slice().ct_eq(confirm)) {
            Ok(self.pair)
        } else {
            Err(AgreementError)
        }
    }
}

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
        let confirm = match Hmac::new_from_slice(expand(b"confirm").as_slice()) {
            Ok(mac) => mac,
            Err(_) => Hmac::new(&Default::default()),
        };
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

fn password(passphrase: &Passphrase) -> Password {
    Password::new(passphrase.0.as_slice())
}

fn identities(context: &Context<'_>) -> (Identity, Identity) {
    let identity = |number: u64| Identity::new(&number.to_be_bytes());
    (identity(context.initiator.0), identity(context.responder))
}

fn transcript(context: &Context<'_>) -> Sha256 {
    let mut hash = Sha256::new();
    for part in [
        b"semfio keysync 1".as_slice(),
        context.room.as_bytes(),
        &context.initiator.0.to_be_bytes(),
        context.initiator.1.as_bytes(),
        &context.responder.to_be_bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::Seed;

    #[test]
    fn the_same_passphrase_agrees() {
        let context = Context { room: "sala", initiator: (7, "ana"), responder: 9 };
        let passphrase = Passphrase::new(b"abacate");
        let rng = |n| Seed::from_u64(n).stream(0);
        let (initiator, start) = Initiator::start(&passphrase, &context, rng(1));
        assert_eq!(start.len(), START);
        let (responder, reply) = Responder::start(&passphrase, &context, &start, rng(2)).unwrap();
        assert_eq!(reply.len(), REPLY);
        let (pair, confirm) = initiator.finish(&reply).unwrap();
        let other = responder.finish(&confirm).unwrap();
        assert_eq!(pair.to_initiator.as_bytes(), other.to_initiator.as_bytes());
        assert_eq!(pair.to_responder.as_bytes(), other.to_responder.as_bytes());
        let (initiator, start) = Initiator::start(&Passphrase::new(b"abacaxi"), &context, rng(1));
        let (_, reply) = Responder::start(&passphrase, &context, &start, rng(2)).unwrap();
        assert!(initiator.finish(&reply).is_err());
    }
}
