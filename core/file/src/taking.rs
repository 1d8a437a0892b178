//! Files that peers put: what a server does once it is let.
//!
//! A PUT that is accepted turns the connection around. The server asks for what it lacks with GET,
//! as any client does, and the peer answers as any server does.
//!
//! | state | on | becomes | tells |
//! |---|---|---|---|
//! | (none) | PUT, against a limit or the name | (none) | ERROR |
//! | (none) | PUT | Taking | |
//! | Taking | the [`Arrival`] wants something | Taking | GET, two ahead |
//! | Taking | BODY, DONE of a GET | Taking | |
//! | Taking | it goes on, at most ten times a second; nothing is asked of the peer for 10 s | Taking | WAIT |
//! | Taking | it has its name | (none) | DONE |
//! | Taking | a step on the disk fails, the content is wrong, ERROR of a GET, CANCEL | Draining | CANCEL of each GET, ERROR |
//! | Draining | BODY, no more than was asked for | Draining | |
//! | Draining | the last GET is answered | (none) | |
//! | any | the connection is gone | (none) | |
//!
//! FOLDER makes folders one by one, and then looks whether there is one, and no file.
//!
//! Nothing is written that is not proved, and what is left of a PUT that ends is kept for the next
//! one of that content, for a week: see `sweep.rs`. One name is at work once, whatever its case: two peers would write into
//! one partial file. Who proves nothing for 10 s gives way to whoever is kept waiting by it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use semfio_machine::{
    ConnId, Deadline, Effect, Failure, FileKind, Instant, Net, Now, Reply, RequestId, RootId,
};
use semfio_path::{Policy, SafeName, fold};

use crate::arrival::{Arrival, ArrivalEvent, Folders, Goal, Proved, Stream};
use crate::part::Stage;
use crate::serving::Outcome;
use crate::session::{Session, SessionCommand};
use crate::sweep::Sweep;
use crate::tree::{MAX_FILE, PAIR};
use crate::wire::{ErrorCode, Get, Message, NONE, RangeBytes};

/// Groups in one GET: 4 MiB, long enough to hide the way there and back.
const PIECE: u64 = 64;
/// GETs that wait for an answer.
const AHEAD: usize = 2;
/// The least time between two WAITs that tell of progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// How often WAIT is sent while only the disk is at work.
const WAIT: Duration = Duration::from_secs(10);
/// Who proves nothing for so long gives way to others.
const GIVES_WAY: Duration = Duration::from_secs(10);
/// What a part of a name counts for: a folder or a file takes a block, whatever it holds.
const NAME: u64 = 4096;

/// What a [`Repository`](crate::Repository) takes from its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutLimits {
    /// Files at once. Each may hold 1 MiB that waits to be written; the default is 8.
    pub at_once: usize,
    /// Bytes in one file. Default [`MAX_FILE`].
    pub file: u64,
    /// Bytes that are written in all, from the server's start to its end, 4 KiB for each part of
    /// each name included. Default 64 GiB.
    pub quota: u64,
}

impl Default for PutLimits {
    fn default() -> Self {
        Self { at_once: 8, file: MAX_FILE, quota: 64 * 1024 * 1024 * 1024 }
    }
}

/// All files that are being put.
#[derive(Debug)]
pub(crate) struct Puts {
    limits: PutLimits,
    taking: BTreeMap<ConnId, Taking>,
    making: BTreeMap<ConnId, Making>,
    /// Those nobody waits for, until the host is done with them.
    leaving: Vec<Work>,
    /// Of the quota.
    spent: u64,
    /// What was given up long ago.
    sweep: Sweep,
}

/// A folder on its way.
#[derive(Debug)]
struct Making {
    tag: u32,
    root: RootId,
    name: SafeName,
    folders: Folders,
    request: RequestId,
    /// All were made, and it is looked at.
    looking: bool,
}

/// One connection's.
#[derive(Debug)]
struct Taking {
    /// Of PUT.
    tag: u32,
    /// `None` as PUT was answered, and GETs are not.
    work: Option<Work>,
    /// GETs that are not answered.
    asked: VecDeque<Asked>,
    next_tag: u32,
    /// When the peer last brought something on.
    moved: Instant,
    /// When WAIT was sent.
    told: Instant,
    paused: bool,
}

#[derive(Debug)]
struct Asked {
    tag: u32,
    stream: Box<Stream>,
    /// Octets that may still come.
    due: u64,
}

