//! A way between two peers on which bytes take odd times: one after the other, or many at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How many octets a drip lets through at a time: borders of tokens fall anywhere in them.
const PIECES: [usize; 6] = [1, 43, 7, 99, 2, 101];
/// The pause after each of them.
const DRIP: Duration = Duration::from_millis(5);
/// How quiet it must be before what was gathered goes on.
const QUIET: Duration = Duration::from_millis(150);

#[derive(Clone, Copy)]
enum Pace {
    AsItComes,
    Drip,
    Gather,
}

/// Which way is the odd one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    ToServer,
    ToClient,
}

/// Listens at `here` and connects to `there`, to the end of the process. Of the connections the first
/// drips, the second gathers, and so on.
pub(crate) fn relay(here: &str, there: &'static str, odd: Odd) {
    let listener = TcpListener::bind(here).unwrap();
    thread::spawn(move || {
        for pace in [Pace::Drip, Pace::Gather].into_iter().cycle() {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(there).unwrap();
            let (up, down) = match odd {
                Odd::ToServer => (pace, Pace::AsItComes),
                Odd::ToClient => (Pace::AsItComes, pace),
            };
            for (from, to, pace) in [(&client, &server, up), (&server, &client, down)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                to.set_nodelay(true).unwrap();
                // A peer may be gone at any time; then so is the way.
                thread::spawn(move || {
                    let _ = carry(&from, &to, pace);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, pace: Pace) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut gathered = Vec::new();
    if matches!(pace, Pace::Gather) {
        from.set_read_timeout(Some(QUIET))?;
    }
    let mut pieces = PIECES.into_iter().cycle();
    loop {
        let n = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                to.write_all(&gathered)?;
                gathered.clear();
                continue;
            }
            n => n?,
        };
        let mut read = &buffer[..n];
        match pace {
            Pace::AsItComes => to.write_all(read)?,
            Pace::Gather => gathered.extend_from_slice(read),
            Pace::Drip => {
                while !read.is_empty() {
                    let (piece, rest) = read.split_at(pieces.next().unwrap_or(1).min(read.len()));
                    to.write_all(piece)?;
                    thread::sleep(DRIP);
                    read = rest;
                }
            }
        }
        if n == 0 {
            return to.write_all(&gathered);
        }
    }
}
