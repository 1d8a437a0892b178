//! A static server beside nginx and Python's: requests a second, and a CPU-second of the server; large
//! files; how late answers are at half of nginx's load; what idle connections cost.
//!
//! Server and generator have a processor each, and every row says how busy both were: where the
//! generator was busier, the rate is a lower bound, and the one per CPU-second of the server tells more.
//! The generator is wrk, and for the lateness our own, since wrk has no fixed rate: an open loop, in
//! which a request that is due and cannot be sent counts from when it was due.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin http`

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use semfio_bench::{Server, clock, median, own_children_cpu};

#[derive(Parser)]
struct Args {
    /// Our binary.
    #[arg(long, default_value = "target/dist/semfio")]
    semfio: PathBuf,
    /// Where files are served from.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Seconds of each run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Runs of each row, by turns; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Connections that ask.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections that are idle.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// The processors of the server and of the generator.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// Only servers whose name contains one of these, and nginx.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these measures: small, pipelined, large, late, idle.
    #[arg(long, value_delimiter = ',')]
    measure: Vec<String>,
}

/// Whom we ask.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// One worker; with open_file_cache or without.
    Nginx { cache: bool },
    /// Ours, on this runtime.
    Semfio(&'static str),
    /// Python's http.server, a thread a connection.
    Python,
}

impl Kind {
    fn is_loop(self) -> bool {
        !matches!(self, Self::Python | Self::Semfio("blocking"))
    }
}

const SERVERS: [(&str, Kind); 6] = [
    ("nginx", Kind::Nginx { cache: false }),
    ("nginx, open_file_cache", Kind::Nginx { cache: true }),
    ("semfio, mio", Kind::Semfio("mio")),
    ("semfio, smol", Kind::Semfio("smol")),
    ("semfio, blocking", Kind::Semfio("blocking")),
    ("python http.server", Kind::Python),
];

const SMALL: &str = "small.txt";
const LARGE: &str = "large.bin";
const LARGE_LEN: usize = 100 << 20;

/// Sixteen requests in one write.
const PIPELINED: &str = "\
init = function(args)
  local all = {}
  for i = 1, 16 do all[i] = wrk.format(nil) end
  whole = table.concat(all)
end
request = function() return whole end
";

