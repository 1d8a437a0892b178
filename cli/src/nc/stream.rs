//! `semfio nc` over TCP.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use semfio_machine::{Closed, Failure, Peer};
use semfio_netcat::{
    Netcat, NetcatConfig, NetcatMessage, NetcatReport, Outcome, PeerEnd, STALL, WINDOW,
};
use semfio_runtime_os::{Clock, Handle, HostConfig};
use serde_json::json;
use std::collections::BTreeMap;

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK};
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;
use crate::serve::{cannot_listen, say_listening};
use crate::signals;

use super::Args;
use super::input::{self, Ahead, Cut};
use super::show::Show;

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let typed = args.is_typed();
    let target = match args.listen {
        true => None,
        false => {
            let (host, ports) = args.peer()?;
            Some(host.target(*ports.start()))
        }
    };
    let whom = target.as_ref().map(ToString::to_string).unwrap_or_default();
    let config = NetcatConfig {
        target,
        many: args.keep,
        broker: args.broker,
        reply: args.reply.clone().map(Bytes::from),
        wait: args.wait,
        input_end: args.input_end(),
        peer_end: if typed { PeerEnd::Finish } else { PeerEnd::SendOn },
    };
    let clock = Clock::start();
    let header = record::netcat_header(&config);
    let record = common.record.as_deref();
    let (shard, recording) =
        record::shard(Netcat::new(config), header, Redaction::None, record, clock)?;
    let cannot = |error| Failed::because(NETWORK, "cannot run", error);
    let source = args.source().filter(|_| !args.listen);
    let host = HostConfig { clock, source, ..HostConfig::default() };
    let mut host = Host::with(common.runtime, shard, host).map_err(cannot)?;
    let mut teller = Teller {
        show: Show::new(common, args),
        many: args.keep,
        peers: BTreeMap::new(),
        untaken: 0,
        handle: host.handle(),
        ahead: Arc::default(),
        outcome: None,
    };
    if args.listen {
        let wanted = args.place_to_listen()?;
        let address = host.listen(wanted).map_err(|error| cannot_listen(wanted, &error))?;
        match teller.show.has_records() {
            true => teller.show.tell("listening", json!({ "address": address }), None),
            false => say_listening(address, common.quiet),
        }
    }
    let handle = host.handle();
    let interrupt = move || drop(handle.send(Spoken(NetcatMessage::Interrupt)));
    let interrupted = signals::catch(interrupt).map_err(cannot)?;
    let handle = host.handle();
    input::start(args.junk(), Cut::Reads, Arc::clone(&teller.ahead), move |piece| {
        let message = match piece {
            Some(piece) => NetcatMessage::Input(piece.into()),
            None => NetcatMessage::InputEnd,
        };
        handle.send(Spoken(message)).is_ok()
    })?;
    let run = host.run(|report| teller.tell(report));
    drop(run.map_err(cannot)?);
    recording.finish()?;
    match teller.outcome {
        Some(Outcome::Interrupted) if interrupted.is_set() => Ok(ExitCode::from(INTERRUPTED)),
        Some(Outcome::Done | Outcome::Idle | Outcome::Interrupted) => Ok(ExitCode::SUCCESS),
        Some(Outcome::Unreached(failure)) => Err(unreached(&whom, failure)),
        Some(Outcome::Broken(failure)) => {
            Err(Failed::because(NETWORK, "the connection broke", failure))
        }
        None => Err(Failed::because(NETWORK, "cannot run", "the run ended before it began")),
    }
}

/// Why there is no connection.
fn unreached(whom: &str, failure: Failure) -> Failed {
    let failed = Failed::because(NEGATIVE, format!("cannot connect to {whom}"), failure);
    match failure {
        Failure::Refused => failed.hint("nobody listens there; `semfio nc -l PORT` would"),
        Failure::Exists => failed.hint("our own address and port are taken; choose another -p"),
        _ => failed,
    }
}

