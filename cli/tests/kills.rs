//! Servers and clients killed at random moments, as processes: never a wrong file under its name.
//!
//! 6 rounds; `SEMFIO_KILLS` sets another number.

use std::fs;
use std::io::Read as _;
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

fn get(runtime: &str, address: &str, into: &Path, jobs: u64) -> Child {
    let jobs = jobs.to_string();
    let mut command = semfio(&["--runtime", runtime, "file", "get", address, "big", "-f"]);
    command.args(["-j", &jobs, "-o"]).arg(into).stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// One file, to its end, whatever happens on the way; gives how often somebody was killed.
fn round(seed: u64) -> u32 {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        dice.below(2);
    }
    let dir = tempfile::tempdir().unwrap();
    let (served, into) = (dir.path().join("served"), dir.path().join("got"));
    fs::create_dir(&served).unwrap();
    fs::create_dir(&into).unwrap();
    let (there, name) = (served.join("big"), into.join("big"));
    put(&there, seed, (16 + dice.below(80)) * (1 << 20) + dice.below(3) * 777);
    // Another file that has the name already stays until it is replaced.
    let older = dir.path().join("older");
    put(&older, !seed, 1 << 20);
    let is_replaced = dice.below(2) == 0;
    if is_replaced {
        fs::copy(&older, &name).unwrap();
    }
    let runtime = RUNTIMES[usize::try_from(seed % 3).unwrap()];
    let mut server = Server::files(&["--runtime", runtime], &served);
    let address = server.address.clone();
    let jobs = 1 + dice.below(3);
    let mut client = get(runtime, &address, &into, jobs);
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
                client = get(runtime, &address, &into, jobs);
            }
            _ => {
                // Dropped is killed.
                drop(server);
                server = Server::files_at(&["--runtime", runtime], &served, &address);
            }
        }
    }
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = client.wait().unwrap().code();
    // One that came while there was no server: the next attempt.
    if code != Some(0) {
        assert!(said.contains("cannot connect to"), "{seed}: {said}");
        let mut client = get(runtime, &address, &into, jobs);
        assert_eq!(client.wait().unwrap().code(), Some(0), "{seed}: {said}");
    }
    assert!(is_same(&name, &there), "another file: {seed}");
    let names = fs::read_dir(&into).unwrap().count();
    assert_eq!(names, 1, "something else is left: {seed}");
    kills
}

#[test]
fn whoever_is_killed_leaves_no_wrong_file() {
    let rounds = std::env::var("SEMFIO_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let kills: u32 = (0..rounds).map(round).sum();
    println!("{rounds} files, {kills} times somebody was killed");
    assert!(kills > 0);
}
