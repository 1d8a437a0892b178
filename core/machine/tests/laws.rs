//! The laws' checker must pass a right machine and catch each wrong one.

use core::time::Duration;

use semfio_machine::{
    Deadline, FileId, FileSpan, Input, Instant, Now, Outbox, Refused, Step, StreamMachine,
};
use semfio_sim::laws::{Act, Difference, Law, Subject, Violation, straddle};

/// The longest line, without its end.
const LIMIT: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with a [`Lines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    StaleScan,
    BufferLimit,
    TakesBeforeRoom,
    PutsWithoutRoom,
    NeedsRoomForNothing,
    DropsByteAtEof,
    NeedsInputAtEof,
    Rescans,
    Overasks,
    AsksForNothing,
    AsksBeyondUnit,
    StopsAfterEvent,
    ForgetsError,
    TimerInPast,
    FiresEarly,
    RefusesButPuts,
    RefusesButRemembers,
    KeepsLineEnd,
    HoldsMemory,
    EatsTrailing,
    Endless,
    Chatters,
    CountsReads,
}

/// Echoes lines and counts them; `quit` ends, `file` is answered with a part of a file.
///
/// | state | input | then |
/// |---|---|---|
/// | Open | line | echo, event |
/// | Open | `quit` | Done, state Over |
/// | Open | line over the limit | farewell, error, state Failed |
/// | Open | end | event of the last line, Done |
struct Lines {
    fault: Fault,
    scanned: usize,
    looked: u64,
    failed: Option<TooLong>,
    over: bool,
    calls: usize,
    chatter: usize,
    held: Vec<u8>,
    muted: bool,
    chattered: usize,
    kept: bool,
    deadline: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TooLong(usize);

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {} is too long", self.0)
    }
}

impl core::error::Error for TooLong {}

impl Lines {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            scanned: 0,
            looked: 0,
            failed: None,
            over: false,
            calls: 0,
            chatter: 0,
            held: Vec::new(),
            muted: false,
            chattered: 0,
            kept: false,
            deadline: None,
        }
    }

    fn fail(&mut self, out: &mut Outbox) -> TooLong {
        out.put(b"too long\n");
        let error = TooLong(LIMIT);
        if self.fault != Fault::ForgetsError {
            self.failed = Some(error.clone());
        }
        error
    }

    /// The length of the first line with its end.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = match self.fault {
            Fault::Rescans => 0,
            _ => self.scanned.min(bytes.len()),
        };
        let reach = match self.fault {
            Fault::BufferLimit => bytes.len(),
            _ => bytes.len().min(LIMIT + 1),
        };
        let found = bytes[from.min(reach)..reach].iter().position(|&b| b == b'\n');
        let end = found.map(|at| from + at + 1);
        self.looked += (end.unwrap_or(reach) - from.min(reach)) as u64;
        // Found again if there is no room now.
        self.scanned = end.map_or(reach, |end| end - 1);
        end
    }
}

impl StreamMachine for Lines {
    type Event<'i> = &'i [u8];
    type Command<'c> = &'c [u8];
    type Error = TooLong;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        LIMIT + 1
    }

    fn state(&self) -> &'static str {
        match (&self.failed, self.over) {
            (Some(_), _) => "Failed",
            (None, true) => "Over",
            (None, false) => "Open",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, TooLong> {
        let fault = self.fault;
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.over {
            return Ok(Step::Done);
        }
        match fault {
            Fault::DropsByteAtEof if input.at_eof() && !input.is_empty() => {
                self.over = true;
                input.take(1);
                return Ok(Step::Event(input.take(LIMIT)));
            }
            Fault::Endless if !input.is_empty() => return Ok(Step::Event(b"")),
            Fault::Chatters if self.chatter > 0 => {
                self.chatter -= 1;
                return Ok(Step::Event(b"chatter"));
            }
            Fault::StopsAfterEvent if self.calls == 1 => {
                self.calls = 0;
                return Ok(match input.at_eof() {
                    true => Step::Done,
                    false => Step::NeedInput(1),
                });
            }
            Fault::NeedsRoomForNothing if input.len() == 3 => return Ok(Step::NeedRoom),
            _ => {}
        }
        if self.kept && out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        if self.kept && (input.len() > 1 || input.at_eof()) {
            self.kept = false;
            input.take(1);
        } else if self.kept {
            return Ok(Step::NeedInput(1));
        }
        let Some(end) = self.scan(input.peek()) else {
            if input.len() > LIMIT {
                return Err(self.fail(out));
            }
            if input.at_eof() && fault != Fault::NeedsInputAtEof {
                self.over = true;
                return Ok(Step::Event(input.take(LIMIT)));
            }
            let news = self.chattered != input.len() && self.deadline.is_some();
            if fault == Fault::Chatters && news {
                self.chattered = input.len();
                self.chatter = input.len() * 20;
                return self.handle_input(now, input, out);
            }
            if fault == Fault::HoldsMemory && !input.is_empty() {
                self.held.reserve(LIMIT);
            }
            return Ok(Step::NeedInput(match fault {
                Fault::Overasks if input.len() < LIMIT => 2,
                Fault::AsksForNothing => 0,
                Fault::AsksBeyondUnit => LIMIT + 2 - input.len(),
                _ => 1,
            }));
        };
        if end > LIMIT + 1 && fault != Fault::BufferLimit {
            return Err(self.fail(out));
        }
        if out.room() == 0 && fault != Fault::PutsWithoutRoom {
            if fault == Fault::TakesBeforeRoom {
                input.take(end);
            }
            return Ok(Step::NeedRoom);
        }
        if fault != Fault::StaleScan {
            self.scanned = 0;
        }
        let line: &[u8] = match fault {
            Fault::KeepsLineEnd => {
                self.kept = true;
                input.take(end - 1)
            }
            _ => input.take(end),
        };
        self.deadline = Some(now.mono.saturating_add(PATIENCE));
        self.calls += 1;
        if line == b"quit\n" {
            self.over = true;
            if fault == Fault::EatsTrailing {
                input.take(1);
            }
        }
        match line {
            b"file\n" => out.put_file(FileSpan { file: FileId(7), offset: 10, len: 20 }),
            _ if self.muted => {}
            _ => out.put(line),
        }
        if fault == Fault::CountsReads {
            out.put(&[b'0' + (input.len() % 10) as u8]);
        }
        Ok(Step::Event(line))
    }

    fn handle_command(&mut self, _: Now, text: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        if text.contains(&b'\n') {
            match self.fault {
                Fault::RefusesButPuts => out.put(b"no\n"),
                Fault::RefusesButRemembers => self.muted = true,
                _ => {}
            }
            return Err(Refused::Invalid("a line end within a line"));
        }
        out.put(text);
        out.put(b"\n");
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline.map(|at| Deadline { at, why: "idle" })
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        let due = self.deadline.is_some_and(|at| at <= now.mono);
        if due || self.fault == Fault::FiresEarly {
            out.put(b"still there?\n");
            self.deadline = match self.fault {
                Fault::TimerInPast => Some(now.mono),
                _ => Some(now.mono.saturating_add(PATIENCE)),
            };
        }
    }
}

type Texts = Subject<'static, Lines, Vec<u8>, &'static [u8]>;

fn subject(fault: Fault) -> Texts {
    let script = vec![
        (0, Act::Command(&b"hello"[..])),
        (1, Act::Command(b"two\nlines")),
        (2, Act::Timeout),
        (3, Act::Command(b"more")),
    ];
    Subject::new(move || Lines::new(fault), |line: &[u8]| line.to_vec())
        .with_merge(|_, next| next == b"chatter")
        .with_work(|lines| lines.looked)
        .with_memory(|lines| lines.held.capacity())
        .with_script(|text: &&'static [u8]| *text, script)
}

fn line(len: usize) -> Vec<u8> {
    let mut line = vec![b'x'; len];
    line.push(b'\n');
    line
}

/// Short lines, a file, and one line whose length is on some side of the limit.
fn wires() -> Vec<Vec<u8>> {
    let mut wires = vec![
        b"".to_vec(),
        b"a\nbc\n\nfile\ndef\nlast".to_vec(),
        b"a\nbc\nquit\nnever\nseen".to_vec(),
    ];
    for len in straddle(LIMIT) {
        wires.push([b"a\nb\n", line(len).as_slice(), b"file\nc"].concat());
    }
    wires
}

fn checked(fault: Fault) -> Result<(), Violation> {
    let subject = subject(fault);
    for wire in wires() {
        subject.check(&wire)?;
        subject.refusals(&wire, &[b"fine", b"not\nfine"])?;
    }
    subject.idle(&[b"one\n", b"two\n", b"\n", b"file\n"])
}

#[test]
fn the_right_machine_keeps_all_laws() {
    checked(Fault::None).unwrap();
}

/// Each wrong machine breaks the law it was made to break, and no earlier one.
#[test]
fn every_planted_fault_is_caught() {
    type Expected = fn(&Law) -> bool;
    let faults: &[(Fault, Expected)] = &[
        (Fault::StaleScan, |law| matches!(law, Law::Split(_))),
        (Fault::BufferLimit, |law| matches!(law, Law::Split(_) | Law::BeyondUnit { .. })),
        (Fault::TakesBeforeRoom, |law| *law == Law::TookBeforeRoom),
        (Fault::PutsWithoutRoom, |law| *law == Law::PutWithoutRoom),
        (Fault::NeedsRoomForNothing, |law| *law == Law::Deadlock),
        (Fault::DropsByteAtEof, |law| matches!(law, Law::Split(Difference::Event(..)))),
        (Fault::NeedsInputAtEof, |law| *law == Law::NeedInputAtEof),
        (Fault::Rescans, |law| matches!(law, Law::Work { .. })),
        (Fault::Overasks, |law| matches!(law, Law::Overasked { asked: 2, sufficed: 1 })),
        (Fault::AsksForNothing, |law| *law == Law::NeedlessInput),
        (Fault::AsksBeyondUnit, |law| matches!(law, Law::BeyondUnit { .. })),
        (Fault::StopsAfterEvent, |law| *law == Law::NeedlessInput),
        (Fault::ForgetsError, |law| *law == Law::NotSticky),
        (Fault::TimerInPast, |law| *law == Law::TimerInPast),
        (Fault::FiresEarly, |law| *law == Law::EarlyTimeout),
        (Fault::RefusesButPuts, |law| *law == Law::RefusedChanged),
        (Fault::RefusesButRemembers, |law| matches!(law, Law::Refusal(_))),
        (Fault::KeepsLineEnd, |law| matches!(law, Law::NotIdle { machine: 0, .. })),
        (Fault::HoldsMemory, |law| matches!(law, Law::NotIdle { buffered: 0, .. })),
        (Fault::EatsTrailing, |law| matches!(law, Law::Split(Difference::Taken(..)))),
        (Fault::Endless, |law| *law == Law::Endless),
        (Fault::Chatters, |law| matches!(law, Law::Calls { .. })),
        (Fault::CountsReads, |law| matches!(law, Law::Split(Difference::Output(..)))),
    ];
    for (fault, expected) in faults {
        match checked(*fault) {
            Ok(()) => panic!("{fault:?} was not seen"),
            Err(violation) => assert!(expected(&violation.law), "{fault:?}: {violation}"),
        }
    }
}

/// The limit judged on the buffer is seen only by wires that straddle the limit.
#[test]
fn a_wire_without_long_lines_cannot_see_the_limit() {
    let subject = subject(Fault::BufferLimit);
    for wire in &wires()[..3] {
        subject.split(wire).unwrap();
    }
    let long = [b"a\nb\n", line(LIMIT + 1).as_slice()].concat();
    let violation = subject.split(&long).unwrap_err();
    assert!(matches!(violation.law, Law::Split(_)), "{violation}");
}
