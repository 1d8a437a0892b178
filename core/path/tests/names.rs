//! Each rule at its limit; temporary names; names that are one elsewhere.

use semfio_path::{
    MAX_DEPTH, MAX_LEN, MAX_PART, NAMES_LIMIT, Names, NamesError, Policy, Rule, SafeName, fold,
    is_part,
};

const OPEN: Policy = Policy { dot_names: true, hyphen: true };

fn name(name: &str) -> SafeName {
    SafeName::parse(name, OPEN).unwrap_or_else(|error| panic!("{name:?}: {error}"))
}

fn refused(bytes: impl AsRef<[u8]>, policy: Policy) -> Option<(Rule, usize)> {
    SafeName::parse(bytes, policy).err().map(|error| (error.rule, error.offset))
}

#[test]
fn each_rule_refuses_at_the_byte_that_breaks_it() {
    let table: &[(&str, Rule, usize)] = &[
        ("", Rule::Empty, 0),
        ("/", Rule::Absolute, 0),
        ("/etc/passwd", Rule::Absolute, 0),
        ("//server/share", Rule::Absolute, 0),
        ("a//b", Rule::EmptyPart, 2),
        ("a/", Rule::EmptyPart, 2),
        ("a/\u{200B}\u{FEFF}/b", Rule::EmptyPart, 2),
        (".", Rule::DotPart, 0),
        ("..", Rule::DotPart, 0),
        ("a/./b", Rule::DotPart, 2),
        ("a/../b", Rule::DotPart, 2),
        ("a/..", Rule::DotPart, 2),
        ("a/.\u{200D}.\u{AD}/b", Rule::DotPart, 2),
        ("a\0b", Rule::Nul, 1),
        ("a/b\\..\\c", Rule::Backslash, 3),
        ("C:/windows", Rule::Colon, 1),
        ("a.txt:stream", Rule::Colon, 5),
        ("a\u{1}", Rule::Control, 1),
        ("a\u{1F}", Rule::Control, 1),
        ("é\u{7F}", Rule::Control, 2),
        ("é/\u{80}", Rule::Control, 3),
        ("\u{9F}", Rule::Control, 0),
        ("a\u{61C}", Rule::Bidi, 1),
        ("a\u{200E}", Rule::Bidi, 1),
        ("a\u{200F}", Rule::Bidi, 1),
        ("a\u{202A}", Rule::Bidi, 1),
        ("gpj\u{202E}exe", Rule::Bidi, 3),
        ("a\u{2066}", Rule::Bidi, 1),
        ("a\u{2069}", Rule::Bidi, 1),
        ("a.", Rule::Trailing, 1),
        ("a ", Rule::Trailing, 1),
        ("b/... /c", Rule::Trailing, 5),
        ("...", Rule::Trailing, 2),
        (" ", Rule::Trailing, 0),
        ("con", Rule::Device, 0),
        ("a/Prn.txt", Rule::Device, 2),
        ("AUX.tar.gz", Rule::Device, 0),
        ("nul", Rule::Device, 0),
        ("nul .txt", Rule::Device, 0),
        ("COM0", Rule::Device, 0),
        ("com9.x", Rule::Device, 0),
        ("COM¹", Rule::Device, 0),
        ("LPT².log", Rule::Device, 0),
        ("lpt³", Rule::Device, 0),
        ("lpt5", Rule::Device, 0),
        ("CONIN$", Rule::Device, 0),
        ("conout$.txt", Rule::Device, 0),
        ("n\u{AD}ul", Rule::Device, 0),
    ];
    for &(bad, rule, offset) in table {
        assert_eq!(refused(bad, OPEN), Some((rule, offset)), "{bad:?}");
    }
    assert_eq!(refused(b"a\xFFb", OPEN), Some((Rule::Utf8, 1)));
    assert_eq!(refused("é".as_bytes().split_last().unwrap().1, OPEN), Some((Rule::Utf8, 0)));
    assert_eq!(refused(b"\xC0\xAE\xC0\xAE/a", OPEN), Some((Rule::Utf8, 0)), "overlong dots");
}

