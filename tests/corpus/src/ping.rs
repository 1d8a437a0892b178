//! Ping, over a network that does what it likes.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Now, QuotedError, Received, Seed, Stamp,
};
use semfio_probe::{Echo, Family, HEADER, Message, PingConfig, PingEvent, Pinger, Sizes, Stop, TOKEN};

use crate::Choices;

/// Each probe is told once for what became of it, an answer is one that was sent, and the counts
/// are those of what was told.
pub fn ping(data: &[u8]) {
    check(data, Some);
}

/// `hear` may change what is told, as a machine with a fault would.
pub(crate) fn check(data: &[u8], hear: impl Fn(PingEvent) -> Option<PingEvent>) {
    // A few hundred steps are as many as it takes.
    let mut choices = Choices::new(data.get(..data.len().min(600)).unwrap_or_default());
    let carrier = |raw| if raw { Carrier::RawIcmp } else { Carrier::Icmp };
    let first = [56, 0, 3, 8, 16][choices.below(5)];
    let step = [0, 1, 7][choices.below(3)];
    let micros = |n: usize| Duration::from_micros(n as u64);
    let config = PingConfig {
        interval: micros(choices.below(200)),
        count: [None, Some(1), Some(5), Some(40)][choices.below(4)],
        deadline: [None, Some(micros(3_000))][choices.below(2)],
        wait: micros(choices.below(2_000)),
        preload: [1, 2, 30][choices.below(3)],
        flood: choices.below(4) == 0,
        sizes: Sizes { first, last: first + 20, step },
        pattern: choices.bytes(2).to_vec(),
        hop_limit: None,
        carrier_v4: carrier(choices.below(2) == 0),
        carrier_v6: carrier(choices.below(2) == 0),
    };
    let all = [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)), 0),
    ];
    let hosts = &all[..=choices.below(3)];
    let now = Now::default();
    let Ok(machine) = Pinger::new(now, hosts, &Seed::from_u64(7), config.clone()) else {
        return;
    };
    let told = Told { finished: vec![0; hosts.len()], ..Told::default() };
    let mut run = Run { machine, config, hosts, now, on_the_way: Vec::new(), told, hear };
    run.drain(&mut choices);
    for step in 0.. {
        if choices.is_empty() {
            break;
        }
        run.step(&mut choices);
        run.drain(&mut choices);
        // All that was told is gone through: often enough is enough.
        if step % 32 == 0 {
            run.compare();
        }
    }
    let _ = run.machine.handle_command(run.now, Stop);
    run.drain(&mut choices);
    run.compare();
    assert!(run.told.finished.iter().all(|&times| times == 1), "{:?}", run.told.finished);
    assert_eq!(run.told.ended, 1);
    assert_eq!(run.machine.poll_timeout(), None);
}

struct Run<'h, F> {
    machine: Pinger,
    config: PingConfig,
    hosts: &'h [SocketAddr],
    now: Now,
    on_the_way: Vec<Sent>,
    told: Told,
    hear: F,
}

