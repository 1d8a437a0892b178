//! What every core crate declares, and what its files may not name.

use crate::{assert_none, files};

/// What each `core/*/src/lib.rs` has to say.
const DECLARED: &[&str] = &[
    "#![no_std]",
    "#![forbid(unsafe_code)]",
    "clippy::indexing_slicing",
    "clippy::arithmetic_side_effects",
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::alloc_instead_of_core",
    "clippy::std_instead_of_core",
    "clippy::std_instead_of_alloc",
];

/// What no line of core may name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::", "links std"),
    ("extern crate std", "links std"),
    ("HashMap", "its order is not determined"),
    ("HashSet", "its order is not determined"),
    ("RefCell", "hides a change"),
    ("Mutex", "hides a change"),
    ("Atomic", "hides a change"),
    ("println!", "does I/O"),
    ("print!", "does I/O"),
    ("async fn", "knows a runtime"),
];

fn root_complaints(path: &str, source: &str) -> Vec<String> {
    let code: String = code(source).collect::<Vec<_>>().join("\n");
    let declared = DECLARED.iter().filter(|declared| !code.contains(*declared));
    declared.map(|missing| format!("{path}: {missing} is missing")).collect()
}

fn naming_complaints(path: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in code(source) {
        // This can only be in a macro, for crates that have std: in core it names nothing.
        let line = &line.replace("::std::", "");
        let word = |name: &str| {
            let before = line.find(name).map(|at| line[..at].chars().next_back());
            before.is_some_and(|before| !before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
        };
        for (name, why) in FORBIDDEN {
            if word(name) {
                complaints.push(format!("{path}: {name} {why}: {}", line.trim()));
            }
        }
        if line.trim_start().starts_with("static ") || line.trim_start().starts_with("pub static ")
        {
            complaints.push(format!("{path}: a static: {}", line.trim()));
        }
    }
    complaints
}

/// The lines that are compiled into the library: no comments, and nothing from the tests on, which
/// come last.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let of_tests = |line: &&str| *line == "#[cfg(test)]";
    source
        .lines()
        .take_while(move |line| !of_tests(line))
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn core_sources() -> impl Iterator<Item = (String, String)> {
    // A module of tests in a file of its own is named so.
    files("core")
        .into_iter()
        .filter(|(path, _)| path.contains("/src/") && path.ends_with(".rs"))
        .filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/src/tests/"))
}

#[test]
fn every_core_crate_declares_what_it_must() {
    let roots = core_sources().filter(|(path, _)| path.ends_with("/src/lib.rs"));
    assert_none(roots.flat_map(|(path, source)| root_complaints(&path, &source)).collect());
}

#[test]
fn no_core_source_names_what_it_must_not() {
    let complaints = core_sources().flat_map(|(path, source)| naming_complaints(&path, &source));
    assert_none(complaints.collect());
}

/// Only the hosts' clock may read the time, and say so where the lint forbids it.
#[test]
fn only_the_clock_reads_the_time() {
    let allowed = |path: &str| path == "runtime-os/src/clock.rs";
    let shipped = ["core", "runtime-os", "runtime-mio", "runtime-smol", "cli"];
    let excused = shipped
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|(path, source)| {
            source.contains("clippy::disallowed_methods") && !path.contains("/tests/")
        })
        .map(|(path, _)| path);
    let excused: Vec<_> = excused.collect();
    assert!(excused.iter().any(|path| allowed(path)), "the clock has moved");
    assert_none(excused.into_iter().filter(|path| !allowed(path)).collect());
}

#[test]
fn planted_sources_are_noticed() {
    let whole: String = DECLARED.iter().map(|line| format!("{line}\n")).collect();
    assert_none(root_complaints("whole", &whole));
    for missing in DECLARED {
        let commented = whole.replace(missing, &format!("// {missing}"));
        let cut: String = whole.replace(missing, "");
        assert_eq!(root_complaints("cut", &cut).len(), 1, "{missing}");
        assert!(!root_complaints("commented", &commented).is_empty(), "{missing}");
    }
    for (name, _) in FORBIDDEN {
        let used = format!("fn f() {{\n    {name}x\n}}\n");
        assert_eq!(naming_complaints("used", &used).len(), 1, "{name}");
        let tested = format!("#[cfg(test)]\nmod tests {{\n    {name}x\n}}\n// {name}\n");
        assert_none(naming_complaints("tested", &tested));
    }
    assert_eq!(naming_complaints("static", "static X: u8 = 0;").len(), 1);
    assert_eq!(naming_complaints("path", "core::cell::RefCell::new(0)").len(), 1);
    assert_none(naming_complaints("macro", "::std::env!(\"X\")"));
    assert_none(naming_complaints("no_std", "use no_std::x; let x: &'static str = y;"));
}
