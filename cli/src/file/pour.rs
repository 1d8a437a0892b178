//! `semfio file get -o -`.

use std::process::ExitCode;

use semfio_file::{FetchError, Pour, PourConfig, PourMessage, PourOutcome, PourReport};
use semfio_machine::Target;
use semfio_path::SafeName;
use semfio_runtime_os::{Clock, Roots};

use crate::Common;
use crate::failed::{Failed, NETWORK};
use crate::file::{RETRIES, Stopping, not_had, size, unreachable};
use crate::output::{LOUD, paint, print_bytes};
use crate::passphrase::TransferArgs;
use crate::progress::Progress;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;

pub(crate) fn run(
    common: &Common,
    target: Target,
    name: SafeName,
    passphrase: &TransferArgs,
) -> Result<ExitCode, Failed> {
    let secret = passphrase.secret(common.record.as_deref())?;
    let server = target.to_string();
    let config = PourConfig { target, name: name.clone(), retries: RETRIES };
    let clock = Clock::start();
    let (shard, recording) = record::shard(
        Pour::new(config.clone()).with_secret(secret),
        record::pour_header(&config),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let what = format!("cannot get {name}");
    let cannot = |error| Failed::because(NETWORK, &what, error);
    let host = Host::with_roots(common.runtime, shard, clock, Roots::default());
    let host = host.map_err(cannot)?;
    let stopping = Stopping::new()?;
    let handle = host.handle();
    stopping.set({
        let handle = handle.clone();
        move || drop(handle.send(Spoken(PourMessage::Interrupt)))
    });
    let mut progress = Progress::of_verified(common);
    let (mut outcome, mut told) = (None, 0);
    let run = host.run(|report| match report {
        PourReport::Hashing(done, of) => {
            progress.hashing(name.as_str(), "the server reads it first", done, of);
        }
        PourReport::Begun(of) => progress.begin(name.as_str(), Some(of), 0),
        PourReport::Content(bytes) => {
            print_bytes(&bytes);
            let taken = bytes.len() as u64;
            told += taken;
            progress.at(told);
            // Of a few that fit into the queue: this thread is the one that empties it.
            let _ = handle.try_send(Spoken(PourMessage::Taken(taken)));
        }
        PourReport::Lost { why, retry_in } => {
            let seconds = retry_in.as_secs_f32();
            let line = format!("! {why}; trying again in {seconds:.1} s");
            progress.say(&paint(LOUD, &line));
        }
        PourReport::Over(over) => outcome = Some(over),
    });
    drop(run.map_err(cannot)?);
    progress.end();
    recording.finish()?;
    match outcome {
        Some(PourOutcome::Whole { .. }) => Ok(ExitCode::SUCCESS),
        Some(PourOutcome::Failed { why: FetchError::Interrupted, .. }) => Ok(stopping.code()),
        Some(PourOutcome::Failed { why, told }) => {
            let failed = match why {
                FetchError::Lost(lost) => unreachable(&server, lost),
                why => not_had(&what, &server, &why),
            };
            Err(match told {
                0 => failed,
                _ => failed.also(format!("{} were written, and are right", size(told))),
            })
        }
        None => Err(Failed::because(NETWORK, what, "the run ended before it began")),
    }
}
