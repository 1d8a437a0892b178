//! `--record`: services whose runs can be written down, and the file they are written to.

mod file;
mod http;
mod netcat;
mod probe;

use std::convert::Infallible;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use semfio_chat::{
    Hub, HubConfig, HubMessage, Journaled, LogLimits, Participant, ParticipantConfig,
    ParticipantMessage, Redacted, Reports, SlowPolicy,
};
use semfio_frame::Dialect;
use semfio_keysync::{Key, Passphrase};
use semfio_machine::{
    Closed, ConnId, DatagramMachine, Deadline, Endpoint, Net, NetLimits, Now, Peer, Reply,
    RequestId, Seed, Service, Shard, StreamMachine, Target,
};
use semfio_runtime_os::{Clock, seed};
use semfio_trace::{CommandCodec, Event, Header, Reader, Recorded, Recorder};
use zeroize::Zeroizing;

use crate::chat::dialect_name;
use crate::failed::{Failed, NEGATIVE, NETWORK, USAGE};

pub(crate) use file::{
    COURSE_GET, FETCH, LISTING, POUR, REPOSITORY, UPLOAD, course_get_header, course_get_of,
    fetch_header, fetch_of, listing_header, listing_of, pour_header, pour_of, repository_header,
    repository_of, upload_header, upload_of,
};
pub(crate) use http::{
    HTTP_ECHO, HTTP_GET, SITE, http_echo_header, http_echo_of, http_get_header, http_get_of, site,
    site_of,
};
pub(crate) use netcat::{
    NETCAT, TALK, TALKED, TCP_CHECK, UDP_CHECK, netcat_header, netcat_of, talk_header, talk_of,
    tcp_check_header, tcp_check_of, udp_check_header, udp_check_of,
};
pub(crate) use probe::{
    CONNECT_SCAN, PING, PingRun, SYN_SCAN, ScanRun, TRACE, TraceRun, UDP_PING, UDP_PING_SERVER,
    UDP_SCAN, UdpPingRun, UdpPingServerRun, quit, stop,
};

/// The names of the services in a trace.
pub(crate) const HUB: &str = "chat.hub";
pub(crate) const PARTICIPANT: &str = "chat.participant";
pub(crate) const ECHO: &str = "echo";

/// Whether a participant has a passphrase,
const SEALED: &str = "sealed";
/// and if the trace holds secrets, which, in base64url,
const PASSPHRASE: &str = "passphrase";
/// and the seed of its vaults, likewise.
const VAULTS: &str = "vaults";
/// The key that a hub sends in clear, or what stands for it in the trace.
const CLEARTEXT_KEY: &str = "cleartext_key";

/// A message of a service, in a form a trace can hold.
#[derive(Debug)]
pub(crate) struct Spoken<T>(pub(crate) T);

impl Recorded for Spoken<HubMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match self.0 {
            HubMessage::Stop => to.extend_from_slice(b"stop"),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        (from == b"stop").then_some(Self(HubMessage::Stop))
    }
}

impl Recorded for Spoken<ParticipantMessage> {
    fn encode(&self, to: &mut Vec<u8>) {
        match &self.0 {
            ParticipantMessage::Line(line) => {
                to.extend_from_slice(b"line ");
                line.encode(to);
            }
            ParticipantMessage::Eof => to.extend_from_slice(b"eof"),
            ParticipantMessage::Interrupt => to.extend_from_slice(b"interrupt"),
        }
    }

    fn decode(from: &[u8]) -> Option<Self> {
        Some(Self(match from {
            b"eof" => ParticipantMessage::Eof,
            b"interrupt" => ParticipantMessage::Interrupt,
            _ => ParticipantMessage::Line(String::decode(from.strip_prefix(b"line ")?)?),
        }))
    }
}

impl Recorded for Spoken<()> {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(from: &[u8]) -> Option<Self> {
        from.is_empty().then_some(Self(()))
    }
}

/// A service that hears [`Spoken`] messages, and is the same in all else.
#[derive(Debug)]
pub(crate) struct Recordable<S>(pub(crate) S);

impl<M: StreamMachine, S: Service<M>> Service<M> for Recordable<S> {
    type Message = Spoken<S::Message>;
    type Report = S::Report;

    fn accept(&mut self, now: Now, peer: &Peer) -> Option<M> {
        self.0.accept(now, peer)
    }

    fn handle_opened(&mut self, now: Now, conn: ConnId, peer: &Peer, net: &mut Net<M>) {
        self.0.handle_opened(now, conn, peer, net);
    }

