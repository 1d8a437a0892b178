//! `semfio lab --tour`: each server driven by our own clients, each exchange shown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, bail, ensure};
use semfio_chat::{
    Cause, Happened, Keys, Outcome, Participant, ParticipantConfig, ParticipantMessage,
    ParticipantReport,
};
use semfio_echo::{ClientConfig, ClientEvent, DatagramClient, Ping};
use semfio_file::wire::ErrorCode;
use semfio_file::{
    Fetch, FetchConfig, FetchError, FetchReport, Listing, ListingConfig, ListingReport, Session,
};
use semfio_frame::Dialect;
use semfio_http::get::{Get, GetConfig, GetItem, GetReport};
use semfio_http::{FieldsBuf, Url};
use semfio_keysync::Passphrase;
use semfio_machine::{Carrier, Endpoint, Interval, NetLimits, RootId, Service, Shard, Target};
use semfio_netcat::sockets::{SocketState, Transport, rows};
use semfio_netcat::{
    InputEnd, Netcat, NetcatConfig, NetcatMessage, NetcatReport, TcpCheck, UdpCheck, UdpVerdict,
};
use semfio_path::{Policy, SafeName};
use semfio_probe::{
    ConnectScan, Method, PingConfig, PingEvent, Pinger, PortState, ProbesConfig, ScanConfig,
    ScanEvent, Sockets, TraceConfig, TraceEvent, Tracer, UdpPingConfig, UdpPingEvent, UdpPinger,
    UdpScan,
};
use semfio_runtime_os::datagram::DatagramSocket;
use semfio_runtime_os::{Clock, Handle, Roots, seed, sockets, tcp};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, NEGATIVE};
use crate::lab::{PICTURES, Servers, Voice};
use crate::output::{Records, paint, print_line};
use crate::record::{Recordable, Spoken};
use crate::runtime::{Datagrams, Host, Runtime};

/// How long any answer may take on one machine, a busy one too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams of the echo.
const PINGS: u64 = 3;
/// How long an answer of the UDP pinger's server is waited for.
const FORGOTTEN: Duration = Duration::from_millis(300);

const GOOD: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const BAD: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

pub(crate) fn run(common: &Common) -> Result<ExitCode, Failed> {
    let base = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut servers = Servers::start(common, base, &Voice::silent())?;
    let mut guide = Guide {
        runtime: common.runtime,
        quiet: common.quiet,
        records: common.json.then(Records::default),
    };
    let stops: [(&str, Stop); 12] = [
        ("chat", |guide, servers| guide.chat(servers.chat)),
        ("sealed chat", |guide, servers| guide.sealed(servers.sealed)),
        ("files", |guide, servers| guide.files(servers.files)),
        ("echo over TCP", |guide, servers| guide.echo(servers.echo)),
        ("echo over UDP", |guide, servers| guide.datagram_echo(servers.datagram_echo)),
        ("HTTP echo", |guide, servers| guide.http_echo(servers.http_echo)),
        ("web server", |guide, servers| guide.http_get(servers.http)),
        ("netcat", |guide, servers| guide.netcat(servers.echo, servers.datagram_echo)),
        ("UDP pinger", |guide, servers| guide.udp_ping(servers.udp_ping)),
        ("ping", |guide, servers| guide.ping(servers.echo.ip())),
        ("trace", |guide, servers| guide.trace(servers.udp_ping)),
        ("scan", |guide, servers| guide.scan(servers.echo, servers.datagram_echo)),
    ];
    let mut wrong = 0;
    for (what, stop) in stops {
        guide.heading(what);
        if let Err(error) = stop(&mut guide, &servers) {
            wrong += 1;
            guide.failed(&format!("{error:#}"));
        }
    }
    servers.stop()?;
    if wrong == 0 {
        guide.heading("all as it should be");
        return Ok(ExitCode::SUCCESS);
    }
    let what = format!("{wrong} of {} stops of the tour", stops.len());
    Err(Failed::because(NEGATIVE, what, "not as it should be, see above"))
}

