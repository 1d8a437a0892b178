//! What a client would rather have, and what a file is by its name.

use proptest::prelude::*;
use semfio_http::{Coding, FieldsBuf, MediaType, PageForm};

use Coding::{Br, Gzip, Identity, Zstd};

const ALL: [Coding; 4] = [Zstd, Br, Gzip, Identity];

fn fields(name: &str, lines: &[&str]) -> FieldsBuf {
    let mut fields = FieldsBuf::new();
    for line in lines {
        fields.push(name, line).unwrap();
    }
    fields
}

fn coding(lines: &[&str], available: &[Coding]) -> Option<Coding> {
    Coding::negotiate(&fields("Accept-Encoding", lines).as_fields(), available)
}

fn form(accept: &[&str]) -> PageForm {
    PageForm::negotiate(&fields("Accept", accept).as_fields())
}

#[test]
fn the_coding_with_the_greatest_weight_is_sent() {
    for (value, right) in [
        ("", Some(Identity)),
        ("gzip", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("GZip", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Zstd)),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", Some(Br)),
        ("gzip;q=0.9, br;q=0.8", Some(Gzip)),
        ("gzip ; q=0.5 , br ; Q=0.501", Some(Br)),
        ("gzip;q=0.001", Some(Gzip)),
        ("gzip;q=0", Some(Identity)),
        ("gzip;q=0.000, br;q=0", Some(Identity)),
        ("*", Some(Zstd)),
        ("*;q=0.5, zstd;q=0", Some(Br)),
        ("*;q=0", None),
        ("*;q=0, gzip", Some(Gzip)),
        ("*;q=0, identity", Some(Identity)),
        ("identity", Some(Identity)),
        ("identity;q=0", None),
        ("identity;q=0, gzip", Some(Gzip)),
        ("identity;q=0, *;q=0", None),
        ("identity, gzip;q=0.5", Some(Identity)),
        ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
        ("deflate", Some(Identity)),
        ("gzip;q=0, gzip", Some(Identity)),
        // What is malformed counts for nothing.
        ("gzip;q=2", Some(Identity)),
        ("gzip;q=1.001", Some(Identity)),
        ("gzip;q=0.1234", Some(Identity)),
        ("gzip;q=", Some(Identity)),
        ("gzip;q=-1", Some(Identity)),
        ("gzip;q=.5", Some(Identity)),
        ("gzip;q=0,5", Some(Identity)),
        ("gzip br", Some(Identity)),
        ("gzip;q=x, br", Some(Br)),
        (",,gzip,", Some(Gzip)),
        ("gzip;q=1.", Some(Gzip)),
        ("identity;q=x", Some(Identity)),
    ] {
        assert_eq!(coding(&[value], &ALL), right, "{value}");
    }
    assert_eq!(coding(&[], &ALL), Some(Identity), "who does not ask");
    assert_eq!(coding(&["gzip", "br;q=0.5"], &ALL), Some(Gzip), "several lines are one");
    assert_eq!(coding(&["br;q=0.5", "gzip"], &ALL), Some(Gzip));
}

#[test]
fn only_what_there_is_is_sent() {
    assert_eq!(coding(&["gzip, br"], &[Gzip, Identity]), Some(Gzip));
    assert_eq!(coding(&["br"], &[Gzip, Identity]), Some(Identity));
    assert_eq!(coding(&["gzip, br"], &[Identity]), Some(Identity));
    assert_eq!(coding(&["gzip, identity;q=0"], &[Identity]), None);
    assert_eq!(coding(&["gzip, br"], &[Gzip, Br, Identity]), Some(Gzip), "the server's order");
    assert_eq!(coding(&["gzip"], &[]), None);
}

#[test]
fn names_and_suffixes() {
    let all = ALL.map(|it| (it.as_str(), it.suffix()));
    assert_eq!(all, [("zstd", ".zst"), ("br", ".br"), ("gzip", ".gz"), ("identity", "")]);
}