    fn handle_event(&mut self, now: Now, from: ConnId, event: M::Event<'_>, net: &mut Net<M>) {
        self.0.handle_event(now, from, event, net);
    }

    fn handle_room(&mut self, now: Now, conn: ConnId, net: &mut Net<M>) {
        self.0.handle_room(now, conn, net);
    }

    fn handle_closed(&mut self, now: Now, conn: ConnId, why: Closed<M::Error>, net: &mut Net<M>) {
        self.0.handle_closed(now, conn, why, net);
    }

    fn handle_reply(&mut self, now: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<M>) {
        self.0.handle_reply(now, id, reply, net);
    }

    fn handle_message(&mut self, now: Now, message: Self::Message, net: &mut Net<M>) {
        self.0.handle_message(now, message.0, net);
    }

    fn handle_turn(&mut self, now: Now, net: &mut Net<M>) {
        self.0.handle_turn(now, net);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, net: &mut Net<M>) {
        self.0.handle_timeout(now, net);
    }

    fn poll_report(&mut self) -> Option<Self::Report> {
        self.0.poll_report()
    }
}

/// What a trace has another key in place of, where one crosses the wire.
pub(crate) enum Redaction {
    /// Nothing, or nothing is left out.
    None,
    Hub {
        key: Arc<Key>,
        stand_in: Arc<Key>,
    },
    Member {
        stand_in: Arc<Key>,
    },
}

/// A shard, recorded to `to` if that is given.
pub(crate) fn shard<M, S>(
    service: S,
    header: Header,
    redaction: Redaction,
    to: Option<&Path>,
    clock: Clock,
) -> Result<(Shard<M, Recordable<S>>, Recording), Failed>
where
    M: StreamMachine,
    S: Service<M>,
    S::Message: 'static,
    Spoken<S::Message>: Recorded,
{
    let mut shard = Shard::new(Recordable(service), header.limits);
    let Some(path) = to else {
        return Ok((shard, Recording::default()));
    };
    let mut sink = sink(path)?;
    let recording = sink.recording.clone();
    let header = Header { start: clock.now(), ..header };
    let recorder = Recorder::new(&header, move |line: &[u8]| sink.write(line));
    shard.set_tap(match redaction {
        Redaction::None => Box::new(recorder),
        Redaction::Hub { key, stand_in } => Box::new(Redacted::of_hub(key, stand_in, recorder)),
        Redaction::Member { stand_in } => Box::new(Redacted::of_member(stand_in, recorder)),
    });
    Ok((shard, recording))
}

/// An endpoint of a machine that was made at `began`, recorded to `to` if that is given.
pub(crate) fn endpoint<M: DatagramMachine>(
    machine: M,
    header: Header,
    codec: CommandCodec<M>,
    to: Option<&Path>,
    began: Now,
) -> Result<(Endpoint<M>, Recording), Failed> {
    let mut endpoint = Endpoint::new(machine);
    let Some(path) = to else {
        return Ok((endpoint, Recording::default()));
    };
    let mut sink = sink(path)?;
    let recording = sink.recording.clone();
    let header = Header { start: began, ..header };
    let recorder = Recorder::new(&header, move |line: &[u8]| sink.write(line));
    endpoint.set_tap(Box::new(recorder), codec.encode);
    Ok((endpoint, recording))
}

fn sink(path: &Path) -> Result<Sink, Failed> {
    let file = private(path).map_err(|error| {
        Failed::because(USAGE, format!("cannot record to {}", path.display()), error)
    })?;
    Ok(Sink { file: BufWriter::new(file), recording: Recording::default() })
}

/// A file that others on this machine cannot read, also if it was there before.
fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// How a recording went; known once the shard is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording(Arc<Mutex<Option<io::Error>>>);

impl Recording {
    /// Fails if not all of it was written.
    pub(crate) fn finish(&self) -> Result<(), Failed> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(error) => Err(Failed::because(NEGATIVE, "the recording is not whole", error)),
        }
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

struct Sink {
    file: BufWriter<File>,
    recording: Recording,
}

