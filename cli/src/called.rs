//! What addresses are called: by the resolver, or as it answered when a trace was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use semfio_machine::{DatagramMachine, Endpoint, Now};
use semfio_runtime_os::{Name, Names};

/// In a trace, what the resolver answered: this, the address, and the name if it has one.
const NAME: &str = "name ";

/// The names of addresses. They change in [`learn`](Self::learn) and [`hear`](Self::hear) alone, so that
/// what is printed with them is printed again from a trace.
#[derive(Default)]
pub(crate) struct Called {
    /// `None` in a replay.
    resolver: Option<Names>,
    /// Asked for, and not answered.
    open: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, Option<String>>,
}

impl Called {
    pub(crate) fn by(resolver: Names) -> Self {
        Self { resolver: Some(resolver), ..Self::default() }
    }

    pub(crate) fn ask(&mut self, address: IpAddr) {
        if let Some(resolver) = &self.resolver
            && !self.known.contains_key(&address)
            && self.open.insert(address)
        {
            resolver.ask(address);
        }
    }

    /// Whether it has a name or is known to have none.
    pub(crate) fn is_known(&self, address: IpAddr) -> bool {
        self.known.contains_key(&address)
    }

    pub(crate) fn name(&self, address: IpAddr) -> Option<&str> {
        self.known.get(&address)?.as_deref()
    }

    /// Waits for what was asked, but no longer than this.
    pub(crate) fn wait(&self, patience: Duration) {
        if let Some(resolver) = self.resolver.as_ref().filter(|_| !self.open.is_empty()) {
            resolver.wait(patience);
        }
    }

    /// Takes over what the resolver has answered since, and notes it in the trace.
    pub(crate) fn learn<M: DatagramMachine>(&mut self, now: Now, endpoint: &mut Endpoint<M>) {
        let Some(resolver) = self.resolver.as_ref().filter(|_| !self.open.is_empty()) else {
            return;
        };
        let known = &mut self.known;
        self.open.retain(|&address| {
            let name = match resolver.name(address) {
                Name::Unknown => return true,
                Name::None => None,
                Name::Known(name) => Some(name.to_string()),
            };
            let (space, text) = name.as_ref().map_or(("", ""), |name| (" ", name));
            endpoint.note(now, format!("{NAME}{address}{space}{text}").as_bytes());
            known.insert(address, name);
            false
        });
    }

    /// What [`learn`](Self::learn) has noted; anything else is nothing to it.
    pub(crate) fn hear(&mut self, note: &[u8]) {
        let Some(note) = std::str::from_utf8(note).ok().and_then(|note| note.strip_prefix(NAME))
        else {
            return;
        };
        let (address, name) = match note.split_once(' ') {
            Some((address, name)) => (address, Some(name.to_owned())),
            None => (note, None),
        };
        if let Ok(address) = address.parse() {
            self.known.insert(address, name);
        }
    }
}
