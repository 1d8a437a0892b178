//! Round trips as a picture, for a terminal: the latest in a line, all of them in rows.

use std::collections::VecDeque;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use semfio_probe::Statistics;

use crate::output::{LOUD, paint};
use crate::ping::shown::three;

/// Probes in the line: half of a common terminal's width.
const LATEST: usize = 40;
const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const LOST: &str = "×";
/// A round trip of more than twice the median.
const SLOW: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));

/// Rows of all round trips, and the longest bar of them.
const ROWS: u128 = 8;
const WIDTH: u64 = 40;
/// Of fewer there is no picture.
const ENOUGH: u64 = 5;

/// What became of the latest probes of a host.
#[derive(Debug, Default)]
pub(super) struct Latest(VecDeque<Option<Duration>>);

impl Latest {
    /// The next one: its round trip, or nothing if it was not answered.
    pub(super) fn push(&mut self, round_trip: Option<Duration>) {
        if self.0.len() == LATEST {
            self.0.pop_front();
        }
        self.0.push_back(round_trip);
    }

    /// One bar each. The lowest are the shortest; a full one took twice as long at least.
    pub(super) fn line(&self) -> String {
        let mut sorted: Vec<Duration> = self.0.iter().flatten().copied().collect();
        sorted.sort_unstable();
        let shortest = sorted.first().copied().unwrap_or_default();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let span = sorted.last().copied().unwrap_or_default().max(shortest * 2) - shortest;
        let bar = |round_trip: &Option<Duration>| {
            let Some(round_trip) = *round_trip else { return paint(LOUD, LOST) };
            let above = (round_trip - shortest).as_secs_f64() / span.as_secs_f64().max(1e-9);
            let bar = BARS[((above * 7.0).round() as usize).min(BARS.len() - 1)];
            if round_trip > median * 2 { paint(SLOW, bar) } else { bar.to_owned() }
        };
        self.0.iter().map(bar).collect()
    }
}

/// How many took how long, in rows that grow by the same factor, with the quantiles where they lie.
/// Empty where there is nothing to be told apart.
pub(super) fn histogram(all: &Statistics) -> Vec<String> {
    let (min, max) = (all.min().max(Duration::from_nanos(1)), all.max());
    // None is narrower than the microsecond that is printed.
    let rows = ROWS.min(max.saturating_sub(min).as_micros());
    if all.count() < ENOUGH || rows < 2 {
        return Vec::new();
    }
    let factor = (max.as_secs_f64() / min.as_secs_f64()).powf(1.0 / rows as f64);
    let edges: Vec<Duration> =
        (1..rows).map(|row| min.mul_f64(factor.powf(row as f64))).chain([max]).collect();
    let row_of = |length| edges.iter().filter(|&&edge| edge <= length).count().min(edges.len() - 1);
    let mut counts = vec![0_u64; edges.len()];
    for (length, count) in all.by_length() {
        counts[row_of(length)] += count;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let begins = [min].into_iter().chain(edges.iter().copied());
    let rows = counts.iter().zip(begins.zip(&edges)).enumerate();
    let row = |(row, (&count, (from, &to))): (usize, (&u64, (Duration, &Duration)))| {
        // What is there can be seen.
        let width = (count * WIDTH).div_ceil(most);
        let bar = "█".repeat(usize::try_from(width).unwrap_or(0));
        let mut line = format!("{:>10} to {:>10} ms {bar} {count}", three(from), three(to));
        for (permille, mark) in [(500, " p50"), (900, " p90"), (990, " p99")] {
            if row_of(all.quantile(permille)) == row {
                line += mark;
            }
        }
        line
    };
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Statistics {
        let mut all = Statistics::default();
        micros.iter().for_each(|&micros| all.add(Duration::from_micros(micros)));
        all
    }

    fn plain(line: &str) -> String {
        anstream::adapter::strip_str(line).to_string()
    }

    #[test]
    fn a_line_has_a_bar_for_each_and_a_cross_for_what_was_lost() {
        let mut latest = Latest::default();
        assert_eq!(latest.line(), "");
        for micros in [100, 100, 0, 150, 200] {
            latest.push((micros > 0).then_some(Duration::from_micros(micros)));
        }
        assert_eq!(plain(&latest.line()), "▁▁×▅█");
        latest.push(Some(Duration::from_micros(800)));
        assert_eq!(plain(&latest.line()), "▁▁×▂▂█");
        assert!(latest.line().ends_with(&paint(SLOW, "█")), "{:?}", latest.line());
        assert!(latest.line().contains(&paint(LOUD, LOST)));
        for _ in 0..100 {
            latest.push(Some(Duration::ZERO));
        }
        assert_eq!(plain(&latest.line()), "▁".repeat(LATEST));
    }

    #[test]
    fn rows_hold_all_and_name_the_quantiles() {
        let rows = histogram(&of(&[100, 100, 100, 110, 300, 25_600]));
        assert_eq!(rows.len(), 8, "{rows:#?}");
        assert_eq!(rows[0], format!("     0.100 to      0.200 ms {} 4 p50", "█".repeat(40)));
        assert_eq!(rows[1], format!("     0.200 to      0.400 ms {} 1", "█".repeat(10)));
        assert_eq!(rows[7], format!("    12.800 to     25.600 ms {} 1 p90 p99", "█".repeat(10)));
        assert!(rows[2].ends_with("ms  0"), "{rows:#?}");
        for too_little in [&[100, 200][..], &[100; 100], &[0; 10], &[7, 7, 7, 7, 8]] {
            assert_eq!(histogram(&of(too_little)), Vec::<String>::new());
        }
        assert_eq!(histogram(&of(&[0, 1, 2, 3, 3])).len(), 2);
        assert_eq!(histogram(&of(&[10, 11, 12, 13, 13])).len(), 3);
    }
}
