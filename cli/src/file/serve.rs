//! `semfio file serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, io};

use semfio_file::{PutLimits, Repository, RepositoryConfig, RepositoryMessage, RepositoryReport};
use semfio_machine::RootId;
use semfio_path::SafeName;
use semfio_runtime_os::{Clock, Roots};
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NETWORK, USAGE};
use crate::file::size;
use crate::output::{Records, escape, notice};
use crate::passphrase::TransferArgs;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;
use crate::serve::{cannot_listen, closed, reachable, say_listening};
use crate::signals;

/// Peers of which it is remembered what they get.
const PEERS: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; nothing outside it is served, and no name that begins with a dot
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where to listen; the default is open to this machine alone
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8003")]
    listen: SocketAddr,
    /// Let anybody who can connect put files here, too; what is left of an upload is kept for a
    /// week, for who comes back, and then removed
    #[arg(long, short)]
    writable: bool,
    /// Take so much in all, from start to end
    #[arg(long, value_name = "GIB", default_value_t = 64, requires = "writable",
        value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    quota: u64,
    #[command(flatten)]
    passphrase: TransferArgs,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let (roots, scratch) = roots_and_scratch(&args.folder).map_err(|error| {
        let failed =
            Failed::because(USAGE, format!("cannot serve {}", args.folder.display()), &error);
        match error.kind() {
            io::ErrorKind::NotADirectory => failed.hint("a folder is served, not a file"),
            _ => failed,
        }
    })?;
    let limits = PutLimits { quota: args.quota << 30, ..PutLimits::default() };
    let writable = args.writable.then_some(limits);
    let config = RepositoryConfig { writable, scratch, ..RepositoryConfig::default() };
    let secret = args.passphrase.secret(common.record.as_deref())?;
    let sealed = args.passphrase.is_given();
    let clock = Clock::start();
    let (shard, recording) = record::shard(
        Repository::new(config.clone()).with_secret(secret),
        record::repository_header(&config),
        Redaction::None,
        common.record.as_deref(),
        clock,
    )?;
    let cannot = |error| Failed::because(NETWORK, "cannot serve", error);
    let mut host = Host::with_roots(common.runtime, shard, clock, roots).map_err(cannot)?;
    let address = host.listen(args.listen).map_err(|error| cannot_listen(args.listen, &error))?;
    let handle = host.handle();
    let interrupted = signals::catch(move || drop(handle.send(Spoken(RepositoryMessage::Stop))));
    let interrupted = interrupted.map_err(cannot)?;
    let mut records = common.json.then(Records::default);
    match &mut records {
        Some(records) => {
            let folder = args.folder.display().to_string();
            records.print(
                "listening",
                json!({
                    "address": address, "folder": folder, "writable": args.writable, "sealed": sealed,
                }),
            );
        }
        None => {
            say_listening(address, common.quiet);
            let address = SocketAddr::new(reachable(address.ip()), address.port());
            if !common.quiet {
                let with = if sealed { "--passphrase-file FILE " } else { "" };
                notice(&format!("get with: semfio file get {with}{address} NAME"));
                notice(&format!("list with: semfio file list {with}{address}"));
                if args.writable {
                    let who = if sealed { "knows the passphrase" } else { "can connect" };
                    notice(&format!("put with: semfio file put {with}{address} PATH"));
                    notice(&format!("! whoever {who} may put files here, and replace them"));
                }
            }
        }
    }
    let mut log = Log::new(common.verbose);
    let served = host.run(|report| match &mut records {
        Some(records) => {
            let (kind, record) = as_record(&report);
            records.print(kind, record);
        }
        None if common.quiet => {}
        None => log.lines(&report).into_iter().for_each(|line| notice(&line)),
    });
    drop(served.map_err(cannot)?);
    match &mut records {
        Some(records) => records.print("stopped", json!({})),
        None if common.quiet => {}
        None => notice("stopped"),
    }
    recording.finish()?;
    Ok(if interrupted.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The one folder of a file server or client.
pub(crate) fn roots(folder: &Path) -> io::Result<Roots> {
    // An empty path is where we are.
    let here = folder.as_os_str().is_empty();
    Roots::open([if here { Path::new(".") } else { folder }])
}

/// The folder of a file server, and the one for temporary files, if there is one.
fn roots_and_scratch(folder: &Path) -> io::Result<(Roots, Option<RootId>)> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match Roots::open([here, &env::temp_dir()]) {
        Ok(both) => Ok((both, Some(RootId(1)))),
        Err(_) => Ok((roots(folder)?, None)),
    }
}

