//! Fernet keys.

use aes::cipher::KeyInit;
use aes::cipher::consts::U16;
use alloc::boxed::Box;
use alloc::string::String;
use base64::Engine as _;
use base64::alphabet::URL_SAFE as ALPHABET;
use base64::engine::general_purpose::{PAD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use core::slice;
use hmac::digest::block_buffer::EagerBuffer;
use hmac::digest::consts::U64;
use rand_core::RngCore;
use sha2::compress256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Octets of a MAC, and of a block of its hash.
pub(crate) const MAC: usize = 32;
const BLOCK: usize = 64;

/// How SHA-256 begins (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [
    0x6A09_E667,
    0xBB67_AE85,
    0x3C6E_F372,
    0xA54F_F53A,
    0x510E_527F,
    0x9B05_688C,
    0x1F83_D9AB,
    0x5BE0_CD19,
];

/// What follows 32 octets of the second block of a hash: a bit, and that they are 768 in all.
const OUTER_END: [u8; BLOCK] = {
    let mut block = [0; BLOCK];
    block[MAC] = 0x80;
    block[BLOCK - 2] = 0x03;
    block
};

/// Padding may be missing, but not be wrong.
const KEY_TEXT: GeneralPurpose =
    GeneralPurpose::new(&ALPHABET, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A Fernet key: 128 bits to sign and 128 bits to encrypt.
///
/// It does not show itself in `Debug`. Its octets and the HMAC that is prepared from them stand in a
/// box of their own, which is wiped when the key is dropped: to move a key copies no secret. Round
/// keys are made for each token, which costs 60 ns. What stays out of reach is what the hash and the
/// cipher leave in registers and on the stack; a [`Vault`](crate::Vault) wipes the stack too.
#[derive(Clone)]
pub struct Key(Box<Prepared>);

/// A cipher must not be among it. It has room for another implementation of AES, which nothing fills or
/// wipes: what lay on the stack, where it was made, comes along into the box.
#[derive(Clone)]
struct Prepared {
    bytes: Zeroizing<[u8; 32]>,
    signing: Signing,
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
        Self(Box::new(Prepared { signing: Signing::new(&bytes), bytes }))
    }

    /// A new key.
    pub fn generate(rng: &mut impl RngCore) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::new(*bytes)
    }

    /// A key from its text: 44 characters, or 43 without the padding; nothing before or behind.
    ///
    /// Each key has one text (but for the padding): the last character may not carry bits beyond
    /// the 32 octets.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let mut bytes = Zeroizing::new([0; 33]);
        match KEY_TEXT.decode_slice(text, bytes.as_mut()) {
            Ok(32) => bytes.first_chunk().copied().map(Self::new).ok_or(BadKey),
            _ => Err(BadKey),
        }
    }

    /// Its text: 44 characters.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE.encode(self.as_bytes()))
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.bytes
    }

    /// AES-128 with its other half, for one token.
    #[inline(always)]
    pub(crate) fn cipher<C: KeyInit<KeySize = U16>>(&self) -> C {
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, half @ ..] = self.as_bytes();
        C::new(half.into())
    }

    /// HMAC-SHA256 with its signing half, of nothing yet.
    pub(crate) fn mac(&self) -> Mac {
        Mac { signing: self.0.signing.clone(), buffer: EagerBuffer::default(), len: BLOCK as u64 }
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The two hashes of an HMAC-SHA256 (RFC 2104) that have taken its key in.
///
/// The `hmac` crate keeps the same and more: buffers that are copied for each token, and states
/// that cannot be wiped.
#[derive(Clone)]
struct Signing {
    inner: Zeroizing<[u32; 8]>,
    outer: Zeroizing<[u32; 8]>,
}

impl Signing {
    /// With the first half of a key.
    fn new(key: &[u8; 32]) -> Self {
        let begin = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key.iter().take(16)).for_each(|(octet, key)| *octet ^= key);
            let mut state = Zeroizing::new(INITIAL);
            compress256(&mut state, slice::from_ref((&*block).into()));
            state
        };
        Self { inner: begin(0x36), outer: begin(0x5C) }
    }
}

