//! What a trace tells of the services that speak HTTP.

mod get;

use semfio_http::{Echo, EchoMessage, ServerConfig};
use semfio_trace::{Header, Recorded};

use super::{Spoken, header, number};

pub(crate) use get::{HTTP_GET, http_get_header, http_get_of};

/// The names of the services in a trace.
pub(crate) const HTTP_ECHO: &str = "http.echo";

/// Whether each request is told of.
const REPORTS: &str = "reports";
const STOP: &[u8] = b"stop";

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
