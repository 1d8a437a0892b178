//! Traceroute: which probe leaves when, and when nothing more can come.
//!
//! | state | what happens | becomes | tells |
//! |---|---|---|---|
//! | Starting | the first timeout | Exploring | |
//! | Exploring | an answer | Exploring | `Hop`, or `Narrow` |
//! | Exploring | the time of a probe is over | Exploring | `Silent` |
//! | Exploring | nothing to send, nothing on its way | Ended; live: Watching | `Done`; live: `Cycle` |
//! | Watching | a hop's turn | Watching | `Cycle` after the last hop's |
//! | Watching | all cycles are over | Draining | |
//! | Draining | nothing on its way | Ended | `Done` |
//! | any but Ended | [`Stop`](crate::Stop) | Ended | `Done`; what is on its way is neither answered nor lost |
//!
//! # No rounds
//!
//! Probes leave in the order of their hops as long as the window has room: 16 at first, one more with
//! each answer. They go up to 16 hops beyond the furthest that has answered; once the destination,
//! or who says that it cannot be reached, is known, what is beyond is withdrawn.
//!
//! After an answer, nothing leaves before a timeout that is due at once: whatever else has come by then
//! is heard first, and may say that less is to be sent.
//!
//! A probe is given up after twice the longest round trip so far and 8 ms, if its hop or one behind it
//! has answered; else not before [`wait`](TraceConfig::wait) is over, which starts as it leaves. So the
//! wait is spent once, for all hops that nothing is known of, and once more for a second look. The trace ends when nothing is on its way: there is
//! no pause, and no round that would have to be filled.
//!
//! # A second look
//!
//! Who says that nothing gets further may say so once a second, as Linux does, and have just said it to
//! somebody else. So before a trace ends at what may be such a one, the nearest hop that nothing is known
//! of is asked one query more: a wait after it has been silent like all behind it, or one after a further
//! hop seemed to say so. No hop has two of these looks.
//!
//! TCP asks a hop its next query when the last is settled: a listener does not answer a second SYN
//! of the same ports while it waits for more of the first.
//!
//! # One at a time
//!
//! Once an error came that may be about any of several probes, all that are on their way are withdrawn
//! and asked again one by one, in another flow, so that none of the old ones can be mistaken for a
//! new one; after one that stays silent the flow changes again. Behind the last that answers, and when all
//! are watched, that would take too long: from there on each has a flow of its own. Answers tell their flows.
//!
//! # The MTU of the path
//!
//! With [`mtu`](TraceConfig::mtu), probes have that size, and must not be cut on the way. Where one is
//! said not to fit, it and all that went as far or further are asked again with what fits, or, where nobody says
//! what does, with the next smaller size that links have (RFC 1191, section 7). A hop's
//! [`mtu`](Hop::mtu) is the size that arrived.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use semfio_machine::{
    DatagramMachine, Deadline, Failure, Instant, Now, Received, Refused, Seed, Stamp, Transmit,
    TransmitId,
};

use super::hop::{Hop, Outcome, Verdict};
use super::probes::{Answer, AnswerKind, Method, Probe, Probes, ProbesConfig};
use crate::icmp::Family;
use crate::ping::Stop;

