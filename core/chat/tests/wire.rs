//! The frames: encoding and parsing are inverses, and the bytes never change.
#![allow(missing_docs)]

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use semfio_chat::wire::{
    Ask, Entry, ErrorCode, MAX_FRAME, Manner, Request, Response, Sealed, Tell, What, Why,
    WireError, put_names,
};
use semfio_frame::Malformed;

fn hex(put: impl Fn(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    put(&mut out);
    out.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::Text), Just(Manner::Action), Just(Manner::Private)]
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

type Parts = ((u64, u64, u64), (u32, u16), [u8; 16], (String, String, String), Manner);

fn parts() -> impl Strategy<Value = Parts> {
    (
        any::<(u64, u64, u64)>(),
        any::<(u32, u16)>(),
        any::<[u8; 16]>(),
        (name(), name(), "\\PC{0,300}"),
        manners(),
    )
}

fn why(number: u16) -> Why {
    let known = [Why::Proof, Why::Name, Why::Limit, Why::Timeout];
    known.get(usize::from(number)).copied().unwrap_or(Why::Other((number % 251 + 5) as u8))
}

fn requests<'a>(parts: &'a Parts) -> Vec<Request<'a>> {
    let &((a, b, _), (n, code), session, (ref s, ref t, ref text), manner) = parts;
    let (fresh, why) = (n % 2 == 1, why(code));
    vec![
        Request::Hello { max_frame: n, session, nick: s },
        Request::Join { since: a, room: s },
        Request::Part { room: s },
        Request::Nick { nick: s },
        Request::Msg { tag: n, manner, to: s, text },
        Request::Sealed { tag: n, room: s, to: t, epoch: a, counter: b, token: text },
        Request::Key { room: s, ask: Ask::Enter { since: a } },
        Request::Key { room: s, ask: Ask::Relay { peer: a, body: text.as_bytes() } },
        Request::Key { room: s, ask: Ask::Admit { peer: a } },
        Request::Key { room: s, ask: Ask::Refuse { peer: a, why } },
        Request::Key { room: s, ask: Ask::Epoch { epoch: a, fresh, check: session } },
        Request::Who { room: s },
        Request::History { from: a, count: n, room: s },
        Request::Ping(a),
        Request::Pong(a),
        Request::Bye,
    ]
}

fn responses<'a>(parts: &'a Parts) -> Vec<Response<'a>> {
    let &((a, b, c), (n, code), session, (ref s, ref t, ref text), manner) = parts;
    let entry = |what| Response::Entry(Entry { seq: a, time: b, room: s, nick: t, what });
    let (fresh, why) = (n % 2 == 1, why(code));
    let tell = |tell| Response::Key { room: s, tell };
    let sealed = Sealed { sender: c, to: t, epoch: a, counter: b, token: text };
    let code = if (1..=13).contains(&code) { ErrorCode::TooSlow } else { ErrorCode::Other(code) };
    vec![
        Response::Welcome { max_frame: n, session, epoch: a, time: b, nick: s },
        entry(What::Said(manner, text)),
        entry(What::Join),
        entry(What::Part),
        entry(What::Nick(s)),
        entry(What::Sealed(sealed)),
        entry(What::Epoch { epoch: c, fresh, check: session }),
        entry(What::Holder(c)),
        tell(Tell::Door { you: a, holder: b }),
        tell(Tell::Relay { peer: a, body: text.as_bytes() }),
        tell(Tell::Knock { peer: a, nick: t }),
        tell(Tell::Refused { why }),
        tell(Tell::Gone { peer: a }),
        Response::Ack { tag: n, seq: a },
        Response::History { from: a, to: b, room: s },
        Response::Gap { from: a, to: b, oldest: c, room: s },
        Response::Error { code, fatal: n % 2 == 1, tag: n, text },
        Response::Ping(a),
        Response::Pong(a),
        Response::Bye,
    ]
}

/// The type and the body of the one frame in `bytes`.
fn frame(bytes: &[u8]) -> (u8, &[u8]) {
    let (&[kind, a, b, c], body) = bytes.split_first_chunk().unwrap();
    assert_eq!(body.len(), u32::from_be_bytes([0, a, b, c]) as usize);
    (kind, body)
}

