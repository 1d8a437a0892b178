//! Questions that are on their way as single packets: who waits for what, and for how long.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use semfio_machine::{Deadline, Failure, Instant, Now, Refused, Stamp, TransmitId};

use super::pace::{Patience, Rate, Window};
use super::{
    Found, IcmpReason, MAX_RETRIES, PortState, Question, Questions, Reason, ScanConfig, ScanCounts,
};
use crate::stamps::arrival;

/// Times in a row that the system may have no room: then questions have none either.
const ROOMLESS: u8 = 50;

/// How long room is waited for.
const REST: Duration = Duration::from_millis(20);

/// A port by the place of its host.
pub(crate) type Key = (usize, u16);

/// Asks, remembers and tells.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) config: ScanConfig,
    questions: Questions,
    hosts: BTreeMap<IpAddr, usize>,
    pub(crate) patience: Vec<Patience>,
    window: Window,
    pub(crate) rate: Rate,
    waiting: VecDeque<Question>,
    asked: BTreeMap<Key, Asked>,
    due: BTreeSet<(Instant, Key)>,
    /// Nothing leaves before this.
    held_until: Option<Instant>,
    roomless: u8,
    counts: ScanCounts,
    found: VecDeque<Found>,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    question: Question,
    left: Instant,
    due: Instant,
}

impl Desk {
    pub(crate) fn new(hosts: &[SocketAddr], config: ScanConfig) -> Result<Self, Refused> {
        if config.retries > MAX_RETRIES {
            return Err(Refused::Invalid("more than 10 retries"));
        }
        let questions = Questions::new(hosts, &config.ports)?;
        let places: BTreeMap<IpAddr, usize> =
            hosts.iter().enumerate().map(|(place, host)| (host.ip(), place)).collect();
        if places.len() < hosts.len() {
            return Err(Refused::Invalid("a host is named twice"));
        }
        Ok(Self {
            counts: ScanCounts { questions: questions.len(), ..ScanCounts::default() },
            questions,
            hosts: places,
            patience: alloc::vec![Patience::default(); hosts.len()],
            window: Window::new(config.window),
            rate: Rate::new(config.rate),
            waiting: VecDeque::new(),
            asked: BTreeMap::new(),
            due: BTreeSet::new(),
            held_until: None,
            roomless: 0,
            found: VecDeque::new(),
            config,
        })
    }

    pub(crate) fn counts(&self) -> ScanCounts {
        ScanCounts { window: self.window.size(), ..self.counts }
    }

    pub(crate) fn host(&self, address: IpAddr) -> Option<usize> {
        self.hosts.get(&address).copied()
    }

    /// How often this one was asked before it was last asked, if its answer is waited for.
    pub(crate) fn tries(&self, key: Key) -> Option<u8> {
        self.asked.get(&key).map(|asked| asked.question.tries)
    }

