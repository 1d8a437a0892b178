//! The order of the calls in a turn.

use core::convert::Infallible;
use core::time::Duration;
use semfio_machine::*;
use semfio_sim::*;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Is told everything at one instant: 10 ms.
struct Alarmed(bool);

const AT: Instant = Instant::from_nanos(10_000_000);

impl StreamMachine for Alarmed {
    type Event<'i> = ();
    type Command<'c> = ();
    type Error = Infallible;
    const CARRIES_FILES: bool = false;
    fn max_unit(&self) -> usize {
        1
    }
    fn state(&self) -> &'static str {
        "Open"
    }
    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<()>, Infallible> {
        if input.is_empty() {
            return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
        }
        out.put(input.take(1));
        Ok(Step::Event(()))
    }
    fn handle_command(&mut self, _: Now, (): (), _: &mut Outbox) -> Result<(), Refused> {
        Ok(())
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        (!self.0).then_some(Deadline { at: AT, why: "alarm" })
    }
    fn handle_timeout(&mut self, now: Now, _: &mut Outbox) {
        self.0 |= now.mono >= AT;
    }
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(Instant, &'static str)>>>);

impl<Message> Tap<Message> for Calls {
    fn record(&mut self, now: Now, entry: TapEntry<'_, Message>) {
        let name = match entry {
            TapEntry::Accepted(..) => "accepted",
            TapEntry::Received(..) => "received",
            TapEntry::Timeout => "timeout",
            TapEntry::Message(_) => "message",
            TapEntry::Reply(..) => "reply",
            TapEntry::Turn => "turn",
            TapEntry::Sent(..) => "sent",
            _ => return,
        };
        self.0.lock().unwrap().push((now.mono, name));
    }
}

#[test]
fn a_turn_makes_the_calls_of_any_host_in_their_order() {
    let address: SocketAddr = ([10, 0, 0, 1], 7).into();
    let calls = Calls::default();
    let mut net = Network::new(1);
    let latency = Duration::from_millis(10);
    let machines = Machines::new(|_| Some(Alarmed(false)), |()| ());
    let mut shard = Shard::new(machines, NetLimits::default());
    shard.set_tap(Box::new(calls.clone()));
    let server = net.add(address.ip(), shard);
    assert!(net.listen(server, address));
    net.disk_mut(server).set_config(DiskConfig { latency, ..DiskConfig::default() });
    let peer = net.connect([10, 0, 0, 2].into(), address);
    let stat = Effect::Stat { root: RootId(0), path: String::new() };
    net.send_message(server, Box::new(move |net| _ = net.request(stat)));
    net.run_for(Duration::from_millis(9)).unwrap();
    calls.0.lock().unwrap().clear();

    // Another connection and a byte on the first come at the same time as all the rest.
    let slow = LinkConfig { latency: Duration::from_millis(1), ..LinkConfig::default() };
    net.set_link([10, 0, 0, 3].into(), address.ip(), slow);
    net.connect([10, 0, 0, 3].into(), address);
    net.send_message_at(server, AT, Box::new(|_| ()));
    net.run_for(Duration::from_nanos(999_999)).unwrap();
    net.write(peer, "x");
    assert!(calls.0.lock().unwrap().is_empty());
    net.run_for(Duration::from_nanos(1)).unwrap();
    let got: Vec<_> = calls.0.lock().unwrap().drain(..).collect();
    // The byte was written a nanosecond early and has a turn of its own.
    let early: Vec<_> = got.iter().filter(|(at, _)| *at < AT).map(|&(_, name)| name).collect();
    assert_eq!(early, ["received", "turn", "sent", "turn"]);
    let due: Vec<_> = got.iter().filter(|(at, _)| *at == AT).map(|&(_, name)| name).collect();
    assert_eq!(due, ["accepted", "timeout", "message", "reply", "turn"]);
}
