//! UDP and ICMP sockets with all that the system tells about a datagram.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, TimestampingFlag,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::{libc, setsockopt_impl};
use semfio_machine::{
    Carrier, Clock as WhoseClock, Instant, Now, QuotedError, Received, Stamp, Transmit, TransmitId,
    UnixTime,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::clock::{Clock, whole};
use crate::filter;

/// Transmits whose stamp is still expected; older ones have lost theirs.
const EXPECTED: usize = 1024;

/// Room for the control messages of one datagram; those in use take half of it.
const CONTROL: usize = 512;

/// What may wait to be read, as the system counts, which holds it to a limit of its own: some hundreds
/// of small datagrams, each of which counts 768 bytes and more.
const WAITING: usize = 1024 * 1024;

/// How often a call is made again that only brought an older transmit's error.
const SOFT_ERRORS: usize = 16;

/// A socket that never blocks, with kernel stamps both ways where the system has them.
///
/// An ICMP error about a transmit comes from [`poll_error_queue`](Self::poll_error_queue), with
/// the datagram it is about, never as an error of another call. A raw socket gets it like any
/// other message. What is received begins after the IP header.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    carrier: Carrier,
    is_ipv6: bool,
    control: Vec<u8>,
    is_terse: bool,
    /// `None` where there are no such stamps.
    sent: Option<Sent>,
    expects_errors: bool,
}

/// What becomes of a datagram that is larger than its path, by the names of `ping -M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMtu {
    /// It is not sent, and never cut on the way.
    Do,
    /// It is cut here, never on the way.
    Want,
    /// It may be cut on the way.
    Dont,
    /// It is sent as it is, whatever is known of the path.
    Probe,
}

/// What the error queue of a [`DatagramSocket`] had to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The kernel's stamp of a transmit, as it was handed to the device. One for each segment.
    Sent(TransmitId, Stamp),
    /// An ICMP error. That many bytes of what was sent stand in the buffer, as many as the error
    /// had quoted; `source` is where it was sent to.
    Quoted(Received, usize),
}

/// Which transmit the kernel means by its number: it counts what the socket sends.
#[derive(Debug, Default)]
struct Sent {
    next: u32,
    expected: VecDeque<(u32, TransmitId, Instant)>,
}

