//! What was recorded in the lab prints the same again, anywhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use semfio_tests::{installed, semfio};

use crate::{Lab, NOBODY, anybodys};

/// Dead ends of all kinds, both families, and who answers.
const HOSTS: &str = "10.77.11.2 fd77:0:0:b::2 10.77.250.9 10.77.252.9 10.77.253.9 fd77:0:0:fb::9";

/// Runs a command in the lab, recorded, and then its trace. What both printed, and how it ended.
fn recorded(lab: &Lab, trace: &Path, command: &str) -> (String, Option<i32>) {
    let line = format!("{command} --record {}", trace.display());
    let (printed, code) = lab.exec("client", &line);
    let (again, verdict, ended) = replay(trace, command.contains("--json"));
    assert_eq!((again.as_str(), ended), (printed.as_str(), Some(0)), "{line}: {verdict}");
    assert!(verdict.starts_with("agrees: ") && !verdict.contains("cut"), "{line}: {verdict}");
    (printed, code)
}

/// What a replay prints, on each output, and how it ends.
fn replay(trace: &Path, json: bool) -> (String, String, Option<i32>) {
    let mut command = Command::new(semfio());
    if json {
        command.arg("--json");
    }
    let output = command.arg("replay").arg(trace).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (out, err, output.status.code())
}

