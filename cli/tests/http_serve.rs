//! `semfio http serve`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use semfio_runtime_os::Clock;
use tempfile::TempDir;

use crate::peers::{RUNTIMES, Server, run};

/// How long an answer may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder to serve.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("served/sub")).unwrap();
    fs::write(dir.path().join("served/index.html"), "<h1>hello</h1>").unwrap();
    fs::write(dir.path().join("served/sub/file"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    dir
}

fn served(dir: &TempDir) -> String {
    text(&dir.path().join("served"))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes back for `request`, after which the peer says no more.
fn asked(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    String::from_utf8_lossy(&back).into_owned()
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let back = asked(server, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let (head, body) = back.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{back:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn it_serves_takes_and_replays() {
    for runtime in RUNTIMES {
        let dir = folder();
        let trace = text(&dir.path().join("trace"));
        let args = [
            "--runtime",
            runtime,
            "--record",
            &trace,
            "http",
            "serve",
            "--writable",
            "--header",
            "X-A: b",
        ];
        let server = Server::http(&[&args[..], &["--log", "combined", &served(&dir)]].concat());
        for _ in 0..3 {
            assert_eq!(get(&server, "/"), (200, "<h1>hello</h1>".into()), "{runtime}");
        }
        let put = "PUT /sub/new HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nnew";
        assert!(asked(&server, put).starts_with("HTTP/1.1 201 Created\r\n"), "{runtime}");
        assert_eq!(get(&server, "/sub/new"), (200, "new".into()), "{runtime}");
        let (status, listing) = get(&server, "/sub/?format=plain");
        assert!(status == 200 && listing.contains("file") && listing.contains("new"), "{listing}");
        assert!(asked(&server, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n").contains("\r\nX-A: b\r\n"));
        assert!(asked(&server, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "), "{runtime}");
        let said = server.stop(Signal::INT, 130);
        assert!(said.contains("may put files here") && said.ends_with("stopped\n"), "{said}");
        let again = run(&["replay", &trace], "");
        assert_eq!(again.code, Some(0), "{runtime}: {again:?}");
    }
}

#[test]
fn what_is_changed_is_seen_at_once() {
    for runtime in RUNTIMES {
        let dir = folder();
        let server = Server::http(&["--runtime", runtime, "http", "serve", &served(&dir)]);
        let path = dir.path().join("served/index.html");
        for n in 0..50 {
            assert_eq!(get(&server, "/").0, 200);
            let content = format!("version {n}");
            if n % 2 == 0 {
                fs::write(&path, &content).unwrap();
            } else {
                fs::write(dir.path().join("other"), &content).unwrap();
                fs::rename(dir.path().join("other"), &path).unwrap();
            }
            assert_eq!(get(&server, "/"), (200, content), "{runtime}");
        }
        fs::remove_file(&path).unwrap();
        assert!(get(&server, "/").1.contains("sub/"), "a listing, where no index is");
        server.stop(Signal::TERM, 0);
    }
}

#[test]
fn no_link_leads_out() {
    let dir = folder();
    symlink("../secret", dir.path().join("served/link")).unwrap();
    symlink("..", dir.path().join("served/up")).unwrap();
    symlink("/proc/self/environ", dir.path().join("served/environ")).unwrap();
    let server = Server::http(&["http", "serve", &served(&dir)]);
    for path in ["/link", "/up/secret", "/up/", "/environ", "/../secret", "/%2e%2e/secret"] {
        assert_eq!(get(&server, path).0, 404, "{path}");
    }
    // The folder is another one from one request to the next, and a link to outside now and then.
    let (sub, aside) = (dir.path().join("served/sub"), dir.path().join("aside"));
    fs::write(dir.path().join("file"), "outside").unwrap();
    for n in 0..60 {
        let (status, content) = get(&server, "/sub/file");
        assert_ne!(content, "outside");
        assert_eq!(status, if n % 2 == 0 { 200 } else { 404 }, "{n}");
        if n % 2 == 0 {
            fs::rename(&sub, &aside).unwrap();
            symlink("..", &sub).unwrap();
        } else {
            fs::remove_file(&sub).unwrap();
            fs::rename(&aside, &sub).unwrap();
        }
    }
    server.stop(Signal::TERM, 0);
}

#[test]
fn it_ends_without_failing_anybody() {
    for runtime in RUNTIMES {
        let dir = folder();
        let server = Server::http(&["--runtime", runtime, "http", "serve", &served(&dir)]);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut stream = connect(&server);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    for answered in 0.. {
                        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                        let mut closes = false;
                        loop {
                            let mut line = String::new();
                            assert!(reader.read_line(&mut line).unwrap() > 0, "no answer");
                            closes |= line == "Connection: close\r\n";
                            if line == "\r\n" {
                                break;
                            }
                        }
                        let mut body = [0; 14];
                        reader.read_exact(&mut body).unwrap();
                        assert_eq!(&body, b"<h1>hello</h1>");
                        if closes {
                            return answered;
                        }
                    }
                    0
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        server.stop(Signal::TERM, 0);
        for client in clients {
            assert!(client.join().unwrap() > 0, "{runtime}");
        }
    }
}

#[test]
fn a_signal_that_is_sent_twice_is_one() {
    let dir = folder();
    let clock = Clock::start();
    loop {
        let server = Server::http(&["http", "serve", &served(&dir)]);
        // It has a second to ask; the server waits so long.
        let mut peer = connect(&server);
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        let first = clock.now().mono;
        server.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(5));
        server.signal(Signal::INT);
        let apart = clock.now().mono.saturating_since(first);
        let said = server.end(130);
        // If we were held up in between, it was a second one.
        if apart < Duration::from_millis(80) {
            assert!(said.contains("stopped"), "{said}");
            break;
        }
    }
}

#[test]
fn mistakes_have_hints() {
    let dir = folder();
    let failed = |args: &[&str], code: i32, words: &[&str]| {
        let ended = run(&[&["http", "serve"], args].concat(), "");
        assert_eq!(ended.code, Some(code), "{ended:?}");
        for word in words {
            assert!(ended.err.contains(word), "{word}: {}", ended.err);
        }
    };
    failed(&["/none/such"], 2, &["cannot serve /none/such", "No such file"]);
    failed(&[&text(&dir.path().join("secret"))], 2, &["hint: a folder is served, not a file"]);
    let server = Server::http(&["http", "serve", &served(&dir)]);
    failed(
        &["--listen", &server.address, &served(&dir)],
        3,
        &["cannot listen", "hint: another program"],
    );
    failed(&["--header", "a b: c"], 2, &["not a field name"]);
    failed(&["--header", "Connection: close"], 2, &["written by the connection itself"]);
    failed(&["--error-page", "200=a"], 2, &["status of an error"]);
    failed(&["--error-page", "404=../a"], 2, &["begins in the folder"]);
    failed(&["--index", "a/b"], 2, &["the name of a file"]);
    server.stop(Signal::TERM, 0);
}
