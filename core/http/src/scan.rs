//! Classes of octets, and how far they reach.

/// How many octets at the front are of a token (RFC 9110, 5.6.2).
#[inline]
pub(crate) fn token(bytes: &[u8]) -> usize {
    of_class(bytes, TOKEN)
}

/// How many octets at the front may stand in a request target unseen: visible ASCII but `#` and `%`.
#[inline]
pub(crate) fn target(bytes: &[u8]) -> usize {
    reach(
        bytes,
        |octet| (b'&'..=b'~').contains(&octet),
        |eight| !within(eight, b'&', b'~'),
        is_plain,
    )
}

/// How many octets at the front may be of a host's name (RFC 3986, 3.2.2), percent signs unseen.
#[inline]
pub(crate) fn host(bytes: &[u8]) -> usize {
    of_class(bytes, HOST)
}

/// How many octets at the front are of a field's value: no control characters but the tab
/// (RFC 9110, 5.5).
#[inline(always)]
pub(crate) fn text(bytes: &[u8]) -> usize {
    let usual = |octet| (octet >= b' ') & (octet != 0x7F);
    reach(bytes, usual, |eight| !within(eight, b' ', b'~') & !eight, is_text)
}

/// The octets at the front of which `usual` or `is_in` is true. `usual` is asked of sixteen octets
/// together, which a compiler makes one question if it has no branches; `unusual` is the opposite,
/// asked of eight octets in one word, the first one lowest: it sets their highest bits.
#[inline(always)]
fn reach(
    bytes: &[u8],
    usual: impl Fn(u8) -> bool,
    unusual: impl Fn(u64) -> u64,
    is_in: impl Fn(u8) -> bool,
) -> usize {
    let mut rest = bytes;
    loop {
        while let Some((block, after)) = rest.split_first_chunk::<16>() {
            if !block.iter().fold(true, |all, octet| all & usual(*octet)) {
                break;
            }
            rest = after;
        }
        while let Some((eight, after)) = rest.split_first_chunk::<8>() {
            let unusual = unusual(u64::from_le_bytes(*eight)) & EACH.wrapping_mul(0x80);
            if unusual != 0 {
                let before = usize::try_from(unusual.trailing_zeros() / 8).unwrap_or_default();
                rest = rest.get(before..).unwrap_or_default();
                break;
            }
            rest = after;
        }
        match rest {
            [octet, after @ ..] if is_in(*octet) => rest = after,
            _ => return bytes.len().saturating_sub(rest.len()),
        }
    }
}

/// One in each of eight octets.
const EACH: u64 = u64::MAX / 0xFF;

/// The highest bit of those of eight octets that are from `low` to `high`, both below 0x80.
#[inline]
const fn within(eight: u64, low: u8, high: u8) -> u64 {
    let rest = eight & EACH.wrapping_mul(0x7F);
    // No sum exceeds its octet.
    let not_below = rest.wrapping_add(EACH.wrapping_mul(0x80u64.wrapping_sub(low as u64)));
    let above = rest.wrapping_add(EACH.wrapping_mul(0x7Fu64.wrapping_sub(high as u64)));
    not_below & !above & !eight
}

/// A set of octets.
type Class = [bool; 256];

/// The octets at the front that are of a class; for words, which are short.
#[inline]
fn of_class(bytes: &[u8], class: &Class) -> usize {
    let is_in = |octet: u8| class.get(usize::from(octet)).is_some_and(|it| *it);
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        if let Some(at) = eight.iter().position(|octet| !is_in(*octet)) {
            return bytes.len().saturating_sub(rest.len()).saturating_add(at);
        }
        rest = after;
    }
    let at = rest.iter().position(|octet| !is_in(*octet)).unwrap_or(rest.len());
    bytes.len().saturating_sub(rest.len()).saturating_add(at)
}

macro_rules! class {
    ($is_in:ident) => {{
        let mut class: Class = [false; 256];
        let mut octet = 0;
        while octet < class.len() {
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

/// Visible ASCII that says nothing by itself in a target.
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Each octet, wherever in words, blocks and what is left of them it stands.
    fn ends_at(reach: fn(&[u8]) -> usize, is_in: fn(u8) -> bool, usual: u8) {
        for len in 0..40 {
            for at in 0..len {
                for octet in 0..=u8::MAX {
                    let mut bytes = vec![usual; len];
                    bytes[at] = octet;
                    let end = if is_in(octet) { len } else { at };
                    assert_eq!(reach(&bytes), end, "{octet:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn every_octet_at_every_place() {
        ends_at(token, is_tchar, b'a');
        ends_at(target, is_plain, b'/');
        ends_at(host, is_in_host, b'1');
        ends_at(text, is_text, b' ');
        ends_at(text, is_text, b'\t');
        ends_at(text, is_text, 0xFF);
    }

    #[test]
    fn classes_are_those_of_the_grammar() {
        let all = |is_in: fn(u8) -> bool| (0..=u8::MAX).filter(|octet| is_in(*octet)).count();
        assert_eq!(all(is_tchar), 15 + 10 + 52);
        assert_eq!(all(is_plain), 94 - 2);
        assert_eq!(all(is_in_host), 10 + 52 + 4 + 1 + 10);
        assert_eq!(all(is_text), 256 - 32 - 1 + 1);
        assert!(b"\"(),/:;<=>?@[\\]{} \t".iter().all(|octet| !is_tchar(*octet)));
    }
}
