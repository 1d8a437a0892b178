//! What the host did, restored from its record.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::SocketAddr;

use semfio_machine::{
    ConnId, Entry, Failure, FileId, FileKind, Metadata, OwnedReply, Peer, RequestId, UnixTime,
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

    /// Files of version 1 stay readable for ever: a change that fails here breaks people's traces.
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
