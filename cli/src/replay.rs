//! `semfio replay`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use semfio_machine::{Service, Shard, StreamMachine};
use semfio_trace::{End, MAX_LINE, Reader, Recorded, Replay, ReplayError};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, NEGATIVE, USAGE};
use crate::output::{Records, print_line};
use crate::record::{self, Recordable};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A trace, written with --record
    file: PathBuf,
    /// Stop after this event
    #[arg(long, value_name = "N")]
    until: Option<u64>,
}

/// How a replay ended that met no difference.
struct Agreed {
    events: u64,
    whole: bool,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let path = &args.file;
    let unusable = |error: anyhow::Error| {
        Failed::new(USAGE, error.context(format!("cannot replay {}", path.display())))
    };
    let reader = open(path).map_err(unusable)?;
    let header = reader.header().clone();
    let limits = header.limits;
    let until = args.until;
    let result = match &*header.service {
        record::HUB => {
            let hub = record::hub_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(hub), limits), until)
        }
        record::PARTICIPANT => {
            let journal = || open(path).map(record::journal).unwrap_or_default();
            let participant = record::participant_of(&header, journal).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(participant), limits), until)
        }
        record::REPOSITORY => {
            let repository = record::repository_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(repository), limits), until)
        }
        record::FETCH => {
            let fetch = record::fetch_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(fetch), limits), until)
        }
        record::UPLOAD => {
            let upload = record::upload_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(upload), limits), until)
        }
        record::POUR => {
            let pour = record::pour_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(pour), limits), until)
        }
        record::LISTING => {
            let listing = record::listing_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(listing), limits), until)
        }
        record::COURSE_GET => {
            let get = record::course_get_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(get), limits), until)
        }
        record::NETCAT => {
            let netcat = record::netcat_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(netcat), limits), until)
        }
        record::TCP_CHECK => {
            let check = record::tcp_check_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(check), limits), until)
        }
        record::ECHO => {
            let service = semfio_echo::Service::new();
            replay(reader, Shard::new(Recordable(service), limits), until)
        }
        other => {
            let unknown = anyhow::anyhow!("it is of {other:?}, which this program does not know");
            return Err(unusable(unknown));
        }
    };
    match result {
        Ok(agreed) => {
            tell(common, &agreed, until);
            Ok(ExitCode::SUCCESS)
        }
        Err(ReplayError::Read(error)) => Err(unusable(error.into())),
        Err(other) => {
            if common.json {
                let record = json!({ "why": other.to_string() });
                Records::default().print("diverges", record);
            } else {
                print_line(&other.to_string());
            }
            Ok(ExitCode::from(NEGATIVE))
        }
    }
}

fn tell(common: &Common, agreed: &Agreed, until: Option<u64>) {
    let Agreed { events, whole } = agreed;
    if common.json {
        let record = json!({ "events": events, "whole": whole });
        return Records::default().print("agrees", record);
    }
    let remark = match (whole, until) {
        (true, _) => "",
        (false, Some(until)) if *events >= until => "; stopped there",
        (false, _) => "; the recording is cut there",
    };
    print_line(&format!("agrees: {events} events{remark}"));
}

fn replay<L, M, S>(
    reader: Reader<L>,
    shard: Shard<M, S>,
    until: Option<u64>,
) -> Result<Agreed, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: Recorded + 'static,
{
    let mut replay = Replay::new(reader, shard);
    if let Some(until) = until
        && replay.run_until(until)?
    {
        return Ok(Agreed { events: replay.position(), whole: false });
    }
    let agreement = replay.run()?;
    Ok(Agreed { events: agreement.events, whole: agreement.end == End::Whole })
}

fn open(path: &Path) -> anyhow::Result<Reader<Lines>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    Reader::from_lines(Lines(BufReader::new(file))).context("it is not a whole trace")
}

/// The lines of a file, each with its end; longer ones than a trace may have come in pieces.
struct Lines(BufReader<File>);

impl Iterator for Lines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1);
        let read: io::Result<usize> = self.0.by_ref().take(limit).read_until(b'\n', &mut line);
        // A file that cannot be read on is a trace that is cut.
        read.ok().filter(|&n| n > 0).map(|_| line)
    }
}
