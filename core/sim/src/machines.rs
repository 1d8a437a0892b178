//! A service that only lets its machines speak.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt::Debug;
use semfio_machine::{
    Closed, ConnId, Net, Now, OwnedReply, Peer, Reply, RequestId, Service, StreamMachine,
};

/// Hosts single machines: one for each connection, with no application above.
///
/// Its messages are closures that do what an application would: dial, send commands, request,
/// close. What happens is reported as [`Told`], an event as the `T` it was mapped to.
pub struct Machines<M: StreamMachine, T> {
    make: Make<M>,
    see: See<M, T>,
    told: VecDeque<Told<T, M::Error>>,
}

/// What [`Machines`] report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T, E> {
    /// A connection stands.
    Opened(ConnId, Peer),
    /// Its machine said something.
    Event(ConnId, T),
    /// The host has answered a request.
    Reply(RequestId, OwnedReply),
    /// It is over.
    Closed(ConnId, Closed<E>),
}

impl<M: StreamMachine, T> Machines<M, T> {
    /// `make` gives the machine for a peer that connects, or turns it away; `see` maps events.
    pub fn new(
        make: impl FnMut(&Peer) -> Option<M> + 'static,
        see: impl for<'i> FnMut(M::Event<'i>) -> T + 'static,
    ) -> Self {
        Self { make: Box::new(make), see: Box::new(see), told: VecDeque::new() }
    }
}

impl<M: StreamMachine, T: Debug> Service<M> for Machines<M, T> {
    type Message = Box<dyn FnOnce(&mut Net<M>)>;
    type Report = Told<T, M::Error>;

    fn accept(&mut self, _: Now, peer: &Peer) -> Option<M> {
        (self.make)(peer)
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, peer: &Peer, _: &mut Net<M>) {
        self.told.push_back(Told::Opened(conn, *peer));
    }

    fn handle_event(&mut self, _: Now, from: ConnId, event: M::Event<'_>, _: &mut Net<M>) {
        let event = (self.see)(event);
        self.told.push_back(Told::Event(from, event));
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, why: Closed<M::Error>, _: &mut Net<M>) {
        self.told.push_back(Told::Closed(conn, why));
    }

    fn handle_reply(&mut self, _: Now, id: RequestId, reply: Reply<'_>, _: &mut Net<M>) {
        self.told.push_back(Told::Reply(id, reply.into()));
    }

    fn handle_message(&mut self, _: Now, message: Self::Message, net: &mut Net<M>) {
        message(net);
    }

    fn poll_report(&mut self) -> Option<Self::Report> {
        self.told.pop_front()
    }
}

type Make<M> = Box<dyn FnMut(&Peer) -> Option<M>>;
type See<M, T> = Box<dyn for<'i> FnMut(<M as StreamMachine>::Event<'i>) -> T>;