#[test]
fn what_only_resembles_the_forbidden_is_taken() {
    let fine = [
        "a",
        "a.b",
        "..a",
        "a..b",
        "...a",
        "a b",
        " a",
        "praia.jpg",
        "viagem/são joão.jpg",
        "日本/語",
        "~",
        "con1",
        "xcon",
        "con-",
        "a.con",
        "com",
        "com10",
        "comx",
        "com٣",
        "lpt",
        "lpt-1",
        "coma",
        "aux1.c",
        "conin",
        "conout$$",
        "null",
        "👩\u{200D}💻",
        "\u{A0}",
        "a\u{2028}b",
        "*?<>|\"",
        "-",
        "%2e%2e",
        "a\u{2065}b",
        "a\u{206A}b",
        "\u{2044}",
        "\u{FF0F}",
    ];
    for fine in fine {
        let it = name(fine);
        assert_eq!((it.as_str(), it.to_string()), (fine, fine.to_owned()));
        assert!(it.parts().eq(fine.split('/')));
    }
}

#[test]
fn a_policy_decides_on_dots_and_hyphens() {
    let dots = ["a/.ssh/key", ".a", ".SSH", "\u{200B}.ssh"];
    for dotted in dots {
        let at = dotted.find('/').map_or(0, |slash| slash + 1);
        assert_eq!(refused(dotted, Policy::default()), Some((Rule::DotName, at)), "{dotted:?}");
        assert_eq!(refused(dotted, OPEN), None);
    }
    let careful = Policy { hyphen: false, ..OPEN };
    assert_eq!(refused("a/-rf", careful), Some((Rule::Hyphen, 2)));
    assert_eq!(refused("a/-rf", Policy::default()), None);
    assert_eq!(refused("a-/r-f", careful), None);
    assert_eq!(refused("a.b/c.", Policy::default()), Some((Rule::Trailing, 5)));
}

#[test]
fn lengths_and_depth_are_straddled() {
    let part = "x".repeat(MAX_PART);
    assert_eq!(refused(&part, OPEN), None);
    assert_eq!(refused(format!("{part}x"), OPEN), Some((Rule::PartLength, 255)));
    assert_eq!(refused(format!("a/{part}x/b"), OPEN), Some((Rule::PartLength, 257)));
    let letters = "é".repeat(127);
    assert_eq!(refused(format!("{letters}x"), OPEN), None);
    assert_eq!(refused(format!("{letters}é"), OPEN), Some((Rule::PartLength, 255)), "bytes count");

    let deep = |parts: usize| vec!["a"; parts].join("/");
    assert_eq!(refused(deep(MAX_DEPTH), OPEN), None);
    assert_eq!(refused(deep(MAX_DEPTH + 1), OPEN), Some((Rule::Depth, 64)));

    // 16 parts of 255 with 15 slashes are 4,095 bytes: one more letter needs a part of its own.
    let long = vec![part.as_str(); 16].join("/");
    assert_eq!(long.len(), MAX_LEN - 1);
    assert_eq!(refused(&long, OPEN), None);
    let whole = format!("{}/{}/ab", vec![part.as_str(); 15].join("/"), "y".repeat(253));
    assert_eq!(whole.len(), MAX_LEN);
    assert_eq!(refused(&whole, OPEN), None);
    assert_eq!(refused(format!("{whole}c"), OPEN), Some((Rule::Length, MAX_LEN)));
    assert_eq!(refused(vec![0xFF; 1 << 20], OPEN), Some((Rule::Length, MAX_LEN)));

    let joined = name(&deep(31)).join(&name("b")).unwrap();
    assert_eq!((joined.parts().count(), joined.file_name()), (MAX_DEPTH, "b"));
    let error = joined.join(&name("c")).unwrap_err();
    assert_eq!((error.rule, error.offset), (Rule::Depth, 64));
    assert_eq!(name(&deep(16)).join(&name(&deep(17))).unwrap_err().offset, 64);
    let short = name(&long[..MAX_LEN - 1 - 3]);
    assert_eq!(short.join(&name("ab")).unwrap().as_str().len(), MAX_LEN - 1);
    assert_eq!(short.join(&name("abc")).unwrap().as_str().len(), MAX_LEN);
    assert_eq!(short.join(&name("abcd")).unwrap_err().rule, Rule::Length);
}

#[test]
fn a_name_is_taken_apart_and_joined() {
    let it = name("a/b/c.txt");
    assert_eq!((it.parent(), it.file_name(), it.parts().count()), ("a/b", "c.txt", 3));
    let top = name("c.txt");
    assert_eq!((top.parent(), top.file_name()), ("", "c.txt"));
    assert_eq!(name("a/b").join(&top).unwrap(), it);
    let error = SafeName::parse("a/..", OPEN).unwrap_err();
    assert_eq!(error.to_string(), "the name has . or .. for a part (byte 2)");
}

