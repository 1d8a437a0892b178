//! What `semfio ping` prints: as people know it from iputils, the last two lines as scripts do.

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_machine::{Carrier, Clock, Endpoint, Instant, Now, QuotedError};
use semfio_probe::{HostCounts, PingEvent, Pinger, Reply, RoundTrips, Statistics};
use semfio_runtime_os::Names;
use serde_json::{Value, json};

use crate::Common;
use crate::called::Called;
use crate::output::{Records, escape, print_line, print_status};
use crate::ping::picture::{Latest, histogram};
use crate::record::PingRun;

/// A host as it was asked for.
#[derive(Debug)]
struct Named {
    name: String,
    address: IpAddr,
    carrier: Carrier,
}

/// Prints a run.
pub(crate) struct Shown {
    hosts: Vec<Named>,
    records: Option<Records>,
    size: String,
    /// Only the sums.
    sums: bool,
    is_flood: bool,
    verbose: bool,
    timestamps: bool,
    numeric: bool,
    wait: Duration,
    /// `None`: addresses stay addresses.
    names: Option<Called>,
    pictures: Option<Pictures>,
}

/// What only a terminal is shown.
struct Pictures {
    /// Of each host.
    latest: Vec<Latest>,
    /// The line below all others was last drawn then; nothing, if it is not there.
    drawn: Option<Instant>,
}

/// Of more hosts no pictures are drawn.
const PICTURES: usize = 8;
/// In a flood the line is drawn as often.
const REDRAWN: Duration = Duration::from_millis(100);

impl Shown {
    /// Of a run that is, or that was recorded.
    pub(crate) fn of(common: &Common, run: &PingRun) -> Self {
        let &PingRun { ref config, ref hosts, timestamps, numeric, .. } = run;
        let named = |(name, address): &(String, SocketAddr)| {
            let carrier = if address.is_ipv4() { config.carrier_v4 } else { config.carrier_v6 };
            Named { name: name.clone(), address: address.ip(), carrier }
        };
        let sizes = config.sizes;
        let is_flood = config.flood || config.interval.is_zero();
        let is_seen = !common.quiet && !common.json && io::stdout().is_terminal();
        let latest = || hosts.iter().map(|_| Latest::default()).collect();
        let pictures = || Pictures { latest: latest(), drawn: None };
        Self {
            hosts: hosts.iter().map(named).collect(),
            records: common.json.then(Records::default),
            size: match sizes.step {
                0 => sizes.first.to_string(),
                _ => format!("{}-{}", sizes.first, sizes.last),
            },
            sums: common.quiet || is_flood,
            is_flood,
            verbose: common.verbose,
            timestamps,
            numeric,
            wait: config.wait,
            names: (!numeric && !common.json && hosts.iter().any(|host| !named(host).is_numeric()))
                .then(Called::default),
            pictures: (is_seen && hosts.len() <= PICTURES).then(pictures),
        }
    }

    /// From here on, who was asked for by name is called by what its address is called, and so are
    /// those who tell of errors. Names that are not known in time are left out.
    pub(super) fn ask_names(&mut self, resolver: Names) {
        if let Some(names) = &mut self.names {
            *names = Called::by(resolver);
            let by_name = self.hosts.iter().filter(|host| !host.is_numeric());
            by_name.for_each(|host| names.ask(host.address));
        }
    }

    /// What names have come.
    pub(super) fn learn(&mut self, now: Now, endpoint: &mut Endpoint<Pinger>) {
        if let Some(names) = &mut self.names {
            names.learn(now, endpoint);
        }
    }

    /// What [`learn`](Self::learn) has noted in a trace.
    pub(crate) fn note(&mut self, note: &[u8]) {
        self.names.as_mut().into_iter().for_each(|names| names.hear(note));
    }

    /// Who is asked, and by which kind of socket.
    pub(crate) fn begin(&mut self) {
        if let Some(records) = &mut self.records {
            let hosts: Vec<Value> = self.hosts.iter().map(Named::as_json).collect();
            records.print("start", json!({ "hosts": hosts, "size": self.size }));
            return;
        }
        for Named { name, address, carrier } in &self.hosts {
            let name = escape(name);
            let socket = socket(*carrier);
            let size = &self.size;
            print_line(&format!("PING {name} ({address}) {size} bytes of data, {socket} socket."));
        }
    }

