//! Processes that are spoken to and listened to.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use semfio_tests::semfio;
use serde_json::Value;

/// How long anything may take, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Builds the program before a test starts itself again elsewhere.
pub(crate) fn prepare() {
    semfio();
}

/// What a process has written so far.
#[derive(Clone, Default)]
struct Gathered(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

impl Gathered {
    fn from(mut source: impl Read + Send + 'static) -> Self {
        let gathered = Self::default();
        let copy = gathered.clone();
        thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            loop {
                let n = source.read(&mut buffer).unwrap_or(0);
                let (state, changed) = &*copy.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..n]);
                state.ended = n == 0;
                changed.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        gathered
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    /// Waits until `enough`, or the end; says whether it is enough.
    fn wait(&self, within: Duration, enough: impl Fn(&[u8]) -> bool) -> bool {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let unfinished = |state: &mut Written| !enough(&state.bytes) && !state.ended;
        let (state, _) = changed.wait_timeout_while(state, within, unfinished).unwrap();
        enough(&state.bytes)
    }

    /// Waits for the end; says whether it came.
    fn wait_end(&self) -> bool {
        self.wait(PATIENCE, |_| false);
        self.0.0.lock().unwrap().ended
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Gathered,
    err: Gathered,
}

impl Process {
    pub(crate) fn start(program: impl AsRef<OsStr>, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).env("PYTHONUNBUFFERED", "1").env_remove("USER");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            out: Gathered::from(child.stdout.take().unwrap()),
            err: Gathered::from(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn semfio(args: &[&str]) -> Self {
        Self::start(semfio(), args)
    }

    /// The program under test, as the last words of another's command.
    pub(crate) fn semfio_under(command: &[&str], args: &[&str]) -> Self {
        let rest = [&command[1..], &[semfio().to_str().unwrap()], args].concat();
        Self::start(command[0], &rest)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stdin.as_mut().unwrap().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.bytes()).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.err.bytes()).into_owned()
    }

    /// Waits until stdout is as it should be.
    #[track_caller]
    pub(crate) fn wait_out(&self, what: &str, enough: impl Fn(&str) -> bool) {
        if !self.out.wait(PATIENCE, |bytes| enough(&String::from_utf8_lossy(bytes))) {
            panic!("{what}; stdout: {}\nstderr: {}", tail(&self.out()), tail(&self.err()));
        }
    }

    /// Waits until `text` is in the newest 16 KiB of stdout, which costs little in a long one.
    #[track_caller]
    pub(crate) fn wait_newest(&self, text: &str) {
        let recent = |bytes: &[u8]| {
            let newest = &bytes[bytes.len().saturating_sub(16 * 1024)..];
            String::from_utf8_lossy(newest).contains(text)
        };
        assert!(
            self.out.wait(PATIENCE, recent),
            "waiting for {text:.20}; stdout: {}",
            tail(&self.out())
        );
    }

    /// Waits until stderr is as it should be.
    #[track_caller]
    pub(crate) fn wait_err(&self, what: &str, enough: impl Fn(&str) -> bool) {
        if !self.err.wait(PATIENCE, |bytes| enough(&String::from_utf8_lossy(bytes))) {
            panic!("{what}; stdout: {}\nstderr: {}", tail(&self.out()), tail(&self.err()));
        }
    }

    /// Whether stdout comes to be so within a time that is given.
    pub(crate) fn comes_out(&self, within: Duration, enough: impl Fn(&str) -> bool) -> bool {
        self.out.wait(within, |bytes| enough(&String::from_utf8_lossy(bytes)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and gives its exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        assert!(self.out.wait_end(), "it does not end; stderr: {}", tail(&self.err()));
        self.err.wait_end();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// The processor time it has spent so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // After the name, which may hold anything: utime and stime are fields 14 and 15 of all.
        let fields = stat[stat.rfind(')').unwrap()..].split(' ').skip(12).take(2);
        let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        // Linux shows them as hundredths, whatever it counts in.
        Duration::from_millis(ticks * 10)
    }

    /// The texts a `--json` join was told, with who said them.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        texts(&self.out())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The texts in the records of a `--json` join.
pub(crate) fn texts(records: &str) -> Vec<(String, String)> {
    let whole = records.rfind('\n').map_or("", |end| &records[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["type"] == "entry" && record["what"] == "text")
        .map(|record| {
            let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            (field("nick"), field("text"))
        })
        .collect()
}

/// A chat server on one of the runtimes.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(runtime: &str, listen: &str) -> Self {
        Self::start_with(runtime, listen, &[])
    }

    pub(crate) fn start_with(runtime: &str, listen: &str, more: &[&str]) -> Self {
        let args = [&["--runtime", runtime, "chat", "serve", "--listen", listen], more].concat();
        let process = Process::semfio(&args);
        process.wait_err("the server listens", |err| err.contains("enter with"));
        let err = process.err();
        let from = err.find("listening on ").unwrap() + "listening on ".len();
        let address = err[from..].split(',').next().unwrap().parse().unwrap();
        Self { process, address }
    }

    /// A framed member with records.
    pub(crate) fn join(&self, runtime: &str, nick: &str) -> Process {
        let address = self.address.to_string();
        let args = ["--runtime", runtime, "--json", "chat", "join", &address, "--nick", nick];
        let process = Process::semfio(&args);
        process.wait_out("the member is in", |out| out.contains("\"what\":\"join\""));
        process
    }

    /// Ends it and wants a clean end.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait(), 0, "{}", self.process.err());
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(600);
    let from = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[from..]
}
