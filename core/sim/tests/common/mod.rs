//! Small machines for the tests of the simulator.
#![allow(dead_code)] // each test file uses some of them

use semfio_machine::*;

/// Tells what comes, sends what it is told.
#[derive(Default)]
pub(crate) struct Plain {
    /// Sends back what comes.
    pub(crate) echoes: bool,
    /// Asks for a timeout at a time that has passed.
    pub(crate) restless: bool,
}

impl Plain {
    pub(crate) fn echo() -> Self {
        Self { echoes: true, ..Self::default() }
    }
}

impl StreamMachine for Plain {
    type Event<'i> = &'i [u8];
    type Command<'c> = Say<'c>;
    type Error = core::convert::Infallible;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        "Open"
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Self::Error> {
        if input.is_empty() {
            return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
        }
        let mut n = input.len();
        if self.echoes {
            n = n.min(out.room());
            if n == 0 {
                return Ok(Step::NeedRoom);
            }
        }
        let bytes = input.take(n);
        if self.echoes {
            out.put(bytes);
        }
        Ok(Step::Event(bytes))
    }

    fn handle_command(&mut self, _: Now, say: Say<'_>, out: &mut Outbox) -> Result<(), Refused> {
        match say {
            Say::Bytes(bytes) => out.put(bytes),
            Say::File(span) => out.put_file(span),
            Say::Finish => out.finish(),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.restless.then_some(Deadline { at: Instant::default(), why: "restless" })
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

pub(crate) enum Say<'c> {
    Bytes(&'c [u8]),
    File(FileSpan),
    Finish,
}

/// `n` bytes in which every loss, copy and swap shows.
pub(crate) fn numbered(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect()
}
