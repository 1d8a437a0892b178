//! What is read of heads, row by row.

use crate::cuts::{forgiving, holds};
use crate::transcript::{Reading, Side, whole};
use semfio_http::{Asked, Leniency, Limits};

const CONTENT: Side = Side::Responses(Asked::Content);

/// What is told first: the rule and the octet if it is refused.
fn first(side: Side, bytes: &[u8]) -> String {
    holds(side, Limits::default(), Leniency::default(), bytes);
    whole(side, bytes).lines().next().unwrap_or_default().to_owned()
}

fn forgiven(side: Side, bytes: &[u8]) -> String {
    let mut reading = Reading::new(side, Limits::default(), forgiving());
    reading.show(bytes, true);
    reading.told.lines().next().unwrap_or_default().to_owned()
}

/// Those that are refused, each with the rule and the octet.
fn refused(side: Side, rows: &[(&[u8], &str)]) {
    for (bytes, told) in rows {
        assert_eq!(first(side, bytes), *told, "{}", bytes.escape_ascii());
    }
}

/// Requests with these lines behind their `Host`, which ends at octet 26.
fn refused_lines(rows: &[(&[u8], &str)]) {
    for (lines, told) in rows {
        let bytes = [b"POST / HTTP/1.1\r\nHost: a\r\n", *lines, b"\r\n"].concat();
        assert_eq!(first(Side::Requests, &bytes), *told, "{}", lines.escape_ascii());
    }
}

#[test]
fn a_request_is_read() {
    assert_eq!(
        first(
            Side::Requests,
            b"GET /a/b?c=d?e HTTP/1.1\r\nHost: example.org:81\r\nAccept:\t*/* \r\nX-y:\r\n\r\n"
        ),
        "GET Origin { path: \"/a/b\", query: Some(\"c=d?e\") } Http11 [example.org:81] \
         Host=example.org:81 Accept=*/* X-y= None keep"
    );
}

#[test]
fn a_response_is_read() {
    assert_eq!(
        first(
            CONTENT,
            b"HTTP/1.1 200 All is well\r\nContent-Length: 3\r\nA: b\r\n c\r\n\td \r\n\r\nabc"
        ),
        "Http11 200 All is well Content-Length=3 A=b   c  \\td Known(3) keep"
    );
}

#[test]
fn lengths_that_are_refused() {
    refused_lines(&[
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "length-and-coding 45"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "length-and-coding 54"),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", "length-twice 45"),
        (b"Content-Length: 3\r\nContent-Length: 3\r\n", "length-twice 45"),
        (b"Content-Length: 3, 3\r\n", "length-form 42"),
        (b"Content-Length: +3\r\n", "length-form 42"),
        (b"Content-Length: -3\r\n", "length-form 42"),
        (b"Content-Length: 0x3\r\n", "length-form 42"),
        (b"Content-Length: 1_0\r\n", "length-form 42"),
        (b"Content-Length:\r\n", "length-form 41"),
        (b"Content-Length: \t \r\n", "length-form 44"),
        (b"Content-Length: 18446744073709551616\r\n", "length-form 42"),
        (b"Content-Length: 99999999999999999999999999\r\n", "length-form 42"),
        (b"Content-Length: 1 0\r\n", "length-form 42"),
        (b"Content-Length: 3\xA0\r\n", "length-form 42"),
        (b"Content-Length: \xD9\xA3\r\n", "length-form 42"),
    ]);
}