/// Queries a hop can be asked.
pub const MAX_QUERIES: u8 = 100;
/// Between two cycles of live mode at least: with all hops, fewer wait than can be told apart.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// On their way at first: traceroute's number.
const FIRST_WINDOW: usize = 16;
/// On their way at most: a burst that no link minds.
const LARGEST_WINDOW: usize = 128;
/// Hops asked beyond the furthest that has answered. What goes beyond the destination has it answer
/// for nothing, and hosts do not answer without end.
const AHEAD: u8 = 16;
/// Beside twice the longest round trip: what a busy router or a busy host here takes. With it, a
/// silent hop costs less than two round trips and 10 ms.
const GRACE: Duration = Duration::from_millis(8);
/// Round trips may grow along a path, but not to so many times the wait.
const MOST_WAITS: u32 = 4;
/// Laps after which a loop is one.
const LAPS: usize = 3;
/// Routers in a loop.
const LONGEST_LOOP: usize = 8;
/// Sizes tried at a hop: more than there are in the list below.
const SIZES: u8 = 32;
/// Probes in a row that the system does not send, after which it is not asked again.
const FAILURES: u8 = 3;
/// Probes whose place is remembered, for late answers.
const PLACES: usize = 8_192;
/// Events for a host that does not ask.
const EVENTS: usize = 2 * PLACES;
/// What fits links that do not say what fits (RFC 1191, table 7-1), beside the smallest of IPv6.
const PLATEAUS: [u16; 12] =
    [32_000, 17_914, 8_166, 4_352, 2_002, 1_500, 1_492, 1_280, 1_006, 508, 296, 68];

/// How to trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// Where to, and with what.
    pub probes: ProbesConfig,
    /// The first hop to ask. Default 1.
    pub first_hop: u8,
    /// The last hop to ask. Default 30.
    pub max_hops: u8,
    /// Queries for each hop. Default 3; one a cycle in live mode.
    pub queries: u8,
    /// Octets of a probe's IP packet. Default 60.
    pub size: u16,
    /// The flow of all probes. Default 0.
    pub flow: u16,
    /// How long an answer may take where nothing has answered from as far; longer, and up to four
    /// times as long, where others took that long. Default 1 s: few paths are longer, and all that is
    /// silent at the end is waited for at once, and asked once more.
    pub wait: Duration,
    /// So many silent hops at the end are enough. Default 5.
    pub gap_limit: u8,
    /// The MTU to begin with, if that of the path is looked for: that of the first link.
    pub mtu: Option<u16>,
    /// For ever, or for so many cycles.
    pub live: Option<Live>,
}

/// How to go on after the first cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// From one cycle to the next; the hops' turns are spread over it.
    pub interval: Duration,
    /// In all; `None` ends with [`Stop`].
    pub cycles: Option<u64>,
}

/// What happens on a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent<'i> {
    /// A hop has answered.
    Hop(Answer<'i>),
    /// A size did not fit: the hop is asked again with a smaller one.
    Narrow(Answer<'i>),
    /// A hop did not answer in time.
    Silent(Probe),
    /// The system did not send it.
    NotSent {
        /// What.
        probe: Probe,
        /// Why.
        failure: Failure,
    },
    /// Each hop has had its turn, in live mode.
    Cycle {
        /// From 1 on.
        number: u64,
    },
    /// Nothing more will be told.
    Done(Ended),
}

/// Why a trace is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The destination has answered.
    Reached,
    /// Somebody says that it cannot be reached.
    Unreachable {
        /// Why, by the numbers of the destination's family.
        code: u8,
    },
    /// Probes of this size cannot get there.
    TooBig {
        /// What fits; 0 if nobody says.
        mtu: u32,
    },
    /// The same hops again and again.
    Loop,
    /// Too many silent hops at the end.
    GapLimit,
    /// No hop is left.
    MaxHops,
    /// The system does not send.
    NotSent(Failure),
    /// All cycles are over.
    Cycles,
    /// It was told to.
    Stopped,
}

/// Traces the path to one destination.
#[derive(Debug)]
pub struct Tracer {
    config: TraceConfig,
    probes: Probes,
    state: State,
    /// An answer came, and the timeout that follows it did not yet.
    heard_at: Option<Instant>,
    /// From `first_hop` on.
    hops: Vec<Hop>,
    /// Which query a probe is. What is withdrawn is not here.
    places: BTreeMap<u64, (u8, u8)>,
    /// To be asked before all others.
    again: VecDeque<(u8, u8)>,
    window: usize,
    flow: u16,
    flows: Flows,
    longest: Duration,
    /// The furthest hop that has answered.
    furthest: u8,
    reached: Option<u8>,
    /// The nearest hop from which it is said that nothing gets further.
    blocked: Option<(u8, Ended)>,
    looped: Option<u8>,
    /// The furthest hop that had a second look, and when the next is due.
    looked: u8,
    look_at: Option<Instant>,
    /// How many in a row were not sent, and why.
    failure: Option<(u8, Failure)>,
    cycle: u64,
    cycle_at: Instant,
    events: VecDeque<TraceEvent<'static>>,
    untold: u64,
}

