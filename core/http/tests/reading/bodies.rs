//! What is read of content.

use crate::transcript::{Side, whole};

fn chunked(bytes: &str) -> String {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let told = whole(Side::Requests, format!("{head}{bytes}").as_bytes());
    told.lines().skip(1).collect::<Vec<_>>().join("; ")
}

#[test]
fn chunks() {
    for (bytes, told) in [
        ("3\r\nabc\r\n0\r\n\r\n", "data abc; end; eof, begun false, 0 left"),
        (
            "3;a;b=c;d=\"e \\\"f\"\r\nabc\r\n000\r\nX: y\r\n\r\n",
            "data abc; end X=y; eof, begun false, 0 left",
        ),
        ("0x3\r\nabc\r\n0\r\n\r\n", "chunk-size 57"),
        ("3\r\nabcd\r\n0\r\n\r\n", "data abc; chunk-end 62"),
        ("3\r\nab", "data ab; content-short 61"),
    ] {
        assert_eq!(chunked(bytes), told, "{bytes:?}");
    }
}