fn main() -> Result<()> {
    let args = Args::parse();
    let [server, client] = args.cores[..] else { bail!("--cores takes two") };
    let place = Place::new(&args)?;
    // The generator of ours is this process; those it starts are put where they belong.
    pin(&["-p", "-c", &client.to_string(), &std::process::id().to_string()])?;
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: usual.maximum, ..usual })?;
    println!(
        "{} connections, {} s a run, medians of {}; server on core {server}, client on {client}; load {}",
        args.connections,
        args.seconds,
        args.runs,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    let bench = Bench { args: &args, place: &place, server, client };
    let servers: Vec<_> = SERVERS.iter().filter(|(name, kind)| bench.has(name, *kind)).collect();
    let asked =
        |measure: &str| args.measure.is_empty() || args.measure.iter().any(|it| it == measure);
    let mut half = None;
    for (measure, what, script) in [
        ("small", "1 KiB, keep-alive", None),
        ("pipelined", "1 KiB, 16 requests in one write", Some(PIPELINED)),
    ] {
        if asked(measure) || (measure == "small" && asked("late")) {
            let wall = bench.small(what, &servers, script)?;
            half = half.or(Some(wall / 2.0));
        }
    }
    if asked("large") {
        bench.large(&servers)?;
    }
    // Threads for each connection are not meant for these.
    let loops: Vec<_> = servers.into_iter().filter(|row| row.1.is_loop()).collect();
    if let Some(rate) = half.filter(|_| asked("late")) {
        bench.late(&loops, rate)?;
    }
    if asked("idle") {
        bench.idle(&loops)?;
    }
    println!("load {}", fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    place: &'a Place,
    server: usize,
    client: usize,
}

/// One run of wrk.
struct Load {
    requests: f64,
    /// What was received.
    bytes: f64,
    wall: f64,
    server: f64,
    client: f64,
}

type Row = (&'static str, Kind);

impl Bench<'_> {
    fn has(&self, name: &str, kind: Kind) -> bool {
        let args = self.args;
        let wanted = args.only.is_empty() || args.only.iter().any(|only| name.contains(only));
        let program = match kind {
            Kind::Nginx { .. } => "nginx".into(),
            Kind::Semfio(_) => self.args.semfio.display().to_string(),
            Kind::Python => "python3".into(),
        };
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", &program]).output();
        let is_there = found.is_ok_and(|it| it.status.success());
        if wanted && !is_there {
            eprintln!("skipped: {name}: there is no {program}");
        }
        is_there && (wanted || matches!(kind, Kind::Nginx { .. }))
    }

    fn start(&self, kind: Kind) -> Result<Server> {
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let core = self.server.to_string();
        let folder = text(&self.place.path("www"));
        let (listen, port) = (address.to_string(), address.port().to_string());
        let semfio = text(&self.args.semfio);
        let config = text(&self.place.nginx(address, kind)?);
        let log = text(&self.place.path("nginx.log"));
        let command: Vec<&str> = match kind {
            Kind::Nginx { .. } => vec!["nginx", "-e", &log, "-c", &config],
            Kind::Semfio(runtime) => vec![
                &semfio,
                "--runtime",
                runtime,
                "--quiet",
                "http",
                "serve",
                "--shards",
                "1",
                "--listen",
                &listen,
                &folder,
            ],
            Kind::Python => vec![
                "python3",
                "-m",
                "http.server",
                &port,
                "--bind",
                "127.0.0.1",
                "--protocol",
                "HTTP/1.1",
                "--directory",
                &folder,
            ],
        };
        let args = [&["-c", &core][..], &command].concat();
        Ok(Server::start("taskset", &args, address)?)
    }

    fn wrk(
        &self,
        server: &Server,
        path: &str,
        connections: usize,
        script: Option<&str>,
    ) -> Result<Load> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.client.to_string(), "wrk", "-t1"]);
        command.args([format!("-c{connections}"), format!("-d{}s", self.args.seconds)]);
        if let Some(script) = script {
            let file = self.place.path("script.lua");
            fs::write(&file, script)?;
            command.arg("-s").arg(file);
        }
        command.arg(format!("http://{}/{path}", server.address));
        let (server_before, client_before) = (server.process_cpu()?, own_children_cpu()?);
        let began = clock();
        let output = command.output().context("wrk")?;
        let wall = began.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {}", String::from_utf8_lossy(&output.stderr));
        ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk: {said}");
        // "  264391 requests in 3.00s, 330.06MB read"
        let line = said.lines().find(|line| line.contains(" requests in "));
        let requests = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        let read = line.and_then(|line| line.rsplit(' ').nth(1)).and_then(bytes);
        Ok(Load {
            requests: requests.context("what wrk says")?,
            bytes: read.context("what wrk says it has read")?,
            wall,
            server: (server.process_cpu()? - server_before).as_secs_f64(),
            client: (own_children_cpu()? - client_before).as_secs_f64(),
        })
    }

    /// Gives nginx's requests a second.
    fn small(&self, what: &str, servers: &[&Row], script: Option<&str>) -> Result<f64> {
        let loads = self
            .by_turns(servers, |server| self.wrk(server, SMALL, self.args.connections, script))?;
        println!("\n{what}");
        self.table(servers, &loads, "requests", |it| it.requests)
    }

    fn large(&self, servers: &[&Row]) -> Result<()> {
        let loads = self.by_turns(servers, |server| self.wrk(server, LARGE, 4, None))?;
        println!("\n100 MiB, 4 connections");
        self.table(servers, &loads, "GB", |it| it.bytes / 1e9).map(drop)
    }

    fn by_turns<T>(
        &self,
        servers: &[&Row],
        mut run: impl FnMut(&Server) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut all: Vec<Vec<T>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.args.runs {
            for ((name, kind), results) in servers.iter().zip(&mut all) {
                let server = self.start(*kind).with_context(|| (*name).to_owned())?;
                results.push(run(&server).with_context(|| (*name).to_owned())?);
            }
        }
        Ok(all)
    }

    fn table(
        &self,
        servers: &[&Row],
        loads: &[Vec<Load>],
        of: &str,
        done: fn(&Load) -> f64,
    ) -> Result<f64> {
        println!(
            "| server | {of}/s | : nginx | {of} a CPU-second | : nginx | server busy | generator busy |\n\
             |---|---|---|---|---|---|---|"
        );
        let mut nginx = None;
        for ((name, _), loads) in servers.iter().zip(loads) {
            let of = |f: &dyn Fn(&Load) -> f64| median(loads.iter().map(f).collect());
            let wall = of(&|it| done(it) / it.wall);
            let cpu = of(&|it| done(it) / it.server);
            let (nginx_wall, nginx_cpu) = *nginx.get_or_insert((wall, cpu));
            let digits = if wall > 1000.0 { 0 } else { 2 };
            println!(
                "| {name} | {wall:.digits$} | {:.2} | {cpu:.digits$} | {:.2} | {:.2} | {:.2} |",
                wall / nginx_wall,
                cpu / nginx_cpu,
                of(&|it| it.server / it.wall),
                of(&|it| it.client / it.wall),
            );
        }
        Ok(nginx.context("no nginx")?.0)
    }

    fn late(&self, servers: &[&Row], rate: f64) -> Result<()> {
        let lates = self.by_turns(servers, |server| {
            open_loop(server.address, rate, self.args.connections, self.args.seconds)
        })?;
        println!("\n1 KiB, {rate:.0} requests a second, half of what nginx answers");
        println!("| server | median ms | p99 ms | : nginx | p99.9 ms |\n|---|---|---|---|---|");
        let mut nginx = None;
        for ((name, _), lates) in servers.iter().zip(&lates) {
            let of = |at: usize| median(lates.iter().map(|it| it[at]).collect()) * 1e3;
            let p99 = of(1);
            let nginx = *nginx.get_or_insert(p99);
            println!("| {name} | {:.3} | {p99:.3} | {:.2} | {:.3} |", of(0), p99 / nginx, of(2));
        }
        Ok(())
    }

    fn idle(&self, servers: &[&Row]) -> Result<()> {
        let memory = self.by_turns(servers, |server| {
            let before = server.resident()?;
            let held = idle(server.address, self.args.idle)?;
            let with = server.resident()?;
            drop(held);
            Ok([before as f64, with as f64])
        })?;
        println!("\n{} idle connections, each after one request", self.args.idle);
        println!("| server | MiB without | MiB with | bytes a connection |\n|---|---|---|---|");
        for ((name, _), memory) in servers.iter().zip(&memory) {
            let of = |at: usize| median(memory.iter().map(|it| it[at]).collect());
            let each = (of(1) - of(0)) / self.args.idle as f64;
            println!("| {name} | {:.1} | {:.1} | {each:.0} |", of(0) / MIB, of(1) / MIB);
        }
        Ok(())
    }
}

