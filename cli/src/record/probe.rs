//! What a trace tells of pings: all that a run is made of, and what of it is not for the machine but
//! for who prints.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use semfio_machine::{Carrier, DatagramMachine, Now, Seed};
use semfio_probe::{
    ConnectScan, Live, Method, PingConfig, Pinger, ProbesConfig, Quit, ScanConfig, Sizes, Sockets,
    Stop, SynScan, TraceConfig, Tracer, UdpPingConfig, UdpPingServer, UdpPingServerConfig,
    UdpPinger, UdpScan,
};
use semfio_trace::{CommandCodec, Header, Recorded};

use crate::scan::targets::{Ports, ports};

use super::{Spoken, duration, field, header, nanos, number, octets, option, optional, seed_of};

/// The names of the machines in a trace.
pub(crate) const PING: &str = "probe.ping";
pub(crate) const TRACE: &str = "probe.trace";
pub(crate) const CONNECT_SCAN: &str = "probe.scan_connect";
pub(crate) const SYN_SCAN: &str = "probe.scan_syn";
pub(crate) const UDP_SCAN: &str = "probe.scan_udp";
pub(crate) const UDP_PING: &str = "probe.udp_ping";
pub(crate) const UDP_PING_SERVER: &str = "probe.udp_ping_server";

const STOP: &[u8] = b"stop";

/// For machines that are told to stop and nothing else.
pub(crate) fn stop<M>() -> CommandCodec<M>
where
    M: for<'c> DatagramMachine<Command<'c> = Stop>,
{
    CommandCodec {
        encode: |Stop, to| to.extend(STOP),
        decode: |from| (from == STOP).then_some(Stop),
    }
}

/// A run of `semfio ping`.
#[derive(Clone, Debug)]
pub(crate) struct PingRun {
    pub(crate) config: PingConfig,
    /// As they were asked for, and as they were found.
    pub(crate) hosts: Vec<(String, SocketAddr)>,
    pub(crate) seed: Seed,
    pub(crate) began: Now,
    /// Whether the time is printed, and no names.
    pub(crate) timestamps: bool,
    pub(crate) numeric: bool,
}

impl PingRun {
    pub(crate) fn machine(&self) -> anyhow::Result<Pinger> {
        let hosts: Vec<_> = self.hosts.iter().map(|&(_, address)| address).collect();
        Ok(Pinger::new(self.began, &hosts, &self.seed, self.config.clone())?)
    }

    pub(crate) fn header(&self) -> Header {
        let config = &self.config;
        let fields = [
            ("interval_ns", nanos(Some(config.interval))),
            ("count", option(config.count)),
            ("deadline_ns", nanos(config.deadline)),
            ("wait_ns", nanos(Some(config.wait))),
            ("preload", config.preload.to_string()),
            ("flood", config.flood.to_string()),
            ("size.first", config.sizes.first.to_string()),
            ("size.last", config.sizes.last.to_string()),
            ("size.step", config.sizes.step.to_string()),
            ("pattern", URL_SAFE_NO_PAD.encode(&config.pattern)),
            ("hop_limit", option(config.hop_limit)),
            ("raw_v4", is_raw(config.carrier_v4).to_string()),
            ("raw_v6", is_raw(config.carrier_v6).to_string()),
            ("hosts", self.hosts.len().to_string()),
            ("timestamps", self.timestamps.to_string()),
            ("numeric", self.numeric.to_string()),
        ];
        let mut header = header(PING, "client", fields, Some(&self.seed));
        for (n, (name, address)) in self.hosts.iter().enumerate() {
            header.config.insert(format!("host.{n}"), name.clone());
            header.config.insert(format!("host.{n}.address"), address.to_string());
        }
        header
    }

    pub(crate) fn of(header: &Header) -> anyhow::Result<Self> {
        let carrier = |raw| if raw { Carrier::RawIcmp } else { Carrier::Icmp };
        let host = |n: usize| {
            let name = format!("host.{n}");
            Ok((field(header, &name)?.into(), number(header, &format!("{name}.address"))?))
        };
        Ok(Self {
            config: PingConfig {
                interval: duration(header, "interval_ns")?.context("interval_ns")?,
                count: optional(header, "count")?,
                deadline: duration(header, "deadline_ns")?,
                wait: duration(header, "wait_ns")?.context("wait_ns")?,
                preload: number(header, "preload")?,
                flood: number(header, "flood")?,
                sizes: Sizes {
                    first: number(header, "size.first")?,
                    last: number(header, "size.last")?,
                    step: number(header, "size.step")?,
                },
                pattern: octets(header, "pattern")?,
                hop_limit: optional(header, "hop_limit")?,
                carrier_v4: carrier(number(header, "raw_v4")?),
                carrier_v6: carrier(number(header, "raw_v6")?),
            },
            hosts: (0..number(header, "hosts")?).map(host).collect::<anyhow::Result<_>>()?,
            seed: seed_of(header)?.clone(),
            began: header.start,
            timestamps: number(header, "timestamps")?,
            numeric: number(header, "numeric")?,
        })
    }
}

