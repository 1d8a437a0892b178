//! The UDP pinger's two sides, and a network between them that does what it likes.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Now, QuotedError, Received, Seed, Stamp, TransmitId, UnixTime,
};
use semfio_probe::{
    MAX_CLIENTS, Stop, UdpPingConfig, UdpPingEvent, UdpPingServer, UdpPingServerConfig, UdpPinger,
};

use crate::Choices;

/// A ping is told as answered in time, lost or failed once at most, and is answered once at most; the
/// end is told once and last; the counts are those of what was told.
pub fn udp_ping(data: &[u8]) {
    let mut choices = Choices::new(data);
    let micros = |n: usize| Duration::from_micros(n as u64);
    let heartbeat = choices.below(3) == 0;
    let count = [None, Some(1), Some(10), Some(2_000)][choices.below(4)];
    let (timeout, interval) = (micros(choices.below(3_000)), micros(choices.below(300)));
    let config = UdpPingConfig { count, timeout, interval, heartbeat };
    let loss = [0, 300_000, 1_000_000, u32::MAX][choices.below(4)];
    let silence = micros(choices.below(5_000));
    let config_there = UdpPingServerConfig { loss, heartbeat, silence };
    let mut run = Run {
        now: Now::default(),
        client: UdpPinger::new(Now::default(), THERE, config),
        server: UdpPingServer::new(Seed::from_u64(1), config_there),
        on_the_way: Vec::new(),
        settled: Vec::new(),
        answered: Vec::new(),
        ended: false,
    };
    while !choices.is_empty() {
        run.step(&mut choices);
        run.check();
    }
}

const HERE: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4_000);
const THERE: SocketAddr =
    SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 12_000);

struct Run {
    now: Now,
    client: UdpPinger,
    server: UdpPingServer,
    /// To whom, and what.
    on_the_way: Vec<(SocketAddr, Vec<u8>)>,
    settled: Vec<u64>,
    answered: Vec<u64>,
    ended: bool,
}

impl Run {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0..=2 => {
                let step = Duration::from_micros(choices.below(500) as u64);
                self.now.mono = self.now.mono.saturating_add(step);
                // A clock on the wall may go anywhere.
                self.now.unix = UnixTime::from_nanos(choices.below(4) as u64 * (u64::MAX / 3));
                self.client.handle_timeout(self.now);
                self.server.handle_timeout(self.now);
                for due in [self.client.poll_timeout(), self.server.poll_timeout()] {
                    assert!(due.is_none_or(|due| due.at > self.now.mono), "{due:?}");
                }
                let mut text = Vec::new();
                if let Some(transmit) = self.client.poll_transmit(self.now, &mut text) {
                    assert_eq!((transmit.destination, transmit.size), (THERE, text.len()));
                    self.on_the_way.push((THERE, text));
                    if choices.below(8) == 0 {
                        self.client.handle_send_error(self.now, transmit.id, Failure::Full);
                    } else {
                        self.client.handle_sent(self.now, transmit.id, self.stamp(choices));
                    }
                }
            }
            3..=5 if !self.on_the_way.is_empty() => {
                let at = choices.below(self.on_the_way.len());
                let (to, text) = self.on_the_way[at].clone();
                if choices.below(3) > 0 {
                    self.on_the_way.swap_remove(at);
                }
                self.arrive(choices, to, text);
            }
            6 if choices.below(16) == 0 => {
                let _ = self.client.handle_command(self.now, Stop);
            }
            6 => {
                let id = TransmitId(choices.below(16) as u64);
                self.client.handle_sent(self.now, id, self.stamp(choices));
            }
            _ => {
                let len = choices.below(32);
                let text = choices.bytes(len).to_vec();
                let to = if choices.below(2) == 0 { THERE } else { HERE };
                self.arrive(choices, to, text);
            }
        }
        while let Some(event) = self.client.poll_event() {
            self.hear(event);
        }
        while self.server.poll_event().is_some() {}
    }

    fn stamp(&self, choices: &mut Choices<'_>) -> Stamp {
        let off = Duration::from_micros(choices.below(256) as u64);
        let clock = if choices.below(2) == 0 { Clock::User } else { Clock::Kernel };
        let at = match choices.below(4) {
            0 => self.now.mono.saturating_add(off),
            1 => self.now.mono,
            _ => semfio_machine::Instant::from_nanos(
                self.now.mono.as_nanos().saturating_sub(off.as_nanos() as u64),
            ),
        };
        Stamp { at, clock }
    }

    fn arrive(&mut self, choices: &mut Choices<'_>, to: SocketAddr, mut text: Vec<u8>) {
        let error = QuotedError { icmp_type: 3, icmp_code: 3, ..QuotedError::default() };
        let is_error = choices.below(8) == 0;
        let source = match choices.below(16) {
            0 => SocketAddr::new(HERE.ip(), choices.below(4_096) as u16),
            _ if to == HERE || is_error => THERE,
            _ => HERE,
        };
        let meta = Received {
            source,
            destination: None,
            hop_limit: None,
            traffic_class: None,
            carrier: Carrier::Udp,
            stamp: self.stamp(choices),
            error: is_error.then_some(error),
        };
        if to == HERE || is_error {
            if let Some(event) = self.client.handle_datagram(self.now, meta, &mut text) {
                let event = match event {
                    UdpPingEvent::Reply { number, round_trip, late, .. } => {
                        UdpPingEvent::Reply { number, text: b"", round_trip, late }
                    }
                    UdpPingEvent::Duplicate { number } => UdpPingEvent::Duplicate { number },
                    other => unreachable!("{other:?}"),
                };
                self.hear(event);
            }
            return;
        }
        let _ = self.server.handle_datagram(self.now, meta, &mut text);
        let mut answer = Vec::new();
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut answer) {
            assert!(transmit.size <= text.len(), "an answer is no longer than what was asked");
            let answer = core::mem::take(&mut answer);
            if transmit.destination == HERE {
                self.on_the_way.push((HERE, answer));
            }
        }
    }

    fn hear(&mut self, event: UdpPingEvent<'static>) {
        assert!(!self.ended, "{event:?} after the end");
        match event {
            UdpPingEvent::Reply { number, late, .. } => {
                assert!(!self.answered.contains(&number), "{number} is answered twice");
                self.answered.push(number);
                if !late {
                    self.settle(number);
                }
            }
            UdpPingEvent::Duplicate { number } => assert!(self.answered.contains(&number)),
            UdpPingEvent::Lost { number }
            | UdpPingEvent::Unreachable { number, .. }
            | UdpPingEvent::NotSent { number, .. } => self.settle(number),
            UdpPingEvent::Ended => self.ended = true,
        }
    }

    fn settle(&mut self, number: u64) {
        assert!(!self.settled.contains(&number), "{number} is settled twice");
        self.settled.push(number);
    }

    fn check(&self) {
        let counts = self.client.counts();
        let settled = counts.answered + counts.lost + counts.failed;
        assert_eq!(settled, self.settled.len() as u64);
        assert_eq!(counts.answered + counts.late, self.answered.len() as u64);
        assert!(settled <= counts.sent);
        assert_eq!(counts.untold, 0);
        assert!(self.server.clients().count() <= MAX_CLIENTS);
        let there = self.server.counts();
        assert!(there.answered + there.dropped + there.refused <= there.received);
    }
}
