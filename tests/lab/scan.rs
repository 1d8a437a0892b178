//! `semfio scan` in the lab, judged by its `--json`: what its ports are, for both families.

use std::process::Command;

use semfio_tests::{installed, semfio, skip};
use serde_json::Value;

use crate::{Lab, NOBODY, anybodys, both};

/// The records of a run.
fn records(printed: &str) -> Vec<Value> {
    let record = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{printed}"));
    printed.lines().map(record).collect()
}

/// Port, state, reason, who says so, ICMP type and code; by port.
type Row = (u64, String, String, Option<(String, u64, u64)>);

fn rows(records: &[Value], host: &str) -> Vec<Row> {
    let of = |record: &&Value| record["type"] == "port" && record["address"] == host;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |record: &Value| {
        let number = |key: &str| record[key].as_u64().unwrap();
        let from = record["from"].as_str().map(str::to_owned);
        let icmp = from.map(|from| (from, number("icmp_type"), number("icmp_code")));
        (number("port"), text(&record["state"]), text(&record["reason"]), icmp)
    };
    let mut rows: Vec<Row> = records.iter().filter(of).map(row).collect();
    rows.sort();
    rows
}

/// The server, who prohibits, and by which types and codes that and closed ports are told.
type Server = (&'static str, &'static str, (u64, u64), (u64, u64));

const SERVERS: [Server; 2] = [
    ("10.77.11.2", "10.77.10.2", (3, 13), (3, 3)),
    ("fd77:0:0:b::2", "fd77:0:0:a::2", (1, 1), (1, 4)),
];

/// Ports 7007 to 7011 by connecting: an error on the way is told without its sender, and over IPv4 what
/// is prohibited as no way at all.
const CONNECT: [(&str, &str); 5] = [
    ("open", "connected"),
    ("open", "connected"),
    ("closed", "refused"),
    ("filtered", "silence"),
    ("unreachable", "system"),
];

/// By a SYN: reset and acknowledgement are seen, and who sends errors.
const SYN: [(&str, &str); 5] = [
    ("open", "syn-ack"),
    ("open", "syn-ack"),
    ("closed", "reset"),
    ("filtered", "silence"),
    ("filtered", "icmp"),
];

/// Over UDP: 7008 never answers, and 7010 is dropped without a word, which nobody can tell apart.
const UDP: [(&str, &str); 5] = [
    ("open", "answer"),
    ("open|filtered", "silence"),
    ("closed", "icmp"),
    ("open|filtered", "silence"),
    ("filtered", "icmp"),
];

/// Both families at once.
fn golden(lab: &Lab, program: &str, method: &str, expected: [(&str, &str); 5]) {
    let hosts = SERVERS.map(|server| server.0).join(" ");
    let command = format!("{program} scan --json --retries 1 {method} {hosts} -p 7007-7011");
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(0), "{printed}");
    let records = records(&printed);
    for (host, prohibiting, prohibited, closed) in SERVERS {
        let row = |(port, (state, reason)): (u64, (&str, &str))| {
            let is_v6 = host.contains(':');
            let state = if (reason, is_v6) == ("system", true) { "filtered" } else { state };
            let says = match (port, reason) {
                (7011, "icmp") => Some((prohibiting.into(), prohibited.0, prohibited.1)),
                (_, "icmp") => Some((host.into(), closed.0, closed.1)),
                _ => None,
            };
            (port, state.into(), reason.into(), says)
        };
        let expected: Vec<Row> = (7007..).zip(expected).map(row).collect();
        assert_eq!(rows(&records, host), expected, "{command}");
    }
    let summary = records.last().unwrap();
    assert_eq!((&summary["type"], &summary["reached"]), (&"summary".into(), &2.into()));
    assert_eq!(summary["hosts"][0]["reached"], true);
}

#[test]
fn scan_says_of_each_port_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    for runtime in ["mio", "smol", "blocking"] {
        let program = format!("{} --runtime {runtime}", semfio().display());
        golden(&lab, &program, "", CONNECT);
    }
    if installed(&["setpriv"]) {
        let (_folder, program) = anybodys();
        golden(&lab, &format!("{NOBODY} {program}"), "", CONNECT);
    }
    // Nobody at all: not reached, and said with 1.
    let command = format!("{} scan --json --retries 0 10.77.252.9 -p 80", semfio().display());
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(1), "{printed}");
    assert_eq!(records(&printed).last().unwrap()["reached"], 0);
}

#[test]
fn syn_scan_says_of_each_port_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    for runtime in ["mio", "smol", "blocking"] {
        let program = format!("{} --runtime {runtime}", semfio().display());
        golden(&lab, &program, "--syn", SYN);
    }
    // Who says that there is no way, and where packets went round in circles.
    let hosts = "10.77.250.9 10.77.251.9 10.77.253.9 10.77.254.9 fd77:0:0:fb::9 fd77:0:0:fd::9";
    let command = format!("{} scan --syn --json {hosts} -p 80", semfio().display());
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(1), "{printed}");
    let records = records(&printed);
    for (host, state, from, icmp_type, icmp_code) in [
        ("10.77.250.9", "unreachable", "10.77.4.2", 3, 1),
        ("10.77.251.9", "filtered", "10.77.4.2", 3, 13),
        ("10.77.253.9", "unreachable", "10.77.6.2", 11, 0),
        ("10.77.254.9", "unreachable", "10.77.4.2", 3, 0),
        ("fd77:0:0:fb::9", "filtered", "fd77:0:0:4::2", 1, 1),
        ("fd77:0:0:fd::9", "unreachable", "fd77:0:0:6::2", 3, 0),
    ] {
        let says = Some((from.into(), icmp_type, icmp_code));
        assert_eq!(rows(&records, host), [(80, state.into(), "icmp".into(), says)]);
    }
    if installed(&["setpriv"]) {
        let (_folder, program) = anybodys();
        let command = format!("{NOBODY} {program} scan --syn 10.77.11.2 -p 80");
        let (printed, code) = lab.exec("client", &command);
        assert_eq!(code, Some(3), "{printed}");
        assert!(printed.contains("hint:"), "{printed}");
    }
}

