//! The sockets of a trace: with privileges raw ones beside, which see more; else those that anybody
//! may have.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use rand_core::RngCore as _;
use rustix::io::Errno;
use semfio_machine::{Carrier, Seed};
use semfio_probe::{Method, Sockets};
use semfio_runtime_os::datagram::{DatagramSocket, PathMtu};
use semfio_runtime_os::route;

use super::Args;
use crate::failed::{Failed, NETWORK, USAGE};

/// Where source ports of TCP are drawn from: those that belong to nobody (RFC 6335), but for as many
/// as a trace of many flows needs.
const PORTS: RangeInclusive<u16> = 49_152..=57_343;
/// Which stream of the seed the port is drawn from.
const PORT: u64 = 0x706f_7274;
/// Source ports that follow the first: one for each flow.
const FLOWS: u16 = 8_191;

/// What a trace leaves by.
pub(super) struct Opened {
    pub(super) sockets: Vec<DatagramSocket>,
    pub(super) kind: Sockets,
    /// Where it comes from.
    pub(super) source: SocketAddr,
    /// What the first link takes.
    pub(super) mtu: u16,
}

/// Opens them. `port` is where TCP comes from, drawn by [`draw_port`].
pub(super) fn open(
    args: &Args,
    method: Method,
    to: SocketAddr,
    port: u16,
) -> Result<Opened, Failed> {
    if let Some(source) = args.source.filter(|source| source.is_ipv4() != to.is_ipv4()) {
        let why = format!("{} is of the other family", to.ip());
        return Err(Failed::because(USAGE, format!("cannot send from {source}"), why));
    }
    let device = args.interface.as_deref();
    let cannot = |what: &str, error: &io::Error| {
        let failed = Failed::because(NETWORK, format!("cannot trace {}: {what}", to.ip()), error);
        match error.kind() {
            ErrorKind::AddrNotAvailable => failed.hint("-s takes an address of this machine"),
            _ if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                failed.hint("-i takes an interface of this machine")
            }
            _ => failed,
        }
    };
    let way =
        route(to.ip(), args.source, device).map_err(|error| cannot("no way there", &error))?;
    let errors = DatagramSocket::icmp(Carrier::RawIcmp, way.source);
    // Not allowed: then the system tells as much as it tells everybody.
    let errors = match errors {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
        other => Some(other.map_err(|error| cannot("no raw socket", &error))?),
    };
    let kind = if errors.is_some() { Sockets::Raw } else { Sockets::Datagram };
    let mut source = SocketAddr::new(way.source, 0);
    let mut sockets = match (method, errors) {
        (Method::Icmp, Some(raw)) => vec![raw],
        (Method::Icmp, None) => {
            let socket = DatagramSocket::icmp(Carrier::Icmp, way.source);
            vec![socket.map_err(|error| not_even_icmp(to.ip(), &error))?]
        }
        (Method::Udp, errors) => {
            let socket = DatagramSocket::bind(source);
            let socket = socket.map_err(|error| cannot("no socket", &error))?;
            source = socket.local_addr().map_err(|error| cannot("no socket", &error))?;
            if errors.is_some() {
                socket.leave_errors().map_err(|error| cannot("no socket", &error))?;
            }
            [Some(socket), errors].into_iter().flatten().collect()
        }
        (Method::Tcp, Some(errors)) => {
            source.set_port(port);
            let ports = port..=port.saturating_add(FLOWS);
            let socket = DatagramSocket::tcp(way.source, &ports);
            vec![socket.map_err(|error| cannot("no raw socket", &error))?, errors]
        }
        (Method::Tcp, None) => {
            let what = format!("cannot trace {} by TCP", to.ip());
            let why = "this user may not open raw sockets";
            return Err(Failed::because(NETWORK, what, why).hint(
                "run it as root, or give the program the right with: setcap cap_net_raw+ep FILE; \
                 --method udp and --method icmp need no privileges",
            ));
        }
    };
    for socket in &mut sockets {
        if kind == Sockets::Datagram {
            socket.expect_errors();
        }
        configure(socket, args, device).map_err(|error| cannot("no such socket", &error))?;
    }
    Ok(Opened { sockets, kind, source, mtu: way.mtu })
}

/// A source port for TCP. The system does not know of it: what it is sent there, it resets, which
/// ends what a SYN has begun.
pub(super) fn draw_port(seed: &Seed) -> u16 {
    let span = PORTS.end() - PORTS.start() + 1;
    PORTS.start() + u16::try_from(seed.stream(PORT).next_u32() % u32::from(span)).unwrap_or(0)
}

fn configure(socket: &DatagramSocket, args: &Args, device: Option<&str>) -> io::Result<()> {
    if let Some(tos) = args.tos {
        socket.set_traffic_class(tos)?;
    }
    if let Some(name) = device {
        socket.set_device(name)?;
    }
    // Whatever the system believes of the way: that is what is to be found out.
    if args.mtu {
        socket.set_path_mtu(PathMtu::Probe)?;
    }
    Ok(())
}

fn not_even_icmp(to: IpAddr, error: &io::Error) -> Failed {
    let what = format!("cannot trace {to} by ICMP");
    let failed = Failed::because(NETWORK, what, error);
    match error.kind() {
        ErrorKind::PermissionDenied => failed.hint(
            "--method udp needs no privileges; root lets everybody send ICMP with: sysctl \
             net.ipv4.ping_group_range=\"0 2147483647\"",
        ),
        _ => failed,
    }
}
