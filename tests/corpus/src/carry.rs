//! [`Carry`] against a plain vector.

use alloc::vec::Vec;
use core::ops::Range;
use semfio_machine::Carry;

use crate::Choices;

/// Appends and keeps at will: the tail is always what was left, with what is new behind it, and no
/// memory is held once it is empty.
pub fn carry(data: &[u8]) {
    check(&mut Carry::default(), data);
}

/// What is checked, so that a wrong one can be put in its place.
pub(crate) trait Tail {
    fn append(&mut self, new: &[u8]) -> (&mut [u8], usize);
    fn keep(&mut self, untaken: Range<usize>);
    fn sizes(&self) -> (usize, usize);
}

impl Tail for Carry {
    fn append(&mut self, new: &[u8]) -> (&mut [u8], usize) {
        self.append(new)
    }

    fn keep(&mut self, untaken: Range<usize>) {
        self.keep(untaken);
    }

    fn sizes(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
}

pub(crate) fn check(tail: &mut impl Tail, data: &[u8]) {
    let mut model = Vec::new();
    let mut choices = Choices::new(data);
    while !choices.is_empty() {
        let len = choices.below(48);
        let new = choices.bytes(len);
        let old = model.len();
        model.extend_from_slice(new);
        let (view, fresh) = tail.append(new);
        assert_eq!(view, model, "the tail, then what is new");
        assert_eq!(fresh, old, "where the new bytes begin");
        // A machine may rewrite what it leaves.
        let at = choices.below(model.len());
        if let (Some(seen), Some(kept)) = (view.get_mut(at), model.get_mut(at)) {
            *seen ^= 0x55;
            *kept ^= 0x55;
        }
        let start = choices.below(model.len() + 1);
        // The end moves only if a layer cuts something out: seldom.
        let end = if choices.below(8) == 0 {
            start + choices.below(model.len() - start + 1)
        } else {
            model.len()
        };
        model.truncate(end);
        model.drain(..start);
        tail.keep(start..end);
        let (len, capacity) = tail.sizes();
        assert_eq!(len, model.len());
        assert!(
            len > 0 || capacity == 0,
            "an empty tail holds {capacity} bytes"
        );
    }
}
