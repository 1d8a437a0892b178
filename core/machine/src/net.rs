//! What a service may ask of its host.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::carry::Carry;
use crate::effect::{Effect, FileId, RequestId};
use crate::outbox::{Outbox, Spares};
use crate::service::{ConnId, Peer, Target};
use crate::stream::{Refused, StreamMachine};
use crate::time::{Instant, Now};

/// The connections of a shard, as its service sees them.
///
/// Nothing here does I/O: what is asked becomes an [`Action`] the host carries out.
#[derive(Debug)]
pub struct Net<M: StreamMachine> {
    pub(crate) now: Now,
    pub(crate) limits: NetLimits,
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    open: usize,
    /// Connections whose machine must be called again, in the order they were touched.
    pub(crate) dirty: VecDeque<ConnId>,
    /// Connections the service has closed and has yet to be told so.
    pub(crate) ended: VecDeque<ConnId>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) timers: BTreeSet<(Instant, ConnId)>,
    requests: u64,
    /// Requests that wait for a reply.
    pub(crate) pending: BTreeSet<RequestId>,
    pub(crate) stopping: bool,
    /// Whether peers that wait to be accepted as it stops are still served.
    pub(crate) draining: bool,
    spares: Spares,
}

/// The bounds of a [`Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// Connections at once. A table entry is under 1 KiB, so the default of 16,384 costs at most
    /// 16 MiB; descriptors run out first.
    pub connections: usize,
    /// Bytes an outbox may hold before its machine is told to wait. Default
    /// [`Outbox::MARK`].
    pub mark: usize,
    /// Bytes an outbox may hold before commands are refused. Default 4 MiB: a service that
    /// watches `queued` never meets it.
    pub held: usize,
    /// How long a closed connection may go without sending anything or seeing the peer close,
    /// before it is cut. Default 2 s. One that goes on sending has 15 times as long, and a second
    /// more for each 4 KiB that waited as it closed: taking a byte now and then must not hold it.
    pub linger: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            mark: Outbox::MARK,
            held: 4 * 1024 * 1024,
            linger: Duration::from_secs(2),
        }
    }
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Establish a connection; answer with `handle_connected` or `handle_failed`.
    Dial(ConnId, Target),
    /// Write what its outbox holds, now and whenever the socket takes more, until it is empty.
    Write(ConnId),
    /// Everything is written: close the sending half.
    Shutdown(ConnId),
    /// Reading was suspended and goes on.
    Read(ConnId),
    /// Forget the connection and close its socket; `reset` without waiting for anything.
    Close {
        /// Which; its place is free for another from here on.
        conn: ConnId,
        /// Whether the peer shall see a reset, since not everything was sent.
        reset: bool,
    },
    /// Carry out an effect; answer with `handle_reply`.
    Request(RequestId, Effect),
    /// No answer is wanted any more.
    Cancel(RequestId),
    /// Close a file.
    Release(FileId),
    /// Accept those who wait, and no more; end once no connection is left.
    Stop,
}

#[derive(Debug)]
struct Slot<M> {
    generation: u32,
    conn: Option<Conn<M>>,
}

#[derive(Debug)]
pub(crate) struct Conn<M> {
    pub(crate) machine: M,
    pub(crate) peer: Option<Peer>,
    pub(crate) outbox: Outbox,
    pub(crate) carry: Carry,
    pub(crate) phase: Phase,
    pub(crate) need: Need,
    pub(crate) timer: Option<Instant>,
    /// While it is closing: when it is cut, whether it still sends or not.
    pub(crate) cut_at: Instant,
    pub(crate) eof: bool,
    pub(crate) paused: bool,
    pub(crate) dirty: bool,
    /// The host was told to write and has not emptied the outbox yet.
    pub(crate) writing: bool,
    pub(crate) shut: bool,
    pub(crate) aborted: bool,
    /// The outbox has reached its mark since the service was last told of room.
    pub(crate) full: bool,
    /// The host knows that it shall not read.
    pub(crate) suspended: bool,
    pub(crate) releases: Vec<(u64, FileId)>,
    /// As the tap last saw it.
    pub(crate) state: &'static str,
}