#[test]
fn a_part_lies_beside_its_file_and_is_known_again() {
    let it = name("viagem/praia.jpg");
    let part = it.part(0x0A2F).unwrap();
    assert_eq!(part.as_str(), "viagem/.praia.jpg.semfio-0a2f.part");
    assert_eq!(it.tag_of(part.file_name()), Some(0x0A2F));
    assert_eq!(it.part_prefix(), ".praia.jpg.semfio-");
    assert!(is_part(part.file_name()));
    assert_eq!(name("viagem/praia.png").tag_of(part.file_name()), None);
    let none = [
        "praia.jpg",
        ".praia.jpg",
        ".praia.jpg.semfio-0a2f.par",
        "praia.jpg.semfio-0a2f.part",
        ".praia.jpg.semfio-0A2F.part",
        ".praia.jpg.semfio-a2f.part",
        ".praia.jpg.semfio-00a2f.part",
        ".praia.jpg.semfio-+a2f.part",
        ".semfio-0a2f.part",
        ".praia.jpg.semfi-0a2f.part",
        ".part",
        "",
    ];
    for none in none {
        assert!(!is_part(none) && it.tag_of(none).is_none(), "{none}");
    }

    // A part of a part, and names that are as long as can be.
    let again = part.part(1).unwrap();
    assert_eq!(part.tag_of(again.file_name()), Some(1));
    let room = MAX_PART - ".".len() - ".semfio-0000.part".len();
    for (long, kept) in [
        ("x".repeat(room), room),
        ("x".repeat(room + 1), room),
        ("x".repeat(MAX_PART), room),
        ("é".repeat(127), room - room % 2),
        (format!("x{}", "é".repeat(127)), room - (room + 1) % 2),
        ("👩".repeat(63), room - room % 4),
    ] {
        let long = name(&long);
        let part = long.part(0xFFFF).unwrap();
        assert_eq!(part.as_str().len(), kept + MAX_PART - room, "{long}");
        assert!(part.file_name().len() <= MAX_PART);
        assert_eq!(long.tag_of(part.file_name()), Some(0xFFFF));
        assert_eq!(name(part.as_str()), part, "it is a safe name itself");
    }
    let whole = format!("{}/{}/ab", vec!["z".repeat(MAX_PART); 15].join("/"), "y".repeat(253));
    assert_eq!(name(&whole).part(0).unwrap_err().rule, Rule::Length);
}

#[test]
fn names_that_are_one_elsewhere_are_told() {
    let clash = |first: &str, second: &str| {
        let mut names = Names::default();
        names.insert(&name(first)).unwrap();
        names.insert(&name(second)).err()
    };
    let taken = |offset, spelled: &str| {
        let spelled = spelled.into();
        Some(NamesError::Taken { offset, spelled })
    };
    assert_eq!(clash("a", "b"), None);
    assert_eq!(clash("a/x", "a/y"), None);
    assert_eq!(clash("a/x", "b/x"), None);
    assert_eq!(clash("a b", "ab"), None);
    assert_eq!(clash("a/b", "ab"), None);
    assert_eq!(clash("e", "é"), None, "an accent is not case");
    assert_eq!(clash("a", "a"), taken(0, "a"), "twice");
    assert_eq!(clash("README", "Readme"), taken(0, "README"));
    assert_eq!(clash("x/Praça.txt", "x/PRAÇA.TXT"), taken(2, "Praça.txt"));
    assert_eq!(clash("caf\u{E9}", "cafe\u{301}"), taken(0, "caf\u{E9}"), "NFC and NFD");
    assert_eq!(
        clash("\u{1E69}", "s\u{307}\u{323}"),
        taken(0, "\u{1E69}"),
        "marks in another order"
    );
    assert_eq!(clash("\u{212B}", "\u{E5}"), taken(0, "\u{212B}"), "Ångström");
    assert_eq!(clash("straße", "STRASSE"), taken(0, "straße"));
    assert_eq!(clash("ẞ", "ß"), taken(0, "ẞ"));
    assert_eq!(clash("ΣΑΣ", "σας"), taken(0, "ΣΑΣ"));
    assert_eq!(clash("\u{13A0}", "\u{AB70}"), taken(0, "\u{13A0}"), "Cherokee");
    assert_eq!(clash("a\u{200D}b", "ab"), taken(0, "a\u{200D}b"), "what is not seen");
    assert_eq!(clash("\u{1FB4}", "α\u{345}\u{301}"), taken(0, "\u{1FB4}"), "a mark with a capital");
    let blocked = "a\u{301}\u{34F}\u{323}";
    assert_eq!(clash(blocked, "a\u{323}\u{301}"), taken(0, blocked), "marks kept apart unseen");
    assert_eq!(clash("a/x", "A/y"), taken(0, "a"), "folders");
    assert_eq!(clash("z/a", "z/a/b"), taken(2, "a"), "a file and a folder");
    assert_eq!(clash("z/a/b", "z/a"), taken(2, "a"));
    assert_eq!(clash("z/A/b", "z/a"), taken(2, "A"));

    let mut names = Names::default();
    names.insert(&name("a")).unwrap();
    names.insert(&name("b/c/A")).unwrap();
    assert!(names.insert(&name("b/d/e/f")).is_ok());
    assert!(names.insert(&name("q/a/A")).is_ok());
    let before = format!("{names:?}");
    assert!(names.insert(&name("b/D/new")).is_err());
    assert_eq!(format!("{names:?}"), before, "a refused name changes nothing");
}

