//! `semfio trace --paths`: all ways to a host, as a drawing or as records.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use semfio_machine::{Endpoint, Now, Seed};
use semfio_probe::{
    Graph, Multipath, MultipathConfig, MultipathEvent, PathEnd, PathNode, ProbesConfig, StopPaths,
};
use semfio_runtime_os::{Clock, Name, Names};
use serde_json::json;

use super::sockets::Opened;
use super::words::{self, millis};
use super::{Args, SIZE_V4, SIZE_V6};
use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK, USAGE};
use crate::output::{Records, escape, notice, print_line};
use crate::ping::shown::nanos;
use crate::runtime::{Datagrams, tell_rest};
use crate::signals;

/// How long names are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many runs in a million may miss something, from a confidence in percent.
pub(super) fn misses(text: &str) -> Result<u32, String> {
    let expected = || "expected percent, like 95 or 99.99".to_owned();
    let percent: f64 = text.parse().map_err(|_| expected())?;
    let misses = ((100.0 - percent) * 10_000.0).round();
    if (1.0..1_000_000.0).contains(&misses) { Ok(misses as u32) } else { Err(expected()) }
}

/// Looks for all ways, and prints them.
pub(super) fn run(
    common: &Common,
    args: &Args,
    probes: ProbesConfig,
    opened: Opened,
    seed: &Seed,
) -> Result<ExitCode, Failed> {
    let what = format!("cannot trace {}", args.host);
    let cannot = |error: io::Error| Failed::because(NETWORK, &*what, error);
    let address = probes.destination.ip();
    let config = MultipathConfig {
        misses: args.confidence,
        first_hop: args.first,
        max_hops: args.max_hops,
        wait: args.wait,
        gap_limit: args.gap,
        size: if address.is_ipv4() { SIZE_V4 } else { SIZE_V6 },
        ..MultipathConfig::new(probes)
    };
    let machine =
        Multipath::new(seed, config).map_err(|error| Failed::because(USAGE, &*what, error))?;
    let mut records = common.json.then(Records::default);
    if let Some(records) = &mut records {
        records.print(
            "start",
            json!({
                "host": args.host, "address": address, "source": opened.source.ip(),
                "method": words::method(args.method()), "port": machine.config().probes.destination.port(),
                "socket": words::sockets(opened.kind), "max_hops": args.max_hops, "size": config.size,
                "paths": true, "confidence": confidence(config.misses),
            }),
        );
    } else if !common.quiet {
        let host = escape(&args.host);
        let size = config.size;
        let most = args.max_hops;
        print_line(&format!("paths to {host} ({address}), {most} hops max, {size} byte packets"));
        if common.verbose {
            let source = opened.source.ip();
            notice(&format!(
                "by {} from {source}, {} sockets",
                words::method(args.method()),
                words::sockets(opened.kind)
            ));
        }
    }
    let clock = Clock::start();
    let Opened { sockets, source, .. } = opened;
    let host = Datagrams::over(common.runtime, Endpoint::new(machine), sockets, clock);
    let host = host.map_err(cannot)?;
    let names = (!args.numeric).then(|| Arc::new(Names::new(|| {})));
    let ended = host.stopper();
    let stopper = host.stopper();
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let records = RefCell::new(records);
    let on_event = |event: MultipathEvent| match event {
        MultipathEvent::Found { hop, address, .. } => {
            if let Some(names) = &names {
                names.ask(address);
            }
            if let Some(records) = &mut *records.borrow_mut() {
                records.print("found", json!({ "hop": hop, "address": address }));
            }
        }
        MultipathEvent::Ended => ended.stop(),
    };
    let host = host.run(|_: Now, event, _: &mut Endpoint<Multipath>| on_event(event));
    let mut endpoint = host.map_err(cannot)?;
    let now = clock.now();
    // Refused by none: one that has ended stays so.
    let _ = endpoint.handle_command(now, StopPaths);
    tell_rest(&mut endpoint, now, |event, _| on_event(event));
    if let Some(names) = &names {
        names.wait(PATIENCE);
    }
    let machine = endpoint.machine();
    let mut graph = machine.graph();
    if let Some(first) = graph.nodes.first_mut().filter(|node| node.hop == 0) {
        first.addresses.push(source.ip());
    }
    let shown = Shown { graph, address, names };
    match records.into_inner() {
        Some(mut records) => shown.records(machine, &mut records),
        None if !common.quiet => shown.draw(),
        None => {}
    }
    Ok(match (interrupted.is_set(), shown.graph.is_reached()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (_, true) => ExitCode::SUCCESS,
        (_, false) => ExitCode::from(NEGATIVE),
    })
}

/// In percent, from misses in a million.
fn confidence(misses: u32) -> f64 {
    f64::from(1_000_000 - misses) / 10_000.0
}

struct Shown {
    graph: Graph,
    /// Of the destination.
    address: IpAddr,
    names: Option<Arc<Names>>,
}

impl Shown {
    fn records(&self, machine: &Multipath, records: &mut Records) {
        let graph = &self.graph;
        for (id, node) in graph.nodes.iter().enumerate() {
            let names: Vec<_> = node.addresses.iter().map(|&of| self.name(of)).collect();
            records.print(
                "node",
                json!({
                    "id": id, "hop": node.hop, "addresses": node.addresses,
                    "names": names.iter().map(Option::as_deref).collect::<Vec<_>>(),
                    "end": node.end.map(end), "flows": node.flows, "by_packet": node.by_packet,
                    "limited": node.is_limited,
                    "rtt_ns": node.round_trip.map(nanos),
                }),
            );
        }
        for link in &graph.links {
            records.print("link", json!({ "from": link.from, "to": link.to, "flows": link.flows }));
        }
        for diamond in graph.diamonds() {
            let (from, to, width) = (diamond.from, diamond.to, diamond.width);
            records.print("diamond", json!({ "from": from, "to": to, "width": width }));
        }
        let counts = machine.counts();
        records.print(
            "end",
            json!({
                "reached": graph.is_reached(), "complete": graph.is_complete,
                "confidence": graph.is_complete.then(|| confidence(graph.misses)),
                "paths": graph.paths(), "nodes": graph.nodes.len(), "links": graph.links.len(),
                "flows": graph.flows, "probes": graph.probes,
                "foreign": counts.foreign, "malformed": counts.malformed,
                "ambiguous": counts.ambiguous, "duplicates": counts.duplicates,
                "refused_stamps": counts.refused_stamps,
            }),
        );
    }

