//! Maps drawn by chance: routers in a row, diamonds, diamonds in diamonds, ways of different lengths,
//! silent routers. And what is to be found in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rand_core::RngCore as _;
use semfio_machine::{Rng, Seed};
use semfio_probe::simulation::{NodeId, Topology};
use semfio_probe::{Graph, PathNode};

/// A node as it is seen: its hop, its address unless it is silent.
pub(crate) type Key = (u8, Option<IpAddr>);

#[derive(Debug, Default)]
pub(crate) struct Drawn {
    routers: Vec<Router>,
    links: u16,
}

#[derive(Debug, Default)]
struct Router {
    /// The next routers, and the links to them.
    next: Vec<(usize, u16)>,
    silent: bool,
    /// It answers from one address, whichever link a packet comes by.
    one_address: bool,
}

struct Draw(Rng);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }
}

impl Drawn {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Draw(Seed::from_u64(seed).stream(77));
        loop {
            let drawn = Self::draw(&mut draw);
            // Ways of different lengths in several diamonds multiply.
            if drawn.states().len() <= 18 {
                return drawn;
            }
        }
    }

    fn draw(draw: &mut Draw) -> Self {
        let mut drawn = Self::default();
        drawn.router(draw);
        let mut at = 0;
        for _ in 0..1 + draw.below(3) {
            at = drawn.part(draw, at, 0);
        }
        // The last link has the destination at its end.
        let far = drawn.router(draw);
        drawn.link(at, far);
        drawn.routers[far].one_address = true;
        drawn.silence(draw);
        drawn
    }

    fn router(&mut self, draw: &mut Draw) -> usize {
        let one_address = draw.below(4) > 0;
        self.routers.push(Router { one_address, ..Router::default() });
        self.routers.len() - 1
    }

    fn link(&mut self, from: usize, to: usize) {
        self.links += 1;
        self.routers[from].next.push((to, self.links));
    }

    /// A router, or a diamond, behind another one.
    fn part(&mut self, draw: &mut Draw, from: usize, depth: u32) -> usize {
        if draw.below(3) == 0 {
            let router = self.router(draw);
            self.link(from, router);
            return router;
        }
        let ways = 1 + draw.below(if depth == 0 { 8 } else { 3 });
        let mut ends = Vec::new();
        for _ in 0..ways {
            let mut at = self.router(draw);
            self.link(from, at);
            match draw.below(8) {
                0 => {
                    let longer = self.router(draw);
                    self.link(at, longer);
                    at = longer;
                }
                1 if depth == 0 => at = self.part(draw, at, 1),
                _ => {}
            }
            ends.push(at);
        }
        let join = self.router(draw);
        for end in ends {
            self.link(end, join);
        }
        join
    }

    /// Silences some, at most one of a hop: several would be taken for one, whose flows are not spread
    /// evenly.
    fn silence(&mut self, draw: &mut Draw) {
        let mut taken = BTreeSet::new();
        for router in 1..self.routers.len() - 1 {
            let hops: BTreeSet<u8> = self
                .states()
                .iter()
                .filter(|state| state.1 == router)
                .map(|state| state.0)
                .collect();
            if draw.below(10) == 0 && hops.is_disjoint(&taken) {
                self.routers[router].silent = true;
                taken.extend(hops);
            }
        }
    }

    /// Where a packet can be: after so many hops, at a router, come by a link.
    fn states(&self) -> BTreeSet<(u8, usize, u16)> {
        let mut states = BTreeSet::from([(0, 0, 0)]);
        let mut open = vec![(0, 0, 0)];
        while let Some((hop, router, _)) = open.pop() {
            for &(next, link) in &self.routers[router].next {
                if states.insert((hop + 1, next, link)) {
                    open.push((hop + 1, next, link));
                }
            }
        }
        states
    }

    fn key(&self, (hop, router, link): (u8, usize, u16)) -> Key {
        let own = Topology::addresses(link, 2).v4;
        let address = match &self.routers[router] {
            _ if hop == 0 => None,
            Router { silent: true, .. } => None,
            // Of a link that is nowhere, so that it is nobody else's.
            _ if router + 1 == self.routers.len() => Some(own.into()),
            Router { one_address: true, .. } => Some(self.own(router).v4.into()),
            _ => Some(own.into()),
        };
        (hop, address)
    }

    fn own(&self, router: usize) -> semfio_probe::simulation::Addresses {
        Topology::addresses(1_000 + router as u16, 1)
    }

    /// Each node, and what is behind it.
    pub(crate) fn truth(&self) -> BTreeMap<Key, BTreeSet<Key>> {
        let mut truth: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
        for state in self.states() {
            let next = self.routers[state.1].next.iter();
            let next = next.map(|&(to, link)| self.key((state.0 + 1, to, link)));
            truth.entry(self.key(state)).or_default().extend(next);
        }
        truth
    }

    pub(crate) fn destination(&self) -> IpAddr {
        Topology::addresses(self.links, 2).v4.into()
    }

    pub(crate) fn map(&self) -> Topology {
        let mut map = Topology::new();
        let mut ids: Vec<NodeId> = vec![Topology::CLIENT];
        ids.extend(self.routers.iter().skip(1).map(|_| map.add()));
        for (place, router) in self.routers.iter().enumerate() {
            for &(next, link) in &router.next {
                map.link(ids[place], ids[next], link);
            }
            let next: Vec<NodeId> = router.next.iter().map(|&(next, _)| ids[next]).collect();
            if !next.is_empty() {
                map.route_default(ids[place], &next);
            }
            let errors = &mut map.node(ids[place]).errors;
            errors.silent = router.silent;
            let is_far = place + 1 == self.routers.len();
            errors.from = (router.one_address && !is_far).then(|| self.own(place));
        }
        map
    }
}

pub(crate) fn key(node: &PathNode) -> Key {
    assert!(node.addresses.len() < 2, "nobody balances by packet: {node:?}");
    (node.hop, node.addresses.first().copied())
}

/// What was found, as [`Drawn::truth`] has it.
pub(crate) fn seen(graph: &Graph) -> BTreeMap<Key, BTreeSet<Key>> {
    let next = |place| graph.next(place).map(|next| key(&graph.nodes[next])).collect();
    graph.nodes.iter().enumerate().map(|(place, node)| (key(node), next(place))).collect()
}
