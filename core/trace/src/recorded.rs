//! How a trace holds messages.

use alloc::string::String;
use alloc::vec::Vec;

use semfio_machine::DatagramMachine;

/// How the messages of one service, [`Service::Message`](semfio_machine::Service::Message), are
/// written down and restored.
///
/// Whoever records gives it, so that a protocol need not know of traces. Write what a person can
/// read: clean UTF-8 stands in the trace as it is. For an enum:
///
/// ```
/// use semfio_trace::{Codec, Recorded};
///
/// #[derive(Debug, PartialEq)]
/// enum Ask {
///     Quit,
///     Say(String),
/// }
///
/// let codec = Codec::<Ask> {
///     encode: |ask, to| match ask {
///         Ask::Quit => to.extend_from_slice(b"quit"),
///         Ask::Say(text) => {
///             to.extend_from_slice(b"say ");
///             text.encode(to);
///         }
///     },
///     decode: |from| match from {
///         b"quit" => Some(Ask::Quit),
///         _ => String::decode(from.strip_prefix(b"say ")?).map(Ask::Say),
///     },
/// };
///
/// let mut bytes = Vec::new();
/// (codec.encode)(&Ask::Say("hello".into()), &mut bytes);
/// assert_eq!((codec.decode)(&bytes), Some(Ask::Say("hello".into())));
/// ```
#[derive(Debug)]
pub struct Codec<M> {
    /// Appends all there is to know of a message.
    pub encode: fn(&M, &mut Vec<u8>),
    /// What `encode` wrote, or `None` for anything else. It sees files that others wrote.
    pub decode: fn(&[u8]) -> Option<M>,
}

impl<M> Clone for Codec<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Codec<M> {}

impl<M: Recorded> Default for Codec<M> {
    fn default() -> Self {
        Self { encode: M::encode, decode: M::decode }
    }
}

/// How the commands of a [`DatagramMachine`] are written down and restored; for the same readers
/// and by the same rules as a [`Codec`].
pub struct CommandCodec<M: DatagramMachine> {
    /// Appends all there is to know of a command.
    pub encode: fn(&M::Command<'_>, &mut Vec<u8>),
    /// What `encode` wrote, or `None` for anything else. It sees files that others wrote.
    pub decode: fn(&[u8]) -> Option<M::Command<'_>>,
}

impl<M: DatagramMachine> Clone for CommandCodec<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: DatagramMachine> Copy for CommandCodec<M> {}

/// A message that brings its own [`Codec`].
pub trait Recorded: Sized {
    /// [`Codec::encode`].
    fn encode(&self, to: &mut Vec<u8>);

    /// [`Codec::decode`].
    fn decode(from: &[u8]) -> Option<Self>;
}

impl Recorded for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(from: &[u8]) -> Option<Self> {
        from.is_empty().then_some(())
    }
}

impl Recorded for String {
    fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }

    fn decode(from: &[u8]) -> Option<Self> {
        Self::from_utf8(from.into()).ok()
    }
}

impl Recorded for Vec<u8> {
    fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn decode(from: &[u8]) -> Option<Self> {
        Some(from.into())
    }
}

/// For a service that is never spoken to.
impl Recorded for core::convert::Infallible {
    fn encode(&self, _: &mut Vec<u8>) {
        match *self {}
    }

    fn decode(_: &[u8]) -> Option<Self> {
        None
    }
}
