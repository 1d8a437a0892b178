//! The lobby against a list: random members in three dialects come, speak and go over rough links.

use proptest::prelude::*;
use semfio_chat::HubConfig;
use semfio_chat::wire::Request;
use semfio_sim::{LinkConfig, PeerId, SplitPlan};

use crate::lab::Lab;

#[derive(Clone, Debug)]
enum Op {
    Framed,
    Line,
    Raw,
    Say(usize),
    Leave(usize),
    Reset(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => Just(Op::Framed),
        1 => Just(Op::Line),
        1 => Just(Op::Raw),
        8 => any::<usize>().prop_map(Op::Say),
        1 => any::<usize>().prop_map(Op::Leave),
        1 => any::<usize>().prop_map(Op::Reset),
    ];
    proptest::collection::vec(op, 1..40)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Framed,
    Line,
    Raw,
}

struct Member {
    peer: PeerId,
    kind: Kind,
    nick: String,
    /// Entries before its own JOIN.
    from: usize,
}

fn run(ops: Vec<Op>, every_byte: bool, fault: bool) {
    let mut lab = Lab::with(HubConfig { backlog: 0, ..HubConfig::default() });
    let split = if every_byte { SplitPlan::EveryByte } else { SplitPlan::Whole };
    let latency = core::time::Duration::from_millis(3);
    let mut members: Vec<Member> = Vec::new();
    let (mut log, mut guests, mut texts) = (Vec::new(), 0, 0_u32);
    for op in ops {
        let count = members.len().max(1);
        let link = LinkConfig { split: split.clone(), latency, ..LinkConfig::default() };
        match op {
            Op::Framed => {
                let nick = format!("m{}", lab.net.now().mono.as_nanos());
                let peer = lab.connect_over(link);
                lab.hello(peer, &nick, [0; 16]);
                lab.join(peer, "lobby");
                let from = log.len();
                log.push(format!("JOIN {} lobby {nick}", from + 1));
                members.push(Member { peer, kind: Kind::Framed, nick, from });
            }
            Op::Line | Op::Raw => {
                guests += 1;
                let peer = lab.connect_over(link);
                let (kind, word) = match op {
                    Op::Line => (Kind::Line, "guest"),
                    _ => (Kind::Raw, "raw"),
                };
                if kind == Kind::Line {
                    lab.net.write(peer, "\n");
                }
                let (nick, from) = (format!("{word}-{guests}"), log.len());
                log.push(format!("JOIN {} lobby {nick}", from + 1));
                members.push(Member { peer, kind, nick, from });
            }
            Op::Say(at) if !members.is_empty() => {
                let member = &members[at % count];
                texts += 1;
                // One byte, so that no link can cut a raw text.
                let text = char::from(b'a' + (texts % 26) as u8).to_string();
                match member.kind {
                    Kind::Framed => lab.say(member.peer, texts, &text),
                    Kind::Line => lab.net.write(member.peer, format!("{text}\n")),
                    Kind::Raw => lab.net.write(member.peer, &text),
                }
                log.push(format!("MSG {} lobby {}: {text}", log.len() + 1, member.nick));
            }
            Op::Leave(at) | Op::Reset(at) if !members.is_empty() => {
                let member = members.swap_remove(at % count);
                match (op, member.kind) {
                    (Op::Reset(_), _) => lab.net.reset(member.peer),
                    (_, Kind::Framed) => lab.ask(member.peer, Request::Bye),
                    _ => lab.net.finish(member.peer),
                }
                log.push(format!("PART {} lobby {}", log.len() + 1, member.nick));
            }
            _ => continue,
        }
        lab.run(1_000);
        assert_eq!(lab.hub().members(), members.len());
        assert_eq!(lab.hub().newest("lobby").unwrap_or(0), log.len() as u64);
        for member in &members {
            let mut due = log[member.from..].to_vec();
            if fault && due.len() > 5 {
                due.swap(3, 4);
            }
            match member.kind {
                Kind::Framed => {
                    let entry = |frame: &String| {
                        ["JOIN", "MSG", "PART"].iter().any(|kind| frame.starts_with(kind))
                    };
                    let got: Vec<_> = lab.frames(member.peer).into_iter().filter(entry).collect();
                    assert_eq!(got, due, "{}", member.nick);
                }
                Kind::Line | Kind::Raw => {
                    let said: Vec<_> = due.iter().filter(|e| e.starts_with("MSG")).collect();
                    let text = lab.text(member.peer);
                    let got: String = match member.kind {
                        Kind::Raw => text,
                        _ => text.lines().filter_map(|l| Some(l.split_once("> ")?.1)).collect(),
                    };
                    let due: String = said.iter().map(|e| e.split_once(": ").unwrap().1).collect();
                    assert_eq!(got, due, "{}", member.nick);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn every_member_sees_the_list_from_its_join_on(ops in ops(), every_byte: bool) {
        run(ops, every_byte, false);
    }
}

#[test]
#[should_panic]
fn a_member_that_saw_another_order_would_be_noticed() {
    let says = (0..8).map(Op::Say);
    run([Op::Framed].into_iter().chain(says).collect(), false, true);
}
