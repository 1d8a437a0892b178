//! A scan by datagrams: what some server may answer, and whose errors come back.
//!
//! What becomes of a question:
//!
//! | is | what comes | becomes | tells |
//! |---|---|---|---|
//! | waiting | the window has room | asked | |
//! | asked, suspected | a datagram from the port | over | `Open` |
//! | asked | the question itself, since that is our own port | over | `Closed` |
//! | asked, suspected | ICMP of the host: port unreachable | over | `Closed` |
//! | asked, suspected | ICMP: prohibited, or that from elsewhere | over | `Filtered`, and who says so |
//! | asked, suspected | ICMP: no way, too many hops | over | `Unreachable`, and who says so |
//! | asked | silence, as long as round trips allow | waiting, `retries` times, then suspected | |
//! | suspected | all is asked, and the host has never told of a closed port | over | `OpenOrFiltered` |
//! | suspected | silent in [`SILENCES`] rounds that count | over | `OpenOrFiltered` |
//! | suspected | [`FRUITLESS`] rounds in a row in which nothing came at all | over | `OpenOrFiltered` |
//!
//! **Rounds.** Systems limit how many errors they send: Linux tells one host of six closed ports at
//! once, and then of one in a second. A closed port beyond that is as silent as an open one. Where a
//! host has told of a closed port, that port is a *witness*: after a rest the host is asked at some
//! suspected ports and at the witness last. If it tells of the witness, it had an error to send all the
//! while, and who was silent was so for another reason: that round counts. If it does not, those
//! closed ports that it told of are known, and the others are asked again. So each round tells of a
//! port, or counts, or is fruitless; and a host that limits nothing is through with two.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Instant, Now, Received, Refused, Stamp, Transmit,
    TransmitId,
};

use super::desk::{Desk, Key, id_of, verdict};
use super::payload;
use super::{IcmpReason, PortState, Question, Quit, Reason, ScanConfig, ScanCounts, ScanEvent};

/// Rounds in which a port must be silent: the question or its answer may be lost in one.
const SILENCES: u8 = 2;

/// Rounds in a row without any answer, after which a host is asked no more.
const FRUITLESS: u8 = 5;

/// Suspected ports in a round: few enough for the buffers on the way.
const ROUND: usize = 64;

/// Hosts that have a round at once: 4,160 datagrams.
const ROUNDS: usize = 64;

/// Between two rounds: after so long Linux has another error to send.
const REST: Duration = Duration::from_millis(1_050);

/// The longest rest, after fruitless rounds.
const LONGEST_REST: Duration = Duration::from_secs(8);

/// How long a round is waited for, at least: its datagrams leave in a bunch.
const PATIENCE: Duration = Duration::from_millis(300);

/// A scan by datagrams, over [`Carrier::Udp`].
#[derive(Debug)]
pub struct UdpScan {
    desk: Desk,
    /// Ours.
    port: u16,
    hosts: Vec<Host>,
    /// Those with a round, or one to come; the first [`ROUNDS`] of them have theirs now.
    rounds: VecDeque<usize>,
    outgoing: VecDeque<Question>,
    foreign: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Each question as often as it is asked without a doubt.
    Asking,
    /// Suspected ports, round by round.
    Rounds,
    Ended,
}

#[derive(Debug)]
struct Host {
    address: SocketAddr,
    /// A port that the host says is closed.
    witness: Option<u16>,
    suspects: VecDeque<Suspect>,
    round: Option<Round>,
    /// Before its next round.
    rest: Duration,
    rests_until: Instant,
    fruitless: u8,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    port: u16,
    tries: u8,
    silences: u8,
}

#[derive(Debug)]
struct Round {
    /// Those that have not answered.
    ports: Vec<Suspect>,
    /// Some have.
    any: bool,
    witnessed: bool,
    ends: Instant,
}

impl UdpScan {
    /// A scan from `port` of ours. The port of a host's address is not looked at.
    ///
    /// # Errors
    ///
    /// There is nothing to ask, a host is named twice, or more than the bounds allow.
    pub fn new(hosts: &[SocketAddr], port: u16, config: ScanConfig) -> Result<Self, Refused> {
        let host = |&address| Host {
            address,
            witness: None,
            suspects: VecDeque::new(),
            round: None,
            rest: REST,
            rests_until: Instant::default(),
            fruitless: 0,
        };
        Ok(Self {
            desk: Desk::new(hosts, config)?,
            port,
            hosts: hosts.iter().map(host).collect(),
            rounds: VecDeque::new(),
            outgoing: VecDeque::new(),
            foreign: 0,
            state: State::Asking,
        })
    }

