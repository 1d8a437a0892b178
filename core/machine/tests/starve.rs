//! A service that fills an outbox whenever there is room does not keep its peer from being heard.

use core::convert::Infallible;
use semfio_machine::*;

const MARK: usize = 100;

/// Tells of each byte, if there is room for an answer.
struct Listener;

impl StreamMachine for Listener {
    type Event<'i> = u8;
    type Command<'c> = &'c [u8];
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
    ) -> Result<Step<u8>, Infallible> {
        if out.room() == 0 {
            return Ok(Step::NeedRoom);
        }
        match input.take(1) {
            [byte] => Ok(Step::Event(*byte)),
            _ if input.at_eof() => Ok(Step::Done),
            _ => Ok(Step::NeedInput(1)),
        }
    }
    fn handle_command(&mut self, _: Now, bytes: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        out.put(bytes);
        Ok(())
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

#[derive(Default)]
struct Talker {
    heard: usize,
}

impl Service<Listener> for Talker {
    type Message = ();
    type Report = ();
    fn accept(&mut self, _: Now, _: &Peer) -> Option<Listener> {
        Some(Listener)
    }
    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<Listener>) {
        net.send(conn, &[0; MARK]).unwrap();
    }
    fn handle_event(&mut self, _: Now, _: ConnId, _: u8, _: &mut Net<Listener>) {
        self.heard += 1;
    }
    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<Listener>) {
        net.send(conn, &[0; MARK]).unwrap();
    }
    fn handle_closed(&mut self, _: Now, _: ConnId, _: Closed<Infallible>, _: &mut Net<Listener>) {}
    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<Listener>) {}
}

#[test]
fn a_peer_is_heard_before_it_is_told_more() {
    let address = ([127, 0, 0, 1], 1).into();
    let limits = NetLimits { mark: MARK, ..NetLimits::default() };
    let mut shard = Shard::new(Talker::default(), limits);
    let now = Now::default();
    let conn = shard.handle_accepted(now, Peer { address, local: address }).unwrap();
    shard.handle_received(now, conn, &mut [1]);
    assert_eq!(shard.service().heard, 0, "no room for an answer yet");
    for _ in 0..3 {
        let waiting = shard.outbox(conn).unwrap().queued() as usize;
        assert!(waiting >= MARK, "the service goes on");
        shard.handle_sent(now, conn, waiting);
    }
    assert_eq!(shard.service().heard, 1);
}
