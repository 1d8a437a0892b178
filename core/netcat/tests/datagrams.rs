//! Talks over datagrams, and questions about ports.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Instant, Now, QuotedError, Received, Refused, Stamp,
    UnixTime,
};
use semfio_netcat::{
    LARGEST, QUEUED, TRIES, Talk,
    TalkCommand::{self, Say},
    TalkConfig, TalkEvent, UdpCheck, UdpFound, UdpVerdict,
};
use semfio_sim::{Chance, LinkConfig, Network};

fn ms(ms: u64) -> Now {
    Now { mono: Instant::from_nanos(ms * 1_000_000), unix: UnixTime::from_nanos(0) }
}

fn address(host: u8, port: u16) -> SocketAddr {
    ([192, 0, 2, host], port).into()
}

fn received(source: SocketAddr, error: Option<QuotedError>) -> Received {
    let stamp = Stamp { at: ms(0).mono, clock: Clock::User };
    Received {
        source,
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp,
        error,
    }
}

fn icmp(icmp_type: u8, icmp_code: u8, offender: SocketAddr) -> Option<QuotedError> {
    Some(QuotedError {
        offender: Some(offender.ip()),
        icmp_type,
        icmp_code,
        ..QuotedError::default()
    })
}

fn client(wait: Option<Duration>) -> Talk {
    Talk::new(TalkConfig { peer: Some(address(1, 9)), many: false, reply: None, wait })
}

fn server(many: bool, reply: Option<&'static [u8]>) -> Talk {
    let reply = reply.map(Bytes::from_static);
    Talk::new(TalkConfig { peer: None, many, reply, wait: None })
}

/// An event, kept.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Received(SocketAddr, Vec<u8>),
    Sent(usize),
    Other(String),
}

fn seen(event: TalkEvent<'_>) -> Seen {
    match event {
        TalkEvent::Received(from, bytes) => Seen::Received(from, bytes.to_vec()),
        TalkEvent::Sent(len, _, None) => Seen::Sent(len),
        other => Seen::Other(format!("{other:?}")),
    }
}

#[test]
fn what_is_said_arrives_as_it_was_cut_and_is_answered() {
    let mut net = Network::new(1);
    let there = net.add_datagram(address(1, 9), server(true, Some(b"ARK!")), seen);
    let here = net.add_datagram(address(2, 4000), client(None), seen);
    for text in ["one", "", "two"] {
        net.command(here, Say(text.as_bytes())).unwrap();
    }
    net.run_until_idle().unwrap();
    let from = address(2, 4000);
    let said = ["one", "", "two"].map(|text| Seen::Received(from, text.into()));
    assert!(net.events(there).iter().map(|(_, event)| event).eq(&said));
    let answer = || Seen::Received(address(1, 9), b"ARK!".to_vec());
    let heard: Vec<_> = net.events(here).iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(heard.iter().filter(|event| **event == answer()).count(), 3);
    let sent = |event: &&Seen| matches!(event, Seen::Sent(_));
    assert_eq!(heard.iter().filter(sent).count(), 3);
    // The other way round, to whoever spoke last.
    net.command(there, Say(b"and you?")).unwrap();
    net.run_until_idle().unwrap();
    let last = &net.events(here).last().unwrap().1;
    assert_eq!(last, &Seen::Received(address(1, 9), b"and you?".to_vec()));
}

#[test]
fn strangers_are_not_heard() {
    let mut net = Network::new(1);
    let here = net.add_datagram(address(2, 4000), client(None), seen);
    let one = net.add_datagram(address(3, 9), server(false, None), seen);
    net.send_datagram(address(9, 9), address(2, 4000), b"spam");
    net.send_datagram(address(1, 8), address(2, 4000), b"spam");
    net.send_datagram(address(7, 7), address(3, 9), b"the first");
    net.run_until_idle().unwrap();
    net.send_datagram(address(8, 7), address(3, 9), b"another");
    net.run_until_idle().unwrap();
    assert!(net.events(here).is_empty());
    assert_eq!(net.events(one).len(), 1);
}

#[test]
fn a_server_says_nothing_before_somebody_is_there() {
    let mut talk = server(false, None);
    talk.handle_command(ms(0), Say(b"hello")).unwrap();
    let mut buf = Vec::new();
    assert!(talk.poll_transmit(ms(0), &mut buf).is_none());
    talk.handle_datagram(ms(1), received(address(5, 5000), None), &mut b"hi".to_vec());
    assert_eq!(talk.poll_transmit(ms(1), &mut buf).unwrap().destination, address(5, 5000));
    assert_eq!(buf, b"hello");
}

