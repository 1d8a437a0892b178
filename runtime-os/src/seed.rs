//! Randomness: drawn once, a value from there on.

use std::io;

use semfio_machine::Seed;

/// Draws the seed of a run from the system's source.
///
/// Fails only where the system has no such source.
pub fn draw() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(Seed::new(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        let (a, b) = (super::draw().unwrap(), super::draw().unwrap());
        assert_ne!(a.as_bytes(), b.as_bytes());
        assert_ne!(a.as_bytes(), &[0; 32]);
    }
}
