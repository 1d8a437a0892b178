//! However the input is cut, the same is told, and at the same octet.

use crate::transcript::{Reading, Side};
use semfio_http::{Asked, Leniency, Limits};

/// Streams that are read in many ways, right and wrong.
pub(crate) const REQUESTS: &[&str] = &[
    "\r\nGET /a?b HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "PUT http://a.b:1/c HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\\\"\";c\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "GET /%4 HTTP/1.1\r\n",
    "GET /%4",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
];

/// The same for responses.
pub(crate) const RESPONSES: &[&str] = &[
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\nA:\r\n b \r\n\tc\r\nContent-Length:\r\n 2\r\n\r\nabHTTP/1.0 204 x\r\n\r\nHTTP/1.0 200 x\r\n\r\nall",
    "HTTP/1.1 200\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\nHTTP/1.1 304 \r\nContent-Length: 3\r\n\r\nHTTP/1.1 99",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n a\r\n\r\n",
];

/// What is told of pieces that end at these octets.
pub(crate) fn cut(
    side: Side,
    limits: Limits,
    leniency: Leniency,
    bytes: &[u8],
    cuts: &[usize],
) -> String {
    let mut reading = Reading::new(side, limits, leniency);
    let mut begin = 0;
    for &end in cuts {
        reading.show(&bytes[begin..end], false);
        begin = end;
    }
    reading.show(&bytes[begin..], true);
    reading.told
}

/// Byte by byte, at every cut and at every end the same as at once.
pub(crate) fn holds(side: Side, limits: Limits, leniency: Leniency, bytes: &[u8]) {
    let mut dripped = Reading::new(side, limits, leniency);
    for end in 0..=bytes.len() {
        // Here the peer might end, or the next octets come at once.
        let whole = cut(side, limits, leniency, &bytes[..end], &[]);
        let drip: Vec<_> = (1..end).collect();
        assert_eq!(
            whole,
            cut(side, limits, leniency, &bytes[..end], &drip),
            "{end} octets of {}",
            bytes.escape_ascii()
        );
        if end > 0 {
            dripped.show(&bytes[end - 1..end], false);
        }
        // A fault is told with the octet with which it is told at once, not later.
        let mut shown = Reading::new(side, limits, leniency);
        shown.show(&bytes[..end], false);
        assert_eq!(shown.broken, dripped.broken, "{end} octets of {}", bytes.escape_ascii());
    }
    let whole = cut(side, limits, leniency, bytes, &[]);
    for at in 0..bytes.len() {
        assert_eq!(
            whole,
            cut(side, limits, leniency, bytes, &[at]),
            "cut at {at}: {}",
            bytes.escape_ascii()
        );
    }
}

/// All switches on.
pub(crate) fn forgiving() -> Leniency {
    let mut it = Leniency::default();
    it.bare_lf = true;
    it.repeated_length = true;
    it.length_beside_coding = true;
    it.blank_after_chunk_size = true;
    it.bare_status = true;
    it.empty_host = true;
    it
}

#[test]
fn nothing_depends_on_cuts() {
    for leniency in [Leniency::default(), forgiving()] {
        for bytes in REQUESTS {
            holds(Side::Requests, Limits::default(), leniency, bytes.as_bytes());
            holds(
                Side::Requests,
                Limits::default(),
                leniency,
                bytes.replace("\r\n", "\n").as_bytes(),
            );
        }
        for bytes in RESPONSES {
            for asked in [Asked::Content, Asked::Head, Asked::Connect] {
                holds(Side::Responses(asked), Limits::default(), leniency, bytes.as_bytes());
                holds(
                    Side::Responses(asked),
                    Limits::default(),
                    leniency,
                    bytes.replace("\r\n", "\n").as_bytes(),
                );
            }
        }
    }
}
