//! The map of `tests/lab/netns-lab`.

use core::time::Duration;

use super::{Action, Addresses, NodeId, Port, Refusal, Rule, Topology};

/// The lab's hosts and routers, where they can be found in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Router 1 to 10 of the chain, 11 for the server.
    Hop(u8),
    /// The silent router behind the second.
    Mute,
    /// The host behind that.
    Hidden,
    /// One of the equal paths behind the third router, from 1.
    Way(u8),
    /// Where they meet.
    Join,
    /// The host behind that.
    Far,
    /// The router behind the fourth whose links are narrow.
    Thin,
    /// The host behind that.
    Small,
    /// The host behind the slow link of the fifth.
    Wired,
}

/// Hosts and routers of the chain.
const CHAIN: u16 = 11;
/// Equal paths at most: their links have numbers of their own.
const WAYS: u16 = 8;

impl Topology {
    /// The lab with so many equal paths, 1 to 8, as its script draws it: addresses, hops, dead
    /// ends, ports, MTUs. Links take no time but that of the wire, which takes 20 ms.
    pub fn lab(ways: u16) -> Self {
        let ways = ways.clamp(1, WAYS);
        let mut map = Self::new();
        for _ in 0..CHAIN {
            map.add();
        }
        let hop = NodeId;
        for number in 1..=CHAIN {
            let far = usize::from(number);
            map.link(hop(far.saturating_sub(1)), hop(far), number);
        }
        let others: [NodeId; 7] = core::array::from_fn(|_| map.add());
        let [mute, hidden, join, far, thin, small, wired] = others;
        map.link(hop(2), mute, 21);
        map.link(mute, hidden, 22);
        map.link(join, far, 50);
        map.link(hop(4), thin, 61).mtu = 1_400;
        map.link(thin, small, 62).mtu = 1_280;
        map.link(hop(5), wired, 71).latency = Duration::from_millis(20);
        let mut equal = alloc::vec::Vec::new();
        for way in 1..=ways {
            let node = map.add();
            map.link(hop(3), node, way.saturating_add(30));
            map.link(node, join, way.saturating_add(40));
            map.route(node, 50, &[join]);
            equal.push(node);
        }
        // Forward along the chain, whatever is not at hand; branches by their own routes.
        for place in 0..usize::from(CHAIN) {
            map.route_default(hop(place), &[hop(place.saturating_add(1))]);
        }
        map.route(hop(2), 22, &[mute]);
        map.route(hop(3), 50, &equal);
        map.route(hop(4), 62, &[thin]);
        map.node(mute).errors.silent = true;
        // Its way back goes by the first of them.
        map.node(join).errors.from = Some(Self::addresses(41, 2));
        for (network, action) in [
            (250, Action::Refuse(Refusal { v6: (1, 0), ..Refusal::HOST })),
            (251, Action::Refuse(Refusal::PROHIBITED)),
            (252, Action::Drop),
            (254, Action::Refuse(Refusal::NETWORK)),
        ] {
            map.node(hop(4)).routes.insert(Some(network), action);
        }
        map.route(hop(6), 253, &[hop(5)]);
        for host in [hop(usize::from(CHAIN)), small, far, wired] {
            let ports = &mut map.node(host).ports;
            ports.extend([(7007, Port::Open), (7008, Port::Mute)]);
        }
        let refusals = [(7010, None), (7011, Some(Refusal::PROHIBITED))];
        map.node(hop(10)).rules =
            refusals.map(|(port, refusal)| Rule { network: CHAIN, port, refusal }).to_vec();
        map
    }

    /// A node of [`lab`](Self::lab).
    pub fn place(place: Place) -> NodeId {
        NodeId(match place {
            Place::Hop(number) => usize::from(number),
            Place::Mute => 12,
            Place::Hidden => 13,
            Place::Join => 14,
            Place::Far => 15,
            Place::Thin => 16,
            Place::Small => 17,
            Place::Wired => 18,
            Place::Way(number) => usize::from(number).saturating_add(18),
        })
    }
}

impl Place {
    /// Its address on the side of the client.
    pub fn addresses(self) -> Addresses {
        let number = match self {
            Self::Hop(number) => u16::from(number),
            Self::Mute => 21,
            Self::Hidden => 22,
            Self::Way(number) => u16::from(number).saturating_add(30),
            Self::Join => 41,
            Self::Far => 50,
            Self::Thin => 61,
            Self::Small => 62,
            Self::Wired => 71,
        };
        Topology::addresses(number, 2)
    }
}
