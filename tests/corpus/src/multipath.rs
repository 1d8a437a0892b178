//! Multipath detection, over a network that answers as it likes.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Now, QuotedError, Received, Seed, Stamp, Transmit,
};
use semfio_probe::{
    Graph, MOST_FLOWS, MOST_NODES, Method, Multipath, MultipathConfig, MultipathEvent, ProbesConfig,
    Sockets, StopPaths,
};

use crate::Choices;

/// The graph holds what has answered, where it has, and only an end by itself makes it complete.
pub fn multipath(data: &[u8]) {
    check(data, |graph| graph);
}

/// `see` may change the graph, as a machine with a fault would.
pub(crate) fn check(data: &[u8], see: impl Fn(Graph) -> Graph) {
    let mut choices = Choices::new(data.get(..data.len().min(800)).unwrap_or_default());
    let is_v4 = choices.below(2) == 0;
    let destination = match is_v4 {
        true => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        false => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)),
    };
    let probes = ProbesConfig {
        method: [Method::Udp, Method::Icmp][choices.below(2)],
        sockets: Sockets::Datagram,
        destination: SocketAddr::new(destination, [0, 65_500][choices.below(2)]),
        source: None,
        traffic_class: 0,
    };
    let first_hop = 1 + choices.below(2) as u8;
    let config = MultipathConfig {
        misses: [50_000, 500_000, 999_999, 1][choices.below(4)],
        first_hop,
        max_hops: first_hop + choices.below(5) as u8,
        wait: Duration::from_millis(1 + choices.below(3_000) as u64),
        gap_limit: 1 + choices.below(5) as u8,
        window: [64, 1, 3][choices.below(3)],
        ..MultipathConfig::new(probes)
    };
    let Ok(machine) = Multipath::new(&Seed::from_u64(7), config) else { return };
    let mut run = Run {
        machine,
        config,
        destination,
        now: Now::default(),
        sent: 0,
        on_the_way: Vec::new(),
        answered: BTreeSet::new(),
        ended: 0,
        stopped: false,
        see,
    };
    run.drain(&mut choices);
    while !choices.is_empty() {
        run.step(&mut choices);
        run.drain(&mut choices);
    }
    run.compare();
    run.stop();
    run.drain(&mut choices);
    run.compare();
    assert_eq!((run.ended, run.machine.poll_timeout()), (1, None));
    let mut buf = Vec::new();
    assert_eq!(run.machine.poll_transmit(run.now, &mut buf), None);
}

struct Run<F> {
    machine: Multipath,
    config: MultipathConfig,
    destination: IpAddr,
    now: Now,
    sent: u32,
    on_the_way: Vec<(Transmit, Vec<u8>)>,
    /// Who has answered for which hop.
    answered: BTreeSet<(u8, IpAddr)>,
    ended: u32,
    /// Before it had ended.
    stopped: bool,
    see: F,
}

