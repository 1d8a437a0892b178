//! The rows against the engine, however they are cut, and wherever they end.

use std::collections::BTreeSet;

use semfio_corpus::http_reading::{End, Reading, read};
use semfio_corpus::http_rows::{ROWS, Row, Verdict, Wire};
use semfio_corpus::http_samples::{Kind, SAMPLES};
use semfio_http::{Leniency, Rule};

use crate::mutation::Case;

/// Longer ones are cut at their ends, around what is broken, and here and there.
const CUT_EVERYWHERE: usize = 1_000;

/// All rows, in both roles: what is sent, and what is right.
fn all() -> impl Iterator<Item = (&'static Row, Kind, Wire, Verdict)> {
    ROWS.iter().flat_map(|row| {
        let response = row.response.map(|(wire, verdict)| (row, Kind::Response, wire, verdict));
        [Some((row, Kind::Requests, row.request, row.verdict)), response].into_iter().flatten()
    })
}

fn strictly(kind: Kind, bytes: &[u8], ends: bool, cuts: &[usize]) -> Reading {
    read(kind, Leniency::default(), bytes, ends, cuts)
}

/// What is wrong with how a row is read.
fn wrong(wire: &Wire, verdict: Verdict, reading: &Reading) -> Option<String> {
    match (verdict, reading.end) {
        (Verdict::Refuses(name), End::Refuses(error)) => {
            let at = wire.broken() as u64;
            let right = error.rule.name() == name && error.offset == at;
            (!right).then(|| format!("{error}, {} and not {name} at {at}", error.rule.name()))
        }
        (Verdict::Reads(messages), End::Waits | End::Over | End::HandedOver) => {
            let read = reading.messages.iter().map(|it| (&it.start[..], &it.body[..], it.keeps));
            let right = messages.iter().map(|it| (it.start.as_bytes(), it.body, it.keeps)).eq(read);
            (!right || reading.begun.is_some()).then(|| format!("{reading:?}"))
        }
        _ => Some(format!("{reading:?}")),
    }
}

#[test]
fn every_row_is_judged_as_written() {
    let mut judged = 0;
    let mut all_wrong = Vec::new();
    for (row, kind, wire, verdict) in all() {
        let reading = strictly(kind, &wire.bytes(), wire.ends(), &[]);
        if let Some(wrong) = wrong(&wire, verdict, &reading) {
            all_wrong.push(format!("row {}, {} ({kind:?}): {wrong}", row.number, row.name));
        }
        judged += 1;
        let Verdict::Refuses(name) = verdict else { continue };
        let rule = Rule::ALL.iter().find(|rule| rule.name() == name);
        let status = rule.map_or(0, |rule| rule.status().code());
        // What was sent before the error is no part of the answer.
        if kind == Kind::Requests && row.echo.statuses != [status] {
            all_wrong.push(format!("row {}: {status} goes with {name}", row.number));
        }
        let sent = format!("HTTP/1.1 {status} ");
        if kind == Kind::Requests && !reading.sent.starts_with(sent.as_bytes()) {
            let sent = reading.sent.escape_ascii();
            all_wrong.push(format!("row {}: the farewell is {sent}", row.number));
        }
    }
    assert!(all_wrong.is_empty(), "{} of {judged}:\n{}", all_wrong.len(), all_wrong.join("\n"));
}

#[test]
fn none_of_the_refuse_set_is_accepted() {
    let set: Vec<&Row> = ROWS.iter().filter(|row| row.refuse).collect();
    let accepts = |kind, wire: &Wire| {
        let reading = strictly(kind, &wire.bytes(), wire.ends(), &[]);
        !matches!(reading.end, End::Refuses(_)) || !reading.messages.is_empty()
    };
    let requests = set.iter().filter(|row| accepts(Kind::Requests, &row.request));
    let requests: Vec<u16> = requests.map(|row| row.number).collect();
    let responses = set
        .iter()
        .filter(|row| row.response.is_some_and(|(wire, _)| accepts(Kind::Response, &wire)));
    let responses: Vec<u16> = responses.map(|row| row.number).collect();
    println!("accepted: {} of {} as requests {requests:?}", requests.len(), set.len());
    println!("accepted: {} as responses {responses:?}", responses.len());
    assert!(requests.is_empty() && responses.is_empty());
}

#[test]
fn the_table_is_whole() {
    assert!(ROWS.iter().map(|row| row.number).eq(1..=111));
    let head = (1..=2).chain(5..=22).chain(24..=26).chain(28..=29).chain(32..=36).chain(38..=44);
    let head = head.chain(46..=47).chain(49..=50).chain(54..=55).chain(57..=60).chain(62..=63);
    let head: Vec<u16> = head.chain(66..=67).collect();
    let chunks: Vec<u16> = (82..=92).chain([95, 98]).collect();
    assert_eq!((head.len(), chunks.len()), (51, 13));
    let set = ROWS.iter().filter(|row| row.refuse).map(|row| row.number);
    assert!(set.eq(head.into_iter().chain(chunks)));
    for row in ROWS {
        let refused = matches!(row.verdict, Verdict::Refuses(_));
        assert!(refused || !row.refuse, "row {}", row.number);
        assert!(!row.why.is_empty() && row.section.starts_with("RFC "), "row {}", row.number);
        assert!(row.echo.statuses.iter().all(|status| (200..600).contains(status)));
    }
}

