//! A stage with a planted fault, to show that the scenarios find it.

use crate::protocol::Message;
use crate::script::{Heard, Stage};

/// A host with a fault.
pub(crate) struct Faulty {
    pub(crate) stage: Box<dyn Stage>,
    pub(crate) fault: Fault,
}

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not see that a peer has finished.
    LoseAnEnd,
    /// It takes a reset for an end.
    EndForReset,
    /// It changes what it sends.
    AlterAByte,
    /// It does not hand over messages but the last.
    LoseAMessage,
    /// It swallows reports.
    LoseAReport,
}

impl Stage for Faulty {
    fn address(&mut self, name: &str) -> String {
        self.stage.address(name)
    }

    fn listen(&mut self, name: &str) {
        self.stage.listen(name);
    }

    fn dead(&mut self, name: &str) {
        self.stage.dead(name);
    }

    fn connect(&mut self, peer: u32) -> Result<(), String> {
        self.stage.connect(peer)
    }

    fn accept(&mut self, peer: u32, name: &str) -> Result<(), String> {
        self.stage.accept(peer, name)
    }

    fn send(&mut self, peer: u32, bytes: &[u8]) -> Result<(), String> {
        self.stage.send(peer, bytes)
    }

    fn receive(&mut self, peer: u32, max: usize) -> Result<Heard, String> {
        match (self.stage.receive(peer, max)?, self.fault) {
            (Heard::Bytes(mut bytes), Fault::AlterAByte) => {
                bytes[0] ^= 1;
                Ok(Heard::Bytes(bytes))
            }
            (heard, _) => Ok(heard),
        }
    }

    fn finish(&mut self, peer: u32) {
        if self.fault != Fault::LoseAnEnd {
            self.stage.finish(peer);
        }
    }

    fn reset(&mut self, peer: u32) {
        if self.fault == Fault::EndForReset {
            self.stage.finish(peer);
        } else {
            self.stage.reset(peer);
        }
    }

    fn close(&mut self, peer: u32) {
        self.stage.close(peer);
    }

    fn put(&mut self, path: &str, content: &[u8]) {
        self.stage.put(path, content);
    }

    fn folder(&mut self, path: &str) {
        self.stage.folder(path);
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.stage.rename(from, to);
    }

    fn remove(&mut self, path: &str) {
        self.stage.remove(path);
    }

    fn held(&mut self) -> Result<(), String> {
        self.stage.held()
    }

    fn let_go(&mut self) {
        self.stage.let_go();
    }

    fn tell(&mut self, message: Message) {
        if self.fault != Fault::LoseAMessage || message == Message::Stop {
            self.stage.tell(message);
        }
    }

    fn report(&mut self) -> Result<Option<String>, String> {
        if self.fault == Fault::LoseAReport {
            self.stage.report()?;
        }
        self.stage.report()
    }
}
