//! Participants with a passphrase.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use rand_core::RngCore as _;
use semfio_chat::wire::{PREFACE, Response, Tell, What};
use semfio_chat::{
    Client, HubConfig, HubMessage, Journaled, Participant, ParticipantConfig, ParticipantMessage,
    ParticipantReport, Session,
};
use semfio_frame::Dialect;
use semfio_keysync::{Answer, Context, Initiator, Passphrase};
use semfio_machine::{Chunk, ConnId, NetLimits, Now, Rng, Seed, Shard, Tap, TapEntry, Target};
use semfio_sim::{Network, ShardId};
use semfio_trace::{End, Reader};
use sha2::{Digest as _, Sha256};

use crate::lab::{self, File, HUB, PARTICIPANT, SERVER, ToFile};
use crate::scan::Scanner;

const PASSPHRASE: &[u8] = b"abacate-amarelo-na-serra";
const WRONG: &[u8] = b"abacate-verde-na-campina";
/// What one vault draws in all of the story, and more.
const DRAWS: usize = 150;
/// How often one member enters a room, and more.
const ROOMS: usize = 4;
/// The rooms.
const NAMES: [&str; 2] = ["lobby", "cozinha"];

/// What the server sent, beside its trace.
struct Wire {
    sent: Arc<Mutex<BTreeMap<ConnId, Vec<u8>>>>,
    recorder: ToFile<HubMessage>,
}

impl Tap<HubMessage> for Wire {
    fn record(&mut self, now: Now, entry: TapEntry<'_, HubMessage>) {
        if let TapEntry::Sent(conn, mut n, outbox) = entry {
            let mut sent = self.sent.lock().unwrap();
            let sent = sent.entry(conn).or_default();
            for chunk in outbox.chunks() {
                let Chunk::Bytes(bytes) = chunk else { continue };
                let head = &bytes[..n.min(bytes.len())];
                sent.extend_from_slice(head);
                n -= head.len();
            }
        }
        self.recorder.record(now, entry);
    }
}

struct Server {
    id: ShardId<Session, semfio_chat::Hub>,
    seed: u64,
    sent: Arc<Mutex<BTreeMap<ConnId, Vec<u8>>>>,
    trace: File,
}

struct Member {
    id: ShardId<Client, Participant>,
    config: ParticipantConfig,
    number: u64,
    trace: File,
}

impl Member {
    fn seed(&self) -> Seed {
        Seed::from_u64(self.number)
    }

    fn secrets(&self) -> Seed {
        secrets_of(self.number)
    }

    fn replay(&self, trace: &[u8]) -> Result<End, semfio_trace::ReplayError> {
        let again = Participant::replay(self.config.clone(), &self.seed(), journal(trace));
        lab::replay_participant(trace, again)
    }
}

/// Nothing in it may be in a trace for another reason.
fn secrets_of(number: u64) -> Seed {
    Seed::new(Sha256::digest(number.to_be_bytes()).into())
}

fn journal(trace: &[u8]) -> Vec<Journaled> {
    let events = Reader::new(trace).unwrap().map_while(Result::ok);
    events.filter_map(|event| journaled(event.report()?)).collect()
}

fn journaled(report: &str) -> Option<Journaled> {
    Some(report.strip_prefix("Journal(")?.strip_suffix(')')?.parse().unwrap())
}

/// A run, over.
struct Story {
    servers: Vec<Server>,
    members: Vec<Member>,
}

struct Stage {
    net: Network,
    servers: Vec<Server>,
    members: Vec<Member>,
    recording: bool,
}

impl Stage {
    fn serve(&mut self) {
        let seed = 500 + self.servers.len() as u64;
        let (trace, recorder) = lab::recorder(HUB);
        let sent = Arc::default();
        let mut shard = Shard::new(lab::hub(HubConfig::default(), seed), NetLimits::default());
        shard.set_tap(Box::new(Wire { sent: Arc::clone(&sent), recorder }));
        let id = self.net.add(SERVER.into(), shard);
        assert!(self.net.listen(id, (SERVER, 8000).into()));
        self.servers.push(Server { id, seed, sent, trace });
    }

    fn enter(&mut self, nick: &str, passphrase: &[u8]) -> usize {
        let number = self.members.len() as u64 + 1;
        let target = Target::Address((SERVER, 8000).into());
        let config = ParticipantConfig::new(target, Dialect::Framed, nick, "lobby");
        let (seed, secrets) = (Seed::from_u64(number), secrets_of(number));
        let passphrase = Passphrase::new(passphrase);
        let it = Participant::sealed(config.clone(), &seed, passphrase, &secrets);
        let it = if self.recording { it.recording() } else { it };
        let (trace, recorder) = lab::recorder(PARTICIPANT);
        let mut shard = Shard::new(it, NetLimits::default());
        shard.set_tap(Box::new(recorder));
        let id = self.net.add([10, 1, 0, number as u8].into(), shard);
        self.members.push(Member { id, config, number, trace });
        self.run(2_000);
        self.members.len() - 1
    }