    fn draw(&self) {
        drawing(&self.graph, |node| self.called(node)).iter().for_each(|line| print_line(line));
        let Graph { flows, probes, misses, .. } = self.graph;
        let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let paths = count(self.graph.paths(), "path");
        let sent = format!("{} in {}", count(probes.into(), "packet"), count(flows.into(), "flow"));
        print_line(&match self.graph.is_complete {
            true => {
                format!("{paths}, and no other with {} % confidence: {sent}", confidence(misses))
            }
            false => format!("{paths}, and maybe others, since the search was cut short: {sent}"),
        });
        if !self.graph.is_reached() {
            print_line(&format!("{} not reached", self.address));
        }
    }

    /// A node by the names of its addresses, and what is to be said of it.
    fn called(&self, node: &PathNode) -> String {
        let of = |&address: &IpAddr| match self.name(address) {
            Some(name) => format!("{} ({address})", escape(&name)),
            None => address.to_string(),
        };
        let mut called = match &*node.addresses {
            [] => "*".into(),
            all => all.iter().map(of).collect::<Vec<_>>().join(" | "),
        };
        if let Some(least) = node.round_trip {
            called += &format!("  {} ms", millis(least));
        }
        match node.end {
            Some(PathEnd::Unreachable { code }) => {
                called += &format!("  {}", words::unreachable(code, self.address));
            }
            Some(PathEnd::Other { icmp_type, icmp_code }) => {
                called += &format!("  !<{icmp_type}-{icmp_code}>");
            }
            Some(PathEnd::Reached) | None => {}
        }
        if node.by_packet {
            called += "  sends packets of one flow different ways";
        }
        if node.is_limited {
            called += "  limits its answers";
        }
        called
    }

    fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        match self.names.as_ref()?.name(address) {
            Name::Known(name) => Some(name),
            Name::None | Name::Unknown => None,
        }
    }
}

/// How flows end, in records.
fn end(end: PathEnd) -> serde_json::Value {
    match end {
        PathEnd::Reached => json!({ "kind": "reached" }),
        PathEnd::Unreachable { code } => json!({ "kind": "unreachable", "code": code }),
        PathEnd::Other { icmp_type, icmp_code } => {
            json!({ "kind": "icmp", "icmp_type": icmp_type, "code": icmp_code })
        }
    }
}

/// The nodes of each hop, one below the other. Where a hop has several, they have letters, and who is not
/// behind all of the hop before says behind which.
fn drawing(graph: &Graph, called: impl Fn(&PathNode) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let last = graph.nodes.last().map_or(0, |node| node.hop);
    let first = graph.nodes.first().map_or(0, |node| node.hop);
    let at = |hop: u8| -> Vec<usize> {
        let all = graph.nodes.iter().enumerate();
        all.filter(|(_, node)| node.hop == hop).map(|(place, _)| place).collect()
    };
    let mut before: Vec<usize> = Vec::new();
    for hop in first.saturating_add(1)..=last {
        let places = at(hop);
        for (row, &place) in places.iter().enumerate() {
            let Some(node) = graph.nodes.get(place) else { continue };
            let number = if row == 0 { format!("{hop:2}") } else { "  ".into() };
            let (branch, letter) = match (places.len(), row) {
                (1, _) => ("─", String::new()),
                (_, 0) => ("┬", letter_of(row) + "  "),
                (all, row) if row + 1 == all => ("└", letter_of(row) + "  "),
                _ => ("├", letter_of(row) + "  "),
            };
            let behind: BTreeSet<usize> =
                graph.links.iter().filter(|link| link.to == place).map(|link| link.from).collect();
            let from = before.iter().enumerate().filter(|(_, of)| behind.contains(of));
            let from: Vec<String> = from.map(|(row, _)| letter_of(row)).collect();
            let tells = before.len() > 1 && from.len() < before.len();
            let from = if tells { format!("  ← {}", from.join(" ")) } else { String::new() };
            lines.push(format!("{number} {branch} {letter}{}{from}", called(node)));
        }
        before = places;
    }
    lines
}

/// `a` to `z`, `aa` and so on.
fn letter_of(row: usize) -> String {
    let own = char::from(b'a' + u8::try_from(row % 26).unwrap_or(0));
    match row / 26 {
        0 => own.to_string(),
        more => letter_of(more - 1) + &own.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_a_number_of_misses() {
        for (text, expected) in [("95", 50_000), ("99.99", 100), ("0.01", 999_900)] {
            assert_eq!(misses(text), Ok(expected));
        }
        for text in ["100", "0", "-1", "much", "nan", ""] {
            assert!(misses(text).is_err(), "{text}");
        }
        assert_eq!([confidence(50_000), confidence(10)], [95.0, 99.999]);
    }

    #[test]
    fn letters_go_on_after_z() {
        assert_eq!([0, 25, 26, 51, 52].map(letter_of), ["a", "z", "aa", "az", "ba"]);
    }
}
