//! The four hosts, each as a [`Stage`].

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use semfio_machine::{Effect, Failure, NetLimits, OwnedReply, RootId, Shard};
use semfio_runtime_mio::{self as mio, HostConfig as MioConfig};
use semfio_runtime_os::Roots;
use semfio_runtime_smol::{self as smol_host, HostConfig as SmolConfig};
use semfio_sim::{LinkConfig, Network, PeerId, PeerState, ShardId, SplitPlan};
use socket2::{Domain, SockRef, Socket, Type};

use crate::protocol::{Gate, Lines, Message, Scripted, pattern};
use crate::script::{Heard, Stage};

/// Which host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sim,
    Mio,
    Blocking,
    Smol,
}

/// What the hosts serve: name and content.
pub(crate) fn files() -> [(&'static str, Vec<u8>); 2] {
    [("poem.txt", b"uns versos, e nada mais".to_vec()), ("large.bin", pattern(0, 3_000_000))]
}

/// Puts a host on stage.
pub(crate) fn stage(kind: Kind, service: Scripted, folder: &std::path::Path) -> Box<dyn Stage> {
    let gate = Arc::new(Gate::default());
    let service = match kind {
        Kind::Sim => service,
        _ => service.with_gate(Arc::clone(&gate)),
    };
    let shard = Shard::new(service, limits());
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    macro_rules! real {
        ($host:ty, $config:ident, |$running:ident, $told:ident| $run:expr) => {{
            let config = $config {
                roots: Roots::open([folder]).expect("the folder is there"),
                ..$config::default()
            };
            let mut host = <$host>::new(shard, config).expect("a host");
            let address = host.listen(loopback).expect("loopback is there");
            let handle = host.handle();
            let tell = move |message| handle.send(message).expect("the host runs");
            let run = move |reports: mpsc::Sender<String>| {
                let $running = host;
                let $told = |report| reports.send(report).unwrap_or(());
                $run.map(drop)
            };
            Box::new(Real::new(address, folder.into(), gate, tell, run))
        }};
    }
    match kind {
        Kind::Sim => Box::new(Simulated::new(shard, SplitPlan::Whole)),
        Kind::Mio => real!(mio::Host<_, _>, MioConfig, |host, told| host.run(told)),
        Kind::Blocking => {
            real!(mio::blocking::Host<_, _>, MioConfig, |host, told| host.run(told))
        }
        Kind::Smol => {
            real!(smol_host::Host<_, _>, SmolConfig, |host, told| smol::block_on(host.run(told)))
        }
    }
}

/// The simulator, with what comes to the host cut as `plan` says.
pub(crate) fn simulated(service: Scripted, plan: SplitPlan) -> Box<dyn Stage> {
    Box::new(Simulated::new(Shard::new(service, limits()), plan))
}

fn limits() -> NetLimits {
    NetLimits { linger: Duration::from_millis(500), ..NetLimits::default() }
}

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A host in a thread, and peers with sockets of the standard library.
struct Real {
    address: SocketAddr,
    folder: PathBuf,
    gate: Arc<Gate>,
    tell: Box<dyn Fn(Message)>,
    reports: mpsc::Receiver<String>,
    thread: Option<JoinHandle<io::Result<()>>>,
    peers: BTreeMap<u32, TcpStream>,
    listeners: BTreeMap<String, TcpListener>,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Real {
    fn new(
        address: SocketAddr,
        folder: PathBuf,
        gate: Arc<Gate>,
        tell: impl Fn(Message) + 'static,
        run: impl FnOnce(mpsc::Sender<String>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (sender, reports) = mpsc::channel();
        Self {
            address,
            folder,
            gate,
            tell: Box::new(tell),
            reports,
            thread: Some(std::thread::spawn(move || run(sender))),
            peers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            addresses: BTreeMap::new(),
        }
    }

    fn peer(&self, peer: u32) -> Result<&TcpStream, String> {
        self.peers.get(&peer).ok_or("no such peer".to_string())
    }

    fn insert(&mut self, peer: u32, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        self.peers.insert(peer, stream);
        Ok(())
    }
}

impl Stage for Real {
    fn address(&mut self, name: &str) -> String {
        self.addresses[name].to_string()
    }

    fn listen(&mut self, name: &str) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        self.addresses.insert(name.into(), address);
        self.listeners.insert(name.into(), listener);
    }

    fn dead(&mut self, name: &str) {
        self.listen(name);
        self.listeners.remove(name);
    }

    fn connect(&mut self, peer: u32) -> Result<(), String> {
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // A slow reader must not take everything at once.
            socket.set_recv_buffer_size(64 * 1024)?;
            socket.connect(&self.address.into())?;
            io::Result::Ok(TcpStream::from(socket))
        };
        let stream = connect().map_err(told)?;
        self.insert(peer, stream).map_err(told)
    }

    fn accept(&mut self, peer: u32, name: &str) -> Result<(), String> {
        let (stream, _) = self.listeners[name].accept().map_err(told)?;
        self.insert(peer, stream).map_err(told)
    }

    fn send(&mut self, peer: u32, bytes: &[u8]) -> Result<(), String> {
        self.peer(peer)?.write_all(bytes).map_err(told)
    }

    fn receive(&mut self, peer: u32, max: usize) -> Result<Heard, String> {
        let mut bytes = vec![0; max.min(256 * 1024)];
        match self.peer(peer)?.read(&mut bytes) {
            Ok(0) => Ok(Heard::End),
            Ok(n) => {
                bytes.truncate(n);
                Ok(Heard::Bytes(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Heard::Reset),
            Err(error) => Err(told(error)),
        }
    }

    fn finish(&mut self, peer: u32) {
        if let Some(stream) = self.peers.get(&peer) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn reset(&mut self, peer: u32) {
        if let Some(stream) = self.peers.remove(&peer) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn close(&mut self, peer: u32) {
        self.peers.remove(&peer);
    }

    fn put(&mut self, path: &str, content: &[u8]) {
        std::fs::write(self.folder.join(path), content).expect("the folder takes files");
    }

    fn folder(&mut self, path: &str) {
        std::fs::create_dir(self.folder.join(path)).expect("the folder takes folders");
    }

    fn rename(&mut self, from: &str, to: &str) {
        let path = |name| self.folder.join(name);
        std::fs::rename(path(from), path(to)).expect("it is there");
    }

    fn remove(&mut self, path: &str) {
        std::fs::remove_file(self.folder.join(path)).expect("it is there");
    }

    fn held(&mut self) -> Result<(), String> {
        self.gate.held()
    }

    fn let_go(&mut self) {
        self.gate.let_go();
    }

    fn tell(&mut self, message: Message) {
        (self.tell)(message);
    }

    fn report(&mut self) -> Result<Option<String>, String> {
        match self.reports.recv_timeout(PATIENCE) {
            Ok(report) => Ok(Some(report)),
            Err(RecvTimeoutError::Timeout) => Err("the host says nothing".into()),
            Err(RecvTimeoutError::Disconnected) => match self.thread.take().map(JoinHandle::join) {
                None | Some(Ok(Ok(()))) => Ok(None),
                Some(Ok(Err(error))) => Err(told(error)),
                Some(Err(_)) => Err("the host has panicked".into()),
            },
        }
    }
}

fn told(error: io::Error) -> String {
    error.to_string()
}

/// The host in virtual time.
struct Simulated {
    network: Network,
    shard: ShardId<Lines, Scripted>,
    peers: BTreeMap<u32, SimPeer>,
    addresses: BTreeMap<String, SocketAddr>,
    reports: VecDeque<String>,
}

struct SimPeer {
    id: PeerId,
    unread: Vec<u8>,
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PEERS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

impl Simulated {
    fn new(shard: Shard<Lines, Scripted>, split: SplitPlan) -> Self {
        let mut network = Network::new(1);
        let link = LinkConfig { latency: Duration::from_micros(50), ..LinkConfig::default() };
        network.set_default_link(link.clone());
        network.set_link(PEERS, HOST, LinkConfig { split, ..link });
        let shard = network.add(HOST, shard);
        assert!(network.listen(shard, SocketAddr::new(HOST, 80)));
        let disk = network.disk_mut(shard);
        for (name, content) in files() {
            disk.put_file(RootId(0), name, content);
        }
        disk.put_name("localhost", Ok(vec![HOST]));
        Self {
            network,
            shard,
            peers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            reports: VecDeque::new(),
        }
    }

    fn insert(&mut self, peer: u32, id: PeerId) {
        // Peers read only when they are told to.
        self.network.set_reading(id, false);
        let unread = Vec::new();
        self.peers.insert(peer, SimPeer { id, unread });
    }

    fn perform(&mut self, effect: &Effect) {
        let now = self.network.now();
        let done = self.network.disk_mut(self.shard).perform(now, effect);
        assert_eq!(done, OwnedReply::Done);
    }

    fn step(&mut self, waiting_for: &str) -> Result<(), String> {
        if self.network.step() {
            Ok(())
        } else {
            Err(format!("nothing happens any more, waiting for {waiting_for}"))
        }
    }
}

impl Stage for Simulated {
    fn address(&mut self, name: &str) -> String {
        self.addresses[name].to_string()
    }

    fn listen(&mut self, name: &str) {
        self.dead(name);
        assert!(self.network.listen_raw(self.addresses[name]));
    }

    fn dead(&mut self, name: &str) {
        let port = 1000 + u16::try_from(self.addresses.len()).expect("few addresses");
        self.addresses.insert(name.into(), SocketAddr::new(PEERS, port));
    }

    fn connect(&mut self, peer: u32) -> Result<(), String> {
        let id = self.network.connect(PEERS, SocketAddr::new(HOST, 80));
        self.insert(peer, id);
        while self.network.peer(id).state() == PeerState::Dialling {
            self.step("a connection")?;
        }
        match self.network.peer(id).state() {
            PeerState::Open => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn accept(&mut self, peer: u32, name: &str) -> Result<(), String> {
        let address = self.addresses[name];
        loop {
            if let [id, ..] = self.network.accepted(address)[..] {
                self.insert(peer, id);
                return Ok(());
            }
            self.step("a connection")?;
        }
    }

    fn send(&mut self, peer: u32, bytes: &[u8]) -> Result<(), String> {
        let id = self.peers[&peer].id;
        self.network.write(id, bytes);
        Ok(())
    }

    fn receive(&mut self, peer: u32, max: usize) -> Result<Heard, String> {
        let peer = self.peers.get_mut(&peer).ok_or("no such peer")?;
        let (id, unread) = (peer.id, &mut peer.unread);
        self.network.set_reading(id, true);
        let heard = loop {
            unread.extend(self.network.take_received(id));
            if !unread.is_empty() {
                let n = max.min(unread.len());
                break Ok(Heard::Bytes(unread.drain(..n).collect()));
            }
            match self.network.peer(id).state() {
                PeerState::Failed(Failure::Reset) => break Ok(Heard::Reset),
                PeerState::Failed(other) => break Err(other.to_string()),
                PeerState::Closed => break Err("the peer is closed".into()),
                PeerState::Open | PeerState::Dialling => {}
            }
            if self.network.peer(id).eof().is_some() {
                break Ok(Heard::End);
            }
            if !self.network.step() {
                break Err("nothing happens any more".into());
            }
        };
        self.network.set_reading(id, false);
        heard
    }

    fn finish(&mut self, peer: u32) {
        self.network.finish(self.peers[&peer].id);
    }

    fn reset(&mut self, peer: u32) {
        self.network.reset(self.peers[&peer].id);
    }

    fn close(&mut self, peer: u32) {
        if let Some(peer) = self.peers.remove(&peer) {
            self.network.close(peer.id);
        }
    }

    fn put(&mut self, path: &str, content: &[u8]) {
        let now = self.network.now();
        let disk = self.network.disk_mut(self.shard);
        if !disk.rewrite(now, RootId(0), path, content) {
            disk.put_file(RootId(0), path, content);
        }
    }

    fn folder(&mut self, path: &str) {
        self.network.disk_mut(self.shard).put_folder(RootId(0), path);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (from.into(), to.into());
        self.perform(&Effect::Rename { root: RootId(0), from, to, replace: true });
    }

    fn remove(&mut self, path: &str) {
        self.perform(&Effect::Remove { root: RootId(0), path: path.into() });
    }

    /// Nothing is held up here: what was to come to one turn has come.
    fn held(&mut self) -> Result<(), String> {
        self.network.run_for(Duration::from_millis(1)).map_err(|stuck| stuck.to_string())
    }

    fn let_go(&mut self) {}

    fn tell(&mut self, message: Message) {
        self.network.send_message(self.shard, message);
    }

    fn report(&mut self) -> Result<Option<String>, String> {
        loop {
            let new = self.network.take_reports(self.shard);
            self.reports.extend(new.into_iter().map(|(_, report)| report));
            if let Some(report) = self.reports.pop_front() {
                return Ok(Some(report));
            }
            if self.network.is_over(self.shard) {
                return Ok(None);
            }
            self.step("a report")?;
        }
    }
}
