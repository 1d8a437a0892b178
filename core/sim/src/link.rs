//! One direction of a link, and what may go wrong on it.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use core::num::NonZeroU64;
use core::time::Duration;
use semfio_machine::{Chunk, Failure, FileSpan, Instant, Outbox, Seed};

use crate::dice::{Chance, Dice};

/// How one direction of a link behaves. The default is perfect: no delay, no fault, and each
/// write arrives as one read.
///
/// Streams lose, double and reorder nothing, as with TCP: loss shows as delay. Datagrams do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// From one end to the other.
    pub latency: Duration,
    /// Up to so much more, drawn for each write or datagram.
    pub jitter: Duration,
    /// A stream's write is sent again after [`retransmit`](Self::retransmit), which doubles each
    /// time, at most [`RETRANSMITS`](Self::RETRANSMITS) times; a datagram is gone.
    pub loss: Chance,
    /// How long a sender waits before it sends a lost write again. Default 200 ms.
    pub retransmit: Duration,
    /// Datagrams that arrive twice.
    pub duplication: Chance,
    /// Datagrams that are overtaken: they come up to [`overtaken`](Self::overtaken) later.
    pub reordering: Chance,
    /// The most by which a reordered datagram is late. Default 10 ms.
    pub overtaken: Duration,
    /// How what arrived is cut into reads. Streams only.
    pub split: SplitPlan,
    /// In bytes a second; `None` is no limit.
    pub bandwidth: Option<NonZeroU64>,
    /// Bytes of a stream that the receiver has not read yet, at most; a sender waits for room.
    /// Default 256 KiB, as much as sockets hold. Zero counts as one.
    pub window: usize,
    /// Both ends see a reset once so many bytes have gone this way; what follows is lost.
    pub reset_after: Option<u64>,
    /// The receiver sees the end after so many bytes; what follows is lost.
    pub eof_after: Option<u64>,
    /// Every attempt to connect, and every datagram sent this way, fails like this.
    pub refuse: Option<Failure>,
}

impl LinkConfig {
    /// How often a lost write is sent again before it gets through.
    pub const RETRANSMITS: u32 = 5;

    /// A slow link with every fault a stream must survive, other for each `seed`: delay, jitter,
    /// loss, a small window, any split. No resets.
    pub fn rough(seed: u64) -> Self {
        let mut dice = Dice::new(&Seed::from_u64(seed), ROUGH);
        let split = match dice.below(5) {
            0 => SplitPlan::Whole,
            1 => SplitPlan::Joined,
            2 => SplitPlan::EveryByte,
            3 => SplitPlan::Random { most: dice.below_usize(100).saturating_add(1) },
            _ => SplitPlan::Sizes(vec![
                dice.below_usize(9).saturating_add(1),
                dice.below_usize(99).saturating_add(1),
            ]),
        };
        Self {
            latency: dice.up_to(Duration::from_millis(100)),
            jitter: dice.up_to(Duration::from_millis(50)),
            loss: Chance::percent(u32::try_from(dice.below(20)).unwrap_or(0)),
            duplication: Chance::percent(u32::try_from(dice.below(20)).unwrap_or(0)),
            reordering: Chance::percent(u32::try_from(dice.below(20)).unwrap_or(0)),
            split,
            window: match dice.below(3) {
                0 => dice.below_usize(64).saturating_add(1),
                1 => dice.below_usize(4096).saturating_add(64),
                _ => 256 * 1024,
            },
            bandwidth: match dice.below(2) {
                0 => None,
                _ => NonZeroU64::new(dice.below(10_000_000).saturating_add(1_000)),
            },
            ..Self::default()
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Chance::NEVER,
            retransmit: Duration::from_millis(200),
            duplication: Chance::NEVER,
            reordering: Chance::NEVER,
            overtaken: Duration::from_millis(10),
            split: SplitPlan::Whole,
            bandwidth: None,
            window: 256 * 1024,
            reset_after: None,
            eof_after: None,
            refuse: None,
        }
    }
}

/// How the bytes that arrived on a stream are cut into reads. No read is longer than
/// [`READ_MAX`](Self::READ_MAX).
///
/// With any plan but `Whole` and `Joined` a turn may end between two reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitPlan {
    /// Each write is one read.
    #[default]
    Whole,
    /// One read gives all that is there, of however many writes.
    Joined,
    /// One byte a read.
    EveryByte,
    /// Reads of 1 to `most` bytes, across the borders of writes.
    Random {
        /// Zero counts as one.
        most: usize,
    },
    /// Reads of these sizes, across the borders of writes, again and again; zero counts as one.
    /// An empty list is `Joined`.
    Sizes(Vec<usize>),
}

