//! From an outbox to a socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use semfio_machine::{Chunk, FileSpan, Outbox};

use crate::files::Files;

/// Pieces in one write: enough to fill a socket's buffer, and 1 KiB of stack.
const SLICES: usize = 64;

/// From here on not copying a part of a file saves more than a system call of its own costs.
const LONG: u64 = 64 * 1024;

/// Of one file at once, so that one connection does not hold up the others.
const MOST: usize = 1024 * 1024;

/// Makes one write of what `outbox` holds, and says how many bytes the socket took; the caller
/// then calls `handle_sent`. An empty outbox is zero bytes. SIGPIPE must be ignored, as Rust's standard
/// library has it: `sendfile` cannot be told not to raise it.
///
/// Up to 64 pieces go in one call, in memory and in files alike. Of files as much goes as `scratch`
/// holds, read in this thread: at once what follows each other in a file, whatever lies between
/// in the outbox. A long part of a file that comes first goes from the system's memory to the
/// socket's by itself (sendfile): what is written to the file before it has left may go with it.
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
    if let Some(Chunk::File(span)) = outbox.chunks().next()
        && span.len >= LONG
        && let Some(sent) = send_file(&socket, &span, files)?
    {
        return Ok(sent);
    }
    let read = Content::of(outbox, files, scratch.len())?.read(scratch)?;
    write_read(socket, outbox, scratch.get(..read).unwrap_or_default())
}

/// The second half of [`write_outbox`]: `content` is what was [read](Content::read) for this outbox,
/// from which nothing was taken since.
pub fn write_read(socket: impl AsFd, outbox: &Outbox, mut content: &[u8]) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut filled = 0;
    for (slot, chunk) in slices.iter_mut().zip(outbox.chunks()) {
        let (bytes, whole) = match chunk {
            Chunk::Bytes(bytes) => (bytes, true),
            Chunk::File(span) => {
                let len = len(&span);
                let (bytes, rest) = content.split_at(len.min(content.len()));
                content = rest;
                (bytes, bytes.len() == len)
            }
        };
        if !bytes.is_empty() {
            *slot = IoSlice::new(bytes);
            filled += 1;
        }
        if !whole {
            break;
        }
    }
    match &slices[..filled] {
        [] if outbox.is_empty() => Ok(0),
        // It would begin with a span of which there is nothing.
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        [bytes] => Ok(send(socket, bytes, SendFlags::NOSIGNAL)?),
        several => {
            Ok(sendmsg(socket, several, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
        }
    }
}

/// Sends the beginning of a span, as much as the socket takes; none if the system can only copy.
fn send_file(socket: impl AsFd, span: &FileSpan, files: &Files) -> io::Result<Option<usize>> {
    let file = files.file(span.file).ok_or(io::ErrorKind::NotFound)?;
    let mut offset = span.offset;
    match sendfile(socket, &*file, Some(&mut offset), len(span).min(MOST)) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(sent) => Ok(Some(sent)),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the file spans among the next pieces of an outbox hold: the first half of [`write_outbox`],
/// for hosts that read elsewhere than they write.
#[derive(Debug)]
pub struct Content {
    runs: Vec<(Arc<File>, FileSpan)>,
}

impl Content {
    /// That of `outbox`, at most `room` bytes. What follows each other in a file is one read.
    ///
    /// # Errors
    ///
    /// `NotFound` if a file is not open.
    pub fn of(outbox: &Outbox, files: &Files, room: usize) -> io::Result<Self> {
        let mut spans = outbox.chunks().take(SLICES).filter_map(|chunk| match chunk {
            Chunk::File(span) => Some(span),
            Chunk::Bytes(_) => None,
        });
        let (mut runs, mut room) = (Vec::new(), room as u64);
        let mut next = spans.next();
        while let Some(mut run) = next
            && room > 0
        {
            next = spans.next();
            while let Some(span) = next
                && span.file == run.file
                && Some(span.offset) == run.offset.checked_add(run.len)
            {
                run.len = run.len.saturating_add(span.len);
                next = spans.next();
            }
            run.len = run.len.min(room);
            room -= run.len;
            runs.push((files.file(run.file).ok_or(io::ErrorKind::NotFound)?, run));
        }
        Ok(Self { runs })
    }

    /// Whether there is nothing to be read.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Reads it in this thread, one span behind the other, and gives how many bytes that is: fewer than
    /// there is room for if a file ends early.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for (file, run) in &self.runs {
            let room = into.get_mut(filled..).unwrap_or_default();
            let len = len(run).min(room.len());
            let n = file.read_at(&mut room[..len], run.offset)?;
            filled += n;
            if n < len {
                break;
            }
        }
        Ok(filled)
    }
}