/// A part of the tour.
type Stop = fn(&mut Guide, &Servers) -> anyhow::Result<()>;

/// Shows what is done and seen.
struct Guide {
    runtime: Runtime,
    quiet: bool,
    records: Option<Records>,
}

impl Guide {
    fn heading(&mut self, what: &str) {
        match &mut self.records {
            Some(records) => records.print("stop", json!({ "what": what })),
            None if self.quiet => {}
            None => print_line(what),
        }
    }

    fn seen(&mut self, what: impl Display) {
        match &mut self.records {
            Some(records) => records.print("seen", json!({ "what": what.to_string() })),
            None if self.quiet => {}
            None => print_line(&format!("  {} {what}", paint(GOOD, "✓"))),
        }
    }

    fn failed(&mut self, what: &str) {
        match &mut self.records {
            Some(records) => records.print("failed", json!({ "why": what })),
            None => print_line(&format!("  {} {what}", paint(BAD, "✗"))),
        }
    }

    fn chat(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let ana = Member::join(self.runtime, server, Dialect::Framed, "ana")?;
        ana.sees("ana enters", |report| is_welcome(report, "ana"))?;
        let bia = Member::join(self.runtime, server, Dialect::Framed, "bia")?;
        bia.sees("bia enters", |report| is_welcome(report, "bia"))?;
        ana.sees("ana sees bia come", |report| is_entry(report, "bia", &Happened::Join))?;
        self.seen("ana and bia meet in the lobby");

        ana.says("olá, bia");
        bia.sees("bia reads ana", |report| is_text(report, "ana", "olá, bia"))?;
        self.seen("ana says \"olá, bia\", and bia reads it under her name");
        bia.says("oi!");
        ana.sees("ana reads bia", |report| is_text(report, "bia", "oi!"))?;
        self.seen("bia answers \"oi!\", and ana reads it");

        let line = Member::join(self.runtime, server, Dialect::Line, "")?;
        line.says("as nc sends it");
        ana.sees("ana reads the line", |report| is_text(report, "guest-1", "as nc sends it"))?;
        self.seen("a line, as nc sends it, comes from guest-1");
        let raw = Member::join(self.runtime, server, Dialect::Raw, "")?;
        raw.says("como no curso");
        ana.sees("ana reads raw text", |report| is_text(report, "raw-2", "como no curso"))?;
        raw.sees(
            "raw gets its echo",
            |report| matches!(report, ParticipantReport::Text(text) if text == b"como no curso"),
        )?;
        self.seen("a raw text, as the course's client sends it, comes from raw-2 and back to it");
        line.sees("the line user reads raw", |report| {
            matches!(report, ParticipantReport::Text(text)
                if String::from_utf8_lossy(text).contains("<raw-2> como no curso\n"))
        })?;
        self.seen("who sends lines reads lines");

        bia.leave()?;
        ana.sees("ana sees bia go", |report| is_entry(report, "bia", &Happened::Part))?;
        self.seen("bia leaves, and ana is told");
        for member in [line, raw, ana] {
            member.leave()?;
        }
        self.seen("all leave, with everything acknowledged");
        Ok(())
    }

    fn sealed(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let ana = Member::join_sealed(self.runtime, server, "ana", b"abacate")?;
        ana.sees("ana opens the room", |report| has_keys(report, &Keys::Opened))?;
        let bia = Member::join_sealed(self.runtime, server, "bia", b"abacate")?;
        ana.sees("ana lets bia in", |report| is_entry(report, "bia", &Happened::Join))?;
        ana.says("olá, bia");
        bia.sees("bia reads ana", |report| is_text(report, "ana", "olá, bia"))?;
        self.seen("ana and bia agree on keys by their passphrase, and bia reads ana");
        let eva = Member::join_sealed(self.runtime, server, "eva", b"abacaxi")?;
        eva.sees("eva is kept out", |report| {
            matches!(report, ParticipantReport::Over(Outcome::Locked(..)))
        })?;
        eva.ends()?;
        self.seen("eva has another passphrase, and is kept out");
        let left = Cause::Left("bia".into());
        bia.leave()?;
        ana.sees("ana changes the key", |report| {
            matches!(report, ParticipantReport::Keys { what: Keys::Epoch { cause, .. }, .. }
                if *cause == left)
        })?;
        self.seen("bia leaves, and what is said from here on is under a key she never had");
        ana.leave()
    }

