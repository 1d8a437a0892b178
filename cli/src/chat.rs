//! `semfio chat`: what both of its commands have in common.

use clap::{Subcommand, ValueEnum};
use semfio_frame::Dialect;
use serde_json::json;

use crate::output::{LOUD, Records, notice, paint};
use crate::{join, serve};

#[derive(Debug, Subcommand)]
pub(crate) enum Chat {
    /// Open a room: for `semfio chat join`, for nc and telnet, and for programs that send plain text
    Serve(serve::Args),
    /// Enter a room
    Join(join::Args),
}

/// How to speak.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DialectName {
    /// With names, rooms, history and acknowledgements
    Framed,
    /// Lines, as nc and telnet send them
    Line,
    /// Plain text without borders; the next line leaves once the last has come back
    Raw,
}

impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Self {
        match name {
            DialectName::Framed => Self::Framed,
            DialectName::Line => Self::Line,
            DialectName::Raw => Self::Raw,
        }
    }
}

/// A dialect's name, as it is typed and recorded.
pub(crate) fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Framed => "framed",
        Dialect::Line => "line",
        Dialect::Raw => "raw",
        Dialect::Token => "token",
    }
}

/// Says, whatever else is said or not, that a key goes in clear.
pub(crate) fn warn_of_cleartext_key(records: Option<&mut Records>) {
    let warning = "the key crosses the network in clear: whoever is on the way reads and forges all \
        that is said. This is for the course's own programs; it keeps nothing secret.";
    notice(&paint(LOUD, &format!("WARNING: {warning}")));
    if let Some(records) = records {
        records.print("warning", json!({ "what": "insecure_cleartext_key", "text": warning }));
    }
}
