//! What a trace tells of a [`Get`].

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use semfio_http::get::{Get, GetConfig, GetItem, GetMessage};
use semfio_http::{FieldsBuf, Url};
use semfio_machine::RootId;
use semfio_path::{Policy, SafeName};
use semfio_trace::{Header, Recorded};

use crate::record::{Spoken, duration, field, header, nanos, number, octets};

/// The name of the service in a trace.
pub(crate) const HTTP_GET: &str = "http.get";

const TAKEN: &str = "taken ";
const INTERRUPT: &[u8] = b"interrupt";

impl Recorded for Spoken<GetMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self.0 {
            GetMessage::Taken(octets) => to.extend(format!("{TAKEN}{octets}").as_bytes()),
            GetMessage::Interrupt => to.extend(INTERRUPT),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        if from == INTERRUPT {
            return Some(Self(GetMessage::Interrupt));
        }
        let octets = std::str::from_utf8(from).ok()?.strip_prefix(TAKEN)?;
        Some(Self(GetMessage::Taken(octets.parse().ok()?)))
    }
}

/// The header of the trace of a [`Get`].
pub(crate) fn http_get_header(config: &GetConfig) -> Header {
    // Neither a URL nor a safe name holds a line feed.
    let item = |item: &GetItem| {
        let name = item.save_as.as_ref().map(SafeName::as_str).unwrap_or_default();
        format!("{}\n{name}", item.url)
    };
    let items: Vec<_> = config.items.iter().map(item).collect();
    let lines = config.fields.as_fields();
    let lines: Vec<_> = lines
        .iter()
        .map(|field| format!("{} {}", field.name, URL_SAFE_NO_PAD.encode(field.value)))
        .collect();
    let fields = [
        ("items", items.join("\n")),
        ("method", config.method.clone().unwrap_or_default()),
        ("fields", lines.join("\n")),
        ("has_body", config.body.is_some().to_string()),
        ("body", URL_SAFE_NO_PAD.encode(config.body.as_deref().unwrap_or_default())),
        ("redirects", config.redirects.to_string()),
        ("resume", config.resume.to_string()),
        ("fail", config.fail.to_string()),
        ("max_time_ns", nanos(config.max_time)),
    ];
    header(HTTP_GET, "client", fields, None)
}

/// The one that a header tells of.
pub(crate) fn http_get_of(header: &Header) -> anyhow::Result<Get> {
    Ok(Get::new(config_of(header)?))
}

fn config_of(header: &Header) -> anyhow::Result<GetConfig> {
    let lines: Vec<&str> = field(header, "items")?.split('\n').collect();
    let items = lines.chunks(2).map(|item| match item {
        [url, name] => {
            let any = Policy { dot_names: true, hyphen: true };
            let save_as = match *name {
                "" => None,
                name => Some(SafeName::parse(name, any).ok().context("items")?),
            };
            Ok(GetItem { url: Url::parse(url).ok().context("items")?, save_as })
        }
        _ => Err(anyhow::anyhow!("items")),
    });
    let mut fields = FieldsBuf::new();
    for line in field(header, "fields")?.lines() {
        let (name, value) = line.split_once(' ').context("fields")?;
        let value = URL_SAFE_NO_PAD.decode(value).ok().context("fields")?;
        fields.push(name, value).ok().context("fields")?;
    }
    let method = Some(field(header, "method")?.to_owned()).filter(|method| !method.is_empty());
    let body = Bytes::from(octets(header, "body")?);
    Ok(GetConfig {
        items: items.collect::<anyhow::Result<_>>()?,
        method,
        fields,
        body: number::<bool>(header, "has_body")?.then_some(body),
        redirects: number(header, "redirects")?,
        resume: number(header, "resume")?,
        fail: number(header, "fail")?,
        max_time: duration(header, "max_time_ns")?,
        root: RootId(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_configuration_survives_its_header() {
        let url = |text| Url::parse(text).unwrap();
        let name = SafeName::parse("ç d", Policy::default()).unwrap();
        let fields = FieldsBuf::new().with("X", b"a\xff").unwrap().with("X", "").unwrap();
        let whole = GetConfig {
            items: vec![
                GetItem { url: url("http://a:81/x?y"), save_as: None },
                GetItem { url: url("[::1]/"), save_as: Some(name) },
            ],
            method: Some("PUT".into()),
            fields,
            body: Some(Bytes::from_static(b"\0b")),
            redirects: 3,
            resume: true,
            fail: true,
            max_time: Some(Duration::from_millis(7)),
            root: RootId(0),
        };
        let bare = GetConfig {
            items: vec![GetItem { url: url("a"), save_as: None }],
            method: None,
            fields: FieldsBuf::new(),
            body: None,
            max_time: None,
            ..whole.clone()
        };
        for config in [whole, bare] {
            assert_eq!(config_of(&http_get_header(&config)).unwrap(), config);
        }
    }

    #[test]
    fn messages_come_back_from_a_trace() {
        for message in [GetMessage::Taken(77), GetMessage::Interrupt] {
            let mut bytes = Vec::new();
            Spoken(message).encode(&mut bytes);
            assert_eq!(Spoken::decode(&bytes).map(|spoken| spoken.0), Some(message));
        }
        assert!(Spoken::<GetMessage>::decode(b"taken x").is_none());
    }
}
