//! All paths to a destination: which nodes each hop has, and how they are linked.
//!
//! Routers with several equal ways choose one by a hash of the flow. So flows are sent, each with its
//! own ports (or checksum, see [`Probes`]), and the hops of each are looked at, until it is unlikely
//! enough that there is a way that none of them took: the Multipath Detection Algorithm (Augustin,
//! Friedman, Teixeira, 2007), with [bounds](#what-is-promised) for the whole graph.
//!
//! A *node* is an address at a hop. The source is the first one. What each node wants:
//!
//! | the node | what is sent | until |
//! |---|---|---|
//! | fewer flows past it than its stopping point | a flow that is known to pass it, one hop further | the point for the nodes seen there |
//! | no such flow is left | a flow that passes a node before it, else a new one, to this hop | one passes it |
//! | two nodes or more behind it | one flow again and again, one hop further | as often as its first point: is it one path? |
//! | seen without one before it | its flow, one hop nearer | it is linked |
//! | the destination, or who says that it cannot be reached | nothing | |
//!
//! All nodes are served at once, those that were found first before others, with [`MultipathConfig::window`] probes on
//! their way. No answer after three tries is a node too: one without an address, which stands for all
//! silent ones of its hop.
//!
//! # What is promised
//!
//! That a node or link is missing happens in at most [`MultipathConfig::misses`] of a million runs, the
//! whole graph taken together, if
//!
//! - nodes balance by flow, evenly, and independently of each other;
//! - the paths do not change meanwhile, and the time to wait is long enough.
//!
//! How the number of flows is computed, and why their bounds add up, is told at the head of
//! `multipath/stopping.rs`. The promise is withdrawn ([`Graph::is_complete`]) where a
//! [limit](#limits) ended the search. Behind a silent node that stands for several, and behind one that
//! balances by packet, flows are not spread evenly over what follows: there it is not kept.
//!
//! # What is not a path
//!
//! - **Balancing by packet.** If a flow is seen to pass two nodes at one hop, these are merged into one node
//!   with several addresses: which of them a flow passes is chance each time. That is asked as often as
//!   the first stopping point says, so a balancer by packet is taken for one by flow as seldom as two
//!   next nodes for one.
//! - **Limits of routers.** Where some flows are answered at a hop and others are not, the hop is left alone for
//!   a second, and one of the silent ones is asked again, up to three times. If it answers then, the hop is taken
//!   for limited: all its silent flows are asked anew, one a second, and faster as long as it answers.
//!
//! # Limits
//!
//! [`MOST_FLOWS`], [`MOST_PROBES`], [`MOST_NODES`], 128 next nodes of one node, and 1,000 flows in
//! search of one that passes a node. After [`MultipathConfig::gap_limit`] hops in a row without any answer
//! nothing further is tried.
//!
//! MDA-Lite (Vermeulen and others, 2018), which needs fewer probes where diamonds are regular, is left
//! out.

mod graph;
mod stopping;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use semfio_machine::{
    DatagramMachine, Deadline, Failure, Instant, Now, Received, Refused, Seed, Stamp, Transmit,
    TransmitId,
};

use crate::trace::{Answer, AnswerKind, ProbeCounts, Probes, ProbesConfig, SMALLEST};
use stopping::Stopping;

pub use graph::{Diamond, Graph, PathLink, PathNode};

/// Flows of one run. There are more ports above those that they begin with, of UDP and of TCP.
pub const MOST_FLOWS: u16 = 8_192;
/// Probes of one run.
pub const MOST_PROBES: u32 = 32_768;
/// Nodes of one run.
pub const MOST_NODES: usize = 512;

/// How often a flow is asked at a hop.
const TRIES: u8 = 3;
/// How long the first answer may take beside twice the longest round trip; then twice as long.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a hop that is silent for some flows only is asked again, and how long after the last time:
/// routers that say one thing a second are common.
const DOUBTS: u8 = 3;
const PAUSE: Duration = Duration::from_millis(1_100);
/// Answers in a row after which a limited hop is asked twice as fast, and the pause that is none.
const STREAK: u8 = 3;
const HASTE: Duration = Duration::from_millis(10);
/// Flows in search of one that passes a node.
const HUNTS: u32 = 1_000;
/// Events for a host that does not ask.
const EVENTS: usize = 4 * MOST_NODES;

