//! `semfio scan`: arguments and the run. What is printed is in `scan/shown.rs`.

mod services;
mod shown;
pub(crate) mod targets;

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use semfio_machine::{Carrier, DatagramMachine};
use semfio_probe::{
    MAX_RETRIES, MAX_SCAN_WINDOW, Quit, ScanConfig, ScanCounts, ScanEvent, SynScan, UdpScan,
};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{Clock, HostConfig, route, seed, tcp};
use semfio_trace::Header;

use crate::Common;
use crate::failed::{Failed, NETWORK, USAGE};
use crate::hosts::FamilyArgs;
use crate::ping::seconds;
use crate::record::{self, Redaction, ScanRun, Spoken};
use crate::runtime::{Datagrams, Host, Runtime};
use crate::scan::services::Services;
use crate::scan::shown::Shown;
use crate::scan::targets::{Ports, Targets};
use crate::signals;

/// Connections at once on plain threads, each of which is one.
const THREADS: u32 = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, addresses, or networks like 192.0.2.0/24; at most 4096 addresses in all
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// Ports: 22,80,8000-8010; 6000- and -1023 are ranges too, and - is all of them. Default: those
    /// whose service we know the name of
    #[arg(short, value_name = "PORTS", allow_hyphen_values = true, value_parser = targets::ports)]
    ports: Option<Ports>,
    /// Ask by half-open connections: a SYN and no more, which needs the right to use raw sockets
    #[arg(long, conflicts_with = "udp")]
    syn: bool,
    /// Ask by UDP datagrams: something the server of a port would answer, where that is known
    #[arg(long)]
    udp: bool,
    /// Show open ports only
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    family: FamilyArgs,
    /// Questions on their way at once, at most; fewer are, where the network or the system has no room
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SCAN_WINDOW)))]
    window: Option<u32>,
    /// Questions a second, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// The longest that one answer is waited for; less where round trips are known
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    wait: Duration,
    /// How often a port is asked again after silence
    #[arg(long, value_name = "N", default_value = "2",
        value_parser = clap::value_parser!(u8).range(..=i64::from(MAX_RETRIES)))]
    retries: u8,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let targets = Targets::find(&args.hosts, args.family.family())?;
    let services = Services::read();
    let ports = match &args.ports {
        Some(Ports(ports)) => ports.clone(),
        None => services.well_known(if args.udp { "udp" } else { "tcp" }),
    };
    let mut shown = Shown::new(common, targets, ports.len(), services, args.open);
    let config = args.config(common, ports);
    match (args.syn, args.udp) {
        (true, _) => syn(common, config, &mut shown),
        (_, true) => udp(common, config, &mut shown),
        _ => connect(common, config, &mut shown),
    }
}

