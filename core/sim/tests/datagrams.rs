//! Datagrams over links with faults.

use core::time::Duration;
use semfio_machine::*;
use semfio_sim::*;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Sends numbers and sends back what comes, and keeps all stamps.
#[derive(Default)]
struct Pinger {
    echoes: bool,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    transmits: u64,
    segment: Option<usize>,
    sent: Vec<(TransmitId, Stamp)>,
    failed: Vec<(TransmitId, Failure)>,
    received: Vec<Received>,
    endless: bool,
}

impl DatagramMachine for Pinger {
    type Event<'i> = &'i [u8];
    type Command<'c> = (SocketAddr, &'c [u8]);

    fn accepts(&self, _: &Received, payload: &[u8]) -> bool {
        payload != b"foreign"
    }
    fn handle_datagram<'i>(
        &mut self,
        _: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<&'i [u8]> {
        self.received.push(meta);
        if self.echoes && meta.error.is_none() {
            self.queue.push_back((meta.source, payload.to_vec()));
        }
        Some(payload)
    }
    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        self.sent.push((id, stamp));
    }
    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        self.failed.push((id, failure));
    }
    fn handle_command(&mut self, _: Now, (to, what): (SocketAddr, &[u8])) -> Result<(), Refused> {
        self.queue.push_back((to, what.to_vec()));
        Ok(())
    }
    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if self.endless {
            self.queue.push_back((([10, 0, 0, 9], 9).into(), vec![0]));
        }
        let (destination, payload) = self.queue.pop_front()?;
        buf.extend_from_slice(&payload);
        self.transmits += 1;
        Some(Transmit {
            id: TransmitId(self.transmits),
            destination,
            size: payload.len(),
            segment_size: self.segment,
            hop_limit: Some(9),
            source: None,
            carrier: Carrier::Udp,
        })
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
    fn handle_timeout(&mut self, _: Now) {}
    fn poll_event(&mut self) -> Option<&'static [u8]> {
        None
    }
}

type Id = DatagramId<Pinger, Vec<u8>>;

fn address(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 4_000).into()
}

fn pair(seed: u64, link: LinkConfig) -> (Network, Id, Id) {
    let mut net = Network::new(seed);
    net.set_link(address(1).ip(), address(2).ip(), link);
    let a = net.add_datagram(address(1), Pinger::default(), |bytes| bytes.to_vec());
    let echo = Pinger { echoes: true, ..Pinger::default() };
    let b = net.add_datagram(address(2), echo, |bytes| bytes.to_vec());
    (net, a, b)
}

/// The numbers that came, in order, of `n` sent a millisecond apart.
fn numbers(seed: u64, link: LinkConfig, n: u32) -> Vec<u32> {
    let (mut net, a, b) = pair(seed, link);
    for i in 0..n {
        net.command(a, (address(2), &i.to_be_bytes())).unwrap();
        net.run_for(Duration::from_millis(1)).unwrap();
    }
    net.run_until_idle().unwrap();
    let number = |(_, bytes): &(Now, Vec<u8>)| u32::from_be_bytes(bytes[..].try_into().unwrap());
    net.events(b).iter().map(number).collect()
}

