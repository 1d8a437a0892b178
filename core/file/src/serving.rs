//! What a server does for one framed connection, or a client for the server it puts a file to: one
//! request at a time.
//!
//! | request | step | asks the host for |
//! |---|---|---|
//! | LIST | Listing | the folder, until a frame is full |
//! | STAT | Looking | what the name is; without a hash, that is all |
//! | STAT with a hash, GET | Opening | the file, unless it is held open from the request before |
//! | | Checking | the open file's state: is it still what was hashed? |
//! | | Queued, Hashing | its content, if its outline is not kept; WAIT is sent meanwhile |
//! | | Judging | the open file's state: is it still what it was before? |
//! | GET | Sending | spans to be hashed again, for files over 1 GiB |
//!
//! A file that is to be offered goes the way of STAT, but its hash is told to the owner.
//!
//! Content leaves as file spans, as long as the outbox has room; where records are sealed, as what
//! is read, some groups at once, whenever there is room. What leaves is not looked at: that
//! it is what its hashes say the receiver proves. A request takes steps as the host answers, so the
//! work of each is bounded by what is read at once.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::time::Duration;
use semfio_machine::{
    ConnId, Effect, Entry, Failure, FileId, FileKind, FileSpan, Instant, Metadata, Net, Now,
    OpenMode, Reply, RequestId, RootId,
};
use semfio_path::{Policy, SafeName, is_part};

use crate::outlines::Outlines;
use crate::session::{Piece, Session, SessionCommand};
use crate::tree::{GROUP, Hash, Item, MAX_FILE, Outline, Outliner, Ranges, Sender};
use crate::wire::{EntryList, ErrorCode, Get, Kind, MAX_BODY, Message, Meta};

/// What is read at once to be hashed: some hundred microseconds of work.
const READ: u32 = 256 * 1024;
/// How often WAIT is sent.
const WAIT: Duration = Duration::from_secs(1);
/// How often a folder is listed on in search of a name that may be told of.
const LIST_TURNS: u32 = 16;
/// A BODY frame of so many octets takes no more; a group and the pairs before it still fitted.
const FULL: u64 = MAX_BODY as u64 - 2 * GROUP;
/// The same for one of so many octets of hashes, which are held in memory.
const MEMORY: usize = 64 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: RootId,
    pub(crate) policy: Policy,
    pub(crate) outlines: Outlines,
}

/// One framed connection.
#[derive(Debug)]
pub(crate) struct Serving {
    conn: ConnId,
    /// No file spans are taken.
    sealed: bool,
    held: Option<Held>,
    work: Option<Work>,
    request: Option<RequestId>,
    /// It has a place among those who hash.
    placed: bool,
}

/// A file that is open, for the next request.
#[derive(Debug)]
struct Held {
    name: SafeName,
    file: FileId,
    metadata: Metadata,
    outline: Option<Arc<Outline>>,
}

#[derive(Debug)]
struct Work {
    tag: u32,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Listing { folder: String, list: EntryList, turns: u32 },
    Looking { name: SafeName, hashed: bool },
    Opening { name: SafeName, want: Want },
    Checking { want: Want },
    Queued { want: Want },
    Hashing { want: Want, outliner: Box<Outliner>, told: Instant },
    Judging { want: Want, outline: Arc<Outline> },
    Sending(Sending),
}

/// An answer to GET that is on its way.
#[derive(Debug)]
struct Sending {
    outline: Arc<Outline>,
    sender: Box<Sender>,
    /// Of content, in all.
    bytes: u64,
    /// Where records are sealed: of content, to come; where to read on, and what goes before that.
    left: u64,
    due: Option<(u64, u64)>,
    before: Frame,
}

/// Content that was read, and where it lies.
#[derive(Clone, Copy, Debug, Default)]
struct AtHand<'a> {
    offset: u64,
    bytes: &'a [u8],
}

impl<'a> AtHand<'a> {
    /// The next, if it is this and whole.
    fn take(&mut self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(usize::try_from(len).ok()?)?;
        if self.offset != offset {
            return None;
        }
        *self = Self { offset: offset.saturating_add(len), bytes: rest };
        Some(taken)
    }
}