    pub(crate) fn event(&mut self, now: Now, event: &PingEvent, machine: &Pinger) {
        if let Some(records) = &mut self.records {
            if let Some((kind, record)) = as_record(now, event, machine, &self.hosts) {
                records.print(kind, record);
            }
            return;
        }
        if let (PingEvent::Unreachable { error, .. }, Some(names)) = (event, &mut self.names) {
            error.offender.into_iter().for_each(|offender| names.ask(offender));
        }
        self.draw(event);
        if let PingEvent::Finished { host } = *event {
            self.clear();
            self.finished(now, host, machine);
            if self.hosts.len() == 1 {
                self.pictures = None;
            }
            return;
        }
        let line = if self.sums { None } else { self.line(event) };
        if let Some(line) = line {
            self.clear();
            let stamp = match self.timestamps {
                true => {
                    let micros = now.unix.as_nanos() / 1_000;
                    format!("[{}.{:06}] ", micros / 1_000_000, micros % 1_000_000)
                }
                false => String::new(),
            };
            print_line(&format!("{stamp}{line}"));
        }
        self.redraw(now, machine);
    }

    fn draw(&mut self, event: &PingEvent) {
        let Some(Pictures { latest, .. }) = &mut self.pictures else { return };
        let (host, outcome) = match *event {
            PingEvent::Reply(reply) => (reply.host, Some(reply.round_trip.length)),
            PingEvent::Lost { host, .. }
            | PingEvent::Unreachable { host, .. }
            | PingEvent::NotSent { host, .. } => (host, None),
            _ => return,
        };
        if let Some(latest) = latest.get_mut(host) {
            latest.push(outcome);
        }
    }

    /// The line below all others, where one host is asked.
    fn redraw(&mut self, now: Now, machine: &Pinger) {
        let Some(Pictures { latest, drawn }) = &mut self.pictures else { return };
        let ([latest], Some(counts)) = (&latest[..], machine.host_counts(0)) else { return };
        if self.is_flood && drawn.is_some_and(|at| now.mono.saturating_since(at) < REDRAWN) {
            return;
        }
        let (line, answered, lost) = (latest.line(), counts.answered, lost(&counts));
        print_status(&format!("{line} {answered} answered, {lost} lost"));
        *drawn = Some(now.mono);
    }

    /// Takes that line away.
    fn clear(&mut self) {
        let drawn = self.pictures.as_mut().and_then(|pictures| pictures.drawn.take());
        if drawn.is_some() {
            print_status("");
        }
    }

    fn line(&self, event: &PingEvent) -> Option<String> {
        match *event {
            PingEvent::Reply(reply) => Some(self.reply(&reply, "")),
            PingEvent::Duplicate(reply) => Some(self.reply(&reply, " (DUP!)")),
            PingEvent::Elsewhere { host, number, from } => {
                let asked = self.hosts.get(host)?.address;
                Some(format!("From {from} icmp_seq={number} a reply to what {asked} was asked"))
            }
            PingEvent::Lost { number, host } if self.verbose => {
                let wait = self.wait.as_secs_f64();
                let name = self.name(host);
                Some(format!("no reply from {name}: icmp_seq={number} within {wait} s"))
            }
            PingEvent::Unreachable { host, number, error } => {
                let why = reason(self.hosts.get(host)?.address, &error);
                let from = match error.offender {
                    Some(offender) => self.called(offender).unwrap_or(offender.to_string()),
                    None => "a router".into(),
                };
                Some(format!("From {from} icmp_seq={number} {why}"))
            }
            PingEvent::NotSent { host, number, failure } => {
                Some(format!("To {} icmp_seq={number} not sent: {failure}", self.name(host)))
            }
            _ => None,
        }
    }

    fn reply(&self, reply: &Reply, mark: &str) -> String {
        let mut line = format!(
            "{} bytes from {}: icmp_seq={}",
            reply.size,
            self.name(reply.host),
            reply.number & 0xffff
        );
        if let Some(hops) = reply.hop_limit {
            line += &format!(" ttl={hops}");
        }
        let (from, to) = (reply.round_trip.from, reply.round_trip.to);
        line += &format!(" time={} ms", as_millis(reply.round_trip.length));
        line += mark;
        if (from, to) != (Clock::Kernel, Clock::Kernel) {
            line += &format!(" (clocks {})", clocks(from, to));
        }
        if reply.late {
            line += " (late)";
        }
        if reply.behind > 0 {
            line += &format!(" (out of order by {})", reply.behind);
        }
        if let Some(place) = reply.altered {
            line += &format!(" (wrong data from byte {place})");
        }
        line
    }