impl Sink {
    fn write(&mut self, line: &[u8]) {
        // A run that panics leaves a trace that is seen to be cut.
        if !std::thread::panicking() {
            let result = self.file.write_all(line);
            self.recording.note(result);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let result = self.file.flush();
        self.recording.note(result);
    }
}

/// A hub, the header of its trace, and what is left out of it.
pub(crate) fn hub(
    config: HubConfig,
    with_secrets: bool,
) -> Result<(Hub, Header, Redaction), Failed> {
    let seed = draw()?;
    let header = hub_header(&config, &seed);
    let tokens = config.insecure_cleartext_key;
    let hub = Hub::new(config, &seed);
    if !tokens {
        return Ok((hub, header, Redaction::None));
    }
    let (key, stand_in) = (draw_key()?, draw_key()?);
    let hub = hub.with_cleartext_key(Arc::clone(&key));
    if with_secrets {
        return Ok((hub, with_key(header, &key, true), Redaction::None));
    }
    let header = with_key(header, &stand_in, false);
    Ok((hub, header, Redaction::Hub { key, stand_in }))
}

fn with_key(mut header: Header, key: &Key, secret: bool) -> Header {
    header.config.insert(CLEARTEXT_KEY.into(), key.to_text().to_string());
    if secret {
        header.secret.insert(CLEARTEXT_KEY.into());
    }
    header
}

/// A participant, the header of its trace, and what is left out of it. Unless it is `recorded`, what its
/// keys answer is not told.
pub(crate) fn participant(
    config: ParticipantConfig,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    recorded: bool,
    with_secrets: bool,
) -> Result<(Participant, Header, Redaction), Failed> {
    let seed = draw()?;
    // A framed one whose first octets come late is sent a key too.
    let redaction = match config.dialect {
        Dialect::Token | Dialect::Framed if !with_secrets => {
            Redaction::Member { stand_in: draw_key()? }
        }
        _ => Redaction::None,
    };
    let secrets = match passphrase {
        Some(passphrase) => Some(Secrets { passphrase, vaults: draw()? }),
        None => None,
    };
    let header = participant_header(&config, &seed, secrets.as_ref(), with_secrets);
    let participant = match secrets {
        None => Participant::new(config, &seed),
        Some(secrets) if recorded && !with_secrets => {
            secrets.participant(config, &seed).recording()
        }
        Some(secrets) => secrets.participant(config, &seed),
    };
    Ok((participant, header, redaction))
}

fn draw() -> Result<Seed, Failed> {
    seed::draw().map_err(|error| Failed::new(NETWORK, error))
}

fn draw_key() -> Result<Arc<Key>, Failed> {
    Ok(Arc::new(Key::generate(&mut draw()?.stream(0))))
}

fn hub_header(config: &HubConfig, seed: &Seed) -> Header {
    let slow = match config.slow {
        SlowPolicy::Gap => "gap",
        SlowPolicy::Disconnect => "disconnect",
    };
    let reports = match config.reports {
        Reports::None => "none",
        Reports::Members => "members",
        Reports::All => "all",
    };
    let fields = [
        ("room", config.room.clone()),
        ("log.entries", config.log.entries.to_string()),
        ("log.bytes", config.log.bytes.to_string()),
        ("backlog", config.backlog.to_string()),
        ("rooms", config.rooms.to_string()),
        ("rooms_each", config.rooms_each.to_string()),
        ("lag", config.lag.to_string()),
        ("slow", slow.into()),
        ("idle_ms", config.idle.as_millis().to_string()),
        ("sealed_only", config.sealed_only.to_string()),
        ("reports", reports.into()),
        ("insecure_cleartext_key", config.insecure_cleartext_key.to_string()),
    ];
    header(HUB, "server", fields, Some(seed))
}

/// What a participant's keys come from.
struct Secrets {
    passphrase: Zeroizing<Vec<u8>>,
    /// Of its vaults, and of nothing else.
    vaults: Seed,
}

impl Secrets {
    fn participant(&self, config: ParticipantConfig, seed: &Seed) -> Participant {
        Participant::sealed(config, seed, Passphrase::new(&self.passphrase), &self.vaults)
    }
}

fn participant_header(
    config: &ParticipantConfig,
    seed: &Seed,
    secrets: Option<&Secrets>,
    with_secrets: bool,
) -> Header {
    let (kind, port) = match &config.target {
        Target::Address(_) => ("address", None),
        Target::Name(_, port) => ("name", Some(port)),
    };
    let target = match &config.target {
        Target::Address(address) => address.to_string(),
        Target::Name(name, _) => name.clone(),
    };
    let fields = [
        ("target.kind", kind.into()),
        ("target", target),
        ("target.port", port.copied().unwrap_or_default().to_string()),
        ("dialect", dialect_name(config.dialect).into()),
        ("nick", config.nick.clone()),
        ("room", config.room.clone()),
        ("retries", config.retries.to_string()),
        (SEALED, secrets.is_some().to_string()),
    ];
    let mut header = header(PARTICIPANT, "client", fields, Some(seed));
    if let (Some(secrets), true) = (secrets, with_secrets) {
        let Secrets { passphrase, vaults } = secrets;
        for (key, octets) in [(PASSPHRASE, &passphrase[..]), (VAULTS, vaults.as_bytes())] {
            header.secret.insert(key.into());
            header.config.insert(key.into(), URL_SAFE_NO_PAD.encode(octets));
        }
    }
    header
}

/// The header of an echo server's trace.
pub(crate) fn echo_header() -> Header {
    header(ECHO, "server", [], None)
}

fn header<const N: usize>(
    service: &str,
    vantage_point: &str,
    fields: [(&str, String); N],
    seed: Option<&Seed>,
) -> Header {
    Header {
        vantage_point: vantage_point.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        config: fields.into_iter().map(|(key, value)| (key.into(), value)).collect(),
        limits: NetLimits::default(),
        seed: seed.cloned(),
        ..Header::new(service)
    }
}

/// The hub that a header tells of.
pub(crate) fn hub_of(header: &Header) -> anyhow::Result<Hub> {
    let config = HubConfig {
        room: field(header, "room")?.into(),
        log: LogLimits {
            entries: number(header, "log.entries")?,
            bytes: number(header, "log.bytes")?,
        },
        backlog: number(header, "backlog")?,
        rooms: number(header, "rooms")?,
        rooms_each: number(header, "rooms_each")?,
        lag: number(header, "lag")?,
        slow: match field(header, "slow")? {
            "gap" => SlowPolicy::Gap,
            "disconnect" => SlowPolicy::Disconnect,
            other => bail!("slow is {other}"),
        },
        idle: Duration::from_millis(number(header, "idle_ms")?),
        sealed_only: number(header, "sealed_only")?,
        reports: match field(header, "reports")? {
            "none" => Reports::None,
            "members" => Reports::Members,
            "all" => Reports::All,
            other => bail!("reports is {other}"),
        },
        insecure_cleartext_key: number(header, "insecure_cleartext_key")?,
    };
    if !config.insecure_cleartext_key {
        return Ok(Hub::new(config, seed_of(header)?));
    }
    let key = Key::parse(field(header, CLEARTEXT_KEY)?).context(CLEARTEXT_KEY)?;
    Ok(Hub::new(config, seed_of(header)?).with_cleartext_key(Arc::new(key)))
}

/// The participant that a header tells of; `journal` is what its vaults answered, if the header has no
/// secrets.
pub(crate) fn participant_of(
    header: &Header,
    journal: impl FnOnce() -> Vec<Journaled>,
) -> anyhow::Result<Participant> {
    let target = field(header, "target")?;
    let config = ParticipantConfig {
        target: match field(header, "target.kind")? {
            "address" => Target::Address(target.parse().context("target")?),
            _ => Target::Name(target.into(), number(header, "target.port")?),
        },
        dialect: match field(header, "dialect")? {
            "framed" => Dialect::Framed,
            "line" => Dialect::Line,
            "raw" => Dialect::Raw,
            "token" => Dialect::Token,
            other => bail!("dialect is {other}"),
        },
        nick: field(header, "nick")?.into(),
        room: field(header, "room")?.into(),
        retries: number(header, "retries")?,
    };
    let seed = seed_of(header)?;
    if !number::<bool>(header, SEALED)? {
        return Ok(Participant::new(config, seed));
    }
    if !header.config.contains_key(PASSPHRASE) {
        return Ok(Participant::replay(config, seed, journal()));
    }
    let passphrase = Zeroizing::new(octets(header, PASSPHRASE)?);
    let vaults =
        octets(header, VAULTS)?.try_into().ok().context("what its vaults come from is no seed")?;
    Ok(Secrets { passphrase, vaults: Seed::new(vaults) }.participant(config, seed))
}

/// What the reports of a trace tell of answers, as far as it can be read.
pub(crate) fn journal<L>(reader: Reader<L>) -> Vec<Journaled>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
{
    let journaled =
        |event: Event| event.report()?.strip_prefix("Journal(")?.strip_suffix(')')?.parse().ok();
    reader.map_while(Result::ok).filter_map(journaled).collect()
}

/// For machines that nobody commands.
pub(crate) fn never<M>() -> CommandCodec<M>
where
    M: for<'c> DatagramMachine<Command<'c> = Infallible>,
{
    CommandCodec { encode: |never, _| match *never {}, decode: |_| None }
}

/// A time that may be missing, in nanoseconds.
fn nanos(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| time.as_nanos().to_string())
}

