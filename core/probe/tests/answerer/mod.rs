//! Hosts that answer echoes, in good and in bad faith.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;

use semfio_machine::{
    Carrier, DatagramMachine, Deadline, Failure, Now, Received, Refused, Stamp, Transmit,
    TransmitId,
};
use semfio_probe::{Echo, Family, Message};

/// How a host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    Silent,
    /// Each answer so many times.
    Again(u64),
    /// The next sequences, which it has not seen yet, with what it has seen.
    Guessing,
    /// With the last octet changed.
    Garbling,
    /// What no message is, and what is one of nobody's.
    Nonsense,
}

#[derive(Debug)]
pub(crate) struct Answerer {
    manner: Manner,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    next: u64,
}

impl Answerer {
    pub(crate) fn new(manner: Manner) -> Self {
        Self { manner, queue: VecDeque::new(), next: 0 }
    }
}

impl DatagramMachine for Answerer {
    type Event<'i> = ();
    type Command<'c> = Infallible;

    fn accepts(&self, _: &Received, _: &[u8]) -> bool {
        true
    }

    fn handle_datagram(&mut self, _: Now, meta: Received, payload: &mut [u8]) -> Option<()> {
        // The asker's address does not tell which family it asked with.
        let family = if payload.first() == Some(&8) { Family::V4 } else { Family::V6 };
        let Ok(Message::EchoRequest(echo)) = Message::parse(family, payload) else {
            return None;
        };
        let mut answer = |echo: Echo<'_>| {
            let mut bytes = Vec::new();
            echo.put_reply(family, &mut bytes);
            self.queue.push_back((meta.source, bytes));
        };
        match self.manner {
            Manner::Honest => answer(echo),
            Manner::Silent => {}
            Manner::Again(times) => (0..times).for_each(|_| answer(echo)),
            Manner::Guessing => (1..4).for_each(|ahead| {
                answer(Echo { sequence: echo.sequence.wrapping_add(ahead), ..echo });
            }),
            Manner::Garbling => {
                let mut payload = echo.payload.to_vec();
                *payload.last_mut()? ^= 1;
                answer(Echo { payload: &payload, ..echo });
            }
            Manner::Nonsense => {
                answer(Echo { payload: b"nobody's own echo", ..echo });
                self.queue.push_back((meta.source, vec![0xff; 7]));
            }
        }
        None
    }

    fn handle_sent(&mut self, _: Now, _: TransmitId, _: Stamp) {}

    fn handle_send_error(&mut self, _: Now, _: TransmitId, _: Failure) {}

    fn handle_command(&mut self, _: Now, command: Infallible) -> Result<(), Refused> {
        match command {}
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (destination, bytes) = self.queue.pop_front()?;
        buf.extend_from_slice(&bytes);
        self.next += 1;
        Some(Transmit {
            id: TransmitId(self.next),
            destination,
            size: bytes.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Icmp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now) {}

    fn poll_event(&mut self) -> Option<()> {
        None
    }
}
