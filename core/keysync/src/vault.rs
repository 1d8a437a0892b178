//! All secrets of one member of one room, and every use of them.
//!
//! A [`Vault`] answers with octets that anybody may see (messages, tokens, checks), with texts that
//! were opened, or with a failure; never with a key. So the answers of a run are enough to run it
//! again: [`Vault::recording`] keeps them for the host to fetch, [`Vault::replay`] gives them again
//! in their order and holds no secret at all.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand_core::RngCore as _;
use semfio_frame::Fields;
use semfio_machine::{Rng, Seed, UnixTime};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::agreement::{CONFIRM, Context, Initiator, Pair, Passphrase, REPLY, Responder};
use crate::message::{Body, MAX_WRAPPED, PROOF, Which, put_str8, which};
use crate::stack::{TOKEN, wiped};
use crate::{Decoding, Key, Policy};

/// A room's token is told apart by its epoch and its counter, not by its time: clocks may be wrong.
const ANY_TIME: Policy = Policy { ttl: None, skew: None, decoding: Decoding::Strict };
/// The length of a check.
pub(crate) const CHECK: usize = 16;

const STANDING: u8 = 1;
const LAST: u8 = 2;
const KEYS: u8 = 3;

/// What a vault answered once: octets, texts, or that it failed. No key is among them.
///
/// Its text is base64url, or `-` if it failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(pub Option<Vec<u8>>);

/// A text that is no [`Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer;

/// Nothing tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VaultError;

/// The secrets of one member of one room.
///
/// All of them are wiped when it is dropped, and when its [`KeySync`](crate::KeySync) fails; what it
/// leaves on the stack, with each answer.
pub struct Vault {
    source: Source,
    journal: Option<VecDeque<Answer>>,
}

enum Source {
    Secrets(Box<Secrets>),
    Answers(VecDeque<Answer>),
    Wiped,
}

struct Secrets {
    passphrase: Passphrase,
    seed: Seed,
    identity: Zeroizing<[u8; 32]>,
    initiator: Option<Initiator>,
    /// With whom.
    holder: u64,
    /// With the holder.
    link: Option<Pair>,
    responders: BTreeMap<u64, Responder>,
    /// With members, if it is the holder.
    pairs: BTreeMap<u64, Pair>,
    epochs: BTreeMap<u64, Key>,
    plain: Zeroizing<Vec<u8>>,
}

impl Vault {
    /// A vault with a passphrase, and randomness that is used for nothing else.
    pub fn new(passphrase: Passphrase, seed: Seed) -> Self {
        let secrets = wiped::<TOKEN, _>(|| {
            let mut secrets = Box::new(Secrets {
                passphrase,
                seed,
                identity: Zeroizing::new([0; 32]),
                initiator: None,
                holder: 0,
                link: None,
                responders: BTreeMap::new(),
                pairs: BTreeMap::new(),
                epochs: BTreeMap::new(),
                plain: Zeroizing::new(Vec::new()),
            });
            secrets.rng().fill_bytes(secrets.identity.as_mut());
            secrets
        });
        Self { source: Source::Secrets(secrets), journal: None }
    }

    /// The same, as somebody who may have been in the room before: who has `root` is known again there by
    /// what is derived from it, and in no other room.
    pub fn known_by(mut self, root: &Seed, room: &str) -> Self {
        if let Source::Secrets(secrets) = &mut self.source {
            let room = room.to_ascii_lowercase();
            let info = [b"semfio identity".as_slice(), room.as_bytes()];
            wiped::<TOKEN, _>(|| {
                // 32 octets are never too many for HKDF-SHA256.
                let _ = Hkdf::<Sha256>::new(None, root.as_bytes())
                    .expand_multi_info(&info, secrets.identity.as_mut());
            });
        }
        self
    }

    /// The same, and its answers are kept until [`poll_journal`](crate::KeySync::poll_journal) has
    /// fetched them.
    pub fn recording(self) -> Self {
        Self { journal: Some(VecDeque::new()), ..self }
    }

