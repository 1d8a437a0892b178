//! From the application to its service.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Speaks to the service of a running host, from any thread or task.
pub struct Handle<Message>(Arc<Shared<Message>>);

/// Why a message was not taken; it is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<Message> {
    /// As many wait as may wait.
    Full(Message),
    /// The host is gone.
    Closed(Message),
}

/// The host's end. When it is dropped, the handles are told.
pub(crate) struct Mailbox<Message>(Arc<Shared<Message>>);

struct Shared<Message> {
    queue: Mutex<Queue<Message>>,
    limit: usize,
    waker: Waker,
}

struct Queue<Message> {
    messages: VecDeque<Message>,
    closed: bool,
}

impl<Message> Handle<Message> {
    /// Has the service's `handle_message` called with `message` in the host's next turn.
    pub fn send(&self, message: Message) -> Result<(), SendError<Message>> {
        let mut queue = self.0.queue();
        if queue.closed {
            return Err(SendError::Closed(message));
        }
        if queue.messages.len() >= self.0.limit {
            return Err(SendError::Full(message));
        }
        queue.messages.push_back(message);
        drop(queue);
        self.0.waker.wake_by_ref();
        Ok(())
    }
}

impl<Message> Mailbox<Message> {
    /// Holds up to `limit` messages; `waker` is woken for each.
    pub(crate) fn new(limit: usize, waker: Waker) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue {
                messages: VecDeque::new(),
                closed: false,
            }),
            limit,
            waker,
        }))
    }

    pub(crate) fn handle(&self) -> Handle<Message> {
        Handle(Arc::clone(&self.0))
    }

    /// All that wait.
    pub(crate) fn take(&self) -> VecDeque<Message> {
        std::mem::take(&mut self.0.queue().messages)
    }
}

impl<Message> Shared<Message> {
    fn queue(&self) -> MutexGuard<'_, Queue<Message>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Message> Drop for Mailbox<Message> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed = true;
        let messages = std::mem::take(&mut queue.messages);
        drop(queue);
        drop(messages);
    }
}

impl<Message> Clone for Handle<Message> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Message> fmt::Debug for Handle<Message> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(..)")
    }
}

impl<Message> fmt::Debug for SendError<Message> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<Message> fmt::Display for SendError<Message> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "too many messages wait",
            Self::Closed(_) => "the host is gone",
        })
    }
}

impl<Message> std::error::Error for SendError<Message> {}
