//! The one timer of a future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Timer;
use semfio_machine::Instant;
use semfio_runtime_os::Clock;

/// Wakes a task at the next deadline, or earlier.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Timer,
    /// When it fires: never too late, but maybe too early.
    set: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { timer: Timer::never(), set: None }
    }

    /// Waits for `next`, or for ever; ready if it is time to look again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: Clock,
        next: Option<Instant>,
    ) -> Poll<()> {
        let Some(next) = next else {
            return Poll::Pending;
        };
        // To set it later would cost a system call each time; to be woken early costs one turn.
        if self.set.is_none_or(|set| next < set) {
            match clock.std_instant(next) {
                Some(at) => self.timer.set_at(at),
                None => self.timer.clear(),
            }
            self.set = Some(next);
        }
        let fired = Pin::new(&mut self.timer).poll(cx).map(drop);
        if fired.is_ready() {
            self.set = None;
        }
        fired
    }
}
