//! `semfio trace`: arguments, sockets, and the run. What is printed is in `trace/`.

mod lines;
mod live;
mod paths;
pub(crate) mod shown;
mod sockets;
mod words;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use semfio_machine::{Endpoint, Now};
use semfio_probe::{Ended, Live, MAX_QUERIES, ProbesConfig, Stop, TraceConfig, TraceEvent, Tracer};
use semfio_runtime_os::{Clock, Names, seed};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK, USAGE};
use crate::hosts::{self, FamilyArgs};
use crate::ping::{octet, seconds};
use crate::record::{self, TraceRun};
use crate::runtime::{Datagrams, tell_rest};
use crate::signals;
use crate::trace::shown::{REDRAWN, Shown};

/// Octets of a probe's packet, as traceroute has them.
const SIZE_V4: u16 = 60;
const SIZE_V6: u16 = 80;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to: a name or an address
    #[arg(value_name = "HOST")]
    host: String,
    /// What is sent
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    method: Method,
    /// The same as --method icmp
    #[arg(short = 'I', conflicts_with_all = ["method", "udp", "tcp"])]
    icmp: bool,
    /// The same as --method udp
    #[arg(short = 'U', conflicts_with_all = ["method", "tcp"])]
    udp: bool,
    /// The same as --method tcp
    #[arg(short = 'T', conflicts_with = "method")]
    tcp: bool,
    /// The port it is sent to: by default 33434 for UDP, 80 for TCP. It stays the same, so that all
    /// takes one way
    #[arg(short, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The farthest hop that is asked
    #[arg(short, value_name = "HOPS", default_value_t = 30,
        value_parser = clap::value_parser!(u8).range(1..))]
    max_hops: u8,
    /// The first hop that is asked
    #[arg(short, value_name = "HOP", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..))]
    first: u8,
    /// How often each hop is asked
    #[arg(short, value_name = "QUERIES", default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_QUERIES)))]
    queries: u8,
    /// Seconds to wait for an answer from as far as nobody has answered yet; of nearer hops, little
    /// longer than others take
    #[arg(short, value_name = "SECONDS", default_value = "1", value_parser = some_seconds)]
    wait: Duration,
    /// So many silent hops at the end are enough
    #[arg(long, value_name = "HOPS", default_value_t = 5,
        value_parser = clap::value_parser!(u8).range(1..))]
    gap: u8,
    /// Our own address
    #[arg(short, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// Leave and come in through this interface only
    #[arg(short, value_name = "INTERFACE")]
    interface: Option<String>,
    /// The TOS or traffic-class octet of what is sent, decimal or 0x…
    #[arg(short, value_name = "TOS", value_parser = octet)]
    tos: Option<u8>,
    /// Print addresses only
    #[arg(short)]
    numeric: bool,
    /// Find out how large packets can be on the way, and where they get smaller
    #[arg(long)]
    mtu: bool,
    /// Go on asking, one query a hop each --interval: a table that is drawn again and again
    #[arg(long, conflicts_with = "mtu")]
    live: bool,
    /// With --live: seconds from one query of a hop to the next
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "live", value_parser = seconds)]
    interval: Duration,
    /// With --live: end after so many queries of each hop
    #[arg(short, value_name = "COUNT", requires = "live",
        value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Find all ways, where routers share out flows, and draw them
    #[arg(long, conflicts_with_all = ["mtu", "live", "queries"])]
    paths: bool,
    /// With --paths: how sure it shall be that there are no others, in percent
    #[arg(long, value_name = "PERCENT", default_value = "95", requires = "paths",
        value_parser = paths::misses)]
    confidence: u32,
    #[command(flatten)]
    family: FamilyArgs,
    // Under the name of the one that is everywhere, whose -q is traceroute's here.
    /// Print errors only
    #[arg(long, conflicts_with = "verbose", help_heading = "Everywhere")]
    quiet: bool,
}

/// What a probe is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Requests for an echo
    Icmp,
    /// Datagrams to a port where nobody should be
    #[default]
    Udp,
    /// SYN segments; needs privileges
    Tcp,
}

