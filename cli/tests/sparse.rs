//! Files that are large and take no room.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

pub(crate) const GROUP: u64 = 65_536;

/// A sparse file each group of which is another, and another for each seed.
pub(crate) fn put(path: &Path, seed: u64, len: u64) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for group in 0..len / GROUP {
        let mark = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ group;
        file.write_all_at(&mark.to_be_bytes(), group * GROUP + group % 60_000).unwrap();
    }
}

/// Compares without holding either.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    let (mut a, mut b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = a.read(&mut one).unwrap();
        if n == 0 {
            return b.read(&mut two).unwrap() == 0;
        }
        if b.read_exact(&mut two[..n]).is_err() || one[..n] != two[..n] {
            return false;
        }
    }
}