impl<M> Conn<M> {
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Open => self.need == Need::Input && !self.paused && !self.eof,
            Phase::Closing | Phase::Ended => !self.eof,
            Phase::Dialling => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Dialled, not answered yet.
    Dialling,
    Open,
    /// Closed by the service, which is yet to be told.
    Ended,
    /// The service knows; flushing, then waiting for the peer's end.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Input,
    Room,
    Command,
}

impl<M: StreamMachine> Net<M> {
    pub(crate) fn new(limits: NetLimits) -> Self {
        Self {
            now: Now::default(),
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            dirty: VecDeque::new(),
            ended: VecDeque::new(),
            actions: VecDeque::new(),
            timers: BTreeSet::new(),
            requests: 0,
            pending: BTreeSet::new(),
            stopping: false,
            draining: false,
            spares: Spares::default(),
        }
    }

    /// Starts a connection; `handle_opened` or `handle_closed` follows.
    pub fn dial(&mut self, to: Target, machine: M) -> ConnId {
        let conn = self.insert(machine, None, Phase::Dialling);
        self.actions.push_back(Action::Dial(conn, to));
        conn
    }

    /// Hands a command to a connection's machine.
    pub fn send(&mut self, to: ConnId, command: M::Command<'_>) -> Result<(), Refused> {
        let now = self.now;
        let held = self.limits.held;
        let conn = match get(&mut self.slots, to) {
            Some(conn) if conn.phase == Phase::Open => conn,
            Some(conn) if conn.phase == Phase::Dialling => return Err(Refused::State("Dialling")),
            _ => return Err(Refused::Closed),
        };
        if conn.outbox.held() >= held {
            conn.full = true;
            return Err(Refused::Full);
        }
        conn.machine.handle_command(now, command, &mut conn.outbox)?;
        self.touch(to);
        Ok(())
    }

    /// Bytes that wait in its outbox, those in files included; zero for one that is gone.
    pub fn queued(&self, of: ConnId) -> u64 {
        self.conn(of).map_or(0, |conn| conn.outbox.queued())
    }

    /// Whether its outbox is below the mark; if not, `handle_room` will follow.
    pub fn has_room(&self, of: ConnId) -> bool {
        self.conn(of).is_some_and(|conn| conn.phase == Phase::Open && conn.outbox.room() > 0)
    }

