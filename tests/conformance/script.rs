//! Scenarios: a text that says what peers do, one step after the other, and what they must see.
//!
//! Since every step waits for what it expects, a scenario has one outcome on any host.
//!
//! | step               | meaning                                                              |
//! |--------------------|----------------------------------------------------------------------|
//! | `n connect`        | peer n connects                                                      |
//! | `n send text`      | sends; `\n` is the end of a line, `@a` the address named a           |
//! | `n drip text`      | sends byte by byte                                                   |
//! | `n expect text`    | receives exactly this                                                |
//! | `n expect-big k`   | receives k bytes of the pattern                                      |
//! | `n expect-flood k` | receives k blocks of 1 KiB of the pattern                            |
//! | `n expect-end`     | sees the end, with nothing before it                                 |
//! | `n expect-reset`   | sees a reset; what came before it does not matter                    |
//! | `n finish`         | closes its sending half                                              |
//! | `n reset`          | cuts the connection                                                  |
//! | `n close`          | closes its socket                                                    |
//! | `listen a`         | peers listen at an address named a                                   |
//! | `n accept a`       | peer n is whom the host dialled at a                                 |
//! | `dead a`           | a names an address where nobody listens                              |
//! | `put f text`       | somebody makes a file, or writes it anew in place                      |
//! | `folder f`         | somebody makes a folder                                              |
//! | `rename f g`       | somebody renames a file or a folder; one that was there is replaced  |
//! | `remove f`         | somebody removes a file                                              |
//! | `held` `let-go`    | the service is within `HOLD`, and leaves it: what is done between    |
//! |                    | comes to one turn of the host                                        |
//! | `await text`       | the service reports this, sooner or later                            |
//! | `resume n` `quiet` | a message to the service                                             |
//! | `say n text`       | a message to the service                                             |
//! | `stop`             | a message to the service                                             |
//! | `over`             | the host ends, while the peers are still there                       |
//! | `crowd k`          | k more peers connect, and stay silent                                |
//! | `disperse`         | the crowd closes                                                     |

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::protocol::{BLOCK, Message, pattern};

/// One scenario: its name and its steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario<'t> {
    pub(crate) name: &'t str,
    pub(crate) steps: &'t str,
}

/// All scenarios of a text; each begins with a line `== name`.
pub(crate) fn scenarios(text: &str) -> Vec<Scenario<'_>> {
    text.split("\n== ")
        .skip(1)
        .map(|part| {
            let (name, steps) = part.split_once('\n').unwrap_or((part, ""));
            Scenario { name, steps }
        })
        .collect()
}

/// How a byte stream went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// A host with a [`Scripted`](crate::protocol::Scripted) service, and the peers around it.
///
/// Whatever waits gives up after a generous time, with an `Err` that says for what.
pub(crate) trait Stage {
    fn address(&mut self, name: &str) -> String;
    fn listen(&mut self, name: &str);
    fn dead(&mut self, name: &str);
    fn connect(&mut self, peer: u32) -> Result<(), String>;
    fn accept(&mut self, peer: u32, name: &str) -> Result<(), String>;
    fn send(&mut self, peer: u32, bytes: &[u8]) -> Result<(), String>;
    /// At most `max` bytes, at least one, or how it ended.
    fn receive(&mut self, peer: u32, max: usize) -> Result<Heard, String>;
    fn finish(&mut self, peer: u32);
    fn reset(&mut self, peer: u32);
    fn close(&mut self, peer: u32);
    fn put(&mut self, path: &str, content: &[u8]);
    fn folder(&mut self, path: &str);
    fn rename(&mut self, from: &str, to: &str);
    fn remove(&mut self, path: &str);
    fn held(&mut self) -> Result<(), String>;
    fn let_go(&mut self);
    fn tell(&mut self, message: Message);
    /// The next report; `None` once the host has ended.
    fn report(&mut self) -> Result<Option<String>, String>;
}

/// What the service reported, in order.
pub(crate) type Log = Vec<String>;

/// Plays a scenario to its end; gives what the service has seen.
pub(crate) fn play(scenario: Scenario<'_>, stage: &mut dyn Stage) -> Result<Log, String> {
    let mut player = Player {
        stage,
        log: Vec::new(),
        seen: 0,
        crowd: Vec::new(),
        peers: BTreeMap::new(),
        stopped: false,
        over: false,
    };
    for line in scenario.steps.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(why) = player.step(line) {
            let log = player.log.join("\n  ");
            return Err(format!("{}: {line}: {why}; so far:\n  {log}", scenario.name));
        }
    }
    player.end().map_err(|why| format!("{}: at the end: {why}", scenario.name))?;
    Ok(player.log)
}

/// Where two logs part, if they do.
pub(crate) fn compare(expected: &Log, found: &Log) -> Result<(), String> {
    let parted = (0..expected.len().max(found.len())).find(|&n| expected.get(n) != found.get(n));
    let Some(n) = parted else {
        return Ok(());
    };
    let mut why = format!("the logs part at report {n}:\n");
    for (log, who) in [(expected, "expected"), (found, "found")] {
        let line = log.get(n).map_or("(no more)", String::as_str);
        let _ = writeln!(why, "  {who}: {line}");
    }
    Err(why)
}

