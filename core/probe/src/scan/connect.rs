//! A scan by connecting: no privileges, and the system does the protocol.
//!
//! What becomes of a question:
//!
//! | is | what happens | becomes | tells |
//! |---|---|---|---|
//! | waiting | the window has room | dialled | |
//! | dialled | the connection stands | cut by a reset | `Open` |
//! | dialled | it stands, and both ends are one socket | waiting, [`MEETINGS`] times, then over | `Closed` |
//! | dialled | it stands, and may have met another of ours | doubted | |
//! | dialled | refused | over | `Closed` |
//! | dialled | no way | over | `Unreachable` |
//! | dialled | a way that is prohibited | over | `Filtered` |
//! | dialled | silence, as long as round trips allow | waiting, `retries` times, then over | `Filtered` |
//! | dialled | no descriptors, ports or memory | waiting, and the window is smaller | |
//! | dialled | no room, [`ROOMLESS`] times with nothing on its way | over | `Unasked` |
//! | dialled | any other failure of the system | over | `Unasked` |
//! | doubted | dialled again and refused | over | `Closed` |
//! | doubted | dialled again: silence, or it stands | over | `Open` |
//!
//! **Meetings.** On one's own machine the system may choose the very port that is asked for as the one
//! to ask from; TCP then opens the connection with itself (RFC 9293, section 3.5: simultaneous open).
//! In the same way two questions of a scan can meet each other, when each is asked from the port that
//! the other asks for. Where that may have happened, the question is asked once more, from another port.
//! A port is not doubted without need: its listener may take one connection and be gone.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;

use semfio_machine::{
    Closed, ConnId, Deadline, Failure, Input, Instant, Net, Now, Outbox, Peer, Refused, Service,
    Step, StreamMachine, Target,
};

use super::pace::{Patience, Rate, Window};
use super::{
    Found, MAX_RETRIES, PortState, Question, Questions, Quit, Reason, ScanConfig, ScanCounts,
};

/// Times that a question may meet itself: the system would have to choose the one port of thousands
/// three times.
const MEETINGS: u8 = 3;

/// Times that the system may have no room although nothing of ours is on its way.
const ROOMLESS: u8 = 50;

/// How long room is waited for then: all in all 5 s.
const REST: Duration = Duration::from_millis(100);

/// The side of a connection that only wants to know whether it stands. It takes nothing and says
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knock;

/// A scan by connecting.
#[derive(Debug)]
pub struct ConnectScan {
    config: ScanConfig,
    questions: Questions,
    /// By host.
    patience: Vec<Patience>,
    window: Window,
    rate: Rate,
    /// To be asked again.
    waiting: VecDeque<Asking>,
    dialled: BTreeMap<ConnId, Dialled>,
    due: BTreeSet<(Instant, ConnId)>,
    /// The system has no room before this.
    rests_until: Option<Instant>,
    roomless: u8,
    begun: bool,
    counts: ScanCounts,
    reports: VecDeque<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    question: Question,
    meetings: u8,
    /// It stood, and may have met another of ours.
    doubted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Dialled {
    asking: Asking,
    at: Instant,
    due: Instant,
}

impl ConnectScan {
    /// A scan that has not begun. The port of a host's address is not looked at.
    ///
    /// # Errors
    ///
    /// There is nothing to ask, or more than the bounds allow.
    pub fn new(hosts: &[SocketAddr], config: ScanConfig) -> Result<Self, Refused> {
        if config.retries > MAX_RETRIES {
            return Err(Refused::Invalid("more than 10 retries"));
        }
        let questions = Questions::new(hosts, &config.ports)?;
        Ok(Self {
            counts: ScanCounts { questions: questions.len(), ..ScanCounts::default() },
            questions,
            patience: alloc::vec![Patience::default(); hosts.len()],
            window: Window::new(config.window),
            rate: Rate::new(config.rate),
            waiting: VecDeque::new(),
            dialled: BTreeMap::new(),
            due: BTreeSet::new(),
            rests_until: None,
            roomless: 0,
            begun: false,
            reports: VecDeque::new(),
            config,
        })
    }

