//! What is printed: records and lines on stdout, notices on stderr, nothing of a peer unescaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use anstyle::{AnsiColor, Color, Style};
use semfio_chat::text::is_control;
use semfio_machine::UnixTime;
use serde_json::{Map, Value};

/// The version of the schema of all records.
const SCHEMA: u64 = 1;

/// Colours of nicks; red is kept for warnings.
const NICKS: [AnsiColor; 10] = [
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::Magenta,
    AnsiColor::Cyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightYellow,
    AnsiColor::BrightBlue,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightCyan,
];

pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const LOUD: Style =
    Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::BrightRed)));
pub(crate) const OWN: Style = Style::new().bold().underline();

/// Prints JSON Lines.
#[derive(Debug, Default)]
pub(crate) struct Records {
    begun: bool,
}

impl Records {
    /// Prints `record`, an object, with `kind` as its type.
    pub(crate) fn print(&mut self, kind: &str, record: Value) {
        let mut line = Map::new();
        line.insert("type".into(), kind.into());
        if !self.begun {
            self.begun = true;
            line.insert("v".into(), SCHEMA.into());
        }
        if let Value::Object(fields) = record {
            line.extend(fields);
        }
        print_bytes(format!("{}\n", Value::Object(line)).as_bytes());
    }
}

pub(crate) fn choose_colour(choice: clap::ColorChoice) {
    match choice {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::AlwaysAnsi,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Whether stdout is to be coloured.
pub(crate) fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Prints a line to stdout, without its colours if they are not wanted.
pub(crate) fn print_line(line: &str) {
    let mut stdout = anstream::stdout().lock();
    checked(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}

/// Draws the line that the cursor is in anew, on a terminal; without its colours if they are not wanted.
pub(crate) fn print_status(line: &str) {
    let line = match is_coloured() {
        true => Cow::Borrowed(line),
        false => anstream::adapter::strip_str(line).to_string().into(),
    };
    print_bytes(format!("\r\x1b[K{line}").as_bytes());
}

/// Prints bytes to stdout as they are.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Prints a line to stderr.
pub(crate) fn notice(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Ends the program when nobody reads its output any more: quietly, if that is a closed pipe.
fn checked(result: io::Result<()>) {
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            notice(&format!("semfio: cannot write to stdout: {error}"));
            std::process::exit(i32::from(crate::failed::NEGATIVE));
        }
    }
}

/// A peer's text with all that a terminal might obey made visible.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\t' && is_control(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\t' => escaped.push(c),
            c if is_control(c) => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Takes all whole characters out of `held`, with what a terminal would obey made visible.
pub(crate) fn visible(held: &mut Vec<u8>) -> String {
    let cut = match std::str::from_utf8(held) {
        // The rest of the last character may come yet.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => incomplete_from(held),
    };
    let rest = held.split_off(cut);
    let text = String::from_utf8_lossy(held).replace("\r\n", "\n");
    let lines: Vec<_> = text.split('\n').map(escape).collect();
    *held = rest;
    lines.join("\n")
}

/// Where a character that is cut off at the end begins.
fn incomplete_from(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    (from..bytes.len())
        .find(|&at| {
            let tail = std::str::from_utf8(&bytes[at..]);
            tail.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(bytes.len())
}

/// A peer's name in its colour, which depends on the name alone.
pub(crate) fn paint_nick(nick: &str) -> String {
    // FNV-1a, so that a name has the same colour in every run and build.
    let hash = nick.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    });
    let place = usize::try_from(hash).unwrap_or(0) % NICKS.len();
    paint(Style::new().fg_color(Some(NICKS[place].into())), &escape(nick))
}

/// `text` in a style.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Hours and minutes of UTC.
pub(crate) fn clock_face(millis: u64) -> String {
    let civil = UnixTime::from_nanos(millis.saturating_mul(1_000_000)).civil();
    let mut face = String::new();
    let _ = write!(face, "{:02}:{:02}Z", civil.hour, civil.minute);
    face
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_is_printed() {
        let nasty = "a\u{1b}[2J\u{9b}m\u{202e}b\u{7f}\r\nc\u{2066}";
        let shown = escape(nasty);
        assert!(!shown.chars().any(is_control), "{shown}");
        assert!(shown.starts_with("a\\u{1b}[2J"), "{shown}");
        assert_eq!(escape("olá\t日本"), "olá\t日本");
    }

    #[test]
    fn a_nick_keeps_its_colour() {
        assert_eq!(paint_nick("ana"), paint_nick("ana"));
        assert_ne!(paint_nick("ana"), paint_nick("bia").replace("bia", "ana"));
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(clock_face(0), "00:00Z");
        assert_eq!(clock_face(((13 * 60) + 5) * 60_000), "13:05Z");
    }

    #[test]
    fn text_is_whole_however_it_is_cut_and_moves_no_terminal() {
        let text = "olá, ação\u{1b}[2J\r\nfim\u{202e}".as_bytes();
        let mut whole = text.to_vec();
        let wanted = visible(&mut whole);
        assert_eq!(wanted, "olá, ação\\u{1b}[2J\nfim\\u{202e}");
        // Only a line end may not be cut: its first half is shown as what it is then.
        for cut in (0..=text.len()).filter(|&cut| text.get(cut) != Some(&b'\n')) {
            let mut held = text[..cut].to_vec();
            let mut shown = visible(&mut held);
            held.extend_from_slice(&text[cut..]);
            shown += &visible(&mut held);
            assert_eq!(shown, wanted, "{cut}");
        }
        let mut wrong = b"a\xffb\xc3".to_vec();
        assert_eq!(visible(&mut wrong), "a\u{fffd}b");
        assert_eq!(wrong, b"\xc3");
    }
}
