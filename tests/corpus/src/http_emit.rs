//! What the engine writes, read by the engine.

use semfio_http::Leniency;

use crate::Choices;
use crate::http_emission::{emitted, without_framing};
use crate::http_reading::{Reading, read};
use crate::http_samples::Kind;

/// Whatever is said is read again as the same message, and as one.
pub fn http_emit(data: &[u8]) {
    check(data, |kind, bytes| read(kind, Leniency::default(), bytes, false, &[]));
}

pub(crate) fn check(data: &[u8], read: impl Fn(Kind, &[u8]) -> Reading) {
    let choices = &mut Choices::new(data);
    while !choices.is_empty() {
        let kind = match choices.below(3) {
            0 => Kind::Requests,
            1 => Kind::Response,
            _ => Kind::ResponseToHead,
        };
        let Some((bytes, mut message)) = emitted(kind, choices) else { continue };
        let reading = read(kind, &bytes);
        assert_eq!(reading.messages.len(), 1, "{}: {reading:?}", bytes.escape_ascii());
        assert!(reading.begun.is_none());
        for mut its in reading.messages {
            // The server adds a date where there is none.
            let dated = message.fields.iter().any(|field| field.0 == b"date");
            if kind != Kind::Requests {
                message.keeps = its.keeps;
                let added = its.fields.iter().position(|field| field.0 == b"date").filter(|_| !dated);
                if let Some(added) = added {
                    its.fields.remove(added);
                }
            }
            assert_eq!(without_framing(its), message, "{}", bytes.escape_ascii());
        }
    }
}
