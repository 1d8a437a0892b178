//! Pages that are made here: listings of folders, and what tells a status.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use semfio_http::{Listing, Located, PAGE_POLICY, PageForm, SORT_LIMIT, Status, status_page};
use semfio_machine::{Entry, FileKind, Metadata, UnixTime};
use sha2::{Digest, Sha256};

fn entry(name: &str, kind: FileKind, len: u64, day: u64) -> Entry {
    let modified = UnixTime::from_secs(1_795_316_400 + day * 86_400);
    Entry { name: name.into(), metadata: Metadata { len, modified, kind, stamp: 0 } }
}

fn file(name: &str) -> Entry {
    entry(name, FileKind::File, 1, 0)
}

fn folder(path: &str) -> Located {
    Located::new(path, true).unwrap()
}

fn page(path: &str, form: PageForm, query: Option<&str>, entries: &[Entry]) -> String {
    let mut listing = Listing::new(&folder(path), form, query, false);
    let mut out = String::new();
    assert!(!listing.write(&mut out), "nothing has come yet");
    for batch in entries.chunks(3) {
        listing.take(batch);
        while listing.write(&mut out) {}
    }
    listing.end();
    while listing.write(&mut out) {}
    assert!(!listing.write(&mut out));
    out
}

fn names(query: &str, entries: &[Entry]) -> Vec<String> {
    let page = page("/", PageForm::Plain, Some(query), entries);
    page.lines().map(str::to_owned).collect()
}

#[test]
fn folders_come_first_and_the_rest_as_was_asked() {
    let all = [
        entry("B.txt", FileKind::File, 10, 3),
        entry("a10", FileKind::File, 30, 1),
        entry("a9", FileKind::File, 20, 2),
        entry("old", FileKind::Folder, 4_096, 0),
        entry("New", FileKind::Folder, 10, 5),
        entry("link", FileKind::File, 7, 4),
    ];
    for (query, right) in [
        ("", ["New/", "old/", "a9", "a10", "B.txt", "link"]),
        ("sort=name&order=asc", ["New/", "old/", "a9", "a10", "B.txt", "link"]),
        ("sort=name&order=desc", ["old/", "New/", "link", "B.txt", "a10", "a9"]),
        ("sort=size&order=asc", ["New/", "old/", "link", "B.txt", "a9", "a10"]),
        ("sort=size&order=desc", ["New/", "old/", "a10", "a9", "B.txt", "link"]),
        ("sort=date&order=asc", ["old/", "New/", "a10", "a9", "B.txt", "link"]),
        ("order=desc&x=y&sort=date", ["New/", "old/", "link", "B.txt", "a9", "a10"]),
        ("sort=<script>&order=1", ["New/", "old/", "a9", "a10", "B.txt", "link"]),
    ] {
        assert_eq!(names(query, &all), right, "{query}");
    }
}

#[test]
fn names_are_sorted_as_people_do() {
    let right = ["1", "01", "2", "9.jpg", "10.jpg", "a", "A", "a1b", "a1c", "a02", "É", "ß"];
    let mut right = right.map(str::to_owned).to_vec();
    right.sort_by_key(|name| right_place(name));
    let mut other: Vec<_> = right.iter().map(|name| file(name)).collect();
    other.reverse();
    assert_eq!(names("", &other), right);
}

/// By hand.
fn right_place(name: &str) -> usize {
    ["01", "1", "2", "9.jpg", "10.jpg", "A", "a", "a1b", "a1c", "a02", "ß", "É"]
        .iter()
        .position(|it| *it == name)
        .unwrap()
}

#[test]
fn what_cannot_be_fetched_is_not_listed() {
    let all = [".git", ".x.semfio-00ff.part", "a\\b", "a\nb", "\u{202E}a", "a:b", "-x", "..."];
    let all: Vec<_> = all.map(file).to_vec();
    assert_eq!(names("", &all), ["-x", "a:b"]);
    assert_eq!(names("", &[entry("link", FileKind::Other, 3, 0)]), [""; 0]);
    let mut listing = Listing::new(&folder("/"), PageForm::Plain, None, true);
    listing.take(&all);
    listing.end();
    let mut out = String::new();
    while listing.write(&mut out) {}
    assert_eq!(out, "-x\n...\n.git\na:b\n");
}