fn is_raw(carrier: Carrier) -> bool {
    carrier == Carrier::RawIcmp
}

/// A run of `semfio trace`.
#[derive(Clone, Debug)]
pub(crate) struct TraceRun {
    /// As it was asked for.
    pub(crate) host: String,
    pub(crate) config: TraceConfig,
    pub(crate) seed: Seed,
    pub(crate) began: Now,
    /// Whether no names are printed.
    pub(crate) numeric: bool,
}

impl TraceRun {
    pub(crate) fn machine(&self) -> anyhow::Result<Tracer> {
        Ok(Tracer::new(self.began, &self.seed, self.config)?)
    }

    pub(crate) fn header(&self) -> Header {
        let config = &self.config;
        let ProbesConfig { method, sockets, destination, source, traffic_class } = config.probes;
        let method = match method {
            Method::Icmp => "icmp",
            Method::Udp => "udp",
            Method::Tcp => "tcp",
        };
        let fields = [
            ("host", self.host.clone()),
            ("method", method.into()),
            ("raw", (sockets == Sockets::Raw).to_string()),
            ("destination", destination.to_string()),
            ("source", option(source)),
            ("traffic_class", traffic_class.to_string()),
            ("first_hop", config.first_hop.to_string()),
            ("max_hops", config.max_hops.to_string()),
            ("queries", config.queries.to_string()),
            ("size", config.size.to_string()),
            ("flow", config.flow.to_string()),
            ("wait_ns", nanos(Some(config.wait))),
            ("gap_limit", config.gap_limit.to_string()),
            ("mtu", option(config.mtu)),
            ("live_ns", nanos(config.live.map(|live| live.interval))),
            ("cycles", option(config.live.and_then(|live| live.cycles))),
            ("numeric", self.numeric.to_string()),
        ];
        header(TRACE, "client", fields, Some(&self.seed))
    }

    pub(crate) fn of(header: &Header) -> anyhow::Result<Self> {
        let cycles = optional(header, "cycles")?;
        let live = duration(header, "live_ns")?.map(|interval| Live { interval, cycles });
        let raw: bool = number(header, "raw")?;
        Ok(Self {
            host: field(header, "host")?.into(),
            config: TraceConfig {
                probes: ProbesConfig {
                    method: match field(header, "method")? {
                        "icmp" => Method::Icmp,
                        "udp" => Method::Udp,
                        "tcp" => Method::Tcp,
                        other => anyhow::bail!("method is {other}"),
                    },
                    sockets: if raw { Sockets::Raw } else { Sockets::Datagram },
                    destination: number(header, "destination")?,
                    source: optional(header, "source")?,
                    traffic_class: number(header, "traffic_class")?,
                },
                first_hop: number(header, "first_hop")?,
                max_hops: number(header, "max_hops")?,
                queries: number(header, "queries")?,
                size: number(header, "size")?,
                flow: number(header, "flow")?,
                wait: duration(header, "wait_ns")?.context("wait_ns")?,
                gap_limit: number(header, "gap_limit")?,
                mtu: optional(header, "mtu")?,
                live,
            },
            seed: seed_of(header)?.clone(),
            began: header.start,
            numeric: number(header, "numeric")?,
        })
    }
}

impl Recorded for Spoken<Quit> {
    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(STOP);
    }

    fn decode(from: &[u8]) -> Option<Self> {
        (from == STOP).then_some(Self(Quit))
    }
}

/// For scans by single packets.
pub(crate) fn quit<M>() -> CommandCodec<M>
where
    M: for<'c> DatagramMachine<Command<'c> = Quit>,
{
    CommandCodec {
        encode: |Quit, to| to.extend(STOP),
        decode: |from| (from == STOP).then_some(Quit),
    }
}

/// A run of `semfio scan`.
#[derive(Clone, Debug)]
pub(crate) struct ScanRun {
    pub(crate) config: ScanConfig,
    /// And for half-open connections, from where.
    pub(crate) hosts: Vec<(SocketAddr, Option<IpAddr>)>,
    /// From which port, if it goes by single packets.
    pub(crate) port: u16,
    /// What sequence numbers come from.
    pub(crate) seed: Option<Seed>,
}

