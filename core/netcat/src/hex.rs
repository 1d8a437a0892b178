//! Bytes as people read them who look for what is not text.

use alloc::string::String;
use core::fmt::Write as _;

/// Bytes in a line.
const WIDTH: usize = 16;

/// Turns a stream into lines of offset, octets and text, the same however it is cut.
///
/// ```
/// let mut dump = semfio_netcat::HexDump::new("< ");
/// let mut lines = Vec::new();
/// dump.put(b"ol\xc3\xa1\n", &mut |line| lines.push(line.to_owned()));
/// assert!(lines.is_empty()); // not a whole line yet
/// dump.flush(&mut |line| lines.push(line.to_owned()));
/// assert_eq!(lines, ["< 00000000  6f 6c c3 a1 0a                                    |ol...|"]);
/// ```
#[derive(Clone, Debug)]
pub struct HexDump {
    mark: &'static str,
    offset: u64,
    line: [u8; WIDTH],
    held: usize,
}

impl HexDump {
    /// A view of a stream of which nothing has come; each line begins with `mark`.
    pub fn new(mark: &'static str) -> Self {
        Self { mark, offset: 0, line: [0; WIDTH], held: 0 }
    }

    /// Takes more of the stream, and gives the lines that are full.
    pub fn put(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            if let Some(place) = self.line.get_mut(self.held) {
                *place = byte;
                self.held = self.held.saturating_add(1);
            }
            if self.held == WIDTH {
                self.flush(line);
            }
        }
    }

    /// Gives what is held as a shorter line: a message ends here.
    pub fn flush(&mut self, line: &mut dyn FnMut(&str)) {
        let held = self.line.get(..self.held).unwrap_or_default();
        if held.is_empty() {
            return;
        }
        let mut text = String::with_capacity(96);
        // Writing to a string does not fail.
        let _ = write!(text, "{}{:08x} ", self.mark, self.offset);
        for place in 0..WIDTH {
            if place % 8 == 0 {
                text.push(' ');
            }
            let _ = match held.get(place) {
                Some(byte) => write!(text, "{byte:02x} "),
                None => write!(text, "   "),
            };
        }
        text.push_str(" |");
        let shown = |&byte: &u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' };
        text.extend(held.iter().map(shown));
        text.push('|');
        line(&text);
        self.offset = self.offset.saturating_add(self.held as u64);
        self.held = 0;
    }
}
