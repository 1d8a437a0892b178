//! What is made as it is sent: listings, codings, pages, lines of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use miniz_oxide::inflate::decompress_to_vec;
use semfio_http::{LogForm, SiteConfig, SiteReport, Status};
use semfio_sim::{LinkConfig, PeerState};

use crate::served::{ROOT, Served, answers};

/// A text that is larger than what is kept.
fn text(len: usize) -> String {
    let mut text = String::new();
    for n in 0.. {
        if text.len() >= len {
            break;
        }
        text.push_str(&format!("line {n} of a text\n"));
    }
    text.truncate(len);
    text
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    assert_eq!(bytes[..4], [0x1F, 0x8B, 8, 0]);
    decompress_to_vec(&bytes[10..bytes.len() - 8]).unwrap()
}

fn with_texts() -> Served {
    let mut served = Served::new();
    for (path, len) in [("small.txt", 5_000), ("large.txt", 300_000), ("tiny.txt", 100)] {
        served.disk().put_file(ROOT, path, text(len));
    }
    served
}

#[test]
fn texts_are_compressed_for_who_asks() {
    let mut served = with_texts();
    for (path, len) in [("/small.txt", 5_000), ("/large.txt", 300_000)] {
        for again in [false, true] {
            let got = served.get(path, "Accept-Encoding: gzip, deflate");
            assert_eq!((got.status, got.field("Content-Encoding")), (200, Some("gzip")), "{path}");
            assert_eq!(gunzip(&got.body), text(len).as_bytes());
            assert!(got.body.len() < len / 3);
            assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
            assert!(
                got.field("ETag").unwrap().starts_with("W/\""),
                "other bytes another day: {again}"
            );
            let got = served.get(path, "");
            assert_eq!((got.field("Content-Encoding"), got.body.len()), (None, len));
            assert_eq!(got.field("Vary"), Some("Accept-Encoding"), "whenever it is negotiated");
            let got = served.get(path, "Accept-Encoding: gzip;q=0, identity");
            assert_eq!(got.field("Content-Encoding"), None);
            let head = served.ask(&format!("HEAD {path} HTTP/1.1\nAccept-Encoding: gzip"));
            assert_eq!((head.status, head.field("Content-Encoding")), (200, Some("gzip")));
            let tag = head.field("ETag").unwrap().to_owned();
            let fields = format!("Accept-Encoding: gzip\nIf-None-Match: {tag}");
            assert_eq!(served.get(path, &fields).status, 304);
        }
    }
    for path in ["/tiny.txt", "/large.bin"] {
        let got = served.get(path, "Accept-Encoding: gzip");
        assert_eq!(got.field("Content-Encoding"), None, "{path}");
    }
    assert_eq!(served.get("/large.bin", "Accept-Encoding: gzip").field("Vary"), None);
    assert_eq!(served.get("/small.txt", "Accept-Encoding: identity;q=0").status, 406);
    assert_eq!(served.disk().open_files(), 0);
}

#[test]
fn what_is_compressed_waits_for_a_slow_reader_and_is_cut_where_the_file_ends() {
    let request = "GET /large.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    for shrinks in [false, true] {
        let mut served = Served::new();
        // It does not become much shorter.
        let mut noise = 1_u32;
        let content: Vec<u8> = (0..2_000_000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            })
            .collect();
        served.disk().put_file(ROOT, "large.txt", content.clone());
        let link = LinkConfig { window: 16 * 1024, ..LinkConfig::default() };
        served.net.set_default_link(link);
        let peer = served.connect();
        served.net.set_reading(peer, false);
        served.net.write(peer, request);
        served.pass(1);
        let read = served.disk().operations();
        served.pass(5);
        assert_eq!(served.disk().operations(), read, "it reads no more than it can send");
        if shrinks {
            let now = served.net.now();
            assert!(served.disk().rewrite(now, ROOT, "large.txt", vec![b'x'; 1_000]));
        }
        served.net.set_reading(peer, true);
        served.pass(10);
        let reset = matches!(served.net.peer(peer).state(), PeerState::Failed(_));
        assert_eq!(reset, shrinks);
        let came = served.net.take_received(peer);
        if shrinks {
            assert!(!came.ends_with(b"\r\n0\r\n\r\n"), "it must not look whole");
        } else {
            assert_eq!(gunzip(&answers(&came, &["GET"])[0].body), content);
        }
        assert_eq!(served.disk().open_files(), 0);
    }
}

