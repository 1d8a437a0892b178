//! `semfio chat join`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use semfio_chat::text::{Folded, check_nick};
use semfio_chat::wire::ErrorCode;
use semfio_chat::{
    Cause, ClientError, Happened, Keys, Outcome, ParticipantConfig, ParticipantMessage,
    ParticipantReport,
};
use semfio_frame::Dialect;
use semfio_keysync::{GuardConfig, KeyFailure, Refusal};
use semfio_machine::{Failure, Target};
use semfio_runtime_os::{Clock, Handle};
use serde_json::{Value, json};

use crate::Common;
use crate::chat::{DialectName, dialect_name, warn_of_cleartext_key};
use crate::failed::{Failed, INTERRUPTED, LOCKED, NEGATIVE, NETWORK, PROTOCOL, USAGE};
use crate::output::{
    DIM, LOUD, OWN, Records, clock_face, escape, is_coloured, notice, paint, paint_nick,
    print_bytes, print_line,
};
use crate::passphrase::PassphraseArgs;
use crate::record::{self, Spoken};
use crate::runtime::Host;
use crate::signals::{self, Interrupted};

/// Lines of stdin that may be unacknowledged before no more are read.
const AHEAD: usize = 1000;

/// The longest line of stdin in bytes; what follows in the same line is left out. Far more than
/// any text may have, so that it is refused and not cut.
const MAX_STDIN_LINE: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server
    #[arg(value_name = "HOST:PORT", value_parser = target)]
    server: Target,
    /// Your name there [default: $USER, or guest]
    #[arg(long, value_name = "NAME", value_parser = nick)]
    nick: Option<String>,
    /// The room to enter first
    #[arg(long, value_name = "ROOM", default_value = "lobby", value_parser = crate::serve::room)]
    room: String,
    /// How to speak with the server
    #[arg(long, value_enum, default_value = "framed")]
    dialect: DialectName,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Speak with the course's secure chat server, whose key comes in clear. It keeps nothing secret
    #[arg(long, conflicts_with = "dialect")]
    insecure_cleartext_key: bool,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    let nick = args.nick.unwrap_or_else(default_nick);
    let dialect =
        if args.insecure_cleartext_key { Dialect::Token } else { Dialect::from(args.dialect) };
    if let Some(origin) = args.passphrase.origin() {
        let refused = |what| Failed::because(USAGE, format!("{origin} cannot be used"), what);
        if dialect != Dialect::Framed {
            let what = format!("nothing is sealed in the {} dialect", dialect_name(dialect));
            let flag = match args.insecure_cleartext_key {
                true => "--insecure-cleartext-key",
                false => "--dialect",
            };
            return Err(refused(what).hint(format!("leave out {flag}, or the passphrase")));
        }
    }
    let passphrase = args.passphrase.read()?;
    let server = args.server.to_string();
    let config = ParticipantConfig::new(args.server, dialect, &nick, &args.room);
    let record = common.record.as_deref();
    let (participant, header, redaction) =
        record::participant(config, passphrase, record.is_some(), common.record_secrets)?;
    let clock = Clock::start();
    let (shard, recording) = record::shard(participant, header, redaction, record, clock)?;
    let cannot = |error| Failed::because(NETWORK, "cannot join", error);
    let host = Host::new(common.runtime, shard, clock).map_err(cannot)?;
    let handle = host.handle();
    let interrupted = signals::catch({
        let handle = handle.clone();
        // A host that is gone takes no more, which its end has told; here and below.
        move || drop(handle.send(Spoken(ParticipantMessage::Interrupt)))
    })
    .map_err(cannot)?;
    let ahead = Arc::new(Ahead::default());
    let mut records = common.json.then(Records::default);
    if dialect == Dialect::Token {
        warn_of_cleartext_key(records.as_mut());
    }
    let screen = if let Some(records) = records {
        Screen::Records(records)
    } else if io::stdin().is_terminal() && io::stdout().is_terminal() {
        Screen::Terminal(Terminal::open(handle.clone(), interrupted.clone())?)
    } else {
        Screen::Pipe
    };
    if !matches!(screen, Screen::Terminal(_)) {
        let ahead = Arc::clone(&ahead);
        start("semfio-stdin", move || read_stdin(&handle, &ahead))?;
    }
    let mut teller = Teller {
        screen,
        quiet: common.quiet,
        verbose: common.verbose,
        nick,
        server,
        bordered: dialect == Dialect::Token,
        standing: false,
        refused: 0,
        outcome: None,
    };
    let participant = host.run(|report| {
        if let ParticipantReport::Done(lines) = report {
            ahead.done(lines);
        }
        teller.tell(report);
    });
    if let Screen::Terminal(terminal) = &teller.screen {
        terminal.restore();
    }
    drop(participant.map_err(cannot)?);
    recording.finish()?;
    if interrupted.is_set() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    teller.verdict(&ahead)
}

