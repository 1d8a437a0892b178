//! The command line against real peers: the course's own programs for chat and files, nc, ncat, telnet's octets, and
//! plain sockets that misbehave; curl, wget, Python's library and Chromium with `http serve`; Python's
//! `cryptography` against our tokens.
//!
//! What is not installed is skipped, with the reason on stderr; with `SEMFIO_NO_SKIP=1` a skip
//! is a failure. The course's programs have port 8000 fixed, so each such test has a network
//! namespace of its own. `SEMFIO_RATES=1000` runs the table of what the course's programs lose
//! by themselves.

mod course;
mod faults;
mod files;
mod http;
mod http_get;
mod lines;
mod namespace;
mod netcat;
mod pinger;
mod process;
mod rates;
mod relay;
mod secure;
mod tokens;

/// The runtimes of the command line.
const RUNTIMES: [&str; 3] = ["mio", "smol", "blocking"];
