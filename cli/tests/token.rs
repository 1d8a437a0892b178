//! `semfio token`: the book's tokens, files of keys, refusals.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;

use crate::peers::{Ended, run};

const KEY: &str = "LGB1jv3qEoE9cCiRMkZXOWZqjMbW0pz_7UbMiKOpgKE=";
const OK: &str = "gAAAAABkPVPKP8B5nwF_AJfSwzPsXnmaOOMMrVOwFb1fuKtq9ptRqa8nx8Cxd6B9rP9KYsSy-7ogANULCr-UZqfSOvokDo06wg==";
const TURMA: &str = "gAAAAABkPWX1esigwwKdI3HirsOQTLUfwzX4fHwd9tia9tzdJ8AH0yTCjdAANNSXcuinKDJv7zieSC8qmHRs6W7uWpNKTLwHohVpOc8qzTeLnGPY3ylkGyw=";

fn token(args: &[&str], input: &str) -> Ended {
    run(&[&["token"], args].concat(), input)
}

#[track_caller]
fn good(args: &[&str], input: &str) -> String {
    let ended = token(args, input);
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    ended.out
}

#[test]
fn the_tokens_of_the_book_open() {
    for (sealed, text, time) in [(OK, "OK", "14:12:26"), (TURMA, "Olá turma de redes", "15:29:57")]
    {
        let ended = token(&["open", "--key", KEY, "--time", "1681747200", sealed], "");
        assert_eq!((ended.code, ended.out), (Some(0), format!("{text}\n")));
        assert!(ended.err.starts_with(&format!("sealed 2023-04-17 {time} UTC, ")), "{}", ended.err);
        assert!(ended.err.contains("ago"), "{}", ended.err);
        // From stdin, as an editor leaves it; and nothing but the text.
        assert_eq!(
            good(&["open", "--key", KEY, "--raw", "--quiet"], &format!(" {sealed}\n")),
            text
        );
    }
    let json = good(&["open", "--json", "--key", KEY, "--time", "1681740806", OK], "");
    assert_eq!(
        json,
        "{\"age\":\"60 s ago\",\"date\":\"2023-04-17 14:12:26 UTC\",\"sealed\":1681740746,\
         \"text\":\"OK\",\"type\":\"text\",\"v\":1}\n"
    );
}

#[test]
fn what_is_sealed_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let path = file.to_str().unwrap();
    let old = good(&["generate"], "");
    assert_eq!(old.len(), 45);
    assert_ne!(old, good(&["generate"], ""));
    fs::write(&file, &old).unwrap();

    let sealed = good(&["seal", "--key-file", path, "--time", "1700000000", "Olá"], "");
    assert_eq!(sealed.len(), 101);
    assert_eq!(good(&["open", "--key-file", path], &sealed), "Olá\n");
    let again = good(&["seal", "--key-file", path, "--time", "1700000000", "Olá"], "");
    assert_ne!(sealed, again, "another IV");

    // A new first key: what it rotated, it opens alone, and the time stays.
    let new = good(&["generate"], "");
    fs::write(&file, format!("{new}{old}")).unwrap();
    assert_eq!(good(&["open", "--key-file", path, sealed.trim()], ""), "Olá\n");
    let rotated = good(&["rotate", "--key-file", path, sealed.trim()], "");
    let ended = token(&["open", "--key", new.trim(), rotated.trim()], "");
    assert_eq!(ended.out, "Olá\n");
    assert!(ended.err.starts_with("sealed 2023-11-14 22:13:20 UTC"), "{}", ended.err);
    assert_eq!(token(&["open", "--key", old.trim(), rotated.trim()], "").code, Some(5));

    // From stdin all of it, also what is no text.
    let sealed = good(&["seal", "--key-file", path], "two\nlines\n");
    assert_eq!(good(&["open", "--key-file", path, "--raw"], &sealed), "two\nlines\n");
}

#[test]
fn a_key_may_stand_in_the_environment() {
    let mut command = crate::peers::semfio(&["token", "open", "-q", OK]);
    let output = command.env("SEMFIO_KEY", KEY).output().unwrap();
    assert_eq!(output.stdout, b"OK\n");
    let mut command = crate::peers::semfio(&["token", "open", "-q", OK]);
    let output = command.env("SEMFIO_KEY", OsStr::from_bytes(b"\xff")).output().unwrap();
    assert!(output.stderr.starts_with(b"semfio: no key in SEMFIO_KEY: "), "{output:?}");
}

