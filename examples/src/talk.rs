//! The client every example is tried with.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What the client sends, a line each, and what it wants to hear.
pub const DIALOGUE: &[(&str, &str)] = &[
    ("2 + 3", "= 5"),
    ("* 8", "= 40"),
    ("/ 0", "? no such number"),
    ("hello", "? write: 2 + 3"),
    ("- 42", "= -2"),
    ("quit", "bye"),
];

/// Has the [`DIALOGUE`] with the server at `address`, each line cut in two, and prints it.
///
/// # Errors
///
/// What the system says, or `InvalidData` with the first answer that is not as expected.
pub fn talk(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(&stream).lines();
    for (line, expected) in DIALOGUE {
        let (head, tail) = line.split_at(line.len() / 2);
        (&stream).write_all(head.as_bytes())?;
        (&stream).write_all(format!("{tail}\n").as_bytes())?;
        let answer = answers.next().transpose()?.unwrap_or_default();
        println!("{line:12} {answer}");
        expect(&answer, expected)?;
    }
    match answers.next() {
        None => Ok(()),
        Some(more) => expect(&more?, "the end"),
    }
}

/// Fails unless `answer` is `expected`.
///
/// # Errors
///
/// `InvalidData`, with both.
pub fn expect(answer: &str, expected: &str) -> io::Result<()> {
    if answer == expected {
        return Ok(());
    }
    let what = format!("expected {expected:?}, got {answer:?}");
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}