    /// Whether every question has been asked to its end.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.waiting.is_empty() && self.questions.is_over()
    }

    /// No more questions; what is on its way has no verdict.
    pub(crate) fn stop(&mut self) {
        self.questions.stop();
        self.waiting.clear();
        self.asked.clear();
        self.due.clear();
        self.held_until = None;
    }

    /// Whether something may leave; if it is held, a timeout follows.
    pub(crate) fn may_send(&mut self, now: Now) -> bool {
        let held = self.held_until.filter(|&until| until > now.mono);
        let rate = Some(self.rate.at()).filter(|&at| at > now.mono);
        self.held_until = held.max(rate);
        self.held_until.is_none()
    }

    /// The next question, which leaves now.
    pub(crate) fn next(&mut self, now: Now) -> Option<Question> {
        if u32::try_from(self.asked.len()).unwrap_or(u32::MAX) >= self.window.size()
            || self.waiting.is_empty() && self.questions.is_over()
            || !self.may_send(now)
        {
            return None;
        }
        let question = self.waiting.pop_front().or_else(|| self.questions.next())?;
        self.sends(now);
        let key = (question.host, question.target.port());
        let patience = self.patience.get(question.host).copied().unwrap_or_default();
        let due = now.mono.saturating_add(patience.wait(question.tries, self.config.wait));
        self.asked.insert(key, Asked { question, left: now.mono, due });
        self.due.insert((due, key));
        Some(question)
    }

    /// Something leaves.
    pub(crate) fn sends(&mut self, now: Now) {
        self.rate.take(now.mono);
        self.counts.asked = self.counts.asked.saturating_add(1);
    }

    pub(crate) fn handle_sent(&mut self, id: TransmitId, stamp: Stamp) {
        self.roomless = 0;
        if let Some(asked) = self.asked.get_mut(&key_of(id)) {
            asked.left = stamp.at;
        }
    }

    pub(crate) fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        let Some(asked) = self.take(key_of(id)) else {
            return;
        };
        let reason = Reason::System(failure);
        match failure {
            Failure::Exhausted if self.roomless < ROOMLESS => {
                self.roomless = self.roomless.saturating_add(1);
                self.counts.exhausted = self.counts.exhausted.saturating_add(1);
                let has_room = u32::try_from(self.asked.len()).unwrap_or(u32::MAX);
                self.window.limit(self.window.size().min(has_room));
                self.held_until = Some(now.mono.saturating_add(REST));
                self.waiting.push_front(asked.question);
            }
            Failure::Denied => self.tell(asked.question, PortState::Filtered, reason, None),
            Failure::Unreachable => {
                self.tell(asked.question, PortState::Unreachable, reason, None);
            }
            _ => self.tell(asked.question, PortState::Unasked, reason, None),
        }
    }

    /// An answer to the try that is named, or to one of them. What was answered late was not lost.
    pub(crate) fn answered(
        &mut self,
        now: Now,
        key: Key,
        stamp: Stamp,
        of: Option<u8>,
    ) -> Option<(Question, Option<Duration>)> {
        let asked = self.take(key)?;
        let tries = asked.question.tries;
        let is_latest = of.map_or(tries == 0, |of| of == tries);
        let round_trip = is_latest.then(|| {
            let (Ok(at) | Err(at)) = arrival(now, asked.left, stamp);
            at.at.saturating_since(asked.left)
        });
        let patience = self.patience.get_mut(key.0);
        if let (Some(patience), Some(round_trip)) = (patience, round_trip) {
            patience.add(round_trip);
        }
        let smoothed = self.patience.get(key.0).map(Patience::smoothed).unwrap_or_default();
        match is_latest && tries > 0 {
            true => self.window.lost(now.mono, smoothed),
            false => self.window.grow(),
        }
        Some((asked.question, round_trip))
    }

    /// Questions whose answers are waited for no more: asked again, or given out.
    pub(crate) fn poll_silent(&mut self, now: Now) -> Option<Question> {
        self.held_until = self.held_until.filter(|&until| until > now.mono);
        while let Some(&(_, key)) = self.due.first().filter(|(at, _)| *at <= now.mono) {
            let Some(Asked { mut question, .. }) = self.take(key) else {
                continue;
            };
            if question.tries >= self.config.retries {
                self.window.grow();
                return Some(question);
            }
            question.tries = question.tries.saturating_add(1);
            self.counts.again = self.counts.again.saturating_add(1);
            self.waiting.push_back(question);
        }
        None
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        let silence = self.due.first().map(|&(at, _)| Deadline { at, why: "silence" });
        let held = self.held_until.map(|at| Deadline { at, why: "rate" });
        Deadline::earlier(silence, held)
    }

    pub(crate) fn tell(
        &mut self,
        mut question: Question,
        state: PortState,
        reason: Reason,
        took: Option<Duration>,
    ) {
        self.counts.found = self.counts.found.saturating_add(1);
        question.tries = question.tries.saturating_add(1);
        self.found.push_back(question.found(state, reason, took));
    }

    pub(crate) fn poll_found(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    fn take(&mut self, key: Key) -> Option<Asked> {
        let asked = self.asked.remove(&key)?;
        self.due.remove(&(asked.due, key));
        Some(asked)
    }
}

/// The name of a question's transmits.
pub(crate) fn id_of((host, port): Key) -> TransmitId {
    TransmitId(u64::try_from(host).unwrap_or(u64::MAX) << 16 | u64::from(port))
}

fn key_of(TransmitId(id): TransmitId) -> Key {
    (usize::try_from(id >> 16).unwrap_or(usize::MAX), (id & 0xffff) as u16)
}

/// What an ICMP error says of a port; nothing where it says nothing of it.
pub(crate) fn verdict(target: IpAddr, icmp: IcmpReason) -> Option<PortState> {
    let IcmpReason { icmp_type, icmp_code, .. } = icmp;
    Some(match (target, icmp_type, icmp_code) {
        // Protocol, port; administratively prohibited in three forms.
        (IpAddr::V4(_), 3, 2 | 3 | 9 | 10 | 13) => PortState::Filtered,
        // The packet was too long, which ours are not.
        (IpAddr::V4(_), 3, 4) => return None,
        (IpAddr::V4(_), 3 | 11, _) => PortState::Unreachable,
        // Prohibited, port, by policy, by a route that rejects.
        (IpAddr::V6(_), 1, 1 | 4 | 5 | 6) => PortState::Filtered,
        (IpAddr::V6(_), 1 | 3, _) => PortState::Unreachable,
        _ => return None,
    })
}
