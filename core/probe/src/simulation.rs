//! An internet in virtual time, to run machines of single packets over (feature `simulation`).
//!
//! | what | where |
//! |---|---|
//! | a map: nodes, links, routes, and how each of them misbehaves | [`Topology`], [`Node`], [`Link`] |
//! | the map of `tests/lab/netns-lab`, node by node | [`Topology::lab`], [`Place`] |
//! | the map with a seed and a memory: a transmit goes in, arrivals come out | [`Internet`] |
//! | any [`DatagramMachine`](semfio_machine::DatagramMachine) over it, until it is done | [`run`] |
//!
//! A packet is forwarded node by node: route, TTL, MTU, link. Whatever answers sends its answer back
//! the way the packet came, less the loops in it. What arrives is what a socket hands over: an
//! error from the error queue with the quoted payload and all that follows it, or the message
//! itself where raw sockets are open.
//!
//! # Ping over three hops
//!
//! ```
//! use semfio_machine::{Now, Seed};
//! use semfio_probe::simulation::{Internet, Topology, run};
//! use semfio_probe::{PingConfig, PingEvent, Pinger};
//!
//! let mut map = Topology::new();
//! let (router, host) = (map.add(), map.add());
//! map.link(Topology::CLIENT, router, 1);
//! map.link(router, host, 2);
//! map.route(Topology::CLIENT, 2, &[router]);
//!
//! let config = PingConfig { count: Some(1), ..PingConfig::default() };
//! let to = "10.77.2.2:0".parse()?;
//! let machine = Pinger::new(Now::default(), &[to], &Seed::from_u64(1), config)?;
//! let ran = run(&mut Internet::new(map, 1), machine, |event| event);
//! match ran.events.first() {
//!     Some((_, PingEvent::Reply(reply))) => assert_eq!(reply.hop_limit, Some(63)),
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Left out
//!
//! Ways back of their own; fragments (what may be fragmented passes whole); options of IPv4 and
//! extension headers of IPv6; TCP beyond the answer to a SYN.

mod forward;
mod lab;
mod packet;
mod run;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::extension::Label;

pub use forward::{Arrival, Internet};
pub use lab::Place;
pub use run::{Ran, run};

/// A map, as a value. Link N is the network 10.77.N.0/24 and fd77:0:0:N::/64 (in hexadecimal); its
/// first end is .1 and ::1 there, its second .2 and ::2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Shared, so that a packet can have its node while the map may be changed.
    nodes: Vec<Arc<Node>>,
    links: Vec<Arc<Link>>,
    /// The links of each node.
    ends: Vec<Vec<usize>>,
    /// The host whose sockets they are.
    pub client: Client,
}

/// A node, by its place in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(usize);

/// The host that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The port of its UDP socket. Default 40000.
    pub port: u16,
    /// The identifier that its datagram socket for ICMP has. Default 0x5e3f.
    pub ident: u16,
    /// The TOS or traffic-class octet of what it sends.
    pub traffic_class: u8,
    /// What becomes of a datagram that is larger than its path.
    pub size: Size,
    /// Raw sockets are open too: every ICMP message comes a second time, as it is.
    pub raw: bool,
}

/// What becomes of a datagram that is larger than its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Routers of IPv4 may cut it up.
    Any,
    /// It is not cut up; what is known to be too large is not sent.
    Known,
    /// It is not cut up, and sent whatever is known.
    Probed,
}

/// A host or router, and what is wrong with it. By default nothing is: it answers echoes, all ports
/// are closed, errors quote the whole datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where packets for a network go; `None` for all others. A network at hand needs no route, and
    /// one without any is refused as a router without a way does it.
    pub routes: BTreeMap<Option<u16>, Action>,
    /// What comes before routes, as in a firewall.
    pub rules: Vec<Rule>,
    /// How one of several equal ways is chosen.
    pub balance: Balance,
    /// Whether it takes one from the TTL of what it forwards; else it cannot be seen.
    pub decrements: bool,
    /// What it changes in what it forwards.
    pub rewrite: Rewrite,
    /// How it reports errors.
    pub errors: Errors,
    /// Echoes for each request. 0 for a host that does not answer.
    pub echoes: u32,
    /// The addresses that its echoes and datagrams come from, if not those that were asked.
    pub answers_from: Option<Addresses>,
    /// The TTL of what it sends itself. Default 64.
    pub hop_limit: u8,
    /// Ports that are not closed, of UDP and TCP alike.
    pub ports: BTreeMap<u16, Port>,
}

/// An address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Of IPv4.
    pub v4: Ipv4Addr,
    /// Of IPv6.
    pub v6: Ipv6Addr,
}

