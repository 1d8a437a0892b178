//! The choice of a runtime. All three take the same shard.

use std::io;
use std::net::SocketAddr;

use clap::ValueEnum;
use semfio_machine::{DatagramMachine, Now, Refused, Service, Shard, StreamMachine};
use semfio_runtime_mio::{self as mio, blocking};
use semfio_runtime_os::Clock;
use semfio_runtime_smol as smol_host;

/// What moves the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// An event loop
    #[default]
    Mio,
    /// An async executor
    Smol,
    /// Plain threads
    Blocking,
}

/// A shard on one of the runtimes.
pub(crate) enum Host<M: StreamMachine, S: Service<M>> {
    Mio(mio::Host<M, S>),
    Smol(smol_host::Host<M, S>),
    Blocking(blocking::Host<M, S>),
}

/// Speaks to the service of a running [`Host`].
pub(crate) enum Handle<T> {
    Mio(mio::Handle<T>),
    Smol(smol_host::Handle<T>),
    Blocking(blocking::Handle<T>),
}

impl<M, S> Host<M, S>
where
    M: StreamMachine + Send,
    S: Service<M> + Send,
    S::Message: Send,
    S::Report: Send,
{
    pub(crate) fn new(runtime: Runtime, shard: Shard<M, S>, clock: Clock) -> io::Result<Self> {
        let config = || mio::HostConfig { clock, ..mio::HostConfig::default() };
        Ok(match runtime {
            Runtime::Mio => Self::Mio(mio::Host::new(shard, config())?),
            Runtime::Smol => {
                let config = smol_host::HostConfig { clock, ..smol_host::HostConfig::default() };
                Self::Smol(smol_host::Host::new(shard, config)?)
            }
            Runtime::Blocking => Self::Blocking(blocking::Host::new(shard, config())?),
        })
    }

    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        match self {
            Self::Mio(host) => host.listen(address),
            Self::Smol(host) => host.listen(address),
            Self::Blocking(host) => host.listen(address),
        }
    }

    pub(crate) fn handle(&self) -> Handle<S::Message> {
        match self {
            Self::Mio(host) => Handle::Mio(host.handle()),
            Self::Smol(host) => Handle::Smol(host.handle()),
            Self::Blocking(host) => Handle::Blocking(host.handle()),
        }
    }

    pub(crate) fn run(self, on_report: impl FnMut(S::Report)) -> io::Result<S> {
        match self {
            Self::Mio(host) => host.run(on_report),
            Self::Smol(host) => smol::block_on(host.run(on_report)),
            Self::Blocking(host) => host.run(on_report),
        }
    }
}

impl<T> Handle<T> {
    /// Waits while the queue is full. A host that is gone takes no more, which its end has told.
    pub(crate) fn send(&self, message: T) {
        let _ = match self {
            Self::Mio(handle) => handle.send(message),
            Self::Smol(handle) => handle.send(message),
            Self::Blocking(handle) => handle.send(message),
        };
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Mio(handle) => Self::Mio(handle.clone()),
            Self::Smol(handle) => Self::Smol(handle.clone()),
            Self::Blocking(handle) => Self::Blocking(handle.clone()),
        }
    }
}

/// A machine over one UDP socket. Plain threads have no such host: there, it is the event loop's.
pub(crate) enum Datagrams<M> {
    Mio(mio::Datagrams<M>),
    Smol(smol_host::Datagrams<M>),
}

/// Ends a [`Datagrams`].
#[derive(Clone)]
pub(crate) enum Stopper {
    Mio(mio::Stopper),
    Smol(smol_host::Stopper),
}

impl<M: DatagramMachine> Datagrams<M> {
    pub(crate) fn bind(
        runtime: Runtime,
        machine: M,
        address: SocketAddr,
        clock: Clock,
    ) -> io::Result<Self> {
        Ok(match runtime {
            Runtime::Mio | Runtime::Blocking => {
                Self::Mio(mio::Datagrams::bind(machine, address, clock)?)
            }
            Runtime::Smol => Self::Smol(smol_host::Datagrams::bind(machine, address, clock)?),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Mio(socket) => socket.local_addr(),
            Self::Smol(socket) => socket.local_addr(),
        }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        match self {
            Self::Mio(socket) => Stopper::Mio(socket.stopper()),
            Self::Smol(socket) => Stopper::Smol(socket.stopper()),
        }
    }

    pub(crate) fn command(&mut self, command: M::Command<'_>) -> Result<(), Refused> {
        match self {
            Self::Mio(socket) => socket.command(command),
            Self::Smol(socket) => socket.command(command),
        }
    }

    pub(crate) fn run(self, on_event: impl FnMut(Now, M::Event<'_>, &mut M)) -> io::Result<M> {
        match self {
            Self::Mio(socket) => socket.run(on_event),
            Self::Smol(socket) => smol::block_on(socket.run(on_event)),
        }
    }
}

impl Stopper {
    pub(crate) fn stop(&self) {
        match self {
            Self::Mio(stopper) => stopper.stop(),
            Self::Smol(stopper) => stopper.stop(),
        }
    }
}
