//! Connecting and nothing else: whether somebody listens.
//!
//! One after the other is dialled, and closed as soon as it stands. A connection whose two ends are one
//! socket has met itself, on a port that the system had chosen: nobody listens there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
use semfio_machine::{Closed, ConnId, Deadline, Failure, Instant, Net, Now, Peer, Service, Target};

use crate::link::{Link, LinkConfig, LinkEvent};

/// What is found, for each target in its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpFound {
    /// Where.
    pub target: Target,
    /// Whose address took the connection, or why none did.
    pub answer: Result<Peer, Failure>,
}

/// The only message to a [`TcpCheck`]: stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt;

/// A run of connects.
#[derive(Debug)]
pub struct TcpCheck {
    /// The one that is dialled first.
    targets: VecDeque<Target>,
    wait: Option<Duration>,
    dialled: Option<ConnId>,
    timer: Option<Deadline>,
    reports: VecDeque<TcpFound>,
}

impl TcpCheck {
    /// One that has not begun. Each connect may take as long as `wait`, or as the system has it.
    pub fn new(targets: Vec<Target>, wait: Option<Duration>) -> Self {
        Self {
            targets: targets.into(),
            wait,
            dialled: None,
            timer: Some(Deadline { at: Instant::default(), why: "dial" }),
            reports: VecDeque::new(),
        }
    }

    fn next(&mut self, now: Now, net: &mut Net<Link>) {
        self.timer = None;
        self.dialled = None;
        let Some(target) = self.targets.front() else {
            return net.stop();
        };
        self.dialled = Some(net.dial(target.clone(), Link::new(LinkConfig::default())));
        let by = self.wait.map(|wait| now.mono.saturating_add(wait));
        self.timer = by.map(|at| Deadline { at, why: "dial" });
    }

    fn found(&mut self, now: Now, answer: Result<Peer, Failure>, net: &mut Net<Link>) {
        if let Some(target) = self.targets.pop_front() {
            self.reports.push_back(TcpFound { target, answer });
        }
        self.next(now, net);
    }
}

impl Service<Link> for TcpCheck {
    type Message = Interrupt;
    type Report = TcpFound;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Link> {
        None
    }

    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<Link>) {
        net.close(conn);
        if self.dialled == Some(conn) {
            let itself = peer.address == peer.local;
            self.found(now, if itself { Err(Failure::Refused) } else { Ok(*peer) }, net);
        }
    }

    fn handle_event(&mut self, _: Now, _: ConnId, _: LinkEvent<'_>, _: &mut Net<Link>) {}

    fn handle_closed(
        &mut self,
        now: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        net: &mut Net<Link>,
    ) {
        if self.dialled == Some(conn) {
            let failure = match why {
                Closed::Failed(failure) => failure,
                _ => Failure::TimedOut,
            };
            self.found(now, Err(failure), net);
        }
    }

    fn handle_message(&mut self, _: Now, Interrupt: Interrupt, net: &mut Net<Link>) {
        self.targets.clear();
        self.timer = None;
        self.dialled.take().into_iter().for_each(|conn| net.close(conn));
        net.stop();
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<Link>) {
        match self.dialled {
            None => self.next(now, net),
            Some(conn) => {
                self.timer = None;
                net.close(conn);
            }
        }
    }

    fn poll_report(&mut self) -> Option<TcpFound> {
        self.reports.pop_front()
    }
}
