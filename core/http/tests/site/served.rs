//! A site in a simulated network, and what it answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use semfio_http::{Server, Site, SiteConfig, SiteMessage};
use semfio_machine::{NetLimits, RootId, Seed, Shard, UnixTime};
use semfio_sim::{Disk, Network, PeerId, PeerState, ShardId};

pub(crate) const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

pub(crate) struct Served {
    pub(crate) net: Network,
    pub(crate) site: ShardId<Server, Site>,
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Served {
    /// A site with a few files, all of them written long ago.
    pub(crate) fn new() -> Self {
        Self::with(SiteConfig::default())
    }

    pub(crate) fn with(config: SiteConfig) -> Self {
        Self::on(config, Disk::default())
    }

    pub(crate) fn on(config: SiteConfig, disk: Disk) -> Self {
        let mut net = Network::new(1);
        net.set_unix(UnixTime::from_secs(1_600_000_000));
        let site = Site::new(config, &Seed::from_u64(1));
        let site = net.add(SERVER, Shard::new(site, NetLimits::default()));
        *net.disk_mut(site) = disk;
        let disk = net.disk_mut(site);
        disk.put_folder(ROOT, "");
        disk.put_file(ROOT, "index.html", "<h1>olá</h1>");
        disk.put_file(ROOT, "ten.bin", "0123456789");
        disk.put_file(ROOT, "empty.txt", "");
        disk.put_file(ROOT, "sub folder/ç.txt", "cedilha");
        disk.put_file(ROOT, ".secret", "hidden");
        disk.put_file(ROOT, "large.bin", large());
        let mut served = Self { net, site };
        // Dates are told of files that were left alone.
        let now = served.net.now();
        for path in ["index.html", "ten.bin", "empty.txt", "sub folder/ç.txt", "large.bin"] {
            let content = served.disk().content(ROOT, path).unwrap().to_vec();
            assert!(served.disk().rewrite(now, ROOT, path, content));
        }
        served.pass(10);
        assert!(served.net.listen(site, address()));
        served
    }

    pub(crate) fn disk(&mut self) -> &mut Disk {
        self.net.disk_mut(self.site)
    }

    pub(crate) fn pass(&mut self, secs: u64) {
        self.net.run_for(Duration::from_secs(secs)).unwrap();
    }

    pub(crate) fn connect(&mut self) -> PeerId {
        self.net.connect(CLIENT, address())
    }

    /// Everything that comes back for these octets, after which the client has finished.
    pub(crate) fn raw(&mut self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let peer = self.connect();
        self.net.write(peer, request);
        self.net.finish(peer);
        self.net.run_until(|net| net.peer(peer).state() != PeerState::Dialling).unwrap();
        let over = |net: &Network| {
            net.peer(peer).eof().is_some() || matches!(net.peer(peer).state(), PeerState::Failed(_))
        };
        self.net.run_until(over).unwrap();
        self.net.take_received(peer)
    }

    /// The one response to a request of these lines, without the empty one.
    pub(crate) fn ask(&mut self, lines: &str) -> Answer {
        let request = format!("{}\r\nHost: a\r\n\r\n", lines.trim_end().replace('\n', "\r\n"));
        let came = self.raw(request);
        let method = lines.split(' ').next().unwrap();
        let mut answers = answers(&came, &[method]);
        assert_eq!(answers.len(), 1, "{}", String::from_utf8_lossy(&came));
        answers.remove(0)
    }

    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\n{fields}"))
    }

    pub(crate) fn drain(&mut self) {
        self.net.send_message(self.site, SiteMessage::Drain);
    }
}

pub(crate) fn address() -> SocketAddr {
    SocketAddr::new(SERVER, 8080)
}

/// More than is kept in memory, and no two pieces of it are the same.
pub(crate) fn large() -> Vec<u8> {
    (0..50_000_u32).flat_map(|n| n.to_le_bytes()).collect()
}

/// Takes responses apart; `methods` are of what was asked.
pub(crate) fn answers(mut bytes: &[u8], methods: &[&str]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for method in methods {
        if bytes.is_empty() {
            break;
        }
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap().to_owned();
        bytes = &bytes[end + 4..];
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if *method != "HEAD" && status != 304 && status != 204 {
            if let Some(len) = answer.field("Content-Length") {
                let len: usize = len.parse().unwrap();
                answer.body = bytes[..len].to_vec();
                bytes = &bytes[len..];
            } else if answer.field("Transfer-Encoding") == Some("chunked") {
                loop {
                    let end = bytes.windows(2).position(|it| it == b"\r\n").unwrap();
                    let size = std::str::from_utf8(&bytes[..end]).unwrap();
                    let size = usize::from_str_radix(size, 16).unwrap();
                    bytes = &bytes[end + 2..];
                    answer.body.extend_from_slice(&bytes[..size]);
                    assert_eq!(&bytes[size..size + 2], b"\r\n");
                    bytes = &bytes[size + 2..];
                    if size == 0 {
                        break;
                    }
                }
            } else {
                answer.body = std::mem::take(&mut bytes).to_vec();
            }
        }
        answers.push(answer);
    }
    assert!(bytes.is_empty(), "more than was asked for: {}", String::from_utf8_lossy(bytes));
    answers
}
