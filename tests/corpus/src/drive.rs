//! One machine, driven by choices as a host would, and mistrusted.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::time::Duration;
use semfio_machine::{Carry, Input, Instant, Now, Outbox, Refused, Step, StreamMachine};

use crate::Choices;

/// A small mark, so that `NeedRoom` comes often.
const MARK: usize = 300;
/// What one step may put above the mark: its longest answer, of which no more than one span of a
/// file is a part.
const ANSWER: usize = 600;
/// What a span of a file counts for.
const SPAN: usize = 4_096;

/// Feeds, ends, commands, drains and lets time pass; `command` chooses a command and sends it.
pub(crate) fn drive<M>(
    machine: M,
    data: &[u8],
    command: impl Fn(&mut Choices<'_>, &mut dyn FnMut(M::Command<'_>)),
) where
    M: StreamMachine,
    M::Error: Debug,
{
    let mut choices = Choices::new(data);
    let mut host = Host {
        machine,
        out: Outbox::new(MARK),
        carry: Carry::default(),
        now: Now { mono: Instant::from_nanos(1), ..Now::default() },
        eof: false,
        over: false,
        waits: false,
    };
    host.feed(&[]);
    while !choices.is_empty() && !host.over {
        match choices.below(8) {
            0..=3 => {
                let n = choices.below(256);
                let bytes = choices.bytes(n);
                // A host does not read while room or a command is needed.
                host.feed(if host.waits || host.eof { &[] } else { bytes });
            }
            4 => {
                host.eof |= choices.below(4) == 0;
                host.feed(&[]);
            }
            5 => host.pass(choices.below(256) as u64),
            6 => {
                let held = host.out.held();
                command(&mut choices, &mut |command| host.command(command));
                let span = if M::CARRIES_FILES { SPAN } else { 0 };
                assert!(host.out.held() <= held + span + ANSWER);
                host.feed(&[]);
            }
            _ => {
                let n = choices.below(512);
                let first = host.out.chunks().next().map_or(0, |chunk| match chunk {
                    semfio_machine::Chunk::Bytes(bytes) => bytes.len(),
                    semfio_machine::Chunk::File(span) => {
                        assert!(M::CARRIES_FILES, "it sends no files");
                        span.len as usize
                    }
                });
                host.out.advance(n.min(first));
                host.feed(&[]);
            }
        }
    }
}

struct Host<M> {
    machine: M,
    out: Outbox,
    carry: Carry,
    now: Now,
    eof: bool,
    over: bool,
    waits: bool,
}

impl<M: StreamMachine> Host<M>
where
    M::Error: Debug,
{
    fn feed(&mut self, new: &[u8]) {
        let unit = self.machine.max_unit();
        let (bytes, fresh) = self.carry.append(new);
        let mut input = Input::new(bytes, fresh, self.eof);
        loop {
            let (left, held) = (input.len(), self.out.held());
            match self.machine.handle_input(self.now, &mut input, &mut self.out) {
                Ok(Step::Event(_)) => {
                    assert!(self.out.held() <= held.max(MARK) + ANSWER, "an answer is short");
                    continue;
                }
                Ok(Step::NeedInput(n)) => {
                    assert!(n > 0 && !self.eof, "needs {n} bytes, eof {}", self.eof);
                    assert!(input.len() <= unit, "a unit is larger than {unit}");
                    self.waits = false;
                }
                Ok(Step::NeedRoom) => {
                    assert!(self.out.room() == 0 && input.len() == left && self.out.held() == held);
                    self.waits = true;
                }
                Ok(Step::NeedCommand) => self.waits = true,
                Ok(Step::Done) => self.over = true,
                Err(error) => {
                    let again = self.machine.handle_input(self.now, &mut input, &mut self.out);
                    assert!(again.is_err_and(|again| again == error), "errors are for ever");
                    self.over = true;
                }
            }
            break;
        }
        let untaken = input.untaken();
        self.carry.keep(untaken);
    }

    fn command(&mut self, command: M::Command<'_>) {
        let (held, state) = (self.out.held(), self.machine.state());
        let refused: Result<(), Refused> =
            self.machine.handle_command(self.now, command, &mut self.out);
        if refused.is_err() {
            assert_eq!((held, state), (self.out.held(), self.machine.state()));
        }
    }

    fn pass(&mut self, tens_of_millis: u64) {
        let time = Duration::from_millis(tens_of_millis * 10);
        self.now.mono = self.now.mono.saturating_add(time);
        let before: Vec<_> = self.machine.poll_timeout().into_iter().collect();
        self.machine.handle_timeout(self.now, &mut self.out);
        let later = self.machine.poll_timeout().is_none_or(|next| next.at > self.now.mono);
        assert!(later, "after {before:?} a deadline that has passed");
        self.feed(&[]);
        let later = self.machine.poll_timeout().is_none_or(|next| next.at > self.now.mono);
        assert!(later || self.over, "a deadline that has passed");
    }
}
