//! A small internet in network namespaces, for whatever sends single packets: eleven routers, a silent
//! one, equal paths, small MTUs, dead ends, ports of each kind, a lossy wire. The head of `netns-lab`
//! draws it.
//!
//! Here the lab itself is held to what it says, by the tools that people use; in the modules, our own
//! commands are. It wants root; elsewhere these tests are skipped, with the reason on stderr.

mod netcat;
mod paths;
mod ping;
mod record;
mod scan;
mod trace;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use semfio_tests::{installed, semfio, skip};
use tempfile::TempDir;

/// A lab of its own, gone with the value.
struct Lab {
    prefix: String,
}

impl Lab {
    /// `None`, and the test is skipped, where there cannot be one. `settings` are those of the script.
    fn up(settings: &[(&str, &str)]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !installed(&["ip", "bash", "perl", "unshare"]) {
            return None;
        }
        let allowed = Command::new("unshare").args(["--net", "--mount", "true"]).output().unwrap();
        if !allowed.status.success() {
            skip("network namespaces with names are for root, and not for every root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("s{}n{number}", std::process::id()) };
        let output = lab.script("up").envs(settings.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        Some(lab)
    }

    fn script(&self, what: &str) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab/netns-lab"));
        command.arg(what).env("LAB_PREFIX", &self.prefix);
        command
    }

    /// What a command in a node prints, on both outputs, and how it ends.
    fn exec(&self, node: &str, command: &str) -> (String, Option<i32>) {
        let output =
            self.script("exec").arg(node).args(command.split_whitespace()).output().unwrap();
        (both(&output), output.status.code())
    }
}

/// What starts a command without privileges.
const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all";

/// A copy of the program that anybody may start: where it was built, others may not look.
fn anybodys() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("semfio");
    fs::copy(semfio(), &program).unwrap();
    (folder, program.display().to_string())
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.script("down").output();
    }
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_lab_is_as_its_map_says() {
    if !installed(&["ping", "traceroute", "nc"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    for (command, expected) in [
        ("ping -n -c1 -W5 10.77.11.2", &["ttl=54"][..]),
        ("ping -n -c1 -W5 fd77:0:0:b::2", &["ttl=54"]),
        ("ping -n -c1 -W1 10.77.250.9", &["10.77.4.2", "Host Unreachable"]),
        ("ping -n -c1 -W1 10.77.251.9", &["10.77.4.2", "Packet filtered"]),
        ("ping -n -c1 -W1 10.77.253.9", &["Time to live exceeded"]),
        ("ping -n -c1 -W1 10.77.254.9", &["10.77.4.2", "Net Unreachable"]),
        ("ping -n -c1 -W1 -M do -s 1472 10.77.62.2", &["10.77.4.2", "mtu = 1400"]),
        ("ping -n -c1 -W1 -M do -s 1452 fd77:0:0:3e::2", &["fd77:0:0:4::2", "mtu=1400"]),
        ("traceroute -n -q1 10.77.22.2", &[" 2  10.77.2.2", " 3  *", " 4  10.77.22.2"]),
        ("traceroute -n -q1 fd77:0:0:16::2", &[" 3  *", " 4  fd77:0:0:16::2"]),
        (
            "nc -zvw2 10.77.11.2 7007-7009",
            &["7007", "7008", "7009 (tcp) failed: Connection refused"],
        ),
        ("nc -zvw1 10.77.11.2 7010", &["timed out"]),
        ("nc -zvw5 10.77.11.2 7011", &["No route to host"]),
    ] {
        let (printed, _) = lab.exec("client", command);
        let missing = expected.iter().find(|part| !printed.contains(**part));
        assert_eq!(missing, None, "{command}: {printed}");
    }
    assert_eq!(lab.exec("client", "ping -n -c1 -W1 10.77.252.9").1, Some(1), "silence");
}

#[test]
fn as_many_equal_paths_as_asked_for() {
    if !installed(&["traceroute"]) {
        return;
    }
    let Some(lab) = Lab::up(&[("LAB_ECMP", "5")]) else { return };
    // The way is chosen by a hash of ports; traceroute takes a new one for each packet.
    let (printed, _) = lab.exec("client", "traceroute -n -q10 -f4 -m4 -N10 -w2 10.77.50.2");
    let more = lab.exec("client", "traceroute -n -q10 -f4 -m4 -N10 -w2 -p 40000 10.77.50.2").0;
    let printed = printed + &more;
    let used = (31..=39).filter(|n| printed.contains(&format!("10.77.{n}.2"))).count();
    assert!((3..=5).contains(&used), "{used} ways: {printed}");
}

#[test]
fn one_seed_one_fate() {
    if !installed(&["ping"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let mut fates = Vec::new();
    for seed in ["7", "7", "8"] {
        let mut wire = lab.script("wire");
        wire.args(["delay=0", "loss=30", &format!("seed={seed}")]);
        assert!(wire.output().unwrap().status.success());
        let (printed, _) = lab.exec("client", "ping -n -c40 -i0.01 -W1 10.77.71.2");
        let survivors: Vec<_> = printed
            .lines()
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next())
            .map(str::to_owned)
            .collect();
        fates.push(survivors);
    }
    assert_eq!(fates[0], fates[1]);
    assert_ne!(fates[0], fates[2]);
    assert!((5..36).contains(&fates[0].len()), "{fates:?}");
}

#[test]
fn nothing_is_left_of_a_lab() {
    let Some(lab) = Lab::up(&[]) else { return };
    let status = |lab: &Lab| lab.script("status").output().unwrap().status.code();
    assert_eq!(status(&lab), Some(0));
    let prefix = lab.prefix.clone();
    drop(lab);
    let gone = Lab { prefix };
    assert_eq!(status(&gone), Some(3));
    for folder in ["/run/netns", "/etc/netns", "/run/netns-lab"] {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let left: Vec<_> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| {
                name.strip_prefix(&gone.prefix)
                    .is_some_and(|rest| !rest.starts_with(char::is_numeric))
            })
            .collect();
        assert_eq!(left, [""; 0], "in {folder}");
    }
}
