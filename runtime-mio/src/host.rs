//! The event loop for streams.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use semfio_machine::{
    Action, ConnId, Deadline, Effect, Failure, Instant, Now, OwnedReply, Reply, RequestId, Service,
    Shard, StreamMachine, Target,
};
use semfio_runtime_os::tcp::{self, Acceptor, Dialler, REST};
use semfio_runtime_os::{Clock, Files, Handle, HostConfig, Worker, failure, write_outbox};

use crate::wake::waker;

/// Drives one [`Shard`] in one thread, with edge-triggered readiness.
///
/// A turn waits until something is due, reads the clock once, and calls the shard with that time
/// in this order, which other hosts keep too:
///
/// 1. `handle_accepted`; then, one read for each connection that has bytes, `handle_received`
///    and `handle_eof`; as sockets turn out so, `handle_connected` and `handle_failed`. Between a
///    read and what is told of it, `handle_reply` for each [`Effect::Watch`] whose path has changed.
/// 2. `handle_timeout`, if it is due.
/// 3. `handle_message`, for what the [`Handle`]s sent.
/// 4. `handle_reply`, for what the worker has done.
/// 5. `handle_turn`, if there was any of these.
/// 6. Writes, each followed by `handle_sent`; if there were any, 5 again.
/// 7. Reports.
///
/// After each call the shard's actions are carried out, only writes wait for 6.
///
/// It stops reading where the shard says so, and still notices a reset there. Whatever `accept`
/// says, it goes on listening: without descriptors left it takes peers and closes them at once,
/// with one kept for that.
pub struct Host<M: StreamMachine, S: Service<M>> {
    shard: Shard<M, S>,
    poll: Poll,
    clock: Clock,
    /// That of the turn.
    now: Now,
    source: Option<SocketAddr>,
    dialler: Dialler,
    scratch: Vec<u8>,
    reads_per_turn: usize,
    listeners: Vec<Listener>,
    acceptor: Acceptor,
    /// By `ConnId::index`.
    conns: Vec<Option<Conn>>,
    to_read: VecDeque<ConnId>,
    to_write: VecDeque<ConnId>,
    /// Of which the shard is yet to be told.
    failed: VecDeque<(ConnId, Failure)>,
    handle: Handle<S::Message>,
    messages: Receiver<S::Message>,
    queue: usize,
    /// Someone has called the waker, or not all results were fetched.
    woken: bool,
    files: Arc<Files>,
    effects: Worker<RequestId>,
    /// Apart, since a slow name server must not hold up files.
    names: Worker<ConnId>,
    /// The poll knows of the watches.
    watching: bool,
    changed: Vec<RequestId>,
    /// What was read from whom and is not handed over yet; the bytes lie in `scratch`.
    heard: Vec<(ConnId, io::Result<Range<usize>>)>,
    /// Whether the shard was called since its last `handle_turn`.
    busy: bool,
}

struct Listener {
    socket: TcpListener,
    /// A peer may wait.
    ready: bool,
    /// Not before this time, after an error.
    rest: Option<Instant>,
}

struct Conn {
    id: ConnId,
    stage: Stage,
}

enum Stage {
    /// The name of the peer is looked up.
    Resolving,
    /// No answer yet; the addresses still to try, the next one last.
    Dialling(TcpStream, Vec<SocketAddr>),
    Open(Open),
    /// The socket is gone, the shard knows and will say so.
    Broken,
}

struct Open {
    stream: TcpStream,
    /// An edge was seen since it was last read empty.
    readable: bool,
    /// Its queue took everything so far.
    writable: bool,
    /// An edge said that no bytes will follow those that wait.
    read_closed: bool,
    /// An edge said that there is an error to fetch.
    error: bool,
    reading: bool,
    writing: bool,
}

const WAKER: Token = Token(usize::MAX);

/// The first listener's; the next ones' go down from here.
const LISTENER: usize = usize::MAX - 2;

const WATCHES: Token = Token(usize::MAX - 1);

/// While paths are watched, connections are read from one after the other as long as so much of the
/// scratch is left, and then looked whether anything has changed: one system call for all of them.
const ROOM: usize = 16 * 1024;

/// Peers accepted from one listener in a turn.
const ACCEPTS: usize = 64;

/// Writes to one connection in a turn.
const WRITES: usize = 16;

