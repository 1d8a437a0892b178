//! The server: the files of one folder, to whoever asks.
//!
//! A name is opened as it was asked for. If there is no such file, the folder it would lie in is
//! listed, and the first name that some file system would take for the same is opened: whatever
//! its case and its form of Unicode.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use semfio_keysync::{Guard, GuardConfig};
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Entry, Failure, FileId, FileKind, FileSpan, Metadata, Net,
    Now, OpenMode, Peer, Reply, RequestId, RootId, Service,
};
use semfio_path::{Policy, SafeName, fold};

use crate::arrival::Goal;
use crate::fetch::MAX_JOBS;
use crate::sealing::Secret;
use crate::serving::{Outcome, Serving, Shared, judge};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::taking::{PutLimits, Puts};
use crate::wire::{ErrorCode, Message};

/// How often a folder is listed on in search of a name: 16,000 names. Each time the host reads
/// all of the folder, and anybody may ask.
pub const LIST_TURNS: u32 = 16;

/// What a [`Repository`] serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// The folder; nothing outside it is ever opened.
    pub root: RootId,
    /// Which names it knows.
    pub policy: Policy,
    /// Whether peers may put files there, and how much. Default `None`.
    pub writable: Option<PutLimits>,
    /// A folder on whose disk the hashes of files over 256 MiB are put away, a 2,048th of the file, at
    /// most 32 MiB for each of 8 files; they have no names there. Without it, or if it cannot be
    /// written, what is sent of files over 1 GiB is hashed again each time. Default `None`.
    pub scratch: Option<RootId>,
}

impl Default for RepositoryConfig {
    fn default() -> Self {
        Self { root: RootId(0), policy: Policy::default(), writable: None, scratch: None }
    }
}

/// What an application tells a [`Repository`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryMessage {
    /// Accept no more, finish what is being sent, and end.
    Stop,
}

/// What a [`Repository`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryReport {
    /// A file is being sent.
    Sending {
        /// To whom.
        peer: Option<SocketAddr>,
        /// Its real name.
        name: SafeName,
        /// In bytes.
        len: u64,
    },
    /// All of a file was sent, and it is still what it was.
    Sent {
        /// To whom.
        peer: Option<SocketAddr>,
        /// Its real name.
        name: SafeName,
    },
    /// A file changed while it was sent; the peer saw the connection break.
    Changed {
        /// Who asked.
        peer: Option<SocketAddr>,
        /// Its real name.
        name: SafeName,
    },
    /// A framed peer got what it asked for, or it waits to be sent.
    Served {
        /// Who.
        peer: Option<SocketAddr>,
        /// Of this file.
        name: SafeName,
        /// So many bytes of content.
        bytes: u64,
    },
    /// A framed peer has put a file; it is durable.
    Taken {
        /// Who, if it is still there.
        peer: Option<SocketAddr>,
        /// Its name.
        name: SafeName,
        /// In bytes.
        size: u64,
        /// Bytes of its content that came; the others were there.
        received: u64,
    },
    /// A partial file that nobody came back for within [`KEPT`](crate::KEPT) is removed.
    Removed {
        /// Its name.
        name: SafeName,
    },
    /// A request of a framed peer was refused.
    Refused {
        /// Whose.
        peer: Option<SocketAddr>,
        /// What it has asked for, if the name is safe.
        name: Option<SafeName>,
        /// Why.
        code: ErrorCode,
    },
    /// There is no such file, or the name is not safe; the peer was told that there is none.
    Unknown {
        /// Who asked.
        peer: Option<SocketAddr>,
        /// The name as it came.
        word: Vec<u8>,
    },
    /// A file could not be opened; the peer saw the connection break.
    Unreadable {
        /// Who asked.
        peer: Option<SocketAddr>,
        /// Its name.
        name: SafeName,
        /// Why.
        failure: Failure,
    },
    /// A peer guessed the passphrase too often, and was turned away unheard.
    TurnedAway(Option<SocketAddr>),
    /// A peer that speaks HTTP was told what is spoken here.
    Hinted(Option<SocketAddr>),
    /// A connection ended otherwise than by an answer.
    Broken {
        /// Whose.
        peer: Option<SocketAddr>,
        /// How.
        why: Closed<SessionError>,
    },
}