#[derive(Debug)]
struct Work {
    /// What no other may be.
    key: String,
    arrival: Box<Arrival>,
    /// Bytes that were written.
    written: u64,
    /// Bytes that will be, at most.
    reserved: u64,
}

impl Work {
    /// Whether it may write to this partial file.
    fn has(&self, part: &SafeName) -> bool {
        let name = &self.arrival.goal().name;
        name.parent() == part.parent() && name.tag_of(part.file_name()).is_some()
    }

    fn outcome(&self) -> Outcome {
        let Goal { name, size, .. } = self.arrival.goal().clone();
        Outcome::Taken { name, size, received: self.written }
    }
}

/// What two names have in common that must not be written at once: long ones share a partial file,
/// some file systems ignore case.
fn key(name: &SafeName) -> Option<String> {
    name.part(0).ok().map(|part| fold(part.as_str()))
}

/// What a name counts for.
fn cost(name: &SafeName) -> u64 {
    name.parts().fold(0, |sum, _| sum.saturating_add(NAME))
}

impl Puts {
    pub(crate) fn new(limits: PutLimits, root: RootId, policy: Policy) -> Self {
        let (taking, making) = (BTreeMap::new(), BTreeMap::new());
        let sweep = Sweep::new(root, policy);
        Self { limits, taking, making, leaving: Vec::new(), spent: 0, sweep }
    }

    /// Makes a folder, or refuses to.
    pub(crate) fn handle_folder(
        &mut self,
        conn: ConnId,
        tag: u32,
        root: RootId,
        name: SafeName,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let mut folders = Folders::new(root, name.as_str());
        match (self.spend(&name), folders.next()) {
            (Ok(()), Some(effect)) => {
                let request = net.request(effect);
                let making = Making { tag, root, name, folders, request, looking: false };
                self.making.insert(conn, making);
                None
            }
            _ => self.refuse_folder(conn, tag, ErrorCode::Full, net),
        }
    }

    fn handle_made(
        &mut self,
        conn: ConnId,
        reply: &Reply<'_>,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let Making { tag, root, name, mut folders, looking, .. } = self.making.remove(&conn)?;
        let code = match (looking, *reply) {
            (true, Reply::Found(metadata)) if metadata.kind == FileKind::Folder => {
                tell(conn, &Message::Done { tag, hash: NONE }, net);
                return None;
            }
            (true, Reply::Found(_)) => ErrorCode::Exists,
            (false, reply) if folders.takes(&reply) => {
                let next = folders.next();
                let looking = next.is_none();
                let path = name.as_str().into();
                let request = net.request(next.unwrap_or(Effect::Stat { root, path }));
                let making = Making { tag, root, name, folders, request, looking };
                self.making.insert(conn, making);
                return None;
            }
            (_, Reply::Failed(Failure::WrongKind)) => ErrorCode::WrongKind,
            (_, Reply::Failed(Failure::Full)) => ErrorCode::Full,
            _ => ErrorCode::Unavailable,
        };
        self.refuse_folder(conn, tag, code, net)
    }

    fn refuse_folder(
        &self,
        conn: ConnId,
        tag: u32,
        code: ErrorCode,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        tell(conn, &Message::Error { tag, code, text: "" }, net);
        Some(Outcome::Refused(code))
    }

    /// Takes an offer, or refuses it.
    pub(crate) fn handle_put(
        &mut self,
        now: Now,
        conn: ConnId,
        tag: u32,
        goal: Goal,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        if self.taking.contains_key(&conn) {
            // It goes on answering what was asked for another file, and should be done with that.
            net.abort(conn);
            return Some(Outcome::Refused(ErrorCode::Unexpected));
        }
        match self.judge(now, &goal, net) {
            Ok(key) => {
                let arrival = Box::new(Arrival::begin(goal, None, false, net));
                let taking = Taking {
                    tag,
                    work: Some(Work { key, arrival, written: 0, reserved: 0 }),
                    asked: VecDeque::new(),
                    next_tag: 1,
                    moved: now.mono,
                    told: now.mono,
                    paused: false,
                };
                self.taking.insert(conn, taking);
                None
            }
            Err(code) => {
                tell(conn, &Message::Error { tag, code, text: "" }, net);
                Some(Outcome::Refused(code))
            }
        }
    }

