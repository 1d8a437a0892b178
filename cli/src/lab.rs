//! `semfio lab`: every server there is, on this machine.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use clap::ValueEnum;
use semfio_chat::{HubConfig, HubMessage, Reports};
use semfio_echo::{DatagramServer, Report, ServerEvent};
use semfio_file::{Repository, RepositoryConfig, RepositoryMessage};
use semfio_http::{Echo, EchoMessage, LogForm, ServerConfig, SiteConfig, SiteMessage, SiteReport};
use semfio_machine::{DatagramMachine, Endpoint, Now, Seed, Service, Shard, StreamMachine};
use semfio_probe::{UdpPingServer, UdpPingServerConfig};
use semfio_runtime_os::{Clock, Roots};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chat::warn_of_cleartext_key;
use crate::failed::{Failed, INTERRUPTED, NETWORK};
use crate::output::{DIM, Records, notice, paint, print_line};
use crate::record::{self, Recordable, Recording, Redaction, Spoken};
use crate::runtime::{Datagrams, Host, Runtime};
use crate::serve::{as_line, as_record, cannot_listen};
use crate::{Common, file, http, signals, tour, udp_ping};

/// How far above the first port the sealed room is.
const SEALED: u16 = 2;
/// How far above the first port the files are.
const FILES: u16 = 3;
/// How far above the first port the echo servers are: 7 is the port of RFC 862.
const ECHO: u16 = 7;
/// How far above the first port the web server is: from 8000 it is 8080.
const HTTP: u16 = 80;
/// How far above the first port the HTTP echo server is: from 8000 it is 8081.
const HTTP_ECHO: u16 = 81;
/// How far above the first port the UDP pinger's server is: from 8000 it is the textbook's 12000.
const UDP_PING: u16 = 4_000;
/// In a million: so often the textbook's server forgets.
const LOSS: u32 = 364_000;
/// Decides what it forgets.
const FATES: u64 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start this alone, in place of all that can be had on other ports
    #[arg(value_enum, value_name = "WHAT", conflicts_with = "tour")]
    what: Option<What>,
    /// Drive each server with our own clients, show each exchange, and end; on free ports
    #[arg(long)]
    tour: bool,
    /// The chat room's address; the sealed room is 2 ports above, files 3, the echo servers 7, the web
    /// server 80, the HTTP echo 81. Port 0: all of them free ones
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8000",
        conflicts_with = "tour"
    )]
    listen_base: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The course's secure chat, whose port is the chat room's; its key goes in clear
    Secure,
    /// Four pictures, where the course's client for files looks for them: on the chat room's port
    File,
}

/// Four pictures, drawn for this lab, under the names that the course's server knows.
pub(crate) const PICTURES: [(&str, &[u8]); 4] = [
    ("cachorro.jpg", include_bytes!("../pictures/cachorro.jpg")),
    ("gato.jpg", include_bytes!("../pictures/gato.jpg")),
    ("iguana.jpg", include_bytes!("../pictures/iguana.jpg")),
    ("tucano.jpg", include_bytes!("../pictures/tucano.jpg")),
];

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    if args.tour {
        return tour::run(common);
    }
    let voice = Voice::new(common);
    let mut servers = match args.what {
        None => Servers::start(common, args.listen_base, &voice)?,
        Some(What::Secure) => {
            voice.warn_of_cleartext_key();
            Servers::start_secure(common, args.listen_base, &voice)?
        }
        Some(What::File) => Servers::start_file(common, args.listen_base, &voice)?,
    };
    let (ask, asked) = mpsc::channel();
    let interrupted = signals::catch(move || {
        let _ = ask.send(());
    })
    .map_err(|error| Failed::because(NETWORK, "cannot catch signals", error))?;
    match args.what {
        None => voice.table(&servers),
        Some(What::Secure) => voice.table_of_secure(servers.chat),
        Some(What::File) => voice.table_of_files(servers.files),
    }
    // Until a signal comes.
    let _ = asked.recv();
    servers.stop()?;
    voice.tell("stopped", json!({}), "stopped");
    Ok(if interrupted.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The servers of a lab, each in a thread.
pub(crate) struct Servers {
    pub(crate) chat: SocketAddr,
    pub(crate) sealed: SocketAddr,
    pub(crate) files: SocketAddr,
    pub(crate) echo: SocketAddr,
    pub(crate) datagram_echo: SocketAddr,
    pub(crate) udp_ping: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) http_echo: SocketAddr,
    running: Vec<Running>,
    /// The folder with the pictures, removed in the end.
    pictures: Option<TempDir>,
}

