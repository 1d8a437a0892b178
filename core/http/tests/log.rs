//! Lines of an access log, also of those who try to write lines of their own.

use std::time::Duration;

use proptest::prelude::*;
use semfio_http::{LOGGED_LIMIT, LogForm, LogLine, Status, Version};
use semfio_machine::UnixTime;

fn line() -> LogLine<'static> {
    LogLine {
        peer: Some([192, 0, 2, 7].into()),
        at: UnixTime::from_nanos(1_795_316_400_123_456_789),
        method: "GET",
        target: b"/a%20b?c=1",
        version: Version::Http11,
        authority: "example.org:8080",
        status: Status::OK,
        sent: 2_326,
        referer: Some(b"http://example.org/"),
        agent: Some(b"Mozilla/5.0 (X11)"),
        took: Duration::from_micros(1_234),
    }
}

fn written(line: &LogLine<'_>, form: LogForm) -> String {
    let mut text = String::new();
    line.write(form, &mut text);
    text
}

#[test]
fn the_three_forms() {
    let common = "192.0.2.7 - - [22/Nov/2026:03:00:00 +0000] \"GET /a%20b?c=1 HTTP/1.1\" 200 2326";
    assert_eq!(written(&line(), LogForm::Common), format!("{common}\n"));
    assert_eq!(
        written(&line(), LogForm::Combined),
        format!("{common} \"http://example.org/\" \"Mozilla/5.0 (X11)\"\n")
    );
    assert_eq!(
        written(&line(), LogForm::Json),
        "{\"v\":1,\"type\":\"access\",\"at\":\"2026-11-22T03:00:00.123Z\",\"peer\":\"192.0.2.7\",\
         \"method\":\"GET\",\"target\":\"/a%20b?c=1\",\"version\":\"HTTP/1.1\",\
         \"host\":\"example.org:8080\",\"status\":200,\"sent\":2326,\
         \"referer\":\"http://example.org/\",\"agent\":\"Mozilla/5.0 (X11)\",\"took_us\":1234}\n"
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let line = LogLine {
        peer: None,
        method: "",
        status: Status::BAD_REQUEST,
        sent: 0,
        referer: None,
        agent: None,
        ..line()
    };
    assert_eq!(
        written(&line, LogForm::Combined),
        "- - - [22/Nov/2026:03:00:00 +0000] \"-\" 400 0 \"-\" \"-\"\n"
    );
    assert_eq!(
        written(&line, LogForm::Json),
        "{\"v\":1,\"type\":\"access\",\"at\":\"2026-11-22T03:00:00.123Z\",\"status\":400,\
         \"sent\":0,\"took_us\":1234}\n"
    );
}

#[test]
fn nobody_writes_a_line_or_a_field_of_their_own() {
    let line = LogLine {
        target: b"/\" 200 1\n",
        referer: Some(b"\" \"\x1B[31m\\"),
        agent: Some("a\r\n\u{202E}é\u{9B}\u{2028}\u{7F}".as_bytes()),
        ..line()
    };
    assert_eq!(
        written(&line, LogForm::Combined),
        "192.0.2.7 - - [22/Nov/2026:03:00:00 +0000] \"GET /\\x22 200 1\\x0A HTTP/1.1\" 200 2326 \
         \"\\x22 \\x22\\x1B[31m\\x5C\" \
         \"a\\x0D\\x0A\\xE2\\x80\\xAE\\xC3\\xA9\\xC2\\x9B\\xE2\\x80\\xA8\\x7F\"\n"
    );
    let json = written(&line, LogForm::Json);
    assert!(json.contains("\"target\":\"/\\\" 200 1\\u000a\""), "{json}");
    assert!(json.contains("\"referer\":\"\\\" \\\"\\u001b[31m\\\\\""), "{json}");
    let agent = "\"agent\":\"a\\u000d\\u000a\\u202eé\\u009b\\u2028\\u007f\"";
    assert!(json.contains(agent), "{json}");
    let other = LogLine { agent: Some(b"\xFFa\xC3"), ..line };
    assert!(written(&other, LogForm::Json).contains("\"agent\":\"\\\\xFFa\\\\xC3\""));
}

#[test]
fn a_line_has_an_end() {
    let long = vec![0; 60_000];
    let line = LogLine { target: &long, referer: Some(&long), agent: Some(&long), ..line() };
    for form in [LogForm::Common, LogForm::Combined, LogForm::Json] {
        assert!(written(&line, form).len() < 3 * LOGGED_LIMIT * 6 + 400);
    }
}

proptest! {
    #[test]
    fn all_that_a_peer_sends_stays_in_its_quotes(
        target in prop::collection::vec(any::<u8>(), 0..40),
        referer in prop::collection::vec(any::<u8>(), 0..40),
        agent in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let line = LogLine { target: &target, referer: Some(&referer), agent: Some(&agent), ..line() };
        let text = written(&line, LogForm::Combined);
        prop_assert!(text.ends_with('\n'));
        prop_assert!(text.trim_end_matches('\n').bytes().all(|c| (b' '..=b'~').contains(&c)));
        prop_assert_eq!(text.matches('"').count(), 6);
        let json = written(&line, LogForm::Json);
        prop_assert_eq!(json.matches('\n').count(), 1);
        prop_assert!(!json.trim_end_matches('\n').chars().any(char::is_control));
        // Quotes that are not escaped stand in pairs: 13 members, 9 of them text.
        let mut quotes = 0;
        let mut escaped = false;
        for c in json.chars() {
            quotes += usize::from(c == '"' && !escaped);
            escaped = c == '\\' && !escaped;
        }
        prop_assert_eq!(quotes, 2 * (13 + 9), "{}", json);
    }
}
