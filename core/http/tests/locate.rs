//! From a target to a file's name.

use proptest::prelude::*;
use semfio_http::{Located, NotLocated, Status};

fn locate(path: &str) -> Result<(String, bool), NotLocated> {
    Located::new(path, false).map(|it| (it.as_str().to_owned(), it.folder))
}

#[test]
fn a_path_is_decoded_once_part_by_part() {
    for (path, name, folder) in [
        ("/", "", true),
        ("/a", "a", false),
        ("/a/", "a", true),
        ("/a/b.txt", "a/b.txt", false),
        ("/%61/b%20c", "a/b c", false),
        ("/%C3%A9", "é", false),
        ("/a%2Bb+c", "a+b+c", false),
        ("/%2541", "%41", false),
        ("/%252e%252e/x", "%2e%2e/x", false),
        ("/-x", "-x", false),
        ("/...", "...", false),
        ("/a..b/c..", "a..b/c..", false),
        // Windows would read these in another way.
        ("/2026-11-22T10:00.log", "2026-11-22T10:00.log", false),
        ("/C:", "C:", false),
        ("/nul.txt", "nul.txt", false),
        ("/aux/con", "aux/con", false),
        ("/end.", "end.", false),
        ("/end%20", "end ", false),
        ("/.well-known/acme-challenge/x", ".well-known/acme-challenge/x", false),
        ("/.well-known/", ".well-known", true),
    ] {
        // Three dots begin with a dot.
        let got = Located::new(path, path == "/...").map(|it| (it.as_str().to_owned(), it.folder));
        assert_eq!(got, Ok((name.to_owned(), folder)), "{path}");
    }
}

#[test]
fn nothing_else_is_a_name() {
    for path in [
        "",
        "a",
        "*",
        "//",
        "///",
        "//a",
        "//evil.example",
        "//evil.example/..",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/./a",
        "/a/.",
        "/a/..",
        "/../a",
        "/a/../b",
        "/../../../../etc/passwd",
        "/%2e%2e/a",
        "/%2E%2E/%2e%2e/etc/passwd",
        "/.%2e/a",
        "/%2e./a",
        "/%2e",
        "/a%2fb",
        "/..%2fa",
        "/%2F",
        "/%2e%2e%2fetc%2fpasswd",
        "/a%5cb",
        "/..%5ca",
        "/..\\a",
        "/%FF",
        "/%C0%AE%C0%AE/a",
        "/%E9",
        "/a%0Ab",
        "/a%1Bb",
        "/a%7F",
        "/%E2%80%AEa",
        "/%E2%80%8B",
        "/.%E2%80%8B.",
        "/.git/config",
        "/.htaccess",
        "/a/.b",
        "/%2egit/config",
        "/a/.well-known/x",
        "/.well-known/.x",
        "/.well-knownx",
    ] {
        assert_eq!(locate(path), Err(NotLocated::Hidden), "{path}");
    }
    for path in ["/%00", "/a%00.txt", "/a%", "/a%2", "/a%zz", "/%+1", "/..%00"] {
        assert_eq!(locate(path), Err(NotLocated::Malformed), "{path}");
    }
    let deep = "/a".repeat(33);
    let long = format!("/{}", "a".repeat(256));
    assert_eq!(locate(&deep), Err(NotLocated::Hidden));
    assert_eq!(locate(&long), Err(NotLocated::Hidden));
    assert_eq!(NotLocated::Hidden.status(), Status::NOT_FOUND);
    assert_eq!(NotLocated::Malformed.status(), Status::BAD_REQUEST);
}

#[test]
fn names_with_a_dot_are_served_if_that_is_wanted() {
    let name = |path: &str| Located::new(path, true).map(|it| it.as_str().to_owned());
    assert_eq!(name("/.git/config"), Ok(".git/config".into()));
    assert_eq!(name("/a/.b"), Ok("a/.b".into()));
    assert_eq!(name("/a/.."), Err(NotLocated::Hidden));
    // A file that is being written is not.
    assert_eq!(name("/.x.semfio-00ff.part"), Err(NotLocated::Hidden));
}

#[test]
fn a_folder_is_led_to_by_a_reference_that_names_no_host() {
    for (path, query, right) in [
        ("/dir", None, "dir/"),
        ("/a/dir", Some("x=1&y=//z"), "dir/?x=1&y=//z"),
        ("/a/dir", Some(""), "dir/?"),
        ("/my%20dir", None, "my%20dir/"),
        ("/%C3%A9", None, "%C3%A9/"),
        ("/http:", None, "http%3A/"),
        ("/a%3Fb%23c%25", None, "a%3Fb%23c%25/"),
        ("/a&b\"'<>", None, "a%26b%22%27%3C%3E/"),
    ] {
        assert_eq!(Located::new(path, false).unwrap().folder_reference(query), right, "{path}");
    }
}

proptest! {
    #[test]
    fn no_path_leads_out(path in "(/|%2[fFeE]|%5[cC]|\\.|a|%00|%|:|\u{200B}|~){0,12}") {
        for dot_names in [false, true] {
            if let Ok(it) = Located::new(&path, dot_names) {
                if let Some(name) = &it.name {
                    prop_assert!(!name.as_str().starts_with('/') && !name.as_str().contains('\\'));
                    prop_assert!(name.parts().all(|part| !matches!(part, "" | "." | "..")));
                    prop_assert_eq!(name.as_str().matches('/').count() + 1 + it.folder as usize,
                        path.matches('/').count());
                } else {
                    prop_assert_eq!(&path, "/");
                }
                let reference = it.folder_reference(None);
                prop_assert!(!reference.starts_with('/') && reference.ends_with('/'));
                prop_assert!(!reference.contains(':') && reference.matches('/').count() == 1);
            }
        }
    }

    #[test]
    fn a_name_that_is_written_into_a_path_is_found(name in "\\PC{1,20}") {
        let mut path = String::from("/");
        for byte in name.bytes() {
            path.push_str(&format!("%{byte:02X}"));
        }
        if let Ok(found) = Located::new(&path, true) {
            prop_assert_eq!(found.as_str(), &name);
            let reference = format!("/{}", found.folder_reference(None));
            prop_assert_eq!(Located::new(&reference, true).unwrap().name, found.name);
        }
    }
}