    fn say(&mut self, member: usize, line: &str) {
        let message = ParticipantMessage::Line(line.to_owned());
        self.net.send_message(self.members[member].id, message);
        self.run(500);
    }

    fn leave(&mut self, member: usize) {
        self.net.send_message(self.members[member].id, ParticipantMessage::Interrupt);
        self.run(3_000);
    }

    fn run(&mut self, millis: u64) {
        self.net.run_for(Duration::from_millis(millis)).unwrap();
    }
}

/// All that happens to keys: who enters, knows another passphrase, leaves, leaves as the holder, comes
/// back; two rooms; a server that dies.
fn story(recording: bool) -> Story {
    let (servers, members) = (Vec::new(), Vec::new());
    let mut stage = Stage { net: Network::new(1), servers, members, recording };
    stage.serve();
    let ana = stage.enter("ana", PASSPHRASE);
    let bia = stage.enter("bia", PASSPHRASE);
    let caio = stage.enter("caio", PASSPHRASE);
    stage.say(ana, "o segredo da serra");
    stage.say(bia, "/msg caio entre nós");
    stage.enter("eva", WRONG);
    stage.say(caio, "/me acena");
    stage.leave(caio);
    stage.say(bia, "/join cozinha");
    stage.run(2_000);
    stage.say(bia, "sozinha aqui");
    stage.say(bia, "/part cozinha");
    stage.say(bia, "de volta");
    stage.leave(ana);
    let dora = stage.enter("dora", PASSPHRASE);
    stage.say(dora, "quem está aqui?");
    let dead = stage.servers[0].id;
    stage.net.kill(dead);
    stage.serve();
    stage.run(20_000);
    stage.say(dora, "ainda aqui");
    stage.say(bia, "eu também");
    stage.leave(dora);
    stage.leave(bia);
    let server = stage.servers[1].id;
    stage.net.send_message(server, HubMessage::Stop);
    stage.run(1_000);
    let heard = |member: usize, text: &str| {
        let reports = stage.net.reports(stage.members[member].id);
        let wanted = |report: &ParticipantReport| format!("{report:?}").contains(text);
        assert!(reports.iter().any(|(_, report)| wanted(report)), "{member} {text}: {reports:?}");
    };
    for (member, text) in
        [(bia, "o segredo da serra"), (caio, "Private(\"entre nós\")"), (ana, "acena")]
    {
        heard(member, text);
    }
    heard(dora, "Text(\"eu também\")");
    heard(3, "Locked");
    Story { servers: stage.servers, members: stage.members }
}

/// What a vault of this seed has drawn: the next seed, and then an identity, a key, what a scalar comes
/// from, or an IV.
fn drawn(seed: &Seed) -> Vec<[[u8; 32]; 2]> {
    let mut seed = seed.clone();
    std::iter::repeat_with(move || {
        let mut rng = seed.stream(0);
        let mut octets = [[0; 32]; 2];
        octets.iter_mut().for_each(|part| rng.fill_bytes(part));
        seed = Seed::new(octets[0]);
        octets
    })
    .take(DRAWS)
    .collect()
}

/// The seeds of the vaults of a member, what they were drawn from, and the identity it has in each room.
struct Sources {
    vaults: Vec<Seed>,
    seeds: Vec<Seed>,
    identities: Vec<[u8; 32]>,
}

fn sources(member: &Member) -> Sources {
    let draw = |rng: &mut Rng| {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Seed::new(seed)
    };
    let mut rng = member.secrets().stream(0);
    let (first, root) = (draw(&mut rng), draw(&mut rng));
    let (mut vaults, mut seeds) = (Vec::new(), vec![member.secrets(), root.clone(), first]);
    for _ in 0..ROOMS {
        let mut rng = seeds.last().unwrap().stream(0);
        seeds.push(draw(&mut rng));
        vaults.push(draw(&mut rng));
    }
    let identity = |room: &str| {
        let mut identity = [0; 32];
        let info = [b"semfio identity", room.as_bytes()];
        Hkdf::<Sha256>::new(None, root.as_bytes()).expand_multi_info(&info, &mut identity).unwrap();
        identity
    };
    Sources { vaults, seeds, identities: NAMES.map(identity).to_vec() }
}