/// How probes can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flows {
    /// By what is quoted of them.
    One,
    /// There is one at a time.
    OneByOne,
    /// Each has a flow of its own.
    Each,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Exploring,
    /// Which hop's turn is next, and when.
    Watching {
        hop: u8,
        at: Instant,
    },
    Draining,
    Ended(Ended),
}

impl TraceConfig {
    /// A trace with defaults for all else.
    pub fn new(probes: ProbesConfig) -> Self {
        Self {
            probes,
            first_hop: 1,
            max_hops: 30,
            queries: 3,
            size: 60,
            flow: 0,
            wait: Duration::from_secs(1),
            gap_limit: 5,
            mtu: None,
            live: None,
        }
    }
}

impl Tracer {
    /// Traces from `now` on.
    ///
    /// # Errors
    ///
    /// `Invalid` for hops or queries that make no trace, a gap limit of none, an interval shorter than
    /// [`SHORTEST_INTERVAL`], a flow beyond the last port, TCP or live mode with an MTU, and what
    /// [`Probes::new`] refuses.
    pub fn new(now: Now, seed: &Seed, config: TraceConfig) -> Result<Self, Refused> {
        let probes = Probes::new(seed, config.probes)?;
        if config.first_hop == 0 || config.first_hop > config.max_hops {
            return Err(Refused::Invalid("no hop between the first and the last"));
        }
        if config.queries == 0 || config.queries > MAX_QUERIES {
            return Err(Refused::Invalid("no query, or more than 100"));
        }
        if config.gap_limit == 0 {
            return Err(Refused::Invalid("a gap limit of none"));
        }
        if config.live.is_some_and(|live| live.interval < SHORTEST_INTERVAL) {
            return Err(Refused::Invalid("an interval of less than 100 ms"));
        }
        if config.live.is_some_and(|live| live.cycles == Some(0)) {
            return Err(Refused::Invalid("no cycle"));
        }
        if config.mtu.is_some() && (config.live.is_some() || config.probes.method == Method::Tcp) {
            return Err(Refused::Invalid("an MTU to look for with TCP, or live"));
        }
        if !probes.has_flow(config.flow) {
            return Err(Refused::Invalid("a flow beyond the last port"));
        }
        let live = config.live.is_some();
        let config = TraceConfig { queries: if live { 1 } else { config.queries }, ..config };
        let queries = if live { 0 } else { usize::from(config.queries) };
        let hop = Hop {
            outcomes: alloc::vec![Outcome::Unasked; queries],
            size: config.mtu.unwrap_or(config.size),
            ..Hop::default()
        };
        let hops = config.max_hops.saturating_sub(config.first_hop).saturating_add(1);
        Ok(Self {
            state: State::Starting,
            heard_at: None,
            hops: alloc::vec![hop; usize::from(hops)],
            places: BTreeMap::new(),
            again: VecDeque::new(),
            window: FIRST_WINDOW,
            flow: config.flow,
            flows: Flows::One,
            longest: Duration::ZERO,
            furthest: config.first_hop.saturating_sub(1),
            reached: None,
            blocked: None,
            looped: None,
            looked: 0,
            look_at: None,
            failure: None,
            cycle: 1,
            cycle_at: now.mono,
            events: VecDeque::new(),
            untold: 0,
            config,
            probes,
        })
    }

    /// How it traces.
    pub fn config(&self) -> &TraceConfig {
        &self.config
    }

    /// Its probes: what came and was foreign, and which ports they have.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Events that the host did not fetch in time.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<Ended> {
        match self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// The hop that the destination has answered from.
    pub fn reached(&self) -> Option<u8> {
        self.reached
    }