/// Rounds of writes in a turn, before others may speak.
const ROUNDS: usize = 8;

impl<M: StreamMachine, S: Service<M>> Host<M, S> {
    /// A host that is ready to listen and to run.
    pub fn new(shard: Shard<M, S>, config: HostConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = waker(&poll, WAKER)?;
        let (handle, messages) = Handle::new(config.queue, waker.clone());
        let (roots, files) = (Arc::new(config.roots), Arc::new(Files::new(config.files)));
        let notify = || {
            let waker = waker.clone();
            move || waker.wake_by_ref()
        };
        Ok(Self {
            shard,
            now: config.clock.now(),
            clock: config.clock,
            source: config.source,
            dialler: Dialler::default(),
            scratch: vec![0; config.scratch.max(1)],
            reads_per_turn: config.reads_per_turn.max(1),
            listeners: Vec::new(),
            acceptor: Acceptor::new(),
            conns: Vec::new(),
            to_read: VecDeque::new(),
            to_write: VecDeque::new(),
            failed: VecDeque::new(),
            queue: config.queue.max(1),
            messages,
            woken: false,
            effects: Worker::new(Arc::clone(&roots), Arc::clone(&files), config.queue, notify()),
            names: Worker::new(roots, Arc::clone(&files), config.queue, notify()),
            watching: false,
            changed: Vec::new(),
            heard: Vec::new(),
            files,
            handle,
            busy: false,
            poll,
        })
    }

