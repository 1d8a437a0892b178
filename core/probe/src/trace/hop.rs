//! What is known of one hop.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use semfio_machine::{Failure, Interval};

use super::probes::{Answer, AnswerKind, Rewritten};
use crate::extension::Label;
use crate::statistics::RoundTrips;

/// Addresses told apart at one hop; routers that share out their load have 16 next ones at most, as
/// a rule.
const NODES: usize = 16;
/// Labels kept of one stack.
const LABELS: usize = 16;

/// A hop, as its queries show it.
#[derive(Clone, Debug, Default)]
pub struct Hop {
    /// How many, and what became of them.
    pub counts: HopCounts,
    /// Each query; empty in live mode.
    pub outcomes: Vec<Outcome>,
    /// Who answered, in the order of their first answers; 16 at most.
    pub nodes: Vec<Node>,
    /// How long it took.
    pub round_trips: RoundTrips,
    /// How long it took the last time.
    pub last: Option<Interval>,
    /// How much a round trip differs from the one before.
    pub jitter: Jitter,
    /// All that was seen rewritten where it dropped a probe, the latest of each field; `None` where
    /// no header was seen.
    pub rewritten: Option<Rewritten>,
    /// The size that arrived here, where the path's MTU is looked for.
    pub mtu: Option<u16>,
    /// The next size to try.
    pub(super) size: u16,
    /// Queries that were sent once.
    pub(super) asked: u8,
    /// How often a size had to be tried again.
    pub(super) again: u8,
}

/// What became of a hop's queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCounts {
    /// Given to the system, and not withdrawn since.
    pub sent: u64,
    /// Answered, late ones included.
    pub answered: u64,
    /// Answered after they were given up.
    pub late: u64,
    /// Given up, and not answered since.
    pub lost: u64,
    /// Refused by the system.
    pub not_sent: u64,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Not sent yet, or to be sent again.
    #[default]
    Unasked,
    /// On its way.
    Waiting,
    /// Answered.
    Answered(Heard),
    /// Not answered in time.
    Silent,
    /// The system did not send it.
    NotSent(Failure),
}

/// An answer, but for what a router says beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub from: IpAddr,
    /// What.
    pub kind: AnswerKind,
    /// From departure to arrival, and by whose clocks.
    pub round_trip: Interval,
    /// The TTL or hop limit that the answer arrived with.
    pub hop_limit: Option<u8>,
    /// Octets of the probe's IP packet.
    pub size: u16,
    /// The flow of the probe.
    pub flow: u16,
}

/// Somebody who answers at a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Who.
    pub address: IpAddr,
    /// How often.
    pub answers: u64,
    /// The label stack that the latest probe came with; 16 at most.
    pub labels: Vec<Label>,
}

/// How much round trips differ from the ones before them, of the same clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    sum: Duration,
    count: u32,
}

/// What is to be thought of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answers everything.
    Answers,
    /// It answers nothing, and passes things on.
    Silent,
    /// It does not answer everything, but what is behind it does, or more of it: answering is what
    /// it does seldom. Nothing is lost here.
    RateLimited,
    /// Something is lost, here or before, and not less of it behind.
    Loses,
    /// Nothing was settled yet.
    Unknown,
}

impl Jitter {
    fn add(&mut self, before: Option<Interval>, now: Interval) {
        let same = |before: &Interval| (before.from, before.to) == (now.from, now.to);
        if let Some(before) = before.filter(same) {
            self.sum = self.sum.saturating_add(before.length.abs_diff(now.length));
            self.count = self.count.saturating_add(1);
        }
    }

    /// The mean difference; zero if there is none.
    pub fn mean(&self) -> Duration {
        self.sum.checked_div(self.count).unwrap_or_default()
    }
}

impl HopCounts {
    /// On their way.
    pub fn waiting(&self) -> u64 {
        let settled = self.answered.saturating_add(self.lost).saturating_add(self.not_sent);
        self.sent.saturating_sub(settled)
    }

    /// Those of which it is known whether they were answered.
    pub fn judged(&self) -> u64 {
        self.answered.saturating_add(self.lost)
    }
}

impl Hop {
    /// Whether all its queries are settled.
    pub fn is_settled(&self, queries: u8) -> bool {
        self.asked >= queries && self.counts.waiting() == 0 && {
            !self.outcomes.iter().any(|it| matches!(it, Outcome::Unasked | Outcome::Waiting))
        }
    }

