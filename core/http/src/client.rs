//! The client's side of a connection.

use bytes::Bytes;
use semfio_machine::FileSpan;

use crate::field::{Fields, FieldsBuf};
use crate::message::{Body, Response};
use crate::method::Method;

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'i> {
    /// An interim response, 1xx but 101; another one follows.
    Inform(Response<'i>),
    /// The response.
    Response(Response<'i>),
    /// A piece of its content, chunks taken off.
    Data(&'i [u8]),
    /// All of it has come; the trailer section, most often empty. The next request may be sent, if
    /// the response keeps the connection alive.
    End(Fields<'i>),
}

/// What a client can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCommand<'c> {
    /// A request; one at a time.
    Request {
        /// What is to be done.
        method: Method<'c>,
        /// As it is to be written: visible ASCII.
        target: &'c str,
        /// For `Host`, which is written first.
        authority: &'c str,
        /// All other fields.
        fields: &'c FieldsBuf,
        /// Its content.
        body: Body<'c>,
        /// This is the last request of the connection.
        close: bool,
    },
    /// A piece of the request's content, copied.
    Data(&'c [u8]),
    /// A piece of the request's content that others hold too.
    Shared(&'c Bytes),
    /// A piece of the request's content, of a file.
    File(FileSpan),
    /// The request's content is complete; trailer fields go only in chunks, and are dropped elsewhere.
    End(&'c FieldsBuf),
}
