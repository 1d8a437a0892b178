//! The machine has the last word when the application closes, and only then.

use core::convert::Infallible;
use semfio_machine::*;

struct Polite;

impl StreamMachine for Polite {
    type Event<'i> = u8;
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
        _: &mut Outbox,
    ) -> Result<Step<u8>, Infallible> {
        match input.take(1) {
            [byte] => Ok(Step::Event(*byte)),
            _ if input.at_eof() => Ok(Step::Done),
            _ => Ok(Step::NeedInput(1)),
        }
    }
    fn handle_command(&mut self, _: Now, (): (), _: &mut Outbox) -> Result<(), Refused> {
        Ok(())
    }
    fn handle_close(&mut self, _: Now, out: &mut Outbox) {
        out.put(b"bye");
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

/// Closes on `c`, aborts on `a`.
struct Closer;

impl Service<Polite> for Closer {
    type Message = ();
    type Report = ();
    fn accept(&mut self, _: Now, _: &Peer) -> Option<Polite> {
        Some(Polite)
    }
    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Polite>) {}
    fn handle_event(&mut self, _: Now, from: ConnId, event: u8, net: &mut Net<Polite>) {
        match event {
            b'c' => net.close(from),
            _ => net.abort(from),
        }
    }
    fn handle_closed(&mut self, _: Now, _: ConnId, _: Closed<Infallible>, _: &mut Net<Polite>) {}
    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<Polite>) {}
}

fn said_after(input: &[u8], eof: bool) -> Vec<u8> {
    let address = ([127, 0, 0, 1], 1).into();
    let mut shard = Shard::new(Closer, NetLimits::default());
    let conn = shard.handle_accepted(Now::default(), Peer { address, local: address }).unwrap();
    shard.handle_received(Now::default(), conn, &mut input.to_vec());
    if eof {
        shard.handle_eof(Now::default(), conn);
    }
    let Some(outbox) = shard.outbox(conn) else { return Vec::new() };
    outbox
        .chunks()
        .flat_map(|chunk| if let Chunk::Bytes(bytes) = chunk { bytes.to_vec() } else { panic!() })
        .collect()
}

#[test]
fn farewell_on_close_alone() {
    assert_eq!(said_after(b"c", false), b"bye");
    assert_eq!(said_after(b"a", false), b"", "an abort says nothing");
    assert_eq!(said_after(b"", true), b"", "a dialogue that is done has ended itself");
}
