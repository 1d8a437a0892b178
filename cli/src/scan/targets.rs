//! Which hosts, and which ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use semfio_probe::MAX_SCAN_HOSTS;

use crate::failed::{Failed, USAGE};
use crate::hosts::{Family, look_up};

/// Ports, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) Vec<u16>);

/// Hosts as they were asked for, and where they are.
#[derive(Debug)]
pub(super) struct Targets(pub(super) Vec<(String, SocketAddr)>);

/// Ports as the argument has them.
pub(crate) fn ports(text: &str) -> Result<Ports, String> {
    let wrong = || "expected ports like 22,80,8000-8010, or - for all".to_owned();
    let number = |text: &str, none: u16| match text {
        "" => Ok(none),
        _ => text.parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(wrong),
    };
    let mut ports = Vec::new();
    let mut seen = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from, 1)?, number(to, u16::MAX)?),
            None if part.is_empty() => return Err(wrong()),
            None => (number(part, 0)?, number(part, 0)?),
        };
        if from > to {
            return Err(wrong());
        }
        ports.extend((from..=to).filter(|&port| seen.insert(port)));
    }
    Ok(Ports(ports))
}

impl Targets {
    /// Looks up names; each host is asked once, however often it was named.
    pub(super) fn find(hosts: &[String], family: Family) -> Result<Self, Failed> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for host in hosts {
            let addresses = match network(host)? {
                Some(addresses) => addresses,
                None => vec![look_up("cannot scan", host, 0, family)?],
            };
            found.extend(
                addresses.into_iter().filter(|&at| seen.insert(at)).map(|at| (host.clone(), at)),
            );
            if found.len() > MAX_SCAN_HOSTS {
                let why = format!("more than {MAX_SCAN_HOSTS} addresses");
                return Err(Failed::because(USAGE, format!("cannot scan {host}"), why));
            }
        }
        Ok(Self(found))
    }
}

/// The addresses of a network, without those that name the network itself and all of its hosts.
fn network(text: &str) -> Result<Option<Vec<SocketAddr>>, Failed> {
    let Some((address, length)) = text.split_once('/') else {
        return Ok(None);
    };
    let wrong = |why: &str| Failed::because(USAGE, format!("cannot scan {text}"), why);
    let address: IpAddr = address.parse().map_err(|_| wrong("a network is like 192.0.2.0/24"))?;
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32_u32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let free = length.parse::<u32>().ok().and_then(|length| width.checked_sub(length));
    let free = free.ok_or_else(|| wrong("a network is like 192.0.2.0/24"))?;
    let size = 1_u128.checked_shl(free).filter(|&size| size <= MAX_SCAN_HOSTS as u128);
    let size =
        size.ok_or_else(|| wrong(&format!("it has more than {MAX_SCAN_HOSTS} addresses")))?;
    let first = bits & !(size - 1);
    let edges = if width == 32 && size > 2 { 1 } else { 0 };
    let at = |bits: u128| -> IpAddr {
        match width {
            32 => Ipv4Addr::from(bits as u32).into(),
            _ => Ipv6Addr::from(bits).into(),
        }
    };
    let all = first + edges..=first + (size - 1 - edges);
    Ok(Some(all.map(|bits| SocketAddr::new(at(bits), 0)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_lists_and_ranges() {
        let of = |text| ports(text).map(|Ports(ports)| ports);
        assert_eq!(of("80,22,80,1-3,2"), Ok(vec![80, 22, 1, 2, 3]));
        assert_eq!(of("-").unwrap().len(), 65_535);
        assert_eq!(of("65533-"), Ok(vec![65533, 65534, 65535]));
        assert_eq!(of("-2"), Ok(vec![1, 2]));
        for wrong in ["", "0", "a", "5-4", "1,,2", "70000", "1-2-3", "0-3"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_their_hosts() {
        let of = |text: &str| {
            let found = Targets::find(&[text.to_owned()], Family::Any);
            found.map(|Targets(found)| {
                found.into_iter().map(|(_, at)| at.ip().to_string()).collect::<Vec<_>>()
            })
        };
        assert_eq!(of("192.0.2.7/30").unwrap(), ["192.0.2.5", "192.0.2.6"]);
        assert_eq!(of("192.0.2.7/31").unwrap(), ["192.0.2.6", "192.0.2.7"]);
        assert_eq!(of("192.0.2.7/32").unwrap(), ["192.0.2.7"]);
        assert_eq!(of("fd77::4/126").unwrap(), ["fd77::4", "fd77::5", "fd77::6", "fd77::7"]);
        assert_eq!(of("10.0.0.0/20").unwrap().len(), 4_094);
        for wrong in ["10.0.0.0/8", "10.0.0.0/33", "fd77::/64", "fd77::/0", "nobody/24", "1.2.3.4/"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_asked_once() {
        let hosts = ["127.0.0.1", "127.0.0.0/30", "127.0.0.1"].map(str::to_owned);
        assert_eq!(Targets::find(&hosts, Family::Any).unwrap().0.len(), 2);
        assert!(Targets::find(&hosts[..1], Family::V6).is_err(), "-6");
    }
}