impl ScanRun {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.hosts.iter().map(|&(address, _)| address).collect()
    }

    pub(crate) fn connect(&self) -> anyhow::Result<ConnectScan> {
        Ok(ConnectScan::new(&self.addresses(), self.config.clone())?)
    }

    pub(crate) fn udp(&self) -> anyhow::Result<UdpScan> {
        Ok(UdpScan::new(&self.addresses(), self.port, self.config.clone())?)
    }

    pub(crate) fn syn(&self) -> anyhow::Result<SynScan> {
        let from = |&(to, from): &(_, Option<_>)| Some((to, from?));
        let hosts: Option<Vec<_>> = self.hosts.iter().map(from).collect();
        let hosts = hosts.context("it does not say from where")?;
        let seed = self.seed.clone().context("it has no seed")?;
        Ok(SynScan::new(&hosts, self.port, seed, self.config.clone())?)
    }

    /// `service` is one of [`CONNECT_SCAN`], [`UDP_SCAN`] and [`SYN_SCAN`].
    pub(crate) fn header(&self, service: &str) -> Header {
        let config = &self.config;
        let host = |(to, from): &(SocketAddr, Option<IpAddr>)| match from {
            Some(from) => format!("{to}<{from}"),
            None => to.to_string(),
        };
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        let fields = [
            ("ports", ranges(&config.ports)),
            ("window", config.window.to_string()),
            ("rate", option(config.rate)),
            ("wait_ns", nanos(Some(config.wait))),
            ("retries", config.retries.to_string()),
            ("hosts", hosts.join(" ")),
            ("port", self.port.to_string()),
        ];
        header(service, "client", fields, self.seed.as_ref())
    }

    pub(crate) fn of(header: &Header) -> anyhow::Result<Self> {
        let host = |text: &str| {
            let (to, from) = match text.split_once('<') {
                Some((to, from)) => (to, Some(from.parse().context("hosts")?)),
                None => (text, None),
            };
            anyhow::Ok((to.parse().context("hosts")?, from))
        };
        let Ports(ports) = match field(header, "ports")? {
            "" => Ports(Vec::new()),
            text => ports(text).map_err(anyhow::Error::msg)?,
        };
        Ok(Self {
            config: ScanConfig {
                ports,
                window: number(header, "window")?,
                rate: optional(header, "rate")?,
                wait: duration(header, "wait_ns")?.context("wait_ns")?,
                retries: number(header, "retries")?,
            },
            hosts: field(header, "hosts")?
                .split_whitespace()
                .map(host)
                .collect::<Result<_, _>>()?,
            port: number(header, "port")?,
            seed: header.seed.clone(),
        })
    }
}

/// Ports in their order, those that follow each other as a range.
fn ranges(ports: &[u16]) -> String {
    let mut all: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match all.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => all.push((port, port)),
        }
    }
    let all: Vec<String> = all.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    all.join(",")
}

/// A run of `semfio udp-ping`, the client's side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpPingRun {
    pub(crate) config: UdpPingConfig,
    pub(crate) server: SocketAddr,
    pub(crate) began: Now,
}

impl UdpPingRun {
    pub(crate) fn machine(&self) -> UdpPinger {
        UdpPinger::new(self.began, self.server, self.config)
    }

    pub(crate) fn header(&self) -> Header {
        let fields = [
            ("server", self.server.to_string()),
            ("count", option(self.config.count)),
            ("timeout_ns", nanos(Some(self.config.timeout))),
            ("interval_ns", nanos(Some(self.config.interval))),
            ("heartbeat", self.config.heartbeat.to_string()),
        ];
        header(UDP_PING, "client", fields, None)
    }

    pub(crate) fn of(header: &Header) -> anyhow::Result<Self> {
        Ok(Self {
            config: UdpPingConfig {
                count: optional(header, "count")?,
                timeout: duration(header, "timeout_ns")?.context("timeout_ns")?,
                interval: duration(header, "interval_ns")?.context("interval_ns")?,
                heartbeat: number(header, "heartbeat")?,
            },
            server: number(header, "server")?,
            began: header.start,
        })
    }
}

/// A run of `semfio udp-ping serve`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpPingServerRun {
    pub(crate) config: UdpPingServerConfig,
    /// What the losses come from.
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
}

impl UdpPingServerRun {
    pub(crate) fn machine(&self) -> UdpPingServer {
        UdpPingServer::new(Seed::from_u64(self.number), self.config)
    }

