//! Responses: a representation whole, in part, or not at all; pages for errors.

use alloc::string::String;
use bytes::Bytes;
use semfio_machine::{ConnId, FileId, FileSpan, Metadata, Net, Now};

use crate::{
    Body, ByteRange, ByteRanges, Coded, Coding, Condition, Fields, FieldsBuf, HttpDate, Method,
    PAGE_POLICY, PageForm, Piece, Request, Selection, Server, ServerCommand, Status, Validators,
    evaluate, status_page, unsatisfied_range,
};

/// What a file is as it is sent: in one coding, at one time.
#[derive(Debug)]
pub(super) struct Representation {
    media_type: String,
    coding: Coding,
    len: u64,
    validators: Validators,
    /// Of a 200.
    fields: FieldsBuf,
    /// Of a 304, and of all that is built on it.
    unmodified: FieldsBuf,
    /// Whether parts of it are sent.
    ranges: bool,
}

/// Where its octets are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    Memory(&'a Bytes),
    File(FileId),
    /// They are made as they are sent: how many there will be nobody knows.
    Later,
}

/// How a request was answered, for the log and for who goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: Status,
    /// Octets of content.
    pub(super) sent: u64,
    /// The content is wanted, piece by piece.
    pub(super) open: bool,
}

impl Answered {
    pub(super) fn new(status: Status, sent: u64) -> Self {
        Self { status, sent, open: false }
    }
}

impl Representation {
    /// Of a file in this coding. `negotiated`: another client may be sent another coding.
    pub(super) fn new(
        base: &FieldsBuf,
        media_type: &str,
        (metadata, coding, coded): (&Metadata, Coding, Coded),
        len: u64,
        negotiated: bool,
        now: Now,
    ) -> Self {
        let validators = Validators::of(metadata, coding, coded, now.unix);
        let ranges = coded == Coded::Stored;
        let mut unmodified = base.clone();
        if let Some(tag) = &validators.tag {
            add(&mut unmodified, "ETag", tag);
        }
        if negotiated {
            // Beside one of the user's, if there is one.
            let _ = unmodified.push("Vary", "Accept-Encoding");
        }
        let mut fields = unmodified.clone();
        add(&mut fields, "Content-Type", media_type);
        if let Some(modified) = validators.modified {
            add(&mut fields, "Last-Modified", HttpDate::new(modified).as_bytes());
        }
        if coding != Coding::Identity {
            add(&mut fields, "Content-Encoding", coding.as_str());
        }
        if ranges {
            add(&mut fields, "Accept-Ranges", "bytes");
        }
        let media_type = media_type.into();
        Self { media_type, coding, len, validators, fields, unmodified, ranges }
    }

    /// Judges preconditions and ranges, and sends what comes of it. `random` is for a boundary.
    pub(super) fn answer(
        &self,
        now: Now,
        conn: ConnId,
        request: &Request<'_>,
        source: Source<'_>,
        random: impl FnOnce() -> u128,
        net: &mut Net<Server>,
    ) -> Answered {
        let judged = Judged::of(&request.fields);
        let condition = if judged.conditional {
            evaluate(request.method, &request.fields, Some(&self.validators), now.unix)
        } else {
            Condition::Proceed { range: request.method == Method::Get }
        };
        let selection = match condition {
            Condition::NotModified => {
                let status = Status::NOT_MODIFIED;
                respond(conn, status, &self.unmodified, Body::Empty, net);
                return Answered::new(status, 0);
            }
            Condition::PreconditionFailed => {
                return excuse(conn, request, Status::PRECONDITION_FAILED, &self.unmodified, net);
            }
            Condition::Proceed { range } if range && judged.range && self.ranges => {
                Selection::of(&request.fields, self.len)
            }
            Condition::Proceed { .. } => Selection::Whole,
        };
        match selection {
            Selection::One(range) => {
                let mut fields = self.fields.clone();
                add(&mut fields, "Content-Range", range.content_range(self.len));
                let status = Status::PARTIAL_CONTENT;
                match (source, self.slice(source, range)) {
                    (_, Some(bytes)) => respond(conn, status, &fields, Body::Whole(&bytes), net),
                    (Source::File(file), _) => {
                        respond(conn, status, &fields, Body::File(span(file, range)), net);
                    }
                    _ => {}
                }
                Answered::new(status, range.len)
            }
            // Its parts could not say that they are encoded.
            Selection::Many(ranges) if self.coding == Coding::Identity => {
                let parts = ByteRanges::new(ranges, self.len, &self.media_type, random());
                self.send_parts(conn, &parts, source, net)
            }
            Selection::Unsatisfiable => {
                let mut fields = self.unmodified.clone();
                add(&mut fields, "Content-Range", unsatisfied_range(self.len));
                excuse(conn, request, Status::RANGE_NOT_SATISFIABLE, &fields, net)
            }
            Selection::Whole | Selection::Many(_) => {
                let range = ByteRange { offset: 0, len: self.len };
                let body = match source {
                    Source::Memory(bytes) => Body::Whole(bytes),
                    Source::File(file) => Body::File(span(file, range)),
                    Source::Later => Body::Unknown,
                };
                respond(conn, Status::OK, &self.fields, body, net);
                let head = request.method == Method::Head;
                let open = !head && matches!(source, Source::Later);
                let sent = if head || open { 0 } else { self.len };
                Answered { status: Status::OK, sent, open }
            }
        }
    }