    /// A vault without secrets, which gives these answers one after the other, whatever it is asked;
    /// when they are used up, everything fails.
    pub fn replay(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { source: Source::Answers(answers.into_iter().collect()), journal: None }
    }

    /// How many keys it holds: of epochs, of pairs, and of agreements under way.
    pub fn keys(&self) -> usize {
        let Source::Secrets(secrets) = &self.source else { return 0 };
        let single =
            usize::from(secrets.initiator.is_some()).saturating_add(secrets.link.iter().count());
        [secrets.responders.len(), secrets.pairs.len(), secrets.epochs.len()]
            .into_iter()
            .fold(single, usize::saturating_add)
    }

    pub(crate) fn poll_journal(&mut self) -> Option<Answer> {
        self.journal.as_mut()?.pop_front()
    }

    /// Forgets everything; from here on it fails.
    pub(crate) fn wipe(&mut self) {
        if let Source::Secrets(_) = self.source {
            self.source = Source::Wiped;
        }
    }

    pub(crate) fn forget_epoch(&mut self, epoch: u64) {
        self.forget(|secrets| {
            secrets.epochs.remove(&epoch);
        });
    }

    pub(crate) fn forget_agreement(&mut self, peer: u64) {
        self.forget(|secrets| {
            secrets.responders.remove(&peer);
        });
    }

    pub(crate) fn forget_peer(&mut self, peer: u64) {
        self.forget(|secrets| {
            secrets.responders.remove(&peer);
            secrets.pairs.remove(&peer);
        });
    }

    /// Forgets all it has agreed on with anybody; the epochs stay.
    pub(crate) fn forget_pairs(&mut self) {
        self.forget(|secrets| {
            secrets.initiator = None;
            secrets.link = None;
            secrets.responders.clear();
            secrets.pairs.clear();
        });
    }

    fn forget(&mut self, forget: impl FnOnce(&mut Secrets)) {
        if let Source::Secrets(secrets) = &mut self.source {
            forget(secrets);
        }
    }

    /// The one way to an answer. What it appended to `out` before it failed is taken back.
    fn answer(
        &mut self,
        out: &mut Vec<u8>,
        secret: impl FnOnce(&mut Secrets, &mut Vec<u8>) -> Option<()>,
    ) -> Result<(), VaultError> {
        let from = out.len();
        let done = match &mut self.source {
            Source::Secrets(secrets) => wiped::<TOKEN, _>(|| secret(secrets, out)),
            Source::Answers(answers) => {
                answers.pop_front().and_then(|answer| answer.0).map(|octets| out.extend(octets))
            }
            Source::Wiped => None,
        };
        if done.is_none() {
            out.truncate(from);
        }
        if let Some(journal) = &mut self.journal {
            let octets = out.get(from..).map(<[u8]>::to_vec);
            journal.push_back(Answer(done.and(octets)));
        }
        done.ok_or(VaultError)
    }

    /// Appends START, with a proof if there is a key of the epoch `last`, and says which it is.
    pub(crate) fn start(
        &mut self,
        context: &Context<'_>,
        last: u64,
        out: &mut Vec<u8>,
    ) -> Result<Which, VaultError> {
        self.answer(out, |secrets, out| {
            let rng = secrets.rng();
            let (initiator, start) = Initiator::start(&secrets.passphrase, context, rng);
            let pake = start.as_slice().try_into().ok()?;
            let proof = secrets.epochs.get(&last).map(|key| proof(key, context, last, &pake));
            let proof = proof.unwrap_or_default();
            secrets.initiator = Some(initiator);
            secrets.holder = context.responder;
            Body::Start { pake, last, proof, nick: context.initiator.1 }.put(out);
            Some(())
        })?;
        match Body::parse(out) {
            Ok(Body::Start { pake, .. }) => Ok(which(&pake)),
            _ => Err(VaultError),
        }
    }

