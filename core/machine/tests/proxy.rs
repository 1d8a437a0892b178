//! Hard case: a proxy, two roles in one service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use semfio_machine::{
    Closed, ConnId, Deadline, Input, Net, NetLimits, Now, Outbox, Peer, Refused, Service, Shard,
    Step, StreamMachine, Target,
};
use semfio_sim::{Network, PeerId, PeerState, ShardId};

/// One side of a proxied connection.
///
/// | state | what happens | then |
/// |---|---|---|
/// | Asking | a line comes | Connect is told, Waiting |
/// | Waiting | Connected | Open |
/// | Waiting | Refuse | farewell, Over |
/// | Open | bytes, end of input | Data, End are told |
/// | Open | Data, Finish | bytes, end of output |
/// | Open | both ends | Over |
enum Side {
    Asking,
    Waiting,
    Open { heard: bool, said: bool },
    Over,
}

enum Heard<'i> {
    Connect(&'i [u8]),
    Data(&'i [u8]),
    End,
}

enum Say<'c> {
    Connected,
    Refuse(&'c [u8]),
    Data(&'c [u8]),
    Finish,
}

impl Side {
    const OPEN: Self = Self::Open { heard: false, said: false };
}

impl StreamMachine for Side {
    type Event<'i> = Heard<'i>;
    type Command<'c> = Say<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        256
    }

    fn state(&self) -> &'static str {
        match self {
            Self::Asking => "Asking",
            Self::Waiting => "Waiting",
            Self::Open { .. } => "Open",
            Self::Over => "Over",
        }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<Heard<'i>>, Infallible> {
        Ok(match self {
            Self::Asking => match input.peek().iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    *self = Self::Waiting;
                    Step::Event(Heard::Connect(&input.take(end + 1)[..end]))
                }
                None if input.at_eof() => Step::Done,
                None => Step::NeedInput(1),
            },
            Self::Waiting => Step::NeedCommand,
            Self::Open { .. } if !input.is_empty() => {
                Step::Event(Heard::Data(input.take(input.len())))
            }
            Self::Open { heard, .. } if input.at_eof() && !*heard => {
                *heard = true;
                Step::Event(Heard::End)
            }
            Self::Open { heard: false, .. } => Step::NeedInput(1),
            Self::Open { said: false, .. } => Step::NeedCommand,
            Self::Open { .. } | Self::Over => Step::Done,
        })
    }

    fn handle_command(&mut self, _: Now, say: Say<'_>, out: &mut Outbox) -> Result<(), Refused> {
        match (&mut *self, say) {
            (Self::Waiting, Say::Connected) => *self = Self::OPEN,
            (Self::Waiting, Say::Refuse(text)) => {
                out.put(text);
                *self = Self::Over;
            }
            (Self::Open { said: false, .. }, Say::Data(bytes)) => out.put(bytes),
            (Self::Open { said, .. }, Say::Finish) if !*said => {
                out.finish();
                *said = true;
            }
            _ => return Err(Refused::State(self.state())),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

/// A client that names its upstream, or an upstream: machines of two types in one table.
enum Role {
    Client(Side),
    Upstream(Side),
}

impl Role {
    fn side(&self) -> &Side {
        match self {
            Self::Client(side) | Self::Upstream(side) => side,
        }
    }

    fn side_mut(&mut self) -> &mut Side {
        match self {
            Self::Client(side) | Self::Upstream(side) => side,
        }
    }
}

impl StreamMachine for Role {
    type Event<'i> = Heard<'i>;
    type Command<'c> = Say<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        self.side().max_unit()
    }

    fn state(&self) -> &'static str {
        self.side().state()
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<Heard<'i>>, Infallible> {
        self.side_mut().handle_input(now, input, out)
    }

    fn handle_command(&mut self, now: Now, say: Say<'_>, out: &mut Outbox) -> Result<(), Refused> {
        self.side_mut().handle_command(now, say, out)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.side().poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.side_mut().handle_timeout(now, out);
    }
}

/// Joins each client with the upstream it names.
#[derive(Default)]
struct Proxy {
    /// Each connection's other side.
    pairs: BTreeMap<ConnId, ConnId>,
}

impl Service<Role> for Proxy {
    type Message = ();
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Role> {
        Some(Role::Client(Side::Asking))
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<Role>) {
        if let Some(client) = self.pairs.get(&conn) {
            let _ = net.send(*client, Say::Connected);
        }
    }

    fn handle_event(&mut self, _: Now, from: ConnId, heard: Heard<'_>, net: &mut Net<Role>) {
        let other = self.pairs.get(&from).copied();
        match (heard, other) {
            (Heard::Connect(name), _) => {
                let name = std::str::from_utf8(name).ok();
                match name.and_then(|name| name.parse().ok()) {
                    Some(address) => {
                        let upstream =
                            net.dial(Target::Address(address), Role::Upstream(Side::OPEN));
                        self.pairs.insert(from, upstream);
                        self.pairs.insert(upstream, from);
                    }
                    None => {
                        let _ = net.send(from, Say::Refuse(b"no address\n"));
                    }
                }
            }
            (Heard::Data(bytes), Some(other)) => {
                let _ = net.send(other, Say::Data(bytes));
                if !net.has_room(other) {
                    net.pause(from);
                }
            }
            (Heard::End, Some(other)) => {
                let _ = net.send(other, Say::Finish);
            }
            (_, None) => net.abort(from),
        }
    }

    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Role>) {
        if let Some(other) = self.pairs.get(&conn) {
            net.resume(*other);
        }
    }

    fn handle_closed(
        &mut self,
        _: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        net: &mut Net<Role>,
    ) {
        let Some(other) = self.pairs.remove(&conn) else {
            return;
        };
        match why {
            Closed::Done => {}
            Closed::Failed(failure) => {
                let text = format!("{failure}\n");
                if net.send(other, Say::Refuse(text.as_bytes())).is_err() {
                    net.abort(other);
                }
            }
            _ => net.abort(other),
        }
    }

    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<Role>) {}
}