    /// A name that is not safe.
    pub(crate) fn handle_name(&self, conn: ConnId, tag: u32, net: &mut Net<Session>) -> Outcome {
        let code = ErrorCode::Name;
        tell(conn, &Message::Error { tag, code, text: "" }, net);
        Outcome::Refused(code)
    }

    fn judge(
        &mut self,
        now: Now,
        goal: &Goal,
        net: &mut Net<Session>,
    ) -> Result<String, ErrorCode> {
        let key = key(&goal.name).ok_or(ErrorCode::Name)?;
        if goal.size > self.limits.file.min(MAX_FILE) {
            return Err(ErrorCode::FileTooLarge);
        }
        if cost(&goal.name) > self.left() {
            return Err(ErrorCode::Full);
        }
        self.make_way(now, &key, net);
        let taken = self.works().any(|work| work.key == key);
        if taken || self.works().count() >= self.limits.at_once {
            return Err(ErrorCode::Busy);
        }
        self.spend(&goal.name)?;
        Ok(key)
    }

    /// Takes what a name costs of the quota.
    fn spend(&mut self, name: &SafeName) -> Result<(), ErrorCode> {
        let cost = cost(name);
        if cost > self.left() {
            return Err(ErrorCode::Full);
        }
        self.spent = self.spent.saturating_add(cost);
        Ok(())
    }

    /// Of the quota.
    fn left(&self) -> u64 {
        let reserved = self.works().map(|work| work.reserved);
        let gone = reserved.fold(self.spent, u64::saturating_add);
        self.limits.quota.saturating_sub(gone)
    }

    fn works(&self) -> impl Iterator<Item = &Work> {
        let taking = self.taking.values().filter_map(|taking| taking.work.as_ref());
        taking.chain(&self.leaving)
    }

    /// Cuts who is in the way of another and does not move.
    fn make_way(&mut self, now: Now, key: &str, net: &mut Net<Session>) {
        let full = self.works().count() >= self.limits.at_once;
        let slow = self.taking.iter().filter(|(_, taking)| {
            let silent = now.mono.saturating_since(taking.moved) >= GIVES_WAY;
            silent && !taking.asked.is_empty() && taking.work.is_some()
        });
        let in_way = |taking: &Taking| taking.work.as_ref().is_some_and(|work| work.key == key);
        let slowest = slow
            .filter(|(_, taking)| full || in_way(taking))
            .min_by_key(|(_, taking)| (!in_way(taking), taking.moved));
        if let Some((&conn, _)) = slowest {
            self.handle_closed(conn, net);
            net.abort(conn);
        }
    }

    /// Takes what answers a GET.
    pub(crate) fn handle_body(
        &mut self,
        now: Now,
        conn: ConnId,
        mut bytes: &[u8],
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let Some(taking) = self.taking.get_mut(&conn) else {
            // Nothing was asked for.
            net.abort(conn);
            return None;
        };
        while !bytes.is_empty() {
            let Some(asked) = taking.asked.front_mut() else {
                net.abort(conn);
                return None;
            };
            let before = bytes.len() as u64;
            let Some(work) = &mut taking.work else {
                // What was asked for is not wanted any more, but nothing else is taken either.
                match asked.due.checked_sub(before) {
                    Some(due) => asked.due = due,
                    // It is to hear why.
                    None => net.close(conn),
                }
                return None;
            };
            let came = asked.stream.handle_bytes(&mut bytes);
            asked.due = asked.due.saturating_sub(before.saturating_sub(bytes.len() as u64));
            match came {
                Ok(None) => {}
                Ok(Some(proved)) => {
                    taking.moved = now.mono;
                    if let Proved::Group(_, content) = &proved {
                        work.written = work.written.saturating_add(content.len() as u64);
                    }
                    asked.stream.refill(work.arrival.handle_proved(proved, net));
                    if work.arrival.is_full() && !core::mem::replace(&mut taking.paused, true) {
                        net.pause(conn);
                    }
                    if now.mono.saturating_since(taking.told) >= PROGRESS {
                        taking.tell_progress(now, conn, net);
                    }
                }
                Err(_) => {
                    asked.due = asked.due.saturating_sub(bytes.len() as u64);
                    return self.refuse(conn, ErrorCode::Mismatch, net);
                }
            }
        }
        None
    }

