//! Where a passphrase comes from: a file, a prompt, the environment. Never the arguments: others
//! on the machine see those.

use std::env;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use semfio_file::Secret;
use semfio_keysync::Passphrase;
use semfio_runtime_os::seed;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use crate::failed::{Failed, INTERRUPTED, NETWORK, USAGE};
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
    pub(crate) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
        let (text, place) = if let Some(path) = &self.passphrase_file {
            (from_file(path)?, format!(" in {}", path.display()))
        } else if self.passphrase {
            let typed = prompt().map_err(|error| no_prompt(&error))?;
            (Zeroizing::new(typed.into_bytes()), String::new())
        } else {
            let Some(text) = env::var_os(VARIABLE) else { return Ok(None) };
            (first_line(Zeroizing::new(text.into_vec())), format!(" in {VARIABLE}"))
        };
        check(&text, &place)?;
        Ok(Some(text))
    }
}

/// Where the passphrase of a transfer comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// Prove to each other that both know the passphrase in the first line of FILE, and seal all that
    /// is sent; who does not know it learns no name and no size
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl TransferArgs {
    pub(crate) fn is_given(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// Reads it. What is sealed is not recorded yet.
    pub(crate) fn secret(&self, record: Option<&Path>) -> Result<Option<Secret>, Failed> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        if record.is_some() {
            let why = "with a passphrase, the trace could not be replayed without it";
            return Err(Failed::because(USAGE, "cannot record", why)
                .hint("leave out --record, or --passphrase-file"));
        }
        let text = from_file(path)?;
        check(&text, &format!(" in {}", path.display()))?;
        let seed = seed::draw().map_err(|error| Failed::new(NETWORK, error))?;
        Ok(Some(Secret::new(Passphrase::new(&text), seed)))
    }
}

fn check(text: &[u8], place: &str) -> Result<(), Failed> {
    let what = format!("the passphrase{place} cannot be used");
    let refused = |why: &str| Failed::because(USAGE, &what, why);
    if text.is_empty() {
        return Err(refused("it is empty").hint("its first line counts"));
    }
    if text.len() > MAX_PASSPHRASE {
        let hint = "several words that nobody would guess are long enough; is it the right file?";
        return Err(refused(&format!("it has more than {MAX_PASSPHRASE} bytes")).hint(hint));
    }
    Ok(())
}

/// Asks at the terminal. What is typed is not shown meanwhile; a signal that ends the process makes
/// the terminal again what it was. (Not SIGHUP, which would be lost afterwards: after it there is
/// no terminal.)
fn prompt() -> io::Result<String> {
    let before = File::open("/dev/tty").and_then(|tty| Ok((tcgetattr(&tty)?, tty)));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let ended = signals.handle();
    let watch = thread::Builder::new().name("semfio-prompt".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            if let Ok((modes, tty)) = before {
                let _ = tcsetattr(tty, OptionalActions::Now, &modes);
            }
            std::process::exit(128 + signal);
        }
    })?;
    let typed = rpassword::prompt_password("passphrase: ");
    ended.close();
    let _ = watch.join();
    typed
}

fn no_prompt(error: &io::Error) -> Failed {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Failed::because(USAGE, "no passphrase", "nothing was typed");
    }
    if error.kind() == io::ErrorKind::Interrupted {
        return Failed::because(INTERRUPTED, "no passphrase", "interrupted");
    }
    Failed::because(USAGE, "cannot ask for the passphrase", error).hint(format!(
        "without a terminal, use --passphrase-file FILE, or {VARIABLE} in the environment"
    ))
}

/// The first line, as far as it is too long. No more is read: it may be stdin, where texts follow.
fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let cannot = |error| {
        Failed::because(USAGE, format!("cannot read the passphrase in {}", path.display()), error)
    };
    let mut file = File::open(path).map_err(cannot)?;
    warn_of_readers(&file, path);
    // All its room at once, so that no copy is left behind when it grows; two for a line end.
    let most = MAX_PASSPHRASE.saturating_add(2);
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    while text.len() < most && text.last() != Some(&b'\n') {
        let before = text.len();
        (&mut file).take(1).read_to_end(&mut text).map_err(cannot)?;
        if text.len() == before {
            break;
        }
    }
    Ok(first_line(text))
}

/// Without its end and what follows, which an editor and a service's settings leave.
fn first_line(mut text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let line = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.truncate(line);
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    text
}

/// Says that a file which should be secret is not.
pub(crate) fn warn_of_readers(file: &File, path: &Path) {
    if file.metadata().is_ok_and(|metadata| others_may_read(&metadata)) {
        notice(&format!(
            "semfio: others may read {0}; `chmod 600 {0}` keeps it to you",
            path.display()
        ));
    }
}

/// Whether a regular file has a bit for others to read it.
fn others_may_read(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o044 != 0
}