#[test]
fn a_recorded_ping_prints_the_same_again() {
    if !installed(&["timeout", "setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let program = semfio().display().to_string();
    for (runtime, ways) in
        [("mio", &["", "--json", "-D"][..]), ("smol", &["--json"]), ("blocking", &[""])]
    {
        for more in ways {
            let ping = format!("{program} --runtime {runtime} ping -c 1 -W 0.5 {more} {HOSTS}");
            let (printed, code) = recorded(&lab, &trace, &ping);
            assert_eq!(code, Some(1), "{printed}");
            let told = if *more == "--json" { "\"type\":\"summary\"" } else { " ping statistics " };
            assert_eq!(printed.matches(told).count(), 6, "{printed}");
        }
        // Duplicates, losses, one behind the other; and an end that the user wants.
        let mut wire = lab.script("wire");
        wire.args(["delay=20", "jitter=15", "loss=20", "dup=20", "seed=3"]);
        assert!(wire.output().unwrap().status.success());
        let ping = format!("{program} --runtime {runtime} ping -i 0.01 10.77.71.2 localhost");
        let (printed, code) = recorded(&lab, &trace, &format!("timeout -s INT 1 {ping}"));
        assert_eq!(code, Some(124), "{printed}");
        assert!(printed.contains("(DUP!)") && printed.contains("packet loss"), "{printed}");
    }
    // Where the replay runs, nobody knows these names. What r4 says must not be lost: it says little.
    let mut wire = lab.script("wire");
    wire.args(["delay=0", "jitter=0", "loss=0", "dup=0"]);
    assert!(wire.output().unwrap().status.success());
    let ping = format!("timeout -s INT 3 {program} ping -i 0.2 r3.lab 10.77.250.9");
    let (printed, _) = recorded(&lab, &trace, &ping);
    assert!(printed.contains("From r4.lab (10.77.4.2) icmp_seq="), "{printed}");
    let flood = format!("{program} ping -f -c 300 -l 16 10.77.11.2 fd77:0:0:b::2");
    let (printed, _) = recorded(&lab, &trace, &flood);
    assert!(printed.contains("300 packets transmitted"), "{printed}");

    let whole = fs::read_to_string(&trace).unwrap();
    // A stamp of the kernel: the round trip is another one.
    let at = whole.rfind(",\"clock\":\"Kernel\",\"len\":").unwrap() - 4;
    let mut changed = whole.clone().into_bytes();
    changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
    fs::write(&trace, changed).unwrap();
    let (_, verdict, ended) = replay(&trace, false);
    assert!(verdict.starts_with("diverges at event ") && ended == Some(1), "{verdict}");
    fs::write(&trace, &whole[..at]).unwrap();
    let (out, verdict, ended) = replay(&trace, false);
    assert!(verdict.contains("; the recording is cut there") && ended == Some(0), "{verdict}");
    assert!(printed.starts_with(&out) && out.len() < printed.len(), "{out}");
}

#[test]
fn a_recorded_trace_prints_the_same_again() {
    if !installed(&["timeout"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let program = semfio().display().to_string();
    for (runtime, asked) in [
        ("mio", "10.77.11.2"),
        ("smol", "-I 10.77.11.2 --json"),
        ("blocking", "-T fd77:0:0:b::2"),
        ("mio", "-I --mtu 10.77.62.2"),
        ("smol", "-n 10.77.250.9"),
        ("blocking", "--json 10.77.22.2"),
        ("mio", "-q 3 10.77.50.2"),
        ("smol", "--live --interval 0.2 -c 3 10.77.22.2"),
    ] {
        let command = format!("{program} --runtime {runtime} trace {asked}");
        let (printed, code) = recorded(&lab, &trace, &command);
        assert!(matches!(code, Some(0 | 1)) && printed.lines().count() > 3, "{command}: {printed}");
        // Where the replay runs, nobody knows these names.
        let named = printed.contains("r1.lab");
        assert_eq!(named, !asked.contains("-n"), "{command}: {printed}");
    }
    let live = format!("timeout -s INT 1 {program} trace --live --json --interval 0.2 10.77.11.2");
    let (printed, code) = recorded(&lab, &trace, &live);
    assert!(code == Some(124) && printed.contains("\"cycle\""), "{printed}");

    let whole = fs::read_to_string(&trace).unwrap();
    let at = whole.find(" r1.lab\"").unwrap();
    let other = format!("{}{}{}", &whole[..at], " r9", &whole[at + 3..]);
    fs::write(&trace, other).unwrap();
    let (out, verdict, ended) = replay(&trace, true);
    assert!(ended == Some(2) && verdict.contains("checksum"), "{verdict}");
    assert!(out.contains("r9.lab") && !out.contains("r1.lab"), "{out}");
}

/// What a scan prints depends on what only it knows, as names of services: it is compared alone.
#[test]
fn a_recorded_scan_replays() {
    let Some(lab) = Lab::up(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let program = semfio().display().to_string();
    for (runtime, way) in [
        ("mio", ""),
        ("smol", ""),
        ("blocking", ""),
        ("mio", "--syn"),
        ("smol", "--syn"),
        ("blocking", "--udp"),
        ("mio", "--udp"),
    ] {
        let asked = "-p 7007-7011 --wait 0.5 --retries 1 10.77.11.2 fd77:0:0:b::2";
        let scan = format!("{program} --runtime {runtime} scan {way} {asked} --record");
        let (printed, code) = lab.exec("client", &format!("{scan} {}", trace.display()));
        assert!(code == Some(0) && printed.contains("7007"), "{scan}: {printed}");
        let (out, err, ended) = replay(&trace, false);
        assert!(out.starts_with("agrees: ") && !out.contains("cut"), "{scan}: {out} {err}");
        assert_eq!(ended, Some(0));
        // The last that was found was another port.
        let whole = fs::read_to_string(&trace).unwrap();
        let at = whole.rfind("Found { host: ").unwrap();
        let at = at + whole[at..].find(":70").unwrap() + 1;
        let mut changed = whole.into_bytes();
        changed[at] = b'8';
        fs::write(&trace, changed).unwrap();
        let (out, _, ended) = replay(&trace, false);
        assert!(out.starts_with("diverges at event ") && ended == Some(1), "{scan}: {out}");
    }
}

#[test]
fn who_has_no_privileges_records_too() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let (folder, program) = anybodys();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let ping = format!("{NOBODY} {program} ping -c 1 -W 0.5 {HOSTS}");
    let (printed, code) = recorded(&lab, &folder.path().join("trace"), &ping);
    assert!(code == Some(1) && printed.contains("Administratively prohibited"), "{printed}");
    let trace = format!("{NOBODY} {program} trace 10.77.11.2");
    let (printed, code) = recorded(&lab, &folder.path().join("trace"), &trace);
    assert!(code == Some(0) && printed.contains("server.lab"), "{printed}");
}
