//! Classes of octets, and how far they reach.

/// How many octets at the front are of a token (RFC 9110, 5.6.2).
#[inline]
pub(crate) fn token(bytes: &[u8]) -> usize {
    reach(bytes, TOKEN)
}

/// How many octets at the front may stand in a request target unseen: visible ASCII but `#` and `%`.
#[inline]
pub(crate) fn target(bytes: &[u8]) -> usize {
    reach(bytes, TARGET)
}

/// How many octets at the front may be of a host's name (RFC 3986, 3.2.2), percent signs unseen.
#[inline]
pub(crate) fn host(bytes: &[u8]) -> usize {
    reach(bytes, HOST)
}

/// How many octets at the front are of a field's value: no control characters but the tab
/// (RFC 9110, 5.5).
#[inline]
pub(crate) fn text(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        while let Some((eight, after)) = rest.split_first_chunk::<8>() {
            let controls = controls(u64::from_le_bytes(*eight));
            if controls != 0 {
                // Eight bits an octet, the first one lowest.
                let clear = usize::try_from(controls.trailing_zeros() / 8).unwrap_or_default();
                rest = rest.get(clear..).unwrap_or_default();
                break;
            }
            rest = after;
        }
        match rest {
            [octet, after @ ..] if is_text(*octet) => rest = after,
            _ => return bytes.len().saturating_sub(rest.len()),
        }
    }
}

/// The highest bit of the first octet that is a control character; that of some behind it too.
#[inline]
const fn controls(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xFF;
    let below_blank = eight.wrapping_sub(EACH.wrapping_mul(0x20)) & !eight;
    let delete = eight ^ EACH.wrapping_mul(0x7F);
    let is_delete = delete.wrapping_sub(EACH) & !delete;
    (below_blank | is_delete) & EACH.wrapping_mul(0x80)
}

/// A set of octets.
type Class = [bool; 256];

#[inline]
fn reach(bytes: &[u8], class: &Class) -> usize {
    let is_in = |octet: u8| class.get(usize::from(octet)).is_some_and(|it| *it);
    bytes.iter().position(|octet| !is_in(*octet)).unwrap_or(bytes.len())
}

/// The class of the octets that a predicate is true of.
macro_rules! class {
    ($is_in:expr) => {{
        let mut class = [false; 256];
        let mut octet = 0;
        while octet < 256 {
            #[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "constant")]
            {
                class[octet] = $is_in(octet as u8);
                octet += 1;
            }
        }
        class
    }};
}

const TOKEN: &Class = &class!(is_tchar);
const TARGET: &Class = &class!(is_plain);
const HOST: &Class = &class!(is_in_host);

/// A character of a token (RFC 9110, 5.6.2).
pub(crate) const fn is_tchar(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// An octet of a field value: blank, tab, visible, or above 0x7F (RFC 9110, 5.5).
pub(crate) const fn is_text(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7F)
}

/// An octet of a target that says nothing by itself.
const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'#' | b'%')
}

/// Unreserved, a percent sign, or a delimiter that is no comma.
const fn is_in_host(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'%')
        || matches!(octet, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

/// Without the blanks and tabs around it (OWS, RFC 9110, 5.6.3).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
