//! Machines over byte streams.

use crate::input::Input;
use crate::outbox::Outbox;
use crate::time::{Deadline, Now};

/// One side of a dialogue over a byte stream: one object a connection.
///
/// `handle_*` takes in, `poll_*` gives out. The host calls, in any order:
/// [`handle_input`](Self::handle_input) for bytes and end of input,
/// [`handle_command`](Self::handle_command) for the application,
/// [`handle_timeout`](Self::handle_timeout) once [`poll_timeout`](Self::poll_timeout) has passed.
/// After each of them it calls `handle_input` until the answer is no [`Step::Event`], with empty
/// input if there is none, and sends what the outbox holds. It does so too once all of an outbox is
/// sent that the machine has [finished](Outbox::finish).
///
/// What both sides may rely on:
///
/// 1. Untaken bytes come back unaltered, newer bytes after them.
/// 2. A machine may rewrite untaken bytes in place.
/// 3. It takes nothing that it cannot finish: `NeedRoom` comes before the bytes that would have to
///    be answered are taken, so that no event and no answer is lost.
/// 4. A limit judges the unit (a line, a frame), never the buffer: the verdict is the same however
///    the input was cut.
/// 5. Large payloads leave as pieces, never gathered; only units up to
///    [`max_unit`](Self::max_unit) wait to be whole.
/// 6. After `Err` the farewell is in the outbox already, and every later call gives the same error.
/// 7. After `handle_timeout(now)` the next deadline is later than `now`.
/// 8. At end of input the answer is never `NeedInput`.
pub trait StreamMachine {
    /// What it tells the application; may borrow the input, never the machine.
    type Event<'i>;
    /// What the application may ask.
    type Command<'c>;
    /// How the peer broke the protocol.
    type Error: core::error::Error + Clone + PartialEq + 'static;

    /// Whether its outbox may hold file spans. A layer that seals bytes says no.
    const CARRIES_FILES: bool;

    /// The largest unit it may ask to see at once, in bytes.
    fn max_unit(&self) -> usize;

    /// The name of the state it is in, for traces and logs.
    fn state(&self) -> &'static str;

    /// Looks at the untaken bytes and makes one step.
    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<Self::Event<'i>>, Self::Error>;

    /// Does what the application asks, or refuses and changes nothing.
    fn handle_command(
        &mut self,
        now: Now,
        command: Self::Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused>;

    /// The application ends the dialogue ([`Net::close`](crate::Net::close)): the last call, to put
    /// the farewell. The host sends it and closes the sending half.
    fn handle_close(&mut self, now: Now, out: &mut Outbox) {
        let _ = (now, out);
    }

    /// When it wants [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Deadline>;

    /// Does what was due at or before `now`; called too early, it does nothing.
    fn handle_timeout(&mut self, now: Now, out: &mut Outbox);
}

/// What a machine made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a host that ignores the step stalls the connection or spins"]
pub enum Step<E> {
    /// Something for the application; call again.
    Event(E),
    /// At least this many more bytes, or the end of input, are needed.
    NeedInput(usize),
    /// The outbox must drain below its mark first; no event and no answer is lost.
    NeedRoom,
    /// The application must answer first.
    NeedCommand,
    /// The dialogue is over: the host flushes and closes. Untaken bytes belong to whoever comes next.
    Done,
}

/// The application broke the contract; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// There is no such connection, or it is closing.
    Closed,
    /// The outbox holds as much as it may; wait for room.
    Full,
    /// Not in this state; the name of the state.
    State(&'static str),
    /// The command itself is wrong; what is.
    Invalid(&'static str),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::Full => f.write_str("too much waits to be sent"),
            Self::State(state) => write!(f, "not possible in state {state}"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Refused {}
