//! `semfio trace` in the lab, judged by its `--json`: both families, all methods and runtimes, with
//! privileges and without.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use semfio_tests::{installed, semfio};
use serde_json::Value;

use crate::{Lab, NOBODY, anybodys};

/// Who traces: the program, and what stands before it.
#[derive(Clone)]
struct Tracer {
    before: &'static str,
    program: String,
    runtime: &'static str,
    /// What it says that its sockets are.
    socket: &'static str,
}

/// A run.
struct Traced {
    command: String,
    records: Vec<Value>,
    code: Option<i32>,
}

impl Tracer {
    fn root(runtime: &'static str) -> Self {
        let program = semfio().display().to_string();
        Self { before: "", program, runtime, socket: "raw" }
    }

    fn trace(&self, lab: &Lab, arguments: &str) -> Traced {
        let Self { before, program, runtime, socket } = self;
        let command = format!("{before} {program} trace --json --runtime {runtime} {arguments}");
        let (printed, code) = lab.exec("client", &command);
        let records = printed.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{command}: {printed}"))
        });
        let traced = Traced { records: records.collect(), command, code };
        let start = &traced.records[0];
        assert_eq!((&start["type"], &start["v"]), (&"start".into(), &1.into()), "{start}");
        assert_eq!(&start["socket"], socket, "{start}");
        traced
    }
}

impl Traced {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(move |record| record["type"] == kind)
    }

    fn end(&self) -> &Value {
        self.of("end").next().unwrap_or_else(|| panic!("no end: {self}"))
    }

    /// Who answered for a hop, by address, each once.
    fn at(&self, hop: u64) -> BTreeSet<&str> {
        let answers = self.of("answer").filter(|answer| answer["hop"] == hop);
        answers.map(|answer| answer["from"].as_str().unwrap()).collect()
    }

    fn hop(&self, hop: u64) -> &Value {
        let mut found = self.of("hop").filter(|record| record["hop"] == hop);
        found.next().unwrap_or_else(|| panic!("no hop {hop}: {self}"))
    }

    /// The last hop that is told of.
    fn last(&self) -> u64 {
        self.of("hop").map(|hop| hop["hop"].as_u64().unwrap()).max().unwrap_or(0)
    }

    fn reached(&self, hop: u64) {
        assert_eq!(self.code, Some(0), "{self}");
        assert_eq!((&self.end()["reached"], self.last()), (&true.into(), hop), "{self}");
    }

    fn not_reached(&self, reason: &str) {
        assert_eq!(self.code, Some(1), "{self}");
        let end = self.end();
        assert_eq!((&end["reached"], &end["reason"]), (&false.into(), &reason.into()), "{self}");
    }

    /// Only this one answered for the hop.
    fn only(&self, hop: u64, from: &str) {
        assert_eq!(self.at(hop), BTreeSet::from([from]), "hop {hop}: {self}");
    }
}

impl std::fmt::Display for Traced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.command)?;
        self.records.iter().try_for_each(|record| write!(f, "\n{record}"))
    }
}

/// The far end of a link.
fn end_of(link: u8, v4: bool) -> String {
    if v4 { format!("10.77.{link}.2") } else { format!("fd77:0:0:{link:x}::2") }
}

/// A dead end.
fn dead(link: u8, v4: bool) -> String {
    if v4 { format!("10.77.{link}.9") } else { format!("fd77:0:0:{link:x}::9") }
}

/// All eleven hops, by address and name, each answered three times in time.
fn chain(lab: &Lab, tracer: &Tracer, method: &str, v4: bool) {
    let traced = tracer.trace(lab, &format!("{method} {}", end_of(11, v4)));
    traced.reached(11);
    for hop in 1..=11_u8 {
        traced.only(hop.into(), &end_of(hop, v4));
        let told = traced.hop(hop.into());
        let name = if hop == 11 { "server.lab".into() } else { format!("r{hop}.lab") };
        assert_eq!(told["addresses"][0]["name"], name, "{told}");
        assert_eq!((&told["sent"], &told["answered"]), (&3.into(), &3.into()), "{traced}");
    }
    // The clocks of the kernel, both ways; but for what it has lost under load.
    let kernel = traced.of("answer").filter(|answer| answer["clocks"] == "kernel/kernel").count();
    assert!(kernel >= 30, "{kernel} of 33: {traced}");
}

/// A router that never answers, and somebody behind it.
fn silent(lab: &Lab, tracer: &Tracer, method: &str, v4: bool) {
    let traced = tracer.trace(lab, &format!("{method} {}", end_of(22, v4)));
    traced.reached(4);
    traced.only(1, &end_of(1, v4));
    traced.only(2, &end_of(2, v4));
    assert_eq!(traced.at(3), BTreeSet::new(), "{traced}");
    traced.only(4, &end_of(22, v4));
}

