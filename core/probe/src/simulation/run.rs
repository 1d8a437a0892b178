//! A machine over an internet, until it is done.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use semfio_machine::{
    Clock, DatagramMachine, Endpoint, Instant, Now, Output, Stamp, TransmitId, UnixTime,
};

use super::forward::{Arrival, Internet};

/// Steps of a run: a machine that never ends is a livelock.
const STEPS: u64 = 10_000_000;
/// What a kernel needs from a send to the device.
const DEPARTURE: Duration = Duration::from_micros(5);

/// A run that is over.
#[derive(Debug)]
pub struct Ran<M, T> {
    /// What was told, and when.
    pub events: Vec<(Now, T)>,
    /// As it ended.
    pub machine: M,
    /// Datagrams that left.
    pub sent: u64,
    /// When it was over.
    pub now: Now,
    /// Whether the machine was done; else it was stopped after ten million steps.
    pub ended: bool,
}

enum Due {
    Stamp(TransmitId),
    Arrival(Arrival),
}

/// Runs a machine from time 0 until it waits for nothing and nothing is on its way. Time passes
/// only when nothing else is left to do; each departure has its kernel stamp 5 µs later. `see`
/// turns an event into what is kept of it.
pub fn run<M: DatagramMachine, T>(
    internet: &mut Internet,
    machine: M,
    mut see: impl for<'i> FnMut(M::Event<'i>) -> T,
) -> Ran<M, T> {
    let mut endpoint = Endpoint::new(machine);
    let mut now = Now { mono: Instant::default(), unix: UnixTime::from_secs(946_684_800) };
    let (mut events, mut sent, mut steps) = (Vec::new(), 0_u64, 0_u64);
    let mut waiting: BTreeMap<(Instant, u64), Due> = BTreeMap::new();
    loop {
        while let Some(output) = endpoint.poll_output(now) {
            steps = steps.saturating_add(1);
            let (transmit, payload) = match output {
                Output::Event(event) => {
                    events.push((now, see(event)));
                    continue;
                }
                Output::Transmit(transmit, payload) => (*transmit, payload),
            };
            // One datagram after the other, as a socket has it.
            let segment = transmit.segment_size.unwrap_or(payload.len()).min(payload.len());
            let payload = payload.get(..segment).unwrap_or_default();
            match internet.send(now, &transmit, payload) {
                Err(failure) => endpoint.handle_send_error(now, failure),
                Ok(arrivals) => {
                    endpoint.handle_sent(now, segment);
                    sent = sent.saturating_add(1);
                    let left = now.mono.saturating_add(DEPARTURE);
                    let mut put = |at, due| {
                        steps = steps.saturating_add(1);
                        waiting.insert((at, steps), due);
                    };
                    put(left, Due::Stamp(transmit.id));
                    for mut arrival in arrivals {
                        let stamp = &mut arrival.meta.stamp;
                        stamp.at = stamp.at.saturating_add(DEPARTURE);
                        put(stamp.at, Due::Arrival(arrival));
                    }
                }
            }
        }
        let next = waiting.first_key_value().map(|(&(at, _), _)| at);
        let timeout = endpoint.poll_timeout().map(|deadline| deadline.at);
        let Some(at) = next.into_iter().chain(timeout).min() else { break };
        steps = steps.saturating_add(1);
        if steps > STEPS {
            return Ran { events, machine: endpoint.into_machine(), sent, now, ended: false };
        }
        let passed = at.saturating_since(now.mono);
        let unix = now.unix.as_nanos();
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        now.mono = now.mono.max(at);
        now.unix = UnixTime::from_nanos(unix.saturating_add(nanos));
        if next == Some(at) {
            match waiting.pop_first() {
                Some((_, Due::Stamp(id))) => {
                    endpoint.handle_stamp(now, id, Stamp { at, clock: Clock::Kernel });
                }
                Some((_, Due::Arrival(Arrival { meta, mut payload })))
                    if endpoint.accepts(&meta, &payload) =>
                {
                    let event = endpoint.handle_datagram(now, meta, &mut payload);
                    events.extend(event.map(|event| (now, see(event))));
                }
                _ => {}
            }
        } else {
            endpoint.handle_timeout(now);
        }
    }
    Ran { events, machine: endpoint.into_machine(), sent, now, ended: true }
}
