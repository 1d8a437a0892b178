//! What is read of heads, row by row.

use crate::transcript::{Side, whole};
use semfio_http::Asked;

/// What is read of a request, in one line: the rule and the octet if it is refused.
fn request(bytes: &str) -> String {
    whole(Side::Requests, bytes.as_bytes()).lines().next().unwrap_or_default().to_owned()
}

fn response(bytes: &str) -> String {
    let asked = Side::Responses(Asked::Content);
    whole(asked, bytes.as_bytes()).lines().next().unwrap_or_default().to_owned()
}

/// A request with these lines behind its `Host`.
fn with(lines: &str) -> String {
    request(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

#[test]
fn a_request_is_read() {
    assert_eq!(
        request("GET /a/b?c=d?e HTTP/1.1\r\nHost: example.org:81\r\nAccept:\t*/* \r\nX-y:\r\n\r\n"),
        "GET Origin { path: \"/a/b\", query: Some(\"c=d?e\") } Http11 [example.org:81] \
         Host=example.org:81 Accept=*/* X-y= None keep"
    );
}

#[test]
fn a_response_is_read() {
    assert_eq!(
        response("HTTP/1.1 200 All is well\r\nContent-Length: 3\r\nA: b\r\n c\r\n\td \r\n\r\nabc"),
        "Http11 200 All is well Content-Length=3 A=b   c  \\td Known(3) keep"
    );
}

#[test]
fn framing_that_is_refused() {
    for (lines, told) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "length-and-coding 45"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "length-and-coding 54"),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", "length-twice 45"),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "length-twice 45"),
        ("Content-Length: 3, 3\r\n", "length-form 42"),
        ("Content-Length: +3\r\n", "length-form 42"),
        ("Content-Length: -3\r\n", "length-form 42"),
        ("Content-Length: 0x3\r\n", "length-form 42"),
        ("Content-Length: 1_0\r\n", "length-form 42"),
        ("Content-Length:\r\n", "length-form 41"),
        ("Content-Length: 18446744073709551616\r\n", "length-form 42"),
        ("Content-Length: 1 0\r\n", "length-form 42"),
        ("Transfer-Encoding: identity\r\n", "chunked-last 26"),
        ("Transfer-Encoding: gzip\r\n", "chunked-last 26"),
        ("Transfer-Encoding: gzip, chunked\r\n", "coding-unknown 26"),
        ("Transfer-Encoding: chunked, gzip\r\n", "chunked-last 45"),
        ("Transfer-Encoding: chunked, chunked\r\n", "chunked-twice 45"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "chunked-twice 73"),
        ("Transfer-Encoding: xchunked\r\n", "chunked-last 26"),
        ("Transfer-Encoding: , chunked\r\n", "coding-form 45"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "field-value 45"),
        ("Transfer-Encoding: \"chunked\"\r\n", "coding-form 45"),
        ("Transfer-Encoding: \u{a0}chunked\r\n", "coding-form 45"),
        ("Transfer-Encoding: chunked;q=1\r\n", "coding-form 45"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n",
            "chunked-last 73",
        ),
        ("Expect: tea\r\n", "expectation 34"),
    ] {
        assert_eq!(with(lines), told, "{lines:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request(old), "coding-version 17");
}
