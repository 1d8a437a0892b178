//! `semfio ping` beside iputils and fping: how fast, and how true.
//!
//! Speed is measured on the loopback of a network namespace of its own, where nothing but the two
//! programs and the kernel takes time. With `--lab` the internet of `tests/lab` is set up, and what
//! is reported over its 11 hops is judged by a capture (`tcpdump`) at the first link, packet by packet.
//! Both want root.
//!
//! Each row: the programs by turns, a warm-up that does not count, the medians of five, their ratio:
//! by the clock, and by CPU time, which other work on the machine disturbs less.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin ping -- [--lab]`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use semfio_bench::{clock, median, own_children_cpu};

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
    /// Packets of a flood.
    #[arg(long, default_value_t = 200_000)]
    packets: u32,
    /// Echoes judged by a capture.
    #[arg(long, default_value_t = 500)]
    echoes: usize,
    /// Seconds between them. Below 0.01 iputils does not sleep while it waits, which keeps the
    /// processor awake: then the way itself takes less time.
    #[arg(long, default_value = "0.02")]
    interval: String,
    /// How true, in the lab, in place of how fast.
    #[arg(long)]
    lab: bool,
    /// One object a line.
    #[arg(long)]
    json: bool,
}

const INSIDE: &str = "SEMFIO_BENCH_INSIDE";
/// Eleven hops away.
const SERVER: &str = "10.77.11.2";

