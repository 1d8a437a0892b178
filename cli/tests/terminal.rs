//! A member at a terminal: a pseudoterminal, with a person that types.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::http_get::{ok, scripted};
use crate::peers::{Server, run, semfio};

struct Terminal {
    child: Child,
    keys: File,
    /// The child's end, kept to look at its modes.
    line: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(args: &[&str]) -> Self {
        Self::of(semfio(args))
    }

    /// In a session of its own, whose terminal this is: for what opens `/dev/tty`.
    fn start_session(args: &[&str]) -> Self {
        let semfio = semfio(args);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(semfio.get_program()).args(semfio.get_args());
        command.env_remove("SEMFIO_PASSPHRASE");
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let line = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        let keys = File::from(controller);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = screen.read(&mut buffer) {
                copy.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { child, keys, line, shown }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits for a prompt after which nothing is shown.
    #[track_caller]
    fn asks(&self, prompt: &str) {
        self.shows(prompt);
        while tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        for _ in 0..600 {
            if self.shown().contains(text) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let shown = self.shown();
        panic!("{text:?} is not shown: {:?}", &shown[shown.len().saturating_sub(700)..]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_arrives_does_not_tear_what_is_typed() {
    let server = Server::start(&["-v"]);
    let mut ana = Terminal::start(&["chat", "join", &server.address, "--nick", "ana"]);
    ana.shows("joined lobby");
    ana.press("half ty");
    ana.shows("half ty");
    let bia = run(&["chat", "join", &server.address, "--nick", "bia"], "oi, ana!\n");
    assert_eq!(bia.code, Some(0), "{}", bia.err);
    ana.shows("oi, ana!");
    // After the arriving line the prompt stands again with what was typed.
    let after = |shown: &str| shown.rsplit("oi, ana!").next().unwrap().contains("> half ty");
    for _ in 0..100 {
        if after(&ana.shown()) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(after(&ana.shown()), "{:?}", ana.shown());
    // It names her, so it stands out; and names are coloured.
    assert!(ana.shown().contains("\u{1b}[1m"), "{:?}", ana.shown());
    ana.press("ped\x08\x08\x08ped\r/help\r");
    ana.shows("/nick NAME");
    ana.press("\x04");
    assert_eq!(ana.child.wait().unwrap().code(), Some(0), "{:?}", ana.shown());
    let modes = tcgetattr(&ana.line).unwrap().local_modes;
    assert!(
        modes.contains(LocalModes::ICANON | LocalModes::ECHO),
        "the terminal is left as it was"
    );
    assert!(server.stop(Signal::TERM, 0).contains("<ana> half typed"));
}

#[test]
fn a_server_that_ends_leaves_the_terminal_as_it_was() {
    let server = Server::start(&[]);
    let mut raw = Terminal::start(&["chat", "join", &server.address, "--dialect", "line"]);
    raw.shows("connected");
    raw.press("typed, not sent");
    raw.shows("not sent");
    server.stop(Signal::TERM, 0);
    assert_eq!(raw.child.wait().unwrap().code(), Some(1), "{:?}", raw.shown());
    let modes = tcgetattr(&raw.line).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
}

#[test]
fn control_c_leaves() {
    let server = Server::start(&[]);
    let mut ana = Terminal::start(&["chat", "join", &server.address, "--nick", "ana"]);
    ana.shows("joined lobby");
    ana.press("\x03");
    assert_eq!(ana.child.wait().unwrap().code(), Some(130), "{:?}", ana.shown());
    drop(server);
}

#[test]
fn a_passphrase_is_asked_for_and_not_shown() {
    let server = Server::start(&[]);
    let args = ["chat", "join", &server.address, "--nick", "ana", "--passphrase"];
    let mut ana = Terminal::start_session(&args);
    ana.asks("passphrase: ");
    ana.press("abacate\r");
    ana.shows("joined lobby");
    ana.shows("you opened lobby");
    assert!(!ana.shown().contains("abacate"), "{:?}", ana.shown());
    ana.press("\x04");
    assert_eq!(ana.child.wait().unwrap().code(), Some(0), "{:?}", ana.shown());
    // However it ends, the terminal shows again what is typed.
    for (code, said) in [(130, ""), (143, ""), (2, "no passphrase: nothing was typed")] {
        let mut bia = Terminal::start_session(&args);
        bia.asks("passphrase: ");
        match code {
            130 => bia.press("aba\x03"),
            143 => kill_process(Pid::from_child(&bia.child), Signal::TERM).unwrap(),
            _ => bia.press("\x04"),
        }
        assert_eq!(bia.child.wait().unwrap().code(), Some(code), "{:?}", bia.shown());
        bia.shows(said);
        let modes = tcgetattr(&bia.line).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{:?}", bia.shown());
    }
    drop(server);
}

#[test]
fn how_far_a_file_is_shows_and_the_line_is_clear_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let served = folder.path().join("served");
    std::fs::create_dir(&served).unwrap();
    File::create(served.join("big")).unwrap().set_len(512 << 20).unwrap();
    let server = Server::files(&[], &served);
    let into = folder.path().to_str().unwrap();
    let get = ["file", "get", &server.address, "big", "-o", into];
    let mut terminal = Terminal::start(&get);
    terminal.shows("/512.00 MiB verified");
    kill_process(Pid::from_child(&terminal.child), Signal::INT).unwrap();
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    terminal.shows("go on with: ");
    assert!(terminal.shown().contains("what came is kept in "), "{}", terminal.shown());
    let mut terminal = Terminal::start(&get);
    terminal.shows("are there, and right");
    terminal.shows("big: 512.00 MiB, whole: ");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    // Nothing of the bar stays.
    let shown = terminal.shown();
    let last = shown.rsplit("\u{1b}[2K").next().unwrap();
    assert!(last.starts_with("big: 512.00 MiB, whole: "), "{last:?}");
    // Off a terminal there is none.
    let again = run(&["file", "get", &server.address, "big", "-fo", into], "");
    assert_eq!(again.err, "big: 512.00 MiB, there already\n");
}

#[test]
fn round_trips_are_bars_and_the_line_is_clear_in_the_end() {
    if !crate::ping::may_ping() {
        return;
    }
    // A slow one would have a colour.
    let ping = ["--color", "never", "ping", "-c", "20", "-i", "0.01", "127.0.0.1"];
    let mut terminal = Terminal::start(&ping);
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    terminal.shows("rtt min/avg/max/mdev = ");
    let shown = terminal.shown();
    assert!(shown.contains(" 19 answered, 0 lost\r\u{1b}[K64 bytes from 127.0.0.1"), "{shown:?}");
    // All lines of the end are whole: nothing of the bars is left in them.
    let (_, end) = shown.rsplit_once('\u{1b}').unwrap();
    assert!(end.starts_with("[K\r\n--- 127.0.0.1 ping statistics ---\r\n"), "{end:?}");
    let bars = |line: &&str| line.chars().filter(|bar| ('▁'..='█').contains(bar)).count() == 20;
    assert!(end.lines().any(|line| bars(&line)), "{end:?}");
}

/// What comes from the web is shown as text, and what is none is not; by name of stdout all is.
#[test]
fn a_page_moves_no_terminal() {
    let page = "olá\u{1b}[2J\u{9b}m\nfim\n";
    let server = scripted([&*ok("X: \u{9b}\r\n", page), &ok("", "a\0b"), &ok("", "a\0b")]);
    let url = server.url("/");
    let mut shown = Terminal::start(&["http", "get", "-i", &url]);
    shown.shows("X: \\u{9b}");
    shown.shows("olá\\u{1b}[2J\\u{9b}m\r\nfim\r\n");
    assert_eq!(shown.child.wait().unwrap().code(), Some(0), "{:?}", shown.shown());
    assert!(!shown.shown().contains("\u{1b}[2J"), "{:?}", shown.shown());
    let mut refused = Terminal::start(&["http", "get", &url]);
    refused.shows("it is no text");
    assert_eq!(refused.child.wait().unwrap().code(), Some(2), "{:?}", refused.shown());
    assert!(!refused.shown().contains('\0'), "{:?}", refused.shown());
    let mut forced = Terminal::start(&["http", "get", "-o", "-", &url]);
    forced.shows("a\0b");
    assert_eq!(forced.child.wait().unwrap().code(), Some(0), "{:?}", forced.shown());
    server.end();
}
