//! Files served, listed, got and resumed.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{Ended, RUNTIMES, Server, run, semfio};
use crate::sparse::{self, GROUP, is_same};

/// Folders of a server and of a client.
struct Folders {
    dir: TempDir,
}

impl Folders {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["served/sub/deep", "got"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    fn served(&self) -> std::path::PathBuf {
        self.dir.path().join("served")
    }

    fn got(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("got").join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.served().join(name), content).unwrap();
    }

    /// Runs `file get`, saving into the client's folder.
    fn get(&self, before: &[&str], server: &Server, after: &[&str]) -> Ended {
        let into = self.got("");
        let args = [before, &["file", "get", &server.address, "-o", path(&into)], after].concat();
        run(&args, "")
    }

    /// What is in the client's folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.got("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes no two groups of which are the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

fn records(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn files_and_folders_arrive_as_they_are() {
    for runtime in RUNTIMES {
        let folders = Folders::new();
        folders.put("iguana.jpg", pattern(300_001));
        folders.put("empty", "");
        folders.put("fim", "it ends in OK");
        folders.put("sub/a b", pattern(65_536));
        folders.put("sub/deep/c", "c");
        folders.put(".secret", "not served");
        let old = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        for name in ["iguana.jpg", "sub/deep/c"] {
            let file = fs::File::options().write(true).open(folders.served().join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        let server = Server::files(&["--runtime", runtime], &folders.served());
        let before = ["--runtime", runtime];
        let names = ["iguana.jpg", "empty", "leao.jpg", "fim", "sub/", ".secret"];
        let got = folders.get(&before, &server, &[&names[..], &["--jobs", "3"]].concat());
        assert_eq!(got.code, Some(1), "{runtime}: {got:?}");
        assert!(got.err.contains("cannot get leao.jpg: there is no such name"), "{}", got.err);
        assert!(got.err.contains("iguana.jpg: 292.97 KiB, whole"), "{}", got.err);
        assert_eq!(folders.names(), ["empty", "fim", "iguana.jpg", "sub"], "{}", got.err);
        for name in ["iguana.jpg", "empty", "fim", "sub/a b", "sub/deep/c"] {
            let (there, here) = (folders.served().join(name), folders.got(name));
            assert!(fs::read(there).unwrap() == fs::read(here).unwrap(), "{name}");
        }
        for name in ["iguana.jpg", "sub/deep/c"] {
            assert_eq!(fs::metadata(folders.got(name)).unwrap().modified().unwrap(), old, "{name}");
        }
        let log = server.stop(Signal::TERM, 0);
        for line in ["gets iguana.jpg", "leao.jpg: there is no such name", "stopped"] {
            assert!(log.contains(line), "{log}");
        }
    }
}

#[test]
fn what_is_there_is_kept_unless_it_shall_be_replaced() {
    let folders = Folders::new();
    folders.put("a", "the right one");
    let server = Server::files(&[], &folders.served());
    fs::write(folders.got("a"), "mine").unwrap();
    let got = folders.get(&[], &server, &["a"]);
    assert_eq!(got.code, Some(1));
    assert!(got.err.contains("there is a file of that name"), "{}", got.err);
    assert!(got.err.contains("hint: --force"), "{}", got.err);
    assert_eq!(fs::read_to_string(folders.got("a")).unwrap(), "mine");
    assert_eq!(folders.get(&[], &server, &["a", "--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(folders.got("a")).unwrap(), "the right one");
    let again = folders.get(&[], &server, &["a"]);
    assert_eq!((again.code, &*again.err), (Some(0), "a: 13 B, there already\n"));
    // Under another name.
    let other = folders.got("b");
    let args = ["file", "get", &server.address, "a", "-o", path(&other)];
    assert_eq!(run(&args, "").code, Some(0));
    assert_eq!(fs::read_to_string(other).unwrap(), "the right one");
    assert_eq!(folders.names(), ["a", "b"]);
    // Of what is no file, not even with --force.
    let folder = folders.got("folder");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(folder.join("a")).unwrap();
    for link in ["/dev/null", "nowhere"] {
        std::os::unix::fs::symlink(link, folder.join(link.replace('/', "-"))).unwrap();
    }
    for name in ["a", "-dev-null", "nowhere"] {
        let to = folder.join(name);
        for args in [&["-o", path(&to)][..], &["-o", path(&to), "--force"]] {
            // What is a folder is saved into.
            let args = if name == "a" { &["-o", path(&folder), "--force"] } else { args };
            let refused = run(&[&["file", "get", &server.address, "a"], args].concat(), "");
            assert_eq!(refused.code, Some(1), "{name}: {refused:?}");
            assert!(refused.err.contains("it is no file\nhint: only files are"), "{refused:?}");
        }
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    assert_eq!(fs::read_link(folder.join("nowhere")).unwrap(), Path::new("nowhere"));
}

#[test]
fn one_file_goes_to_stdout() {
    let folders = Folders::new();
    folders.put("big", pattern(9_000_000));
    folders.put("empty", "");
    let server = Server::files(&[], &folders.served());
    for runtime in RUNTIMES {
        let mut get = semfio(&["--runtime", runtime, "file", "get", &server.address, "big"]);
        let mut child = get.args(["-o", "-"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 10];
        out.read_exact(&mut first).unwrap();
        // A reader that takes its time holds the rest back.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut all = first.to_vec();
        out.read_to_end(&mut all).unwrap();
        assert!(all == pattern(9_000_000), "{runtime}: {} bytes", all.len());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let get = |name| run(&["file", "get", &server.address, name, "-o", "-"], "");
        let empty = get("empty");
        assert_eq!((empty.code, &*empty.out, &*empty.err), (Some(0), "", ""));
        let none = get("none");
        assert_eq!((none.code, &*none.out), (Some(1), ""), "{}", none.err);
        assert_eq!(get("sub").code, Some(1));
    }
    for more in [&["empty"][..], &["--json"], &["--course"]] {
        let args = [&["file", "get", &server.address, "big", "-o", "-"], more].concat();
        let ended = run(&args, "");
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{}", ended.err);
        assert!(ended.err.contains("cannot write to stdout"), "{}", ended.err);
    }
}

#[test]
fn a_folder_is_listed() {
    let folders = Folders::new();
    folders.put("iguana.jpg", pattern(34_567));
    folders.put("sub/a", "a");
    let server = Server::files(&[], &folders.served());
    for runtime in RUNTIMES {
        let list = |more: &[&str]| {
            let args = ["--runtime", runtime, "file", "list", &server.address];
            run(&[&args, more].concat(), "")
        };
        let all = list(&[]);
        assert_eq!((all.code, &*all.err), (Some(0), ""));
        let lines: Vec<&str> = all.out.lines().collect();
        assert!(lines[0].starts_with(" 33.76 KiB  2"), "{}", all.out);
        assert!(lines[0].ends_with("Z  iguana.jpg") && lines[1].ends_with("  sub/"), "{}", all.out);
        let inside = list(&["sub/"]).out;
        assert!(inside.contains("  sub/a\n") && inside.ends_with("  sub/deep/\n"), "{inside}");
        assert!(list(&["sub/a"]).out.starts_with("       1 B"));
        let none = list(&["none"]);
        assert_eq!((none.code, &*none.out), (Some(1), ""), "{}", none.err);
        let records = records(&list(&["--json"]).out);
        assert_eq!(records[0]["v"], 1);
        assert_eq!(
            (&records[0]["name"], &records[0]["size"]),
            (&"iguana.jpg".into(), &34_567.into())
        );
        assert_eq!((&records[1]["kind"], &records[2]["type"]), (&"folder".into(), &"over".into()));
    }
}

#[test]
fn the_course_dialect_is_spoken_and_its_end_is_certain() {
    let folders = Folders::new();
    folders.put("Iguana.jpg", pattern(100_000));
    folders.put("ok", "it ends in OK");
    for runtime in RUNTIMES {
        let server = Server::files(&["--runtime", runtime], &folders.served());
        let before = ["--runtime", runtime];
        let got = folders.get(&before, &server, &["--course", "iguana.jpg", "leao.jpg", "ok"]);
        assert_eq!(got.code, Some(1), "{got:?}");
        assert!(got.err.contains("cannot get leao.jpg: there is no such name"), "{}", got.err);
        assert_eq!(folders.names(), ["iguana.jpg", "ok"]);
        assert!(fs::read(folders.got("iguana.jpg")).unwrap() == pattern(100_000));
        assert_eq!(fs::read_to_string(folders.got("ok")).unwrap(), "it ends in OK");
        server.stop(Signal::TERM, 0);
        fs::remove_file(folders.got("iguana.jpg")).unwrap();
        fs::remove_file(folders.got("ok")).unwrap();
    }
    // One that closes in the middle.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cutting = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut asked = [0; 64];
        assert!(peer.read(&mut asked).unwrap() > 0);
        peer.write_all(b"half of it").unwrap();
    });
    let into = folders.got("");
    let got = run(&["file", "get", &address, "--course", "x.jpg", "-o", path(&into)], "");
    cutting.join().unwrap();
    assert_eq!(got.code, Some(3), "{got:?}");
    assert!(got.err.contains("after 10 B") && got.err.contains("kept in"), "{}", got.err);
    let names = folders.names();
    assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");
    assert_eq!(fs::read(folders.got(&names[0])).unwrap(), b"half of it");
}

/// A server that takes whoever comes and never says anything.
#[test]
fn what_waits_is_stopped_by_either_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let folders = Folders::new();
    let into = folders.got("");
    for args in [
        &["get", &address, "a", "-o", path(&into)][..],
        &["get", &address, "a", "-o", "-"],
        &["get", &address, "a", "b", "--course", "-o", path(&into)],
        &["list", &address],
    ] {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 1)] {
            let child = semfio(&["file"]).args(args).stderr(Stdio::piped()).spawn().unwrap();
            let (peer, _) = listener.accept().unwrap();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
            drop(peer);
        }
    }
    assert!(folders.names().is_empty(), "{:?}", folders.names());
}

/// What can go wrong before anything comes is told, with what could help.
#[test]
fn errors_have_a_code_a_line_and_a_hint() {
    let folders = Folders::new();
    folders.put("a", "a");
    let server = Server::files(&[], &folders.served());
    let refused = "127.0.0.1:1";
    let none = folders.got("none/x");
    let file = folders.served().join("a");
    for (args, code, words) in [
        (&["get", refused, "a"][..], 3, "cannot connect to 127.0.0.1:1: connection refused\nhint:"),
        (&["list", refused], 3, "cannot connect to 127.0.0.1:1: connection refused\nhint:"),
        (&["get", refused, "a", "-o", "-"], 3, "cannot connect to"),
        (&["get", refused, "a", "--course"], 3, "cannot connect to"),
        (&["get", refused, "/etc/passwd"], 2, "without /"),
        (&["get", refused, "../a"], 2, "never up"),
        (&["get", refused, "a\u{1b}b"], 2, "control character"),
        (&["get", refused], 2, "<NAME>"),
        (&["get", "127.0.0.1:8003/a"], 2, "the name apart: 127.0.0.1:8003 a"),
        (&["get", "http://127.0.0.1:8003", "a"], 2, "127.0.0.1:8003, without http://"),
        (&["get", refused, "a b", "--course"], 2, "without spaces"),
        (&["get", refused, "a", "-o", "x\u{1b}[31m"], 2, "cannot save to x\\u{1b}[31m: the name"),
        (&["get", refused, "a", "-o", "no one/a"], 2, "hint: make it first: mkdir -p 'no one'\n"),
        (&["get", &server.address, "a", "-o", path(&none)], 2, "hint: make it first: mkdir -p"),
        (&["get", refused, "a", "b", "-o", path(&file)], 2, "it is no folder"),
        (&["serve", path(&none)], 2, "cannot serve"),
        (&["serve", path(&file)], 2, "hint: a folder is served"),
        (
            &["serve", path(&folders.served()), "--listen", &server.address],
            3,
            "hint: another program",
        ),
    ] {
        let ended = run(&[&["file"], args].concat(), "");
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {}", ended.err);
        assert!(ended.out.is_empty(), "{args:?}: {}", ended.out);
    }
    assert!(folders.names().is_empty());
    // As the course's server meets us: it does not know what we say, and closes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let course = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        assert!(peer.read(&mut [0; 1024]).unwrap() > 0);
    });
    let got = run(&["file", "get", &address, "a"], "");
    course.join().unwrap();
    assert_eq!(got.code, Some(4), "{got:?}");
    assert!(got.err.contains("file get --course"), "{}", got.err);
}

/// Starts to get `big`, and ends it by `signal` once so much is verified; gives its exit code, what
/// was verified, and what it said.
fn cut(
    before: &[&str],
    address: &str,
    into: &Path,
    at: u64,
    signal: Signal,
) -> (Option<i32>, u64, String) {
    let args = [before, &["--json", "file", "get", address, "big", "-o", path(into)]].concat();
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

#[test]
fn what_was_killed_is_resumed_and_little_is_sent_again() {
    const LEN: u64 = 384 << 20;
    let folders = Folders::new();
    let served = folders.served().join("big");
    sparse::put(&served, 1, LEN);
    for (runtime, jobs) in RUNTIMES.into_iter().zip(["1", "1", "3"]) {
        let server = Server::files(&["--runtime", runtime], &folders.served());
        let before = ["--runtime", runtime];
        let (code, verified, _) =
            cut(&before, &server.address, &folders.got(""), LEN / 2, Signal::KILL);
        assert_eq!(code, None);
        let names = folders.names();
        assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");
        let again = folders.get(&["--runtime", runtime, "--json"], &server, &["big", "-j", jobs]);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert!(is_same(&served, &folders.got("big")));
        assert_eq!(folders.names(), ["big"]);
        let records = records(&again.out);
        let done = records.iter().find(|record| record["type"] == "done").unwrap();
        let (received, bound) =
            (done["received"].as_u64().unwrap(), LEN - verified + LEN / 100 + GROUP);
        assert!(received < bound, "{runtime}: {received} came, {verified} were verified");
        fs::remove_file(folders.got("big")).unwrap();
        server.stop(Signal::TERM, 0);
    }
}

/// The most memory it has had, in bytes; none once it has ended.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// 8 MiB above what the program needs to be there at all.
#[test]
fn neither_side_holds_more_of_a_large_file() {
    const MORE: u64 = 8 << 20;
    let folders = Folders::new();
    sparse::put(&folders.served().join("big"), 1, 256 << 20);
    for runtime in RUNTIMES {
        let server = Server::files(&["--runtime", runtime], &folders.served());
        let idle = peak(server.id()).unwrap();
        let into = folders.got("");
        for more in [&["-fo", path(&into)][..], &["-j", "3", "-fo", path(&into)], &["-o", "-"]] {
            let mut get = semfio(&["--runtime", runtime, "file", "get", &server.address, "big"]);
            get.args(more).stdout(Stdio::null()).stderr(Stdio::null());
            let mut get = get.spawn().unwrap();
            let mut most = 0;
            while get.try_wait().unwrap().is_none() {
                most = most.max(peak(get.id()).unwrap_or(0));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert!(most > 0 && most < idle + MORE, "{runtime} {more:?}: {most} of {idle}");
            let _ = fs::remove_file(folders.got("big"));
        }
        let most = peak(server.id()).unwrap();
        assert!(most < idle + MORE, "{runtime}: {most} of {idle}");
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_is_gone_on_with() {
    const LEN: u64 = 384 << 20;
    let folders = Folders::new();
    sparse::put(&folders.served().join("big"), 1, LEN);
    let server = Server::files(&[], &folders.served());
    let address = server.address.clone();
    let into = folders.got("");
    let mut get = semfio(&["--json", "file", "get", &address, "big", "-o", path(&into)]);
    let mut get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut servers = vec![server];
    let mut records = Vec::new();
    for line in BufReader::new(get.stdout.take().unwrap()).lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if record["type"] == "progress" && servers.len() == 1 {
            // Dropped is killed.
            servers.clear();
            servers.push(Server::files_with(&[], &folders.served(), &address, &[]));
            servers.push(Server::files(&[], &folders.served()));
        }
        records.push(record);
    }
    assert_eq!(get.wait().unwrap().code(), Some(0), "{records:?}");
    let count = |kind: &str| records.iter().filter(|record| record["type"] == kind).count();
    assert_eq!((count("lost"), count("begun"), count("done")), (1, 1, 1), "{records:?}");
    let done = records.iter().find(|record| record["type"] == "done").unwrap();
    let received = done["received"].as_u64().unwrap();
    // What was on its way is sent again, and no more.
    assert!(received < LEN + LEN / 100 + 10 * (1 << 20), "{received}");
    assert!(is_same(&folders.served().join("big"), &folders.got("big")));
    assert_eq!(folders.names(), ["big"]);
}

#[test]
fn an_interrupt_keeps_what_came_and_tells_how_to_go_on() {
    const LEN: u64 = 384 << 20;
    let folders = Folders::new();
    sparse::put(&folders.served().join("big"), 1, LEN);
    let server = Server::files(&[], &folders.served());
    for runtime in RUNTIMES {
        let before = ["--runtime", runtime];
        let (signal, expected) =
            if runtime == "smol" { (Signal::TERM, 1) } else { (Signal::INT, 130) };
        let (code, _, err) = cut(&before, &server.address, &folders.got(""), LEN / 8, signal);
        assert_eq!(code, Some(expected), "{err}");
        let command = err.strip_prefix("go on with: ").unwrap_or_else(|| panic!("{err}")).trim();
        let names = folders.names();
        assert!(names.len() == 1 && names[0].ends_with(".part"), "{names:?}");
        // As a shell takes it.
        let again = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        assert_eq!(again.status.code(), Some(0));
        let records = records(&String::from_utf8(again.stdout).unwrap());
        let begun = records.iter().find(|record| record["type"] == "begun").unwrap();
        assert!(begun["resumed"].as_u64().unwrap() >= LEN / 8, "{begun}");
        assert!(is_same(&folders.served().join("big"), &folders.got("big")));
        fs::remove_file(folders.got("big")).unwrap();
    }
}

#[test]
fn every_record_of_files_has_a_type_and_the_first_the_schema() {
    let folders = Folders::new();
    folders.put("a", pattern(100_000));
    let mut serve = semfio(&["--json", "file", "serve", "--listen", "127.0.0.1:0"]);
    let mut serve = serve.arg(folders.served()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&listening["type"], &listening["v"]), (&"listening".into(), &1.into()));
    let address = listening["address"].as_str().unwrap();
    let into = folders.got("");
    for (more, last) in [(&[][..], "over"), (&["--course"], "done")] {
        let args = ["--json", "file", "get", address, "a", "-f", "-o", path(&into)];
        let got = run(&[&args, more].concat(), "");
        assert_eq!((got.code, &*got.err), (Some(0), ""));
        let records = records(&got.out);
        assert_eq!(records[0]["v"], 1, "{records:?}");
        assert!(records[1..].iter().all(|record| record.get("v").is_none()));
        assert!(records.iter().all(|record| record["type"].is_string()), "{records:?}");
        assert_eq!(records.last().unwrap()["type"], last);
    }
    kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    for kind in ["served", "sending", "sent", "stopped"] {
        assert!(rest.iter().any(|record| record["type"] == kind), "{kind}: {rest:?}");
    }
    assert_eq!(serve.wait().unwrap().code(), Some(0));
}

#[test]
fn a_recorded_transfer_replays() {
    let folders = Folders::new();
    folders.put("a", pattern(200_000));
    folders.put("sub/b", "b");
    let trace = |name: &str| folders.dir.path().join(name);
    for runtime in RUNTIMES {
        let of = |name: &str| trace(&format!("{runtime}.{name}"));
        let record = |name: &str| {
            let to = of(name).to_str().unwrap().to_owned();
            ["--runtime".to_owned(), runtime.to_owned(), "--record".to_owned(), to]
        };
        let args = record("serve");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let server = Server::files(&args, &folders.served());
        let into = folders.got("");
        let (address, into) = (&*server.address, path(&into));
        for (name, args) in [
            ("get", &["file", "get", address, "a", "sub", "none", "-fo", into][..]),
            ("pour", &["file", "get", address, "a", "-o", "-"]),
            ("list", &["file", "list", address]),
            ("course", &["file", "get", address, "a", "--course", "-fo", into]),
        ] {
            let recorded = record(name);
            let recorded: Vec<&str> = recorded.iter().map(String::as_str).collect();
            let output = semfio(&[&recorded, args].concat()).output().unwrap();
            let expected = if name == "get" { 1 } else { 0 };
            assert_eq!(output.status.code(), Some(expected), "{name}: {output:?}");
        }
        server.stop(Signal::TERM, 0);
        for name in ["serve", "get", "pour", "list", "course"] {
            let replayed = run(&["replay", path(&of(name))], "");
            assert_eq!(replayed.code, Some(0), "{runtime} {name}: {replayed:?}");
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
        }
    }
}
