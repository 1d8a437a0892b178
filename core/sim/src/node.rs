//! A shard of any type, as the network drives it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::any::Any;
use core::marker::PhantomData;
use semfio_machine::{
    Action, ConnId, Failure, Instant, Now, Outbox, Peer, Reply, RequestId, Service, Shard,
    StreamMachine,
};

/// A [`Shard`] in a [`Network`](crate::Network), by its types.
pub struct ShardId<M, S> {
    pub(crate) index: usize,
    types: PhantomData<fn() -> (M, S)>,
}

impl<M, S> ShardId<M, S> {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, types: PhantomData }
    }
}

impl<M, S> Clone for ShardId<M, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, S> Copy for ShardId<M, S> {}

impl<M, S> core::fmt::Debug for ShardId<M, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ShardId({})", self.index)
    }
}

/// What the network asks of a shard, whatever its machine and its service.
pub(crate) trait Node {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn handle_accepted(&mut self, now: Now, peer: Peer) -> Option<ConnId>;
    fn handle_connected(&mut self, now: Now, id: ConnId, peer: Peer);
    fn handle_received(&mut self, now: Now, id: ConnId, bytes: &mut [u8]);
    fn handle_eof(&mut self, now: Now, id: ConnId);
    fn handle_failed(&mut self, now: Now, id: ConnId, failure: Failure);
    fn handle_sent(&mut self, now: Now, id: ConnId, n: usize);
    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>);
    /// Hands over the first message that is due, if there is one.
    fn handle_message(&mut self, now: Now) -> bool;
    fn handle_turn(&mut self, now: Now);
    fn handle_timeout(&mut self, now: Now);
    fn next_due(&self) -> Option<Instant>;
    fn next_timeout(&self) -> Option<Instant>;
    fn poll_action(&mut self) -> Option<Action>;
    fn collect_reports(&mut self, now: Now);
    fn outbox(&self, id: ConnId) -> Option<&Outbox>;
    fn wants_read(&self, id: ConnId) -> bool;
}

pub(crate) struct ShardNode<M: StreamMachine, S: Service<M>> {
    pub(crate) shard: Shard<M, S>,
    /// By time; those of one time in the order they were given.
    messages: VecDeque<(Instant, S::Message)>,
    pub(crate) reports: Vec<(Now, S::Report)>,
}

impl<M: StreamMachine, S: Service<M>> ShardNode<M, S> {
    pub(crate) fn new(shard: Shard<M, S>) -> Box<Self> {
        Box::new(Self { shard, messages: VecDeque::new(), reports: Vec::new() })
    }

    pub(crate) fn push_message(&mut self, at: Instant, message: S::Message) {
        let place = self.messages.partition_point(|(other, _)| *other <= at);
        self.messages.insert(place, (at, message));
    }
}

impl<M, S> Node for ShardNode<M, S>
where
    M: StreamMachine + 'static,
    S: Service<M> + 'static,
{
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn handle_accepted(&mut self, now: Now, peer: Peer) -> Option<ConnId> {
        self.shard.handle_accepted(now, peer)
    }

    fn handle_connected(&mut self, now: Now, id: ConnId, peer: Peer) {
        self.shard.handle_connected(now, id, peer);
    }

    fn handle_received(&mut self, now: Now, id: ConnId, bytes: &mut [u8]) {
        self.shard.handle_received(now, id, bytes);
    }

    fn handle_eof(&mut self, now: Now, id: ConnId) {
        self.shard.handle_eof(now, id);
    }

    fn handle_failed(&mut self, now: Now, id: ConnId, failure: Failure) {
        self.shard.handle_failed(now, id, failure);
    }

    fn handle_sent(&mut self, now: Now, id: ConnId, n: usize) {
        self.shard.handle_sent(now, id, n);
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>) {
        self.shard.handle_reply(now, id, reply);
    }

    fn handle_message(&mut self, now: Now) -> bool {
        if self.messages.front().is_none_or(|(at, _)| *at > now.mono) {
            return false;
        }
        match self.messages.pop_front() {
            Some((_, message)) => {
                self.shard.handle_message(now, message);
                true
            }
            None => false,
        }
    }

    fn handle_turn(&mut self, now: Now) {
        self.shard.handle_turn(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.shard.handle_timeout(now);
    }

    fn next_due(&self) -> Option<Instant> {
        let message = self.messages.front().map(|(at, _)| *at);
        message.into_iter().chain(self.next_timeout()).min()
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.shard.poll_timeout().map(|deadline| deadline.at)
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.shard.poll_action()
    }

    fn collect_reports(&mut self, now: Now) {
        while let Some(report) = self.shard.poll_report() {
            self.reports.push((now, report));
        }
    }

    fn outbox(&self, id: ConnId) -> Option<&Outbox> {
        self.shard.outbox(id)
    }

    fn wants_read(&self, id: ConnId) -> bool {
        self.shard.wants_read(id)
    }
}
