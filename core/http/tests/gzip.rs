//! gzip on the fly. Python reads it too, in tests/interop.

use miniz_oxide::inflate::decompress_to_vec;
use proptest::prelude::*;
use semfio_http::Gzip;

/// A reader of the frame (RFC 1952), with a checksum of its own.
fn read(gzip: &[u8]) -> Vec<u8> {
    assert_eq!(&gzip[..4], [0x1F, 0x8B, 8, 0], "deflate, and nothing optional");
    assert_eq!(&gzip[4..9], [0; 5], "no time: the same bytes each time");
    let (deflate, trailer) = gzip[10..].split_at(gzip.len() - 18);
    let body = decompress_to_vec(deflate).unwrap();
    let crc = body.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    assert_eq!(trailer[..4], (!crc).to_le_bytes());
    assert_eq!(trailer[4..], (body.len() as u32).to_le_bytes());
    body
}

/// In pieces of so many bytes, the last of which is used again and again.
fn coded(body: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut gzip = Gzip::new();
    let mut out = Vec::new();
    let mut rest = body;
    let mut pieces = pieces.iter();
    let mut size = body.len().max(1);
    while !rest.is_empty() {
        size = pieces.next().copied().unwrap_or(size).max(1);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        gzip.write(piece, &mut out);
        rest = after;
    }
    gzip.finish(&mut out);
    out
}

/// A text of many different words.
fn text(len: usize) -> Vec<u8> {
    let mut text: Vec<u8> =
        (0_u64..).flat_map(|n| format!("{} ", n * n % 1_009).into_bytes()).take(len).collect();
    text.truncate(len);
    text
}

/// Bytes that cannot be made shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn what_is_coded_is_read_as_it_was() {
    for body in [vec![], vec![b'x'], text(100), text(300_000), vec![0; 1_000_000], noise(200_000)] {
        for pieces in [&[][..], &[1, 7, 100], &[16_384], &[65_536], &[32_768, 1]] {
            assert_eq!(read(&coded(&body, pieces)), body);
        }
    }
}

#[test]
fn a_text_becomes_much_shorter_and_noise_hardly_longer() {
    assert!(coded(&text(1_000_000), &[16_384]).len() < 500_000);
    let len = 1_000_000;
    assert!(coded(&noise(len), &[16_384]).len() < len + 18 + 5 * (len / 30_000));
}

#[test]
fn each_piece_gives_no_more_than_was_put_in() {
    let mut gzip = Gzip::new();
    let (mut put, mut got) = (0, 0);
    for piece in noise(500_000).chunks(4_096) {
        let mut out = Vec::new();
        gzip.write(piece, &mut out);
        put += piece.len();
        got += out.len();
        assert!(got < put + 18 + 5 * (1 + put / 30_000));
        // A block and the window are what waits.
        assert!(put < got + 128 * 1024);
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_body_is_cut(
        body in prop::collection::vec(0_u8..4, 0..2_000),
        pieces in prop::collection::vec(1_usize..500, 0..8),
    ) {
        prop_assert_eq!(read(&coded(&body, &pieces)), body);
    }
}