pub(crate) fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::Address(address));
    }
    let usage = || "expected HOST:PORT, for instance 127.0.0.1:8000".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(usage)?;
    let port = port.parse().map_err(|_| usage())?;
    if host.is_empty() || host.contains([':', '[', ']']) {
        return Err(usage());
    }
    Ok(Target::Name(host.into(), port))
}

fn nick(name: &str) -> Result<String, semfio_chat::text::BadText> {
    check_nick(name).map(|()| name.into())
}

fn default_nick() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    nick(&user).unwrap_or_else(|_| "guest".into())
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failed> {
    let started = thread::Builder::new().name(name.into()).spawn(work);
    started.map(drop).map_err(|error| Failed::because(NETWORK, "cannot start a thread", error))
}

/// How many lines were handed over and are not done with.
#[derive(Default)]
struct Ahead {
    lines: Mutex<usize>,
    fewer: Condvar,
}

impl Ahead {
    fn one_more(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = self
            .fewer
            .wait_while(lines, |lines| *lines >= AHEAD)
            .unwrap_or_else(PoisonError::into_inner);
        *lines += 1;
    }

    fn done(&self, n: usize) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = lines.saturating_sub(n);
        self.fewer.notify_one();
    }

    fn lines(&self) -> usize {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the lines of stdin, and its end.
fn read_stdin(handle: &Handle<Spoken<ParticipantMessage>>, ahead: &Ahead) {
    let mut stdin = io::stdin().lock();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        match stdin.by_ref().take(MAX_STDIN_LINE).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                notice(&format!("semfio: cannot read stdin: {error}"));
                break;
            }
        }
        if !line.ends_with(b"\n") && line.len() as u64 == MAX_STDIN_LINE {
            // The core refuses it for its length and says so.
            let _ = stdin.skip_until(b'\n');
        }
        while line.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
            line.pop();
        }
        let text = String::from_utf8_lossy(&line);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            notice(&format!(
                "semfio: line {number} is not UTF-8: sent with U+FFFD for what is not"
            ));
        }
        ahead.one_more();
        let _ = handle.send(Spoken(ParticipantMessage::Line(text.into_owned())));
    }
    let _ = handle.send(Spoken(ParticipantMessage::Eof));
}

/// Where the conversation is shown.
enum Screen {
    Records(Records),
    Pipe,
    Terminal(Terminal),
}

/// A terminal on which a line is typed while others arrive.
struct Terminal {
    printer: Box<dyn ExternalPrinter + Send>,
    coloured: bool,
    /// As it was; the editor's own clean-up is not waited for.
    before: Option<Termios>,
}

impl Terminal {
    fn open(
        handle: Handle<Spoken<ParticipantMessage>>,
        interrupted: Interrupted,
    ) -> Result<Self, Failed> {
        let before = tcgetattr(io::stdin()).ok();
        let cannot = |error| Failed::because(NETWORK, "cannot use the terminal", error);
        let config =
            rustyline::Config::builder().bracketed_paste(false).auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config).map_err(cannot)?;
        let printer = Box::new(editor.create_external_printer().map_err(cannot)?);
        start("semfio-typing", move || {
            loop {
                let message = match editor.readline("> ") {
                    Ok(line) => ParticipantMessage::Line(line),
                    Err(ReadlineError::Interrupted) => {
                        interrupted.set();
                        ParticipantMessage::Interrupt
                    }
                    Err(_) => ParticipantMessage::Eof,
                };
                let last = !matches!(message, ParticipantMessage::Line(_));
                let _ = handle.send(Spoken(message));
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { printer, coloured: is_coloured(), before })
    }

    fn print(&mut self, line: &str) {
        let line = if self.coloured {
            format!("{line}\n")
        } else {
            format!("{}\n", anstream::adapter::strip_str(line))
        };
        if self.printer.print(line).is_err() {
            std::process::exit(0);
        }
    }

    fn restore(&self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
            print_bytes(b"\r\x1b[K");
        }
    }
}

