//! [`Input`] against a plain vector.

use alloc::vec::Vec;
use semfio_machine::{Hidden, Input};

use crate::Choices;

/// Takes, narrows, widens, cuts and rewrites at will: the view is what a vector would show, and
/// the host finds the untaken bytes where it is told.
pub fn input(data: &[u8]) {
    let mut choices = Choices::new(data);
    let len = choices.below(96);
    let mut buffer = choices.bytes(len).to_vec();
    let fresh = choices.below(buffer.len() + 1);
    let eof = choices.below(2) == 1;
    let mut model = Model {
        rest: buffer.clone(),
        visible: buffer.len(),
        fresh,
        eof,
    };
    let mut input = Input::new(&mut buffer, fresh, eof);
    let mut hidden: Vec<(Hidden, usize, bool)> = Vec::new();
    while !choices.is_empty() {
        match choices.below(6) {
            0 | 1 => {
                let n = choices.below(24);
                assert_eq!(input.take(n), model.take(n), "what is taken");
            }
            2 => {
                let (n, eof) = (choices.below(64), choices.below(2) == 1);
                let behind = model.rest.len() - model.visible;
                hidden.push((input.narrow(n, eof), behind, model.eof));
                model.visible = model.visible.min(n);
                model.eof = eof;
            }
            3 => {
                if let Some((token, behind, eof)) = hidden.pop() {
                    input.widen(token);
                    model.visible = model.rest.len() - behind;
                    model.eof = eof;
                }
            }
            4 => {
                let (at, n) = (choices.below(64), choices.below(24));
                input.cut(at, n);
                model.cut(at, n);
            }
            _ => {
                let at = choices.below(model.visible);
                if let Some(byte) = input.peek_mut().get_mut(at) {
                    *byte ^= 0x55;
                    model.rest[at] ^= 0x55;
                }
            }
        }
        assert_eq!(input.peek(), &model.rest[..model.visible], "the view");
        assert_eq!(input.len(), model.visible);
        assert_eq!(input.is_empty(), model.visible == 0);
        assert_eq!(input.at_eof(), model.eof);
        assert_eq!(input.fresh(), model.fresh.min(model.visible), "the fresh");
    }
    while let Some((token, ..)) = hidden.pop() {
        input.widen(token);
    }
    let untaken = input.untaken();
    assert_eq!(buffer.get(untaken), Some(&model.rest[..]), "what is left");
}

struct Model {
    rest: Vec<u8>,
    visible: usize,
    fresh: usize,
    eof: bool,
}

impl Model {
    fn take(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.visible);
        self.visible -= n;
        self.fresh = self.fresh.saturating_sub(n);
        self.rest.drain(..n).collect()
    }

    fn cut(&mut self, at: usize, n: usize) {
        let at = at.min(self.visible);
        let n = n.min(self.visible - at);
        self.rest.drain(at..at + n);
        self.visible -= n;
        if self.fresh > at {
            self.fresh = self.fresh.saturating_sub(n).max(at);
        }
    }
}
