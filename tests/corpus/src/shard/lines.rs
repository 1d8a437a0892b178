//! A small protocol that uses every part of the contract.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use semfio_machine::{
    Closed, ConnId, Deadline, Effect, Failure, Input, Instant, Net, Now, Outbox, Peer, Refused,
    Reply, RequestId, RootId, Service, Step, StreamMachine, Target,
};

/// Lines of up to [`Self::LIMIT`] bytes, each answered by itself. The first byte decides:
///
/// | first byte | answer |
/// |---|---|
/// | `?` | nothing, until the application has answered |
/// | `t` | later `tick` |
/// | `q` | `bye`, and the dialogue is over |
/// | `!` | `bad`, and the peer is at fault, as with a line too long |
/// | any other | the line |
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    faults: Faults,
    state: State,
    timer: Option<Instant>,
    /// Bytes without a line feed, seen before; only a wrong machine uses it.
    searched: usize,
}

/// What a wrong machine does wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Judges the buffer in place of the line.
    pub(crate) limits_buffer: bool,
    /// Does not forget how far it has searched.
    pub(crate) stale_search: bool,
    /// Takes the line before it finds that there is no room.
    pub(crate) takes_without_room: bool,
    /// Leaves its timer set when it has fired.
    pub(crate) keeps_timer: bool,
    /// Asks for more input at its end.
    pub(crate) waits_at_eof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Asking,
    Over,
    Failed(BadLine),
}

/// How a peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLine {
    Bang,
    TooLong,
}

impl core::fmt::Display for BadLine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Bang => "a line begins with a bang",
            Self::TooLong => "a line is too long",
        })
    }
}

impl core::error::Error for BadLine {}

/// What the application may ask of [`Lines`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'c> {
    Answer,
    Say(&'c [u8]),
}

impl Lines {
    /// With the line feed.
    pub(crate) const LIMIT: usize = 24;
    /// Memory that answers to one full read may take beyond the mark.
    pub(crate) const ANSWERS: usize = 128;

    fn new(faults: Faults) -> Self {
        Self {
            faults,
            state: State::Open,
            timer: None,
            searched: 0,
        }
    }

    fn fail(&mut self, bad: BadLine, out: &mut Outbox) -> BadLine {
        out.put(b"bad\n");
        self.state = State::Failed(bad);
        bad
    }
}

impl StreamMachine for Lines {
    type Event<'i> = &'i [u8];
    type Command<'c> = Command<'c>;
    type Error = BadLine;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        Self::LIMIT
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Open => "Open",
            State::Asking => "Asking",
            State::Over => "Over",
            State::Failed(_) => "Failed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, BadLine> {
        match self.state {
            State::Open => {}
            State::Asking => return Ok(Step::NeedCommand),
            State::Over => return Ok(Step::Done),
            State::Failed(bad) => return Err(bad),
        }
        if self.faults.limits_buffer && input.len() > Self::LIMIT {
            return Err(self.fail(BadLine::TooLong, out));
        }
        let skip = if self.faults.stale_search {
            self.searched.min(input.len())
        } else {
            0
        };
        let found = input.peek()[skip..].iter().position(|&byte| byte == b'\n');
        let Some(end) = found.map(|at| at + skip) else {
            self.searched = input.len();
            return match () {
                () if input.len() >= Self::LIMIT => Err(self.fail(BadLine::TooLong, out)),
                () if input.at_eof() && !self.faults.waits_at_eof => {
                    self.state = State::Over;
                    Ok(Step::Done)
                }
                () => Ok(Step::NeedInput(1)),
            };
        };
        if end >= Self::LIMIT {
            return Err(self.fail(BadLine::TooLong, out));
        }
        if out.room() == 0 {
            if self.faults.takes_without_room {
                input.take(end + 1);
            }
            return Ok(Step::NeedRoom);
        }
        let line = input.take(end + 1);
        match line.first() {
            Some(b'?') => self.state = State::Asking,
            Some(b't') => self.timer = Some(now.mono.saturating_add(Duration::from_nanos(20))),
            Some(b'q') => {
                out.put(b"bye\n");
                self.state = State::Over;
            }
            Some(b'!') => return Err(self.fail(BadLine::Bang, out)),
            _ => out.put(line),
        }
        Ok(Step::Event(line))
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        match (command, self.state) {
            (Command::Answer, State::Asking) => self.state = State::Open,
            (Command::Say(bytes), State::Open | State::Asking) => out.put(bytes),
            _ => return Err(Refused::State(self.state())),
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer.map(|at| Deadline { at, why: "tick" })
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.timer.is_some_and(|at| at <= now.mono) {
            out.put(b"tick\n");
            if !self.faults.keeps_timer {
                self.timer = None;
            }
        }
    }
}

/// What the application says from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// To every connection, and answers whoever asks.
    Say,
    Stop,
}