/// What a node does with a packet for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends it to one of these, which are equally good.
    Forward(Vec<NodeId>),
    /// Says that it does not arrive.
    Refuse(Refusal),
    /// Drops it without a word.
    Drop,
}

/// Types and codes of an error, for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of ICMP.
    pub v4: (u8, u8),
    /// Of ICMPv6.
    pub v6: (u8, u8),
}

/// What a firewall does with UDP and TCP for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The network of the destination.
    pub network: u16,
    /// Its port.
    pub port: u16,
    /// `None`: dropped without a word.
    pub refusal: Option<Refusal>,
}

/// How one of several equal ways is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// By a hash of addresses, protocol, the first four octets behind them (ports; type, code and
    /// checksum of ICMP) and the flow label of IPv6.
    Flow,
    /// By chance, for each packet.
    Packet,
    /// By a hash of the destination.
    Destination,
}

/// What a node changes in what it forwards. Checksums are made to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The TOS or traffic-class octet.
    pub traffic_class: Option<u8>,
    /// The source's addresses, as by NAT.
    pub source: Option<Addresses>,
    /// The source port of UDP and TCP.
    pub source_port: Option<u16>,
    /// The destination port of UDP and TCP.
    pub destination_port: Option<u16>,
    /// On the way back it restores what errors quote, as a good NAT does.
    pub restores: bool,
}

/// How a node reports errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// It says nothing.
    pub silent: bool,
    /// So many at once and then one in each interval, whoever is told.
    pub limit: Option<(u32, Duration)>,
    /// The addresses they come from, if not those nearest to the client.
    pub from: Option<Addresses>,
    /// How many octets of the datagram are quoted, its IP header included. Default: 1,232.
    pub quotes: usize,
    /// The labels it tells beside (RFC 4950). Empty: there is no extension.
    pub labels: Vec<Label>,
    /// How what it tells contradicts itself.
    pub lie: Option<Lie>,
}

/// How an extension contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The quote is said to be longer than the message.
    Quote,
    /// The checksum is wrong.
    Checksum,
    /// Another version.
    Version,
    /// The last object is said to be longer than what is there.
    Object,
}

/// What is behind a port of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// TCP accepts, UDP sends back what it gets.
    Open,
    /// TCP accepts, UDP never answers.
    Mute,
    /// TCP resets, UDP is refused.
    Closed,
    /// Nothing comes back.
    Filtered,
    /// Refused by a firewall.
    Prohibited,
}

/// A link. By default it is perfect: 1,500 octets, no delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    ends: [NodeId; 2],
    number: u16,
    /// The largest datagram, its IP header included.
    pub mtu: usize,
    /// From one end to the other.
    pub latency: Duration,
    /// Up to so much more, drawn for each packet: the later may overtake.
    pub jitter: Duration,
    /// Packets in a million that are lost, in each direction.
    pub loss: u32,
    /// Packets in a million that come twice, of those that come back.
    pub duplication: u32,
}

impl Topology {
    /// The node whose sockets they are.
    pub const CLIENT: NodeId = NodeId(0);

    /// A client alone.
    pub fn new() -> Self {
        Self {
            nodes: Vec::from([Arc::default()]),
            links: Vec::new(),
            ends: Vec::from([Vec::new()]),
            client: Client::default(),
        }
    }

    /// Another node.
    pub fn add(&mut self) -> NodeId {
        self.nodes.push(Arc::default());
        self.ends.push(Vec::new());
        NodeId(self.nodes.len().saturating_sub(1))
    }

    /// A node, to change it. Of another map, it is the client.
    pub fn node(&mut self, id: NodeId) -> &mut Node {
        let place = if id.0 < self.nodes.len() { id.0 } else { 0 };
        #[allow(clippy::indexing_slicing)] // there is a client, and `place` was looked at
        Arc::make_mut(&mut self.nodes[place])
    }

    /// Connects two nodes by link `number`; `near` has the addresses that end in 1.
    pub fn link(&mut self, near: NodeId, far: NodeId, number: u16) -> &mut Link {
        let place = self.links.len();
        for node in [near, far] {
            if let Some(links) = self.ends.get_mut(node.0) {
                links.push(place);
            }
        }
        self.links.push(Arc::new(Link {
            ends: [near, far],
            number,
            mtu: 1_500,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0,
            duplication: 0,
        }));
        #[allow(clippy::indexing_slicing)] // it was pushed above
        Arc::make_mut(&mut self.links[place])
    }

