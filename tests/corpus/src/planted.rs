//! Each body is shown to notice what it is there to notice.

use core::ops::Range;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use semfio_http::Leniency;
use semfio_machine::Carry;
use semfio_probe::{Found, Graph, PathLink, PingEvent, PortState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec;
use std::vec::Vec;

use crate::http_reading::{End, Reading, read};
use crate::shard::Faults;
use crate::tracer::Heard;
use crate::{
    agreement, carry, file_records, http_emit, http_read, http_values, multipath, outbox, ping,
    scan, shard, token, tracer,
};

/// Whether any of 2,000 random inputs makes `body` panic.
fn notices(body: impl Fn(&[u8])) -> bool {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..2_000).any(|_| {
        let mut data = vec![0; rng.next_u32() as usize % 600];
        rng.fill_bytes(&mut data);
        catch_unwind(AssertUnwindSafe(|| body(&data))).is_err()
    })
}

struct Wrong {
    carry: Carry,
    slip: usize,
}

impl carry::Tail for Wrong {
    fn append(&mut self, new: &[u8]) -> (&mut [u8], usize) {
        self.carry.append(new)
    }

    /// Keeps one byte too few, or holds on to memory.
    fn keep(&mut self, untaken: Range<usize>) {
        self.carry.keep(untaken.start + self.slip..untaken.end);
    }

    fn sizes(&self) -> (usize, usize) {
        let held = if self.slip == 0 { 1 } else { 0 };
        (self.carry.len(), self.carry.capacity() + held)
    }
}

#[test]
fn a_carry_that_loses_bytes_or_keeps_memory_is_noticed() {
    for slip in [0, 1] {
        assert!(notices(|data| {
            let carry = Carry::default();
            carry::check(&mut Wrong { carry, slip }, data);
        }));
    }
}

#[test]
fn an_outbox_that_forgets_what_was_sent_is_noticed() {
    assert!(notices(|data| outbox::check(data, |outbox, n| {
        outbox.advance(n.saturating_sub(1))
    })));
}

#[test]
fn a_machine_that_breaks_a_law_is_noticed() {
    let right = Faults::default();
    assert!(!notices(|data| shard::check(data, right)), "no fault");
    let wrong = [
        Faults { limits_buffer: true, ..right },
        Faults { stale_search: true, ..right },
        Faults { takes_without_room: true, ..right },
        Faults { keeps_timer: true, ..right },
        Faults { waits_at_eof: true, ..right },
    ];
    for faults in wrong {
        assert!(notices(|data| shard::check(data, faults)), "{faults:?}");
    }
}

#[test]
fn sides_that_should_agree_and_do_not_are_noticed() {
    assert!(!notices(agreement::agreement), "no fault");
    // As if nothing that they see mattered, and as if nobody ever saw alike.
    assert!(notices(|data| agreement::check(data, |_, _| true)));
    assert!(notices(|data| agreement::check(data, |_, _| false)));
}

#[test]
fn a_token_that_is_changed_on_its_way_is_noticed() {
    assert!(!notices(|data| token::check(data, <[u8]>::to_vec)), "no fault");
    for last in [1, 3] {
        assert!(notices(|data| token::check(data, |token| {
            let mut token = token.to_vec();
            let at = token.len() - 2 - last;
            token[at] ^= 1;
            token
        })));
    }
    assert!(notices(|data| token::check(data, |token| [token, b"=".as_slice()].concat())));
}

#[test]
fn a_ping_that_tells_what_was_not_so_is_noticed() {
    assert!(!notices(|data| ping::check(data, Some)), "no fault");
    let wrong: [fn(PingEvent) -> Option<PingEvent>; 4] = [
        |event| (!matches!(event, PingEvent::Lost { .. })).then_some(event),
        |event| (!matches!(event, PingEvent::Duplicate(_))).then_some(event),
        |event| match event {
            PingEvent::Duplicate(reply) => Some(PingEvent::Reply(reply)),
            other => Some(other),
        },
        |event| match event {
            PingEvent::Unreachable { host, number, .. } => Some(PingEvent::Lost { host, number }),
            other => Some(other),
        },
    ];
    for wrong in wrong {
        assert!(notices(|data| ping::check(data, wrong)));
    }
}

#[test]
fn a_trace_that_tells_what_was_not_so_is_noticed() {
    assert!(!notices(|data| tracer::check(data, Some)), "no fault");
    let wrong: [fn(Heard) -> Option<Heard>; 5] = [
        |heard| (!matches!(heard, Heard::Silent { .. })).then_some(heard),
        |heard| (!matches!(heard, Heard::NotSent { .. })).then_some(heard),
        |heard| match heard {
            Heard::Silent { number } => Some(Heard::NotSent { number }),
            other => Some(other),
        },
        |heard| match heard {
            Heard::Hop { number, hop, length, from, .. } => {
                Some(Heard::Hop { number, hop, late: false, length, from })
            }
            other => Some(other),
        },
        |heard| match heard {
            Heard::Hop { number, hop, late, length, from } if number % 3 == 0 => {
                Some(Heard::Hop { number: number - 1, hop, late, length, from })
            }
            other => Some(other),
        },
    ];
    for wrong in wrong {
        assert!(notices(|data| tracer::check(data, wrong)));
    }
}