    fn send_parts(
        &self,
        conn: ConnId,
        parts: &ByteRanges,
        source: Source<'_>,
        net: &mut Net<Server>,
    ) -> Answered {
        let mut fields = self.unmodified.clone();
        add(&mut fields, "Content-Type", parts.content_type());
        if let Some(modified) = self.validators.modified {
            add(&mut fields, "Last-Modified", HttpDate::new(modified).as_bytes());
        }
        let (status, len) = (Status::PARTIAL_CONTENT, parts.content_length());
        respond(conn, status, &fields, Body::Length(len), net);
        for piece in (0..).map_while(|n| parts.piece(n)) {
            // Refused only if the connection is gone: all parts together are far below what it holds.
            let _ = match (&piece, source) {
                (Piece::Text(text), _) => net.send(conn, ServerCommand::Data(text.as_bytes())),
                (Piece::Range(range), Source::File(file)) => {
                    net.send(conn, ServerCommand::File(span(file, *range)))
                }
                (Piece::Range(range), _) => match self.slice(source, *range) {
                    Some(bytes) => net.send(conn, ServerCommand::Shared(&bytes)),
                    None => Ok(()),
                },
            };
        }
        let _ = net.send(conn, ServerCommand::End(&FieldsBuf::new()));
        Answered::new(status, len)
    }

    fn slice(&self, source: Source<'_>, range: ByteRange) -> Option<Bytes> {
        let Source::Memory(bytes) = source else { return None };
        let from = usize::try_from(range.offset).ok()?;
        let to = from.checked_add(usize::try_from(range.len).ok()?)?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }
}

/// Which fields are there to be judged: most often none, and one look is enough.
struct Judged {
    conditional: bool,
    range: bool,
}

impl Judged {
    fn of(fields: &Fields<'_>) -> Self {
        let mut judged = Self { conditional: false, range: false };
        for field in fields.iter() {
            match field.name.as_bytes() {
                [b'I' | b'i', b'F' | b'f', b'-', ..] => judged.conditional = true,
                [b'R' | b'r', ..] => judged.range |= field.name.eq_ignore_ascii_case("Range"),
                _ => {}
            }
        }
        judged
    }
}

fn span(file: FileId, range: ByteRange) -> FileSpan {
    FileSpan { file, offset: range.offset, len: range.len }
}

/// Adds a field, unless the user has set it.
pub(super) fn add(fields: &mut FieldsBuf, name: &str, value: impl AsRef<[u8]>) {
    if fields.as_fields().first(name).is_none() {
        // Names and values are ours; a path in one of them is percent-encoded.
        let _ = fields.push(name, value);
    }
}

/// Sends a response, or the beginning of it.
pub(super) fn respond(
    conn: ConnId,
    status: Status,
    fields: &FieldsBuf,
    body: Body<'_>,
    net: &mut Net<Server>,
) {
    // Refused only if the connection is gone, and then `handle_closed` tells.
    let _ = net.send(conn, ServerCommand::Respond { status, fields, body });
}

/// Sends a page that says what is wrong.
pub(super) fn excuse(
    conn: ConnId,
    request: &Request<'_>,
    status: Status,
    fields: &FieldsBuf,
    net: &mut Net<Server>,
) -> Answered {
    let form = PageForm::negotiate(&request.fields);
    let page = Bytes::from(status_page(status, form));
    let mut fields = fields.clone();
    add_page(&mut fields, form);
    respond(conn, status, &fields, Body::Whole(&page), net);
    let sent = if request.method == Method::Head { 0 } else { page.len() as u64 };
    Answered::new(status, sent)
}

/// Adds what belongs to a page that is made here.
pub(super) fn add_page(fields: &mut FieldsBuf, form: PageForm) {
    add(fields, "Content-Type", form.content_type());
    if form == PageForm::Html {
        add(fields, "Content-Security-Policy", PAGE_POLICY);
    }
    // Beside one of the user's, if there is one.
    let _ = fields.push("Vary", "Accept");
}
