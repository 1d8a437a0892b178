//! Datagrams.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_io::Async;
use semfio_machine::{DatagramMachine, Endpoint, Now};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{BoundEndpoint, Stopper};

use crate::alarm::Alarm;
use crate::ready::{Ready, Source, arm};

/// Turns in one poll of the future.
const TURNS: usize = 8;

/// Drives one [`Endpoint`] over one UDP socket, or over sockets of several kinds, in one
/// future, with the kernel's stamps where it has them.
///
/// Each wakeup reads what came, at most 256 datagrams, and before each the stamps of what was
/// sent; then the error queue, for ICMP errors too; then does what is due. After each call of the machine its
/// transmits and events are taken. Unlike a [`Host`](crate::Host), it reads the clock for each
/// datagram: a stamp of the kernel must not lie in the machine's future.
pub struct Datagrams<M: DatagramMachine> {
    bound: BoundEndpoint<M>,
    /// The same sockets, as the reactor knows them.
    readiness: Vec<Async<OwnedFd>>,
    alarm: Alarm,
    ready: Arc<Ready>,
    stopper: Stopper,
}

impl<M: DatagramMachine> Datagrams<M> {
    /// Not yet running.
    pub fn new(bound: BoundEndpoint<M>) -> io::Result<Self> {
        let ready = Arc::new(Ready::default());
        let stopper = Stopper::new(ready.waker(Source::Outside));
        let readiness =
            |socket: &DatagramSocket| Async::new_nonblocking(socket.as_fd().try_clone_to_owned()?);
        Ok(Self {
            readiness: bound.sockets().iter().map(readiness).collect::<io::Result<_>>()?,
            bound,
            alarm: Alarm::new(),
            ready,
            stopper,
        })
    }

    /// A way to end it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What ends its wait, so that the `speak` of [`run_with`](Self::run_with) is called. With a
    /// [`Handle`](semfio_runtime_os::Handle) on it, messages come from any thread.
    pub fn waker(&self) -> Waker {
        self.ready.waker(Source::Outside)
    }

    /// Runs until it is stopped, and gives the endpoint back.
    ///
    /// `on_event` may command the machine, and what that leads to leaves before the next wait.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait for events or read the socket at all. What befalls a
    /// transmit is told to the machine.
    pub async fn run(
        self,
        on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        self.run_with(|_, _| {}, on_event).await
    }

    /// As [`run`](Self::run); `speak` is called before each wait and may command the machine. The
    /// [`waker`](Self::waker) ends a wait.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with(
        mut self,
        mut speak: impl FnMut(Now, &mut Endpoint<M>),
        mut on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        poll_fn(|cx| self.poll(cx, &mut speak, &mut on_event)).await?;
        Ok(self.bound.into_endpoint())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        speak: &mut impl FnMut(Now, &mut Endpoint<M>),
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> Poll<io::Result<()>> {
        self.ready.take(cx.waker(), &mut Vec::new());
        for _ in 0..TURNS {
            self.bound.speak(speak);
            self.bound.flush(on_event);
            if self.stopper.is_stopped() {
                return Poll::Ready(Ok(()));
            }
            let more = self.bound.read(on_event)?;
            // Stamps and errors wake as bytes do: which it was, only the queue can tell.
            self.bound.read_errors(on_event)?;
            self.bound.handle_timeout(on_event);
            if more || self.bound.is_paused() {
                continue;
            }
            for readiness in &self.readiness {
                arm(|| readiness.poll_readable(cx))?;
                if self.bound.is_blocked() {
                    arm(|| readiness.poll_writable(cx))?;
                }
            }
            let next = self.bound.poll_timeout().map(|deadline| deadline.at);
            if !self.stopper.is_stopped()
                && self.alarm.poll(cx, self.bound.clock(), next).is_pending()
            {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
