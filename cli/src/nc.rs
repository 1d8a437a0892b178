//! `semfio nc`.

mod check;
mod datagram;
mod input;
mod show;
mod stream;

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use semfio_machine::Target;
use semfio_netcat::{InputEnd, Junk};

use crate::Common;
use crate::failed::{Failed, USAGE};
use crate::hosts::{self, Family};
use crate::ping::seconds;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom to connect to, and at which port; with -l where to listen, by default for this machine
    /// alone. With -z a range of ports is FROM-TO
    #[arg(value_names = ["HOST", "PORT"], num_args = 0..=2)]
    place: Vec<String>,
    /// Listen, in place of connecting
    #[arg(short)]
    listen: bool,
    /// Datagrams (UDP), in place of a connection: each line of input is one
    #[arg(short)]
    udp: bool,
    /// Connect and nothing else: say whether somebody listens. With -u, an error that comes back says
    /// closed; silence says no more than open|filtered
    #[arg(short, conflicts_with_all = ["listen", "hex", "junk", "finish", "quit"])]
    zero: bool,
    /// Go on listening, for many at once; what they say is shown with who said it, and input goes to
    /// all
    #[arg(short, requires = "listen")]
    keep: bool,
    /// Give up connecting, or a connection on which nothing moves, after this time
    #[arg(short, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
    /// Look up no names
    #[arg(short)]
    numeric: bool,
    /// Our own port
    #[arg(short, value_name = "PORT")]
    port: Option<u16>,
    /// Our own address
    #[arg(short, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// At the end of input, end the sending half: the peer sees the end and may still answer
    #[arg(short = 'N')]
    finish: bool,
    /// As -N, and this long after the end of input, end
    #[arg(short, value_name = "SECONDS", value_parser = seconds)]
    quit: Option<Duration>,
    /// Show both directions as offsets, octets and text
    #[arg(short = 'x', conflicts_with_all = ["json", "raw"])]
    hex: bool,
    /// With -k: write what all say as it comes, without who said it
    #[arg(long, requires = "keep")]
    raw: bool,
    /// Answer each message with TEXT: what comes until nothing has come for 50 ms, or a datagram
    #[arg(long, value_name = "TEXT", requires = "listen")]
    reply: Option<String>,
    /// Pass on what one says to all others
    #[arg(long, requires = "keep", conflicts_with = "udp")]
    broker: bool,
    /// Send so many bytes that nobody has asked for, in place of input
    #[arg(long, value_name = "BYTES", conflicts_with = "listen")]
    junk: Option<u64>,
    /// Which junk: the same number, the same bytes
    #[arg(long, value_name = "NUMBER", requires = "junk", default_value_t = 0)]
    seed: u64,
    // Under the name of the one that is everywhere, whose -q is netcat's here.
    /// Print errors only
    #[arg(long, conflicts_with = "verbose", help_heading = "Everywhere")]
    quiet: bool,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let common = &Common { quiet: common.quiet || args.quiet, ..common.clone() };
    match (args.zero, args.udp) {
        (true, false) => check::tcp(common, args),
        (true, true) => check::udp(common, args),
        (false, false) => stream::run(common, args),
        (false, true) => datagram::run(common, args),
    }
}

fn wrong(what: &str, why: impl std::fmt::Display) -> Failed {
    Failed::because(USAGE, format!("{what} cannot be used"), why)
}

/// A port, or FROM-TO.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some(from..=to)
}

impl Args {
    /// Whom to connect to, by name or address, and the ports.
    fn peer(&self) -> Result<(Host, RangeInclusive<u16>), Failed> {
        let [host, port] = &self.place[..] else {
            return Err(Failed::because(USAGE, "cannot connect", "to whom is not said")
                .hint("semfio nc HOST PORT, or semfio nc -l PORT"));
        };
        let ports = ports(port).ok_or_else(|| wrong(port, "it is no port"))?;
        if !self.zero && ports.start() != ports.end() {
            return Err(wrong(port, "several ports are for -z only"));
        }
        let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match unbracketed.unwrap_or(host).parse() {
            Ok(ip) => Host::Address(ip),
            Err(_) if self.numeric => return Err(wrong(host, "it is no address, and -n is given")),
            Err(_) => Host::Name(host.clone()),
        };
        Ok((host, ports))
    }

    /// Where to listen.
    fn place_to_listen(&self) -> Result<SocketAddr, Failed> {
        let usage = "semfio nc -l PORT, semfio nc -l ADDRESS PORT, or semfio nc -l -p PORT";
        let (address, port) = match (&self.place[..], self.port) {
            ([], Some(port)) => (None, port.to_string()),
            ([port], None) => (None, port.clone()),
            ([address], Some(port)) => (Some(address), port.to_string()),
            ([address, port], None) => (Some(address), port.clone()),
            _ => return Err(wrong("-l", "where to listen is not said").hint(usage)),
        };
        let port = port.parse().map_err(|_| wrong(&port, "it is no port").hint(usage))?;
        let ip = match (address, self.source) {
            (None, None) => Ipv4Addr::LOCALHOST.into(),
            (None, Some(ip)) => ip,
            (Some(address), _) => {
                address.parse().map_err(|_| wrong(address, "it is no address").hint(usage))?
            }
        };
        Ok(SocketAddr::new(ip, port))
    }

    /// Where connections are dialled from.
    fn source(&self) -> Option<SocketAddr> {
        let ip = self.source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let given = self.source.is_some() || self.port.is_some();
        given.then(|| SocketAddr::new(ip, self.port.unwrap_or(0)))
    }

    /// Where datagrams to `peer` leave from.
    fn source_of(&self, peer: IpAddr) -> SocketAddr {
        let any: IpAddr = match peer {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(self.source.unwrap_or(any), self.port.unwrap_or(0))
    }

    fn input_end(&self) -> InputEnd {
        match (self.quit, self.finish) {
            (Some(after), _) => InputEnd::Quit(after),
            (None, true) => InputEnd::Finish,
            (None, false) => InputEnd::Keep,
        }
    }

    fn junk(&self) -> Option<Junk> {
        self.junk.map(|bytes| Junk::new(self.seed, bytes))
    }

    /// Whether somebody types the input.
    fn is_typed(&self) -> bool {
        self.junk.is_none() && io::stdin().is_terminal()
    }
}

/// Whom to connect to.
#[derive(Clone, Debug)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn target(&self, port: u16) -> Target {
        match self {
            Self::Address(ip) => Target::Address(SocketAddr::new(*ip, port)),
            Self::Name(name) => Target::Name(name.clone(), port),
        }
    }

    /// Its first address, of the kind of `source` if that is given.
    fn look_up(&self, source: Option<IpAddr>) -> Result<IpAddr, Failed> {
        match self {
            Self::Address(ip) => Ok(*ip),
            Self::Name(name) => {
                let family = source.map(Family::of).unwrap_or_default();
                Ok(hosts::look_up("cannot find", name, 0, family)?.ip())
            }
        }
    }
}
