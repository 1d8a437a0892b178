//! Runs over bad links are recorded and replayed.

use std::sync::{Arc, Mutex};

use semfio_echo::Service;
use semfio_machine::Shard;
use semfio_sim::{LinkConfig, Network};
use semfio_trace::{End, Header, Reader, Recorder, replay};

/// A server and four peers of it, one of which goes away.
fn run(seed: u64) -> Vec<u8> {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut net = Network::new(seed);
    net.set_default_link(LinkConfig::rough(seed));
    let mut header = Header::new("echo");
    header.limits.mark = 512;
    header.start = net.now();
    let mut shard = Shard::new(Service::new(), header.limits);
    let to = trace.clone();
    let sink = move |line: &[u8]| to.lock().unwrap().extend_from_slice(line);
    shard.set_tap(Box::new(Recorder::new(&header, sink)));
    let server = net.add([10, 0, 0, 1].into(), shard);
    let address = ([10, 0, 0, 1], 7).into();
    assert!(net.listen(server, address));
    for n in 2..6_u8 {
        let peer = net.connect([10, 0, 0, n].into(), address);
        net.write(peer, vec![n * 40; usize::from(n) * 300]);
        match n {
            5 => net.reset(peer),
            _ => net.finish(peer),
        }
    }
    net.run_until_idle().unwrap();
    net.send_message(server, ());
    net.run_until_idle().unwrap();
    assert!(net.is_over(server));
    drop(net);
    trace.lock().unwrap().clone()
}

#[test]
fn every_run_replays() {
    for seed in 0..30 {
        let trace = run(seed);
        let reader = Reader::new(&trace).unwrap();
        let shard = Shard::new(Service::new(), reader.header().limits);
        let agreement = replay(reader, shard).unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert_eq!(agreement.end, End::Whole);
        assert!(agreement.events > 30);
    }
}

#[test]
fn a_run_is_a_value() {
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn other_limits_are_noticed() {
    let noticed = |seed| {
        let trace = run(seed);
        let reader = Reader::new(&trace).unwrap();
        let mut limits = reader.header().limits;
        limits.mark = 4096;
        replay(reader, Shard::new(Service::new(), limits)).is_err()
    };
    assert!((0..30).any(noticed));
}