    fn name(&self, host: usize) -> String {
        match self.hosts.get(host) {
            None => String::new(),
            Some(host) if self.numeric || host.is_numeric() => host.address.to_string(),
            Some(Named { name, address, .. }) => {
                let asked = || format!("{} ({address})", escape(name));
                self.called(*address).unwrap_or_else(asked)
            }
        }
    }

    /// An address by its name, where that is known.
    fn called(&self, address: IpAddr) -> Option<String> {
        let name = self.names.as_ref()?.name(address)?;
        Some(format!("{} ({address})", escape(name)))
    }

    fn finished(&self, now: Now, host: usize, machine: &Pinger) {
        let (Some(counts), Some(trips), Some(named)) =
            (machine.host_counts(host), machine.round_trips(host), self.hosts.get(host))
        else {
            return;
        };
        print_line("");
        print_line(&format!("--- {} ping statistics ---", escape(&named.name)));
        details(&counts, trips).iter().for_each(|line| print_line(line));
        if let Some(Pictures { latest, .. }) = &self.pictures {
            let rows = trips.most().map(|(_, all)| histogram(all)).unwrap_or_default();
            rows.iter().for_each(|row| print_line(row));
            let line = latest.get(host).map(Latest::line).filter(|line| !line.is_empty());
            line.iter().for_each(|line| print_line(line));
        }
        // The run began at zero.
        let time = Duration::from_nanos(now.mono.as_nanos());
        print_line(&sums(&counts, time));
        match trips.most() {
            None => print_line(""),
            Some((_, all)) => print_line(&last(&counts, all, self.is_flood.then_some(time))),
        }
    }
}

impl Named {
    /// Whether it was asked for by its address.
    fn is_numeric(&self) -> bool {
        self.name.parse::<IpAddr>().is_ok()
    }

    fn as_json(&self) -> Value {
        json!({ "name": self.name, "address": self.address, "socket": socket(self.carrier) })
    }
}

fn socket(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::RawIcmp => "raw",
        _ => "datagram",
    }
}

pub(crate) fn clocks(from: Clock, to: Clock) -> String {
    let name = |clock| match clock {
        Clock::Kernel => "kernel",
        Clock::User => "user",
    };
    format!("{}/{}", name(from), name(to))
}

pub(crate) fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

fn as_record(
    now: Now,
    event: &PingEvent,
    machine: &Pinger,
    hosts: &[Named],
) -> Option<(&'static str, Value)> {
    let of = |host: usize, number: u64| {
        let named = hosts.get(host);
        json!({
            "host": named.map(|named| &named.name),
            "address": named.map(|named| named.address),
            "seq": number,
            "unix_ns": now.unix.as_nanos(),
        })
    };
    let with = |mut record: Value, more: Value| {
        if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
            record.extend(more);
        }
        record
    };
    let reply = |reply: &Reply| {
        let more = json!({
            "bytes": reply.size,
            "ttl": reply.hop_limit,
            "tos": reply.traffic_class,
            "rtt_ns": nanos(reply.round_trip.length),
            "clocks": clocks(reply.round_trip.from, reply.round_trip.to),
            "late": reply.late,
            "behind": reply.behind,
            "altered": reply.altered,
        });
        with(of(reply.host, reply.number), more)
    };
    Some(match event {
        PingEvent::Reply(told) => ("reply", reply(told)),
        PingEvent::Duplicate(told) => ("duplicate", reply(told)),
        PingEvent::Elsewhere { host, number, from } => {
            ("elsewhere", with(of(*host, *number), json!({ "from": from })))
        }
        PingEvent::Lost { host, number } => ("lost", of(*host, *number)),
        PingEvent::Unreachable { host, number, error } => {
            let more = json!({
                "from": error.offender,
                "icmp_type": error.icmp_type,
                "icmp_code": error.icmp_code,
                "info": error.info,
                "reason": hosts.get(*host).map(|named| reason(named.address, error)),
            });
            ("unreachable", with(of(*host, *number), more))
        }
        PingEvent::NotSent { host, number, failure } => {
            ("not_sent", with(of(*host, *number), json!({ "reason": failure.to_string() })))
        }
        PingEvent::Finished { host } => ("summary", summary(now, *host, machine, hosts)?),
        PingEvent::Ended => {
            let counts = machine.counts();
            let record = json!({
                "foreign": counts.foreign,
                "malformed": counts.malformed,
                "refused_stamps": counts.refused_stamps,
                "untold": counts.untold,
            });
            ("end", record)
        }
    })
}