impl DatagramSocket {
    /// Binds for UDP. An IPv6 address takes IPv6 peers only.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::open(Carrier::Udp, address)
    }

    /// Binds for ICMP, or ICMPv6, to an address of ours or to the unspecified one.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` where the system's `ping_group_range` leaves this process out, for
    /// [`Carrier::Icmp`]; without the right to open raw sockets, for [`Carrier::RawIcmp`].
    pub fn icmp(carrier: Carrier, address: IpAddr) -> io::Result<Self> {
        Self::open(carrier, SocketAddr::new(address, 0))
    }

    /// Opens a raw socket for TCP, at an address of ours or the unspecified one, that receives the
    /// segments to `ports` of ours. What ICMP says of those it sends comes to a socket for
    /// [`Carrier::RawIcmp`].
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without the right to open raw sockets.
    pub fn tcp(address: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<Self> {
        Self::open_for(Carrier::RawTcp, SocketAddr::new(address, 0), Some(ports))
    }

    fn open(carrier: Carrier, address: SocketAddr) -> io::Result<Self> {
        Self::open_for(carrier, address, None)
    }

    fn open_for(
        carrier: Carrier,
        address: SocketAddr,
        ports: Option<&RangeInclusive<u16>>,
    ) -> io::Result<Self> {
        let (kind, protocol) = match (carrier, address.is_ipv6()) {
            (Carrier::Udp, _) => (Type::DGRAM, Protocol::UDP),
            (Carrier::Icmp, false) => (Type::DGRAM, Protocol::ICMPV4),
            (Carrier::Icmp, true) => (Type::DGRAM, Protocol::ICMPV6),
            (Carrier::RawIcmp, false) => (Type::RAW, Protocol::ICMPV4),
            (Carrier::RawIcmp, true) => (Type::RAW, Protocol::ICMPV6),
            (Carrier::RawTcp, _) => (Type::RAW, Protocol::TCP),
        };
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        // First of all, so that nothing waits in the socket that should not.
        if carrier == Carrier::RawIcmp {
            filter::answers(&socket, address.is_ipv6())?;
        }
        if let Some(ports) = ports {
            filter::ports(&socket, address.is_ipv6(), ports)?;
        }
        socket.set_nonblocking(true)?;
        // Raw sockets are handed the errors themselves.
        let queue = !is_raw(carrier);
        if address.is_ipv6() {
            // A raw socket has no ports that it could share with IPv4.
            if !is_raw(carrier) {
                socket.set_only_v6(true)?;
            }
            setsockopt(&socket, sockopt::Ipv6RecvErr, &queue)?;
            // Linux 5.9; older ones do not say where an extension begins.
            let _ = setsockopt(&socket, Ipv6RecvErrRfc4884, &queue);
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &queue)?;
            let _ = setsockopt(&socket, Ipv4RecvErrRfc4884, &queue);
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::IpRecvTos, &true)?;
        }
        // What the system gives will do.
        let _ = socket.set_recv_buffer_size(WAITING);
        // Without stamps the process's own clock does.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        socket.bind(&address.into())?;
        let mut socket = Self {
            socket: socket.into(),
            carrier,
            is_ipv6: address.is_ipv6(),
            control: vec![0; CONTROL],
            is_terse: false,
            sent: None,
            expects_errors: false,
        };
        socket.count_from_zero();
        Ok(socket)
    }

    /// The TOS or traffic-class octet of what is sent.
    pub fn set_traffic_class(&self, class: u8) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        match self.is_ipv6 {
            true => socket.set_tclass_v6(class.into()),
            false => socket.set_tos_v4(class.into()),
        }
    }

    /// Sends and receives through this interface only.
    pub fn set_device(&self, name: &str) -> io::Result<()> {
        SockRef::from(&self.socket).bind_device(Some(name.as_bytes()))
    }

    /// From now on tells only what costs little: neither the kernel's stamps of what is sent, which
    /// are a call more each, nor the destination and the class of what comes.
    pub fn set_terse(&mut self) -> io::Result<()> {
        self.is_terse = true;
        self.count_from_zero();
        if self.is_ipv6 {
            setsockopt(&self.socket, sockopt::Ipv6RecvPacketInfo, &false)?;
            setsockopt(&self.socket, sockopt::Ipv6RecvTClass, &false)?;
        } else {
            setsockopt(&self.socket, sockopt::Ipv4PacketInfo, &false)?;
            setsockopt(&self.socket, sockopt::IpRecvTos, &false)?;
        }
        Ok(())
    }

    /// The mark that routing rules see. Needs the right to administer the network.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        SockRef::from(&self.socket).set_mark(mark)
    }

    /// Says that most of what is sent will lead to an ICMP error. One that is pending is then taken away
    /// before each transmit: else it fails that, and with it goes the count by which stamps are told
    /// apart.
    pub fn expect_errors(&mut self) {
        self.expects_errors = true;
    }

    /// Leaves ICMP errors to a raw socket beside this one, which is handed whole messages: then
    /// nothing is told twice.
    pub fn leave_errors(&self) -> io::Result<()> {
        match self.is_ipv6 {
            false => setsockopt(self, sockopt::Ipv4RecvErr, &false)?,
            true => setsockopt(self, sockopt::Ipv6RecvErr, &false)?,
        }
        Ok(())
    }

    /// What becomes of a datagram that is larger than its path.
    pub fn set_path_mtu(&self, how: PathMtu) -> io::Result<()> {
        set_path_mtu(self, how, self.is_ipv6)
    }

    /// Whether both are of the same family.
    pub(crate) fn is_kin_of(&self, address: &SocketAddr) -> bool {
        self.is_ipv6 == address.is_ipv6()
    }

    /// Whether this is a socket for such a transmit.
    pub fn carries(&self, transmit: &Transmit) -> bool {
        self.carrier == transmit.carrier && self.is_ipv6 == transmit.destination.is_ipv6()
    }

    /// Whether the kernel still owes stamps of what was sent.
    pub fn expects_stamps(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| !sent.expected.is_empty())
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes the next datagram into `buf`, which cuts what is longer. What the clocks said after that
    /// comes with it: the stamp is not later.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none.
    pub fn recv(&mut self, clock: &Clock, buf: &mut [u8]) -> io::Result<(Now, Received, usize)> {
        let mut tries = SOFT_ERRORS;
        loop {
            tries -= 1;
            match self.receive(clock, buf, MsgFlags::empty()) {
                Err(errno) if tries > 0 && (is_soft(errno) || errno == Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    let size = self.without_header(buf, message.size);
                    return Ok((message.now, message.received, size));
                }
            }
        }
    }

    /// Raw sockets of IPv4 are handed the IP header too.
    fn without_header(&self, buf: &mut [u8], size: usize) -> usize {
        if !is_raw(self.carrier) || self.is_ipv6 {
            return size;
        }
        let header = buf.first().map_or(0, |first| usize::from(first & 0xf) * 4).min(size);
        buf.copy_within(header..size, 0);
        size - header
    }

    /// Sends `payload` as `transmit` says, segment by segment, and gives the bytes that left:
    /// all, or those of the segments before one that did not. `now` is when this call is made.
    ///
    /// # Errors
    ///
    /// If nothing left: `WouldBlock` if the socket is full, `Unsupported` for a transmit of
    /// another carrier or family.
    pub fn send(&mut self, now: Now, transmit: &Transmit, payload: &[u8]) -> io::Result<usize> {
        if !self.carries(transmit) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let segment = transmit.segment_size.unwrap_or(payload.len()).max(1);
        let mut left = 0;
        // At least one, since a datagram may be empty.
        while left == 0 || left < payload.len() {
            let end = payload.len().min(left + segment);
            match self.send_one(now, transmit, &payload[left..end]) {
                Err(error) if left == 0 => return Err(error),
                Err(_) => break,
                Ok(()) if end == 0 => break,
                Ok(()) => left = end,
            }
        }
        Ok(left)
    }

    /// What the system has to say about earlier transmits; `None` if nothing more.
    pub fn poll_error_queue(
        &mut self,
        clock: &Clock,
        buf: &mut [u8],
    ) -> io::Result<Option<Notice>> {
        loop {
            let message = match self.receive(clock, buf, MsgFlags::MSG_ERRQUEUE) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some((key, stamp)) = message.sent.zip(message.stamp) {
                let now = clock.read();
                let sent = self.sent.as_mut();
                if let Some((id, stamp)) = sent.and_then(|sent| sent.take(key, stamp, now)) {
                    return Ok(Some(Notice::Sent(id, stamp)));
                }
            } else if message.received.error.is_some() {
                return Ok(Some(Notice::Quoted(message.received, message.size)));
            }
        }
    }

    fn send_one(&mut self, now: Now, transmit: &Transmit, payload: &[u8]) -> io::Result<()> {
        let mut tries = SOFT_ERRORS;
        loop {
            tries -= 1;
            if self.expects_errors {
                // The error queue has it too.
                let _ = SockRef::from(&self.socket).take_error();
            }
            match self.transmit(transmit, payload) {
                Ok(()) => break,
                Err(errno) => {
                    // Not every kernel takes back the number of what was not sent.
                    self.count_from_zero();
                    if tries == 0 || !(is_soft(errno) || errno == Errno::EINTR) {
                        return Err(errno.into());
                    }
                }
            }
        }
        if let Some(sent) = &mut self.sent {
            sent.expect(transmit.id, now.mono);
        }
        Ok(())
    }

    fn transmit(&self, transmit: &Transmit, payload: &[u8]) -> Result<(), Errno> {
        let mut destination = transmit.destination;
        if is_raw(self.carrier) {
            // There are no ports here; of IPv6, it would be taken for a protocol.
            destination.set_port(0);
        }
        if transmit.hop_limit.is_none() && transmit.source.is_none() {
            // The shorter call.
            let sent = self.socket.send_to(payload, destination);
            let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
            return sent.map(drop).map_err(errno);
        }
        let hops = i32::from(transmit.hop_limit.unwrap_or_default());
        let (info4, info6);
        let hop_limit = transmit.hop_limit.map(|_| match transmit.destination {
            SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(&hops),
            SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(&hops),
        });
        let source = match transmit.source {
            Some(IpAddr::V4(source)) => {
                info4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr(source),
                    ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
                };
                Some(ControlMessage::Ipv4PacketInfo(&info4))
            }
            Some(IpAddr::V6(source)) => {
                info6 = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: 0,
                };
                Some(ControlMessage::Ipv6PacketInfo(&info6))
            }
            None => None,
        };
        let both = [hop_limit, source].into_iter().flatten();
        let mut control = [ControlMessage::Ipv4Ttl(&0); 2];
        let mut filled = 0;
        for (slot, message) in control.iter_mut().zip(both) {
            *slot = message;
            filled += 1;
        }
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(payload)],
            &control[..filled],
            MsgFlags::MSG_NOSIGNAL,
            Some(&SockaddrStorage::from(destination)),
        )?;
        Ok(())
    }

    fn receive(
        &mut self,
        clock: &Clock,
        buf: &mut [u8],
        flags: MsgFlags,
    ) -> Result<Message, Errno> {
        let mut slices = [IoSliceMut::new(buf)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            flags,
        )?;
        let now = clock.read();
        let whole = whole(now);
        let mut received = Received {
            source: message
                .address
                .as_ref()
                .and_then(address)
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            destination: None,
            hop_limit: None,
            traffic_class: None,
            carrier: self.carrier,
            stamp: Stamp { at: whole.mono, clock: WhoseClock::User },
            error: None,
        };
        let mut sent = None;
        let mut stamp = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(at) => stamp = unix_time(at),
                ControlMessageOwned::ScmTimestampsns(at) => {
                    stamp = unix_time(at.system).or(stamp);
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    received.destination = Some(ip_addr(info.ipi_addr).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    received.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    received.hop_limit = u8::try_from(hops).ok();
                }
                ControlMessageOwned::Ipv4Tos(class) => received.traffic_class = Some(class),
                ControlMessageOwned::Ipv6TClass(class) => {
                    received.traffic_class = u8::try_from(class).ok();
                }
                ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                    let offender = offender
                        .filter(|from| i32::from(from.sin_family) == libc::AF_INET)
                        .map(|from| ip_addr(from.sin_addr).into());
                    take_error(&error, offender, &mut received, &mut sent);
                }
                ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                    let offender = offender
                        .filter(|from| i32::from(from.sin6_family) == libc::AF_INET6)
                        .map(|from| Ipv6Addr::from(from.sin6_addr.s6_addr).into());
                    take_error(&error, offender, &mut received, &mut sent);
                }
                _ => {}
            }
        }
        if let Some(kernel) = stamp.and_then(|at| kernel(at, Instant::default(), now)) {
            received.stamp = kernel;
        }
        Ok(Message { now: whole, received, size: message.bytes, sent, stamp })
    }

    /// Asks for stamps of what is sent, numbered from zero. Those that are on their way under an
    /// old number fall outside of the window of a new one.
    fn count_from_zero(&mut self) {
        let off = TimestampingFlag::empty();
        let on = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
        let set = |flags| setsockopt(&self.socket, sockopt::Timestamping, &flags);
        let works = set(off).is_ok() && !self.is_terse && set(on).is_ok();
        self.sent = works.then(Sent::default);
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Sent {
    fn expect(&mut self, id: TransmitId, at: Instant) {
        if self.expected.len() >= EXPECTED {
            self.expected.pop_front();
        }
        self.expected.push_back((self.next, id, at));
        self.next = self.next.wrapping_add(1);
    }

    /// The transmit of this number, unless the stamp is older: then it is of an older count.
    fn take(&mut self, key: u32, stamp: UnixTime, now: Now) -> Option<(TransmitId, Stamp)> {
        let place = self.expected.iter().position(|&(at, ..)| at == key)?;
        let &(_, id, sent) = self.expected.get(place)?;
        let stamp = kernel(stamp, sent, now)?;
        self.expected.remove(place);
        Some((id, stamp))
    }
}

// linux/in.h and linux/in6.h; neither nix nor libc has them.
const IP_RECVERR_RFC4884: libc::c_int = 26;
const IPV6_RECVERR_RFC4884: libc::c_int = 31;

/// Says of an error where its extension begins.
#[derive(Clone)]
struct Ipv4RecvErrRfc4884;
setsockopt_impl!(Ipv4RecvErrRfc4884, libc::IPPROTO_IP, IP_RECVERR_RFC4884, bool, sockopt::SetBool);

/// The same for IPv6.
#[derive(Clone)]
struct Ipv6RecvErrRfc4884;
setsockopt_impl!(
    Ipv6RecvErrRfc4884,
    libc::IPPROTO_IPV6,
    IPV6_RECVERR_RFC4884,
    bool,
    sockopt::SetBool
);

/// What becomes of a datagram that is larger than its path.
pub(crate) fn set_path_mtu(socket: &impl AsFd, how: PathMtu, is_ipv6: bool) -> io::Result<()> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery as V4, Ipv6PathMtuDiscovery as V6, set_ip_mtu_discover,
        set_ipv6_mtu_discover,
    };
    let answer = match (how, is_ipv6) {
        (PathMtu::Do, false) => set_ip_mtu_discover(socket, V4::DO),
        (PathMtu::Do, true) => set_ipv6_mtu_discover(socket, V6::DO),
        (PathMtu::Want, false) => set_ip_mtu_discover(socket, V4::WANT),
        (PathMtu::Want, true) => set_ipv6_mtu_discover(socket, V6::WANT),
        (PathMtu::Dont, false) => set_ip_mtu_discover(socket, V4::DONT),
        (PathMtu::Dont, true) => set_ipv6_mtu_discover(socket, V6::DONT),
        (PathMtu::Probe, false) => set_ip_mtu_discover(socket, V4::PROBE),
        (PathMtu::Probe, true) => set_ipv6_mtu_discover(socket, V6::PROBE),
    };
    Ok(answer?)
}

