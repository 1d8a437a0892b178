//! What `semfio trace` prints: lines as traceroute has them, records, or the table of `--live`.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use semfio_machine::{Endpoint, Instant, Now};
use semfio_probe::{Answer, Ended, Hop, Probe, TraceEvent, Tracer, Verdict};
use semfio_runtime_os::Names;
use serde_json::{Map, Value, json};

use super::lines::{labels, line, reason, verdict, verdict_word};
use super::live::{Row, SPARKS, Screen, Times, table};
use super::words;
use crate::Common;
use crate::called::Called;
use crate::output::{Records, escape, notice, print_line};
use crate::ping::shown::{clocks, nanos};
use crate::record::TraceRun;

/// How long a name is waited for, from when it is asked for or from the end on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two drawings of a table.
pub(super) const REDRAWN: Duration = Duration::from_millis(100);

/// Who is traced, and how.
#[derive(Debug)]
struct Asked {
    host: String,
    address: IpAddr,
    source: Option<IpAddr>,
    method: &'static str,
    port: u16,
    socket: &'static str,
    max_hops: u8,
    size: u16,
    mtu: bool,
    live: bool,
}

/// In a trace: what is certain was printed, and so was the end.
const PRINTED: &[u8] = b"print";
const ENDED: &[u8] = b"end";

/// Prints a run.
pub(crate) struct Shown {
    asked: Asked,
    records: Option<Records>,
    quiet: bool,
    verbose: bool,
    /// `None`: addresses stay addresses.
    names: Option<Called>,
    /// When a name was first waited for, by address.
    waits: BTreeMap<IpAddr, Instant>,
    /// The next hop to be printed.
    next: u8,
    /// The largest packet that has got as far as what is printed.
    size: Option<u16>,
    /// The latest answers of each hop, for the table.
    latest: BTreeMap<u8, VecDeque<Option<Duration>>>,
    screen: Option<Screen>,
    /// When the table was drawn, and whether it has changed since.
    drawn: Option<Instant>,
    changed: bool,
    complete: bool,
}

impl Shown {
    /// Of a run that is, or that was recorded.
    pub(crate) fn of(common: &Common, run: &TraceRun, tracer: &Tracer) -> Self {
        let TraceRun { host, config, .. } = run;
        let asked = Asked {
            host: host.clone(),
            address: config.probes.destination.ip(),
            source: config.probes.source.map(|source| source.ip()),
            method: words::method(config.probes.method),
            port: tracer.probes().config().destination.port(),
            socket: words::sockets(config.probes.sockets),
            max_hops: config.max_hops,
            size: config.mtu.unwrap_or(config.size),
            mtu: config.mtu.is_some(),
            live: config.live.is_some(),
        };
        let records = common.json.then(Records::default);
        let screen = if asked.live && records.is_none() && !common.quiet {
            Screen::on_terminal()
        } else {
            None
        };
        Self {
            asked,
            records,
            quiet: common.quiet,
            verbose: common.verbose,
            names: (!run.numeric).then(Called::default),
            waits: BTreeMap::new(),
            next: config.first_hop,
            size: None,
            latest: BTreeMap::new(),
            screen,
            drawn: None,
            changed: false,
            complete: false,
        }
    }

    /// Names come from there, if they are wanted.
    pub(super) fn ask(&mut self, resolver: Names) {
        if let Some(names) = &mut self.names {
            *names = Called::by(resolver);
        }
    }

    /// Who is traced, and by which kind of socket.
    pub(crate) fn begin(&mut self) {
        let title = self.title();
        let Asked { host, address, source, method, port, socket, max_hops, size, .. } = &self.asked;
        if let Some(records) = &mut self.records {
            records.print(
                "start",
                json!({
                    "host": host, "address": address, "source": source, "method": method,
                    "port": port, "socket": socket, "max_hops": max_hops, "size": size,
                    "mtu": self.asked.mtu, "live": self.asked.live,
                }),
            );
        } else if !self.quiet {
            if self.screen.is_none() {
                print_line(&title);
            }
            if self.verbose {
                let from = source.map(|source| format!(" from {source}")).unwrap_or_default();
                notice(&format!("by {method}{from}, {socket} sockets"));
            }
        }
    }

    fn title(&self) -> String {
        let Asked { host, address, max_hops, size, mtu, .. } = &self.asked;
        let size = if *mtu { "up to " } else { "" }.to_owned() + &size.to_string();
        let host = escape(host);
        format!("traceroute to {host} ({address}), {max_hops} hops max, {size} byte packets")
    }

