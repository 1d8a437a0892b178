//! What is told of a `semfio http get`: content and heads to stdout, all else to stderr; records, if
//! these are wanted.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use indicatif::BinaryBytes;
use semfio_http::get::{
    GetError, GetHead, GetItem, GetKept, GetMessage, GetReport, SaveStage, WINDOW,
};
use semfio_http::{BodyLength, Rule, Url, UrlError, Version};
use semfio_machine::Failure;
use serde_json::{Value, json};

use crate::Common;
use crate::failed::{Failed, INTERRUPTED, NEGATIVE, NETWORK, PROTOCOL, USAGE};
use crate::file::get::Place;
use crate::output::{DIM, LOUD, Records, escape, paint, print_bytes, visible};
use crate::progress::Progress;

/// Bytes of content that are looked at to tell whether it is text.
const LOOKED_AT: usize = 2_000;

/// Where content goes that is not saved.
pub(super) enum Output {
    /// As it is.
    Raw,
    /// To a terminal: text, with what a terminal would obey made visible. What was cut off within a
    /// character.
    Terminal(Vec<u8>),
    /// Into a device or a pipe.
    Device(File),
    /// Nowhere: it was no text.
    Closed,
}

impl Output {
    /// Stdout; whether it is asked for by its name.
    pub(super) fn stdout(named: bool) -> Self {
        match !named && io::stdout().is_terminal() {
            true => Self::Terminal(Vec::new()),
            false => Self::Raw,
        }
    }
}

/// Tells people and programs.
pub(super) struct Shown {
    items: Vec<GetItem>,
    place: Option<Place>,
    output: Output,
    heads: bool,
    verbose: bool,
    records: Option<Records>,
    progress: Progress,
    /// Octets that were told and not acknowledged.
    untaken: u64,
    /// Of the item at hand some content was printed.
    begun: bool,
    /// The first that is not success.
    code: Option<u8>,
}

impl Shown {
    pub(super) fn new(
        common: &Common,
        items: Vec<GetItem>,
        place: Option<Place>,
        output: Output,
        heads: bool,
    ) -> Self {
        Self {
            items,
            place,
            output,
            heads,
            verbose: common.verbose,
            records: common.json.then(Records::default),
            progress: Progress::new(common),
            untaken: 0,
            begun: false,
            code: None,
        }
    }

    /// Tells it; what is to be answered.
    pub(super) fn tell(&mut self, report: GetReport) -> Option<GetMessage> {
        if let Some((kind, record)) = self.as_record(&report)
            && let Some(records) = &mut self.records
        {
            records.print(kind, record);
        }
        match report {
            GetReport::Connected { peer, kept } => {
                let how = if kept { "the connection is kept" } else { "connected" };
                self.more(&format!("* {how}: {} to {}", peer.local, peer.address));
            }
            GetReport::Request { head, .. } => self.said(">", &head),
            GetReport::Again => {
                self.more("* the kept connection had ended: asking again over another one");
            }
            GetReport::Inform(head) => self.head(&head),
            GetReport::Response { head, .. } => self.head(&head),
            GetReport::Redirected { to, now_get, now_public } => {
                let get = if now_get { ", with GET" } else { "" };
                self.more(&format!("* redirected to {to}{get}"));
                if now_public {
                    self.more("* another server: it is not told what authenticates");
                }
            }
            GetReport::Anew { item, why } => {
                let line = format!("! {}: {why}: it starts anew", self.name(item));
                self.progress.say(&paint(LOUD, &line));
            }
            GetReport::Begun { item, size, resumed } => {
                self.begun = false;
                if resumed > 0 {
                    let there = BinaryBytes(resumed);
                    let name = self.name(item);
                    self.progress.say(&format!(
                        "* {name}: {there} are there, the rest is of the same version"
                    ));
                }
                if self.items.get(item).is_some_and(|item| item.save_as.is_some()) {
                    let name = self.name(item);
                    self.progress.begin(&name, size, resumed);
                }
            }
            GetReport::Progress(there) => self.progress.at(there),
            GetReport::Content(bytes) => return self.content(&bytes),
            GetReport::Done { item, size, resumed, .. } => self.done(item, size, resumed),
            GetReport::Failed { item, url, why, told, kept } => {
                self.failed(item, &url, &why, told, kept.as_ref());
            }
            GetReport::Over { .. } => {}
        }
        None
    }

