//! A member whose every input and output is kept, so that it can be had again without its secrets.

use semfio_keysync::{
    Answer, KeyEvent, KeySync, KeyTransmit, Label, Manner, Message, Outer, Refusal, Stamped,
    Unopened, Unsealed, Vault,
};
use semfio_machine::Now;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Something a member is told.
#[derive(Clone, Debug)]
pub enum In {
    Door {
        you: u64,
        holder: u64,
    },
    Knock {
        peer: u64,
        nick: String,
    },
    Relay {
        from: u64,
        body: Vec<u8>,
    },
    Gone {
        peer: u64,
    },
    Refused(Refusal),
    Part {
        seq: u64,
    },
    Holder {
        seq: u64,
        peer: u64,
    },
    Epoch {
        epoch: u64,
        fresh: bool,
        check: [u8; 16],
    },
    Nick(String),
    Disconnected,
    Timeout,
    Seal {
        manner: Manner,
        to: String,
        text: String,
    },
    Open {
        sender: u64,
        to: String,
        epoch: u64,
        counter: u64,
        token: Vec<u8>,
        label: Label,
    },
    /// Fetches so many things to send.
    Transmit(usize),
    Events,
}

/// What comes of it.
#[derive(Clone, Debug, Default)]
pub struct Out {
    pub transmits: Vec<KeyTransmit>,
    pub events: Vec<KeyEvent>,
    pub sealed: Option<Result<(Stamped, Vec<u8>), Unsealed>>,
    pub opened: Option<Result<Message, Unopened>>,
}

fn apply(sync: &mut KeySync, now: Now, input: &In) -> Out {
    let mut out = Out::default();
    match input {
        In::Door { you, holder } => sync.handle_door(now, *you, *holder),
        In::Knock { peer, nick } => sync.handle_knock(now, *peer, nick),
        In::Relay { from, body } => sync.handle_relay(now, *from, body),
        In::Gone { peer } => sync.handle_gone(now, *peer),
        In::Refused(why) => sync.handle_refused(now, *why),
        In::Part { seq } => sync.handle_part(now, *seq),
        In::Holder { seq, peer } => sync.handle_holder(now, *seq, *peer),
        In::Epoch { epoch, fresh, check } => sync.handle_epoch(now, *epoch, *fresh, *check),
        In::Nick(nick) => sync.handle_nick(now, nick),
        In::Disconnected => sync.handle_disconnected(now),
        In::Timeout => sync.handle_timeout(now),
        In::Seal { manner, to, text } => {
            let mut token = Vec::new();
            let sealed = sync.seal(now, *manner, to, text, &mut token);
            out.sealed = Some(sealed.map(|stamped| (stamped, token)));
        }
        In::Open { sender, to, epoch, counter, token, label } => {
            let outer = Outer { sender: *sender, to, epoch: *epoch, counter: *counter };
            out.opened = Some(sync.open(now, &outer, token, *label));
        }
        In::Transmit(n) => {
            out.transmits.extend(std::iter::from_fn(|| sync.poll_transmit()).take(*n));
        }
        In::Events => out.events.extend(std::iter::from_fn(|| sync.poll_event())),
    }
    out
}

#[derive(Debug)]
pub struct Tape {
    pub sync: KeySync,
    room: String,
    nick: String,
    inputs: Vec<(Now, In)>,
    outputs: Vec<u64>,
    answers: Vec<Answer>,
}

impl Tape {
    pub fn new(vault: Vault, room: &str, nick: &str) -> Self {
        Self {
            sync: KeySync::new(vault.recording(), room, nick),
            room: room.into(),
            nick: nick.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub fn tell(&mut self, now: Now, input: In) -> Out {
        let out = apply(&mut self.sync, now, &input);
        self.answers.extend(std::iter::from_fn(|| self.sync.poll_journal()));
        self.outputs.push(digest(&self.sync, &out));
        self.inputs.push((now, input));
        if let Some(due) = self.sync.poll_timeout() {
            // Nothing asks to be woken again for what it was just woken for.
            let woken = matches!(self.inputs.last(), Some((_, In::Timeout)));
            assert!(!woken || due.at > now.mono, "{due:?} at {:?}", now.mono);
        }
        out
    }

    /// Runs it again from its answers alone.
    pub fn replay(&self) {
        let vault = Vault::replay(self.answers.iter().cloned());
        let mut again = KeySync::new(vault, &self.room, &self.nick);
        for (at, ((now, input), output)) in self.inputs.iter().zip(&self.outputs).enumerate() {
            let out = apply(&mut again, *now, input);
            assert_eq!(digest(&again, &out), *output, "input {at} differs: {input:?}, {out:?}");
        }
        assert_eq!(again.vault().keys(), 0);
    }
}

fn digest(sync: &KeySync, out: &Out) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{out:?}").hash(&mut hasher);
    (sync.state(), sync.epoch(), sync.number(), sync.is_ready()).hash(&mut hasher);
    format!("{:?}", sync.poll_timeout()).hash(&mut hasher);
    hasher.finish()
}
