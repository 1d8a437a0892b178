//! One connection of a netcat, and its datagrams.

use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_machine::{
    Carrier, Clock, DatagramMachine, Failure, Now, QuotedError, Received, Stamp, TransmitId,
};
use semfio_netcat::{
    Link, LinkCommand, LinkConfig, QUEUED, TRIES, Talk, TalkCommand, TalkConfig, TalkEvent, UdpCheck,
    UdpFound,
};

use crate::{Choices, drive};

/// Any bytes, ends, commands and pauses: a connection keeps the contract. Any datagrams and errors: what
/// is said leaves once, what waits is bounded, and each port has one verdict.
pub fn netcat(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    match first % 3 {
        0 => link(first, data),
        1 => talk(first, data),
        _ => check(data),
    }
}

fn link(config: u8, data: &[u8]) {
    let every = |bit: u8, time| (config & bit != 0).then_some(Duration::from_millis(time));
    let link = Link::new(LinkConfig { idle: every(16, 1_000), pause: every(32, 50) });
    drive::drive(link, data, |choices: &mut Choices<'_>, send| {
        let choice = choices.below(8);
        let n = choices.below(100);
        let bytes = Bytes::copy_from_slice(choices.bytes(n));
        send(match choice {
            0 => LinkCommand::Finish,
            1 => LinkCommand::Excuse,
            _ => LinkCommand::Send(&bytes),
        });
    });
}

fn address(host: usize, port: usize) -> SocketAddr {
    let host = u8::try_from(host).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), u16::try_from(port).unwrap_or(0))
}

/// A datagram from some neighbour, or an error about one of ours.
fn arrival(now: Now, choices: &mut Choices<'_>) -> Received {
    let error = QuotedError {
        offender: (choices.below(2) == 0).then(|| address(choices.below(3), 0).ip()),
        icmp_type: if choices.below(2) == 0 { 3 } else { choices.byte() },
        icmp_code: choices.byte() % 16,
        ..QuotedError::default()
    };
    Received {
        source: address(choices.below(3), choices.below(3) + 1_023),
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp: Stamp { at: now.mono, clock: Clock::User },
        error: (choices.below(3) == 0).then_some(error),
    }
}

fn talk(config: u8, data: &[u8]) {
    let choices = &mut Choices::new(data);
    let mut talk = Talk::new(TalkConfig {
        peer: (config & 16 != 0).then(|| address(1, 1_024)),
        many: config & 32 != 0,
        reply: (config & 64 != 0).then_some(Bytes::from_static(b"ARK!")),
        wait: (config & 128 != 0).then_some(Duration::from_millis(100)),
    });
    let mut now = Now::default();
    let (mut said, mut left) = (0, 0);
    let mut with_host: Vec<TransmitId> = Vec::new();
    while !choices.is_empty() {
        match choices.below(6) {
            0 => {
                let n = choices.below(300);
                let say = TalkCommand::Say(choices.bytes(n));
                said += u32::from(talk.handle_command(now, say).is_ok());
                if n == 299 {
                    let end = TalkCommand::End(Duration::from_millis(70));
                    assert!(talk.handle_command(now, end).is_ok());
                }
            }
            1 | 2 => {
                let received = arrival(now, choices);
                let (n, accepts) = (choices.below(20), talk.accepts(&received, &[]));
                let mut payload = choices.bytes(n).to_vec();
                let told = talk.handle_datagram(now, received, &mut payload);
                assert_eq!(told.is_some(), accepts, "strangers are not told, others are");
            }
            3 => {
                let mut buf = Vec::new();
                if let Some(transmit) = talk.poll_transmit(now, &mut buf) {
                    assert_eq!(transmit.size, buf.len());
                    with_host.push(transmit.id);
                }
            }
            4 if !with_host.is_empty() => {
                let id = with_host.remove(choices.below(with_host.len()));
                match choices.below(2) {
                    0 => talk.handle_send_error(now, id, Failure::Unreachable),
                    _ => talk.handle_sent(now, id, Stamp { at: now.mono, clock: Clock::User }),
                }
            }
            _ => {
                let time = Duration::from_millis(choices.below(256) as u64);
                now.mono = now.mono.saturating_add(time);
                talk.handle_timeout(now);
                assert!(talk.poll_timeout().is_none_or(|next| next.at > now.mono));
            }
        }
        while let Some(event) = talk.poll_event() {
            left += u32::from(matches!(event, TalkEvent::Sent(..)));
        }
    }
    assert!(left <= said, "{left} of {said} have left");
    let mut bytes = 0;
    let mut buf = Vec::new();
    while let Some(transmit) = talk.poll_transmit(now, &mut buf) {
        bytes += buf.len();
        buf.clear();
        with_host.push(transmit.id);
    }
    assert!(bytes <= QUEUED);
    for id in with_host {
        talk.handle_sent(now, id, Stamp { at: now.mono, clock: Clock::Kernel });
        while let Some(event) = talk.poll_event() {
            left += u32::from(matches!(event, TalkEvent::Sent(..)));
        }
    }
    assert!(left == said || talk.peer().is_none(), "{left} of {said} have left");
}

fn check(data: &[u8]) {
    let choices = &mut Choices::new(data);
    let targets: Vec<_> =
        (0..choices.below(8)).map(|_| address(choices.below(3), choices.below(3) + 1_023)).collect();
    let mut check = UdpCheck::new(targets.clone(), Duration::from_millis(90));
    let mut now = Now::default();
    let mut found: Vec<UdpFound> = Vec::new();
    let (mut asked, mut calls) = (0, 0);
    while !check.is_over() {
        calls += 1;
        assert!(calls < 10_000, "it comes to an end");
        let mut buf = Vec::new();
        while let Some(transmit) = check.poll_transmit(now, &mut buf) {
            assert_eq!(Some(&transmit.destination), targets.get(found.len()));
            asked += 1;
            if choices.below(16) == 1 {
                check.handle_send_error(now, transmit.id, Failure::Unreachable);
            }
            found.extend(core::iter::from_fn(|| check.poll_event()));
            buf.clear();
        }
        if choices.below(2) == 1 {
            let received = arrival(now, choices);
            check.handle_datagram(now, received, &mut buf);
        }
        now.mono = now.mono.saturating_add(Duration::from_millis(choices.below(40) as u64 + 1));
        check.handle_timeout(now);
        assert!(check.poll_timeout().is_none_or(|next| next.at > now.mono));
        found.extend(core::iter::from_fn(|| check.poll_event()));
    }
    assert!(found.iter().map(|found| found.target).eq(targets.iter().copied()));
    assert!(asked <= targets.len() * TRIES as usize);
}
