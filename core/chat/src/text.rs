//! What may be said, and by whom: the rules for texts, nicks and rooms.

use alloc::string::String;

use crate::wire::MAX_TOKEN;

/// The longest text, in bytes of UTF-8. Four screens; long pastes belong in files.
pub const MAX_TEXT: usize = 16 * 1024;
/// The longest nick, in bytes of UTF-8.
pub const MAX_NICK: usize = 32;
/// The longest room name, in bytes of UTF-8.
pub const MAX_ROOM: usize = 64;

/// Why a text or a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadText {
    /// Nothing is left once blanks are trimmed.
    Empty,
    /// More bytes than the limit.
    TooLong,
    /// A control (C0, DEL, C1) or a bidirectional control: terminals would obey it.
    Control,
    /// A blank inside a name.
    Blank,
}

impl core::fmt::Display for BadText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is too long",
            Self::Control => "it holds control characters",
            Self::Blank => "it holds blanks",
        })
    }
}

impl core::error::Error for BadText {}

/// Judges a text: 1 to [`MAX_TEXT`] bytes, no controls but the tab.
pub fn check_text(text: &str) -> Result<(), BadText> {
    if text.trim().is_empty() {
        return Err(BadText::Empty);
    }
    if text.len() > MAX_TEXT {
        return Err(BadText::TooLong);
    }
    // Plain ASCII is decided without decoding.
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !plain && text.chars().any(|c| c != '\t' && is_control(c)) {
        return Err(BadText::Control);
    }
    Ok(())
}

/// Judges a token: 1 to [`MAX_TOKEN`] octets of base64url, which is all that is known of it.
pub fn check_token(token: &str) -> Result<(), BadText> {
    if token.is_empty() {
        return Err(BadText::Empty);
    }
    if token.len() > MAX_TOKEN {
        return Err(BadText::TooLong);
    }
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=');
    if token.bytes().all(is_base64) { Ok(()) } else { Err(BadText::Control) }
}

/// Judges a nick: 1 to [`MAX_NICK`] bytes, no blanks, no controls.
pub fn check_nick(nick: &str) -> Result<(), BadText> {
    check_name(nick, MAX_NICK)
}

/// Judges a room name: 1 to [`MAX_ROOM`] bytes, no blanks, no controls.
pub fn check_room(room: &str) -> Result<(), BadText> {
    check_name(room, MAX_ROOM)
}

fn check_name(name: &str, limit: usize) -> Result<(), BadText> {
    if name.is_empty() {
        return Err(BadText::Empty);
    }
    if name.len() > limit {
        return Err(BadText::TooLong);
    }
    if name.chars().any(is_control) {
        return Err(BadText::Control);
    }
    if name.chars().any(char::is_whitespace) {
        return Err(BadText::Blank);
    }
    Ok(())
}

/// A name as it is compared: ASCII letters folded to lower case, all else as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folded(String);

impl Folded {
    /// Folds `name`.
    pub fn new(name: &str) -> Self {
        Self(name.to_ascii_lowercase())
    }
}

/// Whether a terminal might obey this character instead of showing it.
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200E}' | '\u{200F}' | '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Bytes of any origin as a text without controls: trailing line ends are dropped, what is not
/// UTF-8 or is a control becomes U+FFFD, and the end is cut at [`MAX_TEXT`]. Nothing is left of
/// line ends alone.
pub fn sanitize(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).chars() {
        let c = if c != '\t' && is_control(c) { char::REPLACEMENT_CHARACTER } else { c };
        if text.len().saturating_add(c.len_utf8()) > MAX_TEXT {
            break;
        }
        text.push(c);
    }
    text
}

