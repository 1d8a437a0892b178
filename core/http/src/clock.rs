//! How long a peer may take.
//!
//! What is wanted of the host changes as seldom as can be: an instant that was named stays, even if
//! nothing is due then any more, and what is due is looked at when it comes. So a connection that
//! is busy costs a timer every half minute, and not with each request.

use core::time::Duration;
use semfio_machine::{Deadline, Instant, Now, Outbox};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing that the peer has to do.
    Nothing,
    /// The next message, so long.
    Idle(Duration),
    /// The rest of a head, so long.
    Head(Duration),
    /// So many octets of content in each such span.
    Body(Duration, u64),
    /// The first octet of a response.
    Response(Duration),
}

impl Wait {
    fn span(self) -> Option<(Duration, &'static str)> {
        match self {
            Self::Nothing => None,
            Self::Idle(span) => Some((span, "idle")),
            Self::Head(span) => Some((span, "head")),
            Self::Body(span, _) => Some((span, "body")),
            Self::Response(span) => Some((span, "response")),
        }
    }
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(crate) struct Clock {
    write_time: Duration,
    wait: Wait,
    /// When what is waited for began.
    since: Instant,
    /// Octets of content that came since then.
    octets: u64,
    /// The wait was over at this instant. Judged as the machine is next called: what has come by
    /// then counts, and if that is later, nobody had been reading.
    late: Option<Instant>,
    /// Octets that had left when it was last looked at, and when that was.
    left: u64,
    looked: Instant,
    wake: Option<Deadline>,
}

impl Clock {
    pub(crate) fn new(write_time: Duration) -> Self {
        Self {
            write_time,
            wait: Wait::Nothing,
            since: Instant::default(),
            octets: 0,
            late: None,
            left: 0,
            looked: Instant::default(),
            wake: None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.wake
    }

    pub(crate) fn wait(&self) -> Wait {
        self.wait
    }

    /// Since when it is waited.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// From now on it is waited for something else.
    pub(crate) fn begin(&mut self, now: Now, wait: Wait) {
        (self.wait, self.since, self.octets, self.late) = (wait, now.mono, 0, None);
        self.arm_wait();
    }

    /// The same wait, for another time.
    pub(crate) fn shorten(&mut self, wait: Wait) {
        self.wait = wait;
        self.arm_wait();
    }

    /// Nobody reads: the peer cannot be late.
    pub(crate) fn excuse(&mut self, now: Now) {
        (self.since, self.octets, self.late) = (now.mono, 0, None);
    }

    /// Content came.
    pub(crate) fn count(&mut self, octets: usize) {
        self.octets = self.octets.saturating_add(octets as u64);
    }

    /// Something is about to be put.
    pub(crate) fn putting(&mut self, now: Now, out: &Outbox) {
        if out.is_empty() {
            (self.left, self.looked) = (out.total(), now.mono);
            self.arm(Deadline { at: now.mono.saturating_add(self.write_time), why: "write" });
        }
    }

    /// Whether the peer is late, asked where nothing it sent gets us any further.
    pub(crate) fn is_late(&mut self, now: Now) -> bool {
        self.late.take() == Some(now.mono)
    }

    /// Nothing is waited for any more.
    pub(crate) fn stop(&mut self) {
        (self.wait, self.late, self.wake) = (Wait::Nothing, None, None);
    }

    /// Time has passed; whether the peer takes nothing of what waits for it.
    pub(crate) fn handle_timeout(&mut self, now: Now, out: &Outbox) -> bool {
        if self.wake.is_none_or(|wake| wake.at > now.mono) {
            return false;
        }
        self.wake = None;
        if !out.is_empty() {
            let left = out.total().saturating_sub(out.queued());
            if left > self.left {
                (self.left, self.looked) = (left, now.mono);
            }
            let at = self.looked.saturating_add(self.write_time);
            if at <= now.mono {
                return true;
            }
            self.arm(Deadline { at, why: "write" });
            if matches!(self.wait, Wait::Idle(_) | Wait::Response(_)) {
                // It has yet to read what it shall wait for, or answer.
                self.since = now.mono;
            }
        }
        if let Some((span, _)) = self.wait.span() {
            if self.since.saturating_add(span) <= now.mono {
                let enough = matches!(self.wait, Wait::Body(_, least) if self.octets >= least);
                (self.since, self.octets) = (now.mono, 0);
                self.late = (!enough).then_some(now.mono);
            }
        }
        self.arm_wait();
        false
    }

    fn arm_wait(&mut self) {
        if let Some((span, why)) = self.wait.span() {
            self.arm(Deadline { at: self.since.saturating_add(span), why });
        }
    }

    fn arm(&mut self, deadline: Deadline) {
        if self.wake.is_none_or(|wake| deadline.at < wake.at) {
            self.wake = Some(deadline);
        }
    }
}
