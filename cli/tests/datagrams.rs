//! `--record` and `replay` of what goes in datagrams.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::peers::{Ended, RUNTIMES, run, semfio};

/// A server that is told to end, so that its trace has an end.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    /// One that says on its first line where it listens, on the output that this is told on.
    fn start(args: &[&str], on_stderr: bool) -> (Self, BufReader<Box<dyn Read + Send>>) {
        let mut command = semfio(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut line = String::new();
        let (told, mut other): (Box<dyn Read + Send>, Box<dyn Read + Send>) = match on_stderr {
            true => (Box::new(err), Box::new(out)),
            false => (Box::new(out), Box::new(err)),
        };
        std::thread::spawn(move || other.read_to_end(&mut Vec::new()));
        let mut told = BufReader::new(told);
        told.read_line(&mut line).unwrap();
        let at = line.find("127.0.0.1:").unwrap_or_else(|| panic!("{line:?}"));
        let ends = |c: char| !c.is_ascii_digit() && c != '.' && c != ':';
        let address = line[at..].split(ends).next().unwrap().to_owned();
        let first = std::io::Cursor::new(line.into_bytes());
        (Self { child, address }, BufReader::new(Box::new(first.chain(told))))
    }

    fn end(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replay(args: &[&str], trace: &Path) -> Ended {
    run(&[args, &["replay", trace.to_str().unwrap()]].concat(), "")
}

/// What becomes of a trace in which the digit before `mark` is another one, and of one that ends there.
fn spoilt(trace: &Path, mark: &str) -> [Ended; 2] {
    let whole = std::fs::read_to_string(trace).unwrap();
    let at = whole.rfind(mark).unwrap_or_else(|| panic!("no {mark}")) - 1;
    let mut changed = whole.clone().into_bytes();
    changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
    let (planted, cut) = (trace.with_extension("planted"), trace.with_extension("cut"));
    std::fs::write(&planted, changed).unwrap();
    std::fs::write(&cut, &whole[..at]).unwrap();
    [replay(&[], &planted), replay(&[], &cut)]
}

#[test]
fn both_sides_of_a_udp_ping_are_recorded_and_print_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in RUNTIMES {
        let (ours, theirs) = (folder.path().join("client"), folder.path().join("server"));
        let serve = [
            &["--json", "--runtime", runtime, "--record", theirs.to_str().unwrap()][..],
            &["udp-ping", "serve", "--listen", "127.0.0.1:0", "--loss", "0.3", "--seed", "7"],
        ];
        let (server, mut told) = Serving::start(&serve.concat(), false);
        let mut ping = vec!["--runtime", runtime, "--record", ours.to_str().unwrap(), "udp-ping"];
        ping.extend([server.address.as_str(), "-c", "12", "-W", "0.2"]);
        let pinged = run(&ping, "");
        assert_eq!(pinged.code, Some(0), "{pinged:?}");
        assert!(pinged.out.contains("PING 1 ") && pinged.out.contains("12 sent, "), "{pinged:?}");
        assert_eq!(server.end(), Some(0));
        let mut served = String::new();
        told.read_to_string(&mut served).unwrap();
        assert!(served.lines().count() > 12 && served.contains("dropped"), "{served}");

        let again = replay(&[], &ours);
        assert_eq!((again.code, &again.out), (Some(0), &pinged.out), "{runtime}");
        assert!(again.err.starts_with("agrees: "), "{}", again.err);
        let again = replay(&["--json"], &theirs);
        assert_eq!((again.code, &again.out), (Some(0), &served), "{runtime}");
        // Told in the other way, a run is the same run.
        let again = replay(&["--json"], &ours);
        assert!(again.out.lines().count() >= 12 + 2, "{}", again.out);
        let [planted, cut] = spoilt(&ours, ",\"clock\":\"Kernel\",\"len\":");
        assert_eq!(planted.code, Some(1), "{planted:?}");
        assert!(planted.err.contains("diverges at event"), "{planted:?}");
        assert_eq!(cut.code, Some(0), "{cut:?}");
        assert!(cut.err.contains("the recording is cut there"), "{cut:?}");
        assert!(pinged.out.starts_with(&cut.out) && !cut.out.contains("statistics"), "{cut:?}");
    }
}

#[test]
fn both_sides_of_a_netcat_over_udp_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in RUNTIMES {
        let (ours, theirs) = (folder.path().join("client"), folder.path().join("server"));
        let common = ["--runtime", runtime, "--record"];
        let listen = ["nc", "-u", "-l", "0", "-k", "--reply", "ARK!"];
        let (server, _told) =
            Serving::start(&[&common[..], &[theirs.to_str().unwrap()], &listen].concat(), true);
        let port = server.address.rsplit(':').next().unwrap();
        let talk = ["nc", "-u", "127.0.0.1", port, "-q", "0.1"];
        let mut talk = semfio(&[&common[..], &[ours.to_str().unwrap()], &talk].concat());
        let mut talk = talk.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        talk.stdin.as_mut().unwrap().write_all("olá\n\u{1}two\n".as_bytes()).unwrap();
        let mut answers = [0; 8];
        talk.stdout.as_mut().unwrap().read_exact(&mut answers).unwrap();
        assert_eq!(&answers, b"ARK!ARK!");
        talk.stdin = None;
        assert_eq!(talk.wait().unwrap().code(), Some(0));
        assert_eq!(server.end(), Some(130));
        for trace in [&ours, &theirs] {
            let again = replay(&[], trace);
            assert_eq!(again.code, Some(0), "{runtime}: {again:?}");
            assert!(again.out.starts_with("agrees: "), "{again:?}");
            let [planted, cut] = spoilt(trace, "\",\"carrier\":\"Udp\",\"len\":");
            assert_eq!((planted.code, cut.code), (Some(1), Some(0)), "{planted:?} {cut:?}");
        }
    }
}

#[test]
fn questions_to_udp_ports_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let open = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 8];
        while let Ok((n, from)) = open.recv_from(&mut buffer) {
            let _ = open.send_to(&buffer[..n], from);
        }
    });
    for runtime in RUNTIMES {
        let args = ["--runtime", runtime, "--record", trace.to_str().unwrap(), "nc", "-zu"];
        let asked = run(&[&args[..], &["127.0.0.1", &port.to_string()]].concat(), "");
        assert_eq!(asked.code, Some(0), "{asked:?}");
        let again = replay(&[], &trace);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert!(again.out.starts_with("agrees: "), "{again:?}");
    }
}
