//! What a server does for one framed connection, or a client for the server it puts a file to: one
//! request at a time.
//!
//! | request | step | asks the host for |
//! |---|---|---|
//! | LIST | Listing | the folder, until a frame is full |
//! | STAT | Looking | what the name is; without a hash, that is all |
//! | STAT with a hash, GET | Opening | the file, unless it is held open from the request before |
//! | | Checking | the open file's state: is it still what was hashed? |
//! | | Queued, Making | for large files: a file without a name for the hashes of their groups |
//! | | Hashing | its content, if its outline is not kept; WAIT is sent meanwhile |
//! | | Judging | the open file's state: is it still what it was before? |
//! | GET | Sending | for large files: the hashes of the groups in a span, or its content to hash it again |
//!
//! Of files up to 256 MiB the hashes of all groups are held in memory. Of larger ones only those of spans
//! are, and the others are put away on a disk while they are made, so that memory stays what it is
//! and no work is done twice. Where there is no such place, all are held up to 1 GiB. They are believed no more than what comes from a peer: what does not
//! make the span's hash, cannot be read or was not written is made anew from the content.
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

use crate::outlines::{Known, Outlines};
use crate::session::{Piece, Session, SessionCommand};
use crate::tree::{GROUP, Hash, Item, MAX_FILE, MAX_KEPT, Outliner, Ranges, Sender};
use crate::wire::{EntryList, ErrorCode, Get, Kind, MAX_BODY, Message, Meta};

/// What is read at once to be hashed: some hundred microseconds of work.
const READ: u32 = 256 * 1024;
/// The most hashes that are held of a file where others can be put away: all of them up to 256 MiB.
const AT_HAND: usize = 8_192;
/// What is written at once of hashes that are put away: those of 32 MiB.
const LEAVES: usize = 16 * 1024;
/// The least groups of a span where hashes are put away, 4 MiB: as many as a client of ours asks for at
/// once, 2 KiB of hashes.
const SPAN: u64 = 64;
/// The largest file whose hashes are put away, 64 GiB: with spans of the least size, its outline is the
/// largest there is.
const MAX_PUT_AWAY: u64 = MAX_KEPT as u64 / 2 * SPAN * GROUP;
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
    /// Where hashes are put away.
    pub(crate) scratch: Option<RootId>,
    /// Hashes that are held of a file at most.
    pub(crate) hashes: usize,
}

impl Shared {
    pub(crate) fn new(root: RootId, policy: Policy) -> Self {
        let outlines = Outlines::default();
        Self { root, policy, outlines, scratch: None, hashes: MAX_KEPT }
    }

    /// Where the hashes of a file of `len` bytes are put away, if they are.
    fn scratch(&self, len: u64) -> Option<RootId> {
        let all = len.div_ceil(GROUP).saturating_mul(2);
        let held = self.hashes.min(AT_HAND) as u64;
        self.scratch.filter(|_| all > held && len <= MAX_PUT_AWAY)
    }
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
    /// Where the hashes are put away that are being made, and how many bytes of them are.
    making: Option<(FileId, u64)>,
}

/// A file that is open, for the next request.
#[derive(Debug)]
struct Held {
    name: SafeName,
    file: FileId,
    metadata: Metadata,
    known: Option<Known>,
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
    Making { want: Want },
    Hashing(Hashing),
    Judging { want: Want, known: Known },
    Sending(Sending),
}

/// A file that is read for its hashes.
#[derive(Debug)]
struct Hashing {
    want: Want,
    outliner: Box<Outliner>,
    told: Instant,
    /// What it waits for is that hashes are put away.
    writing: bool,
}

