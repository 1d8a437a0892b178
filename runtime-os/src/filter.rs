//! What a raw socket is spared: it would otherwise see all packets of its protocol on this machine.

use std::io;
use std::ops::RangeInclusive;

use nix::libc;
use socket2::{SockFilter, Socket};

/// The types of ICMP that answer somebody: echo reply, unreachable, time exceeded, parameter problem.
const ICMP_ANSWERS: [u8; 4] = [0, 3, 11, 12];

/// The types of ICMPv6 that do: the same and packet too big.
const ICMPV6_ANSWERS: [u8; 5] = [1, 2, 3, 4, 129];

/// Only messages that answer what somebody here has sent.
pub(crate) fn answers(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    let types = if is_ipv6 { &ICMPV6_ANSWERS[..] } else { &ICMP_ANSWERS };
    let mut program = to_transport(is_ipv6);
    program.push(load(libc::BPF_B, 0));
    for (place, &icmp_type) in types.iter().enumerate() {
        // Over the other comparisons and the refusal.
        let take = u8::try_from(types.len() - place).unwrap_or(u8::MAX);
        program.push(jump(libc::BPF_JEQ, icmp_type.into(), take, 0));
    }
    program.extend([refuse(), take()]);
    socket.attach_filter(&program)
}

/// Only segments or datagrams to these ports of ours.
pub(crate) fn ports(socket: &Socket, is_ipv6: bool, ports: &RangeInclusive<u16>) -> io::Result<()> {
    let mut program = to_transport(is_ipv6);
    program.extend([
        load(libc::BPF_H, 2),
        jump(libc::BPF_JGE, (*ports.start()).into(), 0, 1),
        jump(libc::BPF_JGT, (*ports.end()).into(), 0, 1),
        refuse(),
        take(),
    ]);
    socket.attach_filter(&program)
}

/// Puts the place of the transport header into the index register: raw sockets of IPv4 are handed
/// the IP header too.
fn to_transport(is_ipv6: bool) -> Vec<SockFilter> {
    vec![match is_ipv6 {
        false => instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        true => instruction(libc::BPF_LDX | libc::BPF_IMM, 0, 0, 0),
    }]
}

fn load(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_IND, 0, 0, offset)
}

fn jump(on: u32, value: u32, so: u8, otherwise: u8) -> SockFilter {
    instruction(libc::BPF_JMP | on | libc::BPF_K, so, otherwise, value)
}

fn refuse() -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0)
}

fn take() -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX)
}

fn instruction(code: u32, so: u8, otherwise: u8, value: u32) -> SockFilter {
    SockFilter::new(u16::try_from(code).unwrap_or(u16::MAX), so, otherwise, value)
}
