//! What the host did, restored from its record.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::{IpAddr, SocketAddr};

use semfio_machine::{
    Carrier, Clock, ConnId, Entry, Failure, FileId, FileKind, Instant, Metadata, OwnedReply, Peer,
    QuotedError, Received, RequestId, Stamp, TransmitId, UnixTime,
};
use serde_json::{Map, Value};

use crate::header::{number, size, text};
use crate::line::parse_address;
use crate::reader::{Event, Malformed};

/// One call of a shard's `handle_*`.
#[derive(Debug)]
pub(crate) enum Call<M> {
    Accepted(Peer),
    Connected(ConnId, Peer),
    Received(ConnId, Vec<u8>),
    Eof(ConnId),
    Failed(ConnId, Failure),
    Sent(ConnId, usize),
    Reply(RequestId, OwnedReply),
    Message(M),
    Turn,
    Timeout,
}

/// One call of an endpoint's `handle_*`. A transmit is named by the endpoint, but for its stamp.
#[derive(Debug)]
pub(crate) enum DatagramCall {
    Datagram(Received, Vec<u8>),
    Left(usize),
    Stamped(TransmitId, Stamp),
    Refused(Failure),
    Blocked,
    Writable,
    /// A command, encoded.
    Command(Vec<u8>),
    Note(Vec<u8>),
    Timeout,
}

const CARRIERS: [Carrier; 4] = [Carrier::Udp, Carrier::Icmp, Carrier::RawIcmp, Carrier::RawTcp];

const CLOCKS: [Clock; 2] = [Clock::Kernel, Clock::User];

const FAILURES: [Failure; 14] = [
    Failure::Refused,
    Failure::Reset,
    Failure::TimedOut,
    Failure::Unreachable,
    Failure::NotFound,
    Failure::Exists,
    Failure::Denied,
    Failure::Full,
    Failure::Exhausted,
    Failure::WrongKind,
    Failure::NameTooLong,
    Failure::TooLarge,
    Failure::Unsupported,
    Failure::Other,
];

const KINDS: [FileKind; 3] = [FileKind::File, FileKind::Folder, FileKind::Other];

impl<M> Call<M> {
    /// The call behind an `in.*`. What it holds beside the call is compared afterwards.
    pub(crate) fn parse(event: &Event, decode: fn(&[u8]) -> Option<M>) -> Result<Self, Malformed> {
        let fields = &event.fields;
        Ok(match event.name() {
            "in.accepted" => Self::Accepted(peer(fields)?),
            "in.connected" => Self::Connected(conn(fields)?, peer(fields)?),
            "in.bytes" => Self::Received(conn(fields)?, event.data()?),
            "in.eof" => Self::Eof(conn(fields)?),
            "in.failed" => Self::Failed(conn(fields)?, word(fields, "failure", FAILURES)?),
            "in.sent" => Self::Sent(conn(fields)?, size(fields, "n")?),
            "in.reply" => Self::Reply(RequestId(number(fields, "id")?), answer(event)?),
            "in.message" => Self::Message(decode(&event.data()?).ok_or(Malformed::Field("text"))?),
            "in.turn" => Self::Turn,
            "in.timeout" => Self::Timeout,
            _ => return Err(Malformed::UnknownInput),
        })
    }
}

impl DatagramCall {
    /// As [`Call::parse`].
    pub(crate) fn parse(event: &Event) -> Result<Self, Malformed> {
        let fields = &event.fields;
        Ok(match event.name() {
            "in.datagram" => Self::Datagram(received(fields)?, event.data()?),
            "in.left" => Self::Left(size(fields, "n")?),
            "in.stamp" => Self::Stamped(TransmitId(number(fields, "id")?), stamp(fields)?),
            "in.refused" => Self::Refused(word(fields, "failure", FAILURES)?),
            "in.blocked" => Self::Blocked,
            "in.writable" => Self::Writable,
            "in.message" => Self::Command(event.data()?),
            "in.note" => Self::Note(event.data()?),
            "in.timeout" => Self::Timeout,
            _ => return Err(Malformed::UnknownInput),
        })
    }
}

