//! The hosts of plain threads: two for each connection, for embedders and small servers; one for
//! datagrams.
//!
//! It takes a service as any host does, and needs no event loop of the system, only blocking
//! calls; up to about 1,000 connections that is a fair price. One lock holds the shard: a thread
//! waits for its socket without it, and takes it to move the bytes and to call the shard. Every
//! call is a turn of its own.

mod datagram;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::thread::{self, Scope};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use semfio_machine::{
    Action, ConnId, Effect, Failure, Instant, Now, OwnedReply, Peer, RequestId, Service, Shard,
    StreamMachine, Target,
};
pub use semfio_runtime_os::Handle;
use semfio_runtime_os::tcp::{self, Acceptor, REST};
use semfio_runtime_os::{Clock, Files, HostConfig, Worker, failure, write_outbox};

pub use datagram::Datagrams;

/// How often a thread that waits for leave to read or to write looks whether its connection is
/// broken or gone.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Messages handed over before others get the lock.
const MESSAGES: usize = 256;

/// Reports that may wait for the application before nothing more is read.
const REPORTS: usize = 4096;

/// Drives one [`Shard`] with threads.
///
/// The thread that calls [`run`](Self::run) fires timers and hands over messages, replies and
/// reports; one thread for each listener accepts; two threads for each connection read and write.
/// All have ended when `run` returns.
///
/// It stops reading where the shard says so, and notices a reset there within a quarter of a
/// second. Without descriptors left it takes peers and closes them at once; each listener keeps
/// one for that.
pub struct Host<M: StreamMachine, S: Service<M>> {
    listeners: Vec<TcpListener>,
    handle: Handle<S::Message>,
    messages: Receiver<S::Message>,
    shared: Shared<M, S>,
}

/// Wakes the thread of [`Host::run`].
#[derive(Debug, Default)]
struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

struct Shared<M: StreamMachine, S: Service<M>> {
    clock: Clock,
    source: Option<SocketAddr>,
    files: Arc<Files>,
    signal: Arc<Signal>,
    state: Mutex<State<M, S>>,
    /// Reports were taken.
    drained: Condvar,
}

struct State<M: StreamMachine, S: Service<M>> {
    shard: Shard<M, S>,
    /// By `ConnId::index`.
    conns: Vec<Option<Conn>>,
    /// What to shut down at the end, so that nobody waits for a peer.
    listeners: Vec<TcpListener>,
    scratch: Vec<u8>,
    reports: VecDeque<S::Report>,
    effects: Worker<RequestId>,
    /// Apart, since a slow name server must not hold up files.
    names: Worker<Lookup>,
    /// What went wrong inside a call; told by the thread of `run`, so that a service that dials
    /// again and again does not keep the lock.
    failed: Vec<(ConnId, Failure)>,
    /// While this stands, a thread waits for changes of what is watched.
    watching: Option<UnixStream>,
    /// When the thread of `run` wakes by itself.
    wakes_at: Option<Instant>,
    stopped: bool,
    /// A thread has panicked; the others end.
    broken: bool,
}

struct Conn {
    id: ConnId,
    /// None while it is dialled.
    socket: Option<Arc<Socket>>,
}

struct Socket {
    stream: TcpStream,
    may_read: Condvar,
    may_write: Condvar,
}

/// A name to look up, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lookup {
    Request(RequestId),
    Dial(ConnId),
}

type Locked<'l, M, S> = MutexGuard<'l, State<M, S>>;