/// How to look for paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultipathConfig {
    /// How probes are built.
    pub probes: ProbesConfig,
    /// In so many of a million runs something may be missed. Default 50,000: a confidence of 95 %.
    pub misses: u32,
    /// The first hop that is looked at. Default 1.
    pub first_hop: u8,
    /// The last. Default 30.
    pub max_hops: u8,
    /// How long an answer may take at most. Default 3 s; what is known of round trips shortens it.
    pub wait: Duration,
    /// Hops in a row without any answer after which nothing further is tried. Default 5.
    pub gap_limit: u8,
    /// Probes on their way at once. Default 64.
    pub window: u16,
    /// Octets of an IP packet. Default: the smallest.
    pub size: u16,
}

/// Ends the run: the graph stays as far as it is known, and is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPaths;

/// What is found on the way. The whole is [`Multipath::graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultipathEvent {
    /// An address that was not yet seen at this hop.
    Found {
        /// Hops from the source.
        hop: u8,
        /// Whose it is.
        address: IpAddr,
        /// Whether flows end there.
        end: Option<PathEnd>,
    },
    /// Nothing more will be told.
    Ended,
}

/// How flows end at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathEnd {
    /// It is the destination.
    Reached,
    /// It says that the destination cannot be reached.
    Unreachable {
        /// By the numbers of the destination's family.
        code: u8,
    },
    /// It says something else.
    Other {
        /// Its type.
        icmp_type: u8,
        /// Its code.
        icmp_code: u8,
    },
}

/// Finds all paths to a destination.
#[derive(Debug)]
pub struct Multipath {
    config: MultipathConfig,
    probes: Probes,
    tables: BTreeMap<u32, Stopping>,
    /// The source first; those that were merged into others stay, without flows.
    nodes: Vec<Node>,
    /// The nodes of each hop.
    hops: BTreeMap<u8, Hop>,
    /// By hop, address, and how flows end there.
    keys: BTreeMap<(u8, IpAddr, Option<PathEnd>), usize>,
    /// Which node each flow has at each hop.
    seen: BTreeMap<(u8, u16), Seen>,
    /// Probes on their way.
    flights: BTreeMap<u64, (Flight, Instant)>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// To be sent before anything else.
    wanted: VecDeque<Flight>,
    longest: Option<Duration>,
    next_flow: u16,
    sent: u32,
    /// Whether a limit left something out.
    limited: bool,
    state: State,
    events: VecDeque<MultipathEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Searching,
    /// Nothing is left to do, and that was told.
    Ended,
}

#[derive(Debug, Default)]
struct Hop {
    nodes: Vec<usize>,
    /// The one without an address.
    silent: Option<usize>,
    answered: u32,
    /// Probes on their way to it.
    flying: u32,
    /// Between two probes: not zero once it is known to say only so much.
    gap: Duration,
    /// Answers in a row since the gap was changed.
    streak: u8,
    /// Until when it is left alone.
    paused: Option<Instant>,
    /// When a silent flow is asked again, and how often it may be still.
    doubt: Option<Instant>,
    doubts: u8,
}

/// An address at a hop, or several that flows pass by chance.
#[derive(Clone, Debug)]
struct Node {
    hop: u8,
    addresses: BTreeSet<IpAddr>,
    end: Option<PathEnd>,
    /// Its bound is 2^-level.
    level: u32,
    merged_into: Option<usize>,
    /// Flows that pass it and were not yet sent one hop further.
    fresh: BTreeSet<u16>,
    flows: u32,
    /// Flows on their way one hop further.
    flying: u32,
    /// Flows whose next node is known, by that node.
    next: BTreeMap<usize, u32>,
    past: u32,
    /// Flows sent to this hop on its account.
    hunts: u32,
    by_packet: bool,
    /// Times that one flow was sent again.
    checks: u32,
    /// Nothing was missing past it when it was last looked at.
    is_served: bool,
    round_trip: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A probe is on its way.
    Asked,
    At(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    hop: u8,
    flow: u16,
    tries: u8,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Explore,
    /// Is this flow one path?
    Check,
    /// Is this flow silent, or the hop limited?
    Doubt,
}

impl MultipathConfig {
    /// The defaults, for such probes.
    pub fn new(probes: ProbesConfig) -> Self {
        Self {
            probes,
            misses: 50_000,
            first_hop: 1,
            max_hops: 30,
            wait: Duration::from_secs(3),
            gap_limit: 5,
            window: 64,
            size: SMALLEST,
        }
    }
}

impl Multipath {
    /// Looks for paths as soon as it is asked for what to send.
    ///
    /// # Errors
    ///
    /// `Invalid` for probes that cannot be (see [`Probes::new`]), no hop, no window, no
    /// gap, or misses of none or of all.
    pub fn new(seed: &Seed, config: MultipathConfig) -> Result<Self, Refused> {
        if config.first_hop == 0 || config.first_hop > config.max_hops {
            return Err(Refused::Invalid("no hop to look at"));
        }
        if config.window == 0 || config.gap_limit == 0 {
            return Err(Refused::Invalid("a window or a gap of none"));
        }
        if config.misses == 0 || config.misses >= 1_000_000 {
            return Err(Refused::Invalid("a confidence that cannot be had"));
        }
        let probes = Probes::new(seed, config.probes)?;
        let config = MultipathConfig { probes: *probes.config(), ..config };
        let mut machine = Self {
            config,
            probes,
            tables: BTreeMap::new(),
            nodes: Vec::new(),
            hops: BTreeMap::new(),
            keys: BTreeMap::new(),
            seen: BTreeMap::new(),
            flights: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            wanted: VecDeque::new(),
            longest: None,
            next_flow: 0,
            sent: 0,
            limited: false,
            state: State::Searching,
            events: VecDeque::new(),
        };
        machine.add_node(config.first_hop.saturating_sub(1), None, None);
        Ok(machine)
    }

