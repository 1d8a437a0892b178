//! Entity tags, dates and the order in which preconditions are judged.

use std::collections::BTreeSet;

use proptest::prelude::*;
use semfio_http::{
    Coded, Coding, Condition, EntityTag, Fields, FieldsBuf, Method, Validators, evaluate,
};
use semfio_machine::{FileKind, Metadata, UnixTime};

/// Sun, 22 Nov 2026 03:00:00 GMT
const NOW: UnixTime = UnixTime::from_secs(1_795_316_400);

const RANGE: Condition = Condition::Proceed { range: true };
const WHOLE: Condition = Condition::Proceed { range: false };
const SAME: Condition = Condition::NotModified;
const FAILED: Condition = Condition::PreconditionFailed;

fn metadata(modified: UnixTime) -> Metadata {
    Metadata { len: 0x10, modified, kind: FileKind::File, stamp: 0xAB }
}

/// Modified on Sun, 06 Nov 1994 08:49:37.5 GMT.
fn current() -> Validators {
    let modified = UnixTime::from_nanos(784_111_777_500_000_000);
    Validators::of(&metadata(modified), Coding::Identity, Coded::Stored, NOW)
}

/// Half a second old.
fn young() -> Validators {
    let modified = UnixTime::from_nanos(NOW.as_nanos() - 500_000_000);
    Validators::of(&metadata(modified), Coding::Identity, Coded::Stored, NOW)
}

const TAG: &str = "\"ab-ae1b981da166f00-10\"";

fn fields(lines: &[(&str, &str)]) -> FieldsBuf {
    let mut fields = FieldsBuf::new();
    for (name, value) in lines {
        fields.push(name, value).unwrap();
    }
    fields
}

fn judge(method: Method<'_>, lines: &[(&str, &str)], current: Option<&Validators>) -> Condition {
    evaluate(method, &fields(lines).as_fields(), current, NOW)
}

