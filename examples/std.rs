//! The calculator on std sockets, driven by hand: all a host of one machine has to do.

use semfio_examples::{Calculator, talk};
use semfio_machine::{Carry, Chunk, Input, Outbox, Step, StreamMachine};
use semfio_runtime_os::Clock;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || serve(&listener.accept()?.0));
    talk::talk(address)?;
    server.join().expect("the server does not panic")
}

fn serve(mut socket: &TcpStream) -> io::Result<()> {
    let clock = Clock::start();
    let mut machine = Calculator::new(clock.now());
    let (mut carry, mut out) = (Carry::default(), Outbox::default());
    let mut scratch = [0; 4096];
    let (mut new, mut eof) = (0, false);
    loop {
        // 1. What was left before, and what is new behind it, until it wants no more of it.
        let (view, fresh) = carry.append(&scratch[..new]);
        let mut input = Input::new(view, fresh, eof);
        let over = loop {
            match machine.handle_input(clock.now(), &mut input, &mut out) {
                Ok(Step::Event(_)) => {}
                Ok(Step::Done) | Err(_) => break true,
                Ok(_) => break false,
            }
        };
        let untaken = input.untaken();
        carry.keep(untaken);

        // 2. What it has to say.
        while let Some(Chunk::Bytes(bytes)) = { out.chunks().next() } {
            let sent = socket.write(bytes)?;
            out.advance(sent);
        }
        if over {
            return socket.shutdown(Shutdown::Write);
        }

        // 3. The next bytes, or its next deadline.
        let wait = machine.poll_timeout().map(|deadline| {
            Clock::until(clock.now(), deadline).max(Duration::from_millis(1)) // zero is for ever
        });
        socket.set_read_timeout(wait)?;
        new = 0;
        match socket.read(&mut scratch) {
            Ok(0) => eof = true,
            Ok(n) => new = n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                machine.handle_timeout(clock.now(), &mut out);
            }
            Err(e) => return Err(e),
        }
    }
}