/// The server: a [`Service`] over [`Session`]s.
#[derive(Debug)]
pub struct Repository {
    shared: Shared,
    asked: BTreeMap<RequestId, ConnId>,
    framed: BTreeMap<ConnId, Serving>,
    doing: BTreeMap<ConnId, Doing>,
    /// What framed peers have asked for last.
    named: BTreeMap<ConnId, SafeName>,
    /// If files are taken.
    puts: Option<Puts>,
    /// If a passphrase is wanted.
    lock: Option<Lock>,
    reports: VecDeque<RepositoryReport>,
}

/// Who gets in.
#[derive(Debug)]
struct Lock {
    secret: Secret,
    guard: Guard<IpAddr>,
}

/// What is being done for a connection.
#[derive(Debug)]
struct Doing {
    name: SafeName,
    stage: Stage,
    /// What the host was asked.
    request: Option<RequestId>,
}

#[derive(Debug)]
enum Stage {
    /// A file of this name is looked for; the folder was listed so often.
    Finding { word: Vec<u8>, listed: u32 },
    /// The one that was found is opened.
    Opening { word: Vec<u8> },
    /// It is sent, and then looked at again.
    Sending { file: FileId, metadata: Metadata },
}

impl Repository {
    /// A server of one folder.
    pub fn new(config: RepositoryConfig) -> Self {
        let RepositoryConfig { root, policy, writable, scratch } = config;
        Self {
            shared: Shared { scratch, ..Shared::new(root, policy) },
            asked: BTreeMap::new(),
            doing: BTreeMap::new(),
            named: BTreeMap::new(),
            framed: BTreeMap::new(),
            puts: writable.map(|limits| Puts::new(limits, root, policy)),
            lock: None,
            reports: VecDeque::new(),
        }
    }

    /// With a secret: nothing is told to who does not know the passphrase, and all is sealed. The
    /// course's dialect and framed peers without a passphrase are refused.
    ///
    /// A source, an address or the network of 64 bits that one is in, has [`MAX_JOBS`] guesses
    /// without a pause and each minute, since a fetch opens so many connections at once; those that
    /// were right do not count.
    pub fn with_secret(mut self, secret: impl Into<Option<Secret>>) -> Self {
        let config = GuardConfig { free: MAX_JOBS as u32, ..GuardConfig::default() };
        self.lock = secret.into().map(|secret| Lock { secret, guard: Guard::new(config) });
        self
    }

    /// Holds so many hashes of a file in memory at most, and of larger files those of spans; by default
    /// [`MAX_KEPT`](crate::tree::MAX_KEPT).
    pub fn with_hashes(mut self, hashes: usize) -> Self {
        self.shared.hashes = hashes;
        self
    }

    /// A guess is taken before anything is answered, and given back to who has confirmed.
    fn handle_agreeing(&mut self, now: Now, conn: ConnId, net: &mut Net<Session>) {
        let peer = peer(conn, net);
        let Some((lock, peer)) = self.lock.as_mut().zip(peer) else { return net.abort(conn) };
        // Refused only if the connection is gone.
        if lock.guard.guess(now.mono, source(peer)).is_ok() {
            let number = lock.secret.number();
            let _ = net.send(conn, SessionCommand::Agree(&lock.secret, number));
        } else {
            let _ = net.send(conn, SessionCommand::TurnAway);
            self.report(RepositoryReport::TurnedAway(Some(peer)));
        }
    }

    fn handle_greeted(&mut self, conn: ConnId, net: &Net<Session>) {
        if let Some((lock, peer)) = self.lock.as_mut().zip(peer(conn, net)) {
            lock.guard.give_back(&source(peer));
        }
    }

    fn handle_asked(&mut self, conn: ConnId, word: &[u8], net: &mut Net<Session>) {
        let word = word.to_vec();
        match judge(&word, self.shared.policy) {
            Some(name) => {
                let effect = self.open(&name);
                let stage = Stage::Finding { word, listed: 0 };
                self.request(conn, Doing { name, stage, request: None }, effect, net);
            }
            None => self.unknown(conn, word, net),
        }
    }