    /// How it goes.
    pub fn counts(&self) -> ScanCounts {
        ScanCounts { foreign: self.foreign, ..self.desk.counts() }
    }

    /// What a datagram or an error says of the port it came from or was sent to.
    fn said(&self, meta: &Received) -> Option<(PortState, Reason)> {
        let target = meta.source.ip();
        let Some(error) = meta.error else {
            if meta.source.port() == self.port && meta.destination == Some(target) {
                return Some((PortState::Closed, Reason::MetItself));
            }
            return Some((PortState::Open, Reason::Answer));
        };
        let mut icmp = IcmpReason::from(error);
        // Who is not named is the one that was asked.
        let from = *icmp.from.get_or_insert(target);
        let port_unreachable = if target.is_ipv4() { (3, 3) } else { (1, 4) };
        let closed = (icmp.icmp_type, icmp.icmp_code) == port_unreachable && from == target;
        let state = if closed { PortState::Closed } else { verdict(target, icmp)? };
        Some((state, Reason::Icmp(icmp)))
    }

    /// An answer to a question of a round; whether it was one.
    fn answered_in_round(
        &mut self,
        now: Now,
        (place, port): Key,
        state: PortState,
        reason: Reason,
    ) -> bool {
        let Some(host) = self.hosts.get_mut(place) else {
            return false;
        };
        let round = host.round.as_mut();
        if let Some(round) = round {
            if host.witness == Some(port) {
                return !core::mem::replace(&mut round.witnessed, state == PortState::Closed);
            }
            if let Some(at) = round.ports.iter().position(|suspect| suspect.port == port) {
                let suspect = round.ports.swap_remove(at);
                round.any = true;
                let question = host.question(place, suspect);
                self.desk.tell(question, state, reason, None);
                return true;
            }
        }
        // One of an earlier round, late.
        let Some(at) = host.suspects.iter().position(|suspect| suspect.port == port) else {
            return false;
        };
        if let Some(suspect) = host.suspects.remove(at) {
            let question = host.question(place, suspect);
            self.desk.tell(question, state, reason, None);
        }
        if host.suspects.is_empty() && host.round.is_none() {
            host.rests_until = now.mono;
        }
        true
    }

    /// All is asked: suspected ports of hosts that tell of closed ones are looked at again, the others
    /// have their verdict.
    fn begin_rounds(&mut self) {
        self.state = State::Rounds;
        for place in 0..self.hosts.len() {
            let Some(host) = self.hosts.get_mut(place) else { continue };
            if host.suspects.is_empty() {
                continue;
            }
            match host.witness {
                Some(_) => self.rounds.push_back(place),
                None => self.give_up(place),
            }
        }
    }

    fn give_up(&mut self, place: usize) {
        let Some(host) = self.hosts.get_mut(place) else { return };
        for suspect in core::mem::take(&mut host.suspects) {
            let question = host.question(place, suspect);
            self.desk.tell(question, PortState::OpenOrFiltered, Reason::Silence, None);
        }
    }

    /// Ends and begins rounds, as time has it.
    fn turn_rounds(&mut self, now: Now) {
        let current: Vec<usize> = self.rounds.iter().take(ROUNDS).copied().collect();
        for place in current {
            let Some(host) = self.hosts.get_mut(place) else { continue };
            if host.round.as_ref().is_none_or(|round| round.ends > now.mono) {
                continue;
            }
            for suspect in host.end_round(now) {
                let question = host.question(place, suspect);
                self.desk.tell(question, PortState::OpenOrFiltered, Reason::Silence, None);
            }
            if host.fruitless >= FRUITLESS {
                self.give_up(place);
            }
        }
        let hosts = &self.hosts;
        self.rounds.retain(|&place| {
            hosts.get(place).is_some_and(|host| host.round.is_some() || !host.suspects.is_empty())
        });
        for &place in self.rounds.iter().take(ROUNDS) {
            let Some(host) = self.hosts.get_mut(place) else { continue };
            if host.round.is_none() && host.rests_until <= now.mono {
                let patience = self.desk.patience.get(place).copied().unwrap_or_default();
                let wait = patience.wait(1, self.desk.config.wait);
                host.begin_round(now, place, wait, &mut self.outgoing);
            }
        }
    }
}

impl Host {
    fn question(&self, host: usize, suspect: Suspect) -> Question {
        let mut target = self.address;
        target.set_port(suspect.port);
        Question { host, target, tries: suspect.tries }
    }