#[test]
fn encoded_siblings_and_ranges_of_them() {
    let mut served = with_texts();
    for (path, content) in [
        ("small.txt.br", "brotli's bytes"),
        ("small.txt.gz", "gzip's bytes"),
        ("large.txt.zst", "zstd's bytes"),
    ] {
        served.disk().put_file(ROOT, path, content);
    }
    for _ in 0..2 {
        let got = served.get("/small.txt", "Accept-Encoding: gzip, br");
        assert_eq!((got.text(), got.field("Content-Encoding")), ("brotli's bytes", Some("br")));
        assert_eq!(got.field("Content-Type"), Some("text/plain; charset=utf-8"));
        let tag = got.field("ETag").unwrap().to_owned();
        assert!(tag.starts_with('"'), "strong: {tag}");
        let fields = format!("Accept-Encoding: br\nRange: bytes=0-5\nIf-Range: {tag}");
        let got = served.get("/small.txt", &fields);
        assert_eq!((got.status, got.text()), (206, "brotli"));
        assert_eq!(got.field("Content-Range"), Some("bytes 0-5/14"));
        assert_eq!(got.field("Content-Encoding"), Some("br"));
        let got = served.get("/small.txt", "Accept-Encoding: gzip");
        assert_eq!(got.text(), "gzip's bytes");
        assert_ne!(got.field("ETag"), Some(&*tag), "each has its own");
        let got = served.get("/large.txt", "Accept-Encoding: zstd, gzip");
        assert_eq!(got.text(), "zstd's bytes");
    }
    // Another client's coding is never given to one who did not ask for it.
    assert_eq!(served.get("/small.txt", "").text(), text(5_000));
    let now = served.net.now();
    assert!(served.disk().rewrite(now, ROOT, "small.txt", "newer"));
    served.pass(2);
    let got = served.get("/small.txt", "Accept-Encoding: gzip, br");
    assert_eq!(got.text(), "newer", "a sibling that is older was made of something else");
}

