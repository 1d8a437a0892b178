//! Files that are put.

use std::time::Duration;

use semfio_http::SiteConfig;
use semfio_machine::Failure;
use semfio_sim::DiskConfig;

use crate::served::{ROOT, Served, answers};

fn writable(limit: u64) -> Served {
    Served::with(SiteConfig { writable: Some(limit), ..SiteConfig::default() })
}

fn put(served: &mut Served, path: &str, fields: &str, content: &[u8]) -> u16 {
    let len = content.len();
    let mut request =
        format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {len}\r\n\r\n")
            .into_bytes();
    request.extend_from_slice(content);
    let came = served.raw(request);
    answers(&came, &["PUT"])[0].status
}

/// Nothing is open, and no temporary file is left.
fn is_tidy(served: &mut Served) -> bool {
    let left = served.disk().names(ROOT, "").iter().any(|name| name.starts_with(".semfio-put"));
    !left && served.disk().open_files() == 0
}

#[test]
fn a_file_is_put_and_replaced() {
    let mut served = writable(1 << 20);
    assert_eq!(put(&mut served, "/new.txt", "", b"one"), 201);
    assert_eq!(served.get("/new.txt", "").text(), "one");
    assert_eq!(put(&mut served, "/new.txt", "", b"two"), 204);
    assert_eq!(served.get("/new.txt", "").text(), "two", "what was kept is gone");
    let large: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(put(&mut served, "/sub%20folder/large", "", &large), 201);
    assert_eq!(served.disk().content(ROOT, "sub folder/large"), Some(&large[..]));
    assert_eq!(put(&mut served, "/empty", "", b""), 201);
    // It is durable, name and content.
    served.disk().crash();
    assert_eq!(served.disk().content(ROOT, "new.txt"), Some(&b"two"[..]));
    assert_eq!(served.disk().content(ROOT, "empty"), Some(&b""[..]));
    assert!(is_tidy(&mut served));
    let got = served.ask("OPTIONS / HTTP/1.1");
    assert_eq!(got.field("Allow"), Some("GET, HEAD, OPTIONS, PUT"));
}

#[test]
fn chunks_and_their_count() {
    let mut served = writable(10);
    let chunked = "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let came = served.raw(format!("{chunked}5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"));
    assert_eq!(answers(&came, &["PUT"])[0].status, 201);
    assert_eq!(served.get("/a", "").text(), "helloworld");
    let came = served.raw(format!("{chunked}5\r\nhello\r\n6\r\nworlds\r\n0\r\n\r\n"));
    assert_eq!(answers(&came, &["PUT"])[0].status, 413, "by count");
    assert_eq!(served.get("/a", "").text(), "helloworld");
    assert_eq!(put(&mut served, "/a", "", b"hello world"), 413, "by length");
    assert!(is_tidy(&mut served));
}

#[test]
fn what_may_not_be_put() {
    let mut served = writable(1 << 20);
    for (path, status) in [
        ("/.bashrc", 403),
        ("/a%5cb", 403),
        ("/con.txt", 403),
        ("/folder/", 403),
        ("/", 403),
        ("/.semfio-put-1-0", 403),
        ("/none/a", 409),
        ("/ten.bin/a", 409),
        ("/sub%20folder", 409),
        ("/%00", 400),
    ] {
        assert_eq!(put(&mut served, path, "", b"x"), status, "{path}");
    }
    assert_eq!(put(&mut served, "/a", "Content-Range: bytes 0-0/2\r\n", b"x"), 400);
    assert!(is_tidy(&mut served));
    assert_eq!(put(&mut Served::new(), "/a", "", b"x"), 405);
}

#[test]
fn preconditions_of_a_put() {
    let mut served = writable(1 << 20);
    let tag = served.get("/ten.bin", "").field("ETag").unwrap().to_owned();
    assert_eq!(put(&mut served, "/ten.bin", "If-None-Match: *\r\n", b"x"), 412);
    assert_eq!(put(&mut served, "/ten.bin", "If-Match: \"x\"\r\n", b"x"), 412);
    assert_eq!(put(&mut served, "/none", "If-Match: *\r\n", b"x"), 412);
    assert_eq!(served.get("/ten.bin", "").text(), "0123456789");
    assert_eq!(put(&mut served, "/new", "If-None-Match: *\r\n", b"x"), 201);
    assert_eq!(put(&mut served, "/ten.bin", &format!("If-Match: {tag}\r\n"), b"x"), 204);
    assert_eq!(put(&mut served, "/ten.bin", &format!("If-Match: {tag}\r\n"), b"y"), 412);
    assert!(is_tidy(&mut served));
}

