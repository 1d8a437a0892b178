//! A server and its members as processes.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// The runtimes of the command line.
pub(crate) const RUNTIMES: [&str; 3] = ["mio", "smol", "blocking"];

pub(crate) fn semfio(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semfio"));
    command.args(args);
    for name in [
        "USER",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "COLUMNS",
        "SEMFIO_RUNTIME",
        "SEMFIO_KEY",
        "SEMFIO_PASSPHRASE",
    ] {
        command.env_remove(name);
    }
    command
}

/// What came of a command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command with this input to its end.
pub(crate) fn run(args: &[&str], input: &str) -> Ended {
    let mut command = semfio(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // One that has ended reads no more.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    err: BufReader<ChildStderr>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// With more arguments of `serve`; what it says before it listens is left out.
    pub(crate) fn start_with(args: &[&str], more: &[&str]) -> Self {
        let mut command = semfio(args);
        command.args(["chat", "serve", "--listen", "127.0.0.1:0"]).args(more);
        Self::spawn(command)
    }

    /// A server of files.
    pub(crate) fn files(args: &[&str], folder: &Path) -> Self {
        Self::files_with(args, folder, "127.0.0.1:0", &[])
    }

    /// One that listens where another did, with more arguments of `serve`.
    pub(crate) fn files_with(args: &[&str], folder: &Path, address: &str, more: &[&str]) -> Self {
        let mut command = semfio(args);
        command.args(["file", "serve", "--listen", address]).args(more).arg(folder);
        Self::spawn(command)
    }

    /// One that takes files, too.
    pub(crate) fn writable(args: &[&str], folder: &Path, address: &str) -> Self {
        Self::files_with(args, folder, address, &["--writable"])
    }

    /// One that takes files from who knows the passphrase in this file.
    pub(crate) fn locked(args: &[&str], folder: &Path, passphrase: &str) -> Self {
        let more = ["--writable", "--passphrase-file", passphrase];
        Self::files_with(args, folder, "127.0.0.1:0", &more)
    }

    /// One that takes so many GiB.
    pub(crate) fn quota(folder: &Path, gib: &str) -> Self {
        Self::files_with(&[], folder, "127.0.0.1:0", &["--writable", "--quota", gib])
    }

    /// One that speaks HTTP; the arguments end with its name.
    pub(crate) fn http(args: &[&str]) -> Self {
        let mut command = semfio(args);
        command.args(["--listen", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while err.read_line(&mut line).unwrap() > 0 && line.starts_with("WARNING") {
            line.clear();
        }
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split_once(','));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).0.to_owned();
        Self { child, err, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a service manager would, and gives what it said on stderr.
    pub(crate) fn stop(self, signal: Signal, code: i32) -> String {
        self.signal(signal);
        self.end(code)
    }

    /// Waits until it has ended, and gives what it said on stderr.
    pub(crate) fn end(mut self, code: i32) -> String {
        let mut rest = String::new();
        self.err.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{rest}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
