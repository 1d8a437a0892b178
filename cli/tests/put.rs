//! Files that are put.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{Ended, RUNTIMES, Server, run, semfio};
use crate::sparse::{self, GROUP, is_same};

const ANY_PORT: &str = "127.0.0.1:0";

/// Folders of a server and of a client.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["there", "here/sub/deep", "here/sub/vazio"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self(dir)
    }

    fn there(&self, name: &str) -> PathBuf {
        self.0.path().join("there").join(name)
    }

    fn here(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join("here").join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn serve(&self, args: &[&str]) -> Server {
        Server::writable(args, &self.there(""), ANY_PORT)
    }

    /// What is in the server's folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.there("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// In milliseconds.
fn modified(path: &Path) -> u128 {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    time.duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn put(before: &[&str], server: &Server, after: &[&str]) -> Ended {
    run(&[before, &["file", "put", &server.address], after].concat(), "")
}

/// Bytes no two groups of which are the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

fn records(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn files_and_folders_are_put_as_they_are() {
    for runtime in RUNTIMES {
        let folders = Folders::new();
        let iguana = folders.here("iguana.jpg", pattern(300_001));
        let empty = folders.here("empty", "");
        folders.here("sub/a b", pattern(65_536));
        folders.here("sub/deep/c", "c");
        let sub = folders.0.path().join("here/sub");
        let sub = sub.to_str().unwrap();
        for (name, old) in [("iguana.jpg", 1_234_567_890_123), ("sub/deep/c", 1)] {
            let file =
                fs::File::options().write(true).open(folders.0.path().join("here").join(name));
            file.unwrap().set_modified(UNIX_EPOCH + Duration::from_millis(old)).unwrap();
        }
        let server = folders.serve(&["--runtime", runtime]);
        let args = [&*iguana, &empty, sub];
        let done = put(&["--runtime", runtime], &server, &args);
        assert_eq!(done.code, Some(0), "{runtime}: {done:?}");
        assert!(done.err.contains("iguana.jpg: 292.97 KiB, whole"), "{}", done.err);
        assert!(done.err.contains("empty: 0 B, whole"), "{}", done.err);
        assert_eq!(folders.names(), ["empty", "iguana.jpg", "sub"], "{}", done.err);
        for name in ["iguana.jpg", "empty", "sub/a b", "sub/deep/c"] {
            let here = folders.0.path().join("here").join(name);
            assert!(fs::read(folders.there(name)).unwrap() == fs::read(&here).unwrap(), "{name}");
            assert_eq!(modified(&folders.there(name)), modified(&here), "{name}");
        }
        assert!(folders.there("sub/vazio").is_dir(), "{}", done.err);
        let again = put(&["--runtime", runtime], &server, &[&iguana]);
        assert_eq!((again.code, &*again.err), (Some(0), "iguana.jpg: 292.97 KiB, there already\n"));
        let log = server.stop(Signal::TERM, 0);
        assert!(log.contains("put with: semfio file put 127.0.0.1:"), "{log}");
        assert!(log.contains("whoever can connect may put files here"), "{log}");
        assert!(log.contains("put iguana.jpg, 292.97 KiB"), "{log}");
        assert!(log.contains("put iguana.jpg, which was there already"), "{log}");
    }
}

#[test]
fn what_a_server_refuses_is_told_with_what_could_help() {
    let folders = Folders::new();
    let a = folders.here("a", "mine");
    let read_only = Server::files(&[], &folders.there(""));
    let refused = put(&[], &read_only, &[&a]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("cannot put a: nothing is taken here\nhint:"), "{}", refused.err);
    assert!(refused.err.contains("--writable"), "{}", refused.err);
    assert!(folders.names().is_empty());

    let server = folders.serve(&[]);
    fs::write(folders.there("a"), "there").unwrap();
    let refused = put(&[], &server, &[&a]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("hint: --force replaces"), "{}", refused.err);
    assert_eq!(fs::read_to_string(folders.there("a")).unwrap(), "there");
    assert_eq!(put(&[], &server, &[&a, "--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(folders.there("a")).unwrap(), "mine");
    // Under other names.
    assert_eq!(put(&[], &server, &[&a, "-o", "b"]).code, Some(0));
    assert_eq!(put(&[], &server, &[&a, "-o", "new/folder/"]).code, Some(0));
    assert_eq!(folders.names(), ["a", "b", "new"]);
    assert_eq!(fs::read_to_string(folders.there("new/folder/a")).unwrap(), "mine");
    let hidden = put(&[], &server, &[&a, "-o", ".bashrc"]);
    assert_eq!(hidden.code, Some(1), "{hidden:?}");
    assert!(hidden.err.contains("the name is not safe\nhint: "), "{}", hidden.err);
    // Nothing that could be put: nobody is asked.
    let none = folders.there("none");
    for (args, code, words) in [
        (&[none.to_str().unwrap()][..], 1, "cannot put"),
        (&[&*a, &*a, "-o", "one"], 2, "hint: a folder ends in a slash"),
        (&[&*a, "-o", "../x"], 2, "never up"),
        (&["/"], 2, "it has no name"),
        (&[], 2, "<PATH>"),
    ] {
        let ended = run(&[&["file", "put", "127.0.0.1:1"], args].concat(), "");
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
    }
    let gone = run(&["file", "put", "127.0.0.1:1", &a], "");
    assert_eq!(gone.code, Some(3), "{gone:?}");
    assert!(gone.err.contains("cannot connect to 127.0.0.1:1: connection refused"), "{}", gone.err);
    // One name from two folders.
    let other = folders.here("sub/a", "other");
    let twice = put(&[], &server, &[&a, &other, "-f"]);
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert_eq!(fs::read_to_string(folders.there("a")).unwrap(), "mine");
}

/// Starts to put `big`, and ends it by `signal` once so much is verified; gives its exit code, what
/// was verified, and what it said.
fn cut(
    before: &[&str],
    address: &str,
    big: &str,
    at: u64,
    signal: Signal,
) -> (Option<i32>, u64, String) {
    let args = [before, &["--json", "file", "put", address, big]].concat();
    let mut command = semfio(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut verified = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(record) = serde_json::from_str::<Value>(&line.unwrap()) else { break };
        assert_ne!(record["type"], "done", "it was too fast to be cut");
        if record["type"] == "progress" && verified < at {
            verified = record["verified"].as_u64().unwrap();
            if verified >= at {
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
        }
    }
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), verified, err)
}

/// Either side is killed.
#[test]
fn what_was_killed_is_resumed_and_little_is_sent_again() {
    const LEN: u64 = 256 << 20;
    let folders = Folders::new();
    let big = folders.here("big", "");
    sparse::put(Path::new(&big), 1, LEN);
    for (n, runtime) in RUNTIMES.into_iter().enumerate() {
        let mut server = folders.serve(&["--runtime", runtime]);
        let before = ["--runtime", runtime];
        let (code, verified, _) = cut(&before, &server.address, &big, LEN / 8, Signal::KILL);
        assert_eq!(code, None);
        let names = folders.names();
        assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");
        if n == 0 {
            let address = server.address.clone();
            drop(server);
            server = Server::writable(&before, &folders.there(""), &address);
        }
        let again = put(&["--runtime", runtime, "--json"], &server, &[&big]);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert!(is_same(Path::new(&big), &folders.there("big")));
        assert_eq!(folders.names(), ["big"]);
        let records = records(&again.out);
        let done = records.iter().find(|record| record["type"] == "done").unwrap();
        let (sent, bound) = (done["sent"].as_u64().unwrap(), LEN - verified + LEN / 100 + GROUP);
        assert!(sent < bound, "{runtime}: {sent} went, {verified} were verified");
        fs::remove_file(folders.there("big")).unwrap();
        server.stop(Signal::TERM, 0);
    }
}

#[test]
fn an_interrupt_leaves_what_went_and_tells_how_to_go_on() {
    const LEN: u64 = 256 << 20;
    let folders = Folders::new();
    let big = folders.here("big", "");
    sparse::put(Path::new(&big), 1, LEN);
    let server = folders.serve(&[]);
    for runtime in RUNTIMES {
        let before = ["--runtime", runtime];
        let (code, _, err) = cut(&before, &server.address, &big, LEN / 8, Signal::INT);
        assert_eq!(code, Some(130), "{err}");
        let command = err.strip_prefix("go on with: ").unwrap_or_else(|| panic!("{err}")).trim();
        // As a shell takes it.
        let again = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        assert_eq!(again.status.code(), Some(0), "{again:?}");
        let records = records(&String::from_utf8(again.stdout).unwrap());
        let begun = records.iter().find(|record| record["type"] == "begun").unwrap();
        assert!(begun["resumed"].as_u64().unwrap() >= LEN / 8, "{begun}");
        assert!(is_same(Path::new(&big), &folders.there("big")));
        fs::remove_file(folders.there("big")).unwrap();
    }
}

#[test]
fn a_recorded_put_replays() {
    let folders = Folders::new();
    let a = folders.here("a", pattern(200_000));
    folders.here("sub/b", "b");
    let sub = folders.0.path().join("here/sub");
    let sub = sub.to_str().unwrap();
    for runtime in RUNTIMES {
        let of = |name: &str| folders.0.path().join(format!("{runtime}.{name}"));
        let (serve, trace) = (of("serve"), of("put"));
        let args = ["--runtime", runtime, "--record", serve.to_str().unwrap()];
        let server = folders.serve(&args);
        let args = ["--runtime", runtime, "--record", trace.to_str().unwrap()];
        let done = put(&args, &server, &[&a, sub, "-f"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        server.stop(Signal::TERM, 0);
        for trace in [serve, trace] {
            let replayed = run(&["replay", trace.to_str().unwrap()], "");
            assert_eq!(replayed.code, Some(0), "{runtime} {}: {replayed:?}", trace.display());
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
        }
    }
}

#[test]
fn a_quota_is_kept() {
    const LEN: u64 = 1 << 30;
    let folders = Folders::new();
    let big = folders.here("big", "");
    fs::File::create(&big).unwrap().set_len(LEN).unwrap();
    let small = folders.here("small", "small");
    let server = Server::quota(&folders.there(""), "1");
    let ended = put(&["--json"], &server, &[&big, &small]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("cannot put big: no space is left"), "{}", ended.err);
    assert_eq!(folders.names(), ["small"], "{ended:?}");
    let records = records(&ended.out);
    assert_eq!(
        (&records[0]["v"], records.last().unwrap()["type"].as_str()),
        (&1.into(), Some("over"))
    );
}