#[test]
fn codings_that_are_refused() {
    refused_lines(&[
        (b"Transfer-Encoding: identity\r\n", "chunked-last 26"),
        (b"Transfer-Encoding: gzip\r\n", "chunked-last 26"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "coding-unknown 26"),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "coding-unknown 51"),
        (b"Transfer-Encoding: chunked, gzip\r\n", "chunked-last 45"),
        (b"Transfer-Encoding: chunked, chunked\r\n", "chunked-twice 45"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "chunked-twice 73"),
        (b"Transfer-Encoding: xchunked\r\n", "chunked-last 26"),
        (b"Transfer-Encoding:\r\n", "coding-form 44"),
        (b"Transfer-Encoding: , chunked\r\n", "coding-form 45"),
        (b"Transfer-Encoding: chunked,\r\n", "coding-form 45"),
        (b"Transfer-Encoding: \x0Bchunked\r\n", "field-value 45"),
        (b"Transfer-Encoding: \"chunked\"\r\n", "coding-form 45"),
        (b"Transfer-Encoding: \xA0chunked\r\n", "coding-form 45"),
        (b"Transfer-Encoding: chunked;q=1\r\n", "coding-form 45"),
        (
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n",
            "chunked-last 73",
        ),
        (b"Expect: tea\r\n", "expectation 34"),
        (b"Expect: 100-continue, tea\r\n", "expectation 34"),
    ]);
    refused(
        Side::Requests,
        &[(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "coding-version 17")],
    );
}

#[test]
fn lines_that_are_refused() {
    refused_lines(&[
        (b"X : y\r\n", "field-blank 27"),
        (b"X\t: y\r\n", "field-blank 27"),
        (b"X: y\r\n z\r\n", "fold 32"),
        (b"X: y\r\n\tz\r\n", "fold 32"),
        (b"X: y\r\n\rZ: y\r\n", "line-end 33"),
        (b"X: y\nZ: y\r\n", "line-end 30"),
        (b"X: y\rz\r\n", "line-end 31"),
        (b"X: y\rZ: y\r", "line-end 31"),
        (b"X: y\r\r\n", "line-end 31"),
        (b"X: a\0b\r\n", "field-value 30"),
        (b"X\0: y\r\n", "field-name 27"),
        (b"X: a\x07b\r\n", "field-value 30"),
        (b"X: a\x7Fb\r\n", "field-value 30"),
        (b"X\xEF: y\r\n", "field-name 27"),
        (b": y\r\n", "field-name 26"),
        (b"\0", "field-name 26"),
        (b"Xyz\r\n", "field-colon 29"),
        (b"X[y]: z\r\n", "field-name 27"),
        (b"X(y): z\r\n", "field-name 27"),
        (b"X\"y: z\r\n", "field-name 27"),
        (b"\n", "line-end 26"),
    ]);
    refused(
        Side::Requests,
        &[
            (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "leading-blank 16"),
            (b"GET / HTTP/1.1\nHost: a\n\n", "line-end 14"),
            (b"GET / HTTP/1.1\rHost: a\r\r", "line-end 15"),
        ],
    );
}

#[test]
fn hosts_that_are_refused() {
    let rows: &[(&str, &str)] = &[
        ("", "host-missing 16"),
        ("Accept: */*\r\n", "host-missing 29"),
        ("Host: a\r\nHost: b\r\n", "host-twice 25"),
        ("Host: a\r\nhOST: a\r\n", "host-twice 25"),
        ("Host:\r\n", "host-form 21"),
        ("Host: a/b@c\r\n", "host-form 23"),
        ("Host: a@b\r\n", "host-form 23"),
        ("Host: a, b\r\n", "host-form 23"),
        ("Host: a,b\r\n", "host-form 23"),
        ("Host: a b\r\n", "host-form 23"),
        ("Host: a:b\r\n", "host-form 24"),
        ("Host: a:65536\r\n", "host-form 24"),
        ("Host: a:1:2\r\n", "host-form 25"),
        ("Host: :80\r\n", "host-form 22"),
        ("Host: %4\r\n", "host-form 22"),
        ("Host: a%zz\r\n", "host-form 23"),
        ("Host: [::1\r\n", "host-form 26"),
        ("Host: [::g]\r\n", "host-form 23"),
        ("Host: [::1]a\r\n", "host-form 27"),
        ("Host: http://a\r\n", "host-form 27"),
    ];
    for (lines, told) in rows {
        let bytes = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(first(Side::Requests, bytes.as_bytes()), *told, "{lines:?}");
    }
}