    fn open(&self, name: &SafeName) -> Effect {
        let path = name.as_str().to_owned();
        Effect::Open { root: self.shared.root, path, mode: OpenMode::Read }
    }

    fn request(&mut self, conn: ConnId, doing: Doing, effect: Effect, net: &mut Net<Session>) {
        let id = net.request(effect);
        self.asked.insert(id, conn);
        self.doing.insert(conn, Doing { request: Some(id), ..doing });
    }

    fn handle_answer(&mut self, conn: ConnId, reply: &Reply<'_>, net: &mut Net<Session>) {
        let Some(doing) = self.doing.remove(&conn) else {
            return;
        };
        let Doing { name, stage, .. } = doing;
        match (stage, *reply) {
            (Stage::Finding { .. } | Stage::Opening { .. }, Reply::Opened { file, metadata }) => {
                let span = FileSpan { file, offset: 0, len: metadata.len };
                // Refused only if the connection is gone, and then `handle_closed` tells.
                if net.send(conn, SessionCommand::File(span)).is_err() {
                    return net.release(file, None);
                }
                let (peer, len) = (peer(conn, net), metadata.len);
                self.report(RepositoryReport::Sending { peer, name: name.clone(), len });
                let stage = Stage::Sending { file, metadata };
                self.doing.insert(conn, Doing { name, stage, request: None });
            }
            (Stage::Finding { word, listed: 0 }, Reply::Failed(Failure::NotFound)) => {
                self.list(conn, name, word, 1, String::new(), net);
            }
            (Stage::Finding { word, listed }, Reply::Listed(entries)) => {
                match (self.find(&name, entries), entries.last()) {
                    (Some(name), _) => {
                        let effect = self.open(&name);
                        let stage = Stage::Opening { word };
                        self.request(conn, Doing { name, stage, request: None }, effect, net);
                    }
                    (None, Some(last)) if listed < LIST_TURNS => {
                        let listed = listed.saturating_add(1);
                        self.list(conn, name, word, listed, last.name.clone(), net);
                    }
                    (None, _) => self.unknown(conn, word, net),
                }
            }
            (
                Stage::Finding { word, .. } | Stage::Opening { word },
                Reply::Failed(
                    Failure::NotFound | Failure::NameTooLong | Failure::WrongKind | Failure::Denied,
                ),
            ) => self.unknown(conn, word, net),
            (Stage::Sending { file, metadata }, Reply::Found(found)) => {
                net.release(file, None);
                let peer = peer(conn, net);
                if found == metadata {
                    // Refused only if the connection is gone.
                    let _ = net.send(conn, SessionCommand::Whole);
                    self.report(RepositoryReport::Sent { peer, name });
                } else {
                    net.abort(conn);
                    self.report(RepositoryReport::Changed { peer, name });
                }
            }
            (stage, reply) => {
                // There is no word for this, and the file may exist.
                if let Stage::Sending { file, .. } = stage {
                    net.release(file, None);
                }
                let failure = match reply {
                    Reply::Failed(failure) => failure,
                    _ => Failure::Unsupported,
                };
                let peer = peer(conn, net);
                net.abort(conn);
                self.report(RepositoryReport::Unreadable { peer, name, failure });
            }
        }
    }

    fn list(
        &mut self,
        conn: ConnId,
        name: SafeName,
        word: Vec<u8>,
        listed: u32,
        after: String,
        net: &mut Net<Session>,
    ) {
        let path = name.parent().to_owned();
        let effect = Effect::List { root: self.shared.root, path, after };
        let stage = Stage::Finding { word, listed };
        self.request(conn, Doing { name, stage, request: None }, effect, net);
    }

    /// All of a file has left: it was whole if it is still what it was.
    fn handle_sent(&mut self, conn: ConnId, net: &mut Net<Session>) {
        if let Some(doing) = self.doing.remove(&conn) {
            if let Stage::Sending { file, .. } = doing.stage {
                self.request(conn, doing, Effect::StatFile { file }, net);
            }
        }
    }