impl<M, S> Host<M, S>
where
    M: StreamMachine + Send,
    S: Service<M> + Send,
    S::Message: Send,
    S::Report: Send,
{
    /// A host that is ready to listen and to run. `reads_per_turn` means nothing here.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn new(shard: Shard<M, S>, config: HostConfig) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let (handle, messages) = Handle::new(config.queue, Arc::clone(&signal).into());
        let (roots, files) = (Arc::new(config.roots), Arc::new(Files::new(config.files)));
        let notify = || {
            let signal = Arc::clone(&signal);
            move || signal.set()
        };
        let state = State {
            shard,
            conns: Vec::new(),
            listeners: Vec::new(),
            scratch: vec![0; config.scratch.max(1)],
            reports: VecDeque::new(),
            effects: Worker::new(Arc::clone(&roots), Arc::clone(&files), config.queue, notify()),
            names: Worker::new(roots, Arc::clone(&files), config.queue, notify()),
            failed: Vec::new(),
            watching: None,
            wakes_at: None,
            stopped: false,
            broken: false,
        };
        Ok(Self {
            listeners: Vec::new(),
            handle,
            messages,
            shared: Shared {
                clock: config.clock,
                source: config.source,
                files,
                signal,
                state: Mutex::new(state),
                drained: Condvar::new(),
            },
        })
    }

    /// Listens on an address, and says on which: port 0 lets the system choose. May be called
    /// more than once.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.serve(tcp::listen(address, tcp::Port::Alone)?)
    }

    /// Accepts from a socket that listens already: one that shares its port with other shards,
    /// or was inherited.
    pub fn serve(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        self.shared.state().listeners.push(listener.try_clone()?);
        self.listeners.push(listener);
        Ok(address)
    }

    /// A way to send messages to the service.
    pub fn handle(&self) -> Handle<S::Message> {
        self.handle.clone()
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Runs until the service has stopped and every connection is gone, and gives it back.
    ///
    /// `on_report` is called in this thread; it may use [`Handle::try_send`], but
    /// [`Handle::send`] could wait for itself.
    ///
    /// # Errors
    ///
    /// If the system gives no thread for a listener. What befalls a connection is told to the
    /// service.
    pub fn run(self, mut on_report: impl FnMut(S::Report)) -> io::Result<S> {
        let Self { listeners, messages, shared, handle } = self;
        drop(handle);
        let shared_ref = &shared;
        thread::scope(|scope| {
            // Also if a report panics: no thread may wait for ever.
            let _guard = EndAll(shared_ref);
            for listener in listeners {
                shared_ref.spawn(scope, move || shared_ref.accept(scope, &listener))?;
            }
            shared_ref.serve_application(scope, &messages, &mut on_report);
            io::Result::Ok(())
        })?;
        let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(state.shard.into_service())
    }
}

/// Ends all threads when it is dropped.
struct EndAll<'h, M: StreamMachine, S: Service<M>>(&'h Shared<M, S>);

impl<M: StreamMachine, S: Service<M>> Drop for EndAll<'_, M, S> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.stop_listening();
        state.watching = None;
        for conn in state.conns.iter_mut().filter_map(Option::take) {
            conn.end(false);
        }
        self.0.drained.notify_all();
    }
}

impl<M: StreamMachine, S: Service<M>> Shared<M, S> {
    fn state(&self) -> Locked<'_, M, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another thread may find after the lock was given up to wait.
    fn wait<'l>(
        &self,
        condvar: &Condvar,
        state: Locked<'l, M, S>,
        at_most: Duration,
    ) -> Locked<'l, M, S> {
        condvar.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl<M, S> Shared<M, S>
