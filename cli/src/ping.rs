//! `semfio ping`: arguments, sockets, and the run. What is printed is in `ping/shown.rs`.

mod picture;
pub(crate) mod shown;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use semfio_machine::{Carrier, Endpoint, Now};
use semfio_probe::{PingConfig, PingEvent, Pinger, Sizes, Stop};
use semfio_runtime_os::datagram::{DatagramSocket, PathMtu};
use semfio_runtime_os::{Clock, Names, seed};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK, USAGE};
use crate::hosts::{self, FamilyArgs};
use crate::ping::shown::Shown;
use crate::record::{self, PingRun};
use crate::runtime::{Datagrams, tell_rest};
use crate::signals;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or addresses, any number, of both families
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// End after so many requests; with --deadline, after so many replies
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds between two requests to one host; 0 is a flood
    #[arg(short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// End after so many seconds
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<Duration>,
    /// Seconds to wait for a reply
    #[arg(short = 'W', value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    wait: Duration,
    /// Octets of payload; FIRST-LAST or FIRST-LAST/STEP sends all sizes in turn
    #[arg(short, value_name = "SIZE", default_value = "56", value_parser = sizes)]
    size: Sizes,
    /// Fill the payload with these octets, up to 16 in hex
    #[arg(short, value_name = "HEX", value_parser = pattern)]
    pattern: Option<Pattern>,
    /// The TTL or hop limit of requests
    #[arg(short, value_name = "HOPS", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// The TOS or traffic-class octet of requests, decimal or 0x…
    #[arg(short = 'Q', value_name = "TOS", value_parser = octet)]
    tos: Option<u8>,
    /// What becomes of requests larger than the path: fail, be cut here, be cut anywhere, go as is
    #[arg(short = 'M', value_name = "HOW", value_enum)]
    mtu: Option<Fragment>,
    /// The address to send from, or the interface to use
    #[arg(short = 'I', value_name = "ADDRESS|INTERFACE")]
    interface: Option<String>,
    /// The mark for routing rules (needs privileges)
    #[arg(short, value_name = "MARK")]
    mark: Option<u32>,
    /// Flood: each reply sends the next request, at least 100 a second; only the sums are printed
    #[arg(short)]
    flood: bool,
    /// Requests that leave at once; in a flood, so many are kept on their way
    #[arg(short = 'l', value_name = "PRELOAD", default_value = "1",
        value_parser = clap::value_parser!(u16).range(1..))]
    preload: u16,
    /// Print the time before each line
    #[arg(short = 'D')]
    timestamps: bool,
    /// Print addresses only
    #[arg(short)]
    numeric: bool,
    #[command(flatten)]
    family: FamilyArgs,
}

/// What becomes of a datagram larger than its path.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Fragment {
    Do,
    Want,
    Dont,
    Probe,
}

/// Octets that fill a payload.
#[derive(Clone, Debug)]
struct Pattern(Vec<u8>);

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let family = args.family.family();
    let found = |host: &String| hosts::look_up("cannot ping", host, 0, family);
    let hosts = args.hosts.iter().map(found).collect::<Result<Vec<_>, _>>()?;
    let (sockets, [carrier_v4, carrier_v6]) = open(&args, &hosts)?;
    let config = PingConfig {
        interval: args.interval,
        count: args.count,
        deadline: args.deadline,
        wait: args.wait,
        preload: args.preload,
        flood: args.flood,
        sizes: args.size,
        pattern: args.pattern.clone().map(|Pattern(octets)| octets).unwrap_or_default(),
        hop_limit: args.ttl,
        carrier_v4,
        carrier_v6,
    };
    let cannot = |error: io::Error| hinted(Failed::because(NETWORK, "cannot ping", &error), &error);
    let clock = Clock::start();
    let run = PingRun {
        config,
        hosts: args.hosts.iter().cloned().zip(hosts).collect(),
        seed: seed::draw().map_err(cannot)?,
        began: clock.now(),
        timestamps: args.timestamps,
        numeric: args.numeric,
    };
    let machine = run.machine().map_err(|error| Failed::because(USAGE, "cannot ping", error))?;
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(machine, run.header(), record::stop(), record, run.began)?;
    let host = Datagrams::over(common.runtime, endpoint, sockets, clock).map_err(cannot)?;
    let stopper = host.stopper();
    let ended = stopper.clone();
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let mut shown = Shown::of(common, &run);
    let waker = host.waker();
    shown.ask_names(Names::new(move || waker.wake_by_ref()));
    shown.begin();
    let shown = RefCell::new(shown);
    let speak = |now: Now, endpoint: &mut Endpoint<Pinger>| shown.borrow_mut().learn(now, endpoint);
    let on_event = |now: Now, event: PingEvent, endpoint: &mut Endpoint<Pinger>| {
        shown.borrow_mut().event(now, &event, endpoint.machine());
        if event == PingEvent::Ended {
            ended.stop();
        }
    };
    let mut endpoint = host.run_with(speak, on_event).map_err(cannot)?;
    let mut shown = shown.into_inner();
    // What is on its way stays so; hosts that have not finished are told of now.
    let now = clock.now();
    let _ = endpoint.handle_command(now, Stop);
    tell_rest(&mut endpoint, now, |event, machine| shown.event(now, &event, machine));
    let machine = endpoint.machine();
    let answered = |host| machine.host_counts(host).is_some_and(|counts| counts.answered > 0);
    let all_answered = (0..run.hosts.len()).all(answered);
    drop(endpoint);
    recording.finish()?;
    Ok(if interrupted.is_set() {
        ExitCode::from(INTERRUPTED)
    } else if all_answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NEGATIVE)
    })
}

