//! The rows.

use super::Force::{Must, Policy, Should};
use super::Part::{Broken, End, Text, Times};
use super::Verdict::{Reads, Refuses};
use super::{Message, Part, Row, Wire};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\n";
const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
const OK_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const DONE: Part = Text(b"\r\n");

const fn get(parts: &'static [Part]) -> Wire {
    Wire { start: GET, parts }
}

const fn post(parts: &'static [Part]) -> Wire {
    Wire { start: POST, parts }
}

const fn chunked(parts: &'static [Part]) -> Wire {
    Wire { start: CHUNKED, parts }
}

const fn raw(parts: &'static [Part]) -> Wire {
    Wire { start: b"", parts }
}

const fn message(start: &'static str, body: &'static [u8]) -> Message {
    Message { start, body, keeps: true }
}

const GOT: Message = message("GET /", b"");
const POSTED: Message = message("POST /", b"abc");
const ANSWERED: Message = message("200", b"abc");
const ANSWERED_EMPTY: Message = message("200", b"");

/// All rows, in the order of their numbers.
pub const ROWS: &[Row] = &[
    Row::refused(
        1,
        "a length and chunks",
        post(&[
            Text(b"Content-Length: 3\r\n"),
            Broken,
            Text(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ]),
        "length-and-coding",
    )
    .as_response(OK)
    .refuse()
    .unless("length_beside_coding")
    .why(Policy, "RFC 9112, 6.1", "whoever goes by the other of the two sees another message; nobody sends both by chance"),
    Row::refused(
        2,
        "two lengths that differ",
        post(&[Text(b"Content-Length: 3\r\n"), Broken, Text(b"Content-Length: 5\r\n\r\nabcde")]),
        "length-twice",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "only one of them can be true"),
    Row::refused(
        3,
        "two lengths that are the same",
        post(&[Text(b"Content-Length: 3\r\n"), Broken, Text(b"Content-Length: 3\r\n\r\nabc")]),
        "length-twice",
    )
    .as_response(OK)
    .unless("repeated_length")
    .why(Policy, "RFC 9110, 8.6", "it may be taken for one, but somebody on the way has put it together carelessly"),
    Row::refused(
        4,
        "a list of lengths",
        post(&[Text(b"Content-Length: "), Broken, Text(b"3, 3\r\n\r\nabc")]),
        "length-form",
    )
    .as_response(OK)
    .unless("repeated_length")
    .why(Policy, "RFC 9110, 8.6", "it may be taken for one, but readers that stop at the comma exist, and such that do not"),
    Row::refused(
        5,
        "a length with a plus sign",
        post(&[Text(b"Content-Length: "), Broken, Text(b"+3\r\n\r\nabc")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length is digits, and what library calls make of other text is their affair"),
    Row::refused(
        6,
        "a negative length",
        post(&[Text(b"Content-Length: "), Broken, Text(b"-3\r\n\r\nabc")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length is digits"),
    Row::refused(
        7,
        "a length in hexadecimal",
        post(&[Text(b"Content-Length: "), Broken, Text(b"0x3\r\n\r\nabc")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length is decimal; the zero in front would be another one"),
    Row::refused(
        8,
        "a length with an underscore",
        post(&[Text(b"Content-Length: "), Broken, Text(b"1_0\r\n\r\nabcdefghij")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length is digits; Python reads such a thing as ten, others as one"),
    Row::refused(
        9,
        "an empty length",
        post(&[Text(b"Content-Length: "), Broken, Text(b"\r\n\r\n")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length has at least one digit"),
    Row::refused(
        10,
        "a length of 2^64",
        post(&[Text(b"Content-Length: "), Broken, Text(b"18446744073709551616\r\n\r\nabc")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9110, 8.6", "it must not wrap round to zero, and nobody sends so much"),
    Row::refused(
        11,
        "a length with a blank in it",
        post(&[Text(b"Content-Length: "), Broken, Text(b"1 0\r\n\r\nabcdefghij")]),
        "length-form",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "a length is digits, side by side"),
    Row::refused(
        12,
        "the coding \"identity\"",
        post(&[Broken, Text(b"Transfer-Encoding: identity\r\n\r\nabc")]),
        "chunked-last",
    )
    .response(OK, &[Broken, Text(b"Transfer-Encoding: identity\r\n\r\nabc")], Refuses("coding-unknown"))
    .refuse()
    .why(Must, "RFC 9112, 6.3", "where a coding is named and the last is not chunked, a request has no length"),
    Row::refused(
        13,
        "the coding gzip alone",
        post(&[Broken, Text(b"Transfer-Encoding: gzip\r\n\r\nabc")]),
        "chunked-last",
    )
    .response(OK, &[Broken, Text(b"Transfer-Encoding: gzip\r\n\r\nabc")], Refuses("coding-unknown"))
    .refuse()
    .why(Must, "RFC 9112, 6.3", "without chunks nothing says where the request ends"),
    Row::refused(
        14,
        "chunked, and gzip after it",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b"chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "chunked-last",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "chunks are the outermost coding or they frame nothing"),
    Row::refused(
        15,
        "chunked twice in a line",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b"chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "chunked-twice",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.1", "a sender must not do so; chunks within chunks, or chunks: readers differ"),
    Row::refused(
        16,
        "chunked in two lines",
        post(&[
            Text(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: "),
            Broken,
            Text(b"chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ]),
        "chunked-twice",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.1", "two lines are one list"),
    Row::refused(
        17,
        "a coding that ends in \"chunked\"",
        post(&[Broken, Text(b"Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "chunked-last",
    )
    .response(OK, &[Broken, Text(b"Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")], Refuses("coding-unknown"))
    .refuse()
    .why(Must, "RFC 9112, 6.1", "an unknown coding; names are compared whole"),
    Row::refused(
        18,
        "an empty member before chunked",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b", chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "coding-form",
    )
    .as_response(OK)
    .refuse()
    .why(Policy, "RFC 9110, 5.6.1", "a list may be read so, but peers differ on this one and its only use is to be misread"),
    Row::refused(
        19,
        "a vertical tab before chunked",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b"\x0Bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "field-value",
    )
    .as_response(OK)
    .refuse()
    .why(Should, "RFC 9110, 5.5", "blanks are space and tab; others that a library takes off hide a coding from those that do not"),
    Row::refused(
        20,
        "chunked in quotes",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b"\"chunked\"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "coding-form",
    )
    .as_response(OK)
    .refuse()
    .why(Should, "RFC 9110, 10.1.4", "a coding is a token"),
    Row::refused(
        21,
        "octet A0 before chunked",
        post(&[Text(b"Transfer-Encoding: "), Broken, Text(b"\xA0chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")]),
        "coding-form",
    )
    .as_response(OK)
    .refuse()
    .why(Should, "RFC 9110, 5.6.3", "in Latin-1 that is a blank too, but not here"),
    Row::refused(
        22,
        "chunked, identity and a length",
        post(&[
            Text(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: "),
            Broken,
            Text(b"identity\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ]),
        "chunked-last",
    )
    .as_response(OK)
    .refuse()
    .why(Must, "RFC 9112, 6.3", "three claims on how long the message is"),
    Row::read(
        23,
        "Transfer_Encoding with an underscore",
        post(&[Text(b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc")]),
        &[POSTED],
    )
    .response(
        OK,
        &[Text(b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc")],
        Reads(&[ANSWERED]),
    )
    .serve(&[405], true)
    .why(Should, "RFC 9110, 5.1", "a field nobody knows; only CGI takes the one for the other"),
    Row::refused(
        24,
        "chunks in HTTP/1.0",
        raw(&[
            Text(b"POST / HTTP/1.0\r\nHost: a\r\n"),
            Broken,
            Text(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ]),
        "coding-version",
    )
    .response(
        b"HTTP/1.0 200 OK\r\n",
        &[Broken, Text(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")],
        Refuses("coding-version"),
    )
    .refuse()
    .why(Must, "RFC 9112, 6.1", "1.0 has no codings, so one who passed it on without knowing them is not excluded"),
    Row::refused(
        25,
        "a blank before the colon",
        get(&[Text(b"X"), Broken, Text(b" : b\r\n\r\n")]),
        "field-blank",
    )
    .response(EMPTY, &[Text(b"X"), Broken, Text(b" : b\r\n\r\n")], Refuses("field-blank"))
    .refuse()
    .why(Must, "RFC 9112, 5.1", "some take the blank off and some do not, and then the names differ"),
    Row::refused(
        26,
        "a tab before the colon",
        get(&[Text(b"X"), Broken, Text(b"\t: b\r\n\r\n")]),
        "field-blank",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Must, "RFC 9112, 5.1", "as a blank"),
    Row::refused(
        27,
        "a field over two lines",
        get(&[Text(b"X: b\r\n"), Broken, Text(b" c\r\n\r\n")]),
        "fold",
    )
    .response(EMPTY, &[Text(b"X: b\r\n c\r\n\r\n")], Reads(&[ANSWERED_EMPTY]))
    .why(Must, "RFC 9112, 5.2", "a request is refused; in a response the line end is read as blanks"),
    Row::refused(
        28,
        "a blank before the first field",
        raw(&[Text(b"GET / HTTP/1.1\r\n"), Broken, Text(b" X: b\r\nHost: a\r\n\r\n")]),
        "leading-blank",
    )
    .response(
        OK,
        &[Broken, Text(b" X: b\r\nContent-Length: 0\r\n\r\n")],
        Refuses("leading-blank"),
    )
    .refuse()
    .why(Must, "RFC 9112, 2.2", "such a line belongs to nothing; some drop it, some read it"),
    Row::refused(
        29,
        "CR and a letter where the head ends",
        get(&[Text(b"X: b\r\n\r"), Broken, Text(b"Z\r\n\r\n")]),
        "line-end",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Must, "RFC 9112, 2.2", "who takes two octets for an empty line without a look ends the head here"),
    Row::refused(
        30,
        "LF alone at the end of all lines",
        raw(&[Text(b"GET / HTTP/1.1"), Broken, Text(b"\nHost: a\n\n")]),
        "line-end",
    )
    .response(
        b"HTTP/1.1 200 OK",
        &[Broken, Text(b"\nContent-Length: 0\n\n")],
        Refuses("line-end"),
    )
    .unless("bare_lf")
    .why(Policy, "RFC 9112, 2.2", "a reader may allow it; who does not sees other lines"),
    Row::refused(
        31,
        "LF alone at the end of one line",
        get(&[Text(b"X: b"), Broken, Text(b"\nY: c\r\n\r\n")]),
        "line-end",
    )
    .as_response(EMPTY)
    .unless("bare_lf")
    .why(Policy, "RFC 9112, 2.2", "as above"),
    Row::refused(
        32,
        "CR alone within a value",
        get(&[Text(b"X: b\r"), Broken, Text(b"c\r\n\r\n")]),
        "line-end",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Must, "RFC 9112, 2.2", "some end the line there"),
    Row::refused(
        33,
        "CR alone at the end of a line",
        get(&[Text(b"X: b\r"), Broken, Text(b"Y: c\r\n\r\n")]),
        "line-end",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Must, "RFC 9112, 2.2", "some end the line there"),
    Row::refused(
        34,
        "NUL in a value",
        get(&[Text(b"X: b"), Broken, Text(b"\0c\r\n\r\n")]),
        "field-value",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Must, "RFC 9110, 5.5", "in C the value ends there"),
    Row::refused(
        35,
        "NUL in a name",
        get(&[Text(b"X"), Broken, Text(b"\0Y: c\r\n\r\n")]),
        "field-name",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Should, "RFC 9110, 5.1", "a name is a token"),
    Row::refused(
        36,
        "a control character in a value",
        get(&[Text(b"X: b"), Broken, Text(b"\x07c\r\n\r\n")]),
        "field-value",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Policy, "RFC 9110, 5.5", "the grammar has none; logs and terminals do not expect one"),
    Row::read(37, "octet FF in a value", get(&[Text(b"X: \xFF\r\n\r\n")]), &[GOT])
        .response(EMPTY, &[Text(b"X: \xFF\r\n\r\n")], Reads(&[ANSWERED_EMPTY]))
        .why(Should, "RFC 9110, 5.5", "it is kept as it is and means nothing"),
    Row::refused(
        38,
        "octet EF in a name",
        get(&[Text(b"X"), Broken, Text(b"\xEFY: c\r\n\r\n")]),
        "field-name",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Should, "RFC 9110, 5.1", "a name is a token"),
    Row::refused(39, "a name of no characters", get(&[Broken, Text(b": c\r\n\r\n")]), "field-name")
        .as_response(EMPTY)
        .refuse()
        .why(Should, "RFC 9110, 5.1", "a token has at least one character"),
    Row::refused(
        40,
        "a line without a colon",
        get(&[Text(b"X"), Broken, Text(b"\r\n\r\n")]),
        "field-colon",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Should, "RFC 9112, 5", "not a field; it could be part of the one before"),
    Row::refused(
        41,
        "brackets in a name",
        get(&[Text(b"X"), Broken, Text(b"[y]: c\r\n\r\n")]),
        "field-name",
    )
    .as_response(EMPTY)
    .refuse()
    .why(Should, "RFC 9110, 5.1", "a name is a token"),
    Row::refused(
        42,
        "no Host in HTTP/1.1",
        raw(&[Text(b"GET / HTTP/1.1\r\nX: b\r\n"), Broken, Text(b"\r\n")]),
        "host-missing",
    )
    .refuse()
    .why(Must, "RFC 9112, 3.2", "nobody knows whom it is for"),
    Row::refused(
        43,
        "two hosts that differ",
        get(&[Broken, Text(b"Host: b\r\n\r\n")]),
        "host-twice",
    )
    .refuse()
    .why(Must, "RFC 9112, 3.2", "one reader goes by the first and one by the last"),
    Row::refused(
        44,
        "two hosts that are the same",
        get(&[Broken, Text(b"Host: a\r\n\r\n")]),
        "host-twice",
    )
    .refuse()
    .why(Must, "RFC 9112, 3.2", "more than one line is refused, whatever they say"),
    Row::refused(
        45,
        "an empty host",
        raw(&[Text(b"GET / HTTP/1.1\r\nHost: "), Broken, Text(b"\r\n\r\n")]),
        "host-form",
    )
    .unless("empty_host")
    .why(Policy, "RFC 9112, 3.2", "it is for a target without an authority, which an http server has none of"),
    Row::refused(
        46,
        "a host with a slash and an at sign",
        raw(&[Text(b"GET / HTTP/1.1\r\nHost: a"), Broken, Text(b"/b@c\r\n\r\n")]),
        "host-form",
    )
    .refuse()
    .why(Must, "RFC 9112, 3.2", "a and c are both found in it, by different readers"),
    Row::refused(
        47,
        "a list of hosts",
        raw(&[Text(b"GET / HTTP/1.1\r\nHost: a"), Broken, Text(b", b\r\n\r\n")]),
        "host-form",
    )
    .refuse()
    .why(Must, "RFC 9112, 3.2", "two lines that somebody has joined are still two hosts"),
    Row::read(
        48,
        "a target that names another host",
        raw(&[Text(b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET http://b/", b"")],
    )
    .why(Must, "RFC 9112, 3.2.2", "the target decides; Host is not looked at"),
    Row::refused(
        49,
        "a target with a password",
        raw(&[Text(b"GET http://u:p"), Broken, Text(b"@a/ HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-user",
    )
    .refuse()
    .why(Should, "RFC 9110, 4.2.4", "it is an error in what others send; it hides where a link leads"),
    Row::refused(
        50,
        "a request of HTTP/0.9",
        raw(&[Text(b"GET /"), Broken, Text(b"\r\n")]),
        "request-line",
    )
    .response(b"", &[Broken, Text(b"<p>hello</p>\r\n")], Refuses("version-form"))
    .refuse()
    .why(Should, "RFC 9112, 3", "nobody speaks it; its answer has no head that would say what it is"),
    Row::read(
        51,
        "HTTP/1.0 without Host",
        raw(&[Text(b"GET / HTTP/1.0\r\n\r\n")]),
        &[Message { start: "GET /", body: b"", keeps: false }],
    )
    .why(Must, "RFC 9112, 9.3", "1.0 has no need of Host, and ends after one answer unless asked not to"),
    Row::refused_with(
        52,
        "HTTP/2.0 in the start line",
        raw(&[Text(b"GET / HTTP/"), Broken, Text(b"2.0\r\nHost: a\r\n\r\n")]),
        "version-unsupported",
        &[505],
    )
    .response(
        b"HTTP/",
        &[Broken, Text(b"2.0 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("version-unsupported"),
    )
    .why(Should, "RFC 9110, 15.6.6", "another major version is another protocol"),
    Row::read(
        53,
        "HTTP/1.9",
        raw(&[Text(b"GET / HTTP/1.9\r\nHost: a\r\n\r\n")]),
        &[GOT],
    )
    .response(
        b"HTTP/1.9 200 OK\r\n",
        &[Text(b"Content-Length: 3\r\n\r\nabc")],
        Reads(&[ANSWERED]),
    )
    .why(Should, "RFC 9110, 2.5", "a higher minor version is read as the highest that is known"),
    Row::refused(
        54,
        "HTTP/1.10",
        raw(&[Text(b"GET / HTTP/1.1"), Broken, Text(b"0\r\nHost: a\r\n\r\n")]),
        "version-form",
    )
    .response(
        b"HTTP/1.1",
        &[Broken, Text(b"0 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("version-form"),
    )
    .refuse()
    .why(Should, "RFC 9112, 2.3", "a version is one digit, a point, one digit"),
    Row::refused(
        55,
        "a protocol name in lower case",
        raw(&[Text(b"GET / "), Broken, Text(b"http/1.1\r\nHost: a\r\n\r\n")]),
        "version-form",
    )
    .response(
        b"",
        &[Broken, Text(b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("version-form"),
    )
    .refuse()
    .why(Must, "RFC 9112, 2.3", "case matters in it"),
    Row::refused_with(
        56,
        "the preface of HTTP/2",
        raw(&[Text(b"PRI * HTTP/"), Broken, Text(b"2.0\r\n\r\nSM\r\n\r\n")]),
        "version-unsupported",
        &[505],
    )
    .why(Should, "RFC 9110, 15.6.6", "another protocol; none of it is sent back"),
    Row::refused(
        57,
        "two blanks after the method",
        raw(&[Text(b"GET "), Broken, Text(b" / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "request-line",
    )
    .response(
        b"HTTP/1.1 ",
        &[Broken, Text(b" 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("status-line"),
    )
    .refuse()
    .why(Policy, "RFC 9112, 3", "who reads by words and who reads by blanks find different targets"),
    Row::refused(
        58,
        "tabs between the words",
        raw(&[Text(b"GET"), Broken, Text(b"\t/\tHTTP/1.1\r\nHost: a\r\n\r\n")]),
        "request-line",
    )
    .response(
        b"HTTP/1.1",
        &[Broken, Text(b"\t200\tOK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("status-line"),
    )
    .refuse()
    .why(Policy, "RFC 9112, 3", "as above"),
    Row::refused(
        59,
        "a blank in the target",
        raw(&[Text(b"GET /a "), Broken, Text(b"b HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "version-form",
    )
    .refuse()
    .why(Should, "RFC 9112, 3.2", "no guess is made where the target ends"),
    Row::refused(
        60,
        "a blank after the version",
        raw(&[Text(b"GET / HTTP/1.1"), Broken, Text(b" \r\nHost: a\r\n\r\n")]),
        "request-line",
    )
    .refuse()
    .why(Policy, "RFC 9112, 3", "the line has three words and two blanks"),
    Row::read(
        61,
        "an empty line before the request",
        raw(&[Text(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[GOT],
    )
    .response(
        b"",
        &[Broken, Text(b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("version-form"),
    )
    .why(Should, "RFC 9112, 2.2", "one is skipped, of requests: old clients send it behind a body"),
    Row::refused(
        62,
        "a blank before the method",
        raw(&[Broken, Text(b" GET / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "request-line",
    )
    .response(
        b"",
        &[Broken, Text(b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")],
        Refuses("version-form"),
    )
    .refuse()
    .why(Should, "RFC 9112, 3", "the line begins with the method"),
    Row::refused(
        63,
        "a method with an at sign",
        raw(&[Text(b"GE"), Broken, Text(b"@T / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "method-token",
    )
    .refuse()
    .why(Should, "RFC 9110, 9.1", "a method is a token"),
    Row::read(
        64,
        "get in lower case",
        raw(&[Text(b"get / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("get /", b"")],
    )
    .echo(&[501], true)
    .serve(&[501], true)
    .why(Should, "RFC 9110, 9.1", "case matters: a method that nobody knows"),
    Row::read(
        65,
        "a method nobody knows",
        raw(&[Text(b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("FETCH /", b"")],
    )
    .echo(&[501], true)
    .serve(&[501], true)
    .why(Should, "RFC 9110, 9.1", "501; 405 is for those that are known and not allowed"),
    Row::refused(
        66,
        "a fragment in the target",
        raw(&[Text(b"GET /"), Broken, Text(b"#b HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-fragment",
    )
    .refuse()
    .why(Should, "RFC 9112, 3.2", "a fragment is not sent, so who sent it did not mean it"),
    Row::refused(
        67,
        "NUL in the target",
        raw(&[Text(b"GET /a"), Broken, Text(b"\0b HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-octet",
    )
    .refuse()
    .why(Should, "RFC 9112, 3.2", "a target is visible ASCII"),
    Row::read(
        68,
        "NUL in the target, percent-encoded",
        raw(&[Text(b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /a%00b", b"")],
    )
    .serve(&[400], true)
    .why(Policy, "RFC 3986, 7.3", "legal in a URI, but no file has it in its name"),
    Row::refused(
        69,
        "octet E9 in the target",
        raw(&[Text(b"GET /"), Broken, Text(b"\xE9 HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-octet",
    )
    .why(Should, "RFC 9112, 3.2", "a target is visible ASCII"),
    Row::refused(
        70,
        "percent and no digits",
        raw(&[Text(b"GET /a%"), Broken, Text(b"zz HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-percent",
    )
    .why(Should, "RFC 3986, 2.1", "one who decodes it leniently and one who does not mean two files"),
    Row::read(
        71,
        "dot-dot beyond the root",
        raw(&[Text(b"GET /../outside.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /../outside.txt", b"")],
    )
    .serve(&[404], true)
    .why(Policy, "RFC 3986, 5.2.4", "never a file from outside"),
    Row::read(
        72,
        "dot-dot, percent-encoded",
        raw(&[Text(b"GET /%2e%2e/outside.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /%2e%2e/outside.txt", b"")],
    )
    .serve(&[404], true)
    .why(Policy, "RFC 3986, 6.2.2.2", "the same as without percent"),
    Row::read(
        73,
        "dot-dot and an encoded slash",
        raw(&[Text(b"GET /..%2Foutside.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /..%2Foutside.txt", b"")],
    )
    .serve(&[404], true)
    .why(Policy, "RFC 3986, 2.2", "an encoded slash is no separator, and no name has a slash"),
    Row::read(
        74,
        "dot-dot and an encoded backslash",
        raw(&[Text(b"GET /..%5Coutside.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /..%5Coutside.txt", b"")],
    )
    .serve(&[404], true)
    .why(Policy, "RFC 3986, 7.3", "a separator on some systems, so in no name on any"),
    Row::read(
        75,
        "dot-dot, encoded twice",
        raw(&[Text(b"GET /%252e%252e/outside.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /%252e%252e/outside.txt", b"")],
    )
    .serve(&[404], true)
    .why(Must, "RFC 3986, 2.4", "a target is decoded once"),
    Row::read(
        76,
        "a target that begins with two slashes",
        raw(&[Text(b"GET //a.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET //a.txt", b"")],
    )
    .serve(&[404], true)
    .why(Should, "RFC 9112, 3.2.1", "a path whose first name is empty, not the name of a host"),
    Row::read(
        77,
        "a link that leads out of the folder",
        raw(&[Text(b"GET /out.txt HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /out.txt", b"")],
    )
    .serve(&[404], true)
    .why(Policy, "RFC 9110, 17.3", "what lies outside is not served, however one gets there"),
    Row::read(
        78,
        "OPTIONS of the whole server",
        raw(&[Text(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("OPTIONS *", b"")],
    )
    .echo(&[204], true)
    .serve(&[204], true)
    .why(Should, "RFC 9110, 9.3.7", "answered with Allow"),
    Row::refused(
        79,
        "GET of the whole server",
        raw(&[Text(b"GET "), Broken, Text(b"* HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-form",
    )
    .why(Should, "RFC 9112, 3.2.4", "the asterisk is of OPTIONS alone"),
    Row::read(
        80,
        "CONNECT",
        raw(&[Text(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")]),
        &[message("CONNECT a:80", b"")],
    )
    .echo(&[501], true)
    .serve(&[501], true)
    .why(Should, "RFC 9110, 9.3.6", "no proxy; the tunnel is refused, and HTTP goes on"),
    Row::read(
        81,
        "TRACE with a cookie",
        raw(&[Text(b"TRACE / HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\n\r\n")]),
        &[message("TRACE /", b"")],
    )
    .echo(&[501], true)
    .serve(&[501], true)
    .why(Should, "RFC 9110, 9.3.8", "nothing of the head is sent back, cookies least of all"),
    Row::refused(
        82,
        "a chunk size with 0x",
        chunked(&[Text(b"0"), Broken, Text(b"x3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a size is hexadecimal digits; read up to the x it is the last chunk"),
    Row::refused(
        83,
        "a chunk size with an underscore",
        chunked(&[Text(b"0"), Broken, Text(b"_3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a size is hexadecimal digits"),
    Row::refused(
        84,
        "a negative chunk size",
        chunked(&[Broken, Text(b"-3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a size is hexadecimal digits"),
    Row::refused(
        85,
        "a chunk size with a plus sign",
        chunked(&[Broken, Text(b"+3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a size is hexadecimal digits"),
    Row::refused(
        86,
        "a chunk size of 17 digits F",
        chunked(&[Text(b"FFFFFFFFFFFFFFFF"), Broken, Text(b"F\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Must, "RFC 9112, 7.1", "a reader must see that it cannot hold it"),
    Row::refused(
        87,
        "a chunk size of 2^64 + 3",
        chunked(&[Text(b"1000000000000000"), Broken, Text(b"3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Must, "RFC 9112, 7.1", "in 64 bits that would be 3"),
    Row::refused(
        88,
        "a chunk size of no digits",
        chunked(&[Broken, Text(b"\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a size has at least one digit"),
    Row::refused(
        89,
        "LF alone after a chunk size",
        chunked(&[Text(b"3"), Broken, Text(b"\nabc\r\n0\r\n\r\n")]),
        "chunk-end",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 2.2", "what may be allowed of lines of a head is nowhere allowed of chunks"),
    Row::refused(
        90,
        "one octet too many in a chunk",
        chunked(&[Text(b"3\r\nabc"), Broken, Text(b"X\r\n0\r\n\r\n")]),
        "chunk-end",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "CR LF follows the data"),
    Row::refused(
        91,
        "two other octets for the CR LF of a chunk",
        chunked(&[Text(b"3\r\nabc"), Broken, Text(b"XY0\r\n\r\n")]),
        "chunk-end",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "who skips two octets without a look reads on"),
    Row::refused(
        92,
        "LF in a chunk extension",
        chunked(&[Text(b"3;a"), Broken, Text(b"\nb\r\nabc\r\n0\r\n\r\n")]),
        "chunk-end",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1.1", "some end the line there, and take what follows for data"),
    Row::read(
        93,
        "chunk extensions",
        chunked(&[Text(b"3;a=b;c=\"d e\"\r\nabc\r\n0;f\r\n\r\n")]),
        &[POSTED],
    )
    .response(
        OK_CHUNKED,
        &[Text(b"3;a=b;c=\"d e\"\r\nabc\r\n0;f\r\n\r\n")],
        Reads(&[ANSWERED]),
    )
    .serve(&[405], true)
    .why(Must, "RFC 9112, 7.1.1", "those that are not known are passed over; all are"),
    Row::refused(
        94,
        "a blank after a chunk size",
        chunked(&[Text(b"3"), Broken, Text(b" \r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .unless("blank_after_chunk_size")
    .serve(&[405], false)
    .why(Policy, "RFC 9112, 7.1", "the grammar has none, some senders do"),
    Row::refused(
        95,
        "a blank before a chunk size",
        chunked(&[Broken, Text(b" 3\r\nabc\r\n0\r\n\r\n")]),
        "chunk-size",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1", "a chunk begins with its size"),
    Row::read(
        96,
        "a last chunk of three zeros",
        chunked(&[Text(b"3\r\nabc\r\n000\r\n\r\n")]),
        &[POSTED],
    )
    .response(OK_CHUNKED, &[Text(b"3\r\nabc\r\n000\r\n\r\n")], Reads(&[ANSWERED]))
    .serve(&[405], true)
    .why(Must, "RFC 9112, 7.1", "the last chunk is one or more zeros"),
    Row::refused(
        97,
        "a length in the trailers",
        chunked(&[Text(b"3\r\nabc\r\n0\r\n"), Broken, Text(b"Content-Length: 5\r\n\r\n")]),
        "trailer-field",
    )
    .as_response(OK_CHUNKED)
    .serve(&[405], false)
    .why(Policy, "RFC 9110, 6.5.1", "it must not be sent and must not be merged; some do both"),
    Row::refused(
        98,
        "a trailer without a colon",
        chunked(&[Text(b"3\r\nabc\r\n0\r\nX"), Broken, Text(b"\r\n\r\n")]),
        "field-colon",
    )
    .as_response(OK_CHUNKED)
    .refuse()
    .serve(&[405], false)
    .why(Should, "RFC 9112, 7.1.2", "trailers are fields"),
    Row::refused(
        99,
        "a chunk extension of 64 KiB",
        chunked(&[
            Text(b"3;"),
            Times(b"a", 16 * 1024 - 1),
            Broken,
            Times(b"a", 48 * 1024 + 1),
            Text(b"\r\nabc\r\n0\r\n\r\n"),
        ]),
        "extensions-too-long",
    )
    .as_response(OK_CHUNKED)
    .serve(&[405], false)
    .why(Must, "RFC 9112, 7.1.1", "a reader limits them; ours takes 16 KiB of a whole message"),
    Row::refused_with(
        100,
        "a field of 16 KiB and its name",
        get(&[Text(b"X: "), Times(b"b", 16 * 1024 - 3), Broken, Times(b"b", 3), DONE, DONE]),
        "field-too-long",
        &[431],
    )
    .as_response(EMPTY)
    .why(Policy, "RFC 6585, 5", "a field line has at most 16 KiB"),
    Row::refused_with(
        101,
        "a field of 256 KiB",
        get(&[Text(b"X: "), Times(b"b", 16 * 1024 - 3), Broken, Times(b"b", 240 * 1024 + 3), DONE, DONE]),
        "field-too-long",
        &[431],
    )
    .as_response(EMPTY)
    .why(Policy, "RFC 6585, 5", "a field line has at most 16 KiB"),
    Row::refused_with(
        102,
        "1,000 fields",
        get(&[Times(b"X: b\r\n", 127), Broken, Times(b"X: b\r\n", 873), DONE]),
        "fields-too-many",
        &[431],
    )
    .as_response(EMPTY)
    .why(Policy, "RFC 6585, 5", "a head has at most 128 fields"),
    Row::refused_with(
        103,
        "a target of 64 KiB",
        raw(&[Text(b"GET /"), Times(b"b", 7_999), Broken, Times(b"b", 64 * 1024 - 7_999), Text(b" HTTP/1.1\r\nHost: a\r\n\r\n")]),
        "target-too-long",
        &[414],
    )
    .why(Should, "RFC 9112, 3", "a target has at most 8,000 octets"),
    Row::refused_with(
        104,
        "an expectation nobody knows",
        post(&[Text(b"Content-Length: 3\r\nExpect: "), Broken, Text(b"tea\r\n\r\nabc")]),
        "expectation",
        &[417],
    )
    .why(Policy, "RFC 9110, 10.1.1", "what cannot be met is said, not passed over"),
    Row::read(
        105,
        "an offer to speak HTTP/2",
        get(&[Text(
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )]),
        &[GOT],
    )
    .why(Must, "RFC 9110, 7.8", "an offer may be passed over, and this one is"),
    Row::read(
        106,
        "two requests at once",
        get(&[Text(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[GOT, GOT],
    )
    .why(Must, "RFC 9112, 9.3.2", "answers come in the order of the requests"),
    Row::read(
        107,
        "GET with content, and GET",
        get(&[Text(b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n")]),
        &[message("GET /", b"abc"), GOT],
    )
    .why(Must, "RFC 9112, 6", "content is content, whatever the method means by it"),
    Row::new(
        108,
        "a body that is shorter than its length",
        post(&[Text(b"Content-Length: 5\r\n\r\nabc"), End]),
        Refuses("content-short"),
        super::Answer { statuses: &[400], kept: false },
    )
    .as_response(OK)
    .serve(&[405], false)
    .why(Must, "RFC 9112, 8", "incomplete, and never handed up as whole"),
    Row::new(
        109,
        "a head that ends in the middle",
        get(&[Text(b"X: "), End]),
        Refuses("head-short"),
        super::Answer { statuses: &[400], kept: false },
    )
    .as_response(EMPTY)
    .why(Must, "RFC 9112, 8", "head-short"),
    Row::new(
        110,
        "a chunk that ends in the middle",
        chunked(&[Text(b"5\r\nabc"), End]),
        Refuses("content-short"),
        super::Answer { statuses: &[400], kept: false },
    )
    .as_response(OK_CHUNKED)
    .serve(&[405], false)
    .why(Must, "RFC 9112, 8", "incomplete: only the last chunk ends it"),
    Row::read(
        111,
        "Connection that names Host",
        get(&[Text(b"Connection: Host\r\n\r\n")]),
        &[GOT],
    )
    .why(Must, "RFC 9110, 7.6.1", "Host is for the far end, so naming it there is passed over"),
];