fn received(fields: &Map<String, Value>) -> Result<Received, Malformed> {
    let error = match integer(fields, "icmp_type")? {
        None => None,
        Some(icmp_type) => Some(QuotedError {
            offender: ip(fields, "offender")?,
            icmp_type,
            icmp_code: integer(fields, "icmp_code")?.ok_or(Malformed::Field("icmp_code"))?,
            info: integer(fields, "info")?.ok_or(Malformed::Field("info"))?,
            extension: integer(fields, "extension")?,
        }),
    };
    Ok(Received {
        source: address(fields, "from")?,
        destination: ip(fields, "to")?,
        hop_limit: integer(fields, "hop_limit")?,
        traffic_class: integer(fields, "traffic_class")?,
        carrier: word(fields, "carrier", CARRIERS)?,
        stamp: stamp(fields)?,
        error,
    })
}

fn stamp(fields: &Map<String, Value>) -> Result<Stamp, Malformed> {
    let at = Instant::from_nanos(number(fields, "stamp")?);
    Ok(Stamp { at, clock: word(fields, "clock", CLOCKS)? })
}

fn ip(fields: &Map<String, Value>, key: &'static str) -> Result<Option<IpAddr>, Malformed> {
    let parse = |value: &Value| value.as_str()?.parse().ok();
    fields.get(key).map(|value| parse(value).ok_or(Malformed::Field(key))).transpose()
}

fn integer<T: TryFrom<u64>>(
    fields: &Map<String, Value>,
    key: &'static str,
) -> Result<Option<T>, Malformed> {
    let parse = |value: &Value| T::try_from(value.as_u64()?).ok();
    fields.get(key).map(|value| parse(value).ok_or(Malformed::Field(key))).transpose()
}

fn answer(event: &Event) -> Result<OwnedReply, Malformed> {
    let fields = &event.fields;
    Ok(match text(fields, "reply")? {
        "Opened" => {
            let file = u32::try_from(number(fields, "file")?);
            let file = FileId(file.map_err(|_| Malformed::Field("file"))?);
            OwnedReply::Opened { file, metadata: metadata(fields)? }
        }
        "Found" => OwnedReply::Found(metadata(fields)?),
        "Listed" => OwnedReply::Listed(list(fields, "entries", |value| {
            let fields = value.as_object().ok_or(Malformed::Field("entries"))?;
            Ok(Entry { name: text(fields, "path")?.to_string(), metadata: metadata(fields)? })
        })?),
        "Read" => OwnedReply::Read(event.data()?),
        "Resolved" => OwnedReply::Resolved(list(fields, "addresses", |value| {
            let address = value.as_str().and_then(parse_address);
            address.ok_or(Malformed::Field("addresses"))
        })?),
        "Done" => OwnedReply::Done,
        "Failed" => OwnedReply::Failed(word(fields, "failure", FAILURES)?),
        _ => return Err(Malformed::Field("reply")),
    })
}

fn list<T>(
    fields: &Map<String, Value>,
    key: &'static str,
    item: fn(&Value) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let values = fields.get(key).and_then(Value::as_array);
    let values = values.ok_or(Malformed::Field(key))?;
    values.iter().map(item).collect()
}

fn metadata(fields: &Map<String, Value>) -> Result<Metadata, Malformed> {
    Ok(Metadata {
        len: number(fields, "size")?,
        modified: UnixTime::from_nanos(number(fields, "modified")?),
        kind: word(fields, "kind", KINDS)?,
        // Early traces have none.
        stamp: if fields.contains_key("stamp") { number(fields, "stamp")? } else { 0 },
    })
}

fn peer(fields: &Map<String, Value>) -> Result<Peer, Malformed> {
    Ok(Peer { address: address(fields, "peer")?, local: address(fields, "local")? })
}

fn address(fields: &Map<String, Value>, key: &'static str) -> Result<SocketAddr, Malformed> {
    parse_address(text(fields, key)?).ok_or(Malformed::Field(key))
}

pub(crate) fn conn(fields: &Map<String, Value>) -> Result<ConnId, Malformed> {
    let (index, generation) =
        text(fields, "conn")?.split_once('.').ok_or(Malformed::Field("conn"))?;
    let part = |text: &str| text.parse().map_err(|_| Malformed::Field("conn"));
    Ok(ConnId { index: part(index)?, generation: part(generation)? })
}

