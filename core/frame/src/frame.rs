//! One frame from the input.

use semfio_machine::Input;

/// Bytes before a body: the type and the length.
pub const HEADER: usize = 4;

/// The largest body a length of 24 bits can announce.
pub const MAX_BODY: usize = 0xFF_FFFF;

/// A frame, borrowed from the host's buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'i> {
    /// The type octet; who does not know it must refuse it if its top bit is set.
    pub kind: u8,
    /// As long as the header said.
    pub body: &'i mut [u8],
}

/// What [`read_frame`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'i> {
    /// A whole frame, taken from the input.
    Frame(Frame<'i>),
    /// At least this many more bytes are needed; nothing was taken.
    NeedInput(usize),
    /// The input ended between two frames.
    End,
}

/// Why there is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header announces more than the limit.
    TooLarge {
        /// The type octet.
        kind: u8,
        /// What the header announces, in bytes.
        len: usize,
    },
    /// The input ended inside a frame.
    Truncated {
        /// How many bytes are missing.
        missing: usize,
    },
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLarge { kind, len } => {
                write!(f, "frame of type {kind:#04x} announces {len} bytes")
            }
            Self::Truncated { missing } => {
                write!(f, "input ended {missing} bytes before the end of a frame")
            }
        }
    }
}

impl core::error::Error for FrameError {}

/// Takes the next frame whose body is at most `limit` bytes. The limit is judged on the header,
/// so the verdict does not depend on how the bytes arrived.
pub fn read_frame<'i>(input: &mut Input<'i>, limit: usize) -> Result<Read<'i>, FrameError> {
    let have = input.len();
    let &[kind, a, b, c] = input.peek().first_chunk().unwrap_or(&[0; HEADER]);
    if have >= HEADER {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if len > limit {
            return Err(FrameError::TooLarge { kind, len });
        }
        let whole = len.saturating_add(HEADER);
        if have >= whole {
            input.take(HEADER);
            return Ok(Read::Frame(Frame { kind, body: input.take(len) }));
        }
        return missing(input, whole.saturating_sub(have));
    }
    if have == 0 && input.at_eof() {
        return Ok(Read::End);
    }
    missing(input, HEADER.saturating_sub(have))
}

fn missing<'i>(input: &Input<'i>, missing: usize) -> Result<Read<'i>, FrameError> {
    if input.at_eof() {
        Err(FrameError::Truncated { missing })
    } else {
        Ok(Read::NeedInput(missing))
    }
}
