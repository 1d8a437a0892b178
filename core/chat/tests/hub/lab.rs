//! A hub in the simulator, with peers that speak byte by byte.

use bytes::BytesMut;
use core::time::Duration;
use semfio_chat::wire::{
    Ask, MAX_FRAME, Manner, PREFACE, Request, Response, Sealed, SessionKey, Tell, What,
};
use semfio_chat::{
    Client, Hub, HubConfig, Participant, ParticipantConfig, ParticipantMessage, ParticipantReport,
    Session,
};
use semfio_frame::Dialect;
use semfio_machine::{NetLimits, Seed, Shard, Target};
use semfio_sim::{LinkConfig, Network, PeerId, ShardId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];

pub(crate) type HubId = ShardId<Session, Hub>;
pub(crate) type MemberId = ShardId<Client, Participant>;

pub(crate) struct Lab {
    pub(crate) net: Network,
    pub(crate) hub: HubId,
    peers: u16,
    /// How many frames of each peer were looked at.
    told: BTreeMap<PeerId, usize>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(HubConfig::default())
    }

    pub(crate) fn with(config: HubConfig) -> Self {
        Self::seeded(1, config)
    }

    pub(crate) fn seeded(seed: u64, config: HubConfig) -> Self {
        let mut net = Network::new(seed);
        let hub = Self::serve(&mut net, config, seed);
        Self { net, hub, peers: 0, told: BTreeMap::new() }
    }

    fn serve(net: &mut Network, config: HubConfig, seed: u64) -> HubId {
        let hub = Hub::new(config, &Seed::from_u64(seed));
        let hub = net.add(SERVER.into(), Shard::new(hub, NetLimits::default()));
        assert!(net.listen(hub, address()));
        hub
    }

    /// Kills the server and starts another one.
    pub(crate) fn restart(&mut self, config: HubConfig) {
        self.net.kill(self.hub);
        self.hub = Self::serve(&mut self.net, config, 99);
    }

    pub(crate) fn run(&mut self, millis: u64) {
        self.net.run_for(Duration::from_millis(millis)).unwrap();
    }

    /// An address of its own for each peer.
    fn next_address(&mut self) -> IpAddr {
        self.peers += 1;
        let [high, low] = self.peers.to_be_bytes();
        [10, 1, high, low].into()
    }

    pub(crate) fn connect(&mut self) -> PeerId {
        let from = self.next_address();
        self.net.connect(from, address())
    }

    pub(crate) fn connect_from(&mut self, from: IpAddr) -> PeerId {
        self.net.connect(from, address())
    }

    /// A peer whose link is as given, both ways.
    pub(crate) fn connect_over(&mut self, link: LinkConfig) -> PeerId {
        let from = self.next_address();
        self.net.set_link(from, SERVER.into(), link.clone());
        self.net.set_link(SERVER.into(), from, link);
        self.net.connect(from, address())
    }

    /// A peer that has sent the preface and HELLO.
    pub(crate) fn framed(&mut self, nick: &str) -> PeerId {
        let peer = self.connect();
        self.hello(peer, nick, [0; 16]);
        peer
    }

    pub(crate) fn hello(&mut self, peer: PeerId, nick: &str, session: SessionKey) {
        self.net.write(peer, PREFACE);
        self.ask(peer, Request::Hello { max_frame: MAX_FRAME as u32, session, nick });
    }

    /// A framed member of the lobby, whose frames so far are forgotten.
    pub(crate) fn member(&mut self, nick: &str) -> PeerId {
        let peer = self.framed(nick);
        self.join(peer, "lobby");
        self.run(10);
        assert!(self.net.peer(peer).eof().is_none(), "{nick} was turned away");
        peer
    }

    /// A member that sends lines, with its greeting forgotten.
    pub(crate) fn line_member(&mut self) -> PeerId {
        let peer = self.connect();
        self.net.write(peer, "\n");
        self.run(10);
        self.net.take_received(peer);
        peer
    }

    /// A member that speaks raw because it says nothing at first.
    pub(crate) fn raw_member(&mut self) -> PeerId {
        let peer = self.connect();
        self.run(210);
        peer
    }

    pub(crate) fn ask(&mut self, peer: PeerId, request: Request<'_>) {
        let mut frame = BytesMut::new();
        request.put(&mut frame);
        self.net.write(peer, frame);
    }

    pub(crate) fn join(&mut self, peer: PeerId, room: &str) {
        self.ask(peer, Request::Join { since: 0, room });
    }

    pub(crate) fn key(&mut self, peer: PeerId, room: &str, ask: Ask<'_>) {
        self.ask(peer, Request::Key { room, ask });
    }

    /// A framed member that asks to enter a sealed room.
    pub(crate) fn knock(&mut self, nick: &str, room: &str) -> PeerId {
        let peer = self.framed(nick);
        self.key(peer, room, Ask::Enter { since: 0 });
        self.run(10);
        peer
    }

    /// A member of a sealed room, let in by its holder.
    pub(crate) fn sealed(&mut self, holder: PeerId, nick: &str, room: &str) -> PeerId {
        let peer = self.knock(nick, room);
        let number = self.door(peer, room).unwrap().0;
        self.key(holder, room, Ask::Admit { peer: number });
        self.run(10);
        peer
    }

    /// Its number and that of the holder, as it was told last.
    pub(crate) fn door(&self, peer: PeerId, of: &str) -> Option<(u64, u64)> {
        let door = |response: &Response<'_>| match response {
            Response::Key { room, tell: Tell::Door { you, holder } } if *room == of => {
                Some((*you, *holder))
            }
            _ => None,
        };
        self.responses(peer).iter().rev().find_map(door)
    }

    pub(crate) fn responses(&self, peer: PeerId) -> Vec<Response<'_>> {
        let received = self.net.peer(peer).received();
        received.strip_prefix(&PREFACE[..]).map(|rest| split(rest).0).unwrap_or_default()
    }

    pub(crate) fn seal(&mut self, peer: PeerId, tag: u32, room: &str, to: &str, token: &str) {
        let (epoch, counter) = (1, u64::from(tag));
        self.ask(peer, Request::Sealed { tag, room, to, epoch, counter, token });
    }

    /// A fresh key is announced.
    pub(crate) fn rotate(&mut self, holder: PeerId, room: &str, epoch: u64) {
        self.key(holder, room, Ask::Epoch { epoch, fresh: true, check: [1; 16] });
        self.run(10);
    }

    /// What a peer was told since this was called last.
    pub(crate) fn news(&mut self, peer: PeerId) -> Vec<String> {
        let mut frames = self.frames(peer);
        let told = self.told.insert(peer, frames.len()).unwrap_or(0);
        frames.split_off(told)
    }

    pub(crate) fn say(&mut self, peer: PeerId, tag: u32, text: &str) {
        self.ask(peer, Request::Msg { tag, manner: Manner::Text, to: "lobby", text });
    }

    /// All frames a peer has got, as lines, and checked for order.
    pub(crate) fn frames(&self, peer: PeerId) -> Vec<String> {
        frames(self.net.peer(peer).received())
    }

    /// The frames of a peer that begin with `kind`.
    pub(crate) fn only(&self, peer: PeerId, kind: &str) -> Vec<String> {
        self.frames(peer).into_iter().filter(|frame| frame.starts_with(kind)).collect()
    }

    /// What a peer was told was said in the lobby, in order.
    pub(crate) fn said(&self, peer: PeerId) -> Vec<String> {
        said(&self.frames(peer))
    }

    pub(crate) fn text(&self, peer: PeerId) -> String {
        String::from_utf8(self.net.peer(peer).received().to_vec()).unwrap()
    }

    pub(crate) fn session_key(&self, peer: PeerId) -> SessionKey {
        let bytes = &self.net.peer(peer).received()[PREFACE.len()..];
        match split(bytes).0.first() {
            Some(Response::Welcome { session, .. }) => *session,
            other => panic!("no WELCOME but {other:?}"),
        }
    }

    pub(crate) fn held(&self) -> usize {
        let shard = self.net.shard(self.hub);
        shard.connections().map(|id| shard.buffered(id)).sum()
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.net.shard(self.hub).service()
    }

    pub(crate) fn participant(&mut self, nick: &str, dialect: Dialect) -> MemberId {
        let from = self.next_address();
        self.participant_at(from, nick, dialect)
    }

    pub(crate) fn participant_at(
        &mut self,
        from: IpAddr,
        nick: &str,
        dialect: Dialect,
    ) -> MemberId {
        let config = ParticipantConfig::new(Target::Address(address()), dialect, nick, "lobby");
        let seed = Seed::from_u64(u64::from(self.peers));
        let shard = Shard::new(Participant::new(config, &seed), NetLimits::default());
        self.net.add(from, shard)
    }

    pub(crate) fn type_line(&mut self, member: MemberId, line: &str) {
        self.net.send_message(member, ParticipantMessage::Line(line.into()));
    }

    pub(crate) fn reports(&self, member: MemberId) -> Vec<ParticipantReport> {
        self.net.reports(member).iter().map(|(_, report)| report.clone()).collect()
    }
}