fn duration(header: &Header, key: &str) -> anyhow::Result<Option<Duration>> {
    optional(header, key).map(|nanos| nanos.map(Duration::from_nanos))
}

/// What may be missing.
fn option<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn optional<T: std::str::FromStr>(header: &Header, key: &str) -> anyhow::Result<Option<T>> {
    if field(header, key)?.is_empty() {
        return Ok(None);
    }
    number(header, key).map(Some)
}

fn seed_of(header: &Header) -> anyhow::Result<&Seed> {
    header.seed.as_ref().context("it has no seed")
}

fn field<'h>(header: &'h Header, key: &str) -> anyhow::Result<&'h str> {
    Ok(header.config.get(key).with_context(|| format!("its configuration has no {key}"))?)
}

fn octets(header: &Header, key: &str) -> anyhow::Result<Vec<u8>> {
    let octets = URL_SAFE_NO_PAD.decode(field(header, key)?);
    octets.ok().with_context(|| format!("{key} in its configuration is no base64url"))
}

fn number<T: std::str::FromStr>(header: &Header, key: &str) -> anyhow::Result<T> {
    let text = field(header, key)?;
    text.parse().ok().with_context(|| format!("{key} in its configuration is {text:?}"))
}

#[cfg(test)]
mod tests {
    use semfio_machine::Chunk;

