//! Dates in fields.

use proptest::prelude::*;
use semfio_http::HttpDate;
use semfio_machine::UnixTime;

/// 2026-11-22T03:00:00Z
const NOW: u64 = 1_795_316_400;

fn parse(text: &str) -> Option<u64> {
    parse_at(text, NOW)
}

fn parse_at(text: &str, now: u64) -> Option<u64> {
    HttpDate::parse(text.as_bytes(), UnixTime::from_secs(now)).map(UnixTime::as_secs)
}

#[test]
fn the_three_forms_are_read() {
    for (text, right) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun Nov 06 08:49:37 1994", 784_111_777),
        ("Wed Nov 16 08:49:37 1994", 784_975_777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
        ("Sat, 01 Jan 0000 00:00:00 GMT", 0),
        ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Fri, 31 Dec 9999 23:59:59 GMT", u64::MAX / 1_000_000_000),
        // The day is another one: the date counts.
        ("Mon, 06 Nov 1994 08:49:37 GMT", 784_111_777),
    ] {
        assert_eq!(parse(text), Some(right), "{text}");
    }
}

#[test]
fn what_only_looks_like_a_date_is_none() {
    for text in [
        "",
        "0",
        "-1",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 ",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT;",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994  08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 01994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Wed, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2026 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  16 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov  6 08:49:37 94",
        "Xyz, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
    assert_eq!(HttpDate::parse(&[0xFF; 29], UnixTime::from_secs(NOW)), None);
}

#[test]
fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
    let year = |text: &str| {
        let at = HttpDate::parse(text.as_bytes(), UnixTime::from_secs(NOW)).unwrap();
        at.civil().year
    };
    assert_eq!(year("Sunday, 06-Nov-26 08:49:37 GMT"), 2026);
    assert_eq!(year("Sunday, 06-Nov-75 08:49:37 GMT"), 2075);
    assert_eq!(year("Sunday, 06-Nov-76 08:49:37 GMT"), 2076);
    // Fifty years from now it is 22 November 2076, 3:00.
    assert_eq!(year("Sunday, 22-Nov-76 03:00:00 GMT"), 2076);
    assert_eq!(year("Sunday, 22-Nov-76 03:00:01 GMT"), 1976);
    assert_eq!(year("Sunday, 06-Nov-77 08:49:37 GMT"), 1977);
    assert_eq!(year("Sunday, 06-Nov-99 08:49:37 GMT"), 1999);
    // 29 February, and 50 years later there is none.
    let leap = 1_582_934_400;
    assert_eq!(parse_at("Friday, 28-Feb-70 00:00:00 GMT", leap), Some(3_160_771_200));
    assert_eq!(parse_at("Friday, 01-Mar-70 00:00:00 GMT", leap), Some(5_097_600));
}

#[test]
fn a_date_is_written_in_the_first_form() {
    for (secs, right) in [
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_825_600, "Tue, 29 Feb 2000 12:00:00 GMT"),
        (NOW, "Sun, 22 Nov 2026 03:00:00 GMT"),
        (u64::MAX, "Sun, 21 Jul 2554 23:34:33 GMT"),
    ] {
        let date = HttpDate::new(UnixTime::from_secs(secs));
        assert_eq!(date.as_str(), right);
        assert_eq!(date.as_bytes(), right.as_bytes());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(nanos in any::<u64>(), now in any::<u64>()) {
        let at = UnixTime::from_nanos(nanos);
        let text = HttpDate::new(at);
        let read = HttpDate::parse(text.as_bytes(), UnixTime::from_nanos(now));
        prop_assert_eq!(read.map(UnixTime::as_secs), Some(at.as_secs()));
    }

    #[test]
    fn all_forms_of_a_date_are_one(
        // Until 2381; whoever reads it lives at most 50 years before or after.
        secs in 0_u64..13_000_000_000, apart in -1_577_000_000_i64..1_577_000_000,
    ) {
        let at = UnixTime::from_secs(secs);
        let now = secs.saturating_add_signed(apart);
        let text = HttpDate::new(at).to_string();
        let it = at.civil();
        let day = ["Sun", "Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur"][it.weekday as usize];
        let month = &text[8..11];
        let time = &text[17..25];
        let short = it.year % 100;
        let rfc850 = format!("{day}day, {:02}-{month}-{short:02} {time} GMT", it.day);
        let asctime = format!("{} {month} {:2} {time} {:04}", &text[..3], it.day, it.year);
        prop_assert_eq!(parse_at(&rfc850, now), Some(secs), "{}", rfc850);
        prop_assert_eq!(parse_at(&asctime, now), Some(secs), "{}", asctime);
    }

    #[test]
    fn no_octets_make_it_stumble(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = HttpDate::parse(&value, UnixTime::from_secs(NOW));
    }
}
