//! Whom a command is about: names and addresses, looked up in one place.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::failed::{Failed, NEGATIVE};

/// Which addresses of a name will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Family {
    #[default]
    Any,
    V4,
    V6,
}

/// `-4` and `-6`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FamilyArgs {
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    ipv6: bool,
}

impl FamilyArgs {
    pub(crate) fn family(self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }
}

impl Family {
    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// The first address of `host` that will do: a name, or an address, in brackets or not.
///
/// `what` cannot be done without, as "cannot ping".
pub(crate) fn look_up(
    what: impl Display,
    host: &str,
    port: u16,
    family: Family,
) -> Result<SocketAddr, Failed> {
    let cannot = |why: &str| Failed::because(NEGATIVE, format!("{what} {host}"), why);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut found = match (bare, port).to_socket_addrs() {
        Ok(found) => found.peekable(),
        Err(_) => return Err(cannot("no such host").hint("a name, an IPv4 or an IPv6 address")),
    };
    if found.peek().is_none() {
        return Err(cannot("it has no address"));
    }
    found.find(|address| family.has(address)).ok_or_else(|| {
        let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
        cannot(&format!("it has no {family} address"))
    })
}

/// The same of HOST:PORT; an IPv6 address with a port stands in brackets. Without one, `port`.
pub(crate) fn look_up_with_port(
    what: impl Display,
    text: &str,
    port: u16,
) -> Result<SocketAddr, Failed> {
    let (host, port) = match text.rsplit_once(':') {
        // More colons are those of an address.
        Some((host, digits)) if !host.contains(':') || host.ends_with(']') => {
            (host, digits.parse().ok())
        }
        _ => (text, Some(port)),
    };
    let hint = "a name or an address, and a port: localhost:12000, [::1]:12000";
    let Some(port) = port else {
        let what = format!("{what} {text}");
        return Err(Failed::because(NEGATIVE, what, "it has no such port").hint(hint));
    };
    look_up(what, host, port, Family::Any).map_err(|failed| failed.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_themselves_and_families_are_kept() {
        let found = |host, family| look_up("cannot", host, 7, family).ok();
        assert_eq!(found("127.0.0.1", Family::Any), Some("127.0.0.1:7".parse().unwrap()));
        assert_eq!(found("::1", Family::V6), Some("[::1]:7".parse().unwrap()));
        assert_eq!(found("[::1]", Family::Any), Some("[::1]:7".parse().unwrap()));
        assert_eq!(found("127.0.0.1", Family::V6), None);
        assert_eq!(found("::1", Family::V4), None);
        assert_eq!(found("localhost", Family::V4), Some("127.0.0.1:7".parse().unwrap()));
        assert_eq!(found("", Family::Any), None);
    }

    #[test]
    fn a_port_stands_after_the_last_colon() {
        let found = |text| look_up_with_port("cannot", text, 12_000).ok();
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:12000"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]", "[::1]:12000"),
            ("[::1]:9", "[::1]:9"),
            ("::1", "[::1]:12000"),
        ] {
            assert_eq!(found(text), Some(address.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "[::1]:x", ":9"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