fn summary(now: Now, host: usize, machine: &Pinger, hosts: &[Named]) -> Option<Value> {
    let (counts, trips) = (machine.host_counts(host)?, machine.round_trips(host)?);
    let named = hosts.get(host)?;
    let round_trips: Vec<Value> = trips
        .by_clocks()
        .map(|((from, to), all)| {
            json!({
                "clocks": clocks(from, to),
                "count": all.count(),
                "min_ns": nanos(all.min()),
                "avg_ns": nanos(all.avg()),
                "max_ns": nanos(all.max()),
                "mdev_ns": nanos(all.mdev()),
                "ewma_ns": nanos(all.ewma()),
                "p50_ns": nanos(all.quantile(500)),
                "p90_ns": nanos(all.quantile(900)),
                "p99_ns": nanos(all.quantile(990)),
            })
        })
        .collect();
    Some(json!({
        "host": named.name,
        "address": named.address,
        "socket": socket(named.carrier),
        "transmitted": counts.sent,
        "received": counts.answered,
        "in_flight": counts.waiting,
        "most_in_flight": counts.most_waiting,
        "lost": lost(&counts),
        "late": counts.late,
        "reordered": counts.reordered,
        "duplicates": counts.duplicates,
        "altered": counts.altered,
        "elsewhere": counts.elsewhere,
        "unreachable": counts.unreachable,
        "not_sent": counts.not_sent,
        "bursts": counts.bursts,
        "longest_burst": counts.longest_burst,
        "time_ns": now.mono.as_nanos(),
        "round_trips": round_trips,
    }))
}

/// What has had its time and was not answered.
fn lost(counts: &HostCounts) -> u64 {
    counts.sent.saturating_sub(counts.answered).saturating_sub(counts.waiting)
}

/// What iputils has no words for, before the two lines that it has.
fn details(counts: &HostCounts, trips: &RoundTrips) -> Vec<String> {
    let mut lines = Vec::new();
    let most = trips.most().map(|(of, _)| of);
    for ((from, to), all) in trips.by_clocks() {
        let quantiles = [500, 900, 990].map(|permille| three(all.quantile(permille))).join("/");
        let clocks = clocks(from, to);
        let count = all.count();
        let mut line = format!("rtt p50/p90/p99 = {quantiles} ms, {count} by clocks {clocks}");
        if most != Some((from, to)) {
            line += &format!(", not in the line below: min/avg/max/mdev = {} ms", four(all));
        }
        lines.push(line);
    }
    if counts.longest_burst > 1 {
        let (bursts, longest) = (counts.bursts, counts.longest_burst);
        let runs = if bursts == 1 { "run" } else { "runs" };
        lines.push(format!("losses: {bursts} {runs}, the longest of {longest}"));
    }
    let odd = [
        (counts.late, "late"),
        (counts.reordered, "out of order"),
        (counts.elsewhere, "from elsewhere"),
    ];
    let odd: Vec<String> = odd
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !odd.is_empty() {
        lines.push(format!("replies: {}", odd.join(", ")));
    }
    lines
}

/// The line that scripts know.
fn sums(counts: &HostCounts, time: Duration) -> String {
    let mut line = format!("{} packets transmitted, {} received", counts.sent, counts.answered);
    let more = [
        ("+", counts.duplicates, "duplicates"),
        ("+", counts.altered, "corrupted"),
        ("+", counts.unreachable.saturating_add(counts.not_sent), "errors"),
        ("", counts.waiting, "in flight"),
    ];
    for (sign, count, what) in more.into_iter().filter(|&(_, count, _)| count > 0) {
        line += &format!(", {sign}{count} {what}");
    }
    let share = percent(lost(counts), counts.sent.saturating_sub(counts.waiting));
    line + &format!(", {share}% packet loss, time {}ms", time.as_millis())
}

/// The last line. Of a flood that took `time`, how far apart its probes were and the moving average too.
fn last(counts: &HostCounts, all: &Statistics, time: Option<Duration>) -> String {
    let mut line = format!("rtt min/avg/max/mdev = {} ms", four(all));
    if counts.most_waiting > 1 {
        line += &format!(", pipe {}", counts.most_waiting);
    }
    let gaps = u32::try_from(counts.sent.saturating_sub(1)).unwrap_or(u32::MAX);
    if let Some(apart) = time.and_then(|time| time.checked_div(gaps)) {
        line += &format!(", ipg/ewma {}/{} ms", three(apart), three(all.ewma()));
    }
    line
}

/// Up to four places behind the point, as far as they say something.
fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    format!("{share:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) fn four(all: &Statistics) -> String {
    [all.min(), all.avg(), all.max(), all.mdev()].map(three).join("/")
}