/// An HMAC-SHA256 at work.
#[derive(Clone)]
pub(crate) struct Mac {
    signing: Signing,
    buffer: EagerBuffer<U64>,
    /// Octets of the inner hash, the block of the key among them.
    len: u64,
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Mac(..)")
    }
}

impl Mac {
    pub(crate) fn update(mut self, message: &[u8]) -> Self {
        let Self { signing, buffer, len } = &mut self;
        buffer.digest_blocks(message, |blocks| compress256(&mut signing.inner, blocks));
        // No slice is so long that its octets cannot be counted.
        *len = len.saturating_add(u64::try_from(message.len()).unwrap_or(0));
        self
    }

    pub(crate) fn finish(self) -> [u8; MAC] {
        octets(&self.words())
    }

    /// Whether `tag` is the HMAC, in a time that does not tell where they differ.
    pub(crate) fn is(self, tag: &[u8; MAC]) -> bool {
        let mut difference = 0;
        for (word, octets) in self.words().into_iter().zip(tag.chunks_exact(4)) {
            let theirs = octets.first_chunk().copied().map_or(!word, u32::from_be_bytes);
            difference |= word ^ theirs;
        }
        difference.ct_eq(&0).into()
    }

    fn words(mut self) -> [u32; 8] {
        let Signing { inner, outer } = &mut self.signing;
        let bits = self.len.saturating_mul(8);
        self.buffer.len64_padding_be(bits, |block| compress256(inner, slice::from_ref(block)));
        // The other hash has the same length each time: one block, with what ends it.
        let mut block = OUTER_END;
        if let Some(hash) = block.first_chunk_mut() {
            *hash = octets(inner);
        }
        compress256(outer, slice::from_ref((&block).into()));
        **outer
    }
}

/// The octets of a hash.
fn octets(state: &[u32; 8]) -> [u8; MAC] {
    let mut octets = [0; MAC];
    for (place, word) in octets.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "LGB1jv3qEoE9cCiRMkZXOWZqjMbW0pz_7UbMiKOpgKE=";

    #[test]
    fn a_signature_is_that_of_the_hmac_crate() {
        use hmac::Mac;
        let key = Key::new(core::array::from_fn(|at| at as u8 * 5));
        for n in (0..300).chain([4_096, 100_000]) {
            let message: alloc::vec::Vec<u8> = (0..n).map(|at: usize| (at * at) as u8).collect();
            let mac =
                <hmac::Hmac<sha2::Sha256> as Mac>::new_from_slice(&key.as_bytes()[..16]).unwrap();
            let theirs = mac.chain_update(&message).finalize().into_bytes();
            let (head, rest) = message.split_at(n / 3);
            let ours = key.mac().update(head).update(rest);
            assert!(ours.clone().is(&theirs.into()), "{n} octets");
            assert_eq!(ours.finish()[..], theirs[..], "{n} octets");
            let mut wrong: [u8; MAC] = theirs.into();
            wrong[n % MAC] ^= 1 << (n % 8);
            assert!(!key.mac().update(&message).is(&wrong), "{n} octets");
        }
    }

    #[test]
    fn a_key_has_one_text() {
        let key = Key::parse(TEXT).unwrap();
        assert_eq!(*key.to_text(), TEXT);
        assert_eq!(Key::parse(TEXT.trim_end_matches('=')).unwrap().as_bytes(), key.as_bytes());
        assert_eq!(alloc::format!("{key:?}"), "Key(..)");
        // The last character but one carries two bits that belong to nothing.
        for wrong in ["F=", "G=", "H=", "E==", "E=\n", "E\n", "E= ", "E=A", "E", "", "==", "EA"] {
            let text = TEXT.replace("E=", wrong);
            assert_eq!(Key::parse(&text).is_ok(), wrong == "E", "{text:?}");
        }
        for wrong in ["", "=", "====", &TEXT[4..], &TEXT.replace('_', "/"), &[TEXT, TEXT].concat()]
        {
            assert_eq!(Key::parse(wrong).unwrap_err(), BadKey, "{wrong}");
        }
        assert!(Key::parse(&alloc::format!(" {TEXT}")).is_err());
    }
}
