//! What a person types: a text, or a slash and a word.

use crate::text::{BadText, check_nick, check_room, check_text};

/// A typed line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed<'t> {
    /// Nothing.
    Nothing,
    /// To the present room.
    Text(&'t str),
    /// `/me does something`: an action, to the present room.
    Action(&'t str),
    /// `/msg nick text`: to one member alone.
    Private(&'t str, &'t str),
    /// `/nick name`.
    Nick(&'t str),
    /// `/join room`, which becomes the present room.
    Join(&'t str),
    /// `/part [room]`, the present room if none is named.
    Part(Option<&'t str>),
    /// `/who [room]`.
    Who(Option<&'t str>),
    /// `/history [from]`: what the room still keeps from this sequence number on.
    History(u64),
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
}

/// Why a typed line makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadCommand {
    /// No such word after the slash.
    Unknown,
    /// What must follow the word is missing or wrong; how it is used.
    Usage(&'static str),
    /// A text or a name is refused.
    Text(BadText),
}

impl core::fmt::Display for BadCommand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown command; /help lists them"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
            Self::Text(bad) => write!(f, "refused: {bad}"),
        }
    }
}

impl core::error::Error for BadCommand {}

impl From<BadText> for BadCommand {
    fn from(bad: BadText) -> Self {
        Self::Text(bad)
    }
}

/// What `/help` answers.
pub const HELP: &[&str] = &[
    "/nick NAME       take another name",
    "/join ROOM       enter a room and speak there",
    "/part [ROOM]     leave a room",
    "/me DOES         say what you do",
    "/msg NICK TEXT   to one member alone",
    "/who [ROOM]      who is here",
    "/history [FROM]  what the room still keeps",
    "/quit            leave",
    "//TEXT           a text that starts with a slash",
];

/// Understands a line without its end.
pub fn parse(line: &str) -> Result<Typed<'_>, BadCommand> {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(command) = line.strip_prefix('/') else {
        if line.trim().is_empty() {
            return Ok(Typed::Nothing);
        }
        check_text(line)?;
        return Ok(Typed::Text(line));
    };
    if command.starts_with('/') {
        check_text(command)?;
        return Ok(Typed::Text(command));
    }
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    let optional = if rest.is_empty() { None } else { Some(rest) };
    match word {
        "me" => {
            check_text(rest).map_err(|bad| usage_if_empty(bad, "/me DOES"))?;
            Ok(Typed::Action(rest))
        }
        "msg" => {
            let (nick, text) = rest.split_once(' ').ok_or(BadCommand::Usage("/msg NICK TEXT"))?;
            check_nick(nick)?;
            let text = text.trim_start();
            check_text(text)?;
            Ok(Typed::Private(nick, text))
        }
        "nick" => {
            check_nick(rest).map_err(|bad| usage_if_empty(bad, "/nick NAME"))?;
            Ok(Typed::Nick(rest))
        }
        "join" => {
            check_room(rest).map_err(|bad| usage_if_empty(bad, "/join ROOM"))?;
            Ok(Typed::Join(rest))
        }
        "part" => {
            optional.map_or(Ok(()), check_room)?;
            Ok(Typed::Part(optional))
        }
        "who" => {
            optional.map_or(Ok(()), check_room)?;
            Ok(Typed::Who(optional))
        }
        "history" => match optional.map(str::parse) {
            None => Ok(Typed::History(0)),
            Some(Ok(from)) => Ok(Typed::History(from)),
            Some(Err(_)) => Err(BadCommand::Usage("/history [FROM], a sequence number")),
        },
        "help" => Ok(Typed::Help),
        "quit" => Ok(Typed::Quit),
        _ => Err(BadCommand::Unknown),
    }
}

fn usage_if_empty(bad: BadText, usage: &'static str) -> BadCommand {
    if bad == BadText::Empty { BadCommand::Usage(usage) } else { BadCommand::Text(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        let cases = [
            ("", Typed::Nothing),
            ("  ", Typed::Nothing),
            ("oi\r", Typed::Text("oi")),
            ("//etc", Typed::Text("/etc")),
            ("/me waves", Typed::Action("waves")),
            ("/msg ana oi ana", Typed::Private("ana", "oi ana")),
            ("/nick bia", Typed::Nick("bia")),
            ("/join sala", Typed::Join("sala")),
            ("/part", Typed::Part(None)),
            ("/part sala", Typed::Part(Some("sala"))),
            ("/who", Typed::Who(None)),
            ("/history", Typed::History(0)),
            ("/history 17", Typed::History(17)),
            ("/help", Typed::Help),
            ("/quit", Typed::Quit),
        ];
        for (line, typed) in cases {
            assert_eq!(parse(line), Ok(typed), "{line:?}");
        }
        assert_eq!(parse("/dance"), Err(BadCommand::Unknown));
        assert!(matches!(parse("/nick"), Err(BadCommand::Usage(_))));
        assert!(matches!(parse("/msg ana"), Err(BadCommand::Usage(_))));
        assert!(matches!(parse("/history soon"), Err(BadCommand::Usage(_))));
        assert_eq!(parse("\x1b[2J"), Err(BadCommand::Text(BadText::Control)));
    }
}
