//! `semfio http get` from nginx, which knows ranges, and Python's server, which does not.

use std::fs;
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use semfio_tests::installed;

use crate::RUNTIMES;
use crate::namespace::within;
use crate::process::{Process, prepare};

const SERVER: &str = "127.0.0.1:8080";
/// The same, over a way that breaks.
const CUT: &str = "127.0.0.1:8081";
/// Octets of an answer that get through before the way breaks.
const THROUGH: usize = 300_000;

/// Listens at [`CUT`]: of the first connection [`THROUGH`] octets of what the server says get through,
/// of each later one all.
fn cut_once() {
    let listener = TcpListener::bind(CUT).unwrap();
    thread::spawn(move || {
        for most in [THROUGH].into_iter().chain(std::iter::repeat(usize::MAX)) {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(SERVER).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let _ = std::io::copy(&mut (&server).take(most as u64), &mut &client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    });
}

fn wait_for_server(server: &mut Process) {
    for _ in 0..3_000 {
        if TcpStream::connect(SERVER).is_ok() {
            return;
        }
        assert!(server.is_alive(), "{}", server.err());
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens: {}", server.err());
}

fn python(root: &Path) -> Process {
    let (host, port) = SERVER.split_once(':').unwrap();
    let root = root.to_str().unwrap();
    let mut server = Process::start(
        "python3",
        &["-m", "http.server", port, "--bind", host, "--directory", root, "--protocol", "HTTP/1.1"],
    );
    wait_for_server(&mut server);
    server
}

fn nginx(place: &Path, root: &Path) -> Process {
    let config = place.join("nginx.conf");
    let (place, root) = (place.display(), root.display());
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log stderr; user root;
         events {{}}
         http {{
             access_log off; client_body_temp_path {place}; proxy_temp_path {place};
             fastcgi_temp_path {place}; uwsgi_temp_path {place}; scgi_temp_path {place};
             server {{
                 listen {SERVER}; root {root};
                 location = /moved {{ return 302 /large; }}
             }}
         }}"
    );
    fs::write(&config, text).unwrap();
    let mut server = Process::start("nginx", &["-e", "stderr", "-c", config.to_str().unwrap()]);
    wait_for_server(&mut server);
    server
}

fn get(runtime: &str, args: &[&str]) -> (i32, String, String) {
    let mut process = Process::semfio(&[&["--runtime", runtime, "http", "get"], args].concat());
    process.close_stdin();
    (process.wait(), process.out(), process.err())
}

fn pattern(len: usize, of: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251 + of) as u8).collect()
}

/// A folder that is served, and one to save in.
fn folders() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let (root, here) = (place.path().join("root"), place.path().join("here"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&here).unwrap();
    fs::write(root.join("small"), "small").unwrap();
    (place, root, here)
}

/// What both servers do alike.
fn gets(runtime: &str, here: &Path) {
    let small = format!("http://{SERVER}/small");
    let (code, out, err) = get(runtime, &["-v", &small, &small]);
    assert_eq!((code, &*out), (0, "smallsmall"), "{runtime}: {err}");
    assert!(err.contains("the connection is kept"), "{runtime}: {err}");
    let missing = format!("http://{SERVER}/missing");
    let to = here.join("missing");
    let (code, _, err) = get(runtime, &["-o", to.to_str().unwrap(), &missing]);
    assert!(code == 1 && err.contains("404") && !to.exists(), "{runtime}: {err}");
    let (code, out, err) = get(runtime, &["-I", &small]);
    assert!(code == 0 && out.to_lowercase().contains("content-length: 5\r\n"), "{err}");
}

/// Gets `large` over the way that breaks once; what a second attempt said.
fn gets_on(runtime: &str, here: &Path, between: impl FnOnce()) -> String {
    cut_once();
    let to = here.join("large");
    let to = to.to_str().unwrap();
    let url = format!("http://{CUT}/large");
    let (code, _, err) = get(runtime, &["-o", to, &url]);
    assert!(code == 3 && err.contains("--continue goes on"), "{runtime}: {code} {err}");
    assert!(!here.join("large").exists());
    between();
    let (code, _, err) = get(runtime, &["-C", "-o", to, &url]);
    assert_eq!(code, 0, "{runtime}: {err}");
    err
}

fn is_saved(here: &Path, content: &[u8]) {
    assert!(fs::read(here.join("large")).unwrap() == content);
    assert_eq!(fs::read_dir(here).unwrap().count(), 1, "the part is gone");
}

#[test]
fn from_nginx() {
    prepare();
    if !installed(&["nginx"]) {
        return;
    }
    within("http_get::from_nginx", || {
        let (place, root, here) = folders();
        let content = pattern(1_000_000, 0);
        fs::write(root.join("large"), &content).unwrap();
        let _server = nginx(place.path(), &root);
        for runtime in RUNTIMES {
            gets(runtime, &here);
        }
        let err = gets_on("mio", &here, || ());
        assert!(err.contains("the rest is of the same version"), "{err}");
        is_saved(&here, &content);
        let moved = format!("http://{SERVER}/moved");
        let (code, out, err) =
            get("smol", &["-i", &moved, "-o", here.join("large").to_str().unwrap()]);
        assert!(code == 0 && out.contains("\r\nLocation: http"), "{out}{err}");
        is_saved(&here, &content);
    });
}

/// A file that is another one by the second attempt.
#[test]
fn from_nginx_while_it_changes() {
    prepare();
    if !installed(&["nginx"]) {
        return;
    }
    within("http_get::from_nginx_while_it_changes", || {
        let (place, root, here) = folders();
        fs::write(root.join("large"), pattern(1_000_000, 0)).unwrap();
        let _server = nginx(place.path(), &root);
        // Of another length: nginx makes its tags of that, and of the second it was written in.
        let content = pattern(1_000_001, 7);
        let err = gets_on("blocking", &here, || fs::write(root.join("large"), &content).unwrap());
        assert!(err.contains("has another version by now: it starts anew"), "{err}");
        is_saved(&here, &content);
    });
}

/// Python's server sends whole files only, and says when they were written, which tells versions apart once
/// that is a second ago.
#[test]
fn from_python() {
    prepare();
    if !installed(&["python3"]) {
        return;
    }
    within("http_get::from_python", || {
        let (_place, root, here) = folders();
        let content = pattern(1_000_000, 0);
        fs::write(root.join("large"), &content).unwrap();
        let then = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = fs::File::options().write(true).open(root.join("large")).unwrap();
        file.set_modified(then).unwrap();
        let _server = python(&root);
        for runtime in RUNTIMES {
            gets(runtime, &here);
        }
        let err = gets_on("smol", &here, || ());
        assert!(err.contains("the server sends whole files only: it starts anew"), "{err}");
        is_saved(&here, &content);
    });
}
