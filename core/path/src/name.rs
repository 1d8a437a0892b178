//! A name that is safe to open beneath a folder.

use alloc::string::String;
use core::fmt;

use crate::fold::is_ignorable;

/// The longest name, in bytes: Linux's PATH_MAX.
pub const MAX_LEN: usize = 4_096;

/// The longest part, in bytes: NAME_MAX of every common file system.
pub const MAX_PART: usize = 255;

/// The most parts: beyond what people nest, and what walking one part at a time may cost.
pub const MAX_DEPTH: usize = 32;

/// What Windows takes for a device, whatever follows the first dot. COM and LPT take a digit.
const DEVICES: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// A relative path, `/` between its parts, that stays beneath the folder it is joined to.
///
/// It holds no control or bidi character, so it may be shown as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeName(String);

/// What a service decides for itself. By default dot-names are refused, since a peer could put
/// its own `.ssh` or `.bashrc` there, and a leading hyphen is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether a part may begin with a dot.
    pub dot_names: bool,
    /// Whether a part may begin with `-`, which programs take for an option.
    pub hyphen: bool,
}

/// A name that is not safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError {
    /// What it breaks.
    pub rule: Rule,
    /// The first byte of the name that does.
    pub offset: usize,
}

/// What a safe name keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// It is not empty.
    Empty,
    /// At most [`MAX_LEN`] bytes.
    Length,
    /// It is UTF-8.
    Utf8,
    /// It does not begin with `/`.
    Absolute,
    /// At most [`MAX_DEPTH`] parts.
    Depth,
    /// No part is empty, or of invisible characters only.
    EmptyPart,
    /// No part is `.` or `..`, invisible characters not counted.
    DotPart,
    /// At most [`MAX_PART`] bytes in a part.
    PartLength,
    /// No NUL.
    Nul,
    /// No backslash: Windows walks at it.
    Backslash,
    /// No colon: Windows has drives and streams of a file behind it.
    Colon,
    /// No control character, C0, DEL or C1.
    Control,
    /// No character that turns the direction of text.
    Bidi,
    /// No part ends in a dot or a space: Windows drops them.
    Trailing,
    /// No part is a device of Windows, with any extension.
    Device,
    /// [`Policy::dot_names`].
    DotName,
    /// [`Policy::hyphen`].
    Hyphen,
}

impl SafeName {
    /// Takes a name as a peer sent it.
    pub fn parse(name: impl AsRef<[u8]>, policy: Policy) -> Result<Self, NameError> {
        Self::judged(name.as_ref(), policy, true)
    }

    /// The same for the name of a file that is there already and is only read, on a system that is
    /// not Windows: what Windows alone reads in another way is let pass, [`Rule::Colon`],
    /// [`Rule::Trailing`], [`Rule::Device`]. Never make a file of such a name.
    pub fn parse_to_read(name: impl AsRef<[u8]>, policy: Policy) -> Result<Self, NameError> {
        Self::judged(name.as_ref(), policy, false)
    }

    fn judged(name: &[u8], policy: Policy, windows: bool) -> Result<Self, NameError> {
        if name.len() > MAX_LEN {
            return Err(Rule::Length.at(MAX_LEN));
        }
        let name = core::str::from_utf8(name).map_err(|at| Rule::Utf8.at(at.valid_up_to()))?;
        if name.is_empty() {
            return Err(Rule::Empty.at(0));
        }
        if name.starts_with('/') {
            return Err(Rule::Absolute.at(0));
        }
        let mut offset = 0_usize;
        for (depth, part) in name.split('/').enumerate() {
            if depth >= MAX_DEPTH {
                return Err(Rule::Depth.at(offset));
            }
            judge(part, policy, windows).map_err(|error| error.after(offset))?;
            offset = offset.saturating_add(part.len()).saturating_add(1);
        }
        Ok(Self(name.into()))
    }

    /// The whole, with `/` between the parts: as effects take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, from the outermost folder on; at least one.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// All but the last part; empty, which effects take for the root, if there is no other.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// `name` in this folder. Fails as [`Rule::Length`] or [`Rule::Depth`].
    pub fn join(&self, name: &Self) -> Result<Self, NameError> {
        Self::within(&self.0, &name.0)
    }

