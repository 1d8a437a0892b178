//! Streams.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io::{self, Read};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Async;
use semfio_machine::{
    Action, ConnId, Deadline, Effect, Failure, Instant, Now, OwnedReply, Peer, RequestId, Service,
    Shard, StreamMachine, Target,
};
use semfio_runtime_os::tcp::{self, Acceptor, Port, REST};
use semfio_runtime_os::{Clock, Content, Files, Handle, HostConfig, Worker, failure, write_read};

use crate::alarm::Alarm;
use crate::ready::{Ready, Source, arm};
use crate::spans::Spans;

/// Turns in one poll of the future, before the executor and the reactor get their share.
const TURNS: usize = 8;

/// Writes for one connection in a turn, so that a fast reader does not hold up the others.
const WRITES: usize = 16;

/// Peers accepted by one listener in a turn, for the same reason.
const ACCEPTS: usize = 64;

/// While paths are watched, connections are read from one after the other as long as so much of the
/// scratch is left, and then looked whether anything has changed: one system call for all of them.
const ROOM: usize = 16 * 1024;

/// How often connections that are not read are asked whether they still stand. The reactor
/// cannot wait for errors alone.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Drives a shard over TCP, in one future.
///
/// [`listen`](Self::listen) as often as needed, then await [`run`](Self::run). A turn reads each
/// ready connection once, tells what was watched and has changed before what was sent later, then does what is due, hands over messages and replies, calls
/// `handle_turn` once, and then writes: at once, waiting for the socket only if it is full. What is
/// to be sent of files is read by the threads of `blocking` first, eight at once. After each call
/// the shard's actions are carried out, only writes wait for their time.
///
/// It stops reading where the shard says so, and notices a reset there within a quarter of a
/// second. Whatever `accept` says, it goes on listening: without descriptors left it takes peers
/// and closes them at once, with one kept for that.
pub struct Host<M: StreamMachine, S: Service<M>> {
    shard: Shard<M, S>,
    clock: Clock,
    source: Option<SocketAddr>,
    now: Now,
    ready: Arc<Ready>,
    woken: Vec<Source>,
    listeners: Vec<Listener>,
    acceptor: Acceptor,
    accept_again: Option<Instant>,
    sockets: Vec<Option<Socket>>,
    /// To be read in the next turn; each at most once.
    reads: VecDeque<ConnId>,
    reads_per_turn: usize,
    /// To be written in this turn; each at most once.
    writes: VecDeque<ConnId>,
    /// Neither read nor waited for, since the shard wants nothing from them.
    parked: BTreeSet<ConnId>,
    check_at: Option<Instant>,
    /// Dials that failed at once; told in the next turn, so that a service that dials again
    /// and again does not hold up the others.
    failed: Vec<(ConnId, Failure)>,
    scratch: Vec<u8>,
    alarm: Alarm,
    files: Arc<Files>,
    spans: Spans,
    file_worker: Worker<RequestId>,
    name_worker: Worker<Lookup>,
    /// What to wait for once something is watched, and whether it was woken.
    watches: Option<Async<OwnedFd>>,
    watches_ready: bool,
    /// What was read from whom and is not handed over yet; the bytes lie in `scratch`.
    heard: Vec<(ConnId, Range<usize>)>,
    handle: Handle<S::Message>,
    messages: Receiver<S::Message>,
    /// As many messages as this are handed over in a turn.
    queue: usize,
    /// Whether the service was called since the last `handle_turn`.
    touched: bool,
}

struct Listener {
    socket: Async<TcpListener>,
    waker: Waker,
    ready: bool,
}

struct Socket {
    id: ConnId,
    stream: Async<TcpStream>,
    read_waker: Waker,
    /// Made when the socket is full for the first time.
    write_waker: Option<Waker>,
    /// A dial, and the addresses that are left to try.
    dial: Option<VecDeque<SocketAddr>>,
}

/// A name to look up, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lookup {
    Request(RequestId),
    Dial(ConnId),
}

