//! `semfio http get`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peers::{Ended, RUNTIMES, run, semfio};

/// Answers each request with the next of these. One that is empty, or ends in a `!` which is not
/// sent, ends the connection.
pub(crate) struct Scripted {
    address: SocketAddr,
    thread: JoinHandle<Vec<String>>,
}

pub(crate) fn scripted<const N: usize>(answers: [&str; N]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = answers.map(str::to_owned);
    let thread = std::thread::spawn(move || {
        let (mut heads, mut answers) = (Vec::new(), answers.iter().peekable());
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().unwrap();
            let first = heads.len();
            while answers.peek().is_some() {
                let mut request = Vec::new();
                let mut octet = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut octet).unwrap_or(0) > 0 {
                    request.push(octet[0]);
                }
                if request.is_empty() {
                    break;
                }
                let head = String::from_utf8(request).unwrap();
                let length = head.split("Content-Length: ").nth(1);
                let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                let mut content = vec![0; length];
                stream.read_exact(&mut content).unwrap();
                heads.push(head + &String::from_utf8(content).unwrap());
                let answer = answers.next().unwrap();
                let ends = answer.is_empty() || answer.ends_with('!');
                stream.write_all(answer.trim_end_matches('!').as_bytes()).unwrap();
                if ends {
                    break;
                }
            }
            // Nobody asks any more: it is told to end.
            if heads.len() == first {
                break;
            }
        }
        heads
    });
    Scripted { address, thread }
}

impl Scripted {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests that came.
    pub(crate) fn end(self) -> Vec<String> {
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap()
    }
}

pub(crate) fn ok(fields: &str, content: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{content}", content.len())
}

fn get(args: &[&str]) -> Ended {
    run(&[&["http", "get"], args].concat(), "")
}

/// With an answer to whatever is asked, of which `{}` in the arguments is the URL.
fn got(answer: &str, args: &[&str]) -> Ended {
    let server = scripted([answer]);
    let url = server.url("/x");
    let args: Vec<_> = args.iter().map(|arg| arg.replace("{}", &url)).collect();
    let args: Vec<_> = args.iter().map(|arg| &**arg).collect();
    let ended = get(&args);
    server.end();
    ended
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|it| name(it).into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_runtime_prints_and_saves_and_replays() {
    for runtime in RUNTIMES {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let moved = "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nno";
        let server = scripted([moved, &ok("", "hello"), &ok("", "a"), &ok("", "b")]);
        let common = ["--runtime", runtime, "--record", text(&trace), "http", "get"];
        let url = server.url("/a");
        let ended = run(&[&common[..], &[&url]].concat(), "");
        assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(0), "hello", ""), "{runtime}");
        assert_eq!(run(&["replay", text(&trace)], "").code, Some(0), "{runtime}");
        // Over one connection: the thread would wait for ever for another request on the first.
        let saved = folder.path().join("saved");
        fs::create_dir(&saved).unwrap();
        let (one, two) = (server.url("/one%20x?y"), server.url("/two"));
        let args = ["--output-dir", text(&saved), &one, &two];
        let ended = run(&[&common[..], &args].concat(), "");
        assert_eq!(ended.code, Some(0), "{runtime}: {ended:?}");
        assert_eq!(names(&saved), ["one x", "two"]);
        assert_eq!(fs::read_to_string(saved.join("two")).unwrap(), "b");
        assert_eq!(run(&["replay", text(&trace)], "").code, Some(0), "{runtime}");
        let heads = server.end();
        assert!(heads[1].starts_with("GET /b HTTP/1.1\r\nHost: 127.0.0.1:"), "{heads:?}");
        assert!(heads[1].contains("\r\nUser-Agent: semfio/"), "{heads:?}");
        assert!(!heads[1].contains("Accept-Encoding"), "{heads:?}");
    }
}