/// What one call of recvmsg brought.
struct Message {
    now: Now,
    received: Received,
    size: usize,
    /// The number of a transmit whose stamp this is.
    sent: Option<u32>,
    stamp: Option<UnixTime>,
}

fn take_error(
    error: &libc::sock_extended_err,
    offender: Option<IpAddr>,
    received: &mut Received,
    sent: &mut Option<u32>,
) {
    match error.ee_origin {
        libc::SO_EE_ORIGIN_TIMESTAMPING => *sent = Some(error.ee_data),
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
            received.error = Some(QuotedError {
                offender,
                icmp_type: error.ee_type,
                icmp_code: error.ee_code,
                info: error.ee_info,
                extension: extension(error),
            });
        }
        // What the system itself refused was the error of a call.
        _ => {}
    }
}

/// Where the extension begins: the system has looked for it, and tells 0 if there is none.
fn extension(error: &libc::sock_extended_err) -> Option<u16> {
    // linux/errqueue.h: a union, whose other member begins with a length of 16 bits.
    let [a, b, _, _] = error.ee_data.to_ne_bytes();
    Some(u16::from_ne_bytes([a, b])).filter(|&length| length > 0)
}

fn is_raw(carrier: Carrier) -> bool {
    matches!(carrier, Carrier::RawIcmp | Carrier::RawTcp)
}