fn len(span: &FileSpan) -> usize {
    usize::try_from(span.len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::FileId;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn file(files: &Files, content: &[u8]) -> FileId {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        files.insert(file).unwrap()
    }

    fn span(file: FileId, offset: u64, len: u64) -> FileSpan {
        FileSpan { file, offset, len }
    }

    /// Writes until the outbox is empty and gives each write's size, and what came out.
    fn drain(outbox: &mut Outbox, files: &Files) -> (Vec<usize>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut sizes = Vec::new();
        while !outbox.is_empty() {
            let n = write_outbox(&ours, outbox, files, &mut [0; 8]).unwrap();
            outbox.advance(n);
            sizes.push(n);
        }
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        (sizes, all)
    }

    #[test]
    fn pieces_go_together_as_far_as_files_fit_and_boundaries_part_them() {
        let files = Files::default();
        let file = file(&files, b"0123456789");
        let mut outbox = Outbox::default();
        outbox.put(b"one ");
        outbox.put_shared("two ".into());
        outbox.put_file(span(file, 1, 9));
        outbox.put(b"three");
        outbox.boundary();
        outbox.put(b"four");
        let (sizes, all) = drain(&mut outbox, &files);
        assert_eq!(sizes, [16, 6, 4]);
        assert_eq!(all, b"one two 123456789threefour");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(write_outbox(&ours, &outbox, &files, &mut []).unwrap(), 0);
    }

    #[test]
    fn spans_of_files_go_with_what_lies_between_them() {
        let files = Files::default();
        let (digits, letters) = (file(&files, b"0123456789"), file(&files, b"abcdef"));
        let mut outbox = Outbox::default();
        outbox.put_file(span(digits, 0, 2));
        outbox.put(b"-");
        outbox.put_file(span(digits, 2, 2));
        outbox.put(b"-");
        outbox.put_file(span(letters, 4, 2));
        outbox.put_file(span(digits, 4, 1));
        outbox.put(b"-");
        outbox.put_file(span(digits, 9, 1));
        outbox.put(b"-");
        let (sizes, all) = drain(&mut outbox, &files);
        assert_eq!(sizes, [12]);
        assert_eq!(all, b"01-23-ef4-9-");
        // What ends early takes nothing of what follows for its own.
        outbox.put(b"<");
        outbox.put_file(span(letters, 3, 4));
        outbox.put(b">");
        outbox.put_file(span(digits, 0, 1));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let n = write_outbox(&ours, &outbox, &files, &mut [0; 8]).unwrap();
        assert_eq!(n, 4);
        outbox.advance(n);
        let error = write_outbox(&ours, &outbox, &files, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"<def");
    }

    #[test]
    fn more_pieces_than_one_call_takes_all_leave() {
        let mut outbox = Outbox::default();
        for _ in 0..200 {
            outbox.put_shared("ab".into());
        }
        let (sizes, all) = drain(&mut outbox, &Files::default());
        assert_eq!(sizes, [128, 128, 128, 16]);
        assert_eq!(all, b"ab".repeat(200));
    }

    #[test]
    fn a_file_shorter_than_its_span_is_an_error_and_never_padded() {
        let files = Files::default();
        let short = file(&files, b"0123");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.put_file(span(short, 0, 6));
        let n = write_outbox(&ours, &outbox, &files, &mut [0; 8]).unwrap();
        assert_eq!(n, 4);
        outbox.advance(n);
        let error = write_outbox(&ours, &outbox, &files, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        files.release(short);
        let error = write_outbox(&ours, &outbox, &files, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"0123");
    }

    #[test]
    fn a_long_part_of_a_file_goes_without_a_buffer() {
        let content: Vec<u8> = (0..150_000_u32).flat_map(u32::to_be_bytes).collect();
        let files = Files::default();
        let file = file(&files, &content);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        outbox.put(b"head");
        outbox.put_file(span(file, 7, 500_000));
        outbox.put(b"tail");
        outbox.put_file(span(file, 500_000, 200_000));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            let _ = (&theirs).read_to_end(&mut all);
            all
        });
        let error = loop {
            // Room for eight bytes at once, of which the head leaves some to the file.
            match write_outbox(&ours, &outbox, &files, &mut [0; 8]) {
                Ok(n) => outbox.advance(n),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(outbox.queued(), 100_000);
        drop(ours);
        let all = reader.join().unwrap();
        assert!(all == [b"head", &content[7..500_007], b"tail", &content[500_000..]].concat());
    }

    #[test]
    fn a_broken_connection_is_an_error_and_a_full_one_would_block() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        outbox.put(&[0; 100_000]);
        let files = Files::default();
        let error = loop {
            match write_outbox(&ours, &outbox, &files, &mut []) {
                Ok(n) => assert!(n > 0),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        let error = write_outbox(&ours, &outbox, &files, &mut []).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