    fn handle_message(
        &mut self,
        now: Now,
        conn: ConnId,
        message: Message<'_>,
        net: &mut Net<Session>,
    ) {
        if let Some(name) = message.name() {
            match judge(name, self.shared.policy) {
                Some(name) => self.named.insert(conn, name),
                None => self.named.remove(&conn),
            };
        }
        let outcome = match (message, &mut self.puts) {
            (Message::Put { tag, replace, size, modified, hash, name }, Some(puts)) => {
                let root = self.shared.root;
                match judge(name, self.shared.policy) {
                    Some(name) => {
                        let goal = Goal { root, name, replace, size, hash, modified };
                        puts.handle_put(now, conn, tag, goal, net)
                    }
                    None => Some(puts.handle_name(conn, tag, net)),
                }
            }
            (Message::Folder { tag, name }, Some(puts)) => match judge(name, self.shared.policy) {
                Some(name) => puts.handle_folder(conn, tag, self.shared.root, name, net),
                None => Some(puts.handle_name(conn, tag, net)),
            },
            (_, Some(puts)) => puts.handle_message(now, conn, &message, net),
            _ => None,
        };
        let puts = matches!(message, Message::Put { .. } | Message::Folder { .. });
        if outcome.is_some() || puts && self.puts.is_some() {
            return self.tell(Some(conn), outcome, net);
        }
        let sealed = self.lock.is_some();
        let serving = self.framed.entry(conn).or_insert_with(|| Serving::new(conn, sealed));
        let before = serving.request();
        let outcome = serving.handle_message(message, &mut self.shared, net);
        if let Some(before) = before.filter(|before| serving.request() != Some(*before)) {
            self.asked.remove(&before);
        }
        self.settle(now, conn, outcome, net);
    }

    /// After each call of a connection's: who waits for the host, who may hash, what is told.
    fn settle(&mut self, now: Now, conn: ConnId, outcome: Option<Outcome>, net: &mut Net<Session>) {
        if let Some(serving) = self.framed.get_mut(&conn) {
            self.asked.extend(serving.request().map(|request| (request, conn)));
            if serving.gives_place_up() {
                self.give_up(now, conn, net);
            }
        }
        self.tell(Some(conn), outcome, net);
    }

    fn tell(&mut self, conn: Option<ConnId>, outcome: Option<Outcome>, net: &Net<Session>) {
        let peer = conn.and_then(|conn| peer(conn, net));
        match outcome {
            None | Some(Outcome::Known { .. } | Outcome::Hashing { .. }) => {}
            Some(Outcome::Taken { name, size, received }) => {
                self.report(RepositoryReport::Taken { peer, name, size, received });
            }
            Some(Outcome::Removed { name }) => self.report(RepositoryReport::Removed { name }),
            Some(Outcome::Sent { name, bytes }) => {
                self.report(RepositoryReport::Served { peer, name, bytes });
            }
            Some(Outcome::Refused(code)) => {
                let name = conn.and_then(|conn| self.named.get(&conn).cloned());
                self.report(RepositoryReport::Refused { peer, name, code });
            }
        }
    }

    /// A connection hashes no more; the one whose turn it then is begins.
    fn give_up(&mut self, now: Now, conn: ConnId, net: &mut Net<Session>) {
        let Some(next) = self.shared.outlines.end(conn) else { return };
        if let Some(serving) = self.framed.get_mut(&next) {
            serving.handle_turn(now, &self.shared, net);
            self.asked.extend(serving.request().map(|request| (request, next)));
        }
    }

    /// The first of these files that some file system would take for `name`.
    fn find(&self, name: &SafeName, entries: &[Entry]) -> Option<SafeName> {
        let wanted = fold(name.file_name());
        entries
            .iter()
            .filter(|entry| entry.metadata.kind == FileKind::File)
            .filter(|entry| fold(&entry.name) == wanted)
            .find_map(|entry| {
                let mut path = name.parent().to_owned();
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(&entry.name);
                judge(path, self.shared.policy)
            })
    }

