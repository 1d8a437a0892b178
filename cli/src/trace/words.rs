//! What answers are called: traceroute's marks, and what it has no words for.

use std::net::IpAddr;
use std::time::Duration;

use semfio_machine::QuotedError;
use semfio_probe::{
    AnswerKind, BadExtension, Extension, Label, Method, Reached, Rewritten, Sockets,
};
use serde_json::{Value, json};

use crate::ping::shown::reason;

/// What is sent.
pub(super) fn method(method: Method) -> &'static str {
    match method {
        Method::Icmp => "icmp",
        Method::Udp => "udp",
        Method::Tcp => "tcp",
    }
}

/// What it leaves by.
pub(super) fn sockets(sockets: Sockets) -> &'static str {
    match sockets {
        Sockets::Raw => "raw",
        Sockets::Datagram => "datagram",
    }
}

/// The mark after a time: `!H`, or nothing for an answer that was to be expected.
pub(super) fn mark(kind: AnswerKind, is_v4: bool) -> String {
    match kind {
        AnswerKind::TimeExceeded | AnswerKind::Reached(_) => String::new(),
        AnswerKind::PacketTooBig { mtu: 0 } => " !F".into(),
        AnswerKind::PacketTooBig { mtu } => format!(" !F-{mtu}"),
        AnswerKind::Unreachable { code } => match (is_v4, code) {
            (true, 0 | 6 | 8 | 11) | (false, 0) => " !N".into(),
            (true, 1 | 7 | 12) | (false, 3) => " !H".into(),
            (true, 2) => " !P".into(),
            (true, 5) | (false, 2) => " !S".into(),
            (true, 9 | 10 | 13) | (false, 1) => " !X".into(),
            (true, 14) => " !V".into(),
            (true, 15) => " !C".into(),
            _ => format!(" !{code}"),
        },
        AnswerKind::Other { icmp_type, icmp_code } => format!(" !<{icmp_type}-{icmp_code}>"),
    }
}

/// What an answer is called in records.
pub(super) fn kind(kind: AnswerKind) -> &'static str {
    match kind {
        AnswerKind::TimeExceeded => "time_exceeded",
        AnswerKind::Reached(how) => reached(how),
        AnswerKind::Unreachable { .. } => "unreachable",
        AnswerKind::PacketTooBig { .. } => "packet_too_big",
        AnswerKind::Other { .. } => "icmp",
    }
}

fn reached(how: Reached) -> &'static str {
    match how {
        Reached::Echo => "echo",
        Reached::PortUnreachable => "port_unreachable",
        Reached::Datagram => "datagram",
        Reached::SynAck => "syn_ack",
        Reached::Reset => "reset",
    }
}

/// The code of an error, where there is a choice.
pub(super) fn code(kind: AnswerKind) -> Option<u8> {
    match kind {
        AnswerKind::Unreachable { code } => Some(code),
        AnswerKind::Other { icmp_code, .. } => Some(icmp_code),
        _ => None,
    }
}

/// What fits, where something does not.
pub(super) fn mtu(kind: AnswerKind) -> Option<u32> {
    match kind {
        AnswerKind::PacketTooBig { mtu } => Some(mtu),
        _ => None,
    }
}

/// The words of `ping` for what cannot be reached.
pub(super) fn unreachable(code: u8, destination: IpAddr) -> String {
    error(AnswerKind::Unreachable { code }, destination).unwrap_or_default()
}

/// The words of `ping` for an error; nothing for other answers.
pub(super) fn error(kind: AnswerKind, destination: IpAddr) -> Option<String> {
    let is_v4 = destination.is_ipv4();
    let (icmp_type, icmp_code, info) = match kind {
        AnswerKind::TimeExceeded | AnswerKind::Reached(_) => return None,
        AnswerKind::Unreachable { code } => (if is_v4 { 3 } else { 1 }, code, 0),
        AnswerKind::PacketTooBig { mtu } if is_v4 => (3, 4, mtu),
        AnswerKind::PacketTooBig { mtu } => (2, 0, mtu),
        AnswerKind::Other { icmp_type, icmp_code } => (icmp_type, icmp_code, 0),
    };
    let error = QuotedError { icmp_type, icmp_code, info, ..QuotedError::default() };
    Some(reason(destination, &error))
}