/// Equal ways: one flow takes one of them.
fn constant(lab: &Lab, tracer: &Tracer, method: &str, v4: bool) {
    let traced = tracer.trace(lab, &format!("-q 10 {method} {}", end_of(50, v4)));
    traced.reached(6);
    for (hop, ways) in [(4, [31, 32]), (5, [41, 42])] {
        let at = traced.at(hop);
        let ways = ways.map(|link| end_of(link, v4));
        assert_eq!(at.len(), 1, "one flow, several ways: {traced}");
        assert!(ways.iter().any(|way| at.contains(way.as_str())), "{traced}");
    }
    traced.only(6, &end_of(50, v4));
}

/// Where there is no way on.
fn dead_ends(lab: &Lab, tracer: &Tracer, method: &str, v4: bool) {
    let r4 = end_of(4, v4);
    for (link, code_v4, code_v6) in [(250, 1, 0), (251, 13, 1), (254, 0, 0)] {
        rest();
        let traced = tracer.trace(lab, &format!("-q 1 {method} {}", dead(link, v4)));
        traced.not_reached("unreachable");
        traced.only(3, &end_of(3, v4));
        traced.only(4, &r4);
        assert_eq!(traced.last(), 4, "{traced}");
        let code = if v4 { code_v4 } else { code_v6 };
        let answer = traced.of("answer").find(|answer| answer["hop"] == 4).unwrap();
        assert_eq!((&answer["kind"], &answer["code"]), (&"unreachable".into(), &code.into()));
    }
    // Without a word.
    let traced = tracer.trace(lab, &format!("-q 1 -w 1 -m 7 {method} {}", dead(252, v4)));
    assert_eq!((traced.code, &traced.end()["reached"]), (Some(1), &false.into()), "{traced}");
    traced.only(3, &end_of(3, v4));
    assert!((4..=7).all(|hop| traced.at(hop).is_empty()), "{traced}");
    // In circles.
    let traced = tracer.trace(lab, &format!("-q 1 -m 9 {method} {}", dead(253, v4)));
    assert_eq!((traced.code, &traced.end()["reached"]), (Some(1), &false.into()), "{traced}");
    traced.only(5, &end_of(5, v4));
    for hop in 6..=traced.last() {
        // Of IPv6, r5 answers from where the packet came in; of IPv4 from where it would leave.
        let r5 = if v4 { end_of(5, v4) } else { "fd77:0:0:6::1".into() };
        traced.only(hop, &if hop % 2 == 1 { r5 } else { end_of(6, v4) });
    }
    assert!(traced.last() >= 7, "{traced}");
}

/// A router that has told us of any error says nothing of a dead end in the second that follows
/// (net/ipv4/route.c, ip_error).
fn rest() {
    std::thread::sleep(Duration::from_millis(1_200));
}

/// Where packets have to be smaller.
fn narrow(lab: &Lab, tracer: &Tracer, v4: bool) {
    let traced = tracer.trace(lab, &format!("--mtu {}", end_of(62, v4)));
    traced.reached(6);
    let sizes: Vec<_> = traced
        .of("hop")
        .filter_map(|hop| Some((hop["hop"].as_u64()?, hop["mtu"].as_u64()?)))
        .collect();
    assert_eq!(sizes, [(1, 1500), (5, 1400), (6, 1280)], "{traced}");
    assert_eq!(traced.end()["mtu"], 1280, "{traced}");
}

/// A firewall before the server.
fn refused(lab: &Lab, tracer: &Tracer, method: &str, v4: bool) {
    let server = end_of(11, v4);
    rest();
    let traced = tracer.trace(lab, &format!("-q 1 {method} -p 7011 {server}"));
    traced.not_reached("unreachable");
    assert_eq!(traced.last(), 10, "{traced}");
    traced.only(10, &end_of(10, v4));
    let answer = traced.of("answer").find(|answer| answer["hop"] == 10).unwrap();
    let code = if v4 { 13 } else { 1 };
    assert_eq!((&answer["kind"], &answer["code"]), (&"unreachable".into(), &code.into()));
}

#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}

/// Ports of each kind, by SYN.
fn ports(lab: &Lab, tracer: &Tracer, v4: bool) {
    let server = end_of(11, v4);
    for (port, kind) in [(7007, "syn_ack"), (7009, "reset")] {
        let traced = tracer.trace(lab, &format!("-q 1 -T -p {port} {server}"));
        traced.reached(11);
        for hop in 1..=11_u8 {
            traced.only(hop.into(), &end_of(hop, v4));
        }
        let answer = traced.of("answer").find(|answer| answer["hop"] == 11).unwrap();
        assert_eq!(answer["kind"], kind, "{answer}");
    }
    let traced = tracer.trace(lab, &format!("-q 1 -w 1 -m 13 -T -p 7010 {server}"));
    assert_eq!((traced.code, &traced.end()["reached"]), (Some(1), &false.into()), "{traced}");
    // r10 drops it before it looks at the hops that are left.
    traced.only(9, &end_of(9, v4));
    assert!((10..=13).all(|hop| traced.at(hop).is_empty()), "{traced}");
}

