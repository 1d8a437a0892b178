//! A machine over datagrams whose outputs tell all that it hears, and a host that runs a script on it.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex};

use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Endpoint, Failure, Instant, Now, Output,
    QuotedError, Received, Refused, Stamp, Transmit, TransmitId, UnixTime,
};
use semfio_trace::{CommandCodec, Header, Recorder};

/// Answers what comes, and says when it was asked, by whom, and what became of what it sent.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    to_send: VecDeque<(SocketAddr, Vec<u8>)>,
    next: u64,
    told: VecDeque<String>,
    due: Option<Instant>,
    /// When it was first asked for something to send: being asked in vain counts too.
    asked: Option<Instant>,
    /// What a fault of it would change.
    pub(crate) fault: Option<&'static str>,
}

pub(crate) enum Ask<'c> {
    Say(&'c [u8]),
    Wake(u64),
}

pub(crate) const CODEC: CommandCodec<Teller> = CommandCodec { encode, decode };

fn encode(ask: &Ask<'_>, to: &mut Vec<u8>) {
    match ask {
        Ask::Say(bytes) => to.extend([b"say ", *bytes].concat()),
        Ask::Wake(at) => to.extend(format!("wake {at}").bytes()),
    }
}

fn decode(from: &[u8]) -> Option<Ask<'_>> {
    if let Some(bytes) = from.strip_prefix(b"say ") {
        return Some(Ask::Say(bytes));
    }
    Some(Ask::Wake(std::str::from_utf8(from).ok()?.strip_prefix("wake ")?.parse().ok()?))
}

impl Teller {
    pub(crate) fn new(fault: Option<&'static str>) -> Self {
        Self { fault, ..Self::default() }
    }
}

impl DatagramMachine for Teller {
    type Event<'i> = (Received, &'i [u8], String);
    type Command<'c> = Ask<'c>;

    fn accepts(&self, _: &Received, payload: &[u8]) -> bool {
        payload != b"foreign"
    }

    fn handle_datagram<'i>(
        &mut self,
        now: Now,
        meta: Received,
        payload: &'i mut [u8],
    ) -> Option<Self::Event<'i>> {
        if meta.error.is_none() {
            self.to_send.push_back((meta.source, payload.to_vec()));
        }
        if self.fault == Some("another byte") {
            payload.iter_mut().for_each(|byte| *byte ^= 1);
        }
        Some((meta, payload, format!("at {now:?}")))
    }

    fn handle_sent(&mut self, now: Now, id: TransmitId, stamp: Stamp) {
        self.told.push_back(format!("{} left {stamp:?} at {now:?}", id.0));
    }

    fn handle_send_error(&mut self, now: Now, id: TransmitId, failure: Failure) {
        self.told.push_back(format!("{} not: {failure:?} at {now:?}", id.0));
    }

    fn handle_command(&mut self, now: Now, ask: Ask<'_>) -> Result<(), Refused> {
        match ask {
            Ask::Say(bytes) if self.to_send.len() < 3 => {
                let text = format!("{now:?} ").into_bytes();
                self.to_send.push_back((peer(), [&text, bytes].concat()));
            }
            Ask::Say(_) => return Err(Refused::Full),
            Ask::Wake(at) => self.due = Some(Instant::from_nanos(at)),
        }
        Ok(())
    }

    fn poll_transmit(&mut self, now: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        if self.fault != Some("no hurry") {
            self.asked.get_or_insert(now.mono);
        }
        let (destination, payload) = self.to_send.pop_front()?;
        buf.extend(payload);
        self.next += 1;
        let odd = self.next % 2 == 1;
        let carriers = [Carrier::Udp, Carrier::Icmp, Carrier::RawIcmp, Carrier::RawTcp];
        Some(Transmit {
            id: TransmitId(self.next),
            destination,
            size: buf.len(),
            segment_size: odd.then_some(7),
            hop_limit: odd.then_some(3),
            source: (!odd).then_some([192, 0, 2, 9].into()),
            carrier: carriers[self.next as usize % 4],
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline { at, why: "asked for" })
    }

    fn handle_timeout(&mut self, now: Now) {
        self.due = None;
        self.told.push_back(format!("awake at {now:?}, first asked at {:?}", self.asked));
    }

    fn poll_event(&mut self) -> Option<Self::Event<'static>> {
        let text = self.told.pop_front()?;
        Some((meta(1, None), b"", text))
    }
}

pub(crate) fn at(nanos: u64) -> Now {
    Now {
        mono: Instant::from_nanos(nanos),
        unix: UnixTime::from_nanos(1_763_000_000_000_000_000 + nanos),
    }
}

fn peer() -> SocketAddr {
    SocketAddrV6::new([0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), 7, 77, 3).into()
}

/// How datagram `n` came.
fn meta(n: u64, error: Option<QuotedError>) -> Received {
    let known = n % 2 == 1;
    Received {
        source: if known { peer() } else { "192.0.2.1:9".parse().unwrap() },
        destination: known.then_some("2001:db8::7".parse().unwrap()),
        hop_limit: known.then_some(57),
        traffic_class: known.then_some(0xb8),
        carrier: if known { Carrier::Icmp } else { Carrier::Udp },
        stamp: Stamp {
            at: Instant::from_nanos(n * 1_000 + 1),
            clock: if known { Clock::Kernel } else { Clock::User },
        },
        error,
    }
}

