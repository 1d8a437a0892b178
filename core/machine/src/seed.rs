//! Randomness as a value.

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

/// The generator that [`Seed::stream`] gives.
pub type Rng = ChaCha12Rng;

/// All the randomness of a run: 32 bytes the host draws once from the system.
///
/// A machine expands it with [`Seed::stream`]; the same seed gives the same run. It is wiped
/// when dropped and does not show itself in `Debug`.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    /// A seed of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A seed for simulations and tests. It holds 64 bits: never for secrets.
    pub fn from_u64(number: u64) -> Self {
        let mut bytes = [0; 32];
        for (slot, byte) in bytes.iter_mut().zip(number.to_le_bytes()) {
            *slot = byte;
        }
        Self::new(bytes)
    }

    /// The bytes, for a trace that is allowed to hold them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// An independent generator for each `label`, 2^64 of them.
    ///
    /// Take one label for each use, so that a new use does not change the numbers of another.
    pub fn stream(&self, label: u64) -> Rng {
        let mut rng = ChaCha12Rng::from_seed(*self.0);
        rng.set_stream(label);
        rng
    }
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}