#[test]
fn who_waits_is_told_to_go_on_or_not() {
    let head = |path: &str, len: usize| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n"
        )
    };
    let mut served = writable(10);
    let peer = served.connect();
    served.net.write(peer, head("/a", 5));
    served.pass(1);
    assert_eq!(served.net.take_received(peer), b"HTTP/1.1 100 Continue\r\n\r\n");
    served.net.write(peer, "hello");
    served.pass(1);
    let came = served.net.take_received(peer);
    assert_eq!(answers(&came, &["PUT"])[0].status, 201);
    for (request, status) in [(head("/b", 11), 413), (head("/none/b", 5), 409)] {
        let peer = served.connect();
        served.net.write(peer, request);
        served.pass(1);
        let came = served.net.take_received(peer);
        assert_eq!(answers(&came, &["PUT"])[0].status, status);
        served.pass(5);
        assert!(served.net.peer(peer).eof().is_some(), "its content is not waited for");
    }
    assert!(is_tidy(&mut served));
}

#[test]
fn one_of_two_at_once() {
    let mut served = writable(100);
    let slow = served.connect();
    served.net.write(slow, "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
    served.pass(1);
    assert_eq!(put(&mut served, "/a", "", b"other"), 409);
    served.net.write(slow, "llo");
    served.pass(1);
    let came = served.net.take_received(slow);
    assert_eq!(answers(&came, &["PUT"])[0].status, 201);
    assert_eq!(served.get("/a", "").text(), "hello");
    assert_eq!(put(&mut served, "/a", "", b"other"), 204);
}

#[test]
fn what_came_there_meanwhile_is_not_replaced_by_who_wants_nothing_there() {
    let mut served = writable(100);
    let slow = served.connect();
    let head = "PUT /a HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\nContent-Length: 5\r\n\r\nhe";
    served.net.write(slow, head);
    served.pass(1);
    served.disk().put_file(ROOT, "a", "another's");
    served.net.write(slow, "llo");
    served.pass(1);
    let came = served.net.take_received(slow);
    assert_eq!(answers(&came, &["PUT"])[0].status, 412);
    assert_eq!(served.disk().content(ROOT, "a"), Some(&b"another's"[..]));
    assert!(is_tidy(&mut served));
}

#[test]
fn one_that_is_cut_leaves_nothing() {
    for latency in [0, 10] {
        for bytes in [0, 2, 200_000] {
            let mut served = writable(1 << 20);
            let latency = Duration::from_millis(latency);
            served.disk().set_config(DiskConfig { latency, ..DiskConfig::default() });
            for wait in [5, 15, 25, 100] {
                let peer = served.connect();
                let head = "PUT /ten.bin HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
                served.net.write(peer, head);
                served.net.write(peer, vec![b'x'; bytes]);
                served.net.run_for(Duration::from_millis(wait)).unwrap();
                served.net.reset(peer);
                served.pass(2);
                assert!(is_tidy(&mut served), "{bytes} bytes, reset after {wait} ms");
                assert_eq!(served.disk().content(ROOT, "ten.bin"), Some(&b"0123456789"[..]));
            }
        }
    }
}

#[test]
fn a_disk_that_fails_at_each_step() {
    for failure in [Failure::Full, Failure::Other, Failure::Exhausted, Failure::Denied] {
        let mut steps = 0;
        for step in 1.. {
            let mut served = writable(1 << 20);
            served.disk().fail_nth(step, failure);
            let before = served.disk().operations();
            let status = put(&mut served, "/ten.bin", "", b"another");
            if served.disk().operations() - before < step {
                assert_eq!(status, 204);
                break;
            }
            steps = step;
            assert!([403, 500, 503, 507].contains(&status), "{failure:?} at {step}: {status}");
            let there = served.disk().content(ROOT, "ten.bin").unwrap().to_vec();
            // Only the name's durability may be what failed.
            assert!(there == b"0123456789" || there == b"another" && step >= 6, "step {step}");
            assert!(is_tidy(&mut served), "{failure:?} at {step}");
            assert_eq!(put(&mut served, "/ten.bin", "", b"again"), 204, "it goes on");
        }
        // Looked at, created, written, synced, renamed, the folder synced.
        assert_eq!(steps, 6);
    }
}
