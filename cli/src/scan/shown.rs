//! What `semfio scan` prints: a table for each host, or a record for each port.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use semfio_machine::Instant;
use semfio_probe::{Found, IcmpReason, PortState, Reason, ScanCounts};
use serde_json::{Value, json};

use super::services::Services;
use super::targets::Targets;
use crate::Common;
use crate::failed::{INTERRUPTED, NEGATIVE};
use crate::output::{DIM, Records, escape, notice, paint, print_line};

/// Ports in one state that are shown one by one, and not counted: as many as one reads.
const FEW: u64 = 25;

/// Prints a run.
pub(super) struct Shown {
    hosts: Vec<Host>,
    ports: usize,
    services: Services,
    records: Option<Records>,
    only_open: bool,
    quiet: bool,
    verbose: bool,
    transport: &'static str,
    bar: Option<ProgressBar>,
}

struct Host {
    name: String,
    address: SocketAddr,
    /// It answered itself.
    reached: bool,
    counts: BTreeMap<(PortState, Reason), u64>,
    kept: Vec<Found>,
}

impl Shown {
    pub(super) fn new(
        common: &Common,
        Targets(targets): Targets,
        ports: usize,
        services: Services,
        only_open: bool,
    ) -> Self {
        let host = |(name, address)| Host {
            name,
            address,
            reached: false,
            counts: BTreeMap::new(),
            kept: Vec::new(),
        };
        let shows_bar = !common.json && !common.quiet && io::stderr().is_terminal();
        Self {
            bar: shows_bar.then(|| bar(ports as u64 * targets.len() as u64)),
            hosts: targets.into_iter().map(host).collect(),
            ports,
            services,
            records: common.json.then(Records::default),
            only_open,
            quiet: common.quiet,
            verbose: common.verbose,
            transport: "tcp",
        }
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.hosts.iter().map(|host| host.address).collect()
    }

    /// What is asked, and how.
    pub(super) fn begin(&mut self, transport: &'static str, method: &str) {
        self.transport = transport;
        if let Some(records) = &mut self.records {
            let host = |host: &Host| json!({ "name": host.name, "address": host.address.ip().to_string() });
            let hosts: Vec<Value> = self.hosts.iter().map(host).collect();
            let record = json!({ "hosts": hosts, "ports": self.ports, "transport": transport,
                "method": method });
            records.print("start", record);
        }
    }

    pub(super) fn found(&mut self, found: &Found) {
        let Some(host) = self.hosts.get_mut(found.host) else {
            return;
        };
        host.reached |= is_own(found);
        let count = host.counts.entry((found.state, found.reason)).or_default();
        *count += 1;
        let wanted = !self.only_open || found.state == PortState::Open;
        if self.records.is_none() {
            // What will be counted only is not kept.
            if wanted && (self.verbose || found.state == PortState::Open || *count <= FEW) {
                host.kept.push(*found);
            }
        }
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if !wanted {
            return;
        }
        let (name, service) = (&host.name, self.services.name(self.transport, found.target.port()));
        if let Some(records) = &mut self.records {
            records.print("port", as_record(name, self.transport, service, found));
        }
    }

    /// All that was found, and how it went.
    pub(super) fn end(&mut self, counts: ScanCounts, took: Instant) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let took = took.saturating_since(Instant::default());
        if let Some(records) = &mut self.records {
            let hosts: Vec<Value> = self.hosts.iter().map(Host::as_record).collect();
            let reached = self.hosts.iter().filter(|host| host.reached).count();
            let record = json!({ "hosts": hosts, "reached": reached, "questions": counts.questions,
                "found": counts.found, "asked": counts.asked, "again": counts.again,
                "exhausted": counts.exhausted, "foreign": counts.foreign, "window": counts.window,
                "seconds": took.as_secs_f64() });
            return records.print("summary", record);
        }
        let mut untold = 0_u64;
        for host in &mut self.hosts {
            let has_open = host.counts.keys().any(|(state, _)| *state == PortState::Open);
            if !self.verbose && !has_open && !host.reached && self.ports > 1 && counts.found > FEW {
                untold += 1;
                continue;
            }
            host.print(self.transport, &self.services, self.only_open, self.verbose);
        }
        if self.quiet {
            return;
        }
        let open: u64 = self.hosts.iter().map(|host| host.count(PortState::Open)).sum();
        let silent = match untold {
            0 => String::new(),
            n => format!("; {n} of the hosts did not answer"),
        };
        let left = match counts.questions.saturating_sub(counts.found) {
            0 => String::new(),
            n => format!("; {n} were not asked or not answered yet"),
        };
        let hosts = count(self.hosts.len() as u64, "host");
        let ports = count(self.ports as u64, "port");
        let seconds = took.as_secs_f64();
        notice(&format!("{hosts}, {ports} each, in {seconds:.2} s: {open} open{silent}{left}"));
        if self.verbose {
            let ScanCounts { asked, again, exhausted, window, .. } = counts;
            notice(&format!(
                "{asked} questions asked, {again} of them again, {exhausted} times no room; \
                 {window} at once in the end"
            ));
        }
    }

    /// How the command ends.
    pub(super) fn code(&self, interrupted: bool) -> ExitCode {
        let is_any_open = self.hosts.iter().any(|host| host.count(PortState::Open) > 0);
        match interrupted {
            true => ExitCode::from(INTERRUPTED),
            false if is_any_open => ExitCode::SUCCESS,
            false => ExitCode::from(NEGATIVE),
        }
    }
}

