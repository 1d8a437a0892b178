//! An endpoint on a socket: a host of datagrams but for the waiting.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use semfio_machine::{DatagramMachine, Deadline, Endpoint, Now, Output, Received, Refused};

use crate::clock::Clock;
use crate::datagram::{DatagramSocket, Notice};
use crate::failure;

/// Larger than any UDP payload.
const SCRATCH: usize = 64 * 1024;

/// Datagrams read before timers and errors have their turn.
const READS: usize = 256;

/// An [`Endpoint`] on a [`DatagramSocket`]. None of its calls waits.
///
/// Each call of the machine is followed by its transmits and events; `on_event` may command the
/// machine. Unlike hosts of streams it reads the clock for each datagram: a stamp of the kernel
/// must not lie in the machine's future.
pub struct BoundEndpoint<M> {
    endpoint: Endpoint<M>,
    socket: DatagramSocket,
    clock: Clock,
    scratch: Vec<u8>,
}

impl<M: DatagramMachine> BoundEndpoint<M> {
    /// Binds a socket for `machine`. An IPv6 address takes IPv6 peers only.
    pub fn bind(machine: M, address: SocketAddr, clock: Clock) -> io::Result<Self> {
        let socket = DatagramSocket::bind(address)?;
        Ok(Self { endpoint: Endpoint::new(machine), socket, clock, scratch: vec![0; SCRATCH] })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &DatagramSocket {
        &self.socket
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The machine, once the run is over.
    pub fn into_machine(self) -> M {
        self.endpoint.into_machine()
    }

    /// Asks the machine for something; what that leads to leaves with the next call.
    pub fn command(&mut self, command: M::Command<'_>) -> Result<(), Refused> {
        self.endpoint.handle_command(self.clock.now(), command)
    }

    /// Whether the socket is full, so that a transmit waits for room in it.
    pub fn is_blocked(&self) -> bool {
        self.endpoint.is_blocked()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.endpoint.poll_timeout()
    }

    /// Lets the machine do what is due, if anything is.
    pub fn handle_timeout(&mut self, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) {
        let now = self.clock.now();
        self.endpoint.handle_timeout(now);
        self.drain(now, on_event);
    }

    /// Sends what the machine has to send, as far as the socket takes it, and gives out what it
    /// has to tell.
    pub fn flush(&mut self, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) {
        self.drain(self.clock.now(), on_event);
    }

    /// Reads what came, at most 256 datagrams, and says whether there may be more.
    ///
    /// # Errors
    ///
    /// The socket cannot be read at all.
    pub fn read(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> io::Result<bool> {
        for _ in 0..READS {
            match self.socket.recv(&self.clock, &mut self.scratch) {
                Ok((received, size)) => self.received(received, size, on_event),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads the error queue: stamps of what was sent, and ICMP errors.
    ///
    /// # Errors
    ///
    /// The socket cannot be read at all.
    pub fn read_errors(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) -> io::Result<()> {
        while let Some(notice) = self.socket.poll_error_queue(&self.clock, &mut self.scratch)? {
            match notice {
                Notice::Sent(id, stamp) => {
                    let now = self.clock.now();
                    self.endpoint.handle_stamp(now, id, stamp);
                    self.drain(now, on_event);
                }
                Notice::Quoted(received, size) => self.received(received, size, on_event),
            }
        }
        Ok(())
    }

    fn received(
        &mut self,
        received: Received,
        size: usize,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M),
    ) {
        let payload = self.scratch.get_mut(..size).unwrap_or_default();
        if !self.endpoint.accepts(&received, payload) {
            return;
        }
        // After the datagram was read, so that its stamp lies in the past.
        let now = self.clock.now();
        if let Some(event) = self.endpoint.handle_datagram(now, received, payload) {
            on_event(now, event, self.endpoint.machine_mut());
        }
        self.drain(now, on_event);
    }

    fn drain(&mut self, now: Now, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut M)) {
        // Only the socket knows whether it still is full.
        self.endpoint.handle_writable();
        while let Some(output) = self.endpoint.poll_output(now) {
            match output {
                Output::Event(event) => on_event(now, event, self.endpoint.machine_mut()),
                Output::Transmit(transmit, payload) => {
                    // Before it leaves: no answer can seem to be older.
                    let now = self.clock.now();
                    match self.socket.send(now, transmit, payload) {
                        Ok(n) => self.endpoint.handle_sent(now, n),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.endpoint.handle_blocked();
                        }
                        Err(error) => self.endpoint.handle_send_error(now, failure(&error)),
                    }
                }
            }
        }
    }
}
