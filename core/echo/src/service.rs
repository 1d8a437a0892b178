//! An echo server.

use alloc::collections::{BTreeMap, VecDeque};
use core::convert::Infallible;

use semfio_machine::{Closed, ConnId, Net, Now, Peer};

use crate::server::Server;

/// Echoes every connection; how many there may be, the shard's limits say.
///
/// It has one message, `()`: close all connections, once what they are owed is sent, and stop.
#[derive(Debug, Default)]
pub struct Service {
    open: BTreeMap<ConnId, (Peer, u64)>,
    reports: VecDeque<Report>,
}

/// What an echo server has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Somebody connected.
    Opened(ConnId, Peer),
    /// A connection is over.
    Closed {
        /// Which.
        conn: ConnId,
        /// With whom.
        peer: Peer,
        /// How many bytes were echoed.
        bytes: u64,
        /// Why it is over.
        why: Closed<Infallible>,
    },
}

impl Service {
    /// Without connections.
    pub fn new() -> Self {
        Self::default()
    }
}

impl semfio_machine::Service<Server> for Service {
    type Message = ();
    type Report = Report;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Server> {
        Some(Server::new())
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, peer: &Peer, _: &mut Net<Server>) {
        self.open.insert(conn, (*peer, 0));
        self.reports.push_back(Report::Opened(conn, *peer));
    }

    fn handle_event(&mut self, _: Now, from: ConnId, echoed: &[u8], _: &mut Net<Server>) {
        if let Some((_, bytes)) = self.open.get_mut(&from) {
            *bytes = bytes.saturating_add(echoed.len() as u64);
        }
    }

    fn handle_closed(
        &mut self,
        _: Now,
        conn: ConnId,
        why: Closed<Infallible>,
        _: &mut Net<Server>,
    ) {
        if let Some((peer, bytes)) = self.open.remove(&conn) {
            self.reports.push_back(Report::Closed { conn, peer, bytes, why });
        }
    }

    fn handle_message(&mut self, _: Now, (): (), net: &mut Net<Server>) {
        for &conn in self.open.keys() {
            net.close(conn);
        }
        net.stop();
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}
