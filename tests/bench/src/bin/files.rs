//! Files over loopback: GB per CPU-second of both sides, ours beside curl from nginx, the course's
//! pair, and scp.
//!
//! All lies in page cache, so that no disk is measured: a folder on tmpfs, unless told otherwise.
//! A fresh server for each row of each run: its first get is *cold*, since it has to read the file
//! for its hashes, the second is *cached*. The course's programs own a port, so the whole bench
//! runs in a network namespace of its own.
//!
//! CPU time is that of the processes, ended threads and children included, as the kernel tells it
//! in ticks of 10 ms: give it 1 GiB, or the ticks are what is measured. Memory is the peak of what
//! was resident: a server's at its end, a client's looked at every few milliseconds.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin files`

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use semfio_bench::{Server, clock, median, own_children_cpu};

#[derive(Parser)]
struct Args {
    /// Our binary.
    #[arg(long, default_value = "target/dist/semfio")]
    semfio: PathBuf,
    /// The course's programs for files.
    #[arg(long, default_value = "../shared/course/exemplo3")]
    course: PathBuf,
    /// Where files are served from and saved to.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Size of the file.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Size of the file for the course's pair, which is slow.
    #[arg(long, default_value_t = 256)]
    slow_mib: u64,
    /// Runs of each row, by turns; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only rows whose name contains one of these, and what they are compared with.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Instead: one runtime's cost per byte, from files of 1 MiB to one of 16 GiB.
    #[arg(long)]
    sizes: bool,
}

impl Args {
    fn names(&self, row: &Row) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.name.contains(only))
    }
}

/// What is served under the name that the course's server was written with.
const NAME: &str = "cachorro.jpg";
/// The smaller file, another of those names.
const SLOW_NAME: &str = "gato.jpg";
const INSIDE: &str = "SEMFIO_BENCH_INSIDE";
const MIB: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// curl from nginx.
    Web,
    /// The course's client from the course's server.
    Course,
    /// Ours in both roles, in the course's dialect.
    Plain,
    /// Ours, in frames, each group proved.
    Verified,
    /// The same, with a passphrase.
    Sealed,
    /// scp with this cipher.
    Scp(&'static str),
}

#[derive(Clone, Copy, PartialEq)]
enum To {
    Null,
    File,
}

struct Row {
    name: &'static str,
    kind: Kind,
    runtime: &'static str,
    to: To,
}

const fn row(name: &'static str, kind: Kind, runtime: &'static str, to: To) -> Row {
    Row { name, kind, runtime, to }
}

/// What OpenSSH takes unless it is told otherwise, and the cipher that we use.
const CIPHERS: [&str; 2] = ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"];

const ROWS: [Row; 18] = [
    row("curl < nginx, to /dev/null", Kind::Web, "", To::Null),
    row("verified mio, to /dev/null", Kind::Verified, "mio", To::Null),
    row("verified smol, to /dev/null", Kind::Verified, "smol", To::Null),
    row("verified blocking, to /dev/null", Kind::Verified, "blocking", To::Null),
    row("course's pair, to /dev/null", Kind::Course, "", To::Null),
    row("curl < nginx, to a file", Kind::Web, "", To::File),
    row("plain mio, to a file", Kind::Plain, "mio", To::File),
    row("plain smol, to a file", Kind::Plain, "smol", To::File),
    row("plain blocking, to a file", Kind::Plain, "blocking", To::File),
    row("verified mio, to a file", Kind::Verified, "mio", To::File),
    row("verified smol, to a file", Kind::Verified, "smol", To::File),
    row("verified blocking, to a file", Kind::Verified, "blocking", To::File),
    row("course's pair, to a file", Kind::Course, "", To::File),
    row("sealed mio, to a file", Kind::Sealed, "mio", To::File),
    row("sealed smol, to a file", Kind::Sealed, "smol", To::File),
    row("sealed blocking, to a file", Kind::Sealed, "blocking", To::File),
    row("scp, chacha20-poly1305, to a file", Kind::Scp(CIPHERS[0]), "", To::File),
    row("scp, aes128-gcm, to a file", Kind::Scp(CIPHERS[1]), "", To::File),
];

