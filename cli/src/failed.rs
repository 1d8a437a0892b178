//! How a command fails: what is printed, and the exit code.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::output::escape;

/// A negative result: not found, closed, turned away.
pub(crate) const NEGATIVE: u8 = 1;
/// Wrong use, or a file that cannot be used.
pub(crate) const USAGE: u8 = 2;
/// The network or the system failed.
pub(crate) const NETWORK: u8 = 3;
/// The peer broke the protocol.
pub(crate) const PROTOCOL: u8 = 4;
/// Authentication or decryption was refused.
pub(crate) const LOCKED: u8 = 5;
/// Ended by SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failed {
    code: u8,
    error: anyhow::Error,
    also: Option<String>,
    hint: Option<String>,
}

impl Failed {
    /// `error` says what failed and, in its chain, why.
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into(), also: None, hint: None }
    }

    /// What failed, and why.
    pub(crate) fn because(code: u8, what: impl Display, why: impl Display) -> Self {
        Self::new(code, anyhow::anyhow!("{what}: {why}"))
    }

    /// What it has led to.
    pub(crate) fn also(mut self, also: impl Into<String>) -> Self {
        self.also = Some(also.into());
        self
    }

    /// What could help.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Prints it to stderr, with nothing in it that a terminal obeys, and gives the exit code.
    pub(crate) fn print(self) -> ExitCode {
        let mut stderr = anstream::stderr().lock();
        // Nobody is left to be told of a stderr that is closed.
        let _ = writeln!(stderr, "semfio: {}", escape(&format!("{:#}", self.error)));
        if let Some(also) = &self.also {
            let _ = writeln!(stderr, "semfio: {}", escape(also));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "hint: {}", escape(hint));
        }
        ExitCode::from(self.code)
    }
}
