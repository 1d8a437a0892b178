//! The event loop for datagrams.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use semfio_machine::{
    Clock as WhoseClock, DatagramMachine, Now, Received, Refused, Stamp, Transmit,
};
use semfio_runtime_os::datagram::{DatagramSocket, Notice};
use semfio_runtime_os::{Clock, failure};

/// Drives one [`DatagramMachine`] over one UDP socket, with the kernel's stamps where it has
/// them.
///
/// Each wakeup reads what came, at most 256 datagrams; then the error queue, for stamps of what
/// was sent and for ICMP errors; then does what is due. After each call of the machine its
/// transmits and events are taken. Unlike a [`Host`](crate::Host), it reads the clock for each
/// datagram: a stamp of the kernel must not lie in the machine's future.
pub struct Datagrams<M> {
    machine: M,
    socket: DatagramSocket,
    poll: Poll,
    clock: Clock,
    stopper: Stopper,
    scratch: Vec<u8>,
    /// The datagrams of the latest transmit.
    payload: Vec<u8>,
    /// Of which so many bytes have left.
    sent: usize,
    /// The socket was full; nothing else leaves before this.
    waiting: Option<Transmit>,
    readable: bool,
}

/// Ends a [`Datagrams`] from any thread, or from its own.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Larger than any UDP payload.
const SCRATCH: usize = 64 * 1024;

/// Datagrams read before timers and errors have their turn.
const READS: usize = 256;

impl<M: DatagramMachine> Datagrams<M> {
    /// Binds a socket for `machine`. An IPv6 address takes IPv6 peers only.
    pub fn bind(machine: M, address: SocketAddr, clock: Clock) -> io::Result<Self> {
        let socket = DatagramSocket::bind(address)?;
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, interest)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            machine,
            socket,
            poll,
            clock,
            stopper: Stopper { stop: Arc::default(), waker },
            scratch: vec![0; SCRATCH],
            payload: Vec::new(),
            sent: 0,
            waiting: None,
            readable: true,
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
    /// `on_event` is called in this thread; it may command the machine, and what that leads to
    /// leaves before the next wait.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait for events or read the socket at all. What befalls a
    /// transmit is told to the machine.
    pub fn run(mut self, mut on_event: impl FnMut(Now, M::Event<'_>, &mut M)) -> io::Result<M> {
        let mut events = Events::with_capacity(16);
        loop {
            let now = self.clock.now();
            self.drain(now, &mut on_event);
            if self.stopper.stop.load(Ordering::Acquire) {
                return Ok(self.machine);
            }
            let patience = match self.machine.poll_timeout() {
                _ if self.readable => Some(std::time::Duration::ZERO),
                deadline => deadline.map(|deadline| Clock::until(now, deadline)),
            };
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                answer => answer?,
            }
            let mut errors = false;
            for event in events.iter().filter(|event| event.token() == SOCKET) {
                self.readable |= event.is_readable();
                errors |= event.is_error();
            }
            self.read(&mut on_event)?;
            if errors {
                self.read_errors(&mut on_event)?;
            }
            let now = self.clock.now();
            let due = self.machine.poll_timeout();
            if due.is_some_and(|deadline| deadline.at <= now.mono) {
                self.machine.handle_timeout(now);
            }
        }
    }

    fn read(&mut self, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) -> io::Result<()> {
        for _ in 0..READS {
            if !self.readable {
                break;
            }
            match self.socket.recv(&self.clock, &mut self.scratch) {
                Ok((received, size)) => self.received(received, size, on_event),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

    /// Sends one transmit; "no" if there is none, or no room for it.
    fn transmit(&mut self, now: Now) -> bool {
        let waiting = self.waiting.take().or_else(|| {
            self.payload.clear();
            self.sent = 0;
            self.machine.poll_transmit(now, &mut self.payload)
        });
        let Some(transmit) = waiting else {
            return false;
        };
        // Before it leaves: no answer can seem to be older.
        let now = self.clock.now();
        match self.socket.send(now, &transmit, &self.payload[self.sent..]) {
            Ok(n) => {
                self.sent += n;
                if self.sent < self.payload.len() {
                    self.waiting = Some(transmit);
                    return true;
                }
                let stamp = Stamp { at: now.mono, clock: WhoseClock::User };
                self.machine.handle_sent(now, transmit.id, stamp);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The edge that says "writable" makes the next attempt.
                self.waiting = Some(transmit);
                return false;
            }
            Err(error) => {
                let why = failure(&error);
                self.machine.handle_send_error(now, transmit.id, why);
            }
        }
        true
    }
}

impl Stopper {
    /// Ends the run: at once, or as it begins.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // It cannot fail while the stopper keeps the descriptor open.
        let _ = self.waker.wake();
    }
}
