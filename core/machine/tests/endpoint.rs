//! The order of calls that a datagram machine may rely on.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use semfio_machine::{
    Carrier, Clock, DatagramMachine, Deadline, Endpoint, Failure, Instant, Now, Output, Received,
    Refused, Stamp, Tap, TapEntry, Transmit, TransmitId, UnixTime,
};

/// Sends what it is commanded, and tells what it was told.
#[derive(Default)]
struct Teller {
    to_send: VecDeque<Vec<u8>>,
    next: u64,
    told: VecDeque<String>,
    due: Option<Instant>,
}

impl DatagramMachine for Teller {
    type Event<'i> = String;
    type Command<'c> = &'c [u8];

    fn accepts(&self, _: &Received, payload: &[u8]) -> bool {
        !payload.is_empty()
    }

    fn handle_datagram(&mut self, _: Now, _: Received, payload: &mut [u8]) -> Option<String> {
        self.to_send.push_back(payload.to_vec());
        self.told.push_back("queued".into());
        Some("came".into())
    }

    fn handle_sent(&mut self, _: Now, id: TransmitId, stamp: Stamp) {
        self.told.push_back(format!("{} left, {:?}", id.0, stamp.clock));
    }

    fn handle_send_error(&mut self, _: Now, id: TransmitId, failure: Failure) {
        self.told.push_back(format!("{} {failure:?}", id.0));
    }

    fn handle_command(&mut self, _: Now, payload: &[u8]) -> Result<(), Refused> {
        self.to_send.push_back(payload.to_vec());
        Ok(())
    }