impl Host {
    fn count(&self, state: PortState) -> u64 {
        self.counts.iter().filter(|((of, _), _)| *of == state).map(|(_, count)| count).sum()
    }

    fn print(&mut self, transport: &str, services: &Services, only_open: bool, verbose: bool) {
        let address = self.address.ip().to_string();
        match self.name == address {
            true => print_line(&address),
            false => print_line(&format!("{} ({address})", escape(&self.name))),
        }
        self.kept.sort_by_key(|found| found.target.port());
        let shown = |found: &&Found| {
            let few = |count: &u64| *count <= FEW;
            let state = (found.state, found.reason);
            verbose || found.state == PortState::Open || self.counts.get(&state).is_some_and(few)
        };
        let mut heading = Some("  port       state          service          why");
        for found in self.kept.iter().filter(shown) {
            if let Some(heading) = heading.take() {
                print_line(&paint(DIM, heading));
            }
            let port = format!("{}/{transport}", found.target.port());
            let service = services.name(transport, found.target.port()).unwrap_or("-");
            let (state, why) = (state(found.state), why(found));
            print_line(&format!("  {port:10} {state:14} {:16} {why}", escape(service)));
        }
        if only_open {
            return;
        }
        let counted = |(of, n): &(&(PortState, Reason), &u64)| {
            !verbose && of.0 != PortState::Open && **n > FEW
        };
        let rest: Vec<String> = self
            .counts
            .iter()
            .filter(counted)
            .map(|((of, reason), n)| format!("{n} {} ({})", state(*of), words(*reason)))
            .collect();
        if !rest.is_empty() {
            print_line(&format!("  {}", rest.join(", ")));
        }
    }

    fn as_record(&self) -> Value {
        let states = [
            PortState::Open,
            PortState::Closed,
            PortState::Filtered,
            PortState::OpenOrFiltered,
            PortState::Unreachable,
            PortState::Unasked,
        ];
        let mut record = json!({ "name": self.name, "address": self.address.ip().to_string(),
            "reached": self.reached });
        for of in states {
            record[state(of)] = self.count(of).into();
        }
        record
    }
}

/// Whether the host itself has answered.
fn is_own(found: &Found) -> bool {
    match found.reason {
        Reason::Connected
        | Reason::Refused
        | Reason::MetItself
        | Reason::SynAck
        | Reason::Reset
        | Reason::Answer => true,
        Reason::Icmp(IcmpReason { from, .. }) => from == Some(found.target.ip()),
        Reason::Silence | Reason::System(_) => false,
    }
}

fn state(state: PortState) -> &'static str {
    match state {
        PortState::Open => "open",
        PortState::Closed => "closed",
        PortState::Filtered => "filtered",
        PortState::OpenOrFiltered => "open|filtered",
        PortState::Unreachable => "unreachable",
        PortState::Unasked => "unasked",
    }
}

/// The reason in a word, for records.
fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Connected => "connected",
        Reason::Refused => "refused",
        Reason::SynAck => "syn-ack",
        Reason::Reset => "reset",
        Reason::Answer => "answer",
        Reason::MetItself => "met-itself",
        Reason::Silence => "silence",
        Reason::Icmp(_) => "icmp",
        Reason::System(_) => "system",
    }
}

fn words(reason: Reason) -> String {
    match reason {
        Reason::Connected => "connected".into(),
        Reason::Refused => "refused".into(),
        Reason::SynAck => "acknowledged".into(),
        Reason::Reset => "reset".into(),
        Reason::Answer => "answered".into(),
        Reason::MetItself => "only our own question was there".into(),
        Reason::Silence => "no answer".into(),
        Reason::System(failure) => failure.to_string(),
        Reason::Icmp(IcmpReason { from, icmp_type, icmp_code }) => {
            let who = from.map_or_else(String::new, |from| format!(", says {from}"));
            format!("ICMP type {icmp_type}, code {icmp_code}{who}")
        }
    }
}

fn why(found: &Found) -> String {
    let words = words(found.reason);
    // By connecting, it is the time of whole turns: more of our own work than of the way.
    let is_round_trip = !matches!(found.reason, Reason::Connected | Reason::Refused);
    match found.round_trip.filter(|_| is_round_trip) {
        Some(took) => format!("{words}, {:.3} ms", millis(took)),
        None => words,
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn as_record(name: &str, transport: &str, service: Option<&str>, found: &Found) -> Value {
    let icmp = match found.reason {
        Reason::Icmp(icmp) => Some(icmp),
        _ => None,
    };
    json!({
        "host": name, "address": found.target.ip().to_string(), "port": found.target.port(),
        "transport": transport, "state": state(found.state), "service": service,
        "reason": reason(found.reason), "why": words(found.reason),
        "from": icmp.and_then(|icmp| icmp.from).map(|from| from.to_string()),
        "icmp_type": icmp.map(|icmp| icmp.icmp_type), "icmp_code": icmp.map(|icmp| icmp.icmp_code),
        "rtt_ms": found.round_trip.map(millis), "tries": found.tries,
    })
}

fn count(n: u64, of: &str) -> String {
    if n == 1 { format!("1 {of}") } else { format!("{n} {of}s") }
}

fn bar(questions: u64) -> ProgressBar {
    let template = "{wide_bar} {percent}% {pos}/{len} ports, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is our own");
    let bar = ProgressBar::with_draw_target(Some(questions), ProgressDrawTarget::stderr());
    bar.with_style(style)
}
