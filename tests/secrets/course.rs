//! The course's secure chat, in both roles.

use std::sync::Arc;
use std::time::Duration;

use semfio_chat::{
    Client, Hub, HubConfig, HubMessage, Participant, ParticipantConfig, ParticipantMessage,
    Redacted, Reports, Session,
};
use semfio_frame::Dialect;
use semfio_keysync::{Decoding, Key, Policy};
use semfio_machine::{NetLimits, Seed, Shard, Target, UnixTime};
use semfio_sim::{LinkConfig, Network, ShardId};
use semfio_trace::End;

use crate::lab::{self, File, HUB, PARTICIPANT, SERVER};
use crate::scan::{Scanner, streams};

fn key(number: u8) -> Arc<Key> {
    Arc::new(Key::generate(&mut Seed::new([number; 32]).stream(1)))
}

fn config() -> HubConfig {
    HubConfig { insecure_cleartext_key: true, reports: Reports::All, ..HubConfig::default() }
}

fn participant(dialect: Dialect, number: u8) -> Participant {
    let target = Target::Address((SERVER, 8000).into());
    let config = ParticipantConfig::new(target, dialect, &format!("nick{number}"), "lobby");
    Participant::new(config, &Seed::new([number; 32]))
}

struct Run {
    hub: File,
    members: Vec<(Participant, File)>,
    reports: String,
}

/// A conversation of two that speak tokens, one that speaks frames, and one that sends all that
/// may come beside. `redacted`: without the key in the traces.
fn run(seed: u64, redacted: bool) -> Run {
    let mut net = Network::new(seed);
    net.set_default_link(LinkConfig::rough(seed));
    let (hub, recorder) = lab::recorder(HUB);
    let real = key(1);
    let service = lab::hub(config(), seed).with_cleartext_key(real.clone());
    let mut shard = Shard::new(service, NetLimits::default());
    match redacted {
        true => shard.set_tap(Box::new(Redacted::of_hub(real.clone(), key(2), recorder))),
        false => shard.set_tap(Box::new(recorder)),
    }
    let server: ShardId<Session, Hub> = net.add(SERVER.into(), shard);
    assert!(net.listen(server, (SERVER, 8000).into()));
    let mut members = Vec::new();
    let mut ids: Vec<ShardId<Client, Participant>> = Vec::new();
    for (dialect, number) in [(Dialect::Token, 3), (Dialect::Token, 4), (Dialect::Framed, 5)] {
        let (file, recorder) = lab::recorder(PARTICIPANT);
        let mut shard = Shard::new(participant(dialect, number), NetLimits::default());
        match redacted {
            true => shard.set_tap(Box::new(Redacted::of_member(key(10 + number), recorder))),
            false => shard.set_tap(Box::new(recorder)),
        }
        ids.push(net.add([10, 1, 0, number].into(), shard));
        members.push((participant(dialect, number), file));
    }
    let peer = net.connect([10, 1, 0, 9].into(), (SERVER, 8000).into());
    net.run_for(Duration::from_secs(4)).unwrap();
    let token = |key: &Key, text: &[u8]| {
        let mut token = Vec::new();
        key.seal(UnixTime::from_secs(1_800_000_000), [text.len() as u8; 16], text, &mut token);
        token
    };
    net.write(peer, token(&real, b"OK"));
    for (round, id) in ids.iter().cycle().take(6).enumerate() {
        let text = format!("linha {round} {}", "a".repeat(round * 200));
        net.send_message(*id, ParticipantMessage::Line(text));
        net.run_for(Duration::from_secs(1)).unwrap();
    }
    // Under another key, and under that which stands for it in a trace that nobody can have seen.
    net.write(peer, [&token(&real, b"inteiro")[..], &token(&key(9), b"outra chave")].concat());
    let mut torn = token(&real, b"rasgado");
    torn.truncate(70);
    net.write(
        peer,
        [&torn[..], &token(&real, b"depois"), b"isto nao e nada", &unopened(&real)].concat(),
    );
    net.run_for(Duration::from_secs(20)).unwrap();
    let late = net.connect([10, 1, 0, 8].into(), (SERVER, 8000).into());
    net.run_for(Duration::from_secs(5)).unwrap();
    // Framed, and late.
    net.write(late, b"\xFFsemfio\x01");
    net.write(peer, &token(&real, b"o fim, que nao chega")[..50]);
    net.run_for(Duration::from_secs(5)).unwrap();
    net.finish(peer);
    for id in &ids {
        net.send_message(*id, ParticipantMessage::Eof);
    }
    net.run_for(Duration::from_secs(30)).unwrap();
    net.send_message(server, HubMessage::Stop);
    net.run_for(Duration::from_secs(30)).unwrap();
    let reports = format!("{:?}", net.reports(server));
    drop(net);
    Run { hub, members, reports }
}