struct Bench {
    network: Network,
    proxy: ShardId<Role, Proxy>,
    client: PeerId,
}

const PROXY: [u8; 4] = [10, 0, 0, 1];
const UPSTREAM: ([u8; 4], u16) = ([10, 0, 0, 2], 80);

impl Bench {
    fn new() -> Self {
        let mut network = Network::new(1);
        let shard = Shard::new(Proxy::default(), NetLimits::default());
        let proxy = network.add(PROXY.into(), shard);
        assert!(network.listen(proxy, SocketAddr::from((PROXY, 1080))));
        let client = network.connect(IpAddr::from([10, 0, 0, 3]), SocketAddr::from((PROXY, 1080)));
        Self { network, proxy, client }
    }

    /// The client names the upstream; gives the upstream's end.
    fn join(&mut self) -> PeerId {
        let upstream = SocketAddr::from(UPSTREAM);
        assert!(self.network.listen_raw(upstream));
        self.network.write(self.client, "10.0.0.2:80\nhello");
        self.run();
        let accepted = self.network.accepted(upstream);
        assert_eq!(accepted.len(), 1);
        accepted[0]
    }

    fn run(&mut self) {
        self.network.run_until_idle().unwrap();
    }

    fn held(&self) -> usize {
        let shard = self.network.shard(self.proxy);
        shard.connections().map(|conn| shard.buffered(conn)).sum()
    }

    fn is_clean(&self) -> bool {
        let shard = self.network.shard(self.proxy);
        shard.connections().count() == 0 && shard.service().pairs.is_empty()
    }
}

#[test]
fn bytes_and_half_closes_pass_both_ways() {
    let mut bench = Bench::new();
    let upstream = bench.join();
    assert_eq!(bench.network.take_received(upstream), b"hello");
    bench.network.finish(bench.client);
    bench.run();
    assert!(bench.network.peer(upstream).eof().is_some());
    assert!(bench.network.peer(bench.client).eof().is_none());
    bench.network.write(upstream, "answer after the end");
    bench.run();
    assert_eq!(bench.network.take_received(bench.client), b"answer after the end");
    bench.network.finish(upstream);
    bench.run();
    assert!(bench.network.peer(bench.client).eof().is_some());
    bench.network.run_for(std::time::Duration::from_secs(3)).unwrap();
    assert!(bench.is_clean());
}

/// Whoever does not read makes the other side wait, and costs the proxy a bounded amount.
#[test]
fn a_slow_reader_slows_its_writer_in_both_directions() {
    let big: Vec<u8> = (0..3_000_000u32).map(|at| (at / 5) as u8).collect();
    for backwards in [false, true] {
        let mut bench = Bench::new();
        let upstream = bench.join();
        bench.network.take_received(upstream);
        let (reader, writer) =
            if backwards { (bench.client, upstream) } else { (upstream, bench.client) };
        bench.network.set_reading(reader, false);
        for piece in big.chunks(10_000) {
            bench.network.write(writer, piece);
        }
        bench.network.finish(writer);
        bench.run();
        assert!(bench.network.peer(writer).queued() > 1_000_000, "the writer waits");
        assert!(bench.held() < 3 * Outbox::MARK, "{}", bench.held());
        bench.network.set_reading(reader, true);
        bench.run();
        assert!(bench.network.take_received(reader) == big);
        assert!(bench.network.peer(reader).eof().is_some());
        assert_eq!(bench.held(), 0);
    }
}

#[test]
fn a_refused_dial_is_answered() {
    let mut bench = Bench::new();
    bench.network.write(bench.client, "10.0.0.2:80\nhello");
    bench.run();
    assert_eq!(bench.network.take_received(bench.client), b"connection refused\n");
    assert!(bench.network.peer(bench.client).eof().is_some());
    bench.network.close(bench.client);
    bench.network.run_for(std::time::Duration::from_secs(3)).unwrap();
    assert!(bench.is_clean());

    let mut bench = Bench::new();
    bench.network.write(bench.client, "nowhere\n");
    bench.run();
    assert_eq!(bench.network.take_received(bench.client), b"no address\n");
}

#[test]
fn a_reset_passes_through() {
    for backwards in [false, true] {
        let mut bench = Bench::new();
        let upstream = bench.join();
        let (gone, left) =
            if backwards { (upstream, bench.client) } else { (bench.client, upstream) };
        bench.network.reset(gone);
        bench.run();
        let state = bench.network.peer(left).state();
        assert!(matches!(state, PeerState::Failed(_)), "{state:?}");
        assert!(bench.is_clean());
    }
}
