//! An endpoint on sockets: a host of datagrams but for the waiting.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;

use semfio_machine::{DatagramMachine, Deadline, Endpoint, Now, Output, Received};

use crate::clock::Clock;
use crate::datagram::{DatagramSocket, Notice};
use crate::failure;

/// Larger than any UDP payload.
const SCRATCH: usize = 64 * 1024;

/// Datagrams read before timers and errors have their turn.
const READS: usize = 256;

/// Transmits that leave at once before what came is read: on a loopback their answers are there
/// already, and have to fit into the socket's buffer.
const BURST: usize = 64;

/// Larger than what an ICMP error quotes: the smallest MTU of IPv6, 1,280.
const QUOTE: usize = 2 * 1024;

/// An [`Endpoint`] on sockets, one for each carrier and family. None of its calls waits.
///
/// Each call of the machine is followed by its transmits and events; `on_event` may look at the
/// machine and command it, through the endpoint. Unlike hosts of streams it reads the clock for
/// each datagram, after it: a stamp of the kernel must not lie in the machine's future. Its stamps of
/// what was sent are told before a datagram is handed over: it may be an answer.
pub struct BoundEndpoint<M: DatagramMachine> {
    endpoint: Endpoint<M>,
    sockets: Vec<DatagramSocket>,
    clock: Clock,
    scratch: Vec<u8>,
    quote: Vec<u8>,
    /// Transmits that may leave before what came is read.
    burst: usize,
    is_paused: bool,
}

impl<M: DatagramMachine> BoundEndpoint<M> {
    /// Binds a UDP socket. An IPv6 address takes IPv6 peers only.
    pub fn bind(endpoint: Endpoint<M>, address: SocketAddr, clock: Clock) -> io::Result<Self> {
        Ok(Self::over(endpoint, vec![DatagramSocket::bind(address)?], clock))
    }

    /// Over these sockets. A transmit leaves by the first that carries it.
    pub fn over(endpoint: Endpoint<M>, sockets: Vec<DatagramSocket>, clock: Clock) -> Self {
        let (scratch, quote) = (vec![0; SCRATCH], vec![0; QUOTE]);
        Self { endpoint, sockets, clock, scratch, quote, burst: BURST, is_paused: false }
    }

