//! What field values, paths and URLs mean.

use semfio_http::{
    ByteRanges, Condition, EntityTag, FieldsBuf, HttpDate, Located, Method, Piece, Selection, Url, Validators, evaluate,
};
use semfio_machine::UnixTime;

use crate::Choices;

/// A path leads nowhere out of its root, a range never out of its file, a date and a URL are read again as
/// they were written.
pub fn http_values(data: &[u8]) {
    check(data, |path| Located::new(path, true).ok().map(|it| it.as_str().into()));
}

pub(crate) fn check(data: &[u8], locate: impl Fn(&str) -> Option<alloc::string::String>) {
    let choices = &mut Choices::new(data);
    let (choice, total) = (choices.below(5), choices.below(5_000) as u64);
    let rest = choices.bytes(usize::MAX);
    match choice {
        0 => ranges(rest, total),
        1 => {
            let Ok(text) = core::str::from_utf8(rest) else { return };
            let Some(located) = locate(text) else { return };
            // As a file system would go, and as other ones would.
            for part in located.split(['/', '\\']) {
                assert!(part != ".." && part != "." && !part.contains('\0'), "{text:?}: {located:?}");
            }
            assert!(!located.starts_with('/') && !located.contains("//"), "{text:?}: {located:?}");
        }
        2 => url(rest),
        3 => {
            let now = UnixTime::from_nanos(total.saturating_mul(1 << 50));
            if let Some(time) = HttpDate::parse(rest, now) {
                let written = HttpDate::new(time);
                assert_eq!(HttpDate::parse(written.as_bytes(), now), Some(time), "{written}");
            }
            let seconds = now.as_nanos() / 1_000_000_000 * 1_000_000_000;
            let written = HttpDate::new(now);
            let read = HttpDate::parse(written.as_bytes(), now);
            assert_eq!(read, Some(UnixTime::from_nanos(seconds)), "{written}");
        }
        _ => {
            if let Some(tag) = EntityTag::parse(rest) {
                assert!(tag.weak_eq(&tag) && tag.strong_eq(&tag) != tag.weak);
            }
            let names = ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"];
            let mut fields = FieldsBuf::new();
            for (line, name) in rest.split(|&byte| byte == b'\n').zip(names.iter().cycle()).take(8) {
                let _ = fields.push(name, line);
            }
            let now = UnixTime::from_nanos(total << 40);
            let there = Validators { tag: None, modified: Some(UnixTime::from_nanos(total << 39)) };
            for method in [Method::Get, Method::Head, Method::Put] {
                let condition = evaluate(method, &fields.as_fields(), Some(&there), now);
                let reads = method != Method::Put;
                assert!(reads || condition != Condition::NotModified, "{condition:?} to {method}");
                assert!(method == Method::Get || condition != Condition::Proceed { range: true });
            }
        }
    }
}

fn ranges(value: &[u8], total: u64) {
    let Ok(fields) = FieldsBuf::new().with("Range", value) else { return };
    let text = value.escape_ascii();
    match Selection::of(&fields.as_fields(), total) {
        Selection::Whole | Selection::Unsatisfiable => (),
        Selection::One(range) => {
            let end = range.offset.checked_add(range.len);
            assert!(range.len > 0 && end.is_some_and(|end| end <= total), "{range:?} of {text}");
        }
        Selection::Many(ranges) => {
            assert!(ranges.len() > 1 && ranges.len() <= semfio_http::RANGES_LIMIT, "{text}");
            let all: u64 = ranges.iter().map(|range| range.len).sum();
            assert!(all <= total, "no octet is sent twice: {ranges:?} of {text}");
            let parts = ByteRanges::new(ranges, total, "text/plain", 7);
            let mut length = 0;
            let mut n = 0;
            while let Some(piece) = parts.piece(n) {
                length += match piece {
                    Piece::Text(text) => text.len() as u64,
                    Piece::Range(range) => range.len,
                };
                n += 1;
            }
            assert_eq!(length, parts.content_length(), "{text}");
        }
    }
}

fn url(text: &[u8]) {
    let Some(base) = Url::parse("http://a/b/c?d").ok() else { return };
    let parsed = core::str::from_utf8(text).ok().and_then(|text| Url::parse(text).ok());
    for url in [base.join(text).ok(), parsed].into_iter().flatten() {
        let written = alloc::format!("{url}");
        assert_eq!(Url::parse(&written).as_ref(), Ok(&url), "{written}");
        let target = url.target();
        assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()), "{target}");
        let path = target.split('?').next().unwrap_or_default();
        assert!(!path.split('/').any(|part| part == ".." || part == "."), "{target}");
    }
}