/// A socket for each family there is a host of: without privileges if possible, else a raw one.
fn open(args: &Args, hosts: &[SocketAddr]) -> Result<(Vec<DatagramSocket>, [Carrier; 2]), Failed> {
    let mut sockets = Vec::new();
    let mut carriers = [Carrier::Icmp; 2];
    for (family, carrier) in ["IPv4", "IPv6"].into_iter().zip(&mut carriers) {
        let is_v4 = family == "IPv4";
        if !hosts.iter().any(|host| host.is_ipv4() == is_v4) {
            continue;
        }
        let any = if is_v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        let source = args.interface.as_ref().and_then(|name| name.parse::<IpAddr>().ok());
        let source = source.filter(|source| source.is_ipv4() == is_v4).unwrap_or(any);
        let failed = |error: &io::Error| {
            let what = format!("cannot open a socket for ICMP over {family}");
            let failed = Failed::because(NETWORK, what, error);
            match error.kind() {
                ErrorKind::PermissionDenied => failed.hint(
                    "root lets everybody ping with: sysctl net.ipv4.ping_group_range=\"0 2147483647\"",
                ),
                ErrorKind::AddrNotAvailable => failed.hint("-I takes an address of this machine"),
                _ => hinted(failed, error),
            }
        };
        let socket = match DatagramSocket::icmp(Carrier::Icmp, source) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                *carrier = Carrier::RawIcmp;
                // Why the other one is refused is what an unprivileged user can change.
                match DatagramSocket::icmp(Carrier::RawIcmp, source) {
                    Err(raw) if raw.kind() == ErrorKind::PermissionDenied => Err(error),
                    other => other,
                }
            }
            other => other,
        };
        let mut socket = socket.map_err(|error| failed(&error))?;
        configure(&socket, args)?;
        if is_flood(args) {
            socket.set_terse().map_err(|error| failed(&error))?;
        }
        sockets.push(socket);
    }
    Ok((sockets, carriers))
}

/// What can be done about it, where that can be said.
fn hinted(failed: Failed, error: &io::Error) -> Failed {
    let no_more_files = rustix::io::Errno::MFILE.raw_os_error();
    match error.raw_os_error() == Some(no_more_files) {
        true => failed.hint("this process may open too few files: ulimit -n"),
        false => failed,
    }
}

/// Whether answers send requests. There the rate counts, and the kernel's stamps of departures would
/// cost a third of it.
fn is_flood(args: &Args) -> bool {
    args.flood || args.interval.is_zero()
}

fn configure(socket: &DatagramSocket, args: &Args) -> Result<(), Failed> {
    let cannot = |what: String| move |error: io::Error| Failed::because(NETWORK, what, error);
    if let Some(tos) = args.tos {
        socket.set_traffic_class(tos).map_err(cannot(format!("cannot set TOS {tos}")))?;
    }
    if let Some(how) = args.mtu {
        let how = match how {
            Fragment::Do => PathMtu::Do,
            Fragment::Want => PathMtu::Want,
            Fragment::Dont => PathMtu::Dont,
            Fragment::Probe => PathMtu::Probe,
        };
        socket.set_path_mtu(how).map_err(cannot("cannot set -M".into()))?;
    }
    if let Some(mark) = args.mark {
        socket.set_mark(mark).map_err(cannot(format!("cannot set mark {mark}")))?;
    }
    match &args.interface {
        Some(name) if name.parse::<IpAddr>().is_err() => {
            socket.set_device(name).map_err(cannot(format!("cannot use interface {name}")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected seconds, like 0.2".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let number = |text: &str| match text.parse() {
        Ok(size) if size <= semfio_probe::MAX_SIZE => Ok(size),
        _ => Err(format!("expected 0 to {}", semfio_probe::MAX_SIZE)),
    };
    let Some((first, rest)) = text.split_once('-') else {
        let size = number(text)?;
        return Ok(Sizes { first: size, last: size, step: 0 });
    };
    let (last, step) = rest.split_once('/').unwrap_or((rest, "1"));
    let sizes = Sizes { first: number(first)?, last: number(last)?, step: number(step)? };
    match sizes.first <= sizes.last && sizes.step > 0 {
        true => Ok(sizes),
        false => Err("expected sizes that grow".into()),
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let digit = |digit: char| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.chars().map(digit).collect();
    match digits {
        Some(digits) if (2..=32).contains(&digits.len()) && digits.len() % 2 == 0 => {
            Ok(Pattern(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
        }
        _ => Err("expected 1 to 16 octets in hex, like ff00".into()),
    }
}

pub(crate) fn octet(text: &str) -> Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected 0 to 255, or 0x00 to 0xff".into())
}
