//! Each limit, one below it, at it, and one above.

use crate::cuts::holds;
use crate::transcript::{Reading, Side};
use semfio_http::{Asked, Leniency, Limits};

fn told(side: Side, limits: Limits, bytes: &str) -> String {
    holds(side, limits, Leniency::default(), bytes.as_bytes());
    let mut reading = Reading::new(side, limits, Leniency::default());
    reading.show(bytes.as_bytes(), true);
    reading.told
}

/// With the limit from one too few to one more than enough; `at` is the octet that is too much.
fn straddled(
    side: Side,
    bytes: &str,
    enough: usize,
    set: fn(&mut Limits, usize),
    rule: &str,
    at: usize,
) {
    for limit in [enough - 1, enough, enough + 1] {
        let mut limits = Limits::default();
        set(&mut limits, limit);
        let told = told(side, limits, bytes);
        let refused = format!("{rule} {at}");
        let is_refused = told.lines().any(|line| line == refused);
        assert_eq!(is_refused, limit < enough, "limit {limit} of {bytes:?}: {told}");
        assert!(
            is_refused || told.ends_with("eof, begun false, 0 left\n"),
            "limit {limit}: {told}"
        );
    }
}

const CONTENT: Side = Side::Responses(Asked::Content);
const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn heads() {
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    straddled(Side::Requests, bytes, 27, |it, n| it.head = n, "head-too-long", 26);
    // The empty line before it does not count, and another head's octets neither.
    let bytes = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    straddled(Side::Requests, bytes, 27, |it, n| it.head = n, "head-too-long", 28);
    let bytes = "HTTP/1.1 204 \r\nA: b\r\n c\r\n\r\n";
    straddled(CONTENT, bytes, 27, |it, n| it.head = n, "head-too-long", 26);
}

/// Wherever in a head the limit is, it is told there.
#[test]
fn heads_end_anywhere() {
    for (side, bytes) in [
        (Side::Requests, "CONNECT [::1]:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        (Side::Requests, "GET http://a/%41 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (CONTENT, "HTTP/1.1 204 all well\r\nA: b\r\n c\r\n\r\n"),
    ] {
        for limit in 0..bytes.len() {
            let mut limits = Limits::default();
            limits.head = limit;
            assert_eq!(told(side, limits, bytes), format!("head-too-long {limit}\n"), "{bytes:?}");
        }
    }
}

#[test]
fn targets() {
    let set: fn(&mut Limits, usize) = |it, n| it.target = n;
    for target in ["/abc", "/%41", "/a%41", "/ab%41", "/abc%41?%41"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let at = 4 + target.len() - 1;
        straddled(Side::Requests, &bytes, target.len(), set, "target-too-long", at);
    }
    // The first fault is told: what the octet behind the limit would be does not matter.
    let mut limits = Limits::default();
    limits.target = 4;
    for (target, told_first) in [
        ("/a%4z", "target-too-long 8"),
        ("/ab%z", "target-too-long 8"),
        ("/a%z", "target-percent 7"),
        ("/abc#", "target-too-long 8"),
        ("/ab#", "target-fragment 7"),
        ("/abc\0", "target-too-long 8"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(told(Side::Requests, limits, &bytes), format!("{told_first}\n"), "{target:?}");
    }
}

#[test]
fn field_lines() {
    let set: fn(&mut Limits, usize) = |it, n| it.field = n;
    let bytes = "GET / HTTP/1.0\r\nabc: defgh\r\nx: y\r\n\r\n";
    straddled(Side::Requests, bytes, 10, set, "field-too-long", 25);
    // The line may go on: it counts as one.
    let bytes = "HTTP/1.1 204 \r\nabc: d\r\n ef\r\nx: y\r\n\r\n";
    straddled(CONTENT, bytes, 11, set, "field-too-long", 25);
    // A name that is too long.
    let mut limits = Limits::default();
    limits.field = 4;
    for (line, told_first) in [
        ("abcd:", "field-too-long 20"),
        ("abcde", "field-too-long 20"),
        ("abc:", "host-missing 22"),
        ("abc:d", "field-too-long 20"),
        ("abcd", "field-colon 20"),
        ("abc\0", "field-name 19"),
        ("abcd\0", "field-too-long 20"),
        ("abc:\0", "field-too-long 20"),
        ("ab:\0", "field-value 19"),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
        assert_eq!(told(Side::Requests, limits, &bytes), format!("{told_first}\n"), "{line:?}");
    }
}

#[test]
fn numbers_of_fields() {
    let set: fn(&mut Limits, usize) = |it, n| it.fields = n;
    let bytes = "GET / HTTP/1.0\r\na: b\r\nc: d\r\ne: f\r\n\r\n";
    straddled(Side::Requests, bytes, 3, set, "fields-too-many", 28);
    let bytes = format!("{HEAD}0\r\na: b\r\nc: d\r\ne: f\r\n\r\n");
    straddled(Side::Requests, &bytes, 3, set, "fields-too-many", 71);
}

#[test]
fn extensions() {
    let set: fn(&mut Limits, usize) = |it, n| it.extensions = n;
    let bytes = format!("{HEAD}1;a=b\r\nx\r\n1;c=\"d\"\r\ny\r\n0;e\r\n\r\n");
    straddled(Side::Requests, &bytes, 12, set, "extensions-too-long", 80);
    for (limit, at) in [(0, 57), (1, 58), (4, 67), (5, 68), (9, 72)] {
        let mut limits = Limits::default();
        limits.extensions = limit;
        let told = told(Side::Requests, limits, &bytes);
        assert!(told.ends_with(&format!("extensions-too-long {at}\n")), "{limit}: {told}");
    }
}

#[test]
fn trailers() {
    let set: fn(&mut Limits, usize) = |it, n| it.trailers = n;
    let bytes = format!("{HEAD}0\r\na: b\r\n\r\n");
    straddled(Side::Requests, &bytes, 8, set, "trailers-too-long", 66);
    straddled(Side::Requests, &format!("{HEAD}0\r\n\r\n"), 2, set, "trailers-too-long", 60);
}

/// The limits that are the default, as the table of bad input has them: rows 99 to 103.
#[test]
fn defaults() {
    let first = |bytes: String| {
        let mut reading = Reading::new(Side::Requests, Limits::default(), Leniency::default());
        reading.show(bytes.as_bytes(), false);
        reading.broken.map(|it| (it.rule.name(), it.status().code(), it.offset))
    };
    let x = |n: usize| "x".repeat(n);
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    assert_eq!(
        first(format!("{HEAD}1;{}", x(65_536))),
        Some(("extensions-too-long", 400, 56 + 1 + 16_384))
    );
    assert_eq!(
        first(with(&format!("X: {}", x(16_384)))),
        Some(("field-too-long", 431, 25 + 16_384))
    );
    assert_eq!(first(with(&format!("X: {}\r\n", x(16_381)))), None);
    assert_eq!(
        first(with(&format!("X: {}", x(262_144)))),
        Some(("field-too-long", 431, 25 + 16_384))
    );
    assert_eq!(first(with(&"X: y\r\n".repeat(127))), None);
    assert_eq!(
        first(with(&"X: y\r\n".repeat(1_000))),
        Some(("fields-too-many", 431, 25 + 127 * 6))
    );
    assert_eq!(first(format!("GET /{}", x(65_536))), Some(("target-too-long", 414, 8_004)));
    assert_eq!(
        first(with(&format!("X: {}\r\n", x(16_000)).repeat(5))),
        Some(("head-too-long", 431, 65_536))
    );
    assert_eq!(first(x(70_000)), Some(("head-too-long", 431, 65_536)));
}
