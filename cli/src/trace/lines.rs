//! A hop as traceroute prints it, and what is to be thought of it.

use std::net::IpAddr;

use semfio_probe::{Ended, Hop, Label, Outcome, Verdict};
use serde_json::Value;

use super::words::{mark, millis, rewritten};

/// The line of a hop: who has answered each query, by the names they are given, and how fast. `tells` is
/// the size of packets that begins here, if one does.
pub(super) fn line(
    number: u8,
    hop: &Hop,
    tells: Option<u16>,
    mut name: impl FnMut(IpAddr) -> String,
) -> String {
    let mut line = format!("{number:2} ");
    let mut before = None;
    let mut tells = tells;
    for outcome in &hop.outcomes {
        let heard = match outcome {
            Outcome::Answered(heard) => heard,
            Outcome::Silent => {
                line += " *";
                continue;
            }
            Outcome::NotSent(failure) => {
                line += &format!(" (not sent: {failure})");
                continue;
            }
            // The run was ended before its time.
            Outcome::Unasked | Outcome::Waiting => continue,
        };
        if before != Some(heard.from) {
            before = Some(heard.from);
            line += &format!(" {}", name(heard.from));
            let node = hop.nodes.iter().find(|node| node.address == heard.from);
            if let Some(node) = node.filter(|node| !node.labels.is_empty()) {
                line += &format!(" <{}>", labels(&node.labels));
            }
        }
        let time = millis(heard.round_trip.length);
        line += &format!("  {time} ms{}", mark(heard.kind, heard.from.is_ipv4()));
        if let Some(size) = tells.take() {
            line += &format!(" F={size}");
        }
    }
    let changed = hop.rewritten.as_ref().map(rewritten).unwrap_or_default();
    if !changed.is_empty() {
        let changed = changed.iter().map(|(what, value)| match value {
            Value::String(text) => format!("{what}={text}"),
            other => format!("{what}={other}"),
        });
        line += &format!(" [{}]", changed.collect::<Vec<_>>().join(" "));
    }
    line
}

/// A stack of labels as traceroute has it.
pub(super) fn labels(labels: &[Label]) -> String {
    let entry = |it: &Label| {
        let bottom = u8::from(it.bottom);
        format!("L={},E={},S={bottom},T={}", it.label, it.traffic_class, it.ttl)
    };
    format!("MPLS:{}", labels.iter().map(entry).collect::<Vec<_>>().join("/"))
}

/// What is to be thought of a hop that is not plainly fine.
/// `is_last` if nobody behind it has answered.
pub(super) fn verdict(hop: &Hop, verdict: Verdict, is_last: bool) -> Option<String> {
    let (answered, judged) = (hop.counts.answered, hop.counts.judged());
    Some(match verdict {
        Verdict::Answers | Verdict::Unknown => return None,
        Verdict::Silent => "answers nothing, and passes packets on".into(),
        Verdict::RateLimited => format!(
            "answers {answered} of {judged}, and those behind it more: it says little, nothing is lost"
        ),
        Verdict::Loses if is_last => {
            format!("answers {answered} of {judged}: the others are lost, or it says little")
        }
        Verdict::Loses => {
            format!("answers {answered} of {judged}, and those behind it no more: packets are lost")
        }
    })
}

/// The same in a word, for records and tables.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Answers => "fine",
        Verdict::Silent => "silent",
        Verdict::RateLimited => "rate_limited",
        Verdict::Loses => "loses",
        Verdict::Unknown => "unknown",
    }
}

/// Why it is over, in a word.
pub(super) fn reason(ended: Ended) -> &'static str {
    match ended {
        Ended::Reached => "reached",
        Ended::Unreachable { .. } => "unreachable",
        Ended::TooBig { .. } => "too_big",
        Ended::Loop => "loop",
        Ended::GapLimit => "gap_limit",
        Ended::MaxHops => "max_hops",
        Ended::NotSent(_) => "not_sent",
        Ended::Cycles => "cycles",
        Ended::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semfio_machine::{Clock, Interval};
    use semfio_probe::{AnswerKind, Heard, HopCounts, Node, Rewritten};
    use std::time::Duration;

    fn heard(last: u8, micros: u64, kind: AnswerKind) -> Outcome {
        let (from, to) = (Clock::Kernel, Clock::Kernel);
        Outcome::Answered(Heard {
            from: [192, 0, 2, last].into(),
            kind,
            round_trip: Interval { length: Duration::from_micros(micros), from, to },
            hop_limit: None,
            size: 60,
            flow: 0,
        })
    }

    fn hop(outcomes: &[Outcome]) -> Hop {
        let mut hop = Hop::default();
        hop.outcomes = outcomes.to_vec();
        hop
    }

    fn named(address: IpAddr) -> String {
        match address == IpAddr::from([192, 0, 2, 1]) {
            true => format!("one ({address})"),
            false => address.to_string(),
        }
    }

    #[test]
    fn a_hop_is_read_at_once_by_whoever_knows_traceroute() {
        let expired = AnswerKind::TimeExceeded;
        let three = hop(&[heard(1, 31, expired), heard(1, 20, expired), heard(2, 12_345, expired)]);
        assert_eq!(
            line(1, &three, None, named),
            " 1  one (192.0.2.1)  0.031 ms  0.020 ms 192.0.2.2  12.345 ms"
        );
        let refused = AnswerKind::Unreachable { code: 1 };
        let three = hop(&[Outcome::Silent, heard(2, 98, refused), heard(2, 12, refused)]);
        let printed = line(12, &three, None, named);
        assert_eq!(printed, "12  * 192.0.2.2  0.098 ms !H  0.012 ms !H");
        let silent = hop(&[Outcome::Silent, Outcome::Silent, Outcome::Waiting]);
        assert_eq!(line(3, &silent, None, named), " 3  * *");
        let two = hop(&[heard(2, 27, expired), heard(2, 10, expired)]);
        let printed = line(5, &two, Some(1400), named);
        assert_eq!(printed, " 5  192.0.2.2  0.027 ms F=1400  0.010 ms");
    }

    #[test]
    fn what_was_rewritten_and_said_beside_stands_in_the_line() {
        let label = Label { label: 100_001, traffic_class: 0, bottom: true, ttl: 1 };
        let mut hop = hop(&[heard(2, 27, AnswerKind::TimeExceeded)]);
        hop.nodes = vec![Node { address: [192, 0, 2, 2].into(), answers: 1, labels: vec![label] }];
        hop.rewritten = Some(Rewritten {
            traffic_class: Some(8),
            source: Some([198, 51, 100, 7].into()),
            ..Rewritten::default()
        });
        assert_eq!(
            line(5, &hop, None, named),
            " 5  192.0.2.2 <MPLS:L=100001,E=0,S=1,T=1>  0.027 ms [tos=8 source=198.51.100.7]"
        );
    }

    #[test]
    fn who_says_little_does_not_lose() {
        let mut hop = hop(&[]);
        hop.counts = HopCounts { sent: 10, answered: 6, lost: 4, ..HopCounts::default() };
        assert_eq!(verdict(&hop, Verdict::Answers, false), None);
        let told = verdict(&hop, Verdict::RateLimited, false).unwrap();
        assert!(told.contains("6 of 10") && told.contains("nothing is lost"), "{told}");
        let told = verdict(&hop, Verdict::Loses, false).unwrap();
        assert!(told.contains("6 of 10") && told.contains("packets are lost"), "{told}");
        // Nobody is behind it who could tell.
        let told = verdict(&hop, Verdict::Loses, true).unwrap();
        assert!(told.contains("or it says little"), "{told}");
    }
}