/// Milliseconds to the microsecond.
pub(super) fn three(length: Duration) -> String {
    let micros = length.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

/// Milliseconds with three significant digits, as `ping` has them.
pub(crate) fn as_millis(length: Duration) -> String {
    let millis = length.as_secs_f64() * 1_000.0;
    match length.as_micros() {
        0..1_000 => format!("{millis:.3}"),
        1_000..10_000 => format!("{millis:.2}"),
        10_000..100_000 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

/// An ICMP error in the words of `ping`.
pub(crate) fn reason(asked: IpAddr, error: &QuotedError) -> String {
    let &QuotedError { icmp_type, icmp_code, info, .. } = error;
    let words = match (asked.is_ipv4(), icmp_type, icmp_code) {
        (true, 3, 0) => "Destination Net Unreachable",
        (true, 3, 1) => "Destination Host Unreachable",
        (true, 3, 2) => "Destination Protocol Unreachable",
        (true, 3, 3) => "Destination Port Unreachable",
        (true, 3, 4) => return format!("Frag needed and DF set (mtu = {info})"),
        (true, 3, 5) => "Source Route Failed",
        (true, 3, 6) => "Destination Net Unknown",
        (true, 3, 7) => "Destination Host Unknown",
        (true, 3, 9) => "Destination Net Prohibited",
        (true, 3, 10) => "Destination Host Prohibited",
        (true, 3, 13) => "Packet filtered",
        (true, 11, 0) => "Time to live exceeded",
        (true, 11, 1) => "Frag reassembly time exceeded",
        (true, 12, _) => return format!("Parameter problem: pointer = {info}"),
        (false, 1, 0) => "Destination unreachable: No route",
        (false, 1, 1) => "Destination unreachable: Administratively prohibited",
        (false, 1, 2) => "Destination unreachable: Beyond scope of source address",
        (false, 1, 3) => "Destination unreachable: Address unreachable",
        (false, 1, 4) => "Destination unreachable: Port unreachable",
        (false, 1, 5) => "Destination unreachable: Source address failed the policy",
        (false, 1, 6) => "Destination unreachable: Route rejected",
        (false, 2, _) => return format!("Packet too big: mtu={info}"),
        (false, 3, 0) => "Time exceeded: Hop limit",
        (false, 3, 1) => "Time exceeded: Defragmentation failure",
        (false, 4, _) => return format!("Parameter problem: position {info}"),
        _ => return format!("ICMP type {icmp_type} code {icmp_code}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (micros, text) in [
            (0, "0.000"),
            (45, "0.045"),
            (999, "0.999"),
            (1_234, "1.23"),
            (45_678, "45.7"),
            (123_456, "123"),
        ] {
            assert_eq!(as_millis(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn the_last_line_is_the_one_of_iputils_too() {
        let mut all = Statistics::default();
        [1, 2, 3].into_iter().for_each(|micros| all.add(Duration::from_micros(micros)));
        let mut counts = HostCounts { sent: 3, answered: 3, most_waiting: 1, ..Default::default() };
        let plain = "rtt min/avg/max/mdev = 0.001/0.002/0.003/0.000 ms";
        assert_eq!(last(&counts, &all, None), plain);
        let flood = last(&counts, &all, Some(Duration::from_micros(9)));
        assert_eq!(flood, format!("{plain}, ipg/ewma 0.004/0.001 ms"));
        counts.most_waiting = 64;
        assert_eq!(last(&counts, &all, None), format!("{plain}, pipe 64"));
        counts.sent = 1;
        assert_eq!(last(&counts, &all, Some(Duration::ZERO)), format!("{plain}, pipe 64"));
    }

    #[test]
    fn the_line_of_sums_is_the_one_that_scripts_know() {
        let time = Duration::from_millis(2_003);
        let mut counts = HostCounts { sent: 3, answered: 3, ..HostCounts::default() };
        let plain = "3 packets transmitted, 3 received, 0% packet loss, time 2003ms";
        assert_eq!(sums(&counts, time), plain);
        counts = HostCounts { sent: 4, answered: 2, waiting: 1, duplicates: 7, ..counts };
        let odd = "4 packets transmitted, 2 received, +7 duplicates, 1 in flight, 33.3333% packet \
                   loss, time 2003ms";
        assert_eq!(sums(&counts, time), odd);
        counts = HostCounts { sent: 2, unreachable: 2, ..HostCounts::default() };
        let errors = "2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 2003ms";
        assert_eq!(sums(&counts, time), errors);
    }
}
