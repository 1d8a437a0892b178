//! The names in a folder, sent while the host lists them.

use alloc::borrow::ToOwned;
use alloc::string::String;
use semfio_machine::{ConnId, Effect, Entry, Net, RootId};

use super::asked::path_of;
use crate::{FieldsBuf, Listing, Located, PageForm, Request, Server, ServerCommand};

/// Folders that are listed at once, each with a few MiB at worst; who comes then is asked to come back.
pub(super) const LISTINGS: usize = 32;

/// The page of a folder, as far as it is sent.
#[derive(Debug)]
pub(super) struct Pages {
    listing: Listing,
    pub(super) form: PageForm,
    after: String,
    ended: bool,
    /// The response has begun.
    pub(super) begun: bool,
    pub(super) sent: u64,
}

impl Pages {
    pub(super) fn new(folder: &Located, request: &Request<'_>, dot_names: bool) -> Self {
        let (_, query) = path_of(&request.target);
        let form = form_of(query).unwrap_or_else(|| PageForm::negotiate(&request.fields));
        Self {
            listing: Listing::new(folder, form, query, dot_names),
            form,
            after: String::new(),
            ended: false,
            begun: false,
            sent: 0,
        }
    }

    /// What is to be listed next.
    pub(super) fn next(&self, root: RootId, folder: &Located) -> Effect {
        Effect::List { root, path: folder.as_str().to_owned(), after: self.after.clone() }
    }

    /// The next names; after the last ones none.
    pub(super) fn take(&mut self, entries: &[Entry]) {
        match entries.last() {
            Some(last) => {
                last.name.clone_into(&mut self.after);
                self.listing.take(entries);
            }
            None => {
                self.ended = true;
                self.listing.end();
            }
        }
    }

    /// The first piece, and whether it is the whole page. `None` as long as there is nothing to send.
    pub(super) fn begin(&mut self) -> Option<(String, bool)> {
        let mut page = String::new();
        self.begun = self.listing.write(&mut page);
        let whole = self.begun && !self.listing.write(&mut page) && self.ended;
        self.begun.then_some((page, whole))
    }

    /// Sends what there is, as long as there is room. Whether more names are needed, or none: then the
    /// page is complete. `None`: there is no room.
    pub(super) fn send(&mut self, conn: ConnId, net: &mut Net<Server>) -> Option<bool> {
        while net.has_room(conn) {
            let mut piece = String::new();
            if !self.listing.write(&mut piece) {
                return Some(!self.ended);
            }
            self.sent = self.sent.saturating_add(piece.len() as u64);
            // Refused only if the connection is gone.
            let _ = net.send(conn, ServerCommand::Data(piece.as_bytes()));
        }
        None
    }

    /// The page is complete.
    pub(super) fn end(conn: ConnId, net: &mut Net<Server>) {
        let _ = net.send(conn, ServerCommand::End(&FieldsBuf::new()));
    }
}

/// The form that an address asks for, whatever the client takes: a person cannot set fields.
fn form_of(query: Option<&str>) -> Option<PageForm> {
    query.unwrap_or_default().split('&').find_map(|parameter| match parameter {
        "format=html" => Some(PageForm::Html),
        "format=json" => Some(PageForm::Json),
        "format=plain" => Some(PageForm::Plain),
        _ => None,
    })
}
