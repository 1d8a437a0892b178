//! TCP sockets, as all hosts want them.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use semfio_machine::Peer;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Connections that may wait to be accepted; the system may hold it lower.
pub const BACKLOG: i32 = 1024;

/// How long a listener rests after an error that will not pass at once: long enough to cost
/// nothing, short enough that the peers in the queue do not give up.
pub const REST: Duration = Duration::from_millis(100);

/// Who else may listen on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    /// Nobody.
    #[default]
    Alone,
    /// Other listeners that say so too; the system spreads the peers over them.
    Shared,
}

/// Listens. The socket blocks, is not inherited, and an IPv6 address takes IPv6 peers only.
pub fn listen(address: SocketAddr, port: Port) -> io::Result<TcpListener> {
    let socket = tcp_socket(address)?;
    // A restarted server must not wait for the ends of old connections.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if port == Port::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Keeps a port for one who speaks TCP over a raw socket: as long as the socket is held, the system gives
/// it to nobody else, and answers what comes to it with a reset. Port 0 is the system's choice.
pub fn keep(address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let socket = tcp_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    let port = of_socket(&socket.local_addr()?)?.port();
    Ok((socket.into(), port))
}

/// Takes the next peer, and sets up its socket: blocking, without Nagle's delay.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, address) = listener.accept()?;
    let peer = established(&stream, address)?;
    Ok((stream, peer))
}

/// Takes peers as long as the process has descriptors, and turns them away while it has none:
/// one descriptor is kept for that. A peer learns at once that there is no place, as it does
/// when there are too many connections, instead of waiting for an answer that may never come.
#[derive(Debug)]
pub struct Acceptor {
    spare: Option<File>,
}

impl Acceptor {
    /// An acceptor, for any number of listeners.
    pub fn new() -> Self {
        Self { spare: spare() }
    }

    /// Takes the peer that `accept` gives; `None` if that one has gone or was turned away, and
    /// the next may be fine.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nobody waits. After others the listener should [`REST`].
    pub fn accept<T>(
        &mut self,
        mut accept: impl FnMut() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        match accept() {
            Ok(peer) => Ok(Some(peer)),
            Err(error) if is_of_one_peer(&error) => Ok(None),
            Err(error) => {
                let without =
                    matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE));
                let turned_away = without && self.spare.take().is_some() && accept().is_ok();
                self.spare = self.spare.take().or_else(spare);
                if turned_away { Ok(None) } else { Err(error) }
            }
        }
    }
}

impl Default for Acceptor {
    fn default() -> Self {
        Self::new()
    }
}

/// A descriptor to give up when there are no others.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Starts to connect, without waiting, from `source` if that is given. Once the socket is writable, ask
/// [`connected`].
///
/// In `source`, port 0 is the system's choice, and an unspecified address is any of ours, of the kind of
/// `address`.
///
/// # Errors
///
/// Also what the network answered while the system was still sending, as it does on one machine. Without a
/// port left to connect from, ENOBUFS; EADDRINUSE if that port is the one in `source`.
pub fn connect(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    Dialler::default().connect(address, source)
}

/// Makes connections, and uses a socket again that was refused at once: to scan the ports of one machine
/// costs a third less then.
#[derive(Debug, Default)]
pub struct Dialler {
    spare: Option<Spare>,
}

/// A socket that is not connected, nor bound.
#[derive(Debug)]
struct Spare {
    socket: Socket,
    is_ipv6: bool,
}

impl Dialler {
    /// As [`connect`].
    ///
    /// # Errors
    ///
    /// As [`connect`].
    pub fn connect(
        &mut self,
        address: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<TcpStream> {
        let is_ipv6 = address.is_ipv6();
        let spare = self.spare.take_if(|spare| source.is_none() && spare.is_ipv6 == is_ipv6);
        let socket = match spare {
            Some(spare) => spare.socket,
            None => {
                let kind = Type::STREAM.nonblocking();
                Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?
            }
        };
        if let Some(source) = source {
            bind_source(&socket, source, address)?;
        }
        let to = address.into();
        let Err(error) = socket.connect(&to) else {
            return Ok(socket.into());
        };
        match Errno::from_io_error(&error) {
            Some(Errno::INPROGRESS) => {}
            Some(Errno::ADDRNOTAVAIL) => {
                let chosen = source.is_some_and(|source| source.port() != 0);
                return Err(if chosen { Errno::ADDRINUSE } else { Errno::NOBUFS }.into());
            }
            _ => return Err(error),
        }
        // Asked in this way, the system also undoes what was refused.
        let Err(error) = socket.connect(&to) else {
            return Ok(socket.into());
        };
        match Errno::from_io_error(&error) {
            // What routers say is told by the socket alone, while it goes on.
            Some(Errno::ALREADY) => match socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(socket.into()),
            },
            Some(Errno::CONNREFUSED) => {
                self.spare = source.is_none().then_some(Spare { socket, is_ipv6 });
                Err(error)
            }
            _ => Err(error),
        }
    }
}