#[test]
fn a_page_for_people() {
    let all = [
        entry("a&b <c>.txt", FileKind::File, 1_536, 0),
        entry("dir", FileKind::Folder, 4_096, 0),
        entry("link", FileKind::Other, 3, 0),
    ];
    let html = page("/x/y%20z/", PageForm::Html, None, &all);
    for part in [
        "<!doctype html>\n<html lang=\"en\">",
        "<meta charset=\"utf-8\">",
        "<title>/x/y z/</title>",
        "<a href=\"../../\">/</a><a href=\"../\">x/</a><span aria-current=\"page\">y z/</span>",
        "<tr><td class=\"d\"><a href=\"../\">../</a></td>",
        "<td><a href=\"a%26b%20%3Cc%3E.txt\">a&amp;b &lt;c&gt;.txt</a></td>\
         <td class=\"n\"><data value=\"1536\">1.5 KiB</data></td>\
         <td class=\"n t\"><time>2026-11-22 03:00</time></td>",
        "<td class=\"d\"><a href=\"dir/\">dir/</a></td><td class=\"n\"></td>",
        "<th scope=\"col\" class=\"\" aria-sort=\"ascending\">\
         <a href=\"?sort=name&amp;order=desc\">Name ↑</a></th>",
        "<th scope=\"col\" class=\"n\"><a href=\"?sort=size&amp;order=desc\">Size</a></th>",
        "<p>2 names</p>",
    ] {
        assert!(html.contains(part), "{part}\nis not in\n{html}");
    }
    assert!(!html.contains("<script") && !html.contains("javascript"));
    // The order stays from folder to folder.
    let html = page("/x/", PageForm::Html, Some("sort=size&order=desc"), &all);
    assert!(html.contains("href=\"dir/?sort=size&amp;order=desc\""), "{html}");
    assert!(html.contains("href=\"../?sort=size&amp;order=desc\""), "{html}");
    assert!(html.contains("<a href=\"?sort=size&amp;order=asc\">Size ↓</a>"), "{html}");
    // The root has no folder above it.
    let html = page("/", PageForm::Html, None, &[]);
    assert!(!html.contains("../") && html.contains("Nothing is in here"), "{html}");
}

#[test]
fn a_page_for_programs() {
    let all = [entry("a\"b", FileKind::File, 5, 0), entry("dir", FileKind::Folder, 4_096, 0)];
    assert_eq!(
        page("/x/", PageForm::Json, None, &all),
        "{\"v\":1,\"path\":\"/x/\",\"sorted\":true,\"entries\":[\n\
         {\"name\":\"dir\",\"type\":\"folder\",\"modified\":\"2026-11-22T03:00:00Z\"},\n\
         {\"name\":\"a\\\"b\",\"type\":\"file\",\"size\":5,\"modified\":\"2026-11-22T03:00:00Z\"}\n\
         ]}\n"
    );
    let none = "{\"v\":1,\"path\":\"/\",\"sorted\":true,\"entries\":[\n]}\n";
    assert_eq!(page("/", PageForm::Json, None, &[]), none);
}

#[test]
fn a_folder_of_a_hundred_thousand_names_is_passed_on_in_pieces() {
    let mut listing = Listing::new(&folder("/"), PageForm::Html, Some("sort=size"), false);
    let mut rows = 0;
    let mut out = String::new();
    for batch in 0..100 {
        let entries: Vec<_> =
            (0..1_000).map(|at| file(&format!("{:06}", batch * 1_000 + at))).collect();
        listing.take(&entries);
        while listing.write(&mut out) {
            assert!(out.len() < 17 * 1024);
            rows += out.matches("<td><a ").count();
            assert!(batch * 1_000 >= SORT_LIMIT);
            out.clear();
        }
    }
    assert_eq!(rows, 100_000, "all was written before the end was known");
    listing.end();
    assert!(listing.write(&mut out));
    assert!(out.contains("<p>100000 names</p>") && !listing.write(&mut out));

    let many: Vec<_> = (0..=SORT_LIMIT).map(|at| file(&format!("{at:05}"))).collect();
    let query = Some("order=desc");
    let passed = page("/", PageForm::Html, query, &many);
    assert!(passed.contains("too many to be sorted") && !passed.contains("?sort"));
    let passed = page("/", PageForm::Plain, query, &many);
    assert!(passed.starts_with("00000\n00001\n") && passed.lines().count() == SORT_LIMIT + 1);
    let sorted = page("/", PageForm::Plain, query, &many[1..]);
    assert!(sorted.starts_with("10000\n09999\n") && sorted.lines().count() == SORT_LIMIT);
}

