//! No name out of a hostile grammar leads out of its folder, and none that is taken surprises.

use proptest::prelude::*;
use semfio_path::{MAX_DEPTH, MAX_LEN, MAX_PART, Policy, SafeName, is_part};

/// Pieces of names that have led out of somebody's folder, or been written where nobody looked.
fn piece() -> impl Strategy<Value = String> {
    let attacks = prop::sample::select(vec![
        "..",
        ".",
        "...",
        "/",
        "//",
        "\\",
        "\\\\?\\",
        "..\\",
        "../",
        "/..",
        ":",
        "C:",
        "c:\\",
        "::$DATA",
        "\0",
        "\n",
        "\r",
        "\x1b[2J",
        "\u{7F}",
        "\u{85}",
        "\u{9B}",
        "\u{202E}",
        "\u{2066}",
        "\u{200B}",
        "\u{200D}",
        "\u{AD}",
        "\u{FEFF}",
        " ",
        ". ",
        " .",
        "~",
        "-",
        "-rf",
        ".ssh",
        ".SSH",
        "con",
        "NUL",
        "aux.",
        "com1",
        "COM¹",
        "lpt9.txt",
        "CONIN$",
        "\u{2024}\u{2024}",
        "\u{FF0E}\u{FF0E}\u{FF0F}",
        "\u{2215}",
        "\u{2044}",
        "%2e%2e%2f",
        "%00",
        "a",
        "b.txt",
        "é",
        "e\u{301}",
        "日本",
        "etc",
        "passwd",
    ]);
    prop_oneof![
        6 => attacks.prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => (0_usize..300).prop_map(|n| "x".repeat(n)),
    ]
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let between = prop::sample::select(vec!["", "/", "\\"]);
    let pieces = (prop::collection::vec(piece(), 0..8), between)
        .prop_map(|(pieces, between)| pieces.join(between).into_bytes())
        .boxed();
    let deep = (piece(), 0_usize..80).prop_map(|(piece, n)| vec![piece; n].join("/").into_bytes());
    let broken = (pieces.clone(), any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        12 => pieces,
        1 => deep,
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => broken.prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len() + 1);
            bytes.insert(at, byte);
            bytes
        }),
    ]
}

/// Walks as Linux would, and as Windows would, which knows more separators and drops more. Gives
/// how deep the walk ends, or `None` once it has left the folder or read as something else.
fn walk(path: &str, windows: bool) -> Option<usize> {
    let separator = |c: char| c == '/' || (windows && c == '\\');
    if path.starts_with(separator) || path.contains('\0') || (windows && path.contains(':')) {
        return None;
    }
    let mut depth = 0_usize;
    for part in path.split(separator) {
        let part = if windows { part.trim_end_matches(['.', ' ']) } else { part };
        match part {
            "" if windows => return None,
            "" | "." => {}
            ".." => depth = depth.checked_sub(1)?,
            _ => depth += 1,
        }
    }
    Some(depth)
}

fn check(bytes: &[u8], policy: Policy) {
    let name = match SafeName::parse(bytes, policy) {
        Ok(name) => name,
        Err(error) => return assert!(error.offset <= bytes.len(), "{error:?}"),
    };
    let (text, parts) = (name.as_str(), name.parts().count());
    assert_eq!(text.as_bytes(), bytes, "a name is taken as it is");
    assert_eq!(walk(text, false), Some(parts), "{text:?} on Linux");
    assert_eq!(walk(text, true), Some(parts), "{text:?} on Windows");
    // As a file system sees it that does not see what is not shown, as HFS+ does.
    let seen: String =
        text.chars().filter(|c| !"\u{200B}\u{200D}\u{AD}\u{FEFF}".contains(*c)).collect();
    assert_eq!(walk(&seen, false), Some(parts), "{text:?} on HFS+");
    assert!(text.len() <= MAX_LEN && (1..=MAX_DEPTH).contains(&parts));
    assert!(!text.contains(char::is_control) && !text.contains(['\u{202E}', '\u{2066}']));
    for part in name.parts() {
        assert!((1..=MAX_PART).contains(&part.len()));
        assert!(policy.dot_names || !part.starts_with('.'), "{part:?}");
        assert!(policy.hyphen || !part.starts_with('-'), "{part:?}");
        let stem = part.split('.').next().unwrap().trim_end_matches(' ').to_ascii_lowercase();
        let devices = ["con", "nul", "aux", "com1", "com¹", "lpt9", "conin$"];
        assert!(!devices.contains(&&*stem), "{part:?}");
    }
    if let Ok(part) = name.part(7) {
        assert_eq!(part.parent(), name.parent());
        assert!(is_part(part.file_name()) && part.file_name().len() <= MAX_PART);
        assert_eq!(name.tag_of(part.file_name()), Some(7));
        let policy = Policy { dot_names: true, ..policy };
        assert_eq!(SafeName::parse(part.as_str(), policy), Ok(part), "what we make is safe");
    }
}

/// `SEMFIO_NAMES` sets how many names there are.
fn cases() -> u32 {
    std::env::var("SEMFIO_NAMES").map_or(100_000, |names| names.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_name_leads_out(bytes in hostile(), dot_names: bool, hyphen: bool) {
        check(&bytes, Policy { dot_names, hyphen });
    }
}

/// Every text of up to four of the characters that matter, so that nothing depends on luck.
#[test]
fn no_short_name_leads_out() {
    let letters = ["a", ".", "/", "\\", ":", " ", "\0", "\u{200B}", "-"];
    let mut taken = 0;
    for number in 0..letters.len().pow(5) {
        let digit = |place: u32| number / letters.len().pow(place) % letters.len();
        let text: String = (0..5).map(|place| letters[digit(place)]).collect();
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let policy = Policy { dot_names: true, hyphen: true };
            check(&text.as_bytes()[..end], policy);
            taken += usize::from(SafeName::parse(&text[..end], policy).is_ok());
        }
    }
    assert!(taken > 1_000, "{taken}");
}
