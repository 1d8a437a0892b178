//! What a tap sees, as records.

use alloc::vec::Vec;

use semfio_machine::{
    Action, Chunk, ConnId, Effect, Metadata, Now, Outbox, Peer, QuotedError, Received, Reply,
    RequestId, Stamp, TapEntry, Target, Transmit, TransmitId,
};

use crate::line::Line;
use crate::reader::MAX_LINE;

/// Bytes in one `out.bytes`; longer writes become several.
const PIECE: usize = 48 * 1024;

/// An entry whose record is over [`MAX_LINE`]; the recording ends before it.
#[derive(Debug)]
pub(crate) struct TooLarge;

/// Turns entries into lines; keeps its memory between them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    line: Line,
    payload: Vec<u8>,
}

impl Encoder {
    /// Gives the lines of one entry to `to`, one a call.
    pub(crate) fn put<M>(
        &mut self,
        now: Now,
        entry: &TapEntry<'_, M>,
        encode: fn(&M, &mut Vec<u8>),
        to: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TooLarge> {
        let line = &mut self.line;
        match entry {
            TapEntry::Accepted(conn, peer) => {
                line.start(now, "in.accepted");
                match conn {
                    Some(conn) => line.conn(*conn),
                    None => line.null("conn"),
                };
                put_peer(line, peer);
            }
            TapEntry::Connected(conn, peer) => {
                line.start(now, "in.connected").conn(*conn);
                put_peer(line, peer);
            }
            TapEntry::Received(conn, bytes) => {
                line.start(now, "in.bytes").conn(*conn).data(bytes);
            }
            TapEntry::Eof(conn) => {
                line.start(now, "in.eof").conn(*conn);
            }
            TapEntry::Failed(conn, failure) => {
                line.start(now, "in.failed").conn(*conn);
                line.debug("failure", failure);
            }
            TapEntry::Sent(conn, n, outbox) => {
                line.start(now, "in.sent").conn(*conn);
                line.number("n", *n as u64);
                // Shows at once if a replay has put more, or less, than was put.
                let left = outbox.queued().saturating_sub(*n as u64);
                to(line.number("left", left).end());
                self.put_sent(now, *conn, *n, outbox, to);
                return Ok(());
            }
            TapEntry::Reply(id, reply) => {
                line.start(now, "in.reply").number("id", id.0);
                put_reply(line, reply);
            }
            TapEntry::Message(message) => {
                self.payload.clear();
                encode(message, &mut self.payload);
                line.start(now, "in.message").data(&self.payload);
            }
            TapEntry::Turn => {
                line.start(now, "in.turn");
            }
            TapEntry::Timeout => {
                line.start(now, "in.timeout");
            }
            TapEntry::Action(action) => put_action(line, now, action),
            TapEntry::Report(report) => {
                line.start(now, "out.report").debug("text", report);
            }
            TapEntry::Closed(conn, why) => {
                line.start(now, "out.closed").conn(*conn);
                line.debug("why", why);
            }
            TapEntry::State(conn, state) => {
                line.start(now, "state").conn(*conn).text("state", state);
            }
            TapEntry::Datagram(meta, payload) => {
                line.start(now, "in.datagram");
                put_received(line, meta);
                line.data(payload);
            }
            TapEntry::Left(TransmitId(id), n) => {
                line.start(now, "in.left").number("id", *id);
                line.number("n", *n as u64);
            }
            TapEntry::Stamped(TransmitId(id), stamp) => {
                line.start(now, "in.stamp").number("id", *id);
                put_stamp(line, stamp);
            }
            TapEntry::Refused(TransmitId(id), failure) => {
                line.start(now, "in.refused").number("id", *id);
                line.debug("failure", failure);
            }
            TapEntry::Blocked => {
                line.start(now, "in.blocked");
            }
            TapEntry::Writable => {
                line.start(now, "in.writable");
            }
            TapEntry::Note(what) => {
                line.start(now, "in.note").data(what);
            }
            TapEntry::Transmit(transmit, payload) => {
                line.start(now, "out.datagram");
                put_transmit(line, transmit);
                line.data(payload);
            }
            TapEntry::Nothing => {
                line.start(now, "out.nothing");
            }
            // A kind of entry that this version does not know cannot be restored.
            _ => return Ok(()),
        }
        let line = self.line.end();
        if line.len() > MAX_LINE {
            return Err(TooLarge);
        }
        to(line);
        Ok(())
    }

    /// The first `n` bytes of the outbox, cut where files begin and at every [`PIECE`], so that
    /// how they were put does not show.
    fn put_sent(
        &mut self,
        now: Now,
        conn: ConnId,
        n: usize,
        outbox: &Outbox,
        to: &mut dyn FnMut(&[u8]),
    ) {
        let mut left = n;
        self.payload.clear();
        for chunk in outbox.chunks() {
            if left == 0 {
                break;
            }
            match chunk {
                Chunk::Bytes(bytes) => {
                    let mut bytes = bytes.get(..left).unwrap_or(bytes);
                    left = left.saturating_sub(bytes.len());
                    while !bytes.is_empty() {
                        let room = PIECE.saturating_sub(self.payload.len());
                        let (now_in, later) = bytes.split_at(room.min(bytes.len()));
                        self.payload.extend_from_slice(now_in);
                        bytes = later;
                        if self.payload.len() == PIECE {
                            self.put_piece(now, conn, to);
                        }
                    }
                }
                Chunk::File(span) => {
                    self.put_piece(now, conn, to);
                    let len = span.len.min(left as u64);
                    left = left.saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
                    let line = self.line.start(now, "out.file").conn(conn);
                    line.number("file", u64::from(span.file.0));
                    to(line.number("offset", span.offset).number("len", len).end());
                }
            }
        }
        self.put_piece(now, conn, to);
    }

    fn put_piece(&mut self, now: Now, conn: ConnId, to: &mut dyn FnMut(&[u8])) {
        if !self.payload.is_empty() {
            let line = self.line.start(now, "out.bytes").conn(conn);
            to(line.data(&self.payload).end());
            self.payload.clear();
        }
    }
}

fn put_peer(line: &mut Line, peer: &Peer) {
    line.address("peer", &peer.address);
    line.address("local", &peer.local);
}

/// What the system did not tell is left out.
fn put_received(line: &mut Line, meta: &Received) {
    line.address("from", &meta.source);
    if let Some(to) = &meta.destination {
        line.ip("to", to);
    }
    put_octet(line, "hop_limit", meta.hop_limit);
    put_octet(line, "traffic_class", meta.traffic_class);
    line.debug("carrier", &meta.carrier);
    put_stamp(line, &meta.stamp);
    if let Some(error) = &meta.error {
        let QuotedError { offender, icmp_type, icmp_code, info, extension } = error;
        if let Some(offender) = offender {
            line.ip("offender", offender);
        }
        put_octet(line, "icmp_type", Some(*icmp_type));
        put_octet(line, "icmp_code", Some(*icmp_code));
        line.number("info", u64::from(*info));
        if let Some(extension) = extension {
            line.number("extension", u64::from(*extension));
        }
    }
}

fn put_transmit(line: &mut Line, transmit: &Transmit) {
    line.number("id", transmit.id.0).address("to", &transmit.destination);
    if let Some(size) = transmit.segment_size {
        line.number("segment", size as u64);
    }
    put_octet(line, "hop_limit", transmit.hop_limit);
    if let Some(source) = &transmit.source {
        line.ip("from", source);
    }
    line.debug("carrier", &transmit.carrier);
}

fn put_stamp(line: &mut Line, stamp: &Stamp) {
    line.number("stamp", stamp.at.as_nanos()).debug("clock", &stamp.clock);
}

fn put_octet(line: &mut Line, key: &str, octet: Option<u8>) {
    if let Some(octet) = octet {
        line.number(key, u64::from(octet));
    }
}

fn put_reply(line: &mut Line, reply: &Reply<'_>) {
    match reply {
        Reply::Opened { file, metadata } => {
            line.text("reply", "Opened");
            line.number("file", u64::from(file.0));
            put_metadata(line, metadata);
        }
        Reply::Found(metadata) => {
            line.text("reply", "Found");
            put_metadata(line, metadata);
        }
        Reply::Listed(entries) => {
            line.text("reply", "Listed").open("entries", b"[");
            for entry in *entries {
                line.separate().put(b"{").text("path", &entry.name);
                put_metadata(line, &entry.metadata);
                line.put(b"}");
            }
            line.put(b"]");
        }
        Reply::Read(bytes) => {
            line.text("reply", "Read").data(bytes);
        }
        Reply::Resolved(addresses) => {
            line.text("reply", "Resolved").open("addresses", b"[");
            for address in *addresses {
                line.address_item(address);
            }
            line.put(b"]");
        }
        Reply::Done => {
            line.text("reply", "Done");
        }
        Reply::Failed(failure) => {
            line.text("reply", "Failed").debug("failure", failure);
        }
    }
}

fn put_metadata(line: &mut Line, metadata: &Metadata) {
    line.number("size", metadata.len);
    line.number("modified", metadata.modified.as_nanos());
    line.debug("kind", &metadata.kind);
    line.number("stamp", metadata.stamp);
}

fn put_action(line: &mut Line, now: Now, action: &Action) {
    match action {
        Action::Dial(conn, target) => {
            line.start(now, "out.dial").conn(*conn);
            match target {
                Target::Address(address) => line.address("address", address),
                Target::Name(name, port) => {
                    line.text("host", name).number("port", u64::from(*port))
                }
            };
        }
        Action::Write(conn) => {
            line.start(now, "out.write").conn(*conn);
        }
        Action::Shutdown(conn) => {
            line.start(now, "out.shutdown").conn(*conn);
        }
        Action::Read(conn) => {
            line.start(now, "out.read").conn(*conn);
        }
        Action::Close { conn, reset } => {
            line.start(now, "out.close").conn(*conn);
            line.flag("reset", *reset);
        }
        Action::Request(RequestId(id), effect) => {
            line.start(now, "out.request").number("id", *id);
            put_effect(line, effect);
        }
        Action::Cancel(RequestId(id)) => {
            line.start(now, "out.cancel").number("id", *id);
        }
        Action::Release(file) => {
            line.start(now, "out.release");
            line.number("file", u64::from(file.0));
        }
        Action::Stop => {
            line.start(now, "out.stop");
        }
    }
}

fn put_effect(line: &mut Line, effect: &Effect) {
    match effect {
        Effect::Open { root, path, mode } => {
            put_path(line, "Open", root.0, path);
            line.debug("mode", mode);
        }
        Effect::Stat { root, path } => {
            put_path(line, "Stat", root.0, path);
        }
        Effect::StatFile { file } => {
            line.text("do", "StatFile");
            line.number("file", u64::from(file.0));
        }
        Effect::List { root, path, after } => {
            put_path(line, "List", root.0, path);
            line.text("after", after);
        }
        Effect::Read { file, offset, len } => {
            line.text("do", "Read");
            line.number("file", u64::from(file.0));
            line.number("offset", *offset);
            line.number("len", u64::from(*len));
        }
        Effect::Write { file, offset, bytes } => {
            line.text("do", "Write");
            line.number("file", u64::from(file.0));
            line.number("offset", *offset).data(bytes);
        }
        Effect::SetModified { file, modified } => {
            line.text("do", "SetModified");
            line.number("file", u64::from(file.0)).number("modified", modified.as_nanos());
        }
        Effect::Sync { file } => {
            line.text("do", "Sync");
            line.number("file", u64::from(file.0));
        }
        Effect::CreateFolder { root, path } => put_path(line, "CreateFolder", root.0, path),
        Effect::SyncFolder { root, path } => put_path(line, "SyncFolder", root.0, path),
        Effect::Rename { root, from, to, replace } => {
            put_path(line, "Rename", root.0, from);
            line.text("to", to).flag("replace", *replace);
        }
        Effect::Remove { root, path } => put_path(line, "Remove", root.0, path),
        Effect::Watch { root, path } => put_path(line, "Watch", root.0, path),
        Effect::Resolve { name, port } => {
            line.text("do", "Resolve").text("host", name);
            line.number("port", u64::from(*port));
        }
    }
}

fn put_path(line: &mut Line, effect: &str, root: u32, path: &str) {
    line.text("do", effect);
    line.number("root", u64::from(root)).text("path", path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use bytes::Bytes;
    use semfio_machine::{FileId, FileSpan};

    fn sent(outbox: &Outbox, n: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let conn = ConnId { index: 0, generation: 0 };
        let entry = TapEntry::<()>::Sent(conn, n, outbox);
        let mut encoder = Encoder::default();
        let put = encoder.put(Now::default(), &entry, |_, _| {}, &mut |line| {
            lines.push(String::from_utf8(line.into()).unwrap());
        });
        assert!(put.is_ok());
        lines
    }

    #[test]
    fn how_bytes_were_put_does_not_show() {
        let content = vec![b'x'; PIECE * 2 + 100];
        let mut whole = Outbox::default();
        whole.put(&content);
        let mut pieces = Outbox::default();
        for piece in content.chunks(1000) {
            pieces.put(piece);
            pieces.put_shared(Bytes::copy_from_slice(b""));
        }
        let mut shared = Outbox::default();
        for piece in content.chunks(PIECE + 1) {
            shared.put_shared(Bytes::copy_from_slice(piece));
        }
        for n in [0, 1, PIECE - 1, PIECE, PIECE + 1, content.len()] {
            let lines = sent(&whole, n);
            assert_eq!(lines, sent(&pieces, n));
            assert_eq!(lines, sent(&shared, n));
            assert_eq!(lines.len(), 1 + n.div_ceil(PIECE));
        }
    }

    #[test]
    fn only_what_was_sent_is_written() {
        let file = FileId(4);
        let (offset, len) = (10, 20);
        let mut outbox = Outbox::default();
        outbox.put(b"head");
        outbox.put_file(FileSpan { file, offset, len });
        outbox.put(b"tail");
        let of = |n| sent(&outbox, n).split_off(1).join("");
        assert!(of(3).contains("\"len\":3,\"text\":\"hea\""));
        assert!(!of(4).contains("out.file"));
        assert!(of(5).ends_with("\"file\":4,\"offset\":10,\"len\":1}\n"));
        assert!(of(25).ends_with("\"len\":1,\"text\":\"t\"}\n"));
    }
}