#[test]
fn hosts_that_are_taken() {
    for host in
        ["a", "a:", "a:0", "A.b-c_d~e:65535", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:8", "%61"]
    {
        let told =
            first(Side::Requests, format!("GET / HTTP/1.1\r\nHost:{host}\r\n\r\n").as_bytes());
        assert!(told.contains(&format!("[{host}]")), "{told}");
    }
}

#[test]
fn first_lines_that_are_refused() {
    refused(
        Side::Requests,
        &[
            (b"GET /\r\n", "request-line 5"),
            (b"GET / HTTP/2.0\r\n", "version-unsupported 11"),
            (b"GET / HTTP/0.9\r\n", "version-unsupported 11"),
            (b"GET / HTTP/1.10\r\n", "version-form 14"),
            (b"GET / HTTP/11.1\r\n", "version-form 12"),
            (b"GET / HTTP/1\r\n", "version-form 12"),
            (b"GET / http/1.1\r\n", "version-form 6"),
            (b"GET / HTTQ/1.1\r\n", "version-form 9"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version-unsupported 11"),
            (b"GET  / HTTP/1.1\r\n", "request-line 4"),
            (b"GET /  HTTP/1.1\r\n", "version-form 6"),
            (b"GET\t/\tHTTP/1.1\r\n", "request-line 3"),
            (b"GET /\tHTTP/1.1\r\n", "request-line 5"),
            (b"GET /a b HTTP/1.1\r\n", "version-form 7"),
            (b"GET / HTTP/1.1 \r\n", "request-line 14"),
            (b"GET / HTTP/1.1\t\r\n", "request-line 14"),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", "request-line 2"),
            (b"\n", "line-end 0"),
            (b"\rG", "line-end 1"),
            (b" GET / HTTP/1.1\r\n", "request-line 0"),
            (b"G@T / HTTP/1.1\r\n", "method-token 1"),
            (b"GET\r\n", "request-line 3"),
            (b"GET \r\n", "request-line 4"),
            (b"\x16\x03\x01\x02\x00\x01", "method-token 0"),
            (b"\0", "method-token 0"),
        ],
    );
}

#[test]
fn targets_that_are_refused() {
    refused(
        Side::Requests,
        &[
            (b"GET /a#b HTTP/1.1\r\n", "target-fragment 6"),
            (b"GET /a\0b HTTP/1.1\r\n", "target-octet 6"),
            (b"GET /a\x7Fb HTTP/1.1\r\n", "target-octet 6"),
            (b"GET /caf\xE9 HTTP/1.1\r\n", "target-octet 8"),
            (b"GET /a\x0Bb HTTP/1.1\r\n", "target-octet 6"),
            (b"GET /%zz HTTP/1.1\r\n", "target-percent 6"),
            (b"GET /%4z HTTP/1.1\r\n", "target-percent 7"),
            (b"GET /% HTTP/1.1\r\n", "target-percent 6"),
            (b"GET /%4 HTTP/1.1\r\n", "target-percent 7"),
            (b"GET * HTTP/1.1\r\n", "target-form 4"),
            (b"OPTIONS ** HTTP/1.1\r\n", "target-form 8"),
            (b"GET a HTTP/1.1\r\n", "target-form 5"),
            (b"GET ?a HTTP/1.1\r\n", "target-form 4"),
            (b"GET a:80 HTTP/1.1\r\n", "target-form 5"),
            (b"GET mailto:a HTTP/1.1\r\n", "target-form 10"),
            (b"GET 1http://a/ HTTP/1.1\r\n", "target-form 4"),
            (b"GET http:///a HTTP/1.1\r\n", "target-form 11"),
            (b"GET http://a:b/ HTTP/1.1\r\n", "target-form 13"),
            (b"GET http://u:p@a/ HTTP/1.1\r\n", "target-user 14"),
            (b"CONNECT /a HTTP/1.1\r\n", "target-form 8"),
            (b"CONNECT http://a/ HTTP/1.1\r\n", "target-form 13"),
            (b"CONNECT a HTTP/1.1\r\n", "target-form 9"),
            (b"CONNECT a: HTTP/1.1\r\n", "target-form 10"),
            (b"CONNECT a:0 HTTP/1.1\r\n", "target-form 11"),
            (b"CONNECT a:99999 HTTP/1.1\r\n", "target-form 10"),
            (b"CONNECT u@a:1 HTTP/1.1\r\n", "target-form 9"),
            (b"CONNECT * HTTP/1.1\r\n", "target-form 9"),
        ],
    );
}

/// What is legal and looks odd, and how it is read.
#[test]
fn requests_that_are_taken() {
    let rows: &[(&[u8], &str)] = &[
        // 23: an unknown field; the length frames.
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            "POST Origin { path: \"/\", query: None } Http11 [a] Host=a Transfer_Encoding=chunked \
             Content-Length=3 Known(3) keep",
        ),
        // 37
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\xFFb\tc\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http11 [a] Host=a X=a\\xffb\\tc None keep",
        ),
        // 48
        (
            b"GET http://b:1/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET Absolute { scheme: \"http\", authority: \"b:1\", path: \"/c\", query: Some(\"d\") } \
             Http11 [b:1] Host=a None keep",
        ),
        (
            b"GET http://b?c HTTP/1.1\r\nHost:\r\n\r\n",
            "GET Absolute { scheme: \"http\", authority: \"b\", path: \"\", query: Some(\"c\") } \
             Http11 [b] Host= None keep",
        ),
        // 51
        (b"GET / HTTP/1.0\r\n\r\n", "GET Origin { path: \"/\", query: None } Http10 [] None close"),
        (
            b"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\nExpect: tea\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http10 [] Connection=x, Keep-Alive \
             Expect=tea None keep",
        ),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http10 [] Connection=keep-alive \
             Connection=close None close",
        ),
        // 53
        (
            b"GET / HTTP/1.9\r\nHost: a\r\nConnection: Close\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http11 [a] Host=a Connection=Close None close",
        ),
        // 61
        (
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http11 [a] Host=a None keep",
        ),
        // 64, 65
        (
            b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "get Origin { path: \"/\", query: None } Http11 [a] Host=a None keep",
        ),
        // 71, 72
        (
            b"GET /../%2e%2E%2f%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET Origin { path: \"/../%2e%2E%2f%00\", query: None } Http11 [a] Host=a None keep",
        ),
        // 76
        (
            b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET Origin { path: \"//b/c\", query: None } Http11 [a] Host=a None keep",
        ),
        // 78
        (
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS Asterisk Http11 [a] Host=a None keep",
        ),
        // 80
        (
            b"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT Authority(\"[::1]:443\") Http11 [[::1]:443] Host=a None keep",
        ),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "PUT Origin { path: \"/\", query: None } Http11 [a] Host=a Expect=100-Continue \
             Content-Length=18446744073709551615 Known(18446744073709551615) keep expects",
        ),
        // Nothing follows, so nothing is waited for.
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 000\r\n\r\n",
            "PUT Origin { path: \"/\", query: None } Http11 [a] Host=a Expect=100-continue \
             Content-Length=000 Known(0) keep",
        ),
        // 111
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n",
            "GET Origin { path: \"/\", query: None } Http11 [a] Host=a Connection=Host None keep",
        ),
    ];
    for (bytes, told) in rows {
        assert_eq!(first(Side::Requests, bytes), *told, "{}", bytes.escape_ascii());
    }
}

