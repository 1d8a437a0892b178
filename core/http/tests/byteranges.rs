//! Several ranges in one response, read back. Python's reader does so too, in tests/interop.

use proptest::prelude::*;
use semfio_http::{ByteRange, ByteRanges, FieldsBuf, Piece, Selection};

/// All octets of the response.
fn written(parts: &ByteRanges, representation: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0.. {
        match parts.piece(n) {
            Some(Piece::Text(text)) => out.extend_from_slice(text.as_bytes()),
            Some(Piece::Range(range)) => {
                let from = range.offset as usize;
                out.extend_from_slice(&representation[from..from + range.len as usize]);
            }
            None => break,
        }
    }
    assert_eq!(parts.content_length(), out.len() as u64);
    out
}

/// A reader that goes by the boundary alone (RFC 2046, 5.1.1): type, range and octets of each part.
fn by_boundary(content_type: &str, body: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    // The first one may stand at the very beginning.
    let mut rest = [b"\r\n", body].concat();
    let mut parts = Vec::new();
    let at = |rest: &[u8]| {
        rest.windows(delimiter.len()).position(|it| it == delimiter.as_bytes()).unwrap()
    };
    assert_eq!(at(&rest), 0);
    loop {
        rest.drain(..delimiter.len());
        if rest.starts_with(b"--") {
            assert_eq!(rest, b"--\r\n");
            return parts;
        }
        assert!(rest.starts_with(b"\r\n"));
        let part: Vec<u8> = rest.drain(..at(&rest)).skip(2).collect();
        let end = part.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&part[..end]).unwrap();
        let field = |name: &str| {
            let line = head.split("\r\n").find_map(|line| line.strip_prefix(name)).unwrap();
            line.strip_prefix(": ").unwrap().to_owned()
        };
        parts.push((field("Content-Type"), field("Content-Range"), part[end + 4..].to_vec()));
    }
}

/// A reader that goes by the lengths alone, and takes any line of hyphens for a boundary.
fn by_length(body: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = body;
    let mut parts = Vec::new();
    loop {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let end = rest.windows(2).position(|it| it == b"\r\n").unwrap();
        if rest[..end].ends_with(b"--") {
            return parts;
        }
        let end = rest.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let (_, range) = head.split_once("Content-Range: bytes ").unwrap();
        let (range, _) = range.split_once('/').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let len = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        parts.push(rest[end + 4..end + 4 + len].to_vec());
        rest = &rest[end + 4 + len..];
    }
}

#[test]
fn the_example_of_the_rfc() {
    let ranges = vec![ByteRange { offset: 500, len: 500 }, ByteRange { offset: 7_000, len: 1_000 }];
    let parts = ByteRanges::new(ranges, 8_000, "application/pdf", 0xF00);
    let boundary = "00000000000000000000000000000f00";
    assert_eq!(parts.content_type(), format!("multipart/byteranges; boundary={boundary}"));
    let head = |first, range: &str| {
        let end = if first { "" } else { "\r\n" };
        let text = format!("{end}--{boundary}\r\nContent-Type: application/pdf\r\n");
        Some(Piece::Text(format!("{text}Content-Range: bytes {range}/8000\r\n\r\n")))
    };
    assert_eq!(parts.piece(0), head(true, "500-999"));
    assert_eq!(parts.piece(1), Some(Piece::Range(ByteRange { offset: 500, len: 500 })));
    assert_eq!(parts.piece(2), head(false, "7000-7999"));
    assert_eq!(parts.piece(3), Some(Piece::Range(ByteRange { offset: 7_000, len: 1_000 })));
    assert_eq!(parts.piece(4), Some(Piece::Text(format!("\r\n--{boundary}--\r\n"))));
    assert_eq!(parts.piece(5), None);
    assert_eq!(parts.piece(usize::MAX), None);
}

proptest! {
    #[test]
    fn both_kinds_of_reader_find_the_octets(
        // Much of it looks like a boundary.
        representation in prop::collection::vec(prop::sample::select(&b"\r\n-0a"[..]), 2_000),
        firsts in prop::collection::vec((0_u64..2_000, 1_u64..60), 2..12),
        random in any::<u128>(),
    ) {
        let specs: Vec<_> =
            firsts.iter().map(|(first, len)| format!("{first}-{}", first + len)).collect();
        let range = format!("bytes={}", specs.join(","));
        let fields = FieldsBuf::new().with("Range", range).unwrap();
        let Selection::Many(ranges) = Selection::of(&fields.as_fields(), 2_000) else {
            return Ok(());
        };
        let octets = |it: &ByteRange| &representation[it.offset as usize..][..it.len as usize];
        let parts = ByteRanges::new(ranges.clone(), 2_000, "text/plain", random);
        let body = written(&parts, &representation);
        let found = by_boundary(&parts.content_type(), &body);
        prop_assert_eq!(found.len(), ranges.len());
        for (range, (media_type, content_range, content)) in ranges.iter().zip(found) {
            prop_assert_eq!(media_type, "text/plain");
            prop_assert_eq!(content_range, range.content_range(2_000));
            prop_assert_eq!(content, octets(range));
        }
        let right: Vec<_> = ranges.iter().map(|it| octets(it).to_vec()).collect();
        prop_assert_eq!(by_length(&body), right);
    }
}

#[test]
fn the_boundary_does_not_matter_to_who_goes_by_the_lengths() {
    let boundary = "000000000000000000000000000000aa";
    let representation = format!("\r\n--{boundary}--\r\n").repeat(10).into_bytes();
    let ranges = vec![ByteRange { offset: 0, len: 150 }, ByteRange { offset: 300, len: 60 }];
    let parts = ByteRanges::new(ranges, representation.len() as u64, "text/plain", 0xAA);
    let body = written(&parts, &representation);
    assert_eq!(by_length(&body), [&representation[..150], &representation[300..360]]);
}
