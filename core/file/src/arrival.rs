//! One file on its way here, proved as it arrives: the same whoever sends it.
//!
//! The owner knows a [`Goal`] and has a source to ask, over one connection or several.
//!
//! | step | asks | what for |
//! |---|---|---|
//! | Looking, Comparing | the host | whether the name is taken; if so, whether by this very content |
//! | Making | the host | the folders it lies in |
//! | Tidying | the host | whether there are partial files of other content: then it starts anew |
//! | Clearing | the host | of a file that has its name: that old partial files are removed |
//! | Confirming | the host | of a name that was taken by this content: that it is durable |
//! | Opening, Removing, Creating | the host | the partial file of this content, or a new one |
//! | Proving | both | the hashes of what the partial file could hold, and what it does hold |
//! | Getting | the source | what is missing, in pieces |
//! | Saving | the host | as old as its source, durable, renamed, the name durable |
//! | Leaving | the host | what was to be written is; an empty partial file is removed |
//!
//! Nothing is believed but the hash: neither the partial file, whose name only says which content
//! it is meant for, nor any part that comes.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use bytes::BytesMut;
use core::ops::Range;
use semfio_machine::{
    Effect, Failure, FileId, FileKind, Net, OpenMode, Reply, RequestId, RootId, StreamMachine,
    UnixTime,
};
use semfio_path::SafeName;

use crate::part::{Part, PartEvent, Stage};
use crate::tree::{Beside, Due, GROUP, Hash, Node, NodeHasher, PAIR, Ranges, TreeError, Verifier};

/// Groups whose hashes are asked for at once: 16 KiB of hashes for 16 MiB of content.
const PROVED: u64 = 256;
/// What is read at once of a file that is there already.
const READ: u32 = 256 * 1024;
/// How often a folder is listed on in search of partial files.
const LIST_TURNS: u32 = 16;

/// What shall be there in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) root: RootId,
    pub(crate) name: SafeName,
    /// Whether a file of that name with other content is replaced.
    pub(crate) replace: bool,
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    /// When its source says that it was modified last, in milliseconds since 1970; 0 if it does not.
    pub(crate) modified: u64,
}

impl Goal {
    fn modified(&self) -> Option<UnixTime> {
        let nanos = self.modified.saturating_mul(1_000_000);
        (nanos > 0).then_some(UnixTime::from_nanos(nanos))
    }

    /// Where it is written before it is whole: each content has a place of its own.
    fn part(&self) -> Option<SafeName> {
        self.name.part(tag_of(&self.hash)).ok()
    }
}

/// One file on its way.
#[derive(Debug)]
pub(crate) struct Arrival {
    goal: Goal,
    step: Step,
    /// What the host was asked, but for what the part asks.
    request: Option<RequestId>,
    part: Option<Part>,
    /// Groups that are missing and not asked for.
    todo: VecDeque<Range<u64>>,
    /// Groups that are missing.
    left: u64,
    /// Bytes that are proved.
    proved: u64,
    /// Partial files of other content, removed once this is saved.
    old: BTreeSet<SafeName>,
    /// That it starts anew was told already.
    anew: bool,
    /// Its folders are known to be there, and to be durable.
    made: bool,
}

#[derive(Debug)]
enum Step {
    Looking,
    Comparing { file: Option<FileId>, hasher: Box<NodeHasher> },
    Clearing,
    Confirming,
    Making(Folders),
    Tidying { turns: u32, there: bool },
    Opening,
    Removing,
    Creating,
    Proving(Proving),
    Getting,
    Saving,
    Leaving,
}

/// Which groups of a partial file are what they should be.
#[derive(Debug)]
struct Proving {
    file: FileId,
    /// Groups it could hold.
    groups: u64,
    /// Groups whose hashes were asked for last.
    asked: Range<u64>,
    /// They are on their way.
    coming: bool,
    /// Those that were told and are not compared.
    known: VecDeque<(Node, Hash)>,
    missing: Ranges,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArrivalEvent {
    /// There was a partial file of other content.
    StartedAnew,
    /// The source is to be asked: see [`Arrival::poll_want`].
    Wanting,
    /// Content is to be asked for; so much was there.
    Begun { resumed: u64 },
    /// It was full, and is not any more.
    Room,
    /// It has its name, for good.
    Saved,
    /// A step failed; nothing goes on.
    Failed(Stage, Failure),
    /// It was left as it is.
    Left,
}

/// What a source is to be asked for.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Hashes(Ranges),
    Content(Ranges),
}

