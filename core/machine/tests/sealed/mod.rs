//! A layer: a machine that owns a machine.

use core::fmt::Debug;

use semfio_machine::{Chunk, Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};

/// Seals what the inner machine sends into records and opens records for it, in place.
///
/// A record is a length octet, as many octets of payload, and a tag that depends on all records
/// before it. A record of length zero ends the stream.
///
/// There is no receive buffer: opened payload lies at the front of the view, unopened records
/// behind it. The inner machine is shown the front alone and takes from it.
pub(crate) struct Sealed<M: StreamMachine> {
    pub(crate) inner: M,
    inner_out: Outbox,
    /// Bytes at the front of the view that are opened and not yet taken.
    opened: usize,
    received: Sequence,
    sent: Sequence,
    /// The record that ends the stream was opened.
    ended: bool,
    /// The next record is not genuine; what was opened before it is still good.
    forged: bool,
    failed: Option<Broken<M::Error>>,
    /// Payload bytes that were moved in memory.
    pub(crate) moved: u64,
    /// For a planted fault: the gap behind each record is cut at once.
    pub(crate) slides: bool,
}

/// What a peer may do wrong to a layer, or to the machine in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken<E> {
    Forged,
    Truncated,
    Inner(E),
}

impl<E> core::fmt::Display for Broken<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("broken")
    }
}

impl<E: Debug> core::error::Error for Broken<E> {}

/// Numbers the records of one direction.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sequence(u8);

impl Sequence {
    /// Seals up to 255 bytes.
    pub(crate) fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut record = vec![payload.len() as u8];
        record.extend(payload.iter().map(|byte| byte ^ self.0 ^ 0x55));
        record.push(self.tag(payload));
        self.0 = self.0.wrapping_add(1);
        record
    }

    /// Opens in place; whether it was genuine.
    fn open(&mut self, payload: &mut [u8], tag: u8) -> bool {
        payload.iter_mut().for_each(|byte| *byte ^= self.0 ^ 0x55);
        let genuine = self.tag(payload) == tag;
        self.0 = self.0.wrapping_add(1);
        genuine
    }

    fn tag(self, payload: &[u8]) -> u8 {
        payload.iter().fold(self.0, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte))
    }
}

/// What the records of a stream hold, with a mark where the stream was ended.
pub(crate) fn unseal(wire: &[u8]) -> Vec<u8> {
    let (mut sequence, mut rest, mut plain) = (Sequence::default(), wire.to_vec(), Vec::new());
    while let Some(len) = record(&rest) {
        let tag = rest[len + 1];
        assert!(sequence.open(&mut rest[1..=len], tag));
        plain.extend_from_slice(&rest[1..=len]);
        plain.extend_from_slice(if len == 0 { b"<end>" } else { b"" });
        rest.drain(..len + 2);
    }
    plain.extend(rest);
    plain
}

const RECORD: usize = 1 + 255 + 1;

