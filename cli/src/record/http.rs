//! What a trace tells of the services that speak HTTP.

mod get;

use std::collections::BTreeMap;

use anyhow::Context as _;
use semfio_http::{
    Echo, EchoMessage, FieldsBuf, LogForm, ServerConfig, Site, SiteConfig, SiteMessage, Status,
};
use semfio_machine::Seed;
use semfio_trace::{Header, Recorded};

use super::{Spoken, draw, field, header, number, seed_of};
use crate::failed::Failed;

pub(crate) use get::{HTTP_GET, http_get_header, http_get_of};

/// The names of the services in a trace.
pub(crate) const HTTP_ECHO: &str = "http.echo";
pub(crate) const SITE: &str = "http.site";

/// What of its configuration stands in the header only if it is there.
const WRITABLE: &str = "writable";
/// Before the name of a field of every response, and before the status of an error with a page.
const FIELD: &str = "field.";
const ERROR_PAGE: &str = "error_page.";

/// Whether each request is told of.
const REPORTS: &str = "reports";
const STOP: &[u8] = b"stop";

impl Recorded for Spoken<SiteMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self.0 {
            SiteMessage::Drain => to.extend_from_slice(b"drain"),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        (from == b"drain").then_some(Self(SiteMessage::Drain))
    }
}

impl Recorded for Spoken<EchoMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        let EchoMessage::Stop = self.0;
        to.extend_from_slice(STOP);
    }

    fn decode(from: &[u8]) -> Option<Self> {
        (from == STOP).then_some(Self(EchoMessage::Stop))
    }
}

/// The header of an HTTP echo server's trace.
pub(crate) fn http_echo_header(reports: bool) -> Header {
    header(HTTP_ECHO, "server", [(REPORTS, reports.to_string())], None)
}

/// The server that a header tells of.
pub(crate) fn http_echo_of(header: &Header) -> anyhow::Result<Echo> {
    Ok(Echo::new(ServerConfig::default(), number(header, REPORTS)?))
}

/// A static server, and the header of its trace.
pub(crate) fn site(config: SiteConfig) -> Result<(Site, Header), Failed> {
    let seed = draw()?;
    let header = site_header(&config, &seed);
    Ok((Site::new(config, &seed), header))
}

fn site_header(config: &SiteConfig, seed: &Seed) -> Header {
    let fields = [
        ("index", config.index.join("/")),
        ("listing", config.listing.to_string()),
        ("hidden", config.hidden.to_string()),
        ("cors", config.cors.to_string()),
        ("spa", config.spa.to_string()),
        ("compress", config.compress.to_string()),
        ("log", log_name(config.log).into()),
    ];
    let mut header = header(SITE, "server", fields, Some(seed));
    let mut put = |key: String, value: String| drop(header.config.insert(key, value));
    if let Some(limit) = config.writable {
        put(WRITABLE.into(), limit.to_string());
    }
    for (nth, line) in config.fields.as_fields().iter().enumerate() {
        let value = String::from_utf8_lossy(line.value);
        put(format!("{FIELD}{nth:03}.{}", line.name), value.into_owned());
    }
    for (status, path) in &config.error_pages {
        put(format!("{ERROR_PAGE}{}", status.code()), path.clone());
    }
    header
}

const LOGS: [Option<LogForm>; 4] =
    [None, Some(LogForm::Common), Some(LogForm::Combined), Some(LogForm::Json)];

fn log_name(log: Option<LogForm>) -> &'static str {
    match log {
        None => "off",
        Some(LogForm::Common) => "common",
        Some(LogForm::Combined) => "combined",
        Some(LogForm::Json) => "json",
    }
}

/// The static server that a header tells of.
pub(crate) fn site_of(header: &Header) -> anyhow::Result<Site> {
    let mut fields = FieldsBuf::new();
    let mut error_pages = BTreeMap::new();
    for (key, value) in &header.config {
        if let Some((_, name)) = key.strip_prefix(FIELD).and_then(|it| it.split_once('.')) {
            fields.push(name, value).with_context(|| key.clone())?;
        } else if let Some(code) = key.strip_prefix(ERROR_PAGE) {
            let status = code.parse().ok().and_then(Status::new);
            error_pages.insert(status.with_context(|| key.clone())?, value.clone());
        }
    }
    let config = SiteConfig {
        index: field(header, "index")?.split('/').map(str::to_owned).collect(),
        listing: number(header, "listing")?,
        hidden: number(header, "hidden")?,
        writable: match field(header, WRITABLE) {
            Err(_) => None,
            Ok(_) => Some(number(header, WRITABLE)?),
        },
        fields,
        cors: number(header, "cors")?,
        spa: number(header, "spa")?,
        error_pages,
        compress: number(header, "compress")?,
        log: LOGS
            .into_iter()
            .find(|log| Some(log_name(*log)) == field(header, "log").ok())
            .context("log in its configuration")?,
        ..SiteConfig::default()
    };
    Ok(Site::new(config, seed_of(header)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_its_header() {
        let seed = Seed::from_u64(7);
        let fields = FieldsBuf::new().with("X-B", "1").unwrap().with("X-A", "2").unwrap();
        let config = SiteConfig {
            index: vec!["a.html".into(), "b.html".into()],
            listing: false,
            hidden: true,
            writable: Some(7),
            fields,
            cors: true,
            spa: true,
            error_pages: BTreeMap::from([(Status::NOT_FOUND, "404.html".to_owned())]),
            compress: false,
            log: Some(LogForm::Json),
            ..SiteConfig::default()
        };
        for config in [config, SiteConfig::default()] {
            let again = site_of(&site_header(&config, &seed)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Site::new(config, &seed)));
        }
    }
}