#[test]
fn a_trace_says_of_each_way_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    let [mio, smol, blocking] = ["mio", "smol", "blocking"].map(Tracer::root);
    for v4 in [true, false] {
        chain(&lab, &mio, "-U", v4);
        chain(&lab, &smol, "-I", v4);
        chain(&lab, &blocking, "-T -p 7009", v4);
        silent(&lab, &smol, "-U", v4);
        silent(&lab, &mio, "-I", v4);
        constant(&lab, &blocking, "-U", v4);
        constant(&lab, &mio, "-I", v4);
        constant(&lab, &smol, "-T -p 7009", v4);
        narrow(&lab, &blocking, v4);
        refused(&lab, &smol, "-U", v4);
        refused(&lab, &mio, "-T", v4);
        ports(&lab, &mio, v4);
    }
}

/// Ctrl-C ends it with what is known by then.
fn interrupted(lab: &Lab) {
    let program = semfio().display().to_string();
    let command = format!("timeout --preserve-status -s INT 3 {program} trace -w 60 10.77.252.9");
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(130), "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert!(lines[3].starts_with(" 3  r3.lab (10.77.3.2)  "), "{printed}");
}

#[test]
fn a_trace_says_where_there_is_no_way_on() {
    let Some(lab) = Lab::up(&[]) else { return };
    interrupted(&lab);
    for v4 in [true, false] {
        dead_ends(&lab, &Tracer::root("mio"), "-U", v4);
    }
}

#[test]
fn a_trace_by_udp_or_icmp_needs_no_privileges() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let (_folder, program) = anybodys();
    let nobody =
        |runtime| Tracer { before: NOBODY, program: program.clone(), runtime, socket: "datagram" };
    let [mio, smol, blocking] = ["mio", "smol", "blocking"].map(nobody);
    for v4 in [true, false] {
        chain(&lab, &mio, "-U", v4);
        chain(&lab, &smol, "-I", v4);
        silent(&lab, &blocking, "-U", v4);
        silent(&lab, &smol, "-I", v4);
        constant(&lab, &smol, "-U", v4);
        constant(&lab, &blocking, "-I", v4);
        narrow(&lab, &mio, v4);
        refused(&lab, &mio, "-U", v4);
    }

    let command = format!("{NOBODY} {program} trace -T 10.77.11.2");
    let (printed, code) = lab.exec("client", &command);
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("raw sockets") && printed.contains("\nhint: "), "{printed}");

    // From now on nobody may send ICMP.
    let mut closing = lab.script("exec");
    closing.args(["client", "sh", "-c", "echo 1 0 >/proc/sys/net/ipv4/ping_group_range"]);
    assert!(closing.status().unwrap().success());
    let (printed, code) = lab.exec("client", &format!("{NOBODY} {program} trace -I 10.77.11.2"));
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("Permission denied"), "{printed}");
    assert!(printed.contains("\nhint: --method udp"), "{printed}");
    chain(&lab, &mio, "-U", true);
}

#[test]
fn where_there_is_no_way_on_is_told_without_privileges() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let (_folder, program) = anybodys();
    let nobody =
        |runtime| Tracer { before: NOBODY, program: program.clone(), runtime, socket: "datagram" };
    dead_ends(&lab, &nobody("blocking"), "-I", true);
    dead_ends(&lab, &nobody("smol"), "-U", false);
}

/// A router that says little is no loss.
#[test]
fn a_rate_limit_is_no_loss() {
    let Some(lab) = Lab::up(&[]) else { return };
    let limit = lab.script("ratelimit").args(["r4", "1000"]).output().unwrap();
    assert!(limit.status.success());
    let traced = Tracer::root("mio").trace(&lab, "-q 10 10.77.11.2");
    traced.reached(11);
    for hop in 1..=11 {
        let told = traced.hop(hop);
        let expected = if hop == 4 { "rate_limited" } else { "fine" };
        assert_eq!(told["verdict"], expected, "hop {hop}: {traced}");
    }
    let told = traced.hop(4);
    assert!(told["answered"].as_u64() < told["sent"].as_u64(), "{told}");
}

/// Whoever knows the names does not answer: that costs no probe anything, and the end a second.
#[test]
fn a_resolver_that_is_silent_holds_up_nothing() {
    let Some(lab) = Lab::up(&[]) else { return };
    let folder = std::path::Path::new("/etc/netns").join(format!("{}-client", lab.prefix));
    fs::write(folder.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    // Where r4 drops all.
    fs::write(folder.join("resolv.conf"), "nameserver 10.77.252.9\n").unwrap();
    let tracer = Tracer::root("mio");
    let took = |arguments: &str| {
        let began = clock();
        let traced = tracer.trace(&lab, arguments);
        traced.reached(11);
        (began.elapsed(), traced)
    };
    let (without, _) = took("-n 10.77.11.2");
    let (with, traced) = took("10.77.11.2");
    let names = traced.of("hop").filter(|hop| !hop["addresses"][0]["name"].is_null()).count();
    assert_eq!(names, 0, "{traced}");
    let more = with.saturating_sub(without);
    assert!(more > Duration::from_millis(900), "it was not waited for: {more:?}");
    assert!(more < Duration::from_secs(3), "{more:?}");
    let slow = traced.of("answer").filter(|answer| answer["rtt_ns"].as_u64() > Some(500_000_000));
    assert_eq!(slow.count(), 0, "{traced}");
}
