//! What `http get` is asked to fetch, and where it is sent to.

use proptest::prelude::*;
use semfio_http::{URL_LIMIT, Url, UrlError};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_people_write_is_understood() {
    for (text, host, port, authority, target) in [
        ("http://example.org", "example.org", 80, "example.org", "/"),
        ("HTTP://Example.ORG:80/A?b", "example.org", 80, "example.org", "/A?b"),
        ("http://a:8080/x/y?z=1&q=/?#part", "a", 8080, "a:8080", "/x/y?z=1&q=/?"),
        ("http://a:/x", "a", 80, "a", "/x"),
        ("localhost:8080/x", "localhost", 8080, "localhost:8080", "/x"),
        ("//a/x", "a", 80, "a", "/x"),
        ("a", "a", 80, "a", "/"),
        ("a?b=http://c", "a", 80, "a", "/?b=http://c"),
        ("http://a?b", "a", 80, "a", "/?b"),
        ("http://a?", "a", 80, "a", "/?"),
        ("http://a#b", "a", 80, "a", "/"),
        ("http://192.0.2.1/", "192.0.2.1", 80, "192.0.2.1", "/"),
        ("http://[2001:DB8::1]:81/", "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
        ("[::1]/x", "::1", 80, "[::1]", "/x"),
        (" http://a/my file.txt ", "a", 80, "a", "/my%20file.txt"),
        ("http://a/é?ü=ß", "a", 80, "a", "/%C3%A9?%C3%BC=%C3%9F"),
        ("http://a/100%", "a", 80, "a", "/100%25"),
        ("http://a/%2fb%zz%e9", "a", 80, "a", "/%2fb%25zz%e9"),
        ("http://a/<x>\"`{|}^\\", "a", 80, "a", "/%3Cx%3E%22%60%7B%7C%7D%5E%5C"),
        ("http://a/b/../c/./d/..", "a", 80, "a", "/c/"),
        ("http://a//b", "a", 80, "a", "//b"),
    ] {
        let it = url(text);
        let got = (it.host(), it.port(), &*it.authority(), &*it.target());
        assert_eq!(got, (host, port, authority, target), "{text}");
        assert_eq!(it.to_string(), format!("http://{authority}{target}"));
        assert_eq!(url(&it.to_string()), it, "{text}");
    }
}

#[test]
fn what_cannot_be_fetched_is_refused_with_its_reason() {
    for (text, why) in [
        ("", UrlError::Host),
        ("http://", UrlError::Host),
        ("http:///x", UrlError::Host),
        ("https://a/", UrlError::Tls),
        ("HTTPS://a/", UrlError::Tls),
        ("ftp://a/", UrlError::Scheme),
        ("file:///etc/passwd", UrlError::Scheme),
        ("http://user@a/", UrlError::User),
        ("http://user:word@a/", UrlError::User),
        ("http://a.example@b.example/", UrlError::User),
        ("http://a b/", UrlError::Host),
        ("http://ä/", UrlError::Host),
        ("http://a\\b/", UrlError::Host),
        ("http://%61/", UrlError::Host),
        ("http://[::1/", UrlError::Host),
        ("http://[::1]x/", UrlError::Host),
        ("http://[fe80::1%25eth0]/", UrlError::Host),
        ("http://::1/", UrlError::Host),
        ("http://a:0/", UrlError::Port),
        ("http://a:65536/", UrlError::Port),
        ("http://a:+80/", UrlError::Port),
        ("http://a:8 0/", UrlError::Port),
        ("http://a/\r\nX: y", UrlError::Control),
        ("http://a/\tb", UrlError::Control),
        ("http://a/\0", UrlError::Control),
    ] {
        assert_eq!(Url::parse(text), Err(why), "{text}");
    }
    let long = format!("http://a/{}", "x".repeat(URL_LIMIT));
    assert_eq!(Url::parse(&long), Err(UrlError::TooLong));
    // Three times as long once it is encoded.
    let long = format!("http://a/{}", " x".repeat(URL_LIMIT / 3));
    assert_eq!(Url::parse(&long), Err(UrlError::TooLong));
}

/// RFC 3986, 5.4.1 and 5.4.2, without the fragments; `None` where the scheme is another one.
const REFERENCES: &[(&str, Option<&str>)] = &[
    ("g:h", None),
    ("g", Some("http://a/b/c/g")),
    ("./g", Some("http://a/b/c/g")),
    ("g/", Some("http://a/b/c/g/")),
    ("/g", Some("http://a/g")),
    ("//g", Some("http://g/")),
    ("?y", Some("http://a/b/c/d;p?y")),
    ("g?y", Some("http://a/b/c/g?y")),
    ("#s", Some("http://a/b/c/d;p?q")),
    ("g#s", Some("http://a/b/c/g")),
    ("g?y#s", Some("http://a/b/c/g?y")),
    (";x", Some("http://a/b/c/;x")),
    ("g;x", Some("http://a/b/c/g;x")),
    ("g;x?y#s", Some("http://a/b/c/g;x?y")),
    ("", Some("http://a/b/c/d;p?q")),
    (".", Some("http://a/b/c/")),
    ("./", Some("http://a/b/c/")),
    ("..", Some("http://a/b/")),
    ("../", Some("http://a/b/")),
    ("../g", Some("http://a/b/g")),
    ("../..", Some("http://a/")),
    ("../../", Some("http://a/")),
    ("../../g", Some("http://a/g")),
    ("../../../g", Some("http://a/g")),
    ("../../../../g", Some("http://a/g")),
    ("/./g", Some("http://a/g")),
    ("/../g", Some("http://a/g")),
    ("g.", Some("http://a/b/c/g.")),
    (".g", Some("http://a/b/c/.g")),
    ("g..", Some("http://a/b/c/g..")),
    ("..g", Some("http://a/b/c/..g")),
    ("./../g", Some("http://a/b/g")),
    ("./g/.", Some("http://a/b/c/g/")),
    ("g/./h", Some("http://a/b/c/g/h")),
    ("g/../h", Some("http://a/b/c/h")),
    ("g;x=1/./y", Some("http://a/b/c/g;x=1/y")),
    ("g;x=1/../y", Some("http://a/b/c/y")),
    ("g?y/./x", Some("http://a/b/c/g?y/./x")),
    ("g?y/../x", Some("http://a/b/c/g?y/../x")),
    ("g#s/./x", Some("http://a/b/c/g")),
    ("g#s/../x", Some("http://a/b/c/g")),
    ("http:g", None),
];

#[test]
fn references_are_resolved_as_rfc_3986_shows() {
    let base = url("http://a/b/c/d;p?q");
    for (reference, right) in REFERENCES {
        let got = base.join(reference.as_bytes()).map(|it| it.to_string());
        assert_eq!(got.as_deref().ok(), *right, "{reference}");
    }
}

#[test]
fn a_redirect_leads_only_where_we_can_go() {
    let base = url("http://a:81/b?c");
    let join = |reference: &[u8]| base.join(reference).map(|it| it.to_string());
    assert_eq!(join(b"/x"), Ok("http://a:81/x".into()));
    assert_eq!(join(b"http://b"), Ok("http://b/".into()));
    assert_eq!(join(b"d\xE9 f"), Ok("http://a:81/d%E9%20f".into()));
    assert_eq!(join(b"a/b:c"), Ok("http://a:81/a/b:c".into()));
    assert_eq!(join(b"https://a/"), Err(UrlError::Tls));
    assert_eq!(join(b"javascript:alert(1)"), Err(UrlError::Scheme));
    assert_eq!(join(b"http://u@b/"), Err(UrlError::User));
    assert_eq!(join(b"/x\r\nY: z"), Err(UrlError::Control));
    assert_eq!(join(&[b'x'; URL_LIMIT + 1]), Err(UrlError::TooLong));
}

#[test]
fn files_are_saved_only_under_harmless_names() {
    let name = |text: &str| url(text).file_name().map(|it| it.to_string());
    assert_eq!(name("a/b/c.txt?d").as_deref(), Some("c.txt"));
    assert_eq!(name("a/m%C3%A9%20x").as_deref(), Some("mé x"));
    for text in ["a", "a/", "a/b/", "a/.bashrc", "a/%2e%2e", "a/%2e%2e%2fb", "a/b%2fc", "a/b%5Cc"] {
        assert_eq!(name(text), None, "{text}");
    }
    for text in ["a/%00", "a/%1b[m", "a/%FF", "a/nul.txt", "a/c:d"] {
        assert_eq!(name(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn a_url_can_be_sent_as_it_is(text in "(http://)?[a-z:@/?#%.\\[\\] é\\\\]{0,40}") {
        if let Ok(it) = Url::parse(&text) {
            prop_assert!(it.target().starts_with('/'));
            prop_assert!(it.target().bytes().all(|c| c.is_ascii_graphic() && c != b'#'));
            prop_assert!(it.authority().bytes().all(|c| c.is_ascii_graphic()));
            prop_assert!(!it.target().split('?').next().unwrap().split('/').any(|it| it == ".."));
            prop_assert_eq!(Url::parse(&it.to_string()), Ok(it));
        }
    }

    #[test]
    fn nothing_in_a_reference_makes_a_url_that_cannot_be_sent(
        reference in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        if let Ok(it) = url("http://a/b/c").join(&reference) {
            prop_assert!(it.target().bytes().all(|c| c.is_ascii_graphic()));
            prop_assert_eq!(Url::parse(&it.to_string()), Ok(it));
        }
    }
}
