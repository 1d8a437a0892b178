//! What an agreement on a passphrase costs each side.
//!
//! `cargo run --release -p semfio-bench --bin agreement -- [--runs N]`

use clap::Parser;
use semfio_bench::{median, own_cpu};
use semfio_keysync::{Context, Initiator, Passphrase, Responder};
use semfio_machine::Seed;
use std::hint::black_box;
use std::time::Duration;

#[derive(Parser)]
struct Args {
    /// Agreements in a batch; the median of five batches counts.
    #[arg(long, default_value_t = 2_000)]
    runs: u32,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let passphrase = Passphrase::new(b"abacate");
    let context = Context { room: "sala", initiator: (7, "ana"), responder: 9 };
    let rng = |number| Seed::from_u64(number).stream(0);
    let (_, start) = Initiator::start(&passphrase, &context, rng(1));
    let (_, reply) = Responder::start(&passphrase, &context, &start, rng(2)).unwrap();

    let started = per_run(args.runs, || {
        black_box(Initiator::start(&passphrase, &context, rng(1)));
    })?;
    let finished = per_run(args.runs, || {
        let (initiator, _) = Initiator::start(&passphrase, &context, rng(1));
        black_box(initiator.finish(&reply).unwrap());
    })?;
    let answered = per_run(args.runs, || {
        black_box(Responder::start(&passphrase, &context, &start, rng(2)).unwrap());
    })?;
    println!("initiator: START {started:.0} us, START and CONFIRM {finished:.0} us of CPU");
    println!("responder: REPLY {answered:.0} us of CPU");
    Ok(())
}

/// Microseconds of this thread's CPU for each run.
fn per_run(runs: u32, mut run: impl FnMut()) -> anyhow::Result<f64> {
    let mut batches = Vec::new();
    for _ in 0..5 {
        let before: Duration = own_cpu()?;
        (0..runs).for_each(|_| run());
        batches.push((own_cpu()? - before).as_secs_f64() * 1e6 / f64::from(runs));
    }
    Ok(median(batches))
}