    /// The first to answer.
    pub fn address(&self) -> Option<IpAddr> {
        self.nodes.first().map(|node| node.address)
    }

    pub(super) fn set(&mut self, query: u8, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(usize::from(query)) {
            *slot = outcome;
        }
    }

    pub(super) fn send(&mut self, query: u8) {
        self.counts.sent = self.counts.sent.saturating_add(1);
        self.set(query, Outcome::Waiting);
    }

    /// It does not count.
    pub(super) fn withdraw(&mut self, query: u8) {
        self.counts.sent = self.counts.sent.saturating_sub(1);
        self.set(query, Outcome::Unasked);
    }

    /// One more query, after those it was to be asked.
    pub(super) fn look(&mut self) -> u8 {
        let query = self.asked;
        self.asked = query.saturating_add(1);
        self.outcomes.push(Outcome::Unasked);
        query
    }

    pub(super) fn lose(&mut self, query: u8) {
        self.counts.lost = self.counts.lost.saturating_add(1);
        self.set(query, Outcome::Silent);
    }

    pub(super) fn fail(&mut self, query: u8, failure: Failure) {
        self.counts.not_sent = self.counts.not_sent.saturating_add(1);
        self.set(query, Outcome::NotSent(failure));
    }

    pub(super) fn hear(&mut self, query: u8, answer: &Answer<'_>) {
        let counts = &mut self.counts;
        counts.answered = counts.answered.saturating_add(1);
        if answer.late {
            counts.late = counts.late.saturating_add(1);
            counts.lost = counts.lost.saturating_sub(1);
        }
        self.jitter.add(self.last, answer.round_trip);
        self.last = Some(answer.round_trip);
        self.round_trips.add(answer.round_trip);
        if let Some(seen) = answer.rewritten {
            self.rewritten.get_or_insert_default().add(seen);
        }
        self.know(answer);
        self.set(
            query,
            Outcome::Answered(Heard {
                from: answer.from,
                kind: answer.kind,
                round_trip: answer.round_trip,
                hop_limit: answer.hop_limit,
                size: answer.probe.size,
                flow: answer.probe.flow,
            }),
        );
    }

    fn know(&mut self, answer: &Answer<'_>) {
        let address = answer.from;
        if !self.nodes.iter().any(|node| node.address == address) && self.nodes.len() < NODES {
            self.nodes.push(Node { address, answers: 0, labels: Vec::new() });
        }
        if let Some(node) = self.nodes.iter_mut().find(|node| node.address == address) {
            node.answers = node.answers.saturating_add(1);
            if let Some(Ok(extension)) = answer.extension {
                node.labels = extension.labels().take(LABELS).collect();
            }
        }
    }

    /// What is to be thought of it, given those behind it.
    pub(super) fn verdict<'a>(&self, behind: impl Iterator<Item = &'a Self>) -> Verdict {
        let counts = self.counts;
        let (lost, judged) = (u128::from(counts.lost), u128::from(counts.judged()));
        match (counts.answered, lost) {
            (_, _) if judged == 0 => return Verdict::Unknown,
            (_, 0) => return Verdict::Answers,
            (0, _) => return Verdict::Silent,
            _ => {}
        }
        // What is lost for good is missing at each hop behind: the one with the least loss tells.
        let answering = behind.map(|hop| hop.counts).filter(|counts| counts.answered > 0);
        let carries_on = answering.fold(true, |carries_on, behind| {
            // At least half of the rate.
            let theirs = u128::from(behind.lost).saturating_mul(judged).saturating_mul(2);
            carries_on && theirs >= lost.saturating_mul(u128::from(behind.judged()))
        });
        if carries_on { Verdict::Loses } else { Verdict::RateLimited }
    }
}

impl Rewritten {
    /// Whether nothing was.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what was seen later.
    fn add(&mut self, later: Self) {
        *self = Self {
            hop_limit: later.hop_limit.or(self.hop_limit),
            traffic_class: later.traffic_class.or(self.traffic_class),
            source: later.source.or(self.source),
            destination: later.destination.or(self.destination),
            source_port: later.source_port.or(self.source_port),
            destination_port: later.destination_port.or(self.destination_port),
            length: later.length.or(self.length),
            checksum: later.checksum.or(self.checksum),
        };
    }
}