#[test]
fn a_listing_in_three_forms() {
    let mut served = Served::new();
    served.disk().put_folder(ROOT, "sub folder/deeper");
    served.disk().put_file(ROOT, "sub folder/.hidden", "x");
    served.disk().put_other(ROOT, "sub folder/pipe");
    let got = served.get("/sub%20folder/", "Accept: text/html");
    assert_eq!(got.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(got.field("Content-Security-Policy").unwrap().starts_with("default-src 'none'"));
    assert!(got.text().contains("href=\"%C3%A7.txt\""), "{}", got.text());
    assert!(got.text().contains("href=\"deeper/\""));
    for out in ["hidden", "<script"] {
        assert!(!got.text().contains(out), "{out}");
    }
    assert_eq!(got.field("Vary"), Some("Accept"));
    let json = served.get("/sub%20folder/", "Accept: application/json");
    assert_eq!(json.field("Content-Type"), Some("application/json"));
    assert_eq!(served.get("/sub%20folder/?format=json", "Accept: text/html").body, json.body);
    let plain = served.get("/sub%20folder/", "Accept: text/plain");
    assert!(plain.text().contains("ç.txt"), "{}", plain.text());
    let head = served.ask("HEAD /sub%20folder/ HTTP/1.1\nAccept: text/html");
    assert_eq!(head.head, got.head);
    let mut silent = Served::with(SiteConfig { listing: false, ..SiteConfig::default() });
    assert_eq!(silent.get("/sub%20folder/", "").status, 404);
}

#[test]
fn a_listing_of_many_names_is_sent_as_there_is_room() {
    let mut served = Served::new();
    for n in 0..12_000 {
        served.disk().put_file(ROOT, &format!("many/a name that takes some room {n:05}"), "x");
    }
    let got = served.get("/many/?format=plain", "");
    assert_eq!(got.text().lines().count(), 12_000);
    let peer = served.connect();
    served.net.set_reading(peer, false);
    served.net.write(peer, "GET /many/?format=json HTTP/1.1\r\nHost: a\r\n\r\n");
    served.pass(3);
    served.net.set_reading(peer, true);
    served.pass(3);
    let came = served.net.take_received(peer);
    let json = answers(&came, &["GET"]).remove(0);
    assert_eq!(json.text().matches("a name that takes").count(), 12_000);
    let head = served.ask("HEAD /many/ HTTP/1.1");
    assert_eq!((head.status, head.field("Content-Length")), (200, None));
}

#[test]
fn pages_for_errors() {
    let mut served = Served::new();
    let got = served.get("/none", "Accept: text/html");
    assert!(got.text().contains("<h1>404 Not Found</h1>"), "{}", got.text());
    let got = served.get("/none", "Accept: application/json");
    assert_eq!(got.field("Content-Type"), Some("application/json"));
    let error_pages = BTreeMap::from([
        (Status::NOT_FOUND, "404.html".to_owned()),
        (Status::METHOD_NOT_ALLOWED, "gone.html".to_owned()),
    ]);
    let mut served = Served::with(SiteConfig { error_pages, ..SiteConfig::default() });
    served.disk().put_file(ROOT, "404.html", "<h1>nothing</h1>");
    let got = served.get("/none", "Range: bytes=0-1");
    assert_eq!((got.status, got.text()), (404, "<h1>nothing</h1>"));
    assert_eq!(got.field("Content-Type"), Some("text/html; charset=utf-8"));
    let got = served.get("/.secret", "");
    assert_eq!((got.status, got.text()), (404, "<h1>nothing</h1>"));
    let got = served.ask("DELETE / HTTP/1.1");
    assert_eq!((got.status, got.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert!(got.text().contains("405"), "the page is not there");
    assert_eq!(served.disk().open_files(), 0);
}

#[test]
fn pages_of_a_script() {
    let mut served = Served::with(SiteConfig { spa: true, ..SiteConfig::default() });
    for (path, fields) in [("/users/7", ""), ("/users/", ""), ("/j.doe", "Accept: text/html")] {
        let got = served.get(path, fields);
        assert_eq!((got.status, got.text()), (200, "<h1>olá</h1>"), "{path}");
    }
    assert_eq!(served.get("/missing.js", "Accept: */*").status, 404);
    assert_eq!(served.get("/ten.bin", "").text(), "0123456789");
}

#[test]
fn each_request_has_its_line() {
    for (form, expected) in [
        (
            LogForm::Common,
            "10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"GET /ten.bin?a=b HTTP/1.1\" 200 10\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"HEAD /none HTTP/1.1\" 404 0\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"GET /large.bin HTTP/1.1\" 206 2\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"-\" 400 0\n",
        ),
        (
            LogForm::Combined,
            "10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"GET /ten.bin?a=b HTTP/1.1\" 200 10 \"-\" \"-\"\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"HEAD /none HTTP/1.1\" 404 0 \"-\" \"-\"\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"GET /large.bin HTTP/1.1\" 206 2 \"-\" \"a\\x22b\"\n\
             10.0.0.2 - - [13/Sep/2020:12:26:50 +0000] \"-\" 400 0 \"-\" \"-\"\n",
        ),
    ] {
        let mut served = Served::with(SiteConfig { log: Some(form), ..SiteConfig::default() });
        let peer = served.connect();
        served.net.write(
            peer,
            "GET /ten.bin?a=b HTTP/1.1\r\nHost: a\r\n\r\nHEAD /none HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /large.bin HTTP/1.1\r\nHost: a\r\nUser-Agent: a\"b\r\nRange: bytes=1-2\r\n\r\nnonsense\r\n\r\n",
        );
        served.net.run_for(Duration::from_millis(10)).unwrap();
        let lines: String = served
            .net
            .reports(served.site)
            .iter()
            .filter_map(|(_, report)| match report {
                SiteReport::Log(lines) => Some(lines.as_str()),
                SiteReport::Broken { .. } => None,
            })
            .collect();
        assert_eq!(lines, expected);
    }
}
