//! Who pings.
//!
//! Pings are numbered from 1. From the moment the host fetches it, a ping is in one of these states:
//!
//! | state | what happens | becomes | tells |
//! |---|---|---|---|
//! | Waiting | its answer | Answered | `Reply` |
//! | Waiting | it does not leave, or an ICMP error quotes it | Failed | `NotSent`, `Unreachable` |
//! | Waiting | its time is over | Lost | `Lost` |
//! | Failed, Lost | its answer after all | Answered | `Reply`, late |
//! | Answered | its answer again | Answered | `Duplicate` |
//!
//! One is on its way at a time: the next leaves once the last is no longer Waiting, whatever an earlier
//! one still does. With [`heartbeat`](UdpPingConfig::heartbeat) one leaves each interval, and silence is
//! no loss: who misses something is the server. `Ended` comes when all are sent and none is Waiting.
//!
//! An answer counts for the ping whose number *and* time it bears, whatever the case of its letters. The
//! textbook's client takes what comes next for an answer to what it sent last: one late answer, and each
//! later round trip is that of another ping.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Failure, Instant, Interval, Now, QuotedError,
    Received, Refused, Stamp, Transmit, TransmitId, UnixTime,
};

use super::{parse, put};
use crate::RoundTrips;
use crate::ping::Stop;
use crate::stamps::arrival;

/// Pings remembered: an answer to an older one is foreign. A heartbeat may have so many on their way.
const REMEMBERED: usize = 1_024;
/// Between two heartbeats at least: they are no flood.
const LEAST: Duration = Duration::from_millis(1);
/// For a host that does not ask: each remembered ping has three events at most.
const EVENTS: usize = 3 * REMEMBERED;

/// How to ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPingConfig {
    /// Pings in all. Default 10, as the textbook has it; `None` ends with [`Stop`].
    pub count: Option<u64>,
    /// How long an answer may take. Default 1 s.
    pub timeout: Duration,
    /// At least so much lies between two pings. Default zero: the next leaves when the last is settled.
    pub interval: Duration,
    /// One each interval, answered or not.
    pub heartbeat: bool,
}

/// What becomes of a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpPingEvent<'i> {
    /// The first answer.
    Reply {
        /// To which ping.
        number: u64,
        /// What it says.
        text: &'i [u8],
        /// From departure to arrival, and by whose clocks.
        round_trip: Interval,
        /// The ping had been told as lost or failed, and stays so in the counts.
        late: bool,
    },
    /// Another answer to what was answered.
    Duplicate {
        /// To which ping.
        number: u64,
    },
    /// No answer in time.
    Lost {
        /// To which ping.
        number: u64,
    },
    /// A router or the server's host says that it did not arrive.
    Unreachable {
        /// Which ping.
        number: u64,
        /// Who says so, and why.
        error: QuotedError,
    },
    /// The system did not send it.
    NotSent {
        /// Which ping.
        number: u64,
        /// Why.
        failure: Failure,
    },
    /// Nothing more will be told.
    Ended,
}

/// What has become of all pings so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpPingCounts {
    /// Given to the host.
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered in time.
    pub lost: u64,
    /// Said not to have arrived, or not sent.
    pub failed: u64,
    /// Of those lost or failed: answered after all.
    pub late: u64,
    /// Answers beyond the first.
    pub duplicates: u64,
    /// What came and answers no ping that is remembered.
    pub foreign: u64,
    /// Events that the host did not fetch in time.
    pub untold: u64,
}

/// Pings one server over UDP.
#[derive(Debug)]
pub struct UdpPinger {
    server: SocketAddr,
    config: UdpPingConfig,
    /// Without gaps, oldest first.
    pings: VecDeque<Ping>,
    /// The number of the first of them.
    first: u64,
    /// When the next may leave, if it does not wait for the last to settle.
    next_at: Option<Instant>,
    is_ready: bool,
    ended: bool,
    round_trips: RoundTrips,
    events: VecDeque<UdpPingEvent<'static>>,
    counts: UdpPingCounts,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    state: State,
    /// What stands in it.
    time: UnixTime,
    fetched: Instant,
    left: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    Failed,
    Lost,
}

