//! Servers and clients killed at random moments, as processes: never a wrong file under its name.
//!
//! 6 rounds of gets, and of puts, in clear and with a passphrase; `SEMFIO_KILLS` sets another number.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::peers::{RUNTIMES, Server, semfio};
use crate::sparse::{is_same, put};

/// Numbers that follow from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// Which way a file goes.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Get,
    Put,
}

/// Whether it is sealed on its way.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Clear,
    Sealed,
}

impl Wire {
    /// The smallest file in MiB, and how many sizes there are. Ciphers that are not optimized take a
    /// second for 5 MiB.
    fn sizes(self) -> (u64, u64) {
        match self {
            Self::Sealed if cfg!(debug_assertions) => (1, 3),
            _ => (16, 80),
        }
    }
}

/// From one folder to the other, over this runtime.
struct Transfer<'t> {
    way: Way,
    runtime: &'t str,
    from: &'t Path,
    into: &'t Path,
    jobs: String,
    /// Of a sealed one.
    passphrase: Option<&'t Path>,
}

impl Transfer<'_> {
    fn serve(&self, address: &str) -> Server {
        let folder = match self.way {
            Way::Get => self.from,
            Way::Put => self.into,
        };
        let writable = (self.way == Way::Put).then_some("--writable");
        let passphrase = self.passphrase.map(|file| ["--passphrase-file", file.to_str().unwrap()]);
        let more: Vec<_> = writable.into_iter().chain(passphrase.into_iter().flatten()).collect();
        Server::files_with(&["--runtime", self.runtime], folder, address, &more)
    }

    fn start(&self, address: &str) -> Child {
        let mut command = semfio(&["--runtime", self.runtime, "file"]);
        match self.way {
            Way::Get => {
                command.args(["get", address, "big", "-f", "-j", &self.jobs, "-o"]).arg(self.into)
            }
            Way::Put => command.args(["put", address, "-f"]).arg(self.from.join("big")),
        };
        if let Some(passphrase) = self.passphrase {
            command.arg("--passphrase-file").arg(passphrase);
        }
        command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// One file, to its end, whatever happens on the way; gives how often somebody was killed.
fn round(way: Way, wire: Wire, seed: u64) -> u32 {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        dice.below(2);
    }
    let dir = tempfile::tempdir().unwrap();
    let (served, into) = (dir.path().join("served"), dir.path().join("got"));
    fs::create_dir(&served).unwrap();
    fs::create_dir(&into).unwrap();
    let (there, name) = (served.join("big"), into.join("big"));
    let (least, sizes) = wire.sizes();
    put(&there, seed, (least + dice.below(sizes)) * (1 << 20) + dice.below(3) * 777);
    // Another file that has the name already stays until it is replaced.
    let older = dir.path().join("older");
    put(&older, !seed, 1 << 20);
    let is_replaced = dice.below(2) == 0;
    if is_replaced {
        fs::copy(&older, &name).unwrap();
    }
    let runtime = RUNTIMES[usize::try_from(seed % 3).unwrap()];
    let jobs = (1 + dice.below(3)).to_string();
    let passphrase = dir.path().join("passphrase");
    fs::write(&passphrase, "areia e mar\n").unwrap();
    fs::set_permissions(&passphrase, PermissionsExt::from_mode(0o600)).unwrap();
    let passphrase = (wire == Wire::Sealed).then_some(&*passphrase);
    let transfer = Transfer { way, runtime, from: &served, into: &into, jobs, passphrase };
    let mut server = transfer.serve("127.0.0.1:0");
    let address = server.address.clone();
    let mut client = transfer.start(&address);
    let mut kills = 0;
    for _ in 0..1 + dice.below(4) {
        thread::sleep(Duration::from_millis(dice.below(400)));
        if client.try_wait().unwrap().is_some() {
            break;
        }
        kills += 1;
        match dice.below(2) {
            0 => {
                client.kill().unwrap();
                client.wait().unwrap();
                let untouched = match is_replaced {
                    true => is_same(&name, &older),
                    false => !name.exists(),
                };
                assert!(untouched || is_same(&name, &there), "a wrong file: {seed}");
                client = transfer.start(&address);
            }
            _ => {
                // Dropped is killed.
                drop(server);
                server = transfer.serve(&address);
            }
        }
    }
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = client.wait().unwrap().code();
    // One that came while there was no server, or one that died before its first word, which could be
    // another kind of server: the next attempt.
    if code != Some(0) {
        let none = ["cannot connect to", "the preface is wrong"];
        assert!(none.iter().any(|none| said.contains(none)), "{seed}: {said}");
        let mut client = transfer.start(&address);
        assert_eq!(client.wait().unwrap().code(), Some(0), "{seed}: {said}");
    }
    assert!(is_same(&name, &there), "another file: {seed}");
    let names = fs::read_dir(&into).unwrap().count();
    assert_eq!(names, 1, "something else is left: {seed}");
    kills
}

#[test]
fn whoever_is_killed_while_a_file_is_got_leaves_no_wrong_one() {
    rounds(Way::Get, Wire::Clear);
}

#[test]
fn whoever_is_killed_while_a_file_is_put_leaves_no_wrong_one() {
    rounds(Way::Put, Wire::Clear);
}

#[test]
fn whoever_is_killed_while_a_sealed_file_is_got_leaves_no_wrong_one() {
    rounds(Way::Get, Wire::Sealed);
}

#[test]
fn whoever_is_killed_while_a_sealed_file_is_put_leaves_no_wrong_one() {
    rounds(Way::Put, Wire::Sealed);
}

fn rounds(way: Way, wire: Wire) {
    let rounds = std::env::var("SEMFIO_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let kills: u32 = (0..rounds).map(|seed| round(way, wire, seed)).sum();
    println!("{rounds} files, {kills} times somebody was killed");
    assert!(kills > 0);
}