    fn files(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let target = Target::Address(server);
        let config = ListingConfig { target: target.clone(), name: None };
        let mut listed = 0;
        self.transfer(Listing::new(config), Roots::default(), |report| {
            listed += u32::from(matches!(report, ListingReport::Named(..)));
        })?;
        ensure!(listed == 4, "{listed} names are listed");
        self.seen("the server tells of four pictures");

        let folder = tempfile::tempdir()?;
        let names = ["iguana.jpg", "leao.jpg"].map(|name| SafeName::parse(name, Policy::default()));
        let config = FetchConfig {
            target,
            names: names.into_iter().collect::<Result<_, _>>()?,
            root: RootId(0),
            save_as: None,
            replace: false,
            jobs: 1,
            policy: Policy::default(),
            retries: 0,
        };
        let (mut saved, mut unknown) = (None, false);
        let roots = Roots::open([folder.path()])?;
        self.transfer(Fetch::new(config), roots, |report| match report {
            FetchReport::Done { hash, .. } => saved = Some(hash),
            FetchReport::Failed { why: FetchError::Refused(ErrorCode::Unknown), .. } => {
                unknown = true;
            }
            _ => {}
        })?;
        let hash = saved.context("iguana.jpg did not come")?;
        let (_, picture) = PICTURES[2];
        ensure!(fs::read(folder.path().join("iguana.jpg"))? == picture, "iguana.jpg is another");
        self.seen(format!("iguana.jpg comes, proved against its BLAKE3 {:.8}…", hash.to_string()));
        ensure!(unknown, "there is a leao.jpg");
        ensure!(fs::read_dir(folder.path())?.count() == 1, "more was saved");
        self.seen("leao.jpg is unknown, and leaves no file");

        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET Iguana.jpg")?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).context("reading what comes back")?;
        ensure!(back == [picture, b"OK"].concat(), "{} bytes came back", back.len());
        self.seen("the course's client gets it too, whatever the case, and OK behind it");
        Ok(())
    }

    /// Runs a client of files to its end.
    fn transfer<S>(
        &self,
        service: S,
        roots: Roots,
        on_report: impl FnMut(S::Report),
    ) -> anyhow::Result<()>
    where
        S: Service<Session> + Send,
        S::Message: Send,
        S::Report: Send,
    {
        let shard = Shard::new(service, NetLimits::default());
        let host = Host::with_roots(self.runtime, shard, Clock::start(), roots)?;
        Ok(host.run(on_report).map(drop)?)
    }