    /// How it looks for paths; ports that were left open are filled in.
    pub fn config(&self) -> &MultipathConfig {
        &self.config
    }

    /// What came, and was no first answer.
    pub fn counts(&self) -> ProbeCounts {
        self.probes.counts()
    }

    /// What is known so far.
    pub fn graph(&self) -> Graph {
        Graph::of(self)
    }

    fn add_node(&mut self, hop: u8, address: Option<IpAddr>, end: Option<PathEnd>) -> usize {
        let place = self.nodes.len();
        let flows_on = self.nodes.iter().filter(|node| node.end.is_none()).count();
        let j = u32::try_from(flows_on).unwrap_or(u32::MAX).saturating_add(1);
        self.nodes.push(Node {
            hop,
            addresses: address.into_iter().collect(),
            end,
            level: Stopping::level(self.config.misses, j),
            merged_into: None,
            fresh: BTreeSet::new(),
            flows: 0,
            flying: 0,
            next: BTreeMap::new(),
            past: 0,
            hunts: 0,
            by_packet: false,
            checks: 0,
            is_served: false,
            round_trip: None,
        });
        self.hops.entry(hop).or_default().nodes.push(place);
        if let Some(address) = address {
            self.keys.insert((hop, address, end), place);
            self.tell(MultipathEvent::Found { hop, address, end });
        }
        place
    }

    /// The node of an answer; a new one, if there may be one more.
    fn node_of(&mut self, hop: u8, address: IpAddr, end: Option<PathEnd>) -> Option<usize> {
        let known = self.keys.get(&(hop, address, end)).copied();
        if known.is_some() || self.nodes.len() >= MOST_NODES {
            self.limited |= known.is_none();
            return known;
        }
        Some(self.add_node(hop, Some(address), end))
    }

    /// The node that stands for all silent ones of a hop.
    fn silent(&mut self, hop: u8) -> Option<usize> {
        if let Some(known) = self.hops.get(&hop).and_then(|hop| hop.silent) {
            return Some(known);
        }
        if self.nodes.len() >= MOST_NODES {
            self.limited = true;
            return None;
        }
        let place = self.add_node(hop, None, None);
        self.hops.entry(hop).or_default().silent = Some(place);
        Some(place)
    }

    fn at(&self, hop: u8, flow: u16) -> Option<usize> {
        match self.seen.get(&(hop, flow)) {
            Some(&Seen::At(place)) => Some(place),
            _ if hop < self.config.first_hop => Some(0),
            _ => None,
        }
    }

    /// Adds what is known of a flow at a hop to the nodes there and before it.
    fn note(&mut self, hop: u8, flow: u16) {
        let Some(place) = self.at(hop, flow) else { return };
        let after = hop.saturating_add(1);
        let behind = self.seen.get(&(after, flow)).copied();
        if let Some(node) = self.nodes.get_mut(place) {
            node.flows = node.flows.saturating_add(1);
            match behind {
                None => _ = node.fresh.insert(flow),
                Some(Seen::Asked) => node.flying = node.flying.saturating_add(1),
                Some(Seen::At(next)) => node.pass(next),
            }
        }
        if let Some(before) = self.before(hop, flow) {
            before.fresh.remove(&flow);
            before.pass(place);
        }
    }

