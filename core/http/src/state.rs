//! Where the two sides of a connection are, as tables.
//!
//! Both machines run these tables, each for itself *and* for its peer: what is sent and what comes
//! are [`Act`]s of one [`Side`] or the other, and an act that is in no row is a mistake of whoever
//! makes it. The picture in `docs/http-states.md` is drawn from them ([`diagram`]).

use alloc::string::String;
use core::fmt::Write;

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// It sends requests.
    Client,
    /// It sends responses.
    Server,
}

/// Where one side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Between messages.
    Idle,
    /// Server: it has a request to answer.
    SendResponse,
    /// Its head is sent, its content may follow.
    SendBody,
    /// Its message is complete; the other one's is not.
    Done,
    /// Client: it has proposed another protocol, and says nothing until that is decided.
    MightSwitch,
    /// Another protocol is spoken from here on.
    Switched,
    /// Its message is complete and was the last one.
    MustClose,
    /// It has ended its direction.
    Closed,
    /// It broke the protocol, or was too slow.
    Error,
}

/// What one side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// The head of a request.
    Request,
    /// An interim response.
    Inform,
    /// The head of a final response.
    Response,
    /// A piece of content.
    Data,
    /// The end of a message.
    End,
    /// 101, or 2xx to CONNECT.
    Switch,
    /// The end of its direction.
    Close,
    /// A breach of the protocol.
    Break,
}

/// A row of [`OWN`]: `side`, being in `from`, may do `act`, and is in `to` then; if there is a last
/// state, only while the other side is in it.
struct Own(Side, State, Act, State, Option<State>);

/// A row of [`JOINT`]: once the sides are in these states, and it is so with the exchange, they are
/// in the other ones.
struct Joint {
    client: State,
    server: State,
    when: When,
    to: (State, State),
}

/// What else is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Another protocol was proposed in this exchange.
    Proposed,
    /// This exchange is the last one of the connection.
    Last,
}

use Act::{Break, Close, Data, End, Inform, Request, Response, Switch};
use Side::{Client, Server};
use State::{Closed, Done, Error, Idle, MightSwitch, MustClose, SendBody, SendResponse, Switched};

/// What each side may do by itself. `Break` leads to `Error` from everywhere and is not listed. What a
/// client says in `MightSwitch` is the next protocol's or the next request's: nobody looks at it yet.
const OWN: &[Own] = &[
    Own(Client, Idle, Request, SendBody, None),
    Own(Client, Idle, Close, Closed, None),
    Own(Client, SendBody, Data, SendBody, None),
    Own(Client, SendBody, End, Done, None),
    Own(Client, Done, Close, Closed, None),
    Own(Client, MustClose, Close, Closed, None),
    // Unasked: the farewell to one who broke the protocol, or never finished a head.
    Own(Server, Idle, Response, SendBody, Some(Error)),
    Own(Server, Idle, Close, Closed, None),
    Own(Server, SendResponse, Inform, SendResponse, None),
    Own(Server, SendResponse, Response, SendBody, None),
    Own(Server, SendResponse, Switch, Switched, Some(MightSwitch)),
    Own(Server, SendBody, Data, SendBody, None),
    Own(Server, SendBody, End, Done, None),
    Own(Server, Done, Close, Closed, None),
    Own(Server, MustClose, Close, Closed, None),
];

/// What follows from where both are; rows are applied until none fits.
const JOINT: &[Joint] = &[
    // A request is at hand.
    joint(SendBody, Idle, When::Always, SendBody, SendResponse),
    // Once it has said all, the other protocol waits for the server's word: Switch, or any Response.
    joint(Done, SendResponse, When::Proposed, MightSwitch, SendResponse),
    joint(MightSwitch, Switched, When::Always, Switched, Switched),
    joint(MightSwitch, SendBody, When::Always, Done, SendBody),
    // The next exchange, if there is one.
    joint(Done, Done, When::Last, MustClose, MustClose),
    joint(Done, Done, When::Always, Idle, Idle),
    joint(SendBody, Done, When::Last, SendBody, MustClose),
    // One has gone, the other has nobody to talk to.
    joint(Closed, Idle, When::Always, Closed, MustClose),
    joint(Closed, Done, When::Always, Closed, MustClose),
    joint(Error, Done, When::Always, Error, MustClose),
    joint(Idle, Closed, When::Always, MustClose, Closed),
    joint(Done, Closed, When::Always, MustClose, Closed),
    joint(SendBody, Closed, When::Always, MustClose, Closed),
    joint(Idle, Error, When::Always, MustClose, Error),
    joint(Done, Error, When::Always, MustClose, Error),
];

const fn joint(client: State, server: State, when: When, c: State, s: State) -> Joint {
    Joint { client, server, when, to: (c, s) }
}

/// Both sides of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    client: State,
    server: State,
    last: bool,
    proposed: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self { client: Idle, server: Idle, last: false, proposed: false }
    }
}

impl Exchange {
    /// Where the client is.
    pub fn client(&self) -> State {
        self.client
    }

    /// Where the server is.
    pub fn server(&self) -> State {
        self.server
    }

    /// Whether no exchange follows this one.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether another protocol is spoken from here on.
    pub fn is_switched(&self) -> bool {
        self.server == Switched
    }

