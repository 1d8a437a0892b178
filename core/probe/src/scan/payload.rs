//! What is asked over UDP: something that the server of a port would answer, where that is known.

use alloc::vec::Vec;

/// DNS (RFC 1035): the servers of the root, of those who look up for others.
const DNS: &[u8] = b"\x5e\xef\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";

/// Multicast DNS (RFC 6762): the kinds of services there are, answered to whoever asks.
const MDNS: &[u8] =
    b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\x80\x01";

/// ONC RPC (RFC 5531): the null procedure of the port mapper.
const RPC: &[u8] = b"\x5e\xef\0\x01\0\0\0\0\0\0\0\x02\0\x01\x86\xa0\0\0\0\x02\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// SNMP version 1 (RFC 1157): the description of the system, for the community public.
const SNMP: &[u8] = b"\x30\x26\x02\x01\0\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\0\x02\x01\0\
    \x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";

/// STUN (RFC 8489): a binding request.
const STUN: &[u8] = b"\0\x01\0\0\x21\x12\xa4\x42semfio scan ";

/// Memcached: its version, behind the header of a datagram.
const MEMCACHED: &[u8] = b"\0\0\0\0\0\x01\0\0version\r\n";

/// Octets of an NTP packet (RFC 5905).
const NTP: usize = 48;

/// Appends what is asked of a port for the first time, the second and so on. Where nothing better is
/// known that is nothing at all, and a line feed in turn: some servers take an empty datagram for none.
pub(crate) fn put(port: u16, tries: u8, out: &mut Vec<u8>) {
    match port {
        53 => out.extend_from_slice(DNS),
        111 => out.extend_from_slice(RPC),
        123 => {
            // No leap second is told, version 4, a client.
            out.push(0xe3);
            out.resize(out.len().saturating_add(NTP.saturating_sub(1)), 0);
        }
        161 => out.extend_from_slice(SNMP),
        3478 => out.extend_from_slice(STUN),
        5353 => out.extend_from_slice(MDNS),
        11211 => out.extend_from_slice(MEMCACHED),
        _ if tries % 2 == 1 => out.push(b'\n'),
        _ => {}
    }
}
