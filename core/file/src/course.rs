//! The course's client, made certain: one name out, one file in.
//!
//! The wire has a file and then `OK`, or one exact text that says that there is no such file. No
//! error ends in `OK` and every file does, so the two cannot be mistaken for each other, whatever
//! a file holds. A stream that ends in neither was cut. One cut in a thousand words: a file that
//! has `OK` inside and is cut right behind it *by an orderly close* looks whole; the dialect cannot
//! tell, which is why there is another.
//!
//! | state | input | becomes | tells |
//! |---|---|---|---|
//! | Start | (the connection stands) | Head | |
//! | Head | a beginning of the error text | Head | |
//! | Head | something else | Body | |
//! | Body | bytes | Body | `Body`, all but an `OK` or `O` at the end |
//! | Head | end of input; all of it is the error text | Closed | `End(Unknown)` |
//! | Head, Body | end of input; the last two bytes are `OK` | Closed | `Body`, `End(Complete)` |
//! | Head, Body | end of input | Closed | `Body`, `End(Truncated)` |
//!
//! A beginning of the error text that is cut is not told as a body: it is hardly one.

use alloc::vec::Vec;
use core::convert::Infallible;
use semfio_machine::{Deadline, Input, Now, Outbox, Refused, Step, StreamMachine};

use crate::session::{OK, error_text, is_space};

/// The longest name: with `GET ` before it and a line feed, what the course's server reads at once.
pub const MAX_WORD: usize = 1024 - 5;

/// The client's side of one connection in the course's dialect.
#[derive(Debug)]
pub struct CourseClient {
    state: State,
    /// What the server says if it has no such file.
    refusal: Vec<u8>,
    word: core::ops::Range<usize>,
    /// Bytes of the input that are known to begin the refusal.
    matched: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Head,
    Body,
    Ending(CourseEnd),
    Closed,
}

/// What comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseEvent<'i> {
    /// The next bytes of the file.
    Body(&'i [u8]),
    /// It is over; told once, unless the connection breaks.
    End(CourseEnd),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseEnd {
    /// With `OK`: the file is whole.
    Complete,
    /// The server has no such file.
    Unknown,
    /// Without either.
    Truncated,
}

/// A name the course's dialect cannot carry: empty, longer than [`MAX_WORD`], or with a white
/// space, at which its server cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAWord;

impl core::fmt::Display for NotAWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the course's dialect takes names of 1 to {MAX_WORD} bytes without spaces")
    }
}

impl core::error::Error for NotAWord {}

impl CourseClient {
    /// A client that asks for `word`.
    pub fn new(word: &str) -> Result<Self, NotAWord> {
        if word.is_empty() || word.len() > MAX_WORD || word.bytes().any(is_space) {
            return Err(NotAWord);
        }
        let parts = error_text(word.as_bytes());
        let from = parts.first().map_or(0, |head| head.len());
        let word = from..from.saturating_add(word.len());
        Ok(Self { state: State::Start, refusal: parts.concat(), word, matched: 0 })
    }

    fn head<'i>(&mut self, input: &mut Input<'i>) -> Step<CourseEvent<'i>> {
        let seen = input.peek();
        let fresh = seen.get(self.matched..).unwrap_or_default();
        let rest = self.refusal.get(self.matched..).unwrap_or_default();
        if !rest.starts_with(fresh) {
            self.state = State::Body;
            return self.body(input);
        }
        self.matched = seen.len();
        if !input.at_eof() {
            return Step::NeedInput(1);
        }
        if fresh.len() == rest.len() {
            return self.end(CourseEnd::Unknown, input, 0);
        }
        if seen.ends_with(OK) {
            return self.body(input);
        }
        self.end(CourseEnd::Truncated, input, 0)
    }

    fn body<'i>(&mut self, input: &mut Input<'i>) -> Step<CourseEvent<'i>> {
        let seen = input.peek();
        let end = mark(seen);
        let told = seen.len().saturating_sub(end);
        if !input.at_eof() {
            return if told == 0 {
                Step::NeedInput(1)
            } else {
                Step::Event(CourseEvent::Body(input.take(told)))
            };
        }
        if end == OK.len() {
            self.end(CourseEnd::Complete, input, told)
        } else {
            let all = seen.len();
            self.end(CourseEnd::Truncated, input, all)
        }
    }

    /// Tells the last `n` bytes of the body, if there are any, and then the end.
    fn end<'i>(
        &mut self,
        end: CourseEnd,
        input: &mut Input<'i>,
        n: usize,
    ) -> Step<CourseEvent<'i>> {
        if n > 0 {
            self.state = State::Ending(end);
            return Step::Event(CourseEvent::Body(input.take(n)));
        }
        input.take(input.len());
        self.state = State::Closed;
        Step::Event(CourseEvent::End(end))
    }
}

/// How many of the last bytes are the mark of the end, or may become it.
fn mark(seen: &[u8]) -> usize {
    let whole = seen.ends_with(OK);
    if whole { OK.len() } else { usize::from(!seen.is_empty() && seen.last() == OK.first()) }
}

impl StreamMachine for CourseClient {
    type Event<'i> = CourseEvent<'i>;
    type Command<'c> = Infallible;
    type Error = Infallible;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        self.refusal.len().saturating_add(1)
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Start => "Start",
            State::Head => "Head",
            State::Body => "Body",
            State::Ending(_) => "Ending",
            State::Closed => "Closed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        _: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<CourseEvent<'i>>, Infallible> {
        Ok(match self.state {
            State::Start => {
                out.put(b"GET ");
                out.put(self.refusal.get(self.word.clone()).unwrap_or_default());
                // The course's server splits it off; another need not guess where the name ends.
                out.put(b"\n");
                self.state = State::Head;
                self.head(input)
            }
            State::Head => self.head(input),
            State::Body => self.body(input),
            State::Ending(end) => self.end(end, input, 0),
            State::Closed => Step::Done,
        })
    }

    fn handle_command(&mut self, _: Now, never: Infallible, _: &mut Outbox) -> Result<(), Refused> {
        match never {}
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
}
