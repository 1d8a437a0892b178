//! Runs of machines over datagrams are recorded, replayed, and spoilt in every way.

mod spoil;
mod teller;

use std::sync::{Arc, Mutex};

use semfio_echo::{ClientConfig, ClientEvent, DatagramClient, DatagramServer, Ping, ServerEvent};
use semfio_machine::{Endpoint, Now, Seed};
use semfio_sim::{LinkConfig, Network};
use semfio_trace::{
    Agreement, CommandCodec, End, Header, Malformed, ReadError, Reader, Recorder, Replay,
    ReplayError, Told, replay_datagrams,
};
use spoil::{changed, lines, name, parse, print, samples, seal};
use teller::{CODEC, Teller, everything, little, show};

fn run(trace: &[u8]) -> Result<Agreement, ReplayError> {
    run_with(trace, None).0
}

/// The result, and what was told on the way.
fn run_with(
    trace: &[u8],
    fault: Option<&'static str>,
) -> (Result<Agreement, ReplayError>, Vec<String>) {
    let mut told = Vec::new();
    let reader = match Reader::new(trace) {
        Ok(reader) => reader,
        Err(error) => return (Err(ReplayError::Read(error)), told),
    };
    let endpoint = Endpoint::new(Teller::new(fault));
    let on_event = |now, heard: Told<'_, (_, &[u8], _)>, _: &Teller| match heard {
        Told::Event(event) => told.push(show(now, &event)),
        Told::Note(what) => told.push(format!("{now:?} note {}", String::from_utf8_lossy(what))),
    };
    (replay_datagrams(reader, endpoint, CODEC, on_event), told)
}

#[test]
fn a_run_replays_and_tells_the_same_at_the_same_times() {
    for step in [1_000, 1_001, 999_999_937] {
        let (trace, told) = everything(step);
        let (agreement, again) = run_with(&trace, None);
        let agreement = agreement.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(agreement.end, End::Whole);
        assert_eq!(agreement.events as usize, lines(&trace).len() - 2);
        assert!(told.len() > 10);
        assert_eq!(again, told);
        let names: Vec<String> = lines(&trace)[1..].iter().map(|line| name(line)).collect();
        for kind in [
            "in.blocked",
            "in.datagram",
            "in.left",
            "in.message",
            "in.note",
            "in.refused",
            "in.stamp",
            "in.timeout",
            "in.writable",
            "out.datagram",
            "out.nothing",
            "out.report",
        ] {
            assert!(names.iter().any(|name| name == kind), "{kind}");
        }
    }
}