#[derive(Clone)]
struct Sent {
    host: usize,
    number: u64,
    ident: u16,
    sequence: u16,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Told {
    fates: BTreeMap<(usize, u64), Fate>,
    duplicates: u64,
    finished: Vec<u32>,
    ended: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    replies: u32,
    late: bool,
    lost: u32,
    unreachable: u32,
    not_sent: u32,
}

impl Told {
    fn fate(&mut self, host: usize, number: u64) -> &mut Fate {
        match self.fates.get_mut(&(host, number)) {
            Some(fate) => fate,
            None => panic!("told of {number} of host {host}, which was not sent"),
        }
    }
}

impl<F: Fn(PingEvent) -> Option<PingEvent>> Run<'_, F> {
    fn received(&self, source: SocketAddr, error: Option<QuotedError>) -> Received {
        Received {
            source,
            destination: None,
            hop_limit: Some(60),
            traffic_class: None,
            carrier: Carrier::Icmp,
            stamp: Stamp { at: self.now.mono, clock: Clock::Kernel },
            error,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let pick = |choices: &mut Choices<'_>, run: &Self| {
            let at = choices.below(run.on_the_way.len());
            run.on_the_way.get(at).cloned().map(|sent| (at, sent))
        };
        match choices.below(10) {
            0..=2 => {
                let passed = Duration::from_micros(choices.below(600) as u64);
                self.now.mono = self.now.mono.saturating_add(passed);
                if self.machine.poll_timeout().is_some_and(|due| due.at <= self.now.mono) {
                    self.machine.handle_timeout(self.now);
                    assert!(self.machine.poll_timeout().is_none_or(|due| due.at > self.now.mono));
                }
            }
            3..=5 => {
                let Some((at, sent)) = pick(choices, self) else { return };
                if choices.below(4) > 0 {
                    self.on_the_way.remove(at); // or it comes again
                }
                let event = self.reply(&sent, self.hosts[sent.host], &sent.payload);
                self.expect(event, &sent, None);
            }
            6 => {
                let Some((_, sent)) = pick(choices, self) else { return };
                let mut payload = sent.payload.clone();
                let at = choices.below(payload.len() + 1);
                match payload.get_mut(at) {
                    Some(octet) => *octet ^= 1,
                    None => payload.push(0),
                }
                let event = self.reply(&sent, self.hosts[sent.host], &payload);
                if at < TOKEN.min(sent.payload.len()) {
                    assert_eq!(event, None, "the token was changed");
                } else {
                    self.expect(event, &sent, Some(at));
                }
            }
            7 => {
                let Some((_, sent)) = pick(choices, self) else { return };
                self.error(choices, &sent);
            }
            8 => {
                let Some((_, sent)) = pick(choices, self) else { return };
                let stranger = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)), 0);
                // A family has its own numbers: only the same one can be mistaken.
                if !self.hosts[sent.host].is_ipv4() {
                    return;
                }
                match self.reply(&sent, stranger, &sent.payload) {
                    Some(PingEvent::Elsewhere { host, number, from }) => {
                        assert_eq!((host, number, from), (sent.host, sent.number, stranger.ip()));
                    }
                    other => assert_eq!(other, None),
                }
            }
            _ => {
                let n = choices.below(64);
                let mut wild = choices.bytes(n).to_vec();
                let from = self.hosts[choices.below(self.hosts.len())];
                let meta = self.received(from, None);
                let event = self.machine.handle_datagram(self.now, meta, &mut wild);
                self.note(event);
            }
        }
    }

    fn reply(&mut self, sent: &Sent, from: SocketAddr, payload: &[u8]) -> Option<PingEvent> {
        let echo = Echo { ident: sent.ident, sequence: sent.sequence, payload };
        let mut bytes = Vec::new();
        echo.put_reply(Family::of(from.ip()), &mut bytes);
        let meta = self.received(from, None);
        let event = self.machine.handle_datagram(self.now, meta, &mut bytes);
        self.note(event)
    }

    /// An echo of ours is told as what it is, unless all is over.
    fn expect(&mut self, event: Option<PingEvent>, sent: &Sent, altered: Option<usize>) {
        let fate = self.told.fates.get(&(sent.host, sent.number)).copied().unwrap_or_default();
        match event {
            Some(PingEvent::Reply(reply)) => {
                assert_eq!((reply.host, reply.number), (sent.host, sent.number));
                assert_eq!((reply.altered, fate.replies), (altered, 1));
                assert_eq!(reply.late, fate.lost + fate.unreachable > 0);
            }
            Some(PingEvent::Duplicate(reply)) => {
                assert_eq!((reply.host, reply.number), (sent.host, sent.number));
                assert!(fate.replies == 1);
            }
            // Wild bytes can have been taken for what has no token.
            other => assert!(self.told.finished[sent.host] > 0, "{other:?}, {fate:?}"),
        }
    }

    fn error(&mut self, choices: &mut Choices<'_>, sent: &Sent) {
        let to = self.hosts[sent.host];
        let echo = Echo { ident: sent.ident, sequence: sent.sequence, payload: &sent.payload };
        let mut quoted = Vec::new();
        echo.put_request(Family::of(to.ip()), &mut quoted);
        let cut = choices.below(quoted.len() + 1);
        quoted.truncate(cut);
        let why = QuotedError { icmp_type: 3, icmp_code: 1, ..QuotedError::default() };
        let meta = self.received(to, Some(why));
        let event = self.machine.handle_datagram(self.now, meta, &mut quoted);
        match self.note(event) {
            Some(PingEvent::Unreachable { host, number, error }) => {
                assert_eq!((host, number, error), (sent.host, sent.number, why));
                assert!(cut >= HEADER);
            }
            other => assert_eq!(other, None),
        }
    }

    fn drain(&mut self, choices: &mut Choices<'_>) {
        let mut buf = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut buf) {
            assert_eq!(transmit.size, buf.len());
            let host = self.hosts.iter().position(|&host| host == transmit.destination);
            let host = host.unwrap_or_else(|| panic!("nobody asked for {transmit:?}"));
            let family = Family::of(transmit.destination.ip());
            let Ok(Message::EchoRequest(echo)) = Message::parse(family, &buf) else {
                panic!("no request: {buf:?}");
            };
            let number = transmit.id.0 & 0xffff_ffff_ffff;
            assert!(echo.payload.len() >= usize::from(self.config.sizes.first));
            assert!(echo.payload.len() <= usize::from(self.config.sizes.last));
            self.told.fates.insert((host, number), Fate::default());
            if choices.below(8) == 1 {
                self.machine.handle_send_error(self.now, transmit.id, Failure::Unreachable);
            } else {
                let stamp = Stamp { at: self.now.mono, clock: Clock::User };
                self.machine.handle_sent(self.now, transmit.id, stamp);
                let Echo { ident, sequence, payload } = echo;
                let payload = payload.to_vec();
                self.on_the_way.push(Sent { host, number, ident, sequence, payload });
            }
            buf.clear();
        }
        while let Some(event) = self.machine.poll_event() {
            self.note(Some(event));
        }
    }

    fn note(&mut self, event: Option<PingEvent>) -> Option<PingEvent> {
        let event = (self.hear)(event?)?;
        match event {
            PingEvent::Reply(reply) => {
                let fate = self.told.fate(reply.host, reply.number);
                fate.replies += 1;
                fate.late = reply.late;
            }
            PingEvent::Duplicate(_) => self.told.duplicates += 1,
            PingEvent::Lost { host, number } => self.told.fate(host, number).lost += 1,
            PingEvent::Unreachable { host, number, .. } => {
                self.told.fate(host, number).unreachable += 1;
            }
            PingEvent::NotSent { host, number, .. } => self.told.fate(host, number).not_sent += 1,
            PingEvent::Finished { host } => self.told.finished[host] += 1,
            PingEvent::Ended => self.told.ended += 1,
            PingEvent::Elsewhere { .. } => {}
        }
        Some(event)
    }

    /// The machine's counts are those of what was told.
    fn compare(&self) {
        let mut duplicates = 0;
        for host in 0..self.hosts.len() {
            let counts = self.machine.host_counts(host).unwrap_or_default();
            let fates: Vec<Fate> =
                self.told.fates.range((host, 0)..(host + 1, 0)).map(|(_, &fate)| fate).collect();
            let number = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count() as u64;
            for fate in &fates {
                let Fate { replies, lost, unreachable, not_sent, late } = *fate;
                assert!(replies <= 1 && lost + unreachable + not_sent <= 1, "{fate:?}");
                assert!(not_sent + replies <= 1 && late == (replies + lost + unreachable == 2));
            }
            let settled = |fate: &Fate| {
                fate.replies + fate.lost + fate.unreachable + fate.not_sent > 0
            };
            assert_eq!(counts.sent, fates.len() as u64);
            assert_eq!(counts.answered, number(|fate| fate.replies == 1));
            assert_eq!(counts.late, number(|fate| fate.late));
            assert_eq!(counts.unreachable, number(|fate| fate.unreachable == 1));
            assert_eq!(counts.not_sent, number(|fate| fate.not_sent == 1));
            let waiting = fates.iter().filter(|fate| !settled(fate)).count() as u64;
            assert_eq!(counts.waiting, waiting);
            if counts.late == 0 {
                let judged = fates.iter().take_while(|fate| settled(fate));
                let (mut bursts, mut burst, mut longest) = (0, 0, 0);
                for fate in judged {
                    burst = if fate.replies == 1 { 0 } else { burst + 1 };
                    bursts += u64::from(burst == 1);
                    longest = longest.max(burst);
                }
                assert_eq!((counts.bursts, counts.longest_burst), (bursts, longest));
            }
            let round_trips = self.machine.round_trips(host);
            let timed = round_trips.map_or(0, |trips| trips.by_clocks().map(|(_, of)| of.count()).sum());
            assert_eq!(counts.answered, timed);
            duplicates += counts.duplicates;
        }
        assert_eq!(duplicates, self.told.duplicates);
        assert_eq!(self.machine.counts().untold, 0);
    }
}