    pub(crate) fn event(&mut self, now: Now, event: &TraceEvent<'_>, tracer: &Tracer) {
        self.changed = true;
        if let (TraceEvent::Hop(answer) | TraceEvent::Narrow(answer), Some(names)) =
            (event, &mut self.names)
        {
            names.ask(answer.from);
            self.waits.entry(answer.from).or_insert(now.mono);
        }
        match event {
            TraceEvent::Hop(answer) => {
                self.remember(answer.probe.hop_limit, Some(answer.round_trip.length));
            }
            TraceEvent::Silent(probe) => self.remember(probe.hop_limit, None),
            _ => {}
        }
        let address = self.asked.address;
        if let Some((records, (kind, record))) =
            self.records.as_mut().zip(as_record(event, address))
        {
            records.print(kind, record);
        }
        self.flush(now, tracer);
    }

    fn remember(&mut self, hop: u8, time: Option<Duration>) {
        if !self.asked.live {
            return;
        }
        let latest = self.latest.entry(hop).or_default();
        if latest.len() >= SPARKS {
            latest.pop_front();
        }
        latest.push_back(time);
    }

    /// What names have come, and what is printed with them.
    pub(super) fn go_on(&mut self, now: Now, endpoint: &mut Endpoint<Tracer>) {
        if let Some(names) = &mut self.names {
            names.learn(now, endpoint);
        }
        if !self.asked.live && self.is_certain(now, endpoint.machine()) {
            endpoint.note(now, PRINTED);
        }
        self.flush(now, endpoint.machine());
    }

    /// The end, once its names are known or were waited for.
    pub(super) fn finish(&mut self, now: Now, endpoint: &mut Endpoint<Tracer>) {
        if let Some(names) = &mut self.names {
            names.wait(PATIENCE);
            names.learn(now, endpoint);
        }
        endpoint.note(now, ENDED);
        self.end(now, endpoint.machine());
    }

    /// What the two above have noted in a trace.
    pub(crate) fn note(&mut self, now: Now, note: &[u8], tracer: &Tracer) {
        match note {
            PRINTED => self.flush(now, tracer),
            ENDED => self.end(now, tracer),
            _ => {
                self.names.as_mut().into_iter().for_each(|names| names.hear(note));
            }
        }
    }

    /// Prints what has become certain, and draws the table if its time has come.
    fn flush(&mut self, now: Now, tracer: &Tracer) {
        if self.asked.live {
            return self.draw(now, tracer, false);
        }
        while self.is_certain(now, tracer) {
            self.hop(tracer);
        }
    }

    /// Whether the next hop is.
    fn is_certain(&self, now: Now, tracer: &Tracer) -> bool {
        self.next <= tracer.settled() && self.has_names(now, tracer)
    }

    /// Whether names of the next hop are known, or were waited for long enough.
    fn has_names(&self, now: Now, tracer: &Tracer) -> bool {
        let Some((names, hop)) = self.names.as_ref().zip(tracer.hop(self.next)) else {
            return true;
        };
        hop.nodes.iter().all(|node| {
            let since = self.waits.get(&node.address).copied().unwrap_or(now.mono);
            names.is_known(node.address) || since.saturating_add(PATIENCE) <= now.mono
        })
    }

    /// Prints the next hop.
    fn hop(&mut self, tracer: &Tracer) {
        let number = self.next;
        self.next = number.saturating_add(1);
        let Some(hop) = tracer.hop(number) else { return };
        let tells = hop.mtu.filter(|_| hop.mtu != self.size);
        self.size = hop.mtu.or(self.size);
        if self.records.is_some() {
            let record = self.as_hop(number, hop, tells, tracer.verdict(number));
            if let Some(records) = &mut self.records {
                records.print("hop", record);
            }
        } else if !self.quiet {
            print_line(&line(number, hop, tells, |address| self.called(address)));
        }
    }

    /// An address with its name, if it has one.
    fn called(&self, address: IpAddr) -> String {
        match self.name(address) {
            Some(name) => format!("{} ({address})", escape(name)),
            None => address.to_string(),
        }
    }

    fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.as_ref()?.name(address)
    }

    fn as_hop(&self, number: u8, hop: &Hop, tells: Option<u16>, verdict: Verdict) -> Value {
        let nodes: Vec<Value> = hop
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "address": node.address,
                    "name": self.name(node.address),
                    "answers": node.answers,
                    "labels": node.labels.iter().map(words::label).collect::<Vec<_>>(),
                })
            })
            .collect();
        let times = hop.round_trips.most().map(|((from, to), all)| {
            json!({
                "clocks": clocks(from, to), "min_ns": nanos(all.min()), "avg_ns": nanos(all.avg()),
                "max_ns": nanos(all.max()), "mdev_ns": nanos(all.mdev()),
                "jitter_ns": nanos(hop.jitter.mean()),
            })
        });
        json!({
            "hop": number,
            "addresses": nodes,
            "sent": hop.counts.sent,
            "answered": hop.counts.answered,
            "late": hop.counts.late,
            "lost": hop.counts.lost,
            "not_sent": hop.counts.not_sent,
            "verdict": verdict_word(verdict),
            "round_trips": times,
            "rewritten": hop.rewritten.as_ref().map(as_rewritten),
            "mtu": tells,
        })
    }

    /// The end: what is left to print, what is to be thought of it, and why it is over.
    fn end(&mut self, now: Now, tracer: &Tracer) {
        let ended = tracer.ended().unwrap_or(Ended::Stopped);
        if self.asked.live {
            self.draw(now, tracer, true);
        }
        let last = tracer.hops().next_back().map_or(0, |(number, _)| number);
        if !self.asked.live || self.records.is_some() {
            while self.next <= last {
                // Of what is still on its way nothing is known.
                let is_known = tracer.hop(self.next).is_some_and(|hop| hop.counts.judged() > 0);
                if !is_known && ended == Ended::Stopped {
                    break;
                }
                self.hop(tracer);
            }
        }
        let counts = tracer.probes().counts();
        let mtu = self.size.filter(|_| self.asked.mtu);
        if let Some(records) = &mut self.records {
            records.print(
                "end",
                json!({
                    "reached": tracer.reached().is_some(),
                    "reason": reason(ended),
                    "hops": tracer.reached().unwrap_or(last),
                    "mtu": mtu,
                    "foreign": counts.foreign,
                    "malformed": counts.malformed,
                    "ambiguous": counts.ambiguous,
                    "duplicates": counts.duplicates,
                    "refused_stamps": counts.refused_stamps,
                    "untold": tracer.untold(),
                }),
            );
        } else if !self.quiet {
            self.conclude(tracer, ended, mtu);
        }
    }

    fn conclude(&self, tracer: &Tracer, ended: Ended, mtu: Option<u16>) {
        // Behind the last that answers, nobody knows.
        let last = tracer.hops().rfind(|(_, hop)| hop.address().is_some());
        let heard = last.map_or(0, |(number, _)| number);
        for (number, hop) in tracer.hops().take_while(|(number, _)| *number <= heard) {
            if let Some(told) = verdict(hop, tracer.verdict(number), number == heard) {
                let who = hop.address().map(|address| format!(" {}", self.called(address)));
                print_line(&format!("hop {number}{}: {told}", who.unwrap_or_default()));
            }
        }
        if let Some(mtu) = mtu {
            print_line(&format!("packets of {mtu} bytes get there whole"));
        }
        let address = self.asked.address;
        let who = last.and_then(|(number, hop)| Some((number, self.called(hop.address()?))));
        let says = |what: &str| match &who {
            Some((number, who)) => format!("{address} not reached: {who} at hop {number} {what}"),
            None => format!("{address} not reached: nobody answers"),
        };
        let told = match ended {
            // The last line says it.
            Ended::Reached | Ended::Stopped | Ended::Cycles => return,
            Ended::Unreachable { code } => {
                says(&format!("says: {}", words::unreachable(code, address)))
            }
            Ended::TooBig { mtu } => says(&format!("lets only {mtu} bytes pass")),
            Ended::Loop => says("ends a third lap through the same routers"),
            Ended::GapLimit => says("is the last that answers"),
            Ended::MaxHops => {
                let hops = self.asked.max_hops;
                says(&format!("is the last that answers of {hops} that were asked"))
            }
            Ended::NotSent(failure) => format!("{address} not reached: not sent: {failure}"),
        };
        print_line(&told);
    }

    /// Draws the table: on a terminal often, elsewhere when it is whole for the first time and at the
    /// end.
    fn draw(&mut self, now: Now, tracer: &Tracer, at_end: bool) {
        if self.records.is_some() || self.quiet {
            return;
        }
        let reached = tracer.reached();
        let mut hops = tracer.hops();
        let is_complete = reached.is_some() && hops.all(|(_, hop)| hop.counts.judged() > 0);
        let first = is_complete && !self.complete;
        self.complete |= is_complete;
        let since = self.drawn.map(|drawn| drawn.saturating_add(REDRAWN));
        let is_due = self.changed && since.is_none_or(|since| since <= now.mono);
        let on_screen = self.screen.is_some();
        if !(first || at_end || on_screen && is_due) {
            return;
        }
        (self.drawn, self.changed) = (Some(now.mono), false);
        let rows: Vec<Row> =
            tracer.hops().map(|(number, hop)| self.row(number, hop, tracer)).collect();
        let title = self.title();
        match &mut self.screen {
            Some(screen) => screen.draw(&title, &rows),
            None => {
                table("", &rows, usize::MAX).iter().skip(1).for_each(|line| print_line(line));
            }
        }
    }

    fn row(&self, number: u8, hop: &Hop, tracer: &Tracer) -> Row {
        let others = hop.nodes.len().saturating_sub(1);
        let mut host = hop.address().map(|address| self.called(address)).unwrap_or("*".into());
        if others > 0 {
            host += &format!(" +{others}");
        }
        // What is wider than one column would shift all others.
        let host = host.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        let times = hop.last.zip(hop.round_trips.most()).map(|(last, (_, all))| Times {
            last: last.length,
            avg: all.avg(),
            best: all.min(),
            worst: all.max(),
            stdev: all.mdev(),
            jitter: hop.jitter.mean(),
        });
        let verdict = match tracer.verdict(number) {
            Verdict::Answers | Verdict::Unknown => String::new(),
            other => verdict_word(other).replace('_', " "),
        };
        let labels: Vec<String> = hop
            .nodes
            .iter()
            .filter(|node| !node.labels.is_empty())
            .map(|node| format!("  {}", labels(&node.labels)))
            .collect();
        Row {
            hop: number,
            host,
            sent: hop.counts.judged(),
            lost: hop.counts.lost,
            times,
            verdict: verdict + &labels.concat(),
            latest: self
                .latest
                .get(&number)
                .map(|it| it.iter().copied().collect())
                .unwrap_or_default(),
        }
    }
}

