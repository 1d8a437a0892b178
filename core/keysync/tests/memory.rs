//! Sealing and opening allocate nothing where the buffer has room. Alone in its process.
#![allow(missing_docs)]

use semfio_keysync::{Key, Policy, token_len};
use semfio_machine::UnixTime;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, so that nothing else allocates meanwhile.
#[test]
fn nothing_is_allocated_where_there_is_room() {
    let (key, now) = (Key::new([3; 32]), UnixTime::from_secs(1_700_000_000));
    for n in [0, 2, 15, 16, 31, 1_000, 65_536] {
        let plaintext = vec![b'x'; n];
        let mut token = Vec::with_capacity(token_len(n));
        let mut opened = Vec::with_capacity(token_len(n) / 4 * 3);
        for policy in [Policy::STRICT, Policy::PYTHON, Policy::CRATE] {
            token.clear();
            opened.clear();
            let region = Region::new(ALLOCATOR);
            key.seal(now, [1; 16], &plaintext, &mut token);
            let sealed = region.change();
            assert!(key.open(&policy, now, &token, &mut opened).is_ok());
            token[70] ^= 1;
            assert!(key.open(&policy, now, &token, &mut Vec::new()).is_err());
            let change = region.change();
            assert_eq!(sealed.allocations + sealed.reallocations, 0, "sealing {n} octets");
            // The one is the buffer without room that the broken token was given.
            assert_eq!(change.allocations + change.reallocations, 1, "opening {n} octets");
            assert_eq!(opened, plaintext);
        }
    }
}