    fn before(&mut self, hop: u8, flow: u16) -> Option<&mut Node> {
        let place = self.at(hop.checked_sub(1)?, flow)?;
        self.nodes.get_mut(place)
    }

    /// Adds everything up anew, after nodes were merged or flows were found not to be silent.
    fn note_all(&mut self) {
        for node in &mut self.nodes {
            node.fresh.clear();
            node.next.clear();
            (node.flows, node.flying, node.past) = (0, 0, 0);
            node.is_served = false;
        }
        // What is known is added one hop after the other, and passes are counted by the node before.
        for (&(hop, flow), &seen) in &self.seen {
            let before = match hop.checked_sub(1) {
                Some(before) if before >= self.config.first_hop => self.seen.get(&(before, flow)),
                _ => Some(&Seen::At(0)),
            };
            if let Some(&Seen::At(before)) = before {
                if let Some(node) = self.nodes.get_mut(before) {
                    match seen {
                        Seen::Asked => node.flying = node.flying.saturating_add(1),
                        Seen::At(next) => node.pass(next),
                    }
                }
            }
            if let Seen::At(place) = seen {
                let is_last = !self.seen.contains_key(&(hop.saturating_add(1), flow));
                if let Some(node) = self.nodes.get_mut(place) {
                    node.flows = node.flows.saturating_add(1);
                    if is_last {
                        node.fresh.insert(flow);
                    }
                }
            }
        }
    }

    /// A flow was found to pass a node.
    fn settle(&mut self, hop: u8, flow: u16, place: usize) {
        if self.seen.get(&(hop, flow)) == Some(&Seen::Asked) {
            if let Some(before) = self.before(hop, flow) {
                before.flying = before.flying.saturating_sub(1);
            }
        }
        let is_end = self.is_end(place);
        let before = hop.saturating_sub(1);
        if self.at(before, flow).is_some_and(|before| self.is_end(before)) {
            // It ended before; whoever is behind that is not on its way.
            self.seen.remove(&(hop, flow));
            return;
        }
        self.seen.insert((hop, flow), Seen::At(place));
        if is_end {
            self.forget(hop.saturating_add(1), flow);
        }
        self.note(hop, flow);
        // Who was met by chance has to be linked. Where a flow has ended, it may have so before.
        let is_new = is_end || !self.is_linked(before, place);
        if before >= self.config.first_hop && is_new && !self.seen.contains_key(&(before, flow)) {
            self.want(Flight { hop: before, flow, tries: 0, why: Why::Explore });
        }
    }

    /// A flow was seen behind its end, where no node before was known.
    fn forget(&mut self, hop: u8, flow: u16) {
        let Some(place) = self.at(hop, flow).filter(|_| hop > self.config.first_hop) else {
            return;
        };
        self.seen.remove(&(hop, flow));
        let behind = self.seen.get(&(hop.saturating_add(1), flow)).copied();
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.flows = node.flows.saturating_sub(1);
        node.fresh.remove(&flow);
        node.is_served = false;
        match behind {
            None => {}
            Some(Seen::Asked) => node.flying = node.flying.saturating_sub(1),
            Some(Seen::At(next)) => {
                node.past = node.past.saturating_sub(1);
                if let Some(flows) = node.next.get_mut(&next) {
                    *flows = flows.saturating_sub(1);
                }
                node.next.retain(|_, flows| *flows > 0);
            }
        }
        self.forget(hop.saturating_add(1), flow);
    }

    fn is_end(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(|node| node.end.is_some())
    }

    /// Whether a node is known to be behind one of this hop.
    fn is_linked(&self, hop: u8, place: usize) -> bool {
        let nodes = self.hops.get(&hop).map(|hop| &hop.nodes[..]).unwrap_or_default();
        let mut nodes = nodes.iter().filter_map(|&of| self.nodes.get(of));
        nodes.any(|node| node.next.contains_key(&place))
    }

    /// Has something sent before anything else.
    fn want(&mut self, flight: Flight) {
        if flight.why == Why::Explore && flight.tries == 0 {
            self.ask(flight.hop, flight.flow);
        }
        self.wanted.push_back(flight);
    }

    /// A flow will be looked at, at this hop.
    fn ask(&mut self, hop: u8, flow: u16) {
        if self.seen.insert((hop, flow), Seen::Asked).is_some() {
            return;
        }
        if let Some(before) = self.before(hop, flow) {
            before.fresh.remove(&flow);
            before.flying = before.flying.saturating_add(1);
        }
    }

