//! What was found, as a value.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{Multipath, PathEnd, State};

/// The paths to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The source first, then by hops and addresses.
    pub nodes: Vec<PathNode>,
    /// By their beginnings and ends.
    pub links: Vec<PathLink>,
    /// In so many of a million runs like this one something is missed; what was asked for.
    pub misses: u32,
    /// The search has come to its end, and no limit cut it short. Else nothing is promised.
    pub is_complete: bool,
    /// Flows that were sent.
    pub flows: u16,
    /// Probes that were sent.
    pub probes: u32,
}

/// An address at a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathNode {
    /// Hops from the source.
    pub hop: u8,
    /// Whose it is. Empty for the source, and for the silent ones of a hop; several where packets of
    /// one flow pass them by chance.
    pub addresses: Vec<IpAddr>,
    /// Whether flows end there.
    pub end: Option<PathEnd>,
    /// Flows that were seen to pass it.
    pub flows: u32,
    /// With a chance of at most 2^-`bound` one of the nodes behind it is missed. The sum for all nodes is
    /// what [`Graph::misses`] says, or less.
    pub bound: u32,
    /// It sends packets of one flow different ways.
    pub by_packet: bool,
    /// Its hop tells only so much: it was asked slowly.
    pub is_limited: bool,
    /// The shortest.
    pub round_trip: Option<Duration>,
}

/// Flows go from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathLink {
    /// The place of a node.
    pub from: usize,
    /// The place of a node of the next hop.
    pub to: usize,
    /// Flows that were seen to take it.
    pub flows: u32,
}

/// Where paths part, and where they meet again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diamond {
    /// The place of the node behind which they part.
    pub from: usize,
    /// The place of the node where all have met; `None` where they end apart.
    pub to: Option<usize>,
    /// The most nodes that one hop of it has.
    pub width: usize,
}

impl Graph {
    pub(super) fn of(machine: &Multipath) -> Self {
        let is_there = |place: usize, flows: u32| place == 0 || flows > 0;
        let mut order: Vec<usize> = Vec::new();
        for (place, node) in machine.nodes.iter().enumerate() {
            if node.merged_into.is_none() && is_there(place, node.flows) {
                order.push(place);
            }
        }
        order.sort_by_key(|&place| {
            let node = machine.nodes.get(place);
            node.map(|node| (node.hop, node.addresses.first().copied(), node.end))
        });
        let places: BTreeMap<usize, usize> =
            order.iter().enumerate().map(|(place, &old)| (old, place)).collect();
        let (mut nodes, mut links) = (Vec::new(), Vec::new());
        for old in order.iter() {
            let Some(node) = machine.nodes.get(*old) else { continue };
            let from = nodes.len();
            for (next, &flows) in &node.next {
                links.extend(places.get(next).map(|&to| PathLink { from, to, flows }));
            }
            let hop = machine.hops.get(&node.hop);
            nodes.push(PathNode {
                hop: node.hop,
                addresses: node.addresses.iter().copied().collect(),
                end: node.end,
                flows: node.flows,
                bound: node.level,
                by_packet: node.by_packet,
                is_limited: hop.is_some_and(|hop| !hop.gap.is_zero()),
                round_trip: node.round_trip,
            });
        }
        links.sort();
        Self {
            nodes,
            links,
            misses: machine.config.misses,
            is_complete: machine.state == State::Ended && !machine.limited,
            flows: machine.next_flow,
            probes: machine.sent,
        }
    }

    /// Whether the destination answered.
    pub fn is_reached(&self) -> bool {
        self.nodes.iter().any(|node| node.end == Some(PathEnd::Reached))
    }

    /// The places of the nodes behind a node.
    pub fn next(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().filter(move |link| link.from == place).map(|link| link.to)
    }

    /// How many ways there are from the source to an end, as far as they are linked.
    pub fn paths(&self) -> u64 {
        // Links lead to later places only: the last nodes first.
        let mut ways: BTreeMap<usize, u64> = BTreeMap::new();
        for place in (0..self.nodes.len()).rev() {
            let of_next = |next| ways.get(&next).copied().unwrap_or(0);
            let sum = self.next(place).map(of_next).fold(0_u64, u64::saturating_add);
            ways.insert(place, sum.max(1));
        }
        ways.get(&0).copied().unwrap_or(1)
    }

    /// Where paths part and meet. What is within another one is not told by itself.
    pub fn diamonds(&self) -> Vec<Diamond> {
        let mut diamonds = Vec::new();
        let mut within = BTreeSet::new();
        for from in 0..self.nodes.len() {
            let mut abreast: BTreeSet<usize> = self.next(from).collect();
            if abreast.len() < 2 || within.contains(&from) {
                continue;
            }
            let mut width = 0;
            while abreast.len() > 1 {
                width = width.max(abreast.len());
                let next = abreast.iter().flat_map(|&place| self.next(place)).collect();
                within.append(&mut abreast);
                abreast = next;
            }
            diamonds.push(Diamond { from, to: abreast.first().copied(), width });
        }
        diamonds
    }
}