struct Running {
    stop: Box<dyn Fn() + Send>,
    thread: JoinHandle<Result<(), Failed>>,
}

impl Servers {
    fn none(base: SocketAddr) -> Self {
        Self {
            chat: base,
            sealed: base,
            files: base,
            echo: base,
            datagram_echo: base,
            udp_ping: base,
            http: base,
            http_echo: base,
            running: Vec::new(),
            pictures: None,
        }
    }

    pub(crate) fn start(common: &Common, base: SocketAddr, voice: &Voice) -> Result<Self, Failed> {
        let mut servers = Self::none(base);
        let above = |ports: u16| match base.port() {
            0 => base,
            port => SocketAddr::new(base.ip(), port.saturating_add(ports)),
        };
        let (sealed, files, echo) = (above(SEALED), above(FILES), above(ECHO));
        let config = HubConfig { reports: Reports::All, ..HubConfig::default() };
        servers.chat = servers.start_chat("chat", config.clone(), common, base, voice.clone())?;
        let config = HubConfig { sealed_only: true, ..config };
        servers.sealed = servers.start_chat("sealed", config, common, sealed, voice.clone())?;
        servers.files = servers.start_files(common, files, voice.clone())?;
        servers.echo = servers.start_echo(common, echo, voice.clone())?;
        servers.datagram_echo = servers.start_datagram_echo(common, echo, voice.clone())?;
        servers.udp_ping = servers.start_udp_ping(common, above(UDP_PING), voice.clone())?;
        servers.http = servers.start_http(common, above(HTTP), voice.clone())?;
        servers.http_echo = servers.start_http_echo(common, above(HTTP_ECHO), voice.clone())?;
        Ok(servers)
    }

    fn start_secure(common: &Common, base: SocketAddr, voice: &Voice) -> Result<Self, Failed> {
        let mut servers = Self::none(base);
        let config = HubConfig {
            reports: Reports::All,
            insecure_cleartext_key: true,
            ..HubConfig::default()
        };
        servers.chat = servers.start_chat("chat", config, common, base, voice.clone())?;
        Ok(servers)
    }

    fn start_file(common: &Common, base: SocketAddr, voice: &Voice) -> Result<Self, Failed> {
        let mut servers = Self::none(base);
        servers.files = servers.start_files(common, base, voice.clone())?;
        Ok(servers)
    }

    fn start_chat(
        &mut self,
        name: &'static str,
        config: HubConfig,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let (hub, header, redaction) = record::hub(config, common.record_secrets)?;
        let clock = Clock::start();
        let path = trace(common, name);
        let (shard, recording) = record::shard(hub, header, redaction, path.as_deref(), clock)?;
        let goodbye = || HubMessage::Stop;
        let roots = Roots::default();
        self.start_host(common.runtime, shard, roots, recording, clock, address, goodbye, {
            move |report| {
                let (kind, record) = as_record(&report);
                voice.tell(
                    &format!("{name}.{kind}"),
                    record,
                    &format!("{name:6} {}", as_line(&report)),
                );
            }
        })
    }

    fn start_files(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let cannot = |error| Failed::because(NETWORK, "cannot make a folder of pictures", error);
        let pictures = self.pictures.insert(tempfile::tempdir().map_err(cannot)?);
        for (name, picture) in PICTURES {
            fs::write(pictures.path().join(name), picture).map_err(cannot)?;
        }
        let roots = file::serve::roots(pictures.path()).map_err(cannot)?;
        let config = RepositoryConfig::default();
        let header = record::repository_header(&config);
        let clock = Clock::start();
        let path = trace(common, "files");
        let service = Repository::new(config);
        let (shard, recording) =
            record::shard(service, header, Redaction::None, path.as_deref(), clock)?;
        let goodbye = || RepositoryMessage::Stop;
        let mut log = file::serve::Log::new(common.verbose);
        self.start_host(common.runtime, shard, roots, recording, clock, address, goodbye, {
            move |report| {
                let (kind, record) = file::serve::as_record(&report);
                let line = log.lines(&report).map(|line| format!("files  {line}"));
                voice.tell_some(&format!("files.{kind}"), record, line.as_deref());
            }
        })
    }

