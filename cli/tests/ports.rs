//! `semfio ports`.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::run;

fn records(port: u16) -> Vec<Value> {
    let ended = run(&["ports", "--json", "--port", &port.to_string()], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// In the order of the alphabet: which socket has the lower port is chance.
fn states(records: &[Value]) -> Vec<&str> {
    let mut states: Vec<_> = records.iter().map(|row| row["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    states
}

#[test]
fn our_own_sockets_are_listed_as_what_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    let found = records(address.port());
    assert_eq!(states(&found), ["ESTABLISHED", "ESTABLISHED", "LISTEN"], "{found:?}");
    assert_eq!((&found[0]["v"], &found[0]["state"]), (&json!(1), &json!("LISTEN")));
    assert_eq!((&found[0]["local"], &found[0]["remote"]), (&json!(address), &Value::Null));
    for row in &found {
        assert_eq!((&row["type"], &row["transport"]), (&json!("socket"), &json!("tcp")));
        assert_eq!(row["process"]["pid"], std::process::id());
    }
    // Ours first ends, then theirs has not.
    drop(client);
    let ended = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        states(&records(address.port())) == ["CLOSE_WAIT", "FIN_WAIT2", "LISTEN"]
    });
    assert!(ended, "{:?}", records(address.port()));
    drop((server, listener));
}

#[test]
fn of_ipv6_and_udp_too() {
    let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = bound.local_addr().unwrap().port();
    let found = records(port);
    assert!(found.iter().any(|row| row["transport"] == "udp" && row["state"].is_null()));
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("skipped: no IPv6 here");
    };
    let address = listener.local_addr().unwrap();
    let found = records(address.port());
    assert!(found.iter().any(|row| row["local"] == json!(address) && row["state"] == "LISTEN"));
    // For people, as netstat has it.
    let ended = run(&["ports", "--port", &address.port().to_string()], "");
    let row = ended.out.lines().find(|line| line.starts_with("tcp6 ")).unwrap();
    let fields: Vec<_> = row.split_whitespace().collect();
    assert_eq!(fields[3..6], [address.to_string().as_str(), "[::]:*", "LISTEN"]);
    assert!(fields[6].starts_with(&format!("{}/", std::process::id())), "{row}");
}

#[test]
fn a_port_that_nobody_has_is_a_negative_result() {
    let all = run(&["ports", "--json"], "");
    assert_eq!(all.code, Some(0));
    // One that the system gives to nobody who does not ask for it.
    let free = (700..1024).find(|port| !all.out.contains(&format!(":{port}\""))).unwrap();
    let ended = run(&["ports", "--json", "--port", &free.to_string()], "");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    for port in ["0", "65536", "http"] {
        assert_eq!(run(&["ports", "--port", port], "").code, Some(2));
    }
}
