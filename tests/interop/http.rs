//! Clients of HTTP that everybody has, with `http serve`.

use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;

use semfio_tests::installed;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::RUNTIMES;
use crate::process::Process;

/// A folder that is served, and who serves it.
struct Site {
    dir: TempDir,
    server: Process,
    url: String,
}

impl Site {
    fn start(runtime: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("served/sub folder")).unwrap();
        let served = dir.path().join("served");
        fs::write(served.join("sub folder/ç.txt"), "cedilha\n").unwrap();
        fs::write(served.join("large.bin"), pattern()).unwrap();
        let all = ["--runtime", runtime, "http", "serve", "--listen", "127.0.0.1:0"];
        let all = [&all[..], args, &[served.to_str().unwrap()]].concat();
        let server = Process::semfio(&all);
        server.wait_err("the server listens", |err| err.contains("serving"));
        let err = server.err();
        let url =
            err.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { dir, server, url }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn stop(mut self) {
        self.server.signal(Signal::TERM);
        assert_eq!(self.server.wait(), 0, "{}", self.server.err());
    }
}

fn pattern() -> Vec<u8> {
    (0..2_000_000_u32).map(|n| (n % 251) as u8).collect()
}

/// Runs a program to its end.
#[track_caller]
fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).env("no_proxy", "*").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {} {err}", output.status);
    output.stdout
}

#[test]
fn curl_gets_lists_goes_on_and_puts() {
    if !installed(&["curl"]) {
        return;
    }
    for runtime in RUNTIMES {
        let site = Site::start(runtime, &["--writable"]);
        let (large, folder) =
            (format!("{}large.bin", site.url), format!("{}sub%20folder/", site.url));
        assert_eq!(run("curl", &["-sf", &large]), pattern());
        assert_eq!(run("curl", &["-sf", "-r", "5-9", &large]), pattern()[5..10]);
        let parts = run("curl", &["-sf", "-r", "0-1,1000000-1000001", &large]);
        assert!(String::from_utf8_lossy(&parts).contains("bytes 1000000-1000001/2000000"));
        let got = site.path("got");
        fs::write(&got, &pattern()[..700_000]).unwrap();
        run("curl", &["-sf", "-C", "-", "-o", &got, &large]);
        assert_eq!(fs::read(&got).unwrap(), pattern());
        let listed: Value = serde_json::from_slice(&run(
            "curl",
            &["-sfL", "-H", "Accept: application/json", folder.trim_end_matches('/')],
        ))
        .unwrap();
        assert_eq!(listed["entries"][0]["name"], "ç.txt");
        // Large enough for curl to wait for 100 Continue.
        run("curl", &["-sf", "-T", &got, &format!("{folder}put.bin")]);
        assert_eq!(fs::read(site.path("served/sub folder/put.bin")).unwrap(), pattern());
        let twice = run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} ",
                "-H",
                "If-None-Match: *",
                "-T",
                &got,
                &format!("{folder}put.bin"),
            ],
        );
        assert_eq!(twice, b"412 ");
        site.stop();
    }
}

#[test]
fn curl_understands_what_is_compressed() {
    if !installed(&["curl"]) {
        return;
    }
    let site = Site::start("mio", &[]);
    let text = "a line of text\n".repeat(20_000);
    fs::write(site.path("served/text.txt"), &text).unwrap();
    let got = run("curl", &["-sf", "--compressed", &format!("{}text.txt", site.url)]);
    assert_eq!(got, text.as_bytes());
    site.stop();
}

#[test]
fn wget_mirrors_a_listing_and_goes_on() {
    if !installed(&["wget"]) {
        return;
    }
    for runtime in RUNTIMES {
        let site = Site::start(runtime, &[]);
        let got = site.path("got");
        run("wget", &["-q", "-r", "-np", "-nH", "-P", &got, &site.url]);
        assert_eq!(fs::read(Path::new(&got).join("sub folder/ç.txt")).unwrap(), b"cedilha\n");
        assert_eq!(fs::read(Path::new(&got).join("large.bin")).unwrap(), pattern());
        fs::write(Path::new(&got).join("large.bin"), &pattern()[..900_000]).unwrap();
        run("wget", &["-q", "-c", "-P", &got, &format!("{}large.bin", site.url)]);
        assert_eq!(fs::read(Path::new(&got).join("large.bin")).unwrap(), pattern());
        site.stop();
    }
}

/// Two requests on one connection, an upload with and one without a length, a conditional one.
const PYTHON: &str = r#"
import http.client, sys
host = sys.argv[1].removeprefix("http://").rstrip("/")
there = http.client.HTTPConnection(host, timeout=20)
def ask(method, path, body=None, **fields):
    there.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
    answer = there.getresponse()
    return answer.status, answer.read(), answer
status, body, answer = ask("GET", "/sub%20folder/%C3%A7.txt")
assert (status, body) == (200, b"cedilha\n"), (status, body)
status, body, _ = ask("GET", "/sub%20folder/%C3%A7.txt", If_None_Match=answer.headers["ETag"])
assert (status, body) == (304, b""), (status, body)
status, body, answer = ask("HEAD", "/large.bin")
assert (status, body, answer.headers["Content-Length"]) == (200, b"", "2000000")
assert ask("PUT", "/a", b"first")[0] == 201
assert ask("PUT", "/a", iter([b"sec", b"ond"]))[0] == 204
assert ask("GET", "/a")[:2] == (200, b"second")
assert ask("DELETE", "/a")[0] == 405
assert ask("GET", "/none")[0] == 404
print("done")
"#;

#[test]
fn python_keeps_its_connection() {
    if !installed(&["python3"]) {
        return;
    }
    for runtime in RUNTIMES {
        let site = Site::start(runtime, &["--writable"]);
        assert_eq!(run("python3", &["-c", PYTHON, &site.url]), b"done\n");
        site.stop();
    }
}

#[test]
fn a_browser_uses_a_listing_by_keyboard() {
    if !installed(&["chromium", "python3"]) {
        return;
    }
    let site = Site::start("mio", &[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/browser.py");
    let seen = run("python3", &[script, "chromium", &site.url]);
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    assert_eq!(seen["rows"], json!(["sub folder/", "large.bin"]));
    assert_eq!((&seen["scripts"], &seen["lang"]), (&json!(0), &json!("en")));
    assert_eq!(seen["inside"], "/sub folder/");
    assert_eq!((&seen["at"], &seen["text"]), (&json!("/sub folder/ç.txt"), &json!("cedilha\n")));
    assert_eq!(seen["sorted"], "?sort=size&order=desc");
    for stop in ["folder", "file", "sort"] {
        assert_ne!(seen[stop]["outline"], "none", "where one is must be seen: {stop}");
    }
    site.stop();
}
