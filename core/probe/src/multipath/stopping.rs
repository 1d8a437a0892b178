//! When enough flows have been sent past a node.
//!
//! # The rule
//!
//! Flows that pass a node go on by one of its `K` next nodes, each with the same chance. After `n`
//! flows have shown `k` of them, the node is done with as soon as `n` has come to the *stopping
//! point* `n_k`. It fails if it is done with while `k < K`. (Augustin, Friedman, Teixeira: Multipath
//! tracing with Paris traceroute, 2007.)
//!
//! How often that is, for a given `K`, is a Markov chain in `k`: a flow shows a new node with a chance of
//! `(K - k) / K`, and what stands at `k` when `n_k` flows were sent stays there. Points are chosen one
//! after the other: `n_k` is the smallest number by which all that stays below `K = k + 1`
//! nodes, at this point and at those before, is at most the bound. So a node fails with at most that chance
//! however many next nodes it has. (What comes of
//! all points of a node together: Veitch, Augustin, Teixeira, Friedman: Failure control in multipath route
//! tracing, 2009.)
//! With a bound of 0.05 they are 6, 11, 16, 21, 27, 33, as in the first paper.
//!
//! # The whole graph
//!
//! One bound for each node is none for the graph. The chance that any node fails is at most the sum of
//! the nodes' bounds, and how many there are is not known beforehand. So the `j`-th node that is
//! found gets the share `1 / (j (j + 1))` of the bound that was asked for: all shares together are 1
//! however many come, and those of `N` nodes `N / (N + 1)`. Which node is the `j`-th is chance too, but it is
//! known before the first flow past it counts: given all that was seen until then, its bound holds.
//!
//! Shares are rounded down to powers of two, so that few tables are needed.

use alloc::vec::Vec;

/// Next nodes of one node that a table goes up to; 96 have been seen.
pub(super) const WIDEST: usize = 128;

/// The stopping points of a bound.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    bound: f64,
    /// Of 1 next node, of 2, and so on, as far as they were asked for.
    points: Vec<u32>,
}

impl Stopping {
    /// A bound of 2^-`level`.
    pub(super) fn new(level: u32) -> Self {
        let mut bound = 1.0;
        for _ in 0..level {
            bound /= 2.0;
        }
        Self { bound, points: Vec::new() }
    }

    #[cfg(test)]
    fn of(bound: f64) -> Self {
        Self { bound, points: Vec::new() }
    }

    /// How many flows are enough if they have shown so many next nodes; none has as many as one. No
    /// number is enough for more than [`WIDEST`].
    pub(super) fn point(&mut self, found: usize) -> u32 {
        let found = found.max(1);
        if found > WIDEST {
            return u32::MAX;
        }
        while self.points.len() < found {
            let next = self.next();
            self.points.push(next);
        }
        found.checked_sub(1).and_then(|place| self.points.get(place)).copied().unwrap_or(u32::MAX)
    }

    /// The point of one more.
    fn next(&self) -> u32 {
        let found = self.points.len().saturating_add(1);
        let mut chain = Chain::new(found.saturating_add(1));
        for _ in 0..MOST_FLOWS {
            chain.send(&self.points);
            if chain.sent > self.points.last().copied().unwrap_or(0)
                && chain.failed + chain.at(found) <= self.bound
            {
                return chain.sent;
            }
        }
        u32::MAX
    }

    /// The share of a bound, so many in a million, that the `j`-th node has: 2^-level.
    pub(super) fn level(misses: u32, j: u32) -> u32 {
        let shares = u64::from(j.max(1)).saturating_mul(u64::from(j).saturating_add(1));
        let times = 1_000_000_u64.saturating_mul(shares).div_ceil(u64::from(misses.max(1)));
        times.next_power_of_two().trailing_zeros()
    }
}

/// No table needs more: 128 nodes and a bound of 2^-64 need 6,300.
const MOST_FLOWS: u32 = 10_000;

/// How many of a node's next nodes have been shown, with which chance.
struct Chain {
    /// The chance that so many were shown, from none on, and that the rule went on.
    chances: Vec<f64>,
    /// That it stopped too early.
    failed: f64,
    sent: u32,
}

impl Chain {
    /// Nothing was sent yet, to so many next nodes.
    fn new(nodes: usize) -> Self {
        let mut chances = Vec::new();
        chances.resize(nodes.saturating_add(1), 0.0);
        if let Some(none) = chances.first_mut() {
            *none = 1.0;
        }
        Self { chances, failed: 0.0, sent: 0 }
    }

    fn at(&self, shown: usize) -> f64 {
        self.chances.get(shown).copied().unwrap_or(0.0)
    }

    /// One more flow, and the rule with these points after it.
    fn send(&mut self, points: &[u32]) {
        let nodes = self.chances.len().saturating_sub(1);
        let all = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
        let mut before = 0.0;
        let mut shown = 0.0;
        for chance in &mut self.chances {
            let here = *chance;
            // From one fewer by a new one, or from as many by a known one.
            *chance = here * shown / all + before * (all - shown + 1.0) / all;
            before = here;
            shown += 1.0;
        }
        self.sent = self.sent.saturating_add(1);
        for (place, _) in points.iter().enumerate().filter(|&(_, &point)| point == self.sent) {
            let stops = place.saturating_add(1);
            if stops < nodes {
                if let Some(chance) = self.chances.get_mut(stops) {
                    self.failed += *chance;
                    *chance = 0.0;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
mod tests {
    use super::*;

    /// How often the rule fails a node with so many next nodes.
    fn fails(points: &[u32], nodes: usize) -> f64 {
        let mut chain = Chain::new(nodes);
        for _ in 0..points.get(nodes - 2).copied().unwrap() {
            chain.send(points);
        }
        chain.failed
    }

    #[test]
    fn the_points_are_those_of_the_papers() {
        let mut stopping = Stopping::of(0.05);
        let points: Vec<_> = (1..=6).map(|found| stopping.point(found)).collect();
        assert_eq!(points, [6, 11, 16, 21, 27, 33]);
        assert_eq!(stopping.point(0), 6);
        assert_eq!(stopping.point(WIDEST + 1), u32::MAX);
    }

    #[test]
    fn no_node_fails_more_often_than_its_bound() {
        for bound in [0.5, 0.05, 1e-3, 1e-6, 1e-12] {
            let mut stopping = Stopping::of(bound);
            stopping.point(40);
            for nodes in 2..=40 {
                let chance = fails(&stopping.points, nodes);
                assert!(chance <= bound, "{nodes} nodes: {chance} of {bound}");
                assert!(chance > bound / 3.0, "{nodes} nodes: {chance} of {bound} is wasted");
                // One flow less at the last point is too few: nothing is given away.
                let mut less = stopping.points.clone();
                less[nodes - 2] -= 1;
                if nodes == 2 || less[nodes - 2] > less[nodes - 3] {
                    assert!(fails(&less, nodes) > bound, "{nodes} nodes, one flow less");
                }
            }
        }
    }

    #[test]
    fn shares_are_no_more_than_the_whole() {
        for misses in [500_000, 50_000, 10, 1] {
            let sum: f64 =
                (1..=2_000).map(|j| Stopping::new(Stopping::level(misses, j)).bound).sum();
            let whole = f64::from(misses) / 1e6;
            assert!(sum <= whole && sum > whole / 3.0, "{sum} of {whole}");
        }
    }

    #[test]
    fn the_widest_node_has_a_point() {
        let mut stopping = Stopping::new(40);
        let point = stopping.point(WIDEST);
        assert!((3_000..MOST_FLOWS).contains(&point), "{point}");
    }
}
