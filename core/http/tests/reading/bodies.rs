//! What is read of content.

use crate::cuts::{forgiving, holds};
use crate::transcript::{Reading, Side, whole};
use semfio_http::{Asked, Leniency, Limits};

/// Ends at octet 56.
const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn behind_head(told: &str) -> String {
    told.lines().skip(1).collect::<Vec<_>>().join("; ")
}

fn chunked(bytes: &[u8]) -> String {
    let bytes = [HEAD.as_bytes(), bytes].concat();
    holds(Side::Requests, Limits::default(), Leniency::default(), &bytes);
    behind_head(&whole(Side::Requests, &bytes))
}

#[test]
fn chunks_that_are_taken() {
    const OVER: &str = "eof, begun false, 0 left";
    let rows: &[(&[u8], &str)] = &[
        (b"3\r\nabc\r\n0\r\n\r\n", "data abc; end; "),
        // 93, 96
        (b"3;a\r\nabc\r\n0\r\n\r\n", "data abc; end; "),
        (b"3;a=b;c;d=\"e;\\\"f\r\"\r\nabc\r\n0\r\n\r\n", "chunk-end 72"),
        (b"3;a=b;c;d=\"e;\\\"f\xFF\t\"\r\nabc\r\n000;x=y\r\n\r\n", "data abc; end; "),
        (b"A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n", "data 01234567890123456789; end; "),
        (b"0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", "data abc; end; "),
        (b"1\r\n\n\r\n0\r\nX: y\r\nx-Y:  z \r\n\r\n", "data \\n; end X=y x-Y=z; "),
    ];
    for (bytes, told) in rows {
        let over = if told.ends_with(' ') { OVER } else { "" };
        assert_eq!(chunked(bytes), format!("{told}{over}"), "{}", bytes.escape_ascii());
    }
}

#[test]
fn chunks_that_are_refused() {
    let rows: &[(&[u8], &str)] = &[
        (b"0x3\r\nabc\r\n0\r\n\r\n", "chunk-size 57"),
        (b"0_3\r\n", "chunk-size 57"),
        (b"-3\r\n", "chunk-size 56"),
        (b"+3\r\n", "chunk-size 56"),
        (b"FFFFFFFFFFFFFFFFF\r\n", "chunk-size 72"),
        (b"10000000000000003\r\nabc\r\n0\r\n\r\n", "chunk-size 72"),
        (b"00000000000000003\r\nabc\r\n0\r\n\r\n", "chunk-size 72"),
        (b"\r\nabc\r\n", "chunk-size 56"),
        (b";a\r\nabc\r\n", "chunk-size 56"),
        (b"3\nabc\r\n0\r\n\r\n", "chunk-end 57"),
        (b"3\rabc", "chunk-end 58"),
        (b"3\r\nabcX\r\n0\r\n\r\n", "data abc; chunk-end 62"),
        (b"3\r\nabcXY0\r\n\r\n", "data abc; chunk-end 62"),
        (b"3\r\nabc\n0\r\n\r\n", "data abc; chunk-end 62"),
        (b"3\r\nabc\rX0\r\n\r\n", "data abc; chunk-end 63"),
        (b"3;a\nb\r\nabc\r\n0\r\n\r\n", "chunk-end 59"),
        (b"3;a=\"\n\"\r\n", "chunk-end 61"),
        (b"3;a\rb\r\n", "chunk-end 60"),
        (b"3;\r\n", "chunk-end 58"),
        (b"3;=b\r\n", "chunk-extension 58"),
        (b"3;a=\r\n", "chunk-end 60"),
        (b"3;a=b=c\r\n", "chunk-extension 61"),
        (b"3;a=\"b\"c\r\n", "chunk-extension 63"),
        (b"3;a=\"\x01\r\n", "chunk-extension 61"),
        (b"3;a b\r\n", "chunk-extension 59"),
        // 94, 95
        (b"3 \r\nabc\r\n0\r\n\r\n", "chunk-size 57"),
        (b"3 ;a\r\nabc\r\n0\r\n\r\n", "chunk-size 57"),
        (b" 3\r\nabc\r\n0\r\n\r\n", "chunk-size 56"),
        // 97, 98
        (b"0\r\nContent-Length: 3\r\n\r\n", "trailer-field 59"),
        (b"0\r\nX: y\r\nTransfer-encoding: chunked\r\n\r\n", "trailer-field 65"),
        (b"0\r\nHost: a\r\n\r\n", "trailer-field 59"),
        (b"0\r\nX y\r\n\r\n", "field-blank 60"),
        (b"0\r\nXy\r\n\r\n", "field-colon 61"),
        (b"0\r\n X: y\r\n\r\n", "leading-blank 59"),
        (b"0\r\nX: y\r\n z\r\n\r\n", "fold 65"),
        (b"0\r\nX: y\n\r\n", "line-end 63"),
        (b"0\r\n\n", "line-end 59"),
        (b"0\r\n\rX", "line-end 60"),
        // 110
        (b"", "content-short 56"),
        (b"3", "content-short 57"),
        (b"3\r\nab", "data ab; content-short 61"),
        (b"3\r\nabc", "data abc; content-short 62"),
        (b"3\r\nabc\r\n0\r\n", "data abc; content-short 67"),
        (b"3\r\nabc\r\n0\r\nX: y\r\n", "data abc; content-short 73"),
        (b"3\r\nabc\r\n0\r\nX: y\r\n\r", "data abc; content-short 74"),
    ];
    for (bytes, told) in rows {
        assert_eq!(chunked(bytes), *told, "{}", bytes.escape_ascii());
    }
}

