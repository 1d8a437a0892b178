//! Packets on their way, and their octets.

use alloc::vec::Vec;
use core::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::ip_number;

use super::{Addresses, Rewrite};
use crate::icmp::Family;

/// A packet as a router sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
    /// The identification of IPv4, the flow label of IPv6.
    pub(super) label: u32,
    pub(super) may_fragment: bool,
    pub(super) protocol: u8,
    /// From the transport header on.
    pub(super) transport: Vec<u8>,
}

impl Packet {
    pub(super) fn family(&self) -> Family {
        Family::of(self.destination)
    }

    /// Octets of the whole.
    pub(super) fn len(&self) -> usize {
        let header = if self.family() == Family::V4 { 20 } else { 40 };
        self.transport.len().saturating_add(header)
    }

    pub(super) fn is_icmp(&self) -> bool {
        [ip_number::ICMP.0, ip_number::IPV6_ICMP.0].contains(&self.protocol)
    }

    /// The ports of UDP or TCP: source and destination.
    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let &[a, b, c, d] = self.transport.first_chunk()?;
        (!self.is_icmp()).then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The IP header and all behind it.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                out.extend_from_slice(&[0x45, self.traffic_class]);
                out.extend_from_slice(&length(self.len()));
                out.extend_from_slice(&((self.label & 0xffff) as u16).to_be_bytes());
                out.extend_from_slice(&[if self.may_fragment { 0 } else { 0x40 }, 0]);
                out.extend_from_slice(&[self.hop_limit, self.protocol, 0, 0]);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&destination.octets());
                let sum = Sum16BitWords::new().add_slice(&out).ones_complement();
                put_at(&mut out, 10, sum.to_ne_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.label & 0xf_ffff;
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&length(self.transport.len()));
                out.extend_from_slice(&[self.protocol, self.hop_limit]);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&destination.octets());
            }
            _ => {}
        }
        out.extend_from_slice(&self.transport);
        out
    }

    /// Makes the checksum of UDP, TCP and ICMP fit.
    pub(super) fn sum_up(&mut self) {
        let place = match self.protocol {
            protocol if protocol == ip_number::UDP.0 => 6,
            protocol if protocol == ip_number::TCP.0 => 16,
            _ => 2,
        };
        put_at(&mut self.transport, place, [0, 0]);
        let length = u32::try_from(self.transport.len()).unwrap_or(u32::MAX);
        let mut sum = Sum16BitWords::new();
        // All but ICMP sum up the addresses too.
        if self.protocol != ip_number::ICMP.0 {
            sum = match (self.source, self.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    sum.add_slice(&source.octets()).add_slice(&destination.octets())
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    sum.add_slice(&source.octets()).add_slice(&destination.octets())
                }
                _ => sum,
            };
            sum = sum.add_2bytes([0, self.protocol]).add_4bytes(length.to_be_bytes());
        }
        let sum = sum.add_slice(&self.transport);
        let sum = match self.protocol == ip_number::UDP.0 {
            true => sum.to_ones_complement_with_no_zero(),
            false => sum.ones_complement(),
        };
        put_at(&mut self.transport, place, sum.to_ne_bytes());
    }

    /// Changed as a router on the way does.
    pub(super) fn rewrite(&mut self, how: &Rewrite) {
        if let Some(class) = how.traffic_class {
            self.traffic_class = class;
        }
        if *how == (Rewrite { traffic_class: how.traffic_class, ..Rewrite::default() }) {
            return;
        }
        if let Some(source) = how.source {
            self.source = Addresses::like(source, self.source);
        }
        if let Some((source, destination)) = self.ports() {
            let source = how.source_port.unwrap_or(source);
            let destination = how.destination_port.unwrap_or(destination);
            put_at(&mut self.transport, 0, source.to_be_bytes());
            put_at(&mut self.transport, 2, destination.to_be_bytes());
        }
        self.sum_up();
    }

    /// What routers take for a flow.
    pub(super) fn flow(&self, seed: u64) -> u64 {
        let mut hash = mix(seed, u64::from(self.protocol));
        hash = mix(mix(hash, number(self.source)), number(self.destination));
        let begins = self.transport.first_chunk::<4>().copied().unwrap_or_default();
        hash = mix(hash, u64::from(u32::from_be_bytes(begins)));
        match self.family() {
            Family::V4 => hash,
            Family::V6 => mix(hash, u64::from(self.label)),
        }
    }
}

/// An address, less what is the same in all of this internet.
pub(super) fn number(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            mix((bits >> 64) as u64, bits as u64)
        }
    }
}

/// One number after the other into a hash: the finalizer of SplitMix64.
pub(super) fn mix(hash: u64, more: u64) -> u64 {
    let mut z = hash.wrapping_add(more).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

pub(super) fn put_at(octets: &mut [u8], place: usize, value: [u8; 2]) {
    if let Some(slot) = octets.get_mut(place..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = value;
    }
}
