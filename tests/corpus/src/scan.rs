//! Scans of ports, by connecting and by single packets, over a network that does what it likes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Action, Carrier, Clock, ConnId, DatagramMachine, Failure, NetLimits, Now, Peer, QuotedError,
    Received, Seed, Shard, Stamp, Target, Transmit,
};
use semfio_probe::{
    ConnectScan, Found, Knock, PortState, Quit, Reason, ScanConfig, ScanEvent, SynScan, UdpScan,
};

use crate::Choices;

/// Each port that is asked has one verdict, and one that was answered for; nothing is told of others.
pub fn scan(data: &[u8]) {
    check(data, Some);
}

/// `hear` may change what is told, as a machine with a fault would.
pub(crate) fn check(data: &[u8], hear: impl Fn(Found) -> Option<Found>) {
    let mut choices = Choices::new(data.get(..data.len().min(600)).unwrap_or_default());
    let kind = choices.below(3);
    let micros = |n: usize| Duration::from_micros(n as u64);
    let config = ScanConfig {
        ports: (1..=[1, 3, 12][choices.below(3)]).collect(),
        window: [1, 2, 7, 1_000][choices.below(4)],
        rate: [None, Some(1), Some(1_000)][choices.below(3)],
        wait: micros(choices.below(4_000)),
        retries: choices.below(4) as u8,
    };
    let all = [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)), 0),
    ];
    let hosts = &all[..=choices.below(3)];
    let questions = hosts.len() * config.ports.len();
    let truth = Truth { hear, questions, answers: BTreeSet::new(), told: BTreeMap::new() };
    let seed = Seed::from_u64(7);
    let now = Now::default();
    match kind {
        0 => {
            let Ok(scan) = ConnectScan::new(hosts, config) else { return };
            let shard = Shard::new(scan, NetLimits::default());
            Dials { shard, now, truth, dialled: Vec::new() }.run(&mut choices);
        }
        1 => {
            let from: Vec<_> = hosts.iter().map(|host| (*host, host.ip())).collect();
            let Ok(machine) = SynScan::new(&from, OURS, seed, config) else { return };
            Packets { machine, now, truth, asked: Vec::new(), ended: 0 }.run(&mut choices);
        }
        _ => {
            let Ok(machine) = UdpScan::new(hosts, OURS, config) else { return };
            Packets { machine, now, truth, asked: Vec::new(), ended: 0 }.run(&mut choices);
        }
    }
}

const OURS: u16 = 45_000;

/// What was answered, and what was told.
struct Truth<F> {
    hear: F,
    questions: usize,
    answers: BTreeSet<(SocketAddr, PortState)>,
    told: BTreeMap<SocketAddr, Found>,
}

impl<F: Fn(Found) -> Option<Found>> Truth<F> {
    fn found(&mut self, found: Found) {
        let Some(found) = (self.hear)(found) else { return };
        let is_silent = matches!(found.state, PortState::Filtered | PortState::OpenOrFiltered);
        let by_silence = is_silent && found.reason == Reason::Silence;
        let by_system = matches!(found.reason, Reason::System(_));
        assert!(
            by_silence || by_system || self.answers.contains(&(found.target, found.state)),
            "{found:?} was not answered"
        );
        assert!(found.tries > 0, "{found:?}");
        assert_eq!(self.told.insert(found.target, found), None, "two verdicts");
        assert!(self.told.len() <= self.questions);
    }
}

fn pass(now: &mut Now, choices: &mut Choices<'_>) {
    now.mono = now.mono.saturating_add(Duration::from_micros(choices.below(900) as u64));
}

const FAILURES: [Failure; 6] = [
    Failure::Exhausted,
    Failure::Unreachable,
    Failure::Denied,
    Failure::TimedOut,
    Failure::Unsupported,
    Failure::Other,
];

struct Dials<F> {
    shard: Shard<Knock, ConnectScan>,
    now: Now,
    truth: Truth<F>,
    dialled: Vec<(ConnId, SocketAddr)>,
}

