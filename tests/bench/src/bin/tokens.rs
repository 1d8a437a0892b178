//! Fernet tokens: ours, the `fernet` crate's, and Python's `cryptography`, one thread, in one run.
//!
//! `cargo run --profile dist -p semfio-bench --bin tokens -- [--runs N] [--seconds S] [--only OCTETS] [--no-python]`

use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use fernet::Fernet;
use semfio_bench::{median, own_cpu};
use semfio_keysync::{Key, Policy, token_len};
use semfio_machine::UnixTime;

#[derive(Parser)]
struct Args {
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// One size of plaintext alone.
    #[arg(long)]
    only: Option<usize>,
    /// Leave Python out.
    #[arg(long)]
    no_python: bool,
}

const AT: u64 = 1_700_000_000;

/// Octets of plaintext.
const SIZES: [usize; 5] = [2, 31, 1 << 10, 64 << 10, 1 << 20];

/// Seals and opens as `argv` says, and prints how many of each a CPU-second.
const PYTHON: &str = "
import sys, time
from cryptography.fernet import Fernet
key, size, seconds, at = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
fernet, text = Fernet(key), b'x' * size
token = fernet.encrypt_at_time(text, at)
def rate(call):
    done, start, used, batch = 0, time.process_time(), 0.0, 1
    while used < seconds:
        for _ in range(batch):
            call()
        done, used, batch = done + batch, time.process_time() - start, min(batch * 2, 4096)
    return done / used
print(rate(lambda: fernet.encrypt_at_time(text, at)), rate(lambda: fernet.decrypt_at_time(token, 60, at)))
";

/// Calls a CPU-second.
fn rate(seconds: f64, mut call: impl FnMut()) -> anyhow::Result<f64> {
    let (start, mut done, mut batch) = (own_cpu()?, 0_u64, 1_u64);
    loop {
        (0..batch).for_each(|_| call());
        done += batch;
        batch = (batch * 2).min(4_096);
        let used = own_cpu()? - start;
        if used >= Duration::from_secs_f64(seconds) {
            return Ok(done as f64 / used.as_secs_f64());
        }
    }
}

/// Seals and opens a CPU-second.
type Rates = (f64, f64);

fn ours(key: &Key, size: usize, seconds: f64) -> anyhow::Result<Rates> {
    let now = UnixTime::from_secs(AT);
    let plaintext = vec![b'x'; size];
    let mut token = Vec::with_capacity(token_len(size));
    let mut n = 0_u128;
    let seals = rate(seconds, || {
        n += 1;
        token.clear();
        key.seal(now, black_box(n).to_be_bytes(), black_box(&plaintext), &mut token);
        black_box(&token);
    })?;
    let mut opened = Vec::with_capacity(token.len() / 4 * 3);
    let policy = Policy::STRICT.with_ttl(Duration::from_secs(60));
    let mut right = true;
    let opens = rate(seconds, || {
        opened.clear();
        right &= key.open(&policy, now, black_box(&token), &mut opened).is_ok();
        black_box(&opened);
    })?;
    ensure!(right && opened == plaintext, "a token did not open");
    Ok((seals, opens))
}

fn theirs(key: &Fernet, size: usize, seconds: f64) -> anyhow::Result<Rates> {
    let plaintext = vec![b'x'; size];
    let mut token = String::new();
    let seals = rate(seconds, || token = key.encrypt_at_time(black_box(&plaintext), AT))?;
    let mut opened = Ok(Vec::new());
    let opens = rate(seconds, || opened = key.decrypt_at_time(black_box(&token), Some(60), AT))?;
    ensure!(opened.is_ok_and(|opened| opened == plaintext), "a token did not open");
    Ok((seals, opens))
}

fn python(key: &str, size: usize, seconds: f64) -> anyhow::Result<Rates> {
    let mut child = Command::new("python3")
        .args(["-", key, &size.to_string(), &seconds.to_string(), &AT.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(PYTHON.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let (seals, opens) = text.trim().split_once(' ').context("python3 with cryptography")?;
    Ok((seals.parse()?, opens.parse()?))
}

/// A rate as people read it.
fn shown(rate: f64) -> String {
    match rate {
        1e6.. => format!("{:.2} M", rate / 1e6),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let key = Key::new(std::array::from_fn(|at| at as u8));
    let text = key.to_text();
    let fernet = Fernet::new(&text).context("a key")?;
    println!(
        "tokens a CPU-second, one thread, medians of {} runs; ratios ours : theirs",
        args.runs
    );
    println!("| octets | | ours | fernet crate | ratio | Python | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for size in args.only.map_or(SIZES.to_vec(), |only| vec![only]) {
        let mut runs: [Vec<Rates>; 3] = Default::default();
        // In turn, so that what else the machine does meets all of them.
        for _ in 0..args.runs {
            runs[0].push(ours(&key, size, args.seconds)?);
            runs[1].push(theirs(&fernet, size, args.seconds)?);
            if !args.no_python {
                runs[2].push(python(&text, size, args.seconds)?);
            }
        }
        for (what, take) in [("seal", (|run| run.0) as fn(&Rates) -> f64), ("open", |run| run.1)] {
            let [ours, fernet, python] =
                runs.each_ref().map(|runs| median(runs.iter().map(take).collect()));
            let mib = ours * size as f64 / 1e6;
            print!("| {size} | {what} | {} ({mib:.0} MB/s) ", shown(ours));
            for other in [fernet, python] {
                print!("| {} | {:.2} ", shown(other), ours / other);
            }
            println!("|");
        }
    }
    Ok(())
}
