//! `semfio nc -u`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use semfio_machine::{Endpoint, Now, QuotedError};
use semfio_netcat::{Talk, TalkCommand, TalkConfig, TalkEvent};
use semfio_runtime_os::{Clock, Handle};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK};
use crate::record;
use crate::runtime::Datagrams;
use crate::serve::{cannot_listen, say_listening};
use crate::signals;

use super::Args;
use super::input::{self, Ahead, Cut};
use super::show::Show;

/// Pieces of input that may wait for the machine; no more are ever on their way.
const QUEUE: usize = 128;

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let peer = match args.listen {
        true => None,
        false => {
            let (host, ports) = args.peer()?;
            Some(SocketAddr::new(host.look_up(args.source)?, *ports.start()))
        }
    };
    let source = match peer {
        Some(peer) => args.source_of(peer.ip()),
        None => args.place_to_listen()?,
    };
    let reply = args.reply.clone().map(Bytes::from);
    let config = TalkConfig { peer, many: args.keep, reply, wait: args.wait };
    let (header, clock) = (record::talk_header(&config), Clock::start());
    let record = common.record.as_deref();
    let (endpoint, recording) =
        record::endpoint(Talk::new(config), header, record::TALKED, record, clock.now())?;
    let bound = Datagrams::bind(common.runtime, endpoint, source, clock);
    let socket = bound.map_err(|error| cannot_listen(source, &error))?;
    let cannot = |error| Failed::because(NETWORK, "cannot run", error);
    let mut show = Show::new(common, args);
    if args.listen {
        let address = socket.address();
        match show.has_records() {
            true => show.tell("listening", json!({ "address": address }), None),
            false => say_listening(address, common.quiet),
        }
    }
    let (stop, stopper) = (socket.stopper(), socket.stopper());
    let interrupted = signals::catch(move || stopper.stop()).map_err(cannot)?;
    let (handle, input) = Handle::new(QUEUE, socket.waker());
    let ahead = Arc::new(Ahead::default());
    input::start(args.junk(), Cut::Lines, Arc::clone(&ahead), move |piece| {
        handle.send(piece).is_ok()
    })?;
    let show = RefCell::new(show);
    let mut failed = None;
    let speak = |now: Now, endpoint: &mut Endpoint<Talk>| {
        while let Ok(piece) = input.try_recv() {
            let command = match (&piece, args.quit) {
                (Some(bytes), _) => TalkCommand::Say(bytes),
                (None, Some(after)) => TalkCommand::End(after),
                (None, None) => continue,
            };
            // Not full: no more is on its way than it takes.
            if endpoint.handle_command(now, command).is_ok() {
                show.borrow_mut().sent(piece.as_deref().unwrap_or_default());
            }
        }
    };
    let on_event = |_: Now, event: TalkEvent<'_>, _: &mut Endpoint<Talk>| match event {
        TalkEvent::Received(from, bytes) => {
            let mut show = show.borrow_mut();
            show.received(from, bytes);
            show.message(from);
        }
        TalkEvent::Sent(len, to, failure) => {
            ahead.done(len);
            if let Some(why) = failure {
                failed.get_or_insert_with(|| {
                    Failed::because(NEGATIVE, format!("cannot send to {to}"), why)
                });
                stop.stop();
            }
        }
        // Whoever has asked us is not told; it may be gone since.
        TalkEvent::Unreachable(..) if peer.is_none() => {}
        TalkEvent::Unreachable(to, error) if is_port_unreachable(to, error) => {
            failed.get_or_insert_with(|| {
                Failed::because(NEGATIVE, format!("cannot talk to {to}"), "port unreachable")
                    .hint("nobody listens there; `semfio nc -u -l PORT` would")
            });
            stop.stop();
        }
        TalkEvent::Unreachable(to, QuotedError { offender, icmp_type, icmp_code, .. }) => {
            let who = offender.map_or_else(|| "the system".into(), |who| who.to_string());
            let line =
                format!("! {to}: {who} answers with ICMP type {icmp_type}, code {icmp_code}");
            let record = json!({ "peer": to, "offender": offender, "icmp_type": icmp_type,
                "icmp_code": icmp_code });
            show.borrow_mut().tell("icmp", record, Some(&line));
        }
        TalkEvent::Idle => {
            let line = "nothing moves any more";
            show.borrow_mut().tell_more("idle", json!({}), line);
            stop.stop();
        }
        TalkEvent::Done => stop.stop(),
    };
    let run = socket.run_with(speak, on_event);
    drop(run.map_err(cannot)?);
    recording.finish()?;
    match failed {
        Some(failed) => Err(failed),
        None if interrupted.is_set() => Ok(ExitCode::from(INTERRUPTED)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Whether the host itself says that nobody listens.
fn is_port_unreachable(to: SocketAddr, error: QuotedError) -> bool {
    (error.icmp_type, error.icmp_code) == if to.is_ipv4() { (3, 3) } else { (1, 4) }
}
