//! What a trace tells of the services of netcat.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use semfio_machine::{NetLimits, Target};
use semfio_netcat::{
    InputEnd, Interrupt, Netcat, NetcatConfig, NetcatMessage, PeerEnd, Talk, TalkCommand,
    TalkConfig, TcpCheck, UdpCheck,
};
use semfio_trace::{CommandCodec, Header, Recorded};

use super::{Spoken, duration, field, header, nanos, number, octets, option, optional};

/// The names of the services in a trace.
pub(crate) const NETCAT: &str = "netcat";
pub(crate) const TCP_CHECK: &str = "netcat.tcp_check";
pub(crate) const TALK: &str = "netcat.talk";
pub(crate) const UDP_CHECK: &str = "netcat.udp_check";

const INPUT: &[u8] = b"input ";
const INPUT_END: &[u8] = b"end";
const TAKEN: &str = "taken ";
const INTERRUPT: &[u8] = b"interrupt";

/// The commands of a [`Talk`] in a trace.
pub(crate) const TALKED: CommandCodec<Talk> = CommandCodec {
    encode: |command, to| match command {
        TalkCommand::Say(bytes) => to.extend([INPUT, bytes].concat()),
        TalkCommand::End(after) => to.extend(format!("{END_AFTER}{}", after.as_nanos()).bytes()),
    },
    decode: |from| match from.strip_prefix(INPUT) {
        Some(bytes) => Some(TalkCommand::Say(bytes)),
        None => {
            let after = std::str::from_utf8(from).ok()?.strip_prefix(END_AFTER)?;
            Some(TalkCommand::End(Duration::from_nanos(after.parse().ok()?)))
        }
    },
};

const END_AFTER: &str = "end after ";

/// How long a connection that was made for nothing else waits for its peer to close.
const LINGER: Duration = Duration::from_millis(10);

impl Recorded for Spoken<NetcatMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match &self.0 {
            NetcatMessage::Input(bytes) => to.extend([INPUT, bytes].concat()),
            NetcatMessage::InputEnd => to.extend(INPUT_END),
            NetcatMessage::Taken(bytes) => to.extend(format!("{TAKEN}{bytes}").as_bytes()),
            NetcatMessage::Interrupt => to.extend(INTERRUPT),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        if let Some(bytes) = from.strip_prefix(INPUT) {
            return Some(Self(NetcatMessage::Input(Bytes::copy_from_slice(bytes))));
        }
        Some(Self(match from {
            INPUT_END => NetcatMessage::InputEnd,
            INTERRUPT => NetcatMessage::Interrupt,
            _ => {
                let bytes = std::str::from_utf8(from).ok()?.strip_prefix(TAKEN)?;
                NetcatMessage::Taken(bytes.parse().ok()?)
            }
        }))
    }
}

impl Recorded for Spoken<Interrupt> {
    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(INTERRUPT);
    }

    fn decode(from: &[u8]) -> Option<Self> {
        (from == INTERRUPT).then_some(Self(Interrupt))
    }
}

