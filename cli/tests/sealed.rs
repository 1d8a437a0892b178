//! Sealed rooms: processes with a passphrase, and what passes between them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

use crate::peers::{Ended, RUNTIMES, Server, run, semfio};

const PASSPHRASE: &str = "abacate amarelo na serra";

/// A file for a passphrase, which others may not read.
fn keep(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// Passes bytes on between members and a server, and keeps all of them.
struct Relay {
    address: String,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (server, kept) = (server.to_owned(), Arc::clone(&seen));
        thread::spawn(move || {
            for member in listener.incoming() {
                let (Ok(member), Ok(server)) = (member, TcpStream::connect(&server)) else {
                    return;
                };
                let ends = (member.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [(member, server), (ends.1, ends.0)] {
                    let seen = Arc::clone(&kept);
                    thread::spawn(move || pass(from, to, &seen));
                }
            }
        });
        Self { address, seen }
    }

    fn saw(&self, what: &[u8]) -> bool {
        self.seen.lock().unwrap().windows(what.len()).any(|window| window == what)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, seen: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        seen.lock().unwrap().extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A member whose records are read as they come.
struct Member {
    child: Child,
    typing: Option<ChildStdin>,
    records: io::Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn join(runtime: &str, address: &str, nick: &str, passphrase: &Path) -> Self {
        let mut command = semfio(&["--json", "--runtime", runtime, "chat", "join", address]);
        command.args(["--nick", nick, "--passphrase-file"]).arg(passphrase);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let records = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut member = Self { typing: child.stdin.take(), child, records };
        member.until(|record| record["what"] == "epoch");
        member
    }

    fn say(&mut self, line: &str) {
        writeln!(self.typing.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The records up to the first that is wanted.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut records = Vec::new();
        for line in self.records.by_ref() {
            records.push(serde_json::from_str(&line.unwrap()).unwrap());
            if records.last().is_some_and(&wanted) {
                return records;
            }
        }
        panic!("it ended after {records:?}");
    }

    fn hears(&mut self, nick: &str, text: &str) -> Vec<Value> {
        self.until(|record| {
            assert_ne!(record["type"], "unreadable", "{record}");
            record["what"] == "text" && record["nick"] == nick && record["text"] == text
        })
    }

    fn leave(mut self) {
        drop(self.typing.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn newest_epoch(records: &[Value]) -> Option<u64> {
    records.iter().rev().find(|record| record["what"] == "epoch")?["epoch"].as_u64()
}

#[test]
fn three_members_a_stranger_and_a_wire_that_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let right = keep(folder.path(), "right", &format!("{PASSPHRASE}\nnot this line\n"));
    let wrong = keep(folder.path(), "wrong", "abacate verde na serra\n");
    for runtime in RUNTIMES {
        let server = Server::start(&["--runtime", runtime, "-v"]);
        let relay = Relay::start(&server.address);
        let join = |nick| Member::join(runtime, &relay.address, nick, &right);
        let (mut ana, mut bia, mut caio) = (join("ana"), join("bia"), join("caio"));
        let mut before = 0;
        for (nick, text) in [("ana", "o segredo"), ("bia", "ninguém sabe"), ("caio", "três")] {
            match nick {
                "ana" => ana.say(text),
                "bia" => bia.say(text),
                _ => caio.say(text),
            }
            for member in [&mut ana, &mut bia, &mut caio] {
                let records = member.hears(nick, text);
                before = before.max(newest_epoch(&records).unwrap_or(0));
            }
        }
        let stranger = run(
            &[
                "--runtime",
                runtime,
                "chat",
                "join",
                &relay.address,
                "--nick",
                "eva",
                "--passphrase-file",
                wrong.to_str().unwrap(),
            ],
            "let me in\n",
        );
        assert_eq!((stranger.code, &*stranger.out), (Some(5), ""), "{stranger:?}");
        // It may be turned away before its line was read.
        let err = stranger.err.replace("semfio: 1 line was not sent or not acknowledged\n", "");
        let why = "semfio: cannot join lobby: the passphrase is not that of the room\nhint: ";
        assert!(err.contains(why), "{}", stranger.err);
        caio.leave();
        bia.until(|record| record["what"] == "part" && record["nick"] == "caio");
        bia.say("só nós");
        let after = newest_epoch(&bia.hears("bia", "só nós")).unwrap();
        assert!(after > before, "{after} follows {before}");
        ana.hears("bia", "só nós");
        ana.leave();
        bia.leave();
        assert!(relay.saw(b"lobby") && relay.saw(b"caio"), "it was seen at all");
        for text in ["o segredo", "ninguém sabe", "só nós", "let me in", PASSPHRASE] {
            assert!(!relay.saw(text.as_bytes()), "{text} on {runtime}");
            // Wherever base64 of something longer begins.
            for skip in 0..3 {
                let coded = STANDARD_NO_PAD.encode(&text.as_bytes()[skip..][..6]);
                assert!(!relay.saw(coded.as_bytes()), "{text} on {runtime}");
            }
        }
    }
}

#[test]
fn what_happens_to_keys_is_told_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = keep(folder.path(), "right", PASSPHRASE);
    let server = Server::start(&[]);
    let args = |verbose| {
        let mut args = vec!["chat", "join", &server.address, "--nick", "ana", "--passphrase-file"];
        args.push(file.to_str().unwrap());
        args.extend(verbose);
        args
    };
    let quiet = run(&args(Some("--quiet")), "");
    assert_eq!((quiet.code, &*quiet.err), (Some(0), ""));
    let usual = run(&args(None), "");
    let opened = "* you opened lobby: nobody has checked your passphrase yet; who comes next must \
                  know it\n";
    assert_eq!(usual.err, opened);
    let verbose = run(&args(Some("-v")), "oi\n");
    assert!(verbose.err.ends_with(": ana joined\n"), "{}", verbose.err);
    assert!(verbose.err.contains("* lobby: epoch "), "{}", verbose.err);
    assert!(verbose.out.contains("<ana> oi"), "{}", verbose.out);
}

#[test]
fn a_room_in_clear_and_a_sealed_one_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = keep(folder.path(), "right", PASSPHRASE);
    let server = Server::start(&[]);
    let clear = ["chat", "join", &server.address, "--nick", "bia"];
    let sealed = [&clear[..], &["--passphrase-file", file.to_str().unwrap()]].concat();
    let _ana = Member::join("mio", &server.address, "ana", &file);
    let refused = run(&clear, "hello?\n");
    assert_eq!((refused.code, &*refused.out), (Some(5), ""), "{refused:?}");
    assert!(refused.err.contains("this room is sealed") && refused.err.contains("--passphrase"));
    let sala = |args: &[&str]| run(&[args, &["--room", "sala"]].concat(), "");
    let mut open = semfio(&[&clear[..3], &["--nick", "caio", "--room", "sala"]].concat());
    let mut open = open.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(open.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let refused = sala(&sealed);
    assert_eq!((refused.code, &*refused.out), (Some(5), ""), "{refused:?}");
    assert!(refused.err.contains("that room is not sealed\nhint: "), "{}", refused.err);
    assert_eq!(sala(&clear).code, Some(0));
    open.kill().unwrap();
    open.wait().unwrap();
}

#[test]
fn a_server_of_sealed_rooms_takes_nothing_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let file = keep(folder.path(), "right", PASSPHRASE);
    let mut serve = semfio(&["--json", "chat", "serve", "--sealed", "--listen", "127.0.0.1:0"]);
    let mut serve = serve.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serve.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(listening["sealed"], true);
    let address = listening["address"].as_str().unwrap();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"oi\n").unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "! this server takes nothing in clear; join with a passphrase\n");
    assert_eq!(run(&["chat", "join", address, "--nick", "eva"], "oi\n").code, Some(5));
    let file = file.to_str().unwrap();
    let ana = run(&["chat", "join", address, "--nick", "ana", "--passphrase-file", file], "oi\n");
    assert_eq!(ana.code, Some(0), "{}", ana.err);
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn wherever_a_passphrase_comes_from_its_first_line_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = keep(folder.path(), "right", PASSPHRASE);
    let server = Server::start(&[]);
    let _ana = Member::join("mio", &server.address, "ana", &file);
    let join = ["chat", "join", &server.address, "--nick", "bia"];
    let mut command = semfio(&join);
    command.env("SEMFIO_PASSPHRASE", format!("{PASSPHRASE}\nnot this line\n"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // What follows it on stdin is said.
    let stdin = ["--passphrase-file", "/dev/stdin"];
    let join = ["chat", "join", &server.address, "--nick", "caio"];
    let piped = run(&[&join[..], &stdin].concat(), &format!("{PASSPHRASE}\nde um cano\n"));
    assert_eq!(piped.code, Some(0), "{piped:?}");
    assert!(piped.out.contains("<caio> de um cano") && !piped.out.contains("abacate"), "{piped:?}");
}

#[test]
fn a_passphrase_that_cannot_be_used_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let empty = keep(folder.path(), "empty", "\nsecond line\n");
    let long = keep(folder.path(), "long", &"x".repeat(1025));
    let most = keep(folder.path(), "most", &format!("{}\r\n", "x".repeat(1024)));
    let join = |args: &[&str]| run(&[&["chat", "join", "127.0.0.1:1"], args].concat(), "");
    let file = |path: &Path| join(&["--passphrase-file", path.to_str().unwrap()]);
    let refused = |ended: Ended, why: &str| {
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(why), "{ended:?}");
    };
    refused(file(&empty), "it is empty");
    refused(file(&long), "more than 1024 bytes");
    refused(file(Path::new("/nowhere/at/all")), "cannot read the passphrase");
    assert_eq!(file(&most).code, Some(3), "it goes on, and nobody is there");
    refused(join(&["--passphrase", "--dialect", "raw"]), "--passphrase cannot be used");
    let insecure = join(&["--passphrase", "--insecure-cleartext-key"]);
    refused(insecure, "hint: leave out --insecure-cleartext-key");
    refused(join(&["--passphrase", "--passphrase-file", "x"]), "cannot be used with");
    let mut command = semfio(&["chat", "join", "127.0.0.1:1", "--dialect", "line"]);
    let output = command.env("SEMFIO_PASSPHRASE", "x").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let serve = run(&["chat", "serve", "--passphrase-file", "x"], "");
    refused(serve, "hint: the server needs no passphrase");
    let secret = run(&["chat", "join", "127.0.0.1:1", "--passphrase", "abacate"], "");
    refused(secret, "hint: --passphrase asks for it and takes none");
    refused(join(&["--passphrase=abacate"]), "hint: --passphrase asks for it and takes none");
    // Others may read it: that is said, and goes on.
    std::fs::set_permissions(&most, PermissionsExt::from_mode(0o644)).unwrap();
    let ended = file(&most);
    assert_eq!(ended.code, Some(3));
    assert!(ended.err.starts_with("semfio: others may read "), "{}", ended.err);
}