#[test]
fn a_refusal_says_why_and_what_helps() {
    let open = |args: &[&str]| token(&[&["open", "--key", KEY], args].concat(), "");
    let flipped = OK.replace("P8B5", "P8B6");
    let unpadded = OK.trim_end_matches('=');
    let glued = [OK, TURMA].concat();
    let other = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    for (args, why, hint) in [
        (&[&*flipped][..], "changed since", "is this the key"),
        (&["hello"], "not a token, from its octet 5 on", "begins with gAAAAA"),
        (&["hAAA"], "version 0x84", "begins with gAAAAA"),
        (&["--ttl", "60", OK], "expired", "without --ttl"),
        (&["--time", "1681740000", OK], "686 s too far in the future", "--policy python accepts"),
        (
            &["--time", "1681740000", "--policy", "python", "--ttl", "9", OK],
            "686 s too far in the future",
            "clock",
        ),
        (&[unpadded], "not a token", "--policy crate accepts"),
        (&[&*glued], "not a token", "is it more than one token? --policy python opens"),
    ] {
        let ended = open(args);
        assert_eq!((ended.code, &*ended.out), (Some(5), ""), "{args:?}: {ended:?}");
        assert!(ended.err.starts_with("semfio: the token is refused: "), "{ended:?}");
        let (said, help) = ended.err.split_once("\nhint: ").unwrap();
        assert!(said.contains(why) && help.contains(hint), "{args:?}: {ended:?}");
    }
    assert_eq!(open(&["--policy", "python", &glued]).out, "OK\n");
    assert_eq!(open(&["--policy", "crate", unpadded]).out, "OK\n");
    assert_eq!(token(&["open", "--key", other, OK], "").code, Some(5));
}

#[test]
fn wrong_keys_are_told_and_not_shown() {
    let mistyped = KEY.replace("LGB1", "LGB!");
    for args in [
        &["open", "--key", &*mistyped, OK][..],
        &["seal", "--key", KEY.trim_end_matches("E="), "text"],
        &["seal", "text"],
        &["rotate", "--key-file", "no/such/file", OK],
        &["open", "--key", KEY, "--policy", "lax", OK],
        &["open", "--key", KEY, "--json", "--raw", OK],
        &["open", "--key", KEY, "--record", "/nowhere/trace", OK],
    ] {
        let ended = token(args, "");
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{args:?}: {ended:?}");
        assert!(!ended.err.contains("EoE9cCiRMkZXO"), "{args:?}: {ended:?}");
    }
}

#[test]
fn files_that_hold_no_keys_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let binary = file("binary", &[0xff, 0, 10]);
    let empty = file("empty", b"\n\n");
    for (path, why) in [
        (&*binary, "semfio: no keys in {}: it is not text\nhint: "),
        (&*empty, "semfio: there is no key in {}\nhint: "),
        ("/dev/zero", "semfio: no keys in {}: it has more than 65536 bytes\nhint: "),
        ("/", "semfio: cannot read {}: Is a directory (os error 21)\n"),
        ("/nowhere", "semfio: cannot read {}: No such file or directory (os error 2)\n"),
    ] {
        let ended = token(&["seal", "--key-file", path, "text"], "");
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
        assert!(ended.err.contains(&why.replace("{}", path)), "{ended:?}");
    }
    // Others may read it: that is said, and goes on.
    let key = file("key", KEY.as_bytes());
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let ended = token(&["seal", "--key-file", &key, "text"], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.err.starts_with("semfio: others may read "), warned, "{ended:?}");
    }
}

#[test]
fn nothing_is_no_token_and_no_time_is_beyond_ours() {
    for given in ["", " \n"] {
        let ended = token(&["open", "--key", KEY], given);
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
        assert!(ended.err.starts_with("semfio: there is no token\nhint: "), "{ended:?}");
    }
    let latest = u64::MAX / 1_000_000_000;
    for (time, code) in [(latest, 0), (latest + 1, 2)] {
        let ended = token(&["seal", "--key", KEY, "--time", &time.to_string(), "x"], "");
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

#[test]
fn no_text_moves_the_cursor() {
    let sealed = good(&["seal", "--key", KEY], "\u{1b}[2J\u{202e}x");
    let shown = good(&["open", "--key", KEY, sealed.trim()], "");
    assert_eq!(shown, "\\u{1b}[2J\\u{202e}x\n");
}
