//! Messages that nobody has thought of, by seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use semfio_corpus::http_rows::{ROWS, Verdict};
use semfio_corpus::http_samples::{Kind, SAMPLES};

/// What is sent on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    /// Whether the sender is done then.
    pub(crate) ends: bool,
}

/// Lines that change how a message is framed or routed, or would in some reader's eyes.
const LINES: &[&[u8]] = &[
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 00000000000000000000003\r\n",
    b"Content-Length: +3\r\n",
    b"Content-Length: 3, 3\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tCHUNKED \r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: ,x,, Close\r\n",
    b"Connection: upgrade\r\n",
    b"Connection:\r\n",
    b"Upgrade: h2c\r\n",
    b"Host: a\r\n",
    b"Host:\r\n",
    b"Expect: 100-continue\r\n",
    b"TE: trailers\r\n",
    b"Trailer: X\r\n",
    b"Proxy-Connection: close\r\n",
    b"X-Y: \x80\xFF\r\n",
    b" folded\r\n",
    b"\tfolded\r\n",
    b"\r\n",
    b"\n",
    b"0\r\n",
    b"3\r\nabc\r\n",
    b"3;x=\"y;z\"\r\nabc\r\n",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"CONNECT b:1 HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 204 No Content\r\n",
];

/// What readers are known to stumble over.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"  ",
    b":",
    b",",
    b";",
    b"+",
    b"-",
    b"_",
    b"0",
    b"x",
    b"\x0B",
    b"\x0C",
    b"\x1F",
    b"\x7F",
    b"\x80",
    b"\x85",
    b"\xA0",
    b"\xFF",
    b"\"",
    b"\\",
    b"%",
    b"%00",
    b"%2F",
    b"#",
    b"@",
    b"/",
    b"?",
    b"*",
    b"..",
    b"[",
    b"]",
    b"{",
    b"|",
    b"^",
    b"`",
    b"<",
    b"=",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"1",
    b"9",
    b"f",
    b"chunked",
];

/// The case of a number, the same each time.
pub(crate) fn case(number: u64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut below = |n: usize| rng.next_u32() as usize % n.max(1);
    let bases = bases();
    let mut case = bases[below(bases.len())].clone();
    if case.kind == Kind::Requests && below(4) == 0 {
        let other = &bases[below(bases.len())];
        if other.kind == case.kind {
            case.bytes.extend_from_slice(&other.bytes);
        }
    }
    for _ in 0..[0, 1, 1, 1, 1, 2, 2, 4][below(8)] {
        mutate(&mut case.bytes, &mut below);
    }
    case.ends ^= below(16) == 0;
    case
}

/// What is mutated: all samples, and all rows that are not large; the refused ones less often.
fn bases() -> &'static [Case] {
    static BASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
    BASES.get_or_init(|| {
        let samples = SAMPLES.iter().map(|it| (it.kind, it.bytes.to_vec(), it.ends, 4));
        let rows = ROWS.iter().flat_map(|row| {
            let weight = |verdict| if matches!(verdict, Verdict::Reads(_)) { 4 } else { 1 };
            let response = row.response.map(|(wire, verdict)| {
                (Kind::Response, wire.bytes(), wire.ends(), weight(verdict))
            });
            let request =
                (Kind::Requests, row.request.bytes(), row.request.ends(), weight(row.verdict));
            [Some(request), response].into_iter().flatten()
        });
        samples
            .chain(rows)
            .filter(|(_, bytes, ..)| bytes.len() < 1_000)
            .flat_map(|(kind, bytes, ends, n)| vec![Case { kind, bytes, ends }; n])
            .collect()
    })
}

fn mutate(bytes: &mut Vec<u8>, below: &mut impl FnMut(usize) -> usize) {
    let at = below(bytes.len() + 1);
    // Where the line begins, and the next one.
    let line = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let next =
        bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| at + end + 1);
    let here = at..bytes.len().min(at + 1);
    let (range, with): (_, &[u8]) = match below(20) {
        0 => (here, WORDS[below(WORDS.len())]),
        1 | 2 => (at..at, WORDS[below(WORDS.len())]),
        3 => (at..bytes.len().min(at + 1 + below(3)), b""),
        4 | 5 => (line..line, LINES[below(LINES.len())]),
        6 => (line..next, LINES[below(LINES.len())]),
        7 => (line..line, &bytes[line..next]),
        8 => (line..next, b""),
        9 if at < bytes.len() => (here, &[bytes[at] ^ 1 << below(8)]),
        10 if at < bytes.len() => (here, &[bytes[at] ^ 0x20]),
        // Mostly legal.
        11..=18 => (at..at, &[b"abcXYZ019-.~"[below(12)]]),
        _ => (at..bytes.len(), b""),
    };
    let with = with.to_vec();
    bytes.splice(range, with);
}
