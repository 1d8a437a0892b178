//! The names in a folder, as they are sent.

use crate::{Located, Request};
use alloc::borrow::ToOwned;
use alloc::string::String;
use semfio_machine::{Effect, RootId};

#[derive(Debug)]
pub(super) struct Listing {
    after: String,
    begun: bool,
}

impl Listing {
    pub(super) fn new(_request: &Request<'_>) -> Self {
        Self { after: String::new(), begun: false }
    }
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }
    pub(super) fn next(&self, root: RootId, located: &Located) -> Effect {
        Effect::List { root, path: located.as_str().to_owned(), after: self.after.clone() }
    }
}