    /// The hops of the path, each with its number: up to the destination, or whoever says that it cannot
    /// be reached; else up to the gap limit beyond the furthest that has answered.
    pub fn hops(&self) -> impl DoubleEndedIterator<Item = (u8, &Hop)> {
        (self.config.first_hop..=self.last()).zip(&self.hops)
    }

    /// One of the path.
    pub fn hop(&self, hop: u8) -> Option<&Hop> {
        if hop > self.last() {
            return None;
        }
        self.hops.get(usize::from(hop.checked_sub(self.config.first_hop)?))
    }

    /// The hop up to which all are settled and will not change but for what comes late; 0 if not even
    /// the first is.
    pub fn settled(&self) -> u8 {
        let settled = self.hops().take_while(|(at, hop)| {
            let is_known = *at <= self.heard() || matches!(self.state, State::Ended(_));
            is_known && hop.is_settled(self.config.queries)
        });
        settled.last().map_or(0, |(at, _)| at)
    }

    /// What is to be thought of a hop.
    pub fn verdict(&self, hop: u8) -> Verdict {
        let behind = self.hops().filter(|(at, _)| *at > hop).map(|(_, hop)| hop);
        self.hop(hop).map_or(Verdict::Unknown, |hop| hop.verdict(behind))
    }

    fn hop_mut(&mut self, hop: u8) -> Option<&mut Hop> {
        self.hops.get_mut(usize::from(hop.checked_sub(self.config.first_hop)?))
    }

    /// The hop where the path ends, if that is known.
    fn end(&self) -> Option<u8> {
        let blocked = self.blocked().map(|(at, _)| at);
        self.reached.or(blocked).or(self.looped)
    }

    /// Who says that nothing gets further, unless something has.
    fn blocked(&self) -> Option<(u8, Ended)> {
        self.blocked.filter(|(at, _)| *at > self.furthest)
    }

    /// The furthest hop that is known to be on the path.
    fn known(&self) -> u8 {
        self.end().unwrap_or(self.furthest).max(self.furthest)
    }

    /// The same, but for one beyond silent ones that says nothing gets further: it may be nearer.
    fn heard(&self) -> u8 {
        match self.blocked() {
            Some((at, _)) if self.is_doubtful(at) => self.furthest,
            _ => self.known(),
        }
    }

    /// Whether a hop that nothing gets further from may be nearer than it seemed.
    fn is_doubtful(&self, blocked: u8) -> bool {
        self.reached.is_none() && blocked > self.furthest.saturating_add(1)
    }

    /// The last hop of the path, as far as it is known.
    fn last(&self) -> u8 {
        let gap = self.furthest.saturating_add(self.config.gap_limit);
        self.end().unwrap_or(gap.min(self.config.max_hops))
    }

    /// How many hops behind the furthest are settled, and silent.
    fn gap(&self) -> usize {
        let behind = self.furthest.saturating_add(1).saturating_sub(self.config.first_hop);
        let behind = self.hops.iter().skip(usize::from(behind));
        behind.take_while(|hop| hop.is_settled(self.config.queries)).count()
    }

    /// The last hop to ask.
    fn limit(&self) -> u8 {
        let gap_limit = self.config.gap_limit;
        let ahead =
            if self.gap() >= usize::from(gap_limit) { gap_limit } else { AHEAD.max(gap_limit) };
        let limit = self.furthest.saturating_add(ahead).min(self.config.max_hops);
        self.end().unwrap_or(limit)
    }

    /// How long an answer from a hop may take.
    fn patience(&self, hop: u8) -> Duration {
        let near = self.longest.saturating_mul(2).saturating_add(GRACE);
        let least = match self.state {
            State::Exploring if hop <= self.heard() => Duration::ZERO,
            _ => self.config.wait,
        };
        near.clamp(least, self.config.wait.saturating_mul(MOST_WAITS).max(least))
    }

