//! What came, shown.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;

use semfio_netcat::HexDump;
use serde_json::{Value, json};

use crate::Common;
use crate::output::{DIM, Records, escape, notice, paint, print_bytes, print_line, visible};

use super::Args;

/// The longest line that is shown as one; it is cut there.
const LINE: usize = 8 * 1024;

/// Where what is told goes.
pub(crate) struct Show {
    view: View,
    quiet: bool,
    verbose: bool,
}

enum View {
    Records(Records),
    /// As it comes.
    Raw,
    /// To a terminal: what a terminal would obey is made visible.
    Text(Vec<u8>),
    /// In lines, each with who said it; the lines that have begun.
    Labelled(BTreeMap<SocketAddr, Vec<u8>>),
    Hex(Hex),
}

struct Hex {
    labelled: bool,
    received: BTreeMap<SocketAddr, HexDump>,
    sent: HexDump,
}

impl Show {
    pub(crate) fn new(common: &Common, args: &Args) -> Self {
        let view = if common.json {
            View::Records(Records::default())
        } else if args.hex {
            let sent = HexDump::new("> ");
            View::Hex(Hex { labelled: args.keep, received: BTreeMap::new(), sent })
        } else if args.keep && !args.raw {
            View::Labelled(BTreeMap::new())
        } else if io::stdout().is_terminal() {
            View::Text(Vec::new())
        } else {
            View::Raw
        };
        Self { view, quiet: common.quiet, verbose: common.verbose }
    }

    /// Tells programs what happened, and people if `line` is for them.
    pub(crate) fn tell(&mut self, kind: &str, record: Value, line: Option<&str>) {
        match &mut self.view {
            View::Records(records) => records.print(kind, record),
            _ if self.quiet => {}
            _ => line.into_iter().for_each(notice),
        }
    }

    /// The same, to people who want to know more.
    pub(crate) fn tell_more(&mut self, kind: &str, record: Value, line: &str) {
        let wanted = self.verbose.then_some(line);
        self.tell(kind, record, wanted);
    }

    pub(crate) fn has_records(&self) -> bool {
        matches!(self.view, View::Records(_))
    }

    pub(crate) fn received(&mut self, from: SocketAddr, bytes: &[u8]) {
        match &mut self.view {
            View::Records(records) => {
                let record = match std::str::from_utf8(bytes) {
                    Ok(text) => json!({ "from": from, "text": text }),
                    Err(_) => json!({ "from": from, "octets": bytes }),
                };
                records.print("received", record);
            }
            View::Raw => print_bytes(bytes),
            View::Text(held) => {
                held.extend_from_slice(bytes);
                let shown = visible(held);
                print_bytes(shown.as_bytes());
            }
            View::Labelled(lines) => {
                let line = lines.entry(from).or_default();
                for &byte in bytes {
                    line.push(byte);
                    if byte == b'\n' || line.len() >= LINE {
                        print_labelled(from, line);
                    }
                }
            }
            View::Hex(hex) => {
                hex.sent.flush(&mut print_line);
                let label = hex.labelled.then_some(from);
                let dump = hex.received.entry(from).or_insert_with(|| HexDump::new("< "));
                dump.put(bytes, &mut |line| print_dump(label, line));
                if !hex.labelled {
                    dump.flush(&mut print_line);
                }
            }
        }
    }

    /// What this one has said so far is a message.
    pub(crate) fn message(&mut self, from: SocketAddr) {
        match &mut self.view {
            View::Labelled(lines) => {
                lines.get_mut(&from).into_iter().for_each(|line| print_labelled(from, line));
            }
            View::Hex(hex) => {
                let label = hex.labelled.then_some(from);
                let dump = hex.received.get_mut(&from);
                dump.into_iter().for_each(|dump| dump.flush(&mut |line| print_dump(label, line)));
            }
            View::Records(_) | View::Raw | View::Text(_) => {}
        }
    }

    /// Nothing more comes from there.
    pub(crate) fn over(&mut self, from: SocketAddr) {
        self.message(from);
        match &mut self.view {
            View::Labelled(lines) => drop(lines.remove(&from)),
            View::Hex(hex) => drop(hex.received.remove(&from)),
            View::Text(held) => {
                print_bytes(escape(&String::from_utf8_lossy(held)).as_bytes());
                held.clear();
            }
            View::Records(_) | View::Raw => {}
        }
    }

    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        if let View::Hex(hex) = &mut self.view {
            hex.sent.put(bytes, &mut print_line);
            hex.sent.flush(&mut print_line);
        }
    }
}

fn print_labelled(from: SocketAddr, line: &mut Vec<u8>) {
    if line.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    print_line(&format!("{} {}", paint(DIM, &from.to_string()), escape(text)));
    line.clear();
}

fn print_dump(label: Option<SocketAddr>, line: &str) {
    match label {
        Some(from) => print_line(&format!("{} {line}", paint(DIM, &from.to_string()))),
        None => print_line(line),
    }
}
