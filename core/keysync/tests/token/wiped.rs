//! What is left in memory, read back from the kernel's view of it.

use semfio_keysync::{Keyring, Policy};
use semfio_machine::UnixTime;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::{AT, key, seal};

/// `len` octets of this process from `at` on, whoever owns them by now.
fn memory(at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, at as u64).unwrap();
    bytes
}

/// Whether any 4 octets of `secret` in a row, zeros apart, are in `bytes`.
fn shows(bytes: &[u8], secret: &[u8]) -> bool {
    secret
        .windows(4)
        .filter(|piece| *piece != [0; 4])
        .any(|piece| bytes.windows(4).any(|window| window == piece))
}

#[test]
#[cfg(target_os = "linux")]
fn a_dropped_key_is_overwritten() {
    // 32 octets and the two states of an HMAC stand in one box, in whatever order.
    let look = |at: usize| memory(at - 64, 160);
    let [first, same, other] = [1, 1, 2].map(key);
    let at = first.as_bytes().as_ptr().addr();
    let before = look(at);
    let [same, other] = [same, other].map(|key| look(key.as_bytes().as_ptr().addr()));
    // What is the same of the same key, and of another is another.
    let secret: Vec<usize> =
        (0..before.len()).filter(|&at| before[at] == same[at] && before[at] != other[at]).collect();
    assert!(secret.len() > 85, "{} octets depend on the key", secret.len());
    assert!(shows(&before, key(1).as_bytes()));

    drop(first);
    let after = look(at);
    let kept = secret.iter().filter(|&&at| before[at] == after[at]).count();
    // One in 256 is the same by chance.
    assert!(kept < 8, "{kept} of {} octets are still there", secret.len());
    assert!(!shows(&after, key(1).as_bytes()));
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left_behind_the_end_of_a_buffer() {
    let plaintext = b"the very secret text that is not to be found";
    let token = seal(&key(1), AT, plaintext);
    let late = Policy::STRICT.with_ttl(core::time::Duration::from_secs(1));
    let mut broken = token.clone();
    broken[60] ^= 1;
    for (policy, token) in [(Policy::STRICT, &token), (late, &token), (Policy::STRICT, &broken)] {
        let mut out = Vec::with_capacity(1_024);
        let opened = key(1).open(&policy, UnixTime::from_secs(AT + 9), token, &mut out);
        let spare = memory(out.as_ptr() as usize + out.len(), token.len() / 4 * 3 - out.len());
        assert!(spare.iter().all(|&byte| byte == 0), "{opened:?}: {spare:x?}");
    }
    let mut out = Vec::with_capacity(1_024);
    let ring = Keyring::new(key(2), [key(1)]);
    let now = UnixTime::from_secs(AT);
    ring.rotate(&Policy::STRICT, now, [1; 16], &token, &mut out).unwrap();
    assert!(!shows(&memory(out.as_ptr() as usize, 1_024), plaintext));
}