#[test]
fn the_form_of_a_page() {
    use PageForm::{Html, Json, Plain};
    for (accept, right) in [
        ("*/*", Html),
        ("", Html),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Html),
        ("application/json", Json),
        ("APPLICATION/JSON", Json),
        ("application/json, text/plain, */*", Json),
        ("text/plain", Plain),
        ("text/*", Html),
        ("text/*, text/html;q=0", Plain),
        ("text/*;q=0.5, application/json;q=0.4", Html),
        ("text/html;q=0.5, text/plain;q=0.7", Plain),
        ("text/html;q=0.2, */*;q=0.1, application/*", Json),
        ("*/*;q=0.1, text/plain;q=0.2", Plain),
        ("application/json; charset=\"a,b;q=0\"; q=0.9, text/html;q=0.8", Json),
        ("text/plain;format=flowed", Plain),
        // None of them is taken.
        ("image/png", Html),
        ("*/*;q=0", Html),
        // What is malformed counts for nothing.
        ("text/plain;q=9, application/json;q=0.1", Json),
        ("text plain, application/json", Json),
        ("*", Html),
        ("*/json, text/plain", Plain),
        ("text/plain;a=\"unended, application/json", Plain),
    ] {
        assert_eq!(form(&[accept]), right, "{accept}");
    }
    assert_eq!(form(&[]), Html);
    assert_eq!(form(&["text/html;q=0.5", "text/plain"]), Plain);
    assert_eq!(Html.content_type(), "text/html; charset=utf-8");
    assert_eq!(Json.content_type(), "application/json");
    assert_eq!(Plain.content_type(), "text/plain; charset=utf-8");
}

#[test]
fn what_a_file_is_by_its_name() {
    for (name, right) in [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTM", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.min.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.tar.gz", "application/gzip"),
        ("photo.JPeG", "image/jpeg"),
        ("a.woff2", "font/woff2"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("main.rs", "text/plain; charset=utf-8"),
        ("a.3gp", "video/3gpp"),
        ("a.xsl", "text/xml; charset=utf-8"),
        ("a.zst", "application/zstd"),
        ("a.webmanifest", "application/manifest+json"),
    ] {
        assert_eq!(MediaType::of(name).text, right, "{name}");
    }
    for name in ["", "html", "a.", ".html", "a.htmlx", "a.h tml", "a.é", "a.HTML5", "a.html/b", "."]
    {
        assert_eq!(MediaType::of(name), MediaType::UNKNOWN, "{name}");
    }
    assert_eq!(MediaType::UNKNOWN.text, "application/octet-stream");
    for (name, right) in [("a.html", true), ("a.svg", true), ("a.png", false), ("a.gz", false)] {
        assert_eq!(MediaType::of(name).compressible, right, "{name}");
    }
    assert_eq!(MediaType::of(&format!("a.{}", "x".repeat(10_000))), MediaType::UNKNOWN);
}

proptest! {
    #[test]
    fn no_value_makes_it_stumble(value in "[a-z*/;=q01.,\"\\\\ ]{0,40}") {
        let value = value.trim();
        form(&[value]);
        // Codings that are not named are never sent.
        if let Some(sent) = coding(&[value], &ALL) {
            let named = value.contains(sent.as_str()) || value.contains('*');
            prop_assert!(sent == Identity || named);
        }
    }

    #[test]
    fn weights_decide(weights in prop::collection::vec(0_u16..=1_000, 4)) {
        let weight = |at: usize| match weights[at] {
            1_000 => "1".into(),
            less => format!("0.{less:03}"),
        };
        let list: Vec<_> =
            (0..4).map(|at| format!("{};q={}", ALL[at].as_str(), weight(at))).collect();
        let best = (0..4).rev().max_by_key(|at| weights[*at]).filter(|at| weights[*at] > 0);
        prop_assert_eq!(coding(&[&list.join(",")], &ALL), best.map(|at| ALL[at]));
    }

    #[test]
    fn capitals_do_not_count(name in "[a-z]{1,3}\\.[a-z0-9]{1,8}") {
        prop_assert_eq!(MediaType::of(&name), MediaType::of(&name.to_uppercase()));
    }
}
