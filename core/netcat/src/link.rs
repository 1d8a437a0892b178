//! One connection, whose two directions end by themselves.
//!
//! What comes is told, what is commanded is sent; there is no protocol. A connection is over once the
//! peer has finished *and* [`LinkCommand::Finish`] was given *and* all is sent, whichever comes first.
//!
//! | state | what happens | becomes | tells |
//! |---|---|---|---|
//! | Open | bytes | Open | `Received` |
//! | Open | the peer has finished | PeerEnded | `Ended` |
//! | Open | `Finish` | Finished, the sending half ends after what is queued | |
//! | PeerEnded | `Send` | PeerEnded | |
//! | PeerEnded | `Finish` | Flushing | |
//! | Finished | bytes | Finished | `Received` |
//! | Finished | the peer has finished | Flushing | `Ended` |
//! | Flushing | all is sent | Closed | |
//! | any but Closed | nothing moves in either direction for the idle time | Closed | `Idle` |
//! | Closed | anything | Closed, done | |
//!
//! With a pause set, a *message* is what comes until nothing has come for that long, or the end: then
//! `Paused` is told. It depends on when bytes come, not on how they are cut.

use bytes::Bytes;
use core::convert::Infallible;
use core::time::Duration;
use semfio_machine::{Deadline, Input, Instant, Now, Outbox, Refused, Step, StreamMachine};

/// One connection of a netcat. It holds no bytes.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    state: State,
    /// When something last moved; none before the first call.
    moved: Option<Instant>,
    /// Bytes that had left when the idle time was last looked at.
    left: u64,
    /// When the message that has begun is over.
    message_ends: Option<Instant>,
    /// A message is over, which is to be told.
    paused: bool,
    /// The idle time is over, which is to be told.
    idle: bool,
}

/// What a [`Link`] waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkConfig {
    /// How long nothing may move before the connection is given up. What is being sent is looked at
    /// when that time has passed, so it may take up to twice as long then. Default: for ever.
    pub idle: Option<Duration>,
    /// How long nothing comes after a message. Default: messages are not told.
    pub pause: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    PeerEnded,
    Finished,
    Flushing,
    Closed,
}

/// What a connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent<'i> {
    /// Bytes, as they came.
    Received(&'i [u8]),
    /// What came since the last of these is a message.
    Paused,
    /// The peer has finished; it may still be sent to.
    Ended,
    /// Nothing has moved for the idle time; the connection is over.
    Idle,
}

/// What is asked of a connection.
#[derive(Clone, Copy, Debug)]
pub enum LinkCommand<'c> {
    /// Send this; it is shared, not copied.
    Send(&'c Bytes),
    /// Nothing more will be sent: the peer sees the end after what is queued.
    Finish,
    /// It was us who did not read; the idle time begins now.
    Excuse,
}

impl Link {
    /// A connection that was just made.
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            state: State::Open,
            moved: None,
            left: 0,
            message_ends: None,
            paused: false,
            idle: false,
        }
    }

    /// Whether it still takes what is to be sent.
    pub fn takes(&self) -> bool {
        matches!(self.state, State::Open | State::PeerEnded)
    }

    fn idle_at(&self) -> Option<Instant> {
        if self.idle || self.state == State::Closed {
            return None;
        }
        Some(self.moved?.saturating_add(self.config.idle?))
    }

    fn receive<'i>(&mut self, now: Now, input: &mut Input<'i>) -> Step<LinkEvent<'i>> {
        if !input.is_empty() {
            self.moved = Some(now.mono);
            self.message_ends = self.config.pause.map(|pause| now.mono.saturating_add(pause));
            return Step::Event(LinkEvent::Received(input.take(usize::MAX)));
        }
        if !input.at_eof() {
            return Step::NeedInput(1);
        }
        // The end ends a message too.
        if self.message_ends.take().is_some() {
            return Step::Event(LinkEvent::Paused);
        }
        self.moved = Some(now.mono);
        self.state = match self.state {
            State::Finished => State::Flushing,
            _ => State::PeerEnded,
        };
        Step::Event(LinkEvent::Ended)
    }
}

impl StreamMachine for Link {
    type Event<'i> = LinkEvent<'i>;
    type Command<'c> = LinkCommand<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Open => "Open",
            State::PeerEnded => "PeerEnded",
            State::Finished => "Finished",
            State::Flushing => "Flushing",
            State::Closed => "Closed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<LinkEvent<'i>>, Infallible> {
        self.moved.get_or_insert(now.mono);
        if core::mem::take(&mut self.paused) {
            return Ok(Step::Event(LinkEvent::Paused));
        }
        // What has come meanwhile shows that it was not idle.
        if core::mem::take(&mut self.idle) && input.is_empty() {
            self.state = State::Closed;
            self.message_ends = None;
            return Ok(Step::Event(LinkEvent::Idle));
        }
        Ok(match self.state {
            State::Open | State::Finished => self.receive(now, input),
            State::PeerEnded => Step::NeedCommand,
            State::Flushing if !out.is_empty() => Step::NeedCommand,
            State::Flushing | State::Closed => {
                self.state = State::Closed;
                Step::Done
            }
        })
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: LinkCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match (command, self.state) {
            (LinkCommand::Excuse, _) => {}
            (_, State::Finished | State::Flushing | State::Closed) => {
                return Err(Refused::State(self.state()));
            }
            (LinkCommand::Send(bytes), _) => out.put_shared(bytes.clone()),
            (LinkCommand::Finish, state) => {
                out.finish();
                self.state = match state {
                    State::PeerEnded => State::Flushing,
                    _ => State::Finished,
                };
            }
        }
        self.moved = Some(now.mono);
        self.idle = false;
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let idle = self.idle_at().map(|at| Deadline { at, why: "idle" });
        let message = self.message_ends.map(|at| Deadline { at, why: "message" });
        Deadline::earlier(idle, message)
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.message_ends.is_some_and(|at| at <= now.mono) {
            self.message_ends = None;
            self.paused = true;
        }
        if self.idle_at().is_none_or(|at| at > now.mono) {
            return;
        }
        let left = out.total().saturating_sub(out.queued());
        if left > self.left {
            self.left = left;
            self.moved = Some(now.mono);
        } else {
            self.idle = true;
        }
    }
}