    fn poll_transmit(&mut self, _: Now, buf: &mut Vec<u8>) -> Option<Transmit> {
        assert!(buf.is_empty());
        let payload = self.to_send.pop_front()?;
        buf.extend_from_slice(&payload);
        buf.extend_from_slice(b"beyond its size");
        self.next += 1;
        Some(Transmit {
            id: TransmitId(self.next),
            destination: address(),
            size: payload.len(),
            segment_size: None,
            hop_limit: None,
            source: None,
            carrier: Carrier::Udp,
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.due.map(|at| Deadline { at, why: "test" })
    }

    fn handle_timeout(&mut self, _: Now) {
        self.due = None;
        self.told.push_back("due".into());
    }

    fn poll_event(&mut self) -> Option<String> {
        self.told.pop_front()
    }
}

fn address() -> SocketAddr {
    "10.0.0.1:7".parse().unwrap()
}

fn received(stamp: Stamp) -> Received {
    Received {
        source: address(),
        destination: None,
        hop_limit: None,
        traffic_class: None,
        carrier: Carrier::Udp,
        stamp,
        error: None,
    }
}

/// What a socket does with a transmit.
type Answer = Result<usize, Option<Failure>>;

/// Drains an endpoint over a socket that answers so, and then takes everything.
fn drain(endpoint: &mut Endpoint<Teller>, answers: &[Answer]) -> Vec<String> {
    let (now, mut answers, mut log) = (Now::default(), answers.iter(), Vec::new());
    while let Some(output) = endpoint.poll_output(now) {
        match output {
            Output::Event(event) => log.push(event),
            Output::Transmit(transmit, payload) => {
                let text = String::from_utf8_lossy(payload);
                log.push(format!("send {} {text}", transmit.id.0));
                let answer = answers.next().copied().unwrap_or(Ok(payload.len()));
                match answer {
                    Ok(n) => endpoint.handle_sent(now, n),
                    Err(Some(failure)) => endpoint.handle_send_error(now, failure),
                    Err(None) => endpoint.handle_blocked(now),
                }
            }
        }
    }
    log
}

fn asked(payloads: &[&[u8]]) -> Endpoint<Teller> {
    let mut endpoint = Endpoint::new(Teller::default());
    for payload in payloads {
        endpoint.handle_command(Now::default(), payload).unwrap();
    }
    endpoint
}

#[test]
fn transmits_come_before_events_and_events_after_all_of_them() {
    let log = drain(&mut asked(&[b"a", b""]), &[]);
    assert_eq!(log, ["send 1 a", "send 2 ", "1 left, User", "2 left, User"]);
}

#[test]
fn a_datagrams_own_event_comes_first_and_a_kernel_stamp_is_passed_on() {
    let mut endpoint = asked(&[]);
    let stamp = Stamp { at: Instant::default(), clock: Clock::Kernel };
    let meta = received(stamp);
    assert!(!endpoint.accepts(&meta, b"") && endpoint.accepts(&meta, b"x"));
    let event = endpoint.handle_datagram(Now::default(), meta, &mut b"x".to_owned());
    assert_eq!(event.as_deref(), Some("came"));
    endpoint.handle_stamp(Now::default(), TransmitId(9), stamp);
    let log = drain(&mut endpoint, &[]);
    assert_eq!(log, ["send 1 x", "queued", "9 left, Kernel", "1 left, User"]);
}

#[test]
fn what_the_socket_has_no_room_for_is_kept_and_is_next() {
    let told = VecDeque::from(["meanwhile".into()]);
    let mut endpoint = Endpoint::new(Teller { told, ..Teller::default() });
    for payload in [&b"abc"[..], b"d"] {
        endpoint.handle_command(Now::default(), payload).unwrap();
    }
    assert_eq!(drain(&mut endpoint, &[Ok(1), Err(None)]), ["send 1 abc", "send 1 bc", "meanwhile"]);
    assert!(endpoint.is_blocked());
    assert!(drain(&mut endpoint, &[]).is_empty());
    endpoint.handle_writable(Now::default());
    assert!(!endpoint.is_blocked());
    let log = drain(&mut endpoint, &[Ok(1), Ok(1)]);
    assert_eq!(log, ["send 1 bc", "send 1 c", "send 2 d", "1 left, User", "2 left, User"]);
}

#[test]
fn what_the_socket_refuses_is_told_and_dropped() {
    let mut endpoint = asked(&[b"ab", b"c"]);
    let log = drain(&mut endpoint, &[Ok(1), Err(Some(Failure::Unreachable))]);
    assert_eq!(log, ["send 1 ab", "send 1 b", "send 2 c", "1 Unreachable", "2 left, User"]);
}

#[test]
fn a_timeout_is_passed_on_when_it_is_due_and_not_before() {
    let at = Instant::default().saturating_add(std::time::Duration::from_secs(1));
    let mut endpoint = Endpoint::new(Teller { due: Some(at), ..Teller::default() });
    endpoint.handle_timeout(Now::default());
    assert_eq!(endpoint.poll_timeout().map(|deadline| deadline.at), Some(at));
    endpoint.handle_timeout(Now { mono: at, ..Now::default() });
    assert_eq!(drain(&mut endpoint, &[]), ["due"]);
    assert!(endpoint.into_machine().due.is_none());
}

/// Everything a tap saw, as text.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<String>>>);

impl Tap<Vec<u8>> for Paper {
    fn record(&mut self, now: Now, entry: TapEntry<'_, Vec<u8>>) {
        let seconds = now.unix.as_secs();
        self.0.lock().unwrap().push(format!("{seconds} {entry:?}"));
    }
}

#[test]
fn a_tap_sees_each_call_and_what_it_led_to_once() {
    let paper = Paper::default();
    let (now, later) = (Now::default(), Now { unix: UnixTime::from_secs(1), ..Now::default() });
    let due = Some(Instant::default());
    let mut endpoint = Endpoint::new(Teller { due, ..Teller::default() });
    endpoint.set_tap(Box::new(paper.clone()), |command, to| to.extend_from_slice(command));
    let seen = || std::mem::take(&mut *paper.0.lock().unwrap());
    endpoint.handle_command(later, b"ab").unwrap();
    assert_eq!(seen(), ["1 Message([97, 98])"]);
    assert!(matches!(endpoint.poll_output(now), Some(Output::Transmit(..))));
    assert!(matches!(endpoint.poll_output(now), Some(Output::Transmit(..))));
    let transmits = seen();
    assert_eq!(transmits.len(), 1, "it is given twice, and comes from the machine once");
    assert!(transmits[0].starts_with("0 Transmit(Transmit { id: TransmitId(1), "));
    assert!(transmits[0].ends_with(", [97, 98])"));
    endpoint.handle_sent(later, 1);
    endpoint.handle_blocked(later);
    endpoint.handle_blocked(later);
    assert!(endpoint.poll_output(now).is_none());
    endpoint.handle_writable(later);
    endpoint.handle_writable(later);
    endpoint.handle_sent(later, 9);
    endpoint.handle_sent(later, 9);
    endpoint.handle_send_error(later, Failure::Reset);
    let left = "1 Left(TransmitId(1), 1)";
    assert_eq!(seen(), [left, "1 Blocked", "0 Nothing", "1 Writable", left]);
    let stamp = Stamp { at: Instant::default(), clock: Clock::Kernel };
    endpoint.handle_stamp(later, TransmitId(1), stamp);
    endpoint.handle_timeout(later);
    endpoint.handle_timeout(later);
    assert_eq!(drain(&mut endpoint, &[]), ["1 left, User", "1 left, Kernel", "due"]);
    let all = seen();
    assert_eq!(all[0], "1 Stamped(TransmitId(1), Stamp { at: Instant(0), clock: Kernel })");
    assert_eq!(all[1..3], ["1 Timeout", "0 Report(\"1 left, User\")"]);
    assert_eq!(all[3..], ["0 Report(\"1 left, Kernel\")", "0 Report(\"due\")", "0 Nothing"]);
    let event = endpoint.handle_datagram(later, received(stamp), &mut b"x".to_owned());
    assert_eq!(event.as_deref(), Some("came"));
    drain(&mut endpoint, &[Err(Some(Failure::Reset))]);
    let all = seen();
    assert!(all[0].starts_with("1 Datagram(Received { source: 10.0.0.1:7, "));
    assert!(all[0].ends_with(", [120])"));
    assert_eq!(all[1], "1 Report(\"came\")");
    assert_eq!(all[3], "0 Refused(TransmitId(2), Reset)");
    assert_eq!(all.len(), 7);
    endpoint.note(later, b"n");
    assert_eq!(seen(), ["1 Note([110])"]);
}
