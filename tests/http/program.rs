//! The programs under test, and a client that only moves octets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use semfio_corpus::http_rows::{Entry, OUTSIDE, SITE};
use semfio_tests::semfio;

/// The runtimes of the command line.
pub(crate) const RUNTIMES: [&str; 3] = ["mio", "smol", "blocking"];

/// How long anything may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of ours; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn echo(runtime: &str) -> Self {
        Self::start(&["--runtime", runtime, "http", "echo", "--listen", "127.0.0.1:0"])
    }

    /// Of the folder of the rows, which must outlive it.
    pub(crate) fn serve(runtime: &str, folder: &Path) -> Self {
        let folder = folder.to_str().unwrap();
        Self::start(&["--runtime", runtime, "http", "serve", folder, "--listen", "127.0.0.1:0"])
    }

    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(semfio());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "it does not listen: {all}");
            if let Some((_, from)) = line.split_once("listening on ") {
                break from.split(',').next().unwrap().trim().parse().unwrap();
            }
            all += &line;
        };
        // It must not wait for somebody to read what it tells.
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
        Self { child, address }
    }

    /// The memory it has, in octets.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of the rows: what is served is in `site` beneath it.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    std::fs::create_dir(&site).unwrap();
    for (name, entry) in SITE {
        match entry {
            Entry::File(content) => std::fs::write(site.join(name), content).unwrap(),
            Entry::Link(to) => std::os::unix::fs::symlink(to, site.join(name)).unwrap(),
        }
    }
    std::fs::write(folder.path().join(OUTSIDE.0), OUTSIDE.1).unwrap();
    folder
}

/// A connection to a server.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends; a server that has heard enough may have closed meanwhile.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says no more.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next response; `None` if the connection ends before one begins.
    pub(crate) fn response(&mut self, to_head: bool) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more() {
                assert!(self.read.is_empty(), "a head ends early: {}", self.read.escape_ascii());
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status =
            head.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3)).unwrap().parse().unwrap();
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|line| line.0.eq_ignore_ascii_case(name)).map(|line| line.1.to_owned())
        };
        let body = if to_head || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if let Some(length) = field("content-length") {
            self.take(length.parse().unwrap())
        } else {
            assert_eq!(field("transfer-encoding").as_deref(), Some("chunked"), "{head}");
            self.chunks()
        };
        Some(Response { status, head, body })
    }

    /// Whether the connection ends, with nothing before.
    pub(crate) fn ends(&mut self) -> bool {
        self.read.is_empty() && !self.more()
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.read.windows(2).position(|it| it == b"\r\n") {
                    break end;
                }
                assert!(self.more(), "a chunk ends early");
            };
            let size: Vec<u8> = self.read.drain(..end + 2).collect();
            let size = std::str::from_utf8(&size[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend(self.take(size));
            assert_eq!(self.take(2), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        while self.read.len() < n {
            assert!(
                self.more(),
                "{n} octets are wanted, the connection ends after {}",
                self.read.len()
            );
        }
        self.read.drain(..n).collect()
    }

    /// Reads more; whether there was any.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.read.extend_from_slice(&buffer[..n]);
                true
            }
            // It has closed before it read all that we sent.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}
