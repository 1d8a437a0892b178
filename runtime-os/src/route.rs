//! How a datagram would leave this machine.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::datagram::{PathMtu, set_path_mtu};

/// Where nothing is ever sent to (RFC 863); a route is the same for all ports.
const ANY_PORT: u16 = 9;

/// More than any link carries at once.
const TOO_LONG: usize = u16::MAX as usize;

/// The first step of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address of ours that the system would send from.
    pub source: IpAddr,
    /// The largest packet that the first link takes, IP header included. What is known of links
    /// behind it does not count.
    pub mtu: u16,
}

/// The way to `to`, from an address or through an interface of ours if they are given. Nothing is
/// sent.
///
/// # Errors
///
/// The system has no way there, or no such address or interface.
pub fn route(to: IpAddr, from: Option<IpAddr>, device: Option<&str>) -> io::Result<Route> {
    let to = SocketAddr::new(to, ANY_PORT);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(name) = device {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect(&to.into())?;
    let local = socket.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
    Ok(Route { source: local.ip(), mtu: first_mtu(&socket, to.is_ipv6())? })
}

/// What the system says of a datagram that is longer than the first link takes. It is held back for
/// more to come, and so it would not leave if it fitted.
fn first_mtu(socket: &Socket, is_ipv6: bool) -> io::Result<u16> {
    set_path_mtu(socket, PathMtu::Probe, is_ipv6)?;
    match is_ipv6 {
        false => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        true => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    match socket.send_with_flags(&vec![0; TOO_LONG], libc::MSG_MORE) {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
        Err(error) => return Err(error),
        Ok(_) => return Ok(u16::MAX),
    }
    let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let mut nothing = [0; 1];
    let mut slices = [IoSliceMut::new(&mut nothing)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    )?;
    let mtu = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            (error.ee_origin == libc::SO_EE_ORIGIN_LOCAL).then_some(error.ee_info)
        }
        _ => None,
    });
    Ok(mtu.ok_or(Errno::EMSGSIZE).map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_way_to_ourselves_is_the_loopback() {
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap();
            let mtu: u32 = mtu.trim().parse().unwrap();
            let found = route(address, None, Some("lo")).unwrap();
            assert_eq!(found.source, address);
            assert_eq!(u32::from(found.mtu), mtu.min(u16::MAX.into()));
            assert_eq!(route(address, Some(address), None).unwrap(), found);
        }
    }

    #[test]
    fn an_address_or_interface_of_others_is_an_error() {
        let here = "127.0.0.1".parse().unwrap();
        let error = route(here, Some("192.0.2.1".parse().unwrap()), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(route(here, None, Some("nowhere0")).is_err());
    }

    /// Each line of `ip`'s answer names a device and, maybe, an MTU; the kernel's own are compared
    /// for every interface that has an address.
    #[test]
    fn every_interface_has_its_own_mtu() {
        let Ok(output) = Command::new("ip").args(["-o", "-4", "addr"]).output() else { return };
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let [_, device, "inet", address, ..] = words[..] else { continue };
            let address: IpAddr = address.split('/').next().unwrap().parse().unwrap();
            let Ok(mtu) = std::fs::read_to_string(format!("/sys/class/net/{device}/mtu")) else {
                continue;
            };
            let mtu: u16 = mtu.trim().parse().unwrap_or(u16::MAX);
            // A neighbour of that interface, whoever it is.
            let to = match address {
                IpAddr::V4(v4) => IpAddr::from((u32::from(v4) ^ 1).to_be_bytes()),
                IpAddr::V6(_) => continue,
            };
            if let Ok(found) = route(to, Some(address), Some(device)) {
                assert_eq!((found.source, found.mtu), (address, mtu), "{device}");
            }
        }
    }
}