    /// Takes a message that is about a PUT, or answers a GET.
    pub(crate) fn handle_message(
        &mut self,
        now: Now,
        conn: ConnId,
        message: &Message<'_>,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let taking = self.taking.get_mut(&conn)?;
        match *message {
            Message::Cancel { tag } => {
                // What is being saved is soon told to be.
                let work = taking.work.as_ref().filter(|_| tag == taking.tag);
                work.filter(|work| !work.arrival.is_saving())?;
                self.refuse(conn, ErrorCode::Cancelled, net)
            }
            Message::Done { tag, .. } | Message::Error { tag, .. } => {
                let Some(asked) = taking.asked.pop_front().filter(|asked| asked.tag == tag) else {
                    net.abort(conn);
                    return None;
                };
                let Some(work) = &mut taking.work else {
                    if taking.asked.is_empty() {
                        self.taking.remove(&conn);
                    }
                    return None;
                };
                if let Message::Error { code, .. } = *message {
                    return self.refuse(conn, code, net);
                }
                if asked.stream.finish().is_err() {
                    return self.refuse(conn, ErrorCode::Mismatch, net);
                }
                taking.moved = now.mono;
                let event = work.arrival.handle_end(net);
                let outcome = self.handle_event(now, conn, event, net);
                self.ask(conn, net);
                outcome
            }
            _ => None,
        }
    }

    /// Takes the host's answer, if it is to one of these.
    pub(crate) fn handle_reply(
        &mut self,
        now: Now,
        id: RequestId,
        reply: &Reply<'_>,
        net: &mut Net<Session>,
    ) -> Option<(Option<ConnId>, Outcome)> {
        let made = self.making.iter().find(|(_, making)| making.request == id);
        if let Some((&conn, _)) = made {
            let outcome = self.handle_made(conn, reply, net);
            return outcome.map(|outcome| (Some(conn), outcome));
        }
        let works = self.taking.values().filter_map(|taking| taking.work.as_ref());
        let works = works.chain(&self.leaving);
        let is_at_work = |part: &SafeName| works.clone().any(|work| work.has(part));
        let removed = self.sweep.handle_reply(now, id, reply, is_at_work, net);
        if let Some(name) = removed {
            return Some((None, Outcome::Removed { name }));
        }
        let mut outcome = None;
        self.leaving.retain_mut(|work| match work.arrival.handle_reply(id, reply, net) {
            None => true,
            Some(event) => {
                let saved = event == ArrivalEvent::Saved;
                outcome = saved.then(|| (None, work.outcome()));
                false
            }
        });
        let mut event = None;
        for (conn, taking) in &mut self.taking {
            let Some(work) = &mut taking.work else { continue };
            if let Some(told) = work.arrival.handle_reply(id, reply, net) {
                event = Some((*conn, told));
            }
        }
        if let Some((conn, told)) = event {
            let told = self.handle_event(now, conn, Some(told), net);
            outcome = told.map(|told| (Some(conn), told));
        }
        outcome
    }

    fn handle_event(
        &mut self,
        now: Now,
        conn: ConnId,
        event: Option<ArrivalEvent>,
        net: &mut Net<Session>,
    ) -> Option<Outcome> {
        let left = self.left();
        let taking = self.taking.get_mut(&conn)?;
        let work = taking.work.as_mut()?;
        match event? {
            ArrivalEvent::StartedAnew | ArrivalEvent::Left => {}
            ArrivalEvent::Wanting => self.ask(conn, net),
            ArrivalEvent::Begun { resumed } => {
                self.sweep.arm(now);
                work.reserved = work.arrival.goal().size.saturating_sub(resumed);
                if work.reserved > left {
                    return self.refuse(conn, ErrorCode::Full, net);
                }
                taking.tell_progress(now, conn, net);
                self.ask(conn, net);
            }
            ArrivalEvent::Room => {
                taking.moved = now.mono;
                if core::mem::take(&mut taking.paused) {
                    net.resume(conn);
                }
                self.ask(conn, net);
            }
            ArrivalEvent::Saved => {
                let (tag, hash, outcome) = (taking.tag, work.arrival.goal().hash, work.outcome());
                self.end(conn, net);
                tell(conn, &Message::Done { tag, hash }, net);
                return Some(outcome);
            }
            ArrivalEvent::Failed(stage, failure) => {
                let code = match (stage, failure) {
                    (Stage::Look | Stage::Rename, Failure::Exists) => ErrorCode::Exists,
                    (_, Failure::WrongKind) => ErrorCode::WrongKind,
                    (_, Failure::Full) => ErrorCode::Full,
                    _ => ErrorCode::Unavailable,
                };
                return self.refuse(conn, code, net);
            }
        }
        None
    }