/// Host and port of a target, as text; an address has no name.
fn target_fields(target: Option<&Target>) -> [(&'static str, String); 2] {
    let (address, name) = match target {
        None => (String::new(), String::new()),
        Some(Target::Address(address)) => (address.to_string(), String::new()),
        Some(Target::Name(name, port)) => (format!("0.0.0.0:{port}"), name.clone()),
    };
    [("address", address), ("name", name)]
}

fn target(header: &Header) -> anyhow::Result<Option<Target>> {
    let (address, name) = (field(header, "address")?, field(header, "name")?);
    if address.is_empty() {
        return Ok(None);
    }
    let address: std::net::SocketAddr = address.parse().context("address")?;
    Ok(Some(match name {
        "" => Target::Address(address),
        name => Target::Name(name.into(), address.port()),
    }))
}

/// The header of a netcat's trace.
pub(crate) fn netcat_header(config: &NetcatConfig) -> Header {
    let [address, name] = target_fields(config.target.as_ref());
    let (input_end, quit) = match config.input_end {
        InputEnd::Keep => ("keep", None),
        InputEnd::Finish => ("finish", None),
        InputEnd::Quit(after) => ("quit", Some(after)),
    };
    let reply = config.reply.as_ref().map(|reply| URL_SAFE_NO_PAD.encode(reply));
    let fields = [
        address,
        name,
        ("many", config.many.to_string()),
        ("broker", config.broker.to_string()),
        ("replies", reply.is_some().to_string()),
        ("reply", reply.unwrap_or_default()),
        ("wait_ns", nanos(config.wait)),
        ("input_end", input_end.into()),
        ("quit_ns", nanos(quit)),
        ("peer_end_finishes", (config.peer_end == PeerEnd::Finish).to_string()),
    ];
    let side = if config.target.is_some() { "client" } else { "server" };
    header(NETCAT, side, fields, None)
}

/// The netcat that a header tells of.
pub(crate) fn netcat_of(header: &Header) -> anyhow::Result<Netcat> {
    let reply = Bytes::from(octets(header, "reply")?);
    Ok(Netcat::new(NetcatConfig {
        target: target(header)?,
        many: number(header, "many")?,
        broker: number(header, "broker")?,
        reply: number::<bool>(header, "replies")?.then_some(reply),
        wait: duration(header, "wait_ns")?,
        input_end: match field(header, "input_end")? {
            "keep" => InputEnd::Keep,
            "finish" => InputEnd::Finish,
            "quit" => InputEnd::Quit(duration(header, "quit_ns")?.context("quit_ns")?),
            other => anyhow::bail!("input_end is {other}"),
        },
        peer_end: match number(header, "peer_end_finishes")? {
            true => PeerEnd::Finish,
            false => PeerEnd::SendOn,
        },
    }))
}

/// The header of a trace of connects; the port of `host` means nothing.
pub(crate) fn tcp_check_header(
    host: &Target,
    ports: &RangeInclusive<u16>,
    wait: Option<Duration>,
) -> Header {
    let [address, name] = target_fields(Some(host));
    let (from, to) = (("from", ports.start().to_string()), ("to", ports.end().to_string()));
    let fields = [address, name, from, to, ("wait_ns", nanos(wait))];
    let limits = NetLimits { linger: LINGER, ..NetLimits::default() };
    Header { limits, ..header(TCP_CHECK, "client", fields, None) }
}

/// The connects that a header tells of.
pub(crate) fn tcp_check_of(header: &Header) -> anyhow::Result<TcpCheck> {
    let host = target(header)?.context("it names no host")?;
    let at = |port| match &host {
        Target::Address(address) => Target::Address((address.ip(), port).into()),
        Target::Name(name, _) => Target::Name(name.clone(), port),
    };
    let ports: RangeInclusive<u16> = number(header, "from")?..=number(header, "to")?;
    Ok(TcpCheck::new(ports.map(at).collect(), duration(header, "wait_ns")?))
}

/// The header of a trace of datagrams.
pub(crate) fn talk_header(config: &TalkConfig) -> Header {
    let reply = config.reply.as_ref().map(|reply| URL_SAFE_NO_PAD.encode(reply));
    let fields = [
        ("peer", option(config.peer)),
        ("many", config.many.to_string()),
        ("replies", reply.is_some().to_string()),
        ("reply", reply.unwrap_or_default()),
        ("wait_ns", nanos(config.wait)),
    ];
    let side = if config.peer.is_some() { "client" } else { "server" };
    header(TALK, side, fields, None)
}

/// The side of a talk that a header tells of.
pub(crate) fn talk_of(header: &Header) -> anyhow::Result<Talk> {
    let reply = Bytes::from(octets(header, "reply")?);
    Ok(Talk::new(TalkConfig {
        peer: optional(header, "peer")?,
        many: number(header, "many")?,
        reply: number::<bool>(header, "replies")?.then_some(reply),
        wait: duration(header, "wait_ns")?,
    }))
}

/// The header of a trace of questions to UDP ports.
pub(crate) fn udp_check_header(
    host: IpAddr,
    ports: &RangeInclusive<u16>,
    wait: Duration,
) -> Header {
    let fields = [
        ("address", host.to_string()),
        ("from", ports.start().to_string()),
        ("to", ports.end().to_string()),
        ("wait_ns", nanos(Some(wait))),
    ];
    header(UDP_CHECK, "client", fields, None)
}

/// The questions that a header tells of.
pub(crate) fn udp_check_of(header: &Header) -> anyhow::Result<UdpCheck> {
    let host: IpAddr = number(header, "address")?;
    let ports: RangeInclusive<u16> = number(header, "from")?..=number(header, "to")?;
    let targets = ports.map(|port| SocketAddr::new(host, port)).collect();
    Ok(UdpCheck::new(targets, duration(header, "wait_ns")?.context("wait_ns")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_its_header() {
        let full = NetcatConfig {
            many: true,
            broker: true,
            reply: Some(Bytes::from_static(b"ARK!\xff")),
            wait: Some(Duration::from_millis(1500)),
            input_end: InputEnd::Quit(Duration::ZERO),
            peer_end: PeerEnd::Finish,
            ..NetcatConfig::default()
        };
        let to = |target| NetcatConfig { target: Some(target), ..NetcatConfig::default() };
        for config in [
            NetcatConfig::default(),
            NetcatConfig { input_end: InputEnd::Finish, ..full.clone() },
            full,
            to(Target::Address("[::1]:9".parse().unwrap())),
            to(Target::Name("localhost".into(), 8000)),
        ] {
            let again = netcat_of(&netcat_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Netcat::new(config)));
        }
        let reply = Some(Bytes::from_static(b"ARK!"));
        let peer = Some("[fe80::1%2]:9".parse().unwrap());
        for config in [
            TalkConfig { peer, many: false, reply: None, wait: Some(Duration::from_nanos(7)) },
            TalkConfig { peer: None, many: true, reply, wait: None },
        ] {
            let again = talk_of(&talk_header(&config)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Talk::new(config)));
        }
        let (host, wait) = ("::1".parse().unwrap(), Duration::from_millis(7));
        let targets = vec![SocketAddr::new(host, 8), SocketAddr::new(host, 9)];
        let again = udp_check_of(&udp_check_header(host, &(8..=9), wait)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", UdpCheck::new(targets, wait)));
        for host in [Target::Address("[::1]:0".parse().unwrap()), Target::Name("there".into(), 0)] {
            let header = tcp_check_header(&host, &(7..=9), None);
            let again = format!("{:?}", tcp_check_of(&header).unwrap());
            for port in 7..=9 {
                assert!(again.contains(&format!("{port}")), "{again}");
            }
        }
    }

    #[test]
    fn messages_come_back_from_a_trace() {
        for message in [
            NetcatMessage::Input(Bytes::from_static(b"end")),
            NetcatMessage::Input(Bytes::new()),
            NetcatMessage::InputEnd,
            NetcatMessage::Taken(77),
            NetcatMessage::Interrupt,
        ] {
            let mut bytes = Vec::new();
            Spoken(message.clone()).encode(&mut bytes);
            assert_eq!(Spoken::decode(&bytes).map(|spoken| spoken.0), Some(message));
        }
        assert!(Spoken::<NetcatMessage>::decode(b"taken x").is_none());
        let end = TalkCommand::End(Duration::from_nanos(70));
        for command in [TalkCommand::Say(b"end after 7"), TalkCommand::Say(b""), end] {
            let mut bytes = Vec::new();
            (TALKED.encode)(&command, &mut bytes);
            assert_eq!((TALKED.decode)(&bytes), Some(command));
        }
        assert!((TALKED.decode)(b"end after x").is_none());
    }
}
