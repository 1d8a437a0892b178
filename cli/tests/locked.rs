//! Files where both sides know a passphrase.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::peers::{Ended, RUNTIMES, Server, run};

/// A folder that is served, one to save in, and two passphrases.
fn folders() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["there", "here"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for (file, passphrase) in [("right", "areia e mar\n"), ("wrong", "areia e Mar\n")] {
        let path = dir.path().join(file);
        fs::write(&path, passphrase).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + at / 65_536) as u8).collect()
}

#[test]
fn who_knows_the_passphrase_puts_lists_and_gets() {
    let content = pattern(3_000_000);
    for runtime in RUNTIMES {
        let dir = folders();
        let (right, here) = (dir.path().join("right"), dir.path().join("here"));
        let own = dir.path().join("iguana.bin");
        fs::write(&own, &content).unwrap();
        let before = ["--runtime", runtime];
        let server = Server::locked(&before, &dir.path().join("there"), text(&right));
        let told = |verb: &str, args: &[&str]| -> Ended {
            let with = ["file", verb, "--passphrase-file", text(&right), &server.address];
            let ended = run(&[&before[..], &with, args].concat(), "");
            assert_eq!(ended.code, Some(0), "{runtime} {verb}: {}", ended.err);
            ended
        };
        told("put", &[text(&own)]);
        assert!(fs::read(dir.path().join("there/iguana.bin")).unwrap() == content);
        assert!(told("list", &[]).out.contains("iguana.bin"));
        told("get", &["iguana.bin", "--jobs", "4", "-o", &format!("{}/", text(&here))]);
        assert!(fs::read(here.join("iguana.bin")).unwrap() == content);
    }
}

#[test]
fn who_does_not_is_locked_out_with_exit_code_5() {
    let dir = folders();
    let [right, wrong, there] = ["right", "wrong", "there"].map(|name| dir.path().join(name));
    fs::write(there.join("a"), "secret").unwrap();
    let out = dir.path().join("here/a");
    let server = Server::locked(&[], &there, text(&right));
    let open = Server::writable(&[], &there, "127.0.0.1:0");
    let cases: [(&str, &[&str], &str); 3] = [
        (&server.address, &["--passphrase-file", text(&wrong)], "blanks and capitals count"),
        (&server.address, &[], "--passphrase-file FILE has it"),
        (&open.address, &["--passphrase-file", text(&right)], "leave out --passphrase-file"),
    ];
    for (address, with, hint) in cases {
        let get = [&["file", "get", address, "a", "-o", text(&out)], with].concat();
        let list = [&["file", "list", address], with].concat();
        let put = [&["file", "put", address, text(&right)], with].concat();
        for args in [get, list, put] {
            let ended = run(&args, "");
            assert_eq!(ended.code, Some(5), "{args:?}: {}", ended.err);
            assert!(ended.err.contains(hint), "{args:?}: {}", ended.err);
            assert_eq!(ended.out, "");
        }
    }
    assert!(!out.exists() && !there.join("right").exists());
    let course = run(&["file", "get", "--course", &server.address, "a", "-o", text(&out)], "");
    assert_ne!(course.code, Some(0));
    assert!(!out.exists());
}

#[test]
fn what_is_sealed_is_not_recorded() {
    let dir = folders();
    let [right, trace] = ["right", "trace"].map(|name| dir.path().join(name));
    let with = ["--record", text(&trace), "--passphrase-file", text(&right)];
    let ended = run(&[&["file", "list", "127.0.0.1:1"], &with[..]].concat(), "");
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(!trace.exists());
}
