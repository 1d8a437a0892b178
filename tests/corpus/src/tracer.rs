//! Traceroute, over routers that do what they like.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Now, QuotedError, Received, Seed, Stamp,
};
use semfio_probe::simulation::{Arrival, Internet, Lie, Port, Size, Topology};
use semfio_probe::{
    AnswerKind, Ended, Live, Method, ProbesConfig, Sockets, Stop, TraceConfig, TraceEvent, Tracer,
};

use crate::Choices;

/// Each probe is told once for what became of it, an answer is one to a probe that was sent, counts
/// are those of what was told, and the end comes once.
pub fn tracer(data: &[u8]) {
    check(data, Some);
}

/// What is heard of an event; a machine with a fault would tell something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Heard {
    Hop { number: u64, hop: u8, late: bool, length: Duration, from: IpAddr },
    Narrow { number: u64, fits: u32 },
    Silent { number: u64 },
    NotSent { number: u64 },
    Cycle { number: u64 },
    Done,
}

/// `hear` may change what is told.
pub(crate) fn check(data: &[u8], hear: impl Fn(Heard) -> Option<Heard>) {
    // A few hundred steps are as many as it takes.
    let mut choices = Choices::new(data.get(..data.len().min(600)).unwrap_or_default());
    let (internet, to) = internet(&mut choices);
    let config = config(&mut choices, to);
    let mut internet = internet;
    internet.map_mut().client.raw = config.probes.sockets == Sockets::Raw;
    let Ok(machine) = Tracer::new(Now::default(), &Seed::from_u64(7), config) else { return };
    let mut run = Run {
        machine,
        config,
        internet,
        now: Now::default(),
        on_the_way: Vec::new(),
        fates: BTreeMap::new(),
        cycles: 0,
        ended: false,
        hear,
    };
    run.drain(&mut choices);
    for step in 0.. {
        if choices.is_empty() || run.ended {
            break;
        }
        run.step(&mut choices);
        run.drain(&mut choices);
        if step % 32 == 0 {
            run.compare();
        }
    }
    run.compare();
    let before = run.machine.ended();
    let _ = run.machine.handle_command(run.now, Stop);
    run.drain(&mut choices);
    run.compare();
    assert!(run.ended && run.machine.poll_timeout().is_none());
    let is_whole = !matches!(before, None | Some(Ended::NotSent(_) | Ended::Cycles));
    if is_whole && config.live.is_none() {
        let mut hops = run.machine.hops();
        assert!(hops.all(|(_, hop)| hop.is_settled(config.queries)), "{before:?}");
    }
    assert_eq!(before == Some(Ended::Reached), before.is_some() && config.live.is_none() && {
        run.machine.reached().is_some() && !matches!(before, Some(Ended::NotSent(_)))
    });
}

/// A line of routers with faults, and what it leads to.
fn internet(choices: &mut Choices<'_>) -> (Internet, SocketAddr) {
    let mut map = Topology::new();
    let mut last = Topology::CLIENT;
    let hops = 1 + choices.below(8) as u16;
    for number in 1..=hops {
        let next = map.add();
        let link = map.link(last, next, number);
        link.mtu = [1_500, 1_400, 1_280, 1_300][choices.below(4)];
        link.latency = Duration::from_micros(choices.below(200) as u64);
        link.duplication = [0, 0, 500_000][choices.below(3)];
        map.route_default(last, &[next]);
        let errors = &mut map.node(next).errors;
        errors.silent = choices.below(8) == 1;
        errors.quotes = [1_232, 28, 48, 40, 30][choices.below(5)];
        errors.lie = [None, Some(Lie::Quote), Some(Lie::Object)][choices.below(3)];
        map.node(next).ports.insert(33_434, [Port::Closed, Port::Open, Port::Filtered][choices.below(3)]);
        last = next;
    }
    if choices.below(6) == 1 {
        // In a circle.
        map.route_default(last, &[Topology::CLIENT]);
    }
    map.client.size = [Size::Any, Size::Probed][choices.below(2)];
    let network = if choices.below(5) == 1 { 99 } else { hops };
    let addresses = Topology::addresses(network, 2);
    let to = if choices.below(2) == 0 { addresses.v4.into() } else { addresses.v6.into() };
    (Internet::new(map, 3), SocketAddr::new(to, 0))
}