    /// Whether who sent this START has the key of that epoch.
    pub(crate) fn proves(
        &mut self,
        context: &Context<'_>,
        last: u64,
        pake: &[u8; 33],
        claimed: &[u8; PROOF],
    ) -> bool {
        let answered = self.answer(&mut Vec::new(), |secrets, _| {
            let proof = proof(secrets.epochs.get(&last)?, context, last, pake);
            bool::from(proof.ct_eq(claimed)).then_some(())
        });
        answered.is_ok()
    }

    /// Appends REPLY.
    pub(crate) fn reply(
        &mut self,
        context: &Context<'_>,
        pake: &[u8; 33],
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            let rng = secrets.rng();
            let (responder, reply) =
                Responder::start(&secrets.passphrase, context, pake, rng).ok()?;
            secrets.responders.insert(context.initiator.0, responder);
            Body::Reply { which: which(pake), reply: reply.try_into().ok()? }.put(out);
            Some(())
        })
    }

    /// Takes REPLY, appends CONFIRM; from here on there is a pair with the holder.
    pub(crate) fn finish(
        &mut self,
        now: UnixTime,
        reply: &[u8; REPLY],
        last: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            let (pair, mac) = secrets.initiator.take()?.finish(reply).ok()?;
            let iv = secrets.iv();
            secrets.plain.clear();
            secrets.plain.reserve_exact(41);
            secrets.plain.push(STANDING);
            let shown = secrets.shown();
            secrets.plain.extend_from_slice(shown.as_slice());
            secrets.plain.extend_from_slice(&last.to_be_bytes());
            let mut standing = Vec::new();
            pair.to_responder.seal(now, iv, &secrets.plain, &mut standing);
            secrets.plain.zeroize();
            secrets.link = Some(pair);
            Body::Confirm { mac: mac.try_into().ok()?, standing: &standing }.put(out);
            Some(())
        })
    }

    /// Takes CONFIRM: who it is, as the SHA-256 of its identity, and its last epoch. From here on
    /// there is a pair with it.
    pub(crate) fn confirm(
        &mut self,
        now: UnixTime,
        peer: u64,
        mac: &[u8; CONFIRM],
        standing: &[u8],
    ) -> Result<([u8; 32], u64), VaultError> {
        let mut answer = Vec::new();
        self.answer(&mut answer, |secrets, out| {
            let pair = secrets.responders.remove(&peer)?.finish(mac).ok()?;
            secrets.plain.clear();
            pair.to_responder.open(&ANY_TIME, now, standing, &mut secrets.plain).ok()?;
            let mut fields = Fields::new(&secrets.plain);
            let kind = fields.u8().ok()?;
            let identity = Zeroizing::new(fields.array::<32>().ok()?);
            let last = fields.u64().ok()?;
            fields.end().ok().filter(|()| kind == STANDING)?;
            out.extend_from_slice(&Sha256::digest(identity.as_slice()));
            out.extend_from_slice(&last.to_be_bytes());
            secrets.plain.zeroize();
            secrets.pairs.insert(peer, pair);
            Some(())
        })?;
        let mut fields = Fields::new(&answer);
        let hash = fields.array().map_err(|_| VaultError)?;
        Ok((hash, fields.u64().map_err(|_| VaultError)?))
    }

    /// The SHA-256 of its own identity.
    pub(crate) fn identity(&mut self) -> Result<[u8; 32], VaultError> {
        let mut answer = Vec::new();
        self.answer(&mut answer, |secrets, out| {
            out.extend_from_slice(&Sha256::digest(secrets.identity.as_slice()));
            Some(())
        })?;
        answer.try_into().map_err(|_| VaultError)
    }

    /// Appends WRAP for a member: these epochs, each with the number of what it covers.
    pub(crate) fn wrap(
        &mut self,
        now: UnixTime,
        room: &str,
        peer: u64,
        epochs: &[(u64, u64)],
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            let iv = secrets.iv();
            let pair = secrets.pairs.get(&peer)?;
            let plain = &mut secrets.plain;
            plain.clear();
            plain.reserve_exact(
                epochs.len().saturating_mul(48).saturating_add(room.len()).saturating_add(10),
            );
            plain.push(KEYS);
            put_str8(plain, room);
            plain.extend_from_slice(&peer.to_be_bytes());
            for (epoch, covers) in epochs {
                plain.extend_from_slice(&epoch.to_be_bytes());
                plain.extend_from_slice(&covers.to_be_bytes());
                plain.extend_from_slice(secrets.epochs.get(epoch)?.as_bytes());
            }
            Body::Wrap(&[]).put(out);
            pair.to_initiator.seal(now, iv, plain, out);
            plain.zeroize();
            Some(())
        })
    }

    /// Takes the keys of epochs after `above` that it does not have from a WRAP. Gives the newest
    /// epoch in it, and those that were taken, each with the number of what it covers.
    pub(crate) fn unwrap(
        &mut self,
        now: UnixTime,
        room: &str,
        you: u64,
        above: u64,
        token: &[u8],
    ) -> Result<(u64, Vec<(u64, u64)>), VaultError> {
        let mut answer = Vec::new();
        self.answer(&mut answer, |secrets, out| {
            secrets.plain.clear();
            secrets
                .link
                .as_ref()?
                .to_initiator
                .open(&ANY_TIME, now, token, &mut secrets.plain)
                .ok()?;
            let mut fields = Fields::new(&secrets.plain);
            let bound = fields.u8().ok()? == KEYS
                && fields.str8().ok()? == room
                && fields.u64().ok()? == you;
            let mut keys = Vec::with_capacity(MAX_WRAPPED);
            while !fields.is_empty() {
                let (epoch, covers) = (fields.u64().ok()?, fields.u64().ok()?);
                let key = Zeroizing::new(fields.array::<32>().ok()?);
                if keys.len() == MAX_WRAPPED || !bound {
                    return None;
                }
                keys.push((epoch, covers, key));
            }
            let newest = keys.iter().map(|(epoch, ..)| *epoch).max().unwrap_or(0);
            out.extend_from_slice(&newest.to_be_bytes());
            for (epoch, covers, key) in &keys {
                if *epoch > above && !secrets.epochs.contains_key(epoch) {
                    secrets.epochs.insert(*epoch, Key::new(**key));
                    out.extend_from_slice(&epoch.to_be_bytes());
                    out.extend_from_slice(&covers.to_be_bytes());
                }
            }
            secrets.plain.zeroize();
            bound.then_some(())
        })?;
        let mut fields = Fields::new(&answer);
        let newest = fields.u64().map_err(|_| VaultError)?;
        let mut epochs = Vec::new();
        while let (Ok(epoch), Ok(covers)) = (fields.u64(), fields.u64()) {
            epochs.push((epoch, covers));
        }
        Ok((newest, epochs))
    }

    /// Appends RESYNC.
    pub(crate) fn resync(
        &mut self,
        now: UnixTime,
        last: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            let iv = secrets.iv();
            let mut plain = [LAST; 9];
            plain.last_chunk_mut::<8>()?.copy_from_slice(&last.to_be_bytes());
            Body::Resync(&[]).put(out);
            secrets.link.as_ref()?.to_responder.seal(now, iv, &plain, out);
            Some(())
        })
    }

    /// Takes RESYNC: the last epoch that member has.
    pub(crate) fn resynced(
        &mut self,
        now: UnixTime,
        peer: u64,
        token: &[u8],
    ) -> Result<u64, VaultError> {
        let mut answer = Vec::new();
        self.answer(&mut answer, |secrets, out| {
            secrets.plain.clear();
            let pair = secrets.pairs.get(&peer)?;
            pair.to_responder.open(&ANY_TIME, now, token, &mut secrets.plain).ok()?;
            let mut fields = Fields::new(&secrets.plain);
            let (kind, last) = (fields.u8().ok()?, fields.u64().ok()?);
            fields.end().ok().filter(|()| kind == LAST)?;
            out.extend_from_slice(&last.to_be_bytes());
            Some(())
        })?;
        Fields::new(&answer).u64().map_err(|_| VaultError)
    }

    /// Draws the key of an epoch.
    pub(crate) fn make(&mut self, epoch: u64) -> Result<(), VaultError> {
        self.answer(&mut Vec::new(), |secrets, _| {
            let key = Key::generate(&mut secrets.rng());
            secrets.epochs.insert(epoch, key);
            Some(())
        })
    }

    /// Derives the key of an epoch from that of an earlier one; if there is a check, only if it fits.
    pub(crate) fn ratchet(
        &mut self,
        room: &str,
        from: u64,
        to: u64,
        fits: Option<&[u8; CHECK]>,
    ) -> Result<(), VaultError> {
        self.answer(&mut Vec::new(), |secrets, _| {
            let key = ratchet(secrets.epochs.get(&from)?, room, to)?;
            if fits.is_some_and(|fits| !bool::from(check(&key, room, to).ct_eq(fits))) {
                return None;
            }
            secrets.epochs.insert(to, key);
            Some(())
        })
    }

    /// Tells those who have the key of an epoch that it is the same.
    pub(crate) fn check(&mut self, room: &str, epoch: u64) -> Result<[u8; CHECK], VaultError> {
        let mut answer = Vec::new();
        self.answer(&mut answer, |secrets, out| {
            out.extend_from_slice(&check(secrets.epochs.get(&epoch)?, room, epoch));
            Some(())
        })?;
        answer.try_into().map_err(|_| VaultError)
    }

    /// Whether there is a key of that epoch and this is its check.
    pub(crate) fn fits(&mut self, room: &str, epoch: u64, claimed: &[u8; CHECK]) -> bool {
        let answered = self.answer(&mut Vec::new(), |secrets, _| {
            let check = check(secrets.epochs.get(&epoch)?, room, epoch);
            bool::from(check.ct_eq(claimed)).then_some(())
        });
        answered.is_ok()
    }

    /// Appends a token under the key of an epoch.
    pub(crate) fn seal(
        &mut self,
        now: UnixTime,
        epoch: u64,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            let iv = secrets.iv();
            secrets.epochs.get(&epoch)?.seal(now, iv, plain, out);
            Some(())
        })
    }

    /// Appends the plaintext of a token under the key of an epoch.
    pub(crate) fn open(
        &mut self,
        now: UnixTime,
        epoch: u64,
        token: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        self.answer(out, |secrets, out| {
            secrets.epochs.get(&epoch)?.open(&ANY_TIME, now, token, out).ok().map(|_| ())
        })
    }
}

