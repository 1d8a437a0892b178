//! Writing a trace.

use semfio_machine::{Now, Tap, TapEntry};
use sha2::{Digest, Sha256};

use crate::encode::{Encoder, TooLarge};
use crate::header::Header;
use crate::line::Line;
use crate::recorded::{Codec, Recorded};

/// A [`Tap`] that writes a trace, one line a call of its sink.
///
/// The trailer is written when the recorder is [finished](Self::finish) or dropped, whichever
/// comes first: a trace without one was cut. A sink that writes files should therefore drop what
/// it is given while its thread panics.
///
/// An entry whose record would be longer than [`MAX_LINE`](crate::MAX_LINE) ends the recording
/// with a `note` that says so, and the trace reads as cut there: reads, messages and reports are
/// far smaller.
pub struct Recorder<W: FnMut(&[u8]), M> {
    sink: W,
    codec: Codec<M>,
    encoder: Encoder,
    hash: Sha256,
    events: u64,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Recording,
    /// After something that cannot be recorded.
    Stopped,
    Finished,
}

impl<W: FnMut(&[u8]), M> Recorder<W, M> {
    /// Writes the header to `sink`.
    pub fn new(header: &Header, sink: W) -> Self
    where
        M: Recorded,
    {
        Self::with_codec(header, Codec::default(), sink)
    }

    /// The same, for messages that do not know how to be recorded.
    pub fn with_codec(header: &Header, codec: Codec<M>, sink: W) -> Self {
        let mut recorder = Self {
            sink,
            codec,
            encoder: Encoder::default(),
            hash: Sha256::new(),
            events: 0,
            phase: Phase::Recording,
        };
        header.put(&mut |line: &[u8]| {
            recorder.hash.update(line);
            (recorder.sink)(line);
        });
        recorder
    }

    /// How many events have been written.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Writes the trailer.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.phase == Phase::Recording {
            self.phase = Phase::Finished;
            let hash = core::mem::take(&mut self.hash).finalize();
            put_trailer(self.events, &hash, &mut self.sink);
        }
    }
}

impl<W: FnMut(&[u8]), M> Tap<M> for Recorder<W, M> {
    fn record(&mut self, now: Now, entry: TapEntry<'_, M>) {
        if self.phase != Phase::Recording {
            return;
        }
        let Self { sink, hash, events, .. } = self;
        let put = self.encoder.put(now, &entry, self.codec.encode, &mut |line| {
            *events = events.saturating_add(1);
            hash.update(line);
            sink(line);
        });
        if let Err(TooLarge) = put {
            self.phase = Phase::Stopped;
            let mut line = Line::default();
            line.start(now, "note");
            (self.sink)(line.text("text", "the next record is too long").end());
        }
    }
}

impl<W: FnMut(&[u8]), M> Drop for Recorder<W, M> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last line of a whole trace: `sha256` is over all bytes before it.
pub(crate) fn put_trailer(events: u64, sha256: &[u8], to: &mut dyn FnMut(&[u8])) {
    let mut line = Line::bare();
    line.text("name", "end").number("events", events);
    to(line.text("sha256", &crate::header::hex(sha256)).end());
}