impl Want {
    pub(crate) fn ranges(&self) -> &Ranges {
        match self {
            Self::Hashes(ranges) | Self::Content(ranges) => ranges,
        }
    }

    /// Whether it is content.
    pub(crate) fn content(&self) -> bool {
        matches!(self, Self::Content(_))
    }
}

impl Arrival {
    /// Begins by looking whether the name is taken. `former` is the partial file of other content
    /// that was given up for this one; `made` tells that the folders are there.
    pub(crate) fn begin<M: StreamMachine>(
        goal: Goal,
        former: Option<SafeName>,
        made: bool,
        net: &mut Net<M>,
    ) -> Self {
        let effect = Effect::Stat { root: goal.root, path: path(&goal.name) };
        Self {
            goal,
            step: Step::Looking,
            request: Some(net.request(effect)),
            part: None,
            todo: VecDeque::new(),
            left: 0,
            proved: 0,
            anew: former.is_some(),
            old: former.into_iter().collect(),
            made,
        }
    }

    pub(crate) fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Bytes that are proved.
    pub(crate) fn proved(&self) -> u64 {
        self.proved
    }

    /// Whether the partial file is written, or may be soon.
    pub(crate) fn has_begun(&self) -> bool {
        self.part.is_some()
    }

    /// Whether which of its groups are missing is not known yet.
    pub(crate) fn is_proving(&self) -> bool {
        matches!(self.step, Step::Proving(_))
    }

    /// Whether the source is not needed any more.
    pub(crate) fn is_saving(&self) -> bool {
        matches!(self.step, Step::Saving | Step::Clearing | Step::Confirming)
    }

