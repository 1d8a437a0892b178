//! Bad, odd and large messages of HTTP/1.1, and what is right to answer: 111 rows of plain data.
//!
//! Nothing here knows the engine. The tests of `tests/corpus` hold the engine to it, those of `tests/http`
//! the programs, and `docs/http-strictness.md` is written from it.

mod table;

use alloc::vec::Vec;

pub use table::ROWS;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// From 1 on, as everywhere where the table is spoken of.
    pub number: u16,
    /// What is sent, in a few words.
    pub name: &'static str,
    /// What a client sends.
    pub request: Wire,
    /// What a server makes of it that reads and judges, and knows no files.
    pub verdict: Verdict,
    /// What `semfio http echo` answers.
    pub echo: Answer,
    /// What `semfio http serve` answers, on [`SITE`].
    pub serve: Answer,
    /// The same where a server could send it, in answer to a GET, and what a client makes of it.
    pub response: Option<(Wire, Verdict)>,
    /// Who wants it refused, or read.
    pub force: Force,
    /// Where that is written.
    pub section: &'static str,
    /// Why this answer, in a sentence.
    pub why: &'static str,
    /// One of the 64 that nobody should accept.
    pub refuse: bool,
    /// The switch of `Leniency` that lets it pass.
    pub leniency: Option<&'static str>,
}

/// Octets to be sent: a beginning that many rows share, and the rest.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// Comes first.
    pub start: &'static [u8],
    /// Comes after it.
    pub parts: &'static [Part],
}

/// A part of what is sent.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// These octets.
    Text(&'static [u8]),
    /// These octets so many times.
    Times(&'static [u8], usize),
    /// Nothing is sent; the next octet is the one where the rule is broken.
    Broken,
    /// The sender is done, though the message may not be.
    End,
}

/// What an engine makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reads these messages and waits for more, where the last one keeps the connection.
    Reads(&'static [Message]),
    /// Refuses it by the rule of this name, at [`Part::Broken`].
    Refuses(&'static str),
}

/// A message that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Method and target, or the status.
    pub start: &'static str,
    /// The content.
    pub body: &'static [u8],
    /// Whether the connection can be used again.
    pub keeps: bool,
}

/// What a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The statuses of its responses, in order.
    pub statuses: &'static [u16],
    /// Whether it keeps the connection afterwards.
    pub kept: bool,
}

/// Who wants it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// The RFC says MUST.
    Must,
    /// The RFC says SHOULD, or its grammar has no such thing.
    Should,
    /// The RFC leaves a choice, and this is ours.
    Policy,
}

impl Wire {
    /// All octets.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.start.to_vec();
        for part in self.parts {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text),
                Part::Times(text, n) => {
                    bytes.extend(text.iter().copied().cycle().take(text.len() * n))
                }
                Part::Broken | Part::End => (),
            }
        }
        bytes
    }

    /// Where the rule is broken; the end if nothing says so.
    pub fn broken(&self) -> usize {
        let until = self.parts.iter().position(|part| matches!(part, Part::Broken));
        let parts = self.parts.get(..until.unwrap_or(self.parts.len())).unwrap_or_default();
        Self { start: self.start, parts }.bytes().len()
    }

    /// Whether the sender is done after it.
    pub fn ends(&self) -> bool {
        matches!(self.parts.last(), Some(Part::End))
    }
}

/// What the served folder holds: a path, and its content or where it leads to.
pub const SITE: &[(&str, Entry)] = &[
    ("index.html", Entry::File(b"<p>hello</p>\n")),
    ("a.txt", Entry::File(b"abc")),
    ("out.txt", Entry::Link("../outside.txt")),
];

/// Beside the served folder, and never to be seen.
pub const OUTSIDE: (&str, &[u8]) = ("outside.txt", b"not to be served\n");

/// An entry of [`SITE`].
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// A file of this content.
    File(&'static [u8]),
    /// A symbolic link to there.
    Link(&'static str),
}

impl Row {
    /// A request that is refused by `rule`.
    const fn refused(number: u16, name: &'static str, request: Wire, rule: &'static str) -> Self {
        Self::refused_with(number, name, request, rule, &[400])
    }

    const fn refused_with(
        number: u16,
        name: &'static str,
        request: Wire,
        rule: &'static str,
        statuses: &'static [u16],
    ) -> Self {
        let answer = Answer { statuses, kept: false };
        Self::new(number, name, request, Verdict::Refuses(rule), answer)
    }

    /// A request that is read, and answered with 200.
    const fn read(
        number: u16,
        name: &'static str,
        request: Wire,
        messages: &'static [Message],
    ) -> Self {
        let (statuses, kept): (&[u16], _) = match messages {
            [message] => (&[200], message.keeps),
            [_, last] => (&[200, 200], last.keeps),
            _ => (&[], false),
        };
        let answer = Answer { statuses, kept };
        Self::new(number, name, request, Verdict::Reads(messages), answer)
    }

    const fn new(
        number: u16,
        name: &'static str,
        request: Wire,
        verdict: Verdict,
        answer: Answer,
    ) -> Self {
        Self {
            number,
            name,
            request,
            verdict,
            echo: answer,
            serve: answer,
            response: None,
            force: Force::Policy,
            section: "",
            why: "",
            refuse: false,
            leniency: None,
        }
    }

    /// Why it is so.
    const fn why(mut self, force: Force, section: &'static str, why: &'static str) -> Self {
        self.force = force;
        self.section = section;
        self.why = why;
        self
    }

    /// One of the 64.
    const fn refuse(mut self) -> Self {
        self.refuse = true;
        self
    }

    /// Another switch lets it pass.
    const fn unless(mut self, leniency: &'static str) -> Self {
        self.leniency = Some(leniency);
        self
    }

    /// The same as a response: the same parts after another start, refused alike.
    const fn as_response(mut self, start: &'static [u8]) -> Self {
        self.response = Some((Wire { start, parts: self.request.parts }, self.verdict));
        self
    }

    /// A response of its own.
    const fn response(mut self, start: &'static [u8], parts: &'static [Part], is: Verdict) -> Self {
        self.response = Some((Wire { start, parts }, is));
        self
    }

    /// The static server answers otherwise.
    const fn serve(mut self, statuses: &'static [u16], kept: bool) -> Self {
        self.serve = Answer { statuses, kept };
        self
    }

    /// The echo answers otherwise.
    const fn echo(mut self, statuses: &'static [u16], kept: bool) -> Self {
        self.echo = Answer { statuses, kept };
        self
    }
}