    fn handle_answer(&mut self, now: Now, answer: &Answer<'_>) {
        let (hop, flow) = (answer.probe.hop_limit, answer.probe.flow);
        let flight = self.land(answer.probe.number);
        let end = match answer.kind {
            AnswerKind::TimeExceeded => None,
            AnswerKind::Reached(_) => Some(PathEnd::Reached),
            AnswerKind::Unreachable { code } => Some(PathEnd::Unreachable { code }),
            AnswerKind::PacketTooBig { .. } => {
                let is_v4 = self.config.probes.destination.is_ipv4();
                let (icmp_type, icmp_code) = if is_v4 { (3, 4) } else { (2, 0) };
                Some(PathEnd::Other { icmp_type, icmp_code })
            }
            AnswerKind::Other { icmp_type, icmp_code } => {
                Some(PathEnd::Other { icmp_type, icmp_code })
            }
        };
        let Some(place) = self.node_of(hop, answer.from, end) else { return };
        let length = answer.round_trip.length;
        self.longest = Some(self.longest.unwrap_or_default().max(length));
        if let Some(node) = self.nodes.get_mut(place) {
            node.round_trip = Some(node.round_trip.map_or(length, |least| least.min(length)));
        }
        let of_hop = self.hops.entry(hop).or_default();
        of_hop.answered = of_hop.answered.saturating_add(1);
        of_hop.hurry();
        let silent = of_hop.silent;
        match self.seen.get(&(hop, flow)).copied() {
            Some(Seen::At(known)) if Some(known) == silent => {
                if flight.is_some_and(|flight| flight.why == Why::Doubt) {
                    self.ask_again(now, hop);
                }
                self.seen.remove(&(hop, flow));
                self.note_all();
                self.settle(hop, flow, place);
            }
            Some(Seen::At(known)) if known != place => self.by_packet(hop, flow, known, place),
            Some(Seen::At(_)) => {}
            None | Some(Seen::Asked) => self.settle(hop, flow, place),
        }
        self.consider_doubt(now, hop);
    }

    /// A flow passes two nodes at one hop: these are one, and the node before them balances by packet.
    fn by_packet(&mut self, hop: u8, flow: u16, known: usize, other: usize) {
        if let Some(before) = self.before(hop, flow) {
            before.by_packet = true;
        }
        let Some(node) = self.nodes.get_mut(other) else { return };
        node.merged_into = Some(known);
        let (addresses, end) = (core::mem::take(&mut node.addresses), node.end);
        if let Some(node) = self.nodes.get_mut(known) {
            node.addresses.extend(addresses);
            // Those that do not end there go on.
            node.end = node.end.and(end);
        }
        for place in self.keys.values_mut().filter(|place| **place == other) {
            *place = known;
        }
        for seen in self.seen.values_mut().filter(|seen| **seen == Seen::At(other)) {
            *seen = Seen::At(known);
        }
        if let Some(hop) = self.hops.get_mut(&hop) {
            hop.nodes.retain(|&place| place != other);
        }
        self.note_all();
    }

    /// All silent flows of a hop are asked anew, one a second.
    fn ask_again(&mut self, now: Now, hop: u8) {
        let Some(of_hop) = self.hops.get_mut(&hop) else { return };
        let Some(silent) = of_hop.silent else { return };
        of_hop.gap = PAUSE;
        of_hop.streak = 0;
        of_hop.paused = Some(now.mono.saturating_add(PAUSE));
        of_hop.doubt = None;
        of_hop.doubts = DOUBTS;
        let all = self.seen.range((hop, 0)..=(hop, u16::MAX));
        let flows: Vec<u16> = all
            .filter(|(_, seen)| **seen == Seen::At(silent))
            .map(|(&(_, flow), _)| flow)
            .collect();
        for flow in flows {
            self.seen.remove(&(hop, flow));
        }
        // What was asked in haste counts for nothing.
        let flying = self.flights.values_mut().map(|(flight, _)| flight);
        for flight in flying.chain(&mut self.wanted).filter(|flight| flight.hop == hop) {
            flight.tries = 0;
        }
        self.note_all();
    }

