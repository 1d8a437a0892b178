//! What tests against real peers have in common.

use std::io::Write as _;

/// Says on stderr why a test is not run; fails where none may be left out, with `SEMFIO_NO_SKIP=1`.
pub fn skip(why: &str) {
    // Not through the macros: the test harness would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert_ne!(std::env::var("SEMFIO_NO_SKIP").as_deref(), Ok("1"), "a skip: {why}");
}

/// Whether all these programs are there; skips the test otherwise.
#[must_use]
pub fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if let Some(program) = missing {
        skip(&format!("{program} is not installed"));
    }
    missing.is_none()
}
