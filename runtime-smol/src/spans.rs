//! Parts of files on their way to sockets.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use blocking::{Task, unblock};
use semfio_machine::ConnId;
use semfio_runtime_os::Content;

use crate::ready::{Ready, Source};

/// Reads that may be under way at once, each with a thread and a buffer: enough to keep a disk busy,
/// and 2 MiB. A connection has one of them at most.
pub(crate) const READS: usize = 8;

/// How content is read.
pub(crate) type Read = fn(&Content, &mut [u8]) -> io::Result<usize>;

/// Reads files where it may take its time: in the threads of `blocking`.
///
/// What has been read is for one attempt to send it. If the socket takes less, the rest is read again
/// when it takes more: so a buffer never waits for a peer, and no peer keeps others from theirs.
pub(crate) struct Spans {
    read: Read,
    /// Bytes of a buffer.
    size: usize,
    at_work: BTreeMap<ConnId, Task<Done>>,
    /// Those that wait for a place, each once.
    waiting: VecDeque<ConnId>,
    spare: Vec<Vec<u8>>,
}

struct Done {
    buffer: Vec<u8>,
    read: io::Result<usize>,
}

impl Spans {
    pub(crate) fn new(size: usize, read: Read) -> Self {
        let (at_work, waiting) = (BTreeMap::new(), VecDeque::new());
        Self { read, size, at_work, waiting, spare: Vec::new() }
    }

    /// Bytes that are read at once.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether something is read for `id`, or was and is not fetched.
    pub(crate) fn is_at_work(&self, id: ConnId) -> bool {
        self.at_work.contains_key(&id)
    }

    /// Has `content` read for `id`, which has nothing at work, as soon as there is a place.
    pub(crate) fn read(&mut self, id: ConnId, content: Content) {
        if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
        if self.next() != Some(id) {
            return;
        }
        self.waiting.pop_front();
        let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; self.size]);
        let read = self.read;
        let task = unblock(move || {
            let read = read(&content, &mut buffer);
            Done { buffer, read }
        });
        self.at_work.insert(id, task);
    }

    /// What was read for `id`: a buffer, to be [given back](Self::give_back), and how much of it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnId,
    ) -> Poll<io::Result<(Vec<u8>, usize)>> {
        let Some(task) = self.at_work.get_mut(&id) else { return Poll::Pending };
        Pin::new(task).poll(cx).map(|Done { buffer, read }| {
            self.at_work.remove(&id);
            match read {
                Ok(n) => Ok((buffer, n)),
                Err(error) => {
                    self.give_back(buffer);
                    Err(error)
                }
            }
        })
    }

    /// For a connection that is closed. What is read for it goes on, and keeps its place until it ends:
    /// or those that come and go would have all threads of the program.
    pub(crate) fn forget(&mut self, id: ConnId, ready: &Arc<Ready>) {
        self.waiting.retain(|waiting| *waiting != id);
        if !self.is_at_work(id) {
            return;
        }
        let waker = ready.waker(Source::Write(id));
        if let Poll::Ready(Ok((buffer, _))) = self.poll(&mut Context::from_waker(&waker), id) {
            self.give_back(buffer);
        }
    }

    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
    }

    /// Whose turn it is to read, if there is a place for one more.
    pub(crate) fn next(&self) -> Option<ConnId> {
        self.waiting.front().copied().filter(|_| self.at_work.len() < READS)
    }
}
