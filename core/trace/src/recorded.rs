//! Messages that a trace can hold.

use alloc::string::String;
use alloc::vec::Vec;

/// A [`Service::Message`](semfio_machine::Service::Message) that can be written down and restored.
///
/// Write what a person can read: clean UTF-8 stands in the trace as it is. An enum of words:
///
/// ```
/// use semfio_trace::Recorded;
///
/// #[derive(Debug, PartialEq)]
/// enum Ask {
///     Quit,
///     Say(String),
/// }
///
/// impl Recorded for Ask {
///     fn encode(&self, to: &mut Vec<u8>) {
///         match self {
///             Ask::Quit => to.extend_from_slice(b"quit"),
///             Ask::Say(text) => {
///                 to.extend_from_slice(b"say ");
///                 text.encode(to);
///             }
///         }
///     }
///     fn decode(from: &[u8]) -> Option<Self> {
///         match from {
///             b"quit" => Some(Ask::Quit),
///             _ => String::decode(from.strip_prefix(b"say ")?).map(Ask::Say),
///         }
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Ask::Say("hello".into()).encode(&mut bytes);
/// assert_eq!(Ask::decode(&bytes), Some(Ask::Say("hello".into())));
/// ```
pub trait Recorded: Sized {
    /// Appends all there is to know of it.
    fn encode(&self, to: &mut Vec<u8>);

    /// What [`encode`](Self::encode) wrote, or `None` for anything else. It sees files that
    /// others wrote.
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
