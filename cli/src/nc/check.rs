//! `semfio nc -z`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use semfio_machine::{Failure, QuotedError, Target};
use semfio_netcat::{Interrupt, TcpCheck, TcpFound, UdpCheck, UdpFound, UdpVerdict};
use semfio_runtime_os::{Clock, HostConfig};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK};
use crate::output::{Records, notice, print_line};
use crate::record::{self, Redaction, Spoken};
use crate::runtime::{Datagrams, Host};
use crate::signals;

use super::Args;

/// How long an answer over UDP is waited for, unless it is said: longer than any round trip on earth.
const UDP_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn tcp(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let (host, ports) = args.peer()?;
    let targets: Vec<Target> = ports.clone().map(|port| host.target(port)).collect();
    let mut verdicts = Verdicts::new(common, targets.len());
    let clock = Clock::start();
    let header = record::tcp_check_header(&host.target(0), &ports, args.wait);
    let record = common.record.as_deref();
    let check = TcpCheck::new(targets, args.wait);
    let (shard, recording) = record::shard(check, header, Redaction::None, record, clock)?;
    let cannot = |error| Failed::because(NETWORK, "cannot run", error);
    let config = HostConfig { clock, source: args.source(), ..HostConfig::default() };
    let host = Host::with(common.runtime, shard, config).map_err(cannot)?;
    let handle = host.handle();
    let interrupted =
        signals::catch(move || drop(handle.send(Spoken(Interrupt)))).map_err(cannot)?;
    let run = host.run(|TcpFound { target, answer }| {
        let (state, why) = match answer {
            Ok(_) => ("open", None),
            Err(Failure::Refused) => ("closed", Some(Failure::Refused)),
            Err(Failure::TimedOut) => ("filtered", Some(Failure::TimedOut)),
            Err(failure) => ("unreachable", Some(failure)),
        };
        verdicts.tell("tcp", &target, state, why.map(|why| why.to_string()));
    });
    drop(run.map_err(cannot)?);
    recording.finish()?;
    Ok(match interrupted.is_set() {
        true => ExitCode::from(INTERRUPTED),
        false => verdicts.code(),
    })
}

pub(crate) fn udp(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let (host, ports) = args.peer()?;
    let ip = host.look_up(args.source)?;
    let wait = args.wait.unwrap_or(UDP_WAIT);
    let header = record::udp_check_header(ip, &ports, wait);
    let targets: Vec<_> = ports.map(|port| SocketAddr::new(ip, port)).collect();
    let mut verdicts = Verdicts::new(common, targets.len());
    let (check, clock) = (UdpCheck::new(targets, wait), Clock::start());
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(check, header, record::never(), record, clock.now())?;
    let cannot = |error| Failed::because(NETWORK, "cannot run", error);
    let source = args.source_of(ip);
    let socket = Datagrams::bind(common.runtime, endpoint, source, clock);
    let socket = socket.map_err(cannot)?;
    let (stop, stopper) = (socket.stopper(), socket.stopper());
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let run = socket.run(|_, UdpFound { target, verdict }, endpoint| {
        let (state, why) = match verdict {
            UdpVerdict::Open => ("open", None),
            UdpVerdict::Closed => ("closed", Some("port unreachable".into())),
            UdpVerdict::OpenOrFiltered => ("open|filtered", Some("no answer".into())),
            UdpVerdict::Filtered(error) => ("filtered", Some(said_by(error))),
            UdpVerdict::Unsent(failure) => ("unreachable", Some(failure.to_string())),
        };
        verdicts.tell("udp", &Target::Address(target), state, why);
        if endpoint.machine().is_over() {
            stop.stop();
        }
    });
    drop(run.map_err(cannot)?);
    recording.finish()?;
    Ok(match interrupted.is_set() {
        true => ExitCode::from(INTERRUPTED),
        false => verdicts.code(),
    })
}

fn said_by(error: QuotedError) -> String {
    let QuotedError { offender, icmp_type, icmp_code, .. } = error;
    let who = offender.map(|who| format!(", says {who}")).unwrap_or_default();
    format!("unreachable{who} (ICMP type {icmp_type}, code {icmp_code})")
}

/// What is known of each port, told.
struct Verdicts {
    records: Option<Records>,
    /// Whether ports are told of that are not open.
    all: bool,
    quiet: bool,
    open: bool,
}

impl Verdicts {
    fn new(common: &Common, ports: usize) -> Self {
        Self {
            records: common.json.then(Records::default),
            all: common.verbose || ports == 1,
            quiet: common.quiet,
            open: false,
        }
    }

    fn tell(&mut self, transport: &str, target: &Target, state: &str, why: Option<String>) {
        self.open |= state == "open";
        if let Some(records) = &mut self.records {
            let record = json!({ "target": target.to_string(), "transport": transport,
                "state": state, "why": why });
            return records.print("port", record);
        }
        if self.quiet {
            return;
        }
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let line = format!("{target} {transport} {state}{why}");
        if state.starts_with("open") {
            print_line(&line);
        } else if self.all {
            notice(&line);
        }
    }

    fn code(&self) -> ExitCode {
        if self.open { ExitCode::SUCCESS } else { ExitCode::from(NEGATIVE) }
    }
}
