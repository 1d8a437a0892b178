//! Names that wait for their turn.

use alloc::collections::VecDeque;
use semfio_path::SafeName;

/// The most that waiting names may take, in bytes: some 12,000 photographs. A server that tells of
/// folders in folders could make each of them 4 KiB long.
const LIMIT: usize = 2 * 1024 * 1024;
/// What a name costs beside its letters, which are held twice.
const OVERHEAD: usize = 96;

/// A file or folder to be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// On the server.
    pub(crate) name: SafeName,
    /// Here.
    pub(crate) local: SafeName,
}

impl Task {
    fn size(&self) -> usize {
        let letters = self.name.as_str().len().saturating_add(self.local.as_str().len());
        letters.saturating_add(OVERHEAD)
    }
}

/// Tasks in their order.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    queue: VecDeque<Task>,
    size: usize,
}

impl Tasks {
    /// Adds one that was asked for, however many there are.
    pub(crate) fn push(&mut self, task: Task) {
        self.size = self.size.saturating_add(task.size());
        self.queue.push_back(task);
    }

    /// Adds one that the server told of; whether there was room.
    pub(crate) fn push_told(&mut self, task: Task) -> bool {
        let fits = self.size.saturating_add(task.size()) <= LIMIT;
        if fits {
            self.push(task);
        }
        fits
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Task> {
        let task = self.queue.pop_front()?;
        self.size = self.size.saturating_sub(task.size());
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(task)
    }

    /// Takes the last `n` away.
    pub(crate) fn take_back(&mut self, n: usize) {
        for task in self.queue.drain(self.queue.len().saturating_sub(n)..) {
            self.size = self.size.saturating_sub(task.size());
        }
    }

    /// Takes all away, and tells how many they were.
    pub(crate) fn clear(&mut self) -> usize {
        core::mem::take(self).queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_path::Policy;

    #[test]
    fn what_waits_is_counted_in_bytes() {
        let name = |len: usize| {
            let name = SafeName::parse("n".repeat(len), Policy::default()).unwrap();
            Task { local: name.clone(), name }
        };
        let mut tasks = Tasks::default();
        tasks.push(name(9));
        let mut told = 0;
        while tasks.push_told(name(200)) {
            told += 1;
        }
        assert_eq!(told, (LIMIT - OVERHEAD - 18) / (OVERHEAD + 400));
        assert!(!tasks.push_told(name(200)));
        tasks.take_back(1);
        assert!(tasks.push_told(name(200)));
        assert_eq!(tasks.pop().map(|task| task.name.as_str().len()), Some(9));
        assert_eq!(tasks.size, tasks.queue.iter().map(Task::size).sum());
        assert_eq!((tasks.clear(), tasks.size, tasks.is_empty()), (told, 0, true));
    }
}