fn main() -> Result<()> {
    let args = Args::parse();
    let semfio = args.semfio.canonicalize().context("--semfio: build it first")?;
    if args.lab {
        return accuracy(&args, &semfio);
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    speed(&args, &semfio)
}

/// Runs this program again where only a loopback is, and everybody may ping.
fn enter() -> Result<()> {
    let script = "ip link set lo up && \
        echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).arg(std::env::current_exe()?);
    let status = command.args(std::env::args().skip(1)).env(INSIDE, "1").status();
    ensure!(status.context("unshare")?.success(), "it failed inside its namespace");
    Ok(())
}

/// Packets a second, and a CPU-second, of a command that sends so many.
fn rate(command: &mut Command, packets: u32) -> Result<[f64; 2]> {
    let (start, before) = (clock(), own_children_cpu()?);
    let output = command.stdin(Stdio::null()).output()?;
    let (took, cpu) = (start.elapsed(), own_children_cpu()?.saturating_sub(before));
    let printed = text(&output);
    ensure!(output.status.success(), "{command:?}: {printed}");
    // The kernel counts in ticks of 10 ms.
    let cpu = cpu.max(Duration::from_millis(10));
    Ok([took, cpu].map(|took| f64::from(packets) / took.as_secs_f64()))
}

fn speed(args: &Args, semfio: &Path) -> Result<()> {
    let packets = args.packets.to_string();
    let hosts: Vec<String> = (1..=254).map(|host| format!("127.0.0.{host}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let with = |common: &[&str], hosts: &[&str]| -> Vec<String> {
        common.iter().chain(hosts).map(|part| (*part).to_owned()).collect()
    };
    let here = ["127.0.0.1"];
    let many = 254 * 40;
    // What is asked of us, and of the other, and how many packets that are.
    let rows = [
        (
            "lock step, nothing printed",
            with(&["-q", "-f", "-c", &packets], &here),
            with(&["ping", "-q", "-f", "-c", &packets], &here),
            args.packets,
        ),
        (
            "lock step",
            with(&["-f", "-c", &packets], &here),
            with(&["ping", "-f", "-c", &packets], &here),
            args.packets,
        ),
        (
            "64 on their way, nothing printed",
            with(&["-q", "-f", "-l", "64", "-c", &packets], &here),
            with(&["ping", "-q", "-f", "-l", "64", "-c", &packets], &here),
            args.packets,
        ),
        (
            "64 on their way",
            with(&["-f", "-l", "64", "-c", &packets], &here),
            with(&["ping", "-f", "-l", "64", "-c", &packets], &here),
            args.packets,
        ),
        (
            "254 hosts, 40 each",
            with(&["-q", "-f", "-c", "40"], &hosts),
            with(&["fping", "-q", "-c", "40", "-p", "1", "-i", "0.001"], &hosts),
            many,
        ),
    ];
    let load = fs::read_to_string("/proc/loadavg")?;
    if !args.json {
        println!("load {}; packets a second, medians of {}", load.trim(), args.runs);
    }
    for (name, ours, theirs, packets) in rows {
        let [program, rest @ ..] = &theirs[..] else { bail!("no program") };
        if !is_there(program) {
            eprintln!("skipped: {name}: {program} is not installed");
            continue;
        }
        // Ours and theirs, each by the clock and by the CPU.
        let mut rates: [[Vec<f64>; 2]; 2] = Default::default();
        for run in 0..=args.runs {
            let mut us = Command::new(semfio);
            us.args(["ping", "--runtime", &args.runtime]).args(&ours);
            let both = [rate(&mut us, packets)?, rate(Command::new(program).args(rest), packets)?];
            // The first is to warm up.
            if run > 0 {
                let all = rates.iter_mut().flatten().zip(both.into_iter().flatten());
                all.for_each(|(rates, rate)| rates.push(rate));
            }
        }
        let [[us, our_cpu], [them, their_cpu]] = rates.map(|rates| rates.map(median));
        let (ratio, by_cpu) = (us / them, our_cpu / their_cpu);
        match args.json {
            true => println!(
                "{{\"row\":\"{name}\",\"anchor\":\"{program}\",\"ours\":{us:.0},\"theirs\":{them:.0},\
                 \"ratio\":{ratio:.3},\"ratio_by_cpu\":{by_cpu:.3},\"load\":\"{}\"}}",
                load.trim()
            ),
            false => println!(
                "{name}: {us:.0}, {program} {them:.0}, ratio {ratio:.2}; a CPU-second {by_cpu:.2}"
            ),
        }
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The lab, gone with the value.
struct Lab;

impl Lab {
    fn script(what: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/netns-lab"));
        command.args(what).env("LAB_PREFIX", format!("b{}", std::process::id()));
        command
    }

    fn up() -> Result<Self> {
        let lab = Self;
        let output = Self::script(&["up"]).output()?;
        ensure!(output.status.success(), "{}", text(&output));
        Ok(lab)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Self::script(&["down"]).output();
    }
}

fn accuracy(args: &Args, semfio: &Path) -> Result<()> {
    for program in ["tcpdump", "ping"] {
        if !is_there(program) {
            eprintln!("skipped: {program} is not installed");
            return Ok(());
        }
    }
    let _lab = Lab::up()?;
    let semfio = semfio.display().to_string();
    let count = args.echoes.to_string();
    let asked = ["-c", &count, "-i", &args.interval, SERVER];
    let ours = [&[&semfio, "ping", "--runtime", &args.runtime, "--json"][..], &asked].concat();
    let theirs = [&["ping", "-n"][..], &asked].concat();
    let mut found: [[Vec<f64>; 4]; 2] = Default::default();
    let mut kernel = Vec::new();
    for _ in 0..args.runs {
        for (place, command) in [&ours, &theirs].into_iter().enumerate() {
            let (printed, true_trips) = captured(command)?;
            let trips = if place == 0 { reported(&printed) } else { printed_by_iputils(&printed) };
            ensure!(trips.len() == args.echoes, "{} of {} echoes", trips.len(), args.echoes);
            let mut errors = Vec::new();
            for (number, (trip, _)) in &trips {
                if let Some(seen) = true_trips.get(number) {
                    errors.push(trip - seen);
                }
            }
            ensure!(errors.len() * 1_000 >= trips.len() * 999, "{} were captured", errors.len());
            let all: Vec<f64> = trips.values().map(|(trip, _)| *trip).collect();
            let bias = quantile(errors.clone(), 0.5);
            errors.iter_mut().for_each(|error| *error = error.abs());
            let (half, most) = (quantile(errors.clone(), 0.5), quantile(errors, 0.99));
            let figures = [half, most, quantile(all, 0.5), bias];
            found[place].iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
            if place == 0 {
                let good = trips.values().filter(|(_, kernel)| *kernel).count();
                kernel.push(good as f64 / trips.len() as f64);
            }
        }
    }
    let load = fs::read_to_string("/proc/loadavg")?;
    let [us, them] = found.map(|figures| figures.map(median));
    let (ratio, kernel) = (us[2] / them[2], median(kernel));
    if args.json {
        println!(
            "{{\"row\":\"accuracy\",\"error_p50_us\":{:.3},\"error_p99_us\":{:.3},\"kernel\":{kernel:.4},\
             \"p50_us\":{:.1},\"iputils_p50_us\":{:.1},\"bias_us\":{:.3},\"ratio\":{ratio:.3},\
             \"iputils_error_p50_us\":{:.3},\"iputils_error_p99_us\":{:.3},\"load\":\"{}\"}}",
            us[0],
            us[1],
            us[2],
            them[2],
            us[3],
            them[0],
            them[1],
            load.trim()
        );
        return Ok(());
    }
    println!("load {}; medians of {} runs of {count} echoes, µs", load.trim(), args.runs);
    println!(
        "ours: off the capture by p50 {:.2}, p99 {:.2}; p50 {:.1}, bias {:.2}",
        us[0], us[1], us[2], us[3]
    );
    println!("iputils: off by p50 {:.2}, p99 {:.2}; p50 {:.1}", them[0], them[1], them[2]);
    println!("kernel/kernel: {:.2} %; p50 ours : iputils = {ratio:.2}", kernel * 100.0);
    Ok(())
}

/// What a command in the client prints, and the round trips of its echoes as they crossed the first
/// link, by sequence, in µs.
fn captured(command: &[&str]) -> Result<(String, BTreeMap<u16, f64>)> {
    let file = std::env::temp_dir().join(format!("semfio-ping-{}.pcap", std::process::id()));
    let path = file.display().to_string();
    let mut capture = Lab::script(&["exec", "client", "tcpdump", "-i", "l1", "-w", &path]);
    capture.args(["--time-stamp-precision=nano", "-U", "-B", "8192", "-s", "96", "-Z", "root"]);
    let mut capture = capture.args(["icmp"]).stderr(Stdio::null()).spawn()?;
    // Its header is there once it listens.
    let mut waits = 0;
    while fs::metadata(&file).map_or(0, |it| it.len()) < 24 {
        waits += 1;
        ensure!(waits < 500, "tcpdump does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = Lab::script(&["exec", "client"]).args(command).output();
    // It is handed what it captures once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let stopped = Command::new("kill").arg(capture.id().to_string()).status();
    capture.wait()?;
    stopped?;
    let trips = trips(&fs::read(&file)?);
    fs::remove_file(&file)?;
    Ok((text(&output?), trips.context("not a capture")?))
}

/// Pairs requests and replies of a capture of Ethernet with stamps of nanoseconds.
fn trips(capture: &[u8]) -> Option<BTreeMap<u16, f64>> {
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(capture.get(at..at + 4)?.try_into().ok()?))
    };
    if word(0)? != NANOSECONDS {
        return None;
    }
    let (mut at, mut left, mut trips) = (24, BTreeMap::new(), BTreeMap::new());
    while let (Some(seconds), Some(nanos), Some(size)) = (word(at), word(at + 4), word(at + 8)) {
        let stamp = u64::from(seconds) * 1_000_000_000 + u64::from(nanos);
        let frame = capture.get(at + 16..at + 16 + usize::try_from(size).ok()?)?;
        at += 16 + frame.len();
        let header = usize::from(frame.get(14)? & 0xf) * 4;
        let icmp = frame.get(14 + header..)?;
        let sequence = u16::from_be_bytes(icmp.get(6..8)?.try_into().ok()?);
        match icmp.first()? {
            8 => drop(left.entry(sequence).or_insert(stamp)),
            0 => {
                let sent: u64 = *left.get(&sequence)?;
                trips.entry(sequence).or_insert(stamp.saturating_sub(sent) as f64 / 1_000.0);
            }
            _ => {}
        }
    }
    Some(trips)
}

/// Round trips in µs by sequence, and whether both clocks were the kernel's.
fn reported(printed: &str) -> BTreeMap<u16, (f64, bool)> {
    let number = |line: &str, field: &str| -> Option<f64> {
        let (_, rest) = line.split_once(&format!("\"{field}\":"))?;
        rest.split([',', '}']).next()?.parse().ok()
    };
    let replies = printed.lines().filter(|line| line.contains("\"type\":\"reply\""));
    let of = |line: &str| {
        let kernel = line.contains("\"clocks\":\"kernel/kernel\"");
        Some((number(line, "seq")? as u16, (number(line, "rtt_ns")? / 1_000.0, kernel)))
    };
    replies.filter_map(of).collect()
}

fn printed_by_iputils(printed: &str) -> BTreeMap<u16, (f64, bool)> {
    let of = |line: &str| {
        let (_, rest) = line.split_once("icmp_seq=")?;
        let sequence = rest.split(' ').next()?.parse().ok()?;
        let millis: f64 = rest.split_once("time=")?.1.split(' ').next()?.parse().ok()?;
        Some((sequence, (millis * 1_000.0, false)))
    };
    printed.lines().filter_map(of).collect()
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
