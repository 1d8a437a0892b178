//! Parsing and encoding are inverses, and what is no frame is refused.
#![allow(missing_docs)]

use bytes::BytesMut;
use proptest::prelude::*;
use semfio_file::tree::Hash;
use semfio_file::wire::{
    EntryList, ErrorCode, Get, Kind, MAX_FRAME, Message, Meta, RangeBytes, WireError,
};

fn encode(message: &Message<'_>) -> (u8, Vec<u8>) {
    let mut frame = BytesMut::new();
    message.put(&mut frame);
    let len = u32::from_be_bytes([0, frame[1], frame[2], frame[3]]) as usize;
    assert_eq!(len, frame.len() - 4);
    (frame[0], frame[4..].to_vec())
}

fn is_inverse(message: &Message<'_>) {
    let (kind, body) = encode(message);
    assert_eq!(Message::parse(kind, &body).unwrap().as_ref(), Some(message));
    // Nothing shorter is that message, and nothing longer unless it ends in text or a list.
    for len in 0..body.len() {
        assert_ne!(Message::parse(kind, &body[..len]).ok().flatten().as_ref(), Some(message));
    }
}

fn entries() -> EntryList {
    let mut list = EntryList::default();
    for (name, kind) in
        [("a", Kind::File), ("ümlaut", Kind::Folder), (&*"x".repeat(255), Kind::File)]
    {
        assert!(list.push(name, Meta { kind, size: 1 << 40, modified: 3 }));
    }
    list
}

#[test]
fn every_message_comes_back() {
    let none = RangeBytes::default();
    let (list, ranges) = (entries(), RangeBytes::new([(0, 65_536), (u64::MAX, 1)]));
    let hash = Hash([7; 32]);
    let meta = Meta { kind: Kind::File, size: u64::MAX, modified: 1 };
    let get = Get { tag: 8, content: true, hash, size: 9, name: "a/b", ranges: ranges.list() };
    let messages = [
        Message::Hello { max_frame: 65_536 },
        Message::Welcome { max_frame: 65_536, writable: true },
        Message::List { tag: 1, folder: "fotos", after: "praia.jpg" },
        Message::Entries { tag: 2, more: true, entries: list.entries() },
        Message::Stat { tag: 3, hashed: false, name: "a" },
        Message::Meta { tag: 4, meta, hash: Some(hash) },
        Message::Meta { tag: 4, meta: Meta { kind: Kind::Folder, ..meta }, hash: None },
        Message::Get(get),
        Message::Get(Get { content: false, ranges: none.list(), ..get }),
        Message::Done { tag: 5, hash },
        Message::Put { tag: 6, replace: true, size: 1, modified: 2, hash, name: "a" },
        Message::Error { tag: 0, code: ErrorCode::Changed, text: "mudou" },
        Message::Cancel { tag: 7 },
        Message::Bye,
        Message::Start(&[1; 33]),
        Message::Reply(&[2; 65]),
        Message::Confirm(&[3; 32]),
        Message::Folder { tag: 8, name: "fotos/vazio" },
        Message::Wait { tag: 1, done: 2, of: 3 },
    ];
    for message in &messages {
        is_inverse(message);
    }
    assert_eq!(ranges.list().iter().collect::<Vec<_>>(), [(0, 65_536), (u64::MAX, 1)]);
    let names: Vec<_> = list.entries().iter().map(|(name, _)| name.len()).collect();
    assert_eq!(names, [1, 7, 255]);
}

#[test]
fn codes_have_one_number_each() {
    for number in 0..=u16::MAX {
        assert_eq!(ErrorCode::from_number(number).number(), number);
    }
}

#[test]
fn a_list_of_names_fits_a_frame() {
    let mut list = EntryList::default();
    let meta = Meta { kind: Kind::File, size: 0, modified: 0 };
    let mut n = 0;
    while list.push(&format!("{n:0200}"), meta) {
        n += 1;
    }
    let message = Message::Entries { tag: 1, more: true, entries: list.entries() };
    let (_, body) = encode(&message);
    assert!(body.len() <= MAX_FRAME && body.len() > MAX_FRAME - 300);
    assert_eq!(list.entries().iter().count(), n);
}

#[test]
fn what_is_no_frame_is_refused() {
    assert_eq!(Message::parse(0x7F, b"anything"), Ok(None));
    assert_eq!(Message::parse(0xFE, b""), Err(WireError::Kind(0xFE)));
    assert_eq!(Message::parse(0x8C, &[0; 4]), Err(WireError::NoTag));
    assert_eq!(Message::parse(0x85, b"\0\0\0\x01\x02a"), Err(WireError::Number(2)));
    assert!(Message::parse(0x8C, &[1; 5]).is_err(), "too long");
    assert!(Message::parse(0x85, b"\0\0\0\x01\x01\xFF").is_err(), "not UTF-8");
    // Half a range, half an entry.
    let one = RangeBytes::new([(0, 0)]);
    let get = Message::Get(Get {
        tag: 1,
        content: true,
        hash: Hash([0; 32]),
        size: 0,
        name: "a",
        ranges: one.list(),
    });
    let mut frame = BytesMut::new();
    get.put(&mut frame);
    assert!(Message::parse(frame[0], &frame[4..frame.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(kind in 0x80..0x90_u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(message)) = Message::parse(kind, &body) {
            let (same, again) = encode(&message);
            prop_assert_eq!(same, kind);
            // A hash of zeros stands for none, and comes back as zeros.
            prop_assert_eq!(again, body);
        }
    }
}
