//! Field lines, of heads and of trailer sections, however they are cut.

use crate::error::{Broken, Rule};
use crate::limits::{Leniency, Limits};
use crate::scan;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Finds line after line, and remembers how far it has looked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    stage: Stage,
    /// All octets before it have been judged.
    at: usize,
    /// The field line at hand: where it begins, its colon, and where its value ends.
    line: Line,
    /// Lines so far, this one too.
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// A line begins here, or the empty one.
    #[default]
    Begin,
    Name,
    Value,
    /// The LF of a field line.
    LineFeed,
    /// Behind a line that may go on with a blank.
    Behind,
    /// The LF of the empty line.
    Last,
}

/// Where a field line's parts are, in the octets that were shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pub(crate) start: usize,
    pub(crate) colon: usize,
    pub(crate) end: usize,
}

/// What a line may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    field: usize,
    fields: usize,
    bare_lf: bool,
    /// A line may go on behind its end, as in responses of old.
    folds: bool,
}

impl Bounds {
    #[inline]
    pub(crate) fn new(limits: &Limits, leniency: &Leniency, folds: bool) -> Self {
        let bare_lf = leniency.bare_lf;
        Self { field: limits.field, fields: limits.fields, bare_lf, folds }
    }
}

pub(crate) enum Found {
    /// The octets shown end before the line does.
    More,
    /// A whole line.
    Line(Line),
    /// The line goes on: these octets, its end so far, are to be made blanks.
    Fold { from: usize, to: usize },
    /// The empty line: where the lines end, and where it ends itself.
    End { lines: usize, end: usize },
}

impl Line {
    #[inline]
    pub(crate) fn name<'v>(&self, view: &'v [u8]) -> &'v [u8] {
        view.get(self.start..self.colon).unwrap_or_default()
    }

    /// Without its colon, with the blanks around it.
    #[inline]
    pub(crate) fn value<'v>(&self, view: &'v [u8]) -> &'v [u8] {
        view.get(self.colon..self.end).and_then(|it| it.get(1..)).unwrap_or_default()
    }

    /// Where the value begins, blanks skipped.
    pub(crate) fn value_at(&self, view: &[u8]) -> usize {
        let value = self.value(view);
        let blanks = value.iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
        self.end.saturating_sub(value.len()).saturating_add(blanks)
    }
}

impl Lines {
    /// Lines that begin at that octet.
    #[inline]
    pub(crate) fn new(at: usize) -> Self {
        Self { at, ..Self::default() }
    }

    /// Goes on where it was. `view` is all that is shown, from the same octet on each time, and no
    /// more than the section may be long.
    #[inline]
    pub(crate) fn next(&mut self, view: &[u8], bounds: &Bounds) -> Result<Found, Broken> {
        let mut at = self.at;
        if self.stage == Stage::Begin {
            match view.get(at) {
                None => return Ok(Found::More),
                Some(&CR) => {
                    at = at.saturating_add(1);
                    self.at = at;
                    self.stage = Stage::Last;
                }
                Some(&LF) if bounds.bare_lf => {
                    return Ok(Found::End { lines: at, end: at.saturating_add(1) });
                }
                Some(&LF) => return Err(Rule::LineEnd.broken(at)),
                Some(b' ' | b'\t') if self.count == 0 => return Err(Rule::LeadingBlank.broken(at)),
                Some(b' ' | b'\t') => return Err(Rule::Fold.broken(at)),
                Some(_) if self.count >= bounds.fields => {
                    return Err(Rule::FieldsTooMany.broken(at));
                }
                Some(_) => {
                    self.count = self.count.saturating_add(1);
                    self.line.start = at;
                    self.stage = Stage::Name;
                }
            }
        }
        // The octet that a line may not have any more, unless it is its end.
        let limit = self.line.start.saturating_add(bounds.field);
        let stop = limit.min(view.len());
        if self.stage == Stage::Name {
            at = at.saturating_add(scan::token(view.get(at..stop).unwrap_or_default()));
            match view.get(at) {
                None => {
                    self.at = at;
                    return Ok(Found::More);
                }
                Some(&(CR | LF)) => return Err(Rule::FieldColon.broken(at)),
                Some(_) if at >= limit => return Err(Rule::FieldTooLong.broken(at)),
                Some(b':') if at > self.line.start => {
                    self.line.colon = at;
                    at = at.saturating_add(1);
                    self.stage = Stage::Value;
                }
                Some(b' ' | b'\t') => return Err(Rule::FieldBlank.broken(at)),
                Some(_) => return Err(Rule::FieldName.broken(at)),
            }
        }
        if self.stage == Stage::Value {
            at = at.saturating_add(scan::text(view.get(at..stop).unwrap_or_default()));
            match view.get(at) {
                None => {
                    self.at = at;
                    return Ok(Found::More);
                }
                Some(&CR) => {
                    self.line.end = at;
                    at = at.saturating_add(1);
                    self.stage = Stage::LineFeed;
                }
                Some(&LF) if bounds.bare_lf => {
                    self.line.end = at;
                    self.stage = Stage::LineFeed;
                }
                Some(_) if at >= limit => return Err(Rule::FieldTooLong.broken(at)),
                Some(&LF) => return Err(Rule::LineEnd.broken(at)),
                Some(_) => return Err(Rule::FieldValue.broken(at)),
            }
        }
        if self.stage == Stage::LineFeed {
            match view.get(at) {
                None => {
                    self.at = at;
                    return Ok(Found::More);
                }
                Some(&LF) => {
                    self.at = at.saturating_add(1);
                    if !bounds.folds {
                        self.stage = Stage::Begin;
                        return Ok(Found::Line(self.line));
                    }
                    self.stage = Stage::Behind;
                }
                Some(_) => return Err(Rule::LineEnd.broken(at)),
            }
        }
        match (self.stage, view.get(self.at)) {
            (_, None) => Ok(Found::More),
            (Stage::Behind, Some(b' ' | b'\t')) => {
                self.stage = Stage::Value;
                Ok(Found::Fold { from: self.line.end, to: self.at })
            }
            (Stage::Last, Some(&LF)) => {
                let lines = self.at.saturating_sub(1);
                Ok(Found::End { lines, end: self.at.saturating_add(1) })
            }
            (Stage::Last, Some(_)) => Err(Rule::LineEnd.broken(self.at)),
            (_, Some(_)) => {
                self.stage = Stage::Begin;
                Ok(Found::Line(self.line))
            }
        }
    }
}