    /// Where some flows are answered and others are not, one of these will be asked again.
    fn consider_doubt(&mut self, now: Now, hop: u8) {
        let silent = self.hops.get(&hop).and_then(|hop| hop.silent);
        let has_flows =
            silent.and_then(|place| self.nodes.get(place)).is_some_and(|of| of.flows > 0);
        let Some(of_hop) = self.hops.get_mut(&hop) else { return };
        if has_flows && of_hop.answered > 0 && of_hop.doubt.is_none() && of_hop.doubts < DOUBTS {
            let at = now.mono.saturating_add(PAUSE);
            of_hop.doubt = Some(at);
            // Else what it may say is used up by others.
            of_hop.paused = Some(at);
        }
    }

    /// A probe is no more on its way.
    fn land(&mut self, number: u64) -> Option<Flight> {
        let (flight, due) = self.flights.remove(&number)?;
        self.deadlines.remove(&(due, number));
        if let Some(hop) = self.hops.get_mut(&flight.hop) {
            hop.flying = hop.flying.saturating_sub(1);
        }
        Some(flight)
    }

    /// A probe has no answer, or did not leave.
    fn handle_silence(&mut self, now: Now, number: u64) {
        let Some(flight) = self.land(number) else { return };
        self.probes.give_up(number);
        let Flight { hop, flow, tries, why } = flight;
        if let Some(of_hop) = self.hops.get_mut(&hop).filter(|hop| !hop.gap.is_zero()) {
            of_hop.gap = PAUSE;
            of_hop.paused = Some(now.mono.saturating_add(PAUSE));
            of_hop.streak = 0;
        }
        let tries = tries.saturating_add(1);
        if why == Why::Explore && self.seen.get(&(hop, flow)) == Some(&Seen::Asked) {
            if tries < TRIES {
                self.want(Flight { tries, ..flight });
            } else if let Some(silent) = self.silent(hop) {
                self.settle(hop, flow, silent);
            }
        }
        self.consider_doubt(now, hop);
    }

    /// What is to be sent next, if anything may be now.
    fn next_flight(&mut self) -> Option<Flight> {
        if self.flights.len() >= usize::from(self.config.window) {
            return None;
        }
        let may = |hops: &BTreeMap<u8, Hop>, hop: u8| {
            hops.get(&hop).is_none_or(|hop| hop.paused.is_none())
        };
        let place = self.wanted.iter().position(|flight| may(&self.hops, flight.hop));
        if let Some(flight) = place.and_then(|place| self.wanted.remove(place)) {
            return Some(flight);
        }
        for place in 0..self.nodes.len() {
            let open = self.nodes.get(place).filter(|node| !node.is_served);
            let Some(hop) = open.map(|node| node.hop) else { continue };
            let Some(want) = self.wants(place) else { continue };
            let next = hop.saturating_add(1);
            let flight = match want {
                Want::Check(flow) if may(&self.hops, next) => {
                    if let Some(node) = self.nodes.get_mut(place) {
                        node.checks = node.checks.saturating_add(1);
                    }
                    Some(Flight { hop: next, flow, tries: 0, why: Why::Check })
                }
                Want::Pass(flow) if may(&self.hops, next) => {
                    self.next_flow = self.next_flow.max(flow.saturating_add(1));
                    self.ask(next, flow);
                    Some(Flight { hop: next, flow, tries: 0, why: Why::Explore })
                }
                Want::Hunt(most) if may(&self.hops, hop) => self.hunt(hop, place, most),
                _ => None,
            };
            if flight.is_some() {
                return flight;
            }
        }
        None
    }

    /// Asks a silent flow of a hop again, where the time for that has come.
    fn ask_doubted(&mut self, now: Now) {
        let due = |hop: &Hop| hop.doubt.is_some_and(|doubt| doubt <= now.mono);
        for (&hop, of_hop) in self.hops.iter_mut().filter(|(_, hop)| due(hop)) {
            of_hop.doubt = None;
            of_hop.doubts = of_hop.doubts.saturating_add(1);
            let mut all = self.seen.range((hop, 0)..=(hop, u16::MAX));
            let silent = of_hop.silent.map(Seen::At);
            if let Some((&(_, flow), _)) = all.find(|(_, seen)| Some(**seen) == silent) {
                let flight = Flight { hop, flow, tries: 0, why: Why::Doubt };
                self.wanted.push_front(flight);
            }
        }
    }