    /// Whether what comes now would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.part.as_ref().is_some_and(|part| !part.has_room())
    }

    /// Groups that are missing and not asked for.
    pub(crate) fn unasked(&self) -> impl Iterator<Item = &Range<u64>> {
        self.todo.iter()
    }

    /// The partial file, as long as it has not its name.
    pub(crate) fn part(&self) -> Option<&SafeName> {
        self.part.as_ref().map(Part::path)
    }

    /// The same, if it stays when this is left.
    pub(crate) fn kept(&self) -> Option<&SafeName> {
        self.part.as_ref().filter(|part| part.is_worth_keeping()).map(Part::path)
    }

    /// What the source shall be asked next: content of at most `most` groups, or hashes. `None` if
    /// nothing is missing, or the host has to answer first.
    pub(crate) fn poll_want(&mut self, most: u64) -> Option<Want> {
        let mut ranges = Ranges::none(self.goal.size);
        let full = self.is_full();
        match &mut self.step {
            Step::Proving(proving) => {
                let waits = proving.coming || !proving.known.is_empty() || self.request.is_some();
                if waits || proving.asked.end >= proving.groups {
                    return None;
                }
                let from = proving.asked.end;
                proving.asked = from..from.saturating_add(PROVED).min(proving.groups);
                proving.coming = true;
                ranges.add(proving.asked.clone());
                Some(Want::Hashes(ranges))
            }
            Step::Getting if !full => {
                let mut room = most;
                while room > 0 {
                    let Some(range) = self.todo.pop_front() else { break };
                    let end = range.end.min(range.start.saturating_add(room));
                    room = room.saturating_sub(end.saturating_sub(range.start));
                    ranges.add(range.start..end);
                    if end < range.end {
                        self.todo.push_front(end..range.end);
                    }
                }
                (!ranges.is_empty()).then_some(Want::Content(ranges))
            }
            _ => None,
        }
    }

    /// What was asked for and did not come is to be asked for again.
    pub(crate) fn give_back(&mut self, stream: &Stream) {
        self.todo.extend(stream.missing());
    }

    /// Takes what a stream has proved, and gives [memory](Stream::refill) for what comes next.
    pub(crate) fn handle_proved<M: StreamMachine>(
        &mut self,
        proved: Proved,
        net: &mut Net<M>,
    ) -> BytesMut {
        match (proved, &mut self.step, &mut self.part) {
            (Proved::Hashes(nodes), Step::Proving(proving), _) => {
                let asked = proving.asked.clone();
                let nodes = nodes.into_iter().flatten();
                proving.known.extend(
                    nodes.filter(|(node, _)| node.groups() == 1 && asked.contains(&node.start())),
                );
                self.read(net);
            }
            (Proved::Group(node, content), Step::Getting, Some(part)) => {
                part.write(node.offset(), content.freeze(), net);
                self.left = self.left.saturating_sub(1);
                self.proved = self.proved.saturating_add(node.len());
                return part.spare();
            }
            _ => {}
        }
        BytesMut::new()
    }

    /// A stream has come to its end.
    pub(crate) fn handle_end<M: StreamMachine>(
        &mut self,
        net: &mut Net<M>,
    ) -> Option<ArrivalEvent> {
        match &mut self.step {
            Step::Proving(proving) => {
                proving.coming = false;
                self.prove(net)
            }
            Step::Getting => {
                self.finish(net);
                None
            }
            _ => None,
        }
    }

    /// Takes the answer to a request, if it is one of its own.
    pub(crate) fn handle_reply<M: StreamMachine>(
        &mut self,
        id: RequestId,
        reply: &Reply<'_>,
        net: &mut Net<M>,
    ) -> Option<ArrivalEvent> {
        if self.request == Some(id) {
            self.request = None;
            return self.handle_local(reply, net);
        }
        match self.part.as_mut()?.handle_reply(id, reply, net)? {
            PartEvent::Ready => None,
            PartEvent::Room => Some(ArrivalEvent::Room),
            PartEvent::Saved if self.old.is_empty() => Some(ArrivalEvent::Saved),
            PartEvent::Saved => {
                // Who is told that all is done may end its host at once.
                self.clear(net)
            }
            PartEvent::Failed(stage, failure) => Some(ArrivalEvent::Failed(stage, failure)),
            PartEvent::Left => Some(ArrivalEvent::Left),
        }
    }

    /// It is given up: its partial file stays, unless there is nothing in it. Whether that is so
    /// already; if not, `Left` follows.
    pub(crate) fn leave<M: StreamMachine>(&mut self, net: &mut Net<M>) -> bool {
        if let Some(request) = self.request.take() {
            net.cancel(request);
        }
        let step = core::mem::replace(&mut self.step, Step::Leaving);
        if let Step::Proving(Proving { file, .. }) | Step::Comparing { file: Some(file), .. } = step
        {
            net.release(file, None);
        }
        self.part.as_mut().is_none_or(|part| part.leave(net))
    }

    fn handle_local<M: StreamMachine>(
        &mut self,
        reply: &Reply<'_>,
        net: &mut Net<M>,
    ) -> Option<ArrivalEvent> {
        let root = self.goal.root;
        match (&mut self.step, *reply) {
            (Step::Looking, Reply::Failed(Failure::NotFound)) => self.make(net),
            (Step::Looking, Reply::Found(metadata)) => {
                if metadata.kind != FileKind::File {
                    // All would come, and then not get the name, or a device would lose it.
                    return Some(ArrivalEvent::Failed(Stage::Look, Failure::WrongKind));
                }
                if metadata.len != self.goal.size {
                    return self.taken(net);
                }
                let hasher = Box::new(NodeHasher::new(Node::root(self.goal.size)));
                self.step = Step::Comparing { file: None, hasher };
                let (path, mode) = (path(&self.goal.name), OpenMode::Read);
                self.ask(Effect::Open { root, path, mode }, net)
            }
            (Step::Comparing { file: opened, hasher }, Reply::Opened { file: id, .. }) => {
                *opened = Some(id);
                let effect = read(id, 0, hasher.due());
                self.ask(effect, net)
            }
            (Step::Comparing { file: Some(id), hasher }, Reply::Read(bytes)) => {
                let id = *id;
                hasher.handle_content(bytes);
                let due = hasher.due();
                if due > 0 && !bytes.is_empty() {
                    let effect = read(id, self.goal.size.saturating_sub(due), due);
                    return self.ask(effect, net);
                }
                let same = hasher.hash() == Some(self.goal.hash);
                self.step = Step::Confirming;
                net.release(id, None);
                // An attempt that died may have given it its name, and no more.
                if same { self.tidy(true, net) } else { self.taken(net) }
            }
            // Whether one could be removed changes nothing.
            (Step::Clearing, _) => self.clear(net),
            (Step::Confirming, Reply::Done) => Some(ArrivalEvent::Saved),
            (Step::Making(folders), reply) if folders.takes(&reply) => match folders.next() {
                Some(effect) => self.ask(effect, net),
                None => self.tidy(false, net),
            },
            (Step::Tidying { turns, there }, Reply::Listed(entries)) => {
                let (turns, there) = (turns.saturating_add(1), *there);
                let prefix = self.goal.name.part_prefix();
                let ours = tag_of(&self.goal.hash);
                for entry in entries {
                    let tag = self.goal.name.tag_of(&entry.name).filter(|tag| *tag != ours);
                    let old = tag.and_then(|tag| self.goal.name.part(tag).ok());
                    self.old.extend(old.filter(|_| entry.metadata.kind == FileKind::File));
                }
                match entries.last() {
                    Some(last) if turns < LIST_TURNS && last.name.starts_with(&prefix) => {
                        self.step = Step::Tidying { turns, there };
                        let path = self.goal.name.parent().to_owned();
                        self.ask(Effect::List { root, path, after: last.name.clone() }, net)
                    }
                    _ if there => self.clear(net),
                    _ => {
                        self.step = Step::Opening;
                        self.open(OpenMode::Update, net);
                        let anew =
                            !self.old.is_empty() && !core::mem::replace(&mut self.anew, true);
                        anew.then_some(ArrivalEvent::StartedAnew)
                    }
                }
            }
            (Step::Opening, Reply::Opened { file: id, metadata })
                if metadata.len > self.goal.size =>
            {
                // More than there can be: nothing of it is worth its proof.
                net.release(id, None);
                self.step = Step::Removing;
                let path = self.goal.part().as_ref().map(path)?;
                self.ask(Effect::Remove { root, path }, net)
            }
            (Step::Opening | Step::Creating, Reply::Opened { file, metadata }) => {
                self.opened(file, metadata.len, net)
            }
            (Step::Opening, Reply::Failed(Failure::NotFound)) | (Step::Removing, Reply::Done) => {
                self.step = Step::Creating;
                self.open(OpenMode::CreateNew, net);
                None
            }
            (Step::Proving(proving), Reply::Read(bytes)) => {
                if let Some((node, hash)) = proving.known.pop_front() {
                    let mut hasher = NodeHasher::new(node);
                    hasher.handle_content(bytes);
                    if hasher.hash() == Some(hash) {
                        self.proved = self.proved.saturating_add(node.len());
                    } else {
                        proving.missing.add(node.start()..node.end());
                    }
                }
                self.read(net);
                self.prove(net)
            }
            (step, Reply::Failed(failure)) => {
                let stage = match step {
                    Step::Confirming => Stage::SyncFolder,
                    Step::Looking | Step::Comparing { .. } | Step::Tidying { .. } => Stage::Look,
                    _ => Stage::Create,
                };
                Some(ArrivalEvent::Failed(stage, failure))
            }
            // A host that answers something else than was asked for.
            _ => Some(ArrivalEvent::Failed(Stage::Look, Failure::Unsupported)),
        }
    }

    fn ask<M: StreamMachine>(&mut self, effect: Effect, net: &mut Net<M>) -> Option<ArrivalEvent> {
        self.request = Some(net.request(effect));
        None
    }

    /// There is something of that name, and not this content.
    fn taken<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<ArrivalEvent> {
        if self.goal.replace {
            return self.make(net);
        }
        Some(ArrivalEvent::Failed(Stage::Look, Failure::Exists))
    }

    fn make<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<ArrivalEvent> {
        let folder = if self.made { "" } else { self.goal.name.parent() };
        let mut folders = Folders::new(self.goal.root, folder);
        match folders.next() {
            Some(effect) => {
                self.step = Step::Making(folders);
                self.ask(effect, net)
            }
            None => self.tidy(false, net),
        }
    }

    /// Looks for partial files; `there` tells that the name has this content already.
    fn tidy<M: StreamMachine>(&mut self, there: bool, net: &mut Net<M>) -> Option<ArrivalEvent> {
        self.step = Step::Tidying { turns: 0, there };
        let (root, path) = (self.goal.root, self.goal.name.parent().to_owned());
        self.ask(Effect::List { root, path, after: self.goal.name.part_prefix() }, net)
    }

    fn open<M: StreamMachine>(&mut self, mode: OpenMode, net: &mut Net<M>) {
        // Without a part of it the name is refused before.
        let path = self.goal.part().as_ref().map(path).unwrap_or_default();
        self.ask(Effect::Open { root: self.goal.root, path, mode }, net);
    }

    /// The partial file is open and holds so many bytes.
    fn opened<M: StreamMachine>(
        &mut self,
        file: FileId,
        len: u64,
        net: &mut Net<M>,
    ) -> Option<ArrivalEvent> {
        let top = Node::root(self.goal.size);
        let whole = len == self.goal.size;
        let groups = if whole { top.groups() } else { len.checked_div(GROUP).unwrap_or(0) };
        let mut missing = Ranges::none(self.goal.size);
        missing.add(groups..u64::MAX);
        let known = VecDeque::new();
        let mut proving = Proving { file, groups, asked: 0..0, coming: false, known, missing };
        if groups == 1 && top.groups() == 1 {
            // The one hash is known. Of an empty file too: nothing is read, and that is hashed.
            proving.asked = 0..1;
            proving.known.push_back((top, self.goal.hash));
        }
        self.step = Step::Proving(proving);
        self.read(net);
        self.prove(net)
    }

    /// Reads the next group of the partial file whose hash is known.
    fn read<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        let Step::Proving(proving) = &self.step else { return };
        if let Some((node, _)) = proving.known.front().filter(|_| self.request.is_none()) {
            let effect = read(proving.file, node.offset(), node.len());
            self.ask(effect, net);
        }
    }

    /// Goes on to the next hashes, or to what turned out to be missing.
    fn prove<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<ArrivalEvent> {
        let Step::Proving(proving) = &self.step else { return None };
        if proving.coming || !proving.known.is_empty() || self.request.is_some() {
            return None;
        }
        if proving.asked.end < proving.groups {
            return Some(ArrivalEvent::Wanting);
        }
        let file = proving.file;
        self.todo = proving.missing.groups().iter().cloned().collect();
        let lens = self.todo.iter().map(|range| range.end.saturating_sub(range.start));
        self.left = lens.fold(0, u64::saturating_add);
        // What is missing may be a little more than what was found wrong.
        self.proved = self.goal.size.saturating_sub(proving.missing.content());
        self.step = Step::Getting;
        let Goal { root, name, replace, .. } = self.goal.clone();
        let Some(part) = self.goal.part() else {
            return Some(ArrivalEvent::Failed(Stage::Create, Failure::Unsupported));
        };
        let (holds, modified) = (self.proved > 0, self.goal.modified());
        self.part = Some(Part::resume(root, name, replace, part, file, holds, modified));
        self.finish(net);
        Some(ArrivalEvent::Begun { resumed: self.proved })
    }

    /// Gives it its name, if nothing is missing.
    fn finish<M: StreamMachine>(&mut self, net: &mut Net<M>) {
        if let (0, Some(part)) = (self.left, &mut self.part) {
            self.step = Step::Saving;
            part.finish(net);
        }
    }

    /// Removes old partial files one by one, and then makes durable what was done in the folder.
    fn clear<M: StreamMachine>(&mut self, net: &mut Net<M>) -> Option<ArrivalEvent> {
        let root = self.goal.root;
        if let Some(old) = self.old.pop_first() {
            self.step = Step::Clearing;
            return self.ask(Effect::Remove { root, path: path(&old) }, net);
        }
        self.step = Step::Confirming;
        let path = self.goal.name.parent().to_owned();
        self.ask(Effect::SyncFolder { root, path }, net)
    }
}