where
    M: StreamMachine + Send,
    S: Service<M> + Send,
    S::Message: Send,
    S::Report: Send,
{
    /// Calls the shard, closes the turn, and has done what was asked.
    fn call<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        call: impl FnOnce(&mut Shard<M, S>, Now),
    ) {
        let now = self.clock.now();
        call(&mut state.shard, now);
        self.carry_out(scope, state);
        // What was carried out may have called it again, later.
        state.shard.handle_turn(self.clock.now());
        self.carry_out(scope, state);
        while let Some(report) = state.shard.poll_report() {
            state.reports.push_back(report);
        }
        let earlier = state
            .shard
            .poll_timeout()
            .is_some_and(|next| state.wakes_at.is_none_or(|at| next.at < at));
        if earlier || !state.reports.is_empty() || state.shard.is_over() {
            self.signal.set();
        }
    }

    /// The work of the thread that called [`Host::run`].
    fn serve_application<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        messages: &Receiver<S::Message>,
        on_report: &mut impl FnMut(S::Report),
    ) {
        loop {
            let mut state = self.state();
            for message in messages.try_iter().take(MESSAGES) {
                self.signal.set();
                self.call(scope, &mut state, |shard, now| {
                    shard.handle_message(now, message);
                });
            }
            self.fetch(scope, &mut state);
            for (id, failure) in std::mem::take(&mut state.failed) {
                self.fail(scope, &mut state, id, failure);
            }
            let now = self.clock.now();
            let next = state.shard.poll_timeout();
            if next.is_some_and(|deadline| deadline.at <= now.mono) {
                self.call(scope, &mut state, |shard, now| shard.handle_timeout(now));
            }
            let next = state.shard.poll_timeout();
            state.wakes_at = next.map(|deadline| deadline.at);
            let over = state.shard.is_over() || state.broken;
            let reports = std::mem::take(&mut state.reports);
            drop(state);
            self.drained.notify_all();
            reports.into_iter().for_each(&mut *on_report);
            if over {
                return;
            }
            self.signal.wait(next.map(|next| Clock::until(now, next)));
        }
    }

    /// Hands over the replies that have come.
    fn fetch<'s>(&'s self, scope: &'s Scope<'s, '_>, state: &mut State<M, S>) {
        while let Some((id, reply)) = state.effects.try_next() {
            self.reply(scope, state, id, &reply);
        }
        while let Some((lookup, reply)) = state.names.try_next() {
            match (lookup, reply) {
                (Lookup::Request(id), reply) => self.reply(scope, state, id, &reply),
                (Lookup::Dial(id), OwnedReply::Resolved(addresses)) => {
                    self.dial(scope, state, id, addresses);
                }
                (Lookup::Dial(id), OwnedReply::Failed(failure)) => {
                    self.fail(scope, state, id, failure);
                }
                (Lookup::Dial(id), _) => self.fail(scope, state, id, Failure::Other),
            }
        }
    }

    fn reply<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        id: RequestId,
        reply: &OwnedReply,
    ) {
        self.call(scope, state, |shard, now| {
            shard.handle_reply(now, id, reply.as_reply());
        });
    }

    fn tell_changes<'s>(&'s self, scope: &'s Scope<'s, '_>, state: &mut State<M, S>) {
        let mut changed = Vec::new();
        state.effects.changed(&mut changed);
        for id in changed {
            self.reply(scope, state, id, &OwnedReply::Done);
        }
    }

    /// The work of the thread that waits for changes.
    fn watch<'s>(&'s self, scope: &'s Scope<'s, '_>, watches: &OwnedFd, end: &UnixStream) {
        loop {
            let both = &mut [PollFd::new(watches, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            let _ = rustix::event::poll(both, None);
            let mut state = self.state();
            if state.watching.is_none() {
                return;
            }
            self.tell_changes(scope, &mut state);
        }
    }

    /// Starts that thread once there is something to wait for.
    fn start_watching<'s>(&'s self, scope: &'s Scope<'s, '_>, state: &mut State<M, S>) {
        let Some(watches) = state.effects.watches().filter(|_| state.watching.is_none()) else {
            return;
        };
        let started = watches.try_clone_to_owned().and_then(|watches| {
            let (ours, theirs) = UnixStream::pair()?;
            self.spawn(scope, move || self.watch(scope, &watches, &theirs))?;
            Ok(ours)
        });
        // Without it, changes are told as something is read.
        state.watching = started.ok();
    }

    /// The work of a listener's thread.
    fn accept<'s>(&'s self, scope: &'s Scope<'s, '_>, listener: &TcpListener) {
        let mut acceptor = Acceptor::new();
        loop {
            wait_for(listener, PollFlags::IN, None);
            let mut state = self.state();
            if state.stopped {
                return;
            }
            match acceptor.accept(|| accept(listener)) {
                Ok(Some((stream, peer))) => self.accepted(scope, &mut state, stream, peer),
                Ok(None) => {}
                Err(error) if is_passing(&error) => {}
                Err(_) => {
                    drop(state);
                    thread::sleep(REST);
                }
            }
        }
    }

    fn accepted<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        stream: TcpStream,
        peer: Peer,
    ) {
        if let Some(id) = state.shard.handle_accepted(self.clock.now(), peer) {
            self.start(scope, state, id, stream);
        }
        self.call(scope, state, |_, _| {});
    }

    /// Takes those who wait, and listens no more. Who comes between the two is refused with a reset.
    fn stop<'s>(&'s self, scope: &'s Scope<'s, '_>, state: &mut State<M, S>) {
        let listeners = std::mem::take(&mut state.listeners);
        for listener in &listeners {
            for _ in 0..tcp::BACKLOG {
                match accept(listener) {
                    Ok((stream, peer)) => self.accepted(scope, state, stream, peer),
                    Err(_) => break,
                }
            }
        }
        state.listeners = listeners;
        state.stop_listening();
    }

    /// The work of a connection's first thread.
    fn read<'s>(&'s self, scope: &'s Scope<'s, '_>, id: ConnId, socket: &Socket) {
        loop {
            wait_for(&socket.stream, PollFlags::IN, None);
            let mut state = self.state();
            while state.has(id) && !state.shard.wants_read(id) {
                if let Ok(Some(error)) = socket.stream.take_error() {
                    self.fail(scope, &mut state, id, failure(&error));
                } else {
                    state = self.wait(&socket.may_read, state, CHECK_INTERVAL);
                }
            }
            while state.has(id) && state.reports.len() >= REPORTS {
                state = self.wait(&self.drained, state, CHECK_INTERVAL);
            }
            if !state.has(id) {
                return;
            }
            let mut scratch = std::mem::take(&mut state.scratch);
            match (&socket.stream).read(&mut scratch) {
                Ok(0) => self.call(scope, &mut state, |shard, now| shard.handle_eof(now, id)),
                Ok(n) => {
                    // Before what was sent after the change.
                    self.tell_changes(scope, &mut state);
                    self.call(scope, &mut state, |shard, now| {
                        shard.handle_received(now, id, &mut scratch[..n]);
                    });
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => self.fail(scope, &mut state, id, failure(&error)),
            }
            state.scratch = scratch;
        }
    }

    /// The work of a connection's second thread.
    fn write<'s>(&'s self, scope: &'s Scope<'s, '_>, id: ConnId, socket: &Socket) {
        let mut state = self.state();
        loop {
            if !state.has(id) {
                return;
            }
            let State { shard, scratch, .. } = &mut *state;
            let Some(outbox) = shard.outbox(id).filter(|outbox| !outbox.is_empty()) else {
                let waited = socket.may_write.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            match write_outbox(&socket.stream, outbox, &self.files, scratch) {
                Ok(n) => self.call(scope, &mut state, |shard, now| {
                    shard.handle_sent(now, id, n);
                }),
                Err(error) if is_passing(&error) => {}
                Err(error) => self.fail(scope, &mut state, id, failure(&error)),
            }
            if state.shard.outbox(id).is_some_and(|out| !out.is_empty()) {
                // Others get the lock, whether the socket is full or not.
                drop(state);
                wait_for(&socket.stream, PollFlags::OUT, Some(CHECK_INTERVAL));
                state = self.state();
            }
        }
    }

    /// The work of a dial's thread, which then reads.
    fn connect<'s>(&'s self, scope: &'s Scope<'s, '_>, id: ConnId, addresses: Vec<SocketAddr>) {
        let mut last = Failure::NotFound;
        for address in addresses {
            match tcp::connect(address, self.source) {
                Ok(stream) => {
                    let answer = loop {
                        wait_for(&stream, PollFlags::OUT, Some(CHECK_INTERVAL));
                        if !self.state().has(id) {
                            return;
                        }
                        match tcp::connected(&stream) {
                            Ok(None) => {}
                            Ok(Some(peer)) => break Ok(peer),
                            Err(error) => break Err(error),
                        }
                    };
                    match answer {
                        Ok(peer) => {
                            let mut state = self.state();
                            if state.has(id) {
                                self.start(scope, &mut state, id, stream);
                                self.call(scope, &mut state, |shard, now| {
                                    shard.handle_connected(now, id, peer);
                                });
                            }
                            return;
                        }
                        Err(error) => last = failure(&error),
                    }
                }
                Err(error) => last = failure(&error),
            }
        }
        let mut state = self.state();
        if state.has(id) {
            self.fail(scope, &mut state, id, last);
        }
    }

    /// Enters a connection that stands, and gives it its threads.
    fn start<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        id: ConnId,
        stream: TcpStream,
    ) {
        let socket =
            Arc::new(Socket { stream, may_read: Condvar::new(), may_write: Condvar::new() });
        let (reader, writer) = (Arc::clone(&socket), Arc::clone(&socket));
        state.insert(id, Some(socket));
        let started = self
            .spawn(scope, move || self.read(scope, id, &reader))
            .and_then(|()| self.spawn(scope, move || self.write(scope, id, &writer)));
        if let Err(error) = started {
            state.failed.push((id, failure(&error)));
            self.signal.set();
        }
    }

    fn dial<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        id: ConnId,
        addresses: Vec<SocketAddr>,
    ) {
        if let Err(error) = self.spawn(scope, move || self.connect(scope, id, addresses)) {
            state.failed.push((id, failure(&error)));
            self.signal.set();
        }
    }

    fn fail<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        state: &mut State<M, S>,
        id: ConnId,
        failure: Failure,
    ) {
        if let Some(socket) = state.socket(id) {
            // Where only we know of the failure, the peer must not take the end for a good one.
            tcp::set_reset(&socket.stream);
        }
        self.call(scope, state, |shard, now| shard.handle_failed(now, id, failure));
    }

    fn carry_out<'s>(&'s self, scope: &'s Scope<'s, '_>, state: &mut State<M, S>) {
        while let Some(action) = state.shard.poll_action() {
            match action {
                Action::Dial(id, target) => {
                    state.insert(id, None);
                    match target {
                        Target::Address(address) => self.dial(scope, state, id, vec![address]),
                        Target::Name(name, port) => {
                            let effect = Effect::Resolve { name, port };
                            state.names.submit(Lookup::Dial(id), effect);
                        }
                    }
                }
                Action::Write(id) => {
                    if let Some(socket) = state.socket(id) {
                        socket.may_write.notify_one();
                    }
                }
                Action::Shutdown(id) => {
                    if let Some(socket) = state.socket(id) {
                        // If it fails, the connection is broken, which reading will show.
                        let _ = socket.stream.shutdown(Shutdown::Write);
                    }
                }
                Action::Read(id) => {
                    if let Some(socket) = state.socket(id) {
                        socket.may_read.notify_one();
                    }
                }
                Action::Close { conn, reset } => {
                    state.names.cancel(Lookup::Dial(conn));
                    if let Some(conn) = state.take(conn) {
                        conn.end(reset);
                    }
                }
                Action::Request(id, effect @ Effect::Resolve { .. }) => {
                    state.names.submit(Lookup::Request(id), effect);
                }
                Action::Request(id, effect) => {
                    state.effects.submit(id, effect);
                    self.start_watching(scope, state);
                }
                Action::Cancel(id) => {
                    state.effects.cancel(id);
                    state.names.cancel(Lookup::Request(id));
                }
                Action::Release(file) => self.files.release(file),
                Action::Stop => self.stop(scope, state),
            }
        }
    }

    fn spawn<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        work: impl FnOnce() + Send + 's,
    ) -> io::Result<()> {
        thread::Builder::new()
            .name("semfio-blocking".into())
            .spawn_scoped(scope, move || {
                let _guard = OnPanic(self);
                work();
            })
            .map(drop)
    }
}

