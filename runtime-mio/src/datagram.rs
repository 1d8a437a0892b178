//! The event loop for datagrams.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::task::Waker;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use semfio_machine::{DatagramMachine, Endpoint, Now};
use semfio_runtime_os::{BoundEndpoint, Clock, Stopper};

use crate::wake::waker;

/// Drives one [`Endpoint`] over one UDP socket, or over sockets of several kinds, with the
/// kernel's stamps where it has them.
///
/// Each wakeup reads what came, at most 256 datagrams, and before each the stamps of what was
/// sent; then the error queue, for ICMP errors too; then does what is due. After each call of the machine its
/// transmits and events are taken. Unlike a [`Host`](crate::Host), it reads the clock for each
/// datagram: a stamp of the kernel must not lie in the machine's future.
pub struct Datagrams<M: DatagramMachine> {
    bound: BoundEndpoint<M>,
    poll: Poll,
    waker: Waker,
    stopper: Stopper,
    readable: bool,
}

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

impl<M: DatagramMachine> Datagrams<M> {
    /// Not yet running.
    pub fn new(bound: BoundEndpoint<M>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        for socket in bound.sockets() {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, interest)?;
        }
        let waker = waker(&poll, WAKER)?;
        let stopper = Stopper::new(waker.clone());
        Ok(Self { bound, poll, waker, stopper, readable: true })
    }

    /// A way to end it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What ends its wait, so that the `speak` of [`run_with`](Self::run_with) is called. With a
    /// [`Handle`](semfio_runtime_os::Handle) on it, messages come from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs until it is stopped, and gives the endpoint back.
    ///
    /// `on_event` is called in this thread; it may command the machine, and what that leads to
    /// leaves before the next wait.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait for events or read the socket at all. What befalls a
    /// transmit is told to the machine.
    pub fn run(
        self,
        on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        self.run_with(|_, _| {}, on_event)
    }

    /// As [`run`](Self::run); `speak` is called before each wait and may command the machine. The
    /// [`waker`](Self::waker) ends a wait.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with(
        mut self,
        mut speak: impl FnMut(Now, &mut Endpoint<M>),
        mut on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        let mut events = Events::with_capacity(16);
        loop {
            self.bound.speak(&mut speak);
            // Here also if an edge has said that the socket has room again.
            self.bound.flush(&mut on_event);
            if self.stopper.is_stopped() {
                return Ok(self.bound.into_endpoint());
            }
            let patience = match self.bound.poll_timeout() {
                _ if self.readable || self.bound.is_paused() => Some(Duration::ZERO),
                next => next.map(|deadline| Clock::until(self.bound.clock().now(), deadline)),
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
            self.readable = self.readable && self.bound.read(&mut on_event)?;
            if errors {
                self.bound.read_errors(&mut on_event)?;
            }
            self.bound.handle_timeout(&mut on_event);
        }
    }
}
