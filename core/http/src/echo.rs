//! A server that answers with what it was sent.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;
use semfio_machine::{Closed, ConnId, Net, Now, Peer, Refused, Service};

use crate::error::HttpError;
use crate::field::FieldsBuf;
use crate::message::{Body, BodyLength, Request, Target};
use crate::method::Method;
use crate::server::{Server, ServerCommand, ServerConfig, ServerEvent};
use crate::status::Status;

/// So much content is held before it is sent back, in octets: 16 KiB. As long as no answer has begun,
/// one whose content breaks a rule can be told so.
const HELD: usize = 16 * 1024;

/// The methods it knows, as `Allow` names them.
const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Answers each request with its content: a known length with the same length, chunks with chunks, no
/// content with none. Content is passed on as it comes.
///
/// It never shows fields of a request, which may hold secrets: TRACE is answered with 501, as are
/// CONNECT and methods it does not know. `OPTIONS *` is answered with 204 and `Allow`.
#[derive(Debug)]
pub struct Echo {
    config: Arc<ServerConfig>,
    reports: Option<VecDeque<EchoReport>>,
    open: BTreeMap<ConnId, Conversation>,
    answer: FieldsBuf,
    allow: FieldsBuf,
    stopping: bool,
}

/// What an [`Echo`] can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoMessage {
    /// Answers what has been asked and takes no more; told again, it ends at once.
    Stop,
}

/// What an [`Echo`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoReport {
    /// A request was answered, or is being answered.
    Answered {
        /// Who asked.
        peer: Peer,
        /// The method.
        method: String,
        /// The target, as it was written.
        target: String,
        /// The answer's status.
        status: Status,
    },
    /// A connection ended otherwise than between two requests.
    Broken {
        /// With whom.
        peer: Peer,
        /// Why.
        why: Closed<HttpError>,
    },
}

/// What is known of a connection.
#[derive(Debug)]
struct Conversation {
    peer: Peer,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No request is at hand, or it has been answered.
    Idle,
    /// Its content is gathered.
    Holding { length: BodyLength, head: bool, held: Vec<u8>, asked: Option<(String, String)> },
    /// Its content is passed on.
    Passing,
}

impl Echo {
    /// Without connections. `reports`: whether each request is told of.
    pub fn new(config: ServerConfig, reports: bool) -> Self {
        let fields = |name, value| FieldsBuf::new().with(name, value).unwrap_or_default();
        Self {
            config: Arc::new(config),
            reports: reports.then(VecDeque::new),
            open: BTreeMap::new(),
            answer: fields("Content-Type", "application/octet-stream"),
            allow: fields("Allow", ALLOWED),
            stopping: false,
        }
    }

    fn request(
        &mut self,
        from: ConnId,
        request: &Request<'_>,
        net: &mut Net<Server>,
    ) -> Result<(), Refused> {
        let asked = self
            .reports
            .is_some()
            .then(|| (request.method.to_string(), request.target.to_string()));
        let fields = &FieldsBuf::new();
        let (status, fields) = match (request.method, request.target) {
            (Method::Connect | Method::Trace | Method::Other(_), _) => {
                (Status::NOT_IMPLEMENTED, fields)
            }
            (Method::Options, Target::Asterisk) => (Status::NO_CONTENT, &self.allow),
            _ if request.length == BodyLength::None => (Status::OK, fields),
            _ => {
                if request.expects_continue {
                    let status = Status::CONTINUE;
                    net.send(from, ServerCommand::Inform { status, fields })?;
                }
                let (length, head) = (request.length, request.method == Method::Head);
                self.set(from, State::Holding { length, head, held: Vec::new(), asked });
                return Ok(());
            }
        };
        net.send(from, ServerCommand::Respond { status, fields, body: Body::Empty })?;
        self.report(from, asked, status);
        Ok(())
    }

