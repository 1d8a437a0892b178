//! `semfio udp-ping`: the UDP pinger of the textbooks, both sides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use rand_core::RngCore as _;
use semfio_machine::{Interval, Now, UnixTime};
use semfio_probe::{
    ClientCounts, Order, Stop, UdpPingConfig, UdpPingEvent, UdpPingServer, UdpPingServerConfig,
    UdpPingServerEvent, UdpPinger,
};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{Clock, seed};
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK};
use crate::hosts;
use crate::output::{Records, escape, notice, print_line};
use crate::ping::seconds;
use crate::ping::shown::{as_millis, clocks, four, nanos, reason};
use crate::record::{self, UdpPingRun, UdpPingServerRun};
use crate::runtime::{Datagrams, tell_rest};
use crate::serve::cannot_listen;
use crate::signals;

/// The textbook's port.
const PORT: u16 = 12_000;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Who is to answer; without a port, 12000
    #[arg(value_name = "HOST[:PORT]", required = true)]
    server: Option<String>,
    /// End after so many pings; 0 never ends
    #[arg(short, value_name = "COUNT", default_value_t = 10)]
    count: u64,
    /// Seconds to wait for an answer
    #[arg(short = 'W', value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    wait: Duration,
    /// Seconds between two pings; by default the next leaves when the last is answered or lost
    #[arg(short, value_name = "SECONDS", value_parser = seconds)]
    interval: Option<Duration>,
    /// One ping each second, or each -i, for a server that says what is missing; no answer is awaited
    #[arg(long)]
    heartbeat: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Answer pings in capitals, or forget them on purpose
    Serve(ServeArgs),
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// Where to listen; the default is open to this machine alone
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:12000")]
    listen: SocketAddr,
    /// How many of the pings chance takes: 0.3, or 30%
    #[arg(long, value_name = "PART", default_value = "0", value_parser = part)]
    loss: u32,
    /// Decides which: the same seed, the same losses, for every client
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Answer nothing; say which heartbeats are missing, and who is silent
    #[arg(long)]
    heartbeat: bool,
    /// Seconds of silence after which a client is gone
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    silence: Duration,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    match (args.role, args.server) {
        (Some(Role::Serve(args)), _) => serve(common, &args),
        (None, Some(server)) => {
            let interval = args.interval.unwrap_or(match args.heartbeat {
                true => Duration::from_secs(1),
                false => Duration::ZERO,
            });
            let count = (args.count > 0).then_some(args.count);
            let heartbeat = args.heartbeat;
            let config = UdpPingConfig { count, timeout: args.wait, interval, heartbeat };
            ping(common, &server, config)
        }
        (None, None) => unreachable!("clap asks for one of them"),
    }
}

fn ping(common: &Common, name: &str, config: UdpPingConfig) -> Result<ExitCode, Failed> {
    let server = hosts::look_up_with_port("cannot ping", name, PORT)?;
    let cannot = |error: io::Error| Failed::because(NETWORK, format!("cannot ping {name}"), error);
    let clock = Clock::start();
    let run = UdpPingRun { config, server, began: clock.now() };
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(run.machine(), run.header(), record::stop(), record, run.began)?;
    let any = match server {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0_u16; 8]),
    };
    let host = Datagrams::bind(common.runtime, endpoint, SocketAddr::new(any, 0), clock);
    let host = host.map_err(cannot)?;
    let mut shown = Shown::of(common, &run);
    shown.begin();
    let stopper = host.stopper();
    let ended = stopper.clone();
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let mut endpoint = host
        .run(|_, event, _| {
            shown.event(&event);
            if event == UdpPingEvent::Ended {
                ended.stop();
            }
        })
        .map_err(cannot)?;
    let now = clock.now();
    let _ = endpoint.handle_command(now, Stop);
    tell_rest(&mut endpoint, now, |event, _| shown.event(&event));
    let machine = endpoint.machine();
    shown.end(machine);
    let counts = machine.counts();
    let reached = match config.heartbeat {
        true => counts.sent > counts.failed,
        false => counts.answered > 0,
    };
    drop(endpoint);
    recording.finish()?;
    Ok(match (interrupted.is_set(), reached) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (_, true) => ExitCode::SUCCESS,
        (_, false) => ExitCode::from(NEGATIVE),
    })
}