/// Tells the thread of `run` if this one panics.
struct OnPanic<'h, M: StreamMachine, S: Service<M>>(&'h Shared<M, S>);

impl<M: StreamMachine, S: Service<M>> Drop for OnPanic<'_, M, S> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state().broken = true;
            self.0.signal.set();
        }
    }
}

impl<M: StreamMachine, S: Service<M>> State<M, S> {
    fn insert(&mut self, id: ConnId, socket: Option<Arc<Socket>>) {
        let place = id.index as usize;
        if place >= self.conns.len() {
            self.conns.resize_with(place + 1, || None);
        }
        self.conns[place] = Some(Conn { id, socket });
    }

    fn conn(&self, id: ConnId) -> Option<&Conn> {
        let conn = self.conns.get(id.index as usize)?.as_ref()?;
        (conn.id == id).then_some(conn)
    }

    fn has(&self, id: ConnId) -> bool {
        self.conn(id).is_some()
    }

    fn socket(&self, id: ConnId) -> Option<&Socket> {
        self.conn(id)?.socket.as_deref()
    }

    fn take(&mut self, id: ConnId) -> Option<Conn> {
        let place = self.conns.get_mut(id.index as usize)?;
        place.take_if(|conn| conn.id == id)
    }

    fn stop_listening(&mut self) {
        self.stopped = true;
        for listener in self.listeners.drain(..) {
            // Wakes the thread that accepts.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
    }
}

impl Conn {
    /// Has its threads end; the last one closes the socket.
    fn end(self, reset: bool) {
        let Some(socket) = self.socket else {
            return;
        };
        let how = if reset {
            // The other half is cut by the reset, not closed before it.
            tcp::set_reset(&socket.stream);
            Shutdown::Read
        } else {
            Shutdown::Both
        };
        let _ = socket.stream.shutdown(how);
        socket.may_read.notify_one();
        socket.may_write.notify_one();
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

impl Signal {
    fn set(&self) {
        *self.lock() = true;
        self.changed.notify_one();
    }

    /// Waits for a [`set`](Self::set) since the last wait, or for the time to pass.
    fn wait(&self, at_most: Option<Duration>) {
        let set = self.lock();
        let mut set = match at_most {
            Some(time) => {
                let waited = self.changed.wait_timeout_while(set, time, |set| !*set);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait_while(set, |set| !*set);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        *set = false;
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, peer) = tcp::accept(listener)?;
    stream.set_nonblocking(true)?;
    Ok((stream, peer))
}

/// Waits until a socket is ready or broken, or the time has passed. It may also return early.
fn wait_for(socket: impl AsFd, flags: PollFlags, at_most: Option<Duration>) {
    let at_most = at_most.and_then(|time| Timespec::try_from(time).ok());
    let _ = rustix::event::poll(&mut [PollFd::new(&socket, flags)], at_most.as_ref());
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