    fn echo(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let sent: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut writer = stream.try_clone()?;
        let bytes = sent.clone();
        let writing = thread::spawn(move || -> io::Result<()> {
            writer.write_all(&bytes)?;
            writer.shutdown(Shutdown::Write)
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).context("reading what comes back")?;
        writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(back == sent, "{} bytes came back, or others than the {}", back.len(), sent.len());
        self.seen(format!("{} bytes come back as they were, then the end", back.len()));
        Ok(())
    }

    fn http_echo(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Two requests at once, and a third that ends the connection.
        stream.write_all(
            b"POST /a HTTP/1.1\r\nHost: lab\r\nContent-Length: 3\r\n\r\noneGET /b HTTP/1.1\r\n\
              Host: lab\r\n\r\nGET /c HTTP/1.1\r\nHost : lab\r\n\r\n",
        )?;
        let mut back = String::new();
        stream.read_to_string(&mut back).context("reading what comes back")?;
        let answers: Vec<_> = back.split("HTTP/1.1 ").skip(1).collect();
        let [first, second, third] = answers[..] else {
            bail!("{} answers to three requests", answers.len());
        };
        ensure!(first.starts_with("200 ") && first.ends_with("\r\n\r\none"), "{first:?}");
        ensure!(second.starts_with("200 ") && second.contains("Content-Length: 0"), "{second:?}");
        self.seen(
            "two requests in one piece: two answers in their order, the first with its content",
        );
        let (_, why) = third.rsplit_once("\r\n").unwrap_or_default();
        ensure!(third.starts_with("400 ") && why.starts_with("field-blank: "), "{third:?}");
        self.seen(format!("a third that breaks a rule: 400, {}", why.trim_end()));
        Ok(())
    }

    fn http_get(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let item = |path: &str| {
            let url = Url::parse(&format!("http://{server}{path}")).map_err(anyhow::Error::new)?;
            anyhow::Ok(GetItem { url, save_as: None })
        };
        let config = GetConfig {
            items: vec![item("/gato.jpg")?, item("/?format=plain")?],
            method: None,
            fields: FieldsBuf::new(),
            body: None,
            redirects: 0,
            resume: false,
            fail: true,
            max_time: Some(PATIENCE),
            root: RootId(0),
        };
        let shard = Shard::new(Get::new(config), NetLimits::default());
        let host = Host::new(self.runtime, shard, Clock::start())?;
        let (mut came, mut kept, mut outcome) = (Vec::new(), 0, None);
        let mut whys = Vec::new();
        host.run(|report| match report {
            GetReport::Connected { kept: true, .. } => kept += 1,
            GetReport::Content(bytes) => came.extend_from_slice(&bytes),
            GetReport::Failed { why, .. } => whys.push(why.to_string()),
            GetReport::Over { done, failed } => outcome = Some((done, failed)),
            _ => {}
        })?;
        ensure!(outcome == Some((2, 0)), "{}", whys.join("; "));
        let (name, picture) = PICTURES[1];
        ensure!(came.starts_with(picture), "{name} came otherwise");
        self.seen("http get of a picture: it came whole");
        let listed = String::from_utf8_lossy(came.get(picture.len()..).unwrap_or_default());
        ensure!(listed.lines().eq(PICTURES.map(|it| it.0)), "the folder is listed as {listed}");
        self.seen("the folder is listed");
        ensure!(kept == 1, "a connection was not kept");
        self.seen("over one connection");
        Ok(())
    }

    fn netcat(&mut self, echo: SocketAddr, datagrams: SocketAddr) -> anyhow::Result<()> {
        let target = Target::Address(echo);
        let check = TcpCheck::new(vec![target.clone()], Some(PATIENCE));
        let mut open = false;
        let shard = Shard::new(check, NetLimits::default());
        let host = Host::new(self.runtime, shard, Clock::start())?;
        host.run(|found| open = found.answer.is_ok())?;
        ensure!(open, "nobody takes a connection at {echo}");
        self.seen("nc -z: the echo server over TCP is open");

        let config = NetcatConfig {
            target: Some(target),
            input_end: InputEnd::Finish,
            ..NetcatConfig::default()
        };
        let shard = Shard::new(Netcat::new(config), NetLimits::default());
        let host = Host::new(self.runtime, shard, Clock::start())?;
        let handle = host.handle();
        for message in [NetcatMessage::Input("olá".into()), NetcatMessage::InputEnd] {
            ensure!(handle.try_send(message).is_ok(), "a netcat takes no input");
        }
        let (mut came, mut outcome) = (Vec::new(), None);
        host.run(|report| match report {
            NetcatReport::Received(_, bytes) => came.extend_from_slice(&bytes),
            NetcatReport::Over(over) => outcome = Some(over),
            _ => {}
        })?;
        ensure!(came == "olá".as_bytes(), "{came:?} comes back");
        ensure!(outcome == Some(semfio_netcat::Outcome::Done), "it ends with {outcome:?}");
        self.seen("nc -N: \"olá\" comes back after the end was told, and then theirs");

        let check = UdpCheck::new(vec![datagrams], PATIENCE);
        let ours = SocketAddr::new(datagrams.ip(), 0);
        let socket = Datagrams::bind(self.runtime, Endpoint::new(check), ours, Clock::start())?;
        let stopper = socket.stopper();
        let mut verdict = None;
        socket.run(|_, found, _| {
            verdict = Some(found.verdict);
            stopper.stop();
        })?;
        ensure!(verdict == Some(UdpVerdict::Open), "over UDP {datagrams} is {verdict:?}");
        self.seen("nc -zu: the echo server over UDP answers, so it is open");

        let table = sockets::table("tcp")?.unwrap_or_default();
        let listens = rows(Transport::Tcp, &table)
            .iter()
            .any(|row| row.local == echo && row.state == SocketState::Listen);
        ensure!(listens, "{echo} is not in the system's table");
        self.seen(format!("ports: {echo} is in LISTEN"));
        Ok(())
    }

    fn datagram_echo(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let ours = SocketAddr::new(server.ip(), 0);
        let client = DatagramClient::new(server, &seed::draw()?, ClientConfig::default());
        let (clock, mut endpoint) = (Clock::start(), Endpoint::new(client));
        endpoint.handle_command(clock.now(), Ping { payload: b"ping 0" })?;
        let socket = Datagrams::bind(self.runtime, endpoint, ours, clock)?;
        let stopper = socket.stopper();
        let (mut answered, mut wrong) = (Vec::new(), None);
        socket.run(|now, event, endpoint| {
            match event {
                ClientEvent::Reply { number, payload, round_trip, .. } => {
                    if payload != format!("ping {number}").as_bytes() {
                        wrong = Some(format!("{number} came back as {payload:?}"));
                    }
                    answered.push((number, round_trip));
                    let next = format!("ping {}", number + 1);
                    let ping = Ping { payload: next.as_bytes() };
                    if number + 1 < PINGS && endpoint.handle_command(now, ping).is_ok() {
                        return;
                    }
                }
                ClientEvent::Restamped { number, round_trip } => {
                    if let Some(entry) = answered.iter_mut().find(|entry| entry.0 == number) {
                        entry.1 = Some(round_trip);
                    }
                    return;
                }
                other => wrong = Some(format!("{other:?}")),
            }
            stopper.stop();
        })?;
        if let Some(wrong) = wrong {
            bail!("{wrong}");
        }
        for (number, round_trip) in answered {
            let length = round_trip.map_or_else(|| "no time".into(), |time| show_interval(&time));
            self.seen(format!("datagram {number} comes back after {length}"));
        }
        Ok(())
    }

    fn udp_ping(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let clock = Clock::start();
        // On this machine an answer is there at once: what waits longer was forgotten.
        let config = UdpPingConfig { timeout: FORGOTTEN, ..UdpPingConfig::default() };
        let client = UdpPinger::new(clock.now(), server, config);
        let ours = SocketAddr::new(server.ip(), 0);
        let socket = Datagrams::bind(self.runtime, Endpoint::new(client), ours, clock)?;
        let (stopper, mut wrong) = (socket.stopper(), None);
        let endpoint = socket.run(|_, event, _| match event {
            UdpPingEvent::Ended => stopper.stop(),
            UdpPingEvent::Reply { number, text, .. } if !text.starts_with(b"PING ") => {
                wrong = Some(format!("{number} is answered by {text:?}"));
            }
            _ => {}
        })?;
        if let Some(wrong) = wrong {
            bail!("{wrong}");
        }
        let counts = endpoint.machine().counts();
        let (answered, lost) = (counts.answered, counts.lost);
        ensure!(answered > 0 && lost > 0 && answered + lost == 10, "{counts:?}");
        self.seen(format!(
            "{answered} pings are answered in capitals, {lost} are forgotten on purpose"
        ));
        Ok(())
    }

    /// To ourselves, where the system lets this user.
    fn ping(&mut self, address: IpAddr) -> anyhow::Result<()> {
        let open = |carrier| DatagramSocket::icmp(carrier, address);
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let (carrier, socket) = match open(Carrier::Icmp) {
            Err(error) if refused(&error) => (Carrier::RawIcmp, open(Carrier::RawIcmp)),
            socket => (Carrier::Icmp, socket),
        };
        let socket = match socket {
            Err(error) if refused(&error) => {
                self.seen(
                    "skipped: net.ipv4.ping_group_range leaves you out, and you are not root",
                );
                return Ok(());
            }
            socket => socket?,
        };
        let config = PingConfig {
            count: Some(PINGS),
            interval: Duration::from_millis(10),
            carrier_v4: carrier,
            ..PingConfig::default()
        };
        let (clock, host) = (Clock::start(), [SocketAddr::new(address, 0)]);
        let pinger = Pinger::new(clock.now(), &host, &seed::draw()?, config)?;
        let host = Datagrams::over(self.runtime, Endpoint::new(pinger), vec![socket], clock)?;
        let (stopper, mut trips) = (host.stopper(), Vec::new());
        host.run(|_, event, _| match event {
            PingEvent::Reply(reply) => trips.push(reply.round_trip),
            PingEvent::Ended => stopper.stop(),
            _ => {}
        })?;
        ensure!(trips.len() as u64 == PINGS, "{} of {PINGS} echoes", trips.len());
        for trip in trips {
            self.seen(format!("an echo is back after {}", show_interval(&trip)));
        }
        Ok(())
    }

    fn scan(&mut self, echo: SocketAddr, datagrams: SocketAddr) -> anyhow::Result<()> {
        // A port that is kept, and where nobody listens.
        let (_kept, closed) = tcp::keep(SocketAddr::new(echo.ip(), 0))?;
        let config = ScanConfig { ports: vec![echo.port(), closed], ..ScanConfig::default() };
        let shard = Shard::new(ConnectScan::new(&[echo], config)?, NetLimits::default());
        let host = Host::new(self.runtime, shard, Clock::start())?;
        let mut states = BTreeMap::new();
        host.run(|found| states.extend([(found.target.port(), found.state)]))?;
        let expected = [(echo.port(), PortState::Open), (closed, PortState::Closed)];
        ensure!(states == BTreeMap::from(expected), "{states:?}");
        self.seen(format!("of two ports {} is open, and {closed} is closed", echo.port()));

        let clock = Clock::start();
        let socket = DatagramSocket::bind(SocketAddr::new(datagrams.ip(), 0))?;
        let config = ScanConfig { ports: vec![datagrams.port()], ..ScanConfig::default() };
        let scan = UdpScan::new(&[datagrams], socket.local_addr()?.port(), config)?;
        let host = Datagrams::over(self.runtime, Endpoint::new(scan), vec![socket], clock)?;
        let (stopper, mut state) = (host.stopper(), None);
        host.run(|_, event, _| match event {
            ScanEvent::Found(found) => state = Some(found.state),
            ScanEvent::Ended => stopper.stop(),
        })?;
        ensure!(state == Some(PortState::Open), "{datagrams} over UDP is {state:?}");
        self.seen(format!("{datagrams} answers over UDP: it is open"));
        Ok(())
    }

    /// To ourselves, by UDP: for that nobody needs privileges.
    fn trace(&mut self, server: SocketAddr) -> anyhow::Result<()> {
        let mut socket = DatagramSocket::bind(SocketAddr::new(server.ip(), 0))?;
        socket.expect_errors();
        let probes = ProbesConfig {
            method: Method::Udp,
            sockets: Sockets::Datagram,
            destination: SocketAddr::new(server.ip(), 0),
            source: Some(socket.local_addr()?),
            traffic_class: 0,
        };
        let clock = Clock::start();
        let tracer = Tracer::new(clock.now(), &seed::draw()?, TraceConfig::new(probes))?;
        let host = Datagrams::over(self.runtime, Endpoint::new(tracer), vec![socket], clock)?;
        let stopper = host.stopper();
        let endpoint = host.run(|_, event, _| {
            if matches!(event, TraceEvent::Done(_)) {
                stopper.stop();
            }
        })?;
        let tracer = endpoint.machine();
        let hop = tracer.hop(1).filter(|_| tracer.reached() == Some(1));
        let answered = hop.map_or(0, |hop| hop.counts.answered);
        ensure!(answered == 3, "{:?}, {answered} answers of 3", tracer.ended());
        self.seen(format!("{} is one hop away, by three answers", server.ip()));
        Ok(())
    }
}

fn show_interval(interval: &Interval) -> String {
    let clock = |clock| match clock {
        semfio_machine::Clock::Kernel => "the kernel",
        semfio_machine::Clock::User => "the process",
    };
    let (from, to) = (clock(interval.from), clock(interval.to));
    let micros = interval.length.as_micros();
    if from == to {
        format!("{micros} µs, both stamped by {from}")
    } else {
        format!("{micros} µs, stamped by {from}, then by {to}")
    }
}

/// A participant on a host of its own.
struct Member {
    handle: Handle<Spoken<ParticipantMessage>>,
    reports: Receiver<ParticipantReport>,
    thread: JoinHandle<io::Result<()>>,
}

impl Member {
    fn join(
        runtime: Runtime,
        server: SocketAddr,
        dialect: Dialect,
        nick: &str,
    ) -> anyhow::Result<Self> {
        let config = ParticipantConfig::new(Target::Address(server), dialect, nick, "lobby");
        Self::start(runtime, Participant::new(config, &seed::draw()?))
    }