fn records(common: &Common) -> Option<Records> {
    common.json.then(Records::default)
}

/// What a client prints.
pub(crate) struct Shown {
    server: SocketAddr,
    quiet: bool,
    heartbeat: bool,
    records: Option<Records>,
}

impl Shown {
    /// Of a run that is, or that was recorded.
    pub(crate) fn of(common: &Common, run: &UdpPingRun) -> Self {
        let &UdpPingRun { server, config: UdpPingConfig { heartbeat, .. }, .. } = run;
        Self { server, quiet: common.quiet, heartbeat, records: records(common) }
    }

    pub(crate) fn begin(&mut self) {
        if let Some(records) = &mut self.records {
            records.print("start", json!({ "server": self.server }));
        }
    }

    pub(crate) fn event(&mut self, event: &UdpPingEvent<'_>) {
        if let Some(records) = &mut self.records {
            if let Some((kind, record)) = client_record(self.server.ip(), event) {
                records.print(kind, record);
            }
        } else if let Some(line) = self.line(event).filter(|_| !self.quiet) {
            print_line(&line);
        }
    }

    fn line(&self, event: &UdpPingEvent<'_>) -> Option<String> {
        Some(match event {
            UdpPingEvent::Reply { text, round_trip, late, .. } => {
                let late = if *late { ", late" } else { "" };
                format!("{}: {} ms{late}", shown(text), as_millis(round_trip.length))
            }
            UdpPingEvent::Duplicate { number } => format!("Ping {number}: answered again"),
            UdpPingEvent::Lost { number } => format!("Ping {number}: no answer in time"),
            UdpPingEvent::Unreachable { number, error } => {
                let from = error.offender.map(|from| format!(", from {from}")).unwrap_or_default();
                format!("Ping {number}: {}{from}", reason(self.server.ip(), error))
            }
            UdpPingEvent::NotSent { number, failure } => {
                format!("Ping {number}: not sent: {failure}")
            }
            UdpPingEvent::Ended => return None,
        })
    }

    pub(crate) fn end(&mut self, machine: &UdpPinger) {
        let counts = machine.counts();
        let most = machine.round_trips().most();
        if let Some(records) = &mut self.records {
            let times = most.map(|((from, to), all)| {
                json!({
                    "clocks": clocks(from, to),
                    "min": nanos(all.min()), "avg": nanos(all.avg()), "max": nanos(all.max()),
                    "mdev": nanos(all.mdev()), "p50": nanos(all.quantile(500)),
                    "p90": nanos(all.quantile(900)), "p99": nanos(all.quantile(990)),
                })
            });
            let record = json!({
                "sent": counts.sent, "answered": counts.answered, "lost": counts.lost,
                "failed": counts.failed, "late": counts.late, "duplicates": counts.duplicates,
                "foreign": counts.foreign, "rtt_ns": times,
            });
            return records.print("summary", record);
        }
        print_line(&format!("--- {} udp-ping statistics ---", self.server));
        let settled = counts.answered.saturating_add(counts.lost).saturating_add(counts.failed);
        let missing = settled.saturating_sub(counts.answered).saturating_mul(100);
        let loss = missing.checked_div(settled).unwrap_or(0);
        let odd: String =
            [(counts.late, "late"), (counts.failed, "failed"), (counts.duplicates, "twice")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!(", {count} {what}"))
                .collect();
        let (sent, answered) = (counts.sent, counts.answered);
        // Who waits for no answer has lost none.
        let lost = if self.heartbeat { String::new() } else { format!(", {loss}% lost") };
        print_line(&format!("{sent} sent, {answered} answered{lost}{odd}"));
        if let Some(((from, to), all)) = most {
            let clocks = clocks(from, to);
            print_line(&format!("rtt min/avg/max/mdev = {} ms, by clocks {clocks}", four(all)));
        }
    }
}