#[test]
fn no_reply_goes_to_a_system_port_nor_to_itself_nor_without_bound() {
    let mut talk = server(true, Some(&[b'!'; 1000]));
    talk.handle_datagram(ms(0), received(address(1, 53), None), &mut b"x".to_vec());
    talk.handle_datagram(ms(0), received(address(1, 5353), None), &mut vec![b'!'; 1000]);
    assert!(talk.poll_transmit(ms(0), &mut Vec::new()).is_none());
    assert_eq!(talk.counts().unanswered, 2);
    for _ in 0..1000 {
        talk.handle_datagram(ms(0), received(address(1, 5353), None), &mut b"x".to_vec());
    }
    let replies = std::iter::from_fn(|| talk.poll_transmit(ms(0), &mut Vec::new())).count();
    assert!(replies > 200 && replies * 1000 <= QUEUED, "{replies}");
    assert_eq!(talk.counts().unanswered, 2 + 1000 - replies as u64);
}

#[test]
fn what_waits_is_bounded() {
    let mut talk = client(None);
    let too_long = talk.handle_command(ms(0), Say(&vec![0; LARGEST + 1]));
    assert_eq!(too_long, Err(Refused::Invalid("more than a datagram holds")));
    let mut taken = 0;
    while talk.handle_command(ms(0), Say(&vec![0; LARGEST])).is_ok() {
        taken += LARGEST;
    }
    assert!((QUEUED - LARGEST - 1000..=QUEUED).contains(&taken));
    let mut empty = 0;
    while talk.handle_command(ms(0), Say(b"")).is_ok() {
        empty += 1;
    }
    assert!(empty < QUEUED / 64);
    while talk.poll_transmit(ms(0), &mut Vec::new()).is_some() {}
    assert!(talk.handle_command(ms(0), Say(&vec![0; LARGEST])).is_ok());
}

#[test]
fn errors_are_told_and_idleness_once() {
    let mut talk = client(Some(Duration::from_secs(1)));
    talk.handle_command(ms(0), Say(b"hi")).unwrap();
    let transmit = talk.poll_transmit(ms(0), &mut Vec::new()).unwrap();
    talk.handle_send_error(ms(0), transmit.id, Failure::Unreachable);
    let failed = TalkEvent::Sent(2, address(1, 9), Some(Failure::Unreachable));
    assert_eq!(talk.poll_event(), Some(failed));
    let error = icmp(3, 3, address(1, 0)).unwrap();
    let mut quoted = b"hi".to_vec();
    let told = talk.handle_datagram(ms(1), received(address(1, 9), Some(error)), &mut quoted);
    assert_eq!(told, Some(TalkEvent::Unreachable(address(1, 9), error)));
    assert_eq!(talk.poll_timeout().unwrap().at, ms(1000).mono);
    talk.handle_timeout(ms(999));
    assert_eq!(talk.poll_event(), None);
    talk.handle_timeout(ms(1000));
    assert_eq!(talk.poll_event(), Some(TalkEvent::Idle));
    assert_eq!(talk.poll_timeout(), None);
}

#[test]
fn the_end_comes_after_all_has_left() {
    let mut talk = client(None);
    talk.handle_command(ms(0), Say(b"hi")).unwrap();
    talk.handle_command(ms(0), TalkCommand::End(Duration::from_secs(1))).unwrap();
    assert_eq!(talk.poll_timeout(), None, "something is still here");
    let transmit = talk.poll_transmit(ms(500), &mut Vec::new()).unwrap();
    talk.handle_sent(ms(500), transmit.id, Stamp { at: ms(500).mono, clock: Clock::User });
    assert_eq!(talk.poll_timeout().unwrap().at, ms(1500).mono);
    talk.handle_timeout(ms(1499));
    talk.handle_timeout(ms(1500));
    let told: Vec<_> = std::iter::from_fn(|| talk.poll_event()).collect();
    assert_eq!(told, [TalkEvent::Sent(2, address(1, 9), None), TalkEvent::Done]);
    assert_eq!(talk.poll_timeout(), None);
}

#[test]
fn over_a_bad_network_nothing_is_made_up() {
    for seed in 0..50 {
        let mut net = Network::new(seed);
        net.set_default_link(LinkConfig::rough(seed));
        let there = net.add_datagram(address(1, 9), server(true, Some(b"ARK!")), seen);
        let here = net.add_datagram(address(2, 4000), client(None), seen);
        for n in 0..50_u8 {
            net.command(here, Say(&[n; 20])).unwrap();
        }
        net.run_until_idle().unwrap();
        for (_, event) in net.events(there) {
            let Seen::Received(from, bytes) = event else { continue };
            assert_eq!(*from, address(2, 4000));
            assert!(bytes.len() == 20 && bytes.iter().all(|byte| *byte == bytes[0]));
        }
        let sent = |(_, event): &&(Now, Seen)| matches!(event, Seen::Sent(20));
        assert_eq!(net.events(here).iter().filter(sent).count(), 50, "seed {seed}");
    }
}

