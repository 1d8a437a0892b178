//! h11 and httptools, in a process of Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use semfio_corpus::http_reading::Message;
use semfio_corpus::http_samples::Kind;
use semfio_tests::{installed, skip};

use crate::mutation::Case;

const PROGRAM: &str = include_str!("peer.py");

/// Cases in a batch: what is asked must fit into a pipe while the answers of the batch before are read.
const BATCH: usize = 32;

/// Who else reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    H11,
    Httptools,
}

pub(crate) const WHO: [Who; 2] = [Who::H11, Who::Httptools];

/// What one of them makes of a case.
#[derive(Clone, Debug)]
pub(crate) struct Theirs {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: TheirEnd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TheirEnd {
    Waits,
    Over,
    HandedOver,
    /// It does not know what was asked.
    CannotTell,
    Refuses(String),
}

pub(crate) struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether both are there; skips the test otherwise.
pub(crate) fn is_there() -> bool {
    if !installed(&["python3"]) {
        return false;
    }
    let import = "import h11, httptools; print(h11.__version__, httptools.__version__)";
    let output = Command::new("python3").args(["-c", import]).output().unwrap();
    let versions = String::from_utf8_lossy(&output.stdout);
    // Others read some of the messages otherwise.
    let known = versions.starts_with("0.16.") && versions.contains(" 0.9.");
    if !known {
        skip(&format!("h11 0.16 and httptools 0.9 of Python are wanted, there is {versions:?}"));
    }
    known
}

impl Peer {
    pub(crate) fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = child.stdin.take().unwrap();
        let answers = BufReader::with_capacity(1 << 16, child.stdout.take().unwrap());
        Self { child, ask, answers }
    }

    /// Has them read all cases, and tells of each.
    pub(crate) fn read(&mut self, cases: &[Case], mut tell: impl FnMut(&Case, [Theirs; 2])) {
        for batch in cases.chunks(BATCH) {
            let mut asked = Vec::new();
            for (nth, case) in batch.iter().enumerate() {
                let mut kind = match case.kind {
                    Kind::Requests => 0,
                    Kind::Response => 1,
                    Kind::ResponseToHead => 2,
                };
                kind |= if case.ends { 0x80 } else { 0 };
                kind |= if nth + 1 == batch.len() { 0x40 } else { 0 };
                asked.push(kind);
                asked.extend(u32::try_from(case.bytes.len()).unwrap().to_be_bytes());
                asked.extend_from_slice(&case.bytes);
            }
            self.ask.write_all(&asked).unwrap();
            for case in batch {
                let mut line = String::new();
                self.answers.read_line(&mut line).unwrap();
                let (h11, httptools) =
                    line.trim_end_matches('\n').split_once('\t').unwrap_or_else(|| {
                        panic!(
                            "Python ends with {line:?} at {:?}",
                            case.bytes.escape_ascii().to_string()
                        )
                    });
                tell(case, [theirs(h11), theirs(httptools)]);
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn theirs(text: &str) -> Theirs {
    let (messages, end) = text.split_once('|').unwrap();
    let end = match end {
        "waits" => TheirEnd::Waits,
        "over" => TheirEnd::Over,
        "handed over" => TheirEnd::HandedOver,
        "cannot be told" => TheirEnd::CannotTell,
        other => TheirEnd::Refuses(other.strip_prefix("refuses ").unwrap().to_owned()),
    };
    Theirs { messages: messages.split_whitespace().map(message).collect(), end }
}

fn message(text: &str) -> Message {
    let parts: Vec<&str> = text.split(';').collect();
    let [start, version, fields, body, trailers, keeps] = parts[..] else {
        panic!("not a message: {text}")
    };
    let version = match version {
        "1.0" => "1.0",
        "1.1" => "1.1",
        _ => "another",
    };
    Message {
        start: octets(start),
        version,
        fields: pairs(fields),
        body: octets(body),
        trailers: pairs(trailers),
        keeps: keeps == "keep",
    }
}

fn pairs(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (octets(name), octets(value))).collect()
}

fn octets(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let text = if text == "-" { "" } else { text };
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
