//! Hard case: a server that must ask the host for a file in the middle of pipelined input.

#[allow(dead_code)]
mod sealed;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use semfio_machine::{
    Closed, ConnId, Deadline, Effect, FileId, FileSpan, Input, Net, NetLimits, Now, OpenMode,
    Outbox, Peer, Refused, Reply, RequestId, RootId, Service, Shard, Step, StreamMachine,
};
use semfio_sim::{Network, PeerId, ShardId};

use sealed::{Sealed, Sequence, unseal};

/// Reads names, one a line, and answers each before it looks at the next.
#[derive(Default)]
struct Files {
    answering: bool,
}

/// A part of an answer.
#[derive(Clone, Copy, Debug)]
enum Answer<'c> {
    Bytes(&'c [u8]),
    Span(FileSpan),
    End,
}

impl StreamMachine for Files {
    type Event<'i> = &'i [u8];
    type Command<'c> = Answer<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = true;

    fn max_unit(&self) -> usize {
        1024
    }

    fn state(&self) -> &'static str {
        if self.answering { "Answering" } else { "Idle" }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, Infallible> {
        if self.answering {
            return Ok(Step::NeedCommand);
        }
        // Spans take no room, but each keeps a file open: a peer that pipelines must read, too.
        if out.queued() >= Outbox::MARK as u64 && !input.is_empty() {
            return Ok(Step::NeedRoom);
        }
        match input.peek().iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.answering = true;
                Ok(Step::Event(&input.take(end + 1)[..end]))
            }
            None if input.at_eof() => Ok(Step::Done),
            None => Ok(Step::NeedInput(1)),
        }
    }

    fn handle_command(
        &mut self,
        _: Now,
        answer: Answer<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        if !self.answering {
            return Err(Refused::State("Idle"));
        }
        match answer {
            Answer::Bytes(bytes) => out.put(bytes),
            Answer::Span(span) => out.put_file(span),
            Answer::End => self.answering = false,
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

/// Serves the files of one folder, through a layer or without.
struct Server<M> {
    requests: BTreeMap<RequestId, ConnId>,
    reading: BTreeMap<ConnId, Reading>,
    machine: PhantomData<M>,
    new: fn() -> M,
}

/// A file that is sent piece by piece.
struct Reading {
    file: FileId,
    offset: u64,
    len: u64,
}

const PIECE: u32 = 10_000;

impl<M> Server<M>
where
    M: for<'a> StreamMachine<Event<'a> = &'a [u8], Command<'a> = Answer<'a>>,
{
    /// Asks for the next piece, or ends the answer.
    fn read_on(&mut self, conn: ConnId, net: &mut Net<M>) {
        let Some(reading) = self.reading.get(&conn) else {
            return;
        };
        if reading.offset == reading.len {
            let _ = net.send(conn, Answer::End);
            net.release(reading.file, Some(conn));
            self.reading.remove(&conn);
        } else if net.has_room(conn) && !self.requests.values().any(|asker| *asker == conn) {
            let (file, offset) = (reading.file, reading.offset);
            let id = net.request(Effect::Read { file, offset, len: PIECE });
            self.requests.insert(id, conn);
        }
    }
}

impl<M> Service<M> for Server<M>
where
    M: for<'a> StreamMachine<Event<'a> = &'a [u8], Command<'a> = Answer<'a>>,
{
    type Message = ();
    type Report = ();

    fn accept(&mut self, _: Now, _: &Peer) -> Option<M> {
        Some((self.new)())
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<M>) {}

    fn handle_event(&mut self, _: Now, from: ConnId, name: &[u8], net: &mut Net<M>) {
        let path = String::from_utf8_lossy(name).into_owned();
        let id = net.request(Effect::Open { root: RootId(0), path, mode: OpenMode::Read });
        self.requests.insert(id, from);
    }

    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, net: &mut Net<M>) {
        let Some(conn) = self.requests.remove(&id) else {
            return;
        };
        match reply {
            Reply::Opened { file, metadata } => {
                let len = metadata.len;
                let _ = net.send(conn, Answer::Bytes(format!("ok {len}\n").as_bytes()));
                if M::CARRIES_FILES {
                    let _ = net.send(conn, Answer::Span(FileSpan { file, offset: 0, len }));
                    let _ = net.send(conn, Answer::End);
                    net.release(file, Some(conn));
                } else {
                    self.reading.insert(conn, Reading { file, offset: 0, len });
                    self.read_on(conn, net);
                }
            }
            Reply::Read(bytes) => {
                let _ = net.send(conn, Answer::Bytes(bytes));
                if let Some(reading) = self.reading.get_mut(&conn) {
                    reading.offset += bytes.len() as u64;
                }
                self.read_on(conn, net);
            }
            _ => {
                let _ = net.send(conn, Answer::Bytes(b"none\n"));
                let _ = net.send(conn, Answer::End);
            }
        }
    }

    fn handle_room(&mut self, _: Now, conn: ConnId, net: &mut Net<M>) {
        self.read_on(conn, net);
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, _: Closed<M::Error>, net: &mut Net<M>) {
        self.requests.retain(|id, asker| {
            if *asker == conn {
                net.cancel(*id);
            }
            *asker != conn
        });
        if let Some(reading) = self.reading.remove(&conn) {
            net.release(reading.file, None);
        }
    }

    fn handle_message(&mut self, _: Now, (): (), _: &mut Net<M>) {}
}

/// A server of two files in a network, and a client.
struct Bench<M: StreamMachine + 'static>
where
    Server<M>: Service<M>,
{
    network: Network,
    server: ShardId<M, Server<M>>,
    client: PeerId,
}

const BIG: usize = 1_000_000;

impl<M> Bench<M>
where
    M: for<'a> StreamMachine<Event<'a> = &'a [u8], Command<'a> = Answer<'a>> + 'static,
{
    fn new(new: fn() -> M) -> Self {
        let [here, there] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let address = SocketAddr::new(here, 80);
        let service = Server {
            requests: BTreeMap::new(),
            reading: BTreeMap::new(),
            machine: PhantomData,
            new,
        };
        let mut network = Network::new(1);
        let server = network.add(here, Shard::new(service, NetLimits::default()));
        let disk = network.disk_mut(server);
        disk.put_file(RootId(0), "small", "content");
        disk.put_file(RootId(0), "big", big());
        assert!(network.listen(server, address));
        let client = network.connect(there, address);
        Self { network, server, client }
    }

    fn run(&mut self) -> Vec<u8> {
        self.network.run_until_idle().unwrap();
        self.network.take_received(self.client)
    }

    fn open_files(&self) -> usize {
        self.network.disk(self.server).open_files()
    }

    /// What the server holds in memory for its only connection.
    fn held(&self) -> usize {
        let shard = self.network.shard(self.server);
        shard.connections().map(|conn| shard.buffered(conn)).sum()
    }
}

fn big() -> Vec<u8> {
    (0..BIG).map(|at| (at / 7) as u8).collect()
}

fn answers(names: &[&str]) -> Vec<u8> {
    let mut all = Vec::new();
    for name in names {
        match *name {
            "small" => all.extend_from_slice(b"ok 7\ncontent"),
            "big" => {
                all.extend_from_slice(format!("ok {BIG}\n").as_bytes());
                all.extend(big());
            }
            _ => all.extend_from_slice(b"none\n"),
        }
    }
    all
}

#[test]
fn pipelined_requests_are_answered_in_order_and_files_released() {
    let mut bench = Bench::new(Files::default);
    bench.network.write(bench.client, "small\nbig\nmissing\nsmall\nbig\n");
    let got = bench.run();
    assert!(got == answers(&["small", "big", "missing", "small", "big"]));
    assert_eq!((bench.open_files(), bench.held()), (0, 0));
}

#[test]
fn under_a_layer_files_are_read_piece_by_piece() {
    let mut bench = Bench::new(|| Sealed::new(Files::default()));
    let mut sequence = Sequence::default();
    for request in ["small\nbi", "g\nmissing\nsmall\n"] {
        bench.network.write(bench.client, sequence.seal(request.as_bytes()));
    }
    let got = unseal(&bench.run());
    assert!(got == answers(&["small", "big", "missing", "small"]));
    assert_eq!((bench.open_files(), bench.held()), (0, 0));
}

/// A span costs no memory; pieces wait for room. In both cases the file stays open.
#[test]
fn a_client_that_does_not_read_holds_little() {
    let mut plain = Bench::new(Files::default);
    plain.network.set_reading(plain.client, false);
    plain.network.write(plain.client, "big\nsmall\n");
    assert_eq!(plain.run(), b"");
    assert!(plain.held() < 4096 + 200, "a span counts 4 KiB: {}", plain.held());
    assert_eq!(plain.open_files(), 1);
    plain.network.set_reading(plain.client, true);
    assert!(plain.run() == answers(&["big", "small"]));
    assert_eq!(plain.open_files(), 0);

    let mut layered = Bench::new(|| Sealed::new(Files::default()));
    layered.network.set_reading(layered.client, false);
    layered.network.write(layered.client, Sequence::default().seal(b"big\nsmall\n"));
    assert_eq!(layered.run(), b"");
    let most = Outbox::MARK + PIECE as usize * 258 / 255 + 1024;
    assert!(layered.held() <= most, "{}", layered.held());
    assert_eq!(layered.open_files(), 1);
    layered.network.set_reading(layered.client, true);
    assert!(unseal(&layered.run()) == answers(&["big", "small"]));
    assert_eq!(layered.open_files(), 0);
}

#[test]
fn files_of_a_client_that_leaves_are_released() {
    for request in ["big\n", "small\nbig\nbig\n"] {
        let mut plain = Bench::new(Files::default);
        plain.network.set_reading(plain.client, false);
        plain.network.write(plain.client, request);
        plain.run();
        plain.network.reset(plain.client);
        plain.run();
        assert_eq!(plain.open_files(), 0);

        let mut layered = Bench::new(|| Sealed::new(Files::default()));
        layered.network.set_reading(layered.client, false);
        layered.network.write(layered.client, Sequence::default().seal(request.as_bytes()));
        layered.run();
        layered.network.reset(layered.client);
        layered.run();
        assert_eq!(layered.open_files(), 0);
    }
}
