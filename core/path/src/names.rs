//! The names of one transfer, told apart.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use crate::fold::fold;
use crate::name::SafeName;

/// The most a [`Names`] holds, in bytes, 64 counted for each name beside its letters: some 25,000
/// names, in half of what one side of a transfer may use.
pub const NAMES_LIMIT: usize = 4 * 1024 * 1024;

/// What the maps and the two strings of a name cost beside its letters.
const OVERHEAD: usize = 64;

/// The files of one transfer, and the folders they lie in: no two of them one to a file system
/// that ignores case, or that has its own form of Unicode.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By what they fold to, files and folders alike.
    held: BTreeMap<String, Held>,
    size: usize,
}

#[derive(Clone, Debug)]
struct Held {
    /// The last part, as it was first spelled.
    spelled: String,
    folder: bool,
}

/// A name that does not go with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamesError {
    /// A part is one with another's: the same file twice, another spelling of a file or folder, or
    /// a file where there is a folder.
    Taken {
        /// Where the part begins, in bytes.
        offset: usize,
        /// How it was first spelled.
        spelled: String,
    },
    /// [`NAMES_LIMIT`].
    Full,
}

impl Names {
    /// Takes in a file's name; nothing is changed if it is refused.
    pub fn insert(&mut self, name: &SafeName) -> Result<(), NamesError> {
        let mut added = BTreeMap::new();
        let mut size = self.size;
        let mut key = String::new();
        let mut offset = 0_usize;
        let mut parts = name.parts().peekable();
        while let Some(part) = parts.next() {
            let folder = parts.peek().is_some();
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(&fold(part));
            match self.held.get(&key) {
                Some(held) if !(folder && held.folder && held.spelled == part) => {
                    return Err(NamesError::Taken { offset, spelled: held.spelled.clone() });
                }
                Some(_) => {}
                None => {
                    size = size.saturating_add(key.len().saturating_add(part.len()));
                    size = size.saturating_add(OVERHEAD);
                    added.insert(key.clone(), Held { spelled: part.into(), folder });
                }
            }
            offset = offset.saturating_add(part.len()).saturating_add(1);
        }
        if size > NAMES_LIMIT {
            return Err(NamesError::Full);
        }
        self.size = size;
        self.held.extend(added);
        Ok(())
    }
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { offset, spelled } => {
                write!(f, "the part at byte {offset} is one with {spelled:?} on some systems")
            }
            Self::Full => f.write_str("the names take more than 4 MiB"),
        }
    }
}

impl core::error::Error for NamesError {}