    fn deadline(&self, probe: &Probe) -> Instant {
        let left = self.probes.departure(probe.number).unwrap_or_default();
        left.saturating_add(self.patience(probe.hop_limit))
    }

    fn tell(&mut self, event: TraceEvent<'static>) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }

    fn end_as(&mut self, ended: Ended) {
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Ended(ended);
            self.again.clear();
            // The last word is never left out.
            self.events.push_back(TraceEvent::Done(ended));
        }
    }

    /// The next query, if one is to be sent.
    fn next(&mut self) -> Option<(u8, u8)> {
        if self.state != State::Exploring {
            return self.again.pop_front();
        }
        if self.probes.waits_for() >= self.window {
            return None;
        }
        let limit = self.limit();
        if let Some(place) = self.again.iter().position(|(hop, _)| *hop <= limit) {
            return self.again.remove(place);
        }
        let one_each = self.config.probes.method == Method::Tcp;
        let queries = self.config.queries;
        let (at, hop) = (self.config.first_hop..=limit)
            .zip(&mut self.hops)
            .find(|(_, hop)| hop.asked < queries && !(one_each && hop.counts.waiting() > 0))?;
        let query = hop.asked;
        hop.asked = query.saturating_add(1);
        Some((at, query))
    }

    /// Whether a query is left to be sent.
    fn is_asking(&self) -> bool {
        let limit = self.limit();
        let queries = self.config.queries;
        self.again.iter().any(|(hop, _)| *hop <= limit)
            || (self.config.first_hop..=limit).zip(&self.hops).any(|(_, hop)| hop.asked < queries)
    }

    /// Takes a probe back: it is as if it had never been sent.
    fn withdraw(&mut self, number: u64) -> Option<(u8, u8)> {
        self.probes.give_up(number)?;
        let (at, query) = self.places.remove(&number)?;
        self.hop_mut(at)?.withdraw(query);
        Some((at, query))
    }

    fn waiting(&self, is: impl Fn(&Probe) -> bool) -> Vec<u64> {
        self.probes.waiting().filter(|probe| is(probe)).map(|probe| probe.number).collect()
    }

    /// After anything that may have settled a probe.
    fn go_on(&mut self, now: Now) {
        if let (State::Exploring, Some(end)) = (self.state, self.end()) {
            for number in self.waiting(|probe| probe.hop_limit > end) {
                // Should the path turn out to be longer, it is asked again.
                let place = self.withdraw(number);
                self.again.extend(place);
            }
        }
        let is_idle = self.probes.waits_for() == 0;
        match self.state {
            State::Exploring if is_idle && !self.is_asking() => match self.config.live {
                None => {
                    if !self.look_again(now) {
                        self.end_as(self.reason());
                    }
                }
                Some(live) => {
                    self.again.clear();
                    if self.flows == Flows::OneByOne {
                        self.flows = Flows::Each;
                    }
                    self.begin_cycle(now, live);
                }
            },
            State::Draining if is_idle && self.again.is_empty() => self.end_as(Ended::Cycles),
            _ => {}
        }
    }

    /// Has the nearest hop that nothing is known of asked once more, if that may tell something.
    fn look_again(&mut self, now: Now) -> bool {
        let nearest = self.furthest.saturating_add(1);
        let after = match self.blocked() {
            _ if self.look_at.is_some() => return true,
            _ if nearest <= self.looked || self.failure.is_some() => return false,
            Some((at, _)) if self.is_doubtful(at) => self.config.wait,
            None if self.end().is_none() && nearest <= self.config.max_hops => Duration::ZERO,
            _ => return false,
        };
        self.looked = nearest;
        self.look_at = Some(now.mono.saturating_add(after));
        if after.is_zero() {
            self.look();
        }
        true
    }

    fn look(&mut self) {
        let nearest = self.furthest.saturating_add(1);
        self.look_at = None;
        if let Some(query) = self.hop_mut(nearest).map(Hop::look) {
            self.again.push_back((nearest, query));
        }
    }

