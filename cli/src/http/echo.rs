//! `semfio http echo`.

use std::net::SocketAddr;
use std::process::ExitCode;

use semfio_http::{Echo, EchoMessage, EchoReport, ServerConfig};
use semfio_machine::Closed;
use semfio_runtime_os::Clock;
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NETWORK};
use crate::output::{Records, escape, notice};
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;
use crate::serve::{cannot_listen, closed, reachable, say_listening};
use crate::signals;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; the default is open to this machine alone
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let clock = Clock::start();
    let reports = common.json || !common.quiet;
    let (shard, recording) = record::shard(
        Echo::new(ServerConfig::default(), reports),
        record::http_echo_header(reports),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let cannot = |error| Failed::because(NETWORK, "cannot serve", error);
    let mut host = Host::new(common.runtime, shard, clock).map_err(cannot)?;
    let address = host.listen(args.listen).map_err(|error| cannot_listen(args.listen, &error))?;
    let handle = host.handle();
    let interrupted = signals::catch(move || drop(handle.send(Spoken(EchoMessage::Stop))));
    let interrupted = interrupted.map_err(cannot)?;
    let mut records = common.json.then(Records::default);
    match &mut records {
        Some(records) => records.print("listening", json!({ "address": address })),
        None => {
            say_listening(address, common.quiet);
            if !common.quiet {
                let address = SocketAddr::new(reachable(address.ip()), address.port());
                notice(&format!("try: curl -d hello http://{address}/"));
            }
        }
    }
    let served = host.run(|report| match &mut records {
        Some(records) => {
            let (kind, record) = as_record(&report);
            records.print(kind, record);
        }
        None => notice(&as_line(&report)),
    });
    drop(served.map_err(cannot)?);
    match &mut records {
        Some(records) => records.print("stopped", json!({})),
        None if common.quiet => {}
        None => notice("stopped"),
    }
    recording.finish()?;
    Ok(if interrupted.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// A report as a line for people.
pub(crate) fn as_line(report: &EchoReport) -> String {
    match report {
        EchoReport::Answered { peer, method, target, status } => {
            format!("{} {} {}: {status}", peer.address, escape(method), escape(target))
        }
        EchoReport::Broken { peer, why } => format!("! {}: {}", peer.address, closed(why)),
    }
}

/// A report as a record for programs.
pub(crate) fn as_record(report: &EchoReport) -> (&'static str, Value) {
    match report {
        EchoReport::Answered { peer, method, target, status } => {
            let (address, status) = (peer.address, status.code());
            let record =
                json!({ "address": address, "method": method, "target": target, "status": status });
            ("answered", record)
        }
        EchoReport::Broken { peer, why: why @ Closed::Error(error) } => {
            let (rule, offset) = (error.rule.name(), error.offset);
            let (address, why) = (peer.address, closed(why));
            ("broken", json!({ "address": address, "why": why, "rule": rule, "offset": offset }))
        }
        EchoReport::Broken { peer, why } => {
            ("broken", json!({ "address": peer.address, "why": closed(why) }))
        }
    }
}