#[test]
fn a_changed_field_of_any_event_is_found() {
    let lines = lines(&everything(1_001).0);
    let mut tried = 0;
    for at in samples(&lines) {
        // When the host asked for an output, and when it said what the endpoint keeps for itself, has
        // no consequence here.
        let silent = match &*name(&lines[at]) {
            "in.blocked" | "in.writable" | "in.left" | "out.nothing" | "out.datagram" => true,
            "out.report" => name(&lines[at - 1]) != "in.datagram",
            _ => false,
        };
        let before = lines[at].clone();
        for (key, line) in changed(&before) {
            let mut lines = lines.clone();
            lines[at] = line;
            let result = run(&lines.concat());
            assert!(result.is_err(), "line {}, field {key}: {result:?}", at + 1);
            // Nor has that it asked in vain; and a note the machine does not hear at all.
            let is = |kind| name(&before) == kind;
            let skipped = is("in.note") || is("out.nothing") && key == "name";
            if silent && matches!(&*key, "time" | "unix" | "ns") || skipped {
                continue;
            }
            let result = run(&seal(&lines));
            assert!(result.is_err(), "line {}, field {key}: {result:?}", at + 1);
            tried += 1;
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn dropped_doubled_and_swapped_events_are_found() {
    let lines = lines(&everything(1_001).0);
    for at in samples(&lines) {
        let (mut dropped, mut doubled, mut swapped) = (lines.clone(), lines.clone(), lines.clone());
        dropped.remove(at);
        doubled.insert(at, lines[at].clone());
        swapped.swap(at, at + 1);
        for spoilt in [dropped, doubled, swapped] {
            let result = run(&spoilt.concat());
            assert!(result.is_err(), "line {}: {result:?}", at + 1);
        }
    }
}

#[test]
fn any_changed_byte_is_found() {
    let trace = little();
    for at in 0..trace.len() {
        for flip in [0x01, 0x20, 0x80] {
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
                assert_eq!((agreement.end, agreement.events as usize), (End::Cut, whole - 1));
            }
            Err(ReplayError::Read(error)) => {
                assert!(len < header, "{len}: {error}");
                assert_eq!(error.what, Malformed::NoHeader);
            }
            Err(other) => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn a_faulty_machine_diverges_where_it_is_faulty() {
    let (trace, _) = everything(1_000);
    let diverges = |fault| run_with(&trace, Some(fault)).0.unwrap_err().to_string();
    let byte = diverges("another byte");
    assert!(byte.contains("out.report") && byte.contains("differs in text"), "{byte}");
    // That it was asked in vain, long before, shows when it tells so.
    let asked = diverges("no hurry");
    assert!(asked.contains("not …\"None"), "{asked}");
}

#[test]
fn a_replay_can_be_stepped_and_looked_at() {
    let trace = everything(1_000).0;
    let reader = Reader::new(&trace).unwrap();
    let endpoint = Endpoint::new(Teller::new(None));
    let mut replay = Replay::datagrams(reader, endpoint, CODEC, |_, _, _: &Teller| {});
    let first = replay.step().unwrap().unwrap();
    assert_eq!((first.name(), first.is_input()), ("out.nothing", false));
    assert_eq!(replay.run_until(u64::MAX), Ok(false));
    assert!(replay.machine().fault.is_none());
}

#[test]
fn what_is_of_a_shard_or_of_nothing_is_an_error_with_a_name() {
    let lines = lines(&everything(1_000).0);
    let with = |line: &str| {
        let mut lines = lines.clone();
        lines.insert(2, format!("{{\"time\":1,\"unix\":1,\"name\":{line}\n").into_bytes());
        run(&seal(&lines))
    };
    let datagram = "\"in.datagram\",\"from\":\"1.2.3.4:5\",\"carrier\":\"Udp\"";
    for (line, what) in [
        ("\"in.eof\",\"conn\":\"0.0\"}".into(), Malformed::UnknownInput),
        ("\"in.stamp\",\"id\":1,\"stamp\":1,\"clock\":\"Sun\"}".into(), Malformed::Field("clock")),
        ("\"in.message\",\"len\":1,\"text\":\"?\"}".into(), Malformed::Field("text")),
        (format!("{datagram}}}"), Malformed::Field("stamp")),
        (format!("{datagram},\"hop_limit\":256}}"), Malformed::Field("hop_limit")),
        (format!("{datagram},\"to\":\"here\"}}"), Malformed::Field("to")),
        (format!("{datagram},\"icmp_type\":3}}"), Malformed::Field("icmp_code")),
    ] {
        let error = ReadError { line: 3, what };
        assert_eq!(with(&line), Err(ReplayError::Read(error)), "{line}");
    }
    // No transmit waits, no timer is due, nothing was blocked: the host cannot have done this.
    for line in ["\"in.left\",\"id\":1,\"n\":1}", "\"in.timeout\"}", "\"in.writable\"}"] {
        assert!(matches!(with(line), Err(ReplayError::Diverged(_))), "{line}");
    }
    // More than there was to send.
    let at = 1 + lines[1..].iter().position(|line| name(line) == "in.left").unwrap();
    let mut more = parse(&lines[at]);
    more.insert("n".into(), u64::MAX.into());
    let mut lines = lines.clone();
    lines[at] = print(&more);
    assert!(matches!(run(&seal(&lines)), Err(ReplayError::Diverged(_))));
}

/// Both sides of echoes over a bad link, and what each told.
fn echoes(seed: u64) -> [(Vec<u8>, Vec<String>); 2] {
    let mut net = Network::new(seed);
    net.set_default_link(LinkConfig::rough(seed));
    let (ours, theirs) = (([10, 0, 0, 1], 4_000).into(), ([10, 0, 0, 2], 7).into());
    let client = client(seed);
    let client = net.add_datagram(ours, client, |event: ClientEvent<'_>| format!("{event:?}"));
    let tell = |event: ServerEvent<'_>| format!("{event:?}");
    let server = net.add_datagram(theirs, DatagramServer::new(), tell);
    let traces = [Arc::new(Mutex::new(Vec::new())), Arc::default()];
    let [on_client, on_server] = traces.clone().map(|trace| {
        let sink = move |line: &[u8]| trace.lock().unwrap().extend_from_slice(line);
        Box::new(Recorder::new(&Header { start: net.now(), ..Header::new("echo") }, sink))
    });
    net.tap(client, on_client, |ping, to| (PINGS.encode)(ping, to));
    net.tap(server, on_server, |never, _| match *never {});
    for n in 0..20_u8 {
        net.command(client, Ping { payload: &vec![n; usize::from(n) * 40] }).unwrap();
        net.run_for(core::time::Duration::from_millis(30)).unwrap();
    }
    net.run_until_idle().unwrap();
    let show = |(now, text): &(_, String)| format!("{now:?} {text}");
    let told = [
        net.events(client).iter().map(show).collect(),
        net.events(server).iter().map(show).collect(),
    ];
    drop(net);
    let [a, b] = traces.map(|trace| trace.lock().unwrap().clone());
    let [told_a, told_b]: [Vec<String>; 2] = told;
    [(a, told_a), (b, told_b)]
}

fn event(now: Now, heard: Told<'_, impl core::fmt::Debug>) -> Option<String> {
    match heard {
        Told::Event(event) => Some(format!("{now:?} {event:?}")),
        Told::Note(_) => None,
    }
}

fn client(seed: u64) -> DatagramClient {
    let server = ([10, 0, 0, 2], 7).into();
    DatagramClient::new(server, &Seed::from_u64(seed), ClientConfig::default())
}

const PINGS: CommandCodec<DatagramClient> = CommandCodec {
    encode: |ping, to| to.extend_from_slice(ping.payload),
    decode: |payload| Some(Ping { payload }),
};

#[test]
fn every_run_over_a_bad_link_replays_on_both_sides() {
    for seed in 0..20 {
        let [(on_client, client_told), (on_server, server_told)] = echoes(seed);
        let mut told = Vec::new();
        let reader = Reader::new(&on_client).unwrap();
        let agreement =
            replay_datagrams(reader, Endpoint::new(client(seed)), PINGS, |now, heard, _| {
                told.extend(event(now, heard));
            });
        assert_eq!(agreement.unwrap().end, End::Whole, "{seed}");
        assert_eq!(told, client_told);
        told.clear();
        let reader = Reader::new(&on_server).unwrap();
        let never = CommandCodec { encode: |never, _| match *never {}, decode: |_| None };
        let server = Endpoint::new(DatagramServer::new());
        let agreement = replay_datagrams(reader, server, never, |now, heard, _| {
            told.extend(event(now, heard));
        });
        assert_eq!(agreement.unwrap().end, End::Whole, "{seed}");
        assert_eq!(told, server_told);
        // Another token is another run.
        let reader = Reader::new(&on_client).unwrap();
        let other = Endpoint::new(client(seed + 1));
        assert!(replay_datagrams(reader, other, PINGS, |_, _, _| {}).is_err());
    }
}

/// Between header and trailer: who reads traces by other means stays right.
#[test]
fn the_trace_of_version_1_is_still_written() {
    let (then, now) = (lines(include_bytes!("corpus/v1-datagrams.trace")), everything(1_001).0);
    let now = lines(&now);
    assert_eq!(now.len(), then.len());
    for at in 1..now.len() - 1 {
        assert_eq!(String::from_utf8_lossy(&now[at]), String::from_utf8_lossy(&then[at]));
    }
}