    /// How it goes.
    pub fn counts(&self) -> ScanCounts {
        ScanCounts { window: self.window.size(), ..self.counts }
    }

    /// Dials as many as there is room for; stops the run when nothing is left.
    fn dial(&mut self, now: Now, net: &mut Net<Knock>) {
        self.begun = true;
        if self.rests_until.is_some_and(|until| until > now.mono) {
            return;
        }
        self.rests_until = None;
        while self.has_room() && self.rate.at() <= now.mono {
            let fresh = |question| Asking { question, meetings: 0, doubted: false };
            let Some(asking) =
                self.waiting.pop_front().or_else(|| self.questions.next().map(fresh))
            else {
                break;
            };
            self.rate.take(now.mono);
            self.counts.asked = self.counts.asked.saturating_add(1);
            let Question { host, target, tries } = asking.question;
            let patience = self.patience.get(host).copied().unwrap_or_default();
            let due = now.mono.saturating_add(patience.wait(tries, self.config.wait));
            let conn = net.dial(Target::Address(target), Knock);
            self.dialled.insert(conn, Dialled { asking, at: now.mono, due });
            self.due.insert((due, conn));
        }
        if self.dialled.is_empty() && !self.wants_more() {
            net.stop();
        }
    }

    fn has_room(&self) -> bool {
        u32::try_from(self.dialled.len()).unwrap_or(u32::MAX) < self.window.size()
    }

    fn wants_more(&self) -> bool {
        !self.waiting.is_empty() || !self.questions.is_over()
    }

    fn take(&mut self, conn: ConnId) -> Option<Dialled> {
        let dialled = self.dialled.remove(&conn)?;
        self.due.remove(&(dialled.due, conn));
        Some(dialled)
    }

    /// The port, or somebody on the way, has answered.
    fn answered(&mut self, now: Now, dialled: &Dialled) -> Duration {
        self.roomless = 0;
        let Question { host, tries, .. } = dialled.asking.question;
        let round_trip = now.mono.saturating_since(dialled.at);
        let lost = tries > 0;
        if let Some(patience) = self.patience.get_mut(host) {
            patience.add(round_trip);
            if lost {
                self.window.lost(now.mono, patience.smoothed());
            }
        }
        if !lost {
            self.window.grow();
        }
        round_trip
    }

    fn tell(
        &mut self,
        mut asking: Asking,
        state: PortState,
        reason: Reason,
        took: Option<Duration>,
    ) {
        self.counts.found = self.counts.found.saturating_add(1);
        let question = &mut asking.question;
        question.tries = question.tries.saturating_add(1);
        self.reports.push_back(question.found(state, reason, took));
    }

    fn failed(&mut self, now: Now, dialled: Dialled, failure: Failure) {
        let asking = dialled.asking;
        match failure {
            Failure::Refused | Failure::Reset => {
                let took = self.answered(now, &dialled);
                self.tell(asking, PortState::Closed, Reason::Refused, Some(took));
            }
            Failure::TimedOut => self.silent(asking),
            // ICMPv6 tells of what is prohibited in these words; over IPv4 the system says of that, too,
            // that there is no way.
            Failure::Denied => {
                self.window.grow();
                self.tell(asking, PortState::Filtered, Reason::System(failure), None);
            }
            Failure::Unreachable => {
                self.window.grow();
                self.tell(asking, PortState::Unreachable, Reason::System(failure), None);
            }
            Failure::Exhausted => self.exhausted(now, asking),
            _ => self.tell(asking, PortState::Unasked, Reason::System(failure), None),
        }
    }

    fn silent(&mut self, mut asking: Asking) {
        self.roomless = 0;
        let tries = &mut asking.question.tries;
        if asking.doubted {
            // What had met it would have refused.
            self.tell(asking, PortState::Open, Reason::Connected, None);
        } else if *tries >= self.config.retries {
            self.window.grow();
            self.tell(asking, PortState::Filtered, Reason::Silence, None);
        } else {
            *tries = tries.saturating_add(1);
            self.counts.again = self.counts.again.saturating_add(1);
            self.waiting.push_back(asking);
        }
    }

