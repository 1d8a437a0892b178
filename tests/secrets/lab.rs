//! Shards in the simulator whose runs are recorded.

use std::sync::{Arc, Mutex};

use semfio_chat::{Client, Hub, HubConfig, HubMessage, Participant, ParticipantMessage, Session};
use semfio_machine::{NetLimits, Seed, Service, Shard, StreamMachine};
use semfio_trace::{Codec, End, Header, Reader, Recorder, ReplayError};
use sha2::{Digest as _, Sha256};

pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];

/// A file in memory.
#[derive(Clone, Default)]
pub(crate) struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) type ToFile<M> = Recorder<Box<dyn FnMut(&[u8]) + Send>, M>;

pub(crate) fn recorder<M>(codec: Codec<M>) -> (File, ToFile<M>) {
    let file = File::default();
    let to = file.clone();
    let write = move |line: &[u8]| {
        if !std::thread::panicking() {
            to.0.lock().unwrap().extend_from_slice(line);
        }
    };
    (file, Recorder::with_codec(&Header::new("chat"), codec, Box::new(write)))
}

pub(crate) const HUB: Codec<HubMessage> = Codec {
    encode: |_, to| to.extend_from_slice(b"stop"),
    decode: |from| (from == b"stop").then_some(HubMessage::Stop),
};

pub(crate) const PARTICIPANT: Codec<ParticipantMessage> = Codec {
    encode: |message, to| match message {
        ParticipantMessage::Line(line) => {
            to.push(b' ');
            to.extend_from_slice(line.as_bytes());
        }
        ParticipantMessage::Eof => to.extend_from_slice(b"eof"),
        ParticipantMessage::Interrupt => to.extend_from_slice(b"interrupt"),
    },
    decode: |from| {
        Some(match from {
            b"eof" => ParticipantMessage::Eof,
            b"interrupt" => ParticipantMessage::Interrupt,
            _ => {
                let line = std::str::from_utf8(from.strip_prefix(b" ")?).ok()?;
                ParticipantMessage::Line(line.to_owned())
            }
        })
    },
};

pub(crate) fn hub(config: HubConfig, seed: u64) -> Hub {
    Hub::new(config, &Seed::from_u64(seed))
}

fn replay<M: StreamMachine, S: Service<M>>(
    trace: &[u8],
    service: S,
    codec: Codec<S::Message>,
) -> Result<End, ReplayError>
where
    S::Message: 'static,
{
    let reader = Reader::new(trace).map_err(ReplayError::Read)?;
    let shard = Shard::new(service, NetLimits::default());
    semfio_trace::Replay::with_codec(reader, shard, codec).run().map(|agreement| agreement.end)
}

pub(crate) fn replay_hub(trace: &[u8], hub: Hub) -> Result<End, ReplayError> {
    replay::<Session, _>(trace, hub, HUB)
}

pub(crate) fn replay_participant(trace: &[u8], it: Participant) -> Result<End, ReplayError> {
    replay::<Client, _>(trace, it, PARTICIPANT)
}

/// The same trace with other lines, and a trailer that fits them.
pub(crate) fn rewritten(trace: &[u8], line: impl Fn(usize, &str) -> String) -> Vec<u8> {
    let text = std::str::from_utf8(trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (_, lines) = lines.split_last().unwrap();
    let mut out = String::new();
    for (number, old) in lines.iter().enumerate() {
        out.push_str(&line(number, old));
        out.push('\n');
    }
    let hash: String = Sha256::digest(&out).iter().map(|octet| format!("{octet:02x}")).collect();
    let events = lines.len() - 1;
    out.push_str(&format!("{{\"name\":\"end\",\"events\":{events},\"sha256\":\"{hash}\"}}\n"));
    out.into_bytes()
}
