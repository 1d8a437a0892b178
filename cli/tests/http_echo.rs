//! `semfio http echo`.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::peers::{RUNTIMES, Server, run};

/// How long an answer may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that comes back for `request`, after which the peer says no more.
fn asked(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    back
}

#[test]
fn what_is_sent_comes_back_and_replays() {
    for runtime in RUNTIMES {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let trace = trace.to_str().unwrap();
        let server = Server::http(&["--runtime", runtime, "--record", trace, "http", "echo"]);
        let known = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        let back = asked(&server, known);
        assert!(back.starts_with("HTTP/1.1 200 OK\r\n"), "{runtime}: {back}");
        assert!(back.ends_with("\r\n\r\nhello"), "{runtime}: {back}");
        let chunks =
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        let back = asked(&server, chunks);
        assert!(back.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{runtime}: {back}");
        let back = asked(&server, b"GET / HTTP/2.0\r\n\r\n");
        assert!(back.starts_with("HTTP/1.1 505 "), "{runtime}: {back}");
        assert!(back.contains("\r\nConnection: close\r\n"), "{runtime}: {back}");
        let said = server.stop(Signal::INT, 130);
        assert!(said.contains("POST /x: 200 OK"), "{runtime}: {said}");
        assert!(said.contains("the version is 1.0 or 1.1 (octet"), "{runtime}: {said}");
        let again = run(&["replay", trace], "");
        assert_eq!(again.code, Some(0), "{runtime}: {again:?}");
    }
}

#[test]
fn fields_are_not_shown() {
    let server = Server::http(&["http", "echo"]);
    asked(&server, b"TRACE / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n");
    let said = server.stop(Signal::TERM, 0);
    assert!(said.contains("TRACE /: 501 Not Implemented"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
