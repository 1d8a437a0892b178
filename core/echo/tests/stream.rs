//! The laws of a stream machine, and the service in a shard and on a network.

use std::convert::Infallible;

use semfio_echo::{Report, Server, Service};
use semfio_machine::{
    Action, Chunk, Closed, Deadline, Input, NetLimits, Now, Outbox, Peer, Refused, Shard, Step,
    StreamMachine,
};
use semfio_sim::laws::{Subject, straddle};
use semfio_sim::{LinkConfig, Network};

fn subject<'s, M>(new: fn() -> M) -> Subject<'s, M, Vec<u8>>
where
    M: for<'i> StreamMachine<Event<'i> = &'i [u8]> + 's,
{
    let merge = |old: &mut Vec<u8>, new: &Vec<u8>| {
        old.extend(new);
        true
    };
    Subject::new(new, |bytes: &[u8]| bytes.to_vec()).with_merge(merge)
}

fn wires() -> impl Iterator<Item = Vec<u8>> {
    let pattern = |len: usize| (0..len).map(|n| (n % 251) as u8).collect();
    straddle(100).into_iter().chain([2, 7, 2000]).map(pattern)
}

#[test]
fn the_laws_hold() {
    for wire in wires() {
        subject(Server::new).check(&wire).unwrap_or_else(|broken| panic!("{broken}"));
        subject(Server::new).idle(&[&wire]).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

/// The ways in which an echo can be wrong.
#[derive(Clone, Copy)]
enum Fault {
    /// A newline is sent back as two bytes when a read ends with it.
    LooksAtReads,
    /// What there is no room for is taken, and thrown away.
    DropsWhatDoesNotFit,
    /// The end is not an end.
    WaitsAtTheEnd,
}

struct Faulty(Server, Fault);

impl StreamMachine for Faulty {
    type Event<'i> = &'i [u8];
    type Command<'c> = Infallible;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        self.0.state()
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Infallible> {
        match self.1 {
            Fault::LooksAtReads if input.peek().ends_with(&[6]) => out.put(b"!"),
            Fault::DropsWhatDoesNotFit if input.len() > out.room() => {
                let bytes = input.take(usize::MAX);
                out.put(&bytes[..out.room().min(bytes.len())]);
                return Ok(Step::Event(bytes));
            }
            Fault::WaitsAtTheEnd if input.is_empty() => return Ok(Step::NeedInput(1)),
            _ => {}
        }
        self.0.handle_input(now, input, out)
    }

    fn handle_command(&mut self, _: Now, it: Infallible, _: &mut Outbox) -> Result<(), Refused> {
        match it {}
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

#[test]
fn the_laws_catch_faults() {
    let caught = |new| wires().any(|wire| subject::<Faulty>(new).check(&wire).is_err());
    assert!(caught(|| Faulty(Server::new(), Fault::LooksAtReads)));
    assert!(caught(|| Faulty(Server::new(), Fault::DropsWhatDoesNotFit)));
    assert!(caught(|| Faulty(Server::new(), Fault::WaitsAtTheEnd)));
}

fn peer() -> Peer {
    Peer { address: "192.0.2.1:4000".parse().unwrap(), local: "192.0.2.7:7".parse().unwrap() }
}

fn waiting(shard: &Shard<Server, Service>, id: semfio_machine::ConnId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in shard.outbox(id).into_iter().flat_map(Outbox::chunks) {
        if let Chunk::Bytes(chunk) = chunk {
            bytes.extend(chunk);
        }
    }
    bytes
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let limits = NetLimits { mark: 1000, ..NetLimits::default() };
    let (mut shard, now) = (Shard::new(Service::new(), limits), Now::default());
    let id = shard.handle_accepted(now, peer()).unwrap();
    let mut sent = 0_u64;
    while shard.wants_read(id) {
        shard.handle_received(now, id, &mut [7; 600]);
        sent += 600;
        assert!(sent < 10_000);
    }
    assert!(shard.outbox(id).unwrap().queued() <= 1000);
    assert!(shard.buffered(id) < 3000);
    // As it reads, the rest follows, and reading goes on.
    let mut echoed = 0;
    while shard.outbox(id).unwrap().queued() > 0 {
        echoed += 100.min(shard.outbox(id).unwrap().queued());
        shard.handle_sent(now, id, 100);
    }
    assert_eq!(echoed, sent);
    assert!(shard.wants_read(id));
    let actions: Vec<_> = std::iter::from_fn(|| shard.poll_action()).collect();
    assert!(actions.contains(&Action::Read(id)));
    assert_eq!(shard.buffered(id), 0);
}

#[test]
fn the_end_follows_the_last_byte() {
    let (mut shard, now) = (Shard::new(Service::new(), NetLimits::default()), Now::default());
    let id = shard.handle_accepted(now, peer()).unwrap();
    shard.handle_received(now, id, &mut b"last".to_vec());
    shard.handle_eof(now, id);
    assert_eq!(waiting(&shard, id), b"last");
    let ended = |shard: &mut Shard<_, _>| {
        std::iter::from_fn(|| shard.poll_action()).any(|action| action == Action::Shutdown(id))
    };
    assert!(!ended(&mut shard));
    shard.handle_sent(now, id, 4);
    assert!(ended(&mut shard));
    let reports: Vec<_> = std::iter::from_fn(|| shard.poll_report()).collect();
    let closed = Report::Closed { conn: id, peer: peer(), bytes: 4, why: Closed::Done };
    assert_eq!(reports, [Report::Opened(id, peer()), closed]);
}

#[test]
fn everything_comes_back_over_bad_links() {
    for seed in 0..50 {
        let mut net = Network::new(seed);
        net.set_default_link(LinkConfig::rough(seed));
        let address = ([10, 0, 0, 1], 7).into();
        let server =
            net.add([10, 0, 0, 1].into(), Shard::new(Service::new(), NetLimits::default()));
        assert!(net.listen(server, address));
        let peers: Vec<_> = (2..6).map(|n| net.connect([10, 0, 0, n].into(), address)).collect();
        let said = |n: usize| vec![n as u8; 300 * n + 1];
        for (n, &peer) in peers.iter().enumerate() {
            net.write(peer, said(n));
            net.finish(peer);
        }
        net.run_until_idle().unwrap();
        for (n, &peer) in peers.iter().enumerate() {
            assert_eq!(net.peer(peer).received(), said(n), "seed {seed}");
            assert!(net.peer(peer).eof().is_some(), "seed {seed}");
        }
        net.send_message(server, ());
        net.run_until_idle().unwrap();
        assert!(net.is_over(server));
    }
}