    fn reason(&self) -> Ended {
        let gap = || self.gap() >= usize::from(self.config.gap_limit);
        match (self.reached, self.blocked(), self.looped, self.failure) {
            (Some(_), ..) => Ended::Reached,
            (_, Some((_, why)), ..) => why,
            (_, _, Some(_), _) => Ended::Loop,
            (.., Some((_, failure))) if self.known() < self.config.first_hop => {
                Ended::NotSent(failure)
            }
            _ if gap() => Ended::GapLimit,
            _ => Ended::MaxHops,
        }
    }

    /// All hops have had their turns.
    fn begin_cycle(&mut self, now: Now, live: Live) {
        self.tell(TraceEvent::Cycle { number: self.cycle });
        if live.cycles == Some(self.cycle) {
            self.state = State::Draining;
            return self.go_on(now);
        }
        self.cycle = self.cycle.saturating_add(1);
        let planned = self.cycle_at.saturating_add(live.interval);
        // Behind time, what was left out stays out.
        self.cycle_at = if planned > now.mono { planned } else { now.mono.saturating_add(GRACE) };
        self.state = State::Watching { hop: self.config.first_hop, at: self.cycle_at };
    }

    /// The hop whose turn it is.
    fn watch(&mut self, now: Now, hop: u8, at: Instant) {
        let Some(live) = self.config.live else { return };
        self.again.push_back((hop, 0));
        let last = self.last().max(self.config.first_hop);
        if hop >= last {
            return self.begin_cycle(now, live);
        }
        let hops = last.saturating_sub(self.config.first_hop).saturating_add(1);
        let apart = live.interval.checked_div(hops.into()).unwrap_or_default();
        let planned = at.saturating_add(apart);
        let at = if planned > now.mono { planned } else { now.mono.saturating_add(apart) };
        self.state = State::Watching { hop: hop.saturating_add(1), at };
    }

    fn expire(&mut self, number: u64) {
        let Some(probe) = self.probes.give_up(number) else { return };
        let Some(&(at, query)) = self.places.get(&number) else { return };
        if let Some(hop) = self.hop_mut(at) {
            hop.lose(query);
        }
        self.tell(TraceEvent::Silent(probe));
        if self.flows == Flows::OneByOne {
            self.change_flow();
            if at > self.known() {
                (self.flows, self.window) = (Flows::Each, FIRST_WINDOW);
            }
        }
    }

    fn change_flow(&mut self) {
        let next = self.flow.wrapping_add(1);
        self.flow = if self.probes.has_flow(next) { next } else { self.config.flow };
    }

    /// From now on nothing can be mistaken for anything else.
    fn begin_one_by_one(&mut self) {
        if self.flows != Flows::One || self.state != State::Exploring {
            return;
        }
        (self.flows, self.window) = (Flows::OneByOne, 1);
        let waiting = self.waiting(|_| true);
        for number in waiting.into_iter().rev() {
            if let Some(place) = self.withdraw(number) {
                self.again.push_front(place);
            }
        }
        self.change_flow();
    }

