//! Datagrams from here to there and back.
//!
//! | role | on | does |
//! |---|---|---|
//! | client | `Say` | it is sent to the peer; `Sent` once it has left |
//! | client | a datagram of the peer | `Received`; of others, dropped |
//! | client | an ICMP error about what was sent | `Unreachable` |
//! | server | a datagram | `Received`; its sender is the peer from now on, the only one unless there may be many |
//! | server with a reply | a datagram | the reply goes back to its sender |
//! | server | `Say` | it is sent to the peer, once there is one |
//! | any | `End`, and all that was said has left, and its time is over | `Done`, once |
//! | any | nothing moves for the time to wait, once something has, or for a client at all | `Idle`, once |
//!
//! A sender can lie about its address. A reply is one datagram for one, and none goes to a port below
//! 1024 nor to what is the reply itself, so that two servers with one reply cannot be made to talk to each
//! other without end. With two different replies they can, as long as somebody lets them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;
use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Instant, Now, QuotedError, Received, Refused,
    Stamp, Transmit, TransmitId,
};

/// The largest payload: what a UDP datagram over IPv4 holds.
pub const LARGEST: usize = 65_507;
/// Bytes that may wait to be sent: several of the largest datagrams.
pub const QUEUED: usize = 256 * 1024;
/// What a queued datagram costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 64;
/// Events that may wait for a host that does not ask.
const EVENTS: usize = 1024;

/// What a [`Talk`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TalkConfig {
    /// Whom to talk to; without, whoever comes.
    pub peer: Option<SocketAddr>,
    /// Whether others than the first may come. Only without a peer.
    pub many: bool,
    /// What each datagram is answered with. Only without a peer.
    pub reply: Option<Bytes>,
    /// How long nothing may move. Default: for ever.
    pub wait: Option<Duration>,
}

/// What is asked of a [`Talk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TalkCommand<'c> {
    /// Send this datagram to the peer.
    Say(&'c [u8]),
    /// Nothing more will be said: tell when all has left, and this time is over.
    End(Duration),
}

/// What a [`Talk`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TalkEvent<'i> {
    /// A datagram came.
    Received(SocketAddr, &'i [u8]),
    /// What was said has left, or has not: so many bytes, to whom, and why not.
    Sent(usize, SocketAddr, Option<Failure>),
    /// What was sent there came back in an ICMP error.
    Unreachable(SocketAddr, QuotedError),
    /// Nothing has moved for the time to wait.
    Idle,
    /// After the end of what is said, its time is over.
    Done,
}

/// What a [`Talk`] has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TalkCounts {
    /// Datagrams that were told.
    pub received: u64,
    /// Replies that were not given, since there was no room or the asker is not to have one.
    pub unanswered: u64,
    /// Events that the host did not fetch in time.
    pub untold: u64,
}

/// One side of a talk over datagrams.
#[derive(Debug)]
pub struct Talk {
    config: TalkConfig,
    /// Whom what is said goes to.
    peer: Option<SocketAddr>,
    said: VecDeque<Bytes>,
    replies: VecDeque<SocketAddr>,
    /// What the bytes of both cost.
    queued: usize,
    /// Those that are with the host: what was said has a length.
    sending: VecDeque<(TransmitId, SocketAddr, Option<usize>)>,
    next: u64,
    moved: Option<Instant>,
    idle: bool,
    end_after: Option<Duration>,
    end_at: Option<Instant>,
    events: VecDeque<TalkEvent<'static>>,
    counts: TalkCounts,
}

impl Talk {
    /// One that has said nothing.
    pub fn new(config: TalkConfig) -> Self {
        Self {
            peer: config.peer,
            config,
            said: VecDeque::new(),
            replies: VecDeque::new(),
            queued: 0,
            sending: VecDeque::new(),
            next: 0,
            moved: None,
            idle: false,
            end_after: None,
            end_at: None,
            events: VecDeque::new(),
            counts: TalkCounts::default(),
        }
    }

    /// What it has seen so far.
    pub fn counts(&self) -> TalkCounts {
        self.counts
    }

    fn is_flushed(&self) -> bool {
        self.said.is_empty() && self.sending.is_empty()
    }

