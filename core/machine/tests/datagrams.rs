//! Hard case: an echo over datagrams, with stamps of sending and receiving.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Failure, Instant, Now, Received, Refused, Stamp,
    Transmit, TransmitId,
};
use semfio_sim::{Chance, LinkConfig, Network};

/// Sends probes, and answers those of others; a probe is `?` or `!` and a number.
#[derive(Default)]
struct Echo {
    next: u64,
    queue: VecDeque<(SocketAddr, u8, u64)>,
    /// Probes under way: when they may be given up, and when they left.
    probes: BTreeMap<u64, (Instant, Option<Stamp>)>,
    events: VecDeque<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answered { probe: u64, after: Duration, clocks: (Clock, Clock) },
    Lost { probe: u64 },
    NotSent { probe: u64, failure: Failure },
}

/// Answers that wait at most; more are dropped, as a network would.
const QUEUE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(1);

impl DatagramMachine for Echo {
    type Event<'i> = Told;
    type Command<'c> = SocketAddr;

    fn accepts(&self, meta: &Received, payload: &[u8]) -> bool {
        meta.error.is_none() && payload.len() == 9 && matches!(payload[0], b'?' | b'!')
    }

    fn handle_datagram(&mut self, _: Now, meta: Received, payload: &mut [u8]) -> Option<Told> {
        let (&kind, number) = payload.split_first()?;
        let probe = u64::from_be_bytes(number.try_into().ok()?);
        if kind == b'?' {
            if self.queue.len() < QUEUE {
                self.queue.push_back((meta.source, b'!', probe));
            }
            return None;
        }
        // Late and repeated answers find nothing.
        let (_, sent) = self.probes.remove(&probe)?;
        let sent = sent?;
        let after = meta.stamp.at.saturating_since(sent.at);
        Some(Told::Answered { probe, after, clocks: (sent.clock, meta.stamp.clock) })
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        if let Some((_, sent)) = self.probes.get_mut(&id.0) {
            // The kernel's stamp comes later and is better.
            if sent.is_none() || stamp.clock == Clock::Kernel {
                *sent = Some(stamp);
            }
        }
    }

    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        if self.probes.remove(&id.0).is_some() {
            self.events.push_back(Told::NotSent { probe: id.0, failure });
        }
    }

    fn handle_command(&mut self, now: Now, to: SocketAddr) -> Result<(), Refused> {
        if self.queue.len() >= QUEUE {
            return Err(Refused::Full);
        }
        self.queue.push_back((to, b'?', self.next));
        self.probes.insert(self.next, (now.mono.saturating_add(PATIENCE), None));
        self.next += 1;
        Ok(())
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (destination, kind, number) = self.queue.pop_front()?;
        buf.push(kind);
        buf.extend(number.to_be_bytes());
        // Answers are not asked after: their id names no probe.
        let id = TransmitId(if kind == b'?' { number } else { u64::MAX });
        Some(Transmit {
            id,
            destination,
            size: buf.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.probes.values().map(|(at, _)| *at).min()?;
        Some(Deadline { at, why: "answer" })
    }

    fn handle_timeout(&mut self, now: Now) {
        self.probes.retain(|&probe, (at, _)| {
            if *at <= now.mono {
                self.events.push_back(Told::Lost { probe });
            }
            *at > now.mono
        });
    }

    fn poll_event(&mut self) -> Option<Told> {
        self.events.pop_front()
    }
}

fn addresses() -> [SocketAddr; 2] {
    ["10.0.0.1:7", "10.0.0.2:7"].map(|address| address.parse().unwrap())
}

fn network(link: LinkConfig) -> Network {
    let mut network = Network::new(1);
    network.set_default_link(link);
    network
}

#[test]
fn an_answer_is_timed_by_both_stamps() {
    let [a, b] = addresses();
    let latency = Duration::from_millis(20);
    let mut network = network(LinkConfig { latency, ..LinkConfig::default() });
    let asker = network.add_datagram(a, Echo::default(), |told| told);
    network.add_datagram(b, Echo::default(), |told| told);
    network.command(asker, b).unwrap();
    network.run_until_idle().unwrap();
    let told: Vec<Told> = network.events(asker).iter().map(|(_, told)| *told).collect();
    let [Told::Answered { probe: 0, after, clocks }] = told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(after, 2 * latency);
    assert_eq!(clocks, (Clock::Kernel, Clock::Kernel));
    assert!(network.machine(asker).probes.is_empty());
}

#[test]
fn lost_doubled_and_foreign_datagrams_end_in_one_event_each() {
    let [a, b] = addresses();
    for (loss, duplication, answered) in [(100, 0, 0), (0, 100, 10)] {
        let link = LinkConfig {
            loss: Chance::percent(loss),
            duplication: Chance::percent(duplication),
            ..LinkConfig::default()
        };
        let mut network = network(link);
        let asker = network.add_datagram(a, Echo::default(), |told| told);
        network.add_datagram(b, Echo::default(), |told| told);
        for _ in 0..10 {
            network.command(asker, b).unwrap();
        }
        network.send_datagram(b, a, b"foreign");
        network.send_datagram(b, a, b"!unknown!");
        network.run_until_idle().unwrap();
        let told: Vec<Told> = network.events(asker).iter().map(|(_, told)| *told).collect();
        let lost = told.iter().filter(|told| matches!(told, Told::Lost { .. })).count();
        assert_eq!((told.len(), lost), (10, 10 - answered), "{told:?}");
    }
}

#[test]
fn a_send_that_fails_is_told() {
    let [a, b] = addresses();
    let mut network = network(LinkConfig::default());
    let asker = network.add_datagram(a, Echo::default(), |told| told);
    network.fail_sends(asker, 1, Failure::Unreachable);
    network.command(asker, b).unwrap();
    network.run_until_idle().unwrap();
    let told = network.events(asker)[0].1;
    assert_eq!(told, Told::NotSent { probe: 0, failure: Failure::Unreachable });
}
