//! `semfio http get`: arguments and the run. What is told of it is in `get/shown.rs`.

mod shown;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use semfio_http::get::{Get, GetConfig, GetItem, GetMessage, PRIVATE};
use semfio_http::{FieldRefused, FieldsBuf, Method, URL_LIMIT, Url, UrlError};
use semfio_machine::RootId;
use semfio_path::SafeName;
use semfio_runtime_os::{Clock, Roots};

use crate::Common;
use crate::failed::{Failed, NETWORK, USAGE};
use crate::file::get::Place;
use crate::ping::seconds;
use crate::record::{self, Redaction, Spoken};
use crate::runtime::Host;
use crate::signals;

use shown::{Output, Shown};

/// Bytes of -d: they are held, since a redirect may ask for them again.
const BODY: u64 = 16 * 1024 * 1024;
/// Of these, in a trace: it has them in one line, in base64.
const RECORDED: usize = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to get; `http://` may be left out
    #[arg(value_name = "URL", required = true, value_parser = url)]
    urls: Vec<Url>,
    /// Save as FILE, or in the folder FILE; it has its name once it is whole, until then it is
    /// FILE.part. - is stdout, also for what is no text on a terminal
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["remote_name", "output_dir"])]
    output: Option<PathBuf>,
    /// Save each under the last part of its URL
    #[arg(long, short = 'O')]
    remote_name: bool,
    /// The same, in this folder
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Go on with FILE.part, if the server says that the rest is of the same version; else anew
    #[arg(long = "continue", short = 'C', conflicts_with_all = ["request", "data", "head"])]
    resume: bool,
    /// Redirects to follow; with 0 they are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_redirects: u32,
    /// Print the heads of the responses, too, to stdout
    #[arg(long, short = 'i')]
    include: bool,
    /// Ask for the head alone (HEAD), and print it
    #[arg(long, short = 'I', conflicts_with_all = ["output", "remote_name", "output_dir", "data",
        "request"])]
    head: bool,
    /// The method
    #[arg(long, short = 'X', value_name = "METHOD", value_parser = method)]
    request: Option<String>,
    /// A field of the request, as 'Name: value'. Authorization and Cookie are told to the first
    /// server alone, not to those it redirects to
    #[arg(long, short = 'H', value_name = "FIELD", value_parser = field)]
    header: Vec<(String, String)>,
    /// Content of the request, which is a POST then; @FILE is what is in FILE, as it is, @- what is
    /// on stdin
    #[arg(long, short, value_name = "DATA")]
    data: Option<String>,
    /// Give up a URL after this time, redirects included
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_time: Option<Duration>,
    /// A status of 400 and above is a failure, and its content is not printed. It is never saved
    #[arg(long, short)]
    fail: bool,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let Saving { place, device, to_stdout } = args.saving()?;
    if to_stdout && common.json && !args.head {
        return Err(Failed::because(USAGE, "cannot write to stdout", "the records go there")
            .hint("-o FILE saves it, -o /dev/null drops it, -I asks for the head alone"));
    }
    if args.resume && place.is_none() {
        return Err(Failed::because(USAGE, "cannot go on", "nothing is saved in a file")
            .hint("-o FILE or -O does; then FILE.part is gone on with"));
    }
    let fields = args.fields()?;
    if common.record.is_some() && !common.record_secrets {
        let secret = PRIVATE.iter().find(|name| fields.as_fields().first(name).is_some());
        if let Some(name) = secret {
            let why = format!("{name} would stand in the trace");
            return Err(Failed::because(USAGE, "cannot record", why)
                .hint("--record-secrets writes it nevertheless"));
        }
    }
    let body = args.data.as_deref().map(body).transpose()?;
    if common.record.is_some() && body.as_ref().is_some_and(|body| body.len() > RECORDED) {
        let why = format!("-d has more than {RECORDED} bytes");
        return Err(Failed::because(USAGE, "cannot record", why));
    }
    let config = GetConfig {
        items: args.items(place.as_ref())?,
        method: args.head.then(|| "HEAD".to_owned()).or_else(|| args.request.clone()),
        fields,
        body,
        redirects: args.max_redirects,
        resume: args.resume,
        fail: args.fail,
        max_time: args.max_time,
        root: RootId(0),
    };
    let roots = place.as_ref().map_or_else(|| Ok(Roots::default()), Place::roots)?;
    let cannot = |error: io::Error| Failed::because(NETWORK, "cannot get", error);
    let clock = Clock::start();
    let header = record::http_get_header(&config);
    let record = common.record.as_deref();
    let items = config.items.clone();
    let (shard, recording) =
        record::shard(Get::new(config), header, Redaction::None, record, clock)?;
    let host = Host::with_roots(common.runtime, shard, clock, roots).map_err(cannot)?;
    let output = match device {
        Some(device) => Output::Device(device),
        None => Output::stdout(args.output.is_some()),
    };
    let mut shown = Shown::new(common, items, place, output, args.include || args.head);
    let handle = host.handle();
    let interrupted = signals::catch({
        let handle = handle.clone();
        move || drop(handle.send(Spoken(GetMessage::Interrupt)))
    })
    .map_err(cannot)?;
    let run = host.run(|report| {
        if let Some(message) = shown.tell(report) {
            // Of a few that fit into the queue: this thread is the one that empties it.
            if handle.try_send(Spoken(message)).is_err() {
                shown.take_back(message);
            }
        }
    });
    drop(run.map_err(cannot)?);
    recording.finish()?;
    Ok(shown.end(interrupted.is_set()))
}