    /// Both states, client first: `SendBody/SendResponse`.
    pub fn name(&self) -> &'static str {
        NAMES
            .get(self.client as usize)
            .and_then(|names| names.get(self.server as usize))
            .copied()
            .unwrap_or_default()
    }

    /// Whether `side` may do `act` now.
    pub fn permits(&self, side: Side, act: Act) -> bool {
        self.next(side, act).is_some()
    }

    /// `side` does `act`. If it may not, nothing changes and the answer is where it is.
    pub fn act(&mut self, side: Side, act: Act) -> Result<(), State> {
        let Some(to) = self.next(side, act) else {
            return Err(match side {
                Client => self.client,
                Server => self.server,
            });
        };
        match side {
            Client => self.client = to,
            Server => self.server = to,
        }
        let (client, server) = (self.client as usize, self.server as usize);
        let when = usize::from(self.proposed) | usize::from(self.last) << 1;
        let found = FIXED.get(when).and_then(|it| it.get(client)).and_then(|it| it.get(server));
        if let Some(&(client, server)) = found {
            (self.client, self.server) = (client, server);
        }
        if (self.client, self.server) == (Idle, Idle) {
            self.proposed = false;
        }
        Ok(())
    }

    /// No exchange follows this one.
    pub fn set_last(&mut self) {
        self.last = true;
    }

    /// This request proposes another protocol.
    pub fn set_proposed(&mut self) {
        self.proposed = true;
    }

    fn next(&self, side: Side, act: Act) -> Option<State> {
        let (from, other) = match side {
            Client => (self.client, self.server),
            Server => (self.server, self.client),
        };
        let (to, only) = (*NEXT.get(side as usize)?.get(from as usize)?.get(act as usize)?)?;
        only.is_none_or(|only| only == other).then_some(to)
    }
}

const STATES: [State; 9] =
    [Idle, SendResponse, SendBody, Done, MightSwitch, Switched, MustClose, Closed, Error];
const ACTS: usize = 8;

/// Where an act leads to, and in which state of the other side alone, by side, state and act.
type Compiled = [[[Option<(State, Option<State>)>; ACTS]; STATES.len()]; 2];

/// [`OWN`], to be looked up.
const NEXT: &Compiled = &compiled();
/// Where [`JOINT`] leads to, by what is with the exchange (1: proposed, 2: last), client and server.
const FIXED: &[[[(State, State); STATES.len()]; STATES.len()]; 4] = &fixed();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "run by the compiler")]
const fn compiled() -> Compiled {
    let mut next = [[[None; ACTS]; STATES.len()]; 2];
    let mut at = 0;
    while at < OWN.len() {
        let Own(side, from, act, to, only) = OWN[at];
        next[side as usize][from as usize][act as usize] = Some((to, only));
        at += 1;
    }
    let mut at = 0;
    while at < STATES.len() {
        next[0][at][Break as usize] = Some((Error, None));
        next[1][at][Break as usize] = Some((Error, None));
        at += 1;
    }
    next
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "run by the compiler")]
const fn fixed() -> [[[(State, State); STATES.len()]; STATES.len()]; 4] {
    let mut fixed = [[[(Idle, Idle); STATES.len()]; STATES.len()]; 4];
    let mut when = 0;
    while when < 4 {
        let mut client = 0;
        while client < STATES.len() {
            let mut server = 0;
            while server < STATES.len() {
                let mut both = (STATES[client], STATES[server]);
                let mut row = 0;
                while row < JOINT.len() {
                    let it = &JOINT[row];
                    let fits = match it.when {
                        When::Always => true,
                        When::Proposed => when & 1 != 0,
                        When::Last => when & 2 != 0,
                    };
                    let here = it.client as u8 == both.0 as u8 && it.server as u8 == both.1 as u8;
                    row += 1;
                    if fits && here {
                        both = it.to;
                        row = 0;
                    }
                }
                fixed[when][client][server] = both;
                server += 1;
            }
            client += 1;
        }
        when += 1;
    }
    fixed
}

macro_rules! names {
    ([$($client:ident)*] $servers:tt) => { [$(names!(@ $client $servers)),*] };
    (@ $client:ident [$($server:ident)*]) => {
        [$(concat!(stringify!($client), "/", stringify!($server))),*]
    };
}

const NAMES: &[[&str; STATES.len()]; STATES.len()] = &names!(
    [Idle SendResponse SendBody Done MightSwitch Switched MustClose Closed Error]
    [Idle SendResponse SendBody Done MightSwitch Switched MustClose Closed Error]
);

/// Both tables as a picture (Mermaid) and as text, in Markdown.
pub fn diagram() -> String {
    let mut text = String::new();
    // A string takes whatever is written.
    let _ = draw(&mut text);
    text
}

fn draw(f: &mut String) -> core::fmt::Result {
    for side in [Client, Server] {
        writeln!(f, "## {side:?}\n\n```mermaid\nstateDiagram-v2\n    [*] --> Idle")?;
        let other = if side == Client { "server" } else { "client" };
        for Own(_, from, act, to, only) in OWN.iter().filter(|row| row.0 == side) {
            write!(f, "    {from:?} --> {to:?}: {act:?}")?;
            match only {
                Some(state) => writeln!(f, ", {other} in {state:?}")?,
                None => writeln!(f)?,
            }
        }
        for row in JOINT {
            let (from, to, there) = match side {
                Client => (row.client, row.to.0, row.server),
                Server => (row.server, row.to.1, row.client),
            };
            if from != to {
                writeln!(f, "    {from:?} --> {to:?}: {other} in {there:?}{}", row.when.text())?;
            }
        }
        writeln!(f, "```\n")?;
    }
    writeln!(f, "## Together\n\n| client | server | if | client then | server then |")?;
    writeln!(f, "|---|---|---|---|---|")?;
    for Joint { client, server, when, to: (c, s) } in JOINT {
        let when = when.text();
        writeln!(
            f,
            "| {client:?} | {server:?} | {} | {c:?} | {s:?} |",
            when.trim_start_matches(", ")
        )?;
    }
    Ok(())
}

impl When {
    fn text(self) -> &'static str {
        match self {
            Self::Always => "",
            Self::Proposed => ", another protocol was proposed",
            Self::Last => ", no exchange follows",
        }
    }
}
