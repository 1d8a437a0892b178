//! A scan by half-open connections: a SYN, and what comes back. No connection is ever made, since the
//! system, which knows of none, answers a SYN of the other side with a reset.
//!
//! What becomes of a question:
//!
//! | is | what comes | becomes | tells |
//! |---|---|---|---|
//! | waiting | the window has room | asked | |
//! | asked | SYN and ACK of our number | over | `Open` |
//! | asked | RST and ACK of our number | over | `Closed` |
//! | asked | ICMP: prohibited, or nobody takes TCP | over | `Filtered`, and who says so |
//! | asked | ICMP: no way, too many hops | over | `Unreachable`, and who says so |
//! | asked | silence, as long as round trips allow | waiting, `retries` times, then over | `Filtered` |
//! | asked | the system does not send it | waiting or over, as its reason is | `Unreachable`, `Unasked` |
//!
//! The number of each SYN is drawn from the seed by host, port and try. Whoever cannot see it cannot
//! acknowledge it, nor quote it: what does not fit is counted as foreign and says nothing. The number
//! also says which try is answered, so that each round trip is that of its own question.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use etherparse::{TcpHeader, TcpHeaderSlice, TcpOptionElement, ip_number};
use rand_core::RngCore as _;
use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Now, Received, Refused, Seed, Stamp, Transmit,
    TransmitId,
};

use super::desk::{Desk, Key, id_of, verdict};
use super::{IcmpReason, PortState, Question, Quit, Reason, ScanConfig, ScanCounts, ScanEvent};
use crate::icmp::{Family, Message};

/// What we could receive in a segment, by the MTU of Ethernet. Some filters drop a SYN without it.
const SEGMENT: u16 = 1_460;

/// What we could receive at once, as systems have it.
const WINDOW: u16 = 64_240;

/// A scan by half-open connections, over [`Carrier::RawTcp`] and [`Carrier::RawIcmp`].
#[derive(Debug)]
pub struct SynScan {
    desk: Desk,
    /// By host: the address of ours that the system sends from.
    sources: Vec<IpAddr>,
    port: u16,
    seed: Seed,
    foreign: u64,
    told: bool,
}

impl SynScan {
    /// A scan from `port` of ours, which nobody else may use. With each host comes the address of
    /// ours that it is asked from. The ports of both are not looked at.
    ///
    /// # Errors
    ///
    /// There is nothing to ask, a host is named twice, or more than the bounds allow.
    pub fn new(
        hosts: &[(SocketAddr, IpAddr)],
        port: u16,
        seed: Seed,
        config: ScanConfig,
    ) -> Result<Self, Refused> {
        let addresses: Vec<SocketAddr> = hosts.iter().map(|(host, _)| *host).collect();
        let sources = hosts.iter().map(|(_, source)| *source).collect();
        let desk = Desk::new(&addresses, config)?;
        Ok(Self { desk, sources, port, seed, foreign: 0, told: false })
    }

    /// How it goes.
    pub fn counts(&self) -> ScanCounts {
        ScanCounts { foreign: self.foreign, ..self.desk.counts() }
    }

    /// The number of the SYN of a try.
    fn number(&self, (host, port): Key, tries: u8) -> u32 {
        let host = u64::try_from(host).unwrap_or(u64::MAX);
        self.seed.stream(host << 24 | u64::from(port) << 8 | u64::from(tries)).next_u32()
    }

    /// Which try has this number; the latest first.
    fn try_of(&self, key: Key, number: u32) -> Option<u8> {
        let tries = self.desk.tries(key)?;
        (0..=tries).rev().find(|&tries| self.number(key, tries) == number)
    }

    /// What a segment says: of which question, of which try, and what.
    fn segment(&self, meta: &Received, bytes: &[u8]) -> Option<(Key, u8, PortState, Reason)> {
        let header = TcpHeaderSlice::from_slice(bytes).ok()?;
        let host = self.desk.host(meta.source.ip())?;
        let (state, reason) = match (header.syn(), header.rst(), header.ack()) {
            (true, false, true) => (PortState::Open, Reason::SynAck),
            (false, true, true) => (PortState::Closed, Reason::Reset),
            _ => return None,
        };
        if header.destination_port() != self.port {
            return None;
        }
        let key = (host, header.source_port());
        let number = header.acknowledgment_number().wrapping_sub(1);
        Some((key, self.try_of(key, number)?, state, reason))
    }

