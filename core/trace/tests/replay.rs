//! A run with everything in it is recorded, replayed, and spoilt in every way.

mod relay;
mod spoil;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use relay::{Ask, Host, everything, header, little, shard};
use semfio_machine::{Tap, TapEntry};
use semfio_trace::{
    Agreement, End, MAX_LINE, Malformed, ReadError, Reader, Recorder, Replay, ReplayError, replay,
};
use serde_json::{Map, Value};
use spoil::{changed, lines, name, parse, print, samples, seal};

fn run(trace: &[u8]) -> Result<Agreement, ReplayError> {
    run_with(trace, None)
}

fn run_with(trace: &[u8], fault: Option<&'static str>) -> Result<Agreement, ReplayError> {
    let reader = Reader::new(trace).map_err(ReplayError::Read)?;
    let shard = shard(reader.header(), fault);
    let result = replay(reader, shard);
    if let Err(error) = &result {
        assert!(error.to_string().len() < 4_000, "{error}"); // however large the events are
    }
    result
}

#[test]
fn a_run_replays() {
    for step in [1_000, 1_001, 999_999_937] {
        let trace = everything(step);
        let agreement = run(&trace).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(agreement.end, End::Whole);
        assert_eq!(agreement.events as usize, lines(&trace).len() - 2);
        // Everything is in it, so that the tests below are about everything.
        let names: Vec<String> = lines(&trace)[1..].iter().map(|line| name(line)).collect();
        for kind in [
            "in.accepted",
            "in.bytes",
            "in.connected",
            "in.eof",
            "in.failed",
            "in.message",
            "in.reply",
            "in.sent",
            "in.timeout",
            "in.turn",
            "out.bytes",
            "out.cancel",
            "out.close",
            "out.closed",
            "out.dial",
            "out.file",
            "out.release",
            "out.report",
            "out.request",
            "out.shutdown",
            "out.stop",
            "out.write",
            "state",
        ] {
            assert!(names.iter().any(|name| name == kind), "{kind}");
        }
    }
    let agreement = run(&little()).unwrap();
    assert_eq!(agreement.to_string(), format!("agrees after {} events", agreement.events));
}