impl Default for UdpPingConfig {
    fn default() -> Self {
        Self {
            count: Some(10),
            timeout: Duration::from_secs(1),
            interval: Duration::ZERO,
            heartbeat: false,
        }
    }
}

impl UdpPinger {
    /// Pings `server`; the first leaves at once.
    pub fn new(now: Now, server: SocketAddr, config: UdpPingConfig) -> Self {
        Self {
            server,
            config,
            pings: VecDeque::new(),
            first: 1,
            next_at: Some(now.mono),
            is_ready: false,
            ended: false,
            round_trips: RoundTrips::default(),
            events: VecDeque::new(),
            counts: UdpPingCounts::default(),
        }
    }

    /// What has become of all pings so far.
    pub fn counts(&self) -> UdpPingCounts {
        self.counts
    }

    /// Round trips of answers that came in time.
    pub fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    fn ping_mut(&mut self, number: u64) -> Option<&mut Ping> {
        self.pings.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Settles what waits; false if it does not.
    fn settle(&mut self, now: Now, number: u64, state: State) -> bool {
        let Some(ping) = self.ping_mut(number).filter(|ping| ping.state == State::Waiting) else {
            return false;
        };
        ping.state = state;
        let earliest = ping.fetched.saturating_add(self.config.interval);
        if !self.config.heartbeat && number == self.counts.sent && !self.all_sent() {
            self.next_at = Some(earliest.max(now.mono));
        }
        true
    }

    fn all_sent(&self) -> bool {
        self.config.count.is_some_and(|count| self.counts.sent >= count)
    }

    /// Ends, once nothing is left to send or to wait for.
    fn end(&mut self) {
        let waits = self.pings.iter().any(|ping| ping.state == State::Waiting);
        if self.all_sent() && !waits {
            self.stop();
        }
    }

    fn stop(&mut self) {
        if !self.ended {
            self.ended = true;
            self.is_ready = false;
            self.next_at = None;
            // The last word is never left out.
            self.events.push_back(UdpPingEvent::Ended);
        }
    }

    fn tell(&mut self, event: UdpPingEvent<'static>) {
        if self.events.len() >= EVENTS {
            self.counts.untold = self.counts.untold.saturating_add(1);
        } else {
            self.events.push_back(event);
        }
    }

    fn lose(&mut self, now: Now, number: u64) {
        if self.settle(now, number, State::Lost) && !self.config.heartbeat {
            self.counts.lost = self.counts.lost.saturating_add(1);
            self.tell(UdpPingEvent::Lost { number });
        }
    }

    fn fail(&mut self, now: Now, number: u64, event: UdpPingEvent<'static>) {
        if !self.ended && self.settle(now, number, State::Failed) {
            self.counts.failed = self.counts.failed.saturating_add(1);
            self.tell(event);
            self.end();
        }
    }

    /// The text of a ping that is remembered.
    fn text(&self, number: u64) -> Option<Vec<u8>> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let mut text = Vec::new();
        put(number, self.pings.get(place)?.time, &mut text);
        Some(text)
    }

    /// The number of the ping that these bytes are, but for the case of letters and a line's end.
    fn answered(&self, bytes: &[u8]) -> Option<u64> {
        let (number, _) = parse(bytes)?;
        bytes.trim_ascii_end().eq_ignore_ascii_case(&self.text(number)?).then_some(number)
    }

    /// The oldest ping waiting that begins with what an error quotes: often it ends with the header.
    fn quoted(&self, bytes: &[u8]) -> Option<u64> {
        let waiting =
            (self.first..).zip(&self.pings).filter(|(_, ping)| ping.state == State::Waiting);
        waiting
            .map(|(number, _)| number)
            .find(|number| self.text(*number).is_some_and(|text| text.starts_with(bytes)))
    }
}