    /// A message that could not be sent.
    pub(super) fn take_back(&mut self, message: GetMessage) {
        if let GetMessage::Taken(octets) = message {
            self.untaken = self.untaken.saturating_add(octets);
        }
    }

    /// The exit code.
    pub(super) fn end(mut self, interrupted: bool) -> ExitCode {
        self.progress.end();
        match self.code {
            Some(_) if interrupted => ExitCode::from(INTERRUPTED),
            Some(code) => ExitCode::from(code),
            None => ExitCode::SUCCESS,
        }
    }

    /// A line for people who want to know more.
    fn more(&self, line: &str) {
        if self.verbose {
            self.progress.say(&escape(line));
        }
    }

    /// A head, as it stands on the wire, each line with who said it.
    fn said(&self, who: &str, head: &[u8]) {
        if !self.verbose {
            return;
        }
        let text = String::from_utf8_lossy(head);
        for line in text.split_terminator("\r\n") {
            self.progress.say(&paint(DIM, &format!("{who} {}", escape(line))));
        }
    }

    /// The head of a response.
    fn head(&mut self, head: &GetHead) {
        let wire = on_wire(head);
        self.said("<", &wire);
        if self.heads && self.records.is_none() {
            self.print(&wire);
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        match &mut self.output {
            Output::Terminal(held) => {
                held.extend_from_slice(bytes);
                let text = visible(held);
                print_bytes(text.as_bytes());
            }
            _ => print_bytes(bytes),
        }
    }

    fn content(&mut self, bytes: &[u8]) -> Option<GetMessage> {
        let first = !std::mem::replace(&mut self.begun, true);
        match &mut self.output {
            Output::Raw => print_bytes(bytes),
            Output::Device(device) => {
                if let Err(error) = device.write_all(bytes) {
                    self.print_failed(Failed::because(NEGATIVE, "cannot write", error));
                    self.output = Output::Closed;
                    return Some(GetMessage::Interrupt);
                }
            }
            Output::Terminal(_)
                if first && bytes.iter().take(LOOKED_AT).any(|octet| *octet == 0) =>
            {
                let failed = Failed::because(USAGE, "cannot print it", "it is no text")
                    .hint("-o FILE saves it; -o - prints it nevertheless");
                self.print_failed(failed);
                self.output = Output::Closed;
                return Some(GetMessage::Interrupt);
            }
            Output::Terminal(_) => self.print(bytes),
            Output::Closed => {}
        }
        self.untaken = self.untaken.saturating_add(bytes.len() as u64);
        let enough = self.untaken >= WINDOW / 8;
        enough.then(|| GetMessage::Taken(std::mem::take(&mut self.untaken)))
    }

    /// The rest of a text, and the end of its last line.
    fn end_text(&mut self) {
        if let Output::Terminal(held) = &mut self.output {
            let rest = std::mem::take(held);
            print_bytes(escape(&String::from_utf8_lossy(&rest)).as_bytes());
        }
    }

    fn done(&mut self, item: usize, size: u64, resumed: u64) {
        self.progress.end();
        self.end_text();
        if self.items.get(item).is_none_or(|item| item.save_as.is_none()) {
            return;
        }
        let there = match resumed {
            0 => String::new(),
            _ if resumed == size => ", all of it was there".to_owned(),
            _ => format!(", {} of it were there", BinaryBytes(resumed)),
        };
        let name = self.name(item);
        self.progress.say(&format!("{name}: {}{there}", BinaryBytes(size)));
    }

    fn failed(
        &mut self,
        item: usize,
        url: &Url,
        why: &GetError,
        told: u64,
        kept: Option<&GetKept>,
    ) {
        self.progress.end();
        self.end_text();
        let kept = kept.map(|kept| self.kept(kept));
        if let GetError::Interrupted = why {
            let name = self.name(item);
            if !matches!(self.output, Output::Closed) {
                let what = kept.unwrap_or_else(|| "nothing is kept".to_owned());
                self.progress.say(&format!("{name}: interrupted; {what}"));
            }
            self.code.get_or_insert(NEGATIVE);
            return;
        }
        let failed = not_had(url, why);
        let also = match (told, kept) {
            (0, None) => return self.print_failed(failed),
            (_, Some(kept)) => kept,
            (told, None) => format!("{} were written", BinaryBytes(told)),
        };
        self.print_failed(failed.also(also));
    }

    /// What is said of a partial file.
    fn kept(&self, kept: &GetKept) -> String {
        let octets = BinaryBytes(kept.octets);
        let part = self.path(&kept.part);
        match kept.can_go_on {
            true => format!("{octets} are kept in {part}; the same with --continue goes on"),
            false => format!(
                "{octets} are kept in {part}; the server did not tell which version they are of, \
                 so nothing can go on with them"
            ),
        }
    }

    fn path(&self, name: &str) -> String {
        match &self.place {
            Some(place) => place.join(name).display().to_string(),
            None => name.to_owned(),
        }
    }

    /// How an item is called: by its file, or its URL.
    fn name(&self, item: usize) -> String {
        match self.items.get(item) {
            Some(GetItem { save_as: Some(name), .. }) => self.path(name.as_str()),
            Some(GetItem { url, .. }) => url.to_string(),
            None => String::new(),
        }
    }

    fn print_failed(&mut self, failed: Failed) {
        self.code.get_or_insert(failed.code());
        self.progress.aside(|| failed.print());
    }

    fn as_record(&self, report: &GetReport) -> Option<(&'static str, Value)> {
        let saved = |item: usize| {
            self.items.get(item).and_then(|item| item.save_as.as_ref()).map(|_| self.name(item))
        };
        Some(match report {
            GetReport::Inform(head) => ("interim", of_head(head)),
            GetReport::Response { item, url, after, head } => {
                let mut record = of_head(head);
                record["item"] = json!(item);
                record["url"] = json!(url.to_string());
                record["after_ms"] = json!(after.as_millis());
                ("response", record)
            }
            GetReport::Redirected { to, now_get, now_public } => {
                let record = json!({ "to": to.to_string(), "now_get": now_get,
                    "now_public": now_public });
                ("redirected", record)
            }
            GetReport::Again => ("again", json!({})),
            GetReport::Anew { item, why } => {
                ("anew", json!({ "item": item, "why": why.to_string() }))
            }
            GetReport::Begun { item, size, resumed } => {
                ("begun", json!({ "item": item, "size": size, "resumed": resumed }))
            }
            GetReport::Progress(there) => ("progress", json!({ "there": there })),
            GetReport::Done { item, url, status, size, resumed, took } => {
                let record = json!({ "item": item, "url": url.to_string(),
                    "status": status.code(), "size": size, "resumed": resumed,
                    "took_ms": took.as_millis(), "saved": saved(*item) });
                ("done", record)
            }
            GetReport::Failed { item, url, why, told, kept } => {
                let (offset, section) = match why {
                    GetError::Protocol(error) => (Some(error.offset), Some(error.rule.section())),
                    _ => (None, None),
                };
                let record = json!({ "item": item, "url": url.to_string(),
                    "rule": why.name(), "why": why.to_string(), "offset": offset,
                    "section": section, "told": told,
                    "part": kept.as_ref().map(|kept| self.path(&kept.part)),
                    "kept": kept.as_ref().map(|kept| kept.octets) });
                ("failed", record)
            }
            GetReport::Over { done, failed } => ("over", json!({ "done": done, "failed": failed })),
            GetReport::Connected { .. } | GetReport::Request { .. } | GetReport::Content(_) => {
                return None;
            }
        })
    }
}

/// A head as it was on the wire.
fn on_wire(head: &GetHead) -> Vec<u8> {
    let mut wire = Vec::new();
    wire.extend_from_slice(version(head).as_bytes());
    wire.extend_from_slice(format!(" {:03} ", head.status.code()).as_bytes());
    wire.extend_from_slice(&head.reason);
    wire.extend_from_slice(b"\r\n");
    for (name, value) in &head.fields {
        wire.extend_from_slice(name.as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

fn version(head: &GetHead) -> &'static str {
    match head.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn of_head(head: &GetHead) -> Value {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let fields: Vec<_> =
        head.fields.iter().map(|(name, value)| [name.clone(), text(value)]).collect();
    let length = match head.length {
        BodyLength::None => json!(0),
        BodyLength::Known(octets) => json!(octets),
        BodyLength::Chunked => json!("chunked"),
        BodyLength::UntilClose => json!("until-close"),
    };
    json!({ "status": head.status.code(), "reason": text(&head.reason), "version": version(head),
        "fields": fields, "length": length })
}

/// Why something was not had, with the exit code.
fn not_had(url: &Url, why: &GetError) -> Failed {
    let failed = |code| Failed::because(code, format!("cannot get {url}"), why);
    match why {
        GetError::Unreachable(Failure::NotFound) => {
            Failed::because(NETWORK, format!("cannot get {url}"), "no such host")
        }
        GetError::Unreachable(Failure::Refused) => {
            failed(NETWORK).hint("nobody listens there; is the port right?")
        }
        GetError::Unreachable(_) | GetError::Lost(_) | GetError::NoAnswer => failed(NETWORK),
        GetError::TooSlow => failed(NETWORK).hint("--max-time gives it longer"),
        // What is missing may come another time.
        GetError::Protocol(error) => match error.rule {
            Rule::ResponseMissing | Rule::HeadShort | Rule::ContentShort => failed(NETWORK),
            Rule::ResponseTime | Rule::HeadTime | Rule::BodyTime | Rule::WriteTime => {
                failed(NETWORK)
            }
            _ => {
                failed(PROTOCOL).hint("such an answer may be read in several ways; tell its server")
            }
        },
        GetError::Redirects => failed(NEGATIVE).hint("--max-redirects follows more; -v shows them"),
        GetError::Loop => failed(NEGATIVE).hint("-v shows them; it may want a cookie (-H)"),
        GetError::Location(UrlError::Tls) => {
            failed(NEGATIVE).hint("`curl` speaks https; --max-redirects 0 shows where it leads")
        }
        GetError::Location(_) => failed(PROTOCOL).hint("--max-redirects 0 shows where it leads"),
        GetError::Status(_) => failed(NEGATIVE),
        GetError::NotSaved(SaveStage::Create, Failure::Exists) => {
            let why = "there is a FILE.part that this command did not make, or does not have alone";
            Failed::because(NEGATIVE, format!("cannot save {url}"), why)
                .hint("move it away, or save under another name with -o")
        }
        GetError::NotSaved(SaveStage::Look, Failure::WrongKind) => {
            let why = "there is something of that name, and it is no file";
            Failed::because(NEGATIVE, format!("cannot save {url}"), why)
                .hint("only files are replaced; -o saves under another name")
        }
        GetError::NotSaved(stage, failure) => {
            let failed = |why: String| Failed::because(NETWORK, format!("cannot save {url}"), why);
            failed(format!("{stage}: {failure}"))
        }
        _ => failed(PROTOCOL),
    }
}
