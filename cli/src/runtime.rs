//! The choice of a runtime. All three take the same shard.

use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use clap::ValueEnum;
use semfio_machine::{DatagramMachine, Now, Refused, Service, Shard, StreamMachine};
use semfio_runtime_mio::{self as mio, blocking};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{Clock, Handle, HostConfig, Roots, Stopper};
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
    Smol(Box<smol_host::Host<M, S>>),
    Blocking(blocking::Host<M, S>),
}

/// Read and sent at once where files are moved, in bytes: four times the default, since each side
/// then wakes the other less often. A trace has it in one line of at most 2 MiB.
const BULK: usize = 256 * 1024;

impl<M, S> Host<M, S>
where
    M: StreamMachine + Send,
    S: Service<M> + Send,
    S::Message: Send,
    S::Report: Send,
{
    pub(crate) fn new(runtime: Runtime, shard: Shard<M, S>, clock: Clock) -> io::Result<Self> {
        Self::with(runtime, shard, HostConfig { clock, ..HostConfig::default() })
    }

    /// A host for files: its service may ask for those in these folders.
    pub(crate) fn with_roots(
        runtime: Runtime,
        shard: Shard<M, S>,
        clock: Clock,
        roots: Roots,
    ) -> io::Result<Self> {
        let config = HostConfig { clock, roots, scratch: BULK, ..HostConfig::default() };
        Self::with(runtime, shard, config)
    }

    /// A host that is as `config` says.
    pub(crate) fn with(
        runtime: Runtime,
        shard: Shard<M, S>,
        config: HostConfig,
    ) -> io::Result<Self> {
        Ok(match runtime {
            Runtime::Mio => Self::Mio(mio::Host::new(shard, config)?),
            Runtime::Smol => Self::Smol(Box::new(smol_host::Host::new(shard, config)?)),
            Runtime::Blocking => Self::Blocking(blocking::Host::new(shard, config)?),
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
            Self::Mio(host) => host.handle(),
            Self::Smol(host) => host.handle(),
            Self::Blocking(host) => host.handle(),
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

/// A machine over datagrams.
pub(crate) enum Datagrams<M> {
    Mio(mio::Datagrams<M>),
    Smol(smol_host::Datagrams<M>),
    Blocking(blocking::Datagrams<M>),
}

impl<M: DatagramMachine> Datagrams<M> {
    pub(crate) fn bind(
        runtime: Runtime,
        machine: M,
        address: SocketAddr,
        clock: Clock,
    ) -> io::Result<Self> {
        Ok(match runtime {
            Runtime::Mio => Self::Mio(mio::Datagrams::bind(machine, address, clock)?),
            Runtime::Smol => Self::Smol(smol_host::Datagrams::bind(machine, address, clock)?),
            Runtime::Blocking => {
                Self::Blocking(blocking::Datagrams::bind(machine, address, clock)?)
            }
        })
    }

    /// Over sockets of several kinds.
    pub(crate) fn over(
        runtime: Runtime,
        machine: M,
        sockets: Vec<DatagramSocket>,
        clock: Clock,
    ) -> io::Result<Self> {
        Ok(match runtime {
            Runtime::Mio => Self::Mio(mio::Datagrams::over(machine, sockets, clock)?),
            Runtime::Smol => Self::Smol(smol_host::Datagrams::over(machine, sockets, clock)?),
            Runtime::Blocking => {
                Self::Blocking(blocking::Datagrams::over(machine, sockets, clock)?)
            }
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Mio(socket) => socket.local_addr(),
            Self::Smol(socket) => socket.local_addr(),
            Self::Blocking(socket) => socket.local_addr(),
        }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        match self {
            Self::Mio(socket) => socket.stopper(),
            Self::Smol(socket) => socket.stopper(),
            Self::Blocking(socket) => socket.stopper(),
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        match self {
            Self::Mio(socket) => socket.waker(),
            Self::Smol(socket) => socket.waker(),
            Self::Blocking(socket) => socket.waker(),
        }
    }

    pub(crate) fn command(&mut self, command: M::Command<'_>) -> Result<(), Refused> {
        match self {
            Self::Mio(socket) => socket.command(command),
            Self::Smol(socket) => socket.command(command),
            Self::Blocking(socket) => socket.command(command),
        }
    }

    pub(crate) fn run(self, on_event: impl FnMut(Now, M::Event<'_>, &mut M)) -> io::Result<M> {
        self.run_with(|_, _| {}, on_event)
    }

    pub(crate) fn run_with(
        self,
        speak: impl FnMut(Now, &mut M),
        on_event: impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> io::Result<M> {
        match self {
            Self::Mio(socket) => socket.run_with(speak, on_event),
            Self::Smol(socket) => smol::block_on(socket.run_with(speak, on_event)),
            Self::Blocking(socket) => socket.run_with(speak, on_event),
        }
    }
}