/// Tells what a participant reports.
struct Teller {
    screen: Screen,
    quiet: bool,
    verbose: bool,
    nick: String,
    server: String,
    /// Each text that is read is a whole one.
    bordered: bool,
    /// Whether there ever was a connection.
    standing: bool,
    refused: usize,
    outcome: Option<Outcome>,
}

impl Teller {
    fn tell(&mut self, report: ParticipantReport) {
        if self.outcome.is_some() {
            // Of lines that were typed after the end.
            return;
        }
        match &report {
            ParticipantReport::Welcome { nick, .. } => {
                self.standing = true;
                self.nick.clone_from(nick);
            }
            ParticipantReport::Connected => self.standing = true,
            ParticipantReport::Entry {
                what: Happened::Nick(new), own: true, old: false, ..
            } => {
                self.nick.clone_from(new);
            }
            ParticipantReport::Refused(_) => self.refused += 1,
            ParticipantReport::Over(outcome) => self.outcome = Some(outcome.clone()),
            _ => {}
        }
        match &mut self.screen {
            Screen::Records(records) => {
                if let Some((kind, record)) = as_record(&report) {
                    records.print(kind, record);
                }
            }
            Screen::Pipe => self.pipe(&report),
            Screen::Terminal(_) => self.show(&report),
        }
    }

