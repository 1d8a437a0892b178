//! The half of a datagram host that needs no I/O.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::datagram::{Clock, DatagramMachine, Received, Stamp, Transmit, TransmitId};
use crate::effect::Failure;
use crate::stream::Refused;
use crate::tap::{Tap, TapEntry};
use crate::time::{Deadline, Now};

/// A [`DatagramMachine`] and the transmit that is on its way to the socket.
///
/// The order of calls that the machine asks for is kept here, once; a host only moves datagrams.
/// After any `handle_*` the host drains [`poll_output`](Self::poll_output), which gives first
/// what is to be sent, then what is to be told.
///
/// A transmit stays until the host has said what became of it:
///
/// | what the socket did | the host calls |
/// |---|---|
/// | took all of it, or some datagrams of several | [`handle_sent`](Self::handle_sent) |
/// | has no room | [`handle_blocked`](Self::handle_blocked), and [`handle_writable`](Self::handle_writable) later |
/// | refused it | [`handle_send_error`](Self::handle_send_error) |
///
/// The same calls with the same arguments give the same outputs, [`poll_output`](Self::poll_output)
/// being one of these calls: a [`Tap`] sees all of them.
pub struct Endpoint<M: DatagramMachine> {
    machine: M,
    /// The datagrams of the latest transmit.
    payload: Vec<u8>,
    /// Of which so many bytes have left.
    sent: usize,
    /// Nothing else leaves before this.
    transmit: Option<Transmit>,
    blocked: bool,
    tap: Option<Tapped<M>>,
}

/// A tap, and how commands become bytes.
struct Tapped<M: DatagramMachine> {
    tap: Box<dyn Tap<Vec<u8>> + Send>,
    encode: fn(&M::Command<'_>, &mut Vec<u8>),
}

/// What an [`Endpoint`] wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a, Event> {
    /// Send this, or what is left of it. Given again until the endpoint is told of it.
    Transmit(&'a Transmit, &'a [u8]),
    /// Tell the application.
    Event(Event),
}

impl<M: DatagramMachine> Endpoint<M> {
    /// An endpoint that has sent nothing.
    pub fn new(machine: M) -> Self {
        Self { machine, payload: Vec::new(), sent: 0, transmit: None, blocked: false, tap: None }
    }

    /// Has everything seen by `tap` from here on. `encode` appends all there is to know of a command.
    pub fn set_tap(
        &mut self,
        tap: Box<dyn Tap<Vec<u8>> + Send>,
        encode: fn(&M::Command<'_>, &mut Vec<u8>),
    ) {
        self.tap = Some(Tapped { tap, encode });
    }

    /// Hands over what the tap has gathered.
    pub fn drain_tap(&mut self, to: &mut dyn FnMut(&[u8])) {
        if let Some(Tapped { tap, .. }) = &mut self.tap {
            tap.drain(to);
        }
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, once the run is over.
    pub fn into_machine(self) -> M {
        self.machine
    }

    /// Whether this datagram is for this machine; only then it is handed over.
    pub fn accepts(&self, meta: &Received, payload: &[u8]) -> bool {
        self.machine.accepts(meta, payload)
    }

    /// A datagram came. The event is to be told before the outputs.
    pub fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<M::Event<'i>> {
        self.tap(now, TapEntry::Datagram(&meta, payload));
        let event = self.machine.handle_datagram(now, meta, payload);
        if let (Some(Tapped { tap, .. }), Some(event)) = (&mut self.tap, &event) {
            tap.record(now, TapEntry::Report(event));
        }
        event
    }

    /// The application asks for something.
    pub fn handle_command(&mut self, now: Now, command: M::Command<'_>) -> Result<(), Refused> {
        if let Some(Tapped { tap, encode }) = &mut self.tap {
            let mut bytes = Vec::new();
            encode(&command, &mut bytes);
            tap.record(now, TapEntry::Message(&bytes));
        }
        self.machine.handle_command(now, command)
    }

    /// The application goes by this from here on, in what it prints: the name of an address, that its
    /// time has come. The machine does not hear it; a tap sees it, and a replay gives it back.
    pub fn note(&mut self, now: Now, what: &[u8]) {
        self.tap(now, TapEntry::Note(what));
    }

    /// The socket took the next `n` bytes of the transmit. Once it has all, the machine is told,
    /// with `now` as the stamp: read the clock before sending, so that no answer seems older.
    pub fn handle_sent(&mut self, now: Now, n: usize) {
        let Some(Transmit { id, .. }) = self.transmit else { return };
        let left = self.payload.len().saturating_sub(self.sent);
        self.tap(now, TapEntry::Left(id, n.min(left)));
        self.sent = self.sent.saturating_add(n.min(left));
        if n >= left {
            self.transmit = None;
            let stamp = Stamp { at: now.mono, clock: Clock::User };
            self.machine.handle_sent(now, id, stamp);
        }
    }

    /// The kernel says when a transmit left.
    pub fn handle_stamp(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        self.tap(now, TapEntry::Stamped(id, stamp));
        self.machine.handle_sent(now, id, stamp);
    }

    /// The socket refused the transmit; what is left of it is dropped.
    pub fn handle_send_error(&mut self, now: Now, failure: Failure) {
        if let Some(Transmit { id, .. }) = self.transmit.take() {
            self.tap(now, TapEntry::Refused(id, failure));
            self.machine.handle_send_error(now, id, failure);
        }
    }

    /// The socket has no room for the transmit: it is kept, and only events are given out.
    pub fn handle_blocked(&mut self, now: Now) {
        if !self.blocked {
            self.tap(now, TapEntry::Blocked);
            self.blocked = true;
        }
    }

    /// The socket may have room again.
    pub fn handle_writable(&mut self, now: Now) {
        if self.blocked {
            self.tap(now, TapEntry::Writable);
            self.blocked = false;
        }
    }

    /// Whether a transmit waits for [`handle_writable`](Self::handle_writable).
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    /// Time has passed. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_some_and(|deadline| deadline.at <= now.mono) {
            self.tap(now, TapEntry::Timeout);
            self.machine.handle_timeout(now);
        }
    }

    /// The next thing the host has to do.
    pub fn poll_output(&mut self, now: Now) -> Option<Output<'_, M::Event<'static>>> {
        if self.transmit.is_none() {
            self.payload.clear();
            self.sent = 0;
            self.transmit = self.machine.poll_transmit(now, &mut self.payload);
            if let Some(transmit) = &self.transmit {
                self.payload.truncate(transmit.size);
                if let Some(Tapped { tap, .. }) = &mut self.tap {
                    tap.record(now, TapEntry::Transmit(transmit, &self.payload));
                }
            }
        }
        match &self.transmit {
            Some(transmit) if !self.blocked => {
                let left = self.payload.get(self.sent..).unwrap_or_default();
                Some(Output::Transmit(transmit, left))
            }
            _ => {
                let event = self.machine.poll_event();
                if let Some(Tapped { tap, .. }) = &mut self.tap {
                    let entry = event.as_ref().map(|event| TapEntry::Report(event));
                    tap.record(now, entry.unwrap_or(TapEntry::Nothing));
                }
                event.map(Output::Event)
            }
        }
    }

    fn tap(&mut self, now: Now, entry: TapEntry<'_, Vec<u8>>) {
        if let Some(Tapped { tap, .. }) = &mut self.tap {
            tap.record(now, entry);
        }
    }
}