#[test]
fn responses_that_are_refused() {
    refused(
        CONTENT,
        &[
            (b"HTTP/1.1 200\r\n\r\n", "status-line 12"),
            (b"HTTP/1.1 099 x\r\n", "status-line 9"),
            (b"HTTP/1.1 20 x\r\n", "status-line 11"),
            (b"HTTP/1.1 2000 x\r\n", "status-line 12"),
            (b"HTTP/1.1  200 x\r\n", "status-line 9"),
            (b"HTTP/1.1\t200 x\r\n", "status-line 8"),
            (b"HTTP/1.10 200 x\r\n", "version-form 8"),
            (b"HTTP/2.0 200 x\r\n", "version-unsupported 5"),
            (b"ICY 200 x\r\n", "version-form 0"),
            (b"\r\nHTTP/1.1 200 x\r\n", "version-form 0"),
            (b"HTTP/1.1 200 a\0b\r\n", "status-line 14"),
            (b"HTTP/1.1 200 a\n", "line-end 14"),
            (b"HTTP/1.1 200 a\rb", "line-end 15"),
            (b"HTTP/1.1 200 \r\n X: y\r\n", "leading-blank 15"),
            (b"HTTP/1.1 200 \r\nX : y\r\n", "field-blank 16"),
            (
                b"HTTP/1.1 200 \r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "length-and-coding 34",
            ),
            (b"HTTP/1.1 200 \r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "length-twice 34"),
            (b"HTTP/1.1 200 \r\nContent-Length: 3,\r\n 3\r\n\r\n", "length-form 31"),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: gzip\r\n\r\n", "coding-unknown 15"),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "coding-unknown 15"),
            (b"HTTP/1.0 200 \r\nTransfer-Encoding: chunked\r\n\r\n", "coding-version 15"),
            (b"HTTP/1.1 204 \r\nContent-Length: x\r\n\r\n", "length-form 31"),
        ],
    );
}

#[test]
fn what_frames_a_response() {
    let rows: &[(&str, Asked, &str)] = &[
        ("200 \r\nContent-Length: 3", Asked::Content, "Known(3) keep"),
        ("200 \r\nContent-Length:\r\n 3", Asked::Content, "Known(3) keep"),
        ("200 \r\nTransfer-Encoding: Chunked", Asked::Content, "Chunked keep"),
        ("200 \r\nX: y", Asked::Content, "UntilClose close"),
        ("200 \r\nContent-Length: 3", Asked::Head, "None keep"),
        ("200 \r\nTransfer-Encoding: chunked", Asked::Head, "None keep"),
        ("200 \r\nX: y", Asked::Head, "None keep"),
        ("204 \r\nContent-Length: 3", Asked::Content, "None keep"),
        ("304 \r\nContent-Length: 3", Asked::Content, "None keep"),
        ("103 \r\nLink: x", Asked::Content, "None keep"),
        ("101 \r\nUpgrade: x", Asked::Content, "None keep"),
        ("200 \r\nContent-Length: 3\r\nTransfer-Encoding: gzip", Asked::Connect, "None close"),
        ("407 \r\nContent-Length: 3", Asked::Connect, "Known(3) keep"),
        ("200 \r\nContent-Length: 3\r\nConnection: close", Asked::Content, "Known(3) close"),
        ("999 \r\nContent-Length: 3", Asked::Content, "Known(3) keep"),
    ];
    for (lines, asked, told) in rows {
        let bytes = format!("HTTP/1.1 {lines}\r\n\r\nabc");
        let read = first(Side::Responses(*asked), bytes.as_bytes());
        assert!(read.ends_with(told), "{bytes:?}: {read}");
    }
}

/// Each switch forgives what it names, and nothing else.
#[test]
fn what_is_forgiven() {
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for (side, bytes, end) in [
        (Side::Requests, "GET / HTTP/1.1\nHost: a\n\n".to_owned(), "Host=a None keep"),
        (Side::Requests, "\nGET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "Host=a None keep"),
        (Side::Requests, post("Content-Length: 3, 3\r\ncontent-length: 03\r\n"), "Known(3) keep"),
        (
            Side::Requests,
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            "Chunked close",
        ),
        (Side::Requests, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), "[] Host= None keep"),
        (CONTENT, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".to_owned(), "Known(0) keep"),
        (CONTENT, "HTTP/1.1 200\nA: b\n c\n\n".to_owned(), "A=b  c UntilClose close"),
        // Not these.
        (Side::Requests, "\n\nGET / HTTP/1.1\n".to_owned(), "request-line 1"),
        (Side::Requests, "GET / HTTP/1.1\r\n\r\n".to_owned(), "host-missing 16"),
        (Side::Requests, post("Content-Length: 3, 4\r\n"), "length-twice 42"),
        (Side::Requests, post("Content-Length: 3,\r\n"), "length-form 42"),
        (Side::Requests, post("X: y\rz\r\n"), "line-end 31"),
    ] {
        let told = forgiven(side, bytes.as_bytes());
        assert!(told.ends_with(end), "{bytes:?}: {told}");
    }
}
