//! `semfio file list`.

use std::process::ExitCode;

use semfio_file::wire::{Kind, Meta};
use semfio_file::{
    FetchError, Listing, ListingConfig, ListingMessage, ListingOutcome, ListingReport,
};
use semfio_machine::{Target, UnixTime};
use semfio_path::SafeName;
use semfio_runtime_os::Clock;
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, NEGATIVE, NETWORK};
use crate::file::{Stopping, name, not_had, server, size, unreachable};
use crate::output::{Records, print_line};
use crate::passphrase::TransferArgs;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server
    #[arg(value_name = "HOST:PORT", value_parser = server)]
    server: Target,
    /// A folder, or a file [default: all that is served]
    #[arg(value_name = "NAME", value_parser = name)]
    name: Option<SafeName>,
    #[command(flatten)]
    passphrase: TransferArgs,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let server = args.server.to_string();
    let what = match &args.name {
        Some(name) => format!("cannot list {name}"),
        None => format!("cannot list {server}"),
    };
    let secret = args.passphrase.secret(common.record.as_deref())?;
    let config = ListingConfig { target: args.server, name: args.name };
    let clock = Clock::start();
    let (shard, recording) = record::shard(
        Listing::new(config.clone()).with_secret(secret),
        record::listing_header(&config),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let cannot = |error| Failed::because(NETWORK, &what, error);
    let host = Host::new(common.runtime, shard, clock).map_err(cannot)?;
    let stopping = Stopping::new()?;
    let handle = host.handle();
    stopping.set(move || drop(handle.send(Spoken(ListingMessage::Interrupt))));
    let mut records = common.json.then(Records::default);
    let mut outcome = None;
    let run = host.run(|report| match report {
        ListingReport::Named(name, meta) => match &mut records {
            Some(records) => {
                let kind = match meta.kind {
                    Kind::File => "file",
                    Kind::Folder => "folder",
                };
                let modified = meta.modified;
                let record = json!({ "name": name.as_str(), "kind": kind, "size": meta.size,
                    "modified_ms": modified });
                records.print("name", record);
            }
            None => print_line(&as_line(&name, meta)),
        },
        ListingReport::Over(over) => outcome = Some(over),
    });
    drop(run.map_err(cannot)?);
    recording.finish()?;
    match outcome {
        Some(ListingOutcome::Interrupted) => Ok(stopping.code()),
        Some(ListingOutcome::Listed(names)) => {
            if let Some(records) = &mut records {
                records.print("over", json!({ "names": names }));
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(ListingOutcome::Refused(code)) => {
            Err(not_had(&what, &server, &FetchError::Refused(code)))
        }
        Some(ListingOutcome::Name(error)) => {
            Err(Failed::because(NEGATIVE, what, format!("the server tells of a name: {error}")))
        }
        Some(ListingOutcome::Lost(lost)) => Err(unreachable(&server, lost)),
        _ => Err(Failed::because(NETWORK, what, "the run ended before it began")),
    }
}

/// Size, time of the last change, name: a folder's ends in a slash.
fn as_line(name: &SafeName, meta: Meta) -> String {
    let time = UnixTime::from_nanos(meta.modified.saturating_mul(1_000_000)).civil();
    let (size, slash) = match meta.kind {
        Kind::File => (size(meta.size).to_string(), ""),
        Kind::Folder => (String::new(), "/"),
    };
    format!(
        "{size:>10}  {:04}-{:02}-{:02} {:02}:{:02}Z  {name}{slash}",
        time.year, time.month, time.day, time.hour, time.minute
    )
}