impl core::fmt::Display for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.0 {
            Some(octets) => Base64Display::new(octets, &URL_SAFE_NO_PAD).fmt(f),
            None => f.write_str("-"),
        }
    }
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Answer({self})")
    }
}

impl core::str::FromStr for Answer {
    type Err = BadAnswer;

    fn from_str(text: &str) -> Result<Self, BadAnswer> {
        match text {
            "-" => Ok(Self(None)),
            _ => {
                URL_SAFE_NO_PAD.decode(text).map(|octets| Self(Some(octets))).map_err(|_| BadAnswer)
            }
        }
    }
}

impl core::fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("an answer is base64url without padding, or -")
    }
}

impl core::error::Error for BadAnswer {}

impl core::fmt::Debug for Vault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Secrets {
    /// Randomness for one use. The seed is replaced first, so that what is left of it later says
    /// nothing of keys that were drawn before.
    fn rng(&mut self) -> Rng {
        let mut rng = self.seed.stream(0);
        let mut next = Zeroizing::new([0; 32]);
        rng.fill_bytes(next.as_mut());
        self.seed = Seed::new(*next);
        rng
    }

    /// By what that holder knows it again. The next one is shown another, or the last could come to it
    /// in its name.
    fn shown(&self) -> Zeroizing<[u8; 32]> {
        let mut shown = Zeroizing::new([0; 32]);
        let info = [b"semfio standing".as_slice(), &self.holder.to_be_bytes()];
        // 32 octets are never too many for HKDF-SHA256.
        let _ = Hkdf::<Sha256>::new(None, self.identity.as_slice())
            .expand_multi_info(&info, shown.as_mut());
        shown
    }