struct Player<'s> {
    stage: &'s mut dyn Stage,
    log: Log,
    /// Reports that an `await` has used up.
    seen: usize,
    crowd: Vec<u32>,
    peers: BTreeMap<u32, ()>,
    stopped: bool,
    over: bool,
}

/// Numbers of the silent peers, above all others.
const CROWD: u32 = 1_000_000;

impl Player<'_> {
    fn step(&mut self, line: &str) -> Result<(), String> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Ok(peer) = first.parse() {
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            return self.peer_step(peer, verb, rest);
        }
        match first {
            "listen" => self.stage.listen(rest),
            "dead" => self.stage.dead(rest),
            "put" => {
                let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
                self.stage.put(path, text.as_bytes());
            }
            "folder" => self.stage.folder(rest),
            "rename" => {
                let (from, to) = rest.split_once(' ').ok_or("two names")?;
                self.stage.rename(from, to);
            }
            "remove" => self.stage.remove(rest),
            "held" => self.stage.held()?,
            "let-go" => self.stage.let_go(),
            "await" => {
                while self.log[self.seen..].iter().all(|report| report != rest) {
                    let Some(report) = self.stage.report()? else {
                        return Err("the host has ended".into());
                    };
                    self.log.push(report);
                }
                let place = self.log[self.seen..].iter().position(|r| r == rest);
                self.seen += place.map_or(0, |place| place + 1);
            }
            "resume" => self.stage.tell(Message::Resume(number(rest)?)),
            "say" => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                self.stage.tell(Message::Say(number(name)?, text.into()));
            }
            "quiet" => self.stage.tell(Message::Quiet),
            "stop" => {
                self.stopped = true;
                self.stage.tell(Message::Stop);
            }
            "over" => self.run_out()?,
            "crowd" => {
                for n in 0..number(rest)? {
                    self.stage.connect(CROWD + n)?;
                    self.crowd.push(CROWD + n);
                }
            }
            "disperse" => {
                for peer in std::mem::take(&mut self.crowd) {
                    self.stage.close(peer);
                }
            }
            _ => return Err("no such step".into()),
        }
        Ok(())
    }

    fn peer_step(&mut self, peer: u32, verb: &str, rest: &str) -> Result<(), String> {
        self.peers.insert(peer, ());
        match verb {
            "connect" => self.stage.connect(peer)?,
            "accept" => self.stage.accept(peer, rest)?,
            "send" => {
                let bytes = self.bytes(rest);
                self.stage.send(peer, &bytes)?;
            }
            "drip" => {
                for byte in self.bytes(rest) {
                    self.stage.send(peer, &[byte])?;
                }
            }
            "expect" => {
                let bytes = self.bytes(rest);
                self.expect(peer, &bytes)?;
            }
            "expect-big" => {
                let bytes = pattern(0, number(rest)? as usize);
                self.expect(peer, &bytes)?;
            }
            "expect-flood" => {
                for n in 0..number(rest)?.into() {
                    let at = n * BLOCK as u64;
                    let block = pattern(at, BLOCK);
                    self.expect(peer, &block)?;
                }
            }
            "expect-end" => match self.stage.receive(peer, 4096)? {
                Heard::End => {}
                other => return Err(format!("no end but {other:?}")),
            },
            "expect-reset" => loop {
                match self.stage.receive(peer, 65_536)? {
                    Heard::Bytes(_) => {}
                    Heard::Reset => break,
                    Heard::End => return Err("an end and no reset".into()),
                }
            },
            "finish" => self.stage.finish(peer),
            "reset" => self.stage.reset(peer),
            "close" => self.stage.close(peer),
            _ => return Err("no such step".into()),
        }
        Ok(())
    }

    fn expect(&mut self, peer: u32, expected: &[u8]) -> Result<(), String> {
        let mut at = 0;
        while at < expected.len() {
            match self.stage.receive(peer, expected.len() - at)? {
                Heard::Bytes(bytes) if expected[at..].starts_with(&bytes) => at += bytes.len(),
                Heard::Bytes(bytes) => {
                    let text = bytes[..bytes.len().min(60)].escape_ascii();
                    return Err(format!("at {at}, something else: {text}"));
                }
                end => return Err(format!("{end:?} after {at} bytes")),
            }
        }
        Ok(())
    }

    fn bytes(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (_, after) = rest.split_at(first.len_utf8());
            rest = after;
            match first {
                '\\' => {
                    bytes.push(b'\n');
                    rest = rest.strip_prefix('n').unwrap_or(rest);
                }
                '@' => {
                    let end = rest.find(|c: char| !c.is_alphanumeric());
                    let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                    bytes.extend_from_slice(self.stage.address(name).as_bytes());
                    rest = after;
                }
                other => bytes.extend(other.to_string().bytes()),
            }
        }
        bytes
    }

    fn run_out(&mut self) -> Result<(), String> {
        while let Some(report) = self.stage.report()? {
            self.log.push(report);
        }
        self.over = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if !self.stopped {
            self.stage.tell(Message::Stop);
        }
        if !self.over {
            self.step("await stopping")?;
        }
        for peer in std::mem::take(&mut self.peers).into_keys() {
            self.stage.close(peer);
        }
        if self.over { Ok(()) } else { self.run_out() }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