    fn hear<'i>(&mut self, now: Now, answer: Answer<'i>) -> Option<TraceEvent<'i>> {
        // What was withdrawn has no place.
        let (at, query) = self.places.remove(&answer.probe.number)?;
        self.longest = self.longest.max(answer.round_trip.length);
        self.heard_at = Some(now.mono);
        if self.flows != Flows::OneByOne {
            self.window = self.window.saturating_add(1).min(LARGEST_WINDOW);
        }
        if let AnswerKind::PacketTooBig { mtu } = answer.kind {
            if self.narrow(at, query, &answer, mtu) {
                self.go_on(now);
                return Some(TraceEvent::Narrow(answer));
            }
        }
        let looks = self.config.mtu.is_some();
        let hop = self.hop_mut(at)?;
        hop.hear(query, &answer);
        if looks {
            hop.mtu = Some(answer.probe.size);
        }
        let is_live = self.config.live.is_some();
        let why = match answer.kind {
            AnswerKind::Unreachable { code } => Some(Ended::Unreachable { code }),
            AnswerKind::PacketTooBig { mtu } => Some(Ended::TooBig { mtu }),
            AnswerKind::TimeExceeded | AnswerKind::Other { .. } | AnswerKind::Reached(_) => None,
        };
        match why {
            // Who cannot go on says so to all that goes further; that is withdrawn, so the nearest tells.
            Some(why) => self.blocked = Some((at, why)),
            None => self.furthest = self.furthest.max(at),
        }
        match (answer.kind, self.reached) {
            (AnswerKind::Reached(_), before) => {
                self.reached = Some(before.map_or(at, |before| before.min(at)));
            }
            // It is further away than it was.
            (_, Some(reached)) if is_live && at >= reached => self.reached = None,
            _ if !is_live => self.looped = self.looped.or_else(|| self.find_loop()),
            _ => {}
        }
        self.go_on(now);
        Some(TraceEvent::Hop(answer))
    }

    /// Has a hop asked again with less, and all whose probes went as far. False if there is no less.
    fn narrow(&mut self, at: u8, query: u8, answer: &Answer<'_>, mtu: u32) -> bool {
        let told = u16::try_from(mtu).unwrap_or(u16::MAX);
        let Some(size) = self.smaller(at, answer.probe.size, told) else { return false };
        if let Some(hop) = self.hop_mut(at) {
            hop.withdraw(query);
            hop.counts.lost = hop.counts.lost.saturating_sub(answer.late.into());
        }
        self.again.push_back((at, query));
        let beyond = self.waiting(|probe| probe.hop_limit >= at && probe.size > size);
        for number in beyond {
            if let Some(place) = self.withdraw(number) {
                self.again.push_back(place);
            }
        }
        for (_, hop) in (self.config.first_hop..).zip(&mut self.hops).filter(|(it, _)| *it >= at) {
            hop.size = hop.size.min(size);
        }
        self.furthest = self.furthest.max(at.saturating_sub(1));
        true
    }

    /// A smaller size than one that did not fit, given what is said to fit.
    fn smaller(&mut self, at: u8, size: u16, told: u16) -> Option<u16> {
        self.config.mtu?;
        let least = match Family::of(self.config.probes.destination.ip()) {
            Family::V4 => 68,
            Family::V6 => 1_280,
        };
        let hop = self.hop_mut(at)?;
        hop.again = hop.again.checked_add(1).filter(|&again| again < SIZES)?;
        // A size that is no smaller, or none, says nothing.
        let told = Some(told).filter(|&told| told > 0 && told < size);
        let next = told.or_else(|| PLATEAUS.into_iter().find(|&next| next < size))?.max(least);
        (next < size).then_some(next)
    }

    /// The last hop of the third lap, if hops repeat themselves.
    fn find_loop(&self) -> Option<u8> {
        let known: Vec<_> = self.hops.iter().map(Hop::address).collect();
        let found = (2..=LONGEST_LOOP).find_map(|period| {
            let length = period.saturating_mul(LAPS);
            let mut windows = known.windows(length);
            windows
                .position(|window| is_loop(window, period))
                .map(|begin| begin.saturating_add(length))
        })?;
        let last = usize::from(self.config.first_hop).saturating_add(found).saturating_sub(1);
        u8::try_from(last).ok()
    }
}

/// Whether hops repeat themselves, and are not all the same. A silent one may be anybody, but each
/// place of a lap must have been heard of twice.
fn is_loop<A: PartialEq + Copy>(hops: &[Option<A>], period: usize) -> bool {
    let mut first = None;
    let mut differ = false;
    for place in 0..period {
        let mut heard = hops.iter().skip(place).step_by(period).flatten();
        let Some(&address) = heard.next() else { return false };
        let mut again = 0_usize;
        for &other in heard {
            if other != address {
                return false;
            }
            again = again.saturating_add(1);
        }
        if again == 0 {
            return false;
        }
        differ |= *first.get_or_insert(address) != address;
    }
    differ
}