fn check(key: &[u8], room: &str, epoch: u64) -> [u8; 16] {
    let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key).unwrap();
    let mac =
        mac.chain_update(b"semfio epoch check").chain_update((room.len() as u64).to_be_bytes());
    let mac = mac.chain_update(room).chain_update(epoch.to_be_bytes()).finalize().into_bytes();
    *mac.first_chunk().unwrap()
}

fn ratchet(key: &[u8], room: &str, epoch: u64) -> [u8; 32] {
    let mut next = [0; 32];
    let info = [&b"semfio ratchet"[..], room.as_bytes(), &epoch.to_be_bytes()];
    Hkdf::<Sha256>::new(None, key).expand_multi_info(&info, &mut next).unwrap();
    next
}

/// Calls `each` with all that was sent to each member.
fn responses(server: &Server, mut each: impl FnMut(ConnId, Response<'_>)) {
    for (conn, sent) in server.sent.lock().unwrap().iter() {
        let mut rest = sent.strip_prefix(&PREFACE[..]).unwrap();
        while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<4>() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some((body, after)) = after.split_at_checked(len) else { break };
            rest = after;
            each(*conn, Response::parse(kind, body).unwrap().unwrap());
        }
    }
}

/// All secrets of a story, and how many keys of epochs are among them.
fn secrets(story: &Story) -> (Scanner, usize) {
    let mut scanner = Scanner::default();
    for passphrase in [PASSPHRASE, WRONG] {
        let mut stretched = [0; 32];
        let salt = b"semfio passphrase 1";
        Hkdf::<Sha256>::new(Some(salt), passphrase).expand(b"agreement", &mut stretched).unwrap();
        scanner.add("passphrase", passphrase, 0);
        scanner.add("stretched passphrase", &stretched, 0);
    }
    let mut draws = Vec::new();
    for member in &story.members {
        let Sources { vaults, seeds, identities } = sources(member);
        seeds.iter().for_each(|seed| scanner.add("seed of vaults", seed.as_bytes(), 0));
        identities.iter().for_each(|identity| scanner.add("identity", identity, 0));
        for vault in vaults {
            scanner.add("seed of a vault", vault.as_bytes(), 0);
            let all = drawn(&vault);
            for [seed, octets] in &all {
                scanner.add("seed", seed, 0);
                // It may have been an IV, which everybody may see.
                scanner.add("what was drawn", octets, 1);
            }
            draws.push((vault, all));
        }
    }
    let mut epochs: BTreeMap<(String, u64, [u8; 16]), [u8; 32]> = BTreeMap::new();
    let mut unproved = 0;
    for server in &story.servers {
        let (mut told, mut doors, mut replies) = (Vec::new(), BTreeMap::new(), Vec::new());
        responses(server, |conn, response| match response {
            Response::Entry(entry) => {
                if let What::Epoch { epoch, check, .. } = entry.what {
                    told.push((entry.room.to_owned(), epoch, check));
                }
            }
            Response::Key { room, tell: Tell::Door { you, .. } } => {
                doors.insert((conn, room.to_owned()), you);
            }
            Response::Key { room, tell: Tell::Relay { peer, body } } if body[0] == 2 => {
                let you = doors[&(conn, room.to_owned())];
                replies.push((room.to_owned(), you, peer, body[9..].to_vec()));
            }
            _ => {}
        });
        told.sort();
        told.dedup();
        for (room, epoch, wanted) in told {
            let fits = |key: &[u8; 32]| check(key, &room, epoch) == wanted;
            let fresh = draws.iter().flat_map(|(_, all)| all.iter().map(|[_, key]| *key));
            let derived = epochs.values().map(|key| ratchet(key, &room, epoch));
            let key = fresh.chain(derived).find(fits).expect("a key for each check");
            scanner.add("key of an epoch", &key, 0);
            epochs.insert((room, epoch, wanted), key);
        }
        for (room, you, holder, reply) in replies {
            let mut found = None;
            for (member, (vault, _)) in draws.iter().enumerate() {
                let nick = &story.members[member / ROOMS].config.nick;
                let passphrase = Passphrase::new(if nick == "eva" { WRONG } else { PASSPHRASE });
                let context = Context { room: &room, initiator: (you, nick), responder: holder };
                found = found.or_else(|| agreed(vault, &passphrase, &context, &reply));
            }
            let Some(keys) = found else {
                unproved += 1;
                continue;
            };
            keys.iter().for_each(|key| scanner.add("key of a pair", key, 0));
        }
    }
    assert_eq!(unproved, 1, "with whom has another passphrase");
    (scanner, epochs.len())
}