/// An answer to GET that is on its way.
#[derive(Debug)]
struct Sending {
    known: Known,
    sender: Box<Sender>,
    /// What is read is hashes that were put away.
    reading: bool,
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
    /// A partial file that nobody came back for.
    Removed {
        name: SafeName,
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
        Self { conn, sealed, held: None, work: None, request: None, placed: false, making: None }
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
                self.held = Some(Held { name, file, metadata, known: None });
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
            (Step::Making { want }, Reply::Opened { file, .. }) => {
                self.making = Some((file, 0));
                self.hash(now, tag, want, shared, net)
            }
            // Without a place to put them away it takes more work later, that is all.
            (Step::Making { want }, _) => self.hash(now, tag, want, shared, net),
            (Step::Hashing(mut hashing), Reply::Done) if hashing.writing => {
                hashing.writing = false;
                self.hash_on(now, tag, hashing, net)
            }
            (Step::Hashing(mut hashing), _) if hashing.writing => {
                hashing.writing = false;
                self.forget(net);
                self.hash_on(now, tag, hashing, net)
            }
            (Step::Hashing(mut hashing), Reply::Read(bytes)) => {
                let taken = hashing.outliner.handle_content(bytes);
                if taken.is_err() || bytes.is_empty() {
                    // Shorter or longer than when it was opened.
                    return self.refuse(tag, ErrorCode::Changed, net);
                }
                self.hash_on(now, tag, hashing, net)
            }
            (Step::Judging { want, known }, Reply::Found(metadata)) => {
                let held = self.held.as_mut()?;
                if held.metadata != metadata {
                    return self.refuse(tag, ErrorCode::Changed, net);
                }
                // From here on it is the outlines' to release.
                self.making = None;
                let name = held.name.as_str();
                for file in shared.outlines.insert(name, &metadata, known.clone()) {
                    net.release(file, None);
                }
                held.known = Some(known.clone());
                self.answer(tag, want, known, net)
            }
            (Step::Sending(mut sending), reply) if sending.reading => {
                sending.reading = false;
                let Sending { sender, known, .. } = &mut sending;
                let taken = match reply {
                    Reply::Read(bytes) => sender.handle_leaves(&known.outline, bytes).is_ok(),
                    _ => false,
                };
                if !taken {
                    known.leaves = None;
                    if let Some(Held { known: Some(known), .. }) = &mut self.held {
                        known.leaves = None;
                    }
                }
                self.begin(tag, Step::Sending(sending));
                self.send(AtHand::default(), net)
            }
            (Step::Sending(mut sending), Reply::Read(bytes)) => {
                let mut at_hand = AtHand::default();
                let wrong = match sending.due {
                    Some((offset, len)) => {
                        at_hand = AtHand { offset, bytes };
                        (bytes.len() as u64) < len
                    }
                    None => {
                        let Sending { sender, known, .. } = &mut sending;
                        bytes.is_empty() || sender.handle_span(&known.outline, bytes).is_err()
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
    pub(crate) fn handle_turn(&mut self, now: Now, shared: &Shared, net: &mut Net<Session>) {
        let Some(Work { tag, step }) = self.work.take() else { return };
        let (Step::Queued { want }, Some(held)) = (step, &self.held) else { return };
        match shared.scratch(held.metadata.len) {
            Some(root) => {
                self.begin(tag, Step::Making { want });
                let (path, mode) = (String::new(), OpenMode::Unnamed);
                self.ask(Effect::Open { root, path, mode }, net);
            }
            // It asks for something: there is no outcome yet.
            None => drop(self.hash(now, tag, want, shared, net)),
        }
    }

    /// Begins to hash.
    fn hash(
        &mut self,
        now: Now,
        tag: u32,
        want: Want,
        shared: &Shared,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let len = self.held.as_ref()?.metadata.len;
        let mut hashes = shared.hashes;
        if self.making.is_some() {
            let spans = len.div_ceil(GROUP).div_ceil(SPAN);
            hashes = usize::try_from(spans.saturating_mul(2)).map_or(hashes, |it| it.min(hashes));
        }
        // Longer files were refused before.
        let mut outliner = Outliner::with_limit(len, hashes).ok()?;
        if self.making.is_some() {
            outliner = outliner.with_leaves();
        }
        let (outliner, told) = (Box::new(outliner), now.mono);
        self.hash_on(now, tag, Hashing { want, outliner, told, writing: false }, net)
    }

    /// Hashes on: puts away what there is of hashes, reads the next bytes, or is done.
    fn hash_on(
        &mut self,
        now: Now,
        tag: u32,
        mut hashing: Hashing,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let held = self.held.as_ref()?;
        let (done, due) = hashing.outliner.due();
        let waiting = hashing.outliner.leaves();
        if waiting >= LEAVES || (due == 0 && waiting > 0) {
            let leaves = hashing.outliner.take_leaves();
            if let Some((file, written)) = &mut self.making {
                let (file, offset) = (*file, *written);
                *written = offset.saturating_add(leaves.len() as u64);
                hashing.writing = true;
                self.begin(tag, Step::Hashing(hashing));
                self.ask(Effect::Write { file, offset, bytes: leaves.into() }, net);
                return None;
            }
        }
        let file = held.file;
        if due == 0 {
            let Hashing { want, outliner, .. } = hashing;
            let Ok(outline) = outliner.finish() else {
                return self.refuse(tag, ErrorCode::Changed, net);
            };
            let leaves = self.making.map(|(file, _)| file);
            let known = Known { outline: Arc::new(outline), leaves };
            self.begin(tag, Step::Judging { want, known });
            self.ask(Effect::StatFile { file }, net);
            return None;
        }
        let (of, effect) = (done.saturating_add(due), read(file, done, due));
        let tells = now.mono.saturating_since(hashing.told) >= WAIT;
        if tells {
            hashing.told = now.mono;
            self.tell(&Message::Wait { tag, done, of }, net);
        }
        self.begin(tag, Step::Hashing(hashing));
        self.ask(effect, net);
        tells.then_some(Outcome::Hashing { done, of })
    }

    /// What was put away of hashes that are not whole is of no use.
    fn forget(&mut self, net: &mut Net<Session>) {
        if let Some((file, _)) = self.making.take() {
            net.release(file, None);
        }
    }

    /// What it was asked by the host is answered no more; its file is released.
    pub(crate) fn close(&mut self, net: &mut Net<Session>) -> Option<RequestId> {
        self.work = None;
        self.forget(net);
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
        let needs =
            matches!(step, Some(Step::Queued { .. } | Step::Making { .. } | Step::Hashing(_)));
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
        if held.known.is_none() {
            held.known = shared.outlines.find(held.name.as_str(), &held.metadata);
        }
        if let Some(known) = held.known.clone() {
            return self.answer(tag, want, known, net);
        }
        self.begin(tag, Step::Queued { want });
        self.placed = true;
        if shared.outlines.begin(self.conn) {
            self.handle_turn(now, shared, net);
        }
        None
    }

    /// Answers with what the outline says.
    fn answer(
        &mut self,
        tag: u32,
        want: Want,
        known: Known,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let outline = &known.outline;
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
                    Sender::new(outline, ranges)
                } else {
                    Sender::hashes(outline, ranges)
                };
                let Ok(sender) = sender.map(Box::new) else {
                    return self.refuse(tag, ErrorCode::Changed, net);
                };
                let (due, before) = (None, Frame::default());
                self.begin(
                    tag,
                    Step::Sending(Sending {
                        known,
                        sender,
                        reading: false,
                        bytes,
                        left: bytes,
                        due,
                        before,
                    }),
                );
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
            let Sending { known, sender, reading, bytes, left, due, before: frame } = sending;
            let (tag, bytes) = (*tag, *bytes);
            let last = loop {
                let item = match due.take() {
                    Some((offset, len)) => Item::Content { offset, len },
                    None => sender.poll_item(&known.outline),
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
            let is_content = due.is_some();
            if !is_content {
                frame.send(conn, net);
            }
            match (last, known.leaves) {
                (Some(Item::Span { offset, len }), Some(leaves)) if !is_content => {
                    *reading = true;
                    self.ask(read_leaves(leaves, offset, len), net);
                }
                (Some(Item::Span { offset, len }), _) => self.ask(read(file, offset, len), net),
                (Some(Item::End), _) => {
                    let hash = known.outline.hash();
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
        self.forget(net);
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
        | Step::Making { want }
        | Step::Hashing(Hashing { want, .. })
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

/// The hashes of the groups in a span, as they were put away.
fn read_leaves(file: FileId, offset: u64, len: u64) -> Effect {
    let of = |bytes: u64| bytes.div_ceil(GROUP).saturating_mul(size_of::<Hash>() as u64);
    let len = u32::try_from(of(len)).unwrap_or(u32::MAX);
    Effect::Read { file, offset: of(offset), len }
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
