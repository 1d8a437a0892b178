//! Field lines, of heads and of trailer sections, however they are cut.

use crate::error::{Broken, Rule};
use crate::limits::{Leniency, Limits};
use crate::scan;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Finds line after line, and remembers how far it has looked. At most the last three octets shown
/// are looked at again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// All octets before it have been judged.
    at: usize,
    /// Lines so far, this one too.
    count: usize,
    /// A line that is not whole: where it begins, and its colon, or 0 if that was not found.
    begun: Option<(usize, usize)>,
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

    /// How many octets have been judged, and are not looked at again.
    #[cfg(test)]
    pub(crate) fn judged(&self) -> usize {
        self.at
    }

    /// Goes on where it was, and tells each whole line. `view` is all that is shown, from the same
    /// octet on each time, and no more than the section may be long.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        view: &[u8],
        bounds: &Bounds,
        mut tell: impl FnMut(Line) -> Result<(), Broken>,
    ) -> Result<Found, Broken> {
        // Places in a slice, and a few octets behind: none of them wraps.
        let mut at = self.at;
        let mut count = self.count;
        let mut begun = self.begun.take();
        loop {
            let (start, mut colon) = match (begun.take(), view.get(at)) {
                (Some(begun), _) => begun,
                (None, Some(octet)) if *octet > b' ' => {
                    if count >= bounds.fields {
                        return Err(Rule::FieldsTooMany.broken(at));
                    }
                    count = count.wrapping_add(1);
                    (at, 0)
                }
                (None, _) => {
                    self.at = at;
                    self.count = count;
                    return self.end(view, bounds);
                }
            };
            // The octet that a line may not have any more, unless it is its end.
            let limit = start.saturating_add(bounds.field);
            let stop = limit.min(view.len());

            let behind = 'line: {
                if colon == 0 {
                    at = at.wrapping_add(scan::token(view.get(at..stop).unwrap_or_default()));
                    match view.get(at) {
                        None => break 'line None,
                        Some(b':') if at > start && at < limit => colon = at,
                        Some(octet) => return Err(not_a_colon(*octet, at, limit)),
                    }
                    at = at.wrapping_add(1);
                }
                at = at.wrapping_add(scan::text(view.get(at..stop).unwrap_or_default()));
                let behind = match (view.get(at), view.get(at.wrapping_add(1))) {
                    (Some(&CR), Some(&LF)) => at.wrapping_add(2),
                    (None, _) | (Some(&CR), None) => break 'line None,
                    (Some(&LF), _) if bounds.bare_lf => at.wrapping_add(1),
                    (Some(octet), _) => return Err(not_an_end(*octet, at, limit)),
                };
                if bounds.folds && view.get(behind).is_none() { None } else { Some(behind) }
            };
            match behind.map(|behind| (behind, view.get(behind))) {
                Some((behind, Some(b' ' | b'\t'))) if bounds.folds => {
                    self.at = at;
                    self.count = count;
                    self.begun = Some((start, colon));
                    return Ok(Found::Fold { from: at, to: behind });
                }
                Some((behind, _)) => {
                    tell(Line { start, colon, end: at })?;
                    at = behind;
                }
                None => {
                    self.at = at;
                    self.count = count;
                    self.begun = Some((start, colon));
                    return Ok(Found::More);
                }
            }
        }
    }

    /// What is no line: the empty one, nothing yet, or a fault.
    fn end(&self, view: &[u8], bounds: &Bounds) -> Result<Found, Broken> {
        let at = self.at;
        match view.get(at..).unwrap_or_default() {
            [] | [CR] => Ok(Found::More),
            [CR, LF, ..] => Ok(Found::End { lines: at, end: at.saturating_add(2) }),
            [CR, ..] => Err(Rule::LineEnd.broken(at.saturating_add(1))),
            [LF, ..] if bounds.bare_lf => Ok(Found::End { lines: at, end: at.saturating_add(1) }),
            [LF, ..] => Err(Rule::LineEnd.broken(at)),
            [b' ' | b'\t', ..] if self.count == 0 => Err(Rule::LeadingBlank.broken(at)),
            [b' ' | b'\t', ..] => Err(Rule::Fold.broken(at)),
            _ if self.count >= bounds.fields => Err(Rule::FieldsTooMany.broken(at)),
            _ => Err(Rule::FieldName.broken(at)),
        }
    }
}

/// What stands in place of a field's colon.
#[cold]
fn not_a_colon(octet: u8, at: usize, limit: usize) -> Broken {
    let rule = match octet {
        CR | LF => Rule::FieldColon,
        _ if at >= limit => Rule::FieldTooLong,
        b' ' | b'\t' => Rule::FieldBlank,
        _ => Rule::FieldName,
    };
    rule.broken(at)
}

/// What stands in place of a line's end.
#[cold]
fn not_an_end(octet: u8, at: usize, limit: usize) -> Broken {
    match octet {
        CR => Rule::LineEnd.broken(at.saturating_add(1)),
        _ if at >= limit => Rule::FieldTooLong.broken(at),
        LF => Rule::LineEnd.broken(at),
        _ => Rule::FieldValue.broken(at),
    }
}