    /// The conversation to stdout, all else to stderr.
    fn pipe(&self, report: &ParticipantReport) {
        match report {
            ParticipantReport::Entry { .. } => {
                if let Some(line) = self.as_line(report) {
                    print_line(&line);
                }
            }
            ParticipantReport::Text(bytes) if self.bordered => {
                print_bytes(&[bytes, &b"\n"[..]].concat());
            }
            ParticipantReport::Text(bytes) => print_bytes(bytes),
            ParticipantReport::Names { .. } | ParticipantReport::Note(_) => {
                if let Some(line) = self.as_line(report) {
                    print_line(&line);
                }
            }
            ParticipantReport::Gap { .. }
            | ParticipantReport::Garbage(_)
            | ParticipantReport::Refused(_)
            | ParticipantReport::Unreadable { .. } => {
                if let Some(line) = self.as_line(report) {
                    notice(&line);
                }
            }
            ParticipantReport::Lost { .. } | ParticipantReport::Keys { .. } if !self.quiet => {
                if let Some(line) = self.as_line(report) {
                    notice(&line);
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, report: &ParticipantReport) {
        // What was typed stands there already.
        if let ParticipantReport::Entry { what: Happened::Text(_), own: true, old: false, .. } =
            report
        {
            return;
        }
        let line = self.as_line(report);
        if let (Some(line), Screen::Terminal(terminal)) = (line, &mut self.screen) {
            terminal.print(&line);
        }
    }

    fn as_line(&self, report: &ParticipantReport) -> Option<String> {
        Some(match report {
            ParticipantReport::Welcome { nick, again: false } => {
                format!("* you are {}; /help tells what you can do", paint_nick(nick))
            }
            ParticipantReport::Welcome { again: true, .. } => "* connected again".into(),
            ParticipantReport::Connected => format!("* connected to {}", self.server),
            ParticipantReport::Entry { time, room, nick, what, own, .. } => {
                let face = paint(DIM, &format!("[{}]", clock_face(*time)));
                let (who, room) = (paint_nick(nick), escape(room));
                match what {
                    Happened::Text(text) => {
                        format!("{face} <{who}> {}", self.highlight(text, *own))
                    }
                    Happened::Action(text) => {
                        format!("{face} * {who} {}", self.highlight(text, *own))
                    }
                    Happened::Private(text) => format!("{face} <{who} -> {room}> {}", escape(text)),
                    Happened::Join => format!("{face} * {who} joined {room}"),
                    Happened::Part => format!("{face} * {who} left {room}"),
                    Happened::Nick(new) => format!("{face} * {who} is now {}", paint_nick(new)),
                }
            }
            ParticipantReport::Names { room, total, names } => {
                let mut line = format!("* in {}:", escape(room));
                for name in names {
                    line.push(' ');
                    line.push_str(&paint_nick(name));
                }
                let more = (*total as usize).saturating_sub(names.len());
                if more > 0 {
                    line.push_str(&format!(" and {more} more"));
                }
                line
            }
            ParticipantReport::Gap { room, from, to, oldest } => {
                let missed = to.saturating_sub(*from).saturating_add(1);
                let kept = if oldest > to {
                    "they are not kept any more".into()
                } else {
                    format!("/history {} shows what is kept", from.max(oldest))
                };
                let entries = if missed == 1 { "entry" } else { "entries" };
                let line = format!(
                    "! {missed} {entries} of {} left out, from {from} to {to}; {kept}",
                    escape(room)
                );
                paint(LOUD, &line)
            }
            ParticipantReport::Keys { room, what } => return self.as_key_line(room, what),
            ParticipantReport::Unreadable { room, .. } => {
                let why = "its key is not here, or it was changed on the way";
                paint(LOUD, &format!("! 1 text in {} could not be read: {why}", escape(room)))
            }
            ParticipantReport::Text(bytes) => {
                escape(String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n'])).into_owned()
            }
            ParticipantReport::Garbage(total) => {
                paint(LOUD, &format!("! something came that does not open; {total} so far"))
            }
            ParticipantReport::Refused(why) => paint(LOUD, &format!("! {}", escape(why))),
            ParticipantReport::Note(note) => format!("* {}", escape(note)),
            ParticipantReport::Lost { why, retry_in } => {
                let seconds = retry_in.as_secs_f32();
                let line = format!("! {}; trying again in {seconds:.1} s", escape(why));
                paint(LOUD, &line)
            }
            ParticipantReport::Done(_)
            | ParticipantReport::Over(_)
            | ParticipantReport::Journal(_) => return None,
        })
    }

    /// What happened to keys; most of it for those who want to know more.
    fn as_key_line(&self, room: &str, what: &Keys) -> Option<String> {
        let room = escape(room);
        Some(match what {
            Keys::Opened => format!(
                "* you opened {room}: nobody has checked your passphrase yet; who comes next must know it"
            ),
            Keys::Refused { nick, why } => {
                let line = format!("! {} was not let into {room}: {why}", escape(nick));
                paint(LOUD, &line)
            }
            Keys::InClear { nick } => {
                let nick = escape(nick);
                let line =
                    format!("! a text in clear for {room}, said to be of {nick}, was left out");
                paint(LOUD, &line)
            }
            _ if !self.verbose => return None,
            Keys::Waiting => format!("* {room}: waiting for the new key"),
            Keys::Epoch { epoch, holder, cause } => {
                let cause = match cause {
                    Cause::Renewed => "renewed".into(),
                    Cause::Joined(nick) => format!("{} joined", paint_nick(nick)),
                    Cause::Left(nick) => format!("{} left", paint_nick(nick)),
                    Cause::Holder(nick) => format!("{} holds the keys now", paint_nick(nick)),
                };
                format!("* {room}: epoch {epoch}, made by {}: {cause}", paint_nick(holder))
            }
        })
    }

    /// The text of another stands out if it names us.
    fn highlight(&self, text: &str, own: bool) -> String {
        let is_name = |word: &str| {
            let word =
                word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '_' && c != '-');
            !word.is_empty() && Folded::new(word) == Folded::new(&self.nick)
        };
        let text_shown = escape(text);
        if !own && text.split_whitespace().any(is_name) {
            paint(OWN, &text_shown)
        } else {
            text_shown.into_owned()
        }
    }

    fn verdict(&self, ahead: &Ahead) -> Result<ExitCode, Failed> {
        let lines = ahead.lines();
        let with_lines = |failed: Failed| {
            if lines > 0 {
                failed.also(format!("{} not sent or not acknowledged", were(lines)))
            } else {
                failed
            }
        };
        let server = &self.server;
        match &self.outcome {
            Some(Outcome::Left) if self.refused == 0 => Ok(ExitCode::SUCCESS),
            Some(Outcome::Left) if matches!(self.screen, Screen::Terminal(_)) => {
                Ok(ExitCode::SUCCESS)
            }
            Some(Outcome::Left) => {
                let what = format!("{} refused, see above", were(self.refused));
                Err(Failed::new(NEGATIVE, anyhow::anyhow!(what)))
            }
            Some(Outcome::TurnedAway(code, text)) => {
                let what = format!("{server} does not let you in");
                let mode = matches!(code, ErrorCode::Sealed | ErrorCode::NotSealed);
                let failed =
                    Failed::because(if mode { LOCKED } else { NEGATIVE }, what, escape(text));
                Err(with_lines(match code {
                    ErrorCode::NickInUse => failed.hint("choose another name with --nick"),
                    ErrorCode::Sealed => failed.hint(
                        "--passphrase asks for the room's passphrase, --passphrase-file reads it",
                    ),
                    ErrorCode::NotSealed => failed.hint(
                        "people speak there in clear; without a passphrase you do too, \
                         or open another room with --room",
                    ),
                    _ => failed,
                }))
            }
            Some(Outcome::Locked(room, why)) => Err(with_lines(locked(room, *why))),
            Some(Outcome::Failed(failure)) if self.standing => Err(with_lines(Failed::because(
                NETWORK,
                format!("the connection to {server} broke"),
                failure,
            ))),
            Some(Outcome::Failed(Failure::Reset)) => {
                let what = format!("{server} broke off before it let you in");
                Err(Failed::because(NETWORK, what, Failure::Reset)
                    .hint("is that a chat server, and of this dialect?"))
            }
            Some(Outcome::Failed(failure)) => {
                Err(Failed::because(NETWORK, format!("cannot connect to {server}"), failure)
                    .hint("is the server running? `semfio chat serve` starts one"))
            }
            Some(Outcome::Protocol(error)) => {
                let what = format!("{server} does not speak as it should");
                let failed = Failed::because(PROTOCOL, what, error);
                Err(match error {
                    ClientError::Mirrored
                    | ClientError::WelcomeTimeout
                    | ClientError::BadPreface
                    | ClientError::ClosedEarly => failed
                        .hint("if the server sends plain text without frames, try --dialect raw"),
                    ClientError::BadKey | ClientError::KeyTimeout | ClientError::NoKey => failed
                        .hint("--insecure-cleartext-key is for the course's secure chat; others want no such flag"),
                    _ => failed,
                })
            }
            Some(Outcome::Unsent(n)) => Err(Failed::new(
                NETWORK,
                anyhow::anyhow!("left {server}: {} not sent or not acknowledged", were(*n)),
            )),
            Some(Outcome::Ended) if lines > 0 => Err(with_lines(Failed::because(
                NETWORK,
                "the conversation is over",
                format!("{server} ended it"),
            ))),
            Some(Outcome::Ended) => Err(Failed::because(
                NEGATIVE,
                "the conversation is over",
                format!("{server} ended it"),
            )),
            None => Err(Failed::because(NETWORK, "cannot join", "the run ended before it began")),
        }
    }
}

/// So many lines, and their verb.
fn were(lines: usize) -> String {
    let verb = if lines == 1 { "line was" } else { "lines were" };
    format!("{lines} {verb}")
}

/// Why a sealed room was not entered.
fn locked(room: &str, why: KeyFailure) -> Failed {
    let what = format!("cannot join {}", escape(room));
    let failed = |code, why: &str| Failed::because(code, what, why);
    match why {
        KeyFailure::Passphrase | KeyFailure::Refused(Refusal::Proof) => {
            failed(LOCKED, "the passphrase is not that of the room")
                .hint("ask somebody inside for it; blanks and capitals count")
        }
        KeyFailure::Refused(Refusal::Name) => {
            failed(LOCKED, "your name belongs there to the program that entered with it first")
                .hint(
                    "choose another name with --nick; that one is free again half a minute after \
                     that program has left",
                )
        }
        KeyFailure::Refused(Refusal::Limit) => {
            let GuardConfig { first_pause, longest_pause, .. } = GuardConfig::default();
            let hint = format!(
                "wait {} s; each time too many try, the wait doubles, up to {} minutes",
                first_pause.as_secs(),
                longest_pause.as_secs() / 60
            );
            failed(LOCKED, "too many have tried to enter from your address").hint(hint)
        }
        KeyFailure::Refused(Refusal::Timeout) => {
            failed(NETWORK, "nobody inside answered").hint("try again in a minute")
        }
        why => failed(LOCKED, &why.to_string()),
    }
}

fn as_key_record(room: &str, what: &Keys) -> Value {
    match what {
        Keys::Opened => json!({ "room": room, "what": "opened" }),
        Keys::Waiting => json!({ "room": room, "what": "waiting" }),
        Keys::InClear { nick } => json!({ "room": room, "what": "in_clear", "nick": nick }),
        Keys::Refused { nick, why } => {
            json!({ "room": room, "what": "refused", "nick": nick, "why": why.to_string() })
        }
        Keys::Epoch { epoch, holder, cause } => {
            let (cause, nick) = match cause {
                Cause::Renewed => ("renewed", None),
                Cause::Joined(nick) => ("joined", Some(nick)),
                Cause::Left(nick) => ("left", Some(nick)),
                Cause::Holder(nick) => ("holder", Some(nick)),
            };
            json!({ "room": room, "what": "epoch", "epoch": epoch, "holder": holder,
                "cause": cause, "nick": nick })
        }
    }
}

fn as_record(report: &ParticipantReport) -> Option<(&'static str, Value)> {
    Some(match report {
        // For the trace alone.
        ParticipantReport::Journal(_) => return None,
        ParticipantReport::Welcome { nick, again } => {
            ("welcome", json!({ "nick": nick, "again": again }))
        }
        ParticipantReport::Connected => ("connected", json!({})),
        ParticipantReport::Entry { seq, time, room, nick, what, old, own } => {
            let (what, text) = match what {
                Happened::Text(text) => ("text", Some(text)),
                Happened::Action(text) => ("action", Some(text)),
                Happened::Private(text) => ("private", Some(text)),
                Happened::Join => ("join", None),
                Happened::Part => ("part", None),
                Happened::Nick(new) => ("nick", Some(new)),
            };
            let record = json!({ "what": what, "seq": seq, "time_ms": time, "room": room,
                "nick": nick, "text": text, "old": old, "own": own });
            ("entry", record)
        }
        ParticipantReport::Names { room, total, names } => {
            ("names", json!({ "room": room, "total": total, "names": names }))
        }
        ParticipantReport::Gap { room, from, to, oldest } => {
            ("gap", json!({ "room": room, "from": from, "to": to, "oldest": oldest }))
        }
        ParticipantReport::Keys { room, what } => ("keys", as_key_record(room, what)),
        ParticipantReport::Unreadable { seq, time, room, old } => {
            ("unreadable", json!({ "seq": seq, "time_ms": time, "room": room, "old": old }))
        }
        ParticipantReport::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => ("read", json!({ "text": text })),
            Err(_) => ("read", json!({ "octets": bytes })),
        },
        ParticipantReport::Garbage(total) => ("garbage", json!({ "total": total })),
        ParticipantReport::Done(lines) => ("done", json!({ "lines": lines })),
        ParticipantReport::Refused(why) => ("refused", json!({ "why": why })),
        ParticipantReport::Note(note) => ("note", json!({ "text": note })),
        ParticipantReport::Lost { why, retry_in } => {
            ("lost", json!({ "why": why, "retry_in_ms": retry_in.as_millis() }))
        }
        ParticipantReport::Over(outcome) => {
            let how = match outcome {
                Outcome::Left => "left",
                Outcome::Ended => "ended",
                Outcome::TurnedAway(..) => "turned away",
                Outcome::Locked(..) => "locked",
                Outcome::Failed(_) => "failed",
                Outcome::Protocol(_) => "protocol",
                Outcome::Unsent(_) => "unsent",
            };
            let why = match outcome {
                Outcome::Left | Outcome::Ended | Outcome::Unsent(_) => None,
                Outcome::TurnedAway(_, text) => Some(text.clone()),
                Outcome::Locked(_, why) => Some(why.to_string()),
                Outcome::Failed(failure) => Some(failure.to_string()),
                Outcome::Protocol(error) => Some(error.to_string()),
            };
            ("over", json!({ "how": how, "why": why }))
        }
    })
}
