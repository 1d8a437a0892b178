//! Percent-encoding (RFC 3986, 2.1).

use alloc::string::String;
use alloc::vec::Vec;

/// What a part of a path that we write holds as it is: unreserved characters and a few that mean
/// nothing there. No `:`, which would make a relative reference a scheme, no `&` and no quotes, which
/// mean something in HTML.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'(' | b')' | b'+' | b',' | b'=' | b'@'
        )
}

/// Appends `text`, all octets encoded but the plain ones.
pub(crate) fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if is_plain(byte) {
            to.push(char::from(byte));
        } else {
            push(byte, to);
        }
    }
}

/// Appends one octet, encoded.
pub(crate) fn push(byte: u8, to: &mut String) {
    to.push('%');
    for nibble in [byte >> 4, byte & 0x0F] {
        let digit = char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        to.push(digit.to_ascii_uppercase());
    }
}

/// Decodes once. `None` if a percent sign is not followed by two hexadecimal digits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let ([high, low], after) = rest.split_first_chunk::<2>()?;
            let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
            decoded.push(digit(*high)? << 4 | digit(*low)?);
            rest = after;
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}