fn client_record(server: IpAddr, event: &UdpPingEvent<'_>) -> Option<(&'static str, Value)> {
    Some(match event {
        UdpPingEvent::Reply { number, text, round_trip, late } => {
            let Interval { length, from, to } = *round_trip;
            let record = json!({
                "number": number, "text": String::from_utf8_lossy(text), "late": late,
                "rtt_ns": nanos(length), "clocks": clocks(from, to),
            });
            ("reply", record)
        }
        UdpPingEvent::Duplicate { number } => ("duplicate", json!({ "number": number })),
        UdpPingEvent::Lost { number } => ("lost", json!({ "number": number })),
        UdpPingEvent::Unreachable { number, error } => {
            let record = json!({
                "number": number, "from": error.offender, "icmp_type": error.icmp_type,
                "icmp_code": error.icmp_code, "reason": reason(server, error),
            });
            ("unreachable", record)
        }
        UdpPingEvent::NotSent { number, failure } => {
            ("not_sent", json!({ "number": number, "why": failure.to_string() }))
        }
        UdpPingEvent::Ended => return None,
    })
}

fn serve(common: &Common, args: &ServeArgs) -> Result<ExitCode, Failed> {
    let cannot = |error: io::Error| Failed::because(NETWORK, "cannot serve", error);
    let number = match args.seed {
        Some(number) => number,
        None => seed::draw().map_err(cannot)?.stream(0).next_u64(),
    };
    let config =
        UdpPingServerConfig { loss: args.loss, heartbeat: args.heartbeat, silence: args.silence };
    let cannot_listen = |error: io::Error| cannot_listen(args.listen, &error);
    let socket = DatagramSocket::bind(args.listen).map_err(cannot_listen)?;
    let address = socket.local_addr().map_err(cannot_listen)?;
    let (run, clock) = (UdpPingServerRun { config, number, address }, Clock::start());
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(run.machine(), run.header(), record::never(), record, clock.now())?;
    let host = Datagrams::over(common.runtime, endpoint, vec![socket], clock).map_err(cannot)?;
    let mut shown = ShownServer::new(common);
    shown.begin(&run);
    if shown.speaks() {
        notice(&format!("listening on {address} (UDP); Ctrl-C ends it"));
        if args.loss > 0 {
            notice(&format!("--seed {number} has the same losses again"));
        }
    }
    let stopper = host.stopper();
    signals::catch(move || stopper.stop()).map_err(cannot)?;
    let endpoint = host.run(|now, event, _| shown.event(now, &event)).map_err(cannot)?;
    shown.end(endpoint.machine());
    drop(endpoint);
    recording.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// What a server prints.
pub(crate) struct ShownServer {
    records: Option<Records>,
    quiet: bool,
}

impl ShownServer {
    pub(crate) fn new(common: &Common) -> Self {
        Self { records: records(common), quiet: common.quiet }
    }

    /// Whether people are to read it.
    fn speaks(&self) -> bool {
        self.records.is_none() && !self.quiet
    }

    pub(crate) fn begin(&mut self, run: &UdpPingServerRun) {
        if let Some(records) = &mut self.records {
            let &UdpPingServerRun { address, number, .. } = run;
            records.print("listening", json!({ "address": address, "seed": number }));
        }
    }

    pub(crate) fn event(&mut self, now: Now, event: &UdpPingServerEvent<'_>) {
        if let Some(records) = &mut self.records {
            let (kind, record) = as_record(now.unix, event);
            records.print(kind, record);
        } else if self.speaks() {
            print_line(&as_line(now.unix, event));
        }
    }

    pub(crate) fn end(&mut self, machine: &UdpPingServer) {
        for (client, counts) in machine.clients() {
            if let Some(records) = &mut self.records {
                records.print("client", with_counts(client, counts));
            } else if self.speaks() {
                print_line(&format!("{client}: {}", sums(counts)));
            }
        }
    }
}

/// What a server tells, as people read it.
pub(crate) fn as_line(now: UnixTime, event: &UdpPingServerEvent<'_>) -> String {
    match event {
        UdpPingServerEvent::Answered { client, text } => format!("{client}: {}", shown(text)),
        UdpPingServerEvent::Dropped { client, text } => {
            format!("{client}: {}, dropped", shown(text))
        }
        UdpPingServerEvent::Heartbeat { client, number, order, sent } => {
            let order = match order {
                Order::Next { missing: 0 } => String::new(),
                Order::Next { missing } => format!(", {missing} missing before it"),
                Order::Late => ", which was missing".into(),
                Order::Again => ", again".into(),
                Order::Anew => ", anew".into(),
            };
            let age = sent.map(|sent| match age(now, sent) {
                (age, false) => format!(", {} ms old", as_millis(age)),
                (age, true) => format!(", {} ms in the future: clocks differ", as_millis(age)),
            });
            format!("{client}: heartbeat {number}{order}{}", age.unwrap_or_default())
        }
        UdpPingServerEvent::Gone { client, counts } => format!("{client}: gone; {}", sums(*counts)),
    }
}

/// The same as a record, and its type.
pub(crate) fn as_record(now: UnixTime, event: &UdpPingServerEvent<'_>) -> (&'static str, Value) {
    match event {
        UdpPingServerEvent::Answered { client, text } => {
            ("answered", json!({ "client": client, "text": String::from_utf8_lossy(text) }))
        }
        UdpPingServerEvent::Dropped { client, text } => {
            ("dropped", json!({ "client": client, "text": String::from_utf8_lossy(text) }))
        }
        UdpPingServerEvent::Heartbeat { client, number, order, sent } => {
            let (order, missing) = match order {
                Order::Next { missing } => ("next", *missing),
                Order::Late => ("late", 0),
                Order::Again => ("again", 0),
                Order::Anew => ("anew", 0),
            };
            let age = sent.map(|sent| {
                let (age, ahead) = age(now, sent);
                let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
                if ahead { -age } else { age }
            });
            let record = json!({
                "client": client, "number": number, "order": order, "missing": missing,
                "age_ns": age,
            });
            ("heartbeat", record)
        }
        UdpPingServerEvent::Gone { client, counts } => ("gone", with_counts(*client, *counts)),
    }
}

/// How long ago it was sent, or how far ahead the client's clock is.
fn age(now: UnixTime, sent: UnixTime) -> (Duration, bool) {
    let (now, sent) = (now.as_nanos(), sent.as_nanos());
    (Duration::from_nanos(now.abs_diff(sent)), sent > now)
}

fn sums(counts: ClientCounts) -> String {
    let ClientCounts { received, dropped, missing } = counts;
    let missing = if missing > 0 { format!(", {missing} missing") } else { String::new() };
    format!("{received} came, {dropped} dropped{missing}")
}

fn with_counts(client: SocketAddr, counts: ClientCounts) -> Value {
    let ClientCounts { received, dropped, missing } = counts;
    json!({ "client": client, "received": received, "dropped": dropped, "missing": missing })
}

fn shown(text: &[u8]) -> String {
    escape(String::from_utf8_lossy(text).trim_end()).into_owned()
}

/// In a million.
fn part(text: &str) -> Result<u32, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if (0.0..=whole).contains(&number) =>
        {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1e6")]
            Ok((number / whole * 1e6).round() as u32)
        }
        _ => Err("expected a part of one, like 0.3, or a percentage, like 30%".into()),
    }
}