    /// Whom what is said goes to, if somebody is known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn idle_at(&self) -> Option<Instant> {
        if self.idle {
            return None;
        }
        Some(self.moved?.saturating_add(self.config.wait?))
    }

    fn is_server(&self) -> bool {
        self.config.peer.is_none()
    }

    fn answer(&mut self, to: SocketAddr, payload: &[u8]) {
        let Some(reply) = &self.config.reply else { return };
        let cost = reply.len().saturating_add(OVERHEAD);
        let queued = self.queued.saturating_add(cost);
        if to.port() < 1024 || payload == reply || queued > QUEUED {
            self.counts.unanswered = self.counts.unanswered.saturating_add(1);
            return;
        }
        self.queued = queued;
        self.replies.push_back(to);
    }

    fn tell(&mut self, event: TalkEvent<'static>) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.counts.untold = self.counts.untold.saturating_add(1);
        }
    }

    /// Begins to wait for the end, if all has left.
    fn end_if_flushed(&mut self, now: Now) {
        if self.is_flushed() {
            self.end_at = self.end_after.take().map(|after| now.mono.saturating_add(after));
        }
    }

    fn settle(&mut self, now: Now, id: TransmitId, failure: Option<Failure>) {
        let Some(at) = self.sending.iter().position(|&(sending, ..)| sending == id) else {
            return;
        };
        if let Some((_, to, Some(len))) = self.sending.remove(at) {
            self.tell(TalkEvent::Sent(len, to, failure));
        }
        if self.end_after.is_some() {
            self.end_if_flushed(now);
        }
    }

    fn transmit(&mut self, to: SocketAddr, size: usize, said: Option<usize>) -> Transmit {
        let id = TransmitId(self.next);
        self.next = self.next.saturating_add(1);
        self.queued = self.queued.saturating_sub(size.saturating_add(OVERHEAD));
        self.sending.push_back((id, to, said));
        Transmit {
            id,
            destination: to,
            size,
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        }
    }
}

impl DatagramMachine for Talk {
    type Event<'i> = TalkEvent<'i>;
    type Command<'c> = TalkCommand<'c>;

    fn accepts(&self, meta: &Received, _: &[u8]) -> bool {
        match self.config.peer {
            Some(peer) => meta.source == peer,
            None => self.config.many || self.peer.is_none_or(|peer| peer == meta.source),
        }
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<TalkEvent<'i>> {
        if !self.accepts(&meta, payload) {
            return None;
        }
        if let Some(error) = meta.error {
            return Some(TalkEvent::Unreachable(meta.source, error));
        }
        self.moved = Some(now.mono);
        self.idle = false;
        if self.is_server() {
            self.peer = Some(meta.source);
            self.answer(meta.source, payload);
        }
        self.counts.received = self.counts.received.saturating_add(1);
        Some(TalkEvent::Received(meta.source, payload))
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, _: Stamp) {
        self.settle(now, id, None);
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        self.settle(now, id, Some(failure));
    }

    fn handle_command(&mut self, now: Now, command: TalkCommand<'_>) -> Result<(), Refused> {
        let payload = match command {
            TalkCommand::Say(payload) => payload,
            TalkCommand::End(after) => {
                self.end_after = Some(after);
                self.end_if_flushed(now);
                return Ok(());
            }
        };
        if payload.len() > LARGEST {
            return Err(Refused::Invalid("more than a datagram holds"));
        }
        let queued = self.queued.saturating_add(payload.len()).saturating_add(OVERHEAD);
        if queued > QUEUED {
            return Err(Refused::Full);
        }
        self.queued = queued;
        self.moved = Some(now.mono);
        self.idle = false;
        self.said.push_back(Bytes::copy_from_slice(payload));
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if !self.is_server() {
            self.moved.get_or_insert(now.mono);
        }
        if let Some(to) = self.replies.pop_front() {
            let reply = self.config.reply.as_deref().unwrap_or_default();
            buf.extend_from_slice(reply);
            let size = reply.len();
            return Some(self.transmit(to, size, None));
        }
        let peer = self.peer?;
        let payload = self.said.pop_front()?;
        buf.extend_from_slice(&payload);
        Some(self.transmit(peer, payload.len(), Some(payload.len())))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let end = self.end_at.map(|at| Deadline { at, why: "end" });
        Deadline::earlier(self.idle_at().map(|at| Deadline { at, why: "idle" }), end)
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.idle_at().is_some_and(|at| at <= now.mono) {
            self.idle = true;
            self.tell(TalkEvent::Idle);
        }
        if self.end_at.take_if(|at| *at <= now.mono).is_some() {
            self.tell(TalkEvent::Done);
        }
    }

    fn poll_event(&mut self) -> Option<TalkEvent<'static>> {
        self.events.pop_front()
    }
}
