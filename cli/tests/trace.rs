//! `--record` and `replay`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::peers::{Ended, RUNTIMES, Server, run, semfio};

fn replay(trace: &Path) -> Ended {
    run(&["replay", trace.to_str().unwrap()], "")
}

#[test]
fn a_recorded_run_replays_and_a_changed_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in RUNTIMES {
        let hub = folder.path().join(format!("{runtime}.hub"));
        let member = folder.path().join(format!("{runtime}.member"));
        std::fs::write(&member, "of an earlier run, for all to read").unwrap();
        let server = Server::start(&["--runtime", runtime, "--record", hub.to_str().unwrap()]);
        for nick in ["ana", "bia", "caio"] {
            let args = ["--runtime", runtime, "--record", member.to_str().unwrap(), "chat", "join"];
            let args = [&args[..], &[&server.address, "--nick", nick]].concat();
            let joined = run(&args, "olá, pessoal\n/who\n/history\n");
            assert_eq!(joined.code, Some(0), "{}", joined.err);
        }
        server.stop(Signal::TERM, 0);
        for trace in [&hub, &member] {
            let mode = std::fs::metadata(trace).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "others can read {}", trace.display());
            let replayed = replay(trace);
            assert_eq!(replayed.code, Some(0), "{runtime}: {replayed:?}");
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
        }
        let whole = std::fs::read_to_string(&hub).unwrap();
        // One byte of what was sent: the trace says one thing, the machines another.
        let at = whole.rfind("\"name\":\"out.bytes\"").unwrap();
        let at = at + whole[at..].find("\"base64\":\"").unwrap() + "\"base64\":\"".len();
        let mut changed = whole.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let planted = folder.path().join("planted");
        std::fs::write(&planted, changed).unwrap();
        let replayed = replay(&planted);
        assert_eq!(replayed.code, Some(1), "{replayed:?}");
        assert!(replayed.out.contains("diverges at event"), "{}", replayed.out);
        // Cut in two, it agrees as far as it goes, and says so.
        std::fs::write(&planted, &whole[..at]).unwrap();
        let replayed = replay(&planted);
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
        assert!(replayed.out.contains("cut"), "{}", replayed.out);
    }
}

/// Whether a text passed in what a trace tells, or stands in its header.
fn holds(trace: &Path, text: &str) -> bool {
    let trace = std::fs::read_to_string(trace).unwrap();
    let coded = |engine: &dyn Fn(&str) -> String| trace.contains(&engine(text));
    let passed = trace.lines().any(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        let octets = event["base64"].as_str().map(|octets| STANDARD.decode(octets).unwrap());
        octets.unwrap_or_default().windows(text.len()).any(|part| part == text.as_bytes())
    });
    passed
        || trace.contains(text)
        || coded(&|text| STANDARD_NO_PAD.encode(text))
        || coded(&|text| URL_SAFE_NO_PAD.encode(text))
}

/// What the header says is secret.
fn marked(trace: &Path) -> Value {
    let trace = std::fs::read_to_string(trace).unwrap();
    serde_json::from_str::<Value>(trace.lines().next().unwrap()).unwrap()["secret"].clone()
}

#[test]
fn a_recorded_run_with_a_cleartext_key_replays_with_the_key_and_without() {
    let folder = tempfile::tempdir().unwrap();
    const FLAG: &str = "--insecure-cleartext-key";
    for (runtime, secrets) in RUNTIMES.iter().flat_map(|name| [(*name, false), (*name, true)]) {
        let hub = folder.path().join(format!("{runtime}.hub"));
        let member = folder.path().join(format!("{runtime}.member"));
        let with: &[&str] = if secrets { &["--record-secrets"] } else { &[] };
        let record = [with, &["--runtime", runtime, "--record"]].concat();
        let server = Server::start_with(&[&record[..], &[hub.to_str().unwrap()]].concat(), &[FLAG]);
        let mut key = [0; 44];
        TcpStream::connect(&server.address).unwrap().read_exact(&mut key).unwrap();
        let key = std::str::from_utf8(&key).unwrap();
        let args = [member.to_str().unwrap(), "--quiet", "chat", "join", &server.address, FLAG];
        let joined = run(&[&record[..], &args].concat(), "um\ndois\ntrês\n");
        assert_eq!((joined.code, &*joined.out), (Some(0), "um\ndois\ntrês\n"), "{}", joined.err);
        assert!(joined.err.contains("WARNING: the key crosses the network in clear"));
        server.stop(Signal::TERM, 0);
        for trace in [&hub, &member] {
            let replayed = replay(trace);
            assert_eq!(replayed.code, Some(0), "{runtime}: {replayed:?}");
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
            assert_eq!(holds(trace, key), secrets, "{runtime}: {}", trace.display());
        }
        let named: &[&str] = if secrets { &["cleartext_key"] } else { &[] };
        assert_eq!(marked(&hub), json!(named));
    }
}

