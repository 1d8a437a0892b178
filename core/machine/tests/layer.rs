//! Hard case: a layer in a layer, without receive buffers. And the drip of the largest unit.

mod sealed;

use semfio_machine::{Carry, Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};
use semfio_sim::laws::{Act, Subject, straddle};

use sealed::{Sealed, Sequence, unseal};

/// The longest line, with its end.
const LINE: usize = 64 * 1024;

/// Tells lines and acknowledges them by their length. Too long is an error with a farewell.
#[derive(Default)]
struct Lines {
    limit: usize,
    scanned: usize,
    looked: u64,
    failed: Option<TooLong>,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLong;

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("line too long")
    }
}

impl core::error::Error for TooLong {}

impl Lines {
    fn up_to(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }
}

impl StreamMachine for Lines {
    type Event<'i> = &'i [u8];
    type Command<'c> = &'c [u8];
    type Error = TooLong;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        self.limit
    }

    fn state(&self) -> &'static str {
        if self.over { "Over" } else { "Open" }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, TooLong> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let seen = &input.peek()[..input.len().min(self.limit)];
        let new = &seen[self.scanned..];
        let end = new.iter().position(|&byte| byte == b'\n');
        self.looked += end.unwrap_or(new.len()) as u64;
        let Some(end) = end else {
            self.scanned = seen.len();
            if self.scanned == self.limit {
                out.put(b"too long\n");
                return Err(*self.failed.insert(TooLong));
            }
            self.over |= input.at_eof();
            return Ok(if self.over { Step::Done } else { Step::NeedInput(1) });
        };
        self.scanned += end;
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        let line = input.take(self.scanned + 1);
        self.scanned = 0;
        out.put(format!("{}\n", line.len()).as_bytes());
        Ok(Step::Event(line))
    }

    fn handle_command(&mut self, _: Now, text: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        out.put(text);
        Ok(())
    }

    fn handle_close(&mut self, _: Now, out: &mut Outbox) {
        out.put(b"bye\n");
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

type Once = Sealed<Lines>;
type Twice = Sealed<Sealed<Lines>>;

fn twice(limit: usize) -> Twice {
    Sealed::new(Sealed::new(Lines::up_to(limit)))
}

/// One machine without layers, in one and in two, over the same plain text.
fn subjects(limit: usize) -> (Texts<Lines>, Texts<Once>, Texts<Twice>) {
    (
        subject(move || Lines::up_to(limit)).with_work(|lines| lines.looked),
        subject(move || Sealed::new(Lines::up_to(limit)))
            .as_layer(unseal)
            .with_work(|once| once.inner.looked + once.moved)
            .with_memory(|once| once.memory()),
        subject(move || twice(limit))
            .as_layer(|wire| unseal(&unended(&unseal(wire))))
            .with_work(|twice| twice.inner.inner.looked + twice.inner.moved + twice.moved)
            .with_memory(|twice| twice.memory() + twice.inner.memory()),
    )
}

/// Without the outer stream's end mark.
fn unended(plain: &[u8]) -> Vec<u8> {
    plain.strip_suffix(b"<end>").unwrap_or(plain).to_vec()
}

type Texts<M> = Subject<'static, M, Vec<u8>>;

fn subject<M>(new: impl Fn() -> M + 'static) -> Texts<M>
where
    M: for<'a> StreamMachine<Event<'a> = &'a [u8], Command<'a> = &'a [u8]>,
{
    Subject::new(new, |line: &[u8]| line.to_vec())
}

/// Seals a stream into records of these sizes, again and again.
fn seal(plain: &[u8], sizes: &[usize], from: &mut Sequence) -> Vec<u8> {
    let (mut rest, mut wire) = (plain, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (payload, more) = rest.split_at(rest.len().min(*size));
        wire.extend(from.seal(payload));
        rest = more;
    }
    wire
}

fn line(len: usize) -> Vec<u8> {
    let mut line = vec![b'x'; len];
    line.push(b'\n');
    line
}

#[test]
fn layers_keep_all_laws() {
    const LIMIT: usize = 40;
    let (none, once, twice) = subjects(LIMIT);
    for len in straddle(LIMIT - 1) {
        for sizes in [&[1][..], &[255], &[3, 1, 20]] {
            let plain = [b"a\nbcd\n\n", line(len).as_slice(), b"e\nf\npart"].concat();
            none.check(&plain).unwrap();
            let (mut inner, mut outer) = (Sequence::default(), Sequence::default());
            let mut sealed = seal(&plain, sizes, &mut inner);
            once.check(&sealed).unwrap();
            sealed.extend(inner.seal(b""));
            once.check(&sealed).unwrap();
            let mut again = seal(&sealed, sizes, &mut outer);
            again.extend(outer.seal(b""));
            twice.check(&again).unwrap();
        }
    }
}

#[test]
fn commands_go_through_layers() {
    let script = vec![
        (0, Act::Command(&b"hello"[..])),
        (1, Act::Command(&[b'x'; 10_000])),
        (2, Act::Command(b"bye")),
    ];
    let mut sequence = Sequence::default();
    let sealed = seal(b"one\ntwo\n", &[2], &mut sequence);
    let subject = subjects(40).1.with_script(|text: &&'static [u8]| *text, script);
    subject.check(&sealed).unwrap();
}

/// A forged, a short and a missing last record are the same error, however they come.
#[test]
fn what_is_forged_or_truncated_is_refused_alike() {
    let (_, once, twice) = subjects(40);
    let mut sequence = Sequence::default();
    let mut sealed = seal(b"one\ntwo\nthree\n", &[5], &mut sequence);
    let at = sealed.len() - 3;
    sealed[at] ^= 1;
    once.check(&sealed).unwrap();
    twice.check(&seal(&sealed, &[4, 1], &mut Sequence::default())).unwrap();
}

/// The largest unit, byte by byte, in records of one byte, costs linear work through every stack.
#[test]
fn the_largest_unit_may_drip() {
    let (none, once, twice) = subjects(LINE);
    let plain = line(LINE - 1);
    none.drip(&plain).unwrap();
    let sealed = seal(&plain, &[1], &mut Sequence::default());
    once.drip(&sealed).unwrap();
    twice.drip(&seal(&sealed, &[1], &mut Sequence::default())).unwrap();
    twice.drip(&seal(&sealed, &[255], &mut Sequence::default())).unwrap();
}

/// In large reads, too, a long unit in tiny records is moved a few times and no more; a layer that
/// closes the gap after each record would move the tail each time.
#[test]
fn a_long_unit_in_tiny_records_is_linear_in_large_reads() {
    let sealed = seal(&line(LINE - 1), &[1], &mut Sequence::default());
    let again = seal(&sealed, &[1], &mut Sequence::default());
    let moved = |slides: bool| {
        let mut machine = twice(LINE);
        (machine.slides, machine.inner.slides) = (slides, slides);
        let (mut out, mut carry, mut told) = (Outbox::default(), Carry::default(), 0);
        for read in again.chunks(16 * 1024) {
            let (bytes, fresh) = carry.append(read);
            let mut input = Input::new(bytes, fresh, false);
            while let Step::Event(line) =
                machine.handle_input(Now::default(), &mut input, &mut out).unwrap()
            {
                told += line.len();
            }
            let untaken = input.untaken();
            carry.keep(untaken);
        }
        assert_eq!((told, carry.capacity()), (LINE, 0));
        machine.moved + machine.inner.moved
    };
    assert!(moved(false) < 6 * LINE as u64, "{}", moved(false));
    assert!(moved(true) > 1_000 * LINE as u64, "{}", moved(true));
}

#[test]
fn idle_layers_hold_nothing() {
    let (none, once, twice) = subjects(LINE);
    let units = [b"one\n".to_vec(), line(300), line(5_000)];
    none.idle(&units.each_ref().map(Vec::as_slice)).unwrap();
    let mut inner = Sequence::default();
    let once_sealed = units.each_ref().map(|unit| seal(unit, &[7, 255], &mut inner));
    once.idle(&once_sealed.each_ref().map(Vec::as_slice)).unwrap();
    let mut outer = Sequence::default();
    let twice_sealed = once_sealed.each_ref().map(|unit| seal(unit, &[9], &mut outer));
    twice.idle(&twice_sealed.each_ref().map(Vec::as_slice)).unwrap();
}