/// The keys of a pair, if this vault began the agreement that was answered so.
fn agreed(
    vault: &Seed,
    passphrase: &Passphrase,
    context: &Context<'_>,
    reply: &[u8],
) -> Option<[[u8; 32]; 2]> {
    let mut seed = vault.clone();
    for _ in 0..DRAWS / 3 {
        let mut rng: Rng = seed.stream(0);
        let mut next = [0; 32];
        rng.fill_bytes(&mut next);
        seed = Seed::new(next);
        let (initiator, _) = Initiator::start(passphrase, context, rng);
        if let Ok((pair, _)) = initiator.finish(reply) {
            return Some([*pair.to_responder.as_bytes(), *pair.to_initiator.as_bytes()]);
        }
    }
    None
}

#[test]
fn a_trace_of_sealed_rooms_holds_no_secret_and_replays() {
    let story = story(true);
    let (scanner, epochs) = secrets(&story);
    assert!(epochs >= 10, "{epochs}");
    for member in &story.members {
        let (trace, nick) = (member.trace.bytes(), &member.config.nick);
        assert_eq!(member.replay(&trace), Ok(End::Whole), "{nick}");
        assert_eq!(scanner.find(&trace), [].into(), "{nick}");
        assert!(journal(&trace).len() > 1, "{nick}");
    }
    for server in &story.servers {
        let trace = server.trace.bytes();
        assert_eq!(scanner.find(&trace), [].into());
        let again = lab::hub(HubConfig::default(), server.seed);
        assert!(lab::replay_hub(&trace, again).is_ok());
    }
    // What a vault could answer by mistake.
    let trace = story.members[0].trace.bytes();
    for (name, secret) in [
        ("passphrase", PASSPHRASE.to_vec()),
        ("identity", sources(&story.members[0]).identities[0].to_vec()),
    ] {
        let planted = Journaled { room: 0, answer: Answer(Some([b"abc", &*secret].concat())) };
        let planted = [&trace[..], format!("Journal({planted})\n").as_bytes()].concat();
        assert!(scanner.find(&planted).contains(name), "{name}");
    }
}

#[test]
fn a_replay_with_the_secrets_needs_no_answers() {
    let story = story(false);
    for member in &story.members {
        let trace = member.trace.bytes();
        assert!(journal(&trace).is_empty());
        let passphrase =
            Passphrase::new(if member.config.nick == "eva" { WRONG } else { PASSPHRASE });
        let again = |passphrase| {
            Participant::sealed(
                member.config.clone(),
                &member.seed(),
                passphrase,
                &member.secrets(),
            )
        };
        assert_eq!(lab::replay_participant(&trace, again(passphrase)), Ok(End::Whole));
        let other = Passphrase::new(b"another passphrase");
        assert!(lab::replay_participant(&trace, again(other)).is_err());
    }
}

#[test]
fn an_answer_that_was_changed_is_noticed() {
    let story = story(true);
    let member = &story.members[1];
    let trace = member.trace.bytes();
    let text = String::from_utf8(trace.clone()).unwrap();
    let answers = text.lines().enumerate().filter(|(_, line)| line.contains("\"Journal("));
    let (mut changed, mut unseen) = (0, Vec::new());
    for (number, line) in answers {
        let report = &line[line.find("Journal(").unwrap()..line.rfind('"').unwrap()];
        let Journaled { room, answer: Answer(old) } = journaled(report).unwrap();
        let mut others = vec![match &old {
            None => Some(Vec::new()),
            Some(_) => None,
        }];
        if let Some((_, head)) = old.as_deref().unwrap_or_default().split_last() {
            let (mut first, mut last) = (old.clone().unwrap(), old.clone().unwrap());
            first[0] ^= 1;
            last[head.len()] ^= 1;
            others.extend([Some(first), Some(last), Some(head.to_vec())]);
        }
        for other in others {
            changed += 1;
            let other = format!("Journal({})", Journaled { room, answer: Answer(other) });
            let plain = text.replacen(report, &other, 1);
            assert!(member.replay(plain.as_bytes()).is_err(), "the checksum, at least");
            let planted = lab::rewritten(&trace, |at, line| match at == number {
                true => line.replace(report, &other),
                false => line.to_owned(),
            });
            if member.replay(&planted).is_ok() {
                unseen.push((report.to_owned(), other));
            }
        }
    }
    // Hashes of identities, and numbers of epochs and entries, that came to nothing in this run.
    assert!(changed > 100 && unseen.len() < changed / 4, "{changed}: {unseen:#?}");
    let plain = |(old, _): &&(String, String)| journaled(old).unwrap().answer.0.unwrap().len() > 40;
    assert_eq!(unseen.iter().find(plain), None);
}
