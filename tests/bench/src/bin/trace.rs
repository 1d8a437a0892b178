//! How long a trace takes, beside traceroute, in the lab of `tests/lab`: wall time of the whole
//! command, its start included, by turns; medians and ratios of one run.
//!
//! | row | what is traced | what it is held to |
//! |---|---|---|
//! | -q1, -q3, -I, -T | a chain of 11 hops without delay | no more than traceroute takes |
//! | silent | 4 hops, of which the third never answers, less 4 hops that all do | twice the largest round trip and 10 ms |
//! | live | 6 hops, the last 40 ms away: until all have answered | twice that round trip and 20 ms |
//!
//! Wants root, for the lab.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin trace`

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use semfio_bench::{clock, median};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/netns-lab");

#[derive(Parser)]
struct Args {
    /// Our binary.
    #[arg(long, default_value = "target/dist/semfio")]
    semfio: PathBuf,
    /// Runs of each row, by turns; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Within the lab already.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.inside {
        return inside(&args);
    }
    let lab = Lab(format!("b{}", std::process::id()));
    ensure!(lab.script("up").status()?.success(), "there is no lab to be had");
    // So that a command's time is not that of entering the namespace.
    let status = lab
        .script("exec")
        .arg("client")
        .arg(std::env::current_exe()?)
        .arg("--inside")
        .arg("--semfio")
        .arg(args.semfio.canonicalize().context("--semfio")?)
        .args(["--runs", &args.runs.to_string()])
        .status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Gone with the value.
struct Lab(String);

impl Lab {
    fn script(&self, what: &str) -> Command {
        let mut command = Command::new(LAB);
        command.arg(what).env("LAB_PREFIX", &self.0).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.script("down").output();
    }
}

/// A way of asking.
struct Row {
    name: &'static str,
    ours: &'static str,
    theirs: &'static str,
}

const ROWS: [Row; 6] = [
    Row { name: "11 hops -q1", ours: "-q 1 10.77.11.2", theirs: "-q 1 10.77.11.2" },
    Row { name: "11 hops -q1 -n", ours: "-n -q 1 10.77.11.2", theirs: "-n -q 1 10.77.11.2" },
    Row { name: "11 hops -q3", ours: "10.77.11.2", theirs: "10.77.11.2" },
    Row { name: "11 hops -q3 IPv6", ours: "fd77:0:0:b::2", theirs: "fd77:0:0:b::2" },
    Row { name: "11 hops -q3 -I", ours: "-I 10.77.11.2", theirs: "-I 10.77.11.2" },
    Row { name: "11 hops -q3 -T", ours: "-T -p 7009 10.77.11.2", theirs: "-T -p 7009 10.77.11.2" },
];

fn inside(args: &Args) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("load {}", load.trim());
    for Row { name, ours, theirs } in ROWS {
        let (mut our, mut their) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            our.push(ms(took(semfio(args, ours))?));
            their.push(ms(took(traceroute(theirs))?));
        }
        let (our, their) = (median(our), median(their));
        println!("{name:17} {our:7.2} ms, traceroute {their:7.2} ms, ratio {:.2}", our / their);
    }
    let (mut our, mut their, mut largest) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..args.runs {
        let [silent, plain] = ["10.77.22.2", "10.77.4.2"];
        let cost = ms(took(semfio(args, silent))?) - ms(took(semfio(args, plain))?);
        our.push(cost);
        their.push(ms(took(traceroute(silent))?) - ms(took(traceroute(plain))?));
        largest = largest.max(round_trip(args, silent)?);
    }
    let (our, their, limit) = (median(our), median(their), largest * 2.0 + 10.0);
    println!(
        "silent hop        {our:7.2} ms, traceroute {their:7.2} ms, limit {limit:.2} ms, ratio to it {:.2}",
        our / limit
    );
    let mut live = Vec::new();
    for _ in 0..args.runs {
        let (table, largest) = live_table(args)?;
        live.push((table, largest * 2.0 + 20.0));
    }
    live.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    if let Some((table, limit)) = live.get(live.len() / 2) {
        println!(
            "live table        {table:7.2} ms, limit {limit:.2} ms, ratio to it {:.2}",
            table / limit
        );
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn semfio(args: &Args, arguments: &str) -> Command {
    let mut command = Command::new(&args.semfio);
    command.arg("trace").args(arguments.split(' '));
    command
}

fn traceroute(arguments: &str) -> Command {
    let mut command = Command::new("traceroute");
    command.args(arguments.split(' '));
    command
}

fn took(mut command: Command) -> Result<Duration> {
    let began = clock();
    let output = command.output()?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// The largest round trip that a trace sees, in ms.
fn round_trip(args: &Args, host: &str) -> Result<f64> {
    let output = semfio(args, &format!("--json {host}")).output()?;
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.lines().filter_map(field).fold(0.0, f64::max))
}

/// The round trip of an answer's record.
fn field(record: &str) -> Option<f64> {
    let digits = record.split("\"rtt_ns\":").nth(1)?.split([',', '}']).next()?;
    digits.parse::<f64>().ok().map(|nanos| nanos / 1e6)
}

/// When all hops to the far end of the wire have answered once, and the largest round trip.
fn live_table(args: &Args) -> Result<(f64, f64)> {
    let mut command = semfio(args, "--live --json 10.77.71.2");
    let began = clock();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let answer = first_table(&mut child);
    let took = began.elapsed();
    child.kill()?;
    child.wait()?;
    Ok((ms(took), answer?))
}

fn first_table(child: &mut Child) -> Result<f64> {
    let stdout = child.stdout.take().context("no output")?;
    let mut missing: Vec<String> = (1..=6).map(|hop| format!("\"hop\":{hop},")).collect();
    let mut largest = 0.0_f64;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(time) = field(&line).filter(|_| line.contains("\"type\":\"answer\"")) {
            missing.retain(|hop| !line.contains(hop));
            largest = largest.max(time);
        }
        if missing.is_empty() {
            return Ok(largest);
        }
    }
    anyhow::bail!("it ended before all had answered: {missing:?}")
}