#[test]
fn a_recorded_run_with_a_passphrase_replays_with_it_and_without() {
    const PASSPHRASE: &str = "abacate-amarelo-na-serra";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passphrase");
    std::fs::write(&file, PASSPHRASE).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    for (runtime, secrets) in RUNTIMES.iter().flat_map(|name| [(*name, false), (*name, true)]) {
        let trace = |name: &str| folder.path().join(format!("{runtime}.{name}"));
        let with: &[&str] = if secrets { &["--record-secrets"] } else { &[] };
        let record = [with, &["--runtime", runtime, "--record"]].concat();
        let hub = trace("hub");
        let server = Server::start(&[&record[..], &[hub.to_str().unwrap()]].concat());
        let [ana_to, bia_to] = ["ana", "bia"].map(|nick| trace(nick).to_str().unwrap().to_owned());
        let address = &*server.address;
        let join = ["chat", "join", address, "--passphrase-file", file, "--nick"];
        // The holder is there until the other has left.
        let mut ana = semfio(&[&record[..], &[&*ana_to], &join, &["ana"]].concat());
        ana.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut ana = ana.spawn().unwrap();
        let mut typing = ana.stdin.take().unwrap();
        typing.write_all(b"quem vem?\n").unwrap();
        let mut heard = BufReader::new(ana.stdout.take().unwrap()).lines();
        heard.by_ref().map(Result::unwrap).find(|line| line.ends_with("quem vem?")).unwrap();
        let bia = run(&[&record[..], &[&*bia_to], &join, &["bia"]].concat(), "sou eu\n");
        assert_eq!(bia.code, Some(0), "{}", bia.err);
        heard.by_ref().map(Result::unwrap).find(|line| line.ends_with("sou eu")).unwrap();
        drop(typing);
        assert_eq!(ana.wait().unwrap().code(), Some(0));
        server.stop(Signal::TERM, 0);
        for (trace, member) in [(hub.clone(), false), (trace("ana"), true), (trace("bia"), true)] {
            let replayed = replay(&trace);
            assert_eq!(replayed.code, Some(0), "{runtime}: {replayed:?}");
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
            assert_eq!(holds(&trace, PASSPHRASE), secrets && member, "{}", trace.display());
            // A member's trace is of what it read; the server read nothing.
            assert_eq!(holds(&trace, "sou eu"), member, "{}", trace.display());
            let named: &[&str] = if secrets && member { &["passphrase", "vaults"] } else { &[] };
            assert_eq!(marked(&trace), json!(named));
        }
    }
}

#[test]
fn a_replay_may_stop_early() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let trace = trace.to_str().unwrap();
    let server = Server::start(&["--record", trace]);
    assert_eq!(run(&["chat", "join", &server.address, "--nick", "ana"], "oi\n").code, Some(0));
    server.stop(Signal::TERM, 0);
    let replayed = run(&["replay", trace, "--until", "5"], "");
    assert_eq!((replayed.code, &*replayed.out), (Some(0), "agrees: 5 events; stopped there\n"));
}

#[test]
fn an_unreadable_trace_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let server = Server::start(&["--record", trace.to_str().unwrap()]);
    server.stop(Signal::TERM, 0);
    let whole = std::fs::read_to_string(&trace).unwrap();
    let (header, rest) = whole.split_once('\n').unwrap();
    for (content, why) in [
        ("", "line 1"),
        ("not a trace\n", "line 1"),
        (&*format!("{header}\nnonsense\n{rest}"), "line 2"),
        (&*whole.replace("chat.hub", "chat.pub"), "does not know"),
        (&*whole.replace("\"slow\":\"gap\"", "\"slow\":\"hug\""), "slow is hug"),
    ] {
        std::fs::write(&trace, content).unwrap();
        let replayed = replay(&trace);
        assert_eq!(replayed.code, Some(2), "{replayed:?}");
        assert!(replayed.err.starts_with("semfio: cannot replay "), "{}", replayed.err);
        assert!(replayed.err.contains(why), "{}", replayed.err);
    }
    assert_eq!(replay(folder.path()).code, Some(2));
    assert_eq!(replay(Path::new("/nowhere/at/all")).code, Some(2));
}