const MIB: f64 = (1 << 20) as f64;

fn request() -> Vec<u8> {
    format!("GET /{SMALL} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// One of the generator's connections.
struct Asker {
    stream: TcpStream,
    heard: Vec<u8>,
    /// When what it waits for was due, in seconds.
    due: f64,
}

impl Asker {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), heard: Vec::new(), due: 0.0 })
    }

    /// Reads; whether an answer is whole.
    fn hear(&mut self) -> Result<bool> {
        let mut read = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut read) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(n) => self.heard.extend_from_slice(&read[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(head) = memchr::memmem::find(&self.heard, b"\r\n\r\n") else {
            return Ok(false);
        };
        let text = String::from_utf8_lossy(&self.heard[..head]).to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|it| it.trim().parse().ok()).context("its length")?;
        let whole = self.heard.len() >= head + 4 + length;
        if whole {
            self.heard.clear();
        }
        Ok(whole)
    }
}

/// Asks at a fixed rate, whether there are answers or not: median, p99 and p99.9 of the seconds
/// from when a request was due to its answer.
fn open_loop(address: SocketAddr, rate: f64, connections: usize, seconds: u64) -> Result<[f64; 3]> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut askers = Vec::new();
    for token in 0..connections {
        let mut asker = Asker::connect(address)?;
        poll.registry().register(&mut asker.stream, Token(token), Interest::READABLE)?;
        askers.push(asker);
    }
    let mut free: VecDeque<usize> = (0..connections).collect();
    let mut waiting = VecDeque::new();
    let all = (rate * seconds as f64) as u64;
    let (mut due, mut late) = (0, Vec::with_capacity(all as usize));
    let (request, began) = (request(), clock());
    while (late.len() as u64) < all {
        let now = began.elapsed().as_secs_f64();
        ensure!(now < seconds as f64 + 10.0, "the server does not keep up");
        while due < all && due as f64 / rate <= now {
            waiting.push_back(due as f64 / rate);
            due += 1;
        }
        while let (Some(_), Some(_)) = (waiting.front(), free.front()) {
            let (at, token) = (waiting.pop_front().unwrap_or(now), free.pop_front().unwrap_or(0));
            askers[token].due = at;
            ensure!(askers[token].stream.write(&request)? == request.len(), "a full socket");
        }
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let Token(token) = event.token();
            if askers[token].hear()? {
                late.push(began.elapsed().as_secs_f64() - askers[token].due);
                free.push_back(token);
            }
        }
    }
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    Ok([at(0.5), at(0.99), at(0.999)])
}