#[test]
fn a_changed_output_is_found_by_the_replay_alone() {
    let lines = lines(&everything(1_001));
    let mut tried = 0;
    for at in samples(&lines) {
        if name(&lines[at]).starts_with("in.") {
            continue;
        }
        for (key, line) in changed(&lines[at]) {
            let mut lines = lines.clone();
            lines[at] = line;
            let result = run(&seal(&lines));
            assert!(result.is_err(), "line {}, field {key}: {result:?}", at + 1);
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_changed_input_is_found_by_what_comes_of_it_or_by_the_checksum() {
    let lines = lines(&everything(1_001));
    for at in samples(&lines) {
        if !name(&lines[at]).starts_with("in.") {
            continue;
        }
        let next = name(&lines[at + 1]);
        let heard = next.starts_with("out.") && next != "out.closed";
        for (key, line) in changed(&lines[at]) {
            let mut lines = lines.clone();
            lines[at] = line;
            let result = run(&lines.concat());
            assert!(result.is_err(), "line {}, field {key}: {result:?}", at + 1);
            // What nobody looks at has no consequence.
            if heard && key != "local" {
                let result = run(&seal(&lines));
                assert!(result.is_err(), "line {}, field {key}: {result:?}", at + 1);
            }
        }
    }
}

#[test]
fn dropped_doubled_and_swapped_events_are_found() {
    let lines = lines(&everything(1_001));
    for at in samples(&lines) {
        let (mut dropped, mut doubled, mut swapped) = (lines.clone(), lines.clone(), lines.clone());
        dropped.remove(at);
        doubled.insert(at, lines[at].clone());
        swapped.swap(at, at + 1);
        for spoilt in [dropped, doubled, swapped] {
            let result = run(&spoilt.concat());
            assert!(result.is_err(), "line {}: {result:?}", at + 1);
            let silent = lines[at..=at + 1].iter().any(|line| name(line).starts_with("in."));
            if !silent && at + 2 < lines.len() {
                let result = run(&seal(&spoilt));
                assert!(result.is_err(), "line {}: {result:?}", at + 1);
            }
        }
    }
}

#[test]
fn any_changed_byte_is_found() {
    let trace = little();
    assert!(run(&trace).is_ok());
    for at in 0..trace.len() {
        for flip in [0x01, 0x02, 0x20, 0x80] {
            let mut trace = trace.clone();
            trace[at] ^= flip;
            let result = run(&trace);
            // A line feed that is none any more hides the end of the trace, nothing else may.
            let cut = result.as_ref().is_ok_and(|agreement| agreement.end == End::Cut);
            assert!(result.is_err() || cut && at == trace.len() - 1, "byte {at}: {result:?}");
        }
    }
}

#[test]
fn a_cut_trace_is_read_as_far_as_it_goes_and_says_so() {
    let trace = little();
    let header = lines(&trace)[0].len();
    for len in 0..trace.len() {
        let whole = trace[..len].iter().filter(|&&byte| byte == b'\n').count();
        match run(&trace[..len]) {
            Ok(agreement) => {
                assert!(len >= header);
                assert_eq!(agreement.end, End::Cut);
                assert_eq!(agreement.events as usize, whole - 1);
                assert!(agreement.to_string().ends_with("where the trace is cut"));
            }
            Err(ReplayError::Read(error)) => {
                assert!(len < header, "{len}: {error}");
                assert_eq!(error.what, Malformed::NoHeader);
            }
            Err(other) => panic!("{len}: {other}"),
        }
    }
    assert_eq!(run(&trace).unwrap().end, End::Whole);
}

#[test]
fn a_faulty_service_diverges_where_it_is_faulty() {
    let trace = everything(1_000);
    let diverges = |fault| run_with(&trace, Some(fault)).unwrap_err().to_string();
    let expected = "\
diverges at event 330 (line 331), at 9.000132 s
  recorded: out.bytes conn=\"0.1\" len=5 text=\"QUIT \"
  replayed: out.bytes conn=\"0.1\" len=5 text=\"QUIT_\"
  differs in text from character 4 on: …\" \", not …\"_\"";
    assert_eq!(diverges("another byte"), expected);
    let expected = "\
diverges at event 329 (line 330), at 9.000132 s
  recorded: in.sent conn=\"0.1\" left=4 n=5
  replayed: in.sent conn=\"0.1\" left=5 n=5
  differs in left";
    assert_eq!(diverges("one byte more"), expected);
}

#[test]
fn a_replay_can_be_stepped_and_looked_at() {
    let trace = little();
    let reader = Reader::new(&trace).unwrap();
    let shard = shard(reader.header(), None);
    let mut replay = Replay::new(reader, shard);
    let first = replay.step().unwrap().unwrap();
    assert_eq!((first.name(), first.number(), first.line()), ("in.accepted", 1, 2));
    assert_eq!(replay.shard().connections().count(), 1);
    assert_eq!(replay.run_until(5), Ok(true));
    assert_eq!(replay.position(), 5);
    assert_eq!(replay.run_until(u64::MAX), Ok(false));
    assert!(replay.shard().service().fault.is_none());
}

#[test]
fn what_never_was_is_an_error_with_a_name() {
    let lines = lines(&little());
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines.insert(at, format!("{line}\n").into_bytes());
        run(&seal(&lines))
    };
    let time = "{\"time\":1,\"unix\":1,\"name\":";
    for (line, unknown) in [
        ("\"in.bytes\",\"conn\":\"9.0\",\"len\":0,\"text\":\"\"}", true),
        ("\"in.eof\",\"conn\":\"0.1\"}", true),
        ("\"in.eof\",\"conn\":\"4294967295.4294967295\"}", true),
        ("\"in.failed\",\"conn\":\"1.0\",\"failure\":\"Reset\"}", true),
        ("\"in.reply\",\"id\":0,\"reply\":\"Done\"}", true),
        ("\"in.sent\",\"conn\":\"0.0\",\"n\":18446744073709551615}", false),
    ] {
        let result = with(5, &format!("{time}{line}"));
        match result {
            Err(ReplayError::Unknown(_)) if unknown => {}
            Err(ReplayError::Oversent(_)) if !unknown => {}
            other => panic!("{line}: {other:?}"),
        }
    }
    for (line, what) in [
        ("\"in.entropy\"}", Malformed::UnknownInput),
        ("\"in.eof\"}", Malformed::Field("conn")),
        ("\"in.eof\",\"conn\":\"0\"}", Malformed::Field("conn")),
        ("\"in.bytes\",\"conn\":\"0.0\",\"len\":1,\"text\":\"\"}", Malformed::Length),
        ("\"in.bytes\",\"conn\":\"0.0\",\"len\":0}", Malformed::Field("text")),
        ("\"in.bytes\",\"conn\":\"0.0\",\"len\":1,\"base64\":\"@\"}", Malformed::Field("base64")),
        ("\"in.message\",\"len\":1,\"text\":\"?\"}", Malformed::Field("text")),
        ("\"state\",\"ns\":[0,1000]}", Malformed::Field("ns")),
        ("1}", Malformed::Field("name")),
        ("", Malformed::Json(26)),
    ] {
        let error = ReadError { line: 6, what };
        assert_eq!(with(5, &format!("{time}{line}")), Err(ReplayError::Read(error)), "{line}");
    }
    // Others are skipped, and counted.
    let events = lines.len() as u64 - 1;
    for other in ["\"out.shine\"}", "\"note\",\"text\":\"x\"}"] {
        assert_eq!(with(5, &format!("{time}{other}")).map(|ok| ok.events), Ok(events));
    }
}

#[test]
fn the_ends_are_strict() {
    let trace = little();
    let whole = lines(&trace);
    let last = whole.len() as u64;
    let read = |trace: &[u8]| match run(trace) {
        Err(ReplayError::Read(error)) => (error.line, error.what),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(b""), (1, Malformed::NoHeader));
    assert_eq!(read(b"{}\n"), (1, Malformed::NoHeader));
    assert_eq!(read(&whole[1..].concat()), (1, Malformed::NoHeader));
    let later = trace.clone();
    let later = String::from_utf8(later).unwrap().replace("trace:1", "trace:2");
    assert_eq!(read(later.as_bytes()), (1, Malformed::Schema));
    assert_eq!(read(&[&trace[..], b"\n"].concat()), (last + 1, Malformed::AfterEnd));
    let mut counted = whole.clone();
    counted.remove(3);
    let result = Reader::new(&counted.concat()).unwrap().last();
    assert_eq!(result, Some(Err(ReadError { line: last - 1, what: Malformed::Count })));
    let mut summed = whole.clone();
    summed[1] = String::from_utf8(summed[1].clone()).unwrap().replace(":1,", ":2,").into();
    let result = Reader::new(&summed.concat()).unwrap().last();
    assert_eq!(result, Some(Err(ReadError { line: last, what: Malformed::Checksum })));
    let mut long = whole.clone();
    long[1] = vec![b' '; MAX_LINE];
    long[1].push(b'\n');
    assert_eq!(read(&long.concat()), (2, Malformed::TooLong));
    // What a later version adds to the header does not matter.
    let mut more = parse(&whole[0]);
    more.insert("more".into(), Value::Null);
    let mut with_more = whole.clone();
    with_more[0] = print(&more);
    assert!(run(&seal(&with_more)).is_ok());
}

#[test]
fn record_separators_are_allowed() {
    let mut lines = lines(&little());
    for line in &mut lines {
        line.insert(0, 0x1e);
    }
    let end = lines.len() - 1;
    assert!(run(&lines.concat()).is_err()); // they count for the checksum
    lines[end].clear();
    assert!(run(&seal(&lines)).is_ok());
}

#[test]
fn the_header_comes_back() {
    let trace = everything(1_000);
    let reader = Reader::new(&trace).unwrap();
    let (read, written) = (reader.header(), header());
    assert_eq!(
        format!("{read:?}"),
        format!("{:?}", {
            let mut h = written.clone();
            h.start = relay::at(0);
            h
        })
    );
    let seed = |header: &semfio_trace::Header| *header.seed.as_ref().unwrap().as_bytes();
    assert_eq!(seed(read), seed(&written));
    assert_eq!(parse(&lines(&trace)[0])["secret"], Value::from(vec!["seed"]));
}

#[test]
fn framing_is_at_most_130_bytes_an_event() {
    // A month after the host's origin, in microseconds.
    for line in &lines(&everything(1_000))[1..] {
        let map = parse(line);
        if map["name"] == "end" {
            continue;
        }
        // What is said, and not how.
        let content = |(key, value): (&String, &Value)| match &**key {
            "time" | "unix" | "ns" | "name" | "conn" | "len" => 0,
            _ => value.to_string().len() - if value.is_string() { 2 } else { 0 },
        };
        let content: usize = map.iter().map(content).sum();
        let month = "2592000000000".len() - map["time"].to_string().len();
        assert!(line.len() + month - content <= 130, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn a_transfer_of_100_kib_takes_less_than_200_kib() {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), 1_000);
    host.eager = true;
    let a = host.accept("127.0.0.1:1000").unwrap();
    let block: Vec<u8> = (0..1024_u32).map(|n| (n * 7 % 251 + 1) as u8).collect();
    for _ in 0..50 {
        host.receive(a, &block); // and 1 KiB back
    }
    drop(host);
    let size = trace.lock().unwrap().len();
    assert!(size < 200 * 1024, "{size}");
    assert!(run(&trace.lock().unwrap()).is_ok());
}

#[test]
fn what_is_too_long_to_be_read_ends_the_recording() {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), 1_000);
    let a = host.accept("127.0.0.1:1000").unwrap();
    host.ask(Ask::Raw(vec![7; MAX_LINE]));
    host.receive(a, b"not recorded any more");
    drop(host);
    let trace = trace.lock().unwrap().clone();
    assert!(lines(&trace).iter().all(|line| line.len() <= MAX_LINE));
    assert_eq!(run(&trace).unwrap().end, End::Cut);
    assert_eq!(name(lines(&trace).last().unwrap()), "note");
}

#[test]
fn a_recorder_can_be_finished() {
    let mut trace = Vec::new();
    let mut recorder = Recorder::new(&header(), |line: &[u8]| trace.extend_from_slice(line));
    recorder.record(relay::at(1), TapEntry::<()>::Turn);
    assert_eq!(recorder.events(), 1);
    recorder.finish();
    let mut reader = Reader::new(&trace).unwrap();
    assert_eq!(reader.by_ref().count(), 1);
    assert_eq!(reader.end(), Some(End::Whole));
}

#[test]
fn a_run_that_stops_short_of_a_timer_replays() {
    let trace = Arc::new(Mutex::new(Vec::new()));
    let mut host = Host::recording(trace.clone(), 1_000);
    host.accept("127.0.0.1:1000").unwrap();
    host.now = relay::at(Duration::from_secs(u32::MAX.into()).as_nanos() as u64);
    host.turn();
    drop(host);
    assert!(run(&trace.lock().unwrap()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_panic(trace in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(run(&trace).is_err()); // there is no header in them
        let with_header = [&lines(&little())[0], &trace[..]].concat();
        let _ = run(&with_header);
    }

    #[test]
    fn no_spoilt_trace_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8), 1..6)
    ) {
        let mut lines = lines(&little());
        for (at, which, kind) in changes {
            let at = 1 + at.index(lines.len() - 2);
            match kind {
                0 => { let line = lines[which.index(lines.len())].clone(); lines.insert(at, line); }
                1 if lines.len() > 3 => { lines.remove(at); }
                2 => { let other = 1 + which.index(lines.len() - 2); lines.swap(at, other); }
                _ => {
                    if let Ok(map) = serde_json::from_slice::<Map<String, Value>>(&lines[at]) {
                        let all = changed(&print(&map));
                        lines[at] = all[which.index(all.len())].1.clone();
                    }
                }
            }
        }
        let _ = run(&seal(&lines));
    }
}