fn as_record(event: &TraceEvent<'_>, destination: IpAddr) -> Option<(&'static str, Value)> {
    Some(match event {
        TraceEvent::Hop(answer) => ("answer", as_answer(answer, destination)),
        TraceEvent::Narrow(answer) => ("narrow", as_answer(answer, destination)),
        TraceEvent::Silent(probe) => ("silent", as_probe(probe).into()),
        TraceEvent::NotSent { probe, failure } => {
            let mut record = as_probe(probe);
            record.insert("reason".into(), failure.to_string().into());
            ("not_sent", record.into())
        }
        TraceEvent::Cycle { number } => ("cycle", json!({ "number": number })),
        TraceEvent::Done(_) => return None,
    })
}

fn as_probe(probe: &Probe) -> Map<String, Value> {
    let &Probe { number, hop_limit, flow, size } = probe;
    let fields: [(&str, Value); 4] = [
        ("probe", number.into()),
        ("hop", hop_limit.into()),
        ("flow", flow.into()),
        ("size", size.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn as_answer(answer: &Answer<'_>, destination: IpAddr) -> Value {
    let mut record = as_probe(&answer.probe);
    let kind = answer.kind;
    let round_trip = answer.round_trip;
    let fields: [(&str, Value); 11] = [
        ("from", json!(answer.from)),
        ("kind", words::kind(kind).into()),
        ("code", words::code(kind).into()),
        ("mtu", words::mtu(kind).into()),
        ("reason", words::error(kind, destination).into()),
        ("rtt_ns", nanos(round_trip.length).into()),
        ("clocks", clocks(round_trip.from, round_trip.to).into()),
        ("ttl", answer.hop_limit.into()),
        ("late", answer.late.into()),
        ("rewritten", answer.rewritten.as_ref().map(as_rewritten).into()),
        ("extension", answer.extension.map(words::extension).into()),
    ];
    record.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    record.into()
}

fn as_rewritten(seen: &semfio_probe::Rewritten) -> Value {
    let fields = words::rewritten(seen).into_iter();
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}
