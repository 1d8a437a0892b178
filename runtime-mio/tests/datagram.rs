//! The datagram loop over real loopback sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use semfio_machine::{
    Carrier, Clock as WhoseClock, DatagramMachine, Deadline, Endpoint, Failure, Instant, Now,
    QuotedError, Received, Refused, Stamp, Transmit, TransmitId,
};
use semfio_runtime_mio::Datagrams;
use semfio_runtime_os::{BoundEndpoint, Clock};

/// Sends numbered datagrams, or sends back what comes; datagrams start with a `#`.
#[derive(Debug, Default)]
struct Pinger {
    echo: bool,
    to_send: VecDeque<(SocketAddr, Vec<u8>)>,
    next: u64,
    stamps: Vec<(TransmitId, Stamp)>,
    failed: Vec<Failure>,
    /// Done by then, or when the kernel has stamped everything.
    at: Option<Instant>,
    done: bool,
}

#[derive(Debug, PartialEq)]
enum Event<'i> {
    Answer(&'i [u8], Received),
    Timer,
}

enum Command<'c> {
    Send(SocketAddr, &'c [u8]),
    Timer(Instant),
}

impl DatagramMachine for Pinger {
    type Event<'i> = Event<'i>;
    type Command<'c> = Command<'c>;

    fn accepts(&self, _: &Received, payload: &[u8]) -> bool {
        payload.starts_with(b"#")
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<Event<'i>> {
        assert!(meta.stamp.at <= now.mono, "a stamp from the future");
        if self.echo {
            self.to_send.push_back((meta.source, payload.to_vec()));
            return None;
        }
        Some(Event::Answer(payload, meta))
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        self.stamps.push((id, stamp));
    }

    fn handle_send_error(&mut self, _: Now, _: TransmitId, failure: Failure) {
        self.failed.push(failure);
    }

    fn handle_command(&mut self, _: Now, command: Command<'_>) -> Result<(), Refused> {
        match command {
            Command::Send(to, payload) => self.to_send.push_back((to, payload.to_vec())),
            Command::Timer(at) => self.at = Some(at),
        }
        Ok(())
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (destination, payload) = self.to_send.pop_front()?;
        assert!(buf.is_empty());
        buf.extend_from_slice(&payload);
        self.next += 1;
        Some(Transmit {
            id: TransmitId(self.next),
            destination,
            size: payload.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.at?;
        Some(Deadline { at, why: "test" })
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.at.is_some_and(|at| at <= now.mono) {
            self.at = None;
            self.done = true;
        }
    }

    fn poll_event(&mut self) -> Option<Event<'static>> {
        if self.at.is_some() && self.next > 0 && self.stamped() == self.next {
            self.at = None;
            self.done = true;
        }
        std::mem::take(&mut self.done).then_some(Event::Timer)
    }
}

impl Pinger {
    /// How many stamps are the kernel's.
    fn stamped(&self) -> u64 {
        let kernel = |(_, stamp): &&(_, Stamp)| stamp.clock == WhoseClock::Kernel;
        self.stamps.iter().filter(kernel).count() as u64
    }
}

fn endpoint(echo: bool) -> Endpoint<Pinger> {
    Endpoint::new(Pinger { echo, ..Pinger::default() })
}

fn bind(endpoint: Endpoint<Pinger>, clock: Clock) -> (Datagrams<Pinger>, SocketAddr) {
    let bound = BoundEndpoint::bind(endpoint, "127.0.0.1:0".parse().unwrap(), clock).unwrap();
    let address = bound.local_addr().unwrap();
    (Datagrams::new(bound).unwrap(), address)
}

#[test]
fn datagrams_are_echoed_with_kernel_stamps_both_ways() {
    let clock = Clock::start();
    let (server, to) = bind(endpoint(true), clock);
    let server_stopper = server.stopper();
    let serving = thread::spawn(move || server.run(|_, _, _| {}).unwrap());
    let mut client = endpoint(false);
    client.handle_command(clock.now(), Command::Send(to, b"not for it")).unwrap();
    client.handle_command(clock.now(), Command::Send(to, b"#0")).unwrap();
    let (client, _) = bind(client, clock);
    let stopper = client.stopper();
    let (mut arrivals, mut number) = (Vec::new(), 0);
    let machine = client
        .run(|now, event, endpoint| match event {
            Event::Answer(payload, meta) => {
                assert_eq!(payload, format!("#{number}").as_bytes());
                assert_eq!((meta.source, meta.error), (to, None));
                arrivals.push(meta.stamp);
                number += 1;
                let next = format!("#{number}");
                let command = match number {
                    500 => Command::Timer(now.mono.saturating_add(Duration::from_secs(10))),
                    _ => Command::Send(to, next.as_bytes()),
                };
                endpoint.handle_command(now, command).unwrap();
            }
            Event::Timer => stopper.stop(),
        })
        .unwrap()
        .into_machine();
    server_stopper.stop();
    let server = serving.join().unwrap().into_machine();
    assert_eq!(server.next, 500, "what is not accepted is not answered");
    assert_eq!((arrivals.len(), machine.next), (500, 501));
    assert!(arrivals.iter().all(|at| at.clock == WhoseClock::Kernel));
    for id in 1..=501 {
        let of = |clock| {
            let mut stamps = machine.stamps.iter();
            stamps.position(|(it, stamp)| it.0 == id && stamp.clock == clock)
        };
        let user = of(WhoseClock::User).expect("each transmit has a stamp at once");
        let kernel = of(WhoseClock::Kernel).expect("it was waited for");
        assert!(user < kernel);
        assert!(machine.stamps[user].1.at <= machine.stamps[kernel].1.at);
    }
    assert_eq!(machine.stamped(), 501);
}

#[test]
fn errors_of_the_network_and_of_the_system_reach_the_machine() {
    let clock = Clock::start();
    let nobody = bind(endpoint(false), clock).1;
    let too_long = vec![b'#'; 70_000];
    let mut client = endpoint(false);
    client.handle_command(clock.now(), Command::Send(nobody, &too_long)).unwrap();
    client.handle_command(clock.now(), Command::Send(nobody, b"#quote")).unwrap();
    let (client, _) = bind(client, clock);
    let (stopper, mut quoted) = (client.stopper(), None);
    let machine = client
        .run(|_, event, _| {
            if let Event::Answer(payload, meta) = event {
                assert_eq!((payload, meta.source), (&b"#quote"[..], nobody));
                quoted = meta.error;
                stopper.stop();
            }
        })
        .unwrap()
        .into_machine();
    let QuotedError { offender, icmp_type, icmp_code, .. } = quoted.unwrap();
    assert_eq!(offender, Some(IpAddr::from([127, 0, 0, 1])));
    assert_eq!((icmp_type, icmp_code), (3, 3));
    assert_eq!(machine.failed, [Failure::TooLarge]);
}

#[test]
fn it_is_stopped_from_another_thread_and_before_it_began() {
    let (host, _) = bind(endpoint(false), Clock::start());
    host.stopper().stop();
    host.run(|_, _, _| {}).unwrap();
    let (host, _) = bind(endpoint(false), Clock::start());
    let stopper = host.stopper();
    let running = thread::spawn(move || host.run(|_, _, _| {}).unwrap());
    stopper.stop();
    running.join().unwrap();
}
