//! What semfio writes, read by Python's own library, and the other way round.

use std::io::Write as _;
use std::process::{Command, Stdio};

use semfio_http::{
    ByteRange, ByteRanges, Gzip, HttpDate, Listing, Located, LogForm, LogLine, PageForm, Piece,
    Status, Url, Version,
};
use semfio_machine::{Entry, FileKind, Metadata, UnixTime};
use semfio_tests::installed;
use serde_json::{Value, json};

/// Python's answers to these cases, or nothing where it is not there.
fn asked(cases: &[Value]) -> Option<Vec<Value>> {
    if !installed(&["python3"]) {
        return None;
    }
    let mut child = Command::new("python3")
        .args(["-c", include_str!("values.py")])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    // Its answers may fill their pipe before all is asked.
    let asking = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    asking.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len());
    Some(answers)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers without an order, the same each time.
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 7_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    })
}

#[test]
fn gzip_is_unzipped() {
    let noise: Vec<u8> = numbers().map(|it| it as u8).take(100_000).collect();
    let text = "so many words, so many times. ".repeat(4_000).into_bytes();
    let bodies = [vec![], vec![0], text, noise];
    let cases: Vec<_> = bodies
        .iter()
        .map(|body| {
            let (mut gzip, mut out) = (Gzip::new(), Vec::new());
            body.chunks(4_096).for_each(|piece| gzip.write(piece, &mut out));
            gzip.finish(&mut out);
            json!({"kind": "gzip", "body": hex(&out)})
        })
        .collect();
    let Some(answers) = asked(&cases) else { return };
    for (answer, body) in answers.iter().zip(&bodies) {
        assert!(answer.as_str().unwrap() == hex(body), "{} bytes", body.len());
    }
}

#[test]
fn parts_of_a_file_are_taken_apart() {
    let noise: Vec<u8> = numbers().map(|it| it as u8).take(5_000).collect();
    // Much of it looks like a boundary, or like the end of a line.
    let text: Vec<u8> = numbers().map(|it| b"\r\n-0a"[it as usize % 5]).take(5_000).collect();
    let range = |offset, len| ByteRange { offset, len };
    let ranges = [range(4_000, 1_000), range(0, 1), range(500, 300), range(2_000, 2)];
    let mut cases = Vec::new();
    let mut right = Vec::new();
    for file in [noise, text] {
        let parts = ByteRanges::new(ranges.to_vec(), 5_000, "image/png", 0xF0E1);
        let octets = |it: &ByteRange| &file[it.offset as usize..][..it.len as usize];
        let pieces = (0..).map_while(|n| parts.piece(n)).flat_map(|piece| match piece {
            Piece::Text(text) => text.into_bytes(),
            Piece::Range(range) => octets(&range).to_vec(),
        });
        let body: Vec<u8> = pieces.collect();
        cases.push(json!({"kind": "parts", "type": parts.content_type(), "body": hex(&body)}));
        let part = |it: ByteRange| json!(["image/png", it.content_range(5_000), hex(octets(&it))]);
        right.push(Value::from_iter(ranges.map(part)));
    }
    let Some(answers) = asked(&cases) else { return };
    assert!(answers == right);
}

#[test]
fn dates_are_the_same_ones() {
    let times: Vec<u64> =
        numbers().take(500).map(|it| it * 7).filter(|it| *it < 7_258_118_400).collect();
    let text = |at: u64| HttpDate::new(UnixTime::from_secs(at)).to_string();
    let ours = times.iter().map(|at| json!({"kind": "date", "text": text(*at)}));
    let theirs = times.iter().map(|at| json!({"kind": "dates", "at": at}));
    let Some(answers) = asked(&ours.chain(theirs).collect::<Vec<_>>()) else { return };
    let (read, written) = answers.split_at(times.len());
    for ((at, read), written) in times.iter().zip(read).zip(written) {
        assert_eq!(read.as_f64(), Some(*at as f64));
        for form in written.as_array().unwrap() {
            let form = form.as_str().unwrap();
            let parsed = HttpDate::parse(form.as_bytes(), UnixTime::from_secs(*at));
            assert_eq!(parsed, Some(UnixTime::from_secs(*at)), "{form}");
        }
    }
}