    /// Listens on an address, and says on which: port 0 lets the system choose. May be called
    /// more than once.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.serve(tcp::listen(address, tcp::Port::Alone)?)
    }

    /// Accepts from a socket that listens already: one that shares its port with other shards,
    /// or was inherited.
    pub fn serve(&mut self, listener: std::net::TcpListener) -> io::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let mut socket = TcpListener::from_std(listener);
        let address = socket.local_addr()?;
        let token = Token(LISTENER - self.listeners.len());
        let registry = self.poll.registry();
        registry.register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, ready: true, rest: None });
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

    /// Runs until the service has stopped and every connection is gone, and gives it back.
    ///
    /// `on_report` is called in this thread, between turns; it may use [`Handle::try_send`], but
    /// [`Handle::send`] could wait for itself.
    ///
    /// # Errors
    ///
    /// Only if the system cannot wait for events. What befalls a connection is told to the
    /// service.
    pub fn run(mut self, mut on_report: impl FnMut(S::Report)) -> io::Result<S> {
        let mut events = Events::with_capacity(1024);
        self.now = self.clock.now();
        self.carry_out();
        loop {
            while let Some(report) = self.shard.poll_report() {
                on_report(report);
            }
            if self.shard.is_over() {
                return Ok(self.shard.into_service());
            }
            match self.poll.poll(&mut events, self.patience(self.now)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                answer => answer?,
            }
            self.now = self.clock.now();
            self.turn(self.now, &events);
        }
    }

    /// How long to wait for events; `None` for as long as it takes.
    fn patience(&self, now: Now) -> Option<Duration> {
        let unfinished = self.busy
            || self.woken
            || !self.to_read.is_empty()
            || !self.to_write.is_empty()
            || !self.failed.is_empty();
        if unfinished || self.listeners.iter().any(|it| it.ready && it.rest.is_none()) {
            return Some(Duration::ZERO);
        }
        let rest = self.listeners.iter().filter_map(|it| it.rest).min();
        let accept = rest.map(|at| Deadline { at, why: "accept" });
        let deadline = Deadline::earlier(self.shard.poll_timeout(), accept)?;
        Some(Clock::until(now, deadline))
    }

    fn turn(&mut self, now: Now, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => self.woken = true,
                // Looked for in each turn.
                WATCHES => {}
                Token(token) => match self.listeners.get_mut(LISTENER - token) {
                    Some(listener) => listener.ready = true,
                    None => self.notice(now, token, event),
                },
            }
        }
        for _ in 0..self.failed.len() {
            if let Some((id, failure)) = self.failed.pop_front()
                && conn(&mut self.conns, id).is_some()
            {
                self.shard.handle_failed(now, id, failure);
                self.called();
            }
        }
        for listener in 0..self.listeners.len() {
            self.accept(now, listener);
        }
        let mut left = self.to_read.len().min(self.reads_per_turn);
        loop {
            left -= self.read_some(left);
            self.tell_changes(now);
            self.hand_over(now);
            if left == 0 {
                break;
            }
        }
        let due = |deadline: Deadline| deadline.at <= now.mono;
        if self.shard.poll_timeout().is_some_and(due) {
            self.shard.handle_timeout(now);
            self.called();
        }
        if mem::take(&mut self.woken) {
            self.fetch(now);
        }
        for _ in 0..ROUNDS {
            if mem::take(&mut self.busy) {
                self.shard.handle_turn(now);
                self.carry_out();
            }
            if self.to_write.is_empty() {
                break;
            }
            for _ in 0..self.to_write.len() {
                if let Some(id) = self.to_write.pop_front() {
                    self.write(now, id);
                }
            }
        }
    }

    /// Takes note of what an edge says. A stale one, for a former user of the place, does no
    /// harm: it only makes the host look.
    fn notice(&mut self, now: Now, index: usize, event: &Event) {
        let Some(Some(conn)) = self.conns.get_mut(index) else {
            return;
        };
        let id = conn.id;
        match &mut conn.stage {
            Stage::Dialling(..) => self.dialled(now, id),
            Stage::Open(open) => {
                open.readable |= event.is_readable() || event.is_read_closed();
                open.read_closed |= event.is_read_closed();
                open.error |= event.is_error();
                open.writable |= event.is_writable();
                self.want_read(id);
                self.want_write(id);
            }
            Stage::Resolving | Stage::Broken => {}
        }
    }

    fn accept(&mut self, now: Now, index: usize) {
        for _ in 0..ACCEPTS {
            // Looked up each time: the service may stop the run as it accepts.
            let Some(listener) = self.listeners.get_mut(index).filter(|it| it.ready) else {
                return;
            };
            if listener.rest.is_some_and(|until| until > now.mono) {
                return;
            }
            listener.rest = None;
            match self.acceptor.accept(|| listener.socket.accept()) {
                Ok(Some((stream, address))) => self.accepted(now, stream, address),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.ready = false;
                    return;
                }
                Err(_) => listener.rest = Some(now.mono.saturating_add(REST)),
            }
        }
    }

    /// Takes those who wait, and listens no more. Who comes between the two is refused with a reset.
    fn stop(&mut self) {
        let now = self.now;
        for listener in mem::take(&mut self.listeners) {
            for _ in 0..tcp::BACKLOG {
                match self.acceptor.accept(|| listener.socket.accept()) {
                    Ok(Some((stream, address))) => self.accepted(now, stream, address),
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
    }

    fn accepted(&mut self, now: Now, stream: TcpStream, address: SocketAddr) {
        let Ok(peer) = tcp::established(&stream, address) else {
            return;
        };
        if let Some(id) = self.shard.handle_accepted(now, peer) {
            match self.register(id, stream) {
                Ok(stream) => self.place(id, Stage::Open(Open::new(stream))),
                Err(error) => {
                    self.place(id, Stage::Broken);
                    self.failed.push_back((id, failure(&error)));
                }
            }
        }
        self.called();
    }

    fn dial(&mut self, id: ConnId, target: Target) {
        self.place(id, Stage::Resolving);
        match target {
            Target::Address(address) => self.attempt(id, vec![address], Failure::Other),
            Target::Name(name, port) => self.names.submit(id, Effect::Resolve { name, port }),
        }
    }

    fn resolved(&mut self, id: ConnId, reply: OwnedReply) {
        if conn(&mut self.conns, id).is_none() {
            return;
        }
        match reply {
            OwnedReply::Resolved(mut addresses) => {
                addresses.reverse();
                self.attempt(id, addresses, Failure::NotFound);
            }
            OwnedReply::Failed(failure) => self.attempt(id, Vec::new(), failure),
            other => debug_assert!(false, "a name resolved to {other:?}"),
        }
    }

    /// Tries the last of `addresses`, and those before it if that fails at once. The shard is
    /// told at the next turn: a service that dials again and again must not keep this one.
    fn attempt(&mut self, id: ConnId, mut addresses: Vec<SocketAddr>, failed: Failure) {
        let mut why = failed;
        while let Some(address) = addresses.pop() {
            let stream = self.dialler.connect(address, self.source).map(TcpStream::from_std);
            match stream.and_then(|stream| self.register(id, stream)) {
                Ok(stream) => return self.place(id, Stage::Dialling(stream, addresses)),
                Err(error) => why = failure(&error),
            }
        }
        self.place(id, Stage::Broken);
        self.failed.push_back((id, why));
    }

    fn dialled(&mut self, now: Now, id: ConnId) {
        let Some(conn) = conn(&mut self.conns, id) else {
            return;
        };
        match mem::replace(&mut conn.stage, Stage::Broken) {
            Stage::Dialling(stream, rest) => match tcp::connected(&stream) {
                Ok(None) => conn.stage = Stage::Dialling(stream, rest),
                Ok(Some(peer)) => {
                    let mut open = Open::new(stream);
                    // The edge at hand may have told of more than the connection.
                    open.readable = true;
                    conn.stage = Stage::Open(open);
                    self.shard.handle_connected(now, id, peer);
                    self.called();
                    self.want_read(id);
                }
                Err(error) => self.attempt(id, rest, failure(&error)),
            },
            other => conn.stage = other,
        }
    }

    /// Reads from the next connection, or from several; gives how many of `most` it has looked at.
    fn read_some(&mut self, most: usize) -> usize {
        let several = self.effects.is_watching();
        let (mut looked, mut filled) = (0, 0);
        while looked < most
            && (filled == 0 || self.scratch.len() - filled >= ROOM)
            && (looked == 0 || several)
            && let Some(id) = self.to_read.pop_front()
        {
            looked += 1;
            if let Some(read) = self.read(id, filled) {
                filled = read.as_ref().map_or(filled, |bytes| bytes.end);
                self.heard.push((id, read));
            }
        }
        looked
    }

    /// One read, to the end of the scratch; none where there is nothing to tell.
    fn read(&mut self, id: ConnId, filled: usize) -> Option<io::Result<Range<usize>>> {
        let wanted = self.shard.wants_read(id);
        let open = open(&mut self.conns, id)?;
        open.reading = false;
        if !wanted {
            let error = mem::take(&mut open.error).then(|| open.stream.take_error())?;
            return error.ok().flatten().map(Err);
        }
        let room = self.scratch.get_mut(filled..).unwrap_or_default();
        match open.stream.read(room) {
            Ok(n) => {
                // A short read has emptied it, unless an end follows, for which no edge comes.
                let more = n == room.len() || open.read_closed || open.error;
                open.readable = n > 0 && more;
                Some(Ok(filled..filled + n))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                open.readable = false;
                open.error = false;
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.want_read(id);
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Tells the shard what was read.
    fn hand_over(&mut self, now: Now) {
        let mut heard = mem::take(&mut self.heard);
        for (id, read) in heard.drain(..) {
            // One that was read before it may have closed this one.
            if open(&mut self.conns, id).is_none() {
                continue;
            }
            match read {
                Ok(bytes) if bytes.is_empty() => {
                    self.shard.handle_eof(now, id);
                    self.called();
                }
                Ok(bytes) => {
                    let bytes = self.scratch.get_mut(bytes).unwrap_or_default();
                    self.shard.handle_received(now, id, bytes);
                    self.called();
                    self.want_read(id);
                }
                Err(error) => self.fail(now, id, &error),
            }
        }
        self.heard = heard;
    }

    /// What was watched and has changed: before anything that was sent after the change.
    fn tell_changes(&mut self, now: Now) {
        if !self.effects.is_watching() {
            return;
        }
        self.effects.changed(&mut self.changed);
        for id in mem::take(&mut self.changed) {
            self.shard.handle_reply(now, id, Reply::Done);
            self.called();
        }
    }

    fn write(&mut self, now: Now, id: ConnId) {
        if let Some(open) = open(&mut self.conns, id) {
            open.writing = false;
        }
        for _ in 0..WRITES {
            let Some(open) = open(&mut self.conns, id).filter(|open| open.writable) else {
                return;
            };
            let Some(outbox) = self.shard.outbox(id).filter(|outbox| !outbox.is_empty()) else {
                return;
            };
            match write_outbox(&open.stream, outbox, &self.files, &mut self.scratch) {
                Ok(n) => {
                    self.shard.handle_sent(now, id, n);
                    self.called();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    open.writable = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(now, id, &error),
            }
        }
        self.want_write(id);
    }

    /// Messages and results, of each at most a queue's worth: those that come meanwhile may wait
    /// for the next turn.
    fn fetch(&mut self, now: Now) {
        // Who sends wakes afterwards, and the channel holds no more: none is forgotten.
        for _ in 0..self.queue {
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            self.shard.handle_message(now, message);
            self.called();
        }
        let mut left = self.queue;
        while left > 0
            && let Some((id, reply)) = self.effects.try_next()
        {
            left -= 1;
            self.shard.handle_reply(now, id, reply.as_reply());
            self.called();
        }
        // Results may be more, when effects were refused for want of room.
        self.woken = left == 0;
        while let Some((id, reply)) = self.names.try_next() {
            self.resolved(id, reply);
        }
    }

    /// To be called after each call of the shard.
    fn called(&mut self) {
        self.busy = true;
        self.carry_out();
    }

    /// Carries out what the shard has asked for; writes are only noted.
    fn carry_out(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(id, target) => self.dial(id, target),
                Action::Write(id) => self.want_write(id),
                Action::Shutdown(id) => {
                    if let Some(open) = open(&mut self.conns, id) {
                        // It fails only if the connection is broken, which reading will tell.
                        let _ = open.stream.shutdown(Shutdown::Write);
                    }
                }
                Action::Read(id) => self.want_read(id),
                Action::Close { conn, reset } => self.close(conn, reset),
                Action::Request(id, effect) => {
                    self.effects.submit(id, effect);
                    self.watch();
                }
                Action::Cancel(id) => self.effects.cancel(id),
                Action::Release(file) => self.files.release(file),
                Action::Stop => self.stop(),
            }
        }
    }

    /// Has the poll end when something that is watched has changed.
    fn watch(&mut self) {
        if !self.watching
            && let Some(watches) = self.effects.watches()
        {
            let registry = self.poll.registry();
            let source = &mut SourceFd(&watches.as_raw_fd());
            // Without it, changes are told when something else ends the wait.
            self.watching = registry.register(source, WATCHES, Interest::READABLE).is_ok();
        }
    }

    fn want_read(&mut self, id: ConnId) {
        if let Some(open) = open(&mut self.conns, id)
            && !open.reading
            && (open.readable || open.error)
        {
            open.reading = true;
            self.to_read.push_back(id);
        }
    }

    fn want_write(&mut self, id: ConnId) {
        if let Some(open) = open(&mut self.conns, id)
            && !open.writing
            && open.writable
        {
            open.writing = true;
            self.to_write.push_back(id);
        }
    }

    /// The system broke a connection, or what was promised on it cannot be sent.
    fn fail(&mut self, now: Now, id: ConnId, error: &io::Error) {
        if let Some(conn) = conn(&mut self.conns, id)
            && let Stage::Open(open) = mem::replace(&mut conn.stage, Stage::Broken)
        {
            tcp::reset(open.stream);
        }
        self.shard.handle_failed(now, id, failure(error));
        self.called();
    }

    fn close(&mut self, id: ConnId, reset: bool) {
        let place = self.conns.get_mut(id.index as usize);
        let Some(place) = place.filter(|it| it.as_ref().is_some_and(|conn| conn.id == id)) else {
            return;
        };
        match place.take().map(|conn| conn.stage) {
            Some(Stage::Open(open)) if reset => tcp::reset(open.stream),
            Some(Stage::Resolving) => self.names.cancel(id),
            _ => {}
        }
    }

    fn place(&mut self, id: ConnId, stage: Stage) {
        let index = id.index as usize;
        if index >= self.conns.len() {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Conn { id, stage });
    }

    fn register(&self, id: ConnId, mut stream: TcpStream) -> io::Result<TcpStream> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(id.index as usize);
        self.poll.registry().register(&mut stream, token, interest)?;
        Ok(stream)
    }
}

impl Open {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            readable: false,
            writable: true,
            read_closed: false,
            error: false,
            reading: false,
            writing: false,
        }
    }
}

fn conn(conns: &mut [Option<Conn>], id: ConnId) -> Option<&mut Conn> {
    let conn = conns.get_mut(id.index as usize)?.as_mut()?;
    (conn.id == id).then_some(conn)
}

fn open(conns: &mut [Option<Conn>], id: ConnId) -> Option<&mut Open> {
    match &mut conn(conns, id)?.stage {
        Stage::Open(open) => Some(open),
        _ => None,
    }
}