/// Values without content are written as their `Debug` names them.
fn word<T: Debug + Copy, const N: usize>(
    fields: &Map<String, Value>,
    key: &'static str,
    all: [T; N],
) -> Result<T, Malformed> {
    let name = text(fields, key)?;
    all.into_iter().find(|value| format!("{value:?}") == name).ok_or(Malformed::Field(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{End, Reader};

    /// What holds for both traces of version 1 holds for ever: a change that fails here breaks
    /// people's traces.
    #[test]
    fn version_1_of_datagrams_is_read() {
        let trace = include_bytes!("../tests/corpus/v1-datagrams.trace");
        let mut reader = Reader::new(trace).unwrap();
        let (mut calls, mut names) = (Vec::new(), Vec::new());
        for event in reader.by_ref() {
            let event = event.unwrap();
            names.push(event.name().to_string());
            if event.is_input() {
                calls.push(DatagramCall::parse(&event).unwrap());
            }
        }
        assert_eq!(reader.end(), Some(End::Whole));
        for name in ["out.datagram", "out.report", "out.nothing"] {
            assert!(names.iter().any(|it| it == name), "{name}");
        }
        let all = format!("{calls:?}");
        for said in [
            "Datagram(Received { source: [fe80::1%3]:7, destination: Some(2001:db8::7), hop_limit: \
             Some(57), traffic_class: Some(184), carrier: Icmp, stamp: Stamp { at: Instant(1001), \
             clock: Kernel }, error: None }, [116, 111, 32, 98, ",
            "Datagram(Received { source: 192.0.2.1:9, destination: None, hop_limit: None, \
             traffic_class: None, carrier: Udp, stamp: Stamp { at: Instant(2001), clock: User }, \
             error: None }, [8, 0, 247, 255])",
            "error: Some(QuotedError { offender: Some(192.0.2.254), icmp_type: 3, icmp_code: 4, \
             info: 1400, extension: Some(9) })",
            "error: Some(QuotedError { offender: None, icmp_type: 3, ",
            "Left(7)",
            "Stamped(TransmitId(1), Stamp { at: Instant(77777), clock: Kernel })",
            "Refused(Unreachable)",
            "Blocked",
            "Writable",
            "Command([115, 97, 121, 32, 0, 255])",
            "Note([110, 111, 119])",
            "Timeout",
        ] {
            assert!(all.contains(said), "{said}");
        }
        let flow = calls.iter().find_map(|call| match call {
            DatagramCall::Datagram(Received { source: SocketAddr::V6(v6), .. }, _) => {
                Some(v6.flowinfo())
            }
            _ => None,
        });
        assert_eq!(flow, Some(77));
    }

    #[test]
    fn version_1_is_read() {
        let trace = include_bytes!("../tests/corpus/v1-relay.trace");
        let mut reader = Reader::new(trace).unwrap();
        let header = reader.header();
        assert_eq!(header.config.get("greeting").unwrap(), "none \u{1f600}");
        assert_eq!(header.limits.mark, 4096);
        assert_eq!(header.seed.as_ref().unwrap().as_bytes()[0], 7);
        let mut calls = Vec::new();
        for event in reader.by_ref() {
            let event = event.unwrap();
            if event.is_input() {
                calls.push(Call::parse(&event, |bytes| Some(bytes.to_vec())).unwrap());
            }
        }
        assert_eq!(reader.end(), Some(End::Whole));
        let all = format!("{calls:?}");
        for said in [
            "Accepted(Peer { address: [2001:db8::1]:2000, local: 127.0.0.1:8000 })",
            "Connected(ConnId { index: 3, generation: 0 }, Peer { address: [::1%3]:9, ",
            "Received(ConnId { index: 1, generation: 0 }, [1, 2, 255, 32, 98, ",
            "Eof(ConnId { index: 1, generation: 0 })",
            "Failed(ConnId { index: 0, generation: 1 }, Reset)",
            "Sent(ConnId { index: 0, generation: 0 }, 7)",
            "Opened { file: FileId(1), metadata: Metadata { len: 100, modified: UnixTime(1700000000123456789), kind: File, stamp: 0 } }",
            "Found(Metadata { len: 100, ",
            "Listed([Entry { name: \"ü \\\"quoted\\\"\\\\\", ",
            "Read([0, 1, 114, 101, 97, 100])",
            "Resolved([[::1%3]:9, 192.0.2.1:9])",
            "Done",
            "Failed(Denied)",
            "Message([114, 97, 119, 32, 195, 40, 0])",
            "Turn",
            "Timeout",
        ] {
            assert!(all.contains(said), "{said}");
        }
        let flow = calls.iter().find_map(|call| match call {
            Call::Connected(_, Peer { address: SocketAddr::V6(v6), .. }) => Some(v6.flowinfo()),
            _ => None,
        });
        assert_eq!(flow, Some(77));
    }
}