    /// Asks for what is missing.
    fn ask(&mut self, conn: ConnId, net: &mut Net<Session>) {
        let Some(taking) = self.taking.get_mut(&conn) else { return };
        while taking.asked.len() < AHEAD {
            let Some(work) = &mut taking.work else { return };
            let Some(want) = work.arrival.poll_want(PIECE) else { return };
            let Goal { name, size, hash, .. } = work.arrival.goal().clone();
            let tag = taking.next_tag;
            taking.next_tag = tag.checked_add(1).unwrap_or(1);
            let pairs = want.ranges().pairs().saturating_mul(PAIR as u64);
            let content = if want.content() { want.ranges().content() } else { 0 };
            let (stream, due) = (Box::new(Stream::new(hash, &want)), content.saturating_add(pairs));
            taking.asked.push_back(Asked { tag, stream, due });
            let list = RangeBytes::new(want.ranges().bytes());
            let (content, name, ranges) = (want.content(), name.as_str(), list.list());
            tell(conn, &Message::Get(Get { tag, content, hash, size, name, ranges }), net);
        }
    }

    /// Ends a PUT otherwise than well.
    fn refuse(&mut self, conn: ConnId, code: ErrorCode, net: &mut Net<Session>) -> Option<Outcome> {
        let tag = self.taking.get(&conn)?.tag;
        for asked in &self.taking.get(&conn)?.asked {
            tell(conn, &Message::Cancel { tag: asked.tag }, net);
        }
        self.end(conn, net);
        tell(conn, &Message::Error { tag, code, text: "" }, net);
        Some(Outcome::Refused(code))
    }

    /// A PUT is over; what was asked for it may still come.
    fn end(&mut self, conn: ConnId, net: &mut Net<Session>) {
        let Some(taking) = self.taking.get_mut(&conn) else { return };
        if core::mem::take(&mut taking.paused) {
            net.resume(conn);
        }
        let work = taking.work.take();
        if taking.asked.is_empty() {
            self.taking.remove(&conn);
        }
        if let Some(mut work) = work {
            // Nothing more will be written.
            self.spent = self.spent.saturating_add(work.written);
            work.reserved = 0;
            if !work.arrival.leave(net) {
                self.leaving.push(work);
            }
        }
    }

    /// A connection is gone. What has come whole gets its name nevertheless.
    pub(crate) fn handle_closed(&mut self, conn: ConnId, net: &mut Net<Session>) {
        self.end(conn, net);
        self.taking.remove(&conn);
        if let Some(making) = self.making.remove(&conn) {
            net.cancel(making.request);
        }
    }

    /// When a peer is to be told that it is not forgotten.
    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let waiting = self.taking.values().filter(|taking| taking.is_at_disk());
        let at = waiting.map(|taking| taking.told.saturating_add(WAIT)).min();
        let wait = at.map(|at| Deadline { at, why: "wait" });
        wait.into_iter().chain(self.sweep.poll_timeout()).min_by_key(|deadline| deadline.at)
    }

    pub(crate) fn handle_timeout(&mut self, now: Now, net: &mut Net<Session>) {
        self.sweep.handle_timeout(now, net);
        for (conn, taking) in &mut self.taking {
            if taking.is_at_disk() && now.mono.saturating_since(taking.told) >= WAIT {
                taking.tell_progress(now, *conn, net);
            }
        }
    }
}

impl Taking {
    /// Whether the peer waits for the disk.
    fn is_at_disk(&self) -> bool {
        self.work.is_some() && self.asked.is_empty()
    }

    fn tell_progress(&mut self, now: Now, conn: ConnId, net: &mut Net<Session>) {
        let Some(work) = &self.work else { return };
        self.told = now.mono;
        let (done, of) = (work.arrival.proved(), work.arrival.goal().size);
        tell(conn, &Message::Wait { tag: self.tag, done, of }, net);
    }
}

/// Refused only if the connection is gone, which is told in another way.
fn tell(conn: ConnId, message: &Message<'_>, net: &mut Net<Session>) {
    let mut text = String::new();
    let message = match *message {
        Message::Error { tag, code, .. } => {
            let _ = core::fmt::Write::write_fmt(&mut text, format_args!("{code}"));
            Message::Error { tag, code, text: &text }
        }
        message => message,
    };
    let _ = net.send(conn, SessionCommand::Message(&message));
}