#[test]
fn a_scan_that_tells_what_was_not_answered_is_noticed() {
    assert!(!notices(|data| scan::check(data, Some)), "no fault");
    let wrong: [fn(Found) -> Option<Found>; 4] = [
        |found| (found.target.port() != 1).then_some(found),
        |found| match found.state {
            PortState::Closed => Some(Found { state: PortState::Open, ..found }),
            _ => Some(found),
        },
        |mut found| {
            found.target.set_port(1);
            Some(found)
        },
        |found| match found.state {
            PortState::Filtered => Some(Found { state: PortState::Closed, ..found }),
            _ => Some(found),
        },
    ];
    for wrong in wrong {
        assert!(notices(|data| scan::check(data, wrong)));
    }
}

#[test]
fn records_that_are_not_what_they_should_be_are_noticed() {
    use file_records::Insider;
    let right = Insider::default();
    assert!(!notices(|data| file_records::check(data, right)), "no fault");
    let wrong = [
        Insider { one_key: true, ..right },
        Insider { tears: true, ..right },
        Insider { from_one: true, ..right },
    ];
    for insider in wrong {
        assert!(notices(|data| file_records::check(data, insider)), "{insider:?}");
    }
}

#[test]
fn a_graph_of_paths_that_were_not_seen_is_noticed() {
    assert!(!notices(|data| multipath::check(data, |graph| graph)), "no fault");
    type Wrong = fn(Graph) -> Graph;
    let wrong: [Wrong; 4] = [
        // Promises whatever came of it.
        |graph| Graph { is_complete: true, ..graph },
        |graph| Graph { probes: graph.probes + 1, ..graph },
        // Somebody who never spoke.
        |mut graph| {
            let last = graph.nodes.last_mut().filter(|node| node.flows > 0);
            let strange = last.map(|node| node.addresses.push([203, 0, 113, 9].into()));
            strange.map_or(graph.clone(), |()| graph)
        },
        // A link that leaves out a hop.
        |mut graph| {
            let far = graph.nodes.iter().position(|node| node.hop > graph.nodes[0].hop + 1);
            graph.links.extend(far.map(|to| PathLink { from: 0, to, flows: 1 }));
            graph.links.sort();
            graph
        },
    ];
    for wrong in wrong {
        assert!(notices(|data| multipath::check(data, wrong)));
    }
}

#[test]
fn a_reader_of_http_that_differs_by_how_it_is_cut_is_noticed() {
    let notices = |fault: fn(&mut Reading, &[usize], bool)| {
        notices(|data| {
            http_read::check(data, |kind, leniency, wire, ends, cuts| {
                let mut reading = read(kind, leniency, wire, ends, cuts);
                fault(&mut reading, cuts, ends);
                reading
            });
        })
    };
    assert!(!notices(|_, _, _| ()), "no fault");
    assert!(notices(|reading, cuts, _| {
        if let (End::Refuses(error), false) = (&mut reading.end, cuts.is_empty()) {
            error.offset += 1;
        }
    }));
    assert!(notices(|reading, cuts, _| {
        if !cuts.is_empty() {
            reading.sent.pop();
        }
    }));
}

#[test]
fn a_message_that_is_read_otherwise_than_written_is_noticed() {
    let reads = |kind, bytes: &[u8]| read(kind, Leniency::default(), bytes, false, &[]);
    assert!(!notices(|data| http_emit::check(data, reads)), "no fault");
    assert!(notices(|data| http_emit::check(data, |kind, bytes| {
        let mut reading = reads(kind, bytes);
        reading.messages.iter_mut().for_each(|message| message.body.truncate(3));
        reading
    })));
    // The fields that frame it are left out.
    assert!(notices(|data| http_emit::check(data, |kind, bytes| {
        let framed = bytes.windows(16).position(|it| it == b"\r\nContent-Length");
        let bytes: Vec<u8> = match framed {
            Some(at) => {
                let end = bytes[at + 2..].iter().position(|&byte| byte == b'\n').unwrap_or(0);
                [&bytes[..at + 2], &bytes[at + 3 + end..]].concat()
            }
            None => bytes.to_vec(),
        };
        reads(kind, &bytes)
    })));
}

#[test]
fn a_path_out_of_the_root_is_noticed() {
    let input = b"\x01\x00\x00/a/../../b";
    let right = catch_unwind(|| http_values::http_values(input));
    assert!(right.is_ok());
    // Splits and decodes, and looks at nothing.
    let wrong = catch_unwind(|| {
        http_values::check(input, |path| Some(path.trim_start_matches('/').into()))
    });
    assert!(wrong.is_err());
}