/// What a server reports, as lines for people: who gets what, once, however many parts it takes.
pub(crate) struct Log {
    verbose: bool,
    gets: BTreeMap<Option<SocketAddr>, SafeName>,
}

impl Log {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, gets: BTreeMap::new() }
    }

    pub(crate) fn lines(&mut self, report: &RepositoryReport) -> Option<String> {
        let who = |peer: &Option<SocketAddr>| peer.map_or("?".into(), |peer| peer.to_string());
        Some(match report {
            RepositoryReport::Sending { peer, name, len } => {
                format!("> {} gets {name}, {}, in the course's dialect", who(peer), size(*len))
            }
            RepositoryReport::Sent { peer, name } => format!("= {} has all of {name}", who(peer)),
            RepositoryReport::Served { peer, name, bytes } => {
                if self.gets.len() >= PEERS {
                    self.gets.clear();
                }
                let known = self.gets.insert(*peer, name.clone()).as_ref() == Some(name);
                match (known, self.verbose) {
                    (_, true) => format!("> {} gets {} of {name}", who(peer), size(*bytes)),
                    (false, _) => format!("> {} gets {name}", who(peer)),
                    (true, _) => return None,
                }
            }
            RepositoryReport::Taken { peer, name, size: of, received } => match received {
                0 if *of > 0 => format!("< {} put {name}, which was there already", who(peer)),
                _ => format!("< {} put {name}, {}", who(peer), size(*of)),
            },
            RepositoryReport::Removed { name } => {
                format!("- {name}: nobody came back for it within a week")
            }
            RepositoryReport::Changed { peer, name } => {
                format!("! {name} changed while {} got it; the connection is cut", who(peer))
            }
            RepositoryReport::Refused { peer, name: Some(name), code } => {
                format!("! {}: {name}: {code}", who(peer))
            }
            RepositoryReport::Refused { peer, name: None, code } => {
                format!("! {}: {code}", who(peer))
            }
            RepositoryReport::Unknown { peer, word } => {
                let word = String::from_utf8_lossy(word);
                format!("! {}: there is no {}", who(peer), escape(&word))
            }
            RepositoryReport::Unreadable { peer, name, failure } => {
                format!("! {name} cannot be read: {failure}; {} got nothing", who(peer))
            }
            RepositoryReport::TurnedAway(peer) => {
                format!("! {} guessed too often, and has to wait", who(peer))
            }
            RepositoryReport::Hinted(peer) => {
                format!("! {} speaks HTTP, and was told what is spoken here", who(peer))
            }
            RepositoryReport::Broken { peer, why } => format!("! {}: {}", who(peer), closed(why)),
        })
    }
}

/// A report as a record for programs.
pub(crate) fn as_record(report: &RepositoryReport) -> (&'static str, Value) {
    match report {
        RepositoryReport::Sending { peer, name, len } => {
            ("sending", json!({ "address": peer, "name": name.as_str(), "size": len }))
        }
        RepositoryReport::Sent { peer, name } => {
            ("sent", json!({ "address": peer, "name": name.as_str() }))
        }
        RepositoryReport::Served { peer, name, bytes } => {
            ("served", json!({ "address": peer, "name": name.as_str(), "bytes": bytes }))
        }
        RepositoryReport::Taken { peer, name, size, received } => {
            let record = json!({ "address": peer, "name": name.as_str(), "size": size, "received": received });
            ("taken", record)
        }
        RepositoryReport::Removed { name } => ("removed", json!({ "name": name.as_str() })),
        RepositoryReport::Changed { peer, name } => {
            ("changed", json!({ "address": peer, "name": name.as_str() }))
        }
        RepositoryReport::Refused { peer, name, code } => {
            let name = name.as_ref().map(SafeName::as_str);
            ("refused", json!({ "address": peer, "name": name, "why": code.to_string() }))
        }
        RepositoryReport::Unknown { peer, word } => {
            ("unknown", json!({ "address": peer, "name": String::from_utf8_lossy(word) }))
        }
        RepositoryReport::Unreadable { peer, name, failure } => {
            let why = failure.to_string();
            ("unreadable", json!({ "address": peer, "name": name.as_str(), "why": why }))
        }
        RepositoryReport::TurnedAway(peer) => ("turned-away", json!({ "address": peer })),
        RepositoryReport::Hinted(peer) => ("hinted", json!({ "address": peer })),
        RepositoryReport::Broken { peer, why } => {
            ("broken", json!({ "address": peer, "why": closed(why) }))
        }
    }
}