impl<M: StreamMachine, S: Service<M>> Host<M, S> {
    /// A host that is ready to listen and to run.
    pub fn new(shard: Shard<M, S>, config: HostConfig) -> io::Result<Self> {
        let ready = Arc::new(Ready::default());
        let (handle, messages) = Handle::new(config.queue, ready.waker(Source::Outside));
        let (roots, files) = (Arc::new(config.roots), Arc::new(Files::new(config.files)));
        let notify = || {
            let waker = ready.waker(Source::Outside);
            move || waker.wake_by_ref()
        };
        Ok(Self {
            file_worker: Worker::new(
                Arc::clone(&roots),
                Arc::clone(&files),
                config.queue,
                notify(),
            ),
            name_worker: Worker::new(roots, Arc::clone(&files), config.queue, notify()),
            watches: None,
            watches_ready: false,
            heard: Vec::new(),
            handle,
            messages,
            queue: config.queue,
            shard,
            now: config.clock.now(),
            clock: config.clock,
            source: config.source,
            ready,
            woken: Vec::new(),
            listeners: Vec::new(),
            acceptor: Acceptor::new(),
            accept_again: None,
            sockets: Vec::new(),
            reads: VecDeque::new(),
            reads_per_turn: config.reads_per_turn.max(1),
            writes: VecDeque::new(),
            parked: BTreeSet::new(),
            check_at: None,
            failed: Vec::new(),
            scratch: vec![0; config.scratch.max(1)],
            alarm: Alarm::new(),
            files,
            spans: Spans::new(config.scratch.max(1), Content::read),
            touched: false,
        })
    }