impl DatagramMachine for Tracer {
    type Event<'i> = TraceEvent<'i>;
    type Command<'c> = Stop;

    /// All: what is foreign is counted.
    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<TraceEvent<'i>> {
        if matches!(self.state, State::Ended(_)) {
            return None;
        }
        let ambiguous = self.probes.counts().ambiguous;
        let answer = self.probes.handle_datagram(now, &meta, payload);
        if self.probes.counts().ambiguous > ambiguous {
            self.begin_one_by_one();
        }
        self.hear(now, answer?)
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        self.failure = None;
        self.probes.handle_sent(now, id, stamp);
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        let Some(probe) = self.probes.handle_send_error(id) else { return };
        let Some((at, query)) = self.places.remove(&id.0) else { return };
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if failure == Failure::TooLarge {
            if let Some(size) = self.smaller(at, probe.size, 0) {
                for hop in &mut self.hops {
                    hop.size = hop.size.min(size);
                }
                if let Some(hop) = self.hop_mut(at) {
                    hop.withdraw(query);
                }
                self.again.push_back((at, query));
                return;
            }
        }
        if let Some(hop) = self.hop_mut(at) {
            hop.fail(query, failure);
        }
        self.tell(TraceEvent::NotSent { probe, failure });
        let failures = self.failure.map_or(0, |(failures, _)| failures).saturating_add(1);
        self.failure = Some((failures, failure));
        if failures >= FAILURES && self.config.live.is_none() {
            self.end_as(Ended::NotSent(failure));
        }
        self.go_on(now);
    }

    fn handle_command(&mut self, _: Now, Stop: Stop) -> Result<(), Refused> {
        self.end_as(Ended::Stopped);
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if matches!(self.state, State::Starting | State::Ended(_)) || self.heard_at.is_some() {
            return None;
        }
        let (at, query) = self.next()?;
        if self.flows == Flows::Each {
            self.change_flow();
        }
        let size = self.hops.get(usize::from(at.checked_sub(self.config.first_hop)?))?.size;
        match self.probes.put(now, at, self.flow, size, buf) {
            Ok(transmit) => {
                if self.places.len() >= PLACES {
                    self.places.pop_first();
                }
                self.places.insert(transmit.id.0, (at, query));
                self.hop_mut(at)?.send(query);
                Some(transmit)
            }
            // So many are on their way: in live mode this one's turn comes again.
            Err(_) => None,
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let turn = match self.state {
            State::Ended(_) => return None,
            State::Starting => Some(Deadline { at: self.cycle_at, why: "start" }),
            State::Watching { at, .. } => Some(Deadline { at, why: "turn" }),
            State::Exploring | State::Draining => None,
        };
        let look = self.look_at.map(|at| Deadline { at, why: "look" });
        let turn = Deadline::earlier(turn, look);
        let answer = self.probes.waiting().map(|probe| self.deadline(&probe)).min();
        let turn = Deadline::earlier(turn, self.heard_at.map(|at| Deadline { at, why: "heard" }));
        Deadline::earlier(turn, answer.map(|at| Deadline { at, why: "answer" }))
    }

    fn handle_timeout(&mut self, now: Now) {
        self.heard_at = self.heard_at.filter(|&at| at > now.mono);
        match self.state {
            State::Ended(_) => return,
            State::Starting if self.cycle_at <= now.mono => self.state = State::Exploring,
            State::Watching { hop, at } if at <= now.mono => self.watch(now, hop, at),
            _ => {}
        }
        if self.look_at.is_some_and(|at| at <= now.mono) {
            self.look();
        }
        for number in self.waiting(|probe| self.deadline(probe) <= now.mono) {
            self.expire(number);
        }
        self.go_on(now);
    }

    fn poll_event(&mut self) -> Option<TraceEvent<'static>> {
        self.events.pop_front()
    }
}