    /// `name`, which is safe, in `folder`, which is safe or empty.
    pub(crate) fn within(folder: &str, name: &str) -> Result<Self, NameError> {
        let mut joined = String::from(folder);
        if !folder.is_empty() {
            joined.push('/');
        }
        joined.push_str(name);
        if joined.len() > MAX_LEN {
            return Err(Rule::Length.at(MAX_LEN));
        }
        if let Some((end, _)) = joined.match_indices('/').nth(MAX_DEPTH.saturating_sub(1)) {
            return Err(Rule::Depth.at(end.saturating_add(1)));
        }
        Ok(Self(joined))
    }
}

impl AsRef<str> for SafeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { dot_names: false, hyphen: true }
    }
}

impl Rule {
    fn at(self, offset: usize) -> NameError {
        NameError { rule: self, offset }
    }
}

impl NameError {
    fn after(self, offset: usize) -> Self {
        Self { offset: self.offset.saturating_add(offset), ..self }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name {} (byte {})", self.rule, self.offset)
    }
}

impl core::error::Error for NameError {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Length => "is longer than 4,096 bytes",
            Self::Utf8 => "is not UTF-8",
            Self::Absolute => "begins at the root",
            Self::Depth => "has more than 32 parts",
            Self::EmptyPart => "has an empty part",
            Self::DotPart => "has . or .. for a part",
            Self::PartLength => "has a part longer than 255 bytes",
            Self::Nul => "holds a NUL",
            Self::Backslash => "holds a backslash",
            Self::Colon => "holds a colon",
            Self::Control => "holds a control character",
            Self::Bidi => "holds a character that turns the direction of text",
            Self::Trailing => "has a part that ends in a dot or a space",
            Self::Device => "is that of a device on Windows",
            Self::DotName => "has a part that begins with a dot",
            Self::Hyphen => "has a part that begins with a hyphen",
        })
    }
}

fn judge(part: &str, policy: Policy, windows: bool) -> Result<(), NameError> {
    let visible = || part.chars().filter(|&c| !is_ignorable(c));
    let first = visible().next();
    // Characters come first: a bidi control is ignorable, and has a rule of its own.
    for (offset, c) in part.char_indices() {
        if let Some(rule) = character(c).filter(|&rule| windows || rule != Rule::Colon) {
            return Err(rule.at(offset));
        }
    }
    if first.is_none() {
        return Err(Rule::EmptyPart.at(0));
    }
    if visible().eq(".".chars()) || visible().eq("..".chars()) {
        return Err(Rule::DotPart.at(0));
    }
    if part.len() > MAX_PART {
        return Err(Rule::PartLength.at(MAX_PART));
    }
    if windows && part.ends_with(['.', ' ']) {
        return Err(Rule::Trailing.at(part.len().saturating_sub(1)));
    }
    if windows && is_device(part) {
        return Err(Rule::Device.at(0));
    }
    match first {
        Some('.') if !policy.dot_names => Err(Rule::DotName.at(0)),
        Some('-') if !policy.hyphen => Err(Rule::Hyphen.at(0)),
        _ => Ok(()),
    }
}

fn character(c: char) -> Option<Rule> {
    match c {
        '\0' => Some(Rule::Nul),
        '\\' => Some(Rule::Backslash),
        ':' => Some(Rule::Colon),
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            Some(Rule::Bidi)
        }
        c if c.is_control() => Some(Rule::Control),
        _ => None,
    }
}

fn is_device(part: &str) -> bool {
    // Windows looks at what stands before the first dot, and not at spaces there.
    let stem = part.split('.').next().unwrap_or(part).trim_end_matches(' ');
    let stem = || stem.chars().filter(|&c| !is_ignorable(c)).map(|c| c.to_ascii_uppercase());
    if DEVICES.iter().any(|device| stem().eq(device.chars())) {
        return true;
    }
    let mut port = stem().skip(3);
    let numbered =
        matches!(port.next(), Some('0'..='9' | '¹' | '²' | '³')) && port.next().is_none();
    numbered && (stem().take(3).eq("COM".chars()) || stem().take(3).eq("LPT".chars()))
}
