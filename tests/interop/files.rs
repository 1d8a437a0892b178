//! The course's file programs, unmodified, with ours in both roles.

use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::RUNTIMES;
use crate::course::{ADDRESS, program};
use crate::namespace::within;
use crate::process::{Process, prepare};
use semfio_tests::installed;

/// The names that the course's server was written with.
const NAMES: [&str; 4] = ["cachorro.jpg", "gato.jpg", "iguana.jpg", "tucano.jpg"];

/// Pictures of our own making, under these names.
fn picture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/pictures"));
    fs::read(folder.join(name)).unwrap()
}

/// A copy of the course's programs with the folders they want beside them, and one for us.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for program_name in ["repositorio.py", "cliente.py"] {
            let path = program(&format!("../exemplo3/{program_name}"))?;
            fs::copy(path, dir.path().join(program_name)).unwrap();
        }
        for folder in ["imagens", "downloads", "ours"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for name in NAMES {
            fs::write(dir.path().join("imagens").join(name), picture(name)).unwrap();
        }
        Some(Self { dir })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn course_server(&self) -> Process {
        let server = Process::start("python3", &[&self.path("repositorio.py")]);
        server.wait_out("the course's server waits", |out| out.contains("Aguardando"));
        server
    }

    /// The course's client gets one file; gives what it has saved.
    fn course_client(&self, name: &str) -> Vec<u8> {
        let mut client = Process::start("python3", &[&self.path("cliente.py")]);
        client.wait_out("the course's client asks", |out| out.contains("download"));
        client.write(format!("{name}\n"));
        assert_eq!(client.wait(), 0, "{}", client.err());
        fs::read(Path::new(&self.path("downloads")).join(name)).unwrap()
    }

    fn our_server(&self, runtime: &str, listen: &str) -> Process {
        let args =
            ["--runtime", runtime, "file", "serve", "--listen", listen, &self.path("imagens")];
        let server = Process::semfio(&args);
        server.wait_err("the server listens", |err| err.contains("list with"));
        server
    }

    /// Our client gets these into our folder.
    fn our_client(&self, runtime: &str, names: &[&str], more: &[&str]) -> Process {
        let ours = self.path("ours");
        let args = [&["--runtime", runtime, "file", "get", ADDRESS, "-o", &ours], names, more];
        Process::semfio(&args.concat())
    }

    fn ours(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("ours")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn assert_all_are_ours(&self) {
        assert_eq!(self.ours(), NAMES);
        for name in NAMES {
            let got = fs::read(Path::new(&self.path("ours")).join(name)).unwrap();
            assert!(got == picture(name), "{name}: {} bytes", got.len());
        }
    }
}

/// Our client at the course's server: byte-exact, and nothing is left of what there is not.
fn our_client(runtime: &str) {
    let Some(place) = Place::new() else { return };
    let server = place.course_server();
    let mut client = place.our_client(runtime, &NAMES, &["--course"]);
    assert_eq!(client.wait(), 0, "{}", client.err());
    place.assert_all_are_ours();
    let mut client = place.our_client(runtime, &["leao.jpg"], &["--course"]);
    assert_eq!(client.wait(), 1, "{}", client.err());
    assert!(client.err().contains("there is no such name"), "{}", client.err());
    place.assert_all_are_ours();
    // Frames are not understood there; what to do is told.
    let mut client = place.our_client(runtime, &["gato.jpg", "-f"], &[]);
    assert_eq!(client.wait(), 4, "{}", client.err());
    assert!(client.err().contains("file get --course"), "{}", client.err());
    // A name it was written with and whose file is gone: its thread dies, and nobody is told until
    // somebody else connects.
    fs::remove_file(Path::new(&place.path("imagens")).join("gato.jpg")).unwrap();
    fs::remove_file(Path::new(&place.path("ours")).join("gato.jpg")).unwrap();
    let mut client = place.our_client(runtime, &["gato.jpg"], &["--course"]);
    server.wait_err("its thread dies", |err| err.contains("FileNotFoundError"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(client.is_alive());
    client.signal(Signal::INT);
    assert_eq!(client.wait(), 130, "{}", client.err());
    assert_eq!(place.ours().len(), NAMES.len() - 1, "{:?}", place.ours());
}

/// The course's client at our server. It saves all that comes: the mark of the end, and the text that
/// says that there is no such file.
fn course_client(runtime: &str) {
    let Some(place) = Place::new() else { return };
    let server = place.our_server(runtime, ADDRESS);
    for name in NAMES {
        let saved = place.course_client(name);
        assert!(saved == [&picture(name)[..], b"OK"].concat(), "{name}: {} bytes", saved.len());
    }
    // As the chapter has it: its own server finds it on a disk that ignores case alone.
    let saved = place.course_client("Iguana.jpg");
    assert!(saved == [&picture("iguana.jpg")[..], b"OK"].concat());
    let saved = place.course_client("leao.jpg");
    assert_eq!(saved, "ERROR \"O arquivo leao.jpg não existe\"".as_bytes());
    server.wait_err("it is told of", |err| err.contains("there is no leao.jpg"));
    server.signal(Signal::TERM);
    let mut server = server;
    assert_eq!(server.wait(), 0, "{}", server.err());
}

/// Both of ours, in both dialects, while the course's client gets the same file.
fn ours_alone(runtime: &str) {
    let Some(place) = Place::new() else { return };
    let _server = place.our_server(runtime, ADDRESS);
    let mut framed = place.our_client(runtime, &NAMES, &["--jobs", "2"]);
    assert!(place.course_client("gato.jpg").ends_with(b"OK"));
    assert_eq!(framed.wait(), 0, "{}", framed.err());
    place.assert_all_are_ours();
    let mut course = place.our_client(runtime, &NAMES, &["--course", "--force"]);
    assert_eq!(course.wait(), 0, "{}", course.err());
    place.assert_all_are_ours();
    for dialect in [&[][..], &["--course"]] {
        let mut client = place.our_client(runtime, &["leao.jpg"], dialect);
        assert_eq!(client.wait(), 1, "{}", client.err());
        place.assert_all_are_ours();
    }
}

/// `semfio lab file` and `semfio lab`, with what they say to try.
fn lab(runtime: &str) {
    let Some(place) = Place::new() else { return };
    let mut lab = Process::semfio(&["--runtime", runtime, "lab", "file"]);
    lab.wait_out("what to try", |out| out.contains("Ctrl-C stops it"));
    for line in ["python3 cliente.py", "file get 127.0.0.1:8000 iguana.jpg --course", "file list"] {
        assert!(lab.out().contains(line), "{}", lab.out());
    }
    for name in NAMES {
        assert!(place.course_client(name) == [&picture(name)[..], b"OK"].concat(), "{name}");
    }
    for dialect in [&["--course"][..], &["--force"]] {
        let mut client = place.our_client(runtime, &NAMES, dialect);
        assert_eq!(client.wait(), 0, "{}", client.err());
        place.assert_all_are_ours();
    }
    lab.signal(Signal::TERM);
    assert_eq!(lab.wait(), 0, "{}", lab.err());

    let mut lab = Process::semfio(&["--runtime", runtime, "lab"]);
    lab.wait_out("what to try", |out| out.contains("Ctrl-C stops all"));
    assert!(lab.out().contains("semfio file get 127.0.0.1:8003 iguana.jpg"), "{}", lab.out());
    let mut list = Process::semfio(&["--json", "file", "list", "127.0.0.1:8003"]);
    assert_eq!(list.wait(), 0, "{}", list.err());
    assert!(NAMES.iter().all(|name| list.out().contains(name)), "{}", list.out());
    lab.signal(Signal::TERM);
    assert_eq!(lab.wait(), 0, "{}", lab.err());
}

/// Our client in a folder that is a file system of its own, mounted so: what it prints, with its exit
/// code and what is there in the end behind it.
fn on_disk(place: &Place, runtime: &str, options: &str) -> Process {
    let ours = place.path("ours");
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs {ours} || exit 99; \"$0\" \"$@\"; echo $?; ls -A {ours}"
    );
    let get = ["--runtime", runtime, "file", "get", ADDRESS, "gato.jpg", "big", "-o", &ours];
    let mut client = Process::semfio_under(&["unshare", "--mount", "sh", "-c", &script], &get);
    client.wait();
    client
}

/// A disk that is full, and a folder nobody may write in.
fn disks(runtime: &str) {
    if !installed(&["mount"]) {
        return;
    }
    let Some(place) = Place::new() else { return };
    fs::File::create(place.path("imagens/big")).unwrap().set_len(32 << 20).unwrap();
    let _server = place.our_server(runtime, ADDRESS);
    let full = on_disk(&place, runtime, "size=8m");
    let (out, err) = (full.out(), full.err());
    assert!(out.starts_with("3\n"), "{out}{err}");
    assert!(err.contains("cannot get big: writing: no space left\n"), "{err}");
    assert!(err.contains(".part\nhint: make room"), "{err}");
    let names: Vec<&str> = out.lines().skip(1).collect();
    assert!(names.len() == 2 && names[0].ends_with(".part") && names[1] == "gato.jpg", "{out}");
    let denied = on_disk(&place, runtime, "ro");
    let (out, err) = (denied.out(), denied.err());
    assert_eq!(out, "3\n", "{err}");
    assert!(err.contains("gato.jpg: creating the partial file: permission denied\nhint:"), "{err}");
    assert!(err.contains("cannot get big: "), "{err}");
}

macro_rules! on_each_runtime {
    ($($scenario:ident),*) => {
        $(mod $scenario {
            #[test]
            fn mio() { super::run(concat!("files::", stringify!($scenario), "::mio"), super::$scenario); }
            #[test]
            fn smol() { super::run(concat!("files::", stringify!($scenario), "::smol"), super::$scenario); }
            #[test]
            fn blocking() { super::run(concat!("files::", stringify!($scenario), "::blocking"), super::$scenario); }
        })*
    };
}

on_each_runtime!(our_client, course_client, ours_alone, lab, disks);

fn run(test: &str, scenario: fn(&str)) {
    prepare();
    let runtime = test.rsplit("::").next().unwrap();
    assert!(RUNTIMES.contains(&runtime));
    within(test, || scenario(runtime));
}
