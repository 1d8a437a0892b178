//! The stack below those who work with secrets.

use core::hint::black_box;

/// How far down an agreement goes: 36 KiB where it is not optimized, 8 where it is.
pub(crate) const AGREEMENT: usize = 64 << 10;
/// How far a token goes, or another use of one key.
pub(crate) const TOKEN: usize = 16 << 10;

/// Does `work`, and wipes what it left on the stack. The result must hold no secret but in a box.
///
/// What lies there is nobody's, but it does not stay there: a value with room that is not filled, as
/// an enum in one of its smaller variants, takes it along when it is moved, to the heap for one.
pub(crate) fn wiped<const DEPTH: usize, T>(work: impl FnOnce() -> T) -> T {
    let done = below(work);
    wipe::<DEPTH>();
    done
}

/// Not inlined, so that its variables lie where [`wipe`] has its own.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe<const DEPTH: usize>() {
    black_box(&mut [0_u8; DEPTH]);
}
