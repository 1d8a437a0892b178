//! From the path of a target to a path beneath the root.

use alloc::string::String;
use core::fmt;
use semfio_path::{Policy, SafeName, is_part};

use crate::percent;
use crate::status::Status;

/// What the path of a target leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Beneath the root; `None` is the root itself.
    pub name: Option<SafeName>,
    /// The path ends in `/`: a folder is asked for.
    pub folder: bool,
}

/// Why a path leads to nothing that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotLocated {
    /// It holds a NUL, or a percent sign that encodes nothing: no client means that.
    Malformed,
    /// No file that is served has that name.
    Hidden,
}

/// Names that begin with a dot and are served all the same: they are there for peers (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

impl Located {
    /// Maps a path as it was written.
    ///
    /// Each part between slashes is decoded once, by itself. What then holds a slash or a backslash,
    /// is empty, `.` or `..`, or is no UTF-8, is the name of no file: dot segments are never
    /// followed, `//` is never folded, so a path has one spelling. Names that only Windows reads
    /// in another way, such as those with a colon, are served, since files are read here where they
    /// lie. Of names that begin with a dot only `/.well-known` is served, unless `dot_names`.
    pub fn new(path: &str, dot_names: bool) -> Result<Self, NotLocated> {
        let path = path.strip_prefix('/').ok_or(NotLocated::Hidden)?;
        if path.is_empty() {
            return Ok(Self { name: None, folder: true });
        }
        let (path, folder) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut name = String::new();
        for (depth, part) in path.split('/').enumerate() {
            let decoded = percent::decode(part).ok_or(NotLocated::Malformed)?;
            if decoded.contains(&0) {
                return Err(NotLocated::Malformed);
            }
            let part = String::from_utf8(decoded).map_err(|_| NotLocated::Hidden)?;
            let hidden = !dot_names && part.starts_with('.') && !(depth == 0 && part == WELL_KNOWN);
            if part.contains('/') || hidden || is_part(&part) {
                return Err(NotLocated::Hidden);
            }
            if depth > 0 {
                name.push('/');
            }
            name.push_str(&part);
        }
        let any = Policy { dot_names: true, hyphen: true };
        let name = SafeName::parse_to_read(&name, any).map_err(|_| NotLocated::Hidden)?;
        Ok(Self { name: Some(name), folder })
    }

    /// As effects take it; empty for the root.
    pub fn as_str(&self) -> &str {
        self.name.as_ref().map_or("", SafeName::as_str)
    }

    /// What `Location` says where a folder was asked for without `/` at its end: relative to the
    /// target, so no host and no prefix that a proxy took off need to be known. The query stays.
    pub fn folder_reference(&self, query: Option<&str>) -> String {
        let mut reference = String::new();
        match &self.name {
            Some(name) => percent::encode(name.file_name(), &mut reference),
            None => reference.push('.'),
        }
        reference.push('/');
        if let Some(query) = query {
            reference.push('?');
            reference.push_str(query);
        }
        reference
    }
}

/// Whether a folder's listing holds that name: only what [`Located::new`] would find.
pub(crate) fn is_shown(name: &str, dot_names: bool) -> bool {
    let policy = Policy { dot_names, hyphen: true };
    !name.contains('/') && !is_part(name) && SafeName::parse_to_read(name, policy).is_ok()
}

impl NotLocated {
    /// What a server answers with.
    pub const fn status(self) -> Status {
        match self {
            Self::Malformed => Status::BAD_REQUEST,
            Self::Hidden => Status::NOT_FOUND,
        }
    }
}

impl fmt::Display for NotLocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the path is malformed",
            Self::Hidden => "no file that is served has such a name",
        })
    }
}

impl core::error::Error for NotLocated {}
