//! Running an endpoint again.

use alloc::boxed::Box;

use semfio_machine::{DatagramMachine, Endpoint, Now, Output};

use super::{Agreement, Gather, Replay, ReplayError, Rerun, unreadable};
use crate::call::DatagramCall;
use crate::reader::{Event, Malformed, Reader};
use crate::recorded::{Codec, CommandCodec};

/// An endpoint in a [`Replay`].
pub struct OfEndpoint<M: DatagramMachine, F> {
    endpoint: Endpoint<M>,
    codec: CommandCodec<M>,
    on_told: F,
}

/// What the application was told, or went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'t, Event> {
    /// An event of the machine.
    Event(Event),
    /// What it had noted by [`Endpoint::note`].
    Note(&'t [u8]),
}

/// Runs a whole trace of an endpoint; `on_told` hears what the application heard.
pub fn replay_datagrams<L, M, F>(
    reader: Reader<L>,
    endpoint: Endpoint<M>,
    codec: CommandCodec<M>,
    on_told: F,
) -> Result<Agreement, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: DatagramMachine,
    F: FnMut(Now, Told<'_, M::Event<'_>>, &M),
{
    Replay::datagrams(reader, endpoint, codec, on_told).run()
}

impl<L, M, F> Replay<L, OfEndpoint<M, F>>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: DatagramMachine,
    F: FnMut(Now, Told<'_, M::Event<'_>>, &M),
{
    /// At the start. The endpoint's tap is replaced. `on_told` hears each event and note at its
    /// time, with the machine as it was then, before it is compared.
    pub fn datagrams(
        reader: Reader<L>,
        mut endpoint: Endpoint<M>,
        codec: CommandCodec<M>,
        on_told: F,
    ) -> Self {
        endpoint.set_tap(Box::new(Gather::new(Codec::default())), codec.encode);
        Self::start(reader, OfEndpoint { endpoint, codec, on_told })
    }

    /// The machine as it is after the last step.
    pub fn machine(&self) -> &M {
        self.run.endpoint.machine()
    }

    /// The same, once the replay is over.
    pub fn into_machine(self) -> M {
        self.run.endpoint.into_machine()
    }
}

impl<M, F> Rerun for OfEndpoint<M, F>
where
    M: DatagramMachine,
    F: FnMut(Now, Told<'_, M::Event<'_>>, &M),
{
    fn feed(&mut self, event: &Event) -> Result<(), ReplayError> {
        let (now, endpoint) = (event.now, &mut self.endpoint);
        match DatagramCall::parse(event).map_err(|what| unreadable(event, what))? {
            // What is not accepted was not handed over.
            DatagramCall::Datagram(meta, mut payload) => {
                if endpoint.accepts(&meta, &payload) {
                    if let Some(event) = endpoint.handle_datagram(now, meta, &mut payload) {
                        (self.on_told)(now, Told::Event(event), endpoint.machine());
                    }
                }
            }
            DatagramCall::Left(n) => endpoint.handle_sent(now, n),
            DatagramCall::Stamped(id, stamp) => endpoint.handle_stamp(now, id, stamp),
            DatagramCall::Refused(failure) => endpoint.handle_send_error(now, failure),
            DatagramCall::Blocked => endpoint.handle_blocked(now),
            DatagramCall::Writable => endpoint.handle_writable(now),
            DatagramCall::Command(bytes) => {
                let command = (self.codec.decode)(&bytes);
                let command = command.ok_or_else(|| unreadable(event, Malformed::Field("text")))?;
                // One that was refused then is refused again.
                let _ = endpoint.handle_command(now, command);
            }
            DatagramCall::Note(what) => {
                endpoint.note(now, &what);
                (self.on_told)(now, Told::Note(&what), endpoint.machine());
            }
            DatagramCall::Timeout => endpoint.handle_timeout(now),
        }
        Ok(())
    }

    fn ask(&mut self, now: Now) {
        if let Some(Output::Event(event)) = self.endpoint.poll_output(now) {
            (self.on_told)(now, Told::Event(event), self.endpoint.machine());
        }
    }

    fn drain_tap(&mut self, to: &mut dyn FnMut(&[u8])) {
        self.endpoint.drain_tap(to);
    }
}