    use super::*;

    #[test]
    fn a_configuration_survives_its_header() {
        let seed = Seed::from_u64(7);
        let config = HubConfig {
            slow: SlowPolicy::Disconnect,
            reports: Reports::All,
            lag: 99,
            sealed_only: true,
            insecure_cleartext_key: true,
            ..HubConfig::default()
        };
        let header = with_key(hub_header(&config, &seed), &Key::new([7; 32]), false);
        let again = format!("{:?}", hub_of(&header).unwrap());
        assert_eq!(again, format!("{:?}", Hub::new(config, &seed)));
        for target in
            [Target::Address("[::1]:9".parse().unwrap()), Target::Name("localhost".into(), 8000)]
        {
            let config = ParticipantConfig::new(target, Dialect::Line, "ana", "sala");
            let header = participant_header(&config, &seed, None, false);
            let again = participant_of(&header, Vec::new).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Participant::new(config, &seed)));
        }
        let mut planted = hub_header(&HubConfig::default(), &seed);
        planted.config.insert("slow".into(), "sometimes".into());
        assert!(hub_of(&planted).is_err());
    }

    /// What a hub sends in clear to who is not framed.
    fn sent_key(hub: Hub) -> Vec<u8> {
        let mut shard = Shard::new(hub, NetLimits::default());
        let address = "127.0.0.1:9".parse().unwrap();
        let peer = Peer { address, local: address };
        let id = shard.handle_accepted(Now::default(), peer).unwrap();
        shard.handle_received(Now::default(), id, &mut [b'x']);
        let Some(Chunk::Bytes(key)) = shard.outbox(id).and_then(|out| out.chunks().next()) else {
            panic!("nothing is sent");
        };
        key.to_vec()
    }

    #[test]
    fn a_header_gives_no_key_unless_it_is_to() {
        let config = HubConfig { insecure_cleartext_key: true, ..HubConfig::default() };
        for with_secrets in [false, true] {
            let (hub, header, _) = hub(config.clone(), with_secrets).unwrap();
            let key = sent_key(hub);
            assert_eq!(key == sent_key(hub_of(&header).unwrap()), with_secrets);
            let from_seed = Hub::new(config.clone(), header.seed.as_ref().unwrap());
            assert_ne!(key, sent_key(from_seed));
        }
    }

    #[test]
    fn messages_come_back_from_a_trace() {
        for message in [
            ParticipantMessage::Line("olá".into()),
            ParticipantMessage::Line("eof".into()),
            ParticipantMessage::Eof,
            ParticipantMessage::Interrupt,
        ] {
            let mut bytes = Vec::new();
            Spoken(message.clone()).encode(&mut bytes);
            assert_eq!(Spoken::decode(&bytes).map(|spoken| spoken.0), Some(message));
        }
        assert!(Spoken::<HubMessage>::decode(b"go").is_none());
    }
}
