//! Frames and fields are the inverse of each other, whatever the cuts and whatever the bytes.

use bytes::BytesMut;
use proptest::prelude::*;
use semfio_frame::{Fields, FrameError, HEADER, Malformed, Read, Writer, read_frame};
use semfio_machine::Input;

const LIMIT: usize = 64;

#[derive(Debug, PartialEq)]
enum Seen {
    Frame(u8, Vec<u8>),
    Need(usize),
    End,
    Error(FrameError),
}

/// Reads all of `wire`, shown in pieces that end at `cuts`; waiting in between is not an event.
fn read_all(wire: &[u8], cuts: &[usize]) -> Vec<Seen> {
    read_all_by(read_frame, wire, cuts)
}

type Reader = for<'i> fn(&mut Input<'i>, usize) -> Result<Read<'i>, FrameError>;

fn read_all_by(reader: Reader, wire: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut carry: Vec<u8> = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&wire.len()]) {
        carry.extend_from_slice(&wire[from..to]);
        from = to;
        let eof = to == wire.len();
        let mut input = Input::new(&mut carry, 0, eof);
        let last = loop {
            match reader(&mut input, LIMIT) {
                Ok(Read::Frame(frame)) => seen.push(Seen::Frame(frame.kind, frame.body.to_vec())),
                Ok(Read::NeedInput(n)) => break Seen::Need(n),
                Ok(Read::End) => break Seen::End,
                Err(error) => break Seen::Error(error),
            }
        };
        let untaken = input.untaken();
        carry = carry[untaken].to_vec();
        match last {
            Seen::Need(n) => assert!(n > 0 && !eof),
            last => {
                seen.push(last);
                break;
            }
        }
    }
    seen
}

/// Frames whose bodies lie on both sides of the limit.
fn wires() -> impl Strategy<Value = Vec<u8>> {
    let frame = (any::<u8>(), 0..LIMIT + 3).prop_map(|(kind, len)| {
        let mut wire = vec![kind, 0, 0, len as u8];
        wire.extend((0..len).map(|n| n as u8));
        wire
    });
    (prop::collection::vec(frame, 0..6), 0..5_usize).prop_map(|(frames, short)| {
        let mut wire = frames.concat();
        wire.truncate(wire.len().saturating_sub(short));
        wire
    })
}

proptest! {
    #[test]
    fn cuts_do_not_matter(wire in wires(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = read_all(&wire, &[]);
        prop_assert_eq!(&read_all(&wire, &cuts), &whole);
        let each: Vec<usize> = (0..wire.len()).collect();
        prop_assert_eq!(&read_all(&wire, &each), &whole);
    }

    #[test]
    fn fields_come_back(a in any::<u8>(), b in any::<u16>(), c in any::<u32>(), d in any::<u64>(),
                        short in "\\PC{0,80}", text in "\\PC{0,300}") {
        let mut wire = BytesMut::from(&b"before"[..]);
        let mut frame = Writer::begin(&mut wire, 9);
        frame.put_u8(a);
        frame.put_u16(b);
        frame.put_u32(c);
        frame.put_u64(d);
        frame.put_array(&[1, 2, 3]);
        frame.put_str8(&short);
        frame.put_text(&text);
        frame.end();
        let mut input = Input::new(&mut wire[6..], 0, true);
        let Ok(Read::Frame(frame)) = read_frame(&mut input, 65_536) else { panic!("no frame") };
        let mut fields = Fields::new(frame.body);
        prop_assert_eq!(fields.u8(), Ok(a));
        prop_assert_eq!(fields.u16(), Ok(b));
        prop_assert_eq!(fields.u32(), Ok(c));
        prop_assert_eq!(fields.u64(), Ok(d));
        prop_assert_eq!(fields.array(), Ok([1, 2, 3]));
        let kept = fields.str8().unwrap();
        prop_assert!(short.starts_with(kept) && (kept == short || short.len() > 255));
        prop_assert_eq!(fields.text(), Ok(&*text));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_truncated_body_is_short_and_never_a_panic(body in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut fields = Fields::new(&body);
        let taken = fields.u16().and_then(|_| fields.str8()).and_then(|_| fields.u64());
        if body.len() < 11 {
            prop_assert!(matches!(taken, Err(Malformed::Short | Malformed::Utf8)));
        }
    }
}

#[test]
fn the_limit_is_judged_on_the_header() {
    let mut wire = [7, 0, 0, LIMIT as u8 + 1];
    let error = read_frame(&mut Input::new(&mut wire, 0, false), LIMIT);
    assert_eq!(error, Err(FrameError::TooLarge { kind: 7, len: LIMIT + 1 }));
    let mut wire = [7, 0, 0, LIMIT as u8];
    let waits = read_frame(&mut Input::new(&mut wire, 0, false), LIMIT);
    assert_eq!(waits, Ok(Read::NeedInput(LIMIT)));
    let mut wire = [7, 0];
    let cut = read_frame(&mut Input::new(&mut wire, 0, true), LIMIT);
    assert_eq!(cut, Err(FrameError::Truncated { missing: HEADER - 2 }));
}

/// A reader that looks at the limit only while it waits, as h11 does.
fn judges_the_buffer<'i>(input: &mut Input<'i>, limit: usize) -> Result<Read<'i>, FrameError> {
    let have = input.len();
    match read_frame(input, usize::MAX)? {
        Read::NeedInput(_) if have > limit + HEADER => {
            Err(FrameError::TooLarge { kind: input.peek()[0], len: input.peek()[3].into() })
        }
        read => Ok(read),
    }
}

#[test]
fn planted_fault_limit_on_the_buffer() {
    let mut wire = vec![1, 0, 0, LIMIT as u8 + 2];
    wire.resize(HEADER + LIMIT + 2, 0);
    let cut = HEADER + LIMIT + 1;
    assert_ne!(
        read_all_by(judges_the_buffer, &wire, &[]),
        read_all_by(judges_the_buffer, &wire, &[cut]),
    );
    assert_eq!(read_all(&wire, &[]), read_all(&wire, &[cut]));
}
