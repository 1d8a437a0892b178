//! `semfio ping` in the lab, judged by its `--json`, for both families and each kind of socket.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use semfio_tests::{installed, semfio};
use serde_json::Value;

use crate::{Lab, NOBODY, anybodys};

/// Who pings: the program, and what stands before it.
struct Pinger {
    before: &'static str,
    program: String,
    runtime: &'static str,
}

impl Pinger {
    /// The records of a run, and how it ended.
    fn ping(&self, lab: &Lab, arguments: &str) -> (Vec<Value>, Option<i32>) {
        let Self { before, program, runtime } = self;
        let command = format!("{before} {program} ping --json --runtime {runtime} {arguments}");
        let (printed, code) = lab.exec("client", &command);
        let records = printed.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{command}: {printed}"))
        });
        (records.collect(), code)
    }
}

fn of<'r>(records: &'r [Value], kind: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["type"] == kind).collect()
}

/// What is asked, and who says what of the first request: the address, type, code and words.
type Row = (&'static str, Option<(&'static str, u8, u8, &'static str)>);

const ROWS: [Row; 10] = [
    ("10.77.250.9", Some(("10.77.4.2", 3, 1, "Destination Host Unreachable"))),
    ("10.77.251.9", Some(("10.77.4.2", 3, 13, "Packet filtered"))),
    ("10.77.252.9", None),
    ("10.77.253.9", Some(("10.77.6.2", 11, 0, "Time to live exceeded"))),
    ("10.77.254.9", Some(("10.77.4.2", 3, 0, "Destination Net Unreachable"))),
    ("fd77:0:0:fa::9", Some(("fd77:0:0:4::2", 1, 0, "Destination unreachable: No route"))),
    (
        "fd77:0:0:fb::9",
        Some(("fd77:0:0:4::2", 1, 1, "Destination unreachable: Administratively prohibited")),
    ),
    ("fd77:0:0:fc::9", None),
    ("fd77:0:0:fd::9", Some(("fd77:0:0:6::2", 3, 0, "Time exceeded: Hop limit"))),
    ("fd77:0:0:fe::9", Some(("fd77:0:0:4::2", 1, 0, "Destination unreachable: No route"))),
];

/// The golden rows that concern ping, all hosts at once.
fn golden(lab: &Lab, pinger: &Pinger, socket: &str) {
    let hosts: Vec<_> = ROWS.iter().map(|(host, _)| *host).collect();
    let all = format!("-c 1 -W 2 10.77.11.2 fd77:0:0:b::2 {}", hosts.join(" "));
    let (records, code) = pinger.ping(lab, &all);
    assert_eq!(code, Some(1), "some did not answer: {records:?}");
    let start = &records[0];
    assert_eq!((&start["type"], &start["v"]), (&"start".into(), &1.into()));
    let sockets = start["hosts"].as_array().unwrap().iter();
    assert!(sockets.clone().all(|host| host["socket"] == socket), "{start}");
    let replies = of(&records, "reply");
    assert_eq!(replies.len(), 2, "{records:?}");
    for reply in replies {
        assert_eq!((&reply["ttl"], &reply["bytes"]), (&54.into(), &64.into()), "{reply}");
        assert_eq!(reply["clocks"], "kernel/kernel", "{reply}");
    }
    for (host, expected) in ROWS {
        let told = |kind| {
            let mut of = of(&records, kind);
            of.retain(|record| record["address"] == host);
            of
        };
        let summary = told("summary");
        assert_eq!(
            (&summary[0]["lost"], &summary[0]["received"]),
            (&1.into(), &0.into()),
            "{host}"
        );
        let Some((from, icmp_type, icmp_code, reason)) = expected else {
            assert_eq!((told("lost").len(), told("unreachable").len()), (1, 0), "{host}");
            continue;
        };
        let [error] = *told("unreachable") else { panic!("{host}: {records:?}") };
        assert_eq!(error["from"], from, "{error}");
        assert_eq!(
            (&error["icmp_type"], &error["icmp_code"]),
            (&icmp_type.into(), &icmp_code.into()),
            "{error}"
        );
        assert_eq!(error["reason"], reason, "{error}");
    }
    assert_eq!(of(&records, "end")[0]["malformed"], 0);
}

/// A path that is narrower than the first link: a router says so, then the system does.
fn narrow(lab: &Lab, pinger: &Pinger) {
    for (host, size, from, reason) in [
        ("10.77.62.2", 1472, "10.77.4.2", "Frag needed and DF set (mtu = 1400)"),
        ("fd77:0:0:3e::2", 1452, "fd77:0:0:4::2", "Packet too big: mtu=1400"),
    ] {
        let (records, code) = pinger.ping(lab, &format!("-c 2 -i 0.3 -W 3 -M do -s {size} {host}"));
        assert_eq!(code, Some(1));
        let [error] = *of(&records, "unreachable") else { panic!("{records:?}") };
        assert_eq!((&error["from"], &error["reason"]), (&from.into(), &reason.into()));
        assert_eq!((&error["info"], &error["seq"]), (&1400.into(), &1.into()));
        let [refused] = *of(&records, "not_sent") else { panic!("{records:?}") };
        assert_eq!((&refused["reason"], &refused["seq"]), (&"message too long".into(), &2.into()));
    }
}

#[test]
fn ping_says_of_each_host_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    let program = semfio().display().to_string();
    let root = |runtime| Pinger { before: "", program: program.clone(), runtime };
    // One after the other: a router tells one host of five dead ends at once, and of one more each
    // second. The silent ones cost two.
    for runtime in ["mio", "smol", "blocking"] {
        golden(&lab, &root(runtime), "datagram");
    }
    narrow(&lab, &root("mio"));
    // Root has other ones.
    close(&lab);
    golden(&lab, &root("mio"), "raw");
}