#[test]
fn content_of_other_lengths() {
    let rows: &[(Side, &str, &str)] = &[
        // 107
        (
            Side::Requests,
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n",
            "data ab; end; eof, begun true, 16 left",
        ),
        // 108
        (
            Side::Requests,
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
            "data ab; content-short 48",
        ),
        // 109
        (Side::Requests, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "end; eof, begun true, 3 left"),
        (Side::Requests, "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", "end; eof, begun false, 0 left"),
        (
            Side::Responses(Asked::Content),
            "HTTP/1.1 200 \r\n\r\nabc",
            "data abc; end; eof, begun false, 0 left",
        ),
        (Side::Responses(Asked::Content), "HTTP/1.1 200 \r\n\r\n", "end; eof, begun false, 0 left"),
        (Side::Responses(Asked::Connect), "HTTP/1.1 200 \r\n\r\nabc", "eof, begun false, 3 left"),
    ];
    for (side, bytes, told) in rows {
        holds(*side, Limits::default(), Leniency::default(), bytes.as_bytes());
        assert_eq!(behind_head(&whole(*side, bytes.as_bytes())), *told, "{bytes:?}");
    }
}

#[test]
fn blanks_behind_a_size_are_forgiven_there_alone() {
    for (bytes, told) in [
        ("3 \t\r\nabc\r\n0 ;a\r\n\r\n", "data abc; end; eof, begun false, 0 left"),
        (" 3\r\n", "chunk-size 56"),
        ("3 4\r\n", "chunk-size 58"),
        ("3;a b\r\n", "chunk-extension 59"),
        ("3\nabc", "chunk-end 57"),
    ] {
        let mut reading = Reading::new(Side::Requests, Limits::default(), forgiving());
        reading.show(format!("{HEAD}{bytes}").as_bytes(), true);
        assert_eq!(behind_head(&reading.told), told, "{bytes:?}");
    }
}

/// Pieces of content are told as they come, not gathered.
#[test]
fn content_is_not_gathered() {
    let mut reading = Reading::new(Side::Requests, Limits::default(), Leniency::default());
    reading.show(HEAD.as_bytes(), false);
    reading.show(b"FFFFFFFFFFFFFFFF\r\n", false);
    for _ in 0..100 {
        reading.show(&[b'x'; 1000], false);
        assert_eq!(reading.untaken(), 0);
    }
    assert_eq!(reading.broken, None);
}