fn main() -> Result<()> {
    let args = Args::parse();
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let place = Place::new(&args)?;
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(place.path("")).output()?;
    println!(
        "in {} ({}), load {}",
        place.path("").display(),
        String::from_utf8_lossy(&kind.stdout).trim(),
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    if args.sizes { sizes(&args, &place) } else { compare(&args, &place) }
}

/// Runs this program again where only a loopback is.
fn enter() -> Result<()> {
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    // Mapped users where it must be: sshd wants to be root itself.
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| {
        use std::os::unix::fs::MetadataExt as _;
        it.uid() == 0
    });
    let mut command = Command::new("unshare");
    command.arg("--net").args((!is_root).then_some("--map-root-user"));
    command.args(["sh", "-c", script]).arg(std::env::current_exe()?).args(std::env::args().skip(1));
    let status = command.env(INSIDE, "1").status().context("unshare")?;
    ensure!(status.success(), "it failed inside its namespace, or namespaces are not allowed");
    Ok(())
}

fn compare(args: &Args, place: &Place) -> Result<()> {
    println!(
        "{} MiB, the course's pair {} MiB; medians of {} runs",
        args.mib, args.slow_mib, args.runs
    );
    place.fill(NAME, args.mib * MIB)?;
    place.fill(SLOW_NAME, args.slow_mib * MIB)?;
    let chosen: Vec<&Row> = ROWS
        .iter()
        .filter(|row| row.kind == Kind::Web || args.names(row))
        .filter(|row| match missing(args, row.kind) {
            Some(why) => {
                eprintln!("skipped: {}: {why}", row.name);
                false
            }
            None => true,
        })
        .collect();
    let mut results: Vec<[Vec<Outcome>; 2]> = chosen.iter().map(|_| Default::default()).collect();
    // The course's server cannot be started again within a minute of its end.
    let mut lasting = None;
    // By turns, so that what else the machine does falls on all of them.
    for run in 0..args.runs {
        for (row, [cached, cold]) in chosen.iter().zip(&mut results) {
            let start = || Session::start(args, place, row.kind, row.runtime);
            let mut fresh = None;
            let session = match if row.kind == Kind::Course { &mut lasting } else { &mut fresh } {
                Some(session) => session,
                none => none.insert(start()?),
            };
            let mut get =
                |is_checked| session.get(row.to, is_checked).with_context(|| row.name.to_owned());
            if matches!(row.kind, Kind::Verified | Kind::Sealed) {
                cold.push(get(run == 0)?);
            }
            cached.push(get(run == 0)?);
        }
    }
    println!(
        "{:<32} {:>10} {:>9} {:>8} {:>10} {:>10} {:>11} {:>11}",
        "", "GB/CPU-s", "x curl", "GB/s", "server s", "client s", "server MiB", "client MiB"
    );
    let mut curl = [f64::NAN; 2];
    for (row, [cached, cold]) in chosen.iter().zip(&results) {
        if row.kind == Kind::Web {
            curl[row.to as usize] = median(cached.iter().map(Outcome::rate).collect());
        }
        let cold = (!cold.is_empty()).then_some((", cold", cold));
        for (what, outcomes) in [("", cached)].into_iter().chain(cold) {
            let of = |f: fn(&Outcome) -> f64| median(outcomes.iter().map(f).collect());
            println!(
                "{:<32} {:>10.3} {:>9.2} {:>8.2} {:>10.3} {:>10.3} {:>11.1} {:>11.1}",
                format!(
                    "{}{what}",
                    row.name.replace(", to a file", "").replace("/dev/null", "null")
                ),
                of(Outcome::rate),
                of(Outcome::rate) / curl[row.to as usize],
                of(|o| o.bytes / o.wall / 1e9),
                of(|o| o.server * 1e9 / o.bytes),
                of(|o| o.client * 1e9 / o.bytes),
                of(|o| o.server_peak / MIB as f64),
                of(|o| o.client_peak / MIB as f64),
            );
        }
    }
    println!("server s, client s: CPU-seconds a GB");
    println!("load {}", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// What a byte costs, whatever the file: whole folders of small ones, as far as they fit, and
/// streams of large ones, which are holes.
fn sizes(args: &Args, place: &Place) -> Result<()> {
    println!(
        "{:<28} {:>12} {:>12} {:>12} {:>12}",
        "", "cached", "cold", "server MiB", "client MiB"
    );
    let all = [1, 16, 256, 1024].map(|mib| (mib, To::File));
    let streams = [256, 1024, 4096, 16_384].map(|mib| (mib, To::Null));
    for (mib, to) in all.into_iter().chain(streams) {
        let (mut cached, mut cold) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            let mut session = Session::start(args, place, Kind::Verified, "mio")?;
            if to == To::Null {
                File::create(place.path("imagens").join(NAME))?.set_len(mib * MIB)?;
                session.bytes = mib * MIB;
            } else {
                place.fill(NAME, mib * MIB)?;
                let folder = place.path("imagens").join("many");
                fs::create_dir(&folder)?;
                for at in 0..1024_u64.div_ceil(mib) {
                    let from = place.path("imagens").join(NAME);
                    fs::hard_link(from, folder.join(format!("{at}.jpg")))?;
                }
                session.name = "many".into();
                session.bytes = 1024_u64.div_ceil(mib) * mib * MIB;
            }
            cold.push(session.get(to, false)?);
            cached.push(session.get(to, false)?);
            drop(session);
            let _ = fs::remove_dir_all(place.path("imagens").join("many"));
        }
        let of = |of: &[Outcome], f: fn(&Outcome) -> f64| median(of.iter().map(f).collect());
        let what = if to == To::File { "files, 1 GiB of them" } else { "holes, to null" };
        println!(
            "{:<28} {:>12.3} {:>12.3} {:>12.1} {:>12.1}",
            format!("{mib} MiB {what}"),
            of(&cached, |o| 1.0 / o.rate()),
            of(&cold, |o| 1.0 / o.rate()),
            of(&cached, |o| o.server_peak / MIB as f64),
            of(&cached, |o| o.client_peak / MIB as f64),
        );
    }
    println!("cached, cold: CPU-seconds a GB, both sides; starting the client is in it");
    println!("load {}", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

/// Why there is no such row here.
fn missing(args: &Args, kind: Kind) -> Option<String> {
    let programs: &[&str] = match kind {
        Kind::Web => &["nginx", "curl"],
        Kind::Course => &["python3"],
        Kind::Plain | Kind::Verified | Kind::Sealed => &[],
        Kind::Scp(_) => &["/usr/sbin/sshd", "scp", "ssh-keygen"],
    };
    let is_there = |program: &str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        found.is_ok_and(|it| it.status.success())
    };
    if let Some(program) = programs.iter().find(|program| !is_there(program)) {
        return Some(format!("there is no {program}"));
    }
    let program = args.course.join("repositorio.py");
    (kind == Kind::Course && !program.exists())
        .then(|| format!("there is no {}", program.display()))
}

/// What one get cost.
struct Outcome {
    bytes: f64,
    wall: f64,
    server: f64,
    client: f64,
    server_peak: f64,
    client_peak: f64,
}

impl Outcome {
    /// GB per CPU-second of both sides.
    fn rate(&self) -> f64 {
        self.bytes / (self.server + self.client) / 1e9
    }
}

/// The folders of a bench; removed when dropped.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(args: &Args) -> Result<Self> {
        let folder = args.folder.join(format!("semfio-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let place = Self { folder: folder.canonicalize()? };
        for name in ["imagens", "downloads", "out"] {
            fs::create_dir(place.path(name))?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a file with a passphrase, which others may not read.
    fn passphrase(&self) -> Result<PathBuf> {
        let path = self.path("passphrase");
        fs::write(&path, "areia e mar\n")?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(path)
    }

    /// Makes a file of noise.
    fn fill(&self, name: &str, len: u64) -> Result<()> {
        let mut file = BufWriter::new(File::create(self.path("imagens").join(name))?);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..len / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.write_all(&state.to_le_bytes())?;
        }
        Ok(file.flush()?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A server that runs, and how it is asked.
struct Session<'a> {
    args: &'a Args,
    place: &'a Place,
    kind: Kind,
    runtime: &'a str,
    server: Server,
    name: String,
    bytes: u64,
}

impl<'a> Session<'a> {
    fn start(args: &'a Args, place: &'a Place, kind: Kind, runtime: &'a str) -> Result<Self> {
        let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let images = text(place.path("imagens"));
        let server = match kind {
            Kind::Web => {
                let config = place.path("nginx.conf");
                fs::write(&config, nginx(address, place))?;
                let error = text(place.path("nginx.log"));
                Server::start("nginx", &["-e", &error, "-c", &text(config)], address)?
            }
            Kind::Course => {
                for name in ["repositorio.py", "cliente.py"] {
                    if !place.path(name).exists() {
                        symlink(args.course.join(name).canonicalize()?, place.path(name))?;
                    }
                }
                let program = text(place.path("repositorio.py"));
                Server::start("python3", &[&program], SocketAddr::from(([127, 0, 0, 1], 8000)))?
            }
            Kind::Plain | Kind::Verified | Kind::Sealed => {
                let listen = address.to_string();
                let passphrase = text(place.passphrase()?);
                let sealed = ["--passphrase-file", &passphrase];
                let more = if kind == Kind::Sealed { &sealed[..] } else { &[] };
                let command = ["--runtime", runtime, "file", "serve", "--quiet", "--listen"];
                let program = text(args.semfio.clone());
                let command = [&command[..], &[&listen], more, &[&images]].concat();
                Server::start(&program, &command, address)?
            }
            Kind::Scp(_) => Server::start("/usr/sbin/sshd", &sshd(address, place)?, address)?,
        };
        let (name, mib) =
            if kind == Kind::Course { (SLOW_NAME, args.slow_mib) } else { (NAME, args.mib) };
        Ok(Self { args, place, kind, runtime, server, name: name.into(), bytes: mib * MIB })
    }

    /// Gets the file once; what came is looked at if it `is_checked`, and removed.
    fn get(&mut self, to: To, is_checked: bool) -> Result<Outcome> {
        let out = match self.kind {
            Kind::Course => self.place.path("downloads").join(&self.name),
            _ => self.place.path("out").join(&self.name),
        };
        if to == To::Null && self.kind == Kind::Course {
            symlink("/dev/null", &out)?;
        }
        let mut command = self.client(to, &out);
        command.stdout(Stdio::null()).stderr(File::create(self.place.path("err"))?);
        let (server, client) = (self.server.process_cpu()?, own_children_cpu()?);
        let begin = clock();
        let mut child = command.spawn().context("the client")?;
        if let Some(mut stdin) = child.stdin.take() {
            writeln!(stdin, "{}", self.name)?;
        }
        let mut client_peak = 0;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            client_peak = semfio_bench::peak(child.id()).unwrap_or(0).max(client_peak);
            std::thread::sleep(Duration::from_millis(5));
        };
        let wall = (clock() - begin).as_secs_f64();
        if !status.success() {
            bail!("{status}: {}", fs::read_to_string(self.place.path("err"))?);
        }
        // What it does once the client is gone is its work, too.
        std::thread::sleep(Duration::from_millis(100));
        let outcome = Outcome {
            bytes: self.bytes as f64,
            wall,
            server: (self.server.process_cpu()? - server).as_secs_f64(),
            client: (own_children_cpu()? - client).as_secs_f64(),
            server_peak: self.server.peak()? as f64,
            client_peak: client_peak as f64,
        };
        if to == To::File && out.is_file() {
            // The course's client saves the mark of the end, too.
            let mark = if self.kind == Kind::Course { b"OK".as_slice() } else { b"" };
            ensure!(out.metadata()?.len() == self.bytes + mark.len() as u64, "another length");
            if is_checked {
                same(&self.place.path("imagens").join(&self.name), &out, mark)?;
            }
        }
        if out.is_dir() {
            fs::remove_dir_all(&out)?
        } else {
            drop(fs::remove_file(&out))
        }
        Ok(outcome)
    }

    fn client(&self, to: To, out: &Path) -> Command {
        let address = self.server.address;
        let out = if to == To::Null { Path::new("-") } else { out };
        let mut command;
        match self.kind {
            Kind::Web => {
                command = Command::new("curl");
                let out = if to == To::Null { Path::new("/dev/null") } else { out };
                command
                    .args(["-sSf", "-o"])
                    .arg(out)
                    .arg(format!("http://{address}/{}", self.name));
            }
            Kind::Course => {
                command = Command::new("python3");
                command.arg(self.place.path("cliente.py")).stdin(Stdio::piped());
            }
            Kind::Plain | Kind::Verified | Kind::Sealed => {
                command = Command::new(&self.args.semfio);
                command.args(["--runtime", self.runtime, "file", "get"]).arg(address.to_string());
                // A folder goes into a folder.
                let out = if self.name == "many" { self.place.path("out") } else { out.into() };
                command.arg(&self.name).arg("-o").arg(out);
                command.args((self.kind == Kind::Plain).then_some("--course"));
                if self.kind == Kind::Sealed {
                    command.arg("--passphrase-file").arg(self.place.path("passphrase"));
                }
            }
            Kind::Scp(cipher) => {
                command = Command::new("scp");
                command.args(["-c", cipher]);
                command.args(["-q", "-P", &address.port().to_string(), "-i"]);
                command.arg(self.place.path("key"));
                for option in ["BatchMode=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR"] {
                    command.args(["-o", option]);
                }
                command.args(["-F", "/dev/null", "-o", "UserKnownHostsFile=/dev/null"]);
                let from = self.place.path("imagens").join(&self.name);
                command.arg(format!("{}:{}", address.ip(), from.display())).arg(out);
            }
        }
        command
    }
}

/// One worker, which is the process itself; sendfile.
fn nginx(address: SocketAddr, place: &Place) -> String {
    let folder = place.path("");
    let folder = folder.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
        events {{}}
        http {{ access_log off; sendfile on; server {{ listen {address}; root {folder}/imagens; }} }}"
    )
}

/// Keys of its own, and the arguments of a server that takes them and asks for nothing else.
fn sshd(address: SocketAddr, place: &Place) -> Result<[&'static str; 3]> {
    for name in ["host", "key"] {
        if !place.path(name).exists() {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.path(name));
            ensure!(command.status()?.success(), "ssh-keygen");
        }
    }
    // It separates its rights there.
    let _ = fs::create_dir("/run/sshd");
    let config = format!(
        "ListenAddress {address}\nHostKey {0}/host\nAuthorizedKeysFile {0}/key.pub\nPidFile none
        StrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n",
        place.folder.display()
    );
    let path = place.path("sshd_config");
    fs::write(&path, config)?;
    Ok(["-D", "-f", String::leak(path.to_string_lossy().into_owned())])
}

/// Whether what came is what was there, with `mark` behind it.
fn same(there: &Path, came: &Path, mark: &[u8]) -> Result<()> {
    let (mut there, mut came) = (File::open(there)?, File::open(came)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = there.read(&mut a)?;
        if n == 0 {
            break;
        }
        came.read_exact(&mut b[..n])?;
        ensure!(a[..n] == b[..n], "other content came");
    }
    let mut rest = Vec::new();
    came.read_to_end(&mut rest)?;
    ensure!(rest == mark, "something else came behind it");
    Ok(())
}