    fn unknown(&mut self, conn: ConnId, word: Vec<u8>, net: &mut Net<Session>) {
        // Refused only if the connection is gone.
        let _ = net.send(conn, SessionCommand::Unknown(&word));
        let peer = peer(conn, net);
        self.report(RepositoryReport::Unknown { peer, word });
    }

    fn report(&mut self, report: RepositoryReport) {
        self.reports.push_back(report);
    }
}

impl Service<Session> for Repository {
    type Message = RepositoryMessage;
    type Report = RepositoryReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Session> {
        let writable = self.puts.is_some();
        Some(match self.lock {
            Some(_) => Session::serve_sealed(writable),
            None => Session::serve(writable),
        })
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Session>) {}

    fn handle_event(
        &mut self,
        now: Now,
        from: ConnId,
        event: SessionEvent<'_>,
        net: &mut Net<Session>,
    ) {
        match event {
            SessionEvent::Asked(word) => self.handle_asked(from, word, net),
            SessionEvent::Message(message) => self.handle_message(now, from, message, net),
            SessionEvent::Body(bytes) => match &mut self.puts {
                Some(puts) => {
                    let outcome = puts.handle_body(now, from, bytes, net);
                    self.tell(Some(from), outcome, net);
                }
                // Nothing was asked for.
                None => net.abort(from),
            },
            SessionEvent::Agreeing => self.handle_agreeing(now, from, net),
            SessionEvent::Greeted => self.handle_greeted(from, net),
            SessionEvent::Sent => self.handle_sent(from, net),
            SessionEvent::Hinted => {
                let peer = peer(from, net);
                self.report(RepositoryReport::Hinted(peer));
            }
        }
    }

    fn handle_room(&mut self, now: Now, conn: ConnId, net: &mut Net<Session>) {
        if let Some(serving) = self.framed.get_mut(&conn) {
            let outcome = serving.handle_room(net);
            self.settle(now, conn, outcome, net);
        }
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        if let Some(puts) = &mut self.puts {
            puts.handle_closed(conn, net);
        }
        self.named.remove(&conn);
        if let Some(mut serving) = self.framed.remove(&conn) {
            if let Some(request) = serving.close(net) {
                self.asked.remove(&request);
            }
            self.give_up(now, conn, net);
        }
        if let Some(doing) = self.doing.remove(&conn) {
            if let Some(request) = doing.request {
                self.asked.remove(&request);
                net.cancel(request);
            }
            if let Stage::Sending { file, .. } = doing.stage {
                net.release(file, None);
            }
        }
        if !matches!(why, Closed::Done | Closed::Local) {
            let peer = peer(conn, net);
            self.report(RepositoryReport::Broken { peer, why });
        }
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Session>) {
        let Some(conn) = self.asked.remove(&id) else {
            let puts = self.puts.as_mut();
            let told = puts.and_then(|puts| puts.handle_reply(now, id, &reply, net));
            if let Some((conn, outcome)) = told {
                self.tell(conn, Some(outcome), net);
            }
            return;
        };
        if let Some(serving) = self.framed.get_mut(&conn) {
            let outcome = serving.handle_reply(now, &reply, &mut self.shared, net);
            self.settle(now, conn, outcome, net);
        } else {
            self.handle_answer(conn, &reply, net);
        }
    }

    fn handle_message(&mut self, _: Now, message: RepositoryMessage, net: &mut Net<Session>) {
        match message {
            RepositoryMessage::Stop => {
                let idle: Vec<_> = net.connections().collect();
                for conn in idle {
                    // One that is being answered ends by itself.
                    if !self.doing.contains_key(&conn) {
                        net.close(conn);
                    }
                }
                net.stop();
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.puts.as_ref()?.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        if let Some(puts) = &mut self.puts {
            puts.handle_timeout(now, net);
        }
    }

    fn poll_report(&mut self) -> Option<RepositoryReport> {
        self.reports.pop_front()
    }
}

fn peer(conn: ConnId, net: &Net<Session>) -> Option<SocketAddr> {
    net.peer(conn).map(|peer| peer.address)
}

/// Whose guesses count as one's: whoever has an IPv6 address has 2^64.
fn source(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip => ip,
    }
}
