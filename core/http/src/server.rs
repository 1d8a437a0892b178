//! The server's side of a connection.

use bytes::Bytes;
use semfio_machine::FileSpan;

use crate::field::{Fields, FieldsBuf};
use crate::message::{Body, Request};
use crate::status::Status;

/// What a server is told. One request is at hand at a time; the next one is told once it is
/// answered, so that answers are in order.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent<'i> {
    /// A request, to be answered by [`ServerCommand::Respond`], at once or later.
    Request(Request<'i>),
    /// A piece of its content, chunks taken off.
    Data(&'i [u8]),
    /// All of its content has come; the trailer section, most often empty.
    End(Fields<'i>),
}

/// What a server can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerCommand<'c> {
    /// An interim response, 1xx: `100 Continue` to have the content sent. Nothing is sent to a peer
    /// of HTTP/1.0.
    Inform {
        /// 1xx, and not 101.
        status: Status,
        /// Its fields.
        fields: &'c FieldsBuf,
    },
    /// The response. To HEAD, and with a status that forbids content, no content leaves, and no
    /// pieces of it are wanted either.
    Respond {
        /// 101 and 2xx to CONNECT hand the connection over: the machine is done, what was not taken
        /// belongs to whoever comes next.
        status: Status,
        /// Its fields; `Date` is added if it is not there.
        fields: &'c FieldsBuf,
        /// Its content.
        body: Body<'c>,
    },
    /// A piece of the response's content, copied.
    Data(&'c [u8]),
    /// A piece of the response's content that others hold too.
    Shared(&'c Bytes),
    /// A piece of the response's content, of a file.
    File(FileSpan),
    /// The response's content is complete; trailer fields go only in chunks, and are dropped
    /// elsewhere.
    End(&'c FieldsBuf),
    /// No more requests after the one at hand: its answer says so, and then the connection ends. One
    /// that waits for a request ends at once.
    Finish,
}
