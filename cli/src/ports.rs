//! `semfio ports`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;

use semfio_netcat::sockets::{SocketRow, SocketState, Transport, rows};
use semfio_runtime_os::sockets::{self, Owner};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, NEGATIVE, NETWORK};
use crate::output::{DIM, Records, escape, paint, print_line};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only sockets with this port, on either end
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// The tables there are, by their names in the system.
const TABLES: [(&str, Transport); 4] = [
    ("tcp", Transport::Tcp),
    ("tcp6", Transport::Tcp),
    ("udp", Transport::Udp),
    ("udp6", Transport::Udp),
];

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let mut found = Vec::new();
    for (name, transport) in TABLES {
        let table = sockets::table(name).map_err(|error| {
            let failed = Failed::because(NETWORK, "cannot list sockets", &error);
            match error.kind() {
                ErrorKind::NotFound => failed.hint("this needs Linux, and its /proc"),
                _ => failed,
            }
        })?;
        let all = rows(transport, &table.unwrap_or_default());
        found.extend(all.into_iter().filter(|row| args.wants(row)).map(|row| (name, row)));
    }
    // Those that wait for peers first.
    found.sort_by_key(|(name, row)| {
        (*name, row.state != SocketState::Listen, row.local.port(), row.local, row.remote)
    });
    let owners = sockets::owners();
    let owner = |row: &SocketRow| owners.get(&row.inode).filter(|_| row.inode != 0);
    if common.json {
        let mut records = Records::default();
        for (_, row) in &found {
            records.print("socket", as_record(row, owner(row)));
        }
    } else if !common.quiet {
        let heading = "Proto Recv-Q Send-Q Local Address           Foreign Address         \
                       State       PID/Program";
        print_line(&paint(DIM, heading));
        for (name, row) in &found {
            print_line(&as_line(name, row, owner(row)));
        }
    }
    Ok(match found.is_empty() && args.port.is_some() {
        true => ExitCode::from(NEGATIVE),
        false => ExitCode::SUCCESS,
    })
}

impl Args {
    fn wants(&self, row: &SocketRow) -> bool {
        self.port.is_none_or(|port| [row.local.port(), row.remote.port()].contains(&port))
    }
}

/// An end of a socket; netstat has a star for a port that is none.
fn end(address: SocketAddr) -> String {
    match (address.port(), address) {
        (0, SocketAddr::V4(address)) => format!("{}:*", address.ip()),
        (0, SocketAddr::V6(address)) => format!("[{}]:*", address.ip()),
        _ => address.to_string(),
    }
}

fn as_line(name: &str, row: &SocketRow, owner: Option<&Owner>) -> String {
    let owner =
        owner.map_or_else(|| "-".into(), |Owner { pid, name }| format!("{pid}/{}", escape(name)));
    let (local, remote, state) = (end(row.local), end(row.remote), row.state.name());
    let (receive, send) = (row.receive_queue, row.send_queue);
    format!("{name:5} {receive:6} {send:6} {local:23} {remote:23} {state:11} {owner}")
}

fn as_record(row: &SocketRow, owner: Option<&Owner>) -> serde_json::Value {
    let transport = match row.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let some = |text: &'static str| (!text.is_empty()).then_some(text);
    json!({
        "transport": transport, "local": row.local,
        "remote": (row.remote.port() != 0).then_some(row.remote),
        "state": some(row.state.name()), "receive_queue": row.receive_queue,
        "send_queue": row.send_queue, "user": row.user, "inode": row.inode,
        "process": owner.map(|Owner { pid, name }| json!({ "pid": pid, "name": name })),
    })
}