/// Whether what follows the last field belongs to it.
fn is_open(kind: u8, body: &[u8]) -> bool {
    [0x86, 0x8B, 0x8D, 0x02].contains(&kind) || kind == 0x8A && body[0] == 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_come_back_as_they_were(parts in parts()) {
        for request in requests(&parts) {
            let mut out = BytesMut::new();
            request.put(&mut out);
            let (kind, body) = frame(&out);
            prop_assert_eq!(Request::parse(kind, body), Ok(Some(request)));
            for len in 0..body.len() {
                let cut = Request::parse(kind, &body[..len]);
                prop_assert!(is_open(kind, body) || matches!(cut, Err(WireError::Malformed(..))), "{cut:?}");
            }
            let long = [body, b"\0"].concat();
            let expected = Err(WireError::Malformed(kind, Malformed::Long));
            prop_assert!(is_open(kind, body) || Request::parse(kind, &long) == expected);
        }
    }

    #[test]
    fn responses_come_back_as_they_were(parts in parts()) {
        for response in responses(&parts) {
            let mut out = BytesMut::new();
            response.put(&mut out);
            let (kind, body) = frame(&out);
            prop_assert_eq!(Response::parse(kind, body), Ok(Some(response)));
            for len in 0..body.len() {
                let cut = Response::parse(kind, &body[..len]);
                prop_assert!(is_open(kind, body) || matches!(cut, Err(WireError::Malformed(..))), "{cut:?}");
            }
            let long = [body, b"\0"].concat();
            let expected = Err(WireError::Malformed(kind, Malformed::Long));
            prop_assert!(is_open(kind, body) || Response::parse(kind, &long) == expected);
        }
    }

    #[test]
    fn names_come_back_as_far_as_they_fit(lens in vec(0..41_usize, 0..3_000)) {
        let names: Vec<String> = lens.iter().map(|&len| "n".repeat(len)).collect();
        let mut out = BytesMut::new();
        let total = names.len() as u32;
        put_names(7, total, "sala", names.iter().map(String::as_str), &mut out);
        let (kind, body) = frame(&out);
        prop_assert!(body.len() <= MAX_FRAME);
        let Ok(Some(Response::Names { names: found, total: of, .. })) = Response::parse(kind, body)
        else { panic!() };
        let found: Vec<&str> = found.collect();
        prop_assert_eq!(of, total);
        prop_assert!(names.iter().map(String::as_str).take(found.len()).eq(found.iter().copied()));
        let next = names.get(found.len()).map_or(MAX_FRAME, |name| name.len() + 1);
        prop_assert!(body.len() + next >= MAX_FRAME - 4, "more would have fitted");
    }

    #[test]
    fn any_bytes_parse_to_what_encodes_alike_or_not_at_all(kind: u8, body in vec(any::<u8>(), 0..80)) {
        if let Ok(Some(request)) = Request::parse(kind, &body) {
            let mut out = BytesMut::new();
            request.put(&mut out);
            prop_assert_eq!(frame(&out), (kind, &body[..]));
        }
        if let Ok(Some(response)) = Response::parse(kind, &body) {
            let mut out = BytesMut::new();
            response.put(&mut out);
            let (kind, body) = frame(&out);
            prop_assert_eq!(Response::parse(kind, body), Ok(Some(response)));
        }
    }
}

#[test]
fn unknown_types_are_skipped_below_0x80_and_refused_above() {
    for kind in 0..=255_u8 {
        let (request, response) = (Request::parse(kind, b"?"), Response::parse(kind, b"?"));
        let expected = if kind < 0x80 { Ok(None) } else { Err(WireError::Unknown(kind)) };
        let known = |max: u8, other: &[u8]| other.contains(&kind) || (0x81..=max).contains(&kind);
        if !known(0x88, &[1, 3, 4, 0x8A, 0x8C, 0x8D]) || [0x82, 0x87].contains(&kind) {
            assert_eq!(request, expected, "{kind:#04x} to the server");
        }
        if !known(0x8F, &[2, 3, 4]) || kind == 0x81 {
            assert_eq!(response.map(|_| None::<()>), expected.map(|_| None), "{kind:#04x}");
        }
    }
}

#[test]
fn verbs_and_truths_that_name_nothing_are_refused() {
    for verb in 0..=255_u8 {
        let body = [verb, 1, b'a'];
        let (ask, tell) = (Request::parse(0x8A, &body), Response::parse(0x8A, &body));
        let expected = if verb < 5 {
            WireError::Malformed(0x8A, Malformed::Short)
        } else {
            WireError::Value(0x8A)
        };
        assert_eq!((ask, tell), (Err(expected), Err(expected)), "{verb}");
        let epoch = [&[4, 1, b'a'][..], &[0; 8], &[verb], &[0; 16]].concat();
        let entry = [&[0; 16][..], &[1, b'a', 1, b'b'], &[0; 8], &[verb], &[0; 16]].concat();
        let (ask, tell) = (Request::parse(0x8A, &epoch), Response::parse(0x8E, &entry));
        assert_eq!((ask.is_ok(), tell.is_ok()), (verb < 2, verb < 2), "{verb}");
    }
}