/// Connections that were answered once each.
fn idle(address: SocketAddr, connections: usize) -> Result<Vec<Asker>> {
    let request = request();
    let mut askers = Vec::new();
    for _ in 0..connections {
        let mut asker = Asker::connect(address)?;
        asker.stream.write_all(&request)?;
        while !asker.hear()? {
            std::thread::sleep(Duration::from_micros(20));
        }
        asker.heard = Vec::new();
        askers.push(asker);
    }
    Ok(askers)
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
        fs::create_dir(place.path("www"))?;
        fs::write(place.path("www").join(SMALL), "0123456789abcde\n".repeat(64))?;
        fs::write(place.path("www").join(LARGE), vec![b'x'; LARGE_LEN])?;
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn nginx(&self, address: SocketAddr, kind: Kind) -> Result<PathBuf> {
        let place = self.folder.display();
        let cache = match kind {
            Kind::Nginx { cache: true } => "open_file_cache max=1000 inactive=60s;",
            _ => "",
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path {place}/{of};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 30000;
             pid {place}/nginx.pid; error_log {place}/nginx.log;
             events {{ worker_connections 20000; }}
             http {{ access_log off; sendfile on; {cache} {temporary}
               keepalive_requests 1000000000; keepalive_timeout 3600;
               server {{ listen {address}; root {place}/www; }} }}"
        );
        let path = self.path("nginx.conf");
        fs::write(&path, config)?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Of "330.06MB".
fn bytes(text: &str) -> Option<f64> {
    let at = text.find(|letter: char| letter.is_alphabetic())?;
    let unit = match text.get(at..)? {
        "B" => 0,
        "KB" => 1,
        "MB" => 2,
        "GB" => 3,
        _ => return None,
    };
    Some(text.get(..at)?.parse::<f64>().ok()? * 1024_f64.powi(unit))
}

fn pin(args: &[&str]) -> Result<()> {
    let done = Command::new("taskset").args(args).output().context("taskset")?;
    ensure!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