/// Where what comes goes.
struct Saving {
    place: Option<Place>,
    device: Option<File>,
    to_stdout: bool,
}

impl Args {
    fn saving(&self) -> Result<Saving, Failed> {
        let output = match (&self.output, &self.output_dir) {
            (Some(output), _) if output == Path::new("-") => None,
            (Some(output), _) => Some(output.clone()),
            // With a slash it is a folder, or it is said that it is none.
            (None, Some(folder)) => Some(folder.join("")),
            (None, None) if self.remote_name => {
                let place = Place::choose(None, &[])?;
                return Ok(Saving { place: Some(place), device: None, to_stdout: false });
            }
            (None, None) => None,
        };
        let Some(output) = output else {
            return Ok(Saving { place: None, device: None, to_stdout: true });
        };
        if let Some(device) = device(&output)? {
            return Ok(Saving { place: None, device: Some(device), to_stdout: false });
        }
        let place = Place::choose(Some(&output), &[])?;
        if place.save_as.is_some() && self.urls.len() > 1 {
            let what = format!("cannot save to {}", output.display());
            return Err(Failed::because(USAGE, what, "there are several URLs")
                .hint("--output-dir DIR saves each under the last part of its URL"));
        }
        Ok(Saving { place: Some(place), device: None, to_stdout: false })
    }

    fn items(&self, place: Option<&Place>) -> Result<Vec<GetItem>, Failed> {
        let mut items: Vec<GetItem> = Vec::new();
        for url in &self.urls {
            let save_as = match place {
                None => None,
                Some(Place { save_as: Some(name), .. }) => Some(name.clone()),
                Some(_) => Some(name_of(url)?),
            };
            let taken = |item: &&GetItem| save_as.is_some() && item.save_as == save_as;
            if let Some(other) = items.iter().find(taken) {
                let why = format!("{} has the same last part", other.url);
                return Err(Failed::because(USAGE, format!("cannot save {url}"), why)
                    .hint("get them one by one; -o FILE names each"));
            }
            items.push(GetItem { url: url.clone(), save_as });
        }
        Ok(items)
    }

    fn fields(&self) -> Result<FieldsBuf, Failed> {
        let mut fields = FieldsBuf::new();
        let mut put = |name: &str, value: &str| {
            fields.push(name, value).map_err(|refused| {
                let failed = Failed::because(USAGE, format!("cannot send {name}"), refused);
                match refused {
                    FieldRefused::Framing => failed
                        .hint("Host is that of the URL, and lengths are those of what is sent"),
                    _ => failed,
                }
            })
        };
        let given =
            |wanted: &str| self.header.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !given("User-Agent") {
            put("User-Agent", concat!("semfio/", env!("CARGO_PKG_VERSION")))?;
        }
        if self.data.is_some() && !given("Content-Type") {
            put("Content-Type", "application/x-www-form-urlencoded")?;
        }
        for (name, value) in &self.header {
            put(name, value)?;
        }
        Ok(fields)
    }
}

/// A device or a pipe that is to be written into: only files can be replaced.
fn device(path: &Path) -> Result<Option<File>, Failed> {
    let is_device = |metadata: fs::Metadata| !metadata.is_file() && !metadata.is_dir();
    if !fs::metadata(path).is_ok_and(is_device) {
        return Ok(None);
    }
    OpenOptions::new().write(true).open(path).map(Some).map_err(|error| {
        Failed::because(USAGE, format!("cannot write to {}", path.display()), error)
    })
}

fn name_of(url: &Url) -> Result<SafeName, Failed> {
    url.file_name().ok_or_else(|| {
        let why = "its last part is no name for a file";
        Failed::because(USAGE, format!("cannot save {url}"), why).hint("-o FILE names it")
    })
}

/// What -d says.
fn body(data: &str) -> Result<Bytes, Failed> {
    let Some(path) = data.strip_prefix('@') else {
        return Ok(Bytes::copy_from_slice(data.as_bytes()));
    };
    let cannot =
        |why: &dyn std::fmt::Display| Failed::because(USAGE, format!("cannot send {path}"), why);
    let mut body = Vec::new();
    let read = match path {
        "-" => io::stdin().lock().take(BODY + 1).read_to_end(&mut body),
        path => File::open(path).and_then(|file| file.take(BODY + 1).read_to_end(&mut body)),
    };
    read.map_err(|error| cannot(&error))?;
    match body.len() as u64 > BODY {
        true => Err(cannot(&format!("it has more than {BODY} bytes"))),
        false => Ok(body.into()),
    }
}

fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| match error {
        UrlError::Tls => "https needs TLS, which semfio does not speak yet; `curl` does".to_owned(),
        UrlError::User => format!("{error}; -H 'Authorization: …' tells it to the server"),
        UrlError::TooLong => format!("a URL has {URL_LIMIT} bytes at most"),
        _ => error.to_string(),
    })
}

fn method(text: &str) -> Result<String, String> {
    match text {
        "CONNECT" => Err("CONNECT asks a proxy for a connection, which nothing here uses".into()),
        _ if Method::parse(text).is_some() => Ok(text.to_owned()),
        _ => Err("a method is letters, digits and a few marks, such as GET".to_owned()),
    }
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}
