//! The access log.

use alloc::string::String;
use core::mem;
use semfio_machine::{ConnId, Net, Now};

use super::answer::Answered;
use crate::{HttpError, Request, Server};

#[derive(Debug)]
pub(super) struct Log {
    lines: String,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { lines: String::new() }
    }

    pub(super) fn put(&mut self, _: Now, _: ConnId, _: &Request<'_>, _: Answered, _: &Net<Server>) {
    }
    pub(super) fn put_broken(&mut self, _: Now, _: ConnId, _: HttpError, _: &Net<Server>) {}

    /// The lines since this was asked last.
    pub(super) fn take(&mut self) -> Option<String> {
        (!self.lines.is_empty()).then(|| mem::take(&mut self.lines))
    }
}
