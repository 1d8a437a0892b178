//! Whatever comes on a connection of HTTP, in either role, however it is cut.

use alloc::vec::Vec;
use semfio_http::Leniency;

use crate::Choices;
use crate::http_reading::{End, Reading, read};
use crate::http_samples::Kind;

/// However it is cut the same is read, and an end completes nothing.
pub fn http_read(data: &[u8]) {
    check(data, read);
}

pub(crate) fn check(
    data: &[u8],
    read: impl Fn(Kind, Leniency, &[u8], bool, &[usize]) -> Reading,
) {
    let choices = &mut Choices::new(data);
    let flags = choices.byte();
    let kind = match flags % 4 {
        0 | 1 => Kind::Requests,
        2 => Kind::Response,
        _ => Kind::ResponseToHead,
    };
    let mut leniency = Leniency::default();
    if flags & 8 != 0 {
        leniency.bare_lf = true;
        leniency.bare_status = true;
        leniency.repeated_length = true;
        leniency.length_beside_coding = true;
        leniency.blank_after_chunk_size = true;
        leniency.empty_host = true;
    }
    let ends = flags & 4 != 0;
    let mut cuts: Vec<usize> = (0..choices.below(4)).map(|_| usize::from(choices.byte())).collect();
    cuts.sort_unstable();
    let wire = choices.bytes(usize::MAX);
    let whole = read(kind, leniency, wire, ends, &[]);
    let text = wire.escape_ascii();
    assert_eq!(whole, read(kind, leniency, wire, ends, &cuts), "cut at {cuts:?}: {text}");
    if wire.len() < 300 {
        let each: Vec<usize> = (0..wire.len()).collect();
        assert_eq!(whole, read(kind, leniency, wire, ends, &each), "cut everywhere: {text}");
    }
    for message in &whole.messages {
        let lines = message.fields.iter().chain(&message.trailers);
        for (name, value) in lines {
            assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic), "{text}");
            assert!(!value.iter().any(|&byte| byte < b' ' && byte != b'\t' || byte == 0x7F), "{text}");
        }
    }
    let ended = read(kind, leniency, wire, true, &[]);
    let framed = whole.begun.iter().flat_map(|begun| &begun.fields).any(|(name, _)| {
        name == b"content-length" || name == b"transfer-encoding"
    });
    if whole.begun.is_some() && (framed || kind == Kind::Requests) {
        assert_eq!(ended.messages.len(), whole.messages.len(), "an end completes: {text}");
        assert!(matches!(ended.end, End::Refuses(_)), "an end is no fault: {text}");
    }
}