#[test]
fn requests_have_these_bytes() {
    let golden = [
        (
            Request::Hello { max_frame: 65_536, session: [0xAB; 16], nick: "ana" },
            "8100001800010000abababababababababababababababab03616e61",
        ),
        (Request::Join { since: 258, room: "sala" }, "8300000d00000000000001020473616c61"),
        (Request::Part { room: "sala" }, "840000050473616c61"),
        (Request::Nick { nick: "é" }, "8500000302c3a9"),
        (
            Request::Msg { tag: 1, manner: Manner::Action, to: "sala", text: "oi" },
            "8600000c00000001010473616c616f69",
        ),
        (
            Request::Sealed { tag: 1, room: "a", to: "b", epoch: 2, counter: 3, token: "gA" },
            "8d00001a0000000101610162000000000000000200000000000000036741",
        ),
        (
            Request::Key { room: "a", ask: Ask::Enter { since: 258 } },
            "8a00000b0001610000000000000102",
        ),
        (
            Request::Key { room: "a", ask: Ask::Relay { peer: 2, body: b"\xFF" } },
            "8a00000c0101610000000000000002ff",
        ),
        (Request::Key { room: "a", ask: Ask::Admit { peer: 2 } }, "8a00000b0201610000000000000002"),
        (
            Request::Key { room: "a", ask: Ask::Refuse { peer: 2, why: Why::Name } },
            "8a00000c030161000000000000000202",
        ),
        (
            Request::Key {
                room: "a",
                ask: Ask::Epoch { epoch: 2, fresh: true, check: [0xEE; 16] },
            },
            "8a00001c040161000000000000000201eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        ),
        (Request::History { from: 2, count: 3, room: "a" }, "8800000e0000000000000002000000030161"),
        (Request::Who { room: "a" }, "010000020161"),
        (Request::Ping(1), "030000080000000000000001"),
        (Request::Pong(1), "040000080000000000000001"),
        (Request::Bye, "8c000000"),
    ];
    for (request, bytes) in golden {
        assert_eq!(hex(|out| request.put(out)), bytes, "{request:?}");
    }
}

#[test]
fn responses_have_these_bytes() {
    let entry = |what| Response::Entry(Entry { seq: 1, time: 2, room: "a", nick: "b", what });
    let golden = [
        (
            Response::Welcome {
                max_frame: 65_536,
                session: [0xCD; 16],
                epoch: 5,
                time: 6,
                nick: "b",
            },
            "8200002600010000cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd000000000000000500000000000000060162",
        ),
        (entry(What::Join), "830000140000000000000001000000000000000201610162"),
        (entry(What::Part), "840000140000000000000001000000000000000201610162"),
        (entry(What::Nick("c")), "8500001600000000000000010000000000000002016101620163"),
        (
            entry(What::Said(Manner::Private, "oi")),
            "860000170000000000000001000000000000000202016101626f69",
        ),
        (
            entry(What::Sealed(Sealed { sender: 3, to: "c", epoch: 4, counter: 5, token: "gA" })),
            "8d000030000000000000000100000000000000020161016200000000000000030163000000000000000400000000000000056741",
        ),
        (
            entry(What::Epoch { epoch: 3, fresh: false, check: [0xEE; 16] }),
            "8e00002d0000000000000001000000000000000201610162000000000000000300eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        ),
        (
            entry(What::Holder(3)),
            "8f00001c00000000000000010000000000000002016101620000000000000003",
        ),
        (
            Response::Key { room: "a", tell: Tell::Door { you: 1, holder: 2 } },
            "8a00001300016100000000000000010000000000000002",
        ),
        (
            Response::Key { room: "a", tell: Tell::Relay { peer: 1, body: b"\xFF" } },
            "8a00000c0101610000000000000001ff",
        ),
        (
            Response::Key { room: "a", tell: Tell::Knock { peer: 1, nick: "b" } },
            "8a00000d02016100000000000000010162",
        ),
        (Response::Key { room: "a", tell: Tell::Refused { why: Why::Proof } }, "8a00000403016101"),
        (
            Response::Key { room: "a", tell: Tell::Gone { peer: 1 } },
            "8a00000b0401610000000000000001",
        ),
        (Response::Ack { tag: 1, seq: 2 }, "8700000c000000010000000000000002"),
        (
            Response::History { from: 1, to: 2, room: "a" },
            "88000012000000000000000100000000000000020161",
        ),
        (
            Response::Gap { from: 1, to: 2, oldest: 3, room: "a" },
            "8900001a0000000000000001000000000000000200000000000000030161",
        ),
        (
            Response::Error { code: ErrorCode::NickInUse, fatal: true, tag: 7, text: "no" },
            "8b00000900060100000007",
        ),
        (Response::Ping(1), "030000080000000000000001"),
        (Response::Pong(1), "040000080000000000000001"),
        (Response::Bye, "8c000000"),
    ];
    for (response, bytes) in golden {
        let bytes = match response {
            Response::Error { .. } => format!("{bytes}6e6f"),
            _ => bytes.into(),
        };
        assert_eq!(hex(|out| response.put(out)), bytes, "{response:?}");
    }
    let names = hex(|out| put_names(1, 2, "a", ["b", "c"].into_iter(), out));
    assert_eq!(names, "020000120000000000000001000000020161".to_owned() + "01620163");
}
