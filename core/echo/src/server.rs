//! The server's side of a connection.
//!
//! It is *Open*, sending back what comes, until the peer finishes; then it finishes too, and is
//! *Closed*. There is no other way out: nothing a peer sends is wrong.
//!
//! | state | what there is | step | state then |
//! |---|---|---|---|
//! | Open | bytes, and room | as many as there is room for go out: `Event` | Open |
//! | Open | bytes, no room | `NeedRoom` | Open |
//! | Open | nothing yet | `NeedInput` | Open |
//! | Open | the end | the sending half ends: `Done` | Closed |
//! | Closed | anything | `Done` | Closed |

use core::convert::Infallible;

use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};

/// Echoes one connection. It holds no bytes and has no timer.
#[derive(Debug, Default)]
pub struct Server {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    Closed,
}

impl Server {
    /// At the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StreamMachine for Server {
    /// Bytes that were sent back.
    type Event<'i> = &'i [u8];
    type Command<'c> = Infallible;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Open => "Open",
            State::Closed => "Closed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Infallible> {
        Ok(match self.state {
            State::Closed => Step::Done,
            State::Open if !input.is_empty() => {
                let room = out.room();
                if room == 0 {
                    return Ok(Step::NeedRoom);
                }
                let bytes = input.take(room);
                out.put(bytes);
                Step::Event(bytes)
            }
            State::Open if input.at_eof() => {
                self.state = State::Closed;
                out.finish();
                Step::Done
            }
            State::Open => Step::NeedInput(1),
        })
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: Infallible,
        _: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {}
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}