    fn start_echo(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let clock = Clock::start();
        let path = trace(common, "echo");
        let service = semfio_echo::Service::new();
        let (shard, recording) =
            record::shard(service, record::echo_header(), Redaction::None, path.as_deref(), clock)?;
        self.start_host(
            common.runtime,
            shard,
            Roots::default(),
            recording,
            clock,
            address,
            || (),
            move |report| match report {
                Report::Opened(_, peer) => {
                    let address = peer.address;
                    let line = format!("echo   + {address}");
                    voice.tell("echo.opened", json!({ "address": address }), &line);
                }
                Report::Closed { peer, bytes, .. } => {
                    let address = peer.address;
                    let line = format!("echo   - {address}: {bytes} bytes");
                    let record = json!({ "address": address, "bytes": bytes });
                    voice.tell("echo.closed", record, &line);
                }
            },
        )
    }

    /// What is served is the folder of pictures.
    fn start_http(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let cannot = |error| Failed::because(NETWORK, "cannot serve the folder of pictures", error);
        let folder = self.pictures.as_ref().map(|it| it.path().to_owned()).unwrap_or_default();
        let roots = file::serve::roots(&folder).map_err(cannot)?;
        let config = SiteConfig { log: Some(LogForm::Common), ..SiteConfig::default() };
        let (site, header) = record::site(config)?;
        let clock = Clock::start();
        let path = trace(common, "http");
        let (shard, recording) =
            record::shard(site, header, Redaction::None, path.as_deref(), clock)?;
        let (runtime, goodbye) = (common.runtime, || SiteMessage::Drain);
        self.start_host(runtime, shard, roots, recording, clock, address, goodbye, {
            move |report| match report {
                SiteReport::Log(lines) => lines.lines().for_each(|line| {
                    voice.tell("http.request", json!({ "line": line }), &format!("http   {line}"));
                }),
                SiteReport::Broken { peer, why } => {
                    let (record, line) = http::serve::broken(peer, &why);
                    voice.tell("http.broken", record, &format!("http   {line}"));
                }
            }
        })
    }