    pub(crate) fn header(&self) -> Header {
        let fields = [
            ("address", self.address.to_string()),
            ("loss_in_a_million", self.config.loss.to_string()),
            ("heartbeat", self.config.heartbeat.to_string()),
            ("silence_ns", nanos(Some(self.config.silence))),
            ("number", self.number.to_string()),
        ];
        header(UDP_PING_SERVER, "server", fields, None)
    }

    pub(crate) fn of(header: &Header) -> anyhow::Result<Self> {
        Ok(Self {
            config: UdpPingServerConfig {
                loss: number(header, "loss_in_a_million")?,
                heartbeat: number(header, "heartbeat")?,
                silence: duration(header, "silence_ns")?.context("silence_ns")?,
            },
            number: number(header, "number")?,
            address: number(header, "address")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::{Instant, UnixTime};
    use std::time::Duration;

    #[test]
    fn a_run_survives_its_header() {
        let began = Now { mono: Instant::from_nanos(7), unix: UnixTime::from_nanos(8) };
        let run = PingRun {
            config: PingConfig::default(),
            hosts: vec![
                ("here, of course".into(), "[fe80::1%3]:0".parse().unwrap()),
                ("10.0.0.1".into(), "10.0.0.1:0".parse().unwrap()),
            ],
            seed: Seed::from_u64(7),
            began,
            timestamps: false,
            numeric: true,
        };
        let config = PingConfig {
            interval: Duration::ZERO,
            count: Some(u64::MAX),
            deadline: Some(Duration::from_nanos(1)),
            wait: Duration::from_secs(3),
            preload: 9,
            flood: true,
            sizes: Sizes { first: 1, last: 2, step: 3 },
            pattern: vec![0, 255],
            hop_limit: Some(255),
            carrier_v4: Carrier::RawIcmp,
            carrier_v6: Carrier::Icmp,
        };
        let other = PingRun { config, timestamps: true, numeric: false, ..run.clone() };
        for run in [run, other] {
            let header = Header { start: began, ..run.header() };
            let again = PingRun::of(&header).unwrap();
            assert_eq!(format!("{again:?}"), format!("{run:?}"));
            assert_eq!(again.seed.as_bytes(), run.seed.as_bytes());
        }
        let server: SocketAddr = "[::1]:9".parse().unwrap();
        let probes = ProbesConfig {
            method: Method::Tcp,
            sockets: Sockets::Raw,
            destination: server,
            source: None,
            traffic_class: 255,
        };
        let (host, seed) = ("there".to_owned(), Seed::from_u64(7));
        let plain = TraceConfig::new(ProbesConfig {
            method: Method::Udp,
            sockets: Sockets::Datagram,
            source: Some("[fe80::1%3]:7".parse().unwrap()),
            ..probes
        });
        let full = TraceConfig {
            first_hop: 2,
            max_hops: 3,
            queries: 4,
            size: 5,
            flow: 6,
            wait: Duration::from_nanos(7),
            gap_limit: 8,
            mtu: Some(9),
            live: Some(Live { interval: Duration::from_secs(1), cycles: Some(10) }),
            ..TraceConfig::new(probes)
        };
        for (config, numeric) in [(plain, true), (full, false)] {
            let run = TraceRun { host: host.clone(), config, seed: seed.clone(), began, numeric };
            let header = Header { start: began, ..run.header() };
            assert_eq!(format!("{:?}", TraceRun::of(&header).unwrap()), format!("{run:?}"));
        }
        let run = UdpPingRun { config: UdpPingConfig::default(), server, began };
        let header = Header { start: began, ..run.header() };
        assert_eq!(format!("{:?}", UdpPingRun::of(&header).unwrap()), format!("{run:?}"));
        let config = ScanConfig {
            ports: vec![9, 1, 2, 3, 65_535],
            window: 7,
            rate: Some(8),
            wait: Duration::from_nanos(9),
            retries: 10,
        };
        let other = ScanConfig { rate: None, ports: Vec::new(), ..config.clone() };
        let here = Some("fd77::1".parse().unwrap());
        let seed = Some(Seed::from_u64(7));
        for run in [
            ScanRun { config, hosts: vec![(server, here), (server, here)], port: 3, seed },
            ScanRun { config: other, hosts: vec![(server, None)], port: 0, seed: None },
        ] {
            let again = ScanRun::of(&run.header(SYN_SCAN)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{run:?}"));
        }
        let silence = Duration::from_millis(7);
        let config = UdpPingServerConfig { loss: 300_000, heartbeat: true, silence };
        let run = UdpPingServerRun { config, number: u64::MAX, address: server };
        assert_eq!(
            format!("{:?}", UdpPingServerRun::of(&run.header()).unwrap()),
            format!("{run:?}")
        );
    }
}