/// The longest head of `bytes` that has at most `limit` bytes and does not cut a UTF-8 character;
/// all of `limit` if they are not UTF-8 there.
pub fn head(bytes: &[u8], limit: usize) -> &[u8] {
    let Some((first, rest)) = bytes.split_at_checked(limit) else {
        return bytes;
    };
    let is_tail = |byte: &u8| byte & 0xC0 == 0x80;
    if !rest.first().is_some_and(is_tail) {
        return first;
    }
    let tails = first.iter().rev().take_while(|byte| is_tail(byte)).count();
    let whole = first.len().saturating_sub(tails).saturating_sub(1);
    if tails > 2 || whole == 0 { first } else { first.get(..whole).unwrap_or(first) }
}

/// All of `bytes` in pieces of at most `limit` bytes, each a [`head`] of what is left; one empty piece
/// if there are none.
pub fn pieces(bytes: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    core::iter::from_fn(move || {
        let piece = head(rest?, limit);
        rest = rest?.get(piece.len()..).filter(|rest| !rest.is_empty() && !piece.is_empty());
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn limits_on_both_sides() {
        assert_eq!(check_text(&"x".repeat(MAX_TEXT)), Ok(()));
        assert_eq!(check_text(&"x".repeat(MAX_TEXT + 1)), Err(BadText::TooLong));
        assert_eq!(check_nick(&"n".repeat(MAX_NICK)), Ok(()));
        assert_eq!(check_nick(&"n".repeat(MAX_NICK + 1)), Err(BadText::TooLong));
        assert_eq!(check_room(&"r".repeat(MAX_ROOM)), Ok(()));
        assert_eq!(check_room(&"r".repeat(MAX_ROOM + 1)), Err(BadText::TooLong));
        assert_eq!(check_text(" \t "), Err(BadText::Empty));
        assert_eq!(check_nick(""), Err(BadText::Empty));
    }

    #[test]
    fn controls_are_refused() {
        for bad in ["a\x1b[31m", "a\nb", "\u{9b}31m", "a\u{202E}b", "a\u{2066}b", "\x7f", "a\0"] {
            assert_eq!(check_text(bad), Err(BadText::Control), "{bad:?}");
            assert_eq!(check_nick(bad), Err(BadText::Control), "{bad:?}");
            assert!(!sanitize(bad.as_bytes()).chars().any(is_control), "{bad:?}");
        }
        assert_eq!(check_text("tab\there, olá, 日本, 🦀"), Ok(()));
        assert_eq!(check_nick("two words"), Err(BadText::Blank));
        assert_eq!(check_nick("two\u{a0}words"), Err(BadText::Blank));
    }

    #[test]
    fn folding_is_ascii_only() {
        assert_eq!(Folded::new("ANA"), Folded::new("ana"));
        assert_ne!(Folded::new("ÁNA"), Folded::new("ána"));
    }

    #[test]
    fn a_head_ends_between_characters() {
        assert_eq!(head(b"abc", 2), b"ab");
        assert_eq!(head("aé".as_bytes(), 2), b"a");
        assert_eq!(head("aé".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(head("a🦀b".as_bytes(), 4), b"a");
        assert_eq!(head(b"\x80\x80\x80\x80\x80", 4), b"\x80\x80\x80\x80");
        assert_eq!(head("é".as_bytes(), 1), b"\xc3");
    }

    #[test]
    fn pieces_are_all_of_it() {
        let cut = |text: &'static str, limit| -> alloc::vec::Vec<&'static [u8]> {
            pieces(text.as_bytes(), limit).collect()
        };
        assert_eq!(cut("", 3), [b""]);
        assert_eq!(cut("abc", 3), [b"abc"]);
        assert_eq!(cut("abcd", 3), [&b"abc"[..], b"d"]);
        assert_eq!(cut("aéb", 2), [&b"a"[..], "é".as_bytes(), b"b"]);
    }

    #[test]
    fn sanitizing_keeps_what_is_legal() {
        assert_eq!(sanitize("olá\r\n".as_bytes()), "olá");
        assert_eq!(sanitize(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(
            sanitize("é".repeat(MAX_TEXT).as_bytes()).len(),
            MAX_TEXT.to_string().parse().unwrap()
        );
    }
}