    /// What is missing to be done with a node.
    fn wants(&mut self, place: usize) -> Option<Want> {
        let node = self.nodes.get(place)?;
        if node.end.is_some() || node.merged_into.is_some() || node.hop >= self.config.max_hops {
            return None;
        }
        let is_silent = node.addresses.is_empty() && place > 0;
        if is_silent && (node.flows == 0 || self.is_beyond(node.hop) || self.is_doubted(node.hop)) {
            return None;
        }
        let table = self.tables.entry(node.level).or_insert_with(|| Stopping::new(node.level));
        let first = table.point(1);
        let enough = table.point(node.next.len());
        if node.next.len() > stopping::WIDEST {
            self.limited = true;
            return None;
        }
        let underway = node.past.saturating_add(node.flying);
        let lacks = enough.saturating_sub(underway);
        if lacks == 0 {
            let ways = node.next.keys().filter(|next| {
                self.nodes.get(**next).is_some_and(|next| !next.addresses.is_empty())
            });
            let is_sure = ways.count() < 2 || node.by_packet || node.checks >= first;
            if is_sure {
                if let Some(node) = self.nodes.get_mut(place) {
                    node.is_served = true;
                }
                return None;
            }
            return self.sample(place).map(Want::Check);
        }
        if let Some(&flow) = node.fresh.first() {
            return Some(Want::Pass(flow));
        }
        if self.next_flow >= MOST_FLOWS || node.hunts >= HUNTS {
            self.limited = true;
            return None;
        }
        Some(if place == 0 { Want::Pass(self.next_flow) } else { Want::Hunt(lacks) })
    }

    /// Whether the hops up to this one have been silent for too long.
    fn is_beyond(&self, hop: u8) -> bool {
        let gap = self.config.gap_limit;
        let mut silent = hop.saturating_sub(gap).saturating_add(1)..=hop;
        hop.saturating_sub(self.config.first_hop) >= gap.saturating_sub(1)
            && silent.all(|hop| self.hops.get(&hop).is_some_and(|hop| hop.answered == 0))
    }

    /// Whether the silent flows of a hop may be answered yet.
    fn is_doubted(&self, hop: u8) -> bool {
        self.hops.get(&hop).is_some_and(|hop| hop.answered > 0 && hop.doubts < DOUBTS)
    }

    /// A flow that passes this node and is answered behind it.
    fn sample(&self, place: usize) -> Option<u16> {
        let node = self.nodes.get(place)?;
        let next = node.hop.saturating_add(1);
        let silent = self.hops.get(&next).and_then(|hop| hop.silent);
        let mut all = self.seen.range((next, 0)..=(next, u16::MAX));
        let found = all.find(|&(&(_, flow), &seen)| match seen {
            Seen::At(at) => Some(at) != silent && self.at(node.hop, flow) == Some(place),
            Seen::Asked => false,
        });
        found.map(|(&(_, flow), _)| flow)
    }

    /// A flow to a node's hop that may pass it: one that passes a node before it, else a new one.
    fn hunt(&mut self, hop: u8, place: usize, most: u32) -> Option<Flight> {
        let of_hop = self.hops.get(&hop)?;
        if of_hop.flying >= most {
            return None;
        }
        let node = self.nodes.get_mut(place)?;
        node.hunts = node.hunts.saturating_add(1);
        let before = self.hops.get(&hop.saturating_sub(1)).map(|hop| &hop.nodes[..]);
        let known = before.unwrap_or_default().iter().find_map(|&of| {
            let of = self.nodes.get(of)?;
            if of.next.contains_key(&place) { of.fresh.first().copied() } else { None }
        });
        let flow = known.unwrap_or(self.next_flow);
        self.next_flow = self.next_flow.max(flow.saturating_add(1));
        self.ask(hop, flow);
        Some(Flight { hop, flow, tries: 0, why: Why::Explore })
    }

    /// How long an answer may take.
    fn patience(&self, tries: u8) -> Duration {
        let most = self.config.wait;
        let Some(longest) = self.longest else { return most.min(Duration::from_millis(500)) };
        let more = PATIENCE.saturating_mul(1_u32.checked_shl(tries.into()).unwrap_or(u32::MAX));
        longest.saturating_mul(2).saturating_add(more).min(most)
    }

    fn tell(&mut self, event: MultipathEvent) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    /// Ends it, if nothing is left to do.
    fn end_if_done(&mut self) {
        let waits = !self.flights.is_empty() || !self.wanted.is_empty();
        let doubts = self.hops.values().any(|hop| hop.doubt.is_some());
        if self.state == State::Searching && !waits && !doubts && !self.is_held() {
            self.state = State::Ended;
            self.tell(MultipathEvent::Ended);
        }
    }