/// An address of the family that stands for all of ours.
fn any(is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The families that some of the hosts have.
fn families(hosts: &[SocketAddr]) -> impl Iterator<Item = IpAddr> {
    [true, false].into_iter().filter(|v4| hosts.iter().any(|host| host.is_ipv4() == *v4)).map(any)
}

fn wrong(error: impl Display) -> Failed {
    Failed::because(USAGE, "cannot scan", error)
}

fn udp(common: &Common, config: ScanConfig, shown: &mut Shown) -> Result<ExitCode, Failed> {
    let hosts = shown.addresses();
    let cannot = |error| Failed::because(NETWORK, "cannot open a socket", error);
    let (mut sockets, mut port) = (Vec::new(), 0);
    for any in families(&hosts) {
        // The same port for both families.
        let socket = DatagramSocket::bind(SocketAddr::new(any, port)).map_err(cannot)?;
        port = socket.local_addr().map_err(cannot)?.port();
        sockets.push(socket);
    }
    let hosts = hosts.into_iter().map(|host| (host, None)).collect();
    let run = ScanRun { config, hosts, port, seed: None };
    let scan = run.udp().map_err(wrong)?;
    shown.begin("udp", "udp");
    let header = run.header(record::UDP_SCAN);
    datagrams(common, (scan, header), sockets, shown, UdpScan::counts)
}

fn syn(common: &Common, config: ScanConfig, shown: &mut Shown) -> Result<ExitCode, Failed> {
    let cannot = |error: io::Error| {
        let failed = Failed::because(NETWORK, "cannot open a raw socket", &error);
        match error.kind() {
            ErrorKind::PermissionDenied => {
                failed.hint("that is for root; without --syn ports are asked by connecting")
            }
            _ => failed,
        }
    };
    let hosts = shown.addresses();
    let mut kept = Vec::new();
    let mut port = 0;
    for any in families(&hosts) {
        // The same port for both families.
        let (socket, of) = tcp::keep(SocketAddr::new(any, port)).map_err(cannot)?;
        kept.push(socket);
        port = of;
    }
    let mut sockets = Vec::new();
    for any in families(&hosts) {
        for socket in
            [DatagramSocket::tcp(any, &(port..=port)), DatagramSocket::icmp(Carrier::RawIcmp, any)]
        {
            let mut socket = socket.map_err(cannot)?;
            socket.set_terse().map_err(cannot)?;
            sockets.push(socket);
        }
    }
    let mut from = Vec::new();
    for host in &hosts {
        let source = route(host.ip(), None, None).map_err(|error| {
            Failed::because(NETWORK, format!("cannot scan {}", host.ip()), error)
        })?;
        from.push((*host, Some(source.source)));
    }
    let seed = Some(seed::draw().map_err(cannot)?);
    let run = ScanRun { config, hosts: from, port, seed };
    let scan = run.syn().map_err(wrong)?;
    shown.begin("tcp", "syn");
    let header = run.header(record::SYN_SCAN);
    datagrams(common, (scan, header), sockets, shown, SynScan::counts)
}

/// Runs a scan by single packets.
fn datagrams<M>(
    common: &Common,
    (scan, header): (M, Header),
    sockets: Vec<DatagramSocket>,
    shown: &mut Shown,
    counts: impl Fn(&M) -> ScanCounts,
) -> Result<ExitCode, Failed>
where
    M: for<'i> DatagramMachine<Event<'i> = ScanEvent, Command<'i> = Quit>,
{
    let cannot = |error: io::Error| Failed::because(NETWORK, "cannot scan", error);
    let clock = Clock::start();
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(scan, header, record::quit(), record, clock.now())?;
    let host = Datagrams::over(common.runtime, endpoint, sockets, clock).map_err(cannot)?;
    let (stop, stopper) = (host.stopper(), host.stopper());
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let run = host.run(|_, event, _| match event {
        ScanEvent::Found(found) => shown.found(&found),
        ScanEvent::Ended => stop.stop(),
    });
    let endpoint = run.map_err(cannot)?;
    shown.end(counts(endpoint.machine()), clock.now().mono);
    drop(endpoint);
    recording.finish()?;
    Ok(shown.code(interrupted.is_set()))
}

fn connect(common: &Common, config: ScanConfig, shown: &mut Shown) -> Result<ExitCode, Failed> {
    let cannot = |error: io::Error| Failed::because(NETWORK, "cannot scan", error);
    let hosts = shown.addresses().into_iter().map(|host| (host, None)).collect();
    let run = ScanRun { config, hosts, port: 0, seed: None };
    let (scan, clock) = (run.connect().map_err(wrong)?, Clock::start());
    let (header, record) = (run.header(record::CONNECT_SCAN), common.record.as_deref());
    let (shard, recording) = record::shard(scan, header, Redaction::None, record, clock)?;
    let config = HostConfig { clock, ..HostConfig::default() };
    let host = Host::with(common.runtime, shard, config).map_err(cannot)?;
    let handle = host.handle();
    let interrupted = signals::catch(move || drop(handle.send(Spoken(Quit)))).map_err(cannot)?;
    shown.begin("tcp", "connect");
    let scan = host.run(|found| shown.found(&found)).map_err(cannot)?;
    shown.end(scan.0.counts(), clock.now().mono);
    recording.finish()?;
    Ok(shown.code(interrupted.is_set()))
}

impl Args {
    fn config(&self, common: &Common, ports: Vec<u16>) -> ScanConfig {
        let config = ScanConfig {
            ports,
            rate: self.rate,
            wait: self.wait,
            retries: self.retries,
            ..ScanConfig::default()
        };
        let most = match common.runtime {
            Runtime::Blocking => THREADS,
            _ => config.window,
        };
        ScanConfig { window: self.window.unwrap_or(most), ..config }
    }
}
