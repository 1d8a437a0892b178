//! Heads and bodies that nobody thought of.

use crate::cuts::{REQUESTS, RESPONSES, cut, forgiving, holds};
use crate::transcript::Side;
use proptest::prelude::*;
use semfio_http::{Asked, HeadReader, Leniency, Limits};
use semfio_machine::Input;

/// What makes or breaks a message.
const PIECES: &[&str] = &[
    "GET ",
    "POST /",
    "/",
    " ",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.1 200 ",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "Host: a\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip",
    ", ",
    "chunked",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X",
    ":",
    "\t",
    ";",
    "a=\"",
    "\"",
    "\\",
    "%",
    "%41",
    "#",
    "?",
    "@",
    "[",
    "]",
    "*",
    "0",
    "3",
    "A",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "abc",
    "\0",
    "\u{7f}",
    "\u{e9}",
    " b",
    "http://",
    "CONNECT a:1 ",
];

fn stream(whole: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..4u8, prop::sample::select(PIECES), any::<u8>());
    (prop::sample::select(whole), prop::collection::vec(change, 0..4)).prop_map(
        |(bytes, changes)| {
            let mut bytes = bytes.as_bytes().to_vec();
            for (at, what, piece, octet) in changes {
                let at = at.index(bytes.len() + 1);
                match what {
                    0 => drop(bytes.splice(at..at, piece.bytes())),
                    1 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [octet])),
                    2 => drop(bytes.drain(at..(at + 3).min(bytes.len()))),
                    _ => drop(bytes.splice(at..(at + piece.len()).min(bytes.len()), piece.bytes())),
                }
            }
            bytes
        },
    )
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|it| it.concat().into())
}

fn limits() -> impl Strategy<Value = Limits> {
    let small = (8..120usize, 1..24usize, 4..40usize, 0..5usize, 0..12usize, 2..24usize);
    let small = small.prop_map(|(head, target, field, fields, extensions, trailers)| {
        let mut limits = Limits::default();
        limits.head = head;
        limits.target = target;
        limits.field = field;
        limits.fields = fields;
        limits.extensions = extensions;
        limits.trailers = trailers;
        limits
    });
    prop_oneof![2 => Just(Limits::default()), 1 => small]
}

fn leniency() -> impl Strategy<Value = Leniency> {
    prop_oneof![Just(Leniency::default()), Just(forgiving())]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        3 => Just(Side::Requests),
        1 => Just(Side::Responses(Asked::Content)),
        1 => Just(Side::Responses(Asked::Head)),
        1 => Just(Side::Responses(Asked::Connect)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_depends_on_many_cuts(
        bytes in prop_oneof![stream(REQUESTS), stream(RESPONSES), pieces()],
        side in side(),
        limits in limits(),
        leniency in leniency(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|it| it.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = cut(side, limits, leniency, &bytes, &[]);
        prop_assert_eq!(whole, cut(side, limits, leniency, &bytes, &cuts));
        if bytes.len() < 100 {
            holds(side, limits, leniency, &bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What is taken here, httparse reads alike. It refuses nothing that we take.
    #[test]
    fn requests_are_read_as_httparse_does(bytes in prop_oneof![stream(REQUESTS), pieces()]) {
        let (read, taken) = our_request(&bytes);
        if let Some(read) = read {
            prop_assert_eq!(read, their_request(&bytes[..taken]), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn responses_are_read_as_httparse_does(bytes in prop_oneof![stream(RESPONSES), pieces()]) {
        // It takes the lines apart where we make them one.
        let folded = bytes.windows(2).any(|it| matches!(it, b"\n " | b"\n\t"));
        if !folded {
            if let (Some(read), taken) = our_response(&bytes) {
                prop_assert_eq!(read, their_response(&bytes[..taken]), "{}", bytes.escape_ascii());
            }
        }
    }
}

/// First words, and fields.
type Read = (Vec<String>, Vec<(String, Vec<u8>)>);

fn our_request(bytes: &[u8]) -> (Option<Read>, usize) {
    let mut bytes = bytes.to_vec();
    let len = bytes.len();
    let mut input = Input::new(&mut bytes, 0, true);
    let read =
        HeadReader::default().read_request(&Limits::default(), &Leniency::default(), &mut input);
    let taken = len - input.len();
    let Ok(Some(request)) = read else { return (None, taken) };
    let target = match request.target {
        semfio_http::Target::Origin { path, query } => path.to_owned() + &with_mark(query),
        semfio_http::Target::Absolute { scheme, authority, path, query } => {
            format!("{scheme}://{authority}{path}{}", with_mark(query))
        }
        semfio_http::Target::Authority(authority) => authority.to_owned(),
        semfio_http::Target::Asterisk => "*".to_owned(),
    };
    let words = vec![request.method.to_string(), target];
    let fields = request.fields.iter().map(|it| (it.name.to_owned(), it.value.to_vec()));
    (Some((words, fields.collect())), taken)
}

fn with_mark(query: Option<&str>) -> String {
    query.map(|it| format!("?{it}")).unwrap_or_default()
}

/// Minor versions that are to come are not known to it. The first line's is the last one before its
/// end, or that at the front.
fn of_its_time(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let first = bytes.windows(2).skip(2).position(|it| it == b"\r\n").unwrap() + 2;
    let at = if bytes.starts_with(b"HTTP/1.") { 7 } else { first - 1 };
    bytes[at] = b'1';
    bytes
}

fn their_request(bytes: &[u8]) -> Read {
    let bytes = of_its_time(bytes);
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut fields);
    let read = request.parse(&bytes);
    assert_eq!(read, Ok(httparse::Status::Complete(bytes.len())), "{}", bytes.escape_ascii());
    let words = [request.method, request.path].map(|it| it.unwrap().to_owned());
    (words.to_vec(), list(request.headers))
}

fn our_response(bytes: &[u8]) -> (Option<Read>, usize) {
    let mut bytes = bytes.to_vec();
    let len = bytes.len();
    let mut input = Input::new(&mut bytes, 0, true);
    let read = HeadReader::default().read_response(
        &Limits::default(),
        &Leniency::default(),
        Asked::Content,
        &mut input,
    );
    let taken = len - input.len();
    let Ok(Some(response)) = read else { return (None, taken) };
    let words = vec![response.status.code().to_string()];
    let fields = response.fields.iter().map(|it| (it.name.to_owned(), it.value.to_vec()));
    (Some((words, fields.collect())), taken)
}

fn their_response(bytes: &[u8]) -> Read {
    let bytes = of_its_time(bytes);
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut response = httparse::Response::new(&mut fields);
    let read = response.parse(&bytes);
    assert_eq!(read, Ok(httparse::Status::Complete(bytes.len())), "{}", bytes.escape_ascii());
    (vec![response.code.unwrap().to_string()], list(response.headers))
}

fn list(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|it| (it.name.to_owned(), it.value.to_vec())).collect()
}