    /// All links of this map, to change them.
    pub fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut().map(Arc::make_mut)
    }

    /// What a node has for link `network` goes to one of these.
    pub fn route(&mut self, at: NodeId, network: u16, to: &[NodeId]) {
        self.node(at).routes.insert(Some(network), Action::Forward(to.to_vec()));
    }

    /// What a node has for all others goes to one of these.
    pub fn route_default(&mut self, at: NodeId, to: &[NodeId]) {
        self.node(at).routes.insert(None, Action::Forward(to.to_vec()));
    }

    /// The addresses of the first or second end of link `number`.
    pub fn addresses(number: u16, end: u8) -> Addresses {
        let [high, low] = number.to_be_bytes();
        Addresses {
            v4: Ipv4Addr::new(10, 77_u8.wrapping_add(high), low, end),
            v6: Ipv6Addr::new(0xfd77, 0, 0, number, 0, 0, 0, u16::from(end)),
        }
    }

    /// The link that an address is of, whether there is one or not.
    fn network(address: IpAddr) -> Option<u16> {
        match address {
            IpAddr::V4(v4) => {
                let [ten, high, low, _] = v4.octets();
                (ten == 10).then(|| u16::from_be_bytes([high.wrapping_sub(77), low]))
            }
            IpAddr::V6(v6) => {
                let [first, _, _, number, ..] = v6.segments();
                (first == 0xfd77).then_some(number)
            }
        }
    }

    fn links(&self, of: NodeId) -> impl Iterator<Item = &Arc<Link>> {
        let places = self.ends.get(of.0).map(|links| &links[..]).unwrap_or_default();
        places.iter().filter_map(|&place| self.links.get(place))
    }

    /// The link between two nodes.
    fn between(&self, a: NodeId, b: NodeId) -> Option<&Arc<Link>> {
        self.links(a).find(|link| link.other(a) == Some(b))
    }

    /// Whether a node has this address.
    fn has(&self, node: NodeId, address: IpAddr) -> bool {
        let mut ends = self.links(node).filter_map(|link| link.end_of(node));
        ends.any(|end| end.holds(address))
    }

    /// Where a node sends what is for this address.
    fn action(&self, at: NodeId, address: IpAddr) -> Option<Action> {
        let neighbour = |link: &Arc<Link>| {
            let other = link.other(at)?;
            link.end_of(other)?.holds(address).then_some(other)
        };
        if let Some(other) = self.links(at).find_map(neighbour) {
            return Some(Action::Forward(Vec::from([other])));
        }
        let routes = &self.nodes.get(at.0)?.routes;
        let network = Self::network(address).and_then(|network| routes.get(&Some(network)));
        network.or_else(|| routes.get(&None)).cloned()
    }
}

impl Addresses {
    /// The one of the family of another.
    pub fn like(self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }

    fn holds(self, address: IpAddr) -> bool {
        self.like(address) == address
    }
}

impl Refusal {
    /// There is no way.
    pub const NETWORK: Self = Self { v4: (3, 0), v6: (1, 0) };
    /// The host does not answer.
    pub const HOST: Self = Self { v4: (3, 1), v6: (1, 3) };
    /// Nobody listens.
    pub const PORT: Self = Self { v4: (3, 3), v6: (1, 4) };
    /// A firewall forbids it.
    pub const PROHIBITED: Self = Self { v4: (3, 13), v6: (1, 1) };
    /// The TTL is used up.
    pub const TIME_EXCEEDED: Self = Self { v4: (11, 0), v6: (3, 0) };
    /// It is larger than the next link takes.
    pub const TOO_BIG: Self = Self { v4: (3, 4), v6: (2, 0) };
}

impl Link {
    fn end_of(&self, node: NodeId) -> Option<Addresses> {
        let [near, far] = self.ends;
        if node == near {
            Some(Topology::addresses(self.number, 1))
        } else if node == far {
            Some(Topology::addresses(self.number, 2))
        } else {
            None
        }
    }

    fn other(&self, node: NodeId) -> Option<NodeId> {
        let [near, far] = self.ends;
        if node == near {
            Some(far)
        } else if node == far {
            Some(near)
        } else {
            None
        }
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Client {
    fn default() -> Self {
        Self { port: 40_000, ident: 0x5e3f, traffic_class: 0, size: Size::Any, raw: false }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            routes: BTreeMap::new(),
            rules: Vec::new(),
            balance: Balance::Flow,
            decrements: true,
            rewrite: Rewrite::default(),
            errors: Errors::default(),
            echoes: 1,
            answers_from: None,
            hop_limit: 64,
            ports: BTreeMap::new(),
        }
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            silent: false,
            limit: None,
            from: None,
            quotes: 1_232,
            labels: Vec::new(),
            lie: None,
        }
    }
}
