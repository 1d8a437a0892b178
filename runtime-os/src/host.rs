//! What those who use a host see of it, whichever it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SendError, SyncSender, TrySendError};
use std::task::Waker;

use crate::{Clock, Roots};

/// What a host of streams may use. The default serves no folder.
#[derive(Debug)]
pub struct HostConfig {
    /// Bytes read at once, into one buffer for all connections. Default 64 KiB: what a socket
    /// usually holds.
    pub scratch: usize,
    /// Connections read from before timers, messages and writes have their turn. Default 256.
    pub reads_per_turn: usize,
    /// Messages that may wait before [`Handle::send`] blocks, and effects before they fail.
    /// Default 1,024.
    pub queue: usize,
    /// Files open at once for the service. Default 256.
    pub files: usize,
    /// The folders the service may ask for.
    pub roots: Roots,
    /// Where connections are dialled from, as [`tcp::connect`](crate::tcp::connect) takes it. Default:
    /// the system's choice.
    pub source: Option<SocketAddr>,
    /// What time it is. Default: the run starts as the configuration is made.
    pub clock: Clock,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            scratch: 64 * 1024,
            reads_per_turn: 256,
            queue: 1024,
            files: 256,
            roots: Roots::default(),
            source: None,
            clock: Clock::start(),
        }
    }
}

/// Speaks to the service of a running host, from any thread or task.
#[derive(Debug)]
pub struct Handle<T> {
    messages: SyncSender<T>,
    waker: Waker,
}

impl<T> Handle<T> {
    /// A queue of so many messages, at least one; `waker` is woken after each. The host keeps
    /// the receiver.
    pub fn new(queue: usize, waker: Waker) -> (Self, Receiver<T>) {
        let (messages, receiver) = mpsc::sync_channel(queue.max(1));
        (Self { messages, waker }, receiver)
    }

    /// Sends a message; waits while the queue is full. It blocks its thread: tasks take
    /// [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// The host is gone; the message comes back.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.messages.send(message)?;
        self.waker.wake_by_ref();
        Ok(())
    }

    /// Sends a message, unless the queue is full or the host is gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.messages.try_send(message)?;
        self.waker.wake_by_ref();
        Ok(())
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), waker: self.waker.clone() }
    }
}

/// Ends a host of datagrams from any thread or task, or from its own.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl Stopper {
    /// Wakes `waker` as it stops.
    pub fn new(waker: Waker) -> Self {
        Self { stop: Arc::default(), waker }
    }

    /// Ends the run: at once, or as it begins.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// Whether the run is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