fn bind_source(socket: &Socket, mut source: SocketAddr, address: SocketAddr) -> io::Result<()> {
    match address {
        _ if !source.ip().is_unspecified() => {}
        SocketAddr::V4(_) => source.set_ip(Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => source.set_ip(Ipv6Addr::UNSPECIFIED.into()),
    }
    // Its last connection may not be forgotten yet.
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())
}

/// How a [`connect`] stands, and once it stands, sets up the socket; `None` if there is no
/// answer yet.
pub fn connected(socket: impl AsFd) -> io::Result<Option<Peer>> {
    let stream = SockRef::from(&socket);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(address) => established(&socket, of_socket(&address)?).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets up a connection with `address` so that small writes leave at once, and gives both ends.
pub fn established(socket: impl AsFd, address: SocketAddr) -> io::Result<Peer> {
    let socket = SockRef::from(&socket);
    // It may fail for a connection that is gone already, which reading will tell.
    let _ = socket.set_tcp_nodelay(true);
    Ok(Peer { address, local: of_socket(&socket.local_addr()?)? })
}

/// Makes the closing of this socket a reset: what it still holds is thrown away, and the peer
/// can tell that the end is no end.
pub fn set_reset(socket: impl AsFd) {
    // It fails only for a socket that is broken already.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Cuts a connection. Another handle on the same socket puts it off until it is closed too.
pub fn reset(stream: impl Into<OwnedFd>) {
    set_reset(stream.into());
}

/// Whether an error of accept is that of the peer it would have given; the next may be fine.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::PERM
        )
    )
}

fn of_socket(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = listen(loopback(), Port::Alone).unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, peer) = accept(&listener).unwrap();
        assert_eq!(peer.address, ours.local_addr().unwrap());
        assert_eq!(peer.local, ours.peer_addr().unwrap());
        assert!(theirs.nodelay().unwrap());
        (ours, theirs)
    }

    #[test]
    fn a_port_is_shared_only_between_those_who_say_so() {
        let first = listen(loopback(), Port::Shared).unwrap();
        let address = first.local_addr().unwrap();
        let _second = listen(address, Port::Shared).unwrap();
        let error = listen(address, Port::Alone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_reset_is_seen_as_one_and_a_close_is_not() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);

        let (mut ours, theirs) = pair();
        reset(theirs);
        let error = ours.read(&mut [0]).unwrap_err();
        assert_eq!(crate::failure(&error), semfio_machine::Failure::Reset);
    }

    #[test]
    fn connecting_ends_with_a_peer_or_an_error() {
        let listener = listen(loopback(), Port::Alone).unwrap();
        let address = listener.local_addr().unwrap();
        let wait = |stream: TcpStream| loop {
            match connected(&stream) {
                Ok(None) => std::thread::yield_now(),
                Ok(Some(peer)) => return Ok((stream, peer)),
                Err(error) => return Err(error),
            }
        };
        let (mut stream, peer) = connect(address, None).and_then(wait).unwrap();
        assert_eq!(peer.address, address);
        assert_eq!(peer.local, stream.local_addr().unwrap());
        stream.write_all(b"x").unwrap();
        let source: SocketAddr = "127.0.0.2:0".parse().unwrap();
        let (_, peer) = connect(address, Some(source)).and_then(wait).unwrap();
        assert_eq!(peer.local.ip(), source.ip());
        let any = "[::]:0".parse().unwrap();
        let (_, peer) = connect(address, Some(any)).and_then(wait).unwrap();
        assert_eq!(peer.local.ip(), address.ip());

        // One dialler for all: what was refused is as good as new.
        let mut dialler = Dialler::default();
        let (_kept, closed) = keep(loopback()).unwrap();
        for _ in 0..3 {
            let refused = dialler.connect((address.ip(), closed).into(), None).and_then(wait);
            assert_eq!(crate::failure(&refused.unwrap_err()), semfio_machine::Failure::Refused);
            assert!(dialler.spare.is_some(), "loopback answers at once");
            let (mut stream, peer) = dialler.connect(address, None).and_then(wait).unwrap();
            assert_eq!((peer.address, dialler.spare.is_some()), (address, false));
            assert_ne!(peer.local.port(), closed);
            stream.write_all(b"x").unwrap();
        }

        drop(listener);
        let error = connect(address, None).and_then(wait).unwrap_err();
        assert_eq!(crate::failure(&error), semfio_machine::Failure::Refused);
    }
}
