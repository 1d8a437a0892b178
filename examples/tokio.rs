//! The calculator on tokio, driven by hand. Nothing else in the project knows tokio.

use semfio_examples::{Calculator, talk};
use semfio_machine::{Carry, Chunk, Input, Outbox, Step, StreamMachine};
use semfio_runtime_os::Clock;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let client = tokio::task::spawn_blocking(move || talk::talk(address));
    let (socket, _) = listener.accept().await?;
    serve(socket).await?;
    client.await.expect("the client does not panic")
}

async fn serve(mut socket: TcpStream) -> io::Result<()> {
    let clock = Clock::start();
    let mut machine = Calculator::new(clock.now());
    let (mut carry, mut out) = (Carry::default(), Outbox::default());
    let mut scratch = [0; 4096];
    let (mut new, mut eof) = (0, false);
    loop {
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

        while let Some(Chunk::Bytes(bytes)) = { out.chunks().next() } {
            let sent = socket.write(bytes).await?;
            out.advance(sent);
        }
        if over {
            return socket.shutdown().await;
        }

        let wait = machine
            .poll_timeout()
            .map_or(Duration::MAX, |deadline| Clock::until(clock.now(), deadline));
        new = 0;
        tokio::select! {
            read = socket.read(&mut scratch) => match read? {
                0 => eof = true,
                n => new = n,
            },
            () = tokio::time::sleep(wait) => machine.handle_timeout(clock.now(), &mut out),
        }
    }
}