/// What a file was opened for.
#[derive(Debug)]
enum Want {
    Meta,
    /// To be offered: nothing is sent.
    Offer,
    Parts {
        content: bool,
        hash: Hash,
        ranges: Ranges,
    },
}

/// What a request came to, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// So many bytes of content.
    Sent {
        name: SafeName,
        bytes: u64,
    },
    /// What was to be offered.
    Known {
        size: u64,
        modified: u64,
        hash: Hash,
    },
    /// So many bytes of so many are hashed.
    Hashing {
        done: u64,
        of: u64,
    },
    /// A file that was put, so much of which came for it.
    Taken {
        name: SafeName,
        size: u64,
        received: u64,
    },
    Refused(ErrorCode),
}

/// The name, if it is one that may be told of at all.
pub(crate) fn judge(name: impl AsRef<[u8]>, policy: Policy) -> Option<SafeName> {
    let name = SafeName::parse(name, policy).ok()?;
    (!is_part(name.file_name())).then_some(name)
}

impl Serving {
    /// Nothing was asked yet.
    pub(crate) fn new(conn: ConnId, sealed: bool) -> Self {
        Self { conn, sealed, held: None, work: None, request: None, placed: false }
    }

    /// Finds out what is to be told of a file that is offered as `tag`.
    pub(crate) fn offer(
        &mut self,
        tag: u32,
        name: SafeName,
        shared: &Shared,
        net: &mut Net<Session>,
    ) {
        self.open(tag, name, Want::Offer, shared, net);
    }

    /// The connection is another: who was answered is gone.
    pub(crate) fn reconnect(&mut self, conn: ConnId, net: &mut Net<Session>) {
        self.conn = conn;
        if self.work.take_if(|work| !work.offers()).is_some() {
            if let Some(request) = self.request.take() {
                net.cancel(request);
            }
        }
    }

    /// Takes a message; `None` while the answer is being made, or if none is due.
    pub(crate) fn handle_message(
        &mut self,
        message: Message<'_>,
        shared: &mut Shared,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        match message {
            Message::List { tag, folder, after } => {
                if !folder.is_empty() && judge(folder, shared.policy).is_none() {
                    return self.refuse(tag, ErrorCode::Name, net);
                }
                let (folder, list) = (folder.to_owned(), EntryList::default());
                let effect = listing(shared.root, &folder, after.to_owned());
                self.begin(tag, Step::Listing { folder, list, turns: 0 });
                self.ask(effect, net);
            }
            Message::Stat { tag, name: "", .. } => {
                let meta = Meta { kind: Kind::Folder, size: 0, modified: 0 };
                self.tell(&Message::Meta { tag, meta, hash: None }, net);
            }
            Message::Stat { tag, hashed, name } => {
                let Some(name) = judge(name, shared.policy) else {
                    return self.refuse(tag, ErrorCode::Name, net);
                };
                let path = name.as_str().to_owned();
                self.begin(tag, Step::Looking { name, hashed });
                self.ask(Effect::Stat { root: shared.root, path }, net);
            }
            Message::Get(Get { tag, content, hash, size, name, ranges }) => {
                let Some(name) = judge(name, shared.policy) else {
                    return self.refuse(tag, ErrorCode::Name, net);
                };
                if size > MAX_FILE {
                    return self.refuse(tag, ErrorCode::FileTooLarge, net);
                }
                let Ok(ranges) = Ranges::parse(size, ranges.iter()) else {
                    return self.refuse(tag, ErrorCode::Ranges, net);
                };
                self.open(tag, name, Want::Parts { content, hash, ranges }, shared, net);
            }
            Message::Put { tag, .. } | Message::Folder { tag, .. } => {
                return self.refuse(tag, ErrorCode::ReadOnly, net);
            }
            Message::Cancel { tag } => {
                // If it is not at work on this, the answer has crossed with the wish.
                self.work.as_ref().filter(|work| work.tag == tag)?;
                if let Some(request) = self.request.take() {
                    net.cancel(request);
                }
                return self.refuse(tag, ErrorCode::Cancelled, net);
            }
            // Answers to what was never asked; they do no harm.
            _ => {}
        }
        None
    }