impl<F: Fn(Found) -> Option<Found>> Dials<F> {
    fn run(mut self, choices: &mut Choices<'_>) {
        while !choices.is_empty() && !self.shard.is_over() {
            self.step(choices);
            self.settle();
        }
        // From here on everybody says that the port is closed.
        for _ in 0..200_000 {
            if self.shard.is_over() {
                break;
            }
            if let Some((conn, to)) = self.dialled.pop() {
                self.truth.answers.insert((to, PortState::Closed));
                self.shard.handle_failed(self.now, conn, Failure::Refused);
            } else if let Some(due) = self.shard.poll_timeout() {
                self.now.mono = self.now.mono.max(due.at);
                self.shard.handle_timeout(self.now);
            }
            self.shard.handle_turn(self.now);
            self.settle();
        }
        assert!(self.shard.is_over(), "it does not end");
        assert_eq!(self.truth.told.len(), self.truth.questions);
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(self.dialled.len());
        match choices.below(6) {
            0 | 1 => {
                pass(&mut self.now, choices);
                self.shard.handle_timeout(self.now);
            }
            2 if at < self.dialled.len() => {
                let (conn, to) = self.dialled.swap_remove(at);
                // From any port, also from one that is asked for, or this one.
                let local = SocketAddr::new(to.ip(), choices.below(15) as u16);
                let state = if local == to { PortState::Closed } else { PortState::Open };
                self.truth.answers.insert((to, state));
                self.shard.handle_connected(self.now, conn, Peer { address: to, local });
            }
            3 if at < self.dialled.len() => {
                let (conn, to) = self.dialled.swap_remove(at);
                self.truth.answers.insert((to, PortState::Closed));
                self.shard.handle_failed(self.now, conn, Failure::Refused);
            }
            4 if at < self.dialled.len() => {
                let (conn, _) = self.dialled.swap_remove(at);
                self.shard.handle_failed(self.now, conn, FAILURES[choices.below(6)]);
            }
            _ => self.shard.handle_turn(self.now),
        }
    }

    fn settle(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            match action {
                Action::Dial(conn, Target::Address(to)) => self.dialled.push((conn, to)),
                Action::Close { conn, .. } => self.dialled.retain(|(id, _)| *id != conn),
                Action::Stop => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(found) = self.shard.poll_report() {
            self.truth.found(found);
        }
    }
}

struct Packets<M, F> {
    machine: M,
    now: Now,
    truth: Truth<F>,
    asked: Vec<(Transmit, Vec<u8>)>,
    ended: u32,
}

impl<M, F> Packets<M, F>
where
    M: for<'i> DatagramMachine<Event<'i> = ScanEvent, Command<'i> = Quit>,
    F: Fn(Found) -> Option<Found>,
{
    fn run(mut self, choices: &mut Choices<'_>) {
        self.settle(choices);
        while !choices.is_empty() {
            self.step(choices);
            self.settle(choices);
        }
        // Nobody says anything from here on.
        for _ in 0..20_000 {
            let Some(due) = self.machine.poll_timeout() else { break };
            self.now.mono = self.now.mono.max(due.at);
            self.machine.handle_timeout(self.now);
            assert!(self.machine.poll_timeout().is_none_or(|due| due.at > self.now.mono));
            self.settle(choices);
        }
        assert_eq!(self.machine.poll_timeout(), None, "it does not end");
        assert_eq!((self.ended, self.truth.told.len()), (1, self.truth.questions));
        let _ = self.machine.handle_command(self.now, Quit);
        assert_eq!(self.machine.poll_event(), None);
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(self.asked.len());
        let asked = self.asked.get(at).cloned();
        let times = if choices.below(16) == 15 { 50 } else { 1 };
        match (choices.below(8), asked) {
            (0..=2, _) => {
                pass(&mut self.now, choices);
                if self.machine.poll_timeout().is_some_and(|due| due.at <= self.now.mono) {
                    self.machine.handle_timeout(self.now);
                    assert!(self.machine.poll_timeout().is_none_or(|due| due.at > self.now.mono));
                }
            }
            (3 | 4, Some((transmit, bytes))) => {
                let open = choices.below(2) == 0;
                let state = if open { PortState::Open } else { PortState::Closed };
                let forged = choices.below(3) == 0;
                if !forged {
                    self.truth.answers.insert((transmit.destination, state));
                }
                for _ in 0..times {
                    self.answer(&transmit, &bytes, open, forged);
                }
            }
            (5, Some((transmit, bytes))) => self.error(choices, &transmit, &bytes),
            (_, asked) => {
                let n = choices.below(80);
                let mut wild = choices.bytes(n).to_vec();
                let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 7);
                let carrier = [Carrier::RawTcp, Carrier::RawIcmp][choices.below(2)];
                // From who was asked only by raw sockets: over UDP whatever comes is an answer.
                let known = asked.filter(|(transmit, _)| transmit.carrier == Carrier::RawTcp);
                let source = known.map_or(source, |(transmit, _)| transmit.destination);
                self.hand(received(source, carrier), &mut wild);
            }
        }
    }

    fn hand(&mut self, mut meta: Received, bytes: &mut [u8]) {
        meta.stamp.at = self.now.mono;
        if self.machine.accepts(&meta, bytes) {
            assert_eq!(self.machine.handle_datagram(self.now, meta, bytes), None);
        }
    }