    /// Listens on an address, and says on which: port 0 lets the system choose. May be called
    /// more than once.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.serve(tcp::listen(address, Port::Alone)?)
    }

    /// Accepts from a socket that listens already: one that shares its port with other shards,
    /// or was inherited.
    pub fn serve(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        self.listeners.push(Listener {
            socket: Async::new(listener)?,
            waker: self.ready.waker(Source::Listener(self.listeners.len())),
            ready: true,
        });
        Ok(address)
    }

    /// A way to send messages to the service.
    pub fn handle(&self) -> Handle<S::Message> {
        self.handle.clone()
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Runs until the service has asked to stop and no connection is left; gives it back.
    /// `on_report` is told what the service reports, between turns.
    ///
    /// Dropped before its end, it closes all connections.
    ///
    /// # Errors
    ///
    /// None today. What befalls a connection is told to the service.
    pub async fn run(mut self, mut on_report: impl FnMut(S::Report)) -> io::Result<S> {
        poll_fn(|cx| self.poll(cx, &mut on_report)).await;
        Ok(self.shard.into_service())
    }

    fn poll(&mut self, cx: &mut Context<'_>, on_report: &mut impl FnMut(S::Report)) -> Poll<()> {
        for _ in 0..TURNS {
            self.take_woken(cx.waker());
            self.turn();
            while let Some(report) = self.shard.poll_report() {
                on_report(report);
            }
            if self.shard.is_over() {
                return Poll::Ready(());
            }
            if !self.is_busy() && self.poll_alarm(cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_woken(&mut self, parent: &Waker) {
        let mut woken = mem::take(&mut self.woken);
        self.ready.take(parent, &mut woken);
        for source in woken.drain(..) {
            match source {
                Source::Listener(place) => {
                    if let Some(listener) = self.listeners.get_mut(place) {
                        listener.ready = true;
                    }
                }
                Source::Read(id) => self.reads.push_back(id),
                Source::Write(id) => self.writes.push_back(id),
                Source::Watches => self.watches_ready = true,
                Source::Outside => {}
            }
        }
        self.woken = woken;
    }

    fn turn(&mut self) {
        self.now = self.clock.now();
        self.accept();
        self.read();
        self.check_parked();
        let due = |deadline: Deadline| deadline.at <= self.now.mono;
        if self.shard.poll_timeout().is_some_and(due) {
            self.touched = true;
            self.shard.handle_timeout(self.now);
            self.carry_out();
        }
        for (id, failure) in mem::take(&mut self.failed) {
            self.fail(id, failure);
        }
        self.hand_over();
        if mem::take(&mut self.touched) {
            self.shard.handle_turn(self.now);
            self.carry_out();
            self.touched = false;
        }
        self.writes.extend(self.spans.next());
        for _ in 0..self.writes.len() {
            if let Some(id) = self.writes.pop_front() {
                self.write(id);
            }
        }
    }

    /// Whether the next turn has something to do at once.
    fn is_busy(&self) -> bool {
        self.touched
            || !self.reads.is_empty()
            || !self.writes.is_empty()
            || !self.failed.is_empty()
            || self.spans.next().is_some()
            || (self.accept_again.is_none() && self.listeners.iter().any(|l| l.ready))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let service = self.shard.poll_timeout().map(|deadline| deadline.at);
        let next = [service, self.accept_again, self.check_at];
        self.alarm.poll(cx, self.clock, next.into_iter().flatten().min())
    }

    fn accept(&mut self) {
        if let Some(at) = self.accept_again {
            if at > self.now.mono {
                return;
            }
            self.accept_again = None;
        }
        for place in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                match self.accept_one(place) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => {
                        let again = self.now.mono.saturating_add(REST);
                        self.accept_again = Some(again);
                        return;
                    }
                }
            }
        }
    }

    /// Whether there may be another.
    fn accept_one(&mut self, place: usize) -> io::Result<bool> {
        let Some(listener) = self.listeners.get_mut(place).filter(|l| l.ready) else {
            return Ok(false);
        };
        let accepted = self.acceptor.accept(|| tcp::accept(listener.socket.get_ref()));
        let (stream, peer) = match accepted {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let cx = &mut Context::from_waker(&listener.waker);
                arm(|| listener.socket.poll_readable(cx))?;
                listener.ready = false;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.accepted(Async::new(stream)?, peer);
        Ok(true)
    }

    /// Takes those who wait, and listens no more. Who comes between the two is refused with a reset.
    fn stop(&mut self) {
        for listener in mem::take(&mut self.listeners) {
            for _ in 0..tcp::BACKLOG {
                match self.acceptor.accept(|| tcp::accept(listener.socket.get_ref())) {
                    Ok(Some((stream, peer))) => {
                        if let Ok(stream) = Async::new(stream) {
                            self.accepted(stream, peer);
                        }
                    }
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
    }

    fn accepted(&mut self, stream: Async<TcpStream>, peer: Peer) {
        self.touched = true;
        if let Some(id) = self.shard.handle_accepted(self.now, peer) {
            self.insert(id, stream, None);
            self.wait_to_read(id);
        }
        self.carry_out();
    }

    fn read(&mut self) {
        let mut left = self.reads.len().min(self.reads_per_turn);
        loop {
            left -= self.read_some(left);
            self.tell_changes();
            self.hand_heard();
            if left == 0 {
                break;
            }
        }
    }

    /// Reads from the next connection, or, while paths are watched, from several; gives how many of
    /// `most` it has looked at.
    fn read_some(&mut self, most: usize) -> usize {
        let several = self.file_worker.is_watching();
        let (mut looked, mut filled) = (0, 0);
        while looked < most
            && (filled == 0 || self.scratch.len() - filled >= ROOM)
            && (looked == 0 || several)
            && let Some(id) = self.reads.pop_front()
        {
            looked += 1;
            if let Some(bytes) = self.read_one(id, filled) {
                filled = bytes.end;
                self.heard.push((id, bytes));
            }
        }
        looked
    }

    /// One read, to the end of the scratch.
    fn read_one(&mut self, id: ConnId, filled: usize) -> Option<Range<usize>> {
        if !self.shard.wants_read(id) {
            self.park(id);
            return None;
        }
        let socket = slot(&mut self.sockets, id)?;
        let room = self.scratch.get_mut(filled..).unwrap_or_default();
        match socket.stream.get_ref().read(room) {
            Ok(n) => return Some(filled..filled + n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_to_read(id),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.reads.push_back(id),
            Err(error) => self.fail(id, failure(&error)),
        }
        None
    }

    /// Tells the shard what was read.
    fn hand_heard(&mut self) {
        let mut heard = mem::take(&mut self.heard);
        for (id, bytes) in heard.drain(..) {
            // One that was read before it may have closed this one.
            if slot(&mut self.sockets, id).is_none() {
                continue;
            }
            self.touched = true;
            if bytes.is_empty() {
                self.shard.handle_eof(self.now, id);
                self.carry_out();
                self.park(id);
            } else {
                let bytes = self.scratch.get_mut(bytes).unwrap_or_default();
                self.shard.handle_received(self.now, id, bytes);
                // Before the reactor is asked: while this turn writes, more may come.
                self.reads.push_back(id);
                self.carry_out();
            }
        }
        self.heard = heard;
    }

    /// What was watched and has changed: before anything that was sent after the change.
    fn tell_changes(&mut self) {
        let woken = mem::take(&mut self.watches_ready);
        if !woken && !self.file_worker.is_watching() {
            return;
        }
        let mut changed = Vec::new();
        self.file_worker.changed(&mut changed);
        if woken {
            self.wait_for_changes();
        }
        for id in changed {
            self.reply(id, &OwnedReply::Done);
        }
    }

    /// Wakes the future when something that is watched has changed.
    fn wait_for_changes(&mut self) {
        if self.watches.is_none() {
            let watches = self.file_worker.watches().map(|fd| fd.try_clone_to_owned());
            self.watches = watches.and_then(|fd| fd.and_then(Async::new).ok());
        }
        if let Some(watches) = &self.watches {
            let waker = self.ready.waker(Source::Watches);
            // Should it fail, changes are told when something else is read.
            let _ = arm(|| watches.poll_readable(&mut Context::from_waker(&waker)));
        }
    }

    /// Asks those that are not read whether a reset has come.
    fn check_parked(&mut self) {
        if self.check_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        let mut broken = Vec::new();
        for &id in &self.parked {
            if let Some(socket) = slot(&mut self.sockets, id) {
                let error = socket.stream.get_ref().take_error();
                broken.extend(error.unwrap_or_else(Some).map(|error| (id, error)));
            }
        }
        for (id, error) in broken {
            self.fail(id, failure(&error));
        }
        self.check_at = None;
        self.plan_check();
    }

    /// Messages and replies.
    fn hand_over(&mut self) {
        for _ in 0..self.queue {
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            self.touched = true;
            self.shard.handle_message(self.now, message);
            self.carry_out();
        }
        while let Some((id, reply)) = self.file_worker.try_next() {
            self.reply(id, &reply);
        }
        while let Some((lookup, reply)) = self.name_worker.try_next() {
            match (lookup, reply) {
                (Lookup::Request(id), reply) => self.reply(id, &reply),
                (Lookup::Dial(id), OwnedReply::Resolved(addresses)) => {
                    self.connect(id, addresses.into());
                    self.carry_out();
                }
                (Lookup::Dial(id), OwnedReply::Failed(failure)) => self.fail(id, failure),
                (Lookup::Dial(id), _) => self.fail(id, Failure::Other),
            }
        }
    }

    fn reply(&mut self, id: RequestId, reply: &OwnedReply) {
        self.touched = true;
        self.shard.handle_reply(self.now, id, reply.as_reply());
        self.carry_out();
    }

    fn write(&mut self, id: ConnId) {
        for _ in 0..WRITES {
            if slot(&mut self.sockets, id).is_some_and(|socket| socket.dial.is_some()) {
                return self.check_dial(id);
            }
            let Poll::Ready(sent) = self.write_once(id) else {
                return;
            };
            match sent {
                Ok(0) => return,
                Ok(n) => {
                    self.touched = true;
                    self.shard.handle_sent(self.now, id, n);
                    self.carry_out();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.wait_to_write(id);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(id, failure(&error)),
            }
        }
        self.writes.push_back(id);
    }

    /// One write, for which what is in files is read elsewhere first; of nothing if nothing waits.
    fn write_once(&mut self, id: ConnId) -> Poll<io::Result<usize>> {
        let outbox = self.shard.outbox(id).filter(|outbox| !outbox.is_empty());
        let (Some(socket), Some(outbox)) = (slot(&mut self.sockets, id), outbox) else {
            self.spans.forget(id, &self.ready);
            return Poll::Ready(Ok(0));
        };
        if !self.spans.is_at_work(id) {
            let content = match Content::of(outbox, &self.files, self.spans.size()) {
                Ok(content) => content,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if content.is_empty() {
                return Poll::Ready(write_read(&socket.stream, outbox, &[]));
            }
            self.spans.read(id, content);
        }
        let waker = socket.write_waker.get_or_insert_with(|| self.ready.waker(Source::Write(id)));
        self.spans.poll(&mut Context::from_waker(waker), id).map(|read| {
            let (buffer, n) = read?;
            let sent = write_read(&socket.stream, outbox, buffer.get(..n).unwrap_or_default());
            self.spans.give_back(buffer);
            sent
        })
    }

    /// Does what the shard asks; writes are only noted.
    fn carry_out(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(id, Target::Address(address)) => {
                    self.connect(id, VecDeque::from([address]));
                }
                Action::Dial(id, Target::Name(name, port)) => {
                    let effect = Effect::Resolve { name, port };
                    self.name_worker.submit(Lookup::Dial(id), effect);
                }
                Action::Write(id) => self.writes.push_back(id),
                Action::Shutdown(id) => {
                    if let Some(socket) = slot(&mut self.sockets, id) {
                        // If it fails, the connection is broken, which reading will show.
                        let _ = socket.stream.get_ref().shutdown(Shutdown::Write);
                    }
                }
                Action::Read(id) => {
                    if self.parked.remove(&id) {
                        self.reads.push_back(id);
                    }
                }
                Action::Close { conn, reset } => self.close(conn, reset),
                Action::Request(id, effect @ Effect::Resolve { .. }) => {
                    self.name_worker.submit(Lookup::Request(id), effect);
                }
                Action::Request(id, effect) => {
                    self.file_worker.submit(id, effect);
                    if self.watches.is_none() {
                        self.wait_for_changes();
                    }
                }
                Action::Cancel(id) => {
                    self.file_worker.cancel(id);
                    self.name_worker.cancel(Lookup::Request(id));
                }
                Action::Release(file) => self.files.release(file),
                Action::Stop => self.stop(),
            }
        }
    }

    fn close(&mut self, id: ConnId, reset: bool) {
        self.parked.remove(&id);
        let Some(socket) = self
            .sockets
            .get_mut(id.index as usize)
            .and_then(|place| place.take_if(|socket| socket.id == id))
        else {
            self.name_worker.cancel(Lookup::Dial(id));
            return;
        };
        if reset {
            tcp::set_reset(&socket.stream);
        }
        self.spans.forget(id, &self.ready);
    }

    fn fail(&mut self, id: ConnId, failure: Failure) {
        if let Some(socket) = slot(&mut self.sockets, id) {
            // Where only we know of the failure, the peer must not take the end for a good one.
            tcp::set_reset(&socket.stream);
        }
        self.touched = true;
        self.shard.handle_failed(self.now, id, failure);
        self.carry_out();
    }

    /// Tries the first of `addresses` that can be tried.
    fn connect(&mut self, id: ConnId, mut addresses: VecDeque<SocketAddr>) {
        let mut last = Failure::NotFound;
        while let Some(address) = addresses.pop_front() {
            match tcp::connect(address, self.source).and_then(Async::new) {
                Ok(stream) => {
                    self.insert(id, stream, Some(addresses));
                    self.wait_to_write(id);
                    return;
                }
                Err(error) => last = failure(&error),
            }
        }
        self.failed.push((id, last));
    }

    fn check_dial(&mut self, id: ConnId) {
        let Some(socket) = slot(&mut self.sockets, id) else {
            return;
        };
        match tcp::connected(socket.stream.get_ref()) {
            Ok(Some(peer)) => self.connected(id, peer),
            Ok(None) => self.wait_to_write(id),
            Err(error) => match socket.dial.take() {
                Some(rest) if !rest.is_empty() => self.connect(id, rest),
                _ => self.fail(id, failure(&error)),
            },
        }
    }

    fn connected(&mut self, id: ConnId, peer: Peer) {
        if let Some(socket) = slot(&mut self.sockets, id) {
            socket.dial = None;
        }
        self.touched = true;
        self.shard.handle_connected(self.now, id, peer);
        self.carry_out();
        self.wait_to_read(id);
    }

    fn insert(&mut self, id: ConnId, stream: Async<TcpStream>, dial: Option<VecDeque<SocketAddr>>) {
        let place = id.index as usize;
        if place >= self.sockets.len() {
            self.sockets.resize_with(place + 1, || None);
        }
        self.sockets[place] = Some(Socket {
            id,
            stream,
            read_waker: self.ready.waker(Source::Read(id)),
            write_waker: None,
            dial,
        });
    }

    fn wait_to_read(&mut self, id: ConnId) {
        let Some(socket) = slot(&mut self.sockets, id) else {
            return;
        };
        let cx = &mut Context::from_waker(&socket.read_waker);
        if let Err(error) = arm(|| socket.stream.poll_readable(cx)) {
            self.failed.push((id, failure(&error)));
        }
    }

    fn wait_to_write(&mut self, id: ConnId) {
        let Some(socket) = slot(&mut self.sockets, id) else {
            return;
        };
        let waker = socket.write_waker.get_or_insert_with(|| self.ready.waker(Source::Write(id)));
        let cx = &mut Context::from_waker(waker);
        if let Err(error) = arm(|| socket.stream.poll_writable(cx)) {
            self.failed.push((id, failure(&error)));
        }
    }

    fn park(&mut self, id: ConnId) {
        if slot(&mut self.sockets, id).is_some() {
            self.parked.insert(id);
            self.plan_check();
        }
    }

    fn plan_check(&mut self) {
        if self.check_at.is_none() && !self.parked.is_empty() {
            self.check_at = Some(self.now.mono.saturating_add(CHECK_INTERVAL));
        }
    }
}

fn slot(sockets: &mut [Option<Socket>], id: ConnId) -> Option<&mut Socket> {
    let socket = sockets.get_mut(id.index as usize)?.as_mut()?;
    (socket.id == id).then_some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::READS;
    use semfio_machine::{Closed, FileId, FileSpan, Input, Net, NetLimits, Outbox, Refused, Step};
    use std::convert::Infallible;
    use std::io::Write;
    use std::sync::mpsc;
    use std::sync::{Condvar, Mutex};

    /// What nothing in a test takes, unless something is wrong.
    const LONG: Duration = Duration::from_secs(10);

    /// A disk that gives nothing before it is let go.
    #[derive(Default)]
    struct Disk {
        let_go: bool,
        at_work: usize,
        most: usize,
    }

    static DISK: Mutex<Disk> = Mutex::new(Disk { let_go: false, at_work: 0, most: 0 });
    static CHANGED: Condvar = Condvar::new();

    fn change(change: impl FnOnce(&mut Disk)) {
        change(&mut DISK.lock().unwrap());
        CHANGED.notify_all();
    }

    fn wait_until(is: impl Fn(&Disk) -> bool) {
        let disk = DISK.lock().unwrap();
        let (_disk, waited) = CHANGED.wait_timeout_while(disk, LONG, |disk| !is(disk)).unwrap();
        assert!(!waited.timed_out());
    }

    fn read_slowly(content: &Content, into: &mut [u8]) -> io::Result<usize> {
        change(|disk| {
            disk.at_work += 1;
            disk.most = disk.most.max(disk.at_work);
        });
        wait_until(|disk| disk.let_go);
        change(|disk| disk.at_work -= 1);
        content.read(into)
    }

    /// Tells each byte, and sends bytes and files.
    struct Bytes;

    enum Put {
        Byte(u8),
        File(FileSpan),
    }

    impl StreamMachine for Bytes {
        type Event<'i> = u8;
        type Command<'c> = Put;
        type Error = Infallible;
        const CARRIES_FILES: bool = true;

        fn max_unit(&self) -> usize {
            1
        }

        fn state(&self) -> &'static str {
            "Open"
        }

        fn handle_input<'i>(
            &mut self,
            _: Now,
            input: &mut Input<'i>,
            _: &mut Outbox,
        ) -> Result<Step<u8>, Infallible> {
            match input.peek().first() {
                Some(&byte) => {
                    input.take(1);
                    Ok(Step::Event(byte))
                }
                None if input.at_eof() => Ok(Step::Done),
                None => Ok(Step::NeedInput(1)),
            }
        }

        fn handle_command(&mut self, _: Now, put: Put, out: &mut Outbox) -> Result<(), Refused> {
            match put {
                Put::Byte(byte) => out.put(&[byte]),
                Put::File(span) => out.put_file(span),
            }
            Ok(())
        }

        fn poll_timeout(&self) -> Option<Deadline> {
            None
        }

        fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    }

    /// Sends its file to who says `f`, and back what others say; reports who is gone.
    struct Page {
        span: FileSpan,
        gone: Vec<ConnId>,
    }

    impl Service<Bytes> for Page {
        type Message = ();
        type Report = ConnId;

        fn accept(&mut self, _: Now, _: &Peer) -> Option<Bytes> {
            Some(Bytes)
        }

        fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Bytes>) {}

        fn handle_event(&mut self, _: Now, from: ConnId, byte: u8, net: &mut Net<Bytes>) {
            let put = if byte == b'f' { Put::File(self.span) } else { Put::Byte(byte) };
            net.send(from, put).unwrap();
        }

        fn handle_closed(
            &mut self,
            _: Now,
            conn: ConnId,
            _: Closed<Infallible>,
            _: &mut Net<Bytes>,
        ) {
            self.gone.push(conn);
        }

        fn handle_message(&mut self, _: Now, (): (), net: &mut Net<Bytes>) {
            net.stop();
        }

        fn poll_report(&mut self) -> Option<ConnId> {
            self.gone.pop()
        }
    }

    #[test]
    fn who_waits_for_a_slow_file_holds_up_nobody_and_has_no_more_than_its_place() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let span = FileSpan { file: FileId(0), offset: 0, len: content.len() as u64 };
        let shard = Shard::new(Page { span, gone: Vec::new() }, NetLimits::default());
        let mut host = Host::new(shard, HostConfig::default()).unwrap();
        assert_eq!(host.files.insert(file), Ok(span.file));
        host.spans = Spans::new(64 << 10, read_slowly);
        let address = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (handle, (tell, gone)) = (host.handle(), mpsc::channel());

        // Not awaited if the test fails: it would not end.
        let run = std::thread::spawn(move || {
            let run = host.run(|id| {
                let _ = tell.send(id);
            });
            async_io::block_on(run).unwrap();
        });

        let connect = || {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream
        };
        let ask = || {
            let mut stream = connect();
            stream.write_all(b"f").unwrap();
            stream
        };
        let mut other = connect();
        let mut is_answered = |byte: u8| {
            let mut answer = [0];
            other.write_all(&[byte]).unwrap();
            other.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte]);
        };
        // All that may be read at once, and three that wait behind.
        let reading: Vec<_> = (0..READS).map(|_| ask()).collect();
        wait_until(|disk| disk.at_work == READS);
        let mut waiting: Vec<_> = (0..3).map(|_| ask()).collect();
        is_answered(b'x');
        // Who is gone is forgotten, but its place is not free before the disk has answered.
        for stream in reading.into_iter().chain([waiting.remove(0)]) {
            tcp::set_reset(&stream);
            drop(stream);
            gone.recv_timeout(LONG).unwrap();
        }
        is_answered(b'y');
        // Time to err: to free a place too early.
        std::thread::sleep(Duration::from_millis(100));
        change(|disk| disk.let_go = true);
        for mut stream in waiting {
            let mut got = vec![0; content.len()];
            stream.read_exact(&mut got).unwrap();
            assert!(got == content);
        }
        assert_eq!(DISK.lock().unwrap().most, READS);
        handle.try_send(()).ok().unwrap();
        drop(other);
        run.join().unwrap();
    }
}
