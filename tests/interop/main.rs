//! The command line against real peers: the course's own programs for chat and files, nc, ncat, telnet's octets, and
//! plain sockets that misbehave; Python's `cryptography` against our tokens.
//!
//! What is not installed is skipped, with the reason on stderr; with `SEMFIO_NO_SKIP=1` a skip
//! is a failure. The course's programs have port 8000 fixed, so each such test has a network
//! namespace of its own. `SEMFIO_RATES=1000` runs the table of what the course's programs lose
//! by themselves.

mod course;
mod faults;
mod files;
mod lines;
mod namespace;
mod process;
mod rates;
mod relay;
mod secure;
mod tokens;

/// The runtimes of the command line.
const RUNTIMES: [&str; 3] = ["mio", "smol", "blocking"];

/// Says why a test is not run; fails where none may be left out.
fn skip(why: &str) {
    use std::io::Write as _;
    // Not through the macros: the test harness would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert_ne!(std::env::var("SEMFIO_NO_SKIP").as_deref(), Ok("1"), "a skip: {why}");
}

/// Whether all these programs are there; skips the test otherwise.
fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs
        .iter()
        .find(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if let Some(program) = missing {
        skip(&format!("{program} is not installed"));
    }
    missing.is_none()
}
