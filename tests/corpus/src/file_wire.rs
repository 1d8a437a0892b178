//! The frames of file transfer.

use bytes::BytesMut;
use semfio_file::wire::Message;
use semfio_frame::HEADER;

/// What parses encodes to the same bytes, and its lists hold what they say.
pub fn file_wire(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else {
        return;
    };
    let Ok(Some(message)) = Message::parse(kind, body) else {
        return;
    };
    let mut wire = BytesMut::new();
    message.put(&mut wire);
    assert_eq!((wire[0], &wire[HEADER..]), (kind, body));
    match message {
        // Offset and length; kind, size, time and the length of the name.
        Message::Get(get) => assert!(get.ranges.iter().count() * 16 <= body.len()),
        Message::Entries { entries, .. } => assert!(entries.iter().count() * 19 <= body.len()),
        _ => {}
    }
}