#[test]
fn a_perfect_link_delivers_in_order_once() {
    assert_eq!(numbers(1, LinkConfig::default(), 1_000), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn losses_are_as_configured() {
    let link = LinkConfig { loss: Chance::percent(20), ..LinkConfig::default() };
    let came = numbers(1, link.clone(), 10_000);
    // Five standard deviations of 40.
    assert!((7_800..8_200).contains(&came.len()), "{}", came.len());
    assert!(came.is_sorted());
    assert_ne!(came, numbers(2, link, 10_000));
}

#[test]
fn copies_are_as_configured() {
    let link = LinkConfig { duplication: Chance::percent(20), ..LinkConfig::default() };
    let mut came = numbers(1, link, 10_000);
    assert!((11_800..12_200).contains(&came.len()), "{}", came.len());
    came.dedup();
    assert_eq!(came, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn overtaking_is_as_configured() {
    let link = LinkConfig { reordering: Chance::percent(10), ..LinkConfig::default() };
    let mut came = numbers(1, link, 1_000);
    let swaps = came.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((50..150).contains(&swaps), "{swaps}");
    came.sort_unstable();
    assert_eq!(came, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_narrow_link_drops_what_does_not_fit_its_queue() {
    let (mut net, a, b) = pair(
        1,
        LinkConfig {
            bandwidth: core::num::NonZeroU64::new(1_000),
            window: 5_000,
            ..LinkConfig::default()
        },
    );
    for _ in 0..20 {
        net.command(a, (address(2), &[0; 1_000])).unwrap();
    }
    net.run_until_idle().unwrap();
    let came: Vec<_> = net.events(b).iter().map(|(now, _)| now.mono.as_nanos()).collect();
    assert_eq!(came, (1..=6).map(|second| second * 1_000_000_000).collect::<Vec<_>>());
}

#[test]
fn both_stamps_are_given_and_measure_the_link() {
    let latency = Duration::from_millis(30);
    let (mut net, a, b) = pair(1, LinkConfig { latency, ..LinkConfig::default() });
    net.run_for(Duration::from_secs(1)).unwrap();
    net.command(a, (address(2), b"ping")).unwrap();
    net.run_until_idle().unwrap();
    let sent = &net.machine(a).sent;
    let clocks: Vec<_> = sent.iter().map(|&(id, stamp)| (id.0, stamp.clock)).collect();
    assert_eq!(clocks, [(1, Clock::User), (1, Clock::Kernel)]);
    let received = net.machine(b).received[0];
    assert_eq!(received.stamp.clock, Clock::Kernel);
    assert_eq!(received.stamp.at.saturating_since(sent[1].1.at), latency);
    assert_eq!((received.source, received.hop_limit), (address(1), Some(9)));
    assert_eq!(net.machine(a).received[0].source, address(2));
}

#[test]
fn segments_arrive_as_datagrams() {
    let (mut net, _, b) = pair(1, LinkConfig::default());
    let segmenter = Pinger { segment: Some(4), ..Pinger::default() };
    let c = net.add_datagram(address(3), segmenter, |bytes| bytes.to_vec());
    net.command(c, (address(2), b"aaaabbbbcc")).unwrap();
    net.run_until_idle().unwrap();
    let came: Vec<_> = net.events(b).iter().map(|(_, bytes)| &bytes[..]).collect();
    assert_eq!(came, [&b"aaaa"[..], b"bbbb", b"cc"]);
}

#[test]
fn sends_that_fail_are_told() {
    let (mut net, a, b) = pair(1, LinkConfig::default());
    net.fail_sends(a, 1, Failure::Exhausted);
    for text in [b"a", b"b"] {
        net.command(a, (address(2), text)).unwrap();
    }
    net.run_until_idle().unwrap();
    assert_eq!(net.machine(a).failed, [(TransmitId(1), Failure::Exhausted)]);
    assert_eq!(net.events(b).len(), 1);
    let refuse = Some(Failure::Unreachable);
    net.set_link(address(1).ip(), address(2).ip(), LinkConfig { refuse, ..LinkConfig::default() });
    net.command(a, (address(2), b"c")).unwrap();
    net.run_until_idle().unwrap();
    assert_eq!(net.machine(a).failed[1], (TransmitId(3), Failure::Unreachable));
}

#[test]
fn a_closed_port_answers_with_an_error_and_an_absent_host_with_nothing() {
    let (mut net, a, _) = pair(1, LinkConfig::default());
    let closed = SocketAddr::new(address(2).ip(), 9);
    net.command(a, (closed, b"anyone?")).unwrap();
    net.command(a, (address(77), b"anyone?")).unwrap();
    net.run_until_idle().unwrap();
    let [meta] = net.machine(a).received[..] else { panic!("one error") };
    assert_eq!(meta.source, closed);
    let error = meta.error.unwrap();
    assert_eq!((error.offender, error.icmp_type, error.icmp_code), (Some(closed.ip()), 3, 3));
    assert_eq!(net.events(a)[0].1, b"anyone?");
}

#[test]
fn machines_share_a_socket_and_strangers_are_ignored() {
    let (mut net, a, b) = pair(1, LinkConfig::default());
    net.bind_raw(address(2));
    net.send_datagram(address(9), address(2), b"foreign");
    net.send_datagram(address(9), address(2), b"for b");
    net.run_until_idle().unwrap();
    assert_eq!(net.events(b).len(), 1);
    assert_eq!(net.take_datagrams(address(2))[0].payload, b"foreign");
    assert!(net.events(a).is_empty());
}

#[test]
fn a_machine_that_sends_for_ever_is_a_livelock() {
    let mut net = Network::new(1);
    net.set_step_limit(5);
    let endless = Pinger { endless: true, ..Pinger::default() };
    net.add_datagram(address(1), endless, |bytes| bytes.to_vec());
    assert!(matches!(net.run_until_idle(), Err(Stuck::Livelock { .. })));
}