fn config(choices: &mut Choices<'_>, to: SocketAddr) -> TraceConfig {
    let method = [Method::Udp, Method::Icmp, Method::Tcp][choices.below(3)];
    let sockets = [Sockets::Datagram, Sockets::Raw][choices.below(2)];
    let ours = Topology::addresses(1, 1).like(to.ip());
    let known = choices.below(2) == 0 || method == Method::Tcp;
    let probes = ProbesConfig {
        method,
        sockets,
        destination: to,
        source: known.then(|| SocketAddr::new(ours, 40_000)),
        traffic_class: 0,
    };
    let cycles = [None, Some(1), Some(4)][choices.below(3)];
    TraceConfig {
        first_hop: [1, 1, 3][choices.below(3)],
        max_hops: [30, 12, 4][choices.below(3)],
        queries: [3, 1, 2][choices.below(3)],
        size: [60, 1_450][choices.below(2)],
        wait: Duration::from_micros(choices.below(3_000) as u64),
        gap_limit: [5, 1, 20][choices.below(3)],
        mtu: [None, Some(1_500), Some(9_000)][choices.below(3)],
        live: (choices.below(4) == 1).then_some(Live { interval: Duration::from_millis(100), cycles }),
        ..TraceConfig::new(probes)
    }
}

struct Run<F> {
    machine: Tracer,
    config: TraceConfig,
    internet: Internet,
    now: Now,
    on_the_way: Vec<Arrival>,
    fates: BTreeMap<u64, Fate>,
    cycles: u64,
    ended: bool,
    hear: F,
}

#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    hop: u8,
    size: usize,
    at: Now,
    answers: u32,
    late: u32,
    silent: u32,
    not_sent: u32,
    narrow: u32,
}

