//! The command line: arguments, printing, and the choice of a runtime. Protocols are in `core/`.

mod called;
mod chat;
mod failed;
mod file;
mod generate;
mod hosts;
mod http;
mod join;
mod lab;
mod nc;
mod output;
mod passphrase;
mod ping;
mod ports;
mod progress;
mod record;
mod replay;
mod runtime;
mod scan;
mod serve;
mod signals;
mod token;
mod tour;
mod trace;
mod udp_ping;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::failed::{Failed, USAGE};
use crate::runtime::Runtime;

/// Network protocols without the wire: chat, files, HTTP, netcat, ping, traceroute, scans.
#[derive(Debug, Parser)]
#[command(name = "semfio", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What all commands take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
struct Common {
    /// What moves the bytes
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "SEMFIO_RUNTIME",
        hide_env_values = true
    )]
    runtime: Runtime,
    /// Print JSON Lines, each with a `type`; the first has the schema version `v`
    #[arg(long, global = true)]
    json: bool,
    /// Write a trace of the run, for `semfio replay`: all that was said, but neither passphrase nor
    /// keys
    #[arg(long, global = true, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write passphrase and keys into the trace too: whoever gets it can read and enter the room
    #[arg(long, global = true, requires = "record")]
    record_secrets: bool,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value_t)]
    color: clap::ColorChoice,
    /// Print errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more
    #[arg(long, short, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A room to talk in: serve one, or join one
    #[command(subcommand)]
    Chat(chat::Chat),
    /// Files: serve a folder, list one, get what is in it, whole for certain
    #[command(subcommand)]
    File(file::File),
    /// HTTP: serve a folder, get what URLs lead to, echo requests
    #[command(subcommand)]
    Http(http::Http),
    /// Fernet tokens: keys, sealing, opening, rotation
    #[command(subcommand)]
    Token(token::Token),
    /// Ask hosts for echoes, many at once, and say how long they took and by whose clocks
    Ping(ping::Args),
    /// Which way packets take to a host: who answers on each hop, how fast, and what to make of it
    Trace(trace::Args),
    /// Ports of hosts: which are open, and how that is known
    Scan(scan::Args),
    /// The UDP pinger of the textbooks: ping, or answer with losses on purpose
    UdpPing(udp_ping::Args),
    /// Netcat: bytes from here to there and back, over TCP or UDP
    Nc(nc::Args),
    /// Which sockets this machine has, in which state, and of which process
    Ports(ports::Args),
    /// Run a recorded trace again and compare
    Replay(replay::Args),
    /// Start every server there is on this machine, to play with
    Lab(lab::Args),
    /// Print man pages and shell completions
    #[command(subcommand)]
    Generate(generate::Generate),
}

/// Ends with what clap says, and what could help.
fn refuse(error: &clap::Error) -> ! {
    let _ = error.print();
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) => unknown.as_str(),
        _ => "",
    };
    let given = |wanted: &str| std::env::args_os().any(|arg| arg == wanted);
    if given("serve") && unknown.starts_with("--passphrase") {
        output::notice(
            "hint: the server needs no passphrase: it has no key, those who join agree on it; see --sealed",
        );
    } else if given("--passphrase") && error.kind() == ErrorKind::UnknownArgument
        || error.kind() == ErrorKind::TooManyValues && unknown.starts_with("--passphrase")
    {
        output::notice(
            "hint: --passphrase asks for it and takes none: others on this machine see arguments, \
             and the shell keeps them",
        );
    }
    std::process::exit(error.exit_code())
}

fn main() -> ExitCode {
    let Cli { common, command } = Cli::try_parse().unwrap_or_else(|error| refuse(&error));
    output::choose_colour(common.color);
    let runs = matches!(
        command,
        Command::Chat(_)
            | Command::File(_)
            | Command::Http(_)
            | Command::Lab(_)
            | Command::Nc(_)
            | Command::Ping(_)
            | Command::Scan(_)
            | Command::Trace(_)
            | Command::UdpPing(_)
    );
    if common.record.is_some() && !runs {
        return Failed::because(USAGE, "--record cannot be used", "this command has no run")
            .hint(
                "`chat`, `file`, `http`, `ping`, `udp-ping`, `trace`, `scan`, `nc` and `lab` are recorded",
            )
            .print();
    }
    let result = match command {
        Command::Chat(chat::Chat::Serve(args)) => serve::run(&common, args),
        Command::Chat(chat::Chat::Join(args)) => join::run(&common, args),
        Command::File(what) => file::run(&common, what),
        Command::Http(what) => http::run(&common, what),
        Command::Token(token) => token::run(&common, token),
        Command::Ping(args) => ping::run(&common, args),
        Command::Scan(args) => scan::run(&common, &args),
        Command::Trace(args) => trace::run(&common, &args),
        Command::Nc(args) => nc::run(&common, &args),
        Command::Ports(args) => ports::run(&common, &args),
        Command::UdpPing(args) => udp_ping::run(&common, args),
        Command::Replay(args) => replay::run(&common, &args),
        Command::Lab(args) => lab::run(&common, &args),
        Command::Generate(what) => generate::run(&what),
    };
    result.unwrap_or_else(Failed::print)
}
