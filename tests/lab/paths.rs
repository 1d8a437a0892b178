//! `semfio trace --paths` in the lab: all of one to eight equal paths, both families.

use std::collections::BTreeSet;

use semfio_tests::{installed, semfio};
use serde_json::Value;

use crate::{Lab, NOBODY, anybodys};

/// The hash of the system is other at each boot: one run in a million may miss a path.
const SURE: &str = "--json -n --confidence 99.9999";

/// What was found.
struct Paths {
    records: Vec<Value>,
    printed: String,
}

fn paths(lab: &Lab, before: &str, program: &str, arguments: &str) -> Paths {
    let command = format!("{before} {program} trace --paths {SURE} {arguments}");
    let (printed, code) = lab.exec("client", &command);
    let record =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{command}: {printed}"));
    let records = printed.lines().map(record).collect();
    assert_eq!(code, Some(0), "{command}: {printed}");
    Paths { records, printed: format!("{command}: {printed}") }
}

impl Paths {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(move |record| record["type"] == kind)
    }

    /// The addresses of a hop.
    fn at(&self, hop: u64) -> BTreeSet<String> {
        let nodes = self.of("node").filter(|node| node["hop"] == hop);
        let addresses = nodes.flat_map(|node| node["addresses"].as_array().unwrap());
        addresses.map(|address| address.as_str().unwrap().to_owned()).collect()
    }

    fn end(&self) -> &Value {
        self.of("end").next().unwrap_or_else(|| panic!("no end: {}", self.printed))
    }

    /// As the map has it.
    fn check(&self, ways: u64, is_v4: bool) {
        let name = |link: u64| match is_v4 {
            true => format!("10.77.{link}.2"),
            false => format!("fd77:0:0:{link:x}::2"),
        };
        let all = |from: u64| (1..=ways).map(|way| name(from + way)).collect::<BTreeSet<_>>();
        for hop in 1..=3 {
            assert_eq!(self.at(hop), BTreeSet::from([name(hop)]), "{}", self.printed);
        }
        assert_eq!(self.at(4), all(30), "{}", self.printed);
        // Over IPv4 the answers of the router there follow its way back.
        let joins = if is_v4 { BTreeSet::from([name(41)]) } else { all(40) };
        assert_eq!(self.at(5), joins, "{}", self.printed);
        assert_eq!(self.at(6), BTreeSet::from([name(50)]), "{}", self.printed);
        let end = self.end();
        assert_eq!((&end["reached"], &end["complete"]), (&true.into(), &true.into()), "{end}");
        assert_eq!((&end["paths"], &end["confidence"]), (&ways.into(), &99.9999.into()), "{end}");
        let nodes = 1 + 3 + ways + joins.len() as u64 + 1;
        let links = 3 + ways + ways + joins.len() as u64;
        assert_eq!((&end["nodes"], &end["links"]), (&nodes.into(), &links.into()), "{end}");
        assert_eq!(self.of("diamond").count(), usize::from(ways > 1), "{}", self.printed);
        assert!(self.of("diamond").all(|diamond| diamond["width"] == ways), "{}", self.printed);
        assert!(self.of("node").all(|node| node["by_packet"] == false), "{}", self.printed);
    }
}

fn find_all(of: impl IntoIterator<Item = u64>) {
    let program = semfio().display().to_string();
    for ways in of {
        let Some(lab) = Lab::up(&[("LAB_ECMP", &ways.to_string())]) else { return };
        let runtime = ["mio", "smol", "blocking"][ways as usize % 3];
        for (to, is_v4) in [("10.77.50.2", true), ("fd77:0:0:32::2", false)] {
            let found = paths(&lab, "", &program, &format!("--runtime {runtime} {to}"));
            found.check(ways, is_v4);
        }
    }
}

#[test]
fn all_of_one_to_four_equal_paths_are_found() {
    find_all(1..=4);
}

#[test]
fn all_of_five_to_eight_equal_paths_are_found() {
    find_all(5..=8);
}

#[test]
fn all_paths_by_tcp_and_without_privileges() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[("LAB_ECMP", "8")]) else { return };
    let program = semfio().display().to_string();
    paths(&lab, "", &program, "-T -p 7009 10.77.50.2").check(8, true);
    paths(&lab, "", &program, "-T -p 7007 fd77:0:0:32::2").check(8, false);
    // Linux does not look at what flows of ICMP differ in.
    let by_icmp = paths(&lab, "", &program, "-I 10.77.50.2");
    assert_eq!(by_icmp.end()["paths"], 1, "{}", by_icmp.printed);

    let (_folder, anybodys) = anybodys();
    for (to, is_v4) in [("10.77.50.2", true), ("fd77:0:0:32::2", false)] {
        let found = paths(&lab, NOBODY, &anybodys, to);
        found.check(8, is_v4);
        assert_eq!(found.of("start").next().unwrap()["socket"], "datagram");
    }
    let drawn = lab.exec("client", &format!("{program} trace --paths 10.77.50.2")).0;
    for part in
        [" 3 ─ r3.lab (10.77.3.2)", " 4 ┬ a  e1.lab (10.77.31.2)", "└ h  e8.lab", "8 paths, and"]
    {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
}
