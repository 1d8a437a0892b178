//! `semfio nc -z` in the lab: what its ports are, for both families.

use semfio_tests::{installed, semfio};
use serde_json::Value;

use crate::{Lab, NOBODY, anybodys};

/// Ports 7007 to 7011, over TCP. An error on the way is told to the one who connects without its sender.
const TCP: [&str; 5] = ["open", "open", "closed", "filtered", "unreachable"];

/// The same over UDP: 7008 never answers, and 7010 is dropped without a word, which nobody can tell apart.
const UDP: [&str; 5] = ["open", "open|filtered", "closed", "open|filtered", "filtered"];

/// The states of the ports, and why, as a run of `program` has them.
fn states(lab: &Lab, program: &str, arguments: &str) -> Vec<(String, String)> {
    let command = format!("{program} nc --json {arguments}");
    let (printed, _) = lab.exec("client", &command);
    let told = |line: &str| {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{command}: {printed}"));
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("why"))
    };
    printed.lines().map(told).collect()
}

/// The server, who prohibits, and the code of that.
type Row = (&'static str, &'static str, u8);

const V4: Row = ("10.77.11.2", "10.77.10.2", 13);
const V6: Row = ("fd77:0:0:b::2", "fd77:0:0:a::2", 1);

fn golden(lab: &Lab, program: &str, (host, prohibiting, code): Row) {
    let mut found = states(lab, program, &format!("-z -w 1 {host} 7007-7010"));
    // Linux believes some errors only once it has tried again, after a second.
    found.extend(states(lab, program, &format!("-z -w 10 {host} 7011")));
    assert!(found.iter().map(|(state, _)| state).eq(TCP), "{host}: {found:?}");
    let found = states(lab, program, &format!("-zu -w 1 {host} 7007-7011"));
    assert!(found.iter().map(|(state, _)| state).eq(UDP), "{host}: {found:?}");
    let says = format!("says {prohibiting}");
    assert!(found[4].1.contains(&says), "{found:?}");
    assert!(found[4].1.ends_with(&format!("code {code})")), "{found:?}");
}

#[test]
fn nc_says_of_each_port_what_the_map_says() {
    let Some(lab) = Lab::up(&[]) else { return };
    for (runtime, row) in [("mio", V4), ("smol", V6), ("blocking", V4)] {
        golden(&lab, &format!("{} --runtime {runtime}", semfio().display()), row);
    }
    // The system's own nc takes what is prohibited for open.
    if installed(&["nc"]) {
        let (printed, _) = lab.exec("client", "nc -zuvw1 10.77.11.2 7011");
        assert!(printed.contains("succeeded"), "{printed}");
    }
}

#[test]
fn nc_needs_no_privileges() {
    if !installed(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::up(&[]) else { return };
    let (_folder, program) = anybodys();
    for row in [V4, V6] {
        golden(&lab, &format!("{NOBODY} {program}"), row);
    }
}