#[test]
fn a_tag_is_read_letter_by_letter() {
    for (text, weak, opaque) in [
        ("\"a\"", false, "a"),
        ("W/\"a\"", true, "a"),
        ("\"\"", false, ""),
        ("\"a,b\\c!\"", false, "a,b\\c!"),
        ("\"é\"", false, "é"),
    ] {
        let tag = EntityTag { weak, opaque: opaque.as_bytes() };
        assert_eq!(EntityTag::parse(text.as_bytes()), Some(tag), "{text}");
    }
    for text in ["", "a", "\"a", "a\"", "\"a\"b", "w/\"a\"", "W\"a\"", "W/ \"a\"", "\"a b\"", "'a'"]
    {
        assert_eq!(EntityTag::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(EntityTag::parse(b"\"a\x7F\""), None);
    assert_eq!(EntityTag::parse(b"\"a\x00\""), None);
}

/// RFC 9110, 8.8.3.2, its table.
#[test]
fn tags_are_compared_in_two_ways() {
    for (a, b, strong, weak) in [
        ("W/\"1\"", "W/\"1\"", false, true),
        ("W/\"1\"", "W/\"2\"", false, false),
        ("W/\"1\"", "\"1\"", false, true),
        ("\"1\"", "\"1\"", true, true),
    ] {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let (a, b) = (EntityTag::parse(a).unwrap(), EntityTag::parse(b).unwrap());
        assert_eq!((a.strong_eq(&b), a.weak_eq(&b)), (strong, weak));
        assert_eq!((b.strong_eq(&a), b.weak_eq(&a)), (strong, weak));
    }
}

#[test]
fn only_what_was_left_alone_has_a_strong_tag_and_a_date() {
    let of = |modified, coding, coded| {
        let it = Validators::of(&metadata(UnixTime::from_nanos(modified)), coding, coded, NOW);
        (String::from_utf8(it.tag.unwrap().as_bytes().to_vec()).unwrap(), it.modified.is_some())
    };
    let now = NOW.as_nanos();
    let plain = |modified| of(modified, Coding::Identity, Coded::Stored);
    assert_eq!(plain(784_111_777_500_000_000), (TAG.into(), true));
    assert_eq!(plain(now - 1_000_000_000), ("\"ab-18ea3ec0bdd41600-10\"".into(), true));
    assert_eq!(plain(now - 999_999_999), ("W/\"ab-18ea3ec0bdd41601-10-w\"".into(), false));
    assert_eq!(plain(now), ("W/\"ab-18ea3ec0f96ee000-10-w\"".into(), false));
    assert_eq!(plain(now + 5), ("W/\"ab-18ea3ec0f96ee005-10-w\"".into(), false));
    // Whoever made it did not say when.
    assert_eq!(plain(0), ("\"ab-0-10\"".into(), false));
    assert_eq!(plain(1_000_000_000), ("\"ab-3b9aca00-10\"".into(), false));
    let old = 784_111_777_500_000_000;
    for (coding, coded, right) in [
        (Coding::Gzip, Coded::Stored, "\"ab-ae1b981da166f00-10-gzip\""),
        (Coding::Br, Coded::Stored, "\"ab-ae1b981da166f00-10-br\""),
        (Coding::Zstd, Coded::Stored, "\"ab-ae1b981da166f00-10-zstd\""),
        (Coding::Gzip, Coded::OnTheFly, "W/\"ab-ae1b981da166f00-10-gzip-w\""),
    ] {
        assert_eq!(of(old, coding, coded), (right.into(), true));
    }
}

#[test]
fn every_representation_has_a_tag_of_its_own() {
    let mut tags = BTreeSet::new();
    let mut count = 0;
    for len in [0, 1, 16, u64::MAX] {
        for modified in [0, 1, 16, NOW.as_nanos(), u64::MAX] {
            for stamp in [0, 1, 16, u64::MAX] {
                for coding in [Coding::Identity, Coding::Gzip, Coding::Br, Coding::Zstd] {
                    for coded in [Coded::Stored, Coded::OnTheFly] {
                        let modified = UnixTime::from_nanos(modified);
                        let it = Metadata { len, modified, kind: FileKind::File, stamp };
                        let it = Validators::of(&it, coding, coded, NOW).tag.unwrap();
                        let tag = EntityTag::parse(it.as_bytes()).expect("it is a tag");
                        assert_eq!(tag, it.as_tag());
                        // Those that are weak for either reason are the same tag.
                        let young = modified >= NOW;
                        assert_eq!(tag.weak, young || coded == Coded::OnTheFly);
                        if tag.weak && coded == Coded::Stored {
                            continue;
                        }
                        count += 1;
                        tags.insert(tag.opaque.to_vec());
                    }
                }
            }
        }
    }
    assert_eq!(tags.len(), count);
}

#[test]
fn the_table_of_preconditions() {
    use Method::{Get, Head, Put};
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const AHEAD: &str = "Sun, 22 Nov 2026 03:00:01 GMT";
    let weak = format!("W/{TAG}");
    let listed = format!("\"x\" , {TAG},\t\"y,z\"");
    let weakly_listed = format!(", \"x\",,W/{TAG}");
    let spoiled = format!("{TAG}, x");
    let spoiled_before = format!("x, {TAG}");
    let (im, inm) = ("If-Match", "If-None-Match");
    let (ims, ius, ir) = ("If-Modified-Since", "If-Unmodified-Since", "If-Range");
    type Row<'a> = (&'a [(&'a str, &'a str)], [Condition; 3]);
    let rows: &[Row<'_>] = &[
        // GET, HEAD, PUT
        (&[], [RANGE, WHOLE, WHOLE]),
        (&[(im, TAG)], [RANGE, WHOLE, WHOLE]),
        (&[(im, "*")], [RANGE, WHOLE, WHOLE]),
        (&[(im, &listed)], [RANGE, WHOLE, WHOLE]),
        (&[(im, "\"x\""), (im, TAG)], [RANGE, WHOLE, WHOLE]),
        (&[(im, &weak)], [FAILED; 3]),
        (&[(im, &weakly_listed)], [FAILED; 3]),
        (&[(im, "\"x\"")], [FAILED; 3]),
        (&[(im, "")], [FAILED; 3]),
        (&[(im, "x")], [FAILED; 3]),
        (&[(im, "*, \"x\"")], [FAILED; 3]),
        (&[(im, "*"), (im, TAG)], [FAILED; 3]),
        (&[(im, &spoiled)], [RANGE, WHOLE, WHOLE]),
        (&[(im, &spoiled_before)], [FAILED; 3]),
        (&[(inm, TAG)], [SAME, SAME, FAILED]),
        (&[(inm, &weak)], [SAME, SAME, FAILED]),
        (&[(inm, "*")], [SAME, SAME, FAILED]),
        (&[(inm, &listed)], [SAME, SAME, FAILED]),
        (&[(inm, &weakly_listed)], [SAME, SAME, FAILED]),
        (&[(inm, "\"x\""), (inm, TAG)], [SAME, SAME, FAILED]),
        (&[(inm, "\"x\"")], [RANGE, WHOLE, WHOLE]),
        (&[(inm, "")], [RANGE, WHOLE, WHOLE]),
        (&[(inm, "x")], [RANGE, WHOLE, FAILED]),
        (&[(inm, "*, \"x\"")], [RANGE, WHOLE, FAILED]),
        (&[(inm, "\"x\" \"y\"")], [RANGE, WHOLE, FAILED]),
        (&[(ims, DATE)], [SAME, SAME, WHOLE]),
        (&[(ims, LATER)], [SAME, SAME, WHOLE]),
        (&[(ims, EARLIER)], [RANGE, WHOLE, WHOLE]),
        (&[(ims, AHEAD)], [RANGE, WHOLE, WHOLE]),
        (&[(ims, "Sunday, 06-Nov-94 08:49:37 GMT")], [SAME, SAME, WHOLE]),
        (&[(ims, "Sun Nov  6 08:49:37 1994")], [SAME, SAME, WHOLE]),
        (&[(ims, "Sun, 06 Nov 1994 08:49:37 UTC")], [RANGE, WHOLE, WHOLE]),
        (&[(ims, DATE), (ims, DATE)], [RANGE, WHOLE, WHOLE]),
        (&[(ius, DATE)], [RANGE, WHOLE, WHOLE]),
        (&[(ius, LATER)], [RANGE, WHOLE, WHOLE]),
        (&[(ius, AHEAD)], [RANGE, WHOLE, WHOLE]),
        (&[(ius, EARLIER)], [FAILED; 3]),
        (&[(ius, "yesterday")], [RANGE, WHOLE, WHOLE]),
        (&[(ius, EARLIER), (ius, EARLIER)], [RANGE, WHOLE, WHOLE]),
        // Tags go before dates, If-Match before If-None-Match.
        (&[(im, TAG), (ius, EARLIER)], [RANGE, WHOLE, WHOLE]),
        (&[(im, "\"x\""), (ius, DATE)], [FAILED; 3]),
        (&[(inm, TAG), (ims, EARLIER)], [SAME, SAME, FAILED]),
        (&[(inm, "\"x\""), (ims, DATE)], [RANGE, WHOLE, WHOLE]),
        (&[(inm, "x"), (ims, DATE)], [RANGE, WHOLE, FAILED]),
        (&[(im, "\"x\""), (inm, TAG)], [FAILED; 3]),
        (&[(im, TAG), (inm, TAG)], [SAME, SAME, FAILED]),
        (&[(ius, EARLIER), (inm, TAG)], [FAILED; 3]),
        (&[(ius, EARLIER), (ims, DATE)], [FAILED; 3]),
        (&[(ius, DATE), (ims, DATE)], [SAME, SAME, WHOLE]),
        (&[(im, TAG), (ims, DATE)], [SAME, SAME, WHOLE]),
        // If-Range is looked at last.
        (&[(ir, TAG)], [RANGE, WHOLE, WHOLE]),
        (&[(ir, DATE)], [RANGE, WHOLE, WHOLE]),
        (&[(ir, "Sun Nov  6 08:49:37 1994")], [RANGE, WHOLE, WHOLE]),
        (&[(ir, &weak)], [WHOLE; 3]),
        (&[(ir, "\"x\"")], [WHOLE; 3]),
        (&[(ir, EARLIER)], [WHOLE; 3]),
        (&[(ir, LATER)], [WHOLE; 3]),
        (&[(ir, "x")], [WHOLE; 3]),
        (&[(ir, "*")], [WHOLE; 3]),
        (&[(ir, &listed)], [WHOLE; 3]),
        (&[(ir, TAG), (ir, TAG)], [WHOLE; 3]),
        (&[(ir, TAG), (inm, TAG)], [SAME, SAME, FAILED]),
        (&[(ir, "\"x\""), (im, TAG)], [WHOLE; 3]),
        (&[(ir, "\"x\""), (ims, EARLIER)], [WHOLE; 3]),
    ];
    let current = current();
    for (lines, right) in rows {
        for (method, right) in [Get, Head, Put].into_iter().zip(right) {
            assert_eq!(judge(method, lines, Some(&current)), *right, "{method} {lines:?}");
        }
        for method in [Method::Options, Method::Trace, Method::Connect] {
            assert_eq!(judge(method, lines, Some(&current)), WHOLE, "{method} {lines:?}");
        }
    }
}

#[test]
fn what_is_not_there_and_what_is_young() {
    use Method::{Get, Put};
    const DATE: &str = "Sun, 22 Nov 2026 02:59:59 GMT";
    let none = |method, name, value| judge(method, &[(name, value)], None);
    assert_eq!(none(Put, "If-None-Match", "*"), WHOLE);
    assert_eq!(none(Put, "If-None-Match", TAG), WHOLE);
    assert_eq!(none(Put, "If-Match", "*"), FAILED);
    assert_eq!(none(Put, "If-Match", TAG), FAILED);
    assert_eq!(none(Put, "If-Unmodified-Since", DATE), WHOLE);
    assert_eq!(none(Get, "If-Modified-Since", DATE), RANGE);
    assert_eq!(none(Get, "If-Range", TAG), WHOLE);

    let young = young();
    let tag = std::str::from_utf8(young.tag.as_ref().unwrap().as_bytes()).unwrap().to_owned();
    let now = |method, name, value: &str| judge(method, &[(name, value)], Some(&young));
    assert_eq!(now(Get, "If-None-Match", &tag), SAME);
    assert_eq!(now(Put, "If-Match", &tag), FAILED, "it is weak");
    assert_eq!(now(Get, "If-Range", &tag), WHOLE);
    assert_eq!(now(Get, "If-Range", DATE), WHOLE, "it may be written again in that second");
    assert_eq!(now(Get, "If-Modified-Since", DATE), RANGE);
    assert_eq!(now(Put, "If-Unmodified-Since", DATE), WHOLE);
    // Once it is left alone, what was young is not it.
    let settled = Validators::of(
        &metadata(UnixTime::from_nanos(NOW.as_nanos() - 500_000_000)),
        Coding::Identity,
        Coded::Stored,
        UnixTime::from_secs(NOW.as_secs() + 1),
    );
    assert_eq!(judge(Get, &[("If-None-Match", &tag)], Some(&settled)), RANGE);
}

/// RFC 9110, 13.2.2, as a list of steps that go to others: written apart from the code that is tested,
/// on fields whose meaning is known.
fn model(get: bool, head: bool, it: &Case) -> Condition {
    let mut step = 1;
    loop {
        step = match step {
            1 => match it.if_match {
                Some(true) => 3,
                Some(false) => return FAILED,
                None => 2,
            },
            2 => match it.unmodified_since {
                Some(false) => return FAILED,
                _ => 3,
            },
            3 => match it.if_none_match {
                Some(true) => 5,
                Some(false) if get || head => return SAME,
                Some(false) => return FAILED,
                None => 4,
            },
            4 => match it.modified_since {
                Some(false) if get || head => return SAME,
                _ => 5,
            },
            _ => return Condition::Proceed { range: get && it.if_range != Some(false) },
        }
    }
}

/// What each field says, where it is there.
#[derive(Clone, Debug)]
struct Case {
    if_match: Option<bool>,
    unmodified_since: Option<bool>,
    if_none_match: Option<bool>,
    modified_since: Option<bool>,
    if_range: Option<bool>,
}

/// All 243 combinations for three methods.
#[test]
fn the_order_is_that_of_rfc_9110() {
    const EARLIER: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
    let current = current();
    let all = [None, Some(false), Some(true)];
    for number in 0..243_usize {
        let at = |place: u32| all[number / 3_usize.pow(place) % 3];
        let case = Case {
            if_match: at(0),
            unmodified_since: at(1),
            if_none_match: at(2),
            modified_since: at(3),
            if_range: at(4),
        };
        let mut lines = Vec::new();
        for (name, said, yes, no) in [
            ("If-Range", case.if_range, TAG, "\"x\""),
            ("If-Modified-Since", case.modified_since, EARLIER, LATER),
            ("If-None-Match", case.if_none_match, "\"x\"", TAG),
            ("If-Unmodified-Since", case.unmodified_since, LATER, EARLIER),
            ("If-Match", case.if_match, TAG, "\"x\""),
        ] {
            lines.extend(said.map(|said| (name, if said { yes } else { no })));
        }
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete] {
            let right = model(method == Method::Get, method == Method::Head, &case);
            assert_eq!(judge(method, &lines, Some(&current)), right, "{method} {case:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_value_makes_it_stumble(
        name in prop::sample::select(&["If-Match", "If-None-Match", "If-Range"][..]),
        value in "[Wab/\", *\\\\]{0,30}",
    ) {
        let value = value.trim();
        let got = judge(Method::Get, &[(name, value)], Some(&current()));
        // Nothing of it is our tag.
        prop_assert!(!matches!((name, got), ("If-Range", RANGE)));
        if value != "*" {
            prop_assert!(!matches!((name, got), ("If-None-Match", SAME) | ("If-Match", RANGE)));
        }
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands(
        others in prop::collection::vec("(W/)?\"[!#-~é]{0,4}\"", 0..6),
        blanks in "[ \t]{0,2}",
        at in 0_usize..6,
    ) {
        let mut tags = others.clone();
        tags.insert(at.min(others.len()), TAG.into());
        let with = tags.join(&format!("{blanks},{blanks}"));
        let without = others.join(&format!(",{blanks}"));
        for (list, right) in [(&with, SAME), (&without, RANGE)] {
            let got = judge(Method::Get, &[("If-None-Match", list.trim())], Some(&current()));
            prop_assert_eq!(got, right, "{}", list);
        }
    }
}

#[test]
fn no_fields_no_conditions() {
    let none = Fields::default();
    assert_eq!(evaluate(Method::Get, &none, None, NOW), RANGE);
    assert_eq!(evaluate(Method::Delete, &none, Some(&current()), NOW), WHOLE);
}
