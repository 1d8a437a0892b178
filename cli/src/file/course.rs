//! `semfio file get --course`.

use std::process::ExitCode;

use semfio_file::{
    CourseGet, CourseGetConfig, CourseGetMessage, CourseGetOutcome, CourseGetReport, Cut, Lost,
};
use semfio_machine::{RootId, Target};
use semfio_path::{Policy, SafeName};
use semfio_runtime_os::{Clock, seed};
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, NEGATIVE, NETWORK, USAGE};
use crate::file::get::Place;
use crate::file::{Stopping, not_saved, size, unreachable};
use crate::output::Records;
use crate::progress::Progress;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;

/// Gets one after the other: a connection of this dialect is for one file.
pub(crate) fn run(
    common: &Common,
    target: &Target,
    names: &[SafeName],
    place: &Place,
    replace: bool,
    stopping: &Stopping,
) -> Result<ExitCode, Failed> {
    if names.len() > 1 && common.record.is_some() {
        let why = "each file is a run of its own in the course's dialect";
        return Err(Failed::because(USAGE, "cannot record several files", why)
            .hint("run the command once for each, or leave out --record"));
    }
    let mut records = common.json.then(Records::default);
    let mut code = None;
    for name in names {
        match one(common, target, name, place, replace, stopping, &mut records) {
            Ok(End::Whole) => {}
            Ok(End::Stopped) => return Ok(stopping.code()),
            Err(failed) => {
                code.get_or_insert(failed.code());
                failed.print();
            }
        }
    }
    Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// How one file ended that did not fail.
enum End {
    Whole,
    Stopped,
}

fn one(
    common: &Common,
    target: &Target,
    name: &SafeName,
    place: &Place,
    replace: bool,
    stopping: &Stopping,
    records: &mut Option<Records>,
) -> Result<End, Failed> {
    let what = format!("cannot get {name}");
    let own = SafeName::parse(name.file_name(), Policy { dot_names: true, hyphen: true });
    let save_as = match &place.save_as {
        Some(name) => name.clone(),
        None => own.map_err(|error| Failed::because(USAGE, &what, error))?,
    };
    let config = CourseGetConfig {
        target: target.clone(),
        word: name.to_string(),
        root: RootId(0),
        save_as,
        replace,
    };
    let cannot = |error| Failed::because(NETWORK, &what, error);
    let seed = seed::draw().map_err(|error| Failed::new(NETWORK, error))?;
    let clock = Clock::start();
    let service = CourseGet::new(config.clone(), &seed)
        .map_err(|error| Failed::because(USAGE, &what, error))?;
    let header = record::course_get_header(&config, &seed);
    let (shard, recording) =
        record::shard(service, header, Redaction::None, common.record.as_deref(), clock)?;
    let host = Host::with_roots(common.runtime, shard, clock, place.roots()?).map_err(cannot)?;
    let handle = host.handle();
    stopping.set(move || drop(handle.send(Spoken(CourseGetMessage::Interrupt))));
    let mut progress = Progress::of_verified(common);
    progress.begin(name.as_str(), None, 0);
    let mut outcome = None;
    let run = host.run(|report| {
        if let Some(records) = records {
            let (kind, record) = as_record(name, &report);
            records.print(kind, record);
        }
        match report {
            CourseGetReport::Progress(bytes) => progress.at(bytes),
            CourseGetReport::Over(over) => outcome = Some(over),
        }
    });
    drop(run.map_err(cannot)?);
    progress.end();
    recording.finish()?;
    let server = target.to_string();
    let Some(outcome) = outcome else {
        return Err(Failed::because(NETWORK, what, "the run ended before it began"));
    };
    match outcome {
        CourseGetOutcome::Saved { len } => {
            progress.say(&format!("{name}: {}, to its end", size(len)));
            Ok(End::Whole)
        }
        CourseGetOutcome::Unknown => Err(Failed::because(NEGATIVE, what, "there is no such name")),
        CourseGetOutcome::NoConnection(failure) => Err(unreachable(&server, Lost::Failed(failure))),
        CourseGetOutcome::Truncated { why: Cut::Interrupted, part, .. } => {
            progress.say(&match part {
                Some(part) => kept(name, place, &part),
                None => format!("{name}: nothing came"),
            });
            Ok(End::Stopped)
        }
        CourseGetOutcome::Truncated { len, part, why } => {
            let why = match why {
                Cut::Closed => "the server ended it before its mark of the end".into(),
                Cut::Broken(failure) => format!("the connection broke: {failure}"),
                _ => "the server is silent".to_owned(),
            };
            let failed = Failed::because(NETWORK, what, format!("{why}, after {}", size(len)));
            Err(match part {
                Some(part) => failed
                    .also(kept(name, place, &part))
                    .hint("the course's dialect cannot go on from there; another try starts anew"),
                None => failed.hint("the course's server gives only names it was written with"),
            })
        }
        CourseGetOutcome::NotSaved { stage, failure, part } => {
            let failed = not_saved(&what, stage, failure);
            Err(match part {
                Some(part) => failed.also(kept(name, place, &part)),
                None => failed,
            })
        }
    }
}

fn kept(name: &SafeName, place: &Place, part: &SafeName) -> String {
    format!("{name}: what came is kept in {}", place.path(part).display())
}

fn as_record(name: &SafeName, report: &CourseGetReport) -> (&'static str, Value) {
    let name = name.as_str();
    match report {
        CourseGetReport::Progress(bytes) => ("progress", json!({ "name": name, "bytes": bytes })),
        CourseGetReport::Over(outcome) => match outcome {
            CourseGetOutcome::Saved { len } => ("done", json!({ "name": name, "size": len })),
            CourseGetOutcome::Unknown => ("failed", json!({ "name": name, "why": "unknown" })),
            CourseGetOutcome::Truncated { len, part, why } => {
                let part = part.as_ref().map(SafeName::as_str);
                let why = match why {
                    Cut::Closed => "closed".into(),
                    Cut::Broken(failure) => failure.to_string(),
                    Cut::Silent => "silent".into(),
                    Cut::Interrupted => "interrupted".into(),
                };
                ("failed", json!({ "name": name, "why": why, "bytes": len, "part": part }))
            }
            CourseGetOutcome::NoConnection(failure) => {
                ("failed", json!({ "name": name, "why": failure.to_string() }))
            }
            CourseGetOutcome::NotSaved { stage, failure, part } => {
                let part = part.as_ref().map(SafeName::as_str);
                let why = format!("{stage}: {failure}");
                ("failed", json!({ "name": name, "why": why, "part": part }))
            }
        },
    }
}