impl SplitPlan {
    /// What a host reads at once, at most: 64 KiB.
    pub const READ_MAX: usize = 64 * 1024;
}

const ROUGH: u64 = 1;

/// Bytes of a stream on their way to one end.
#[derive(Debug)]
pub(crate) struct Pipe {
    config: LinkConfig,
    dice: Dice,
    flying: VecDeque<(Instant, Parcel)>,
    arrived: VecDeque<Bytes>,
    arrived_len: usize,
    /// Read, but the sender does not know yet.
    acks: VecDeque<(Instant, usize)>,
    unacked: usize,
    /// All bytes taken from the sender.
    accepted: u64,
    /// When the line is free again.
    free_at: Instant,
    last_arrival: Instant,
    /// The sender has finished, or the link was cut: what follows vanishes.
    shut: bool,
    end: End,
    reads: usize,
}

#[derive(Debug)]
enum Parcel {
    Bytes(Bytes),
    Fin,
    /// Whether the link itself did it, so that the sender must be told too.
    Reset {
        cut: bool,
    },
}

/// How the stream ends, as far as the receiver's side knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Fin,
    Reset { cut: bool },
}

impl Pipe {
    pub(crate) fn new(config: LinkConfig, dice: Dice) -> Self {
        Self {
            config,
            dice,
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            arrived_len: 0,
            acks: VecDeque::new(),
            unacked: 0,
            accepted: 0,
            free_at: Instant::default(),
            last_arrival: Instant::default(),
            shut: false,
            end: End::Open,
            reads: 0,
        }
    }

    /// How many bytes the sender may put now.
    pub(crate) fn room(&self) -> usize {
        self.config.window.max(1).saturating_sub(self.unacked)
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Sends one write, no longer than [`room`](Self::room).
    pub(crate) fn put(&mut self, now: Instant, bytes: Bytes) {
        if self.shut || bytes.is_empty() {
            return;
        }
        let after = |limit: Option<u64>| limit.map(|n| n.saturating_sub(self.accepted));
        let (reset, eof) = (after(self.config.reset_after), after(self.config.eof_after));
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let cut = [reset, eof].into_iter().flatten().min();
        let mut bytes = bytes;
        if let Some(cut) = cut.filter(|&cut| cut <= len) {
            bytes.truncate(usize::try_from(cut).unwrap_or(usize::MAX));
        }
        self.accepted = self.accepted.saturating_add(len);
        if !bytes.is_empty() {
            self.unacked = self.unacked.saturating_add(bytes.len());
            let at = self.arrival(now, bytes.len());
            self.flying.push_back((at, Parcel::Bytes(bytes)));
        }
        if reset.is_some_and(|n| n <= len) && reset == cut {
            self.shut = true;
            let at = self.last_arrival;
            self.flying.push_back((at, Parcel::Reset { cut: true }));
        } else if eof.is_some_and(|n| n <= len) {
            self.shut = true;
            self.flying.push_back((self.last_arrival, Parcel::Fin));
        }
    }

    /// The sender has finished.
    pub(crate) fn finish(&mut self, now: Instant) {
        if !self.shut {
            self.shut = true;
            let at = self.arrival(now, 0);
            self.flying.push_back((at, Parcel::Fin));
        }
    }

    /// The sender cuts the stream; what flies still arrives.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.shut = true;
        let at = self.arrival(now, 0);
        self.flying.push_back((at, Parcel::Reset { cut: false }));
    }