    /// Takes the host's answer to its request.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        reply: &Reply<'_>,
        shared: &mut Shared,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        self.request = None;
        let Work { tag, step } = self.work.take()?;
        match (step, *reply) {
            (Step::Listing { folder, mut list, turns }, Reply::Listed(entries)) => {
                let full = !fill(&mut list, &folder, entries, shared.policy);
                match entries.last() {
                    Some(last) if !full && turns < LIST_TURNS => {
                        let effect = listing(shared.root, &folder, last.name.clone());
                        let turns = turns.saturating_add(1);
                        self.begin(tag, Step::Listing { folder, list, turns });
                        self.ask(effect, net);
                        None
                    }
                    last => {
                        let (more, entries) = (last.is_some(), list.entries());
                        self.tell(&Message::Entries { tag, more, entries }, net);
                        None
                    }
                }
            }
            (Step::Looking { name, hashed }, Reply::Found(metadata)) => {
                let Some(meta) = meta(&metadata) else {
                    return self.refuse(tag, ErrorCode::WrongKind, net);
                };
                if hashed && meta.kind == Kind::File {
                    self.open(tag, name, Want::Meta, shared, net);
                } else {
                    self.tell(&Message::Meta { tag, meta, hash: None }, net);
                }
                None
            }
            (Step::Opening { name, want }, Reply::Opened { file, metadata }) => {
                self.held = Some(Held { name, file, metadata, outline: None });
                self.opened(now, tag, want, shared, net)
            }
            (Step::Checking { want }, Reply::Found(metadata)) => match self.held.take() {
                Some(held) if held.metadata == metadata => {
                    self.held = Some(held);
                    self.opened(now, tag, want, shared, net)
                }
                held => {
                    if let Some(Held { name, file, .. }) = held {
                        net.release(file, Some(self.conn));
                        self.open(tag, name, want, shared, net);
                    }
                    None
                }
            },
            (Step::Hashing { want, mut outliner, told }, Reply::Read(bytes)) => {
                let held = self.held.as_ref()?;
                let taken = outliner.handle_content(bytes);
                if taken.is_err() || bytes.is_empty() {
                    // Shorter or longer than when it was opened.
                    return self.refuse(tag, ErrorCode::Changed, net);
                }
                if outliner.due().1 == 0 {
                    let Ok(outline) = outliner.finish() else {
                        return self.refuse(tag, ErrorCode::Changed, net);
                    };
                    let file = held.file;
                    self.begin(tag, Step::Judging { want, outline: Arc::new(outline) });
                    self.ask(Effect::StatFile { file }, net);
                    return None;
                }
                let (done, due) = outliner.due();
                let (of, effect) = (done.saturating_add(due), read(held.file, done, due));
                let mut told = told;
                let tells = now.mono.saturating_since(told) >= WAIT;
                if tells {
                    told = now.mono;
                    self.tell(&Message::Wait { tag, done, of }, net);
                }
                self.begin(tag, Step::Hashing { want, outliner, told });
                self.ask(effect, net);
                tells.then_some(Outcome::Hashing { done, of })
            }
            (Step::Judging { want, outline }, Reply::Found(metadata)) => {
                let held = self.held.as_mut()?;
                if held.metadata != metadata {
                    return self.refuse(tag, ErrorCode::Changed, net);
                }
                shared.outlines.insert(held.name.as_str(), &metadata, &outline);
                held.outline = Some(Arc::clone(&outline));
                self.answer(tag, want, outline, net)
            }
            (Step::Sending(mut sending), Reply::Read(bytes)) => {
                let mut at_hand = AtHand::default();
                let wrong = match sending.due {
                    Some((offset, len)) => {
                        at_hand = AtHand { offset, bytes };
                        (bytes.len() as u64) < len
                    }
                    None => {
                        let Sending { sender, outline, .. } = &mut sending;
                        bytes.is_empty() || sender.handle_span(outline, bytes).is_err()
                    }
                };
                if wrong {
                    return self.refuse(tag, ErrorCode::Changed, net);
                }
                self.begin(tag, Step::Sending(sending));
                self.send(at_hand, net)
            }
            (_, Reply::Failed(failure)) => {
                let code = match failure {
                    Failure::NotFound | Failure::NameTooLong => ErrorCode::Unknown,
                    Failure::WrongKind => ErrorCode::WrongKind,
                    _ => ErrorCode::Unavailable,
                };
                self.refuse(tag, code, net)
            }
            _ => self.refuse(tag, ErrorCode::Unavailable, net),
        }
    }

    /// The outbox has room again.
    pub(crate) fn handle_room(&mut self, net: &mut Net<Session>) -> Option<Outcome> {
        if self.request.is_none() { self.send(AtHand::default(), net) } else { None }
    }

    /// It is its turn to hash.
    pub(crate) fn handle_turn(&mut self, now: Now, net: &mut Net<Session>) {
        let Some(Work { tag, step }) = self.work.take() else { return };
        let (Step::Queued { want }, Some(held)) = (step, &self.held) else { return };
        let (len, file) = (held.metadata.len, held.file);
        // Longer files were refused before.
        let Ok(outliner) = Outliner::new(len).map(Box::new) else { return };
        let (offset, due) = outliner.due();
        if due > 0 {
            self.begin(tag, Step::Hashing { want, outliner, told: now.mono });
            self.ask(read(file, offset, due), net);
        } else if let Ok(outline) = outliner.finish() {
            self.begin(tag, Step::Judging { want, outline: Arc::new(outline) });
            self.ask(Effect::StatFile { file }, net);
        }
    }

    /// What it was asked by the host is answered no more; its file is released.
    pub(crate) fn close(&mut self, net: &mut Net<Session>) -> Option<RequestId> {
        self.work = None;
        if let Some(held) = self.held.take() {
            net.release(held.file, Some(self.conn));
        }
        let request = self.request.take()?;
        net.cancel(request);
        Some(request)
    }

    /// Whether a request is not answered.
    pub(crate) fn is_answering(&self) -> bool {
        self.work.is_some()
    }

    /// What it asked the host last.
    pub(crate) fn request(&self) -> Option<RequestId> {
        self.request
    }

    /// Whether it has a place among those who hash that it needs no more, and gives up.
    pub(crate) fn gives_place_up(&mut self) -> bool {
        let step = self.work.as_ref().map(|work| &work.step);
        let needs = matches!(step, Some(Step::Queued { .. } | Step::Hashing { .. }));
        let gives_up = self.placed && !needs;
        self.placed &= needs;
        gives_up
    }

    fn begin(&mut self, tag: u32, step: Step) {
        self.work = Some(Work { tag, step });
    }

    fn ask(&mut self, effect: Effect, net: &mut Net<Session>) {
        self.request = Some(net.request(effect));
    }

    /// Opens the file, unless it is the one that is held.
    fn open(
        &mut self,
        tag: u32,
        name: SafeName,
        want: Want,
        shared: &Shared,
        net: &mut Net<Session>,
    ) {
        if let Some(held) = self.held.as_ref().filter(|held| held.name == name) {
            let file = held.file;
            self.begin(tag, Step::Checking { want });
            return self.ask(Effect::StatFile { file }, net);
        }
        if let Some(held) = self.held.take() {
            // Parts of it may still wait to be sent.
            net.release(held.file, Some(self.conn));
        }
        let path = name.as_str().to_owned();
        self.begin(tag, Step::Opening { name, want });
        self.ask(Effect::Open { root: shared.root, path, mode: OpenMode::Read }, net);
    }

    /// The file is open: answers, if its outline is at hand, or makes one.
    fn opened(
        &mut self,
        now: Now,
        tag: u32,
        want: Want,
        shared: &mut Shared,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let held = self.held.as_mut()?;
        if held.metadata.len > MAX_FILE {
            return self.refuse(tag, ErrorCode::FileTooLarge, net);
        }
        if matches!(&want, Want::Parts { ranges, .. } if ranges.file() != held.metadata.len) {
            return self.refuse(tag, ErrorCode::Changed, net);
        }
        if held.outline.is_none() {
            held.outline = shared.outlines.find(held.name.as_str(), &held.metadata);
        }
        if let Some(outline) = &held.outline {
            let outline = Arc::clone(outline);
            return self.answer(tag, want, outline, net);
        }
        self.begin(tag, Step::Queued { want });
        self.placed = true;
        if shared.outlines.begin(self.conn) {
            self.handle_turn(now, net);
        }
        None
    }

    /// Answers with what the outline says.
    fn answer(
        &mut self,
        tag: u32,
        want: Want,
        outline: Arc<Outline>,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        match want {
            Want::Meta => {
                let meta = meta(&self.held.as_ref()?.metadata)?;
                self.tell(&Message::Meta { tag, meta, hash: Some(outline.hash()) }, net);
                None
            }
            Want::Offer => {
                let Meta { size, modified, .. } = meta(&self.held.as_ref()?.metadata)?;
                Some(Outcome::Known { size, modified, hash: outline.hash() })
            }
            Want::Parts { hash, .. } if hash != outline.hash() => {
                self.refuse(tag, ErrorCode::Changed, net)
            }
            Want::Parts { content, ranges, .. } => {
                let bytes = if content { ranges.content() } else { 0 };
                let sender = if content {
                    Sender::new(&outline, ranges)
                } else {
                    Sender::hashes(&outline, ranges)
                };
                let Ok(sender) = sender.map(Box::new) else {
                    return self.refuse(tag, ErrorCode::Changed, net);
                };
                let (due, before) = (None, Frame::default());
                let sending = Sending { outline, sender, bytes, left: bytes, due, before };
                self.begin(tag, Step::Sending(sending));
                self.send(AtHand::default(), net)
            }
        }
    }

    /// Sends on, as long as there is room and nothing has to be read.
    fn send(&mut self, mut at_hand: AtHand<'_>, net: &mut Net<Session>) -> Option<Outcome> {
        let (conn, sealed) = (self.conn, self.sealed);
        while net.has_room(conn) && self.request.is_none() {
            let Work { tag, step: Step::Sending(sending) } = self.work.as_mut()? else {
                return None;
            };
            let file = self.held.as_ref()?.file;
            let Sending { outline, sender, bytes, left, due, before: frame } = sending;
            let (tag, bytes) = (*tag, *bytes);
            let last = loop {
                let item = match due.take() {
                    Some((offset, len)) => Item::Content { offset, len },
                    None => sender.poll_item(outline),
                };
                match item {
                    Item::Pair(pair) => frame.put_bytes(&pair),
                    Item::Content { offset, len } if sealed => match at_hand.take(offset, len) {
                        Some(group) => {
                            *left = left.saturating_sub(len);
                            frame.send_before(group, conn, net);
                        }
                        None => {
                            *due = Some((offset, len));
                            break Some(Item::Span { offset, len: len.max(*left) });
                        }
                    },
                    Item::Content { offset, len } => frame.put_span(FileSpan { file, offset, len }),
                    last => break Some(last),
                }
                if frame.is_full() {
                    break None;
                }
            };
            if due.is_none() {
                frame.send(conn, net);
            }
            match last {
                Some(Item::Span { offset, len }) => self.ask(read(file, offset, len), net),
                Some(Item::End) => {
                    let hash = outline.hash();
                    self.work = None;
                    self.tell(&Message::Done { tag, hash }, net);
                    let name = self.held.as_ref()?.name.clone();
                    return Some(Outcome::Sent { name, bytes });
                }
                _ => {}
            }
        }
        None
    }

    fn refuse(&mut self, tag: u32, code: ErrorCode, net: &mut Net<Session>) -> Option<Outcome> {
        self.work = None;
        let mut text = String::new();
        let _ = write!(text, "{code}");
        self.tell(&Message::Error { tag, code, text: &text }, net);
        Some(Outcome::Refused(code))
    }

    /// Refused only if the connection is gone, which is told in another way.
    fn tell(&self, message: &Message<'_>, net: &mut Net<Session>) {
        let _ = net.send(self.conn, SessionCommand::Message(message));
    }
}

