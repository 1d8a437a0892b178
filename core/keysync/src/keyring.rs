//! Several keys at once.

use alloc::vec::Vec;
use semfio_machine::UnixTime;
use zeroize::Zeroizing;

use crate::token::{open_with, seal_at};
use crate::{Key, Policy, TokenError};

/// Keys that follow each other: the first one seals, any of them opens.
///
/// To rotate, [`put_first`](Self::put_first) the new key everywhere, re-seal with
/// [`rotate`](Self::rotate) what is kept, and [`truncate`](Self::truncate) the old keys. Each key is
/// tried in turn: a token that none has sealed costs one HMAC for each, so keep few.
#[derive(Clone, Debug)]
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

impl Keyring {
    /// `first` seals; the others open what was sealed before.
    pub fn new(first: Key, others: impl IntoIterator<Item = Key>) -> Self {
        Self { first, others: others.into_iter().collect() }
    }

    /// The keys, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        core::iter::once(&self.first).chain(&self.others)
    }

    /// From now on `key` seals, and the one that did only opens.
    pub fn put_first(&mut self, key: Key) {
        let last = core::mem::replace(&mut self.first, key);
        self.others.insert(0, last);
    }

    /// Keeps the newest `keys` of them, at least one; the others are wiped.
    pub fn truncate(&mut self, keys: usize) {
        self.others.truncate(keys.saturating_sub(1));
    }

    /// [`Key::seal`] with the first.
    pub fn seal(&self, now: UnixTime, iv: [u8; 16], plaintext: &[u8], out: &mut Vec<u8>) {
        self.first.seal(now, iv, plaintext, out);
    }

    /// [`Key::open`] with the first of them under which the MAC is right.
    pub fn open(
        &self,
        policy: &Policy,
        now: UnixTime,
        token: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u64, TokenError> {
        open_with(self.keys(), policy, now, token, out)
    }

    /// Appends to `out` a token of the same plaintext and the same time, sealed under the first
    /// key, and gives that time. A token of the first key too is sealed anew.
    pub fn rotate(
        &self,
        policy: &Policy,
        now: UnixTime,
        iv: [u8; 16],
        token: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u64, TokenError> {
        let mut plaintext = Zeroizing::new(Vec::new());
        let seconds = self.open(policy, now, token, &mut plaintext)?;
        seal_at(&self.first, seconds, iv, &plaintext, out);
        Ok(seconds)
    }
}