impl Args {
    fn method(&self) -> semfio_probe::Method {
        match (self.icmp, self.udp, self.tcp, self.method) {
            (true, ..) | (_, false, false, Method::Icmp) => semfio_probe::Method::Icmp,
            (_, _, true, _) | (_, false, _, Method::Tcp) => semfio_probe::Method::Tcp,
            _ => semfio_probe::Method::Udp,
        }
    }
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let common = &Common { quiet: common.quiet || args.quiet, ..common.clone() };
    let method = args.method();
    if args.paths && common.record.is_some() {
        let why = "what --paths finds is not recorded yet";
        return Err(Failed::because(USAGE, "--record cannot be used", why));
    }
    if args.mtu && method == semfio_probe::Method::Tcp {
        let why = "a SYN has one size; --method udp and --method icmp have any";
        return Err(Failed::because(USAGE, "--mtu cannot be used with TCP", why));
    }
    let to = hosts::look_up("cannot trace", &args.host, 0, args.family.family())?;
    let to = SocketAddr::new(to.ip(), args.port.unwrap_or(0));
    let cannot =
        |error: io::Error| Failed::because(NETWORK, format!("cannot trace {}", args.host), error);
    let seed = seed::draw().map_err(cannot)?;
    let opened = sockets::open(args, method, to, sockets::draw_port(&seed))?;
    let probes = ProbesConfig {
        method,
        sockets: opened.kind,
        destination: to,
        source: Some(opened.source),
        traffic_class: args.tos.unwrap_or(0),
    };
    if args.paths {
        return paths::run(common, args, probes, opened, &seed);
    }
    let size = if to.is_ipv4() { SIZE_V4 } else { SIZE_V6 };
    let config = TraceConfig {
        first_hop: args.first,
        max_hops: args.max_hops,
        queries: args.queries,
        size,
        wait: args.wait,
        gap_limit: args.gap,
        mtu: args.mtu.then_some(opened.mtu),
        live: args.live.then_some(Live { interval: args.interval, cycles: args.count }),
        ..TraceConfig::new(probes)
    };
    let clock = Clock::start();
    let (host, numeric) = (args.host.clone(), args.numeric);
    let run = TraceRun { host, config, seed, began: clock.now(), numeric };
    let tracer = run
        .machine()
        .map_err(|error| Failed::because(USAGE, format!("cannot trace {}", args.host), error))?;
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(tracer, run.header(), record::stop(), record, run.began)?;
    let mut shown = Shown::of(common, &run, endpoint.machine());
    let host = Datagrams::over(common.runtime, endpoint, opened.sockets, clock).map_err(cannot)?;
    let waker = host.waker();
    shown.ask(Names::new(move || waker.wake_by_ref()));
    let shown = RefCell::new(shown);
    shown.borrow_mut().begin();
    let (stopper, ended) = (host.stopper(), host.stopper());
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    if args.live {
        tick(host.waker());
    }
    let speak = |now: Now, endpoint: &mut Endpoint<Tracer>| {
        shown.borrow_mut().go_on(now, endpoint);
    };
    let on_event = |now: Now, event: TraceEvent<'_>, endpoint: &mut Endpoint<Tracer>| {
        shown.borrow_mut().event(now, &event, endpoint.machine());
        if matches!(event, TraceEvent::Done(_)) {
            ended.stop();
        }
    };
    let mut endpoint = host.run_with(speak, on_event).map_err(cannot)?;
    let now = clock.now();
    // Refused by one that has ended.
    let _ = endpoint.handle_command(now, Stop);
    let mut shown = shown.into_inner();
    tell_rest(&mut endpoint, now, |event, tracer| shown.event(now, &event, tracer));
    shown.finish(now, &mut endpoint);
    let tracer = endpoint.machine();
    let (why, reached) = (tracer.ended().unwrap_or(Ended::Stopped), tracer.reached());
    drop(endpoint);
    recording.finish()?;
    Ok(match (interrupted.is_set(), why, reached) {
        (true, ..) => ExitCode::from(INTERRUPTED),
        (_, Ended::NotSent(_), _) => ExitCode::from(NETWORK),
        (_, _, Some(_)) => ExitCode::SUCCESS,
        (_, _, None) => ExitCode::from(NEGATIVE),
    })
}

/// Ends the host's waits, so that a table is drawn with what has come.
fn tick(waker: Waker) {
    let ticks = move || {
        loop {
            thread::sleep(REDRAWN);
            waker.wake_by_ref();
        }
    };
    // Without it, the table is drawn as answers come.
    let _ = thread::Builder::new().name("semfio-ticks".into()).spawn(ticks);
}

/// More than none: no answer comes at once.
fn some_seconds(text: &str) -> Result<Duration, String> {
    let found = seconds(text)?;
    if found.is_zero() { Err("expected more than 0".into()) } else { Ok(found) }
}