impl Work {
    /// Whether it finds out what is to be offered.
    fn offers(&self) -> bool {
        let (Step::Opening { want, .. }
        | Step::Checking { want }
        | Step::Queued { want }
        | Step::Hashing { want, .. }
        | Step::Judging { want, .. }) = &self.step
        else {
            return false;
        };
        matches!(want, Want::Offer)
    }
}

/// A BODY frame in the making.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Octets up to here, or a span.
    parts: Vec<Result<usize, FileSpan>>,
    len: u64,
}

impl Frame {
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.len = self.len.saturating_add(bytes.len() as u64);
        let end = self.bytes.len();
        match self.parts.last_mut() {
            Some(Ok(last)) => *last = end,
            _ => self.parts.push(Ok(end)),
        }
    }

    fn put_span(&mut self, span: FileSpan) {
        self.len = self.len.saturating_add(span.len);
        match self.parts.last_mut() {
            Some(Err(last)) if last.offset.saturating_add(last.len) == span.offset => {
                last.len = last.len.saturating_add(span.len);
            }
            _ => self.parts.push(Err(span)),
        }
    }

    fn is_full(&self) -> bool {
        self.len >= FULL || self.bytes.len() >= MEMORY
    }

    /// Sends what is in it, and a group behind.
    fn send_before(&mut self, group: &[u8], conn: ConnId, net: &mut Net<Session>) {
        let Self { bytes, .. } = core::mem::take(self);
        // Refused only if the connection is gone.
        let _ = net.send(conn, SessionCommand::Body(&[Piece::Bytes(&bytes), Piece::Bytes(group)]));
    }

    /// Sends what is in it, if there is any.
    fn send(&mut self, conn: ConnId, net: &mut Net<Session>) {
        if self.len > 0 {
            core::mem::take(self).put(conn, net);
        }
    }

    fn put(self, conn: ConnId, net: &mut Net<Session>) {
        let mut rest = &*self.bytes;
        let mut from = 0_usize;
        let mut pieces = Vec::new();
        for part in &self.parts {
            pieces.push(match part {
                Ok(end) => {
                    let (bytes, behind) =
                        rest.split_at_checked(end.saturating_sub(from)).unwrap_or((rest, &[]));
                    (rest, from) = (behind, *end);
                    Piece::Bytes(bytes)
                }
                Err(span) => Piece::Span(*span),
            });
        }
        // Refused only if the connection is gone.
        let _ = net.send(conn, SessionCommand::Body(&pieces));
    }
}

fn read(file: FileId, offset: u64, len: u64) -> Effect {
    let len = u32::try_from(len).map_or(READ, |len| len.min(READ));
    Effect::Read { file, offset, len }
}

fn listing(root: RootId, folder: &str, after: String) -> Effect {
    Effect::List { root, path: folder.to_owned(), after }
}

/// What is told of a file or a folder; nothing of others.
fn meta(metadata: &Metadata) -> Option<Meta> {
    let (kind, size) = match metadata.kind {
        FileKind::File => (Kind::File, metadata.len),
        FileKind::Folder => (Kind::Folder, 0),
        FileKind::Other => return None,
    };
    Some(Meta { kind, size, modified: metadata.modified.as_millis() })
}

/// Adds the names that may be told of; whether all of them fitted.
fn fill(list: &mut EntryList, folder: &str, entries: &[Entry], policy: Policy) -> bool {
    entries.iter().all(|entry| {
        let mut path = folder.to_owned();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&entry.name);
        match meta(&entry.metadata).filter(|_| judge(path, policy).is_some()) {
            Some(meta) => list.push(&entry.name, meta),
            None => true,
        }
    })
}
