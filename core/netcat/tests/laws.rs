//! The laws of a connection, and faults that they catch.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};
use semfio_netcat::{Link, LinkCommand, LinkConfig, LinkEvent};
use semfio_sim::laws::{Act, Subject};

/// An event, kept.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Received(Vec<u8>),
    Other(LinkEvent<'static>),
}

fn seen(event: LinkEvent<'_>) -> Seen {
    match event {
        LinkEvent::Received(bytes) => Seen::Received(bytes.to_vec()),
        LinkEvent::Paused => Seen::Other(LinkEvent::Paused),
        LinkEvent::Ended => Seen::Other(LinkEvent::Ended),
        LinkEvent::Idle => Seen::Other(LinkEvent::Idle),
    }
}

/// A command, kept.
#[derive(Clone)]
enum Told {
    Send(Bytes),
    Finish,
    Excuse,
}

fn told(command: &Told) -> LinkCommand<'_> {
    match command {
        Told::Send(bytes) => LinkCommand::Send(bytes),
        Told::Finish => LinkCommand::Finish,
        Told::Excuse => LinkCommand::Excuse,
    }
}

fn subject<'s, M>(
    new: impl Fn() -> M + 's,
    script: &[(usize, Act<Told>)],
) -> Subject<'s, M, Seen, Told>
where
    M: for<'i> StreamMachine<Event<'i> = LinkEvent<'i>>
        + for<'c> StreamMachine<Command<'c> = LinkCommand<'c>>
        + 's,
{
    let merge = |old: &mut Seen, new: &Seen| match (old, new) {
        (Seen::Received(old), Seen::Received(new)) => {
            old.extend(new);
            true
        }
        _ => false,
    };
    Subject::new(new, seen).with_merge(merge).with_script(told, script.to_vec())
}

fn configs() -> [LinkConfig; 4] {
    let (idle, pause) = (Some(Duration::from_secs(1)), Some(Duration::from_millis(50)));
    [
        LinkConfig::default(),
        LinkConfig { idle, pause: None },
        LinkConfig { idle: None, pause },
        LinkConfig { idle, pause },
    ]
}

fn scripts() -> Vec<Vec<(usize, Act<Told>)>> {
    let send = |n| Act::Command(Told::Send(Bytes::from(vec![b'>'; n])));
    let finish = || Act::Command(Told::Finish);
    vec![
        vec![],
        vec![(0, send(10)), (1, send(0)), (1, send(70_000))],
        vec![(0, finish()), (0, send(1))],
        vec![(0, send(300)), (1, finish()), (1, finish())],
        // Time passes where no cut can be: before all bytes, and after them.
        vec![(0, Act::Timeout), (2, send(5)), (2, finish())],
        vec![(2, Act::Command(Told::Excuse)), (2, Act::Timeout), (3, Act::Timeout)],
        vec![(2, finish())],
    ]
}

fn wires() -> impl Iterator<Item = Vec<u8>> {
    [0, 1, 2, 30].map(|len| (0..len).map(|n| (n % 251) as u8).collect()).into_iter()
}

#[test]
fn the_laws_hold() {
    for config in configs() {
        for script in scripts() {
            for wire in wires() {
                let subject = subject(|| Link::new(config), &script);
                let broken = subject.check(&wire).err();
                assert!(broken.is_none(), "{config:?}, {} acts: {broken:?}", script.len());
            }
        }
        let subject = subject(|| Link::new(config), &[]);
        let commands = [Told::Send(Bytes::from_static(b"x")), Told::Finish];
        subject.refusals(b"some", &commands).unwrap();
    }
    subject(|| Link::new(LinkConfig::default()), &[]).idle(&[b"one", b"two"]).unwrap();
}

/// The ways in which a connection can be wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A read is a message.
    LooksAtReads,
    /// What comes with the end is lost.
    DropsTheLast,
    /// At the end more is waited for.
    WaitsAtTheEnd,
    /// It is done while bytes wait, if they wait.
    LooksAtTheOutbox,
    /// After a timeout the next one is not later.
    Stuck,
}

struct Faulty(Link, Fault, bool);

impl StreamMachine for Faulty {
    type Event<'i> = LinkEvent<'i>;
    type Command<'c> = LinkCommand<'c>;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        1
    }

    fn state(&self) -> &'static str {
        self.0.state()
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<LinkEvent<'i>>, Infallible> {
        match self.1 {
            Fault::LooksAtReads if std::mem::take(&mut self.2) => {
                return Ok(Step::Event(LinkEvent::Paused));
            }
            Fault::LooksAtReads => self.2 = !input.is_empty(),
            Fault::DropsTheLast if input.at_eof() => drop(input.take(usize::MAX)),
            Fault::WaitsAtTheEnd if input.is_empty() => return Ok(Step::NeedInput(1)),
            Fault::LooksAtTheOutbox if !out.is_empty() && out.is_finished() => {
                return Ok(Step::Done);
            }
            _ => {}
        }
        self.0.handle_input(now, input, out)
    }

    fn handle_command(
        &mut self,
        now: Now,
        command: LinkCommand<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        self.0.handle_command(now, command, out)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if !matches!(self.1, Fault::Stuck) {
            self.0.handle_timeout(now, out);
        }
    }
}

#[test]
fn the_laws_catch_faults() {
    let faults = [
        Fault::LooksAtReads,
        Fault::DropsTheLast,
        Fault::WaitsAtTheEnd,
        Fault::LooksAtTheOutbox,
        Fault::Stuck,
    ];
    for fault in faults {
        let caught = configs().into_iter().any(|config| {
            scripts().iter().any(|script| {
                let subject = subject(|| Faulty(Link::new(config), fault, false), script);
                wires().any(|wire| subject.check(&wire).is_err())
            })
        });
        assert!(caught, "{fault:?}");
    }
}