    fn iv(&mut self) -> [u8; 16] {
        let mut iv = [0; 16];
        self.rng().fill_bytes(&mut iv);
        iv
    }
}

fn mac(key: &Key, label: &[u8], room: &str, epoch: u64) -> Hmac<Sha256> {
    let mac = match <Hmac<Sha256> as hmac::Mac>::new_from_slice(key.as_bytes()) {
        Ok(mac) => mac,
        // Any length will do.
        Err(_) => <Hmac<Sha256> as hmac::Mac>::new(&Default::default()),
    };
    mac.chain_update(label)
        .chain_update((room.len() as u64).to_be_bytes())
        .chain_update(room)
        .chain_update(epoch.to_be_bytes())
}

fn half(mac: Hmac<Sha256>) -> [u8; 16] {
    mac.finalize().into_bytes().first_chunk().copied().unwrap_or_default()
}

fn check(key: &Key, room: &str, epoch: u64) -> [u8; CHECK] {
    half(mac(key, b"semfio epoch check", room, epoch))
}

fn proof(key: &Key, context: &Context<'_>, last: u64, pake: &[u8; 33]) -> [u8; PROOF] {
    let (number, nick) = context.initiator;
    let mac = mac(key, b"semfio epoch member", context.room, last)
        .chain_update(context.responder.to_be_bytes())
        .chain_update(number.to_be_bytes())
        .chain_update(pake)
        .chain_update(nick);
    half(mac)
}