impl<M: StreamMachine> Sealed<M> {
    pub(crate) fn new(inner: M) -> Self {
        Self {
            inner,
            inner_out: Outbox::new(4096),
            opened: 0,
            received: Sequence::default(),
            sent: Sequence::default(),
            ended: false,
            forged: false,
            failed: None,
            moved: 0,
            slides: false,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.inner_out.held()
    }

    /// Opens all records that are there. Payloads are moved down to the opened front one by one,
    /// and the gap behind them is cut once: each byte moves once, however small the records are.
    fn open(&mut self, input: &mut Input<'_>) {
        let (mut read, mut write) = (self.opened, self.opened);
        let view = input.peek_mut();
        while let Some(len) = record(&view[read..]).filter(|_| !self.ended && !self.forged) {
            let (payload, tag) = (read + 1..read + 1 + len, view[read + 1 + len]);
            if !self.received.open(&mut view[payload.clone()], tag) {
                self.forged = true;
                break;
            }
            self.ended = len == 0;
            view.copy_within(payload, write);
            self.moved += len as u64;
            write += len;
            read += len + 2;
            if self.slides {
                break;
            }
        }
        if read > write {
            self.moved += (input.len() - read).min(write) as u64;
            input.cut(write, read - write);
        }
        self.opened = write;
    }

    /// Seals what the inner machine has put, as far as there is room.
    fn seal(&mut self, room: Room, out: &mut Outbox) {
        while !self.inner_out.is_empty() && (room == Room::Ignored || out.room() > 0) {
            let mut payload = Vec::new();
            for chunk in self.inner_out.chunks() {
                if let Chunk::Bytes(bytes) = chunk {
                    payload.extend_from_slice(&bytes[..bytes.len().min(255 - payload.len())]);
                }
            }
            self.inner_out.advance(payload.len());
            out.put(&self.sent.seal(&payload));
        }
        if self.inner_out.is_empty() && self.inner_out.is_finished() && !out.is_finished() {
            out.put(&self.sent.seal(b""));
            out.finish();
        }
    }

    /// The last records: what is put here is sent, room or not.
    fn finish(&mut self, out: &mut Outbox) {
        self.inner_out.finish();
        self.seal(Room::Ignored, out);
    }

    fn fail(&mut self, error: Broken<M::Error>, out: &mut Outbox) -> Broken<M::Error> {
        self.finish(out);
        self.failed.insert(error).clone()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Needed,
    Ignored,
}

/// The payload's length, if the record is whole.
fn record(bytes: &[u8]) -> Option<usize> {
    let len = usize::from(*bytes.first()?);
    (bytes.len() >= len + 2).then_some(len)
}

impl<M: StreamMachine> StreamMachine for Sealed<M> {
    type Event<'i> = M::Event<'i>;
    type Command<'c> = M::Command<'c>;
    type Error = Broken<M::Error>;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        self.inner.max_unit() + RECORD
    }

    fn state(&self) -> &'static str {
        if self.failed.is_some() { "Failed" } else { self.inner.state() }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<M::Event<'i>>, Self::Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            self.seal(Room::Needed, out);
            if !self.inner_out.is_empty() {
                return Ok(Step::NeedRoom);
            }
            let hidden = input.narrow(self.opened, self.ended);
            let step = self.inner.handle_input(now, input, &mut self.inner_out);
            self.opened = input.len();
            input.widen(hidden);
            match step {
                Ok(Step::NeedInput(_)) => {
                    let before = (self.opened, self.ended);
                    self.open(input);
                    if before != (self.opened, self.ended) || !self.inner_out.is_empty() {
                        continue;
                    }
                    if self.forged {
                        return Err(self.fail(Broken::Forged, out));
                    }
                    if input.at_eof() {
                        return Err(self.fail(Broken::Truncated, out));
                    }
                    let rest = &input.peek()[self.opened..];
                    let record = rest.first().map_or(1, |len| usize::from(*len) + 2);
                    return Ok(Step::NeedInput(record - rest.len()));
                }
                Ok(Step::NeedRoom | Step::NeedCommand) if !self.inner_out.is_empty() => {}
                Ok(Step::Done) => {
                    self.finish(out);
                    return Ok(Step::Done);
                }
                Ok(step) => return Ok(step),
                Err(error) => return Err(self.fail(Broken::Inner(error), out)),
            }
        }
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: M::Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        self.inner.handle_command(now, command, &mut self.inner_out)?;
        // At once, room or not: the service sees the outer outbox alone, and that has the limit.
        self.seal(Room::Ignored, out);
        Ok(())
    }

    fn handle_close(&mut self, now: Now, out: &mut Outbox) {
        self.inner.handle_close(now, &mut self.inner_out);
        self.finish(out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.inner.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.inner.handle_timeout(now, &mut self.inner_out);
        self.seal(Room::Ignored, out);
    }
}
