//! Fernet tokens (<https://github.com/fernet/spec>).

use aes::cipher::{
    BlockDecryptMut as _, BlockEncryptMut as _, InnerIvInit as _, block_padding::Pkcs7,
};
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use core::time::Duration;
use hmac::Mac as _;
use semfio_machine::UnixTime;

use crate::Key;

const VERSION: u8 = 0x80;
/// Version, timestamp, IV.
const HEAD: usize = 25;
const MAC: usize = 32;

/// Which tokens are accepted, beside that their MAC must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The oldest that is accepted. `None`: any age.
    pub ttl: Option<Duration>,
    /// How far ahead of ours a clock may be. `None`: any.
    pub skew: Option<Duration>,
    /// Which texts are read.
    pub decoding: Decoding,
}

/// Which texts are read as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// Base64url with its padding, and nothing else.
    Strict,
}

impl Policy {
    /// As the specification has it, with any age.
    pub const STRICT: Self =
        Self { ttl: None, skew: Some(Duration::from_secs(60)), decoding: Decoding::Strict };
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Not base64url, or too short, or no whole number of blocks.
    Malformed,
    /// Another version than 0x80.
    Version(u8),
    /// Sealed under another key, or changed.
    Mac,
    /// Older than the policy allows, by this much.
    Expired(Duration),
    /// From the future, further than the policy allows, by this much.
    Future(Duration),
    /// The MAC is right and the padding is not: who sealed it erred.
    Padding,
}

impl core::fmt::Display for TokenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a token"),
            Self::Version(version) => write!(f, "a token of version {version:#04x}"),
            Self::Mac => f.write_str("not sealed under this key, or changed since"),
            Self::Expired(by) => write!(f, "expired {} s ago", by.as_secs()),
            Self::Future(by) => write!(f, "sealed {} s in the future", by.as_secs()),
            Self::Padding => f.write_str("its padding is wrong"),
        }
    }
}

impl core::error::Error for TokenError {}

/// The length of a token for so many octets of plaintext.
pub const fn token_len(plaintext: usize) -> usize {
    let blocks = plaintext.saturating_div(16).saturating_add(1);
    let raw = blocks.saturating_mul(16).saturating_add(HEAD + MAC);
    raw.div_ceil(3).saturating_mul(4)
}

impl Key {
    /// Appends a token to `out`. An IV must never be used twice with one key.
    pub fn seal(&self, now: UnixTime, iv: [u8; 16], plaintext: &[u8], out: &mut Vec<u8>) {
        let mut raw = Vec::with_capacity(token_len(plaintext.len()));
        raw.push(VERSION);
        raw.extend_from_slice(&now.as_secs().to_be_bytes());
        raw.extend_from_slice(&iv);
        let cipher = cbc::Encryptor::inner_iv_init(self.encrypt.clone(), &iv.into());
        raw.extend_from_slice(&cipher.encrypt_padded_vec_mut::<Pkcs7>(plaintext));
        let tag = self.mac.clone().chain_update(&raw).finalize().into_bytes();
        raw.extend_from_slice(&tag);
        out.extend_from_slice(URL_SAFE.encode(raw).as_bytes());
    }

    /// Appends the plaintext of a token to `out` and gives when it was sealed, in seconds since 1970.
    pub fn open(
        &self,
        policy: &Policy,
        now: UnixTime,
        token: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u64, TokenError> {
        let mut raw = URL_SAFE.decode(token).map_err(|_| TokenError::Malformed)?;
        let at = raw.len().checked_sub(MAC).ok_or(TokenError::Malformed)?;
        let (body, tag) = raw.split_at_mut(at);
        self.mac.clone().chain_update(&*body).verify_slice(tag).map_err(|_| TokenError::Mac)?;
        let (head, text) = body.split_at_mut_checked(HEAD).ok_or(TokenError::Malformed)?;
        let (&mut [version, ref time @ ..], iv) =
            head.split_first_chunk_mut::<9>().ok_or(TokenError::Malformed)?;
        if version != VERSION {
            return Err(TokenError::Version(version));
        }
        let seconds = u64::from_be_bytes(*time);
        let age = now.as_secs().saturating_sub(seconds);
        let ahead = seconds.saturating_sub(now.as_secs());
        if let Some(over) = policy.ttl.and_then(|ttl| age.checked_sub(ttl.as_secs())) {
            if over > 0 {
                return Err(TokenError::Expired(Duration::from_secs(over)));
            }
        }
        if let Some(over) = policy.skew.and_then(|skew| ahead.checked_sub(skew.as_secs())) {
            if over > 0 {
                return Err(TokenError::Future(Duration::from_secs(over)));
            }
        }
        let iv: [u8; 16] = iv.try_into().map_err(|_| TokenError::Malformed)?;
        let cipher = cbc::Decryptor::inner_iv_init(self.decrypt.clone(), &iv.into());
        let plain = cipher.decrypt_padded_mut::<Pkcs7>(text).map_err(|_| TokenError::Padding)?;
        out.extend_from_slice(plain);
        Ok(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_the_book_open() {
        let key = Key::parse("LGB1jv3qEoE9cCiRMkZXOWZqjMbW0pz_7UbMiKOpgKE=").unwrap();
        let token = b"gAAAAABkPVPKP8B5nwF_AJfSwzPsXnmaOOMMrVOwFb1fuKtq9ptRqa8nx8Cxd6B9rP9KYsSy-7ogANULCr-UZqfSOvokDo06wg==";
        let mut out = Vec::new();
        let now = UnixTime::from_secs(1_800_000_000);
        assert_eq!(key.open(&Policy::STRICT, now, token, &mut out), Ok(1_681_740_746));
        assert_eq!(out, b"OK");
        assert_eq!(token.len(), token_len(2));
    }
}
