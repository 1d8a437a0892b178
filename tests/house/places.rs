//! What stays out of the repository: paths of a machine, other registries.

use crate::{assert_none, files, top};

/// Folders of one machine. Written in parts, so that this file does not name them.
const MACHINE: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/tm", "p/")];

/// Where every locked package comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn path_complaints(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| MACHINE.iter().any(|folder| names(line, folder)))
        .map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim()))
        .collect()
}

/// Whether `folder` begins a path in `line`: `docs/home/x` is no path of a machine.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}$)".contains(c))
    })
}

fn source_complaints(path: &str, text: &str) -> Vec<String> {
    let elsewhere = text.lines().filter(|line| match line.split_once('=') {
        Some((key, value)) if path.ends_with("Cargo.lock") => {
            key.trim() == "source" && value.trim().trim_matches('"') != REGISTRY
        }
        Some((key, _)) if path.ends_with(".toml") => {
            let key = key.trim();
            ["replace-with", "registry", "registry-index", "index", "git"].contains(&key)
                || line.contains(" registry = ") | line.contains(" git = ")
        }
        _ => false,
    });
    elsewhere.map(|line| format!("{path}: {}", line.trim())).collect()
}

#[test]
fn no_file_names_a_machine() {
    let files = files("");
    assert_none(files.iter().flat_map(|(path, text)| path_complaints(path, text)).collect());
}

#[test]
fn every_package_comes_from_the_one_registry() {
    assert!(top().join("Cargo.lock").exists());
    let files = files("");
    assert_none(files.iter().flat_map(|(path, text)| source_complaints(path, text)).collect());
}

#[test]
fn planted_places_are_noticed() {
    for folder in MACHINE {
        assert_eq!(path_complaints("x", &format!("cd {folder}main")).len(), 1);
        assert_eq!(path_complaints("x", &format!("\"{folder}x\"")).len(), 1);
        assert_none(path_complaints("x", &format!("docs{folder}x")));
    }
    let lock = |source: &str| source_complaints("Cargo.lock", &format!("source = \"{source}\""));
    assert_none(lock(REGISTRY));
    assert_eq!(lock("registry+https://registry.example/index").len(), 1);
    assert_eq!(lock("git+https://example.org/x").len(), 1);
    for line in ["replace-with = \"x\"", "x = { version = \"1\", registry = \"y\" }", "git = \"x\""]
    {
        assert_eq!(source_complaints(".cargo/config.toml", line).len(), 1, "{line}");
    }
}
