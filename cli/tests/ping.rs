//! `semfio ping` on the loopback: what people see, and what they read when it cannot be.

use std::process::Command;

use crate::peers::{run, semfio};

/// Whether this process may ping at all; else the test is skipped.
pub(crate) fn may_ping() -> bool {
    let tried = run(&["ping", "-c", "1", "-W", "5", "127.0.0.1"], "");
    if tried.code == Some(3) && tried.err.contains("Permission denied") {
        assert_ne!(std::env::var("SEMFIO_NO_SKIP").as_deref(), Ok("1"), "{}", tried.err);
        eprintln!("skipped: nobody may ping here: {}", tried.err);
        return false;
    }
    assert_eq!(tried.code, Some(0), "{}{}", tried.out, tried.err);
    true
}

#[test]
fn the_last_two_lines_are_those_that_scripts_read() {
    if !may_ping() {
        return;
    }
    for runtime in crate::peers::RUNTIMES {
        let ended = run(&["ping", "--runtime", runtime, "-c", "3", "-i", "0.01", "127.0.0.1"], "");
        let lines: Vec<&str> = ended.out.lines().rev().collect();
        let [last, sums, ..] = *lines else { panic!("{}", ended.out) };
        assert!(
            sums.starts_with("3 packets transmitted, 3 received, 0% packet loss, time "),
            "{sums}"
        );
        assert!(last.starts_with("rtt min/avg/max/mdev = ") && last.ends_with(" ms"), "{last}");
        assert!(!ended.out.contains(['▁', '█', '\u{1b}']), "off a terminal: {}", ended.out);
        let flood = ["ping", "--runtime", runtime, "-f", "-l", "8", "-c", "500", "127.0.0.1"];
        let ended = run(&flood, "");
        assert!(ended.out.contains("\n500 packets transmitted, 500 received"), "{}", ended.out);
        assert!(ended.out.contains("500 by clocks user/kernel"), "{}", ended.out);
        let last = ended.out.lines().last().unwrap();
        assert!(last.contains(" ms, pipe ") && last.contains(", ipg/ewma "), "{last}");
    }
}

#[test]
fn what_cannot_be_asked_is_said_in_a_line_with_a_hint() {
    let unknown = run(&["ping", "-c", "1", "a..b"], "");
    assert_eq!((unknown.code, &*unknown.out), (Some(1), ""));
    let lines =
        "semfio: cannot ping a..b: no such host\nhint: a name, an IPv4 or an IPv6 address\n";
    assert_eq!(unknown.err, lines);

    if !may_ping() {
        return;
    }
    // So many files that the program itself begins; how many it wants then is its own business.
    let mut refused = 0;
    for most in 4..32 {
        let ping = semfio(&["ping", "-c", "1", "127.0.0.1"]);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]);
        let output = limited.arg(ping.get_program()).args(ping.get_args()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => break,
            // The loader found no library.
            Some(127) => {}
            code => {
                assert_eq!(code, Some(3), "{most}: {said}");
                assert!(said.contains("Too many open files"), "{most}: {said}");
                assert!(said.ends_with("hint: this process may open too few files: ulimit -n\n"));
                assert!(output.stdout.is_empty(), "{most}: it had begun");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}
