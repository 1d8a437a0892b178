//! The names in one folder of a framed server, or what one name is.
//!
//! | step | asks the server | then |
//! |---|---|---|
//! | Dialling | (its greeting) | Looking; Listing for the root |
//! | Looking | STAT | `Named` and over for a file; Listing for a folder |
//! | Listing | LIST, again while there are more | `Named` for each, then over |

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::String;
use core::time::Duration;
use semfio_machine::{Closed, ConnId, Deadline, Instant, Net, Now, Peer, Service, Target};
use semfio_path::{NameError, Policy, SafeName};

use crate::fetch::Lost;
use crate::sealing::{Secret, session};
use crate::session::{Session, SessionCommand, SessionError, SessionEvent};
use crate::wire::{Entries, ErrorCode, Kind, Message, Meta};

/// How long a server may be silent while something is asked of it.
const SILENT: Duration = Duration::from_secs(60);
/// Of every request: there is one at a time.
const TAG: u32 = 1;

/// What a [`Listing`] lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingConfig {
    /// The server.
    pub target: Target,
    /// A folder or a file; `None` for all that is served.
    pub name: Option<SafeName>,
}

/// What an application tells a [`Listing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingMessage {
    /// Stop.
    Interrupt,
}

/// What a [`Listing`] tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListingReport {
    /// A name, the whole of it from the root on, in the order of their bytes.
    Named(SafeName, Meta),
    /// It is over.
    Over(ListingOutcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListingOutcome {
    /// All was told: so many names.
    Listed(u64),
    /// The server says so.
    Refused(ErrorCode),
    /// The server told of a name that is not safe.
    Name(NameError),
    /// The connection is gone, or there was none.
    Lost(Lost),
    /// By [`ListingMessage::Interrupt`].
    Interrupted,
}

/// A folder, listed: a [`Service`] over one [`Session`]. It dials when the host first calls
/// `handle_timeout`, which is due at once.
#[derive(Debug)]
pub struct Listing {
    config: ListingConfig,
    secret: Option<Secret>,
    conn: Option<ConnId>,
    /// The last name that came.
    last: String,
    told: u64,
    code: Option<ErrorCode>,
    timer: Option<Deadline>,
    over: bool,
    reports: VecDeque<ListingReport>,
}

impl Listing {
    /// One that has not begun.
    pub fn new(config: ListingConfig) -> Self {
        Self {
            config,
            secret: None,
            conn: None,
            last: String::new(),
            told: 0,
            code: None,
            timer: Some(Deadline { at: Instant::default(), why: "dial" }),
            over: false,
            reports: VecDeque::new(),
        }
    }

    /// With a secret: says and takes nothing before the server has proved that it knows the
    /// passphrase; then all is sealed.
    pub fn with_secret(mut self, secret: impl Into<Option<Secret>>) -> Self {
        self.secret = secret.into();
        self
    }

    fn ask(&mut self, message: &Message<'_>, net: &mut Net<Session>) {
        if let Some(conn) = self.conn {
            // Refused only if it is gone, which is told in another way.
            let _ = net.send(conn, SessionCommand::Message(message));
        }
    }

    fn list(&mut self, net: &mut Net<Session>) {
        let (name, last) = (self.config.name.clone(), self.last.clone());
        let folder = name.as_ref().map_or("", SafeName::as_str);
        self.ask(&Message::List { tag: TAG, folder, after: &last }, net);
    }

    fn handle_said(&mut self, message: Message<'_>, net: &mut Net<Session>) {
        let name = self.config.name.clone();
        match (message, name) {
            (Message::Welcome { .. }, None) => self.list(net),
            (Message::Welcome { .. }, Some(name)) => {
                self.ask(&Message::Stat { tag: TAG, hashed: false, name: name.as_str() }, net);
            }
            (Message::Meta { meta, .. }, Some(_)) if meta.kind == Kind::Folder => self.list(net),
            (Message::Meta { meta, .. }, Some(name)) => {
                self.tell(name, meta);
                self.end(ListingOutcome::Listed(self.told), net);
            }
            (Message::Entries { more, entries, .. }, _) => self.handle_entries(more, entries, net),
            (Message::Error { tag: 0, code, .. }, _) => self.code = Some(code),
            (Message::Error { code, .. }, _) => self.end(ListingOutcome::Refused(code), net),
            _ => self.end(ListingOutcome::Lost(Lost::OutOfTurn), net),
        }
    }

    fn handle_entries(&mut self, more: bool, entries: Entries<'_>, net: &mut Net<Session>) {
        let mut any = false;
        for (name, meta) in entries.iter() {
            // Names must rise, or there is no end.
            if name.contains('/') || name <= self.last.as_str() {
                return self.end(ListingOutcome::Lost(Lost::OutOfTurn), net);
            }
            any = true;
            self.last = name.to_owned();
            let whole = SafeName::parse(name, ANY).and_then(|name| match &self.config.name {
                Some(folder) => folder.join(&name),
                None => Ok(name),
            });
            match whole {
                Ok(whole) => self.tell(whole, meta),
                Err(error) => return self.end(ListingOutcome::Name(error), net),
            }
        }
        if more && any {
            self.list(net);
        } else {
            self.end(ListingOutcome::Listed(self.told), net);
        }
    }

    fn tell(&mut self, name: SafeName, meta: Meta) {
        self.told = self.told.saturating_add(1);
        self.reports.push_back(ListingReport::Named(name, meta));
    }

    fn end(&mut self, outcome: ListingOutcome, net: &mut Net<Session>) {
        if !self.over {
            self.over = true;
            self.timer = None;
            self.reports.push_back(ListingReport::Over(outcome));
            if let Some(conn) = self.conn.take() {
                net.close(conn);
            }
            net.stop();
        }
    }
}

/// They are looked at, not opened.
const ANY: Policy = Policy { dot_names: true, hyphen: true };

impl Service<Session> for Listing {
    type Message = ListingMessage;
    type Report = ListingReport;

    fn accept(&mut self, _: Now, _: &Peer) -> Option<Session> {
        None
    }

    fn handle_opened(&mut self, now: Now, _: ConnId, _: &Peer, _: &mut Net<Session>) {
        self.wait(now);
    }

    fn handle_event(
        &mut self,
        now: Now,
        _: ConnId,
        event: SessionEvent<'_>,
        net: &mut Net<Session>,
    ) {
        if self.over {
            return;
        }
        self.wait(now);
        match event {
            SessionEvent::Message(message) => self.handle_said(message, net),
            // Nothing was asked for that has a body; the others are said to servers.
            _ => self.end(ListingOutcome::Lost(Lost::OutOfTurn), net),
        }
    }

    fn handle_closed(
        &mut self,
        _: Now,
        _: ConnId,
        why: Closed<SessionError>,
        net: &mut Net<Session>,
    ) {
        self.conn = None;
        self.end(ListingOutcome::Lost(Lost::of(why, self.code)), net);
    }

    fn handle_message(&mut self, _: Now, message: ListingMessage, net: &mut Net<Session>) {
        match message {
            ListingMessage::Interrupt => self.end(ListingOutcome::Interrupted, net),
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timer
    }

    fn handle_timeout(&mut self, _: Now, net: &mut Net<Session>) {
        self.timer = None;
        match self.conn {
            None => {
                let session = session(&mut self.secret);
                self.conn = Some(net.dial(self.config.target.clone(), session));
            }
            Some(_) => self.end(ListingOutcome::Lost(Lost::Silent), net),
        }
    }

    fn poll_report(&mut self) -> Option<ListingReport> {
        self.reports.pop_front()
    }
}

impl Listing {
    fn wait(&mut self, now: Now) {
        self.timer = Some(Deadline { at: now.mono.saturating_add(SILENT), why: "silent" });
    }
}
