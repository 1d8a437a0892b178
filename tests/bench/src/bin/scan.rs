//! `semfio scan` beside nc and nmap: all 65,535 ports of the loopback in a network namespace of its own,
//! of which exactly two are open. Wants root.
//!
//! Each row: the programs by turns, a warm-up that does not count, the medians of five, their ratio.
//! Then our scans again, twenty times: false is what was told as open and is not, missed what is open and
//! was not told.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin scan`

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use semfio_bench::{clock, median};

#[derive(Parser)]
struct Args {
    /// Our binary.
    #[arg(long, default_value = "target/dist/semfio")]
    semfio: PathBuf,
    /// Our runtime.
    #[arg(long, default_value = "mio")]
    runtime: String,
    /// Runs of each program, by turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Runs of ours whose answers are compared with what is there.
    #[arg(long, default_value_t = 20)]
    judged: usize,
    /// One object a line.
    #[arg(long)]
    json: bool,
}

const INSIDE: &str = "SEMFIO_BENCH_INSIDE";

/// What is open; the second is one that the system could choose to connect from.
const OPEN: [u16; 2] = [7007, 50_123];

/// What is asked of us, and of the other, and how much of its time we may take.
const ROWS: [(&str, &[&str], &[&str], f64); 3] = [
    ("connect, beside nc -z", &[], &["nc", "-z", "127.0.0.1", "1-65535"], 0.7),
    ("connect, beside nmap -sT", &[], &["nmap", "-n", "-Pn", "-sT", "-p-", "127.0.0.1"], 0.5),
    ("--syn, beside nmap -sS", &["--syn"], &["nmap", "-n", "-Pn", "-sS", "-p-", "127.0.0.1"], 0.8),
];

fn main() -> Result<()> {
    let args = Args::parse();
    let semfio = args.semfio.canonicalize().context("--semfio: build it first")?;
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let listen = |port| TcpListener::bind(("127.0.0.1", port));
    let _held = OPEN.into_iter().map(listen).collect::<std::io::Result<Vec<_>>>()?;
    for (what, ours, theirs, goal) in ROWS {
        let mut us = scan(&semfio, &args.runtime);
        us.args(ours);
        let mut them = Command::new(theirs[0]);
        them.args(&theirs[1..]);
        let mut times = [Vec::new(), Vec::new()];
        for run in 0..=args.runs {
            for (command, times) in [&mut us, &mut them].into_iter().zip(&mut times) {
                let took = time(command)?;
                if run > 0 {
                    times.push(took.as_secs_f64());
                }
            }
        }
        let [us, them] = times.map(median);
        let ratio = us / them;
        if args.json {
            println!(
                "{{\"row\":\"{what}\",\"runtime\":\"{}\",\"ours_s\":{us:.4},\"theirs_s\":{them:.4},\
                 \"ratio\":{ratio:.4},\"goal\":{goal}}}",
                args.runtime
            );
        } else {
            println!("{what:26} {us:7.3} s  {them:7.3} s  {ratio:6.3} (goal {goal})");
        }
    }
    for method in [&[][..], &["--syn"]] {
        let (mut wrong, mut missed) = (0, 0);
        for _ in 0..args.judged {
            let found =
                found(scan(&semfio, &args.runtime).args(["--json", "--open"]).args(method))?;
            wrong += found.iter().filter(|port| !OPEN.contains(port)).count();
            missed += OPEN.iter().filter(|port| !found.contains(port)).count();
        }
        let (runs, method) = (args.judged, method.first().unwrap_or(&"connect"));
        if args.json {
            println!(
                "{{\"judged\":\"{method}\",\"runs\":{runs},\"false\":{wrong},\"missed\":{missed}}}"
            );
        } else {
            println!("{method}: {wrong} false, {missed} missed in {runs} runs");
        }
    }
    Ok(())
}

/// Runs this program again where only a loopback is.
fn enter() -> Result<()> {
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).arg(std::env::current_exe()?);
    let status = command.args(std::env::args().skip(1)).env(INSIDE, "1").status();
    ensure!(status.context("unshare")?.success(), "it failed inside its namespace");
    Ok(())
}

fn scan(semfio: &Path, runtime: &str) -> Command {
    let mut command = Command::new(semfio);
    command.args(["scan", "--runtime", runtime, "127.0.0.1", "-p-"]);
    command
}

fn time(command: &mut Command) -> Result<Duration> {
    let start = clock();
    let output = command.stdin(Stdio::null()).output()?;
    let took = start.elapsed();
    // nc ends with a failure where its last port is closed.
    ensure!(output.status.code().is_some(), "{command:?} was killed");
    Ok(took)
}

/// The ports of the records.
fn found(command: &mut Command) -> Result<Vec<u16>> {
    let output = command.stdin(Stdio::null()).output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(printed.contains("\"type\":\"summary\""), "{command:?}: {printed}");
    let ports = printed.lines().filter(|line| line.contains("\"type\":\"port\""));
    ports
        .map(|line| {
            let (_, rest) = line.split_once("\"port\":").context("no port")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().context("no number")
        })
        .collect()
}