pub(crate) fn address() -> SocketAddr {
    (SERVER, 8000).into()
}

/// Frames after a preface as lines. Panics if they break an order that is promised.
pub(crate) fn frames(received: &[u8]) -> Vec<String> {
    if received.is_empty() {
        return Vec::new();
    }
    let rest = received.strip_prefix(&PREFACE[..]).expect("a preface");
    let (responses, _) = split(rest);
    check_order(&responses);
    responses.iter().map(show).collect()
}

/// Whole frames, and what is left.
pub(crate) fn split(bytes: &[u8]) -> (Vec<Response<'_>>, &[u8]) {
    let (mut rest, mut responses) = (bytes, Vec::new());
    while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((body, after)) = after.split_at_checked(len) else { break };
        rest = after;
        responses.push(Response::parse(kind, body).unwrap().unwrap());
    }
    (responses, rest)
}

/// Numbers rise by one in each room, but where GAP says so; what HISTORY announces follows at once.
pub(crate) fn check_order(responses: &[Response<'_>]) {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut own = String::new();
    let mut history = 0..0;
    for response in responses {
        match response {
            Response::Welcome { nick, .. } => own = (*nick).into(),
            Response::History { from, to, .. } => history = *from..*to + 1,
            Response::Gap { from, to, room, .. } => {
                let last = newest.insert((*room).into(), *to);
                assert!(from <= to, "GAP from {from} to {to}");
                assert!(last.is_none_or(|last| last + 1 == *from), "GAP {from} after {last:?}");
            }
            Response::Entry(entry) if history.start < history.end => {
                assert_eq!(entry.seq, history.start, "history goes on");
                history.start += 1;
            }
            Response::Entry(entry) if entry.seq > 0 => {
                let last = newest.insert(entry.room.into(), entry.seq);
                let next = entry.seq;
                assert!(last.is_none_or(|last| last + 1 == next), "{next} follows {last:?}");
                if entry.nick == own {
                    match entry.what {
                        What::Nick(new) => own = new.into(),
                        What::Part => drop(newest.remove(entry.room)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    assert!(history.start >= history.end, "history breaks off before {history:?}");
}

pub(crate) fn show(response: &Response<'_>) -> String {
    match response {
        Response::Welcome { nick, .. } => format!("WELCOME {nick}"),
        Response::Entry(entry) => {
            let (seq, room, nick) = (entry.seq, entry.room, entry.nick);
            match entry.what {
                What::Said(Manner::Text, text) => format!("MSG {seq} {room} {nick}: {text}"),
                What::Said(Manner::Action, text) => format!("ME {seq} {room} {nick} {text}"),
                What::Said(Manner::Private, text) => {
                    format!("PRIVATE {seq} {nick}->{room}: {text}")
                }
                What::Join => format!("JOIN {seq} {room} {nick}"),
                What::Part => format!("PART {seq} {room} {nick}"),
                What::Nick(new) => format!("NICK {seq} {room} {nick} {new}"),
                What::Sealed(Sealed { to, epoch, counter, token, .. }) => {
                    format!("SEALED {seq} {room} {nick}->{to} {epoch}/{counter}: {token}")
                }
                What::Epoch { epoch, fresh, .. } => {
                    let how = if fresh { "fresh" } else { "ratchet" };
                    format!("EPOCH {seq} {room} {nick} {epoch} {how}")
                }
                What::Holder(_) => format!("HOLDER {seq} {room} {nick}"),
            }
        }
        Response::Ack { tag, seq } => format!("ACK {tag} {seq}"),
        Response::History { from, to, room } => format!("HISTORY {from}-{to} {room}"),
        Response::Gap { from, to, oldest, room } => format!("GAP {from}-{to} {oldest} {room}"),
        Response::Names { newest, total, room, names } => {
            let names: Vec<_> = names.clone().collect();
            format!("NAMES {newest} {total} {room} {}", names.join(","))
        }
        Response::Error { code, fatal, tag, .. } => {
            format!("ERROR {code:?} {} {tag}", if *fatal { "fatal" } else { "goes on" })
        }
        Response::Key { room, tell } => match tell {
            Tell::Door { you, holder } if you == holder => format!("OPENED {room}"),
            Tell::Door { .. } => format!("DOOR {room}"),
            Tell::Relay { body, .. } => format!("RELAY {room} {}", body.escape_ascii()),
            Tell::Knock { nick, .. } => format!("KNOCK {room} {nick}"),
            Tell::Refused { why } => format!("REFUSED {room} {why:?}"),
            Tell::Gone { .. } => format!("GONE {room}"),
        },
        Response::Ping(_) => "PING".into(),
        Response::Pong(number) => format!("PONG {number}"),
        Response::Bye => "BYE".into(),
    }
}

/// The texts in MSG frames.
pub(crate) fn said(frames: &[String]) -> Vec<String> {
    let text = |frame: &String| Some(frame.strip_prefix("MSG ")?.split_once(": ")?.1.to_owned());
    frames.iter().filter_map(text).collect()
}

/// `n` texts that all differ.
pub(crate) fn texts(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("text {n}")).collect()
}
