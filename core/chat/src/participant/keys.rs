//! What a participant does with sealed texts, and with what happens to the keys of its rooms.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use semfio_keysync::{self as keysync, KeyEvent, KeyFailure, Label, Message, Refusal, Unopened};
use semfio_machine::{Net, Now};

use super::{Happened, Outcome, Participant, ParticipantReport};
use crate::client::{Client, ClientCommand};
use crate::sealed::{Keys, SealedRooms, ask};
use crate::text::{Folded, check_nick, check_text, sanitize};
use crate::wire::{Entry, Request, Sealed};

impl Participant {
    pub(super) fn handle_sealed(
        &mut self,
        now: Now,
        entry: &Entry<'_>,
        text: &Sealed<'_>,
        (old, history): (bool, bool),
        net: &mut Net<Client>,
    ) {
        let (label, room) = ((entry.seq, entry.time), entry.room);
        if !text.to.is_empty() && Folded::new(text.to) != Folded::new(&self.nick) {
            return self.unreadable(label, room, old);
        }
        let token = Some((text.sender, text.epoch, text.counter));
        let mut sent = self.unsent.iter().take(self.in_flight.max(self.in_doubt));
        let found = sent.position(|unsent| unsent.token == token);
        let again = Some(label).filter(|_| !history);
        match self.sealed.as_mut().map(|sealed| sealed.open(now, entry, text, again)) {
            Some(Ok(message)) => {
                let number = self.sealed.as_mut().is_some_and(|s| s.is_own(room, text.sender));
                let is_self = |nick| Folded::new(nick) == Folded::new(&self.nick);
                let own = number || old && is_self(&message.nick) && is_self(entry.nick);
                self.opened(label, room, (message, entry.nick), (old, own));
            }
            Some(Err(Unopened::Held)) | None => {}
            // It was on the way while we left, and the keys went with us.
            Some(Err(_)) if self.seen_mut(room).is_none() => {}
            Some(Err(_)) => self.unreadable(label, room, old),
        }
        if let Some(at) = found {
            self.acknowledged(now, at.saturating_add(1), net);
        }
    }

    /// What was opened, and who said it by the server's word. That word alone counts for nothing; but one
    /// member can seal under another's name, and then the server does not agree.
    fn opened(
        &mut self,
        label: Label,
        room: &str,
        (message, by): (Message, &str),
        (old, own): (bool, bool),
    ) {
        // The server could not judge it, and a member may send what it likes.
        let text = sanitize(message.text.as_bytes());
        if check_text(&text).is_err() || check_nick(&message.nick).is_err() {
            return self.unreadable(label, room, old);
        }
        let (what, room) = match message.manner {
            keysync::Manner::Text => (Happened::Text(text), room.to_owned()),
            keysync::Manner::Action => (Happened::Action(text), room.to_owned()),
            keysync::Manner::Private => (Happened::Private(text), self.nick.clone()),
        };
        let (seq, time) = label;
        let nick = match Folded::new(&message.nick) == Folded::new(by) {
            true => message.nick,
            false => format!("{} ({by})", message.nick),
        };
        self.report(ParticipantReport::Entry { seq, time, room, nick, what, old, own });
    }

    fn unreadable(&mut self, (seq, time): Label, room: &str, old: bool) {
        self.report(ParticipantReport::Unreadable { seq, time, room: room.to_owned(), old });
    }

    /// Tells what happened to keys, and sends what that asks for as far as the connection takes it.
    pub(super) fn handle_keys(&mut self, now: Now, net: &mut Net<Client>) {
        // What ends the conversation must not overtake what the others are told of it.
        self.send_keys(net);
        while let Some((room, event, by)) = self.sealed.as_mut().and_then(SealedRooms::poll_event) {
            self.handle_key_event(now, room, (event, &by), net);
        }
    }

    fn send_keys(&mut self, net: &mut Net<Client>) {
        let (Some(sealed), Some(conn), true) = (&mut self.sealed, self.conn, self.ready) else {
            return;
        };
        while net.has_room(conn) {
            let Some((room, transmit)) = sealed.poll_transmit() else { return };
            let request = Request::Key { room, ask: ask(&transmit) };
            // Refused only while it breaks; then all of it is begun anew.
            let _ = net.send(conn, ClientCommand::Request(request));
        }
    }

    fn handle_key_event(
        &mut self,
        now: Now,
        room: String,
        (event, by): (KeyEvent, &str),
        net: &mut Net<Client>,
    ) {
        let join = self.seen_mut(&room).and_then(|seen| seen.join);
        let is_old = |seq: u64| seq > 0 && join.is_none_or(|join| seq < join);
        let what = match event {
            KeyEvent::Rotated { epoch, .. } => {
                let told = self.sealed.as_mut().and_then(|sealed| sealed.rotated(&room, epoch));
                let Some((opened, what)) = told else { return };
                if opened {
                    let room = room.clone();
                    self.report(ParticipantReport::Keys { room, what: Keys::Opened });
                }
                what
            }
            KeyEvent::Waiting if self.ready => Keys::Waiting,
            KeyEvent::Ready { .. } | KeyEvent::Waiting => return,
            KeyEvent::Refused { nick, why, .. } => Keys::Refused { nick, why },
            KeyEvent::Opened { label, message } => {
                return self.opened(label, &room, (message, by), (is_old(label.0), false));
            }
            KeyEvent::Unreadable { label } => {
                return self.unreadable(label, &room, is_old(label.0));
            }
            KeyEvent::TurnedAway(why) => return self.turned_away(now, room, why, net),
            KeyEvent::Failed(failure) => return self.locked(room, failure, net),
        };
        self.report(ParticipantReport::Keys { room, what });
    }

    /// It is off the door of a room for no fault of its own.
    fn turned_away(&mut self, now: Now, room: String, why: Refusal, net: &mut Net<Client>) {
        let entered = self.seen_mut(&room).is_some_and(|seen| seen.entered);
        match &mut self.sealed {
            Some(sealed) if entered => sealed.ask_again(now, &room),
            _ => self.locked(room, KeyFailure::Refused(why), net),
        }
    }

    /// A room does not let it in, or not any longer.
    fn locked(&mut self, room: String, why: KeyFailure, net: &mut Net<Client>) {
        if self.seen_mut(&room).is_some_and(|seen| seen.join.is_some()) {
            self.request(Request::Part { room: &room }, net);
        }
        if self.rooms.len() <= 1 {
            return self.over(Outcome::Locked(room, why), net);
        }
        self.report(ParticipantReport::Refused(format!("{room} does not let you in: {why}")));
        self.forget(&room);
    }
}
