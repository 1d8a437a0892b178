//! What is read of the octets of one side of a connection, as text.

use semfio_http::{
    Asked, BodyReader, BodyStep, Broken, Fields, HeadReader, HttpError, Leniency, Limits, Request,
    Response,
};
use semfio_machine::Input;
use std::fmt::Write;

/// Whose messages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Responses(Asked),
}

/// One side of a connection, shown piece by piece as a host does.
pub(crate) struct Reading {
    side: Side,
    limits: Limits,
    leniency: Leniency,
    head: HeadReader,
    body: Option<BodyReader>,
    carry: Vec<u8>,
    taken: u64,
    /// What was told, pieces of content joined.
    pub(crate) told: String,
    data: Vec<u8>,
    pub(crate) broken: Option<HttpError>,
    /// No message can follow.
    over: bool,
}

impl Reading {
    pub(crate) fn new(side: Side, limits: Limits, leniency: Leniency) -> Self {
        Self {
            side,
            limits,
            leniency,
            head: HeadReader::default(),
            body: None,
            carry: Vec::new(),
            taken: 0,
            told: String::new(),
            data: Vec::new(),
            broken: None,
            over: false,
        }
    }

    /// More octets, maybe the last ones.
    pub(crate) fn show(&mut self, bytes: &[u8], eof: bool) {
        self.carry.extend_from_slice(bytes);
        let mut carry = std::mem::take(&mut self.carry);
        let mut input = Input::new(&mut carry, 0, eof);
        while self.broken.is_none() && !self.over {
            let before = input.len();
            let stepped = self.step(&mut input);
            self.taken += (before - input.len()) as u64;
            match stepped {
                Ok(true) => {}
                Ok(false) => break,
                Err(broken) => {
                    self.flush();
                    let error = broken.after(self.taken);
                    writeln!(self.told, "{} {}", error.rule.name(), error.offset).unwrap();
                    self.broken = Some(error);
                }
            }
        }
        let untaken = input.untaken();
        self.carry = carry.split_off(untaken.start);
        if eof && self.broken.is_none() {
            self.flush();
            let begun = self.head.is_begun();
            writeln!(self.told, "eof, begun {begun}, {} left", self.carry.len()).unwrap();
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<bool, Broken> {
        if let Some(body) = &mut self.body {
            match body.step(&self.limits, &self.leniency, input)? {
                BodyStep::Data(data) => {
                    assert!(!data.is_empty());
                    self.data.extend_from_slice(data);
                }
                BodyStep::NeedInput(_) => return Ok(false),
                BodyStep::End(fields) => {
                    let end = format!("end{}", list(fields));
                    self.flush();
                    self.told += &end;
                    self.told.push('\n');
                    self.body = None;
                }
            }
            return Ok(true);
        }
        let (told, length) = match self.side {
            Side::Requests => match self.head.read_request(&self.limits, &self.leniency, input)? {
                None => return Ok(false),
                Some(request) => (of_request(&request), request.length),
            },
            Side::Responses(asked) => {
                match self.head.read_response(&self.limits, &self.leniency, asked, input)? {
                    None => return Ok(false),
                    Some(response) => {
                        self.over = asked == Asked::Connect && response.status.is_success();
                        (of_response(&response), response.length)
                    }
                }
            }
        };
        assert!(!self.head.is_begun());
        self.told += &told;
        self.told.push('\n');
        self.body = Some(BodyReader::new(length));
        Ok(true)
    }

    /// Octets that wait for more.
    pub(crate) fn untaken(&self) -> usize {
        self.carry.len()
    }

    fn flush(&mut self) {
        if !self.data.is_empty() {
            writeln!(self.told, "data {}", self.data.escape_ascii()).unwrap();
            self.data.clear();
        }
    }
}

/// What is read of all of it at once, with the limits and the strictness that are the default.
pub(crate) fn whole(side: Side, bytes: &[u8]) -> String {
    let mut reading = Reading::new(side, Limits::default(), Leniency::default());
    reading.show(bytes, true);
    reading.told
}

fn of_request(request: &Request<'_>) -> String {
    format!(
        "{} {:?} {:?} [{}]{} {:?}{}{}",
        request.method,
        request.target,
        request.version,
        request.authority,
        list(request.fields),
        request.length,
        if request.keeps_alive { " keep" } else { " close" },
        if request.expects_continue { " expects" } else { "" },
    )
}

fn of_response(response: &Response<'_>) -> String {
    format!(
        "{:?} {} {}{} {:?}{}",
        response.version,
        response.status.code(),
        response.reason.escape_ascii(),
        list(response.fields),
        response.length,
        if response.keeps_alive { " keep" } else { " close" },
    )
}

fn list(fields: Fields<'_>) -> String {
    let mut list = String::new();
    for field in fields.iter() {
        write!(list, " {}={}", field.name, field.value.escape_ascii()).unwrap();
    }
    list
}