    /// No more events from it until [`resume`](Self::resume): the host stops reading, so that
    /// the peer has to wait.
    pub fn pause(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            conn.paused = true;
            self.touch(id);
        }
    }

    /// Undoes a [`pause`](Self::pause).
    pub fn resume(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            conn.paused = false;
            self.touch(id);
        }
    }

    /// Asks the host for something; `handle_reply` follows.
    pub fn request(&mut self, effect: Effect) -> RequestId {
        let id = RequestId(self.requests);
        self.requests = self.requests.saturating_add(1);
        self.pending.insert(id);
        self.actions.push_back(Action::Request(id, effect));
        id
    }

    /// No reply is wanted any more; none follows. A file that was opened meanwhile is released.
    pub fn cancel(&mut self, id: RequestId) {
        if self.pending.remove(&id) {
            self.actions.push_back(Action::Cancel(id));
        }
    }

    /// Closes a file: now, or once all that `after` has queued so far is sent.
    pub fn release(&mut self, file: FileId, after: Option<ConnId>) {
        match after.and_then(|id| get(&mut self.slots, id)) {
            Some(conn) if !conn.outbox.is_empty() => {
                conn.releases.push((conn.outbox.total(), file));
            }
            _ => self.actions.push_back(Action::Release(file)),
        }
    }

    /// Ends a connection: sends what is queued, closes the sending half, waits a little for
    /// the peer. `handle_closed` follows.
    pub fn close(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            if matches!(conn.phase, Phase::Open | Phase::Dialling) {
                conn.phase = Phase::Ended;
                self.ended.push_back(id);
            }
        }
    }

    /// Cuts a connection: what is queued is lost, the peer sees a reset. `handle_closed` follows.
    pub fn abort(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            conn.outbox = Outbox::new(0);
            conn.aborted = true;
            self.touch(id);
        }
        self.close(id);
    }

    /// Ends the run: the host accepts no more and returns once every connection is gone.
    pub fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.actions.push_back(Action::Stop);
        }
    }

    /// The same, but peers who wait to be accepted as it is called are still served: they have a
    /// connection, and may have sent a request. [`Service::accept`](crate::Service::accept) is asked
    /// for each of them.
    pub fn drain(&mut self) {
        self.draining = !self.stopping;
        self.stop();
    }

    /// How many connections there are, those that are closing included.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The other end of a connection, once it stands.
    pub fn peer(&self, id: ConnId) -> Option<&Peer> {
        self.conn(id)?.peer.as_ref()
    }

    /// The machine of a connection, to look at.
    pub fn machine(&self, id: ConnId) -> Option<&M> {
        self.conn(id).map(|conn| &conn.machine)
    }

    pub(crate) fn insert(&mut self, machine: M, peer: Option<Peer>, phase: Phase) -> ConnId {
        let conn = Conn {
            machine,
            peer,
            outbox: Outbox::new(self.limits.mark),
            carry: Carry::default(),
            phase,
            need: Need::Input,
            timer: None,
            cut_at: Instant::default(),
            eof: false,
            paused: false,
            dirty: false,
            writing: false,
            shut: false,
            aborted: false,
            state: "",
            full: false,
            suspended: false,
            releases: Vec::new(),
        };
        self.open = self.open.saturating_add(1);
        if let Some(index) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.conn = Some(conn);
                return ConnId { index, generation: slot.generation };
            }
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        if self.slots.len() == self.slots.capacity() {
            // By an eighth: doubling would hold up to twice the memory of what is there.
            self.slots.reserve_exact(self.slots.len().checked_div(8).unwrap_or(0).max(16));
        }
        self.slots.push(Slot { generation: 0, conn: Some(conn) });
        ConnId { index, generation: 0 }
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn<M>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let conn = slot.conn.take()?;
        // A place whose generations are used up is given up, so that no id comes twice.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(id.index);
        }
        self.open = self.open.saturating_sub(1);
        Some(conn)
    }

    /// Has the shard look at it again before the host's call returns.
    fn touch(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push_back(id);
            }
        }
    }

    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn<M>> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation == id.generation { slot.conn.as_ref() } else { None }
    }

    /// A connection whose machine may put into its outbox now. Once it has,
    /// [`take_back`](Self::take_back) what it does not need.
    pub(crate) fn lend(&mut self, id: ConnId) -> Option<&mut Conn<M>> {
        let conn = get(&mut self.slots, id)?;
        self.spares.lend(&mut conn.outbox);
        Some(conn)
    }

    /// Takes the memory of its outbox, if that is empty.
    pub(crate) fn take_back(&mut self, id: ConnId) {
        if let Some(conn) = get(&mut self.slots, id) {
            self.spares.take_back(&mut conn.outbox);
        }
    }

    pub(crate) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn<M>> {
        get(&mut self.slots, id)
    }

    /// All connections, those that are dialled or closing included, in the order of their index.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.conn.is_some()).map(
            |(index, slot)| ConnId {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                generation: slot.generation,
            },
        )
    }
}

/// Places a queue keeps when it is empty; the memory of a burst is given back.
const KEPT: usize = 1024;

/// Takes the front of a queue.
pub(crate) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let front = queue.pop_front();
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
    front
}

fn get<M>(slots: &mut [Slot<M>], id: ConnId) -> Option<&mut Conn<M>> {
    let slot = slots.get_mut(id.index as usize)?;
    if slot.generation == id.generation { slot.conn.as_mut() } else { None }
}