#[test]
fn the_policy_lets_the_style_count_and_nothing_else() {
    for html in [
        page("/", PageForm::Html, None, &[file("a")]),
        status_page(Status::NOT_FOUND, PageForm::Html),
    ] {
        let (_, rest) = html.split_once("<style>").unwrap();
        let (style, rest) = rest.split_once("</style>").unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(style));
        assert!(PAGE_POLICY.contains(&format!("style-src 'sha256-{hash}'")), "{hash}");
        assert!(PAGE_POLICY.starts_with("default-src 'none'; "));
        for way_around in ["<style", "style=", "<script", "<link", "<img", " on", "src=", "@import"]
        {
            assert!(!rest.contains(way_around), "{way_around}");
        }
    }
}

#[test]
fn a_status_is_told_in_each_form() {
    let page = |form| status_page(Status::NOT_FOUND, form);
    assert!(page(PageForm::Html).contains("<title>404 Not Found</title>"));
    assert!(page(PageForm::Html).contains("<h1>404 Not Found</h1>\n<p>There is nothing"));
    assert!(page(PageForm::Plain).starts_with("404 Not Found\nThere is nothing"));
    let json = "{\"v\":1,\"status\":404,\"reason\":\"Not Found\"}\n";
    assert_eq!(page(PageForm::Json), json);
    let unknown = status_page(Status::new(599).unwrap(), PageForm::Html);
    assert!(unknown.contains("<h1>599</h1>\n</main>"), "{unknown}");
}

#[test]
fn sizes_are_told_shortly() {
    for (len, right) in [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (10_239, "9.9 KiB"),
        (10_240, "10 KiB"),
        (1_048_575, "1023 KiB"),
        (1_048_576, "1.0 MiB"),
        (u64::MAX, "15 EiB"),
    ] {
        let html = page("/", PageForm::Html, None, &[entry("a", FileKind::File, len, 0)]);
        assert!(html.contains(&format!("<data value=\"{len}\">{right}</data>")), "{right}: {html}");
    }
}

proptest! {
    #[test]
    fn no_name_means_anything_in_a_page(names in prop::collection::vec("\\PC{1,12}", 0..6)) {
        let entries: Vec<_> = names.iter().map(|name| file(name)).collect();
        let listed = page("/", PageForm::Plain, None, &entries);
        let html = page("/", PageForm::Html, None, &entries);
        let plain = page("/", PageForm::Html, None, &vec![file("a"); listed.lines().count()]);
        // What a browser would take for a tag or a quote is as often there as without the names.
        for mark in ["<", ">", "\"", "'"] {
            prop_assert_eq!(html.matches(mark).count(), plain.matches(mark).count());
        }
        // Each link leads to its name.
        let links = html.split("<td><a href=\"").skip(1);
        for (link, name) in links.zip(listed.lines()) {
            let href = link.split('"').next().unwrap();
            let found = Located::new(&format!("/{href}"), false).unwrap();
            prop_assert_eq!(found.as_str(), name);
            prop_assert!(!href.contains(':'));
        }
    }

    #[test]
    fn sorting_is_an_order(names in prop::collection::btree_set("[aAbB019é.]{1,5}", 0..12)) {
        let all: Vec<_> = names.iter().filter(|it| !it.starts_with('.')).map(|it| file(it)).collect();
        let mut reversed = all.clone();
        reversed.reverse();
        let sorted = page("/", PageForm::Plain, None, &all);
        prop_assert_eq!(&sorted, &page("/", PageForm::Plain, None, &reversed));
        let backward = page("/", PageForm::Plain, Some("order=desc"), &all);
        let forward: Vec<_> = backward.lines().rev().collect();
        prop_assert_eq!(sorted.lines().collect::<Vec<_>>(), forward);
    }
}