#[test]
fn ping_needs_no_privileges() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let (_folder, program) = anybodys();
    let nobody = Pinger { before: NOBODY, program, runtime: "mio" };
    golden(&lab, &nobody, "datagram");
    narrow(&lab, &nobody);

    close(&lab);
    let command = format!("{} {} ping -c1 10.77.11.2", nobody.before, nobody.program);
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("Permission denied") && printed.contains("\nhint: "), "{printed}");
}

/// From now on nobody may use datagram sockets.
fn close(lab: &Lab) {
    let mut closing = lab.script("exec");
    closing.args(["client", "sh", "-c", "echo 1 0 >/proc/sys/net/ipv4/ping_group_range"]);
    assert!(closing.status().unwrap().success());
}

/// The records of a run that something befalls after its third reply.
fn befallen(lab: &Lab, arguments: &str, what: &[&str]) -> Vec<Value> {
    let mut pinging = lab.script("exec");
    pinging.arg("client").arg(semfio()).args(["ping", "--json"]);
    pinging.args(arguments.split_whitespace()).stdout(Stdio::piped());
    let mut child = pinging.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut records, mut befell) = (Vec::<Value>::new(), false);
    for line in lines {
        records.push(serde_json::from_str(&line.unwrap()).unwrap());
        if !befell && of(&records, "reply").len() == 3 {
            assert!(lab.script("exec").arg("client").args(what).status().unwrap().success());
            befell = true;
        }
    }
    child.wait().unwrap();
    assert!(befell, "{records:?}");
    records
}

#[test]
fn an_interface_that_goes_down_costs_what_was_on_its_way_and_no_more() {
    let Some(lab) = Lab::up(&[]) else { return };
    let down = ["ip", "link", "set", "l1", "down"];
    let arguments = "-c 20 -i 0.1 -W 1 10.77.11.2 fd77:0:0:b::2";
    let records = befallen(&lab, arguments, &down);
    for summary in of(&records, "summary") {
        let count = |field: &str| summary[field].as_u64().unwrap();
        assert_eq!(count("transmitted"), 20, "{summary}");
        assert!(count("received") >= 1 && count("received") < 20, "{summary}");
        assert_eq!(count("received") + count("lost"), 20, "{summary}");
        assert_eq!((count("duplicates"), count("longest_burst")), (0, count("lost")), "{summary}");
        // One of them may have been on its way.
        assert!(count("not_sent") + 1 >= count("lost"), "{summary}");
    }
    let refused = of(&records, "not_sent");
    assert!(refused.iter().all(|record| record["reason"] == "no route to host"), "{refused:?}");
}

#[test]
fn two_that_ping_one_host_by_raw_sockets_do_not_see_each_other() {
    let Some(lab) = Lab::up(&[]) else { return };
    close(&lab);
    let lab = &lab;
    std::thread::scope(|scope| {
        let run = || {
            let program = semfio().display().to_string();
            let root = Pinger { before: "", program, runtime: "mio" };
            root.ping(lab, "-c 40 -i 0.02 -W 5 10.77.11.2 fd77:0:0:b::2")
        };
        for run in [scope.spawn(run), scope.spawn(run)] {
            let (records, code) = run.join().unwrap();
            assert_eq!(code, Some(0), "{records:?}");
            for summary in of(&records, "summary") {
                assert_eq!(summary["socket"], "raw");
                for (field, count) in
                    [("received", 40), ("duplicates", 0), ("elsewhere", 0), ("altered", 0)]
                {
                    assert_eq!(summary[field], count, "{summary}");
                }
            }
            // Each saw the other's echoes, and knew them for what they are.
            assert!(of(&records, "end")[0]["foreign"].as_u64().unwrap() > 0, "{records:?}");
        }
    });
}

#[test]
fn names_are_those_of_addresses_and_no_route_is_said() {
    let Some(lab) = Lab::up(&[]) else { return };
    let program = semfio().display().to_string();
    let (printed, code) = lab.exec("client", &format!("{program} ping -4 -c 3 -i 0.2 server.lab"));
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("64 bytes from server.lab (10.77.11.2): icmp_seq=3 ttl=54"),
        "{printed}"
    );
    let (printed, _) = lab.exec("client", &format!("{program} ping -4 -n -c 1 server.lab"));
    assert!(printed.contains("64 bytes from 10.77.11.2: icmp_seq=1 ttl=54"), "{printed}");

    let (printed, code) = lab.exec("client", &format!("{program} ping -c 1 -W 1 192.0.2.1"));
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("To 192.0.2.1 icmp_seq=1 not sent: no route to host"), "{printed}");
}
