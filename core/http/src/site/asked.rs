//! What is kept of a request that is not answered at once.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{BodyLength, Fields, Method, Request, Target, Version};

/// The fields that bear on an answer or stand in the log. All others are forgotten.
const FIELDS: [&str; 12] = [
    "Accept",
    "Accept-Encoding",
    "Content-Range",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Origin",
    "Range",
    "Referer",
    "User-Agent",
];

/// A request, of which only what is needed is kept.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    method: Box<str>,
    version: Version,
    authority: Box<str>,
    path: Box<str>,
    query: Option<Box<str>>,
    fields: Box<[u8]>,
    length: BodyLength,
    expects_continue: bool,
    keeps_alive: bool,
}

impl Asked {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let (path, query) = path_of(&request.target);
        let mut fields = Vec::new();
        for field in request.fields.iter() {
            if FIELDS.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
                fields.extend_from_slice(field.name.as_bytes());
                fields.push(b':');
                fields.extend_from_slice(field.value);
                fields.extend_from_slice(b"\r\n");
            }
        }
        Self {
            method: request.method.as_str().into(),
            version: request.version,
            authority: request.authority.into(),
            path: path.into(),
            query: query.map(Into::into),
            fields: fields.into(),
            length: request.length,
            expects_continue: request.expects_continue,
            keeps_alive: request.keeps_alive,
        }
    }

    /// The request as it was, but for what was forgotten.
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            method: Method::new(&self.method),
            target: Target::Origin { path: &self.path, query: self.query.as_deref() },
            version: self.version,
            authority: &self.authority,
            fields: Fields::judged(&self.fields),
            length: self.length,
            expects_continue: self.expects_continue,
            keeps_alive: self.keeps_alive,
        }
    }

    /// As it came, without its query.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// Path and query of a target that has them.
pub(super) fn path_of<'i>(target: &Target<'i>) -> (&'i str, Option<&'i str>) {
    match *target {
        Target::Origin { path, query } => (path, query),
        Target::Absolute { path: "", query, .. } => ("/", query),
        Target::Absolute { path, query, .. } => (path, query),
        Target::Authority(_) | Target::Asterisk => ("", None),
    }
}