/// What was rewritten on the way, by name.
pub(super) fn rewritten(rewritten: &Rewritten) -> Vec<(&'static str, Value)> {
    let Rewritten {
        hop_limit,
        traffic_class,
        source,
        destination,
        source_port,
        destination_port,
        length,
        checksum,
    } = *rewritten;
    [
        ("ttl", hop_limit.map(|it| json!(it))),
        ("tos", traffic_class.map(|it| json!(it))),
        ("source", source.map(|it| json!(it))),
        ("destination", destination.map(|it| json!(it))),
        ("source_port", source_port.map(|it| json!(it))),
        ("destination_port", destination_port.map(|it| json!(it))),
        ("length", length.map(|it| json!(it))),
        ("checksum", checksum.map(|it| json!(it))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// What a router says beside, as a record.
pub(super) fn extension(extension: Result<Extension<'_>, BadExtension>) -> Value {
    let extension = match extension {
        Ok(extension) => extension,
        Err(error) => return json!({ "malformed": format!("{error:?}") }),
    };
    let labels: Vec<Value> = extension.labels().map(|it| label(&it)).collect();
    // A stack of labels has class 1.
    let others = extension.objects().filter(|it| it.class != 1);
    let others: Vec<Value> = others
        .map(|it| json!({ "class": it.class, "c_type": it.c_type, "payload": hex(it.payload) }))
        .collect();
    json!({ "labels": labels, "objects": others })
}

/// A label of a stack.
pub(super) fn label(it: &Label) -> Value {
    json!({ "label": it.label, "traffic_class": it.traffic_class, "bottom": it.bottom,
        "ttl": it.ttl })
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Milliseconds as traceroute has them.
pub(super) fn millis(length: Duration) -> String {
    let micros = length.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_those_of_traceroute() {
        for (kind, is_v4, mark) in [
            (AnswerKind::TimeExceeded, true, ""),
            (AnswerKind::Reached(Reached::Reset), false, ""),
            (AnswerKind::Unreachable { code: 0 }, true, " !N"),
            (AnswerKind::Unreachable { code: 1 }, true, " !H"),
            (AnswerKind::Unreachable { code: 2 }, true, " !P"),
            (AnswerKind::Unreachable { code: 13 }, true, " !X"),
            (AnswerKind::Unreachable { code: 77 }, true, " !77"),
            (AnswerKind::Unreachable { code: 0 }, false, " !N"),
            (AnswerKind::Unreachable { code: 1 }, false, " !X"),
            (AnswerKind::Unreachable { code: 3 }, false, " !H"),
            (AnswerKind::PacketTooBig { mtu: 1400 }, true, " !F-1400"),
            (AnswerKind::PacketTooBig { mtu: 0 }, true, " !F"),
            (AnswerKind::Other { icmp_type: 12, icmp_code: 0 }, true, " !<12-0>"),
        ] {
            assert_eq!(super::mark(kind, is_v4), mark);
        }
    }

    #[test]
    fn what_a_router_says_beside_is_told() {
        let objects = [0, 8, 1, 1, 0x18, 0x6a, 0x11, 0x01, 0, 8, 2, 0, 1, 2, 3, 4];
        let record = extension(Ok(Extension::of(&objects).unwrap()));
        let label = json!({ "label": 100_001, "traffic_class": 0, "bottom": true, "ttl": 1 });
        assert_eq!(record["labels"], json!([label]));
        let object = json!({ "class": 2, "c_type": 0, "payload": "01020304" });
        assert_eq!(record["objects"], json!([object]));
        assert_eq!(extension(Err(BadExtension::Truncated))["malformed"], "Truncated");
    }

    #[test]
    fn what_was_rewritten_is_named() {
        let seen = Rewritten { traffic_class: Some(8), ..Rewritten::default() };
        assert_eq!(rewritten(&seen), [("tos", json!(8))]);
        assert_eq!(rewritten(&Rewritten::default()), []);
    }
}
