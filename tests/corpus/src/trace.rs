//! Traces of runs.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use semfio_echo::DatagramServer;
use semfio_machine::{
    Carrier, Clock, ConnId, Endpoint, Failure, Now, Peer, Received, Shard, Stamp, Tap, TapEntry,
    TransmitId, UnixTime,
};
use semfio_trace::{
    CommandCodec, End, Header, Reader, Recorder, replay, replay_datagrams,
};

use crate::Choices;

/// Any bytes are read or refused; what is recorded is read again, and a change in it is noticed.
pub fn trace(data: &[u8]) {
    run(data);
    let header = record(&[], |_| {});
    let end = header.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    run(&[&header[..end], data].concat());

    let mut count = 0;
    let mut trace = record(data, |_| count += 1);
    assert_eq!(read(&trace), Some((count, End::Whole)));
    let mut choices = Choices::new(data);
    // Not in the header, where what is not known is skipped, nor in the line feed at the end.
    let at = end + choices.below(trace.len() - end - 1);
    trace[at] ^= 1 << choices.below(7);
    assert_ne!(read(&trace), Some((count, End::Whole)), "a change at {at} went unseen");
}

/// Reads and replays what may be no trace at all.
fn run(data: &[u8]) {
    if let Ok(reader) = Reader::new(data) {
        let limits = reader.header().limits;
        // Whether it agrees is not the question here.
        let _ = replay(reader, Shard::new(semfio_echo::Service::new(), limits));
    }
    if let Ok(reader) = Reader::new(data) {
        let server = Endpoint::new(DatagramServer::new());
        let never = CommandCodec { encode: |never, _| match *never {}, decode: |_| None };
        let _ = replay_datagrams(reader, server, never, |_, _, _| {});
    }
    read(data);
}

/// How many events there are and how they end, unless there is an error.
fn read(trace: &[u8]) -> Option<(u64, End)> {
    let mut reader = Reader::new(trace).ok()?;
    let failed = reader.by_ref().any(|event| event.is_err());
    assert!(reader.next().is_none(), "after its end");
    if failed { None } else { Some((reader.events(), reader.end()?)) }
}

/// Records what the bytes say, telling `each` event.
fn record(data: &[u8], mut each: impl FnMut(u64)) -> Vec<u8> {
    let mut trace = Vec::new();
    let sink = |line: &[u8]| trace.extend_from_slice(line);
    let mut recorder: Recorder<_, ()> = Recorder::new(&Header::new("echo"), sink);
    let mut choices = Choices::new(data);
    let mut now = Now::default();
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7);
    let peer = Peer { address, local: address };
    while !choices.is_empty() {
        let conn = ConnId { index: u32::from(choices.byte()), generation: 0 };
        let n = choices.below(24);
        let bytes = choices.bytes(n);
        let stamp = Stamp { at: now.mono, clock: Clock::Kernel };
        let meta = Received {
            source: address,
            destination: Some(address.ip()),
            hop_limit: Some(64),
            traffic_class: None,
            carrier: Carrier::Udp,
            stamp,
            error: None,
        };
        let id = TransmitId(u64::from(conn.index));
        let entry = match choices.below(15) {
            0 => TapEntry::Accepted(Some(conn), &peer),
            1 => TapEntry::Accepted(None, &peer),
            2 => TapEntry::Eof(conn),
            3 => TapEntry::Failed(conn, Failure::Reset),
            4 => TapEntry::Message(&()),
            5 => TapEntry::Timeout,
            6 => TapEntry::Closed(conn, &bytes),
            7 => TapEntry::Datagram(&meta, bytes),
            8 => TapEntry::Left(id, n),
            9 => TapEntry::Stamped(id, stamp),
            10 => TapEntry::Refused(id, Failure::TooLarge),
            11 => TapEntry::Blocked,
            12 => TapEntry::Nothing,
            13 => TapEntry::Note(bytes),
            _ => TapEntry::Received(conn, bytes),
        };
        recorder.record(now, entry);
        each(recorder.events());
        now.mono = now.mono.saturating_add(Duration::from_nanos(choices.below(4_096) as u64));
        now.unix = UnixTime::from_nanos(now.mono.as_nanos());
    }
    recorder.finish();
    trace
}