#[test]
fn udp_scan_says_of_each_port_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    golden(&lab, &semfio().display().to_string(), "--udp", UDP);
    if installed(&["setpriv"]) {
        let (_folder, program) = anybodys();
        for runtime in ["smol", "blocking"] {
            let program = format!("{NOBODY} {program} --runtime {runtime}");
            golden(&lab, &program, "--udp", UDP);
        }
    }
}

/// What nmap finds, by port, in its words.
fn nmap(lab: &Lab, method: &str) -> Vec<(u64, String)> {
    let command = format!("nmap -n -Pn {method} -p 7007-7011 10.77.11.2");
    let (printed, _) = lab.exec("client", &command);
    let port = |line: &str| {
        let (port, rest) = line.split_once('/')?;
        Some((port.parse().ok()?, rest.split_whitespace().nth(1)?.to_owned()))
    };
    printed.lines().filter_map(port).collect()
}

#[test]
fn scan_and_nmap_agree() {
    if !installed(&["nmap"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    for (theirs, ours) in [("-sT", ""), ("-sS", "--syn"), ("-sU", "--udp")] {
        let scan = format!("{} scan --json {ours} 10.77.11.2 -p 7007-7011", semfio().display());
        let (printed, _) = lab.exec("client", &scan);
        let found: Vec<_> = rows(&records(&printed), "10.77.11.2")
            .into_iter()
            // For nmap what is prohibited is filtered, whatever it knows of it.
            .map(|(port, state, ..)| (port, state.replace("unreachable", "filtered")))
            .collect();
        assert_eq!(found, nmap(&lab, theirs), "{theirs}");
    }
}

/// All of these are silent: each holds a descriptor as long as it is waited for.
#[test]
fn a_scan_without_descriptors_finds_the_same() {
    let Some(lab) = Lab::up(&[]) else { return };
    let scan = format!("{} scan --json --window 500", semfio().display());
    let hosts = "10.77.252.9 10.77.11.2 -p 7007-7030 --retries 1 --wait 0.5";
    let run = |limit: &str| {
        let script = format!("{limit} exec {scan} {hosts}");
        let output = lab.script("exec").args(["client", "bash", "-c", &script]).output().unwrap();
        let printed = both(&output);
        let records = records(&printed);
        let exhausted = records.last().unwrap()["exhausted"].as_u64().unwrap();
        let mut rows: Vec<_> = records
            .iter()
            .filter(|record| record["type"] == "port")
            .map(|it| (it["address"].to_string(), it["port"].as_u64(), it["state"].to_string()))
            .collect();
        rows.sort();
        (rows, exhausted)
    };
    let (with, _) = run("");
    let (without, exhausted) = run("ulimit -n 32;");
    assert_eq!(with.len(), 48);
    assert_eq!(with, without);
    assert!(exhausted > 0, "32 descriptors were enough");
}

/// Two of the ports listen, in a namespace with nothing else.
fn alone(command: &str) -> Option<String> {
    if !installed(&["ip", "bash", "perl", "unshare"]) {
        return None;
    }
    let listen = "use IO::Socket::IP; my @held = map { IO::Socket::IP->new(LocalHost => $_->[0], \
                  LocalPort => $_->[1], Listen => 128, V6Only => 1) or die $! } \
                  (['127.0.0.1', 7007], ['127.0.0.1', 50123], ['::1', 7007], ['::1', 50123]); \
                  print qq(ready\n); close STDOUT; sleep 600;";
    let script = format!(
        "ip link set lo up; exec 3< <(exec perl -e \"$0\"); listener=$!; read -r -u 3; {command}; \
         kill $listener"
    );
    let output = Command::new("unshare").args(["--net", "bash", "-c", &script, listen]).output();
    let output = output.unwrap();
    if both(&output).contains("Operation not permitted") {
        skip("network namespaces are for root");
        return None;
    }
    Some(both(&output))
}

/// The system chooses ports to ask from out of those that are asked for: what meets itself is not open.
#[test]
fn of_all_ports_of_this_machine_two_are_open() {
    for (method, host) in [("", "127.0.0.1"), ("", "::1"), ("--syn", "127.0.0.1"), ("--syn", "::1")]
    {
        let command = format!("{} scan --json --open {method} {host} -p-", semfio().display());
        let Some(printed) = alone(&command) else { return };
        let records = records(&printed);
        let open: Vec<_> =
            rows(&records, host).into_iter().map(|(port, state, ..)| (port, state)).collect();
        assert_eq!(open, [(7007, "open".into()), (50123, "open".into())], "{command}");
        let summary = &records.last().unwrap()["hosts"][0];
        assert_eq!(
            (&summary["open"], &summary["closed"]),
            (&2.into(), &65_533.into()),
            "{summary}"
        );
    }
}