/// What a socket does with a transmit.
pub(crate) enum Answer {
    Takes(usize),
    Refuses(Failure),
    IsFull,
}

/// A host whose clock goes on by `step` with each call, and what its application was told.
pub(crate) struct Host {
    endpoint: Endpoint<Teller>,
    nanos: u64,
    step: u64,
    pub(crate) told: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub(crate) fn recording(trace: Arc<Mutex<Vec<u8>>>, step: u64) -> Self {
        let mut endpoint = Endpoint::new(Teller::default());
        let sink = move |line: &[u8]| trace.lock().unwrap().extend_from_slice(line);
        let header = Header { start: at(0), ..Header::new("teller") };
        endpoint.set_tap(Box::new(Recorder::new(&header, sink)), CODEC.encode);
        Self { endpoint, nanos: 0, step, told: Arc::default() }
    }

    fn now(&mut self) -> Now {
        self.nanos += self.step;
        at(self.nanos)
    }

    fn command(&mut self, ask: Ask<'_>) -> Result<(), Refused> {
        let now = self.now();
        self.endpoint.handle_command(now, ask)
    }

    fn receive(&mut self, meta: Received, payload: &[u8]) {
        let (now, mut payload) = (self.now(), payload.to_vec());
        if self.endpoint.accepts(&meta, &payload) {
            if let Some(event) = self.endpoint.handle_datagram(now, meta, &mut payload) {
                self.told.lock().unwrap().push(show(now, &event));
            }
        }
    }

    /// Takes all that there is over a socket that answers so, and then takes everything.
    fn drain(&mut self, answers: impl IntoIterator<Item = Answer>) {
        let mut answers = answers.into_iter();
        let asked = self.now();
        loop {
            let later = self.now();
            match self.endpoint.poll_output(asked) {
                None => break,
                Some(Output::Event(event)) => self.told.lock().unwrap().push(show(asked, &event)),
                Some(Output::Transmit(_, payload)) => {
                    match answers.next().unwrap_or(Answer::Takes(payload.len())) {
                        Answer::Takes(n) => self.endpoint.handle_sent(later, n),
                        Answer::Refuses(failure) => {
                            self.endpoint.handle_send_error(later, failure);
                        }
                        Answer::IsFull => self.endpoint.handle_blocked(later),
                    }
                }
            }
        }
    }
}

pub(crate) fn show(now: Now, event: &(Received, &[u8], String)) -> String {
    format!("{now:?} {event:?}")
}

/// A run with everything in it, and what the application was told; `step` is the time between two
/// calls.
pub(crate) fn everything(step: u64) -> (Vec<u8>, Vec<String>) {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), step);
    host.drain([]);
    host.command(Ask::Say("olá\n".as_bytes())).unwrap();
    host.command(Ask::Say(b"\x00\xff")).unwrap();
    host.command(Ask::Say(b"")).unwrap();
    assert!(host.command(Ask::Say(b"too much")).is_err());
    host.drain([Answer::Takes(7), Answer::IsFull]);
    host.receive(meta(1, None), b"to be answered");
    host.drain([]);
    let now = host.now();
    host.endpoint.handle_writable(now);
    host.drain([]);
    let stamp = Stamp { at: Instant::from_nanos(77_777), clock: Clock::Kernel };
    let now = host.now();
    host.endpoint.handle_stamp(now, TransmitId(1), stamp);
    host.drain([]);
    host.receive(meta(2, None), b"foreign");
    host.receive(meta(2, None), b"\x08\x00\xf7\xff");
    host.drain([Answer::Refuses(Failure::Unreachable)]);
    for (n, offender) in [(3, Some("192.0.2.254".parse().unwrap())), (4, None)] {
        let extension = offender.map(|_| 9);
        let quoted = QuotedError { offender, icmp_type: 3, icmp_code: 4, info: 1_400, extension };
        host.receive(meta(n, Some(quoted)), b"came back");
        host.drain([]);
    }
    let due = host.nanos + 5 * step;
    host.command(Ask::Wake(due)).unwrap();
    for _ in 0..5 {
        let now = host.now();
        host.endpoint.handle_timeout(now);
    }
    host.drain([]);
    let now = host.now();
    host.endpoint.note(now, b"now");
    host.told.lock().unwrap().push(format!("{now:?} note now"));
    let told = host.told.lock().unwrap().clone();
    drop(host);
    let trace = trace.lock().unwrap().clone();
    (trace, told)
}

/// A short run: a datagram, its answer, a timer.
pub(crate) fn little() -> Vec<u8> {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), 1_000);
    host.receive(meta(1, None), b"hi\xff");
    host.drain([]);
    let due = host.nanos + 1;
    host.command(Ask::Wake(due)).unwrap();
    let now = host.now();
    host.endpoint.handle_timeout(now);
    host.drain([]);
    drop(host);
    trace.lock().unwrap().clone()
}
