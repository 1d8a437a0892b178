//! Fernet keys.

use aes::cipher::KeyInit as _;
use alloc::string::String;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use rand_core::RngCore;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A Fernet key: 128 bits to sign and 128 bits to encrypt, with what both prepare from it.
///
/// It is wiped when dropped and does not show itself in `Debug`.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    pub(crate) mac: Hmac<Sha256>,
    pub(crate) encrypt: aes::Aes128Enc,
    pub(crate) decrypt: aes::Aes128Dec,
}

/// A text that is no key: not 32 octets in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

impl core::fmt::Display for BadKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a key is 32 octets in base64url, 44 characters with its padding")
    }
}

impl core::error::Error for BadKey {}

impl Key {
    /// A key of these octets: the signing half first.
    pub fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let [signing, encryption] = halves(&bytes);
        // Neither fails: HMAC takes any length, and the halves are as long as AES-128 wants.
        let mac = match <Hmac<Sha256> as Mac>::new_from_slice(signing.as_slice()) {
            Ok(mac) => mac,
            Err(_) => <Hmac<Sha256> as Mac>::new(&Default::default()),
        };
        Self {
            mac,
            encrypt: aes::Aes128Enc::new((&*encryption).into()),
            decrypt: aes::Aes128Dec::new((&*encryption).into()),
            bytes,
        }
    }

    /// A new key.
    pub fn generate(rng: &mut impl RngCore) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::new(*bytes)
    }

    /// A key from its text, with or without padding.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let mut bytes = Zeroizing::new([0; 33]);
        let text = text.trim_end_matches('=');
        match URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut()) {
            Ok(32) => bytes.first_chunk().copied().map(Self::new).ok_or(BadKey),
            _ => Err(BadKey),
        }
    }

    /// Its text: 44 characters.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE.encode(*self.bytes))
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

fn halves(bytes: &[u8; 32]) -> [Zeroizing<[u8; 16]>; 2] {
    let mut halves = [Zeroizing::new([0; 16]), Zeroizing::new([0; 16])];
    for (half, from) in halves.iter_mut().zip(bytes.chunks_exact(16)) {
        half.copy_from_slice(from);
    }
    halves
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}