#[test]
fn heads_are_shown_where_they_are_asked_for() {
    let answer = ok("X-A: \u{1b}[2J\r\n", "hello").replace('\u{1b}', "\u{9b}");
    let ended = got(&answer, &["-i", "{}"]);
    assert_eq!((ended.code, &*ended.out), (Some(0), &*answer));
    let head = answer.split("hello").next().unwrap();
    let server = scripted([head]);
    let ended = get(&["-I", &server.url("/")]);
    assert_eq!((ended.code, &*ended.out), (Some(0), head));
    assert!(server.end()[0].starts_with("HEAD / HTTP/1.1\r\n"));
    // What a terminal would obey is made visible.
    let ended = got(&answer, &["-v", "{}"]);
    assert!(ended.err.contains("> GET /x HTTP/1.1\n> Host: 127.0.0.1:"), "{}", ended.err);
    assert!(ended.err.contains("< HTTP/1.1 200 OK\n< X-A: \\u{9b}[2J\n"), "{}", ended.err);
}

#[test]
fn what_is_sent_is_as_it_was_asked_for() {
    let server = scripted([&*ok("", ""), &*ok("", ""), &*ok("", "")]);
    let url = server.url("/");
    assert_eq!(get(&["-d", "a=b", "-H", "X-Own:  c ", &url]).code, Some(0));
    assert_eq!(run(&["http", "get", "-d", "@-", "-X", "PUT", &url], "from\nstdin").code, Some(0));
    assert_eq!(get(&["-X", "DELETE", "-H", "User-Agent: me", &url]).code, Some(0));
    let heads = server.end();
    assert!(heads[0].starts_with("POST / HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("\r\nContent-Type: application/x-www-form-urlencoded\r\n"));
    assert!(heads[0].contains("\r\nX-Own: c\r\n\r\na=b"), "{heads:?}");
    assert!(heads[1].starts_with("PUT /") && heads[1].ends_with("\r\n\r\nfrom\nstdin"));
    assert!(heads[2].starts_with("DELETE /") && heads[2].contains("\r\nUser-Agent: me\r\n"));
}

#[test]
fn what_is_cut_is_kept_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    fs::write(&file, "before").unwrap();
    let whole = ok("ETag: \"a\"\r\n", "0123456789");
    let cut = format!("{}!", &whole[..whole.len() - 4]);
    let rest = "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 6-9/10\r\n\
                Content-Length: 4\r\n\r\n6789";
    let server = scripted([&*cut, rest]);
    let url = server.url("/f");
    let ended = get(&["-o", text(&file), &url]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let part = folder.path().join("f.part");
    let said = format!("6 B are kept in {}; the same with --continue goes on", part.display());
    assert!(ended.err.contains(&said), "{}", ended.err);
    assert!(ended.err.contains("content is whole before the connection ends (octet"), "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    assert_eq!(fs::read_to_string(&part).unwrap(), "012345");
    let ended = get(&["-C", "-o", text(&file), &url]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("6 B are there, the rest is of the same version"), "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "0123456789");
    assert_eq!(names(folder.path()), ["f"]);
    assert!(server.end()[1].contains("\r\nRange: bytes=6-\r\nIf-Range: \"a\"\r\n"));
}

#[test]
fn an_interrupt_says_what_is_kept() {
    for (runtime, signal, code) in
        [("mio", Signal::INT, 130), ("smol", Signal::INT, 130), ("blocking", Signal::TERM, 1)]
    {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/f", listener.local_addr().unwrap());
        let args = ["--runtime", runtime, "http", "get", "-o", text(&file), &url];
        let mut child = semfio(&args).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let whole = ok("ETag: \"a\"\r\n", "0123456789");
        stream.write_all(&whole.as_bytes()[..whole.len() - 3]).unwrap();
        let part = folder.path().join("f.part");
        while fs::read(&part).is_ok_and(|bytes| bytes.len() < 7) || !part.exists() {
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{runtime}: {said}");
        assert!(said.contains("interrupted; 7 B are kept in"), "{runtime}: {said}");
        assert_eq!(names(folder.path()), ["f.part", "f.part.note"]);
    }
}

#[test]
fn devices_are_written_into_and_stay() {
    let ended = got(&ok("", "hello"), &["-o", "/dev/null", "{}"]);
    assert_eq!((ended.code, &*ended.out), (Some(0), ""), "{ended:?}");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let ended = got(&ok("", "hello"), &["-o", "/dev/stdout", "{}"]);
    assert_eq!((ended.code, &*ended.out), (Some(0), "hello"), "{ended:?}");
    assert_eq!(got(&ok("", "hello"), &["-o", "-", "{}"]).out, "hello");
}

#[test]
fn failures_have_codes_and_words() {
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage";
    assert_eq!(got(missing, &["{}"]).out, "page");
    let moved =
        |to: &str| format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    for (answer, code, said) in [
        (missing, 1, "404 Not Found"),
        ("", 3, "a request is answered before the connection ends"),
        ("HTTP/1.1 200!", 3, "a head is whole before the connection ends"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab!", 3, "2 B were written"),
        ("HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", 4, "RFC 9112, 5.1)"),
        ("HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n", 4, "nobody asked for"),
        (&moved("https://x/"), 1, "`curl` speaks https"),
        (&moved("/x"), 1, "the redirects go round"),
        (&moved("ftp://x/"), 4, "only http is spoken"),
    ] {
        let ended = got(answer, &["--fail", "{}"]);
        assert_eq!(ended.code, Some(code), "{answer}: {ended:?}");
        assert!(ended.err.contains(said), "{answer}: {}", ended.err);
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = get(&[&nobody]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("connection refused\nhint: nobody listens there"), "{ended:?}");
}

#[test]
fn wrong_use_is_told_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    fs::write(&file, vec![0; 16 * 1024 * 1024 + 1]).unwrap();
    let large = format!("@{}", file.display());
    for (args, said) in [
        (&["https://a/"][..], "https needs TLS"),
        (&["http://u:p@a/"], "-H 'Authorization"),
        (&["http://a:0/"], "the port"),
        (&["-O", "http://a/"], "-o FILE names it"),
        (&["-O", "http://a/x", "http://b/x"], "has the same last part"),
        (&["-o", "f", "http://a/", "http://b/"], "there are several URLs"),
        (&["-o", "/nowhere/f", "http://a/"], "mkdir"),
        (&["-C", "http://a/"], "nothing is saved"),
        (&["-C", "-o", "f", "-d", "x", "http://a/"], "cannot be used with"),
        (&["-X", "G T", "http://a/"], "a method is"),
        (&["-X", "CONNECT", "http://a/"], "CONNECT"),
        (&["-H", "Host: b", "http://a/"], "Host is that of the URL"),
        (&["-H", "no field", "http://a/"], "expected 'Name: value'"),
        (&["-d", "@/nowhere/f", "http://a/"], "cannot send /nowhere/f"),
        (&["-d", &large, "http://a/"], "more than 16777216 bytes"),
        (&["--json", "http://a/"], "the records go there"),
        (&["--record", "t", "-H", "Cookie: a", "http://a/"], "--record-secrets"),
    ] {
        let ended = get(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
    }
}

#[test]
fn records_have_the_rule() {
    let bad = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc";
    let ended = got(bad, &["--json", "-o", "/dev/null", "{}"]);
    let records: Vec<Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = &records[0];
    assert_eq!((&failed["type"], &failed["rule"]), (&"failed".into(), &"length-twice".into()));
    assert_eq!(failed["section"], "RFC 9112, 6.3");
    assert!(failed["offset"].as_u64().is_some(), "{failed}");
    assert_eq!((&failed["v"], ended.code), (&1.into(), Some(4)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let ended = got(&ok("X: y\r\n", "abc"), &["--json", "-o", text(&file), "{}"]);
    let records: Vec<Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    let kinds: Vec<_> = kinds.into_iter().filter(|kind| *kind != "progress").collect();
    assert_eq!(kinds, ["response", "begun", "done", "over"]);
    assert_eq!(records[0]["fields"][0], serde_json::json!(["X", "y"]));
    let done = records.iter().find(|record| record["type"] == "done").unwrap();
    assert_eq!((&done["size"], &done["saved"]), (&3.into(), &text(&file).into()));
}
