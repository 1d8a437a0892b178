//! `semfio scan`: arguments and the run. What is printed is in `scan/shown.rs`.

mod services;
mod shown;
mod targets;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use semfio_machine::{NetLimits, Shard};
use semfio_probe::{ConnectScan, MAX_RETRIES, MAX_SCAN_WINDOW, Quit, ScanConfig};
use semfio_runtime_os::{Clock, HostConfig};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK, USAGE};
use crate::hosts::FamilyArgs;
use crate::ping::seconds;
use crate::record::{Recordable, Spoken};
use crate::runtime::{Host, Runtime};
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
        None => services.well_known("tcp"),
    };
    let mut shown = Shown::new(common, targets, ports.len(), services, args.open);
    let config = args.config(common, ports);
    connect(common, config, &mut shown)
}

fn connect(common: &Common, config: ScanConfig, shown: &mut Shown) -> Result<ExitCode, Failed> {
    let cannot = |error: io::Error| Failed::because(NETWORK, "cannot scan", error);
    let scan = ConnectScan::new(&shown.addresses(), config)
        .map_err(|error| Failed::because(USAGE, "cannot scan", error))?;
    let clock = Clock::start();
    let shard = Shard::new(Recordable(scan), NetLimits::default());
    let config = HostConfig { clock, ..HostConfig::default() };
    let host = Host::with(common.runtime, shard, config).map_err(cannot)?;
    let handle = host.handle();
    let interrupted = signals::catch(move || drop(handle.send(Spoken(Quit)))).map_err(cannot)?;
    shown.begin("tcp", "connect");
    let scan = host.run(|found| shown.found(&found)).map_err(cannot)?;
    shown.end(scan.0.counts(), clock.now().mono);
    Ok(match interrupted.is_set() {
        true => ExitCode::from(INTERRUPTED),
        false if shown.is_any_open() => ExitCode::SUCCESS,
        false => ExitCode::from(NEGATIVE),
    })
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
