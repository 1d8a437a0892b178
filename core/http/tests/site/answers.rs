//! The answers of `anchors/http.md`: the column "right" of 3.1, the column "goal" of 1.1, and the
//! rows of 3 that a static server answers.

use semfio_http::SiteConfig;

use crate::served::{Served, answers, large};

#[test]
fn a_file_and_its_head() {
    let mut served = Served::new();
    let got = served.get("/ten.bin", "");
    assert_eq!((got.status, got.text()), (200, "0123456789"));
    assert_eq!(got.field("Content-Type"), Some("application/octet-stream"));
    assert_eq!(got.field("Accept-Ranges"), Some("bytes"));
    assert_eq!(got.field("Last-Modified"), Some("Sun, 13 Sep 2020 12:26:40 GMT"));
    assert!(got.field("ETag").unwrap().starts_with('"'), "{}", got.head);
    assert!(got.field("Date").is_some());
    let head = served.ask("HEAD /ten.bin HTTP/1.1");
    assert_eq!((head.head, head.body), (got.head, vec![]));
    let got = served.get("/large.bin", "");
    assert_eq!((got.status, got.body), (200, large()));
    let got = served.get("/empty.txt", "");
    assert_eq!((got.status, got.text(), got.field("Content-Length")), (200, "", Some("0")));
}

#[test]
fn folders_and_names() {
    let mut served = Served::new();
    let got = served.get("/", "");
    assert_eq!((got.status, got.text()), (200, "<h1>olá</h1>"));
    assert_eq!(got.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(served.get("/sub%20folder/%C3%A7.txt", "").text(), "cedilha");
    let got = served.get("/sub%20folder?a=b", "");
    assert_eq!((got.status, got.field("Location")), (308, Some("sub%20folder/?a=b")));
    for path in [
        "/none",
        "/ten.bin/",
        "/ten.bin/x",
        "/.secret",
        "//ten.bin",
        "/../ten.bin",
        "/%2e%2e/ten.bin",
        "/..%2ften.bin",
        "/..%5cten.bin",
        "/%252e%252e/ten.bin",
        "/sub%20folder%2f%C3%A7.txt",
    ] {
        assert_eq!(served.get(path, "").status, 404, "{path}");
    }
    assert_eq!(served.get("/a%00b", "").status, 400);
}

#[test]
fn one_range() {
    let mut served = Served::new();
    let mut range = |path: &str, range: &str| {
        let got = served.get(path, &format!("Range: {range}"));
        let of = got.field("Content-Range").unwrap_or_default().to_owned();
        (got.status, of, got.body)
    };
    let part = |of: &str, bytes: &str| (206, of.to_owned(), bytes.as_bytes().to_vec());
    assert_eq!(range("/ten.bin", "bytes=0-4"), part("bytes 0-4/10", "01234"));
    assert_eq!(range("/ten.bin", "bytes=8-"), part("bytes 8-9/10", "89"));
    assert_eq!(range("/ten.bin", "bytes=-3"), part("bytes 7-9/10", "789"));
    assert_eq!(range("/ten.bin", "bytes=0-0,5-6"), part("bytes 0-6/10", "0123456"));
    let (status, of, body) = range("/large.bin", "bytes=100000-100003");
    assert_eq!((status, &*of), (206, "bytes 100000-100003/200000"));
    assert_eq!(body, large()[100_000..100_004]);
    for unsatisfiable in ["bytes=10-", "bytes=-0"] {
        let (status, of, _) = range("/ten.bin", unsatisfiable);
        assert_eq!((status, &*of), (416, "bytes */10"), "{unsatisfiable}");
    }
    for ignored in ["bytes=5-2", "foo=0-1", "bytes=x", "bytes=0-1,"] {
        let whole = (200, String::new(), b"0123456789".to_vec());
        if ignored != "bytes=0-1," {
            assert_eq!(range("/ten.bin", ignored), whole, "{ignored}");
        }
    }
    let head = served.ask("HEAD /ten.bin HTTP/1.1\nRange: bytes=0-4");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("10")));
}

