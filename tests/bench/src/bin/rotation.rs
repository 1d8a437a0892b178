//! What it costs the holder of a sealed room to give everybody a new key, and to name itself anew.
//!
//! `cargo run --profile dist -p semfio-bench --bin rotation -- [--members N] [--runs N]`

use anyhow::ensure;
use clap::Parser;
use semfio_bench::own_cpu;
use semfio_keysync::{KeySync, KeyTransmit, Passphrase, Vault};
use semfio_machine::{Instant, Now, Seed, UnixTime};
use std::time::Duration;

#[derive(Parser)]
struct Args {
    /// Beside the holder.
    #[arg(long, default_value_t = 1_000)]
    members: u64,
    /// Runs; their mean counts. One is shorter than a tick, by which some kernels count CPU time.
    #[arg(long, default_value_t = 200)]
    runs: u64,
}

const HOLDER: u64 = u64::MAX;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut now = Now { mono: Instant::default(), unix: UnixTime::from_secs(1_800_000_000) };
    let member = |number: u64| {
        let vault = Vault::new(Passphrase::new(b"abacate"), Seed::from_u64(number));
        KeySync::new(vault, "sala", &format!("m{number}"))
    };
    let mut holder = member(HOLDER);
    holder.handle_door(now, HOLDER, HOLDER);
    settle(&mut holder, now);
    let mut members: Vec<_> = (1..=args.members).map(member).collect();
    let start = own_cpu()?;
    for (number, member) in (1..).zip(&mut members) {
        holder.handle_knock(now, number, &format!("m{number}"));
        member.handle_door(now, number, HOLDER);
        relay(member, number, &mut holder, now);
        relay(&mut holder, HOLDER, member, now);
        relay(member, number, &mut holder, now);
    }
    now.mono = now.mono.saturating_add(Duration::from_secs(1));
    holder.handle_timeout(now);
    settle(&mut holder, now);
    let agreed = own_cpu()?.saturating_sub(start);

    let start = own_cpu()?;
    for run in 1..=args.runs {
        now.mono = now.mono.saturating_add(Duration::from_secs(1));
        holder.handle_part(now, run);
        let (wraps, octets) = settle(&mut holder, now);
        ensure!(wraps == args.members, "{wraps} wraps for {} members", args.members);
        ensure!(octets > 0, "they are empty");
    }
    let spent = own_cpu()?.saturating_sub(start);
    ensure!(!spent.is_zero(), "too few runs for the clock of this kernel");
    let rotation = spent.as_secs_f64() / args.runs as f64;
    let each = |total: f64| total * 1e6 / args.members as f64;
    println!("members: {}", args.members);
    println!("rotation: {:.2} ms of CPU ({:.2} us a member)", rotation * 1e3, each(rotation));
    let agreed = agreed.as_secs_f64();
    println!(
        "admission, both sides: {:.2} ms of CPU ({:.0} us a member)",
        agreed * 1e3,
        each(agreed)
    );
    Ok(())
}

/// Hands over what there is; nothing is lost.
fn relay(from: &mut KeySync, number: u64, to: &mut KeySync, now: Now) {
    while let Some(KeyTransmit::Relay { body, .. }) = from.poll_transmit() {
        to.handle_relay(now, number, &body);
    }
}

/// Fetches all there is, and logs the epoch; how many wraps, and their octets.
fn settle(holder: &mut KeySync, now: Now) -> (u64, usize) {
    let (mut wraps, mut octets) = (0, 0);
    while let Some(transmit) = holder.poll_transmit() {
        match transmit {
            KeyTransmit::Relay { body, .. } => {
                wraps += 1;
                octets += body.len();
            }
            KeyTransmit::Epoch { epoch, fresh, check } => {
                holder.handle_epoch(now, epoch, fresh, check);
            }
            _ => {}
        }
    }
    (wraps, octets)
}
