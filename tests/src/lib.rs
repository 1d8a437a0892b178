//! What tests against real peers have in common.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Says on stderr why a test is not run; fails where none may be left out, with `SEMFIO_NO_SKIP=1`.
pub fn skip(why: &str) {
    // Not through the macros: the test harness would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert_ne!(std::env::var("SEMFIO_NO_SKIP").as_deref(), Ok("1"), "a skip: {why}");
}

/// Whether all these programs are there; skips the test otherwise. With `SEMFIO_ALONE=1` none is: as on
/// a machine that has only Rust.
#[must_use]
pub fn installed(programs: &[&str]) -> bool {
    let alone = std::env::var("SEMFIO_ALONE").as_deref() == Ok("1");
    let path = if alone { None } else { std::env::var_os("PATH") }.unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if let Some(program) = missing {
        skip(&format!("{program} is not installed"));
    }
    missing.is_none()
}

/// Set for a test that started itself again in a namespace, to its name.
pub const INSIDE: &str = "SEMFIO_INTEROP_INSIDE";

/// The program under test, built once.
pub fn semfio() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        let profile = exe.ancestors().nth(2).unwrap();
        let program = profile.join("semfio");
        // Started again inside a namespace, it is built already.
        if std::env::var_os(INSIDE).is_none() {
            build(profile);
        }
        assert!(program.is_file(), "{} is not built", program.display());
        program
    })
}

/// Builds the program as the tests were built.
fn build(profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "semfio", "--target-dir"]);
    cargo.arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the program does not build");
}