#[test]
fn references_lead_to_the_same_place() {
    let base = "http://h/a/b/c?d";
    let mut references = Vec::new();
    let mut numbers = numbers();
    while references.len() < 2_000 {
        let len = numbers.next().unwrap() as usize % 9 + 1;
        let reference: String = numbers
            .by_ref()
            .take(len)
            .map(|it| [".", "..", "/", "/", "g", "?y", "~", "%2e"][it as usize % 8])
            .collect();
        // Python takes empty parts out of paths, and sees no difference between no query and an empty
        // one.
        if !reference.contains("//") {
            references.push(reference);
        }
    }
    let case = |it| json!({"kind": "join", "base": base, "reference": it});
    let Some(answers) = asked(&references.iter().map(case).collect::<Vec<_>>()) else { return };
    let base = Url::parse(base).unwrap();
    for (reference, answer) in references.iter().zip(answers) {
        let ours = base.join(reference.as_bytes()).unwrap().to_string();
        assert_eq!(Some(&*ours), answer.as_str(), "{reference}");
    }
}

/// Names that try to be something else.
const NAMES: &[&str] = &[
    "plain.txt",
    "a b",
    " blank",
    "a\"b",
    "it's",
    "<script>alert(1)",
    "<b>\"><b>",
    "a&amp;b",
    "&lt;",
    "%41",
    "%2e%2e",
    "a?b#c",
    "http:x",
    "javascript:alert(1)",
    "data:text",
    "é",
    "日本語",
    "🐟",
    "-->",
    "{{x}}",
    "~",
];

#[test]
fn a_listing_holds_the_names_and_nothing_else() {
    let metadata =
        Metadata { len: 7, modified: UnixTime::from_secs(1), kind: FileKind::File, stamp: 0 };
    let entries: Vec<_> = NAMES.iter().map(|it| Entry { name: (*it).into(), metadata }).collect();
    let folder = Located::new("/x%3Cy/z%26/", false).unwrap();
    let page = |form| {
        let mut listing = Listing::new(&folder, form, None, false);
        listing.take(&entries);
        listing.end();
        let mut out = String::new();
        while listing.write(&mut out) {}
        out
    };
    let cases = [
        json!({"kind": "page", "html": page(PageForm::Html), "base": "/x%3Cy/z%26/"}),
        json!({"kind": "json", "text": page(PageForm::Json)}),
    ];
    let Some(answers) = asked(&cases) else { return };
    let mut names: Vec<_> = NAMES.to_vec();
    names.sort();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let html = &answers[0];
    let (paths, shown) = (texts(&html["paths"]), texts(&html["texts"]));
    // Two ancestors, three headings, the folder above.
    assert_eq!(paths[..6], ["/", "/x<y/", "/x<y/z&/", "/x<y/z&/", "/x<y/z&/", "/x<y/"]);
    assert_eq!(shown[..2], ["/", "x<y/"]);
    for (path, name) in paths[6..].iter().zip(&shown[6..]) {
        assert_eq!(path, &format!("/x<y/z&/{name}"));
    }
    let mut listed = shown[6..].to_vec();
    listed.sort();
    assert_eq!(listed, names);
    assert!(!texts(&html["tags"]).iter().any(|tag| tag == "script" || tag == "b"));
    let entries = answers[1]["entries"].as_array().unwrap();
    let mut listed: Vec<_> = entries.iter().map(|it| it["name"].as_str().unwrap()).collect();
    listed.sort();
    assert_eq!(listed, names);
    assert_eq!(answers[1]["path"], "/x<y/z&/");
}

#[test]
fn a_line_of_the_log_is_json() {
    let agents: Vec<Vec<u8>> = (0..200)
        .map(|n| numbers().skip(n * 40).take(40).map(|it| it as u8).collect())
        .chain(NAMES.iter().map(|it| it.as_bytes().to_vec()))
        .collect();
    let case = |agent: &Vec<u8>| {
        let line = LogLine {
            peer: None,
            at: UnixTime::from_secs(1),
            method: "GET",
            target: b"/",
            version: Version::Http11,
            authority: "h",
            status: Status::OK,
            sent: 3,
            referer: None,
            agent: Some(agent),
            took: std::time::Duration::ZERO,
        };
        let mut text = String::new();
        line.write(LogForm::Json, &mut text);
        json!({"kind": "json", "text": text})
    };
    let Some(answers) = asked(&agents.iter().map(case).collect::<Vec<_>>()) else { return };
    for (agent, answer) in agents.iter().zip(answers) {
        assert_eq!((&answer["status"], &answer["sent"]), (&json!(200), &json!(3)));
        if let Ok(text) = std::str::from_utf8(agent) {
            assert_eq!(answer["agent"], text);
        }
    }
}
