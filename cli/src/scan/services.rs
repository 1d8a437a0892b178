//! Names of services: the system's, and of the best known ones our own where it has none.

use std::collections::BTreeMap;

/// Names by transport and port.
#[derive(Debug, Default)]
pub(super) struct Services(BTreeMap<(String, u16), String>);

const TABLE: &str = "/etc/services";

/// Over both transports.
const BOTH: &str = "";

/// Ports, transport and names, as they are registered or in common use.
const WELL_KNOWN: [(u16, &str, &str); 120] = [
    (7, BOTH, "echo"),
    (9, BOTH, "discard"),
    (13, BOTH, "daytime"),
    (19, BOTH, "chargen"),
    (20, "tcp", "ftp-data"),
    (21, "tcp", "ftp"),
    (22, "tcp", "ssh"),
    (23, "tcp", "telnet"),
    (25, "tcp", "smtp"),
    (37, BOTH, "time"),
    (43, "tcp", "whois"),
    (49, BOTH, "tacacs"),
    (53, BOTH, "domain"),
    (67, "udp", "bootps"),
    (68, "udp", "bootpc"),
    (69, "udp", "tftp"),
    (70, "tcp", "gopher"),
    (79, "tcp", "finger"),
    (80, "tcp", "http"),
    (88, BOTH, "kerberos"),
    (102, "tcp", "iso-tsap"),
    (110, "tcp", "pop3"),
    (111, BOTH, "sunrpc"),
    (113, "tcp", "auth"),
    (119, "tcp", "nntp"),
    (123, "udp", "ntp"),
    (135, BOTH, "epmap"),
    (137, "udp", "netbios-ns"),
    (138, "udp", "netbios-dgm"),
    (139, "tcp", "netbios-ssn"),
    (143, "tcp", "imap2"),
    (161, BOTH, "snmp"),
    (162, BOTH, "snmp-trap"),
    (177, BOTH, "xdmcp"),
    (179, "tcp", "bgp"),
    (194, BOTH, "irc"),
    (389, BOTH, "ldap"),
    (427, BOTH, "svrloc"),
    (443, BOTH, "https"),
    (445, "tcp", "microsoft-ds"),
    (464, BOTH, "kpasswd"),
    (465, "tcp", "submissions"),
    (500, "udp", "isakmp"),
    (502, "tcp", "modbus"),
    (512, "tcp", "exec"),
    (513, "tcp", "login"),
    (514, "tcp", "shell"),
    (514, "udp", "syslog"),
    (515, "tcp", "printer"),
    (520, "udp", "route"),
    (546, "udp", "dhcpv6-client"),
    (547, "udp", "dhcpv6-server"),
    (548, "tcp", "afpovertcp"),
    (554, "tcp", "rtsp"),
    (587, "tcp", "submission"),
    (623, "udp", "asf-rmcp"),
    (631, BOTH, "ipp"),
    (636, BOTH, "ldaps"),
    (646, BOTH, "ldp"),
    (853, BOTH, "domain-s"),
    (860, "tcp", "iscsi"),
    (873, "tcp", "rsync"),
    (902, "tcp", "vmware-auth"),
    (989, "tcp", "ftps-data"),
    (990, "tcp", "ftps"),
    (992, "tcp", "telnets"),
    (993, "tcp", "imaps"),
    (995, "tcp", "pop3s"),
    (1080, "tcp", "socks"),
    (1194, BOTH, "openvpn"),
    (1433, "tcp", "ms-sql-s"),
    (1434, "udp", "ms-sql-m"),
    (1521, "tcp", "oracle"),
    (1701, "udp", "l2tp"),
    (1723, "tcp", "pptp"),
    (1812, "udp", "radius"),
    (1813, "udp", "radius-acct"),
    (1883, "tcp", "mqtt"),
    (1900, "udp", "ssdp"),
    (2049, BOTH, "nfs"),
    (2181, "tcp", "zookeeper"),
    (2375, "tcp", "docker"),
    (2379, "tcp", "etcd-client"),
    (3128, "tcp", "squid"),
    (3268, "tcp", "msft-gc"),
    (3306, "tcp", "mysql"),
    (3389, BOTH, "ms-wbt-server"),
    (3478, BOTH, "stun"),
    (3690, "tcp", "svn"),
    (4369, "tcp", "epmd"),
    (4500, "udp", "ipsec-nat-t"),
    (5000, "tcp", "upnp"),
    (5060, BOTH, "sip"),
    (5061, "tcp", "sip-tls"),
    (5222, "tcp", "xmpp-client"),
    (5269, "tcp", "xmpp-server"),
    (5353, "udp", "mdns"),
    (5355, BOTH, "llmnr"),
    (5432, "tcp", "postgresql"),
    (5672, "tcp", "amqp"),
    (5683, "udp", "coap"),
    (5900, "tcp", "vnc"),
    (5938, "tcp", "teamviewer"),
    (5984, "tcp", "couchdb"),
    (5985, "tcp", "winrm"),
    (6000, "tcp", "x11"),
    (6379, "tcp", "redis"),
    (6443, "tcp", "kubernetes"),
    (6667, "tcp", "ircd"),
    (8000, "tcp", "http-alt"),
    (8008, "tcp", "http-alt"),
    (8080, "tcp", "http-alt"),
    (8443, "tcp", "https-alt"),
    (8883, "tcp", "secure-mqtt"),
    (9000, "tcp", "cslistener"),
    (9090, "tcp", "prometheus"),
    (9100, "tcp", "jetdirect"),
    (9200, "tcp", "elasticsearch"),
    (11211, BOTH, "memcached"),
    (27017, "tcp", "mongodb"),
];

impl Services {
    /// The system's table, if there is one, and ours.
    pub(super) fn read() -> Self {
        let mut services = Self::default();
        for (port, transport, name) in WELL_KNOWN {
            for one in ["tcp", "udp"] {
                if [one, BOTH].contains(&transport) {
                    services.0.insert((one.into(), port), name.into());
                }
            }
        }
        services.add(&std::fs::read_to_string(TABLE).unwrap_or_default());
        services
    }

    /// Adds what a table in the form of services(5) names.
    fn add(&mut self, table: &str) {
        for line in table.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            if let (Some(name), Some(place)) = (words.next(), words.next())
                && let Some((port, transport)) = place.split_once('/')
                && let Ok(port) = port.parse()
            {
                self.0.insert((transport.into(), port), name.into());
            }
        }
    }

    pub(super) fn name(&self, transport: &str, port: u16) -> Option<&str> {
        self.0.get(&(transport.to_owned(), port)).map(String::as_str)
    }

    /// The ports of ours: the same on every machine.
    pub(super) fn well_known(&self, transport: &str) -> Vec<u16> {
        let ours = WELL_KNOWN.iter().filter(|(_, of, _)| [transport, BOTH].contains(of));
        ours.map(|(port, ..)| *port).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_names_go_before_ours() {
        let mut services = Services::default();
        services.add("# comment\nssh 22/tcp\nbroken\nx y/tcp\nname 7007/udp alias # why\n");
        assert_eq!(services.name("tcp", 22), Some("ssh"));
        assert_eq!(services.name("udp", 7007), Some("name"));
        assert_eq!(services.name("tcp", 7007), None);
        assert_eq!(services.0.len(), 2);
    }

    #[test]
    fn ours_are_in_order_and_no_more_than_once() {
        assert!(WELL_KNOWN.is_sorted());
        for transport in ["tcp", "udp"] {
            let ports = Services::read().well_known(transport);
            assert!(ports.windows(2).all(|pair| pair[0] < pair[1]), "{ports:?}");
        }
    }
}