impl<F: Fn(Heard) -> Option<Heard>> Run<F> {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0 | 1 => {
                let passed = Duration::from_micros(choices.below(2_000) as u64);
                let due = self.machine.poll_timeout().map(|due| due.at);
                self.now.mono = self.now.mono.saturating_add(passed);
                if choices.below(2) == 0 {
                    self.now.mono = self.now.mono.max(due.unwrap_or_default());
                }
                if due.is_some_and(|due| due <= self.now.mono) {
                    self.machine.handle_timeout(self.now);
                    assert!(self.machine.poll_timeout().is_none_or(|due| due.at > self.now.mono));
                }
            }
            kind @ 2..=6 => {
                if self.on_the_way.is_empty() {
                    return;
                }
                let at = choices.below(self.on_the_way.len());
                let Some(mut arrival) = self.on_the_way.get(at).cloned() else { return };
                if choices.below(4) > 0 {
                    self.on_the_way.swap_remove(at); // or it comes again
                }
                if kind == 6 {
                    let length = arrival.payload.len();
                    if choices.below(2) == 0 {
                        arrival.payload.truncate(choices.below(length + 1));
                    } else if let Some(octet) = arrival.payload.get_mut(choices.below(length)) {
                        *octet ^= 1 << choices.below(8);
                    }
                }
                if choices.below(8) > 0 {
                    arrival.meta.stamp.at = self.now.mono;
                }
                self.take(arrival.meta, &mut arrival.payload);
            }
            _ => {
                let n = choices.below(64);
                let mut wild = choices.bytes(n).to_vec();
                let carrier = [Carrier::Udp, Carrier::Icmp, Carrier::RawIcmp, Carrier::RawTcp];
                let error = QuotedError { icmp_type: 11, ..QuotedError::default() };
                let meta = Received {
                    source: self.config.probes.destination,
                    destination: None,
                    hop_limit: None,
                    traffic_class: None,
                    carrier: carrier[choices.below(4)],
                    stamp: Stamp { at: self.now.mono, clock: Clock::Kernel },
                    error: (choices.below(2) == 0).then_some(error),
                };
                self.take(meta, &mut wild);
            }
        }
    }

    fn take(&mut self, meta: Received, payload: &mut [u8]) {
        let heard = self.machine.handle_datagram(self.now, meta, payload).map(|it| heard(&it));
        self.note(heard);
    }

    fn drain(&mut self, choices: &mut Choices<'_>) {
        let mut buf = Vec::new();
        if self.machine.poll_timeout().is_some_and(|due| due.at <= self.now.mono) {
            self.machine.handle_timeout(self.now);
        }
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut buf) {
            assert!(!self.ended && transmit.size == buf.len());
            let hop = transmit.hop_limit.unwrap_or_default();
            assert!((self.config.first_hop..=self.config.max_hops).contains(&hop));
            let fate = Fate { hop, size: buf.len(), at: self.now, ..Fate::default() };
            assert!(self.fates.insert(transmit.id.0, fate).is_none(), "one number twice");
            let sent = match choices.below(16) {
                1 => Err(Failure::Exhausted),
                _ => self.internet.send(self.now, &transmit, &buf),
            };
            match sent {
                Err(failure) => self.machine.handle_send_error(self.now, transmit.id, failure),
                Ok(arrivals) => {
                    let stamp = Stamp { at: self.now.mono, clock: Clock::User };
                    self.machine.handle_sent(self.now, transmit.id, stamp);
                    self.on_the_way.extend(arrivals);
                }
            }
            buf.clear();
        }
        while let Some(event) = self.machine.poll_event() {
            self.note(Some(heard(&event)));
        }
    }

    fn note(&mut self, heard: Option<Heard>) {
        let Some(heard) = heard.and_then(&self.hear) else { return };
        assert!(!self.ended, "{heard:?} after the end");
        match heard {
            Heard::Hop { number, hop, late, length, .. } => {
                let fate = self.fate(number);
                fate.answers += 1;
                fate.late += u32::from(late);
                let fate = *fate;
                assert_eq!(fate.hop, hop);
                assert!(length <= self.now.mono.saturating_since(fate.at.mono), "{fate:?}");
                assert_eq!(late, fate.silent > 0, "{fate:?}");
            }
            Heard::Narrow { number, fits } => {
                let fate = self.fate(number);
                fate.narrow += 1;
                let fate = *fate;
                assert!(self.config.mtu.is_some() && fate.size > 58, "{fits} {fate:?}");
            }
            Heard::Silent { number } => self.fate(number).silent += 1,
            Heard::NotSent { number } => self.fate(number).not_sent += 1,
            Heard::Cycle { number } => {
                self.cycles += 1;
                assert_eq!(number, self.cycles);
            }
            Heard::Done => self.ended = true,
        }
    }

    fn fate(&mut self, number: u64) -> &mut Fate {
        match self.fates.get_mut(&number) {
            Some(fate) => fate,
            None => panic!("told of {number}, which was not sent"),
        }
    }

    /// The machine's counts are those of what was told.
    fn compare(&self) {
        for fate in self.fates.values() {
            let Fate { answers, late, silent, not_sent, narrow, .. } = *fate;
            assert!(answers + not_sent + narrow <= 1 && silent <= 1, "{fate:?}");
            assert!(silent + not_sent <= 1 && late <= silent, "{fate:?}");
        }
        assert_eq!(self.machine.ended().is_some(), self.ended);
        for (at, hop) in self.machine.hops() {
            let sum = |of: fn(&Fate) -> u32| -> u64 {
                let fates = self.fates.values().filter(|fate| fate.hop == at);
                fates.map(|fate| u64::from(of(fate))).sum()
            };
            let counts = hop.counts;
            assert_eq!(counts.answered, sum(|fate| fate.answers));
            assert_eq!(counts.late, sum(|fate| fate.late));
            // What did not fit after all was asked again.
            let lost = sum(|fate| fate.silent.saturating_sub(fate.late + fate.narrow));
            assert_eq!(counts.lost, lost, "{at}");
            assert_eq!(counts.not_sent, sum(|fate| fate.not_sent));
            assert!(counts.sent >= counts.answered + counts.lost + counts.not_sent, "{counts:?}");
            assert!(counts.sent <= sum(|_| 1));
            let answers: u64 = hop.nodes.iter().map(|node| node.answers).sum();
            assert_eq!(answers, counts.answered);
            let timed: u64 = hop.round_trips.by_clocks().map(|(_, of)| of.count()).sum();
            assert_eq!(timed, counts.answered);
        }
    }
}

fn heard(event: &TraceEvent<'_>) -> Heard {
    match *event {
        TraceEvent::Hop(answer) => {
            // Whatever it says of itself, it can be read.
            let _ = answer.extension.map(|it| it.map(|it| it.labels().count()));
            Heard::Hop {
                number: answer.probe.number,
                hop: answer.probe.hop_limit,
                late: answer.late,
                length: answer.round_trip.length,
                from: answer.from,
            }
        }
        TraceEvent::Narrow(answer) => {
            let AnswerKind::PacketTooBig { mtu } = answer.kind else {
                panic!("narrow for {:?}", answer.kind)
            };
            Heard::Narrow { number: answer.probe.number, fits: mtu }
        }
        TraceEvent::Silent(probe) => Heard::Silent { number: probe.number },
        TraceEvent::NotSent { probe, .. } => Heard::NotSent { number: probe.number },
        TraceEvent::Cycle { number } => Heard::Cycle { number },
        TraceEvent::Done(_) => Heard::Done,
    }
}
