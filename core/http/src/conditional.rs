//! Conditional requests, in the order of RFC 9110, 13.2.2.

use semfio_machine::UnixTime;

use crate::date::HttpDate;
use crate::etag::{EntityTag, Named, Validators};
use crate::field::Fields;
use crate::method::Method;

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The method is to be performed.
    Proceed {
        /// `Range` counts: the method is GET, and `If-Range` is absent or true. Whether there is a
        /// `Range` is not looked at.
        range: bool,
    },
    /// 304: what the client has does.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Judges the preconditions of a request whose answer would else be 2xx (RFC 9110, 13.2.1), against
/// the current representation; `None` if there is none.
///
/// Dates that are none, that come twice, or that `If-Modified-Since` takes from the future, are
/// ignored. A list of tags that is none matches nothing; with methods other than GET and HEAD the
/// request then fails: who sends a precondition would rather have nothing done than the wrong thing.
pub fn evaluate(
    method: Method<'_>,
    fields: &Fields<'_>,
    current: Option<&Validators>,
    now: UnixTime,
) -> Condition {
    if matches!(method, Method::Connect | Method::Options | Method::Trace) {
        return Condition::Proceed { range: false };
    }
    let reads = matches!(method, Method::Get | Method::Head);
    let tag = current.and_then(|it| it.tag.as_ref()).map(|it| it.as_tag());
    let modified = current.and_then(|it| it.modified);

    match names(fields, "If-Match", tag, EntityTag::strong_eq) {
        Named::Any if current.is_some() => {}
        Named::Yes => {}
        Named::Absent => {
            let since = date(fields, "If-Unmodified-Since", now);
            if later(modified, since) {
                return Condition::PreconditionFailed;
            }
        }
        Named::Any | Named::No | Named::Malformed => return Condition::PreconditionFailed,
    }

    match names(fields, "If-None-Match", tag, EntityTag::weak_eq) {
        Named::Any if current.is_none() => {}
        Named::No => {}
        Named::Malformed if reads => {}
        Named::Absent => {
            let since = date(fields, "If-Modified-Since", now).filter(|it| *it <= now);
            if reads && since.is_some() && modified.is_some() && !later(modified, since) {
                return Condition::NotModified;
            }
        }
        Named::Any | Named::Yes if reads => return Condition::NotModified,
        Named::Any | Named::Yes | Named::Malformed => return Condition::PreconditionFailed,
    }

    let range = method == Method::Get && if_range(fields, tag, modified, now);
    Condition::Proceed { range }
}

fn names<'t>(
    fields: &Fields<'_>,
    name: &str,
    tag: Option<EntityTag<'t>>,
    same: fn(&EntityTag<'t>, &EntityTag<'_>) -> bool,
) -> Named {
    Named::in_list(fields.all(name), |it| tag.as_ref().is_some_and(|tag| same(tag, it)))
}

/// RFC 9110, 13.1.5.
fn if_range(
    fields: &Fields<'_>,
    tag: Option<EntityTag<'_>>,
    modified: Option<UnixTime>,
    now: UnixTime,
) -> bool {
    let mut values = fields.all("If-Range");
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    if let Some(asked) = EntityTag::parse(value) {
        return tag.is_some_and(|tag| tag.strong_eq(&asked));
    }
    // The date must be the very one that was told; one that was told is strong.
    let asked = HttpDate::parse(value, now).map(UnixTime::as_secs);
    asked.is_some() && asked == modified.map(UnixTime::as_secs)
}

/// A field's one date.
fn date(fields: &Fields<'_>, name: &str, now: UnixTime) -> Option<UnixTime> {
    let mut values = fields.all(name);
    let date = HttpDate::parse(values.next()?, now)?;
    values.next().is_none().then_some(date)
}

/// Whether it was modified after that date, both known. Dates in fields are whole seconds.
fn later(modified: Option<UnixTime>, since: Option<UnixTime>) -> bool {
    modified.zip(since).is_some_and(|(modified, since)| modified.as_secs() > since.as_secs())
}
