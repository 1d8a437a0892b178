//! Running a shard again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use semfio_machine::{Action, ConnId, Now, RequestId, Service, Shard, StreamMachine};

use super::{Agreement, Gather, Replay, ReplayError, Rerun, unreadable};
use crate::call::Call;
use crate::reader::{Event, Reader};
use crate::recorded::{Codec, Recorded};

/// A shard in a [`Replay`].
pub struct OfShard<M: StreamMachine, S: Service<M>> {
    shard: Shard<M, S>,
    codec: Codec<S::Message>,
    /// For each place in the shard's table, the generation last seen there.
    generations: Vec<u32>,
    /// How many requests the service has made.
    requests: u64,
}

/// Runs a whole trace of a shard.
pub fn replay<L, M, S>(reader: Reader<L>, shard: Shard<M, S>) -> Result<Agreement, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: Recorded + 'static,
{
    Replay::new(reader, shard).run()
}

impl<L, M, S> Replay<L, OfShard<M, S>>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: 'static,
{
    /// At the start. The shard's tap is replaced.
    pub fn new(reader: Reader<L>, shard: Shard<M, S>) -> Self
    where
        S::Message: Recorded,
    {
        Self::with_codec(reader, shard, Codec::default())
    }

    /// The same, for messages that do not know how to be recorded.
    pub fn with_codec(reader: Reader<L>, mut shard: Shard<M, S>, codec: Codec<S::Message>) -> Self {
        shard.set_tap(Box::new(Gather::new(codec)));
        Self::start(reader, OfShard { shard, codec, generations: Vec::new(), requests: 0 })
    }

    /// The shard as it is after the last step.
    pub fn shard(&self) -> &Shard<M, S> {
        &self.run.shard
    }
}

impl<M, S> Rerun for OfShard<M, S>
where
    M: StreamMachine,
    S: Service<M>,
    S::Message: 'static,
{
    fn feed(&mut self, event: &Event) -> Result<(), ReplayError> {
        let now = event.now;
        let call = Call::parse(event, self.codec.decode);
        match call.map_err(|what| unreadable(event, what))? {
            Call::Accepted(peer) => {
                if let Some(id) = self.shard.handle_accepted(now, peer) {
                    self.note(id);
                }
            }
            Call::Connected(id, peer) => {
                self.check(id, event)?;
                self.shard.handle_connected(now, id, peer);
            }
            Call::Received(id, mut bytes) => {
                self.check(id, event)?;
                self.shard.handle_received(now, id, &mut bytes);
            }
            Call::Eof(id) => {
                self.check(id, event)?;
                self.shard.handle_eof(now, id);
            }
            Call::Failed(id, failure) => {
                self.check(id, event)?;
                self.shard.handle_failed(now, id, failure);
            }
            Call::Sent(id, n) => {
                self.check(id, event)?;
                let queued = self.shard.outbox(id).map_or(0, |outbox| outbox.queued());
                if n as u64 > queued {
                    return Err(ReplayError::Oversent(Box::new(event.clone())));
                }
                self.shard.handle_sent(now, id, n);
            }
            Call::Reply(RequestId(id), answer) => {
                if id >= self.requests {
                    return Err(ReplayError::Unknown(Box::new(event.clone())));
                }
                let reply = answer.as_reply();
                self.shard.handle_reply(now, RequestId(id), reply);
            }
            Call::Message(message) => self.shard.handle_message(now, message),
            Call::Turn => self.shard.handle_turn(now),
            Call::Timeout => self.shard.handle_timeout(now),
        }
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(id, _) => self.note(id),
                Action::Request(RequestId(id), _) => self.requests = id.saturating_add(1),
                _ => {}
            }
        }
        while self.shard.poll_report().is_some() {}
        Ok(())
    }

    /// A shard does everything at once.
    fn ask(&mut self, _: Now) {}

    fn drain_tap(&mut self, to: &mut dyn FnMut(&[u8])) {
        self.shard.drain_tap(to);
    }
}

impl<M, S> OfShard<M, S>
where
    M: StreamMachine,
    S: Service<M>,
{
    fn note(&mut self, id: ConnId) {
        let index = id.index as usize;
        if self.generations.len() <= index {
            self.generations.resize(index.saturating_add(1), 0);
        }
        if let Some(generation) = self.generations.get_mut(index) {
            *generation = id.generation;
        }
    }

    /// Whether there is, or was, such a connection.
    fn check(&self, id: ConnId, event: &Event) -> Result<(), ReplayError> {
        match self.generations.get(id.index as usize) {
            Some(&last) if id.generation <= last => Ok(()),
            _ => Err(ReplayError::Unknown(Box::new(event.clone()))),
        }
    }
}
