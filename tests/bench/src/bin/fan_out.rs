//! Fan-out over loopback: one sender, many receivers that check every border and author.
//!
//! Compares our server on each runtime with redis pub/sub and `ncat --chat`, in one run, by
//! deliveries per CPU-second of the server. The load is limited by a window: the sender waits
//! until the slowest receiver is at most so many messages behind.
//!
//! In the sealed room the same texts travel as tokens. The generator holds the room and lets its
//! receivers in without agreeing on keys, which the server cannot tell: what is measured is the
//! server, and it has no key.
//!
//! `cargo build --profile dist && cargo run --profile dist -p semfio-bench --bin fan_out`

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use clap::Parser;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use semfio_bench::{Server, clock, median, own_cpu};
use semfio_chat::wire::{Ask, Entry, MAX_FRAME, Manner, PREFACE, Request, Response, Tell, What};
use semfio_keysync::{Key, token_len};
use semfio_machine::UnixTime;

#[derive(Parser)]
struct Args {
    /// Our binary.
    #[arg(long, default_value = "target/dist/semfio")]
    semfio: String,
    /// Receivers.
    #[arg(long, default_value_t = 50)]
    receivers: usize,
    /// Messages the slowest receiver may be behind; 1 is one in flight.
    #[arg(long, default_value_t = 1000)]
    window: u64,
    /// Seconds a run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runs of each server, by turns; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only servers whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Bytes of a text.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(16..=4096))]
    text: u64,
    /// Leave one receiver unread: how much do the others lose?
    #[arg(long)]
    stopped: bool,
}

/// How a server is spoken with.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Semfio,
    Sealed,
    Redis,
    Ncat,
}

const SENDER: &str = "sender";
/// What is sealed with a text: room, epoch, sender, counter, manner, names.
const BOUND: usize = 40;
/// Tokens that are sealed beforehand, and sent in turn.
const TOKENS: usize = 4096;

fn main() -> Result<()> {
    let args = Args::parse();
    let servers: [(&str, Kind, &[&str]); 8] = [
        ("semfio mio", Kind::Semfio, &["--runtime", "mio"]),
        ("semfio smol", Kind::Semfio, &["--runtime", "smol"]),
        ("semfio blocking", Kind::Semfio, &["--runtime", "blocking"]),
        ("sealed, mio", Kind::Sealed, &["--runtime", "mio"]),
        ("sealed, smol", Kind::Sealed, &["--runtime", "smol"]),
        ("sealed, blocking", Kind::Sealed, &["--runtime", "blocking"]),
        ("redis pub/sub", Kind::Redis, &[]),
        ("ncat --chat", Kind::Ncat, &[]),
    ];
    println!(
        "1 sender, {} receivers, {}-byte texts, window {}, medians of {} runs of {} s",
        args.receivers, args.text, args.window, args.runs, args.seconds
    );
    println!(
        "{:<16} {:>18} {:>16} {:>16} {:>12}",
        "server", "deliveries/CPU-s", "deliveries/s", "generator CPU", "server CPU"
    );
    let chosen: Vec<_> = servers.iter().filter(|(name, ..)| name.contains(&args.only)).collect();
    let mut results = vec![Vec::new(); chosen.len()];
    // By turns, so that what else the machine does falls on all of them.
    for _ in 0..args.runs {
        for ((name, kind, extra), results) in chosen.iter().zip(&mut results) {
            match run(&args, *kind, extra) {
                Ok(result) => results.push(result),
                Err(error) => eprintln!("{name}: {error:#}"),
            }
        }
    }
    for ((name, ..), results) in chosen.iter().zip(results) {
        let of = |f: fn(&Outcome) -> f64| median(results.iter().map(f).collect());
        println!(
            "{name:<16} {:>16.2} M {:>14.2} M {:>16.2} {:>12.2}",
            of(|r| r.deliveries / r.server_cpu) / 1e6,
            of(|r| r.deliveries / r.wall) / 1e6,
            of(|r| r.generator_cpu / r.wall),
            of(|r| r.server_cpu / r.wall),
        );
    }
    Ok(())
}

#[derive(Clone)]
struct Outcome {
    deliveries: f64,
    wall: f64,
    server_cpu: f64,
    generator_cpu: f64,
}

