//! The frames of the chat.

use bytes::BytesMut;
use semfio_chat::wire::{Request, Response};
use semfio_frame::HEADER;

/// What parses encodes to bytes that parse to the same; for requests, to the same bytes.
pub fn chat_wire(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else {
        return;
    };
    let mut wire = BytesMut::new();
    if let Ok(Some(request)) = Request::parse(kind, body) {
        request.put(&mut wire);
        assert_eq!((wire[0], &wire[HEADER..]), (kind, body));
    }
    wire.clear();
    if let Ok(Some(response)) = Response::parse(kind, body) {
        response.put(&mut wire);
        assert_eq!(Response::parse(wire[0], &wire[HEADER..]), Ok(Some(response)));
    }
}
