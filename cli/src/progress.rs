//! How far a transfer is: a bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Common;
use crate::output::{escape, notice};

/// A bar below the lines on stderr, as long as a file comes.
pub(crate) struct Progress {
    shown: bool,
    quiet: bool,
    /// What is said of the bytes that came.
    are: &'static str,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(common: &Common) -> Self {
        Self::of(common, "")
    }

    /// Of bytes that are proved as they come.
    pub(crate) fn of_verified(common: &Common) -> Self {
        Self::of(common, " verified")
    }

    fn of(common: &Common, are: &'static str) -> Self {
        let quiet = common.quiet || common.json;
        Self { shown: !quiet && io::stderr().is_terminal(), quiet, are, bar: None }
    }

    /// A file of so many bytes comes, of which so many are there; of unknown length without.
    pub(crate) fn begin(&mut self, name: &str, size: Option<u64>, there: u64) {
        self.end();
        if !self.shown {
            return;
        }
        let template = match size {
            Some(_) => {
                let are = self.are;
                format!(
                    "{{msg}} {{wide_bar}} {{percent}}% {{binary_bytes}}/{{binary_total_bytes}}{are}, \
                     {{binary_bytes_per_sec}}, {{eta}} left"
                )
            }
            None => "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}".to_owned(),
        };
        let style = ProgressStyle::with_template(&template).expect("the template is our own");
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let bar =
            bar.with_style(style).with_message(escape(name).into_owned()).with_position(there);
        // What was there before did not come at this rate.
        bar.reset_eta();
        bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar = Some(bar);
    }

    pub(crate) fn at(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A file is read through before any of it is sent, which `why` tells.
    pub(crate) fn hashing(&mut self, name: &str, why: &str, done: u64, of: u64) {
        if !self.shown {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{msg} {wide_bar} {percent}%";
            let style = ProgressStyle::with_template(template).expect("the template is our own");
            ProgressBar::no_length()
                .with_style(style)
                .with_message(format!("{}: {why}", escape(name)))
        });
        bar.set_length(of);
        bar.set_position(done);
    }

    /// A line for people, above the bar.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.aside(|| notice(line));
        }
    }

    /// Writes to stderr with the bar out of the way.
    pub(crate) fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
