//! Where h11 0.16 and httptools 0.9 read a message otherwise that the engine accepts.

use semfio_corpus::http_reading::Message;
use semfio_corpus::http_samples::Kind;

use crate::differential::{Difference, Found};
use crate::peer::Who;

/// One kind of difference.
pub(crate) struct Disagreement {
    pub(crate) who: &'static [Who],
    /// What is sent, and what they make of it.
    pub(crate) what: &'static str,
    /// Why ours is right, or as good.
    pub(crate) why: &'static str,
    pub(crate) section: &'static str,
    /// As narrow as can be.
    pub(crate) fits: fn(&Found<'_>) -> bool,
}

const H11: &[Who] = &[Who::H11];
const HTTPTOOLS: &[Who] = &[Who::Httptools];

/// All of them; whatever is not here is a fault.
pub(crate) const DISAGREEMENTS: &[Disagreement] = &[
    Disagreement {
        who: HTTPTOOLS,
        what: "a method that is not in its list is refused",
        why: "methods are tokens, and new ones are registered; a server answers 501",
        section: "RFC 9110, 9.1",
        fits: |found| {
            found.refuses("Invalid method encountered")
                || found.refuses("Expected space after method")
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "HTTP/1.2 to HTTP/1.9 are refused",
        why: "a higher minor version is read as the highest that is known",
        section: "RFC 9110, 2.5",
        fits: |found| found.refuses("Invalid HTTP version") && found.has_minor_version(),
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "a digit, plus, minus or point in the scheme of an absolute target is refused",
        why: "schemes have them behind their first letter",
        section: "RFC 3986, 3.1",
        fits: |found| {
            let scheme = |start: &[u8]| {
                let target = start.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
                let end = target.iter().position(|&byte| byte == b':').unwrap_or(0);
                target[..end].iter().any(|byte| !byte.is_ascii_alphabetic())
            };
            found.refuses("Unexpected char in url schema")
                && found.message().is_some_and(|message| scheme(&message.start))
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "a response field over two lines is refused",
        why: "one who gets it reads the line end as blanks; in requests it is refused here too",
        section: "RFC 9112, 5.2",
        fits: |found| {
            let words = ["Unexpected whitespace after header value", "Invalid header value char"];
            found.is_folded() && words.iter().any(|words| found.refuses(words))
        },
    },
    Disagreement {
        who: H11,
        what: "a response field over two lines is read with one blank there, by us with as many as octets",
        why: "one or more blanks are asked for; a field is not moved in memory",
        section: "RFC 9112, 5.2",
        fits: |found| {
            let squeeze = |fields: &[(Vec<u8>, Vec<u8>)]| -> Vec<Vec<u8>> {
                let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
                let words =
                    |value: &[u8]| value.split(blank).map(<[u8]>::to_vec).collect::<Vec<_>>();
                let squeezed = |value: &[u8]| {
                    words(value)
                        .into_iter()
                        .filter(|word| !word.is_empty())
                        .collect::<Vec<_>>()
                        .join(&b' ')
                };
                fields
                    .iter()
                    .map(|(name, value)| [name.clone(), squeezed(value)].join(&b'='))
                    .collect()
            };
            let (Some(our), Some(their)) = (found.message(), found.theirs.messages.get(found.at))
            else {
                return false;
            };
            found.is_folded()
                && found.difference == Difference::Fields
                && squeeze(&our.fields) == squeeze(&their.fields)
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "Proxy-Connection is taken for Connection, in trailers too",
        why: "it was never more than a mistake of old clients",
        section: "RFC 9112, C.2.2",
        fits: |found| {
            let named = |message: &Message| {
                let mut fields = message.fields.iter().chain(&message.trailers);
                fields.any(|field| field.0 == b"proxy-connection")
            };
            found.difference == Difference::Keeps && found.message().is_some_and(named)
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "content of CONNECT is taken for the tunnel's",
        why: "a CONNECT has none; where its sender frames some, it is read before the tunnel begins",
        section: "RFC 9110, 9.3.6",
        fits: |found| {
            let begun = found.ours.begun.as_ref();
            let message = found.message().or(begun);
            message.is_some_and(|message| message.start.starts_with(b"CONNECT "))
                && matches!(
                    found.difference,
                    Difference::Body | Difference::More | Difference::Trailers
                )
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "content of a request that offers another protocol is taken for that protocol's",
        why: "until the offer is accepted, which comes after the request, it is content",
        section: "RFC 9110, 7.8",
        fits: |found| {
            let offers = |message: &Message| {
                ["upgrade", "connection"]
                    .iter()
                    .all(|name| message.fields.iter().any(|field| field.0 == name.as_bytes()))
            };
            let message = found.message().or(found.ours.begun.as_ref());
            message.is_some_and(offers)
                && matches!(
                    found.difference,
                    Difference::Body | Difference::More | Difference::Trailers
                )
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "an interim response that says close, or is of HTTP/1.0, is taken for the last one",
        why: "it is the final response that the connection ends with",
        section: "RFC 9112, 9.6",
        fits: |found| {
            let interim = |message: &Message| {
                message.start.starts_with(b"1")
                    && (message.version == "1.0"
                        || message.fields.iter().any(|field| field.0.ends_with(b"connection")))
            };
            found.refuses("Data after `Connection: close`")
                && found.case.kind == Kind::Response
                && found.ours.messages.iter().take(found.at).any(interim)
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "an interim response with a length is read with content",
        why: "it ends with its empty line, whatever its fields say",
        section: "RFC 9112, 6.3",
        fits: |found| {
            let framed = ["content-length", "transfer-encoding"];
            let interim = found.message().is_some_and(|message| message.start.starts_with(b"1"));
            found.case.kind == Kind::Response
                && interim
                && framed.iter().any(|name| found.field(name).is_some())
                && !matches!(found.difference, Difference::Start | Difference::Fields)
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "chunked with a tab behind it is not known",
        why: "tabs around a value are no part of it",
        section: "RFC 9112, 5.1",
        fits: |found| {
            // In a response the content then lasts until the connection ends.
            let refused = found.refuses("Request has invalid `Transfer-Encoding`");
            (refused || matches!(found.difference, Difference::Waits | Difference::Body))
                && found.case.bytes.windows(2).any(|it| it == b"d\t" || it == b"D\t")
        },
    },
    Disagreement {
        who: HTTPTOOLS,
        what: "HTTP/1.0 with both close and keep-alive keeps the connection",
        why: "close decides",
        section: "RFC 9112, 9.3",
        fits: |found| {
            let old =
                found.message().is_some_and(|message| message.version == "1.0" && !message.keeps);
            old && found.difference == Difference::Keeps && found.field("connection").is_some()
        },
    },
    Disagreement {
        who: H11,
        what: "an empty line before a request is refused",
        why: "a server should skip it",
        section: "RFC 9112, 2.2",
        fits: |found| found.refuses("no request line received"),
    },
    Disagreement {
        who: H11,
        what: "HTTP/1.0 never keeps a connection",
        why: "it does if both sides ask for it",
        section: "RFC 9112, 9.3",
        fits: |found| {
            let old =
                found.message().is_some_and(|message| message.version == "1.0" && message.keeps);
            old && found.difference == Difference::Keeps
        },
    },
    Disagreement {
        who: H11,
        what: "a connection that ended a response is not called so until the next event",
        why: "content without length or chunks ends with its connection",
        section: "RFC 9112, 6.3",
        fits: |found| {
            let framed = ["content-length", "transfer-encoding"];
            found.difference == Difference::Keeps
                && found.message().is_some_and(|message| !message.keeps)
                && framed.iter().all(|name| found.field(name).is_none())
        },
    },
    Disagreement {
        who: H11,
        what: "a length of more than 20 digits is refused",
        why: "leading zeros are digits, and the number fits",
        section: "RFC 9110, 8.6",
        fits: |found| {
            found.refuses("bad Content-Length")
                && found.field("content-length").is_some_and(|value| value.len() > 20)
        },
    },
    Disagreement {
        who: H11,
        what: "an unknown coding is refused where no content follows",
        why: "to HEAD, and with 204 and 304, it only tells what there would be",
        section: "RFC 9112, 6.1",
        fits: |found| {
            found.refuses("Only Transfer-Encoding: chunked is supported")
                && found.message().is_some_and(|message| message.body.is_empty())
        },
    },
];

impl Found<'_> {
    /// Whether a version of 1.2 or later is there.
    fn has_minor_version(&self) -> bool {
        self.case
            .bytes
            .windows(8)
            .any(|it| it.starts_with(b"HTTP/1.") && (b'2'..=b'9').contains(&it[7]))
    }

    /// Whether it is a response in which a line begins with a blank.
    fn is_folded(&self) -> bool {
        self.case.kind != Kind::Requests
            && self.case.bytes.windows(2).any(|it| matches!(it, b"\n " | b"\n\t"))
    }
}
