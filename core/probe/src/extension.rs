//! What routers say beside an error: extensions of RFC 4884, label stacks of RFC 4950.
//!
//! ```text
//! version 2 (4 bits), 0 (12), checksum (16), then objects:
//! length (16, itself included), class (8), c-type (8), payload
//! ```

use alloc::vec::Vec;

use etherparse::checksum::Sum16BitWords;

use crate::icmp::checksum;

/// Octets before the objects, and before an object's payload.
const HEADER: usize = 4;

/// Octets that the payload of an object can have: 4 less than its length says, and whole words.
const LARGEST: usize = 65_528;

/// Class and c-type of an MPLS label stack.
const MPLS: (u8, u8) = (1, 1);

/// A whole extension: every object in it ends where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    objects: &'a [u8],
    has_checksum: bool,
}

/// One thing a router says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// What it is about: 1 for MPLS labels, 2 for interfaces (RFC 5837), 3 for their names.
    pub class: u8,
    /// How it says that.
    pub c_type: u8,
    /// A multiple of 4 octets.
    pub payload: &'a [u8],
}

/// An entry of the label stack that a packet came with (RFC 4950, RFC 3032).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// 20 bits.
    pub label: u32,
    /// 3 bits, once called experimental.
    pub traffic_class: u8,
    /// The last of the stack.
    pub bottom: bool,
    /// Hops left.
    pub ttl: u8,
}

/// How an extension contradicts itself or its message. The quote is read nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadExtension {
    /// The quote is said to be longer than the message.
    Quote {
        /// Octets it is said to have.
        length: usize,
    },
    /// Cut off before its first object.
    Truncated,
    /// Not version 2.
    Version(u8),
    /// The checksum does not fit.
    Checksum,
    /// An object is said to have a length that it cannot have, at this offset.
    Object {
        /// From the beginning of the extension.
        offset: usize,
    },
}

impl<'a> Extension<'a> {
    /// Reads an extension that fills `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadExtension> {
        let Some((&[version, _, a, b], objects)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(BadExtension::Truncated);
        };
        if version >> 4 != 2 {
            return Err(BadExtension::Version(version >> 4));
        }
        // Zero: none was computed.
        let has_checksum = [a, b] != [0, 0];
        if has_checksum && checksum(bytes) != 0 {
            return Err(BadExtension::Checksum);
        }
        Ok(Self { has_checksum, ..Self::of(objects)? })
    }

    /// An extension of objects, one after the other, with a checksum.
    pub fn of(objects: &'a [u8]) -> Result<Self, BadExtension> {
        let mut rest = objects;
        while !rest.is_empty() {
            let before = objects.len().saturating_sub(rest.len());
            let offset = before.saturating_add(HEADER);
            (_, rest) = Object::split(rest).ok_or(BadExtension::Object { offset })?;
        }
        Ok(Self { objects, has_checksum: true })
    }

    /// Its objects.
    pub fn objects(&self) -> impl Iterator<Item = Object<'a>> + use<'a> {
        let mut rest = self.objects;
        core::iter::from_fn(move || {
            let (object, next) = Object::split(rest)?;
            rest = next;
            Some(object)
        })
    }

    /// The labels of its stacks, from the top.
    pub fn labels(&self) -> impl Iterator<Item = Label> + use<'a> {
        let stacks = self.objects().filter(|object| (object.class, object.c_type) == MPLS);
        stacks.flat_map(|stack| stack.payload.chunks_exact(4)).filter_map(|entry| {
            let &[a, b, c, ttl] = entry else { return None };
            Some(Label {
                label: u32::from_be_bytes([0, a, b, c]) >> 4,
                traffic_class: c >> 1 & 7,
                bottom: c & 1 == 1,
                ttl,
            })
        })
    }

    pub(crate) fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        const PREFACE: [u8; 2] = [0x20, 0];
        let sum = Sum16BitWords::new().add_slice(&PREFACE).add_slice(self.objects);
        let checksum = match self.has_checksum {
            // Zero would say that there is none.
            true => sum.to_ones_complement_with_no_zero().to_ne_bytes(),
            false => [0, 0],
        };
        out.extend_from_slice(&PREFACE);
        out.extend_from_slice(&checksum);
        out.extend_from_slice(self.objects);
    }
}

impl<'a> Object<'a> {
    /// Appends it, to be read as a part of an [`Extension`]. Of a payload that no object can hold
    /// the end is left out.
    pub fn put(&self, out: &mut Vec<u8>) {
        let payload = self.payload.chunks(LARGEST).next().unwrap_or_default();
        let padded = payload.len().next_multiple_of(4);
        let length = u16::try_from(padded.saturating_add(HEADER)).unwrap_or_default();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[self.class, self.c_type]);
        out.extend_from_slice(payload);
        out.extend(core::iter::repeat_n(0, padded.saturating_sub(payload.len())));
    }

    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a, b, class, c_type], _) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([a, b]));
        let (object, rest) = bytes.split_at_checked(length)?;
        let payload = object.get(HEADER..)?;
        (length % 4 == 0).then_some((Self { class, c_type, payload }, rest))
    }
}