#[test]
fn the_names_of_a_transfer_are_bounded() {
    let mut names = Names::default();
    // Each counts its part twice and 64: 512 bytes, so that the last one fits exactly.
    let file = |number: usize| name(&format!("{number:0>224}"));
    for number in 0..NAMES_LIMIT / 512 {
        names.insert(&file(number)).unwrap();
    }
    assert_eq!(names.insert(&name("z")), Err(NamesError::Full));
    assert!(matches!(names.insert(&file(0)), Err(NamesError::Taken { offset: 0, .. })));
}

/// Letters of Unicode 18, which the oracle knows and the compiler's tables may not.
const NEW: &[char] = &[
    '\u{A7DD}',
    '\u{A7E2}',
    '\u{AB6C}',
    '\u{AB6D}',
    '\u{1DF40}',
    '\u{1DF48}',
    '\u{1DF4A}',
    '\u{1DF4D}',
    '\u{1DF51}',
    '\u{1DF68}',
    '\u{1DF6A}',
    '\u{1DF6C}',
    '\u{1DF6E}',
    '\u{1DF72}',
    '\u{1DF74}',
    '\u{1DF76}',
    '\u{1DF78}',
    '\u{1DF7A}',
    '\u{1DF7C}',
    '\u{1DF7E}',
    '\u{1DF95}',
];

/// Letters of the first two planes: no others have case.
#[test]
fn folding_holds_all_that_unicode_folds() {
    let folded = |c: char| fold(&c.to_string());
    let mut firsts = std::collections::BTreeMap::new();
    for c in ('\0'..='\u{1FFFF}').filter(|c| *c != '/' && !NEW.contains(c)) {
        let ours = folded(c);
        assert!(!ours.contains('/'), "{c:?}");
        assert_eq!(fold(&ours), ours, "{c:?} folded twice");
        let theirs: String = unicase::UniCase::unicode(c.to_string()).to_folded_case();
        assert_eq!(fold(&theirs), ours, "{c:?} and what Unicode folds it to");
        if let Some(first) = firsts.insert(theirs, c) {
            assert_eq!(folded(first), ours, "{first:?} and {c:?}");
        }
    }
}

#[test]
fn to_read_a_file_only_what_leads_out_or_deceives_is_refused() {
    for name in ["10:00", "c:x", "nul", "aux.js", "COM1", "a.", "a ", "a/b./c", "..."] {
        assert!(SafeName::parse(name, OPEN).is_err(), "{name:?}");
        assert_eq!(SafeName::parse_to_read(name, OPEN).unwrap().as_str(), name);
    }
    for name in [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a\\b",
        "a\0",
        "a\n",
        "\u{202E}a",
        "\u{200B}",
        ".\u{200B}.",
    ] {
        let error = SafeName::parse(name, OPEN).unwrap_err();
        assert_eq!(SafeName::parse_to_read(name, OPEN), Err(error), "{name:?}");
    }
    assert!(SafeName::parse_to_read(".a", Policy::default()).is_err());
}
