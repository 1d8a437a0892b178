//! What a coding and a listing hold, by a counting allocator; one test, since all of a process counts.
#![allow(missing_docs)]

use std::alloc::System;

use semfio_http::{GZIP_MEMORY, Gzip, Listing, Located, PageForm, SORT_LIMIT};
use semfio_machine::{Entry, FileKind, Metadata, UnixTime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the harness of the tests holds beside.
const OTHERS: usize = 16 * 1024;

fn held(since: &Region<'_, System>) -> usize {
    let change = since.change();
    change.bytes_allocated - change.bytes_deallocated
}

fn batch(n: usize) -> Vec<Entry> {
    let metadata =
        Metadata { len: 1, modified: UnixTime::from_secs(1), kind: FileKind::File, stamp: 0 };
    let name = |at| format!("{:06}{}", n * 1_000 + at, "x".repeat(249));
    (0..1_000).map(|at| Entry { name: name(at), metadata }).collect()
}

#[test]
fn what_is_held_has_a_limit() {
    let since = Region::new(ALLOCATOR);
    let mut gzip = Gzip::new();
    let mut out = Vec::with_capacity(128 * 1024);
    let piece: Vec<u8> = (0..16_384_u32).map(|it| ((it * it) >> 7) as u8).collect();
    for _ in 0..200 {
        gzip.write(&piece, &mut out);
        out.clear();
        let gzip = held(&since) - out.capacity() - piece.capacity();
        assert!(gzip <= GZIP_MEMORY, "{gzip}");
    }
    gzip.finish(&mut out);
    drop((out, piece));
    assert!(held(&since) < OTHERS);

    let folder = Located::new("/", false).unwrap();
    let mut listing = Listing::new(&folder, PageForm::Html, None, false);
    let mut out = String::new();
    let mut most = 0;
    for n in 0..40 {
        let entries = batch(n);
        listing.take(&entries);
        drop(entries);
        while listing.write(&mut out) {
            most = most.max(held(&since));
            out.clear();
        }
        most = most.max(held(&since));
    }
    // Names of 255 octets, each beside what is known of it, and room for twice as many.
    assert!(most <= 2 * (SORT_LIMIT + 1_000) * (255 + size_of::<Entry>()), "{most}");
    assert!(held(&since) < 1024 * 1024, "{}", held(&since));
    drop((listing, out));
    assert!(held(&since) < OTHERS);
}