/// A token whose MAC is right, and which cannot be opened: another cipher key made it.
fn unopened(key: &Key) -> Vec<u8> {
    for n in 0..=255 {
        let mut other = *key.as_bytes();
        other[16..].fill(n);
        let mut token = Vec::new();
        Key::new(other).seal(UnixTime::from_secs(1), [n; 16], b"falso", &mut token);
        let policy = Policy { ttl: None, skew: None, decoding: Decoding::Strict };
        if key.open(&policy, UnixTime::from_secs(1), &token, &mut Vec::new()).is_err() {
            return token;
        }
    }
    unreachable!("one in 256 opens")
}

/// How many octets passed, by event and connection.
fn passed(trace: &[u8]) -> Vec<((String, String), usize)> {
    streams(trace).into_iter().map(|(name, octets)| (name, octets.len())).collect()
}

fn scanner() -> Scanner {
    let mut scanner = Scanner::default();
    scanner.add("key", key(1).as_bytes(), 0);
    scanner
}

#[test]
fn a_trace_of_tokens_holds_no_key_and_replays() {
    let scanner = scanner();
    for seed in 0..8 {
        let run = run(seed, true);
        for told in ["inteiro", "depois", "linha 5"] {
            assert!(run.reports.contains(told), "{seed} {told}: {}", run.reports);
        }
        assert!(run.reports.contains("Unreadable"), "{seed}");
        let trace = run.hub.bytes();
        assert_eq!(scanner.find(&trace), [].into(), "{seed}");
        let hub = lab::hub(config(), seed).with_cleartext_key(key(2));
        assert_eq!(lab::replay_hub(&trace, hub), Ok(End::Whole), "{seed}");
        for (number, (member, file)) in run.members.into_iter().enumerate() {
            let trace = file.bytes();
            assert_eq!(scanner.find(&trace), [].into(), "{seed} {number}");
            let replayed = lab::replay_participant(&trace, member);
            assert_eq!(replayed, Ok(End::Whole), "{seed} {number}");
        }
    }
}

#[test]
fn a_trace_with_the_key_replays_and_the_key_is_found() {
    for seed in 0..3 {
        let other = run(seed, true).hub.bytes();
        let run = run(seed, false);
        let trace = run.hub.bytes();
        assert_eq!(scanner().find(&trace), ["key".to_owned()].into());
        let hub = |number| lab::hub(config(), seed).with_cleartext_key(key(number));
        assert_eq!(lab::replay_hub(&trace, hub(1)), Ok(End::Whole));
        assert!(lab::replay_hub(&trace, hub(2)).is_err());
        assert_eq!(passed(&trace), passed(&other), "{seed}");
        for (number, (member, file)) in run.members.into_iter().enumerate() {
            let trace = file.bytes();
            assert_eq!(scanner().find(&trace).is_empty(), number == 2);
            assert_eq!(lab::replay_participant(&trace, member), Ok(End::Whole));
        }
    }
}