impl DatagramMachine for UdpPinger {
    type Event<'i> = UdpPingEvent<'i>;
    type Command<'c> = Stop;

    fn accepts(&self, meta: &Received, _: &[u8]) -> bool {
        meta.source == self.server
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<UdpPingEvent<'i>> {
        if self.ended {
            return None;
        }
        let ours = meta.source == self.server;
        let number = match meta.error {
            _ if !ours => None,
            Some(_) => self.quoted(payload),
            None => self.answered(payload),
        };
        let Some(number) = number else {
            self.counts.foreign = self.counts.foreign.saturating_add(1);
            return None;
        };
        if let Some(error) = meta.error {
            self.fail(now, number, UdpPingEvent::Unreachable { number, error });
            return None;
        }
        let ping = *self.ping_mut(number)?;
        if ping.state == State::Answered {
            self.counts.duplicates = self.counts.duplicates.saturating_add(1);
            return Some(UdpPingEvent::Duplicate { number });
        }
        let left = ping.left.unwrap_or(Stamp { at: ping.fetched, clock: Clock::User });
        let arrived = arrival(now, left.at, meta.stamp).unwrap_or_else(|arrived| arrived);
        let round_trip = Interval::between(left, arrived);
        let late = !self.settle(now, number, State::Answered);
        if late {
            self.ping_mut(number)?.state = State::Answered;
            self.counts.late = self.counts.late.saturating_add(1);
        } else {
            self.counts.answered = self.counts.answered.saturating_add(1);
            self.round_trips.add(round_trip);
            self.end();
        }
        Some(UdpPingEvent::Reply { number, text: payload, round_trip, late })
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        let Some(ping) = self.ping_mut(id.0) else { return };
        let possible = stamp.at >= ping.fetched && stamp.at <= now.mono;
        let better = ping.left.is_none_or(|left| left.clock == Clock::User);
        if possible && better {
            ping.left = Some(stamp);
        }
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        self.fail(now, id.0, UdpPingEvent::NotSent { number: id.0, failure });
    }

    fn handle_command(&mut self, _: Now, Stop: Stop) -> Result<(), Refused> {
        self.stop();
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if !core::mem::take(&mut self.is_ready) || self.all_sent() {
            return None;
        }
        if self.pings.len() == REMEMBERED {
            self.lose(now, self.first);
            self.pings.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.counts.sent = self.counts.sent.saturating_add(1);
        let number = self.counts.sent;
        let (time, fetched) = (now.unix, now.mono);
        self.pings.push_back(Ping { state: State::Waiting, time, fetched, left: None });
        if self.config.heartbeat && !self.all_sent() {
            self.next_at = Some(now.mono.saturating_add(self.config.interval.max(LEAST)));
        }
        put(number, time, buf);
        Some(Transmit {
            id: TransmitId(number),
            destination: self.server,
            size: buf.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.ended {
            return None;
        }
        let waiting = self.pings.iter().find(|ping| ping.state == State::Waiting);
        let lost = waiting.map(|ping| Deadline {
            at: ping.fetched.saturating_add(self.config.timeout),
            why: "answer",
        });
        let next = self.next_at.map(|at| Deadline { at, why: "next" });
        lost.into_iter().chain(next).min_by_key(|deadline| deadline.at)
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(Deadline { at, why }) = self.poll_timeout() {
            if at > now.mono {
                return;
            }
            if why == "next" {
                self.next_at = None;
                self.is_ready = true;
            } else {
                let place = self.pings.iter().position(|ping| ping.state == State::Waiting);
                let place = place.and_then(|place| u64::try_from(place).ok()).unwrap_or(0);
                self.lose(now, self.first.saturating_add(place));
                self.end();
            }
        }
    }

    fn poll_event(&mut self) -> Option<UdpPingEvent<'static>> {
        self.events.pop_front()
    }
}
