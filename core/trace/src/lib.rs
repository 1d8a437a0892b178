//! A run as a file: record it, read it, replay it, compare.
//!
//! A [`Recorder`] is the tap of a shard, or of the endpoint of a machine over datagrams, and writes
//! what enters and leaves it; a [`Reader`] gives that back, event by event; a [`Replay`] feeds what
//! entered to a fresh one, and stops at the first thing that does not leave it as it did. There is
//! no I/O here: lines go to a closure and come from an iterator.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use semfio_echo::Service;
//! use semfio_machine::{Now, Peer, Shard};
//! use semfio_trace::{Header, Reader, Recorder, replay};
//!
//! // In a program, a file.
//! let file = Arc::new(Mutex::new(Vec::new()));
//! let to = file.clone();
//! let header = Header::new("echo");
//! let mut shard = Shard::new(Service::new(), header.limits);
//! shard.set_tap(Box::new(Recorder::new(&header, move |line: &[u8]| {
//!     if !std::thread::panicking() {
//!         to.lock().unwrap().extend_from_slice(line);
//!     }
//! })));
//!
//! // Any host.
//! let peer = Peer { address: "192.0.2.1:4000".parse()?, local: "192.0.2.7:7".parse()? };
//! let conn = shard.handle_accepted(Now::default(), peer).unwrap();
//! shard.handle_received(Now::default(), conn, &mut b"hello".to_vec());
//! shard.handle_sent(Now::default(), conn, 5);
//! drop(shard); // writes the trailer
//!
//! let trace = file.lock().unwrap();
//! let reader = Reader::new(&trace)?;
//! let shard = Shard::new(Service::new(), reader.header().limits);
//! assert_eq!(replay(reader, shard)?.to_string(), "agrees after 7 events");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With datagrams the tap is the endpoint's, [`Replay::datagrams`] runs it again, and the
//! application is told again what it was told then, at the times of then: it can print its output
//! anew.
//!
//! # The file
//!
//! UTF-8, one JSON object a line, shaped like a sequential qlog file but complete, which qlog need
//! not be. A record separator (RFC 7464) before a line is read and not written. A line has at most
//! [`MAX_LINE`] bytes.
//!
//! - The first line is the [`Header`]: `file_schema`, `serialization_format`, `title`,
//!   `vantage_point`, `event_schemas`, `program`, `version`, `service`, `config`, `limits`
//!   (`linger` in ns), `seed` (hex), `secret`, `start` (mono and unix, ns). Fields that are not known are
//!   skipped.
//! - One line for each event: `time` (microseconds of the monotonic clock), `unix` (microseconds
//!   since 1970), `ns` (what both lack, in nanoseconds, if it is not nothing: no time is rounded),
//!   `name`, and the fields of its kind. Bytes are `len` with `text`, if they are UTF-8 without
//!   control characters but tab, LF and CR, or else `base64`.
//! - The last line, `name` `end`, counts the `events` and has the `sha256` of all bytes before it
//!   (`head -n -1 FILE | sha256sum`). Without it the trace was [cut](End::Cut).
//!
//! | name | fields |
//! |---|---|
//! | `in.accepted` | `conn` (`index.generation`; null: turned away), `peer`, `local` |
//! | `in.connected` | `conn`, `peer`, `local` |
//! | `in.bytes` | `conn`, bytes |
//! | `in.eof` | `conn` |
//! | `in.failed` | `conn`, `failure` |
//! | `in.sent` | `conn`, `n`, `left` (what still waits); then `out.bytes` and `out.file` of what went |
//! | `in.reply` | `id`, `reply`, and what it holds |
//! | `in.message` | bytes, of a [`Codec`]; with datagrams a command, of a [`CommandCodec`] |
//! | `in.turn`, `in.timeout` | |
//! | `out.bytes` | `conn`, bytes: at most 48 KiB |
//! | `out.file` | `conn`, `file`, `offset`, `len` |
//! | `out.dial` | `conn`, `address` or `host` and `port` |
//! | `out.write`, `out.shutdown`, `out.read` | `conn` |
//! | `out.close` | `conn`, `reset` |
//! | `out.request` | `id`, `do`, and what it needs |
//! | `out.cancel` | `id` |
//! | `out.release` | `file` |
//! | `out.stop` | |
//! | `out.report` | `text`: the `Debug` of a report, or of an event of a machine over datagrams |
//! | `out.closed` | `conn`, `why`: the reason's `Debug` |
//! | `state` | `conn`, `state` |
//!
//! With datagrams:
//!
//! | name | fields |
//! |---|---|
//! | `in.datagram` | `from`, `to`, `hop_limit`, `traffic_class`, `carrier`, `stamp` (ns of the monotonic clock), `clock` (whose), `offender`, `icmp_type`, `icmp_code`, `info`, `extension` (these of an ICMP error that quotes it), bytes; what the system did not tell is left out |
//! | `in.left` | `id`, `n`: the socket took so many bytes |
//! | `in.stamp` | `id`, `stamp`, `clock`: when it left, by the kernel |
//! | `in.refused` | `id`, `failure` |
//! | `in.blocked`, `in.writable` | |
//! | `in.note` | bytes: what the application went by and the machine did not hear, as the name of an address |
//! | `in.message`, `in.timeout`, `out.report` | as above |
//! | `out.datagram` | `id`, `to`, `segment`, `hop_limit`, `from`, `carrier`, bytes; what is left to the system is left out |
//! | `out.nothing` | the host asked, and there was nothing to do |
//!
//! An endpoint is asked for each of its outputs, at a time that is the output's (an event that comes with
//! a datagram is the datagram's). The machine may go by that time: an asking in vain is written too.
//!
//! Other names under `in.` are errors, since a run without one of its inputs is another run; all
//! others are skipped. An address is as usual, with `#` and the flow label if it has one.
//!
//! # Secrets
//!
//! `secret` names the keys of `config` that hold secrets (and `seed`, if it is one). While it is empty the
//! header has none; what is said in the run stands in the events, whatever it is. A service that
//! works with keys leaves them out and can be run again all the same: what came of its keys is in its
//! reports (and the replay is given these), or its keys are replaced in what is recorded.
//!
//! # What a replay can tell
//!
//! Everything that left is compared, of a shard the times included. A change of an input shows where
//! something follows from it, and otherwise in the checksum; so does the time at which an endpoint was
//! asked. Reports and reasons are compared by their `Debug` text: renaming a variant makes old traces
//! diverge.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod call;
mod encode;
mod header;
mod line;
mod reader;
mod recorded;
mod recorder;
mod replay;

pub use header::Header;
pub use reader::{End, Event, MAX_LINE, Malformed, ReadError, Reader};
pub use recorded::{Codec, CommandCodec, Recorded};
pub use recorder::Recorder;
pub use replay::{
    Agreement, Divergence, OfEndpoint, OfShard, Replay, ReplayError, Rerun, Told, replay,
    replay_datagrams,
};
