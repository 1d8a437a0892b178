//! Where a passphrase comes from: a file, a prompt, the environment. Never the arguments: others
//! on the machine see those.

use std::env;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use semfio_keysync::Passphrase;
use signal_hook::consts::SIGINT;
use zeroize::Zeroizing;

use crate::failed::{Failed, INTERRUPTED, USAGE};
use crate::output::notice;

/// The longest passphrase in bytes. More is no passphrase but a wrong file.
const MAX_PASSPHRASE: usize = 1024;

/// The variable that has the passphrase itself.
const VARIABLE: &str = "SEMFIO_PASSPHRASE";

#[derive(Debug, clap::Args)]
pub(crate) struct PassphraseArgs {
    /// Enter sealed rooms with the passphrase in the first line of FILE; without it and --passphrase,
    /// SEMFIO_PASSPHRASE may hold one. Nobody without it reads what is said, nor does the server
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Enter sealed rooms with a passphrase that is asked for
    #[arg(long)]
    passphrase: bool,
}

impl PassphraseArgs {
    /// Whether there is a passphrase, and what asks for it.
    pub(crate) fn origin(&self) -> Option<&'static str> {
        match self {
            Self { passphrase_file: Some(_), .. } => Some("--passphrase-file"),
            Self { passphrase: true, .. } => Some("--passphrase"),
            _ => env::var_os(VARIABLE).map(|_| VARIABLE),
        }
    }

    /// Reads it; the prompt waits for a person.
    pub(crate) fn read(&self) -> Result<Option<Passphrase>, Failed> {
        let text = if let Some(path) = &self.passphrase_file {
            from_file(path)?
        } else if self.passphrase {
            Zeroizing::new(prompt().map_err(|error| no_prompt(&error))?.into_bytes())
        } else {
            let Some(text) = env::var_os(VARIABLE) else { return Ok(None) };
            Zeroizing::new(text.into_vec())
        };
        check(&text).map(Some)
    }
}

fn check(text: &[u8]) -> Result<Passphrase, Failed> {
    let refused = |why: &str| Failed::because(USAGE, "the passphrase cannot be used", why);
    if text.is_empty() {
        return Err(refused("it is empty"));
    }
    if text.len() > MAX_PASSPHRASE {
        let hint = "several words that nobody would guess are long enough; is it the right file?";
        return Err(refused(&format!("it has more than {MAX_PASSPHRASE} bytes")).hint(hint));
    }
    Ok(Passphrase::new(text))
}

/// Asks at the terminal. An interruption is an error and does not end the process, which would leave
/// the terminal as it is while nothing is shown.
fn prompt() -> io::Result<String> {
    let survived = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))?;
    let typed = rpassword::prompt_password("passphrase: ");
    signal_hook::low_level::unregister(survived);
    typed
}

fn no_prompt(error: &io::Error) -> Failed {
    if error.kind() == io::ErrorKind::Interrupted {
        return Failed::because(INTERRUPTED, "no passphrase", "interrupted");
    }
    Failed::because(USAGE, "cannot ask for the passphrase", error).hint(format!(
        "without a terminal, use --passphrase-file FILE, or {VARIABLE} in the environment"
    ))
}

/// The first line, and one byte more than it may have if it has that many.
fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let cannot = |error| {
        Failed::because(USAGE, format!("cannot read the passphrase in {}", path.display()), error)
    };
    let mut file = File::open(path).map_err(cannot)?;
    if file.metadata().is_ok_and(|metadata| others_may_read(&metadata)) {
        notice(&format!(
            "semfio: others may read {0}; `chmod 600 {0}` keeps it to you",
            path.display()
        ));
    }
    // All its room at once, so that no copy is left behind when it grows; two for a line end.
    let most = MAX_PASSPHRASE.saturating_add(2);
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    (&mut file).take(most as u64).read_to_end(&mut text).map_err(cannot)?;
    let line = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.truncate(line);
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    Ok(text)
}

/// Whether a regular file has a bit for others to read it.
fn others_may_read(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o044 != 0
}