    fn join_sealed(
        runtime: Runtime,
        server: SocketAddr,
        nick: &str,
        passphrase: &[u8],
    ) -> anyhow::Result<Self> {
        let target = Target::Address(server);
        let config = ParticipantConfig::new(target, Dialect::Framed, nick, "lobby");
        let passphrase = Passphrase::new(passphrase);
        let (seed, secrets) = (seed::draw()?, seed::draw()?);
        Self::start(runtime, Participant::sealed(config, &seed, passphrase, &secrets))
    }

    fn start(runtime: Runtime, participant: Participant) -> anyhow::Result<Self> {
        let (tell, reports) = mpsc::channel();
        let (give, given) = mpsc::channel();
        let thread = thread::spawn(move || {
            let shard = Shard::new(Recordable(participant), NetLimits::default());
            let host = Host::new(runtime, shard, Clock::start())?;
            let _ = give.send(host.handle());
            // Nobody listens any more when the tour has failed.
            host.run(|report| drop(tell.send(report))).map(drop)
        });
        let handle = given.recv().context("a client did not start")?;
        Ok(Self { handle, reports, thread })
    }

    fn says(&self, text: &str) {
        let _ = self.handle.send(Spoken(ParticipantMessage::Line(text.into())));
    }

    /// Waits for a report.
    fn sees(
        &self,
        what: &'static str,
        wanted: impl Fn(&ParticipantReport) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let report = self.reports.recv_timeout(PATIENCE).context(what)?;
            if wanted(&report) {
                return Ok(());
            }
            if let ParticipantReport::Over(outcome) = report {
                bail!("{what}: it is over: {outcome:?}");
            }
        }
    }

    fn leave(self) -> anyhow::Result<()> {
        let _ = self.handle.send(Spoken(ParticipantMessage::Eof));
        let left = |report: &_| matches!(report, ParticipantReport::Over(Outcome::Left));
        self.sees("leaving", left)?;
        self.ends()
    }

    /// Waits for the end of its host.
    fn ends(self) -> anyhow::Result<()> {
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??)
    }
}

fn is_welcome(report: &ParticipantReport, name: &str) -> bool {
    matches!(report, ParticipantReport::Welcome { nick, .. } if nick == name)
}

fn has_keys(report: &ParticipantReport, wanted: &Keys) -> bool {
    matches!(report, ParticipantReport::Keys { what, .. } if what == wanted)
}

fn is_entry(report: &ParticipantReport, name: &str, happened: &Happened) -> bool {
    matches!(report, ParticipantReport::Entry { nick, what, old: false, .. }
        if nick == name && what == happened)
}

fn is_text(report: &ParticipantReport, name: &str, text: &str) -> bool {
    is_entry(report, name, &Happened::Text(text.into()))
}