    fn begin_round(
        &mut self,
        now: Now,
        place: usize,
        wait: Duration,
        outgoing: &mut VecDeque<Question>,
    ) {
        let Some(witness) = self.witness else { return };
        let many = self.suspects.len().min(ROUND);
        let mut ports: Vec<Suspect> = self.suspects.drain(..many).collect();
        for suspect in &mut ports {
            suspect.tries = suspect.tries.saturating_add(1);
            outgoing.push_back(self.question(place, *suspect));
        }
        let witness = Suspect { port: witness, tries: 0, silences: 0 };
        outgoing.push_back(self.question(place, witness));
        let ends = now.mono.saturating_add(wait.max(PATIENCE));
        self.round = Some(Round { ports, any: false, witnessed: false, ends });
    }

    /// Those that have been silent often enough.
    fn end_round(&mut self, now: Now) -> Vec<Suspect> {
        let Some(round) = self.round.take() else {
            return Vec::new();
        };
        let mut over = Vec::new();
        for mut suspect in round.ports {
            suspect.silences = suspect.silences.saturating_add(u8::from(round.witnessed));
            match suspect.silences >= SILENCES {
                true => over.push(suspect),
                false => self.suspects.push_back(suspect),
            }
        }
        if round.any || round.witnessed {
            self.fruitless = 0;
            self.rest = REST;
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
            self.rest = self.rest.saturating_mul(2).min(LONGEST_REST);
        }
        self.rests_until = now.mono.saturating_add(self.rest);
        over
    }
}

impl DatagramMachine for UdpScan {
    type Event<'i> = ScanEvent;
    type Command<'c> = Quit;

    fn accepts(&self, meta: &Received, _: &[u8]) -> bool {
        meta.carrier == Carrier::Udp
    }

    fn handle_datagram(&mut self, now: Now, meta: Received, _: &mut [u8]) -> Option<ScanEvent> {
        let key = self.desk.host(meta.source.ip()).map(|host| (host, meta.source.port()));
        let said = key.zip(self.said(&meta));
        let known = said.is_some_and(|(key, (state, reason))| {
            if let (PortState::Closed, Some(host)) = (state, self.hosts.get_mut(key.0)) {
                let asked = self.desk.tries(key).is_some();
                host.witness = host.witness.or(Some(key.1).filter(|_| asked));
            }
            match self.desk.answered(now, key, meta.stamp, None) {
                Some((question, took)) => self.desk.tell(question, state, reason, took),
                None => return self.answered_in_round(now, key, state, reason),
            }
            true
        });
        if !known {
            self.foreign = self.foreign.saturating_add(1);
        }
        None
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        self.desk.handle_sent(id, stamp);
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        // In a round it is as if it were lost: it is asked again, or counts for nothing.
        self.desk.handle_send_error(now, id, failure);
    }

    fn handle_command(&mut self, _: Now, Quit: Quit) -> Result<(), Refused> {
        self.desk.stop();
        self.hosts.iter_mut().for_each(|host| {
            host.round = None;
            host.suspects.clear();
        });
        self.rounds.clear();
        self.outgoing.clear();
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let question = match self.outgoing.is_empty() {
            true => self.desk.next(now)?,
            false if !self.desk.may_send(now) => return None,
            false => {
                self.desk.sends(now);
                self.outgoing.pop_front()?
            }
        };
        payload::put(question.target.port(), question.tries, buf);
        Some(Transmit {
            id: id_of((question.host, question.target.port())),
            destination: question.target,
            size: buf.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let due = |&place: &usize| {
            let host = self.hosts.get(place)?;
            Some(host.round.as_ref().map_or(host.rests_until, |round| round.ends))
        };
        let round = self.rounds.iter().take(ROUNDS).filter_map(due).min();
        let round = round.map(|at| Deadline { at, why: "round" });
        Deadline::earlier(self.desk.poll_timeout(), round)
    }

    fn handle_timeout(&mut self, now: Now) {
        while let Some(question) = self.desk.poll_silent(now) {
            if let Some(host) = self.hosts.get_mut(question.host) {
                let (port, tries) = (question.target.port(), question.tries);
                host.suspects.push_back(Suspect { port, tries, silences: 0 });
                host.rests_until = now.mono.saturating_add(REST);
            }
        }
        if self.state == State::Rounds {
            self.turn_rounds(now);
        }
    }

    fn poll_event(&mut self) -> Option<ScanEvent> {
        if self.state == State::Asking && self.desk.is_idle() {
            self.begin_rounds();
        }
        if let Some(found) = self.desk.poll_found() {
            return Some(ScanEvent::Found(found));
        }
        if self.state == State::Rounds && self.rounds.is_empty() && self.desk.is_idle() {
            self.state = State::Ended;
            return Some(ScanEvent::Ended);
        }
        None
    }
}