impl<F: Fn(Graph) -> Graph> Run<F> {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..=3 => {
                let millis = [1, 20, 200, 1_200][choices.below(4)];
                self.now.mono = self.now.mono.saturating_add(Duration::from_millis(millis));
                if self.machine.poll_timeout().is_some_and(|due| due.at <= self.now.mono) {
                    self.machine.handle_timeout(self.now);
                    assert!(self.machine.poll_timeout().is_none_or(|due| due.at > self.now.mono));
                }
            }
            4..=13 => {
                let at = choices.below(self.on_the_way.len());
                let Some((transmit, payload)) = self.on_the_way.get(at).cloned() else { return };
                if choices.below(8) > 0 {
                    let _ = self.on_the_way.swap_remove(at); // or it is answered again
                }
                self.answer(choices, &transmit, payload);
            }
            14 => {
                let n = choices.below(80);
                let mut wild = choices.bytes(n).to_vec();
                let carrier = self.carrier();
                let meta = self.received(SocketAddr::new(self.destination, 0), carrier, None);
                self.machine.handle_datagram(self.now, meta, &mut wild);
            }
            _ if choices.below(16) == 0 => self.stop(),
            _ => {}
        }
    }

    fn carrier(&self) -> Carrier {
        match self.config.probes.method {
            Method::Udp => Carrier::Udp,
            _ => Carrier::Icmp,
        }
    }

    /// An error about a probe, from one of a few addresses.
    fn answer(&mut self, choices: &mut Choices<'_>, transmit: &Transmit, mut payload: Vec<u8>) {
        let hop = transmit.hop_limit.unwrap_or(0);
        let number = [1, 2, 3, 77][choices.below(4)];
        let from = match self.destination {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 0, hop, number)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, hop.into(), number.into())),
        };
        let is_v4 = self.destination.is_ipv4();
        let (icmp_type, icmp_code) = match (choices.below(12), is_v4) {
            (0, true) => (3, 3),
            (0, false) => (1, 4),
            (1, true) => (3, 1),
            (1, false) => (1, 3),
            (2, _) => (4, 0),
            (_, true) => (11, 0),
            (_, false) => (3, 0),
        };
        let is_cut = choices.below(8) == 0;
        if is_cut {
            let cut = choices.below(payload.len() + 1);
            payload.truncate(cut);
        }
        let offender = (choices.below(16) > 0).then_some(from);
        let error = QuotedError { offender, icmp_type, icmp_code, info: 0, extension: None };
        let meta = self.received(transmit.destination, transmit.carrier, Some(error));
        let unknown = match is_v4 {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let who = offender.unwrap_or(unknown);
        // What is cut off may be about any probe of the flow that waits.
        let (first, last) = match is_cut {
            true => (self.config.first_hop, self.config.max_hops),
            false => (hop, hop),
        };
        self.answered.extend((first..=last).map(|hop| (hop, who)));
        self.machine.handle_datagram(self.now, meta, &mut payload);
    }

    fn received(&self, source: SocketAddr, carrier: Carrier, error: Option<QuotedError>) -> Received {
        Received {
            source,
            destination: None,
            hop_limit: Some(60),
            traffic_class: None,
            carrier,
            stamp: Stamp { at: self.now.mono, clock: Clock::Kernel },
            error,
        }
    }

    fn drain(&mut self, choices: &mut Choices<'_>) {
        let mut buf = Vec::new();
        let mut left = 0;
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut buf) {
            assert_eq!(transmit.size, buf.len());
            let hop = transmit.hop_limit.unwrap_or(0);
            assert!((self.config.first_hop..=self.config.max_hops).contains(&hop), "{transmit:?}");
            self.sent += 1;
            if choices.below(16) == 1 {
                self.machine.handle_send_error(self.now, transmit.id, Failure::Unreachable);
            } else {
                let stamp = Stamp { at: self.now.mono, clock: Clock::User };
                self.machine.handle_sent(self.now, transmit.id, stamp);
                self.on_the_way.push((transmit, core::mem::take(&mut buf)));
                left += 1;
                assert!(left <= self.config.window, "more than the window at once");
            }
            buf.clear();
        }
        // Old ones may come late, but not all of them.
        let many = self.on_the_way.len().saturating_sub(500);
        self.on_the_way.drain(..many);
        while let Some(event) = self.machine.poll_event() {
            assert_eq!(self.ended, 0, "{event:?} after the end");
            match event {
                MultipathEvent::Found { hop, address, .. } => {
                    // Wild bytes may have been an echo of the destination's.
                    let known = self.answered.contains(&(hop, address));
                    assert!(known || address == self.destination, "{address} at {hop}");
                }
                MultipathEvent::Ended => self.ended += 1,
            }
        }
    }

    fn stop(&mut self) {
        self.stopped |= self.ended == 0;
        let _ = self.machine.handle_command(self.now, StopPaths);
    }

    fn compare(&self) {
        let graph = (self.see)(self.machine.graph());
        assert_eq!(graph.probes, self.sent);
        assert!(graph.nodes.len() <= MOST_NODES && graph.flows <= MOST_FLOWS);
        assert!(!graph.is_complete || self.ended == 1 && !self.stopped);
        let hop = |place: usize| graph.nodes.get(place).map(|node| node.hop);
        assert_eq!(hop(0), self.config.first_hop.checked_sub(1));
        assert!(graph.nodes.is_sorted_by_key(|node| node.hop));
        for (place, node) in graph.nodes.iter().enumerate().skip(1) {
            assert!((self.config.first_hop..=self.config.max_hops).contains(&node.hop));
            assert!(node.flows > 0, "{node:?}");
            for &address in &node.addresses {
                let known = self.answered.contains(&(node.hop, address));
                assert!(known || address == self.destination, "{address} never answered: {node:?}");
            }
            let sum = |links: &mut dyn Iterator<Item = u32>| links.sum::<u32>();
            let out = graph.links.iter().filter(|link| link.from == place);
            let into = graph.links.iter().filter(|link| link.to == place);
            assert!(sum(&mut out.map(|link| link.flows)) <= node.flows, "{node:?}");
            assert!(sum(&mut into.map(|link| link.flows)) <= node.flows, "{node:?}");
            assert!(node.end.is_none() || graph.next(place).next().is_none(), "{node:?}");
        }
        for link in &graph.links {
            let hops = hop(link.from).zip(hop(link.to));
            assert!(hops.is_some_and(|(from, to)| from + 1 == to) && link.flows > 0, "{link:?}");
        }
        assert!(graph.links.is_sorted_by(|a, b| (a.from, a.to) < (b.from, b.to)));
        let places = graph.nodes.len();
        for diamond in graph.diamonds() {
            assert!(diamond.from < places && diamond.width > 1, "{diamond:?}");
        }
        assert!(graph.paths() > 0);
    }
}
