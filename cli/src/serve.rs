//! `semfio chat serve`.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use clap::ValueEnum;
use semfio_chat::{HubConfig, HubMessage, HubReport, LogLimits, Reports, SlowPolicy, text};
use semfio_machine::Closed;
use semfio_runtime_os::Clock;
use serde_json::json;

use crate::Common;
use crate::chat::{dialect_name, warn_of_cleartext_key};
use crate::failed::{Failed, INTERRUPTED, NETWORK};
use crate::output::{LOUD, Records, escape, notice, paint, paint_nick};
use crate::record::{self, Spoken};
use crate::runtime::Host;
use crate::signals;

/// Bytes an entry may have on average in a history that is longer than usual.
const ENTRY: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; the default is open to this machine alone
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// How many entries each room keeps
    #[arg(long, value_name = "N", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    history: u32,
    /// What happens to members who read too slowly
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    slow: Slow,
    /// The room of those who name none
    #[arg(long, value_name = "ROOM", default_value = "lobby", value_parser = room)]
    room: String,
    /// Turn away whoever speaks in clear: members enter with a passphrase of their own, which the
    /// server never needs
    #[arg(long)]
    sealed: bool,
    /// Speak with the course's secure chat programs: send the key in clear to whoever comes, then
    /// tokens. It keeps nothing secret. In place of lines and plain text; `semfio chat join` works too
    #[arg(long, conflicts_with = "sealed")]
    insecure_cleartext_key: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Slow {
    /// They are told what they missed, and may ask for it
    #[default]
    Gap,
    /// They are dropped
    Disconnect,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let config = args.config(common.verbose);
    let (hub, header, redaction) = record::hub(config, common.record_secrets)?;
    let clock = Clock::start();
    let (shard, recording) =
        record::shard(hub, header, redaction, common.record.as_deref(), clock)?;
    let cannot = |error| Failed::because(NETWORK, "cannot serve", error);
    let mut host = Host::new(common.runtime, shard, clock).map_err(cannot)?;
    let address = host.listen(args.listen).map_err(|error| cannot_listen(args.listen, &error))?;
    let handle = host.handle();
    let interrupted = signals::catch(move || drop(handle.send(Spoken(HubMessage::Stop))));
    let interrupted = interrupted.map_err(cannot)?;
    let mut teller = Teller::new(common);
    if args.insecure_cleartext_key {
        warn_of_cleartext_key(teller.records.as_mut());
    }
    teller.listening(address, &args);
    let hub = host.run(|report| teller.tell(&report)).map_err(cannot)?;
    drop(hub);
    teller.stopped();
    recording.finish()?;
    Ok(if interrupted.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

impl Args {
    fn config(&self, verbose: bool) -> HubConfig {
        let entries = usize::try_from(self.history).unwrap_or(usize::MAX);
        let usual = LogLimits::default();
        let bytes = usual.bytes.max(entries.saturating_mul(ENTRY));
        HubConfig {
            room: self.room.clone(),
            log: LogLimits { entries, bytes },
            slow: match self.slow {
                Slow::Gap => SlowPolicy::Gap,
                Slow::Disconnect => SlowPolicy::Disconnect,
            },
            sealed_only: self.sealed,
            reports: if verbose { Reports::All } else { Reports::Members },
            insecure_cleartext_key: self.insecure_cleartext_key,
            ..HubConfig::default()
        }
    }
}

/// A room's name, as an argument.
pub(crate) fn room(name: &str) -> Result<String, text::BadText> {
    text::check_room(name).map(|()| name.into())
}

/// Says why a port cannot be had, and what to do.
pub(crate) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failed {
    let failed = Failed::because(NETWORK, format!("cannot listen on {address}"), error);
    let (ip, port) = (address.ip(), address.port());
    match error.kind() {
        ErrorKind::AddrInUse => failed.hint(format!(
            "another program has port {port}; `ss -ltnp` shows which. \
             With --listen {ip}:0 the system chooses a free one"
        )),
        ErrorKind::PermissionDenied => {
            failed.hint("ports below 1024 belong to the system; choose a higher one")
        }
        ErrorKind::AddrNotAvailable => {
            failed.hint(format!("{ip} is no address of this machine; `ip address` lists them"))
        }
        _ => failed,
    }
}

/// Tells what a hub reports: people on stderr, programs on stdout.
struct Teller {
    quiet: bool,
    records: Option<Records>,
}

impl Teller {
    fn new(common: &Common) -> Self {
        Self { quiet: common.quiet, records: common.json.then(Records::default) }
    }

    fn listening(&mut self, address: SocketAddr, args: &Args) {
        if let Some(records) = &mut self.records {
            let record = json!({ "address": address, "room": args.room, "sealed": args.sealed });
            return records.print("listening", record);
        }
        say_listening(address, self.quiet);
        let (ip, port) = (reachable(address.ip()), address.port());
        let address = SocketAddr::new(ip, port);
        self.say(&if args.sealed {
            format!("enter with: semfio chat join {address} --passphrase")
        } else if args.insecure_cleartext_key {
            format!("enter with: semfio chat join {address}, or: python3 cliente_seguro.py")
        } else {
            format!("enter with: semfio chat join {address}, or: nc {ip} {port}")
        });
    }

    fn tell(&mut self, report: &HubReport) {
        if let Some(records) = &mut self.records {
            let (kind, record) = as_record(report);
            records.print(kind, record);
        } else if !self.quiet {
            notice(&as_line(report));
        }
    }

    fn stopped(&mut self) {
        match &mut self.records {
            Some(records) => records.print("stopped", json!({})),
            None => self.say("stopped"),
        }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            notice(line);
        }
    }
}

/// Says where it listens, and to whom that is open.
pub(crate) fn say_listening(address: SocketAddr, quiet: bool) {
    let ip = address.ip();
    let (open_to, loud) = match ip {
        _ if ip.is_loopback() => ("this machine alone", false),
        _ if ip.is_unspecified() => ("EVERYONE who can reach this machine", true),
        _ => ("EVERYONE who can reach this address", true),
    };
    let line = format!("listening on {address}, open to {open_to}");
    // What is opened to others is said even if nothing else is.
    if loud {
        notice(&paint(LOUD, &line));
    } else if !quiet {
        notice(&line);
    }
}

/// How a connection ended.
pub(crate) fn closed(why: &Closed<impl Display>) -> String {
    match why {
        Closed::Error(error) => error.to_string(),
        Closed::Failed(failure) => failure.to_string(),
        _ => "it is over".into(),
    }
}

/// An address that leads to a listener from this machine.
pub(crate) fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// A report as a line for people.
pub(crate) fn as_line(report: &HubReport) -> String {
    match report {
        HubReport::Joined { address, dialect, nick } => {
            format!("+ {} from {address}, {}", paint_nick(nick), dialect_name(*dialect))
        }
        HubReport::Left { nick, why } => format!("- {}: {}", paint_nick(nick), escape(why)),
        HubReport::Refused { address, error } => format!("! {address}: {error}"),
        HubReport::Gap { nick, room, missed } => {
            let entries = if *missed == 1 { "entry" } else { "entries" };
            format!("! {} missed {missed} {entries} of {}", paint_nick(nick), escape(room))
        }
        HubReport::Unreadable { nick } => {
            format!("! {} sent what does not open; nobody got it", paint_nick(nick))
        }
        HubReport::Said { room, nick, text } => {
            format!("{} <{}> {}", escape(room), paint_nick(nick), escape(text))
        }
        HubReport::Sealed { room, nick, len } => {
            format!("{} <{}> (sealed, {len} bytes)", escape(room), paint_nick(nick))
        }
        HubReport::InClear { address, dialect } => {
            format!("! {address}: turned away, speaks in clear ({})", dialect_name(*dialect))
        }
        HubReport::Knocked { room, nick } => {
            format!("? {} is at the door of {}", paint_nick(nick), escape(room))
        }
        HubReport::NotAdmitted { room, nick, why } => {
            format!("! {} was not let into {}: {why}", paint_nick(nick), escape(room))
        }
        HubReport::Limited { source, pause } => {
            format!("! {source} guesses too often, has to wait {} s", pause.as_secs())
        }
        HubReport::PassedOver { room, nick } => {
            let (nick, room) = (paint_nick(nick), escape(room));
            format!("! {nick} announced no key in {room} in time and holds it no more")
        }
    }
}

/// A report as a record for programs.
pub(crate) fn as_record(report: &HubReport) -> (&'static str, serde_json::Value) {
    match report {
        HubReport::Joined { address, dialect, nick } => {
            let dialect = dialect_name(*dialect);
            ("joined", json!({ "address": address, "dialect": dialect, "nick": nick }))
        }
        HubReport::Left { nick, why } => ("left", json!({ "nick": nick, "why": why })),
        HubReport::Refused { address, error } => {
            ("refused", json!({ "address": address, "why": error.to_string() }))
        }
        HubReport::Gap { nick, room, missed } => {
            ("gap", json!({ "nick": nick, "room": room, "missed": missed }))
        }
        HubReport::Unreadable { nick } => ("unreadable", json!({ "nick": nick })),
        HubReport::Said { room, nick, text } => {
            ("said", json!({ "room": room, "nick": nick, "text": text }))
        }
        HubReport::Sealed { room, nick, len } => {
            ("sealed", json!({ "room": room, "nick": nick, "length": len }))
        }
        HubReport::InClear { address, dialect } => {
            ("in_clear", json!({ "address": address, "dialect": dialect_name(*dialect) }))
        }
        HubReport::Knocked { room, nick } => ("knocked", json!({ "room": room, "nick": nick })),
        HubReport::NotAdmitted { room, nick, why } => {
            ("not_admitted", json!({ "room": room, "nick": nick, "why": why.to_string() }))
        }
        HubReport::Limited { source, pause } => {
            ("limited", json!({ "source": source, "pause_s": pause.as_secs() }))
        }
        HubReport::PassedOver { room, nick } => {
            ("passed_over", json!({ "room": room, "nick": nick }))
        }
    }
}