    fn error(&self, meta: &Received, bytes: &[u8]) -> Option<(Key, u8, PortState, Reason)> {
        let family = Family::of(meta.source.ip());
        let Ok(Message::Error(error)) = Message::parse(family, bytes) else {
            return None;
        };
        let quoted = error.quoted()?;
        let (ours, port) = quoted.ports()?;
        if ours != self.port || quoted.protocol != ip_number::TCP.0 {
            return None;
        }
        let host = self.desk.host(quoted.destination)?;
        let (&[_, _, _, _, a, b, c, d], _) = quoted.transport.split_first_chunk()?;
        let key = (host, port);
        let tries = self.try_of(key, u32::from_be_bytes([a, b, c, d]))?;
        let (icmp_type, icmp_code) = (error.icmp_type, error.icmp_code);
        let icmp = IcmpReason { from: Some(meta.source.ip()), icmp_type, icmp_code };
        let state = verdict(quoted.destination, icmp)?;
        Some((key, tries, state, Reason::Icmp(icmp)))
    }

    fn put(&self, question: &Question, source: IpAddr, buf: &mut Vec<u8>) {
        let Question { host, target, tries } = *question;
        let number = self.number((host, target.port()), tries);
        let mut header = TcpHeader::new(self.port, target.port(), number, WINDOW);
        header.syn = true;
        let _ = header.set_options(&[TcpOptionElement::MaximumSegmentSize(SEGMENT)]);
        let checksum = match (source, target.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[])
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[])
            }
            _ => Ok(0),
        };
        header.checksum = checksum.unwrap_or_default();
        buf.extend_from_slice(&header.to_bytes());
    }
}

impl DatagramMachine for SynScan {
    type Event<'i> = ScanEvent;
    type Command<'c> = Quit;

    fn accepts(&self, meta: &Received, _: &[u8]) -> bool {
        matches!(meta.carrier, Carrier::RawTcp | Carrier::RawIcmp)
    }

    fn handle_datagram(&mut self, now: Now, meta: Received, bytes: &mut [u8]) -> Option<ScanEvent> {
        let said = match meta.carrier {
            Carrier::RawTcp => self.segment(&meta, bytes),
            Carrier::RawIcmp => self.error(&meta, bytes),
            _ => None,
        };
        let answered = said.and_then(|(key, tries, state, reason)| {
            let (question, took) = self.desk.answered(now, key, meta.stamp, Some(tries))?;
            Some((question, state, reason, took))
        });
        match answered {
            Some((question, state, reason, took)) => self.desk.tell(question, state, reason, took),
            None => self.foreign = self.foreign.saturating_add(1),
        }
        None
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        self.desk.handle_sent(id, stamp);
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        self.desk.handle_send_error(now, id, failure);
    }

    fn handle_command(&mut self, _: Now, Quit: Quit) -> Result<(), Refused> {
        self.desk.stop();
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let question = self.desk.next(now)?;
        let source = self.sources.get(question.host).copied()?;
        self.put(&question, source, buf);
        Some(Transmit {
            id: id_of((question.host, question.target.port())),
            destination: question.target,
            size: buf.len(),
            segment_size: None,
            hop_limit: None,
            source: Some(source),
            carrier: Carrier::RawTcp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.desk.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(question) = self.desk.poll_silent(now) {
            self.desk.tell(question, PortState::Filtered, Reason::Silence, None);
        }
    }

    fn poll_event(&mut self) -> Option<ScanEvent> {
        if let Some(found) = self.desk.poll_found() {
            return Some(ScanEvent::Found(found));
        }
        let ends = self.desk.is_idle() && !self.told;
        self.told |= ends;
        ends.then_some(ScanEvent::Ended)
    }
}
