//! `--record` and `replay`.

use rustix::process::Signal;
use std::path::Path;

use crate::peers::{Ended, RUNTIMES, Server, run};

fn replay(trace: &Path) -> Ended {
    run(&["replay", trace.to_str().unwrap()], "")
}

#[test]
fn a_recorded_run_replays_and_a_changed_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in RUNTIMES {
        let hub = folder.path().join(format!("{runtime}.hub"));
        let member = folder.path().join(format!("{runtime}.member"));
        let server = Server::start(&["--runtime", runtime, "--record", hub.to_str().unwrap()]);
        for nick in ["ana", "bia", "caio"] {
            let args = ["--runtime", runtime, "--record", member.to_str().unwrap(), "chat", "join"];
            let args = [&args[..], &[&server.address, "--nick", nick]].concat();
            let joined = run(&args, "olá, pessoal\n/who\n/history\n");
            assert_eq!(joined.code, Some(0), "{}", joined.err);
        }
        server.stop(Signal::TERM, 0);
        for trace in [&hub, &member] {
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

#[test]
fn a_recorded_run_with_a_cleartext_key_replays_and_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    const FLAG: &str = "--insecure-cleartext-key";
    for runtime in RUNTIMES {
        let hub = folder.path().join(format!("{runtime}.hub"));
        let member = folder.path().join(format!("{runtime}.member"));
        let record = ["--runtime", runtime, "--record"];
        let server = Server::start_with(&[&record[..], &[hub.to_str().unwrap()]].concat(), &[FLAG]);
        let record = ["--quiet", "--runtime", runtime, "--record"];
        let args = [member.to_str().unwrap(), "chat", "join", &server.address, FLAG];
        let joined = run(&[&record[..], &args].concat(), "um\ndois\ntrês\n");
        assert_eq!((joined.code, &*joined.out), (Some(0), "um\ndois\ntrês\n"), "{}", joined.err);
        assert!(joined.err.contains("WARNING: the key crosses the network in clear"));
        server.stop(Signal::TERM, 0);
        for trace in [&hub, &member] {
            let replayed = replay(trace);
            assert_eq!(replayed.code, Some(0), "{runtime}: {replayed:?}");
            assert!(replayed.out.starts_with("agrees: "), "{}", replayed.out);
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
