//! Datagrams in one plain thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use semfio_machine::{DatagramMachine, Endpoint, Now};
use semfio_runtime_os::{BoundEndpoint, Clock, Stopper};

/// Drives one [`Endpoint`] over one UDP socket, or over sockets of several kinds, in the
/// thread that calls [`run`](Self::run), with the kernel's stamps where it has them.
///
/// It does at each wakeup what the [event loop's](crate::Datagrams) does; it waits by `poll`.
pub struct Datagrams<M: DatagramMachine> {
    bound: BoundEndpoint<M>,
    bell: Arc<Bell>,
    stopper: Stopper,
}

/// What ends the wait from another thread.
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It cannot fail: the descriptor is open, and its counter is read at every wait.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl<M: DatagramMachine> Datagrams<M> {
    /// Not yet running.
    pub fn new(bound: BoundEndpoint<M>) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = Arc::new(Bell(eventfd(0, flags)?));
        let stopper = Stopper::new(Waker::from(bell.clone()));
        Ok(Self { bound, bell, stopper })
    }

    /// A way to end it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What ends its wait, so that the `speak` of [`run_with`](Self::run_with) is called.
    pub fn waker(&self) -> Waker {
        Waker::from(self.bell.clone())
    }

    /// Runs until it is stopped, and gives the endpoint back.
    ///
    /// `on_event` may command the machine, and what that leads to leaves before the next wait.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait or read a socket at all. What befalls a transmit is told to
    /// the machine.
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
        let mut more = false;
        loop {
            self.bound.speak(&mut speak);
            self.bound.flush(&mut on_event);
            if self.stopper.is_stopped() {
                return Ok(self.bound.into_endpoint());
            }
            self.wait(more || self.bound.is_paused())?;
            more = self.bound.read(&mut on_event)?;
            self.bound.read_errors(&mut on_event)?;
            self.bound.handle_timeout(&mut on_event);
        }
    }

    fn wait(&self, more: bool) -> io::Result<()> {
        let mut wanted = PollFlags::IN;
        if self.bound.is_blocked() {
            wanted |= PollFlags::OUT;
        }
        let sockets = self.bound.sockets().iter().map(|socket| (socket.as_fd(), wanted));
        let bell = [(self.bell.0.as_fd(), PollFlags::IN)];
        let mut all: Vec<_> =
            sockets.chain(bell).map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let patience = match self.bound.poll_timeout() {
            _ if more => Some(Timespec::default()),
            Some(deadline) => {
                Timespec::try_from(Clock::until(self.bound.clock().now(), deadline)).ok()
            }
            None => None,
        };
        match poll(&mut all, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Before the next `speak`: who wakes after this is heard in the next wait.
        let _ = rustix::io::read(&self.bell.0, &mut [0; 8]);
        Ok(())
    }
}