    fn start_http_echo(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let clock = Clock::start();
        let path = trace(common, "http-echo");
        let service = Echo::new(ServerConfig::default(), true);
        let header = record::http_echo_header(true);
        let (shard, recording) =
            record::shard(service, header, Redaction::None, path.as_deref(), clock)?;
        let (runtime, roots, goodbye) = (common.runtime, Roots::default(), || EchoMessage::Stop);
        self.start_host(runtime, shard, roots, recording, clock, address, goodbye, {
            move |report| {
                let (kind, record) = http::echo::as_record(&report);
                let line = format!("http   {}", http::echo::as_line(&report));
                voice.tell(&format!("http_echo.{kind}"), record, &line);
            }
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn start_host<M, S, T>(
        &mut self,
        runtime: Runtime,
        shard: Shard<M, Recordable<S>>,
        roots: Roots,
        recording: Recording,
        clock: Clock,
        address: SocketAddr,
        goodbye: impl Fn() -> T + Send + 'static,
        on_report: impl FnMut(S::Report) + Send + 'static,
    ) -> Result<SocketAddr, Failed>
    where
        M: StreamMachine + Send + 'static,
        S: Service<M, Message = T> + Send + 'static,
        S::Report: Send,
        T: Send + 'static,
    {
        let (tell, told) = mpsc::channel();
        // Made in the thread in which it runs: not every host may move.
        let thread = thread::spawn(move || {
            let cannot = |error| Failed::because(NETWORK, "cannot serve", error);
            let mut host = Host::with_roots(runtime, shard, clock, roots).map_err(cannot)?;
            let bound = host.listen(address).map_err(|error| cannot_listen(address, &error))?;
            let _ = tell.send((bound, host.handle()));
            drop(host.run(on_report).map_err(cannot)?);
            recording.finish()
        });
        let Ok((bound, handle)) = told.recv() else {
            return Err(ended(thread));
        };
        let stop = Box::new(move || drop(handle.send(Spoken(goodbye()))));
        self.running.push(Running { stop, thread });
        Ok(bound)
    }

    fn start_datagram_echo(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        self.start_datagrams(common, address, DatagramServer::new(), move |_, event| {
            if let ServerEvent::Received { from, payload, .. } = event {
                let bytes = payload.len();
                let line = format!("echo   {from}: {bytes} bytes over UDP");
                let record = json!({ "address": from, "bytes": bytes });
                voice.tell("echo.datagram", record, &line);
            }
        })
    }

    fn start_udp_ping(
        &mut self,
        common: &Common,
        address: SocketAddr,
        voice: Voice,
    ) -> Result<SocketAddr, Failed> {
        let config = UdpPingServerConfig { loss: LOSS, ..UdpPingServerConfig::default() };
        let machine = UdpPingServer::new(Seed::from_u64(FATES), config);
        self.start_datagrams(common, address, machine, move |now, event| {
            let (kind, record) = udp_ping::as_record(now.unix, &event);
            let line = format!("ping   {}", udp_ping::as_line(now.unix, &event));
            voice.tell(&format!("udp_ping.{kind}"), record, &line);
        })
    }

    fn start_datagrams<M: DatagramMachine + Send + 'static>(
        &mut self,
        common: &Common,
        address: SocketAddr,
        machine: M,
        on_event: impl Fn(Now, M::Event<'_>) + Send + 'static,
    ) -> Result<SocketAddr, Failed> {
        let (tell, told) = mpsc::channel();
        let runtime = common.runtime;
        let thread = thread::spawn(move || {
            let bound = Datagrams::bind(runtime, Endpoint::new(machine), address, Clock::start());
            let socket = bound.map_err(|error| cannot_listen(address, &error))?;
            let _ = tell.send((socket.address(), socket.stopper()));
            let run = socket.run(|now, event, _| on_event(now, event));
            run.map(drop).map_err(|error| Failed::because(NETWORK, "cannot serve", error))
        });
        let Ok((bound, stopper)) = told.recv() else {
            return Err(ended(thread));
        };
        self.running.push(Running { stop: Box::new(move || stopper.stop()), thread });
        Ok(bound)
    }

    /// Stops all servers, each as cleanly as it can.
    pub(crate) fn stop(&mut self) -> Result<(), Failed> {
        self.running.iter().for_each(|running| (running.stop)());
        self.running.drain(..).try_for_each(|running| {
            running.thread.join().unwrap_or_else(|_| Err(Failed::new(NETWORK, panicked())))
        })
    }
}

/// Why a thread that should run has ended.
fn ended(thread: JoinHandle<Result<(), Failed>>) -> Failed {
    match thread.join() {
        Ok(Err(failed)) => failed,
        _ => Failed::new(NETWORK, panicked()),
    }
}

fn panicked() -> anyhow::Error {
    anyhow::anyhow!("a server of the lab panicked")
}

/// Where a server of the lab is recorded: beside the others.
fn trace(common: &Common, server: &str) -> Option<PathBuf> {
    let mut path = common.record.clone()?.into_os_string();
    path.push(".");
    path.push(server);
    Some(path.into())
}

/// What the servers tell, in one stream.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    quiet: bool,
    records: Option<Arc<Mutex<Records>>>,
}

impl Voice {
    pub(crate) fn new(common: &Common) -> Self {
        Self { quiet: common.quiet, records: common.json.then(Arc::default) }
    }

    /// A voice that says nothing.
    pub(crate) fn silent() -> Self {
        Self { quiet: true, records: None }
    }

    pub(crate) fn tell(&self, kind: &str, record: Value, line: &str) {
        self.tell_some(kind, record, Some(line));
    }

    /// What programs are told of, and people maybe.
    fn tell_some(&self, kind: &str, record: Value, line: Option<&str>) {
        match &self.records {
            Some(records) => {
                records.lock().unwrap_or_else(PoisonError::into_inner).print(kind, record);
            }
            None if self.quiet => {}
            None => line.into_iter().for_each(notice),
        }
    }

    fn warn_of_cleartext_key(&self) {
        let mut records =
            self.records.as_ref().map(|it| it.lock().unwrap_or_else(PoisonError::into_inner));
        warn_of_cleartext_key(records.as_deref_mut());
    }

    fn table_of_secure(&self, chat: SocketAddr) {
        if self.records.is_some() {
            return self.tell("serving", json!({ "chat": chat }), "");
        }
        if self.quiet {
            return;
        }
        print_line(&format!(
            "the course's secure chat is on {chat}; try, each in a terminal of its own:"
        ));
        if chat.port() == 8000 {
            print_line("  python3 cliente_seguro.py     (the course's own client)");
        }
        print_line(&format!(
            "  semfio chat join {chat} --insecure-cleartext-key     (the same from us)"
        ));
        print_line(&format!("  semfio chat join {chat}     (with names; this one needs no key)"));
        print_line(&paint(DIM, "Ctrl-C stops it; what happens is shown below."));
    }

    fn table_of_files(&self, files: SocketAddr) {
        if self.records.is_some() {
            return self.tell("serving", json!({ "files": files }), "");
        }
        if self.quiet {
            return;
        }
        let names = PICTURES.map(|(name, _)| name).join(", ");
        print_line(&format!("{names} are on {files}; try:"));
        if files.port() == 8000 {
            print_line(
                "  python3 cliente.py     (the course's own client; it saves OK behind each)",
            );
        }
        print_line(&format!(
            "  semfio file get {files} iguana.jpg --course     (the same from us, and as it should be)"
        ));
        print_line(&format!("  semfio file list {files}"));
        print_line(&format!("  semfio file get {files} iguana.jpg     (proved as it comes)"));
        print_line(&paint(DIM, "Ctrl-C stops it; what happens is shown below."));
    }

    fn table(&self, servers: &Servers) {
        let (chat, sealed, files) = (servers.chat, servers.sealed, servers.files);
        let (echo, datagrams) = (servers.echo, servers.datagram_echo);
        if self.records.is_some() {
            let record = json!({
                "chat": chat, "sealed": sealed, "files": files, "echo": echo,
                "datagram_echo": datagrams, "udp_ping": servers.udp_ping,
                "http": servers.http, "http_echo": servers.http_echo
            });
            return self.tell("serving", record, "");
        }
        if self.quiet {
            return;
        }
        let mut rows = vec![
            ("chat room", chat, format!("semfio chat join {chat}")),
            ("", chat, format!("nc {} {}", chat.ip(), chat.port())),
        ];
        if chat.port() == 8000 {
            rows.push(("", chat, "python3 cliente.py     (the course's own client)".into()));
        }
        let try_this = format!("semfio chat join {sealed} --passphrase");
        rows.push(("chat, sealed end to end", sealed, try_this));
        rows.push(("files", files, format!("semfio file list {files}")));
        rows.push(("", files, format!("semfio file get {files} iguana.jpg")));
        rows.push((
            "echo over TCP (RFC 862)",
            echo,
            format!("semfio nc {} {}", echo.ip(), echo.port()),
        ));
        let try_this = format!("semfio nc -u {} {}", datagrams.ip(), datagrams.port());
        rows.push(("echo over UDP (RFC 862)", datagrams, try_this));
        let try_this = format!("semfio ports --port {}", echo.port());
        rows.push(("", datagrams, try_this));
        let http = servers.http;
        rows.push(("web server", http, format!("a browser at http://{http}/")));
        rows.push(("", http, format!("semfio http get -O http://{http}/gato.jpg")));
        let http = servers.http_echo;
        rows.push(("HTTP echo", http, format!("curl -d hello http://{http}/")));
        let pinger = servers.udp_ping;
        rows.push(("UDP pinger, forgetful", pinger, format!("semfio udp-ping {pinger}")));
        rows.push(("", pinger, format!("semfio ping {}", pinger.ip())));
        rows.push(("", pinger, format!("semfio trace {}", pinger.ip())));
        rows.push(("", pinger, format!("semfio scan {} -p {}-", chat.ip(), chat.port())));
        print_line(&paint(DIM, &format!("{:24} {:22} try this", "what is running", "where")));
        for (what, address, try_this) in rows {
            let address = if what.is_empty() { String::new() } else { address.to_string() };
            print_line(&format!("{what:24} {address:22} {try_this}"));
        }
        print_line(&paint(DIM, "Ctrl-C stops all of it; what happens is shown below."));
    }
}