    fn data(&mut self, from: ConnId, data: &[u8], net: &mut Net<Server>) -> Result<(), Refused> {
        match self.open.get_mut(&from).map(|it| &mut it.state) {
            Some(State::Passing) => net.send(from, ServerCommand::Data(data)),
            Some(State::Holding { held, .. }) if held.len().saturating_add(data.len()) <= HELD => {
                held.extend_from_slice(data);
                Ok(())
            }
            Some(State::Holding { .. }) => {
                if self.begin(from, net)? {
                    net.send(from, ServerCommand::Data(data))?;
                    self.set(from, State::Passing);
                }
                Ok(())
            }
            Some(State::Idle) | None => Ok(()),
        }
    }

    /// Begins to answer with what is held; whether more content is wanted.
    fn begin(&mut self, from: ConnId, net: &mut Net<Server>) -> Result<bool, Refused> {
        let state = self.open.get_mut(&from).map(|it| mem::replace(&mut it.state, State::Idle));
        let Some(State::Holding { length, head, held, asked }) = state else {
            return Ok(false);
        };
        let body = match length {
            BodyLength::Known(n) => Body::Length(n),
            _ => Body::Unknown,
        };
        let (status, fields) = (Status::OK, &self.answer);
        net.send(from, ServerCommand::Respond { status, fields, body })?;
        self.report(from, asked, status);
        if head {
            return Ok(false);
        }
        net.send(from, ServerCommand::Shared(&Bytes::from(held)))?;
        Ok(true)
    }

    fn end(&mut self, from: ConnId, net: &mut Net<Server>) -> Result<(), Refused> {
        let passes = match self.open.get(&from).map(|it| &it.state) {
            Some(State::Passing) => true,
            Some(State::Holding { .. }) => self.begin(from, net)?,
            Some(State::Idle) | None => false,
        };
        if passes {
            net.send(from, ServerCommand::End(&FieldsBuf::new()))?;
        }
        self.set(from, State::Idle);
        Ok(())
    }

    fn set(&mut self, conn: ConnId, state: State) {
        if let Some(conversation) = self.open.get_mut(&conn) {
            conversation.state = state;
        }
    }

    fn report(&mut self, conn: ConnId, asked: Option<(String, String)>, status: Status) {
        let peer = self.open.get(&conn).map(|it| it.peer);
        if let (Some(reports), Some(peer), Some((method, target))) =
            (&mut self.reports, peer, asked)
        {
            reports.push_back(EchoReport::Answered { peer, method, target, status });
        }
    }
}

impl Service<Server> for Echo {
    type Message = EchoMessage;
    type Report = EchoReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Server> {
        Some(Server::new(Arc::clone(&self.config)))
    }

    fn handle_opened(&mut self, _: Now, conn: ConnId, peer: &Peer, _: &mut Net<Server>) {
        self.open.insert(conn, Conversation { peer: *peer, state: State::Idle });
    }

    fn handle_event(
        &mut self,
        _: Now,
        from: ConnId,
        event: ServerEvent<'_>,
        net: &mut Net<Server>,
    ) {
        let done = match event {
            ServerEvent::Request(request) => self.request(from, &request, net),
            ServerEvent::Data(data) => self.data(from, data, net),
            ServerEvent::End(_) => self.end(from, net),
        };
        if done.is_err() {
            // What was sent so far must not be taken for all.
            net.abort(from);
        }
    }

    fn handle_closed(&mut self, _: Now, conn: ConnId, why: Closed<HttpError>, _: &mut Net<Server>) {
        let peer = self.open.remove(&conn).map(|it| it.peer);
        if let (Some(reports), Some(peer)) = (&mut self.reports, peer) {
            if !matches!(why, Closed::Done | Closed::Local) {
                reports.push_back(EchoReport::Broken { peer, why });
            }
        }
    }

    fn handle_message(&mut self, _: Now, message: EchoMessage, net: &mut Net<Server>) {
        let EchoMessage::Stop = message;
        for &conn in self.open.keys() {
            if self.stopping {
                net.close(conn);
            } else {
                let _ = net.send(conn, ServerCommand::Finish);
            }
        }
        self.stopping = true;
        net.stop();
    }

    fn poll_report(&mut self) -> Option<EchoReport> {
        self.reports.as_mut()?.pop_front()
    }
}