/// Does to a connection what its lines ask for, and checks the order in which it is called:
/// `a`bort, `c`lose, `d`ial, `p`ause, `r`equest, `g`ossip.
pub(crate) struct Room {
    faults: Faults,
    gossip: bool,
    /// What each connection has seen, and when.
    seen: BTreeMap<ConnId, Vec<String>>,
    /// The lines of each, joined.
    lines: BTreeMap<ConnId, Vec<u8>>,
    open: BTreeMap<ConnId, Stage>,
    paused: Vec<(Instant, ConnId)>,
    requests: BTreeMap<RequestId, ConnId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialled,
    Open,
    Closed,
}

impl Room {
    pub(crate) fn new(faults: Faults, gossip: bool) -> Self {
        Self {
            faults,
            gossip,
            seen: BTreeMap::new(),
            lines: BTreeMap::new(),
            open: BTreeMap::new(),
            paused: Vec::new(),
            requests: BTreeMap::new(),
        }
    }

    pub(crate) fn into_seen(self) -> BTreeMap<ConnId, Vec<String>> {
        self.seen
    }

    pub(crate) fn lines(&self) -> &BTreeMap<ConnId, Vec<u8>> {
        &self.lines
    }

    pub(crate) fn assert_all_closed(&self) {
        for (id, stage) in &self.open {
            assert_eq!(*stage, Stage::Closed, "{id} was never told to be closed");
        }
    }

    fn saw(&mut self, id: ConnId, what: String) {
        self.seen.entry(id).or_default().push(what);
    }
}

impl Service<Lines> for Room {
    type Message = Message;
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Lines> {
        Some(Lines::new(self.faults))
    }

    fn handle_opened(&mut self, now: Now, id: ConnId, _: &Peer, _: &mut Net<Lines>) {
        let before = self.open.insert(id, Stage::Open);
        assert!(
            matches!(before, None | Some(Stage::Dialled)),
            "{id}: opened after {before:?}"
        );
        self.saw(id, format!("{} opened", now.mono.as_nanos()));
    }

    fn handle_event(&mut self, now: Now, from: ConnId, event: &[u8], net: &mut Net<Lines>) {
        assert_eq!(
            self.open.get(&from),
            Some(&Stage::Open),
            "{from}: an event, not open"
        );
        self.lines.entry(from).or_default().extend(event);
        let line = String::from_utf8_lossy(event);
        self.saw(from, format!("{} {line:?}", now.mono.as_nanos()));
        match event.first() {
            Some(b'a') => net.abort(from),
            Some(b'c') => net.close(from),
            Some(b'd') if self.gossip && net.len() < 8 => {
                let target = Target::Name(String::from("localhost"), 1);
                let id = net.dial(target, Lines::new(self.faults));
                self.open.insert(id, Stage::Dialled);
            }
            Some(b'p') => {
                net.pause(from);
                let until = now.mono.saturating_add(Duration::from_nanos(30));
                self.paused.push((until, from));
            }
            Some(b'r') if self.gossip => {
                let id = net.request(Effect::Stat {
                    root: RootId(0),
                    path: String::new(),
                });
                self.requests.insert(id, from);
            }
            Some(b'g') if self.gossip => {
                for &id in self.open.keys() {
                    // Full and closed are answers too.
                    let _ = net.send(id, Command::Say(b"gossip\n"));
                }
            }
            _ => {}
        }
    }

    fn handle_room(&mut self, _: Now, id: ConnId, net: &mut Net<Lines>) {
        assert_eq!(
            self.open.get(&id),
            Some(&Stage::Open),
            "{id}: room, not open"
        );
        assert!(net.has_room(id), "{id} was told of room");
    }

    fn handle_closed(&mut self, now: Now, id: ConnId, why: Closed<BadLine>, _: &mut Net<Lines>) {
        let before = self.open.insert(id, Stage::Closed);
        assert!(
            matches!(before, Some(Stage::Open | Stage::Dialled)),
            "{id}: closed after {before:?}"
        );
        assert_ne!(why, Closed::Stalled, "{id} waits for ever");
        self.saw(id, format!("{} closed: {why:?}", now.mono.as_nanos()));
    }

    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<Lines>) {
        let from = self.requests.remove(&id).expect("a request of ours");
        let text: &[u8] = match reply {
            Reply::Failed(Failure::NotFound) => b"none\n",
            _ => b"found\n",
        };
        // It may be gone by now.
        let _ = net.send(from, Command::Say(text));
    }

    fn handle_message(&mut self, _: Now, message: Message, net: &mut Net<Lines>) {
        match message {
            Message::Say => {
                for &id in self.open.keys() {
                    // Refused unless it asks; both are wanted here.
                    let _ = net.send(id, Command::Answer);
                    let _ = net.send(id, Command::Say(b"hear\n"));
                }
            }
            Message::Stop => net.stop(),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.paused.iter().map(|&(at, _)| at).min()?;
        Some(Deadline { at, why: "pause" })
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Lines>) {
        for (_, id) in self.paused.extract_if(.., |(at, _)| *at <= now.mono) {
            net.resume(id);
        }
    }
}

/// Turns any bytes into mostly sensible lines, of lengths on both sides of the limit.
pub(crate) fn spell(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 32] = b"acdgprqt?!xyzxyzxyzxyzxyzxyzxy\n\n";
    bytes
        .iter()
        .map(|byte| LETTERS[usize::from(byte % 32)])
        .collect()
}
