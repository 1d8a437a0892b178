//! Which names some file system takes for one.

use alloc::string::String;
use unicode_normalization::UnicodeNormalization;

/// What `name` becomes on the strictest of file systems: two names that any of them takes for
/// one fold to the same.
///
/// Canonical decomposition, full case folding, and no characters that are invisible by default,
/// as ext4's casefold feature does it. It is a little coarser than Unicode's own folding: letters
/// that share a capital are one, so `ı` is `i`. At most a few times as long as `name`.
pub fn fold(name: &str) -> String {
    // Lower first, for capitals that are nobody's capital (ẞ); then what shares a capital is one.
    let cased = name.nfd().filter(|&c| !is_ignorable(c));
    let cased = cased.flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    cased.flat_map(char::to_lowercase).nfd().collect()
}

/// Default_Ignorable_Code_Point of Unicode 17: nothing is shown, and some file systems see
/// nothing either.
pub(crate) fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}