    /// It was never asked: that is no try, and no sign of the port.
    fn exhausted(&mut self, now: Now, asking: Asking) {
        self.counts.exhausted = self.counts.exhausted.saturating_add(1);
        // With the last that failed in a turn, only those that have room are left.
        let has_room = u32::try_from(self.dialled.len()).unwrap_or(u32::MAX);
        self.window.limit(self.window.size().min(has_room));
        if self.dialled.is_empty() {
            self.roomless = self.roomless.saturating_add(1);
            if self.roomless > ROOMLESS {
                let reason = Reason::System(Failure::Exhausted);
                return self.tell(asking, PortState::Unasked, reason, None);
            }
            self.rests_until = Some(now.mono.saturating_add(REST));
        }
        self.waiting.push_front(asking);
    }

    /// Whether another question of ours asks for the port that this one was asked from.
    fn may_have_met(&self, peer: &Peer) -> bool {
        let asks = |asking: &Asking| asking.question.target == peer.local;
        peer.local.ip() == peer.address.ip()
            && (self.dialled.values().any(|it| asks(&it.asking)) || self.waiting.iter().any(asks))
    }
}

impl Service<Knock> for ConnectScan {
    type Message = Quit;
    type Report = Found;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Knock> {
        None
    }

    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<Knock>) {
        // No goodbye: thousands of ports must not be held by connections that wait for their end.
        net.abort(conn);
        let Some(dialled) = self.take(conn) else {
            return;
        };
        let mut asking = dialled.asking;
        let took = self.answered(now, &dialled);
        if peer.local == peer.address {
            asking.meetings = asking.meetings.saturating_add(1);
            if asking.meetings < MEETINGS {
                self.waiting.push_front(asking);
            } else {
                self.tell(asking, PortState::Closed, Reason::MetItself, Some(took));
            }
        } else if !asking.doubted && self.may_have_met(peer) {
            asking.doubted = true;
            self.waiting.push_front(asking);
        } else {
            self.tell(asking, PortState::Open, Reason::Connected, Some(took));
        }
    }

    fn handle_event(&mut self, _: Now, _: ConnId, event: Infallible, _: &mut Net<Knock>) {
        match event {}
    }

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        _: &mut Net<Knock>,
    ) {
        // Those that we have cut are not in the table any more.
        if let Some(dialled) = self.take(conn) {
            match why {
                Closed::Failed(failure) => self.failed(now, dialled, failure),
                _ => self.silent(dialled.asking),
            }
        }
    }

    fn handle_message(&mut self, _: Now, Quit: Quit, net: &mut Net<Knock>) {
        self.questions.stop();
        self.waiting.clear();
        self.due.clear();
        self.rests_until = None;
        for conn in core::mem::take(&mut self.dialled).into_keys() {
            net.abort(conn);
        }
        net.stop();
    }

    fn handle_turn(&mut self, now: Now, net: &mut Net<Knock>) {
        self.dial(now, net);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if !self.begun {
            return Some(Deadline { at: Instant::default(), why: "begin" });
        }
        let silence = self.due.first().map(|&(at, _)| Deadline { at, why: "silence" });
        let next = match self.rests_until {
            Some(at) => Some(Deadline { at, why: "rest" }),
            None if self.has_room() && self.wants_more() => {
                Some(Deadline { at: self.rate.at(), why: "rate" })
            }
            None => None,
        };
        Deadline::earlier(silence, next)
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Knock>) {
        while let Some(&(at, conn)) = self.due.first() {
            if at > now.mono {
                break;
            }
            if let Some(dialled) = self.take(conn) {
                net.abort(conn);
                self.silent(dialled.asking);
            }
        }
        self.dial(now, net);
    }

    fn poll_report(&mut self) -> Option<Found> {
        self.reports.pop_front()
    }
}

impl StreamMachine for Knock {
    type Event<'i> = Infallible;
    type Command<'c> = Infallible;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        "Open"
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        _: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<Infallible>, Infallible> {
        Ok(Step::NeedCommand)
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: Infallible,
        _: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {}
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}