    /// The address that the first socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets.first().ok_or(ErrorKind::NotFound)?.local_addr()
    }

    /// The sockets, to wait for.
    pub fn sockets(&self) -> &[DatagramSocket] {
        &self.sockets
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The endpoint, once the run is over.
    pub fn into_endpoint(self) -> Endpoint<M> {
        self.endpoint
    }

    /// Lets the application command the machine, as `on_event` may; what that leads to leaves with
    /// the next call.
    pub fn speak(&mut self, speak: &mut impl FnMut(Now, &mut Endpoint<M>)) {
        speak(self.clock.now(), &mut self.endpoint);
    }

    /// Whether a socket is full, so that a transmit waits for room in it.
    pub fn is_blocked(&self) -> bool {
        self.endpoint.is_blocked()
    }

    /// Whether there is more to send after [`read`](Self::read) and [`flush`](Self::flush) were called
    /// once more: at most 64 transmits leave at once, and one for each datagram that came.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.endpoint.poll_timeout()
    }

    /// Lets the machine do what is due, if anything is.
    pub fn handle_timeout(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) {
        let now = self.clock.now();
        self.endpoint.handle_timeout(now);
        self.drain(now, on_event);
    }

    /// Sends what the machine has to send, as far as the sockets take it, and gives out what it
    /// has to tell.
    pub fn flush(&mut self, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>)) {
        self.burst = BURST;
        self.drain(self.clock.now(), on_event);
    }

    /// Reads what came, at most 256 datagrams of a socket, and says whether there may be more.
    ///
    /// # Errors
    ///
    /// A socket cannot be read at all.
    pub fn read(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<bool> {
        let mut scratch = mem::take(&mut self.scratch);
        let mut answer = Ok(false);
        for place in 0..self.sockets.len() {
            match self.read_socket(place, &mut scratch, on_event) {
                Ok(more) => answer = answer.map(|before| before || more),
                Err(error) => answer = Err(error),
            }
        }
        self.scratch = scratch;
        answer
    }

    /// Reads the error queues: stamps of what was sent, and ICMP errors.
    ///
    /// # Errors
    ///
    /// A socket cannot be read at all.
    pub fn read_errors(
        &mut self,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<()> {
        (0..self.sockets.len()).try_for_each(|place| self.read_queue(place, |_| true, on_event))
    }

    fn read_socket(
        &mut self,
        place: usize,
        scratch: &mut [u8],
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<bool> {
        for _ in 0..READS {
            let Some(socket) = self.sockets.get_mut(place) else { break };
            match socket.recv(&self.clock, scratch) {
                Ok((read, received, size)) => {
                    let expects = self.sockets.iter().any(DatagramSocket::expects_stamps);
                    self.read_stamps(&received, on_event)?;
                    // Stamps of departures were told with a later time.
                    let now = if expects { self.clock.now() } else { read };
                    let payload = scratch.get_mut(..size).unwrap_or_default();
                    self.received(now, received, payload, on_event);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Of all sockets of the family: one may be answered through another, which listens for errors.
    fn read_stamps(
        &mut self,
        received: &Received,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<()> {
        let wanted =
            |socket: &DatagramSocket| socket.is_kin_of(&received.source) && socket.expects_stamps();
        (0..self.sockets.len()).try_for_each(|place| self.read_queue(place, wanted, on_event))
    }

    fn read_queue(
        &mut self,
        place: usize,
        wanted: impl Fn(&DatagramSocket) -> bool,
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) -> io::Result<()> {
        let mut quote = mem::take(&mut self.quote);
        let answer = loop {
            let socket = self.sockets.get_mut(place).filter(|socket| wanted(socket));
            let Some(socket) = socket else { break Ok(()) };
            match socket.poll_error_queue(&self.clock, &mut quote) {
                Ok(Some(Notice::Sent(id, stamp))) => {
                    let now = self.clock.now();
                    self.endpoint.handle_stamp(now, id, stamp);
                    self.drain(now, on_event);
                }
                Ok(Some(Notice::Quoted(received, size))) => {
                    let now = self.clock.now();
                    self.received(
                        now,
                        received,
                        quote.get_mut(..size).unwrap_or_default(),
                        on_event,
                    );
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.quote = quote;
        answer
    }

    fn received(
        &mut self,
        now: Now,
        received: Received,
        payload: &mut [u8],
        on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>),
    ) {
        if !self.endpoint.accepts(&received, payload) {
            return;
        }
        self.burst = BURST.min(self.burst + 1);
        if let Some(event) = self.endpoint.handle_datagram(now, received, payload) {
            on_event(now, event, &mut self.endpoint);
        }
        self.drain(now, on_event);
    }

    fn drain(&mut self, now: Now, on_event: &mut impl FnMut(Now, M::Event<'_>, &mut Endpoint<M>)) {
        // Only a socket knows whether it still is full.
        self.endpoint.handle_writable(now);
        self.is_paused = false;
        while let Some(output) = self.endpoint.poll_output(now) {
            match output {
                Output::Event(event) => on_event(now, event, &mut self.endpoint),
                Output::Transmit(..) if self.burst == 0 => {
                    self.is_paused = true;
                    self.endpoint.handle_blocked(now);
                }
                Output::Transmit(transmit, payload) => {
                    self.burst -= 1;
                    // Before it leaves: no answer can seem to be older.
                    let now = self.clock.now();
                    let socket = self.sockets.iter_mut().find(|socket| socket.carries(transmit));
                    let sent = match socket {
                        Some(socket) => socket.send(now, transmit, payload),
                        None => Err(ErrorKind::Unsupported.into()),
                    };
                    match sent {
                        Ok(n) => self.endpoint.handle_sent(now, n),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.endpoint.handle_blocked(now);
                        }
                        Err(error) => self.endpoint.handle_send_error(now, failure(&error)),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::{Carrier, Failure, Refused, Stamp, Transmit, TransmitId};

    /// Sends datagrams to itself, as many as it has to.
    struct Flood {
        to: SocketAddr,
        left: u64,
        came: u64,
    }

    impl DatagramMachine for Flood {
        type Event<'i> = ();
        type Command<'c> = ();

        fn accepts(&self, _: &Received, _: &[u8]) -> bool {
            true
        }

        fn handle_datagram(&mut self, _: Now, _: Received, _: &mut [u8]) -> Option<()> {
            self.came += 1;
            None
        }

        fn handle_sent(&mut self, _: Now, _: TransmitId, _: Stamp) {}

        fn handle_send_error(&mut self, _: Now, _: TransmitId, failure: Failure) {
            panic!("{failure}");
        }

        fn handle_command(&mut self, _: Now, (): ()) -> Result<(), Refused> {
            Ok(())
        }

        fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
            self.left = self.left.checked_sub(1)?;
            buf.push(0);
            Some(Transmit {
                id: TransmitId(self.left),
                destination: self.to,
                size: 1,
                segment_size: None,
                hop_limit: None,
                source: None,
                carrier: Carrier::Udp,
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

    #[test]
    fn what_is_sent_at_once_leaves_room_for_what_comes() {
        let socket = DatagramSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let endpoint = Endpoint::new(Flood { to, left: 4_000, came: 0 });
        let mut bound = BoundEndpoint::over(endpoint, vec![socket], Clock::start());
        loop {
            bound.flush(&mut |_, (), _| ());
            let more = bound.read(&mut |_, (), _| ()).unwrap();
            if !more && !bound.is_paused() {
                break;
            }
        }
        assert_eq!(bound.into_endpoint().machine().came, 4_000);
    }
}
