//! Input, read no further ahead than it is sent.

use std::io::{self, BufRead as _, Read as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use semfio_netcat::{AHEAD, Junk};

use crate::failed::{Failed, NETWORK};
use crate::output::notice;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Pieces that may be on their way, so that the queue to the host is never full of them.
const PIECES: usize = 64;

/// The longest datagram of input: it fits into one packet on any link in use.
const DATAGRAM: u64 = 1400;

/// What was handed over and is not sent.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    bytes_and_pieces: Mutex<(usize, usize)>,
    fewer: Condvar,
}

impl Ahead {
    fn wait_for_room(&self, bytes: usize, most: usize) {
        let full = |&mut (held, pieces): &mut (usize, usize)| {
            pieces >= PIECES || pieces > 0 && held + bytes > most
        };
        let state = self.bytes_and_pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.fewer.wait_while(state, full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        *state = (state.0 + bytes, state.1 + 1);
    }

    /// A piece of so many bytes was sent.
    pub(crate) fn done(&self, bytes: usize) {
        let mut state = self.bytes_and_pieces.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0.saturating_sub(bytes), state.1.saturating_sub(1));
        self.fewer.notify_one();
    }
}

/// How input is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As it is read.
    Reads,
    /// By lines, each a datagram.
    Lines,
}

/// Reads stdin, or draws junk, in a thread of its own. `send` gets each piece, and `None` in the end; it
/// says whether somebody is there to take it.
pub(crate) fn start(
    junk: Option<Junk>,
    cut: Cut,
    ahead: Arc<Ahead>,
    send: impl Fn(Option<Vec<u8>>) -> bool + Send + 'static,
) -> Result<(), Failed> {
    // What waits for datagrams has a price for each, too.
    let most = if cut == Cut::Lines { AHEAD / 2 } else { AHEAD };
    let work = move || {
        let hand_over = |piece: Vec<u8>| {
            ahead.wait_for_room(piece.len(), most);
            send(Some(piece))
        };
        match junk {
            Some(mut junk) => drop(junk.all(hand_over)),
            None => read(cut, hand_over),
        }
        send(None);
    };
    let started = thread::Builder::new().name("semfio-input".into()).spawn(work);
    started.map(drop).map_err(|error| Failed::because(NETWORK, "cannot start a thread", error))
}

fn read(cut: Cut, hand_over: impl Fn(Vec<u8>) -> bool) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut piece = Vec::new();
        let read = match cut {
            Cut::Reads => {
                piece.resize(CHUNK, 0);
                stdin.read(&mut piece)
            }
            Cut::Lines => stdin.by_ref().take(DATAGRAM).read_until(b'\n', &mut piece),
        };
        match read {
            Ok(0) => return,
            Ok(n) => piece.truncate(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return notice(&format!("semfio: cannot read stdin: {error}")),
        }
        if !hand_over(piece) {
            return;
        }
    }
}
