//! `semfio file`: what its commands have in common.

mod course;
mod fetch;
pub(crate) mod get;
mod list;
mod pour;
mod put;
pub(crate) mod serve;

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Subcommand;
use indicatif::BinaryBytes;
use semfio_chat::text::is_control;
use semfio_file::wire::ErrorCode;
use semfio_file::{FetchError, Lost, SessionError, Stage};
use semfio_machine::{Failure, Target};
use semfio_path::{Policy, Rule, SafeName};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, LOCKED, NEGATIVE, NETWORK, PROTOCOL};
use crate::signals::{self, Interrupted};

#[derive(Debug, Subcommand)]
pub(crate) enum File {
    /// Serve a folder: to `semfio file get`, and to the course's client
    Serve(serve::Args),
    /// List what a server has
    List(list::Args),
    /// Get files and folders: proved as they come, resumed where they were cut
    Get(get::Args),
    /// Put files and folders: proved as they arrive there, resumed where they were cut
    Put(put::Args),
}

pub(crate) fn run(common: &Common, what: File) -> Result<ExitCode, Failed> {
    match what {
        File::Serve(args) => serve::run(common, &args),
        File::List(args) => list::run(common, args),
        File::Get(args) => get::run(common, args),
        File::Put(args) => put::run(common, args),
    }
}

/// Which names may be typed: whether they are served is the server's to say.
const ANY: Policy = Policy { dot_names: true, hyphen: true };

/// How often a transfer tries to come back, in a row: about a minute and a half.
const RETRIES: u32 = 10;

/// A server of files, as an argument.
fn server(text: &str) -> Result<Target, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!(
            "expected HOST:PORT, for instance 127.0.0.1:8003, without {scheme}://"
        ));
    }
    match text.split_once('/') {
        Some((server, name)) if !server.is_empty() => {
            Err(format!("expected HOST:PORT, and the name apart: {server} {name}"))
        }
        _ => crate::join::target(text),
    }
}

/// A name on a server, as an argument; a folder's may end in a slash.
fn name(text: &str) -> Result<SafeName, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    SafeName::parse(text, ANY).map_err(|error| match error.rule {
        Rule::Absolute => "names begin at the folder that is served, without /".to_owned(),
        Rule::DotPart => "names lead down from the folder that is served, never up".to_owned(),
        _ => error.to_string(),
    })
}

/// Has `stop` called by SIGINT and SIGTERM; what is stopped may change.
#[derive(Clone)]
struct Stopping {
    stop: Arc<Mutex<Box<dyn FnMut() + Send>>>,
    stopped: Arc<AtomicBool>,
    interrupted: Interrupted,
}

impl Stopping {
    fn new() -> Result<Self, Failed> {
        let stop: Arc<Mutex<Box<dyn FnMut() + Send>>> = Arc::new(Mutex::new(Box::new(|| ())));
        let shared = Arc::clone(&stop);
        let stopped = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&stopped);
        let interrupted = signals::catch(move || {
            seen.store(true, Ordering::Relaxed);
            (shared.lock().unwrap_or_else(PoisonError::into_inner))();
        })
        .map_err(|error| Failed::because(NETWORK, "cannot catch signals", error))?;
        Ok(Self { stop, stopped, interrupted })
    }

    fn set(&self, stop: impl FnMut() + Send + 'static) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(stop);
    }

    /// Whether one of the signals has come.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The exit code of what was stopped before its end.
    fn code(&self) -> ExitCode {
        ExitCode::from(if self.interrupted.is_set() { INTERRUPTED } else { NEGATIVE })
    }
}

/// There is no server that could be talked with, or none any more.
fn unreachable(server: &str, lost: Lost) -> Failed {
    match lost {
        Lost::Ended(Some(ErrorCode::Guesses)) => {
            Failed::because(LOCKED, format!("{server} does not let in"), ErrorCode::Guesses)
                .hint("the pause is at most a quarter of an hour; then it hears you again")
        }
        Lost::Failed(Failure::Reset) | Lost::Silent | Lost::Ended(_) => {
            Failed::because(NETWORK, format!("the connection to {server} is lost"), lost)
        }
        Lost::Failed(Failure::NotFound) => {
            Failed::because(NETWORK, format!("cannot connect to {server}"), "no such host")
        }
        Lost::Failed(_) => Failed::because(NETWORK, format!("cannot connect to {server}"), lost)
            .hint("is the server running? `semfio file serve DIR` starts one"),
        Lost::Protocol(SessionError::Passphrase) => {
            let what = format!("{server} does not let in");
            Failed::because(LOCKED, what, "the passphrase is missing or wrong")
                .hint("--passphrase-file FILE has it in its first line; blanks and capitals count")
        }
        Lost::Protocol(SessionError::NoPassphrase) => {
            let what = format!("{server} cannot prove to know the passphrase");
            Failed::because(LOCKED, what, "it has none")
                .hint("it gives files to everybody, in clear: leave out --passphrase-file")
        }
        Lost::Protocol(SessionError::Forged) => {
            Failed::because(LOCKED, format!("the connection to {server} is not safe"), lost)
        }
        Lost::Protocol(error) => {
            let what = format!("{server} does not speak as it should");
            let failed = Failed::because(PROTOCOL, what, lost);
            match error {
                SessionError::BadPreface | SessionError::HelloTimeout => failed.hint(
                    "if it is the course's server, it gives files to `semfio file get --course`, and no \
                     more; if it is another, check the port",
                ),
                SessionError::BadVersion(_) => failed.hint("another version of semfio runs there"),
                _ => failed,
            }
        }
        _ => Failed::because(PROTOCOL, format!("{server} does not speak as it should"), lost),
    }
}

