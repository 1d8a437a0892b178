//! A calculator on a line: `2 + 3` is answered with `= 5`.
//!
//! ```text
//! Open --line "A op B", "op B"--> Open   = result        (A left out: the last result)
//! Open --any other line---------> Open   ? what is wrong
//! Open --"quit"-----------------> Over   bye
//! Open --end of input-----------> Over
//! Open --30 s without a line----> Over   too slow, bye
//! Open --a line over 64 bytes---> Failed line too long
//! ```

use semfio_machine::{
    Closed, ConnId, Deadline, Input, Instant, Net, Now, Outbox, Peer, Refused, Service, Step,
    StreamMachine,
};
use std::time::Duration;

/// The server's side of one connection.
#[derive(Debug)]
pub struct Calculator {
    last: i64,
    patience: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Over,
    Failed,
}

/// The peer sent a line of more than [`Calculator::LINE`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl Calculator {
    /// The longest line, in bytes, with its line feed.
    pub const LINE: usize = 64;
    /// How long it waits for a line.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// A calculator whose last result is zero.
    pub fn new(now: Now) -> Self {
        Self { last: 0, patience: now.mono.saturating_add(Self::PATIENCE), state: State::Open }
    }

    fn answer(&mut self, line: &str) -> String {
        if line == "quit" {
            self.state = State::Over;
            return "bye\n".into();
        }
        match evaluate(self.last, line) {
            Ok(result) => {
                self.last = result;
                format!("= {result}\n")
            }
            Err(wrong) => format!("? {wrong}\n"),
        }
    }
}

impl StreamMachine for Calculator {
    /// A line that was answered.
    type Event<'i> = &'i [u8];
    /// It takes no commands.
    type Command<'c> = core::convert::Infallible;
    type Error = LineTooLong;
    const CARRIES_FILES: bool = false;

    fn max_unit(&self) -> usize {
        Self::LINE
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Open => "Open",
            State::Over => "Over",
            State::Failed => "Failed",
        }
    }

    fn handle_input<'i>(
        &mut self,
        now: Now,
        input: &mut Input<'i>,
        out: &mut Outbox,
    ) -> Result<Step<&'i [u8]>, LineTooLong> {
        match self.state {
            State::Open if out.room() == 0 => return Ok(Step::NeedRoom),
            State::Open => {}
            State::Over => return Ok(Step::Done),
            State::Failed => return Err(LineTooLong),
        }
        // The limit judges the line: however many lines are there, and however few of its bytes.
        let window = input.peek().iter().take(Self::LINE);
        let Some(end) = window.clone().position(|&byte| byte == b'\n') else {
            if window.len() == Self::LINE {
                self.state = State::Failed;
                out.put(b"line too long\n");
                return Err(LineTooLong);
            }
            if input.at_eof() {
                self.state = State::Over;
                return Ok(Step::Done);
            }
            return Ok(Step::NeedInput(1));
        };
        self.patience = now.mono.saturating_add(Self::PATIENCE);
        let line = &*input.take(end + 1);
        out.put(self.answer(String::from_utf8_lossy(line).trim()).as_bytes());
        Ok(Step::Event(line))
    }

    fn handle_command(
        &mut self,
        _: Now,
        command: core::convert::Infallible,
        _: &mut Outbox,
    ) -> Result<(), Refused> {
        match command {}
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let (at, why) = (self.patience, "patience");
        (self.state == State::Open).then_some(Deadline { at, why })
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.state == State::Open && self.patience <= now.mono {
            out.put(b"too slow, bye\n");
            self.state = State::Over;
        }
    }
}

impl core::fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a line is too long")
    }
}

impl core::error::Error for LineTooLong {}

/// Gives every peer a calculator, and stops when `guests` of them have left.
#[derive(Debug)]
pub struct Desk {
    guests: usize,
}

impl Desk {
    /// A desk that closes after `guests` guests.
    pub fn new(guests: usize) -> Self {
        Self { guests }
    }
}

impl Service<Calculator> for Desk {
    type Message = core::convert::Infallible;
    type Report = String;

    fn accept(&mut self, now: Now, _: &Peer) -> Option<Calculator> {
        Some(Calculator::new(now))
    }

    fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Calculator>) {}

    fn handle_event(&mut self, _: Now, _: ConnId, _: &[u8], _: &mut Net<Calculator>) {}

    fn handle_closed(
        &mut self,
        _: Now,
        _: ConnId,
        _: Closed<LineTooLong>,
        net: &mut Net<Calculator>,
    ) {
        self.guests = self.guests.saturating_sub(1);
        if self.guests == 0 {
            net.stop();
        }
    }

    fn handle_message(
        &mut self,
        _: Now,
        message: core::convert::Infallible,
        _: &mut Net<Calculator>,
    ) {
        match message {}
    }
}

fn evaluate(last: i64, line: &str) -> Result<i64, &'static str> {
    let words: Vec<_> = line.split_whitespace().collect();
    let number = |word: &str| word.parse::<i64>().map_err(|_| "not a number");
    let (a, operator, b) = match words[..] {
        [operator, b] => (last, operator, number(b)?),
        [a, operator, b] => (number(a)?, operator, number(b)?),
        _ => return Err("write: 2 + 3"),
    };
    let result = match operator {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        "/" => a.checked_div(b),
        _ => return Err("not an operator"),
    };
    result.ok_or("no such number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::{Carry, Chunk};

    /// What it answers to `bytes`, read `stride` at a time.
    fn answers(bytes: &[u8], stride: usize) -> Vec<u8> {
        let (mut carry, mut out) = (Carry::default(), Outbox::default());
        let mut machine = Calculator::new(Now::default());
        'over: for read in bytes.chunks(stride) {
            let (view, fresh) = carry.append(read);
            let mut input = Input::new(view, fresh, false);
            loop {
                match machine.handle_input(Now::default(), &mut input, &mut out) {
                    Ok(Step::Event(_)) => {}
                    Ok(Step::Done) | Err(LineTooLong) => break 'over,
                    Ok(_) => break,
                }
            }
            let untaken = input.untaken();
            carry.keep(untaken);
        }
        let chunks = out.chunks();
        chunks.fold(Vec::new(), |mut all, chunk| {
            if let Chunk::Bytes(bytes) = chunk {
                all.extend_from_slice(bytes);
            }
            all
        })
    }

    #[test]
    fn the_limit_judges_the_line_however_it_is_cut() {
        for (spaces, verdict) in [(59, "= 3\nbye\n"), (60, "line too long\n")] {
            let line = format!("1 + {}2\nquit\n", " ".repeat(spaces - 1));
            for stride in 1..=line.len() {
                let heard = answers(line.as_bytes(), stride);
                assert_eq!(heard, verdict.as_bytes(), "{spaces}, cut every {stride}");
            }
        }
    }

    #[test]
    fn patience_ends() {
        let mut machine = Calculator::new(Now::default());
        let mut out = Outbox::default();
        let mono = machine.poll_timeout().unwrap().at;
        machine.handle_timeout(Now { mono, ..Now::default() }, &mut out);
        assert_eq!(machine.poll_timeout(), None);
        assert!(out.chunks().eq([Chunk::Bytes(b"too slow, bye\n")]));
    }
}
