//! From an outbox to a socket.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use semfio_machine::{Chunk, FileSpan, Outbox};

use crate::files::Files;

/// Pieces in one write: enough to fill a socket's buffer, and 1 KiB of stack.
const SLICES: usize = 64;

/// Makes one write of what `outbox` holds, and says how many bytes the socket took; the caller
/// then calls `handle_sent`. Never raises SIGPIPE. An empty outbox is zero bytes.
///
/// Up to 64 pieces in memory go in one call. A file span goes by itself, at most `scratch` of it,
/// read in this thread.
///
/// # Errors
///
/// `WouldBlock` if the socket is full. `UnexpectedEof` if a file is shorter than its span, or
/// `NotFound` if it is not open: the connection must be reset then, since what was promised
/// cannot be sent.
pub fn write_outbox(
    socket: impl AsFd,
    outbox: &Outbox,
    files: &Files,
    scratch: &mut [u8],
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut filled = 0;
    for (slot, chunk) in slices.iter_mut().zip(outbox.chunks()) {
        match chunk {
            Chunk::Bytes(bytes) => *slot = IoSlice::new(bytes),
            Chunk::File(span) if filled == 0 => return write_span(socket, span, files, scratch),
            Chunk::File(_) => break,
        }
        filled += 1;
    }
    match &slices[..filled] {
        [] => Ok(0),
        [bytes] => Ok(send(socket, bytes, SendFlags::NOSIGNAL)?),
        several => Ok(sendmsg(
            socket,
            several,
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        )?),
    }
}

fn write_span(
    socket: impl AsFd,
    span: FileSpan,
    files: &Files,
    scratch: &mut [u8],
) -> io::Result<usize> {
    let file = files.file(span.file).ok_or(io::ErrorKind::NotFound)?;
    let len = usize::try_from(span.len).unwrap_or(usize::MAX);
    let len = len.min(scratch.len());
    let n = file.read_at(&mut scratch[..len], span.offset)?;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(send(socket, &scratch[..n], SendFlags::NOSIGNAL)?)
}