/// Why there is not what was asked for, under a name.
fn not_had(what: &str, server: &str, why: &FetchError) -> Failed {
    let failed = |code| Failed::because(code, what, why);
    match why {
        FetchError::Refused(ErrorCode::Unknown) => {
            failed(NEGATIVE).hint(format!("`semfio file list {server}` tells what there is"))
        }
        FetchError::Refused(ErrorCode::Unavailable) => {
            failed(NETWORK).hint("the server says so of its own disk; it may work later")
        }
        FetchError::Refused(ErrorCode::Changed) | FetchError::Changing => {
            failed(NETWORK).hint("it is being written on the server; try again once that is done")
        }
        FetchError::Refused(_) | FetchError::TooLarge | FetchError::TooMany => failed(NEGATIVE),
        FetchError::NotSaved(stage, failure) => not_saved(what, *stage, *failure),
        FetchError::Name(_) | FetchError::Names(_) => failed(NEGATIVE),
        FetchError::Lost(lost) => unreachable(server, *lost),
        _ => failed(PROTOCOL),
    }
}

/// A step on the own disk failed.
fn not_saved(what: &str, stage: Stage, failure: Failure) -> Failed {
    match (stage, failure) {
        (_, Failure::Exists) => {
            Failed::because(NEGATIVE, what, "there is a file of that name, with other content")
                .hint("--force replaces it; -o saves under another name")
        }
        (Stage::Look, Failure::WrongKind) => {
            Failed::because(NEGATIVE, what, "there is something of that name, and it is no file")
                .hint("only files are replaced; -o saves under another name")
        }
        (_, Failure::Denied) => Failed::because(NETWORK, what, format!("{stage}: {failure}"))
            .hint("the folder must be yours to write in; -o DIR saves into another"),
        (_, Failure::Full) => Failed::because(NETWORK, what, format!("{stage}: {failure}"))
            .hint("make room, and try the same command again"),
        _ => Failed::because(NETWORK, what, format!("{stage}: {failure}")),
    }
}

/// Bytes, for people.
fn size(bytes: u64) -> BinaryBytes {
    BinaryBytes(bytes)
}

/// The command that was typed, so that a shell takes it again.
fn command() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| quote(&word)).collect();
    words.join(" ")
}

/// A word that a shell takes as it is, without anything that a terminal obeys. What is not text
/// needs bash or zsh, or any shell of POSIX.1-2024.
pub(crate) fn quote(word: &OsStr) -> String {
    let text = word.to_str().filter(|text| !text.chars().any(is_control));
    let Some(text) = text else {
        let escaped = word.as_encoded_bytes().iter().map(|&byte| match byte {
            b'\'' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            // Three digits, so that none that follows is taken for one more.
            _ => format!("\\{byte:03o}"),
        });
        return format!("$'{}'", escaped.collect::<String>());
    };
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    /// What a shell makes of it.
    fn said(shell: &str, quoted: &str) -> Vec<u8> {
        let script = format!("printf %s {quoted}");
        std::process::Command::new(shell).args(["-c", &script]).output().unwrap().stdout
    }

    #[test]
    fn a_shell_takes_a_quoted_word_as_it_is() {
        for word in ["", "a b", "it's", "$HOME", "ação.jpg", "127.0.0.1:8003", "*", "~", "a\\b"] {
            assert_eq!(said("sh", &quote(word.as_ref())), word.as_bytes());
        }
    }

    #[test]
    fn what_is_no_text_is_quoted_so_that_it_can_be_shown() {
        let words: [&[u8]; 5] =
            [b"a\nb", b"\x1b[31m'7", b"bad\xff0", "a\u{202E}b".as_bytes(), b"\x01\\"];
        for word in words {
            let quoted = quote(OsStr::from_bytes(word));
            assert!(!quoted.chars().any(is_control), "{quoted}");
            if std::path::Path::new("/bin/bash").exists() {
                assert_eq!(said("/bin/bash", &quoted), word);
            }
        }
    }
}
