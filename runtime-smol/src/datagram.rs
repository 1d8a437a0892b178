//! Datagrams.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use async_io::Async;
use semfio_machine::{
    Clock as WhoseClock, DatagramMachine, Now, Received, Refused, Stamp, Transmit,
};
use semfio_runtime_os::datagram::{DatagramSocket, Notice};
use semfio_runtime_os::{Clock, failure};

use crate::alarm::Alarm;
use crate::ready::{Ready, Source, arm};

/// Larger than any UDP payload.
const SCRATCH: usize = 64 * 1024;

/// Datagrams read before timers and errors have their turn.
const READS: usize = 256;

/// Turns in one poll of the future.
const TURNS: usize = 8;

/// Drives one [`DatagramMachine`] over one UDP socket, in one future, with the kernel's stamps
/// where it has them.
///
/// Each wakeup reads what came, at most 256 datagrams; then the error queue, for stamps of what
/// was sent and for ICMP errors; then does what is due. After each call of the machine its
/// transmits and events are taken. Unlike a [`Host`](crate::Host), it reads the clock for each
/// datagram: a stamp of the kernel must not lie in the machine's future.
pub struct Datagrams<M> {
    machine: M,
    socket: DatagramSocket,
    /// The same socket, as the reactor knows it.
    readiness: Async<OwnedFd>,
    clock: Clock,
    alarm: Alarm,
    ready: Arc<Ready>,
    stopper: Stopper,
    scratch: Vec<u8>,
    /// The datagrams of the latest transmit.
    payload: Vec<u8>,
    /// Of which so many bytes have left.
    sent: usize,
    /// The socket was full; nothing else leaves before this.
    waiting: Option<Transmit>,
}

/// Ends a [`Datagrams`] from any thread or task, or from its own.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl<M: DatagramMachine> Datagrams<M> {
    /// Binds a socket for `machine`. An IPv6 address takes IPv6 peers only.
    pub fn bind(machine: M, address: SocketAddr, clock: Clock) -> io::Result<Self> {
        let socket = DatagramSocket::bind(address)?;
        let ready = Arc::new(Ready::default());
        let waker = ready.waker(Source::Outside);
        Ok(Self {
            machine,
            readiness: Async::new_nonblocking(socket.as_fd().try_clone_to_owned()?)?,
            socket,
            clock,
            alarm: Alarm::new(),
            ready,
            stopper: Stopper { stop: Arc::default(), waker },
            scratch: vec![0; SCRATCH],
            payload: Vec::new(),
            sent: 0,
            waiting: None,
        })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// A way to end it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Asks the machine for something, before it runs.
    pub fn command(&mut self, command: M::Command<'_>) -> Result<(), Refused> {
        self.machine.handle_command(self.clock.now(), command)
    }

    /// Runs until it is stopped, and gives the machine back.
    ///
    /// `on_event` may command the machine, and what that leads to leaves before the next wait.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait for events or read the socket at all. What befalls a
    /// transmit is told to the machine.
    pub async fn run(
        mut self,
        mut on_event: impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> io::Result<M> {
        poll_fn(|cx| self.poll(cx, &mut on_event)).await?;
        Ok(self.machine)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> Poll<io::Result<()>> {
        self.ready.take(cx.waker(), &mut Vec::new());
        for _ in 0..TURNS {
            self.drain(self.clock.now(), on_event);
            if self.stopper.stop.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            let more = self.read(on_event)?;
            // Stamps and errors wake as bytes do: which it was, only the queue can tell.
            self.read_errors(on_event)?;
            let now = self.clock.now();
            let due = self.machine.poll_timeout();
            if due.is_some_and(|deadline| deadline.at <= now.mono) {
                self.machine.handle_timeout(now);
                continue;
            }
            if more {
                continue;
            }
            self.drain(now, on_event);
            arm(|| self.readiness.poll_readable(cx))?;
            if self.waiting.is_some() {
                arm(|| self.readiness.poll_writable(cx))?;
            }
            let next = self.machine.poll_timeout().map(|deadline| deadline.at);
            let stopped = self.stopper.stop.load(Ordering::Acquire);
            if !stopped && self.alarm.poll(cx, self.clock, next).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether there may be more.
    fn read(&mut self, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) -> io::Result<bool> {
        for _ in 0..READS {
            match self.socket.recv(&self.clock, &mut self.scratch) {
                Ok((received, size)) => self.received(received, size, on_event),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn read_errors(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> io::Result<()> {
        while let Some(notice) = self.socket.poll_error_queue(&self.clock, &mut self.scratch)? {
            match notice {
                Notice::Sent(id, stamp) => {
                    let now = self.clock.now();
                    self.machine.handle_sent(now, id, stamp);
                    self.drain(now, on_event);
                }
                Notice::Quoted(received, size) => self.received(received, size, on_event),
            }
        }
        Ok(())
    }

    fn received(
        &mut self,
        received: Received,
        size: usize,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) {
        let payload = self.scratch.get_mut(..size).unwrap_or_default();
        if !self.machine.accepts(&received, payload) {
            return;
        }
        // After the datagram was read, so that its stamp lies in the past.
        let now = self.clock.now();
        if let Some(event) = self.machine.handle_datagram(now, received, payload) {
            on_event(now, event, &mut self.machine);
        }
        self.drain(now, on_event);
    }

    /// Sends what the machine has to send, and gives out what it has to tell.
    fn drain(&mut self, now: Now, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) {
        loop {
            while self.transmit(now) {}
            let Some(event) = self.machine.poll_event() else {
                return;
            };
            on_event(now, event, &mut self.machine);
        }
    }

    /// Sends one transmit, or a part of it; "no" if there is none, or no room for it.
    fn transmit(&mut self, now: Now) -> bool {
        let transmit = match self.waiting.take() {
            Some(transmit) => transmit,
            None => {
                self.payload.clear();
                self.sent = 0;
                let polled = self.machine.poll_transmit(now, &mut self.payload);
                let Some(transmit) = polled else {
                    return false;
                };
                transmit
            }
        };
        // Before it leaves: no answer can seem to be older.
        let now = self.clock.now();
        let left = self.payload.get(self.sent..).unwrap_or_default();
        match self.socket.send(now, &transmit, left) {
            Ok(n) if n < left.len() => {
                self.sent += n;
                self.waiting = Some(transmit);
            }
            Ok(_) => {
                let stamp = Stamp { at: now.mono, clock: WhoseClock::User };
                self.machine.handle_sent(now, transmit.id, stamp);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.waiting = Some(transmit);
                return false;
            }
            Err(error) => {
                self.machine.handle_send_error(now, transmit.id, failure(&error));
            }
        }
        true
    }
}

impl Stopper {
    /// Ends the run: at once, or as it begins.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}