    /// Whether a node wants something that a limited hop puts off.
    fn is_held(&mut self) -> bool {
        let paused = self.hops.values().any(|hop| hop.paused.is_some());
        paused && (0..self.nodes.len()).any(|place| self.wants(place).is_some())
    }

    fn finish(&mut self) {
        self.limited |= self.state == State::Searching;
        self.flights.clear();
        self.deadlines.clear();
        self.wanted.clear();
        if self.state == State::Searching {
            self.state = State::Ended;
            self.tell(MultipathEvent::Ended);
        }
    }
}

enum Want {
    /// This flow, one hop further.
    Pass(u16),
    /// This flow again, one hop further.
    Check(u16),
    /// A flow that passes it, with no more than so many on their way.
    Hunt(u32),
}

impl Hop {
    /// It has answered: if it goes on so, it is asked faster, and at last as fast as all others. One
    /// that was silent for another reason costs little then.
    fn hurry(&mut self) {
        self.streak = self.streak.saturating_add(1);
        if self.streak >= STREAK && !self.gap.is_zero() {
            self.streak = 0;
            self.gap = self.gap.checked_div(2).filter(|&gap| gap > HASTE).unwrap_or_default();
        }
    }
}

impl Node {
    /// A flow goes on to another node.
    fn pass(&mut self, next: usize) {
        let flows = self.next.entry(next).or_default();
        *flows = flows.saturating_add(1);
        self.past = self.past.saturating_add(1);
        self.is_served = false;
    }
}

impl DatagramMachine for Multipath {
    type Event<'i> = MultipathEvent;
    type Command<'c> = StopPaths;

    /// All: what is foreign is counted.
    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram(
        &mut self,
        now: Now,
        meta: Received,
        payload: &mut [u8],
    ) -> Option<MultipathEvent> {
        let answer = self.probes.handle_datagram(now, &meta, payload)?;
        if self.state == State::Searching {
            self.handle_answer(now, &answer);
        }
        None
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        self.probes.handle_sent(now, id, stamp);
    }

    /// As if nobody had answered: the system may have had no room, or no way.
    fn handle_send_error(&mut self, now: Now, id: TransmitId, _: Failure) {
        let TransmitId(number) = id;
        self.handle_silence(now, number);
        self.probes.handle_send_error(id);
    }

    fn handle_command(&mut self, _: Now, StopPaths: StopPaths) -> Result<(), Refused> {
        self.finish();
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if self.state == State::Ended {
            return None;
        }
        let Some(flight) = self.next_flight() else {
            self.end_if_done();
            return None;
        };
        let Flight { hop, flow, tries, .. } = flight;
        let transmit = match self.probes.put(now, hop, flow, self.config.size, buf) {
            Ok(transmit) if self.sent < MOST_PROBES => transmit,
            _ => {
                self.finish();
                return None;
            }
        };
        self.sent = self.sent.saturating_add(1);
        let TransmitId(number) = transmit.id;
        let due = now.mono.saturating_add(self.patience(tries));
        self.flights.insert(number, (flight, due));
        self.deadlines.insert((due, number));
        let of_hop = self.hops.entry(hop).or_default();
        of_hop.flying = of_hop.flying.saturating_add(1);
        if flight.why == Why::Doubt {
            of_hop.paused = Some(now.mono.saturating_add(PAUSE));
        } else if !of_hop.gap.is_zero() {
            of_hop.paused = Some(now.mono.saturating_add(of_hop.gap));
        }
        Some(transmit)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.state == State::Ended {
            return None;
        }
        let waits = self.deadlines.first().map(|&(at, _)| Deadline { at, why: "answer" });
        let paused = self.hops.values().filter_map(|hop| hop.paused);
        let paused = paused.map(|at| Deadline { at, why: "limit" });
        let doubts = self.hops.values().filter_map(|hop| hop.doubt);
        let doubts = doubts.map(|at| Deadline { at, why: "doubt" });
        paused.chain(doubts).fold(waits, |first, next| Deadline::earlier(first, Some(next)))
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(&(at, number)) = self.deadlines.first() {
            if at > now.mono {
                break;
            }
            self.handle_silence(now, number);
        }
        for hop in self.hops.values_mut() {
            hop.paused = hop.paused.filter(|&until| until > now.mono);
        }
        self.ask_doubted(now);
    }

    fn poll_event(&mut self) -> Option<MultipathEvent> {
        self.events.pop_front()
    }
}
