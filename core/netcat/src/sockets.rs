//! The tables of sockets that Linux shows as text: `/proc/net/tcp`, `tcp6`, `udp`, `udp6`.
//!
//! Addresses stand there in hexadecimal, in words of 32 bits as this processor keeps them, ports as
//! numbers. What does not read as a row is left out: the first line is a heading, and a later kernel
//! may add columns.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What carries a socket's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The state of a socket (RFC 9293, section 3.3.2), under the names of netstat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketState {
    /// A connection stands; of UDP, the peer is fixed.
    Established,
    /// It is dialled.
    SynSent,
    /// A peer's first segment was answered.
    SynReceived,
    /// Closed by us; the peer has not acknowledged that.
    FinWait1,
    /// Closed by us; the peer has not closed.
    FinWait2,
    /// Over; late segments are waited for.
    TimeWait,
    /// Not used.
    Close,
    /// Closed by the peer; we have not closed.
    CloseWait,
    /// Closed by both; the peer has not acknowledged ours.
    LastAck,
    /// Peers are waited for.
    Listen,
    /// Closed by both at once.
    Closing,
    /// Of UDP: anybody may send to it.
    Unconnected,
}

impl SocketState {
    /// Its name as netstat shows it; of UDP without a peer, none.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::Unconnected => "",
        }
    }

    fn of_number(transport: Transport, number: u8) -> Option<Self> {
        Some(match (transport, number) {
            (_, 1) => Self::Established,
            (Transport::Udp, 7) => Self::Unconnected,
            (Transport::Udp, _) => return None,
            (_, 2) => Self::SynSent,
            // 12 is a newer name for the same, as far as others can see.
            (_, 3 | 12) => Self::SynReceived,
            (_, 4) => Self::FinWait1,
            (_, 5) => Self::FinWait2,
            (_, 6) => Self::TimeWait,
            (_, 7) => Self::Close,
            (_, 8) => Self::CloseWait,
            (_, 9) => Self::LastAck,
            (_, 10) => Self::Listen,
            (_, 11) => Self::Closing,
            _ => return None,
        })
    }
}

/// A row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketRow {
    /// What carries its bytes.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// The other end; address and port are zero where there is none.
    pub remote: SocketAddr,
    /// Its state.
    pub state: SocketState,
    /// Bytes that wait to be read; of a listener, peers that wait to be accepted.
    pub receive_queue: u32,
    /// Bytes that are not acknowledged; of a listener, how many peers may wait.
    pub send_queue: u32,
    /// The user it belongs to.
    pub user: u32,
    /// Its number in the system's list of open files; zero if no process has it.
    pub inode: u64,
}

/// The rows of a table, in its order; `text` is all of it.
pub fn rows(transport: Transport, text: &[u8]) -> Vec<SocketRow> {
    text.split(|&byte| byte == b'\n').filter_map(|line| row(transport, line)).collect()
}

fn row(transport: Transport, line: &[u8]) -> Option<SocketRow> {
    let line = core::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    fields.next().filter(|place| place.ends_with(':'))?;
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = SocketState::of_number(transport, u8::from_str_radix(fields.next()?, 16).ok()?)?;
    let (send, receive) = fields.next()?.split_once(':')?;
    let queue = |text| u32::from_str_radix(text, 16).ok();
    // Between them: the timer, and how often something was sent again.
    let user = fields.nth(2)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let (receive_queue, send_queue) = (queue(receive)?, queue(send)?);
    Some(SocketRow { transport, local, remote, state, receive_queue, send_queue, user, inode })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut octets = [0; 16];
            for (place, nth) in octets.chunks_exact_mut(4).zip([0, 8, 16, 24_usize]) {
                let part = address.get(nth..nth.saturating_add(8))?;
                place.copy_from_slice(&word(part)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