/// Makes a folder and those above it, and makes their names durable.
#[derive(Debug)]
pub(crate) struct Folders {
    root: RootId,
    path: String,
    /// Steps that were asked for: each folder is made, and then its name in the one above.
    asked: usize,
}

impl Folders {
    /// Of an empty path there is nothing to be made.
    pub(crate) fn new(root: RootId, path: &str) -> Self {
        Self { root, path: path.to_owned(), asked: 0 }
    }

    /// What the host is to be asked next.
    pub(crate) fn next(&mut self) -> Option<Effect> {
        let ends = self.path.match_indices('/').map(|(at, _)| at);
        let mut ends = ends.chain((!self.path.is_empty()).then_some(self.path.len()));
        let end = ends.nth(self.asked / 2)?;
        let (root, path) = (self.root, self.path.get(..end)?.to_owned());
        let makes = self.asked % 2 == 0;
        self.asked = self.asked.saturating_add(1);
        if makes {
            return Some(Effect::CreateFolder { root, path });
        }
        let above = path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        Some(Effect::SyncFolder { root, path: above })
    }

    /// Whether the host's answer lets it go on.
    pub(crate) fn takes(&self, reply: &Reply<'_>) -> bool {
        matches!(reply, Reply::Done | Reply::Failed(Failure::Exists))
    }
}