    /// What its host would answer; forged, it is what somebody says who has not seen the question.
    fn answer(&mut self, transmit: &Transmit, bytes: &[u8], open: bool, forged: bool) {
        let to = transmit.destination;
        if transmit.carrier == Carrier::Udp {
            let mut source = to;
            if forged {
                source.set_port(to.port().wrapping_add(1_000));
            }
            let (icmp_type, icmp_code) = if to.is_ipv4() { (3, 3) } else { (1, 4) };
            let offender = Some(source.ip());
            let error = QuotedError { offender, icmp_type, icmp_code, info: 0, extension: None };
            let error = Some(error).filter(|_| !open);
            return self.hand(Received { error, ..received(source, Carrier::Udp) }, &mut []);
        }
        let Some((&[a, b, c, d, e, f, g, h], _)) = bytes.split_first_chunk() else {
            panic!("no SYN: {bytes:?}");
        };
        let slip = if forged { 2 } else { 1 };
        let number = u32::from_be_bytes([e, f, g, h]).wrapping_add(slip).to_be_bytes();
        // Acknowledged, with SYN or RST.
        let flags = if open { 0x12 } else { 0x14 };
        let header = [&[c, d, a, b, 0, 0, 0, 1][..], &number, &[0x50, flags, 0, 1, 0, 0, 0, 0]];
        self.hand(received(to, Carrier::RawTcp), &mut header.concat());
    }

    /// A router's error, with what it quotes cut or changed.
    fn error(&mut self, choices: &mut Choices<'_>, transmit: &Transmit, bytes: &[u8]) {
        let to = transmit.destination;
        let is_v4 = to.is_ipv4();
        let (icmp_type, icmp_code, state) = match (choices.below(2), is_v4) {
            (0, true) => (3, 13, PortState::Filtered),
            (0, false) => (1, 1, PortState::Filtered),
            (_, true) => (11, 0, PortState::Unreachable),
            (_, false) => (3, 0, PortState::Unreachable),
        };
        let router = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
        let router = if is_v4 { router } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        if transmit.carrier == Carrier::Udp {
            let offender = Some(router);
            let error = QuotedError { offender, icmp_type, icmp_code, info: 0, extension: None };
            self.truth.answers.insert((to, state));
            return self
                .hand(Received { error: Some(error), ..received(to, Carrier::Udp) }, &mut []);
        }
        let mut quote = match (transmit.source, to.ip()) {
            (Some(IpAddr::V4(from)), IpAddr::V4(to)) => {
                let mut header = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 9, 6, 0, 0];
                header.extend(from.octets().into_iter().chain(to.octets()));
                header
            }
            (Some(IpAddr::V6(from)), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 24, 6, 9];
                header.extend(from.octets().into_iter().chain(to.octets()));
                header
            }
            _ => return,
        };
        let transport = quote.len();
        quote.extend_from_slice(bytes);
        quote.truncate(transport + 4 + choices.below(25));
        let whole = quote.len() >= transport + 8;
        let number = transport + 4 + choices.below(4);
        match (choices.below(3) == 0, quote.get_mut(number)) {
            (true, Some(octet)) => *octet ^= 0x11,
            _ if whole => drop(self.truth.answers.insert((to, state))),
            _ => {}
        }
        let mut message = vec![icmp_type, icmp_code, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&quote);
        if is_v4 {
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.hand(received(SocketAddr::new(router, 0), Carrier::RawIcmp), &mut message);
    }

    fn settle(&mut self, choices: &mut Choices<'_>) {
        let mut buf = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut buf) {
            assert_eq!(transmit.size, buf.len());
            if choices.below(8) == 7 {
                let failure = FAILURES[choices.below(6)];
                self.machine.handle_send_error(self.now, transmit.id, failure);
            } else {
                let stamp = Stamp { at: self.now.mono, clock: Clock::User };
                self.machine.handle_sent(self.now, transmit.id, stamp);
                self.asked.push((transmit, buf.clone()));
            }
            buf.clear();
        }
        while let Some(event) = self.machine.poll_event() {
            match event {
                ScanEvent::Found(found) => self.truth.found(found),
                ScanEvent::Ended => self.ended += 1,
            }
        }
    }
}

/// Of the internet, over octets whose own is zero.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded >> 16) + (folded & 0xffff)) as u16
}

fn received(source: SocketAddr, carrier: Carrier) -> Received {
    Received {
        source,
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier,
        stamp: Stamp { at: Now::default().mono, clock: Clock::Kernel },
        error: None,
    }
}