/// Whether an error may be about an earlier transmit; then it is reported once, and cleared.
fn is_soft(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::EACCES
            | Errno::EMSGSIZE
    )
}

fn kernel(stamp: UnixTime, earliest: Instant, now: Now) -> Option<Stamp> {
    Some(Stamp { at: Clock::convert(stamp, earliest, now)?, clock: WhoseClock::Kernel })
}

/// `None` for zero, which stands for "no stamp".
fn unix_time(at: TimeSpec) -> Option<UnixTime> {
    let seconds = u64::try_from(at.tv_sec()).ok().filter(|&s| s > 0)?;
    let nanos = u64::try_from(at.tv_nsec()).ok()?;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    Some(UnixTime::from_nanos(nanos))
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match storage.family()? {
        nix::sys::socket::AddressFamily::Inet => {
            let address = storage.as_sockaddr_in()?;
            Some(SocketAddr::from((address.ip(), address.port())))
        }
        _ => Some(SocketAddr::V6((*storage.as_sockaddr_in6()?).into())),
    }
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

fn ip_addr(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn socket(address: &str) -> DatagramSocket {
        DatagramSocket::bind(address.parse().unwrap()).unwrap()
    }

    fn transmit(id: u64, destination: SocketAddr, size: usize) -> Transmit {
        Transmit {
            id: TransmitId(id),
            destination,
            size,
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        }
    }

    fn wait(socket: &DatagramSocket, flags: PollFlags) {
        let mut polled = [PollFd::new(socket, flags)];
        let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "nothing came");
    }

    fn recv(socket: &mut DatagramSocket, clock: &Clock, buf: &mut [u8]) -> (Received, usize) {
        loop {
            match socket.recv(clock, buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(socket, PollFlags::IN);
                }
                answer => {
                    let (now, received, size) = answer.unwrap();
                    assert!(received.stamp.at <= now.mono && now.mono <= clock.now().mono);
                    return (received, size);
                }
            }
        }
    }

    fn notice(socket: &mut DatagramSocket, clock: &Clock, buf: &mut [u8]) -> Notice {
        loop {
            if let Some(notice) = socket.poll_error_queue(clock, buf).unwrap() {
                return notice;
            }
            wait(socket, PollFlags::ERR);
        }
    }

    #[test]
    fn a_datagram_brings_its_addresses_hops_class_and_kernel_stamp() {
        for (loopback, source) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let clock = Clock::start();
            let (mut a, mut b) = (socket(loopback), socket(loopback));
            let before = clock.now();
            let mut transmit = transmit(7, b.local_addr().unwrap(), 5);
            transmit.hop_limit = Some(33);
            transmit.source = Some(source.parse().unwrap());
            a.send(before, &transmit, b"hello").unwrap();
            let mut buf = [0; 100];
            let (received, size) = recv(&mut b, &clock, &mut buf);
            assert_eq!(&buf[..size], b"hello");
            assert_eq!(received.source, a.local_addr().unwrap());
            assert_eq!(received.destination, Some(source.parse().unwrap()));
            assert_eq!(received.hop_limit, Some(33));
            assert_eq!(received.traffic_class, Some(0));
            assert_eq!(received.error, None);
            assert_eq!(received.stamp.clock, WhoseClock::Kernel);
            // One microsecond is lost where both clocks are cut to whole ones.
            let slack = std::time::Duration::from_micros(1);
            assert!(received.stamp.at.saturating_add(slack) >= before.mono);
            assert!(received.stamp.at <= clock.now().mono);

            let Notice::Sent(id, sent) = notice(&mut a, &clock, &mut buf) else {
                panic!("no stamp");
            };
            assert_eq!((id, sent.clock), (TransmitId(7), WhoseClock::Kernel));
            assert!(sent.at >= before.mono && sent.at <= received.stamp.at.saturating_add(slack));
        }
    }

    #[test]
    fn stamps_keep_to_their_transmits_after_one_that_failed() {
        let clock = Clock::start();
        let (mut a, b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let to = b.local_addr().unwrap();
        let mut buf = [0; 100];
        for id in 0..3 {
            a.send(clock.now(), &transmit(id, to, 1), b"x").unwrap();
        }
        let long = vec![0; 70_000];
        let failed = a.send(clock.now(), &transmit(3, to, long.len()), &long);
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        a.send(clock.now(), &transmit(4, to, 1), b"x").unwrap();
        while let Notice::Sent(id, _) = notice(&mut a, &clock, &mut buf) {
            assert_ne!(id, TransmitId(3));
            if id == TransmitId(4) {
                break;
            }
        }
    }

    #[test]
    fn an_icmp_error_comes_with_what_was_sent_and_not_as_an_error_of_a_call() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let clock = Clock::start();
            let mut a = socket(loopback);
            let mut b = socket(loopback);
            let nobody = socket(loopback).local_addr().unwrap();
            a.send(clock.now(), &transmit(1, nobody, 5), b"quote").unwrap();
            // Its pending error must not cost this one.
            let to_b = transmit(2, b.local_addr().unwrap(), 2);
            a.send(clock.now(), &to_b, b"ok").unwrap();
            let mut buf = [0; 100];
            assert_eq!(recv(&mut b, &clock, &mut buf).1, 2);
            loop {
                let Notice::Quoted(received, size) = notice(&mut a, &clock, &mut buf) else {
                    continue;
                };
                assert_eq!(&buf[..size], b"quote");
                assert_eq!(received.source, nobody);
                let error = received.error.unwrap();
                assert_eq!(error.offender, Some(nobody.ip()));
                let unreachable_port = if nobody.is_ipv4() { (3, 3) } else { (1, 4) };
                assert_eq!((error.icmp_type, error.icmp_code), unreachable_port);
                break;
            }
            a.send(clock.now(), &transmit(3, nobody, 1), b"x").unwrap();
            wait(&a, PollFlags::ERR);
            let error = a.recv(&clock, &mut buf).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_meanwhile_costs_the_kernels_stamp() {
        const HOUR: u64 = 3_600_000_000_000;
        let later = Now {
            mono: Instant::from_nanos(9_000_000),
            unix: UnixTime::from_nanos(1_800_000_000_000_000_000),
        };
        let sent = Instant::from_nanos(8_000_000);
        let stamp = UnixTime::from_nanos(later.unix.as_nanos() - 500_000);
        let at = Instant::from_nanos(8_500_000);
        let as_told = |now| kernel(stamp, sent, now).map(|stamp| stamp.at);
        assert_eq!(as_told(later), Some(at));
        let back = UnixTime::from_nanos(later.unix.as_nanos() - HOUR);
        assert_eq!(as_told(Now { unix: back, ..later }), None);
        let on = UnixTime::from_nanos(later.unix.as_nanos() + HOUR);
        assert_eq!(as_told(Now { unix: on, ..later }), None);
        // After hours, too.
        let mono = Instant::from_nanos(9_000_000 + 9 * HOUR);
        let sent = Instant::from_nanos(8_000_000 + 9 * HOUR);
        assert_eq!(kernel(stamp, sent, Now { mono, unix: on }), None);
    }

    #[test]
    fn a_terse_socket_has_the_stamp_and_the_hops_of_what_comes_alone() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let clock = Clock::start();
            let (mut a, mut b) = (socket(loopback), socket(loopback));
            a.set_terse().unwrap();
            b.set_terse().unwrap();
            a.send(clock.now(), &transmit(1, b.local_addr().unwrap(), 1), b"x").unwrap();
            assert!(!a.expects_stamps());
            let (received, _) = recv(&mut b, &clock, &mut [0; 100]);
            assert_eq!((received.destination, received.traffic_class), (None, None));
            assert_eq!((received.hop_limit, received.stamp.clock), (Some(64), WhoseClock::Kernel));
            assert_eq!(a.poll_error_queue(&clock, &mut [0; 100]).unwrap(), None);
        }
    }

    #[test]
    fn stamps_come_beside_errors_that_were_expected() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let clock = Clock::start();
            let mut a = socket(loopback);
            a.expect_errors();
            let nobody = socket(loopback).local_addr().unwrap();
            for id in 0..20 {
                a.send(clock.now(), &transmit(id, nobody, 1), b"x").unwrap();
            }
            let mut buf = [0; 100];
            let (mut stamps, mut errors) = (Vec::new(), 0);
            while stamps.len() < 20 {
                match notice(&mut a, &clock, &mut buf) {
                    Notice::Sent(id, _) => stamps.push(id.0),
                    Notice::Quoted(..) => errors += 1,
                }
            }
            assert_eq!(stamps, (0..20).collect::<Vec<_>>());
            assert!(errors > 0);
        }
    }

    #[test]
    fn segments_leave_as_datagrams() {
        let clock = Clock::start();
        let (mut a, mut b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let mut transmit = transmit(1, b.local_addr().unwrap(), 5);
        transmit.segment_size = Some(2);
        assert_eq!(a.send(clock.now(), &transmit, b"abcde").unwrap(), 5);
        assert_eq!(a.send(clock.now(), &transmit, b"").unwrap(), 0);
        let mut buf = [0; 100];
        for expected in [&b"ab"[..], b"cd", b"e", b""] {
            let (_, size) = recv(&mut b, &clock, &mut buf);
            assert_eq!(&buf[..size], expected);
        }
        transmit.carrier = Carrier::RawIcmp;
        let error = a.send(clock.now(), &transmit, b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    /// A socket that needs privileges; without them the test is skipped, and says so.
    fn privileged(socket: io::Result<DatagramSocket>) -> Option<DatagramSocket> {
        match socket {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "skipped: raw sockets are not for this user");
                let no_skip = std::env::var("SEMFIO_NO_SKIP");
                assert_ne!(no_skip.as_deref(), Ok("1"), "a skip");
                None
            }
            other => Some(other.unwrap()),
        }
    }

    fn sends(carrier: Carrier, to: SocketAddr, size: usize) -> Transmit {
        Transmit { carrier, ..transmit(1, to, size) }
    }

    /// An ICMP or ICMPv6 message; the system puts the checksum of the latter.
    fn icmp(to: SocketAddr, icmp_type: u8, words: u8, rest: &[u8]) -> Vec<u8> {
        use etherparse::{Icmpv4Header, Icmpv4Type};
        match to {
            SocketAddr::V4(_) => {
                let kind = Icmpv4Type::Unknown {
                    type_u8: icmp_type,
                    code_u8: 0,
                    bytes5to8: [0, words, 0, 0],
                };
                [&Icmpv4Header::with_checksum(kind, rest).to_bytes(), rest].concat()
            }
            SocketAddr::V6(_) => [&[icmp_type, 0, 0, 0, words, 0, 0, 0], rest].concat(),
        }
    }

    #[test]
    fn a_raw_socket_is_handed_answers_alone() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let to: SocketAddr = loopback.parse().unwrap();
            let raw = DatagramSocket::icmp(Carrier::RawIcmp, to.ip());
            let Some(mut raw) = privileged(raw) else { return };
            let clock = Clock::start();
            let mut buf = [0; 2048];
            // Tests beside this one cause errors too; each has a mark of its own.
            let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
            let mark = format!("only answers {loopback}");
            let echo = icmp(to, request, 0, mark.as_bytes());
            raw.send(clock.now(), &sends(Carrier::RawIcmp, to, echo.len()), &echo).unwrap();
            loop {
                let (received, size) = recv(&mut raw, &clock, &mut buf);
                assert_eq!(received.carrier, Carrier::RawIcmp);
                assert_ne!(buf[0], request, "our own request");
                if buf[8..size] == *mark.as_bytes() {
                    assert_eq!(buf[0], reply);
                    break;
                }
            }

            // What another socket has sent: the system answers, and we see it whole.
            let mut udp = socket(loopback);
            udp.leave_errors().unwrap();
            let nobody = socket(loopback).local_addr().unwrap();
            let size = mark.len();
            udp.send(clock.now(), &sends(Carrier::Udp, nobody, size), mark.as_bytes()).unwrap();
            loop {
                let (_, size) = recv(&mut raw, &clock, &mut buf);
                if buf[..size].ends_with(mark.as_bytes()) {
                    assert_eq!(buf[0], if to.is_ipv4() { 3 } else { 1 });
                    break;
                }
            }
            while let Some(notice) = udp.poll_error_queue(&clock, &mut buf).unwrap() {
                assert!(matches!(notice, Notice::Sent(..)), "told twice: {notice:?}");
            }
        }
    }

    #[test]
    fn an_error_says_where_its_extension_begins() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let to: SocketAddr = loopback.parse().unwrap();
            let raw = DatagramSocket::icmp(Carrier::RawIcmp, to.ip());
            let Some(mut raw) = privileged(raw) else { return };
            let clock = Clock::start();
            let mut udp = socket(loopback);
            let from = udp.local_addr().unwrap();
            // A router's time exceeded, about a datagram to port 9 with "sent" in it: padded to 128
            // octets, then one MPLS label.
            let ports = [from.port().to_be_bytes(), [0, 9], [0, 12], [0, 0]].concat();
            let mut quote = Vec::new();
            match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    use etherparse::{IpNumber, Ipv4Header};
                    let (from, to) = (from.octets(), to.octets());
                    let header = Ipv4Header::new(12, 1, IpNumber::UDP, from, to).unwrap();
                    quote.extend_from_slice(&header.to_bytes());
                }
                _ => {
                    let header = etherparse::Ipv6Header {
                        payload_length: 12,
                        next_header: etherparse::IpNumber::UDP,
                        hop_limit: 1,
                        source: Ipv6Addr::LOCALHOST.octets(),
                        destination: Ipv6Addr::LOCALHOST.octets(),
                        ..Default::default()
                    };
                    quote.extend_from_slice(&header.to_bytes());
                }
            }
            let headers = quote.len() + 8;
            quote.extend_from_slice(&ports);
            quote.extend_from_slice(b"sent");
            quote.resize(128, 0);
            let mut extension = vec![0x20, 0, 0, 0, 0, 8, 1, 1, 0x00, 0x06, 0x41, 0x01];
            let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&extension);
            extension[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
            let (icmp_type, words) = if to.is_ipv4() { (11, 32) } else { (3, 16) };
            let message = icmp(to, icmp_type, words, &[&quote[..], &extension].concat());
            let transmit = sends(Carrier::RawIcmp, to, message.len());
            raw.send(clock.now(), &transmit, &message).unwrap();
            let mut buf = [0; 2048];
            let Notice::Quoted(received, size) = notice(&mut udp, &clock, &mut buf) else {
                panic!("no error");
            };
            assert_eq!(&buf[..4], b"sent");
            let error = received.error.unwrap();
            assert_eq!((error.icmp_type, error.icmp_code), (icmp_type, 0));
            let begin = error.extension.map(usize::from).unwrap();
            assert_eq!(begin, 128 - headers);
            assert_eq!(&buf[begin..size], &extension);
        }
    }

    #[test]
    fn a_raw_tcp_socket_sees_its_own_ports_alone() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = loopback.parse().unwrap();
            let listener = std::net::TcpListener::bind(address).unwrap();
            // So that nobody else has this port; the system resets what it has not asked for.
            let ours = std::net::TcpListener::bind(address).unwrap();
            let port = ours.local_addr().unwrap().port();
            let Some(mut raw) = privileged(DatagramSocket::tcp(address.ip(), &(port..=port)))
            else {
                return;
            };
            let clock = Clock::start();
            let to = listener.local_addr().unwrap();
            // Somebody else's conversation.
            let _other = std::net::TcpStream::connect(to).unwrap();
            let mut syn = etherparse::TcpHeader::new(port, to.port(), 7, 1024);
            syn.syn = true;
            syn.checksum = match address.ip() {
                IpAddr::V4(ip) => syn.calc_checksum_ipv4_raw(ip.octets(), ip.octets(), &[]),
                IpAddr::V6(ip) => syn.calc_checksum_ipv6_raw(ip.octets(), ip.octets(), &[]),
            }
            .unwrap();

            let segment = syn.to_bytes();
            let mut transmit = sends(Carrier::RawTcp, to, segment.len());
            transmit.hop_limit = Some(9);
            transmit.source = Some(address.ip());
            raw.send(clock.now(), &transmit, &segment).unwrap();
            let mut buf = [0; 2048];
            let (received, size) = recv(&mut raw, &clock, &mut buf);
            let (answer, _) = etherparse::TcpHeader::from_slice(&buf[..size]).unwrap();
            assert_eq!((answer.source_port, answer.destination_port), (to.port(), port));
            assert!(answer.syn && answer.ack, "{answer:?}");
            assert_eq!(answer.acknowledgment_number, 8);
            assert_eq!(received.source.ip(), address.ip());
            assert_eq!(received.carrier, Carrier::RawTcp);
            let more = raw.recv(&clock, &mut buf).unwrap_err();
            assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