fn check(ports: &[u16]) -> UdpCheck {
    let targets = ports.iter().map(|&port| address(1, port)).collect();
    UdpCheck::new(targets, Duration::from_millis(900))
}

/// The verdict on one port, when `answer` comes 100 ms after a question.
fn verdict_on(answer: Received) -> UdpVerdict {
    let mut check = check(&[9]);
    assert!(!check.accepts(&answer, b""), "before there is a question, nothing is an answer");
    let mut buf = Vec::new();
    let transmit = check.poll_transmit(ms(0), &mut buf).unwrap();
    assert_eq!((transmit.destination, &*buf), (address(1, 9), &b"\n"[..]));
    assert!(check.poll_transmit(ms(0), &mut Vec::new()).is_none(), "one at a time");
    check.handle_datagram(ms(100), answer, &mut []);
    for at in [300, 600, 900] {
        check.handle_timeout(ms(at));
        check.poll_transmit(ms(at), &mut Vec::new());
    }
    let found = check.poll_event().unwrap();
    assert!(check.is_over());
    assert_eq!(found.target, address(1, 9));
    found.verdict
}

#[test]
fn a_port_is_what_its_answer_says() {
    let (there, router) = (address(1, 9), address(200, 0));
    let quoted = |icmp_type, code, from| received(there, icmp(icmp_type, code, from));
    assert_eq!(verdict_on(received(there, None)), UdpVerdict::Open);
    assert_eq!(verdict_on(quoted(3, 3, there)), UdpVerdict::Closed);
    for (code, from) in
        [(13, router), (10, router), (9, router), (1, router), (3, router), (13, there)]
    {
        let verdict = UdpVerdict::Filtered(icmp(3, code, from).unwrap());
        assert_eq!(verdict_on(quoted(3, code, from)), verdict, "{code}");
    }
    // Time exceeded says nothing of the port; nor does a stranger.
    assert_eq!(verdict_on(quoted(11, 0, router)), UdpVerdict::OpenOrFiltered);
    assert_eq!(verdict_on(received(address(1, 8), None)), UdpVerdict::OpenOrFiltered);
    let mut unsent = check(&[9]);
    let transmit = unsent.poll_transmit(ms(0), &mut Vec::new()).unwrap();
    unsent.handle_send_error(ms(0), transmit.id, Failure::Unreachable);
    assert_eq!(unsent.poll_event().unwrap().verdict, UdpVerdict::Unsent(Failure::Unreachable));
}

#[test]
fn over_ipv6_the_numbers_are_others() {
    let there: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
    for (code, verdict) in [(4, Some(UdpVerdict::Closed)), (1, None)] {
        let mut check = UdpCheck::new(vec![there], Duration::from_secs(1));
        let _ = check.poll_transmit(ms(0), &mut Vec::new()).unwrap();
        check.handle_datagram(ms(1), received(there, icmp(1, code, there)), &mut []);
        let found = check.poll_event().unwrap().verdict;
        assert_eq!(found, verdict.unwrap_or(UdpVerdict::Filtered(icmp(1, 1, there).unwrap())));
    }
}

/// With half of all lost, no open port is called closed, and silence is not called open.
#[test]
fn ports_are_asked_in_turn_and_more_than_once() {
    let mut net = Network::new(3);
    let lossy = LinkConfig { loss: Chance::percent(50), ..LinkConfig::default() };
    net.set_default_link(lossy);
    for port in [7, 9] {
        net.add_datagram(address(1, port), server(true, Some(b"!")), seen);
    }
    net.bind_raw(address(1, 8));
    let id = net.add_datagram(address(2, 4000), check(&[7, 8, 9]), |found: UdpFound| found);
    net.run_until_idle().unwrap();
    let found: Vec<_> = net.events(id).iter().map(|(_, found)| *found).collect();
    let ports: Vec<_> = found.iter().map(|found| found.target.port()).collect();
    assert_eq!(ports, [7, 8, 9]);
    assert_eq!(found[1].verdict, UdpVerdict::OpenOrFiltered);
    for found in [found[0], found[2]] {
        assert!(matches!(found.verdict, UdpVerdict::Open | UdpVerdict::OpenOrFiltered));
    }
    let asked = net.take_datagrams(address(1, 8)).len();
    assert!(asked <= TRIES as usize, "{asked}");
    assert!(net.machine(id).is_over());
}