/// What comes of a GET.
#[derive(Debug)]
pub(crate) struct Stream {
    ranges: Ranges,
    verifier: Verifier,
    /// The beginning of a pair, or of a group.
    held: BytesMut,
    /// The first group that is not proved.
    next: u64,
}

/// What a stream has proved.
#[derive(Debug)]
pub(crate) enum Proved {
    Hashes(Beside),
    Group(Node, BytesMut),
}

impl Stream {
    /// The answer to this.
    pub(crate) fn new(hash: Hash, want: &Want) -> Self {
        let (ranges, verifier) = match want {
            Want::Content(ranges) => (ranges.clone(), Verifier::new(hash, ranges.clone())),
            Want::Hashes(ranges) => (Ranges::none(0), Verifier::hashes(hash, ranges.clone())),
        };
        Self { ranges, verifier, held: BytesMut::new(), next: 0 }
    }

    /// Takes some of `bytes`, at most up to what is then proved.
    pub(crate) fn handle_bytes(&mut self, bytes: &mut &[u8]) -> Result<Option<Proved>, TreeError> {
        let due = match self.verifier.due() {
            Due::Pair => PAIR.saturating_sub(self.held.len()),
            Due::Content { len, .. } => usize::try_from(len).unwrap_or(usize::MAX),
            Due::End => return Err(TreeError::TooLong),
        };
        let (taken, rest) = bytes.split_at_checked(due).unwrap_or((bytes, &[]));
        *bytes = rest;
        if self.held.is_empty() {
            // All at once: grown step by step, it would be copied as often.
            self.held.reserve(due);
        }
        self.held.extend_from_slice(taken);
        if let Due::Content { .. } = self.verifier.due() {
            let Some(node) = self.verifier.handle_content(taken)? else { return Ok(None) };
            self.next = node.end();
            return Ok(Some(Proved::Group(node, core::mem::take(&mut self.held))));
        }
        let Some(pair) = self.held.first_chunk::<PAIR>() else { return Ok(None) };
        let beside = self.verifier.handle_pair(pair)?;
        self.held.clear();
        Ok(Some(Proved::Hashes(beside)))
    }

    /// Memory that nobody uses, for the next group.
    pub(crate) fn refill(&mut self, spare: BytesMut) {
        if self.held.capacity() == 0 {
            self.held = spare;
        }
    }

    /// The source says that this was all: whether it was.
    pub(crate) fn finish(&self) -> Result<(), TreeError> {
        self.verifier.finish()
    }

    /// Groups that did not come.
    fn missing(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let clipped =
            self.ranges.groups().iter().map(|range| range.start.max(self.next)..range.end);
        clipped.filter(|range| range.start < range.end)
    }
}

/// Which content a partial file is meant for; that it holds it is not believed.
fn tag_of(hash: &Hash) -> u16 {
    let [a, b, ..] = hash.0;
    u16::from_be_bytes([a, b])
}

fn path(name: &SafeName) -> String {
    name.as_str().into()
}

fn read(file: FileId, offset: u64, len: u64) -> Effect {
    let len = u32::try_from(len).map_or(READ, |len| len.min(READ));
    Effect::Read { file, offset, len }
}