struct Teller {
    show: Show,
    many: bool,
    peers: BTreeMap<semfio_machine::ConnId, SocketAddr>,
    /// Bytes that were shown and not acknowledged.
    untaken: u64,
    handle: Handle<Spoken<NetcatMessage>>,
    ahead: Arc<Ahead>,
    outcome: Option<Outcome>,
}

impl Teller {
    fn tell(&mut self, report: NetcatReport) {
        match report {
            NetcatReport::Opened(conn, Peer { address, local }) => {
                self.peers.insert(conn, address);
                let record = json!({ "peer": address, "local": local });
                let line = match self.many {
                    true => format!("+ {address}"),
                    false => format!("connected: {local} to {address}"),
                };
                self.tell_of_peer("opened", record, &line);
            }
            NetcatReport::Received(conn, bytes) => {
                if let Some(&from) = self.peers.get(&conn) {
                    self.show.received(from, &bytes);
                }
                self.untaken = self.untaken.saturating_add(bytes.len() as u64);
                let taken = Spoken(NetcatMessage::Taken(self.untaken));
                // Of a few that fit into the queue: this thread is the one that empties it.
                if self.untaken >= WINDOW / 8 && self.handle.try_send(taken).is_ok() {
                    self.untaken = 0;
                }
            }
            NetcatReport::Message(conn) => {
                if let Some(&from) = self.peers.get(&conn) {
                    self.show.message(from);
                }
            }
            NetcatReport::PeerEnded(conn) => {
                if let Some(&address) = self.peers.get(&conn) {
                    let line = format!("{address} has finished sending");
                    self.show.tell_more("peer_ended", json!({ "peer": address }), &line);
                }
            }
            NetcatReport::Idle(conn) => {
                if let Some(&address) = self.peers.get(&conn) {
                    let line = format!("nothing moves between us and {address} any more");
                    self.show.tell_more("idle", json!({ "peer": address }), &line);
                }
            }
            NetcatReport::Stalled(conn) => {
                if let Some(&address) = self.peers.get(&conn) {
                    let seconds = STALL.as_secs();
                    let line = format!("! {address} did not read for {seconds} s, and is cut");
                    self.show.tell("stalled", json!({ "peer": address }), Some(&line));
                }
            }
            NetcatReport::Closed { conn, peer, received, given, why } => {
                if let Some(address) = self.peers.remove(&conn) {
                    self.show.over(address);
                }
                let why = match why {
                    Closed::Failed(failure) => failure.to_string(),
                    _ => "closed".into(),
                };
                let record = json!({ "peer": peer.map(|peer| peer.address),
                    "received": received, "given": given, "why": why });
                let line = match peer {
                    Some(Peer { address, .. }) => {
                        let mark = if self.many { "- " } else { "" };
                        format!("{mark}{address}: {why}; {received} bytes came, {given} went")
                    }
                    None => return self.show.tell("closed", record, None),
                };
                self.tell_of_peer("closed", record, &line);
            }
            NetcatReport::Sent(bytes) => {
                self.ahead.done(bytes.len());
                self.show.sent(&bytes);
            }
            NetcatReport::Overrun(bytes) => {
                let line = format!("! {bytes} bytes of input are lost");
                self.show.tell("overrun", json!({ "bytes": bytes }), Some(&line));
            }
            NetcatReport::Over(outcome) => {
                self.outcome = Some(outcome);
                let (how, why) = match outcome {
                    Outcome::Done => ("done", None),
                    Outcome::Idle => ("idle", None),
                    Outcome::Interrupted => ("interrupted", None),
                    Outcome::Unreached(failure) => ("unreached", Some(failure.to_string())),
                    Outcome::Broken(failure) => ("broken", Some(failure.to_string())),
                };
                self.show.tell("over", json!({ "how": how, "why": why }), None);
            }
        }
    }

    /// Of many, everybody wants to know; of one, who asks.
    fn tell_of_peer(&mut self, kind: &str, record: serde_json::Value, line: &str) {
        match self.many {
            true => self.show.tell(kind, record, Some(line)),
            false => self.show.tell_more(kind, record, line),
        }
    }
}