/// Rows and samples, in both roles.
fn inputs() -> Vec<Case> {
    let rows = all().map(|(_, kind, wire, _)| (kind, wire.bytes(), wire.ends()));
    let samples = SAMPLES.iter().map(|it| (it.kind, it.bytes.to_vec(), it.ends));
    rows.chain(samples).map(|(kind, bytes, ends)| Case { kind, bytes, ends }).collect()
}

/// Where a long input is cut: a few octets at both ends, and far apart between them.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let near_end = bytes.len().saturating_sub(100);
    let is_cut = |at: &usize| {
        bytes.len() < CUT_EVERYWHERE
            || *at < 100
            || *at > near_end
            || at.is_multiple_of(4_099)
            || at % 16_384 < 3
    };
    (0..=bytes.len()).filter(is_cut).collect()
}

#[test]
fn every_cut_gives_the_same() {
    for Case { kind, bytes, ends } in inputs() {
        let whole = strictly(kind, &bytes, ends, &[]);
        for cut in cuts(&bytes) {
            let cut_once = strictly(kind, &bytes, ends, &[cut]);
            assert_eq!(whole, cut_once, "at {cut} of {}", bytes.escape_ascii());
        }
        if bytes.len() < CUT_EVERYWHERE {
            let each: Vec<usize> = (0..bytes.len()).collect();
            assert_eq!(whole, strictly(kind, &bytes, ends, &each), "{}", bytes.escape_ascii());
        }
    }
}

/// Two cuts, of all that is short enough.
#[test]
fn every_two_cuts_give_the_same() {
    for Case { kind, bytes, ends } in inputs().into_iter().filter(|case| case.bytes.len() < 80) {
        let whole = strictly(kind, &bytes, ends, &[]);
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let twice = strictly(kind, &bytes, ends, &[first, second]);
                assert_eq!(whole, twice, "at {first}, {second} of {}", bytes.escape_ascii());
            }
        }
    }
}

/// What is not whole is not told as whole because its sender has gone.
#[test]
fn an_end_completes_nothing() {
    for Case { kind, bytes, .. } in inputs() {
        for end in cuts(&bytes) {
            let prefix = &bytes[..end];
            let open = strictly(kind, prefix, false, &[]);
            let ended = strictly(kind, prefix, true, &[]);
            // But a response without length or chunks.
            let until_close = kind == Kind::Response
                && open.begun.as_ref().is_some_and(|begun| {
                    !begun
                        .fields
                        .iter()
                        .any(|(name, _)| name == b"content-length" || name == b"transfer-encoding")
                });
            let more = usize::from(until_close);
            let text = prefix.escape_ascii();
            assert_eq!(ended.messages.len(), open.messages.len() + more, "{text}");
            if open.begun.is_some() && !until_close {
                assert!(matches!(ended.end, End::Refuses(_)), "{text}: {ended:?}");
            }
        }
    }
}

/// Each switch lets pass what it is there for, and nothing else of the table; all are off by default.
#[test]
fn each_leniency_is_of_its_rows() {
    let off = Leniency::default();
    let mut switches: Vec<(&str, Leniency)> = Vec::new();
    for name in [
        "bare_lf",
        "repeated_length",
        "length_beside_coding",
        "blank_after_chunk_size",
        "empty_host",
    ] {
        let mut on = off;
        match name {
            "bare_lf" => on.bare_lf = true,
            "repeated_length" => on.repeated_length = true,
            "length_beside_coding" => on.length_beside_coding = true,
            "blank_after_chunk_size" => on.blank_after_chunk_size = true,
            _ => on.empty_host = true,
        }
        assert_ne!(on, off);
        switches.push((name, on));
    }
    let named: BTreeSet<_> = ROWS.iter().filter_map(|row| row.leniency).collect();
    assert!(named.iter().eq(&switches.iter().map(|it| it.0).collect::<BTreeSet<_>>()));
    for (name, on) in switches {
        for (row, kind, wire, verdict) in all() {
            let reading = read(kind, on, &wire.bytes(), wire.ends(), &[]);
            let (number, refused) = (row.number, matches!(reading.end, End::Refuses(_)));
            match verdict {
                _ if row.leniency == Some(name) => {
                    assert!(!refused, "{name}, {number}: {reading:?}")
                }
                // Where in the message may be another place.
                Verdict::Refuses(_) => assert!(refused, "{name}, {number}: {reading:?}"),
                Verdict::Reads(_) => {
                    assert_eq!(wrong(&wire, verdict, &reading), None, "{name}, {number}")
                }
            }
        }
    }
}

/// The comparisons above are shown to fail.
mod planted {
    use super::*;

    #[test]
    fn a_wrong_verdict_is_noticed() {
        let row = &ROWS[0];
        let reading = strictly(Kind::Requests, &row.request.bytes(), false, &[]);
        assert_eq!(wrong(&row.request, row.verdict, &reading), None);
        assert!(wrong(&row.request, Verdict::Refuses("line-end"), &reading).is_some());
        assert!(wrong(&row.request, Verdict::Reads(&[]), &reading).is_some());
        let elsewhere = Wire { start: b"x", ..row.request };
        assert!(wrong(&elsewhere, row.verdict, &reading).is_some());
        // A reader that takes what the row refuses.
        let row = ROWS.iter().find(|row| row.number == 94).unwrap();
        let mut lenient = Leniency::default();
        lenient.blank_after_chunk_size = true;
        let reading = read(Kind::Requests, lenient, &row.request.bytes(), false, &[]);
        assert!(wrong(&row.request, row.verdict, &reading).is_some());
    }
}
