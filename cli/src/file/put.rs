//! `semfio file put`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use semfio_file::wire::ErrorCode;
use semfio_file::{
    Lost, Upload, UploadConfig, UploadError, UploadItem, UploadMessage, UploadReport,
};
use semfio_machine::{Failure, RootId, Target};
use semfio_path::{Policy, SafeName};
use semfio_runtime_os::{Clock, Roots};
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, NEGATIVE, NETWORK, USAGE};
use crate::file::{ANY, RETRIES, Stopping, command, name, server, size, unreachable};
use crate::output::{LOUD, Records, notice, paint};
use crate::passphrase::TransferArgs;
use crate::progress::Progress;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server; it must run with --writable
    #[arg(value_name = "HOST:PORT", value_parser = server)]
    server: Target,
    /// Files and folders
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Put into this folder there, which ends in a slash, or a single PATH under this name
    #[arg(long, short, value_name = "NAME")]
    output: Option<String>,
    /// Replace files of the same name that have other content there
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    passphrase: TransferArgs,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let server = args.server.to_string();
    let (folders, items) = items(&args.paths, args.output.as_deref())?;
    let roots = Roots::open(&folders).map_err(|error| {
        Failed::because(USAGE, "cannot open the folders of what is to be put", &error)
    })?;
    let secret = args.passphrase.secret(common.record.as_deref())?;
    let config = UploadConfig {
        target: args.server,
        items,
        replace: args.force,
        policy: Policy::default(),
        retries: RETRIES,
    };
    let cannot = |error: std::io::Error| Failed::because(NETWORK, "cannot put", error);
    let clock = Clock::start();
    let (shard, recording) = record::shard(
        Upload::new(config.clone()).with_secret(secret),
        record::upload_header(&config),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let host = Host::with_roots(common.runtime, shard, clock, roots).map_err(cannot)?;
    let stopping = Stopping::new()?;
    let handle = host.handle();
    stopping.set(move || drop(handle.send(Spoken(UploadMessage::Interrupt))));
    let mut teller = Teller {
        server,
        verbose: common.verbose,
        records: common.json.then(Records::default),
        progress: Progress::of_verified(common),
        resumed: BTreeMap::new(),
        code: None,
    };
    let run = host.run(|report| teller.tell(&report));
    drop(run.map_err(cannot)?);
    teller.progress.end();
    recording.finish()?;
    if stopping.is_stopped() && teller.code.is_some() {
        notice(&format!("go on with: {}", command()));
        return Ok(stopping.code());
    }
    Ok(teller.code.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// The folders that hold what was named, and what of them is put under which name.
fn items(
    paths: &[PathBuf],
    output: Option<&str>,
) -> Result<(Vec<PathBuf>, Vec<UploadItem>), Failed> {
    let there = output.map(name).transpose();
    let there = there.map_err(|why| Failed::because(USAGE, "cannot put there", why))?;
    let single = output.is_some_and(|output| !output.ends_with('/'));
    if single && paths.len() > 1 {
        let failed = Failed::because(USAGE, "cannot put several files there", "it is one name");
        return Err(failed.hint("a folder ends in a slash"));
    }
    let (mut folders, mut items) = (Vec::new(), Vec::new());
    for path in paths {
        let what = || format!("cannot put {}", path.display());
        let real = path.canonicalize().map_err(|error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound { NEGATIVE } else { USAGE };
            Failed::because(code, what(), error)
        })?;
        let (Some(folder), Some(local)) = (real.parent(), real.file_name()) else {
            return Err(Failed::because(USAGE, what(), "it has no name"));
        };
        // What a link leads to is put under the name of the link.
        let own = path.file_name().unwrap_or(local);
        let safe = |name: &std::ffi::OsStr| {
            SafeName::parse(name.as_encoded_bytes(), ANY).map_err(|error| {
                Failed::because(USAGE, what(), error).hint("give it another name first")
            })
        };
        let (local, own) = (safe(local)?, safe(own)?);
        let name = match &there {
            None => own,
            Some(name) if single => name.clone(),
            Some(folder) => {
                folder.join(&own).map_err(|error| Failed::because(USAGE, what(), error))?
            }
        };
        items.push(UploadItem { root: root(&mut folders, folder), local, name });
    }
    Ok((folders, items))
}

/// The place of a folder in the host's list.
fn root(folders: &mut Vec<PathBuf>, folder: &Path) -> RootId {
    let place = folders.iter().position(|other| other == folder).unwrap_or_else(|| {
        folders.push(folder.into());
        folders.len() - 1
    });
    RootId(u32::try_from(place).expect("arguments are fewer"))
}

/// Tells what an upload reports: people on stderr, programs on stdout.
struct Teller {
    server: String,
    verbose: bool,
    records: Option<Records>,
    progress: Progress,
    /// What was there of a file as it began.
    resumed: BTreeMap<SafeName, u64>,
    /// The first that is not success.
    code: Option<u8>,
}

impl Teller {
    fn tell(&mut self, report: &UploadReport) {
        if let Some(records) = &mut self.records {
            let (kind, record) = as_record(report);
            records.print(kind, record);
        }
        match report {
            UploadReport::Hashing(name, done, of) => {
                self.progress.hashing(name.as_str(), "it is read first", *done, *of);
            }
            UploadReport::StartedAnew(name) => {
                let line = format!("! {name} has changed: it starts anew");
                self.progress.say(&paint(LOUD, &line));
            }
            UploadReport::Begun { name, size: of, resumed } => {
                self.resumed.insert(name.clone(), *resumed);
                if *resumed > 0 && *resumed < *of {
                    let (there, of) = (size(*resumed), size(*of));
                    self.progress.say(&format!("* {name}: {there} of {of} are there, and right"));
                }
                self.progress.begin(name.as_str(), Some(*of), *resumed);
            }
            UploadReport::Progress { proved, .. } => self.progress.at(*proved),
            UploadReport::Done { name, size: of, hash, sent } => {
                self.progress.end();
                let mut line = format!("{name}: {}", size(*of));
                match self.resumed.remove(name) {
                    None if *of > 0 => line.push_str(", there already"),
                    None | Some(0) => line.push_str(", whole"),
                    Some(there) => {
                        let sent = size(*sent);
                        line.push_str(&format!(", whole: {} were there, {sent} went", size(there)));
                    }
                }
                if self.verbose {
                    line.push_str(&format!(", blake3 {hash}"));
                }
                self.progress.say(&line);
            }
            UploadReport::Failed { name, why } => self.failed(name, why),
            UploadReport::Made(name) => {
                self.progress.say(&format!("{name}: a folder, empty"));
            }
            UploadReport::Lost { why, retry_in } => {
                let why = match why {
                    Lost::Ended(Some(ErrorCode::Busy)) => "others put files there".to_owned(),
                    why => why.to_string(),
                };
                let line = format!("! {why}; trying again in {:.1} s", retry_in.as_secs_f32());
                self.progress.say(&paint(LOUD, &line));
            }
            UploadReport::Unreachable(lost) => {
                self.progress.end();
                let failed = unreachable(&self.server, *lost);
                self.print(failed);
            }
            UploadReport::Over { failed, .. } => {
                if *failed > 0 {
                    self.code.get_or_insert(NEGATIVE);
                }
            }
        }
    }

    fn failed(&mut self, name: &SafeName, why: &UploadError) {
        self.progress.end();
        match (why, self.resumed.remove(name)) {
            (UploadError::Interrupted, Some(_)) => {
                self.progress.say(&format!("{name}: what was sent is kept there"));
            }
            (UploadError::Interrupted, None) => {
                self.progress.say(&format!("{name}: nothing was sent"));
            }
            // Told as a whole.
            (UploadError::Lost(_), _) => {}
            (why, _) => self.print(not_put(&format!("cannot put {name}"), why)),
        }
    }

    fn print(&mut self, failed: Failed) {
        self.code.get_or_insert(failed.code());
        self.progress.aside(|| failed.print());
    }
}

/// Why a file is not there.
fn not_put(what: &str, why: &UploadError) -> Failed {
    let failed = |code| Failed::because(code, what, why);
    match why {
        UploadError::Refused(ErrorCode::ReadOnly) => {
            failed(NEGATIVE).hint("the server takes files if it is started with --writable")
        }
        UploadError::Refused(ErrorCode::Exists) => {
            let why = "there is something of that name, with other content";
            Failed::because(NEGATIVE, what, why)
                .hint("--force replaces a file; -o puts it under another name")
        }
        UploadError::Refused(ErrorCode::WrongKind) => {
            let why = "there is something of that name, or where a folder of it should be";
            Failed::because(NEGATIVE, what, why)
                .hint("only files are replaced; -o puts it under another name")
        }
        UploadError::Refused(ErrorCode::Name) => {
            failed(NEGATIVE).hint("such names the server takes from nobody; -o gives it another")
        }
        UploadError::Refused(ErrorCode::Full) => {
            failed(NETWORK).hint("the server's disk is full, or it takes no more")
        }
        UploadError::Refused(ErrorCode::Unavailable) => {
            failed(NETWORK).hint("the server says so of its own disk; it may work later")
        }
        UploadError::NotFound(Failure::Denied) | UploadError::Unreadable(_) => {
            failed(NEGATIVE).hint("it must be yours to read")
        }
        UploadError::Changing => {
            failed(NETWORK).hint("it is being written; try again once that is done")
        }
        _ => failed(NEGATIVE),
    }
}

fn as_record(report: &UploadReport) -> (&'static str, Value) {
    match report {
        UploadReport::Hashing(name, done, of) => {
            ("hashing", json!({ "name": name.as_str(), "done": done, "of": of }))
        }
        UploadReport::StartedAnew(name) => ("started_anew", json!({ "name": name.as_str() })),
        UploadReport::Begun { name, size, resumed } => {
            ("begun", json!({ "name": name.as_str(), "size": size, "resumed": resumed }))
        }
        UploadReport::Progress { name, proved, size } => {
            ("progress", json!({ "name": name.as_str(), "verified": proved, "size": size }))
        }
        UploadReport::Done { name, size, hash, sent } => {
            let hash = hash.to_string();
            let record =
                json!({ "name": name.as_str(), "size": size, "blake3": hash, "sent": sent });
            ("done", record)
        }
        UploadReport::Failed { name, why } => {
            ("failed", json!({ "name": name.as_str(), "why": why.to_string() }))
        }
        UploadReport::Made(name) => ("made", json!({ "name": name.as_str() })),
        UploadReport::Lost { why, retry_in } => {
            ("lost", json!({ "why": why.to_string(), "retry_in_ms": retry_in.as_millis() }))
        }
        UploadReport::Unreachable(why) => ("unreachable", json!({ "why": why.to_string() })),
        UploadReport::Over { done, failed } => ("over", json!({ "done": done, "failed": failed })),
    }
}
