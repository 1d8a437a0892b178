//! The echo protocol.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_echo::{ClientConfig, ClientEvent, DatagramClient, DatagramServer, Ping, Server};
use semfio_machine::{Carrier, Clock, DatagramMachine, Failure, Now, Received, Seed, Stamp};
use semfio_sim::laws::Subject;

use crate::Choices;

/// The stream server keeps every law, and a datagram client over a bad network tells what became
/// of each datagram, once.
pub fn echo(data: &[u8]) {
    let subject = Subject::new(Server::new, |bytes: &[u8]| bytes.to_vec())
        .with_merge(|all: &mut Vec<u8>, more| {
            all.extend_from_slice(more);
            true
        });
    // Every cut of the wire is tried: few bytes are enough.
    let wire = data.get(..data.len().min(20)).unwrap_or_default();
    if let Err(violation) = subject.check(wire) {
        panic!("{violation:?}");
    }
    datagrams(data);
}

fn datagrams(data: &[u8]) {
    let [ours, theirs] = [4_000, 7_000].map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let config = ClientConfig { timeout: Duration::from_nanos(50), pending: 8, held: 256 };
    let mut client = DatagramClient::new(theirs, &Seed::from_u64(1), config);
    let mut server = DatagramServer::new();
    let mut choices = Choices::new(data);
    let mut now = Now::default();
    // What was said of each number: it was sent, and it was settled.
    let (mut asked, mut settled) = (0_u64, Vec::new());
    let mut on_the_way: Vec<Vec<u8>> = Vec::new();
    let mut say = |event: ClientEvent<'_>| match event {
        ClientEvent::Reply { number, .. }
        | ClientEvent::Altered { number, .. }
        | ClientEvent::Lost { number }
        | ClientEvent::Failed { number, .. } => settled.push(number),
        _ => {}
    };
    while !choices.is_empty() {
        let stamp = Stamp { at: now.mono, clock: Clock::User };
        let received = |source| Received {
            source,
            destination: None,
            hop_limit: None,
            traffic_class: None,
            carrier: Carrier::Udp,
            stamp,
            error: None,
        };
        match choices.below(6) {
            0 | 1 => {
                let n = choices.below(32);
                let payload = choices.bytes(n);
                if client.handle_command(now, Ping { payload }).is_ok() {
                    asked += 1;
                }
                let mut datagram = Vec::new();
                while let Some(transmit) = client.poll_transmit(now, &mut datagram) {
                    assert_eq!(transmit.size, datagram.len());
                    if choices.below(8) == 0 {
                        client.handle_send_error(now, transmit.id, Failure::Unreachable);
                    } else {
                        client.handle_sent(now, transmit.id, stamp);
                        on_the_way.push(core::mem::take(&mut datagram));
                    }
                    datagram.clear();
                }
            }
            2 | 3 if !on_the_way.is_empty() => {
                let at = choices.below(on_the_way.len());
                let mut there = on_the_way[at].clone();
                if choices.below(4) > 0 {
                    on_the_way.remove(at); // or it is duplicated
                }
                server.handle_datagram(now, received(ours), &mut there);
                let mut back = Vec::new();
                while let Some(transmit) = server.poll_transmit(now, &mut back) {
                    assert_eq!(transmit.destination, ours);
                    assert!(back.len() <= there.len(), "an answer is never larger");
                    if choices.below(8) == 0 {
                        let at = choices.below(back.len());
                        back[at] ^= 1;
                    }
                    client.handle_datagram(now, received(theirs), &mut back).map(&mut say);
                    back.clear();
                }
            }
            4 => now.mono = now.mono.saturating_add(Duration::from_nanos(choices.below(64) as u64)),
            _ => {
                // From anyone, to either.
                let n = choices.below(40);
                let mut wild = choices.bytes(n).to_vec();
                client.handle_datagram(now, received(theirs), &mut wild).map(&mut say);
                server.handle_datagram(now, received(theirs), &mut wild);
                while server.poll_transmit(now, &mut wild).is_some() {
                    wild.clear();
                }
            }
        }
        if client.poll_timeout().is_some_and(|deadline| deadline.at <= now.mono) {
            client.handle_timeout(now);
            assert!(client.poll_timeout().is_none_or(|deadline| deadline.at > now.mono));
        }
        while let Some(event) = client.poll_event() {
            say(event);
        }
        assert!(client.pending() <= config.pending);
    }
    now.mono = now.mono.saturating_add(Duration::from_secs(1));
    client.handle_timeout(now);
    while let Some(event) = client.poll_event() {
        say(event);
    }
    settled.sort_unstable();
    assert!(settled.iter().copied().eq(0..asked), "asked {asked}, told {settled:?}");
}
