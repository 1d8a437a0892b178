//! The table of `--live`, drawn again in place.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use crate::output::print_bytes;

use super::words::millis;

/// Answers that a sparkline shows.
pub(super) const SPARKS: usize = 20;

/// What a table needs beside a host's name, in characters.
const FIGURES: usize = 68;

/// Columns where nobody says how wide the terminal is.
const WIDTH: usize = 100;

/// What is known of a hop.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) hop: u8,
    pub(super) host: String,
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// `None` until somebody has answered.
    pub(super) times: Option<Times>,
    /// What is to be said of it, if it is not plainly fine.
    pub(super) verdict: String,
    /// The latest answers, oldest first; `None` for one that never came.
    pub(super) latest: Vec<Option<Duration>>,
}

/// Round trips of a hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) last: Duration,
    pub(super) avg: Duration,
    pub(super) best: Duration,
    pub(super) worst: Duration,
    pub(super) stdev: Duration,
    pub(super) jitter: Duration,
}

/// A table on a terminal.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// Lines that stand there, to be drawn over.
    drawn: usize,
}

impl Screen {
    /// `None` if stdout is no terminal.
    pub(super) fn on_terminal() -> Option<Self> {
        io::stdout().is_terminal().then(Self::default)
    }

    /// Draws the table where it was drawn before.
    pub(super) fn draw(&mut self, title: &str, rows: &[Row]) {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let width = size.map_or(WIDTH, |size| size.ws_col.into());
        let height = size.map_or(usize::MAX, |size| size.ws_row.into());
        let mut lines = table(title, rows, width);
        // What has left the screen at its top cannot be drawn over.
        lines.truncate(height.saturating_sub(1).max(1));
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = write!(text, "\r\x1b[K{line}\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        print_bytes(text.as_bytes());
    }
}

/// The lines of a table, none wider than `width`.
pub(super) fn table(title: &str, rows: &[Row], width: usize) -> Vec<String> {
    let longest = rows.iter().map(|row| row.host.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(FIGURES).max(8);
    let host = longest.clamp(8, room);
    let head = format!(
        "hop  {:host$}  loss%    snt    last     avg    best    wrst   stdev  jitter",
        "host"
    );
    let mut lines = vec![title.to_owned(), head];
    lines.extend(rows.iter().map(|row| line(row, host)));
    for line in &mut lines {
        *line = line.chars().take(width).collect();
    }
    lines
}

fn line(row: &Row, host: usize) -> String {
    let name: String = row.host.chars().take(host).collect();
    let loss = match row.sent {
        0 => 0.0,
        sent => row.lost as f64 * 100.0 / sent as f64,
    };
    let mut line = format!("{:3}  {name:host$} {loss:5.1}% {:6}", row.hop, row.sent);
    match row.times {
        None => line += &" ".repeat(48),
        Some(Times { last, avg, best, worst, stdev, jitter }) => {
            for time in [last, avg, best, worst, stdev, jitter] {
                let _ = write!(line, " {:>7}", short(time));
            }
        }
    }
    let _ = write!(line, "  {}", sparks(&row.latest));
    if !row.verdict.is_empty() {
        let _ = write!(line, "  {}", row.verdict);
    }
    line.trim_end().to_owned()
}

/// Milliseconds in seven characters.
fn short(time: Duration) -> String {
    match time.as_millis() {
        0..1_000 => millis(time),
        millis => millis.to_string(),
    }
}

/// The latest answers as bars between the fastest and the slowest of them; a cross for none.
fn sparks(latest: &[Option<Duration>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let times = || latest.iter().flatten();
    let (best, worst) = (times().min().copied(), times().max().copied());
    let (best, worst) = (best.unwrap_or_default(), worst.unwrap_or_default());
    let span = (worst - best).as_nanos();
    let bar = |time: &Duration| {
        let above = (*time - best).as_nanos() * 7;
        BARS[usize::try_from(above.checked_div(span).unwrap_or(0)).unwrap_or(0).min(7)]
    };
    latest.iter().map(|time| time.as_ref().map_or('×', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bars_stand_between_the_fastest_and_the_slowest() {
        assert_eq!(sparks(&[]), "");
        assert_eq!(sparks(&[None, None]), "××");
        assert_eq!(sparks(&[Some(ms(3)), Some(ms(3))]), "▁▁");
        assert_eq!(sparks(&[Some(ms(1)), None, Some(ms(8)), Some(ms(15))]), "▁×▄█");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let times = Times {
            last: ms(40),
            avg: ms(41),
            best: ms(39),
            worst: ms(1_234_567),
            stdev: ms(1),
            jitter: ms(2),
        };
        let rows = [
            Row {
                hop: 1,
                host: "a-very-long-name.of-a-router.example (192.0.2.123)".into(),
                sent: 12,
                lost: 5,
                times: Some(times),
                verdict: "rate limited".into(),
                latest: vec![Some(ms(40)); SPARKS],
            },
            Row { hop: 2, sent: 12, lost: 12, ..Row::default() },
        ];
        for width in [10, 40, 80, 120, 400] {
            for line in table("title", &rows, width) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let lines = table("title", &rows, 200);
        assert!(lines[2].contains("(192.0.2.123)  41.7%     12  40.000"), "{}", lines[2]);
        assert!(lines[2].ends_with("▁  rate limited"), "{}", lines[2]);
        assert_eq!(lines[3].trim_end(), format!("  2  {:50} 100.0%     12  ", "").trim_end());
    }
}
