//! How a peer speaks, told from its first bytes.

/// What a framed peer sends first, each side once: 0xFF, "semfio", version 1.
pub const PREFACE: [u8; 8] = *b"\xFFsemfio\x01";

/// The ways to speak. The first three are told apart on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Preface, then frames.
    Framed,
    /// Lines that end in LF or CR LF, in UTF-8: netcat, telnet.
    Line,
    /// No borders: a read is a message.
    Raw,
    /// Fernet tokens without borders, as the course's secure chat has them. Its server speaks first, so
    /// that bytes cannot tell: only a listener that is there for it speaks it.
    Token,
}

/// Tells a dialect from the bytes so far, if they are enough.
///
/// 0xFF opens a preface, unless a telnet command octet (RFC 854: 0xF0 and above) follows; a line
/// feed marks lines. Without either, only time can tell: what stays without a line feed for
/// a while is raw.
pub fn detect(bytes: &[u8]) -> Option<Dialect> {
    match bytes {
        [0xFF] => None,
        [0xFF, 0xF0..=0xFF, ..] => Some(Dialect::Line),
        [0xFF, ..] => Some(Dialect::Framed),
        _ => memchr::memchr(b'\n', bytes).map(|_| Dialect::Line),
    }
}

/// Removes telnet commands (RFC 854, RFC 855) from a line in place, and gives what is left.
///
/// Options are not answered, which a telnet client takes as a refusal. An escaped 0xFF stays one
/// octet 0xFF.
pub fn strip_telnet(line: &mut [u8]) -> &mut [u8] {
    if memchr::memchr(0xFF, line).is_none() {
        return line;
    }
    let (mut from, mut to) = (0_usize, 0_usize);
    while let Some(&octet) = line.get(from) {
        let command = if octet == 0xFF { line.get(from.saturating_add(1)).copied() } else { None };
        let step = match command {
            Some(0xFA) => {
                let rest = line.get(from..).unwrap_or_default();
                memchr::memmem::find(rest, b"\xFF\xF0").map_or(rest.len(), |n| n.saturating_add(2))
            }
            Some(0xFB..=0xFE) => 3,
            Some(0xF0..=0xF9) => 2,
            other => {
                if let Some(slot) = line.get_mut(to) {
                    *slot = octet;
                    to = to.saturating_add(1);
                }
                if other == Some(0xFF) { 2 } else { 1 }
            }
        };
        from = from.saturating_add(step);
    }
    line.get_mut(..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        assert_eq!(detect(b""), None);
        assert_eq!(detect(b"\xFF"), None);
        assert_eq!(detect(b"\xFFs"), Some(Dialect::Framed));
        assert_eq!(detect(&PREFACE), Some(Dialect::Framed));
        assert_eq!(detect(b"\xFF\xFB\x1F"), Some(Dialect::Line));
        assert_eq!(detect(b"oi"), None);
        assert_eq!(detect(b"oi\nx"), Some(Dialect::Line));
    }

    #[test]
    fn telnet_commands_leave_the_text() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"plain", b"plain"),
            (b"\xFF\xFB\x1Foi", b"oi"),
            (b"a\xFF\xF1b", b"ab"),
            (b"a\xFF\xFA\x18\x00xterm\xFF\xF0b", b"ab"),
            (b"a\xFF\xFA never closed", b"a"),
            (b"a\xFF\xFFb\xFF", b"a\xFFb\xFF"),
        ];
        for (line, text) in cases {
            let mut bytes = [0; 32];
            let bytes = &mut bytes[..line.len()];
            bytes.copy_from_slice(line);
            assert_eq!(strip_telnet(bytes), text);
        }
    }
}
