//! `docs/http-strictness.md`, written from what the tests hold.

use std::fmt::Write as _;
use std::path::Path;

use semfio_corpus::http_rows::{
    Answer, Entry, Force, OUTSIDE, Part, ROWS, Row, SITE, Verdict, Wire,
};
use semfio_http::{Leniency, Rule};

use crate::disagreements::DISAGREEMENTS;
use crate::peer::Who;

const PAGE: &str = "../docs/http-strictness.md";

/// `SEMFIO_BLESS=1 cargo test -p semfio-tests --test http strictness` writes it anew.
#[test]
fn the_page_is_as_the_data() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let written = page();
    if std::env::var("SEMFIO_BLESS").as_deref() == Ok("1") {
        std::fs::write(&path, &written).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(written.lines()).find(|(found, written)| found != written);
    assert!(
        found == written,
        "docs/http-strictness.md is of other data: {differs:?}; see this test"
    );
}

fn page() -> String {
    let mut page = String::from(BEGIN);
    let set = ROWS.iter().filter(|row| row.refuse).count();
    writeln!(
        page,
        "{} rows; nobody should accept the {set} that are marked *, and the engine accepts none",
        ROWS.len()
    )
    .unwrap();
    page.push_str(TABLE);
    for row in ROWS {
        write_row(&mut page, row);
    }
    page.push_str(RESPONSES);
    for row in ROWS {
        let Some((wire, verdict)) = row.response else { continue };
        let (number, sent, answer) = (row.number, sent(&wire), verdict_text(&wire, verdict));
        writeln!(page, "| {number} | {sent} | {answer} |").unwrap();
    }
    page.push_str(FOLDER);
    for (name, entry) in SITE {
        match entry {
            Entry::File(content) => {
                writeln!(page, "- `{name}`, a file: `{}`", content.escape_ascii()).unwrap();
            }
            Entry::Link(to) => writeln!(page, "- `{name}`, a link to `{to}`").unwrap(),
        }
    }
    writeln!(page, "- beside it, and never to be seen: `{}`", OUTSIDE.0).unwrap();
    page.push_str(RULES);
    for rule in Rule::ALL {
        let (name, section, status) = (rule.name(), rule.section(), rule.status().code());
        writeln!(page, "| {name} | {rule} | {section} | {status} |").unwrap();
    }
    page.push_str(LENIENCIES);
    for (name, what) in LENIENT {
        let rows = ROWS.iter().filter(|row| row.leniency == Some(name));
        let rows: Vec<String> = rows.map(|row| row.number.to_string()).collect();
        writeln!(page, "| `{name}` | {what} | {} |", rows.join(", ")).unwrap();
    }
    page.push_str(OTHERS);
    for row in DISAGREEMENTS {
        let who: Vec<&str> = row
            .who
            .iter()
            .map(|who| match who {
                Who::H11 => "h11",
                Who::Httptools => "httptools",
            })
            .collect();
        writeln!(page, "| {} | {} | {} | {} |", who.join(", "), row.what, row.why, row.section)
            .unwrap();
    }
    page
}

fn write_row(page: &mut String, row: &Row) {
    let mark = if row.refuse { " *" } else { "" };
    let force = match row.force {
        Force::Must => "MUST",
        Force::Should => "SHOULD",
        Force::Policy => "ours",
    };
    let engine = verdict_text(&row.request, row.verdict);
    writeln!(
        page,
        "| {}{mark} | {}: {} | {engine} | {} | {} | {force}, {}: {} |",
        row.number,
        row.name,
        sent(&row.request),
        answer(&row.echo),
        answer(&row.serve),
        row.section,
        row.why,
    )
    .unwrap();
}

fn answer(answer: &Answer) -> String {
    let mut text: Vec<String> = answer.statuses.iter().map(u16::to_string).collect();
    if text.is_empty() {
        text.push("none".to_owned());
    }
    text.join(", ") + if answer.kept { "" } else { ", closes" }
}

