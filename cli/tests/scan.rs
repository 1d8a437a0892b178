//! `semfio scan` on this machine: what it says, how it ends, and its traces.

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use crate::peers::{RUNTIMES, run};

/// The states of the ports that a scan tells of, how it ended, and whether its trace agrees.
fn scan(args: &[&str]) -> (Vec<(u16, String)>, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("scan.trace");
    let trace = trace.to_str().unwrap();
    let ended = run(&[&["scan", "--json", "--record", trace, "127.0.0.1"], args].concat(), "");
    let records = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found = records.filter(|record| record["type"] == "port").map(|record| {
        (record["port"].as_u64().unwrap() as u16, record["state"].as_str().unwrap().to_owned())
    });
    let again = run(&["replay", trace], "");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.starts_with("agrees"), "{again:?}");
    (found.collect(), ended.code)
}

#[test]
fn what_listens_is_open_and_the_trace_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap().port();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((size, from)) = echo.recv_from(&mut bytes) {
            let _ = echo.send_to(&bytes[..size], from);
        }
    });
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let never = silent.local_addr().unwrap().port();
    for runtime in RUNTIMES {
        let with = |port: u16, more: &[&str]| {
            let port = port.to_string();
            scan(&[&["--runtime", runtime, "-p", &port], more].concat())
        };
        assert_eq!(with(tcp, &[]), (vec![(tcp, "open".into())], Some(0)));
        assert_eq!(with(udp, &["--udp"]), (vec![(udp, "open".into())], Some(0)));
        let (found, code) = with(never, &["--udp", "--wait", "0.1", "--retries", "0"]);
        assert_eq!((found, code), (vec![(never, "open|filtered".into())], Some(1)));
    }
    drop((listener, silent));
}

#[test]
fn what_cannot_be_scanned_is_said() {
    for (args, code, says) in [
        (&["10.0.0.0/8"][..], 2, "4096 addresses"),
        (&["127.0.0.1", "-p", "0"], 2, "expected ports"),
        (&["nobody.invalid"], 1, "no such host"),
        (&["127.0.0.1", "--syn", "--udp"], 2, "cannot be used with"),
        (&["127.0.0.1", "127.0.0.1/20", "127.1.0.0/20", "127.2.0.0/20"], 2, "4096 addresses"),
    ] {
        let ended = run(&[&["scan"], args].concat(), "");
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.err.contains(says), "{args:?}: {ended:?}");
    }
}