    /// When something arrives or the sender learns of room.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let arrival = self.flying.front().map(|&(at, _)| at);
        let ack = self.acks.front().map(|&(at, _)| at);
        arrival.into_iter().chain(ack).min()
    }

    /// Takes what has arrived by `now`, and the news of room.
    pub(crate) fn advance(&mut self, now: Instant) {
        while self.flying.front().is_some_and(|&(at, _)| at <= now) {
            match self.flying.pop_front() {
                Some((_, Parcel::Bytes(bytes))) if self.end == End::Open => {
                    self.arrived_len = self.arrived_len.saturating_add(bytes.len());
                    self.arrived.push_back(bytes);
                }
                Some((_, Parcel::Fin)) if self.end == End::Open => self.end = End::Fin,
                Some((_, Parcel::Reset { cut })) => self.end = End::Reset { cut },
                _ => {}
            }
        }
        while self.acks.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, n)) = self.acks.pop_front() {
                self.unacked = self.unacked.saturating_sub(n);
            }
        }
    }

    /// How many bytes wait to be read.
    pub(crate) fn waiting(&self) -> usize {
        self.arrived_len
    }

    /// How it ends, once everything [`waiting`](Self::waiting) is read.
    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// Forgets what waits to be read.
    pub(crate) fn discard(&mut self) {
        self.arrived.clear();
        self.arrived_len = 0;
    }

    /// How every attempt to use it fails, if it does.
    pub(crate) fn refuse(&self) -> Option<Failure> {
        self.config.refuse
    }

    /// One read, cut by the plan, and when the sender will know of it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Vec<u8>, Instant)> {
        let first = self.arrived.front()?.len();
        let want = match &self.config.split {
            SplitPlan::Whole => first,
            SplitPlan::Joined => usize::MAX,
            SplitPlan::EveryByte => 1,
            SplitPlan::Random { most } => self.dice.below_usize((*most).max(1)).saturating_add(1),
            SplitPlan::Sizes(sizes) => self
                .reads
                .checked_rem(sizes.len())
                .and_then(|at| sizes.get(at))
                .map_or(usize::MAX, |&size| size.max(1)),
        };
        self.reads = self.reads.saturating_add(1);
        let want = want.min(SplitPlan::READ_MAX);
        let mut read = Vec::new();
        while let Some(front) = self.arrived.front_mut() {
            let n = front.len().min(want.saturating_sub(read.len()));
            read.extend_from_slice(&front.split_to(n));
            if !front.is_empty() {
                break;
            }
            self.arrived.pop_front();
            if read.len() >= want {
                break;
            }
        }
        self.arrived_len = self.arrived_len.saturating_sub(read.len());
        let known = now.saturating_add(self.config.latency);
        self.acks.push_back((known, read.len()));
        Some((read, known))
    }

    /// Whether the reader shall look again only in the next turn.
    pub(crate) fn pauses(&mut self) -> bool {
        !matches!(self.config.split, SplitPlan::Whole | SplitPlan::Joined)
            && self.dice.below(8) == 0
    }

    /// When what is sent now arrives, which is not before what was sent earlier.
    pub(crate) fn arrival(&mut self, now: Instant, len: usize) -> Instant {
        let start = now.max(self.free_at);
        self.free_at = start.saturating_add(sending(&self.config, len));
        let mut at = self
            .free_at
            .saturating_add(self.config.latency)
            .saturating_add(self.dice.up_to(self.config.jitter));
        let mut wait = self.config.retransmit;
        for _ in 0..LinkConfig::RETRANSMITS {
            if !self.dice.happens(self.config.loss) {
                break;
            }
            at = at.saturating_add(wait);
            wait = wait.saturating_mul(2);
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }
}

/// How long the line is busy with `len` bytes.
pub(crate) fn sending(config: &LinkConfig, len: usize) -> Duration {
    let Some(bandwidth) = config.bandwidth else {
        return Duration::ZERO;
    };
    let nanos = u64::try_from(len)
        .unwrap_or(u64::MAX)
        .saturating_mul(1_000_000_000)
        .div_ceil(bandwidth.get());
    Duration::from_nanos(nanos)
}

/// The file at the front of an outbox, if that is what is there.
pub(crate) fn leading_file(outbox: &Outbox) -> Option<FileSpan> {
    match outbox.chunks().next() {
        Some(Chunk::File(span)) => Some(span),
        _ => None,
    }
}

/// The bytes at the front of an outbox, up to the first file or boundary, as one write of at most
/// `most` bytes.
pub(crate) fn gather(outbox: &Outbox, most: usize) -> Bytes {
    let mut write = BytesMut::new();
    for chunk in outbox.chunks() {
        let Chunk::Bytes(piece) = chunk else {
            break;
        };
        let n = piece.len().min(most.saturating_sub(write.len()));
        write.extend_from_slice(piece.get(..n).unwrap_or_default());
        if n < piece.len() {
            break;
        }
    }
    write.freeze()
}
