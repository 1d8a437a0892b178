//! Which codings a client takes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{Coding, Fields};

/// What could be sent, what we would rather send first.
const CODINGS: [Coding; 4] = [Coding::Br, Coding::Zstd, Coding::Gzip, Coding::Identity];

/// Those that a client takes, the best first. Two clients of one class are sent the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class([Option<Coding>; 4]);

impl Class {
    /// Of those that name none.
    pub(super) const IDENTITY: Self = Self([Some(Coding::Identity), None, None, None]);

    /// The one that is tried after so many others.
    pub(super) fn get(&self, at: usize) -> Option<Coding> {
        *self.0.get(at)?
    }

    fn negotiate(fields: &Fields<'_>) -> Self {
        let mut class = Self([None; 4]);
        let mut left = Vec::from(CODINGS);
        for slot in &mut class.0 {
            *slot = Coding::negotiate(fields, &left);
            left.retain(|it| Some(*it) != *slot);
        }
        class
    }
}

/// The classes of the last clients, by what they wrote: most write one of a few values.
#[derive(Debug, Default)]
pub(super) struct Classes(Vec<(Box<[u8]>, Class)>);

/// Values that are remembered, and the octets of the longest: what browsers write takes 25.
const REMEMBERED: usize = 8;
const LONGEST: usize = 64;

impl Classes {
    pub(super) fn of(&mut self, fields: &Fields<'_>) -> Class {
        let mut values = fields.all("Accept-Encoding");
        let Some(value) = values.next() else { return Class::IDENTITY };
        if values.next().is_some() || value.len() > LONGEST {
            return Class::negotiate(fields);
        }
        if let Some((_, class)) = self.0.iter().find(|(known, _)| **known == *value) {
            return *class;
        }
        let class = Class::negotiate(fields);
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((value.into(), class));
        class
    }
}
