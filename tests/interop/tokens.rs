//! The same tokens to Python's `cryptography` and to us, in both directions.

#[path = "../../core/keysync/tests/token/cases.rs"]
mod cases;

use semfio_keysync::{Key, Keyring, Policy};
use semfio_machine::UnixTime;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cases::Case;
use semfio_tests::{installed, skip};

/// One answer a line: `seal SECONDS PLAINTEXT` a token, `open TTL NOW TOKEN` its time and plaintext,
/// `rotate TOKEN` a token under the first of two keys. Octets are in hexadecimal with a mark before.
const PEER: &str = "
import sys
from cryptography.fernet import Fernet, MultiFernet
first, second = Fernet(sys.argv[1]), Fernet(sys.argv[2])
def octets(text):
    return bytes.fromhex(text[1:])
for line in sys.stdin:
    verb, *words = line.split()
    try:
        if verb == 'seal':
            answer = first.encrypt_at_time(octets(words[1]), int(words[0])).decode()
        elif verb == 'rotate':
            answer = MultiFernet([second, first]).rotate(octets(words[0])).decode()
        else:
            ttl, now, token = words[0], int(words[1]), octets(words[2])
            plain = first.decrypt(token) if ttl == '-' else first.decrypt_at_time(token, int(ttl), now)
            answer = '%d x%s' % (first.extract_timestamp(token), plain.hex())
    # Beside InvalidToken it raises ValueError where a token is signed and too short for its IV.
    except Exception as error:
        answer = '- ' + type(error).__name__
    print(answer, flush=True)
";

struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(first: &Key, second: &Key) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PEER, &first.to_text(), &second.to_text()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, ask, answers }
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.ask, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "python3 has ended");
        answer.trim_end().to_owned()
    }

    fn seal(&mut self, at: u64, plaintext: &[u8]) -> Vec<u8> {
        self.ask(&format!("seal {at} {}", hex(plaintext))).into_bytes()
    }

    /// The time and the plaintext as it shows them.
    fn open(&mut self, case: &Case) -> Option<String> {
        let ttl = case.ttl.map_or("-".to_owned(), |ttl| ttl.to_string());
        let answer = self.ask(&format!("open {ttl} {} {}", case.now, hex(&case.token)));
        let known = ["- InvalidToken", "- ValueError"].contains(&answer.as_str());
        assert!(known || !answer.starts_with('-'), "{answer}");
        (!known).then_some(answer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(octets: &[u8]) -> String {
    let digits = octets.iter().map(|octet| format!("{octet:02x}"));
    std::iter::once("x".to_owned()).chain(digits).collect()
}

fn open(key: &Key, case: &Case) -> Option<String> {
    let (mut out, now) = (Vec::new(), UnixTime::from_secs(case.now));
    let opened = key.open(&case.policy(Policy::PYTHON), now, &case.token, &mut out);
    opened.ok().map(|seconds| format!("{seconds} {}", hex(&out)))
}

fn key(n: u8) -> Key {
    Key::new(std::array::from_fn(|at| at as u8 * 3 + n))
}

fn is_there() -> bool {
    if !installed(&["python3"]) {
        return false;
    }
    let imports = Command::new("python3").args(["-c", "import cryptography.fernet"]).output();
    let there = imports.is_ok_and(|output| output.status.success());
    if !there {
        skip("python3 has no cryptography");
    }
    there
}

/// `SEMFIO_CASES` sets how many tokens are tried.
#[test]
fn python_and_we_agree_on_every_token() {
    if !is_there() {
        return;
    }
    let cases = std::env::var("SEMFIO_CASES").map_or(100_000, |cases| cases.parse().unwrap());
    let mut peer = Peer::start(&key(0), &key(1));
    let (mut opened, mut refused) = (0, 0);
    for number in 0..cases {
        let case = cases::case(number, &key(0), |at, plaintext| match number % 2 {
            0 => peer.seal(at, plaintext),
            _ => {
                let (mut token, iv) = (Vec::new(), u128::from(number).to_le_bytes());
                key(0).seal(UnixTime::from_secs(at), iv, plaintext, &mut token);
                token
            }
        });
        let (ours, theirs) = (open(&key(0), &case), peer.open(&case));
        let token = case.token.escape_ascii();
        assert_eq!(ours, theirs, "{number}: {token} at {}, TTL {:?}", case.now, case.ttl);
        *(if ours.is_some() { &mut opened } else { &mut refused }) += 1;
    }
    eprintln!("{opened} opened, {refused} refused");
    assert!(opened * 10 > cases && refused * 10 > cases, "{opened} and {refused} of {cases}");
}

#[test]
fn python_rotates_as_we_do() {
    if !is_there() {
        return;
    }
    let mut peer = Peer::start(&key(0), &key(1));
    let ring = Keyring::new(key(1), [key(0)]);
    let now = UnixTime::from_secs(1_700_000_000);
    for at in [0, 1_681_740_746, 1_700_000_500] {
        let token = peer.seal(at, b"kept");
        let theirs = peer.ask(&format!("rotate {}", hex(&token)));
        let mut ours = Vec::new();
        assert_eq!(ring.rotate(&Policy::PYTHON, now, [1; 16], &token, &mut ours), Ok(at));
        for rotated in [theirs.as_bytes(), &ours] {
            let mut out = Vec::new();
            assert_eq!(key(1).open(&Policy::PYTHON, now, rotated, &mut out), Ok(at));
            assert_eq!(out, b"kept");
            assert!(key(0).open(&Policy::PYTHON, now, rotated, &mut out).is_err());
        }
    }
}
