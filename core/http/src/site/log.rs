//! The access log, gathered for each turn.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use semfio_machine::{ConnId, Net, Now};

use super::answer::Answered;
use crate::{HttpError, LogForm, LogLine, Request, Server, Target, Version};

/// Lines that were not taken yet.
#[derive(Debug)]
pub(super) struct Log {
    form: Option<LogForm>,
    lines: String,
    /// Targets are put together here.
    target: Vec<u8>,
}

impl Log {
    pub(super) fn new(form: Option<LogForm>) -> Self {
        Self { form, lines: String::new(), target: Vec::new() }
    }

    /// A request that came `since` is answered.
    pub(super) fn put(
        &mut self,
        (since, now): (Now, Now),
        conn: ConnId,
        request: &Request<'_>,
        answered: Answered,
        net: &Net<Server>,
    ) {
        let Some(form) = self.form else { return };
        self.target.clear();
        let mut put = |text: &str| self.target.extend_from_slice(text.as_bytes());
        let query = match request.target {
            Target::Origin { path, query } => {
                put(path);
                query
            }
            Target::Absolute { scheme, authority, path, query } => {
                [scheme, "://", authority, path].into_iter().for_each(put);
                query
            }
            Target::Authority(authority) => {
                put(authority);
                None
            }
            Target::Asterisk => {
                put("*");
                None
            }
        };
        if let Some(query) = query {
            self.target.push(b'?');
            self.target.extend_from_slice(query.as_bytes());
        }
        let line = LogLine {
            peer: net.peer(conn).map(|peer| peer.address.ip()),
            at: since.unix,
            method: request.method.as_str(),
            target: &self.target,
            version: request.version,
            authority: request.authority,
            status: answered.status,
            sent: answered.sent,
            referer: request.fields.first("Referer"),
            agent: request.fields.first("User-Agent"),
            took: now.mono.saturating_since(since.mono),
        };
        line.write(form, &mut self.lines);
    }

    /// What came was no request.
    pub(super) fn put_broken(
        &mut self,
        now: Now,
        conn: ConnId,
        error: HttpError,
        net: &Net<Server>,
    ) {
        let Some(form) = self.form else { return };
        let line = LogLine {
            peer: net.peer(conn).map(|peer| peer.address.ip()),
            at: now.unix,
            method: "",
            target: b"",
            version: Version::Http11,
            authority: "",
            status: error.status(),
            sent: 0,
            referer: None,
            agent: None,
            took: now.mono.saturating_since(now.mono),
        };
        line.write(form, &mut self.lines);
    }

    /// The lines since this was asked last.
    pub(super) fn take(&mut self) -> Option<String> {
        (!self.lines.is_empty()).then(|| mem::take(&mut self.lines))
    }
}