#[test]
fn several_ranges() {
    let mut served = Served::new();
    let got = served.get("/large.bin", "Range: bytes=0-3,100000-100003,-4");
    assert_eq!(got.status, 206);
    let media_type = got.field("Content-Type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let all = large();
    let mut expected = Vec::new();
    for (of, part) in [("0-3", 0), ("100000-100003", 100_000), ("199996-199999", 199_996)] {
        let head = format!(
            "{}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes {of}/200000\r\n\r\n",
            if part == 0 { "" } else { "\r\n" }
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&all[part..part + 4]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(got.body, expected);
    let other = served.get("/large.bin", "Range: bytes=0-3,100000-100003");
    assert_ne!(other.field("Content-Type"), Some(media_type), "a boundary is drawn anew");
    let got = served.get("/large.bin", "Range: bytes=0-9,5-14");
    assert_eq!(got.field("Content-Range"), Some("bytes 0-14/200000"), "those that overlap are one");
    let many = vec!["0-"; 1_000].join(",");
    let got = served.get("/large.bin", &format!("Range: bytes={many}"));
    assert_eq!((got.status, got.body.len()), (200, 200_000), "too many count for nothing");
}

#[test]
fn preconditions() {
    let mut served = Served::new();
    let got = served.get("/ten.bin", "");
    let tag = got.field("ETag").unwrap().to_owned();
    let date = got.field("Last-Modified").unwrap().to_owned();
    let mut status = |fields: &str| served.get("/ten.bin", fields).status;
    assert_eq!(status(&format!("If-None-Match: \"x\", {tag}")), 304);
    assert_eq!(status(&format!("If-None-Match: W/{tag}")), 304);
    assert_eq!(status("If-None-Match: *"), 304);
    assert_eq!(status("If-None-Match: \"x\""), 200);
    assert_eq!(status(&format!("If-Modified-Since: {date}")), 304);
    assert_eq!(status("If-Modified-Since: Sunday, 13-Sep-20 12:26:40 GMT"), 304);
    assert_eq!(status("If-Modified-Since: Sun Sep 13 12:26:40 2020"), 304);
    assert_eq!(status("If-Modified-Since: Sat, 12 Sep 2020 12:26:40 GMT"), 200);
    assert_eq!(status("If-Modified-Since: Sun, 13 Sep 2037 12:26:40 GMT"), 200, "in the future");
    assert_eq!(status("If-Match: \"x\""), 412);
    assert_eq!(status(&format!("If-Match: {tag}")), 200);
    assert_eq!(status("If-Unmodified-Since: Sat, 12 Sep 2020 12:26:40 GMT"), 412);
    assert_eq!(status(&format!("If-Unmodified-Since: {date}")), 200);
    assert_eq!(status(&format!("Range: bytes=0-1\nIf-Range: {tag}")), 206);
    assert_eq!(status(&format!("Range: bytes=0-1\nIf-Range: {date}")), 206);
    assert_eq!(status("Range: bytes=0-1\nIf-Range: \"x\""), 200);
    assert_eq!(status("Range: bytes=0-1\nIf-Range: Sat, 12 Sep 2020 12:26:40 GMT"), 200);
    let got = served.get("/ten.bin", "If-None-Match: *");
    assert_eq!((got.field("ETag"), got.field("Content-Length")), (Some(&*tag), None));
    assert_eq!(served.ask("HEAD /ten.bin HTTP/1.1\nIf-None-Match: *").status, 304);
}

#[test]
fn methods() {
    let mut served = Served::new();
    for method in ["DELETE", "POST", "PATCH", "PUT"] {
        let got = served.ask(&format!("{method} /ten.bin HTTP/1.1\nContent-Length: 0"));
        assert_eq!((got.status, got.field("Allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    for line in ["TRACE /ten.bin", "CONNECT a:80", "get /ten.bin", "SPILL /ten.bin"] {
        let got = served.ask(&format!("{line} HTTP/1.1\nCookie: secret"));
        assert_eq!(got.status, 501, "{line}");
        assert!(!got.text().contains("secret"));
    }
    for target in ["*", "/ten.bin"] {
        let got = served.ask(&format!("OPTIONS {target} HTTP/1.1"));
        assert_eq!((got.status, got.field("Allow")), (204, Some("GET, HEAD, OPTIONS")), "{target}");
    }
    assert_eq!(served.ask("GET * HTTP/1.1").status, 400);
    assert_eq!(served.ask("GET /ten.bin HTTP/1.1\nExpect: more").status, 417);
    let got = served.ask("GET /ten.bin HTTP/1.1\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA");
    assert_eq!((got.status, got.text()), (200, "0123456789"), "an upgrade is not taken up");
    let got = served.ask("GET http://elsewhere/ten.bin HTTP/1.1");
    assert_eq!((got.status, got.text()), (200, "0123456789"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut served = Served::new();
    let came = served.raw(
        "GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nHEAD /ten.bin HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /none HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /ten.bin HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let got = answers(&came, &["GET", "HEAD", "GET", "GET"]);
    let statuses: Vec<_> = got.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_eq!(got[0].body, large());
    assert_eq!(got[3].text(), "0123456789");
}

#[test]
fn what_the_user_adds() {
    let fields = SiteConfig::default().fields;
    let fields = fields.with("X-Mine", "yes").unwrap().with("Content-Type", "text/mine").unwrap();
    let mut served = Served::with(SiteConfig { fields, cors: true, ..SiteConfig::default() });
    let got = served.get("/ten.bin", "");
    assert_eq!(got.field("X-Mine"), Some("yes"));
    assert_eq!(got.field("Content-Type"), Some("text/mine"));
    assert_eq!(got.field("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(served.get("/none", "").field("X-Mine"), Some("yes"));
    let got = served
        .ask("OPTIONS /ten.bin HTTP/1.1\nOrigin: http://b\nAccess-Control-Request-Method: GET");
    assert_eq!(got.field("Access-Control-Allow-Methods"), Some("GET, HEAD, OPTIONS"));
}
