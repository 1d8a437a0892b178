//! `semfio http serve`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use semfio_http::{
    FieldsBuf, HttpError, Located, LogForm, SiteConfig, SiteMessage, SiteReport, Status,
};
use semfio_machine::Closed;
use semfio_runtime_os::{Clock, HostConfig};
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NETWORK, USAGE};
use crate::file::serve::roots;
use crate::output::{Records, notice, print_bytes};
use crate::record::{self, Redaction, Spoken};
use crate::runtime::{BULK, Host, Number, Shards};
use crate::serve::{cannot_listen, closed, reachable, say_listening};
use crate::signals;

/// Files open at once, of which each answer that is on its way may hold one.
const FILES: usize = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; nothing outside it is served, no link is followed, and no name that begins with a
    /// dot is served
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where to listen; the default is open to this machine alone
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What is given for a folder, if it is there; may be given several times
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = name)]
    index: Vec<String>,
    /// List no folders
    #[arg(long)]
    no_listing: bool,
    /// Serve and list names that begin with a dot, too
    #[arg(long)]
    hidden: bool,
    /// Let anybody who can connect put files here, with PUT; then there is one shard
    #[arg(long, short)]
    writable: bool,
    /// The largest file that may be put
    #[arg(long, value_name = "MIB", default_value_t = 1_024, requires = "writable",
        value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    max_upload: u64,
    /// Send this field with every response; may be given several times
    #[arg(long, value_name = "NAME:VALUE", value_parser = field)]
    header: Vec<(String, String)>,
    /// Let scripts of any page read what is served
    #[arg(long)]
    cors: bool,
    /// For pages that are not there send the index of DIR: its script knows what to show
    #[arg(long)]
    spa: bool,
    /// For responses with this status send this file, whose path begins in DIR; may be given several
    /// times
    #[arg(long, value_name = "STATUS=FILE", value_parser = error_page)]
    error_page: Vec<(Status, String)>,
    /// A line on stdout for each request; with --json always an object
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    log: Log,
    /// Send files as they lie there: neither compressed, nor what lies compressed beside them
    #[arg(long)]
    no_compression: bool,
    #[command(flatten)]
    shards: Number,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Log {
    /// As all servers write it: address, time, request, status, size
    #[default]
    Common,
    /// The same, and where the client came from and what it is
    Combined,
    /// An object with all there is
    Json,
    /// None, as with --quiet
    Off,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let folder = roots(&args.folder).map_err(|error| {
        let what = format!("cannot serve {}", args.folder.display());
        let failed = Failed::because(USAGE, what, &error);
        match error.kind() {
            io::ErrorKind::NotADirectory => failed.hint("a folder is served, not a file"),
            _ => failed,
        }
    })?;
    let number = match args.writable {
        // Two who put one file are told apart within a shard.
        true => 1,
        false => args.shards.of(common.record.is_some())?,
    };
    let clock = Clock::start();
    let cannot = |error| Failed::because(NETWORK, "cannot serve", error);
    let shard = |roots, record: Option<&Path>| {
        let (site, header) = record::site(args.config(common))?;
        let (shard, recording) = record::shard(site, header, Redaction::None, record, clock)?;
        let host =
            HostConfig { clock, roots, files: FILES, scratch: BULK, ..HostConfig::default() };
        Ok((Host::with(common.runtime, shard, host).map_err(cannot)?, recording))
    };
    let (first, recording) = shard(folder, common.record.as_deref())?;
    let mut shards = Shards::new(first, number, || {
        let folder = roots(&args.folder).map_err(cannot)?;
        Ok(shard(folder, None)?.0)
    })?;
    let address = shards.listen(args.listen).map_err(|error| cannot_listen(args.listen, &error))?;
    let drain = || Spoken(SiteMessage::Drain);
    let interrupted = signals::catch(shards.tell_all(drain)).map_err(cannot)?;
    let mut teller = Teller { common, records: common.json.then(Records::default) };
    teller.listening(address, args);
    let served = shards.run(drain, |report| teller.tell(&report));
    drop(served.map_err(cannot)?);
    teller.stopped();
    recording.finish()?;
    Ok(if interrupted.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

impl Args {
    fn config(&self, common: &Common) -> SiteConfig {
        let mut fields = FieldsBuf::new();
        for (name, value) in &self.header {
            // Judged as it was parsed.
            let _ = fields.push(name, value);
        }
        SiteConfig {
            index: self.index.clone(),
            listing: !self.no_listing,
            hidden: self.hidden,
            writable: self.writable.then_some(self.max_upload << 20),
            fields,
            cors: self.cors,
            spa: self.spa,
            error_pages: self.error_page.iter().cloned().collect::<BTreeMap<_, _>>(),
            compress: !self.no_compression,
            log: match self.log {
                Log::Off => None,
                _ if common.json => Some(LogForm::Json),
                _ if common.quiet => None,
                Log::Common => Some(LogForm::Common),
                Log::Combined => Some(LogForm::Combined),
                Log::Json => Some(LogForm::Json),
            },
            ..SiteConfig::default()
        }
    }
}

/// The name of an index: of a file in whatever folder.
fn name(text: &str) -> Result<String, String> {
    match Located::new(&format!("/{text}"), true) {
        Ok(located) if !located.folder && located.as_str() == text && !text.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err("expected the name of a file, such as index.html".to_owned()),
    }
}

/// A field of every response.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    let value = value.trim();
    FieldsBuf::new().push(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A status and the page for it.
fn error_page(text: &str) -> Result<(Status, String), String> {
    let (status, file) =
        text.split_once('=').ok_or("expected STATUS=FILE, such as 404=404.html")?;
    let status = status.parse().ok().and_then(Status::new).filter(|it| it.code() >= 400);
    let status = status.ok_or("expected the status of an error, 400 to 999")?;
    let file = file.trim_start_matches("./").trim_start_matches('/');
    match Path::new(file).components().all(|it| matches!(it, std::path::Component::Normal(_))) {
        true if !file.is_empty() => Ok((status, file.to_owned())),
        _ => Err("the path of a page begins in the folder that is served".to_owned()),
    }
}

/// Tells what a site reports: its log on stdout, everything else on stderr.
struct Teller<'c> {
    common: &'c Common,
    records: Option<Records>,
}

impl Teller<'_> {
    fn listening(&mut self, address: SocketAddr, args: &Args) {
        let reachable = SocketAddr::new(reachable(address.ip()), address.port());
        let url = format!("http://{reachable}/");
        if let Some(records) = &mut self.records {
            let record = json!({
                "address": address, "url": url, "folder": args.folder.display().to_string(),
                "writable": args.writable,
            });
            return records.print("listening", record);
        }
        say_listening(address, self.common.quiet);
        if !self.common.quiet {
            notice(&format!("serving {} at {url}", args.folder.display()));
            if args.writable {
                notice(&format!("put with: curl -T FILE {url}"));
                notice("! whoever can connect may put files here, and replace them");
            }
        }
    }

    fn tell(&mut self, report: &SiteReport) {
        match (report, &mut self.records) {
            (SiteReport::Log(lines), _) => print_bytes(lines.as_bytes()),
            (SiteReport::Broken { peer, why }, Some(records)) => {
                records.print("broken", broken(*peer, why).0);
            }
            (SiteReport::Broken { peer, why }, None) if self.common.verbose => {
                notice(&broken(*peer, why).1);
            }
            _ => {}
        }
    }

    fn stopped(&mut self) {
        match &mut self.records {
            Some(records) => records.print("stopped", json!({})),
            None if self.common.quiet => {}
            None => notice("stopped"),
        }
    }
}

/// A connection that broke, for programs and for people.
pub(crate) fn broken(peer: Option<SocketAddr>, why: &Closed<HttpError>) -> (Value, String) {
    let who = peer.map_or("?".into(), |peer| peer.to_string());
    (json!({ "address": peer, "why": closed(why) }), format!("! {who}: {}", closed(why)))
}