fn verdict_text(wire: &Wire, verdict: Verdict) -> String {
    match verdict {
        Verdict::Refuses(rule) => format!("{rule} at {}", wire.broken()),
        Verdict::Reads(messages) => {
            let read = messages.iter().map(|message| {
                let keeps = if message.keeps { "" } else { ", the last" };
                let body = match message.body {
                    [] => String::new(),
                    body => format!(", `{}`", body.escape_ascii()),
                };
                format!("reads `{}`{body}{keeps}", message.start)
            });
            read.collect::<Vec<_>>().join("; ")
        }
    }
}

/// As text in a table: escaped, and what is long only named.
fn sent(wire: &Wire) -> String {
    let mut text = escaped(wire.start);
    for part in wire.parts {
        match part {
            Part::Text(part) => text.push_str(&escaped(part)),
            Part::Times(part, n) => write!(text, "({} × {n})", escaped(part)).unwrap(),
            Part::Broken => (),
            Part::End => {
                text.push_str("` and the end");
                return format!("`{text}");
            }
        }
    }
    if text.ends_with("the end") { format!("`{text}") } else { format!("`{text}`") }
}

/// A bar would end the cell.
fn escaped(octets: &[u8]) -> String {
    octets.escape_ascii().to_string().replace('|', "\\x7c").replace('`', "\\x60")
}

const BEGIN: &str = "\
# How strict HTTP is here

Written from the data of the tests (`tests/corpus/src/http_rows`, `tests/http/disagreements.rs`), so what stands here is
held: by the engine in both roles, cut at every octet and ended at every octet (`tests/http/rows.rs`), and by `semfio http
echo`, `serve` and `get` on sockets (`tests/http/sockets.rs`). To write it anew:
`SEMFIO_BLESS=1 cargo test -p semfio-tests --test http strictness`.

## Requests

";

const TABLE: &str = "\
of them. The engine's column names the rule and the octet where it is broken; `echo` and `serve`
are the programs' answers, and whether they close the connection then.

| row | sent | engine | `echo` | `serve` | why |
|---|---|---|---|---|---|
";

const RESPONSES: &str = "
## Responses

The same rows where a server could send them, in answer to `GET /`. `semfio http get` ends with code 3 or 4 where a rule is
broken, and keeps no file.

| row | sent | engine |
|---|---|---|
";

const FOLDER: &str = "
## The folder that `serve` is asked for

";

const RULES: &str = "
## Rules

Every refusal names one of these and the octet. The status is what a server answers with.

| name | rule | where | status |
|---|---|---|---|
";

const LENIENCIES: &str = "
## What can be allowed

Switches of `Leniency`, all off.

| switch | allows | rows |
|---|---|---|
";

const OTHERS: &str = "
## Where others read otherwise

100,000 mutated messages at every commit, 10,000,000 in `.ci/full`, are read by the engine, by h11 0.16 and by llhttp
(httptools 0.9). Whatever the engine accepts, both read as the same messages: method, target or status, version, fields in
their order, content, trailers, and whether the connection can be used again. What is not in this table fails the test
(`tests/http/differential.rs`). What they accept and the engine refuses is counted there by rule.

| who | does otherwise | why ours is right, or as good | where |
|---|---|---|---|
";

/// The switches, and what they allow.
const LENIENT: &[(&str, &str)] = &[
    ("bare_lf", "LF alone at the end of a line of a head"),
    ("repeated_length", "several lengths that are equal"),
    ("blank_after_chunk_size", "blanks behind a chunk's size"),
    ("empty_host", "an empty `Host` where the target has no authority"),
    ("bare_status", "a status line that ends behind its code"),
    (
        "length_beside_coding",
        "a length beside a coding, which is passed over; the connection ends then",
    ),
];

/// All switches are in the table.
#[test]
fn every_switch_is_named() {
    let off = format!("{:?}", Leniency::default());
    for (name, _) in LENIENT {
        assert!(off.contains(&format!("{name}: false")), "{name}");
    }
    assert_eq!(off.matches(": false").count(), LENIENT.len(), "{off}");
}
