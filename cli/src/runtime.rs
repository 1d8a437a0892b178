//! The choice of a runtime. All three take the same shard.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::thread;

use anyhow::anyhow;
use clap::ValueEnum;
use semfio_machine::{DatagramMachine, Endpoint, Now, Output, Service, Shard, StreamMachine};
use semfio_runtime_mio::{self as mio, blocking};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::tcp::{self, Port};
use semfio_runtime_os::{BoundEndpoint, Clock, Handle, HostConfig, Roots, Stopper};
use semfio_runtime_smol as smol_host;

use crate::failed::{Failed, USAGE};

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
pub(crate) const BULK: usize = 256 * 1024;

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

    /// Accepts from a socket that listens already.
    pub(crate) fn serve(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        match self {
            Self::Mio(host) => host.serve(listener),
            Self::Smol(host) => host.serve(listener),
            Self::Blocking(host) => host.serve(listener),
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

/// How many shards a server has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Number {
    /// Serve with so many threads, each with connections of its own [default: one for each processor; one
    /// where a trace is recorded]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    shards: Option<u8>,
}

impl Number {
    /// At least one; a trace is of one.
    pub(crate) fn of(self, is_recorded: bool) -> Result<usize, Failed> {
        match self.shards {
            Some(1) => Ok(1),
            Some(_) if is_recorded => {
                let why = anyhow!("cannot record several shards in one trace");
                Err(Failed::new(USAGE, why).hint("leave out --shards"))
            }
            Some(number) => Ok(number.into()),
            None if is_recorded => Ok(1),
            None => Ok(thread::available_parallelism().map_or(1, NonZero::get)),
        }
    }
}

/// Shards that share nothing but an address: each has a service, a host and a thread of its own, and
/// the system spreads the peers over them (SO_REUSEPORT).
///
/// A service that is stopped ends its own shard only: [`tell_all`](Self::tell_all) tells each of them.
/// One that [drains](semfio_machine::Net::drain) serves whoever waits in its own queue; a peer whose
/// connection stands at the very moment at which a listener is closed sees a reset, since Linux gives it
/// to no other listener unless `net.ipv4.tcp_migrate_req` says so.
pub(crate) struct Shards<M: StreamMachine, S: Service<M>>(Vec<Host<M, S>>);

impl<M, S> Shards<M, S>
where
    M: StreamMachine + Send,
    S: Service<M> + Send,
    S::Message: Send,
    S::Report: Send,
{
    /// A host, and then as many more as it takes.
    pub(crate) fn new<E>(
        first: Host<M, S>,
        number: usize,
        mut more: impl FnMut() -> Result<Host<M, S>, E>,
    ) -> Result<Self, E> {
        let mut hosts = vec![first];
        while hosts.len() < number {
            hosts.push(more()?);
        }
        Ok(Self(hosts))
    }

    /// All listen on the address; port 0 lets the system choose one for all.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let port = if self.0.len() > 1 { Port::Shared } else { Port::Alone };
        // Somebody else's listener that shares its port too would get a part of our peers.
        if port == Port::Shared && address.port() != 0 {
            drop(tcp::listen(address, Port::Alone)?);
        }
        let mut address = address;
        for host in &mut self.0 {
            address = host.serve(tcp::listen(address, port)?)?;
        }
        Ok(address)
    }

    /// Says the same to each service.
    pub(crate) fn tell_all(
        &self,
        message: impl Fn() -> S::Message + Send + 'static,
    ) -> Box<dyn FnMut() + Send>
    where
        S::Message: 'static,
    {
        let handles: Vec<_> = self.0.iter().map(Host::handle).collect();
        Box::new(move || handles.iter().for_each(|handle| drop(handle.send(message()))))
    }

    /// Runs until all have ended, the first in this thread. `on_report` is called by each, one at a time.
    ///
    /// # Errors
    ///
    /// The first of any; the others are sent `stop` then.
    pub(crate) fn run(
        self,
        stop: impl Fn() -> S::Message + Sync,
        on_report: impl FnMut(S::Report) + Send,
    ) -> io::Result<Vec<S>> {
        let handles: Vec<_> = self.0.iter().map(Host::handle).collect();
        let on_report = Mutex::new(on_report);
        let run = |host: Host<M, S>| {
            let tell = |report| {
                let mut on_report = on_report.lock().unwrap_or_else(PoisonError::into_inner);
                (*on_report)(report);
            };
            let done = host.run(tell);
            if done.is_err() {
                for handle in &handles {
                    let _ = handle.try_send(stop());
                }
            }
            done
        };
        thread::scope(|scope| {
            let mut hosts = self.0.into_iter();
            let first = hosts.next();
            let others: Vec<_> = hosts.map(|host| scope.spawn(|| run(host))).collect();
            let first = first.map(&run);
            let others = others.into_iter().map(|other| match other.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            first.into_iter().chain(others).collect()
        })
    }
}

/// An endpoint on one of the runtimes.
pub(crate) struct Datagrams<M: DatagramMachine> {
    address: SocketAddr,
    host: DatagramHost<M>,
}

enum DatagramHost<M: DatagramMachine> {
    Mio(mio::Datagrams<M>),
    Smol(smol_host::Datagrams<M>),
    Blocking(blocking::Datagrams<M>),
}

impl<M: DatagramMachine> Datagrams<M> {
    pub(crate) fn bind(
        runtime: Runtime,
        endpoint: Endpoint<M>,
        address: SocketAddr,
        clock: Clock,
    ) -> io::Result<Self> {
        Self::on(runtime, BoundEndpoint::bind(endpoint, address, clock)?)
    }

    /// Over sockets of several kinds.
    pub(crate) fn over(
        runtime: Runtime,
        endpoint: Endpoint<M>,
        sockets: Vec<DatagramSocket>,
        clock: Clock,
    ) -> io::Result<Self> {
        Self::on(runtime, BoundEndpoint::over(endpoint, sockets, clock))
    }

    fn on(runtime: Runtime, bound: BoundEndpoint<M>) -> io::Result<Self> {
        let address = bound.local_addr()?;
        let host = match runtime {
            Runtime::Mio => DatagramHost::Mio(mio::Datagrams::new(bound)?),
            Runtime::Smol => DatagramHost::Smol(smol_host::Datagrams::new(bound)?),
            Runtime::Blocking => DatagramHost::Blocking(blocking::Datagrams::new(bound)?),
        };
        Ok(Self { address, host })
    }

    /// Where its first socket is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stopper(&self) -> Stopper {
        match &self.host {
            DatagramHost::Mio(host) => host.stopper(),
            DatagramHost::Smol(host) => host.stopper(),
            DatagramHost::Blocking(host) => host.stopper(),
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        match &self.host {
            DatagramHost::Mio(host) => host.waker(),
            DatagramHost::Smol(host) => host.waker(),
            DatagramHost::Blocking(host) => host.waker(),
        }
    }

    pub(crate) fn run(
        self,
        on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        self.run_with(|_, _| {}, on_event)
    }

    pub(crate) fn run_with(
        self,
        speak: impl FnMut(Now, &mut Endpoint<M>),
        on_event: impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<Endpoint<M>> {
        match self.host {
            DatagramHost::Mio(host) => host.run_with(speak, on_event),
            DatagramHost::Smol(host) => smol::block_on(host.run_with(speak, on_event)),
            DatagramHost::Blocking(host) => host.run_with(speak, on_event),
        }
    }
}

/// Gives out what a machine still has to tell once its host is gone. Nothing leaves any more.
pub(crate) fn tell_rest<M: DatagramMachine>(
    endpoint: &mut Endpoint<M>,
    now: Now,
    mut on_event: impl FnMut(M::Event<'_>, &M),
) {
    while let Some(output) = endpoint.poll_output(now) {
        match output {
            Output::Event(event) => on_event(event, endpoint.machine()),
            Output::Transmit(..) => endpoint.handle_blocked(now),
        }
    }
}
