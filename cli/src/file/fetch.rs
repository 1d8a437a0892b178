//! `semfio file get` from a server that speaks frames.

use std::collections::BTreeMap;
use std::process::ExitCode;

use semfio_file::{Fetch, FetchConfig, FetchError, FetchMessage, FetchReport, Secret};
use semfio_machine::{RootId, Target};
use semfio_path::{Policy, SafeName};
use semfio_runtime_os::Clock;
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, NEGATIVE, NETWORK};
use crate::file::get::Place;
use crate::file::{RETRIES, Stopping, command, not_had, size, unreachable};
use crate::output::{LOUD, Records, notice, paint};
use crate::progress::Progress;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;

#[allow(clippy::too_many_arguments)]
pub(crate) fn run(
    common: &Common,
    target: Target,
    names: Vec<SafeName>,
    place: &Place,
    replace: bool,
    jobs: usize,
    secret: Option<Secret>,
    stopping: &Stopping,
) -> Result<ExitCode, Failed> {
    let server = target.to_string();
    let roots = place.roots()?;
    let config = FetchConfig {
        target,
        names,
        root: RootId(0),
        save_as: place.save_as.clone(),
        replace,
        jobs,
        policy: Policy::default(),
        retries: RETRIES,
    };
    let cannot = |error: std::io::Error| Failed::because(NETWORK, "cannot get", error);
    let clock = Clock::start();
    let (shard, recording) = record::shard(
        Fetch::new(config.clone()).with_secret(secret),
        record::fetch_header(&config),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let host = Host::with_roots(common.runtime, shard, clock, roots).map_err(cannot)?;
    let handle = host.handle();
    stopping.set(move || drop(handle.send(Spoken(FetchMessage::Interrupt))));
    let mut teller = Teller {
        server,
        place,
        verbose: common.verbose,
        records: common.json.then(Records::default),
        progress: Progress::of_verified(common),
        resumed: BTreeMap::new(),
        is_cut: false,
        code: None,
    };
    let run = host.run(|report| teller.tell(&report));
    drop(run.map_err(cannot)?);
    teller.progress.end();
    recording.finish()?;
    let is_stopped = stopping.is_stopped() && teller.code.is_some();
    if is_stopped || teller.is_cut {
        notice(&format!("go on with: {}", command()));
    }
    if is_stopped {
        return Ok(stopping.code());
    }
    Ok(teller.code.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Tells what a fetch reports: people on stderr, programs on stdout.
struct Teller<'p> {
    server: String,
    place: &'p Place,
    verbose: bool,
    records: Option<Records>,
    progress: Progress,
    /// What was there of a file as it began.
    resumed: BTreeMap<SafeName, u64>,
    /// The server is gone, and something of a file is here.
    is_cut: bool,
    /// The first that is not success.
    code: Option<u8>,
}

impl Teller<'_> {
    fn tell(&mut self, report: &FetchReport) {
        if let Some(records) = &mut self.records {
            let (kind, record) = as_record(report);
            records.print(kind, record);
        }
        match report {
            FetchReport::Hashing(name, done, of) => {
                self.progress.hashing(name.as_str(), "the server reads it first", *done, *of);
            }
            FetchReport::StartedAnew(name) => {
                let line = format!("! {name} is another file now: it starts anew");
                self.progress.say(&paint(LOUD, &line));
            }
            FetchReport::Begun { name, size: of, resumed } => {
                self.resumed.insert(name.clone(), *resumed);
                if *resumed > 0 && *resumed < *of {
                    let (there, of) = (size(*resumed), size(*of));
                    self.progress.say(&format!("* {name}: {there} of {of} are there, and right"));
                }
                self.progress.begin(name.as_str(), Some(*of), *resumed);
            }
            FetchReport::Progress { proved, .. } => self.progress.at(*proved),
            FetchReport::Done { name, size: of, hash, received } => {
                self.progress.end();
                let mut line = format!("{name}: {}", size(*of));
                match self.resumed.remove(name) {
                    None => line.push_str(", there already"),
                    Some(0) => line.push_str(", whole"),
                    Some(there) => {
                        let missing = of.saturating_sub(there);
                        let more = received.saturating_sub(missing);
                        let (there, came, more) = (size(there), size(*received), size(more));
                        line.push_str(&format!(
                            ", whole: {there} were there, {came} came, {more} of that proof or again"
                        ));
                    }
                }
                if self.verbose {
                    line.push_str(&format!(", blake3 {hash}"));
                }
                self.progress.say(&line);
            }
            FetchReport::Failed { name, why, part } => self.failed(name, why, part.as_ref()),
            FetchReport::Lost { why, retry_in } => {
                let seconds = retry_in.as_secs_f32();
                let line = format!("! {why}; trying again in {seconds:.1} s");
                self.progress.say(&paint(LOUD, &line));
            }
            FetchReport::Unreachable(lost) => {
                self.progress.end();
                let failed = unreachable(&self.server, *lost);
                self.print(failed);
            }
            FetchReport::Over { failed, .. } => {
                if *failed > 0 {
                    self.code.get_or_insert(NEGATIVE);
                }
            }
        }
    }

    fn failed(&mut self, name: &SafeName, why: &FetchError, part: Option<&SafeName>) {
        let there = self.resumed.remove(name);
        self.progress.end();
        let kept = part.map(|part| self.place.path(part).display().to_string());
        match (why, kept) {
            (FetchError::Interrupted, Some(kept)) => {
                self.progress.say(&format!("{name}: what came is kept in {kept}"));
            }
            (FetchError::Interrupted, None) => self.progress.say(&format!("{name}: nothing came")),
            // Told as a whole.
            (FetchError::Lost(_), Some(kept)) => {
                self.is_cut = true;
                self.progress.say(&format!("{name}: what came is kept in {kept}"));
            }
            (FetchError::Lost(_), None) => {}
            (why, kept) => {
                let failed = not_had(&format!("cannot get {name}"), &self.server, why);
                self.print(match kept.filter(|_| there.is_some()) {
                    Some(kept) => failed.also(format!("what came is kept in {kept}")),
                    None => failed,
                });
            }
        }
    }

    fn print(&mut self, failed: Failed) {
        self.code.get_or_insert(failed.code());
        self.progress.aside(|| failed.print());
    }
}

fn as_record(report: &FetchReport) -> (&'static str, Value) {
    match report {
        FetchReport::Hashing(name, done, of) => {
            ("hashing", json!({ "name": name.as_str(), "done": done, "of": of }))
        }
        FetchReport::StartedAnew(name) => ("started_anew", json!({ "name": name.as_str() })),
        FetchReport::Begun { name, size, resumed } => {
            ("begun", json!({ "name": name.as_str(), "size": size, "resumed": resumed }))
        }
        FetchReport::Progress { name, proved, size } => {
            ("progress", json!({ "name": name.as_str(), "verified": proved, "size": size }))
        }
        FetchReport::Done { name, size, hash, received } => {
            let hash = hash.to_string();
            let record = json!({ "name": name.as_str(), "size": size, "blake3": hash, "received": received });
            ("done", record)
        }
        FetchReport::Failed { name, why, part } => {
            let part = part.as_ref().map(SafeName::as_str);
            ("failed", json!({ "name": name.as_str(), "why": why.to_string(), "part": part }))
        }
        FetchReport::Lost { why, retry_in } => {
            ("lost", json!({ "why": why.to_string(), "retry_in_ms": retry_in.as_millis() }))
        }
        FetchReport::Unreachable(why) => ("unreachable", json!({ "why": why.to_string() })),
        FetchReport::Over { done, failed } => ("over", json!({ "done": done, "failed": failed })),
    }
}
