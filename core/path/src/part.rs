//! Where a file is written before it is whole.

use alloc::format;
use alloc::string::String;

use crate::name::{MAX_PART, NameError, SafeName};

const BEFORE_TAG: &str = ".semfio-";
const AFTER_TAG: &str = ".part";
const TAG: usize = 4;
/// How much of a name leaves room for what is added.
const CUT: usize = MAX_PART - ".".len() - BEFORE_TAG.len() - TAG - AFTER_TAG.len();

impl SafeName {
    /// Where this file is written before it is whole, beside it: `.name.semfio-TAG.part`, with `tag`
    /// in four hexadecimal digits. It keeps two attempts apart; the host's CREATE_NEW decides.
    ///
    /// The name is cut so that the part has 255 bytes at most, so two long names may share it.
    /// Fails as [`Rule::Length`](crate::Rule::Length) where the whole is then too long.
    pub fn part(&self, tag: u16) -> Result<Self, NameError> {
        let part = format!(".{}{BEFORE_TAG}{tag:04x}{AFTER_TAG}", cut(self.file_name()));
        Self::within(self.parent(), &part)
    }

    /// What the file names of all its parts begin with.
    pub fn part_prefix(&self) -> String {
        format!(".{}{BEFORE_TAG}", cut(self.file_name()))
    }

    /// The tag of `file_name`, if [`SafeName::part`] could have made it from this name.
    pub fn tag_of(&self, file_name: &str) -> Option<u16> {
        let (name, tag) = take_apart(file_name)?;
        (name == cut(self.file_name())).then_some(tag)
    }
}

/// Whether a file is one that is not whole yet, to be left out of listings.
pub fn is_part(file_name: &str) -> bool {
    take_apart(file_name).is_some()
}

fn take_apart(file_name: &str) -> Option<(&str, u16)> {
    let (rest, tag) = file_name.strip_prefix('.')?.strip_suffix(AFTER_TAG)?.rsplit_once('-')?;
    let name = rest.strip_suffix(BEFORE_TAG.strip_suffix('-')?)?;
    let is_tag = tag.len() == TAG && tag.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let tag = u16::from_str_radix(tag, 16).ok().filter(|_| is_tag)?;
    (!name.is_empty()).then_some((name, tag))
}

fn cut(name: &str) -> &str {
    let end = (0..=CUT).rev().find(|&end| name.is_char_boundary(end));
    name.get(..end.unwrap_or(0)).unwrap_or(name)
}