fn start(args: &Args, kind: Kind, extra: &[&str]) -> Result<Server> {
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (host, port) = (address.to_string(), address.port().to_string());
    Ok(match kind {
        Kind::Semfio | Kind::Sealed => {
            let head = ["chat", "serve", "--quiet", "--listen", &host];
            Server::start(&args.semfio, &[&head, extra].concat(), address)?
        }
        Kind::Redis => Server::start(
            "redis-server",
            &["--port", &port, "--save", "", "--appendonly", "no"],
            address,
        )?,
        Kind::Ncat => Server::start("ncat", &["--chat", "-l", "127.0.0.1", &port], address)?,
    })
}

fn run(args: &Args, kind: Kind, extra: &[&str]) -> Result<Outcome> {
    let server = start(args, kind, extra).context("start")?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let tokens: Rc<[Vec<u8>]> =
        if kind == Kind::Sealed { tokens(args.text as usize) } else { Rc::default() };
    let mut peers = Vec::new();
    for at in 0..=args.receivers {
        let sender = at == args.receivers;
        let mut socket = TcpStream::connect(server.address)?;
        poll.registry().register(
            &mut socket,
            Token(at),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        peers.push(Peer::new(kind, sender, at, socket, args.text as usize, Rc::clone(&tokens)));
        if kind == Kind::Ncat {
            // Its backlog is short; what does not fit stands only after seconds.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let sender = args.receivers;
    let reading = if args.stopped { args.receivers - 1 } else { args.receivers };
    let deadline = clock() + Duration::from_secs(20);
    // Everybody is in before the first message.
    while peers.iter().any(|peer| !peer.ready) {
        ensure!(clock() < deadline, "not all were let in");
        poll.poll(&mut events, Some(Duration::from_millis(50)))?;
        for peer in &mut peers {
            peer.flush()?;
            peer.read()?;
        }
        // Into a sealed room one by one, its holder first.
        if kind == Kind::Sealed {
            peers.rotate_right(1);
            if let Some(next) = peers.iter_mut().find(|peer| !peer.ready) {
                next.enter();
            }
            peers.rotate_left(1);
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    for peer in &mut peers {
        peer.read()?;
        peer.received = 0;
    }
    let (warm_up, length) = (Duration::from_millis(500), Duration::from_secs_f64(args.seconds));
    let begin = clock();
    let mut mark = None;
    let mut said = 0_u64;
    loop {
        let slowest = peers[..reading].iter().map(|peer| peer.received).min().unwrap_or(0);
        while said < slowest + args.window && peers[sender].unsent() < 256 * 1024 {
            peers[sender].say(said);
            said += 1;
        }
        peers[sender].flush()?;
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let at = event.token().0;
            if at < reading || at == sender {
                peers[at].read()?;
            }
        }
        let since = clock() - begin;
        if mark.is_none() && since >= warm_up {
            let counts: u64 = peers[..reading].iter().map(|peer| peer.received).sum();
            mark = Some((counts, clock(), server.cpu()?, own_cpu()?));
        }
        if since >= warm_up + length {
            break;
        }
        ensure!(since < warm_up + length + Duration::from_secs(10), "stuck");
    }
    let Some((counts, from, server_cpu, generator_cpu)) = mark else { bail!("too short") };
    let now: u64 = peers[..reading].iter().map(|peer| peer.received).sum();
    Ok(Outcome {
        deliveries: (now - counts) as f64,
        wall: (clock() - from).as_secs_f64(),
        server_cpu: (server.cpu()? - server_cpu).as_secs_f64(),
        generator_cpu: (own_cpu()? - generator_cpu).as_secs_f64(),
    })
}

struct Peer {
    kind: Kind,
    sender: bool,
    socket: TcpStream,
    /// What is to be sent; the first `sent` bytes are.
    out: BytesMut,
    /// What came and is not understood yet: `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    ready: bool,
    received: u64,
    next_text: u64,
    next_seq: Option<u64>,
    nick: String,
    welcomed: bool,
    entering: bool,
    /// Bytes of a text.
    len: usize,
    tokens: Rc<[Vec<u8>]>,
}

impl Peer {
    fn new(
        kind: Kind,
        sender: bool,
        at: usize,
        socket: TcpStream,
        len: usize,
        tokens: Rc<[Vec<u8>]>,
    ) -> Self {
        let mut out = BytesMut::new();
        let nick = if sender { SENDER.to_owned() } else { format!("receiver-{at}") };
        match kind {
            Kind::Semfio | Kind::Sealed => {
                out.extend_from_slice(&PREFACE);
                Request::Hello { max_frame: MAX_FRAME as u32, session: [0; 16], nick: &nick }
                    .put(&mut out);
                if kind == Kind::Semfio {
                    Request::Join { since: 0, room: "lobby" }.put(&mut out);
                }
            }
            Kind::Redis if !sender => {
                out.extend_from_slice(b"*2\r\n$9\r\nSUBSCRIBE\r\n$5\r\nlobby\r\n")
            }
            Kind::Redis | Kind::Ncat => {}
        }
        let ready = kind == Kind::Ncat || kind == Kind::Redis && sender;
        Self {
            kind,
            sender,
            socket,
            out,
            buffer: vec![0; 1 << 20],
            filled: 0,
            ready,
            received: 0,
            next_text: 0,
            next_seq: None,
            nick,
            welcomed: false,
            entering: false,
            len,
            tokens,
        }
    }

    fn enter(&mut self) {
        if self.welcomed && !self.entering {
            self.entering = true;
            Request::Key { room: "lobby", ask: Ask::Enter { since: 0 } }.put(&mut self.out);
        }
    }

    fn unsent(&self) -> usize {
        self.out.len()
    }

    fn say(&mut self, number: u64) {
        let text = text(number, self.len);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        match self.kind {
            Kind::Semfio => {
                let tag = number as u32 + 1;
                Request::Msg { tag, manner: Manner::Text, to: "lobby", text }.put(&mut self.out);
            }
            Kind::Sealed => {
                let token = &self.tokens[number as usize % TOKENS];
                let token = std::str::from_utf8(token).unwrap_or_default();
                let (tag, counter) = (number as u32 + 1, number);
                Request::Sealed { tag, room: "lobby", to: "", epoch: 1, counter, token }
                    .put(&mut self.out);
            }
            Kind::Redis => {
                self.out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nlobby\r\n$");
                self.out.extend_from_slice(format!("{}\r\n", self.len).as_bytes());
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
            Kind::Ncat => {
                self.out.extend_from_slice(&text.as_bytes()[..self.len - 1]);
                self.out.extend_from_slice(b"\n");
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(n) => drop(self.out.split_to(n)),
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        loop {
            match self.socket.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the server closed after {} messages", self.received),
                Ok(n) => self.filled += n,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let used = match self.kind {
                Kind::Semfio | Kind::Sealed => self.frames(&buffer[..self.filled])?,
                Kind::Redis => self.resp(&buffer[..self.filled])?,
                Kind::Ncat => {
                    // Its borders are lost: one prefix a read. Only line ends can be counted.
                    self.received +=
                        memchr::memchr_iter(b'\n', &buffer[..self.filled]).count() as u64;
                    self.filled
                }
            };
            buffer.copy_within(used..self.filled, 0);
            self.filled -= used;
            self.buffer = buffer;
        }
    }

    fn frames(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while let Some(frame) = bytes.get(at..) {
            if !self.ready && frame.starts_with(&PREFACE) {
                at += PREFACE.len();
                continue;
            }
            let Some(&[kind, a, b, c]) = frame.first_chunk() else { break };
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(body) = frame.get(4..4 + len) else { break };
            at += 4 + len;
            match kind {
                0x86 => self.message(body)?,
                0x8D => self.sealed(body)?,
                _ => self.response(Response::parse(kind, body)?)?,
            }
        }
        Ok(at)
    }

    fn response(&mut self, response: Option<Response<'_>>) -> Result<()> {
        match response {
            Some(Response::Welcome { .. }) => {
                self.welcomed = true;
                self.ready |= self.kind == Kind::Semfio;
            }
            Some(Response::Key { tell: Tell::Door { you, holder }, .. }) if you == holder => {
                self.ready = true;
            }
            Some(Response::Key { tell: Tell::Knock { peer, .. }, .. }) => {
                Request::Key { room: "lobby", ask: Ask::Admit { peer } }.put(&mut self.out);
            }
            Some(Response::Key { tell: Tell::Refused { why }, .. }) => {
                bail!("refused at the door: {why:?}")
            }
            Some(Response::Entry(Entry { nick, what: What::Join, .. })) if nick == self.nick => {
                self.ready = true;
            }
            Some(Response::Gap { .. } | Response::Error { .. }) => {
                bail!("a gap or an error after {} messages", self.received)
            }
            _ => {}
        }
        Ok(())
    }

    /// Sequence, author, room, length and every byte of the text.
    fn message(&mut self, body: &[u8]) -> Result<()> {
        const NAMES: &[u8] = b"\x00\x05lobby\x06sender";
        let seq = body.first_chunk().map(|seq| u64::from_be_bytes(*seq));
        ensure!(self.next_seq.is_none() || self.next_seq == seq, "a sequence number is missing");
        self.next_seq = seq.map(|seq| seq + 1);
        ensure!(body.get(16..16 + NAMES.len()) == Some(NAMES), "another author or room");
        self.text(&body[16 + NAMES.len()..])
    }

    /// Sequence, author, room, counter and every byte of the token.
    fn sealed(&mut self, body: &[u8]) -> Result<()> {
        let Some(Response::Entry(Entry { seq, room, nick, what: What::Sealed(sealed), .. })) =
            Response::parse(0x8D, body)?
        else {
            bail!("not an entry");
        };
        ensure!(self.next_seq.is_none_or(|next| next == seq), "a sequence number is missing");
        self.next_seq = Some(seq + 1);
        ensure!((room, nick) == ("lobby", SENDER), "another author or room");
        ensure!(sealed.counter == self.next_text, "another counter");
        let token = &self.tokens[self.next_text as usize % TOKENS];
        ensure!(sealed.token.as_bytes() == token, "a token is not as it was sent");
        self.next_text += 1;
        self.received += 1;
        Ok(())
    }

    fn text(&mut self, found: &[u8]) -> Result<()> {
        ensure!(
            found == text(self.next_text, self.len),
            "message {} is not as it was sent",
            self.next_text
        );
        self.next_text += 1;
        self.received += 1;
        Ok(())
    }

    fn resp(&mut self, bytes: &[u8]) -> Result<usize> {
        let expected = format!("*3\r\n$7\r\nmessage\r\n$5\r\nlobby\r\n${}\r\n", self.len);
        let expected = expected.as_bytes();
        let mut at = 0;
        if self.sender {
            return Ok(bytes.len()); // ":50\r\n" for each PUBLISH
        }
        if !self.ready {
            let Some(end) = memchr::memmem::find(bytes, b":1\r\n") else { return Ok(0) };
            self.ready = true;
            at = end + 4;
        }
        while let Some(message) = bytes.get(at..at + expected.len() + self.len + 2) {
            let (head, rest) = message.split_at(expected.len());
            ensure!(head == expected && rest.ends_with(b"\r\n"), "not a message");
            self.text(&rest[..self.len])?;
            at += message.len();
        }
        Ok(at)
    }
}

/// The text of this number: eight digits and a pattern that starts at another place each time.
fn text(number: u64, len: usize) -> Vec<u8> {
    const PATTERN: &[u8; 128] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut text = vec![0; len];
    let mut rest = number;
    for digit in text[..8].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let pattern = PATTERN[(number % 32) as usize..].iter().chain(PATTERN.iter().cycle());
    text[8..].iter_mut().zip(pattern).for_each(|(byte, &from)| *byte = from);
    text
}

/// Texts as they travel in a sealed room: what is bound to them is there by its length.
fn tokens(len: usize) -> Rc<[Vec<u8>]> {
    let key = Key::new([7; 32]);
    let seal = |number: usize| {
        let plaintext = [[0; BOUND].as_slice(), &text(number as u64, len)].concat();
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(&number.to_be_bytes());
        let mut token = Vec::with_capacity(token_len(plaintext.len()));
        key.seal(UnixTime::default(), iv, &plaintext, &mut token);
        token
    };
    (0..TOKENS).map(seal).collect()
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