/// One way: the key of an epoch says nothing of those before.
fn ratchet(key: &Key, room: &str, to: u64) -> Option<Key> {
    let mut next = Zeroizing::new([0; 32]);
    let info = [b"semfio ratchet".as_slice(), room.as_bytes(), &to.to_be_bytes()];
    Hkdf::<Sha256>::new(None, key.as_bytes()).expand_multi_info(&info, next.as_mut()).ok()?;
    Some(Key::new(*next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_key_is_another_one_for_each_room_and_epoch() {
        let key = Key::new([7; 32]);
        let keys = [
            *key.as_bytes(),
            *ratchet(&key, "sala", 2).unwrap().as_bytes(),
            *ratchet(&key, "sala", 3).unwrap().as_bytes(),
            *ratchet(&key, "outra", 2).unwrap().as_bytes(),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| one != other));
        }
    }

    /// What a holder with that number is told of who bia is.
    fn known(bia: &mut Vault, holder: u64) -> [u8; 32] {
        let now = UnixTime::default();
        let mut ana = Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(holder));
        let context = Context { room: "sala", initiator: (2, "bia"), responder: holder };
        let body = |put: &mut dyn FnMut(&mut Vec<u8>)| {
            let mut body = Vec::new();
            put(&mut body);
            body
        };
        let start = body(&mut |out| assert!(bia.start(&context, 0, out).is_ok()));
        let Ok(Body::Start { pake, .. }) = Body::parse(&start) else { panic!("{start:?}") };
        let reply = body(&mut |out| ana.reply(&context, &pake, out).unwrap());
        let Ok(Body::Reply { reply, .. }) = Body::parse(&reply) else { panic!("{reply:?}") };
        let confirm = body(&mut |out| bia.finish(now, &reply, 0, out).unwrap());
        let Ok(Body::Confirm { mac, standing }) = Body::parse(&confirm) else {
            panic!("{confirm:?}")
        };
        ana.confirm(now, 2, &mac, standing).unwrap().0
    }

    #[test]
    fn a_holder_knows_who_comes_back_and_cannot_be_it_to_the_next() {
        let root = Seed::from_u64(9);
        let vault = |seed, room: &str| {
            Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(seed)).known_by(&root, room)
        };
        let mut bia = vault(1, "sala");
        let first = known(&mut bia, 7);
        assert_eq!(known(&mut bia, 7), first, "it comes back");
        assert_eq!(known(&mut vault(2, "Sala"), 7), first, "after a PART");
        assert_ne!(known(&mut bia, 8), first, "another holder");
        assert_ne!(known(&mut vault(1, "copa"), 7), first, "another room");
    }
}
