//! `semfio http serve` with several shards, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::peers::{Server, run};

/// How long an answer may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n";

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One answer, and what came behind it.
fn answer(stream: &mut TcpStream) -> String {
    let mut back = Vec::new();
    while !back.ends_with(b"the page") {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        assert!(n > 0, "an end behind {:?}", String::from_utf8_lossy(&back));
        back.extend_from_slice(&some[..n]);
    }
    String::from_utf8(back).unwrap()
}

#[test]
fn who_has_asked_is_answered_by_one_of_the_shards_though_they_end() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page"), "the page").unwrap();
    let folder = folder.path().to_str().unwrap();
    let server = Server::http(&["http", "serve", folder, "--shards", "3"]);
    let mut kept: Vec<_> = (0..24).map(|_| connect(&server)).collect();
    for stream in &mut kept {
        stream.write_all(REQUEST).unwrap();
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    // Asked on connections that are known, and on some that nobody may have accepted yet.
    let mut asking = kept;
    asking.extend((0..24).map(|_| connect(&server)));
    for stream in &mut asking {
        stream.write_all(REQUEST).unwrap();
    }
    let id = server.id();
    let stopped = std::thread::spawn(move || server.stop(Signal::TERM, 0));
    for stream in &mut asking {
        let back = answer(stream);
        assert!(back.starts_with("HTTP/1.1 200 "), "{back}");
        // Nothing else follows, and it is an end, no reset.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    drop(asking);
    stopped.join().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn each_shard_listens_and_a_trace_is_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for shards in ["1", "5"] {
        let server = Server::http(&["http", "serve", path, "--shards", shards]);
        let port = server.address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let listens = format!(":{port:04X} 00000000:0000 0A");
        assert_eq!(sockets.matches(&listens).count().to_string(), shards);
        // Nobody else gets a part of the peers.
        let other = ["http", "serve", path, "--shards", "2", "--listen", &server.address];
        let other = run(&other, "");
        assert_eq!(other.code, Some(3), "{other:?}");
        server.stop(Signal::TERM, 0);
    }
    let trace = folder.path().join("trace");
    let trace = trace.to_str().unwrap();
    let both = run(&["--record", trace, "http", "serve", path, "--shards", "2"], "");
    assert_eq!(both.code, Some(2), "{both:?}");
    assert!(both.err.contains("cannot record several shards in one trace"), "{both:?}");
}
