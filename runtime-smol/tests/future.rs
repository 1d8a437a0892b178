//! A host is a future like any other: it shares its thread, sleeps when idle, and can be dropped.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::time::Duration;

use async_io::{Async, Timer, block_on};
use semfio_machine::{
    Closed, ConnId, Deadline, Input, Net, NetLimits, Now, Outbox, Peer, Refused, Service, Shard,
    Step, StreamMachine, Target,
};
use semfio_runtime_smol::{Host, HostConfig};

/// Sends back what comes.
struct Echo;

impl StreamMachine for Echo {
    type Event<'i> = Vec<u8>;
    type Command<'c> = &'c [u8];
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        "Echo"
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        _: &mut Outbox,
    ) -> Result<Step<Vec<u8>>, Infallible> {
        match input.len() {
            0 if input.at_eof() => Ok(Step::Done),
            0 => Ok(Step::NeedInput(1)),
            n => Ok(Step::Event(input.take(n).to_vec())),
        }
    }

    fn handle_command(&mut self, _: Now, bytes: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        out.put(bytes);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}

enum Message {
    Dial(SocketAddr),
    Stop,
}

/// Echoes to those that connect; tells what those say that it has dialled.
#[derive(Default)]
struct Both {
    dialled: Option<ConnId>,
    heard: Vec<Vec<u8>>,
}

impl Service<Echo> for Both {
    type Message = Message;
    type Report = Vec<u8>;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Echo> {
        Some(Echo)
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, _: &Peer, net: &mut Net<Echo>) {
        if self.dialled == Some(conn) {
            net.send(conn, b"hello").unwrap();
        }
    }

    fn handle_event(&mut self, _: Now, from: ConnId, bytes: Vec<u8>, net: &mut Net<Echo>) {
        if self.dialled == Some(from) {
            self.heard.push(bytes);
            net.close(from);
        } else {
            net.send(from, &bytes).unwrap();
        }
    }

    fn handle_closed(&mut self, _: Now, _: ConnId, _: Closed<Infallible>, _: &mut Net<Echo>) {}

    fn handle_message(&mut self, _: Now, message: Message, net: &mut Net<Echo>) {
        match message {
            Message::Dial(to) => self.dialled = Some(net.dial(Target::Address(to), Echo)),
            Message::Stop => net.stop(),
        }
    }

    fn poll_report(&mut self) -> Option<Vec<u8>> {
        self.heard.pop()
    }
}

fn host() -> (Host<Echo, Both>, SocketAddr) {
    let shard = Shard::new(Both::default(), NetLimits::default());
    let mut host = Host::new(shard, HostConfig::default()).unwrap();
    let address = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    (host, address)
}

/// Polls two futures in one task until both are done.
async fn both(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let mut done = (false, false);
    poll_fn(|cx| {
        done.0 = done.0 || a.as_mut().poll(cx).is_ready();
        done.1 = done.1 || b.as_mut().poll(cx).is_ready();
        if done == (true, true) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn two_hosts_in_one_task_talk_to_each_other() {
    let ((server, address), (client, _)) = (host(), host());
    let (stop_server, stop_client) = (server.handle(), client.handle());
    client.handle().try_send(Message::Dial(address)).ok().unwrap();
    let mut heard = Vec::new();
    let serving = async { drop(server.run(|_| {}).await.unwrap()) };
    let asking = async {
        let asked = client.run(|report| {
            heard = report;
            stop_client.try_send(Message::Stop).ok().unwrap();
            stop_server.try_send(Message::Stop).ok().unwrap();
        });
        drop(asked.await.unwrap());
    };
    block_on(both(serving, asking));
    assert_eq!(heard, b"hello");
}

#[test]
fn an_idle_host_is_not_polled() {
    let (host, address) = host();
    let stop = host.handle();
    let peer = Async::new(TcpStream::connect(address).unwrap()).unwrap();
    let mut polls = 0;
    let mut run = pin!(host.run(|_| {}));
    let counted = poll_fn(|cx| {
        polls += 1;
        run.as_mut().poll(cx).map(drop)
    });
    let visit = async {
        peer.get_ref().write_all(b"once").unwrap();
        peer.readable().await.unwrap();
        Timer::after(Duration::from_millis(300)).await;
        assert_eq!(peer.get_ref().read(&mut [0; 4]).unwrap(), 4);
        drop(peer);
        stop.try_send(Message::Stop).ok().unwrap();
    };
    block_on(both(counted, visit));
    // To start, accept, read, end, stop; and once for each time the visitor is woken.
    assert!(polls < 20, "{polls} polls for one visit");
}

#[test]
fn dropped_it_closes_its_connections_and_its_port() {
    let (host, address) = host();
    let handle = host.handle();
    let peer = Async::new(TcpStream::connect(address).unwrap()).unwrap();
    let mut run = Box::pin(host.run(|_| {}));
    peer.get_ref().write_all(b"x").unwrap();
    {
        let mut answered = pin!(peer.readable());
        block_on(poll_fn(|cx| {
            assert!(run.as_mut().poll(cx).is_pending());
            answered.as_mut().poll(cx)
        }))
        .unwrap();
    }
    assert_eq!(peer.get_ref().read(&mut [0]).unwrap(), 1);
    drop(run);
    block_on(peer.readable()).unwrap();
    assert_eq!(peer.get_ref().read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
    assert!(handle.try_send(Message::Stop).is_err());
}
